//! Where maxima lie and went, and convolutions whose windows are bent: composed of gathers, hats and products.

use super::call::Call;
use super::conv::{convolution, pooling};
use super::entry::Entry;
use super::table::{Row, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{
    ArgReduce, GridSample, Outside, Pad, PadMode, Sampling, ScatterElements, ScatterMode, Window,
};
use crate::ir::{Dim, Op, ValueId};
use crate::limits;
use crate::tensor::{DType, num};

pub(super) const ROWS: &[Row] = &[
    row("MaxUnpool", 9, max_unpool),
    row("DeformConv", 19, deformed),
];

/// Sizes of axes that have to be known.
fn known(call: &Call<'_>, dims: &[Dim]) -> Result<Vec<usize>> {
    let sizes: Option<Vec<usize>> = dims.iter().map(Dim::known).collect();
    sizes.ok_or_else(|| {
        let list: Vec<String> = dims.iter().map(ToString::to_string).collect();
        call.unsupported(format!(
            "axes whose size varies ({}; fix them with `--dim`)",
            list.join(", ")
        ))
        .into()
    })
}

/// The sum of `places[i] · strides[i]`, by the sizes of the axes, the last axis first in memory or the first.
fn flat(places: &[usize], sizes: &[usize], first: bool) -> usize {
    let step = |n: usize, (&p, &s): (&usize, &usize)| n * s + p;
    if first {
        places.iter().zip(sizes).rev().fold(0, step)
    } else {
        places.iter().zip(sizes).fold(0, step)
    }
}

/// What no maximum of other elements is.
pub(super) fn least(dtype: DType) -> f64 {
    if dtype.is_float() {
        f64::NEG_INFINITY
    } else {
        num::f64_of_i64(if dtype.is_signed_int() { -128 } else { 0 })
    }
}

/// The places of the maxima of every window in the whole tensor, as `y`, the pooled tensor, has them.
pub(super) fn argmax(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    (x, y): (ValueId, ValueId),
    kernel: &[usize],
    window: &Window,
    column_major: bool,
) -> Result<ValueId> {
    let (from, to) = (m.b.shape(x), m.b.shape(y));
    let spatial = known(call, from.get(2..).unwrap_or_default())?;
    let out = known(call, to.get(2..).unwrap_or_default())?;
    let count = |sizes: &[usize]| sizes.iter().fold(1usize, |n, &s| n.saturating_mul(s));
    let (inside, places, points) = (count(&spatial), count(&out), count(kernel));
    if num::u64_of(places.saturating_mul(points)) > limits::FOLDED_ELEMENTS.get() {
        return Err(call.unsupported("`Indices` of so many windows").into());
    }
    // Per window and point of it: where it lies, or one place behind the last where it lies outside; and the number that stands for it.
    let (mut sources, mut numbers) = (Vec::new(), Vec::new());
    let unravel = |mut at: usize, sizes: &[usize]| {
        let mut place = vec![0; sizes.len()];
        for (p, &size) in place.iter_mut().zip(sizes).rev() {
            *p = at % size;
            at /= size;
        }
        place
    };
    for at in 0..places {
        let corner = unravel(at, &out);
        for point in 0..points {
            let point = unravel(point, kernel);
            let place: Option<Vec<usize>> = (0..spatial.len())
                .map(|i| {
                    let at = corner[i] * window.strides[i] + point[i] * window.dilations[i];
                    at.checked_sub(window.pads[i].0).filter(|&p| p < spatial[i])
                })
                .collect();
            sources.push(num::i64_of(
                place.as_ref().map_or(inside, |p| flat(p, &spatial, false)),
            ));
            numbers.push(num::i64_of(
                place.map_or(0, |p| flat(&p, &spatial, column_major)),
            ));
        }
    }
    let rows = [from[0].clone(), from[1].clone()];
    let sized = |tail: &[usize]| {
        let tail = tail.iter().map(|&n| Dim::from(n));
        rows.iter().cloned().chain(tail).collect::<Vec<_>>()
    };
    let line = m.b.reshape(x, sized(&[inside]))?;
    let dtype = m.b.dtype(x);
    let least = m.b.number(line, least(dtype))?;
    let least = m.b.expand(least, sized(&[1]))?;
    let line = m.b.join(&[line, least], 2)?;
    let sources = m.b.longs(&sources)?;
    let windows = m.b.gather(line, sources, 2)?;
    let windows = m.b.reshape(windows, sized(&[places, points]))?;
    let op = ArgReduce {
        axis: 3,
        largest: true,
        last: false,
        dtype: DType::I64,
    };
    let best = m.b.node(Op::ArgReduce(op), &[windows])?;
    let first = m.b.iota(DType::I64, places)?;
    let first = m.b.mul_n(first, num::f64_of(points))?;
    let best = m.b.add(best, first)?;
    let numbers = m.b.longs(&numbers)?;
    let place = m.b.gather(numbers, best, 0)?;
    // Every channel of every sample begins after the one before it.
    let row = m.b.iota(DType::I64, rows[0].mul(&rows[1]))?;
    let row = m.b.mul_n(row, num::f64_of(inside))?;
    let row = m.b.reshape(row, sized(&[1]))?;
    let place = m.b.add(place, row)?;
    m.b.reshape(place, to)
}

/// The values at their places in a tensor of zeros; a larger shape that is asked for leaves zeros at the ends.
fn max_unpool(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, places) = (m.input(call, 0)?, m.input(call, 1)?);
    let wanted = m.ints(call, 2)?;
    let (kernel, slide, _) = pooling(m, call, x)?;
    let window = slide.window;
    let shape = m.b.shape(x);
    let spatial = known(call, &shape[2..])?;
    let mut full = shape[..2].to_vec();
    for i in 0..spatial.len() {
        let covered = spatial[i]
            .saturating_sub(1)
            .saturating_mul(window.strides[i]);
        let (before, after) = window.pads[i];
        let size = covered
            .saturating_add(kernel[i])
            .checked_sub(before.saturating_add(after))
            .filter(|&n| num::u64_of(n) < limits::DIMENSION);
        let size = size.ok_or_else(|| call.wrong("pads", "less than the result", before))?;
        full.push(Dim::from(size));
    }
    let all = |s: &[Dim]| s.iter().fold(Dim::from(1), |n, d| n.mul(d));
    let values = m.b.reshape(x, vec![all(&shape)])?;
    let places = m.b.reshape(places, vec![all(&shape)])?;
    let zero = m.b.number(x, 0.0)?;
    let empty = m.b.expand(zero, vec![all(&full)])?;
    let op = Op::ScatterElements(ScatterElements {
        axis: 0,
        mode: ScatterMode::Update,
    });
    let y = m.b.node(op, &[empty, places, values])?;
    let y = m.b.reshape(y, full.clone())?;
    let Some(wanted) = wanted else {
        return one(y);
    };
    let end: Option<Vec<Dim>> = (wanted.len() == full.len())
        .then(|| {
            let pairs = wanted.iter().zip(&full);
            pairs
                .map(|(&w, d)| Dim::constant(w).sub(d))
                .collect::<Vec<_>>()
        })
        .filter(|end| end.iter().all(|d| d.integer().is_some_and(|n| n >= 0)));
    let end = end.ok_or_else(|| {
        let found = format!("{wanted:?}");
        call.wrong("output_shape", "at least what the windows cover", found)
    })?;
    if end.iter().all(|d| d.integer() == Some(0)) {
        return one(y);
    }
    let op = Pad {
        mode: PadMode::Constant,
        begin: vec![Dim::from(0); end.len()],
        end,
    };
    one(m.b.node(Op::Pad(op), &[y, zero])?)
}

