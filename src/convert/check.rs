//! What runs a comparison: opens an artifact in every engine that can run it, and hands them to [`crate::verify`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::admit;
use super::engines::{Bounded, Counted, Engine, Engines, cannot_load, through_onnx};
use super::error::ConvertError;
use super::opened::{Compared, Opened};
use super::recipe::Recorded;
use super::request::{ArtifactKind, Progress, Shapes, SourceOptions, Step, Target};
use super::sizes::{adopt_sizes, artifact_shapes};
use super::unrounded::{Reread, as_stored};
use crate::arch;
use crate::error::{Context, Error, Result};
use crate::eval::{Interpreter, Mode, check_indices};
use crate::files::Named;
use crate::ir::{DOMAINS_KEY, Module, Op};
use crate::runtime::{NamedTensors, Session};
use crate::source;
use crate::tensor::{DType, Tensor};
use crate::verify::{
    self, Absent, Candidate, Conversion, Format, Gates, Numerics, Options, PairReport, Prediction,
    ReadBack, Report, Role, Source, Task, Weights, comparison_json, predictions_json,
};
use crate::{coreml, onnx};

/// How to compare.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// Reference outputs made by something else.
    pub reference: Option<PathBuf>,
    /// Largest accepted max|Δ| / max|reference| against the reference outputs; the gate of single precision if there is none.
    pub reference_tolerance: Option<f64>,
    /// The user's inputs.
    pub inputs: Option<PathBuf>,
    /// A task whose answers must be preserved.
    pub task: Option<PathBuf>,
    /// ONNX Runtime's shared library.
    pub onnxruntime: Option<PathBuf>,
}

impl Check {
    /// The files that are read, by their flags.
    ///
    /// # Errors
    /// When the task file, which may name a tokenizer, cannot be read.
    pub fn named(&self) -> Result<Vec<Named>> {
        let tokenizer = self.task.as_deref().map(Task::tokenizer_file).transpose()?;
        let tokenizer = tokenizer.flatten();
        let all = [
            ("`--reference`", &self.reference),
            ("`--inputs`", &self.inputs),
            ("`--task`", &self.task),
            ("the tokenizer of `--task`", &tokenizer),
            ("`--onnxruntime`", &self.onnxruntime),
        ];
        let given = all.into_iter();
        Ok(given
            .filter_map(|(flag, path)| Some(Named::new(flag, path.as_deref()?)))
            .collect())
    }
}

/// A function as it was converted in memory: what an artifact in half precision has to agree with, but for its rounding.
#[derive(Clone, Copy)]
pub(super) struct Made<'a> {
    /// What is written, before its precision changes, if that is another program than the source.
    pub(super) plain: Option<&'a Module>,
    /// What was written.
    pub(super) written: &'a Module,
}

/// What an artifact is held against.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// The source.
    pub(super) source: &'a Module,
    /// The source's original file, if it is one that engines run: it is the reference then, and our interpreter with `source` is compared with it
    /// like the rest.
    pub(super) engine: Option<&'a dyn Session>,
    /// The conversion itself, if it is known.
    pub(super) made: Option<Made<'a>>,
}

