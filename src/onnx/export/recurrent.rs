//! Recurrent layers: the IR's order of gates, layouts and operands are ONNX's.

use super::emitter::{Emitter, float, floats, int, string, strings};
use crate::error::Result;
use crate::ir::Node;
use crate::ir::ops::{Cell, CellActivation, Direction, Recurrent};
use crate::tensor::{DType, num};

/// A function's name, and its parameters if it has any.
fn function(f: CellActivation) -> (&'static str, Option<f32>, Option<f32>) {
    match f {
        CellActivation::Sigmoid => ("Sigmoid", None, None),
        CellActivation::Tanh => ("Tanh", None, None),
        CellActivation::Relu => ("Relu", None, None),
        CellActivation::Affine { alpha, beta } => ("Affine", Some(alpha), Some(beta)),
        CellActivation::LeakyRelu { alpha } => ("LeakyRelu", Some(alpha), None),
        CellActivation::ThresholdedRelu { alpha } => ("ThresholdedRelu", Some(alpha), None),
        CellActivation::ScaledTanh { alpha, beta } => ("ScaledTanh", Some(alpha), Some(beta)),
        CellActivation::HardSigmoid { alpha, beta } => ("HardSigmoid", Some(alpha), Some(beta)),
        CellActivation::Elu { alpha } => ("Elu", Some(alpha), None),
        CellActivation::Softsign => ("Softsign", None, None),
        CellActivation::Softplus => ("Softplus", None, None),
    }
}

/// All results at once; a type without kernels is converted after it.
pub(super) fn recurrent(e: &mut Emitter<'_>, node: &Node, o: &Recurrent) -> Result<()> {
    let dtype = e.ty(node.operands[0]).dtype;
    let kernel = e.kernel("LSTM", dtype)?;
    let (op_type, lstm) = match o.cell {
        Cell::Rnn => ("RNN", false),
        Cell::Gru { .. } => ("GRU", false),
        Cell::Lstm { .. } => ("LSTM", true),
    };
    let mut operands = node.operands.iter().copied();
    let mut inputs = Vec::with_capacity(8);
    for value in operands.by_ref().take(4) {
        inputs.push(e.operand_as(value, kernel)?);
    }
    let mut states = Vec::new();
    for value in operands.by_ref().take(if lstm { 2 } else { 1 }) {
        states.push(e.operand_as(value, kernel)?);
    }
    inputs.push(match operands.next().filter(|_| o.lengths) {
        Some(lengths) => e.operand_as(lengths, DType::I32)?,
        None => String::new(),
    });
    inputs.extend(states);
    if o.peepholes
        && let Some(&peepholes) = node.operands.last()
    {
        inputs.push(e.operand_as(peepholes, kernel)?);
    }
    let direction = match o.direction {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
        Direction::Bidirectional => "bidirectional",
    };
    let mut attributes = vec![string("direction", direction)];
    if let Some(hidden) = e.ty(node.operands[2]).shape[2].known() {
        attributes.push(int("hidden_size", num::i64_of(hidden)));
    }
    let functions: Vec<_> = o.activations.iter().map(|&f| function(f)).collect();
    attributes.push(strings(
        "activations",
        functions.iter().map(|f| f.0).collect(),
    ));
    let alphas: Vec<f32> = functions.iter().filter_map(|f| f.1).collect();
    let betas: Vec<f32> = functions.iter().filter_map(|f| f.2).collect();
    if !alphas.is_empty() {
        attributes.push(floats("activation_alpha", alphas));
    }
    if !betas.is_empty() {
        attributes.push(floats("activation_beta", betas));
    }
    if let Some(clip) = o.clip {
        attributes.push(float("clip", f64::from(clip)));
    }
    match o.cell {
        Cell::Gru { reset_after: true } => attributes.push(int("linear_before_reset", 1)),
        Cell::Lstm { coupled: true } => attributes.push(int("input_forget", 1)),
        Cell::Rnn | Cell::Gru { .. } | Cell::Lstm { .. } => {}
    }
    let names: Vec<String> = node.results.iter().map(|&r| e.name(r)).collect();
    if kernel == dtype {
        e.push_all(op_type, inputs, names, attributes);
        return Ok(());
    }
    let raw: Vec<String> = names.iter().map(|_| e.helper_name(op_type)).collect();
    e.push_all(op_type, inputs, raw.clone(), attributes);
    for (raw, name) in raw.into_iter().zip(names) {
        let last = e.converted(super::emitter::last("Identity", [raw]), kernel, dtype)?;
        e.push(last.op_type, last.inputs, name, last.attributes);
    }
    Ok(())
}
