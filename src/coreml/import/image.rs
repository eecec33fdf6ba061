//! Resampling of images: resizing by size or factor, sampling at given places, crops that are resized, channels and blocks of pixels.

use super::call::Call;
use super::elementwise::op2;
use super::entry::Entry;
use super::{Handler, Importer, resample};
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, BlockOrder, Coordinates, DepthToSpace, Expand, GridSample, MatMul, Outside,
    Reshape, Resize, ResizeAxis, Rounding, Sampling, SpaceToDepth,
};
use crate::ir::{Constant, Dim, Op, ValueId};
use crate::limits;
use crate::tensor::{DType, Tensor, num};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "upsample_nearest_neighbor" | "upsample_bilinear" => upsample,
        "resize_nearest_neighbor" | "resize_bilinear" => resize_to,
        "resize" => resize,
        "resample" => resample,
        "affine" => affine,
        "crop_resize" => super::crop::crop_resize,
        "depth_to_space" | "pixel_shuffle" => to_space,
        "space_to_depth" | "pixel_unshuffle" => to_depth,
        _ => return None,
    };
    Some(handler)
}

pub(super) fn block(call: &mut Call, parameter: &str) -> Result<usize> {
    let side = call.int(parameter)?.unwrap_or(0);
    usize::try_from(side)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| {
            call.wrong(parameter, "a positive number", &side.to_string())
                .into()
        })
}

fn to_space(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let (parameter, order) = if call.op == "pixel_shuffle" {
        ("upscale_factor", BlockOrder::BlockLast)
    } else {
        ("block_size", BlockOrder::BlockFirst)
    };
    let block = block(call, parameter)?;
    importer.result(call, Op::DepthToSpace(DepthToSpace { block, order }), &[x])
}

fn to_depth(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let (parameter, order) = if call.op == "pixel_unshuffle" {
        ("downscale_factor", BlockOrder::BlockLast)
    } else {
        ("block_size", BlockOrder::BlockFirst)
    };
    let block = block(call, parameter)?;
    importer.result(call, Op::SpaceToDepth(SpaceToDepth { block, order }), &[x])
}

/// How the places of a result are spread over an axis.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mode {
    StrictAlignCorners,
    AlignCorners,
    UnalignCorners,
    Default,
    OffsetCorners,
}

pub(super) fn sampling_mode(call: &mut Call) -> Result<Mode> {
    let name = call.string("sampling_mode")?;
    Ok(match name.as_deref().unwrap_or("DEFAULT") {
        "STRICT_ALIGN_CORNERS" => Mode::StrictAlignCorners,
        "ALIGN_CORNERS" => Mode::AlignCorners,
        "UNALIGN_CORNERS" => Mode::UnalignCorners,
        "DEFAULT" => Mode::Default,
        "OFFSET_CORNERS" => Mode::OffsetCorners,
        other => {
            let expected = "`STRICT_ALIGN_CORNERS`, `ALIGN_CORNERS`, `UNALIGN_CORNERS`, `DEFAULT` or `OFFSET_CORNERS`";
            return Err(call
                .wrong("sampling_mode", expected, &format!("`{other}`"))
                .into());
        }
    })
}

/// Offset and step of the places over an interval of `size` elements, in elements.
pub(super) fn spacing(mode: Mode, size: f64, count: f64) -> (f64, f64) {
    let inner = size - 1.0;
    match mode {
        Mode::StrictAlignCorners if count <= 1.0 => (0.0, 0.0),
        Mode::AlignCorners if count <= 1.0 => (inner / 2.0, 0.0),
        Mode::StrictAlignCorners | Mode::AlignCorners => (0.0, inner / (count - 1.0)),
        Mode::UnalignCorners => (0.5 * size / count - 0.5, size / count),
        Mode::Default => (0.0, size / count),
        Mode::OffsetCorners => {
            let delta = inner.max(1.0) / count;
            (0.5 * delta, delta)
        }
    }
}

