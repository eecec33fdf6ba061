//! Attention and rotary positions.

use super::Importer;
use super::call::Call;
use super::entry::{Dims, Entry};
use super::table::{Row, row};
use super::tensors::element_type;
use crate::error::Result;
use crate::ir::ops::{BinaryKind, CompareKind, Pad, PadMode, Slice, SliceRange, UnaryKind};
use crate::ir::{Dim, Op, ValueId};
use crate::tensor::{DType, Tensor, num};

pub(super) const ROWS: &[Row] = &[
    row("Attention", 23, attention),
    row("RotaryEmbedding", 23, rotary),
];

/// What is attended to and how, in the form that every variant is brought to.
pub(super) struct Heads {
    /// `[B, H, S, D]`
    pub(super) q: ValueId,
    /// `[B, G, T, D]`
    pub(super) k: ValueId,
    /// `[B, G, T, E]`
    pub(super) v: ValueId,
    /// Added to the scores: broadcasts with `[B, H, S, T]`.
    pub(super) bias: Option<ValueId>,
    /// What may be seen at all, where a query may have nothing to see: its result is 0 then.
    pub(super) keep: Option<ValueId>,
    /// Factor of the scores.
    pub(super) scale: f64,
    /// `c · tanh(scores / c)` before the bias, if not 0.
    pub(super) softcap: f64,
    /// One more score per head `[H]`, which takes its share of the softmax and has no value.
    pub(super) sink: Option<ValueId>,
    /// Element type of the softmax.
    pub(super) softmax: Option<DType>,
}

/// The scores at each stage, and the result `[B, H, S, E]`.
pub(super) struct Attended {
    pub(super) scores: ValueId,
    pub(super) capped: ValueId,
    pub(super) biased: ValueId,
    pub(super) weights: ValueId,
    pub(super) result: ValueId,
}

/// Softmax(q · kᵀ · scale + bias) · v, every head of k and v serving as many of q as there are more.
pub(super) fn attend(m: &mut Importer<'_>, heads: &Heads) -> Result<Attended> {
    let (many, few) = (m.b.shape(heads.q)[1].clone(), m.b.shape(heads.k)[1].clone());
    let (mut k, mut v) = (heads.k, heads.v);
    if many != few {
        let each = many
            .floor_div(&few)
            .filter(|e| e.mul(&few) == many)
            .unwrap_or_else(|| Dim::from(1));
        k = repeat(m, k, &each)?;
        v = repeat(m, v, &each)?;
    }
    // Half of the scale on either side, as the operator is defined.
    let root = heads.scale.sqrt();
    let q = m.b.mul_n(heads.q, root)?;
    let k = m.b.mul_n(k, root)?;
    let scores = m.b.matmul_t(q, k)?;
    let capped = capped(m, scores, heads.softcap)?;
    let biased = match heads.bias {
        Some(bias) => m.b.add(capped, bias)?,
        None => capped,
    };
    let dtype = m.b.dtype(biased);
    let wide = m.b.to(biased, heads.softmax.unwrap_or(dtype))?;
    let weights = match heads.sink {
        Some(sink) => softmax_with_sink(m, wide, sink)?,
        None => m.b.softmax(wide, 3)?,
    };
    let mut weights = m.b.to(weights, dtype)?;
    if let Some(keep) = heads.keep {
        let zero = m.b.number(weights, 0.0)?;
        weights = m.b.select(keep, weights, zero)?;
    }
    let result = m.b.matmul(weights, v)?;
    Ok(Attended {
        scores,
        capped,
        biased,
        weights,
        result,
    })
}

/// `c · tanh(scores / c)`, if `c` is not 0.
fn capped(m: &mut Importer<'_>, scores: ValueId, softcap: f64) -> Result<ValueId> {
    if softcap <= 0.0 {
        return Ok(scores);
    }
    let y = m.b.mul_n(scores, 1.0 / softcap)?;
    let y = m.b.un(UnaryKind::Tanh, y)?;
    m.b.mul_n(y, softcap)
}

