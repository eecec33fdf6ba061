//! The function under construction: values, constants and nodes are added here, every node's type is inferred, and the steps that stand for an
//! operation are named after it.

use std::collections::{BTreeMap, BTreeSet};

use super::dtype::{legal, legal_constant};
use super::wide::{self, Views};
use crate::coreml::error::CoremlError;
use crate::coreml::export::int32;
use crate::coreml::target::Opset;
use crate::error::{Context, Error, Result};
use crate::ir::ops::{
    Binary, BinaryKind, Cast, Clip, Compare, CompareKind, Concat, Expand, Gather, Reduce,
    ReduceKind, Reshape, Select, Slice, SliceRange, Squeeze, Transpose, Unary, UnaryKind,
    Unsqueeze,
};
use crate::ir::{
    BodyId, ConstId, Constant, Def, Dim, Domain, Function, Module, Node, NodeId, Op, Output, Param,
    Symbol, SymbolRange, Type, Value, ValueId,
};
use crate::tensor::{DType, Tensor, num};

/// What became of the values of an old function.
pub(super) type Map = BTreeMap<ValueId, ValueId>;

/// The new module so far, and the function under construction.
pub(super) struct Lower<'m> {
    pub(super) module: &'m Module,
    pub(super) opset: Opset,
    constants: Vec<Constant>,
    // Old constants in the type that stands for theirs.
    legal: BTreeMap<ConstId, ConstId>,
    bodies: Vec<Function>,
    symbols: Vec<Symbol>,
    function: Function,
    const_values: BTreeMap<ConstId, ValueId>,
    names: BTreeSet<String>,
    node: String,
    step: usize,
    warnings: Vec<String>,
}

impl<'m> Lower<'m> {
    pub(super) fn new(module: &'m Module, opset: Opset) -> Self {
        Lower {
            module,
            opset,
            constants: Vec::new(),
            legal: BTreeMap::new(),
            bodies: Vec::new(),
            symbols: module.symbols.clone(),
            function: Function::empty("main"),
            const_values: BTreeMap::new(),
            names: BTreeSet::new(),
            node: String::new(),
            step: 0,
            warnings: Vec::new(),
        }
    }

    /// Begins a function.
    pub(super) fn begin(&mut self, name: &str) {
        self.function = Function::empty(name);
        self.const_values.clear();
        self.names.clear();
    }

    /// The finished function.
    pub(super) fn end(&mut self) -> Function {
        std::mem::replace(&mut self.function, Function::empty(""))
    }

    /// Constants, bodies, warnings and symbols of the new module.
    pub(super) fn finish(self) -> (Vec<Constant>, Vec<Function>, Vec<String>, Vec<Symbol>) {
        (self.constants, self.bodies, self.warnings, self.symbols)
    }

    /// A size of the new module that only a run tells, named after the value that is worked on.
    pub(super) fn open_size(&mut self, part: &str, range: SymbolRange) -> Dim {
        let base = format!("{}/{part}", self.node);
        let taken = |name: &str| self.symbols.iter().any(|s| s.name == name);
        let numbered = (1..).map(|i| format!("{base}#{i}"));
        let mut names = std::iter::once(base.clone()).chain(numbered);
        let name = names.find(|name| !taken(name)).unwrap_or(base);
        self.symbols.push(Symbol {
            name: name.clone(),
            range,
        });
        Dim::symbol(&name)
    }

    /// The largest value of a dimension, if it is known or a symbol with a bound.
    pub(super) fn largest(&self, dim: &Dim) -> Option<u64> {
        if let Some(n) = dim.known() {
            return Some(num::u64_of(n));
        }
        let name = dim.as_symbol()?;
        match &self.symbols.iter().find(|s| s.name == name)?.range {
            SymbolRange::OneOf(sizes) => sizes.iter().max().copied(),
            SymbolRange::Between { max, .. } => Some(*max),
        }
    }

