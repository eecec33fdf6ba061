//! What a model file says about itself, read without its weights.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::error::OnnxError;
use super::external::Beside;
use super::import::{display_op, is_read, standard};
use super::proto::{
    NodeProto, SparseTensorProto, TensorProto, ValueInfoProto, tensor_proto::DataLocation,
    tensor_shape_proto, type_proto,
};
use super::types::{data_type_bits, data_type_name};
use super::wire;
use crate::error::{Context, Result};
use crate::tensor::FileRegion;

/// One axis of an input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Axis {
    /// A known size.
    Known(i64),
    /// A named size; `?` if it has no name.
    Symbol(String),
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Element type; for what is not a tensor, its kind.
    pub dtype: String,
    /// Shape; absent if the rank is not known.
    pub shape: Option<Vec<Axis>>,
}

/// An initialiser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LargeInitializer {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: String,
    /// Shape.
    pub shape: Vec<i64>,
    /// Bytes.
    pub bytes: u64,
}

/// How many of the largest initialisers are named.
const LARGEST: usize = 10;

/// What a model file says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Name of the graph.
    pub name: String,
    /// IR version.
    pub ir_version: i64,
    /// Domain → version; the standard domain is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// Name and version of what wrote the file.
    pub producer: String,
    /// Inputs without an initialiser.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
    /// Operator → number of nodes, subgraphs and functions included.
    pub ops: BTreeMap<String, usize>,
    /// Number of initialisers.
    pub initializers: usize,
    /// Elements of all floating-point tensors, those inside nodes, subgraphs and functions included.
    pub parameters: u64,
    /// Element type → bytes of these tensors and of all others.
    pub weight_bytes: BTreeMap<String, u64>,
    /// The largest initialisers, largest first.
    pub largest: Vec<LargeInitializer>,
    /// Operators that are not read → number of nodes, subgraphs and functions included.
    pub unsupported_ops: BTreeMap<String, usize>,
    /// Operators whose kernels in ONNX Runtime are approximate by design → number of nodes, subgraphs and functions included: what the file says is
    /// computed in floats, they compute in 8 bits.
    pub approximate_ops: BTreeMap<String, usize>,
    /// Operators that multiply 8-bit integers and add up the products → number of nodes, subgraphs and functions included: ONNX Runtime's sums
    /// saturate on some processors.
    pub eight_bit_ops: BTreeMap<String, usize>,
    /// Files with external data.
    pub external_files: BTreeSet<String>,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Reads what the model at `path` says about itself. Weights are not read, but their lengths are checked, and external data is confined to the model's folder.
///
/// # Errors
/// When the file is not a valid model.
pub fn inspect(path: &Path) -> Result<Summary> {
    summary(path).at_file(path)
}

