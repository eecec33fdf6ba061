//! Checkpoint bytes → named tensors: safetensors, shard index, Hugging Face folders, lock file; and tensor files for inputs and outputs.
//! Knows no IR.
//!
//! Everything here comes from somebody else: lengths are checked before anything is allocated, paths stay in the model folder, formats
//! that can run code are refused under any name, and with a lock file no byte is parsed before its digest was compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Context, Result};
use crate::tensor::{DType, FileRegion};

mod atomic;
pub mod bytes;
mod digest;
mod error;
mod folder;
pub mod hub;
mod image;
mod import;
mod json;
pub mod lock;
mod npz;
mod pickle;
mod safetensors;
mod sniff;
mod tensors;
mod torch;

pub use digest::{hex, sha256_of as sha256};
pub use error::SourceError;
pub use image::{Image, ImageError, read_image};
pub use import::{Imported, import, is_imported};
pub use pickle::{Asked, PickleError};
pub use sniff::has_pickle_name;
pub use tensors::{TensorPlace, read_tensors, write_tensors};
pub use torch::TorchError;

/// Is told how many more bytes were hashed; called from several threads.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// A tensor of a checkpoint: a checked region of a verified file.
#[derive(Clone, Debug)]
pub struct SourceTensor {
    /// Element type in the file.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<usize>,
    /// The bytes.
    pub region: FileRegion,
}

/// Size and SHA-256 of a file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FileDigest {
    /// Path relative to the model folder, `/` as separator.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// Size and SHA-256 of files below `folder`, such as a model and what lies beside it; called by their paths from there.
///
/// # Errors
/// When a file cannot be read.
pub fn digest_files(folder: &Path, paths: &[PathBuf]) -> Result<Vec<FileDigest>> {
    paths
        .iter()
        .map(|path| {
            let file = digest_of(path)?;
            Ok(match path.strip_prefix(folder) {
                Ok(inner) => FileDigest {
                    path: plain_path(inner),
                    ..file
                },
                Err(_) => file,
            })
        })
        .collect()
}

/// A relative path with `/` as separator.
#[must_use]
pub fn plain_path(path: &Path) -> String {
    let parts = path.components().map(|c| c.as_os_str().to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}

/// Compares the files at `paths` of an ONNX or Core ML model in `folder` with the folder's lock, or, where there is none, with the digests of the
/// hub's cache that it is a snapshot of. Gives where they come from, if that is known.
///
/// # Errors
/// When a file is not as locked or not in the lock, when a required lock is missing, or a cached file is not what its name says.
pub fn compare_files(
    folder: &Path,
    paths: &[String],
    require_lock: bool,
) -> Result<lock::Identity> {
    folder::compare_files(folder, paths, require_lock)
}

/// Files with these endings are data beside a model's weights: config, tokenizer, lists, descriptions.
const SIDE_KINDS: [&str; 4] = ["json", "model", "toml", "txt"];

/// Whether a file is data by its name: weights as safetensors, or what lies beside them. Not among them: what may be code, and pickles.
#[must_use]
pub fn is_data(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "safetensors") || is_side_file(path)
}

/// Whether a file is, by its name, data that lies beside a model's weights.
fn is_side_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| SIDE_KINDS.contains(&e))
}

/// How a checkpoint is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions<'a> {
    /// Whether the absence of a lock file is an error.
    pub require_lock: bool,
    /// A file to use instead of the model's own config.
    pub config: Option<&'a Path>,
}

/// A model folder whose headers were checked.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder.
    pub folder: PathBuf,
    /// `config.json`.
    pub config: serde_json::Map<String, Value>,
    /// Every tensor, by name.
    pub tensors: BTreeMap<String, SourceTensor>,
    /// Repository, if the lock file or the cache names one.
    pub repo: Option<String>,
    /// Pinned revision, if the lock file names one.
    pub revision: Option<String>,
    /// What the user should know about how the weights were read.
    pub notes: Vec<String>,
    storages: Vec<torch::Stored>,
    files: folder::Folder,
}

/// Opens the model at `path`: a folder, or its `config.json`, `model.safetensors` or `model.safetensors.index.json`; or a PyTorch checkpoint.
///
/// A folder's safetensors come first; only where there are none is a checkpoint looked for, and it is read as data, never executed.
///
/// # Errors
/// When a file is missing, malformed, unsafe or unlike the lock; see [`SourceError`].
pub fn open(path: &Path, options: &OpenOptions<'_>) -> Result<Checkpoint> {
    open_with(path, options, &|_| {})
}

/// [`open`], with progress while files are compared with the lock.
///
/// # Errors
/// As [`open`].
pub fn open_with(
    path: &Path,
    options: &OpenOptions<'_>,
    progress: Progress<'_>,
) -> Result<Checkpoint> {
    folder::open(path, options, progress)
}

