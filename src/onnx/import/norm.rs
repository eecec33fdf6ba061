//! Normalisation.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, microsoft, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{BatchNorm, InstanceNorm, LayerNorm, Lrn, ReduceKind, RmsNorm, UnaryKind};
use crate::ir::{Dim, Op, ValueId, normalize_axis};
use crate::tensor::DType;

pub(super) const ROWS: &[Row] = &[
    row("LayerNormalization", 17, layer),
    row("RMSNormalization", 23, rms),
    row("MeanVarianceNormalization", 9, mean_variance),
    row("LpNormalization", 1, lp),
    row("BatchNormalization", 7, batch),
    row("InstanceNormalization", 6, instance),
    row("GroupNormalization", 18, group),
    row("LRN", 1, lrn),
    microsoft("SkipLayerNormalization", |m, c| skip(m, c, true)),
    microsoft("SkipSimplifiedLayerNormalization", |m, c| skip(m, c, false)),
    microsoft("LayerNormalization", layer),
    microsoft("SimplifiedLayerNormalization", rms),
    row("SimplifiedLayerNormalization", 1, rms),
    microsoft("EmbedLayerNormalization", embed),
];

/// Gamma or beta as the normalised axes have it.
fn fits(m: &Importer<'_>, x: ValueId, axis: usize, parameter: Option<ValueId>) -> bool {
    parameter.is_none_or(|p| m.b.shape(p) == m.b.shape(x)[axis..] && m.b.dtype(p) == m.b.dtype(x))
}

fn layer(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let gamma = m.input(call, 1)?;
    let beta = m.optional(call, 2)?;
    let axis = normalize_axis(call.int_or("axis", -1)?, m.b.rank(x))?;
    let epsilon = f64::from(call.float_or("epsilon", 1e-5)?);
    call.ignore("stash_type");
    let y = layer_norm(m, x, Some(gamma), beta, axis, epsilon)?;
    if !call.wants(1) && !call.wants(2) {
        return one(y);
    }
    let (mean, inverse) = moments(m, x, axis, epsilon)?;
    Ok(vec![
        Entry::Value(y),
        Entry::Value(mean),
        Entry::Value(inverse),
    ])
}

/// Layer normalisation with parameters of any shape that broadcasts.
pub(super) fn layer_norm(
    m: &mut Importer<'_>,
    x: ValueId,
    gamma: Option<ValueId>,
    beta: Option<ValueId>,
    axis: usize,
    epsilon: f64,
) -> Result<ValueId> {
    let op = Op::LayerNorm(LayerNorm { axis, epsilon });
    if let Some(g) = gamma
        && fits(m, x, axis, gamma)
        && fits(m, x, axis, beta)
    {
        let mut operands = vec![x, g];
        operands.extend(beta);
        return m.b.node(op, &operands);
    }
    let mut y = m.b.node(op, &[x])?;
    if let Some(gamma) = gamma {
        y = m.b.mul(y, gamma)?;
    }
    if let Some(beta) = beta {
        y = m.b.add(y, beta)?;
    }
    Ok(y)
}

/// Mean, and one over the standard deviation, in `f32`.
pub(super) fn moments(
    m: &mut Importer<'_>,
    x: ValueId,
    axis: usize,
    epsilon: f64,
) -> Result<(ValueId, ValueId)> {
    let x = m.b.to(x, DType::F32)?;
    let axes: Vec<usize> = (axis..m.b.rank(x)).collect();
    let mean = m.b.reduce(ReduceKind::Mean, x, &axes, true)?;
    let centred = m.b.sub(x, mean)?;
    let square = m.b.mul(centred, centred)?;
    let variance = m.b.reduce(ReduceKind::Mean, square, &axes, true)?;
    let variance = m.b.add_n(variance, epsilon)?;
    Ok((mean, m.b.un(UnaryKind::Rsqrt, variance)?))
}

fn rms(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let gamma = m.input(call, 1)?;
    let axis = normalize_axis(call.int_or("axis", -1)?, m.b.rank(x))?;
    let epsilon = f64::from(call.float_or("epsilon", 1e-5)?);
    call.ignore("stash_type");
    let y = rms_norm(m, x, gamma, axis, epsilon)?;
    if !call.wants(1) {
        return one(y);
    }
    let wide = m.b.to(x, DType::F32)?;
    let axes: Vec<usize> = (axis..m.b.rank(x)).collect();
    let square = m.b.mul(wide, wide)?;
    let mean = m.b.reduce(ReduceKind::Mean, square, &axes, true)?;
    let mean = m.b.add_n(mean, epsilon)?;
    let inverse = m.b.un(UnaryKind::Rsqrt, mean)?;
    Ok(vec![Entry::Value(y), Entry::Value(inverse)])
}

