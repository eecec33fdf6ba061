//! Normalisation: statistics in `f64`, one rounding at the end.

use super::layout::{PIECE, pieces};
use super::{Target, floats_of, math};
use crate::error::Result;
use crate::ir::ops::{BatchNorm, InstanceNorm, LayerNorm, Lrn, RmsNorm};
use crate::tensor::{Tensor, num};

pub(super) fn layer_norm(
    op: LayerNorm,
    x: Tensor,
    gamma: Option<&Tensor>,
    beta: Option<&Tensor>,
    target: Target,
) -> Result<Tensor> {
    rows(op.axis, x, gamma, beta, target, |row| {
        let n = num::f64_of(row.len());
        let mean = math::sum(row, |x| x) / n;
        let variance = math::sum(row, |x| (x - mean) * (x - mean)) / n;
        (mean, 1.0 / (variance + op.epsilon).sqrt())
    })
}

pub(super) fn rms_norm(
    op: RmsNorm,
    x: Tensor,
    gamma: Option<&Tensor>,
    target: Target,
) -> Result<Tensor> {
    rows(op.axis, x, gamma, None, target, |row| {
        let squares = math::sum(row, |x| x * x) / num::f64_of(row.len());
        (0.0, 1.0 / (squares + op.epsilon).sqrt())
    })
}

/// `(x − shift) · scale · gamma + beta` for every row, with shift and scale from `statistics`.
fn rows(
    axis: usize,
    x: Tensor,
    gamma: Option<&Tensor>,
    beta: Option<&Tensor>,
    target: Target,
    statistics: impl Fn(&[f32]) -> (f64, f64) + Sync,
) -> Result<Tensor> {
    let n: usize = x.shape().iter().skip(axis).product();
    for parameter in [gamma, beta].into_iter().flatten() {
        if parameter.len() != n {
            return Err(target.mismatch(&[&x, parameter]));
        }
    }
    let gamma = gamma.map(Tensor::floats).transpose()?;
    let beta = beta.map(Tensor::floats).transpose()?;
    let mut values = floats_of(x)?;
    if n == 0 {
        return target.float(values);
    }
    let per_piece = (PIECE / n).max(1);
    pieces(&mut values, per_piece * n, |_, piece| {
        for row in piece.chunks_exact_mut(n) {
            let (shift, scale) = statistics(row);
            let normal = |x: f32| (f64::from(x) - shift) * scale;
            match (gamma, beta) {
                (None, None) => row
                    .iter_mut()
                    .for_each(|x| *x = num::f32_of_f64(normal(*x))),
                (Some(g), None) => {
                    for (x, &g) in row.iter_mut().zip(g.iter()) {
                        *x = num::f32_of_f64(normal(*x) * f64::from(g));
                    }
                }
                (None, Some(b)) => {
                    for (x, &b) in row.iter_mut().zip(b.iter()) {
                        *x = num::f32_of_f64(normal(*x) + f64::from(b));
                    }
                }
                (Some(g), Some(b)) => {
                    for ((x, &g), &b) in row.iter_mut().zip(g.iter()).zip(b.iter()) {
                        *x = num::f32_of_f64(normal(*x) * f64::from(g) + f64::from(b));
                    }
                }
            }
        }
    });
    target.float(values)
}

/// Calls `body` with the channel and the elements of every plane of `[N, C, …]`.
fn planes(
    x: Tensor,
    target: Target,
    body: impl Fn(usize, &mut [f32]) + Sync + Send,
) -> Result<Tensor> {
    let channels = x.shape().get(1).copied().unwrap_or(1);
    let plane: usize = x.shape().iter().skip(2).product();
    let mut values = floats_of(x)?;
    if !values.is_empty() {
        pieces(&mut values, plane, |i, plane| body(i % channels, plane));
    }
    target.float(values)
}

pub(super) fn batch_norm(
    op: BatchNorm,
    operands: &mut Vec<Tensor>,
    target: Target,
) -> Result<Tensor> {
    let x = operands.remove(0);
    let [mean, variance, gamma, beta] = operands.as_slice() else {
        return Err(target.mismatch(&[&x]));
    };
    let (mean, variance) = (mean.floats()?, variance.floats()?);
    let (gamma, beta) = (gamma.floats()?, beta.floats()?);
    planes(x, target, |c, plane| {
        let scale = f64::from(gamma[c]) / (f64::from(variance[c]) + op.epsilon).sqrt();
        let shift = f64::from(beta[c]) - f64::from(mean[c]) * scale;
        for x in plane {
            *x = num::f32_of_f64(f64::from(*x) * scale + shift);
        }
    })
}

pub(super) fn instance_norm(
    op: InstanceNorm,
    operands: &mut Vec<Tensor>,
    target: Target,
) -> Result<Tensor> {
    let x = operands.remove(0);
    let [gamma, beta] = operands.as_slice() else {
        return Err(target.mismatch(&[&x]));
    };
    let (gamma, beta) = (gamma.floats()?, beta.floats()?);
    planes(x, target, |c, plane| {
        let n = num::f64_of(plane.len());
        let mean = math::sum(plane, |x| x) / n;
        let variance = math::sum(plane, |x| (x - mean) * (x - mean)) / n;
        let scale = f64::from(gamma[c]) / (variance + op.epsilon).sqrt();
        for x in plane {
            *x = num::f32_of_f64((f64::from(*x) - mean) * scale + f64::from(beta[c]));
        }
    })
}

pub(super) fn lrn(op: Lrn, x: &Tensor, target: Target) -> Result<Tensor> {
    let channels = x.shape().get(1).copied().unwrap_or(1);
    let plane: usize = x.shape().iter().skip(2).product();
    let v = x.floats()?;
    let before = op.size.saturating_sub(1) / 2;
    let mut out = vec![0.0f32; v.len()];
    let factor = f64::from(op.alpha) / num::f64_of(op.size.max(1));
    if !out.is_empty() {
        pieces(&mut out, plane, |i, out| {
            let (n, c) = (i / channels, i % channels);
            let first = c.saturating_sub(before);
            let end = (c + op.size - before).min(channels);
            for (k, o) in out.iter_mut().enumerate() {
                let at = |c: usize| f64::from(v[(n * channels + c) * plane + k]);
                let squares: f64 = (first..end).map(|c| at(c) * at(c)).sum();
                let base = f64::from(op.k) + factor * squares;
                *o = num::f32_of_f64(at(c) / base.powf(f64::from(op.beta)));
            }
        });
    }
    target.float(out)
}
