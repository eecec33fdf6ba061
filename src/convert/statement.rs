//! The statement of provenance of a conversion: gathered from the request and what came out, put beside the artifact and into it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::error::ConvertError;
use super::request::Request;
use super::{Artifact, Outcome, Stage};
use crate::error::{Context, Result, io_error};
use crate::files::Place;
use crate::provenance::{self, Dependency, Predicate, Signer, Statement};
use crate::source::{self, FileDigest};
use crate::verify::{EngineStatus, Task};

/// What stands before the names of files that the verification reads.
pub(super) const INPUTS: &str = "inputs:";
pub(super) const REFERENCE: &str = "reference:";
pub(super) const TASK: &str = "task:";
pub(super) const TOKENIZER: &str = "tokenizer:";
const EVIDENCE: [&str; 4] = [INPUTS, REFERENCE, TASK, TOKENIZER];

/// Parameters that come from the source, not from the user.
const ARCHITECTURE: &str = "architecture";
const REVISION: &str = "revision";
const PRECISION: &str = "precision";
/// The precision of an artifact that keeps the half precision of its source, since nobody asked for another.
const AS_THE_SOURCE: &str = "as the source";

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

/// A file that the verification reads, as it was before.
#[derive(Debug)]
pub(super) struct Evidence {
    path: PathBuf,
    stated: Dependency,
}

/// The files that the verification of a request reads, by the prefix of their names in a statement.
///
/// # Errors
/// When the task file cannot be read.
pub(super) fn evidence_files(
    task: Option<&Path>,
    inputs: Option<&Path>,
    reference: Option<&Path>,
) -> Result<Vec<(&'static str, PathBuf)>> {
    let tokenizer = task.map(Task::tokenizer_file).transpose()?.flatten();
    let all = [
        (INPUTS, inputs),
        (REFERENCE, reference),
        (TASK, task),
        (TOKENIZER, tokenizer.as_deref()),
    ];
    let given = all.into_iter();
    Ok(given
        .filter_map(|(prefix, path)| Some((prefix, path?.to_path_buf())))
        .collect())
}

/// Hashes the files that the verification is going to read, if they are to be stated.
///
/// # Errors
/// When one cannot be read.
pub(super) fn evidence(request: &Request) -> Result<Vec<Evidence>> {
    let check = request.check.as_ref().filter(|_| request.is_stated());
    let Some(check) = check else {
        return Ok(Vec::new());
    };
    let files = evidence_files(
        check.task.as_deref(),
        check.inputs.as_deref(),
        check.reference.as_deref(),
    )?;
    let hashed = files.into_iter().map(|(prefix, path)| {
        let stated = Dependency::file(prefix, &source::digest_of(&path)?);
        Ok(Evidence { path, stated })
    });
    hashed.collect()
}

impl Evidence {
    /// Refuses a file that is not what it was before the verification: what was read is not known then.
    fn still_holds(&self) -> Result<()> {
        let now = source::digest_of(&self.path)?;
        if self.stated.sha256() == Some(now.sha256.as_str()) {
            return Ok(());
        }
        Err(ConvertError::Changed).at_file(&self.path)
    }
}

/// How an artifact was made; `record` says with which options, as the artifact does.
///
/// # Errors
/// When a file of the verification is not what it was before.
pub(super) fn predicate(
    request: &Request,
    outcome: &Outcome,
    artifact: &Artifact,
    record: &str,
    evidence: &[Evidence],
) -> Result<Predicate> {
    let mut dependencies = Vec::new();
    if let (Some(repo), Some(commit)) = (&outcome.repo, &outcome.revision) {
        dependencies.push(Dependency::commit(repo, commit));
    }
    dependencies.extend(outcome.source_files.iter().map(|f| Dependency::file("", f)));
    for file in evidence {
        file.still_holds()?;
        dependencies.push(file.stated.clone());
    }
    let mut parameters = request.parameters(artifact.target);
    parameters.insert(ARCHITECTURE.into(), outcome.architecture.clone().into());
    if artifact.keeps_halves {
        parameters.insert(PRECISION.into(), AS_THE_SOURCE.into());
    }
    if let Some(revision) = &outcome.revision {
        parameters.insert(REVISION.into(), revision.clone().into());
    }
    Ok(Predicate::new(
        parameters,
        dependencies,
        verification(artifact),
        request.provenance.finished_on.clone(),
    )
    .recording(record))
}

