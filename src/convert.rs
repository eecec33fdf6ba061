//! The pipeline, from a model folder or an ONNX file to verified files, as one readable function: [`convert`].
//!
//! Owns the order of the steps. Staging of outputs is in `stage`, what runs a comparison in `check`. Knows no format's details.

mod admit;
mod audit;
mod check;
mod engines;
mod error;
mod fit;
mod image;
mod import;
mod inspect;
mod opened;
mod parameters;
mod recipe;
mod reference;
mod request;
mod sizes;
mod stage;
mod statement;
mod steps;
mod unrounded;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

pub use audit::{Audit, AuditOptions, Finding, Held, audit};
use check::verify_artifact;
pub use check::{
    Answered, Check, Ran, RunOptions, prediction_files, prediction_names, run, run_steps, verify,
};
pub use engines::Engine;
pub use error::ConvertError;
pub use import::import;
pub use inspect::inspect;
pub use opened::Compared;
pub use request::{
    ArtifactKind, DEFAULT_OPSET, Precision, Progress, Request, Shapes, SourceOptions, Step, Target,
    named_model, parse_constant, parse_dim, parse_shape,
};
pub use statement::{ProvenanceOptions, StatementPath};

use crate::coreml::{Basis, TypeChange, WrittenFunction};
use crate::error::{Class, Context, Result, io_error};
use crate::ir::{Bindings, CompressedWeights, Module, SymbolRange};
use crate::passes::{self, CleanReport, Islands, PrecisionReport};
use crate::runtime::Session;
use crate::source::lock::Identity;
use crate::source::{Checkpoint, FileDigest, OpenOptions};
use crate::tensor::DType;
use crate::verify::{Report, Weights};
use crate::{arch, coreml, files, onnx, source, verify};
use files::Place;
use opened::Opened;
use stage::{Stage, Wait};
use statement::Evidence;

/// Longest size that a message proposes for one that has no bound.
const LONGEST: u64 = 512;

/// A written artifact.
#[derive(Clone, Debug, Serialize)]
pub struct Artifact {
    /// Its format.
    pub target: Target,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes of everything written.
    pub bytes: u64,
    /// Operator set or specification: `opset 18`, `CoreML7 (specification 8)`.
    pub format: String,
    /// What was cleaned up, for a source that is a graph.
    pub cleaned: Option<CleanReport>,
    /// What the precision pass did, if it ran.
    pub precision: Option<PrecisionReport>,
    /// Whether it computes in half precision where its source does, because nobody asked for anything else.
    #[serde(skip)]
    pub keeps_halves: bool,
    /// Values that the artifact holds in another type than the source, sorted, and what makes that right. Not among them: what the precision
    /// pass made half precision.
    pub type_changes: Vec<coreml::TypeChange>,
    /// What became of weights that the source holds compressed.
    pub compressed: CompressedWeights,
    /// The comparison with the source, unless it was switched off.
    pub verification: Option<Report>,
}

/// What a conversion gave.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Architecture of the source.
    pub architecture: String,
    /// Size and digest of every source file that was read.
    pub source_files: Vec<FileDigest>,
    /// Repository of the source, if its lock names one.
    pub repo: Option<String>,
    /// Pinned revision of the source, if its lock names one.
    pub revision: Option<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// One per target.
    pub artifacts: Vec<Artifact>,
}

impl Outcome {
    /// Whether every verification that ran passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.artifacts
            .iter()
            .all(|a| a.verification.as_ref().is_none_or(Report::passed))
    }
}

/// Opens the model folder and checks its weights for what is not finite.
///
/// # Errors
/// When the folder is malformed, unsafe, unlocked where a lock is required, or holds NaN or infinity that was not allowed.
pub fn open(model: &Path, options: &SourceOptions) -> Result<Checkpoint> {
    source::open(
        model,
        &OpenOptions {
            require_lock: options.require_lock,
            config: None,
        },
    )
}

/// The source model in the IR, at the shapes of a target.
///
/// # Errors
/// When the architecture is unknown, or config and weights do not fit it.
pub fn build(
    checkpoint: &Checkpoint,
    options: &SourceOptions,
    shapes: &Shapes,
) -> Result<arch::Built> {
    let mut built = arch::build(checkpoint, &shapes.arch_options(options))?;
    built.module = passes::fold(&built.module)?;
    Ok(built)
}

