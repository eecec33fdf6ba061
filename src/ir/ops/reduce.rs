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
            ReduceKind::Mean | ReduceKind::L2 => float(op, 0, x)?,
            ReduceKind::Sum | ReduceKind::Max | ReduceKind::Min => {
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
