//! Data movement that is made of other operations: windows, bands, one-hot vectors, updates of a part.

use super::call::Call;
use super::elementwise::op2;
use super::entry::Entry;
use super::{Handler, Importer};
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, Compare, CompareKind, Concat, Gather, Iota, MatMul, Reshape, Select, Slice,
    SliceRange, Transpose, Unsqueeze,
};
use crate::ir::{Constant, Dim, Op, ValueId, normalize_axis};
use crate::limits;
use crate::tensor::{DType, Tensor, num};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "flatten2d" => flatten2d,
        "reshape_like" => reshape_like,
        "sliding_windows" => sliding_windows,
        "crop" => crop,
        "band_part" => band_part,
        "one_hot" => one_hot,
        "slice_update" => slice_update,
        "einsum" => einsum,
        "space_to_batch" => space_to_batch,
        "batch_to_space" => batch_to_space,
        _ => return None,
    };
    Some(handler)
}

fn product(dims: &[Dim]) -> Dim {
    dims.iter().fold(Dim::from(1), |n, d| n.mul(d))
}

/// Everything before an axis, and everything from it on.
fn flatten2d(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    // One past the last axis is allowed: a column.
    let axis = call.int("axis")?.unwrap_or(1);
    let axis = if usize::try_from(axis) == Ok(shape.len()) {
        shape.len()
    } else {
        normalize_axis(axis, shape.len())?
    };
    let shape = vec![product(&shape[..axis]), product(&shape[axis..])];
    importer.result(call, Op::Reshape(Reshape { shape }), &[x])
}

/// A shape put together from parts of the shapes of other tensors.
fn reshape_like(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let references = call.list("ref_tensors")?;
    let begins = scalars(call, "begins")?;
    let ends = scalars(call, "ends")?;
    let masks = call.bool_list("end_masks")?;
    let n = references.len();
    if [begins.len(), ends.len(), masks.len()] != [n; 3] {
        let found = format!("{}, {} and {}", begins.len(), ends.len(), masks.len());
        return Err(call
            .wrong(
                "begins",
                &format!("{n} entries, ends and masks too"),
                &found,
            )
            .into());
    }
    let mut shape = Vec::new();
    for (i, reference) in references.iter().enumerate() {
        let Some(ty) = reference.ty() else {
            return Err(call
                .wrong("ref_tensors", "a tensor", &reference.describe())
                .into());
        };
        let rank = num::i64_of(ty.rank());
        let place = |at: i64| {
            let at = if at < 0 { at.saturating_add(rank) } else { at };
            usize::try_from(at.clamp(0, rank)).unwrap_or(0)
        };
        let end = if masks[i] { ty.rank() } else { place(ends[i]) };
        shape.extend_from_slice(ty.shape.get(place(begins[i])..end).unwrap_or_default());
    }
    importer.result(call, Op::Reshape(Reshape { shape }), &[x])
}

/// Whole numbers, one per value of a tuple.
fn scalars(call: &mut Call, parameter: &str) -> Result<Vec<i64>> {
    let entries = call.list(parameter)?;
    let mut out = Vec::with_capacity(entries.len());
    for entry in entries {
        match entry.dims()?.and_then(|d| d.integers()).as_deref() {
            Some([n]) => out.push(*n),
            Some(_) | None => {
                return Err(call
                    .wrong(parameter, "constant integers", &entry.describe())
                    .into());
            }
        }
    }
    Ok(out)
}

/// Whole numbers as a constant vector or matrix.
pub(super) fn indices(
    importer: &mut Importer<'_>,
    call: &Call,
    suffix: &str,
    shape: Vec<usize>,
    values: Vec<i64>,
) -> Result<ValueId> {
    let tensor = Tensor::int(DType::I32, shape, values)?;
    let name = format!("{}/{suffix}", call.name);
    Ok(importer
        .builder
        .constant(Constant::from_tensor(&name, &tensor)?))
}

