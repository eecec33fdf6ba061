//! What an artifact was made of, by what, and what was checked: an in-toto statement with SLSA's provenance predicate, and its signature.
//!
//! Owns the statement's layout and its exact reading. There is no clock in it unless one is given: the same conversion gives the same
//! statement.
//!
//! # Source
//! in-toto attestation framework, statement v1; SLSA provenance v1; Dead Simple Signing Envelope v1.

mod envelope;
mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use envelope::{Signer, Verifier};
pub use error::ProvenanceError;

use crate::error::{Context, Result, io_error};
use crate::limits;
use crate::source::FileDigest;

/// The type of statements.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// The type of their predicates.
const PREDICATE: &str = "https://slsa.dev/provenance/v1";

/// What the parameters of a conversion mean: this program's own description, first version.
pub const BUILD_TYPE: &str = "urn:distill-convert:conversion:v1";

/// This program.
const BUILDER: &str = "urn:distill-convert";

/// Its name beside its version.
const PROGRAM: &str = "distill-convert";

/// Names of digests and annotations.
const SHA256: &str = "sha256";
const GIT_COMMIT: &str = "gitCommit";
const SIZE: &str = "size_bytes";

/// What names of a hub's repositories begin with.
const HUB: &str = "pkg:huggingface/";

/// The byproduct that tells how the verification came out.
const VERIFICATION: &str = "verification";
/// The name of the record of options among the internal parameters.
const OPTIONS: &str = "options";

/// What a statement's file name ends with.
pub const EXTENSION: &str = "intoto.json";

/// Where the statement of an artifact is, unless somebody says otherwise: `model.onnx.intoto.json`.
#[must_use]
pub fn beside(artifact: &Path) -> PathBuf {
    let mut name = artifact.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(EXTENSION);
    artifact.with_file_name(name)
}

/// Digests by algorithm.
pub type Digests = BTreeMap<String, String>;

/// A statement about files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Always in-toto's.
    #[serde(rename = "_type")]
    pub kind: String,
    /// Every file of the artifact.
    pub subject: Vec<Subject>,
    /// Always SLSA's.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// How they were made.
    pub predicate: Predicate,
}

/// A file that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Path from the folder that the artifact stands in.
    pub name: String,
    /// Its digests.
    pub digest: Digests,
}

/// How an artifact was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Predicate {
    /// From what, and with which options.
    pub build_definition: BuildDefinition,
    /// By what, and what was found.
    pub run_details: RunDetails,
}

/// From what, and with which options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BuildDefinition {
    /// Always [`BUILD_TYPE`].
    pub build_type: String,
    /// What the user asked for.
    pub external_parameters: BTreeMap<String, Value>,
    /// Caps that were changed, and what was decided on the way: the record that the artifact carries as well.
    pub internal_parameters: BTreeMap<String, Value>,
    /// Every file that was read, and the commit it came from if that is known.
    pub resolved_dependencies: Vec<Dependency>,
}

/// A file or commit that was used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// Path in the model folder; `reference:`, `inputs:`, `task:` or `tokenizer:` stand before files of the verification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The repository at its commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Its digests.
    pub digest: Digests,
    /// Its size.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, Value>,
}

/// By what, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunDetails {
    /// This program.
    pub builder: Builder,
    /// When, if a time was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// The verification.
    pub byproducts: Vec<Byproduct>,
}

/// This program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Builder {
    /// A name that does not change.
    pub id: String,
    /// Its version.
    pub version: BTreeMap<String, String>,
}

/// When it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// The time that was given, `2026-01-31T12:00:00Z`.
    pub finished_on: String,
}

/// Something that came out beside the artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Byproduct {
    /// `verification`.
    pub name: String,
    /// What it says.
    pub annotations: BTreeMap<String, Value>,
}

/// SHA-256 as digests.
#[must_use]
pub fn sha256(hex: &str) -> Digests {
    BTreeMap::from([(SHA256.to_owned(), hex.to_owned())])
}

impl Dependency {
    /// A file.
    #[must_use]
    pub fn file(prefix: &str, file: &FileDigest) -> Self {
        Dependency {
            name: Some(format!("{prefix}{}", file.path)),
            uri: None,
            digest: sha256(&file.sha256),
            annotations: BTreeMap::from([(SIZE.to_owned(), file.size.into())]),
        }
    }

