//! Resampling. A whole factor is an operation of programs; else an axis of known size is resized by a gather or by a product with a constant matrix of
//! weights, one of a size that varies by gathers at computed places; grids are sampled element by element.

use super::dtype::is_int;
use super::elementwise::real;
use super::lower::{Lower, product};
use crate::coreml::export::modes;
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, CompareKind, Coordinates, GatherElements, GridSample, Iota, MatMul, Outside,
    Resize, ResizeAxis, Rounding, Sampling, Size, SliceRange, UnaryKind,
};
use crate::ir::{Dim, Op, ValueId};
use crate::tensor::{DType, Tensor, num};

/// The place in an axis of `n` elements of index `i` of `m`, in single precision.
fn place(axis: &ResizeAxis, i: usize, n: usize, m: usize) -> f64 {
    let (i, n, m) = (num::f32_of(i), num::f32_of(n), num::f32_of(m));
    let scale = axis.scale.unwrap_or(m / n);
    let centred = (i + 0.5) / scale - 0.5;
    let single = match axis.coordinates {
        Coordinates::HalfPixel => centred,
        Coordinates::HalfPixelSymmetric => n / 2.0 * (1.0 - m / (n * scale)) + centred,
        Coordinates::PytorchHalfPixel => {
            if m > 1.0 {
                centred
            } else {
                0.0
            }
        }
        Coordinates::Asymmetric => i / scale,
        Coordinates::AlignCorners => {
            if m > 1.0 {
                i * (n - 1.0) / (m - 1.0)
            } else {
                0.0
            }
        }
        Coordinates::CropAndResize { start, end } => {
            if m > 1.0 {
                start * (n - 1.0) + i * (end - start) * (n - 1.0) / (m - 1.0)
            } else {
                0.5 * (start + end) * (n - 1.0)
            }
        }
        Coordinates::Affine { offset, step } => num::f32_of_f64(offset + f64::from(i) * step),
    };
    f64::from(single)
}

fn nearest(x: f64, rounding: Rounding) -> i64 {
    num::i64_of_f64(match rounding {
        Rounding::PreferFloor => (x - 0.5).ceil(),
        Rounding::PreferCeil => (x + 0.5).floor(),
        Rounding::Floor => x.floor(),
        Rounding::Ceil => x.ceil(),
        Rounding::Even => x.round_ties_even(),
    })
}

/// The interpolation kernel at a distance.
fn kernel(sampling: Sampling, distance: f64) -> f64 {
    let d = distance.abs();
    match sampling {
        Sampling::Nearest(_) => 0.0,
        Sampling::Linear => (1.0 - d).max(0.0),
        Sampling::Cubic { coefficient } => {
            let a = f64::from(coefficient);
            if d <= 1.0 {
                ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
            } else if d < 2.0 {
                ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
            } else {
                0.0
            }
        }
    }
}

/// The matrix that resizes an axis: one row of weights per result.
fn weights(op: &Resize, axis: &ResizeAxis, n: usize, m: usize) -> Vec<f32> {
    let radius = if op.sampling == Sampling::Linear {
        1.0
    } else {
        2.0
    };
    let scale = axis.scale.map_or(real(m) / real(n), f64::from);
    let stretch = if op.antialias { scale.min(1.0) } else { 1.0 };
    let last = num::i64_of(n) - 1;
    let mut matrix = vec![0.0f64; n * m];
    for (i, row) in matrix.chunks_mut(n).enumerate() {
        let x = place(axis, i, n, m);
        let (base, reach) = (
            num::i64_of_f64(x.floor()),
            num::i64_of_f64((radius / stretch).ceil()),
        );
        let mut taps: Vec<(i64, f64)> = (base - reach + 1..=base + reach)
            .map(|k| (k, kernel(op.sampling, (num::f64_of_i64(k) - x) * stretch)))
            .collect();
        if op.exclude_outside {
            taps.retain(|t| (0..=last).contains(&t.0));
        }
        if op.exclude_outside || stretch < 1.0 {
            let total: f64 = taps.iter().map(|t| t.1).sum();
            if total != 0.0 {
                taps.iter_mut().for_each(|t| t.1 /= total);
            }
        }
        for (k, weight) in taps {
            row[num::usize_of(k.clamp(0, last).unsigned_abs())] += weight;
        }
    }
    matrix.into_iter().map(num::f32_of_f64).collect()
}