/// `0, 1, … n − 1`; a constant when `n` is known.
pub(super) fn count(
    importer: &mut Importer<'_>,
    call: &Call,
    suffix: &str,
    n: &Dim,
) -> Result<ValueId> {
    match n.known() {
        Some(known) if num::u64_of(known) <= limits::FOLDED_ELEMENTS.get() => {
            let values = (0..num::i64_of(known)).collect();
            indices(importer, call, suffix, vec![known], values)
        }
        Some(_) | None => {
            let iota = Op::Iota(Iota {
                dtype: DType::I32,
                len: n.clone(),
            });
            importer.step(call, suffix, iota, &[])
        }
    }
}

/// A vector that broadcasts along `axis` of a tensor of this rank.
pub(super) fn along(
    importer: &mut Importer<'_>,
    call: &Call,
    vector: ValueId,
    axis: usize,
    rank: usize,
) -> Result<ValueId> {
    if rank <= 1 {
        return Ok(vector);
    }
    let ty = importer.ty(vector);
    if let (Some(constant), Some(n)) = (
        importer.builder.as_constant(vector).cloned(),
        ty.shape.first().and_then(Dim::known),
    ) {
        let mut shape = vec![1; rank];
        shape[axis] = n;
        return Ok(importer.builder.constant(constant.reshape(shape)?));
    }
    let axes = (0..rank).filter(|&a| a != axis).collect();
    importer.step(call, "along", Op::Unsqueeze(Unsqueeze { axes }), &[vector])
}

/// Windows of one axis, which becomes two: which window, and where in it.
fn sliding_windows(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let axis = call.axis("axis", shape.len(), 0)?;
    let size = call.int("size")?.unwrap_or(0);
    let stride = call.int("stride")?.unwrap_or(1);
    if size < 1 || stride < 1 {
        let found = format!("{size}, {stride}");
        return Err(call
            .wrong("size", "a size and a stride of at least 1", &found)
            .into());
    }
    let windows = shape[axis]
        .sub(&Dim::constant(size))
        .floor_div(&Dim::constant(stride))
        .map(|n| n.add(&Dim::from(1)))
        .ok_or_else(|| call.unsupported("stride", stride.to_string()))?;
    let known = windows.known().and_then(|n| {
        let total = n.checked_mul(usize::try_from(size).ok()?)?;
        (num::u64_of(total) <= limits::FOLDED_ELEMENTS.get()).then_some(n)
    });
    let at = if let Some(n) = known {
        let width = num::usize_of(size.unsigned_abs());
        let values = (0..num::i64_of(n))
            .flat_map(|w| (0..size).map(move |i| w * stride + i))
            .collect();
        indices(importer, call, "indices", vec![n, width], values)?
    } else {
        let windows = count(importer, call, "windows", &windows)?;
        let stride = importer.scalar(call, "stride", DType::I32, num::f64_of_i64(stride))?;
        let first = importer.step(call, "first", op2(BinaryKind::Mul), &[windows, stride])?;
        let first = along(importer, call, first, 0, 2)?;
        let within = count(importer, call, "within", &Dim::constant(size))?;
        importer.step(call, "indices", op2(BinaryKind::Add), &[first, within])?
    };
    importer.result(call, Op::Gather(Gather { axis }), &[x, at])
}

/// So much off either end of the last two axes.
fn crop(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let height = call.ints("crop_height")?.unwrap_or_default();
    let width = call.ints("crop_width")?.unwrap_or_default();
    let rank = shape.len();
    let (&[top, bottom], &[left, right]) = (height.as_slice(), width.as_slice()) else {
        let found = format!("{} and {} values", height.len(), width.len());
        return Err(call.wrong("crop_height", "two values", &found).into());
    };
    if rank < 2 || [top, bottom, left, right].iter().any(|&n| n < 0) {
        let found = format!("{height:?} and {width:?} of rank {rank}");
        return Err(call
            .wrong("crop_height", "sizes of a matrix or image", &found)
            .into());
    }
    let cut = |axis: usize, first: i64, last: i64| {
        let end = shape[axis].sub(&Dim::constant(last));
        SliceRange::new(axis, Dim::constant(first), end)
    };
    let ranges = vec![cut(rank - 2, top, bottom), cut(rank - 1, left, right)];
    importer.result(call, Op::Slice(Slice { ranges }), &[x])
}

