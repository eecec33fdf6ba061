//! What can be wrong with a graph, and what this version does not read.

use crate::error::{Class, Diagnostic};

/// What can be wrong with an ONNX model, or in the way of reading it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxImportError {
    /// An IR version outside the known ones.
    #[error("IR version {found} is not supported, expected 3 to {max}")]
    IrVersion {
        /// The version found.
        found: i64,
        /// Newest.
        max: i64,
    },
    /// An operator set outside the known ones.
    #[error("operator set {found} of `{domain}` is not supported, expected {min} to {max}")]
    OperatorSet {
        /// The domain.
        domain: String,
        /// The version found.
        found: i64,
        /// Oldest.
        min: i64,
        /// Newest.
        max: i64,
    },
    /// Operators that are not read, all of them.
    #[error("unsupported operators: {list}")]
    Operators {
        /// Each with its count, first node, and the reason if there is one.
        list: String,
    },
    /// A model that trains.
    #[error("the model holds a training graph")]
    Training,
    /// A name that nothing defines before its use.
    #[error("`{name}` is not defined before its use")]
    Undefined {
        /// The name.
        name: String,
    },
    /// A name that is defined twice.
    #[error("`{name}` is defined twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A node without something it has to have.
    #[error("`{op}` lacks {what}")]
    Missing {
        /// The operator.
        op: String,
        /// What is missing.
        what: String,
    },
    /// Attributes that nothing read.
    #[error("`{op}` has no attribute `{attribute}` in this operator set")]
    UnreadAttribute {
        /// The operator.
        op: String,
        /// The attribute.
        attribute: String,
    },
    /// Inputs that nothing read.
    #[error("`{op}` takes no input {index} here")]
    UnreadInput {
        /// The operator.
        op: String,
        /// Index of the input.
        index: usize,
    },
    /// An attribute or input with a value that it cannot have.
    #[error("`{op}`: `{what}` must be {expected}, found {found}")]
    Wrong {
        /// The operator.
        op: String,
        /// The attribute or input.
        what: String,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Something legal that is not read.
    #[error("`{op}`: {what} is not supported")]
    Unsupported {
        /// The operator.
        op: String,
        /// What.
        what: String,
    },
    /// A value that has to be known at conversion.
    #[error(
        "`{op}`: input {index} (`{name}`) must be known when the model is converted, found {found}"
    )]
    NotConstant {
        /// The operator.
        op: String,
        /// Index of the input.
        index: usize,
        /// Its name in the model.
        name: String,
        /// What it is.
        found: String,
    },
    /// A number of results that the operator does not have.
    #[error("`{op}` gives {expected} results here, the node names {found}")]
    Results {
        /// The operator.
        op: String,
        /// How many there are.
        expected: usize,
        /// How many the node names.
        found: usize,
    },
    /// A declared type that contradicts the inferred one.
    #[error("declared type {declared} contradicts the inferred type {inferred}")]
    Declared {
        /// What the file says.
        declared: String,
        /// What follows from the operands.
        inferred: String,
        /// Whether it is only the shape of a value inside the graph, which runtimes do not go by.
        stale: bool,
    },
    /// An interface entry that is not a tensor, or of an element type that nothing can compute with.
    #[error("{what} of type {found} is not supported")]
    Interface {
        /// What it is.
        what: &'static str,
        /// Its type.
        found: String,
    },
    /// A tensor that contradicts itself.
    #[error("malformed tensor: {reason}")]
    Tensor {
        /// Why.
        reason: String,
    },
    /// A tensor of an element type that nothing can compute with.
    #[error("tensors of type {found} are not supported")]
    ElementType {
        /// The type.
        found: String,
    },
    /// More of something than can be sensible.
    #[error("{found} {what}, at most {limit} are accepted")]
    TooMany {
        /// What.
        what: &'static str,
        /// The limit.
        limit: String,
        /// How many.
        found: usize,
    },
    /// A size option for something that the model does not have, or that contradicts it.
    #[error("`{option}` does not fit the model: {reason}")]
    Option {
        /// The option as given.
        option: String,
        /// Why.
        reason: String,
    },
    /// Something that cannot be read where sizes vary, and can where they do not.
    #[error("{reason}")]
    Varies {
        /// What cannot be read.
        reason: String,
        /// The class of that.
        class: Class,
        /// The code of that.
        code: &'static str,
        /// Flags that fix the sizes.
        flags: String,
    },
    /// Sizes that are left open where the target needs them.
    #[error("sizes are left open: {list}")]
    Open {
        /// Each with the input and axis that shows it.
        list: String,
        /// Flags that close them.
        flags: String,
    },
}

