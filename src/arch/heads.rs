//! What a model does with its hidden states: language-model heads, classifiers, poolers, sentence embeddings.

use super::blocks::{Activation, Linear, Norm};
use super::graph::{Graph, path};
use crate::error::Result;
use crate::ir::ops::{BinaryKind, Concat, Reduce, ReduceKind, Select, UnaryKind};
use crate::ir::{Dim, Op, ValueId};
use crate::tensor::{DType, num};

/// What a head looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Every position: `[batch, seq, …]`.
    Each,
    /// The first position.
    First,
    /// The last position, be it padding or not.
    Last,
    /// The mean of all positions, padding included.
    Mean,
}

/// A stack of linear maps, each with what follows it.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Name of the output.
    pub(crate) output: &'static str,
    pub(crate) look: Look,
    pub(crate) steps: Vec<(Linear, Option<Activation>)>,
    /// Normalises what the last linear map takes.
    pub(crate) norm: Option<Norm>,
    /// Soft limit of the result.
    pub(crate) softcap: Option<f64>,
}

impl Head {
    /// Linear maps, and nothing around them.
    pub(crate) fn linear(
        output: &'static str,
        look: Look,
        steps: Vec<(Linear, Option<Activation>)>,
    ) -> Self {
        Head {
            output,
            look,
            steps,
            norm: None,
            softcap: None,
        }
    }

    /// `hidden [batch, seq, width]` → the output.
    pub(crate) fn build(&self, g: &mut Graph, hidden: ValueId) -> Result<ValueId> {
        let name = self.output;
        let mut x = match self.look {
            Look::Each => hidden,
            Look::First => g.position(&format!("{name}/first"), hidden, Dim::from(0))?,
            Look::Last => {
                let last = g.seq.sub(&Dim::from(1));
                g.position(&format!("{name}/last"), hidden, last)?
            }
            Look::Mean => mean(g, &format!("{name}/mean"), hidden)?,
        };
        for (i, (linear, activation)) in self.steps.iter().enumerate() {
            if let Some(norm) = self.norm.as_ref().filter(|_| i + 1 == self.steps.len()) {
                x = norm.build(g, x)?;
            }
            x = linear.build(g, x)?;
            if let Some(activation) = activation {
                x = activation.build(g, &format!("{}/act", path(&linear.module)), x)?;
            }
        }
        match self.softcap {
            Some(cap) => g.softcap(&format!("{name}/capped"), x, cap),
            None => Ok(x),
        }
    }
}

fn reduce(g: &mut Graph, name: &str, kind: ReduceKind, x: ValueId) -> Result<ValueId> {
    let op = Reduce {
        kind,
        axes: vec![1],
        keep_dims: false,
    };
    g.b.push(name, Op::Reduce(op), &[x])
}

fn mean(g: &mut Graph, name: &str, x: ValueId) -> Result<ValueId> {
    reduce(g, name, ReduceKind::Mean, x)
}

/// How the positions of a sentence become one vector; padding never counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// The first position.
    First,
    /// The largest of each feature.
    Max,
    /// The mean.
    Mean,
    /// The sum over the root of the number of positions.
    MeanRoot,
    /// The mean with weights 1, 2, 3…
    WeightedMean,
}

/// One module of a sentence-transformers folder after the transformer.
#[derive(Clone, Debug)]
pub(crate) enum SentenceModule {
    /// Poolings, concatenated.
    Pooling(Vec<Pool>),
    /// A linear map and what follows it.
    Dense(Box<Linear>, Option<Activation>),
    /// Division by the Euclidean length.
    Normalize,
}

/// The modules of a sentence-transformers folder; the first one pools.
#[derive(Clone, Debug)]
pub(crate) struct Sentence {
    pub(crate) modules: Vec<SentenceModule>,
}

impl Sentence {
    /// `hidden [batch, seq, width]` and the padding mask → `[batch, width]`.
    pub(crate) fn build(&self, g: &mut Graph, hidden: ValueId, mask: ValueId) -> Result<ValueId> {
        let mut x = hidden;
        for module in &self.modules {
            x = match module {
                SentenceModule::Pooling(pools) => pool(g, pools, x, mask)?,
                SentenceModule::Dense(linear, activation) => {
                    let x = linear.build(g, x)?;
                    match activation {
                        Some(a) => a.build(g, &format!("{}/act", path(&linear.module)), x)?,
                        None => x,
                    }
                }
                SentenceModule::Normalize => normalize(g, x)?,
            };
        }
        Ok(x)
    }
}