    pub(super) fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// What is added next belongs to the value of this name.
    pub(super) fn at(&mut self, name: &str) {
        name.clone_into(&mut self.node);
        self.step = 0;
    }

    /// Name of the value that is worked on.
    pub(super) fn node_name(&self) -> &str {
        &self.node
    }

    /// No value that is added later is called so.
    pub(super) fn keep_free(&mut self, name: &str) {
        self.names.insert(name.to_owned());
    }

    fn free_name(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        while !self.names.insert(name.clone()) {
            self.step += 1;
            name = format!("{base}#{}", self.step);
        }
        name
    }

    fn add(&mut self, name: String, ty: Type, def: Def) -> ValueId {
        self.function.values.push(Value { name, ty, def });
        ValueId(self.function.values.len() - 1)
    }

    /// Adds a parameter.
    pub(super) fn param(&mut self, name: &str, ty: Type, domain: Domain) -> ValueId {
        let name = self.free_name(name);
        let id = self.add(name, ty, Def::Param(self.function.params.len()));
        self.function.params.push(Param { value: id, domain });
        id
    }

    /// Adds an output.
    pub(super) fn output(&mut self, name: &str, value: ValueId) {
        self.function.outputs.push(Output {
            name: name.to_owned(),
            value,
        });
    }

    /// Type of a new value.
    pub(super) fn ty(&self, value: ValueId) -> &Type {
        self.function.ty(value)
    }

    /// Shape of a new value.
    pub(super) fn shape(&self, value: ValueId) -> Vec<Dim> {
        self.ty(value).shape.clone()
    }

    /// Shape of a new value in numbers.
    pub(super) fn known(&self, op: &'static str, value: ValueId) -> Result<Vec<usize>> {
        let shape = self.ty(value).known_shape();
        shape.ok_or_else(|| self.refuse(op, "its sizes must be known"))
    }

    /// The new constant behind a new value.
    pub(super) fn as_constant(&self, value: ValueId) -> Option<&Constant> {
        match self.function.value(value).def {
            Def::Const(id) => self.constants.get(id.index()),
            Def::Param(_) | Def::Node(_) => None,
        }
    }

    /// That an operation cannot be written, and why.
    pub(super) fn refuse(&self, op: &'static str, reason: &'static str) -> Error {
        CoremlError::Refused { op, reason }.into()
    }

    /// Adds a constant as it is.
    pub(super) fn constant(&mut self, constant: Constant) -> ValueId {
        let found = self.constants.iter().position(|c| c.same_as(&constant));
        let id = found.unwrap_or_else(|| {
            self.constants.push(constant);
            self.constants.len() - 1
        });
        self.constant_value(ConstId(id))
    }

    fn constant_value(&mut self, id: ConstId) -> ValueId {
        if let Some(&value) = self.const_values.get(&id) {
            return value;
        }
        let constant = &self.constants[id.index()];
        let ty = Type::known(constant.dtype(), constant.shape());
        let name = constant.name().to_owned();
        let name = self.free_name(&name);
        let value = self.add(name, ty, Def::Const(id));
        self.const_values.insert(id, value);
        value
    }

    /// What stands for a value of the old function.
    pub(super) fn value(&mut self, old: &Function, map: &Map, value: ValueId) -> Result<ValueId> {
        if let Some(&new) = map.get(&value) {
            return Ok(new);
        }
        let v = old.value(value);
        let Def::Const(id) = v.def else {
            let name = v.name.clone();
            return Err(CoremlError::Undefined { name }.into());
        };
        if let Some(&new) = self.legal.get(&id) {
            return Ok(self.constant_value(new));
        }
        let constant = legal_constant(self.module.constant(id), self.opset)?;
        let value = self.constant(constant);
        if let Def::Const(new) = self.function.value(value).def {
            self.legal.insert(id, new);
        }
        Ok(value)
    }