/// Runs an artifact in every engine that can, and compares it with its origin. Of a Core ML artifact `function` is read, the default one if none
/// is named.
///
/// # Errors
/// When the artifact cannot be read back, or a file of `check` is malformed. A difference is not an error: it is in the report.
pub(super) fn verify_artifact(
    origin: Origin<'_>,
    artifact: &Path,
    kind: ArtifactKind,
    function: Option<&str>,
    check: &Check,
    progress: &dyn Progress,
) -> Result<Report> {
    let Origin {
        source,
        engine,
        made,
    } = origin;
    let reference = check
        .reference
        .as_deref()
        .map(source::read_tensors)
        .transpose()?;
    let inputs = check
        .inputs
        .as_deref()
        .map(source::read_tensors)
        .transpose()?;
    let task = check.task.as_deref().map(Task::load).transpose()?;
    let library = check.onnxruntime.as_deref();
    progress.begin(Step::Verify, 0);

    let original = Interpreter::new(source, Mode::F32)?;
    let admitted = || -> Result<()> { Ok(admit::fits_memory(source)?) };
    let mut engines = Engines::default();
    let mut read_back = None;
    // ONNX Runtime defines what the operators mean; where it runs a file, tract is another opinion.
    let mut tract_is_second = false;
    let numerics = match kind {
        ArtifactKind::Checkpoint => return Err(ConvertError::UnknownKind.into()),
        ArtifactKind::Coreml => {
            let module = read_package(artifact, function)?;
            let halves = has_halves(&module);
            engines
                .interpreters
                .push(Interpreter::new(&module, Mode::F32)?);
            if halves {
                engines
                    .interpreters
                    .push(Interpreter::new(&module, Mode::F16)?);
            }
            // An engine that shares no code with ours: ONNX Runtime, or tract, which is always here.
            let session = admitted().and_then(|()| through_onnx(&module, Engine::Ort, library));
            let wanted = |e: &Error| library.is_some() || cannot_load(e);
            if !engines.add(Engine::Ort, wanted, session) {
                let session = admitted().and_then(|()| through_onnx(&module, Engine::Tract, None));
                engines.add(Engine::Tract, cannot_load, session);
            }
            read_back = Some(module);
            if halves { Numerics::F16 } else { Numerics::F32 }
        }
        ArtifactKind::Onnx => {
            let tract = admitted().and_then(|()| Engine::Tract.open(artifact, library));
            let session = admitted().and_then(|()| Engine::Ort.open(artifact, library));
            tract_is_second = session.is_ok();
            if tract_is_second && has_loops(source) {
                // That is no finding about the artifact, as long as another engine runs it.
                engines.absent.push(Absent {
                    name: Engine::Tract.name().to_owned(),
                    detail: "it loads files with loops, but does not run them".to_owned(),
                    required: false,
                });
            } else {
                engines.add(Engine::Tract, |_| !tract_is_second, tract);
            }
            let wanted = |e: &Error| library.is_some() || cannot_load(e);
            engines.add(Engine::Ort, wanted, session);
            let halves = onnx::inspect(artifact)?
                .weight_bytes
                .contains_key(DType::F16.name());
            if halves || has_halves(source) {
                Numerics::F16
            } else {
                Numerics::F32
            }
        }
    };
    let counted: Vec<Counted<'_>> = engines
        .sessions
        .into_iter()
        .map(|session| Counted { session, progress })
        .collect();
    let reading = Reading(&original);
    let bounded = engine.filter(|_| has_loops(source)).map(|session| Bounded {
        first: &original,
        session,
    });
    let engine = bounded.as_ref().map(|b| -> &dyn Session { b }).or(engine);
    let mut candidates: Vec<Candidate<'_>> = engines
        .interpreters
        .iter()
        .map(|i| Candidate {
            role: Role::Artifact,
            session: i,
            module: read_back.as_ref(),
            trace: Some(i),
            numerics,
            inexact: None,
        })
        .collect();
    candidates.extend(counted.iter().map(|c| Candidate {
        role: Role::Artifact,
        session: c,
        module: read_back.as_ref(),
        trace: None,
        numerics,
        inexact: match numerics {
            _ if !c.engine().starts_with("tract") => None,
            Numerics::F16 => Some(TRACT_HALVES),
            Numerics::F32 => tract_is_second.then_some(TRACT_SECOND),
        },
    }));
    if engine.is_some() {
        candidates.push(Candidate {
            role: Role::Reference,
            session: &reading,
            module: Some(source),
            trace: None,
            // In half precision, other engines round where the interpreter does not.
            numerics: if has_halves(source) {
                Numerics::F16
            } else {
                Numerics::F32
            },
            inexact: None,
        });
    }
    // Without rounding to 16 bits, there is nothing that the engines' own gates would not show.
    let made = made.filter(|_| numerics == Numerics::F16);
    let stored = made.map(|made| as_stored(made.written, artifact, kind));
    let stored = stored.transpose()?;
    // Engines run an ONNX file as it is, rounded.
    let in_onnx = made.filter(|_| kind == ArtifactKind::Onnx);
    let rounds = in_onnx.is_some_and(|made| made.written.has(DType::BF16));
    let reread = in_onnx.filter(|_| !rounds);
    let reread = reread.map(|_| Reread::of(artifact)).transpose();
    let reread = reread.unwrap_or_else(|error| {
        engines.absent.push(Absent {
            name: format!("{} {}", Engine::Interpreter.name(), Mode::F32.name()),
            detail: error.to_string(),
            required: true,
        });
        None
    });
    let read_back = reread.as_ref().map(|reread| ReadBack {
        module: &reread.module,
        interpreter: &reread.interpreter,
    });
    let conversion = made.zip(stored.as_ref()).map(|(made, written)| Conversion {
        plain: made.plain,
        written,
        read_back,
    });
    let name = artifact.file_name().unwrap_or_default().to_string_lossy();
    let report = verify::run(&verify::Request {
        artifact: &name,
        format: if kind == ArtifactKind::Coreml {
            Format::CoreMl
        } else {
            Format::Onnx
        },
        source: Source {
            module: source,
            session: engine.unwrap_or(&original),
            trace: Some(&original),
        },
        candidates,
        conversion,
        absent: engines.absent,
        reference: reference.as_ref(),
        inputs: inputs.as_ref(),
        task: task.as_ref(),
        options: Options {
            reference: check.reference_tolerance.map(Gates::with_tolerance),
            ..Options::default()
        },
    });
    progress.end();
    report.map(|mut report| {
        report
            .warnings
            .extend(rounds.then(|| BF16_ROUNDS.to_owned()));
        report
    })
}

