//! The graph under construction: names, nodes, initialisers and small constants.
//!
//! Names are unique across the graph and its subgraphs: the result of an IR operation keeps the IR value's name (an interface output has the output's), helpers are `{value}/{OpType}`, nodes `/{value}/{OpType}`.

use std::collections::{BTreeMap, BTreeSet};

use super::super::error::OnnxError;
use super::super::proto::{AttributeProto, GraphProto, NodeProto, attribute_proto::AttributeType};
use crate::error::{Context, Result};
use crate::ir::{ConstId, Constant, Def, Dim, Function, Module, Node, Op, Type, ValueId};
use crate::tensor::{DType, Tensor, num};

/// Weights up to this size are transposed on the way; larger ones by a node, so that transposing never costs more memory than this.
const TRANSPOSED_BYTES: u64 = 64 * 1024 * 1024;

/// Constants whose first, middle and last bytes differ are not compared further.
const SAMPLE_BYTES: usize = 64;

/// A constant of the graph.
pub(in crate::onnx) struct Initializer {
    pub(in crate::onnx) name: String,
    pub(in crate::onnx) constant: Constant,
}

/// The node that computes the result of an IR operation; helpers before it were emitted already.
pub(super) struct Last {
    pub(super) op_type: &'static str,
    pub(super) inputs: Vec<String>,
    pub(super) attributes: Vec<AttributeProto>,
}

/// [`Last`] without attributes.
pub(super) fn last<const N: usize>(op_type: &'static str, inputs: [String; N]) -> Last {
    Last {
        op_type,
        inputs: inputs.into(),
        attributes: Vec::new(),
    }
}

impl Last {
    /// Without attributes, of any number of inputs.
    pub(super) fn of(op_type: &'static str, inputs: Vec<String>) -> Self {
        Last {
            op_type,
            inputs,
            attributes: Vec::new(),
        }
    }

    pub(super) fn with(mut self, attribute: AttributeProto) -> Self {
        self.attributes.push(attribute);
        self
    }
}

pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int.into()),
        i: Some(i),
        ..AttributeProto::default()
    }
}

pub(super) fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints.into()),
        ints,
        ..AttributeProto::default()
    }
}

pub(super) fn float(name: &str, f: f64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Float.into()),
        f: Some(num::f32_of_f64(f)),
        ..AttributeProto::default()
    }
}

pub(super) fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Floats.into()),
        floats,
        ..AttributeProto::default()
    }
}

pub(super) fn strings(name: &str, strings: Vec<&'static str>) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Strings.into()),
        strings: strings
            .into_iter()
            .map(|s| bytes::Bytes::from_static(s.as_bytes()))
            .collect(),
        ..AttributeProto::default()
    }
}

pub(super) fn graph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Graph.into()),
        g: Some(graph),
        ..AttributeProto::default()
    }
}

pub(super) fn string(name: &str, s: &'static str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::String.into()),
        s: Some(bytes::Bytes::from_static(s.as_bytes())),
        ..AttributeProto::default()
    }
}

/// How a constant is used; each form is an initialiser or node of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Plain,
    Transposed,
    Cast(DType),
}

/// What equal constants have in common before their bytes are compared.
type Fingerprint = (
    DType,
    Vec<usize>,
    DType,
    Vec<usize>,
    String,
    Vec<[u8; SAMPLE_BYTES]>,
);

/// Names that were computed already.
#[derive(Clone, Default)]
pub(super) struct View {
    /// Run-time dimensions, as vectors of one element.
    pub(super) sizes: BTreeMap<Dim, String>,
    /// Shapes of values.
    pub(super) shapes: BTreeMap<String, String>,
    /// Symbol → the value and axis that show it.
    pub(super) symbols: BTreeMap<String, (String, usize)>,
    /// Constants that a node transposes.
    turned: BTreeMap<ConstId, String>,
    /// Constants that nodes decode.
    decoded: BTreeMap<(ConstId, Form), String>,
}

/// What is set aside while a subgraph is written.
pub(super) struct Outer<'a> {
    function: &'a Function,
    nodes: Vec<NodeProto>,
    values: Vec<Option<String>>,
    turned: BTreeSet<ValueId>,
    view: View,
    scope: String,
}