pub(super) fn resize(l: &mut Lower<'_>, op: &Resize, x: ValueId) -> Result<ValueId> {
    if crate::coreml::export::factors(op, l.ty(x)).is_some() {
        return l.push(Op::Resize(op.clone()), &[x]);
    }
    let dtype = l.ty(x).dtype;
    let known =
        |a: &ResizeAxis| l.ty(x).shape[a.axis].known().is_some() && a.size.known().is_some();
    if dtype.is_float() && !op.axes.iter().all(known) && modes(op, l.opset).is_some() {
        return l.push(Op::Resize(op.clone()), &[x]);
    }
    let exact = matches!(op.sampling, Sampling::Nearest(_));
    let mut y = x;
    if is_int(dtype) && (!exact || op.extrapolation.is_some()) {
        y = l.cast(y, DType::F32)?;
    }
    let mut outside = Vec::new();
    for axis in &op.axes {
        let sizes = l.ty(y).shape[axis.axis].known().zip(axis.size.known());
        let Some((n, m)) = sizes else {
            y = varying(l, op, axis, y)?;
            continue;
        };
        let places: Vec<f64> = (0..m).map(|i| place(axis, i, n, m)).collect();
        if let Sampling::Nearest(rounding) = op.sampling {
            let last = num::i64_of(n) - 1;
            let picks = places.iter().map(|&p| nearest(p, rounding).clamp(0, last));
            let picks = l.ints(picks.collect())?;
            y = l.gather(y, picks, axis.axis)?;
        } else {
            let matrix = Tensor::f32(vec![m, n], weights(op, axis, n, m))?;
            y = along(l, y, axis.axis, &matrix)?;
        }
        let is_out = |p: &f64| *p < 0.0 || *p > real(n) - 1.0;
        outside.push((axis.axis, places.iter().map(is_out).collect::<Vec<bool>>()));
    }
    if let Some(value) = op.extrapolation {
        let rank = l.ty(y).rank();
        for (axis, mask) in outside {
            if !mask.contains(&true) {
                continue;
            }
            let mut shape = vec![1; rank];
            shape[axis] = mask.len();
            let mask = l.tensor(&Tensor::bool(shape, mask)?)?;
            let value = l.like(y, f64::from(value))?;
            y = l.select(mask, value, y)?;
        }
    }
    if l.ty(y).dtype != dtype {
        if !exact {
            y = l.unary(UnaryKind::Round, y)?;
        }
        y = l.cast(y, dtype)?;
    }
    Ok(y)
}

/// An axis of a size that varies: the places are computed, and the elements around them gathered, weighted and summed.
fn varying(l: &mut Lower<'_>, op: &Resize, axis: &ResizeAxis, x: ValueId) -> Result<ValueId> {
    if op.antialias || op.exclude_outside || op.extrapolation.is_some() {
        return Err(l.refuse(
            "resize",
            "the sizes of axes resized in this way must be known",
        ));
    }
    let (rank, dtype) = (l.ty(x).rank(), l.ty(x).dtype);
    let size = |l: &mut Lower<'_>, dim: &Dim| {
        let op = Size {
            dtype: DType::I32,
            dim: dim.clone(),
        };
        let size = l.push(Op::Size(op), &[])?;
        l.cast(size, DType::F32)
    };
    let had = l.shape(x)[axis.axis].clone();
    let (n, m) = (size(l, &had)?, size(l, &axis.size)?);
    let op_iota = Iota {
        dtype: DType::I32,
        len: axis.size.clone(),
    };
    let i = l.push(Op::Iota(op_iota), &[])?;
    let i = l.cast(i, DType::F32)?;
    let place = varying_place(l, axis, i, (n, m))?;
    let (zero, last) = (l.scalar(DType::F32, 0.0)?, l.with(BinaryKind::Sub, n, 1.0)?);
    let mut sum = None;
    for (index, weight) in neighbours(l, op.sampling, place)? {
        let index = l.binary(BinaryKind::Max, index, zero)?;
        let index = l.binary(BinaryKind::Min, index, last)?;
        let index = l.cast(index, DType::I32)?;
        let mut part = l.gather(x, index, axis.axis)?;
        if let Some(weight) = weight {
            let weight = l.cast(weight, dtype)?;
            let weight = l.along(weight, rank, axis.axis)?;
            part = l.binary(BinaryKind::Mul, part, weight)?;
        }
        sum = Some(match sum {
            None => part,
            Some(sum) => l.binary(BinaryKind::Add, sum, part)?,
        });
    }
    Ok(sum.unwrap_or(x))
}

