//! The lock file `distill-convert.lock`: size and SHA-256 of every file of a model folder, and the commit they came from, if known.
//!
//! Owns the file's format, what it covers, whose commit it may name, and the comparison. Does not fetch anything.
//!
//! Covered is every file of the folder and its subfolders but the lock itself and what is hidden (names that start with a dot): the bookkeeping
//! of other programs (`.git`, `.cache`, `.DS_Store`) changes by itself, and nothing in it is read where there is a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::SourceError;
use super::folder::{self, Folder};
use super::{Progress, atomic, digest, hub};
use crate::error::{Context, Result, io_error};
use crate::files::Place;
use crate::limits;
use crate::tensor::{SourceFile, Stamp};

/// The name of the lock file, beside `config.json`.
pub const FILE_NAME: &str = "distill-convert.lock";

/// The version of the format that is written, and the only one that is read.
pub const SCHEMA_VERSION: u64 = 1;

/// Files that are open at once while a folder is hashed: as many as the cores can use, far fewer than a process may open.
const OPEN_FILES: usize = 64;

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
            folder::check_plain(path)?;
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
    read(&Folder::unlocked(&root_of(model)?)?)
}

/// The folder whose lock, or whose place in a hub's cache, speaks for the files in `folder`: itself, or the nearest around it; and the way from
/// there to `folder`. It is `folder` itself where nothing does.
#[must_use]
pub fn governing(folder: &Path) -> (PathBuf, PathBuf) {
    for around in folder.ancestors().take(limits::FOLDER_DEPTH.count()) {
        let there = match around.as_os_str().is_empty() {
            true => Path::new("."),
            false => around,
        };
        if there.join(FILE_NAME).is_file() || hub::of_snapshot(there).is_some() {
            let way = folder.strip_prefix(around).unwrap_or(Path::new(""));
            return (there.to_path_buf(), way.to_path_buf());
        }
    }
    (folder.to_path_buf(), PathBuf::new())
}

/// The folder of a model: a model folder or package, or what is around a file that is a model or a part of one.
fn folder_of(model: &Path) -> Result<PathBuf> {
    if is_graph(model) && model.is_file() {
        let parent = model.parent().filter(|p| !p.as_os_str().is_empty());
        return Ok(parent.unwrap_or(Path::new(".")).to_path_buf());
    }
    Ok(folder::resolve(model)?.0)
}

/// The folder whose lock speaks for a model: a model folder has one of its own, graphs may lie in subfolders of one.
fn root_of(model: &Path) -> Result<PathBuf> {
    let folder = folder_of(model)?;
    Ok(match is_graph(model) {
        true => governing(&folder).0,
        false => folder,
    })
}

