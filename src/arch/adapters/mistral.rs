//! Mistral 7B, Nemo and their kin: Llama with a sliding window in every layer, unless the config switches it off.
//!
//! # Source
//! `models/mistral` of transformers 4.57; defaults are those of `MistralConfig`.

use crate::arch::attention::Visibility;
use crate::arch::config::Config;
use crate::arch::decoder::{HeadSizes, LlamaLike};
use crate::arch::rope::Rope;
use crate::arch::{Source, Spec};
use crate::error::Result;

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    // Absent means 8, null means as many as queries have.
    let kv_heads = |c: &mut Config, queries| {
        let stated = c.switchable_size("num_key_value_heads", Some(8))?;
        Ok(stated.unwrap_or(queries))
    };
    let heads = HeadSizes::read(c, kv_heads, None)?;
    let positions = c.size_or("max_position_embeddings", 4096 * 32)?;
    let rope = Rope::read(c, heads.size, positions, "full_attention")?;
    let visibility = match c.switchable_size("sliding_window", Some(4096))? {
        Some(window) => Visibility::Window(window),
        None => Visibility::Causal,
    };
    let spec = LlamaLike {
        layers: vec![(visibility, rope); c.layers("num_hidden_layers")?],
        ..LlamaLike::read(c, heads, positions)?
    };
    spec.load(source)
}
