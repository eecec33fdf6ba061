//! Elementwise operations.

use super::emitter::{Emitter, Last, float, int, last, string};
use crate::error::Result;
use crate::ir::Node;
use crate::ir::ops::{
    Activation, ActivationKind, Binary, BinaryKind, Cast, Classify, ClassifyKind, Clip, Compare,
    CompareKind, Select, Unary, UnaryKind,
};
use crate::onnx::error::OnnxError;
use crate::onnx::types::data_type;
use crate::tensor::{DType, Tensor};

pub(super) fn unary(e: &mut Emitter<'_>, node: &Node, o: Unary) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let op_type = match o.kind {
        UnaryKind::Abs => "Abs",
        // `Neg` is defined for signed types only; unsigned ones wrap.
        UnaryKind::Neg if dtype.is_int() && !dtype.is_signed_int() => {
            let kernel = e.kernel("Sub", dtype)?;
            let x = e.operand_as(node.operands[0], kernel)?;
            let zero = e.scalar(kernel, 0.0)?;
            return e.converted(last("Sub", [zero, x]), kernel, dtype);
        }
        UnaryKind::Neg => "Neg",
        UnaryKind::Sign => "Sign",
        UnaryKind::Floor => "Floor",
        UnaryKind::Ceil => "Ceil",
        UnaryKind::Round => "Round",
        UnaryKind::Not => {
            let x = e.operand(node.operands[0])?;
            return Ok(last("Not", [x]));
        }
        UnaryKind::Relu => "Relu",
        UnaryKind::Sqrt => "Sqrt",
        UnaryKind::Reciprocal => "Reciprocal",
        UnaryKind::Exp => "Exp",
        UnaryKind::Log => "Log",
        UnaryKind::Sin => "Sin",
        UnaryKind::Cos => "Cos",
        UnaryKind::Tan => "Tan",
        UnaryKind::Asin => "Asin",
        UnaryKind::Acos => "Acos",
        UnaryKind::Atan => "Atan",
        UnaryKind::Sinh => "Sinh",
        UnaryKind::Cosh => "Cosh",
        UnaryKind::Asinh => "Asinh",
        UnaryKind::Acosh => "Acosh",
        UnaryKind::Atanh => "Atanh",
        UnaryKind::Softplus => "Softplus",
        UnaryKind::Softsign => "Softsign",
        UnaryKind::BitNot if e.opset < 18 => return bit_not(e, node, dtype),
        UnaryKind::BitNot => "BitwiseNot",
        UnaryKind::Tanh => "Tanh",
        UnaryKind::Sigmoid => "Sigmoid",
        UnaryKind::Erf => "Erf",
        UnaryKind::Rsqrt => return composite(e, node, rsqrt),
        UnaryKind::Silu => return composite(e, node, silu),
        UnaryKind::GeluErf => return composite(e, node, gelu_erf),
        UnaryKind::GeluTanh => return composite(e, node, gelu_tanh),
    };
    e.simple(op_type, node)
}

/// Before `BitwiseNot`: what is left of the type's largest number, or of −1.
fn bit_not(e: &mut Emitter<'_>, node: &Node, dtype: DType) -> Result<Last> {
    let kernel = e.kernel("Sub", dtype)?;
    let x = e.operand_as(node.operands[0], kernel)?;
    // All bits set, which casting back cuts to the type's own.
    let ones = e.small(
        &format!("const/{kernel}/ones"),
        &Tensor::int(kernel, vec![], vec![-1])?,
    )?;
    e.converted(last("Sub", [ones, x]), kernel, dtype)
}

/// A function made of operators whose kernels are those of `Erf`.
fn composite(
    e: &mut Emitter<'_>,
    node: &Node,
    build: impl FnOnce(&mut Emitter<'_>, String, DType) -> Result<Last>,
) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let kernel = e.kernel("Erf", dtype)?;
    let x = e.operand_as(node.operands[0], kernel)?;
    let result = build(e, x, kernel)?;
    e.converted(result, kernel, dtype)
}

fn rsqrt(e: &mut Emitter<'_>, x: String, _: DType) -> Result<Last> {
    let root = e.emit("Sqrt", [x], vec![]);
    Ok(last("Reciprocal", [root]))
}

fn silu(e: &mut Emitter<'_>, x: String, _: DType) -> Result<Last> {
    let gate = e.emit("Sigmoid", [x.clone()], vec![]);
    Ok(last("Mul", [x, gate]))
}

