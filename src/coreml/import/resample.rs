//! Resizing to sizes that are computed at run time: every axis is gathered at places that are computed too.

use super::call::Call;
use super::elementwise::{op1, op2};
use super::entry::{Dims, Entry};
use super::image::Mode;
use super::layout::along;
use super::{Importer, runtime};
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, Cast, Compare, CompareKind, Gather, Reshape, Rounding, Sampling, Select, Slice,
    SliceRange, UnaryKind,
};
use crate::ir::{Op, ValueId};
use crate::tensor::DType;

/// The last `count` axes in the sizes that `sizes` has from `first` on; 0 leaves an axis as it is.
pub(super) fn resize_to_computed(
    importer: &mut Importer<'_>,
    call: &Call,
    x: ValueId,
    sizes: &Entry,
    (first, count): (usize, usize),
    mode: Mode,
    sampling: Sampling,
) -> Result<Vec<Entry>> {
    let ty = importer.ty(x);
    let rank = ty.rank();
    let sizes = importer.value(sizes, &format!("{}/shape", call.name))?;
    let sizes = importer.cast(call, "shape", sizes, DType::I32)?;
    let mut x = importer.cast(call, "x", x, DType::F32)?;
    for i in 0..count {
        let axis = rank - count + i;
        let at = first + i;
        let ranges = vec![SliceRange::new(0, at, at + 1)];
        let wanted = importer.step(call, "size", Op::Slice(Slice { ranges }), &[sizes])?;
        let scalar = Op::Reshape(Reshape { shape: Vec::new() });
        let wanted = importer.step(call, "size", scalar, &[wanted])?;
        x = resized(importer, call, x, axis, wanted, mode, sampling)?;
    }
    let x = importer.cast(call, "rounded", x, ty.dtype)?;
    Ok(vec![importer.entry(x)])
}

fn resized(
    importer: &mut Importer<'_>,
    call: &Call,
    x: ValueId,
    axis: usize,
    wanted: ValueId,
    mode: Mode,
    sampling: Sampling,
) -> Result<ValueId> {
    let ty = importer.ty(x);
    let own = Entry::Dims(Dims::scalar(DType::I32, ty.shape[axis].clone()));
    let own = importer.value(&own, &format!("{}/own", call.name))?;
    let zero = importer.scalar(call, "zero", DType::I32, 0.0)?;
    let kind = CompareKind::Equal;
    let same = importer.step(call, "same", Op::Compare(Compare { kind }), &[wanted, zero])?;
    let wanted = importer.step(call, "wanted", Op::Select(Select), &[same, own, wanted])?;
    let index = runtime::count_to(importer, call, wanted)?;
    let float = Op::Cast(Cast { to: DType::F32 });
    let index = importer.step(call, "index", float.clone(), &[index])?;
    let n = importer.step(call, "n", float.clone(), &[own])?;
    let m = importer.step(call, "m", float.clone(), &[wanted])?;
    let (offset, step) = spacing(importer, call, mode, n, m)?;
    let places = importer.step(call, "steps", op2(BinaryKind::Mul), &[index, step])?;
    let places = importer.step(call, "places", op2(BinaryKind::Add), &[places, offset])?;
    let zero = importer.scalar(call, "low", DType::F32, 0.0)?;
    let one = importer.scalar(call, "one", DType::F32, 1.0)?;
    let last = importer.step(call, "last", op2(BinaryKind::Sub), &[n, one])?;
    let places = importer.step(call, "places", op2(BinaryKind::Max), &[places, zero])?;
    let places = importer.step(call, "places", op2(BinaryKind::Min), &[places, last])?;
    let gather = |importer: &mut Importer<'_>, places: ValueId| -> Result<ValueId> {
        let to = Op::Cast(Cast { to: DType::I32 });
        let at = importer.step(call, "at", to, &[places])?;
        importer.step(call, "picked", Op::Gather(Gather { axis }), &[x, at])
    };
    if let Sampling::Nearest(rounding) = sampling {
        let half = importer.scalar(call, "half", DType::F32, 0.5)?;
        let nearest = if rounding == Rounding::PreferCeil {
            let moved = importer.step(call, "moved", op2(BinaryKind::Add), &[places, half])?;
            importer.step(call, "nearest", op1(UnaryKind::Floor), &[moved])?
        } else {
            let moved = importer.step(call, "moved", op2(BinaryKind::Sub), &[places, half])?;
            importer.step(call, "nearest", op1(UnaryKind::Ceil), &[moved])?
        };
        return gather(importer, nearest);
    }
    let low = importer.step(call, "floor", op1(UnaryKind::Floor), &[places])?;
    let high = importer.step(call, "next", op2(BinaryKind::Add), &[low, one])?;
    let high = importer.step(call, "high", op2(BinaryKind::Min), &[high, last])?;
    let weight = importer.step(call, "weight", op2(BinaryKind::Sub), &[places, low])?;
    let weight = along(importer, call, weight, axis, ty.rank())?;
    let (low, high) = (gather(importer, low)?, gather(importer, high)?);
    let more = importer.step(call, "more", op2(BinaryKind::Sub), &[high, low])?;
    let more = importer.step(call, "part", op2(BinaryKind::Mul), &[more, weight])?;
    importer.step(call, "mixed", op2(BinaryKind::Add), &[low, more])
}

/// Offset and step of the places, from the old and the new size.
fn spacing(
    importer: &mut Importer<'_>,
    call: &Call,
    mode: Mode,
    n: ValueId,
    m: ValueId,
) -> Result<(ValueId, ValueId)> {
    let zero = importer.scalar(call, "zero", DType::F32, 0.0)?;
    let one = importer.scalar(call, "one", DType::F32, 1.0)?;
    let half = importer.scalar(call, "half", DType::F32, 0.5)?;
    let inner = importer.step(call, "inner", op2(BinaryKind::Sub), &[n, one])?;
    Ok(match mode {
        Mode::Default => (
            zero,
            importer.step(call, "step", op2(BinaryKind::Div), &[n, m])?,
        ),
        Mode::UnalignCorners => {
            let step = importer.step(call, "step", op2(BinaryKind::Div), &[n, m])?;
            let middle = importer.step(call, "middle", op2(BinaryKind::Mul), &[step, half])?;
            let offset = importer.step(call, "offset", op2(BinaryKind::Sub), &[middle, half])?;
            (offset, step)
        }
        Mode::OffsetCorners => {
            let width = importer.step(call, "width", op2(BinaryKind::Max), &[inner, one])?;
            let step = importer.step(call, "step", op2(BinaryKind::Div), &[width, m])?;
            let offset = importer.step(call, "offset", op2(BinaryKind::Mul), &[step, half])?;
            (offset, step)
        }
        Mode::StrictAlignCorners | Mode::AlignCorners => {
            let gaps = importer.step(call, "gaps", op2(BinaryKind::Sub), &[m, one])?;
            let gaps = importer.step(call, "gaps", op2(BinaryKind::Max), &[gaps, one])?;
            let step = importer.step(call, "step", op2(BinaryKind::Div), &[inner, gaps])?;
            if mode == Mode::StrictAlignCorners {
                return Ok((zero, step));
            }
            let kind = CompareKind::LessEqual;
            let single = importer.step(call, "single", Op::Compare(Compare { kind }), &[m, one])?;
            let middle = importer.step(call, "middle", op2(BinaryKind::Mul), &[inner, half])?;
            let select = Op::Select(Select);
            (
                importer.step(call, "offset", select, &[single, middle, zero])?,
                step,
            )
        }
    })
}
