//! `verify`: an artifact against its source.

use std::path::Path;

use distill_convert::convert::{self, Check};
use distill_convert::error::{Result, io_error};
use distill_convert::files;
use distill_convert::verify::Report;
use serde_json::Value;

use super::args::{CheckArgs, VerifyArgs};
use super::convert::{source_options, source_path};
use super::output::{Answer, Status};
use super::progress::Bar;

pub(super) fn run(args: &VerifyArgs) -> Result<Answer> {
    let options = source_options(&args.source)?;
    let bar = Bar::new(args.output_format.json);
    let report = convert::verify(
        &source_path(&args.source_model, &args.source)?,
        &args.artifact,
        &options,
        &check(&args.check),
        &bar,
    )?;
    let result = serde_json::to_value(&report).unwrap_or_default();
    if let Some(path) = &args.check.report {
        write_report(path, &result)?;
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

/// Writes one JSON document, whole or not at all.
pub(super) fn write_report(path: &Path, value: &Value) -> Result<()> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(io_error("create the folder", parent))?;
    }
    // A report that stands there is replaced: the path was named for that.
    files::write_whole(path, format!("{value:#}\n").as_bytes(), Path::is_file)
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
        write_report(&folder.join(name), &value)?;
    }
    Ok(())
}
