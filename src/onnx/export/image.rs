//! Resampling: `Resize` and `GridSample` where the opset and the engines have the form; other resizing is written as gathers and weights.

use super::emitter::{Emitter, Last, float, int, last, string};
use super::taps::{place, taps};
use crate::error::Result;
use crate::ir::ops::{Coordinates, GridSample, Outside, Resize, ResizeAxis, Rounding, Sampling};
use crate::ir::{Dim, Node, Type};
use crate::onnx::error::OnnxError;
use crate::tensor::{DType, Tensor, num};

/// The name of a coordinate transformation, if the opset has it.
fn coordinates(c: Coordinates, opset: i64) -> Option<&'static str> {
    match c {
        Coordinates::HalfPixel => Some("half_pixel"),
        Coordinates::HalfPixelSymmetric if opset >= 19 => Some("half_pixel_symmetric"),
        Coordinates::PytorchHalfPixel => Some("pytorch_half_pixel"),
        Coordinates::Asymmetric => Some("asymmetric"),
        Coordinates::AlignCorners => Some("align_corners"),
        Coordinates::CropAndResize { .. } => Some("tf_crop_and_resize"),
        Coordinates::HalfPixelSymmetric | Coordinates::Affine { .. } => None,
    }
}

fn rounding(r: Rounding) -> Option<&'static str> {
    match r {
        Rounding::PreferFloor => Some("round_prefer_floor"),
        Rounding::PreferCeil => Some("round_prefer_ceil"),
        Rounding::Floor => Some("floor"),
        Rounding::Ceil => Some("ceil"),
        Rounding::Even => None,
    }
}

/// Sizes of an axis before and after, where both are known.
fn known(axis: &ResizeAxis, x: &Type) -> Option<(usize, usize)> {
    x.shape[axis.axis].known().zip(axis.size.known())
}

/// The name of the coordinate transformation when `Resize` means what the operation means, in the opset and in engines.
fn native(opset: i64, o: &Resize, x: &Type) -> Option<&'static str> {
    let name = coordinates(o.axes.first()?.coordinates, opset)?;
    let same = o
        .axes
        .iter()
        .all(|a| coordinates(a.coordinates, opset) == Some(name));
    // Only cropping gives a value to what is outside, and it always does.
    if !same || (name == "tf_crop_and_resize") != o.extrapolation.is_some() {
        return None;
    }
    let rank = x.rank();
    let spatial = o.axes.iter().all(|a| a.axis >= 2);
    let fits = match o.sampling {
        Sampling::Nearest(r) => {
            rounding(r)?;
            !o.exclude_outside && !o.antialias && o.axes.iter().all(|a| safe(a, r, x))
        }
        Sampling::Linear => {
            !o.exclude_outside && (matches!(rank, 2 | 3) || (matches!(rank, 4 | 5) && spatial))
        }
        Sampling::Cubic { .. } => rank == 2 || (rank == 4 && spatial),
    };
    let fits = fits && (!o.antialias || opset >= 18 && (rank == 2 || rank == 4 && spatial));
    (fits && scales(o, x).is_ok()).then_some(name)
}

/// How far from the middle between two elements a place must be, in elements, for single precision not to matter.
const UNSURE: f64 = 1e-3;

/// Whether engines pick the same elements, whatever the order of their steps. What is not known is left to them.
fn safe(axis: &ResizeAxis, r: Rounding, x: &Type) -> bool {
    let Some((n, m)) = known(axis, x) else {
        return true;
    };
    // Of the others, the steps are the same everywhere.
    if !matches!(
        axis.coordinates,
        Coordinates::HalfPixelSymmetric | Coordinates::CropAndResize { .. }
    ) {
        return true;
    }
    (0..m).all(|i| {
        let x = place(axis, i, n, m);
        let exact = super::taps::nearest(x, r);
        [x - UNSURE, x + UNSURE].map(|x| super::taps::nearest(x, r)) == [exact; 2]
    })
}

