//! Elementwise operations.

use super::emitter::{Emitter, Last, int, last, string};
use crate::error::Result;
use crate::ir::ops::{
    Binary, BinaryKind, Cast, Clip, Compare, CompareKind, Select, Unary, UnaryKind,
};
use crate::ir::{Node, Type};
use crate::onnx::error::OnnxError;
use crate::onnx::types::data_type;
use crate::tensor::DType;

pub(super) fn unary(e: &mut Emitter<'_>, node: &Node, o: Unary) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let x = e.operand(node.operands[0])?;
    Ok(match o.kind {
        UnaryKind::Abs => last("Abs", [x]),
        // `Neg` is defined for signed types only; unsigned ones wrap.
        UnaryKind::Neg if dtype.is_int() && !dtype.is_signed_int() => {
            let zero = e.scalar(dtype, 0.0)?;
            last("Sub", [zero, x])
        }
        UnaryKind::Neg => last("Neg", [x]),
        UnaryKind::Sign => last("Sign", [x]),
        UnaryKind::Floor => last("Floor", [x]),
        UnaryKind::Ceil => last("Ceil", [x]),
        UnaryKind::Round => last("Round", [x]),
        UnaryKind::Not => last("Not", [x]),
        UnaryKind::Relu => last("Relu", [x]),
        UnaryKind::Sqrt => last("Sqrt", [x]),
        UnaryKind::Rsqrt => {
            let root = e.emit("Sqrt", [x], vec![]);
            last("Reciprocal", [root])
        }
        UnaryKind::Reciprocal => last("Reciprocal", [x]),
        UnaryKind::Exp => last("Exp", [x]),
        UnaryKind::Log => last("Log", [x]),
        UnaryKind::Sin => last("Sin", [x]),
        UnaryKind::Cos => last("Cos", [x]),
        UnaryKind::Tan => last("Tan", [x]),
        UnaryKind::Asin => last("Asin", [x]),
        UnaryKind::Acos => last("Acos", [x]),
        UnaryKind::Atan => last("Atan", [x]),
        UnaryKind::Sinh => last("Sinh", [x]),
        UnaryKind::Cosh => last("Cosh", [x]),
        UnaryKind::Asinh => last("Asinh", [x]),
        UnaryKind::Acosh => last("Acosh", [x]),
        UnaryKind::Atanh => last("Atanh", [x]),
        UnaryKind::Softplus => last("Softplus", [x]),
        UnaryKind::Softsign => last("Softsign", [x]),
        UnaryKind::BitNot => last("BitwiseNot", [x]),
        UnaryKind::Tanh => last("Tanh", [x]),
        UnaryKind::Sigmoid => last("Sigmoid", [x]),
        UnaryKind::Erf => last("Erf", [x]),
        UnaryKind::Silu => {
            let gate = e.emit("Sigmoid", [x.clone()], vec![]);
            last("Mul", [x, gate])
        }
        UnaryKind::GeluErf if e.opset >= 20 => {
            last("Gelu", [x]).with(string("approximate", "none"))
        }
        UnaryKind::GeluTanh if e.opset >= 20 => {
            last("Gelu", [x]).with(string("approximate", "tanh"))
        }
        UnaryKind::GeluErf => gelu_erf(e, x, dtype)?,
        UnaryKind::GeluTanh => gelu_tanh(e, x, dtype)?,
    })
}

/// `x/2 · (1 + erf(x/√2))`
fn gelu_erf(e: &mut Emitter<'_>, x: String, dtype: DType) -> Result<Last> {
    let root = e.scalar(dtype, std::f64::consts::SQRT_2)?;
    let scaled = e.emit("Div", [x.clone(), root], vec![]);
    let erf = e.emit("Erf", [scaled], vec![]);
    half_of_x_times_one_plus(e, x, erf, dtype)
}

/// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`, with `x³` as products: `Pow` is slower and less exact.
fn gelu_tanh(e: &mut Emitter<'_>, x: String, dtype: DType) -> Result<Last> {
    let cubic = e.scalar(dtype, 0.044_715)?;
    let root = e.scalar(dtype, (2.0 / std::f64::consts::PI).sqrt())?;
    let square = e.emit("Mul", [x.clone(), x.clone()], vec![]);
    let cube = e.emit("Mul", [square, x.clone()], vec![]);
    let term = e.emit("Mul", [cube, cubic], vec![]);
    let sum = e.emit("Add", [x.clone(), term], vec![]);
    let scaled = e.emit("Mul", [sum, root], vec![]);
    let tanh = e.emit("Tanh", [scaled], vec![]);
    half_of_x_times_one_plus(e, x, tanh, dtype)
}

