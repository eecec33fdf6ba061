//! A model folder: its files are opened once, stay inside it, are checked against the lock before anyone reads them, and are remembered
//! for the digests.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::error::SourceError;
use super::hub::{self, Snapshot};
use super::lock::{self, Lock};
use super::torch::{self, TorchError, TorchFile};
use super::{Checkpoint, FileDigest, OpenOptions, Progress, SourceTensor};
use super::{digest, json, safetensors, sniff};
use crate::error::{Context, Result, io_error};
use crate::limits;
use crate::tensor::{SourceFile, num};

const CONFIG: &str = "config.json";
/// What a sentence-transformers folder consists of.
const MODULES: &str = "modules.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The name of a checkpoint that Hugging Face's libraries write.
const CHECKPOINT: &str = "pytorch_model.bin";
/// The index of one in several parts.
const CHECKPOINT_INDEX: &str = "pytorch_model.bin.index.json";

/// Where the weights are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    /// In `model.safetensors`.
    Safetensors,
    /// In the shards of `model.safetensors.index.json`.
    Shards,
    /// In a PyTorch checkpoint of this name.
    Checkpoint(String),
    /// In the parts of `pytorch_model.bin.index.json`.
    CheckpointShards,
}

/// A file that was opened.
#[derive(Debug)]
struct Opened {
    file: Arc<SourceFile>,
    /// Known when the file was checked against a lock, or once it was hashed.
    sha256: Option<String>,
}

/// The files of a folder.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    canonical: PathBuf,
    lock: Option<Lock>,
    /// Set when the folder is a snapshot of a hub's cache, whose files are links to files named after their digests.
    snapshot: Option<Snapshot>,
    opened: Mutex<BTreeMap<String, Opened>>,
}

impl Folder {
    /// The folder at `root`, without a lock.
    pub(super) fn unlocked(root: &Path) -> Result<Self> {
        let canonical = root.canonicalize().map_err(io_error("open", root))?;
        let snapshot = Snapshot::of(&canonical);
        Ok(Folder {
            root: root.to_path_buf(),
            canonical,
            lock: None,
            snapshot,
            opened: Mutex::default(),
        })
    }

    /// The folder at `root`, with its lock if there is one.
    fn locked(root: &Path) -> Result<Self> {
        let mut folder = Folder::unlocked(root)?;
        folder.lock = lock::read(&folder)?;
        if let Some(lock) = &folder.lock {
            for (path, entry) in &lock.files {
                let full = folder.root.join(path);
                let found = folder.find(path)?.ok_or_else(|| SourceError::LockMismatch {
                    detail: "it is listed, but missing".to_owned(),
                });
                let size = found.at_file(&full)?;
                entry.check_size(size).at_file(&full)?;
            }
        }
        Ok(folder)
    }

    /// Where the files come from, if that is known.
    fn identity(&self) -> lock::Identity {
        let (repo, revision) = match (&self.lock, &self.snapshot) {
            // A lock that names no commit was written by somebody who knew of none, wherever the folder stands.
            (Some(lock), _) => (lock.repo.clone(), lock.revision.clone()),
            (None, Some(place)) => (Some(place.repo.clone()), Some(place.commit.clone())),
            (None, None) => (None, None),
        };
        lock::Identity { repo, revision }
    }

    /// The path under which the folder was named.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The size of the file at `path`, or `None` when there is none.
    ///
    /// # Errors
    /// When `path` is not a plain path, leads out of the folder, or is not a regular file.
    pub(super) fn find(&self, path: &str) -> Result<Option<u64>> {
        check_plain(path)?;
        let full = self.root.join(path);
        match full.symlink_metadata() {
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(io_error("look at", &full)(e)),
        }
        let target = full.canonicalize().map_err(io_error("open", &full))?;
        let cached = self.snapshot.as_ref().is_some_and(|s| s.holds(&target));
        if !target.starts_with(&self.canonical) && !cached {
            return Err(SourceError::PathEscape {
                path: path.to_owned(),
            })
            .at_file(&full);
        }
        let metadata = target.metadata().map_err(io_error("look at", &full))?;
        if !metadata.is_file() {
            return Err(SourceError::NotAFile).at_file(&full);
        }
        Ok(Some(metadata.len()))
    }

