//! Quantisation: integers that stand for floats by an affine map.

use super::{float, shapes};
use crate::error::Result;
use crate::ir::constant::{Affine, Compression, Constant};
use crate::ir::dim::Dim;
use crate::ir::types::{IrError, Type};
use crate::tensor::DType;

/// Which elements share a scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// All of them; scale and zero point have rank 0 or one element.
    Tensor,
    /// Those with the same index along an axis; scale and zero point are vectors.
    Axis(usize),
    /// Those in the same block; scale and zero point have the tensor's rank, and each of their sizes divides its.
    Block,
}

/// `clamp(round(x / scale) + zero)`, halves to even; operands `x`, `scale` and optionally `zero` (of the result's type).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantize {
    /// Which elements share a scale.
    pub granularity: Granularity,
    /// An integer type.
    pub to: DType,
}

impl Quantize {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        float(op, 0, operands[0])?;
        let out = Type::new(self.to, operands[0].shape.clone());
        super::int(op, 2, &out)?;
        check(op, &self.granularity, &out, operands)?;
        Ok(out)
    }
}

/// `(q − zero) · scale`; operands `q` (integers), `scale` and optionally `zero` (of the type of `q`). The result has the scale's type.
///
/// # Numerics
/// The difference is exact; one rounding, at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dequantize {
    /// Which elements share a scale.
    pub granularity: Granularity,
}

impl Dequantize {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        super::int(op, 0, operands[0])?;
        check(op, &self.granularity, operands[0], operands)?;
        Ok(Type::new(operands[1].dtype, operands[0].shape.clone()))
    }

    /// What the operation gives on these constants, as a constant that is stored the way they are; none for integers that single precision
    /// does not hold exactly.
    ///
    /// # Errors
    /// When they do not fit each other.
    pub fn constant(&self, name: &str, parts: &[&Constant]) -> Result<Option<Constant>> {
        let [data, scale, zero @ ..] = parts else {
            return Ok(None);
        };
        if data.dtype().bits() > 16 || !matches!(scale.dtype(), DType::F16 | DType::F32) {
            return Ok(None);
        }
        let rank = data.shape().len();
        let shape = match self.granularity {
            Granularity::Tensor => vec![1; rank],
            Granularity::Axis(axis) => (0..rank)
                .map(|a| if a == axis { scale.len() } else { 1 })
                .collect(),
            Granularity::Block => scale.shape().to_vec(),
        };
        let zero = zero.first().map(|zero| zero.reshape(shape.clone()));
        let affine = Affine {
            scale: scale.reshape(shape)?,
            offset: zero.transpose()?,
        };
        let mut form = Compression::of((*data).clone());
        form.affine = Some(affine);
        Constant::compressed(name, form).map(Some)
    }
}

fn check(
    op: &'static str,
    granularity: &Granularity,
    quantized: &Type,
    operands: &[&Type],
) -> Result<(), IrError> {
    let scale = operands[1];
    float(op, 1, scale)?;
    if let Some(zero) = operands.get(2) {
        if zero.dtype != quantized.dtype {
            return Err(super::operand_type(op, 2, quantized.dtype.name(), zero));
        }
        if zero.shape != scale.shape {
            return Err(shapes(op, "scale and zero point differ in shape", operands));
        }
    }
    let fits = match granularity {
        Granularity::Tensor => scale.shape.iter().all(|d| d.integer() == Some(1)),
        Granularity::Axis(axis) => {
            *axis < quantized.rank()
                && scale.rank() == 1
                && scale.shape[0].may_equal(&quantized.shape[*axis])
        }
        Granularity::Block => {
            scale.rank() == quantized.rank()
                && scale
                    .shape
                    .iter()
                    .zip(&quantized.shape)
                    .all(|(s, q)| divides(s, q))
        }
    };
    if fits {
        Ok(())
    } else {
        Err(shapes(op, "the scale does not fit the tensor", operands))
    }
}

fn divides(blocks: &Dim, size: &Dim) -> bool {
    match (blocks.known(), size.known()) {
        (Some(b), Some(n)) => b != 0 && n.is_multiple_of(b),
        (_, _) => blocks == size || blocks.integer() == Some(1),
    }
}
