//! Windows and Fourier transforms: constants, and products with constant matrices.

use std::f64::consts::PI;

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, row};
use super::tensors::element_type;
use super::{Importer, one};
use crate::error::Result;
use crate::ir::{Dim, ValueId, normalize_axis};
use crate::limits;
use crate::tensor::{DType, Tensor, num};

pub(super) const ROWS: &[Row] = &[
    row("HannWindow", 17, |m, c| window(m, c, &[0.5, 0.5])),
    row("HammingWindow", 17, |m, c| {
        window(m, c, &[25.0 / 46.0, 21.0 / 46.0])
    }),
    row("BlackmanWindow", 17, |m, c| {
        window(m, c, &[0.42, 0.5, 0.08])
    }),
    row("MelWeightMatrix", 17, mel_weights),
    row("DFT", 17, dft),
    row("STFT", 17, stft),
];

fn float_type(call: &mut Call<'_>) -> Result<DType> {
    let number = call.int_or("output_datatype", 1)?;
    Ok(element_type(i32::try_from(number).unwrap_or_default())?.0)
}

fn bounded(call: &Call<'_>, n: i64) -> Result<usize> {
    usize::try_from(n)
        .ok()
        .filter(|&n| num::u64_of(n) <= limits::FOLDED_ELEMENTS.get())
        .ok_or_else(|| call.wrong("size", "a sensible size", n).into())
}

/// a₀ − a₁·cos(2πi/N) + a₂·cos(4πi/N)
fn window(m: &mut Importer<'_>, call: &mut Call<'_>, terms: &[f64]) -> Result<Vec<Entry>> {
    let size = m.int(call, 0)?.ok_or_else(|| call.missing("the size"))?;
    let periodic = call.flag("periodic", true)?;
    let dtype = float_type(call)?;
    let n = bounded(call, size)?;
    let period = if periodic { n } else { n.saturating_sub(1) };
    let values = (0..n)
        .map(|i| {
            let angle = 2.0 * PI * num::f64_of(i) / num::f64_of(period.max(1));
            let mut sign = 1.0;
            let mut sum = 0.0;
            for (k, term) in terms.iter().enumerate() {
                sum += sign * term * (num::f64_of(k) * angle).cos();
                sign = -sign;
            }
            num::f32_of_f64(sum)
        })
        .collect();
    let tensor = Tensor::f32(vec![n], values)?.cast(dtype);
    one(m.b.tensor("window", &tensor)?)
}

fn mel_weights(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let mut number = |m: &mut Importer<'_>, i: usize| -> Result<f64> {
        let list = m.floats(call, i)?.unwrap_or_default();
        Ok(list.first().copied().unwrap_or_default())
    };
    let (bins, length) = (number(m, 0)?, number(m, 1)?);
    let (rate, low, high) = (number(m, 2)?, number(m, 3)?, number(m, 4)?);
    let dtype = float_type(call)?;
    let bins = bounded(call, num::i64_of_f64(bins))?;
    let length = bounded(call, num::i64_of_f64(length))?;
    let rows = length / 2 + 1;
    bounded(call, num::i64_of(rows.saturating_mul(bins)))?;
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let step = (mel(high) - mel(low)) / num::f64_of(bins + 2);
    let edges: Vec<i64> = (0..bins + 2)
        .map(|i| {
            let hertz = 700.0 * (10f64.powf((num::f64_of(i) * step + mel(low)) / 2595.0) - 1.0);
            num::i64_of_f64(((num::f64_of(length) + 1.0) * hertz / rate).floor())
        })
        .collect();
    let mut values = vec![0.0; rows * bins];
    let mut put = |row: i64, column: usize, value: f64| {
        if let Some(row) = usize::try_from(row).ok().filter(|&r| r < rows) {
            values[row * bins + column] = num::f32_of_f64(value);
        }
    };
    for i in 0..bins {
        let (left, centre, right) = (edges[i], edges[i + 1], edges[i + 2]);
        if left == centre {
            put(centre, i, 1.0);
        } else {
            for j in left..=centre.min(num::i64_of(rows)) {
                put(
                    j,
                    i,
                    num::f64_of_i64(j - left) / num::f64_of_i64(centre - left),
                );
            }
        }
        for j in centre..right.min(num::i64_of(rows)) {
            put(
                j,
                i,
                num::f64_of_i64(right - j) / num::f64_of_i64(right - centre),
            );
        }
    }
    let tensor = Tensor::f32(vec![rows, bins], values)?.cast(dtype);
    one(m.b.tensor("weights", &tensor)?)
}

