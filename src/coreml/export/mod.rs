//! IR → ML Program, by family.

mod classify;
mod compressed;
mod control;
mod conv;
mod dynamic;
mod elementwise;
mod emit;
mod image;
mod index;
mod interface;
mod linear;
mod norm;
mod quant;
mod recurrent;
mod reduce;
mod shape;
mod size;
mod state;
mod value;

use std::collections::BTreeMap;

use super::blob::BlobPlan;
use super::error::CoremlError;
use super::proto::mil_spec::{Block, Function as MilFunction, Program};
use super::proto::{FunctionDescription, Metadata, Model, ModelDescription, model};
use super::target::DeploymentTarget;
use super::write::{OWN_KEYS, WriteOptions, WrittenFunction};
use crate::error::{Context, Result};
use crate::ir::{Function, IrError, Node, Op};
use emit::{Emitter, Var};
use interface::Interface;

pub(in crate::coreml) use compressed::holds;
pub(in crate::coreml) use image::{factors, modes};
pub(in crate::coreml) use interface::required_target;
pub(in crate::coreml) use recurrent::has_recurrent;
pub(in crate::coreml) use state::kept;
pub(in crate::coreml) use value::int32;

/// What a root-mean-square normalisation of half-precision values is made of. Those of single-precision values are computed as defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RmsNormForm {
    /// Layer normalisation of `[x, −x]`: one fused operation that stays on the Neural Engine; doubles the activation.
    #[default]
    Concat,
    /// Row and epsilon divided by the row's largest magnitude: no square overflows.
    Scaled,
    /// As defined, between casts to single precision and back.
    Fp32,
}

/// Names of the weights that stay compressed, with the bytes that they take.
type Kept = BTreeMap<String, u64>;

