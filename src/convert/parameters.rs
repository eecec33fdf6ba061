//! What of a request is recorded in its statement: everything that can change the artifact.
//!
//! Every field of a request is named here, so that a new one does not compile until somebody has decided what it is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::check::Check;
use super::request::{Request, SourceOptions, Target, only, sizes_text};
use super::statement::ProvenanceOptions;
use crate::ir::SymbolRange;
use crate::onnx::ReadOptions;
use crate::tensor::{Storage, Tensor};

impl Request {
    /// What the user asked for, as a statement of an artifact for `target` has it. Files are not among it, since their digests are stated,
    /// and neither are paths: they differ between machines, the artifact does not.
    #[must_use]
    pub fn parameters(&self, target: Target) -> BTreeMap<String, Value> {
        let Request {
            // Read and written files.
            model: _,
            targets: _,
            output: _,
            deployment_target,
            // By its value for the target.
            precision: _,
            shape,
            seq,
            opset,
            external_data,
            expand_weights,
            fp32_ops,
            rms_norm,
            source,
            check,
            provenance,
        } = self;
        let SourceOptions {
            require_lock,
            attention,
            allow_nonfinite,
            rotary,
            function,
            onnx,
        } = source;
        let ReadOptions {
            // Made of `shape` and of the target.
            shapes: _,
            closed: _,
            dims,
            constants,
            stale_shapes,
        } = onnx;
        let ProvenanceOptions {
            embed,
            // Where the statement goes, who signs it and when.
            statement: _,
            signer: _,
            finished_on: _,
        } = provenance;
        let mut map = BTreeMap::new();
        let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
        put("target", target.name().into());
        put("precision", self.precision(target).to_string().into());
        put("allow_nonfinite", (*allow_nonfinite).into());
        put("require_lock", (*require_lock).into());
        if let Some(attention) = attention {
            put("attention", format!("{attention:?}").to_lowercase().into());
        }
        if let Some(rotary) = rotary {
            let rotary = format!("{rotary:?}").to_lowercase();
            put("rotary_frequencies", rotary.into());
        }
        if let Some(function) = function {
            put("function", function.clone().into());
        }
        if !dims.is_empty() {
            let dims: BTreeMap<_, _> = dims.iter().map(|(n, r)| (n, size_json(r))).collect();
            put("dim", json!(dims));
        }
        if !constants.is_empty() {
            let values: BTreeMap<_, _> = constants.iter().map(|(n, t)| (n, text_of(t))).collect();
            put("constant", json!(values));
        }
        if *stale_shapes {
            put("allow_stale_shapes", true.into());
        }
        if !seq.is_empty() {
            put("seq", json!(seq));
        }
        if !shape.is_empty() {
            let sizes = |dims: &[SymbolRange]| dims.iter().map(size_json).collect::<Vec<_>>();
            let shapes: BTreeMap<_, _> = shape.iter().map(|(n, d)| (n, sizes(d))).collect();
            put("shape", json!(shapes));
        }
        if !fp32_ops.is_empty() {
            put("fp32_ops", json!(fp32_ops));
        }
        if *expand_weights {
            put("expand_weights", true.into());
        }
        if *embed {
            put("embed_provenance", true.into());
        }
        match check {
            None => {
                put("no_verify", true.into());
            }
            Some(Check {
                reference_tolerance,
                // Files, whose digests are stated, and an engine, which is named where it ran.
                reference: _,
                inputs: _,
                task: _,
                onnxruntime: _,
            }) => {
                if let Some(tolerance) = reference_tolerance {
                    put("reference_tolerance", json!(tolerance));
                }
            }
        }
        match target {
            Target::Coreml => {
                put("rms_norm", format!("{rms_norm:?}").to_lowercase().into());
                if let Some(oldest) = deployment_target {
                    put("deployment_target", oldest.to_string().into());
                }
            }
            Target::Onnx => {
                put("opset", (*opset).into());
                put("external_data", (*external_data).into());
            }
        }
        map
    }
}

/// A size as a number, a range as the flag has it.
fn size_json(range: &SymbolRange) -> Value {
    match only(range) {
        Some(n) => json!(n),
        None => json!(sizes_text(range)),
    }
}

/// The values of `--constant` as the flag has them: whole numbers and others stay apart.
fn text_of(tensor: &Tensor) -> String {
    fn list<T: std::fmt::Debug>(values: &[T]) -> String {
        let texts: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
        texts.join(",")
    }
    match tensor.storage() {
        Storage::Float(values) => list(values),
        Storage::Int(values) => list(values),
        Storage::Bool(values) => list(values),
    }
}
