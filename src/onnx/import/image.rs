//! Resampling.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{
    Coordinates, GridSample, Outside, Resize, ResizeAxis, Rounding, Sampling, scaled,
};
use crate::ir::{Dim, Op, ValueId};
use crate::limits;
use crate::tensor::{Tensor, num};

pub(super) const ROWS: &[Row] = &[
    row("Resize", 10, resize),
    row("Upsample", 7, upsample),
    row("GridSample", 16, grid_sample),
    row("AffineGrid", 20, affine_grid),
];

/// Scales or sizes per resized axis.
struct Wanted {
    axes: Vec<usize>,
    scales: Option<Vec<f64>>,
    sizes: Option<Vec<Dim>>,
}

fn sampling(call: &mut Call<'_>, mode: &str) -> Result<Sampling> {
    let nearest = call.string_or("nearest_mode", "round_prefer_floor")?;
    let coefficient = call.float_or("cubic_coeff_a", -0.75)?;
    let rounding = match nearest.as_str() {
        "round_prefer_floor" => Rounding::PreferFloor,
        "round_prefer_ceil" => Rounding::PreferCeil,
        "floor" => Rounding::Floor,
        "ceil" => Rounding::Ceil,
        other => return Err(call.wrong("nearest_mode", "a known rounding", other).into()),
    };
    Ok(match mode {
        "nearest" => Sampling::Nearest(rounding),
        "linear" | "bilinear" | "trilinear" => Sampling::Linear,
        "cubic" | "bicubic" => Sampling::Cubic { coefficient },
        other => return Err(call.wrong("mode", "nearest, linear or cubic", other).into()),
    })
}

fn resize(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let rank = m.b.rank(x);
    let mode = call.string_or("mode", "nearest")?;
    if call.version < 11 {
        let scales = m.floats(call, 1)?;
        let wanted = Wanted {
            axes: (0..rank).collect(),
            scales,
            sizes: None,
        };
        let asymmetric = |_| Coordinates::Asymmetric;
        if mode != "nearest" {
            let sampling = sampling(call, &mode)?;
            return one(resized(m, call, x, &wanted, plain(sampling), asymmetric)?);
        }
        // Before operator set 11 the nearest was the one below, or the one above where an axis shrinks.
        let mut y = x;
        for (shrinks, rounding) in [(true, Rounding::Ceil), (false, Rounding::Floor)] {
            let side = |&s: &f64| if (s < 1.0) == shrinks { s } else { 1.0 };
            let wanted = Wanted {
                axes: wanted.axes.clone(),
                scales: wanted.scales.as_ref().map(|s| s.iter().map(side).collect()),
                sizes: None,
            };
            let form = plain(Sampling::Nearest(rounding));
            y = resized(m, call, y, &wanted, form, asymmetric)?;
        }
        return one(y);
    }
    let axes = match call.ints("axes")? {
        None => (0..rank).collect(),
        // Their order matters: sizes and scales are in it.
        Some(axes) => axes
            .into_iter()
            .map(|a| crate::ir::normalize_axis(a, rank))
            .collect::<std::result::Result<Vec<_>, _>>()?,
    };
    let coordinates = call.string_or("coordinate_transformation_mode", "half_pixel")?;
    let regions = if coordinates == "tf_crop_and_resize" {
        m.floats(call, 1)?.unwrap_or_default()
    } else {
        if call.has(1) {
            let _ = call.entry(1);
        }
        Vec::new()
    };
    let extrapolation = call.float_or("extrapolation_value", 0.0)?;
    let mut wanted = Wanted {
        scales: m.floats(call, 2)?.filter(|s| !s.is_empty()),
        sizes: m.known(call, 3)?.map(|d| d.values),
        axes,
    };
    let policy = call.string_or("keep_aspect_ratio_policy", "stretch")?;
    if policy != "stretch" {
        keep_ratio(m, call, x, &mut wanted, &policy)?;
    }
    let exclude_outside = call.flag("exclude_outside", false)?;
    let antialias = call.flag("antialias", false)?;
    let sampling = sampling(call, &mode)?;
    let n = wanted.axes.len();
    if coordinates == "tf_crop_and_resize" && regions.len() != 2 * n {
        return Err(call
            .wrong("roi", &format!("{} numbers", 2 * n), regions.len())
            .into());
    }
    let place: Coordinates = match coordinates.as_str() {
        "half_pixel" | "tf_crop_and_resize" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "asymmetric" => Coordinates::Asymmetric,
        // `(i + ½) / scale`, in operator set 11 only.
        "tf_half_pixel_for_nn" if call.version < 13 => Coordinates::Affine {
            offset: 0.5,
            step: 1.0,
        },
        "align_corners" => Coordinates::AlignCorners,
        other => {
            return Err(call
                .wrong("coordinate_transformation_mode", "a known mode", other)
                .into());
        }
    };
    let crop = coordinates == "tf_crop_and_resize";
    let form = Resize {
        exclude_outside,
        antialias,
        extrapolation: crop.then_some(extrapolation),
        ..plain(sampling)
    };
    one(resized(m, call, x, &wanted, form, |i| {
        if crop {
            Coordinates::CropAndResize {
                start: num::f32_of_f64(regions[i]),
                end: num::f32_of_f64(regions[n + i]),
            }
        } else {
            place
        }
    })?)
}

