//! Reductions, and functions along one axis.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{ArgReduce, CompareKind, ReduceKind, Reverse, TopK, UnaryKind};
use crate::ir::{Dim, Op, ValueId, normalize_axis};
use crate::tensor::{DType, Tensor};

pub(super) const ROWS: &[Row] = &[
    row("ReduceSum", 1, |m, c| {
        reduce(m, c, Kind::Plain(ReduceKind::Sum))
    }),
    row("ReduceMean", 1, |m, c| {
        reduce(m, c, Kind::Plain(ReduceKind::Mean))
    }),
    row("ReduceMax", 1, |m, c| {
        reduce(m, c, Kind::Plain(ReduceKind::Max))
    }),
    row("ReduceMin", 1, |m, c| {
        reduce(m, c, Kind::Plain(ReduceKind::Min))
    }),
    row("ReduceL2", 1, |m, c| {
        reduce(m, c, Kind::Plain(ReduceKind::L2))
    }),
    row("ReduceProd", 1, |m, c| {
        reduce(m, c, Kind::Plain(ReduceKind::Prod))
    }),
    row("ReduceLogSumExp", 1, |m, c| {
        reduce(m, c, Kind::Plain(ReduceKind::LogSumExp))
    }),
    row("ArgMax", 1, |m, c| arg(m, c, true)),
    row("ArgMin", 1, |m, c| arg(m, c, false)),
    row("Hardmax", 1, hardmax),
    row("TopK", 1, top_k),
    row("ReduceL1", 1, |m, c| reduce(m, c, Kind::L1)),
    row("ReduceSumSquare", 1, |m, c| reduce(m, c, Kind::SumSquare)),
    row("ReduceLogSum", 1, |m, c| reduce(m, c, Kind::LogSum)),
    row("Softmax", 1, softmax),
    row("LogSoftmax", 1, log_softmax),
    row("CumSum", 11, cumsum),
    row("CumProd", 26, cumprod),
];

#[derive(Clone, Copy)]
enum Kind {
    Plain(ReduceKind),
    L1,
    SumSquare,
    LogSum,
}

/// The axes of a reduction: all of them when none are named, unless that is to mean none.
pub(super) fn reduced_axes(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    rank: usize,
    input_since: i64,
) -> Result<Vec<usize>> {
    let axes = super::shape::axes_of(m, call, input_since)?;
    let keep_all = call.version >= 13 && call.flag("noop_with_empty_axes", false)?;
    let axes = axes.filter(|a| !a.is_empty());
    Ok(match m.axes(call, axes, rank)? {
        Some(axes) => axes,
        None if keep_all => Vec::new(),
        None => (0..rank).collect(),
    })
}

fn reduce(m: &mut Importer<'_>, call: &mut Call<'_>, kind: Kind) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let since = if matches!(kind, Kind::Plain(ReduceKind::Sum)) {
        13
    } else {
        18
    };
    let axes = reduced_axes(m, call, m.b.rank(x), since)?;
    let keep = call.flag("keepdims", true)?;
    let dtype = m.b.dtype(x);
    let y = match kind {
        Kind::Plain(ReduceKind::Mean | ReduceKind::L2 | ReduceKind::LogSumExp)
            if !dtype.is_float() =>
        {
            let x = m.b.to(x, DType::F32)?;
            let Kind::Plain(kind) = kind else {
                return Ok(Vec::new());
            };
            let y = over(m, kind, x, &axes, keep)?;
            m.b.to(y, dtype)?
        }
        Kind::Plain(ReduceKind::L2) => {
            let x = if axes.is_empty() {
                m.b.un(UnaryKind::Abs, x)?
            } else {
                x
            };
            over(m, ReduceKind::L2, x, &axes, keep)?
        }
        Kind::Plain(kind) if dtype == DType::Bool => {
            let x = m.b.to(x, DType::U8)?;
            let y = over(m, kind, x, &axes, keep)?;
            m.b.to(y, dtype)?
        }
        Kind::Plain(kind) => over(m, kind, x, &axes, keep)?,
        Kind::L1 => {
            let x = m.b.un(UnaryKind::Abs, x)?;
            over(m, ReduceKind::Sum, x, &axes, keep)?
        }
        Kind::SumSquare => {
            let x = m.b.mul(x, x)?;
            over(m, ReduceKind::Sum, x, &axes, keep)?
        }
        Kind::LogSum => {
            let wide = if dtype.is_float() { dtype } else { DType::F32 };
            let x = m.b.to(x, wide)?;
            let sum = over(m, ReduceKind::Sum, x, &axes, keep)?;
            let y = m.b.un(UnaryKind::Log, sum)?;
            m.b.to(y, dtype)?
        }
    };
    one(y)
}

