//! Quantisation, and the operators that compute on quantised tensors: dequantised, computed, quantised again.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, microsoft, row};
use super::tensors::element_type;
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{BinaryKind, Dequantize, Granularity, Quantize, ReduceKind, UnaryKind};
use crate::ir::{Dim, Op, ValueId, normalize_axis};
use crate::tensor::{DType, num};

pub(super) const ROWS: &[Row] = &[
    row("QuantizeLinear", 10, quantize),
    row("DequantizeLinear", 10, dequantize),
    row("DynamicQuantizeLinear", 11, dynamic),
    row("QLinearMatMul", 10, qlinear_matmul),
    row("QLinearConv", 10, qlinear_conv),
    row("MatMulInteger", 10, matmul_integer),
    row("ConvInteger", 10, conv_integer),
    microsoft("QuantizeLinear", quantize),
    microsoft("DequantizeLinear", dequantize),
];

/// Which elements share a scale; scale and zero point in the form that goes with it.
fn granularity(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    x: ValueId,
    scale: ValueId,
) -> Result<Granularity> {
    let rank = m.b.rank(x);
    let axis = call.int_or("axis", 1)?;
    let block = call.int_or("block_size", 0)?;
    let shape = m.b.shape(scale);
    if shape.is_empty() || (shape.len() == 1 && shape[0].integer() == Some(1) && block == 0) {
        return Ok(Granularity::Tensor);
    }
    if block != 0 {
        let along = normalize_axis(axis, rank)?;
        let n = m.b.shape(x)[along].known();
        let blocks = shape.get(along).and_then(Dim::known);
        let block = usize::try_from(block).unwrap_or_default().max(1);
        if let (Some(n), Some(blocks)) = (n, blocks)
            && blocks != n.div_ceil(block)
            && blocks != n
        {
            let expected = format!("{} blocks of {block}", n.div_ceil(block));
            return Err(call.wrong("scale", &expected, blocks).into());
        }
        return Ok(Granularity::Block);
    }
    if shape.len() == rank && rank != 1 {
        return Ok(Granularity::Block);
    }
    Ok(Granularity::Axis(normalize_axis(axis, rank)?))
}

fn quantize(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let scale = m.input(call, 1)?;
    let saturate = call.flag("saturate", true)?;
    call.ignore("precision");
    let zero = call.entry(2);
    let wanted = call.int_or("output_dtype", 0)?;
    let code = match &zero {
        Some(Entry::Coded(_, code)) => Some(*code),
        Some(Entry::Value(_) | Entry::Dims(_)) | None => match wanted {
            0 => None,
            n => element_type(i32::try_from(n).unwrap_or_default())?.1,
        },
    };
    let scale = evened(m, call, x, scale)?;
    let granularity = granularity(m, call, x, scale)?;
    let scale = if m.b.dtype(scale) == m.b.dtype(x) || m.b.dtype(scale).is_float() {
        scale
    } else {
        m.b.to(scale, m.b.dtype(x))?
    };
    if let Some(code) = code {
        // Small floats have no zero point: x / scale, rounded to the nearest code.
        let scale = spread(m, scale, &granularity, x)?;
        let wide = m.b.to(x, DType::F32)?;
        let scale = m.b.to(scale, DType::F32)?;
        let y = m.b.div(wide, scale)?;
        let codes = super::codes::encode(m, y, code, saturate, "up")?;
        return Ok(vec![Entry::Coded(codes, code)]);
    }
    let zero = match zero {
        Some(_) => {
            let zero = m.input(call, 2)?;
            Some(evened(m, call, x, zero)?)
        }
        None => None,
    };
    let to = match (zero, wanted) {
        (Some(zero), _) => m.b.dtype(zero),
        (None, 0) => DType::U8,
        (None, n) => element_type(i32::try_from(n).unwrap_or_default())?.0,
    };
    let mut operands = vec![x, scale];
    operands.extend(like_scale(m, zero, scale)?);
    let op = Quantize { granularity, to };
    one(m.b.node(Op::Quantize(op), &operands)?)
}

/// A scale or zero point whose last block is shorter than the others, as one of an element each.
fn evened(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    x: ValueId,
    parameter: ValueId,
) -> Result<ValueId> {
    let rank = m.b.rank(x);
    let axis = call.int_or("axis", 1)?;
    let block = call.int_or("block_size", 0)?;
    let block = usize::try_from(block).ok().filter(|&n| n > 0);
    let Some(block) = block.filter(|_| m.b.rank(parameter) == rank) else {
        return Ok(parameter);
    };
    let along = normalize_axis(axis, rank)?;
    let blocks = m.b.shape(parameter)[along].known();
    match m.b.shape(x)[along].known() {
        Some(n) if n % block != 0 && blocks == Some(n.div_ceil(block)) => {
            let indices: Vec<i64> = (0..n).map(|i| num::i64_of(i / block)).collect();
            let indices = m.b.longs(&indices)?;
            m.b.gather(parameter, indices, along)
        }
        Some(_) | None => Ok(parameter),
    }
}

