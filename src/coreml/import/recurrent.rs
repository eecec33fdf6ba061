//! Recurrent layers: `rnn`, `gru`, `lstm`. Their gates come in another order here than in the IR.

use super::call::Call;
use super::entry::Entry;
use super::{Handler, Importer, clipped, runtime};
use crate::error::Result;
use crate::ir::ops::{
    Cell, CellActivation, Direction, Recurrent, Reshape, Reverse, Transpose, Unsqueeze,
};
use crate::ir::{Constant, Dim, Op, ValueId};
use crate::tensor::{DType, Tensor};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "rnn" | "gru" | "lstm" => recurrent,
        _ => return None,
    };
    Some(handler)
}

/// Where the gates of the IR are among those of the program.
fn gates(op: &str) -> &'static [usize] {
    match op {
        // r o z → z r h
        "gru" => &[2, 0, 1],
        // i f o z → i o f c
        "lstm" => &[0, 2, 1, 3],
        _ => &[0],
    }
}

fn constant(
    importer: &mut Importer<'_>,
    call: &mut Call,
    parameter: &str,
) -> Result<Option<Tensor>> {
    match call.optional(parameter) {
        None => Ok(None),
        Some(Entry::Constant { constant }) => {
            // The gates come in another order, so that nothing of the stored form is left.
            if constant.stored_form().is_some() {
                importer.expanded.insert(call.name.clone());
            }
            Ok(Some(constant.read()?))
        }
        Some(other) => Err(call
            .wrong(parameter, "a constant", &other.describe())
            .into()),
    }
}

/// The rows of every gate, in the IR's order.
fn reordered(call: &Call, parameter: &str, tensor: &Tensor) -> Result<Vec<f32>> {
    let gates = gates(&call.op);
    let values = tensor.floats()?;
    let rows = tensor.shape().first().copied().unwrap_or(0);
    if rows == 0 || rows % gates.len() != 0 {
        let expected = format!("rows for {} gates", gates.len());
        return Err(call
            .wrong(parameter, &expected, &format!("{:?}", tensor.shape()))
            .into());
    }
    let part = values.len() / gates.len();
    Ok(gates
        .iter()
        .flat_map(|&g| values[g * part..(g + 1) * part].iter().copied())
        .collect())
}

/// The weights of both directions, or of one, as `[D, rows, columns]`.
fn weights(
    importer: &mut Importer<'_>,
    call: &mut Call,
    parameter: &str,
    back: bool,
    dtype: DType,
) -> Result<ValueId> {
    let mut values = Vec::new();
    let mut shape = Vec::new();
    let mut names = vec![parameter.to_owned()];
    if back {
        names.push(format!("{parameter}_back"));
    }
    let directions = names.len();
    for name in names {
        let Some(tensor) = constant(importer, call, &name)? else {
            return Err(call.wrong(&name, "a matrix", "nothing").into());
        };
        if tensor.shape().len() != 2 || (!shape.is_empty() && shape != tensor.shape()) {
            let found = format!("{:?}", tensor.shape());
            return Err(call.wrong(&name, "a matrix", &found).into());
        }
        shape = tensor.shape().to_vec();
        values.extend(reordered(call, &name, &tensor)?);
    }
    shape.insert(0, directions);
    let tensor = Tensor::float(dtype, shape, values)?;
    value(importer, call, parameter, &tensor)
}

fn value(
    importer: &mut Importer<'_>,
    call: &Call,
    suffix: &str,
    tensor: &Tensor,
) -> Result<ValueId> {
    let name = format!("{}/{suffix}", call.name);
    Ok(importer
        .builder
        .constant(Constant::from_tensor(&name, tensor)?))
}

