//! Shapes and bounds that are computed, and padding.

use super::emit::{Arg, Emitter, Var};
use crate::error::Result;
use crate::ir::ops::{Pad, PadBy, PadMode, SliceBy, Tile};
use crate::ir::{Dim, Type};
use crate::tensor::{DType, Tensor, num};

pub(super) fn size(e: &mut Emitter<'_>, dim: &Dim) -> Result<()> {
    let size = e.size(dim)?;
    let params = [("x", Arg::Var(&size)), ("axes", Arg::Ints(vec![0]))];
    e.finish("squeeze", &params)
}

fn mode(mode: PadMode) -> Arg<'static> {
    Arg::Text(match mode {
        PadMode::Reflect => "reflect",
        PadMode::Edge => "replicate",
        PadMode::Constant | PadMode::Wrap => "constant",
    })
}

/// The scalar behind an optional operand, as a parameter.
fn fill(e: &mut Emitter<'_>, x: &Var, value: Option<&Var>) -> Result<Option<Var>> {
    let Some(value) = value else { return Ok(None) };
    let rank = value.ty.rank();
    if rank == 0 {
        return Ok(Some(value.clone()));
    }
    // A scalar is asked for: the constant is written once more without its axes.
    let constant = e.constant_of(&value.id);
    match constant {
        Some(constant) => {
            let scalar = constant.reshape(Vec::new())?;
            let name = format!("{}#fill", e.name());
            Ok(Some(e.weight(&name, &scalar)?))
        }
        None => Ok(Some(x.clone())),
    }
}

/// Only the axes from the first padded one on are named: mirrored padding knows two.
pub(super) fn pad(e: &mut Emitter<'_>, op: &Pad, operands: &[Var]) -> Result<()> {
    let Some(x) = operands.first() else {
        return Ok(());
    };
    let zero = Dim::from(0);
    let padded = |a: &usize| op.begin[*a] != zero || op.end[*a] != zero;
    // Computed ones must be those of all axes.
    let computed = op.begin.iter().chain(&op.end).any(|d| d.known().is_none());
    let first = (0..op.begin.len()).find(padded).unwrap_or(0);
    let first = if computed { 0 } else { first };
    let amounts: Vec<Dim> = (first..op.begin.len())
        .flat_map(|a| [op.begin[a].clone(), op.end[a].clone()])
        .collect();
    let amounts = e.sizes("pad", &amounts)?;
    let value = fill(e, x, operands.get(1))?;
    let mut params = vec![
        ("x", Arg::Var(x)),
        ("pad", Arg::Var(&amounts)),
        ("mode", mode(op.mode)),
    ];
    match &value {
        Some(value) => params.push(("constant_val", Arg::Var(value))),
        None => params.push(("constant_val", Arg::Float(x.ty.dtype, 0.0))),
    }
    e.finish("pad", &params)
}

/// The amounts come as all that is before, then all that is after; programs want them axis by axis.
pub(super) fn pad_by(e: &mut Emitter<'_>, op: &PadBy, operands: &[Var]) -> Result<()> {
    let [x, amounts, value @ ..] = operands else {
        return Ok(());
    };
    let rank = x.ty.rank();
    let shape = Arg::Ints(vec![2, rank]);
    let pairs = Type::known(DType::I32, &[2, rank]);
    let pairs = e.step(
        "pairs",
        "reshape",
        pairs,
        &[("x", Arg::Var(amounts)), ("shape", shape)],
    )?;
    let turned = Type::known(DType::I32, &[rank, 2]);
    let turned = e.step(
        "turned",
        "transpose",
        turned,
        &[("x", Arg::Var(&pairs)), ("perm", Arg::Ints(vec![1, 0]))],
    )?;
    let flat = Type::known(DType::I32, &[2 * rank]);
    let shape = Arg::Ints(vec![2 * rank]);
    let flat = e.step(
        "amounts",
        "reshape",
        flat,
        &[("x", Arg::Var(&turned)), ("shape", shape)],
    )?;
    let value = fill(e, x, value.first())?;
    let mut params = vec![
        ("x", Arg::Var(x)),
        ("pad", Arg::Var(&flat)),
        ("mode", mode(op.mode)),
    ];
    match &value {
        Some(value) => params.push(("constant_val", Arg::Var(value))),
        None => params.push(("constant_val", Arg::Float(x.ty.dtype, 0.0))),
    }
    e.finish("pad", &params)
}

pub(super) fn tile(e: &mut Emitter<'_>, op: &Tile, x: &Var) -> Result<()> {
    let reps = e.sizes("reps", &op.repeats)?;
    e.finish("tile", &[("x", Arg::Var(x)), ("reps", Arg::Var(&reps))])
}

