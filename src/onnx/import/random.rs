//! Random numbers that are constants: those of a node with a seed, as ONNX Runtime draws them in its first run.
//!
//! ONNX leaves the generator open. ONNX Runtime's is the C++ library's default engine (the minimal standard one: multiplier 16807, modulus 2³¹ − 1)
//! with that library's distributions, in the precision of the result.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, row};
use super::tensors::element_type;
use super::{Importer, one};
use crate::error::Result;
use crate::ir::Dim;
use crate::limits;
use crate::tensor::{DType, Tensor, num};

pub(super) const ROWS: &[Row] = &[
    row("RandomNormal", 1, |m, c| drawn(m, c, true, false)),
    row("RandomUniform", 1, |m, c| drawn(m, c, false, false)),
    row("RandomNormalLike", 1, |m, c| drawn(m, c, true, true)),
    row("RandomUniformLike", 1, |m, c| drawn(m, c, false, true)),
];

/// The minimal standard generator.
struct Engine {
    state: u64,
    wide: bool,
}

/// How many numbers the engine gives: 1 to 2³¹ − 2.
const RANGE: f64 = 2_147_483_646.0;

impl Engine {
    fn new(seed: f32, wide: bool) -> Self {
        // Seeds are cut to 32 bits; 0 counts as 1.
        let seed = num::u64_of_f64(f64::from(seed)) & 0xFFFF_FFFF;
        let state = match seed % 2_147_483_647 {
            0 => 1,
            other => other,
        };
        Engine { state, wide }
    }

    fn next(&mut self) -> f64 {
        self.state = self.state * 16807 % 2_147_483_647;
        num::f64_of_u64(self.state - 1)
    }

    /// A number of at least 0 and less than 1: one draw for single precision, two for double.
    fn unit(&mut self) -> f64 {
        let first = self.next();
        if self.wide {
            let x = (first + self.next() * RANGE) / (RANGE * RANGE);
            return if x < 1.0 { x } else { 1.0 - f64::EPSILON / 2.0 };
        }
        let x = num::f32_of_f64(first) / num::f32_of_f64(RANGE);
        f64::from(if x < 1.0 { x } else { 1.0 - f32::EPSILON / 2.0 })
    }

    /// Rounded to the precision of the result.
    fn round(&self, x: f64) -> f64 {
        if self.wide {
            x
        } else {
            f64::from(num::f32_of_f64(x))
        }
    }

    /// Two numbers of the standard normal distribution, by the polar method.
    fn pair(&mut self) -> [f64; 2] {
        loop {
            let (x, y) = (self.unit(), self.unit());
            let (x, y) = (self.round(2.0 * x - 1.0), self.round(2.0 * y - 1.0));
            let square = self.round(self.round(x * x) + self.round(y * y));
            if square <= 1.0 && square > 0.0 {
                let log = self.round(square.ln());
                let factor = self.round(self.round(-2.0 * log / square).sqrt());
                return [self.round(y * factor), self.round(x * factor)];
            }
        }
    }
}

fn drawn(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    normal: bool,
    like: bool,
) -> Result<Vec<Entry>> {
    let (names, defaults) = if normal {
        (["mean", "scale"], [0.0, 1.0])
    } else {
        (["low", "high"], [0.0, 1.0])
    };
    let a = f64::from(call.float_or(names[0], defaults[0])?);
    let b = f64::from(call.float_or(names[1], defaults[1])?);
    let dtype = call.int("dtype")?;
    let (shape, own) = if like {
        let entry = call.required(0)?;
        let (ty, _) = m
            .entry_type(&entry)
            .ok_or_else(|| call.unsupported("a sequence"))?;
        (ty.shape, ty.dtype)
    } else {
        let shape = call.ints("shape")?.ok_or_else(|| call.missing("`shape`"))?;
        (shape.into_iter().map(Dim::constant).collect(), DType::F32)
    };
    let Some(seed) = call.float("seed")? else {
        return Err(call.unsupported("random numbers without a `seed`").into());
    };
    let dtype = match dtype {
        Some(n) => element_type(i32::try_from(n).unwrap_or_default())?.0,
        None => own,
    };
    if !matches!(dtype, DType::F32 | DType::F64) {
        return Err(call.wrong("dtype", "float or double", dtype).into());
    }
    let sizes: Option<Vec<usize>> = shape.iter().map(Dim::known).collect();
    let sizes = sizes.ok_or_else(|| call.unsupported("random numbers in a shape that varies"))?;
    let count = sizes.iter().fold(1usize, |n, &s| n.saturating_mul(s));
    if num::u64_of(count) > limits::FOLDED_ELEMENTS.get() {
        return Err(call.wrong("shape", "a sensible size", count).into());
    }
    let mut engine = Engine::new(seed, dtype == DType::F64);
    let mut values = Vec::with_capacity(count.saturating_add(1));
    while values.len() < count {
        if normal {
            for x in engine.pair() {
                values.push(num::f32_of_f64(engine.round(engine.round(x * b) + a)));
            }
        } else {
            let x = engine.unit();
            let range = engine.round(b - a);
            values.push(num::f32_of_f64(engine.round(engine.round(x * range) + a)));
        }
    }
    values.truncate(count);
    let tensor = Tensor::f32(sizes, values)?.cast(dtype);
    one(m.b.tensor("numbers", &tensor)?)
}
