//! `convert`: a model folder to verified files.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use distill_convert::arch::{Attention, RotaryFrequencies};
use distill_convert::convert::{
    self, Answered, Outcome, Precision, ProvenanceOptions, Request, SourceOptions, StatementPath,
    Target,
};
use distill_convert::coreml::{Basis, RmsNormForm, TypeChange};
use distill_convert::error::{Result, shown};
use distill_convert::ir::{CompressedWeights, Expanded};
use distill_convert::onnx::ReadOptions;
use distill_convert::passes::KeptInF32;
use distill_convert::provenance::{Signer, utc};
use distill_convert::source::hub::Pinned;

use super::args::{
    AttentionArg, ConvertArgs, NormArg, PrecisionArg, RotaryArg, SourceArgs, TargetArg,
};
use super::output::{Answer, Status, bytes};
use super::progress::Bar;
use super::verify::{Places, check, named_outputs};

pub(super) fn run(args: &ConvertArgs) -> Result<Answer> {
    let request = request(args)?;
    let formats: Vec<&str> = request.targets.iter().map(|t| t.name()).collect();
    request.keep_apart(&named_outputs(&args.check, &formats))?;
    let places = Places::take(&args.check, &formats)?;
    let mut outcome = convert::convert(&request, &Bar::new(args.output_format.json))?;
    let result = serde_json::to_value(&outcome).unwrap_or_default();
    let answered = outcome.artifacts.iter().filter_map(|a| {
        Some(Answered {
            format: a.target.name(),
            path: &a.path,
            report: a.verification.as_ref()?,
        })
    });
    let answered: Vec<Answered<'_>> = answered.collect();
    let notes = places.fill(&args.check, &args.model, &answered, &result)?;
    outcome.warnings.extend(notes);
    let status = if outcome.passed() {
        Status::Ok
    } else {
        Status::NotVerified
    };
    Ok(Answer {
        status,
        text: text(&outcome),
        result,
        warnings: outcome.warnings,
    })
}

pub(super) fn request(args: &ConvertArgs) -> Result<Request> {
    let mut targets: Vec<Target> = args.target.iter().map(|t| target(*t)).collect();
    targets.sort_unstable();
    targets.dedup();
    Ok(Request {
        model: source_path(&args.model, &args.source)?,
        targets,
        output: args.output.clone(),
        deployment_target: args
            .deployment_target
            .as_deref()
            .map(str::parse)
            .transpose()?,
        precision: args.precision.map(|p| match p {
            PrecisionArg::Fp16 => Precision::Fp16,
            PrecisionArg::Fp32 => Precision::Fp32,
        }),
        shape: args
            .shape
            .iter()
            .map(|s| convert::parse_shape(s))
            .collect::<Result<_>>()?,
        seq: args.seq.clone(),
        opset: args.opset,
        external_data: args.external_data,
        expand_weights: args.expand_weights,
        fp32_ops: args.fp32_ops.clone(),
        rms_norm: match args.rms_norm {
            NormArg::Concat => RmsNormForm::Concat,
            NormArg::Fp32 => RmsNormForm::Fp32,
            NormArg::Scaled => RmsNormForm::Scaled,
        },
        source: SourceOptions {
            function: args.function.clone(),
            ..source_options(&args.source)?
        },
        check: (!args.no_verify).then(|| check(&args.check)),
        provenance: provenance(args)?,
    })
}

/// The flags about provenance. A clock is read only as `SOURCE_DATE_EPOCH`, as reproducible builds have it.
fn provenance(args: &ConvertArgs) -> Result<ProvenanceOptions> {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
    let seconds = epoch.and_then(|text| text.trim().parse().ok());
    Ok(ProvenanceOptions {
        statement: args.provenance.as_ref().map(|path| {
            if path.as_os_str() == "auto" {
                StatementPath::Beside
            } else {
                StatementPath::File(path.clone())
            }
        }),
        embed: args.embed_provenance,
        signer: args.sign_key.as_deref().map(Signer::read).transpose()?,
        // Times beyond the year 9999 have no place in the format.
        finished_on: seconds.filter(|s| *s < 253_402_300_800).map(utc),
    })
}

fn target(target: TargetArg) -> Target {
    match target {
        TargetArg::Coreml => Target::Coreml,
        TargetArg::Onnx => Target::Onnx,
    }
}

