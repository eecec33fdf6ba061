//! Recurrent layers.

use super::{float, same_dtype, shapes};
use crate::ir::dim::Dim;
use crate::ir::types::{IrError, Type};

/// The kind of cell, with its gates in the order of the weights' rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// One gate: `h' = f(W·x + R·h + b)`.
    Rnn,
    /// Gates `z r h`: `h' = (1 − z)∘h̃ + z∘h`, with `h̃ = g(W·x + Wb + R·(r∘h) + Rb)`, or `g(W·x + Wb + r∘(R·h + Rb))` with `reset_after`.
    Gru {
        /// The reset gate is applied after the matrix product.
        reset_after: bool,
    },
    /// Gates `i o f c`: `c' = f∘c + i∘g(…)`, `h' = o∘h(c')`; peepholes `i o f` see the cell.
    Lstm {
        /// `f = 1 − i`.
        coupled: bool,
    },
}

impl Cell {
    /// Number of gates.
    #[must_use]
    pub fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru { .. } => 3,
            Cell::Lstm { .. } => 4,
        }
    }

    /// Activation functions per direction.
    #[must_use]
    pub fn activations(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru { .. } => 2,
            Cell::Lstm { .. } => 3,
        }
    }
}

/// Which way time runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// First to last.
    Forward,
    /// Last to first; results stay at their time.
    Reverse,
    /// Both, as two directions of the result.
    Bidirectional,
}

/// An activation of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CellActivation {
    /// `1/(1 + e⁻ˣ)`
    Sigmoid,
    /// `tanh x`
    Tanh,
    /// `max(x, 0)`
    Relu,
    /// `α·x + β`
    Affine {
        /// α
        alpha: f32,
        /// β
        beta: f32,
    },
    /// `x`, or `α·x` below 0.
    LeakyRelu {
        /// α
        alpha: f32,
    },
    /// `x` above α, else 0.
    ThresholdedRelu {
        /// α
        alpha: f32,
    },
    /// `α·tanh(β·x)`
    ScaledTanh {
        /// α
        alpha: f32,
        /// β
        beta: f32,
    },
    /// `min(max(α·x + β, 0), 1)`
    HardSigmoid {
        /// α
        alpha: f32,
        /// β
        beta: f32,
    },
    /// `x`, or `α·(eˣ − 1)` below 0.
    Elu {
        /// α
        alpha: f32,
    },
    /// `x / (1 + |x|)`
    Softsign,
    /// `ln(1 + eˣ)`
    Softplus,
}

/// A recurrent layer. Operands: `x [T, B, I]`, `w [D, G·H, I]`, `r [D, G·H, H]`, `b [D, 2·G·H]` (input biases, then recurrent ones),
/// `h₀ [D, B, H]`, for an LSTM `c₀ [D, B, H]`, then, as the flags say, `lengths [B]` (integers) and `peepholes [D, 3·H]`.
///
/// # Shapes
/// Results `y [T, D, B, H]`, `h [D, B, H]` after the last step, and for an LSTM `c [D, B, H]`. Beyond a row's length `y` is 0.
///
/// # Numerics
/// Each step accumulates in `f32`; its state is rounded to the declared type once.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrent {
    /// The cell.
    pub cell: Cell,
    /// Which way time runs.
    pub direction: Direction,
    /// Activations, as many per direction as the cell has.
    pub activations: Vec<CellActivation>,
    /// Sums are clamped to ± this before an activation.
    pub clip: Option<f32>,
    /// Whether the operand `lengths` is there.
    pub lengths: bool,
    /// Whether the operand `peepholes` is there.
    pub peepholes: bool,
}

impl Recurrent {
    /// Number of directions.
    #[must_use]
    pub fn directions(&self) -> usize {
        if self.direction == Direction::Bidirectional {
            2
        } else {
            1
        }
    }

    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Vec<Type>, IrError> {
        let lstm = matches!(self.cell, Cell::Lstm { .. });
        let expected =
            5 + usize::from(lstm) + usize::from(self.lengths) + usize::from(self.peepholes);
        if operands.len() != expected {
            return Err(IrError::Arity {
                op,
                expected: expected.to_string(),
                found: operands.len(),
            });
        }
        float(op, 0, operands[0])?;
        let lengths_at = 5 + usize::from(lstm);
        let floats: Vec<&Type> = operands
            .iter()
            .enumerate()
            .filter(|(i, _)| !self.lengths || *i != lengths_at)
            .map(|(_, t)| *t)
            .collect();
        same_dtype(op, &floats)?;
        let (x, w, r) = (operands[0], operands[1], operands[2]);
        if x.rank() != 3 || w.rank() != 3 || r.rank() != 3 {
            return Err(shapes(op, "x, w and r must have rank 3", operands));
        }
        let directions = Dim::from(self.directions());
        let hidden = r.shape[2].clone();
        let rows = hidden.mul(&Dim::from(self.cell.gates()));
        let batch = x.shape[1].clone();
        let state = vec![directions.clone(), batch.clone(), hidden.clone()];
        let mut wanted: Vec<Vec<Dim>> = vec![
            x.shape.clone(),
            vec![directions.clone(), rows.clone(), x.shape[2].clone()],
            vec![directions.clone(), rows.clone(), hidden.clone()],
            vec![directions.clone(), rows.mul(&Dim::from(2))],
            state.clone(),
        ];
        if lstm {
            wanted.push(state.clone());
        }
        if self.lengths {
            super::int(op, lengths_at, operands[lengths_at])?;
            wanted.push(vec![batch.clone()]);
        }
        if self.peepholes {
            wanted.push(vec![directions.clone(), hidden.mul(&Dim::from(3))]);
        }
        let fits = wanted.iter().zip(operands).all(|(w, t)| {
            w.len() == t.rank() && w.iter().zip(&t.shape).all(|(a, b)| a.may_equal(b))
        });
        if !fits || self.activations.len() != self.cell.activations() * self.directions() {
            return Err(shapes(
                op,
                "weights, biases and states do not fit the cell",
                operands,
            ));
        }
        let y = vec![x.shape[0].clone(), directions, batch, hidden];
        let mut out = vec![Type::new(x.dtype, y), Type::new(x.dtype, state.clone())];
        if lstm {
            out.push(Type::new(x.dtype, state));
        }
        Ok(out)
    }
}