fn coordinates(call: &Call, mode: Mode, from: &Dim, to: &Dim) -> Result<Coordinates> {
    Ok(match mode {
        Mode::StrictAlignCorners => Coordinates::AlignCorners,
        Mode::AlignCorners if to.known().is_some_and(|n| n > 1) => Coordinates::AlignCorners,
        Mode::UnalignCorners => Coordinates::HalfPixel,
        Mode::Default => Coordinates::Asymmetric,
        Mode::AlignCorners | Mode::OffsetCorners => {
            let (Some(n), Some(m)) = (from.known(), to.known()) else {
                return Err(call
                    .unsupported("sampling_mode", "OFFSET_CORNERS, of sizes that vary")
                    .into());
            };
            let (offset, step) = spacing(mode, num::f64_of(n), num::f64_of(m));
            Coordinates::Affine { offset, step }
        }
    })
}

fn resized(
    importer: &mut Importer<'_>,
    call: &Call,
    x: ValueId,
    axes: Vec<ResizeAxis>,
    sampling: Sampling,
) -> Result<Vec<Entry>> {
    let op = Op::Resize(Resize {
        axes,
        sampling,
        antialias: false,
        exclude_outside: false,
        extrapolation: None,
    });
    importer.result(call, op, &[x])
}

/// A factor per axis; the new size is rounded down.
fn upsample(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let rank = shape.len();
    if rank < 3 {
        return Err(call.wrong("x", "rank 3 or more", &rank.to_string()).into());
    }
    let nearest = call.op == "upsample_nearest_neighbor";
    let (align, half) = if nearest {
        (false, false)
    } else {
        let align = call.bool("align_corners", true)?;
        (align, call.bool("half_pixel_centers", !align)?)
    };
    let mut axes = Vec::with_capacity(2);
    for (axis, parameter) in [
        (rank - 2, "scale_factor_height"),
        (rank - 1, "scale_factor_width"),
    ] {
        let factor = factor(call, parameter)?;
        let size = match (&shape[axis].known(), whole(factor)) {
            (Some(n), _) => {
                let size = (f64::from(factor) * num::f64_of(*n)).floor();
                Dim::from(num::usize_of(num::u64_of_f64(size)))
            }
            (None, Some(factor)) => shape[axis].mul(&Dim::from(factor)),
            (None, None) => fraction(factor)
                .and_then(|(over, under)| shape[axis].mul(&over).floor_div(&under))
                .ok_or_else(|| {
                    call.unsupported(parameter, format!("{factor} of a size that varies"))
                })?,
        };
        let coordinates = match (align, half) {
            (true, _) => Coordinates::AlignCorners,
            (false, true) => Coordinates::HalfPixel,
            (false, false) => Coordinates::Asymmetric,
        };
        axes.push(ResizeAxis {
            axis,
            size,
            // Places follow the sizes, not the factor that they were rounded from.
            scale: None,
            coordinates,
        });
    }
    let sampling = if nearest {
        Sampling::Nearest(Rounding::Floor)
    } else {
        Sampling::Linear
    };
    resized(importer, call, x, axes, sampling)
}

fn factor(call: &mut Call, parameter: &str) -> Result<f32> {
    let Some(entry) = call.optional(parameter) else {
        return Ok(1.0);
    };
    let constant = match &entry {
        Entry::Constant { constant } if constant.len() == 1 => constant,
        Entry::Constant { .. }
        | Entry::Value { .. }
        | Entry::Dims(_)
        | Entry::Text { .. }
        | Entry::List(_)
        | Entry::State { .. } => {
            return Err(call
                .wrong(parameter, "one constant number", &entry.describe())
                .into());
        }
    };
    let value = constant.read()?.to_f64().first().copied().unwrap_or(0.0);
    if value > 0.0 && value.is_finite() {
        Ok(num::f32_of_f64(value))
    } else {
        Err(call
            .wrong(parameter, "a positive number", &value.to_string())
            .into())
    }
}

