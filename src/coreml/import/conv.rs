//! Convolutions and pooling.

use super::call::Call;
use super::elementwise::{op1, op2};
use super::entry::Entry;
use super::{Handler, Importer};
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, Conv, ConvTranspose, Pad, PadMode, Pool, PoolKind, Slice, SliceRange, UnaryKind,
    Window,
};
use crate::ir::{Dim, Op, Type, ValueId};
use crate::tensor::{DType, num};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "conv" => conv,
        "conv_transpose" => conv_transpose,
        "max_pool" | "avg_pool" | "l2_pool" => pool,
        _ => return None,
    };
    Some(handler)
}

/// Positive numbers, one per spatial axis; ones when the parameter is absent.
fn sizes(call: &mut Call, parameter: &str, axes: usize) -> Result<Vec<usize>> {
    let Some(list) = call.ints(parameter)? else {
        return Ok(vec![1; axes]);
    };
    let list = call.per_axis(parameter, list, axes)?;
    let sizes: Option<Vec<usize>> = list
        .iter()
        .map(|&n| usize::try_from(n).ok().filter(|&n| n > 0))
        .collect();
    sizes.ok_or_else(|| {
        call.wrong(parameter, "positive numbers", &format!("{list:?}"))
            .into()
    })
}

/// Pairs of padding, one per spatial axis; zeros when the parameter is absent.
fn pads(call: &mut Call, axes: usize) -> Result<Vec<(usize, usize)>> {
    let Some(list) = call.ints("pad")? else {
        return Ok(vec![(0, 0); axes]);
    };
    let sizes: Option<Vec<usize>> = list.iter().map(|&n| usize::try_from(n).ok()).collect();
    match sizes {
        Some(sizes) if sizes.len() == 2 * axes => {
            Ok(sizes.chunks_exact(2).map(|p| (p[0], p[1])).collect())
        }
        Some(_) | None => {
            let expected = format!("{} sizes", 2 * axes);
            Err(call.wrong("pad", &expected, &format!("{list:?}")).into())
        }
    }
}

/// Which padding the program asks for.
enum Padding {
    Valid,
    Custom,
    Same { lower: bool },
}

fn padding(call: &mut Call) -> Result<Padding> {
    let name = call.string("pad_type")?.unwrap_or_else(|| "valid".into());
    match name.to_lowercase().as_str() {
        "valid" => Ok(Padding::Valid),
        "custom" => Ok(Padding::Custom),
        "same" => Ok(Padding::Same { lower: false }),
        "same_lower" => Ok(Padding::Same { lower: true }),
        _ => {
            let expected = "`valid`, `custom`, `same` or `same_lower`";
            Err(call
                .wrong("pad_type", expected, &format!("`{name}`"))
                .into())
        }
    }
}

/// The total padding of `same`, which makes ⌈size / stride⌉ windows; an expression when the size varies.
fn same(size: &Dim, span: usize, stride: usize) -> Option<Dim> {
    let (span, stride) = (Dim::from(span), Dim::from(stride));
    let one = Dim::from(1);
    if stride == one {
        return Some(span.sub(&one));
    }
    let windows = size.add(&stride).sub(&one).floor_div(&stride)?;
    let needed = windows.sub(&one).mul(&stride).add(&span).sub(size);
    Some(needed.larger(&Dim::from(0)))
}

fn halves(total: &Dim, lower: bool) -> Option<(Dim, Dim)> {
    let small = total.floor_div(&Dim::from(2))?;
    let large = total.sub(&small);
    Some(if lower {
        (large, small)
    } else {
        (small, large)
    })
}

