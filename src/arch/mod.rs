//! Hugging Face config + checkpoint → IR: one decoder spec, one encoder spec, one thin adapter per architecture.
//!
//! An adapter reads the config, names the tensors and fills in a spec; the spec makes the graph. Every config key and every tensor is used or
//! named in an error. The graph computes in f32 on the stored weights, as the reference implementation does in float32; its values bear the
//! names of the checkpoint's modules.
//!
//! Owns what a config means. Does not own how bytes become tensors ([`crate::source`]) nor any target's wishes ([`crate::passes`]).

mod adapters;
mod attention;
mod blocks;
mod config;
mod decoder;
mod disentangled;
mod encoder;
mod error;
mod graph;
mod heads;
mod rope;
mod sentence;
mod weights;

pub use error::{ArchError, TensorProblem};

use std::fmt;

use crate::error::{Context, Result};
use crate::ir::Module;
use crate::source::Checkpoint;
use blocks::BlockSpec;
use config::Config;
use decoder::DecoderSpec;
use encoder::EncoderSpec;
use weights::Weights;

/// The sizes that an axis of the inputs may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Exactly this one.
    Fixed(usize),
    /// Exactly this one, or the largest the model was made for if that is smaller.
    AtMost(usize),
    /// One of these.
    OneOf(Vec<usize>),
    /// Any from `min` to `max`.
    Dynamic {
        /// Smallest.
        min: usize,
        /// Largest; what the model was made for when it is not stated.
        max: Option<usize>,
    },
}

impl Extent {
    /// Whether every size that `other` allows is allowed here.
    #[must_use]
    pub fn holds(&self, other: &Extent) -> bool {
        let takes = |n: usize| match self {
            Extent::Fixed(one) | Extent::AtMost(one) => n == *one,
            Extent::OneOf(sizes) => sizes.contains(&n),
            Extent::Dynamic { min, max } => *min <= n && max.is_none_or(|max| n <= max),
        };
        match other {
            Extent::Fixed(n) | Extent::AtMost(n) => takes(*n),
            Extent::OneOf(sizes) => sizes.iter().all(|&n| takes(n)),
            Extent::Dynamic { min, max } => match self {
                Extent::Dynamic {
                    min: least,
                    max: most,
                } => least <= min && most.is_none_or(|most| max.is_some_and(|max| max <= most)),
                Extent::Fixed(_) | Extent::AtMost(_) | Extent::OneOf(_) => false,
            },
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Extent::Fixed(n) | Extent::AtMost(n) => write!(f, "{n}"),
            Extent::OneOf(sizes) => {
                let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
                f.write_str(&sizes.join(","))
            }
            Extent::Dynamic {
                min,
                max: Some(max),
            } => write!(f, "{min}..{max}"),
            Extent::Dynamic { min, max: None } => write!(f, "{min} and more"),
        }
    }
}

/// The direction of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// A position sees itself and what is before it.
    Causal,
    /// A position sees everything.
    Bidirectional,
}

impl Attention {
    /// The name in configs and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Attention::Causal => "causal",
            Attention::Bidirectional => "bidirectional",
        }
    }

    /// The direction of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Attention::Causal, Attention::Bidirectional]
            .into_iter()
            .find(|a| a.name() == name)
    }
}

/// In which precision the frequencies of rotary positions are kept.
///
/// The library computes them in f32 and keeps them so when it loads a checkpoint in half precision. A model that was cast as a whole
/// (`model.half()`, `model.to(torch.bfloat16)`) has rounded frequencies, and computes something else: 0.01 of the largest logit after 40
/// positions in bf16, and more with every position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RotaryFrequencies {
    /// f32, as in a model loaded by `from_pretrained`.
    #[default]
    F32,
    /// Rounded to the type of the stored embeddings, as in a model cast as a whole.
    Stored,
}

/// What is asked of [`build`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Batch axis.
    pub batch: Extent,
    /// Sequence axis.
    pub seq: Extent,
    /// Direction of attention, for models whose config does not state it.
    pub attention: Option<Attention>,
    /// Precision of the frequencies of rotary positions, for checkpoints in Llama's layout.
    pub rotary: RotaryFrequencies,
}

impl Default for Options {
    /// Both axes dynamic, up to what the model was made for.
    fn default() -> Self {
        let any = Extent::Dynamic { min: 1, max: None };
        Options {
            batch: any.clone(),
            seq: any,
            attention: None,
            rotary: RotaryFrequencies::F32,
        }
    }
}

/// A model as a graph.
#[derive(Clone, Debug)]
pub struct Built {
    /// The graph.
    pub module: Module,
    /// The row of the table that recognised the model, for example `deberta-v2`.
    pub architecture: String,
    /// What the user should know, each beginning with a code if it has one.
    pub warnings: Vec<String>,
}

/// How long a model's sequences may be.
#[derive(Clone, Debug)]
struct Limits {
    /// What the model was made for.
    usual: usize,
    /// What it cannot exceed, and why.
    hard: Option<(usize, String)>,
}

impl Limits {
    /// A length that can be exceeded.
    fn soft(usual: usize) -> Self {
        Limits { usual, hard: None }
    }

