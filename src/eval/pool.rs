//! Pooling.

use super::Target;
use super::elementwise::max_f32;
use super::layout::{pieces, position, strides};
use crate::error::Result;
use crate::ir::ops::{Pool, PoolKind};
use crate::tensor::{Storage, Tensor, num};

/// For one axis and one window: the indices inside the tensor, and how many elements of the window are inside the padded tensor.
struct Taps {
    first: usize,
    count: usize,
    padded: usize,
}

/// The taps of every window of every spatial axis.
fn taps(op: &Pool, spatial: &[usize], windows: &[usize]) -> Vec<Vec<Taps>> {
    spatial
        .iter()
        .zip(windows)
        .enumerate()
        .map(|(axis, (&n, &m))| {
            let (before, after) = op.window.pads[axis];
            let (stride, dilation) = (op.window.strides[axis], op.window.dilations[axis]);
            (0..m)
                .map(|i| {
                    // Positions in the padded axis.
                    let at = |k: usize| i * stride + k * dilation;
                    let inside = |k: &usize| (before..before + n).contains(&at(*k));
                    let ks = 0..op.kernel[axis];
                    let first = ks.clone().find(inside);
                    Taps {
                        first: first.map_or(0, |k| at(k) - before),
                        count: ks.clone().filter(inside).count(),
                        padded: ks.filter(|&k| at(k) < before + n + after).count(),
                    }
                })
                .collect()
        })
        .collect()
}

pub(super) fn pool(op: &Pool, x: &Tensor, target: Target) -> Result<Tensor> {
    let axes = op.kernel.len();
    if x.shape().len() != axes + 2 || target.shape().len() != axes + 2 {
        return Err(target.mismatch(&[x]));
    }
    let (spatial, windows) = (x.shape()[2..].to_vec(), target.shape()[2..].to_vec());
    let taps = taps(op, &spatial, &windows);
    match (x.storage(), op.kind) {
        (Storage::Float(v), PoolKind::Max) => {
            let out = slide(
                op,
                v,
                &spatial,
                &windows,
                &taps,
                f32::NEG_INFINITY,
                max_f32,
                |a, _, _| a,
            );
            target.float(out)
        }
        (Storage::Float(v), PoolKind::Average { count_padding }) => {
            let add = |a: f32, b: f32| a + b;
            let out = slide(
                op,
                v,
                &spatial,
                &windows,
                &taps,
                0.0,
                add,
                |total, inside, padded| {
                    total / num::f32_of(if count_padding { padded } else { inside })
                },
            );
            target.float(out)
        }
        (Storage::Int(v), PoolKind::Max) => {
            let key = super::elementwise::order(x.dtype());
            let larger = move |a: i64, b: i64| if key(a) >= key(b) { a } else { b };
            let least = key(i64::MIN);
            let least = if x.dtype().is_signed_int() {
                i64::MIN
            } else {
                least.min(0)
            };
            let out = slide(op, v, &spatial, &windows, &taps, least, larger, |a, _, _| a);
            target.int(out)
        }
        (Storage::Int(_) | Storage::Bool(_), _) => Err(target.mismatch(&[x])),
    }
}

/// Folds `f` over every window of every plane; `finish` sees the total and the numbers of elements inside the tensor and the padded tensor.
#[allow(clippy::too_many_arguments)] // One plain loop: a struct for it would only rename its parts.
fn slide<T: Copy + Default + Send + Sync>(
    op: &Pool,
    v: &[T],
    spatial: &[usize],
    windows: &[usize],
    taps: &[Vec<Taps>],
    start: T,
    f: impl Fn(T, T) -> T + Sync + Send,
    finish: impl Fn(T, usize, usize) -> T + Sync + Send,
) -> Vec<T> {
    let plane: usize = spatial.iter().product();
    let results: usize = windows.iter().product();
    let planes = v.len().checked_div(plane).unwrap_or(0);
    let mut out = vec![start; planes * results];
    if out.is_empty() {
        return out;
    }
    let own = strides(spatial);
    let steps: Vec<usize> = own
        .iter()
        .zip(&op.window.dilations)
        .map(|(s, d)| s * d)
        .collect();
    pieces(&mut out, results, |p, out| {
        let x = &v[p * plane..(p + 1) * plane];
        for (i, o) in out.iter_mut().enumerate() {
            let at = position(i, windows);
            let here: Vec<&Taps> = at.iter().zip(taps).map(|(&i, t)| &t[i]).collect();
            let base: usize = here.iter().zip(&own).map(|(t, s)| t.first * s).sum();
            let counts: Vec<usize> = here.iter().map(|t| t.count).collect();
            let inside: usize = counts.iter().product();
            let padded: usize = here.iter().map(|t| t.padded).product();
            let mut total = start;
            if inside > 0 {
                fold(x, base, &counts, &steps, &mut |y| total = f(total, y));
            }
            *o = finish(total, inside, padded);
        }
    });
    out
}

fn fold<T: Copy>(x: &[T], base: usize, counts: &[usize], steps: &[usize], f: &mut impl FnMut(T)) {
    match (counts, steps) {
        (&[n], &[step]) => (0..n).for_each(|k| f(x[base + k * step])),
        (&[n, ref counts @ ..], &[step, ref steps @ ..]) => {
            (0..n).for_each(|k| fold(x, base + k * step, counts, steps, f));
        }
        (_, _) => f(x[base]),
    }
}
