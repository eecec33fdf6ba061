//! Llama 1 to 3 and what uses its code: SmolLM2, TinyLlama, DeepSeek distillations.
//!
//! # Source
//! `models/llama` of transformers 4.57; defaults are those of `LlamaConfig`.

use crate::arch::attention::Visibility;
use crate::arch::blocks::Activation;
use crate::arch::decoder::{Biases, LlamaLike};
use crate::arch::rope::Rope;
use crate::arch::{Class, Limits, Source, Spec, by_root, grouped, head_dim};
use crate::error::Result;
use crate::tensor::num;

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    let width = c.size("hidden_size")?;
    let heads = c.size("num_attention_heads")?;
    let kv_heads = c.size_or("num_key_value_heads", heads)?;
    grouped(c, "num_key_value_heads", heads, kv_heads)?;
    let head_dim = match c.opt_size("head_dim")? {
        Some(head_dim) => head_dim,
        None => head_dim(c, "num_attention_heads", width, heads)?,
    };
    let positions = c.size_or("max_position_embeddings", 2048)?;
    let rope = Rope::read(c, head_dim, positions, "full_attention")?;
    let bias = c.flag_or("attention_bias", false)?;
    let spec = LlamaLike {
        vocab: c.size("vocab_size")?,
        width,
        inner: c.size("intermediate_size")?,
        heads,
        kv_heads,
        head_dim,
        epsilon: c.positive_or("rms_norm_eps", 1e-6)?,
        activation: Activation::named("hidden_act", c.text_or("hidden_act", "silu")?)?,
        bias: Biases {
            qkv: bias,
            o: bias,
            mlp: c.flag_or("mlp_bias", false)?,
        },
        head_norms: false,
        plus_one: false,
        sandwich: false,
        scale: by_root(num::f64_of(head_dim)),
        softcap: None,
        head_softcap: None,
        embedding_scale: 1.0,
        tied: c.flag_or("tie_word_embeddings", false)?,
        limits: Limits::soft(positions),
        layers: vec![(Visibility::Causal, rope); c.layers("num_hidden_layers")?],
    };
    let with_head = source.class == Class::LanguageModel;
    Ok(Spec::Decoder(Box::new(spec.load(source, with_head)?)))
}
