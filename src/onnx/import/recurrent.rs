//! Recurrent layers.

use super::Importer;
use super::call::Call;
use super::entry::Entry;
use super::table::{Row, microsoft, row};
use crate::error::Result;
use crate::ir::ops::{Cell, CellActivation, Dequantize, Direction, Granularity, Recurrent};
use crate::ir::{Dim, Op, ValueId};

pub(super) const ROWS: &[Row] = &[
    row("LSTM", 7, |m, c| recurrent(m, c, Kind::Lstm)),
    row("GRU", 7, |m, c| recurrent(m, c, Kind::Gru)),
    row("RNN", 7, |m, c| recurrent(m, c, Kind::Rnn)),
    microsoft("DynamicQuantizeLSTM", dynamic_lstm),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Lstm,
    Gru,
    Rnn,
}

fn direction(call: &mut Call<'_>) -> Result<Direction> {
    Ok(match call.string_or("direction", "forward")?.as_str() {
        "forward" => Direction::Forward,
        "reverse" => Direction::Reverse,
        "bidirectional" => Direction::Bidirectional,
        other => {
            return Err(call
                .wrong("direction", "forward, reverse or bidirectional", other)
                .into());
        }
    })
}

/// The activations of every direction, with the constants that go with their names.
fn activations(
    call: &mut Call<'_>,
    defaults: &[&str],
    directions: usize,
) -> Result<Vec<CellActivation>> {
    let names = call.strings("activations")?;
    let mut alphas = call
        .floats("activation_alpha")?
        .unwrap_or_default()
        .into_iter();
    let mut betas = call
        .floats("activation_beta")?
        .unwrap_or_default()
        .into_iter();
    let names = names.unwrap_or_else(|| {
        defaults
            .iter()
            .cycle()
            .take(defaults.len() * directions)
            .map(|&n| n.to_owned())
            .collect()
    });
    if names.len() != defaults.len() * directions {
        return Err(call
            .wrong(
                "activations",
                &format!("{} names", defaults.len() * directions),
                names.len(),
            )
            .into());
    }
    let mut out = Vec::new();
    for name in names {
        let mut alpha = |default: f32| alphas.next().unwrap_or(default);
        let mut beta = |default: f32| betas.next().unwrap_or(default);
        out.push(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => CellActivation::Sigmoid,
            "tanh" => CellActivation::Tanh,
            "relu" => CellActivation::Relu,
            "affine" => CellActivation::Affine {
                alpha: alpha(1.0),
                beta: beta(0.0),
            },
            "leakyrelu" => CellActivation::LeakyRelu { alpha: alpha(0.01) },
            "thresholdedrelu" => CellActivation::ThresholdedRelu { alpha: alpha(1.0) },
            "scaledtanh" => CellActivation::ScaledTanh {
                alpha: alpha(1.0),
                beta: beta(1.0),
            },
            "hardsigmoid" => CellActivation::HardSigmoid {
                alpha: alpha(0.2),
                beta: beta(0.5),
            },
            "elu" => CellActivation::Elu { alpha: alpha(1.0) },
            "softsign" => CellActivation::Softsign,
            "softplus" => CellActivation::Softplus,
            other => return Err(call.wrong("activations", "a known function", other).into()),
        });
    }
    Ok(out)
}

fn recurrent(m: &mut Importer<'_>, call: &mut Call<'_>, kind: Kind) -> Result<Vec<Entry>> {
    let (w, r) = (m.input(call, 1)?, m.input(call, 2)?);
    layer(m, call, kind, w, r)
}

/// Weights of eight bits, transposed. The activations, which ONNX Runtime rounds to eight bits as well, stay floats.
fn dynamic_lstm(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let mut weights = Vec::new();
    for i in [1, 2] {
        let q = m.input(call, i)?;
        let (scale, zero) = (m.input(call, 6 + 2 * i)?, m.input(call, 7 + 2 * i)?);
        // One number per direction `[D]`, or one per direction and column `[D, 4·H]`.
        let axes: &[usize] = if m.b.rank(scale) == 1 { &[1, 2] } else { &[1] };
        let scale = m.b.unsqueeze(scale, axes)?;
        let zero = m.b.unsqueeze(zero, axes)?;
        let granularity = Granularity::Block;
        let w = m.b.node(
            Op::Dequantize(Dequantize { granularity }),
            &[q, scale, zero],
        )?;
        weights.push(m.b.transpose(w, &[0, 2, 1])?);
    }
    m.notes.insert(format!(
        "`{}`: only its weights are quantised; activations, which ONNX Runtime rounds to 8 bits, stay floats",
        call.op
    ));
    let [w, r] = weights[..] else {
        return Err(call.missing("W and R").into());
    };
    layer(m, call, Kind::Lstm, w, r)
}