fn pool(g: &mut Graph, pools: &[Pool], x: ValueId, mask: ValueId) -> Result<ValueId> {
    let mut parts = Vec::with_capacity(pools.len());
    for pool in pools {
        parts.push(match pool {
            Pool::First => g.position("pooling/first", x, Dim::from(0))?,
            Pool::Max => largest(g, x, mask)?,
            Pool::Mean => {
                let weights = g.float_mask(mask)?;
                let (sum, count) = weighted(g, "pooling/mean", x, weights)?;
                g.b.binary("pooling/mean", BinaryKind::Div, sum, count)?
            }
            Pool::MeanRoot => {
                let weights = g.float_mask(mask)?;
                let (sum, count) = weighted(g, "pooling/mean_sqrt_len", x, weights)?;
                let root =
                    g.b.unary("pooling/mean_sqrt_len/sqrt", UnaryKind::Sqrt, count)?;
                g.b.binary("pooling/mean_sqrt_len", BinaryKind::Div, sum, root)?
            }
            Pool::WeightedMean => {
                let name = "pooling/weightedmean";
                let weights = g.float_mask(mask)?;
                let ramp = g.iota(&format!("{name}/positions"))?;
                let one = g.integer(1)?;
                let ramp = g.add(&format!("{name}/from_one"), ramp, one)?;
                let ramp = g.b.cast(&format!("{name}/float"), ramp, DType::F32)?;
                let ramp = g.unsqueeze(&format!("{name}/column"), ramp, &[1])?;
                let weights = g.mul(&format!("{name}/weights"), weights, ramp)?;
                let (sum, count) = weighted(g, name, x, weights)?;
                g.b.binary(name, BinaryKind::Div, sum, count)?
            }
        });
    }
    match parts.as_slice() {
        [one] => Ok(*one),
        several => {
            g.b.push("pooling/concat", Op::Concat(Concat { axis: 1 }), several)
        }
    }
}

/// Sum of `x` times `weights [batch, seq, 1]`, and the sum of the weights, kept above 0.
fn weighted(g: &mut Graph, name: &str, x: ValueId, weights: ValueId) -> Result<(ValueId, ValueId)> {
    let x = g.mul(&format!("{name}/weighted"), x, weights)?;
    let sum = reduce(g, &format!("{name}/sum"), ReduceKind::Sum, x)?;
    let count = reduce(g, &format!("{name}/count"), ReduceKind::Sum, weights)?;
    // Every row counts something, so the bound never acts on weights that are whole numbers; 2⁻¹⁴ is the least that f16 holds exactly.
    let least = g.number(6.103_515_625e-5)?;
    let name = format!("{name}/count_bounded");
    let count = g.b.binary(&name, BinaryKind::Max, count, least)?;
    Ok((sum, count))
}

/// The largest of each feature over the positions that count.
fn largest(g: &mut Graph, x: ValueId, mask: ValueId) -> Result<ValueId> {
    let real = g.real(mask)?;
    let real = g.unsqueeze("pooling/max/column", real, &[2])?;
    let hidden = g.number(super::attention::HIDDEN)?;
    let x =
        g.b.push("pooling/max/masked", Op::Select(Select), &[real, x, hidden])?;
    reduce(g, "pooling/max", ReduceKind::Max, x)
}

/// `x / max(‖x‖₂, ε)`.
fn normalize(g: &mut Graph, x: ValueId) -> Result<ValueId> {
    let op = Reduce {
        kind: ReduceKind::L2,
        axes: vec![1],
        keep_dims: true,
    };
    let norm = g.b.push("normalize/norm", Op::Reduce(op), &[x])?;
    let least = g.number(1e-12)?;
    let norm =
        g.b.binary("normalize/bounded", BinaryKind::Max, norm, least)?;
    g.b.binary("normalize", BinaryKind::Div, x, norm)
}

/// Width of the vector that pooling makes of `width` features.
pub(crate) fn pooled_width(pools: &[Pool], width: usize) -> usize {
    num::usize_of(num::u64_of(pools.len()).saturating_mul(num::u64_of(width)))
}
