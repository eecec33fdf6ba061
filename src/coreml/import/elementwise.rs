//! Elementwise operations.

use super::call::Call;
use super::entry::Entry;
use super::{Handler, Importer};
use crate::coreml::dtype::from_name;
use crate::error::Result;
use crate::ir::Op;
use crate::ir::ValueId;
use crate::ir::ops::{
    Binary, BinaryKind, Cast, Clip, Compare, CompareKind, Select, Unary, UnaryKind,
};
use crate::tensor::{DType, num};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "abs" | "sign" | "floor" | "ceil" | "round" | "logical_not" | "relu" | "sqrt" | "exp"
        | "sin" | "cos" | "tan" | "asin" | "acos" | "atan" | "sinh" | "cosh" | "atanh" | "tanh"
        | "sigmoid" | "erf" | "silu" | "softplus" | "softsign" => unary,
        "rsqrt" | "inverse" | "log" => with_epsilon,
        "add" | "sub" | "mul" | "real_div" | "floor_div" | "mod" | "pow" | "minimum"
        | "maximum" | "logical_and" | "logical_or" | "logical_xor" => binary,
        "exp2" => exp2,
        "equal" | "not_equal" | "less" | "less_equal" | "greater" | "greater_equal" => compare,
        "gelu" => gelu,
        "square" => square,
        "select" => select,
        "cast" => cast,
        "clip" => clip,
        "identity" => identity,
        _ => return None,
    };
    Some(handler)
}

/// An elementwise function of one operand.
pub(super) fn op1(kind: UnaryKind) -> Op {
    Op::Unary(Unary { kind })
}

/// An elementwise function of two operands.
pub(super) fn op2(kind: BinaryKind) -> Op {
    Op::Binary(Binary { kind })
}

fn unary(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let kind = match call.op.as_str() {
        "abs" => UnaryKind::Abs,
        "sign" => UnaryKind::Sign,
        "floor" => UnaryKind::Floor,
        "ceil" => UnaryKind::Ceil,
        "round" => UnaryKind::Round,
        "logical_not" => UnaryKind::Not,
        "relu" => UnaryKind::Relu,
        "sqrt" => UnaryKind::Sqrt,
        "exp" => UnaryKind::Exp,
        "sin" => UnaryKind::Sin,
        "cos" => UnaryKind::Cos,
        "tan" => UnaryKind::Tan,
        "asin" => UnaryKind::Asin,
        "acos" => UnaryKind::Acos,
        "atan" => UnaryKind::Atan,
        "sinh" => UnaryKind::Sinh,
        "cosh" => UnaryKind::Cosh,
        "atanh" => UnaryKind::Atanh,
        "softplus" => UnaryKind::Softplus,
        "softsign" => UnaryKind::Softsign,
        "tanh" => UnaryKind::Tanh,
        "sigmoid" => UnaryKind::Sigmoid,
        "erf" => UnaryKind::Erf,
        _ => UnaryKind::Silu,
    };
    let x = importer.operand(call, "x")?;
    let dtype = importer.ty(x).dtype;
    let whole = matches!(kind, UnaryKind::Floor | UnaryKind::Ceil | UnaryKind::Round);
    if whole && dtype.is_int() {
        return Ok(vec![importer.entry(x)]);
    }
    importer.result(call, op1(kind), &[x])
}

/// `f(x + epsilon)`. Only an epsilon of 0 adds nothing: `log` of 0 is −103 with the default one.
fn with_epsilon(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let (kind, default) = match call.op.as_str() {
        "rsqrt" => (UnaryKind::Rsqrt, 1e-12),
        "inverse" => (UnaryKind::Reciprocal, 1e-4),
        _ => (UnaryKind::Log, 1e-45),
    };
    let x = importer.operand(call, "x")?;
    let dtype = importer.ty(x).dtype;
    let given = call.peek("epsilon").and_then(Entry::ty).map(|t| t.dtype);
    let epsilon = match call.float("epsilon")? {
        Some(epsilon) => epsilon,
        // The default has the type of `x`.
        None if dtype == DType::F16 => num::round_f16(default),
        None => default,
    };
    if epsilon == 0.0 {
        return importer.result(call, op1(kind), &[x]);
    }
    let wide = given.unwrap_or(dtype) != dtype && dtype != DType::F32;
    let work = if wide { DType::F32 } else { dtype };
    let x = importer.cast(call, "x", x, work)?;
    let epsilon = importer.scalar(call, "epsilon", work, f64::from(epsilon))?;
    let sum = importer.step(call, "sum", op2(BinaryKind::Add), &[x, epsilon])?;
    if work == dtype {
        return importer.result(call, op1(kind), &[sum]);
    }
    let id = importer.step(call, "wide", op1(kind), &[sum])?;
    importer.result(call, Op::Cast(Cast { to: dtype }), &[id])
}

