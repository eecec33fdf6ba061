//! Decoders: one spec, filled in by the adapters, and the graph it stands for.

use super::attention::{Attention, Masks, Visibility};
use super::blocks::{Activation, Layer, Linear, Mlp, Norm, Norms};
use super::config::Config;
use super::error::ArchError;
use super::graph::{Graph, path};
use super::heads::{Head, Look};
use super::rope::{Rope, Tables};
use super::weights::Weights;
use super::{Class, Limits, Options, RotaryFrequencies, Source, Spec, by_root, grouped, head_dim};
use crate::error::Result;
use crate::ir::{Claim, Constant, Module};
use crate::tensor::{DType, num};

/// Token embeddings of a decoder.
#[derive(Clone, Debug)]
pub(crate) struct Embedding {
    /// Name of the checkpoint module.
    pub(crate) module: String,
    /// `[vocab, width]`
    pub(crate) table: Constant,
    /// Factor.
    pub(crate) scale: f64,
    /// Learned positions, `[positions, width]`, with the name of their module.
    pub(crate) positions: Option<(String, Constant)>,
}

/// A decoder: embeddings, layers, a last norm, heads.
#[derive(Clone, Debug)]
pub(crate) struct DecoderSpec {
    pub(crate) vocab: usize,
    pub(crate) limits: Limits,
    pub(crate) embedding: Embedding,
    pub(crate) layers: Vec<Layer>,
    pub(crate) final_norm: Norm,
    /// Without any, the hidden states are the output.
    pub(crate) heads: Vec<Head>,
}

impl DecoderSpec {
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
        let embedding = &self.embedding;
        let table = g.b.constant(embedding.table.clone());
        let scope = path(&embedding.module);
        let mut x = g.gather(&scope, table, ids)?;
        x = g.scale(&format!("{scope}/scaled"), x, embedding.scale)?;
        if let Some((module, table)) = &embedding.positions {
            let table = g.b.constant(table.clone());
            let positions = g.first_rows(&path(module), table)?;
            x = g.add(&format!("{}/sum", path(module)), x, positions)?;
        }
        let ropes = self.layers.iter().filter_map(|layer| layer.attention.rope);
        let tables = Tables::build(&mut g, ropes)?;
        let mut masks = Masks::new(Some(mask));
        for layer in &self.layers {
            x = layer.build(&mut g, &mut masks, &tables, x)?;
        }
        let x = self.final_norm.build(&mut g, x)?;
        let mut each = Vec::new();
        if self.heads.is_empty() {
            g.b.output("last_hidden_state", x)?;
            each.push("last_hidden_state".to_owned());
        }
        for head in &self.heads {
            let y = head.build(&mut g, x)?;
            g.b.output(head.output, y)?;
            match head.look {
                Look::Each => each.push(head.output.to_owned()),
                // These look at padding too, or at one place whatever is there: nothing to claim.
                Look::First | Look::Last | Look::Mean => {}
            }
        }
        let causal = self
            .layers
            .iter()
            .all(|layer| layer.attention.visibility != Visibility::All);
        if causal {
            for output in &each {
                g.b.claim(Claim::Causal {
                    inputs: vec!["input_ids".into(), "attention_mask".into()],
                    output: output.clone(),
                });
            }
        }
        g.b.claim(Claim::IgnoresPadding {
            input: "input_ids".into(),
            mask: "attention_mask".into(),
            per_position: each,
            pooled: Vec::new(),
        });
        g.b.finish()
    }
}

/// The numbers and switches in which the decoders that use Llama's tensor names differ.
#[derive(Clone, Debug)]
pub(crate) struct LlamaLike {
    pub(crate) vocab: usize,
    pub(crate) width: usize,
    pub(crate) inner: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) epsilon: f64,
    pub(crate) activation: Activation,
    pub(crate) bias: Biases,
    /// A norm of every head of queries and keys.
    pub(crate) head_norms: bool,
    /// Norms multiply by `1 + weight`.
    pub(crate) plus_one: bool,
    /// Norms also after attention and feed-forward block, before each sum.
    pub(crate) sandwich: bool,
    /// Factor of the scores.
    pub(crate) scale: f64,
    pub(crate) softcap: Option<f64>,
    pub(crate) head_softcap: Option<f64>,
    pub(crate) embedding_scale: f64,
    pub(crate) tied: bool,
    pub(crate) limits: Limits,
    /// One entry per layer.
    pub(crate) layers: Vec<(Visibility, Rope)>,
}

/// Layers of two kinds, with and without a window, as `layer_types` lists them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerTypes {
    pub(crate) count: usize,
    /// Keys that a layer with a window sees.
    pub(crate) window: Option<usize>,
}

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

