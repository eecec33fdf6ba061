//! BERT and the sentence encoders built on it (MiniLM, E5, BGE, GTE): hidden states with or without a pooler, or a classifier on the pooler.
//!
//! # Source
//! `models/bert` of transformers 4.57; defaults are those of `BertConfig`.

use crate::arch::blocks::{Activation, Linear};
use crate::arch::encoder::{
    Counting, EmbeddingSizes, Embeddings, EncoderSpec, LayerNames, LayerSizes,
};
use crate::arch::heads::{Head, Look};
use crate::arch::{Class, Limits, Source, Spec, by_root, head_dim};
use crate::error::Result;
use crate::tensor::num;

const NAMES: LayerNames = LayerNames::bert(
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
);

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    let width = c.size("hidden_size")?;
    let heads = c.size("num_attention_heads")?;
    let head_dim = head_dim(c, "num_attention_heads", width, heads)?;
    let positions = c.size_or("max_position_embeddings", 512)?;
    let epsilon = c.positive_or("layer_norm_eps", 1e-12)?;
    let vocab = c.size("vocab_size")?;
    c.only("position_embedding_type", "absolute")?;
    let sizes = LayerSizes {
        width,
        inner: c.size("intermediate_size")?,
        heads,
        head_dim,
        epsilon,
        activation: Activation::named("hidden_act", c.text_or("hidden_act", "gelu")?)?,
        scale: by_root(num::f64_of(head_dim)),
    };
    let embedding = EmbeddingSizes {
        vocab,
        width,
        projected: None,
        positions: Some((positions, Counting::Index)),
        types: c.size_or("type_vocab_size", 2)?,
        epsilon,
    };
    let count = c.layers("num_hidden_layers")?;
    let labels = c.labels()?;
    let w = &mut source.weights;
    let prefix = w.prefix(&["bert.", ""], "embeddings.word_embeddings.weight");
    let embeddings = Embeddings::load(w, &format!("{prefix}embeddings"), &embedding)?;
    let layers = (0..count)
        .map(|i| sizes.load(w, &format!("{prefix}encoder.layer.{i}"), &NAMES, None))
        .collect::<Result<Vec<_>>>()?;
    let pooler = format!("{prefix}pooler.dense");
    let classifier = source.class == Class::Classifier;
    let mut heads = Vec::new();
    // Base models are often saved without a pooler.
    if classifier || w.has(&format!("{pooler}.weight")) {
        let dense = Linear::load(w, &pooler, width, width, true)?;
        let mut steps = vec![(dense, Some(Activation::Tanh))];
        if classifier {
            steps.push((Linear::load(w, "classifier", width, labels, true)?, None));
        }
        heads.push(Head {
            output: if classifier {
                "logits"
            } else {
                "pooler_output"
            },
            look: Look::First,
            steps,
            softcap: None,
        });
    }
    source.leave_heads(&["cls."]);
    Ok(Spec::Encoder(Box::new(EncoderSpec {
        vocab,
        width,
        limits: Limits::hard(positions, "its table of positions ends there"),
        embeddings,
        relative: None,
        layers,
        hidden: !classifier,
        heads,
        sentence: None,
    })))
}
