//! Quantisation: maps of 8-bit integers. Weights that stay compressed are in `compressed.rs`.

use super::emit::{Arg, Emitter, Var};
use crate::coreml::dtype::{mil_name, to_mil};
use crate::error::Result;
use crate::ir::ops::{Dequantize, Granularity, Quantize};
use crate::ir::{Constant, Node};

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
    let x = e.var(node.operands[0])?;
    let parts = parameters(e, &op.granularity, node)?;
    let mut params = vec![("input", Arg::Var(&x))];
    params.extend(parts.iter().map(|(name, var)| (*name, Arg::Var(var))));
    with_axis(&mut params, &op.granularity);
    e.finish("dequantize", &params)
}