pub(super) struct Emitter<'a> {
    pub(super) module: &'a Module,
    pub(super) function: &'a Function,
    pub(super) opset: i64,
    pub(super) nodes: Vec<NodeProto>,
    pub(super) initializers: Vec<Initializer>,
    /// Whether compressed weights are written as what they stand for.
    pub(super) expand: bool,
    /// Names of the weights that stay compressed, with the bytes that they take.
    pub(super) kept: BTreeMap<String, u64>,
    /// What can be seen from here on: subgraphs see what is around them, but not the reverse.
    pub(super) view: View,
    scope: String,
    names: BTreeSet<String>,
    node_names: BTreeSet<String>,
    values: Vec<Option<String>>,
    forms: BTreeMap<(ConstId, Form), String>,
    contents: BTreeMap<Fingerprint, Vec<usize>>,
    transposed_only: BTreeSet<ConstId>,
    turned: BTreeSet<ValueId>,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(module: &'a Module, function: &'a Function, opset: i64) -> Result<Self> {
        let mut emitter = Emitter {
            module,
            function,
            opset,
            nodes: Vec::new(),
            initializers: Vec::new(),
            expand: false,
            kept: BTreeMap::new(),
            view: View::default(),
            scope: String::new(),
            names: BTreeSet::new(),
            node_names: BTreeSet::new(),
            values: vec![None; function.values.len()],
            forms: BTreeMap::new(),
            contents: BTreeMap::new(),
            transposed_only: transposed_only(module, function),
            turned: super::attention::turned_keys(function),
        };
        // The interface comes first: its names are promised.
        for param in &function.params {
            let name = function.value(param.value).name.clone();
            emitter.names.insert(name.clone());
            emitter.show(&name, function.ty(param.value));
            emitter.values[param.value.index()] = Some(name);
        }
        for output in &function.outputs {
            let value = function.value(output.value);
            if matches!(value.def, Def::Param(_)) && value.name == output.name {
                // An input that is handed through.
                continue;
            }
            if !emitter.names.insert(output.name.clone()) {
                return Err(OnnxError::InterfaceName {
                    name: output.name.clone(),
                }
                .into());
            }
            let slot = &mut emitter.values[output.value.index()];
            if slot.is_none() && matches!(function.value(output.value).def, Def::Node(_)) {
                *slot = Some(output.name.clone());
            }
        }
        emitter.keep_names();
        Ok(emitter)
    }

    /// Every value of the function that has no name yet keeps its own, so that no helper takes it.
    fn keep_names(&mut self) {
        for (i, value) in self.function.values.iter().enumerate() {
            if self.values[i].is_none() && matches!(value.def, Def::Node(_)) {
                let name = self.fresh(&value.name);
                self.values[i] = Some(name);
            }
        }
    }

    /// Begins a subgraph: a body whose parameters have these names. Ends with [`Emitter::leave`].
    pub(super) fn body(&mut self, body: &'a Function, params: &[String]) -> Outer<'a> {
        let outer = Outer {
            function: std::mem::replace(&mut self.function, body),
            nodes: std::mem::take(&mut self.nodes),
            values: std::mem::replace(&mut self.values, vec![None; body.values.len()]),
            turned: std::mem::replace(&mut self.turned, super::attention::turned_keys(body)),
            view: self.view.clone(),
            scope: self.scope.clone(),
        };
        for (param, name) in body.params.iter().zip(params) {
            self.values[param.value.index()] = Some(name.clone());
            // A size that a body's own parameter shows may differ from round to round.
            for dim in &body.ty(param.value).shape {
                if let Some(symbol) = dim.as_symbol().filter(|_| dim.is_run_time()) {
                    self.forget(symbol);
                }
            }
            self.show(name, body.ty(param.value));
        }
        self.keep_names();
        outer
    }

    /// Ends a subgraph and gives its nodes.
    pub(super) fn leave(&mut self, outer: Outer<'a>) -> Vec<NodeProto> {
        self.function = outer.function;
        self.values = outer.values;
        self.turned = outer.turned;
        self.view = outer.view;
        self.scope = outer.scope;
        std::mem::replace(&mut self.nodes, outer.nodes)
    }

    /// Remembers which sizes a value shows.
    pub(super) fn show(&mut self, name: &str, ty: &Type) {
        for (axis, dim) in ty.shape.iter().enumerate() {
            if let Some(symbol) = dim.as_symbol()
                && !self.view.symbols.contains_key(symbol)
            {
                let place = (name.to_owned(), axis);
                self.view.symbols.insert(symbol.to_owned(), place);
            }
        }
    }

    fn forget(&mut self, symbol: &str) {
        self.view.symbols.remove(symbol);
        self.view.sizes.retain(|dim, _| {
            let mut symbols = BTreeSet::new();
            dim.symbols(&mut symbols);
            !symbols.contains(symbol)
        });
    }

    /// A name that nothing has yet.
    pub(super) fn fresh(&mut self, base: &str) -> String {
        free(&mut self.names, base)
    }

    pub(super) fn ty(&self, value: ValueId) -> &'a Type {
        self.function.ty(value)
    }

    /// The ONNX name of a value that is a parameter or the result of a node.
    pub(super) fn name(&self, value: ValueId) -> String {
        // Constants are named when they are first used; see `operand`.
        self.values[value.index()].clone().unwrap_or_default()
    }

    /// Whether a value is a transposed key that only attention uses: it is written there, together with the transpose that attention needs.
    pub(super) fn is_turned(&self, value: ValueId) -> bool {
        self.turned.contains(&value)
    }

    /// Names what helpers are called after, until the next call.
    pub(super) fn enter(&mut self, scope: &str) {
        scope.clone_into(&mut self.scope);
    }

    /// Adds a helper node, named after the current value, and gives the name of its result.
    pub(super) fn emit<const N: usize>(
        &mut self,
        op_type: &'static str,
        inputs: [String; N],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let output = self.helper_name(op_type);
        self.push(op_type, inputs.into(), output.clone(), attributes);
        output
    }

    /// A name for the result of a helper node of the current value.
    pub(super) fn helper_name(&mut self, op_type: &str) -> String {
        let base = format!("{}/{op_type}", self.scope);
        self.fresh(&base)
    }

    /// Adds the node that computes `output`.
    pub(super) fn push(
        &mut self,
        op_type: &'static str,
        input: Vec<String>,
        output: String,
        attribute: Vec<AttributeProto>,
    ) {
        self.push_all(op_type, input, vec![output], attribute);
    }

    /// What was to be the last node, as a helper.
    pub(super) fn settle(&mut self, last: Last) -> String {
        let name = self.helper_name(last.op_type);
        self.push(last.op_type, last.inputs, name.clone(), last.attributes);
        name
    }

    /// `last` computes in `from`; this computes in `to`.
    pub(super) fn converted(&mut self, last: Last, from: DType, to: DType) -> Result<Last> {
        let (from, to) = (self.carried(from), self.carried(to));
        if from == to {
            return Ok(last);
        }
        let x = self.settle(last);
        let to = super::super::types::data_type(to, self.opset)?;
        Ok(self::last("Cast", [x]).with(int("to", i64::from(i32::from(to)))))
    }

    /// Adds the last node of a node with one result.
    pub(super) fn finish(&mut self, node: &Node, last: Last) {
        let name = self.name(node.result());
        self.push(last.op_type, last.inputs, name, last.attributes);
    }

    /// The element type that stands for `dtype` inside the graph: integers that the opset does not have are held in the next wider type.
    pub(super) fn carried(&self, dtype: DType) -> DType {
        if super::super::types::data_type(dtype, self.opset).is_ok() || !dtype.is_int() {
            dtype
        } else if dtype.is_signed_int() {
            DType::I8
        } else {
            DType::U8
        }
    }

    /// Adds the node that computes `outputs`; an empty name is a result that nothing uses.
    pub(super) fn push_all(
        &mut self,
        op_type: &'static str,
        input: Vec<String>,
        outputs: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) {
        let output = outputs
            .iter()
            .find(|o| !o.is_empty())
            .cloned()
            .unwrap_or_default();
        let suffix = format!("/{op_type}");
        let base = if output.ends_with(&suffix) {
            format!("/{output}")
        } else {
            format!("/{output}{suffix}")
        };
        let name = free(&mut self.node_names, &base);
        self.nodes.push(NodeProto {
            input,
            output: outputs,
            name: Some(name),
            op_type: Some(op_type.to_owned()),
            attribute,
            ..NodeProto::default()
        });
    }

    /// The ONNX name of an operand; a constant becomes an initialiser at its first use.
    pub(super) fn operand(&mut self, value: ValueId) -> Result<String> {
        match self.function.value(value).def {
            Def::Param(_) | Def::Node(_) => Ok(self.name(value)),
            Def::Const(id) => {
                let constant = self.module.constant(id).clone();
                let carried = self.carried(constant.dtype());
                if carried != constant.dtype() {
                    let constant = constant.cast(carried);
                    return self.form(value, id, Form::Cast(carried), "", constant);
                }
                self.form(value, id, Form::Plain, "", constant)
            }
        }
    }

    /// An operand cast to `to`; a constant is cast when it is written.
    pub(super) fn operand_as(&mut self, value: ValueId, to: DType) -> Result<String> {
        if self.carried(self.ty(value).dtype) == to {
            return self.operand(value);
        }
        match self.function.value(value).def {
            Def::Param(_) | Def::Node(_) => {
                let x = self.name(value);
                self.cast(x, to)
            }
            Def::Const(id) => {
                let constant = self.module.constant(id).cast(to);
                let suffix = format!("/{to}");
                self.form(value, id, Form::Cast(to), &suffix, constant)
            }
        }
    }

    /// A matrix operand with its axes swapped: written that way if the stored one is not needed as well, else by a node that all uses share.
    pub(super) fn transposed(&mut self, value: ValueId) -> Result<String> {
        let Def::Const(id) = self.function.value(value).def else {
            let x = self.name(value);
            return Ok(self.swap_last(x, self.ty(value).rank()));
        };
        let constant = self.module.constant(id);
        if constant.shape().len() != 2 {
            let rank = constant.shape().len();
            let x = self.operand(value)?;
            return Ok(self.swap_last(x, rank));
        }
        if self.transposed_only.contains(&id) && constant.region().len() <= TRANSPOSED_BYTES {
            let constant = constant.transpose()?;
            return self.form(value, id, Form::Transposed, "", constant);
        }
        if let Some(name) = self.view.turned.get(&id) {
            return Ok(name.clone());
        }
        let x = self.operand(value)?;
        let name = self.fresh(&format!("{x}/Transpose"));
        self.push(
            "Transpose",
            vec![x],
            name.clone(),
            vec![ints("perm", vec![1, 0])],
        );
        self.view.turned.insert(id, name.clone());
        Ok(name)
    }

    /// A helper `Transpose` of the last two axes.
    pub(super) fn swap_last(&mut self, x: String, rank: usize) -> String {
        let mut perm: Vec<i64> = (0..rank).map(num::i64_of).collect();
        perm.swap(rank - 2, rank - 1);
        self.emit("Transpose", [x], vec![ints("perm", perm)])
    }

    /// A helper `Cast`.
    pub(super) fn cast(&mut self, x: String, to: DType) -> Result<String> {
        let to = super::super::types::data_type(to, self.opset)?;
        Ok(self.emit("Cast", [x], vec![int("to", i64::from(i32::from(to)))]))
    }

    /// An initialiser without elements of its own in the module: a scalar of a number type.
    pub(super) fn scalar(&mut self, dtype: DType, x: f64) -> Result<String> {
        let tensor = if dtype.is_float() {
            Tensor::f32(vec![], vec![num::f32_of_f64(x)])?.cast(dtype)
        } else {
            Tensor::int(dtype, vec![], vec![num::i64_of_f64(x)])?
        };
        self.small(&format!("const/{dtype}/{x}"), &tensor)
    }

    /// A scalar `i64` initialiser.
    pub(super) fn scalar_int(&mut self, x: i64) -> Result<String> {
        self.small(&format!("const/i64/{x}"), &Tensor::i64(vec![], vec![x])?)
    }

    /// A vector initialiser of `i64`, such as axes and shapes are given by.
    pub(super) fn vector(&mut self, values: &[i64]) -> Result<String> {
        let text: Vec<String> = values.iter().map(ToString::to_string).collect();
        self.small(
            &format!("const/i64/[{}]", text.join(",")),
            &Tensor::i64(vec![values.len()], values.to_vec())?,
        )
    }

    /// The axes of an operation as a vector initialiser.
    pub(super) fn axes(&mut self, axes: &[usize]) -> Result<String> {
        let axes: Vec<i64> = axes.iter().map(|&a| num::i64_of(a)).collect();
        self.vector(&axes)
    }

    /// A small constant, written once however often it is asked for.
    pub(super) fn small(&mut self, name: &str, tensor: &Tensor) -> Result<String> {
        let constant = Constant::from_tensor(name, tensor)?;
        self.initializer(name, constant)
    }

    fn form(
        &mut self,
        value: ValueId,
        id: ConstId,
        form: Form,
        suffix: &str,
        constant: Constant,
    ) -> Result<String> {
        let known = self.view.decoded.get(&(id, form));
        if let Some(name) = known.or_else(|| self.forms.get(&(id, form))) {
            return Ok(name.clone());
        }
        let base = format!("{}{suffix}", self.function.value(value).name);
        if let Some(name) = super::compressed::weight(self, &base, &constant)? {
            self.view.decoded.insert((id, form), name.clone());
            return Ok(name);
        }
        let name = self.initializer(&base, constant)?;
        self.forms.insert((id, form), name.clone());
        Ok(name)
    }

    /// Registers an initialiser, or finds the one with the same content.
    pub(super) fn initializer(&mut self, base: &str, constant: Constant) -> Result<String> {
        super::super::types::data_type(constant.dtype(), self.opset).at_tensor(constant.name())?;
        let key = fingerprint(&constant)?;
        if let Some(candidates) = self.contents.get(&key) {
            for &i in candidates {
                let known = &self.initializers[i];
                if known.constant.same_as(&constant) || same_bytes(&known.constant, &constant)? {
                    return Ok(known.name.clone());
                }
            }
        }
        let name = self.fresh(base);
        self.contents
            .entry(key)
            .or_default()
            .push(self.initializers.len());
        self.initializers.push(Initializer {
            name: name.clone(),
            constant,
        });
        Ok(name)
    }
}

