//! Convolutions, pooling, and normalisation per channel.

use super::emit::{Arg, Emitter, Var};
use super::norm::epsilon;
use crate::error::Result;
use crate::ir::ops::{BatchNorm, Conv, ConvTranspose, InstanceNorm, Lrn, Pool, PoolKind, Window};

/// Padding as programs have it: before and after, axis by axis.
fn pads(window: &Window) -> Arg<'static> {
    Arg::Ints(window.pads.iter().flat_map(|p| [p.0, p.1]).collect())
}

/// The parameters of a window that convolutions have.
fn sliding(window: &Window, groups: usize) -> Vec<(&'static str, Arg<'static>)> {
    vec![
        ("strides", Arg::Ints(window.strides.clone())),
        ("pad_type", Arg::Text("custom")),
        ("pad", pads(window)),
        ("dilations", Arg::Ints(window.dilations.clone())),
        ("groups", Arg::Int(groups)),
    ]
}

pub(super) fn conv(e: &mut Emitter<'_>, op: &Conv, operands: &[Var]) -> Result<()> {
    convolution(e, "conv", sliding(&op.window, op.groups), operands)
}

pub(super) fn conv_transpose(
    e: &mut Emitter<'_>,
    op: &ConvTranspose,
    operands: &[Var],
) -> Result<()> {
    convolution(
        e,
        "conv_transpose",
        sliding(&op.window, op.groups),
        operands,
    )
}

fn convolution<'p>(
    e: &mut Emitter<'_>,
    kind: &str,
    mut params: Vec<(&'p str, Arg<'p>)>,
    operands: &'p [Var],
) -> Result<()> {
    for (name, var) in ["x", "weight", "bias"].into_iter().zip(operands) {
        params.push((name, Arg::Var(var)));
    }
    e.finish(kind, &params)
}

pub(super) fn pool(e: &mut Emitter<'_>, op: &Pool, x: &Var) -> Result<()> {
    let mut params = vec![
        ("x", Arg::Var(x)),
        ("kernel_sizes", Arg::Ints(op.kernel.clone())),
        ("strides", Arg::Ints(op.window.strides.clone())),
        ("pad_type", Arg::Text("custom")),
        ("pad", pads(&op.window)),
        ("ceil_mode", Arg::Bool(op.ceil)),
    ];
    let kind = match op.kind {
        PoolKind::Max => "max_pool",
        PoolKind::Average { count_padding } => {
            params.push(("exclude_padding_from_average", Arg::Bool(!count_padding)));
            "avg_pool"
        }
    };
    e.finish(kind, &params)
}

pub(super) fn batch_norm(e: &mut Emitter<'_>, op: &BatchNorm, operands: &[Var]) -> Result<()> {
    let names = ["x", "mean", "variance", "gamma", "beta"];
    normal(e, "batch_norm", &names, op.epsilon, operands)
}

pub(super) fn instance_norm(
    e: &mut Emitter<'_>,
    op: &InstanceNorm,
    operands: &[Var],
) -> Result<()> {
    let names = ["x", "gamma", "beta"];
    normal(e, "instance_norm", &names, op.epsilon, operands)
}

fn normal(
    e: &mut Emitter<'_>,
    kind: &str,
    names: &[&'static str],
    eps: f64,
    operands: &[Var],
) -> Result<()> {
    let mut params: Vec<(&str, Arg<'_>)> = names
        .iter()
        .copied()
        .zip(operands.iter().map(Arg::Var))
        .collect();
    if let Some(x) = operands.first() {
        params.push(("epsilon", epsilon(x.ty.dtype, eps)));
    }
    e.finish(kind, &params)
}

pub(super) fn lrn(e: &mut Emitter<'_>, op: &Lrn, x: &Var) -> Result<()> {
    let number = |n: f32| Arg::Float(x.ty.dtype, f64::from(n));
    let params = [
        ("x", Arg::Var(x)),
        ("size", Arg::Int(op.size)),
        ("alpha", number(op.alpha)),
        ("beta", number(op.beta)),
        ("k", number(op.k)),
    ];
    e.finish("local_response_norm", &params)
}
