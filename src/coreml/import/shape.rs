//! Data movement that is known from shapes.

use super::call::{Call, ceil_div};
use super::entry::{Dims, Entry};
use super::{Handler, Importer, runtime};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, Cast, Compare, CompareKind, Concat, Expand, ExpandTo, Gather, GatherElements, Iota,
    Pad, PadBy, PadMode, Reshape, ReshapeTo, Reverse, Select, Slice, SliceRange, Squeeze, Tile,
    TileBy, Transpose, Unsqueeze,
};
use crate::ir::{Constant, Dim, Op, ValueId, normalize_axis};
use crate::limits;
use crate::tensor::{DType, Tensor, num};

use super::elementwise::op2;
use super::layout::{along, count};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "shape" => shape,
        "reshape" => reshape,
        "transpose" => transpose,
        "expand_dims" => expand_dims,
        "squeeze" => squeeze,
        "concat" => concat,
        "stack" => stack,
        "slice_by_index" => slice_by_index,
        "slice_by_size" => slice_by_size,
        "split" => split,
        "tile" => tile,
        "range_1d" => range_1d,
        "fill" => fill,
        "fill_like" => fill_like,
        "pad" => pad,
        "reverse" => reverse,
        "reverse_sequence" => reverse_sequence,
        _ => return None,
    };
    Some(handler)
}

/// The sizes themselves; nothing is left of the operation in the module unless they are used as data.
fn shape(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let entry = call.required("x")?;
    match entry.ty() {
        Some(ty) => Ok(vec![Entry::Dims(Dims::vector(DType::I32, ty.shape))]),
        None => Err(call.wrong("x", "a tensor", &entry.describe()).into()),
    }
}

/// In the wanted shape, 0 copies the size of the same axis, counted from the end since CoreML7, and −1 is what is left.
fn reshape(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let from = importer.ty(x).shape;
    let given = call.required("shape")?;
    let Some(wanted) = given.dims()?.map(|d| d.values) else {
        return reshape_to(importer, call, x, &given);
    };
    let mut shape = Vec::with_capacity(wanted.len());
    let mut rest = None;
    for (axis, dim) in wanted.iter().enumerate() {
        let same = if call.opset >= Opset::CoreML7 {
            (axis + from.len()).checked_sub(wanted.len())
        } else {
            Some(axis)
        };
        shape.push(match dim.integer() {
            Some(0) if call.opset >= Opset::CoreML7 => same
                .and_then(|a| from.get(a).cloned())
                .unwrap_or_else(|| Dim::from(1)),
            Some(0) if axis < from.len() => from[axis].clone(),
            Some(-1) if rest.is_none() => {
                rest = Some(axis);
                Dim::from(1)
            }
            Some(n) if n < 0 => {
                return Err(call
                    .wrong("shape", "sizes and at most one -1", &n.to_string())
                    .into());
            }
            Some(_) | None => dim.clone(),
        });
    }
    let size = |s: &[Dim]| s.iter().fold(Dim::from(1), |n, d| n.mul(d));
    if let Some(axis) = rest {
        let left = size(&from).floor_div(&size(&shape));
        shape[axis] = left.ok_or_else(|| call.unsupported("shape", "-1 beside 0"))?;
    }
    let (had, wants) = (size(&from), size(&shape));
    if had != wants && had.may_equal(&wants) {
        // Only some sizes can have this shape: a run tells.
        let to = importer.value(&given, &format!("{}/shape", call.name))?;
        let op = ReshapeTo {
            shape,
            zero_copies: false,
        };
        return importer.result(call, Op::ReshapeTo(op), &[x, to]);
    }
    importer.result(call, Op::Reshape(Reshape { shape }), &[x])
}

/// A shape that is computed. Its zeros mean sizes of `x` where both have the same rank.
fn reshape_to(
    importer: &mut Importer<'_>,
    call: &Call,
    x: ValueId,
    wanted: &Entry,
) -> Result<Vec<Entry>> {
    let rank = wanted
        .ty()
        .and_then(|t| t.shape.first().and_then(Dim::known));
    let Some(rank) = rank else {
        return Err(call.unsupported("shape", wanted.describe()).into());
    };
    let to = importer.value(wanted, &format!("{}/shape", call.name))?;
    let shape = runtime::shape(importer, call, rank);
    let op = Op::ReshapeTo(ReshapeTo {
        shape,
        zero_copies: rank == importer.ty(x).rank(),
    });
    importer.result(call, op, &[x, to])
}

