//! Recurrent layers with constant weights.

use super::emit::{Arg, Emitter, Var};
use crate::coreml::error::CoremlError;
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::ops::{Cell, CellActivation, Direction, Recurrent};
use crate::ir::{Constant, Node, Type};
use crate::tensor::{DType, Tensor};

/// Whether programs have a layer with constant weights as it is: the plain cells, with the activations that the format names.
pub(in crate::coreml) fn has_recurrent(op: &Recurrent, dtype: DType, opset: Opset) -> bool {
    let typed = dtype == DType::F32 || (dtype == DType::F16 && opset >= Opset::CoreML7);
    let per = op.cell.activations();
    let first = &op.activations[..per.min(op.activations.len())];
    let alike = op.activations.chunks(per.max(1)).all(|own| own == first);
    let named = first.iter().all(|&f| activation(f).is_some());
    let plain = op.clip.is_none() && !op.lengths && !op.peepholes;
    let cell = match op.cell {
        Cell::Lstm { coupled } => !coupled,
        Cell::Gru { reset_after } => !reset_after && op.direction != Direction::Bidirectional,
        Cell::Rnn => op.direction != Direction::Bidirectional,
    };
    typed && alike && named && plain && cell
}

fn activation(function: CellActivation) -> Option<&'static str> {
    match function {
        CellActivation::Sigmoid => Some("sigmoid"),
        CellActivation::Tanh => Some("tanh"),
        CellActivation::Relu => Some("relu"),
        CellActivation::Affine { .. }
        | CellActivation::LeakyRelu { .. }
        | CellActivation::ThresholdedRelu { .. }
        | CellActivation::ScaledTanh { .. }
        | CellActivation::HardSigmoid { .. }
        | CellActivation::Elu { .. }
        | CellActivation::Softsign
        | CellActivation::Softplus => None,
    }
}

/// The gates of ours, in the order of programs: `i f o z`, and `r o z`.
fn order(cell: Cell) -> &'static [usize] {
    match cell {
        Cell::Lstm { .. } => &[0, 2, 1, 3],
        Cell::Gru { .. } => &[1, 2, 0],
        Cell::Rnn => &[0],
    }
}

/// The rows of one direction, gate by gate in the order of programs.
fn rows(cell: Cell, rows: &[f32], gate: usize) -> Vec<f32> {
    order(cell)
        .iter()
        .flat_map(|&k| rows[k * gate..(k + 1) * gate].iter().copied())
        .collect()
}

/// A weight or bias of one direction as a constant of the program.
fn weight(
    e: &mut Emitter<'_>,
    op: &Recurrent,
    constant: &Constant,
    name: &str,
    d: usize,
) -> Result<Var> {
    let tensor = constant.read()?;
    let all = tensor.floats()?;
    let per = all.len() / op.directions();
    let own = &all[d * per..(d + 1) * per];
    let gates = op.cell.gates();
    let bias = constant.shape().len() == 2;
    let tensor = if bias {
        // Two biases that are added.
        let half = per / 2;
        let sums: Vec<f32> = own[..half]
            .iter()
            .zip(&own[half..])
            .map(|(a, b)| a + b)
            .collect();
        let values = rows(op.cell, &sums, half / gates);
        Tensor::float(tensor.dtype(), vec![half], values)?
    } else {
        let columns = constant.shape()[2];
        let values = rows(op.cell, own, per / gates);
        Tensor::float(tensor.dtype(), vec![per / columns, columns], values)?
    };
    e.tensor(name, &tensor)
}

