//! A source that was opened: a model folder, an ONNX file or a Core ML model. All give a module at the shapes of a target.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::admit;
use super::engines::Engine;
use super::error::ConvertError;
use super::request::{
    ArtifactKind, Request, Shapes, SourceOptions, Target, only, refuse_idle, shape_text, sizes_text,
};
use crate::arch;
use crate::coreml::{self, Description};
use crate::error::{Context, Result};
use crate::ir::{Bindings, Module, SymbolRange};
use crate::onnx::{self, ReadOptions};
use crate::passes;
use crate::runtime::{self, NamedTensors, Session};
use crate::source::lock::{self, Identity};
use crate::source::{self, Checkpoint, FileDigest};
use crate::tensor::{DType, SourceFile, Stamp, num};

/// A source.
#[derive(Debug)]
pub(super) enum Opened {
    /// A model folder.
    Checkpoint(Box<Checkpoint>),
    /// An ONNX file.
    Onnx(PathBuf),
    /// A Core ML package or model file.
    Coreml(PathBuf),
}

/// Files that were compared with a lock or a cache, as the system knew them then. They are read by their paths: what was read is what was
/// compared if they are the same files afterwards.
#[derive(Debug, Default)]
#[must_use]
pub struct Compared(Vec<(PathBuf, Stamp)>);

impl Compared {
    /// Compares an ONNX or Core ML model with its lock, or with the hub's cache that it stands in, if there is either: before it is read. A
    /// model folder is compared when it is opened.
    ///
    /// # Errors
    /// When a file is not as it was locked, or there is no lock and one is required.
    pub fn of(model: &Path, require_lock: bool) -> Result<Self> {
        match ArtifactKind::of(model) {
            Ok(ArtifactKind::Onnx | ArtifactKind::Coreml) => compare(model, require_lock),
            // What is nothing that is known is refused by its reader.
            Ok(ArtifactKind::Checkpoint) | Err(_) => Ok(Compared::default()),
        }
    }

    /// Sees, once they were read, that they are still the files that were compared.
    ///
    /// # Errors
    /// When one was written to or replaced meanwhile.
    pub fn still_holds(&self) -> Result<()> {
        for (path, before) in &self.0 {
            if SourceFile::open(path)?.stamp()? != *before {
                return Err(ConvertError::Changed).at_file(path);
            }
        }
        Ok(())
    }
}

/// Compares an ONNX or Core ML source with its lock, if there is one: what is parsed first before it is parsed.
fn compare(model: &Path, require_lock: bool) -> Result<Compared> {
    let SourcePlace { folder, file } = SourcePlace::of(model);
    let (root, way) = lock::governing(&folder);
    let named = |inner: &Path| source::plain_path(&way.join(inner));
    let first = file.unwrap_or_else(|| coreml::MANIFEST.to_owned());
    let first = [named(Path::new(&first))];
    let before = source::compare_files(&root, &first, require_lock)?;
    if before == Identity::default() && lock::of(model)?.is_none() {
        return Ok(Compared::default());
    }
    let (mut names, mut stamps) = (Vec::new(), Vec::new());
    for path in read_files(model)? {
        names.push(named(path.strip_prefix(&folder).unwrap_or(&path)));
        let stamp = SourceFile::open(&path)?.stamp()?;
        stamps.push((path, stamp));
    }
    source::compare_files(&root, &names, require_lock)?;
    Ok(Compared(stamps))
}

impl Opened {
    /// Opens what stands at `model`, compared with its lock.
    ///
    /// # Errors
    /// When it is no source, is not as it was locked, or is a folder that cannot be opened.
    pub(super) fn open(model: &Path, options: &SourceOptions) -> Result<(Self, Compared)> {
        let kind = ArtifactKind::of(model)?;
        let compared = Compared::of(model, options.require_lock)?;
        if kind != ArtifactKind::Checkpoint {
            const FOLDERS: &str = "it is for model folders";
            refuse_idle(&[
                (options.attention.is_some(), "--attention", FOLDERS),
                (options.rotary.is_some(), "--rotary-frequencies", FOLDERS),
            ])?;
        }
        let opened = match kind {
            ArtifactKind::Onnx => Opened::Onnx(model.to_path_buf()),
            ArtifactKind::Checkpoint => Opened::Checkpoint(Box::new(super::open(model, options)?)),
            ArtifactKind::Coreml => Opened::Coreml(model.to_path_buf()),
        };
        Ok((opened, compared))
    }

