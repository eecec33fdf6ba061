//! Writes a package: legalise, export, check, and only then touch the disk.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::error::CoremlError;
use super::export::{self, RmsNormForm};
use super::interface::{Classifier, Description};
use super::legalize::legalize;
use super::target::{DeploymentTarget, Opset};
use super::{lint, package, program, source_names};
use crate::error::Result;
use crate::ir::{self, Agreement, CompressedWeights, Compression, Function, Module};

/// How to write.
#[derive(Clone, Default)]
pub struct WriteOptions<'a> {
    /// The oldest system the package must run on.
    pub deployment_target: DeploymentTarget,
    /// Whether the user chose that target. One that was not chosen may be raised, with a warning.
    pub explicit_target: bool,
    /// What root-mean-square normalisations of half-precision values are made of.
    pub rms_norm: RmsNormForm,
    /// Whether compressed weights are written as what they stand for.
    pub expand_weights: bool,
    /// Told how many bytes of weights were written since the last call, from several threads.
    pub progress: Option<&'a (dyn Fn(u64) + Sync)>,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Written {
    /// The target in the end.
    pub deployment_target: String,
    /// The specification version.
    pub spec_version: i32,
    /// The opset.
    pub opset: Opset,
    /// Bytes of the weight file; 0 without one.
    pub weight_bytes: u64,
    /// Number of blobs in the weight file.
    pub blobs: usize,
    /// What became of compressed weights.
    pub compressed: CompressedWeights,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What the keys of this program's metadata begin with.
pub(super) const OWN_KEYS: &str = "com.distill-convert.";

/// The key of the version of this program.
const VERSION_KEY: &str = "com.distill-convert.version";

/// Writes the module as a new `.mlpackage` folder.
///
/// # Errors
/// When the target cannot express the module (then nothing is written), the folder exists, or it cannot be written.
pub fn write(module: &Module, package: &Path, options: &WriteOptions<'_>) -> Result<Written> {
    let main = WrittenFunction {
        name: "main",
        module,
        description: None,
    };
    write_functions(&[main], package, options)
}

/// A function that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct WrittenFunction<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The module whose default function it is.
    pub module: &'a Module,
    /// What a Core ML source says about the function, which is said again where the types allow it: images, default shapes and values, labels of a
    /// classifier, words of the author. Of several functions, the first tells about the model.
    pub description: Option<&'a Description>,
}

impl<'a> WrittenFunction<'a> {
    /// The labels, if the function gives probabilities without a label of its own.
    pub(super) fn classifier(&self, function: &Function) -> Option<&'a Classifier> {
        let has = |name: &str| function.outputs.iter().any(|o| o.name == name);
        let classifier = self.description?.classifier.as_ref()?;
        (has(&classifier.probabilities) && !has(&classifier.label)).then_some(classifier)
    }
}