    /// Opens the file at `path`, and nothing else in its place: between [`Folder::find`] and here a link may have come.
    pub(super) fn open(&self, path: &str) -> Result<Arc<SourceFile>> {
        if self.find(path)?.is_none() {
            return Err(SourceError::MissingFile {
                name: path.to_owned(),
            })
            .at_file(&self.root);
        }
        let full = self.root.join(path);
        match SourceFile::open_inside(&self.root, Path::new(path)) {
            Ok(file) => Ok(file),
            Err(e) if SourceFile::leads_out(&e) => Err(SourceError::PathEscape {
                path: path.to_owned(),
            })
            .at_file(&full),
            Err(e) if e.kind() == ErrorKind::InvalidInput => {
                Err(SourceError::NotAFile).at_file(&full)
            }
            Err(e) => Err(io_error("open", &full)(e)),
        }
    }

    /// Opens the file at `path` if it is there; it is checked against the lock, and remembered.
    pub(super) fn open_optional(&self, path: &str) -> Result<Option<Arc<SourceFile>>> {
        if let Some(opened) = self.opened().get(path) {
            return Ok(Some(Arc::clone(&opened.file)));
        }
        check_path(path)?;
        if self.find(path)?.is_none() {
            return Ok(None);
        }
        let files = self.open_all(&[path.to_owned()], &|_| {})?;
        Ok(files.into_iter().next())
    }

