//! Matrix products.

use super::emitter::{Emitter, Last, int, last};
use crate::error::Result;
use crate::ir::Node;
use crate::ir::ops::{Linear, MatMul};
use crate::onnx::error::OnnxError;
use crate::tensor::{DType, Tensor, num};

pub(super) fn matmul(e: &mut Emitter<'_>, node: &Node, o: MatMul) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let kernel = e.kernel("MatMul", dtype)?;
    let mut side = |i: usize, swap: bool| {
        let value = node.operands[i];
        if kernel == dtype && swap {
            e.transposed(value)
        } else if swap {
            let rank = e.ty(value).rank();
            let x = e.operand_as(value, kernel)?;
            Ok(e.swap_last(x, rank))
        } else {
            e.operand_as(value, kernel)
        }
    };
    let a = side(0, o.transpose_a)?;
    let b = side(1, o.transpose_b)?;
    e.converted(last("MatMul", [a, b]), kernel, dtype)
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

/// Larger matrices are not inverted: the steps are written out one by one.
const INVERSE_ROWS: usize = 64;

/// Gauss–Jordan elimination with row pivoting, written out: ONNX has no operator for it.
pub(super) fn inverse(e: &mut Emitter<'_>, node: &Node) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    let rank = ty.rank();
    let size = ty.shape.last().and_then(crate::ir::Dim::known);
    let Some(n) = size.filter(|n| (1..=INVERSE_ROWS).contains(n)) else {
        return Err(OnnxError::NotSaid {
            op: node.op.name(),
            reason: "the matrices must have a known size of at most 64 rows",
        }
        .into());
    };
    let x = e.operand_as(node.operands[0], DType::F32)?;
    // `[…, n, 2n]`: the matrix and the identity beside it.
    let mut unit = vec![0.0; n * n];
    unit.iter_mut().step_by(n + 1).for_each(|x| *x = 1.0);
    let unit = Tensor::f32(vec![n, n], unit)?;
    let unit = e.small(&format!("const/f32/identity{n}"), &unit)?;
    let shape = e.emit("Shape", [x.clone()], vec![]);
    let unit = e.emit("Expand", [unit, shape], vec![]);
    let last_axis = int("axis", num::i64_of(rank) - 1);
    let mut m = e.emit("Concat", [x, unit], vec![last_axis.clone()]);
    let wide = e.emit("Shape", [m.clone()], vec![]);
    // `[n, 1]`
    let rows: Vec<i64> = (0..n).map(num::i64_of).collect();
    let rows = e.small(
        &format!("const/i64/rows{n}"),
        &Tensor::i64(vec![n, 1], rows)?,
    )?;
    for k in 0..n {
        let index = e.vector(&[num::i64_of(k)])?;
        let column = e.emit(
            "Gather",
            [m.clone(), index.clone()],
            vec![last_axis.clone()],
        );
        // Rows above are done: they are no candidates.
        let size = e.emit("Abs", [column], vec![]);
        let mut mask = vec![1.0; n];
        mask[..k].fill(-1.0);
        let mask = Tensor::f32(vec![n, 1], mask)?;
        let mask = e.small(&format!("const/f32/below{k}of{n}"), &mask)?;
        let zero = e.scalar(DType::F32, 0.0)?;
        let open = e.emit("Greater", [mask, zero.clone()], vec![]);
        let none = e.scalar(DType::F32, -1.0)?;
        let size = e.emit("Where", [open, size, none], vec![]);
        let pivot = e.emit("ArgMax", [size], vec![int("axis", num::i64_of(rank) - 2)]);
        // The pivot's row and row k change places.
        let here = e.emit("Equal", [rows.clone(), index.clone()], vec![]);
        let there = e.emit("Equal", [rows.clone(), pivot.clone()], vec![]);
        let order = e.emit("Where", [there, index.clone(), rows.clone()], vec![]);
        let order = e.emit("Where", [here.clone(), pivot, order], vec![]);
        let order = e.emit("Expand", [order, wide.clone()], vec![]);
        m = e.emit(
            "GatherElements",
            [m, order],
            vec![int("axis", num::i64_of(rank) - 2)],
        );
        // Row k is scaled to a pivot of 1 and taken from the others.
        let row = e.emit(
            "Gather",
            [m.clone(), index.clone()],
            vec![int("axis", num::i64_of(rank) - 2)],
        );
        let pivot = e.emit(
            "Gather",
            [row.clone(), index.clone()],
            vec![last_axis.clone()],
        );
        let row = e.emit("Div", [row, pivot], vec![]);
        let column = e.emit("Gather", [m.clone(), index], vec![last_axis.clone()]);
        let factor = e.emit("Where", [here.clone(), zero, column], vec![]);
        let part = e.emit("Mul", [factor, row.clone()], vec![]);
        let rest = e.emit("Sub", [m, part], vec![]);
        m = e.emit("Where", [here, row, rest], vec![]);
    }
    let start = e.vector(&[num::i64_of(n)])?;
    let end = e.vector(&[num::i64_of(2 * n)])?;
    let axis = e.axes(&[rank - 1])?;
    e.converted(last("Slice", [m, start, end, axis]), DType::F32, ty.dtype)
}