/// `x/2 · (1 + erf(x/√2))`
fn gelu_erf(e: &mut Emitter<'_>, x: String, dtype: DType) -> Result<Last> {
    if e.opset >= 20 {
        return Ok(last("Gelu", [x]).with(string("approximate", "none")));
    }
    let root = e.scalar(dtype, std::f64::consts::SQRT_2)?;
    let scaled = e.emit("Div", [x.clone(), root], vec![]);
    let erf = e.emit("Erf", [scaled], vec![]);
    half_of_x_times_one_plus(e, x, erf, dtype)
}

/// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`, with `x³` as products: `Pow` is slower and less exact.
fn gelu_tanh(e: &mut Emitter<'_>, x: String, dtype: DType) -> Result<Last> {
    if e.opset >= 20 {
        return Ok(last("Gelu", [x]).with(string("approximate", "tanh")));
    }
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
    let dtype = e.ty(node.operands[0]).dtype;
    let op_type = match o.kind {
        BinaryKind::Add => "Add",
        BinaryKind::Sub => "Sub",
        BinaryKind::Mul => "Mul",
        BinaryKind::Div | BinaryKind::TruncDiv => "Div",
        BinaryKind::FloorDiv => return division(e, node, floor_div),
        BinaryKind::Mod => return division(e, node, modulo),
        BinaryKind::Rem => {
            return division(e, node, |_, a, b, _| {
                last("Mod", [a, b]).with(int("fmod", 1))
            });
        }
        BinaryKind::BitAnd | BinaryKind::BitOr | BinaryKind::BitXor if e.opset < 18 => {
            return Err(OnnxError::NeedsOpset {
                op: node.op.name(),
                opset: 18,
            }
            .into());
        }
        BinaryKind::BitAnd => "BitwiseAnd",
        BinaryKind::BitOr => "BitwiseOr",
        BinaryKind::BitXor => "BitwiseXor",
        BinaryKind::ShiftLeft | BinaryKind::ShiftRight => {
            let kernel = e.kernel("BitShift", dtype)?;
            let a = e.operand_as(node.operands[0], kernel)?;
            let b = e.operand_as(node.operands[1], kernel)?;
            let left = o.kind == BinaryKind::ShiftLeft;
            let direction = string("direction", if left { "LEFT" } else { "RIGHT" });
            let shifted = last("BitShift", [a, b]).with(direction);
            return e.converted(shifted, kernel, dtype);
        }
        BinaryKind::Pow => "Pow",
        BinaryKind::Min => "Min",
        BinaryKind::Max => "Max",
        // Truth values: the specification has no other type for these.
        BinaryKind::And => return truth(e, node, "And"),
        BinaryKind::Or => return truth(e, node, "Or"),
        BinaryKind::Xor => return truth(e, node, "Xor"),
    };
    e.simple(op_type, node)
}

fn truth(e: &mut Emitter<'_>, node: &Node, op_type: &'static str) -> Result<Last> {
    let a = e.operand(node.operands[0])?;
    let b = e.operand(node.operands[1])?;
    Ok(last(op_type, [a, b]))
}

/// A function of quotient and remainder; `build` is told whether the operands are floats.
fn division(
    e: &mut Emitter<'_>,
    node: &Node,
    build: impl FnOnce(&mut Emitter<'_>, String, String, bool) -> Last,
) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let kernel = e.kernel("Sub", dtype)?;
    let a = e.operand_as(node.operands[0], kernel)?;
    let b = e.operand_as(node.operands[1], kernel)?;
    let result = build(e, a, b, kernel.is_float());
    e.converted(result, kernel, dtype)
}

fn floor_div(e: &mut Emitter<'_>, a: String, b: String, float: bool) -> Last {
    if float {
        let quotient = e.emit("Div", [a, b], vec![]);
        return last("Floor", [quotient]);
    }
    // a − (a mod b) is a multiple of b: dividing it leaves nothing to round.
    let rest = e.emit("Mod", [a.clone(), b.clone()], vec![]);
    let multiple = e.emit("Sub", [a, rest], vec![]);
    last("Div", [multiple, b])
}

fn modulo(e: &mut Emitter<'_>, a: String, b: String, float: bool) -> Last {
    if !float {
        return last("Mod", [a, b]);
    }
    // For floats `Mod` only has the rule of `fmod`.
    let quotient = e.emit("Div", [a.clone(), b.clone()], vec![]);
    let whole = e.emit("Floor", [quotient], vec![]);
    let multiple = e.emit("Mul", [whole, b], vec![]);
    last("Sub", [a, multiple])
}

