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

/// `(x − mean) / √(variance + epsilon) · gamma + beta` per channel (axis 1); operands `x`, `mean`, `variance`, `gamma`, `beta`, vectors but for `x`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f64,
}

impl BatchNorm {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        channels(op, operands)
    }
}

/// `(x − mean) / √(variance + epsilon) · gamma + beta`, mean and (biased) variance over the spatial axes of each sample and channel; operands
/// `x [N, C, s…]`, `gamma [C]`, `beta [C]`.
///
/// # Numerics
/// As [`LayerNorm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceNorm {
    /// Added to the variance.
    pub epsilon: f64,
}

impl InstanceNorm {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        channels(op, operands)
    }
}

/// `x / (k + alpha/size · Σ x²)^beta`, the sum over `size` neighbouring channels (axis 1): ⌊(size − 1)/2⌋ before, the rest after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// Number of channels.
    pub size: usize,
    /// Factor of the mean of squares.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Added to it.
    pub k: f32,
}

impl Lrn {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        channels(op, operands)
    }
}

/// Parameters of one element per channel.
fn channels(op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
    same_dtype(op, operands)?;
    float(op, 0, operands[0])?;
    axis(1, operands[0].rank())?;
    for parameter in &operands[1..] {
        if parameter.rank() != 1 || !parameter.shape[0].may_equal(&operands[0].shape[1]) {
            return Err(shapes(
                op,
                "parameters must have one element per channel",
                operands,
            ));
        }
    }
    Ok(operands[0].clone())
}
