//! Normalisation.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{LayerNorm, ReduceKind, RmsNorm, UnaryKind};
use crate::ir::{Op, ValueId, normalize_axis};
use crate::tensor::DType;

pub(super) const ROWS: &[Row] = &[
    row("LayerNormalization", 17, layer),
    row("RMSNormalization", 23, rms),
    row("MeanVarianceNormalization", 9, mean_variance),
    row("LpNormalization", 1, lp),
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
    one(rms_norm(m, x, gamma, axis, epsilon)?)
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
    // A row of zeros stays one.
    let zero = m.b.cmp_n(crate::ir::ops::CompareKind::Equal, norm, 0.0)?;
    let unit = m.b.number(norm, 1.0)?;
    let norm = m.b.select(zero, unit, norm)?;
    one(m.b.div(x, norm)?)
}