/// A band around the diagonal of the last two axes; zero elsewhere.
fn band_part(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let ty = importer.ty(x);
    let lower = call.int("lower")?.unwrap_or(-1);
    let upper = call.int("upper")?.unwrap_or(-1);
    let [.., rows, columns] = ty.shape.as_slice() else {
        return Err(call.wrong("x", "a matrix", &ty.to_string()).into());
    };
    let row = count(importer, call, "row", rows)?;
    let row = along(importer, call, row, 0, 2)?;
    let column = count(importer, call, "column", columns)?;
    let below = importer.step(call, "below", op2(BinaryKind::Sub), &[row, column])?;
    let mut kept: Option<ValueId> = None;
    let sides = [
        (CompareKind::LessEqual, lower, lower),
        (CompareKind::GreaterEqual, upper, -upper),
    ];
    for (kind, limit, bound) in sides {
        if limit < 0 {
            continue;
        }
        let bound = importer.scalar(call, "bound", DType::I32, num::f64_of_i64(bound))?;
        let side = Op::Compare(Compare { kind });
        let side = importer.step(call, "side", side, &[below, bound])?;
        kept = Some(match kept {
            None => side,
            Some(other) => importer.step(call, "band", op2(BinaryKind::And), &[other, side])?,
        });
    }
    let Some(kept) = kept else {
        return Ok(vec![importer.entry(x)]);
    };
    if ty.dtype == DType::Bool {
        return importer.result(call, op2(BinaryKind::And), &[x, kept]);
    }
    let zero = importer.scalar(call, "zero", ty.dtype, 0.0)?;
    importer.result(call, Op::Select(Select), &[kept, x, zero])
}

/// `on_value` where the new axis counts to the index, `off_value` elsewhere.
fn one_hot(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let indices = importer.operand(call, "indices")?;
    let ty = importer.ty(indices);
    let rank = ty.rank() + 1;
    let axis = call.axis("axis", rank, -1)?;
    let depth = call.required("one_hot_vector_size")?;
    let value =
        |importer: &mut Importer<'_>, call: &mut Call, name: &str, default: f64| match importer
            .optional_operand(call, name)?
        {
            Some(value) => Ok(value),
            None => importer.scalar(call, name, DType::I32, default),
        };
    let on = value(importer, call, "on_value", 1.0)?;
    let off = value(importer, call, "off_value", 0.0)?;
    let count = match depth.dims()?.map(|d| d.values).as_deref() {
        Some([depth]) => count(importer, call, "count", depth)?,
        Some(many) => {
            return Err(call
                .wrong("one_hot_vector_size", "one size", &many.len().to_string())
                .into());
        }
        None => {
            let depth = importer.value(&depth, &format!("{}/depth", call.name))?;
            super::runtime::count_to(importer, call, depth)?
        }
    };
    let count = if ty.dtype == DType::I32 {
        count
    } else {
        importer.cast(call, "typed", count, ty.dtype)?
    };
    let count = along(importer, call, count, axis, rank)?;
    let axes = vec![axis];
    let indices = importer.step(
        call,
        "column",
        Op::Unsqueeze(Unsqueeze { axes }),
        &[indices],
    )?;
    let kind = CompareKind::Equal;
    let hot = importer.step(
        call,
        "hot",
        Op::Compare(Compare { kind }),
        &[indices, count],
    )?;
    importer.result(call, Op::Select(Select), &[hot, on, off])
}

/// Where a slice lies on one axis: its first element, and the step.
enum Place {
    /// The whole axis, in order.
    Whole,
    /// Known when the program is read.
    Known { begin: i64, step: i64 },
    /// A first element that is computed, with its step.
    Computed { begin: ValueId, step: i64 },
}

