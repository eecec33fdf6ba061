//! Data movement that is known from shapes.

use super::emitter::{Emitter, Last, int, ints, last, string};
use crate::error::Result;
use crate::ir::ops::{
    BlockOrder, Concat, DepthToSpace, Expand, Iota, Pad, PadMode, Reshape, Reverse, Slice,
    SpaceToDepth, Squeeze, Tile, Transpose, Unsqueeze,
};
use crate::ir::{Dim, Node, ValueId};
use crate::onnx::proto::AttributeProto;
use crate::tensor::{DType, Tensor, num};

/// "To the end", whatever the size.
const END: i64 = i64::MAX;

pub(super) fn reshape(e: &mut Emitter<'_>, node: &Node, o: &Reshape) -> Result<Last> {
    let from = &e.ty(node.operands[0]).shape;
    let x = e.operand(node.operands[0])?;
    if o.shape.iter().any(|d| d.known() == Some(0)) {
        let shape = e.shape(&o.shape)?;
        if e.opset < 14 {
            // Nothing is in it, so that anything may be.
            let dtype = e.ty(node.operands[0]).dtype;
            let empty = last("ConstantOfShape", [shape]);
            return e.converted(empty, DType::F32, dtype);
        }
        // A size of 0 is meant here, not "as the operand".
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
    let len = e.size_scalar(&o.len)?;
    e.converted(last("Range", [zero, len, one]), DType::I64, o.dtype)
}

/// An operand of one element as a scalar of `dtype`.
pub(super) fn scalar_operand(e: &mut Emitter<'_>, value: ValueId, dtype: DType) -> Result<String> {
    one_element(e, value, dtype, 0)
}

/// An operand of one element as a tensor of `dtype` with this many axes.
pub(super) fn one_element(
    e: &mut Emitter<'_>,
    value: ValueId,
    dtype: DType,
    rank: usize,
) -> Result<String> {
    let found = e.ty(value).rank();
    let x = e.operand_as(value, dtype)?;
    if found == rank {
        return Ok(x);
    }
    let name = match rank {
        0 => "const/i64/scalar".to_owned(),
        _ => format!("const/i64/ones/{rank}"),
    };
    let shape = e.small(&name, &Tensor::i64(vec![rank], vec![1; rank])?)?;
    Ok(e.emit("Reshape", [x, shape], vec![]))
}

pub(super) fn mode_name(mode: PadMode) -> AttributeProto {
    let name = match mode {
        PadMode::Constant => "constant",
        PadMode::Reflect => "reflect",
        PadMode::Edge => "edge",
        PadMode::Wrap => "wrap",
    };
    string("mode", name)
}

pub(super) fn pad(e: &mut Emitter<'_>, node: &Node, o: &Pad) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    let ends = o.begin.iter().zip(&o.end).enumerate();
    if o.mode == PadMode::Wrap {
        let x = e.operand(node.operands[0])?;
        let mut pads = Vec::new();
        for (axis, (begin, end)) in ends {
            if begin.integer() != Some(0) || end.integer() != Some(0) {
                pads.push((axis, e.size_scalar(begin)?, e.size_scalar(end)?));
            }
        }
        return wrapped(e, x, pads);
    }
    // `Pad` mirrors once; what is mirrored again and again is picked by index.
    let beyond = |axis: usize, pad: &Dim| match (pad.known(), ty.shape[axis].known()) {
        (Some(p), Some(n)) => p >= n.max(1),
        (_, _) => false,
    };
    let more = o.mode == PadMode::Reflect
        && ends
            .clone()
            .any(|(axis, (b, e))| beyond(axis, b) || beyond(axis, e));
    if more {
        return reflected(e, node, o);
    }
    let kernel = e.kernel("Pad", ty.dtype)?;
    let x = e.operand_as(node.operands[0], kernel)?;
    let amounts: Vec<Dim> = o.begin.iter().chain(&o.end).cloned().collect();
    let amounts = e.shape(&amounts)?;
    let mut inputs = vec![x, amounts];
    if let Some(&value) = node.operands.get(1) {
        inputs.push(scalar_operand(e, value, kernel)?);
    }
    let pad = Last::of("Pad", inputs).with(mode_name(o.mode));
    e.converted(pad, kernel, ty.dtype)
}

/// Axes continued periodically, by (axis, how many before, how many after): `Pad` has that mode only since opset 19, and for no more than one
/// period.
pub(super) fn wrapped(
    e: &mut Emitter<'_>,
    mut x: String,
    pads: Vec<(usize, String, String)>,
) -> Result<Last> {
    for (axis, before, after) in pads {
        let shape = e.emit("Shape", [x.clone()], vec![]);
        let index = e.scalar_int(num::i64_of(axis))?;
        let size = e.emit("Gather", [shape, index], vec![int("axis", 0)]);
        let start = e.emit("Neg", [before], vec![]);
        let end = e.emit("Add", [size.clone(), after], vec![]);
        let one = e.scalar_int(1)?;
        let places = e.emit("Range", [start, end, one], vec![]);
        let places = e.emit("Mod", [places, size], vec![]);
        x = e.emit("Gather", [x, places], vec![int("axis", num::i64_of(axis))]);
    }
    Ok(last("Identity", [x]))
}

/// Mirroring beyond one period, of known sizes.
fn reflected(e: &mut Emitter<'_>, node: &Node, o: &Pad) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    let mut x = e.operand(node.operands[0])?;
    for (axis, (begin, end)) in o.begin.iter().zip(&o.end).enumerate() {
        if begin.integer() == Some(0) && end.integer() == Some(0) {
            continue;
        }
        let (Some(n), Some(begin), Some(end)) =
            (ty.shape[axis].integer(), begin.integer(), end.integer())
        else {
            return Err(crate::onnx::error::OnnxError::NotSaid {
                op: node.op.name(),
                reason: "mirroring beyond one period needs known sizes",
            }
            .into());
        };
        let period = (2 * (n - 1)).max(1);
        let places: Vec<i64> = (-begin..n + end)
            .map(|i| {
                let at = i.rem_euclid(period);
                at.min(period - at).min(n - 1)
            })
            .collect();
        let places = e.vector(&places)?;
        x = e.emit("Gather", [x, places], vec![int("axis", num::i64_of(axis))]);
    }
    Ok(last("Identity", [x]))
}

pub(super) fn tile(e: &mut Emitter<'_>, node: &Node, o: &Tile) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    let repeats = e.shape(&o.repeats)?;
    Ok(last("Tile", [x, repeats]))
}

pub(super) fn reverse(e: &mut Emitter<'_>, node: &Node, o: &Reverse) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    if o.axes.is_empty() {
        return Ok(last("Identity", [x]));
    }
    let count = o.axes.len();
    let starts = e.vector(&vec![-1; count])?;
    // Before the first element, however long the axis is.
    let ends = e.vector(&vec![-END; count])?;
    let axes = e.axes(&o.axes)?;
    let steps = e.vector(&vec![-1; count])?;
    Ok(last("Slice", [x, starts, ends, axes, steps]))
}

