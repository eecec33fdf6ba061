//! Elementwise operations.

use super::{float, operand_type, same_dtype};
use crate::ir::types::{IrError, Type, broadcast};
use crate::tensor::DType;

/// Functions of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnaryKind {
    /// |x|
    Abs,
    /// −x
    Neg,
    /// −1, 0 or 1
    Sign,
    /// ⌊x⌋
    Floor,
    /// ⌈x⌉
    Ceil,
    /// Nearest integer, ties to even.
    Round,
    /// Logical not.
    Not,
    /// max(x, 0); NaN stays.
    Relu,
    /// √x
    Sqrt,
    /// 1/√x
    Rsqrt,
    /// 1/x
    Reciprocal,
    /// eˣ
    Exp,
    /// Natural logarithm.
    Log,
    /// sin x
    Sin,
    /// cos x
    Cos,
    /// tanh x
    Tanh,
    /// 1/(1 + e⁻ˣ)
    Sigmoid,
    /// Gauss error function.
    Erf,
    /// x · sigmoid(x)
    Silu,
    /// x/2 · (1 + erf(x/√2))
    GeluErf,
    /// x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))
    GeluTanh,
}

/// Elementwise function of one operand. Result: same type. `Abs`, `Neg`, `Sign` also take integers, `Not` takes `bool`, the rest floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unary {
    /// Which function.
    pub kind: UnaryKind,
}

impl Unary {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let x = operands[0];
        match self.kind {
            UnaryKind::Not if x.dtype != DType::Bool => return Err(operand_type(op, 0, "bool", x)),
            UnaryKind::Not => {}
            UnaryKind::Abs | UnaryKind::Neg | UnaryKind::Sign => {
                if x.dtype == DType::Bool {
                    return Err(operand_type(op, 0, "a number", x));
                }
            }
            UnaryKind::Floor
            | UnaryKind::Ceil
            | UnaryKind::Round
            | UnaryKind::Relu
            | UnaryKind::Sqrt
            | UnaryKind::Rsqrt
            | UnaryKind::Reciprocal
            | UnaryKind::Exp
            | UnaryKind::Log
            | UnaryKind::Sin
            | UnaryKind::Cos
            | UnaryKind::Tanh
            | UnaryKind::Sigmoid
            | UnaryKind::Erf
            | UnaryKind::Silu
            | UnaryKind::GeluErf
            | UnaryKind::GeluTanh => float(op, 0, x)?,
        }
        Ok(x.clone())
    }
}

/// Functions of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BinaryKind {
    /// a + b; integers wrap.
    Add,
    /// a − b; integers wrap.
    Sub,
    /// a · b; integers wrap.
    Mul,
    /// a / b, floats only.
    Div,
    /// aᵇ, floats only.
    Pow,
    /// The smaller; NaN if either is NaN.
    Min,
    /// The larger; NaN if either is NaN.
    Max,
    /// Logical and.
    And,
    /// Logical or.
    Or,
    /// Logical exclusive or.
    Xor,
}

/// Elementwise function of two operands of one element type, broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binary {
    /// Which function.
    pub kind: BinaryKind,
}

impl Binary {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        same_dtype(op, operands)?;
        let dtype = operands[0].dtype;
        match self.kind {
            BinaryKind::And | BinaryKind::Or | BinaryKind::Xor => {
                if dtype != DType::Bool {
                    return Err(operand_type(op, 0, "bool", operands[0]));
                }
            }
            BinaryKind::Div | BinaryKind::Pow => float(op, 0, operands[0])?,
            BinaryKind::Add
            | BinaryKind::Sub
            | BinaryKind::Mul
            | BinaryKind::Min
            | BinaryKind::Max => {
                if dtype == DType::Bool {
                    return Err(operand_type(op, 0, "a number", operands[0]));
                }
            }
        }
        Ok(Type::new(
            dtype,
            broadcast(op, &operands[0].shape, &operands[1].shape)?,
        ))
    }
}

/// Comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CompareKind {
    /// a = b
    Equal,
    /// a ≠ b
    NotEqual,
    /// a < b
    Less,
    /// a ≤ b
    LessEqual,
    /// a > b
    Greater,
    /// a ≥ b
    GreaterEqual,
}

/// Elementwise comparison of two operands of one element type, broadcast, to `bool`. A comparison with NaN is false, but for `NotEqual`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which comparison.
    pub kind: CompareKind,
}

impl Compare {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        same_dtype(op, operands)?;
        let ordered = !matches!(self.kind, CompareKind::Equal | CompareKind::NotEqual);
        if ordered && operands[0].dtype == DType::Bool {
            return Err(operand_type(op, 0, "a number", operands[0]));
        }
        Ok(Type::new(
            DType::Bool,
            broadcast(op, &operands[0].shape, &operands[1].shape)?,
        ))
    }
}

/// `condition ? a : b`, all three broadcast; operands `condition` (`bool`), `a`, `b` (one element type).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Select;

impl Select {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        if operands[0].dtype != DType::Bool {
            return Err(operand_type(op, 0, "bool", operands[0]));
        }
        same_dtype(op, &operands[1..])?;
        let values = broadcast(op, &operands[1].shape, &operands[2].shape)?;
        Ok(Type::new(
            operands[1].dtype,
            broadcast(op, &operands[0].shape, &values)?,
        ))
    }
}

/// Change of element type; rounding as in [`crate::tensor::Tensor::cast`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// The element type of the result.
    pub to: DType,
}

impl Cast {
    pub(crate) fn infer(&self, _: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        Ok(Type::new(self.to, operands[0].shape.clone()))
    }
}

/// Clamp of floats to `min..=max`; NaN stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// Smallest result.
    pub min: f32,
    /// Largest result.
    pub max: f32,
}

impl Clip {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        float(op, 0, operands[0])?;
        Ok(operands[0].clone())
    }
}
