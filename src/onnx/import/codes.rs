//! Casts, those from and to small floating-point types included: their values travel as codes, decoded by a table and encoded by comparison.

use super::call::Call;
use super::entry::{Code, Entry};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{Classify, ClassifyKind, CompareKind, ReduceKind, UnaryKind};
use crate::ir::{Op, ValueId};
use crate::tensor::{DType, Tensor, num};

impl Code {
    /// Exponent bits, mantissa bits, bias.
    fn layout(self) -> (i32, i32, i32) {
        match self {
            Code::E4M3Fn => (4, 3, 7),
            Code::E4M3FnUz => (4, 3, 8),
            Code::E5M2 => (5, 2, 15),
            Code::E5M2FnUz => (5, 2, 16),
            Code::E2M1 => (2, 1, 1),
            Code::E8M0 => (8, 0, 127),
        }
    }

    /// Number of codes without a sign.
    fn magnitudes(self) -> usize {
        match self {
            Code::E2M1 => 8,
            Code::E8M0 => 256,
            Code::E4M3Fn | Code::E4M3FnUz | Code::E5M2 | Code::E5M2FnUz => 128,
        }
    }

    /// The value of a code without its sign.
    fn magnitude(self, code: usize) -> f32 {
        if self == Code::E8M0 {
            return if code == 255 {
                f32::NAN
            } else {
                power(num::i64_of(code) - 127)
            };
        }
        let special = match self {
            Code::E4M3Fn if code == 0x7f => Some(f32::NAN),
            Code::E5M2 if code == 0x7c => Some(f32::INFINITY),
            Code::E5M2 if code > 0x7c => Some(f32::NAN),
            Code::E4M3Fn
            | Code::E5M2
            | Code::E4M3FnUz
            | Code::E5M2FnUz
            | Code::E2M1
            | Code::E8M0 => None,
        };
        if let Some(special) = special {
            return special;
        }
        let (_, bits, bias) = self.layout();
        let (exponent, mantissa) = (code >> bits, code & ((1 << bits) - 1));
        let (bias, bits) = (i64::from(bias), i64::from(bits));
        if exponent == 0 {
            num::f32_of(mantissa) * power(1 - bias - bits)
        } else {
            let whole = num::f32_of(mantissa + (1 << bits));
            whole * power(num::i64_of(exponent) - bias - bits)
        }
    }

    /// The value of every code.
    fn table(self) -> Vec<f32> {
        let n = self.magnitudes();
        let positive = (0..n).map(|c| self.magnitude(c));
        if self == Code::E8M0 {
            return positive.collect();
        }
        let mut all: Vec<f32> = positive.collect();
        let negative: Vec<f32> = all.iter().map(|x| -x).collect();
        all.extend(negative);
        if matches!(self, Code::E4M3FnUz | Code::E5M2FnUz) {
            all[n] = f32::NAN;
        }
        all
    }
}

fn power(exponent: i64) -> f32 {
    num::f32_of_f64(2f64.powi(i32::try_from(exponent).unwrap_or_default()))
}

/// A cast to `dtype`, or to `code` if there is one.
pub(super) fn cast(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    dtype: DType,
    code: Option<Code>,
) -> Result<Vec<Entry>> {
    let saturate = call.flag("saturate", true)?;
    let mode = call.string_or("round_mode", "up")?;
    let entry = call.required(0)?;
    if let (Entry::Coded(_, from), Some(to)) = (&entry, code)
        && *from == to
    {
        return Ok(vec![entry]);
    }
    let x = match entry {
        Entry::Coded(codes, from) => decode(m, codes, from)?,
        Entry::Value(_) | Entry::Dims(_) => m.input(call, 0)?,
    };
    match code {
        None => one(m.b.to(x, dtype)?),
        Some(code) => {
            let codes = encode(m, x, code, saturate, &mode)?;
            Ok(vec![Entry::Coded(codes, code)])
        }
    }
}

/// The bits of each element as an element of `dtype`, or of `code` if there is one: integers wrap around, constants are read anew.
pub(super) fn bit_cast(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    dtype: DType,
    code: Option<Code>,
) -> Result<Vec<Entry>> {
    let bits = |dtype: DType, code: Option<Code>| match code {
        Some(Code::E2M1) => 4,
        Some(_) | None => dtype.bits(),
    };
    let (x, from) = match call.required(0)? {
        Entry::Coded(x, from) => (x, Some(from)),
        Entry::Value(_) | Entry::Dims(_) => (m.input(call, 0)?, None),
    };
    let held = m.b.dtype(x);
    let (wide, narrow) = (bits(held, from), bits(dtype, code));
    if wide != narrow {
        let expected = format!("a type of {wide} bits, as the input has");
        return Err(call.wrong("to", &expected, format!("{narrow} bits")).into());
    }
    let constant = m.b.as_constant(x).filter(|_| {
        // Numbers of double precision are held in single precision.
        ![held, dtype].contains(&DType::F64)
    });
    let y = if held == dtype && from.is_some() == code.is_some() {
        x
    } else if held.is_int() && dtype.is_int() && wide >= 8 {
        m.b.to(x, dtype)?
    } else if let Some(tensor) = constant.map(|c| c.read()).transpose()? {
        let bytes = tensor.to_le_bytes();
        let tensor = Tensor::from_le_bytes(dtype, tensor.shape().to_vec(), &bytes)?;
        m.b.tensor("bits", &tensor)?
    } else {
        let what = format!(
            "`{held}` as `{dtype}`, other than of constants: no target shows the bits of a number,"
        );
        return Err(call.unsupported(what).into());
    };
    Ok(vec![match code {
        Some(code) => Entry::Coded(y, code),
        None => Entry::Value(y),
    }])
}

