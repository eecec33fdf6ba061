//! Sentence-transformers folders: `modules.json` names what follows the transformer, and every module has a folder of its own.

use std::path::Path;

use serde_json::{Map, Value};

use super::Spec;
use super::blocks::{Activation, Linear};
use super::config::Config;
use super::error::ArchError;
use super::heads::{Pool, Sentence, SentenceModule, pooled_width};
use super::weights::Weights;
use crate::error::{Context, Result};
use crate::source::Checkpoint;

pub(super) const MODULES: &str = "modules.json";
const KNOWN: &str =
    "`Transformer` first, then `Pooling`, then any of `Dense`, `Dropout`, `Normalize`";

/// Flags of a pooling config and names of the modes, in the order in which the poolings of flags are concatenated.
const POOLS: &[(&str, &str, Option<Pool>)] = &[
    ("pooling_mode_cls_token", "cls", Some(Pool::First)),
    ("pooling_mode_max_tokens", "max", Some(Pool::Max)),
    ("pooling_mode_mean_tokens", "mean", Some(Pool::Mean)),
    (
        "pooling_mode_mean_sqrt_len_tokens",
        "mean_sqrt_len_tokens",
        Some(Pool::MeanRoot),
    ),
    (
        "pooling_mode_weightedmean_tokens",
        "weightedmean",
        Some(Pool::WeightedMean),
    ),
    ("pooling_mode_lasttoken", "lasttoken", None),
];

/// Adds the modules of a sentence-transformers folder to an encoder, if the folder is one.
pub(super) fn extend(spec: &mut Spec, checkpoint: &Checkpoint) -> Result<()> {
    let Some(modules) = checkpoint.side_json(MODULES)? else {
        return Ok(());
    };
    let file = checkpoint.folder.join(MODULES);
    let unknown = |found: &str| ArchError::UnknownModule {
        found: found.to_owned(),
        supported: KNOWN,
    };
    let encoder = match spec {
        Spec::Encoder(encoder) => encoder,
        Spec::Decoder(_) | Spec::Block(_) => {
            return Err(unknown("a transformer that is not an encoder")).at_file(&file);
        }
    };
    let modules = read_modules(&modules).at_file(&file)?;
    let mut width = encoder.width;
    let mut out = Vec::new();
    for (i, (kind, folder)) in modules.iter().enumerate() {
        match (i, kind.as_str()) {
            // A config in the folder itself is the one that was read, and one in a subfolder only where there is none.
            (0, "Transformer")
                if folder.is_empty() || checkpoint.side_file("config.json")?.is_none() => {}
            // Nothing is dropped at inference.
            (2.., "Dropout") => {}
            (1, "Pooling") => {
                let pools = pooling(checkpoint, folder, width)?;
                width = pooled_width(&pools, width);
                out.push(SentenceModule::Pooling(pools));
            }
            (2.., "Dense") => {
                let (linear, activation) = dense(checkpoint, folder, width)?;
                width = linear.weight.shape().first().copied().unwrap_or(width);
                out.push(SentenceModule::Dense(Box::new(linear), activation));
            }
            (2.., "Normalize") => out.push(SentenceModule::Normalize),
            _ => return Err(unknown(&format!("{kind}` at `{folder}"))).at_file(&file),
        }
    }
    if out.is_empty() {
        return Err(unknown("no pooling")).at_file(&file);
    }
    encoder.sentence = Some(Sentence { modules: out });
    // The library's encoder has a pooler of its own, which sentence embeddings do not use.
    encoder.hidden = true;
    encoder.heads.retain(|head| head.output != "pooler_output");
    Ok(())
}

/// Kind and folder of every module, in order.
fn read_modules(modules: &Value) -> Result<Vec<(String, String)>, ArchError> {
    let bad = |reason: &str| ArchError::SideFile {
        reason: reason.to_owned(),
    };
    let list = modules
        .as_array()
        .ok_or_else(|| bad("a list of modules is expected"))?;
    let text = |module: &Value, key: &str| {
        let text = module.get(key).and_then(Value::as_str);
        text.map(str::to_owned)
            .ok_or_else(|| bad(&format!("every module needs a text `{key}`")))
    };
    list.iter()
        .map(|module| {
            let kind = text(module, "type")?;
            // Since version 5.4 of the library the classes are in other Python modules.
            let kind = match kind.strip_prefix("sentence_transformers.") {
                Some(path) => path.rsplit('.').next().unwrap_or(path).to_owned(),
                None => kind,
            };
            Ok((kind, text(module, "path")?))
        })
        .collect()
}

