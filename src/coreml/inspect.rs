//! What a Core ML model holds, whether or not its operations can be read: interface, functions, operations, weights, metadata.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::dtype::BlobType;
use super::import::{ImportError, declared};
use super::interface::{Feature, features};
use super::proto::Metadata;
use super::proto::mil_spec::value::Value as Source;
use super::proto::mil_spec::{Block, Operation};
use super::read::{Opened, block};
use super::source_names;
use super::weights::{self, Compressed, LargeConstant, Need};
use crate::error::{Context, Result};
use crate::limits;
use crate::tensor::{DType, num};

/// What [`inspect`] found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Specification version: 6 (iOS 15) to 10 (iOS 26).
    pub spec_version: i32,
    /// Opset of the default function: `CoreML7`.
    pub opset: String,
    /// Inputs of the default function.
    pub inputs: Vec<Feature>,
    /// Outputs of the default function.
    pub outputs: Vec<Feature>,
    /// States of the default function.
    pub states: Vec<Feature>,
    /// How often each operation occurs, per function, constants left out.
    pub functions: BTreeMap<String, BTreeMap<String, usize>>,
    /// How often each operation occurs in the default function, constants left out.
    pub ops: BTreeMap<String, usize>,
    /// Since when each operation of all functions is there, constants left out.
    pub needs: BTreeMap<String, Need>,
    /// Number of weights: elements of the weight file, and of floating-point vectors and matrices in the program.
    pub parameters: u64,
    /// Number of arrays in the weight file, each once.
    pub blobs: usize,
    /// Bytes of weights by element type.
    pub weight_bytes: BTreeMap<String, u64>,
    /// Weights by the operation that expands them.
    pub compressed: BTreeMap<String, Compressed>,
    /// The largest constants, largest first.
    pub largest: Vec<LargeConstant>,
    /// The author's short description.
    pub short_description: String,
    /// The author.
    pub author: String,
    /// The licence.
    pub license: String,
    /// The author's version of the model.
    pub version: String,
    /// Identifier → name in the source, of inputs, outputs and states that had to be called otherwise.
    pub source_names: BTreeMap<String, String>,
    /// Metadata that the author named.
    pub metadata: BTreeMap<String, String>,
}

/// Looks into a `.mlpackage` folder, or a `.mlmodel` file with its weights beside it. Weights are not read.
///
/// # Errors
/// When the package is malformed or unsafe, or is no ML Program.
pub fn inspect(path: &Path) -> Result<Summary> {
    let opened = Opened::open(path)?;
    summary(&opened).at_file(&opened.model_path)
}

fn summary(opened: &Opened) -> Result<Summary> {
    let program = opened.program()?;
    let described = opened.described()?;
    let metadata = opened.description()?.metadata.clone().unwrap_or_default();
    let Metadata {
        short_description,
        version_string,
        author,
        license,
        user_defined,
    } = metadata;
    let mut out = Summary {
        spec_version: opened.model.specification_version,
        inputs: features(described.inputs)?,
        outputs: features(described.outputs)?,
        states: features(described.states)?,
        short_description,
        author,
        license,
        version: version_string,
        metadata: user_defined,
        ..Summary::default()
    };
    let features = out.inputs.iter().chain(&out.outputs).chain(&out.states);
    let features = features.map(|f| f.name.as_str()).collect();
    out.source_names = source_names::parse(&out.metadata, &features)?;
    for (name, function) in &program.functions {
        let (block, opset) = block(function, out.spec_version).at_node(name)?;
        let mut ops = BTreeMap::new();
        count(block, &mut ops, &mut out)?;
        if *name == described.name {
            opset.name().clone_into(&mut out.opset);
            out.ops.clone_from(&ops);
        }
        out.functions.insert(name.clone(), ops);
    }
    let weights = weights::of(program);
    (out.needs, out.compressed, out.largest) = (weights.needs, weights.compressed, weights.largest);
    for record in opened.blobs.iter().flat_map(|b| b.records()) {
        let name = match record.ty {
            BlobType::Known(dtype) => dtype.name(),
            BlobType::Float8 => "f8",
        };
        let bits = record
            .bytes
            .saturating_mul(8)
            .saturating_sub(record.padding_bits);
        out.blobs += 1;
        out.parameters += bits / u64::from(record.ty.bits());
        *out.weight_bytes.entry(name.to_owned()).or_insert(0) += record.bytes;
    }
    Ok(out)
}

/// Counts the operations of a block and of the blocks inside it, and the weights that the program itself holds.
fn count(
    block: &Block,
    ops: &mut BTreeMap<String, usize>,
    out: &mut Summary,
) -> Result<(), ImportError> {
    let mut open = vec![(block, 0)];
    while let Some((block, depth)) = open.pop() {
        if depth > limits::NESTING.count() {
            return Err(ImportError::TooMany {
                what: "nested blocks",
                limit: limits::NESTING.to_string(),
                found: depth,
            });
        }
        for operation in &block.operations {
            if operation.r#type == "const" {
                if let Some((dtype, elements)) = immediate(operation) {
                    out.parameters += elements;
                    let bytes = dtype.bytes_for(elements).unwrap_or(0);
                    *out.weight_bytes.entry(dtype.name().to_owned()).or_insert(0) += bytes;
                }
            } else {
                *ops.entry(operation.r#type.clone()).or_insert(0) += 1;
            }
            open.extend(operation.blocks.iter().map(|b| (b, depth + 1)));
        }
    }
    Ok(())
}

/// Element type and number of elements of a constant that is a weight inside the program.
fn immediate(operation: &Operation) -> Option<(DType, u64)> {
    let value = operation.attributes.get("val")?;
    if !matches!(value.value, Some(Source::ImmediateValue(_))) {
        return None;
    }
    let declared = declared(value.r#type.as_ref()).ok()?;
    let dtype = declared.element().ok()?;
    let shape = declared
        .shape
        .filter(|s| !s.is_empty() && dtype.is_float())?;
    let elements = shape
        .into_iter()
        .try_fold(1u64, |n, d| n.checked_mul(d?))
        .filter(|&n| n <= num::u64_of(limits::STREAM_CHUNK_BYTES))?;
    Some((dtype, elements))
}
