//! Operations whose result's size follows from values: what the sizes are, and the operations that only these need.

use super::layout::pick_axes;
use super::{EvalError, Target, boxes};
use crate::error::Result;
use crate::ir::ops::{Size, SliceBy};
use crate::ir::{Bindings, Dim, IrError, Op};
use crate::tensor::{Storage, Tensor, num};

/// Gives the run-time sizes that an operation names their values.
pub(super) fn bind(op: &Op, operands: &[Tensor], bindings: &mut Bindings) -> Result<()> {
    let ints = |i: usize| -> Result<Vec<i64>> {
        let operand: &Tensor = operands.get(i).ok_or(IrError::Undefined { operand: i })?;
        Ok(operand.ints()?.to_vec())
    };
    if let Op::ReshapeTo(o) = op {
        let shape = reshaped(operands[0].shape(), &ints(1)?, o.zero_copies)?;
        return unify_all(&o.shape, &shape, bindings);
    }
    if let Op::ExpandTo(o) = op {
        let shape = expanded(operands[0].shape(), &ints(1)?)?;
        return unify_all(&o.shape, &shape, bindings);
    }
    if let Op::TileBy(o) = op {
        let repeats = ints(1)?;
        let sizes = operands[0].shape().iter().zip(&repeats);
        let shape = sizes
            .map(|(&n, &r)| size_of(num::i64_of(n).saturating_mul(r)))
            .collect::<Result<Vec<_>>>()?;
        return unify_all(&o.shape, &shape, bindings);
    }
    if let Op::SliceBy(o) = op {
        let ranges = ranges(o, operands[0].shape(), &ints(1)?, &ints(2)?);
        let mut shape = operands[0].shape().to_vec();
        for (&axis, range) in o.axes.iter().zip(&ranges) {
            shape[axis] = range.len;
        }
        return unify_all(&o.shape, &shape, bindings);
    }
    if let Op::PadBy(o) = op {
        let pads = ints(1)?;
        let rank = operands[0].shape().len();
        let mut shape = Vec::with_capacity(rank);
        for (i, &n) in operands[0].shape().iter().enumerate() {
            let ends = [pads.get(i), pads.get(i + rank)];
            let more: i64 = ends
                .into_iter()
                .flatten()
                .fold(0, |a, &b| a.saturating_add(b));
            shape.push(size_of(num::i64_of(n).saturating_add(more))?);
        }
        return unify_all(&o.shape, &shape, bindings);
    }
    if let Op::RangeBy(o) = op {
        return unify(&o.len, range_len(operands)?, bindings);
    }
    if let Op::NonZero(o) = op {
        let count = match operands[0].storage() {
            Storage::Float(v) => v.iter().filter(|&&x| x != 0.0).count(),
            Storage::Int(v) => v.iter().filter(|&&x| x != 0).count(),
            Storage::Bool(v) => v.iter().filter(|&&x| x).count(),
        };
        return unify(&o.count, count, bindings);
    }
    if let Op::TopK(o) = op
        && operands.len() > 1
    {
        let k = ints(1)?.first().copied().unwrap_or_default();
        return unify(&o.k, size_of(k)?, bindings);
    }
    if let Op::NonMaxSuppression(o) = op {
        return unify(&o.count, boxes::choose(o, operands)?.len(), bindings);
    }
    Ok(())
}

/// A size that must not be negative.
fn size_of(n: i64) -> Result<usize> {
    usize::try_from(n).map_err(|_| EvalError::NegativeSize { size: n }.into())
}

pub(super) fn unify_all(dims: &[Dim], sizes: &[usize], bindings: &mut Bindings) -> Result<()> {
    if dims.len() != sizes.len() {
        return Err(EvalError::Result {
            declared: crate::ir::display_shape(dims),
            found: format!("{sizes:?}"),
        }
        .into());
    }
    for (dim, &size) in dims.iter().zip(sizes) {
        unify(dim, size, bindings)?;
    }
    Ok(())
}

/// A size that turned out: binds the symbol, or must be what the dimension says.
pub(super) fn unify(dim: &Dim, size: usize, bindings: &mut Bindings) -> Result<()> {
    if let Some(symbol) = dim.as_symbol()
        && dim.is_run_time()
    {
        bindings.insert(symbol.to_owned(), num::u64_of(size));
        return Ok(());
    }
    match dim.eval(bindings) {
        Some(n) if n == num::i64_of(size) => Ok(()),
        Some(n) => Err(EvalError::Result {
            declared: n.to_string(),
            found: size.to_string(),
        }
        .into()),
        None => Err(IrError::Unbound {
            dim: dim.to_string(),
        }
        .into()),
    }
}

fn reshaped(x: &[usize], shape: &[i64], zero_copies: bool) -> Result<Vec<usize>> {
    let total: usize = x.iter().product();
    let mut out = Vec::with_capacity(shape.len());
    let mut open = None;
    for (i, &n) in shape.iter().enumerate() {
        if n == -1 && open.is_none() {
            open = Some(i);
            out.push(1);
        } else if n == 0 && zero_copies {
            out.push(x.get(i).copied().unwrap_or(0));
        } else {
            out.push(size_of(n)?);
        }
    }
    if let Some(i) = open {
        let rest = out.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        out[i] = rest.and_then(|n| total.checked_div(n)).unwrap_or(0);
    }
    let found = out.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if found != Some(total) {
        return Err(EvalError::Result {
            declared: format!("{x:?}"),
            found: format!("{shape:?}"),
        }
        .into());
    }
    Ok(out)
}

