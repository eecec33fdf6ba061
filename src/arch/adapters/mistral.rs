//! Mistral 7B, Nemo and their kin: Llama with a sliding window in every layer, unless the config switches it off.
//!
//! # Source
//! `models/mistral` of transformers 4.57; defaults are those of `MistralConfig`.

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
    // Absent means 8, null means as many as queries have.
    let kv_heads = c
        .switchable_size("num_key_value_heads", Some(8))?
        .unwrap_or(heads);
    grouped(c, "num_key_value_heads", heads, kv_heads)?;
    let head_dim = match c.opt_size("head_dim")? {
        Some(head_dim) => head_dim,
        None => head_dim(c, "num_attention_heads", width, heads)?,
    };
    let positions = c.size_or("max_position_embeddings", 4096 * 32)?;
    let rope = Rope::read(c, head_dim, positions, "full_attention")?;
    let visibility = match c.switchable_size("sliding_window", Some(4096))? {
        Some(window) => Visibility::Window(window),
        None => Visibility::Causal,
    };
    let spec = LlamaLike {
        vocab: c.size("vocab_size")?,
        width,
        inner: c.size("intermediate_size")?,
        heads,
        kv_heads,
        head_dim,
        epsilon: c.positive_or("rms_norm_eps", 1e-6)?,
        activation: Activation::named("hidden_act", c.text_or("hidden_act", "silu")?)?,
        bias: Biases::default(),
        head_norms: false,
        plus_one: false,
        sandwich: false,
        scale: by_root(num::f64_of(head_dim)),
        softcap: None,
        head_softcap: None,
        embedding_scale: 1.0,
        tied: c.flag_or("tie_word_embeddings", false)?,
        limits: Limits::soft(positions),
        layers: vec![(visibility, rope); c.layers("num_hidden_layers")?],
    };
    let with_head = source.class == Class::LanguageModel;
    Ok(Spec::Decoder(Box::new(spec.load(source, with_head)?)))
}
