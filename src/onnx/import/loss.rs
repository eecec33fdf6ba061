//! Losses, by their decomposition.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ValueId;
use crate::ir::ops::{BinaryKind, CompareKind, ReduceKind, UnaryKind};
use crate::tensor::{DType, num};

pub(super) const ROWS: &[Row] = &[
    row("NegativeLogLikelihoodLoss", 12, negative_log_likelihood),
    row("SoftmaxCrossEntropyLoss", 12, cross_entropy),
];

fn negative_log_likelihood(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let loss = loss(m, call, x)?;
    one(loss)
}

fn cross_entropy(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let log = super::reduce::log_softmax_of(m, x, 1)?;
    let loss = loss(m, call, log)?;
    Ok(vec![Entry::Value(loss), Entry::Value(log)])
}

/// −weight[target] · x[n, target, …], reduced; positions of `ignore_index` count for nothing.
fn loss(m: &mut Importer<'_>, call: &mut Call<'_>, x: ValueId) -> Result<ValueId> {
    let target = m.input(call, 1)?;
    let weight = m.optional(call, 2)?;
    let ignore = call.int("ignore_index")?;
    let reduction = call.string_or("reduction", "mean")?;
    let dtype = m.b.dtype(x);
    let target = m.b.to(target, DType::I64)?;
    // What is ignored may be no class at all: class 0 stands in for it.
    let ignored = match ignore {
        Some(ignore) => {
            let number = m.b.scalar("ignored", DType::I64, num::f64_of_i64(ignore))?;
            Some(m.b.cmp(CompareKind::Equal, target, number)?)
        }
        None => None,
    };
    let class = match ignored {
        Some(ignored) => {
            let zero = m.b.scalar("zero", DType::I64, 0.0)?;
            m.b.select(ignored, zero, target)?
        }
        None => target,
    };
    let picked = {
        let index = m.b.unsqueeze(class, &[1])?;
        let picked = m.b.gather_elements(x, index, 1)?;
        m.b.squeeze(picked, &[1])?
    };
    let mut losses = m.b.un(UnaryKind::Neg, picked)?;
    let mut weights = match weight {
        Some(weight) => Some(m.b.gather(weight, class, 0)?),
        None => None,
    };
    if let Some(ignored) = ignored {
        let zero = m.b.scalar("zero", dtype, 0.0)?;
        let unit = m.b.scalar("one", dtype, 1.0)?;
        let kept = weights.unwrap_or(unit);
        weights = Some(m.b.select(ignored, zero, kept)?);
        losses = m.b.select(ignored, zero, losses)?;
    }
    if let Some(weights) = weights {
        losses = m.b.bin(BinaryKind::Mul, losses, weights)?;
    }
    let axes: Vec<usize> = (0..m.b.rank(losses)).collect();
    Ok(match reduction.as_str() {
        "none" => losses,
        "sum" => super::reduce::over(m, ReduceKind::Sum, losses, &axes, false)?,
        "mean" => match weights {
            Some(weights) => {
                let sum = super::reduce::over(m, ReduceKind::Sum, losses, &axes, false)?;
                let total = super::reduce::over(m, ReduceKind::Sum, weights, &axes, false)?;
                m.b.div(sum, total)?
            }
            None => super::reduce::over(m, ReduceKind::Mean, losses, &axes, false)?,
        },
        other => return Err(call.wrong("reduction", "none, sum or mean", other).into()),
    })
}
