//! What still holds of what is said about an artifact: its statement against its files, its metadata, its source and a key.
//!
//! Everything is hashed again; nothing is taken from an earlier run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::request::ArtifactKind;
use crate::error::{Result, io_error};
use crate::provenance::{self, Dependency, Predicate, Verifier};
use crate::source::{self, FileDigest, lock};
use crate::{coreml, onnx};

/// The key under which a predicate stands in an artifact's metadata.
pub(super) const EMBEDDED: &str = "com.distill-convert.provenance";

/// What to audit.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// The statement, if it is not beside the artifact.
    pub statement: Option<PathBuf>,
    /// The model that the artifact was made from.
    pub source: Option<PathBuf>,
    /// The key that must have signed the statement.
    pub verify_key: Option<PathBuf>,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// As stated.
    Holds,
    /// Not as stated.
    Broken,
    /// Nothing to compare with was given.
    NotChecked,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `statement`, `signature`, `output`, `metadata`, `verification`, `source`, `lock`.
    pub check: &'static str,
    /// The file or key it is about.
    pub subject: String,
    /// How it came out.
    pub held: Held,
    /// Expected and found, or what is missing.
    pub detail: String,
}

/// All checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// In the order in which they were made.
    pub findings: Vec<Finding>,
}

impl Audit {
    /// Whether everything that could be checked holds. Nothing checked is nothing held.
    #[must_use]
    pub fn passed(&self) -> bool {
        let outputs = self
            .findings
            .iter()
            .any(|f| f.check == "output" && f.held == Held::Holds);
        outputs && self.findings.iter().all(|f| f.held != Held::Broken)
    }

    fn add(&mut self, check: &'static str, subject: &str, held: Held, detail: impl Into<String>) {
        self.findings.push(Finding {
            check,
            subject: subject.to_owned(),
            held,
            detail: detail.into(),
        });
    }

    fn expect(&mut self, check: &'static str, subject: &str, expected: &str, found: &str) {
        if expected == found {
            self.add(check, subject, Held::Holds, "");
        } else {
            let detail = format!("expected `{expected}`, found `{found}`");
            self.add(check, subject, Held::Broken, detail);
        }
    }
}

/// Checks everything that is said about the artifact.
///
/// # Errors
/// When the artifact, the key or the source cannot be read at all. What does not hold is in the findings.
pub fn audit(artifact: &Path, options: &AuditOptions) -> Result<Audit> {
    let kind = ArtifactKind::of(artifact)?;
    let key = options
        .verify_key
        .as_deref()
        .map(Verifier::read)
        .transpose()?;
    let mut audit = Audit {
        findings: Vec::new(),
    };
    let place = match &options.statement {
        Some(path) => path.clone(),
        None => provenance::beside(artifact),
    };
    let shown = place.display().to_string();
    let found = match provenance::read(&place) {
        Ok(found) => found,
        Err(error) => {
            audit.add("statement", &shown, Held::Broken, error.to_string());
            return Ok(audit);
        }
    };
    audit.add("statement", &shown, Held::Holds, "");
    match (&key, &found.envelope) {
        (Some(key), envelope) => match key.check(envelope.as_ref()) {
            Ok(()) => audit.add("signature", &key.keyid(), Held::Holds, ""),
            Err(error) => {
                audit.add("signature", &key.keyid(), Held::Broken, error.to_string());
            }
        },
        (None, Some(_)) => {
            let detail = "it is signed, but no `--verify-key` was given";
            audit.add("signature", &shown, Held::NotChecked, detail);
        }
        (None, None) => {
            let detail = "it is not signed: whoever can change the artifact can change it as well";
            audit.add("signature", &shown, Held::NotChecked, detail);
        }
    }
    let statement = &found.statement;
    let stated: BTreeMap<String, String> = statement
        .subject
        .iter()
        .map(|s| {
            (
                s.name.clone(),
                s.digest.get("sha256").cloned().unwrap_or_default(),
            )
        })
        .collect();
    outputs(&mut audit, artifact, &stated)?;
    verdict(&mut audit, &statement.predicate);
    metadata(&mut audit, artifact, kind, &statement.predicate);
    match &options.source {
        Some(model) => source_files(&mut audit, model, &statement.predicate)?,
        None => {
            let detail = "no `--source` was given";
            audit.add("source", "source files", Held::NotChecked, detail);
        }
    }
    Ok(audit)
}

