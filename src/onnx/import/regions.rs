//! Regions of an image as grids of equal size: composed of hats, masks and products.

use super::call::Call;
use super::entry::{Dims, Entry};
use super::table::{Row, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{BinaryKind, CompareKind, ReduceKind, UnaryKind};
use crate::ir::{Dim, ValueId};
use crate::limits;
use crate::tensor::{DType, num};

pub(super) const ROWS: &[Row] = &[
    row("RoiAlign", 10, roi_align),
    row("MaxRoiPool", 1, max_roi_pool),
];

/// How samples of regions `[R, bins · samples]` along one axis weigh its places: bilinear weights, 0 where the sample lies outside.
struct Samples {
    /// `[R, bins · samples, 1]`, inside the axis.
    at: ValueId,
    /// `[R, bins · samples, 1]`, 1 or 0.
    inside: ValueId,
    size: Dim,
}

impl Samples {
    /// Weights `[R, bins · samples, size]`: all of them, those of the place before the sample, or those of the place after.
    fn weights(&self, m: &mut Importer<'_>, side: Option<bool>) -> Result<ValueId> {
        let place = m.b.iota(DType::I64, self.size.clone())?;
        let place = m.b.to(place, m.b.dtype(self.at))?;
        let distance = m.b.sub(self.at, place)?;
        let hat = m.b.un(UnaryKind::Abs, distance)?;
        let hat = m.b.mul_n(hat, -1.0)?;
        let hat = m.b.add_n(hat, 1.0)?;
        let hat = m.b.un(UnaryKind::Relu, hat)?;
        let hat = m.b.mul(hat, self.inside)?;
        let Some(after) = side else {
            return Ok(hat);
        };
        let kind = if after {
            CompareKind::Less
        } else {
            CompareKind::GreaterEqual
        };
        let keep = m.b.cmp_n(kind, distance, 0.0)?;
        let keep = m.b.to(keep, m.b.dtype(hat))?;
        m.b.mul(hat, keep)
    }
}

/// One of a region's four numbers `[R, 1]` in places of the image.
fn edge(m: &mut Importer<'_>, rois: ValueId, i: usize, scale: f64, shift: f64) -> Result<ValueId> {
    let edge = m.b.part(rois, 1, i, i + 1)?;
    let edge = m.b.mul_n(edge, scale)?;
    m.b.add_n(edge, shift)
}

/// Samples at places `[R, bins · samples]` of an axis of the image, brought inside.
fn inside(m: &mut Importer<'_>, x: ValueId, at: ValueId, axis: usize) -> Result<Samples> {
    let at = m.b.to(at, m.b.dtype(x))?;
    let at = m.b.unsqueeze(at, &[2])?;
    let size = m.b.shape(x)[2 + axis].clone();
    let extent = m.dims_value(&Dims::scalar(DType::I64, size.clone()), "extent")?;
    let extent = m.b.to(extent, m.b.dtype(x))?;
    let low = m.b.cmp_n(CompareKind::GreaterEqual, at, -1.0)?;
    let high = m.b.cmp(CompareKind::LessEqual, at, extent)?;
    let inside = m.b.bin(BinaryKind::And, low, high)?;
    let inside = m.b.to(inside, m.b.dtype(x))?;
    let (zero, last) = (m.b.number(x, 0.0)?, m.b.add_n(extent, -1.0)?);
    let at = m.b.bin(BinaryKind::Max, at, zero)?;
    let at = m.b.bin(BinaryKind::Min, at, last)?;
    Ok(Samples { at, inside, size })
}

/// Samples of which every region has as many per bin as its size asks for.
struct Counted {
    samples: Samples,
    /// `[R, bins · most, 1]`: whether the region has the sample.
    has: ValueId,
    /// `[R, 1, 1]`: one over how many it has per bin.
    share: ValueId,
    bins: usize,
    most: usize,
}

/// As many samples per bin as a bin has elements, rounded up: at most as many as a region of the image's own size has, or the largest region that is
/// known. The results of larger regions are no numbers, rather than wrong ones.
fn adapted(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    (x, rois): (ValueId, ValueId),
    (axis, bins): (usize, usize),
    (start, step): (ValueId, ValueId),
) -> Result<Counted> {
    let most = match m.b.as_constant(step) {
        Some(step) => {
            let steps = step.read()?.to_f64();
            num::i64_of_f64(steps.into_iter().fold(1.0, f64::max).ceil())
        }
        None => {
            let size = m.b.shape(x)[2 + axis].known().ok_or_else(|| {
                call.unsupported("`sampling_ratio` 0 on an image whose size varies")
            })?;
            // A region that ends with the image is one element longer where it counts both ends.
            num::i64_of((size + 1).div_ceil(bins.max(1)))
        }
    };
    let most = usize::try_from(most)
        .ok()
        .filter(|n| num::u64_of(n.saturating_mul(bins)) <= limits::FOLDED_ELEMENTS.get())
        .ok_or_else(|| call.wrong("rois", "regions of a sensible size", most))?
        .max(1);
    let dtype = m.b.dtype(rois);
    // [R, 1]
    let count = m.b.un(UnaryKind::Ceil, step)?;
    let least = m.b.number(count, 1.0)?;
    let divisor = m.b.bin(BinaryKind::Max, count, least)?;
    let fits =
        m.b.cmp_n(CompareKind::LessEqual, count, num::f64_of(most))?;
    let one_over = m.b.div(least, divisor)?;
    let never = m.b.number(count, f64::NAN)?;
    let share = m.b.select(fits, one_over, never)?;
    let number = |m: &mut Importer<'_>, f: &dyn Fn(usize) -> usize| -> Result<ValueId> {
        let list: Vec<i64> = (0..bins * most).map(|i| num::i64_of(f(i))).collect();
        let list = m.b.longs(&list)?;
        m.b.to(list, dtype)
    };
    // [bins · most]
    let bin = number(m, &|i| i / most)?;
    let sample = number(m, &|i| i % most)?;
    let middle = m.b.add_n(sample, 0.5)?;
    let part = m.b.mul(middle, one_over)?;
    let place = m.b.add(bin, part)?;
    let place = m.b.mul(place, step)?;
    let at = m.b.add(start, place)?;
    let has = m.b.cmp(CompareKind::Less, sample, count)?;
    Ok(Counted {
        samples: inside(m, x, at, axis)?,
        has: m.b.unsqueeze(has, &[2])?,
        share: m.b.unsqueeze(share, &[2])?,
        bins,
        most,
    })
}

