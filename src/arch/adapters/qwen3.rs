//! Qwen3, dense: Llama with a norm of every head of queries and keys before they are rotated, and windows in some layers.
//!
//! # Source
//! `models/qwen3` of transformers 4.57; defaults are those of `Qwen3Config`.

use crate::arch::blocks::Activation;
use crate::arch::decoder::{Biases, LayerTypes, LlamaLike};
use crate::arch::{Class, Limits, Source, Spec, by_root, grouped};
use crate::error::Result;
use crate::tensor::num;

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    let heads = c.size("num_attention_heads")?;
    let kv_heads = c
        .switchable_size("num_key_value_heads", Some(32))?
        .unwrap_or(heads);
    grouped(c, "num_key_value_heads", heads, kv_heads)?;
    let head_dim = c.size_or("head_dim", 128)?;
    let positions = c.size_or("max_position_embeddings", 32768)?;
    let windows = c.flag_or("use_sliding_window", false)?;
    let window = c.switchable_size("sliding_window", Some(4096))?;
    let types = LayerTypes {
        count: c.layers("num_hidden_layers")?,
        window: window.filter(|_| windows),
    };
    let from = c.count("max_window_layers")?.unwrap_or(28);
    let layers = types.read(c, |i| types.window.is_some() && i >= from)?;
    let bias = c.flag_or("attention_bias", false)?;
    let spec = LlamaLike {
        vocab: c.size("vocab_size")?,
        width: c.size("hidden_size")?,
        inner: c.size("intermediate_size")?,
        heads,
        kv_heads,
        head_dim,
        epsilon: c.positive_or("rms_norm_eps", 1e-6)?,
        activation: Activation::named("hidden_act", c.text_or("hidden_act", "silu")?)?,
        bias: Biases {
            qkv: bias,
            o: bias,
            mlp: false,
        },
        head_norms: true,
        plus_one: false,
        sandwich: false,
        scale: by_root(num::f64_of(head_dim)),
        softcap: None,
        head_softcap: None,
        embedding_scale: 1.0,
        tied: c.flag_or("tie_word_embeddings", false)?,
        limits: Limits::soft(positions),
        layers: types.rotated(c, &layers, head_dim, positions)?,
    };
    let with_head = source.class == Class::LanguageModel;
    Ok(Spec::Decoder(Box::new(spec.load(source, with_head)?)))
}
