//! Which part of a checkpoint is the model: a dictionary of tensors, itself or under one of the names that training scripts use.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value as Json};

use super::error::TorchError;
use crate::error::Result;
use crate::source::pickle::{Pickle, Tensor, Value};
use crate::source::safetensors::check_name;

/// Where training scripts put the model.
const WRAPPERS: [&str; 3] = ["model_state_dict", "state_dict", "model"];
/// Where they put its config.
const CONFIG: &str = "config";
/// Where the predecessor of this program puts the flags of its model, beside a config with an `arch`.
const MODEL_ARCH: &str = "model_arch";
/// The flags.
const FLAGS: [&str; 2] = ["use_halt_head", "use_self_evaluation"];
/// Most wrappers around each other.
const DEPTH: usize = 4;
/// What `torch.compile` puts before the modules that it compiled.
const COMPILED: &str = "_orig_mod.";
/// What data-parallel training puts before everything.
const PARALLEL: &str = "module.";

type Entries = [(Value, Value)];

/// The model of a checkpoint.
pub(super) struct State {
    /// Its tensors, without the prefixes of wrappers.
    pub(super) tensors: BTreeMap<String, Rc<Tensor>>,
    /// Its config.
    pub(super) config: Option<Map<String, Json>>,
    /// What was left out and taken off.
    pub(super) notes: Vec<String>,
}

/// Finds the model.
///
/// # Errors
/// When there is none, several, or something in it that is not a tensor.
pub(super) fn find(pickle: &Pickle) -> Result<State> {
    let mut notes = Vec::new();
    let mut config = None;
    let mut current = &pickle.root;
    for _ in 0..DEPTH {
        let Some(entries) = pickle.dict(current) else {
            return Err(TorchError::NoState {
                found: pickle.kind(current).to_owned(),
            }
            .into());
        };
        let wrappers: Vec<(&str, &Value)> = WRAPPERS
            .iter()
            .filter_map(|name| Some((*name, get(entries, name)?)))
            .filter(|(_, value)| pickle.dict(value).is_some())
            .collect();
        match wrappers.as_slice() {
            [] => {
                let tensors = tensors(pickle, entries, &mut notes)?;
                return Ok(State {
                    tensors,
                    config,
                    notes,
                });
            }
            [(inside, state)] => {
                if config.is_none() {
                    config = find_config(pickle, entries, &mut notes)?;
                }
                let left: Vec<String> = entries
                    .iter()
                    .map(|(key, _)| shown(key))
                    .filter(|key| key != inside && key != CONFIG && key != MODEL_ARCH)
                    .map(|key| format!("`{key}`"))
                    .collect();
                if !left.is_empty() {
                    notes.push(format!(
                        "`{inside}` of the checkpoint is the model; not read: {}",
                        left.join(", ")
                    ));
                }
                current = state;
            }
            several => {
                return Err(TorchError::Ambiguous {
                    keys: several.iter().map(|(k, _)| format!("`{k}`")).collect(),
                }
                .into());
            }
        }
    }
    Err(TorchError::NoState {
        found: "wrappers within wrappers".to_owned(),
    }
    .into())
}

fn get<'a>(entries: &'a Entries, name: &str) -> Option<&'a Value> {
    let is = |key: &Value| matches!(key, Value::Text(k) if k.as_ref() == name);
    entries.iter().find(|(k, _)| is(k)).map(|(_, v)| v)
}

fn shown(key: &Value) -> String {
    match key {
        Value::Text(text) => text.to_string(),
        Value::Int(n) => n.to_string(),
        Value::None
        | Value::Bool(_)
        | Value::Long(_)
        | Value::Float(_)
        | Value::Bytes(_)
        | Value::Global(_)
        | Value::Node(_) => "?".to_owned(),
    }
}

/// The dictionary under `name` as JSON.
fn object(
    pickle: &Pickle,
    entries: &Entries,
    name: &str,
) -> Result<Option<Map<String, Json>>, TorchError> {
    let Some(value) = get(entries, name) else {
        return Ok(None);
    };
    let json = pickle.json(value).map_err(|(path, found)| {
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{name}.{path}")
        };
        TorchError::Config { path, found }
    })?;
    if let Json::Object(map) = json {
        return Ok(Some(map));
    }
    Err(TorchError::Config {
        path: name.to_owned(),
        found: pickle.kind(value),
    })
}

/// `config` beside the model. The predecessor's has an `arch` and does not name its model, and keeps flags in `model_arch`.
fn find_config(
    pickle: &Pickle,
    entries: &Entries,
    notes: &mut Vec<String>,
) -> Result<Option<Map<String, Json>>, TorchError> {
    let config = object(pickle, entries, CONFIG)?;
    let flags = object(pickle, entries, MODEL_ARCH)?.unwrap_or_default();
    let Some(mut config) = config else {
        if !flags.is_empty() {
            notes.push(format!("not read: `{MODEL_ARCH}`, without a `{CONFIG}`"));
        }
        return Ok(None);
    };
    let named = config.contains_key("model_type") || config.contains_key("architectures");
    let is_student =
        matches!(config.get("arch"), Some(Json::Object(arch)) if arch.contains_key("d_model"));
    if named || !is_student {
        if !flags.is_empty() {
            notes.push(format!("not read: `{MODEL_ARCH}`"));
        }
        return Ok(Some(config));
    }
    config.insert("model_type".to_owned(), Json::from("student"));
    notes
        .push("`config.arch` with `d_model` and no `model_type`: taken for a `student`".to_owned());
    for (key, value) in flags {
        if FLAGS.contains(&key.as_str()) && !config.contains_key(&key) {
            config.insert(key, value);
        } else {
            notes.push(format!("not read: `{MODEL_ARCH}.{key}`"));
        }
    }
    Ok(Some(config))
}

/// The tensors, by their names without wrappers.
fn tensors(
    pickle: &Pickle,
    entries: &Entries,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<String, Rc<Tensor>>> {
    if !entries.iter().any(|(_, v)| pickle.tensor(v).is_some()) {
        let keys = entries.iter().take(8);
        let keys: Vec<String> = keys.map(|(k, _)| format!("`{}`", shown(k))).collect();
        let found = match keys.as_slice() {
            [] => "an empty dictionary".to_owned(),
            keys => format!("a dictionary of {} without tensors", keys.join(", ")),
        };
        return Err(TorchError::NoState { found }.into());
    }
    let mut named = Vec::new();
    for (key, value) in entries {
        let (Value::Text(name), Some(tensor)) = (key, pickle.tensor(value)) else {
            return Err(TorchError::NotTensor {
                key: shown(key),
                found: pickle.kind(value),
            }
            .into());
        };
        named.push((name.to_string(), tensor));
    }
    let mut taken: Vec<&str> = Vec::new();
    // It can stand before any module; nobody names one so.
    if named.iter().any(|(name, _)| name.contains(COMPILED)) {
        taken.push(COMPILED);
        for (name, _) in &mut named {
            *name = name.replace(COMPILED, "");
        }
    }
    while named.iter().all(|(name, _)| name.starts_with(PARALLEL)) {
        taken.push(PARALLEL);
        for (name, _) in &mut named {
            name.replace_range(..PARALLEL.len(), "");
        }
    }
    if !taken.is_empty() {
        notes.push(format!(
            "prefixes taken off the names of tensors: `{}`",
            taken.join("`, `")
        ));
    }
    let mut out = BTreeMap::new();
    for (name, tensor) in named {
        check_name(&name)?;
        if out.insert(name.clone(), Rc::clone(tensor)).is_some() {
            return Err(TorchError::Collision { name }.into());
        }
    }
    Ok(out)
}
