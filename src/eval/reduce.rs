//! Operations along axes. Floats accumulate in `f64`, in a fixed order.

use super::elementwise::{max_f32, min_f32, order};
use super::layout::{PIECE, copy_strided, pieces, strides};
use super::{EvalError, Target, floats_of, math};
use crate::error::Result;
use crate::ir::ops::{CumSum, Reduce, ReduceKind, Softmax};
use crate::tensor::{Storage, Tensor, num};
use rayon::prelude::*;

/// A tensor seen as `[outer, n, inner]`, with `n` the axes of interest.
struct Split {
    n: usize,
    inner: usize,
}

impl Split {
    fn new(shape: &[usize], first: usize, last: usize) -> Self {
        Split {
            n: shape[first..=last].iter().product(),
            inner: shape[last + 1..].iter().product(),
        }
    }
}

pub(super) fn reduce(op: &Reduce, x: &Tensor, target: Target) -> Result<Tensor> {
    let (Some(&first), Some(&last)) = (op.axes.first(), op.axes.last()) else {
        return Err(target.mismatch(&[x]));
    };
    if last >= x.shape().len() {
        return Err(target.mismatch(&[x]));
    }
    if last - first + 1 != op.axes.len() {
        // The reduced axes do not lie side by side: bring them to the end.
        let kept = (0..x.shape().len()).filter(|a| !op.axes.contains(a));
        let perm: Vec<usize> = kept.chain(op.axes.iter().copied()).collect();
        let shape: Vec<usize> = perm.iter().map(|&a| x.shape()[a]).collect();
        let own = strides(x.shape());
        let order: Vec<usize> = perm.iter().map(|&a| own[a]).collect();
        let storage = match x.storage() {
            Storage::Float(v) => Storage::Float(copy_strided(v, 0, &shape, &order).into()),
            Storage::Int(v) => Storage::Int(copy_strided(v, 0, &shape, &order).into()),
            Storage::Bool(v) => Storage::Bool(copy_strided(v, 0, &shape, &order).into()),
        };
        let split = Split::new(&shape, x.shape().len() - op.axes.len(), x.shape().len() - 1);
        let moved = Tensor::from_storage(x.dtype(), shape, storage)?;
        return reduce_split(op.kind, &moved, &split, target);
    }
    reduce_split(op.kind, x, &Split::new(x.shape(), first, last), target)
}

fn reduce_split(kind: ReduceKind, x: &Tensor, split: &Split, target: Target) -> Result<Tensor> {
    match x.storage() {
        Storage::Float(v) => {
            let values = reduce_floats(kind, v, split, target.len());
            target.float(values)
        }
        Storage::Int(v) => {
            let values = reduce_ints(kind, v, split, &target, x)?;
            target.int(values)
        }
        Storage::Bool(_) => Err(target.mismatch(&[x])),
    }
}

fn reduce_floats(kind: ReduceKind, v: &[f32], split: &Split, results: usize) -> Vec<f32> {
    let &Split { n, inner } = split;
    let mut out = vec![0.0f32; results];
    let finish = |total: f64| match kind {
        ReduceKind::Mean => num::f32_of_f64(total / num::f64_of(n)),
        ReduceKind::L2 => num::f32_of_f64(total.sqrt()),
        ReduceKind::Sum
        | ReduceKind::Prod
        | ReduceKind::LogSumExp
        | ReduceKind::Max
        | ReduceKind::Min => num::f32_of_f64(total),
    };
    let per_outer = |o: usize, out: &mut [f32]| {
        let block = &v[o * n * inner..(o + 1) * n * inner];
        match kind {
            ReduceKind::Max | ReduceKind::Min => {
                let (start, f): (f32, fn(f32, f32) -> f32) = if kind == ReduceKind::Max {
                    (f32::NEG_INFINITY, max_f32)
                } else {
                    (f32::INFINITY, min_f32)
                };
                out.fill(start);
                if inner == 1 {
                    out[0] = block.iter().fold(start, |a, &b| f(a, b));
                } else {
                    for row in block.chunks_exact(inner) {
                        out.iter_mut().zip(row).for_each(|(a, &b)| *a = f(*a, b));
                    }
                }
            }
            ReduceKind::Prod => {
                for (i, o) in out.iter_mut().enumerate() {
                    let column = block[i..].iter().step_by(inner);
                    *o = finish(column.map(|&x| f64::from(x)).product());
                }
            }
            ReduceKind::LogSumExp => {
                for (i, o) in out.iter_mut().enumerate() {
                    let column = || block[i..].iter().step_by(inner).take(n);
                    let max = column().fold(f32::NEG_INFINITY, |a, &b| max_f32(a, b));
                    // An infinite maximum is the result, and would only give NaN below.
                    let shift = if max.is_finite() { f64::from(max) } else { 0.0 };
                    let total: f64 = column().map(|&x| (f64::from(x) - shift).exp()).sum();
                    *o = finish(total.ln() + shift);
                }
            }
            ReduceKind::Sum | ReduceKind::Mean if inner == 1 => {
                out[0] = finish(math::sum(block, |x| x));
            }
            ReduceKind::L2 if inner == 1 => out[0] = finish(math::sum(block, |x| x * x)),
            ReduceKind::Sum | ReduceKind::Mean | ReduceKind::L2 => {
                let mut totals = vec![0.0f64; inner];
                for row in block.chunks_exact(inner) {
                    for (total, &x) in totals.iter_mut().zip(row) {
                        let x = f64::from(x);
                        *total += if kind == ReduceKind::L2 { x * x } else { x };
                    }
                }
                for (o, total) in out.iter_mut().zip(totals) {
                    *o = finish(total);
                }
            }
        }
    };
    if inner == 0 || results == 0 {
        return out;
    }
    if v.len() <= PIECE {
        out.chunks_mut(inner)
            .enumerate()
            .for_each(|(o, c)| per_outer(o, c));
    } else {
        let chunks = out
            .par_chunks_mut(inner)
            .with_min_len((PIECE / (n * inner).max(1)).max(1));
        chunks.enumerate().for_each(|(o, c)| per_outer(o, c));
    }
    out
}

