//! Shapes and bounds that are computed at run time: what the other families fall back to when a parameter is no constant.

use super::Importer;
use super::call::Call;
use super::elementwise::op2;
use super::entry::{Dims, Entry};
use crate::error::Result;
use crate::ir::ops::{BinaryKind, Cast, Compare, CompareKind, RangeBy, Select, SliceBy, Squeeze};
use crate::ir::{Dim, Op, Shape, ValueId};
use crate::tensor::{DType, Tensor, num};

/// Beyond the end of any axis.
const FAR: i64 = 2_147_483_647;

/// The shape of the call's result, of this rank: what the program declares, and new sizes where it leaves them open.
pub(super) fn shape(importer: &mut Importer<'_>, call: &Call, rank: usize) -> Shape {
    let declared = call.declared.first().cloned().flatten();
    let declared = declared.filter(|d| d.len() == rank);
    (0..rank)
        .map(|axis| {
            let known = declared.as_ref().and_then(|d| d[axis]);
            match known {
                Some(n) => Dim::from(num::usize_of(n)),
                None => importer.builder.run_time_size(),
            }
        })
        .collect()
}

/// A vector of integers, one per axis, as `i32`.
fn vector(
    importer: &mut Importer<'_>,
    call: &Call,
    entry: &Entry,
    suffix: &str,
) -> Result<ValueId> {
    let id = importer.value(entry, &format!("{}/{suffix}", call.name))?;
    importer.cast(call, suffix, id, DType::I32)
}

fn constant(
    importer: &mut Importer<'_>,
    call: &Call,
    suffix: &str,
    values: Vec<i64>,
) -> Result<ValueId> {
    super::layout::indices(importer, call, suffix, vec![values.len()], values)
}

fn truths(
    importer: &mut Importer<'_>,
    call: &Call,
    suffix: &str,
    values: &[bool],
) -> Result<ValueId> {
    let tensor = Tensor::bool(vec![values.len()], values.to_vec())?;
    importer
        .builder
        .tensor(&format!("{}/{suffix}", call.name), &tensor)
}

/// Where a slice begins and ends.
pub(super) struct Bounds {
    /// First index per axis.
    pub(super) begin: Entry,
    /// One past the last; nothing: as many as `size` says.
    pub(super) end: Option<Entry>,
    /// Number of elements, −1 for the rest.
    pub(super) size: Option<Entry>,
    /// Distances.
    pub(super) stride: Vec<i64>,
    /// Axes that begin at their beginning.
    pub(super) no_begin: Vec<bool>,
    /// Axes that end at their end.
    pub(super) no_end: Vec<bool>,
    /// Axes of which one index is taken.
    pub(super) single: Vec<bool>,
}