fn summary(path: &Path) -> Result<Summary> {
    let wire::Model { proto, raw } = wire::read(path)?;
    let graph = proto.graph.unwrap_or_default();
    let mut out = Summary {
        name: graph.name.clone().unwrap_or_default(),
        ir_version: proto.ir_version.unwrap_or_default(),
        producer: [proto.producer_name, proto.producer_version]
            .into_iter()
            .flatten()
            .filter(|s| !s.is_empty())
            .collect::<Vec<_>>()
            .join(" "),
        initializers: graph.initializer.len(),
        ..Summary::default()
    };
    for opset in proto.opset_import {
        let domain = opset.domain.filter(|d| !d.is_empty());
        out.opsets.insert(
            domain.unwrap_or_else(|| "ai.onnx".into()),
            opset.version.unwrap_or_default(),
        );
    }
    for entry in proto.metadata_props {
        out.metadata.insert(
            entry.key.unwrap_or_default(),
            entry.value.unwrap_or_default(),
        );
    }
    let mut beside = Beside::new(path.parent().unwrap_or(Path::new("")));
    let mut largest = Vec::new();
    for (tensor, region) in graph.initializer.iter().zip(&raw) {
        let name = tensor.name.clone().unwrap_or_default();
        let bytes = add_tensor(tensor, region.as_ref(), &mut beside, &mut out).at_tensor(&name)?;
        largest.push((Reverse(bytes), name, tensor));
    }
    let mut find = |tensor: &TensorProto| {
        let name = tensor.name.as_deref().unwrap_or_default();
        let added = add_tensor(tensor, None, &mut beside, &mut out);
        added.at_tensor(name).map(|_| ())
    };
    sparse(&graph.sparse_initializer).try_for_each(&mut find)?;
    inner_tensors(&graph.node, &mut find)?;
    for function in &proto.functions {
        inner_tensors(&function.node, &mut find)?;
    }
    out.external_files.extend(beside.locations());
    largest.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let named = largest.into_iter().take(LARGEST);
    out.largest = named
        .map(|(Reverse(bytes), name, tensor)| LargeInitializer {
            name,
            dtype: data_type_name(tensor.data_type.unwrap_or_default()),
            shape: tensor.dims.clone(),
            bytes,
        })
        .collect();
    let initialised: BTreeSet<&str> = graph
        .initializer
        .iter()
        .filter_map(|t| t.name.as_deref())
        .collect();
    out.inputs = graph
        .input
        .iter()
        .filter(|i| !initialised.contains(i.name.as_deref().unwrap_or_default()))
        .map(port)
        .collect();
    out.outputs = graph.output.iter().map(port).collect();
    let mut nodes: Vec<&[NodeProto]> = vec![&graph.node];
    nodes.extend(proto.functions.iter().map(|f| f.node.as_slice()));
    let own: BTreeSet<String> = proto
        .functions
        .iter()
        .map(|f| {
            display_op(
                standard(f.domain.as_deref()),
                f.name.as_deref().unwrap_or_default(),
            )
        })
        .collect();
    for nodes in nodes {
        count_nodes(nodes, &mut |node| {
            let domain = standard(node.domain.as_deref());
            let op = node.op_type.as_deref().unwrap_or_default();
            let name = display_op(domain, op);
            if !is_read(domain, op) && !own.contains(&name) {
                *out.unsupported_ops.entry(name.clone()).or_insert(0) += 1;
            }
            if is_approximate(domain, op, node) {
                *out.approximate_ops.entry(name.clone()).or_insert(0) += 1;
            }
            if adds_eight_bit_products(domain, op) {
                *out.eight_bit_ops.entry(name.clone()).or_insert(0) += 1;
            }
            *out.ops.entry(name).or_insert(0) += 1;
        });
    }
    Ok(out)
}

/// Recursion ends where the parser's limit ended it.
fn count_nodes(nodes: &[NodeProto], count: &mut dyn FnMut(&NodeProto)) {
    for node in nodes {
        count(node);
        for attribute in &node.attribute {
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                count_nodes(&graph.node, count);
            }
        }
    }
}

/// Whether ONNX Runtime rounds the operands of a node to 8 bits that are floats in the file. `DynamicQuantizeLSTM` always does;
/// `MatMulNBits` where its accuracy level, an upper bound, allows for `int8`.
fn is_approximate(domain: &str, op: &str, node: &NodeProto) -> bool {
    /// Accuracy level of `int8`.
    const INT8: i64 = 4;
    let level = || {
        let mut attributes = node.attribute.iter();
        let level = attributes.find(|a| a.name.as_deref() == Some("accuracy_level"));
        level.and_then(|a| a.i).unwrap_or_default()
    };
    match (domain, op) {
        ("com.microsoft", "DynamicQuantizeLSTM") => true,
        ("com.microsoft", "MatMulNBits") => level() >= INT8,
        (_, _) => false,
    }
}

/// Whether an operator multiplies 8-bit integers and adds up the products.
fn adds_eight_bit_products(domain: &str, op: &str) -> bool {
    match domain {
        "" => [
            "MatMulInteger",
            "ConvInteger",
            "QLinearMatMul",
            "QLinearConv",
        ]
        .contains(&op),
        "com.microsoft" => [
            "DynamicQuantizeMatMul",
            "MatMulIntegerToFloat",
            "QAttention",
            "QGemm",
            "QLinearConv",
        ]
        .contains(&op),
        _ => false,
    }
}

