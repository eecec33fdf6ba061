//! What a conversion was asked for, as the artifact records it: enough to convert the source once more and compare what that gives with the
//! artifact, bit by bit.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::check::Made;
use super::error::ConvertError;
use super::opened::Opened;
use super::request::{
    ArtifactKind, Precision, Request, SourceOptions, Target, parse_constant, parse_dim,
    parse_shape, shape_text, sizes_text,
};
use super::{Part, Parts, parts, statement};
use crate::arch::{Attention, RotaryFrequencies};
use crate::coreml::{self, RmsNormForm};
use crate::error::{Error, Result};
use crate::ir::{Agreement, Module};
use crate::onnx;
use crate::passes;
use crate::tensor::{Storage, Tensor};

const VERSION: &str = "com.distill-convert.version";
const ARCHITECTURE: &str = "com.distill-convert.source.architecture";

/// The options that decide what is in an artifact. No paths, nothing about its verification.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    attention: Option<String>,
    constants: Vec<String>,
    deployment_target: Option<String>,
    dims: Vec<String>,
    expand_weights: bool,
    external_data: bool,
    fp32_ops: Vec<String>,
    function: Option<String>,
    opset: i64,
    /// By function, the nodes that were kept in single precision because they were seen to overflow.
    overflowing: Vec<Vec<String>>,
    /// `None` if none was asked for: then a graph keeps the half precision that it has.
    precision: Option<String>,
    rms_norm: String,
    rotary: Option<String>,
    seq: Vec<usize>,
    shape: Vec<String>,
    stale_shapes: bool,
}

/// The record of a conversion: of the request as it was decided, and of what was found on the way.
pub(super) fn record(request: &Request, options: &SourceOptions, parts: &[Part]) -> String {
    let lower = |name: String| name.to_lowercase();
    let overflowing = |part: &Part| part.islands.overflowing().iter().cloned().collect();
    let recipe = Recipe {
        attention: options.attention.map(|a| a.name().to_owned()),
        constants: options
            .onnx
            .constants
            .iter()
            .map(|(name, value)| format!("{name}={}", values_text(value)))
            .collect(),
        deployment_target: request.deployment_target.map(|t| t.to_string()),
        dims: options
            .onnx
            .dims
            .iter()
            .map(|(name, range)| format!("{name}={}", sizes_text(range)))
            .collect(),
        expand_weights: request.expand_weights,
        external_data: request.external_data,
        fp32_ops: request.fp32_ops.clone(),
        function: options.function.clone(),
        opset: request.opset,
        overflowing: parts.iter().map(overflowing).collect(),
        precision: request.precision.map(|p| p.to_string()),
        rms_norm: lower(format!("{:?}", request.rms_norm)),
        rotary: options.rotary.map(|r| lower(format!("{r:?}"))),
        seq: request.seq.clone(),
        shape: request
            .shape
            .iter()
            .map(|(name, dims)| shape_text(name, dims))
            .collect(),
        stale_shapes: options.onnx.stale_shapes,
    };
    serde_json::to_string(&recipe).unwrap_or_default()
}

/// A value as `--constant` has it.
fn values_text(tensor: &Tensor) -> String {
    let texts: Vec<String> = match tensor.storage() {
        // With a point, so that it is read as a float again.
        Storage::Float(v) => v.iter().map(|x| format!("{x:?}")).collect(),
        Storage::Int(v) => v.iter().map(ToString::to_string).collect(),
        Storage::Bool(v) => v.iter().map(ToString::to_string).collect(),
    };
    texts.join(",")
}

impl Recipe {
    /// The request that gives the same again. `None` if the record says what this version does not know.
    fn request(&self, model: &Path, target: Target) -> Option<(Request, SourceOptions)> {
        let options = SourceOptions {
            attention: match self.attention.as_deref() {
                None => None,
                Some("causal") => Some(Attention::Causal),
                Some("bidirectional") => Some(Attention::Bidirectional),
                Some(_) => return None,
            },
            rotary: match self.rotary.as_deref() {
                None => None,
                Some("f32") => Some(RotaryFrequencies::F32),
                Some("stored") => Some(RotaryFrequencies::Stored),
                Some(_) => return None,
            },
            function: self.function.clone(),
            onnx: onnx::ReadOptions {
                dims: self
                    .dims
                    .iter()
                    .map(|d| parse_dim(d).ok())
                    .collect::<Option<_>>()?,
                constants: self
                    .constants
                    .iter()
                    .map(|c| parse_constant(c).ok())
                    .collect::<Option<_>>()?,
                stale_shapes: self.stale_shapes,
                ..onnx::ReadOptions::default()
            },
            ..SourceOptions::default()
        };
        let request = Request {
            model: model.to_path_buf(),
            targets: vec![target],
            output: None,
            deployment_target: match self.deployment_target.as_deref() {
                Some(text) => Some(text.parse().ok()?),
                None => None,
            },
            precision: match self.precision.as_deref() {
                None => None,
                Some("fp16") => Some(Precision::Fp16),
                Some("fp32") => Some(Precision::Fp32),
                Some(_) => return None,
            },
            shape: self
                .shape
                .iter()
                .map(|s| parse_shape(s).ok())
                .collect::<Option<_>>()?,
            seq: self.seq.clone(),
            opset: self.opset,
            external_data: self.external_data,
            expand_weights: self.expand_weights,
            fp32_ops: self.fp32_ops.clone(),
            rms_norm: match self.rms_norm.as_str() {
                "concat" => RmsNormForm::Concat,
                "scaled" => RmsNormForm::Scaled,
                "fp32" => RmsNormForm::Fp32,
                _ => return None,
            },
            source: options.clone(),
            check: None,
            provenance: super::ProvenanceOptions::default(),
        };
        Some((request, options))
    }
}