/// RMS normalisation with a parameter of any shape that broadcasts.
pub(super) fn rms_norm(
    m: &mut Importer<'_>,
    x: ValueId,
    gamma: ValueId,
    axis: usize,
    epsilon: f64,
) -> Result<ValueId> {
    let op = Op::RmsNorm(RmsNorm { axis, epsilon });
    if fits(m, x, axis, Some(gamma)) {
        return m.b.node(op, &[x, gamma]);
    }
    let y = m.b.node(op, &[x])?;
    m.b.mul(y, gamma)
}

fn mean_variance(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let axes = call.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let axes = m.axes(call, Some(axes), m.b.rank(x))?.unwrap_or_default();
    let mean = m.b.reduce(ReduceKind::Mean, x, &axes, true)?;
    let centred = m.b.sub(x, mean)?;
    let square = m.b.mul(centred, centred)?;
    let variance = m.b.reduce(ReduceKind::Mean, square, &axes, true)?;
    let deviation = m.b.un(UnaryKind::Sqrt, variance)?;
    // The function that defines the operator adds this to the deviation.
    let deviation = m.b.add_n(deviation, 1e-9)?;
    one(m.b.div(centred, deviation)?)
}

fn lp(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let axis = normalize_axis(call.int_or("axis", -1)?, m.b.rank(x))?;
    let norm = match call.int_or("p", 2)? {
        2 => m.b.reduce(ReduceKind::L2, x, &[axis], true)?,
        1 => {
            let magnitude = m.b.un(UnaryKind::Abs, x)?;
            m.b.reduce(ReduceKind::Sum, magnitude, &[axis], true)?
        }
        p => return Err(call.wrong("p", "1 or 2", p).into()),
    };
    one(m.b.div(x, norm)?)
}

fn batch(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let (gamma, beta) = (m.input(call, 1)?, m.input(call, 2)?);
    let (mean, variance) = (m.input(call, 3)?, m.input(call, 4)?);
    let epsilon = f64::from(call.float_or("epsilon", 1e-5)?);
    call.ignore("momentum");
    let spatial = call.version >= 9 || call.flag("spatial", true)?;
    if call.flag("training_mode", false)? || call.wants(1) {
        return Err(call.unsupported("training mode").into());
    }
    // Statistics may be of a wider type than the data.
    let dtype = m.b.dtype(x);
    let mut operands = vec![x];
    for value in [mean, variance, gamma, beta] {
        operands.push(m.b.to(value, dtype)?);
    }
    // Statistics per place: they broadcast with every sample.
    if let ([_, mean, variance, gamma, beta], false) = (&operands[..], spatial) {
        let centred = m.b.sub(x, *mean)?;
        let variance = m.b.add_n(*variance, epsilon)?;
        let deviation = m.b.un(UnaryKind::Sqrt, variance)?;
        let y = m.b.div(centred, deviation)?;
        let y = m.b.mul(y, *gamma)?;
        return one(m.b.add(y, *beta)?);
    }
    one(m.b.node(Op::BatchNorm(BatchNorm { epsilon }), &operands)?)
}

fn instance(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let (gamma, beta) = (m.input(call, 1)?, m.input(call, 2)?);
    let epsilon = f64::from(call.float_or("epsilon", 1e-5)?);
    let op = Op::InstanceNorm(InstanceNorm { epsilon });
    one(m.b.node(op, &[x, gamma, beta])?)
}