fn transpose(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let rank = importer.ty(x).rank();
    let perm = call.ints("perm")?.unwrap_or_default();
    let perm = perm
        .into_iter()
        .map(|a| normalize_axis(a, rank))
        .collect::<Result<_, _>>()?;
    importer.result(call, Op::Transpose(Transpose { perm }), &[x])
}

fn expand_dims(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let added = call.peek("axes").and_then(Entry::ty);
    let added = added.map_or(1, |t| t.shape.first().and_then(Dim::known).unwrap_or(1));
    let axes = call.axes("axes", importer.ty(x).rank() + added)?;
    importer.result(call, Op::Unsqueeze(Unsqueeze { axes }), &[x])
}

fn squeeze(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    // An axis that is longer than 1 stays, named or not.
    let axes = call.axes("axes", shape.len())?;
    let axes = axes
        .into_iter()
        .filter(|&a| shape[a].integer() == Some(1))
        .collect();
    importer.result(call, Op::Squeeze(Squeeze { axes }), &[x])
}

fn operands(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<ValueId>> {
    let entries = call.list("values")?;
    let mut operands = Vec::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        operands.push(importer.value(entry, &format!("{}/value{i}", call.name))?);
    }
    Ok(operands)
}

fn concat(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let mut operands = operands(importer, call)?;
    for operand in &mut operands {
        // Scalars are joined as vectors of one.
        if importer.ty(*operand).rank() == 0 {
            let axes = vec![0];
            *operand =
                importer.step(call, "one", Op::Unsqueeze(Unsqueeze { axes }), &[*operand])?;
        }
    }
    let mut shape = importer.ty(operands[0]).shape;
    let axis = call.axis("axis", shape.len(), 0)?;
    if !call.bool("interleave", false)? {
        return importer.result(call, Op::Concat(Concat { axis }), &operands);
    }
    // One element of every operand in turn: they are joined along an axis of their own, which then goes into the joined one. Five axes are
    // folded into two around it, as programs have no six.
    let size = |s: &[Dim]| s.iter().fold(Dim::from(1), |n, d| n.mul(d));
    let folded = shape.len() >= 5;
    let next = if folded { 1 } else { axis + 1 };
    let layer = if folded {
        let shape = vec![
            size(&shape[..=axis]),
            Dim::from(1),
            size(&shape[axis + 1..]),
        ];
        Op::Reshape(Reshape { shape })
    } else {
        Op::Unsqueeze(Unsqueeze { axes: vec![next] })
    };
    for operand in &mut operands {
        *operand = importer.step(call, "layer", layer.clone(), &[*operand])?;
    }
    let joined = importer.step(call, "joined", Op::Concat(Concat { axis: next }), &operands)?;
    shape[axis] = shape[axis].mul(&Dim::from(operands.len()));
    importer.result(call, Op::Reshape(Reshape { shape }), &[joined])
}

fn stack(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let mut operands = operands(importer, call)?;
    let axis = call.axis("axis", importer.ty(operands[0]).rank() + 1, 0)?;
    for operand in &mut operands {
        let axes = vec![axis];
        *operand = importer.step(
            call,
            "layer",
            Op::Unsqueeze(Unsqueeze { axes }),
            &[*operand],
        )?;
    }
    importer.result(call, Op::Concat(Concat { axis }), &operands)
}

