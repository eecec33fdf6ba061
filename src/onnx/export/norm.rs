//! Normalisation.

use super::emitter::{Emitter, Last, float, int, ints, last};
use crate::error::Result;
use crate::ir::ops::{BatchNorm, InstanceNorm, LayerNorm, Lrn, RmsNorm};
use crate::ir::{Dim, Node, ValueId};
use crate::tensor::{DType, Tensor, num};

pub(super) fn layer_norm(e: &mut Emitter<'_>, node: &Node, o: LayerNorm) -> Result<Last> {
    // The operator is there since opset 17, and its scale is not optional.
    let scale = if e.opset < 17 {
        None
    } else {
        scale(e, node, o.axis)?
    };
    let Some(scale) = scale else {
        return layer_norm_by_parts(e, node, o);
    };
    let x = e.operand(node.operands[0])?;
    let layer_norm = match node.operands.get(2) {
        None => last("LayerNormalization", [x, scale]),
        Some(&beta) => {
            let beta = e.operand(beta)?;
            last("LayerNormalization", [x, scale, beta])
        }
    };
    Ok(layer_norm
        .with(int("axis", num::i64_of(o.axis)))
        .with(float("epsilon", o.epsilon)))
}

/// In `f32` whatever the type, with one rounding at the end.
fn layer_norm_by_parts(e: &mut Emitter<'_>, node: &Node, o: LayerNorm) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let x = e.operand_as(node.operands[0], DType::F32)?;
    let mean = mean(e, x.clone(), node.operands[0], o.axis)?;
    let centred = e.emit("Sub", [x, mean], vec![]);
    let root = root_mean_square(e, centred.clone(), node.operands[0], o.axis, o.epsilon)?;
    let mut result = last("Div", [centred, root]);
    for (&parameter, op_type) in node.operands[1..].iter().zip(["Mul", "Add"]) {
        let x = e.settle(result);
        let parameter = e.operand_as(parameter, DType::F32)?;
        result = last(op_type, [x, parameter]);
    }
    e.converted(result, DType::F32, dtype)
}

pub(super) fn rms_norm(e: &mut Emitter<'_>, node: &Node, o: RmsNorm) -> Result<Last> {
    if e.opset >= 23
        && let Some(scale) = scale(e, node, o.axis)?
    {
        let x = e.operand(node.operands[0])?;
        return Ok(last("RMSNormalization", [x, scale])
            .with(int("axis", num::i64_of(o.axis)))
            .with(float("epsilon", o.epsilon)));
    }
    // In f32 whatever the type: squares of f16 values overflow from 256 on.
    let dtype = e.ty(node.operands[0]).dtype;
    let x = e.operand_as(node.operands[0], DType::F32)?;
    let root = root_mean_square(e, x.clone(), node.operands[0], o.axis, o.epsilon)?;
    let normal = last("Div", [x, root]);
    let scaled = match node.operands.get(1) {
        None => normal,
        Some(&gamma) => {
            let x = e.settle(normal);
            let gamma = e.operand_as(gamma, DType::F32)?;
            last("Mul", [x, gamma])
        }
    };
    e.converted(scaled, DType::F32, dtype)
}

/// `gamma`, or ones where there is none and the size is known.
fn scale(e: &mut Emitter<'_>, node: &Node, axis: usize) -> Result<Option<String>> {
    if let Some(&gamma) = node.operands.get(1) {
        return e.operand(gamma).map(Some);
    }
    let ty = e.ty(node.operands[0]);
    let shape: Option<Vec<usize>> = ty.shape[axis..].iter().map(|d| d.known()).collect();
    let Some(shape) = shape else {
        return Ok(None);
    };
    let count = shape.iter().product();
    let ones = Tensor::f32(shape.clone(), vec![1.0; count])?.cast(ty.dtype);
    e.small(&format!("const/{}/ones{shape:?}", ty.dtype), &ones)
        .map(Some)
}

/// `√(mean(x²) + epsilon)` over the axes `axis..` of something shaped like `like`.
fn root_mean_square(
    e: &mut Emitter<'_>,
    x: String,
    like: ValueId,
    axis: usize,
    epsilon: f64,
) -> Result<String> {
    let square = e.emit("Mul", [x.clone(), x], vec![]);
    let mean = mean(e, square, like, axis)?;
    let epsilon = e.scalar(DType::F32, epsilon)?;
    let sum = e.emit("Add", [mean, epsilon], vec![]);
    Ok(e.emit("Sqrt", [sum], vec![]))
}