impl LayerTypes {
    /// Qwen's keys: windows are off unless switched on, and begin at `max_window_layers`.
    pub(crate) fn qwen(c: &mut Config) -> Result<(Self, Vec<Visibility>)> {
        let windows = c.flag_or("use_sliding_window", false)?;
        let window = c.switchable_size("sliding_window", Some(4096))?;
        let types = LayerTypes {
            count: c.layers("num_hidden_layers")?,
            window: window.filter(|_| windows),
        };
        let from = c.count("max_window_layers")?.unwrap_or(28);
        let layers = types.read(c, |i| types.window.is_some() && i >= from)?;
        Ok((types, layers))
    }

    /// Whether each layer has a window: by `layer_types`, or by `usual` when the config has none.
    pub(crate) fn read(
        &self,
        config: &mut Config,
        usual: impl Fn(usize) -> bool,
    ) -> Result<Vec<Visibility>> {
        let key = "layer_types";
        let bad = |config: &Config, expected: String, found: String| ArchError::BadValue {
            key: config.name(key),
            expected,
            found,
        };
        let sliding: Vec<bool> = match config.texts(key)? {
            None => (0..self.count).map(usual).collect(),
            Some(types) => {
                if let Some(other) = types.iter().find(|t| **t != FULL && **t != SLIDING) {
                    let known = format!("`{FULL}` or `{SLIDING}`");
                    return Err(bad(config, known, format!("`{other}`")).into());
                }
                if types.len() != self.count {
                    let expected = format!("one entry for each of the {} layers", self.count);
                    return Err(bad(config, expected, format!("{} entries", types.len())).into());
                }
                types.iter().map(|t| *t == SLIDING).collect()
            }
        };
        sliding
            .iter()
            .map(|sliding| match (sliding, self.window) {
                (false, _) => Ok(Visibility::Causal),
                (true, Some(window)) => Ok(Visibility::Window(window)),
                (true, None) => Err(bad(
                    config,
                    format!("`{FULL}` throughout, since there is no sliding window"),
                    format!("`{SLIDING}`"),
                )
                .into()),
            })
            .collect()
    }

    /// The layers with their rotations, which newer configs state for each kind.
    pub(crate) fn rotated(
        &self,
        config: &mut Config,
        layers: &[Visibility],
        head_dim: usize,
        positions: usize,
    ) -> Result<Vec<(Visibility, Rope)>> {
        layers
            .iter()
            .map(|&visibility| {
                let kind = match visibility {
                    Visibility::Window(_) => SLIDING,
                    Visibility::All | Visibility::Causal => FULL,
                };
                Ok((visibility, Rope::read(config, head_dim, positions, kind)?))
            })
            .collect()
    }
}

/// Which linear maps have a bias.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Biases {
    pub(crate) qkv: bool,
    pub(crate) o: bool,
    pub(crate) mlp: bool,
}

/// How the width of attention is divided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadSizes {
    /// Heads of queries.
    pub(crate) queries: usize,
    /// Heads of keys and values.
    pub(crate) keys: usize,
    /// Width of a head.
    pub(crate) size: usize,
}

impl HeadSizes {
    /// `keys` reads the number of heads of keys and values, given that of queries; `usual` is the width of a head where the config does not
    /// state it, and without it the heads divide the model's width.
    pub(crate) fn read(
        c: &mut Config,
        keys: impl FnOnce(&mut Config, usize) -> Result<usize>,
        usual: Option<usize>,
    ) -> Result<Self> {
        let width = c.size("hidden_size")?;
        let queries = c.size("num_attention_heads")?;
        let keys = keys(c, queries)?;
        grouped(c, "num_key_value_heads", queries, keys)?;
        let size = match c.opt_size("head_dim")?.or(usual) {
            Some(size) => size,
            None => head_dim(c, "num_attention_heads", width, queries)?,
        };
        Ok(HeadSizes {
            queries,
            keys,
            size,
        })
    }
}

impl LlamaLike {
    /// What all of them state under the same keys, without layers, and Llama's choice for the rest.
    pub(crate) fn read(c: &mut Config, heads: HeadSizes, positions: usize) -> Result<Self> {
        Ok(LlamaLike {
            vocab: c.size("vocab_size")?,
            width: c.size("hidden_size")?,
            inner: c.size("intermediate_size")?,
            heads: heads.queries,
            kv_heads: heads.keys,
            head_dim: heads.size,
            epsilon: c.positive_or("rms_norm_eps", 1e-6)?,
            activation: Activation::named("hidden_act", c.text_or("hidden_act", "silu")?)?,
            bias: Biases::default(),
            head_norms: false,
            plus_one: false,
            sandwich: false,
            scale: by_root(num::f64_of(heads.size)),
            softcap: None,
            head_softcap: None,
            embedding_scale: 1.0,
            tied: c.flag_or("tie_word_embeddings", false)?,
            limits: Limits::soft(positions),
            layers: Vec::new(),
        })
    }

