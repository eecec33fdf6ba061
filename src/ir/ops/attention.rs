//! Attention.

use super::{float, same_dtype, shapes};
use crate::ir::dim::Dim;
use crate::ir::types::{IrError, Type, broadcast};

/// Scaled dot-product attention: `softmax(scale · Q·Kᵀ + mask) · V`, the softmax over the keys; operands `Q`, `K`, `V` and optionally the mask.
/// Everything accumulates in `f32`, one rounding at the end.
///
/// It stands for `matmul(softmax(add(matmul(mul(Q, scale), K, transpose_b), mask)), V)`, which is also what writers make of it. What else attention
/// may be (fewer heads of keys than of queries, caps on the scores, sinks, dropout) is not part of it. A row whose scores are all −∞ gives NaN.
///
/// # Shapes
/// `Q [B…, L, E]`, `K [B…, S, E]`, `V [B…, S, F]` → `[B…, L, F]`; leading axes broadcast. The mask broadcasts to `[B…, L, S]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Factor of the products, before the mask is added.
    pub scale: f64,
}

impl Attention {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        same_dtype(op, operands)?;
        float(op, 0, operands[0])?;
        let [
            [q_batch @ .., l, e],
            [k_batch @ .., s, width],
            [v_batch @ .., keys, f],
        ] = [0, 1, 2].map(|i: usize| operands[i].shape.as_slice())
        else {
            let reason = "query, key and value must have rank 2 or more";
            return Err(shapes(op, reason, operands));
        };
        if !e.may_equal(width) {
            return Err(shapes(op, "queries and keys differ in width", operands));
        }
        if !s.may_equal(keys) {
            let reason = "there must be as many values as keys";
            return Err(shapes(op, reason, operands));
        }
        let mut scores = broadcast(op, q_batch, k_batch)?;
        let mut result = broadcast(op, &scores, v_batch)?;
        if let Some(mask) = operands.get(3) {
            scores.extend([l.clone(), s.clone()]);
            let fits = |(m, n): (&Dim, &Dim)| m.known() == Some(1) || m.may_equal(n);
            let mut axes = mask.shape.iter().rev().zip(scores.iter().rev());
            if mask.rank() > scores.len() || !axes.all(fits) {
                let reason = "the mask does not broadcast to the scores";
                return Err(shapes(op, reason, operands));
            }
        }
        result.extend([l.clone(), f.clone()]);
        Ok(Type::new(operands[0].dtype, result))
    }
}