/// Refuses weights that are not finite, or says so when they were allowed; `infinite` allows those that are not NaN.
fn check_finite(module: &Module, allow: bool, infinite: bool) -> Result<Vec<String>> {
    let scans = module
        .constants
        .par_iter()
        .map(|constant| constant.scan().map(|scan| (constant.name(), scan)))
        .collect::<Result<Vec<_>>>()?;
    let mut warnings = Vec::new();
    for (name, scan) in scans
        .into_iter()
        .filter(|(_, scan)| scan.nan + scan.inf > 0)
    {
        let error = ConvertError::NonFinite {
            nan: scan.nan,
            inf: scan.inf,
        };
        if !(allow || infinite && scan.nan == 0) {
            return Err(error).at_tensor(name);
        }
        warnings.push(format!("tensor `{name}`: {error}"));
    }
    Ok(warnings)
}

/// Converts a model folder, an ONNX file or a Core ML model to every target of the request. Nothing is left behind when it fails.
///
/// # Errors
/// When a step fails. A verification that does not pass is not an error: it is in the outcome.
pub fn convert(request: &Request, progress: &dyn Progress) -> Result<Outcome> {
    request.check()?;
    let evidence = statement::evidence(request)?;
    let (source, compared) = Opened::open(&request.model, &request.source)?;
    let (options, warning) = match &source {
        Opened::Checkpoint(checkpoint) => {
            reference::decide_rotary(checkpoint, &request.source, request.check.as_ref())?
        }
        Opened::Onnx(_) | Opened::Coreml(_) => source.decided(request, &request.source)?,
    };
    let Identity { repo, revision } = source.identity()?;
    let mut outcome = Outcome {
        architecture: String::new(),
        source_files: Vec::new(),
        repo,
        revision,
        warnings: source
            .notes()
            .into_iter()
            .chain(warning)
            .chain(request.idle_islands())
            .collect(),
        artifacts: Vec::new(),
    };
    // Hashing the source takes one core for about as long as writing takes the other.
    let (digests, artifacts) = std::thread::scope(|scope| {
        let digests = scope.spawn(|| source.digests());
        let artifacts: Result<Vec<Staged>> = request
            .targets
            .iter()
            .map(|&target| stage_target(request, &source, &options, target, &mut outcome, progress))
            .collect();
        (digests.join(), artifacts)
    });
    outcome.source_files = digests.map_err(|_| ConvertError::Interrupted)??;
    let artifacts = artifacts?;
    compared.still_holds()?;
    for staged in artifacts {
        staged.finish(request, &evidence, &mut outcome)?;
    }
    outcome.warnings.sort();
    outcome.warnings.dedup();
    Ok(outcome)
}

/// A target's files, written and verified in a private folder, not yet at their destination.
struct Staged {
    stage: Stage,
    /// Metadata of the source that the artifact does not have yet.
    told: BTreeMap<String, String>,
    /// Where its statement goes, if that is apart.
    statement: Option<Place>,
    /// Brings what was written to the disk while it is verified; nothing where it is not.
    sync: Option<Syncing>,
    /// What it was made with, for its metadata.
    recipe: String,
    artifact: Artifact,
}