    /// The spec, with the weights of a checkpoint that uses Llama's tensor names.
    pub(crate) fn load(self, source: &mut Source) -> Result<Spec> {
        let with_head = source.class == Class::LanguageModel;
        let weights = &mut source.weights;
        let prefix = weights.prefix(&["model.", ""], "embed_tokens.weight");
        let embed = format!("{prefix}embed_tokens");
        let table = weights.take(&format!("{embed}.weight"), &[self.vocab, self.width])?;
        let kept = match source.options.rotary {
            RotaryFrequencies::F32 => DType::F32,
            RotaryFrequencies::Stored => weights
                .dtype(&format!("{embed}.weight"))
                .unwrap_or(DType::F32),
        };
        let mut layers = Vec::with_capacity(self.layers.len());
        for (i, (visibility, rope)) in self.layers.iter().enumerate() {
            let module = format!("{prefix}layers.{i}");
            let rope = Rope { kept, ..*rope };
            layers.push(self.layer(weights, &module, *visibility, rope)?);
        }
        let final_norm = self.norm(weights, &format!("{prefix}norm"), self.width)?;
        let mut heads = Vec::new();
        if with_head {
            let weight = if self.tied {
                if weights.ignore(|name| name == "lm_head.weight") > 0 {
                    source.warnings.push(
                        "`lm_head.weight` is in the checkpoint, but the config ties the head to the embeddings: the embeddings are used".into(),
                    );
                }
                table.clone()
            } else {
                weights.take("lm_head.weight", &[self.vocab, self.width])?
            };
            let linear = Linear {
                module: "lm_head".into(),
                weight,
                bias: None,
            };
            heads.push(Head {
                output: "logits",
                look: Look::Each,
                steps: vec![(linear, None)],
                softcap: self.head_softcap,
                norm: None,
            });
        }
        // Old checkpoints carry the frequencies, which follow from the config.
        weights.ignore(|name| name.ends_with(".rotary_emb.inv_freq"));
        Ok(Spec::Decoder(Box::new(DecoderSpec {
            vocab: self.vocab,
            limits: self.limits,
            embedding: Embedding {
                module: embed,
                table,
                scale: self.embedding_scale,
                positions: None,
            },
            layers,
            final_norm,
            heads,
        })))
    }

    fn layer(
        &self,
        weights: &mut Weights,
        module: &str,
        visibility: Visibility,
        rope: Rope,
    ) -> Result<Layer> {
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let attention = format!("{module}.self_attn");
        let mlp = format!("{module}.mlp");
        let bias = self.bias;
        let mut linear = |scope: &str, name: &str, inputs, outputs, bias| {
            Linear::load(weights, &format!("{scope}.{name}"), inputs, outputs, bias)
        };
        let q = linear(&attention, "q_proj", self.width, queries, bias.qkv)?;
        let k = linear(&attention, "k_proj", self.width, keys, bias.qkv)?;
        let v = linear(&attention, "v_proj", self.width, keys, bias.qkv)?;
        let o = linear(&attention, "o_proj", queries, self.width, bias.o)?;
        let gate = linear(&mlp, "gate_proj", self.width, self.inner, bias.mlp)?;
        let up = linear(&mlp, "up_proj", self.width, self.inner, bias.mlp)?;
        let down = linear(&mlp, "down_proj", self.inner, self.width, bias.mlp)?;
        let head_norms = match self.head_norms {
            true => Some((
                self.norm(weights, &format!("{attention}.q_norm"), self.head_dim)?,
                self.norm(weights, &format!("{attention}.k_norm"), self.head_dim)?,
            )),
            false => None,
        };
        let mut norm = |name: &str| {
            self.norm(weights, &format!("{module}.{name}"), self.width)
                .map(Some)
        };
        let norms = if self.sandwich {
            Norms {
                before_attention: norm("input_layernorm")?,
                after_attention: norm("post_attention_layernorm")?,
                before_mlp: norm("pre_feedforward_layernorm")?,
                after_mlp: norm("post_feedforward_layernorm")?,
                ..Norms::default()
            }
        } else {
            Norms {
                before_attention: norm("input_layernorm")?,
                before_mlp: norm("post_attention_layernorm")?,
                ..Norms::default()
            }
        };
        Ok(Layer {
            module: module.to_owned(),
            norms,
            attention: Attention {
                module: attention,
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_dim: self.head_dim,
                q,
                k,
                v,
                o,
                head_norms,
                scale: self.scale,
                softcap: self.softcap,
                rope: Some(rope),
                visibility,
                disentangled: None,
            },
            mlp: Mlp {
                module: mlp,
                gate: Some(gate),
                up,
                down,
                activation: self.activation,
            },
        })
    }

    fn norm(&self, weights: &mut Weights, module: &str, width: usize) -> Result<Norm> {
        if self.plus_one {
            Norm::rms_plus_one(weights, module, width, self.epsilon)
        } else {
            Norm::rms(weights, module, width, self.epsilon)
        }
    }
}