/// The tensor with one slice of it replaced: every element of the slice is picked from the update, everything else from the tensor.
fn slice_update(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let rank = shape.len();
    let mut update = importer.operand(call, "update")?;
    let begin = call.required("begin")?;
    // The end says nothing that the update's shape does not say.
    call.required("end")?;
    let stride = call.ints("stride")?.unwrap_or_else(|| vec![1; rank]);
    let stride = call.per_axis("stride", stride, rank)?;
    let mut mask = |parameter: &str| -> Result<Vec<bool>> {
        let mask = call.bools(parameter)?.unwrap_or_else(|| vec![false; rank]);
        Ok(call.per_axis(parameter, mask, rank)?)
    };
    let (no_begin, _, single) = (
        mask("begin_mask")?,
        mask("end_mask")?,
        mask("squeeze_mask")?,
    );
    let axes: Vec<usize> = (0..rank).filter(|&a| single[a]).collect();
    if !axes.is_empty() && importer.ty(update).rank() + axes.len() == rank {
        update = importer.step(call, "axes", Op::Unsqueeze(Unsqueeze { axes }), &[update])?;
    }
    let part = importer.ty(update).shape;
    if part.len() != rank {
        let expected = format!("rank {rank}");
        return Err(call
            .wrong("update", &expected, &part.len().to_string())
            .into());
    }
    let begins = begin.dims()?;
    let computed = match &begins {
        Some(_) => None,
        None => Some(importer.value(&begin, &format!("{}/begin", call.name))?),
    };
    let mut out: Option<(ValueId, ValueId)> = None;
    for axis in 0..rank {
        let step = if single[axis] { 1 } else { stride[axis] };
        let place = if no_begin[axis] && step > 0 {
            Place::Known { begin: 0, step }
        } else if no_begin[axis] {
            Place::Known { begin: -1, step }
        } else {
            match (&begins, computed) {
                (Some(begins), _) => match begins.values.get(axis).and_then(Dim::integer) {
                    Some(begin) => Place::Known { begin, step },
                    None => {
                        let name = format!("{}/begin", call.name);
                        let dim = begins.values.get(axis).cloned().unwrap_or_default();
                        let dims = super::entry::Dims::scalar(DType::I32, dim);
                        let begin = importer.value(&Entry::Dims(dims), &name)?;
                        Place::Computed { begin, step }
                    }
                },
                (None, Some(all)) => {
                    let ranges = vec![SliceRange::new(0, axis, axis + 1)];
                    let one = Op::Slice(Slice { ranges });
                    let begin = importer.step(call, "begin", one, &[all])?;
                    let begin = importer.cast(call, "begin", begin, DType::I32)?;
                    Place::Computed { begin, step }
                }
                (None, None) => Place::Whole,
            }
        };
        let from_first = matches!(
            place,
            Place::Known { begin: 0, step: 1 } | Place::Computed { step: 1, .. }
        );
        let place = if from_first && part[axis] == shape[axis] {
            Place::Whole
        } else {
            place
        };
        let Some((at, hit)) = position(importer, call, &place, &shape[axis], &part[axis])? else {
            continue;
        };
        update = importer.step(call, "spread", Op::Gather(Gather { axis }), &[update, at])?;
        let hit = along(importer, call, hit, axis, rank)?;
        out = Some(match out {
            None => (update, hit),
            Some((_, other)) => {
                let both = importer.step(call, "inside", op2(BinaryKind::And), &[other, hit])?;
                (update, both)
            }
        });
    }
    match out {
        None => {
            let shape = Op::Reshape(Reshape { shape });
            importer.result(call, shape, &[update])
        }
        Some((update, inside)) => importer.result(call, Op::Select(Select), &[inside, update, x]),
    }
}

