//! Operations that order elements: largest and smallest, sorting, what is not zero, and boxes that overlap little.

use super::call::Call;
use super::elementwise::op2;
use super::entry::Entry;
use super::layout::{along, count};
use super::{Handler, Importer};
use crate::coreml::dtype::from_name;
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::ops::{
    ArgReduce, BinaryKind, Cast, Compare, CompareKind, Concat, Expand, GatherNd, NonMaxSuppression,
    NonZero, Reduce, ReduceKind, ScatterMode, ScatterNd, Select, Slice, SliceRange, TopK,
    Transpose, Unsqueeze,
};
use crate::ir::{Dim, Op, ValueId};
use crate::tensor::{DType, num};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "reduce_argmax" | "reduce_argmin" => arg,
        "topk" => topk,
        "argsort" => argsort,
        "non_zero" => non_zero,
        "non_maximum_suppression" => non_maximum_suppression,
        _ => return None,
    };
    Some(handler)
}

/// The element type of indices, where the program may choose it.
fn index_type(call: &mut Call, parameter: &str) -> Result<DType> {
    let Some(name) = call.string(parameter)? else {
        return Ok(DType::I32);
    };
    match from_name(&name).filter(|d| d.is_int()) {
        Some(dtype) => Ok(dtype),
        None => Err(call
            .wrong(parameter, "an integer type", &format!("`{name}`"))
            .into()),
    }
}

fn arg(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let axis = call.axis("axis", importer.ty(x).rank(), -1)?;
    let keep_dims = call.bool("keep_dims", false)?;
    let op = Op::ArgReduce(ArgReduce {
        axis,
        largest: call.op == "reduce_argmax",
        last: false,
        dtype: index_type(call, "output_dtype")?,
    });
    if !keep_dims {
        return importer.result(call, op, &[x]);
    }
    let found = importer.step(call, "found", op, &[x])?;
    let axes = vec![axis];
    importer.result(call, Op::Unsqueeze(Unsqueeze { axes }), &[found])
}

fn topk(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let axis = call.axis("axis", shape.len(), -1)?;
    let k = call.int("k")?.unwrap_or(1);
    let k = if k == -1 {
        shape[axis].clone()
    } else {
        Dim::constant(k)
    };
    let largest = !call.bool("ascending", false)?;
    // Unsorted means in any order: sorted is one.
    call.bool("sort", true)?;
    let both = call.bool("return_indices", true)?;
    let op = Op::TopK(TopK {
        axis,
        k,
        largest,
        dtype: index_type(call, "output_indices_dtype")?,
    });
    let results = importer.builder.push_all(&call.name, op, &[x])?;
    let wanted = if both { 2 } else { 1 };
    Ok(results
        .into_iter()
        .take(wanted)
        .map(|v| importer.entry(v))
        .collect())
}

fn argsort(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let axis = call.axis("axis", shape.len(), -1)?;
    let largest = !call.bool("ascending", false)?;
    let op = Op::TopK(TopK {
        axis,
        k: shape[axis].clone(),
        largest,
        dtype: DType::I32,
    });
    let results = importer.builder.push_all(&call.name, op, &[x])?;
    Ok(results
        .get(1)
        .map(|&v| importer.entry(v))
        .into_iter()
        .collect())
}

/// One row of indices per element.
fn non_zero(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let count = importer.builder.run_time_size();
    let dtype = DType::I32;
    let op = Op::NonZero(NonZero { count, dtype });
    let places = importer.step(call, "places", op, &[x])?;
    let perm = vec![1, 0];
    importer.result(call, Op::Transpose(Transpose { perm }), &[places])
}