/// [`place`] of indices `i` of `m` in `n` elements, all of them computed.
fn varying_place(
    l: &mut Lower<'_>,
    axis: &ResizeAxis,
    i: ValueId,
    (n, m): (ValueId, ValueId),
) -> Result<ValueId> {
    let scale = match axis.scale {
        Some(scale) => l.scalar(DType::F32, f64::from(scale))?,
        None => l.binary(BinaryKind::Div, m, n)?,
    };
    let middle = l.with(BinaryKind::Add, i, 0.5)?;
    let middle = l.binary(BinaryKind::Div, middle, scale)?;
    let centred = l.with(BinaryKind::Sub, middle, 0.5)?;
    let gaps = l.with(BinaryKind::Sub, m, 1.0)?;
    match axis.coordinates {
        Coordinates::HalfPixel => Ok(centred),
        Coordinates::HalfPixelSymmetric => {
            let exact = l.binary(BinaryKind::Mul, n, scale)?;
            let share = l.binary(BinaryKind::Div, m, exact)?;
            let one = l.scalar(DType::F32, 1.0)?;
            let rest = l.binary(BinaryKind::Sub, one, share)?;
            let half = l.with(BinaryKind::Mul, n, 0.5)?;
            let shift = l.binary(BinaryKind::Mul, half, rest)?;
            l.binary(BinaryKind::Add, centred, shift)
        }
        // 0 where there is but one.
        Coordinates::PytorchHalfPixel => {
            let several = l.with(BinaryKind::Min, gaps, 1.0)?;
            l.binary(BinaryKind::Mul, centred, several)
        }
        Coordinates::Asymmetric => l.binary(BinaryKind::Div, i, scale),
        Coordinates::AlignCorners => {
            let gaps = l.with(BinaryKind::Max, gaps, 1.0)?;
            let had = l.with(BinaryKind::Sub, n, 1.0)?;
            let at = l.binary(BinaryKind::Mul, i, had)?;
            l.binary(BinaryKind::Div, at, gaps)
        }
        Coordinates::Affine { offset, step } => {
            let at = l.with(BinaryKind::Mul, i, step)?;
            l.with(BinaryKind::Add, at, offset)
        }
        Coordinates::CropAndResize { .. } => {
            Err(l.refuse("resize", "the sizes of axes that are cropped must be known"))
        }
    }
}

/// The product of an axis with a matrix.
fn along(l: &mut Lower<'_>, x: ValueId, axis: usize, matrix: &Tensor) -> Result<ValueId> {
    let rank = l.ty(x).rank();
    let dtype = l.ty(x).dtype;
    let matrix = l.tensor(&matrix.cast(dtype))?;
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 1);
    let turned = l.transpose(x, perm.clone())?;
    let (operand, flat) = if rank == 1 {
        (l.unsqueeze(turned, vec![0])?, true)
    } else {
        (turned, false)
    };
    let op = Op::MatMul(MatMul {
        transpose_a: false,
        transpose_b: true,
    });
    let mut y = l.push(op, &[operand, matrix])?;
    if flat {
        y = l.squeeze(y, vec![0])?;
    }
    l.transpose(y, perm)
}

/// One element that a place takes along an axis: its index, whether it lies inside (if that matters), its weight (1 if there is none).
#[derive(Clone, Copy)]
struct Tap {
    index: ValueId,
    inside: Option<ValueId>,
    weight: Option<ValueId>,
}