impl Counted {
    /// Weights `[R, 1, bins, size]`: the mean over each bin's samples.
    fn mean(&self, m: &mut Importer<'_>) -> Result<ValueId> {
        let weights = self.samples.weights(m, None)?;
        let dtype = m.b.dtype(weights);
        let has = m.b.to(self.has, dtype)?;
        let weights = m.b.mul(weights, has)?;
        let shape = m.b.shape(weights);
        let split = vec![
            shape[0].clone(),
            self.bins.into(),
            self.most.into(),
            shape[2].clone(),
        ];
        let weights = m.b.reshape(weights, split)?;
        let total = m.b.reduce(ReduceKind::Sum, weights, &[2], false)?;
        let share = m.b.to(self.share, dtype)?;
        let mean = m.b.mul(total, share)?;
        m.b.unsqueeze(mean, &[1])
    }
}

/// The mean or the largest of every bin's own samples, of each region's image `[R, C, H, W]`.
fn pooled(
    m: &mut Importer<'_>,
    images: ValueId,
    [rows, columns]: [&Counted; 2],
    mean: bool,
) -> Result<ValueId> {
    if mean {
        let (high, wide) = (rows.mean(m)?, columns.mean(m)?);
        let y = m.b.matmul(high, images)?;
        return m.b.matmul_t(y, wide);
    }
    let mut y = None;
    for after in [false, true] {
        for right in [false, true] {
            let high = rows.samples.weights(m, Some(after))?;
            let high = m.b.unsqueeze(high, &[1])?;
            let wide = columns.samples.weights(m, Some(right))?;
            let wide = m.b.unsqueeze(wide, &[1])?;
            let part = m.b.matmul(high, images)?;
            let part = m.b.matmul_t(part, wide)?;
            y = Some(match y {
                Some(y) => m.b.bin(BinaryKind::Max, y, part)?,
                None => part,
            });
        }
    }
    let mut y = y.unwrap_or(images);
    // Samples that a region does not have: one axis after the other, as Core ML has no tensors of six.
    let lowest = m.b.number(y, f64::NEG_INFINITY)?;
    for (axis, side) in [(2, rows), (3, columns)] {
        let has = m.b.unsqueeze(side.has, &[1])?;
        let has = if axis == 3 {
            m.b.transpose(has, &[0, 1, 3, 2])?
        } else {
            has
        };
        y = m.b.select(has, y, lowest)?;
        let mut split = m.b.shape(y);
        split[axis] = side.bins.into();
        split.insert(axis + 1, side.most.into());
        y = m.b.reshape(y, split)?;
        y = m.b.reduce(ReduceKind::Max, y, &[axis + 1], false)?;
        let share = m.b.unsqueeze(side.share, &[1])?;
        let share = m.b.to(share, m.b.dtype(y))?;
        let known = m.b.cmp_n(CompareKind::GreaterEqual, share, 0.0)?;
        y = m.b.select(known, y, share)?;
    }
    // A region of no size has no samples.
    let none = m.b.cmp_n(CompareKind::Equal, y, f64::NEG_INFINITY)?;
    let zero = m.b.number(y, 0.0)?;
    m.b.select(none, zero, y)
}

