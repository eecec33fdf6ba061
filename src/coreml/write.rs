//! Writes a package: legalise, export, check, and only then touch the disk.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::export::{self, RmsNormForm};
use super::legalize::{Legal, legalize};
use super::target::{DeploymentTarget, Opset};
use super::{lint, package, source_names};
use crate::error::{Context, Result};
use crate::ir::{self, Module};

/// How to write.
#[derive(Clone, Default)]
pub struct WriteOptions<'a> {
    /// The oldest system the package must run on.
    pub deployment_target: DeploymentTarget,
    /// Whether the user chose that target. One that was not chosen may be raised, with a warning.
    pub explicit_target: bool,
    /// What root-mean-square normalisations of half-precision values are made of.
    pub rms_norm: RmsNormForm,
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
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// The key of the version of this program.
const VERSION_KEY: &str = "com.distill-convert.version";

/// Writes the module as a new `.mlpackage` folder.
///
/// # Errors
/// When the target cannot express the module (then nothing is written), the folder exists, or it cannot be written.
pub fn write(module: &Module, package: &Path, options: &WriteOptions<'_>) -> Result<Written> {
    let (target, raised) = export::required_target(
        module,
        module.main()?,
        options.deployment_target,
        options.explicit_target,
    )?;
    let Legal {
        module: legal,
        names,
        mut warnings,
    } = legalize(module, target.opset())?;
    warnings.extend(raised);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let mut metadata = BTreeMap::from([(VERSION_KEY.to_owned(), version)]);
    if !names.is_empty() {
        metadata.insert(source_names::KEY.to_owned(), source_names::text(&names));
    }
    if let Some(domains) = ir::domains_text(legal.main()?) {
        metadata.insert(ir::DOMAINS_KEY.to_owned(), domains);
    }
    let exported = export::export(&legal, target, options.rms_norm, metadata)?;
    lint::check(&exported.model, target)?;
    let with_weights = exported.blobs.len() > 0;
    let items = package::create(package, with_weights)?;
    let mut weight_bytes = 0;
    if let Some(weights) = &items.weights {
        exported
            .blobs
            .write(weights, options.progress.unwrap_or(&|_| {}))?;
        weight_bytes = exported.blobs.file_bytes();
    }
    package::write_model(&items.model, &exported.model)?;
    Ok(Written {
        deployment_target: target.name().to_owned(),
        spec_version: target.spec_version(),
        opset: target.opset(),
        weight_bytes,
        blobs: exported.blobs.len(),
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
    let (mut model, bytes) = package::read_model(&file)?;
    package::check_lossless(&model, bytes).at_file(&items.model)?;
    let description = model.description.get_or_insert_default();
    let meta = description.metadata.get_or_insert_default();
    for (key, value) in metadata {
        meta.user_defined.insert(key.clone(), value.clone());
    }
    package::write_model(&items.model, &model)
}
