//! Data movement that is known from shapes.

use super::emit::{Arg, Emitter, Var};
use crate::error::Result;
use crate::ir::ops::{
    BlockOrder, Concat, DepthToSpace, Expand, Iota, Reshape, Reverse, Slice, SpaceToDepth, Squeeze,
    Transpose, Unsqueeze,
};
use crate::ir::{Dim, Type};
use crate::tensor::{DType, Tensor, num};

/// At most one size that is not known can be inferred; with more of them, all are computed.
pub(super) fn reshape(e: &mut Emitter<'_>, op: &Reshape, x: &Var) -> Result<()> {
    if op.shape.is_empty() {
        // A shape without numbers would be a constant without elements.
        if x.ty.rank() == 0 {
            return e.finish("identity", &[("x", Arg::Var(x))]);
        }
        let axes = Arg::Ints((0..x.ty.rank()).collect());
        return e.finish("squeeze", &[("x", Arg::Var(x)), ("axes", axes)]);
    }
    let unknown = op.shape.iter().filter(|d| d.known().is_none()).count();
    if unknown > 1 {
        let shape = e.sizes("shape", &op.shape)?;
        return e.finish(
            "reshape",
            &[("x", Arg::Var(x)), ("shape", Arg::Var(&shape))],
        );
    }
    let size = |d: &Dim| d.known().map_or(-1, num::i64_of);
    let shape = Arg::Signed(op.shape.iter().map(size).collect());
    e.finish("reshape", &[("x", Arg::Var(x)), ("shape", shape)])
}

pub(super) fn transpose(e: &mut Emitter<'_>, op: &Transpose, x: &Var) -> Result<()> {
    let perm = Arg::Ints(op.perm.clone());
    e.finish("transpose", &[("x", Arg::Var(x)), ("perm", perm)])
}

/// How a value becomes as large as a shape.
pub(super) enum Broadcast {
    /// It is.
    Same,
    /// It lacks leading axes of size 1, this many.
    Axes(usize),
    /// It lacks leading axes, and is repeated along some axes.
    Tile {
        /// Missing axes.
        axes: usize,
        /// How often, by axis of the result.
        reps: Vec<Dim>,
    },
}

/// How a value of this type becomes as large as `shape`.
pub(super) fn broadcast_to(ty: &Type, shape: &[Dim]) -> Broadcast {
    let one = Dim::from(1);
    let axes = shape.len().saturating_sub(ty.rank());
    let reps: Vec<Dim> = shape
        .iter()
        .enumerate()
        .map(|(i, size)| {
            let own = i.checked_sub(axes).map_or(&one, |j| &ty.shape[j]);
            if own == size {
                one.clone()
            } else if own.known().is_some() {
                size.clone()
            } else {
                // It is 1 or as large as it has to be.
                size.floor_div(own).unwrap_or_else(|| size.clone())
            }
        })
        .collect();
    if reps.iter().any(|r| *r != one) {
        Broadcast::Tile { axes, reps }
    } else if axes > 0 {
        Broadcast::Axes(axes)
    } else {
        Broadcast::Same
    }
}

/// The value with its missing leading axes.
fn with_axes(e: &mut Emitter<'_>, axes: usize, x: &Var) -> Result<Var> {
    if axes == 0 {
        return Ok(x.clone());
    }
    let mut shape = vec![Dim::from(1); axes];
    shape.extend_from_slice(&x.ty.shape);
    let params = [("x", Arg::Var(x)), ("axes", Arg::Ints((0..axes).collect()))];
    e.step("axes", "expand_dims", Type::new(x.ty.dtype, shape), &params)
}

/// A broadcast on the way to the node's value.
pub(super) fn broadcast_step(
    e: &mut Emitter<'_>,
    plan: &Broadcast,
    x: &Var,
    shape: &[Dim],
) -> Result<Var> {
    match plan {
        Broadcast::Same => Ok(x.clone()),
        Broadcast::Axes(axes) => with_axes(e, *axes, x),
        Broadcast::Tile { axes, reps } => {
            let x = with_axes(e, *axes, x)?;
            let reps = e.sizes("reps", reps)?;
            let ty = Type::new(x.ty.dtype, shape.to_vec());
            let params = [("x", Arg::Var(&x)), ("reps", Arg::Var(&reps))];
            e.step("tiled", "tile", ty, &params)
        }
    }
}

pub(super) fn expand(e: &mut Emitter<'_>, op: &Expand, x: &Var) -> Result<()> {
    match broadcast_to(&x.ty, &op.shape) {
        Broadcast::Same => e.finish("identity", &[("x", Arg::Var(x))]),
        Broadcast::Axes(axes) => {
            let axes = Arg::Ints((0..axes).collect());
            e.finish("expand_dims", &[("x", Arg::Var(x)), ("axes", axes)])
        }
        Broadcast::Tile { axes, reps } => {
            let x = with_axes(e, axes, x)?;
            let reps = e.sizes("reps", &reps)?;
            e.finish("tile", &[("x", Arg::Var(&x)), ("reps", Arg::Var(&reps))])
        }
    }
}