/// Input biases, then recurrent ones, per direction: `[D, 2 · rows]`. One bias counts as that of the input, but a `gru` that resets after the
/// product has its own for the input.
fn biases(
    importer: &mut Importer<'_>,
    call: &mut Call,
    back: bool,
    rows: usize,
    dtype: DType,
) -> Result<ValueId> {
    let mut values = Vec::new();
    let mut names = vec!["bias".to_owned()];
    if back {
        names.push("bias_back".to_owned());
    }
    let directions = names.len();
    let input = constant(importer, call, "input_bias")?;
    for name in names {
        let given = constant(importer, call, &name)?;
        let read = |call: &Call, name: &str, tensor: Option<&Tensor>| -> Result<Vec<f32>> {
            match tensor {
                None => Ok(vec![0.0; rows]),
                Some(tensor) if tensor.shape() == [rows] => reordered(call, name, tensor),
                Some(tensor) => {
                    let found = format!("{:?}", tensor.shape());
                    Err(call.wrong(name, &format!("{rows} values"), &found).into())
                }
            }
        };
        let given = read(call, &name, given.as_ref())?;
        match &input {
            Some(input) => {
                values.extend(read(call, "input_bias", Some(input))?);
                values.extend(given);
            }
            // Where the reset gate meets the recurrent bias it matters which of the two it is.
            None if call.op == "gru" => {
                values.extend(vec![0.0; rows]);
                values.extend(given);
            }
            None => {
                values.extend(given);
                values.extend(vec![0.0; rows]);
            }
        }
    }
    let tensor = Tensor::float(dtype, vec![directions, 2 * rows], values)?;
    value(importer, call, "biases", &tensor)
}

fn activation(call: &mut Call, parameter: &str, default: &str) -> Result<CellActivation> {
    let name = call.string(parameter)?;
    Ok(match name.as_deref().unwrap_or(default) {
        "tanh" => CellActivation::Tanh,
        "sigmoid" => CellActivation::Sigmoid,
        "relu" => CellActivation::Relu,
        "linear" => CellActivation::Affine {
            alpha: 1.0,
            beta: 0.0,
        },
        "hard_sigmoid" | "sigmoid_hard" => CellActivation::HardSigmoid {
            alpha: 0.2,
            beta: 0.5,
        },
        // Apple's own test expects the plain function.
        "scaled_tanh" => CellActivation::Tanh,
        other => {
            let expected = "`tanh`, `sigmoid`, `relu`, `linear`, `hard_sigmoid` or `scaled_tanh`";
            return Err(call
                .wrong(parameter, expected, &format!("`{other}`"))
                .into());
        }
    })
}

/// `[B, D · H]` to `[D, B, H]`.
fn state(
    importer: &mut Importer<'_>,
    call: &mut Call,
    parameter: &str,
    (directions, rows): &(usize, Dim),
    dtype: DType,
) -> Result<ValueId> {
    let h = importer.operand(call, parameter)?;
    let mut h = importer.cast(call, parameter, h, dtype)?;
    let ty = importer.ty(h);
    let [batch, width] = ty.shape.as_slice() else {
        return Err(call.wrong(parameter, "a matrix", &ty.to_string()).into());
    };
    if batch.is_run_time() && batch != rows {
        // Only a run tells how many there are; Apple's runtime takes as many as it needs.
        let shape = vec![rows.clone(), width.clone()];
        h = runtime::first(importer, call, h, shape)?;
    }
    let directions = *directions;
    if directions == 1 {
        let axes = vec![0];
        return importer.step(call, parameter, Op::Unsqueeze(Unsqueeze { axes }), &[h]);
    }
    let width = width.floor_div(&Dim::from(directions));
    let Some(width) = width else {
        return Err(call.unsupported(parameter, ty.to_string()).into());
    };
    let batch = importer.ty(h).shape[0].clone();
    let shape = vec![batch, Dim::from(directions), width];
    let h = importer.step(call, parameter, Op::Reshape(Reshape { shape }), &[h])?;
    let perm = vec![1, 0, 2];
    importer.step(call, parameter, Op::Transpose(Transpose { perm }), &[h])
}