impl Checkpoint {
    /// Size and SHA-256 of every file that was read so far, by path. What a lock check or an earlier call computed is not computed again.
    ///
    /// # Errors
    /// When a file cannot be read any more.
    pub fn digests(&self) -> Result<Vec<FileDigest>> {
        self.digests_with(&|_| {})
    }

    /// [`Checkpoint::digests`], with progress.
    ///
    /// # Errors
    /// As [`Checkpoint::digests`].
    pub fn digests_with(&self, progress: Progress<'_>) -> Result<Vec<FileDigest>> {
        self.files.digests(progress)
    }

    /// How many bytes [`Checkpoint::digests`] has yet to hash.
    #[must_use]
    pub fn unhashed_bytes(&self) -> u64 {
        self.files.unhashed_bytes()
    }

    /// The bytes of another small file of the folder (`tokenizer.json`), or `None` when there is none.
    ///
    /// # Errors
    /// When the path leaves the folder, or the file is too large, cannot be read or is unlike the lock.
    pub fn side_file(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.files.read_optional(path)
    }

    /// Another JSON file of the folder (`modules.json`, `1_Pooling/config.json`), or `None` when there is none.
    ///
    /// # Errors
    /// As [`Checkpoint::side_file`], and when the file is not JSON or has a key twice in one object.
    pub fn side_json(&self, path: &str) -> Result<Option<Value>> {
        let bytes = self.side_file(path)?;
        bytes
            .map(|b| json::parse(&b).at_file(&self.folder.join(path)))
            .transpose()
    }

    /// The tensors of `model.safetensors` in a subfolder (`2_Dense`), or `None` when there is none.
    ///
    /// # Errors
    /// As [`Checkpoint::side_file`], when the file is not a sound safetensors file, or when there is only a pickle.
    pub fn side_tensors(&self, subfolder: &str) -> Result<Option<BTreeMap<String, SourceTensor>>> {
        folder::side_tensors(&self.files, subfolder)
    }
}

/// Size and SHA-256 of the file at `path`, under its own name.
///
/// # Errors
/// When it is no regular file, or cannot be read.
pub fn digest_of(path: &Path) -> Result<FileDigest> {
    use crate::error::io_error;
    let metadata = path.metadata().map_err(io_error("look at", path))?;
    if !metadata.is_file() {
        return Err(SourceError::NotAFile).at_file(path);
    }
    let file = crate::tensor::SourceFile::open(path)?;
    let name = path.file_name().unwrap_or_default();
    Ok(FileDigest {
        path: name.to_string_lossy().into_owned(),
        size: file.len(),
        sha256: digest::sha256(&file, &|_| {})?,
    })
}

/// Size and SHA-256 of every file below `folder`, by path from there. Links are refused.
///
/// # Errors
/// When something is neither a file nor a folder, has a name that is no text, or cannot be read.
pub fn digest_tree(folder: &Path) -> Result<Vec<FileDigest>> {
    let mut files = Vec::new();
    walk(folder, "", &mut files)?;
    files.sort_by(|a: &FileDigest, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<FileDigest>) -> Result<()> {
    use crate::error::io_error;
    let depth = prefix.matches('/').count();
    lock::check_extent(depth, files.len()).at_file(folder)?;
    for entry in folder.read_dir().map_err(io_error("list", folder))? {
        let entry = entry.map_err(io_error("list", folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(io_error("look at", &path))?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| SourceError::PathName {
            path: path.to_string_lossy().into_owned(),
        })?;
        let inner = format!("{prefix}{name}");
        if kind.is_dir() {
            walk(&path, &format!("{inner}/"), files)?;
        } else if kind.is_file() {
            let digest = digest_of(&path)?;
            files.push(FileDigest {
                path: inner,
                ..digest
            });
        } else {
            return Err(SourceError::NotAFile).at_file(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fixtures of the repository.
    fn model(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("models")
            .join(name)
    }

    #[test]
    fn the_fixtures_open_and_their_references_read() {
        for name in ["8ball", "binary", "ternary", "toy-block"] {
            let folder = model(name);
            let checkpoint = open(&folder, &OpenOptions::default()).unwrap();
            assert!(!checkpoint.tensors.is_empty());
            let read: Vec<String> = checkpoint
                .digests()
                .unwrap()
                .into_iter()
                .map(|d| d.path)
                .collect();
            assert_eq!(read, ["config.json", "model.safetensors"]);
            assert_eq!(checkpoint.unhashed_bytes(), 0);
            let reference = read_tensors(&folder.join("reference.safetensors")).unwrap();
            assert!(!reference.is_empty());
        }
    }
}