/// A model that is yet to be written.
pub(super) struct Exported {
    /// The model.
    pub(super) model: Model,
    /// The weight file.
    pub(super) blobs: BlobPlan,
    /// By function, the weights that stay compressed.
    pub(super) kept: Vec<Kept>,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

/// The model of legal modules: a function of each, the first the default one. Weights that are equal are shared.
///
/// # Errors
/// When a module holds what the target cannot express.
pub(super) fn export(
    written: &[WrittenFunction<'_>],
    target: DeploymentTarget,
    options: &WriteOptions<'_>,
    user_defined: BTreeMap<String, String>,
) -> Result<Exported> {
    let mut blobs = BlobPlan::default();
    let mut functions = BTreeMap::new();
    let mut described = Vec::with_capacity(written.len());
    let mut kept = Vec::with_capacity(written.len());
    let mut warnings = Vec::new();
    for one in written {
        let (function, description, compressed) =
            export_function(one, target, options, &mut blobs, &mut warnings)?;
        functions.insert(one.name.to_owned(), function);
        described.push(description);
        kept.push(compressed);
    }
    let mut description = ModelDescription {
        metadata: Some(metadata(written, user_defined)),
        ..ModelDescription::default()
    };
    if let (1, Some(one)) = (written.len(), described.first_mut()) {
        description.input = std::mem::take(&mut one.input);
        description.output = std::mem::take(&mut one.output);
        description.state = std::mem::take(&mut one.state);
        description.predicted_feature_name = std::mem::take(&mut one.predicted_feature_name);
        description.predicted_probabilities_name =
            std::mem::take(&mut one.predicted_probabilities_name);
    } else {
        let default = written.first().map_or("", |one| one.name);
        default.clone_into(&mut description.default_function_name);
        description.functions = described;
    }
    let program = Program {
        version: 1,
        functions,
        doc_string: String::new(),
        attributes: BTreeMap::new(),
    };
    let model = Model {
        specification_version: target.spec_version(),
        description: Some(description),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(program)),
    };
    Ok(Exported {
        model,
        blobs,
        kept,
        warnings,
    })
}

/// What the author of the source said of the model, or its name; and what is recorded now.
fn metadata(written: &[WrittenFunction<'_>], recorded: BTreeMap<String, String>) -> Metadata {
    let first = written.first();
    let Some(told) = first.and_then(|one| one.description) else {
        return Metadata {
            short_description: first.map_or(String::new(), |one| one.module.name.clone()),
            user_defined: recorded,
            ..Metadata::default()
        };
    };
    // What this program recorded of another package is not true of this one.
    let ours = |key: &String| key.starts_with(OWN_KEYS);
    let mut user_defined = told.metadata.clone();
    user_defined.retain(|key, _| !ours(key));
    user_defined.extend(recorded);
    Metadata {
        short_description: told.short_description.clone(),
        version_string: told.version.clone(),
        author: told.author.clone(),
        license: told.license.clone(),
        user_defined,
    }
}

/// One function, its description, and the weights of it that stay compressed.
fn export_function(
    written: &WrittenFunction<'_>,
    target: DeploymentTarget,
    options: &WriteOptions<'_>,
    blobs: &mut BlobPlan,
    warnings: &mut Vec<String>,
) -> Result<(MilFunction, FunctionDescription, Kept)> {
    let module = written.module;
    let function = module.main()?;
    let opset = target.opset();
    let classifier = written.classifier(function);
    let mut e = Emitter::new(module, function, opset, options.rms_norm, classifier)?;
    e.expand = options.expand_weights;
    e.blobs = std::mem::take(blobs);
    let kept = state::kept(function, opset);
    for state in &kept {
        e.read_state(state)?;
    }
    emit_nodes(&mut e, function)?;
    for state in &kept {
        e.write_state(state)?;
    }
    let plain = |name: &str| !kept.iter().any(|s| s.output == name);
    let mut interface = Interface::new(module, function, opset, written.description);
    let (mut inputs, mut described, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
    let mut states = Vec::new();
    let mut probabilities = None;
    for output in function.outputs.iter().filter(|o| plain(&o.name)) {
        if let Some(classifier) = classifier.filter(|c| c.probabilities == output.name) {
            probabilities = Some((classifier, output.value));
            outputs.extend(interface.classes(classifier));
            continue;
        }
        e.output(output.value, &output.name).at_node(&output.name)?;
        outputs.push(interface.output(&output.name, function.ty(output.value))?);
    }
    // The last operation of a classifier is this.
    if let Some((classifier, value)) = probabilities {
        let value = e.var(value)?;
        e.classify(classifier, &value).at_node(&classifier.label)?;
    }
    for param in &function.params {
        let value = function.value(param.value);
        if kept.iter().any(|s| s.param == param.value) {
            inputs.push(value::named(&value.name, state::state_type(&value.ty)));
            states.push(interface.state(&value.name, &value.ty)?);
            continue;
        }
        inputs.push(value::named(&value.name, value::value_type(&value.ty)));
        described.push(interface.input(&value.name, &value.ty)?);
    }
    warnings.append(&mut interface.warnings);
    let block = Block {
        inputs: Vec::new(),
        outputs: outputs.iter().map(|o| o.name.clone()).collect(),
        operations: e.operations,
        attributes: BTreeMap::new(),
    };
    let main = MilFunction {
        inputs,
        opset: opset.name().to_owned(),
        block_specializations: BTreeMap::from([(opset.name().to_owned(), block)]),
        attributes: BTreeMap::new(),
    };
    *blobs = e.blobs;
    let description = FunctionDescription {
        input: described,
        output: outputs,
        state: states,
        name: written.name.to_owned(),
        predicted_feature_name: classifier.map_or(String::new(), |c| c.label.clone()),
        predicted_probabilities_name: classifier.map_or(String::new(), |c| c.probabilities.clone()),
    };
    Ok((main, description, e.kept))
}

/// Writes the nodes of a function or body.
fn emit_nodes(e: &mut Emitter<'_>, function: &Function) -> Result<()> {
    for node in &function.nodes {
        emit(e, node).at_node(&function.value(node.result()).name)?;
    }
    Ok(())
}

fn emit(e: &mut Emitter<'_>, node: &Node) -> Result<()> {
    e.begin(node);
    // What is read from constants is not written as constants.
    if let Op::Recurrent(o) = &node.op {
        return recurrent::recurrent(e, o, node);
    }
    if let Op::Dequantize(o) = &node.op {
        return quant::dequantize(e, o, node);
    }
    if let Op::Quantize(o) = &node.op {
        let x = e.var(node.operands[0])?;
        return quant::quantize(e, o, node, &x);
    }
    let vars = e.operands(node)?;
    let at = |i: usize| -> Result<&Var> {
        let operand = vars.get(i);
        Ok(operand.ok_or(IrError::Undefined { operand: i })?)
    };
    match &node.op {
        Op::Unary(o) => elementwise::unary(e, o, at(0)?),
        Op::Binary(o) => elementwise::binary(e, o, at(0)?, at(1)?),
        Op::Compare(o) => elementwise::compare(e, o, at(0)?, at(1)?),
        Op::Select(_) => elementwise::select(e, at(0)?, at(1)?, at(2)?),
        Op::Cast(o) => elementwise::cast(e, o, at(0)?),
        Op::Clip(o) => elementwise::clip(e, o, at(0)?),
        Op::Reduce(o) => reduce::reduce(e, o, at(0)?),
        Op::Softmax(o) => reduce::softmax(e, o, at(0)?),
        Op::CumSum(o) => reduce::cumsum(e, o, at(0)?),
        Op::MatMul(o) => linear::matmul(e, o, at(0)?, at(1)?),
        Op::Linear(_) => linear::linear(e, node, &vars),
        Op::LayerNorm(o) => norm::layer_norm(e, o, &vars),
        Op::RmsNorm(o) => norm::rms_norm(e, o, node, &vars),
        Op::Reshape(o) => shape::reshape(e, o, at(0)?),
        Op::Transpose(o) => shape::transpose(e, o, at(0)?),
        Op::Expand(o) => shape::expand(e, o, at(0)?),
        Op::Slice(o) => shape::slice(e, o, at(0)?),
        Op::Concat(o) => shape::concat(e, o, &vars),
        Op::Squeeze(o) => shape::squeeze(e, o, at(0)?),
        Op::Unsqueeze(o) => shape::unsqueeze(e, o, at(0)?),
        Op::Iota(o) => shape::iota(e, o),
        Op::Gather(o) => index::gather(e, o, at(0)?, at(1)?),
        Op::GatherElements(o) => index::gather_elements(e, o, at(0)?, at(1)?),
        Op::Activation(o) => elementwise::activation(e, o, at(0)?),
        Op::ArgReduce(o) => reduce::arg_reduce(e, o, at(0)?),
        Op::TopK(o) => reduce::top_k(e, o, at(0)?),
        Op::Conv(o) => conv::conv(e, o, &vars),
        Op::ConvTranspose(o) => conv::conv_transpose(e, o, &vars),
        Op::Pool(o) => conv::pool(e, o, at(0)?),
        Op::BatchNorm(o) => conv::batch_norm(e, o, &vars),
        Op::InstanceNorm(o) => conv::instance_norm(e, o, &vars),
        Op::Lrn(o) => conv::lrn(e, o, at(0)?),
        Op::Pad(o) => dynamic::pad(e, o, &vars),
        Op::Tile(o) => dynamic::tile(e, o, at(0)?),
        Op::Reverse(o) => shape::reverse(e, o, at(0)?),
        Op::DepthToSpace(o) => shape::depth_to_space(e, o, at(0)?),
        Op::SpaceToDepth(o) => shape::space_to_depth(e, o, at(0)?),
        Op::Size(o) => dynamic::size(e, &o.dim),
        Op::ReshapeTo(_) => dynamic::reshape_to(e, at(0)?, at(1)?),
        Op::ExpandTo(_) => dynamic::expand_to(e, at(0)?, at(1)?),
        Op::TileBy(_) => dynamic::tile_by(e, at(0)?, at(1)?),
        Op::SliceBy(o) => dynamic::slice_by(e, o, &vars),
        Op::PadBy(o) => dynamic::pad_by(e, o, &vars),
        Op::RangeBy(_) => dynamic::range_by(e, &vars),
        Op::NonZero(_) => dynamic::non_zero(e, at(0)?),
        Op::GatherNd(o) => index::gather_nd(e, o, at(0)?, at(1)?),
        Op::ScatterElements(o) => index::scatter_elements(e, o, &vars),
        Op::ScatterNd(o) => index::scatter_nd(e, o, &vars),
        Op::NonMaxSuppression(_) => index::non_max_suppression(e, node, &vars),
        Op::Resize(o) => image::resize(e, o, at(0)?),
        Op::If(o) => control::branch(e, o, &vars),
        Op::Loop(o) => control::repeat(e, o, &vars),
        // Legalisation has made other operations of these.
        Op::Classify(_)
        | Op::Inverse(_)
        | Op::Attention(_)
        | Op::GridSample(_)
        | Op::Recurrent(_)
        | Op::Quantize(_)
        | Op::Dequantize(_) => {
            let op = node.op.name();
            Err(CoremlError::NotWritten { op }.into())
        }
    }
}
