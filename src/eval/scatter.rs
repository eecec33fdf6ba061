//! Elements put into a tensor by index. Updates are applied in row-major order.

use super::elementwise::{max_f32, min_f32, order};
use super::index::checked;
use super::layout::{position, strides};
use super::{EvalError, Target};
use crate::error::Result;
use crate::ir::ops::{ScatterElements, ScatterMode, ScatterNd};
use crate::tensor::{Storage, Tensor};

pub(super) fn scatter_elements(
    op: ScatterElements,
    operands: &mut Vec<Tensor>,
    target: Target,
) -> Result<Tensor> {
    let (data, indices, updates) = (&operands[0], &operands[1], &operands[2]);
    let fits = op.axis < data.shape().len()
        && data.shape().len() == indices.shape().len()
        && indices.shape() == updates.shape()
        && (0..data.shape().len()).all(|a| a == op.axis || indices.shape()[a] <= data.shape()[a]);
    if !fits {
        return Err(target.mismatch(&[data, indices, updates]));
    }
    let picks = checked(indices, data.shape()[op.axis])?;
    let own = strides(data.shape());
    let places: Vec<usize> = picks
        .iter()
        .enumerate()
        .map(|(i, &pick)| {
            let mut at = position(i, indices.shape());
            at[op.axis] = pick;
            at.iter().zip(&own).map(|(i, s)| i * s).sum()
        })
        .collect();
    apply(op.mode, operands, &places, 1, target)
}

pub(super) fn scatter_nd(
    op: ScatterNd,
    operands: &mut Vec<Tensor>,
    target: Target,
) -> Result<Tensor> {
    let (data, indices, updates) = (&operands[0], &operands[1], &operands[2]);
    let Some(&depth) = indices.shape().last().filter(|&&k| k <= data.shape().len()) else {
        return Err(target.mismatch(&[data, indices, updates]));
    };
    let inner: usize = data.shape()[depth..].iter().product();
    let count: usize = indices.shape()[..indices.shape().len() - 1]
        .iter()
        .product();
    if updates.len() != count * inner {
        return Err(target.mismatch(&[data, indices, updates]));
    }
    let places = vectors(indices, count, depth, data.shape())?;
    apply(op.mode, operands, &places, inner, target)
}

/// The offset of the part that each of `count` index vectors of length `depth` points at.
pub(super) fn vectors(
    indices: &Tensor,
    count: usize,
    depth: usize,
    shape: &[usize],
) -> Result<Vec<usize>> {
    let own = strides(shape);
    let values = indices.ints()?;
    let mut out = Vec::with_capacity(count);
    for v in 0..count {
        let mut offset = 0;
        for k in 0..depth {
            let (at, size) = (v * depth + k, shape[k]);
            let index = values[at];
            let found = usize::try_from(index).ok().filter(|&n| n < size);
            let found = found.ok_or_else(|| EvalError::Index {
                index,
                position: position(at, indices.shape()),
                size,
            })?;
            offset += found * own[k];
        }
        out.push(offset);
    }
    Ok(out)
}

/// Lets stretch `i` of the updates, `inner` elements, meet the elements at `places[i]`.
fn apply(
    mode: ScatterMode,
    operands: &mut Vec<Tensor>,
    places: &[usize],
    inner: usize,
    target: Target,
) -> Result<Tensor> {
    let data = operands.remove(0);
    let updates = &operands[1];
    let key = order(data.dtype());
    match data.storage() {
        Storage::Float(_) => {
            let f: fn(f32, f32) -> f32 = match mode {
                ScatterMode::Update => |_, b| b,
                ScatterMode::Add => |a, b| a + b,
                ScatterMode::Sub => |a, b| a - b,
                ScatterMode::Mul => |a, b| a * b,
                ScatterMode::Div => |a, b| a / b,
                ScatterMode::Min => min_f32,
                ScatterMode::Max => max_f32,
            };
            let mut out = super::floats_of(data)?;
            put(&mut out, updates.floats()?, places, inner, f);
            target.float(out)
        }
        Storage::Int(v) => {
            let mut out = v.to_vec();
            let updates = updates.ints()?;
            if mode == ScatterMode::Div && updates.contains(&0) {
                return Err(EvalError::DivisionByZero { op: target.op() }.into());
            }
            let f: Box<dyn Fn(i64, i64) -> i64> = match mode {
                ScatterMode::Update => Box::new(|_, b| b),
                ScatterMode::Add => Box::new(i64::wrapping_add),
                ScatterMode::Sub => Box::new(i64::wrapping_sub),
                ScatterMode::Mul => Box::new(i64::wrapping_mul),
                ScatterMode::Div => Box::new(i64::wrapping_div),
                ScatterMode::Min => Box::new(move |a, b| if key(a) <= key(b) { a } else { b }),
                ScatterMode::Max => Box::new(move |a, b| if key(a) >= key(b) { a } else { b }),
            };
            put(&mut out, updates, places, inner, f);
            target.int(out)
        }
        Storage::Bool(v) => {
            let mut out = v.to_vec();
            if mode != ScatterMode::Update {
                return Err(target.mismatch(&[&data, updates]));
            }
            put(&mut out, updates.bools()?, places, inner, |_, b| b);
            target.bool(out)
        }
    }
}

fn put<T: Copy>(
    out: &mut [T],
    updates: &[T],
    places: &[usize],
    inner: usize,
    f: impl Fn(T, T) -> T,
) {
    for (i, &place) in places.iter().enumerate() {
        let row = &updates[i * inner..(i + 1) * inner];
        for (o, &u) in out[place..place + inner].iter_mut().zip(row) {
            *o = f(*o, u);
        }
    }
}
