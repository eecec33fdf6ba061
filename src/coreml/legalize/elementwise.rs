//! Elementwise operations that programs do not have, and integers of a width that they do not compute with.

use super::dtype::{is_int, is_small_int, legal};
use super::lower::{Lower, dims};
use crate::error::Result;
use crate::ir::ops::{BinaryKind, ClassifyKind, CompareKind, ReduceKind, UnaryKind};
use crate::ir::{Op, ValueId, broadcast};
use crate::tensor::{DType, Tensor, num};

/// What a power of two is as a float; exponents of integer types only.
fn two_to(bits: u32) -> f64 {
    f64::powi(2.0, i32::try_from(bits).unwrap_or(0))
}

/// An `int32` as an integer of a narrower type is: wrapped.
pub(super) fn wrap(l: &mut Lower<'_>, x: ValueId, to: DType) -> Result<ValueId> {
    if !is_small_int(to) {
        return Ok(x);
    }
    let whole = two_to(to.bits());
    if !to.is_signed_int() {
        return l.with(BinaryKind::Mod, x, whole);
    }
    let up = l.with(BinaryKind::Add, x, whole / 2.0)?;
    let within = l.with(BinaryKind::Mod, up, whole)?;
    l.with(BinaryKind::Sub, within, whole / 2.0)
}

/// The result of integer arithmetic in the type that stands for its own.
fn narrowed(l: &mut Lower<'_>, x: ValueId, to: DType) -> Result<ValueId> {
    let wrapped = wrap(l, x, to)?;
    let to = legal(to, l.opset);
    l.cast(wrapped, to)
}

/// An operation on narrow integers that is computed in `int32`.
pub(super) fn widened(
    l: &mut Lower<'_>,
    op: &Op,
    operands: &[ValueId],
    was: DType,
) -> Result<ValueId> {
    let wide = operands
        .iter()
        .map(|&v| l.cast(v, DType::I32))
        .collect::<Result<Vec<_>>>()?;
    let result = l.push(op.clone(), &wide)?;
    narrowed(l, result, was)
}

pub(super) fn unary(l: &mut Lower<'_>, kind: UnaryKind, x: ValueId, was: DType) -> Result<ValueId> {
    if is_int(was) {
        let x = l.cast(x, DType::I32)?;
        let result = if kind == UnaryKind::BitNot {
            bit_not(l, x, was)?
        } else {
            l.unary(kind, x)?
        };
        return narrowed(l, result, was);
    }
    if kind == UnaryKind::Asinh {
        asinh(l, x)
    } else if kind == UnaryKind::Acosh {
        acosh(l, x)
    } else {
        l.unary(kind, x)
    }
}

fn bit_not(l: &mut Lower<'_>, x: ValueId, was: DType) -> Result<ValueId> {
    if !was.is_signed_int() && was.bits() > 16 {
        return Err(l.refuse("bit_not", "the result is beyond int32"));
    }
    let all = if was.is_signed_int() {
        -1.0
    } else {
        two_to(was.bits()) - 1.0
    };
    let all = l.scalar(DType::I32, all)?;
    l.binary(BinaryKind::Sub, all, x)
}

/// Below 1 `artanh(x/√(1 + x²))`, which keeps small numbers exact; above `ln x + ln(1 + √(1 + 1/x²))`, in which nothing overflows.
fn asinh(l: &mut Lower<'_>, x: ValueId) -> Result<ValueId> {
    let magnitude = l.unary(UnaryKind::Abs, x)?;
    let one = l.like(x, 1.0)?;
    let small = l.binary(BinaryKind::Min, magnitude, one)?;
    let square = l.binary(BinaryKind::Mul, small, small)?;
    let sum = l.with(BinaryKind::Add, square, 1.0)?;
    let root = l.unary(UnaryKind::Sqrt, sum)?;
    let ratio = l.binary(BinaryKind::Div, small, root)?;
    let near = l.unary(UnaryKind::Atanh, ratio)?;
    let far = logarithm(l, magnitude, BinaryKind::Add)?;
    let is_small = l.compare(CompareKind::Less, magnitude, one)?;
    let value = l.select(is_small, near, far)?;
    let sign = l.unary(UnaryKind::Sign, x)?;
    l.binary(BinaryKind::Mul, sign, value)
}

/// Below 2 `artanh(√((x − 1)(x + 1))/x)`, above as [`asinh`].
fn acosh(l: &mut Lower<'_>, x: ValueId) -> Result<ValueId> {
    let down = l.with(BinaryKind::Sub, x, 1.0)?;
    let up = l.with(BinaryKind::Add, x, 1.0)?;
    let product = l.binary(BinaryKind::Mul, down, up)?;
    let root = l.unary(UnaryKind::Sqrt, product)?;
    let ratio = l.binary(BinaryKind::Div, root, x)?;
    let near = l.unary(UnaryKind::Atanh, ratio)?;
    let far = logarithm(l, x, BinaryKind::Sub)?;
    let is_small = l.compare_with(CompareKind::Less, x, 2.0)?;
    l.select(is_small, near, far)
}

