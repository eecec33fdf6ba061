//! Data movement that is known from shapes.

use super::emitter::{Emitter, Last, int, ints, last};
use crate::error::Result;
use crate::ir::ops::{Concat, Expand, Iota, Reshape, Slice, Squeeze, Transpose, Unsqueeze};
use crate::ir::{Dim, Node};
use crate::tensor::{DType, num};

/// "To the end", whatever the size.
const END: i64 = i64::MAX;

pub(super) fn reshape(e: &mut Emitter<'_>, node: &Node, o: &Reshape) -> Result<Last> {
    let from = &e.ty(node.operands[0]).shape;
    let x = e.operand(node.operands[0])?;
    if o.shape.iter().any(|d| d.known() == Some(0)) {
        // A size of 0 is meant here, not "as the operand".
        let shape = e.shape(&o.shape)?;
        return Ok(last("Reshape", [x, shape]).with(int("allowzero", 1)));
    }
    // 0 copies the operand's size, -1 is what remains: most shapes need nothing at run time.
    let mut shape: Vec<Dim> = Vec::new();
    let mut open = Vec::new();
    for (i, dim) in o.shape.iter().enumerate() {
        if dim.known().is_none() && from.get(i) == Some(dim) {
            shape.push(Dim::from(0));
        } else {
            if dim.known().is_none() {
                open.push(i);
            }
            shape.push(dim.clone());
        }
    }
    // Of several sizes the one that is hardest to compute is left to the engine.
    let compound = open
        .iter()
        .copied()
        .find(|&i| o.shape[i].as_symbol().is_none())
        .or(open.last().copied());
    if let Some(i) = compound {
        shape[i] = Dim::constant(-1);
    }
    let shape = e.shape(&shape)?;
    Ok(last("Reshape", [x, shape]))
}

pub(super) fn transpose(e: &mut Emitter<'_>, node: &Node, o: &Transpose) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    let perm = o.perm.iter().map(|&p| num::i64_of(p)).collect();
    Ok(last("Transpose", [x]).with(ints("perm", perm)))
}

pub(super) fn expand(e: &mut Emitter<'_>, node: &Node, o: &Expand) -> Result<Last> {
    let from = &e.ty(node.operands[0]).shape;
    let x = e.operand(node.operands[0])?;
    let lead = o.shape.len() - from.len();
    // 1 keeps the operand's size, so that only sizes that really grow are computed.
    let shape: Vec<Dim> = o
        .shape
        .iter()
        .enumerate()
        .map(|(i, dim)| {
            if i.checked_sub(lead).is_some_and(|j| from[j] == *dim) {
                Dim::from(1)
            } else {
                dim.clone()
            }
        })
        .collect();
    let shape = e.shape(&shape)?;
    Ok(last("Expand", [x, shape]))
}

pub(super) fn slice(e: &mut Emitter<'_>, node: &Node, o: &Slice) -> Result<Last> {
    let from = &e.ty(node.operands[0]).shape;
    let x = e.operand(node.operands[0])?;
    if o.ranges.is_empty() {
        return Ok(last("Identity", [x]));
    }
    // A position counted from the end needs no size: `seq - 1` is -1.
    let position = |dim: &Dim, size: &Dim| {
        if dim.integer().is_some() {
            return dim.clone();
        }
        match dim.sub(size).integer() {
            Some(0) => Dim::constant(END),
            Some(n) if n < 0 => Dim::constant(n),
            Some(_) | None => dim.clone(),
        }
    };
    let starts: Vec<Dim> = o
        .ranges
        .iter()
        .map(|r| position(&r.start, &from[r.axis]))
        .collect();
    let ends: Vec<Dim> = o
        .ranges
        .iter()
        .map(|r| position(&r.end, &from[r.axis]))
        .collect();
    let axes: Vec<usize> = o.ranges.iter().map(|r| r.axis).collect();
    let starts = e.shape(&starts)?;
    let ends = e.shape(&ends)?;
    let axes = e.axes(&axes)?;
    if o.ranges.iter().all(|r| r.step == 1) {
        return Ok(last("Slice", [x, starts, ends, axes]));
    }
    let steps: Vec<usize> = o.ranges.iter().map(|r| r.step).collect();
    let steps = e.axes(&steps)?;
    Ok(last("Slice", [x, starts, ends, axes, steps]))
}

pub(super) fn concat(e: &mut Emitter<'_>, node: &Node, o: Concat) -> Result<Last> {
    let mut inputs = Vec::with_capacity(node.operands.len());
    for &operand in &node.operands {
        inputs.push(e.operand(operand)?);
    }
    let concat = Last {
        op_type: "Concat",
        inputs,
        attributes: Vec::new(),
    };
    Ok(concat.with(int("axis", num::i64_of(o.axis))))
}

pub(super) fn squeeze(e: &mut Emitter<'_>, node: &Node, o: &Squeeze) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    if o.axes.is_empty() {
        return Ok(last("Identity", [x]));
    }
    let axes = e.axes(&o.axes)?;
    Ok(last("Squeeze", [x, axes]))
}

pub(super) fn unsqueeze(e: &mut Emitter<'_>, node: &Node, o: &Unsqueeze) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    if o.axes.is_empty() {
        return Ok(last("Identity", [x]));
    }
    let axes = e.axes(&o.axes)?;
    Ok(last("Unsqueeze", [x, axes]))
}

pub(super) fn iota(e: &mut Emitter<'_>, o: &Iota) -> Result<Last> {
    let zero = e.scalar_int(0)?;
    let one = e.scalar_int(1)?;
    let len = match o.len.integer() {
        Some(n) => e.scalar_int(n)?,
        None => {
            let len = e.size(&o.len)?;
            let axis = e.vector(&[0])?;
            e.emit("Squeeze", [len, axis], vec![])
        }
    };
    let range = [zero, len, one];
    if o.dtype == DType::I64 {
        return Ok(last("Range", range));
    }
    let to = crate::onnx::types::data_type(o.dtype, e.opset)?;
    let range = e.emit("Range", range, vec![]);
    Ok(last("Cast", [range]).with(int("to", i64::from(i32::from(to)))))
}
