//! The statement of provenance of a conversion: gathered from the request and what came out, put beside the artifact and into it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::request::{Request, Target, only, sizes_text};
use super::{Artifact, Outcome, Stage};
use crate::error::{Result, io_error};
use crate::files::Place;
use crate::ir::SymbolRange;
use crate::provenance::{self, Dependency, Predicate, Signer, Statement};
use crate::source::{self, FileDigest};
use crate::verify::EngineStatus;

/// Where a statement goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementPath {
    /// Beside the artifact, and installed together with it: `model.onnx.intoto.json`.
    Beside,
    /// To this file.
    File(PathBuf),
}

/// Whether and how provenance is recorded.
#[derive(Debug, Default)]
pub struct ProvenanceOptions {
    /// Write a statement there.
    pub statement: Option<StatementPath>,
    /// Put what the statement says about the making into the artifact's metadata as well.
    pub embed: bool,
    /// Sign the statement.
    pub signer: Option<Signer>,
    /// A time for the statement; there is none in it otherwise.
    pub finished_on: Option<String>,
}

/// How an artifact was made.
///
/// # Errors
/// When a file of the verification cannot be read any more.
pub(super) fn predicate(
    request: &Request,
    outcome: &Outcome,
    artifact: &Artifact,
) -> Result<Predicate> {
    let mut dependencies = Vec::new();
    if let (Some(repo), Some(commit)) = (&outcome.repo, &outcome.revision) {
        dependencies.push(Dependency::commit(repo, commit));
    }
    dependencies.extend(outcome.source_files.iter().map(|f| Dependency::file("", f)));
    if let Some(check) = &request.check {
        for (prefix, path) in [
            ("inputs:", &check.inputs),
            ("reference:", &check.reference),
            ("task:", &check.task),
        ] {
            if let Some(path) = path {
                dependencies.push(Dependency::file(prefix, &source::digest_of(path)?));
            }
        }
    }
    Ok(Predicate::new(
        parameters(request, outcome, artifact.target),
        dependencies,
        verification(artifact),
        request.provenance.finished_on.clone(),
    ))
}

/// What the user asked for. No paths: they differ between machines, the artifact does not.
fn parameters(request: &Request, outcome: &Outcome, target: Target) -> BTreeMap<String, Value> {
    let mut map = BTreeMap::new();
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    put("target", target.name().into());
    put("architecture", outcome.architecture.clone().into());
    put("precision", request.precision(target).to_string().into());
    put("allow_nonfinite", request.source.allow_nonfinite.into());
    put("require_lock", request.source.require_lock.into());
    if let Some(revision) = &outcome.revision {
        put("revision", revision.clone().into());
    }
    if let Some(attention) = request.source.attention {
        put("attention", format!("{attention:?}").to_lowercase().into());
    }
    if let Some(rotary) = request.source.rotary {
        put(
            "rotary_frequencies",
            format!("{rotary:?}").to_lowercase().into(),
        );
    }
    if !request.seq.is_empty() {
        put("seq", json!(request.seq));
    }
    if !request.shape.is_empty() {
        put(
            "shape",
            json!(
                request
                    .shape
                    .iter()
                    .map(|(name, dims)| (name, dims.iter().map(size_json).collect::<Vec<_>>()))
                    .collect::<BTreeMap<_, _>>()
            ),
        );
    }
    if !request.fp32_ops.is_empty() {
        put("fp32_ops", json!(request.fp32_ops));
    }
    if request.expand_weights {
        put("expand_weights", true.into());
    }
    match target {
        Target::Coreml => {
            let form = format!("{:?}", request.rms_norm).to_lowercase();
            put("rms_norm", form.into());
            if let Some(oldest) = request.deployment_target {
                put("deployment_target", oldest.to_string().into());
            }
        }
        Target::Onnx => {
            put("opset", request.opset.into());
            put("external_data", request.external_data.into());
        }
    }
    map
}

/// The verdict and what it rests on. No figures: their last digits may differ between machines.
fn verification(artifact: &Artifact) -> BTreeMap<String, Value> {
    let Some(report) = &artifact.verification else {
        return BTreeMap::from([("status".to_owned(), "not run".into())]);
    };
    let ran = report
        .engines
        .iter()
        .filter(|e| e.role == "artifact" && e.status == EngineStatus::Ran);
    let engines: Vec<&str> = ran.map(|e| e.name.as_str()).collect();
    BTreeMap::from([
        ("engines".to_owned(), json!(engines)),
        ("failures".to_owned(), json!(report.failures.len())),
        ("probes".to_owned(), json!(report.probes.len())),
        ("status".to_owned(), report.status.name().into()),
        ("task".to_owned(), json!(report.task.is_some())),
    ])
}

/// The place of a statement that stands apart from its artifact, taken before the work begins.
pub(super) fn place(request: &Request) -> Result<Option<Place>> {
    match &request.provenance.statement {
        Some(StatementPath::File(path)) => Place::at(path, provenance::is_statement).map(Some),
        Some(StatementPath::Beside) | None => Ok(None),
    }
}

/// Writes the statement about what stands in the private folder, into it if it belongs beside the artifact. What belongs elsewhere is
/// given back, to be written once the artifact is in its place.
pub(super) fn stage(
    request: &Request,
    stage: &Stage,
    predicate: Option<Predicate>,
) -> Result<Option<String>> {
    let (Some(predicate), Some(place)) = (predicate, &request.provenance.statement) else {
        return Ok(None);
    };
    let outputs: Vec<FileDigest> = source::digest_tree(&stage.folder())?;
    let statement = Statement::new(&outputs, predicate);
    let text = statement.to_file(request.provenance.signer.as_ref())?;
    match place {
        StatementPath::Beside => {
            let inside = provenance::beside(&stage.path());
            std::fs::write(&inside, &text).map_err(io_error("write", &inside))?;
            Ok(None)
        }
        StatementPath::File(_) => Ok(Some(text)),
    }
}

/// Writes a statement that stands apart from its artifact.
pub(super) fn write(place: Option<Place>, text: Option<String>) -> Result<()> {
    match (place, text) {
        (Some(place), Some(text)) => place.write(text.as_bytes(), provenance::is_statement),
        _ => Ok(()),
    }
}

/// A size as a number, a range as the flag has it.
fn size_json(range: &SymbolRange) -> Value {
    match only(range) {
        Some(n) => json!(n),
        None => json!(sizes_text(range)),
    }
}