fn stage_target(
    request: &Request,
    source: &Opened,
    options: &SourceOptions,
    target: Target,
    outcome: &mut Outcome,
    progress: &dyn Progress,
) -> Result<Staged> {
    let path = request.destination(target);
    let stage = Stage::beside(&path, is_ours, &mut outcome.warnings)?;
    let statement = statement::place(request)?;
    let Parts {
        architecture,
        cleaned,
        mut parts,
        warnings,
    } = parts(request, source, options, target)?;
    outcome.architecture = architecture;
    outcome.warnings.extend(warnings);
    let attempt = Attempt {
        request,
        target,
        stage: &stage,
        allow_nonfinite: options.allow_nonfinite,
        is_graph: source.is_graph(),
        is_onnx: matches!(source, Opened::Onnx(_)),
        progress,
    };
    let original = match &request.check {
        Some(check) => source.engine(&parts[0].source, options, check.onnxruntime.as_deref())?,
        None => opened::Reference::default(),
    };
    outcome.warnings.extend(original.warnings);
    let original = original.session.as_deref();
    let mut done = attempt.run(&parts, original, &mut outcome.warnings)?;
    let mut again = false;
    for (i, part) in parts.iter_mut().enumerate() {
        let failed = done.reports.get(i).is_some_and(|r| !r.passed());
        let (true, Some(Some(before))) = (failed, done.precisions.get(i)) else {
            continue;
        };
        // What overflows on probes stays in single precision, if that is all that is wrong. Of attention that may be the scores alone.
        let plain = passes::parts(&part.plain)?;
        let beyond = verify::beyond_f16(&plain, verify::Options::default().longest_probe)?;
        let kept = &before.kept_in_f32;
        let new = beyond.iter().filter(|n| kept.iter().all(|k| k.node != **n));
        let new = new.count();
        if new > 0 {
            outcome.warnings.push(format!(
                "{new} operations reach beyond what 16 bits hold and stay in single precision, the first `{}`",
                beyond.first().map_or("", String::as_str)
            ));
            part.keep(beyond)?;
            again = true;
        }
    }
    if again {
        wait_for(done.sync.take())?;
        stage.clear()?;
        done = attempt.run(&parts, original, &mut outcome.warnings)?;
    }
    let name = |part: &Part| part.function.clone().unwrap_or_default();
    let precision = PrecisionReport::of_functions(parts.iter().map(name).zip(done.precisions));
    let verification = Report::of_functions(parts.iter().map(name).zip(done.reports).collect());
    let keeps_halves = precision.is_none()
        && request.precision.is_none()
        && parts.iter().any(|p| p.plain.has(DType::F16));
    let Done {
        format,
        type_changes,
        compressed,
        sync,
        ..
    } = done;
    let bytes = size_of(&stage.folder())?;
    let told = parts.first().and_then(|part| part.description.as_ref());
    Ok(Staged {
        recipe: recipe::record(request, options, &parts),
        stage,
        told: match target {
            Target::Onnx => told.map(opened::told).unwrap_or_default(),
            Target::Coreml => BTreeMap::new(),
        },
        statement,
        sync,
        artifact: Artifact {
            target,
            path,
            bytes,
            format,
            cleaned,
            precision,
            keeps_halves,
            type_changes,
            compressed,
            verification,
        },
    })
}

/// A function on its way to an artifact.
#[derive(Clone)]
struct Part {
    /// Its name, if there are several or one was chosen.
    function: Option<String>,
    /// What the artifact is verified against.
    source: Module,
    /// What is written, before its precision changes.
    plain: Module,
    /// Whether that is another program than `source`.
    is_rewritten: bool,
    /// What a Core ML source says about it.
    description: Option<coreml::Description>,
    islands: Islands,
}

impl Part {
    /// What an artifact of it is held against, beside the source.
    fn made<'a>(&'a self, written: &'a Module) -> check::Made<'a> {
        check::Made {
            plain: self.is_rewritten.then_some(&self.plain),
            written,
        }
    }

    /// Keeps nodes in single precision that were seen to reach beyond half precision. Of attention that may be the scores alone.
    fn keep(&mut self, beyond: BTreeSet<String>) -> Result<()> {
        self.plain = passes::parts(&self.plain)?;
        self.is_rewritten = true;
        self.islands = self.islands.clone().with_overflowing(beyond);
        Ok(())
    }
}

/// All functions on their way to an artifact.
struct Parts {
    architecture: String,
    cleaned: Option<CleanReport>,
    parts: Vec<Part>,
    warnings: Vec<String>,
}

/// Builds every function of the source that becomes one of the artifact.
fn parts(
    request: &Request,
    source: &Opened,
    options: &SourceOptions,
    target: Target,
) -> Result<Parts> {
    let mut all = Parts {
        architecture: String::new(),
        cleaned: None,
        parts: Vec::new(),
        warnings: Vec::new(),
    };
    for function in source.functions(options, target)? {
        let options = SourceOptions {
            function,
            ..options.clone()
        };
        let (built, description) = source.build(request, &options, target)?;
        all.architecture = built.architecture;
        all.warnings.extend(built.warnings);
        let classifier = description.as_ref().and_then(|d| d.classifier.as_ref());
        let written = match (target, classifier) {
            // A package says the label itself.
            (Target::Coreml, Some(classifier)) => classifier.without_label(&built.module),
            (Target::Coreml | Target::Onnx, _) => built.module.clone(),
        };
        // A graph that somebody exported is cleaned up; what was read stays what the artifact is verified against.
        let plain = if source.is_graph() {
            let (module, report) = passes::clean(&written)?;
            all.cleaned
                .get_or_insert_with(CleanReport::default)
                .add(report);
            module
        } else {
            written
        };
        let islands = Islands::new(request.fp32_ops.clone());
        let plain = if islands.name_parts() {
            passes::parts(&plain)?
        } else {
            plain
        };
        // Without a word of the user's, a graph keeps the half precision that it has.
        let plain = if request.precision == Some(Precision::Fp32) && plain.has(DType::F16) {
            all.warnings.push(
                "what the source computes in half precision is computed in single precision, and so are inputs and outputs".into(),
            );
            let kept = match (&description, target) {
                (Some(description), Target::Coreml) => description.half_images(),
                (_, _) => BTreeSet::new(),
            };
            all.warnings.extend(kept.iter().map(|name| {
                format!("`{name}` stays in half precision: images have no single precision")
            }));
            passes::widen(&plain, &kept)?
        } else {
            plain
        };
        all.parts.push(Part {
            is_rewritten: source.is_graph() || islands.name_parts(),
            description,
            function: options.function,
            source: built.module,
            plain,
            islands,
        });
    }
    Ok(all)
}

