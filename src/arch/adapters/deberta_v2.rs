//! DeBERTa-v2 and -v3: BERT's layers with scores between content and relative positions, padding set to 0 in the embeddings.
//!
//! # Source
//! `models/deberta_v2` of transformers 4.57; defaults are those of `DebertaV2Config`.

use crate::arch::blocks::{Activation, Linear, Norm};
use crate::arch::config::Config;
use crate::arch::disentangled::{Buckets, Disentangled, RelativeEmbeddings};
use crate::arch::encoder::{
    Counting, EmbeddingSizes, Embeddings, EncoderSpec, LayerNames, LayerSizes, token_head,
};
use crate::arch::heads::{Head, Look};
use crate::arch::weights::Weights;
use crate::arch::{ArchError, Class, Limits, Source, Spec, by_root, head_dim};
use crate::error::Result;
use crate::tensor::num;

const NAMES: LayerNames = LayerNames::bert(
    "attention.self.query_proj",
    "attention.self.key_proj",
    "attention.self.value_proj",
);

/// What the config says about relative positions.
struct Relative {
    buckets: Buckets,
    normalised: bool,
    shared: bool,
    to_position: bool,
    from_position: bool,
}

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    let width = c.size("hidden_size")?;
    let heads = c.size("num_attention_heads")?;
    let head_dim = match c.opt_size("attention_head_size")? {
        Some(size) => size,
        None => head_dim(c, "num_attention_heads", width, heads)?,
    };
    let positions = c.size_or("max_position_embeddings", 512)?;
    let epsilon = c.positive_or("layer_norm_eps", 1e-7)?;
    let vocab = c.size("vocab_size")?;
    no_convolution(c)?;
    let (relative, terms) = relative(c, positions)?;
    let absolute = c.flag_or("position_biased_input", true)?;
    let sizes = LayerSizes {
        width,
        inner: c.size("intermediate_size")?,
        heads,
        head_dim,
        epsilon,
        activation: Activation::named("hidden_act", c.text_or("hidden_act", "gelu")?)?,
        scale: by_root(num::f64_of(head_dim * (1 + terms))),
    };
    let embedded = c.size_or("embedding_size", width)?;
    let embedding = EmbeddingSizes {
        vocab,
        width: embedded,
        projected: (embedded != width).then_some(width),
        positions: absolute.then_some((positions, Counting::Index)),
        types: c.count("type_vocab_size")?.unwrap_or(0),
        epsilon,
    };
    let count = c.layers("num_hidden_layers")?;
    let labels = c.labels()?;
    let pooler_width = c.size_or("pooler_hidden_size", width)?;
    let pooler_act =
        Activation::named("pooler_hidden_act", c.text_or("pooler_hidden_act", "gelu")?)?;
    // Chooses between two heads of pretraining.
    let _ = c.flag_or("legacy", true)?;
    let _ = c.flag_or("tie_word_embeddings", true)?;
    let w = &mut source.weights;
    let prefix = w.prefix(&["deberta.", ""], "embeddings.word_embeddings.weight");
    let mut embeddings = Embeddings::load(w, &format!("{prefix}embeddings"), &embedding)?;
    embeddings.masked = true;
    if !absolute {
        // Not used by the model, and left in some checkpoints.
        let unused = format!("{prefix}embeddings.position_embeddings.weight");
        w.ignore(|name| name == unused);
    }
    let layers = (0..count)
        .map(|i| {
            let module = format!("{prefix}encoder.layer.{i}");
            let terms = match &relative {
                Some(relative) => relative.load(w, &module, &sizes)?,
                None => Disentangled {
                    position_key: None,
                    position_query: None,
                },
            };
            sizes.load(w, &module, &NAMES, Some(terms))
        })
        .collect::<Result<Vec<_>>>()?;
    let table = match &relative {
        Some(relative) => {
            let module = format!("{prefix}encoder.rel_embeddings");
            let rows = 2 * relative.buckets.span();
            let norm = match relative.normalised {
                true => Some(Norm::layer(
                    w,
                    &format!("{prefix}encoder.LayerNorm"),
                    width,
                    epsilon,
                )?),
                false => None,
            };
            Some(RelativeEmbeddings {
                table: w.take(&format!("{module}.weight"), &[rows, width])?,
                module,
                norm,
                buckets: relative.buckets,
            })
        }
        None => None,
    };
    let mut heads = Vec::new();
    if source.class == Class::TokenClassifier {
        heads.push(token_head(w, width, labels)?);
    }
    if source.class == Class::Classifier {
        let dense = Linear::load(w, "pooler.dense", pooler_width, pooler_width, true)?;
        let out = Linear::load(w, "classifier", width, labels, true)?;
        heads.push(Head::linear(
            "logits",
            Look::First,
            vec![(dense, Some(pooler_act)), (out, None)],
        ));
    }
    source.leave_heads(&["lm_predictions.", "mask_predictions.", "cls."]);
    let limits = if absolute {
        Limits::hard(positions, "its table of positions ends there")
    } else {
        Limits::soft(positions)
    };
    Ok(Spec::Encoder(Box::new(EncoderSpec {
        vocab,
        width,
        limits,
        embeddings,
        relative: table,
        layers,
        hidden: source.class == Class::Base,
        heads,
        sentence: None,
    })))
}

