//! The disentangled attention of DeBERTa-v2 and -v3: scores between content and relative position, in both directions.
//!
//! # Source
//! `modeling_deberta_v2.py` of transformers 4.57. There the factor divides the keys; here it multiplies the queries and the projected
//! positions, which is the same sum and keeps the scores small.

use super::attention::{Attention, HIDDEN, Masks};
use super::blocks::{Linear, Norm};
use super::graph::{Graph, path};
use crate::error::Result;
use crate::ir::ops::{BinaryKind, Expand, Gather, GatherElements, MatMul, Select};
use crate::ir::{Constant, Dim, Op, ValueId};
use crate::tensor::{Tensor, num};

/// How relative positions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buckets {
    /// Number of buckets on each side; 0 for one per distance.
    pub(crate) buckets: usize,
    /// Longest distance.
    pub(crate) distance: usize,
}

impl Buckets {
    /// Half the number of rows of the table of relative embeddings.
    pub(crate) fn span(self) -> usize {
        if self.buckets > 0 {
            self.buckets
        } else {
            self.distance
        }
    }

    /// The bucket of a distance: itself when it is small, logarithmic beyond.
    fn of(self, distance: i64) -> i64 {
        if self.buckets == 0 {
            return distance;
        }
        let middle = self.buckets / 2;
        let (mid, magnitude) = (num::i64_of(middle), distance.abs());
        if magnitude <= mid {
            return distance;
        }
        // f32, as there: a boundary falls where f32 puts it.
        let ratio = num::f32_of_i64(magnitude) / num::f32_of(middle);
        let most = num::f32_of_f64((num::f64_of(self.distance) - 1.0) / num::f64_of(middle));
        let steps = (ratio.ln() / most.ln() * num::f32_of_i64(mid - 1)).ceil();
        distance.signum() * (num::i64_of_f32(steps) + mid)
    }

    /// Rows of the table for the distances `1 − len ..= len − 1`, times `sign`.
    fn rows(self, len: usize, sign: i64) -> Vec<i64> {
        let span = num::i64_of(self.span());
        let last = num::i64_of(len) - 1;
        (-last..=last)
            .map(|d| (sign * self.of(d) + span).clamp(0, 2 * span - 1))
            .collect()
    }
}

/// The table of relative embeddings, shared by all layers.
#[derive(Clone, Debug)]
pub(crate) struct RelativeEmbeddings {
    /// Name of the checkpoint module.
    pub(crate) module: String,
    /// `[2 · span, width]`
    pub(crate) table: Constant,
    pub(crate) norm: Option<Norm>,
    pub(crate) buckets: Buckets,
}

/// What a model's layers share: the table, and for every pair of positions the row of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelativePositions {
    table: ValueId,
    span: usize,
    /// `[batch, heads, seq, seq]`: rows for query, key.
    from_query: ValueId,
    /// `[batch, heads, seq, seq]`: rows for key, query.
    from_key: ValueId,
}

impl RelativeEmbeddings {
    pub(crate) fn build(&self, g: &mut Graph, heads: usize) -> Result<RelativePositions> {
        let scope = path(&self.module);
        let mut table = g.b.constant(self.table.clone());
        if let Some(norm) = &self.norm {
            table = norm.build(g, table)?;
        }
        let (queries, keys) = g.positions(&scope)?;
        let name = format!("{scope}/distance");
        let distance = g.b.binary(&name, BinaryKind::Sub, queries, keys)?;
        let offset = g.integer(g.max_seq - 1)?;
        let index = g.add(&format!("{scope}/index"), distance, offset)?;
        let mut rows = Vec::with_capacity(2);
        for (name, sign) in [("from_query", 1), ("from_key", -1)] {
            let name = format!("{scope}/{name}");
            let list = self.buckets.rows(g.max_seq, sign);
            let list = Tensor::i64(vec![list.len()], list)?;
            let list = Constant::from_tensor(&format!("{name}/rows"), &list)?;
            let list = g.b.constant(list);
            let picked = g.b.push(
                &format!("{name}/picked"),
                Op::Gather(Gather { axis: 0 }),
                &[list, index],
            )?;
            let picked = g.unsqueeze(&format!("{name}/unsqueeze"), picked, &[0, 1])?;
            let shape = vec![
                g.batch.clone(),
                Dim::from(heads),
                g.seq.clone(),
                g.seq.clone(),
            ];
            rows.push(g.b.push(&name, Op::Expand(Expand { shape }), &[picked])?);
        }
        Ok(RelativePositions {
            table,
            span: self.buckets.span(),
            from_query: rows[0],
            from_key: rows[1],
        })
    }
}