/// A resampling of no axes.
fn plain(sampling: Sampling) -> Resize {
    Resize {
        axes: Vec::new(),
        sampling,
        exclude_outside: false,
        antialias: false,
        extrapolation: None,
    }
}

/// Sizes that keep the ratio of the axes: the smallest or the largest factor for all.
fn keep_ratio(
    m: &Importer<'_>,
    call: &Call<'_>,
    x: ValueId,
    wanted: &mut Wanted,
    policy: &str,
) -> Result<()> {
    let shape = m.b.shape(x);
    let Some(sizes) = &wanted.sizes else {
        return Ok(());
    };
    let factors: Option<Vec<f64>> = wanted
        .axes
        .iter()
        .zip(sizes)
        .map(|(&a, s)| Some(num::f64_of(s.known()?) / num::f64_of(shape[a].known()?)))
        .collect();
    let Some(factors) = factors else {
        return Err(call
            .unsupported("`keep_aspect_ratio_policy` where sizes vary")
            .into());
    };
    let factor = match policy {
        "not_larger" => factors.iter().copied().fold(f64::INFINITY, f64::min),
        "not_smaller" => factors.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        other => {
            return Err(call
                .wrong("keep_aspect_ratio_policy", "a known policy", other)
                .into());
        }
    };
    let sizes = wanted.axes.iter().map(|&a| {
        let size = shape[a].known().map_or(0.0, num::f64_of) * factor;
        Dim::constant(num::i64_of_f64((size + 0.5).floor()))
    });
    wanted.sizes = Some(sizes.collect());
    wanted.scales = Some(vec![factor; wanted.axes.len()]);
    Ok(())
}

/// The number without its fraction.
fn whole(scale: f64) -> Dim {
    Dim::constant(num::i64_of_f64(scale))
}

