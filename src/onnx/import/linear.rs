//! Matrix products.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, microsoft, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{Dequantize, Granularity, MatMul};
use crate::ir::{Constant, Op, ValueId};
use crate::limits;
use crate::tensor::{DType, Tensor, num};

pub(super) const ROWS: &[Row] = &[
    row("MatMul", 1, matmul),
    row("Gemm", 7, gemm),
    row("Det", 11, determinant),
    microsoft("FusedMatMul", fused_matmul),
    microsoft("TransposeMatMul", fused_matmul),
    microsoft("FusedGemm", fused_gemm),
    microsoft("MatMulNBits", packed_matmul),
];

fn matmul(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (a, b) = (m.input(call, 0)?, m.input(call, 1)?);
    one(product(m, a, b)?)
}

/// NumPy's product: vectors count as a row or a column, which the result loses again.
pub(super) fn product(m: &mut Importer<'_>, a: ValueId, b: ValueId) -> Result<ValueId> {
    let (ra, rb) = (m.b.rank(a), m.b.rank(b));
    let a = if ra == 1 { m.b.unsqueeze(a, &[0])? } else { a };
    let b = if rb == 1 { m.b.unsqueeze(b, &[1])? } else { b };
    let y = m.b.matmul(a, b)?;
    let rank = m.b.rank(y);
    let mut gone = Vec::new();
    if ra == 1 {
        gone.push(rank - 2);
    }
    if rb == 1 {
        gone.push(rank - 1);
    }
    m.b.squeeze(y, &gone)
}

fn gemm(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (a, b) = (m.input(call, 0)?, m.input(call, 1)?);
    let c = m.optional(call, 2)?;
    let op = MatMul {
        transpose_a: call.flag("transA", false)?,
        transpose_b: call.flag("transB", false)?,
    };
    let (alpha, beta) = (call.float_or("alpha", 1.0)?, call.float_or("beta", 1.0)?);
    if m.b.rank(a) != 2 || m.b.rank(b) != 2 {
        return Err(call
            .wrong(
                "A",
                "two matrices",
                format!("{} and {}", m.b.ty(a), m.b.ty(b)),
            )
            .into());
    }
    let plain = alpha.to_bits() == 1f32.to_bits() && beta.to_bits() == 1f32.to_bits();
    // The common case is the IR's own layer.
    if plain
        && op.transpose_b
        && !op.transpose_a
        && m.b.dtype(a).is_float()
        && let Some(c) = c
        && m.b.shape(c) == vec![m.b.shape(b)[0].clone()]
    {
        return one(m.b.node(Op::Linear(crate::ir::ops::Linear), &[a, b, c])?);
    }
    let mut y = m.b.node(Op::MatMul(op), &[a, b])?;
    if alpha.to_bits() != 1f32.to_bits() {
        y = m.b.mul_n(y, f64::from(alpha))?;
    }
    if let Some(mut c) = c.filter(|_| beta != 0.0) {
        if beta.to_bits() != 1f32.to_bits() {
            c = m.b.mul_n(c, f64::from(beta))?;
        }
        y = m.b.add(y, c)?;
    }
    one(y)
}

/// The axes before the last, the first of them put after the others, swapped with the last where `swapped`.
fn turned(m: &mut Importer<'_>, x: ValueId, batch: bool, swapped: bool) -> Result<ValueId> {
    let rank = m.b.rank(x);
    let mut perm: Vec<usize> = (0..rank).collect();
    if batch && rank > 2 {
        perm[..rank - 1].rotate_left(1);
    }
    if swapped && rank > 1 {
        perm.swap(rank - 2, rank - 1);
    }
    m.b.transpose(x, &perm)
}

/// NumPy's product of operands whose axes are turned first, times a factor.
fn fused_matmul(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (a, b) = (m.input(call, 0)?, m.input(call, 1)?);
    let batch_a = call.flag("transBatchA", false)?;
    let batch_b = call.flag("transBatchB", false)?;
    let (trans_a, trans_b) = (call.flag("transA", false)?, call.flag("transB", false)?);
    let alpha = call.float_or("alpha", 1.0)?;
    let y = if m.b.rank(a) > 1 && m.b.rank(b) > 1 {
        let a = turned(m, a, batch_a, false)?;
        let b = turned(m, b, batch_b, false)?;
        let op = MatMul {
            transpose_a: trans_a,
            transpose_b: trans_b,
        };
        m.b.node(Op::MatMul(op), &[a, b])?
    } else {
        let a = turned(m, a, batch_a, trans_a)?;
        let b = turned(m, b, batch_b, trans_b)?;
        product(m, a, b)?
    };
    if alpha.to_bits() == 1f32.to_bits() {
        return one(y);
    }
    one(m.b.mul_n(y, f64::from(alpha))?)
}

