//! Types and values of programs, from ours.

use crate::coreml::dtype::to_mil;
use crate::coreml::error::CoremlError;
use crate::coreml::package::WEIGHT_REFERENCE;
use crate::coreml::proto::mil_spec::dimension::{ConstantDimension, UnknownDimension};
use crate::coreml::proto::mil_spec::tensor_value::{
    RepeatedBools, RepeatedBytes, RepeatedFloats, RepeatedInts, RepeatedLongInts, RepeatedStrings,
};
use crate::coreml::proto::mil_spec::value::{BlobFileValue, ImmediateValue, immediate_value};
use crate::coreml::proto::mil_spec::{
    DataType, Dimension, NamedValueType, TensorType, TensorValue, Value, ValueType, dimension,
    tensor_value, value, value_type,
};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::{Constant, Dim, Type};
use crate::tensor::{DType, Storage, Tensor, num};

/// From this many elements on, a constant goes to the weight file.
const BLOB_ELEMENTS: usize = 10;

/// The program's form of a type: sizes that are not known are `unknown`.
pub(super) fn value_type(ty: &Type) -> ValueType {
    tensor_type(to_mil(ty.dtype), &ty.shape)
}

fn tensor_type(dtype: DataType, shape: &[Dim]) -> ValueType {
    let dimension = |dim: &Dim| match dim.known() {
        Some(size) => dimension::Dimension::Constant(ConstantDimension {
            size: num::u64_of(size),
        }),
        None => dimension::Dimension::Unknown(UnknownDimension { variadic: false }),
    };
    let dimensions = shape
        .iter()
        .map(|dim| Dimension {
            dimension: Some(dimension(dim)),
        })
        .collect();
    ValueType {
        r#type: Some(value_type::Type::TensorType(TensorType {
            data_type: dtype.into(),
            rank: num::i64_of(shape.len()),
            dimensions,
            attributes: Default::default(),
        })),
    }
}

/// A name with a type.
pub(super) fn named(name: &str, ty: ValueType) -> NamedValueType {
    NamedValueType {
        name: name.to_owned(),
        r#type: Some(ty),
    }
}

fn immediate(ty: ValueType, tensor: tensor_value::Value) -> Value {
    Value {
        doc_string: String::new(),
        r#type: Some(ty),
        value: Some(value::Value::ImmediateValue(ImmediateValue {
            value: Some(immediate_value::Value::Tensor(TensorValue {
                value: Some(tensor),
            })),
        })),
    }
}

/// The type of a scalar.
pub(super) fn scalar_type(dtype: DataType) -> ValueType {
    tensor_type(dtype, &[])
}

/// A wide integer, which only labels are.
pub(super) fn long(n: i64) -> Value {
    immediate(
        scalar_type(DataType::Int64),
        tensor_value::Value::LongInts(RepeatedLongInts { values: vec![n] }),
    )
}

/// A text scalar.
pub(super) fn text(text: &str) -> Value {
    immediate(
        scalar_type(DataType::String),
        tensor_value::Value::Strings(RepeatedStrings {
            values: vec![text.to_owned()],
        }),
    )
}

/// A tensor inside the program. Each element type has the one field that runtimes look into.
pub(super) fn inline(tensor: &Tensor) -> Value {
    let ty = value_type(&Type::known(tensor.dtype(), tensor.shape()));
    let small = matches!(tensor.dtype(), DType::I32 | DType::I16 | DType::U16);
    let value = match tensor.storage() {
        Storage::Bool(v) => tensor_value::Value::Bools(RepeatedBools { values: v.to_vec() }),
        Storage::Float(v) if tensor.dtype() == DType::F32 => {
            tensor_value::Value::Floats(RepeatedFloats { values: v.to_vec() })
        }
        Storage::Int(v) if small => {
            // A 32-bit field holds every value of these types.
            let values = v.iter().map(|&x| i32::try_from(x).unwrap_or(i32::MAX));
            tensor_value::Value::Ints(RepeatedInts {
                values: values.collect(),
            })
        }
        Storage::Float(_) | Storage::Int(_) => tensor_value::Value::Bytes(RepeatedBytes {
            values: tensor.to_le_bytes().into(),
        }),
    };
    immediate(ty, value)
}

/// Integers as `int32`, the widest integer that programs have. Nothing wraps.
///
/// # Errors
/// When one of them does not fit, or there are not as many as the shape says.
pub(in crate::coreml) fn int32(shape: Vec<usize>, values: Vec<i64>) -> Result<Tensor> {
    match values.iter().find(|&&x| i32::try_from(x).is_err()) {
        Some(&value) => Err(CoremlError::IntegerRange { value }.into()),
        None => Ok(Tensor::int(DType::I32, shape, values)?),
    }
}

/// Whether a constant belongs in the weight file.
pub(super) fn goes_to_blob(constant: &Constant, opset: Opset) -> bool {
    constant.len() >= BLOB_ELEMENTS
        && match constant.dtype() {
            DType::F16 | DType::F32 | DType::I8 | DType::U8 => true,
            // Fewer bits occur as parts of compressed weights only, which have them in the file, packed.
            DType::U1 | DType::U2 | DType::U3 | DType::U4 | DType::U6 | DType::I4 => true,
            DType::I16 | DType::U16 | DType::I32 | DType::U32 => opset >= Opset::CoreML8,
            DType::Bool
            | DType::I64
            | DType::U64
            | DType::BF16
            | DType::F8E4M3
            | DType::F8E5M2
            | DType::F64 => false,
        }
}

/// A reference to the weight file.
pub(super) fn blob(ty: &Type, offset: u64) -> Value {
    Value {
        doc_string: String::new(),
        r#type: Some(value_type(ty)),
        value: Some(value::Value::BlobFileValue(BlobFileValue {
            file_name: WEIGHT_REFERENCE.to_owned(),
            offset,
        })),
    }
}
