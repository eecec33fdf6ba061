//! What can be wrong with a checkpoint, a lock file or a tensor file.
//!
//! Anything that two readers could understand differently, that points outside its file or folder, or that can run code is
//! [`Class::Unsafe`]; what is merely missing or contradictory is [`Class::Invalid`].

use crate::error::{Class, Diagnostic};
use crate::limits;
use crate::tensor::DType;

/// Why a source was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A format that can run code when it is loaded.
    #[error("the file is {format}, which can run code when it is loaded")]
    UnsafeFormat {
        /// What the file is.
        format: &'static str,
    },
    /// A placeholder instead of the weights.
    #[error("the file is a Git LFS pointer, not the weights themselves")]
    LfsPointer,
    /// The file ends before the header's length.
    #[error("expected at least 8 bytes for the header length, found {found}")]
    HeaderTruncated {
        /// Bytes in the file.
        found: u64,
    },
    /// The header would end after the file.
    #[error("the header claims {header} bytes, but only {available} follow its length")]
    HeaderLength {
        /// Length that the file claims.
        header: u64,
        /// Bytes after the length field.
        available: u64,
    },
    /// The header is larger than any real one.
    #[error("the header claims {header} bytes, expected at most {cap}", cap = limits::HEADER_BYTES.get())]
    HeaderCap {
        /// Length that the file claims.
        header: u64,
    },
    /// The header is not the JSON that the format asks for.
    #[error("the header is malformed: {detail}")]
    HeaderSyntax {
        /// What the parser said.
        detail: String,
    },
    /// A tensor is named twice.
    #[error("the tensor is named twice")]
    DuplicateTensor,
    /// A key stands twice in one JSON object.
    #[error("key `{key}` stands twice in one object")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// An unusable tensor name.
    #[error("the tensor name {name:?} is empty or has control characters")]
    TensorName {
        /// The name.
        name: String,
    },
    /// An element type that is not read or not written.
    #[error("element type `{found}` is not supported in {format} files")]
    Dtype {
        /// The type's name in the file.
        found: String,
        /// The kind of file.
        format: &'static str,
    },
    /// A rank or element count beyond the limits.
    #[error(
        "shape {shape:?} is too large: expected rank at most {rank} and at most {elements} elements",
        rank = limits::RANK, elements = limits::ELEMENTS
    )]
    TooLarge {
        /// The shape.
        shape: Vec<u64>,
    },
    /// Shape, type and byte range disagree.
    #[error(
        "{dtype} of shape {shape:?} needs {expected} bytes, but its range {begin}..{end} does not hold that"
    )]
    RangeSize {
        /// The element type.
        dtype: DType,
        /// The shape.
        shape: Vec<usize>,
        /// Bytes needed.
        expected: u64,
        /// Start of the range in the data section.
        begin: u64,
        /// End of the range.
        end: u64,
    },
    /// A range beyond the end of the file.
    #[error("range {begin}..{end} leaves the data section of {available} bytes")]
    RangeOutside {
        /// Start of the range in the data section.
        begin: u64,
        /// End of the range.
        end: u64,
        /// Length of the data section.
        available: u64,
    },
    /// Two tensors share bytes.
    #[error("range {begin}..{end} overlaps tensor `{other}`, which ends at {other_end}")]
    Overlap {
        /// Start of the range.
        begin: u64,
        /// End of the range.
        end: u64,
        /// The tensor before it.
        other: String,
        /// Where that one ends.
        other_end: u64,
    },
    /// Bytes between two tensors belong to none.
    #[error("bytes {from}..{begin} before this tensor belong to no tensor")]
    Hole {
        /// First byte of the hole.
        from: u64,
        /// Where the tensor starts.
        begin: u64,
    },
    /// Bytes after the last tensor.
    #[error("{count} bytes after the last tensor belong to no tensor")]
    TrailingBytes {
        /// How many.
        count: u64,
    },
    /// Not JSON.
    #[error("not valid JSON: {detail}")]
    Json {
        /// What the parser said.
        detail: String,
    },
    /// JSON, but not what was expected.
    #[error("expected {expected}, found {found}")]
    JsonShape {
        /// What was expected, and where.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// More JSON values than any real file has.
    #[error("the file holds more than {cap} JSON values", cap = limits::JSON_VALUES.count())]
    JsonValues,
    /// A side file that is too large to be one.
    #[error("the file has {found} bytes, expected at most {cap}", cap = limits::SIDE_FILE_BYTES.get())]
    SideFileSize {
        /// Its size.
        found: u64,
    },
    /// Files that are too large together.
    #[error("the folder's files have {found} bytes together, expected at most {cap}", cap = limits::READ_BYTES.get())]
    FolderSize {
        /// Their sizes together.
        found: u64,
    },
    /// A folder that is nested deeper than any model's.
    #[error("the folder lies deeper than {cap} levels", cap = limits::FOLDER_DEPTH.count())]
    FolderDepth,
    /// More files than any model has.
    #[error("the folder holds more than {cap} files", cap = limits::FOLDER_FILES.count())]
    FolderFiles,
    /// Something was written while its digest was computed.
    #[error("the file was changed, added or removed while the folder was locked")]
    Changed,
    /// Nothing is there.
    #[error("no such file or folder")]
    NotFound,
    /// A file that does not start a checkpoint.
    #[error(
        "not a model: expected a folder, or its `config.json`, `model.safetensors` or `model.safetensors.index.json`"
    )]
    NotAModel,
    /// A file that the folder must have.
    #[error("the folder has no `{name}`")]
    MissingFile {
        /// Its name.
        name: String,
    },
    /// Two sets of weights.
    #[error("the folder has both `model.safetensors` and `model.safetensors.index.json`")]
    AmbiguousWeights,
    /// A path that is not a plain one inside the folder.
    #[error("`{path}` is not a plain path inside the folder")]
    PathName {
        /// The path.
        path: String,
    },
    /// A link that leaves the folder.
    #[error("`{path}` is a link that leaves the folder")]
    PathEscape {
        /// The path.
        path: String,
    },
    /// A device, pipe or folder where a file is expected.
    #[error("not a regular file")]
    NotAFile,
    /// The shard index and the shards disagree.
    #[error(
        "the index and the shards disagree: {missing} of its tensors are not in the shard it names{}, \
         {unlisted} tensors in shards are not in the index{}",
        first(first_missing.as_deref()), first(first_unlisted.as_deref())
    )]
    IndexMismatch {
        /// How many listed tensors are not where the index says.
        missing: usize,
        /// The first of them, as `tensor in shard`.
        first_missing: Option<String>,
        /// How many tensors the index does not list.
        unlisted: usize,
        /// The first of them, as `tensor in shard`.
        first_unlisted: Option<String>,
    },
    /// What was written does not read back as it was meant.
    #[error("what was written reads back otherwise, from byte {offset} on")]
    NotAsWritten {
        /// Where in the file.
        offset: u64,
    },
    /// No lock file, though one is required.
    #[error("no `{name}` in the folder, but a lock is required", name = super::lock::FILE_NAME)]
    LockMissing,
    /// A lock file that cannot be understood.
    #[error("the lock file is malformed: {detail}")]
    LockSyntax {
        /// What is wrong.
        detail: String,
    },
    /// A lock file of another version.
    #[error("the lock file has schema version {found}, expected {expected}", expected = super::lock::SCHEMA_VERSION)]
    LockSchema {
        /// The version found.
        found: u64,
    },
    /// A file is not what the lock file says.
    #[error("the file does not match the lock: {detail}")]
    LockMismatch {
        /// Expected and found.
        detail: String,
    },
    /// A folder with nothing to lock.
    #[error("the folder has no file that a lock covers")]
    NothingToLock,
    /// A branch or tag where a commit is expected.
    #[error("revision `{found}` is not pinned: expected the 40 lower-case hex digits of a commit")]
    UnpinnedRevision {
        /// The revision.
        found: String,
    },
    /// A tensor file of unknown kind.
    #[error("unknown kind of tensor file: expected `.safetensors` or `.npz`")]
    TensorFileKind,
    /// An archive that is broken or has what an `.npz` file cannot have.
    #[error("not a usable `.npz` archive: {detail}")]
    Archive {
        /// What is wrong.
        detail: String,
    },
    /// An archive that grows too large.
    #[error("the archive has {found}, expected at most {cap}")]
    ArchiveSize {
        /// What was found, with its unit.
        found: String,
        /// The cap.
        cap: String,
    },
    /// An array with a malformed header.
    #[error("malformed `.npy` header: {detail}")]
    NpyHeader {
        /// What is wrong.
        detail: String,
    },
    /// An existing file that this program did not write.
    #[error("the file exists and was not written by this program")]
    Foreign,
}