/// Factors per axis of the tensor when the operation says them: `None` when it only says sizes, an error when `Resize` would make other sizes.
fn scales(o: &Resize, x: &Type) -> Result<Option<Vec<f32>>, ()> {
    if o.axes.iter().all(|a| a.scale.is_none()) {
        return Ok(None);
    }
    let mut scales = vec![1.0f32; x.rank()];
    for axis in &o.axes {
        let Some((n, m)) = known(axis, x) else {
            // Engines make the same of a size that varies.
            scales[axis.axis] = axis.factor(&x.shape[axis.axis]).ok_or(())?;
            continue;
        };
        let scale = axis.scale.unwrap_or(num::f32_of(m) / num::f32_of(n));
        if (num::f32_of(n) * scale)
            .floor()
            .total_cmp(&num::f32_of(m))
            .is_ne()
        {
            return Err(());
        }
        scales[axis.axis] = scale;
    }
    Ok(Some(scales))
}

pub(super) fn resize(e: &mut Emitter<'_>, node: &Node, o: &Resize) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    let nearest = matches!(o.sampling, Sampling::Nearest(_));
    let kernel = e.kernel("Resize", ty.dtype);
    let Some((mode, kernel)) = native(e.opset, o, ty).zip(kernel.ok()) else {
        return by_gathers(e, node, o);
    };
    // Integers are rounded, not cut.
    let kernel = if nearest || ty.dtype.is_float() {
        kernel
    } else {
        DType::F32
    };
    let x = e.operand_as(node.operands[0], kernel)?;
    let roi = if mode == "tf_crop_and_resize" {
        let rank = ty.rank();
        let mut roi = vec![0.0; rank];
        roi.resize(2 * rank, 1.0);
        for axis in &o.axes {
            if let Coordinates::CropAndResize { start, end } = axis.coordinates {
                roi[axis.axis] = start;
                roi[rank + axis.axis] = end;
            }
        }
        let name = format!("const/f32/{roi:?}");
        e.small(&name, &Tensor::f32(vec![2 * rank], roi)?)?
    } else {
        String::new()
    };
    let mut inputs = vec![x, roi];
    if let Ok(Some(scales)) = scales(o, ty) {
        let name = format!("const/f32/{scales:?}");
        inputs.push(e.small(&name, &Tensor::f32(vec![scales.len()], scales)?)?);
    } else {
        inputs.push(String::new());
        let shape = e.ty(node.result()).shape.clone();
        inputs.push(e.shape(&shape)?);
    }
    let mut resize =
        Last::of("Resize", inputs).with(string("coordinate_transformation_mode", mode));
    resize = match o.sampling {
        Sampling::Nearest(r) => resize
            .with(string("mode", "nearest"))
            .with(string("nearest_mode", rounding(r).unwrap_or_default())),
        Sampling::Linear => resize.with(string("mode", "linear")),
        Sampling::Cubic { coefficient } => resize
            .with(string("mode", "cubic"))
            .with(float("cubic_coeff_a", f64::from(coefficient))),
    };
    if o.exclude_outside {
        resize = resize.with(int("exclude_outside", 1));
    }
    if o.antialias {
        resize = resize.with(int("antialias", 1));
    }
    if let Some(value) = o.extrapolation {
        resize = resize.with(float("extrapolation_value", f64::from(value)));
    }
    rounded(e, resize, kernel, ty.dtype, nearest)
}

/// The result in the operand's type, integers rounded.
fn rounded(
    e: &mut Emitter<'_>,
    result: Last,
    kernel: DType,
    dtype: DType,
    nearest: bool,
) -> Result<Last> {
    if nearest || dtype.is_float() {
        return e.converted(result, kernel, dtype);
    }
    let x = e.settle(result);
    e.converted(last("Round", [x]), kernel, dtype)
}

