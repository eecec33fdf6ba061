//! What to convert, and to what: the request with its defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::check::Check;
use super::error::ConvertError;
use super::statement::{ProvenanceOptions, StatementPath};
use crate::arch::{self, Attention, Extent, RotaryFrequencies};
use crate::coreml::{self, DeploymentTarget, RmsNormForm};
use crate::error::Result;
use crate::files::{Named, keep_apart};
use crate::ir::{Dim, Module, SymbolRange, Type};
use crate::limits;
use crate::onnx;
use crate::tensor::{DType, Tensor, num};

/// Sequence length of a Core ML package when none is asked for.
const DEFAULT_LENGTH: usize = 128;

/// A file format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A Core ML package.
    Coreml,
    /// An ONNX file.
    Onnx,
}

impl Target {
    /// The format's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Target::Coreml => "coreml",
            Target::Onnx => "onnx",
        }
    }

    /// The extension of its files.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Target::Coreml => "mlpackage",
            Target::Onnx => "onnx",
        }
    }
}

/// What a path on the command line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    /// A model folder (or a file in it): config and safetensors.
    Checkpoint,
    /// A Core ML package or bare `.mlmodel`.
    Coreml,
    /// An ONNX file.
    Onnx,
}

impl From<Target> for ArtifactKind {
    fn from(target: Target) -> Self {
        match target {
            Target::Coreml => ArtifactKind::Coreml,
            Target::Onnx => ArtifactKind::Onnx,
        }
    }
}

impl ArtifactKind {
    /// The kind of what stands at `path`, by its name and shape; contents are checked by whoever reads it.
    ///
    /// # Errors
    /// When it is none of the known kinds.
    pub fn of(path: &Path) -> Result<Self> {
        use crate::error::Context;
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default()
            .to_ascii_lowercase();
        match extension.as_str() {
            "onnx" => Ok(ArtifactKind::Onnx),
            "mlpackage" | "mlmodel" => Ok(ArtifactKind::Coreml),
            _ if path.join("Manifest.json").is_file() || coreml::is_compiled(path) => {
                Ok(ArtifactKind::Coreml)
            }
            _ if path.exists() => Ok(ArtifactKind::Checkpoint),
            _ => Err(crate::error::io_error("open", path)(
                std::io::ErrorKind::NotFound.into(),
            ))
            .at_file(path),
        }
    }
}

/// Precision of weights and arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Half precision.
    Fp16,
    /// Single precision.
    Fp32,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Fp16 => "fp16",
            Precision::Fp32 => "fp32",
        })
    }
}

/// How to read the source.
#[derive(Clone, Debug, Default)]
pub struct SourceOptions {
    /// Refuse a folder without a lock file.
    pub require_lock: bool,
    /// Attention of a model whose config does not state it.
    pub attention: Option<Attention>,
    /// Accept NaN and infinity in the weights.
    pub allow_nonfinite: bool,
    /// Precision of the frequencies of rotary positions; `None` decides by the reference outputs if there are any, and is `f32` otherwise.
    pub rotary: Option<RotaryFrequencies>,
    /// The function of a Core ML source; all of them for Core ML and the default one otherwise if none is named.
    pub function: Option<String>,
    /// Sizes and values that an ONNX source's inputs are given.
    pub onnx: onnx::ReadOptions,
}

/// A step that takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writing a target's weights, in bytes.
    Write(Target),
    /// Running and comparing, in engine runs.
    Verify,
}

/// Told how far a conversion has come.
pub trait Progress: Sync {
    /// A step of `total` units begins.
    fn begin(&self, step: Step, total: u64);
    /// `units` more are done.
    fn advance(&self, units: u64);
    /// The step is over.
    fn end(&self);
}