    /// Adds a node and gives its first result.
    pub(super) fn push(&mut self, op: Op, operands: &[ValueId]) -> Result<ValueId> {
        Ok(self.push_all(op, operands)?[0])
    }

    /// Adds a node and gives its results.
    pub(super) fn push_all(&mut self, op: Op, operands: &[ValueId]) -> Result<Vec<ValueId>> {
        let types: Vec<&Type> = operands.iter().map(|&v| self.function.ty(v)).collect();
        let types = op.infer_all(&types).at_node(&self.node)?;
        let id = NodeId(self.function.nodes.len());
        let mut results = Vec::with_capacity(types.len());
        for ty in types {
            self.step += 1;
            let base = format!("{}#{}", self.node, self.step);
            let name = self.free_name(&base);
            results.push(self.add(name, ty, Def::Node(id)));
        }
        self.function.nodes.push(Node {
            op,
            operands: operands.to_vec(),
            results: results.clone(),
        });
        Ok(results)
    }

    /// Rewrites the nodes of an old function into the function under construction.
    pub(super) fn nodes(&mut self, old: &Function, map: &mut Map) -> Result<()> {
        let mut views = Views::new();
        for node in &old.nodes {
            let name = &old.value(node.result()).name;
            let first = self.function.values.len();
            self.at(name);
            let few = wide::lower(self, old, map, &mut views, node).at_node(name)?;
            let results = match few {
                Some(results) => results,
                None => super::node::lower(self, old, map, node).at_node(name)?,
            };
            for (&was, new) in node.results.iter().zip(results) {
                // The value keeps its name, but for one that merely passes through.
                let value = old.value(was);
                let computed = matches!(self.function.value(new).def, Def::Node(_));
                if computed && new.index() >= first && self.names.insert(value.name.clone()) {
                    let renamed = value.name.clone();
                    let slot = &mut self.function.values[new.index()].name;
                    let temporary = std::mem::replace(slot, renamed);
                    self.names.remove(&temporary);
                }
                map.insert(was, new);
            }
        }
        Ok(())
    }

    /// What becomes of a body that is given these values. From `open` on, those that are constants are constants in it, too.
    pub(super) fn body(&mut self, id: BodyId, open: usize, given: &[ValueId]) -> Result<BodyId> {
        let module = self.module;
        let old = module.body(id);
        let fixed: Vec<Option<Constant>> = given
            .iter()
            .enumerate()
            .map(|(i, &v)| self.as_constant(v).filter(|_| i >= open).cloned())
            .collect();
        let new = self.build(&old.name, |lower| {
            let mut map = Map::new();
            for (param, fixed) in old.params.iter().zip(fixed) {
                let value = old.value(param.value);
                let ty = Type::new(legal(value.ty.dtype, lower.opset), value.ty.shape.clone());
                let mut id = lower.param(&value.name, ty, param.domain.clone());
                if let Some(constant) = fixed {
                    id = lower.constant(constant);
                }
                map.insert(param.value, id);
            }
            lower.nodes(old, &mut map)?;
            for output in &old.outputs {
                lower.at(&output.name);
                let value = lower.value(old, &map, output.value)?;
                lower.output(&output.name, value);
            }
            Ok(())
        })?;
        Ok(new)
    }

    /// A name for a body that belongs to the value that is worked on; no other body has it.
    pub(super) fn open_body(&self, part: &str) -> String {
        format!("{}/{part}{}", self.node, self.bodies.len())
    }