/// A scale in a shape that broadcasts with the tensor, blocks repeated.
fn spread(
    m: &mut Importer<'_>,
    scale: ValueId,
    granularity: &Granularity,
    x: ValueId,
) -> Result<ValueId> {
    let shape = m.b.shape(x);
    match granularity {
        Granularity::Tensor => m.b.reshape(scale, vec![]),
        Granularity::Axis(axis) => {
            let after: Vec<usize> = (1..shape.len() - axis).collect();
            m.b.unsqueeze(scale, &after)
        }
        Granularity::Block => {
            let mut scale = scale;
            for (axis, size) in shape.iter().enumerate() {
                let blocks = m.b.shape(scale)[axis].clone();
                if blocks == *size || blocks.integer() == Some(1) {
                    continue;
                }
                let (Some(n), Some(b)) = (size.known(), blocks.known()) else {
                    continue;
                };
                let each = n / b.max(1);
                let indices: Vec<i64> = (0..n).map(|i| num::i64_of(i / each.max(1))).collect();
                let indices = m.b.longs(&indices)?;
                scale = m.b.gather(scale, indices, axis)?;
            }
            Ok(scale)
        }
    }
}

fn dequantize(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let entry = call.required(0)?;
    let scale = m.input(call, 1)?;
    let wanted = call.int_or("output_dtype", 0)?;
    if let Entry::Coded(codes, code) = entry {
        // The zero point of small floats is 0.
        let _ = call.entry(2);
        let x = super::codes::decode(m, codes, code)?;
        let scale = evened(m, call, x, scale)?;
        let granularity = granularity(m, call, x, scale)?;
        let dtype = m.b.dtype(scale);
        let scale = spread(m, scale, &granularity, x)?;
        let x = m.b.to(x, dtype)?;
        return one(m.b.mul(x, scale)?);
    }
    let q = m.input(call, 0)?;
    let mut zero = m.optional(call, 2)?;
    let scale = evened(m, call, q, scale)?;
    if let Some(point) = zero {
        zero = Some(evened(m, call, q, point)?);
    }
    let granularity = granularity(m, call, q, scale)?;
    let mut operands = vec![q, scale];
    operands.extend(like_scale(m, zero, scale)?);
    let y =
        m.b.node(Op::Dequantize(Dequantize { granularity }), &operands)?;
    one(match wanted {
        0 => y,
        n => {
            m.b.to(y, element_type(i32::try_from(n).unwrap_or_default())?.0)?
        }
    })
}

/// (q − zero) · scale, per tensor or along an axis.
pub(super) fn real(
    m: &mut Importer<'_>,
    q: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    axis: usize,
) -> Result<ValueId> {
    let shape = m.b.shape(scale);
    let one_scale = shape.iter().all(|d| d.integer() == Some(1));
    let granularity = if one_scale {
        Granularity::Tensor
    } else if shape.len() == 1 {
        Granularity::Axis(axis)
    } else {
        Granularity::Block
    };
    let mut operands = vec![q, scale];
    operands.extend(like_scale(m, zero, scale)?);
    m.b.node(Op::Dequantize(Dequantize { granularity }), &operands)
}

/// clamp(round(x / scale) + zero), per tensor.
pub(super) fn integer(
    m: &mut Importer<'_>,
    x: ValueId,
    scale: ValueId,
    zero: ValueId,
) -> Result<ValueId> {
    let to = m.b.dtype(zero);
    let scale = m.b.to(scale, m.b.dtype(x))?;
    let shape = m.b.shape(scale);
    let granularity = if shape.iter().all(|d| d.integer() == Some(1)) {
        Granularity::Tensor
    } else {
        Granularity::Axis(m.b.rank(x) - 1)
    };
    let mut operands = vec![x, scale];
    operands.extend(like_scale(m, Some(zero), scale)?);
    m.b.node(Op::Quantize(Quantize { granularity, to }), &operands)
}

/// A zero point in the shape of its scale: one number may stand for a vector, and one element for rank 0.
fn like_scale(
    m: &mut Importer<'_>,
    zero: Option<ValueId>,
    scale: ValueId,
) -> Result<Option<ValueId>> {
    let shape = m.b.shape(scale);
    Ok(match zero {
        Some(zero) if m.b.shape(zero) == shape => Some(zero),
        Some(zero) if m.b.rank(zero) <= shape.len() => Some(m.b.expand(zero, shape)?),
        Some(zero) => Some(m.b.reshape(zero, shape)?),
        None => None,
    })
}

fn dynamic(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let (q, scale, zero) = dynamically(m, x)?;
    Ok([q, scale, zero].map(Entry::Value).to_vec())
}

