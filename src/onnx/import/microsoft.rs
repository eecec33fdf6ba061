//! Attention as ONNX Runtime's own operators say it: projections inside, masks of several forms, caches, groups of heads.

use super::attention::{
    Heads, attend, bias_of, causal, mask_bias, merge_heads, plus, rotated, split_heads,
};
use super::call::Call;
use super::entry::Entry;
use super::table::{Row, microsoft};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{BinaryKind, CompareKind, Pad, PadMode, ScatterElements, ScatterMode};
use crate::ir::{Dim, Op, ValueId};
use crate::tensor::{DType, num};

pub(super) const ROWS: &[Row] = &[
    microsoft("Attention", attention),
    microsoft("QAttention", quantized_attention),
    microsoft("MultiHeadAttention", multi_head),
    microsoft("GroupQueryAttention", group_query),
    microsoft("RotaryEmbedding", rotary),
];

/// What hides a key that the mask leaves out, unless the node says otherwise.
const FILTER: f32 = -10_000.0;

/// A number of heads.
fn count(call: &mut Call<'_>, name: &str) -> Result<i64> {
    match call.int(name)? {
        Some(n) if n > 0 => Ok(n),
        Some(n) => Err(call.wrong(name, "at least 1", n).into()),
        None => Err(call.missing(&format!("the attribute `{name}`")).into()),
    }
}

/// Refuses an option that is switched on.
fn off(call: &mut Call<'_>, name: &str) -> Result<()> {
    match call.int_or(name, 0)? {
        0 => Ok(()),
        n => Err(call.unsupported(format!("`{name}` {n}")).into()),
    }
}

/// The factor of the scores: the node's own, else one over the root of the head's size.
fn factor(m: &Importer<'_>, call: &mut Call<'_>, q: ValueId) -> Result<f64> {
    match call.float("scale")? {
        Some(scale) if scale != 0.0 => Ok(f64::from(scale)),
        Some(_) | None => {
            let size = m.b.shape(q)[3].known();
            let size = size.ok_or_else(|| call.unsupported("a head of varying size"))?;
            Ok(1.0 / num::f64_of(size).sqrt())
        }
    }
}

/// The mask as something to add: 0 where a key counts, else `filter`. Either a number per key (above 0 where it counts), for each query or for
/// all, or where the keys end `[B]`, or where they end and then where they start `[2·B]`.
fn padding(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    mask: ValueId,
    scores: (&Dim, &Dim),
    filter: f32,
    dtype: DType,
) -> Result<ValueId> {
    let (batch, keys) = scores;
    let shape = m.b.shape(mask);
    let keep = match shape.as_slice() {
        [n] if n == batch || *n == batch.mul(&Dim::from(2)) => {
            let mask = m.b.to(mask, DType::I32)?;
            let j = m.b.iota(DType::I32, keys.clone())?;
            let ends = m.b.part(mask, 0, 0, batch.clone())?;
            let ends = m.b.unsqueeze(ends, &[1, 2, 3])?;
            let before = m.b.cmp(CompareKind::Less, j, ends)?;
            if n == batch {
                before
            } else {
                let starts = m.b.part(mask, 0, batch.clone(), n.clone())?;
                let starts = m.b.unsqueeze(starts, &[1, 2, 3])?;
                let from = m.b.cmp(CompareKind::GreaterEqual, j, starts)?;
                m.b.bin(BinaryKind::And, before, from)?
            }
        }
        [_, last] | [_, _, last] if last.may_equal(keys) => {
            let keep = m.b.cmp_n(CompareKind::Greater, mask, 0.0)?;
            let axes: &[usize] = if shape.len() == 2 { &[1, 2] } else { &[1] };
            m.b.unsqueeze(keep, axes)?
        }
        _ => {
            let expected = format!("[{batch}], [2·{batch}], [{batch}, {keys}] or one per query");
            return Err(call.wrong("the mask", &expected, m.b.ty(mask)).into());
        }
    };
    let zero = m.b.scalar("zero", dtype, 0.0)?;
    let hidden = m.b.scalar("hidden", dtype, f64::from(filter))?;
    m.b.select(keep, zero, hidden)
}