pub(super) fn tile_by(e: &mut Emitter<'_>, x: &Var, reps: &Var) -> Result<()> {
    e.finish("tile", &[("x", Arg::Var(x)), ("reps", Arg::Var(reps))])
}

pub(super) fn reshape_to(e: &mut Emitter<'_>, x: &Var, shape: &Var) -> Result<()> {
    e.finish("reshape", &[("x", Arg::Var(x)), ("shape", Arg::Var(shape))])
}

/// A product with ones of the computed shape.
pub(super) fn expand_to(e: &mut Emitter<'_>, x: &Var, shape: &Var) -> Result<()> {
    let rank = shape.ty.shape.first().and_then(Dim::known).unwrap_or(0);
    let unknown = vec![Dim::symbol("?"); rank];
    let ty = Type::new(x.ty.dtype, unknown);
    let one = e.scalar("one", x.ty.dtype, 1.0)?;
    let params = [("shape", Arg::Var(shape)), ("value", Arg::Var(&one))];
    let ones = e.step("ones", "fill", ty, &params)?;
    e.finish("mul", &[("x", Arg::Var(x)), ("y", Arg::Var(&ones))])
}

/// Bounds per named axis become bounds of all axes; the others are masked.
pub(super) fn slice_by(e: &mut Emitter<'_>, op: &SliceBy, operands: &[Var]) -> Result<()> {
    let [x, starts, ends] = operands else {
        return Ok(());
    };
    let rank = x.ty.rank();
    let mut mask = vec![true; rank];
    let mut stride = vec![1i64; rank];
    for (&axis, &step) in op.axes.iter().zip(&op.steps) {
        mask[axis] = false;
        stride[axis] = step;
    }
    let whole = op.axes.iter().copied().eq(0..rank);
    let mut bounds = Vec::with_capacity(2);
    for (step, var) in [("begin", starts), ("end", ends)] {
        if whole {
            bounds.push(var.clone());
            continue;
        }
        // Every axis takes its bound by its place in the vector; one zero follows for those that have none.
        let zero = Tensor::int(DType::I32, vec![1], vec![0])?;
        let zero = e.tensor(&format!("{step}_zero"), &zero)?;
        let parts = [var.clone(), zero];
        let ty = Type::known(DType::I32, &[op.axes.len() + 1]);
        let params = [
            ("values", Arg::Vars(&parts)),
            ("axis", Arg::Int(0)),
            ("interleave", Arg::Bool(false)),
        ];
        let joined = e.step(&format!("{step}_all"), "concat", ty, &params)?;
        let place = |a: usize| {
            op.axes
                .iter()
                .position(|&n| n == a)
                .unwrap_or(op.axes.len())
        };
        let places = Tensor::int(
            DType::I32,
            vec![rank],
            (0..rank).map(|a| num::i64_of(place(a))).collect(),
        )?;
        let places = e.tensor(&format!("{step}_places"), &places)?;
        let mut params = vec![
            ("x", Arg::Var(&joined)),
            ("indices", Arg::Var(&places)),
            ("axis", Arg::Int(0)),
        ];
        params.extend(e.gather_params());
        let ty = Type::known(DType::I32, &[rank]);
        bounds.push(e.step(step, "gather", ty, &params)?);
    }
    let params = [
        ("x", Arg::Var(x)),
        ("begin", Arg::Var(&bounds[0])),
        ("end", Arg::Var(&bounds[1])),
        ("stride", Arg::Signed(stride)),
        ("begin_mask", Arg::Bools(mask.clone())),
        ("end_mask", Arg::Bools(mask)),
    ];
    e.finish("slice_by_index", &params)
}

pub(super) fn range_by(e: &mut Emitter<'_>, operands: &[Var]) -> Result<()> {
    let [start, end, step] = operands else {
        return Ok(());
    };
    let params = [
        ("end", Arg::Var(end)),
        ("start", Arg::Var(start)),
        ("step", Arg::Var(step)),
    ];
    e.finish("range_1d", &params)
}

/// Programs list the places row by row.
pub(super) fn non_zero(e: &mut Emitter<'_>, x: &Var) -> Result<()> {
    let mut ty = e.result_type().clone();
    ty.shape.reverse();
    let places = e.step("places", "non_zero", ty, &[("x", Arg::Var(x))])?;
    let perm = Arg::Ints(vec![1, 0]);
    e.finish("transpose", &[("x", Arg::Var(&places)), ("perm", perm)])
}
