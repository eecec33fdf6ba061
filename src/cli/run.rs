//! `run`: a model on given inputs.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use distill_convert::convert::{self, Engine, RunOptions};
use distill_convert::error::Result;
use distill_convert::eval::Mode;
use distill_convert::source::{TensorPlace, read_tensors};
use serde_json::json;

use super::args::{ModeArg, RunArgs, RuntimeArg};
use super::convert::{source_options, source_path};
use super::output::Answer;

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
    };
    let mut steps = vec![read_tensors(&args.inputs)?];
    for step in &args.steps {
        steps.push(read_tensors(step)?);
    }
    let count = steps.len();
    let model = source_path(&args.model, &args.source)?;
    let mut places = Vec::new();
    for step in 0..count {
        places.push(TensorPlace::at(&numbered(&args.output, step))?);
    }
    let ran = convert::run_steps(&model, steps, &options)?;
    let results = ran.earlier.iter().chain([&ran.outputs]);
    for (place, outputs) in places.into_iter().zip(results) {
        place.write(outputs)?;
    }
    let mut text = format!("ran on {}\n", ran.engine);
    let mut outputs = Vec::new();
    for (name, tensor) in &ran.outputs {
        let values = tensor.to_f64();
        let (low, high) = values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| {
                (l.min(x), h.max(x))
            });
        let nonfinite = values.iter().filter(|x| !x.is_finite()).count();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  {name:24} {:5} {:?}  {low:.6} .. {high:.6}",
            tensor.dtype().name(),
            tensor.shape()
        );
        if nonfinite > 0 {
            let _ = writeln!(text, "  {:24} {nonfinite} elements are not finite", "");
        }
        outputs.push(json!({
            "name": name,
            "dtype": tensor.dtype().name(),
            "shape": tensor.shape(),
            "min": number(low),
            "max": number(high),
            "nonfinite_elements": nonfinite,
        }));
    }
    if let Some(label) = &ran.label {
        let _ = writeln!(text, "  {:24} {label}", "label");
    }
    let _ = writeln!(text, "wrote {}", args.output.display());
    let result = json!({"engine": ran.engine, "outputs": outputs, "file": args.output.display().to_string(), "label": ran.label, "steps": count});
    let mut answer = Answer::ok(text, result);
    answer.warnings = ran.warnings;
    Ok(answer)
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