/// Everything that is added to the scores of `q` and `k`: the mask, the order of time, and what the node gives.
fn biases(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    (q, k): (ValueId, ValueId),
    mask: Option<ValueId>,
    extra: Option<ValueId>,
) -> Result<Option<ValueId>> {
    let filter = call.float_or("mask_filter_value", FILTER)?;
    let (queries, keys) = (m.b.shape(q)[2].clone(), m.b.shape(k)[2].clone());
    let (batch, dtype) = (m.b.shape(q)[0].clone(), m.b.dtype(q));
    let mut bias = extra;
    if let Some(mask) = mask {
        let hidden = padding(m, call, mask, (&batch, &keys), filter, dtype)?;
        bias = Some(plus(m, bias, hidden)?);
    }
    if call.flag("unidirectional", false)? {
        let past = keys.sub(&queries);
        let keep = causal(m, &queries, &keys, &past)?;
        let later = bias_of(m, keep, dtype)?;
        bias = Some(plus(m, bias, later)?);
    }
    Ok(bias)
}

/// Projects with one merged matrix, then attends.
fn attention(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, w) = (m.input(call, 0)?, m.input(call, 1)?);
    let bias = m.optional(call, 2)?;
    let mask = m.optional(call, 3)?;
    let past = m.optional(call, 4)?;
    let extra = m.optional(call, 5)?;
    let widths = call.ints("qkv_hidden_sizes")?;
    let mut qkv = m.b.matmul(x, w)?;
    if let Some(bias) = bias {
        qkv = m.b.add(qkv, bias)?;
    }
    projected(m, call, qkv, widths, [mask, past, extra])
}

/// The same on eight-bit numbers: they are dequantised first.
fn quantized_attention(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, w, bias) = (m.input(call, 0)?, m.input(call, 1)?, m.input(call, 2)?);
    let (x_scale, w_scale) = (m.input(call, 3)?, m.input(call, 4)?);
    let mask = m.optional(call, 5)?;
    let (x_zero, w_zero) = (m.optional(call, 6)?, m.optional(call, 7)?);
    let past = m.optional(call, 8)?;
    let x = super::quant::real(m, x, x_scale, x_zero, 0)?;
    let w = super::quant::real(m, w, w_scale, w_zero, 1)?;
    let qkv = m.b.matmul(x, w)?;
    let qkv = m.b.add(qkv, bias)?;
    projected(m, call, qkv, None, [mask, past, None])
}

fn projected(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    qkv: ValueId,
    widths: Option<Vec<i64>>,
    [mask, past, extra]: [Option<ValueId>; 3],
) -> Result<Vec<Entry>> {
    let heads = count(call, "num_heads")?;
    off(call, "do_rotary")?;
    off(call, "past_present_share_buffer")?;
    // It says something only where positions are rotated.
    call.ignore("rotary_embedding_dim");
    m.expect_rank(call, "input", qkv, 3..=3)?;
    let width = m.b.shape(qkv)[2].clone();
    let [hidden, second] = match widths.as_deref() {
        Some(&[q, k, v])
            if q == k && Dim::constant(q.saturating_add(k).saturating_add(v)) == width =>
        {
            [Dim::constant(q), Dim::constant(q.saturating_add(k))]
        }
        Some(other) => {
            let expected = format!("three sizes, two of them equal, that sum to {width}");
            return Err(call
                .wrong("qkv_hidden_sizes", &expected, format!("{other:?}"))
                .into());
        }
        None => {
            let third = width
                .floor_div(&Dim::from(3))
                .filter(|t| t.mul(&Dim::from(3)) == width)
                .ok_or_else(|| call.wrong("weights", "three equal widths", &width))?;
            [third.clone(), third.mul(&Dim::from(2))]
        }
    };
    let q = m.b.part(qkv, 2, 0, hidden.clone())?;
    let k = m.b.part(qkv, 2, hidden, second.clone())?;
    let v = m.b.part(qkv, 2, second, width)?;
    let q = split_heads(m, call, q, heads)?;
    let mut k = split_heads(m, call, k, heads)?;
    let mut v = split_heads(m, call, v, heads)?;
    if let Some(past) = past {
        let half = |m: &mut Importer<'_>, i: usize, new: ValueId| -> Result<ValueId> {
            let old = m.b.part(past, 0, i, i + 1)?;
            let old = m.b.squeeze(old, &[0])?;
            m.b.join(&[old, new], 2)
        };
        k = half(m, 0, k)?;
        v = half(m, 1, v)?;
    }
    let bias = biases(m, call, (q, k), mask, extra)?;
    let scale = factor(m, call, q)?;
    let y = attend(m, &plain(q, k, v, bias, scale))?.result;
    let y = merge_heads(m, y)?;
    if !call.wants(1) {
        return one(y);
    }
    let (k, v) = (m.b.unsqueeze(k, &[0])?, m.b.unsqueeze(v, &[0])?);
    let present = m.b.join(&[k, v], 0)?;
    Ok([y, present].map(Entry::Value).to_vec())
}