/// A reduction that may have no axes. Of nothing, sum and product are neutral, and the largest and smallest are the type's own ends.
pub(super) fn over(
    m: &mut Importer<'_>,
    kind: ReduceKind,
    x: ValueId,
    axes: &[usize],
    keep: bool,
) -> Result<ValueId> {
    if axes.is_empty() {
        return Ok(x);
    }
    let shape = m.b.shape(x);
    let empty = axes.iter().any(|&a| shape[a].integer() == Some(0));
    if empty && !matches!(kind, ReduceKind::Mean) {
        let dtype = m.b.dtype(x);
        let largest = matches!(kind, ReduceKind::Min);
        let value = if matches!(kind, ReduceKind::Sum | ReduceKind::L2 | ReduceKind::Prod) {
            let neutral = i64::from(kind == ReduceKind::Prod);
            Tensor::int(DType::I64, vec![], vec![neutral])?.cast(dtype)
        } else if dtype.is_float() {
            let end = if largest {
                f32::INFINITY
            } else {
                f32::NEG_INFINITY
            };
            Tensor::f32(vec![], vec![end])?.cast(dtype)
        } else {
            let bits = dtype.bits().min(63);
            let end = match (dtype.is_signed_int(), largest) {
                (true, true) => i64::MAX >> (64 - dtype.bits()),
                (true, false) => i64::MIN >> (64 - dtype.bits()),
                (false, true) => (1 << bits) - 1,
                (false, false) => 0,
            };
            Tensor::int(dtype, vec![], vec![end])?
        };
        let value = m.b.tensor("end", &value)?;
        let mut result = Vec::new();
        for (i, d) in shape.iter().enumerate() {
            if !axes.contains(&i) {
                result.push(d.clone());
            } else if keep {
                result.push(Dim::from(1));
            }
        }
        return m.b.expand(value, result);
    }
    m.b.reduce(kind, x, axes, keep)
}

/// The value as a matrix to normalise rows of, before operator set 13; the axis itself afterwards.
fn rows(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    f: impl FnOnce(&mut Importer<'_>, ValueId, usize) -> Result<ValueId>,
) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let rank = m.b.rank(x);
    let axis = call.int_or("axis", if call.version < 13 { 1 } else { -1 })?;
    let axis = normalize_axis(axis, rank)?;
    if call.version >= 13 || axis + 1 == rank {
        return one(f(m, x, axis)?);
    }
    let shape = m.b.shape(x);
    let flat = m.b.flatten(x, axis)?;
    let y = f(m, flat, 1)?;
    one(m.b.reshape(y, shape)?)
}

fn softmax(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    rows(m, call, |m, x, axis| m.b.softmax(x, axis))
}

fn log_softmax(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    rows(m, call, log_softmax_of)
}

/// x − max − log Σ exp(x − max)
pub(super) fn log_softmax_of(m: &mut Importer<'_>, x: ValueId, axis: usize) -> Result<ValueId> {
    let max = m.b.reduce(ReduceKind::Max, x, &[axis], true)?;
    let shifted = m.b.sub(x, max)?;
    let exp = m.b.un(UnaryKind::Exp, shifted)?;
    let sum = m.b.reduce(ReduceKind::Sum, exp, &[axis], true)?;
    let log = m.b.un(UnaryKind::Log, sum)?;
    m.b.sub(shifted, log)
}

fn cumsum(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let axis = m.int(call, 1)?.ok_or_else(|| call.missing("the axis"))?;
    let axis = normalize_axis(axis, m.b.rank(x))?;
    let exclusive = call.flag("exclusive", false)?;
    let reverse = call.flag("reverse", false)?;
    let shape = m.b.shape(x);
    let size = shape[axis].clone();
    let mut y = if reverse { flip(m, x, axis)? } else { x };
    if exclusive {
        // The sum before each element: the elements move on by one.
        let mut first = shape;
        first[axis] = Dim::from(1);
        let zero = m.b.number(x, 0.0)?;
        let zero = m.b.expand(zero, first)?;
        let rest = m.b.part(y, axis, 0, size.sub(&Dim::from(1)))?;
        y = m.b.join(&[zero, rest], axis)?;
    }
    y = m.b.cumsum(y, axis)?;
    one(if reverse { flip(m, y, axis)? } else { y })
}

