//! Both sides of the comparison that rounding to 16 bits must not blur: what was written, with its parameters as the format stores them, and an ONNX
//! file as our own reader has it.

use std::path::Path;

use super::opened::read_onnx;
use super::request::ArtifactKind;
use crate::error::Result;
use crate::eval::{Interpreter, Mode};
use crate::ir::Module;
use crate::{coreml, onnx, passes};

/// The first operator set that has `Gelu`.
const GELU: i64 = 20;

/// What was written, with the parameters of its operations rounded as the artifact has them.
///
/// # Errors
/// When the artifact cannot be looked into.
pub(super) fn as_stored(written: &Module, artifact: &Path, kind: ArtifactKind) -> Result<Module> {
    match kind {
        ArtifactKind::Coreml => Ok(coreml::with_stored_parameters(written)),
        ArtifactKind::Onnx | ArtifactKind::Checkpoint => {
            // What is made of other operators: their constants are rounded like all others, and their results have to be in range.
            let mut written = passes::parts(written)?;
            let opsets = onnx::inspect(artifact)?.opsets;
            if opsets.get("ai.onnx").is_some_and(|&opset| opset < GELU) {
                written = passes::gelu_parts(&written)?;
            }
            Ok(onnx::with_stored_parameters(&written))
        }
    }
}

/// An ONNX file in our own reading of it, and the interpreter that keeps all values in single precision: engines run the file as it is, and round.
pub(super) struct Reread {
    pub(super) module: Module,
    pub(super) interpreter: Interpreter,
}

impl Reread {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn of(artifact: &Path) -> Result<Self> {
        let module = read_onnx(artifact, &onnx::ReadOptions::default())?.module;
        Ok(Reread {
            interpreter: Interpreter::new(&module, Mode::F32)?,
            module,
        })
    }
}