    /// The file's SHA-256.
    #[must_use]
    pub fn sha256(&self) -> Option<&str> {
        self.digest.get(SHA256).map(String::as_str)
    }

    /// The file's size in bytes.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.annotations.get(SIZE)?.as_u64()
    }

    /// Refuses what says more or less than this version states and `audit` compares.
    fn check(&self) -> Result<(), ProvenanceError> {
        let is_file = self.name.is_some()
            && self.uri.is_none()
            && is_sha256(&self.digest)
            && self.annotations.len() == 1
            && self.size().is_some();
        let is_commit = self.name.is_none()
            && self.repository().is_some()
            && self.digest.len() == 1
            && self.annotations.is_empty();
        if is_file || is_commit {
            return Ok(());
        }
        let name = self.name.as_ref().or(self.uri.as_ref());
        Err(ProvenanceError::Dependency {
            name: name.cloned().unwrap_or_default(),
        })
    }

    /// Repository and commit, of a commit.
    fn repository(&self) -> Option<(&str, &str)> {
        let commit = self.digest.get(GIT_COMMIT)?.as_str();
        let (repo, same) = self.uri.as_deref()?.strip_prefix(HUB)?.split_once('@')?;
        (same == commit).then_some((repo, commit))
    }

    /// A commit of a hub's repository.
    #[must_use]
    pub fn commit(repo: &str, commit: &str) -> Self {
        Dependency {
            name: None,
            uri: Some(format!("{HUB}{repo}@{commit}")),
            digest: BTreeMap::from([(GIT_COMMIT.to_owned(), commit.to_owned())]),
            annotations: BTreeMap::new(),
        }
    }
}

impl Predicate {
    /// What this version of the program did.
    #[must_use]
    pub fn new(
        parameters: BTreeMap<String, Value>,
        dependencies: Vec<Dependency>,
        verification: BTreeMap<String, Value>,
        finished_on: Option<String>,
    ) -> Self {
        let changed = limits::changed().into_iter();
        let limits: serde_json::Map<String, Value> = changed
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Predicate {
            build_definition: BuildDefinition {
                build_type: BUILD_TYPE.to_owned(),
                external_parameters: parameters,
                internal_parameters: if limits.is_empty() {
                    BTreeMap::new()
                } else {
                    BTreeMap::from([("limits".to_owned(), limits.into())])
                },
                resolved_dependencies: dependencies,
            },
            run_details: RunDetails {
                builder: Builder {
                    id: BUILDER.to_owned(),
                    version: BTreeMap::from([(PROGRAM.to_owned(), version)]),
                },
                metadata: finished_on.map(|finished_on| Metadata { finished_on }),
                byproducts: vec![Byproduct {
                    name: VERIFICATION.to_owned(),
                    annotations: verification,
                }],
            },
        }
    }

    /// With the record of what a conversion was asked for and decided, by which it can be repeated.
    #[must_use]
    pub fn recording(mut self, options: &str) -> Self {
        let parameters = &mut self.build_definition.internal_parameters;
        parameters.insert(OPTIONS.to_owned(), options.into());
        self
    }

    /// The record of what the conversion was asked for and decided.
    #[must_use]
    pub fn options(&self) -> Option<&str> {
        let parameters = &self.build_definition.internal_parameters;
        parameters.get(OPTIONS).and_then(Value::as_str)
    }

