//! Control flow. Bodies are functions of the module; what they use of their surroundings is an operand.

use super::{int, operand_type, shapes};
use crate::ir::dim::Dim;
use crate::ir::module::BodyId;
use crate::ir::types::{IrError, Type};
use crate::tensor::DType;

/// Runs one of two bodies; operands: the condition (`bool`, one element), then what the bodies capture. Both bodies take all captures as
/// their parameters, in order, and give the results as their outputs, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct If {
    /// What runs when the condition holds.
    pub then_body: BodyId,
    /// What runs when it does not.
    pub else_body: BodyId,
    /// Types of the results. A size in which the bodies differ is a run-time size.
    pub results: Vec<Type>,
}

impl If {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Vec<Type>, IrError> {
        condition(op, 0, operands)?;
        if self.results.is_empty() {
            return Err(shapes(op, "a body without results does nothing", operands));
        }
        Ok(self.results.clone())
    }
}

/// Runs a body again and again; operands: the most rounds (an integer, one element), whether to begin (`bool`, one element), the carried values, then
/// what the body captures. The body's parameters: the round (an integer, rank 0), whether the loop goes on (`bool`, rank 0), the carried values, the
/// captures; its outputs: whether to go on, the carried values, and what each round adds to the collected results.
///
/// # Shapes
/// Results: the carried values as they are in the end, then every collected value with a new first axis of rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Loop {
    /// What runs.
    pub body: BodyId,
    /// Number of carried values.
    pub carried: usize,
    /// Types of the results. Sizes that change from round to round, and the number of rounds, are run-time sizes.
    pub results: Vec<Type>,
}

impl Loop {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Vec<Type>, IrError> {
        int(op, 0, operands[0])?;
        condition(op, 1, operands)?;
        if operands[0].shape.iter().any(|d| d.integer() != Some(1)) {
            return Err(shapes(
                op,
                "the number of rounds must be one element",
                operands,
            ));
        }
        if self.results.len() < self.carried
            || self.results.is_empty()
            || operands.len() < 2 + self.carried
        {
            return Err(shapes(
                op,
                "carried values without an operand or a result",
                operands,
            ));
        }
        for (i, (result, operand)) in self
            .results
            .iter()
            .zip(&operands[2..2 + self.carried])
            .enumerate()
        {
            let fits = result.dtype == operand.dtype && may_be(&result.shape, &operand.shape);
            if !fits {
                return Err(operand_type(op, i + 2, &result.to_string(), operand));
            }
        }
        Ok(self.results.clone())
    }
}

/// Whether a shape with run-time sizes may turn out to be the other.
fn may_be(a: &[Dim], b: &[Dim]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.may_equal(b))
}

fn condition(op: &'static str, operand: usize, operands: &[&Type]) -> Result<(), IrError> {
    let c = operands[operand];
    if c.dtype == DType::Bool && c.shape.iter().all(|d| d.integer() == Some(1)) {
        Ok(())
    } else {
        Err(operand_type(op, operand, "one bool", c))
    }
}
