//! Elementwise operations.

use super::emit::{Arg, Emitter, Var};
use super::shape::{self, Broadcast};
use crate::coreml::dtype::{mil_name, to_mil};
use crate::coreml::error::CoremlError;
use crate::coreml::target::Opset;
use crate::error::{Context, Result};
use crate::ir::ops::{
    Activation, ActivationKind, Binary, BinaryKind, Cast, Clip, Compare, CompareKind, Unary,
    UnaryKind,
};
use crate::ir::{Type, broadcast};
use crate::tensor::{DType, num};

/// Smallest positive half-precision number.
const F16_TINY: f64 = 5.960_464_477_539_063e-8;

/// An epsilon that changes as little as the element type allows: `rsqrt`, `log` and `inverse` add theirs to the operand, and the default of
/// `inverse` is 1e-4.
pub(super) fn tiny(e: &Emitter<'_>, dtype: DType) -> Arg<'static> {
    if dtype == DType::F16 && e.opset < Opset::CoreML7 {
        Arg::Float(DType::F16, F16_TINY)
    } else {
        Arg::Float(DType::F32, f64::from(f32::MIN_POSITIVE))
    }
}

/// An operation that the format does not have.
fn not_written(e: &Emitter<'_>) -> crate::error::Error {
    CoremlError::NotWritten { op: e.op() }.into()
}

pub(super) fn unary(e: &mut Emitter<'_>, op: &Unary, x: &Var) -> Result<()> {
    let dtype = x.ty.dtype;
    let mut params = vec![("x", Arg::Var(x))];
    let kind = match op.kind {
        UnaryKind::Abs => "abs",
        UnaryKind::Sign => "sign",
        UnaryKind::Floor => "floor",
        UnaryKind::Ceil => "ceil",
        UnaryKind::Round => "round",
        UnaryKind::Not => "logical_not",
        UnaryKind::Relu => "relu",
        UnaryKind::Sqrt => "sqrt",
        UnaryKind::Exp => "exp",
        UnaryKind::Sin => "sin",
        UnaryKind::Cos => "cos",
        UnaryKind::Tan => "tan",
        UnaryKind::Asin => "asin",
        UnaryKind::Acos => "acos",
        UnaryKind::Atan => "atan",
        UnaryKind::Sinh => "sinh",
        UnaryKind::Cosh => "cosh",
        UnaryKind::Atanh => "atanh",
        UnaryKind::Softplus => "softplus",
        UnaryKind::Softsign => "softsign",
        // Core ML has no integer bit operations and no inverse hyperbolic sine and cosine.
        UnaryKind::BitNot | UnaryKind::Asinh | UnaryKind::Acosh => return Err(not_written(e)),
        UnaryKind::Tanh => "tanh",
        UnaryKind::Sigmoid => "sigmoid",
        UnaryKind::Erf => "erf",
        UnaryKind::Silu => "silu",
        UnaryKind::Neg => {
            // There is no negation; a product keeps the sign of zero, a difference would not.
            let minus = e.scalar("minus", dtype, -1.0)?;
            return e.finish("mul", &[("x", Arg::Var(x)), ("y", Arg::Var(&minus))]);
        }
        UnaryKind::GeluErf => {
            params.push(("mode", Arg::Text("EXACT")));
            "gelu"
        }
        UnaryKind::GeluTanh => {
            params.push(("mode", Arg::Text("TANH_APPROXIMATION")));
            "gelu"
        }
        UnaryKind::Rsqrt => {
            params.push(("epsilon", tiny(e, dtype)));
            "rsqrt"
        }
        UnaryKind::Reciprocal => {
            params.push(("epsilon", tiny(e, dtype)));
            "inverse"
        }
        UnaryKind::Log => {
            params.push(("epsilon", tiny(e, dtype)));
            "log"
        }
    };
    e.finish(kind, &params)
}

pub(super) fn binary(e: &mut Emitter<'_>, op: &Binary, x: &Var, y: &Var) -> Result<()> {
    let kind = match op.kind {
        BinaryKind::Add => "add",
        BinaryKind::Sub => "sub",
        BinaryKind::Mul => "mul",
        BinaryKind::Div => "real_div",
        BinaryKind::FloorDiv => "floor_div",
        BinaryKind::Mod => "mod",
        BinaryKind::TruncDiv
        | BinaryKind::Rem
        | BinaryKind::BitAnd
        | BinaryKind::BitOr
        | BinaryKind::BitXor
        | BinaryKind::ShiftLeft
        | BinaryKind::ShiftRight => return Err(not_written(e)),
        BinaryKind::Pow => "pow",
        BinaryKind::Min => "minimum",
        BinaryKind::Max => "maximum",
        BinaryKind::And => "logical_and",
        BinaryKind::Or => "logical_or",
        BinaryKind::Xor => "logical_xor",
    };
    e.finish(kind, &[("x", Arg::Var(x)), ("y", Arg::Var(y))])
}

pub(super) fn compare(e: &mut Emitter<'_>, op: &Compare, x: &Var, y: &Var) -> Result<()> {
    let params = [("x", Arg::Var(x)), ("y", Arg::Var(y))];
    let kind = match op.kind {
        // `equal` takes numbers only.
        CompareKind::Equal if x.ty.dtype == DType::Bool => {
            let ty = e.result_type().clone();
            let differ = e.step("differ", "logical_xor", ty, &params)?;
            return e.finish("logical_not", &[("x", Arg::Var(&differ))]);
        }
        CompareKind::NotEqual if x.ty.dtype == DType::Bool => "logical_xor",
        CompareKind::Equal => "equal",
        CompareKind::NotEqual => "not_equal",
        CompareKind::Less => "less",
        CompareKind::LessEqual => "less_equal",
        CompareKind::Greater => "greater",
        CompareKind::GreaterEqual => "greater_equal",
    };
    e.finish(kind, &params)
}

/// `select` has the shape of its two alternatives: where the condition is larger, an alternative is made as large.
pub(super) fn select(e: &mut Emitter<'_>, condition: &Var, a: &Var, b: &Var) -> Result<()> {
    let shape = e.result_type().shape.clone();
    let own = broadcast("select", &a.ty.shape, &b.ty.shape).at_node(e.name())?;
    let mut a = a.clone();
    if own != shape {
        a = match shape::broadcast_to(&a.ty, &shape) {
            Broadcast::Same => a,
            plan @ (Broadcast::Axes(_) | Broadcast::Tile { .. }) => {
                shape::broadcast_step(e, &plan, &a, &shape)?
            }
        };
    }
    let params = [
        ("cond", Arg::Var(condition)),
        ("a", Arg::Var(&a)),
        ("b", Arg::Var(b)),
    ];
    e.finish("select", &params)
}

pub(super) fn cast(e: &mut Emitter<'_>, op: &Cast, x: &Var) -> Result<()> {
    if op.to == x.ty.dtype {
        return e.finish("identity", &[("x", Arg::Var(x))]);
    }
    let to = Arg::Text(mil_name(to_mil(op.to)));
    e.finish("cast", &[("x", Arg::Var(x)), ("dtype", to)])
}

/// A cast on the way to the node's value.
pub(super) fn cast_step(e: &mut Emitter<'_>, step: &str, x: &Var, to: DType) -> Result<Var> {
    let ty = Type::new(to, x.ty.shape.clone());
    let params = [
        ("x", Arg::Var(x)),
        ("dtype", Arg::Text(mil_name(to_mil(to)))),
    ];
    e.step(step, "cast", ty, &params)
}

pub(super) fn activation(e: &mut Emitter<'_>, op: &Activation, x: &Var) -> Result<()> {
    let number = |n: f32| Arg::Float(x.ty.dtype, f64::from(n));
    let mut params = vec![("x", Arg::Var(x))];
    let kind = match op.kind {
        ActivationKind::LeakyRelu { alpha } => {
            params.push(("alpha", number(alpha)));
            "leaky_relu"
        }
        ActivationKind::Elu { alpha } => {
            params.push(("alpha", number(alpha)));
            "elu"
        }
        ActivationKind::HardSigmoid { alpha, beta } => {
            params.push(("alpha", number(alpha)));
            params.push(("beta", number(beta)));
            "sigmoid_hard"
        }
    };
    e.finish(kind, &params)
}

/// A clamp with one open end is a minimum or a maximum: an infinite bound would not survive half precision as what it means.
pub(super) fn clip(e: &mut Emitter<'_>, op: &Clip, x: &Var) -> Result<()> {
    if op.min.is_nan() || op.max.is_nan() {
        return Err(CoremlError::NanBound).at_node(e.name());
    }
    let dtype = x.ty.dtype;
    let round = |bound: f32| {
        if dtype == DType::F16 {
            num::round_f16(bound)
        } else {
            bound
        }
    };
    let (min, max) = (round(op.min), round(op.max));
    match (min == f32::NEG_INFINITY, max == f32::INFINITY) {
        (true, true) => e.finish("identity", &[("x", Arg::Var(x))]),
        (true, false) => one_sided(e, "minimum", x, max),
        (false, true) => one_sided(e, "maximum", x, min),
        (false, false) => {
            let params = [
                ("x", Arg::Var(x)),
                ("alpha", Arg::Float(dtype, f64::from(min))),
                ("beta", Arg::Float(dtype, f64::from(max))),
            ];
            e.finish("clip", &params)
        }
    }
}

fn one_sided(e: &mut Emitter<'_>, kind: &str, x: &Var, bound: f32) -> Result<()> {
    let bound = e.scalar("bound", x.ty.dtype, f64::from(bound))?;
    e.finish(kind, &[("x", Arg::Var(x)), ("y", Arg::Var(&bound))])
}
