//! Activations that are not operations of their own in the IR, by their definitions.

use super::call::Call;
use super::elementwise::{op1, op2};
use super::entry::Entry;
use super::{Handler, Importer};
use crate::error::Result;
use crate::ir::ops::{
    Activation, ActivationKind, BinaryKind, Clip, Compare, CompareKind, Select, UnaryKind,
};
use crate::ir::{Op, ValueId};
use crate::tensor::DType;

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "elu" | "leaky_relu" | "sigmoid_hard" => unit,
        "clamped_relu"
        | "linear_activation"
        | "prelu"
        | "relu6"
        | "scaled_tanh"
        | "softplus_parametric"
        | "threshold"
        | "thresholded_relu" => activation,
        _ => return None,
    };
    Some(handler)
}

/// The operand, the parameters `alpha` and `beta`, and the type in which the result is computed before it is rounded to that of the operand.
struct Parts {
    x: ValueId,
    alpha: Option<ValueId>,
    beta: Option<ValueId>,
    work: DType,
    narrow: DType,
}

/// A parameter, shaped to broadcast along axis 1 when it has a value per channel.
fn parameter(
    importer: &mut Importer<'_>,
    call: &mut Call,
    name: &str,
    rank: usize,
    work: DType,
) -> Result<Option<ValueId>> {
    let constant = match call.optional(name) {
        None => return Ok(None),
        Some(Entry::Constant { constant }) => constant.cast(work),
        Some(other) => {
            return Err(call.wrong(name, "a constant", &other.describe()).into());
        }
    };
    let per_channel = matches!(call.op.as_str(), "prelu" | "softplus_parametric");
    let shape = match constant.shape() {
        [] if !per_channel => Vec::new(),
        [1] if !per_channel => Vec::new(),
        [n] if per_channel && rank > 1 => {
            let mut shape = vec![1; rank];
            shape[1] = *n;
            shape
        }
        other => {
            let expected = if per_channel {
                "a value per channel of axis 1"
            } else {
                "one number"
            };
            return Err(call.wrong(name, expected, &format!("{other:?}")).into());
        }
    };
    let constant = constant.reshape(shape)?;
    Ok(Some(importer.builder.constant(constant)))
}

fn parts(importer: &mut Importer<'_>, call: &mut Call) -> Result<Parts> {
    let x = importer.operand(call, "x")?;
    let ty = importer.ty(x);
    let mixed = ["alpha", "beta"]
        .iter()
        .filter_map(|p| call.peek(p).and_then(Entry::ty))
        .any(|t| t.dtype != ty.dtype);
    // From CoreML7 on, parameters may be in single precision beside an operand in half.
    let work = if mixed { DType::F32 } else { ty.dtype };
    let x = importer.cast(call, "x", x, work)?;
    Ok(Parts {
        x,
        alpha: parameter(importer, call, "alpha", ty.rank(), work)?,
        beta: parameter(importer, call, "beta", ty.rank(), work)?,
        work,
        narrow: ty.dtype,
    })
}

/// The activations that the IR has.
fn unit(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let alpha = call.float("alpha")?.unwrap_or(0.0);
    let kind = match call.op.as_str() {
        "elu" => ActivationKind::Elu { alpha },
        "leaky_relu" => ActivationKind::LeakyRelu { alpha },
        _ => ActivationKind::HardSigmoid {
            alpha,
            beta: call.float("beta")?.unwrap_or(0.0),
        },
    };
    importer.result(call, Op::Activation(Activation { kind }), &[x])
}

fn activation(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let Parts {
        x,
        alpha,
        beta,
        work,
        narrow,
    } = parts(importer, call)?;
    let needed =
        |v: Option<ValueId>, name: &str| v.ok_or_else(|| call.wrong(name, "a number", "nothing"));
    let mul = op2(BinaryKind::Mul);
    let (op, operands) = match call.op.as_str() {
        "relu6" => (Op::Clip(Clip { min: 0.0, max: 6.0 }), vec![x]),
        "threshold" => (op2(BinaryKind::Max), vec![x, needed(alpha, "alpha")?]),
        "linear_activation" => {
            let (alpha, beta) = (needed(alpha, "alpha")?, needed(beta, "beta")?);
            let scaled = importer.step(call, "scaled", mul, &[x, alpha])?;
            (op2(BinaryKind::Add), vec![scaled, beta])
        }
        "scaled_tanh" => {
            let (alpha, beta) = (needed(alpha, "alpha")?, needed(beta, "beta")?);
            let scaled = importer.step(call, "scaled", mul.clone(), &[x, beta])?;
            let tanh = importer.step(call, "tanh", op1(UnaryKind::Tanh), &[scaled])?;
            (mul, vec![tanh, alpha])
        }
        "softplus_parametric" => {
            let (alpha, beta) = (needed(alpha, "alpha")?, needed(beta, "beta")?);
            let scaled = importer.step(call, "scaled", mul.clone(), &[x, beta])?;
            let soft = importer.step(call, "softplus", op1(UnaryKind::Softplus), &[scaled])?;
            (mul, vec![soft, alpha])
        }
        "thresholded_relu" => {
            let alpha = needed(alpha, "alpha")?;
            let zero = importer.scalar(call, "zero", work, 0.0)?;
            let kept = compare(importer, call, CompareKind::GreaterEqual, x, alpha)?;
            (Op::Select(Select), vec![kept, x, zero])
        }
        // `prelu` and `clamped_relu`: another slope below zero.
        _ => {
            let alpha = needed(alpha, "alpha")?;
            let zero = importer.scalar(call, "zero", work, 0.0)?;
            let kept = compare(importer, call, CompareKind::GreaterEqual, x, zero)?;
            let scaled = importer.step(call, "scaled", mul, &[x, alpha])?;
            let sloped = (Op::Select(Select), vec![kept, x, scaled]);
            if call.op == "clamped_relu" {
                let beta = needed(beta, "beta")?;
                let sloped = importer.step(call, "sloped", sloped.0, &sloped.1)?;
                (op2(BinaryKind::Min), vec![sloped, beta])
            } else {
                sloped
            }
        }
    };
    importer.rounded(call, op, &operands, narrow)
}

fn compare(
    importer: &mut Importer<'_>,
    call: &Call,
    kind: CompareKind,
    x: ValueId,
    y: ValueId,
) -> Result<ValueId> {
    importer.step(call, "kept", Op::Compare(Compare { kind }), &[x, y])
}