fn resized(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    x: ValueId,
    wanted: &Wanted,
    mut form: Resize,
    coordinates: impl Fn(usize) -> Coordinates,
) -> Result<ValueId> {
    let shape = m.b.shape(x);
    let n = wanted.axes.len();
    let lengths = [
        wanted.scales.as_ref().map(Vec::len),
        wanted.sizes.as_ref().map(Vec::len),
    ];
    if lengths.iter().flatten().any(|&l| l != n) || lengths == [None, None] {
        return Err(call
            .wrong(
                "scales",
                &format!("{n} scales or sizes"),
                format!("{lengths:?}"),
            )
            .into());
    }
    let mut axes = Vec::new();
    for (i, &axis) in wanted.axes.iter().enumerate() {
        let scale = wanted.scales.as_ref().map(|s| s[i]);
        if scale.is_some_and(|s| s <= 0.0 || !s.is_finite()) {
            return Err(call.wrong("scales", "above 0", format!("{scale:?}")).into());
        }
        let size = match (&wanted.sizes, scale) {
            (Some(sizes), _) => sizes[i].clone(),
            (None, Some(scale)) => {
                let (least, most) = m.bounds.of(&shape[axis]).unwrap_or((0, i64::MAX));
                scaled(&shape[axis], num::f32_of_f64(scale), least..=most).ok_or_else(|| {
                    call.unsupported(format!(
                        "a factor of {scale} on an axis whose size varies (`{}`; fix it with `--dim`)",
                        shape[axis]
                    ))
                })?
            }
            (None, None) => shape[axis].clone(),
        };
        if size
            .integer()
            .is_some_and(|n| n < 0 || num::u64_of_f64(num::f64_of_i64(n)) > limits::DIMENSION)
        {
            return Err(call.wrong("sizes", "sensible sizes", size).into());
        }
        let had = &shape[axis];
        let refused = |what: &str| {
            call.unsupported(format!(
                "{what} on an axis whose size varies (`{had}`; fix it with `--dim`)"
            ))
        };
        let fraction = scale.filter(|_| wanted.sizes.is_none());
        let fraction = fraction.filter(|&s| s.fract() != 0.0 || size != had.mul(&whole(s)));
        let place = match (coordinates(i), fraction, had.known()) {
            // With a factor, the last place is that of the size before it is rounded down.
            (Coordinates::AlignCorners, Some(scale), Some(n)) => {
                let last = f64::from(num::f32_of(n) * num::f32_of_f64(scale)) - 1.0;
                Coordinates::Affine {
                    offset: 0.0,
                    step: if last > 0.0 {
                        (num::f64_of(n) - 1.0) / last
                    } else {
                        0.0
                    },
                }
            }
            (Coordinates::AlignCorners, Some(scale), None) => {
                return Err(refused(&format!("`align_corners` with a factor of {scale}")).into());
            }
            // Said in elements of the result so far.
            (Coordinates::Affine { offset, step }, _, n) => {
                let known = n.zip(size.known());
                let ratio = known.map(|(n, to)| num::f64_of(to) / num::f64_of(n));
                let ratio = scale.or(ratio);
                let ratio = ratio.ok_or_else(|| refused("`tf_half_pixel_for_nn` with sizes"))?;
                Coordinates::Affine {
                    offset: offset / ratio,
                    step: step / ratio,
                }
            }
            (place, _, _) => place,
        };
        let moves = matches!(place, Coordinates::CropAndResize { start, end } if start != 0.0 || end.to_bits() != 1f32.to_bits());
        // An axis that keeps its size keeps its elements.
        if size == shape[axis] && scale.is_none_or(|s| (s - 1.0).abs() < 1e-12) && !moves {
            continue;
        }
        axes.push(ResizeAxis {
            axis,
            // A whole factor is new size by old.
            scale: scale
                .filter(|_| wanted.sizes.is_some() || fraction.is_some())
                .map(num::f32_of_f64),
            coordinates: place,
            size,
        });
    }
    axes.sort_by_key(|a| a.axis);
    if axes.is_empty() {
        return Ok(x);
    }
    form.axes = axes;
    m.b.node(Op::Resize(form), &[x])
}