/// The values of codes, as `f32`.
pub(super) fn decode(m: &mut Importer<'_>, codes: ValueId, code: Code) -> Result<ValueId> {
    let table = code.table();
    let table = Tensor::f32(vec![table.len()], table)?;
    let table = m.b.tensor("values", &table)?;
    let index = m.b.to(codes, DType::I32)?;
    m.b.gather(table, index, 0)
}

/// The codes of values: the number of thresholds that the magnitude reaches. Ties go to the even code.
pub(super) fn encode(
    m: &mut Importer<'_>,
    x: ValueId,
    code: Code,
    saturate: bool,
    mode: &str,
) -> Result<ValueId> {
    let x = m.b.to(x, DType::F32)?;
    let magnitude = m.b.un(UnaryKind::Abs, x)?;
    let finite: Vec<f32> = (0..code.magnitudes())
        .map(|c| code.magnitude(c))
        .take_while(|v| v.is_finite())
        .collect();
    // From which value on a code is the nearest.
    let mut thresholds: Vec<f32> = finite
        .windows(2)
        .enumerate()
        .map(|(i, pair)| {
            let middle = num::f32_of_f64((f64::from(pair[0]) + f64::from(pair[1])) / 2.0);
            match (code, mode) {
                (Code::E8M0, "up") => above(pair[0]),
                (Code::E8M0, "down") => pair[1],
                (Code::E8M0, _) => middle,
                // Upwards only if the code above is the even one.
                _ if i % 2 == 1 => middle,
                _ => above(middle),
            }
        })
        .collect();
    let last = finite.len() - 1;
    let top = finite[last];
    let below_top = finite[last.saturating_sub(1)];
    // Halfway to what the next value would be.
    let edge = top + (top - below_top) / 2.0;
    let edge = if last.is_multiple_of(2) {
        above(edge)
    } else {
        edge
    };
    if !saturate && code != Code::E8M0 {
        thresholds.push(edge);
    }
    let n = thresholds.len();
    let thresholds =
        m.b.tensor("thresholds", &Tensor::f32(vec![n], thresholds)?)?;
    let axis = m.b.rank(x);
    let wide = m.b.unsqueeze(magnitude, &[axis])?;
    let reached = m.b.cmp(CompareKind::GreaterEqual, wide, thresholds)?;
    let reached = m.b.to(reached, DType::I32)?;
    let mut codes = m.b.reduce(ReduceKind::Sum, reached, &[axis], false)?;
    let number = |m: &mut Importer<'_>, n: usize| m.b.scalar("code", DType::I32, num::f64_of(n));
    let nan = match code {
        Code::E4M3Fn => 127,
        // Quiet, as hardware gives it.
        Code::E5M2 => 126,
        Code::E4M3FnUz | Code::E5M2FnUz => code.magnitudes(),
        Code::E8M0 => 255,
        // It has none: negative zero stands in.
        Code::E2M1 => 8,
    };
    let signs = !matches!(code, Code::E8M0);
    let unsigned_zero = matches!(code, Code::E4M3FnUz | Code::E5M2FnUz);
    if unsigned_zero && !saturate {
        // What is beyond the largest value is NaN, whatever its sign.
        let over = number(m, last)?;
        let over = m.b.cmp(CompareKind::Greater, codes, over)?;
        let special = number(m, nan)?;
        let signed = sign(m, x, codes, code, unsigned_zero)?;
        codes = m.b.select(over, special, signed)?;
    } else if signs {
        codes = sign(m, x, codes, code, unsigned_zero)?;
    }
    let is_nan = m.b.node(
        Op::Classify(Classify {
            kind: ClassifyKind::Nan,
        }),
        &[x],
    )?;
    let special = number(m, nan)?;
    codes = m.b.select(is_nan, special, codes)?;
    m.b.to(codes, DType::U8)
}

/// Adds the sign bit to codes of magnitudes. The sign of zero is that of its reciprocal.
fn sign(
    m: &mut Importer<'_>,
    x: ValueId,
    codes: ValueId,
    code: Code,
    unsigned_zero: bool,
) -> Result<ValueId> {
    let mut negative = m.b.cmp_n(CompareKind::Less, x, 0.0)?;
    if !unsigned_zero {
        let reciprocal = m.b.un(UnaryKind::Reciprocal, x)?;
        let below = m.b.cmp_n(CompareKind::Less, reciprocal, 0.0)?;
        negative = m.b.bin(crate::ir::ops::BinaryKind::Or, negative, below)?;
    }
    let bit = m.b.number(codes, num::f64_of(code.magnitudes()))?;
    let with = m.b.add(codes, bit)?;
    let with = if unsigned_zero {
        let zero = m.b.cmp_n(CompareKind::Equal, codes, 0.0)?;
        m.b.select(zero, codes, with)?
    } else {
        with
    };
    m.b.select(negative, with, codes)
}

/// The next larger float.
fn above(x: f32) -> f32 {
    f32::from_bits(x.to_bits() + 1)
}
