//! Encoders: one spec, filled in by the adapters, and the graph it stands for.

use super::attention::{Attention, Masks, Visibility};
use super::blocks::{Activation, Layer, Linear, Mlp, Norm, Norms};
use super::config::Config;
use super::disentangled::{Disentangled, RelativeEmbeddings};
use super::graph::{Graph, path};
use super::heads::{Head, Look, Sentence};
use super::rope::Tables;
use super::weights::Weights;
use super::{Limits, Options, by_root, head_dim};
use crate::error::Result;
use crate::ir::ops::{BinaryKind, Compare, CompareKind, CumSum};
use crate::ir::{Claim, Constant, Module, Op, ValueId};
use crate::tensor::{DType, num};

/// Which row of the table of learned positions a token gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    /// Its index.
    Index,
    /// `pad` for the padding token, and for the others `pad` plus their number among the tokens that are not padding, from 1.
    SkipPadding {
        /// Id of the padding token, and offset.
        pad: usize,
    },
}

/// Token, position and type embeddings, summed and normalised.
#[derive(Clone, Debug)]
pub(crate) struct Embeddings {
    /// Name of the checkpoint module.
    pub(crate) module: String,
    /// `[vocab, width]`
    pub(crate) words: Constant,
    /// `[positions, width]`
    pub(crate) positions: Option<(Constant, Counting)>,
    /// `[types, width]`; an input chooses among several, a single one is always added.
    pub(crate) types: Option<Constant>,
    /// From the width of the embeddings to that of the layers.
    pub(crate) projection: Option<Linear>,
    pub(crate) norm: Norm,
    /// Whether padding is set to 0.
    pub(crate) masked: bool,
}

/// An encoder: embeddings, layers, heads.
#[derive(Clone, Debug)]
pub(crate) struct EncoderSpec {
    pub(crate) vocab: usize,
    pub(crate) width: usize,
    pub(crate) limits: Limits,
    pub(crate) embeddings: Embeddings,
    pub(crate) relative: Option<RelativeEmbeddings>,
    pub(crate) layers: Vec<Layer>,
    /// Whether the hidden states are an output.
    pub(crate) hidden: bool,
    pub(crate) heads: Vec<Head>,
    pub(crate) sentence: Option<Sentence>,
}

impl EncoderSpec {
    /// The graph, named `name`.
    pub(crate) fn build(
        self,
        name: &str,
        options: &Options,
        warnings: &mut Vec<String>,
    ) -> Result<Module> {
        let (batch, seq) = (&options.batch, &options.seq);
        let mut g = Graph::new(name, batch, seq, &self.limits, warnings)?;
        let ids = g.input_ids(self.vocab)?;
        let mask = g.attention_mask()?;
        let mut x = self.embeddings.build(&mut g, ids, mask)?;
        let mut masks = Masks::new(Some(mask));
        if let (Some(relative), Some(layer)) = (&self.relative, self.layers.first()) {
            masks.relative = Some(relative.build(&mut g, layer.attention.heads)?);
        }
        let tables = Tables::default();
        for layer in &self.layers {
            x = layer.build(&mut g, &mut masks, &tables, x)?;
        }
        let (mut per_position, mut pooled) = (Vec::new(), Vec::new());
        if let Some(sentence) = &self.sentence {
            let y = sentence.build(&mut g, x, mask)?;
            g.b.output("sentence_embedding", y)?;
            pooled.push("sentence_embedding".to_owned());
        }
        if self.hidden {
            g.b.output("last_hidden_state", x)?;
            per_position.push("last_hidden_state".to_owned());
        }
        for head in &self.heads {
            let y = head.build(&mut g, x)?;
            g.b.output(head.output, y)?;
            match head.look {
                Look::Each => per_position.push(head.output.to_owned()),
                Look::First => pooled.push(head.output.to_owned()),
                // These look at padding too: nothing to claim.
                Look::Last | Look::Mean => {}
            }
        }
        // Where positions are counted from the ids, this holds for padding at the end, which no token follows.
        g.b.claim(Claim::IgnoresPadding {
            input: "input_ids".into(),
            mask: "attention_mask".into(),
            per_position,
            pooled,
        });
        g.b.finish()
    }
}

