//! The choice of boxes that overlap little. Programs have an operation for one class at a time, with constant limits; where a limit is computed, the
//! choice is unrolled: in every round the best box that is left is taken, for every batch and class at once.

use super::elementwise::real;
use super::lower::Lower;
use crate::error::Result;
use crate::ir::ops::{
    ArgReduce, BinaryKind, CompareKind, GatherElements, GatherNd, NonMaxSuppression, NonZero,
    ReduceKind, UnaryKind,
};
use crate::ir::{Dim, Op, ValueId};
use crate::tensor::{DType, num};

/// Most rounds that are unrolled.
const MAX_ROUNDS: usize = 128;

/// Most boxes per class that the operation of programs gives: it has as many rows for every class, whatever is found.
const MAX_ROWS: usize = 65_536;

/// The edges of boxes, `[B, C, N]` each.
struct Edges {
    low: [ValueId; 2],
    high: [ValueId; 2],
    area: ValueId,
}

pub(super) fn non_max_suppression(
    l: &mut Lower<'_>,
    op: &NonMaxSuppression,
    operands: &[ValueId],
) -> Result<ValueId> {
    let &[boxes, scores, most, limit, least] = operands else {
        return Err(l.refuse("non_max_suppression", "it needs five operands"));
    };
    if let Some(chosen) = native(l, op, operands)? {
        return Ok(chosen);
    }
    let shape = l.shape(scores);
    let Some(n) = shape[2].known() else {
        return Err(l.refuse(
            "non_max_suppression",
            "with a computed limit it is unrolled, so the number of boxes must be known",
        ));
    };
    let mut rounds = n;
    if let Some(constant) = l.as_constant(most) {
        let most = constant.read()?.ints()?.first().copied().unwrap_or(0);
        rounds = rounds.min(usize::try_from(most).unwrap_or(0));
    }
    if rounds > MAX_ROUNDS || rounds == 0 {
        return Err(l.refuse(
            "non_max_suppression",
            "with a computed limit it is unrolled, for 1 to 128 boxes per class",
        ));
    }
    let edges = edges(l, op, boxes, &shape)?;
    let (most, limit, least) = (l.scalar_of(most)?, l.scalar_of(limit)?, l.scalar_of(least)?);
    let never = l.like(scores, f64::NEG_INFINITY)?;
    let counts = l.compare(CompareKind::Greater, scores, least)?;
    let mut left = l.select(counts, scores, never)?;
    let places: Vec<i64> = (0..n).map(num::i64_of).collect();
    let places = l.ints(places)?;
    let (mut chosen, mut valid) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let top = l.reduce(ReduceKind::Max, left, &[2], true)?;
        let there = l.compare(CompareKind::Greater, top, never)?;
        let number = l.scalar(DType::I32, real(round))?;
        let room = l.compare(CompareKind::Less, number, most)?;
        valid.push(l.binary(BinaryKind::And, there, room)?);
        let arg = Op::ArgReduce(ArgReduce {
            axis: 2,
            largest: true,
            last: false,
            dtype: DType::I32,
        });
        let best = l.push(arg, &[left])?;
        let best = l.unsqueeze(best, vec![2])?;
        chosen.push(best);
        if round + 1 == rounds {
            break;
        }
        let overlap = overlap(l, &edges, best)?;
        let close = l.compare(CompareKind::Greater, overlap, limit)?;
        let same = l.compare(CompareKind::Equal, places, best)?;
        let gone = l.binary(BinaryKind::Or, close, same)?;
        left = l.select(gone, never, left)?;
    }
    let chosen = l.concat(&chosen, 2)?;
    let valid = l.concat(&valid, 2)?;
    let found = NonZero {
        dtype: DType::I32,
        count: op.count.clone(),
    };
    let found = l.push(Op::NonZero(found), &[valid])?;
    let found = l.transpose(found, vec![1, 0])?;
    let picked = l.push(Op::GatherNd(GatherNd { batch_dims: 0 }), &[chosen, found])?;
    let picked = l.unsqueeze(picked, vec![1])?;
    let pair = l.part(found, 1, 0, 2)?;
    let joined = l.concat(&[pair, picked], 1)?;
    let to = super::dtype::legal(op.dtype, l.opset);
    l.cast(joined, to)
}

