//! `verify`: an artifact against its source.

use std::collections::BTreeMap;
use std::path::Path;

use distill_convert::convert::{self, Answered, Check, SourceOptions};
use distill_convert::error::{Result, escape_name};
use distill_convert::files::{self, Named, Place};
use distill_convert::limits;
use serde_json::Value;

use super::args::{CheckArgs, VerifyArgs};
use super::convert::{source_options, source_path};
use super::output::{Answer, Status};
use super::progress::Bar;

pub(super) fn run(args: &VerifyArgs) -> Result<Answer> {
    let options = SourceOptions {
        function: args.function.clone(),
        ..source_options(&args.source)?
    };
    let model = source_path(&args.source_model, &args.source)?;
    let format = if args.artifact.extension().is_some_and(|e| e == "onnx") {
        "onnx"
    } else {
        "coreml"
    };
    let mut inputs = check(&args.check).named()?;
    inputs.push(convert::named_model("SOURCE", &model));
    inputs.push(convert::named_model("ARTIFACT", &args.artifact));
    files::keep_apart(&inputs, &named_outputs(&args.check, &[format]))?;
    let places = Places::take(&args.check, &[format])?;
    let bar = Bar::new(args.output_format.json);
    let report = convert::verify(&model, &args.artifact, &options, &check(&args.check), &bar)?;
    let result = serde_json::to_value(&report).unwrap_or_default();
    let answered = Answered {
        format,
        path: &args.artifact,
        report: &report,
    };
    let warnings = places.fill(&args.check, &model, &[answered], &result)?;
    let status = if report.passed() {
        Status::Ok
    } else {
        Status::NotVerified
    };
    Ok(Answer {
        status,
        text: report.human(),
        result,
        warnings,
    })
}

/// The flags about verification.
pub(super) fn check(args: &CheckArgs) -> Check {
    Check {
        reference: args.reference.clone(),
        reference_tolerance: args.reference_tolerance,
        inputs: args.inputs.clone(),
        task: args.task.clone(),
        onnxruntime: args.onnxruntime.clone(),
    }
}

/// The place of a report, taken before the work begins. A report of ours that stands there is replaced.
fn report_place(path: &Path) -> Result<Place> {
    Place::in_new_folder(path, is_report)
}

/// Writes one JSON document, whole or not at all.
fn write_report(place: Place, value: &Value) -> Result<()> {
    place.write(format!("{value:#}\n").as_bytes(), is_report)
}

/// Whether a file is what [`write_report`] writes: the keys tell.
fn is_report(path: &Path) -> bool {
    let size = path.symlink_metadata().map(|m| m.len());
    if !path.is_file() || size.is_ok_and(|n| n > limits::SIDE_FILE_BYTES.get()) {
        return false;
    }
    let bytes = std::fs::read(path).unwrap_or_default();
    let Ok(Value::Object(found)) = serde_json::from_slice(&bytes) else {
        return false;
    };
    let kinds: [&[&str]; 3] = [
        &["architecture", "artifacts", "source_files"],
        &["engines", "failures", "gates"],
        &["backend", "predictions"],
    ];
    kinds
        .iter()
        .any(|keys| keys.iter().all(|key| found.contains_key(*key)))
        || found.keys().any(|key| key.starts_with("source_vs_"))
}

/// The places of what is written besides artifacts, taken before the work begins.
pub(super) struct Places {
    report: Option<Place>,
    predictions: BTreeMap<String, Place>,
}

/// The files that the flags ask for besides artifacts of these formats.
pub(super) fn named_outputs(args: &CheckArgs, formats: &[&str]) -> Vec<Named> {
    let report = args.report.iter();
    let mut outputs: Vec<Named> = report.map(|path| Named::new("`--report`", path)).collect();
    if let Some(folder) = &args.predictions {
        for name in convert::prediction_names(formats) {
            let flag = format!("`{name}` of `--predictions`");
            outputs.push(Named::new(&flag, &folder.join(name)));
        }
    }
    outputs
}

impl Places {
    /// Takes the places that the flags ask for.
    pub(super) fn take(args: &CheckArgs, formats: &[&str]) -> Result<Self> {
        let mut predictions = BTreeMap::new();
        if let Some(folder) = &args.predictions {
            for name in convert::prediction_names(formats) {
                let place = report_place(&folder.join(&name))?;
                predictions.insert(name, place);
            }
        }
        Ok(Places {
            report: args.report.as_deref().map(report_place).transpose()?,
            predictions,
        })
    }

    /// Fills them. Gives what the user should know.
    pub(super) fn fill(
        mut self,
        args: &CheckArgs,
        model: &Path,
        artifacts: &[Answered<'_>],
        report: &Value,
    ) -> Result<Vec<String>> {
        if let Some(place) = self.report {
            write_report(place, report)?;
        }
        let (Some(_), Some(task)) = (&args.predictions, &args.task) else {
            return Ok(Vec::new());
        };
        let (files, mut notes) = convert::prediction_files(model, artifacts, task)?;
        for (name, value) in files {
            if let Some(place) = self.predictions.remove(&name) {
                write_report(place, &value)?;
            }
        }
        // What an earlier run left would pass for answers of this one.
        for (_, place) in self.predictions {
            let path = place.path().to_path_buf();
            if place.clear(is_report)? {
                let shown = escape_name(&path.display().to_string());
                notes.push(format!("removed `{shown}`, which is of an earlier run"));
            }
        }
        Ok(notes)
    }
}
