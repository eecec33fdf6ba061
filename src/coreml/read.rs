//! Opens a Core ML model and reads its program. Owns the checks between description, specification version and program; the operations are in `import/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::blob::{BlobFile, BlobFiles};
use super::import::symbols::{Assigned, Sizes, assign};
use super::import::{self, Declared, ImportError, Input, Source, declared};
use super::interface::{
    Classifier, Color, Description, Feature, FeatureKind, Flexibility, features,
};
use super::kind::{kind, way_out};
use super::package::{self, WEIGHT_FILE, WEIGHT_REFERENCE};
use super::proto::mil_spec::argument::binding::Binding;
use super::proto::mil_spec::value::Value as Held;
use super::proto::mil_spec::value_type::Type as ValueKind;
use super::proto::mil_spec::{Block, Function, NamedValueType, Program};
use super::proto::model::Type as ModelKind;
use super::proto::{FeatureDescription, Metadata, Model, ModelDescription};
use super::target::Opset;
use crate::error::{Context, Result, io_error};
use crate::ir::{DOMAINS_KEY, Domain, Module, Type};
use crate::limits;
use crate::tensor::num;

/// A model that was read.
#[derive(Clone, Debug)]
pub struct Package {
    /// The program, checked.
    pub module: Module,
    /// Specification version: 6 (iOS 15) to 10 (iOS 26).
    pub spec_version: i32,
    /// The function's opset: `CoreML7`.
    pub opset: String,
    /// Metadata that the author named.
    pub metadata: BTreeMap<String, String>,
    /// The author's short description.
    pub short_description: String,
    /// The author.
    pub author: String,
    /// The licence.
    pub license: String,
    /// The author's version of the model.
    pub version: String,
    /// Inputs as described.
    pub inputs: Vec<Feature>,
    /// Outputs as described.
    pub outputs: Vec<Feature>,
    /// States as described.
    pub states: Vec<Feature>,
    /// The function that was read.
    pub function: String,
    /// Every function of the program; one of them was read.
    pub functions: Vec<String>,
    /// What the labels of a classifier are.
    pub classifier: Option<Classifier>,
    /// Whether the sizes that inputs may have, each for itself, combine to more shapes than are enumerated.
    pub more_shapes: bool,
    /// What had to be assumed.
    pub warnings: Vec<String>,
}

impl Package {
    /// What the model says about itself beyond the program.
    #[must_use]
    pub fn description(&self) -> Description {
        Description {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            states: self.states.clone(),
            classifier: self.classifier.clone(),
            short_description: self.short_description.clone(),
            author: self.author.clone(),
            license: self.license.clone(),
            version: self.version.clone(),
            metadata: self.metadata.clone(),
        }
    }
}

/// Reads a `.mlpackage` folder, or a `.mlmodel` file with its weights in `weights/weight.bin` or `weight.bin` beside it.
///
/// Of several functions the default one is read. Weights stay on disk.
///
/// # Errors
/// When the package is malformed or unsafe, is no ML Program, contradicts itself, or uses what this version does not read.
pub fn read(path: &Path) -> Result<Package> {
    read_function(path, None)
}

/// As [`read`], but another than the default function.
///
/// # Errors
/// As [`read`]; also when the function does not exist.
pub fn read_function(path: &Path, function: Option<&str>) -> Result<Package> {
    let opened = Opened::open(path)?;
    let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or("model");
    let package = apart(&opened, name, function);
    package.at_file(&opened.model_path)
}

/// A function at sizes that vary as freely as the program allows. Which of them have to be equal is said nowhere: all are taken to vary on their
/// own if the program can be read so; else as many as can, and the others together with those that look alike; else any may turn out to be
/// equal.
pub(super) fn apart(opened: &Opened, name: &str, function: Option<&str>) -> Result<Package> {
    let read = |alone: &BTreeSet<usize>| {
        let package = opened.import(name, function, Sizes::Ranged(alone))?;
        crate::ir::verify_apart(&package.module)?;
        Ok::<Package, crate::error::Error>(package)
    };
    let all = (0..limits::RANGED_SIZES).collect();
    if let Ok(package) = read(&all) {
        return Ok(package);
    }
    let mut alone = BTreeSet::new();
    let mut package = match read(&alone) {
        Ok(package) => package,
        Err(error) => {
            let last = opened.import(name, function, Sizes::Open);
            return last.map_err(|_| error);
        }
    };
    for place in 0..package
        .inputs
        .iter()
        .map(open_axes)
        .sum::<usize>()
        .min(limits::RANGED_SIZES)
    {
        alone.insert(place);
        match read(&alone) {
            Ok(freer) => package = freer,
            Err(_) => {
                alone.remove(&place);
            }
        }
    }
    Ok(package)
}

