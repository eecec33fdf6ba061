//! Attention. Programs have `scaled_dot_product_attention` from iOS 18 on, and it is not written: it takes no scale but `1/√E`, implementations of
//! it have crashed on devices (FluidAudio #272: BNNS on iOS), and what becomes of it on a device cannot be measured here. Its parts are
//! fused by the compiler where that pays.

use super::lower::Lower;
use crate::error::Result;
use crate::ir::ops::{Attention, BinaryKind, MatMul, Softmax};
use crate::ir::{Op, ValueId};

/// The queries are scaled, not the scores: there is less to multiply, and scores beyond 65504 that the scale would have brought back do not
/// become infinite in half precision.
pub(super) fn attention(l: &mut Lower<'_>, op: Attention, operands: &[ValueId]) -> Result<ValueId> {
    let &[query, key, value, ref mask @ ..] = operands else {
        return Err(l.refuse("attention", "it needs query, key and value"));
    };
    let query = if op.scale == 1.0 {
        query
    } else {
        l.with(BinaryKind::Mul, query, op.scale)?
    };
    let by_key = MatMul {
        transpose_a: false,
        transpose_b: true,
    };
    let mut scores = l.push(Op::MatMul(by_key), &[query, key])?;
    if let Some(&mask) = mask.first() {
        scores = l.binary(BinaryKind::Add, scores, mask)?;
    }
    let axis = l.ty(scores).rank() - 1;
    let weights = l.push(Op::Softmax(Softmax { axis }), &[scores])?;
    l.push(Op::MatMul(MatMul::default()), &[weights, value])
}
