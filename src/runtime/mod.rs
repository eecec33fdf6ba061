//! Engines behind one trait: the interpreter, tract, ONNX Runtime.

mod interpreter;

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