fn layer(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    kind: Kind,
    w: ValueId,
    r: ValueId,
) -> Result<Vec<Entry>> {
    let direction = direction(call)?;
    let directions = if direction == Direction::Bidirectional {
        2
    } else {
        1
    };
    let (cell, defaults): (Cell, &[&str]) = match kind {
        Kind::Lstm => (
            Cell::Lstm {
                coupled: call.flag("input_forget", false)?,
            },
            &["Sigmoid", "Tanh", "Tanh"],
        ),
        Kind::Gru => (
            Cell::Gru {
                reset_after: call.flag("linear_before_reset", false)?,
            },
            &["Sigmoid", "Tanh"],
        ),
        Kind::Rnn => (Cell::Rnn, &["Tanh"]),
    };
    let activations = activations(call, defaults, directions)?;
    let clip = call.float("clip")?;
    let batch_first = call.flag("layout", false)?;
    let x = m.input(call, 0)?;
    let bias = m.optional(call, 3)?;
    let lengths = m.optional(call, 4)?;
    let h = m.optional(call, 5)?;
    let (c, peepholes) = if kind == Kind::Lstm {
        (m.optional(call, 6)?, m.optional(call, 7)?)
    } else {
        (None, None)
    };
    let w_shape = m.b.shape(w);
    let r_shape = m.b.shape(r);
    if m.b.rank(x) != 3 || w_shape.len() != 3 || r_shape.len() != 3 {
        return Err(call.wrong("X", "rank 3, like W and R", m.b.ty(x)).into());
    }
    let hidden = r_shape[2].clone();
    if let Some(size) = call.int("hidden_size")?
        && hidden.integer().is_some_and(|h| h != size)
    {
        return Err(call
            .wrong("hidden_size", &format!("{hidden}, as the weights"), size)
            .into());
    }
    let turn = |m: &mut Importer<'_>, v: ValueId| -> Result<ValueId> {
        if batch_first {
            m.b.transpose(v, &[1, 0, 2])
        } else {
            Ok(v)
        }
    };
    let x = turn(m, x)?;
    let batch = m.b.shape(x)[1].clone();
    let zeros = |m: &mut Importer<'_>, shape: Vec<Dim>| -> Result<ValueId> {
        let zero = m.b.number(x, 0.0)?;
        m.b.expand(zero, shape)
    };
    let bias = match bias {
        Some(bias) => bias,
        None => zeros(m, vec![w_shape[0].clone(), w_shape[1].mul(&Dim::from(2))])?,
    };
    let state = vec![Dim::from(directions), batch, hidden];
    let initial = |m: &mut Importer<'_>, v: Option<ValueId>| match v {
        Some(v) => turn(m, v),
        None => zeros(m, state.clone()),
    };
    let mut operands = vec![x, w, r, bias, initial(m, h)?];
    if kind == Kind::Lstm {
        operands.push(initial(m, c)?);
    }
    let op = Recurrent {
        cell,
        direction,
        activations,
        clip,
        lengths: lengths.is_some(),
        peepholes: peepholes.is_some(),
    };
    operands.extend(lengths);
    operands.extend(peepholes);
    let results =
        m.b.push_all(call.op.as_str(), Op::Recurrent(op), &operands)?;
    let mut out = Vec::new();
    for (i, result) in results.into_iter().enumerate() {
        let result = match (batch_first, i) {
            (false, _) => result,
            // [T, D, B, H] → [B, T, D, H]
            (true, 0) => m.b.transpose(result, &[2, 0, 1, 3])?,
            (true, _) => m.b.transpose(result, &[1, 0, 2])?,
        };
        out.push(Entry::Value(result));
    }
    Ok(out)
}
