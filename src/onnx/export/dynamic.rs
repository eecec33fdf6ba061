//! Operations whose parameters, and so the sizes of their results, are computed at run time.

use super::emitter::{Emitter, Last, int, last};
use super::shape::{mode_name, scalar_operand, wrapped};
use crate::error::Result;
use crate::ir::ops::{NonZero, PadBy, PadMode, ReshapeTo, Size, SliceBy};
use crate::ir::{Node, ValueId};
use crate::onnx::error::OnnxError;
use crate::tensor::{DType, Tensor, num};

impl Emitter<'_> {
    /// A vector or scalar of integers as `i64`.
    pub(super) fn as_i64(&mut self, value: ValueId) -> Result<String> {
        self.operand_as(value, DType::I64)
    }

    /// One integer as a vector of one element.
    pub(super) fn one_int(&mut self, value: ValueId) -> Result<String> {
        let rank = self.ty(value).rank();
        let x = self.as_i64(value)?;
        if rank == 1 {
            return Ok(x);
        }
        let shape = self.vector(&[1])?;
        Ok(self.emit("Reshape", [x, shape], vec![]))
    }
}

pub(super) fn size(e: &mut Emitter<'_>, o: &Size) -> Result<Last> {
    let size = e.size_scalar(&o.dim)?;
    e.converted(last("Identity", [size]), DType::I64, o.dtype)
}

pub(super) fn reshape_to(e: &mut Emitter<'_>, node: &Node, o: &ReshapeTo) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    let shape = e.as_i64(node.operands[1])?;
    let reshape = last("Reshape", [x, shape]);
    if o.zero_copies {
        return Ok(reshape);
    }
    if e.opset < 14 {
        return Err(OnnxError::NeedsOpset {
            op: node.op.name(),
            opset: 14,
        }
        .into());
    }
    Ok(reshape.with(int("allowzero", 1)))
}

/// An operator over a tensor and a vector of integers.
pub(super) fn by_vector(e: &mut Emitter<'_>, node: &Node, op_type: &'static str) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    let vector = e.as_i64(node.operands[1])?;
    Ok(last(op_type, [x, vector]))
}

pub(super) fn slice_by(e: &mut Emitter<'_>, node: &Node, o: &SliceBy) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    let starts = e.as_i64(node.operands[1])?;
    let ends = e.as_i64(node.operands[2])?;
    let axes = e.axes(&o.axes)?;
    let steps = e.vector(&o.steps)?;
    Ok(last("Slice", [x, starts, ends, axes, steps]))
}

pub(super) fn pad_by(e: &mut Emitter<'_>, node: &Node, o: &PadBy) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    if o.mode == PadMode::Wrap {
        let x = e.operand(node.operands[0])?;
        let amounts = e.as_i64(node.operands[1])?;
        let rank = ty.rank();
        let mut pads = Vec::with_capacity(rank);
        for axis in 0..rank {
            let before = e.element(&amounts, axis)?;
            let after = e.element(&amounts, axis + rank)?;
            pads.push((axis, before, after));
        }
        return wrapped(e, x, pads);
    }
    let kernel = e.kernel("Pad", ty.dtype)?;
    let x = e.operand_as(node.operands[0], kernel)?;
    let pads = e.as_i64(node.operands[1])?;
    let mut inputs = vec![x, pads];
    if let Some(&value) = node.operands.get(2) {
        inputs.push(scalar_operand(e, value, kernel)?);
    }
    let pad = Last::of("Pad", inputs).with(mode_name(o.mode));
    e.converted(pad, kernel, ty.dtype)
}

impl Emitter<'_> {
    /// One element of a vector, as a scalar.
    fn element(&mut self, vector: &str, index: usize) -> Result<String> {
        let index = self.scalar_int(num::i64_of(index))?;
        Ok(self.emit("Gather", [vector.to_owned(), index], vec![int("axis", 0)]))
    }
}

pub(super) fn range_by(e: &mut Emitter<'_>, node: &Node) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let kernel = e.kernel("Range", dtype)?;
    let mut inputs = Vec::with_capacity(3);
    for &operand in &node.operands {
        inputs.push(scalar_operand(e, operand, kernel)?);
    }
    e.converted(Last::of("Range", inputs), kernel, dtype)
}

pub(super) fn non_zero(e: &mut Emitter<'_>, node: &Node, o: &NonZero) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let listed = e.kernel("NonZero", dtype).is_ok_and(|k| k == dtype);
    let x = if listed {
        e.operand(node.operands[0])?
    } else {
        e.operand_as(node.operands[0], DType::Bool)?
    };
    if e.ty(node.operands[0]).rank() == 0 {
        // No axes to name: what counts is only whether there is a place, in a tensor without rows.
        let shape = e.vector(&[1])?;
        let x = e.emit("Reshape", [x, shape], vec![]);
        let places = e.emit("NonZero", [x], vec![]);
        let none = e.small("const/i64/none", &Tensor::i64(vec![0], Vec::new())?)?;
        let rows = e.emit("Gather", [places, none], vec![int("axis", 0)]);
        return e.converted(last("Identity", [rows]), DType::I64, o.dtype);
    }
    e.converted(last("NonZero", [x]), DType::I64, o.dtype)
}