/// No cap, no sink, the softmax in the scores' own type.
fn plain(q: ValueId, k: ValueId, v: ValueId, bias: Option<ValueId>, scale: f64) -> Heads {
    Heads {
        q,
        k,
        v,
        bias,
        keep: None,
        scale,
        softcap: 0.0,
        sink: None,
        softmax: None,
    }
}

/// Part `i` of `[B, S, H, parts, D]` as `[B, H, S, D]`.
fn packed(m: &mut Importer<'_>, x: ValueId, i: usize) -> Result<ValueId> {
    let part = m.b.part(x, 3, i, i + 1)?;
    let part = m.b.squeeze(part, &[3])?;
    m.b.transpose(part, &[0, 2, 1, 3])
}

fn multi_head(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let heads = count(call, "num_heads")?;
    let query = m.input(call, 0)?;
    let (key, value) = (m.optional(call, 1)?, m.optional(call, 2)?);
    let bias = m.optional(call, 3)?;
    let mask = m.optional(call, 4)?;
    let extra = m.optional(call, 5)?;
    let (past_k, past_v) = (m.optional(call, 6)?, m.optional(call, 7)?);
    let ranks = [Some(query), key, value].map(|x| x.map(|x| m.b.rank(x)));
    // Each with its part of the bias, before it is split into heads.
    let mut at = Dim::from(0);
    let mut side = |m: &mut Importer<'_>, call: &Call<'_>, x: ValueId| -> Result<ValueId> {
        let mut x = x;
        if let Some(bias) = bias {
            let end = at.add(&m.b.shape(x)[2]);
            let own = m.b.part(bias, 0, at.clone(), end.clone())?;
            at = end;
            x = m.b.add(x, own)?;
        }
        split_heads(m, call, x, heads)
    };
    let (q, mut k, mut v) = match (ranks, key, value) {
        ([Some(3), Some(3), Some(3)], Some(key), Some(value)) => (
            side(m, call, query)?,
            side(m, call, key)?,
            side(m, call, value)?,
        ),
        ([Some(3), Some(4), Some(4)], Some(key), Some(value)) => {
            if bias.is_some() {
                return Err(call.unsupported("`bias` beside keys of rank 4").into());
            }
            (side(m, call, query)?, key, value)
        }
        ([Some(3), Some(5), None], Some(pair), None) if bias.is_none() => (
            side(m, call, query)?,
            packed(m, pair, 0)?,
            packed(m, pair, 1)?,
        ),
        ([Some(5), None, None], None, None) if bias.is_none() => (
            packed(m, query, 0)?,
            packed(m, query, 1)?,
            packed(m, query, 2)?,
        ),
        _ => {
            let found = format!("ranks {ranks:?}, bias {}", bias.is_some());
            return Err(call
                .wrong("query", "query, key and value of rank 3, or packed", found)
                .into());
        }
    };
    if let (Some(past_k), Some(past_v)) = (past_k, past_v) {
        k = m.b.join(&[past_k, k], 2)?;
        v = m.b.join(&[past_v, v], 2)?;
    } else if past_k.is_some() || past_v.is_some() {
        return Err(call.missing("one of `past_key` and `past_value`").into());
    }
    let bias = biases(m, call, (q, k), mask, extra)?;
    let scale = factor(m, call, q)?;
    let attended = attend(m, &plain(q, k, v, bias, scale))?;
    let y = merge_heads(m, attended.result)?;
    Ok([y, k, v, attended.biased].map(Entry::Value).to_vec())
}