/// The padding per spatial axis. What varies with the input is padded at once, with `fill`, and the operand that comes back has it.
fn padded(
    importer: &mut Importer<'_>,
    call: &mut Call,
    x: ValueId,
    kernel: &[usize],
    window: &mut Window,
    fill: Option<f64>,
) -> Result<ValueId> {
    let axes = kernel.len();
    let kind = padding(call)?;
    let custom = pads(call, axes)?;
    let lower = match kind {
        Padding::Valid => return Ok(x),
        Padding::Custom => {
            window.pads = custom;
            return Ok(x);
        }
        Padding::Same { lower } => lower,
    };
    let ty = importer.ty(x);
    let rank = ty.rank();
    let (mut begin, mut end) = (vec![Dim::from(0); rank], vec![Dim::from(0); rank]);
    let mut varies = false;
    for axis in 0..axes {
        let span = window.dilations[axis] * (kernel[axis] - 1) + 1;
        let total = same(&ty.shape[axis + 2], span, window.strides[axis]);
        let Some((before, after)) = total.and_then(|t| halves(&t, lower)) else {
            return Err(call.unsupported("pad_type", "same").into());
        };
        match (before.known(), after.known()) {
            (Some(before), Some(after)) => window.pads[axis] = (before, after),
            _ => {
                varies = true;
                begin[axis + 2] = before;
                end[axis + 2] = after;
            }
        }
    }
    let Some(fill) = fill.filter(|_| varies) else {
        if varies {
            return Err(call
                .unsupported("pad_type", "same, of sizes that vary")
                .into());
        }
        return Ok(x);
    };
    let value = importer.scalar(call, "fill", ty.dtype, fill)?;
    let pad = Op::Pad(Pad {
        mode: PadMode::Constant,
        begin,
        end,
    });
    importer.step(call, "padded", pad, &[x, value])
}

fn rank(call: &Call, ty: &Type) -> Result<usize> {
    let spatial = ty.rank().saturating_sub(2);
    if (1..=3).contains(&spatial) {
        Ok(spatial)
    } else {
        Err(call
            .wrong("x", "one to three spatial axes", &ty.to_string())
            .into())
    }
}

fn groups(call: &mut Call) -> Result<usize> {
    let groups = call.int("groups")?.unwrap_or(1);
    usize::try_from(groups)
        .ok()
        .filter(|&g| g > 0)
        .ok_or_else(|| {
            call.wrong("groups", "a positive number", &groups.to_string())
                .into()
        })
}

fn kernel(
    importer: &Importer<'_>,
    call: &Call,
    weight: ValueId,
    axes: usize,
) -> Result<Vec<usize>> {
    let ty = importer.ty(weight);
    let sizes: Option<Vec<usize>> = ty
        .shape
        .get(2..)
        .and_then(|s| s.iter().map(Dim::known).collect());
    match sizes {
        Some(sizes) if sizes.len() == axes && !sizes.contains(&0) => Ok(sizes),
        Some(_) | None => Err(call
            .wrong("weight", "a kernel of known size", &ty.to_string())
            .into()),
    }
}

fn conv(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let ty = importer.ty(x);
    let axes = rank(call, &ty)?;
    let weight = importer.operand(call, "weight")?;
    let kernel = kernel(importer, call, weight, axes)?;
    let mut window = Window {
        strides: sizes(call, "strides", axes)?,
        dilations: sizes(call, "dilations", axes)?,
        pads: vec![(0, 0); axes],
    };
    let x = padded(importer, call, x, &kernel, &mut window, Some(0.0))?;
    let groups = groups(call)?;
    let mut operands = vec![x, weight];
    operands.extend(importer.optional_operand(call, "bias")?);
    importer.mixed(call, Op::Conv(Conv { window, groups }), &operands, ty.dtype)
}