/// The names of our metadata keys, after their common prefix.
pub(super) const METADATA: [&str; 9] = [
    OPTIONS,
    "precision",
    "provenance",
    "provenance.sha256",
    "source.architecture",
    "source.files",
    "source.revision",
    "verification",
    "version",
];

/// The record of options: what [`super::recipe`] reads.
pub(super) const OPTIONS: &str = "options";

/// The full name of one of [`METADATA`].
pub(super) fn key(name: &str) -> String {
    format!("com.distill-convert.{name}")
}

/// What an artifact says about itself in its metadata. Nothing that differs from run to run.
///
/// # Errors
/// When the predicate cannot be written as text.
pub(super) fn metadata(predicate: &Predicate, stated: bool) -> Result<BTreeMap<String, String>> {
    let parameters = &predicate.build_definition.external_parameters;
    let text = |name: &str| parameters.get(name).and_then(Value::as_str);
    let mut map = BTreeMap::new();
    let mut put = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            map.insert(key(name), value.to_owned());
        }
    };
    put("version", predicate.version());
    put(OPTIONS, predicate.options());
    put("source.architecture", text(ARCHITECTURE));
    put("source.revision", text(REVISION));
    put("source.files", Some(&files_text(predicate)));
    put("precision", text("precision"));
    put("verification", Some(&verdict(predicate)));
    if stated {
        // Whatever the statement says about the making cannot be said otherwise later: the artifact knows.
        let whole = predicate.to_text()?;
        put("provenance.sha256", Some(&source::sha256(whole.as_bytes())));
        if parameters.contains_key("embed_provenance") {
            put("provenance", Some(&whole));
        }
    }
    Ok(map)
}

/// The source files with their digests and sizes, one on a line.
fn files_text(predicate: &Predicate) -> String {
    let own = predicate.files().filter(|(name, _)| !is_evidence(name));
    let lines = own.map(|(name, file)| {
        let sha256 = file.sha256().unwrap_or_default();
        let size = file.size().map(|n| n.to_string()).unwrap_or_default();
        format!("{name} sha256:{sha256} {size}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether a dependency was read by the verification, not as a part of the source.
pub(super) fn is_evidence(name: &str) -> bool {
    EVIDENCE.iter().any(|prefix| name.starts_with(prefix))
}

/// The verdict and what it rests on. No figures: they may differ in the last digits between machines, and the bytes must not.
fn verdict(predicate: &Predicate) -> String {
    let status = predicate.verification().unwrap_or_default();
    let engines = predicate.engines();
    if engines.is_empty() {
        return status.to_owned();
    }
    format!("{status} by {}", engines.join(", "))
}

/// The verdict and what it rests on, as a statement has it. No figures: their last digits may differ between machines.
fn verification(artifact: &Artifact) -> BTreeMap<String, Value> {
    let Some(report) = &artifact.verification else {
        return BTreeMap::from([("status".to_owned(), "not run".into())]);
    };
    let ran = report
        .engines
        .iter()
        .filter(|e| e.role == "artifact" && e.status == EngineStatus::Ran);
    let engines: Vec<&str> = ran.map(|e| e.name.as_str()).collect();
    let mut compared: Vec<String> = Vec::new();
    for row in &report.summary {
        let pair = format!("{} with the {}", row.engine, row.against.replace('_', " "));
        if !compared.contains(&pair) {
            compared.push(pair);
        }
    }
    BTreeMap::from([
        ("compared".to_owned(), json!(compared)),
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
    predicate: Predicate,
) -> Result<Option<String>> {
    let Some(place) = &request.provenance.statement else {
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