fn slice_by_index(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let rank = shape.len();
    let (begin, end) = (call.required("begin")?, call.required("end")?);
    let stride = call.ints("stride")?.unwrap_or_else(|| vec![1; rank]);
    let stride = call.per_axis("stride", stride, rank)?;
    let mut mask = |parameter: &str| -> Result<Vec<bool>> {
        let mask = call.bools(parameter)?.unwrap_or_else(|| vec![false; rank]);
        Ok(call.per_axis(parameter, mask, rank)?)
    };
    let (no_begin, no_end, single) = (
        mask("begin_mask")?,
        mask("end_mask")?,
        mask("squeeze_mask")?,
    );
    let computed = |begin: Entry, end: Entry| runtime::Bounds {
        begin,
        end: Some(end),
        size: None,
        stride: stride.clone(),
        no_begin: no_begin.clone(),
        no_end: no_end.clone(),
        single: single.clone(),
    };
    if stride.contains(&0) {
        return Err(call.wrong("stride", "another number", "0").into());
    }
    let (Some(from_dims), Some(to_dims)) = (begin.dims()?, end.dims()?) else {
        return runtime::slice(importer, call, x, &computed(begin, end));
    };
    let (begin_entry, end_entry) = (begin, end);
    let begin = call.per_axis("begin", from_dims.values, rank)?;
    let end = call.per_axis("end", to_dims.values, rank)?;
    let mut ranges = Vec::new();
    let mut reversed = Vec::new();
    for axis in 0..rank {
        let size = &shape[axis];
        let from = (!no_begin[axis]).then_some(&begin[axis]);
        if single[axis] {
            let zero = Dim::from(0);
            let from = from.unwrap_or(&zero);
            let last = size.sub(&Dim::from(1));
            let at = importer.bounds.range(Some(from), None, size).map(|r| r.0);
            let Some(at) = at.filter(|at| importer.bounds.at_most(at, &last)) else {
                let bounds = computed(begin_entry, end_entry);
                return runtime::slice(importer, call, x, &bounds);
            };
            let next = at.add(&Dim::from(1));
            ranges.push(SliceRange::new(axis, at, next));
            continue;
        }
        let to = (!no_end[axis]).then_some(&end[axis]);
        if stride[axis] < 0 {
            let Some(list) = backwards(from, to, size, stride[axis]) else {
                let bounds = computed(begin_entry, end_entry);
                return runtime::slice(importer, call, x, &bounds);
            };
            reversed.push((axis, list));
            continue;
        }
        let step = usize::try_from(stride[axis]).unwrap_or(0);
        let Some((start, end)) = importer.bounds.range(from, to, size) else {
            let bounds = computed(begin_entry, end_entry);
            return runtime::slice(importer, call, x, &bounds);
        };
        if start.integer() == Some(0) && end == *size && step == 1 {
            continue;
        }
        ranges.push(SliceRange {
            axis,
            start,
            end,
            step,
        });
    }
    let axes: Vec<usize> = (0..rank).filter(|&a| single[a]).collect();
    // The last of the steps is the result.
    let mut steps: Vec<(Op, Option<ValueId>)> = Vec::new();
    for (axis, list) in reversed {
        let indices = Tensor::int(DType::I32, vec![list.len()], list)?;
        let name = format!("{}/indices", call.name);
        let indices = Entry::constant(Constant::from_tensor(&name, &indices)?);
        let indices = importer.value(&indices, &name)?;
        steps.push((Op::Gather(Gather { axis }), Some(indices)));
    }
    if !ranges.is_empty() || (steps.is_empty() && axes.is_empty()) {
        steps.push((Op::Slice(Slice { ranges }), None));
    }
    if !axes.is_empty() {
        steps.push((Op::Squeeze(Squeeze { axes }), None));
    }
    let mut operand = x;
    let last = steps.len() - 1;
    for (i, (op, indices)) in steps.into_iter().enumerate() {
        let operands: Vec<ValueId> = std::iter::once(operand).chain(indices).collect();
        if i == last {
            return importer.result(call, op, &operands);
        }
        operand = importer.step(call, "part", op, &operands)?;
    }
    Ok(vec![importer.entry(operand)])
}

/// The indices of a slice with a negative step, as NumPy defines them; all sizes must be known.
fn backwards(from: Option<&Dim>, to: Option<&Dim>, size: &Dim, step: i64) -> Option<Vec<i64>> {
    let size = num::i64_of(size.known()?);
    if num::u64_of(usize::try_from(size).ok()?) > limits::FOLDED_ELEMENTS.get() {
        return None;
    }
    let place = |at: &Dim| {
        let at = at.integer()?;
        let at = if at < 0 { at.checked_add(size)? } else { at };
        Some(at.clamp(-1, size - 1))
    };
    let first = from.map_or(Some(size - 1), place)?;
    let end = to.map_or(Some(-1), place)?;
    let mut list = Vec::new();
    let mut at = first;
    while at > end {
        list.push(at);
        at = at.checked_add(step)?;
    }
    Some(list)
}

