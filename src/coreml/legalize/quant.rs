//! Quantisation: stored weights stay compressed where programs can hold them; other maps are computed.

use super::dtype::{is_small_int, legal};
use super::elementwise::repeat;
use super::lower::Lower;
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::ops::{BinaryKind, Dequantize, Granularity, Quantize, UnaryKind};
use crate::ir::{Constant, Def, Function, Node, Op, ValueId};
use crate::tensor::DType;

/// A dequantised constant as the weight that it is.
pub(super) fn stored(
    l: &mut Lower<'_>,
    old: &Function,
    node: &Node,
    op: &Dequantize,
) -> Result<Option<ValueId>> {
    let module = l.module;
    let parts: Option<Vec<&Constant>> = node
        .operands
        .iter()
        .map(|&v| match old.value(v).def {
            Def::Const(id) => Some(module.constant(id)),
            Def::Param(_) | Def::Node(_) => None,
        })
        .collect();
    let name = &old.value(node.result()).name;
    Ok(match parts {
        Some(parts) => op.constant(name, &parts)?.map(|c| l.constant(c)),
        None => None,
    })
}

/// A scale or zero point so that it broadcasts with the tensor.
fn spread(
    l: &mut Lower<'_>,
    granularity: &Granularity,
    x: ValueId,
    scale: ValueId,
) -> Result<ValueId> {
    let rank = l.ty(x).rank();
    match granularity {
        Granularity::Tensor => l.scalar_of(scale),
        Granularity::Axis(axis) => l.along(scale, rank, *axis),
        Granularity::Block => {
            let whole = l.known("quantisation", x)?;
            let blocks = l.known("quantisation", scale)?;
            let mut scale = scale;
            for axis in 0..rank {
                if blocks[axis] != 1 {
                    scale = repeat(l, scale, axis, whole[axis] / blocks[axis])?;
                }
            }
            Ok(scale)
        }
    }
}

/// Whether programs have the operation on these values: 8 bits, constant parameters, no blocks.
fn native(l: &Lower<'_>, granularity: &Granularity, dtype: DType, parameters: &[ValueId]) -> bool {
    l.opset >= Opset::CoreML7
        && matches!(dtype, DType::I8 | DType::U8)
        && *granularity != Granularity::Block
        && parameters.iter().all(|&v| l.as_constant(v).is_some())
}

pub(super) fn quantize(l: &mut Lower<'_>, op: &Quantize, operands: &[ValueId]) -> Result<ValueId> {
    let same = l.ty(operands[0]).dtype == l.ty(operands[1]).dtype;
    if same && native(l, &op.granularity, op.to, &operands[1..]) {
        return l.push(Op::Quantize(op.clone()), operands);
    }
    let x = l.cast(operands[0], DType::F32)?;
    let scale = l.cast(operands[1], DType::F32)?;
    let scale = spread(l, &op.granularity, x, scale)?;
    let ratio = l.binary(BinaryKind::Div, x, scale)?;
    let mut y = l.unary(UnaryKind::Round, ratio)?;
    if let Some(&zero) = operands.get(2) {
        let zero = l.cast(zero, DType::F32)?;
        let zero = spread(l, &op.granularity, x, zero)?;
        y = l.binary(BinaryKind::Add, y, zero)?;
    }
    let (low, high) = bounds(op.to);
    let y = l.clip(y, low, high)?;
    let to = legal(op.to, l.opset);
    l.cast(y, to)
}

/// The least and largest number of an integer type, as far as floats that convert to `int32` hold them.
fn bounds(dtype: DType) -> (f64, f64) {
    let bits = i32::try_from(dtype.bits()).unwrap_or(32);
    if !is_small_int(dtype) {
        (-2_147_483_648.0, 2_147_483_520.0)
    } else if dtype.is_signed_int() {
        let half = f64::powi(2.0, bits - 1);
        (-half, half - 1.0)
    } else {
        (0.0, f64::powi(2.0, bits) - 1.0)
    }
}

pub(super) fn dequantize(
    l: &mut Lower<'_>,
    op: &Dequantize,
    operands: &[ValueId],
    to: DType,
) -> Result<ValueId> {
    let dtype = l.ty(operands[0]).dtype;
    let to = legal(to, l.opset);
    if native(l, &op.granularity, dtype, &operands[1..]) {
        return l.push(Op::Dequantize(op.clone()), operands);
    }
    let mut q = l.cast(operands[0], DType::I32)?;
    if let Some(&zero) = operands.get(2) {
        let zero = l.cast(zero, DType::I32)?;
        let zero = spread(l, &op.granularity, q, zero)?;
        q = l.binary(BinaryKind::Sub, q, zero)?;
    }
    let centred = l.cast(q, DType::F32)?;
    let scale = l.cast(operands[1], DType::F32)?;
    let scale = spread(l, &op.granularity, centred, scale)?;
    let y = l.binary(BinaryKind::Mul, centred, scale)?;
    l.cast(y, to)
}
