//! Attention: masks, rotary positions, grouped keys and values, soft-caps, and the disentangled positions of DeBERTa; as data and as graph.

use std::collections::BTreeMap;

use super::blocks::{Linear, Norm};
use super::disentangled::{Disentangled, RelativePositions};
use super::graph::{Graph, path};
use super::rope::{Rope, Tables};
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, Compare, CompareKind, Concat, Expand, MatMul, Select, Softmax, UnaryKind,
};
use crate::ir::{Dim, Op, ValueId};

/// What hides a key: added to its score, or put in its place. Representable in f16, also when two of them meet; e^−10000 is 0 in f32.
pub(crate) const HIDDEN: f64 = -1e4;
/// What hides a key that is out of order. Further down than padding, so that a row without any visible key (a query in the padding) looks at
/// padding before it, and never ahead: what is causal stays causal under every mask.
const LATER: f64 = -2e4;

/// Which keys a query sees, padding aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Visibility {
    /// All of them.
    All,
    /// Its own and earlier ones.
    Causal,
    /// Its own and earlier ones, this many in all.
    Window(usize),
}

/// One attention block.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    /// Name of the checkpoint module.
    pub(crate) module: String,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) o: Linear,
    /// Norms of each head of queries and keys, before rotation.
    pub(crate) head_norms: Option<(Norm, Norm)>,
    /// Factor of the scores.
    pub(crate) scale: f64,
    /// Soft limit of the scores, after the factor and before the mask.
    pub(crate) softcap: Option<f64>,
    pub(crate) rope: Option<Rope>,
    pub(crate) visibility: Visibility,
    /// Scores between content and relative positions.
    pub(crate) disentangled: Option<Disentangled>,
}

/// The masks of a model, each built once.
#[derive(Debug)]
pub(crate) struct Masks {
    /// The padding mask, if the model has one.
    padding: Option<ValueId>,
    /// The padding mask as truth values.
    real: Option<ValueId>,
    /// Positions of queries `[seq, 1]` and of keys `[1, seq]`.
    positions: Option<(ValueId, ValueId)>,
    /// `[seq, seq]`, true where a key is not later than the query.
    earlier: Option<ValueId>,
    /// What is added to the scores of padding.
    keys: Option<ValueId>,
    additive: BTreeMap<Visibility, Option<ValueId>>,
    /// `[batch, 1, seq, seq]`, true where neither query nor key is padding.
    pairs: Option<ValueId>,
    /// Index tables of relative positions.
    pub(crate) relative: Option<RelativePositions>,
}

impl Masks {
    pub(crate) fn new(padding: Option<ValueId>) -> Self {
        Masks {
            padding,
            real: None,
            positions: None,
            earlier: None,
            keys: None,
            additive: BTreeMap::new(),
            pairs: None,
            relative: None,
        }
    }

    /// What is added to the scores, `[batch, 1, seq or 1, seq]`; nothing when every key is always seen.
    ///
    /// The part that depends on positions alone is a subgraph of its own, which folds to a constant once the length is known.
    fn additive(&mut self, g: &mut Graph, visibility: Visibility) -> Result<Option<ValueId>> {
        // A window that is never left hides nothing.
        let visibility = match visibility {
            Visibility::Window(w) if w >= g.max_seq => Visibility::Causal,
            Visibility::Window(_) | Visibility::All | Visibility::Causal => visibility,
        };
        if let Some(&mask) = self.additive.get(&visibility) {
            return Ok(mask);
        }
        let (name, order) = match visibility {
            Visibility::All => (String::new(), None),
            Visibility::Causal => ("mask/causal".to_owned(), Some(self.earlier(g)?)),
            Visibility::Window(w) => (format!("mask/window_{w}"), Some(self.window(g, w)?)),
        };
        let keys = self.keys(g)?;
        let mask = match order {
            Some(order) => {
                let seen = match keys {
                    Some(keys) => keys,
                    None => g.number(0.0)?,
                };
                let later = g.number(LATER)?;
                Some(g.b.push(&name, Op::Select(Select), &[order, seen, later])?)
            }
            None => keys,
        };
        self.additive.insert(visibility, mask);
        Ok(mask)
    }