/// The choice by the operation of programs, which knows one class: every class is a batch of its own. `export/index.rs` writes it.
fn native(
    l: &mut Lower<'_>,
    op: &NonMaxSuppression,
    operands: &[ValueId],
) -> Result<Option<ValueId>> {
    let &[boxes, scores, most, limit, least] = operands else {
        return Ok(None);
    };
    let (Some(most), Some(_)) = (l.as_constant(most), l.as_constant(limit)) else {
        return Ok(None);
    };
    let most = most.read()?.ints()?.first().copied().unwrap_or(0);
    let shape = l.shape(scores);
    let [batches, classes, n] = shape.as_slice() else {
        return Ok(None);
    };
    let rows = usize::try_from(most).unwrap_or(0);
    let rows = l.largest(n).map_or(rows, |n| rows.min(num::usize_of(n)));
    // Which class a row is of is computed, unless there is one batch or one class.
    let several = batches.known() != Some(1) && classes.known() != Some(1);
    if rows == 0 || several && classes.known().is_none() {
        return Ok(None);
    }
    if rows > MAX_ROWS {
        return Err(l.refuse(
            "non_max_suppression",
            "programs choose at most 65536 boxes per class: give it a lower `max_output_boxes_per_class`, or the number of boxes a bound",
        ));
    }
    let boxes = if op.center { boxes } else { centred(l, boxes)? };
    let together = batches.mul(classes);
    let boxes = if classes.known() == Some(1) {
        boxes
    } else {
        let four = Dim::from(4);
        let apart = vec![batches.clone(), classes.clone(), n.clone(), four.clone()];
        let own = l.unsqueeze(boxes, vec![1])?;
        let own = l.expand(own, apart)?;
        l.reshape(own, vec![together.clone(), n.clone(), four])?
    };
    let scores = l.reshape(scores, vec![together, Dim::from(1), n.clone()])?;
    let rows = l.scalar(DType::I32, real(rows))?;
    let (limit, least) = (l.scalar_of(limit)?, l.scalar_of(least)?);
    let chosen = Op::NonMaxSuppression(NonMaxSuppression {
        dtype: DType::I32,
        center: true,
        count: op.count.clone(),
    });
    let chosen = l.push(chosen, &[boxes, scores, rows, limit, least])?;
    let chosen = match (batches.known(), classes.known()) {
        (_, Some(1)) => chosen,
        (Some(1), _) => {
            // Row, 0, box.
            let order = l.ints(vec![1, 0, 2])?;
            l.gather(chosen, order, 1)?
        }
        (_, classes) => {
            let classes = real(classes.unwrap_or(1));
            let row = l.part(chosen, 1, 0, 1)?;
            let batch = l.with(BinaryKind::FloorDiv, row, classes)?;
            let before = l.with(BinaryKind::Mul, batch, classes)?;
            let class = l.binary(BinaryKind::Sub, row, before)?;
            let place = l.part(chosen, 1, 2, 3)?;
            l.concat(&[batch, class, place], 1)?
        }
    };
    let to = super::dtype::legal(op.dtype, l.opset);
    l.cast(chosen, to).map(Some)
}

/// Boxes by two corners as centres and sizes.
fn centred(l: &mut Lower<'_>, boxes: ValueId) -> Result<ValueId> {
    let (a, b) = (l.part(boxes, 2, 0, 2)?, l.part(boxes, 2, 2, 4)?);
    let sum = l.binary(BinaryKind::Add, a, b)?;
    let centre = l.with(BinaryKind::Mul, sum, 0.5)?;
    let side = l.binary(BinaryKind::Sub, b, a)?;
    let side = l.unary(UnaryKind::Abs, side)?;
    l.concat(&[centre, side], 2)
}

fn edges(
    l: &mut Lower<'_>,
    op: &NonMaxSuppression,
    boxes: ValueId,
    shape: &[Dim],
) -> Result<Edges> {
    let mut columns = Vec::with_capacity(4);
    for k in 0..4 {
        let column = l.pick(boxes, 2, k)?;
        let column = l.unsqueeze(column, vec![1])?;
        columns.push(l.expand(column, shape.to_vec())?);
    }
    let (mut low, mut high) = ([boxes; 2], [boxes; 2]);
    for axis in 0..2 {
        let (a, b) = (columns[axis], columns[axis + 2]);
        if op.center {
            let half = l.with(BinaryKind::Div, b, 2.0)?;
            low[axis] = l.binary(BinaryKind::Sub, a, half)?;
            high[axis] = l.binary(BinaryKind::Add, a, half)?;
        } else {
            low[axis] = l.binary(BinaryKind::Min, a, b)?;
            high[axis] = l.binary(BinaryKind::Max, a, b)?;
        }
    }
    let height = l.binary(BinaryKind::Sub, high[0], low[0])?;
    let width = l.binary(BinaryKind::Sub, high[1], low[1])?;
    let area = l.binary(BinaryKind::Mul, height, width)?;
    Ok(Edges { low, high, area })
}

/// Intersection over union of the chosen boxes `[B, C, 1]` with all of them.
fn overlap(l: &mut Lower<'_>, edges: &Edges, best: ValueId) -> Result<ValueId> {
    let of = |l: &mut Lower<'_>, x: ValueId| {
        l.push(Op::GatherElements(GatherElements { axis: 2 }), &[x, best])
    };
    let mut sides = Vec::with_capacity(2);
    for axis in 0..2 {
        let low = of(l, edges.low[axis])?;
        let high = of(l, edges.high[axis])?;
        let low = l.binary(BinaryKind::Max, low, edges.low[axis])?;
        let high = l.binary(BinaryKind::Min, high, edges.high[axis])?;
        let side = l.binary(BinaryKind::Sub, high, low)?;
        sides.push(l.with(BinaryKind::Max, side, 0.0)?);
    }
    let both = l.binary(BinaryKind::Mul, sides[0], sides[1])?;
    let own = of(l, edges.area)?;
    let sum = l.binary(BinaryKind::Add, own, edges.area)?;
    let either = l.binary(BinaryKind::Sub, sum, both)?;
    let ratio = l.binary(BinaryKind::Div, both, either)?;
    let some = l.compare_with(CompareKind::Greater, either, 0.0)?;
    let none = l.like(ratio, 0.0)?;
    l.select(some, ratio, none)
}