/// The factor as a fraction of small numbers.
fn fraction(factor: f32) -> Option<(Dim, Dim)> {
    let factor = f64::from(factor);
    (1..=1000_usize).find_map(|under| {
        let over = (factor * num::f64_of(under)).round();
        let near = (over / num::f64_of(under) - factor).abs() <= 1e-6 * factor;
        near.then(|| (Dim::constant(num::i64_of_f64(over)), Dim::from(under)))
    })
}

fn whole(factor: f32) -> Option<usize> {
    let n = num::i64_of_f32(factor);
    (num::f32_of_i64(n).to_bits() == factor.to_bits())
        .then(|| usize::try_from(n).ok())
        .flatten()
}

fn resize_to(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let rank = shape.len();
    if rank < 3 {
        return Err(call.wrong("x", "rank 3 or more", &rank.to_string()).into());
    }
    let linear = call.op == "resize_bilinear";
    let mode = if linear {
        sampling_mode(call)?
    } else {
        Mode::Default
    };
    let mut axes = Vec::with_capacity(2);
    for (axis, parameter) in [
        (rank - 2, "target_size_height"),
        (rank - 1, "target_size_width"),
    ] {
        let size = match call.optional_dims(parameter)? {
            Some(dims) => dims.values.into_iter().next().unwrap_or_default(),
            None => Dim::from(1),
        };
        axes.push(ResizeAxis {
            axis,
            coordinates: coordinates(call, mode, &shape[axis], &size)?,
            size,
            scale: None,
        });
    }
    let sampling = if linear {
        Sampling::Linear
    } else {
        Sampling::Nearest(Rounding::Floor)
    };
    resized(importer, call, x, axes, sampling)
}

/// The last `resized_dims` axes get the sizes at the end of `shape`; 0 leaves an axis as it is.
fn resize(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let entry = call.required("shape")?;
    let sizes = entry.dims()?.map(|d| d.values);
    let given = entry
        .ty()
        .and_then(|t| t.shape.first().and_then(Dim::known));
    let count = call.int("resized_dims")?.unwrap_or(0);
    let mode = sampling_mode(call)?;
    let name = call.string("interpolation_mode")?;
    let sampling = match name.as_deref().unwrap_or("LINEAR") {
        "LINEAR" => Sampling::Linear,
        // A place that is no pixel's centre: the nearest one.
        "NEAREST_NEIGHBOR" if mode == Mode::UnalignCorners => {
            Sampling::Nearest(Rounding::PreferCeil)
        }
        "NEAREST_NEIGHBOR" => Sampling::Nearest(Rounding::PreferFloor),
        other => {
            let expected = "`LINEAR` or `NEAREST_NEIGHBOR`";
            return Err(call
                .wrong("interpolation_mode", expected, &format!("`{other}`"))
                .into());
        }
    };
    let given = given.unwrap_or(0);
    let count = usize::try_from(count)
        .ok()
        .filter(|&n| n <= given && given <= shape.len());
    let Some(count) = count else {
        let found = format!("{given} sizes");
        return Err(call
            .wrong("resized_dims", "no more than there are sizes", &found)
            .into());
    };
    let Some(sizes) = sizes else {
        let first = given - count;
        return resample::resize_to_computed(
            importer,
            call,
            x,
            &entry,
            (first, count),
            mode,
            sampling,
        );
    };
    let mut axes = Vec::with_capacity(count);
    for i in 0..count {
        let axis = shape.len() - count + i;
        let mut size = sizes[sizes.len() - count + i].clone();
        if size.integer() == Some(0) {
            size = shape[axis].clone();
        }
        // The places of `OFFSET_CORNERS` are not those of the elements even then.
        if size == shape[axis] && mode != Mode::OffsetCorners {
            continue;
        }
        axes.push(ResizeAxis {
            axis,
            coordinates: coordinates(call, mode, &shape[axis], &size)?,
            size,
            scale: None,
        });
    }
    if axes.is_empty() {
        return Ok(vec![importer.entry(x)]);
    }
    resized(importer, call, x, axes, sampling)
}