/// The convolution beside the first layer of the largest v2 models is not supported.
fn no_convolution(c: &mut Config) -> Result<()> {
    let size = c.count("conv_kernel_size")?.unwrap_or(0);
    if size > 0 {
        return Err(ArchError::UnsupportedValue {
            key: "conv_kernel_size".into(),
            found: size.to_string(),
            supported: "0".into(),
        }
        .into());
    }
    // Without a kernel these say nothing.
    let _ = (c.raw("conv_act"), c.raw("conv_groups"));
    Ok(())
}

/// What the config says about relative positions, and how many terms it adds to the scores.
fn relative(c: &mut Config, positions: usize) -> Result<(Option<Relative>, usize)> {
    let used = c.flag_or("relative_attention", false)?;
    let distance = match c.opt_number("max_relative_positions")? {
        Some(n) if n >= 1.0 => c.size("max_relative_positions")?,
        _ => positions,
    };
    let buckets = match c.opt_number("position_buckets")? {
        Some(n) if n >= 1.0 => c.size("position_buckets")?,
        _ => 0,
    };
    if buckets == 1 || (buckets > 0 && distance <= buckets / 2 + 1) {
        return Err(ArchError::BadValue {
            key: "position_buckets".into(),
            expected: "more than 1, and less than twice the longest distance".into(),
            found: buckets.to_string(),
        }
        .into());
    }
    let shared = c.flag_or("share_att_key", false)?;
    let norms = c.text_or("norm_rel_ebd", "none")?.to_lowercase();
    let mut normalised = false;
    for norm in norms.split('|').map(str::trim) {
        match norm {
            "layer_norm" => normalised = true,
            "none" | "" => {}
            other => {
                return Err(ArchError::UnsupportedValue {
                    key: "norm_rel_ebd".into(),
                    found: format!("`{other}`"),
                    supported: "`layer_norm`, `none`".into(),
                }
                .into());
            }
        }
    }
    let (mut to_position, mut from_position) = (false, false);
    for term in terms(c)? {
        match term.as_str() {
            "c2p" => to_position = true,
            "p2c" => from_position = true,
            other => {
                return Err(ArchError::UnsupportedValue {
                    key: "pos_att_type".into(),
                    found: format!("`{other}`"),
                    supported: "`c2p`, `p2c`".into(),
                }
                .into());
            }
        }
    }
    let count = usize::from(to_position) + usize::from(from_position);
    let relative = used.then_some(Relative {
        buckets: Buckets { buckets, distance },
        normalised,
        shared,
        to_position,
        from_position,
    });
    Ok((relative, count))
}

/// `pos_att_type` as a list, or as a text with `|` between.
fn terms(c: &mut Config) -> Result<Vec<String>> {
    let key = "pos_att_type";
    let Some(value) = c.raw(key) else {
        return Ok(Vec::new());
    };
    if value.is_array() {
        let list = c.texts(key)?.unwrap_or_default();
        return Ok(list.into_iter().map(str::to_owned).collect());
    }
    let text = c.text_or(key, "")?.to_lowercase();
    Ok(text.split('|').map(|t| t.trim().to_owned()).collect())
}

impl Relative {
    /// The projections of positions: a layer's own, or those of its content.
    fn load(&self, w: &mut Weights, module: &str, sizes: &LayerSizes) -> Result<Disentangled> {
        let all = sizes.heads * sizes.head_dim;
        let (key, query) = match self.shared {
            true => (NAMES.k, NAMES.q),
            false => (
                "attention.self.pos_key_proj",
                "attention.self.pos_query_proj",
            ),
        };
        let mut load = |wanted: bool, name: &str| match wanted {
            true => Linear::load(w, &format!("{module}.{name}"), sizes.width, all, true).map(Some),
            false => Ok(None),
        };
        Ok(Disentangled {
            position_key: load(self.to_position, key)?,
            position_query: load(self.from_position, query)?,
        })
    }
}
