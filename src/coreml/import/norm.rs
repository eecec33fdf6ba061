//! Normalisation.

use super::call::Call;
use super::entry::Entry;
use super::{Handler, Importer};
use crate::error::Result;
use crate::ir::ops::{LayerNorm, Transpose};
use crate::ir::{Constant, Op};
use crate::tensor::{DType, Tensor};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "layer_norm" => layer_norm,
        _ => return None,
    };
    Some(handler)
}

fn layer_norm(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let rank = importer.ty(x).rank();
    let axes = call.axes("axes", rank)?;
    let epsilon = f64::from(call.float("epsilon")?.unwrap_or(1e-5));
    let mut gamma = importer.optional_operand(call, "gamma")?;
    let beta = importer.optional_operand(call, "beta")?;
    if let (None, Some(beta)) = (gamma, beta) {
        // Ours takes a beta only after a gamma.
        let ty = importer.ty(beta);
        let shape = ty.known_shape().unwrap_or_default();
        let ones = vec![1.0; shape.iter().product()];
        let ones = Tensor::float(DType::F32, shape, ones)?.cast(ty.dtype);
        let ones = Constant::from_tensor(&format!("{}/gamma", call.name), &ones)?;
        gamma = Some(importer.value(&Entry::constant(ones), &call.name)?);
    }
    let first = rank - axes.len();
    let op = Op::LayerNorm(LayerNorm {
        axis: first,
        epsilon,
    });
    let parameters: Vec<_> = gamma.into_iter().chain(beta).collect();
    if axes.iter().copied().eq(first..rank) {
        let operands: Vec<_> = std::iter::once(x).chain(parameters).collect();
        return importer.mixed(call, op, &operands, importer.ty(x).dtype);
    }
    // Other axes are moved to the end, and back.
    let mut perm: Vec<usize> = (0..rank).filter(|a| !axes.contains(a)).collect();
    perm.extend(&axes);
    let mut back = vec![0; rank];
    for (to, &from) in perm.iter().enumerate() {
        back[from] = to;
    }
    let moved = importer.step(call, "moved", Op::Transpose(Transpose { perm }), &[x])?;
    let narrow = importer.ty(x).dtype;
    let mixed = parameters.iter().any(|&p| importer.ty(p).dtype != narrow);
    let work = if mixed { DType::F32 } else { narrow };
    let mut operands = vec![importer.cast(call, "x", moved, work)?];
    for parameter in parameters {
        operands.push(importer.cast(call, "parameter", parameter, work)?);
    }
    let normed = importer.step(call, "normed", op, &operands)?;
    let normed = importer.cast(call, "rounded", normed, narrow)?;
    importer.result(call, Op::Transpose(Transpose { perm: back }), &[normed])
}
