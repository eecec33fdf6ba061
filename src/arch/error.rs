//! What can be wrong with a config, with a checkpoint as seen by an architecture, and with what was asked of it.

use crate::error::{Class, Diagnostic};
use crate::tensor::DType;

/// Why a checkpoint cannot be turned into a graph.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchError {
    /// No adapter for this kind of model.
    #[error("unknown architecture `{found}`; known: {known}")]
    UnknownArchitecture {
        /// `model_type` or the first of `architectures`.
        found: String,
        /// What there is.
        known: String,
    },
    /// A known kind of model with a head that has no adapter.
    #[error("`{model_type}` models of class `{found}` are not supported; supported: {known}")]
    UnknownClass {
        /// `model_type`.
        model_type: String,
        /// The first of `architectures`.
        found: String,
        /// What there is.
        known: String,
    },
    /// A config key that must be there.
    #[error("the config has no `{key}`, expected {expected}")]
    MissingKey {
        /// The key.
        key: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A config value of the wrong type or outside its range.
    #[error("the config's `{key}` is {found}, expected {expected}")]
    BadValue {
        /// The key.
        key: String,
        /// What it should hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// A config value that asks for something this version does not do.
    #[error("the config's `{key}` is {found}, which is not supported; supported: {supported}")]
    UnsupportedValue {
        /// The key.
        key: String,
        /// What it holds.
        found: String,
        /// What is supported.
        supported: String,
    },
    /// Config keys that nobody read, and that are not known to be harmless.
    #[error("the config has keys that this version does not understand: {keys}")]
    UnusedKeys {
        /// The keys with their values.
        keys: String,
    },
    /// Tensors that are missing, unexpected or misshapen, all of them.
    #[error("the tensors do not fit the config ({} problems):\n{}", problems.len(), list(problems))]
    Tensors {
        /// Every problem.
        problems: Vec<TensorProblem>,
    },
    /// A sequence longer than the model can take.
    #[error("a sequence of {asked} was asked for, but this model takes at most {limit}: {why}")]
    TooLong {
        /// What was asked for.
        asked: usize,
        /// What is possible.
        limit: usize,
        /// Why.
        why: String,
    },
    /// An extent that cannot be.
    #[error("the {axis} extent {found} makes no sense: {reason}")]
    BadExtent {
        /// `batch` or `seq`.
        axis: &'static str,
        /// What was asked for.
        found: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A model whose direction of attention is stated nowhere.
    #[error("neither the config nor the command line says whether attention is causal")]
    AttentionNotStated,
    /// A stated direction of attention that contradicts the model.
    #[error("attention `{asked}` was asked for, but this model is `{stated}`")]
    AttentionContradicted {
        /// What was asked for.
        asked: &'static str,
        /// What the model says.
        stated: &'static str,
    },
    /// A sentence-transformers module of an unknown kind.
    #[error("`modules.json` names `{found}`, which is not supported; supported: {supported}")]
    UnknownModule {
        /// The module's type.
        found: String,
        /// What is supported.
        supported: &'static str,
    },
    /// A side file that is not the JSON it should be.
    #[error("not the expected JSON: {reason}")]
    SideFile {
        /// What is wrong.
        reason: String,
    },
}

/// A tensor that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorProblem {
    /// Not in the checkpoint.
    #[error("`{name}` is missing, expected shape {expected:?}")]
    Missing {
        /// The tensor.
        name: String,
        /// Its shape by the config.
        expected: Vec<usize>,
    },
    /// In the checkpoint with another shape.
    #[error("`{name}` has shape {found:?}, expected {expected:?}")]
    Misshapen {
        /// The tensor.
        name: String,
        /// Its shape by the config.
        expected: Vec<usize>,
        /// Its shape.
        found: Vec<usize>,
    },
    /// In the checkpoint with an element type that weights cannot have.
    #[error("`{name}` holds {found}, expected f32, f16 or bf16")]
    WrongType {
        /// The tensor.
        name: String,
        /// Its element type.
        found: DType,
    },
    /// In the checkpoint, but not in the model.
    #[error("`{name}` {found:?} is unexpected")]
    Unexpected {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
    },
}

/// How many problems a message lists before it only counts.
const LISTED: usize = 40;

fn list(problems: &[TensorProblem]) -> String {
    let mut lines: Vec<String> = problems
        .iter()
        .take(LISTED)
        .map(|p| format!("  {p}"))
        .collect();
    if problems.len() > LISTED {
        lines.push(format!("  … and {} more", problems.len() - LISTED));
    }
    lines.join("\n")
}

impl Diagnostic for ArchError {
    fn class(&self) -> Class {
        match self {
            ArchError::UnknownArchitecture { .. }
            | ArchError::UnknownClass { .. }
            | ArchError::UnsupportedValue { .. }
            | ArchError::UnusedKeys { .. }
            | ArchError::UnknownModule { .. } => Class::Unsupported,
            ArchError::MissingKey { .. }
            | ArchError::BadValue { .. }
            | ArchError::Tensors { .. }
            | ArchError::SideFile { .. } => Class::Invalid,
            ArchError::TooLong { .. }
            | ArchError::BadExtent { .. }
            | ArchError::AttentionNotStated
            | ArchError::AttentionContradicted { .. } => Class::Usage,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            ArchError::UnknownArchitecture { .. } => "unknown_architecture",
            ArchError::UnknownClass { .. } => "unknown_model_class",
            ArchError::MissingKey { .. } => "config_key_missing",
            ArchError::BadValue { .. } => "config_value_invalid",
            ArchError::UnsupportedValue { .. } => "config_value_unsupported",
            ArchError::UnusedKeys { .. } => "config_keys_unused",
            ArchError::Tensors { .. } => "tensors_mismatch",
            ArchError::TooLong { .. } => "sequence_too_long",
            ArchError::BadExtent { .. } => "extent_invalid",
            ArchError::AttentionNotStated => "attention_not_stated",
            ArchError::AttentionContradicted { .. } => "attention_contradicted",
            ArchError::UnknownModule { .. } => "unknown_sentence_module",
            ArchError::SideFile { .. } => "side_file_invalid",
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            ArchError::UnknownArchitecture { .. } => {
                "export the model to ONNX with its own tools and convert that"
            }
            ArchError::UnusedKeys { .. } => {
                "if a key cannot change what the model computes, remove it from the config; otherwise this model is not supported yet"
            }
            ArchError::Tensors { .. } => {
                "the config and the weights belong to different models, or the checkpoint is incomplete"
            }
            ArchError::TooLong { .. } => "ask for a shorter sequence with `--seq`",
            ArchError::AttentionNotStated => {
                "say `--attention causal` or `--attention bidirectional`, or set `attention` in the config: the model computes something different under each"
            }
            ArchError::AttentionContradicted { .. } => "leave `--attention` out",
            ArchError::UnknownClass { .. }
            | ArchError::UnsupportedValue { .. }
            | ArchError::UnknownModule { .. } => {
                "export the model to ONNX with its own tools: this version cannot build it from its config"
            }
            ArchError::MissingKey { .. }
            | ArchError::BadValue { .. }
            | ArchError::SideFile { .. } => {
                "compare the file with the one that was published with the weights"
            }
            ArchError::BadExtent { .. } => "see `--seq` and `--shape`",
        };
        Some(text.to_owned())
    }
}