    /// Opens the files at `paths`; they are checked against the lock together, and remembered.
    pub(super) fn open_all(
        &self,
        paths: &[String],
        progress: Progress<'_>,
    ) -> Result<Vec<Arc<SourceFile>>> {
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            check_path(path)?;
            files.push(self.open(path)?);
        }
        let before: u64 = self.opened().values().map(|o| o.file.len()).sum();
        let total = files.iter().fold(before, |n, f| n.saturating_add(f.len()));
        if total > limits::READ_BYTES.get() {
            return Err(SourceError::FolderSize { found: total }).at_file(&self.root);
        }
        let digests = match &self.lock {
            Some(lock) => {
                for (path, file) in paths.iter().zip(&files) {
                    lock.entry(path)
                        .and_then(|entry| entry.check_size(file.len()))
                        .at_file(file.path())?;
                }
                let digests = digest::sha256_all(&files, progress)?;
                for ((path, file), digest) in paths.iter().zip(&files).zip(&digests) {
                    lock.entry(path)
                        .and_then(|entry| entry.check_digest(digest))
                        .at_file(file.path())?;
                }
                digests.into_iter().map(Some).collect()
            }
            None => paths
                .iter()
                .zip(&files)
                .map(|(path, file)| self.check_blob(path, file))
                .collect::<Result<Vec<_>>>()?,
        };
        let mut opened = self.opened();
        for ((path, file), sha256) in paths.iter().zip(&files).zip(digests) {
            opened.insert(
                path.clone(),
                Opened {
                    file: Arc::clone(file),
                    sha256,
                },
            );
        }
        Ok(files)
    }

    /// A file of a cache's snapshot is compared with the digest in the name of what its link leads to; one that is no link has to be among
    /// the cache's files all the same. Gives its SHA-256 if that was computed.
    fn check_blob(&self, path: &str, file: &SourceFile) -> Result<Option<String>> {
        let Some((snapshot, target)) = self.in_snapshot(path)? else {
            return Ok(None);
        };
        if snapshot.holds(&target) {
            snapshot.check(&target, file)
        } else {
            snapshot.check_copy(file).map(Some)
        }
    }

    /// As [`Folder::check_blob`], of links alone.
    pub(super) fn check_linked_blob(&self, path: &str, file: &SourceFile) -> Result<()> {
        match self.in_snapshot(path)? {
            Some((snapshot, target)) if snapshot.holds(&target) => {
                snapshot.check(&target, file).map(|_| ())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a file is one that the cache holds under its digest.
    pub(super) fn is_blob(&self, path: &str) -> Result<bool> {
        match self.check_blob(path, &*self.open(path)?) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == hub::UNPROVEN => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Where a file of a cache's snapshot really stands.
    fn in_snapshot(&self, path: &str) -> Result<Option<(&Snapshot, PathBuf)>> {
        let Some(snapshot) = &self.snapshot else {
            return Ok(None);
        };
        let full = self.root.join(path);
        let target = full.canonicalize().map_err(io_error("open", &full))?;
        Ok(Some((snapshot, target)))
    }

    /// What is known of the folder from its place in a cache.
    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// The bytes of a small file, if it is there.
    pub(super) fn read_optional(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_optional(path)? else {
            return Ok(None);
        };
        read_small(&file).map(Some)
    }

    /// Size and digest of every file that was opened, in the order of their paths.
    pub(super) fn digests(&self, progress: Progress<'_>) -> Result<Vec<FileDigest>> {
        loop {
            let opened = self.opened();
            let (paths, files): (Vec<String>, Vec<Arc<SourceFile>>) = opened
                .iter()
                .filter(|(_, o)| o.sha256.is_none())
                .map(|(path, o)| (path.clone(), Arc::clone(&o.file)))
                .unzip();
            if paths.is_empty() {
                let known = opened.iter().filter_map(|(path, o)| {
                    Some(FileDigest {
                        path: path.clone(),
                        size: o.file.len(),
                        sha256: o.sha256.clone()?,
                    })
                });
                return Ok(known.collect());
            }
            // Hashing runs on several threads, any of which might open a file: the map is not held meanwhile.
            drop(opened);
            let digests = digest::sha256_all(&files, progress)?;
            let mut opened = self.opened();
            for (path, digest) in paths.iter().zip(digests) {
                if let Some(o) = opened.get_mut(path) {
                    o.sha256 = Some(digest);
                }
            }
        }
    }

    /// The bytes that [`Folder::digests`] has yet to hash.
    pub(super) fn unhashed_bytes(&self) -> u64 {
        let opened = self.opened();
        let unhashed = opened.values().filter(|o| o.sha256.is_none());
        unhashed.map(|o| o.file.len()).sum()
    }

    fn opened(&self) -> MutexGuard<'_, BTreeMap<String, Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The subfolder that a sentence-transformers folder keeps its transformer in, if that is not the folder itself: old versions of the library
    /// wrote `0_Transformer`.
    ///
    /// # Errors
    /// When `modules.json` cannot be read, or leads out of the folder.
    fn transformer(&self) -> Result<Option<String>> {
        if self.find(CONFIG)?.is_some() {
            return Ok(None);
        }
        let Some(bytes) = self.read_optional(MODULES)? else {
            return Ok(None);
        };
        let modules: serde_json::Value = json::parse(&bytes).at_file(&self.root.join(MODULES))?;
        let first = modules.get(0).and_then(|module| module.get("path"));
        let folder = first
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default();
        Ok((!folder.is_empty()).then(|| folder.to_owned()))
    }

    /// The PyTorch checkpoint of a folder without safetensors: the one with the usual name, else the only one.
    ///
    /// # Errors
    /// When there are several and none has the usual name.
    pub(super) fn checkpoint(&self) -> Result<Option<Weights>> {
        if self.find(CHECKPOINT)?.is_some() {
            return Ok(Some(Weights::Checkpoint(CHECKPOINT.to_owned())));
        }
        if self.find(CHECKPOINT_INDEX)?.is_some() {
            return Ok(Some(Weights::CheckpointShards));
        }
        let folder = &self.root;
        let mut names = Vec::new();
        for entry in folder.read_dir().map_err(io_error("list", folder))? {
            let name = entry.map_err(io_error("list", folder))?.file_name();
            if sniff::has_pickle_name(Path::new(&name)) {
                names.push(name.to_string_lossy().into_owned());
            }
        }
        names.sort();
        match names.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(Weights::Checkpoint(one.clone()))),
            _ => Err(TorchError::Several { names }).at_file(folder),
        }
    }

    /// Where the weights of the folder are.
    ///
    /// # Errors
    /// When there are none, or several.
    pub(super) fn weights(&self) -> Result<Weights> {
        let has = |name: &str| Ok::<_, crate::error::Error>(self.find(name)?.is_some());
        match (has(WEIGHTS)?, has(INDEX)?) {
            (true, false) => Ok(Weights::Safetensors),
            (false, true) => Ok(Weights::Shards),
            (true, true) => Err(SourceError::AmbiguousWeights).at_file(&self.root),
            (false, false) => self
                .checkpoint()?
                .ok_or_else(|| SourceError::MissingFile {
                    name: WEIGHTS.to_owned(),
                })
                .at_file(&self.root),
        }
    }
}

/// Compares files of a folder with its lock, or with the cache that it stands in; see [`super::compare_files`].
pub(super) fn compare_files(
    root: &Path,
    paths: &[String],
    require_lock: bool,
) -> Result<lock::Identity> {
    let files = Folder::locked(root)?;
    if require_lock && files.lock.is_none() {
        return Err(SourceError::LockMissing).at_file(root);
    }
    if files.lock.is_none() && files.snapshot.is_none() {
        return Ok(lock::Identity::default());
    }
    for path in paths {
        let file = files.open(path)?;
        match &files.lock {
            Some(lock) => {
                let entry = lock.entry(path).at_file(file.path())?;
                entry.check_size(file.len()).at_file(file.path())?;
                let digest = digest::sha256(&file, &|_| {})?;
                entry.check_digest(&digest).at_file(file.path())?;
            }
            None => {
                files.check_blob(path, &file)?;
            }
        }
    }
    Ok(files.identity())
}

/// The whole of a side file.
pub(super) fn read_small(file: &SourceFile) -> Result<Vec<u8>> {
    if file.len() > limits::SIDE_FILE_BYTES.get() {
        let found = file.len();
        return Err(SourceError::SideFileSize { found }).at_file(file.path());
    }
    let mut bytes = vec![0; num::usize_of(file.len())];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Refuses paths that are anything but `file` or `folder/file`: what a model is read from.
pub(super) fn check_path(path: &str) -> Result<(), SourceError> {
    check_plain(path)?;
    if path.matches('/').count() < 2 {
        return Ok(());
    }
    Err(SourceError::PathName {
        path: path.to_owned(),
    })
}

/// Refuses what is no path inside a folder, or means different things to different systems.
pub(super) fn check_plain(path: &str) -> Result<(), SourceError> {
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.contains(['\\', ':'])
            && !part.chars().any(char::is_control)
    };
    if path.split('/').all(plain) {
        return Ok(());
    }
    Err(SourceError::PathName {
        path: path.to_owned(),
    })
}

/// The folder that MODEL means, and where its weights are if MODEL says so.
pub(super) fn resolve(path: &Path) -> Result<(PathBuf, Option<Weights>)> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(SourceError::NotFound).at_file(path);
        }
        Err(e) => return Err(io_error("open", path)(e)),
    };
    if metadata.is_dir() {
        return Ok((path.to_path_buf(), None));
    }
    let weights = match path.file_name().and_then(|n| n.to_str()) {
        Some(CONFIG) => None,
        Some(WEIGHTS) => Some(Weights::Safetensors),
        Some(INDEX) => Some(Weights::Shards),
        Some(CHECKPOINT_INDEX) => Some(Weights::CheckpointShards),
        Some(name) if metadata.is_file() => {
            let file = SourceFile::open(path)?;
            if !sniff::has_pickle_name(path) && !torch::looks_like_one(&file)? {
                sniff::refuse_unsafe(&file).at_file(path)?;
                return Err(SourceError::NotAModel).at_file(path);
            }
            Some(Weights::Checkpoint(name.to_owned()))
        }
        Some(_) | None => return Err(SourceError::NotAModel).at_file(path),
    };
    let parent = path.parent().unwrap_or(Path::new(""));
    let folder = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    Ok((folder.to_path_buf(), weights))
}

