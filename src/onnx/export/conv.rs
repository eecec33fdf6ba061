//! Convolutions and pooling.

use super::emitter::{Emitter, Last, int, ints, last};
use crate::error::Result;
use crate::ir::ops::{Conv, ConvTranspose, Pool, PoolKind, Window};
use crate::ir::{Dim, Node};
use crate::onnx::error::OnnxError;
use crate::tensor::{DType, Tensor, num};

fn numbers(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&n| num::i64_of(n)).collect()
}

/// `strides`, `dilations` and `pads`: all before, then all after.
fn slides(last: Last, window: &Window) -> Last {
    let before = window.pads.iter().map(|p| num::i64_of(p.0));
    let after = window.pads.iter().map(|p| num::i64_of(p.1));
    let last = last
        .with(ints("strides", numbers(&window.strides)))
        .with(ints("pads", before.chain(after).collect()));
    if window.dilations.iter().all(|&d| d == 1) {
        last
    } else {
        last.with(ints("dilations", numbers(&window.dilations)))
    }
}

/// Input, weight and bias where the operator has a kernel, and the kernel's size.
fn operands(e: &mut Emitter<'_>, node: &Node, op_type: &'static str) -> Result<(Last, DType)> {
    let kernel = e.kernel(op_type, e.ty(node.operands[0]).dtype)?;
    let mut inputs = Vec::with_capacity(3);
    for &operand in &node.operands {
        inputs.push(e.operand_as(operand, kernel)?);
    }
    let size = e.ty(node.operands[1]).shape[2..].iter();
    let size = size.filter_map(Dim::known).map(num::i64_of).collect();
    Ok((
        Last::of(op_type, inputs).with(ints("kernel_shape", size)),
        kernel,
    ))
}

pub(super) fn conv(e: &mut Emitter<'_>, node: &Node, o: &Conv) -> Result<Last> {
    let (conv, kernel) = operands(e, node, "Conv")?;
    let conv = slides(conv, &o.window).with(int("group", num::i64_of(o.groups)));
    e.converted(conv, kernel, e.ty(node.operands[0]).dtype)
}

pub(super) fn conv_transpose(e: &mut Emitter<'_>, node: &Node, o: &ConvTranspose) -> Result<Last> {
    let (conv, kernel) = operands(e, node, "ConvTranspose")?;
    let mut conv = slides(conv, &o.window).with(int("group", num::i64_of(o.groups)));
    if o.output_pads.iter().any(|&p| p != 0) {
        conv = conv.with(ints("output_padding", numbers(&o.output_pads)));
    }
    e.converted(conv, kernel, e.ty(node.operands[0]).dtype)
}

pub(super) fn pool(e: &mut Emitter<'_>, node: &Node, o: &Pool) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    let (op_type, count_padding) = match o.kind {
        PoolKind::Max => ("MaxPool", false),
        PoolKind::Average { count_padding } => ("AveragePool", count_padding),
    };
    let dilated = o.window.dilations.iter().any(|&d| d != 1);
    let max = op_type == "MaxPool";
    // Engines refuse padding in which a whole window fits.
    let pads = o.window.pads.iter().zip(&o.kernel);
    let mut wide = pads.clone().any(|(&(b, a), &k)| b >= k || a >= k);
    let ends = ends(e, node, o);
    let mut window = o.window.clone();
    // Of the last windows, the specification counts those by their padding, and only later those that begin inside: less padding makes both one.
    if o.ceil {
        for (pads, end) in window.pads.iter_mut().zip(&ends) {
            match end.map(usize::try_from) {
                Some(Ok(end)) => pads.1 = pads.1.min(end),
                // The last window ends before the tensor does.
                Some(Err(_)) => wide = true,
                None => {}
            }
        }
    }
    if !max && (wide || dilated && e.opset < 19) {
        return average_by_sums(e, node, o, count_padding);
    }
    let kernel = e.kernel(op_type, ty.dtype)?;
    let mut x = e.operand_as(node.operands[0], kernel)?;
    if wide {
        let ends = needed(node, &ends)?;
        let pads: Vec<(i64, i64)> = window
            .pads
            .iter()
            .zip(ends)
            .map(|(p, end)| (num::i64_of(p.0), end))
            .collect();
        // The least number outside changes no maximum.
        let least = least(e, kernel)?;
        x = padded(e, x, &pads, Some(least))?;
        window.pads.fill((0, 0));
    }
    let pool = last(op_type, [x]).with(ints("kernel_shape", numbers(&o.kernel)));
    let mut pool = slides(pool, &window);
    if count_padding {
        pool = pool.with(int("count_include_pad", 1));
    }
    if o.ceil && !wide {
        pool = pool.with(int("ceil_mode", 1));
    }
    e.converted(pool, kernel, ty.dtype)
}

