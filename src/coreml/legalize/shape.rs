//! Padding that programs do not have, blocks of pixels that are not floats, and shapes that are computed.

use super::dtype::legal;
use super::lower::{Lower, Map, dims};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, BlockOrder, CompareKind, DepthToSpace, ExpandTo, NonZero, Pad, PadBy, PadMode,
    RangeBy, Reverse, Size, SliceBy, SliceRange, SpaceToDepth, Tile,
};
use crate::ir::{Def, Dim, Function, Node, Op, ValueId};
use crate::tensor::{DType, num};

/// Constant padding of floats by a known value, and mirroring or repeating the border of one or both of the last two axes, is what programs have.
pub(super) fn pad(l: &mut Lower<'_>, op: &Pad, operands: &[ValueId]) -> Result<ValueId> {
    let x = operands[0];
    let rank = l.ty(x).rank();
    let zero = Dim::from(0);
    let axes: Vec<usize> = (0..rank)
        .filter(|&a| op.begin[a] != zero || op.end[a] != zero)
        .collect();
    if axes.is_empty() {
        return Ok(x);
    }
    match op.mode {
        PadMode::Constant => constant(l, op, &axes, x, operands.get(1).copied()),
        PadMode::Reflect | PadMode::Edge
            if l.ty(x).dtype.is_float()
                && axes.iter().all(|&a| a + 2 >= rank)
                && fits(l, op, x) =>
        {
            l.push(Op::Pad(op.clone()), &[x])
        }
        PadMode::Reflect | PadMode::Edge | PadMode::Wrap => {
            let mut x = x;
            for axis in axes {
                x = picked(l, op, x, axis)?;
            }
            Ok(x)
        }
    }
}

/// Whether mirrored padding is smaller than the axis.
fn fits(l: &Lower<'_>, op: &Pad, x: ValueId) -> bool {
    let shape = &l.ty(x).shape;
    op.mode == PadMode::Edge
        || shape
            .iter()
            .zip(op.begin.iter().zip(&op.end))
            .all(|(n, (b, e))| {
                let below = |p: &Dim| match (p.known(), n.known()) {
                    (Some(p), Some(n)) => p < n,
                    (Some(0), None) => true,
                    (_, _) => false,
                };
                below(b) && below(e)
            })
}

fn constant(
    l: &mut Lower<'_>,
    op: &Pad,
    axes: &[usize],
    x: ValueId,
    value: Option<ValueId>,
) -> Result<ValueId> {
    let fixed = value.is_none_or(|v| l.as_constant(v).is_some());
    // Amounts that are computed may be 0, which no tensor can be put before or behind.
    if l.ty(x).dtype.is_float() && fixed {
        let operands: Vec<ValueId> = std::iter::once(x).chain(value).collect();
        return l.push(Op::Pad(op.clone()), &operands);
    }
    let value = match value {
        Some(value) => l.scalar_of(value)?,
        None if l.ty(x).dtype == DType::Bool => {
            let no = crate::tensor::Tensor::bool(vec![], vec![false])?;
            l.tensor(&no)?
        }
        None => l.like(x, 0.0)?,
    };
    let mut x = x;
    for &axis in axes {
        let mut parts = Vec::with_capacity(3);
        for (i, amount) in [&op.begin[axis], &op.end[axis]].into_iter().enumerate() {
            if i == 1 {
                parts.push(x);
            }
            if *amount != Dim::from(0) {
                let mut shape = l.shape(x);
                shape[axis] = amount.clone();
                parts.push(l.expand(value, shape)?);
            }
        }
        x = l.concat(&parts, axis)?;
    }
    Ok(x)
}

