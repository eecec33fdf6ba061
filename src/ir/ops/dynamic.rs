//! Operations whose result has a size that only their operands' values tell. The payload says the shape of the result; the sizes in it that
//! are not known are run-time sizes, see [`crate::ir::Builder::run_time_size`], and the run gives them their values.

use super::{axis, int, same_dtype, shapes};
use crate::ir::dim::Dim;
use crate::ir::types::{IrError, Shape, Type};
use crate::tensor::DType;

/// A dimension as an integer of rank 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// An integer type.
    pub dtype: DType,
    /// The dimension.
    pub dim: Dim,
}

impl Size {
    pub(crate) fn infer(&self, op: &'static str, _: &[&Type]) -> Result<Type, IrError> {
        let ty = Type::new(self.dtype, Vec::new());
        int(op, 0, &ty)?;
        Ok(ty)
    }
}

/// Same elements, another shape; operands `x` and the shape (a vector of integers). One of its numbers may be −1: what is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReshapeTo {
    /// The shape of the result.
    pub shape: Shape,
    /// A 0 in the operand means the size of the same axis of `x`.
    pub zero_copies: bool,
}

impl ReshapeTo {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        vector(op, 1, self.shape.len(), operands)?;
        Ok(Type::new(operands[0].dtype, self.shape.clone()))
    }
}

/// Broadcast of `x` with a shape (NumPy's rule, both ways); operands `x` and the shape (a vector of integers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpandTo {
    /// The shape of the result.
    pub shape: Shape,
}

impl ExpandTo {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let (x, shape) = (operands[0], operands[1]);
        int(op, 1, shape)?;
        let length = shape.shape.first().and_then(Dim::known);
        if shape.rank() != 1 || length.is_none_or(|n| n.max(x.rank()) != self.shape.len()) {
            return Err(shapes(
                op,
                "the shape must be a vector of known length",
                operands,
            ));
        }
        Ok(Type::new(x.dtype, self.shape.clone()))
    }
}

/// Copies side by side; operands `x` and how many along each axis (a vector of integers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileBy {
    /// The shape of the result.
    pub shape: Shape,
}

impl TileBy {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        vector(op, 1, self.shape.len(), operands)?;
        if operands[0].rank() != self.shape.len() {
            return Err(shapes(op, "the rank does not change", operands));
        }
        Ok(Type::new(operands[0].dtype, self.shape.clone()))
    }
}

/// Part of a tensor; operands `x`, `starts` and `ends` (vectors of integers, one per named axis). Negative indices count from the end, and indices
/// beyond the axis are clamped. A negative step walks backwards from `start` to just above `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceBy {
    /// The axes, without repetition.
    pub axes: Vec<usize>,
    /// Distance, not 0, per axis.
    pub steps: Vec<i64>,
    /// The shape of the result.
    pub shape: Shape,
}

impl SliceBy {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        vector(op, 1, self.axes.len(), operands)?;
        vector(op, 2, self.axes.len(), operands)?;
        let x = operands[0];
        for (i, &a) in self.axes.iter().enumerate() {
            axis(a, x.rank())?;
            if self.axes[..i].contains(&a) {
                return Err(shapes(op, "every axis must be named once", operands));
            }
        }
        if self.steps.len() != self.axes.len()
            || self.steps.contains(&0)
            || self.shape.len() != x.rank()
        {
            return Err(shapes(op, "one step that is not 0 per axis", operands));
        }
        Ok(Type::new(x.dtype, self.shape.clone()))
    }
}

/// More elements at the ends of the axes; operands `x`, how many (a vector of integers, first before every axis, then after) and optionally the
/// value. Negative numbers take elements away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PadBy {
    /// What the new elements are.
    pub mode: super::PadMode,
    /// The shape of the result.
    pub shape: Shape,
}

impl PadBy {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let x = operands[0];
        vector(op, 1, 2 * x.rank(), operands)?;
        if self.shape.len() != x.rank() {
            return Err(shapes(op, "the rank does not change", operands));
        }
        if let Some(value) = operands.get(2) {
            same_dtype(op, &[x, value])?;
        }
        Ok(Type::new(x.dtype, self.shape.clone()))
    }
}

/// `start, start + delta, …`, before `limit`; operands `start`, `limit` and `delta` (numbers of one type, one element each).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeBy {
    /// The number of elements.
    pub len: Dim,
}

impl RangeBy {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        same_dtype(op, operands)?;
        if operands[0].dtype == DType::Bool {
            return Err(super::operand_type(op, 0, "a number", operands[0]));
        }
        if operands
            .iter()
            .any(|t| t.shape.iter().any(|d| d.integer() != Some(1)))
        {
            return Err(shapes(
                op,
                "start, limit and delta must have one element",
                operands,
            ));
        }
        Ok(Type::new(operands[0].dtype, vec![self.len.clone()]))
    }
}

/// The places of the elements that are not 0 (or true), in row-major order.
///
/// # Shapes
/// `x` of rank r → `[r, count]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonZero {
    /// An integer type.
    pub dtype: DType,
    /// How many there are.
    pub count: Dim,
}

impl NonZero {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let rank = Dim::from(operands[0].rank());
        let ty = Type::new(self.dtype, vec![rank, self.count.clone()]);
        int(op, 0, &ty)?;
        Ok(ty)
    }
}

/// Refuses an operand that is not a vector of `len` integers.
fn vector(op: &'static str, operand: usize, len: usize, operands: &[&Type]) -> Result<(), IrError> {
    let ty = operands[operand];
    int(op, operand, ty)?;
    if ty.rank() == 1 && ty.shape[0].may_equal(&Dim::from(len)) {
        Ok(())
    } else {
        Err(shapes(op, "the vector does not fit the result", operands))
    }
}
