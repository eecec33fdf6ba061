//! Arithmetic on sizes that vary: integer operators on what `Shape` gives are followed as dimension expressions, so that no such operator is left in
//! the module. Sizes that are all known are ordinary constants, and folded like those.

use super::Importer;
use super::call::Call;
use super::entry::{Dims, Entry};
use super::tensors::element_type;
use crate::error::Result;
use crate::ir::Bounds;
use crate::ir::{Dim, normalize_axis};
use crate::limits;
use crate::tensor::{DType, num};

/// The results of an operator on sizes that vary; `None` when it is to be read as an ordinary operator.
pub(super) fn evaluate(m: &Importer<'_>, call: &mut Call<'_>) -> Result<Option<Vec<Entry>>> {
    match call.op.as_str() {
        "Shape" => return shape(m, call).map(Some),
        "Size" => return size(m, call).map(Some),
        _ => {}
    }
    let varies = |entry: &Option<Entry>| match entry {
        Some(Entry::Dims(d)) => d.integers().is_none(),
        Some(Entry::Value(_) | Entry::Coded(..)) | None => false,
    };
    if !call.inputs.iter().any(varies) {
        return Ok(None);
    }
    let mut inputs = Vec::with_capacity(call.inputs.len());
    for entry in &call.inputs {
        inputs.push(match entry {
            Some(entry) => m.dims(entry)?,
            None => None,
        });
    }
    if call.op == "Split" {
        return split(call, &inputs);
    }
    let result = whole(call, &m.bounds, &inputs)?;
    Ok(result
        .filter(|d| d.values.len() <= limits::ONNX_FOLLOWED_ELEMENTS)
        .map(|d| vec![Entry::Dims(d)]))
}

fn shape(m: &Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let entry = call.required(0)?;
    let shape = m.shape_of(call, &entry)?;
    let rank = num::i64_of(shape.len());
    let bound = |n: i64| {
        let n = if n < 0 { n.saturating_add(rank) } else { n };
        usize::try_from(n.clamp(0, rank)).unwrap_or_default()
    };
    let start = bound(call.int_or("start", 0)?);
    let end = bound(call.int_or("end", rank)?);
    call.finish()?;
    let part = shape.get(start..end.max(start)).unwrap_or_default();
    let size = |d: &Dim| m.bounds.settled(d).map_or_else(|| d.clone(), Dim::constant);
    let sizes = part.iter().map(size).collect();
    Ok(vec![Entry::Dims(Dims::vector(DType::I64, sizes))])
}

fn size(m: &Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let entry = call.required(0)?;
    let shape = m.shape_of(call, &entry)?;
    call.finish()?;
    let size = shape.iter().fold(Dim::from(1), |n, d| n.mul(d));
    Ok(vec![Entry::Dims(Dims::scalar(DType::I64, size))])
}

fn split(call: &mut Call<'_>, inputs: &[Option<Dims>]) -> Result<Option<Vec<Entry>>> {
    let Some(Some(x)) = inputs.first() else {
        return Ok(None);
    };
    if x.shape.len() != 1 || !matches!(call.int_or("axis", 0)?, 0 | -1) {
        return Ok(None);
    }
    let sizes = match (inputs.get(1), call.ints("split")?) {
        (Some(Some(sizes)), _) => sizes.integers(),
        (_, Some(sizes)) => Some(sizes),
        (_, None) => {
            call.ignore("num_outputs");
            let n = call.outputs.len().max(1);
            let each = num::i64_of(x.values.len().div_ceil(n));
            let mut left = num::i64_of(x.values.len());
            Some(
                (0..n)
                    .map(|_| {
                        let this = each.min(left);
                        left -= this;
                        this
                    })
                    .collect(),
            )
        }
    };
    let Some(sizes) = sizes else {
        return Ok(None);
    };
    let (mut at, mut out) = (0usize, Vec::new());
    for size in sizes {
        let Some(part) = usize::try_from(size)
            .ok()
            .and_then(|n| x.values.get(at..at.checked_add(n)?))
        else {
            return Ok(None);
        };
        at += part.len();
        out.push(Entry::Dims(Dims::vector(x.dtype, part.to_vec())));
    }
    Ok((at == x.values.len()).then_some(out))
}