/// `ln x + ln(1 + √(1 ± 1/x²))`
fn logarithm(l: &mut Lower<'_>, x: ValueId, sign: BinaryKind) -> Result<ValueId> {
    let inverse = l.unary(UnaryKind::Reciprocal, x)?;
    let square = l.binary(BinaryKind::Mul, inverse, inverse)?;
    let one = l.like(x, 1.0)?;
    let inside = l.binary(sign, one, square)?;
    let root = l.unary(UnaryKind::Sqrt, inside)?;
    let sum = l.with(BinaryKind::Add, root, 1.0)?;
    let second = l.unary(UnaryKind::Log, sum)?;
    let first = l.unary(UnaryKind::Log, x)?;
    l.binary(BinaryKind::Add, first, second)
}

pub(super) fn binary(
    l: &mut Lower<'_>,
    kind: BinaryKind,
    a: ValueId,
    b: ValueId,
    was: DType,
) -> Result<ValueId> {
    if was == DType::Bool {
        return l.binary(kind, a, b);
    }
    let (a, b) = if is_int(was) {
        (l.cast(a, DType::I32)?, l.cast(b, DType::I32)?)
    } else {
        (a, b)
    };
    let result = match kind {
        BinaryKind::TruncDiv => trunc_div(l, a, b)?,
        BinaryKind::Rem => rem(l, a, b)?,
        BinaryKind::BitAnd | BinaryKind::BitOr | BinaryKind::BitXor => bits(l, kind, a, b, was)?,
        BinaryKind::ShiftLeft | BinaryKind::ShiftRight => shift(l, kind, a, b, was)?,
        BinaryKind::Add
        | BinaryKind::Sub
        | BinaryKind::Mul
        | BinaryKind::Div
        | BinaryKind::FloorDiv
        | BinaryKind::Mod
        | BinaryKind::Pow
        | BinaryKind::Min
        | BinaryKind::Max
        | BinaryKind::And
        | BinaryKind::Or
        | BinaryKind::Xor => l.binary(kind, a, b)?,
    };
    if is_int(was) {
        narrowed(l, result, was)
    } else {
        Ok(result)
    }
}

fn negated(l: &mut Lower<'_>, x: ValueId) -> Result<ValueId> {
    l.unary(UnaryKind::Neg, x)
}

/// The quotient of the magnitudes, with the sign of the quotient.
fn trunc_div(l: &mut Lower<'_>, a: ValueId, b: ValueId) -> Result<ValueId> {
    let (x, y) = (l.unary(UnaryKind::Abs, a)?, l.unary(UnaryKind::Abs, b)?);
    let quotient = l.binary(BinaryKind::FloorDiv, x, y)?;
    let a_below = l.compare_with(CompareKind::Less, a, 0.0)?;
    let b_below = l.compare_with(CompareKind::Less, b, 0.0)?;
    let differ = l.binary(BinaryKind::Xor, a_below, b_below)?;
    let minus = negated(l, quotient)?;
    l.select(differ, minus, quotient)
}

/// The remainder of the magnitudes, with the sign of the dividend.
fn rem(l: &mut Lower<'_>, a: ValueId, b: ValueId) -> Result<ValueId> {
    let (x, y) = (l.unary(UnaryKind::Abs, a)?, l.unary(UnaryKind::Abs, b)?);
    let rest = l.binary(BinaryKind::Mod, x, y)?;
    let below = l.compare_with(CompareKind::Less, a, 0.0)?;
    let minus = negated(l, rest)?;
    l.select(below, minus, rest)
}

/// Every bit is the remainder of a quotient by a power of two; all of them lie along one more axis. The sign is a bit of its own.
fn bits(
    l: &mut Lower<'_>,
    kind: BinaryKind,
    a: ValueId,
    b: ValueId,
    was: DType,
) -> Result<ValueId> {
    let (x, y) = (l.shape(a), l.shape(b));
    let shape = broadcast("bits", &x, &y)?;
    let rank = shape.len();
    if rank > 4 {
        return Err(l.refuse(
            "bit operation",
            "its operands have 5 axes, and bits need one",
        ));
    }
    let low = if is_small_int(was) { was.bits() } else { 31 };
    let powers: Vec<i64> = (0..low).map(|i| 1i64 << i).collect();
    let powers = l.ints(powers)?;
    let mut columns = Vec::with_capacity(2);
    for (value, own) in [(a, x.len()), (b, y.len())] {
        let column = l.unsqueeze(value, vec![own])?;
        let column = l.push(
            Op::Binary(crate::ir::ops::Binary {
                kind: BinaryKind::FloorDiv,
            }),
            &[column, powers],
        )?;
        columns.push(l.with(BinaryKind::Mod, column, 2.0)?);
    }
    let joined = combine(l, kind, columns[0], columns[1])?;
    let weighted = l.binary(BinaryKind::Mul, joined, powers)?;
    let sum = l.reduce(ReduceKind::Sum, weighted, &[rank], false)?;
    if is_small_int(was) {
        return Ok(sum);
    }
    let sign = |l: &mut Lower<'_>, v| {
        let below = l.compare_with(CompareKind::Less, v, 0.0)?;
        l.cast(below, DType::I32)
    };
    let (p, q) = (sign(l, a)?, sign(l, b)?);
    let joined = combine(l, kind, p, q)?;
    let weighted = l.with(BinaryKind::Mul, joined, -two_to(31))?;
    l.binary(BinaryKind::Add, sum, weighted)
}