    /// Whether it is a graph that somebody exported.
    pub(super) fn is_graph(&self) -> bool {
        match self {
            Opened::Checkpoint(_) => false,
            Opened::Onnx(_) | Opened::Coreml(_) => true,
        }
    }

    /// The model at the shapes of a target, and what a Core ML source says about itself beyond its program.
    ///
    /// # Errors
    /// When it cannot be read, or leaves sizes open that the target needs.
    pub(super) fn build(
        &self,
        request: &Request,
        options: &SourceOptions,
        target: Target,
    ) -> Result<(arch::Built, Option<Description>)> {
        self.check_function(options)?;
        let lengths = !request.seq.is_empty() && self.is_graph();
        refuse_idle(&[(
            lengths,
            "--seq",
            "it is for model folders; `--dim` and `--shape` size the inputs of a graph",
        )])?;
        match self {
            Opened::Checkpoint(checkpoint) => {
                no_constants(options)?;
                let built = super::build(checkpoint, options, &request.shapes(target)?)?;
                request.check_shapes(&built.module)?;
                Ok((built, None))
            }
            Opened::Onnx(path) => {
                let mut read = with_shapes(path, request, &options.onnx)?;
                read.closed = target == Target::Coreml;
                Ok((read_onnx(path, &read)?, None))
            }
            Opened::Coreml(path) => {
                let (mut built, description) = read_coreml(path, options, Some(target))?;
                built.module = narrowed(built.module, options)?;
                request.check_shapes(&built.module)?;
                Ok((built, Some(description)))
            }
        }
    }

    /// The options with values for the inputs that can have but one at the sizes of the request, and what the user should know.
    ///
    /// # Errors
    /// When the model cannot be read.
    pub(super) fn decided(
        &self,
        request: &Request,
        options: &SourceOptions,
    ) -> Result<(SourceOptions, Option<String>)> {
        let mut options = options.clone();
        let Opened::Onnx(path) = self else {
            return Ok((options, None));
        };
        let read = with_shapes(path, request, &options.onnx)?;
        let note = decide(path, &read, &mut options.onnx)?;
        Ok((options, note))
    }