impl Progress for () {
    fn begin(&self, _: Step, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

/// Batch and sequence of the built model.
#[derive(Clone, Debug)]
pub struct Shapes {
    /// Batch size.
    pub batch: Extent,
    /// Sequence length.
    pub seq: Extent,
}

impl Shapes {
    /// Both as dynamic as the model allows.
    #[must_use]
    pub fn dynamic() -> Self {
        Shapes {
            batch: Extent::Dynamic { min: 1, max: None },
            seq: Extent::Dynamic { min: 1, max: None },
        }
    }

    /// As dynamic as the model allows, but for what `--dim` says.
    ///
    /// # Errors
    /// As [`Shapes::set`].
    pub(super) fn of_dims(dims: &BTreeMap<String, SymbolRange>) -> Result<Self> {
        let mut shapes = Shapes::dynamic();
        shapes.set(dims)?;
        Ok(shapes)
    }

    /// Gives batch and sequence the sizes that `--dim` says.
    ///
    /// # Errors
    /// When it names another size, or one far beyond any model.
    pub(super) fn set(&mut self, dims: &BTreeMap<String, SymbolRange>) -> Result<()> {
        for (name, range) in dims {
            match name.as_str() {
                "batch" => self.batch = extent(range),
                "seq" => {
                    check_length(range)?;
                    self.seq = extent(range);
                }
                _ => {
                    let reason = "the sizes of a model folder are `batch` and `seq`".into();
                    return Err(unfit_dim(name, range, reason).into());
                }
            }
        }
        Ok(())
    }

    /// As [`Shapes::set`], for an artifact that has these shapes already: `--dim` chooses among them.
    ///
    /// # Errors
    /// As [`Shapes::set`], and when the artifact does not take such a size.
    pub(super) fn choose(&mut self, dims: &BTreeMap<String, SymbolRange>) -> Result<()> {
        let before = self.clone();
        self.set(dims)?;
        for (name, range) in dims {
            let (all, chosen) = match name.as_str() {
                "batch" => (&before.batch, &self.batch),
                _ => (&before.seq, &self.seq),
            };
            if !all.holds(chosen) {
                let reason = format!("the artifact takes {all}");
                return Err(unfit_dim(name, range, reason).into());
            }
        }
        Ok(())
    }

    pub(super) fn arch_options(&self, source: &SourceOptions) -> arch::Options {
        arch::Options {
            batch: self.batch.clone(),
            seq: self.seq.clone(),
            attention: source.attention,
            rotary: source.rotary.unwrap_or_default(),
        }
    }
}

/// A conversion.
#[derive(Debug)]
pub struct Request {
    /// Model folder.
    pub model: PathBuf,
    /// What to write.
    pub targets: Vec<Target>,
    /// Where: a file or package for one target, a folder for several.
    pub output: Option<PathBuf>,
    /// Oldest system of a Core ML package.
    pub deployment_target: Option<DeploymentTarget>,
    /// Precision; the default depends on the target.
    pub precision: Option<Precision>,
    /// Shapes of inputs: what every axis may be.
    pub shape: Vec<(String, Vec<SymbolRange>)>,
    /// Sequence lengths.
    pub seq: Vec<usize>,
    /// ONNX operator set.
    pub opset: i64,
    /// ONNX weights in a side file, whatever their size.
    pub external_data: bool,
    /// Whether compressed weights are written as what they stand for; else they stay as they are stored where the target can say it.
    pub expand_weights: bool,
    /// What stays in `f32` in a half-precision artifact.
    pub fp32_ops: Vec<String>,
    /// How RMS normalisation is written in half precision (Core ML).
    pub rms_norm: RmsNormForm,
    /// How to read the source.
    pub source: SourceOptions,
    /// How to compare; `None` to only write.
    pub check: Option<Check>,
    /// What to record about the making.
    pub provenance: ProvenanceOptions,
}

/// The ONNX operator set that is written if none is asked for.
pub const DEFAULT_OPSET: i64 = 18;

/// Refuses the first flag of which it is true that it was given and changes nothing; each with what it is for.
pub(super) fn refuse_idle(rows: &[(bool, &'static str, &'static str)]) -> Result<()> {
    match rows.iter().find(|(idle, ..)| *idle) {
        Some((_, option, reason)) => Err(ConvertError::NoEffect { option, reason }.into()),
        None => Ok(()),
    }
}

/// Reads `NAME=1,128` or `NAME=1,3,320..640,320`: the shape of an input, each axis a size or a range of sizes.
///
/// # Errors
/// When the text is not of that form.
pub fn parse_shape(text: &str) -> Result<(String, Vec<SymbolRange>)> {
    let error = || ConvertError::Shape {
        text: text.to_owned(),
    };
    let (name, dims) = text.split_once('=').ok_or_else(error)?;
    let dims: Option<Vec<SymbolRange>> = dims.split(',').map(one_axis).collect();
    match dims {
        Some(dims) if !name.is_empty() => Ok((name.to_owned(), dims)),
        Some(_) | None => Err(error().into()),
    }
}

/// A size or `MIN..MAX`.
fn one_axis(text: &str) -> Option<SymbolRange> {
    let size = |text: &str| {
        let n = text.trim().parse::<u64>().ok();
        n.filter(|&n| n > 0 && n <= limits::DIMENSION)
    };
    match text.split_once("..") {
        Some((min, max)) => {
            let (min, max) = (size(min)?, size(max.trim_start_matches('='))?);
            (min <= max).then_some(SymbolRange::Between { min, max })
        }
        None => Some(SymbolRange::OneOf(vec![size(text)?])),
    }
}

/// The only size of a range, if it is that narrow.
pub(super) fn only(range: &SymbolRange) -> Option<usize> {
    match range {
        SymbolRange::OneOf(sizes) => match sizes.as_slice() {
            [one] => usize::try_from(*one).ok(),
            [..] => None,
        },
        SymbolRange::Between { min, max } if min == max => usize::try_from(*min).ok(),
        SymbolRange::Between { .. } => None,
    }
}

/// Sizes as the flags have them.
pub(super) fn sizes_text(range: &SymbolRange) -> String {
    match range {
        SymbolRange::Between { min, max } => format!("{min}..{max}"),
        SymbolRange::OneOf(sizes) => {
            let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
            sizes.join(",")
        }
    }
}

/// A shape as `--shape` has it.
pub(super) fn shape_text(name: &str, dims: &[SymbolRange]) -> String {
    let dims: Vec<String> = dims.iter().map(sizes_text).collect();
    format!("{name}={}", dims.join(","))
}

/// A `--dim` that cannot be had.
fn unfit_dim(name: &str, range: &SymbolRange, reason: String) -> ConvertError {
    ConvertError::ShapeMismatch {
        text: format!("{name}={}", sizes_text(range)),
        reason,
    }
}

/// Refuses lengths far beyond any model.
fn check_length(range: &SymbolRange) -> Result<()> {
    let most = match range {
        SymbolRange::OneOf(sizes) => sizes.last().copied().unwrap_or(0),
        SymbolRange::Between { max, .. } => *max,
    };
    if most <= limits::SEQUENCE {
        return Ok(());
    }
    Err(ConvertError::Length {
        length: num::usize_of(most),
        max: limits::SEQUENCE,
    }
    .into())
}

fn extent(range: &SymbolRange) -> Extent {
    match (only(range), range) {
        (Some(n), _) => Extent::Fixed(n),
        (None, SymbolRange::OneOf(sizes)) => {
            Extent::OneOf(sizes.iter().map(|&n| num::usize_of(n)).collect())
        }
        (None, SymbolRange::Between { min, max }) => Extent::Dynamic {
            min: num::usize_of(*min),
            max: Some(num::usize_of(*max)),
        },
    }
}

/// Reads `NAME=320`, `NAME=64,128,256` or `NAME=1..512`: what a size that varies may be.
///
/// # Errors
/// When the text is not of that form.
pub fn parse_dim(text: &str) -> Result<(String, SymbolRange)> {
    let error = || ConvertError::Dim {
        text: text.to_owned(),
    };
    // Names of sizes may hold anything; what follows the last `=` does not.
    let (name, spec) = text.rsplit_once('=').ok_or_else(error)?;
    let size = |text: &str| {
        let n = text.trim().parse::<u64>().ok();
        n.filter(|&n| n > 0 && n <= limits::DIMENSION)
            .ok_or_else(error)
    };
    let range = match spec.split_once("..") {
        Some((min, max)) => SymbolRange::Between {
            min: size(min)?,
            max: size(max.trim_start_matches('='))?,
        },
        None => {
            let mut sizes = spec.split(',').map(size).collect::<Result<Vec<_>, _>>()?;
            sizes.sort_unstable();
            sizes.dedup();
            SymbolRange::OneOf(sizes)
        }
    };
    if name.is_empty() {
        return Err(error().into());
    }
    Ok((name.to_owned(), range))
}

/// Reads `NAME=16000` or `NAME=1,2,3`: the value that an input is fixed at. Whole numbers become `i64`, others `f32`, `true` and `false` truth values.
///
/// # Errors
/// When the text is not of that form.
pub fn parse_constant(text: &str) -> Result<(String, Tensor)> {
    let error = || ConvertError::Constant {
        text: text.to_owned(),
    };
    let (name, value) = text.split_once('=').ok_or_else(error)?;
    let parts: Vec<&str> = value.split(',').map(str::trim).collect();
    let shape = if parts.len() == 1 {
        vec![]
    } else {
        vec![parts.len()]
    };
    if name.is_empty() || parts.iter().any(|p| p.is_empty()) {
        return Err(error().into());
    }
    let integers: Option<Vec<i64>> = parts.iter().map(|p| p.parse().ok()).collect();
    let truths: Option<Vec<bool>> = parts.iter().map(|p| p.parse().ok()).collect();
    let floats: Option<Vec<f32>> = parts.iter().map(|p| p.parse().ok()).collect();
    let tensor = match (integers, truths, floats) {
        (Some(v), _, _) => Tensor::int(DType::I64, shape, v)?,
        (None, Some(v), _) => Tensor::bool(shape, v)?,
        (None, None, Some(v)) => Tensor::f32(shape, v)?,
        (None, None, None) => return Err(error().into()),
    };
    Ok((name.to_owned(), tensor))
}

/// A source or artifact that is read: a package is one thing, beside the files of a model folder others may be written.
#[must_use]
pub fn named_model(flag: &str, path: &Path) -> Named {
    match ArtifactKind::of(path) {
        Ok(ArtifactKind::Coreml) => Named::whole(flag, path),
        Ok(ArtifactKind::Checkpoint | ArtifactKind::Onnx) | Err(_) => Named::new(flag, path),
    }
}

impl Request {
    pub(super) fn check(&self) -> Result<()> {
        if self.targets.is_empty() {
            return Err(ConvertError::NoTarget.into());
        }
        if self.targets.len() > 1
            && matches!(self.provenance.statement, Some(StatementPath::File(_)))
        {
            return Err(ConvertError::OneStatement.into());
        }
        if let Some(&length) = self
            .seq
            .iter()
            .find(|&&n| n == 0 || num::u64_of(n) > limits::SEQUENCE)
        {
            return Err(ConvertError::Length {
                length,
                max: limits::SEQUENCE,
            }
            .into());
        }
        self.check_name()?;
        self.check_effects()?;
        self.keep_apart(&[])
    }

    /// Refuses a name that says another format.
    fn check_name(&self) -> Result<()> {
        let ([target], Some(output)) = (self.targets.as_slice(), &self.output) else {
            return Ok(());
        };
        let found = output.extension().and_then(|e| e.to_str());
        let other = [Target::Coreml, Target::Onnx]
            .into_iter()
            .any(|t| t != *target && found.is_some_and(|e| e.eq_ignore_ascii_case(t.extension())));
        if !other {
            return Ok(());
        }
        Err(ConvertError::OutputName {
            target: target.name(),
            found: found.unwrap_or_default().to_owned(),
            expected: target.extension(),
        }
        .into())
    }

    /// A note about parts kept in single precision where all is.
    pub(super) fn idle_islands(&self) -> Option<String> {
        let half = |target: &Target| self.precision(*target) == Precision::Fp16;
        let idle = !self.fp32_ops.is_empty() && !self.targets.iter().any(half);
        idle.then(|| "`--fp32-ops` has no effect: nothing is in half precision".to_owned())
    }

    /// Refuses flags that change nothing about any target.
    fn check_effects(&self) -> Result<()> {
        let onnx = self.targets.contains(&Target::Onnx);
        let coreml = self.targets.contains(&Target::Coreml);
        let half = |target: &Target| self.precision(*target) == Precision::Fp16;
        let coreml_half = coreml && half(&Target::Coreml);
        let rows = [
            (
                self.opset != DEFAULT_OPSET && !onnx,
                "--opset",
                "it is for ONNX files",
            ),
            (
                self.external_data && !onnx,
                "--external-data",
                "it is for ONNX files",
            ),
            (
                self.deployment_target.is_some() && !coreml,
                "--deployment-target",
                "it is for Core ML packages",
            ),
            (
                self.rms_norm != RmsNormForm::default() && !coreml_half,
                "--rms-norm",
                "it is for Core ML packages in half precision",
            ),
        ];
        refuse_idle(&rows)
    }

    /// Refuses outputs in the place of the source, of another file that is read, or of each other. `more` are outputs that the caller writes.
    ///
    /// # Errors
    /// When two places meet; the error names both.
    pub fn keep_apart(&self, more: &[Named]) -> Result<()> {
        let mut inputs = vec![named_model("MODEL", &self.model)];
        if let Some(check) = &self.check {
            inputs.extend(check.named()?);
        }
        let mut outputs = Vec::new();
        for &target in &self.targets {
            let path = self.destination(target);
            let flag = match self.targets.len() {
                1 => "`-o`".to_owned(),
                _ => format!("`-o` (of `--target {}`)", target.name()),
            };
            let statement = crate::provenance::beside(&path);
            if target == Target::Onnx {
                let mut data = path.clone().into_os_string();
                data.push(".data");
                outputs.push(Named::new("the `.data` file of `-o`", Path::new(&data)));
            }
            outputs.push(Named::new(&flag, &path));
            match &self.provenance.statement {
                Some(StatementPath::Beside) => {
                    outputs.push(Named::new("`--provenance auto`", &statement));
                }
                Some(StatementPath::File(path)) => {
                    outputs.push(Named::new("`--provenance`", path));
                }
                None => {}
            }
        }
        outputs.extend_from_slice(more);
        keep_apart(&inputs, &outputs)
    }

    /// Whether anything is recorded about the making.
    pub(super) fn is_stated(&self) -> bool {
        self.provenance.embed || self.provenance.statement.is_some()
    }

    /// Refuses a `--shape` for an input that the built model does not have, or with dimensions that it does not take.
    pub(super) fn check_shapes(&self, module: &Module) -> Result<()> {
        let function = module.main()?;
        for (name, dims) in &self.shape {
            let declared = function.param(name).map(|p| function.ty(p.value));
            let fits = |dim: &Dim, range: &SymbolRange| match dim.as_symbol() {
                Some(symbol) => module.symbol(symbol).is_some_and(|s| s.range == *range),
                None => dim.known().is_some_and(|n| only(range) == Some(n)),
            };
            let all = |ty: &Type| {
                ty.rank() == dims.len() && ty.shape.iter().zip(dims).all(|(d, r)| fits(d, r))
            };
            if declared.is_some_and(all) {
                continue;
            }
            let reason = match declared {
                Some(ty) => format!("the input takes {ty}"),
                None => format!(
                    "there is no such input; the model has {}",
                    function
                        .params
                        .iter()
                        .map(|p| format!("`{}`", function.value(p.value).name))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            };
            let text = shape_text(name, dims);
            return Err(ConvertError::ShapeMismatch { text, reason }.into());
        }
        Ok(())
    }

    /// The precision of a target.
    #[must_use]
    pub fn precision(&self, target: Target) -> Precision {
        self.precision.unwrap_or(match target {
            Target::Coreml => Precision::Fp16,
            Target::Onnx => Precision::Fp32,
        })
    }

    /// Where a target is written.
    #[must_use]
    pub fn destination(&self, target: Target) -> PathBuf {
        let model = std::fs::canonicalize(&self.model).unwrap_or_else(|_| self.model.clone());
        // A package is a folder, and to people a file.
        let is_package = matches!(ArtifactKind::of(&model), Ok(ArtifactKind::Coreml));
        let is_file = model.is_file() || is_package;
        let folder = if is_file {
            model.parent().unwrap_or(&model)
        } else {
            &model
        };
        let cached = crate::source::hub::of_snapshot(folder);
        let cached = cached.as_ref().map(crate::source::hub::Pinned::model_name);
        // A file that is called as all are says nothing, but its folder may.
        let own = self.model.file_stem().and_then(|n| n.to_str());
        let own = own.filter(|n| is_file && !["model", "pytorch_model"].contains(n));
        let named = |stem: &str| format!("{stem}.{}", target.extension());
        let own = own.filter(|n| model.file_name().is_none_or(|m| m != named(n).as_str()));
        let stem = own
            .or(cached)
            .or_else(|| folder.file_name().and_then(|n| n.to_str()))
            .unwrap_or("model");
        let name = named(stem);
        match &self.output {
            Some(output) if self.targets.len() == 1 => output.clone(),
            Some(folder) => folder.join(name),
            None => PathBuf::from(name),
        }
    }

    /// The shapes of a target: those asked for, or its defaults.
    ///
    /// # Errors
    /// When `--shape` contradicts itself.
    pub fn shapes(&self, target: Target) -> Result<Shapes> {
        let mut shapes = match target {
            Target::Coreml => Shapes {
                batch: Extent::Fixed(1),
                seq: Extent::AtMost(DEFAULT_LENGTH),
            },
            Target::Onnx => Shapes::dynamic(),
        };
        let mut lengths = self.seq.clone();
        lengths.sort_unstable();
        lengths.dedup();
        match lengths.as_slice() {
            [] => {}
            [one] => shapes.seq = Extent::Fixed(*one),
            _ => shapes.seq = Extent::OneOf(lengths.clone()),
        }
        let mut given: Option<(&SymbolRange, Option<&SymbolRange>)> = None;
        for (name, dims) in &self.shape {
            let Some(first) = dims.first() else { continue };
            let this = (first, dims.get(1));
            if given.is_some_and(|other| other != this) || (!lengths.is_empty() && this.1.is_some())
            {
                let text = shape_text(name, dims);
                let reason =
                    "all inputs share batch and sequence, and `--seq` also sets the latter".into();
                return Err(ConvertError::ShapeMismatch { text, reason }.into());
            }
            given = Some(this);
        }
        if let Some((batch, seq)) = given {
            shapes.batch = extent(batch);
            if let Some(seq) = seq {
                check_length(seq)?;
                shapes.seq = extent(seq);
            }
        }
        for (name, range) in &self.source.onnx.dims {
            let twice = match name.as_str() {
                "batch" => given.is_some(),
                "seq" => given.is_some_and(|g| g.1.is_some()) || !lengths.is_empty(),
                _ => false,
            };
            if twice {
                return Err(
                    unfit_dim(name, range, "`--shape` or `--seq` gives it too".into()).into(),
                );
            }
        }
        shapes.set(&self.source.onnx.dims)?;
        Ok(shapes)
    }

    pub(super) fn onnx_options<'a>(
        &self,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> onnx::WriteOptions<'a> {
        onnx::WriteOptions {
            opset: self.opset,
            external_data: self.external_data.then_some(true),
            expand_weights: self.expand_weights,
            progress: Some(progress),
        }
    }

    pub(super) fn coreml_options<'a>(
        &self,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Result<coreml::WriteOptions<'a>> {
        Ok(coreml::WriteOptions {
            deployment_target: self.deployment_target.unwrap_or(DeploymentTarget::IOS17),
            explicit_target: self.deployment_target.is_some(),
            rms_norm: self.rms_norm,
            expand_weights: self.expand_weights,
            progress: Some(progress),
        })
    }
}
