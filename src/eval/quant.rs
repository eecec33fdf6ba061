//! Quantisation: the affine map between integers and floats.

use super::Target;
use super::layout::{position, strides};
use crate::error::Result;
use crate::ir::ops::{Dequantize, Granularity, Quantize};
use crate::tensor::{DType, Tensor, num};

/// For every element of `shape`, which scale is its own.
fn scale_of(
    granularity: &Granularity,
    shape: &[usize],
    scale: &[usize],
) -> Box<dyn Fn(usize) -> usize> {
    match granularity {
        Granularity::Tensor => Box::new(|_| 0),
        Granularity::Axis(axis) => {
            let inner: usize = shape.iter().skip(axis + 1).product();
            let n = shape.get(*axis).copied().unwrap_or(1).max(1);
            Box::new(move |i| i / inner.max(1) % n)
        }
        Granularity::Block => {
            let own = strides(scale);
            let block: Vec<usize> = shape
                .iter()
                .zip(scale)
                .map(|(n, s)| n.checked_div(*s).unwrap_or(1).max(1))
                .collect();
            let shape = shape.to_vec();
            Box::new(move |i| {
                let at = position(i, &shape);
                at.iter()
                    .zip(&block)
                    .zip(&own)
                    .map(|((i, b), s)| i / b * s)
                    .sum()
            })
        }
    }
}

/// The least and largest number of an integer type.
fn bounds(dtype: DType) -> (f64, f64) {
    let bits = dtype.bits().min(63);
    if dtype.is_signed_int() {
        let half = num::f64_of_i64(1 << (bits - 1).min(62));
        (-half, half - 1.0)
    } else {
        (0.0, num::f64_of_i64((1i64 << bits.min(62)) - 1))
    }
}

pub(super) fn quantize(op: &Quantize, operands: &[Tensor], target: Target) -> Result<Tensor> {
    let (x, scale) = (&operands[0], &operands[1]);
    let zero = operands.get(2).map(Tensor::ints).transpose()?;
    let which = scale_of(&op.granularity, x.shape(), scale.shape());
    let scales = scale.floats()?;
    let (low, high) = bounds(op.to);
    let values = x
        .floats()?
        .iter()
        .enumerate()
        .map(|(i, &x)| {
            let k = which(i);
            let zero = zero.map_or(0, |z| z[k]);
            let rounded = f64::from((x / scales[k]).round_ties_even());
            num::i64_of_f64((rounded + num::f64_of_i64(zero)).clamp(low, high))
        })
        .collect();
    target.int(values)
}

pub(super) fn dequantize(op: &Dequantize, operands: &[Tensor], target: Target) -> Result<Tensor> {
    let (q, scale) = (&operands[0], &operands[1]);
    let zero = operands.get(2).map(Tensor::ints).transpose()?;
    let which = scale_of(&op.granularity, q.shape(), scale.shape());
    let scales = scale.floats()?;
    let values = q
        .ints()?
        .iter()
        .enumerate()
        .map(|(i, &q)| {
            let k = which(i);
            let centred = q.wrapping_sub(zero.map_or(0, |z| z[k]));
            num::f32_of_f64(num::f64_of_i64(centred) * f64::from(scales[k]))
        })
        .collect();
    target.float(values)
}