    /// The model at given shapes: those of an artifact, or as dynamic as it can be.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn build_at(&self, options: &SourceOptions, shapes: &Shapes) -> Result<arch::Built> {
        self.check_function(options)?;
        match self {
            Opened::Checkpoint(checkpoint) => super::build(checkpoint, options, shapes),
            Opened::Onnx(path) => read_onnx(path, &options.onnx),
            Opened::Coreml(path) => {
                let (mut built, _) = read_coreml(path, options, None)?;
                built.module = narrowed(built.module, options)?;
                Ok(built)
            }
        }
    }

    /// The functions that become functions of the artifact, the default one first: all of a Core ML model for Core ML unless one was chosen.
    /// None of them has a name where there is but one.
    ///
    /// # Errors
    /// When the model cannot be read.
    pub(super) fn functions(
        &self,
        options: &SourceOptions,
        target: Target,
    ) -> Result<Vec<Option<String>>> {
        if let (Opened::Coreml(path), Target::Coreml, None) = (self, target, &options.function) {
            let names = coreml::functions(path)?;
            if names.len() > 1 {
                return Ok(names.into_iter().map(Some).collect());
            }
        }
        Ok(vec![options.function.clone()])
    }

    /// Refuses to leave `--function` unused.
    fn check_function(&self, options: &SourceOptions) -> Result<()> {
        match (self, &options.function) {
            (Opened::Checkpoint(_) | Opened::Onnx(_), Some(_)) => {
                Err(ConvertError::OnlyCoreml.into())
            }
            (Opened::Coreml(_), _) | (_, None) => Ok(()),
        }
    }

    /// Size and digest of every file that was read, by its path from the [`SourcePlace`].
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn digests(&self) -> Result<Vec<FileDigest>> {
        match self {
            Opened::Checkpoint(checkpoint) => checkpoint.digests(),
            Opened::Onnx(path) | Opened::Coreml(path) => {
                source::digest_files(&SourcePlace::of(path).folder, &read_files(path)?)
            }
        }
    }

    /// Repository and pinned revision of the source, if its lock or a cache names them.
    ///
    /// # Errors
    /// When the lock cannot be read any more.
    pub(super) fn identity(&self) -> Result<Identity> {
        match self {
            Opened::Checkpoint(checkpoint) => Ok(Identity {
                repo: checkpoint.repo.clone(),
                revision: checkpoint.revision.clone(),
            }),
            Opened::Onnx(path) | Opened::Coreml(path) => {
                let (root, _) = lock::governing(&SourcePlace::of(path).folder);
                source::compare_files(&root, &[], false)
            }
        }
    }

    /// What the user should know about how the source was opened.
    pub(super) fn notes(&self) -> Vec<String> {
        match self {
            Opened::Checkpoint(checkpoint) => checkpoint.notes.clone(),
            Opened::Onnx(_) | Opened::Coreml(_) => Vec::new(),
        }
    }

    /// An engine that shares no code with ours, with the original file in it: ONNX Runtime, else tract. None for a model folder, and where
    /// neither can run the file, such as a Core ML model, runs it as it is meant, or may be given it. `module` is the source as it was read.
    ///
    /// # Errors
    /// When the file cannot be looked into.
    pub(super) fn engine(
        &self,
        module: &Module,
        options: &SourceOptions,
        library: Option<&Path>,
    ) -> Result<Reference> {
        let mut reference = Reference::default();
        let Opened::Onnx(path) = self else {
            return Ok(reference);
        };
        if let Err(error) = admit::fits_memory(module) {
            reference.warnings.push(error.to_string());
            return Ok(reference);
        }
        let summary = onnx::inspect(path)?;
        if !summary.approximate_ops.is_empty() {
            reference.warnings.push(format!(
                "ONNX Runtime rounds to 8 bits, by design, what goes into {}: the reference is the interpreter, which computes them as they are \
                 defined, and shares its reading of the source with the converter",
                counted(&summary.approximate_ops)
            ));
            return Ok(reference);
        }
        let mut engines = vec![Engine::Ort, Engine::Tract];
        if !summary.eight_bit_ops.is_empty() && runtime::saturates_eight_bits() {
            engines.remove(0);
            reference.warnings.push(format!(
                "this processor has no VNNI instructions: ONNX Runtime adds pairs of 8-bit products in int16 on it, where {} may saturate, and is \
                 no reference for them here",
                counted(&summary.eight_bit_ops)
            ));
        }
        for engine in engines {
            match engine.open(path, library) {
                Ok(session) => {
                    let given = given_inputs(path, &options.onnx)?;
                    reference.session = Some(Box::new(Original { session, given }));
                    break;
                }
                Err(error) => reference.warnings.push(format!(
                    "{} does not run the original file: {error}",
                    engine.name()
                )),
            }
        }
        Ok(reference)
    }
}

/// Where a source lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourcePlace {
    /// The folder that the names of its files start from: the model folder or package itself, or the one around a single file.
    pub(super) folder: PathBuf,
    /// The name of the file, where one was named.
    pub(super) file: Option<String>,
}

impl SourcePlace {
    /// The place of the source at `model`.
    pub(super) fn of(model: &Path) -> Self {
        if model.is_dir() {
            let folder = model.to_path_buf();
            return SourcePlace { folder, file: None };
        }
        let parent = model.parent().filter(|p| !p.as_os_str().is_empty());
        let name = model.file_name().map(|n| n.to_string_lossy().into_owned());
        SourcePlace {
            folder: parent.unwrap_or(Path::new(".")).to_path_buf(),
            file: name,
        }
    }
}

/// The files of an ONNX or Core ML source, the model first.
fn read_files(model: &Path) -> Result<Vec<PathBuf>> {
    if ArtifactKind::of(model)? == ArtifactKind::Coreml {
        return coreml::files(model);
    }
    let folder = SourcePlace::of(model).folder;
    let external = onnx::inspect(model)?.external_files;
    let beside = external.iter().map(|name| folder.join(name));
    Ok(std::iter::once(model.to_path_buf()).chain(beside).collect())
}

/// What runs a source besides our reading of it.
#[derive(Default)]
pub(super) struct Reference {
    /// The original file in an engine.
    pub(super) session: Option<Box<dyn Session>>,
    /// Why an engine that comes first does not run it.
    pub(super) warnings: Vec<String>,
}

/// Gives the inputs that decide which part of a model runs the values that fit the sizes in `read`, and says so.
///
/// # Errors
/// When the file is malformed.
pub(super) fn decide(
    path: &Path,
    read: &ReadOptions,
    options: &mut ReadOptions,
) -> Result<Option<String>> {
    let found = onnx::decided(path, read)?;
    let list: Vec<String> = found
        .iter()
        .map(|(name, value)| {
            let value = value.to_f64().first().copied().unwrap_or_default();
            format!("`--constant {name}={value}`")
        })
        .collect();
    options.constants.extend(found);
    Ok((!list.is_empty()).then(|| {
        format!(
            "fixed with {}: at these sizes the model takes nothing else",
            list.join(" ")
        )
    }))
}