    /// A new body.
    pub(super) fn build(
        &mut self,
        name: &str,
        build: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<BodyId> {
        let outer = std::mem::replace(&mut self.function, Function::empty(name));
        let constants = std::mem::take(&mut self.const_values);
        let (node, step) = (self.node.clone(), self.step);
        let built = build(self);
        let body = std::mem::replace(&mut self.function, outer);
        self.const_values = constants;
        self.node = node;
        self.step = step;
        built?;
        self.bodies.push(body);
        Ok(BodyId(self.bodies.len() - 1))
    }

    /// A constant from memory.
    pub(super) fn tensor(&mut self, tensor: &Tensor) -> Result<ValueId> {
        let name = format!("{}#const", self.node);
        Ok(self.constant(Constant::from_tensor(&name, tensor)?))
    }

    /// A vector of `int32`.
    pub(super) fn ints(&mut self, values: Vec<i64>) -> Result<ValueId> {
        let tensor = int32(vec![values.len()], values).at_node(&self.node)?;
        self.tensor(&tensor)
    }

    /// A scalar of a number type.
    pub(super) fn scalar(&mut self, dtype: DType, x: f64) -> Result<ValueId> {
        let tensor = if dtype.is_float() {
            Tensor::f32(vec![], vec![num::f32_of_f64(x)])?.cast(dtype)
        } else if dtype == DType::I32 {
            int32(vec![], vec![num::i64_of_f64(x)]).at_node(&self.node)?
        } else {
            Tensor::int(dtype, vec![], vec![num::i64_of_f64(x)])?
        };
        self.tensor(&tensor)
    }

    /// A scalar of the type of `x`.
    pub(super) fn like(&mut self, x: ValueId, value: f64) -> Result<ValueId> {
        let dtype = self.ty(x).dtype;
        self.scalar(dtype, value)
    }

    pub(super) fn unary(&mut self, kind: UnaryKind, x: ValueId) -> Result<ValueId> {
        self.push(Op::Unary(Unary { kind }), &[x])
    }

    pub(super) fn binary(&mut self, kind: BinaryKind, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.push(Op::Binary(Binary { kind }), &[a, b])
    }

    /// A binary operation with a number.
    pub(super) fn with(&mut self, kind: BinaryKind, a: ValueId, b: f64) -> Result<ValueId> {
        let b = self.like(a, b)?;
        self.binary(kind, a, b)
    }

    pub(super) fn compare(&mut self, kind: CompareKind, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.push(Op::Compare(Compare { kind }), &[a, b])
    }

    /// A comparison with a number.
    pub(super) fn compare_with(
        &mut self,
        kind: CompareKind,
        a: ValueId,
        b: f64,
    ) -> Result<ValueId> {
        let b = self.like(a, b)?;
        self.compare(kind, a, b)
    }

    pub(super) fn select(&mut self, c: ValueId, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.push(Op::Select(Select), &[c, a, b])
    }

    /// The value as another type; itself when it is of that type.
    pub(super) fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId> {
        if self.ty(x).dtype == to {
            return Ok(x);
        }
        self.push(Op::Cast(Cast { to }), &[x])
    }

    pub(super) fn clip(&mut self, x: ValueId, min: f64, max: f64) -> Result<ValueId> {
        let (min, max) = (num::f32_of_f64(min), num::f32_of_f64(max));
        self.push(Op::Clip(Clip { min, max }), &[x])
    }

    pub(super) fn reduce(
        &mut self,
        kind: ReduceKind,
        x: ValueId,
        axes: &[usize],
        keep_dims: bool,
    ) -> Result<ValueId> {
        let axes = axes.to_vec();
        let op = Reduce {
            kind,
            axes,
            keep_dims,
        };
        self.push(Op::Reduce(op), &[x])
    }

    /// The value in another shape; itself when it has that shape.
    pub(super) fn reshape(&mut self, x: ValueId, shape: Vec<Dim>) -> Result<ValueId> {
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.push(Op::Reshape(Reshape { shape }), &[x])
    }

    pub(super) fn transpose(&mut self, x: ValueId, perm: Vec<usize>) -> Result<ValueId> {
        if perm.iter().copied().eq(0..perm.len()) {
            return Ok(x);
        }
        self.push(Op::Transpose(Transpose { perm }), &[x])
    }

    pub(super) fn expand(&mut self, x: ValueId, shape: Vec<Dim>) -> Result<ValueId> {
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.push(Op::Expand(Expand { shape }), &[x])
    }

    pub(super) fn slice(&mut self, x: ValueId, ranges: Vec<SliceRange>) -> Result<ValueId> {
        self.push(Op::Slice(Slice { ranges }), &[x])
    }

    /// `start..end` along one axis.
    pub(super) fn part(
        &mut self,
        x: ValueId,
        axis: usize,
        start: usize,
        end: usize,
    ) -> Result<ValueId> {
        if start == 0 && self.ty(x).shape[axis].known() == Some(end) {
            return Ok(x);
        }
        if axis == 0
            && let Some(constant) = self.as_constant(x)
        {
            let rows = constant.rows(start, end - start)?;
            return Ok(self.constant(rows));
        }
        self.slice(x, vec![SliceRange::new(axis, start, end)])
    }

    /// One element along an axis, which goes.
    pub(super) fn pick(&mut self, x: ValueId, axis: usize, at: usize) -> Result<ValueId> {
        let part = self.part(x, axis, at, at + 1)?;
        self.squeeze(part, vec![axis])
    }

    /// Joined along an axis; one value stays as it is.
    pub(super) fn concat(&mut self, parts: &[ValueId], axis: usize) -> Result<ValueId> {
        match parts {
            [one] => Ok(*one),
            parts => self.push(Op::Concat(Concat { axis }), parts),
        }
    }

    pub(super) fn gather(&mut self, x: ValueId, at: ValueId, axis: usize) -> Result<ValueId> {
        self.push(Op::Gather(Gather { axis }), &[x, at])
    }

    pub(super) fn squeeze(&mut self, x: ValueId, axes: Vec<usize>) -> Result<ValueId> {
        if axes.is_empty() {
            return Ok(x);
        }
        if let Some(constant) = self.as_constant(x) {
            let kept = constant.shape().iter().enumerate();
            let shape = kept.filter(|(i, _)| !axes.contains(i)).map(|(_, &n)| n);
            let squeezed = constant.reshape(shape.collect())?;
            return Ok(self.constant(squeezed));
        }
        self.push(Op::Squeeze(Squeeze { axes }), &[x])
    }

    pub(super) fn unsqueeze(&mut self, x: ValueId, axes: Vec<usize>) -> Result<ValueId> {
        if axes.is_empty() {
            return Ok(x);
        }
        if let Some(constant) = self.as_constant(x) {
            let mut shape = constant.shape().to_vec();
            axes.iter().for_each(|&a| shape.insert(a, 1));
            let longer = constant.reshape(shape)?;
            return Ok(self.constant(longer));
        }
        self.push(Op::Unsqueeze(Unsqueeze { axes }), &[x])
    }

    /// A value of one element as a scalar.
    pub(super) fn scalar_of(&mut self, x: ValueId) -> Result<ValueId> {
        let rank = self.ty(x).rank();
        self.squeeze(x, (0..rank).collect())
    }

    /// A value of one element as a vector.
    pub(super) fn vector_of(&mut self, x: ValueId) -> Result<ValueId> {
        let rank = self.ty(x).rank();
        match rank {
            0 => self.unsqueeze(x, vec![0]),
            1 => Ok(x),
            _ => self.squeeze(x, (1..rank).collect()),
        }
    }

    /// A vector of one element per channel, for an operand of this rank with the channels at `axis`.
    pub(super) fn along(&mut self, x: ValueId, rank: usize, axis: usize) -> Result<ValueId> {
        let axes = (0..rank).filter(|&a| a != axis).collect();
        self.unsqueeze(x, axes)
    }
}

/// Dimensions of sizes.
pub(super) fn dims(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|&n| Dim::from(n)).collect()
}

/// The product of dimensions.
pub(super) fn product(dims: &[Dim]) -> Dim {
    dims.iter().fold(Dim::from(1), |n, d| n.mul(d))
}