/// What the functions are called in the artifact.
fn function_names(parts: &[Part]) -> Vec<String> {
    let name = |part: &Part| match (&part.function, parts.len()) {
        (Some(name), 2..) => name.clone(),
        (_, _) => "main".to_owned(),
    };
    parts.iter().map(name).collect()
}

/// Names, modules and descriptions of the functions of a Core ML package.
fn written_functions<'a>(
    parts: &'a [Part],
    modules: impl Iterator<Item = &'a Module>,
    names: &'a [String],
) -> Vec<WrittenFunction<'a>> {
    let named = names.iter().zip(parts).zip(modules);
    named
        .map(|((name, part), module)| WrittenFunction {
            name,
            module,
            description: part.description.as_ref(),
        })
        .collect()
}

/// What one attempt at a target gave; reports are by function, and there are none where verification was switched off.
struct Done {
    format: String,
    precisions: Vec<Option<PrecisionReport>>,
    type_changes: Vec<TypeChange>,
    compressed: CompressedWeights,
    reports: Vec<Report>,
    sync: Option<Syncing>,
}

/// Writes a target into its stage and verifies it.
struct Attempt<'a> {
    request: &'a Request,
    target: Target,
    stage: &'a Stage,
    allow_nonfinite: bool,
    is_graph: bool,
    is_onnx: bool,
    progress: &'a dyn Progress,
}