/// Every place takes one, two or four elements per axis; all their combinations are gathered from the flat planes and summed.
pub(super) fn grid_sample(
    l: &mut Lower<'_>,
    op: &GridSample,
    x: ValueId,
    grid: ValueId,
) -> Result<ValueId> {
    let dtype = l.ty(x).dtype;
    let (shape, places) = (l.shape(x), l.shape(grid));
    let spatial: Option<Vec<usize>> = shape[2..].iter().map(Dim::known).collect();
    let Some(spatial) = spatial else {
        return Err(l.refuse("grid_sample", "the sizes of the image must be known"));
    };
    let axes = spatial.len();
    let count = product(&places[1..=axes]);
    let plane: usize = spatial.iter().product();
    let flat = l.reshape(
        x,
        vec![shape[0].clone(), shape[1].clone(), Dim::from(plane)],
    )?;
    let grid = l.reshape(grid, vec![shape[0].clone(), count.clone(), Dim::from(axes)])?;
    let grid = l.cast(grid, DType::F32)?;
    let mut taps = Vec::with_capacity(axes);
    for (axis, &n) in spatial.iter().enumerate() {
        // The grid names the last axis first.
        let k = axes - 1 - axis;
        let u = l.slice(grid, vec![SliceRange::new(2, k, k + 1)])?;
        let u = l.squeeze(u, vec![2])?;
        taps.push(axis_taps(l, op, u, n)?);
    }
    let wide = vec![shape[0].clone(), shape[1].clone(), count];
    let fill = match op.outside {
        Outside::Constant(value) => f64::from(value),
        Outside::Border | Outside::Reflection => 0.0,
    };
    let fill = l.scalar(DType::F32, fill)?;
    let combinations: usize = taps.iter().map(Vec::len).product();
    let mut total = None;
    for mut choice in 0..combinations {
        let mut joined: Option<Tap> = None;
        for (taps, &n) in taps.iter().zip(&spatial) {
            let tap = taps[choice % taps.len()];
            choice /= taps.len();
            joined = Some(match joined {
                None => tap,
                Some(before) => join(l, before, tap, n)?,
            });
        }
        let Some(tap) = joined else { continue };
        let index = l.unsqueeze(tap.index, vec![1])?;
        let index = l.expand(index, wide.clone())?;
        let gather = Op::GatherElements(GatherElements { axis: 2 });
        let mut value = l.push(gather, &[flat, index])?;
        value = l.cast(value, DType::F32)?;
        if let Some(inside) = tap.inside {
            let inside = l.unsqueeze(inside, vec![1])?;
            value = l.select(inside, value, fill)?;
        }
        if let Some(weight) = tap.weight {
            let weight = l.unsqueeze(weight, vec![1])?;
            value = l.binary(BinaryKind::Mul, value, weight)?;
        }
        total = Some(match total {
            None => value,
            Some(total) => l.binary(BinaryKind::Add, total, value)?,
        });
    }
    let Some(total) = total else {
        return Err(l.refuse("grid_sample", "the image has no axes"));
    };
    let total = l.cast(total, dtype)?;
    let mut out = shape[..2].to_vec();
    out.extend_from_slice(&places[1..=axes]);
    l.reshape(total, out)
}

fn join(l: &mut Lower<'_>, before: Tap, tap: Tap, n: usize) -> Result<Tap> {
    let base = l.with(BinaryKind::Mul, before.index, real(n))?;
    let index = l.binary(BinaryKind::Add, base, tap.index)?;
    let inside = match (before.inside, tap.inside) {
        (Some(a), Some(b)) => Some(l.binary(BinaryKind::And, a, b)?),
        (a, b) => a.or(b),
    };
    let weight = match (before.weight, tap.weight) {
        (Some(a), Some(b)) => Some(l.binary(BinaryKind::Mul, a, b)?),
        (a, b) => a.or(b),
    };
    Ok(Tap {
        index,
        inside,
        weight,
    })
}

/// The elements that the places `u` (from −1 to 1) take along an axis of `n` elements.
fn axis_taps(l: &mut Lower<'_>, op: &GridSample, u: ValueId, n: usize) -> Result<Vec<Tap>> {
    let size = real(n);
    let place = if op.align_corners {
        let up = l.with(BinaryKind::Add, u, 1.0)?;
        l.with(BinaryKind::Mul, up, (size - 1.0) / 2.0)?
    } else {
        let up = l.with(BinaryKind::Add, u, 1.0)?;
        let scaled = l.with(BinaryKind::Mul, up, size)?;
        let down = l.with(BinaryKind::Sub, scaled, 1.0)?;
        l.with(BinaryKind::Div, down, 2.0)?
    };
    // Cubic kernels reflect and clamp every element, others the place.
    let cubic = matches!(op.sampling, Sampling::Cubic { .. });
    let place = match op.outside {
        Outside::Constant(_) => place,
        Outside::Border | Outside::Reflection if cubic => place,
        Outside::Border => l.clip(place, 0.0, size - 1.0)?,
        Outside::Reflection => {
            let inside = reflect(l, op, place, n)?;
            l.clip(inside, 0.0, size - 1.0)?
        }
    };
    let found = neighbours(l, op.sampling, place)?;
    let mut taps = Vec::with_capacity(found.len());
    for (index, weight) in found {
        let (index, inside) = resolve(l, op, index, n)?;
        taps.push(Tap {
            index: l.cast(index, DType::I32)?,
            inside,
            weight,
        });
    }
    Ok(taps)
}

