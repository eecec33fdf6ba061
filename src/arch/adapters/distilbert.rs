//! DistilBERT: BERT's layers under other names, without token types and pooler.
//!
//! # Source
//! `models/distilbert` of transformers 4.57; defaults are those of `DistilBertConfig`, the epsilon of the norms is fixed there.

use crate::arch::blocks::{Activation, Linear};
use crate::arch::encoder::{
    Counting, EmbeddingSizes, Embeddings, EncoderSpec, LayerNames, LayerSizes, MaskedNames,
    token_head,
};
use crate::arch::heads::{Head, Look};
use crate::arch::{Class, Limits, Source, Spec, by_root, head_dim};
use crate::error::Result;
use crate::tensor::num;

const EPSILON: f64 = 1e-12;

const NAMES: LayerNames = LayerNames {
    attention: "attention",
    q: "attention.q_lin",
    k: "attention.k_lin",
    v: "attention.v_lin",
    o: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    mlp: "ffn",
    up: "ffn.lin1",
    down: "ffn.lin2",
    mlp_norm: "output_layer_norm",
};

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    let width = c.size_or("dim", 768)?;
    let heads = c.size_or("n_heads", 12)?;
    let head_dim = head_dim(c, "n_heads", width, heads)?;
    let positions = c.size_or("max_position_embeddings", 512)?;
    let vocab = c.size("vocab_size")?;
    // Says how the table of positions began; it is stored either way.
    let _ = c.flag_or("sinusoidal_pos_embds", false)?;
    let sizes = LayerSizes {
        width,
        inner: c.size_or("hidden_dim", 4 * 768)?,
        heads,
        head_dim,
        epsilon: EPSILON,
        activation: Activation::named("activation", c.text_or("activation", "gelu")?)?,
        scale: by_root(num::f64_of(head_dim)),
    };
    let embedding = EmbeddingSizes {
        vocab,
        width,
        projected: None,
        positions: Some((positions, Counting::Index)),
        types: 0,
        epsilon: EPSILON,
    };
    let count = c.layers("n_layers")?;
    let labels = c.labels()?;
    let tied = c.flag_or("tie_word_embeddings", true)?;
    let w = &mut source.weights;
    let prefix = w.prefix(&["distilbert.", ""], "embeddings.word_embeddings.weight");
    let embeddings = Embeddings::load(w, &format!("{prefix}embeddings"), &embedding)?;
    let layers = (0..count)
        .map(|i| sizes.load(w, &format!("{prefix}transformer.layer.{i}"), &NAMES, None))
        .collect::<Result<Vec<_>>>()?;
    let mut heads = Vec::new();
    match source.class {
        Class::Classifier => {
            let dense = Linear::load(w, "pre_classifier", width, width, true)?;
            let out = Linear::load(w, "classifier", width, labels, true)?;
            heads.push(Head::linear(
                "logits",
                Look::First,
                vec![(dense, Some(Activation::Relu)), (out, None)],
            ));
        }
        Class::TokenClassifier => heads.push(token_head(w, width, labels)?),
        Class::MaskedLanguageModel => {
            let names = MaskedNames {
                dense: "vocab_transform",
                norm: "vocab_layer_norm",
                decoder: "vocab_projector",
                bias: "vocab_projector.bias",
            };
            let sizes = (&sizes, sizes.activation);
            heads.push(names.load(w, sizes, &embeddings.words, vocab, tied)?);
        }
        Class::Base | Class::LanguageModel => {}
    }
    source.leave_heads(&["vocab_"]);
    Ok(Spec::Encoder(Box::new(EncoderSpec {
        vocab,
        width,
        limits: Limits::hard(positions, "its table of positions ends there"),
        embeddings,
        relative: None,
        layers,
        hidden: source.class == Class::Base,
        heads,
        sentence: None,
    })))
}