/// A convolution of an image whose points are moved by offsets and weighed by a mask: sampled, then one product.
fn deformed(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, w, offset) = (m.input(call, 0)?, m.input(call, 1)?, m.input(call, 2)?);
    let bias = m.optional(call, 3)?;
    let mask = m.optional(call, 4)?;
    let (slide, groups) = convolution(m, call, x, w)?;
    let window = slide.window;
    let offset_groups = call.int_or("offset_group", 1)?;
    let (shape, kernel) = (m.b.shape(x), m.b.shape(w));
    if shape.len() != 4 || m.b.rank(offset) != 4 {
        return Err(call.unsupported("anything but images (rank 4)").into());
    }
    let parts = usize::try_from(offset_groups).ok().filter(|&n| n > 0);
    let parts = parts.ok_or_else(|| call.wrong("offset_group", "at least 1", offset_groups))?;
    let fixed = known(
        call,
        &[&shape[1..], &kernel[..], &m.b.shape(offset)[1..]].concat(),
    )?;
    let [c, h, width, out, per, kh, kw, offsets, oh, ow] = fixed[..] else {
        return Err(call.missing("known sizes").into());
    };
    let points = kh * kw;
    if offsets != parts * points * 2 || c % parts != 0 || per * groups != c || out % groups != 0 {
        let found = format!("{parts} offset groups, {groups} groups, {offsets} offsets");
        return Err(call
            .wrong("offset", "groups that divide the channels", found)
            .into());
    }
    let dtype = m.b.dtype(x);
    let batch = shape[0].clone();
    let rows = batch.mul(&Dim::from(parts));
    let moved = |tail: &[usize]| {
        let tail = tail.iter().map(|&n| Dim::from(n));
        std::iter::once(rows.clone())
            .chain(tail)
            .collect::<Vec<_>>()
    };
    let offset = m.b.reshape(offset, moved(&[points, 2, oh, ow]))?;
    // Where each point of each window lies, in the image's places: its own, then by the offset; then as the sampling has it, −1 to 1.
    let mut coordinates = Vec::with_capacity(2);
    for (axis, size) in [(1, width), (0, h)] {
        let mut own = Vec::with_capacity(points * oh * ow);
        for point in 0..points {
            for place in 0..oh * ow {
                let (p, at) = if axis == 0 {
                    (point / kw, place / ow)
                } else {
                    (point % kw, place % ow)
                };
                let at = num::f32_of(at * window.strides[axis] + p * window.dilations[axis]);
                own.push(at - num::f32_of(window.pads[axis].0));
            }
        }
        let own = crate::tensor::Tensor::f32(vec![points, oh, ow], own)?.cast(dtype);
        let own = m.b.tensor("places", &own)?;
        let by = m.b.part(offset, 2, axis, axis + 1)?;
        let by = m.b.squeeze(by, &[2])?;
        let at = m.b.add(by, own)?;
        let at = m.b.mul_n(at, 2.0 / num::f64_of(size))?;
        let at = m.b.add_n(at, 1.0 / num::f64_of(size) - 1.0)?;
        coordinates.push(m.b.unsqueeze(at, &[4])?);
    }
    let grid = m.b.join(&coordinates, 4)?;
    let grid = m.b.reshape(grid, moved(&[points * oh, ow, 2]))?;
    let x = m.b.reshape(x, moved(&[c / parts, h, width]))?;
    let op = GridSample {
        sampling: Sampling::Linear,
        outside: Outside::Constant(0.0),
        align_corners: false,
    };
    let mut sampled = m.b.node(Op::GridSample(op), &[x, grid])?;
    if let Some(mask) = mask {
        let mask = m.b.reshape(mask, moved(&[1, points * oh, ow]))?;
        sampled = m.b.mul(sampled, mask)?;
    }
    let columns = [groups, per * points, oh * ow].map(Dim::from);
    let columns = std::iter::once(batch.clone()).chain(columns).collect();
    let columns = m.b.reshape(sampled, columns)?;
    let weight = [groups, out / groups, per * points].map(Dim::from);
    let weight = m.b.reshape(w, weight.to_vec())?;
    let y = m.b.matmul(weight, columns)?;
    let y =
        m.b.reshape(y, vec![batch, out.into(), oh.into(), ow.into()])?;
    let Some(bias) = bias else {
        return one(y);
    };
    let bias = m.b.unsqueeze(bias, &[1, 2])?;
    one(m.b.add(y, bias)?)
}
