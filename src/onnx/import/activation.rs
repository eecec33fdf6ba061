//! Elementwise operators beyond plain arithmetic: activations, integer arithmetic, bits, classification.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, microsoft, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{
    Activation, ActivationKind, BinaryKind, Classify, ClassifyKind, CompareKind, UnaryKind,
};
use crate::ir::{Op, ValueId};

pub(super) const ROWS: &[Row] = &[
    row("Tan", 7, |m, c| unary(m, c, UnaryKind::Tan)),
    row("Asin", 7, |m, c| unary(m, c, UnaryKind::Asin)),
    row("Acos", 7, |m, c| unary(m, c, UnaryKind::Acos)),
    row("Atan", 7, |m, c| unary(m, c, UnaryKind::Atan)),
    row("Sinh", 9, |m, c| unary(m, c, UnaryKind::Sinh)),
    row("Cosh", 9, |m, c| unary(m, c, UnaryKind::Cosh)),
    row("Asinh", 9, |m, c| unary(m, c, UnaryKind::Asinh)),
    row("Acosh", 9, |m, c| unary(m, c, UnaryKind::Acosh)),
    row("Atanh", 9, |m, c| unary(m, c, UnaryKind::Atanh)),
    row("Softplus", 1, |m, c| unary(m, c, UnaryKind::Softplus)),
    row("Softsign", 1, |m, c| unary(m, c, UnaryKind::Softsign)),
    row("BitwiseNot", 18, |m, c| unary(m, c, UnaryKind::BitNot)),
    row("BitwiseAnd", 18, |m, c| binary(m, c, BinaryKind::BitAnd)),
    row("BitwiseOr", 18, |m, c| binary(m, c, BinaryKind::BitOr)),
    row("BitwiseXor", 18, |m, c| binary(m, c, BinaryKind::BitXor)),
    row("BitShift", 11, bit_shift),
    row("Div", 7, div),
    row("Mod", 10, modulo),
    row("IsNaN", 9, |m, c| classify(m, c, ClassifyKind::Nan)),
    row("IsInf", 10, is_inf),
    row("LeakyRelu", 6, leaky_relu),
    row("Elu", 6, elu),
    row("Selu", 6, selu),
    row("Celu", 12, celu),
    row("HardSigmoid", 6, hard_sigmoid),
    row("HardSwish", 14, hard_swish),
    row("Gelu", 20, gelu),
    row("Mish", 18, mish),
    row("PRelu", 7, prelu),
    row("Shrink", 9, shrink),
    row("Swish", 24, swish),
    row("ThresholdedRelu", 10, thresholded),
    microsoft("Gelu", |m, c| unary(m, c, UnaryKind::GeluErf)),
    microsoft("FastGelu", fast_gelu),
    microsoft("BiasGelu", bias_gelu),
    microsoft("QuickGelu", quick_gelu),
];

fn unary(m: &mut Importer<'_>, call: &mut Call<'_>, kind: UnaryKind) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    one(m.b.un(kind, x)?)
}

fn binary(m: &mut Importer<'_>, call: &mut Call<'_>, kind: BinaryKind) -> Result<Vec<Entry>> {
    let (a, b) = (m.input(call, 0)?, m.input(call, 1)?);
    one(m.b.bin(kind, a, b)?)
}

fn activation(m: &mut Importer<'_>, x: ValueId, kind: ActivationKind) -> Result<ValueId> {
    m.b.node(Op::Activation(Activation { kind }), &[x])
}

fn bit_shift(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let kind = match call.string("direction")?.as_deref() {
        Some("LEFT") => BinaryKind::ShiftLeft,
        Some("RIGHT") => BinaryKind::ShiftRight,
        other => {
            let found = other.unwrap_or("nothing").to_owned();
            return Err(call.wrong("direction", "LEFT or RIGHT", found).into());
        }
    };
    binary(m, call, kind)
}

fn div(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (a, b) = (m.input(call, 0)?, m.input(call, 1)?);
    let kind = if m.b.dtype(a).is_float() {
        BinaryKind::Div
    } else {
        BinaryKind::TruncDiv
    };
    one(m.b.bin(kind, a, b)?)
}

fn modulo(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let like_c = call.flag("fmod", false)?;
    let (a, b) = (m.input(call, 0)?, m.input(call, 1)?);
    if !like_c && m.b.dtype(a).is_float() {
        return Err(call.wrong("fmod", "1 for floats", 0).into());
    }
    let kind = if like_c {
        BinaryKind::Rem
    } else {
        BinaryKind::Mod
    };
    one(m.b.bin(kind, a, b)?)
}

fn classify(m: &mut Importer<'_>, call: &mut Call<'_>, kind: ClassifyKind) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    one(m.b.node(Op::Classify(Classify { kind }), &[x])?)
}

fn is_inf(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let positive = call.flag("detect_positive", true)?;
    let negative = call.flag("detect_negative", true)?;
    let kind = match (positive, negative) {
        (true, true) => ClassifyKind::Infinite,
        (true, false) => ClassifyKind::PositiveInfinite,
        (false, true) => ClassifyKind::NegativeInfinite,
        (false, false) => {
            let x = m.input(call, 0)?;
            let shape = m.b.shape(x);
            let no = crate::tensor::Tensor::bool(vec![], vec![false])?;
            let no = m.b.tensor("no", &no)?;
            return one(m.b.expand(no, shape)?);
        }
    };
    classify(m, call, kind)
}