fn binary(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let kind = match call.op.as_str() {
        "add" => BinaryKind::Add,
        "sub" => BinaryKind::Sub,
        "mul" => BinaryKind::Mul,
        "real_div" => BinaryKind::Div,
        "floor_div" => BinaryKind::FloorDiv,
        "mod" => BinaryKind::Mod,
        "pow" => BinaryKind::Pow,
        "minimum" => BinaryKind::Min,
        "maximum" => BinaryKind::Max,
        "logical_and" => BinaryKind::And,
        "logical_or" => BinaryKind::Or,
        _ => BinaryKind::Xor,
    };
    let operands = pair(importer, call)?;
    let dtype = importer.ty(operands[0]).dtype;
    if dtype.is_int() && kind == BinaryKind::Div {
        // The quotient of floats, cut off toward zero.
        return importer.result(call, op2(BinaryKind::TruncDiv), &operands);
    }
    importer.result(call, op2(kind), &operands)
}

fn pair(importer: &mut Importer<'_>, call: &mut Call) -> Result<[ValueId; 2]> {
    let x = importer.operand(call, "x")?;
    let y = importer.operand(call, "y")?;
    Ok([x, y])
}

/// `2ˣ`; of integers too.
fn exp2(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let dtype = importer.ty(x).dtype;
    let two = importer.scalar(call, "two", dtype, 2.0)?;
    importer.result(call, op2(BinaryKind::Pow), &[two, x])
}

fn compare(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let kind = match call.op.as_str() {
        "equal" => CompareKind::Equal,
        "not_equal" => CompareKind::NotEqual,
        "less" => CompareKind::Less,
        "less_equal" => CompareKind::LessEqual,
        "greater" => CompareKind::Greater,
        _ => CompareKind::GreaterEqual,
    };
    let operands = pair(importer, call)?;
    importer.result(call, Op::Compare(Compare { kind }), &operands)
}

fn gelu(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let mode = call.string("mode")?;
    match mode.as_deref().unwrap_or("EXACT") {
        "EXACT" => importer.result(call, op1(UnaryKind::GeluErf), &[x]),
        "TANH_APPROXIMATION" => importer.result(call, op1(UnaryKind::GeluTanh), &[x]),
        "SIGMOID_APPROXIMATION" => {
            let dtype = importer.ty(x).dtype;
            let factor = importer.scalar(call, "factor", dtype, 1.702)?;
            let scaled = importer.step(call, "scaled", op2(BinaryKind::Mul), &[x, factor])?;
            let gate = importer.step(call, "gate", op1(UnaryKind::Sigmoid), &[scaled])?;
            importer.result(call, op2(BinaryKind::Mul), &[x, gate])
        }
        other => {
            let known = "`EXACT`, `TANH_APPROXIMATION` or `SIGMOID_APPROXIMATION`";
            Err(call.wrong("mode", known, &format!("`{other}`")).into())
        }
    }
}

fn square(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    importer.result(call, op2(BinaryKind::Mul), &[x, x])
}

fn select(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let condition = importer.operand(call, "cond")?;
    let a = importer.operand(call, "a")?;
    let b = importer.operand(call, "b")?;
    importer.result(call, Op::Select(Select), &[condition, a, b])
}

fn cast(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let name = call.string("dtype")?.unwrap_or_default();
    let Some(to) = from_name(&name) else {
        return Err(call
            .wrong("dtype", "an element type", &format!("`{name}`"))
            .into());
    };
    importer.result(call, Op::Cast(Cast { to }), &[x])
}

fn clip(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let min = call.float("alpha")?.unwrap_or(f32::NEG_INFINITY);
    let max = call.float("beta")?.unwrap_or(f32::INFINITY);
    importer.result(call, Op::Clip(Clip { min, max }), &[x])
}

/// The operand under another name; nothing is left of it in the module.
fn identity(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    Ok(vec![call.required("x")?])
}
