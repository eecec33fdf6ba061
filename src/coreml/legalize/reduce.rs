//! Reductions, and what is picked by value along an axis.

use super::dtype::{is_small_int, legal};
use super::elementwise::widened;
use super::lower::Lower;
use crate::error::Result;
use crate::ir::ops::{ArgReduce, BinaryKind, Reduce, ReduceKind, Reverse, Size, SliceBy, TopK};
use crate::ir::{Op, ValueId};
use crate::tensor::DType;

pub(super) fn reduce(l: &mut Lower<'_>, op: &Reduce, x: ValueId, was: DType) -> Result<ValueId> {
    let sums = matches!(op.kind, ReduceKind::Sum | ReduceKind::Prod);
    if sums && is_small_int(was) {
        return widened(l, &Op::Reduce(op.clone()), &[x], was);
    }
    l.push(Op::Reduce(op.clone()), &[x])
}

/// Programs find the first of equal elements: the last one is the first in reverse.
pub(super) fn arg_reduce(l: &mut Lower<'_>, op: &ArgReduce, x: ValueId) -> Result<ValueId> {
    let plain = Op::ArgReduce(ArgReduce {
        last: false,
        dtype: DType::I32,
        ..*op
    });
    let to = legal(op.dtype, l.opset);
    if !op.last {
        let found = l.push(plain, &[x])?;
        return l.cast(found, to);
    }
    let size = l.ty(x).shape[op.axis].clone();
    let axes = vec![op.axis];
    let reversed = l.push(Op::Reverse(Reverse { axes }), &[x])?;
    let found = l.push(plain, &[reversed])?;
    let dtype = DType::I32;
    let size = l.push(Op::Size(Size { dtype, dim: size }), &[])?;
    let last = l.with(BinaryKind::Sub, size, 1.0)?;
    let found = l.binary(BinaryKind::Sub, last, found)?;
    l.cast(found, to)
}

/// Programs know how many when they are written; where that is computed, all are put in order and the first ones taken.
pub(super) fn top_k(l: &mut Lower<'_>, op: &TopK, operands: &[ValueId]) -> Result<Vec<ValueId>> {
    let x = operands[0];
    let size = l.ty(x).shape[op.axis].clone();
    let k = if op.k.known().is_some() {
        op.k.clone()
    } else {
        size
    };
    if k.known().is_none() {
        return Err(l.refuse("top_k", "how many are taken must be known"));
    }
    let all = TopK {
        k: k.clone(),
        dtype: DType::I32,
        ..op.clone()
    };
    let found = l.push_all(Op::TopK(all), &[x])?;
    let mut out = Vec::with_capacity(2);
    for (i, value) in found.into_iter().enumerate() {
        let mut value = value;
        if k != op.k {
            value = first(l, op, value, operands.get(1).copied())?;
        }
        if i == 1 {
            value = l.cast(value, legal(op.dtype, l.opset))?;
        }
        out.push(value);
    }
    Ok(out)
}

fn first(l: &mut Lower<'_>, op: &TopK, x: ValueId, k: Option<ValueId>) -> Result<ValueId> {
    let Some(k) = k else {
        let range = crate::ir::ops::SliceRange::new(op.axis, 0usize, op.k.clone());
        return l.slice(x, vec![range]);
    };
    let start = l.ints(vec![0])?;
    let end = l.cast(k, DType::I32)?;
    let end = l.vector_of(end)?;
    let mut shape = l.shape(x);
    shape[op.axis] = op.k.clone();
    let slice = SliceBy {
        axes: vec![op.axis],
        steps: vec![1],
        shape,
    };
    l.push(Op::SliceBy(slice), &[x, start, end])
}