fn upsample(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let mode = call.string_or("mode", "nearest")?;
    let scales = if call.version < 9 {
        call.floats("scales")?
            .map(|s| s.into_iter().map(f64::from).collect())
    } else {
        m.floats(call, 1)?
    };
    let wanted = Wanted {
        axes: (0..m.b.rank(x)).collect(),
        scales,
        sizes: None,
    };
    let sampling = match mode.as_str() {
        "nearest" => Sampling::Nearest(Rounding::Floor),
        "linear" | "bilinear" => Sampling::Linear,
        other => return Err(call.wrong("mode", "nearest or linear", other).into()),
    };
    one(resized(m, call, x, &wanted, plain(sampling), |_| {
        Coordinates::Asymmetric
    })?)
}

fn grid_sample(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, grid) = (m.input(call, 0)?, m.input(call, 1)?);
    let mode = call.string_or("mode", "linear")?;
    let sampling = match mode.as_str() {
        "linear" | "bilinear" => Sampling::Linear,
        "nearest" => Sampling::Nearest(Rounding::Even),
        "cubic" | "bicubic" => Sampling::Cubic { coefficient: -0.75 },
        other => return Err(call.wrong("mode", "linear, nearest or cubic", other).into()),
    };
    let outside = match call.string_or("padding_mode", "zeros")?.as_str() {
        "zeros" => Outside::Constant(0.0),
        "border" => Outside::Border,
        "reflection" => Outside::Reflection,
        other => {
            return Err(call
                .wrong("padding_mode", "zeros, border or reflection", other)
                .into());
        }
    };
    let align_corners = call.flag("align_corners", false)?;
    let grid = m.b.to(grid, m.b.dtype(x))?;
    let op = GridSample {
        sampling,
        outside,
        align_corners,
    };
    one(m.b.node(Op::GridSample(op), &[x, grid])?)
}

/// The grid of the places of a tensor of a given size, as homogeneous coordinates, times the matrices.
fn affine_grid(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let theta = m.input(call, 0)?;
    let size = m.ints(call, 1)?.ok_or_else(|| call.missing("the size"))?;
    let align = call.flag("align_corners", false)?;
    let spatial: Option<Vec<usize>> = size
        .get(2..)
        .unwrap_or_default()
        .iter()
        .map(|&n| usize::try_from(n).ok().filter(|&n| n > 0))
        .collect();
    let count = spatial.as_ref().map(|s| {
        s.iter()
            .fold(1u64, |n, &d| n.saturating_mul(num::u64_of(d)))
    });
    let (Some(spatial), Some(count)) = (spatial, count) else {
        return Err(call
            .wrong("size", "[N, C, sizes…]", format!("{size:?}"))
            .into());
    };
    if spatial.is_empty() || count > limits::FOLDED_ELEMENTS.get() {
        return Err(call
            .wrong("size", "a sensible size", format!("{size:?}"))
            .into());
    }
    let along = |n: usize, i: usize| -> f64 {
        let (n, i) = (num::f64_of(n), num::f64_of(i));
        if !align {
            (2.0 * i + 1.0) / n - 1.0
        } else if n > 1.0 {
            2.0 * i / (n - 1.0) - 1.0
        } else {
            -1.0
        }
    };
    let axes = spatial.len();
    let mut values = Vec::new();
    for flat in 0..num::usize_of(count) {
        let mut rest = flat;
        let mut place = vec![0.0; axes];
        for (axis, &n) in spatial.iter().enumerate().rev() {
            place[axis] = along(n, rest % n);
            rest /= n;
        }
        // Last axis first, then the 1 that moves.
        values.extend(place.iter().rev().map(|&p| num::f32_of_f64(p)));
        values.push(1.0);
    }
    let grid = Tensor::f32(vec![num::usize_of(count), axes + 1], values)?.cast(m.b.dtype(theta));
    let grid = m.b.tensor("places", &grid)?;
    let y = m.b.matmul_t(grid, theta)?;
    let mut shape = vec![m.b.shape(theta)[0].clone()];
    shape.extend(spatial.iter().map(|&n| Dim::from(n)));
    shape.push(Dim::from(axes));
    one(m.b.reshape(y, shape)?)
}
