//! `verify`: an artifact against its source.

use std::path::Path;

use distill_convert::convert::{self, Check, SourceOptions};
use distill_convert::error::Result;
use distill_convert::files::Place;
use distill_convert::limits;
use distill_convert::verify::Report;
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
    let report_to = args.check.report.as_deref().map(report_place).transpose()?;
    let bar = Bar::new(args.output_format.json);
    let report = convert::verify(
        &source_path(&args.source_model, &args.source)?,
        &args.artifact,
        &options,
        &check(&args.check),
        &bar,
    )?;
    let result = serde_json::to_value(&report).unwrap_or_default();
    if let Some(place) = report_to {
        write_report(place, &result)?;
    }
    if let Some(folder) = &args.check.predictions {
        let format = if args.artifact.extension().is_some_and(|e| e == "onnx") {
            "onnx"
        } else {
            "coreml"
        };
        write_predictions(folder, &report, &args.check, &args.source_model, format)?;
    }
    let status = if report.passed() {
        Status::Ok
    } else {
        Status::NotVerified
    };
    Ok(Answer {
        status,
        text: report.human(),
        result,
        warnings: Vec::new(),
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
pub(super) fn report_place(path: &Path) -> Result<Place> {
    Place::in_new_folder(path, is_report)
}

/// Writes one JSON document, whole or not at all.
pub(super) fn write_report(place: Place, value: &Value) -> Result<()> {
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

/// Writes the predecessor's files.
pub(super) fn write_predictions(
    folder: &Path,
    report: &Report,
    check: &CheckArgs,
    model: &Path,
    format: &str,
) -> Result<()> {
    let Some(task) = &check.task else {
        return Ok(());
    };
    let model = model.display().to_string();
    for (name, value) in convert::prediction_files(report, task, &model, format)? {
        write_report(report_place(&folder.join(name))?, &value)?;
    }
    Ok(())
}