/// Why an ONNX file is not read back for a comparison without rounding.
const BF16_ROUNDS: &str = "the file rounds to bf16 by arithmetic in single precision, which nothing can leave out: it was not compared with what was written without rounding";

/// Whether anything in the module is a number of 16 bits, which the interpreter does not round in single precision, and engines do.
fn has_halves(module: &Module) -> bool {
    module.has(DType::F16) || module.has(DType::BF16)
}

/// Measured on version 0.23: products of 3×3 convolutions are off by 9·10⁻⁴, where single sums are off by 2·10⁻⁴.
const TRACT_HALVES: &str = "tract sums in half precision in convolutions";

const TRACT_SECOND: &str = "where both run a file, ONNX Runtime is the one to go by";

/// The source module in the interpreter, beside the engine that runs the original file: where they differ, the file was misread, or one of the
/// engines is wrong.
struct Reading<'a>(&'a Interpreter);

impl Session for Reading<'_> {
    fn engine(&self) -> String {
        format!("{} on the source as it was read", Session::engine(self.0))
    }

    fn run(&self, inputs: &NamedTensors) -> Result<NamedTensors> {
        Session::run(self.0, inputs)
    }
}

/// A function of a package, the default one if none is named; its inputs and outputs are called as in the source it was made from.
pub(super) fn read_package(artifact: &Path, function: Option<&str>) -> Result<Module> {
    coreml::read_function(artifact, function)?
        .into_source_module()
        .at_file(artifact)
}

/// Whether the module has a loop.
fn has_loops(module: &Module) -> bool {
    let functions = module.functions.iter().chain(&module.bodies);
    let mut nodes = functions.flat_map(|f| &f.nodes);
    nodes.any(|node| matches!(node.op, Op::Loop(_)))
}

