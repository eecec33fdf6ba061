//! Operators that move data as shapes say.

use super::call::Call;
use super::computed::{self, Numbers};
use super::entry::{Dims, Entry};
use super::table::{Row, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{BinaryKind, CompareKind, Reverse, Slice, SliceRange};
use crate::ir::{Dim, Op, Shape, ValueId, broadcast, normalize_axis};
use crate::limits;
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::tensor::{DType, Tensor, num};

/// A step that leaves every axis.
const MAX_STEP: usize = 1 << 40;

pub(super) const ROWS: &[Row] = &[
    row("Constant", 1, constant),
    row("ConstantOfShape", 9, constant_of_shape),
    row("Reshape", 5, reshape),
    row("Flatten", 1, flatten),
    row("Transpose", 1, transpose),
    row("Squeeze", 1, squeeze),
    row("Unsqueeze", 1, unsqueeze),
    row("Concat", 4, concat),
    row("Split", 2, split),
    row("Slice", 1, slice),
    row("Expand", 8, expand),
    row("Range", 11, range),
    row("EyeLike", 9, eye_like),
    row("Trilu", 14, trilu),
    row("OneHot", 9, one_hot),
];

fn constant(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let name = call.outputs.first().copied().unwrap_or_default().to_owned();
    let scalar =
        |t: Tensor, m: &mut Importer<'_>| -> Result<Vec<Entry>> { one(m.b.tensor("value", &t)?) };
    if let Some(tensor) = call.tensor("value")? {
        let stored = m.loader.constant(tensor, None, &name)?;
        return Ok(vec![m.stored(stored)]);
    }
    if let Some(x) = call.float("value_float")? {
        return scalar(Tensor::f32(vec![], vec![x])?, m);
    }
    if let Some(x) = call.floats("value_floats")? {
        return scalar(Tensor::f32(vec![x.len()], x)?, m);
    }
    if let Some(n) = call.int("value_int")? {
        return scalar(Tensor::int(DType::I64, vec![], vec![n])?, m);
    }
    if let Some(n) = call.ints("value_ints")? {
        return scalar(Tensor::int(DType::I64, vec![n.len()], n)?, m);
    }
    if let Some(attribute) = call.raw_attribute("sparse_value")
        && let Some(sparse) = attribute
            .sparse_tensor
            .as_ref()
            .filter(|_| attribute.r#type() == AttributeType::SparseTensor)
    {
        let constant = m.loader.sparse(sparse, &name)?;
        return Ok(vec![m.stored((constant, None))]);
    }
    if call.has_attribute("value_string") || call.has_attribute("value_strings") {
        return Err(call.unsupported("a string").into());
    }
    Err(call.missing("a value").into())
}

fn constant_of_shape(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let numbers = m.numbers(call, 0)?;
    let value = match call.tensor("value")? {
        Some(tensor) => {
            let (constant, code) = m.loader.constant(tensor, None, "value")?;
            if code.is_some() || constant.len() != 1 {
                return Err(call.wrong("value", "one number", "something else").into());
            }
            m.b.constant(constant.reshape(vec![])?)
        }
        None => m.b.scalar("value", DType::F32, 0.0)?,
    };
    if let Some(Numbers::Computed(target)) = numbers {
        return one(computed::expand(m, call, value, &target)?);
    }
    let shape = shape_input(m, call, 0)?;
    one(m.b.expand(value, shape)?)
}

/// A shape given as an input: its sizes must be known, or follow from sizes of the inputs.
pub(super) fn shape_input(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    index: usize,
) -> Result<Shape> {
    let Some(dims) = m.known(call, index)? else {
        return Err(call.missing("a shape").into());
    };
    check_shape(m, call, &dims)?;
    Ok(dims.values)
}

fn check_shape(m: &Importer<'_>, call: &Call<'_>, dims: &Dims) -> Result<()> {
    if dims.values.len() > limits::RANK.count() {
        return Err(call
            .wrong("shape", "a sensible rank", dims.values.len())
            .into());
    }
    let mut total = 1u64;
    for dim in &dims.values {
        match dim.integer() {
            Some(n) => {
                let Ok(n) = u64::try_from(n) else {
                    return Err(call.wrong("shape", "sizes of 0 or more", n).into());
                };
                total = total.saturating_mul(n);
            }
            None if m.bounds.is_natural(dim) => {}
            None => return Err(call.wrong("shape", "sizes of 0 or more", dim).into()),
        }
    }
    if total > limits::VALUE_ELEMENTS.get() {
        return Err(call
            .wrong(
                "shape",
                "a tensor that fits memory",
                format!("{total} elements"),
            )
            .into());
    }
    Ok(())
}

fn reshape(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let entry = call.required(0)?;
    let (x, code) = match entry {
        Entry::Coded(x, code) => (x, Some(code)),
        Entry::Value(_) | Entry::Dims(_) => (m.input(call, 0)?, None),
    };
    let allow_zero = call.flag("allowzero", false)?;
    let from = m.b.shape(x);
    let y = match m.numbers(call, 1)? {
        Some(Numbers::Known(target)) => {
            let shape = reshaped(call, &from, &target.values, allow_zero)?;
            let dims = Dims::vector(DType::I64, shape);
            check_shape(m, call, &dims)?;
            computed::same_elements(m, x, dims.values)?
        }
        Some(Numbers::Computed(target)) => computed::reshape(m, call, x, &target, allow_zero)?,
        None => return Err(call.missing("input 1").into()),
    };
    Ok(vec![match code {
        Some(code) => Entry::Coded(y, code),
        None => Entry::Value(y),
    }])
}

/// The shape that `target` asks for: 0 copies a size, one −1 takes what is left.
fn reshaped(call: &Call<'_>, from: &[Dim], target: &[Dim], allow_zero: bool) -> Result<Shape> {
    let mut shape = Vec::with_capacity(target.len());
    let mut open = None;
    for (i, dim) in target.iter().enumerate() {
        shape.push(match dim.integer() {
            Some(-1) if open.is_none() => {
                open = Some(i);
                Dim::from(1)
            }
            Some(0) if !allow_zero => from.get(i).cloned().ok_or_else(|| {
                call.wrong(
                    "shape",
                    "0 only where the input has an axis",
                    format!("0 at {i}"),
                )
            })?,
            Some(n) if n < 0 => return Err(call.wrong("shape", "one −1", n).into()),
            Some(_) | None => dim.clone(),
        });
    }
    if let Some(open) = open {
        let size = |s: &[Dim]| s.iter().fold(Dim::from(1), |n, d| n.mul(d));
        let (total, rest) = (size(from), size(&shape));
        // Sizes that are divided and multiplied again, as windows do, are multiples in every run that succeeds.
        let quotient = total.quotient(&rest);
        let quotient = quotient.or_else(|| total.quotient(&rest.undivided()));
        shape[open] = quotient.ok_or_else(|| {
            call.wrong(
                "shape",
                "sizes that divide those of the input",
                format!("{total} elements, {rest} without the open axis"),
            )
        })?;
    }
    Ok(shape)
}

fn flatten(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let rank = m.b.rank(x);
    let axis = call.int_or("axis", 1)?;
    // The rank itself is allowed: everything into the first axis.
    let axis = if axis == num::i64_of(rank) {
        rank
    } else {
        normalize_axis(axis, rank)?
    };
    one(m.b.flatten(x, axis)?)
}

fn transpose(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let rank = m.b.rank(x);
    let perm: Vec<usize> = match call.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(perm) => perm
            .into_iter()
            .map(|a| {
                // Other than elsewhere, negative axes are none here.
                let axis = usize::try_from(a).ok().filter(|&a| a < rank);
                axis.ok_or_else(|| call.wrong("perm", "axes of the input", a))
            })
            .collect::<std::result::Result<_, _>>()?,
    };
    one(m.b.transpose(x, &perm)?)
}

/// Axes from an attribute, or from an input in newer versions.
pub(super) fn axes_of(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    input_since: i64,
) -> Result<Option<Vec<i64>>> {
    if call.version < input_since {
        Ok(call.ints("axes")?)
    } else {
        m.ints(call, 1)
    }
}

fn squeeze(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let axes = axes_of(m, call, 13)?;
    let axes = match m.axes(call, axes, m.b.rank(x))? {
        Some(axes) => axes,
        None => {
            let shape = m.b.shape(x);
            let ones = shape.iter().enumerate();
            ones.filter(|(_, d)| m.bounds.settled(d) == Some(1))
                .map(|(i, _)| i)
                .collect()
        }
    };
    // A size that can only be 1 need not look like it.
    let mut x = x;
    for &axis in &axes {
        let size = m.b.shape(x)[axis].clone();
        if size.integer().is_none() && m.bounds.settled(&size) == Some(1) {
            x = m.b.part(x, axis, 0, 1)?;
        }
    }
    let shape = m.b.shape(x);
    let computed = |a: &usize| shape.get(*a).is_some_and(Dim::is_run_time);
    if axes.iter().any(computed) {
        let kept = (0..shape.len()).filter(|a| !axes.contains(a));
        let kept = kept.map(|a| shape[a].clone()).collect();
        return one(computed::same_elements(m, x, kept)?);
    }
    one(m.b.squeeze(x, &axes)?)
}

fn unsqueeze(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let axes = axes_of(m, call, 13)?.ok_or_else(|| call.missing("axes"))?;
    let rank = m.b.rank(x) + axes.len();
    if rank > limits::RANK.count() {
        return Err(call.wrong("axes", "a sensible rank", rank).into());
    }
    let axes = m.axes(call, Some(axes), rank)?.unwrap_or_default();
    one(m.b.unsqueeze(x, &axes)?)
}

fn concat(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let values = m.inputs_from(call, 0)?;
    let first = *values.first().ok_or_else(|| call.missing("input 0"))?;
    let axis = call.int("axis")?.ok_or_else(|| call.missing("`axis`"))?;
    let axis = normalize_axis(axis, m.b.rank(first))?;
    // Parts without elements along the axis add nothing.
    let some: Vec<ValueId> = values
        .iter()
        .copied()
        .filter(|&v| {
            m.b.shape(v).get(axis).and_then(Dim::integer) != Some(0)
                || m.b.rank(v) != m.b.rank(first)
                || m.b.dtype(v) != m.b.dtype(first)
        })
        .collect();
    let values = if some.is_empty() { values } else { some };
    one(m.b.join(&values, axis)?)
}

fn split(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let shape = m.b.shape(x);
    let axis = normalize_axis(call.int_or("axis", 0)?, shape.len())?;
    let sizes = if call.version < 13 {
        let sizes = call.ints("split")?;
        sizes.map(|s| s.into_iter().map(Dim::constant).collect::<Vec<_>>())
    } else {
        match m.numbers(call, 1)? {
            Some(Numbers::Computed(sizes)) => return computed::split(m, x, axis, &sizes),
            Some(Numbers::Known(sizes)) => Some(sizes.values),
            None => None,
        }
    };
    let count = call.int("num_outputs")?;
    let sizes = match sizes {
        Some(sizes) => sizes,
        None => {
            let n = match count {
                Some(n) => usize::try_from(n).unwrap_or_default(),
                None => call.outputs.len(),
            };
            if n == 0 || n > limits::NODES.count() {
                return Err(call.wrong("num_outputs", "at least 1", n).into());
            }
            let total = &shape[axis];
            let n_dim = Dim::from(n);
            let each = total
                .add(&n_dim)
                .sub(&Dim::from(1))
                .floor_div(&n_dim)
                .unwrap_or_default();
            let last = total.sub(&each.mul(&Dim::from(n - 1)));
            let mut sizes = vec![each; n - 1];
            sizes.push(last);
            sizes
        }
    };
    let mut at = Dim::from(0);
    let mut out = Vec::new();
    for size in &sizes {
        let end = at.add(size);
        out.push(Entry::Value(m.b.part(x, axis, at, end.clone())?));
        at = end;
    }
    if at != shape[axis] {
        return Err(call
            .wrong("split", &format!("sizes that sum to {}", shape[axis]), at)
            .into());
    }
    Ok(out)
}

fn slice(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let shape = m.b.shape(x);
    let from_ints = |v: Option<Vec<i64>>| {
        let dims = |v: Vec<i64>| v.into_iter().map(Dim::constant).collect();
        v.map(|v| Numbers::Known(Dims::vector(DType::I64, dims(v))))
    };
    let (starts, ends, axes, steps) = if call.version < 10 {
        (
            from_ints(call.ints("starts")?),
            from_ints(call.ints("ends")?),
            call.ints("axes")?,
            None,
        )
    } else {
        (
            m.numbers(call, 1)?,
            m.numbers(call, 2)?,
            m.ints(call, 3)?,
            m.ints(call, 4)?,
        )
    };
    let (Some(starts), Some(ends)) = (starts, ends) else {
        return Err(call.missing("starts or ends").into());
    };
    let count = starts.count();
    let axes = match axes {
        Some(axes) => axes,
        None => (0..num::i64_of(count)).collect(),
    };
    let steps = steps.unwrap_or_else(|| vec![1; count]);
    if count != ends.count() || count != axes.len() || count != steps.len() {
        return Err(call
            .wrong("starts", "as many as ends, axes and steps", count)
            .into());
    }
    let (Numbers::Known(Dims { values: starts, .. }), Numbers::Known(Dims { values: ends, .. })) =
        (&starts, &ends)
    else {
        let axes = axes
            .into_iter()
            .map(|a| normalize_axis(a, shape.len()))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        return one(computed::slice(m, x, (&starts, &ends), axes, steps)?);
    };
    let mut ranges: Vec<SliceRange> = Vec::new();
    let mut reversed = Vec::new();
    for (((start, end), axis), step) in starts.iter().zip(ends).zip(axes).zip(steps) {
        let axis = normalize_axis(axis, shape.len())?;
        let size = &shape[axis];
        if ranges.iter().any(|r| r.axis == axis) {
            return Err(call.wrong("axes", "every axis once", axis).into());
        }
        let zero = Dim::from(0);
        if step > 0 {
            let start_at = m.bounds.position(start, size, &zero, size);
            let end_at = m.bounds.position(end, size, &zero, size);
            let (Some(first), Some(last)) = (start_at, end_at) else {
                return Err(call
                    .wrong(
                        "starts",
                        "positions of a known sign",
                        format!("{start} to {end}"),
                    )
                    .into());
            };
            ranges.push(SliceRange {
                axis,
                end: m.bounds.larger(&first, &last),
                start: first,
                step: usize::try_from(step).unwrap_or(MAX_STEP).min(MAX_STEP),
            });
        } else {
            let back = usize::try_from(step.saturating_neg()).unwrap_or_default();
            if back == 0 {
                return Err(call.wrong("steps", "not 0", step).into());
            }
            ranges.push(backwards(m, call, axis, size, (start, end), back)?);
            reversed.push(axis);
        }
    }
    ranges.sort_by_key(|r| r.axis);
    ranges.retain(|r| !(r.start.integer() == Some(0) && r.end == shape[r.axis] && r.step == 1));
    let mut y = x;
    if !ranges.is_empty() {
        y = m.b.node(Op::Slice(Slice { ranges }), &[y])?;
    }
    if !reversed.is_empty() {
        reversed.sort_unstable();
        y = m.b.node(Op::Reverse(Reverse { axes: reversed }), &[y])?;
    }
    one(y)
}

/// The elements `start, start − back, …` above `end`, in the order in which they lie.
fn backwards(
    m: &Importer<'_>,
    call: &Call<'_>,
    axis: usize,
    size: &Dim,
    (start, end): (&Dim, &Dim),
    back: usize,
) -> Result<SliceRange> {
    let (none, last, one) = (Dim::constant(-1), size.sub(&Dim::from(1)), Dim::from(1));
    let place = |at: &Dim| m.bounds.position(at, size, &none, &last);
    let (Some(high), Some(low)) = (place(start), place(end)) else {
        let found = format!("{start} to {end}");
        return Err(call
            .wrong("starts", "positions of a known sign", found)
            .into());
    };
    let back = back.min(MAX_STEP);
    let (step, zero) = (Dim::from(back), Dim::from(0));
    let count = high.sub(&low).add(&step).sub(&one).floor_div(&step);
    let count = m.bounds.larger(&count.unwrap_or_default(), &zero);
    let first = high.sub(&count.sub(&one).mul(&step));
    let (first, end) = if count == zero {
        (zero.clone(), zero)
    } else {
        (first.clone(), m.bounds.larger(&first, &high.add(&one)))
    };
    Ok(SliceRange {
        axis,
        start: first,
        end,
        step: back,
    })
}

fn expand(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    if let Some(Numbers::Computed(target)) = m.numbers(call, 1)? {
        return one(computed::expand(m, call, x, &target)?);
    }
    let target = shape_input(m, call, 1)?;
    let shape = broadcast("expand", &m.b.shape(x), &target)?;
    let dims = Dims::vector(DType::I64, shape);
    check_shape(m, call, &dims)?;
    one(m.b.expand(x, dims.values)?)
}

fn range(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let entry = call.required(0)?;
    let dtype = match m.entry_type(&entry) {
        Some((ty, false)) => ty.dtype,
        Some((_, true)) | None => return Err(call.unsupported("this element type").into()),
    };
    if let Some(range) = computed::range(m, call)? {
        return Ok(range);
    }
    if dtype.is_float() {
        let number = |m: &mut Importer<'_>, call: &mut Call<'_>, i| -> Result<f64> {
            let list = m.floats(call, i)?.unwrap_or_default();
            Ok(list.first().copied().unwrap_or_default())
        };
        let (start, limit, delta) = (
            number(m, call, 0)?,
            number(m, call, 1)?,
            number(m, call, 2)?,
        );
        let n = ((limit - start) / delta).ceil();
        if !n.is_finite() || n > num::f64_of_u64(limits::FOLDED_ELEMENTS.get()) {
            return Err(call.wrong("limit", "a sensible range", n).into());
        }
        let n = num::i64_of_f64(n);
        let values = (0..n)
            .map(|i| num::f32_of_f64(start + num::f64_of_i64(i) * delta))
            .collect::<Vec<_>>();
        let tensor = Tensor::f32(vec![values.len()], values)?.cast(dtype);
        return one(m.b.tensor("range", &tensor)?);
    }
    let scalar = |m: &mut Importer<'_>, call: &mut Call<'_>, i: usize| -> Result<Dim> {
        let dims = m.known(call, i)?.ok_or_else(|| call.missing("an input"))?;
        match dims.values.as_slice() {
            [one] => Ok(one.clone()),
            _ => Err(call.wrong("input", "one number", dims.values.len()).into()),
        }
    };
    let (start, limit) = (scalar(m, call, 0)?, scalar(m, call, 1)?);
    let delta = scalar(m, call, 2)?;
    let length = limit
        .sub(&start)
        .add(&delta)
        .add(&Dim::constant(if delta.integer().is_some_and(|d| d < 0) {
            1
        } else {
            -1
        }))
        .floor_div(&delta)
        .ok_or_else(|| call.wrong("delta", "not 0", 0))?;
    let length = m.bounds.larger(&length, &Dim::from(0));
    check_shape(m, call, &Dims::vector(DType::I64, vec![length.clone()]))?;
    let mut y = m.b.iota(dtype, length)?;
    if delta.integer() != Some(1) {
        let delta = m.dims_value(&Dims::scalar(dtype, delta), "delta")?;
        y = m.b.mul(y, delta)?;
    }
    if start.integer() != Some(0) {
        let start = m.dims_value(&Dims::scalar(dtype, start), "start")?;
        y = m.b.add(y, start)?;
    }
    one(y)
}

/// Row index minus column index, as `i32`, of the shape of the last two axes.
fn row_minus_column(m: &mut Importer<'_>, rows: &Dim, columns: &Dim) -> Result<ValueId> {
    let row = m.b.iota(DType::I32, rows.clone())?;
    let row = m.b.unsqueeze(row, &[1])?;
    let column = m.b.iota(DType::I32, columns.clone())?;
    m.b.sub(row, column)
}

fn eye_like(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let entry = call.required(0)?;
    let (ty, _) = m
        .entry_type(&entry)
        .ok_or_else(|| call.unsupported("a sequence"))?;
    let dtype = match call.int("dtype")? {
        Some(n) => super::tensors::element_type(i32::try_from(n).unwrap_or_default())?.0,
        None => ty.dtype,
    };
    let k = call.int_or("k", 0)?;
    let [rows, columns] = ty.shape.as_slice() else {
        return Err(call.wrong("input", "a matrix", ty).into());
    };
    let difference = row_minus_column(m, rows, columns)?;
    let on =
        m.b.cmp_n(CompareKind::Equal, difference, -num::f64_of_i64(k))?;
    one(m.b.to(on, dtype)?)
}

fn trilu(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let upper = call.flag("upper", true)?;
    let shape = m.b.shape(x);
    let [.., rows, columns] = shape.as_slice() else {
        return Err(call.wrong("input", "a matrix or more", m.b.ty(x)).into());
    };
    let difference = row_minus_column(m, rows, columns)?;
    // Row − column against −k; beyond 32 bits everything or nothing is kept.
    let least = match call.entry(1) {
        Some(Entry::Value(k)) if m.b.as_constant(k).is_none() => computed::diagonal(m, k)?,
        Some(_) | None => {
            let k = m.int(call, 1)?.unwrap_or(0);
            let k = k.clamp(-(1 << 31) + 1, (1 << 31) - 1);
            m.b.number(difference, -num::f64_of_i64(k))?
        }
    };
    let kind = if upper {
        CompareKind::LessEqual
    } else {
        CompareKind::GreaterEqual
    };
    let keep = m.b.cmp(kind, difference, least)?;
    if m.b.dtype(x) == DType::Bool {
        return one(m.b.bin(BinaryKind::And, x, keep)?);
    }
    let zero = m.b.number(x, 0.0)?;
    one(m.b.select(keep, x, zero)?)
}

fn one_hot(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let indices = m.input(call, 0)?;
    let values = m.input(call, 2)?;
    let rank = m.b.rank(indices);
    let axis = normalize_axis(call.int_or("axis", -1)?, rank + 1)?;
    let indices = m.b.to(indices, DType::I32)?;
    let (depth, positions) = depth_of(m, call)?;
    let negative = m.b.cmp_n(CompareKind::Less, indices, 0.0)?;
    let from_end = m.b.add(indices, depth)?;
    let indices = m.b.select(negative, from_end, indices)?;
    let indices = m.b.unsqueeze(indices, &[axis])?;
    let after: Vec<usize> = (1..=rank - axis).collect();
    let positions = m.b.unsqueeze(positions, &after)?;
    let hot = m.b.cmp(CompareKind::Equal, indices, positions)?;
    let off = m.b.part(values, 0, 0, 1)?;
    let off = m.b.squeeze(off, &[0])?;
    let on = m.b.part(values, 0, 1, 2)?;
    let on = m.b.squeeze(on, &[0])?;
    one(m.b.select(hot, on, off)?)
}

/// How many places there are, and the places, in 32 bits.
fn depth_of(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<(ValueId, ValueId)> {
    if let Some(Entry::Value(depth)) = call.entry(1)
        && m.b.as_constant(depth).is_none()
    {
        let depth = m.b.to(depth, DType::I32)?;
        let depth = m.b.reshape(depth, vec![])?;
        let positions = computed::upto(m, depth)?;
        return Ok((depth, positions));
    }
    let depth = match m.tensor(call, 1)? {
        Some(t) if t.len() == 1 => num::i64_of_f64(t.to_f64()[0]),
        Some(_) | None => return Err(call.missing("one depth").into()),
    };
    let Some(depth) = usize::try_from(depth)
        .ok()
        .filter(|&d| num::u64_of(d) < limits::DIMENSION)
    else {
        return Err(call
            .wrong("depth", "at least 0 and no more than fits memory", depth)
            .into());
    };
    let count = m.b.scalar("depth", DType::I32, num::f64_of(depth))?;
    Ok((count, m.b.iota(DType::I32, depth)?))
}