/// Opens a checkpoint; see [`super::open_with`].
pub(super) fn open(
    path: &Path,
    options: &OpenOptions<'_>,
    progress: Progress<'_>,
) -> Result<Checkpoint> {
    let (root, named) = resolve(path)?;
    let files = Folder::locked(&root)?;
    if options.require_lock && files.lock.is_none() {
        return Err(SourceError::LockMissing).at_file(&root);
    }
    let inner = match named {
        Some(_) => None,
        None => files.transformer()?,
    };
    let at = |name: &str| match &inner {
        Some(folder) => format!("{folder}/{name}"),
        None => name.to_owned(),
    };
    let weights = match (named, &inner) {
        (Some(named), _) => named,
        (None, None) => files.weights()?,
        (None, Some(_)) if files.find(&at(WEIGHTS))?.is_none() => {
            Weights::Checkpoint(at(CHECKPOINT))
        }
        (None, Some(_)) => Weights::Safetensors,
    };
    let config_path = at(CONFIG);
    // A config that is named stands in the place of any other, whatever that says.
    let config = match (options.config, files.read_optional(&config_path)?) {
        (Some(path), _) => {
            let bytes = read_small(&*SourceFile::open(path)?)?;
            Some(json::parse_object(&bytes).at_file(path)?)
        }
        (None, Some(bytes)) => Some(json::parse_object(&bytes).at_file(&root.join(&config_path))?),
        (None, None) => None,
    };
    let needed = |config: Option<_>| {
        let missing = || SourceError::MissingFile {
            name: config_path.clone(),
        };
        config.ok_or_else(missing).at_file(&root)
    };
    let (config, read) = match &weights {
        Weights::Safetensors => {
            let config = needed(config)?;
            (config, read_single(&files, &at(WEIGHTS), progress)?)
        }
        Weights::Shards => (needed(config)?, read_shards(&files, INDEX, progress)?),
        Weights::Checkpoint(name) => {
            let mut read = read_checkpoint(&files, name, progress)?;
            let full = root.join(name);
            let inside = match options.config {
                Some(_) => None,
                None => read.config.take().transpose().at_file(&full)?,
            };
            let config = match (config, inside) {
                (Some(beside), Some(inside)) if beside != inside => {
                    return Err(TorchError::TwoConfigs).at_file(&full);
                }
                (Some(config), _) | (None, Some(config)) => config,
                (None, None) => return Err(TorchError::NoConfig).at_file(&full),
            };
            (config, read)
        }
        Weights::CheckpointShards => {
            let config = needed(config)?;
            (config, read_shards(&files, CHECKPOINT_INDEX, progress)?)
        }
    };
    let lock::Identity { repo, revision } = files.identity();
    Ok(Checkpoint {
        config,
        tensors: read.tensors,
        notes: read.notes,
        storages: read.storages,
        repo,
        revision,
        folder: root,
        files,
    })
}

