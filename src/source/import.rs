//! A checkpoint of any layout → a folder of safetensors, config, side files and lock. Streams: no tensor is held in memory.
//!
//! What is written is read back while it is written: every byte is compared with its source, and the lock's digests are those of the bytes that
//! came back from the file. Checksums of the source, where its layout has them, are compared too. One thread copies and compares, another
//! hashes: SHA-256 of one file is one chain of steps, and takes about as long as all the rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::error::SourceError;
use super::lock::{self, Entry, Identity, Lock};
use super::safetensors::{self, HeaderBytes};
use super::torch::{self, Stored};
use super::{Checkpoint, OpenOptions, Progress, SourceTensor, digest, folder};
use crate::error::{Context, Result, io_error};
use crate::files;
use crate::tensor::{Buffer, SourceFile, TargetFile, num, piece_at};

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
/// How many parts wait to be hashed at most.
const WAITING_PARTS: usize = 32;

/// What was imported.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of all tensors.
    pub weight_bytes: u64,
    /// What the user should know.
    pub notes: Vec<String>,
    /// The lock that was written beside the files.
    pub lock: Lock,
}

/// Writes the model at `source` (as [`super::open`] takes it) into the empty folder `target`: `model.safetensors`, `config.json`, the
/// side files if `source` is a folder, and the lock.
///
/// # Errors
/// When the source is malformed or unsafe, has no config, or what was written does not read back alike.
pub fn import(
    source: &Path,
    target: &Path,
    options: &OpenOptions<'_>,
    progress: Progress<'_>,
) -> Result<Imported> {
    let checkpoint = folder::open(source, options, &|_| {})?;
    let mut files = BTreeMap::new();
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        super::tensors::mark(),
    ]);
    let entry = write(
        &checkpoint.tensors,
        &checkpoint.storages,
        &metadata,
        &target.join(WEIGHTS),
        progress,
    )?;
    files.insert(WEIGHTS.to_owned(), entry);
    let config =
        serde_json::to_string_pretty(&checkpoint.config).map_err(|e| SourceError::Json {
            detail: e.to_string(),
        })?;
    let config = format!("{config}\n");
    files.insert(
        CONFIG.to_owned(),
        write_small(&target.join(CONFIG), config.as_bytes())?,
    );
    if source.is_dir() {
        copy_side_files(&checkpoint, target, &metadata, &mut files)?;
    }
    let mut notes = checkpoint.notes;
    let identity = match (options.config, &checkpoint.repo) {
        (Some(_), Some(repo)) => {
            notes.push(format!(
                "the config is not that of `{repo}`, so that the lock names no repository and commit"
            ));
            Identity::default()
        }
        (_, _) => Identity {
            repo: checkpoint.repo,
            revision: checkpoint.revision,
        },
    };
    let lock = lock::write_known(target, identity, files)?;
    Ok(Imported {
        tensors: checkpoint.tensors.len(),
        weight_bytes: checkpoint.tensors.values().map(|t| t.region.len).sum(),
        notes,
        lock,
    })
}

/// Whether everything in the folder was written by [`import`]: the lock is there, nothing else is but what it lists, and the weights say so.
#[must_use]
pub fn is_imported(folder: &Path) -> bool {
    let Ok(files) = folder::Folder::unlocked(folder) else {
        return false;
    };
    let Ok(Some(lock)) = lock::read(&files) else {
        return false;
    };
    let listed = |path: &str| path == lock::FILE_NAME || lock.files.contains_key(path);
    let Ok(entries) = lock::list_all(folder) else {
        return false;
    };
    let weights = SourceFile::open(&folder.join(WEIGHTS));
    let header = weights.and_then(|file| safetensors::read_header(&file));
    entries.iter().all(|path| listed(path))
        && header.is_ok_and(|h| super::tensors::has_mark(&h.metadata))
}

fn write_small(path: &Path, bytes: &[u8]) -> Result<Entry> {
    std::fs::write(path, bytes).map_err(io_error("write", path))?;
    let file = SourceFile::open(path)?;
    Ok(Entry {
        size: file.len(),
        sha256: digest::sha256(&file, &|_| {})?,
    })
}