/// Compares an artifact with the model folder it was made from, at the artifact's shapes.
///
/// # Errors
/// When the source or the artifact cannot be read.
pub fn verify(
    model: &Path,
    artifact: &Path,
    options: &SourceOptions,
    check: &Check,
    progress: &dyn Progress,
) -> Result<Report> {
    let kind = ArtifactKind::of(artifact)?;
    let (source, compared) = Opened::open(model, options)?;
    let made = Recorded::of(artifact, kind)?;
    if kind == ArtifactKind::Onnx {
        admit::file(artifact, &NamedTensors::new())?;
    }
    let again = made.again(&source, model);
    let options = &match source {
        Opened::Checkpoint(_) => made.complete(options),
        Opened::Onnx(_) | Opened::Coreml(_) => options.clone(),
    };
    let functions = match kind {
        ArtifactKind::Coreml => source.functions(options, Target::Coreml)?,
        ArtifactKind::Onnx | ArtifactKind::Checkpoint => vec![options.function.clone()],
    };
    let mut reports = Vec::with_capacity(functions.len());
    for function in functions {
        let options = SourceOptions {
            function: function.clone(),
            ..options.clone()
        };
        let made = again.as_ref().ok().and_then(|c| c.of(function.as_deref()));
        let report = verify_function(&source, artifact, kind, made, &options, check, progress)?;
        reports.push((function.unwrap_or_default(), report));
    }
    let report = Report::of_functions(reports);
    let mut report = report.ok_or(ConvertError::UnknownKind)?;
    report.add_weights(match again.map(|conversion| conversion.compare(artifact)) {
        Ok(Ok(agreement)) => Weights::Compared(agreement),
        Ok(Err(error)) => Weights::NotCompared {
            why: format!("the source cannot be converted as it was: {error}"),
        },
        Err(why) => Weights::NotCompared { why },
    });
    compared.still_holds()?;
    Ok(report)
}

/// Compares an artifact with one function of its source; with the function of that name if the artifact has several.
fn verify_function(
    source: &Opened,
    artifact: &Path,
    kind: ArtifactKind,
    made: Option<Made<'_>>,
    options: &SourceOptions,
    check: &Check,
    progress: &dyn Progress,
) -> Result<Report> {
    let function = match (kind, &options.function) {
        (ArtifactKind::Coreml, Some(name)) => {
            let names = coreml::functions(artifact)?;
            (names.len() > 1).then(|| name.clone())
        }
        (_, _) => None,
    };
    let (options, warning, built) = match source {
        Opened::Checkpoint(checkpoint) => {
            let mut shapes = artifact_shapes(artifact, kind)?;
            shapes.choose(&options.onnx.dims)?;
            let (options, warning) =
                super::reference::decide_rotary(checkpoint, options, Some(check))?;
            let built = source.build_at(&options, &shapes)?;
            (options, warning, built)
        }
        Opened::Onnx(path) => {
            let mut options = options.clone();
            adopt_sizes(path, artifact, kind, &mut options.onnx)?;
            let read = options.onnx.clone();
            let note = super::opened::decide(path, &read, &mut options.onnx)?;
            let built = source.build_at(&options, &Shapes::dynamic())?;
            (options, note, built)
        }
        Opened::Coreml(_) => {
            let built = source.build_at(options, &Shapes::dynamic())?;
            (options.clone(), None, built)
        }
    };
    let engine = source.engine(&built.module, &options, check.onnxruntime.as_deref())?;
    let origin = Origin {
        source: &built.module,
        engine: engine.session.as_deref(),
        made,
    };
    let mut report = verify_artifact(origin, artifact, kind, function.as_deref(), check, progress)?;
    report.warnings.extend(engine.warnings);
    report.warnings.extend(source.notes());
    report.warnings.extend(built.warnings);
    report.warnings.extend(warning);
    Ok(report)
}

/// How to run a model once.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The engine; by default the one that fits the file.
    pub engine: Option<Engine>,
    /// Rounding of the interpreter.
    pub mode: Mode,
    /// ONNX Runtime's shared library.
    pub onnxruntime: Option<PathBuf>,
    /// How to read a source.
    pub source: SourceOptions,
    /// The function of a Core ML model; the default one if none is named.
    pub function: Option<String>,
    /// Inputs of the first step that are image files, by name.
    pub images: Vec<(String, PathBuf)>,
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What ran, with its version.
    pub engine: String,
    /// The outputs, of the last step if there were several.
    pub outputs: NamedTensors,
    /// The outputs of the steps before it.
    pub earlier: Vec<NamedTensors>,
    /// What a classifier called it.
    pub label: Option<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Runs a model folder, an ONNX file or a Core ML package on `inputs`.
