//! Typed element vectors: how tensors cross the border to an engine.

use half::f16;

use super::error::RuntimeError;
use crate::error::Result;
use crate::ir::Type;
use crate::tensor::{DType, Tensor, num};

/// One arm for each type that tensors have in engines: `$each!(variant of Elements, Rust type)`; `$otherwise` for those that only files have.
macro_rules! by_element_type {
    ($dtype:expr, $each:ident, $otherwise:expr) => {
        match $dtype {
            DType::Bool => $each!(Bool, bool),
            DType::I8 => $each!(I8, i8),
            DType::U8 => $each!(U8, u8),
            DType::I16 => $each!(I16, i16),
            DType::U16 => $each!(U16, u16),
            DType::I32 => $each!(I32, i32),
            DType::U32 => $each!(U32, u32),
            DType::I64 => $each!(I64, i64),
            DType::U64 => $each!(U64, u64),
            DType::F16 => $each!(F16, half::f16),
            DType::F32 => $each!(F32, f32),
            DType::F64 => $each!(F64, f64),
            DType::U1
            | DType::U2
            | DType::U3
            | DType::U4
            | DType::U6
            | DType::I4
            | DType::BF16
            | DType::F8E4M3
            | DType::F8E5M2 => $otherwise,
        }
    };
}
pub(super) use by_element_type;

/// The elements of a tensor in their own type.
pub(super) enum Elements {
    Bool(Vec<bool>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    U16(Vec<u16>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    I64(Vec<i64>),
    U64(Vec<u64>),
    F16(Vec<f16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// Integers of a tensor as `T`. They are in range: tensors wrap on construction.
fn narrow<T: TryFrom<i64> + Default>(tensor: &Tensor) -> Result<Vec<T>> {
    Ok(tensor
        .ints()?
        .iter()
        .map(|&x| T::try_from(x).unwrap_or_default())
        .collect())
}

impl Elements {
    /// The elements of `tensor`, which is called `name`.
    pub(super) fn of(name: &str, tensor: &Tensor) -> Result<Self> {
        Ok(match tensor.dtype() {
            DType::Bool => Elements::Bool(tensor.bools()?.to_vec()),
            DType::I8 => Elements::I8(narrow(tensor)?),
            DType::U8 => Elements::U8(narrow(tensor)?),
            DType::I16 => Elements::I16(narrow(tensor)?),
            DType::U16 => Elements::U16(narrow(tensor)?),
            DType::I32 => Elements::I32(narrow(tensor)?),
            DType::U32 => Elements::U32(narrow(tensor)?),
            DType::I64 => Elements::I64(tensor.ints()?.to_vec()),
            DType::U64 => Elements::U64(
                tensor
                    .ints()?
                    .iter()
                    .map(|x| u64::from_le_bytes(x.to_le_bytes()))
                    .collect(),
            ),
            DType::F16 => {
                Elements::F16(tensor.floats()?.iter().map(|&x| f16::from_f32(x)).collect())
            }
            DType::F32 => Elements::F32(tensor.floats()?.to_vec()),
            DType::F64 => Elements::F64(tensor.floats()?.iter().map(|&x| f64::from(x)).collect()),
            DType::U1
            | DType::U2
            | DType::U3
            | DType::U4
            | DType::U6
            | DType::I4
            | DType::BF16
            | DType::F8E4M3
            | DType::F8E5M2 => {
                return Err(RuntimeError::ValueType {
                    name: name.to_owned(),
                    found: tensor.dtype().to_string(),
                }
                .into());
            }
        })
    }

    /// The tensor of this shape.
    pub(super) fn into_tensor(self, shape: Vec<usize>) -> Result<Tensor> {
        fn wide<T: Into<i64>>(v: Vec<T>) -> Vec<i64> {
            v.into_iter().map(Into::into).collect()
        }
        Ok(match self {
            Elements::Bool(v) => Tensor::bool(shape, v),
            Elements::I8(v) => Tensor::int(DType::I8, shape, wide(v)),
            Elements::U8(v) => Tensor::int(DType::U8, shape, wide(v)),
            Elements::I16(v) => Tensor::int(DType::I16, shape, wide(v)),
            Elements::U16(v) => Tensor::int(DType::U16, shape, wide(v)),
            Elements::I32(v) => Tensor::int(DType::I32, shape, wide(v)),
            Elements::U32(v) => Tensor::int(DType::U32, shape, wide(v)),
            Elements::I64(v) => Tensor::i64(shape, v),
            Elements::U64(v) => Tensor::int(
                DType::U64,
                shape,
                v.into_iter()
                    .map(|x| i64::from_le_bytes(x.to_le_bytes()))
                    .collect(),
            ),
            Elements::F16(v) => {
                Tensor::float(DType::F16, shape, v.into_iter().map(f16::to_f32).collect())
            }
            Elements::F32(v) => Tensor::f32(shape, v),
            Elements::F64(v) => Tensor::float(
                DType::F64,
                shape,
                v.into_iter().map(num::f32_of_f64).collect(),
            ),
        }?)
    }
}

/// `tensor` as an input of type `to`: integers must keep their value, floats are rounded, anything else is refused.
pub(super) fn adapt(name: &str, tensor: &Tensor, to: DType) -> Result<Tensor> {
    let from = tensor.dtype();
    let refuse = || RuntimeError::InputType {
        name: name.to_owned(),
        expected: to.to_string(),
        found: Type::known(from, tensor.shape()).to_string(),
    };
    if from == to {
        return Ok(tensor.clone());
    }
    if from.is_float() && to.is_float() {
        return Ok(tensor.cast(to));
    }
    if from.is_int() && to.is_int() {
        let cast = tensor.cast(to);
        if cast.ints()? == tensor.ints()? {
            return Ok(cast);
        }
    }
    Err(refuse().into())
}
