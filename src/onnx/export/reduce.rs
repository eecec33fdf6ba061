//! Operations along axes.

use super::elementwise::only;
use super::emitter::{Emitter, Last, int, ints, last};
use crate::error::Result;
use crate::ir::Node;
use crate::ir::ops::{CumSum, Reduce, ReduceKind, Softmax};
use crate::tensor::{DType, num};

pub(super) fn reduce(e: &mut Emitter<'_>, node: &Node, o: &Reduce) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    let x = e.operand(node.operands[0])?;
    let (op_type, small_ints) = match o.kind {
        ReduceKind::Sum => ("ReduceSum", false),
        ReduceKind::Mean => ("ReduceMean", false),
        ReduceKind::Max => ("ReduceMax", true),
        ReduceKind::Min => ("ReduceMin", true),
        ReduceKind::L2 => ("ReduceL2", false),
        ReduceKind::Prod => ("ReduceProd", false),
        ReduceKind::LogSumExp => ("ReduceLogSumExp", false),
    };
    let mut allowed = vec![
        DType::F16,
        DType::F32,
        DType::F64,
        DType::I32,
        DType::I64,
        DType::U32,
        DType::U64,
    ];
    if small_ints {
        allowed.extend([DType::I8, DType::U8]);
    }
    only(op_type, ty, &allowed)?;
    // The axes became an input with opset 13 for `ReduceSum`, with 18 for the others.
    let last = if o.kind == ReduceKind::Sum || e.opset >= 18 {
        let axes = e.axes(&o.axes)?;
        last(op_type, [x, axes])
    } else {
        let axes = o.axes.iter().map(|&a| num::i64_of(a)).collect();
        last(op_type, [x]).with(ints("axes", axes))
    };
    Ok(last.with(int("keepdims", i64::from(o.keep_dims))))
}

pub(super) fn softmax(e: &mut Emitter<'_>, node: &Node, o: Softmax) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    Ok(last("Softmax", [x]).with(int("axis", num::i64_of(o.axis))))
}

pub(super) fn cumsum(e: &mut Emitter<'_>, node: &Node, o: CumSum) -> Result<Last> {
    let allowed = [
        DType::F16,
        DType::F32,
        DType::F64,
        DType::I32,
        DType::I64,
        DType::U32,
        DType::U64,
    ];
    only("CumSum", e.ty(node.operands[0]), &allowed)?;
    let x = e.operand(node.operands[0])?;
    let axis = e.scalar_int(num::i64_of(o.axis))?;
    Ok(last("CumSum", [x, axis]))
}