/// A slice whose bounds are computed.
pub(super) fn slice(
    importer: &mut Importer<'_>,
    call: &Call,
    x: ValueId,
    bounds: &Bounds,
) -> Result<Vec<Entry>> {
    let sizes = importer.ty(x).shape;
    let rank = sizes.len();
    let begin = vector(importer, call, &bounds.begin, "begin")?;
    let sizes = Entry::Dims(Dims::vector(DType::I32, sizes));
    let sizes = importer.value(&sizes, &format!("{}/sizes", call.name))?;
    let zero = importer.scalar(call, "zero", DType::I32, 0.0)?;
    let one = importer.scalar(call, "one", DType::I32, 1.0)?;
    let far = importer.scalar(call, "far", DType::I32, num::f64_of_i64(FAR))?;
    let less = Op::Compare(Compare {
        kind: CompareKind::Less,
    });
    let select = Op::Select(Select);
    // Negative ones count from the end.
    let negative = importer.step(call, "negative", less.clone(), &[begin, zero])?;
    let turned = importer.step(call, "turned", op2(BinaryKind::Add), &[begin, sizes])?;
    let mut start = importer.step(call, "start", select.clone(), &[negative, turned, begin])?;
    let next = importer.step(call, "next", op2(BinaryKind::Add), &[start, one])?;
    let mut end = match (&bounds.end, &bounds.size) {
        (Some(end), _) => vector(importer, call, end, "end")?,
        (None, Some(size)) => {
            let size = vector(importer, call, size, "size")?;
            let rest = importer.step(call, "rest", less, &[size, zero])?;
            let end = importer.step(call, "sum", op2(BinaryKind::Add), &[start, size])?;
            importer.step(call, "end", select.clone(), &[rest, far, end])?
        }
        (None, None) => next,
    };
    if bounds.no_begin.contains(&true) {
        let first = bounds
            .stride
            .iter()
            .map(|&s| if s < 0 { FAR } else { 0 })
            .collect();
        let first = constant(importer, call, "first", first)?;
        let mask = truths(importer, call, "begin_mask", &bounds.no_begin)?;
        start = importer.step(call, "start", select.clone(), &[mask, first, start])?;
    }
    if bounds.no_end.contains(&true) {
        let last = bounds
            .stride
            .iter()
            .map(|&s| if s < 0 { -FAR } else { FAR })
            .collect();
        let last = constant(importer, call, "last", last)?;
        let mask = truths(importer, call, "end_mask", &bounds.no_end)?;
        end = importer.step(call, "end", select.clone(), &[mask, last, end])?;
    }
    if bounds.single.contains(&true) {
        let mask = truths(importer, call, "squeeze_mask", &bounds.single)?;
        let next = importer.step(call, "next", op2(BinaryKind::Add), &[start, one])?;
        end = importer.step(call, "end", select, &[mask, next, end])?;
    }
    let kept = bounds.single.iter().filter(|s| !**s).count();
    let mut declared = shape(importer, call, kept).into_iter();
    let shape = bounds
        .single
        .iter()
        .map(|&single| {
            if single {
                Dim::from(1)
            } else {
                declared.next().unwrap_or_default()
            }
        })
        .collect();
    let steps = (0..rank)
        .map(|a| {
            if bounds.single[a] {
                1
            } else {
                bounds.stride[a]
            }
        })
        .collect();
    let op = Op::SliceBy(SliceBy {
        axes: (0..rank).collect(),
        steps,
        shape,
    });
    if kept == rank {
        return importer.result(call, op, &[x, start, end]);
    }
    let part = importer.step(call, "part", op, &[x, start, end])?;
    let axes = (0..rank).filter(|&a| bounds.single[a]).collect();
    importer.result(call, Op::Squeeze(Squeeze { axes }), &[part])
}

/// The first part of `x` of this shape, which differs from that of `x` along axis 0 only.
pub(super) fn first(
    importer: &mut Importer<'_>,
    call: &Call,
    x: ValueId,
    shape: Shape,
) -> Result<ValueId> {
    let start = constant(importer, call, "first", vec![0])?;
    let rows = shape.first().cloned().unwrap_or_default();
    let end = Entry::Dims(Dims::vector(DType::I32, vec![rows]));
    let end = importer.value(&end, &format!("{}/rows", call.name))?;
    let op = Op::SliceBy(SliceBy {
        axes: vec![0],
        steps: vec![1],
        shape,
    });
    importer.step(call, "rows", op, &[x, start, end])
}

/// `start, start + step, …` below `end`, each of them perhaps computed.
pub(super) fn range(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let start = importer.operand(call, "start")?;
    let end = importer.operand(call, "end")?;
    let step = importer.operand(call, "step")?;
    let len = shape(importer, call, 1).remove(0);
    importer.result(call, Op::RangeBy(RangeBy { len }), &[start, end, step])
}

/// `0, 1, …` below a number that is computed.
pub(super) fn count_to(importer: &mut Importer<'_>, call: &Call, n: ValueId) -> Result<ValueId> {
    let dtype = importer.ty(n).dtype;
    let zero = importer.scalar(call, "zero", dtype, 0.0)?;
    let one = importer.scalar(call, "one", dtype, 1.0)?;
    let len = importer.builder.run_time_size();
    let count = importer.step(call, "count", Op::RangeBy(RangeBy { len }), &[zero, n, one])?;
    if dtype == DType::I32 {
        return Ok(count);
    }
    importer.step(call, "count", Op::Cast(Cast { to: DType::I32 }), &[count])
}