/// How many axes of an input may vary.
fn open_axes(feature: &Feature) -> usize {
    match &feature.kind {
        FeatureKind::MultiArray {
            shape, flexibility, ..
        } => match flexibility {
            Flexibility::Fixed => 0,
            Flexibility::Enumerated { .. } | Flexibility::Range { .. } => shape.len(),
        },
        FeatureKind::Image { .. } => 2,
        FeatureKind::State { .. }
        | FeatureKind::Int64
        | FeatureKind::Double
        | FeatureKind::String
        | FeatureKind::Dictionary
        | FeatureKind::Sequence => 0,
    }
}

/// The inputs of a function as described, then its states, of the default function if none is named. Only the description is read.
///
/// # Errors
/// When the package is malformed or unsafe, is no ML Program, or has no such function.
pub fn inputs(path: &Path, function: Option<&str>) -> Result<Vec<Feature>> {
    let opened = Opened::open(path)?;
    opened
        .program()
        .and_then(|_| {
            let described = opened.described_as(function)?;
            let mut inputs = features(described.inputs)?;
            inputs.extend(features(described.states)?);
            Ok(inputs)
        })
        .at_file(&opened.model_path)
}

/// The names of the functions, the default one first.
///
/// # Errors
/// When the package is malformed or unsafe, or is no ML Program.
pub fn functions(path: &Path) -> Result<Vec<String>> {
    let opened = Opened::open(path)?;
    opened
        .program()
        .and_then(|program| {
            let default = opened.described()?.name;
            let others = program.functions.keys().filter(|f| **f != default);
            Ok(std::iter::once(default.clone())
                .chain(others.cloned())
                .collect())
        })
        .at_file(&opened.model_path)
}

/// As [`read_function`], for inputs of these shapes only. This reads some programs that cannot be read for every shape: ones whose ranks
/// depend on sizes.
///
/// # Errors
/// As [`read_function`]; also when a shape is not among those that the model describes.
pub fn read_for_shapes(
    path: &Path,
    function: Option<&str>,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Package> {
    let opened = Opened::open(path)?;
    let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or("model");
    opened
        .import(name, function, Sizes::Given(shapes))
        .at_file(&opened.model_path)
}

/// The files that a package, or a model file with its weights, is read from.
///
/// # Errors
/// When the manifest is malformed or points out of the package.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let opened = Opened::open(path)?;
    let manifest = (opened.model_path != path).then(|| path.join(package::MANIFEST));
    let all = std::iter::once(opened.model_path).chain(opened.weights);
    Ok(all.chain(manifest).collect())
}

fn items(path: &Path) -> Result<package::Items> {
    let mut items = package::open(path)?;
    if items.weights.is_none() && items.model == path {
        items.weights = beside(path)?;
    }
    Ok(items)
}

/// A parsed model whose versions were checked.
pub(super) struct Opened {
    /// The model file.
    pub(super) model_path: PathBuf,
    /// The message.
    pub(super) model: Model,
    /// The weight files.
    pub(super) weights: Vec<PathBuf>,
    /// What is in them.
    pub(super) blobs: BlobFiles,
}

/// The interface of one function.
pub(super) struct Described<'a> {
    /// Name of the function.
    pub(super) name: String,
    /// Inputs.
    pub(super) inputs: &'a [FeatureDescription],
    /// Outputs.
    pub(super) outputs: &'a [FeatureDescription],
    /// States.
    pub(super) states: &'a [FeatureDescription],
}