fn free(taken: &mut BTreeSet<String>, base: &str) -> String {
    // An empty name means "absent" in ONNX.
    let base = if base.is_empty() { "value" } else { base };
    let mut name = base.to_owned();
    let mut next = 0u64;
    while !taken.insert(name.clone()) {
        next += 1;
        name = format!("{base}_{next}");
    }
    name
}

/// Constants that are only ever used as the transposed right-hand matrix of a product.
fn transposed_only(module: &Module, function: &Function) -> BTreeSet<ConstId> {
    let (mut transposed, mut plain) = (BTreeSet::new(), BTreeSet::new());
    for function in std::iter::once(function).chain(&module.bodies) {
        uses(function, &mut transposed, &mut plain);
    }
    transposed.difference(&plain).copied().collect()
}

fn uses(function: &Function, transposed: &mut BTreeSet<ConstId>, plain: &mut BTreeSet<ConstId>) {
    let constant = |v: ValueId| match function.value(v).def {
        Def::Const(id) => Some(id),
        Def::Param(_) | Def::Node(_) => None,
    };
    plain.extend(function.outputs.iter().filter_map(|o| constant(o.value)));
    for node in &function.nodes {
        for (i, &operand) in node.operands.iter().enumerate() {
            let Some(id) = constant(operand) else {
                continue;
            };
            let swaps = if let Op::MatMul(o) = &node.op {
                (i == 0 && o.transpose_a) || (i == 1 && o.transpose_b)
            } else {
                matches!(node.op, Op::Linear(_)) && i == 1
            };
            if swaps {
                transposed.insert(id);
            } else {
                plain.insert(id);
            }
        }
    }
}