fn leaky_relu(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let alpha = call.float_or("alpha", 0.01)?;
    one(activation(m, x, ActivationKind::LeakyRelu { alpha })?)
}

fn elu(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let alpha = call.float_or("alpha", 1.0)?;
    one(activation(m, x, ActivationKind::Elu { alpha })?)
}

fn selu(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let alpha = call.float_or("alpha", 1.673_263_2)?;
    let gamma = call.float_or("gamma", 1.050_701)?;
    let y = activation(m, x, ActivationKind::Elu { alpha })?;
    one(m.b.mul_n(y, f64::from(gamma))?)
}

/// max(0, x) + min(0, α·(exp(x/α) − 1)) = α · elu(x / α)
fn celu(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let alpha = call.float_or("alpha", 1.0)?;
    if alpha.to_bits() == 1f32.to_bits() {
        return one(activation(m, x, ActivationKind::Elu { alpha: 1.0 })?);
    }
    let scaled = m.b.mul_n(x, 1.0 / f64::from(alpha))?;
    let y = activation(m, scaled, ActivationKind::Elu { alpha: 1.0 })?;
    one(m.b.mul_n(y, f64::from(alpha))?)
}

fn hard_sigmoid(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let kind = ActivationKind::HardSigmoid {
        alpha: call.float_or("alpha", 0.2)?,
        beta: call.float_or("beta", 0.5)?,
    };
    one(activation(m, x, kind)?)
}

fn hard_swish(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let kind = ActivationKind::HardSigmoid {
        alpha: 1.0 / 6.0,
        beta: 0.5,
    };
    let gate = activation(m, x, kind)?;
    one(m.b.mul(x, gate)?)
}

fn gelu(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let kind = match call.string_or("approximate", "none")?.as_str() {
        "none" => UnaryKind::GeluErf,
        "tanh" => UnaryKind::GeluTanh,
        other => return Err(call.wrong("approximate", "none or tanh", other).into()),
    };
    unary(m, call, kind)
}

fn fast_gelu(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let mut x = m.input(call, 0)?;
    if let Some(bias) = m.optional(call, 1)? {
        x = m.b.add(x, bias)?;
    }
    one(m.b.un(UnaryKind::GeluTanh, x)?)
}

fn bias_gelu(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, bias) = (m.input(call, 0)?, m.input(call, 1)?);
    let x = m.b.add(x, bias)?;
    one(m.b.un(UnaryKind::GeluErf, x)?)
}

/// x · sigmoid(α·x)
fn gated(m: &mut Importer<'_>, x: ValueId, alpha: f32) -> Result<ValueId> {
    if alpha.to_bits() == 1f32.to_bits() {
        return m.b.un(UnaryKind::Silu, x);
    }
    let scaled = m.b.mul_n(x, f64::from(alpha))?;
    let gate = m.b.un(UnaryKind::Sigmoid, scaled)?;
    m.b.mul(x, gate)
}

fn quick_gelu(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let alpha = call.float_or("alpha", 1.702)?;
    one(gated(m, x, alpha)?)
}

fn swish(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let alpha = call.float_or("alpha", 1.0)?;
    one(gated(m, x, alpha)?)
}

fn mish(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let soft = m.b.un(UnaryKind::Softplus, x)?;
    let gate = m.b.un(UnaryKind::Tanh, soft)?;
    one(m.b.mul(x, gate)?)
}

fn prelu(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, slope) = (m.input(call, 0)?, m.input(call, 1)?);
    let scaled = m.b.mul(x, slope)?;
    let below = m.b.cmp_n(CompareKind::Less, x, 0.0)?;
    one(m.b.select(below, scaled, x)?)
}

fn shrink(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let bias = f64::from(call.float_or("bias", 0.0)?);
    let lambda = f64::from(call.float_or("lambd", 0.5)?);
    let below = m.b.cmp_n(CompareKind::Less, x, -lambda)?;
    let above = m.b.cmp_n(CompareKind::Greater, x, lambda)?;
    let (up, down) = (m.b.add_n(x, bias)?, m.b.add_n(x, -bias)?);
    let zero = m.b.number(x, 0.0)?;
    let y = m.b.select(above, down, zero)?;
    one(m.b.select(below, up, y)?)
}

fn thresholded(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let alpha = f64::from(call.float_or("alpha", 1.0)?);
    let above = m.b.cmp_n(CompareKind::Greater, x, alpha)?;
    let zero = m.b.number(x, 0.0)?;
    one(m.b.select(above, x, zero)?)
}

/// The activation that a fused operator names, with its parameters; none are left out.
pub(super) fn named(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    x: ValueId,
    name: &str,
    parameters: &[f32],
) -> Result<ValueId> {
    match (name, parameters) {
        ("Relu", []) => m.b.un(UnaryKind::Relu, x),
        ("Sigmoid", []) => m.b.un(UnaryKind::Sigmoid, x),
        ("Tanh", []) => m.b.un(UnaryKind::Tanh, x),
        ("LeakyRelu", &[alpha]) => activation(m, x, ActivationKind::LeakyRelu { alpha }),
        ("HardSigmoid", &[alpha, beta]) => {
            activation(m, x, ActivationKind::HardSigmoid { alpha, beta })
        }
        ("Clip", &[low, high]) => m.b.clip(x, low, high),
        _ => Err(call
            .wrong(
                "activation",
                "Relu, Sigmoid, Tanh, LeakyRelu, HardSigmoid or Clip with its parameters",
                format!("{name} with {parameters:?}"),
            )
            .into()),
    }
}
