//! IR → ONNX graph: one exhaustive match over the operations, a file per family. Standard operators only. Knows nothing of bytes; see `file`.

mod attention;
mod bf16;
mod compressed;
mod control;
mod conv;
mod dims;
mod dynamic;
mod elementwise;
mod emitter;
mod image;
mod index;
mod kernels;
mod linear;
mod norm;
mod parameters;
mod quant;
mod recurrent;
mod reduce;
mod shape;
mod taps;

use std::collections::BTreeMap;

use super::error::OnnxError;
use super::proto::{
    NodeProto, TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};
use super::types::data_type;
use crate::error::{Context, Result};
use crate::ir::{self, Def, Function, Module, Node, Op, Type};
use crate::tensor::num;
use emitter::Emitter;

pub(super) use emitter::Initializer;
pub use parameters::with_stored_parameters;

/// An ONNX graph, but for the bytes of its initialisers.
pub(super) struct Graph {
    pub(super) name: String,
    pub(super) nodes: Vec<NodeProto>,
    pub(super) initializers: Vec<Initializer>,
    pub(super) inputs: Vec<ValueInfoProto>,
    pub(super) outputs: Vec<ValueInfoProto>,
    pub(super) value_info: Vec<ValueInfoProto>,
    /// What the graph itself cannot say, by key.
    pub(super) metadata: BTreeMap<String, String>,
    /// IR value → ONNX value.
    pub(super) names: BTreeMap<String, String>,
    /// Names of the weights that stay compressed, with the bytes that they take.
    pub(super) kept: BTreeMap<String, u64>,
}

/// The module's function as an ONNX graph.
pub(super) fn export(module: &Module, opset: i64, expand: bool) -> Result<Graph> {
    let wide = bf16::widened(module);
    let module = wide.as_ref().unwrap_or(module);
    let [function] = module.functions.as_slice() else {
        return Err(OnnxError::Functions {
            functions: module.functions.len(),
        }
        .into());
    };
    let mut emitter = Emitter::new(module, function, opset)?;
    emitter.expand = expand;
    for n in &function.nodes {
        node(&mut emitter, n)?;
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
    for node in function.nodes.iter().filter(|n| !e.is_turned(n.result())) {
        for &result in &node.results {
            let value = function.value(result);
            let name = e.name(result);
            if !function.outputs.iter().any(|o| o.name == name) {
                let mut ty = value.ty.clone();
                ty.dtype = e.carried(ty.dtype);
                infos.push(value_info(&name, &ty, e.opset).at_node(&value.name)?);
            }
            names.insert(value.name.clone(), name);
        }
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
        metadata: metadata(function),
        names,
        kept: e.kept,
    })
}

/// What the graph cannot say: its states, and which values its inputs may take.
fn metadata(function: &Function) -> BTreeMap<String, String> {
    let mut metadata = states(function);
    if let Some(domains) = ir::domains_text(function) {
        metadata.insert(ir::DOMAINS_KEY.to_owned(), domains);
    }
    metadata
}

/// State is kept by whoever runs the model: `state.{name}` names the input and the output that becomes its next value.
fn states(function: &Function) -> BTreeMap<String, String> {
    let pair = |s: &crate::ir::State| format!("{} <- {}", function.value(s.param).name, s.output);
    function
        .states
        .iter()
        .map(|s| (format!("state.{}", s.name), pair(s)))
        .collect()
}

fn value_info(name: &str, ty: &Type, opset: i64) -> Result<ValueInfoProto, OnnxError> {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = ty
        .shape
        .iter()
        .map(|d| Dimension {
            value: match d.known() {
                Some(n) => Some(Value::DimValue(num::i64_of(n))),
                // Such a size may be another every time the node runs.
                None if d.is_run_time() => None,
                None => Some(Value::DimParam(d.to_string())),
            },
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

/// Adds what computes a node's results, under their names.
fn node(e: &mut Emitter<'_>, node: &Node) -> Result<()> {
    if e.is_turned(node.result()) {
        return Ok(());
    }
    let name = e.name(node.result());
    e.enter(&name);
    operation(e, node).at_node(&e.function.value(node.result()).name)?;
    for &result in &node.results {
        let (name, ty) = (e.name(result), e.ty(result));
        e.show(&name, ty);
    }
    Ok(())
}

fn operation(e: &mut Emitter<'_>, node: &Node) -> Result<()> {
    let last = match &node.op {
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
        Op::Attention(o) => attention::attention(e, node, *o),
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
        Op::Classify(o) => elementwise::classify(e, node, *o),
        Op::Activation(o) => elementwise::activation(e, node, *o),
        Op::ArgReduce(o) => reduce::arg_reduce(e, node, *o),
        Op::Inverse(_) => linear::inverse(e, node),
        Op::Conv(o) => conv::conv(e, node, o),
        Op::ConvTranspose(o) => conv::conv_transpose(e, node, o),
        Op::Pool(o) => conv::pool(e, node, o),
        Op::BatchNorm(o) => norm::batch_norm(e, node, *o),
        Op::InstanceNorm(o) => norm::instance_norm(e, node, *o),
        Op::Lrn(o) => norm::lrn(e, node, *o),
        Op::Pad(o) => shape::pad(e, node, o),
        Op::Tile(o) => shape::tile(e, node, o),
        Op::Reverse(o) => shape::reverse(e, node, o),
        Op::DepthToSpace(o) => shape::depth_to_space(e, node, *o),
        Op::SpaceToDepth(o) => shape::space_to_depth(e, node, *o),
        Op::Size(o) => dynamic::size(e, o),
        Op::ReshapeTo(o) => dynamic::reshape_to(e, node, o),
        Op::ExpandTo(_) => dynamic::by_vector(e, node, "Expand"),
        Op::TileBy(_) => dynamic::by_vector(e, node, "Tile"),
        Op::SliceBy(o) => dynamic::slice_by(e, node, o),
        Op::PadBy(o) => dynamic::pad_by(e, node, o),
        Op::RangeBy(_) => dynamic::range_by(e, node),
        Op::NonZero(o) => dynamic::non_zero(e, node, o),
        Op::GatherNd(o) => index::gather_nd(e, node, *o),
        Op::ScatterElements(o) => index::scatter_elements(e, node, *o),
        Op::ScatterNd(o) => index::scatter_nd(e, node, *o),
        Op::NonMaxSuppression(o) => index::non_max_suppression(e, node, o),
        Op::Resize(o) => image::resize(e, node, o),
        Op::GridSample(o) => image::grid_sample(e, node, o),
        Op::Quantize(o) => quant::quantize(e, node, o),
        Op::Dequantize(o) => quant::dequantize(e, node, o),
        // What may have several results adds them itself.
        Op::TopK(o) => return reduce::top_k(e, node, o),
        Op::Recurrent(o) => return recurrent::recurrent(e, node, o),
        Op::If(o) => return control::branch(e, node, o),
        Op::Loop(o) => return control::repeat(e, node, o),
    }?;
    e.finish(node, last);
    Ok(())
}
