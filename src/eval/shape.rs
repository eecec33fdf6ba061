//! Data movement that is known from shapes.

use super::layout::{broadcast_strides, copy_strided, pick_axes, strides};
use super::{EvalError, Target};
use crate::error::Result;
use crate::ir::ops::{BlockOrder, Concat, DepthToSpace, Reverse, Slice, SpaceToDepth, Transpose};
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

/// Copies side by side: along each axis the result's size is a multiple of the operand's.
pub(super) fn tile(x: &Tensor, target: Target) -> Result<Tensor> {
    if x.shape().len() != target.shape().len() {
        return Err(target.mismatch(&[x]));
    }
    let maps: Vec<Vec<usize>> = x
        .shape()
        .iter()
        .zip(target.shape())
        .map(|(&n, &m)| (0..m).map(|i| i % n.max(1)).collect())
        .collect();
    pick_axes(x, &maps, target)
}

pub(super) fn reverse(op: &Reverse, x: &Tensor, target: Target) -> Result<Tensor> {
    let maps: Vec<Vec<usize>> = x
        .shape()
        .iter()
        .enumerate()
        .map(|(axis, &n)| {
            if op.axes.contains(&axis) {
                (0..n).rev().collect()
            } else {
                (0..n).collect()
            }
        })
        .collect();
    pick_axes(x, &maps, target)
}

/// `x` seen with the axes `shape`, permuted, as the result.
fn permuted(x: &Tensor, shape: &[usize], perm: &[usize], target: Target) -> Result<Tensor> {
    if shape.iter().product::<usize>() != x.len() {
        return Err(target.mismatch(&[x]));
    }
    let own = strides(shape);
    let sizes: Vec<usize> = perm.iter().map(|&a| shape[a]).collect();
    let steps: Vec<usize> = perm.iter().map(|&a| own[a]).collect();
    let storage = match x.storage() {
        Storage::Float(v) => Storage::Float(copy_strided(v, 0, &sizes, &steps).into()),
        Storage::Int(v) => Storage::Int(copy_strided(v, 0, &sizes, &steps).into()),
        Storage::Bool(v) => Storage::Bool(copy_strided(v, 0, &sizes, &steps).into()),
    };
    target.storage(storage)
}

pub(super) fn depth_to_space(op: DepthToSpace, x: &Tensor, target: Target) -> Result<Tensor> {
    let (&[n, _, h, w], &[_, c, ..], b) = (x.shape(), target.shape(), op.block) else {
        return Err(target.mismatch(&[x]));
    };
    match op.order {
        BlockOrder::BlockFirst => permuted(x, &[n, b, b, c, h, w], &[0, 3, 4, 1, 5, 2], target),
        BlockOrder::BlockLast => permuted(x, &[n, c, b, b, h, w], &[0, 1, 4, 2, 5, 3], target),
    }
}

pub(super) fn space_to_depth(op: SpaceToDepth, x: &Tensor, target: Target) -> Result<Tensor> {
    let (&[n, c, ..], &[_, _, h, w], b) = (x.shape(), target.shape(), op.block) else {
        return Err(target.mismatch(&[x]));
    };
    let split = [n, c, h, b, w, b];
    match op.order {
        BlockOrder::BlockFirst => permuted(x, &split, &[0, 3, 5, 1, 2, 4], target),
        BlockOrder::BlockLast => permuted(x, &split, &[0, 1, 3, 5, 2, 4], target),
    }
}