/// The softmax of the scores `[B, H, S, T]` with one more score per head, whose weight is left out.
fn softmax_with_sink(m: &mut Importer<'_>, scores: ValueId, sink: ValueId) -> Result<ValueId> {
    let shape = m.b.shape(scores);
    let sink = m.b.to(sink, m.b.dtype(scores))?;
    let sink = m.b.unsqueeze(sink, &[0, 2, 3])?;
    let mut column = shape.clone();
    column[3] = Dim::from(1);
    let sink = m.b.expand(sink, column)?;
    let all = m.b.join(&[scores, sink], 3)?;
    let weights = m.b.softmax(all, 3)?;
    m.b.part(weights, 3, 0, shape[3].clone())
}

/// Every head `each` times in a row.
pub(super) fn repeat(m: &mut Importer<'_>, x: ValueId, each: &Dim) -> Result<ValueId> {
    let shape = m.b.shape(x);
    let wide = m.b.unsqueeze(x, &[2])?;
    let mut target = m.b.shape(wide);
    target[2] = each.clone();
    let wide = m.b.expand(wide, target)?;
    let flat = vec![
        shape[0].clone(),
        shape[1].mul(each),
        shape[2].clone(),
        shape[3].clone(),
    ];
    m.b.reshape(wide, flat)
}

/// `[B, S, H·D]` → `[B, H, S, D]`
pub(super) fn split_heads(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    x: ValueId,
    heads: i64,
) -> Result<ValueId> {
    m.expect_rank(call, "an input whose heads lie side by side", x, 3..=3)?;
    let shape = m.b.shape(x);
    let heads = Dim::constant(heads);
    let size = shape[2]
        .floor_div(&heads)
        .filter(|d| d.mul(&heads) == shape[2])
        .ok_or_else(|| call.wrong("heads", "a divisor of the width", &heads))?;
    let x =
        m.b.reshape(x, vec![shape[0].clone(), shape[1].clone(), heads, size])?;
    m.b.transpose(x, &[0, 2, 1, 3])
}

/// `[B, H, S, D]` → `[B, S, H·D]`
pub(super) fn merge_heads(m: &mut Importer<'_>, x: ValueId) -> Result<ValueId> {
    let x = m.b.transpose(x, &[0, 2, 1, 3])?;
    let shape = m.b.shape(x);
    m.b.reshape(
        x,
        vec![shape[0].clone(), shape[1].clone(), shape[2].mul(&shape[3])],
    )
}

/// 0 where a truth value holds, else −∞ (or the lowest number), of the element type of `like`.
pub(super) fn bias_of(m: &mut Importer<'_>, keep: ValueId, dtype: DType) -> Result<ValueId> {
    let zero = m.b.scalar("zero", dtype, 0.0)?;
    let never = Tensor::f32(vec![], vec![f32::NEG_INFINITY])?.cast(dtype);
    let never = m.b.tensor("never", &never)?;
    m.b.select(keep, zero, never)
}

/// Whether position `past + i` is at or after `j`, as `[S, T]`.
pub(super) fn causal(
    m: &mut Importer<'_>,
    queries: &Dim,
    keys: &Dim,
    past: &Dim,
) -> Result<ValueId> {
    let i = m.b.iota(DType::I32, queries.clone())?;
    let past = m.dims_value(&Dims::scalar(DType::I32, past.clone()), "past")?;
    let i = m.b.add(i, past)?;
    let i = m.b.unsqueeze(i, &[1])?;
    let j = m.b.iota(DType::I32, keys.clone())?;
    m.b.cmp(CompareKind::GreaterEqual, i, j)
}

