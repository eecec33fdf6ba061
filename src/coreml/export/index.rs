//! Data movement that depends on values.

use super::elementwise::cast_step;
use super::emit::{Arg, Emitter, Var};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::Type;
use crate::ir::ops::{Gather, GatherElements, GatherNd, ScatterElements, ScatterMode, ScatterNd};
use crate::tensor::DType;

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
    let mut params = Vec::new();
    if e.opset >= Opset::CoreML6 {
        params.push(("batch_dims", Arg::Int(op.batch_dims)));
    }
    if e.opset >= Opset::CoreML7 {
        params.push(("validate_indices", Arg::Bool(false)));
    }
    pick(e, "gather_nd", data, indices, params)
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