    /// What is added to the scores of padding, `[batch, 1, 1, seq]`; nothing without a padding mask.
    fn keys(&mut self, g: &mut Graph) -> Result<Option<ValueId>> {
        if self.keys.is_none()
            && let Some(real) = self.real(g)?
        {
            let real = g.unsqueeze("mask/real_keys", real, &[1, 2])?;
            let operands = [real, g.number(0.0)?, g.number(HIDDEN)?];
            self.keys = Some(g.b.push("mask/keys", Op::Select(Select), &operands)?);
        }
        Ok(self.keys)
    }

    /// True where neither the query nor the key is padding, `[batch, 1, seq, seq]`.
    fn pairs(&mut self, g: &mut Graph) -> Result<Option<ValueId>> {
        if self.pairs.is_none()
            && let Some(real) = self.real(g)?
        {
            let queries = g.unsqueeze("mask/real_queries", real, &[1, 3])?;
            let keys = g.unsqueeze("mask/real_keys", real, &[1, 2])?;
            let pairs = g.b.binary("mask/pairs", BinaryKind::And, queries, keys)?;
            self.pairs = Some(pairs);
        }
        Ok(self.pairs)
    }

    /// The padding mask as truth values, `[batch, seq]`.
    fn real(&mut self, g: &mut Graph) -> Result<Option<ValueId>> {
        if self.real.is_none()
            && let Some(mask) = self.padding
        {
            self.real = Some(g.real(mask)?);
        }
        Ok(self.real)
    }

    fn positions(&mut self, g: &mut Graph) -> Result<(ValueId, ValueId)> {
        let positions = match self.positions {
            Some(positions) => positions,
            None => g.positions("mask")?,
        };
        self.positions = Some(positions);
        Ok(positions)
    }

    /// `key ≤ query`, `[seq, seq]`.
    fn earlier(&mut self, g: &mut Graph) -> Result<ValueId> {
        if let Some(earlier) = self.earlier {
            return Ok(earlier);
        }
        let (queries, keys) = self.positions(g)?;
        let kind = CompareKind::LessEqual;
        let op = Op::Compare(Compare { kind });
        let earlier = g.b.push("mask/earlier", op, &[keys, queries])?;
        self.earlier = Some(earlier);
        Ok(earlier)
    }

    /// `query − width < key ≤ query`, `[seq, seq]`.
    fn window(&mut self, g: &mut Graph, width: usize) -> Result<ValueId> {
        let earlier = self.earlier(g)?;
        let (queries, keys) = self.positions(g)?;
        let name = format!("mask/window_{width}");
        let width = g.integer(width)?;
        let edge = format!("{name}/edge");
        let edge = g.b.binary(&edge, BinaryKind::Sub, queries, width)?;
        let kind = CompareKind::Greater;
        let op = Op::Compare(Compare { kind });
        let near = g.b.push(&format!("{name}/near"), op, &[keys, edge])?;
        let order = format!("{name}/order");
        g.b.binary(&order, BinaryKind::And, earlier, near)
    }
}

impl Attention {
    /// `x [batch, seq, width]` → `[batch, seq, width]`.
    pub(crate) fn build(
        &self,
        g: &mut Graph,
        masks: &mut Masks,
        tables: &Tables,
        x: ValueId,
    ) -> Result<ValueId> {
        let scope = path(&self.module);
        let at = |name: &str| format!("{scope}/{name}");
        let (q_norm, k_norm) = match &self.head_norms {
            Some((q, k)) => (Some(q), Some(k)),
            None => (None, None),
        };
        let q = self.q.build(g, x)?;
        let q = self.split(g, &at("q"), q, self.heads, q_norm)?;
        let k = self.k.build(g, x)?;
        let k = self.split(g, &at("k"), k, self.kv_heads, k_norm)?;
        let v = self.v.build(g, x)?;
        let v = self.split(g, &at("v"), v, self.kv_heads, None)?;
        let rotation = self.rope.as_ref().and_then(|rope| tables.get(rope));
        let (q, k) = match rotation {
            Some(rotation) => (
                self.rotate(g, &at("q_rotated"), q, rotation)?,
                self.rotate(g, &at("k_rotated"), k, rotation)?,
            ),
            None => (q, k),
        };
        let k = self.repeat(g, &at("k_repeated"), k)?;
        let v = self.repeat(g, &at("v_repeated"), v)?;
        let scores = match &self.disentangled {
            Some(disentangled) => {
                let pairs = masks.pairs(g)?;
                disentangled.scores(g, masks, (self, &scope), (q, k), pairs)?
            }
            None => self.scores(g, masks, &scope, q, k)?,
        };
        let probabilities =
            g.b.push(&at("softmax"), Op::Softmax(Softmax { axis: 3 }), &[scores])?;
        let context = g.b.push(
            &at("context"),
            Op::MatMul(MatMul::default()),
            &[probabilities, v],
        )?;
        let context = g.transpose(&at("context_heads"), context, &[0, 2, 1, 3])?;
        let width = Dim::from(self.heads * self.head_dim);
        let shape = vec![g.batch.clone(), g.seq.clone(), width];
        let context = g.reshape(&at("context_merged"), context, shape)?;
        self.o.build(g, context)
    }