fn fused_gemm(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let y = gemm(m, call)?;
    let Some(name) = call.string("activation")? else {
        return Ok(y);
    };
    let mut parameters = Vec::new();
    for name in ["activation_alpha", "activation_beta", "activation_gamma"] {
        parameters.extend(call.float(name)?);
    }
    let [Entry::Value(y)] = y[..] else {
        return Err(call.missing("a product").into());
    };
    one(super::activation::named(m, call, y, &name, &parameters)?)
}

/// A weight of 2, 4 or 8 bits, whose blocks along K have scales and zero points of their own. It stays packed.
fn packed_matmul(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let a = m.input(call, 0)?;
    let entry = call.required(1)?;
    let scale = m.input(call, 2)?;
    let zero_entry = call.entry(3);
    let groups = m.tensor(call, 4)?;
    let bias = m.optional(call, 5)?;
    // A promise about precision; nothing is rounded here.
    call.ignore("accuracy_level");
    if call.int_or("weight_prepacked", 0)? != 0 {
        return Err(call.unsupported("`weight_prepacked`").into());
    }
    let size = |call: &mut Call<'_>, name: &str| -> Result<usize> {
        let n = call.int(name)?.unwrap_or_default();
        usize::try_from(n)
            .ok()
            .filter(|&n| n > 0 && num::u64_of(n) < crate::limits::DIMENSION)
            .ok_or_else(|| call.wrong(name, "at least 1", n).into())
    };
    let (k, n, block) = (
        size(call, "K")?,
        size(call, "N")?,
        size(call, "block_size")?,
    );
    let bits = match call.int_or("bits", 4)? {
        2 => 2,
        4 => 4,
        8 => 8,
        other => return Err(call.wrong("bits", "2, 4 or 8", other).into()),
    };
    if !block.is_power_of_two() || block < 16 {
        return Err(call
            .wrong("block_size", "a power of two from 16 on", block)
            .into());
    }
    let blocks = k.div_ceil(block);
    let stored = m
        .constant(&entry)
        .ok_or_else(|| m.not_constant(call, 1, &entry))?;
    let bytes = n
        .saturating_mul(blocks)
        .saturating_mul(block.saturating_mul(bits) / 8);
    if stored.dtype() != DType::U8 || stored.len() != bytes {
        let expected = format!("{bytes} packed bytes");
        return Err(call.wrong("B", &expected, m.describe(&entry)).into());
    }
    let dtype = match bits {
        2 => DType::U2,
        4 => DType::U4,
        _ => DType::U8,
    };
    let shape = vec![n, blocks * block];
    // Bytes that the file holds as they are can be read as narrower elements, first bits first.
    let region = if stored.transforms().is_empty() {
        stored.region().clone()
    } else {
        crate::tensor::Region::Inline(stored.read()?.to_le_bytes().into())
    };
    let packed = Constant::from_region(stored.name(), dtype, shape, region)?;
    // Neither target has elements of 2 bits.
    let packed = if bits == 2 {
        packed.cast(DType::U4)
    } else {
        packed
    };
    let q = m.b.constant(packed);
    let scale = m.b.reshape(scale, vec![n.into(), blocks.into()])?;
    if groups.is_some() && zero_entry.is_some() {
        // ONNX Runtime itself forgets the zero points then.
        return Err(call.unsupported("`g_idx` beside `zero_points`").into());
    }
    let zero = match zero_entry {
        None => {
            let middle = 1i64 << (bits - 1);
            let zeros = Tensor::int(m.b.dtype(q), vec![n, blocks], vec![middle; n * blocks])?;
            Zeros::Same(m.b.tensor("zero_points", &zeros)?)
        }
        Some(entry) => zero_points(m, call, &entry, (n, blocks), bits, m.b.dtype(q))?,
    };
    let weight = match (groups, zero) {
        (None, Zeros::Same(zero)) => blockwise(m, q, scale, Some(zero))?,
        (None, Zeros::Float(zero)) => {
            // (q − z) · s = q · s − z · s, the second per block.
            let plain = blockwise(m, q, scale, None)?;
            let shift = m.b.mul(zero, scale)?;
            let shift = repeated(m, shift, block)?;
            m.b.sub(plain, shift)?
        }
        (Some(groups), Zeros::Same(zero) | Zeros::Float(zero)) => {
            grouped(m, call, q, (scale, zero), &groups, k)?
        }
    };
    let weight = m.b.part(weight, 1, 0, k)?;
    let mut y = m.b.matmul_t(a, weight)?;
    if let Some(bias) = bias {
        y = m.b.add(y, bias)?;
    }
    one(y)
}

/// Zero points of the weight's type, or floats.
enum Zeros {
    Same(ValueId),
    Float(ValueId),
}

