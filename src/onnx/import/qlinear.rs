//! ONNX Runtime's operators on quantised tensors: dequantised, computed, quantised again.

use super::call::Call;
use super::conv::{averaged, channels_first, channels_last, pooling};
use super::entry::Entry;
use super::quant::{dynamically, integer, real};
use super::table::{Row, microsoft};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{Activation, ActivationKind, BinaryKind, MatMul, ReduceKind, UnaryKind};
use crate::ir::{Op, ValueId, normalize_axis};
use crate::tensor::DType;

pub(super) const ROWS: &[Row] = &[
    microsoft("QLinearAdd", |m, c| qlinear_binary(m, c, BinaryKind::Add)),
    microsoft("QLinearMul", |m, c| qlinear_binary(m, c, BinaryKind::Mul)),
    microsoft("QLinearSigmoid", qlinear_sigmoid),
    microsoft("QLinearLeakyRelu", qlinear_leaky_relu),
    microsoft("QLinearGlobalAveragePool", qlinear_global_average),
    microsoft("QLinearConcat", qlinear_concat),
    microsoft("DynamicQuantizeMatMul", dynamic_matmul),
    microsoft("MatMulIntegerToFloat", matmul_integer_to_float),
    microsoft("QLinearAveragePool", qlinear_average_pool),
    microsoft("QLinearSoftmax", qlinear_softmax),
    microsoft("QLinearReduceMean", qlinear_reduce_mean),
    microsoft("QLinearWhere", qlinear_where),
    microsoft("QLinearConv", super::quant::qlinear_conv),
    microsoft("QGemm", qgemm),
    microsoft("MulInteger", mul_integer),
];

fn qlinear_binary(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    kind: BinaryKind,
) -> Result<Vec<Entry>> {
    let (a, a_scale, a_zero) = (m.input(call, 0)?, m.input(call, 1)?, m.optional(call, 2)?);
    let (b, b_scale, b_zero) = (m.input(call, 3)?, m.input(call, 4)?, m.optional(call, 5)?);
    let (scale, zero) = (m.input(call, 6)?, m.optional(call, 7)?);
    let dtype = m.b.dtype(a);
    let a = real(m, a, a_scale, a_zero, 0)?;
    let b = real(m, b, b_scale, b_zero, 0)?;
    let y = m.b.bin(kind, a, b)?;
    requantized(m, y, scale, zero, dtype)
}

fn requantized(
    m: &mut Importer<'_>,
    y: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    dtype: DType,
) -> Result<Vec<Entry>> {
    let zero = match zero {
        Some(zero) => zero,
        None => {
            let zero = m.b.scalar("zero", dtype, 0.0)?;
            m.b.expand(zero, m.b.shape(scale))?
        }
    };
    one(integer(m, y, scale, zero)?)
}