    /// Scores with factor, soft-cap and mask.
    fn scores(
        &self,
        g: &mut Graph,
        masks: &mut Masks,
        scope: &str,
        q: ValueId,
        k: ValueId,
    ) -> Result<ValueId> {
        let by_keys = MatMul {
            transpose_a: false,
            transpose_b: true,
        };
        let scores =
            g.b.push(&format!("{scope}/scores"), Op::MatMul(by_keys), &[q, k])?;
        let scores = g.scale(&format!("{scope}/scaled"), scores, self.scale)?;
        let scores = match self.softcap {
            Some(cap) => g.softcap(&format!("{scope}/capped"), scores, cap)?,
            None => scores,
        };
        match masks.additive(g, self.visibility)? {
            Some(mask) => g.add(&format!("{scope}/masked"), scores, mask),
            None => Ok(scores),
        }
    }

    /// `[batch, seq, heads · head_dim]` → `[batch, heads, seq, head_dim]`.
    fn split(
        &self,
        g: &mut Graph,
        name: &str,
        x: ValueId,
        heads: usize,
        norm: Option<&Norm>,
    ) -> Result<ValueId> {
        let shape = vec![
            g.batch.clone(),
            g.seq.clone(),
            Dim::from(heads),
            Dim::from(self.head_dim),
        ];
        let x = g.reshape(&format!("{name}_split"), x, shape)?;
        let x = match norm {
            Some(norm) => norm.build(g, x)?,
            None => x,
        };
        g.transpose(&format!("{name}_heads"), x, &[0, 2, 1, 3])
    }

    /// Rotates the two halves of every head against each other.
    fn rotate(
        &self,
        g: &mut Graph,
        name: &str,
        x: ValueId,
        (cos, sin): (ValueId, ValueId),
    ) -> Result<ValueId> {
        let half = Dim::from(self.head_dim / 2);
        let whole = Dim::from(self.head_dim);
        let first = g.slice(&format!("{name}/first"), x, 3, Dim::from(0), half.clone())?;
        let second = g.slice(&format!("{name}/second"), x, 3, half, whole)?;
        let second = g.b.unary(&format!("{name}/neg"), UnaryKind::Neg, second)?;
        let turned = g.b.push(
            &format!("{name}/turned"),
            Op::Concat(Concat { axis: 3 }),
            &[second, first],
        )?;
        let straight = g.mul(&format!("{name}/cos"), x, cos)?;
        let turned = g.mul(&format!("{name}/sin"), turned, sin)?;
        g.add(name, straight, turned)
    }

    /// Every head of keys or values once for each of its queries, neighbours first: `0 0 1 1`, not `0 1 0 1`.
    fn repeat(&self, g: &mut Graph, name: &str, x: ValueId) -> Result<ValueId> {
        let times = self.heads / self.kv_heads;
        if times == 1 {
            return Ok(x);
        }
        let head = Dim::from(self.head_dim);
        let x = g.unsqueeze(&format!("{name}/unsqueeze"), x, &[2])?;
        let shape = vec![
            g.batch.clone(),
            Dim::from(self.kv_heads),
            Dim::from(times),
            g.seq.clone(),
            head.clone(),
        ];
        let x = g.b.push(
            &format!("{name}/expand"),
            Op::Expand(Expand { shape }),
            &[x],
        )?;
        let shape = vec![g.batch.clone(), Dim::from(self.heads), g.seq.clone(), head];
        g.reshape(name, x, shape)
    }
}