/// A tensor of single-precision numbers.
pub(super) fn table(
    importer: &mut Importer<'_>,
    call: &Call,
    suffix: &str,
    shape: Vec<usize>,
    values: Vec<f32>,
) -> Result<ValueId> {
    let tensor = Tensor::f32(shape, values)?;
    let name = format!("{}/{suffix}", call.name);
    Ok(importer
        .builder
        .constant(Constant::from_tensor(&name, &tensor)?))
}

pub(super) fn known_sizes(
    importer: &Importer<'_>,
    call: &Call,
    x: ValueId,
) -> Result<(usize, usize)> {
    let ty = importer.ty(x);
    let sizes = match ty.shape.as_slice() {
        [_, _, h, w] => h.known().zip(w.known()),
        _ => None,
    };
    sizes.filter(|&(h, w)| h > 0 && w > 0).ok_or_else(|| {
        call.wrong("x", "rank 4 and a known height and width", &ty.to_string())
            .into()
    })
}

/// `x · factors + offsets`, of a last axis of two.
pub(super) fn scaled(
    importer: &mut Importer<'_>,
    call: &Call,
    x: ValueId,
    factors: [f64; 2],
    offsets: [f64; 2],
) -> Result<ValueId> {
    let values = |v: [f64; 2]| v.map(num::f32_of_f64).to_vec();
    let factors = table(importer, call, "factors", vec![2], values(factors))?;
    let offsets = table(importer, call, "offsets", vec![2], values(offsets))?;
    let x = importer.step(call, "scaled", op2(BinaryKind::Mul), &[x, factors])?;
    importer.step(call, "places", op2(BinaryKind::Add), &[x, offsets])
}

/// Values at places of the image, which are given as width and height.
fn resample(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let dtype = importer.ty(x).dtype;
    let places = importer.operand(call, "coordinates")?;
    let sampling = match call.string("sampling_mode")?.unwrap_or_default().as_str() {
        "bilinear" => Sampling::Linear,
        "nearest" => Sampling::Nearest(Rounding::Even),
        other => {
            let expected = "`bilinear` or `nearest`";
            return Err(call
                .wrong("sampling_mode", expected, &format!("`{other}`"))
                .into());
        }
    };
    let padding = call.string("padding_mode")?.unwrap_or_default();
    let value = call.float("padding_value")?.unwrap_or(0.0);
    let mode = call.string("coordinates_mode")?.unwrap_or_default();
    let given = call.bool("align_corners", false)?;
    // Mirroring at the centres of the outermost pixels is what aligned corners do, mirroring at their edges what others do.
    let (outside, align) = match padding.as_str() {
        "constant" => (Outside::Constant(value), given),
        "border" => (Outside::Border, given),
        "reflection" => (Outside::Reflection, true),
        "symmetric" => (Outside::Reflection, false),
        other => {
            let expected = "`constant`, `border`, `reflection` or `symmetric`";
            return Err(call
                .wrong("padding_mode", expected, &format!("`{other}`"))
                .into());
        }
    };
    let places = importer.cast(call, "places", places, DType::F32)?;
    let direct = mode == "normalized_minus_one_to_one" && align == given;
    let (places, align) = if direct {
        (places, align)
    } else {
        let (h, w) = known_sizes(importer, call, x)?;
        // Pixels from what is given, then what the operation takes from pixels; both are scales and offsets.
        let (mut factors, mut offsets) = ([0.0; 2], [0.0; 2]);
        let align = align && w > 1 && h > 1;
        for (i, n) in [w, h].into_iter().enumerate() {
            let n = num::f64_of(n);
            let (scale, offset) = match (mode.as_str(), given) {
                ("unnormalized", _) => (1.0, 0.0),
                ("normalized_minus_one_to_one", true) => ((n - 1.0) / 2.0, (n - 1.0) / 2.0),
                ("normalized_minus_one_to_one", false) => (n / 2.0, (n - 1.0) / 2.0),
                ("normalized_zero_to_one", true) => (n - 1.0, 0.0),
                ("normalized_zero_to_one", false) => (n, -0.5),
                (other, _) => {
                    let expected =
                        "`unnormalized`, `normalized_minus_one_to_one` or `normalized_zero_to_one`";
                    return Err(call
                        .wrong("coordinates_mode", expected, &format!("`{other}`"))
                        .into());
                }
            };
            let (by, plus) = if align {
                (2.0 / (n - 1.0), -1.0)
            } else {
                (2.0 / n, 1.0 / n - 1.0)
            };
            factors[i] = scale * by;
            offsets[i] = offset * by + plus;
        }
        (scaled(importer, call, places, factors, offsets)?, align)
    };
    let wide = importer.cast(call, "x", x, DType::F32)?;
    let op = Op::GridSample(GridSample {
        sampling,
        outside,
        align_corners: align,
    });
    importer.rounded(call, op, &[wide, places], dtype)
}