/// Bits 0 and 1 as integers, joined.
fn combine(l: &mut Lower<'_>, kind: BinaryKind, a: ValueId, b: ValueId) -> Result<ValueId> {
    if kind == BinaryKind::BitAnd {
        l.binary(BinaryKind::Min, a, b)
    } else if kind == BinaryKind::BitOr {
        l.binary(BinaryKind::Max, a, b)
    } else {
        let differ = l.compare(CompareKind::NotEqual, a, b)?;
        l.cast(differ, DType::I32)
    }
}

/// A product or a quotient with a power of two from a table; beyond the width nothing is left.
fn shift(
    l: &mut Lower<'_>,
    kind: BinaryKind,
    a: ValueId,
    b: ValueId,
    was: DType,
) -> Result<ValueId> {
    let width = was.bits();
    let last = width.min(31) - 1;
    let powers: Vec<i64> = (0..=last).map(|i| 1i64 << i).collect();
    let table = l.ints(powers)?;
    let most = l.scalar(DType::I32, f64::from(last))?;
    let place = l.binary(BinaryKind::Min, b, most)?;
    let factor = l.gather(table, place, 0)?;
    let op = if kind == BinaryKind::ShiftLeft {
        BinaryKind::Mul
    } else {
        BinaryKind::FloorDiv
    };
    let shifted = l.binary(op, a, factor)?;
    let inside = l.compare_with(CompareKind::LessEqual, b, f64::from(last))?;
    let zero = l.scalar(DType::I32, 0.0)?;
    l.select(inside, shifted, zero)
}

/// Programs convert to the types that they have; a narrower one that is held by `int32` is wrapped to.
pub(super) fn cast(l: &mut Lower<'_>, x: ValueId, to: DType) -> Result<ValueId> {
    let inside = legal(to, l.opset);
    if to == DType::BF16 {
        return to_bf16(l, x);
    }
    if l.ty(x).dtype == inside && !is_small_int(to) {
        return l.push(Op::Cast(crate::ir::ops::Cast { to: inside }), &[x]);
    }
    let value = l.cast(x, inside)?;
    if inside == to {
        Ok(value)
    } else {
        wrap(l, value, to)
    }
}

/// Single precision with the significand of `bf16`: `c − (c − x)` with `c = 65537·x` leaves the upper 8 bits of it, rounded. What overflows on the way
/// stays as it is.
fn to_bf16(l: &mut Lower<'_>, x: ValueId) -> Result<ValueId> {
    let x = l.cast(x, DType::F32)?;
    let c = l.with(BinaryKind::Mul, x, 65_537.0)?;
    let rest = l.binary(BinaryKind::Sub, c, x)?;
    let rounded = l.binary(BinaryKind::Sub, c, rest)?;
    let magnitude = l.unary(UnaryKind::Abs, x)?;
    let small = l.compare_with(CompareKind::Less, magnitude, 1e33)?;
    l.select(small, rounded, x)
}

pub(super) fn classify(l: &mut Lower<'_>, kind: ClassifyKind, x: ValueId) -> Result<ValueId> {
    match kind {
        ClassifyKind::Nan => l.compare(CompareKind::NotEqual, x, x),
        ClassifyKind::Infinite => {
            let magnitude = l.unary(UnaryKind::Abs, x)?;
            infinite(l, magnitude, f32::INFINITY)
        }
        ClassifyKind::PositiveInfinite => infinite(l, x, f32::INFINITY),
        ClassifyKind::NegativeInfinite => infinite(l, x, f32::NEG_INFINITY),
    }
}

fn infinite(l: &mut Lower<'_>, x: ValueId, bound: f32) -> Result<ValueId> {
    let dtype = l.ty(x).dtype;
    let bound = l.tensor(&Tensor::f32(vec![], vec![bound])?.cast(dtype))?;
    l.compare(CompareKind::Equal, x, bound)
}

/// `x` repeated `times` times in place along an axis.
pub(super) fn repeat(l: &mut Lower<'_>, x: ValueId, axis: usize, times: usize) -> Result<ValueId> {
    if times == 1 {
        return Ok(x);
    }
    let shape = l.known("repetition", x)?;
    let before: usize = shape[..axis].iter().product();
    let after: usize = shape[axis + 1..].iter().product();
    let apart = l.reshape(x, dims(&[before, shape[axis], 1, after]))?;
    let copies = l.expand(apart, dims(&[before, shape[axis], times, after]))?;
    let mut out = shape;
    out[axis] *= times;
    l.reshape(copies, dims(&out))
}

/// The number of a size.
pub(super) fn real(n: usize) -> f64 {
    num::f64_of(n)
}