impl Opened {
    /// Opens what is at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let items = items(path)?;
        let (model, _) = package::read_model(&*package::open_item(path, &items.model)?)?;
        let mut opened = Opened {
            model_path: items.model,
            model,
            weights: Vec::new(),
            blobs: BlobFiles::default(),
        };
        if let Some(weights) = items.weights {
            opened.add(path, WEIGHT_REFERENCE, weights)?;
        }
        // Apple's tools write one file of a fixed name; the format has others as well.
        for reference in references(&opened.model) {
            let weights = package::referred(path, &opened.model_path, &reference);
            if let Some(weights) = weights.at_file(&opened.model_path)? {
                opened.add(path, &reference, weights)?;
            }
        }
        Ok(opened)
    }

    fn add(&mut self, path: &Path, reference: &str, weights: PathBuf) -> Result<()> {
        let file = BlobFile::of(package::open_item(path, &weights)?)?;
        self.blobs.insert(reference, file);
        self.weights.push(weights);
        Ok(())
    }

    /// The program.
    pub(super) fn program(&self) -> Result<&Program, ImportError> {
        let found = self.model.specification_version;
        if !(1..=10).contains(&found) {
            return Err(ImportError::SpecVersion { found });
        }
        let Some(ModelKind::MlProgram(program)) = &self.model.r#type else {
            let kind = kind(&self.model);
            return Err(ImportError::NotProgram {
                kind,
                way_out: way_out(kind),
            });
        };
        if found < 6 {
            return Err(ImportError::SpecVersion { found });
        }
        if program.version != 1 {
            return Err(ImportError::Malformed {
                what: "program version",
                expected: "1".into(),
                found: program.version.to_string(),
            });
        }
        if let Some(key) = program.attributes.keys().find(|k| *k != "buildInfo") {
            return Err(ImportError::Malformed {
                what: "attributes of the program",
                expected: "`buildInfo`".into(),
                found: format!("`{key}`"),
            });
        }
        Ok(program)
    }

    /// The description.
    pub(super) fn description(&self) -> Result<&ModelDescription, ImportError> {
        self.model
            .description
            .as_ref()
            .ok_or(ImportError::Malformed {
                what: "description of the model",
                expected: "a description".into(),
                found: "nothing".into(),
            })
    }

    /// The interface of the default function.
    pub(super) fn described(&self) -> Result<Described<'_>, ImportError> {
        self.described_as(None)
    }

    /// The interface of a function, the default one if none is named.
    pub(super) fn described_as(&self, wanted: Option<&str>) -> Result<Described<'_>, ImportError> {
        let description = self.description()?;
        if description.functions.is_empty() {
            if let Some(name) = wanted.filter(|&w| w != "main") {
                return Err(ImportError::NoFunction {
                    name: name.to_owned(),
                    found: "`main`".into(),
                });
            }
            return Ok(Described {
                name: "main".into(),
                inputs: &description.input,
                outputs: &description.output,
                states: &description.state,
            });
        }
        let name = match (wanted, description.default_function_name.as_str()) {
            (Some(name), _) => name,
            (None, "") => "main",
            (None, name) => name,
        };
        let found = description.functions.iter().find(|f| f.name == name);
        let function = found.ok_or_else(|| ImportError::NoFunction {
            name: name.to_owned(),
            found: list(description.functions.iter().map(|f| f.name.as_str())),
        })?;
        Ok(Described {
            name: name.to_owned(),
            inputs: &function.input,
            outputs: &function.output,
            states: &function.state,
        })
    }

    pub(super) fn import(
        &self,
        name: &str,
        wanted: Option<&str>,
        sizes: Sizes<'_>,
    ) -> Result<Package> {
        let program = self.program()?;
        let described = self.described_as(wanted)?;
        if self.model.is_updatable {
            return Err(unsupported("an updatable model", ""));
        }
        let states = features(described.states)?;
        let found = list(program.functions.keys().map(String::as_str));
        let function = program.functions.get(&described.name);
        let function = function.ok_or_else(|| ImportError::NoFunction {
            name: described.name.clone(),
            found,
        })?;
        let (block, opset) = block(function, self.model.specification_version)?;
        let inputs = features(described.inputs)?;
        let outputs = features(described.outputs)?;
        let kept = states_of(function, &states)?;
        let assigned = inputs_of(function, &inputs, sizes)?;
        let Assigned {
            inputs: params,
            symbols,
            more_shapes,
            mut warnings,
        } = assigned;
        let metadata = self.description()?.metadata.clone().unwrap_or_default();
        let (mut module, classifier, notes) = import::import(&Source {
            name,
            block,
            opset,
            inputs: params,
            states: kept,
            symbols,
            blobs: &self.blobs,
            // This program writes one function; what others join is not recorded.
            domains: (program.functions.len() == 1)
                .then(|| metadata.user_defined.get(DOMAINS_KEY).map(String::as_str))
                .flatten(),
        })?;
        warnings.extend(notes);
        give_pixels(&mut module, &inputs);
        check_outputs(&module, &outputs, classifier.as_ref())?;
        let functions: Vec<String> = program.functions.keys().cloned().collect();
        if functions.len() > 1 && wanted.is_none() {
            let others = functions.iter().filter(|f| **f != described.name);
            let others = list(others.map(String::as_str));
            warnings.push(format!(
                "only `{}` is read; there is also {others}",
                described.name
            ));
        }
        let Metadata {
            short_description,
            version_string,
            author,
            license,
            user_defined,
        } = metadata;
        Ok(Package {
            module,
            spec_version: self.model.specification_version,
            opset: opset.name().to_owned(),
            metadata: user_defined,
            short_description,
            author,
            license,
            version: version_string,
            inputs,
            outputs,
            states,
            function: described.name,
            functions,
            classifier,
            more_shapes,
            warnings,
        })
    }
}