/// The indices around a place that is computed, and their weights, if there are several.
fn neighbours(
    l: &mut Lower<'_>,
    sampling: Sampling,
    place: ValueId,
) -> Result<Vec<(ValueId, Option<ValueId>)>> {
    let steps = match sampling {
        Sampling::Nearest(rounding) => {
            let whole = match rounding {
                Rounding::PreferFloor => {
                    let down = l.with(BinaryKind::Sub, place, 0.5)?;
                    l.unary(UnaryKind::Ceil, down)?
                }
                Rounding::PreferCeil => {
                    let up = l.with(BinaryKind::Add, place, 0.5)?;
                    l.unary(UnaryKind::Floor, up)?
                }
                Rounding::Floor => l.unary(UnaryKind::Floor, place)?,
                Rounding::Ceil => l.unary(UnaryKind::Ceil, place)?,
                Rounding::Even => l.unary(UnaryKind::Round, place)?,
            };
            return Ok(vec![(whole, None)]);
        }
        Sampling::Linear => 0..=1,
        Sampling::Cubic { .. } => -1..=2,
    };
    let base = l.unary(UnaryKind::Floor, place)?;
    let fraction = l.binary(BinaryKind::Sub, place, base)?;
    let mut found = Vec::new();
    for step in steps {
        let index = l.with(BinaryKind::Add, base, f64::from(step))?;
        let distance = l.with(BinaryKind::Sub, fraction, f64::from(step))?;
        found.push((index, Some(weight(l, sampling, distance)?)));
    }
    Ok(found)
}

/// The kernel at a distance that is computed.
fn weight(l: &mut Lower<'_>, sampling: Sampling, distance: ValueId) -> Result<ValueId> {
    let d = l.unary(UnaryKind::Abs, distance)?;
    let Sampling::Cubic { coefficient } = sampling else {
        let one = l.like(d, 1.0)?;
        return l.binary(BinaryKind::Sub, one, d);
    };
    let a = f64::from(coefficient);
    let mut near = l.with(BinaryKind::Mul, d, a + 2.0)?;
    near = l.with(BinaryKind::Sub, near, a + 3.0)?;
    near = l.binary(BinaryKind::Mul, near, d)?;
    near = l.binary(BinaryKind::Mul, near, d)?;
    near = l.with(BinaryKind::Add, near, 1.0)?;
    let mut far = l.with(BinaryKind::Mul, d, a)?;
    far = l.with(BinaryKind::Sub, far, 5.0 * a)?;
    far = l.binary(BinaryKind::Mul, far, d)?;
    far = l.with(BinaryKind::Add, far, 8.0 * a)?;
    far = l.binary(BinaryKind::Mul, far, d)?;
    far = l.with(BinaryKind::Sub, far, 4.0 * a)?;
    let close = l.compare_with(CompareKind::LessEqual, d, 1.0)?;
    l.select(close, near, far)
}

/// A place that is reflected into the axis.
fn reflect(l: &mut Lower<'_>, op: &GridSample, place: ValueId, n: usize) -> Result<ValueId> {
    let (low, high) = if op.align_corners {
        (0.0, real(n) - 1.0)
    } else {
        (-0.5, real(n) - 0.5)
    };
    let span = high - low;
    if span <= 0.0 {
        return l.with(BinaryKind::Mul, place, 0.0);
    }
    let moved = l.with(BinaryKind::Sub, place, low)?;
    let far = l.unary(UnaryKind::Abs, moved)?;
    let at = l.with(BinaryKind::Mod, far, 2.0 * span)?;
    let whole = l.like(at, 2.0 * span)?;
    let back = l.binary(BinaryKind::Sub, whole, at)?;
    let at = l.binary(BinaryKind::Min, at, back)?;
    l.with(BinaryKind::Add, at, low)
}

/// The element that stands for an index that may lie outside, and whether it is inside where that matters.
fn resolve(
    l: &mut Lower<'_>,
    op: &GridSample,
    index: ValueId,
    n: usize,
) -> Result<(ValueId, Option<ValueId>)> {
    let last = real(n) - 1.0;
    let inside = match op.outside {
        Outside::Constant(_) => {
            let above = l.compare_with(CompareKind::GreaterEqual, index, 0.0)?;
            let below = l.compare_with(CompareKind::LessEqual, index, last)?;
            Some(l.binary(BinaryKind::And, above, below)?)
        }
        Outside::Border | Outside::Reflection => None,
    };
    let index = match op.outside {
        Outside::Constant(_) | Outside::Border => index,
        Outside::Reflection => {
            let period = if op.align_corners {
                (2.0 * last).max(1.0)
            } else {
                2.0 * real(n)
            };
            let at = l.with(BinaryKind::Mod, index, period)?;
            let end = if op.align_corners {
                period
            } else {
                period - 1.0
            };
            let end = l.like(at, end)?;
            let back = l.binary(BinaryKind::Sub, end, at)?;
            l.binary(BinaryKind::Min, at, back)?
        }
    };
    Ok((l.clip(index, 0.0, last)?, inside))
}
