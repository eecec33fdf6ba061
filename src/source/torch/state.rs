//! Which part of a checkpoint is the model: a dictionary of tensors, itself or under one of the names that training scripts use.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::{Map, Value as Json};

use super::error::TorchError;
use super::listed;
use crate::error::{Result, shown};
use crate::limits;
use crate::source::pickle::{Pickle, Tensor, Value};
use crate::source::safetensors::check_name;

/// Where training scripts put the model.
const WRAPPERS: [&str; 9] = [
    "model_state_dict",
    "state_dict",
    "model",
    "model_state",
    "module",
    "net",
    "network",
    "weights",
    "params",
];
/// Where they put its config.
const CONFIG: &str = "config";
/// Where the predecessor of this program puts the flags of its model, beside a config with an `arch`.
const MODEL_ARCH: &str = "model_arch";
/// The flags.
const FLAGS: [&str; 2] = ["use_halt_head", "use_self_evaluation"];
/// What `torch.compile` puts before the modules that it compiled.
const COMPILED: &str = "_orig_mod.";
/// What data-parallel training puts before everything.
const PARALLEL: &str = "module.";

type Entries = [(Value, Value)];

/// The model of a checkpoint.
pub(super) struct State {
    /// Its tensors, without the prefixes of wrappers.
    pub(super) tensors: BTreeMap<String, Rc<Tensor>>,
    /// Its config, or why it cannot be used.
    pub(super) config: Option<Result<Map<String, Json>, TorchError>>,
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
    for _ in 0..limits::CHECKPOINT_WRAPPERS {
        let Some(entries) = pickle.dict(current) else {
            return Err(TorchError::NoState {
                found: pickle.kind(current).to_owned(),
            }
            .into());
        };
        let wrappers: Vec<(&str, &Value)> = WRAPPERS
            .iter()
            .filter_map(|name| Some((*name, get(entries, name)?)))
            .filter(|(_, value)| holds_tensors(pickle, value))
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
                    config = find_config(pickle, entries, &mut notes).transpose();
                }
                let left: Vec<String> = entries
                    .iter()
                    .map(|(key, _)| key_text(key))
                    .filter(|key| key != inside && key != CONFIG && key != MODEL_ARCH)
                    .map(|key| format!("`{key}`"))
                    .collect();
                if !left.is_empty() {
                    notes.push(format!(
                        "`{inside}` of the checkpoint is the model; not read: {}",
                        listed(&left)
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

/// Whether a value is a dictionary with a tensor in it, or wrapped in it. Each dictionary is looked at once.
fn holds_tensors(pickle: &Pickle, value: &Value) -> bool {
    let mut seen = BTreeSet::new();
    let mut level = vec![value];
    for _ in 0..limits::CHECKPOINT_WRAPPERS {
        let mut next = Vec::new();
        for value in level {
            let Some(entries) = pickle.dict(value) else {
                continue;
            };
            if !seen.insert(entries.as_ptr()) {
                continue;
            }
            if entries.iter().any(|(_, v)| pickle.tensor(v).is_some()) {
                return true;
            }
            next.extend(WRAPPERS.iter().filter_map(|name| get(entries, name)));
        }
        level = next;
    }
    false
}

fn get<'a>(entries: &'a Entries, name: &str) -> Option<&'a Value> {
    let is = |key: &Value| matches!(key, Value::Text(k) if k.as_ref() == name);
    entries.iter().find(|(k, _)| is(k)).map(|(_, v)| v)
}

fn key_text(key: &Value) -> String {
    match key {
        Value::Text(text) => shown(text),
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
    let mut left = Vec::new();
    for (key, value) in flags {
        if FLAGS.contains(&key.as_str()) && !config.contains_key(&key) {
            config.insert(key, value);
        } else {
            left.push(format!("`{MODEL_ARCH}.{}`", shown(&key)));
        }
    }
    if !left.is_empty() {
        notes.push(format!("not read: {}", listed(&left)));
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
        let keys: Vec<String> = keys.map(|(k, _)| format!("`{}`", key_text(k))).collect();
        let found = match keys.as_slice() {
            [] => "an empty dictionary".to_owned(),
            keys => format!("a dictionary of {} without tensors", keys.join(", ")),
        };
        return Err(TorchError::NoState { found }.into());
    }
    if entries.len() > limits::TENSORS.count() {
        let found = entries.len();
        return Err(TorchError::TooMany { found }.into());
    }
    let mut named = Vec::new();
    for (key, value) in entries {
        let (Value::Text(name), Some(tensor)) = (key, pickle.tensor(value)) else {
            return Err(TorchError::NotTensor {
                key: key_text(key),
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
    let levels = |name: &str| {
        let rest = name.trim_start_matches(PARALLEL);
        (name.len() - rest.len()) / PARALLEL.len()
    };
    let common = named.iter().map(|(name, _)| levels(name)).min();
    if let Some(common @ 1..) = common {
        taken.push(PARALLEL);
        for (name, _) in &mut named {
            name.replace_range(..common * PARALLEL.len(), "");
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
        if out.contains_key(&name) {
            let name = shown(&name);
            return Err(TorchError::Collision { name }.into());
        }
        out.insert(name, Rc::clone(tensor));
    }
    Ok(out)
}