/// Where the first new position of each row lies `[B]`: after what is cached; a prompt that is shorter than its padding begins at 0.
fn first_new(m: &mut Importer<'_>, last: ValueId, new: &Dim) -> Result<ValueId> {
    let last = m.b.to(last, DType::I64)?;
    let shift = Dim::from(1).sub(new);
    let shift = super::entry::Dims::scalar(DType::I64, shift);
    let shift = m.dims_value(&shift, "shift")?;
    let first = m.b.add(last, shift)?;
    let zero = m.b.number(first, 0.0)?;
    m.b.bin(BinaryKind::Max, first, zero)
}

/// A cache `[B, G, P, D]` with `new [B, G, S, D]` written from each row's own position `first [B, 1, 1, 1]` on, `length` positions long. ONNX Runtime
/// leaves zeros behind a row's end, whatever the cache held there.
fn cached(
    m: &mut Importer<'_>,
    past: ValueId,
    new: ValueId,
    first: ValueId,
    length: &Dim,
) -> Result<ValueId> {
    let missing = length.sub(&m.b.shape(past)[2]);
    let past = if missing.integer() == Some(0) {
        past
    } else {
        let mut end = vec![Dim::from(0); 4];
        end[2] = missing;
        let op = Pad {
            mode: PadMode::Constant,
            begin: vec![Dim::from(0); 4],
            end,
        };
        let zero = m.b.number(past, 0.0)?;
        m.b.node(Op::Pad(op), &[past, zero])?
    };
    let shape = m.b.shape(new);
    let steps = m.b.iota(DType::I64, shape[2].clone())?;
    let steps = m.b.unsqueeze(steps, &[1])?;
    let places = m.b.add(first, steps)?;
    let count = super::entry::Dims::scalar(DType::I64, shape[2].clone());
    let count = m.dims_value(&count, "new")?;
    let end = m.b.add(first, count)?;
    let places = m.b.expand(places, shape)?;
    let op = Op::ScatterElements(ScatterElements {
        axis: 2,
        mode: ScatterMode::Update,
    });
    let filled = m.b.node(op, &[past, places, new])?;
    let j = m.b.iota(DType::I64, length.clone())?;
    let j = m.b.unsqueeze(j, &[1])?;
    let within = m.b.cmp(CompareKind::Less, j, end)?;
    let zero = m.b.number(filled, 0.0)?;
    m.b.select(within, filled, zero)
}

