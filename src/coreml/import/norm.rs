//! Normalisation.

use super::call::Call;
use super::elementwise::{op1, op2};
use super::entry::Entry;
use super::{Handler, Importer};
use crate::error::Result;
use crate::ir::ops::{
    BatchNorm, BinaryKind, InstanceNorm, LayerNorm, Lrn, Reduce, ReduceKind, Squeeze, Transpose,
    UnaryKind, Unsqueeze,
};
use crate::ir::{Constant, Dim, Op, ValueId};
use crate::tensor::{DType, Tensor};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "layer_norm" => layer_norm,
        "l2_norm" => l2_norm,
        "batch_norm" => batch_norm,
        "instance_norm" => instance_norm,
        "local_response_norm" => local_response_norm,
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

/// `x / √(Σx² + epsilon)` over the last three axes, in single precision: squares of halves overflow early.
fn l2_norm(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let ty = importer.ty(x);
    let rank = ty.rank();
    if rank < 3 {
        return Err(call.wrong("x", "rank 3 or more", &ty.to_string()).into());
    }
    let epsilon = f64::from(call.float("epsilon")?.unwrap_or(1e-6));
    let work = DType::F32;
    let wide = importer.cast(call, "x", x, work)?;
    let square = importer.step(call, "square", op2(BinaryKind::Mul), &[wide, wide])?;
    let reduce = Op::Reduce(Reduce {
        kind: ReduceKind::Sum,
        axes: (rank - 3..rank).collect(),
        keep_dims: true,
    });
    let sum = importer.step(call, "sum", reduce, &[square])?;
    let epsilon = importer.scalar(call, "epsilon", work, epsilon)?;
    let sum = importer.step(call, "moved", op2(BinaryKind::Add), &[sum, epsilon])?;
    let root = importer.step(call, "root", op1(UnaryKind::Sqrt), &[sum])?;
    importer.rounded(call, op2(BinaryKind::Div), &[wide, root], ty.dtype)
}

/// A parameter of one element per channel; `default` all over when it is absent.
fn channels(
    importer: &mut Importer<'_>,
    call: &mut Call,
    parameter: &str,
    x: ValueId,
    default: f32,
) -> Result<ValueId> {
    if let Some(given) = importer.optional_operand(call, parameter)? {
        return Ok(given);
    }
    let ty = importer.ty(x);
    let Some(n) = ty.shape.get(1).and_then(Dim::known) else {
        return Err(call.unsupported("x", ty.to_string()).into());
    };
    let tensor = Tensor::f32(vec![n], vec![default; n])?.cast(ty.dtype);
    let name = format!("{}/{parameter}", call.name);
    Ok(importer
        .builder
        .constant(Constant::from_tensor(&name, &tensor)?))
}

fn batch_norm(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let mean = importer.operand(call, "mean")?;
    let variance = importer.operand(call, "variance")?;
    let gamma = channels(importer, call, "gamma", x, 1.0)?;
    let beta = channels(importer, call, "beta", x, 0.0)?;
    let epsilon = f64::from(call.float("epsilon")?.unwrap_or(1e-5));
    let op = Op::BatchNorm(BatchNorm { epsilon });
    let dtype = importer.ty(x).dtype;
    importer.mixed(call, op, &[x, mean, variance, gamma, beta], dtype)
}

fn instance_norm(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let gamma = channels(importer, call, "gamma", x, 1.0)?;
    let beta = channels(importer, call, "beta", x, 0.0)?;
    let epsilon = f64::from(call.float("epsilon")?.unwrap_or(1e-5));
    let op = Op::InstanceNorm(InstanceNorm { epsilon });
    let dtype = importer.ty(x).dtype;
    importer.mixed(call, op, &[x, gamma, beta], dtype)
}

fn local_response_norm(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let size = call.int("size")?.unwrap_or(0);
    let Some(size) = usize::try_from(size).ok().filter(|&n| n > 0) else {
        return Err(call
            .wrong("size", "a positive number", &size.to_string())
            .into());
    };
    let op = Op::Lrn(Lrn {
        size,
        alpha: call.float("alpha")?.unwrap_or(1e-4),
        beta: call.float("beta")?.unwrap_or(0.75),
        k: call.float("k")?.unwrap_or(1.0),
    });
    if importer.ty(x).rank() != 3 {
        return importer.result(call, op, &[x]);
    }
    // Of three axes Apple's runtime takes the first for the channels: its own test expects that a single one has no neighbours.
    let axes = vec![0];
    let image = Op::Unsqueeze(Unsqueeze { axes: axes.clone() });
    let image = importer.step(call, "image", image, &[x])?;
    let normed = importer.step(call, "normed", op, &[image])?;
    importer.result(call, Op::Squeeze(Squeeze { axes }), &[normed])
}