fn fingerprint(constant: &Constant) -> Result<Fingerprint> {
    let region = constant.region();
    let len = region.len();
    let mut samples = Vec::new();
    for at in [0, len / 2, len.saturating_sub(num::u64_of(SAMPLE_BYTES))] {
        let mut sample = [0; SAMPLE_BYTES];
        let n = num::usize_of(len - at).min(SAMPLE_BYTES);
        region
            .read_at(at, &mut sample[..n])
            .at_tensor(constant.name())?;
        samples.push(sample);
    }
    Ok((
        constant.dtype(),
        constant.shape().to_vec(),
        constant.stored_dtype(),
        constant.stored_shape().to_vec(),
        format!("{:?}", constant.transforms()),
        samples,
    ))
}

/// Whether two constants of one fingerprint have the same stored bytes; stops at the first difference.
fn same_bytes(a: &Constant, b: &Constant) -> Result<bool> {
    // What equal stored bytes become may differ.
    if a.is_compressed() || b.is_compressed() {
        return Ok(false);
    }
    let (a, b) = (a.region(), b.region());
    if a.same_as(b) {
        return Ok(true);
    }
    if a.len() != b.len() {
        return Ok(false);
    }
    let (mut x, mut y) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < a.len() {
        let n = num::usize_of(a.len() - at).min(crate::limits::STREAM_CHUNK_BYTES);
        x.resize(n, 0);
        y.resize(n, 0);
        a.read_at(at, &mut x)?;
        b.read_at(at, &mut y)?;
        if x != y {
            return Ok(false);
        }
        at += num::u64_of(n);
    }
    Ok(true)
}
