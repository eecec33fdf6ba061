//! Data movement that depends on values.

use super::{axis, int, shapes};
use crate::ir::types::{IrError, Type};

/// Slices picked along one axis; operands `data` and `indices` (integers in `0..size`; anything else is an error at run time).
///
/// # Shapes
/// `data [a…, n, b…]`, `indices [i…]` → `[a…, i…, b…]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// The axis of `data`.
    pub axis: usize,
}

impl Gather {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let (data, indices) = (operands[0], operands[1]);
        int(op, 1, indices)?;
        axis(self.axis, data.rank())?;
        let mut shape = data.shape[..self.axis].to_vec();
        shape.extend_from_slice(&indices.shape);
        shape.extend_from_slice(&data.shape[self.axis + 1..]);
        Ok(Type::new(data.dtype, shape))
    }
}

/// `result[…, i, …] = data[…, indices[…, i, …], …]` along one axis; operands `data` and `indices` of equal rank, equal sizes but for the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatherElements {
    /// The axis.
    pub axis: usize,
}

impl GatherElements {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let (data, indices) = (operands[0], operands[1]);
        int(op, 1, indices)?;
        axis(self.axis, data.rank())?;
        let fits = data.rank() == indices.rank()
            && data
                .shape
                .iter()
                .zip(&indices.shape)
                .enumerate()
                .all(|(i, (d, n))| i == self.axis || d == n);
        if !fits {
            return Err(shapes(op, "sizes differ outside the axis", operands));
        }
        Ok(Type::new(data.dtype, indices.shape.clone()))
    }
}
