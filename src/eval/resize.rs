//! Resampling of axes, one after the other.

use rayon::prelude::*;

use super::Target;
use super::layout::pick_axes;
use super::taps::{scale_to_one, taps};
use crate::error::Result;
use crate::ir::ops::{Coordinates, Resize, ResizeAxis, Sampling};
use crate::tensor::{Storage, Tensor, num};

/// The place in an axis of `n` elements of index `i` of `m`, in single precision, step by step: what [`Coordinates`] says.
fn place(axis: &ResizeAxis, i: usize, n: usize, m: usize) -> f64 {
    let (i, n, m) = (num::f32_of(i), num::f32_of(n), num::f32_of(m));
    let scale = axis.scale.unwrap_or(m / n);
    let half = (i + 0.5) / scale - 0.5;
    f64::from(match axis.coordinates {
        Coordinates::HalfPixel => half,
        Coordinates::HalfPixelSymmetric => {
            let adjustment = m / (n * scale);
            n / 2.0 * (1.0 - adjustment) + half
        }
        Coordinates::PytorchHalfPixel if m <= 1.0 => 0.0,
        Coordinates::PytorchHalfPixel => half,
        Coordinates::Asymmetric => i / scale,
        Coordinates::AlignCorners if m <= 1.0 => 0.0,
        Coordinates::AlignCorners => i * (n - 1.0) / (m - 1.0),
        Coordinates::CropAndResize { start, end } => {
            if m > 1.0 {
                start * (n - 1.0) + i * (end - start) * (n - 1.0) / (m - 1.0)
            } else {
                0.5 * (start + end) * (n - 1.0)
            }
        }
        Coordinates::Affine { offset, step } => num::f32_of_f64(offset + f64::from(i) * step),
    })
}

/// The elements inside the axis that an index takes, with their weights.
fn inside(op: &Resize, axis: &ResizeAxis, x: f64, n: usize, m: usize) -> Vec<(usize, f32)> {
    let shrink = if op.antialias {
        axis.scale
            .map_or(num::f64_of(m) / num::f64_of(n), f64::from)
    } else {
        1.0
    };
    let last = num::i64_of(n) - 1;
    let mut found = taps(x, op.sampling, shrink);
    if op.exclude_outside {
        found.retain(|(i, _)| (0..=last).contains(i));
        scale_to_one(&mut found);
    }
    found
        .into_iter()
        .map(|(i, w)| {
            let i = num::usize_of(i.clamp(0, last).unsigned_abs());
            (i, num::f32_of_f64(w))
        })
        .collect()
}

pub(super) fn resize(op: &Resize, x: &Tensor, target: Target) -> Result<Tensor> {
    let fits = x.shape().len() == target.shape().len()
        && op
            .axes
            .iter()
            .all(|a| a.axis < x.shape().len() && x.shape()[a.axis] > 0);
    if !fits {
        return Err(target.mismatch(&[x]));
    }
    let sizes: Vec<(usize, usize)> = op
        .axes
        .iter()
        .map(|a| (x.shape()[a.axis], target.shape()[a.axis]))
        .collect();
    let places: Vec<Vec<f64>> = op
        .axes
        .iter()
        .zip(&sizes)
        .map(|(axis, &(n, m))| (0..m).map(|i| place(axis, i, n, m)).collect())
        .collect();
    let resized = if let Sampling::Nearest(_) = op.sampling {
        let mut maps: Vec<Vec<usize>> = x.shape().iter().map(|&n| (0..n).collect()).collect();
        for ((axis, places), &(n, m)) in op.axes.iter().zip(&places).zip(&sizes) {
            let pick = |&x: &f64| inside(op, axis, x, n, m).first().map_or(0, |t| t.0);
            maps[axis.axis] = places.iter().map(pick).collect();
        }
        if op.extrapolation.is_none() {
            return pick_axes(x, &maps, target);
        }
        let whole = Target {
            shape: target.shape.clone(),
            ..target
        };
        return extrapolate(
            op,
            pick_axes(
                x,
                &maps,
                Target {
                    dtype: x.dtype(),
                    ..whole
                },
            )?,
            &places,
            &sizes,
        );
    } else {
        let (mut values, mut shape) = match x.storage() {
            Storage::Float(v) => (v.to_vec(), x.shape().to_vec()),
            Storage::Int(v) => (
                v.iter().map(|&x| num::f32_of_i64(x)).collect(),
                x.shape().to_vec(),
            ),
            Storage::Bool(_) => return Err(target.mismatch(&[x])),
        };
        for ((axis, places), &(n, m)) in op.axes.iter().zip(&places).zip(&sizes) {
            let found: Vec<Vec<(usize, f32)>> =
                places.iter().map(|&x| inside(op, axis, x, n, m)).collect();
            values = along(&values, &shape, axis.axis, &found);
            shape[axis.axis] = m;
        }
        match x.storage() {
            Storage::Int(_) => target.int(
                values
                    .iter()
                    .map(|&x| num::i64_of_f32(x.round_ties_even()))
                    .collect(),
            )?,
            Storage::Float(_) | Storage::Bool(_) => target.float(values)?,
        }
    };
    extrapolate(op, resized, &places, &sizes)
}

/// Gives what lies outside its value.
fn extrapolate(
    op: &Resize,
    x: Tensor,
    places: &[Vec<f64>],
    sizes: &[(usize, usize)],
) -> Result<Tensor> {
    let Some(value) = op.extrapolation else {
        return Ok(x);
    };
    let shape = x.shape().to_vec();
    let dtype = x.dtype();
    let mut values = super::floats_of(x)?;
    for ((axis, places), &(n, m)) in op.axes.iter().zip(places).zip(sizes) {
        let inner: usize = shape[axis.axis + 1..].iter().product();
        let last = num::f64_of(n) - 1.0;
        for (i, row) in values.chunks_mut(inner.max(1)).enumerate() {
            let x = places[i % m];
            if x < 0.0 || x > last {
                row.fill(value);
            }
        }
    }
    Ok(Tensor::float(dtype, shape, values)?)
}

/// Weighted sums along one axis.
fn along(v: &[f32], shape: &[usize], axis: usize, taps: &[Vec<(usize, f32)>]) -> Vec<f32> {
    let (n, m) = (shape[axis], taps.len());
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let mut out = vec![0.0; outer * m * inner];
    if out.is_empty() {
        return out;
    }
    out.par_chunks_exact_mut(m * inner)
        .enumerate()
        .for_each(|(o, block)| {
            let source = &v[o * n * inner..(o + 1) * n * inner];
            for (taps, row) in taps.iter().zip(block.chunks_exact_mut(inner)) {
                for &(i, weight) in taps {
                    let from = &source[i * inner..(i + 1) * inner];
                    row.iter_mut().zip(from).for_each(|(o, x)| *o += weight * x);
                }
            }
        });
    out
}