    /// A length that cannot be exceeded.
    fn hard(limit: usize, why: &str) -> Self {
        Limits {
            usual: limit,
            hard: Some((limit, why.to_owned())),
        }
    }
}

/// What a model is for, told by its class name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Hidden states.
    Base,
    /// Logits of the next token.
    LanguageModel,
    /// Logits of a sequence's label.
    Classifier,
    /// Logits of every token's label.
    TokenClassifier,
    /// Logits of the token at every position, which may be masked.
    MaskedLanguageModel,
}

/// What an adapter works on.
#[derive(Debug)]
struct Source<'a> {
    config: Config<'a>,
    weights: Weights<'a>,
    options: &'a Options,
    class: Class,
    /// Whether the config names no class, so that heads of pretraining may be left over.
    class_unstated: bool,
    /// Whether the adapter decided on the direction of attention itself.
    attention_decided: bool,
    warnings: Vec<String>,
}

impl Source<'_> {
    /// Ticks off the heads of pretraining that a base model's checkpoint may carry when its config names no class, with a warning.
    fn leave_heads(&mut self, prefixes: &[&str]) {
        if !self.class_unstated {
            return;
        }
        let left = self
            .weights
            .ignore(|name| prefixes.iter().any(|p| name.starts_with(p)));
        if left > 0 {
            self.warnings.push(format!(
                "{left} tensors of pretraining heads are left out: the config names no class, so the hidden states are the output"
            ));
        }
    }
}

/// Splits a width into heads.
fn head_dim(config: &Config, key: &str, width: usize, heads: usize) -> Result<usize> {
    if width.is_multiple_of(heads) {
        Ok(width / heads)
    } else {
        Err(ArchError::BadValue {
            key: config.name(key),
            expected: format!("a divisor of the width {width}"),
            found: heads.to_string(),
        }
        .into())
    }
}

/// Checks that every head of keys and values serves equally many heads of queries.
fn grouped(config: &Config, key: &str, heads: usize, kv_heads: usize) -> Result<()> {
    if heads.is_multiple_of(kv_heads) {
        Ok(())
    } else {
        Err(ArchError::BadValue {
            key: config.name(key),
            expected: format!("a divisor of the {heads} heads"),
            found: kv_heads.to_string(),
        }
        .into())
    }
}

/// The factor of the scores for heads of this size: 1/√size.
fn by_root(size: f64) -> f64 {
    1.0 / size.sqrt()
}

/// What an adapter makes.
#[derive(Debug)]
enum Spec {
    Decoder(Box<DecoderSpec>),
    Encoder(Box<EncoderSpec>),
    Block(Box<BlockSpec>),
}

/// One row of the table of architectures.
struct Architecture {
    /// `model_type` in configs.
    name: &'static str,
    /// Classes in `architectures`; the first is meant when a config names none.
    classes: &'static [(&'static str, Class)],
    load: fn(&mut Source) -> Result<Spec>,
}

const TABLE: &[Architecture] = &[
    Architecture {
        name: "student",
        classes: &[("StudentLM", Class::LanguageModel)],
        load: adapters::student::load,
    },
    Architecture {
        name: "llama",
        classes: &[
            ("LlamaForCausalLM", Class::LanguageModel),
            ("LlamaModel", Class::Base),
        ],
        load: adapters::llama::load,
    },
    Architecture {
        name: "mistral",
        classes: &[
            ("MistralForCausalLM", Class::LanguageModel),
            ("MistralModel", Class::Base),
        ],
        load: adapters::mistral::load,
    },
    Architecture {
        name: "qwen2",
        classes: &[
            ("Qwen2ForCausalLM", Class::LanguageModel),
            ("Qwen2Model", Class::Base),
        ],
        load: adapters::qwen2::load,
    },
    Architecture {
        name: "qwen3",
        classes: &[
            ("Qwen3ForCausalLM", Class::LanguageModel),
            ("Qwen3Model", Class::Base),
        ],
        load: adapters::qwen3::load,
    },
    Architecture {
        name: "gemma2",
        classes: &[
            ("Gemma2ForCausalLM", Class::LanguageModel),
            ("Gemma2Model", Class::Base),
        ],
        load: adapters::gemma2::load,
    },
    Architecture {
        name: "gpt2",
        classes: &[
            ("GPT2LMHeadModel", Class::LanguageModel),
            ("GPT2Model", Class::Base),
        ],
        load: adapters::gpt2::load,
    },
    Architecture {
        name: "bert",
        classes: &[
            ("BertModel", Class::Base),
            ("BertForSequenceClassification", Class::Classifier),
            ("BertForTokenClassification", Class::TokenClassifier),
            ("BertForMaskedLM", Class::MaskedLanguageModel),
        ],
        load: adapters::bert::load,
    },
    Architecture {
        name: "roberta",
        classes: &[
            ("RobertaModel", Class::Base),
            ("RobertaForSequenceClassification", Class::Classifier),
            ("RobertaForTokenClassification", Class::TokenClassifier),
            ("RobertaForMaskedLM", Class::MaskedLanguageModel),
        ],
        load: adapters::roberta::load,
    },
    Architecture {
        name: "xlm-roberta",
        classes: &[
            ("XLMRobertaModel", Class::Base),
            ("XLMRobertaForSequenceClassification", Class::Classifier),
            ("XLMRobertaForTokenClassification", Class::TokenClassifier),
            ("XLMRobertaForMaskedLM", Class::MaskedLanguageModel),
        ],
        load: adapters::roberta::load,
    },
    Architecture {
        name: "distilbert",
        classes: &[
            ("DistilBertModel", Class::Base),
            ("DistilBertForSequenceClassification", Class::Classifier),
            ("DistilBertForTokenClassification", Class::TokenClassifier),
            ("DistilBertForMaskedLM", Class::MaskedLanguageModel),
        ],
        load: adapters::distilbert::load,
    },
    Architecture {
        name: "deberta-v2",
        classes: &[
            ("DebertaV2Model", Class::Base),
            ("DebertaV2ForSequenceClassification", Class::Classifier),
            ("DebertaV2ForTokenClassification", Class::TokenClassifier),
        ],
        load: adapters::deberta_v2::load,
    },
    Architecture {
        name: "toy-block",
        classes: &[("ToyBlock", Class::Base)],
        load: adapters::toy_block::load,
    },
];