/// An affine map of the places, which run from −1 to 1 between the centres of the outermost pixels.
fn affine(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let ty = importer.ty(x);
    if ty.rank() != 4 {
        return Err(call.wrong("x", "rank 4", &ty.to_string()).into());
    }
    let matrix = importer.operand(call, "transform_matrix")?;
    let height = block(call, "output_height")?;
    let width = block(call, "output_width")?;
    let mut only = |parameter: &str, value: &str| -> Result<()> {
        match call.string(parameter)? {
            Some(found) if found.to_lowercase() == value => Ok(()),
            found => Err(call
                .wrong(parameter, &format!("`{value}`"), &format!("{found:?}"))
                .into()),
        }
    };
    only("sampling_mode", "bilinear")?;
    only("padding_mode", "constant")?;
    only("coordinates_mode", "normalized_minus_one_to_one")?;
    let fill = call.float("padding_value")?.unwrap_or(0.0);
    let align = call.bool("align_corners", true)?;
    let count = height
        .checked_mul(width)
        .filter(|&n| num::u64_of(n) <= limits::FOLDED_ELEMENTS.get());
    let Some(count) = count else {
        let found = format!("{height} × {width}");
        return Err(call.unsupported("output_height", found).into());
    };
    let place = |i: usize, n: usize| -> f32 {
        let (i, n) = (num::f64_of(i), num::f64_of(n));
        num::f32_of_f64(match (align, n > 1.0) {
            (true, true) => 2.0 * i / (n - 1.0) - 1.0,
            (true, false) => -1.0,
            (false, _) => (2.0 * i + 1.0) / n - 1.0,
        })
    };
    let base = (0..count)
        .flat_map(|i| [place(i % width, width), place(i / width, height), 1.0])
        .collect();
    let base = table(importer, call, "base", vec![1, count, 3], base)?;
    let matrix = importer.cast(call, "matrix", matrix, DType::F32)?;
    let batch = importer
        .ty(matrix)
        .shape
        .first()
        .cloned()
        .unwrap_or_default();
    let shape = vec![batch.clone(), Dim::from(2), Dim::from(3)];
    let matrix = importer.step(call, "rows", Op::Reshape(Reshape { shape }), &[matrix])?;
    let product = MatMul {
        transpose_a: false,
        transpose_b: true,
    };
    let places = importer.step(call, "places", Op::MatMul(product), &[base, matrix])?;
    let two = Dim::from(2);
    let shape = vec![batch, Dim::from(height), Dim::from(width), two.clone()];
    let mut places = importer.step(call, "grid", Op::Reshape(Reshape { shape }), &[places])?;
    let grid = importer.ty(places).shape;
    if grid[0] != ty.shape[0] {
        let shape = vec![
            ty.shape[0].clone(),
            Dim::from(height),
            Dim::from(width),
            two,
        ];
        places = importer.step(call, "grids", Op::Expand(Expand { shape }), &[places])?;
    }
    let wide = importer.cast(call, "x", x, DType::F32)?;
    let op = Op::GridSample(GridSample {
        sampling: Sampling::Linear,
        outside: Outside::Constant(fill),
        align_corners: align,
    });
    importer.rounded(call, op, &[wide, places], ty.dtype)
}
