//! Source against artifact: probes, figures, gates, claims, tasks, and the report that says what was run and what it proves.
//!
//! Owns the verdict. Runs nothing itself: models come as [`Session`]s, and which of them are required is the caller's to say.
//! Nothing passes by absence: no probe, no output, no engine, no gate each fail or are inconclusive.

mod aligned;
mod cases;
mod claims;
mod divergence;
mod drift;
mod error;
mod inputs;
mod interface;
mod kind;
mod metrics;
mod overflow;
mod predictions;
mod preservation;
mod report;
mod run;
mod steps;
mod summary;
mod task;
mod tolerance;
mod types;

pub use cases::{Case, Cases, input_cases, reference_cases};
pub use claims::{ClaimReport, ClaimStatus};
pub use divergence::{Divergence, First, ValueReport};
pub use drift::{ClassCounts, Flip, PairReport, Prediction, compare_predictions};
pub use error::VerifyError;
pub use inputs::Origin;
pub use kind::OutputKind;
pub use metrics::{Comparison, Figures, LogitFigures, NonFinite, Rule, Worst, compare};
pub use overflow::beyond_f16;
pub use predictions::{comparison_json, predictions_json, read_predictions};
pub use preservation::TaskReport;
pub use report::{
    EngineReport, EngineStatus, GatesReport, OutputReport, ProbeReport, Report, Status, SummaryRow,
    Weights,
};
pub use run::run;
pub use task::{Class, ClassKind, Task, TaskCase, TaskGates};
pub use tolerance::{Check, Gates, Numerics};
pub use types::InterfaceChange;

use crate::error::Result;
use crate::eval::Interpreter;
use crate::ir::{Function, Module};
use crate::runtime::{NamedTensors, Session};

/// What an artifact is; decides what the report says about its own runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An ONNX file.
    Onnx,
    /// A Core ML package. Apple's runtime is not executed.
    CoreMl,
}

/// The source model.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Its module: interface, input ranges, claims.
    pub module: &'a Module,
    /// What runs it.
    pub session: &'a dyn Session,
    /// The interpreter of `module`, for intermediate values; often the same object as `session`.
    pub trace: Option<&'a Interpreter>,
}

/// What a candidate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The artifact.
    Artifact,
    /// The source once more, in another engine than the one that everything is compared with.
    Reference,
}

impl Role {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Artifact => "artifact",
            Role::Reference => "reference",
        }
    }
}

/// One way of running the artifact, or the source once more.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    /// What it holds.
    pub role: Role,
    /// What runs it.
    pub session: &'a dyn Session,
    /// The module that was read back from the artifact, if it was. Its interface is then what the session takes.
    pub module: Option<&'a Module>,
    /// The interpreter of `module`, for intermediate values; often the same object as `session`.
    pub trace: Option<&'a Interpreter>,
    /// How it computes.
    pub numerics: Numerics,
    /// Why this engine's word counts for less than another's, such as what it computes less exactly than the artifact asks for. What it finds, and
    /// that it fails, is a warning where another engine finds no difference. An overflow always counts.
    pub inexact: Option<&'static str>,
}

/// The conversion in memory. Rounding to 16 bits hides small faults of a conversion; what comes before and after it has to agree as closely as
/// single precision does, on the first probe.
#[derive(Clone, Copy)]
pub struct Conversion<'a> {
    /// What is written, before its precision changes, if that is another program than the source: agrees with the source.
    pub plain: Option<&'a Module>,
    /// What was written: agrees with what was read back, all values kept in single precision.
    pub written: &'a Module,
    /// What was read back, where no candidate keeps its values in single precision.
    pub read_back: Option<ReadBack<'a>>,
}

/// An artifact as it was read back by our own reader of its format, for engines that run the file itself.
#[derive(Clone, Copy)]
pub struct ReadBack<'a> {
    /// The module.
    pub module: &'a Module,
    /// The interpreter of `module`, in single precision.
    pub interpreter: &'a Interpreter,
}

/// An engine that should have run the artifact and could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Name.
    pub name: String,
    /// What is missing, and how to get it.
    pub detail: String,
    /// Whether the verdict needs it: without a required engine it is inconclusive at best.
    pub required: bool,
}

/// What can be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Limits for engines that compute in 32 bits.
    pub f32: Gates,
    /// Limits for engines that round to 16 bits.
    pub f16: Gates,
    /// Limits against a reference file, for the source and for engines that compute in 32 bits; `f32` if there are none.
    pub reference: Option<Gates>,
    /// Longest seeded probe where the model takes a range of lengths. Enumerated and fixed lengths are always probed.
    pub longest_probe: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            f32: Gates::for_numerics(Numerics::F32),
            f16: Gates::for_numerics(Numerics::F16),
            reference: None,
            longest_probe: 128,
        }
    }
}

/// What to verify.
#[derive(Clone)]
pub struct Request<'a> {
    /// Name of the artifact in the report.
    pub artifact: &'a str,
    /// What it is.
    pub format: Format,
    /// The source.
    pub source: Source<'a>,
    /// Every way of running the artifact.
    pub candidates: Vec<Candidate<'a>>,
    /// The conversion that made the artifact, if its values have 16 bits and it is known.
    pub conversion: Option<Conversion<'a>>,
    /// Engines that could not be loaded.
    pub absent: Vec<Absent>,
    /// A reference file: `caseN.input.<name>`, `caseN.output.<name>`.
    pub reference: Option<&'a NamedTensors>,
    /// The user's inputs: plain names or `caseN.input.<name>`.
    pub inputs: Option<&'a NamedTensors>,
    /// A task to preserve.
    pub task: Option<&'a Task>,
    /// Limits and lengths.
    pub options: Options,
}

/// An engine with the interface and the limits that go with it.
pub(crate) struct Subject<'a> {
    name: String,
    session: &'a dyn Session,
    /// What the artifact takes and gives, and what the source does.
    bridge: Option<(&'a Function, &'a Function)>,
    gates: Gates,
}

impl<'a> Subject<'a> {
    fn new(
        session: &'a dyn Session,
        bridge: Option<(&'a Function, &'a Function)>,
        gates: Gates,
    ) -> Self {
        Subject {
            name: session.engine(),
            session,
            bridge,
            gates,
        }
    }

    /// The source's inputs, of the element types and ranks that it takes.
    fn cast(&self, inputs: &NamedTensors) -> Result<NamedTensors> {
        match self.bridge {
            Some((artifact, _)) => types::for_artifact(inputs, artifact),
            None => Ok(inputs.clone()),
        }
    }

    /// Runs it on the source's inputs. Gives the outputs as the source does.
    fn run(&self, inputs: &NamedTensors) -> Result<NamedTensors> {
        self.give(self.session.run(&self.cast(inputs)?)?)
    }

    /// Its outputs as the source gives them.
    fn give(&self, outputs: NamedTensors) -> Result<NamedTensors> {
        match self.bridge {
            Some((_, source)) => types::from_artifact(outputs, source),
            None => Ok(outputs),
        }
    }
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
