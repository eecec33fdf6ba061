//! What still holds of what is said about an artifact: its statement against its files, its metadata, its source and a key.
//!
//! Everything is hashed again; nothing is taken from an earlier run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::opened::SourcePlace;
use super::request::ArtifactKind;
use super::statement;
use crate::error::{Result, io_error};
use crate::provenance::{self, Dependency, Predicate, Verifier};
use crate::source::lock::{self, Lock};
use crate::source::{self, FileDigest};
use crate::{coreml, onnx};

/// What to audit.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// The statement, if it is not beside the artifact.
    pub statement: Option<PathBuf>,
    /// The model that the artifact was made from.
    pub source: Option<PathBuf>,
    /// The task that the verification asked.
    pub task: Option<PathBuf>,
    /// The inputs that the verification ran on.
    pub inputs: Option<PathBuf>,
    /// The reference outputs that the verification compared with.
    pub reference: Option<PathBuf>,
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
    /// `statement`, `signature`, `output`, `verification`, `metadata`, `evidence`, `source`, `lock`.
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
    metadata(&mut audit, artifact, kind, &statement.predicate)?;
    evidence(&mut audit, options, &statement.predicate)?;
    match &options.source {
        Some(model) => source(&mut audit, model, &statement.predicate)?,
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
            Some(file) if here != *path && *expected == file.sha256 => {
                let detail = format!("stated as `{path}`: it was renamed");
                audit.add("output", &here, Held::Holds, detail);
            }
            Some(file) if here != *path => {
                let detail = format!(
                    "the statement is of `{path}`: expected `{expected}`, found `{}`",
                    file.sha256
                );
                audit.add("output", &here, Held::Broken, detail);
            }
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

/// What the artifact says about itself against the statement: our keys, each as it follows from there, none missing, none more.
fn metadata(
    audit: &mut Audit,
    artifact: &Path,
    kind: ArtifactKind,
    predicate: &Predicate,
) -> Result<()> {
    let found = match kind {
        ArtifactKind::Onnx => onnx::inspect(artifact).map(|s| s.metadata),
        ArtifactKind::Coreml => coreml::inspect(artifact).map(|s| s.metadata),
        ArtifactKind::Checkpoint => Ok(BTreeMap::new()),
    };
    let found = match found {
        Ok(metadata) => metadata,
        Err(error) => {
            audit.add("metadata", "artifact", Held::Broken, error.to_string());
            return Ok(());
        }
    };
    let expected = statement::metadata(predicate, true)?;
    for name in statement::METADATA {
        let key = statement::key(name);
        match (expected.get(&key), found.get(&key)) {
            (None, None) => {}
            (Some(expected), Some(found)) if expected != found && name == "provenance" => {
                let detail = "differs from the statement";
                audit.add("metadata", &key, Held::Broken, detail);
            }
            (Some(expected), Some(found)) => audit.expect("metadata", &key, expected, found),
            (Some(_), None) => {
                let detail = "the artifact does not have it";
                audit.add("metadata", &key, Held::Broken, detail);
            }
            (None, Some(_)) => {
                let detail = "the statement says nothing of it";
                audit.add("metadata", &key, Held::Broken, detail);
            }
        }
    }
    Ok(())
}

/// The files of the verification, those that were given and those that are stated.
fn evidence(audit: &mut Audit, options: &AuditOptions, predicate: &Predicate) -> Result<()> {
    let files = statement::evidence_files(
        options.task.as_deref(),
        options.inputs.as_deref(),
        options.reference.as_deref(),
    )?;
    let stated: Vec<_> = predicate
        .files()
        .filter(|(name, _)| statement::is_evidence(name))
        .collect();
    let prefix_of = |name: &str| {
        name.split_inclusive(':')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    for (prefix, path) in &files {
        if stated.iter().any(|(name, _)| prefix_of(name) == *prefix) {
            continue;
        }
        let subject = format!("{prefix}{}", path.display());
        let detail = "the statement names no such file";
        audit.add("evidence", &subject, Held::Broken, detail);
    }
    for (name, stated) in stated {
        let prefix = prefix_of(name);
        match files.iter().find(|(given, _)| *given == prefix) {
            Some((_, path)) => compare(audit, "evidence", name, stated, path),
            None if prefix == statement::TOKENIZER && options.task.is_some() => {
                let detail = "the task names no tokenizer";
                audit.add("evidence", name, Held::Broken, detail);
            }
            None => {
                let flag = match prefix.as_str() {
                    statement::TOKENIZER => "task",
                    other => other.trim_end_matches(':'),
                };
                let detail = format!("no `--{flag}` was given");
                audit.add("evidence", name, Held::NotChecked, detail);
            }
        }
    }
    Ok(())
}

/// A file against what is stated about it.
fn compare(audit: &mut Audit, check: &'static str, name: &str, stated: &Dependency, path: &Path) {
    let file = match source::digest_of(path) {
        Ok(file) => file,
        Err(error) => {
            audit.add(check, name, Held::Broken, error.to_string());
            return;
        }
    };
    match stated.size() {
        Some(size) if size != file.size => {
            let detail = format!("expected {size} bytes, found {}", file.size);
            audit.add(check, name, Held::Broken, detail);
        }
        Some(_) | None => {
            audit.expect(
                check,
                name,
                stated.sha256().unwrap_or_default(),
                &file.sha256,
            );
        }
    }
}

/// The source against the statement, and against its own lock.
fn source(audit: &mut Audit, model: &Path, predicate: &Predicate) -> Result<()> {
    let SourcePlace { folder, file } = SourcePlace::of(model);
    let stated: Vec<_> = predicate
        .files()
        .filter(|(name, _)| !statement::is_evidence(name))
        .collect();
    // A source of one file may be renamed; what lies beside it may not.
    let is_main = |name: &str, file: &str| {
        !name.contains('/') && Path::new(name).extension() == Path::new(file).extension()
    };
    let renamed = file.as_deref().filter(|file| {
        let named = stated.iter().any(|(name, _)| name == file);
        !named && stated.iter().filter(|(n, _)| is_main(n, file)).count() == 1
    });
    for (name, stated) in stated {
        let inside = |part| !matches!(part, "" | "." | "..");
        if !name.split('/').all(inside) || name.contains(['\\', ':']) {
            let detail = "no path inside a model folder";
            audit.add("source", name, Held::Broken, detail);
            continue;
        }
        let here = renamed.filter(|file| is_main(name, file)).unwrap_or(name);
        compare(audit, "source", name, stated, &folder.join(here));
    }
    match lock::of(model) {
        Ok(None) => no_lock(audit, model, predicate),
        Ok(Some(lock)) => locked(audit, model, &lock, predicate),
        Err(error) => audit.add("lock", lock::FILE_NAME, Held::Broken, error.to_string()),
    }
    Ok(())
}

/// A source without a lock: was there one, and does its place tell where it comes from?
fn no_lock(audit: &mut Audit, model: &Path, predicate: &Predicate) {
    if predicate.flag("require_lock") {
        let detail = "the conversion required a lock, and there is none";
        audit.add("lock", lock::FILE_NAME, Held::Broken, detail);
        return;
    }
    let detail = "the source has no lock";
    audit.add("lock", lock::FILE_NAME, Held::NotChecked, detail);
    let SourcePlace { folder, .. } = SourcePlace::of(model);
    let place = source::hub::of_snapshot(&lock::governing(&folder).0);
    let place = place.as_ref().map(|p| (p.repo(), p.commit()));
    origin(audit, "source", predicate.repository(), place);
}

/// A source against its lock, and the lock's origin against the statement.
fn locked(audit: &mut Audit, model: &Path, lock: &Lock, predicate: &Predicate) {
    match lock::check(model, &|_| {}) {
        Err(error) => audit.add("lock", lock::FILE_NAME, Held::Broken, error.to_string()),
        Ok(report) => {
            for (path, status) in report.files {
                let held = match status {
                    lock::Status::Ok => Held::Holds,
                    lock::Status::Missing
                    | lock::Status::Extra
                    | lock::Status::Size { .. }
                    | lock::Status::Digest { .. } => Held::Broken,
                };
                audit.add("lock", &path, held, status.to_string());
            }
        }
    }
    let named = match (&lock.repo, &lock.revision) {
        (None, None) => None,
        (repo, revision) => Some((
            repo.as_deref().unwrap_or_default(),
            revision.as_deref().unwrap_or_default(),
        )),
    };
    origin(audit, "lock", predicate.repository(), named);
}

/// Where the source comes from: as stated, and as its lock or its place in a cache has it.
fn origin(
    audit: &mut Audit,
    check: &'static str,
    stated: Option<(&str, &str)>,
    found: Option<(&str, &str)>,
) {
    match (stated, found) {
        (None, None) => {}
        (Some(stated), Some(found)) => {
            audit.expect(check, "repo", stated.0, found.0);
            audit.expect(check, "revision", stated.1, found.1);
        }
        (Some((repo, revision)), None) => {
            let detail = format!("stated as {repo}@{revision}, but nothing here says so");
            audit.add(check, "revision", Held::Broken, detail);
        }
        (None, Some(_)) => {
            let detail = "the statement names no repository and commit";
            audit.add(check, "revision", Held::NotChecked, detail);
        }
    }
}