/// Whole axes are masked and distances from an end are negative numbers, so that most slices need no size at run time.
pub(super) fn slice(e: &mut Emitter<'_>, op: &Slice, x: &Var) -> Result<()> {
    let rank = x.ty.rank();
    let zero = Dim::from(0);
    let (mut begin, mut end) = (vec![zero.clone(); rank], vec![zero.clone(); rank]);
    let (mut begin_mask, mut end_mask) = (vec![true; rank], vec![true; rank]);
    let mut stride = vec![1; rank];
    for range in &op.ranges {
        let (axis, size) = (range.axis, &x.ty.shape[range.axis]);
        stride[axis] = range.step;
        end_mask[axis] = range.end == *size;
        begin_mask[axis] = end_mask[axis] && range.start == zero;
        if !begin_mask[axis] {
            begin[axis] = index(&range.start, size);
        }
        if !end_mask[axis] {
            end[axis] = index(&range.end, size);
        }
    }
    let begin = e.sizes("begin", &begin)?;
    let end = e.sizes("end", &end)?;
    let params = [
        ("x", Arg::Var(x)),
        ("begin", Arg::Var(&begin)),
        ("end", Arg::Var(&end)),
        ("stride", Arg::Ints(stride)),
        ("begin_mask", Arg::Bools(begin_mask)),
        ("end_mask", Arg::Bools(end_mask)),
    ];
    e.finish("slice_by_index", &params)
}

/// A place on an axis: as it is when that is known, else as its distance from the end when that is.
fn index(place: &Dim, size: &Dim) -> Dim {
    let back = place.sub(size);
    match (place.known(), back.integer()) {
        (None, Some(n)) if n < 0 => back,
        _ => place.clone(),
    }
}

pub(super) fn concat(e: &mut Emitter<'_>, op: &Concat, values: &[Var]) -> Result<()> {
    let params = [
        ("values", Arg::Vars(values)),
        ("axis", Arg::Int(op.axis)),
        ("interleave", Arg::Bool(false)),
    ];
    e.finish("concat", &params)
}

pub(super) fn squeeze(e: &mut Emitter<'_>, op: &Squeeze, x: &Var) -> Result<()> {
    if op.axes.is_empty() {
        // Without axes the operation would remove every axis of size 1.
        return e.finish("identity", &[("x", Arg::Var(x))]);
    }
    let rank = x.ty.rank();
    if rank > op.axes.len() && x.ty.shape.iter().any(Dim::is_run_time) {
        // Loaders infer such shapes anew, and may not see that the size is 1: then their `squeeze` leaves it. A mask does not ask.
        let single: Vec<bool> = (0..rank).map(|axis| op.axes.contains(&axis)).collect();
        let whole: Vec<bool> = single.iter().map(|single| !single).collect();
        let params = [
            ("x", Arg::Var(x)),
            ("begin", Arg::Ints(vec![0; rank])),
            ("end", Arg::Ints(vec![1; rank])),
            ("begin_mask", Arg::Bools(whole.clone())),
            ("end_mask", Arg::Bools(whole)),
            ("squeeze_mask", Arg::Bools(single)),
        ];
        return e.finish("slice_by_index", &params);
    }
    let axes = Arg::Ints(op.axes.clone());
    e.finish("squeeze", &[("x", Arg::Var(x)), ("axes", axes)])
}

pub(super) fn unsqueeze(e: &mut Emitter<'_>, op: &Unsqueeze, x: &Var) -> Result<()> {
    if op.axes.is_empty() {
        return e.finish("identity", &[("x", Arg::Var(x))]);
    }
    let axes = Arg::Ints(op.axes.clone());
    e.finish("expand_dims", &[("x", Arg::Var(x)), ("axes", axes)])
}

/// A known sequence is a constant; another is counted at run time.
pub(super) fn iota(e: &mut Emitter<'_>, op: &Iota) -> Result<()> {
    if let Some(n) = op.len.known() {
        let values = (0..n).map(num::i64_of).collect();
        let x = e.tensor("values", &Tensor::int(op.dtype, vec![n], values)?)?;
        return e.finish("identity", &[("x", Arg::Var(&x))]);
    }
    let len = e.size(&op.len)?;
    let params = [("x", Arg::Var(&len)), ("axes", Arg::Ints(vec![0]))];
    let end = e.step("len", "squeeze", Type::known(DType::I32, &[]), &params)?;
    let zero = e.scalar("start", DType::I32, 0.0)?;
    let one = e.scalar("step", DType::I32, 1.0)?;
    let params = [
        ("end", Arg::Var(&end)),
        ("start", Arg::Var(&zero)),
        ("step", Arg::Var(&one)),
    ];
    e.finish("range_1d", &params)
}

pub(super) fn reverse(e: &mut Emitter<'_>, op: &Reverse, x: &Var) -> Result<()> {
    if op.axes.is_empty() {
        return e.finish("identity", &[("x", Arg::Var(x))]);
    }
    let axes = Arg::Ints(op.axes.clone());
    e.finish("reverse", &[("x", Arg::Var(x)), ("axes", axes)])
}

pub(super) fn depth_to_space(e: &mut Emitter<'_>, op: &DepthToSpace, x: &Var) -> Result<()> {
    let block = Arg::Int(op.block);
    match op.order {
        BlockOrder::BlockFirst => e.finish(
            "depth_to_space",
            &[("x", Arg::Var(x)), ("block_size", block)],
        ),
        BlockOrder::BlockLast => e.finish(
            "pixel_shuffle",
            &[("x", Arg::Var(x)), ("upscale_factor", block)],
        ),
    }
}

pub(super) fn space_to_depth(e: &mut Emitter<'_>, op: &SpaceToDepth, x: &Var) -> Result<()> {
    if op.order == BlockOrder::BlockLast {
        let factor = Tensor::int(DType::U32, vec![], vec![num::i64_of(op.block)])?;
        let factor = e.tensor("factor", &factor)?;
        let params = [("x", Arg::Var(x)), ("downscale_factor", Arg::Var(&factor))];
        return e.finish("pixel_unshuffle", &params);
    }
    let params = [("x", Arg::Var(x)), ("block_size", Arg::Int(op.block))];
    e.finish("space_to_depth", &params)
}