fn attention(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (q, k, v) = (m.input(call, 0)?, m.input(call, 1)?, m.input(call, 2)?);
    let mask = m.optional(call, 3)?;
    let (past_k, past_v) = (m.optional(call, 4)?, m.optional(call, 5)?);
    let lengths = m.optional(call, 6)?;
    let is_causal = call.flag("is_causal", false)?;
    let (q_heads, kv_heads) = (call.int("q_num_heads")?, call.int("kv_num_heads")?);
    let scale = call.float("scale")?;
    let softcap = f64::from(call.float_or("softcap", 0.0)?);
    let precision = match call.int("softmax_precision")? {
        Some(n) => Some(element_type(i32::try_from(n).unwrap_or_default())?.0),
        None => None,
    };
    let mode = call.int_or("qk_matmul_output_mode", 0)?;
    let flat = m.b.rank(q) == 3;
    let (q, k, v) = if flat {
        let (Some(h), Some(g)) = (q_heads, kv_heads) else {
            return Err(call.missing("`q_num_heads` and `kv_num_heads`").into());
        };
        (
            split_heads(m, call, q, h)?,
            split_heads(m, call, k, g)?,
            split_heads(m, call, v, g)?,
        )
    } else {
        (q, k, v)
    };
    for (name, x) in ["Q", "K", "V"].into_iter().zip([q, k, v]) {
        m.expect_rank(call, name, x, 4..=4)?;
    }
    let mut past = Dim::from(0);
    let mut k = k;
    let mut v = v;
    if let Some(past_k) = past_k {
        m.expect_rank(call, "past_key", past_k, 4..=4)?;
        past = m.b.shape(past_k)[2].clone();
        k = m.b.join(&[past_k, k], 2)?;
    }
    if let Some(past_v) = past_v {
        v = m.b.join(&[past_v, v], 2)?;
    }
    let dtype = m.b.dtype(q);
    let (queries, keys) = (m.b.shape(q)[2].clone(), m.b.shape(k)[2].clone());
    let mut bias = match mask {
        Some(mask) => Some(mask_bias(m, mask, &keys, dtype)?),
        None => None,
    };
    let lengths = match lengths {
        Some(lengths) => Some(m.b.unsqueeze(lengths, &[1, 2, 3])?),
        None => None,
    };
    if is_causal {
        let keep = match lengths {
            // The queries are the last of each sample's own positions.
            Some(lengths) => {
                let i = m.b.iota(DType::I64, queries.clone())?;
                let i = m.b.unsqueeze(i, &[1])?;
                let shift = Dims::scalar(DType::I64, Dim::from(0).sub(&queries));
                let shift = m.dims_value(&shift, "shift")?;
                let first = m.b.add(lengths, shift)?;
                let last = m.b.add(first, i)?;
                let j = m.b.iota(DType::I64, keys.clone())?;
                m.b.cmp(CompareKind::GreaterEqual, last, j)?
            }
            None => causal(m, &queries, &keys, &past)?,
        };
        let extra = bias_of(m, keep, dtype)?;
        bias = Some(plus(m, bias, extra)?);
    }
    if let Some(lengths) = lengths {
        let j = m.b.iota(DType::I64, keys)?;
        let keep = m.b.cmp(CompareKind::Less, j, lengths)?;
        let extra = bias_of(m, keep, dtype)?;
        bias = Some(plus(m, bias, extra)?);
    }
    let masked = mask.is_some_and(|mask| m.b.dtype(mask) == DType::Bool);
    let keep = match bias.filter(|_| masked || lengths.is_some()) {
        Some(bias) => Some(m.b.cmp_n(CompareKind::Greater, bias, f64::NEG_INFINITY)?),
        None => None,
    };
    let scale = match scale {
        Some(scale) => f64::from(scale),
        None => {
            let size = m.b.shape(q)[3].known();
            let size = size.ok_or_else(|| call.unsupported("a head of varying size"))?;
            1.0 / num::f64_of(size).sqrt()
        }
    };
    let heads = Heads {
        q,
        k,
        v,
        bias,
        keep,
        scale,
        softcap,
        sink: None,
        softmax: precision,
    };
    let attended = attend(m, &heads)?;
    let y = if flat {
        merge_heads(m, attended.result)?
    } else {
        attended.result
    };
    let stage = match mode {
        0 => attended.scores,
        1 => attended.capped,
        2 => attended.biased,
        3 => attended.weights,
        other => return Err(call.wrong("qk_matmul_output_mode", "0 to 3", other).into()),
    };
    Ok([y, k, v, stage].map(Entry::Value).to_vec())
}

/// A mask as something to add; a shorter one hides the keys beyond it.
pub(super) fn mask_bias(
    m: &mut Importer<'_>,
    mask: ValueId,
    keys: &Dim,
    dtype: DType,
) -> Result<ValueId> {
    let bias = if m.b.dtype(mask) == DType::Bool {
        bias_of(m, mask, dtype)?
    } else {
        m.b.to(mask, dtype)?
    };
    let shape = m.b.shape(bias);
    let length = shape.last().cloned().unwrap_or_else(|| Dim::from(1));
    let missing = keys.sub(&length);
    if missing.integer().is_none_or(|n| n <= 0) || length.integer() == Some(1) {
        return Ok(bias);
    }
    let mut end = vec![Dim::from(0); shape.len()];
    end[shape.len() - 1] = missing;
    let never = Tensor::f32(vec![], vec![f32::NEG_INFINITY])?.cast(dtype);
    let never = m.b.tensor("never", &never)?;
    let op = Pad {
        mode: PadMode::Constant,
        begin: vec![Dim::from(0); shape.len()],
        end,
    };
    m.b.node(Op::Pad(op), &[bias, never])
}