/// Any resizing of known sizes: the elements of each tap gathered, weighted and summed, axis by axis.
fn by_gathers(e: &mut Emitter<'_>, node: &Node, o: &Resize) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    let nearest = matches!(o.sampling, Sampling::Nearest(_));
    let float = ty.dtype.is_float();
    let outside = o.extrapolation.is_some();
    let kernel = if nearest && (float || !outside) {
        ty.dtype
    } else {
        DType::F32
    };
    let mut x = e.operand_as(node.operands[0], kernel)?;
    for axis in &o.axes {
        let Some((n, m)) = known(axis, ty).filter(|&(n, _)| n > 0) else {
            return Err(OnnxError::NotSaid {
                op: node.op.name(),
                reason: "this form of resampling needs known sizes",
            }
            .into());
        };
        let found: Vec<Vec<(i64, f32)>> = (0..m).map(|i| taps(o, axis, i, n, m)).collect();
        x = weighted(e, x, axis.axis, ty.rank(), &found, kernel, nearest)?;
    }
    if let Some(value) = o.extrapolation {
        let value = e.scalar(kernel, f64::from(value))?;
        for axis in &o.axes {
            let (n, m) = known(axis, ty).unwrap_or_default();
            let end = num::f64_of(n) - 1.0;
            let outside: Vec<bool> = (0..m)
                .map(|i| place(axis, i, n, m))
                .map(|x| x < 0.0 || x > end)
                .collect();
            if !outside.contains(&true) {
                continue;
            }
            let mut shape = vec![1; ty.rank()];
            shape[axis.axis] = m;
            let name = e.helper_name("outside");
            let outside = e.small(&name, &Tensor::bool(shape, outside)?)?;
            x = e.emit("Where", [outside, value.clone(), x], vec![]);
        }
    }
    rounded(e, last("Identity", [x]), kernel, ty.dtype, nearest)
}

/// One axis: every result is the sum of its taps.
fn weighted(
    e: &mut Emitter<'_>,
    x: String,
    axis: usize,
    rank: usize,
    found: &[Vec<(i64, f32)>],
    dtype: DType,
    nearest: bool,
) -> Result<String> {
    let at = int("axis", num::i64_of(axis));
    let most = found.iter().map(Vec::len).max().unwrap_or(0);
    let mut sum: Option<String> = None;
    for k in 0..most.max(1) {
        // What has fewer taps takes its first once more, with weight 0.
        let tap = |t: &Vec<(i64, f32)>| {
            let first = t.first().map_or(0, |t| t.0);
            t.get(k).copied().unwrap_or((first, 0.0))
        };
        let picks: Vec<i64> = found.iter().map(|t| tap(t).0).collect();
        let picks = e.vector(&picks)?;
        let part = e.emit("Gather", [x.clone(), picks], vec![at.clone()]);
        if nearest {
            return Ok(part);
        }
        let weights: Vec<f32> = found.iter().map(|t| tap(t).1).collect();
        let mut shape = vec![1; rank];
        shape[axis] = found.len();
        let name = e.helper_name("weights");
        let weights = e.small(&name, &Tensor::f32(shape, weights)?.cast(dtype))?;
        let part = e.emit("Mul", [part, weights], vec![]);
        sum = Some(match sum {
            Some(sum) => e.emit("Add", [sum, part], vec![]),
            None => part,
        });
    }
    Ok(sum.unwrap_or(x))
}

