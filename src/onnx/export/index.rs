//! Data movement that depends on values.

use super::emitter::{Emitter, Last, int, last, string};
use super::shape::one_element;
use crate::error::Result;
use crate::ir::ops::{
    Gather, GatherElements, GatherNd, NonMaxSuppression, ScatterElements, ScatterMode, ScatterNd,
};
use crate::ir::{Node, ValueId};
use crate::onnx::error::OnnxError;
use crate::onnx::proto::AttributeProto;
use crate::tensor::{DType, num};

pub(super) fn gather(e: &mut Emitter<'_>, node: &Node, o: Gather) -> Result<Last> {
    let data = e.operand(node.operands[0])?;
    let indices = indices(e, node.operands[1])?;
    Ok(last("Gather", [data, indices]).with(int("axis", num::i64_of(o.axis))))
}

pub(super) fn gather_elements(e: &mut Emitter<'_>, node: &Node, o: GatherElements) -> Result<Last> {
    let data = e.operand(node.operands[0])?;
    let indices = indices(e, node.operands[1])?;
    Ok(last("GatherElements", [data, indices]).with(int("axis", num::i64_of(o.axis))))
}

pub(super) fn gather_nd(e: &mut Emitter<'_>, node: &Node, o: GatherNd) -> Result<Last> {
    let data = e.operand(node.operands[0])?;
    let indices = e.as_i64(node.operands[1])?;
    Ok(last("GatherND", [data, indices]).with(int("batch_dims", num::i64_of(o.batch_dims))))
}

pub(super) fn scatter_elements(
    e: &mut Emitter<'_>,
    node: &Node,
    o: ScatterElements,
) -> Result<Last> {
    let indices = indices(e, node.operands[1])?;
    let axis = int("axis", num::i64_of(o.axis));
    scatter(e, node, "ScatterElements", o.mode, indices, Some(axis))
}

pub(super) fn scatter_nd(e: &mut Emitter<'_>, node: &Node, o: ScatterNd) -> Result<Last> {
    let indices = e.as_i64(node.operands[1])?;
    scatter(e, node, "ScatterND", o.mode, indices, None)
}

/// The reduction of a mode, and the first opset that has it. What is subtracted is added as its negative, what divides is multiplied as its
/// reciprocal.
fn reduction(mode: ScatterMode) -> Option<(&'static str, i64)> {
    match mode {
        ScatterMode::Update => None,
        ScatterMode::Add | ScatterMode::Sub => Some(("add", 16)),
        ScatterMode::Mul | ScatterMode::Div => Some(("mul", 16)),
        ScatterMode::Min => Some(("min", 18)),
        ScatterMode::Max => Some(("max", 18)),
    }
}

fn scatter(
    e: &mut Emitter<'_>,
    node: &Node,
    op_type: &'static str,
    mode: ScatterMode,
    indices: String,
    axis: Option<AttributeProto>,
) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let mut attributes: Vec<AttributeProto> = axis.into_iter().collect();
    let Some((name, opset)) = reduction(mode) else {
        let data = e.operand(node.operands[0])?;
        let updates = e.operand(node.operands[2])?;
        return Ok(Last {
            op_type,
            inputs: vec![data, indices, updates],
            attributes,
        });
    };
    let op = node.op.name();
    if e.opset < opset {
        return Err(OnnxError::NeedsOpset { op, opset }.into());
    }
    attributes.push(string("reduction", name));
    // Engines do not reduce in half precision.
    let kernel = if dtype == DType::F16 {
        DType::F32
    } else {
        dtype
    };
    let data = e.operand_as(node.operands[0], kernel)?;
    let mut updates = e.operand_as(node.operands[2], kernel)?;
    if mode == ScatterMode::Sub {
        let wide = e.kernel("Sub", kernel)?;
        let x = e.operand_as(node.operands[2], wide)?;
        let zero = e.scalar(wide, 0.0)?;
        let negative = e.converted(last("Sub", [zero, x]), wide, kernel)?;
        updates = e.settle(negative);
    }
    if mode == ScatterMode::Div {
        if !dtype.is_float() {
            return Err(OnnxError::NotSaid {
                op,
                reason: "integers are not divided when they are scattered",
            }
            .into());
        }
        updates = e.emit("Reciprocal", [updates], vec![]);
    }
    let scatter = Last {
        op_type,
        inputs: vec![data, indices, updates],
        attributes,
    };
    e.converted(scatter, kernel, dtype)
}

pub(super) fn non_max_suppression(
    e: &mut Emitter<'_>,
    node: &Node,
    o: &NonMaxSuppression,
) -> Result<Last> {
    let boxes = e.operand_as(node.operands[0], DType::F32)?;
    let scores = e.operand_as(node.operands[1], DType::F32)?;
    // A scalar or a vector of one, says the standard; engines take the vector.
    let most = one_element(e, node.operands[2], DType::I64, 1)?;
    let overlap = one_element(e, node.operands[3], DType::F32, 1)?;
    let least = one_element(e, node.operands[4], DType::F32, 1)?;
    let chosen = last("NonMaxSuppression", [boxes, scores, most, overlap, least])
        .with(int("center_point_box", i64::from(o.center)));
    e.converted(chosen, DType::I64, o.dtype)
}

/// Indices as ONNX takes them: 32 or 64 bits, signed.
fn indices(e: &mut Emitter<'_>, value: ValueId) -> Result<String> {
    if e.ty(value).dtype == DType::I32 {
        e.operand(value)
    } else {
        e.operand_as(value, DType::I64)
    }
}