/// Keys and values of fewer heads than queries, with a cache that each row fills up to its own length.
fn group_query(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (heads, groups) = (count(call, "num_heads")?, count(call, "kv_num_heads")?);
    off(call, "sliding_window_cache")?;
    off(call, "qk_output")?;
    for name in ["k_quant_type", "v_quant_type"] {
        let kind = call.string_or(name, "NONE")?;
        if kind != "NONE" {
            return Err(call.unsupported(format!("`{name}` {kind}")).into());
        }
    }
    // Both say something only beside what is refused here.
    call.ignore("kv_cache_bit_width");
    call.ignore("qk_norm_epsilon");
    let query = m.input(call, 0)?;
    let (q, k, v) = match (m.optional(call, 1)?, m.optional(call, 2)?) {
        (Some(k), Some(v)) => (
            split_heads(m, call, query, heads)?,
            split_heads(m, call, k, groups)?,
            split_heads(m, call, v, groups)?,
        ),
        (None, None) => {
            let all = heads.saturating_add(groups.saturating_mul(2));
            let x = split_heads(m, call, query, all)?;
            let (first, second) = (
                Dim::constant(heads),
                Dim::constant(heads.saturating_add(groups)),
            );
            (
                m.b.part(x, 1, 0, first.clone())?,
                m.b.part(x, 1, first, second.clone())?,
                m.b.part(x, 1, second, Dim::constant(all))?,
            )
        }
        (Some(_), None) | (None, Some(_)) => {
            return Err(call.missing("one of `key` and `value`").into());
        }
    };
    let past = (m.optional(call, 3)?, m.optional(call, 4)?);
    let last = m.input(call, 5)?;
    let total = m.known(call, 6)?.map(|d| d.values);
    let total = match total.as_deref() {
        Some([total]) => total.clone(),
        Some(_) | None => return Err(call.missing("one `total_sequence_length`").into()),
    };
    let tables = (m.optional(call, 7)?, m.optional(call, 8)?);
    let positions = m.optional(call, 9)?;
    let extra = m.optional(call, 10)?;
    let sink = m.optional(call, 11)?;
    let (queries, dtype) = (m.b.shape(q)[2].clone(), m.b.dtype(q));
    let first = first_new(m, last, &queries)?;
    let interleaved = call.flag("rotary_interleaved", false)?;
    let (q, k) = if call.flag("do_rotary", false)? {
        let (Some(cos), Some(sin)) = tables else {
            return Err(call.missing("`cos_cache` and `sin_cache`").into());
        };
        let positions = match positions {
            Some(positions) => positions,
            None => {
                let steps = m.b.iota(DType::I64, queries.clone())?;
                let first = m.b.unsqueeze(first, &[1])?;
                m.b.add(first, steps)?
            }
        };
        let turn = Rotation::of(m, call, (cos, sin), positions, interleaved)?;
        (turn.apply(m, q)?, turn.apply(m, k)?)
    } else {
        (q, k)
    };
    let first = m.b.unsqueeze(first, &[1, 2, 3])?;
    let (k, v) = match past {
        (Some(past_k), Some(past_v)) => {
            m.expect_rank(call, "past_key", past_k, 4..=4)?;
            m.expect_rank(call, "past_value", past_v, 4..=4)?;
            let length = m.bounds.larger(&m.b.shape(past_k)[2], &total);
            (
                cached(m, past_k, k, first, &length)?,
                cached(m, past_v, v, first, &length)?,
            )
        }
        (None, None) => (k, v),
        (Some(_), None) | (None, Some(_)) => {
            return Err(call.missing("one of `past_key` and `past_value`").into());
        }
    };
    let keys = m.b.shape(k)[2].clone();
    let keep = counted(m, call, first, last, (&queries, &keys))?;
    let mut bias = bias_of(m, keep, dtype)?;
    if let Some(extra) = extra {
        let extra = mask_bias(m, extra, &keys, dtype)?;
        bias = m.b.add(extra, bias)?;
    }
    let sink = match (sink, call.int_or("smooth_softmax", 0)? == 1) {
        (Some(sink), _) => Some(sink),
        (None, true) => {
            let zero = m.b.scalar("zero", dtype, 0.0)?;
            Some(m.b.expand(zero, vec![Dim::constant(heads)])?)
        }
        (None, false) => None,
    };
    let softcap = f64::from(call.float_or("softcap", 0.0)?);
    let scale = factor(m, call, q)?;
    let heads = Heads {
        softcap,
        sink,
        ..plain(q, k, v, Some(bias), scale)
    };
    let y = attend(m, &heads)?.result;
    let y = merge_heads(m, y)?;
    Ok([y, k, v].map(Entry::Value).to_vec())
}