fn whole(call: &mut Call<'_>, bounds: &Bounds, inputs: &[Option<Dims>]) -> Result<Option<Dims>> {
    let input = |i: usize| inputs.get(i).cloned().flatten();
    let Some(x) = input(0) else {
        return Ok(None);
    };
    let y = input(1);
    let two = |dtype: Option<DType>, f: &dyn Fn(&Dim, &Dim) -> Option<Dim>| {
        let y = y.clone()?;
        let mut out = elementwise(&[&x, &y], |v| f(v[0], v[1]))?;
        out.dtype = dtype.unwrap_or(out.dtype);
        Some(out)
    };
    let truth = |b: bool| Dim::from(usize::from(b));
    let natural = |a: &Dim, b: &Dim| bounds.is_natural(a) && bounds.below(&Dim::from(0), b);
    let many = |f: &dyn Fn(&Dim, &Dim) -> Dim| {
        let all: Option<Vec<&Dims>> = inputs.iter().map(Option::as_ref).collect();
        elementwise(&all?, |v| {
            let (first, rest) = v.split_first()?;
            Some(rest.iter().fold((*first).clone(), |a, b| f(&a, b)))
        })
    };
    let bool = Some(DType::Bool);
    Ok(match call.op.as_str() {
        "Identity" | "Floor" | "Ceil" | "Round" => Some(x),
        "Cast" => {
            let to = call.int("to")?.and_then(|n| i32::try_from(n).ok());
            call.ignore("saturate");
            call.ignore("round_mode");
            match to.map(element_type) {
                Some(Ok((to, None))) if to != DType::Bool && to.bits() >= 16 => {
                    Some(Dims { dtype: to, ..x })
                }
                Some(_) | None => None,
            }
        }
        "Neg" => elementwise(&[&x], |v| Some(Dim::from(0).sub(v[0]))),
        "Abs" => elementwise(&[&x], |v| bounds.is_natural(v[0]).then(|| v[0].clone())),
        "Relu" => elementwise(&[&x], |v| Some(bounds.larger(v[0], &Dim::from(0)))),
        "Add" => two(None, &|a, b| Some(a.add(b))),
        "Sub" => two(None, &|a, b| Some(a.sub(b))),
        "Mul" => two(None, &|a, b| Some(a.mul(b))),
        "Div" if x.dtype.is_float() => two(None, &|a, b| a.floor_div(b).filter(|q| q.mul(b) == *a)),
        "Div" => two(None, &|a, b| {
            natural(a, b).then(|| a.floor_div(b)).flatten()
        }),
        "Mod" => {
            call.ignore("fmod");
            two(None, &|a, b| {
                natural(a, b)
                    .then(|| Some(a.sub(&a.floor_div(b)?.mul(b))))
                    .flatten()
            })
        }
        "Min" => many(&|a, b| bounds.smaller(a, b)),
        "Max" => many(&|a, b| bounds.larger(a, b)),
        "Sum" => many(&|a, b| a.add(b)),
        "Equal" => two(bool, &|a, b| {
            (a == b || bounds.differ(a, b)).then(|| truth(a == b))
        }),
        "Less" => two(bool, &|a, b| less(bounds, a, b).map(truth)),
        "Greater" => two(bool, &|a, b| less(bounds, b, a).map(truth)),
        "LessOrEqual" => two(bool, &|a, b| less(bounds, b, a).map(|l| truth(!l))),
        "GreaterOrEqual" => two(bool, &|a, b| less(bounds, a, b).map(|l| truth(!l))),
        "Where" => match (y, input(2)) {
            (Some(a), Some(b)) => {
                let dtype = a.dtype;
                elementwise(&[&x, &a, &b], |v| match v[0].integer()? {
                    0 => Some(v[2].clone()),
                    _ => Some(v[1].clone()),
                })
                .map(|d| Dims { dtype, ..d })
            }
            (Some(_) | None, _) => None,
        },
        "Gather" => match y {
            Some(y) if matches!(call.int_or("axis", 0)?, 0 | -1) => gather(&x, &y),
            Some(_) | None => None,
        },
        "Slice" => slice(call, &x, inputs)?,
        "Concat" => concat(call, inputs)?,
        "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten" | "Expand" => {
            reshaped(call, &x, y.as_ref())?
        }
        "ReduceProd" => fold(call, &x, y, Dim::from(1), |a, b| a.mul(b))?,
        "ReduceSum" => fold(call, &x, y, Dim::from(0), |a, b| a.add(b))?,
        "ReduceMax" | "ReduceMin" => {
            let smaller = call.op == "ReduceMin";
            match x.values.first().cloned() {
                Some(first) => fold(call, &x, y, first, |a, b| {
                    if smaller {
                        bounds.smaller(a, b)
                    } else {
                        bounds.larger(a, b)
                    }
                })?,
                None => None,
            }
        }
        _ => None,
    })
}

