//! Engines behind one trait: the interpreter, tract, ONNX Runtime.

#[cfg(any(feature = "tract", feature = "ort"))]
mod elements;
mod error;
mod interpreter;
pub mod library;
#[cfg(feature = "ort")]
pub mod ort;
mod presence;
#[cfg(feature = "tract")]
pub mod tract;

pub use error::RuntimeError;
pub use presence::{EngineInfo, Presence, engines, saturates_eight_bits};

use crate::error::Result;
pub use crate::tensor::NamedTensors;

/// A loaded model that can be run.
pub trait Session {
    /// What runs, with its version: `interpreter f16`, `tract 0.23.9`, `ONNX Runtime 1.31.1`.
    fn engine(&self) -> String;

    /// Runs the model once.
    ///
    /// # Errors
    /// When an input is missing, unknown or of the wrong type, or the engine fails.
    fn run(&self, inputs: &NamedTensors) -> Result<NamedTensors>;
}

/// Refuses inputs that the model does not have and names those that are missing.
#[cfg(any(feature = "tract", feature = "ort"))]
fn check_names<'a>(
    known: impl Iterator<Item = &'a str> + Clone,
    inputs: &NamedTensors,
) -> Result<(), RuntimeError> {
    for name in inputs.keys() {
        if !known.clone().any(|k| k == name) {
            let known: Vec<String> = known.map(|k| format!("`{k}`")).collect();
            return Err(RuntimeError::UnknownInput {
                name: name.clone(),
                known: known.join(", "),
            });
        }
    }
    match known.into_iter().find(|&k| !inputs.contains_key(k)) {
        None => Ok(()),
        Some(name) => Err(RuntimeError::MissingInput {
            name: name.to_owned(),
        }),
    }
}