/// A size of −1 is the rest of the axis.
fn slice_by_size(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let (begin, sizes) = (call.required("begin")?, call.required("size")?);
    let rank = shape.len();
    let computed = |begin: Entry, size: Entry| runtime::Bounds {
        begin,
        end: None,
        size: Some(size),
        stride: vec![1; rank],
        no_begin: vec![false; rank],
        no_end: vec![false; rank],
        single: vec![false; rank],
    };
    let (Some(from), Some(counts)) = (begin.dims()?, sizes.dims()?) else {
        return runtime::slice(importer, call, x, &computed(begin, sizes));
    };
    let (begin_entry, size_entry) = (begin, sizes);
    let begin = call.per_axis("begin", from.values, rank)?;
    let sizes = call.per_axis("size", counts.values, rank)?;
    let mut ranges = Vec::new();
    for (axis, size) in shape.iter().enumerate() {
        let Some((start, rest)) = importer.bounds.range(Some(&begin[axis]), None, size) else {
            let bounds = computed(begin_entry, size_entry);
            return runtime::slice(importer, call, x, &bounds);
        };
        let end = match sizes[axis].integer() {
            Some(-1) => rest,
            Some(n) if n < 0 => {
                return Err(call.wrong("size", "sizes or -1", &n.to_string()).into());
            }
            Some(_) | None => start.add(&sizes[axis]),
        };
        if end.integer().zip(size.integer()).is_none() && !importer.bounds.at_most(&end, size) {
            let bounds = computed(begin_entry, size_entry);
            return runtime::slice(importer, call, x, &bounds);
        }
        if !importer.bounds.at_most(&end, size) {
            let found = format!("{} from {start} of {size}", sizes[axis]);
            return Err(call.wrong("size", "a part of the axis", &found).into());
        }
        if start.integer() != Some(0) || end != *size {
            ranges.push(SliceRange::new(axis, start, end));
        }
    }
    importer.result(call, Op::Slice(Slice { ranges }), &[x])
}

fn split(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let axis = call.axis("axis", shape.len(), 0)?;
    let size = &shape[axis];
    let count = call.int("num_splits")?;
    let sizes: Vec<Dim> = match call.ints("split_sizes")? {
        Some(sizes) => sizes.into_iter().map(Dim::constant).collect(),
        None => {
            let n = count
                .and_then(|n| usize::try_from(n).ok())
                .filter(|&n| n > 0 && n == call.results)
                .ok_or_else(|| call.wrong("num_splits", "the number of results", "another"))?;
            let part = size.floor_div(&Dim::from(n));
            let part = part.filter(|p| p.mul(&Dim::from(n)) == *size);
            let part = part
                .ok_or_else(|| call.wrong("num_splits", "a divisor of the size", &n.to_string()))?;
            vec![part; n]
        }
    };
    let total = sizes.iter().fold(Dim::from(0), |n, d| n.add(d));
    let negative = sizes.iter().any(|d| d.integer().is_some_and(|n| n < 0));
    if total != *size || negative || count.is_some_and(|n| n != num::i64_of(sizes.len())) {
        let found = format!("{total} in {} parts", sizes.len());
        return Err(call
            .wrong("split_sizes", &format!("parts of {size}"), &found)
            .into());
    }
    let mut start = Dim::from(0);
    let mut entries = Vec::with_capacity(sizes.len());
    for (i, part) in sizes.iter().enumerate() {
        let end = start.add(part);
        let ranges = vec![SliceRange::new(axis, start, end.clone())];
        let slice = Op::Slice(Slice { ranges });
        let id = importer.step(call, &i.to_string(), slice, &[x])?;
        entries.push(importer.entry(id));
        start = end;
    }
    Ok(entries)
}

fn tile(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let sizes = importer.ty(x).shape;
    let reps = call.required("reps")?;
    let Some(known) = reps.dims()? else {
        let reps = importer.value(&reps, &format!("{}/reps", call.name))?;
        let shape = runtime::shape(importer, call, sizes.len());
        return importer.result(call, Op::TileBy(TileBy { shape }), &[x, reps]);
    };
    let reps = call.per_axis("reps", known.values, sizes.len())?;
    if let Some(bad) = reps.iter().find(|r| !importer.bounds.is_natural(r)) {
        return Err(call.wrong("reps", "repetitions", &bad.to_string()).into());
    }
    let one = Dim::from(1);
    let pairs = || sizes.iter().zip(&reps);
    if pairs().all(|(size, rep)| *size == one || *rep == one) {
        let shape = pairs().map(|(size, rep)| size.mul(rep)).collect();
        return importer.result(call, Op::Expand(Expand { shape }), &[x]);
    }
    importer.result(call, Op::Tile(Tile { repeats: reps }), &[x])
}

