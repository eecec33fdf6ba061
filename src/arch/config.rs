//! Reads a config and ticks off every key: what nobody read is an error, unless it is known not to change the mathematics.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::error::ArchError;
use crate::error::Result;
use crate::limits;
use crate::tensor::num;

/// Keys that cannot change what a model computes at inference: training, generation, bookkeeping, token ids that only tokenizers and samplers
/// use, and what the first BERT's config said about a pooler that no implementation has read since.
const HARMLESS: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "_num_labels",
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cls_dropout",
    "cls_token_id",
    "decoder_start_token_id",
    "directionality",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout_prob",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "language",
    "length_penalty",
    "mask_token_id",
    "max_length",
    "min_length",
    "model_type",
    "name",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token_id",
    "pooler_dropout",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "prefix",
    "problem_type",
    "qa_dropout",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "seq_classif_dropout",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_weights_",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "use_bfloat16",
    "use_cache",
];

/// Keys that are harmless only with one value. Null is the absence of a value: whoever knows a key of which null switches something off reads it.
fn harmless_value(key: &str, value: &Value) -> bool {
    match key {
        _ if value.is_null() => true,
        "pretraining_tp" => value.as_u64() == Some(1),
        "is_decoder"
        | "is_encoder_decoder"
        | "add_cross_attention"
        | "cross_attention_hidden_size"
        | "rope_interleaved"
        | "tie_encoder_decoder"
        | "use_bidirectional_attention"
        | "use_mrope" => value.as_bool() == Some(false),
        "pruned_heads" => value.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// A config, or a section of one, that knows which of its keys were read.
#[derive(Debug)]
pub(crate) struct Config<'a> {
    map: &'a Map<String, Value>,
    prefix: String,
    used: BTreeSet<String>,
}

impl<'a> Config<'a> {
    pub(crate) fn new(map: &'a Map<String, Value>) -> Self {
        Config {
            map,
            prefix: String::new(),
            used: BTreeSet::new(),
        }
    }

    /// The section of this name, if it is there and not null. It is ticked off; its own keys are the section's business.
    pub(crate) fn section(&mut self, key: &str) -> Result<Option<Config<'a>>> {
        match self.raw(key) {
            None => Ok(None),
            Some(value) => match value.as_object() {
                Some(map) => Ok(Some(Config {
                    map,
                    prefix: format!("{}{key}.", self.prefix),
                    used: BTreeSet::new(),
                })),
                None => Err(self.bad(key, "an object", value)),
            },
        }
    }

    /// Whether the key is there, null included. Does not tick it off.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The value, if it is there and not null; ticks it off.
    pub(crate) fn raw(&mut self, key: &str) -> Option<&'a Value> {
        let value = self.map.get(key)?;
        self.used.insert(key.to_owned());
        (!value.is_null()).then_some(value)
    }

    /// The key's full name, for messages.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn bad(&self, key: &str, expected: &str, found: &Value) -> crate::error::Error {
        ArchError::BadValue {
            key: self.name(key),
            expected: expected.to_owned(),
            found: brief(found),
        }
        .into()
    }

    /// A size that must be there, 1 or more.
    pub(crate) fn size(&mut self, key: &str) -> Result<usize> {
        self.opt_size(key)?.ok_or_else(|| {
            ArchError::MissingKey {
                key: self.name(key),
                expected: "a size",
            }
            .into()
        })
    }

    /// A size, or `default` when it is missing or null.
    pub(crate) fn size_or(&mut self, key: &str, default: usize) -> Result<usize> {
        Ok(self.opt_size(key)?.unwrap_or(default))
    }

    /// A size, if it is there and not null.
    pub(crate) fn opt_size(&mut self, key: &str) -> Result<Option<usize>> {
        match self.count(key)? {
            Some(0) => Err(ArchError::BadValue {
                key: self.name(key),
                expected: "1 or more".into(),
                found: "0".into(),
            }
            .into()),
            other => Ok(other),
        }
    }

    /// A size that null switches off and whose absence means `default`.
    pub(crate) fn switchable_size(
        &mut self,
        key: &str,
        default: Option<usize>,
    ) -> Result<Option<usize>> {
        if self.has(key) {
            self.opt_size(key)
        } else {
            Ok(default)
        }
    }

    /// A number, 0 or more, if it is there and not null.
    pub(crate) fn count(&mut self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.raw(key) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(n) if n <= limits::DIMENSION => Ok(Some(num::usize_of(n))),
            _ => Err(self.bad(
                key,
                &format!("an integer in 0..={}", limits::DIMENSION),
                value,
            )),
        }
    }

    /// The number of layers: must be there, and is capped.
    pub(crate) fn layers(&mut self, key: &str) -> Result<usize> {
        let n = self.size(key)?;
        if num::u64_of(n) > limits::LAYERS.get() {
            return Err(ArchError::BadValue {
                key: self.name(key),
                expected: format!("at most {}", limits::LAYERS),
                found: n.to_string(),
            }
            .into());
        }
        Ok(n)
    }

    /// A finite number, or `default` when it is missing or null.
    pub(crate) fn number_or(&mut self, key: &str, default: f64) -> Result<f64> {
        Ok(self.opt_number(key)?.unwrap_or(default))
    }

    /// A finite number, if it is there and not null.
    pub(crate) fn opt_number(&mut self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.raw(key) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(x) if x.is_finite() => Ok(Some(x)),
            _ => Err(self.bad(key, "a finite number", value)),
        }
    }

    /// A finite number above 0 that must be there.
    pub(crate) fn positive(&mut self, key: &str) -> Result<f64> {
        let found = self.opt_number(key)?;
        match found {
            Some(x) if x > 0.0 => Ok(x),
            Some(x) => Err(ArchError::BadValue {
                key: self.name(key),
                expected: "a number above 0".into(),
                found: x.to_string(),
            }
            .into()),
            None => Err(ArchError::MissingKey {
                key: self.name(key),
                expected: "a number above 0",
            }
            .into()),
        }
    }

    /// A finite number above 0, or `default` when it is missing or null.
    pub(crate) fn positive_or(&mut self, key: &str, default: f64) -> Result<f64> {
        if self.map.get(key).is_none_or(Value::is_null) {
            let _ = self.raw(key);
            return Ok(default);
        }
        self.positive(key)
    }

    /// A number above 0 that null switches off and whose absence means `default`.
    pub(crate) fn switchable_number(
        &mut self,
        key: &str,
        default: Option<f64>,
    ) -> Result<Option<f64>> {
        match self.map.get(key) {
            None => Ok(default),
            Some(Value::Null) => {
                let _ = self.raw(key);
                Ok(None)
            }
            Some(_) => self.positive(key).map(Some),
        }
    }

    /// A truth value, or `default` when it is missing or null.
    pub(crate) fn flag_or(&mut self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.raw(key) else {
            return Ok(default);
        };
        value
            .as_bool()
            .ok_or_else(|| self.bad(key, "true or false", value))
    }

    /// A text, if it is there and not null.
    pub(crate) fn opt_text(&mut self, key: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.raw(key) else {
            return Ok(None);
        };
        match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(self.bad(key, "a text", value)),
        }
    }

    /// A text, or `default` when it is missing or null.
    pub(crate) fn text_or(&mut self, key: &str, default: &'static str) -> Result<&'a str> {
        Ok(self.opt_text(key)?.unwrap_or(default))
    }

    /// A list of texts, if it is there and not null.
    pub(crate) fn texts(&mut self, key: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(value) = self.raw(key) else {
            return Ok(None);
        };
        let texts = value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_str).collect());
        match texts {
            Some(texts) => Ok(Some(texts)),
            None => Err(self.bad(key, "a list of texts", value)),
        }
    }

    /// Ticks off a key that may only hold one text.
    pub(crate) fn only(&mut self, key: &str, supported: &str) -> Result<()> {
        match self.opt_text(key)? {
            Some(found) if found != supported => Err(ArchError::UnsupportedValue {
                key: self.name(key),
                found: format!("`{found}`"),
                supported: format!("`{supported}`"),
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// The number of classes: entries of `id2label`, else `num_labels`, else the library's default of 2.
    pub(crate) fn labels(&mut self) -> Result<usize> {
        if let Some(map) = self.section("id2label")? {
            return Ok(map.map.len());
        }
        self.size_or("num_labels", 2)
    }

    /// Ticks off a key that may only repeat what another says.
    pub(crate) fn repeats(&mut self, key: &str, other: &str, stated: Option<usize>) -> Result<()> {
        match self.opt_size(key)? {
            Some(found) if Some(found) != stated => Err(ArchError::BadValue {
                key: self.name(key),
                expected: format!("what `{other}` says"),
                found: found.to_string(),
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Refuses keys that nobody read.
    pub(crate) fn finish(self) -> Result<()> {
        let unused: Vec<String> = self
            .map
            .iter()
            .filter(|(key, value)| {
                !self.used.contains(*key)
                    && !HARMLESS.contains(&key.as_str())
                    && !harmless_value(key, value)
            })
            .map(|(key, value)| format!("`{}` = {}", self.name(key), brief(value)))
            .collect();
        if unused.is_empty() {
            Ok(())
        } else {
            Err(ArchError::UnusedKeys {
                keys: unused.join(", "),
            }
            .into())
        }
    }
}

/// A value as text, cut when it is long.
fn brief(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_key_that_nobody_read_is_named_and_a_harmless_one_is_not() {
        let map = map(
            r#"{"model_type": "x", "hidden_size": 4, "use_cache": true, "alibi": true, "is_decoder": true, "pretraining_tp": 1, "quantization_config": null, "use_mrope": false}"#,
        );
        let mut config = Config::new(&map);
        assert_eq!(config.size("hidden_size").unwrap(), 4);
        let error = config.finish().unwrap_err();
        assert_eq!(error.code(), "config_keys_unused");
        assert_eq!(
            error.to_string(),
            "the config has keys that this version does not understand: `alibi` = true, `is_decoder` = true"
        );
    }

    #[test]
    fn values_outside_their_range_are_refused() {
        let map = map(
            r#"{"a": 0, "b": -1, "c": 1.5, "d": "x", "e": null, "f": 99999999999, "g": [1], "layers": 100000}"#,
        );
        let mut config = Config::new(&map);
        for key in ["a", "b", "c", "d", "f", "missing"] {
            assert!(config.size(key).is_err(), "{key}");
        }
        assert!(config.layers("layers").is_err());
        assert!(config.texts("g").is_err());
        assert_eq!(config.size_or("e", 7).unwrap(), 7);
        assert_eq!(config.switchable_size("e", Some(7)).unwrap(), None);
        assert_eq!(config.switchable_size("missing", Some(7)).unwrap(), Some(7));
        assert_eq!(
            config.size("a").unwrap_err().to_string(),
            "the config's `a` is 0, expected 1 or more"
        );
        let mut nested = Config::new(&map);
        assert!(nested.section("a").is_err());
    }
}