/// Whether `a < b`, if the sizes decide it.
fn less(bounds: &Bounds, a: &Dim, b: &Dim) -> Option<bool> {
    if bounds.below(a, b) {
        Some(true)
    } else if bounds.at_most(b, a) {
        Some(false)
    } else {
        None
    }
}

/// A function of every element; scalars and vectors of one are broadcast.
fn elementwise(operands: &[&Dims], f: impl Fn(&[&Dim]) -> Option<Dim>) -> Option<Dims> {
    let first = operands.first()?;
    let shape = operands
        .iter()
        .map(|d| &d.shape)
        .max_by_key(|s| (s.iter().product::<usize>(), s.len()))?;
    let n: usize = shape.iter().product();
    if operands
        .iter()
        .any(|d| d.values.len() != 1 && d.shape != *shape)
    {
        return None;
    }
    let values = (0..n)
        .map(|i| {
            let at: Option<Vec<&Dim>> = operands
                .iter()
                .map(|d| d.values.get(if d.values.len() == 1 { 0 } else { i }))
                .collect();
            f(&at?)
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Dims {
        dtype: first.dtype,
        shape: shape.clone(),
        values,
    })
}

fn gather(x: &Dims, indices: &Dims) -> Option<Dims> {
    if x.shape.len() != 1 {
        return None;
    }
    let values = indices
        .integers()?
        .into_iter()
        .map(|i| {
            x.values
                .get(normalize_axis(i, x.values.len()).ok()?)
                .cloned()
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Dims {
        dtype: x.dtype,
        shape: indices.shape.clone(),
        values,
    })
}

fn slice(call: &mut Call<'_>, x: &Dims, inputs: &[Option<Dims>]) -> Result<Option<Dims>> {
    if x.shape.len() != 1 {
        return Ok(None);
    }
    let from_attributes = call.has_attribute("starts");
    let (starts, ends, axes) = (call.ints("starts")?, call.ints("ends")?, call.ints("axes")?);
    let numbers = |i: usize, attribute: Option<Vec<i64>>| {
        if from_attributes {
            return attribute;
        }
        inputs.get(i)?.as_ref()?.integers()
    };
    let one = |list: Option<Vec<i64>>| list.and_then(|l| (l.len() == 1).then(|| l[0]));
    let (Some(start), Some(end)) = (one(numbers(1, starts)), one(numbers(2, ends))) else {
        return Ok(None);
    };
    let given = |i: usize| !from_attributes && inputs.len() > i && call.has(i);
    let axis = if from_attributes || given(3) {
        one(numbers(3, axes)).unwrap_or(0)
    } else {
        0
    };
    let step = if given(4) {
        one(numbers(4, None))
    } else {
        Some(1)
    };
    let (0 | -1, Some(step)) = (axis, step) else {
        return Ok(None);
    };
    let n = num::i64_of(x.values.len());
    let place = |at: i64, low: i64, high: i64| {
        let at = if at < 0 { at.saturating_add(n) } else { at };
        at.clamp(low, high)
    };
    let mut picked = Vec::new();
    let (mut at, end) = if step > 0 {
        (place(start, 0, n), place(end, 0, n))
    } else {
        (place(start, -1, n - 1), place(end, -1, n - 1))
    };
    if step == 0 {
        return Ok(None);
    }
    while (step > 0 && at < end) || (step < 0 && at > end) {
        let Some(value) = usize::try_from(at).ok().and_then(|i| x.values.get(i)) else {
            return Ok(None);
        };
        picked.push(value.clone());
        at = at.saturating_add(step);
    }
    Ok(Some(Dims::vector(x.dtype, picked)))
}

fn concat(call: &mut Call<'_>, inputs: &[Option<Dims>]) -> Result<Option<Dims>> {
    if !matches!(call.int("axis")?, Some(0 | -1)) {
        return Ok(None);
    }
    let mut values = Vec::new();
    let mut dtype = None;
    for dims in inputs {
        let Some(dims) = dims.as_ref().filter(|d| d.shape.len() == 1) else {
            return Ok(None);
        };
        values.extend(dims.values.iter().cloned());
        dtype = Some(dims.dtype);
    }
    Ok(dtype.map(|dtype| Dims::vector(dtype, values)))
}

/// Operators that only change the shape: with one element or a vector there is not much to choose from.
fn reshaped(call: &mut Call<'_>, x: &Dims, parameter: Option<&Dims>) -> Result<Option<Dims>> {
    let mut axes = call.ints("axes")?;
    call.ignore("allowzero");
    if axes.is_none() {
        axes = parameter.and_then(Dims::integers);
    }
    let n = x.values.len();
    let shape = match (call.op.as_str(), axes) {
        ("Unsqueeze", Some(axes)) => {
            let rank = x.shape.len() + axes.len();
            let mut shape = x.shape.clone();
            let mut axes: Vec<usize> = axes
                .into_iter()
                .map(|a| normalize_axis(a, rank))
                .collect::<std::result::Result<_, _>>()?;
            axes.sort_unstable();
            for axis in axes {
                if axis > shape.len() {
                    return Ok(None);
                }
                shape.insert(axis, 1);
            }
            shape
        }
        ("Squeeze", axes) => match axes {
            None => x.shape.iter().copied().filter(|&d| d != 1).collect(),
            Some(axes) => {
                let mut keep = vec![true; x.shape.len()];
                for axis in axes {
                    let axis = normalize_axis(axis, x.shape.len())?;
                    if x.shape[axis] != 1 {
                        return Ok(None);
                    }
                    keep[axis] = false;
                }
                let kept = x.shape.iter().zip(keep).filter(|(_, keep)| *keep);
                kept.map(|(&d, _)| d).collect()
            }
        },
        ("Reshape", Some(target)) => match target.as_slice() {
            [] if n == 1 => vec![],
            [-1] => vec![n],
            [k] if usize::try_from(*k) == Ok(n) => vec![n],
            _ => return Ok(None),
        },
        ("Expand", Some(target)) if n == 1 && target.len() <= 1 => {
            let count = target.first().copied().unwrap_or(1);
            let Some(count) = usize::try_from(count)
                .ok()
                .filter(|&c| c <= limits::ONNX_FOLLOWED_ELEMENTS)
            else {
                return Ok(None);
            };
            let mut out = Dims::vector(x.dtype, vec![x.values[0].clone(); count]);
            if target.is_empty() {
                out.shape.clone_from(&x.shape);
            }
            return Ok(Some(out));
        }
        _ => return Ok(None),
    };
    Ok(Some(Dims { shape, ..x.clone() }))
}

fn fold(
    call: &mut Call<'_>,
    x: &Dims,
    axes_input: Option<Dims>,
    first: Dim,
    f: impl Fn(&Dim, &Dim) -> Dim,
) -> Result<Option<Dims>> {
    if x.shape.len() != 1 {
        return Ok(None);
    }
    let keep = call.flag("keepdims", true)?;
    call.ignore("noop_with_empty_axes");
    let axes = match call.ints("axes")? {
        Some(axes) => Some(axes),
        None => axes_input.and_then(|d| d.integers()),
    };
    if !matches!(axes.as_deref(), None | Some([0 | -1])) {
        return Ok(None);
    }
    let value = x.values.iter().fold(first, |a, b| f(&a, b));
    Ok(Some(if keep {
        Dims::vector(x.dtype, vec![value])
    } else {
        Dims::scalar(x.dtype, value)
    }))
}
