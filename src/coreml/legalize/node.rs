//! One node: which family deals with it, or that it stays as it is.

use super::dtype::{is_small_int, legal, legal_type};
use super::lower::{Lower, Map};
use super::{
    attention, control, conv, elementwise, image, index, norm, quant, recurrent, reduce, shape,
    suppress,
};
use crate::coreml::error::CoremlError;
use crate::error::{Context, Result};
use crate::ir::ops::{Iota, Size};
use crate::ir::{Function, IrError, Node, Op, ValueId};
use crate::tensor::DType;

/// What stands for the results of an old node.
pub(super) fn lower(
    l: &mut Lower<'_>,
    old: &Function,
    map: &Map,
    node: &Node,
) -> Result<Vec<ValueId>> {
    for &result in &node.results {
        let value = old.value(result);
        legal_type(&value.ty, l.opset).at_node(&value.name)?;
    }
    // A stored quantised weight stays one, so its parts are looked at before they are turned into types of programs.
    if let Op::Dequantize(o) = &node.op
        && let Some(value) = quant::stored(l, old, node, o)?
    {
        return Ok(vec![value]);
    }
    if let Op::SliceBy(o) = &node.op {
        return Ok(vec![shape::slice_by(l, old, map, node, o)?]);
    }
    let operands = node
        .operands
        .iter()
        .enumerate()
        .map(|(i, &v)| {
            // "As many rounds, or boxes, as there are" is a number beyond `int32`.
            let counts = matches!(
                (i, &node.op),
                (0, Op::Loop(_)) | (2, Op::NonMaxSuppression(_))
            );
            if counts {
                shape::bound(l, old, map, v)
            } else {
                l.value(old, map, v)
            }
        })
        .collect::<Result<Vec<_>>>()?;
    apply(l, old, node, &operands)
}

/// What stands for the results of an old node with these operands.
pub(super) fn apply(
    l: &mut Lower<'_>,
    old: &Function,
    node: &Node,
    operands: &[ValueId],
) -> Result<Vec<ValueId>> {
    let at = |i: usize| -> Result<ValueId> {
        let operand = operands.get(i).copied();
        Ok(operand.ok_or(IrError::Undefined { operand: i })?)
    };
    // The element type of an operand before it became one of programs.
    let was = |i: usize| {
        node.operands
            .get(i)
            .map_or(DType::F32, |&v| old.ty(v).dtype)
    };
    let results: Vec<DType> = node.results.iter().map(|&v| old.ty(v).dtype).collect();
    let one = |value: Result<ValueId>| value.map(|v| vec![v]);
    match &node.op {
        Op::Unary(o) => one(elementwise::unary(l, o.kind, at(0)?, was(0))),
        Op::Binary(o) => one(elementwise::binary(l, o.kind, at(0)?, at(1)?, was(0))),
        Op::Cast(o) => one(elementwise::cast(l, at(0)?, o.to)),
        Op::Classify(o) => one(elementwise::classify(l, o.kind, at(0)?)),
        Op::Reduce(o) => one(reduce::reduce(l, o, at(0)?, was(0))),
        Op::CumSum(_) | Op::MatMul(_) if is_small_int(was(0)) => {
            one(elementwise::widened(l, &node.op, operands, was(0)))
        }
        Op::ArgReduce(o) => one(reduce::arg_reduce(l, o, at(0)?)),
        Op::TopK(o) => reduce::top_k(l, o, operands),
        Op::Inverse(_) => Err(l.refuse("inverse", "programs have no inverse of a matrix")),
        Op::Attention(o) => one(attention::attention(l, *o, operands)),
        Op::Conv(o) => one(conv::conv(l, o, operands)),
        Op::ConvTranspose(o) => one(conv::conv_transpose(l, o, operands)),
        Op::Pool(o) => one(conv::pool(l, o, at(0)?, was(0))),
        Op::BatchNorm(o) => one(norm::batch_norm(l, o, operands)),
        Op::InstanceNorm(o) => one(norm::instance_norm(l, o, operands)),
        Op::LayerNorm(o) => one(norm::layer_norm(l, o, operands)),
        Op::Lrn(o) => one(norm::lrn(l, o, at(0)?)),
        Op::Pad(o) => one(shape::pad(l, o, operands)),
        Op::DepthToSpace(o) => one(shape::depth_to_space(l, o, at(0)?)),
        Op::SpaceToDepth(o) => one(shape::space_to_depth(l, o, at(0)?)),
        Op::ExpandTo(o) => one(shape::expand_to(l, o, at(0)?, at(1)?)),
        Op::PadBy(o) => one(shape::pad_by(l, o, operands)),
        Op::RangeBy(_) => one(shape::range_by(l, &node.op, operands)),
        Op::NonZero(o) => one(shape::non_zero(l, o, at(0)?)),
        Op::Iota(o) => {
            let dtype = DType::I32;
            let len = o.len.clone();
            let x = l.push(Op::Iota(Iota { dtype, len }), &[])?;
            one(l.cast(x, legal(o.dtype, l.opset)))
        }
        Op::Size(o) => {
            let dtype = DType::I32;
            let dim = o.dim.clone();
            let x = l.push(Op::Size(Size { dtype, dim }), &[])?;
            one(l.cast(x, legal(o.dtype, l.opset)))
        }
        Op::GatherNd(o) => one(index::gather_nd(l, o, at(0)?, at(1)?)),
        Op::GatherElements(o) => one(index::gather_elements(l, o, at(0)?, at(1)?)),
        Op::ScatterElements(o) => one(index::scatter_elements(l, o, at(0)?, at(1)?, at(2)?)),
        Op::ScatterNd(o) => one(index::scatter_nd(l, o, at(0)?, at(1)?, at(2)?)),
        Op::NonMaxSuppression(o) => one(suppress::non_max_suppression(l, o, operands)),
        Op::Resize(o) => one(image::resize(l, o, at(0)?)),
        Op::GridSample(o) => one(image::grid_sample(l, o, at(0)?, at(1)?)),
        Op::Recurrent(o) => recurrent::recurrent(l, o, operands),
        Op::Quantize(o) => one(quant::quantize(l, o, operands)),
        Op::Dequantize(o) => one(quant::dequantize(l, o, operands, results[0])),
        Op::If(o) => control::branch(l, o, operands),
        Op::Loop(o) => control::repeat(l, o, old, node, operands),
        Op::Compare(_)
        | Op::Select(_)
        | Op::Clip(_)
        | Op::Activation(_)
        | Op::Softmax(_)
        | Op::CumSum(_)
        | Op::MatMul(_)
        | Op::Linear(_)
        | Op::RmsNorm(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Expand(_)
        | Op::Slice(_)
        | Op::Concat(_)
        | Op::Squeeze(_)
        | Op::Unsqueeze(_)
        | Op::Gather(_)
        | Op::Tile(_)
        | Op::Reverse(_)
        | Op::ReshapeTo(_)
        | Op::TileBy(_) => l.push_all(node.op.clone(), operands),
        Op::SliceBy(_) => Err(CoremlError::NotWritten { op: node.op.name() }.into()),
    }
}
