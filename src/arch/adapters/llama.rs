//! Llama 1 to 3 and what uses its code: SmolLM2, TinyLlama, DeepSeek distillations.
//!
//! # Source
//! `models/llama` of transformers 4.57; defaults are those of `LlamaConfig`.

use crate::arch::attention::Visibility;
use crate::arch::config::Config;
use crate::arch::decoder::{Biases, HeadSizes, LlamaLike};
use crate::arch::rope::Rope;
use crate::arch::{Source, Spec};
use crate::error::Result;

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    let kv_heads = |c: &mut Config, queries| c.size_or("num_key_value_heads", queries);
    let heads = HeadSizes::read(c, kv_heads, None)?;
    let positions = c.size_or("max_position_embeddings", 2048)?;
    let rope = Rope::read(c, heads.size, positions, "full_attention")?;
    let bias = c.flag_or("attention_bias", false)?;
    let spec = LlamaLike {
        bias: Biases {
            qkv: bias,
            o: bias,
            mlp: c.flag_or("mlp_bias", false)?,
        },
        layers: vec![(Visibility::Causal, rope); c.layers("num_hidden_layers")?],
        ..LlamaLike::read(c, heads, positions)?
    };
    spec.load(source)
}
