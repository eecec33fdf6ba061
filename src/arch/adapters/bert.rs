//! BERT and the sentence encoders built on it (MiniLM, E5, BGE, GTE): hidden states with or without a pooler, a classifier on the
//! pooler or on every token, or scores of masked words.
//!
//! # Source
//! `models/bert` of transformers 4.57; defaults are those of `BertConfig`.

use crate::arch::blocks::{Activation, Linear};
use crate::arch::encoder::{BertLike, Counting, EncoderSpec, MaskedNames, token_head};
use crate::arch::heads::{Head, Look};
use crate::arch::{Class, Limits, Source, Spec};
use crate::error::Result;

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    let positions = c.size_or("max_position_embeddings", 512)?;
    let like = BertLike::read(c, (positions, Counting::Index))?;
    let (vocab, width) = (like.embedding.vocab, like.sizes.width);
    let labels = c.labels()?;
    let tied = c.flag_or("tie_word_embeddings", true)?;
    let w = &mut source.weights;
    let prefix = w.prefix(&["bert.", ""], "embeddings.word_embeddings.weight");
    let (embeddings, layers) = like.load(w, prefix)?;
    let pooler = format!("{prefix}pooler.dense");
    let mut heads = Vec::new();
    match source.class {
        Class::Classifier => {
            let dense = Linear::load(w, &pooler, width, width, true)?;
            let out = Linear::load(w, "classifier", width, labels, true)?;
            heads.push(Head::linear(
                "logits",
                Look::First,
                vec![(dense, Some(Activation::Tanh)), (out, None)],
            ));
        }
        Class::TokenClassifier => heads.push(token_head(w, width, labels)?),
        Class::MaskedLanguageModel => {
            let names = MaskedNames {
                dense: "cls.predictions.transform.dense",
                norm: "cls.predictions.transform.LayerNorm",
                decoder: "cls.predictions.decoder",
                bias: "cls.predictions.bias",
            };
            let sizes = (&like.sizes, like.sizes.activation);
            heads.push(names.load(w, sizes, &embeddings.words, vocab, tied)?);
            // The other head of pretraining.
            w.ignore(|name| name.starts_with("cls.seq_relationship."));
        }
        // Base models are often saved without a pooler.
        Class::Base | Class::LanguageModel if w.has(&format!("{pooler}.weight")) => {
            let dense = Linear::load(w, &pooler, width, width, true)?;
            heads.push(Head::linear(
                "pooler_output",
                Look::First,
                vec![(dense, Some(Activation::Tanh))],
            ));
        }
        Class::Base | Class::LanguageModel => {}
    }
    // These classes have no pooler, checkpoints often do.
    w.ignore(|name| source.class != Class::Base && name.starts_with(&pooler));
    source.leave_heads(&["cls."]);
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
