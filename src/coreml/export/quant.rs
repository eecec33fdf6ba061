//! Quantisation: maps of 8-bit integers, and weights that stay compressed.

use super::emit::{Arg, Emitter, Var};
use super::value;
use crate::coreml::dtype::{mil_name, to_mil};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::ops::{Dequantize, Granularity, Quantize};
use crate::ir::{Constant, Node};
use crate::tensor::{DType, Tensor};

/// Scale and zero point as parameters: scalars for one of all.
fn parameters(
    e: &mut Emitter<'_>,
    granularity: &Granularity,
    node: &Node,
) -> Result<Vec<(&'static str, Var)>> {
    let mut out = Vec::new();
    for (name, &operand) in ["scale", "zero_point"].into_iter().zip(&node.operands[1..]) {
        let Some(constant) = e.as_constant(operand) else {
            continue;
        };
        let constant = shaped(constant, granularity)?;
        let id = format!("{}#{name}", e.name());
        out.push((name, e.weight(&id, &constant)?));
    }
    Ok(out)
}

fn shaped(constant: &Constant, granularity: &Granularity) -> Result<Constant> {
    Ok(match granularity {
        Granularity::Tensor => constant.reshape(Vec::new())?,
        Granularity::Axis(_) | Granularity::Block => constant.clone(),
    })
}

fn with_axis<'p>(params: &mut Vec<(&'p str, Arg<'p>)>, granularity: &Granularity) {
    if let Granularity::Axis(axis) = granularity {
        params.push(("axis", Arg::Int(*axis)));
    }
}

pub(super) fn quantize(e: &mut Emitter<'_>, op: &Quantize, node: &Node, x: &Var) -> Result<()> {
    let parts = parameters(e, &op.granularity, node)?;
    let mut params = vec![
        ("input", Arg::Var(x)),
        ("output_dtype", Arg::Text(mil_name(to_mil(op.to)))),
    ];
    params.extend(parts.iter().map(|(name, var)| (*name, Arg::Var(var))));
    with_axis(&mut params, &op.granularity);
    e.finish("quantize", &params)
}

pub(super) fn dequantize(e: &mut Emitter<'_>, op: &Dequantize, node: &Node) -> Result<()> {
    if let Some(q) = e.as_constant(node.operands[0]) {
        return compressed(e, op, node, q);
    }
    let x = e.var(node.operands[0])?;
    let parts = parameters(e, &op.granularity, node)?;
    let mut params = vec![("input", Arg::Var(&x))];
    params.extend(parts.iter().map(|(name, var)| (*name, Arg::Var(var))));
    with_axis(&mut params, &op.granularity);
    e.finish("dequantize", &params)
}

/// A weight that stays as it is stored: the affine form of the first generations, or the blockwise form.
fn compressed(e: &mut Emitter<'_>, op: &Dequantize, node: &Node, q: &Constant) -> Result<()> {
    let constants: Vec<&Constant> = node
        .operands
        .iter()
        .filter_map(|&v| e.as_constant(v))
        .collect();
    let data = e.stored(q)?;
    let Some(scale) = constants.get(1) else {
        return Ok(());
    };
    if e.opset >= Opset::CoreML8 {
        // Scales have the data's rank; each of their sizes divides its.
        let rank = q.shape().len();
        let blocks = |c: &Constant| -> Result<Constant> {
            let shape = match op.granularity {
                Granularity::Tensor => vec![1; rank],
                Granularity::Axis(axis) => (0..rank)
                    .map(|a| if a == axis { c.len() } else { 1 })
                    .collect(),
                Granularity::Block => c.shape().to_vec(),
            };
            Ok(c.reshape(shape)?)
        };
        let mut params = vec![("data", data), ("scale", e.stored(&blocks(scale)?)?)];
        if let Some(zero) = constants.get(2) {
            params.push(("offset", e.stored(&blocks(zero)?)?));
        }
        return e.compressed("constexpr_blockwise_shift_scale", params);
    }
    let zero = match constants.get(2) {
        Some(zero) => shaped(zero, &op.granularity)?,
        None => {
            let tensor = Tensor::int(q.dtype(), vec![], vec![0])?;
            Constant::from_tensor(e.name(), &tensor)?
        }
    };
    let axis = match op.granularity {
        Granularity::Axis(axis) => axis,
        Granularity::Tensor | Granularity::Block => 0,
    };
    let axis = Tensor::int(DType::I32, vec![], vec![crate::tensor::num::i64_of(axis)])?;
    let params = vec![
        ("quantized_data", data),
        ("zero_point", e.stored(&zero)?),
        ("scale", e.stored(&shaped(scale, &op.granularity)?)?),
        ("axis", value::inline(&axis)),
    ];
    e.compressed("constexpr_affine_dequantize", params)
}