/// `[…, D, B, H]` to `[…, B, D · H]`.
fn joined(importer: &mut Importer<'_>, call: &Call, suffix: &str, v: ValueId) -> Result<ValueId> {
    let shape = importer.ty(v).shape;
    let rank = shape.len();
    let [lead @ .., d, b, h] = shape.as_slice() else {
        return Ok(v);
    };
    let mut wanted = lead.to_vec();
    wanted.push(b.clone());
    wanted.push(d.mul(h));
    let v = if d.integer() == Some(1) {
        v
    } else {
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank - 3, rank - 2);
        importer.step(call, suffix, Op::Transpose(Transpose { perm }), &[v])?
    };
    let reshape = Op::Reshape(Reshape { shape: wanted });
    importer.step(call, suffix, reshape, &[v])
}

fn recurrent(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let ty = importer.ty(x);
    if ty.rank() != 3 {
        return Err(call.wrong("x", "rank 3", &ty.to_string()).into());
    }
    let dtype = ty.dtype;
    let direction = match call.string("direction")?.as_deref().unwrap_or("forward") {
        "forward" => Direction::Forward,
        "reverse" => Direction::Reverse,
        "bidirectional" if call.op == "lstm" => Direction::Bidirectional,
        other => {
            let expected = "`forward` or `reverse`, for `lstm` also `bidirectional`";
            return Err(call
                .wrong("direction", expected, &format!("`{other}`"))
                .into());
        }
    };
    let back = direction == Direction::Bidirectional;
    if let Some(clip) = call.float("clip")?.filter(|c| c.is_finite()) {
        return clipped(importer, call, x, direction, clip);
    }
    let directions = if back { 2 } else { 1 };
    let w = weights(importer, call, "weight_ih", back, dtype)?;
    let r = weights(importer, call, "weight_hh", back, dtype)?;
    let rows = importer.ty(r).known_shape().unwrap_or_default();
    let rows = rows.get(1).copied().unwrap_or(0);
    let b = biases(importer, call, back, rows, dtype)?;
    let mut operands = vec![x, w, r, b];
    let batch = importer.ty(x).shape.get(1).cloned().unwrap_or_default();
    let shape = (directions, batch);
    operands.push(state(importer, call, "initial_h", &shape, dtype)?);
    let lstm = call.op == "lstm";
    if lstm {
        operands.push(state(importer, call, "initial_c", &shape, dtype)?);
    }
    let (cell, one) = match call.op.as_str() {
        "rnn" => (Cell::Rnn, vec![activation(call, "activation", "tanh")?]),
        "gru" => {
            let gates = activation(call, "recurrent_activation", "sigmoid")?;
            let reset_after = call.bool("reset_after", false)?;
            let h = activation(call, "activation", "tanh")?;
            (Cell::Gru { reset_after }, vec![gates, h])
        }
        _ => {
            let gates = activation(call, "recurrent_activation", "sigmoid")?;
            let cell = activation(call, "cell_activation", "tanh")?;
            let h = activation(call, "activation", "tanh")?;
            (Cell::Lstm { coupled: false }, vec![gates, cell, h])
        }
    };
    let peepholes = peepholes(importer, call, back, dtype)?;
    operands.extend(peepholes);
    let sequence = call.bool("output_sequence", false)?;
    let activations: Vec<CellActivation> =
        (0..directions).flat_map(|_| one.iter().copied()).collect();
    let op = Op::Recurrent(Recurrent {
        cell,
        direction,
        activations,
        clip: None,
        lengths: false,
        peepholes: peepholes.is_some(),
    });
    let results = importer.builder.push_all(&call.name, op, &operands)?;
    let mut out = Vec::with_capacity(3);
    let h = joined(importer, call, "last", results[1])?;
    if sequence {
        let mut y = joined(importer, call, "sequence", results[0])?;
        if direction == Direction::Reverse {
            // Steps come in the order in which they were computed.
            let axes = vec![0];
            y = importer.step(call, "steps", Op::Reverse(Reverse { axes }), &[y])?;
        }
        out.push(y);
    } else {
        let axes = vec![0];
        out.push(importer.step(call, "only", Op::Unsqueeze(Unsqueeze { axes }), &[h])?);
    }
    out.push(h);
    if let Some(&c) = results.get(2) {
        out.push(joined(importer, call, "cell", c)?);
    }
    Ok(out.into_iter().map(|v| importer.entry(v)).collect())
}