/// The largest element of every bin of regions whose edges are rounded to elements; 0 where a bin lies outside.
fn max_roi_pool(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, rois) = (m.input(call, 0)?, m.input(call, 1)?);
    let bins = super::conv::sizes(call, "pooled_shape", 2, 1)?;
    let scale = f64::from(call.float_or("spatial_scale", 1.0)?);
    if m.b.rank(x) != 4 || bins.contains(&0) {
        return Err(call
            .wrong("X", "an image (rank 4) and bins", m.b.ty(x))
            .into());
    }
    let shape = m.b.shape(x);
    let images = m.b.part(rois, 1, 0, 1)?;
    let images = m.b.squeeze(images, &[1])?;
    let images = m.b.to(images, DType::I64)?;
    let mut y = m.b.gather(x, images, 0)?;
    let lowest = m.b.number(y, f64::NEG_INFINITY)?;
    for axis in [0, 1] {
        // After the image's number, regions are x, y, x, y; halves are rounded up.
        let mut rounded = |i: usize| -> Result<ValueId> {
            let edge = edge(m, rois, i, scale, 0.5)?;
            m.b.un(UnaryKind::Floor, edge)
        };
        let (start, end) = (rounded(2 - axis)?, rounded(4 - axis)?);
        let length = m.b.sub(end, start)?;
        let length = m.b.add_n(length, 1.0)?;
        let least = m.b.number(length, 1.0)?;
        let length = m.b.bin(BinaryKind::Max, length, least)?;
        let step = m.b.mul_n(length, 1.0 / num::f64_of(bins[axis]))?;
        let bin = m.b.iota(DType::I64, bins[axis])?;
        let bin = m.b.to(bin, m.b.dtype(rois))?;
        // [R, bins]
        let low = m.b.mul(bin, step)?;
        let low = m.b.un(UnaryKind::Floor, low)?;
        let low = m.b.add(low, start)?;
        let high = m.b.add_n(bin, 1.0)?;
        let high = m.b.mul(high, step)?;
        let high = m.b.un(UnaryKind::Ceil, high)?;
        let high = m.b.add(high, start)?;
        let place = m.b.iota(DType::I64, shape[2 + axis].clone())?;
        let place = m.b.to(place, m.b.dtype(rois))?;
        let (low, high) = (m.b.unsqueeze(low, &[2])?, m.b.unsqueeze(high, &[2])?);
        let after = m.b.cmp(CompareKind::GreaterEqual, place, low)?;
        let before = m.b.cmp(CompareKind::Less, place, high)?;
        // [R, bins, size] → [R, 1, bins, size, 1] or [R, 1, 1, bins, size]
        let within = m.b.bin(BinaryKind::And, after, before)?;
        let within = if axis == 0 {
            m.b.unsqueeze(within, &[1, 4])?
        } else {
            m.b.unsqueeze(within, &[1, 2])?
        };
        let spread = m.b.unsqueeze(y, &[2 + axis])?;
        let spread = m.b.select(within, spread, lowest)?;
        y = m.b.reduce(ReduceKind::Max, spread, &[3 + axis], false)?;
    }
    let none = m.b.cmp_n(CompareKind::Equal, y, f64::NEG_INFINITY)?;
    let zero = m.b.number(y, 0.0)?;
    one(m.b.select(none, zero, y)?)
}

