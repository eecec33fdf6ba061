//! Checkpoint bytes → named tensors: safetensors, shard index, Hugging Face folders, lock file; and tensor files for inputs and outputs. Knows no IR.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::tensor::{DType, FileRegion};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDigest {
    /// Path relative to the model folder, `/` as separator.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// A model folder whose headers were checked.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder.
    pub folder: PathBuf,
    /// `config.json`.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Every tensor, by name.
    pub tensors: BTreeMap<String, SourceTensor>,
    /// Pinned revision, if the lock file names one.
    pub revision: Option<String>,
}