/// The terms of one layer's scores beside content to content.
#[derive(Clone, Debug)]
pub(crate) struct Disentangled {
    /// Projects positions to keys: content to position.
    pub(crate) position_key: Option<Linear>,
    /// Projects positions to queries: position to content.
    pub(crate) position_query: Option<Linear>,
}

impl Disentangled {
    /// `[batch, heads, seq, seq]`; hidden pairs hold one value, so that a row without any visible key becomes uniform.
    pub(crate) fn scores(
        &self,
        g: &mut Graph,
        masks: &Masks,
        (attention, scope): (&Attention, &str),
        (q, k): (ValueId, ValueId),
        pairs: Option<ValueId>,
    ) -> Result<ValueId> {
        let at = |name: &str| format!("{scope}/{name}");
        let by_keys = || {
            Op::MatMul(MatMul {
                transpose_a: false,
                transpose_b: true,
            })
        };
        let q = g.scale(&at("q_scaled"), q, attention.scale)?;
        let mut scores = g.b.push(&at("scores"), by_keys(), &[q, k])?;
        if let Some(relative) = masks.relative {
            if let Some(linear) = &self.position_key {
                let key = project(g, attention, &relative, linear, &at("position_key"))?;
                let all = g.b.push(&at("c2p/all"), by_keys(), &[q, key])?;
                let picked = pick(g, &at("c2p"), all, relative.from_query)?;
                scores = g.add(&at("scores_c2p"), scores, picked)?;
            }
            if let Some(linear) = &self.position_query {
                let query = project(g, attention, &relative, linear, &at("position_query"))?;
                let query = g.scale(&at("position_query_scaled"), query, attention.scale)?;
                let all = g.b.push(&at("p2c/all"), by_keys(), &[k, query])?;
                let picked = pick(g, &at("p2c"), all, relative.from_key)?;
                let picked = g.transpose(&at("p2c_turned"), picked, &[0, 1, 3, 2])?;
                scores = g.add(&at("scores_p2c"), scores, picked)?;
            }
        }
        match pairs {
            Some(pairs) => {
                let hidden = g.number(HIDDEN)?;
                g.b.push(&at("masked"), Op::Select(Select), &[pairs, scores, hidden])
            }
            None => Ok(scores),
        }
    }
}

/// The projected table by heads, `[1, heads, 2 · span, head_dim]`.
fn project(
    g: &mut Graph,
    attention: &Attention,
    relative: &RelativePositions,
    linear: &Linear,
    name: &str,
) -> Result<ValueId> {
    // Shared projections are also used for content, under their own name.
    let x = linear.build_as(g, name, relative.table)?;
    let shape = vec![
        Dim::from(1),
        Dim::from(2 * relative.span),
        Dim::from(attention.heads),
        Dim::from(attention.head_dim),
    ];
    let x = g.reshape(&format!("{name}_split"), x, shape)?;
    g.transpose(&format!("{name}_heads"), x, &[0, 2, 1, 3])
}

/// From `[batch, heads, seq, 2 · span]` the elements for every pair of positions.
fn pick(g: &mut Graph, name: &str, all: ValueId, rows: ValueId) -> Result<ValueId> {
    g.b.push(
        name,
        Op::GatherElements(GatherElements { axis: 3 }),
        &[all, rows],
    )
}
