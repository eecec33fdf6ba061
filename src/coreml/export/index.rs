//! Data movement that depends on values.

use super::elementwise::cast_step;
use super::emit::{Arg, Emitter, Var};
use crate::coreml::error::CoremlError;
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::ops::{Gather, GatherElements, GatherNd, ScatterElements, ScatterMode, ScatterNd};
use crate::ir::{Constant, Dim, Node, Type};
use crate::tensor::{DType, num};

pub(super) fn gather(e: &mut Emitter<'_>, op: &Gather, data: &Var, indices: &Var) -> Result<()> {
    let mut params = vec![("axis", Arg::Int(op.axis))];
    params.extend(e.gather_params());
    pick(e, "gather", data, indices, params)
}

pub(super) fn gather_elements(
    e: &mut Emitter<'_>,
    op: &GatherElements,
    data: &Var,
    indices: &Var,
) -> Result<()> {
    let mut params = vec![("axis", Arg::Int(op.axis))];
    if e.opset >= Opset::CoreML7 {
        params.push(("validate_indices", Arg::Bool(false)));
    }
    pick(e, "gather_along_axis", data, indices, params)
}

/// Truth values cannot be gathered: they go as integers.
fn pick<'p>(
    e: &mut Emitter<'_>,
    kind: &str,
    data: &'p Var,
    indices: &'p Var,
    mut params: Vec<(&'p str, Arg<'p>)>,
) -> Result<()> {
    params.push(("indices", Arg::Var(indices)));
    if data.ty.dtype != DType::Bool {
        params.push(("x", Arg::Var(data)));
        return e.finish(kind, &params);
    }
    let integers = cast_step(e, "integers", data, DType::I32)?;
    let mut params: Vec<(&str, Arg<'_>)> = params;
    params.push(("x", Arg::Var(&integers)));
    let ty = Type::new(DType::I32, e.result_type().shape.clone());
    let picked = e.step("picked", kind, ty, &params)?;
    let to = Arg::Text("bool");
    e.finish("cast", &[("x", Arg::Var(&picked)), ("dtype", to)])
}

pub(super) fn gather_nd(
    e: &mut Emitter<'_>,
    op: &GatherNd,
    data: &Var,
    indices: &Var,
) -> Result<()> {
    let params = nd_params(e, op.batch_dims);
    pick(e, "gather_nd", data, indices, params)
}

fn nd_params(e: &Emitter<'_>, batch_dims: usize) -> Vec<(&'static str, Arg<'static>)> {
    let mut params = Vec::new();
    if e.opset >= Opset::CoreML6 {
        params.push(("batch_dims", Arg::Int(batch_dims)));
    }
    if e.opset >= Opset::CoreML7 {
        params.push(("validate_indices", Arg::Bool(false)));
    }
    params
}

/// The boxes chosen of one class per batch, as legalisation leaves them: centres and sizes `[B, N, 4]`, scores `[B, 1, N]`, a constant number of
/// rows. The operation fills up with index −1, and does not look at scores: what lies below the least comes last, and is left out here.
pub(super) fn non_max_suppression(
    e: &mut Emitter<'_>,
    node: &Node,
    operands: &[Var],
) -> Result<()> {
    let not_written = CoremlError::NotWritten { op: node.op.name() };
    let [boxes, scores, most, limit, least] = operands else {
        return Err(not_written.into());
    };
    let number = |at: usize| -> Result<Option<f64>> {
        let constant = node.operands.get(at).and_then(|&v| e.as_constant(v));
        let tensor = constant.map(Constant::read).transpose()?;
        Ok(tensor.and_then(|t| t.to_f64().first().copied()))
    };
    let (Some(rows), lowest) = (number(2)?, number(4)?) else {
        return Err(not_written.into());
    };
    let (Some([batch, n, four]), Some(count)) = (
        <&[Dim; 3]>::try_from(boxes.ty.shape.as_slice()).ok(),
        e.result_type().shape.first(),
    ) else {
        return Err(not_written.into());
    };
    let (dtype, rows, one) = (
        boxes.ty.dtype,
        Dim::constant(num::i64_of_f64(rows)),
        Dim::from(1),
    );
    let shaped = |shape: &[&Dim]| Type::new(dtype, shape.iter().copied().cloned().collect());
    let turned = e.opset >= Opset::CoreML7;
    let perm = || Arg::Ints(vec![0, 2, 1]);
    let (boxes, scores) = if turned {
        let params = [("x", Arg::Var(boxes)), ("perm", perm())];
        let ty = shaped(&[batch, four, n]);
        (e.step("boxes", "transpose", ty, &params)?, scores.clone())
    } else {
        let params = [("x", Arg::Var(scores)), ("perm", perm())];
        let ty = shaped(&[batch, n, &one]);
        (boxes.clone(), e.step("scores", "transpose", ty, &params)?)
    };
    let indices = Type::new(DType::I32, vec![batch.clone(), rows.clone()]);
    let mut types = if turned {
        vec![shaped(&[batch, four, &rows]), shaped(&[batch, &one, &rows])]
    } else {
        vec![shaped(&[batch, &rows, four]), shaped(&[batch, &rows, &one])]
    };
    types.push(indices.clone());
    let mut params = vec![
        ("boxes", Arg::Var(&boxes)),
        ("scores", Arg::Var(&scores)),
        ("iou_threshold", Arg::Var(limit)),
        ("max_boxes", Arg::Var(most)),
    ];
    if !turned {
        types.push(Type::new(DType::I32, vec![batch.clone()]));
        let all = if dtype == DType::F16 {
            -65504.0
        } else {
            f64::from(f32::MIN)
        };
        params.push(("score_threshold", Arg::Float(dtype, all)));
    }
    let found = e.steps("chosen", "non_maximum_suppression", types, &params)?;
    let [_, reached, places, ..] = found.as_slice() else {
        return Err(not_written.into());
    };
    let truth = Type::new(DType::Bool, indices.shape.clone());
    let zero = e.scalar("zero", DType::I32, 0.0)?;
    let params = [("x", Arg::Var(places)), ("y", Arg::Var(&zero))];
    let mut valid = e.step("there", "greater_equal", truth.clone(), &params)?;
    if lowest != Some(f64::NEG_INFINITY) {
        let axis = if turned { 1 } else { 2 };
        let params = [("x", Arg::Var(reached)), ("axes", Arg::Ints(vec![axis]))];
        let ty = Type::new(dtype, indices.shape.clone());
        let reached = e.step("reached", "squeeze", ty, &params)?;
        let params = [("x", Arg::Var(&reached)), ("y", Arg::Var(least))];
        let enough = e.step("enough", "greater", truth.clone(), &params)?;
        let params = [("x", Arg::Var(&valid)), ("y", Arg::Var(&enough))];
        valid = e.step("valid", "logical_and", truth, &params)?;
    }
    let column = Type::new(DType::I32, vec![count.clone(), one.clone()]);
    let pairs = Type::new(DType::I32, vec![count.clone(), Dim::from(2)]);
    let pairs = e.step("pairs", "non_zero", pairs, &[("x", Arg::Var(&valid))])?;
    let mut params = nd_params(e, 0);
    params.extend([("x", Arg::Var(places)), ("indices", Arg::Var(&pairs))]);
    let ty = Type::new(DType::I32, vec![count.clone()]);
    let picked = e.step("picked", "gather_nd", ty, &params)?;
    let params = [("x", Arg::Var(&picked)), ("axes", Arg::Ints(vec![1]))];
    let picked = e.step("box", "expand_dims", column.clone(), &params)?;
    let params = [
        ("x", Arg::Var(&pairs)),
        ("begin", Arg::Ints(vec![0, 0])),
        ("end", Arg::Ints(vec![0, 1])),
        ("end_mask", Arg::Bools(vec![true, false])),
    ];
    let row = e.step("row", "slice_by_index", column.clone(), &params)?;
    let params = [("x", Arg::Var(&row)), ("y", Arg::Var(&zero))];
    let class = e.step("class", "mul", column, &params)?;
    let columns = [row, class, picked];
    let params = [
        ("values", Arg::Vars(&columns)),
        ("axis", Arg::Int(1)),
        ("interleave", Arg::Bool(false)),
    ];
    e.finish("concat", &params)
}

fn mode(mode: ScatterMode) -> Arg<'static> {
    Arg::Text(match mode {
        ScatterMode::Update => "update",
        ScatterMode::Add => "add",
        ScatterMode::Sub => "sub",
        ScatterMode::Mul => "mul",
        ScatterMode::Div => "div",
        ScatterMode::Min => "min",
        ScatterMode::Max => "max",
    })
}

pub(super) fn scatter_elements(
    e: &mut Emitter<'_>,
    op: &ScatterElements,
    operands: &[Var],
) -> Result<()> {
    let params = vec![("axis", Arg::Int(op.axis)), ("mode", mode(op.mode))];
    put(e, "scatter_along_axis", operands, params)
}

pub(super) fn scatter_nd(e: &mut Emitter<'_>, op: &ScatterNd, operands: &[Var]) -> Result<()> {
    put(e, "scatter_nd", operands, vec![("mode", mode(op.mode))])
}

fn put<'p>(
    e: &mut Emitter<'_>,
    kind: &str,
    operands: &'p [Var],
    mut params: Vec<(&'p str, Arg<'p>)>,
) -> Result<()> {
    for (name, var) in ["data", "indices", "updates"].into_iter().zip(operands) {
        params.push((name, Arg::Var(var)));
    }
    if e.opset >= Opset::CoreML7 {
        params.push(("validate_indices", Arg::Bool(false)));
    }
    e.finish(kind, &params)
}
