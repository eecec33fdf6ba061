//! Matrix products.

use super::{float, same_dtype, shapes};
use crate::ir::types::{IrError, Type, broadcast};
use crate::tensor::DType;

/// Batched matrix product of two operands of rank ≥ 2; leading axes broadcast. Floats accumulate in `f32`, one rounding at the end;
/// integers wrap.
///
/// # Shapes
/// `[…, M, K] · […, K, N] → […, M, N]`; with `transpose_a` the first is `[…, K, M]`, with `transpose_b` the second is `[…, N, K]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MatMul {
    /// The last two axes of the first operand are swapped.
    pub transpose_a: bool,
    /// The last two axes of the second operand are swapped.
    pub transpose_b: bool,
}

impl MatMul {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        same_dtype(op, operands)?;
        if operands[0].dtype == DType::Bool {
            return Err(super::operand_type(op, 0, "a number", operands[0]));
        }
        let (a, b) = (&operands[0].shape, &operands[1].shape);
        if a.len() < 2 || b.len() < 2 {
            return Err(shapes(
                op,
                "both operands must have rank 2 or more",
                operands,
            ));
        }
        let (ra, rb) = (a.len(), b.len());
        let (m, ka) = if self.transpose_a {
            (&a[ra - 1], &a[ra - 2])
        } else {
            (&a[ra - 2], &a[ra - 1])
        };
        let (kb, n) = if self.transpose_b {
            (&b[rb - 1], &b[rb - 2])
        } else {
            (&b[rb - 2], &b[rb - 1])
        };
        if !ka.may_equal(kb) {
            return Err(shapes(op, "inner dimensions differ", operands));
        }
        let mut shape = broadcast(op, &a[..ra - 2], &b[..rb - 2])?;
        shape.push(m.clone());
        shape.push(n.clone());
        Ok(Type::new(operands[0].dtype, shape))
    }
}

/// `x · Wᵀ + b`; operands `x`, `W` and optionally `b`. Accumulates in `f32`, one rounding at the end.
///
/// # Shapes
/// `x [… , in]`, `W [out, in]`, `b [out]` → `[…, out]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Linear;

impl Linear {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        same_dtype(op, operands)?;
        float(op, 0, operands[0])?;
        let (x, w) = (&operands[0].shape, &operands[1].shape);
        let [out, inner] = w.as_slice() else {
            return Err(shapes(op, "the weight must be a matrix", operands));
        };
        let Some((last, rest)) = x.split_last() else {
            return Err(shapes(op, "the input must have rank 1 or more", operands));
        };
        if !last.may_equal(inner) {
            return Err(shapes(
                op,
                "the input's last dimension differs from the weight's",
                operands,
            ));
        }
        if operands.get(2).is_some_and(|b| b.shape != [out.clone()]) {
            return Err(shapes(
                op,
                "the bias must have one element per row of the weight",
                operands,
            ));
        }
        let mut shape = rest.to_vec();
        shape.push(out.clone());
        Ok(Type::new(operands[0].dtype, shape))
    }
}

/// Inverse of the square matrices in the last two axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Inverse;

impl Inverse {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        float(op, 0, operands[0])?;
        match operands[0].shape.as_slice() {
            [.., m, n] if m.may_equal(n) => Ok(operands[0].clone()),
            _ => Err(shapes(
                op,
                "the last two dimensions must be equal",
                operands,
            )),
        }
    }
}