/// The checkpoint modules of a head that fills masked positions.
pub(crate) struct MaskedNames<'a> {
    /// The first linear map.
    pub(crate) dense: &'a str,
    /// The norm after it.
    pub(crate) norm: &'a str,
    /// The last linear map; its weight is the table of words unless the config unties it.
    pub(crate) decoder: &'a str,
    /// The bias of the last linear map.
    pub(crate) bias: &'a str,
}

impl MaskedNames<'_> {
    /// The head: dense, activation, norm, and one score for each word.
    pub(crate) fn load(
        &self,
        w: &mut Weights,
        (sizes, activation): (&LayerSizes, Activation),
        words: &Constant,
        vocab: usize,
        tied: bool,
    ) -> Result<Head> {
        let width = sizes.width;
        let dense = Linear::load(w, self.dense, width, width, true)?;
        let norm = Norm::layer(w, self.norm, width, sizes.epsilon)?;
        let weight = if tied {
            words.clone()
        } else {
            w.take(&format!("{}.weight", self.decoder), &[vocab, width])?
        };
        let decoder = Linear {
            module: self.decoder.to_owned(),
            weight,
            bias: Some(w.take(self.bias, &[vocab])?),
        };
        // What is tied may be stored a second time.
        let copies = ["weight", "bias"].map(|part| format!("{}.{part}", self.decoder));
        w.ignore(|name| copies.iter().any(|copy| copy == name));
        Ok(Head {
            output: "logits",
            look: Look::Each,
            steps: vec![(dense, Some(activation)), (decoder, None)],
            norm: Some(norm),
            softcap: None,
        })
    }
}

/// The head that labels every token.
pub(crate) fn token_head(w: &mut Weights, width: usize, labels: usize) -> Result<Head> {
    let steps = vec![(Linear::load(w, "classifier", width, labels, true)?, None)];
    Ok(Head::linear("logits", Look::Each, steps))
}

/// Sizes of the embeddings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmbeddingSizes {
    pub(crate) vocab: usize,
    pub(crate) width: usize,
    /// Width of the layers, if it is another one.
    pub(crate) projected: Option<usize>,
    /// Rows of the table of learned positions, and how they are counted.
    pub(crate) positions: Option<(usize, Counting)>,
    /// Rows of the table of types; 0 for none.
    pub(crate) types: usize,
    pub(crate) epsilon: f64,
}

impl Embeddings {
    /// The tables under BERT's names.
    pub(crate) fn load(
        weights: &mut Weights,
        module: &str,
        sizes: &EmbeddingSizes,
    ) -> Result<Self> {
        let width = sizes.width;
        let mut table = |name: &str, rows: usize| {
            weights.take(&format!("{module}.{name}.weight"), &[rows, width])
        };
        let words = table("word_embeddings", sizes.vocab)?;
        let positions = match sizes.positions {
            Some((rows, counting)) => Some((table("position_embeddings", rows)?, counting)),
            None => None,
        };
        let types = match sizes.types {
            0 => None,
            rows => Some(table("token_type_embeddings", rows)?),
        };
        let projection = match sizes.projected {
            Some(to) => Some(Linear::load(
                weights,
                &format!("{module}.embed_proj"),
                width,
                to,
                false,
            )?),
            None => None,
        };
        let width = sizes.projected.unwrap_or(width);
        let norm = Norm::layer(
            weights,
            &format!("{module}.LayerNorm"),
            width,
            sizes.epsilon,
        )?;
        // Old checkpoints carry the row numbers themselves.
        let ids = format!("{module}.position_ids");
        weights.ignore(|name| name == ids);
        Ok(Embeddings {
            module: module.to_owned(),
            words,
            positions,
            types,
            projection,
            norm,
            masked: false,
        })
    }