/// `start, start + step, …` below `end`.
fn range_1d(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let whole = ["start", "end", "step"].iter().all(|p| {
        call.peek(p)
            .is_some_and(|e| matches!(e.dims(), Ok(Some(_))))
    });
    if !whole {
        let constant = |p: &&str| call.peek(p).is_some_and(Entry::is_constant);
        return if ["start", "end", "step"].iter().all(constant) {
            float_range(call)
        } else {
            runtime::range(importer, call)
        };
    }
    let (start, end, step) = (call.dims("start")?, call.dims("end")?, call.dims("step")?);
    let dtype = start.dtype;
    let [from, to, by] = [&start, &end, &step].map(|d| d.values.first().cloned());
    let (Some(from), Some(to), Some(by)) = (from, to, by) else {
        return Err(call.wrong("start", "a number", "none").into());
    };
    let Some(by) = by.integer().filter(|&n| n != 0) else {
        return Err(call.unsupported("step", by.to_string()).into());
    };
    let span = if by > 0 { to.sub(&from) } else { from.sub(&to) };
    let magnitude = num::usize_of(by.unsigned_abs());
    let len = ceil_div(&span, magnitude)
        .map(|len| importer.bounds.larger(&len, &Dim::from(0)))
        .ok_or_else(|| call.unsupported("step", by.to_string()))?;
    let iota = Op::Iota(Iota {
        dtype: DType::I32,
        len,
    });
    // The steps that do something; the last of them is the result.
    let mut ops: Vec<(Op, Option<ValueId>)> = vec![(iota, None)];
    if dtype != DType::I32 {
        ops.push((Op::Cast(Cast { to: dtype }), None));
    }
    if by != 1 {
        let by = importer.value(&Entry::Dims(step), &format!("{}/step", call.name))?;
        ops.push((op2(BinaryKind::Mul), Some(by)));
    }
    if from.integer() != Some(0) {
        let from = importer.value(&Entry::Dims(start), &format!("{}/start", call.name))?;
        ops.push((op2(BinaryKind::Add), Some(from)));
    }
    let last = ops.len() - 1;
    let mut operand = None;
    for (i, (op, second)) in ops.into_iter().enumerate() {
        let operands: Vec<ValueId> = operand.into_iter().chain(second).collect();
        if i == last {
            return importer.result(call, op, &operands);
        }
        operand = Some(importer.step(call, "count", op, &operands)?);
    }
    Ok(Vec::new())
}

/// A range of constants with fractions: computed here, in single precision.
fn float_range(call: &mut Call) -> Result<Vec<Entry>> {
    let dtype = call.peek("start").and_then(Entry::ty).map(|t| t.dtype);
    let mut number = |parameter| {
        call.float(parameter)
            .map(|x| f64::from(x.unwrap_or(f32::NAN)))
    };
    let (start, end, step) = (number("start")?, number("end")?, number("step")?);
    let count = ((end - start) / step).ceil();
    let len = num::u64_of_f64(count.max(0.0));
    if count.is_nan() || len > limits::FOLDED_ELEMENTS.get() {
        return Err(call.unsupported("end", end.to_string()).into());
    }
    let len = num::usize_of(len);
    let values = (0..len)
        .map(|i| num::f32_of_f64(start + num::f64_of(i) * step))
        .collect();
    let tensor = Tensor::f32(vec![len], values)?.cast(dtype.unwrap_or(DType::F32));
    Ok(vec![Entry::constant(Constant::from_tensor(
        &call.name, &tensor,
    )?)])
}

fn fill(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let value = fill_value(importer, call)?;
    filled_to(importer, call, value)
}

fn fill_like(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let like = call.required("ref_tensor")?;
    let shape = like.ty().map(|t| t.shape).unwrap_or_default();
    let value = fill_value(importer, call)?;
    importer.result(call, Op::Expand(Expand { shape }), &[value])
}

fn fill_value(importer: &mut Importer<'_>, call: &mut Call) -> Result<ValueId> {
    match importer.optional_operand(call, "value")? {
        Some(value) => Ok(value),
        None => importer.scalar(call, "value", DType::F32, 0.0),
    }
}