pub(super) fn depth_to_space(e: &mut Emitter<'_>, node: &Node, o: DepthToSpace) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    if let Ok(kernel) = e.kernel("DepthToSpace", ty.dtype)
        && kernel == ty.dtype
    {
        let x = e.operand(node.operands[0])?;
        let order = match o.order {
            BlockOrder::BlockFirst => "DCR",
            BlockOrder::BlockLast => "CRD",
        };
        return Ok(last("DepthToSpace", [x])
            .with(int("blocksize", num::i64_of(o.block)))
            .with(string("mode", order)));
    }
    let [n, c, h, w] = four(&ty.shape);
    let side = Dim::from(o.block);
    let channels = c.floor_div(&side.mul(&side)).unwrap_or_default();
    let (split, perm) = match o.order {
        BlockOrder::BlockFirst => (
            vec![
                n.clone(),
                side.clone(),
                side.clone(),
                channels.clone(),
                h.clone(),
                w.clone(),
            ],
            vec![0, 3, 4, 1, 5, 2],
        ),
        BlockOrder::BlockLast => (
            vec![
                n.clone(),
                channels.clone(),
                side.clone(),
                side.clone(),
                h.clone(),
                w.clone(),
            ],
            vec![0, 1, 4, 2, 5, 3],
        ),
    };
    let joined = [n, channels, h.mul(&side), w.mul(&side)];
    rearranged(e, node, &split, perm, &joined)
}

pub(super) fn space_to_depth(e: &mut Emitter<'_>, node: &Node, o: SpaceToDepth) -> Result<Last> {
    let ty = e.ty(node.operands[0]);
    if o.order == BlockOrder::BlockFirst
        && let Ok(kernel) = e.kernel("SpaceToDepth", ty.dtype)
        && kernel == ty.dtype
    {
        let x = e.operand(node.operands[0])?;
        return Ok(last("SpaceToDepth", [x]).with(int("blocksize", num::i64_of(o.block))));
    }
    let [n, c, h, w] = four(&ty.shape);
    let side = Dim::from(o.block);
    let (h, w) = (
        h.floor_div(&side).unwrap_or_default(),
        w.floor_div(&side).unwrap_or_default(),
    );
    let split = [
        n.clone(),
        c.clone(),
        h.clone(),
        side.clone(),
        w.clone(),
        side.clone(),
    ];
    let perm = match o.order {
        BlockOrder::BlockFirst => vec![0, 3, 5, 1, 2, 4],
        BlockOrder::BlockLast => vec![0, 1, 3, 5, 2, 4],
    };
    let joined = [n, c.mul(&side).mul(&side), h, w];
    rearranged(e, node, &split, perm, &joined)
}

/// The four dimensions of an image; inference saw to it that they are four.
fn four(shape: &[Dim]) -> [Dim; 4] {
    std::array::from_fn(|i| shape.get(i).cloned().unwrap_or_default())
}

/// Axes split, permuted and joined.
fn rearranged(
    e: &mut Emitter<'_>,
    node: &Node,
    split: &[Dim],
    perm: Vec<i64>,
    joined: &[Dim],
) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    let split = e.shape(split)?;
    let x = e.emit("Reshape", [x, split], vec![]);
    let x = e.emit("Transpose", [x], vec![ints("perm", perm)]);
    let joined = e.shape(joined)?;
    Ok(last("Reshape", [x, joined]))
}
