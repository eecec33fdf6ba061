//! Resampling of images: resizing by size or factor, sampling at given places, crops that are resized, channels and blocks of pixels.

use super::call::Call;
use super::elementwise::op2;
use super::entry::Entry;
use super::{Handler, Importer, resample};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, BlockOrder, Compare, CompareKind, Concat, Coordinates, DepthToSpace, Expand,
    Gather, GridSample, MatMul, Outside, Reshape, Resize, ResizeAxis, Rounding, Sampling, Select,
    Slice, SliceRange, SpaceToDepth, Transpose, Unsqueeze,
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
        "crop_resize" => crop_resize,
        "depth_to_space" | "pixel_shuffle" => to_space,
        "space_to_depth" | "pixel_unshuffle" => to_depth,
        _ => return None,
    };
    Some(handler)
}

fn block(call: &mut Call, parameter: &str) -> Result<usize> {
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

fn sampling_mode(call: &mut Call) -> Result<Mode> {
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
        let size = sizes[sizes.len() - count + i].clone();
        if size.integer() == Some(0) || size == shape[axis] {
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
fn table(
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

fn known_sizes(importer: &Importer<'_>, call: &Call, x: ValueId) -> Result<(usize, usize)> {
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
fn scaled(
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

/// One column of a matrix, as `[n, 1]`.
fn column(importer: &mut Importer<'_>, call: &Call, x: ValueId, at: usize) -> Result<ValueId> {
    let ranges = vec![SliceRange::new(1, at, at + 1)];
    importer.step(call, "column", Op::Slice(Slice { ranges }), &[x])
}

/// Crops of the image, each resized.
fn crop_resize(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let ty = importer.ty(x);
    let (h, w) = known_sizes(importer, call, x)?;
    let target = [
        block_or_one(call, "target_height")?,
        block_or_one(call, "target_width")?,
    ];
    let normalized = call.bool("normalized_coordinates", false)?;
    let scale = f64::from(call.float("spatial_scale")?.unwrap_or(1.0));
    let mode = sampling_mode(call)?;
    let fill = call.float("pad_value")?.unwrap_or(0.0);
    let layout = call.string("box_coordinate_mode")?;
    let (center, width_first) = match layout.as_deref().unwrap_or("CORNERS_HEIGHT_FIRST") {
        "CORNERS_HEIGHT_FIRST" => (false, false),
        "CORNERS_WIDTH_FIRST" => (false, true),
        "CENTER_SIZE_HEIGHT_FIRST" => (true, false),
        "CENTER_SIZE_WIDTH_FIRST" => (true, true),
        other => {
            let expected = "corners or centre and size, height or width first";
            return Err(call
                .wrong("box_coordinate_mode", expected, &format!("`{other}`"))
                .into());
        }
    };
    let old = call.opset < Opset::CoreML7;
    let (boxes, which) = boxes(importer, call, old)?;
    let n = importer.ty(boxes).shape[0].clone();
    // Per axis, the places of every box: [n, target].
    let mut places = Vec::with_capacity(2);
    for (axis, (size, count)) in [h, w].into_iter().zip(target).enumerate() {
        let first = if width_first { 1 - axis } else { axis };
        let a = column(importer, call, boxes, first)?;
        let b = column(importer, call, boxes, first + 2)?;
        let unit = if normalized {
            num::f64_of(size) - 1.0
        } else {
            1.0
        } * scale;
        let unit = importer.scalar(call, "unit", DType::F32, unit)?;
        let a = importer.step(call, "a", op2(BinaryKind::Mul), &[a, unit])?;
        let b = importer.step(call, "b", op2(BinaryKind::Mul), &[b, unit])?;
        let (start, extent) = if center {
            let half = importer.scalar(call, "half", DType::F32, 0.5)?;
            let half = importer.step(call, "half", op2(BinaryKind::Mul), &[b, half])?;
            (
                importer.step(call, "start", op2(BinaryKind::Sub), &[a, half])?,
                b,
            )
        } else {
            (
                a,
                importer.step(call, "extent", op2(BinaryKind::Sub), &[b, a])?,
            )
        };
        let (start, extent) = if old {
            forwards(importer, call, start, extent, num::f64_of(size) - 1.0)?
        } else {
            (start, extent)
        };
        places.push(spread(importer, call, start, extent, count, mode)?);
    }
    let shape = |importer: &mut Importer<'_>, v: ValueId, axes: Vec<usize>| -> Result<ValueId> {
        let v = importer.step(call, "apart", Op::Unsqueeze(Unsqueeze { axes }), &[v])?;
        let shape = vec![
            n.clone(),
            Dim::from(target[0]),
            Dim::from(target[1]),
            Dim::from(1),
        ];
        importer.step(call, "all", Op::Expand(Expand { shape }), &[v])
    };
    let rows = shape(importer, places[0], vec![2, 3])?;
    let columns = shape(importer, places[1], vec![1, 3])?;
    let joined = Op::Concat(Concat { axis: 3 });
    let grid = importer.step(call, "pixels", joined, &[columns, rows])?;
    let inside = inside(importer, call, grid, [w, h])?;
    let (width, height) = (num::f64_of(w), num::f64_of(h));
    let factors = [2.0 / width, 2.0 / height];
    let offsets = [1.0 / width - 1.0, 1.0 / height - 1.0];
    let grid = scaled(importer, call, grid, factors, offsets)?;
    let sample = Op::GridSample(GridSample {
        sampling: Sampling::Linear,
        outside: Outside::Border,
        align_corners: false,
    });
    let fill = importer.scalar(call, "fill", DType::F32, f64::from(fill))?;
    let wide = importer.cast(call, "x", x, DType::F32)?;
    if let Some(which) = which {
        let images = importer.step(
            call,
            "images",
            Op::Gather(Gather { axis: 0 }),
            &[wide, which],
        )?;
        let crops = importer.step(call, "crops", sample, &[images, grid])?;
        let filled = Op::Select(Select);
        if !old {
            return importer.rounded(call, filled, &[inside, crops, fill], ty.dtype);
        }
        let crops = importer.step(call, "filled", filled, &[inside, crops, fill])?;
        let crops = importer.cast(call, "rounded", crops, ty.dtype)?;
        let axes = vec![1];
        return importer.result(call, Op::Unsqueeze(Unsqueeze { axes }), &[crops]);
    }
    // Every box of every image: the places of the boxes side by side, then one image after the other.
    let batch = ty.shape[0].clone();
    let tall = n.mul(&Dim::from(target[0]));
    let parts = vec![
        Dim::from(1),
        tall.clone(),
        Dim::from(target[1]),
        Dim::from(2),
    ];
    let grid = importer.step(
        call,
        "stacked",
        Op::Reshape(Reshape { shape: parts }),
        &[grid],
    )?;
    let all = vec![batch.clone(), tall, Dim::from(target[1]), Dim::from(2)];
    let grid = importer.step(call, "grids", Op::Expand(Expand { shape: all }), &[grid])?;
    let crops = importer.step(call, "crops", sample, &[wide, grid])?;
    let parts = vec![
        Dim::from(1),
        Dim::from(1),
        n.mul(&Dim::from(target[0])),
        Dim::from(target[1]),
    ];
    let reshape = Op::Reshape(Reshape { shape: parts });
    let inside = importer.step(call, "insides", reshape, &[inside])?;
    let crops = importer.step(call, "filled", Op::Select(Select), &[inside, crops, fill])?;
    let crops = importer.cast(call, "rounded", crops, ty.dtype)?;
    // [B, C, n·h, w] to [n, B, C, h, w].
    let planes = batch.mul(&ty.shape[1]);
    let shape = vec![
        planes,
        n.clone(),
        Dim::from(target[0]),
        Dim::from(target[1]),
    ];
    let crops = importer.step(call, "planes", Op::Reshape(Reshape { shape }), &[crops])?;
    let perm = vec![1, 0, 2, 3];
    let crops = importer.step(call, "boxes", Op::Transpose(Transpose { perm }), &[crops])?;
    let shape = vec![
        n,
        batch,
        ty.shape[1].clone(),
        Dim::from(target[0]),
        Dim::from(target[1]),
    ];
    importer.result(call, Op::Reshape(Reshape { shape }), &[crops])
}

/// Before CoreML7 a box that ends before it begins is the whole axis.
fn forwards(
    importer: &mut Importer<'_>,
    call: &Call,
    start: ValueId,
    extent: ValueId,
    last: f64,
) -> Result<(ValueId, ValueId)> {
    let zero = importer.scalar(call, "zero", DType::F32, 0.0)?;
    let last = importer.scalar(call, "last", DType::F32, last)?;
    let kind = CompareKind::Less;
    let back = importer.step(call, "back", Op::Compare(Compare { kind }), &[extent, zero])?;
    let select = Op::Select(Select);
    Ok((
        importer.step(call, "start", select.clone(), &[back, zero, start])?,
        importer.step(call, "extent", select, &[back, last, extent])?,
    ))
}

/// Whether places `[n, h, w, 2]` lie between the centres of the outermost pixels, as `[n, 1, h, w]`.
fn inside(
    importer: &mut Importer<'_>,
    call: &Call,
    grid: ValueId,
    sizes: [usize; 2],
) -> Result<ValueId> {
    let last = sizes
        .map(|n| num::f32_of_f64(num::f64_of(n) - 1.0))
        .to_vec();
    let last = table(importer, call, "last", vec![2], last)?;
    let zero = importer.scalar(call, "zero", DType::F32, 0.0)?;
    let mut compare =
        |kind, limit| importer.step(call, "side", Op::Compare(Compare { kind }), &[grid, limit]);
    let from = compare(CompareKind::GreaterEqual, zero)?;
    let to = compare(CompareKind::LessEqual, last)?;
    let both = importer.step(call, "both", op2(BinaryKind::And), &[from, to])?;
    let mut side = |at: usize| {
        let ranges = vec![SliceRange::new(3, at, at + 1)];
        importer.step(call, "one", Op::Slice(Slice { ranges }), &[both])
    };
    let (across, down) = (side(0)?, side(1)?);
    let all = importer.step(call, "all", op2(BinaryKind::And), &[across, down])?;
    let perm = vec![0, 3, 1, 2];
    importer.step(call, "inside", Op::Transpose(Transpose { perm }), &[all])
}

fn block_or_one(call: &mut Call, parameter: &str) -> Result<usize> {
    if call.peek(parameter).is_none() {
        return Ok(1);
    }
    block(call, parameter)
}

/// The boxes as `f32 [n, 4]`, and the images they are of, unless every box is of every image.
fn boxes(
    importer: &mut Importer<'_>,
    call: &mut Call,
    old: bool,
) -> Result<(ValueId, Option<ValueId>)> {
    if !old {
        let boxes = importer.operand(call, "boxes")?;
        let n = importer
            .ty(boxes)
            .shape
            .first()
            .cloned()
            .unwrap_or_default();
        let which = match importer.optional_operand(call, "box_indices")? {
            Some(which) => which,
            None => super::layout::count(importer, call, "which", &n)?,
        };
        let boxes = importer.cast(call, "boxes", boxes, DType::F32)?;
        return Ok((boxes, Some(which)));
    }
    let roi = importer.operand(call, "roi")?;
    let shape = importer.ty(roi).shape;
    let (n, width) = match shape.as_slice() {
        [n, _, width, _, _] => (n.clone(), width.known()),
        _ => (Dim::from(0), None),
    };
    let Some(width) = width.filter(|w| [4, 5].contains(w)) else {
        let found = importer.ty(roi).to_string();
        return Err(call.wrong("roi", "[n, 1, 4 or 5, 1, 1]", &found).into());
    };
    let roi = importer.cast(call, "roi", roi, DType::F32)?;
    let shape = vec![n.clone(), Dim::from(width)];
    let roi = importer.step(call, "flat", Op::Reshape(Reshape { shape }), &[roi])?;
    if width == 4 {
        return Ok((roi, None));
    }
    let which = column(importer, call, roi, 0)?;
    let which = importer.cast(call, "which", which, DType::I32)?;
    let shape = vec![n];
    let which = importer.step(call, "images", Op::Reshape(Reshape { shape }), &[which])?;
    let ranges = vec![SliceRange::new(1, 1, 5)];
    let boxes = importer.step(call, "boxes", Op::Slice(Slice { ranges }), &[roi])?;
    Ok((boxes, Some(which)))
}

/// `count` places over each interval that begins at `start [n, 1]` and spans `extent [n, 1]` between its first and last element.
fn spread(
    importer: &mut Importer<'_>,
    call: &Call,
    start: ValueId,
    extent: ValueId,
    count: usize,
    mode: Mode,
) -> Result<ValueId> {
    // Offset and step are affine in the extent: what they are at 0, and how much more they are at 1. `OFFSET_CORNERS` is so from 1 on.
    let at = |size: f64| spacing(mode, size, num::f64_of(count));
    let (low, high) = if mode == Mode::OffsetCorners {
        (at(2.0), at(3.0))
    } else {
        (at(1.0), at(2.0))
    };
    let slope = (high.0 - low.0, high.1 - low.1);
    let base = if mode == Mode::OffsetCorners {
        (low.0 - slope.0, low.1 - slope.1)
    } else {
        low
    };
    let row = |f: &dyn Fn(f64) -> f64| -> Vec<f32> {
        (0..count)
            .map(|i| num::f32_of_f64(f(num::f64_of(i))))
            .collect()
    };
    let mut extent = extent;
    if mode == Mode::OffsetCorners {
        let one = importer.scalar(call, "one", DType::F32, 1.0)?;
        extent = importer.step(call, "extent", op2(BinaryKind::Max), &[extent, one])?;
    }
    let fixed = row(&|i| base.0 + i * base.1);
    let grows = row(&|i| slope.0 + i * slope.1);
    let fixed = table(importer, call, "fixed", vec![1, count], fixed)?;
    let grows = table(importer, call, "grows", vec![1, count], grows)?;
    let more = importer.step(call, "more", op2(BinaryKind::Mul), &[extent, grows])?;
    let more = importer.step(call, "offsets", op2(BinaryKind::Add), &[more, fixed])?;
    importer.step(call, "places", op2(BinaryKind::Add), &[start, more])
}