/// Layer normalisation of the groups as rows, then scale and bias per group (before operator set 21) or per channel.
fn group(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let (gamma, beta) = (m.input(call, 1)?, m.input(call, 2)?);
    let epsilon = f64::from(call.float_or("epsilon", 1e-5)?);
    call.ignore("stash_type");
    let groups = call.int("num_groups")?.unwrap_or_default();
    let shape = m.b.shape(x);
    let groups = match usize::try_from(groups) {
        Ok(n) if n > 0 && shape.len() >= 2 => Dim::from(n),
        Ok(_) | Err(_) => return Err(call.wrong("num_groups", "at least 1", groups).into()),
    };
    let size = |dims: &[Dim]| dims.iter().fold(Dim::from(1), |n, d| n.mul(d));
    let per_group = shape[1]
        .floor_div(&groups)
        .filter(|q| q.mul(&groups) == shape[1])
        .ok_or_else(|| call.wrong("num_groups", "a divisor of the channels", &groups))?;
    let inner = per_group.mul(&size(&shape[2..]));
    let rows =
        m.b.reshape(x, vec![shape[0].clone(), groups.clone(), inner])?;
    let y = layer_norm(m, rows, None, None, 2, epsilon)?;
    let parameters = m.b.shape(gamma);
    if parameters == vec![groups] && parameters[0] != shape[1] {
        let (gamma, beta) = (m.b.unsqueeze(gamma, &[1])?, m.b.unsqueeze(beta, &[1])?);
        let y = m.b.mul(y, gamma)?;
        let y = m.b.add(y, beta)?;
        return one(m.b.reshape(y, shape)?);
    }
    let after: Vec<usize> = (1..shape.len() - 1).collect();
    let y = m.b.reshape(y, shape)?;
    let (gamma, beta) = (m.b.unsqueeze(gamma, &after)?, m.b.unsqueeze(beta, &after)?);
    let y = m.b.mul(y, gamma)?;
    one(m.b.add(y, beta)?)
}

fn lrn(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let size = call.int("size")?.unwrap_or_default();
    let size = match usize::try_from(size) {
        Ok(n) if n > 0 => n,
        Ok(_) | Err(_) => return Err(call.wrong("size", "at least 1", size).into()),
    };
    let op = Lrn {
        size,
        alpha: call.float_or("alpha", 1e-4)?,
        beta: call.float_or("beta", 0.75)?,
        k: call.float_or("bias", 1.0)?,
    };
    one(m.b.node(Op::Lrn(op), &[x])?)
}

/// `norm(x + skip + bias)`, and the sum itself as the fourth result.
fn skip(m: &mut Importer<'_>, call: &mut Call<'_>, centred: bool) -> Result<Vec<Entry>> {
    let (x, skip) = (m.input(call, 0)?, m.input(call, 1)?);
    let gamma = m.input(call, 2)?;
    let beta = if centred { m.optional(call, 3)? } else { None };
    let bias = m.optional(call, if centred { 4 } else { 3 })?;
    let epsilon = f64::from(call.float_or("epsilon", 1e-12)?);
    let mut sum = m.b.add(x, skip)?;
    if let Some(bias) = bias {
        sum = m.b.add(sum, bias)?;
    }
    let axis = m.b.rank(sum) - 1;
    let y = if centred {
        layer_norm(m, sum, Some(gamma), beta, axis, epsilon)?
    } else {
        rms_norm(m, sum, gamma, axis, epsilon)?
    };
    let (mean, inverse) = if call.wants(1) || call.wants(2) {
        moments(m, sum, axis, epsilon)?
    } else {
        (y, y)
    };
    Ok([y, mean, inverse, sum].map(Entry::Value).to_vec())
}

/// Sum of word, position and segment embeddings, normalised; the mask becomes the number of positions that count.
fn embed(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let ids = m.input(call, 0)?;
    let segments = m.optional(call, 1)?;
    let (words, positions) = (m.input(call, 2)?, m.input(call, 3)?);
    let segment_table = m.optional(call, 4)?;
    let (gamma, beta) = (m.input(call, 5)?, m.input(call, 6)?);
    let mask = m.optional(call, 7)?;
    let position_ids = m.optional(call, 8)?;
    let epsilon = f64::from(call.float_or("epsilon", 1e-12)?);
    call.ignore("mask_index_type");
    m.expect_rank(call, "input_ids", ids, 2..=2)?;
    let shape = m.b.shape(ids);
    let mut sum = m.b.gather(words, ids, 0)?;
    let places = match position_ids {
        Some(ids) => m.b.gather(positions, ids, 0)?,
        None => m.b.part(positions, 0, 0, shape[1].clone())?,
    };
    sum = m.b.add(sum, places)?;
    if let (Some(ids), Some(table)) = (segments, segment_table) {
        let segment = m.b.gather(table, ids, 0)?;
        sum = m.b.add(sum, segment)?;
    }
    let y = layer_norm(m, sum, Some(gamma), Some(beta), 2, epsilon)?;
    let counted = match mask {
        Some(mask) => m.b.reduce(ReduceKind::Sum, mask, &[1], false)?,
        None => {
            let zero = m.b.scalar("zero", DType::I32, 0.0)?;
            m.b.expand(zero, vec![shape[0].clone()])?
        }
    };
    Ok([y, counted, sum].map(Entry::Value).to_vec())
}
