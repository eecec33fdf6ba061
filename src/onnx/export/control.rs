//! Control flow: bodies become subgraphs, which see the names around them, so that captured values are no inputs.

use super::emitter::{Emitter, Last, graph, last};
use super::{node, value_info};
use crate::error::{Context, Result};
use crate::ir::ops::{If, Loop};
use crate::ir::{BodyId, Def, Node};
use crate::onnx::proto::{GraphProto, ValueInfoProto};
use crate::tensor::DType;

pub(super) fn branch(e: &mut Emitter<'_>, n: &Node, o: &If) -> Result<()> {
    let condition = e.operand(n.operands[0])?;
    let mut captured = Vec::new();
    for &operand in &n.operands[1..] {
        captured.push(e.operand(operand)?);
    }
    let then_branch = subgraph(e, o.then_body, &captured, Vec::new())?;
    let else_branch = subgraph(e, o.else_body, &captured, Vec::new())?;
    let names = n.results.iter().map(|&r| e.name(r)).collect();
    e.push_all(
        "If",
        vec![condition],
        names,
        vec![
            graph("then_branch", then_branch),
            graph("else_branch", else_branch),
        ],
    );
    Ok(())
}

pub(super) fn repeat(e: &mut Emitter<'_>, n: &Node, o: &Loop) -> Result<()> {
    let most = super::shape::scalar_operand(e, n.operands[0], DType::I64)?;
    let begin = super::shape::scalar_operand(e, n.operands[1], DType::Bool)?;
    let mut inputs = vec![most, begin];
    for &operand in &n.operands[2..2 + o.carried] {
        inputs.push(e.operand(operand)?);
    }
    let mut captured = Vec::new();
    for &operand in &n.operands[2 + o.carried..] {
        captured.push(e.operand(operand)?);
    }
    // What the body is given in each round has names of its own.
    let function = e.module.body(o.body);
    let (mut infos, mut names) = (Vec::new(), Vec::new());
    for param in &function.params[..2 + o.carried] {
        let value = function.value(param.value);
        let name = e.fresh(&value.name);
        let mut ty = value.ty.clone();
        ty.dtype = e.carried(ty.dtype);
        infos.push(value_info(&name, &ty, e.opset).at_node(&value.name)?);
        names.push(name);
    }
    names.extend(captured);
    let body = subgraph(e, o.body, &names, infos)?;
    let results = n.results.iter().map(|&r| e.name(r)).collect();
    e.push_all("Loop", inputs, results, vec![graph("body", body)]);
    Ok(())
}

/// A body whose parameters have these names; the first of them are inputs of the subgraph.
fn subgraph(
    e: &mut Emitter<'_>,
    body: BodyId,
    names: &[String],
    mut inputs: Vec<ValueInfoProto>,
) -> Result<GraphProto> {
    let function = e.module.body(body);
    let mut names = names.to_vec();
    // ONNX counts rounds in 64 bits; a body may count in another type.
    let counter = match (inputs.first_mut(), function.params.first()) {
        (Some(info), Some(param)) if function.ty(param.value).dtype != DType::I64 => {
            let ty = function.ty(param.value);
            let round = e.fresh(&format!("{}/round", names[0]));
            let wide = crate::ir::Type::new(DType::I64, Vec::new());
            *info = value_info(&round, &wide, e.opset)?;
            Some((round, std::mem::take(&mut names[0]), ty.dtype))
        }
        (_, _) => None,
    };
    if let Some((_, name, _)) = &counter {
        names[0].clone_from(name);
    }
    let outer = e.body(function, &names);
    if let Some((round, name, dtype)) = counter {
        e.enter(&name);
        let cast = e.converted(last("Identity", [round]), DType::I64, dtype)?;
        e.push(cast.op_type, cast.inputs, name, cast.attributes);
    }
    let mut outputs = Vec::new();
    let mut given = Vec::new();
    let written = write(e, &mut outputs, &mut given);
    let nodes = e.leave(outer);
    written?;
    Ok(GraphProto {
        name: Some(function.name.clone()),
        node: nodes,
        input: inputs,
        output: outputs,
        ..GraphProto::default()
    })
}

/// The nodes of a body, and its outputs: each of a node of the body's own, none twice.
fn write(
    e: &mut Emitter<'_>,
    outputs: &mut Vec<ValueInfoProto>,
    given: &mut Vec<String>,
) -> Result<()> {
    let function = e.function;
    for n in &function.nodes {
        node(e, n)?;
    }
    for output in &function.outputs {
        let value = function.value(output.value);
        e.enter(&output.name);
        let mut name = e.operand(output.value)?;
        let own = matches!(value.def, Def::Node(_));
        if !own || given.contains(&name) {
            let copy: Last = last("Identity", [name]);
            name = e.fresh(&output.name);
            e.push(copy.op_type, copy.inputs, name.clone(), copy.attributes);
        }
        let mut ty = value.ty.clone();
        ty.dtype = e.carried(ty.dtype);
        outputs.push(value_info(&name, &ty, e.opset).at_node(&output.name)?);
        given.push(name);
    }
    Ok(())
}
