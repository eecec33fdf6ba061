//! StudentLM, the small grouped-query transformer of the predecessor, in its own tensor layout or in Llama's.
//!
//! The predecessor's `forward` has no causal mask, its step-by-step decoding is causal: the two are different functions, so the direction must
//! be stated. RoPE `dynamic` divides the frequencies by length/2048 once a sequence is longer, so nothing changes up to 2048, and beyond every
//! length is another model: refused. RoPE `linear` was declared and never implemented: it acts as none.
//!
//! # Numerics
//! The predecessor rounds its logits to f16; here they stay f32.

use crate::arch::attention::{Attention as Block, Visibility};
use crate::arch::blocks::{Activation, Layer, Linear, Mlp, Norm, Norms};
use crate::arch::config::Config;
use crate::arch::decoder::{DecoderSpec, Embedding};
use crate::arch::heads::{Head, Look};
use crate::arch::rope::{Rope, Scaling};
use crate::arch::weights::Weights;
use crate::arch::{ArchError, Attention, Limits, Source, Spec, by_root, grouped};
use crate::error::Result;
use crate::tensor::{DType, num};

/// Added to the mean of squares; fixed in the predecessor.
const EPSILON: f64 = 1e-6;
/// Longest sequence over which `dynamic` RoPE changes nothing.
const UNSCALED: usize = 2048;