/// Where the model is: the path that was given, or what it names in the cache.
pub(super) fn source_path(model: &Path, args: &SourceArgs) -> Result<PathBuf> {
    if !args.cache {
        return Ok(model.to_path_buf());
    }
    Pinned::parse(&model.to_string_lossy())?.cached()
}

/// The flags about reading the source.
pub(super) fn source_options(args: &SourceArgs) -> Result<SourceOptions> {
    let dims = args.dim.iter().map(|d| convert::parse_dim(d));
    let constants = args.constant.iter().map(|c| convert::parse_constant(c));
    Ok(SourceOptions {
        require_lock: args.require_lock,
        attention: args.attention.map(|a| match a {
            AttentionArg::Causal => Attention::Causal,
            AttentionArg::Bidirectional => Attention::Bidirectional,
        }),
        allow_nonfinite: args.allow_nonfinite,
        rotary: args.rotary_frequencies.map(|r| match r {
            RotaryArg::F32 => RotaryFrequencies::F32,
            RotaryArg::Stored => RotaryFrequencies::Stored,
        }),
        function: None,
        onnx: ReadOptions {
            dims: dims.collect::<Result<_>>()?,
            constants: constants.collect::<Result<_>>()?,
            stale_shapes: args.allow_stale_shapes,
            ..ReadOptions::default()
        },
    })
}

fn text(outcome: &Outcome) -> String {
    let mut out = String::new();
    for artifact in &outcome.artifacts {
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "wrote {}  {}  {}  from {}",
            artifact.path.display(),
            bytes(artifact.bytes),
            artifact.format,
            outcome.architecture,
        );
        if let Some(cleaned) = &artifact.cleaned {
            let text = cleaned.text();
            let text = if text.is_empty() {
                text
            } else {
                format!(": {text}")
            };
            let _ = writeln!(
                out,
                "cleaned: {} of {} nodes left{text}",
                cleaned.nodes_after, cleaned.nodes_before,
            );
        }
        if let Some(weights) = compressed(&artifact.compressed) {
            let _ = writeln!(out, "weights: {weights}");
        }
        if let Some(precision) = &artifact.precision {
            let _ = writeln!(
                out,
                "fp16: {} nodes, {} kept in fp32{}",
                precision.f16_nodes,
                precision.kept_in_f32.len(),
                commonest(&precision.kept_in_f32)
            );
        }
        if !artifact.type_changes.is_empty() {
            let _ = writeln!(out, "types: {}", types(&artifact.type_changes));
        }
        match &artifact.verification {
            Some(report) => out.push_str(&report.human()),
            None => out.push_str("not verified (--no-verify)\n"),
        }
    }
    out
}

/// The commonest reason for single precision, with the first node that has it.
fn commonest(kept: &[KeptInF32]) -> String {
    let count = |reason: &str| kept.iter().filter(|k| k.reason == reason).count();
    // The first of those that are as common.
    let most = kept.iter().rev().max_by_key(|k| count(&k.reason));
    most.map_or_else(String::new, |k| {
        let n = count(&k.reason);
        format!(": {} ({n}, first `{}`)", shown(&k.reason), shown(&k.node))
    })
}

/// What became of compressed weights, if there are any.
fn compressed(weights: &CompressedWeights) -> Option<String> {
    let mut parts = Vec::new();
    if weights.kept > 0 {
        parts.push(format!(
            "{} stay compressed ({}, {} expanded)",
            weights.kept,
            bytes(weights.kept_bytes),
            bytes(weights.kept_expanded_bytes)
        ));
    }
    if !weights.expanded.is_empty() {
        let sum = |of: fn(&Expanded) -> u64| weights.expanded.iter().map(of).sum();
        parts.push(format!(
            "{} expanded ({} to {}){}",
            weights.expanded.len(),
            bytes(sum(|e| e.stored_bytes)),
            bytes(sum(|e| e.expanded_bytes)),
            if weights.asked { ", as asked" } else { "" }
        ));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// How many types changed on which basis; the report lists them.
fn types(changes: &[TypeChange]) -> String {
    let count = |basis| changes.iter().filter(|c| c.basis == basis).count();
    let parts = [
        (count(Basis::Exact), "exact"),
        (count(Basis::Proof), "proven to fit"),
        (count(Basis::RunTimeCheck), "checked in every run"),
        (count(Basis::Rounding), "rounded"),
    ];
    let parts = parts.iter().filter(|(n, _)| *n > 0);
    let parts: Vec<String> = parts.map(|(n, how)| format!("{n} {how}")).collect();
    format!("{} changed: {}", changes.len(), parts.join(", "))
}