/// The value all over the parameter `shape`.
pub(super) fn filled_to(
    importer: &mut Importer<'_>,
    call: &mut Call,
    value: ValueId,
) -> Result<Vec<Entry>> {
    let entry = call.required("shape")?;
    let Some(shape) = entry.dims()?.map(|d| d.values) else {
        let rank = entry
            .ty()
            .and_then(|t| t.shape.first().and_then(Dim::known));
        let Some(rank) = rank else {
            return Err(call.unsupported("shape", entry.describe()).into());
        };
        let to = importer.value(&entry, &format!("{}/shape", call.name))?;
        let shape = runtime::shape(importer, call, rank);
        return importer.result(call, Op::ExpandTo(ExpandTo { shape }), &[value, to]);
    };
    if let Some(bad) = shape.iter().find(|d| !importer.bounds.is_natural(d)) {
        return Err(call.wrong("shape", "sizes", &bad.to_string()).into());
    }
    importer.result(call, Op::Expand(Expand { shape }), &[value])
}

/// More elements at the ends of the last axes.
fn pad(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let ty = importer.ty(x);
    let rank = ty.rank();
    let mode = match call.string("mode")?.as_deref().unwrap_or("constant") {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "replicate" => PadMode::Edge,
        other => {
            let expected = "`constant`, `reflect` or `replicate`";
            return Err(call.wrong("mode", expected, &format!("`{other}`")).into());
        }
    };
    let value = importer.optional_operand(call, "constant_val")?;
    let mut operands = vec![x];
    let pads = call.required("pad")?;
    let known = pads.dims()?.map(|d| d.values);
    let value = match (mode, value) {
        (PadMode::Constant, Some(value)) => Some(importer.cast(call, "value", value, ty.dtype)?),
        (PadMode::Constant, None) => Some(importer.scalar(call, "value", ty.dtype, 0.0)?),
        (_, _) => None,
    };
    if let Some(pads) = known {
        if pads.len() % 2 != 0 || pads.len() > 2 * rank {
            let expected = format!("at most {rank} pairs");
            return Err(call
                .wrong("pad", &expected, &format!("{} numbers", pads.len()))
                .into());
        }
        let first = rank - pads.len() / 2;
        let (mut begin, mut end) = (vec![Dim::from(0); rank], vec![Dim::from(0); rank]);
        for (i, pair) in pads.chunks_exact(2).enumerate() {
            begin[first + i] = pair[0].clone();
            end[first + i] = pair[1].clone();
        }
        operands.extend(value);
        return importer.result(call, Op::Pad(Pad { mode, begin, end }), &operands);
    }
    // Pairs to all that come before, then all that come after.
    let pads = importer.value(&pads, &format!("{}/pad", call.name))?;
    let two = vec![Dim::from(rank), Dim::from(2)];
    let table = importer.step(call, "pairs", Op::Reshape(Reshape { shape: two }), &[pads])?;
    let perm = vec![1, 0];
    let table = importer.step(call, "sides", Op::Transpose(Transpose { perm }), &[table])?;
    let flat = vec![Dim::from(2 * rank)];
    let pads = importer.step(call, "pads", Op::Reshape(Reshape { shape: flat }), &[table])?;
    operands.push(pads);
    operands.extend(value);
    let shape = runtime::shape(importer, call, rank);
    importer.result(call, Op::PadBy(PadBy { mode, shape }), &operands)
}

fn reverse(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let axes = call.axes("axes", importer.ty(x).rank())?;
    importer.result(call, Op::Reverse(Reverse { axes }), &[x])
}

/// The first `lengths[i]` elements of every sequence in reverse order.
fn reverse_sequence(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let rank = shape.len();
    let lengths = importer.operand(call, "lengths")?;
    let lengths = importer.cast(call, "lengths", lengths, DType::I32)?;
    let axis = call.axis("seq_axis", rank, 0)?;
    let batch = call.axis("batch_axis", rank, 0)?;
    let lengths = along(importer, call, lengths, batch, rank)?;
    let count = count(importer, call, "count", &shape[axis])?;
    let count = along(importer, call, count, axis, rank)?;
    let one = importer.scalar(call, "one", DType::I32, 1.0)?;
    let last = importer.step(call, "last", op2(BinaryKind::Sub), &[lengths, one])?;
    let turned = importer.step(call, "turned", op2(BinaryKind::Sub), &[last, count])?;
    let inside = Op::Compare(Compare {
        kind: CompareKind::Less,
    });
    let inside = importer.step(call, "inside", inside, &[count, lengths])?;
    let places = importer.step(call, "places", Op::Select(Select), &[inside, turned, count])?;
    let places = importer.step(call, "all", Op::Expand(Expand { shape }), &[places])?;
    let op = Op::GatherElements(GatherElements { axis });
    importer.result(call, op, &[x, places])
}