/// Writes the default functions of modules as the functions of a new `.mlpackage` folder, the first as its default one. Weights that are equal
/// are written once.
///
/// # Errors
/// As [`write`]; also when there are several and the target the user chose knows one only.
pub fn write_functions(
    functions: &[WrittenFunction<'_>],
    package: &Path,
    options: &WriteOptions<'_>,
) -> Result<Written> {
    let Planned {
        exported,
        target,
        compressed,
        warnings,
    } = plan(functions, options)?;
    let export::Exported { model, blobs, .. } = exported;
    let items = package::create(package, blobs.len() > 0)?;
    // First, and gone before the weights, so that nothing is left to do when the source has been read and hashed.
    package::write_model(&items.model, &model)?;
    drop(model);
    let mut weight_bytes = 0;
    if let Some(weights) = &items.weights {
        blobs.write(weights, options.progress.unwrap_or(&|_| {}))?;
        weight_bytes = blobs.file_bytes();
    }
    Ok(Written {
        deployment_target: target.name().to_owned(),
        spec_version: target.spec_version(),
        opset: target.opset(),
        weight_bytes,
        blobs: blobs.len(),
        compressed,
        warnings,
    })
}

/// Compares a package with the one that [`write_functions`] would write: program, description and every weight, but for metadata that was
/// added since. Nothing is written.
///
/// # Errors
/// When the target cannot express the modules, or the package cannot be read.
pub fn compare_functions(
    functions: &[WrittenFunction<'_>],
    package: &Path,
    options: &WriteOptions<'_>,
) -> Result<Agreement> {
    let exported = plan(functions, options)?.exported;
    let items = package::open(package)?;
    let (found, _) = package::read_model(&*package::open_item(package, &items.model)?)?;
    let mut agreement = Agreement {
        differences: program::differences(exported.model, found),
        ..Agreement::default()
    };
    match &items.weights {
        Some(weights) => {
            let file = package::open_item(package, weights)?;
            exported.blobs.compare(&file, &mut agreement)?;
        }
        None if exported.blobs.len() > 0 => {
            let missing = "the package has no weight file".to_owned();
            agreement.differences.push(missing);
        }
        None => {}
    }
    Ok(agreement)
}

/// A package before it is written.
struct Planned {
    exported: export::Exported,
    target: DeploymentTarget,
    compressed: CompressedWeights,
    warnings: Vec<String>,
}

fn plan(functions: &[WrittenFunction<'_>], options: &WriteOptions<'_>) -> Result<Planned> {
    let explicit = options.explicit_target;
    let (mut target, mut warnings) = (options.deployment_target, Vec::new());
    if functions.len() > 1 && target.opset() < Opset::CoreML8 {
        if explicit {
            let found = functions.len();
            return Err(CoremlError::SeveralFunctions { found, target }.into());
        }
        let raised = target.with_opset(Opset::CoreML8);
        warnings.push(format!(
            "the deployment target is {raised} instead of {target}, because there are {} functions",
            functions.len()
        ));
        target = raised;
    }
    for WrittenFunction { module, .. } in functions {
        let required = export::required_target(module, module.main()?, target, explicit)?;
        target = required.0;
        warnings.extend(required.1);
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let mut metadata = BTreeMap::from([(VERSION_KEY.to_owned(), version)]);
    let mut legals = Vec::with_capacity(functions.len());
    for function in functions {
        let legal = legalize(function.module, target.opset())?;
        warnings.extend(legal.warnings);
        if functions.len() > 1 {
            // The record of names is about one interface.
            if let Some(name) = legal.names.into_keys().next() {
                return Err(CoremlError::Identifier { name }.into());
            }
        } else {
            if !legal.names.is_empty() {
                let text = source_names::text(&legal.names);
                metadata.insert(source_names::KEY.to_owned(), text);
            }
            if let Some(domains) = ir::domains_text(legal.module.main()?) {
                metadata.insert(ir::DOMAINS_KEY.to_owned(), domains);
            }
        }
        legals.push(legal.module);
    }
    let legals: Vec<WrittenFunction<'_>> = functions
        .iter()
        .zip(&legals)
        .map(|(function, module)| WrittenFunction {
            name: function.name,
            module,
            description: function.description,
        })
        .collect();
    let mut exported = export::export(&legals, target, options, metadata)?;
    warnings.append(&mut exported.warnings);
    lint::check(&exported.model, target)?;
    let newest = |form: &Compression| export::holds(form, Opset::CoreML8);
    let target_keeps = |form: &Compression| export::holds(form, target.opset());
    let modules = functions.iter().map(|f| f.module).zip(&exported.kept);
    let compressed = CompressedWeights::of(modules, options.expand_weights, |form| {
        let newer = newest(form) && !target_keeps(form);
        newer.then(|| "`--deployment-target iOS18`".to_owned())
    })?;
    warnings.extend(compressed.notes());
    Ok(Planned {
        exported,
        target,
        compressed,
        warnings,
    })
}

/// Replaces the user-defined metadata of a package that this program wrote; keys that `metadata` does not name stay.
///
/// # Errors
/// When the package cannot be read, or holds what a rewrite would lose.
pub fn set_metadata(package: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
    let items = package::open(package)?;
    let file = package::open_item(package, &items.model)?;
    let mut model = package::read_frame(&file)?;
    let description = model.description.get_or_insert_default();
    let meta = description.metadata.get_or_insert_default();
    for (key, value) in metadata {
        meta.user_defined.insert(key.clone(), value.clone());
    }
    package::write_model(&items.model, &model)
}
