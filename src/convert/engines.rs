//! The engines that run models, each opened behind one trait, and what stands around them: counters, bounds, temporary files.

use std::path::Path;

use super::error::ConvertError;
use super::request::Progress;
use crate::error::{Error, Result};
use crate::eval::Interpreter;
use crate::files::Private;
use crate::ir::Module;
use crate::runtime::{NamedTensors, Session};
use crate::verify::Absent;
use crate::{onnx, runtime};

/// An engine that can run models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The built-in interpreter.
    Interpreter,
    /// tract.
    Tract,
    /// ONNX Runtime.
    Ort,
}

impl Engine {
    /// The engine's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Engine::Interpreter => "interpreter",
            Engine::Tract => "tract",
            Engine::Ort => "ONNX Runtime",
        }
    }

    /// Opens an ONNX file.
    pub(super) fn open(self, file: &Path, library: Option<&Path>) -> Result<Box<dyn Session>> {
        match self {
            Engine::Interpreter => Err(ConvertError::Engine {
                engine: self.name(),
                kind: "an ONNX file",
            }
            .into()),
            Engine::Tract => {
                #[cfg(feature = "tract")]
                return Ok(Box::new(runtime::tract::TractSession::open(file)?));
                #[cfg(not(feature = "tract"))]
                return Err(ConvertError::EngineAbsent {
                    engine: self.name(),
                    feature: "tract",
                }
                .into());
            }
            Engine::Ort => {
                let found = runtime::library::find(library)?;
                #[cfg(feature = "ort")]
                return Ok(Box::new(runtime::ort::OrtSession::open(&found.path, file)?));
                #[cfg(not(feature = "ort"))]
                return Err(ConvertError::EngineAbsent {
                    engine: self.name(),
                    feature: "ort",
                }
                .into());
            }
        }
    }
}

/// A module as a temporary ONNX file in an engine. The folder lives as long as the session.
struct ThroughOnnx {
    session: Box<dyn Session>,
    _folder: Private,
}

impl Session for ThroughOnnx {
    fn engine(&self) -> String {
        format!("{} through ONNX", self.session.engine())
    }

    fn run(&self, inputs: &NamedTensors) -> Result<NamedTensors> {
        self.session.run(inputs)
    }
}

/// Writes a module to a temporary ONNX file and opens it in an engine.
pub(super) fn through_onnx(
    module: &Module,
    engine: Engine,
    library: Option<&Path>,
) -> Result<Box<dyn Session>> {
    // Weights that may be secret, in a place where everybody may write: only this user can look in, and an interrupt removes it.
    let folder = Private::temporary()?;
    let file = folder.path().join("model.onnx");
    onnx::write(module, &file, &onnx::WriteOptions::default())?;
    Ok(Box::new(ThroughOnnx {
        session: engine.open(&file, library)?,
        _folder: folder,
    }))
}

/// Counts runs for the progress display.
pub(super) struct Counted<'a> {
    pub(super) session: Box<dyn Session + 'a>,
    pub(super) progress: &'a dyn Progress,
}

impl Session for Counted<'_> {
    fn engine(&self) -> String {
        self.session.engine()
    }

    fn run(&self, inputs: &NamedTensors) -> Result<NamedTensors> {
        let outputs = self.session.run(inputs);
        self.progress.advance(1);
        outputs
    }
}

/// A model with loops in an engine that would run them for ever: the interpreter, which gives up at the cap on rounds, goes first.
pub(super) struct Bounded<'a> {
    pub(super) first: &'a Interpreter,
    pub(super) session: &'a dyn Session,
}

impl Session for Bounded<'_> {
    fn engine(&self) -> String {
        self.session.engine()
    }

    fn run(&self, inputs: &NamedTensors) -> Result<NamedTensors> {
        match Session::run(self.first, inputs) {
            Err(error) if error.code() == "endless_loop" => Err(error),
            // Whatever else it says, the engine may say otherwise.
            Ok(_) | Err(_) => self.session.run(inputs),
        }
    }
}

/// Engines with an artifact in them.
#[derive(Default)]
pub(super) struct Engines {
    pub(super) interpreters: Vec<Interpreter>,
    pub(super) sessions: Vec<Box<dyn Session>>,
    pub(super) absent: Vec<Absent>,
}

impl Engines {
    /// Adds an engine, or says why it is absent; tells whether it is there. `required` tells whether the verdict needs it, by what kept it from
    /// loading the artifact.
    pub(super) fn add(
        &mut self,
        engine: Engine,
        required: impl FnOnce(&Error) -> bool,
        session: Result<Box<dyn Session>>,
    ) -> bool {
        match session {
            Ok(session) => {
                self.sessions.push(session);
                true
            }
            Err(error) => {
                self.absent.push(Absent {
                    name: engine.name().to_owned(),
                    detail: error.to_string(),
                    required: required(&error),
                });
                false
            }
        }
    }
}

/// Whether an engine could not be loaded because of the model: that it is not installed is the machine's business.
pub(super) fn cannot_load(error: &Error) -> bool {
    !["engine_absent", "no_onnxruntime"].contains(&error.code())
}