/// The box of the highest score is always chosen; with `per_class_suppression` a box only suppresses boxes of its own best class. What is
/// chosen comes by falling score, then zeros, and −1 for indices.
fn non_maximum_suppression(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let boxes = importer.operand(call, "boxes")?;
    let scores = importer.operand(call, "scores")?;
    let dtype = importer.ty(boxes).dtype;
    let overlap = f64::from(call.float("iou_threshold")?.unwrap_or(0.0));
    let least = call
        .float("score_threshold")?
        .map_or(f64::from(f32::MIN), f64::from);
    let most = call.int("max_boxes")?.unwrap_or(0);
    let per_class = call.bool("per_class_suppression", false)?;
    // Boxes and scores as [batch, box, …] whichever way they come.
    let last = call.opset >= Opset::CoreML7;
    let perm = vec![0, 2, 1];
    let turn = |importer: &mut Importer<'_>, call: &Call, v: ValueId| {
        let perm = perm.clone();
        importer.step(call, "turned", Op::Transpose(Transpose { perm }), &[v])
    };
    let (boxes, scores) = if last {
        (turn(importer, call, boxes)?, turn(importer, call, scores)?)
    } else {
        (boxes, scores)
    };
    let wide_boxes = importer.cast(call, "boxes", boxes, DType::F32)?;
    let wide_scores = importer.cast(call, "scores", scores, DType::F32)?;
    let shape = importer.ty(wide_scores).shape;
    let [batch, n, classes] = shape.as_slice() else {
        let found = importer.ty(wide_scores).to_string();
        return Err(call.wrong("scores", "rank 3", &found).into());
    };
    let best = Op::Reduce(Reduce {
        kind: ReduceKind::Max,
        axes: vec![2],
        keep_dims: false,
    });
    let best = importer.step(call, "best", best, &[wide_scores])?;
    let axes = vec![1];
    let row = importer.step(call, "row", Op::Unsqueeze(Unsqueeze { axes }), &[best])?;
    let judged = if per_class {
        let class = Op::ArgReduce(ArgReduce {
            axis: 2,
            largest: true,
            last: false,
            dtype: DType::I32,
        });
        let class = importer.step(call, "class", class, &[wide_scores])?;
        let axes = vec![1];
        let class = importer.step(call, "class", Op::Unsqueeze(Unsqueeze { axes }), &[class])?;
        let all = count(importer, call, "classes", classes)?;
        let all = along(importer, call, all, 1, 3)?;
        let kind = CompareKind::Equal;
        let own = importer.step(call, "own", Op::Compare(Compare { kind }), &[class, all])?;
        let never = importer.scalar(call, "never", DType::F32, f64::NEG_INFINITY)?;
        importer.step(call, "judged", Op::Select(Select), &[own, row, never])?
    } else {
        row
    };
    let most_value = importer.scalar(call, "most", DType::I64, num::f64_of_i64(most))?;
    let overlap = importer.scalar(call, "overlap", DType::F32, overlap)?;
    let least = importer.scalar(call, "least", DType::F32, least)?;
    let chosen = Op::NonMaxSuppression(NonMaxSuppression {
        center: true,
        count: importer.builder.run_time_size(),
        dtype: DType::I32,
    });
    let operands = [wide_boxes, judged, most_value, overlap, least];
    let chosen = importer.step(call, "chosen", chosen, &operands)?;
    let of = |importer: &mut Importer<'_>, call: &Call, at: usize| {
        let ranges = vec![SliceRange::new(1, at, at + 1)];
        importer.step(call, "of", Op::Slice(Slice { ranges }), &[chosen])
    };
    let (of_batch, of_box) = (of(importer, call, 0)?, of(importer, call, 2)?);
    let places = Op::Concat(Concat { axis: 1 });
    let places = importer.step(call, "places", places, &[of_batch, of_box])?;
    // The scores of what was chosen, everything else below any score.
    let never = importer.scalar(call, "never", DType::F32, f64::NEG_INFINITY)?;
    let none = Op::Expand(Expand {
        shape: vec![batch.clone(), n.clone()],
    });
    let none = importer.step(call, "none", none, &[never])?;
    let batch_dims = 0;
    let values = Op::GatherNd(GatherNd { batch_dims });
    let values = importer.step(call, "values", values, &[best, places])?;
    let mode = ScatterMode::Update;
    let kept = Op::ScatterNd(ScatterNd { mode });
    let kept = importer.step(call, "kept", kept, &[none, places, values])?;
    let first = Op::ArgReduce(ArgReduce {
        axis: 1,
        largest: true,
        last: false,
        dtype: DType::I32,
    });
    let first = importer.step(call, "first", first, &[best])?;
    let axes = vec![1];
    let first = importer.step(call, "first", Op::Unsqueeze(Unsqueeze { axes }), &[first])?;
    let all = count(importer, call, "all", n)?;
    let kind = CompareKind::Equal;
    let is_first = Op::Compare(Compare { kind });
    let is_first = importer.step(call, "is_first", is_first, &[first, all])?;
    let nothing = Op::Reduce(Reduce {
        kind: ReduceKind::Max,
        axes: vec![1],
        keep_dims: true,
    });
    let nothing = importer.step(call, "top", nothing, &[kept])?;
    let nothing = importer.step(
        call,
        "nothing",
        Op::Compare(Compare { kind }),
        &[nothing, never],
    )?;
    let alone = importer.step(call, "alone", op2(BinaryKind::And), &[is_first, nothing])?;
    let kept = importer.step(call, "scores", Op::Select(Select), &[alone, best, kept])?;
    let k = match (n.integer(), most) {
        (Some(n), most) => Dim::constant(n.min(most)),
        (None, most) => n.smaller(&Dim::constant(most)),
    };
    let top = Op::TopK(TopK {
        axis: 1,
        k: k.clone(),
        largest: true,
        dtype: DType::I32,
    });
    let top = importer
        .builder
        .push_all(&format!("{}/top", call.name), top, &[kept])?;
    let (order, places) = (top[0], top[1]);
    let kind = CompareKind::NotEqual;
    let valid = importer.step(
        call,
        "valid",
        Op::Compare(Compare { kind }),
        &[order, never],
    )?;
    let minus = importer.scalar(call, "minus", DType::I32, -1.0)?;
    let indices = importer.step(call, "numbers", Op::Select(Select), &[valid, places, minus])?;
    let axes = vec![2];
    let vectors = importer.step(
        call,
        "vectors",
        Op::Unsqueeze(Unsqueeze { axes: axes.clone() }),
        &[places],
    )?;
    let mask = importer.step(call, "mask", Op::Unsqueeze(Unsqueeze { axes }), &[valid])?;
    let zero = importer.scalar(call, "zero", dtype, 0.0)?;
    let missing = Dim::constant(most).sub(&k);
    let mut out = Vec::with_capacity(4);
    for part in [boxes, scores] {
        let batch_dims = 1;
        let op = Op::GatherNd(GatherNd { batch_dims });
        let found = importer.step(call, "found", op, &[part, vectors])?;
        let found = importer.step(call, "found", Op::Select(Select), &[mask, found, zero])?;
        let found = filled(importer, call, found, &missing, zero)?;
        out.push(if last {
            turn(importer, call, found)?
        } else {
            found
        });
    }
    out.push(filled(importer, call, indices, &missing, minus)?);
    if !last {
        let number = importer.step(call, "number", Op::Cast(Cast { to: DType::I32 }), &[valid])?;
        let total = Op::Reduce(Reduce {
            kind: ReduceKind::Sum,
            axes: vec![1],
            keep_dims: false,
        });
        out.push(importer.step(call, "total", total, &[number])?);
    }
    Ok(out.into_iter().map(|v| importer.entry(v)).collect())
}

/// As many more elements along axis 1.
fn filled(
    importer: &mut Importer<'_>,
    call: &Call,
    x: ValueId,
    missing: &Dim,
    value: ValueId,
) -> Result<ValueId> {
    if missing.integer() == Some(0) {
        return Ok(x);
    }
    let rank = importer.ty(x).rank();
    let mut end = vec![Dim::from(0); rank];
    end[1] = missing.clone();
    let pad = Op::Pad(crate::ir::ops::Pad {
        mode: crate::ir::ops::PadMode::Constant,
        begin: vec![Dim::from(0); rank],
        end,
    });
    importer.step(call, "filled", pad, &[x, value])
}
