//! Normalisation.

use super::{axis, float, same_dtype, shapes};
use crate::ir::types::{IrError, Type};

/// `(x − mean) / √(variance + epsilon) · gamma + beta` over the axes `axis..`; operands `x`, optionally `gamma`, then `beta`.
///
/// # Numerics
/// Mean and (biased) variance accumulate in `f32`; one rounding, at the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// First normalised axis.
    pub axis: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

impl LayerNorm {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        infer(op, self.axis, operands)
    }
}

/// `x / √(mean(x²) + epsilon) · gamma` over the axes `axis..`; operands `x` and optionally `gamma`.
///
/// # Numerics
/// The mean of squares accumulates in `f32`; one rounding, at the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsNorm {
    /// First normalised axis.
    pub axis: usize,
    /// Added to the mean of squares.
    pub epsilon: f64,
}

impl RmsNorm {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        infer(op, self.axis, operands)
    }
}

fn infer(op: &'static str, first: usize, operands: &[&Type]) -> Result<Type, IrError> {
    same_dtype(op, operands)?;
    float(op, 0, operands[0])?;
    axis(first, operands[0].rank())?;
    for parameter in &operands[1..] {
        if parameter.shape != operands[0].shape[first..] {
            return Err(shapes(
                op,
                "parameters must have the shape of the normalised axes",
                operands,
            ));
        }
    }
    Ok(operands[0].clone())
}