/// Which keys each query sees `[B, 1, S, T]`: those up to its own position, at most so many before it, or all that the row has.
fn counted(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    first: ValueId,
    last: ValueId,
    (queries, keys): (&Dim, &Dim),
) -> Result<ValueId> {
    let causal = call.flag("causal", true)?;
    let window = call.int_or("local_window_size", -1)?;
    let j = m.b.iota(DType::I64, keys.clone())?;
    if !causal {
        if window > 0 {
            return Err(call
                .wrong("local_window_size", "-1 where `causal` is 0", window)
                .into());
        }
        let last = m.b.to(last, DType::I64)?;
        let last = m.b.unsqueeze(last, &[1, 2, 3])?;
        return m.b.cmp(CompareKind::LessEqual, j, last);
    }
    let i = m.b.iota(DType::I64, queries.clone())?;
    let i = m.b.unsqueeze(i, &[1])?;
    let own = m.b.add(first, i)?;
    let mut keep = m.b.cmp(CompareKind::LessEqual, j, own)?;
    if window > 0 {
        let oldest = m.b.add_n(own, -num::f64_of_i64(window))?;
        let near = m.b.cmp(CompareKind::Greater, j, oldest)?;
        keep = m.b.bin(BinaryKind::And, keep, near)?;
    }
    Ok(keep)
}

/// Sines and cosines of the positions `[B or 1, 1, S, w]`, and how they turn a head.
struct Rotation {
    cos: ValueId,
    sin: ValueId,
    width: usize,
    interleaved: bool,
}

impl Rotation {
    fn of(
        m: &mut Importer<'_>,
        call: &Call<'_>,
        (cos, sin): (ValueId, ValueId),
        positions: ValueId,
        interleaved: bool,
    ) -> Result<Self> {
        let half = m.b.shape(cos).get(1).and_then(Dim::known);
        let half = half.ok_or_else(|| call.wrong("cos_cache", "a matrix", m.b.ty(cos)))?;
        let cos = m.b.gather(cos, positions, 0)?;
        let sin = m.b.gather(sin, positions, 0)?;
        Ok(Rotation {
            cos: m.b.unsqueeze(cos, &[1])?,
            sin: m.b.unsqueeze(sin, &[1])?,
            width: half.saturating_mul(2),
            interleaved,
        })
    }

    fn apply(&self, m: &mut Importer<'_>, x: ValueId) -> Result<ValueId> {
        rotated(m, x, self.cos, self.sin, self.width, self.interleaved)
    }
}

/// Heads turned by the angles of their positions; one position stands for the first, from which they count on.
fn rotary(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, positions) = (m.input(call, 0)?, m.input(call, 1)?);
    let (cos, sin) = (m.input(call, 2)?, m.input(call, 3)?);
    let interleaved = call.flag("interleaved", false)?;
    let (heads, width) = (
        call.int_or("num_heads", 0)?,
        call.int_or("rotary_embedding_dim", 0)?,
    );
    off(call, "is_packed_batching")?;
    let scale = call.float_or("scale", 1.0)?;
    if scale.to_bits() != 1f32.to_bits() {
        return Err(call.unsupported(format!("`scale` {scale}")).into());
    }
    let shape = m.b.shape(x);
    let flat = shape.len() == 3;
    let x = if flat {
        let heads = if heads > 0 {
            Some(heads)
        } else {
            // A head is as wide as its angles.
            let half = m.b.shape(cos).get(1).and_then(Dim::known);
            let both = half.map(|h| h.saturating_mul(2)).filter(|&h| h > 0);
            let wide = shape[2].known();
            wide.zip(both).map(|(wide, both)| num::i64_of(wide / both))
        };
        let heads = heads.ok_or_else(|| call.missing("the attribute `num_heads`"))?;
        split_heads(m, call, x, heads)?
    } else {
        x
    };
    m.expect_rank(call, "input", x, 4..=4)?;
    let positions = if m.b.rank(positions) == 1 {
        let steps = m.b.iota(DType::I64, m.b.shape(x)[2].clone())?;
        let places = m.b.add(positions, steps)?;
        m.b.unsqueeze(places, &[0])?
    } else {
        positions
    };
    let turn = Rotation::of(m, call, (cos, sin), positions, interleaved)?;
    if width != 0 && num::i64_of(turn.width) != width {
        return Err(call
            .wrong("rotary_embedding_dim", &turn.width.to_string(), width)
            .into());
    }
    let y = turn.apply(m, x)?;
    one(if flat { merge_heads(m, y)? } else { y })
}
