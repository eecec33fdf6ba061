//! Data movement that depends on values.

use super::emitter::{Emitter, Last, int, last};
use crate::error::Result;
use crate::ir::ops::{Gather, GatherElements};
use crate::ir::{Node, ValueId};
use crate::tensor::{DType, num};

pub(super) fn gather(e: &mut Emitter<'_>, node: &Node, o: Gather) -> Result<Last> {
    let data = e.operand(node.operands[0])?;
    let indices = indices(e, node.operands[1])?;
    Ok(last("Gather", [data, indices]).with(int("axis", num::i64_of(o.axis))))
}

pub(super) fn gather_elements(e: &mut Emitter<'_>, node: &Node, o: GatherElements) -> Result<Last> {
    let data = e.operand(node.operands[0])?;
    let indices = indices(e, node.operands[1])?;
    Ok(last("GatherElements", [data, indices]).with(int("axis", num::i64_of(o.axis))))
}

/// Indices as ONNX takes them: 32 or 64 bits, signed.
fn indices(e: &mut Emitter<'_>, value: ValueId) -> Result<String> {
    if e.ty(value).dtype == DType::I32 {
        e.operand(value)
    } else {
        e.operand_as(value, DType::I64)
    }
}
