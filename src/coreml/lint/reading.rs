//! The functions of a model as graphs, made as `run` and `convert` make them: every declared type against what the operation gives, every parameter
//! against its meaning.

use std::collections::BTreeMap;

use super::{Code, Findings, Spot};
use crate::coreml::import::symbols::Sizes;
use crate::coreml::interface::{FeatureKind, features};
use crate::coreml::proto::model::Type as ModelKind;
use crate::coreml::read::{Opened, apart};
use crate::error::Class;
use crate::tensor::num;

/// Reads every function; what cannot be read is a finding. What can be read at the default shapes, but not at all of them at once, may be right.
pub(super) fn check(opened: &Opened, findings: &mut Findings) {
    let Some(ModelKind::MlProgram(program)) = &opened.model.r#type else {
        return;
    };
    for name in program.functions.keys() {
        let Err(error) = apart(opened, "model", Some(name)) else {
            continue;
        };
        let spot = Spot {
            function: Some(name.clone()),
            ..Spot::default()
        };
        let shapes = defaults(opened, name);
        let at_defaults = opened.import("model", Some(name), Sizes::Given(&shapes));
        let (code, message) = match error.class() {
            _ if at_defaults.is_ok() => {
                let message = format!("only at shapes one by one, not at all of them: {error}");
                (Code::NotRead, message)
            }
            Class::Unsupported => (Code::NotRead, error.to_string()),
            Class::Invalid | Class::Io | Class::Usage | Class::Verification | Class::Unsafe => {
                (Code::ProgramInvalid, error.to_string())
            }
        };
        findings.add(code, spot, message);
    }
}

/// The default shapes of a function's inputs.
fn defaults(opened: &Opened, function: &str) -> BTreeMap<String, Vec<usize>> {
    let described = opened.described_as(Some(function));
    let inputs = described.and_then(|d| features(d.inputs));
    let shape = |kind: FeatureKind| match kind {
        FeatureKind::MultiArray { shape, .. } => Some(shape),
        FeatureKind::Image {
            width,
            height,
            color,
            ..
        } => Some(vec![1, color.channels(), height, width]),
        FeatureKind::State { .. }
        | FeatureKind::Int64
        | FeatureKind::Double
        | FeatureKind::String
        | FeatureKind::Dictionary
        | FeatureKind::Sequence => None,
    };
    let inputs = inputs.unwrap_or_default().into_iter();
    let shapes = inputs.filter_map(|f| Some((f.name, shape(f.kind)?)));
    shapes
        .map(|(name, sizes)| (name, sizes.into_iter().map(num::usize_of).collect()))
        .collect()
}
