//! Data movement that is known from shapes.

use super::call::{Call, ceil_div};
use super::entry::{Dims, Entry};
use super::{Handler, Importer};
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, Cast, Concat, Expand, Gather, Iota, Reshape, Slice, SliceRange, Squeeze, Transpose,
    Unsqueeze,
};
use crate::ir::{Constant, Dim, Op, ValueId, normalize_axis};
use crate::limits;
use crate::tensor::{DType, Tensor, num};

use super::elementwise::op2;

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

/// In the wanted shape, 0 copies the size of the same axis and −1 is what is left.
fn reshape(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let from = importer.ty(x).shape;
    let wanted = call.dims("shape")?.values;
    let mut shape = Vec::with_capacity(wanted.len());
    let mut rest = None;
    for (axis, dim) in wanted.iter().enumerate() {
        shape.push(match dim.integer() {
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
    if let Some(axis) = rest {
        let size = |s: &[Dim]| s.iter().fold(Dim::from(1), |n, d| n.mul(d));
        let left = size(&from).floor_div(&size(&shape));
        shape[axis] = left.ok_or_else(|| call.unsupported("shape", "-1 beside 0"))?;
    }
    importer.result(call, Op::Reshape(Reshape { shape }), &[x])
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
    let axes = if call.peek("axes").is_some() {
        call.axes("axes", shape.len())?
    } else {
        let one = |d: &Dim| d.integer() == Some(1);
        (0..shape.len()).filter(|&a| one(&shape[a])).collect()
    };
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
    let axis = call.axis("axis", importer.ty(operands[0]).rank(), 0)?;
    if call.bool("interleave", false)? {
        return Err(call.unsupported("interleave", "true").into());
    }
    importer.result(call, Op::Concat(Concat { axis }), &operands)
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
    let begin = call.dims("begin")?.values;
    let begin = call.per_axis("begin", begin, rank)?;
    let end = call.dims("end")?.values;
    let end = call.per_axis("end", end, rank)?;
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
                return Err(call.unsupported("begin", from.to_string()).into());
            };
            let next = at.add(&Dim::from(1));
            ranges.push(SliceRange::new(axis, at, next));
            continue;
        }
        let to = (!no_end[axis]).then_some(&end[axis]);
        if stride[axis] < 0 {
            let list = backwards(from, to, size, stride[axis])
                .ok_or_else(|| call.unsupported("stride", stride[axis].to_string()))?;
            reversed.push((axis, list));
            continue;
        }
        let step = usize::try_from(stride[axis]).unwrap_or(0);
        if step == 0 {
            return Err(call.wrong("stride", "another number", "0").into());
        }
        let Some((start, end)) = importer.bounds.range(from, to, size) else {
            let found = format!("{} to {}", begin[axis], end[axis]);
            return Err(call.unsupported("begin and end", found).into());
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
    let begin = call.dims("begin")?.values;
    let begin = call.per_axis("begin", begin, shape.len())?;
    let sizes = call.dims("size")?.values;
    let sizes = call.per_axis("size", sizes, shape.len())?;
    let mut ranges = Vec::new();
    for (axis, size) in shape.iter().enumerate() {
        let Some((start, rest)) = importer.bounds.range(Some(&begin[axis]), None, size) else {
            return Err(call.unsupported("begin", begin[axis].to_string()).into());
        };
        let end = match sizes[axis].integer() {
            Some(-1) => rest,
            Some(n) if n < 0 => {
                return Err(call.wrong("size", "sizes or -1", &n.to_string()).into());
            }
            Some(_) | None => start.add(&sizes[axis]),
        };
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
    let shape = importer.ty(x).shape;
    let reps = call.dims("reps")?.values;
    let reps = call.per_axis("reps", reps, shape.len())?;
    if let Some(bad) = reps.iter().find(|r| !importer.bounds.is_natural(r)) {
        return Err(call.wrong("reps", "repetitions", &bad.to_string()).into());
    }
    let one = Dim::from(1);
    let pairs = || shape.iter().zip(&reps);
    if pairs().all(|(size, rep)| *size == one || *rep == one) {
        let shape = pairs().map(|(size, rep)| size.mul(rep)).collect();
        return importer.result(call, Op::Expand(Expand { shape }), &[x]);
    }
    // Every axis becomes two, of which the first is repeated.
    let apart = pairs()
        .flat_map(|(size, _)| [one.clone(), size.clone()])
        .collect();
    let repeated = pairs()
        .flat_map(|(size, rep)| [rep.clone(), size.clone()])
        .collect();
    let joined = pairs().map(|(size, rep)| size.mul(rep)).collect();
    let apart = importer.step(call, "apart", Op::Reshape(Reshape { shape: apart }), &[x])?;
    let repeated = Op::Expand(Expand { shape: repeated });
    let repeated = importer.step(call, "repeated", repeated, &[apart])?;
    importer.result(call, Op::Reshape(Reshape { shape: joined }), &[repeated])
}

/// `start, start + step, …` below `end`.
fn range_1d(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let whole = ["start", "end", "step"].iter().all(|p| {
        call.peek(p)
            .is_some_and(|e| matches!(e.dims(), Ok(Some(_))))
    });
    if !whole {
        return float_range(call);
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
    for parameter in ["start", "end", "step"] {
        if let Some(entry) = call.peek(parameter).filter(|e| !e.is_constant()) {
            return Err(call.unsupported(parameter, entry.describe()).into());
        }
    }
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
    let shape = call.dims("shape")?.values;
    filled(importer, call, shape)
}

fn fill_like(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let like = call.required("ref_tensor")?;
    let shape = like.ty().map(|t| t.shape).unwrap_or_default();
    filled(importer, call, shape)
}

fn filled(importer: &mut Importer<'_>, call: &mut Call, shape: Vec<Dim>) -> Result<Vec<Entry>> {
    if let Some(bad) = shape.iter().find(|d| !importer.bounds.is_natural(d)) {
        return Err(call.wrong("shape", "sizes", &bad.to_string()).into());
    }
    let value = match importer.optional_operand(call, "value")? {
        Some(value) => value,
        None => importer.scalar(call, "value", DType::F32, 0.0)?,
    };
    importer.result(call, Op::Expand(Expand { shape }), &[value])
}
