//! What only reference outputs can tell about a checkpoint: in which precision the frequencies of its rotary positions were.

use super::check::Check;
use super::request::{Shapes, SourceOptions};
use crate::arch::RotaryFrequencies;
use crate::error::Result;
use crate::eval::{Interpreter, Mode};
use crate::source::{Checkpoint, read_tensors};
use crate::tensor::{DType, NamedTensors, Tensor};
use crate::verify::{Case, reference_cases};

/// How much nearer the other frequencies must bring the source to the reference before they are taken.
const CLEARLY_NEARER: f64 = 8.0;

/// The options with the frequencies decided, and a warning if the reference decided against the default.
///
/// A model that was cast to half precision as a whole has rounded frequencies, one that was loaded in half precision has not, and the files
/// do not say which was meant. Reference outputs do.
///
/// # Errors
/// When the reference file is malformed or the model cannot be built or run.
pub(super) fn decide_rotary(
    checkpoint: &Checkpoint,
    options: &SourceOptions,
    check: Option<&Check>,
) -> Result<(SourceOptions, Option<String>)> {
    let halves = checkpoint
        .tensors
        .values()
        .any(|t| matches!(t.dtype, DType::F16 | DType::BF16));
    let rotary = ["rope_theta", "rope_parameters"]
        .iter()
        .any(|key| checkpoint.config.contains_key(*key));
    let reference = check.and_then(|c| c.reference.as_deref());
    let (true, true, None, Some(reference)) = (halves, rotary, options.rotary, reference) else {
        return Ok((options.clone(), None));
    };
    let cases = reference_cases(&read_tensors(reference)?)?;
    let distance = |rotary| -> Result<f64> {
        let options = SourceOptions {
            rotary: Some(rotary),
            ..options.clone()
        };
        let built = super::build(checkpoint, &options, &Shapes::dynamic())?;
        let interpreter = Interpreter::new(&built.module, Mode::F32)?;
        let worst = cases
            .cases
            .iter()
            .map(|case| case_distance(&interpreter, case))
            .collect::<Result<Vec<_>>>()?;
        Ok(worst.into_iter().fold(0.0, f64::max))
    };
    let (kept, rounded) = (
        distance(RotaryFrequencies::F32)?,
        distance(RotaryFrequencies::Stored)?,
    );
    if rounded * CLEARLY_NEARER > kept {
        return Ok((options.clone(), None));
    }
    let warning = format!(
        "the reference outputs come from a model whose rotary frequencies were rounded to half precision (off by {rounded:.1e} of the largest \
         output with them, {kept:.1e} without), so they are converted rounded; `--rotary-frequencies f32` keeps them"
    );
    Ok((
        SourceOptions {
            rotary: Some(RotaryFrequencies::Stored),
            ..options.clone()
        },
        Some(warning),
    ))
}

/// Largest difference of any output of a case, relative to that output's largest element.
fn case_distance(interpreter: &Interpreter, case: &Case) -> Result<f64> {
    let mut inputs: NamedTensors = case.inputs.clone();
    super::check::fill_masks(interpreter.module(), &mut inputs)?;
    let found = interpreter.run(&inputs, None)?;
    let largest = |x: &Tensor| x.to_f64().iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let mut worst: f64 = 0.0;
    for (name, expected) in &case.outputs {
        let Some(found) = found.get(name).filter(|f| f.len() == expected.len()) else {
            continue;
        };
        let difference = found
            .to_f64()
            .iter()
            .zip(expected.to_f64())
            .fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
        worst = worst.max(difference / largest(expected).max(f64::MIN_POSITIVE));
    }
    Ok(worst)
}
