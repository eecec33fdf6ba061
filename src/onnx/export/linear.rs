//! Matrix products.

use super::emitter::{Emitter, Last, last};
use crate::error::Result;
use crate::ir::Node;
use crate::ir::ops::{Linear, MatMul};

pub(super) fn matmul(e: &mut Emitter<'_>, node: &Node, o: MatMul) -> Result<Last> {
    let mut side = |i: usize, swap: bool| {
        if swap {
            e.transposed(node.operands[i])
        } else {
            e.operand(node.operands[i])
        }
    };
    let a = side(0, o.transpose_a)?;
    let b = side(1, o.transpose_b)?;
    Ok(last("MatMul", [a, b]))
}

/// `Gemm` could use the stored orientation, but takes matrices only, and engines optimise `MatMul` with a constant better.
pub(super) fn linear(e: &mut Emitter<'_>, node: &Node, _: Linear) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    let w = e.transposed(node.operands[1])?;
    Ok(match node.operands.get(2) {
        None => last("MatMul", [x, w]),
        Some(&bias) => {
            let product = e.emit("MatMul", [x, w], vec![]);
            let bias = e.operand(bias)?;
            last("Add", [product, bias])
        }
    })
}