/// The options with the shapes of `--shape`.
fn with_shapes(path: &Path, request: &Request, options: &ReadOptions) -> Result<ReadOptions> {
    let mut read = options.clone();
    for (name, dims) in &request.shape {
        give_shape(path, name, dims, &mut read)?;
    }
    Ok(read)
}

/// Gives an input of an ONNX file the shape of `--shape`: fixed sizes as a shape, ranges to the sizes by their names.
fn give_shape(path: &Path, name: &str, dims: &[SymbolRange], read: &mut ReadOptions) -> Result<()> {
    let fixed: Option<Vec<usize>> = dims.iter().map(only).collect();
    if let Some(fixed) = fixed {
        read.shapes.insert(name.to_owned(), fixed);
        return Ok(());
    }
    let refuse = |reason: String| ConvertError::ShapeMismatch {
        text: shape_text(name, dims),
        reason,
    };
    let inputs = onnx::inspect(path)?.inputs;
    let input = inputs.iter().find(|i| i.name == name);
    let input = input.ok_or_else(|| refuse("there is no such input".into()))?;
    let axes = input
        .shape
        .as_ref()
        .filter(|axes| axes.len() == dims.len())
        .ok_or_else(|| refuse("the input does not have as many axes".into()))?;
    for (i, (axis, range)) in axes.iter().zip(dims).enumerate() {
        let symbol = match axis {
            onnx::Axis::Known(0) => format!("{name}.{i}"),
            onnx::Axis::Known(n) if only(range).map(num::i64_of) == Some(*n) => continue,
            onnx::Axis::Known(n) => {
                return Err(refuse(format!("axis {i} is fixed at {n}")).into());
            }
            onnx::Axis::Symbol(symbol) if symbol == "?" => format!("{name}.{i}"),
            onnx::Axis::Symbol(symbol) => symbol.clone(),
        };
        let before = read.dims.insert(symbol.clone(), range.clone());
        if before.is_some_and(|before| before != *range) {
            return Err(refuse(format!("`{symbol}` is given another size too")).into());
        }
    }
    Ok(())
}

/// Refuses to leave a flag unused.
fn no_constants(options: &SourceOptions) -> Result<()> {
    match options.onnx.constants.keys().next() {
        None => Ok(()),
        Some(name) => Err(ConvertError::OnlyOnnx {
            option: format!("--constant {name}"),
        }
        .into()),
    }
}

/// A Core ML model with its sizes fixed or narrowed as `--dim` says.
fn narrowed(module: Module, options: &SourceOptions) -> Result<Module> {
    no_constants(options)?;
    let mut module = module;
    let mut bindings = Bindings::new();
    for (name, range) in &options.onnx.dims {
        let refuse = |reason: String| ConvertError::ShapeMismatch {
            text: format!("{name}={}", sizes_text(range)),
            reason,
        };
        let names: Vec<String> = module
            .interface_symbols()
            .map(|s| format!("`{}`", s.name))
            .collect();
        let Some(symbol) = module.symbols.iter_mut().find(|s| s.name == *name) else {
            return Err(refuse(format!("the sizes that vary are {}", names.join(", "))).into());
        };
        let inside = match (range, &symbol.range) {
            (SymbolRange::OneOf(sizes), SymbolRange::OneOf(all)) => {
                sizes.iter().all(|n| all.contains(n))
            }
            (SymbolRange::OneOf(sizes), SymbolRange::Between { min, max }) => {
                sizes.iter().all(|n| (min..=max).contains(&n))
            }
            (SymbolRange::Between { min: a, max: b }, SymbolRange::Between { min, max }) => {
                min <= a && a <= b && b <= max
            }
            (SymbolRange::Between { .. }, SymbolRange::OneOf(_)) => false,
        };
        if !inside {
            let sizes = sizes_text(&symbol.range);
            return Err(refuse(format!("the model takes {sizes}")).into());
        }
        match only(range) {
            Some(n) => {
                bindings.insert(name.clone(), num::u64_of(n));
            }
            None => symbol.range = range.clone(),
        }
    }
    if bindings.is_empty() {
        return Ok(module);
    }
    let mut module = passes::bind(&module, &bindings)?;
    module.symbols.retain(|s| !bindings.contains_key(&s.name));
    passes::fold(&module)
}