/// What an artifact says about its making.
pub(super) struct Recorded {
    recipe: Result<Recipe, String>,
    target: Target,
    architecture: Option<String>,
}

impl Recorded {
    /// Reads the record of an artifact.
    ///
    /// # Errors
    /// When the artifact cannot be looked into.
    pub(super) fn of(artifact: &Path, kind: ArtifactKind) -> Result<Self> {
        let (target, metadata) = match kind {
            ArtifactKind::Onnx => (Target::Onnx, onnx::inspect(artifact)?.metadata),
            ArtifactKind::Coreml => (Target::Coreml, coreml::inspect(artifact)?.metadata),
            ArtifactKind::Checkpoint => return Err(ConvertError::UnknownKind.into()),
        };
        let ours = env!("CARGO_PKG_VERSION");
        let recipe = match (
            metadata.get(VERSION),
            metadata.get(&statement::key(statement::OPTIONS)),
        ) {
            (None, _) => Err("the artifact was not made by this program".to_owned()),
            (Some(version), _) if version != ours => Err(format!(
                "version {version} made the artifact, this is {ours}"
            )),
            (Some(_), None) => Err("the artifact does not say with which options".to_owned()),
            (Some(_), Some(text)) => serde_json::from_str(text).map_err(|e| e.to_string()),
        };
        Ok(Recorded {
            recipe,
            target,
            architecture: metadata.get(ARCHITECTURE).cloned(),
        })
    }

    /// The options, with what the conversion decided about the source where they leave it open.
    pub(super) fn complete(&self, options: &SourceOptions) -> SourceOptions {
        let mut options = options.clone();
        let recipe = self.recipe.as_ref().ok();
        if let Some((_, decided)) = recipe.and_then(|r| r.request(Path::new(""), self.target)) {
            options.attention = options.attention.or(decided.attention);
            options.rotary = options.rotary.or(decided.rotary);
        }
        options
    }

    /// Converts the source once more, in memory, as the artifact says that it was. An error says why that cannot be.
    pub(super) fn again(&self, source: &Opened, model: &Path) -> Result<Conversion, String> {
        let recipe = self.recipe.as_ref().map_err(Clone::clone)?;
        let (request, options) = recipe
            .request(model, self.target)
            .ok_or("its record of options is not understood")?;
        let cannot = |error: Error| format!("the source cannot be converted as it was: {error}");
        let Parts {
            architecture,
            mut parts,
            ..
        } = parts(&request, source, &options, self.target).map_err(cannot)?;
        if let Some(other) = self.architecture.as_ref().filter(|a| **a != architecture) {
            return Err(format!("it was made from another source ({other})"));
        }
        for (part, nodes) in parts.iter_mut().zip(&recipe.overflowing) {
            if !nodes.is_empty() {
                part.keep(nodes.iter().cloned().collect()).map_err(cannot)?;
            }
        }
        let written = |part: &Part| match request.precision(self.target) {
            Precision::Fp32 => Ok(part.plain.clone()),
            Precision::Fp16 => Ok(passes::precision(&part.plain, &part.islands)?.0),
        };
        let modules: Result<Vec<Module>> = parts.iter().map(written).collect();
        Ok(Conversion {
            modules: modules.map_err(cannot)?,
            request,
            target: self.target,
            parts,
        })
    }
}

/// A conversion in memory: the functions on their way, and each as it is written.
pub(super) struct Conversion {
    request: Request,
    target: Target,
    parts: Vec<Part>,
    modules: Vec<Module>,
}

impl Conversion {
    /// What was made of a function, before and after its precision changed.
    pub(super) fn of(&self, function: Option<&str>) -> Option<Made<'_>> {
        let mut all = self.parts.iter().zip(&self.modules);
        let same = |(part, _): &(&Part, &Module)| {
            self.parts.len() == 1 || part.function.as_deref() == function
        };
        all.find(same).map(|(part, module)| part.made(module))
    }

    /// Compares an artifact with what would be written.
    ///
    /// # Errors
    /// When either cannot be read.
    pub(super) fn compare(&self, artifact: &Path) -> Result<Agreement> {
        compare(
            &self.request,
            self.target,
            &self.parts,
            &self.modules,
            artifact,
        )
    }
}

/// Compares an artifact with what would be written for these modules, one for each part.
pub(super) fn compare(
    request: &Request,
    target: Target,
    parts: &[Part],
    modules: &[Module],
    artifact: &Path,
) -> Result<Agreement> {
    let tick = |_: u64| {};
    match (target, modules.first()) {
        (Target::Onnx, Some(module)) => {
            onnx::compare(module, artifact, &request.onnx_options(&tick))
        }
        (Target::Onnx, None) => Ok(Agreement::default()),
        (Target::Coreml, _) => {
            let names = super::function_names(parts);
            let functions = super::written_functions(parts, modules.iter(), &names);
            coreml::compare_functions(&functions, artifact, &request.coreml_options(&tick)?)
        }
    }
}
