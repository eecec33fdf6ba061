//! Element types: which ones programs and interfaces have, and what stands for the others.

use crate::coreml::error::CoremlError;
use crate::coreml::target::Opset;
use crate::error::{Context, Result};
use crate::ir::{Constant, Dim, Type, display_shape};
use crate::tensor::DType;

/// Most axes of a tensor.
pub(super) const MAX_RANK: usize = 5;

/// What stands for an element type inside a program: wide and unsigned integers are `int32`, narrow ones too before programs had them, and so are
/// those of less than 8 bits; other floats are single precision.
pub(super) fn legal(dtype: DType, opset: Opset) -> DType {
    match dtype {
        DType::I8 | DType::U8 | DType::I16 | DType::U16 if opset >= Opset::CoreML7 => dtype,
        DType::I64
        | DType::U64
        | DType::U32
        | DType::I32
        | DType::I8
        | DType::U8
        | DType::I16
        | DType::U16
        | DType::U1
        | DType::U2
        | DType::U3
        | DType::U4
        | DType::U6
        | DType::I4 => DType::I32,
        DType::BF16 | DType::F8E4M3 | DType::F8E5M2 | DType::F64 => DType::F32,
        DType::Bool | DType::F16 | DType::F32 => dtype,
    }
}

/// Whether values are of a type that `int32` holds entirely, but has to be wrapped to.
pub(super) fn is_small_int(dtype: DType) -> bool {
    is_int(dtype) && dtype.bits() <= 16
}

/// Whether values are integers.
pub(super) fn is_int(dtype: DType) -> bool {
    !dtype.is_float() && dtype != DType::Bool
}

/// The type of inputs and outputs that stands for a type inside.
pub(super) fn interface_dtype(dtype: DType, opset: Opset) -> DType {
    match dtype {
        DType::F16 if opset < Opset::CoreML6 => DType::F32,
        DType::F16 | DType::F32 => dtype,
        DType::BF16 | DType::F8E4M3 | DType::F8E5M2 | DType::F64 => DType::F32,
        DType::Bool
        | DType::U1
        | DType::U2
        | DType::U3
        | DType::U4
        | DType::U6
        | DType::I4
        | DType::I8
        | DType::U8
        | DType::I16
        | DType::U16
        | DType::I32
        | DType::U32
        | DType::I64
        | DType::U64 => DType::I32,
    }
}

/// The type that stands for a type, if Core ML has one.
pub(super) fn legal_type(ty: &Type, opset: Opset) -> Result<Type, CoremlError> {
    if ty.rank() > MAX_RANK {
        return Err(CoremlError::Rank { found: ty.rank() });
    }
    if ty.shape.contains(&Dim::from(0)) {
        return Err(CoremlError::Empty {
            shape: display_shape(&ty.shape),
        });
    }
    Ok(Type::new(legal(ty.dtype, opset), ty.shape.clone()))
}

/// The constant in the type that stands for its own. Integers are proven to fit.
pub(super) fn legal_constant(constant: &Constant, opset: Opset) -> Result<Constant> {
    let (wide, to) = (constant.dtype(), legal(constant.dtype(), opset));
    if to == wide {
        return Ok(constant.clone());
    }
    if wide.is_float() || wide.bits() <= 16 {
        return Ok(constant.cast(to));
    }
    let width = wide.width();
    let mut beyond = None;
    constant.stream(&mut |bytes| {
        for element in bytes.chunks_exact(width) {
            let mut raw = [0u8; 8];
            raw[..width].copy_from_slice(element);
            let value = i64::from_le_bytes(raw);
            // As `u64` a negative number is one beyond 2^63.
            if beyond.is_none() && i32::try_from(value).is_err() {
                beyond = Some(value);
            }
        }
        Ok(())
    })?;
    match beyond {
        Some(value) => Err(CoremlError::IntegerRange { value }).at_tensor(constant.name()),
        None => Ok(constant.cast(to)),
    }
}