/// The values of inputs that were fixed, of the types that the file declares.
fn given_inputs(path: &Path, options: &ReadOptions) -> Result<NamedTensors> {
    let mut given = NamedTensors::new();
    for port in onnx::inspect(path)?.inputs {
        let Some(tensor) = options.constants.get(&port.name) else {
            continue;
        };
        let dtype = DType::ALL.into_iter().find(|d| d.name() == port.dtype);
        let tensor = tensor.cast(dtype.unwrap_or(tensor.dtype()));
        let rank = port.shape.as_ref().map_or(tensor.shape().len(), Vec::len);
        let tensor = if tensor.len() == 1 {
            tensor.reshaped(vec![1; rank])?
        } else {
            tensor
        };
        given.insert(port.name, tensor);
    }
    Ok(given)
}

/// The original file in an engine, with the inputs that were fixed.
struct Original {
    session: Box<dyn Session>,
    given: NamedTensors,
}

impl Session for Original {
    fn engine(&self) -> String {
        format!("{} on the original file", self.session.engine())
    }

    fn run(&self, inputs: &NamedTensors) -> Result<NamedTensors> {
        let mut all = inputs.clone();
        for (name, tensor) in &self.given {
            all.insert(name.clone(), tensor.clone());
        }
        self.session.run(&all)
    }
}

/// Operators with how often they occur, for a message.
fn counted(ops: &BTreeMap<String, usize>) -> String {
    let ops: Vec<String> = ops.iter().map(|(op, n)| format!("`{op}` ({n})")).collect();
    ops.join(", ")
}

/// An ONNX file in the IR, folded.
pub(super) fn read_onnx(path: &Path, options: &ReadOptions) -> Result<arch::Built> {
    let read = onnx::read(path, options)?;
    let module: Module = passes::fold(&read.module)?;
    let mut warnings = read.notes;
    if module.has(DType::F64) {
        warnings.push("double precision is computed in single precision".into());
    }
    Ok(arch::Built {
        module,
        architecture: "ONNX graph".into(),
        warnings,
    })
}

/// A function of a Core ML model in the IR, folded, and what the model says about it. Warnings are of what the target, if there is one, cannot say.
fn read_coreml(
    path: &Path,
    options: &SourceOptions,
    target: Option<Target>,
) -> Result<(arch::Built, Description)> {
    let package = coreml::read_function(path, options.function.as_deref())?;
    let mut warnings = package.warnings.clone();
    let description = package.description();
    if target == Some(Target::Onnx) {
        if package.more_shapes {
            warnings.push("not every combination of the sizes that inputs may have in the ONNX file is a shape that the source enumerates".into());
        }
        warnings.extend(lost(&description));
    }
    let module = package.into_source_module().at_file(path)?;
    let built = arch::Built {
        module: passes::fold(&module)?,
        architecture: "Core ML program".into(),
        warnings,
    };
    Ok((built, description))
}

/// The metadata key of a classifier's labels.
pub(super) const LABELS_KEY: &str = "com.distill-convert.classifier";

/// What an ONNX file does not say of a Core ML model.
fn lost(description: &Description) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(classifier) = &description.classifier {
        let (label, count) = (&classifier.label, classifier.labels.len());
        let what = if classifier.integers {
            "a number from a table"
        } else {
            "the index of the label"
        };
        warnings.push(format!(
            "`{label}` is {what}: ONNX has no classifiers. The {count} labels are in the metadata `{LABELS_KEY}`"
        ));
    }
    for input in description.inputs.iter().filter(|i| i.optional) {
        let default = input.default_value.map_or_else(String::new, |value| {
            format!(": give {} where it was left out", value.number())
        });
        warnings.push(format!(
            "`{}` is optional in the source, and has to be given to an ONNX file{default}",
            input.name
        ));
    }
    warnings
}

/// What a Core ML model says about itself, as the metadata of a format that has no other place for it.
pub(super) fn told(description: &Description) -> BTreeMap<String, String> {
    // What this program recorded of the source is not true of the artifact.
    let mut metadata = description.metadata.clone();
    metadata.retain(|key, _| !key.starts_with("com.distill-convert."));
    for (key, value) in [
        ("short_description", &description.short_description),
        ("model_author", &description.author),
        ("model_license", &description.license),
        ("model_version", &description.version),
    ] {
        if !value.is_empty() {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(classifier) = &description.classifier {
        metadata.insert(LABELS_KEY.to_owned(), classifier.text());
    }
    metadata
}