/// Names of the modules in one of the two layouts.
struct Names {
    embed: &'static str,
    layer: &'static str,
    before_attention: &'static str,
    attention: &'static str,
    projections: [&'static str; 4],
    before_mlp: &'static str,
    mlp: [&'static str; 3],
    final_norm: &'static str,
}

const NATIVE: Names = Names {
    embed: "embed",
    layer: "blocks",
    before_attention: "norm1",
    attention: "attn",
    projections: ["wq", "wk", "wv", "wo"],
    before_mlp: "norm2",
    mlp: ["w1", "w3", "w2"],
    final_norm: "norm_f",
};

const LLAMA: Names = Names {
    embed: "model.embed_tokens",
    layer: "model.layers",
    before_attention: "input_layernorm",
    attention: "self_attn",
    projections: ["q_proj", "k_proj", "v_proj", "o_proj"],
    before_mlp: "post_attention_layernorm",
    mlp: ["gate_proj", "up_proj", "down_proj"],
    final_norm: "model.norm",
};

struct Sizes {
    vocab: usize,
    width: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    rope: Rope,
    visibility: Visibility,
}

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let visibility = match direction(source)? {
        Attention::Causal => Visibility::Causal,
        Attention::Bidirectional => {
            source.warnings.push(
                "non_causal_prefill: attention is bidirectional, as in the predecessor's `forward`; decoding step by step computes something different".into(),
            );
            Visibility::All
        }
    };
    let c = &mut source.config;
    let halt = c.flag_or("use_halt_head", false)?;
    let evaluation = c.flag_or("use_self_evaluation", false)?;
    let mut limits = Limits::soft(UNSCALED);
    let sizes = match c.section("arch")? {
        Some(mut arch) => {
            let sizes = sizes(&mut arch, visibility, &mut limits, &mut source.warnings)?;
            arch.finish()?;
            sizes
        }
        None => sizes(c, visibility, &mut limits, &mut source.warnings)?,
    };
    let w = &mut source.weights;
    let names = if w.has("model.embed_tokens.weight") {
        &LLAMA
    } else {
        &NATIVE
    };
    let (vocab, width) = (sizes.vocab, sizes.width);
    let table = w.take(&format!("{}.weight", names.embed), &[vocab, width])?;
    let layers = (0..sizes.layers)
        .map(|i| sizes.layer(w, names, &format!("{}.{i}", names.layer)))
        .collect::<Result<Vec<_>>>()?;
    let final_norm = Norm::rms(w, names.final_norm, width, EPSILON)?;
    let mut heads = vec![Head::linear(
        "logits",
        Look::Each,
        vec![(Linear::load(w, "lm_head", width, vocab, false)?, None)],
    )];
    if halt {
        heads.push(Head::linear(
            "halt_logits",
            Look::Mean,
            vec![(Linear::load(w, "halt_head", width, 2, true)?, None)],
        ));
    }
    if evaluation {
        let inner = w.axis("eval_head.0.weight", 0).unwrap_or(width / 2);
        heads.push(Head::linear(
            "eval_score",
            Look::Last,
            vec![
                (
                    Linear::load(w, "eval_head.0", width, inner, true)?,
                    Some(Activation::Relu),
                ),
                (
                    Linear::load(w, "eval_head.2", inner, 1, true)?,
                    Some(Activation::Sigmoid),
                ),
            ],
        ));
    }
    // Only used while training.
    w.ignore(|name| name.starts_with("intermediate_aligner."));
    w.ignore(|name| name.ends_with(".rotary_emb.inv_freq"));
    Ok(Spec::Decoder(Box::new(DecoderSpec {
        vocab,
        limits,
        embedding: Embedding {
            module: names.embed.into(),
            table,
            scale: 1.0,
            positions: None,
        },
        layers,
        final_norm,
        heads,
    })))
}

/// The direction that the config or the caller states; both must agree.
fn direction(source: &mut Source) -> Result<Attention> {
    source.attention_decided = true;
    let stated = match source.config.opt_text("attention")? {
        Some(name) => {
            Some(
                Attention::from_name(name).ok_or_else(|| ArchError::UnsupportedValue {
                    key: "attention".into(),
                    found: format!("`{name}`"),
                    supported: "`causal`, `bidirectional`".into(),
                })?,
            )
        }
        None => None,
    };
    match (stated, source.options.attention) {
        (Some(stated), Some(asked)) if stated != asked => Err(ArchError::AttentionContradicted {
            asked: asked.name(),
            stated: stated.name(),
        }
        .into()),
        (Some(direction), _) | (None, Some(direction)) => Ok(direction),
        (None, None) => Err(ArchError::AttentionNotStated.into()),
    }
}

fn sizes(
    c: &mut Config,
    visibility: Visibility,
    limits: &mut Limits,
    warnings: &mut Vec<String>,
) -> Result<Sizes> {
    let heads = c.size("n_heads")?;
    let kv_heads = c.size("n_kv_heads")?;
    grouped(c, "n_kv_heads", heads, kv_heads)?;
    let head_dim = c.size("d_head")?;
    if !head_dim.is_multiple_of(2) {
        return Err(ArchError::UnsupportedValue {
            key: c.name("d_head"),
            found: head_dim.to_string(),
            supported: "even sizes".into(),
        }
        .into());
    }
    match c.text_or("rope_scaling", "dynamic")? {
        "dynamic" => {
            *limits = Limits::hard(
                UNSCALED,
                "beyond, its `dynamic` rotary positions make every length another model",
            );
        }
        "none" => {}
        "linear" => warnings.push(
            "rope_scaling `linear` was never implemented in the predecessor and does nothing"
                .into(),
        ),
        other => {
            return Err(ArchError::UnsupportedValue {
                key: c.name("rope_scaling"),
                found: format!("`{other}`"),
                supported: "`none`, `dynamic` up to 2048 positions, `linear` (does nothing)".into(),
            }
            .into());
        }
    }
    // The predecessor's configs state it, and its model ignores it.
    let multiple = c.positive_or("mlp_hidden_mult", 4.0)?;
    if (multiple - 4.0).abs() > f64::EPSILON {
        warnings.push(format!(
            "`mlp_hidden_mult` {multiple} is ignored: the predecessor's feed-forward blocks are always 4 times as wide as the model"
        ));
    }
    Ok(Sizes {
        vocab: c.size("vocab_size")?,
        width: c.size("d_model")?,
        layers: c.layers("n_layers")?,
        heads,
        kv_heads,
        head_dim,
        rope: Rope {
            head_dim,
            theta: c.positive_or("rope_theta", 10_000.0)?,
            scaling: Scaling::Default,
            kept: DType::F32,
        },
        visibility,
    })
}

impl Sizes {
    fn layer(&self, w: &mut Weights, names: &Names, module: &str) -> Result<Layer> {
        let width = self.width;
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let attention = format!("{module}.{}", names.attention);
        let mlp = format!("{module}.mlp");
        let [q, k, v, o] = names.projections;
        let [gate, up, down] = names.mlp;
        let mut linear = |scope: &str, name: &str, inputs, outputs| {
            Linear::load(w, &format!("{scope}.{name}"), inputs, outputs, false)
        };
        let (q, k, v, o) = (
            linear(&attention, q, width, queries)?,
            linear(&attention, k, width, keys)?,
            linear(&attention, v, width, keys)?,
            linear(&attention, o, queries, width)?,
        );
        let (gate, up, down) = (
            linear(&mlp, gate, width, 4 * width)?,
            linear(&mlp, up, width, 4 * width)?,
            linear(&mlp, down, 4 * width, width)?,
        );
        let mut norm =
            |name: &str| Norm::rms(w, &format!("{module}.{name}"), width, EPSILON).map(Some);
        Ok(Layer {
            module: module.to_owned(),
            norms: Norms {
                before_attention: norm(names.before_attention)?,
                before_mlp: norm(names.before_mlp)?,
                ..Norms::default()
            },
            attention: Block {
                module: attention,
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_dim: self.head_dim,
                q,
                k,
                v,
                o,
                head_norms: None,
                scale: by_root(num::f64_of(self.head_dim)),
                softcap: None,
                rope: Some(self.rope),
                visibility: self.visibility,
                disentangled: None,
            },
            mlp: Mlp {
                module: mlp,
                gate: Some(gate),
                up,
                down,
                activation: Activation::Silu,
            },
        })
    }
}