/// For every index of an axis of `size`, the index in the update (any, where there is none), and whether there is one.
fn position(
    importer: &mut Importer<'_>,
    call: &Call,
    place: &Place,
    size: &Dim,
    part: &Dim,
) -> Result<Option<(ValueId, ValueId)>> {
    let (begin, step) = match place {
        Place::Whole => return Ok(None),
        Place::Known { begin, step } => {
            if let (Some(n), Some(m)) = (size.known(), part.known()) {
                return known_position(importer, call, (*begin, *step), n, m).map(Some);
            }
            let begin = if *begin < 0 {
                let dim = size.add(&Dim::constant(*begin));
                let dims = super::entry::Dims::scalar(DType::I32, dim);
                importer.value(&Entry::Dims(dims), &format!("{}/begin", call.name))?
            } else {
                importer.scalar(call, "begin", DType::I32, num::f64_of_i64(*begin))?
            };
            (begin, *step)
        }
        Place::Computed { begin, step } => {
            // Negative ones count from the end.
            let zero = importer.scalar(call, "zero", DType::I32, 0.0)?;
            let dims = super::entry::Dims::scalar(DType::I32, size.clone());
            let size = importer.value(&Entry::Dims(dims), &format!("{}/size", call.name))?;
            let turned = importer.step(call, "turned", op2(BinaryKind::Add), &[*begin, size])?;
            let kind = CompareKind::Less;
            let negative = Op::Compare(Compare { kind });
            let negative = importer.step(call, "negative", negative, &[*begin, zero])?;
            let select = Op::Select(Select);
            (
                importer.step(call, "first", select, &[negative, turned, *begin])?,
                *step,
            )
        }
    };
    let all = count(importer, call, "all", size)?;
    let ends = if step < 0 { [begin, all] } else { [all, begin] };
    let mut at = importer.step(call, "offset", op2(BinaryKind::Sub), &ends)?;
    let zero = importer.scalar(call, "zero", DType::I32, 0.0)?;
    let mut on_step = None;
    if step.unsigned_abs() != 1 {
        let by = num::f64_of_i64(step.saturating_abs());
        let by = importer.scalar(call, "step", DType::I32, by)?;
        let rest = importer.step(call, "rest", op2(BinaryKind::Mod), &[at, by])?;
        let kind = CompareKind::Equal;
        on_step = Some(importer.step(call, "on", Op::Compare(Compare { kind }), &[rest, zero])?);
        at = importer.step(call, "steps", op2(BinaryKind::FloorDiv), &[at, by])?;
    }
    let last = super::entry::Dims::scalar(DType::I32, part.sub(&Dim::from(1)));
    let last = importer.value(&Entry::Dims(last), &format!("{}/last", call.name))?;
    let kind = CompareKind::GreaterEqual;
    let from = importer.step(call, "from", Op::Compare(Compare { kind }), &[at, zero])?;
    let kind = CompareKind::LessEqual;
    let to = importer.step(call, "to", Op::Compare(Compare { kind }), &[at, last])?;
    let mut hit = importer.step(call, "hit", op2(BinaryKind::And), &[from, to])?;
    if let Some(on) = on_step {
        hit = importer.step(call, "hit", op2(BinaryKind::And), &[hit, on])?;
    }
    let at = importer.step(call, "low", op2(BinaryKind::Max), &[at, zero])?;
    let at = importer.step(call, "at", op2(BinaryKind::Min), &[at, last])?;
    Ok(Some((at, hit)))
}

fn known_position(
    importer: &mut Importer<'_>,
    call: &Call,
    (begin, step): (i64, i64),
    size: usize,
    part: usize,
) -> Result<(ValueId, ValueId)> {
    let n = num::i64_of(size);
    let m = num::i64_of(part);
    if step == 0 || num::u64_of(size) > limits::FOLDED_ELEMENTS.get() {
        return Err(call.wrong("stride", "another number", "0").into());
    }
    // As a slice does: turned round once, then clamped to the axis.
    let begin = if begin < 0 { begin + n } else { begin };
    let begin = if step > 0 {
        begin.clamp(0, n)
    } else {
        begin.clamp(-1, n - 1)
    };
    let mut at = vec![0; size];
    let mut hit = vec![false; size];
    for i in 0..m {
        let place = begin.saturating_add(i.saturating_mul(step));
        let Some(slot) = usize::try_from(place).ok().filter(|&p| p < size) else {
            let found = format!("{m} elements from {begin} by {step}");
            return Err(call
                .wrong("update", &format!("a part of {size} elements"), &found)
                .into());
        };
        at[slot] = i;
        hit[slot] = true;
    }
    let at = indices(importer, call, "at", vec![size], at)?;
    let hit = Tensor::bool(vec![size], hit)?;
    let name = format!("{}/hit", call.name);
    let hit = importer
        .builder
        .constant(Constant::from_tensor(&name, &hit)?);
    Ok((at, hit))
}

