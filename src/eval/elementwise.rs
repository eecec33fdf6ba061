//! One result element per operand element.

use super::layout::{PIECE, Walk, pieces, zip, zip_in_place};
use super::{EvalError, Target, floats_of, math};
use crate::error::Result;
use crate::ir::ops::{
    Activation, ActivationKind, Binary, BinaryKind, Cast, Classify, ClassifyKind, Clip, Compare,
    CompareKind, Select, Unary, UnaryKind,
};
use crate::tensor::{DType, Storage, Tensor, num};

/// Applies `f` to every element, in place when nobody else holds them.
fn map(x: Tensor, target: Target, f: impl Fn(&mut [f32]) + Sync + Send) -> Result<Tensor> {
    let mut values = floats_of(x)?;
    pieces(&mut values, PIECE, |_, piece| f(piece));
    target.float(values)
}

/// The loop of [`map`] for a function of one element.
fn each(f: impl Fn(f32) -> f32 + Sync + Send) -> impl Fn(&mut [f32]) + Sync + Send {
    move |values| values.iter_mut().for_each(|x| *x = f(*x))
}

pub(super) fn unary(op: Unary, x: Tensor, target: Target) -> Result<Tensor> {
    if let Storage::Int(v) = x.storage() {
        let unsigned = !x.dtype().is_signed_int();
        let f: fn(i64) -> i64 = match op.kind {
            UnaryKind::Abs if unsigned => |x| x,
            UnaryKind::Abs => i64::wrapping_abs,
            UnaryKind::Neg => i64::wrapping_neg,
            UnaryKind::Sign if unsigned => |x| i64::from(x != 0),
            UnaryKind::Sign => i64::signum,
            UnaryKind::BitNot => |x| !x,
            UnaryKind::Floor
            | UnaryKind::Ceil
            | UnaryKind::Round
            | UnaryKind::Not
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
            | UnaryKind::GeluTanh => return Err(target.mismatch(&[&x])),
        };
        let values = v.iter().map(|&x| f(x)).collect();
        return target.int(values);
    }
    match op.kind {
        UnaryKind::Not => {
            let values = x.bools()?.iter().map(|&b| !b).collect();
            target.bool(values)
        }
        UnaryKind::Abs => map(x, target, each(f32::abs)),
        UnaryKind::Neg => map(x, target, each(|x| -x)),
        // Keeps 0, -0 and NaN as they are.
        UnaryKind::Sign => map(
            x,
            target,
            each(|x| {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    x
                }
            }),
        ),
        UnaryKind::Floor => map(x, target, each(f32::floor)),
        UnaryKind::Ceil => map(x, target, each(f32::ceil)),
        UnaryKind::Round => map(x, target, each(f32::round_ties_even)),
        UnaryKind::Relu => map(x, target, each(|x| if x < 0.0 { 0.0 } else { x })),
        UnaryKind::Sqrt => map(x, target, each(f32::sqrt)),
        UnaryKind::Rsqrt => map(x, target, each(|x| 1.0 / x.sqrt())),
        UnaryKind::Reciprocal => map(x, target, each(|x| 1.0 / x)),
        UnaryKind::Exp => map(x, target, each(math::exp)),
        UnaryKind::Log => map(x, target, each(f32::ln)),
        UnaryKind::Sin => map(x, target, each(f32::sin)),
        UnaryKind::Cos => map(x, target, each(f32::cos)),
        UnaryKind::Tan => map(x, target, each(f32::tan)),
        UnaryKind::Asin => map(x, target, each(f32::asin)),
        UnaryKind::Acos => map(x, target, each(f32::acos)),
        UnaryKind::Atan => map(x, target, each(f32::atan)),
        UnaryKind::Sinh => map(x, target, each(f32::sinh)),
        UnaryKind::Cosh => map(x, target, each(f32::cosh)),
        UnaryKind::Asinh => map(x, target, each(f32::asinh)),
        UnaryKind::Acosh => map(x, target, each(f32::acosh)),
        UnaryKind::Atanh => map(x, target, each(f32::atanh)),
        UnaryKind::Softplus => map(x, target, each(|x| x.max(0.0) + (-x.abs()).exp().ln_1p())),
        UnaryKind::Softsign => map(x, target, each(|x| x / (1.0 + x.abs()))),
        UnaryKind::BitNot => Err(target.mismatch(&[&x])),
        UnaryKind::Tanh => map(x, target, each(math::tanh)),
        UnaryKind::Sigmoid => map(x, target, each(math::sigmoid)),
        UnaryKind::Erf => map(x, target, each(math::erf)),
        UnaryKind::Silu => map(x, target, each(|x| x * math::sigmoid(x))),
        UnaryKind::GeluErf => map(x, target, each(math::gelu_erf)),
        UnaryKind::GeluTanh => map(x, target, each(math::gelu_tanh)),
    }
}