pub(super) fn grid_sample(e: &mut Emitter<'_>, node: &Node, o: &GridSample) -> Result<Last> {
    let refused = |reason| OnnxError::NotSaid {
        op: node.op.name(),
        reason,
    };
    let needs = |opset| OnnxError::NeedsOpset {
        op: node.op.name(),
        opset,
    };
    let (ty, grid_ty) = (e.ty(node.operands[0]), e.ty(node.operands[1]));
    let spatial = ty.rank() - 2;
    if e.opset < 16 {
        return Err(needs(16).into());
    }
    if spatial > 2 && e.opset < 20 {
        return Err(needs(20).into());
    }
    let mode = match o.sampling {
        Sampling::Nearest(Rounding::Even) => "nearest",
        Sampling::Nearest(_) => {
            return Err(refused("`GridSample` rounds halves to even").into());
        }
        Sampling::Linear if e.opset < 20 => "bilinear",
        Sampling::Linear => "linear",
        Sampling::Cubic { coefficient } if coefficient.to_bits() != (-0.75f32).to_bits() => {
            return Err(refused("`GridSample` has the cubic coefficient -0.75").into());
        }
        Sampling::Cubic { .. } if spatial > 2 => {
            return Err(refused("cubic sampling is for images").into());
        }
        Sampling::Cubic { .. } if e.opset < 20 => "bicubic",
        Sampling::Cubic { .. } => "cubic",
    };
    let kernel = e.kernel("GridSample", ty.dtype)?;
    let mut x = e.operand_as(node.operands[0], kernel)?;
    let mut grid = e.operand_as(node.operands[1], kernel)?;
    if spatial == 1 {
        // A line is an image of one row, whose middle is at 0.
        let axes = e.axes(&[2])?;
        x = e.emit("Unsqueeze", [x, axes], vec![]);
        let places = [
            grid_ty.shape[0].clone(),
            Dim::from(1),
            grid_ty.shape[1].clone(),
            Dim::from(1),
        ];
        let places = e.shape(&places)?;
        let column = e.emit("Reshape", [grid, places], vec![]);
        let zero = e.scalar(kernel, 0.0)?;
        let middle = e.emit("Mul", [column.clone(), zero], vec![]);
        grid = e.emit("Concat", [column, middle], vec![int("axis", 3)]);
    }
    let (padding, value) = match o.outside {
        Outside::Constant(value) => ("zeros", value),
        Outside::Border => ("border", 0.0),
        Outside::Reflection if mode == "nearest" => {
            grid = mirrored(e, grid, kernel)?;
            ("border", 0.0)
        }
        Outside::Reflection => ("reflection", 0.0),
    };
    let shift = if value == 0.0 {
        None
    } else {
        Some(e.scalar(kernel, f64::from(value))?)
    };
    // What lies outside counts as 0: the tensor is moved so that this is the value.
    if let Some(shift) = &shift {
        x = e.emit("Sub", [x, shift.clone()], vec![]);
    }
    let mut result = last("GridSample", [x, grid])
        .with(string("mode", mode))
        .with(string("padding_mode", padding))
        .with(int("align_corners", i64::from(o.align_corners)));
    if let Some(shift) = shift {
        let y = e.settle(result);
        result = last("Add", [y, shift]);
    }
    if spatial == 1 {
        let y = e.settle(result);
        let axes = e.axes(&[2])?;
        result = last("Squeeze", [y, axes]);
    }
    e.converted(result, kernel, ty.dtype)
}

/// Places outside −1 to 1 reflected at both ends, again and again: `1 − |(g + 1) mod 4 − 2|`. The operator rounds to the nearest place first, and
/// what lies in the middle of two is on the other side of it once it is reflected.
fn mirrored(e: &mut Emitter<'_>, grid: String, kernel: DType) -> Result<String> {
    let [one, two, four] = [1.0, 2.0, 4.0].map(|x| e.scalar(kernel, x));
    let (one, two, four) = (one?, two?, four?);
    let from_end = e.emit("Add", [grid, one.clone()], vec![]);
    let periods = e.emit("Div", [from_end.clone(), four.clone()], vec![]);
    let periods = e.emit("Floor", [periods], vec![]);
    let before = e.emit("Mul", [periods, four], vec![]);
    let inside = e.emit("Sub", [from_end, before], vec![]);
    let side = e.emit("Sub", [inside, two], vec![]);
    let side = e.emit("Abs", [side], vec![]);
    Ok(e.emit("Sub", [one, side], vec![]))
}
