//! Operations along axes.

use super::call::Call;
use super::elementwise::{op1, op2};
use super::entry::Entry;
use super::{Handler, Importer};
use crate::error::Result;
use crate::ir::ops::{BinaryKind, CumSum, Reduce, ReduceKind, Softmax, UnaryKind};
use crate::ir::{Op, ValueId};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "reduce_sum" | "reduce_mean" | "reduce_max" | "reduce_min" | "reduce_l2_norm"
        | "reduce_l1_norm" | "reduce_sum_square" => reduce,
        "softmax" => softmax,
        "cumsum" => cumsum,
        "reduce_prod" => product,
        _ => return None,
    };
    Some(handler)
}

/// The operand and the reduction that the parameters ask for.
fn parts(importer: &mut Importer<'_>, call: &mut Call, kind: ReduceKind) -> Result<(ValueId, Op)> {
    let x = importer.operand(call, "x")?;
    let axes = call.axes("axes", importer.ty(x).rank())?;
    let keep_dims = call.bool("keep_dims", false)?;
    Ok((
        x,
        Op::Reduce(Reduce {
            kind,
            axes,
            keep_dims,
        }),
    ))
}

fn reduce(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let kind = match call.op.as_str() {
        "reduce_sum" | "reduce_l1_norm" | "reduce_sum_square" => ReduceKind::Sum,
        "reduce_mean" => ReduceKind::Mean,
        "reduce_max" => ReduceKind::Max,
        "reduce_min" => ReduceKind::Min,
        _ => ReduceKind::L2,
    };
    let (mut x, op) = parts(importer, call, kind)?;
    let ints = importer.ty(x).dtype.is_int();
    if ints && matches!(kind, ReduceKind::Mean | ReduceKind::L2) {
        return Err(call.unsupported("x", "integers").into());
    }
    match call.op.as_str() {
        "reduce_l1_norm" => x = importer.step(call, "abs", op1(UnaryKind::Abs), &[x])?,
        "reduce_sum_square" => {
            x = importer.step(call, "square", op2(BinaryKind::Mul), &[x, x])?;
        }
        _ => {}
    }
    importer.result(call, op, &[x])
}

fn softmax(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let axis = call.axis("axis", importer.ty(x).rank(), -1)?;
    importer.result(call, Op::Softmax(Softmax { axis }), &[x])
}

fn cumsum(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let axis = call.axis("axis", importer.ty(x).rank(), 0)?;
    for parameter in ["exclusive", "reverse"] {
        if call.bool(parameter, false)? {
            return Err(call.unsupported(parameter, "true").into());
        }
    }
    importer.result(call, Op::CumSum(CumSum { axis }), &[x])
}

/// Products of sizes are followed as dimension expressions; of other values there is no product.
fn product(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = call.required("x")?;
    Err(call.unsupported("x", x.describe()).into())
}