/// Padding of one axis: every element of the result is one of the operand.
fn picked(l: &mut Lower<'_>, op: &Pad, x: ValueId, axis: usize) -> Result<ValueId> {
    let (Some(n), Some(begin), Some(end)) = (
        l.ty(x).shape[axis].known(),
        op.begin[axis].known(),
        op.end[axis].known(),
    ) else {
        return around(l, op, x, axis);
    };
    let (size, first) = (num::i64_of(n), num::i64_of(begin));
    let source = |i: usize| {
        let at = num::i64_of(i) - first;
        match op.mode {
            PadMode::Wrap => at.rem_euclid(size),
            PadMode::Reflect if size > 1 => {
                let at = at.rem_euclid(2 * (size - 1));
                at.min(2 * (size - 1) - at)
            }
            PadMode::Reflect | PadMode::Edge | PadMode::Constant => at.clamp(0, size - 1),
        }
    };
    let places = (0..n + begin + end).map(source).collect();
    let places = l.ints(places)?;
    l.gather(x, places, axis)
}

/// The same for a size that is not known, of which the padding is a part.
fn around(l: &mut Lower<'_>, op: &Pad, x: ValueId, axis: usize) -> Result<ValueId> {
    let size = l.ty(x).shape[axis].clone();
    let one = Dim::from(1);
    let mut parts = Vec::with_capacity(3);
    for (at_end, amount) in [(false, &op.begin[axis]), (true, &op.end[axis])] {
        if at_end {
            parts.push(x);
        }
        if *amount == Dim::from(0) {
            continue;
        }
        let tail = size.sub(amount);
        let (from, to) = match (op.mode, at_end) {
            (PadMode::Wrap, false) => (tail, size.clone()),
            (PadMode::Wrap, true) => (Dim::from(0), amount.clone()),
            (PadMode::Reflect, false) => (one.clone(), amount.add(&one)),
            (PadMode::Reflect, true) => (tail.sub(&one), size.sub(&one)),
            (PadMode::Edge | PadMode::Constant, false) => (Dim::from(0), one.clone()),
            (PadMode::Edge | PadMode::Constant, true) => (size.sub(&one), size.clone()),
        };
        let mut part = l.slice(x, vec![SliceRange::new(axis, from, to)])?;
        if op.mode == PadMode::Reflect {
            let axes = vec![axis];
            part = l.push(Op::Reverse(Reverse { axes }), &[part])?;
        } else if op.mode == PadMode::Edge {
            let mut repeats = vec![one.clone(); l.ty(x).rank()];
            repeats[axis] = amount.clone();
            part = l.push(Op::Tile(Tile { repeats }), &[part])?;
        }
        parts.push(part);
    }
    l.concat(&parts, axis)
}

/// Repeats of the border by computed amounts: along every axis the elements are picked at places that are computed.
fn picked_by(l: &mut Lower<'_>, op: &PadBy, mut x: ValueId, amounts: ValueId) -> Result<ValueId> {
    let rank = l.ty(x).rank();
    for axis in 0..rank {
        let dim = l.ty(x).shape[axis].clone();
        if op.shape[axis] == dim {
            continue;
        }
        let mut ends = Vec::with_capacity(2);
        for at in [axis, rank + axis] {
            let amount = l.part(amounts, 0, at, at + 1)?;
            ends.push(l.scalar_of(amount)?);
        }
        let dtype = DType::I32;
        let size = l.push(Op::Size(Size { dtype, dim }), &[])?;
        let total = l.binary(BinaryKind::Add, size, ends[0])?;
        let total = l.binary(BinaryKind::Add, total, ends[1])?;
        let (zero, one) = (l.scalar(dtype, 0.0)?, l.scalar(dtype, 1.0)?);
        let len = op.shape[axis].clone();
        let count = l.push(Op::RangeBy(RangeBy { len }), &[zero, total, one])?;
        let at = l.binary(BinaryKind::Sub, count, ends[0])?;
        let last = l.with(BinaryKind::Sub, size, 1.0)?;
        let places = match op.mode {
            PadMode::Wrap => l.binary(BinaryKind::Mod, at, size)?,
            PadMode::Reflect => {
                let period = l.with(BinaryKind::Mul, last, 2.0)?;
                let period = l.with(BinaryKind::Max, period, 1.0)?;
                let at = l.binary(BinaryKind::Mod, at, period)?;
                let back = l.binary(BinaryKind::Sub, period, at)?;
                l.binary(BinaryKind::Min, at, back)?
            }
            PadMode::Edge | PadMode::Constant => {
                let at = l.with(BinaryKind::Max, at, 0.0)?;
                l.binary(BinaryKind::Min, at, last)?
            }
        };
        x = l.gather(x, places, axis)?;
    }
    Ok(x)
}

