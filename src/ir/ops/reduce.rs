//! Operations along axes.

use super::{axis, float, operand_type};
use crate::ir::dim::Dim;
use crate::ir::types::{IrError, Type};
use crate::tensor::DType;

/// Reductions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReduceKind {
    /// Sum.
    Sum,
    /// Arithmetic mean, floats only.
    Mean,
    /// Largest element.
    Max,
    /// Smallest element.
    Min,
    /// √ of the sum of squares, floats only.
    L2,
    /// Product.
    Prod,
    /// ln Σ eˣ, computed after subtracting the maximum; floats only.
    LogSumExp,
}

/// Reduction over axes. Floats accumulate in `f32`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// Which reduction.
    pub kind: ReduceKind,
    /// Axes, ascending, without repetition, at least one.
    pub axes: Vec<usize>,
    /// Whether reduced axes stay, with size 1.
    pub keep_dims: bool,
}

impl Reduce {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let x = operands[0];
        match self.kind {
            ReduceKind::Mean | ReduceKind::L2 | ReduceKind::LogSumExp => float(op, 0, x)?,
            ReduceKind::Sum | ReduceKind::Prod | ReduceKind::Max | ReduceKind::Min => {
                if x.dtype == DType::Bool {
                    return Err(operand_type(op, 0, "a number", x));
                }
            }
        }
        if self.axes.is_empty() || self.axes.windows(2).any(|w| w[0] >= w[1]) {
            return Err(super::shapes(
                op,
                "axes must be ascending and at least one",
                operands,
            ));
        }
        for &a in &self.axes {
            axis(a, x.rank())?;
        }
        let mut shape = Vec::new();
        for (i, d) in x.shape.iter().enumerate() {
            if !self.axes.contains(&i) {
                shape.push(d.clone());
            } else if self.keep_dims {
                shape.push(Dim::from(1));
            }
        }
        Ok(Type::new(x.dtype, shape))
    }
}

/// eˣ / Σ eˣ over one axis, computed after subtracting the maximum. One rounding, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// The axis.
    pub axis: usize,
}

impl Softmax {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        float(op, 0, operands[0])?;
        axis(self.axis, operands[0].rank())?;
        Ok(operands[0].clone())
    }
}

/// Running sum along one axis, the element itself included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CumSum {
    /// The axis.
    pub axis: usize,
}

impl CumSum {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        if operands[0].dtype == DType::Bool {
            return Err(operand_type(op, 0, "a number", operands[0]));
        }
        axis(self.axis, operands[0].rank())?;
        Ok(operands[0].clone())
    }
}

/// The index of the largest or smallest element along an axis, which goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgReduce {
    /// The axis.
    pub axis: usize,
    /// The largest, else the smallest.
    pub largest: bool,
    /// Of equal ones the last, else the first.
    pub last: bool,
    /// An integer type.
    pub dtype: DType,
}

impl ArgReduce {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let x = operands[0];
        if x.dtype == DType::Bool {
            return Err(operand_type(op, 0, "a number", x));
        }
        axis(self.axis, x.rank())?;
        let mut shape = x.shape.clone();
        shape.remove(self.axis);
        let ty = Type::new(self.dtype, shape);
        super::int(op, 0, &ty)?;
        Ok(ty)
    }
}

/// The `k` largest or smallest elements along an axis, in order, and their indices; equal ones in the order of their indices. Operands `x` and,
/// when `k` is a run-time size, its value (one integer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopK {
    /// The axis.
    pub axis: usize,
    /// How many.
    pub k: Dim,
    /// The largest first, else the smallest.
    pub largest: bool,
    /// An integer type for the indices.
    pub dtype: DType,
}

impl TopK {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Vec<Type>, IrError> {
        let x = operands[0];
        if x.dtype == DType::Bool {
            return Err(operand_type(op, 0, "a number", x));
        }
        axis(self.axis, x.rank())?;
        if self
            .k
            .integer()
            .zip(x.shape[self.axis].integer())
            .is_some_and(|(k, n)| k > n)
        {
            return Err(super::shapes(
                op,
                "more elements than the axis has",
                operands,
            ));
        }
        if let Some(k) = operands.get(1) {
            super::int(op, 1, k)?;
        }
        let mut shape = x.shape.clone();
        shape[self.axis] = self.k.clone();
        let indices = Type::new(self.dtype, shape.clone());
        super::int(op, 0, &indices)?;
        Ok(vec![Type::new(x.dtype, shape), indices])
    }
}