pub(super) fn recurrent(e: &mut Emitter<'_>, op: &Recurrent, node: &Node) -> Result<()> {
    let not_written = CoremlError::NotWritten { op: node.op.name() };
    let constants: Option<Vec<&Constant>> = node.operands[1..4]
        .iter()
        .map(|&v| e.as_constant(v))
        .collect();
    let Some(constants) = constants else {
        return Err(not_written.into());
    };
    let x = e.var(node.operands[0])?;
    let both = op.direction == Direction::Bidirectional;
    let lstm = matches!(op.cell, Cell::Lstm { .. });
    let mut weights = Vec::new();
    for d in 0..op.directions() {
        let back = if d == 1 { "_back" } else { "" };
        for (constant, part) in constants.iter().zip(["weight_ih", "weight_hh", "bias"]) {
            let name = format!("{part}{back}");
            let var = weight(e, op, constant, &name, d)?;
            weights.push((name, var));
        }
    }
    let mut states = Vec::new();
    for (name, &operand) in ["initial_h", "initial_c"]
        .into_iter()
        .zip(&node.operands[4..])
    {
        let state = e.var(operand)?;
        states.push((name, joined(e, name, &state)?));
    }
    let text = |k: usize| {
        Arg::Text(
            op.activations
                .get(k)
                .and_then(|&f| activation(f))
                .unwrap_or(""),
        )
    };
    let direction = match op.direction {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
        Direction::Bidirectional => "bidirectional",
    };
    let mut params = vec![
        ("x", Arg::Var(&x)),
        ("direction", Arg::Text(direction)),
        ("output_sequence", Arg::Bool(true)),
    ];
    let kind = match op.cell {
        Cell::Lstm { .. } => {
            params.push(("recurrent_activation", text(0)));
            params.push(("cell_activation", text(1)));
            params.push(("activation", text(2)));
            "lstm"
        }
        Cell::Gru { .. } => {
            params.push(("recurrent_activation", text(0)));
            params.push(("activation", text(1)));
            "gru"
        }
        Cell::Rnn => {
            params.push(("activation", text(0)));
            "rnn"
        }
    };
    params.extend(
        weights
            .iter()
            .map(|(name, var)| (name.as_str(), Arg::Var(var))),
    );
    params.extend(states.iter().map(|(name, var)| (*name, Arg::Var(var))));
    // [T, B, D·H], then [B, D·H].
    let types = e.result_types();
    let [y, h, ..] = types.as_slice() else {
        return Err(not_written.into());
    };
    let wide = h.shape[2].mul(&h.shape[0]);
    let state = Type::new(h.dtype, vec![h.shape[1].clone(), wide.clone()]);
    let sequence = vec![y.shape[0].clone(), y.shape[2].clone(), wide];
    let mut raw = vec![Type::new(y.dtype, sequence), state.clone()];
    if lstm {
        raw.push(state);
    }
    let results = e.steps("layer", kind, raw, &params)?;
    for (place, (result, ty)) in results.iter().zip(&types).enumerate() {
        let axis = usize::from(place == 0);
        if !both {
            let axes = Arg::Ints(vec![axis]);
            e.finish_one(
                place,
                "expand_dims",
                &[("x", Arg::Var(result)), ("axes", axes)],
            )?;
            continue;
        }
        // The two directions lie side by side: an axis of their own, in front of the batch.
        let mut apart = result.ty.shape.clone();
        apart.truncate(axis + 1);
        apart.push(crate::ir::Dim::from(2));
        apart.extend(ty.shape.last().cloned());
        let sizes = e.sizes(&format!("apart{place}"), &apart)?;
        let apart = Type::new(ty.dtype, apart);
        let params = [("x", Arg::Var(result)), ("shape", Arg::Var(&sizes))];
        let apart = e.step(&format!("directions{place}"), "reshape", apart, &params)?;
        let perm = if axis == 1 {
            vec![0, 2, 1, 3]
        } else {
            vec![1, 0, 2]
        };
        let params = [("x", Arg::Var(&apart)), ("perm", Arg::Ints(perm))];
        e.finish_one(place, "transpose", &params)?;
    }
    Ok(())
}

/// `[D, B, H]` → `[B, D·H]`
fn joined(e: &mut Emitter<'_>, name: &str, state: &Var) -> Result<Var> {
    let [d, b, h] = state.ty.shape.as_slice() else {
        return Ok(state.clone());
    };
    let dtype = state.ty.dtype;
    if d.known() == Some(1) {
        let ty = Type::new(dtype, vec![b.clone(), h.clone()]);
        let params = [("x", Arg::Var(state)), ("axes", Arg::Ints(vec![0]))];
        return e.step(name, "squeeze", ty, &params);
    }
    let ty = Type::new(dtype, vec![b.clone(), d.clone(), h.clone()]);
    let perm = Arg::Ints(vec![1, 0, 2]);
    let params = [("x", Arg::Var(state)), ("perm", perm)];
    let turned = e.step(&format!("{name}_turned"), "transpose", ty, &params)?;
    let shape = vec![b.clone(), d.mul(h)];
    let sizes = e.sizes(&format!("{name}_sizes"), &shape)?;
    let params = [("x", Arg::Var(&turned)), ("shape", Arg::Var(&sizes))];
    e.step(name, "reshape", Type::new(dtype, shape), &params)
}
