//! GPT-2: layer norms, learned positions, and weights stored input-major with queries, keys and values in one matrix.
//!
//! # Source
//! `models/gpt2` of transformers 4.57; defaults are those of `GPT2Config`.

use crate::arch::attention::{Attention, Visibility};
use crate::arch::blocks::{Activation, Layer, Linear, Mlp, Norm, Norms};
use crate::arch::decoder::{DecoderSpec, Embedding};
use crate::arch::heads::{Head, Look};
use crate::arch::weights::Weights;
use crate::arch::{ArchError, Class, Limits, Source, Spec, by_root, head_dim};
use crate::error::Result;
use crate::tensor::num;

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    let width = c.size_or("n_embd", 768)?;
    let heads = c.size_or("n_head", 12)?;
    let head_dim = head_dim(c, "n_head", width, heads)?;
    let positions = c.size_or("n_positions", 1024)?;
    let context = c.size_or("n_ctx", positions)?;
    if context != positions {
        return Err(ArchError::BadValue {
            key: "n_ctx".into(),
            expected: format!("`n_positions`, {positions}"),
            found: context.to_string(),
        }
        .into());
    }
    let vocab = c.size("vocab_size")?;
    let sizes = Sizes {
        width,
        inner: c.size_or("n_inner", 4 * width)?,
        heads,
        head_dim,
        epsilon: c.positive_or("layer_norm_epsilon", 1e-5)?,
        activation: Activation::named(
            "activation_function",
            c.text_or("activation_function", "gelu_new")?,
        )?,
        scaled: c.flag_or("scale_attn_weights", true)?,
        by_depth: c.flag_or("scale_attn_by_inverse_layer_idx", false)?,
    };
    // Changes only in which order half-precision scores are scaled.
    let _ = c.flag_or("reorder_and_upcast_attn", false)?;
    let tied = c.flag_or("tie_word_embeddings", true)?;
    let count = c.layers("n_layer")?;
    let w = &mut source.weights;
    let prefix = w.prefix(&["transformer.", ""], "wte.weight");
    let table = w.take(&format!("{prefix}wte.weight"), &[vocab, width])?;
    let learned = w.take(&format!("{prefix}wpe.weight"), &[positions, width])?;
    let layers = (0..count)
        .map(|i| sizes.layer(w, &format!("{prefix}h.{i}"), i))
        .collect::<Result<Vec<_>>>()?;
    let final_norm = Norm::layer(w, &format!("{prefix}ln_f"), width, sizes.epsilon)?;
    // Causal masks that old checkpoints carry.
    w.ignore(|name| name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"));
    let mut heads = Vec::new();
    if source.class == Class::LanguageModel {
        let weight = if tied {
            w.ignore(|name| name == "lm_head.weight");
            table.clone()
        } else {
            w.take("lm_head.weight", &[vocab, width])?
        };
        let linear = Linear {
            module: "lm_head".into(),
            weight,
            bias: None,
        };
        heads.push(Head::linear("logits", Look::Each, vec![(linear, None)]));
    }
    Ok(Spec::Decoder(Box::new(DecoderSpec {
        vocab,
        limits: Limits::hard(positions, "its table of positions ends there"),
        embedding: Embedding {
            module: format!("{prefix}wte"),
            table,
            scale: 1.0,
            positions: Some((format!("{prefix}wpe"), learned)),
        },
        layers,
        final_norm,
        heads,
    })))
}

struct Sizes {
    width: usize,
    inner: usize,
    heads: usize,
    head_dim: usize,
    epsilon: f64,
    activation: Activation,
    scaled: bool,
    by_depth: bool,
}

impl Sizes {
    fn layer(&self, w: &mut Weights, module: &str, index: usize) -> Result<Layer> {
        let (width, inner) = (self.width, self.inner);
        let attention = format!("{module}.attn");
        let mlp = format!("{module}.mlp");
        let qkv = linear(w, &format!("{attention}.c_attn"), width, 3 * width)?;
        let part = |i: usize, name: &str| -> Result<Linear> {
            let bias = match &qkv.bias {
                Some(bias) => Some(Weights::rows(bias, i * width, width)?),
                None => None,
            };
            Ok(Linear {
                module: format!("{attention}.c_attn.{name}"),
                weight: Weights::rows(&qkv.weight, i * width, width)?,
                bias,
            })
        };
        let mut scale = 1.0;
        if self.scaled {
            scale *= by_root(num::f64_of(self.head_dim));
        }
        if self.by_depth {
            scale /= num::f64_of(index + 1);
        }
        Ok(Layer {
            module: module.to_owned(),
            norms: Norms {
                before_attention: Some(Norm::layer(
                    w,
                    &format!("{module}.ln_1"),
                    width,
                    self.epsilon,
                )?),
                before_mlp: Some(Norm::layer(
                    w,
                    &format!("{module}.ln_2"),
                    width,
                    self.epsilon,
                )?),
                ..Norms::default()
            },
            attention: Attention {
                heads: self.heads,
                kv_heads: self.heads,
                head_dim: self.head_dim,
                q: part(0, "q")?,
                k: part(1, "k")?,
                v: part(2, "v")?,
                o: linear(w, &format!("{attention}.c_proj"), width, width)?,
                module: attention,
                head_norms: None,
                scale,
                softcap: None,
                rope: None,
                visibility: Visibility::Causal,
                disentangled: None,
            },
            mlp: Mlp {
                gate: None,
                up: linear(w, &format!("{mlp}.c_fc"), width, inner)?,
                down: linear(w, &format!("{mlp}.c_proj"), inner, width)?,
                module: mlp,
                activation: self.activation,
            },
        })
    }
}

/// A linear map whose weight is stored `[inputs, outputs]`.
fn linear(w: &mut Weights, module: &str, inputs: usize, outputs: usize) -> Result<Linear> {
    Ok(Linear {
        module: module.to_owned(),
        weight: w.take_transposed(&format!("{module}.weight"), outputs, inputs)?,
        bias: Some(w.take(&format!("{module}.bias"), &[outputs])?),
    })
}