fn read_single(files: &Folder, name: &str, progress: Progress<'_>) -> Result<TorchFile> {
    let opened = files.open_all(&[name.to_owned()], progress)?;
    let mut read = TorchFile::default();
    for file in &opened {
        read.tensors = safetensors::read_header(file)?.tensors;
    }
    Ok(read)
}

fn read_checkpoint(files: &Folder, name: &str, progress: Progress<'_>) -> Result<TorchFile> {
    let opened = files.open_all(&[name.to_owned()], progress)?;
    let mut read = TorchFile::default();
    for file in &opened {
        sniff::refuse_pointer(file).at_file(file.path())?;
        read = torch::read(file)?;
    }
    read.notes.insert(
        0,
        format!("`{name}` was read as data; nothing in it was executed"),
    );
    Ok(read)
}

/// The tensors of all shards. The index and the shards themselves must agree exactly.
fn read_shards(files: &Folder, index: &str, progress: Progress<'_>) -> Result<TorchFile> {
    let index_path = files.root.join(index);
    let in_checkpoints = index == CHECKPOINT_INDEX;
    let bytes = files.read_optional(index)?.unwrap_or_default();
    let weight_map = parse_index(&bytes).at_file(&index_path)?;
    let shards: BTreeSet<&String> = weight_map.values().collect();
    let shards: Vec<String> = shards.into_iter().cloned().collect();
    for shard in &shards {
        if !in_checkpoints && sniff::has_pickle_name(Path::new(shard)) {
            return Err(sniff::pickle_name_error()).at_file(&files.root.join(shard));
        }
        if shard.contains('/') {
            return Err(SourceError::PathName {
                path: shard.clone(),
            })
            .at_file(&index_path);
        }
        check_path(shard).at_file(&index_path)?;
    }

    let mut out = TorchFile::default();
    let mut unlisted = Vec::new();
    for (shard, file) in shards.iter().zip(files.open_all(&shards, progress)?) {
        let read = if in_checkpoints {
            sniff::refuse_pointer(&file).at_file(file.path())?;
            torch::read(&file)?
        } else {
            TorchFile {
                tensors: safetensors::read_header(&file)?.tensors,
                ..TorchFile::default()
            }
        };
        out.notes.extend(read.notes);
        out.storages.extend(read.storages);
        for (name, tensor) in read.tensors {
            if weight_map.get(&name) == Some(shard) {
                out.tensors.insert(name, tensor);
            } else {
                unlisted.push(format!("`{name}` in `{shard}`"));
            }
        }
    }
    let mut missing = weight_map
        .iter()
        .filter(|(name, _)| !out.tensors.contains_key(*name))
        .map(|(name, shard)| format!("`{name}` in `{shard}`"))
        .peekable();
    if !unlisted.is_empty() || missing.peek().is_some() {
        let first_missing = missing.peek().cloned();
        return Err(SourceError::IndexMismatch {
            missing: missing.count(),
            first_missing,
            unlisted: unlisted.len(),
            first_unlisted: unlisted.into_iter().next(),
        })
        .at_file(&index_path);
    }
    drop(missing);
    Ok(out)
}