fn mean(e: &mut Emitter<'_>, x: String, like: ValueId, axis: usize) -> Result<String> {
    let axes: Vec<usize> = (axis..e.ty(like).rank()).collect();
    let keep = int("keepdims", 1);
    if e.opset >= 18 {
        let axes = e.axes(&axes)?;
        Ok(e.emit("ReduceMean", [x, axes], vec![keep]))
    } else {
        let axes = axes.into_iter().map(num::i64_of).collect();
        Ok(e.emit("ReduceMean", [x], vec![ints("axes", axes), keep]))
    }
}

pub(super) fn batch_norm(e: &mut Emitter<'_>, node: &Node, o: BatchNorm) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    let mean = e.operand(node.operands[1])?;
    let variance = e.operand(node.operands[2])?;
    let gamma = e.operand(node.operands[3])?;
    let beta = e.operand(node.operands[4])?;
    Ok(last("BatchNormalization", [x, gamma, beta, mean, variance])
        .with(float("epsilon", o.epsilon)))
}

pub(super) fn instance_norm(e: &mut Emitter<'_>, node: &Node, o: InstanceNorm) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    let kernel = e.kernel("InstanceNormalization", ty.dtype)?;
    let mut x = e.operand_as(node.operands[0], kernel)?;
    let gamma = e.operand_as(node.operands[1], kernel)?;
    let beta = e.operand_as(node.operands[2], kernel)?;
    // Engines ask for a spatial axis.
    let flat = ty.rank() == 2;
    let axes = e.axes(&[2])?;
    if flat {
        x = e.emit("Unsqueeze", [x, axes.clone()], vec![]);
    }
    let mut result =
        last("InstanceNormalization", [x, gamma, beta]).with(float("epsilon", o.epsilon));
    if flat {
        let y = e.settle(result);
        result = last("Squeeze", [y, axes]);
    }
    e.converted(result, kernel, ty.dtype)
}

/// Engines take images and odd sizes only; the mean of squares over channels is an average pool over the first axis of an image `[C, s]`.
pub(super) fn lrn(e: &mut Emitter<'_>, node: &Node, o: Lrn) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    let kernel = e.kernel("LRN", ty.dtype)?;
    if ty.rank() == 4 && o.size % 2 == 1 {
        let x = e.operand_as(node.operands[0], kernel)?;
        let lrn = last("LRN", [x])
            .with(float("alpha", f64::from(o.alpha)))
            .with(float("beta", f64::from(o.beta)))
            .with(float("bias", f64::from(o.k)))
            .with(int("size", num::i64_of(o.size)));
        return e.converted(lrn, kernel, ty.dtype);
    }
    let x = e.operand_as(node.operands[0], DType::F32)?;
    let spatial = ty.shape[2..].iter().fold(Dim::from(1), |n, d| n.mul(d));
    let image = [
        ty.shape[0].clone(),
        Dim::from(1),
        ty.shape[1].clone(),
        spatial,
    ];
    let image = e.shape(&image)?;
    let square = e.emit("Mul", [x.clone(), x.clone()], vec![]);
    let square = e.emit("Reshape", [square, image], vec![]);
    let before = num::i64_of(o.size.saturating_sub(1) / 2);
    let after = num::i64_of(o.size) - 1 - before;
    let pads = e.vector(&[0, 0, before, 0, 0, 0, after, 0])?;
    let square = e.emit("Pad", [square, pads], vec![]);
    let mean =
        last("AveragePool", [square]).with(ints("kernel_shape", vec![num::i64_of(o.size), 1]));
    let mean = e.settle(mean);
    let shape = e.shape(&ty.shape)?;
    let mean = e.emit("Reshape", [mean, shape], vec![]);
    let alpha = e.scalar(DType::F32, f64::from(o.alpha))?;
    let k = e.scalar(DType::F32, f64::from(o.k))?;
    let beta = e.scalar(DType::F32, f64::from(o.beta))?;
    let scaled = e.emit("Mul", [mean, alpha], vec![]);
    let sum = e.emit("Add", [scaled, k], vec![]);
    let power = e.emit("Pow", [sum, beta], vec![]);
    e.converted(last("Div", [x, power]), DType::F32, ty.dtype)
}
