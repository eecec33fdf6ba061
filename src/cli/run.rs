//! `run`: a model on given inputs.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use distill_convert::convert::{self, Engine, RunOptions};
use distill_convert::error::{Result, escape_name};
use distill_convert::eval::Mode;
use distill_convert::files::{self, Named};
use distill_convert::source::{TensorPlace, read_tensors};
use distill_convert::tensor::{NamedTensors, Tensor};
use serde_json::{Value, json};

use super::args::{ModeArg, RunArgs, RuntimeArg};
use super::convert::{source_options, source_path};
use super::output::{Answer, columns};

/// Most elements of an output that the table shows.
const SHOWN: usize = 6;

pub(super) fn run(args: &RunArgs) -> Result<Answer> {
    let options = RunOptions {
        engine: args.runtime.map(|r| match r {
            RuntimeArg::Interpreter => Engine::Interpreter,
            RuntimeArg::Tract => Engine::Tract,
            RuntimeArg::Ort => Engine::Ort,
        }),
        mode: match args.precision {
            ModeArg::F32 => Mode::F32,
            ModeArg::F16 => Mode::F16,
        },
        onnxruntime: args.onnxruntime.clone(),
        source: source_options(&args.source)?,
        function: args.function.clone(),
        images: args.images.clone(),
    };
    let model = source_path(&args.model, &args.source)?;
    let count = args.steps.len() + 1;
    keep_apart(args, &model, count)?;
    let mut steps = vec![match &args.inputs {
        Some(inputs) => read_tensors(inputs)?,
        None => NamedTensors::new(),
    }];
    for step in &args.steps {
        steps.push(read_tensors(step)?);
    }
    let mut places = Vec::new();
    if let Some(output) = &args.output {
        for step in 0..count {
            places.push(TensorPlace::at(&numbered(output, step))?);
        }
    }
    let ran = convert::run_steps(&model, steps, &options)?;
    let results = || ran.earlier.iter().chain([&ran.outputs]);
    for (place, outputs) in places.into_iter().zip(results()) {
        place.write(outputs)?;
    }
    let mut text = format!("ran on {}\n", ran.engine);
    for (step, outputs) in results().enumerate() {
        if count > 1 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "step {}", step + 1);
        }
        text.push_str(&table(outputs));
    }
    if let Some(label) = &ran.label {
        let _ = writeln!(text, "label  {label}");
    }
    if let Some(output) = &args.output {
        let files = (0..count).map(|step| numbered(output, step).display().to_string());
        let _ = writeln!(text, "wrote {}", files.collect::<Vec<_>>().join(", "));
    }
    let result = json!({
        "engine": ran.engine,
        "outputs": ran.outputs.iter().map(|(name, tensor)| described(name, tensor)).collect::<Vec<Value>>(),
        "file": args.output.as_ref().map(|o| o.display().to_string()),
        "label": ran.label,
        "steps": count,
    });
    let mut answer = Answer::ok(text, result);
    answer.warnings = ran.warnings;
    Ok(answer)
}

/// Refuses outputs in the place of anything that is read, before it is read.
fn keep_apart(args: &RunArgs, model: &Path, count: usize) -> Result<()> {
    let mut inputs = vec![convert::named_model("MODEL", model)];
    let given = args
        .inputs
        .iter()
        .map(|path| Named::new("`--inputs`", path));
    inputs.extend(given);
    inputs.extend(args.steps.iter().map(|path| Named::new("`--steps`", path)));
    let images = args.images.iter();
    inputs.extend(images.map(|(_, path)| Named::new("`--input`", path)));
    let outputs = args.output.iter().flat_map(|output| {
        let all = (0..count).map(move |step| numbered(output, step));
        all.map(|path| Named::new("`-o`", &path))
    });
    files::keep_apart(&inputs, &outputs.collect::<Vec<_>>())
}

/// One line per output, in columns.
fn table(outputs: &NamedTensors) -> String {
    let header = ["output", "type", "shape", "min", "max", "first values"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for (name, tensor) in outputs {
        let found = Found::of(tensor);
        let values = tensor.to_f64();
        let mut first: Vec<String> = values.iter().take(SHOWN).map(|&x| short(x)).collect();
        if values.len() > SHOWN {
            first.push("…".to_owned());
        }
        if found.nonfinite > 0 {
            first.push(format!("({} elements are not finite)", found.nonfinite));
        }
        rows.push(vec![
            escape_name(name),
            tensor.dtype().name().to_owned(),
            format!("{:?}", tensor.shape()),
            found
                .ends
                .map_or_else(|| "-".to_owned(), |(low, _)| short(low)),
            found
                .ends
                .map_or_else(|| "-".to_owned(), |(_, high)| short(high)),
            first.join(" "),
        ]);
    }
    columns(&rows, "  ")
}

/// A number in a few digits.
fn short(x: f64) -> String {
    if x == 0.0 || (1e-4..1e7).contains(&x.abs()) {
        let text = format!("{x:.6}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        text.to_owned()
    } else {
        format!("{x:.4e}")
    }
}

/// What the elements of an output are like.
struct Found {
    /// The smallest and the largest number, if there is one.
    ends: Option<(f64, f64)>,
    nonfinite: usize,
}

impl Found {
    fn of(tensor: &Tensor) -> Found {
        let values = tensor.to_f64();
        let numbers = values.iter().copied().filter(|x| !x.is_nan());
        Found {
            ends: numbers
                .map(|x| (x, x))
                .reduce(|(l, h), (x, _)| (l.min(x), h.max(x))),
            nonfinite: values.iter().filter(|x| !x.is_finite()).count(),
        }
    }
}

fn described(name: &str, tensor: &Tensor) -> Value {
    let found = Found::of(tensor);
    json!({
        "name": name,
        "dtype": tensor.dtype().name(),
        "shape": tensor.shape(),
        "min": found.ends.map(|(low, _)| number(low)),
        "max": found.ends.map(|(_, high)| number(high)),
        "nonfinite_elements": found.nonfinite,
    })
}

/// Where the outputs of a step go: `out.npz`, `out.1.npz`, …
fn numbered(path: &Path, step: usize) -> PathBuf {
    if step == 0 {
        return path.to_path_buf();
    }
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    path.with_extension(format!("{step}.{ending}"))
}

/// A float for JSON: as a string when it is not finite.
fn number(x: f64) -> serde_json::Value {
    if x.is_finite() {
        json!(x)
    } else {
        json!(x.to_string())
    }
}