/// The artifact's files against the statement: each as stated, none missing, none more.
fn outputs(audit: &mut Audit, artifact: &Path, stated: &BTreeMap<String, String>) -> Result<()> {
    let name = artifact
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let folder = artifact.parent().unwrap_or(Path::new(""));
    // An artifact may be renamed as a whole; its files keep their names.
    let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let tops: BTreeSet<String> = stated.keys().map(|path| first(path)).collect();
    let main = tops.iter().find(|top| !top.ends_with(".data")).cloned();
    let mut found: BTreeMap<String, FileDigest> = BTreeMap::new();
    if fs::symlink_metadata(artifact)
        .map_err(io_error("open", artifact))?
        .is_dir()
    {
        for file in source::digest_tree(artifact)? {
            found.insert(format!("{name}/{}", file.path), file);
        }
    } else {
        found.insert(name.clone(), source::digest_of(artifact)?);
        let data = format!("{name}.data");
        if let Ok(file) = source::digest_of(&folder.join(&data)) {
            found.insert(data, file);
        }
    }
    for (path, expected) in stated {
        let here = match &main {
            Some(main) if first(path) == *main => format!("{name}{}", &path[main.len()..]),
            _ => path.clone(),
        };
        match found.remove(&here) {
            Some(file) => audit.expect("output", &here, expected, &file.sha256),
            None => audit.add("output", &here, Held::Broken, "the file is missing"),
        }
    }
    for path in found.into_keys() {
        audit.add(
            "output",
            &path,
            Held::Broken,
            "the statement does not know this file",
        );
    }
    Ok(())
}

/// A statement that says itself that the artifact did not pass.
fn verdict(audit: &mut Audit, predicate: &Predicate) {
    let status = predicate.verification().unwrap_or("not stated");
    let held = match status {
        "passed" => Held::Holds,
        "not run" => Held::NotChecked,
        _ => Held::Broken,
    };
    audit.add(
        "verification",
        "conversion",
        held,
        format!("stated as {status}"),
    );
}

/// What the artifact says about itself against the statement.
fn metadata(audit: &mut Audit, artifact: &Path, kind: ArtifactKind, predicate: &Predicate) {
    let metadata = match kind {
        ArtifactKind::Onnx => onnx::inspect(artifact).map(|s| s.metadata),
        ArtifactKind::Coreml => coreml::inspect(artifact).map(|s| s.metadata),
        ArtifactKind::Checkpoint => Ok(BTreeMap::new()),
    };
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(error) => {
            audit.add("metadata", "artifact", Held::Broken, error.to_string());
            return;
        }
    };
    if let Some(text) = metadata.get(EMBEDDED) {
        match Predicate::from_text(text) {
            Ok(embedded) if embedded == *predicate => {
                audit.add("metadata", EMBEDDED, Held::Holds, "");
            }
            Ok(_) => {
                let detail = "differs from the statement";
                audit.add("metadata", EMBEDDED, Held::Broken, detail);
            }
            Err(error) => audit.add("metadata", EMBEDDED, Held::Broken, error.to_string()),
        }
    }
    let key = "com.distill-convert.source.files";
    match metadata.get(key) {
        Some(text) => audit.expect("metadata", key, &files_text(predicate), text),
        None => audit.add(
            "metadata",
            key,
            Held::Broken,
            "the artifact does not name its source",
        ),
    }
}

/// The source files as the artifact's metadata has them.
fn files_text(predicate: &Predicate) -> String {
    let line = |(name, file): (&str, &Dependency)| {
        let sha256 = file
            .digest
            .get("sha256")
            .map(String::as_str)
            .unwrap_or_default();
        let size = file.annotations.get("size_bytes").map(ToString::to_string);
        format!("{name} sha256:{sha256} {}", size.unwrap_or_default())
    };
    let own = predicate
        .files()
        .filter(|(name, _)| !is_of_verification(name));
    own.map(line).collect::<Vec<_>>().join("\n")
}

fn is_of_verification(name: &str) -> bool {
    ["inputs:", "reference:", "task:"]
        .iter()
        .any(|p| name.starts_with(p))
}

/// The source against the statement, and against its own lock.
fn source_files(audit: &mut Audit, model: &Path, predicate: &Predicate) -> Result<()> {
    let folder = if model.is_dir() {
        model
    } else {
        model.parent().unwrap_or(Path::new(""))
    };
    for (name, stated) in predicate
        .files()
        .filter(|(name, _)| !is_of_verification(name))
    {
        let expected = stated
            .digest
            .get("sha256")
            .map(String::as_str)
            .unwrap_or_default();
        let inside = !name.split('/').any(|part| matches!(part, "" | "." | ".."));
        if !inside {
            audit.add(
                "source",
                name,
                Held::Broken,
                "no path inside a model folder",
            );
            continue;
        }
        match source::digest_of(&folder.join(name)) {
            Ok(file) => audit.expect("source", name, expected, &file.sha256),
            Err(error) => audit.add("source", name, Held::Broken, error.to_string()),
        }
    }
    match lock::of(model)? {
        None => {
            let detail = "the source has no lock";
            audit.add("lock", lock::FILE_NAME, Held::NotChecked, detail);
        }
        Some(lock) => {
            for (path, status) in lock::check(model, &|_| {})?.files {
                let held = match status {
                    lock::Status::Ok => Held::Holds,
                    lock::Status::Missing
                    | lock::Status::Extra
                    | lock::Status::Size { .. }
                    | lock::Status::Digest { .. } => Held::Broken,
                };
                audit.add("lock", &path, held, status.to_string());
            }
            if let (Some(stated), Some(locked)) = (predicate.commit(), &lock.revision) {
                audit.expect("lock", "revision", stated, locked);
            }
        }
    }
    Ok(())
}
