//! Element types, versions and other tables that reader and writer share.

use super::error::OnnxError;
use super::proto::tensor_proto::DataType;
use crate::tensor::DType;

/// Oldest opset that is written: the first whose reductions take their axes as an input. What came later is composed, or refused by name.
pub const MIN_OPSET: i64 = 13;
/// Newest opset that is written.
pub const MAX_OPSET: i64 = 23;

/// The IR version that goes with an opset: the oldest that has all of its types, so that older runtimes read the file.
pub(crate) fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21.. => 10,
    }
}

/// The ONNX element type of `dtype` under `opset`.
pub(crate) fn data_type(dtype: DType, opset: i64) -> Result<DataType, OnnxError> {
    Ok(match dtype {
        DType::Bool => DataType::Bool,
        DType::I4 if opset >= 21 => DataType::Int4,
        DType::U4 if opset >= 21 => DataType::Uint4,
        DType::I8 => DataType::Int8,
        DType::U8 => DataType::Uint8,
        DType::I16 => DataType::Int16,
        DType::U16 => DataType::Uint16,
        DType::I32 => DataType::Int32,
        DType::U32 => DataType::Uint32,
        DType::I64 => DataType::Int64,
        DType::U64 => DataType::Uint64,
        DType::F16 => DataType::Float16,
        DType::F32 => DataType::Float,
        DType::F64 => DataType::Double,
        DType::BF16
        | DType::F8E4M3
        | DType::F8E5M2
        | DType::U1
        | DType::U2
        | DType::U3
        | DType::U4
        | DType::U6
        | DType::I4 => {
            return Err(OnnxError::DType { dtype, opset });
        }
    })
}

/// Name of an ONNX element type: ours where we have it, else the specification's in lower case.
pub(crate) fn data_type_name(number: i32) -> String {
    match DataType::try_from(number) {
        Ok(DataType::Float) => "f32".into(),
        Ok(DataType::Uint8) => "u8".into(),
        Ok(DataType::Int8) => "i8".into(),
        Ok(DataType::Uint16) => "u16".into(),
        Ok(DataType::Int16) => "i16".into(),
        Ok(DataType::Int32) => "i32".into(),
        Ok(DataType::Int64) => "i64".into(),
        Ok(DataType::Float16) => "f16".into(),
        Ok(DataType::Double) => "f64".into(),
        Ok(DataType::Uint32) => "u32".into(),
        Ok(DataType::Uint64) => "u64".into(),
        Ok(DataType::Bfloat16) => "bf16".into(),
        Ok(DataType::Uint4) => "u4".into(),
        Ok(DataType::Int4) => "i4".into(),
        Ok(other) => other.as_str_name().to_lowercase(),
        Err(_) => format!("data type {number}"),
    }
}

/// Bits of one element of an ONNX element type; `None` for strings and unknown types.
pub(crate) fn data_type_bits(number: i32) -> Option<u64> {
    Some(match DataType::try_from(number).ok()? {
        DataType::Undefined | DataType::String => return None,
        DataType::Uint4 | DataType::Int4 | DataType::Float4e2m1 => 4,
        DataType::Bool
        | DataType::Uint8
        | DataType::Int8
        | DataType::Float8e4m3fn
        | DataType::Float8e4m3fnuz
        | DataType::Float8e5m2
        | DataType::Float8e5m2fnuz
        | DataType::Float8e8m0 => 8,
        DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16 => 16,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 32,
        DataType::Double | DataType::Int64 | DataType::Uint64 | DataType::Complex64 => 64,
        DataType::Complex128 => 128,
    })
}
