//! The lock file `distill-convert.lock`: size and SHA-256 of every file of a model folder, and the commit it came from, if known.
//!
//! Owns the file's format, what it covers, and the comparison. Does not fetch anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::SourceError;
use super::folder::{self, Folder, Weights};
use super::sniff::has_pickle_name;
use super::{Progress, atomic, digest};
use crate::error::{Context, Result, io_error};
use crate::files::Place;

/// The name of the lock file, beside `config.json`.
pub const FILE_NAME: &str = "distill-convert.lock";

/// The version of the format that is written, and the only one that is read.
pub const SCHEMA_VERSION: u64 = 1;

/// Files with these extensions are covered, in the folder and in its subfolders, unless a name starts with a dot.
const COVERED: [&str; 5] = ["json", "model", "safetensors", "toml", "txt"];

/// Where a model comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The repository, for example `sentence-transformers/all-MiniLM-L6-v2`.
    pub repo: Option<String>,
    /// The commit: 40 lower-case hex digits.
    pub revision: Option<String>,
}

/// A lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Always [`SCHEMA_VERSION`].
    pub schema_version: u64,
    /// The repository, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// The commit, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The files, by path relative to the folder, `/` as separator.
    pub files: BTreeMap<String, Entry>,
}

/// What the lock says about a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// How a file compares with the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// As locked.
    Ok,
    /// In the lock, but not in the folder.
    Missing,
    /// In the folder, but not in the lock.
    Extra,
    /// Of another size.
    Size {
        /// Size in the lock.
        expected: u64,
        /// Size of the file.
        found: u64,
    },
    /// Of the same size, but with other bytes.
    Digest {
        /// SHA-256 in the lock.
        expected: String,
        /// SHA-256 of the file.
        found: String,
    },
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Ok => f.write_str("ok"),
            Status::Missing => f.write_str("missing"),
            Status::Extra => f.write_str("not in the lock"),
            Status::Size { expected, found } => {
                write!(f, "expected {expected} bytes, found {found}")
            }
            Status::Digest { expected, found } => {
                write!(f, "expected SHA-256 `{expected}`, found `{found}`")
            }
        }
    }
}

/// The comparison of a folder with its lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Every file of the lock and of the folder, by path.
    pub files: BTreeMap<String, Status>,
}

impl Report {
    /// Whether every file is as locked.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        !self.files.is_empty() && self.files.values().all(|s| *s == Status::Ok)
    }

    /// Turns a difference into an error that names the first file that differs.
    ///
    /// # Errors
    /// When a file is not as locked.
    pub fn ok(&self, model: &Path) -> Result<()> {
        let mut bad = self.files.iter().filter(|(_, s)| **s != Status::Ok);
        match bad.next() {
            Some((path, status)) => Err(SourceError::LockMismatch {
                detail: match bad.count() {
                    0 => status.to_string(),
                    more => format!("{status} (and {more} more files differ)"),
                },
            })
            .at_file(&model.join(path)),
            None if self.files.is_empty() => Err(SourceError::NothingToLock).at_file(model),
            None => Ok(()),
        }
    }
}

impl Lock {
    /// What the lock says about `path`.
    pub(super) fn entry(&self, path: &str) -> Result<&Entry, SourceError> {
        self.files
            .get(path)
            .ok_or_else(|| SourceError::LockMismatch {
                detail: Status::Extra.to_string(),
            })
    }

    fn check(&self) -> Result<(), SourceError> {
        if self.schema_version != SCHEMA_VERSION {
            return Err(SourceError::LockSchema {
                found: self.schema_version,
            });
        }
        check_revision(self.revision.as_deref())?;
        for (path, entry) in &self.files {
            folder::check_path(path)?;
            if !is_hex(&entry.sha256, 64) {
                return Err(SourceError::LockSyntax {
                    detail: format!(
                        "expected 64 lower-case hex digits as `sha256` of `{path}`, found `{}`",
                        entry.sha256
                    ),
                });
            }
        }
        if self.files.is_empty() {
            return Err(SourceError::NothingToLock);
        }
        Ok(())
    }
}

impl Entry {
    /// Compares the size.
    pub(super) fn check_size(&self, found: u64) -> Result<(), SourceError> {
        mismatch(self.size == found, || Status::Size {
            expected: self.size,
            found,
        })
    }

