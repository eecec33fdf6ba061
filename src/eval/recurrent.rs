//! Recurrent layers, step by step.

use super::linear::multiply;
use super::{Mode, Target, math, round};
use crate::error::Result;
use crate::ir::ops::{Cell, CellActivation, Direction, Recurrent};
use crate::tensor::{DType, Tensor};

fn activate(f: CellActivation, x: f32) -> f32 {
    match f {
        CellActivation::Sigmoid => math::sigmoid(x),
        CellActivation::Tanh => math::tanh(x),
        CellActivation::Relu => x.max(0.0),
        CellActivation::Affine { alpha, beta } => alpha * x + beta,
        CellActivation::LeakyRelu { alpha } => {
            if x < 0.0 {
                alpha * x
            } else {
                x
            }
        }
        CellActivation::ThresholdedRelu { alpha } => {
            if x > alpha {
                x
            } else {
                0.0
            }
        }
        CellActivation::ScaledTanh { alpha, beta } => alpha * math::tanh(beta * x),
        CellActivation::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
        CellActivation::Elu { alpha } => {
            if x < 0.0 {
                alpha * x.exp_m1()
            } else {
                x
            }
        }
        CellActivation::Softsign => x / (1.0 + x.abs()),
        CellActivation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
    }
}

/// `rows × inner` out of a row-major `inner × rows`, or the reverse.
fn turned(v: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; v.len()];
    for (i, &x) in v.iter().enumerate() {
        out[i % columns * rows + i / columns] = x;
    }
    out
}

/// What one direction of a layer computes with.
struct Layer<'a> {
    op: &'a Recurrent,
    functions: &'a [CellActivation],
    batch: usize,
    hidden: usize,
    /// `[H, G·H]`
    recurrent: Vec<f32>,
    /// `[G·H]`, added to the recurrent sums.
    bias: &'a [f32],
    peepholes: Option<&'a [f32]>,
    dtype: DType,
    mode: Mode,
}

impl Layer<'_> {
    fn clip(&self, x: f32) -> f32 {
        match self.op.clip {
            Some(limit) => x.clamp(-limit, limit),
            None => x,
        }
    }

    fn rounded(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        if self.mode == Mode::F32 {
            return Ok(values);
        }
        let tensor = Tensor::float(self.dtype, vec![values.len()], values)?;
        Ok(round(tensor, self.mode)?.floats()?.to_vec())
    }

    /// The next hidden and cell state from the input's sums `[B, G·H]`.
    fn step(&self, sums: &[f32], h: &[f32], c: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
        let (n, width) = (self.hidden, self.op.cell.gates() * self.hidden);
        let mut recurrent = vec![0.0; self.batch * width];
        multiply(
            h,
            &self.recurrent,
            Some(self.bias),
            &mut recurrent,
            (self.batch, n, width),
        )?;
        let mut next_h = vec![0.0; self.batch * n];
        let mut next_c = c.to_vec();
        let f = |k: usize, x: f32| activate(self.functions[k], self.clip(x));
        match self.op.cell {
            Cell::Rnn => {
                for (o, (x, r)) in next_h.iter_mut().zip(sums.iter().zip(&recurrent)) {
                    *o = f(0, x + r);
                }
            }
            Cell::Gru { reset_after } => {
                let gate = |b: usize, k: usize, i: usize| {
                    let at = b * width + k * n + i;
                    (sums[at], recurrent[at])
                };
                let mut reset = vec![0.0; self.batch * n];
                for b in 0..self.batch {
                    for i in 0..n {
                        let (x, r) = gate(b, 1, i);
                        reset[b * n + i] = f(0, x + r);
                    }
                }
                // With the reset before the product, that product is of its own.
                let mut candidate = vec![0.0; self.batch * n];
                if !reset_after {
                    let gated: Vec<f32> = reset.iter().zip(h).map(|(r, h)| r * h).collect();
                    let columns: Vec<f32> = self
                        .recurrent
                        .chunks_exact(width)
                        .flat_map(|row| row[2 * n..].iter().copied())
                        .collect();
                    multiply(
                        &gated,
                        &columns,
                        Some(&self.bias[2 * n..]),
                        &mut candidate,
                        (self.batch, n, n),
                    )?;
                }
                for b in 0..self.batch {
                    for i in 0..n {
                        let at = b * n + i;
                        let (x, r) = gate(b, 0, i);
                        let z = f(0, x + r);
                        let (x, r) = gate(b, 2, i);
                        let inner = if reset_after {
                            reset[at] * r
                        } else {
                            candidate[at]
                        };
                        let fresh = f(1, x + inner);
                        next_h[at] = (1.0 - z) * fresh + z * h[at];
                    }
                }
            }
            Cell::Lstm { coupled } => {
                for b in 0..self.batch {
                    for i in 0..n {
                        let at = b * n + i;
                        let sum = |k: usize| {
                            sums[b * width + k * n + i] + recurrent[b * width + k * n + i]
                        };
                        let peep =
                            |k: usize, c: f32| self.peepholes.map_or(0.0, |p| p[k * n + i] * c);
                        let input = f(0, sum(0) + peep(0, c[at]));
                        let forget = if coupled {
                            1.0 - input
                        } else {
                            f(0, sum(2) + peep(2, c[at]))
                        };
                        let cell = forget * c[at] + input * f(1, sum(3));
                        let output = f(0, sum(1) + peep(1, cell));
                        next_c[at] = cell;
                        next_h[at] = output * activate(self.functions[2], cell);
                    }
                }
            }
        }
        Ok((self.rounded(next_h)?, self.rounded(next_c)?))
    }
}