///
/// # Errors
/// When the model is not as its lock says or cannot be read, the inputs do not fit it, or the engine fails or is absent.
pub fn run(model: &Path, inputs: NamedTensors, options: &RunOptions) -> Result<Ran> {
    run_steps(model, vec![inputs], options)
}

fn run_once(model: &Path, mut inputs: NamedTensors, options: &RunOptions) -> Result<Ran> {
    let library = options.onnxruntime.as_deref();
    let mut warnings = Vec::new();
    let module = match ArtifactKind::of(model)? {
        // Our own reading of the file, at the shapes of the inputs.
        ArtifactKind::Onnx if options.engine == Some(Engine::Interpreter) => {
            let built = read_at_shapes(model, &options.source.onnx, &inputs)?;
            warnings.extend(built.warnings);
            built.module
        }
        ArtifactKind::Onnx => {
            admit::file(model, &inputs)?;
            let session = options
                .engine
                .unwrap_or(Engine::Tract)
                .open(model, library)?;
            let summary = onnx::inspect(model)?;
            // Engines count a negative index from the end, and some stop at one that is too large. Files of ours say which inputs are indices.
            if summary.metadata.contains_key(DOMAINS_KEY)
                && let Ok(read) = read_at_shapes(model, &options.source.onnx, &inputs)
            {
                check_indices(read.module.main()?, &inputs)?;
            }
            for input in summary.inputs {
                let dtype = DType::ALL.into_iter().find(|d| d.name() == input.dtype);
                warnings.extend(fill_mask(
                    &input.name,
                    dtype.unwrap_or(DType::I64),
                    &mut inputs,
                )?);
            }
            return Ok(Ran {
                engine: session.engine(),
                outputs: session.run(&inputs)?,
                earlier: Vec::new(),
                label: None,
                warnings,
            });
        }
        ArtifactKind::Coreml => return super::steps::run(model, vec![inputs], options),
        ArtifactKind::Checkpoint => {
            let checkpoint = super::open(model, &options.source)?;
            let built = super::build(
                &checkpoint,
                &options.source,
                &Shapes::of_dims(&options.source.onnx.dims)?,
            )?;
            warnings.extend(checkpoint.notes);
            warnings.extend(built.warnings);
            built.module
        }
    };
    warnings.extend(fill_masks(&module, &mut inputs)?);
    check_indices(module.main()?, &inputs)?;
    let session: Box<dyn Session> = match options.engine.unwrap_or(Engine::Interpreter) {
        Engine::Interpreter => Box::new(Interpreter::new(&module, options.mode)?),
        engine @ (Engine::Tract | Engine::Ort) => through_onnx(&module, engine, library)?,
    };
    Ok(Ran {
        engine: session.engine(),
        outputs: session.run(&inputs)?,
        earlier: Vec::new(),
        label: None,
        warnings,
    })
}

/// An ONNX file at the shapes of the inputs.
fn read_at_shapes(
    model: &Path,
    options: &onnx::ReadOptions,
    inputs: &NamedTensors,
) -> Result<arch::Built> {
    let mut read = options.clone();
    for (name, tensor) in inputs {
        read.shapes.insert(name.clone(), tensor.shape().to_vec());
    }
    super::opened::read_onnx(model, &read)
}

/// Runs a model on the inputs of several steps. Only Core ML models have states to keep between them.
///
/// # Errors
/// As [`run`]; also when another kind of model is given more than one step.
pub fn run_steps(model: &Path, mut steps: Vec<NamedTensors>, options: &RunOptions) -> Result<Ran> {
    let compared = Compared::of(model, options.source.require_lock)?;
    let notes = match steps.first_mut() {
        Some(first) => {
            super::image::read(model, options.function.as_deref(), &options.images, first)?
        }
        None => Vec::new(),
    };
    let mut ran = run_all(model, steps, options)?;
    compared.still_holds()?;
    ran.warnings.extend(notes);
    Ok(ran)
}