    /// Compares the digest.
    pub(super) fn check_digest(&self, found: &str) -> Result<(), SourceError> {
        mismatch(self.sha256 == found, || Status::Digest {
            expected: self.sha256.clone(),
            found: found.to_owned(),
        })
    }
}

fn mismatch(same: bool, status: impl FnOnce() -> Status) -> Result<(), SourceError> {
    if same {
        return Ok(());
    }
    Err(SourceError::LockMismatch {
        detail: status().to_string(),
    })
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_revision(revision: Option<&str>) -> Result<(), SourceError> {
    match revision {
        Some(found) if !is_hex(found, 40) => Err(SourceError::UnpinnedRevision {
            found: found.to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// The lock of the model at `model`, if there is one; nothing is compared with it.
///
/// # Errors
/// When the folder cannot be read, or the lock is malformed.
pub fn of(model: &Path) -> Result<Option<Lock>> {
    let (root, _) = folder::resolve(model)?;
    read(&Folder::unlocked(&root)?)
}

/// Reads the lock of a folder, if there is one.
pub(super) fn read(files: &Folder) -> Result<Option<Lock>> {
    let path = files.root().join(FILE_NAME);
    if files.find(FILE_NAME)?.is_none() {
        return Ok(None);
    }
    let bytes = folder::read_small(&*files.open(FILE_NAME)?)?;
    parse(&bytes).map(Some).at_file(&path)
}

pub(super) fn parse(bytes: &[u8]) -> Result<Lock, SourceError> {
    let syntax = |detail: String| SourceError::LockSyntax { detail };
    let text = std::str::from_utf8(bytes).map_err(|e| syntax(e.to_string()))?;
    let lock: Lock = toml::from_str(text).map_err(|e| syntax(e.message().to_owned()))?;
    lock.check()?;
    Ok(lock)
}

/// Writes the lock of the model at `model` (a folder, or a file in it that [`super::open`] takes), replacing an older one.
///
/// # Errors
/// When the revision is not a commit, when a covered file is a link that leaves the folder, or when a file cannot be read or written.
pub fn write(model: &Path, identity: &Identity, progress: Progress<'_>) -> Result<Lock> {
    write_with(model, identity, &[], progress)
}

/// [`write`], covering these files as well.
///
/// # Errors
/// As [`write`].
pub fn write_with(
    model: &Path,
    identity: &Identity,
    more: &[String],
    progress: Progress<'_>,
) -> Result<Lock> {
    check_revision(identity.revision.as_deref())?;
    let (root, _) = folder::resolve(model)?;
    let place = place(&root)?;
    let files = Folder::unlocked(&root)?;
    let mut paths = covered(&files)?;
    paths.extend(more.iter().cloned());
    let paths: Vec<String> = paths.into_iter().collect();
    if paths.is_empty() {
        return Err(SourceError::NothingToLock).at_file(&root);
    }
    files.open_all(&paths, progress)?;
    let entries = files.digests(progress)?.into_iter().map(|d| {
        let entry = Entry {
            size: d.size,
            sha256: d.sha256,
        };
        (d.path, entry)
    });
    let lock = Lock {
        schema_version: SCHEMA_VERSION,
        repo: identity.repo.clone(),
        revision: identity.revision.clone(),
        files: entries.collect(),
    };
    save(place, &lock)?;
    Ok(lock)
}

/// Writes the lock of a folder whose files were hashed while they were written.
pub(super) fn write_known(root: &Path, files: BTreeMap<String, Entry>) -> Result<Lock> {
    let lock = Lock {
        schema_version: SCHEMA_VERSION,
        repo: None,
        revision: None,
        files,
    };
    save(place(root)?, &lock)?;
    Ok(lock)
}

/// Taken before the files are hashed: the lock belongs into the folder that they were in.
fn place(root: &Path) -> Result<Place> {
    Place::at(&root.join(FILE_NAME), |_| true)
}

fn save(place: Place, lock: &Lock) -> Result<()> {
    let path = place.path().to_path_buf();
    let text = toml::to_string(lock)
        .map_err(|e| SourceError::LockSyntax {
            detail: e.to_string(),
        })
        .at_file(&path)?;
    atomic::fill(
        place,
        |_| true,
        |out| {
            out.write_all(b"# Sizes and SHA-256 digests of this model's files, written by `distill-convert lock`.\n")?;
            out.write_all(text.as_bytes())?;
            Ok(())
        },
    )
}

/// The paths of everything in a folder and its subfolders, hidden files included; deeper folders count as files.
pub(super) fn list_all(root: &Path) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for entry in root.read_dir().map_err(io_error("list", root))? {
        let entry = entry.map_err(io_error("list", root))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
        if !is_folder {
            out.push(name);
            continue;
        }
        for inner in entry.path().read_dir().map_err(io_error("list", root))? {
            let inner = inner.map_err(io_error("list", root))?.file_name();
            out.push(format!("{name}/{}", inner.to_string_lossy()));
        }
    }
    Ok(out)
}

/// Compares every file of the model at `model` with its lock.
///
/// # Errors
/// When there is no lock, it is malformed, or a file cannot be read. A difference is not an error here: see [`Report::ok`].
pub fn check(model: &Path, progress: Progress<'_>) -> Result<Report> {
    let (root, _) = folder::resolve(model)?;
    let files = Folder::unlocked(&root)?;
    let lock = read(&files)?
        .ok_or(SourceError::LockMissing)
        .at_file(&root)?;
    let mut report: BTreeMap<String, Status> = covered(&files)?
        .into_iter()
        .filter(|path| !lock.files.contains_key(path))
        .map(|path| (path, Status::Extra))
        .collect();
    let (mut same_size, mut opened) = (Vec::new(), Vec::new());
    for (path, entry) in &lock.files {
        match files.find(path)? {
            None => {
                report.insert(path.clone(), Status::Missing);
            }
            Some(found) if found != entry.size => {
                let expected = entry.size;
                report.insert(path.clone(), Status::Size { expected, found });
            }
            Some(_) => {
                same_size.push((path, entry));
                opened.push(files.open(path)?);
            }
        }
    }
    let digests = digest::sha256_all(&opened, progress)?;
    for ((path, entry), found) in same_size.into_iter().zip(digests) {
        let status = if found == entry.sha256 {
            Status::Ok
        } else {
            Status::Digest {
                expected: entry.sha256.clone(),
                found,
            }
        };
        report.insert(path.clone(), status);
    }
    Ok(Report { files: report })
}

/// Whether a lock covers files of this name, wherever they stand.
#[must_use]
pub fn covers(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| COVERED.contains(&e))
}

/// The files that a lock covers.
pub(super) fn covered(files: &Folder) -> Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    for (name, is_folder) in list(files.root())? {
        if !is_folder {
            paths.insert(name);
            continue;
        }
        for (inner, is_folder) in list(&files.root().join(&name))? {
            if !is_folder {
                paths.insert(format!("{name}/{inner}"));
            }
        }
    }
    let weights = files.weights();
    // A checkpoint is covered where it is what the model is read from.
    let is_read = |path: &str| match &weights {
        Ok(Weights::Checkpoint(name)) => name == path,
        Ok(Weights::CheckpointShards) => !path.contains('/') && has_pickle_name(Path::new(path)),
        Ok(Weights::Safetensors | Weights::Shards) | Err(_) => false,
    };
    let all = paths.clone();
    let is_side = |path: &str| {
        let sub = path.strip_suffix(folder::SIDE_CHECKPOINT);
        sub.is_some_and(|sub| !all.contains(&format!("{sub}{}", folder::SIDE_WEIGHTS)))
    };
    paths.retain(|path| covers(Path::new(path)) || is_read(path) || is_side(path));
    // A link that leaves the folder, or a name that no lock can hold, is an error rather than a gap.
    for path in &paths {
        files.find(path)?;
    }
    Ok(paths)
}

/// Name and kind of everything in a folder that is not hidden. Links to folders are not followed.
fn list(folder: &Path) -> Result<Vec<(String, bool)>> {
    let mut out = Vec::new();
    for entry in folder.read_dir().map_err(io_error("list", folder))? {
        let entry = entry.map_err(io_error("list", folder))?;
        let kind = entry
            .file_type()
            .map_err(io_error("look at", &entry.path()))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(SourceError::PathName {
                path: name.to_string_lossy().into_owned(),
            })
            .at_file(folder);
        };
        if !name.starts_with('.') {
            out.push((name.to_owned(), kind.is_dir()));
        }
    }
    Ok(out)
}