pub(super) fn recurrent(
    op: &Recurrent,
    operands: &[Tensor],
    targets: Vec<Target>,
    mode: Mode,
) -> Result<Vec<Tensor>> {
    let lstm = matches!(op.cell, Cell::Lstm { .. });
    let x = &operands[0];
    let (&[steps, batch, inputs], &[directions, width, hidden]) = (x.shape(), operands[2].shape())
    else {
        return Err(super::EvalError::Bodies { op: "recurrent" }.into());
    };
    let mut rest = operands.iter().skip(if lstm { 6 } else { 5 });
    let lengths = if op.lengths { rest.next() } else { None };
    let lengths: Vec<usize> = match lengths.map(Tensor::ints).transpose()? {
        Some(n) => n
            .iter()
            .map(|&n| usize::try_from(n).unwrap_or(0).min(steps))
            .collect(),
        None => vec![steps; batch],
    };
    let peepholes = if op.peepholes { rest.next() } else { None };
    let peepholes = peepholes.map(Tensor::floats).transpose()?;
    let (v, w, r, bias) = (
        x.floats()?,
        operands[1].floats()?,
        operands[2].floats()?,
        operands[3].floats()?,
    );
    let state = batch * hidden;
    let mut y = vec![0.0f32; steps * directions * state];
    let (mut last_h, mut last_c) = (Vec::new(), Vec::new());
    for d in 0..directions {
        let reverse = op.direction == Direction::Reverse || d == 1;
        let per = op.cell.activations();
        let layer = Layer {
            op,
            functions: &op.activations[d * per..(d + 1) * per],
            batch,
            hidden,
            recurrent: turned(
                &r[d * width * hidden..(d + 1) * width * hidden],
                width,
                hidden,
            ),
            bias: &bias[d * 2 * width + width..(d + 1) * 2 * width],
            peepholes: peepholes.map(|p| &p[d * 3 * hidden..(d + 1) * 3 * hidden]),
            dtype: x.dtype(),
            mode,
        };
        let weights = turned(
            &w[d * width * inputs..(d + 1) * width * inputs],
            width,
            inputs,
        );
        let input_bias = &bias[d * 2 * width..d * 2 * width + width];
        let mut sums = vec![0.0; steps * batch * width];
        multiply(
            v,
            &weights,
            Some(input_bias),
            &mut sums,
            (steps * batch, inputs, width),
        )?;
        let initial = |k: usize| -> Result<Vec<f32>> {
            let t: &Tensor = &operands[k];
            Ok(t.floats()?[d * state..(d + 1) * state].to_vec())
        };
        let mut h = initial(4)?;
        let mut c = if lstm { initial(5)? } else { Vec::new() };
        for k in 0..steps {
            let t = if reverse { steps - 1 - k } else { k };
            let (next_h, next_c) =
                layer.step(&sums[t * batch * width..(t + 1) * batch * width], &h, &c)?;
            for b in (0..batch).filter(|&b| t < lengths[b]) {
                let row = b * hidden..(b + 1) * hidden;
                h[row.clone()].copy_from_slice(&next_h[row.clone()]);
                if lstm {
                    c[row.clone()].copy_from_slice(&next_c[row.clone()]);
                }
                let at = (t * directions + d) * state + b * hidden;
                y[at..at + hidden].copy_from_slice(&next_h[row]);
            }
        }
        last_h.extend(h);
        last_c.extend(c);
    }
    let values = [y, last_h, last_c];
    targets
        .into_iter()
        .zip(values)
        .map(|(target, v)| target.float(v))
        .collect()
}