/// Tokenizer, pooling, dense layers: what lies beside the weights. Checkpoints of subfolders become safetensors, too.
fn copy_side_files(
    checkpoint: &Checkpoint,
    target: &Path,
    metadata: &BTreeMap<String, String>,
    files: &mut BTreeMap<String, Entry>,
) -> Result<()> {
    let mut subfolders = Vec::new();
    for path in lock::covered(&checkpoint.files)? {
        if let Some((sub, _)) = path.split_once('/')
            && !subfolders.iter().any(|s| s == sub)
        {
            subfolders.push(sub.to_owned());
        }
        let is_side = super::is_side_file(Path::new(&path)) && path.matches('/').count() < 2;
        if !is_side || path.ends_with(".index.json") || path == CONFIG {
            continue;
        }
        if let Some(bytes) = checkpoint.files.read_optional(&path)? {
            let to = target.join(&path);
            if let Some(parent) = Path::new(&path).parent() {
                files::make_folders(target, parent)?;
            }
            let entry = write_small(&to, &bytes)?;
            files.insert(path, entry);
        }
    }
    for sub in subfolders {
        if let Some(tensors) = folder::side_tensors(&checkpoint.files, &sub)? {
            let path = format!("{sub}/{WEIGHTS}");
            let entry = write(&tensors, &[], metadata, &target.join(&path), &|_| {})?;
            files.insert(path, entry);
        }
    }
    Ok(())
}

/// Writes the tensors; what reads back is compared, and hashed on a second thread.
fn write(
    tensors: &BTreeMap<String, SourceTensor>,
    storages: &[Stored],
    metadata: &BTreeMap<String, String>,
    path: &Path,
    progress: Progress<'_>,
) -> Result<Entry> {
    let HeaderBytes { bytes, order, len } =
        safetensors::header_bytes(tensors, metadata).at_file(path)?;
    let total = num::u64_of(bytes.len()) + len;
    let out = TargetFile::create(path, total)?;
    let back = SourceFile::open(path)?;
    let (sender, parts) = sync_channel(WAITING_PARTS);
    let (reuse, spare) = channel();
    let copier = Copier {
        out: &out,
        back: &back,
        at: 0,
        parts: sender,
        spare,
        progress,
    };
    let sha256 = std::thread::scope(|scope| {
        let hasher = scope.spawn(|| hash(parts, reuse));
        // The other thread ends when nobody can send any more.
        copier.copy(bytes, &order, storages)?;
        let not_hashed = |_| SourceError::NotAsWritten { offset: 0 };
        hasher.join().map_err(not_hashed).at_file(path)
    })?;
    let read = safetensors::read_header(&back)?;
    let same = read.tensors.len() == tensors.len()
        && read.tensors.iter().all(|(name, t)| {
            tensors
                .get(name)
                .is_some_and(|s| s.dtype == t.dtype && s.shape == t.shape)
        });
    if !same {
        return Err(SourceError::NotAsWritten { offset: 0 }).at_file(path);
    }
    Ok(Entry {
        size: total,
        sha256,
    })
}

/// Writes parts one after the other, reads each back and passes it on.
struct Copier<'a> {
    out: &'a TargetFile,
    back: &'a SourceFile,
    at: u64,
    parts: SyncSender<Buffer>,
    /// Buffers that have been hashed.
    spare: Receiver<Buffer>,
    progress: Progress<'a>,
}

impl Copier<'_> {
    fn copy(mut self, header: Vec<u8>, order: &[&SourceTensor], storages: &[Stored]) -> Result<()> {
        self.put(&header)?;
        let whole_storages: BTreeMap<_, usize> = storages
            .iter()
            .enumerate()
            .map(|(i, storage)| (storage.place(), i))
            .collect();
        let mut checked = vec![false; storages.len()];
        let mut buffer = Buffer::default();
        for tensor in order {
            let region = &tensor.region;
            let storage = whole_storages.get(&torch::place(region)).copied();
            let mut crc = crc32fast::Hasher::new();
            let mut done = 0;
            while done < region.len {
                let n = num::usize_of(region.len - done).min(piece_at(self.at));
                let part = buffer.resize(n);
                region.file.read_at(region.offset + done, part)?;
                if storage.is_some() {
                    crc.update(part);
                }
                self.put(part)?;
                done += num::u64_of(n);
            }
            if let Some(i) = storage {
                storages[i].compare(crc.finalize())?;
                checked[i] = true;
            }
        }
        for (storage, _) in storages.iter().zip(checked).filter(|(_, checked)| !checked) {
            storage.check()?;
        }
        Ok(())
    }

    fn put(&mut self, part: &[u8]) -> Result<()> {
        self.out.write_at(self.at, part)?;
        let mut back = self.spare.try_recv().unwrap_or_default();
        self.back.read_at(self.at, back.resize(part.len()))?;
        if *back != *part {
            let offset = self.at;
            return Err(SourceError::NotAsWritten { offset }).at_file(self.back.path());
        }
        // Nobody takes it when the other thread has ended, which is noticed when it is joined.
        let _ = self.parts.send(back);
        let len = num::u64_of(part.len());
        self.at += len;
        (self.progress)(len);
        Ok(())
    }
}

/// The digest of all parts, in their order.
fn hash(parts: Receiver<Buffer>, reuse: Sender<Buffer>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(&*part);
        let _ = reuse.send(part);
    }
    digest::hex(&hasher.finalize())
}