/// The products of all elements up to each: of a row per element, in which those behind it are 1.
fn cumprod(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let axis = m.int(call, 1)?.ok_or_else(|| call.missing("the axis"))?;
    let rank = m.b.rank(x);
    let axis = normalize_axis(axis, rank)?;
    let exclusive = call.flag("exclusive", false)?;
    let reverse = call.flag("reverse", false)?;
    let size = m.b.shape(x)[axis].clone();
    let kind = match (exclusive, reverse) {
        (false, false) => CompareKind::LessEqual,
        (true, false) => CompareKind::Less,
        (false, true) => CompareKind::GreaterEqual,
        (true, true) => CompareKind::Greater,
    };
    let i = m.b.iota(DType::I64, size.clone())?;
    let i = m.b.unsqueeze(i, &[1])?;
    let j = m.b.iota(DType::I64, size)?;
    let taken = m.b.cmp(kind, j, i)?;
    // [.., size, .., 1] → a new last axis of factors.
    let mut perm: Vec<usize> = (0..rank).filter(|&a| a != axis).collect();
    perm.push(axis);
    let last = m.b.transpose(x, &perm)?;
    let rows = m.b.unsqueeze(last, &[rank - 1])?;
    let unit = m.b.number(x, 1.0)?;
    let factors = m.b.select(taken, rows, unit)?;
    let y = m.b.reduce(ReduceKind::Prod, factors, &[rank], false)?;
    let mut back = vec![0; rank];
    for (to, &from) in perm.iter().enumerate() {
        back[from] = to;
    }
    one(m.b.transpose(y, &back)?)
}

/// The value backwards along an axis.
pub(super) fn flip(m: &mut Importer<'_>, x: ValueId, axis: usize) -> Result<ValueId> {
    m.b.node(Op::Reverse(Reverse { axes: vec![axis] }), &[x])
}

fn arg(m: &mut Importer<'_>, call: &mut Call<'_>, largest: bool) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let axis = normalize_axis(call.int_or("axis", 0)?, m.b.rank(x))?;
    let keep = call.flag("keepdims", true)?;
    let last = call.flag("select_last_index", false)?;
    let op = ArgReduce {
        axis,
        largest,
        last,
        dtype: DType::I64,
    };
    let y = m.b.node(Op::ArgReduce(op), &[x])?;
    one(if keep { m.b.unsqueeze(y, &[axis])? } else { y })
}

/// 1 at the first largest element of each row, else 0.
fn hardmax(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    rows(m, call, |m, x, axis| {
        let op = ArgReduce {
            axis,
            largest: true,
            last: false,
            dtype: DType::I32,
        };
        let first = m.b.node(Op::ArgReduce(op), &[x])?;
        let first = m.b.unsqueeze(first, &[axis])?;
        let shape = m.b.shape(x);
        let positions = m.b.iota(DType::I32, shape[axis].clone())?;
        let after: Vec<usize> = (1..shape.len() - axis).collect();
        let positions = m.b.unsqueeze(positions, &after)?;
        let hot = m.b.cmp(CompareKind::Equal, positions, first)?;
        m.b.to(hot, m.b.dtype(x))
    })
}

fn top_k(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let axis = normalize_axis(call.int_or("axis", -1)?, m.b.rank(x))?;
    let largest = call.flag("largest", true)?;
    // Sorted results serve those who do not ask for it.
    call.flag("sorted", true)?;
    let k = if call.version < 10 {
        Dim::constant(call.int("k")?.ok_or_else(|| call.missing("`k`"))?)
    } else {
        let dims = m.known(call, 1)?.ok_or_else(|| call.missing("`K`"))?;
        match dims.values.as_slice() {
            [k] => k.clone(),
            _ => return Err(call.wrong("K", "one number", dims.values.len()).into()),
        }
    };
    if k.integer().is_some_and(|k| k < 0) {
        return Err(call.wrong("K", "at least 0", k).into());
    }
    let op = TopK {
        axis,
        k,
        largest,
        dtype: DType::I64,
    };
    let results = m.b.push_all("top_k", Op::TopK(op), &[x])?;
    Ok(results.into_iter().map(Entry::Value).collect())
}