/// Per spatial axis, the padding after it (or, if negative, what is left out) with which the last window ends exactly where everything ends.
fn ends(e: &Emitter<'_>, node: &Node, o: &Pool) -> Vec<Option<i64>> {
    let (x, y) = (e.ty(node.operands[0]), e.ty(node.result()));
    let end = |axis: usize| {
        let (n, m) = (
            x.shape[axis + 2].integer()?,
            y.shape[axis + 2].integer()?.max(1),
        );
        let stride = num::i64_of(o.window.strides[axis]);
        let span = num::i64_of((o.kernel[axis] - 1) * o.window.dilations[axis] + 1);
        Some((m - 1) * stride + span - n - num::i64_of(o.window.pads[axis].0))
    };
    (0..o.kernel.len()).map(end).collect()
}

fn needed(node: &Node, ends: &[Option<i64>]) -> Result<Vec<i64>> {
    let all: Option<Vec<i64>> = ends.iter().copied().collect();
    let missing = OnnxError::NotSaid {
        op: node.op.name(),
        reason: "this form of padding needs known sizes",
    };
    Ok(all.ok_or(missing)?)
}

/// Padding of the spatial axes by a node of its own.
fn padded(
    e: &mut Emitter<'_>,
    x: String,
    pads: &[(i64, i64)],
    value: Option<String>,
) -> Result<String> {
    let mut amounts = vec![0, 0];
    amounts.extend(pads.iter().map(|p| p.0));
    amounts.extend([0, 0]);
    amounts.extend(pads.iter().map(|p| p.1));
    let amounts = e.vector(&amounts)?;
    let mut inputs = vec![x, amounts];
    inputs.extend(value);
    Ok(e.settle(Last::of("Pad", inputs)))
}

/// The least number of a type.
fn least(e: &mut Emitter<'_>, dtype: DType) -> Result<String> {
    let tensor = if dtype.is_float() {
        Tensor::f32(vec![], vec![f32::NEG_INFINITY])?.cast(dtype)
    } else {
        let least = if dtype.is_signed_int() {
            -(1i64 << (dtype.bits() - 1))
        } else {
            0
        };
        Tensor::int(dtype, vec![], vec![least])?
    };
    e.small(&format!("const/{dtype}/least"), &tensor)
}

/// Means whose windows `AveragePool` does not have: sums by a convolution with ones, over counts by the same convolution over ones.
fn average_by_sums(
    e: &mut Emitter<'_>,
    node: &Node,
    o: &Pool,
    count_padding: bool,
) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    let x = e.operand_as(node.operands[0], DType::F32)?;
    let ends = ends(e, node, o);
    let ends = needed(node, &ends)?;
    let before: Vec<i64> = o.window.pads.iter().map(|p| num::i64_of(p.0)).collect();
    let outer: Vec<(i64, i64)> = before.iter().copied().zip(ends.iter().copied()).collect();
    let mut window = o.window.clone();
    window.pads.fill((0, 0));
    // Every plane is an image of one channel.
    let mut planes = vec![Dim::constant(-1), Dim::from(1)];
    planes.extend_from_slice(&ty.shape[2..]);
    let planes = e.shape(&planes)?;
    let x = e.emit("Reshape", [x, planes], vec![]);
    let x = padded(e, x, &outer, None)?;
    let mut size = vec![1, 1];
    size.extend_from_slice(&o.kernel);
    let count = size.iter().product();
    let ones = Tensor::f32(size.clone(), vec![1.0; count])?;
    let ones = e.small(&format!("const/f32/ones{size:?}"), &ones)?;
    let sum = |e: &mut Emitter<'_>, x: String| {
        let conv = last("Conv", [x, ones.clone()]).with(ints("kernel_shape", numbers(&o.kernel)));
        e.settle(slides(conv, &window))
    };
    let total = sum(e, x);
    let mut counted = vec![Dim::from(1), Dim::from(1)];
    counted.extend_from_slice(&ty.shape[2..]);
    let counted = e.shape(&counted)?;
    let one = e.scalar(DType::F32, 1.0)?;
    let mut inside = e.emit("Expand", [one.clone(), counted], vec![]);
    // The padding that the operation names counts, what is added beyond it does not.
    let (mut own, mut more) = (Vec::new(), Vec::new());
    for (pads, &end) in o.window.pads.iter().zip(&ends) {
        let after = if count_padding {
            num::i64_of(pads.1).min(end)
        } else {
            0
        };
        let before = num::i64_of(pads.0);
        own.push((if count_padding { before } else { 0 }, after));
        more.push((if count_padding { 0 } else { before }, end - after));
    }
    if count_padding {
        inside = padded(e, inside, &own, Some(one))?;
    }
    inside = padded(e, inside, &more, None)?;
    let counts = sum(e, inside);
    let mean = e.emit("Div", [total, counts], vec![]);
    let shape = e.shape(&e.ty(node.result()).shape.clone())?;
    e.converted(last("Reshape", [mean, shape]), DType::F32, ty.dtype)
}