/// Padding by computed amounts: by a constant it is an operation for floats.
pub(super) fn pad_by(l: &mut Lower<'_>, op: &PadBy, operands: &[ValueId]) -> Result<ValueId> {
    let amounts = l.cast(operands[1], DType::I32)?;
    let x = operands[0];
    if op.mode != PadMode::Constant {
        return picked_by(l, op, x, amounts);
    }
    let value = operands.get(2).copied();
    if value.is_some_and(|v| l.as_constant(v).is_none()) || !l.ty(x).dtype.is_float() {
        // Where ones became zeros, the value belongs.
        let value = match value {
            Some(value) => l.scalar_of(value)?,
            None => l.like(x, 0.0)?,
        };
        let one = l.scalar(DType::F32, 1.0)?;
        let shape = l.shape(x);
        let ones = l.expand(one, shape)?;
        let inside = l.push(Op::PadBy(op.clone()), &[ones, amounts])?;
        let inside = l.compare_with(CompareKind::NotEqual, inside, 0.0)?;
        let dtype = l.ty(x).dtype;
        let float = l.cast(x, if dtype.is_float() { dtype } else { DType::F32 })?;
        let padded = l.push(Op::PadBy(op.clone()), &[float, amounts])?;
        let padded = l.cast(padded, dtype)?;
        return l.select(inside, padded, value);
    }
    let operands: Vec<ValueId> = [x, amounts].into_iter().chain(value).collect();
    l.push(Op::PadBy(op.clone()), &operands)
}

/// Programs have it for floats; anything else goes the way of reshapes.
pub(super) fn depth_to_space(l: &mut Lower<'_>, op: &DepthToSpace, x: ValueId) -> Result<ValueId> {
    if l.ty(x).dtype.is_float() {
        return l.push(Op::DepthToSpace(*op), &[x]);
    }
    let shape = l.known("depth_to_space", x)?;
    let (n, c, h, w, b) = (
        shape[0],
        shape[1] / (op.block * op.block),
        shape[2],
        shape[3],
        op.block,
    );
    let x = match op.order {
        BlockOrder::BlockLast => x,
        BlockOrder::BlockFirst => {
            let apart = l.reshape(x, dims(&[n, b * b, c, h * w]))?;
            l.transpose(apart, vec![0, 2, 1, 3])?
        }
    };
    let apart = l.reshape(x, dims(&[n * c, b, b, h, w]))?;
    let woven = l.transpose(apart, vec![0, 3, 1, 4, 2])?;
    l.reshape(woven, dims(&[n, c, h * b, w * b]))
}

/// Programs have it for floats, with the block last from CoreML6 on; anything else goes the way of reshapes.
pub(super) fn space_to_depth(l: &mut Lower<'_>, op: &SpaceToDepth, x: ValueId) -> Result<ValueId> {
    let has = op.order == BlockOrder::BlockFirst || l.opset >= Opset::CoreML6;
    if l.ty(x).dtype.is_float() && has {
        return l.push(Op::SpaceToDepth(*op), &[x]);
    }
    let shape = l.known("space_to_depth", x)?;
    let b = op.block;
    let (n, c, h, w) = (shape[0], shape[1], shape[2] / b, shape[3] / b);
    let apart = l.reshape(x, dims(&[n * c, h, b, w, b]))?;
    let mut out = l.transpose(apart, vec![0, 2, 4, 1, 3])?;
    if op.order == BlockOrder::BlockFirst {
        let blocks = l.reshape(out, dims(&[n, c, b * b, h * w]))?;
        out = l.transpose(blocks, vec![0, 2, 1, 3])?;
    }
    l.reshape(out, dims(&[n, c * b * b, h, w]))
}