/// Whether this is the name of an ONNX or Core ML model.
fn is_graph(model: &Path) -> bool {
    let ending = model.extension().and_then(|e| e.to_str());
    ending.is_some_and(|e| ["mlmodel", "mlpackage", "onnx"].contains(&e))
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

/// A lock that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What it says.
    pub lock: Lock,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Writes the lock of the model at `model` (a folder or package, or a file in it that is a model), replacing an older one.
///
/// Repository and commit are those of `identity`; where it names neither, those that are known and still true: of the older lock if each
/// file is as it says, of a cache's snapshot if each file is one of its blobs.
///
/// # Errors
/// When the revision is not a commit, when a file is a link that leaves the folder or changes meanwhile, or when a file cannot be read or
/// written.
pub fn write(model: &Path, identity: &Identity, progress: Progress<'_>) -> Result<Written> {
    check_revision(identity.revision.as_deref())?;
    let root = folder_of(model)?;
    let place = place(&root)?;
    let files = Folder::unlocked(&root)?;
    let paths = covered(&files)?;
    if paths.is_empty() {
        return Err(SourceError::NothingToLock).at_file(&root);
    }
    let (entries, stamps) = hash(&files, &paths, progress)?;
    unchanged(&files, &paths, &stamps)?;
    let (identity, note) = if *identity == Identity::default() {
        known_identity(&files, &entries)?
    } else {
        (identity.clone(), None)
    };
    let lock = Lock {
        schema_version: SCHEMA_VERSION,
        repo: identity.repo,
        revision: identity.revision,
        files: entries,
    };
    save(place, &lock)?;
    let notes = note.into_iter().collect();
    Ok(Written { lock, notes })
}

/// Size and digest of every file, and what would tell that it has changed since.
fn hash(
    files: &Folder,
    paths: &BTreeSet<String>,
    progress: Progress<'_>,
) -> Result<(BTreeMap<String, Entry>, Vec<Stamp>)> {
    let (mut entries, mut stamps) = (BTreeMap::new(), Vec::new());
    let paths: Vec<&String> = paths.iter().collect();
    let mut total = 0u64;
    for part in paths.chunks(OPEN_FILES) {
        let opened: Vec<Arc<SourceFile>> = part
            .iter()
            .map(|path| files.open(path))
            .collect::<Result<_>>()?;
        for file in &opened {
            stamps.push(file.stamp()?);
            total = total.saturating_add(file.len());
        }
        if total > limits::READ_BYTES.get() {
            return Err(SourceError::FolderSize { found: total }).at_file(files.root());
        }
        let digests = digest::sha256_all(&opened, progress)?;
        for ((path, file), sha256) in part.iter().zip(opened).zip(digests) {
            files.check_linked_blob(path, &file)?;
            let size = file.len();
            entries.insert((*path).clone(), Entry { size, sha256 });
        }
    }
    Ok((entries, stamps))
}

/// Refuses a folder in which a file was changed, replaced, added or removed while it was hashed: its lock would be of no moment at all.
fn unchanged(files: &Folder, paths: &BTreeSet<String>, stamps: &[Stamp]) -> Result<()> {
    let changed = |path: &str| {
        let path = files.root().join(path);
        Err(SourceError::Changed).at_file(&path)
    };
    let now = covered(files)?;
    if let Some(path) = now.symmetric_difference(paths).next() {
        return changed(path);
    }
    for (path, stamp) in paths.iter().zip(stamps) {
        if files.open(path)?.stamp()? != *stamp {
            return changed(path);
        }
    }
    Ok(())
}

/// Repository and commit that are known and true of every file; else a note why they are not recorded.
fn known_identity(
    files: &Folder,
    entries: &BTreeMap<String, Entry>,
) -> Result<(Identity, Option<String>)> {
    // A lock that cannot be read says nothing.
    let older = read(files).ok().flatten();
    let older = older.filter(|lock| lock.repo.is_some() || lock.revision.is_some());
    let (known, others): (Identity, Vec<&String>) = match (older, files.snapshot()) {
        (Some(lock), _) => {
            let same = |path: &str, entry: &Entry| lock.files.get(path) == Some(entry);
            let others = entries.iter().filter(|(path, entry)| !same(path, entry));
            let others = others.map(|(path, _)| path).collect();
            let Lock { repo, revision, .. } = lock;
            (Identity { repo, revision }, others)
        }
        (None, Some(snapshot)) => {
            let mut others = Vec::new();
            for path in entries.keys() {
                if !files.is_blob(path)? {
                    others.push(path);
                }
            }
            let known = Identity {
                repo: Some(snapshot.repo.clone()),
                revision: Some(snapshot.commit.clone()),
            };
            (known, others)
        }
        (None, None) => return Ok((Identity::default(), None)),
    };
    let Some(first) = others.first() else {
        return Ok((known, None));
    };
    let name = known.repo.unwrap_or_default() + "@" + &known.revision.unwrap_or_default();
    let more = match others.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let note = format!(
        "`{first}`{more} is not known to come from {name}, so that neither is recorded; `--repo` and `--revision` record them all the same"
    );
    Ok((Identity::default(), Some(note)))
}

/// Writes the lock of a folder whose files were hashed while they were written.
pub(super) fn write_known(
    root: &Path,
    identity: Identity,
    files: BTreeMap<String, Entry>,
) -> Result<Lock> {
    let lock = Lock {
        schema_version: SCHEMA_VERSION,
        repo: identity.repo,
        revision: identity.revision,
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
    let root = root_of(model)?;
    let files = Folder::unlocked(&root)?;
    let lock = read(&files)?
        .ok_or(SourceError::LockMissing)
        .at_file(&root)?;
    let mut report: BTreeMap<String, Status> = covered(&files)?
        .into_iter()
        .filter(|path| !lock.files.contains_key(path))
        .map(|path| (path, Status::Extra))
        .collect();
    let mut same_size = Vec::new();
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
            }
        }
    }
    for part in same_size.chunks(OPEN_FILES) {
        let opened: Vec<Arc<SourceFile>> = part
            .iter()
            .map(|(path, _)| files.open(path))
            .collect::<Result<_>>()?;
        let digests = digest::sha256_all(&opened, progress)?;
        for ((path, entry), found) in part.iter().zip(digests) {
            let status = if found == entry.sha256 {
                Status::Ok
            } else {
                Status::Digest {
                    expected: entry.sha256.clone(),
                    found,
                }
            };
            report.insert((*path).clone(), status);
        }
    }
    Ok(Report { files: report })
}

/// Refuses folders deeper than any real one, and more files than one has.
pub(super) fn check_extent(depth: usize, files: usize) -> Result<(), SourceError> {
    if depth > limits::FOLDER_DEPTH.count() {
        return Err(SourceError::FolderDepth);
    }
    if files > limits::FOLDER_FILES.count() {
        return Err(SourceError::FolderFiles);
    }
    Ok(())
}

/// The files that a lock covers.
pub(super) fn covered(files: &Folder) -> Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    walk(files.root(), "", &mut paths)?;
    // A link that leaves the folder, or a name that no lock can hold, is an error rather than a gap.
    for path in &paths {
        files.find(path)?;
    }
    Ok(paths)
}

fn walk(folder: &Path, prefix: &str, paths: &mut BTreeSet<String>) -> Result<()> {
    let depth = prefix.matches('/').count();
    for (name, is_folder) in list(folder)? {
        let path = format!("{prefix}{name}");
        if is_folder {
            walk(&folder.join(&name), &format!("{path}/"), paths)?;
        } else if path != FILE_NAME {
            paths.insert(path);
        }
        check_extent(depth, paths.len()).at_file(folder)?;
    }
    Ok(())
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