/// The `weight_map` of a shard index: tensor → shard.
pub(super) fn parse_index(bytes: &[u8]) -> Result<BTreeMap<String, String>, SourceError> {
    let shape = |expected: &str, found: &str| SourceError::JsonShape {
        expected: expected.to_owned(),
        found: found.to_owned(),
    };
    let mut index = json::parse_object(bytes)?;
    // `metadata` holds sizes and parameter counts that older libraries get wrong; the headers are the truth.
    index.remove("metadata");
    let map = match index.remove("weight_map") {
        Some(Value::Object(map)) => map,
        Some(other) => return Err(shape("`weight_map` as an object", json::kind(&other))),
        None => return Err(shape("an object with `weight_map`", "none")),
    };
    if let Some(key) = index.keys().next() {
        return Err(shape(
            "only the keys `metadata` and `weight_map`",
            &format!("`{key}`"),
        ));
    }
    if map.is_empty() {
        return Err(shape("`weight_map` with at least one tensor", "none"));
    }
    map.into_iter()
        .map(|(name, shard)| match shard {
            Value::String(shard) => Ok((name, shard)),
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_)) => Err(shape(
                &format!("a file name for `{name}` in `weight_map`"),
                json::kind(&other),
            )),
        })
        .collect()
}

/// The tensors of a side module; see [`Checkpoint::side_tensors`].
pub(super) fn side_tensors(
    files: &Folder,
    subfolder: &str,
) -> Result<Option<BTreeMap<String, SourceTensor>>> {
    if let Some(file) = files.open_optional(&format!("{subfolder}/{WEIGHTS}"))? {
        return Ok(Some(safetensors::read_header(&file)?.tensors));
    }
    match files.open_optional(&format!("{subfolder}/{CHECKPOINT}"))? {
        Some(file) => {
            sniff::refuse_pointer(&file).at_file(file.path())?;
            Ok(Some(torch::read(&file)?.tensors))
        }
        None => Ok(None),
    }
}