impl Attempt<'_> {
    fn run(
        &self,
        parts: &[Part],
        original: Option<&dyn Session>,
        warnings: &mut Vec<String>,
    ) -> Result<Done> {
        let (request, target, progress) = (self.request, self.target, self.progress);
        let Attempted {
            modules,
            precisions,
            written,
        } = self.write(parts, warnings)?;
        // The constants of a graph may hold −∞ on purpose, as the fill of a mask; a checkpoint holds nothing but weights. What was written
        // is known by now, so that nothing has to be read for this.
        for part in parts {
            let finite = check_finite(&part.source, self.allow_nonfinite, self.is_graph)?;
            warnings.extend(finite);
        }
        let path = self.stage.path();
        // The disk writes what is verified meanwhile.
        let sync = request.check.is_some().then(|| {
            let folder = self.stage.folder();
            std::thread::spawn(move || files::sync_tree(&folder))
        });
        let kind = ArtifactKind::from(target);
        let mut reports = Vec::new();
        if let Some(check) = &request.check {
            for (part, written) in parts.iter().zip(&modules) {
                let function = part.function.as_deref().filter(|_| parts.len() > 1);
                let origin = check::Origin {
                    source: &part.source,
                    engine: original,
                    made: Some(part.made(written)),
                };
                reports.push(verify_artifact(
                    origin, &path, kind, function, check, progress,
                )?);
            }
            let agreement = recipe::compare(request, target, parts, &modules, &path)?;
            if let Some(first) = reports.first_mut() {
                first.add_weights(Weights::Compared(agreement));
            }
        }
        Ok(Done {
            format: written.format,
            precisions,
            type_changes: written.type_changes,
            compressed: written.compressed,
            reports,
            sync,
        })
    }

    /// Writes the functions. Where one cannot be written while its sizes vary, and can where they do not, the error says so.
    fn write(&self, parts: &[Part], warnings: &mut Vec<String>) -> Result<Attempted> {
        self.write_once(parts, warnings).or_else(|error| {
            let sizes: Bindings = parts.iter().flat_map(|p| usual_sizes(&p.plain)).collect();
            if error.class() != Class::Unsupported || !self.is_onnx || sizes.is_empty() {
                return Err(error);
            }
            let mut fixed = Vec::with_capacity(parts.len());
            for part in parts {
                let mut plain = passes::bind(&part.plain, &sizes)?;
                plain.symbols.retain(|s| !sizes.contains_key(&s.name));
                fixed.push(Part {
                    plain,
                    ..part.clone()
                });
            }
            self.stage.clear()?;
            let fits = self.write_once(&fixed, &mut Vec::new()).is_ok();
            self.stage.clear()?;
            Err(if fits {
                onnx::varies(&error, sizes.into_iter())
            } else {
                error
            })
        })
    }

    /// Writes the functions in the precision of the request. Gives what that changed, and the format.
    ///
    /// Weights are read once, when they are written. That none of them is beyond the range of `f16` is assumed until then; a module of which
    /// it is not true is written a second time.
    fn write_once(&self, parts: &[Part], warnings: &mut Vec<String>) -> Result<Attempted> {
        if self.request.precision(self.target) == Precision::Fp32 {
            let modules: Vec<&Module> = parts.iter().map(|p| &p.plain).collect();
            let written = self.write_as_is(parts, &modules, warnings)?;
            return Ok(Attempted {
                modules: modules.into_iter().cloned().collect(),
                precisions: parts.iter().map(|_| None).collect(),
                written,
            });
        }
        let mut halves = Vec::with_capacity(parts.len());
        for part in parts {
            let islands = part.islands.clone().assuming_range();
            halves.push(passes::precision(&part.plain, &islands)?);
        }
        let modules: Vec<&Module> = halves.iter().map(|(half, _)| half).collect();
        let mut written = self.write_as_is(parts, &modules, warnings)?;
        let mut wrong = false;
        for (part, half) in parts.iter().zip(&mut halves) {
            if !half.1.assumed_rightly(&part.plain)? {
                *half = passes::precision(&part.plain, &part.islands)?;
                wrong = true;
            }
        }
        if wrong {
            self.stage.clear()?;
            let modules: Vec<&Module> = halves.iter().map(|(half, _)| half).collect();
            written = self.write_as_is(parts, &modules, warnings)?;
        }
        let (modules, reports): (Vec<Module>, Vec<PrecisionReport>) = halves.into_iter().unzip();
        Ok(Attempted {
            modules,
            precisions: reports.into_iter().map(Some).collect(),
            written,
        })
    }

    /// Writes the modules as they are, one for each part.
    fn write_as_is(
        &self,
        parts: &[Part],
        modules: &[&Module],
        warnings: &mut Vec<String>,
    ) -> Result<Written> {
        let (request, target, progress) = (self.request, self.target, self.progress);
        let path = self.stage.path();
        let constants = modules.iter().flat_map(|m| &m.constants);
        let bytes = constants.map(crate::ir::Constant::byte_len);
        progress.begin(Step::Write(target), bytes.sum());
        let tick = |bytes: u64| progress.advance(bytes);
        let written = match target {
            Target::Onnx => {
                let options = request.onnx_options(&tick);
                let mut compressed = CompressedWeights::default();
                if let Some(module) = modules.first() {
                    if module.has(DType::BF16) {
                        warnings.push(
                            "bf16 is written in single precision: engines have no kernels for it"
                                .into(),
                        );
                    }
                    compressed = onnx::write(module, &path, &options)?.compressed;
                }
                warnings.extend(compressed.notes());
                Written {
                    format: format!("opset {}", request.opset),
                    type_changes: Vec::new(),
                    compressed,
                }
            }
            Target::Coreml => {
                let options = request.coreml_options(&tick)?;
                let names = function_names(parts);
                let functions = written_functions(parts, modules.iter().copied(), &names);
                let written = coreml::write_functions(&functions, &path, &options)?;
                warnings.extend(written.warnings);
                let mut type_changes = Vec::new();
                for (part, module) in parts.iter().zip(modules) {
                    let changes = coreml::type_changes(&part.plain, module, written.opset)?;
                    type_changes.extend(changes);
                }
                warnings.extend(unproven(&type_changes));
                Written {
                    format: format!("{} (specification {})", written.opset, written.spec_version),
                    type_changes,
                    compressed: written.compressed,
                }
            }
        };
        progress.end();
        Ok(written)
    }
}