/// Peephole weights `[D, 3 · H]`, in the order input, output, forget.
fn peepholes(
    importer: &mut Importer<'_>,
    call: &mut Call,
    back: bool,
    dtype: DType,
) -> Result<Option<ValueId>> {
    let mut names = vec!["peephole"];
    if back {
        names.push("peephole_back");
    }
    let mut given = Vec::with_capacity(names.len());
    for name in &names {
        given.push(constant(importer, call, name)?);
    }
    let Some(width) = given.iter().flatten().map(Tensor::len).next() else {
        return Ok(None);
    };
    let mut values = Vec::new();
    for (tensor, name) in given.iter().zip(&names) {
        match tensor {
            None => values.extend(vec![0.0; width]),
            Some(tensor) if tensor.len() == width && width % 3 == 0 => {
                let v = tensor.floats()?;
                let h = width / 3;
                for gate in [0, 2, 1] {
                    values.extend_from_slice(&v[gate * h..(gate + 1) * h]);
                }
            }
            Some(tensor) => {
                let found = format!("{:?}", tensor.shape());
                return Err(call.wrong(name, "three values per unit", &found).into());
            }
        }
    }
    let tensor = Tensor::float(dtype, vec![names.len(), width], values)?;
    value(importer, call, "peepholes", &tensor).map(Some)
}

/// The weights of one direction of a layer that is clipped.
fn one_direction(
    importer: &mut Importer<'_>,
    call: &mut Call,
    suffix: &str,
    reverse: bool,
) -> Result<clipped::Direction> {
    let mut needed = |name: &str| -> Result<Tensor> {
        let name = format!("{name}{suffix}");
        match constant(importer, call, &name)? {
            Some(tensor) if tensor.shape().len() == 2 => Ok(tensor.cast(DType::F32)),
            Some(_) | None => Err(call.wrong(&name, "a matrix", "another").into()),
        }
    };
    let (w, r) = (needed("weight_ih")?, needed("weight_hh")?);
    let rows = r.shape()[0];
    if rows != 4 * r.shape()[1] || w.shape()[0] != rows {
        let found = format!("{:?} and {:?}", w.shape(), r.shape());
        return Err(call.wrong("weight_hh", "[4 · H, H]", &found).into());
    }
    let b = match constant(importer, call, &format!("bias{suffix}"))? {
        Some(b) => b.cast(DType::F32),
        None => Tensor::f32(vec![rows], vec![0.0; rows])?,
    };
    let peephole =
        constant(importer, call, &format!("peephole{suffix}"))?.map(|p| p.cast(DType::F32));
    Ok(clipped::Direction {
        w,
        r,
        b,
        peephole,
        reverse,
    })
}

fn clipped(
    importer: &mut Importer<'_>,
    call: &mut Call,
    x: ValueId,
    direction: Direction,
    clip: f32,
) -> Result<Vec<Entry>> {
    let dtype = importer.ty(x).dtype;
    let mut directions = vec![one_direction(
        importer,
        call,
        "",
        direction == Direction::Reverse,
    )?];
    if direction == Direction::Bidirectional {
        directions.push(one_direction(importer, call, "_back", true)?);
    }
    let x = importer.cast(call, "x", x, DType::F32)?;
    let mut states = Vec::with_capacity(2);
    for parameter in ["initial_h", "initial_c"] {
        let state = importer.operand(call, parameter)?;
        states.push(importer.cast(call, parameter, state, DType::F32)?);
    }
    let shape = clipped::Shape {
        gates: activation(call, "recurrent_activation", "sigmoid")?,
        cell: activation(call, "cell_activation", "tanh")?,
        output: activation(call, "activation", "tanh")?,
        clip,
    };
    let sequence = call.bool("output_sequence", false)?;
    let states = (states[0], states[1]);
    let results = clipped::unrolled(importer, call, x, states, &directions, shape)?;
    clipped::results(importer, call, results, sequence, dtype)
}