/// What the program calls weight files, other than the usual one.
pub(super) fn references(model: &Model) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Some(ModelKind::MlProgram(program)) = &model.r#type else {
        return found;
    };
    let functions = program.functions.values();
    let mut open: Vec<&Block> = functions
        .flat_map(|f| f.block_specializations.values())
        .collect();
    while let Some(block) = open.pop() {
        for op in &block.operations {
            open.extend(&op.blocks);
            let given = op.inputs.values().flat_map(|a| &a.arguments);
            let given = given.filter_map(|b| match &b.binding {
                Some(Binding::Value(value)) => Some(value),
                Some(Binding::Name(_)) | None => None,
            });
            for value in op.attributes.values().chain(given) {
                if let Some(Held::BlobFileValue(blob)) = &value.value
                    && blob.file_name != WEIGHT_REFERENCE
                {
                    found.insert(blob.file_name.clone());
                }
            }
        }
    }
    found
}

/// The weight file beside a bare model file.
///
/// # Errors
/// When the system refuses to look.
pub(super) fn beside(model: &Path) -> Result<Option<PathBuf>> {
    let folder = model.parent().unwrap_or(Path::new(""));
    for candidate in [
        folder.join("weights").join(WEIGHT_FILE),
        folder.join(WEIGHT_FILE),
    ] {
        match candidate.try_exists() {
            Ok(true) => return Ok(Some(candidate)),
            Ok(false) => {}
            Err(e) => return Err(io_error("look for", &candidate)(e)),
        }
    }
    Ok(None)
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|n| format!("`{n}`")).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn unsupported(what: &'static str, name: &str) -> crate::error::Error {
    let detail = if name.is_empty() {
        String::new()
    } else {
        format!(": `{name}`")
    };
    ImportError::Unsupported { what, detail }.into()
}

/// The block of a function, and its opset.
pub(super) fn block(
    function: &Function,
    spec_version: i32,
) -> Result<(&Block, Opset), ImportError> {
    let opset = Opset::from_name(&function.opset).ok_or_else(|| ImportError::Opset {
        found: function.opset.clone(),
    })?;
    if opset.spec_version() > spec_version {
        return Err(ImportError::OpsetVersion {
            opset: opset.name(),
            needed: opset.spec_version(),
            found: spec_version,
        });
    }
    let mut blocks = function.block_specializations.iter();
    let (Some((key, block)), None) = (blocks.next(), blocks.next()) else {
        return Err(ImportError::Malformed {
            what: "number of blocks of the function",
            expected: "1".into(),
            found: function.block_specializations.len().to_string(),
        });
    };
    let attribute = function
        .attributes
        .keys()
        .chain(block.attributes.keys())
        .next();
    let wrong = if *key != function.opset {
        Some(("name of the block", function.opset.clone(), key.clone()))
    } else if !block.inputs.is_empty() {
        Some((
            "inputs of the block",
            "none".into(),
            block.inputs.len().to_string(),
        ))
    } else {
        attribute.map(|a| ("attributes of the function", "none".into(), a.clone()))
    };
    match wrong {
        None => Ok((block, opset)),
        Some((what, expected, found)) => Err(ImportError::Malformed {
            what,
            expected,
            found,
        }),
    }
}

/// The function's states, each with its description; both must name the same ones and agree on their types.
fn states_of(function: &Function, described: &[Feature]) -> Result<Vec<Input>> {
    let mut out = Vec::new();
    for NamedValueType { name, r#type } in &function.inputs {
        let Some(ValueKind::StateType(state)) = r#type.as_ref().and_then(|t| t.r#type.as_ref())
        else {
            continue;
        };
        let declared = declared(state.wrapped_type.as_deref()).at_node(name)?;
        let feature = described.iter().find(|f| f.name == *name);
        let fail = || ImportError::Interface {
            feature: name.clone(),
            described: feature.map_or("nothing".into(), |f| f.kind.to_string()),
            program: format!("state {declared}"),
        };
        let Some(FeatureKind::State { dtype, shape }) = feature.map(|f| &f.kind) else {
            return Err(fail().into());
        };
        let sizes: Vec<usize> = shape.iter().map(|&n| num::usize_of(n)).collect();
        let ty = Type::known(*dtype, &sizes);
        if !declared.admits(&ty) {
            return Err(fail().into());
        }
        out.push(Input {
            name: name.clone(),
            ty,
        });
    }
    match described
        .iter()
        .find(|d| out.iter().all(|o| o.name != d.name))
    {
        None => Ok(out),
        Some(missing) => Err(ImportError::Interface {
            feature: missing.name.clone(),
            described: missing.kind.to_string(),
            program: "nothing".into(),
        }
        .into()),
    }
}