fn run_all(model: &Path, mut steps: Vec<NamedTensors>, options: &RunOptions) -> Result<Ran> {
    if ArtifactKind::of(model)? == ArtifactKind::Coreml {
        return super::steps::run(model, steps, options);
    }
    match (steps.pop(), steps.is_empty()) {
        (Some(inputs), true) => run_once(model, inputs, options),
        (_, _) => Err(ConvertError::Stateless.into()),
    }
}

/// Masks that the inputs lack become all ones, with a warning.
pub(super) fn fill_masks(module: &Module, inputs: &mut NamedTensors) -> Result<Vec<String>> {
    let function = module.main()?;
    let params = function.params.iter().map(|p| function.value(p.value));
    params
        .filter_map(|value| fill_mask(&value.name, value.ty.dtype, inputs).transpose())
        .collect()
}

/// Makes the input `name` all ones if it is a padding mask and missing.
fn fill_mask(name: &str, dtype: DType, inputs: &mut NamedTensors) -> Result<Option<String>> {
    let shape = inputs
        .values()
        .find(|t| t.shape().len() == 2)
        .map(|t| t.shape().to_vec());
    let (true, false, Some(shape)) = (name == "attention_mask", inputs.contains_key(name), shape)
    else {
        return Ok(None);
    };
    let ones = vec![1; shape.iter().product()];
    inputs.insert(name.to_owned(), Tensor::int(dtype, shape, ones)?);
    Ok(Some(format!(
        "`{name}` is not among the inputs: all positions count"
    )))
}

/// The name of the predecessor's file of metrics.
const COMPARISON: &str = "comparison_metrics.json";

/// The stage of the model that artifacts are compared with.
const SOURCE: &str = "source";

fn predictions_of(stage: &str) -> String {
    format!("{stage}_predictions.json")
}

/// The names of the files that [`prediction_files`] gives for artifacts of these formats.
#[must_use]
pub fn prediction_names(formats: &[&str]) -> Vec<String> {
    let stages = std::iter::once(&SOURCE).chain(formats);
    let files = stages.map(|stage| predictions_of(stage));
    files.chain([COMPARISON.to_owned()]).collect()
}

/// An artifact whose answers are written in the predecessor's form.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Its format: `coreml` or `onnx`.
    pub format: &'a str,
    /// Where it is, as the file names it.
    pub path: &'a Path,
    /// What its verification found.
    pub report: &'a Report,
}

/// The predecessor's files: the answers of the source and of every artifact, and how they compare; file name → document. An artifact without
/// answers is named among the notes.
///
/// # Errors
/// When the task file cannot be read again.
pub fn prediction_files(
    model: &Path,
    artifacts: &[Answered<'_>],
    task: &Path,
) -> Result<(BTreeMap<String, Value>, Vec<String>)> {
    let task = Task::load(task)?;
    let (mut files, mut comparison, mut notes) =
        (BTreeMap::new(), serde_json::Map::new(), Vec::new());
    let document = |stage: &str, path: &Path, answers: &[Prediction]| {
        predictions_json(&task, stage, &path.display().to_string(), answers)
    };
    for artifact in artifacts {
        let found = artifact.report.task.as_ref();
        // The interpreter that rounds comes last of the interpreters, and is the nearest to a device.
        let nearest: Option<&PairReport> = found.and_then(|found| {
            let engines = &found.engines;
            let ours = engines
                .iter()
                .rfind(|e| e.engine.starts_with("interpreter"));
            ours.or(engines.last())
        });
        let (Some(found), Some(pair)) = (found, nearest) else {
            notes.push(format!(
                "no engine answered the task for `{}`: its predictions are not written",
                artifact.path.display()
            ));
            continue;
        };
        let stage = artifact.format;
        files
            .entry(predictions_of(SOURCE))
            .or_insert_with(|| document(SOURCE, model, &found.source_predictions));
        files.insert(
            predictions_of(stage),
            document(stage, artifact.path, &pair.predictions),
        );
        if let Value::Object(pairs) = comparison_json(&format!("{SOURCE}_vs_{stage}"), pair) {
            comparison.extend(pairs);
        }
    }
    if !comparison.is_empty() {
        files.insert(COMPARISON.to_owned(), Value::Object(comparison));
    }
    Ok((files, notes))
}