fn reduce_ints(
    kind: ReduceKind,
    v: &[i64],
    split: &Split,
    target: &Target,
    x: &Tensor,
) -> Result<Vec<i64>> {
    let &Split { n, inner } = split;
    let key = order(x.dtype());
    let f: Box<dyn Fn(i64, i64) -> i64> = match kind {
        ReduceKind::Sum => Box::new(i64::wrapping_add),
        ReduceKind::Max => Box::new(move |a, b| if key(a) >= key(b) { a } else { b }),
        ReduceKind::Min => Box::new(move |a, b| if key(a) <= key(b) { a } else { b }),
        ReduceKind::Prod => Box::new(i64::wrapping_mul),
        ReduceKind::Mean | ReduceKind::L2 | ReduceKind::LogSumExp => {
            return Err(target.mismatch(&[x]));
        }
    };
    let mut out = vec![0i64; target.len()];
    if n == 0 && kind == ReduceKind::Prod {
        out.fill(1);
        return Ok(out);
    }
    if n == 0 && !out.is_empty() && kind != ReduceKind::Sum {
        return Err(EvalError::EmptyReduction { op: target.op() }.into());
    }
    if n == 0 || inner == 0 {
        return Ok(out);
    }
    for (block, out) in v.chunks_exact(n * inner).zip(out.chunks_exact_mut(inner)) {
        let mut rows = block.chunks_exact(inner);
        if let Some(row) = rows.next() {
            out.copy_from_slice(row);
        }
        for row in rows {
            out.iter_mut().zip(row).for_each(|(a, &b)| *a = f(*a, b));
        }
    }
    Ok(out)
}

/// Softmax. A row of only −∞ gives NaN, as IEEE arithmetic does; masks with a finite fill never do.
pub(super) fn softmax(op: Softmax, x: Tensor, target: Target) -> Result<Tensor> {
    if op.axis >= x.shape().len() {
        return Err(target.mismatch(&[&x]));
    }
    let Split { n, inner } = Split::new(x.shape(), op.axis, op.axis);
    let mut values = floats_of(x)?;
    let block = n * inner;
    if block == 0 {
        return target.float(values);
    }
    let rows = (PIECE / block).max(1);
    pieces(&mut values, rows * block, |_, chunk| {
        let mut column = Vec::new();
        for block in chunk.chunks_exact_mut(block) {
            if inner == 1 {
                softmax_row(block);
                continue;
            }
            for i in 0..inner {
                column.clear();
                column.extend(block[i..].iter().step_by(inner));
                softmax_row(&mut column);
                for (x, &y) in block[i..].iter_mut().step_by(inner).zip(&column) {
                    *x = y;
                }
            }
        }
    });
    target.float(values)
}

/// The softmax of one row, in place.
pub(super) fn softmax_row(row: &mut [f32]) {
    let max = math::max(row);
    row.iter_mut().for_each(|x| *x = math::exp(*x - max));
    let scale = num::f32_of_f64(1.0 / math::sum(row, |x| x));
    row.iter_mut().for_each(|x| *x *= scale);
}

pub(super) fn cumsum(op: CumSum, x: &Tensor, target: Target) -> Result<Tensor> {
    if op.axis >= x.shape().len() {
        return Err(target.mismatch(&[x]));
    }
    let Split { n, inner } = Split::new(x.shape(), op.axis, op.axis);
    let block = (n * inner).max(1);
    match x.storage() {
        Storage::Float(v) => {
            let mut out = v.to_vec();
            for block in out.chunks_exact_mut(block) {
                for i in 0..inner {
                    let mut total = 0.0f64;
                    for x in block[i..].iter_mut().step_by(inner) {
                        total += f64::from(*x);
                        *x = num::f32_of_f64(total);
                    }
                }
            }
            target.float(out)
        }
        Storage::Int(v) => {
            let mut out = v.to_vec();
            for block in out.chunks_exact_mut(block) {
                for i in inner..block.len() {
                    block[i] = block[i].wrapping_add(block[i - inner]);
                }
            }
            target.int(out)
        }
        Storage::Bool(_) => Err(target.mismatch(&[x])),
    }
}
