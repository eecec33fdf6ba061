//! Checks models as files: what no loader on Linux tells. The writer runs the same checks on a program before it touches the disk.
//!
//! `program` walks the operations, `constant` looks at values, `description` compares interface and program, `files` looks at manifest and
//! weight file, `interface` at versions and labels, `hints` says what keeps a model off the Neural Engine. Of what is without errors so far,
//! `reading` makes a graph: that finds what types and shapes do not tell one by one.

mod constant;
mod description;
mod files;
mod finding;
mod hints;
mod interface;
pub(super) mod program;
mod reading;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use finding::{Code, Finding, Findings, Severity, Spot};

use super::blob::BlobFiles;
use super::error::CoremlError;
use super::proto::{Model, model};
use super::read::Opened;
use super::target::DeploymentTarget;
use crate::error::{Context, Error, Result};

/// Where findings go: all of them to the list, the first one about the program also to the writer, as an error.
#[derive(Default)]
struct Sink {
    findings: Findings,
    first: Option<Error>,
}

impl Sink {
    /// Adds what a program does wrong.
    fn program(&mut self, spot: &Spot, error: CoremlError) {
        let mut message = error.to_string();
        if let (CoremlError::Newer { .. }, Some(hint)) =
            (&error, crate::error::Diagnostic::hint(&error))
        {
            message = format!("{message}; {hint}");
        }
        self.findings
            .add(Code::of_program(&error), spot.clone(), message);
        if self.first.is_none() {
            let error: Result<()> = match &spot.value {
                Some(name) => Err(error).at_node(name),
                None => Err(error.into()),
            };
            self.first = error.err();
        }
    }
}

/// Checks a model that is about to be written, without its weights.
///
/// # Errors
/// The first violation, with the operation's name.
pub(super) fn check(model: &Model, target: DeploymentTarget) -> Result<()> {
    let mut sink = Sink::default();
    program::check(model, target, false, &mut sink);
    sink.first.map_or(Ok(()), Err)
}

/// Checks a `.mlpackage` folder, or a `.mlmodel` file with its weights beside it. Finds everything it can, also in files that cannot be read.
///
/// # Errors
/// Only when the system refuses to give the files. What is wrong with them is in the findings.
pub fn lint(path: &Path) -> Result<Findings> {
    let mut sink = Sink::default();
    let items = files::manifest(path, &mut sink)?;
    let model_path = items.model.as_deref();
    let model = model_path.and_then(|p| files::model(path, p, &mut sink.findings));
    let (blobs, weights) = files::weights(path, &items, model.as_ref(), &mut sink.findings);
    if let (Some(model_path), Some(model)) = (model_path, model) {
        of_model(&model, &blobs, items.weights.is_some(), &mut sink);
        if sink.findings.count(Severity::Error) == 0 {
            let opened = Opened {
                model_path: model_path.to_path_buf(),
                model,
                weights,
                blobs,
            };
            reading::check(&opened, &mut sink.findings);
        }
    }
    sink.findings.sort();
    Ok(sink.findings)
}

/// Checks a parsed model with the weight files that could be read.
fn of_model(model: &Model, blobs: &BlobFiles, has_weights: bool, sink: &mut Sink) {
    let Some(model::Type::MlProgram(program)) = &model.r#type else {
        let kind = super::kind::kind(model);
        let message = format!("an ML Program expected, found {kind}");
        sink.findings
            .add(Code::NotProgram, Spot::default(), message);
        return;
    };
    let version = model.specification_version;
    if !(6..=10).contains(&version) {
        let message = format!("specification version 6 to 10 expected, found {version}");
        sink.findings.add(
            Code::SpecVersion,
            Spot::field("specificationVersion"),
            message,
        );
    }
    program::check(model, DeploymentTarget::default(), true, sink);
    interface::check(model, program, &mut sink.findings);
    constant::values(program, blobs, has_weights, &mut sink.findings);
    hints::neural_engine(model, program, &mut sink.findings);
}
