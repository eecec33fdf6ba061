//! IR → ONNX graph: one exhaustive match over the operations, a file per family. Standard operators only. Knows nothing of bytes; see `file`.

mod dims;
mod elementwise;
mod emitter;
mod index;
mod linear;
mod norm;
mod reduce;
mod shape;

use std::collections::BTreeMap;

use super::error::OnnxError;
use super::proto::{
    NodeProto, TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};
use super::types::data_type;
use crate::error::{Context, Result};
use crate::ir::{Def, Function, Module, Node, Op, Type};
use crate::tensor::num;
use emitter::{Emitter, Last};

pub(super) use emitter::Initializer;

/// An ONNX graph, but for the bytes of its initialisers.
pub(super) struct Graph {
    pub(super) name: String,
    pub(super) nodes: Vec<NodeProto>,
    pub(super) initializers: Vec<Initializer>,
    pub(super) inputs: Vec<ValueInfoProto>,
    pub(super) outputs: Vec<ValueInfoProto>,
    pub(super) value_info: Vec<ValueInfoProto>,
    /// IR value → ONNX value.
    pub(super) names: BTreeMap<String, String>,
}

/// The module's function as an ONNX graph.
pub(super) fn export(module: &Module, opset: i64) -> Result<Graph> {
    let [function] = module.functions.as_slice() else {
        return Err(OnnxError::Functions {
            functions: module.functions.len(),
        }
        .into());
    };
    let mut emitter = Emitter::new(module, function, opset)?;
    for node in &function.nodes {
        let value = function.value(node.result());
        let name = emitter.name(node.result());
        emitter.enter(&name);
        let last = operation(&mut emitter, node).at_node(&value.name)?;
        emitter.push(last.op_type, last.inputs, name, last.attributes);
    }
    interface(emitter, module, function)
}

/// An output that is not simply the result of a node under its own name is copied.
fn interface(mut e: Emitter<'_>, module: &Module, function: &Function) -> Result<Graph> {
    let mut outputs = Vec::new();
    for output in &function.outputs {
        let source = e.operand(output.value)?;
        if source != output.name {
            e.push("Identity", vec![source], output.name.clone(), vec![]);
        }
        outputs.push(value_info(&output.name, e.ty(output.value), e.opset).at_node(&output.name)?);
    }
    let mut inputs = Vec::new();
    for param in &function.params {
        let value = function.value(param.value);
        inputs.push(value_info(&value.name, &value.ty, e.opset).at_node(&value.name)?);
    }
    let mut names = BTreeMap::new();
    let mut infos = Vec::new();
    for node in &function.nodes {
        let value = function.value(node.result());
        let name = e.name(node.result());
        if !function.outputs.iter().any(|o| o.name == name) {
            infos.push(value_info(&name, &value.ty, e.opset).at_node(&value.name)?);
        }
        names.insert(value.name.clone(), name);
    }
    for value in &function.values {
        if let Def::Param(_) = value.def {
            names.insert(value.name.clone(), value.name.clone());
        }
    }
    Ok(Graph {
        name: module.name.clone(),
        nodes: e.nodes,
        initializers: e.initializers,
        inputs,
        outputs,
        value_info: infos,
        names,
    })
}

fn value_info(name: &str, ty: &Type, opset: i64) -> Result<ValueInfoProto, OnnxError> {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = ty
        .shape
        .iter()
        .map(|d| Dimension {
            value: Some(match d.known() {
                Some(n) => Value::DimValue(num::i64_of(n)),
                None => Value::DimParam(d.to_string()),
            }),
        })
        .collect();
    Ok(ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: Some(data_type(ty.dtype, opset)?.into()),
                shape: Some(TensorShapeProto { dim }),
            })),
        }),
    })
}

fn operation(e: &mut Emitter<'_>, node: &Node) -> Result<Last> {
    match &node.op {
        Op::Unary(o) => elementwise::unary(e, node, *o),
        Op::Binary(o) => elementwise::binary(e, node, *o),
        Op::Compare(o) => elementwise::compare(e, node, *o),
        Op::Select(o) => elementwise::select(e, node, *o),
        Op::Cast(o) => elementwise::cast(e, node, *o),
        Op::Clip(o) => elementwise::clip(e, node, *o),
        Op::Reduce(o) => reduce::reduce(e, node, o),
        Op::Softmax(o) => reduce::softmax(e, node, *o),
        Op::CumSum(o) => reduce::cumsum(e, node, *o),
        Op::MatMul(o) => linear::matmul(e, node, *o),
        Op::Linear(o) => linear::linear(e, node, *o),
        Op::LayerNorm(o) => norm::layer_norm(e, node, *o),
        Op::RmsNorm(o) => norm::rms_norm(e, node, *o),
        Op::Reshape(o) => shape::reshape(e, node, o),
        Op::Transpose(o) => shape::transpose(e, node, o),
        Op::Expand(o) => shape::expand(e, node, o),
        Op::Slice(o) => shape::slice(e, node, o),
        Op::Concat(o) => shape::concat(e, node, *o),
        Op::Squeeze(o) => shape::squeeze(e, node, o),
        Op::Unsqueeze(o) => shape::unsqueeze(e, node, o),
        Op::Iota(o) => shape::iota(e, o),
        Op::Gather(o) => index::gather(e, node, *o),
        Op::GatherElements(o) => index::gather_elements(e, node, *o),
        Op::Classify(_)
        | Op::Activation(_)
        | Op::ArgReduce(_)
        | Op::TopK(_)
        | Op::Inverse(_)
        | Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::Pool(_)
        | Op::BatchNorm(_)
        | Op::InstanceNorm(_)
        | Op::Lrn(_)
        | Op::Pad(_)
        | Op::Tile(_)
        | Op::Reverse(_)
        | Op::DepthToSpace(_)
        | Op::SpaceToDepth(_)
        | Op::Size(_)
        | Op::ReshapeTo(_)
        | Op::ExpandTo(_)
        | Op::TileBy(_)
        | Op::SliceBy(_)
        | Op::PadBy(_)
        | Op::RangeBy(_)
        | Op::NonZero(_)
        | Op::GatherNd(_)
        | Op::ScatterElements(_)
        | Op::ScatterNd(_)
        | Op::NonMaxSuppression(_)
        | Op::Resize(_)
        | Op::GridSample(_)
        | Op::Recurrent(_)
        | Op::Quantize(_)
        | Op::Dequantize(_)
        | Op::If(_)
        | Op::Loop(_) => {
            let op = node.op.name();
            Err(OnnxError::NotWritten { op }.into())
        }
    }
}
