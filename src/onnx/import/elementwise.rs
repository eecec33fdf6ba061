//! Elementwise operators.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, row};
use super::tensors::element_type;
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ValueId;
use crate::ir::ops::{BinaryKind, CompareKind, UnaryKind};
use crate::tensor::DType;

pub(super) const ROWS: &[Row] = &[
    row("Abs", 6, |m, c| unary(m, c, UnaryKind::Abs)),
    row("Neg", 6, |m, c| unary(m, c, UnaryKind::Neg)),
    row("Sign", 9, |m, c| unary(m, c, UnaryKind::Sign)),
    row("Floor", 6, |m, c| unary(m, c, UnaryKind::Floor)),
    row("Ceil", 6, |m, c| unary(m, c, UnaryKind::Ceil)),
    row("Round", 11, |m, c| unary(m, c, UnaryKind::Round)),
    row("Not", 1, |m, c| unary(m, c, UnaryKind::Not)),
    row("Sqrt", 6, |m, c| unary(m, c, UnaryKind::Sqrt)),
    row("Reciprocal", 6, |m, c| unary(m, c, UnaryKind::Reciprocal)),
    row("Exp", 6, |m, c| unary(m, c, UnaryKind::Exp)),
    row("Log", 6, |m, c| unary(m, c, UnaryKind::Log)),
    row("Sin", 7, |m, c| unary(m, c, UnaryKind::Sin)),
    row("Cos", 7, |m, c| unary(m, c, UnaryKind::Cos)),
    row("Tanh", 6, |m, c| unary(m, c, UnaryKind::Tanh)),
    row("Sigmoid", 6, |m, c| unary(m, c, UnaryKind::Sigmoid)),
    row("Erf", 9, erf),
    row("Relu", 6, relu),
    row("Add", 7, |m, c| binary(m, c, BinaryKind::Add)),
    row("Sub", 7, |m, c| binary(m, c, BinaryKind::Sub)),
    row("Mul", 7, |m, c| binary(m, c, BinaryKind::Mul)),
    row("And", 7, |m, c| binary(m, c, BinaryKind::And)),
    row("Or", 7, |m, c| binary(m, c, BinaryKind::Or)),
    row("Xor", 7, |m, c| binary(m, c, BinaryKind::Xor)),
    row("Equal", 7, |m, c| compare(m, c, CompareKind::Equal)),
    row("Less", 7, |m, c| compare(m, c, CompareKind::Less)),
    row("LessOrEqual", 12, |m, c| {
        compare(m, c, CompareKind::LessEqual)
    }),
    row("Greater", 7, |m, c| compare(m, c, CompareKind::Greater)),
    row("GreaterOrEqual", 12, |m, c| {
        compare(m, c, CompareKind::GreaterEqual)
    }),
    row("Where", 9, select),
    row("Min", 6, |m, c| variadic(m, c, BinaryKind::Min)),
    row("Max", 6, |m, c| variadic(m, c, BinaryKind::Max)),
    row("Sum", 6, |m, c| variadic(m, c, BinaryKind::Add)),
    row("Mean", 6, mean),
    row("Pow", 7, pow),
    row("Clip", 6, clip),
    row("Cast", 6, cast),
    row("CastLike", 15, cast_like),
    row("BitCast", 26, bit_cast),
    row("Identity", 1, identity),
    row("Dropout", 7, dropout),
];

fn unary(m: &mut Importer<'_>, call: &mut Call<'_>, kind: UnaryKind) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    one(m.b.un(kind, x)?)
}

/// Integers by way of floats, cut off.
fn erf(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let dtype = m.b.dtype(x);
    let wide =
        m.b.to(x, if dtype.is_float() { dtype } else { DType::F32 })?;
    let y = m.b.un(UnaryKind::Erf, wide)?;
    one(m.b.to(y, dtype)?)
}

fn binary(m: &mut Importer<'_>, call: &mut Call<'_>, kind: BinaryKind) -> Result<Vec<Entry>> {
    let (a, b) = (m.input(call, 0)?, m.input(call, 1)?);
    one(m.b.bin(kind, a, b)?)
}

fn compare(m: &mut Importer<'_>, call: &mut Call<'_>, kind: CompareKind) -> Result<Vec<Entry>> {
    let (a, b) = (m.input(call, 0)?, m.input(call, 1)?);
    one(m.b.cmp(kind, a, b)?)
}

fn select(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let condition = m.input(call, 0)?;
    let (a, b) = (m.input(call, 1)?, m.input(call, 2)?);
    one(m.b.select(condition, a, b)?)
}

fn relu(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    if m.b.dtype(x).is_float() {
        return one(m.b.un(UnaryKind::Relu, x)?);
    }
    let zero = m.b.number(x, 0.0)?;
    one(m.b.bin(BinaryKind::Max, x, zero)?)
}

