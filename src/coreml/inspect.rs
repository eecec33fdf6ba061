//! What a Core ML model holds, whether or not its operations can be read: interface, functions, operations, weights, metadata.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::dtype::BlobType;
use super::import::{ImportError, declared};
use super::interface::{Feature, features};
use super::needs::{self, Least, Need};
use super::proto::Metadata;
use super::proto::mil_spec::argument::binding::Binding;
use super::proto::mil_spec::tensor_value::Value as Field;
use super::proto::mil_spec::value::Value as Source;
use super::proto::mil_spec::value::immediate_value::Value as Immediate;
use super::proto::mil_spec::{Block, Operation, Value};
use super::read::{Opened, block};
use super::source_names;
use super::weights::{self, Compressed, LargeCompressed, LargeConstant};
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
    /// Interface of every function, where there are several.
    pub interfaces: BTreeMap<String, FunctionSummary>,
    /// The labels of a classifier.
    pub classifier: Option<Classes>,
    /// Since when each operation of all functions is there with its parameters and their element types, constants left out.
    pub needs: BTreeMap<String, Need>,
    /// Since when each element type of all functions is there as it is used: as a constant, or as what is computed.
    pub type_needs: BTreeMap<String, Need>,
    /// Since when there is what the interface has, as far as that is not in the first opset.
    pub interface_needs: BTreeMap<String, Need>,
    /// What all that needs together.
    pub least: Least,
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
    /// The compressed weights that take the most bytes, largest first.
    pub largest_compressed: Vec<LargeCompressed>,
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

/// The interface of one function.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FunctionSummary {
    /// Opset: `CoreML7`.
    pub opset: String,
    /// Inputs.
    pub inputs: Vec<Feature>,
    /// Outputs.
    pub outputs: Vec<Feature>,
    /// States.
    pub states: Vec<Feature>,
}

/// The labels of a classifier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Classes {
    /// The output that is the label.
    pub label: String,
    /// The output that is the probabilities.
    pub probabilities: String,
    /// How many labels there are.
    pub count: usize,
    /// The first of them.
    pub first: Vec<String>,
}

/// How many labels are shown.
const LABELS: usize = 5;

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
    let named = out.inputs.iter().chain(&out.outputs).chain(&out.states);
    let named = named.map(|f| f.name.as_str()).collect();
    out.source_names = source_names::parse(&out.metadata, &named)?;
    for (name, function) in &program.functions {
        let (block, opset) = block(function, out.spec_version).at_node(name)?;
        let mut ops = BTreeMap::new();
        count(block, &mut ops, &mut out)?;
        if program.functions.len() > 1 {
            let described = opened.described_as(Some(name))?;
            let interface = FunctionSummary {
                opset: opset.name().to_owned(),
                inputs: self::features(described.inputs)?,
                outputs: self::features(described.outputs)?,
                states: self::features(described.states)?,
            };
            out.interfaces.insert(name.clone(), interface);
        }
        if *name == described.name {
            opset.name().clone_into(&mut out.opset);
            out.ops.clone_from(&ops);
            let mut operations = block.operations.iter();
            let classify = operations.find(|op| op.r#type == "classify");
            out.classifier = classify.map(classes);
        }
        out.functions.insert(name.clone(), ops);
    }
    let weights = weights::of(program);
    (out.needs, out.type_needs) = (weights.needs, weights.type_needs);
    (out.compressed, out.largest) = (weights.compressed, weights.largest);
    out.largest_compressed = weights.largest_compressed;
    for (what, (opset, names)) in needs::of_interface(opened.description()?) {
        let entry = out.interface_needs.entry(what.to_owned()).or_default();
        names.iter().for_each(|_| entry.add(Some(opset)));
    }
    out.least = Least::of(
        out.needs
            .iter()
            .chain(&out.type_needs)
            .chain(&out.interface_needs),
    );
    for record in opened.blobs.iter().flat_map(|(_, b)| b.records()) {
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

/// The labels that an operation is given.
fn classes(op: &Operation) -> Classes {
    let result = |i: usize| op.outputs.get(i).map_or(String::new(), |o| o.name.clone());
    let mut labels: Vec<String> = Vec::new();
    let given = op.inputs.get("classes");
    for binding in given.iter().flat_map(|a| &a.arguments) {
        let Some(Binding::Value(Value {
            value: Some(Source::ImmediateValue(immediate)),
            ..
        })) = &binding.binding
        else {
            continue;
        };
        let elements: Vec<&Value> = match &immediate.value {
            Some(Immediate::List(list)) => list.values.iter().collect(),
            Some(Immediate::Tensor(_) | Immediate::Tuple(_) | Immediate::Dictionary(_)) | None => {
                continue;
            }
        };
        for element in elements {
            let Some(Source::ImmediateValue(immediate)) = &element.value else {
                continue;
            };
            if let Some(Immediate::Tensor(tensor)) = &immediate.value {
                match &tensor.value {
                    Some(Field::Strings(v)) => labels.extend(v.values.iter().cloned()),
                    Some(Field::LongInts(v)) => {
                        labels.extend(v.values.iter().map(ToString::to_string));
                    }
                    Some(
                        Field::Floats(_)
                        | Field::Ints(_)
                        | Field::Bools(_)
                        | Field::Doubles(_)
                        | Field::Bytes(_),
                    )
                    | None => {}
                }
            }
        }
    }
    let count = labels.len();
    labels.truncate(LABELS);
    Classes {
        label: result(0),
        probabilities: result(1),
        count,
        first: labels,
    }
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
