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
    /// tan x
    Tan,
    /// arcsin x
    Asin,
    /// arccos x
    Acos,
    /// arctan x
    Atan,
    /// sinh x
    Sinh,
    /// cosh x
    Cosh,
    /// arsinh x
    Asinh,
    /// arcosh x
    Acosh,
    /// artanh x
    Atanh,
    /// ln(1 + eˣ)
    Softplus,
    /// x / (1 + |x|)
    Softsign,
    /// Every bit turned over; integers only.
    BitNot,
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
            UnaryKind::BitNot => super::int(op, 0, x)?,
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
            | UnaryKind::Tan
            | UnaryKind::Asin
            | UnaryKind::Acos
            | UnaryKind::Atan
            | UnaryKind::Sinh
            | UnaryKind::Cosh
            | UnaryKind::Asinh
            | UnaryKind::Acosh
            | UnaryKind::Atanh
            | UnaryKind::Softplus
            | UnaryKind::Softsign
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
    /// ⌊a / b⌋; an integer division by 0 is an error.
    FloorDiv,
    /// a / b toward 0, integers only; a division by 0 is an error.
    TruncDiv,
    /// a − b · ⌊a / b⌋: the sign of the divisor; integers by 0 are an error.
    Mod,
    /// a − b · trunc(a / b): the sign of the dividend; integers by 0 are an error.
    Rem,
    /// aᵇ; integers wrap, and a negative exponent gives the quotient toward 0.
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
    /// Bits of both, integers only.
    BitAnd,
    /// Bits of either, integers only.
    BitOr,
    /// Bits of one but not both, integers only.
    BitXor,
    /// a · 2ᵇ within the width of the type, unsigned integers only.
    ShiftLeft,
    /// ⌊a / 2ᵇ⌋, unsigned integers only.
    ShiftRight,
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
            BinaryKind::Div => float(op, 0, operands[0])?,
            BinaryKind::TruncDiv
            | BinaryKind::BitAnd
            | BinaryKind::BitOr
            | BinaryKind::BitXor
            | BinaryKind::ShiftLeft
            | BinaryKind::ShiftRight => super::int(op, 0, operands[0])?,
            BinaryKind::FloorDiv
            | BinaryKind::Mod
            | BinaryKind::Rem
            | BinaryKind::Pow
            | BinaryKind::Add
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

/// Which floats are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClassifyKind {
    /// Not a number.
    Nan,
    /// Infinite, of either sign.
    Infinite,
    /// +∞
    PositiveInfinite,
    /// −∞
    NegativeInfinite,
}

/// Whether each float is of a kind, as `bool`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classify {
    /// Which.
    pub kind: ClassifyKind,
}

impl Classify {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        float(op, 0, operands[0])?;
        Ok(Type::new(DType::Bool, operands[0].shape.clone()))
    }
}

/// Activation functions with parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ActivationKind {
    /// x, or α·x below 0.
    LeakyRelu {
        /// α
        alpha: f32,
    },
    /// x, or α·(eˣ − 1) below 0.
    Elu {
        /// α
        alpha: f32,
    },
    /// min(max(α·x + β, 0), 1)
    HardSigmoid {
        /// α
        alpha: f32,
        /// β
        beta: f32,
    },
}

/// Activation of floats with parameters. Result: same type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Activation {
    /// Which function.
    pub kind: ActivationKind,
}

impl Activation {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        float(op, 0, operands[0])?;
        Ok(operands[0].clone())
    }
}
