//! Attention, in its parts: of the engines, ONNX Runtime refuses the `Attention` of opset 23 with masks that broadcast over the queries, as
//! padding masks do, and tract does not know it at all.

use std::collections::BTreeSet;

use super::emitter::{Emitter, Last, int, ints, last};
use crate::error::Result;
use crate::ir::ops::Attention;
use crate::ir::{Function, Node, Op, ValueId};
use crate::tensor::num;

/// The queries are scaled, not the scores: there is less to multiply, and scores beyond 65504 that the scale would have brought back do not
/// become infinite in half precision.
pub(super) fn attention(e: &mut Emitter<'_>, node: &Node, o: Attention) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let kernel = e.kernel("MatMul", dtype)?;
    let mut query = e.operand_as(node.operands[0], kernel)?;
    if o.scale != 1.0 {
        let scale = e.scalar(kernel, o.scale)?;
        query = e.emit("Mul", [query, scale], vec![]);
    }
    let key = node.operands[1];
    let turned = e.function.producer(key).filter(|_| e.is_turned(key));
    let key = match turned.map(|n| (&n.op, n.operands[0])) {
        // Both in one.
        Some((Op::Transpose(o), x)) => {
            let mut perm: Vec<i64> = o.perm.iter().map(|&a| num::i64_of(a)).collect();
            let rank = perm.len();
            perm.swap(rank - 2, rank - 1);
            let x = e.operand_as(x, kernel)?;
            e.emit("Transpose", [x], vec![ints("perm", perm)])
        }
        Some(_) | None => {
            let x = e.operand_as(key, kernel)?;
            e.swap_last(x, e.ty(key).rank())
        }
    };
    let mut scores = e.emit("MatMul", [query, key], vec![]);
    if let Some(&mask) = node.operands.get(3) {
        let mask = e.operand_as(mask, kernel)?;
        scores = e.emit("Add", [scores, mask], vec![]);
    }
    let axis = e.ty(node.result()).rank() - 1;
    let weights = e.emit("Softmax", [scores], vec![int("axis", num::i64_of(axis))]);
    let value = e.operand_as(node.operands[2], kernel)?;
    e.converted(last("MatMul", [weights, value]), kernel, dtype)
}

/// The transposed values that are keys of attention and nothing else.
pub(super) fn turned_keys(function: &Function) -> BTreeSet<ValueId> {
    let transposed = |&v: &ValueId| {
        let node = function.producer(v);
        node.is_some_and(|n| matches!(n.op, Op::Transpose(_)))
    };
    let attend = |n: &&Node| matches!(n.op, Op::Attention(_));
    let keys = function.nodes.iter().filter(attend).map(|n| n.operands[1]);
    let mut turned: BTreeSet<ValueId> = keys.filter(transposed).collect();
    for node in &function.nodes {
        for (i, operand) in node.operands.iter().enumerate() {
            if i != 1 || !matches!(node.op, Op::Attention(_)) {
                turned.remove(operand);
            }
        }
    }
    for output in &function.outputs {
        turned.remove(&output.value);
    }
    turned
}
