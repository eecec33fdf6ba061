//! Data movement that depends on values. Indices never wrap: one outside its axis is an error that names it.

use super::layout::{position, strides};
use super::scatter::vectors;
use super::{EvalError, Target};
use crate::error::Result;
use crate::ir::ops::{Gather, GatherElements, GatherNd};
use crate::tensor::{Storage, Tensor};

/// The indices as positions below `size`.
pub(super) fn checked(indices: &Tensor, size: usize) -> Result<Vec<usize>> {
    indices
        .ints()?
        .iter()
        .enumerate()
        .map(|(i, &index)| {
            let found = usize::try_from(index).ok().filter(|&n| n < size);
            found.ok_or_else(|| {
                EvalError::Index {
                    index,
                    position: position(i, indices.shape()),
                    size,
                }
                .into()
            })
        })
        .collect()
}

pub(super) fn gather(
    op: Gather,
    data: &Tensor,
    indices: &Tensor,
    target: Target,
) -> Result<Tensor> {
    let Some(&size) = data.shape().get(op.axis) else {
        return Err(target.mismatch(&[data, indices]));
    };
    let picks = checked(indices, size)?;
    let outer: usize = data.shape()[..op.axis].iter().product();
    let inner: usize = data.shape()[op.axis + 1..].iter().product();
    let storage = match data.storage() {
        Storage::Float(v) => Storage::Float(pick(v, &picks, (outer, size, inner)).into()),
        Storage::Int(v) => Storage::Int(pick(v, &picks, (outer, size, inner)).into()),
        Storage::Bool(v) => Storage::Bool(pick(v, &picks, (outer, size, inner)).into()),
    };
    target.storage(storage)
}

fn pick<T: Copy>(
    data: &[T],
    picks: &[usize],
    (outer, size, inner): (usize, usize, usize),
) -> Vec<T> {
    let mut out = Vec::with_capacity(outer * picks.len() * inner);
    for o in 0..outer {
        for &p in picks {
            let start = (o * size + p) * inner;
            out.extend_from_slice(&data[start..start + inner]);
        }
    }
    out
}

pub(super) fn gather_elements(
    op: GatherElements,
    data: &Tensor,
    indices: &Tensor,
    target: Target,
) -> Result<Tensor> {
    let fits = op.axis < data.shape().len()
        && data.shape().len() == indices.shape().len()
        && (0..data.shape().len()).all(|a| a == op.axis || data.shape()[a] == indices.shape()[a]);
    if !fits {
        return Err(target.mismatch(&[data, indices]));
    }
    let picks = checked(indices, data.shape()[op.axis])?;
    let step = strides(data.shape())[op.axis];
    let (own, other) = (data.shape()[op.axis], indices.shape()[op.axis]);
    let place = |i: usize| {
        let (outer, inner) = (i / (other * step), i % step);
        (outer * own + picks[i]) * step + inner
    };
    let storage = match data.storage() {
        Storage::Float(v) => Storage::Float(
            (0..picks.len())
                .map(|i| v[place(i)])
                .collect::<Vec<_>>()
                .into(),
        ),
        Storage::Int(v) => Storage::Int(
            (0..picks.len())
                .map(|i| v[place(i)])
                .collect::<Vec<_>>()
                .into(),
        ),
        Storage::Bool(v) => Storage::Bool(
            (0..picks.len())
                .map(|i| v[place(i)])
                .collect::<Vec<_>>()
                .into(),
        ),
    };
    target.storage(storage)
}

pub(super) fn gather_nd(
    op: GatherNd,
    data: &Tensor,
    indices: &Tensor,
    target: Target,
) -> Result<Tensor> {
    let b = op.batch_dims;
    let Some(&depth) = indices
        .shape()
        .last()
        .filter(|&&k| b + k <= data.shape().len())
    else {
        return Err(target.mismatch(&[data, indices]));
    };
    let batches: usize = data.shape()[..b].iter().product();
    let per_batch: usize = indices.shape()[b..indices.shape().len() - 1]
        .iter()
        .product();
    let block: usize = data.shape()[b..].iter().product();
    let inner: usize = data.shape()[b + depth..].iter().product();
    let offsets = vectors(indices, batches * per_batch, depth, &data.shape()[b..])?;
    let places = offsets
        .iter()
        .enumerate()
        .map(|(i, o)| i.checked_div(per_batch).unwrap_or(0) * block + o);
    let places: Vec<usize> = places.collect();
    let storage = match data.storage() {
        Storage::Float(v) => Storage::Float(stretches(v, &places, inner).into()),
        Storage::Int(v) => Storage::Int(stretches(v, &places, inner).into()),
        Storage::Bool(v) => Storage::Bool(stretches(v, &places, inner).into()),
    };
    target.storage(storage)
}

fn stretches<T: Copy>(data: &[T], places: &[usize], inner: usize) -> Vec<T> {
    places
        .iter()
        .flat_map(|&p| data[p..p + inner].iter().copied())
        .collect()
}
