//! Data movement that depends on values.

use super::elementwise::cast_step;
use super::emit::{Arg, Emitter, Var};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::Type;
use crate::ir::ops::{Gather, GatherElements};
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