fn variadic(m: &mut Importer<'_>, call: &mut Call<'_>, kind: BinaryKind) -> Result<Vec<Entry>> {
    one(all(m, call, kind)?)
}

fn all(m: &mut Importer<'_>, call: &mut Call<'_>, kind: BinaryKind) -> Result<ValueId> {
    let mut values = m.inputs_from(call, 0)?.into_iter();
    let first = values.next().ok_or_else(|| call.missing("input 0"))?;
    let mut result = first;
    for value in values {
        result = m.b.bin(kind, result, value)?;
    }
    Ok(result)
}

fn mean(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let n = crate::tensor::num::f64_of(call.inputs.len());
    let sum = all(m, call, BinaryKind::Add)?;
    let n = m.b.number(sum, n)?;
    one(m.b.div(sum, n)?)
}

fn pow(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, y) = (m.input(call, 0)?, m.input(call, 1)?);
    let (dtype, exponent) = (m.b.dtype(x), m.b.dtype(y));
    if dtype == exponent {
        return one(m.b.bin(BinaryKind::Pow, x, y)?);
    }
    // The result has the base's type; what is between them is computed in the wider kind.
    if dtype.is_float() {
        let y = m.b.to(y, dtype)?;
        return one(m.b.bin(BinaryKind::Pow, x, y)?);
    }
    let wide = if exponent.is_float() { exponent } else { dtype };
    let (x, y) = (m.b.to(x, wide)?, m.b.to(y, wide)?);
    let power = m.b.bin(BinaryKind::Pow, x, y)?;
    one(m.b.to(power, dtype)?)
}

fn clip(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    if call.version < 11 {
        let min = call.float_or("min", f32::MIN)?;
        let max = call.float_or("max", f32::MAX)?;
        return one(m.b.clip(x, min, max)?);
    }
    let (low, high) = (m.optional(call, 1)?, m.optional(call, 2)?);
    if m.b.dtype(x).is_float()
        && let Some(min) = bound(m, low, f32::NEG_INFINITY)?
        && let Some(max) = bound(m, high, f32::INFINITY)?
        && min <= max
    {
        return one(m.b.clip(x, min, max)?);
    }
    let mut x = x;
    if let Some(low) = low {
        x = m.b.bin(BinaryKind::Max, x, low)?;
    }
    if let Some(high) = high {
        x = m.b.bin(BinaryKind::Min, x, high)?;
    }
    one(x)
}

/// A bound that is known, or the default of one that is not there; `None` if it is only known at run time.
fn bound(m: &Importer<'_>, value: Option<ValueId>, default: f32) -> Result<Option<f32>> {
    let Some(value) = value else {
        return Ok(Some(default));
    };
    match m.b.as_constant(value) {
        Some(c) if c.len() == 1 && c.dtype().is_float() => Ok(c.read()?.floats()?.first().copied()),
        Some(_) | None => Ok(None),
    }
}

fn cast(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let to = call.int("to")?.ok_or_else(|| call.missing("`to`"))?;
    let (dtype, code) = element_type(i32::try_from(to).unwrap_or_default())?;
    super::codes::cast(m, call, dtype, code)
}

fn cast_like(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let like = call.required(1)?;
    let (dtype, code) = match &like {
        Entry::Coded(_, code) => (DType::U8, Some(*code)),
        Entry::Value(v) => (m.b.dtype(*v), None),
        Entry::Dims(d) => (d.dtype, None),
    };
    super::codes::cast(m, call, dtype, code)
}

fn bit_cast(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let to = call.int("to")?.ok_or_else(|| call.missing("`to`"))?;
    let (dtype, code) = element_type(i32::try_from(to).unwrap_or_default())?;
    super::codes::bit_cast(m, call, dtype, code)
}

fn identity(_: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    Ok(vec![call.required(0)?])
}

/// At inference nothing is dropped: the mask is all true.
fn dropout(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let entry = call.required(0)?;
    call.ignore("ratio");
    call.ignore("seed");
    let ratio = m.floats(call, 1)?;
    if let Some(training) = m.tensor(call, 2)?
        && training.to_f64().iter().any(|&t| t != 0.0)
        && ratio.is_none_or(|r| r.iter().any(|&r| r != 0.0))
    {
        return Err(call.unsupported("training mode").into());
    }
    if !call.wants(1) {
        return Ok(vec![entry]);
    }
    let shape = m.shape_of(call, &entry)?;
    let yes = crate::tensor::Tensor::bool(vec![], vec![true])?;
    let yes = m.b.tensor("true", &yes)?;
    let mask = m.b.expand(yes, shape)?;
    Ok(vec![entry, Entry::Value(mask)])
}