/// The smaller of two floats; NaN if either is NaN.
pub(super) fn min_f32(a: f32, b: f32) -> f32 {
    if a.is_nan() || a < b { a } else { b }
}

/// The larger of two floats; NaN if either is NaN.
pub(super) fn max_f32(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

/// A number that orders like the element: `u64` is stored wrapped.
pub(super) fn order(dtype: DType) -> impl Fn(i64) -> i64 + Sync + Send + Copy {
    let flip = if dtype == DType::U64 { i64::MIN } else { 0 };
    move |x| x ^ flip
}

pub(super) fn binary(op: Binary, a: Tensor, b: Tensor, target: Target) -> Result<Tensor> {
    target.broadcasts(&[&a, &b])?;
    match a.storage() {
        Storage::Float(_) => match op.kind {
            BinaryKind::Add => floats(a, b, target, |x, y| x + y),
            BinaryKind::Sub => floats(a, b, target, |x, y| x - y),
            BinaryKind::Mul => floats(a, b, target, |x, y| x * y),
            BinaryKind::Div => floats(a, b, target, |x, y| x / y),
            BinaryKind::Pow => floats(a, b, target, f32::powf),
            BinaryKind::Min => floats(a, b, target, min_f32),
            BinaryKind::Max => floats(a, b, target, max_f32),
            BinaryKind::FloorDiv => floats(a, b, target, |x, y| (x / y).floor()),
            BinaryKind::Mod => floats(a, b, target, |x, y| {
                let rest = x % y;
                if rest != 0.0 && (rest < 0.0) != (y < 0.0) {
                    rest + y
                } else {
                    rest
                }
            }),
            BinaryKind::Rem => floats(a, b, target, |x, y| x % y),
            BinaryKind::And
            | BinaryKind::Or
            | BinaryKind::Xor
            | BinaryKind::TruncDiv
            | BinaryKind::BitAnd
            | BinaryKind::BitOr
            | BinaryKind::BitXor
            | BinaryKind::ShiftLeft
            | BinaryKind::ShiftRight => Err(target.mismatch(&[&a, &b])),
        },
        Storage::Int(x) => {
            let key = order(a.dtype());
            let divides = matches!(
                op.kind,
                BinaryKind::FloorDiv | BinaryKind::TruncDiv | BinaryKind::Mod | BinaryKind::Rem
            );
            if divides && b.ints()?.contains(&0) {
                return Err(EvalError::DivisionByZero { op: target.op() }.into());
            }
            // As `u64` keeps its bits in `i64`, its division is not that of `i64`.
            let wide = a.dtype() == DType::U64;
            let f: Box<dyn Fn(i64, i64) -> i64 + Sync + Send> = match op.kind {
                BinaryKind::FloorDiv | BinaryKind::TruncDiv if wide => {
                    Box::new(|x, y| (x.cast_unsigned() / y.cast_unsigned()).cast_signed())
                }
                BinaryKind::Mod | BinaryKind::Rem if wide => {
                    Box::new(|x, y| (x.cast_unsigned() % y.cast_unsigned()).cast_signed())
                }
                BinaryKind::FloorDiv => Box::new(|x, y| {
                    let quotient = x.wrapping_div(y);
                    let exact = x.wrapping_rem(y) == 0 || (x < 0) == (y < 0);
                    if exact {
                        quotient
                    } else {
                        quotient.wrapping_sub(1)
                    }
                }),
                BinaryKind::TruncDiv => Box::new(i64::wrapping_div),
                BinaryKind::Mod => Box::new(|x, y| {
                    let rest = x.wrapping_rem(y);
                    if rest != 0 && (rest < 0) != (y < 0) {
                        rest.wrapping_add(y)
                    } else {
                        rest
                    }
                }),
                BinaryKind::Rem => Box::new(i64::wrapping_rem),
                BinaryKind::Pow => Box::new(integer_power),
                BinaryKind::BitAnd => Box::new(|x, y| x & y),
                BinaryKind::BitOr => Box::new(|x, y| x | y),
                BinaryKind::BitXor => Box::new(|x, y| x ^ y),
                BinaryKind::ShiftLeft => Box::new(|x, y| {
                    let by = u32::try_from(y).unwrap_or(u32::MAX);
                    x.cast_unsigned().checked_shl(by).unwrap_or(0).cast_signed()
                }),
                BinaryKind::ShiftRight => Box::new(|x, y| {
                    let by = u32::try_from(y).unwrap_or(u32::MAX);
                    x.cast_unsigned().checked_shr(by).unwrap_or(0).cast_signed()
                }),
                BinaryKind::Add => Box::new(i64::wrapping_add),
                BinaryKind::Sub => Box::new(i64::wrapping_sub),
                BinaryKind::Mul => Box::new(i64::wrapping_mul),
                BinaryKind::Min => Box::new(move |x, y| if key(x) <= key(y) { x } else { y }),
                BinaryKind::Max => Box::new(move |x, y| if key(x) >= key(y) { x } else { y }),
                BinaryKind::Div | BinaryKind::And | BinaryKind::Or | BinaryKind::Xor => {
                    return Err(target.mismatch(&[&a, &b]));
                }
            };
            let values = zip((x, a.shape()), (b.ints()?, b.shape()), target.shape(), f);
            target.int(values)
        }
        Storage::Bool(x) => {
            let f: fn(bool, bool) -> bool = match op.kind {
                BinaryKind::And => |x, y| x && y,
                BinaryKind::Or => |x, y| x || y,
                BinaryKind::Xor => |x, y| x != y,
                BinaryKind::Add
                | BinaryKind::Sub
                | BinaryKind::Mul
                | BinaryKind::Div
                | BinaryKind::FloorDiv
                | BinaryKind::TruncDiv
                | BinaryKind::Mod
                | BinaryKind::Rem
                | BinaryKind::BitAnd
                | BinaryKind::BitOr
                | BinaryKind::BitXor
                | BinaryKind::ShiftLeft
                | BinaryKind::ShiftRight
                | BinaryKind::Pow
                | BinaryKind::Min
                | BinaryKind::Max => return Err(target.mismatch(&[&a, &b])),
            };
            let values = zip((x, a.shape()), (b.bools()?, b.shape()), target.shape(), f);
            target.bool(values)
        }
    }
}

/// xⁿ, wrapping; a negative exponent gives 1/x⁻ⁿ toward 0.
fn integer_power(x: i64, n: i64) -> i64 {
    if n >= 0 {
        let (mut base, mut left, mut out) = (x, n, 1i64);
        while left > 0 {
            if left & 1 == 1 {
                out = out.wrapping_mul(base);
            }
            base = base.wrapping_mul(base);
            left >>= 1;
        }
        return out;
    }
    match x {
        1 => 1,
        -1 => 1 - 2 * (n & 1),
        _ => 0,
    }
}

pub(super) fn classify(op: Classify, x: &Tensor, target: Target) -> Result<Tensor> {
    let f: fn(f32) -> bool = match op.kind {
        ClassifyKind::Nan => f32::is_nan,
        ClassifyKind::Infinite => f32::is_infinite,
        ClassifyKind::PositiveInfinite => |x| x == f32::INFINITY,
        ClassifyKind::NegativeInfinite => |x| x == f32::NEG_INFINITY,
    };
    let values = x.floats()?.iter().map(|&x| f(x)).collect();
    target.bool(values)
}

pub(super) fn activation(op: Activation, x: Tensor, target: Target) -> Result<Tensor> {
    match op.kind {
        ActivationKind::LeakyRelu { alpha } => {
            map(x, target, each(|x| if x < 0.0 { alpha * x } else { x }))
        }
        ActivationKind::Elu { alpha } => map(
            x,
            target,
            each(|x| if x < 0.0 { alpha * x.exp_m1() } else { x }),
        ),
        ActivationKind::HardSigmoid { alpha, beta } => {
            map(x, target, each(|x| (alpha * x + beta).clamp(0.0, 1.0)))
        }
    }
}

/// A float function of two operands, written over an operand that has the result's shape and no other holder.
fn floats(
    a: Tensor,
    b: Tensor,
    target: Target,
    f: impl Fn(f32, f32) -> f32 + Sync + Send,
) -> Result<Tensor> {
    let (a_shape, b_shape) = (a.shape().to_vec(), b.shape().to_vec());
    let (mut x, mut y) = (a.floats()?.clone(), b.floats()?.clone());
    drop((a, b));
    if a_shape == target.shape()
        && let Some(values) = std::sync::Arc::get_mut(&mut x)
    {
        zip_in_place(values, (&y, &b_shape), target.shape(), f);
        return target.storage(Storage::Float(x));
    }
    if b_shape == target.shape()
        && let Some(values) = std::sync::Arc::get_mut(&mut y)
    {
        zip_in_place(values, (&x, &a_shape), target.shape(), |y, x| f(x, y));
        return target.storage(Storage::Float(y));
    }
    let values = zip((&x, &a_shape), (&y, &b_shape), target.shape(), f);
    target.float(values)
}

pub(super) fn compare(op: Compare, a: &Tensor, b: &Tensor, target: Target) -> Result<Tensor> {
    target.broadcasts(&[a, b])?;
    let (sa, sb, shape) = (a.shape(), b.shape(), target.shape());
    let values = match a.storage() {
        Storage::Float(x) => {
            let f: fn(f32, f32) -> bool = match op.kind {
                CompareKind::Equal => |x, y| x == y,
                CompareKind::NotEqual => |x, y| x != y,
                CompareKind::Less => |x, y| x < y,
                CompareKind::LessEqual => |x, y| x <= y,
                CompareKind::Greater => |x, y| x > y,
                CompareKind::GreaterEqual => |x, y| x >= y,
            };
            zip((x, sa), (b.floats()?, sb), shape, f)
        }
        Storage::Int(x) => {
            let key = order(a.dtype());
            let f: fn(&i64, &i64) -> bool = match op.kind {
                CompareKind::Equal => i64::eq,
                CompareKind::NotEqual => i64::ne,
                CompareKind::Less => i64::lt,
                CompareKind::LessEqual => i64::le,
                CompareKind::Greater => i64::gt,
                CompareKind::GreaterEqual => i64::ge,
            };
            zip((x, sa), (b.ints()?, sb), shape, |x, y| f(&key(x), &key(y)))
        }
        Storage::Bool(x) => {
            let f: fn(bool, bool) -> bool = match op.kind {
                CompareKind::Equal => |x, y| x == y,
                CompareKind::NotEqual => |x, y| x != y,
                CompareKind::Less
                | CompareKind::LessEqual
                | CompareKind::Greater
                | CompareKind::GreaterEqual => return Err(target.mismatch(&[a, b])),
            };
            zip((x, sa), (b.bools()?, sb), shape, f)
        }
    };
    target.bool(values)
}

pub(super) fn select(
    _: Select,
    c: &Tensor,
    a: &Tensor,
    b: &Tensor,
    target: Target,
) -> Result<Tensor> {
    target.broadcasts(&[c, a, b])?;
    let condition = c.bools()?;
    let shapes = [c.shape(), a.shape(), b.shape()];
    match (a.storage(), b.storage()) {
        (Storage::Float(x), Storage::Float(y)) => {
            let values = choose(condition, x, y, shapes, target.shape());
            target.float(values)
        }
        (Storage::Int(x), Storage::Int(y)) => {
            let values = choose(condition, x, y, shapes, target.shape());
            target.int(values)
        }
        (Storage::Bool(x), Storage::Bool(y)) => {
            let values = choose(condition, x, y, shapes, target.shape());
            target.bool(values)
        }
        (Storage::Float(_) | Storage::Int(_) | Storage::Bool(_), _) => {
            Err(target.mismatch(&[c, a, b]))
        }
    }
}

fn choose<T: Copy + Send + Sync + Default>(
    condition: &[bool],
    a: &[T],
    b: &[T],
    shapes: [&[usize]; 3],
    shape: &[usize],
) -> Vec<T> {
    let mut out = vec![T::default(); shape.iter().product()];
    let walk = Walk::broadcast(shape, shapes);
    let [dc, da, db] = walk.steps();
    walk.fill(&mut out, |stretch, [c, i, j]| {
        for (k, o) in stretch.iter_mut().enumerate() {
            *o = if condition[c + k * dc] {
                a[i + k * da]
            } else {
                b[j + k * db]
            };
        }
    });
    out
}

/// A cast. Between floats the values stay: rounding to the declared type is the mode's.
pub(super) fn cast(op: Cast, x: Tensor, target: Target) -> Result<Tensor> {
    if op.to.is_float() && x.dtype().is_float() {
        return target.storage(x.into_storage());
    }
    if op.to.is_float() {
        // Integers beyond 2²⁴ round once, to f32; the mode rounds further.
        return match x.storage() {
            Storage::Int(v) if x.dtype() == DType::U64 => {
                let values = v
                    .iter()
                    .map(|&x| num::f32_of_u64(x.cast_unsigned()))
                    .collect();
                target.float(values)
            }
            Storage::Int(_) | Storage::Bool(_) | Storage::Float(_) => {
                target.storage(x.cast(DType::F32).into_storage())
            }
        };
    }
    target.storage(x.cast(op.to).into_storage())
}

pub(super) fn clip(op: Clip, x: Tensor, target: Target) -> Result<Tensor> {
    // Comparisons, so that NaN stays.
    map(
        x,
        target,
        each(move |x| {
            let x = if x < op.min { op.min } else { x };
            if x > op.max { op.max } else { x }
        }),
    )
}