impl Diagnostic for OnnxImportError {
    fn class(&self) -> Class {
        match self {
            OnnxImportError::IrVersion { .. }
            | OnnxImportError::OperatorSet { .. }
            | OnnxImportError::Operators { .. }
            | OnnxImportError::Training
            | OnnxImportError::Unsupported { .. }
            | OnnxImportError::NotConstant { .. }
            | OnnxImportError::Interface { .. }
            | OnnxImportError::ElementType { .. } => Class::Unsupported,
            OnnxImportError::Undefined { .. }
            | OnnxImportError::Duplicate { .. }
            | OnnxImportError::Missing { .. }
            | OnnxImportError::UnreadAttribute { .. }
            | OnnxImportError::UnreadInput { .. }
            | OnnxImportError::Wrong { .. }
            | OnnxImportError::Results { .. }
            | OnnxImportError::Declared { .. }
            | OnnxImportError::Tensor { .. }
            | OnnxImportError::TooMany { .. } => Class::Invalid,
            OnnxImportError::Varies { class, .. } => *class,
            OnnxImportError::Option { .. } | OnnxImportError::Open { .. } => Class::Usage,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            OnnxImportError::IrVersion { .. } => "onnx_ir_version",
            OnnxImportError::OperatorSet { .. } => "onnx_operator_set",
            OnnxImportError::Operators { .. } => "onnx_operators",
            OnnxImportError::Training => "onnx_training",
            OnnxImportError::Undefined { .. } => "onnx_undefined",
            OnnxImportError::Duplicate { .. } => "onnx_duplicate",
            OnnxImportError::Missing { .. } => "onnx_missing",
            OnnxImportError::UnreadAttribute { .. } => "onnx_unread_attribute",
            OnnxImportError::UnreadInput { .. } => "onnx_unread_input",
            OnnxImportError::Wrong { .. } => "onnx_wrong_value",
            OnnxImportError::Unsupported { .. } => "onnx_unsupported",
            OnnxImportError::NotConstant { .. } => "onnx_not_constant",
            OnnxImportError::Results { .. } => "onnx_results",
            OnnxImportError::Declared { .. } => "onnx_declared_type",
            OnnxImportError::Interface { .. } => "onnx_interface_type",
            OnnxImportError::Tensor { .. } => "onnx_tensor",
            OnnxImportError::ElementType { .. } => "onnx_element_type",
            OnnxImportError::TooMany { .. } => "onnx_too_many",
            OnnxImportError::Option { .. } => "onnx_size_option",
            OnnxImportError::Varies { code, .. } => code,
            OnnxImportError::Open { .. } => "onnx_open_sizes",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            OnnxImportError::OperatorSet { .. } => {
                "convert the model with `onnx.version_converter`".into()
            }
            OnnxImportError::NotConstant { .. } => {
                "if it follows from a size, fix that with `--dim` or `--shape`; if it is an input, give its value with `--constant NAME=VALUE`"
                    .into()
            }
            OnnxImportError::Declared { stale: true, .. } => {
                "runtimes go by what the operators give; `--allow-stale-shapes` does so too".into()
            }
            OnnxImportError::Open { flags, .. } => format!("for example {flags}"),
            OnnxImportError::Varies { flags, .. } => {
                format!("with fixed sizes it can be converted, for example `{flags}`")
            }
            OnnxImportError::Option { .. } => {
                "`distill-convert inspect MODEL` lists the inputs and their sizes".into()
            }
            OnnxImportError::IrVersion { .. }
            | OnnxImportError::Operators { .. }
            | OnnxImportError::Training
            | OnnxImportError::Undefined { .. }
            | OnnxImportError::Duplicate { .. }
            | OnnxImportError::Missing { .. }
            | OnnxImportError::UnreadAttribute { .. }
            | OnnxImportError::UnreadInput { .. }
            | OnnxImportError::Wrong { .. }
            | OnnxImportError::Unsupported { .. }
            | OnnxImportError::Results { .. }
            | OnnxImportError::Declared { .. }
            | OnnxImportError::Interface { .. }
            | OnnxImportError::Tensor { .. }
            | OnnxImportError::ElementType { .. }
            | OnnxImportError::TooMany { .. } => return None,
        })
    }
}