/// The sum of biases.
pub(super) fn plus(m: &mut Importer<'_>, bias: Option<ValueId>, extra: ValueId) -> Result<ValueId> {
    match bias {
        Some(bias) => m.b.bin(BinaryKind::Add, bias, extra),
        None => Ok(extra),
    }
}

/// Every second element of the last axis, from `first` on.
fn every_second(m: &mut Importer<'_>, x: ValueId, first: usize) -> Result<ValueId> {
    let shape = m.b.shape(x);
    let range = SliceRange {
        axis: shape.len() - 1,
        start: Dim::from(first),
        end: shape[shape.len() - 1].clone(),
        step: 2,
    };
    m.b.node(
        Op::Slice(Slice {
            ranges: vec![range],
        }),
        &[x],
    )
}

/// Rotates the first `width` elements of the last axis of `x [B, H, S, D]` by tables `[B or 1, 1, S, width/2]`.
pub(super) fn rotated(
    m: &mut Importer<'_>,
    x: ValueId,
    cos: ValueId,
    sin: ValueId,
    width: usize,
    interleaved: bool,
) -> Result<ValueId> {
    let shape = m.b.shape(x);
    let last = shape.len() - 1;
    let turning = m.b.part(x, last, 0, width)?;
    let (a, b) = if interleaved {
        (every_second(m, turning, 0)?, every_second(m, turning, 1)?)
    } else {
        (
            m.b.part(turning, last, 0, width / 2)?,
            m.b.part(turning, last, width / 2, width)?,
        )
    };
    let (ac, bs) = (m.b.mul(a, cos)?, m.b.mul(b, sin)?);
    let (as_, bc) = (m.b.mul(a, sin)?, m.b.mul(b, cos)?);
    let real = m.b.sub(ac, bs)?;
    let imaginary = m.b.add(as_, bc)?;
    let turned = if interleaved {
        let real = m.b.unsqueeze(real, &[last + 1])?;
        let imaginary = m.b.unsqueeze(imaginary, &[last + 1])?;
        let pairs = m.b.join(&[real, imaginary], last + 1)?;
        let mut flat = shape.clone();
        flat[last] = Dim::from(width);
        m.b.reshape(pairs, flat)?
    } else {
        m.b.join(&[real, imaginary], last)?
    };
    if shape[last].known() == Some(width) {
        return Ok(turned);
    }
    let rest = m.b.part(x, last, width, shape[last].clone())?;
    m.b.join(&[turned, rest], last)
}

fn rotary(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let (cos, sin) = (m.input(call, 1)?, m.input(call, 2)?);
    let positions = m.optional(call, 3)?;
    let interleaved = call.flag("interleaved", false)?;
    let heads = call.int_or("num_heads", 0)?;
    let width = call.int_or("rotary_embedding_dim", 0)?;
    let flat = m.b.rank(x) == 3;
    let x = if flat {
        split_heads(m, call, x, heads)?
    } else {
        x
    };
    m.expect_rank(call, "X", x, 4..=4)?;
    let size = m.b.shape(x)[3].known();
    let width = match usize::try_from(width) {
        Ok(0) | Err(_) => size,
        Ok(n) => Some(n),
    };
    let width = width.ok_or_else(|| call.unsupported("a head of varying size"))?;
    let table = |m: &mut Importer<'_>, t: ValueId| -> Result<ValueId> {
        let t = match positions {
            Some(positions) => m.b.gather(t, positions, 0)?,
            None => t,
        };
        // [B, S, w] → [B, 1, S, w]
        m.b.unsqueeze(t, &[1])
    };
    let cos = table(m, cos)?;
    let sin = table(m, sin)?;
    let y = rotated(m, x, cos, sin, width, interleaved)?;
    let y = if flat { merge_heads(m, y)? } else { y };
    Ok(vec![Entry::Value(y)])
}