/// The gradient of a convolution. `same` gives `size · stride`; a declared output shape is reached by more or less at the end.
fn conv_transpose(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let ty = importer.ty(x);
    let axes = rank(call, &ty)?;
    let weight = importer.operand(call, "weight")?;
    let kernel = kernel(importer, call, weight, axes)?;
    let mut window = Window {
        strides: sizes(call, "strides", axes)?,
        dilations: sizes(call, "dilations", axes)?,
        pads: vec![(0, 0); axes],
    };
    let groups = groups(call)?;
    let kind = padding(call)?;
    let custom = pads(call, axes)?;
    let wanted = call.optional_dims("output_shape")?.map(|d| d.values);
    if let Some(wanted) = &wanted
        && wanted.len() != axes + 2
    {
        let expected = format!("{} sizes", axes + 2);
        let found = wanted.len().to_string();
        return Err(call.wrong("output_shape", &expected, &found).into());
    }
    let mut output_pads = vec![0; axes];
    // What is cut off at the end where the program asks for less.
    let mut cut: Vec<Option<Dim>> = vec![None; axes];
    for axis in 0..axes {
        let stride = window.strides[axis];
        let span = window.dilations[axis] * (kernel[axis] - 1) + 1;
        let size = &ty.shape[axis + 2];
        let full = size
            .sub(&Dim::from(1))
            .mul(&Dim::from(stride))
            .add(&Dim::from(span));
        let target = match &wanted {
            Some(wanted) => Some(wanted[axis + 2].clone()),
            None if matches!(kind, Padding::Same { .. }) => Some(size.mul(&Dim::from(stride))),
            None => None,
        };
        let (pad, extra) = match (&kind, target) {
            (Padding::Custom, target) => {
                let (before, after) = custom[axis];
                let plain = full.sub(&Dim::from(before + after));
                (custom[axis], target.map(|t| t.sub(&plain)))
            }
            (Padding::Valid, target) => ((0, 0), target.map(|t| t.sub(&full))),
            (Padding::Same { lower }, Some(target)) => {
                let total = full.sub(&target);
                let Some(total) = total.integer() else {
                    return Err(call.unsupported("output_shape", target.to_string()).into());
                };
                match usize::try_from(total) {
                    Ok(total) => {
                        let (small, large) = (total / 2, total - total / 2);
                        let pad = if *lower {
                            (large, small)
                        } else {
                            (small, large)
                        };
                        (pad, None)
                    }
                    Err(_) => ((0, 0), Some(Dim::constant(-total))),
                }
            }
            (Padding::Same { .. }, None) => ((0, 0), None),
        };
        window.pads[axis] = pad;
        match extra.as_ref().map(Dim::integer) {
            None | Some(Some(0)) => {}
            Some(Some(n)) if n > 0 => output_pads[axis] = num::usize_of(n.unsigned_abs()),
            Some(Some(n)) => {
                let plain = full.sub(&Dim::from(pad.0 + pad.1));
                cut[axis] = Some(plain.add(&Dim::constant(n)));
            }
            Some(None) => {
                let found = extra.map(|e| e.to_string()).unwrap_or_default();
                return Err(call.unsupported("output_shape", found).into());
            }
        }
    }
    let mut operands = vec![x, weight];
    operands.extend(importer.optional_operand(call, "bias")?);
    let op = Op::ConvTranspose(ConvTranspose {
        window,
        groups,
        output_pads,
    });
    if cut.iter().all(Option::is_none) {
        return importer.mixed(call, op, &operands, ty.dtype);
    }
    let mut wide = Vec::with_capacity(operands.len());
    for &operand in &operands {
        wide.push(importer.cast(call, "operand", operand, DType::F32)?);
    }
    let whole = importer.step(call, "whole", op, &wide)?;
    let ranges = cut
        .into_iter()
        .enumerate()
        .filter_map(|(axis, end)| end.map(|end| SliceRange::new(axis + 2, 0, end)))
        .collect();
    let part = importer.step(call, "part", Op::Slice(Slice { ranges }), &[whole])?;
    let part = importer.cast(call, "rounded", part, ty.dtype)?;
    Ok(vec![importer.entry(part)])
}

fn pool(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let ty = importer.ty(x);
    let axes = rank(call, &ty)?;
    let kernel = sizes(call, "kernel_sizes", axes)?;
    let mut window = Window {
        strides: sizes(call, "strides", axes)?,
        dilations: vec![1; axes],
        pads: vec![(0, 0); axes],
    };
    let exclude = call.bool("exclude_padding_from_average", false)?;
    let ceil = call.bool("ceil_mode", false)?;
    let fill = match call.op.as_str() {
        "max_pool" => Some(f64::NEG_INFINITY),
        // Padding that counts may as well be zeros of the operand.
        _ if !exclude => Some(0.0),
        _ => None,
    };
    let x = padded(importer, call, x, &kernel, &mut window, fill)?;
    let elements = kernel.iter().product::<usize>();
    let kind = if call.op == "max_pool" {
        PoolKind::Max
    } else {
        PoolKind::Average {
            count_padding: !exclude,
        }
    };
    let pool = Op::Pool(Pool {
        kind,
        kernel,
        window,
        ceil,
    });
    if call.op != "l2_pool" {
        return importer.result(call, pool, &[x]);
    }
    if ceil {
        return Err(call.unsupported("ceil_mode", "true").into());
    }
    // The root of the sum of squares: the mean times the number of elements, in single precision.
    let x = importer.cast(call, "x", x, DType::F32)?;
    let square = importer.step(call, "square", op2(BinaryKind::Mul), &[x, x])?;
    let mean = importer.step(call, "mean", pool, &[square])?;
    let count = importer.scalar(call, "elements", DType::F32, num::f64_of(elements))?;
    let sum = importer.step(call, "sum", op2(BinaryKind::Mul), &[mean, count])?;
    let root = importer.step(call, "root", op1(UnaryKind::Sqrt), &[sum])?;
    let root = importer.cast(call, "rounded", root, ty.dtype)?;
    Ok(vec![importer.entry(root)])
}
