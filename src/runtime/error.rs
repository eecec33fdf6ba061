//! What can go wrong when a model is run.

use std::path::PathBuf;

use crate::error::{Class, Diagnostic};

/// What can go wrong when a model is run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// An input that was not given.
    #[error("input `{name}` is missing")]
    MissingInput {
        /// The input.
        name: String,
    },
    /// An input that the model does not have.
    #[error("the model has no input `{name}`; its inputs are {known}")]
    UnknownInput {
        /// What was given.
        name: String,
        /// What there is.
        known: String,
    },
    /// An input of a type that cannot become the model's without changing its meaning.
    #[error("input `{name}` has the type {found}, expected {expected}")]
    InputType {
        /// The input.
        name: String,
        /// What the model declares.
        expected: String,
        /// What was given.
        found: String,
    },
    /// An input or output of a type that this crate does not have.
    #[error("`{name}` has the type {found}, which is not supported")]
    ValueType {
        /// The input or output.
        name: String,
        /// The engine's name of the type.
        found: String,
    },
    /// The engine refused the model or failed in it.
    #[error("{engine} cannot {action}: {reason}")]
    Engine {
        /// The engine.
        engine: &'static str,
        /// What was tried.
        action: &'static str,
        /// What the engine said.
        reason: String,
    },
    /// No shared library of ONNX Runtime.
    #[error("no ONNX Runtime library found; looked in {searched}")]
    NoLibrary {
        /// Where it was looked for.
        searched: String,
    },
    /// A shared library that is not a usable ONNX Runtime.
    #[error("`{path}` is not a usable ONNX Runtime: {reason}")]
    Library {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Diagnostic for RuntimeError {
    fn class(&self) -> Class {
        match self {
            RuntimeError::MissingInput { .. }
            | RuntimeError::UnknownInput { .. }
            | RuntimeError::InputType { .. } => Class::Invalid,
            RuntimeError::ValueType { .. }
            | RuntimeError::Engine { .. }
            | RuntimeError::NoLibrary { .. }
            | RuntimeError::Library { .. } => Class::Unsupported,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            RuntimeError::MissingInput { .. } => "missing_input",
            RuntimeError::UnknownInput { .. } => "unknown_input",
            RuntimeError::InputType { .. } => "input_type",
            RuntimeError::ValueType { .. } => "value_type",
            RuntimeError::Engine { .. } => "engine",
            RuntimeError::NoLibrary { .. } => "no_onnxruntime",
            RuntimeError::Library { .. } => "bad_onnxruntime",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            RuntimeError::NoLibrary { .. } | RuntimeError::Library { .. } => Some(
                "pass `--onnxruntime PATH`, or set `ORT_DYLIB_PATH`; the wheel `onnxruntime` of PyPI holds the library as `onnxruntime/capi/libonnxruntime.so.*`"
                    .into(),
            ),
            RuntimeError::InputType { .. } => Some("`inspect` shows the types of a model's inputs".into()),
            RuntimeError::MissingInput { .. }
            | RuntimeError::UnknownInput { .. }
            | RuntimeError::ValueType { .. }
            | RuntimeError::Engine { .. } => None,
        }
    }
}