/// cos and sin of 2π·i·k/length, as `[inputs, bins]`; sin with the sign of the transform.
fn waves(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    dtype: DType,
    inputs: usize,
    bins: usize,
    length: usize,
    inverse: bool,
) -> Result<(ValueId, ValueId)> {
    bounded(call, num::i64_of(inputs.saturating_mul(bins)))?;
    let (mut cos, mut sin) = (Vec::new(), Vec::new());
    let scale = if inverse {
        1.0 / num::f64_of(length)
    } else {
        1.0
    };
    for i in 0..inputs {
        for k in 0..bins {
            // The angle's turns are taken off while they are whole numbers.
            let turns = num::f64_of((i * k) % length) / num::f64_of(length);
            let angle = 2.0 * PI * turns;
            cos.push(num::f32_of_f64(scale * angle.cos()));
            let s = angle.sin();
            sin.push(num::f32_of_f64(scale * if inverse { s } else { -s }));
        }
    }
    let cos = Tensor::f32(vec![inputs, bins], cos)?.cast(dtype);
    let sin = Tensor::f32(vec![inputs, bins], sin)?.cast(dtype);
    Ok((m.b.tensor("cos", &cos)?, m.b.tensor("sin", &sin)?))
}

/// The transform of `re + i·im` along the last axis: real and imaginary part.
fn transform(
    m: &mut Importer<'_>,
    re: ValueId,
    im: Option<ValueId>,
    (cos, sin): (ValueId, ValueId),
) -> Result<(ValueId, ValueId)> {
    let rank = m.b.rank(re);
    let re = if rank == 1 {
        m.b.unsqueeze(re, &[0])?
    } else {
        re
    };
    let (mut a, mut b) = (m.b.matmul(re, cos)?, m.b.matmul(re, sin)?);
    if let Some(im) = im {
        let im = if rank == 1 {
            m.b.unsqueeze(im, &[0])?
        } else {
            im
        };
        let (c, s) = (m.b.matmul(im, cos)?, m.b.matmul(im, sin)?);
        a = m.b.sub(a, s)?;
        b = m.b.add(b, c)?;
    }
    if rank == 1 {
        a = m.b.squeeze(a, &[0])?;
        b = m.b.squeeze(b, &[0])?;
    }
    Ok((a, b))
}

/// Real and, if there is one, imaginary part of a signal whose last axis holds them.
fn parts(m: &mut Importer<'_>, call: &Call<'_>, x: ValueId) -> Result<(ValueId, Option<ValueId>)> {
    let shape = m.b.shape(x);
    let last = shape.len() - 1;
    let part = |m: &mut Importer<'_>, i: usize| -> Result<ValueId> {
        let p = m.b.part(x, last, i, i + 1)?;
        m.b.squeeze(p, &[last])
    };
    match shape[last].known() {
        Some(1) => Ok((part(m, 0)?, None)),
        Some(2) => Ok((part(m, 0)?, Some(part(m, 1)?))),
        _ => Err(call
            .wrong("input", "1 or 2 numbers per element", m.b.ty(x))
            .into()),
    }
}