fn expanded(x: &[usize], shape: &[i64]) -> Result<Vec<usize>> {
    let rank = x.len().max(shape.len());
    let mut out = Vec::with_capacity(rank);
    for i in 0..rank {
        let own = (i + x.len()).checked_sub(rank).map_or(1, |j| x[j]);
        let asked = match (i + shape.len()).checked_sub(rank) {
            Some(j) => size_of(shape[j])?,
            None => 1,
        };
        out.push(match (own, asked) {
            (a, b) if a == b || b == 1 => a,
            (1, b) => b,
            (_, _) => {
                return Err(EvalError::Result {
                    declared: format!("{x:?}"),
                    found: format!("{shape:?}"),
                }
                .into());
            }
        });
    }
    Ok(out)
}

/// A clamped range of one axis.
struct Range {
    first: i64,
    step: i64,
    len: usize,
}

fn ranges(op: &SliceBy, shape: &[usize], starts: &[i64], ends: &[i64]) -> Vec<Range> {
    let bounds = starts.iter().zip(ends);
    let axes = op.axes.iter().zip(&op.steps);
    axes.zip(bounds)
        .map(|((&axis, &step), (&start, &end))| {
            let n = num::i64_of(shape[axis]);
            let from_end = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
            let (first, len) = if step > 0 {
                let (first, last) = (from_end(start).clamp(0, n), from_end(end).clamp(0, n));
                let span = u64::try_from(last - first).unwrap_or(0);
                (first, span.div_ceil(step.unsigned_abs()))
            } else {
                let (first, last) = (from_end(start).clamp(-1, n - 1), from_end(end).clamp(-1, n));
                let span = u64::try_from(first - last).unwrap_or(0);
                (first, span.div_ceil(step.unsigned_abs()))
            };
            Range {
                first,
                step,
                len: num::usize_of(len),
            }
        })
        .collect()
}

pub(super) fn slice_by(op: &SliceBy, operands: &[Tensor], target: Target) -> Result<Tensor> {
    let x = &operands[0];
    let (starts, ends) = (operands[1].ints()?, operands[2].ints()?);
    let mut maps: Vec<Vec<usize>> = x.shape().iter().map(|&n| (0..n).collect()).collect();
    for (&axis, range) in op.axes.iter().zip(ranges(op, x.shape(), starts, ends)) {
        let index = |i: usize| {
            let at = range.first + num::i64_of(i) * range.step;
            num::usize_of(at.unsigned_abs())
        };
        maps[axis] = (0..range.len).map(index).collect();
    }
    pick_axes(x, &maps, target)
}

fn range_len(operands: &[Tensor]) -> Result<usize> {
    if let Storage::Int(_) = operands[0].storage() {
        let of = |i: usize| -> Result<i128> {
            let v: &Tensor = &operands[i];
            Ok(i128::from(v.ints()?.first().copied().unwrap_or_default()))
        };
        let (start, limit, delta) = (of(0)?, of(1)?, of(2)?);
        if delta == 0 {
            return Err(EvalError::DivisionByZero { op: "range_by" }.into());
        }
        let span = if delta > 0 {
            limit - start
        } else {
            start - limit
        };
        let step = delta.abs();
        let len = if span <= 0 {
            0
        } else {
            (span + step - 1) / step
        };
        return Ok(usize::try_from(len).unwrap_or(usize::MAX));
    }
    let of = |i: usize| -> Result<f64> {
        let v: &Tensor = &operands[i];
        Ok(f64::from(v.floats()?.first().copied().unwrap_or_default()))
    };
    let (start, limit, delta) = (of(0)?, of(1)?, of(2)?);
    if delta == 0.0 {
        return Err(EvalError::DivisionByZero { op: "range_by" }.into());
    }
    Ok(num::usize_of(num::u64_of_f64(
        ((limit - start) / delta).ceil(),
    )))
}

pub(super) fn range_by(operands: &[Tensor], target: Target) -> Result<Tensor> {
    if let Storage::Int(start) = operands[0].storage() {
        let start = start.first().copied().unwrap_or_default();
        let delta = operands[2].ints()?.first().copied().unwrap_or_default();
        let at = |i: usize| start.wrapping_add(delta.wrapping_mul(num::i64_of(i)));
        let values = (0..target.len()).map(at).collect();
        return target.int(values);
    }
    let first = |t: &Tensor| -> Result<f64> {
        Ok(f64::from(t.floats()?.first().copied().unwrap_or_default()))
    };
    let (start, delta) = (first(&operands[0])?, first(&operands[2])?);
    let at = |i: usize| num::f32_of_f64(start + num::f64_of(i) * delta);
    let values = (0..target.len()).map(at).collect();
    target.float(values)
}

pub(super) fn size(op: &Size, bindings: &Bindings, target: Target) -> Result<Tensor> {
    let size = op.dim.eval(bindings).ok_or_else(|| IrError::Unbound {
        dim: op.dim.to_string(),
    })?;
    target.int(vec![size])
}

pub(super) fn non_zero(x: &Tensor, target: Target) -> Result<Tensor> {
    let places: Vec<usize> = match x.storage() {
        Storage::Float(v) => places(v, |x| x != 0.0),
        Storage::Int(v) => places(v, |x| x != 0),
        Storage::Bool(v) => places(v, |x| x),
    };
    let mut out = Vec::with_capacity(target.len());
    let mut inner: usize = x.shape().iter().product();
    for &n in x.shape() {
        inner = inner.checked_div(n).unwrap_or(0).max(1);
        out.extend(places.iter().map(|p| num::i64_of(p / inner % n.max(1))));
    }
    target.int(out)
}

fn places<T: Copy>(values: &[T], wanted: impl Fn(T) -> bool) -> Vec<usize> {
    let found = values.iter().enumerate().filter(|(_, x)| wanted(**x));
    found.map(|(i, _)| i).collect()
}
