//! Normalisation.

use super::emitter::{Emitter, Last, float, int, ints, last};
use crate::error::Result;
use crate::ir::ops::{LayerNorm, RmsNorm};
use crate::ir::{Node, ValueId};
use crate::tensor::{DType, Tensor, num};

pub(super) fn layer_norm(e: &mut Emitter<'_>, node: &Node, o: LayerNorm) -> Result<Last> {
    let Some(scale) = scale(e, node, o.axis)? else {
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

/// For normalised axes of unknown size without `gamma`: the operator's scale is not optional.
fn layer_norm_by_parts(e: &mut Emitter<'_>, node: &Node, o: LayerNorm) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let x = e.operand_as(node.operands[0], DType::F32)?;
    let mean = mean(e, x.clone(), node.operands[0], o.axis)?;
    let centred = e.emit("Sub", [x, mean], vec![]);
    let root = root_mean_square(e, centred.clone(), node.operands[0], o.axis, o.epsilon)?;
    rounded(e, last("Div", [centred, root]), dtype)
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
            let x = helper(e, normal);
            let gamma = e.operand_as(gamma, DType::F32)?;
            last("Mul", [x, gamma])
        }
    };
    rounded(e, scaled, dtype)
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

/// The result in `dtype`: rounded once, at the end.
fn rounded(e: &mut Emitter<'_>, result: Last, dtype: DType) -> Result<Last> {
    if dtype == DType::F32 {
        return Ok(result);
    }
    let to = crate::onnx::types::data_type(dtype, e.opset)?;
    let x = helper(e, result);
    Ok(last("Cast", [x]).with(int("to", i64::from(i32::from(to)))))
}

/// What was to be the last node, as a helper.
fn helper(e: &mut Emitter<'_>, last: Last) -> String {
    let name = e.helper_name(last.op_type);
    e.push(last.op_type, last.inputs, name.clone(), last.attributes);
    name
}
