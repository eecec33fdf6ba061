//! Normalisation over trailing axes: two passes in `f64`, one rounding at the end.

use super::layout::{PIECE, pieces};
use super::{Target, floats_of, math};
use crate::error::Result;
use crate::ir::ops::{LayerNorm, RmsNorm};
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
