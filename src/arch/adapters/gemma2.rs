//! Gemma 2: norms that multiply by `1 + weight` before and after each block, soft limits of scores and logits, windows in every other layer,
//! embeddings scaled by the root of the width.
//!
//! # Numerics
//! The library rounds the scale of the embeddings to the type it computes in. That is f32 here, whatever the weights are stored in.
//!
//! # Source
//! `models/gemma2` of transformers 4.57; defaults are those of `Gemma2Config`.

use crate::arch::blocks::Activation;
use crate::arch::config::Config;
use crate::arch::decoder::{Biases, HeadSizes, LayerTypes, LlamaLike};
use crate::arch::{Source, Spec, by_root};
use crate::error::Result;
use crate::tensor::num;

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    let kv_heads = |c: &mut Config, _| c.size_or("num_key_value_heads", 4);
    let heads = HeadSizes::read(c, kv_heads, Some(256))?;
    let positions = c.size_or("max_position_embeddings", 8192)?;
    let types = LayerTypes {
        count: c.layers("num_hidden_layers")?,
        window: c.switchable_size("sliding_window", Some(4096))?,
    };
    c.repeats("sliding_window_size", "sliding_window", types.window)?;
    let layers = types.read(c, |i| i.is_multiple_of(2))?;
    let bias = c.flag_or("attention_bias", false)?;
    // The library reads `hidden_activation` only; old configs say `gelu` under the other key and do not mean it.
    let activation = c.text_or("hidden_activation", "gelu_pytorch_tanh")?;
    let activation = Activation::named("hidden_activation", activation)?;
    let common = LlamaLike::read(c, heads, positions)?;
    let spec = LlamaLike {
        activation,
        bias: Biases {
            qkv: bias,
            o: bias,
            mlp: false,
        },
        plus_one: true,
        sandwich: true,
        scale: by_root(c.positive_or("query_pre_attn_scalar", 256.0)?),
        softcap: c.switchable_number("attn_logit_softcapping", Some(50.0))?,
        head_softcap: c.switchable_number("final_logit_softcapping", Some(30.0))?,
        embedding_scale: num::f64_of(common.width).sqrt(),
        tied: c.flag_or("tie_word_embeddings", true)?,
        layers: types.rotated(c, &layers, heads.size, positions)?,
        ..common
    };
    spec.load(source)
}
