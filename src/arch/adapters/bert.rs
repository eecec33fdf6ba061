//! BERT and the sentence encoders built on it (MiniLM, E5, BGE, GTE): hidden states with or without a pooler, or a classifier on the pooler.
//!
//! # Source
//! `models/bert` of transformers 4.57; defaults are those of `BertConfig`.

use crate::arch::blocks::{Activation, Linear};
use crate::arch::encoder::{BertLike, Counting, EncoderSpec};
use crate::arch::heads::{Head, Look};
use crate::arch::{Class, Limits, Source, Spec};
use crate::error::Result;

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    let positions = c.size_or("max_position_embeddings", 512)?;
    let like = BertLike::read(c, (positions, Counting::Index))?;
    let (vocab, width) = (like.embedding.vocab, like.sizes.width);
    let labels = c.labels()?;
    let w = &mut source.weights;
    let prefix = w.prefix(&["bert.", ""], "embeddings.word_embeddings.weight");
    let (embeddings, layers) = like.load(w, prefix)?;
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