    fn build(&self, g: &mut Graph, ids: ValueId, mask: ValueId) -> Result<ValueId> {
        let scope = path(&self.module);
        let at = |name: &str| format!("{scope}/{name}");
        let types = match &self.types {
            Some(types) if types.shape().first() != Some(&1) => {
                let count = types.shape().first().copied().unwrap_or(0);
                Some(g.indices("token_type_ids", count)?)
            }
            _ => None,
        };
        let words = g.b.constant(self.words.clone());
        let mut x = g.gather(&at("word_embeddings"), words, ids)?;
        if let Some(table) = &self.types {
            let rows = match types {
                Some(types) => {
                    let table = g.b.constant(table.clone());
                    g.gather(&at("token_type_embeddings"), table, types)?
                }
                None => {
                    let width = table.shape().last().copied().unwrap_or(0);
                    g.b.constant(table.reshape(vec![width])?)
                }
            };
            x = g.add(&at("with_types"), x, rows)?;
        }
        if let Some((table, counting)) = &self.positions {
            let table = g.b.constant(table.clone());
            let name = at("position_embeddings");
            let rows = match counting {
                Counting::Index => g.first_rows(&name, table)?,
                Counting::SkipPadding { pad } => {
                    let positions = skip_padding(g, &at("position_ids"), ids, *pad)?;
                    g.gather(&name, table, positions)?
                }
            };
            x = g.add(&at("with_positions"), x, rows)?;
        }
        if let Some(projection) = &self.projection {
            x = projection.build(g, x)?;
        }
        x = self.norm.build(g, x)?;
        if self.masked {
            let mask = g.float_mask(mask)?;
            x = g.mul(&at("masked"), x, mask)?;
        }
        Ok(x)
    }
}

/// Positions counted from the ids: the padding token gets `pad`, the n-th other token `pad + n`.
///
/// Counted in i32: tract cannot sum i64 values, which it takes for sizes.
fn skip_padding(g: &mut Graph, name: &str, ids: ValueId, pad: usize) -> Result<ValueId> {
    let at = |step: &str| format!("{name}/{step}");
    let token = g.integer(pad)?;
    let first = g.b.scalar(&at("pad"), DType::I32, num::f64_of(pad))?;
    let kind = CompareKind::NotEqual;
    let real =
        g.b.push(&at("real"), Op::Compare(Compare { kind }), &[ids, token])?;
    let real = g.b.cast(&at("ones"), real, DType::I32)?;
    let count =
        g.b.push(&at("count"), Op::CumSum(CumSum { axis: 1 }), &[real])?;
    let count = g.b.binary(&at("masked"), BinaryKind::Mul, count, real)?;
    g.b.binary(name, BinaryKind::Add, count, first)
}

/// Names of the modules of an encoder layer, below the layer's own name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerNames {
    /// Module that holds the projections, for the names of the nodes between.
    pub(crate) attention: &'static str,
    pub(crate) q: &'static str,
    pub(crate) k: &'static str,
    pub(crate) v: &'static str,
    pub(crate) o: &'static str,
    pub(crate) attention_norm: &'static str,
    /// Module that holds the feed-forward block, for the name of its activation.
    pub(crate) mlp: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) mlp_norm: &'static str,
}

impl LayerNames {
    /// BERT's names, with those of the three projections.
    pub(crate) const fn bert(q: &'static str, k: &'static str, v: &'static str) -> Self {
        LayerNames {
            attention: "attention.self",
            q,
            k,
            v,
            o: "attention.output.dense",
            attention_norm: "attention.output.LayerNorm",
            mlp: "intermediate",
            up: "intermediate.dense",
            down: "output.dense",
            mlp_norm: "output.LayerNorm",
        }
    }
}