pub(super) fn compare(e: &mut Emitter<'_>, node: &Node, o: Compare) -> Result<Last> {
    let op_type = match o.kind {
        CompareKind::Equal | CompareKind::NotEqual => "Equal",
        CompareKind::Less => "Less",
        CompareKind::LessEqual => "LessOrEqual",
        CompareKind::Greater => "Greater",
        CompareKind::GreaterEqual => "GreaterOrEqual",
    };
    let kernel = e.kernel(op_type, e.ty(node.operands[0]).dtype)?;
    let a = e.operand_as(node.operands[0], kernel)?;
    let b = e.operand_as(node.operands[1], kernel)?;
    if o.kind == CompareKind::NotEqual {
        let equal = e.emit("Equal", [a, b], vec![]);
        return Ok(last("Not", [equal]));
    }
    Ok(last(op_type, [a, b]))
}

pub(super) fn select(e: &mut Emitter<'_>, node: &Node, _: Select) -> Result<Last> {
    let dtype = e.ty(node.operands[1]).dtype;
    let kernel = e.kernel("Where", dtype)?;
    let condition = e.operand(node.operands[0])?;
    let a = e.operand_as(node.operands[1], kernel)?;
    let b = e.operand_as(node.operands[2], kernel)?;
    e.converted(last("Where", [condition, a, b]), kernel, dtype)
}

pub(super) fn classify(e: &mut Emitter<'_>, node: &Node, o: Classify) -> Result<Last> {
    let op_type = if o.kind == ClassifyKind::Nan {
        "IsNaN"
    } else {
        "IsInf"
    };
    let kernel = e.kernel(op_type, e.ty(node.operands[0]).dtype)?;
    let x = e.operand_as(node.operands[0], kernel)?;
    let classify = last(op_type, [x]);
    Ok(match o.kind {
        ClassifyKind::Nan | ClassifyKind::Infinite => classify,
        ClassifyKind::PositiveInfinite => classify.with(int("detect_negative", 0)),
        ClassifyKind::NegativeInfinite => classify.with(int("detect_positive", 0)),
    })
}

pub(super) fn activation(e: &mut Emitter<'_>, node: &Node, o: Activation) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let kernel = e.kernel("Elu", dtype)?;
    let x = e.operand_as(node.operands[0], kernel)?;
    let result = match o.kind {
        ActivationKind::LeakyRelu { alpha } => {
            last("LeakyRelu", [x]).with(float("alpha", f64::from(alpha)))
        }
        ActivationKind::Elu { alpha } => last("Elu", [x]).with(float("alpha", f64::from(alpha))),
        ActivationKind::HardSigmoid { alpha, beta } => last("HardSigmoid", [x])
            .with(float("alpha", f64::from(alpha)))
            .with(float("beta", f64::from(beta))),
    };
    e.converted(result, kernel, dtype)
}

pub(super) fn cast(e: &mut Emitter<'_>, node: &Node, o: Cast) -> Result<Last> {
    if o.to == DType::BF16 {
        return to_bf16(e, node);
    }
    let x = e.operand(node.operands[0])?;
    let to = data_type(o.to, e.opset)?;
    Ok(last("Cast", [x]).with(int("to", i64::from(i32::from(to)))))
}

/// Single precision with the significand of `bf16`, which few engines know: `c − (c − x)` with `c = 65537·x` leaves the upper 8 bits of it, rounded. What
/// overflows on the way stays as it is.
fn to_bf16(e: &mut Emitter<'_>, node: &Node) -> Result<Last> {
    let x = e.operand_as(node.operands[0], DType::F32)?;
    let factor = e.scalar(DType::F32, 65_537.0)?;
    let c = e.emit("Mul", [x.clone(), factor], vec![]);
    let rest = e.emit("Sub", [c.clone(), x.clone()], vec![]);
    let rounded = e.emit("Sub", [c, rest], vec![]);
    let magnitude = e.emit("Abs", [x.clone()], vec![]);
    let large = e.scalar(DType::F32, 1e33)?;
    let small = e.emit("Less", [magnitude, large], vec![]);
    Ok(last("Where", [small, rounded, x]))
}

pub(super) fn clip(e: &mut Emitter<'_>, node: &Node, o: Clip) -> Result<Last> {
    let dtype = e.ty(node.operands[0]).dtype;
    let x = e.operand(node.operands[0])?;
    let min = e.scalar(dtype, f64::from(o.min))?;
    let max = e.scalar(dtype, f64::from(o.max))?;
    Ok(last("Clip", [x, min, max]))
}