    /// The files that were read, without the commit.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Dependency)> {
        let all = self.build_definition.resolved_dependencies.iter();
        all.filter_map(|d| d.name.as_deref().map(|name| (name, d)))
    }

    /// The repository and commit that the source came from, if they are known.
    #[must_use]
    pub fn repository(&self) -> Option<(&str, &str)> {
        let all = &self.build_definition.resolved_dependencies;
        all.iter().find_map(Dependency::repository)
    }

    /// The version of this program that ran.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        let version = self.run_details.builder.version.get(PROGRAM)?;
        Some(version)
    }

    /// A parameter that is a truth value.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        let parameters = &self.build_definition.external_parameters;
        parameters.get(name).and_then(Value::as_bool) == Some(true)
    }

    /// The engines that ran the artifact.
    #[must_use]
    pub fn engines(&self) -> Vec<&str> {
        let found = self.byproduct().and_then(|b| b.annotations.get("engines"));
        let names = found.and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).collect()
    }

    fn byproduct(&self) -> Option<&Byproduct> {
        let mut all = self.run_details.byproducts.iter();
        all.find(|b| b.name == VERIFICATION)
    }

    /// What the verification came to: `passed`, `failed`, `inconclusive` or `not run`.
    #[must_use]
    pub fn verification(&self) -> Option<&str> {
        self.byproduct()?.annotations.get("status")?.as_str()
    }

    /// The predicate as one line of JSON.
    ///
    /// # Errors
    /// When a value cannot be written, which those of [`Predicate::new`] can.
    pub fn to_text(&self) -> Result<String> {
        Ok(serde_json::to_string(self).map_err(|e| ProvenanceError::syntax(&e))?)
    }

    /// Reads what [`Predicate::to_text`] wrote.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_text(text: &str) -> Result<Self> {
        let parsed: Predicate = parse_as(text.as_bytes())?;
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> Result<(), ProvenanceError> {
        expect("build type", BUILD_TYPE, &self.build_definition.build_type)?;
        expect("builder", BUILDER, &self.run_details.builder.id)?;
        if let [only] = self.run_details.byproducts.as_slice() {
            expect("byproduct", VERIFICATION, &only.name)?;
        } else {
            let found = self.run_details.byproducts.len();
            return Err(ProvenanceError::Byproducts { found });
        }
        let mut names = BTreeSet::new();
        for dependency in &self.build_definition.resolved_dependencies {
            dependency.check()?;
            let name = dependency.name.as_deref().unwrap_or_default();
            if !names.insert(name) {
                let name = name.to_owned();
                return Err(ProvenanceError::Twice { name });
            }
        }
        Ok(())
    }
}

/// Whether digests are SHA-256 and nothing that is not compared.
fn is_sha256(digests: &Digests) -> bool {
    let hex = |text: &String| {
        let digit = |b| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        text.len() == 64 && text.bytes().all(digit)
    };
    digests.len() == 1 && digests.get(SHA256).is_some_and(hex)
}

fn expect(what: &'static str, expected: &'static str, found: &str) -> Result<(), ProvenanceError> {
    if expected == found {
        return Ok(());
    }
    Err(ProvenanceError::Kind {
        what,
        expected,
        found: found.to_owned(),
    })
}

/// A statement as it was found: in an envelope, or bare.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The statement.
    pub statement: Statement,
    /// The envelope, if there was one.
    pub envelope: Option<envelope::Envelope>,
}

impl Statement {
    /// A statement about these files.
    #[must_use]
    pub fn new(outputs: &[FileDigest], predicate: Predicate) -> Self {
        let subject = outputs.iter().map(|file| Subject {
            name: file.path.clone(),
            digest: sha256(&file.sha256),
        });
        Statement {
            kind: STATEMENT.to_owned(),
            subject: subject.collect(),
            predicate_type: PREDICATE.to_owned(),
            predicate,
        }
    }

    /// The file's text: bare, or in a signed envelope.
    ///
    /// # Errors
    /// When a value cannot be written, which those of [`Predicate::new`] can.
    pub fn to_file(&self, signer: Option<&Signer>) -> Result<String> {
        let syntax = |e: serde_json::Error| ProvenanceError::syntax(&e);
        let text = match signer {
            None => serde_json::to_string_pretty(self).map_err(syntax)?,
            Some(signer) => {
                let payload = serde_json::to_vec(self).map_err(syntax)?;
                serde_json::to_string_pretty(&signer.seal(&payload)).map_err(syntax)?
            }
        };
        Ok(text + "\n")
    }

    fn check(&self) -> Result<(), ProvenanceError> {
        expect("statement type", STATEMENT, &self.kind)?;
        expect("predicate type", PREDICATE, &self.predicate_type)?;
        self.predicate.check()?;
        if self.subject.is_empty() {
            return Err(ProvenanceError::NoSubject);
        }
        let mut names = BTreeSet::new();
        for subject in &self.subject {
            let name = || subject.name.clone();
            if !names.insert(subject.name.as_str()) {
                return Err(ProvenanceError::Twice { name: name() });
            }
            if !is_sha256(&subject.digest) {
                return Err(ProvenanceError::Digest { name: name() });
            }
            let inside = |part: &str| {
                !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0'])
            };
            if !subject.name.split('/').all(inside) {
                return Err(ProvenanceError::Path { path: name() });
            }
        }
        Ok(())
    }
}

