//! What a model folder or an artifact holds, as one JSON value.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::opened::Compared;
use super::request::{ArtifactKind, Shapes, SourceOptions};
use crate::error::Result;
use crate::ir::{Module, Type};
use crate::tensor::num;
use crate::{coreml, onnx};

/// Interface, element types, shapes, op counts, parameters, bytes by element type, metadata.
///
/// # Errors
/// When the model is not as its lock says, or cannot be read.
pub fn inspect(model: &Path, options: &SourceOptions) -> Result<Value> {
    let compared = Compared::of(model, options.require_lock)?;
    let summary = |value: serde_json::Result<Value>| value.unwrap_or_default();
    let found = match ArtifactKind::of(model)? {
        ArtifactKind::Onnx => summary(serde_json::to_value(onnx::inspect(model)?)),
        ArtifactKind::Coreml => summary(serde_json::to_value(coreml::inspect(model)?)),
        ArtifactKind::Checkpoint => checkpoint(model, options)?,
    };
    compared.still_holds()?;
    Ok(found)
}

fn checkpoint(model: &Path, options: &SourceOptions) -> Result<Value> {
    let checkpoint = super::open(model, options)?;
    let built = super::build(&checkpoint, options, &Shapes::of_dims(&options.onnx.dims)?)?;
    let (mut parameters, mut bytes) = (0u64, BTreeMap::new());
    for tensor in checkpoint.tensors.values() {
        parameters += tensor
            .shape
            .iter()
            .map(|&d| num::u64_of(d))
            .product::<u64>();
        *bytes.entry(tensor.dtype.name()).or_insert(0u64) += tensor.region.len;
    }
    let files: Vec<Value> = checkpoint
        .digests()?
        .into_iter()
        .map(|f| json!({"path": f.path, "sha256": f.sha256, "size_bytes": f.size}))
        .collect();
    Ok(json!({
        "architecture": built.architecture,
        "files": files,
        "format": "safetensors",
        "inputs": params(&built.module)?,
        "op_counts": op_counts(&built.module)?,
        "outputs": outputs(&built.module)?,
        "parameters": parameters,
        "revision": checkpoint.revision,
        "tensors": checkpoint.tensors.len(),
        "warnings": checkpoint.notes.iter().chain(&built.warnings).collect::<Vec<_>>(),
        "weight_bytes": bytes,
    }))
}

fn described(name: &str, ty: &Type) -> Value {
    let shape: Vec<String> = ty.shape.iter().map(ToString::to_string).collect();
    json!({"name": name, "dtype": ty.dtype.name(), "shape": shape})
}

fn params(module: &Module) -> Result<Vec<Value>> {
    let function = module.main()?;
    Ok(function
        .params
        .iter()
        .map(|p| described(&function.value(p.value).name, function.ty(p.value)))
        .collect())
}

fn outputs(module: &Module) -> Result<Vec<Value>> {
    let function = module.main()?;
    Ok(function
        .outputs
        .iter()
        .map(|o| described(&o.name, function.ty(o.value)))
        .collect())
}

fn op_counts(module: &Module) -> Result<BTreeMap<&'static str, usize>> {
    let mut counts = BTreeMap::new();
    for node in &module.main()?.nodes {
        *counts.entry(node.op.name()).or_insert(0) += 1;
    }
    Ok(counts)
}
