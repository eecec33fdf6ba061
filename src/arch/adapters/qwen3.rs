//! Qwen3, dense: Llama with a norm of every head of queries and keys before they are rotated, and windows in some layers.
//!
//! # Source
//! `models/qwen3` of transformers 4.57; defaults are those of `Qwen3Config`.

use crate::arch::config::Config;
use crate::arch::decoder::{Biases, HeadSizes, LayerTypes, LlamaLike};
use crate::arch::{Source, Spec};
use crate::error::Result;

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    let kv_heads = |c: &mut Config, queries| {
        let stated = c.switchable_size("num_key_value_heads", Some(32))?;
        Ok(stated.unwrap_or(queries))
    };
    let heads = HeadSizes::read(c, kv_heads, Some(128))?;
    let positions = c.size_or("max_position_embeddings", 32768)?;
    let (types, layers) = LayerTypes::qwen(c)?;
    let bias = c.flag_or("attention_bias", false)?;
    let spec = LlamaLike {
        bias: Biases {
            qkv: bias,
            o: bias,
            mlp: false,
        },
        head_norms: true,
        layers: types.rotated(c, &layers, heads.size, positions)?,
        ..LlamaLike::read(c, heads, positions)?
    };
    spec.load(source)
}
