//! Operations along axes.

use super::emitter::{Emitter, Last, int, ints, last};
use crate::error::Result;
use crate::ir::Node;
use crate::ir::ops::{ArgReduce, CumSum, Reduce, ReduceKind, Softmax, TopK};
use crate::tensor::{DType, num};

pub(super) fn reduce(e: &mut Emitter<'_>, node: &Node, o: &Reduce) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    let op_type = match o.kind {
        ReduceKind::Sum => "ReduceSum",
        ReduceKind::Mean => "ReduceMean",
        ReduceKind::Max => "ReduceMax",
        ReduceKind::Min => "ReduceMin",
        ReduceKind::L2 => "ReduceL2",
        ReduceKind::Prod => "ReduceProd",
        ReduceKind::LogSumExp => "ReduceLogSumExp",
    };
    let order = matches!(o.kind, ReduceKind::Max | ReduceKind::Min);
    let (x, kernel) = if order {
        e.ordered(op_type, node.operands[0])?
    } else {
        let kernel = e.kernel(op_type, ty.dtype)?;
        (e.operand_as(node.operands[0], kernel)?, kernel)
    };
    // The axes became an input with opset 13 for `ReduceSum`, with 18 for the others.
    let last = if o.kind == ReduceKind::Sum || e.opset >= 18 {
        let axes = e.axes(&o.axes)?;
        last(op_type, [x, axes])
    } else {
        let axes = o.axes.iter().map(|&a| num::i64_of(a)).collect();
        last(op_type, [x]).with(ints("axes", axes))
    };
    let last = last.with(int("keepdims", i64::from(o.keep_dims)));
    if order {
        e.unordered(last, kernel, ty)
    } else {
        e.converted(last, kernel, ty.dtype)
    }
}

pub(super) fn softmax(e: &mut Emitter<'_>, node: &Node, o: Softmax) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    Ok(last("Softmax", [x]).with(int("axis", num::i64_of(o.axis))))
}

pub(super) fn cumsum(e: &mut Emitter<'_>, node: &Node, o: CumSum) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let kernel = e.kernel("CumSum", dtype)?;
    let x = e.operand_as(node.operands[0], kernel)?;
    let axis = e.scalar_int(num::i64_of(o.axis))?;
    e.converted(last("CumSum", [x, axis]), kernel, dtype)
}

pub(super) fn arg_reduce(e: &mut Emitter<'_>, node: &Node, o: ArgReduce) -> Result<Last> {
    let op_type = if o.largest { "ArgMax" } else { "ArgMin" };
    let (x, _) = e.ordered(op_type, node.operands[0])?;
    let index = last(op_type, [x])
        .with(int("axis", num::i64_of(o.axis)))
        .with(int("keepdims", 0))
        .with(int("select_last_index", i64::from(o.last)));
    e.converted(index, DType::I64, o.dtype)
}

/// Both results at once; the ones whose type is not the operator's are converted after it.
pub(super) fn top_k(e: &mut Emitter<'_>, node: &Node, o: &TopK) -> Result<()> {
    let ty = e.ty(node.operands[0]);
    let (x, kernel) = e.ordered("TopK", node.operands[0])?;
    let k = match node.operands.get(1) {
        Some(&k) => e.one_int(k)?,
        None => e.size(&o.k)?,
    };
    let (values, indices) = (e.name(node.results[0]), e.name(node.results[1]));
    let own_values = e.carried(ty.dtype) == kernel;
    let own_indices = o.dtype == DType::I64;
    let name = |e: &mut Emitter<'_>, own: bool, name: &str| {
        if own {
            name.to_owned()
        } else {
            e.helper_name("TopK")
        }
    };
    let raw_values = name(e, own_values, &values);
    let raw_indices = name(e, own_indices, &indices);
    e.push_all(
        "TopK",
        vec![x, k],
        vec![raw_values.clone(), raw_indices.clone()],
        vec![
            int("axis", num::i64_of(o.axis)),
            int("largest", i64::from(o.largest)),
            int("sorted", 1),
        ],
    );
    if !own_values {
        let last = e.unordered(last("Identity", [raw_values]), kernel, ty)?;
        e.push(last.op_type, last.inputs, values, last.attributes);
    }
    if !own_indices {
        let last = e.converted(last("Identity", [raw_indices]), DType::I64, o.dtype)?;
        e.push(last.op_type, last.inputs, indices, last.attributes);
    }
    Ok(())
}
