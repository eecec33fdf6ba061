//! Control flow: bodies become blocks, which see the values around them.

use std::collections::BTreeMap;

use super::emit::{Arg, Emitter, Var};
use super::{emit_nodes, value};
use crate::coreml::proto::mil_spec::Block;
use crate::error::Result;
use crate::ir::ops::{If, Loop};
use crate::ir::{Function, Type};
use crate::tensor::{DType, Tensor};

fn block(inputs: &[Var], outputs: Vec<String>, e: &mut Emitter<'_>) -> Block {
    Block {
        inputs: inputs
            .iter()
            .map(|v| value::named(&v.id, value::value_type(&v.ty)))
            .collect(),
        outputs,
        operations: e.leave(),
        attributes: BTreeMap::new(),
    }
}

/// The outputs of the body that is being written, each a value of the block itself.
fn results(e: &mut Emitter<'_>, body: &Function) -> Result<Vec<Var>> {
    let mut all = Vec::with_capacity(body.outputs.len());
    for output in &body.outputs {
        let var = e.var(output.value)?;
        let params = [("x", Arg::Var(&var))];
        let ty = var.ty.clone();
        all.push(e.named(&format!("{}#out", output.name), "identity", ty, &params)?);
    }
    Ok(all)
}

pub(super) fn branch(e: &mut Emitter<'_>, op: &If, operands: &[Var]) -> Result<()> {
    let [condition, captures @ ..] = operands else {
        return Ok(());
    };
    let mut blocks = Vec::with_capacity(2);
    for body in [op.then_body, op.else_body] {
        let body = e.module.body(body);
        e.enter(body, captures.to_vec());
        emit_nodes(e, body)?;
        let outputs = results(e, body)?;
        let ids = outputs.into_iter().map(|v| v.id).collect();
        blocks.push(block(&[], ids, e));
    }
    e.finish_with("cond", &[("pred", Arg::Var(condition))], blocks)
}

/// The loop's values are the round, the condition and what is carried; it goes on while the condition holds and rounds are left.
pub(super) fn repeat(e: &mut Emitter<'_>, op: &Loop, operands: &[Var]) -> Result<()> {
    let [most, start, rest @ ..] = operands else {
        return Ok(());
    };
    let (carried, captures) = rest.split_at(op.carried);
    let body = e.module.body(op.body);
    let scalar = |dtype| Type::known(dtype, &[]);
    let zero = e.tensor("round", &Tensor::int(DType::I32, vec![], vec![0])?)?;
    let mut before = vec![zero, start.clone()];
    before.extend_from_slice(carried);
    let fresh = |e: &mut Emitter<'_>, part: &str| -> Vec<Var> {
        let mut inputs = Vec::with_capacity(before.len());
        for (i, var) in before.iter().enumerate() {
            let ty = match i.checked_sub(2).and_then(|k| op.results.get(k)) {
                Some(ty) => ty.clone(),
                None => scalar(var.ty.dtype),
            };
            let name = format!("{}#{part}{i}", e.name());
            inputs.push(e.fresh(&name, ty));
        }
        inputs
    };
    let seen = fresh(e, "test");
    e.enter(body, Vec::new());
    let params = [("x", Arg::Var(&seen[0])), ("y", Arg::Var(most))];
    let left = e.named("rounds_left", "less", scalar(DType::Bool), &params)?;
    let params = [("x", Arg::Var(&left)), ("y", Arg::Var(&seen[1]))];
    let goes_on = e.named("goes_on", "logical_and", scalar(DType::Bool), &params)?;
    let test = block(&seen, vec![goes_on.id], e);
    let inputs = fresh(e, "round");
    let mut params = inputs.clone();
    params.extend_from_slice(captures);
    e.enter(body, params);
    let one = e.weight_of("one", &Tensor::int(DType::I32, vec![], vec![1])?)?;
    let params = [("x", Arg::Var(&inputs[0])), ("y", Arg::Var(&one))];
    let next = e.named("next_round", "add", scalar(DType::I32), &params)?;
    emit_nodes(e, body)?;
    let outputs = results(e, body)?;
    let mut ids = vec![next.id];
    for (i, var) in outputs.into_iter().enumerate() {
        let rank = var.ty.rank();
        if i == 0 && rank > 0 {
            let axes = Arg::Ints((0..rank).collect());
            let params = [("x", Arg::Var(&var)), ("axes", axes)];
            ids.push(
                e.named("condition", "squeeze", scalar(DType::Bool), &params)?
                    .id,
            );
        } else {
            ids.push(var.id);
        }
    }
    let body_block = block(&inputs, ids, e);
    // Two results come before the node's own.
    let leading = vec![scalar(DType::I32), scalar(DType::Bool)];
    e.finish_after(
        "while_loop",
        leading,
        &[("loop_vars", Arg::Vars(&before))],
        vec![test, body_block],
    )
}