/// Eight bits that cover the values' own range, 0 included.
pub(super) fn dynamically(m: &mut Importer<'_>, x: ValueId) -> Result<(ValueId, ValueId, ValueId)> {
    let axes: Vec<usize> = (0..m.b.rank(x)).collect();
    let zero = m.b.number(x, 0.0)?;
    let high = super::reduce::over(m, ReduceKind::Max, x, &axes, false)?;
    let high = m.b.bin(BinaryKind::Max, high, zero)?;
    let low = super::reduce::over(m, ReduceKind::Min, x, &axes, false)?;
    let low = m.b.bin(BinaryKind::Min, low, zero)?;
    let range = m.b.sub(high, low)?;
    let levels = m.b.number(range, 255.0)?;
    let scale = m.b.div(range, levels)?;
    let flat = m.b.cmp_n(crate::ir::ops::CompareKind::Equal, scale, 0.0)?;
    let unit = m.b.number(scale, 1.0)?;
    let scale = m.b.select(flat, unit, scale)?;
    let point = m.b.sub(zero, low)?;
    let point = m.b.div(point, scale)?;
    let point = m.b.un(UnaryKind::Round, point)?;
    let point = m.b.clip(point, 0.0, 255.0)?;
    let point = m.b.to(point, DType::U8)?;
    let q = integer(m, x, scale, point)?;
    Ok((q, scale, point))
}

fn qlinear_matmul(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let values = m.inputs_from(call, 0)?;
    let [a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero] = values[..] else {
        return Err(call.missing("eight inputs").into());
    };
    let rows = m.b.rank(a).saturating_sub(2);
    let a = real(m, a, a_scale, Some(a_zero), rows)?;
    let columns = m.b.rank(b).saturating_sub(1);
    let b = real(m, b, b_scale, Some(b_zero), columns)?;
    let (a, b) = (m.b.to(a, DType::F32)?, m.b.to(b, DType::F32)?);
    let y = super::linear::product(m, a, b)?;
    one(integer(m, y, y_scale, y_zero)?)
}

pub(super) fn qlinear_conv(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, x_scale, x_zero) = (m.input(call, 0)?, m.input(call, 1)?, m.input(call, 2)?);
    let (w, w_scale, w_zero) = (m.input(call, 3)?, m.input(call, 4)?, m.input(call, 5)?);
    let (y_scale, y_zero) = (m.input(call, 6)?, m.input(call, 7)?);
    let bias = m.optional(call, 8)?;
    let x = real(m, x, x_scale, Some(x_zero), 1)?;
    let w = real(m, w, w_scale, Some(w_zero), 0)?;
    // The bias is in units of both scales.
    let bias = match bias {
        Some(bias) => {
            let bias = m.b.to(bias, m.b.dtype(x))?;
            let x_scale = m.b.reshape(x_scale, vec![])?;
            let units = m.b.mul(x_scale, w_scale)?;
            Some(m.b.mul(bias, units)?)
        }
        None => None,
    };
    // ONNX Runtime's variant may have the channels last; the weight is as ever.
    let last = call.flag("channels_last", false)?;
    let x = if last {
        super::conv::channels_first(m, x)?
    } else {
        x
    };
    let y = super::conv::convolve(m, call, x, w, bias)?;
    let y = if last {
        super::conv::channels_last(m, y)?
    } else {
        y
    };
    one(integer(m, y, y_scale, y_zero)?)
}

/// q − zero as `i32`; a vector of zero points runs along `axis`.
pub(super) fn centred(
    m: &mut Importer<'_>,
    q: ValueId,
    zero: Option<ValueId>,
    axis: usize,
) -> Result<ValueId> {
    let rank = m.b.rank(q);
    let q = m.b.to(q, DType::I32)?;
    let Some(zero) = zero else {
        return Ok(q);
    };
    let zero = m.b.to(zero, DType::I32)?;
    let shape = m.b.shape(zero);
    let zero = match shape.as_slice() {
        [n] if n.integer() == Some(1) => m.b.squeeze(zero, &[0])?,
        [_] => {
            let after: Vec<usize> = (1..rank.saturating_sub(axis)).collect();
            m.b.unsqueeze(zero, &after)?
        }
        _ => zero,
    };
    m.b.sub(q, zero)
}

fn matmul_integer(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (a, b) = (m.input(call, 0)?, m.input(call, 1)?);
    let (a_zero, b_zero) = (m.optional(call, 2)?, m.optional(call, 3)?);
    let rows = m.b.rank(a).saturating_sub(2);
    let a = centred(m, a, a_zero, rows)?;
    let columns = m.b.rank(b).saturating_sub(1);
    let b = centred(m, b, b_zero, columns)?;
    one(super::linear::product(m, a, b)?)
}

/// As floats: eight-bit products sum exactly up to 2²⁴.
fn conv_integer(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, w) = (m.input(call, 0)?, m.input(call, 1)?);
    let (x_zero, w_zero) = (m.optional(call, 2)?, m.optional(call, 3)?);
    let x = centred(m, x, x_zero, 1)?;
    let w = centred(m, w, w_zero, 0)?;
    let (x, w) = (m.b.to(x, DType::F32)?, m.b.to(w, DType::F32)?);
    let y = super::conv::convolve(m, call, x, w, None)?;
    one(m.b.to(y, DType::I32)?)
}