/// `, first TEXT`, or nothing.
fn first(text: Option<&str>) -> String {
    text.map(|t| format!(" (first: {t})")).unwrap_or_default()
}

impl Diagnostic for SourceError {
    fn class(&self) -> Class {
        match self {
            SourceError::UnsafeFormat { .. }
            | SourceError::HeaderTruncated { .. }
            | SourceError::HeaderLength { .. }
            | SourceError::HeaderCap { .. }
            | SourceError::HeaderSyntax { .. }
            | SourceError::DuplicateTensor
            | SourceError::DuplicateKey { .. }
            | SourceError::TensorName { .. }
            | SourceError::TooLarge { .. }
            | SourceError::RangeSize { .. }
            | SourceError::RangeOutside { .. }
            | SourceError::Overlap { .. }
            | SourceError::Hole { .. }
            | SourceError::TrailingBytes { .. }
            | SourceError::JsonValues
            | SourceError::SideFileSize { .. }
            | SourceError::FolderSize { .. }
            | SourceError::FolderDepth
            | SourceError::FolderFiles
            | SourceError::PathName { .. }
            | SourceError::PathEscape { .. }
            | SourceError::NotAFile
            | SourceError::LockMissing
            | SourceError::LockMismatch { .. }
            | SourceError::ArchiveSize { .. } => Class::Unsafe,
            SourceError::Dtype { .. } | SourceError::LockSchema { .. } => Class::Unsupported,
            SourceError::UnpinnedRevision { .. }
            | SourceError::TensorFileKind
            | SourceError::Foreign => Class::Usage,
            SourceError::LfsPointer
            | SourceError::Changed
            | SourceError::Json { .. }
            | SourceError::JsonShape { .. }
            | SourceError::NotFound
            | SourceError::NotAModel
            | SourceError::MissingFile { .. }
            | SourceError::AmbiguousWeights
            | SourceError::IndexMismatch { .. }
            | SourceError::LockSyntax { .. }
            | SourceError::NothingToLock
            | SourceError::Archive { .. }
            | SourceError::NotAsWritten { .. }
            | SourceError::NpyHeader { .. } => Class::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            SourceError::UnsafeFormat { .. } => "unsafe_format",
            SourceError::LfsPointer => "lfs_pointer",
            SourceError::HeaderTruncated { .. }
            | SourceError::HeaderLength { .. }
            | SourceError::HeaderCap { .. }
            | SourceError::HeaderSyntax { .. }
            | SourceError::TensorName { .. } => "bad_header",
            SourceError::DuplicateTensor | SourceError::DuplicateKey { .. } => "duplicate_key",
            SourceError::Dtype { .. } => "unsupported_dtype",
            SourceError::TooLarge { .. }
            | SourceError::RangeSize { .. }
            | SourceError::RangeOutside { .. }
            | SourceError::Overlap { .. }
            | SourceError::Hole { .. }
            | SourceError::TrailingBytes { .. } => "bad_tensor_range",
            SourceError::Json { .. }
            | SourceError::JsonShape { .. }
            | SourceError::JsonValues
            | SourceError::SideFileSize { .. } => "bad_json",
            SourceError::FolderSize { .. }
            | SourceError::FolderDepth
            | SourceError::FolderFiles => "too_large",
            SourceError::Changed => "input_changed",
            SourceError::NotFound => "not_found",
            SourceError::NotAModel => "not_a_model",
            SourceError::MissingFile { .. } => "missing_file",
            SourceError::AmbiguousWeights => "ambiguous_weights",
            SourceError::PathName { .. }
            | SourceError::PathEscape { .. }
            | SourceError::NotAFile => "path_escape",
            SourceError::IndexMismatch { .. } => "index_mismatch",
            SourceError::LockMissing => "lock_missing",
            SourceError::LockSyntax { .. }
            | SourceError::LockSchema { .. }
            | SourceError::NothingToLock => "bad_lock",
            SourceError::LockMismatch { .. } => "lock_mismatch",
            SourceError::UnpinnedRevision { .. } => "unpinned_revision",
            SourceError::TensorFileKind
            | SourceError::Archive { .. }
            | SourceError::ArchiveSize { .. }
            | SourceError::NpyHeader { .. } => "bad_tensor_file",
            SourceError::Foreign => "output_exists",
            SourceError::NotAsWritten { .. } => "not_as_written",
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            SourceError::HeaderCap { .. } => return Some(limits::HEADER_BYTES.hint()),
            SourceError::JsonValues => return Some(limits::JSON_VALUES.hint()),
            SourceError::SideFileSize { .. } => return Some(limits::SIDE_FILE_BYTES.hint()),
            SourceError::FolderSize { .. } => return Some(limits::READ_BYTES.hint()),
            SourceError::FolderDepth => return Some(limits::FOLDER_DEPTH.hint()),
            SourceError::FolderFiles => return Some(limits::FOLDER_FILES.hint()),
            SourceError::Changed => "lock the folder when nobody writes to it",
            SourceError::UnsafeFormat { .. } => {
                "a PyTorch checkpoint is read as data where it is named as what it is: `distill-convert import CHECKPOINT -o FOLDER`; \
                 nothing else may be a pickle"
            }
            SourceError::LfsPointer => "fetch the weights with `git lfs pull`",
            SourceError::HeaderTruncated { .. }
            | SourceError::HeaderLength { .. }
            | SourceError::RangeOutside { .. } => {
                "the file is damaged or incomplete: download it again"
            }
            SourceError::Dtype { .. } => {
                "store the tensor as one of F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, U64, U32, U16, U8, BOOL \
                 (`.npz` files: without BF16 and F8)"
            }
            SourceError::NotAModel | SourceError::NotFound | SourceError::MissingFile { .. } => {
                "a model is a folder with `config.json` and `model.safetensors` (or shards with `model.safetensors.index.json`)"
            }
            SourceError::AmbiguousWeights => {
                "name the one to use as MODEL, for example `FOLDER/model.safetensors`"
            }
            SourceError::PathEscape { .. } => "copy the files into one folder",
            SourceError::PathName { .. } => {
                "shards and side files lie beside `config.json` and are named without folders"
            }
            SourceError::IndexMismatch { .. } => {
                "the shards and the index come from different versions: download them together"
            }
            SourceError::ArchiveSize { .. } => {
                "if you trust the file, raise the cap: `distill-convert doctor` lists the flags"
            }
            SourceError::LockMissing => "write one with `distill-convert lock MODEL`",
            SourceError::LockMismatch { .. } => {
                "if the change is meant, write a new lock with `distill-convert lock MODEL`"
            }
            SourceError::UnpinnedRevision { .. } => {
                "name the commit instead of the branch or tag: `git ls-remote URL BRANCH` shows it"
            }
            SourceError::NotAsWritten { .. } => {
                "the disk or its driver is at fault: write to another one"
            }
            SourceError::Foreign => "choose another path, or remove the file",
            SourceError::HeaderSyntax { .. }
            | SourceError::DuplicateTensor
            | SourceError::DuplicateKey { .. }
            | SourceError::TensorName { .. }
            | SourceError::TooLarge { .. }
            | SourceError::RangeSize { .. }
            | SourceError::Overlap { .. }
            | SourceError::Hole { .. }
            | SourceError::TrailingBytes { .. } => {
                "write the file again with a current version of the `safetensors` library"
            }
            SourceError::Json { .. }
            | SourceError::JsonShape { .. }
            | SourceError::NotAFile
            | SourceError::LockSyntax { .. }
            | SourceError::LockSchema { .. }
            | SourceError::NothingToLock
            | SourceError::TensorFileKind
            | SourceError::Archive { .. }
            | SourceError::NpyHeader { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