fn qlinear_unary(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    f: impl FnOnce(&mut Importer<'_>, ValueId) -> Result<ValueId>,
) -> Result<Vec<Entry>> {
    let (x, x_scale, x_zero) = (m.input(call, 0)?, m.input(call, 1)?, m.optional(call, 2)?);
    let (scale, zero) = (m.input(call, 3)?, m.optional(call, 4)?);
    let dtype = m.b.dtype(x);
    let x = real(m, x, x_scale, x_zero, 0)?;
    let y = f(m, x)?;
    requantized(m, y, scale, zero, dtype)
}

fn qlinear_sigmoid(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    qlinear_unary(m, call, |m, x| m.b.un(UnaryKind::Sigmoid, x))
}

fn qlinear_leaky_relu(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let alpha = call.float_or("alpha", 0.01)?;
    let kind = ActivationKind::LeakyRelu { alpha };
    qlinear_unary(m, call, |m, x| {
        m.b.node(Op::Activation(Activation { kind }), &[x])
    })
}

fn qlinear_global_average(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let last = call.flag("channels_last", false)?;
    qlinear_unary(m, call, |m, x| {
        let rank = m.b.rank(x);
        let axes: Vec<usize> = if last {
            (1..rank.saturating_sub(1)).collect()
        } else {
            (2..rank).collect()
        };
        super::reduce::over(m, ReduceKind::Mean, x, &axes, true)
    })
}

fn qlinear_concat(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (scale, zero) = (m.input(call, 0)?, m.input(call, 1)?);
    let parts = m.inputs_from(call, 2)?;
    let axis = call.int("axis")?.ok_or_else(|| call.missing("`axis`"))?;
    let mut values = Vec::new();
    for part in parts.chunks(3) {
        let [q, scale, zero] = part else {
            return Err(call.missing("three inputs per tensor").into());
        };
        values.push(real(m, *q, *scale, Some(*zero), 0)?);
    }
    let first = *values.first().ok_or_else(|| call.missing("a tensor"))?;
    let axis = normalize_axis(axis, m.b.rank(first))?;
    let y = m.b.join(&values, axis)?;
    one(integer(m, y, scale, zero)?)
}

/// The activations are quantised by their own range, as the operator says, and multiplied.
fn dynamic_matmul(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (a, b) = (m.input(call, 0)?, m.input(call, 1)?);
    let b_scale = m.input(call, 2)?;
    let b_zero = m.optional(call, 3)?;
    let bias = m.optional(call, 4)?;
    let (q, scale, zero) = dynamically(m, a)?;
    let a = real(m, q, scale, Some(zero), 0)?;
    let columns = m.b.rank(b).saturating_sub(1);
    let b = real(m, b, b_scale, b_zero, columns)?;
    let mut y = super::linear::product(m, a, b)?;
    if let Some(bias) = bias {
        y = m.b.add(y, bias)?;
    }
    one(y)
}

fn matmul_integer_to_float(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (a, b) = (m.input(call, 0)?, m.input(call, 1)?);
    let (a_scale, b_scale) = (m.input(call, 2)?, m.input(call, 3)?);
    let (a_zero, b_zero) = (m.optional(call, 4)?, m.optional(call, 5)?);
    let bias = m.optional(call, 6)?;
    let a = real(m, a, a_scale, a_zero, 0)?;
    let columns = m.b.rank(b).saturating_sub(1);
    let b = real(m, b, b_scale, b_zero, columns)?;
    let mut y = super::linear::product(m, a, b)?;
    if let Some(bias) = bias {
        y = m.b.add(y, bias)?;
    }
    one(y)
}

fn qlinear_average_pool(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let last = call.flag("channels_last", false)?;
    let count_padding = call.flag("count_include_pad", false)?;
    let (x, x_scale, x_zero) = (m.input(call, 0)?, m.input(call, 1)?, m.optional(call, 2)?);
    let (scale, zero) = (m.input(call, 3)?, m.optional(call, 4)?);
    let dtype = m.b.dtype(x);
    let x = real(m, x, x_scale, x_zero, 0)?;
    let x = if last { channels_first(m, x)? } else { x };
    let (kernel, slide, ceil) = pooling(m, call, x)?;
    let y = averaged(m, x, kernel, &slide, ceil, count_padding)?;
    let y = if last { channels_last(m, y)? } else { y };
    requantized(m, y, scale, zero, dtype)
}

/// Over one axis since operator set 13, before over all from it on.
fn qlinear_softmax(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let opset = call.int("opset")?.ok_or_else(|| call.missing("`opset`"))?;
    let axis = call.int_or("axis", if opset < 13 { 1 } else { -1 })?;
    qlinear_unary(m, call, |m, x| {
        let axis = normalize_axis(axis, m.b.rank(x))?;
        if opset >= 13 {
            return m.b.softmax(x, axis);
        }
        let shape = m.b.shape(x);
        let flat = m.b.flatten(x, axis)?;
        let y = m.b.softmax(flat, 1)?;
        m.b.reshape(y, shape)
    })
}

fn qlinear_reduce_mean(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let axes = call.ints("axes")?;
    let keep = call.flag("keepdims", true)?;
    let x = m.input(call, 0)?;
    let rank = m.b.rank(x);
    let axes = m.axes(call, axes, rank)?;
    let axes = axes.unwrap_or_else(|| (0..rank).collect());
    qlinear_unary(m, call, |m, x| {
        super::reduce::over(m, ReduceKind::Mean, x, &axes, keep)
    })
}

fn qlinear_where(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let values = m.inputs_from(call, 0)?;
    let [
        condition,
        x,
        x_scale,
        x_zero,
        y,
        y_scale,
        y_zero,
        scale,
        zero,
    ] = values[..]
    else {
        return Err(call.missing("nine inputs").into());
    };
    let x = real(m, x, x_scale, Some(x_zero), 0)?;
    let y = real(m, y, y_scale, Some(y_zero), 0)?;
    let z = m.b.select(condition, x, y)?;
    one(integer(m, z, scale, zero)?)
}

/// alpha · A · B + C, where C is in units of alpha and both scales; floats without a scale of the result.
fn qgemm(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let op = MatMul {
        transpose_a: call.flag("transA", false)?,
        transpose_b: call.flag("transB", false)?,
    };
    let alpha = f64::from(call.float_or("alpha", 1.0)?);
    let (a, a_scale, a_zero) = (m.input(call, 0)?, m.input(call, 1)?, m.input(call, 2)?);
    let (b, b_scale, b_zero) = (m.input(call, 3)?, m.input(call, 4)?, m.input(call, 5)?);
    let bias = m.optional(call, 6)?;
    let (scale, zero) = (m.optional(call, 7)?, m.optional(call, 8)?);
    let a = real(m, a, a_scale, Some(a_zero), 0)?;
    let columns = usize::from(!op.transpose_b);
    let b = real(m, b, b_scale, Some(b_zero), columns)?;
    let mut y = m.b.node(Op::MatMul(op), &[a, b])?;
    if let Some(bias) = bias {
        let bias = m.b.to(bias, m.b.dtype(y))?;
        let a_scale = m.b.reshape(a_scale, vec![])?;
        let units = m.b.mul(a_scale, b_scale)?;
        let bias = m.b.mul(bias, units)?;
        y = m.b.add(y, bias)?;
    }
    if alpha != 1.0 {
        y = m.b.mul_n(y, alpha)?;
    }
    match (scale, zero) {
        (Some(scale), Some(zero)) => one(integer(m, y, scale, zero)?),
        (None, None) => one(y),
        (Some(_), None) | (None, Some(_)) => {
            Err(call.missing("one of `y_scale` and `y_zero_point`").into())
        }
    }
}

fn mul_integer(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (a, a_zero) = (m.input(call, 0)?, m.optional(call, 1)?);
    let (b, b_zero) = (m.input(call, 2)?, m.optional(call, 3)?);
    let a = super::quant::centred(m, a, a_zero, 0)?;
    let b = super::quant::centred(m, b, b_zero, 0)?;
    one(m.b.mul(a, b)?)
}