fn dft(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let length = m.int(call, 1)?;
    let rank = m.b.rank(x);
    let axis = if call.version < 20 {
        call.int_or("axis", 1)?
    } else {
        m.int(call, 2)?.unwrap_or(-2)
    };
    let axis = normalize_axis(axis, rank)?;
    let inverse = call.flag("inverse", false)?;
    let onesided = call.flag("onesided", false)?;
    if rank < 2 || axis == rank - 1 {
        return Err(call.wrong("axis", "an axis of the signal", axis).into());
    }
    let size = m.b.shape(x)[axis].known();
    let size = size.ok_or_else(|| call.unsupported("an axis whose size varies"))?;
    // The inverse of a one-sided transform is real, and as long as the whole would be.
    let real = inverse && onesided;
    let length = match length {
        Some(n) => bounded(call, n)?,
        None if real => size.saturating_sub(1).saturating_mul(2),
        None => size,
    };
    if length == 0 {
        return Err(call.wrong("dft_length", "at least 1", 0).into());
    }
    let half = length / 2 + 1;
    let bins = if onesided && !real { half } else { length };
    let (re, im) = parts(m, call, x)?;
    if real && im.is_none() {
        return Err(call
            .wrong(
                "input",
                "complex numbers where `inverse` is one-sided",
                "real ones",
            )
            .into());
    }
    // The axis to the end; what is missing is zero, what is too much is left out.
    let mut perm: Vec<usize> = (0..rank - 1).filter(|&a| a != axis).collect();
    perm.push(axis);
    let used = size.min(if real { half } else { length });
    let dtype = m.b.dtype(x);
    // Every bin stands for its mirror image too, but for the first and, of an even number, the middle one.
    let shares = (0..used)
        .map(|k| if k == 0 || 2 * k == length { 1.0 } else { 2.0 })
        .collect();
    let shares = Tensor::f32(vec![used], shares)?.cast(dtype);
    let bring = |m: &mut Importer<'_>, v: ValueId| -> Result<ValueId> {
        let v = m.b.transpose(v, &perm)?;
        let v = m.b.part(v, rank - 2, 0, used)?;
        if !real {
            return Ok(v);
        }
        let shares = m.b.tensor("shares", &shares)?;
        m.b.mul(v, shares)
    };
    let re = bring(m, re)?;
    let im = match im {
        Some(im) => Some(bring(m, im)?),
        None => None,
    };
    let waves = waves(m, call, dtype, used, bins, length, inverse)?;
    let (a, b) = transform(m, re, im, waves)?;
    let mut back = vec![0; rank - 1];
    for (to, &from) in perm.iter().enumerate() {
        back[from] = to;
    }
    let a = m.b.transpose(a, &back)?;
    if real {
        return one(m.b.unsqueeze(a, &[rank - 1])?);
    }
    let b = m.b.transpose(b, &back)?;
    one(stacked(m, a, b)?)
}

/// Real and imaginary part side by side in a new last axis.
fn stacked(m: &mut Importer<'_>, a: ValueId, b: ValueId) -> Result<ValueId> {
    let rank = m.b.rank(a);
    let (a, b) = (m.b.unsqueeze(a, &[rank])?, m.b.unsqueeze(b, &[rank])?);
    m.b.join(&[a, b], rank)
}

/// Frames by index, weighted, transformed.
fn stft(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let step = m.int(call, 1)?.ok_or_else(|| call.missing("the step"))?;
    let window = m.optional(call, 2)?;
    let length = m.int(call, 3)?;
    let onesided = call.flag("onesided", true)?;
    let x = if m.b.rank(x) == 2 {
        m.b.unsqueeze(x, &[2])?
    } else {
        x
    };
    let shape = m.b.shape(x);
    let size = shape.get(1).and_then(Dim::known);
    let (Some(size), 3) = (size, shape.len()) else {
        return Err(call.unsupported("a signal whose length varies").into());
    };
    let length = match (length, window) {
        (Some(n), _) => bounded(call, n)?,
        (None, Some(w)) => m.b.shape(w)[0].known().unwrap_or(size),
        (None, None) => size,
    };
    let step = bounded(call, step)?;
    if step == 0 || length == 0 || length > size {
        return Err(call
            .wrong("frame_length", "a frame inside the signal", length)
            .into());
    }
    let frames = (size - length) / step + 1;
    bounded(call, num::i64_of(frames.saturating_mul(length)))?;
    let indices: Vec<i64> = (0..frames)
        .flat_map(|f| (0..length).map(move |i| num::i64_of(f * step + i)))
        .collect();
    let indices = Tensor::int(DType::I64, vec![frames, length], indices)?;
    let indices = m.b.tensor("frames", &indices)?;
    let (re, im) = parts(m, call, x)?;
    let frame = |m: &mut Importer<'_>, v: ValueId| -> Result<ValueId> {
        let v = m.b.gather(v, indices, 1)?;
        match window {
            Some(w) => m.b.mul(v, w),
            None => Ok(v),
        }
    };
    let re = frame(m, re)?;
    let im = match im {
        Some(im) => Some(frame(m, im)?),
        None => None,
    };
    let bins = if onesided { length / 2 + 1 } else { length };
    let dtype = m.b.dtype(x);
    let waves = waves(m, call, dtype, length, bins, length, false)?;
    let (a, b) = transform(m, re, im, waves)?;
    one(stacked(m, a, b)?)
}
