//! Operations along axes.

use super::emit::{Arg, Emitter, Var};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::Dim;
use crate::ir::ops::{ArgReduce, CumSum, Reduce, ReduceKind, Softmax, TopK};

pub(super) fn reduce(e: &mut Emitter<'_>, op: &Reduce, x: &Var) -> Result<()> {
    let kind = match op.kind {
        ReduceKind::Sum => "reduce_sum",
        ReduceKind::Mean => "reduce_mean",
        ReduceKind::Max => "reduce_max",
        ReduceKind::Min => "reduce_min",
        ReduceKind::L2 => "reduce_l2_norm",
        ReduceKind::Prod => "reduce_prod",
        ReduceKind::LogSumExp => "reduce_log_sum_exp",
    };
    let params = [
        ("x", Arg::Var(x)),
        ("axes", Arg::Ints(op.axes.clone())),
        ("keep_dims", Arg::Bool(op.keep_dims)),
    ];
    e.finish(kind, &params)
}

pub(super) fn softmax(e: &mut Emitter<'_>, op: &Softmax, x: &Var) -> Result<()> {
    e.finish(
        "softmax",
        &[("x", Arg::Var(x)), ("axis", Arg::Int(op.axis))],
    )
}

pub(super) fn cumsum(e: &mut Emitter<'_>, op: &CumSum, x: &Var) -> Result<()> {
    let params = [
        ("x", Arg::Var(x)),
        ("axis", Arg::Int(op.axis)),
        ("exclusive", Arg::Bool(false)),
        ("reverse", Arg::Bool(false)),
    ];
    e.finish("cumsum", &params)
}

pub(super) fn arg_reduce(e: &mut Emitter<'_>, op: &ArgReduce, x: &Var) -> Result<()> {
    let mut params = vec![
        ("x", Arg::Var(x)),
        ("axis", Arg::Int(op.axis)),
        ("keep_dims", Arg::Bool(false)),
    ];
    if e.opset >= Opset::CoreML7 {
        params.push(("output_dtype", Arg::Text("int32")));
    }
    let kind = if op.largest {
        "reduce_argmax"
    } else {
        "reduce_argmin"
    };
    e.finish(kind, &params)
}

pub(super) fn top_k(e: &mut Emitter<'_>, op: &TopK, x: &Var) -> Result<()> {
    let mut params = vec![
        ("x", Arg::Var(x)),
        ("k", Arg::Int(Dim::known(&op.k).unwrap_or(0))),
        ("axis", Arg::Int(op.axis)),
        ("ascending", Arg::Bool(!op.largest)),
    ];
    if e.opset >= Opset::CoreML6 {
        params.push(("sort", Arg::Bool(true)));
        params.push(("return_indices", Arg::Bool(true)));
    }
    if e.opset >= Opset::CoreML7 {
        params.push(("output_indices_dtype", Arg::Text("int32")));
    }
    e.finish("topk", &params)
}