/// The config of a module: `config.json` in its folder.
fn module_config(checkpoint: &Checkpoint, folder: &str) -> Result<Map<String, Value>> {
    let path = format!("{folder}/config.json");
    let file = checkpoint.folder.join(&path);
    match checkpoint.side_json(&path)? {
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(ArchError::SideFile {
            reason: "an object is expected".into(),
        })
        .at_file(&file),
        None => Err(ArchError::SideFile {
            reason: format!("`{MODULES}` names this module, but the file is not there"),
        })
        .at_file(&file),
    }
}

fn pooling(checkpoint: &Checkpoint, folder: &str, width: usize) -> Result<Vec<Pool>> {
    let map = module_config(checkpoint, folder)?;
    let file = checkpoint.folder.join(folder).join("config.json");
    read_pooling(&map, width).at_file(&file)
}

fn read_pooling(map: &Map<String, Value>, width: usize) -> Result<Vec<Pool>> {
    let mut config = Config::new(map);
    for key in ["word_embedding_dimension", "embedding_dimension"] {
        let stated = config.size_or(key, width)?;
        if stated != width {
            return Err(ArchError::BadValue {
                key: key.into(),
                expected: format!("the width of the encoder, {width}"),
                found: stated.to_string(),
            }
            .into());
        }
    }
    // The flags have given way to names; where both are there, the names count.
    let mut flagged = Vec::new();
    for (flag, name, _) in POOLS {
        if config.flag_or(flag, false)? {
            flagged.push(*name);
        }
    }
    let modes = match config.raw("pooling_mode") {
        None => flagged,
        Some(Value::String(name)) => vec![name.as_str()],
        Some(_) => config.texts("pooling_mode")?.unwrap_or_default(),
    };
    let known = |name: &str| POOLS.iter().find(|(_, n, _)| *n == name)?.2;
    let mut pools = Vec::new();
    for name in modes {
        pools.push(known(name).ok_or_else(|| {
            let known = POOLS.iter().filter(|(.., pool)| pool.is_some());
            let known: Vec<String> = known.map(|(_, name, _)| format!("`{name}`")).collect();
            ArchError::UnsupportedValue {
                key: "pooling_mode".into(),
                found: format!("`{name}`"),
                supported: known.join(", "),
            }
        })?);
    }
    // Prompts are text that the caller puts before the sentence; leaving them out of the mean is not supported.
    if !config.flag_or("include_prompt", true)? {
        return Err(ArchError::UnsupportedValue {
            key: "include_prompt".into(),
            found: "false".into(),
            supported: "true".into(),
        }
        .into());
    }
    config.finish()?;
    if pools.is_empty() {
        return Err(ArchError::SideFile {
            reason: "no pooling mode is set".into(),
        }
        .into());
    }
    Ok(pools)
}

fn dense(
    checkpoint: &Checkpoint,
    folder: &str,
    width: usize,
) -> Result<(Linear, Option<Activation>)> {
    let map = module_config(checkpoint, folder)?;
    let file = checkpoint.folder.join(folder).join("config.json");
    let (outputs, bias, activation) = read_dense(&map, width).at_file(&file)?;
    let tensors = checkpoint.side_tensors(folder)?.unwrap_or_default();
    let mut weights = Weights::new(&tensors);
    let mut linear = Linear::load(&mut weights, "linear", width, outputs, bias)?;
    weights.finish().at_file(&checkpoint.folder.join(folder))?;
    linear.module = Path::new(folder)
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
        + ".linear";
    Ok((linear, activation))
}

fn read_dense(map: &Map<String, Value>, width: usize) -> Result<(usize, bool, Option<Activation>)> {
    let mut config = Config::new(map);
    let inputs = config.size("in_features")?;
    if inputs != width {
        return Err(ArchError::BadValue {
            key: "in_features".into(),
            expected: format!("the width of what comes before, {width}"),
            found: inputs.to_string(),
        }
        .into());
    }
    let outputs = config.size("out_features")?;
    let bias = config.flag_or("bias", true)?;
    for key in ["module_input_name", "module_output_name"] {
        config.only(key, "sentence_embedding")?;
    }
    let key = "activation_function";
    let name = config.text_or(key, "torch.nn.modules.activation.Tanh")?;
    let activation = match name.rsplit('.').next().unwrap_or(name) {
        "Identity" => None,
        "Tanh" => Some(Activation::Tanh),
        "ReLU" => Some(Activation::Relu),
        "GELU" => Some(Activation::GeluErf),
        "SiLU" => Some(Activation::Silu),
        "Sigmoid" => Some(Activation::Sigmoid),
        _ => {
            return Err(ArchError::UnsupportedValue {
                key: key.into(),
                found: format!("`{name}`"),
                supported: "`Identity`, `Tanh`, `ReLU`, `GELU`, `SiLU`, `Sigmoid`".into(),
            }
            .into());
        }
    };
    config.finish()?;
    Ok((outputs, bias, activation))
}
