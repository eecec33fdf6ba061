//! Operations along axes.

use super::call::Call;
use super::elementwise::{op1, op2};
use super::entry::Entry;
use super::{Handler, Importer};
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, CumSum, Pad, PadMode, Reduce, ReduceKind, Reverse, Slice, SliceRange, Softmax,
    UnaryKind,
};
use crate::ir::{Dim, Op, ValueId};
use crate::tensor::DType;

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "reduce_sum" | "reduce_mean" | "reduce_max" | "reduce_min" | "reduce_l2_norm"
        | "reduce_l1_norm" | "reduce_sum_square" | "reduce_prod" | "reduce_log_sum"
        | "reduce_log_sum_exp" => reduce,
        "softmax" => softmax,
        "cumsum" => cumsum,
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
        "reduce_sum" | "reduce_l1_norm" | "reduce_sum_square" | "reduce_log_sum" => ReduceKind::Sum,
        "reduce_prod" => ReduceKind::Prod,
        "reduce_log_sum_exp" => ReduceKind::LogSumExp,
        "reduce_mean" => ReduceKind::Mean,
        "reduce_max" => ReduceKind::Max,
        "reduce_min" => ReduceKind::Min,
        _ => ReduceKind::L2,
    };
    let (mut x, op) = parts(importer, call, kind)?;
    let dtype = importer.ty(x).dtype;
    let float = matches!(
        kind,
        ReduceKind::Mean | ReduceKind::L2 | ReduceKind::LogSumExp
    );
    if dtype.is_int() && call.op == "reduce_log_sum" {
        x = importer.cast(call, "x", x, DType::F32)?;
        let sum = importer.step(call, "sum", op, &[x])?;
        return importer.rounded(call, op1(UnaryKind::Log), &[sum], dtype);
    }
    if dtype.is_int() && float {
        // As the mean of NumPy does: of floats, then back.
        x = importer.cast(call, "x", x, DType::F32)?;
        return importer.rounded(call, op, &[x], dtype);
    }
    match call.op.as_str() {
        "reduce_l1_norm" => x = importer.step(call, "abs", op1(UnaryKind::Abs), &[x])?,
        "reduce_sum_square" => {
            x = importer.step(call, "square", op2(BinaryKind::Mul), &[x, x])?;
        }
        "reduce_log_sum" => {
            let sum = importer.step(call, "sum", op, &[x])?;
            return importer.result(call, op1(UnaryKind::Log), &[sum]);
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
    let exclusive = call.bool("exclusive", false)?;
    let reverse = call.bool("reverse", false)?;
    let shape = importer.ty(x).shape;
    // The steps, of which the last is the result.
    let mut ops = Vec::new();
    let turn = || Op::Reverse(Reverse { axes: vec![axis] });
    if reverse {
        ops.push(turn());
    }
    ops.push(Op::CumSum(CumSum { axis }));
    if exclusive {
        // First a zero more, then the last less: an axis of 1 is never left without elements.
        let mut begin = vec![Dim::from(0); shape.len()];
        let end = begin.clone();
        begin[axis] = Dim::from(1);
        let mode = PadMode::Constant;
        ops.push(Op::Pad(Pad { mode, begin, end }));
        let ranges = vec![SliceRange::new(axis, 0, shape[axis].clone())];
        ops.push(Op::Slice(Slice { ranges }));
    }
    if reverse {
        ops.push(turn());
    }
    let last = ops.pop();
    let mut x = x;
    for op in ops {
        x = importer.step(call, "step", op, &[x])?;
    }
    match last {
        Some(op) => importer.result(call, op, &[x]),
        None => Ok(vec![importer.entry(x)]),
    }
}
