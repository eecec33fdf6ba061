//! RoBERTa and XLM-RoBERTa: BERT's layers, positions counted from the ids, and a classifier with a layer of its own.
//!
//! # Source
//! `models/roberta` of transformers 4.57; defaults are those of `RobertaConfig`.

use crate::arch::blocks::{Activation, Linear};
use crate::arch::encoder::{BertLike, Counting, EncoderSpec, MaskedNames, token_head};
use crate::arch::heads::{Head, Look};
use crate::arch::{ArchError, Class, Limits, Source, Spec};
use crate::error::Result;

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    let rows = c.size_or("max_position_embeddings", 512)?;
    // The row of the padding token and those before it are never a token's position.
    let pad = c.count("pad_token_id")?.unwrap_or(1);
    let positions = rows.checked_sub(pad + 1).filter(|n| *n > 0);
    let Some(positions) = positions else {
        return Err(ArchError::BadValue {
            key: "max_position_embeddings".into(),
            expected: format!("more than `pad_token_id` + 1, {}", pad + 1),
            found: rows.to_string(),
        }
        .into());
    };
    let like = BertLike::read(c, (rows, Counting::SkipPadding { pad }))?;
    let (vocab, width) = (like.embedding.vocab, like.sizes.width);
    let labels = c.labels()?;
    let tied = c.flag_or("tie_word_embeddings", true)?;
    let w = &mut source.weights;
    let prefix = w.prefix(&["roberta.", ""], "embeddings.word_embeddings.weight");
    let (embeddings, layers) = like.load(w, prefix)?;
    let pooler = format!("{prefix}pooler.dense");
    let mut heads = Vec::new();
    match source.class {
        Class::Classifier => {
            let dense = Linear::load(w, "classifier.dense", width, width, true)?;
            let out = Linear::load(w, "classifier.out_proj", width, labels, true)?;
            heads.push(Head::linear(
                "logits",
                Look::First,
                vec![(dense, Some(Activation::Tanh)), (out, None)],
            ));
        }
        Class::TokenClassifier => heads.push(token_head(w, width, labels)?),
        Class::MaskedLanguageModel => {
            let names = MaskedNames {
                dense: "lm_head.dense",
                norm: "lm_head.layer_norm",
                decoder: "lm_head.decoder",
                bias: "lm_head.bias",
            };
            // The head has this activation whatever the layers have.
            let sizes = (&like.sizes, Activation::GeluErf);
            heads.push(names.load(w, sizes, &embeddings.words, vocab, tied)?);
        }
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
    // Classes with a head have no pooler, checkpoints often do.
    w.ignore(|name| source.class != Class::Base && name.starts_with(&pooler));
    source.leave_heads(&["lm_head."]);
    Ok(Spec::Encoder(Box::new(EncoderSpec {
        vocab,
        width,
        limits: Limits::hard(
            positions,
            "its table of positions ends there, and positions start after the padding token's",
        ),
        embeddings,
        relative: None,
        layers,
        hidden: source.class == Class::Base,
        heads,
        sentence: None,
    })))
}