/// The numbers in which encoder layers differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerSizes {
    pub(crate) width: usize,
    pub(crate) inner: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) epsilon: f64,
    pub(crate) activation: Activation,
    /// Factor of the scores.
    pub(crate) scale: f64,
}

/// What the configs of BERT's relatives state under the same keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BertLike {
    pub(crate) sizes: LayerSizes,
    pub(crate) embedding: EmbeddingSizes,
    /// Number of layers.
    pub(crate) count: usize,
}

impl BertLike {
    /// `positions`: rows of the table of positions, and how they are counted.
    pub(crate) fn read(c: &mut Config, positions: (usize, Counting)) -> Result<Self> {
        let width = c.size("hidden_size")?;
        let heads = c.size("num_attention_heads")?;
        let head_dim = head_dim(c, "num_attention_heads", width, heads)?;
        let epsilon = c.positive_or("layer_norm_eps", 1e-12)?;
        c.only("position_embedding_type", "absolute")?;
        Ok(BertLike {
            sizes: LayerSizes {
                width,
                inner: c.size("intermediate_size")?,
                heads,
                head_dim,
                epsilon,
                activation: Activation::named("hidden_act", c.text_or("hidden_act", "gelu")?)?,
                scale: by_root(num::f64_of(head_dim)),
            },
            embedding: EmbeddingSizes {
                vocab: c.size("vocab_size")?,
                width,
                projected: None,
                positions: Some(positions),
                types: c.size_or("type_vocab_size", 2)?,
                epsilon,
            },
            count: c.layers("num_hidden_layers")?,
        })
    }

    /// The weights of a checkpoint that uses BERT's tensor names, below `prefix`.
    pub(crate) fn load(&self, w: &mut Weights, prefix: &str) -> Result<(Embeddings, Vec<Layer>)> {
        const NAMES: LayerNames = LayerNames::bert(
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
        );
        let embeddings = Embeddings::load(w, &format!("{prefix}embeddings"), &self.embedding)?;
        let layer = |i| format!("{prefix}encoder.layer.{i}");
        let layers = (0..self.count).map(|i| self.sizes.load(w, &layer(i), &NAMES, None));
        Ok((embeddings, layers.collect::<Result<_>>()?))
    }
}

impl LayerSizes {
    /// A layer that normalises after each sum, with biases everywhere.
    pub(crate) fn load(
        &self,
        weights: &mut Weights,
        module: &str,
        names: &LayerNames,
        disentangled: Option<Disentangled>,
    ) -> Result<Layer> {
        let all = self.heads * self.head_dim;
        let at = |name: &str| format!("{module}.{name}");
        let q = Linear::load(weights, &at(names.q), self.width, all, true)?;
        let k = Linear::load(weights, &at(names.k), self.width, all, true)?;
        let v = Linear::load(weights, &at(names.v), self.width, all, true)?;
        let o = Linear::load(weights, &at(names.o), all, self.width, true)?;
        let up = Linear::load(weights, &at(names.up), self.width, self.inner, true)?;
        let down = Linear::load(weights, &at(names.down), self.inner, self.width, true)?;
        let mut norm =
            |name: &str| Norm::layer(weights, &at(name), self.width, self.epsilon).map(Some);
        let norms = Norms {
            after_attention_sum: norm(names.attention_norm)?,
            after_mlp_sum: norm(names.mlp_norm)?,
            ..Norms::default()
        };
        Ok(Layer {
            module: module.to_owned(),
            norms,
            attention: Attention {
                module: at(names.attention),
                heads: self.heads,
                kv_heads: self.heads,
                head_dim: self.head_dim,
                q,
                k,
                v,
                o,
                head_norms: None,
                scale: self.scale,
                softcap: None,
                rope: None,
                visibility: Visibility::All,
                disentangled,
            },
            mlp: Mlp {
                module: at(names.mlp),
                gate: None,
                up,
                down,
                activation: self.activation,
            },
        })
    }
}
