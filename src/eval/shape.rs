//! Data movement that is known from shapes.

use super::layout::{broadcast_strides, copy_strided, strides};
use super::{EvalError, Target};
use crate::error::Result;
use crate::ir::ops::{Concat, Slice, Transpose};
use crate::ir::{Bindings, Dim, IrError};
use crate::tensor::{Storage, Tensor, TensorError, num};
use std::sync::Arc;

/// Reshape, squeeze and unsqueeze: the same elements.
pub(super) fn reshape(x: Tensor, target: Target) -> Result<Tensor> {
    target.storage(x.into_storage())
}

/// A strided view of `x`, copied out.
fn view(x: &Tensor, offset: usize, strides: &[usize], target: Target) -> Result<Tensor> {
    let shape = target.shape();
    let storage = match x.storage() {
        Storage::Float(v) => Storage::Float(copy_strided(v, offset, shape, strides).into()),
        Storage::Int(v) => Storage::Int(copy_strided(v, offset, shape, strides).into()),
        Storage::Bool(v) => Storage::Bool(copy_strided(v, offset, shape, strides).into()),
    };
    target.storage(storage)
}

pub(super) fn transpose(op: &Transpose, x: &Tensor, target: Target) -> Result<Tensor> {
    let own = strides(x.shape());
    let permuted: Option<Vec<usize>> = op.perm.iter().map(|&a| own.get(a).copied()).collect();
    let shape: Option<Vec<usize>> = op.perm.iter().map(|&a| x.shape().get(a).copied()).collect();
    match permuted {
        Some(strides) if shape.as_deref() == Some(target.shape()) => view(x, 0, &strides, target),
        Some(_) | None => Err(target.mismatch(&[x])),
    }
}

pub(super) fn expand(x: Tensor, target: Target) -> Result<Tensor> {
    if x.shape() == target.shape() {
        return reshape(x, target);
    }
    let missing = target.shape().len().checked_sub(x.shape().len());
    let fits = missing.is_some_and(|m| {
        let pairs = x.shape().iter().zip(&target.shape()[m..]);
        pairs.into_iter().all(|(&a, &b)| a == b || a == 1)
    });
    if !fits {
        return Err(target.mismatch(&[&x]));
    }
    let strides = broadcast_strides(x.shape(), target.shape());
    view(&x, 0, &strides, target)
}

pub(super) fn slice(op: &Slice, x: &Tensor, bindings: &Bindings, target: Target) -> Result<Tensor> {
    let mut steps = strides(x.shape());
    let mut shape = x.shape().to_vec();
    let mut offset = 0;
    for range in &op.ranges {
        let value = |d: &Dim| {
            d.eval(bindings)
                .ok_or_else(|| IrError::Unbound { dim: d.to_string() })
        };
        let (start, end) = (value(&range.start)?, value(&range.end)?);
        let Some(&size) = x.shape().get(range.axis) else {
            return Err(target.mismatch(&[x]));
        };
        if start < 0 || start > end || end > num::i64_of(size) {
            return Err(EvalError::Slice {
                axis: range.axis,
                start,
                end,
                size,
            }
            .into());
        }
        let first = num::usize_of(start.unsigned_abs());
        let length = num::usize_of((end - start).unsigned_abs());
        let step = range.step.max(1);
        offset += first * steps[range.axis];
        shape[range.axis] = length.div_ceil(step);
        steps[range.axis] *= step;
    }
    if shape != target.shape() {
        return Err(target.mismatch(&[x]));
    }
    view(x, offset, &steps, target)
}

pub(super) fn concat(op: Concat, operands: &[Tensor], target: Target) -> Result<Tensor> {
    let Some(first) = operands.first().filter(|x| op.axis < x.shape().len()) else {
        return Err(target.mismatch(&operands.iter().collect::<Vec<_>>()));
    };
    let outer: usize = first.shape()[..op.axis].iter().product();
    // Elements that each operand contributes to one outer position.
    let blocks: Vec<usize> = operands
        .iter()
        .map(|x| x.shape().iter().skip(op.axis).product())
        .collect();
    let storage = match first.storage() {
        Storage::Float(_) => Storage::Float(join(operands, Tensor::floats, &blocks, outer)?),
        Storage::Int(_) => Storage::Int(join(operands, Tensor::ints, &blocks, outer)?),
        Storage::Bool(_) => Storage::Bool(join(operands, Tensor::bools, &blocks, outer)?),
    };
    target.storage(storage)
}

/// `blocks[i]` elements of operand `i`, for every operand, `outer` times.
fn join<T: Copy>(
    operands: &[Tensor],
    elements: impl Fn(&Tensor) -> Result<&Arc<Vec<T>>, TensorError>,
    blocks: &[usize],
    outer: usize,
) -> Result<Arc<Vec<T>>> {
    let mut parts = Vec::with_capacity(operands.len());
    for operand in operands {
        parts.push(elements(operand)?.as_slice());
    }
    let mut out = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
    for o in 0..outer {
        for (part, &n) in parts.iter().zip(blocks) {
            out.extend(part.iter().skip(o * n).take(n));
        }
    }
    Ok(Arc::new(out))
}

/// `0, 1, …`
pub(super) fn iota(target: Target) -> Result<Tensor> {
    let values = (0..num::i64_of(target.len())).collect();
    target.int(values)
}