/// Equal grids of samples of regions of an image, the mean or the largest of each bin.
fn roi_align(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, rois, images) = (m.input(call, 0)?, m.input(call, 1)?, m.input(call, 2)?);
    let default = if call.version < 16 {
        "output_half_pixel"
    } else {
        "half_pixel"
    };
    let half = match call
        .string_or("coordinate_transformation_mode", default)?
        .as_str()
    {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => {
            let expected = "half_pixel or output_half_pixel";
            return Err(call
                .wrong("coordinate_transformation_mode", expected, other)
                .into());
        }
    };
    let mean = match call.string_or("mode", "avg")?.as_str() {
        "avg" => true,
        "max" => false,
        other => return Err(call.wrong("mode", "avg or max", other).into()),
    };
    let mut size = |name: &str, default: i64| -> Result<usize> {
        let n = call.int_or(name, default)?;
        let size = usize::try_from(n).ok().filter(|&n| n < 1 << 16);
        size.ok_or_else(|| call.wrong(name, "a sensible size", n).into())
    };
    let bins = [size("output_height", 1)?, size("output_width", 1)?];
    let samples = size("sampling_ratio", 0)?;
    let scale = f64::from(call.float_or("spatial_scale", 1.0)?);
    m.expect_rank(call, "X", x, 4..=4)?;
    m.expect_rank(call, "rois", rois, 2..=2)?;
    let (shape, regions) = (m.b.shape(x), m.b.shape(rois)[0].clone());
    let mut axes = Vec::with_capacity(2);
    let mut counted = Vec::new();
    for axis in [0, 1] {
        // Regions are x, y, x, y.
        let shift = if half { -0.5 } else { 0.0 };
        let start = edge(m, rois, 1 - axis, scale, shift)?;
        let end = edge(m, rois, 3 - axis, scale, shift)?;
        let mut length = m.b.sub(end, start)?;
        if !half {
            let least = m.b.number(length, 1.0)?;
            length = m.b.bin(BinaryKind::Max, length, least)?;
        }
        let step = m.b.mul_n(length, 1.0 / num::f64_of(bins[axis]))?;
        if samples == 0 {
            let adapted = adapted(m, call, (x, rois), (axis, bins[axis]), (start, step))?;
            counted.push(adapted);
            continue;
        }
        let at = m.b.iota(DType::I64, bins[axis] * samples)?;
        let at = m.b.to(at, m.b.dtype(rois))?;
        let at = m.b.add_n(at, 0.5)?;
        let at = m.b.mul_n(at, 1.0 / num::f64_of(samples))?;
        let at = m.b.mul(at, step)?;
        let at = m.b.add(start, at)?;
        axes.push(inside(m, x, at, axis)?);
    }
    let images = m.b.gather(x, images, 0)?;
    if let [rows, columns] = &counted[..] {
        return one(pooled(m, images, [rows, columns], mean)?);
    }
    let [rows, columns] = &axes[..] else {
        return Err(call.missing("two axes").into());
    };
    let sampled = |m: &mut Importer<'_>, sides: [Option<bool>; 2]| -> Result<ValueId> {
        let rows = rows.weights(m, sides[0])?;
        let rows = m.b.unsqueeze(rows, &[1])?;
        let columns = columns.weights(m, sides[1])?;
        let columns = m.b.unsqueeze(columns, &[1])?;
        let y = m.b.matmul(rows, images)?;
        m.b.matmul_t(y, columns)
    };
    let y = if mean {
        sampled(m, [None, None])?
    } else {
        // The operator takes the largest of the four weighted neighbours of each sample.
        let mut best = None;
        for after in [false, true] {
            for right in [false, true] {
                let part = sampled(m, [Some(after), Some(right)])?;
                best = Some(match best {
                    Some(best) => m.b.bin(BinaryKind::Max, best, part)?,
                    None => part,
                });
            }
        }
        best.ok_or_else(|| call.missing("a sample"))?
    };
    let kind = if mean {
        ReduceKind::Mean
    } else {
        ReduceKind::Max
    };
    // One axis after the other: Core ML has no tensors of six.
    let lines = shape[1].mul(&Dim::from(bins[0]));
    let [high, wide] = bins.map(Dim::from);
    let samples = Dim::from(samples);
    let split = vec![
        regions.clone(),
        lines.clone(),
        samples.clone(),
        wide.mul(&samples),
    ];
    let y = m.b.reshape(y, split)?;
    let y = m.b.reduce(kind, y, &[2], false)?;
    let y =
        m.b.reshape(y, vec![regions.clone(), lines, wide.clone(), samples])?;
    let y = m.b.reduce(kind, y, &[3], false)?;
    one(m
        .b
        .reshape(y, vec![regions, shape[1].clone(), high, wide])?)
}