/// Reads JSON that means one thing only.
fn parse_as<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, ProvenanceError> {
    let value = crate::json::parse(bytes).map_err(|e| ProvenanceError::syntax(&e))?;
    serde_json::from_value(value).map_err(|e| ProvenanceError::syntax(&e))
}

/// Reads a statement or an envelope. Says nothing about signatures: see [`Verifier`].
///
/// # Errors
/// When it is neither, or says anything that this version does not know.
pub fn parse(bytes: &[u8]) -> Result<Found> {
    let value: Value = parse_as(bytes)?;
    let envelope: Option<envelope::Envelope> = match value.get("payloadType") {
        Some(_) => Some(parse_as(bytes)?),
        None => None,
    };
    let statement: Statement = match &envelope {
        Some(envelope) => parse_as(&envelope.open()?)?,
        None => parse_as(bytes)?,
    };
    statement.check()?;
    Ok(Found {
        statement,
        envelope,
    })
}

/// Reads the statement at `path`.
///
/// # Errors
/// As [`parse`], and when the file is too large or cannot be read.
pub fn read(path: &Path) -> Result<Found> {
    parse(&read_small(path)?).at_file(path)
}

/// Whether a file is a statement that this program wrote.
#[must_use]
pub fn is_statement(path: &Path) -> bool {
    path.is_file() && read(path).is_ok()
}

fn read_small(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(io_error("open", path))?;
    let cap = limits::SIDE_FILE_BYTES.get();
    let mut bytes = Vec::new();
    file.take(cap + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error("read", path))?;
    if crate::tensor::num::u64_of(bytes.len()) > cap {
        return Err(ProvenanceError::Size { cap }).at_file(path);
    }
    Ok(bytes)
}

/// A Unix time as a statement has it: `2026-01-31T12:00:00Z`.
#[must_use]
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of the year 0, in eras of 400 years.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year_of_era + next;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        let file = |path: &str| FileDigest {
            path: path.into(),
            size: 3,
            sha256: "ab".repeat(32),
        };
        let commit = "1".repeat(40);
        let dependencies = vec![
            Dependency::commit("a/b", &commit),
            Dependency::file("", &file("config.json")),
        ];
        let options = BTreeMap::from([("target".to_owned(), Value::from("onnx"))]);
        let checked = BTreeMap::from([("status".to_owned(), Value::from("passed"))]);
        let predicate = Predicate::new(options, dependencies, checked, Some(utc(0)));
        Statement::new(&[file("m.onnx")], predicate)
    }

    #[test]
    fn a_statement_reads_back_as_it_was_written() {
        let text = statement().to_file(None).unwrap();
        let found = parse(text.as_bytes()).unwrap();
        assert_eq!((found.statement, found.envelope), (statement(), None));
        let predicate = statement().predicate;
        assert_eq!(predicate.verification(), Some("passed"));
        let commit = "1".repeat(40);
        assert_eq!(predicate.repository(), Some(("a/b", commit.as_str())));
        assert_eq!(predicate.files().count(), 1);
        let text = predicate.to_text().unwrap();
        assert_eq!(Predicate::from_text(&text).unwrap(), predicate);
        for field in [
            "_type",
            "predicateType",
            "buildDefinition",
            "resolvedDependencies",
            "finishedOn",
        ] {
            assert!(
                statement()
                    .to_file(None)
                    .unwrap()
                    .contains(&format!("\"{field}\"")),
                "{field}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let text = statement().to_file(None).unwrap();
        for (from, to) in [
            (STATEMENT, "https://in-toto.io/Statement/v2"),
            (PREDICATE, "https://slsa.dev/provenance/v2"),
            (BUILD_TYPE, "urn:other"),
            ("\"subject\"", "\"subjects\""),
            ("\"digest\"", "\"x\": 1, \"digest\""),
            ("m.onnx", "../m.onnx"),
            ("m.onnx", "/m.onnx"),
        ] {
            assert!(text.contains(from));
            assert!(parse(text.replace(from, to).as_bytes()).is_err(), "{to}");
        }
        let mut empty = statement();
        empty.subject.clear();
        assert!(parse(empty.to_file(None).unwrap().as_bytes()).is_err());
        for junk in ["", "{}", "[]", "null", "{\"payloadType\": 1}"] {
            assert!(parse(junk.as_bytes()).is_err(), "{junk}");
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_704_067_199, "2023-12-31T23:59:59Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
