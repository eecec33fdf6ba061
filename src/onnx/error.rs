//! What can go wrong with ONNX files and with what they can express.

use crate::error::{Class, Diagnostic};
use crate::tensor::DType;

/// What can be wrong with an ONNX file, or with a module that is to become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// An opset outside the supported range.
    #[error("opset {found} is not supported, expected {min} to {max}")]
    Opset {
        /// What was asked for.
        found: i64,
        /// Oldest.
        min: i64,
        /// Newest.
        max: i64,
    },
    /// An element type that ONNX does not have, or only in a later opset.
    #[error("ONNX opset {opset} has no element type for `{dtype}`")]
    DType {
        /// The element type.
        dtype: DType,
        /// The opset.
        opset: i64,
    },
    /// A form of an operation that ONNX has no words for.
    #[error("this `{op}` cannot be written to ONNX: {reason}")]
    NotSaid {
        /// The operation.
        op: &'static str,
        /// What is in the way.
        reason: &'static str,
    },
    /// An operation that ONNX only has in a later opset.
    #[error("`{op}` needs ONNX opset {opset}")]
    NeedsOpset {
        /// The operation.
        op: &'static str,
        /// The first opset that has it.
        opset: i64,
    },
    /// An operation that ONNX defines for other element types only.
    #[error("ONNX `{op_type}` does not take `{dtype}`")]
    OperandType {
        /// The ONNX operator.
        op_type: &'static str,
        /// The element type.
        dtype: DType,
    },
    /// A dimension that no input shows.
    #[error(
        "the dimension `{symbol}` is needed at run time, but no input has it as an axis of its own"
    )]
    HiddenSymbol {
        /// The symbol.
        symbol: String,
    },
    /// More than one function.
    #[error("an ONNX file holds one graph, found {functions} functions")]
    Functions {
        /// How many.
        functions: usize,
    },
    /// An output with the name of an input.
    #[error("the output `{name}` has the name of an input")]
    InterfaceName {
        /// The name.
        name: String,
    },
    /// A file beyond protobuf's limit.
    #[error("the model needs {bytes} bytes, a protobuf file ends at {limit}")]
    TooLarge {
        /// What it needs.
        bytes: u64,
        /// What fits.
        limit: u64,
    },
    /// Bytes that are not the protobuf they should be.
    #[error("not an ONNX model: {reason}")]
    Malformed {
        /// What the parser met.
        reason: String,
    },
    /// A graph that is larger in memory than may be.
    #[error("the graph takes more than {limit} bytes of memory")]
    Messages {
        /// What it may take.
        limit: u64,
    },
    /// Metadata with a key that the file already has.
    #[error("the model already has the metadata key `{key}`")]
    MetadataKey {
        /// The key.
        key: String,
    },
    /// External data outside the model's folder.
    #[error("external data `{location}` leaves the model's folder")]
    ExternalPath {
        /// What the file says.
        location: String,
    },
    /// More external data than may be read.
    #[error("the files of external data have {found} bytes together, the limit is {limit}", limit = crate::limits::READ_BYTES.get())]
    ExternalSize {
        /// Bytes of all files.
        found: u64,
    },
    /// External data that is not there, or not whole.
    #[error("external data `{location}` has {found} bytes, tensor `{tensor}` needs {expected}")]
    ExternalData {
        /// What the file says.
        location: String,
        /// The tensor.
        tensor: String,
        /// End of the tensor's range.
        expected: u64,
        /// Length of the file; 0 if it is missing.
        found: u64,
    },
}

impl Diagnostic for OnnxError {
    fn class(&self) -> Class {
        match self {
            OnnxError::Opset { .. }
            | OnnxError::DType { .. }
            | OnnxError::OperandType { .. }
            | OnnxError::NotSaid { .. }
            | OnnxError::NeedsOpset { .. }
            | OnnxError::HiddenSymbol { .. }
            | OnnxError::Functions { .. }
            | OnnxError::TooLarge { .. } => Class::Unsupported,
            OnnxError::InterfaceName { .. }
            | OnnxError::Malformed { .. }
            | OnnxError::Messages { .. }
            | OnnxError::MetadataKey { .. }
            | OnnxError::ExternalData { .. } => Class::Invalid,
            OnnxError::ExternalPath { .. } | OnnxError::ExternalSize { .. } => Class::Unsafe,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            OnnxError::Opset { .. } => "onnx_opset",
            OnnxError::DType { .. } | OnnxError::OperandType { .. } => "onnx_dtype",
            OnnxError::NotSaid { .. } => "onnx_operation",
            OnnxError::NeedsOpset { .. } => "onnx_needs_opset",
            OnnxError::HiddenSymbol { .. } => "onnx_hidden_symbol",
            OnnxError::Functions { .. } => "onnx_functions",
            OnnxError::InterfaceName { .. } => "onnx_interface_name",
            OnnxError::TooLarge { .. } => "onnx_too_large",
            OnnxError::Malformed { .. } => "onnx_malformed",
            OnnxError::Messages { .. } => "onnx_too_many",
            OnnxError::MetadataKey { .. } => "onnx_metadata_key",
            OnnxError::ExternalPath { .. } => "onnx_external_path",
            OnnxError::ExternalData { .. } => "onnx_external_data",
            OnnxError::ExternalSize { .. } => "too_large",
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            OnnxError::Opset { max, .. } => format!("use `--opset` with at most {max}"),
            OnnxError::DType { dtype, .. } => {
                if *dtype == DType::BF16 {
                    "convert with `--precision fp16` or `--precision fp32`".into()
                } else {
                    "cast to a type that ONNX has".into()
                }
            }
            OnnxError::HiddenSymbol { symbol } => {
                format!("fix the size with `--shape`, or give an input the axis `{symbol}`")
            }
            OnnxError::NeedsOpset { opset, .. } => format!("use `--opset {opset}` or later"),
            OnnxError::TooLarge { .. } => "use `--external-data`".into(),
            OnnxError::InterfaceName { .. } => "rename the output".into(),
            OnnxError::ExternalSize { .. } => crate::limits::READ_BYTES.hint(),
            OnnxError::Messages { .. } => crate::limits::MESSAGE_BYTES.hint(),
            OnnxError::ExternalData { .. } => "keep the `.data` file of the model beside it".into(),
            OnnxError::OperandType { .. }
            | OnnxError::NotSaid { .. }
            | OnnxError::Functions { .. }
            | OnnxError::Malformed { .. }
            | OnnxError::MetadataKey { .. }
            | OnnxError::ExternalPath { .. } => return None,
        };
        Some(hint)
    }
}