fn zero_points(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    entry: &Entry,
    (n, blocks): (usize, usize),
    bits: usize,
    dtype: DType,
) -> Result<Zeros> {
    let constant = m.constant(entry);
    let constant = constant.ok_or_else(|| m.not_constant(call, 3, entry))?;
    if constant.dtype().is_float() {
        let zero = m.b.constant(constant.reshape(vec![n, blocks])?);
        return Ok(Zeros::Float(zero));
    }
    // Every row begins with a byte of its own.
    let row = (blocks * bits).div_ceil(8);
    if constant.dtype() != DType::U8 || constant.len() != n * row {
        let expected = format!("{} packed bytes", n * row);
        return Err(call
            .wrong("zero_points", &expected, m.describe(entry))
            .into());
    }
    let bytes = constant.read()?;
    let bytes = bytes.ints()?;
    let mut values = Vec::with_capacity(n * blocks);
    for row in bytes.chunks(row.max(1)) {
        for i in 0..blocks {
            let byte = row.get(i * bits / 8).copied().unwrap_or_default();
            values.push((byte >> (i * bits % 8)) & ((1 << bits) - 1));
        }
    }
    let zeros = Tensor::int(dtype, vec![n, blocks], values)?;
    Ok(Zeros::Same(m.b.tensor("zero_points", &zeros)?))
}

fn blockwise(
    m: &mut Importer<'_>,
    q: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
) -> Result<ValueId> {
    let granularity = Granularity::Block;
    let mut operands = vec![q, scale];
    operands.extend(zero);
    m.b.node(Op::Dequantize(Dequantize { granularity }), &operands)
}

/// Every column `each` times in a row.
fn repeated(m: &mut Importer<'_>, x: ValueId, each: usize) -> Result<ValueId> {
    let shape = m.b.shape(x);
    let wide = m.b.unsqueeze(x, &[2])?;
    let wide =
        m.b.expand(wide, vec![shape[0].clone(), shape[1].clone(), each.into()])?;
    m.b.reshape(wide, vec![shape[0].clone(), shape[1].mul(&each.into())])
}

/// The weight where every column says which block's scale is its own.
fn grouped(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    q: ValueId,
    (scale, zero): (ValueId, ValueId),
    groups: &Tensor,
    k: usize,
) -> Result<ValueId> {
    let columns: Vec<i64> = groups.ints()?.iter().take(k).copied().collect();
    if columns.len() != k {
        return Err(call
            .wrong("g_idx", &format!("{k} numbers"), groups.len())
            .into());
    }
    let columns = m.b.longs(&columns)?;
    let dtype = m.b.dtype(scale);
    let q = m.b.part(q, 1, 0, k)?;
    let q = m.b.to(q, dtype)?;
    let zero = m.b.to(zero, dtype)?;
    let zero = m.b.gather(zero, columns, 1)?;
    let scale = m.b.gather(scale, columns, 1)?;
    let centred = m.b.sub(q, zero)?;
    m.b.mul(centred, scale)
}

fn determinant(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let shape = m.b.shape(x);
    let size = match shape.as_slice() {
        [.., rows, columns] if rows == columns => rows.known(),
        _ => return Err(call.wrong("X", "square matrices", m.b.ty(x)).into()),
    };
    let size = size
        .filter(|&n| n > 0 && n <= limits::DETERMINANT_ROWS)
        .ok_or_else(|| {
            call.unsupported(format!(
                "matrices of {} rows (1 to {} are read)",
                shape[shape.len() - 1],
                limits::DETERMINANT_ROWS
            ))
        })?;
    let columns: Vec<usize> = (0..size).collect();
    one(expanded(m, x, 0, &columns)?)
}

/// The determinant of the rows from `row` on and some columns, by the first row's elements and what is left without them.
fn expanded(m: &mut Importer<'_>, x: ValueId, row: usize, columns: &[usize]) -> Result<ValueId> {
    let rank = m.b.rank(x);
    let mut sum: Option<ValueId> = None;
    for (i, &column) in columns.iter().enumerate() {
        let element = m.b.part(x, rank - 2, row, row + 1)?;
        let element = m.b.part(element, rank - 1, column, column + 1)?;
        let element = m.b.squeeze(element, &[rank - 2, rank - 1])?;
        let rest: Vec<usize> = columns.iter().copied().filter(|&c| c != column).collect();
        let term = if rest.is_empty() {
            element
        } else {
            let minor = expanded(m, x, row + 1, &rest)?;
            m.b.mul(element, minor)?
        };
        sum = Some(match sum {
            None => term,
            Some(sum) if i % 2 == 1 => m.b.sub(sum, term)?,
            Some(sum) => m.b.add(sum, term)?,
        });
    }
    Ok(sum.unwrap_or(x))
}