/// `[…, C, H, W1] · […, W1, H, W2]`: the only products of this operation, under any letters.
fn einsum(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let values = call.list("values")?;
    let equation = call.string("equation")?.unwrap_or_default();
    let compact: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let mut letters = Vec::new();
    let numbered: String = compact
        .chars()
        .map(|c| {
            if !c.is_alphabetic() {
                return c;
            }
            let at = letters.iter().position(|l| *l == c).unwrap_or_else(|| {
                letters.push(c);
                letters.len() - 1
            });
            char::from_digit(u32::try_from(at).unwrap_or(0), 36).unwrap_or('?')
        })
        .collect();
    let perm = match numbered.as_str() {
        "0123,0324->0124" => vec![0, 2, 1, 3],
        "012,213->013" => vec![1, 0, 2],
        _ => {
            let expected = "`nchw,nwhu->nchu` or `chw,whr->chr`";
            return Err(call
                .wrong("equation", expected, &format!("`{equation}`"))
                .into());
        }
    };
    let [x, y] = values.as_slice() else {
        return Err(call
            .wrong("values", "two tensors", &values.len().to_string())
            .into());
    };
    let mut operands = Vec::with_capacity(2);
    for (entry, name) in [(x, "x"), (y, "y")] {
        let id = importer.value(entry, &format!("{}/{name}", call.name))?;
        let perm = perm.clone();
        operands.push(importer.step(call, name, Op::Transpose(Transpose { perm }), &[id])?);
    }
    let product = importer.step(call, "product", Op::MatMul(MatMul::default()), &operands)?;
    importer.result(call, Op::Transpose(Transpose { perm }), &[product])
}

/// Two pairs of whole numbers, none negative.
fn pairs(call: &mut Call, parameter: &str) -> Result<[[i64; 2]; 2]> {
    let shape = call.peek(parameter).and_then(Entry::ty).map(|t| t.shape);
    let found = call.matrix(parameter)?;
    match found.as_slice() {
        &[a, b, c, d] if found.iter().all(|&n| n >= 0) => Ok([[a, b], [c, d]]),
        _ => {
            let found = format!("{found:?} of shape {shape:?}");
            Err(call.wrong(parameter, "two pairs", &found).into())
        }
    }
}

fn block_shape(call: &mut Call) -> Result<[Dim; 2]> {
    let found = call.ints("block_shape")?.unwrap_or_default();
    match found.as_slice() {
        &[a, b] if a > 0 && b > 0 => Ok([Dim::constant(a), Dim::constant(b)]),
        _ => Err(call
            .wrong("block_shape", "two sizes", &format!("{found:?}"))
            .into()),
    }
}

fn image(importer: &Importer<'_>, call: &Call, x: ValueId) -> Result<[Dim; 4]> {
    let ty = importer.ty(x);
    match ty.shape.as_slice() {
        [n, c, h, w] => Ok([n.clone(), c.clone(), h.clone(), w.clone()]),
        _ => Err(call.wrong("x", "rank 4", &ty.to_string()).into()),
    }
}

fn reshape(
    importer: &mut Importer<'_>,
    call: &Call,
    x: ValueId,
    shape: Vec<Dim>,
) -> Result<ValueId> {
    importer.step(call, "parts", Op::Reshape(Reshape { shape }), &[x])
}