fn port(info: &ValueInfoProto) -> Port {
    use tensor_shape_proto::dimension::Value;
    let name = info.name.clone().unwrap_or_default();
    let kind = |dtype: &str| Port {
        name: name.clone(),
        dtype: dtype.to_owned(),
        shape: None,
    };
    match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        None => kind("?"),
        Some(type_proto::Value::SequenceType(_)) => kind("sequence"),
        Some(type_proto::Value::MapType(_)) => kind("map"),
        Some(type_proto::Value::OpaqueType(_)) => kind("opaque"),
        Some(type_proto::Value::SparseTensorType(_)) => kind("sparse tensor"),
        Some(type_proto::Value::OptionalType(_)) => kind("optional"),
        Some(type_proto::Value::TensorType(tensor)) => Port {
            dtype: data_type_name(tensor.elem_type.unwrap_or_default()),
            shape: tensor.shape.as_ref().map(|shape| {
                shape
                    .dim
                    .iter()
                    .map(|dim| match &dim.value {
                        Some(Value::DimValue(n)) => Axis::Known(*n),
                        Some(Value::DimParam(name)) if !name.is_empty() => {
                            Axis::Symbol(name.clone())
                        }
                        Some(Value::DimParam(_)) | None => Axis::Symbol("?".into()),
                    })
                    .collect()
            }),
            name,
        },
    }
}

/// The parts of sparse tensors.
fn sparse(tensors: &[SparseTensorProto]) -> impl Iterator<Item = &TensorProto> {
    let parts = tensors.iter().flat_map(|t| [&t.values, &t.indices]);
    parts.filter_map(Option::as_ref)
}

/// Visits the tensors of attributes and of graphs inside nodes.
fn inner_tensors(
    nodes: &[NodeProto],
    visit: &mut dyn FnMut(&TensorProto) -> Result<()>,
) -> Result<()> {
    for attribute in nodes.iter().flat_map(|node| &node.attribute) {
        attribute
            .t
            .iter()
            .chain(&attribute.tensors)
            .chain(sparse(&attribute.sparse_tensors))
            .chain(sparse(attribute.sparse_tensor.as_slice()))
            .try_for_each(&mut *visit)?;
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            graph.initializer.iter().try_for_each(&mut *visit)?;
            sparse(&graph.sparse_initializer).try_for_each(&mut *visit)?;
            inner_tensors(&graph.node, visit)?;
        }
    }
    Ok(())
}

/// How many elements a tensor has, and bytes: 0 of strings, which have no fixed width.
fn extent(tensor: &TensorProto) -> Result<(u64, u64), OnnxError> {
    let malformed = || OnnxError::Malformed {
        reason: format!("a tensor of shape {:?}", tensor.dims),
    };
    let elements = tensor
        .dims
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?))
        .ok_or_else(malformed)?;
    let bytes = match data_type_bits(tensor.data_type.unwrap_or_default()) {
        Some(bits) => elements
            .checked_mul(bits)
            .map(|bits| bits.div_ceil(8))
            .ok_or_else(malformed)?,
        None => 0,
    };
    Ok((elements, bytes))
}

fn add_tensor(
    tensor: &TensorProto,
    raw: Option<&FileRegion>,
    beside: &mut Beside,
    out: &mut Summary,
) -> Result<u64> {
    let number = tensor.data_type.unwrap_or_default();
    let malformed = |reason: String| OnnxError::Malformed { reason };
    let (elements, bytes) = extent(tensor)?;
    let dtype = data_type_name(number);
    if let Some(raw) = raw
        && raw.len != bytes
    {
        return Err(malformed(format!(
            "{} bytes for a `{dtype}` tensor of shape {:?}, expected {bytes}",
            raw.len, tensor.dims
        ))
        .into());
    }
    if tensor.data_location() == DataLocation::External {
        beside.find(tensor, bytes)?;
    }
    if dtype.starts_with('f') || dtype == "bf16" || dtype.starts_with("complex") {
        out.parameters = out.parameters.saturating_add(elements);
    }
    let total = out.weight_bytes.entry(dtype).or_insert(0);
    *total = total.saturating_add(bytes);
    Ok(bytes)
}
