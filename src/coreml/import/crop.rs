//! Crops of images, each resized: places over every box, and samples at them.

use super::Importer;
use super::call::Call;
use super::elementwise::op2;
use super::entry::Entry;
use super::image::{Mode, block, known_sizes, sampling_mode, scaled, spacing, table};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, Compare, CompareKind, Concat, Expand, Gather, GridSample, Outside, Reshape,
    Sampling, Select, Slice, SliceRange, Transpose, Unsqueeze,
};
use crate::ir::{Dim, Op, ValueId};
use crate::tensor::{DType, num};

/// One column of a matrix, as `[n, 1]`.
fn column(importer: &mut Importer<'_>, call: &Call, x: ValueId, at: usize) -> Result<ValueId> {
    let ranges = vec![SliceRange::new(1, at, at + 1)];
    importer.step(call, "column", Op::Slice(Slice { ranges }), &[x])
}

/// Crops of the image, each resized.
pub(super) fn crop_resize(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
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
        let (start, extent) = if old && mode == Mode::UnalignCorners {
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

/// Before CoreML7 a box that ends before it begins is the whole axis where places are unaligned; elsewhere, and since, it is walked backwards.
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