fn half_of_x_times_one_plus(
    e: &mut Emitter<'_>,
    x: String,
    y: String,
    dtype: DType,
) -> Result<Last> {
    let one = e.scalar(dtype, 1.0)?;
    let half = e.scalar(dtype, 0.5)?;
    let sum = e.emit("Add", [y, one], vec![]);
    let product = e.emit("Mul", [x, sum], vec![]);
    Ok(last("Mul", [product, half]))
}

pub(super) fn binary(e: &mut Emitter<'_>, node: &Node, o: Binary) -> Result<Last> {
    let a = e.operand(node.operands[0])?;
    let b = e.operand(node.operands[1])?;
    let float = e.ty(node.operands[0]).dtype.is_float();
    let op_type = match o.kind {
        BinaryKind::Add => "Add",
        BinaryKind::Sub => "Sub",
        BinaryKind::Mul => "Mul",
        BinaryKind::Div | BinaryKind::TruncDiv => "Div",
        BinaryKind::FloorDiv if float => {
            let quotient = e.emit("Div", [a, b], vec![]);
            return Ok(last("Floor", [quotient]));
        }
        // a − (a mod b) is a multiple of b: dividing it leaves nothing to round.
        BinaryKind::FloorDiv => {
            let rest = e.emit("Mod", [a.clone(), b.clone()], vec![]);
            let multiple = e.emit("Sub", [a, rest], vec![]);
            return Ok(last("Div", [multiple, b]));
        }
        // For floats `Mod` only has the rule of `fmod`.
        BinaryKind::Mod if float => {
            let quotient = e.emit("Div", [a.clone(), b.clone()], vec![]);
            let whole = e.emit("Floor", [quotient], vec![]);
            let multiple = e.emit("Mul", [whole, b], vec![]);
            return Ok(last("Sub", [a, multiple]));
        }
        BinaryKind::Mod => "Mod",
        BinaryKind::Rem => return Ok(last("Mod", [a, b]).with(int("fmod", 1))),
        BinaryKind::BitAnd => "BitwiseAnd",
        BinaryKind::BitOr => "BitwiseOr",
        BinaryKind::BitXor => "BitwiseXor",
        BinaryKind::ShiftLeft => {
            return Ok(last("BitShift", [a, b]).with(string("direction", "LEFT")));
        }
        BinaryKind::ShiftRight => {
            return Ok(last("BitShift", [a, b]).with(string("direction", "RIGHT")));
        }
        BinaryKind::Pow => "Pow",
        BinaryKind::Min => "Min",
        BinaryKind::Max => "Max",
        BinaryKind::And => "And",
        BinaryKind::Or => "Or",
        BinaryKind::Xor => "Xor",
    };
    Ok(last(op_type, [a, b]))
}

pub(super) fn compare(e: &mut Emitter<'_>, node: &Node, o: Compare) -> Result<Last> {
    let a = e.operand(node.operands[0])?;
    let b = e.operand(node.operands[1])?;
    Ok(match o.kind {
        CompareKind::Equal => last("Equal", [a, b]),
        CompareKind::NotEqual => {
            let equal = e.emit("Equal", [a, b], vec![]);
            last("Not", [equal])
        }
        CompareKind::Less => last("Less", [a, b]),
        CompareKind::LessEqual => last("LessOrEqual", [a, b]),
        CompareKind::Greater => last("Greater", [a, b]),
        CompareKind::GreaterEqual => last("GreaterOrEqual", [a, b]),
    })
}

pub(super) fn select(e: &mut Emitter<'_>, node: &Node, _: Select) -> Result<Last> {
    let condition = e.operand(node.operands[0])?;
    let a = e.operand(node.operands[1])?;
    let b = e.operand(node.operands[2])?;
    Ok(last("Where", [condition, a, b]))
}

pub(super) fn cast(e: &mut Emitter<'_>, node: &Node, o: Cast) -> Result<Last> {
    let x = e.operand(node.operands[0])?;
    let to = data_type(o.to, e.opset)?;
    Ok(last("Cast", [x]).with(int("to", i64::from(i32::from(to)))))
}

pub(super) fn clip(e: &mut Emitter<'_>, node: &Node, o: Clip) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let x = e.operand(node.operands[0])?;
    let min = e.scalar(dtype, f64::from(o.min))?;
    let max = e.scalar(dtype, f64::from(o.max))?;
    Ok(last("Clip", [x, min, max]))
}

/// Refuses operands of a type that the specification of `op_type` leaves out.
pub(super) fn only(op_type: &'static str, ty: &Type, allowed: &[DType]) -> Result<(), OnnxError> {
    if allowed.contains(&ty.dtype) {
        Ok(())
    } else {
        Err(OnnxError::OperandType {
            op_type,
            dtype: ty.dtype,
        })
    }
}
