//! Sampling at given places.

use rayon::prelude::*;

use super::Target;
use super::layout::strides;
use super::taps::taps;
use crate::error::Result;
use crate::ir::ops::{GridSample, Outside, Sampling};
use crate::tensor::{Tensor, num};

/// The index that stands for `i` in an axis of `n` elements, if there is one.
fn resolve(op: &GridSample, i: i64, n: usize) -> Option<usize> {
    let n = num::i64_of(n);
    let inside = match op.outside {
        Outside::Constant(_) if !(0..n).contains(&i) => return None,
        Outside::Constant(_) | Outside::Border => i.clamp(0, n - 1),
        Outside::Reflection if op.align_corners => {
            let period = (2 * (n - 1)).max(1);
            let at = i.rem_euclid(period);
            at.min(period - at).min(n - 1)
        }
        Outside::Reflection => {
            let at = i.rem_euclid(2 * n);
            at.min(2 * n - 1 - at)
        }
    };
    Some(num::usize_of(inside.unsigned_abs()))
}

/// A place that is reflected into the axis, as the borders ask.
fn reflect(op: &GridSample, x: f64, n: usize) -> f64 {
    let n = num::f64_of(n);
    let (low, high) = if op.align_corners {
        (0.0, n - 1.0)
    } else {
        (-0.5, n - 0.5)
    };
    let span = high - low;
    if span <= 0.0 {
        return 0.0;
    }
    let at = (x - low).abs().rem_euclid(2.0 * span);
    low + at.min(2.0 * span - at)
}

pub(super) fn grid_sample(
    op: GridSample,
    x: &Tensor,
    grid: &Tensor,
    target: Target,
) -> Result<Tensor> {
    let (&[batch, channels, ref spatial @ ..], Some(&axes)) = (x.shape(), grid.shape().last())
    else {
        return Err(target.mismatch(&[x, grid]));
    };
    if axes != spatial.len() || target.shape().len() != x.shape().len() || spatial.contains(&0) {
        return Err(target.mismatch(&[x, grid]));
    }
    let places: usize = target.shape()[2..].iter().product();
    let plane: usize = spatial.iter().product();
    let (v, g) = (x.floats()?, grid.floats()?);
    let own = strides(spatial);
    let fill = match op.outside {
        Outside::Constant(value) => value,
        Outside::Border | Outside::Reflection => 0.0,
    };
    // For every place of a sample: offsets within a plane (none outside) and weights.
    let weigh = |at: &[f32]| -> Vec<(Option<usize>, f32)> {
        let mut all: Vec<(Option<usize>, f64)> = vec![(Some(0), 1.0)];
        for (axis, &n) in spatial.iter().enumerate() {
            let size = num::f64_of(n);
            // The grid names the last axis first.
            let u = f64::from(at[axes - 1 - axis]);
            let place = if op.align_corners {
                (u + 1.0) / 2.0 * (size - 1.0)
            } else {
                ((u + 1.0) * size - 1.0) / 2.0
            };
            let place = match (op.outside, op.sampling) {
                // Cubic kernels reflect and clamp every element, others the place.
                (_, Sampling::Cubic { .. }) | (Outside::Constant(_), _) => place,
                (Outside::Border, _) => place.clamp(0.0, size - 1.0),
                (Outside::Reflection, _) => reflect(&op, place, n).clamp(0.0, size - 1.0),
            };
            let found: Vec<(Option<usize>, f64)> = if place.is_finite() {
                taps(place, op.sampling, 1.0)
                    .into_iter()
                    .map(|(i, w)| (resolve(&op, i, n), w))
                    .collect()
            } else {
                vec![(None, 1.0)]
            };
            all = all
                .iter()
                .flat_map(|&(base, w)| {
                    let stride = own[axis];
                    found
                        .iter()
                        .map(move |&(i, v)| (base.zip(i).map(|(b, i)| b + i * stride), w * v))
                })
                .collect();
        }
        all.into_iter()
            .map(|(i, w)| (i, num::f32_of_f64(w)))
            .collect()
    };
    let mut out = vec![0.0f32; target.len()];
    for n in 0..batch {
        let grid = &g[n * places * axes..(n + 1) * places * axes];
        let weights: Vec<Vec<(Option<usize>, f32)>> =
            grid.par_chunks_exact(axes).map(weigh).collect();
        if places == 0 {
            continue;
        }
        let out = &mut out[n * channels * places..(n + 1) * channels * places];
        out.par_chunks_exact_mut(places)
            .enumerate()
            .for_each(|(c, out)| {
                let x = &v[(n * channels + c) * plane..][..plane];
                for (o, weights) in out.iter_mut().zip(&weights) {
                    *o = weights
                        .iter()
                        .map(|&(i, w)| w * i.map_or(fill, |i| x[i]))
                        .sum();
                }
            });
    }
    target.float(out)
}