/// A size for everything that varies: the largest, but none longer than [`LONGEST`] where a smaller one will do.
fn usual_sizes(module: &Module) -> impl Iterator<Item = (String, u64)> {
    let named = module.symbols.iter().filter(|s| !s.is_run_time());
    named.filter_map(|symbol| {
        let size = match &symbol.range {
            SymbolRange::OneOf(sizes) if sizes.len() > 1 => *sizes.last()?,
            SymbolRange::Between { min, max } if min < max => (*max).min(LONGEST).max(*min),
            SymbolRange::OneOf(_) | SymbolRange::Between { .. } => return None,
        };
        Some((symbol.name.clone(), size))
    })
}

/// What was written, and the module of each function as it was written.
struct Attempted {
    modules: Vec<Module>,
    precisions: Vec<Option<PrecisionReport>>,
    written: Written,
}

/// What was written.
struct Written {
    format: String,
    type_changes: Vec<TypeChange>,
    compressed: CompressedWeights,
}

/// A note about the integers that are not proven to fit their new type.
fn unproven(changes: &[TypeChange]) -> Option<String> {
    let is_open =
        |c: &&TypeChange| c.place == coreml::Place::Value && c.basis == Basis::RunTimeCheck;
    let open: Vec<&TypeChange> = changes.iter().filter(is_open).collect();
    let first = open.first()?;
    Some(format!(
        "{} integers become int32 without a proof that they fit, the first `{}`: {}. Every run of the verification looks at them; `--inputs` adds runs on inputs of yours",
        open.len(),
        first.value,
        first.why
    ))
}

/// Brings an output to the disk.
type Syncing = std::thread::JoinHandle<Result<()>>;

fn wait_for(sync: Option<Syncing>) -> Result<()> {
    let done = sync.map(std::thread::JoinHandle::join);
    done.transpose()
        .map_err(|_| ConvertError::Interrupted)?
        .unwrap_or(Ok(()))
}

impl Staged {
    /// Records where the artifact came from and how it was verified, and moves it to its destination.
    fn finish(
        mut self,
        request: &Request,
        evidence: &[Evidence],
        outcome: &mut Outcome,
    ) -> Result<()> {
        let wait = match self.sync {
            Some(_) => Wait::Disk,
            None => Wait::Nothing,
        };
        wait_for(self.sync.take())?;
        let path = self.stage.path();
        let (artifact, recipe) = (&self.artifact, &self.recipe);
        let predicate = statement::predicate(request, outcome, artifact, recipe, evidence)?;
        let mut metadata = std::mem::take(&mut self.told);
        metadata.extend(statement::metadata(&predicate, request.is_stated())?);
        match self.artifact.target {
            Target::Onnx => onnx::append_metadata(&path, &metadata)?,
            Target::Coreml => coreml::set_metadata(&path, &metadata)?,
        }
        self.artifact.bytes = self.artifact.bytes.max(size_of(&self.stage.folder())?);
        let apart = statement::stage(request, &self.stage, predicate)?;
        self.stage.commit(wait, is_ours)?;
        statement::write(self.statement, apart)?;
        outcome.artifacts.push(self.artifact);
        Ok(())
    }
}

/// Whether a file or package was written by this program.
fn is_ours(path: &Path) -> bool {
    if path.is_dir() {
        // A package of ours with something in it that no package consists of is not ours alone.
        return coreml::holds_nothing_else(path)
            && coreml::inspect(path)
                .is_ok_and(|s| s.metadata.contains_key("com.distill-convert.version"));
    }
    let name = path.file_name().and_then(|n| n.to_str());
    if name.is_some_and(|n| n.ends_with(crate::provenance::EXTENSION)) {
        return crate::provenance::is_statement(path);
    }
    if path.extension().is_some_and(|e| e == "data") {
        // External data carries no mark of its own; it is ours if its model is.
        return is_ours(&path.with_extension(""));
    }
    onnx::inspect(path).is_ok_and(|s| s.metadata.contains_key("com.distill-convert.version"))
}

/// Bytes of all files in a folder.
fn size_of(folder: &Path) -> Result<u64> {
    let sizes = files::files_below(folder)?.into_iter().map(|path| {
        let size = path.symlink_metadata().map(|m| m.len());
        size.map_err(io_error("read", &path))
    });
    sizes.sum()
}