/// The function's inputs, each with its description; both must name the same ones.
fn inputs_of(function: &Function, described: &[Feature], sizes: Sizes<'_>) -> Result<Assigned> {
    let mut pairs: Vec<(Declared, &Feature)> = Vec::with_capacity(described.len());
    for NamedValueType { name, r#type } in &function.inputs {
        let is_state = r#type
            .as_ref()
            .is_some_and(|t| matches!(t.r#type, Some(ValueKind::StateType(_))));
        if is_state {
            continue;
        }
        let declared = declared(r#type.as_ref()).at_node(name)?;
        let feature = described.iter().find(|f| f.name == *name);
        let feature = feature.ok_or_else(|| ImportError::Interface {
            feature: name.clone(),
            described: "nothing".into(),
            program: format!("input {declared}"),
        })?;
        pairs.push((declared, feature));
    }
    let missing = described
        .iter()
        .find(|d| pairs.iter().all(|(_, f)| f.name != d.name));
    if let Some(missing) = missing {
        return Err(ImportError::Interface {
            feature: missing.name.clone(),
            described: format!("input {}", missing.kind),
            program: "nothing".into(),
        }
        .into());
    }
    assign(&pairs, sizes)
}

/// Says of the inputs that are images that they hold pixels. Grey images in half precision hold numbers of any range.
fn give_pixels(module: &mut Module, inputs: &[Feature]) {
    let pixels = |name: &str| {
        let feature = inputs.iter().find(|f| f.name == name);
        matches!(
            feature.map(|f| &f.kind),
            Some(FeatureKind::Image {
                color: Color::Rgb | Color::Bgr | Color::Gray,
                ..
            })
        )
    };
    for function in &mut module.functions {
        for param in &mut function.params {
            let name = function.values.get(param.value.index());
            if param.domain == Domain::Any && name.is_some_and(|v| pixels(&v.name)) {
                param.domain = Domain::Pixel;
            }
        }
    }
}

/// Compares what the program computes with what the description promises.
fn check_outputs(
    module: &Module,
    described: &[Feature],
    classifier: Option<&Classifier>,
) -> Result<()> {
    let function = module.main()?;
    let is_state = |name: &str| function.states.iter().any(|s| s.output == name);
    for output in function.outputs.iter().filter(|o| !is_state(&o.name)) {
        let ty = function.ty(output.value);
        let fail = |text: String| ImportError::Interface {
            feature: output.name.clone(),
            described: text,
            program: format!("output {ty}"),
        };
        let feature = described.iter().find(|f| f.name == output.name);
        let feature = feature.ok_or_else(|| fail("nothing".into()))?;
        let (dtype, shape) = match (&feature.kind, classifier) {
            (FeatureKind::MultiArray { dtype, shape, .. }, _) => (*dtype, shape.clone()),
            (
                FeatureKind::Image {
                    width,
                    height,
                    color,
                    flexibility,
                },
                _,
            ) => {
                let shape = vec![1, color.channels(), *height, *width];
                let fixed = *flexibility == Flexibility::Fixed;
                (ty.dtype, if fixed { shape } else { Vec::new() })
            }
            (FeatureKind::String, Some(c)) if c.label == output.name && !c.integers => continue,
            (FeatureKind::Int64, Some(c)) if c.label == output.name && c.integers => continue,
            (FeatureKind::Dictionary, Some(c)) if c.probabilities == output.name => continue,
            (_, _) => {
                return Err(unsupported("an output that is not an array", &output.name));
            }
        };
        // Without a shape the description leaves it to the program; scalars are described as vectors of one.
        let sizes: Option<Vec<u64>> = ty
            .known_shape()
            .map(|s| s.into_iter().map(crate::tensor::num::u64_of).collect());
        let scalar = ty.shape.is_empty() && shape.as_slice() == [1];
        let fits = shape.is_empty() || scalar || sizes.is_none() || sizes.as_ref() == Some(&shape);
        if dtype != ty.dtype || !fits {
            return Err(fail(feature.kind.to_string()).into());
        }
    }
    let names: Vec<&str> = function.outputs.iter().map(|o| o.name.as_str()).collect();
    match described.iter().find(|d| !names.contains(&d.name.as_str())) {
        None => Ok(()),
        Some(missing) => Err(ImportError::Interface {
            feature: missing.name.clone(),
            described: format!("output {}", missing.kind),
            program: "nothing".into(),
        }
        .into()),
    }
}
