//! What can be wrong with a PyTorch checkpoint whose pickle is in order.

use crate::error::{Class, Diagnostic};
use crate::limits;

/// Why a checkpoint was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TorchError {
    /// A file of another kind, or of a kind that holds programs.
    #[error(
        "the file is {found}; expected a PyTorch checkpoint: a zip archive with `data.pkl`, or the layout before PyTorch 1.6"
    )]
    Format {
        /// What it is.
        found: String,
    },
    /// An archive that breaks its own rules, or can be read in two ways.
    #[error("the checkpoint is malformed: {detail}")]
    Archive {
        /// What is wrong.
        detail: String,
    },
    /// A member that no checkpoint has.
    #[error("member `{name}` is not part of a checkpoint")]
    Member {
        /// Its name.
        name: String,
    },
    /// A storage that is not in the file, or has another size.
    #[error("storage `{key}` needs {expected} bytes, {found}")]
    StorageSize {
        /// The storage.
        key: String,
        /// Bytes needed.
        expected: u64,
        /// What was found.
        found: String,
    },
    /// Bytes that do not match their checksum.
    #[error("member `{name}` has CRC-32 {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// The member.
        name: String,
        /// As the archive says.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// Big-endian storages.
    #[error("byte order `{found}` is not read, only `little`")]
    ByteOrder {
        /// What the file says.
        found: String,
    },
    /// No dictionary of tensors.
    #[error(
        "the checkpoint holds {found}; expected a dictionary of tensors, or one under `model_state_dict`, `state_dict` or `model`"
    )]
    NoState {
        /// What it holds.
        found: String,
    },
    /// Several dictionaries of tensors.
    #[error("the checkpoint holds several models: {}", keys.join(", "))]
    Ambiguous {
        /// Their keys.
        keys: Vec<String>,
    },
    /// Something in the dictionary of tensors that is not a tensor.
    #[error("entry `{key}` of the model's state is {found}, not a tensor")]
    NotTensor {
        /// The key.
        key: String,
        /// What it is.
        found: &'static str,
    },
    /// Two tensors that have one name once wrappers are taken off.
    #[error("without the prefixes of wrappers, two tensors are named `{name}`")]
    Collision {
        /// The name.
        name: String,
    },
    /// Tensors that repeat bytes of their storages beyond all measure.
    #[error("the tensors repeat {bytes} bytes of their storages, which have {stored}; expected at most as many, or {cap}", cap = limits::REPEATED_BYTES)]
    Expanded {
        /// How many more bytes the tensors have than the storages.
        bytes: u64,
        /// Bytes of the storages.
        stored: u64,
    },
    /// More tensors than any checkpoint has.
    #[error("the checkpoint holds {found} tensors, expected at most {cap}", cap = limits::TENSORS)]
    TooMany {
        /// How many.
        found: usize,
    },
    /// A config that is not plain data.
    #[error("`{path}` of the checkpoint is {found}, which no JSON file can hold")]
    Config {
        /// Where.
        path: String,
        /// What stands there.
        found: &'static str,
    },
    /// Two configs that differ.
    #[error("the checkpoint holds a `config`, and `config.json` beside it says something else")]
    TwoConfigs,
    /// No config at all.
    #[error("there is no `config.json` beside the checkpoint, and no `config` in it")]
    NoConfig,
    /// Several checkpoints in one folder.
    #[error("the folder has several checkpoints: {}", names.join(", "))]
    Several {
        /// Their names.
        names: Vec<String>,
    },
}

impl Diagnostic for TorchError {
    fn class(&self) -> Class {
        match self {
            TorchError::Format { .. }
            | TorchError::Archive { .. }
            | TorchError::Member { .. }
            | TorchError::StorageSize { .. }
            | TorchError::Checksum { .. }
            | TorchError::Expanded { .. }
            | TorchError::TooMany { .. } => Class::Unsafe,
            TorchError::ByteOrder { .. } => Class::Unsupported,
            TorchError::NoState { .. }
            | TorchError::NotTensor { .. }
            | TorchError::Collision { .. }
            | TorchError::NoConfig
            | TorchError::Config { .. } => Class::Invalid,
            TorchError::Ambiguous { .. } | TorchError::TwoConfigs | TorchError::Several { .. } => {
                Class::Usage
            }
        }
    }

    fn code(&self) -> &'static str {
        match self {
            TorchError::Format { .. } => "unsafe_format",
            TorchError::Archive { .. } | TorchError::Member { .. } => "bad_archive",
            TorchError::StorageSize { .. } | TorchError::Expanded { .. } => "bad_tensor_range",
            TorchError::Checksum { .. } => "checksum_mismatch",
            TorchError::ByteOrder { .. } => "unsupported_byte_order",
            TorchError::NoState { .. }
            | TorchError::NotTensor { .. }
            | TorchError::Collision { .. }
            | TorchError::TooMany { .. } => "bad_state_dict",
            TorchError::Ambiguous { .. } | TorchError::Several { .. } => "ambiguous_weights",
            TorchError::Config { .. } | TorchError::TwoConfigs => "bad_config",
            TorchError::NoConfig => "missing_file",
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            TorchError::Format { .. } | TorchError::Member { .. } => {
                "checkpoints are read as data and never executed; save the tensors alone, with \
                 `torch.save(model.state_dict(), FILE)` or `safetensors.torch.save_file` in Python"
            }
            TorchError::Archive { .. }
            | TorchError::StorageSize { .. }
            | TorchError::Checksum { .. } => {
                "the file is damaged or was not written by PyTorch: download or save it again"
            }
            TorchError::Expanded { .. } => return Some(limits::REPEATED_BYTES.hint()),
            TorchError::TooMany { .. } => return Some(limits::TENSORS.hint()),
            TorchError::ByteOrder { .. } => {
                "save the checkpoint again with a current version of PyTorch"
            }
            TorchError::NoState { .. }
            | TorchError::NotTensor { .. }
            | TorchError::Ambiguous { .. }
            | TorchError::Collision { .. } => {
                "save the tensors of one model alone: `torch.save(model.state_dict(), FILE)`"
            }
            TorchError::Config { .. } | TorchError::TwoConfigs | TorchError::NoConfig => {
                "say which config is meant: `distill-convert import CHECKPOINT -o FOLDER --config FILE`, then convert FOLDER"
            }
            TorchError::Several { .. } => {
                "name the one to read as MODEL, for example `FOLDER/pytorch_model.bin`"
            }
        };
        Some(hint.to_owned())
    }
}