fn transpose(
    importer: &mut Importer<'_>,
    call: &Call,
    x: ValueId,
    perm: &[usize],
) -> Result<ValueId> {
    let perm = perm.to_vec();
    importer.step(call, "moved", Op::Transpose(Transpose { perm }), &[x])
}

/// `[n, C, H, W]` to `[n · b, C, H', W']`: one block axis after the other, so that no tensor has more than five axes.
fn space_to_batch(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let mut x = importer.operand(call, "x")?;
    image(importer, call, x)?;
    let block = block_shape(call)?;
    let paddings = pairs(call, "paddings")?;
    let dtype = importer.ty(x).dtype;
    for (i, [before, after]) in paddings.into_iter().enumerate() {
        for (size, first) in [(before, true), (after, false)] {
            if size == 0 {
                continue;
            }
            let mut shape = importer.ty(x).shape;
            shape[2 + i] = Dim::constant(size);
            let zero = importer.scalar(call, "zero", dtype, 0.0)?;
            let zeros = Op::Expand(crate::ir::ops::Expand { shape });
            let zeros = importer.step(call, "zeros", zeros, &[zero])?;
            let both = if first { [zeros, x] } else { [x, zeros] };
            x = importer.step(call, "padded", Op::Concat(Concat { axis: 2 + i }), &both)?;
        }
    }
    let [n, c, h, w] = image(importer, call, x)?;
    let [bh, bw] = block;
    let (Some(h), Some(w)) = (h.floor_div(&bh), w.floor_div(&bw)) else {
        return Err(call.wrong("block_shape", "sizes", "0").into());
    };
    let inner = c.mul(&h).mul(&bh);
    // The width first: [n·C·H, W', bw] with bw moved to the front of the batch.
    let parts = vec![n.clone(), inner, w.clone(), bw.clone()];
    let x = reshape(importer, call, x, parts)?;
    let x = transpose(importer, call, x, &[3, 0, 1, 2])?;
    let batch = bw.mul(&n);
    let parts = vec![batch.clone(), c.clone(), h.clone(), bh.clone(), w.clone()];
    let x = reshape(importer, call, x, parts)?;
    let x = transpose(importer, call, x, &[3, 0, 1, 2, 4])?;
    let shape = vec![bh.mul(&batch), c, h, w];
    importer.result(call, Op::Reshape(Reshape { shape }), &[x])
}

/// The way back.
fn batch_to_space(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let [bh, bw] = block_shape(call)?;
    let crops = pairs(call, "crops")?;
    let [n, c, h, w] = image(importer, call, x)?;
    let Some(small) = n.floor_div(&bh.mul(&bw)) else {
        return Err(call.wrong("block_shape", "sizes", "0").into());
    };
    let batch = small.mul(&bw);
    let parts = vec![bh.clone(), batch.clone(), c.clone(), h.clone(), w.clone()];
    let x = reshape(importer, call, x, parts)?;
    let x = transpose(importer, call, x, &[1, 2, 3, 0, 4])?;
    let tall = h.mul(&bh);
    let inner = c.mul(&tall);
    let parts = vec![bw.clone(), small.clone(), inner, w.clone()];
    let x = reshape(importer, call, x, parts)?;
    let x = transpose(importer, call, x, &[1, 2, 3, 0])?;
    let wide = w.mul(&bw);
    let shape = vec![small, c, tall.clone(), wide.clone()];
    let whole = Op::Reshape(Reshape { shape });
    let mut ranges = Vec::new();
    for (i, ([before, after], size)) in crops.into_iter().zip([tall, wide]).enumerate() {
        if before != 0 || after != 0 {
            let end = size.sub(&Dim::constant(after));
            ranges.push(SliceRange::new(2 + i, Dim::constant(before), end));
        }
    }
    if ranges.is_empty() {
        return importer.result(call, whole, &[x]);
    }
    let x = importer.step(call, "whole", whole, &[x])?;
    importer.result(call, Op::Slice(Slice { ranges }), &[x])
}
