//! Operations along axes.

use super::emit::{Arg, Emitter, Var};
use crate::error::Result;
use crate::ir::ops::{CumSum, Reduce, ReduceKind, Softmax};

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