/// The names of all architectures, in table order.
#[must_use]
pub fn architectures() -> Vec<&'static str> {
    TABLE.iter().map(|row| row.name).collect()
}

/// Turns a checkpoint into a graph.
///
/// # Shapes
/// Inputs `input_ids`, `attention_mask` and, if the model has several, `token_type_ids`: `[batch, seq]`, i64. A fixed extent is a number in
/// the shape, any other a symbol `batch` or `seq`.
///
/// # Numerics
/// f32 throughout, on the stored weights. A padded key gets −10⁴ added to its score, a later one −2·10⁴.
///
/// # Errors
/// When the architecture or something that the config asks for is not supported, the tensors do not fit the config, or the extents do not fit
/// the model.
pub fn build(checkpoint: &Checkpoint, options: &Options) -> Result<Built> {
    let config_file = checkpoint.folder.join("config.json");
    let (row, mut class, mut class_unstated) = recognise(checkpoint).at_file(&config_file)?;
    // Sentence embeddings are made of hidden states, whatever the transformer was trained as.
    if class != Class::Base && checkpoint.side_file(sentence::MODULES)?.is_some() {
        (class, class_unstated) = (Class::Base, true);
    }
    let mut source = Source {
        config: Config::new(&checkpoint.config),
        weights: Weights::new(&checkpoint.tensors),
        options,
        class,
        class_unstated,
        attention_decided: false,
        warnings: Vec::new(),
    };
    let mut spec = (row.load)(&mut source).at_file(&config_file)?;
    if let Some(asked) = options.attention
        && !source.attention_decided
    {
        let stated = match &spec {
            Spec::Decoder(_) => Attention::Causal,
            Spec::Encoder(_) | Spec::Block(_) => Attention::Bidirectional,
        };
        if asked != stated {
            return Err(ArchError::AttentionContradicted {
                asked: asked.name(),
                stated: stated.name(),
            }
            .into());
        }
    }
    sentence::extend(&mut spec, checkpoint)?;
    let Source {
        config,
        weights,
        mut warnings,
        ..
    } = source;
    config.finish().at_file(&config_file)?;
    weights.finish().at_file(&checkpoint.folder)?;
    let module = match spec {
        Spec::Decoder(spec) => spec.build(row.name, options, &mut warnings)?,
        Spec::Encoder(spec) => spec.build(row.name, options, &mut warnings)?,
        Spec::Block(spec) => spec.build(row.name, options, &mut warnings)?,
    };
    Ok(Built {
        module,
        architecture: row.name.to_owned(),
        warnings,
    })
}

/// The row and class that a config names.
fn recognise(checkpoint: &Checkpoint) -> Result<(&'static Architecture, Class, bool)> {
    let mut config = Config::new(&checkpoint.config);
    let kind = config.opt_text("model_type")?;
    let class = config.texts("architectures")?;
    let class = class.and_then(|classes| classes.first().copied());
    let row = TABLE.iter().find(|row| match (kind, class) {
        (Some(kind), _) => row.name == kind,
        (None, Some(class)) => row.classes.iter().any(|(name, _)| *name == class),
        (None, None) => false,
    });
    let Some(row) = row else {
        let found = kind
            .or(class)
            .unwrap_or("(neither `model_type` nor `architectures`)");
        return Err(ArchError::UnknownArchitecture {
            found: found.to_owned(),
            known: architectures().join(", "),
        }
        .into());
    };
    let listed = match class {
        Some(class) => row.classes.iter().find(|(name, _)| *name == class),
        None => row.classes.first(),
    };
    match listed {
        Some((_, found)) => Ok((row, *found, class.is_none())),
        None => Err(ArchError::UnknownClass {
            model_type: row.name.to_owned(),
            found: class.unwrap_or_default().to_owned(),
            known: row
                .classes
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(", "),
        }
        .into()),
    }
}