/// A product with ones of the computed shape broadcasts both ways.
pub(super) fn expand_to(
    l: &mut Lower<'_>,
    op: &ExpandTo,
    x: ValueId,
    shape: ValueId,
) -> Result<ValueId> {
    let shape = l.cast(shape, DType::I32)?;
    let dtype = l.ty(x).dtype;
    let inside = if dtype.is_float() { dtype } else { DType::I32 };
    let x = l.cast(x, inside)?;
    let wide = l.push(Op::ExpandTo(op.clone()), &[x, shape])?;
    l.cast(wide, dtype)
}

/// Bounds of each axis: counted from the start, and inside it. An axis that is walked backwards is reversed first.
pub(super) fn slice_by(
    l: &mut Lower<'_>,
    old: &Function,
    map: &Map,
    node: &Node,
    op: &SliceBy,
) -> Result<ValueId> {
    let mut x = l.value(old, map, node.operands[0])?;
    let mut bounds = Vec::with_capacity(2);
    for &operand in &node.operands[1..3] {
        bounds.push(bound(l, old, map, operand)?);
    }
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    let mut steps = Vec::new();
    for (i, (&axis, &step)) in op.axes.iter().zip(&op.steps).enumerate() {
        let dtype = DType::I32;
        let dim = l.ty(x).shape[axis].clone();
        let size = l.push(Op::Size(Size { dtype, dim }), &[])?;
        let size = l.unsqueeze(size, vec![0])?;
        if step < 0 {
            let axes = vec![axis];
            x = l.push(Op::Reverse(Reverse { axes }), &[x])?;
        }
        for (k, out) in [(0, &mut starts), (1, &mut ends)] {
            let at = l.part(bounds[k], 0, i, i + 1)?;
            let wrapped = l.binary(BinaryKind::Add, at, size)?;
            let below = l.compare_with(CompareKind::Less, at, 0.0)?;
            let mut at = l.select(below, wrapped, at)?;
            if step < 0 {
                let last = l.with(BinaryKind::Sub, size, 1.0)?;
                at = l.binary(BinaryKind::Sub, last, at)?;
            }
            let at = l.with(BinaryKind::Max, at, 0.0)?;
            out.push(l.binary(BinaryKind::Min, at, size)?);
        }
        steps.push(num::i64_of(num::usize_of(step.unsigned_abs())));
    }
    let starts = l.concat(&starts, 0)?;
    let ends = l.concat(&ends, 0)?;
    let slice = SliceBy {
        axes: op.axes.clone(),
        steps,
        shape: op.shape.clone(),
    };
    l.push(Op::SliceBy(slice), &[x, starts, ends])
}

/// Bounds as `int32`. A constant beyond it means the end of the axis, as the largest `int32` does.
pub(super) fn bound(
    l: &mut Lower<'_>,
    old: &Function,
    map: &Map,
    operand: ValueId,
) -> Result<ValueId> {
    if let Def::Const(id) = old.value(operand).def {
        let tensor = l.module.constant(id).read()?;
        let most = i64::from(i32::MAX / 2);
        let values = tensor.ints()?.iter().map(|v| (*v).clamp(-most, most));
        return l.ints(values.collect());
    }
    let value = l.value(old, map, operand)?;
    l.cast(value, DType::I32)
}

pub(super) fn range_by(l: &mut Lower<'_>, op: &Op, operands: &[ValueId]) -> Result<ValueId> {
    let dtype = l.ty(operands[0]).dtype;
    let inside = if dtype.is_float() { dtype } else { DType::I32 };
    let scalars = operands
        .iter()
        .map(|&v| {
            let v = l.scalar_of(v)?;
            l.cast(v, inside)
        })
        .collect::<Result<Vec<_>>>()?;
    let range = l.push(op.clone(), &scalars)?;
    l.cast(range, dtype)
}

pub(super) fn non_zero(l: &mut Lower<'_>, op: &NonZero, x: ValueId) -> Result<ValueId> {
    if l.ty(x).rank() == 0 {
        return Err(l.refuse("non_zero", "a scalar has no places"));
    }
    let found = NonZero {
        dtype: DType::I32,
        count: op.count.clone(),
    };
    let found = l.push(Op::NonZero(found), &[x])?;
    l.cast(found, legal(op.dtype, l.opset))
}
