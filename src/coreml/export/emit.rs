//! Puts operations into a program: names, constants and parameters. Sizes that are known only at run time are in `size.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::{RmsNormForm, value};
use crate::coreml::blob::BlobPlan;
use crate::coreml::dtype::{mil_name, to_mil};
use crate::coreml::error::CoremlError;
use crate::coreml::interface::Classifier;
use crate::coreml::names::{Names, is_identifier};
use crate::coreml::proto::mil_spec::argument::{Binding, binding};
use crate::coreml::proto::mil_spec::{Argument, Block, Operation, Value};
use crate::coreml::table;
use crate::coreml::target::Opset;
use crate::error::{Context, Result};
use crate::ir::{Constant, Def, Dim, Function, Module, Node, State, Type, ValueId};
use crate::tensor::{DType, Tensor, num};

/// A value in the program.
#[derive(Clone, Debug)]
pub(super) struct Var {
    /// Its identifier.
    pub(super) id: String,
    /// Its type.
    pub(super) ty: Type,
}

/// What a parameter gets.
#[derive(Clone)]
pub(super) enum Arg<'a> {
    /// A value.
    Var(&'a Var),
    /// Several values.
    Vars(&'a [Var]),
    /// An integer.
    Int(usize),
    /// A list of integers.
    Ints(Vec<usize>),
    /// A list of integers that may be negative.
    Signed(Vec<i64>),
    /// A truth value.
    Bool(bool),
    /// A list of truth values.
    Bools(Vec<bool>),
    /// A text.
    Text(&'a str),
    /// A scalar of a floating-point type.
    Float(DType, f64),
}

/// What a parameter of an operation on constants gets.
pub(super) enum Part {
    /// A constant.
    Value(Value),
    /// What another such operation gives.
    Name(String),
}

/// Parameters by name.
pub(super) type Params<'p> = [(&'p str, Arg<'p>)];

/// A program under construction.
pub(super) struct Emitter<'a> {
    pub(super) module: &'a Module,
    pub(super) function: &'a Function,
    pub(super) opset: Opset,
    pub(super) rms_norm: RmsNormForm,
    /// Whether compressed weights are written as what they stand for.
    pub(super) expand: bool,
    /// Names of the weights that stay compressed, with the bytes that they take.
    pub(super) kept: BTreeMap<String, u64>,
    pub(super) operations: Vec<Operation>,
    pub(super) blobs: BlobPlan,
    /// What sizes are called in the program, as vectors of one element.
    pub(super) sizes: BTreeMap<Dim, Var>,
    /// What the shapes of values are called.
    pub(super) shapes: BTreeMap<String, Var>,
    names: Names,
    // Identifiers that values must have, because they are outputs.
    fixed: BTreeMap<ValueId, String>,
    vars: BTreeMap<ValueId, Var>,
    // What surrounds the block that is being written.
    outer: Vec<Frame<'a>>,
    current: ValueId,
}

/// A function or body that is set aside while a block inside it is written.
struct Frame<'a> {
    function: &'a Function,
    vars: BTreeMap<ValueId, Var>,
    fixed: BTreeMap<ValueId, String>,
    operations: Vec<Operation>,
    sizes: BTreeMap<Dim, Var>,
    shapes: BTreeMap<String, Var>,
    current: ValueId,
}

impl<'a> Emitter<'a> {
    /// An empty program with the function's inputs and the identifiers of its outputs. The outputs of a classifier are no values of the function.
    ///
    /// # Errors
    /// When an input or output is not called by an identifier, or two share one.
    pub(super) fn new(
        module: &'a Module,
        function: &'a Function,
        opset: Opset,
        rms_norm: RmsNormForm,
        classifier: Option<&Classifier>,
    ) -> Result<Self> {
        let mut names = Names::default();
        let mut reserve = |name: &str| -> Result<String, CoremlError> {
            let name = name.to_owned();
            if !is_identifier(&name) {
                return Err(CoremlError::Identifier { name });
            }
            if !names.reserve(&name) {
                return Err(CoremlError::Duplicate { name });
            }
            Ok(name)
        };
        let mut vars = BTreeMap::new();
        for param in &function.params {
            let value = function.value(param.value);
            let (id, ty) = (reserve(&value.name)?, value.ty.clone());
            vars.insert(param.value, Var { id, ty });
        }
        let (mut fixed, mut seen) = (BTreeMap::new(), BTreeSet::new());
        for output in &function.outputs {
            let state = |s: &&State| s.output == output.name;
            let is_state = super::kept(function, opset).iter().any(state);
            if is_state || is_input(function, output.value, &output.name) {
                continue;
            }
            let id = reserve(&output.name)?;
            if classifier.is_some_and(|c| c.probabilities == output.name) {
                continue;
            }
            // The first output of a computed value is that value; all others are copies.
            let computed = matches!(function.value(output.value).def, Def::Node(_));
            if computed && seen.insert(output.value) {
                fixed.insert(output.value, id);
            }
        }
        if let Some(classifier) = classifier {
            reserve(&classifier.label)?;
        }
        Ok(Emitter {
            module,
            function,
            opset,
            rms_norm,
            expand: false,
            kept: BTreeMap::new(),
            operations: Vec::new(),
            blobs: BlobPlan::default(),
            sizes: BTreeMap::new(),
            shapes: BTreeMap::new(),
            names,
            fixed,
            vars,
            outer: Vec::new(),
            current: ValueId(0),
        })
    }

    /// Begins a node: what is emitted next belongs to it.
    pub(super) fn begin(&mut self, node: &Node) {
        self.current = node.result();
    }

    /// Name of the operation.
    pub(super) fn op(&self) -> &'static str {
        let producer = self.function.producer(self.current);
        producer.map_or("constant", |node| node.op.name())
    }

    /// Name of the node's value.
    pub(super) fn name(&self) -> &'a str {
        &self.function.value(self.current).name
    }

    /// Type of the node's value.
    pub(super) fn result_type(&self) -> &'a Type {
        self.function.ty(self.current)
    }

    /// The variable of an IR value; a constant is emitted when it is first used.
    pub(super) fn var(&mut self, value: ValueId) -> Result<Var> {
        if let Some(var) = self.vars.get(&value) {
            return Ok(var.clone());
        }
        let v = self.function.value(value);
        let Def::Const(id) = v.def else {
            let name = v.name.clone();
            return Err(CoremlError::Undefined { name }).at_node(self.name());
        };
        let var = self.weight(&v.name, self.module.constant(id))?;
        self.vars.insert(value, var.clone());
        Ok(var)
    }

    /// The variables of a node's operands.
    pub(super) fn operands(&mut self, node: &Node) -> Result<Vec<Var>> {
        node.operands.iter().map(|&v| self.var(v)).collect()
    }

    /// The constant behind an IR value, if it is one.
    pub(super) fn as_constant(&self, value: ValueId) -> Option<&'a Constant> {
        match self.function.value(value).def {
            Def::Const(id) => Some(self.module.constant(id)),
            Def::Param(_) | Def::Node(_) => None,
        }
    }

    /// The operation that gives the node's values.
    pub(super) fn finish(&mut self, kind: &str, params: &Params<'_>) -> Result<()> {
        self.finish_with(kind, params, Vec::new())
    }

    /// The operation with these blocks that gives the node's values.
    pub(super) fn finish_with(
        &mut self,
        kind: &str,
        params: &Params<'_>,
        blocks: Vec<Block>,
    ) -> Result<()> {
        self.finish_after(kind, Vec::new(), params, blocks)
    }

    /// The operation that gives values of these types, then the node's.
    pub(super) fn finish_after(
        &mut self,
        kind: &str,
        leading: Vec<Type>,
        params: &Params<'_>,
        blocks: Vec<Block>,
    ) -> Result<()> {
        let function = self.function;
        let results = match function.producer(self.current) {
            Some(node) => node.results.as_slice(),
            None => &[],
        };
        let first = leading.len();
        let mut vars = Vec::with_capacity(first + results.len());
        for (i, ty) in leading.into_iter().enumerate() {
            let name = format!("{}#{i}", self.name());
            vars.push(self.fresh(&name, ty));
        }
        for &result in results {
            vars.push(self.result_var(result));
        }
        self.operation(kind, self.name(), &vars, params, blocks)?;
        self.vars
            .extend(results.iter().copied().zip(vars.drain(first..)));
        Ok(())
    }

    /// The operation that gives one of the node's values.
    pub(super) fn finish_one(
        &mut self,
        place: usize,
        kind: &str,
        params: &Params<'_>,
    ) -> Result<()> {
        let function = self.function;
        let node = function.producer(self.current);
        let Some(&result) = node.and_then(|n| n.results.get(place)) else {
            return Ok(());
        };
        let var = self.result_var(result);
        let results = std::slice::from_ref(&var);
        self.operation(
            kind,
            &function.value(result).name,
            results,
            params,
            Vec::new(),
        )?;
        self.vars.insert(result, var);
        Ok(())
    }

    fn result_var(&mut self, result: ValueId) -> Var {
        let value = self.function.value(result);
        let id = match self.fixed.get(&result) {
            Some(id) => id.clone(),
            None => self.names.identifier(&value.name),
        };
        let ty = value.ty.clone();
        Var { id, ty }
    }

    /// Types of the node's values.
    pub(super) fn result_types(&self) -> Vec<Type> {
        let node = self.function.producer(self.current);
        let results = node.map_or(&[][..], |n| &n.results);
        results
            .iter()
            .map(|&v| self.function.ty(v).clone())
            .collect()
    }

    /// An operation of several results on the way to the node's value.
    pub(super) fn steps(
        &mut self,
        step: &str,
        kind: &str,
        types: Vec<Type>,
        params: &Params<'_>,
    ) -> Result<Vec<Var>> {
        let name = format!("{}#{step}", self.name());
        let vars: Vec<Var> = types.into_iter().map(|ty| self.fresh(&name, ty)).collect();
        self.operation(kind, &name, &vars, params, Vec::new())?;
        Ok(vars)
    }

    /// A constant of this name.
    pub(super) fn weight_of(&mut self, name: &str, tensor: &Tensor) -> Result<Var> {
        self.weight(name, &Constant::from_tensor(name, tensor)?)
    }

    /// The constant behind an identifier, if it is one of the function's.
    pub(super) fn constant_of(&self, id: &str) -> Option<&'a Constant> {
        let (&value, _) = self.vars.iter().find(|(_, var)| var.id == id)?;
        self.as_constant(value)
    }

    /// Another variable is from now on what a value is called.
    pub(super) fn stand_for(&mut self, value: ValueId, var: Var) {
        self.vars.insert(value, var);
    }

    /// Writes a value into a state.
    pub(super) fn write(&mut self, state: &Var, value: &Var) -> Result<()> {
        let name = self.names.identifier(&format!("{}_write", state.id));
        let params = [("input", Arg::Var(state)), ("data", Arg::Var(value))];
        self.operation("write_state", &name, &[], &params, Vec::new())
    }

    /// Begins a block inside the function: a body whose parameters are these values.
    pub(super) fn enter(&mut self, body: &'a Function, params: Vec<Var>) {
        // Inside, a size has the name that the body gives it.
        let ids = body.params.iter().map(|p| p.value);
        let params = params.into_iter().zip(ids.clone()).map(|(var, value)| Var {
            ty: body.ty(value).clone(),
            ..var
        });
        let frame = Frame {
            function: std::mem::replace(&mut self.function, body),
            vars: std::mem::replace(&mut self.vars, ids.zip(params).collect()),
            fixed: std::mem::take(&mut self.fixed),
            operations: std::mem::take(&mut self.operations),
            sizes: self.sizes.clone(),
            shapes: self.shapes.clone(),
            current: self.current,
        };
        self.outer.push(frame);
    }

    /// Ends the block and gives its operations.
    pub(super) fn leave(&mut self) -> Vec<Operation> {
        let Some(frame) = self.outer.pop() else {
            return Vec::new();
        };
        self.function = frame.function;
        self.vars = frame.vars;
        self.fixed = frame.fixed;
        self.sizes = frame.sizes;
        self.shapes = frame.shapes;
        self.current = frame.current;
        std::mem::replace(&mut self.operations, frame.operations)
    }

    /// A value whose shape has this symbol as a dimension, and which one; of those that the current block sees.
    pub(super) fn with_symbol(&self, symbol: &str) -> Option<(Var, usize)> {
        let inside = self.vars.values();
        let around = self.outer.iter().rev().flat_map(|f| f.vars.values());
        inside.chain(around).find_map(|var| {
            let axis = var
                .ty
                .shape
                .iter()
                .position(|d| d.as_symbol() == Some(symbol))?;
            Some((var.clone(), axis))
        })
    }

    /// A name that is free, for a value of this type inside a block.
    pub(super) fn fresh(&mut self, name: &str, ty: Type) -> Var {
        let id = self.names.identifier(name);
        Var { id, ty }
    }

    /// An operation on the way to the node's value.
    pub(super) fn step(
        &mut self,
        step: &str,
        kind: &str,
        ty: Type,
        params: &Params<'_>,
    ) -> Result<Var> {
        let name = format!("{}#{step}", self.name());
        self.named(&name, kind, ty, params)
    }

    /// An operation of this name.
    pub(super) fn named(
        &mut self,
        name: &str,
        kind: &str,
        ty: Type,
        params: &Params<'_>,
    ) -> Result<Var> {
        let id = self.names.identifier(name);
        let var = Var { id, ty };
        let results = std::slice::from_ref(&var);
        self.operation(kind, name, results, params, Vec::new())?;
        Ok(var)
    }

    /// Sees to it that the output is called by its name: a copy where the value itself is called otherwise, or is an input or a constant.
    pub(super) fn output(&mut self, value: ValueId, output: &str) -> Result<()> {
        let fixed = self.fixed.get(&value).is_some_and(|id| id == output);
        if fixed || is_input(self.function, value, output) {
            return Ok(());
        }
        self.current = value;
        let x = self.var(value)?;
        let (id, ty) = (output.to_owned(), x.ty.clone());
        let name = format!("{output}#copy");
        let copy = Var { id, ty };
        self.operation(
            "identity",
            &name,
            &[copy],
            &[("x", Arg::Var(&x))],
            Vec::new(),
        )
    }

    /// A tensor constant on the way to the node's value.
    pub(super) fn tensor(&mut self, step: &str, tensor: &Tensor) -> Result<Var> {
        let name = format!("{}#{step}", self.name());
        self.weight(&name, &Constant::from_tensor(&name, tensor)?)
    }

    /// A scalar on the way to the node's value.
    pub(super) fn scalar(&mut self, step: &str, dtype: DType, x: f64) -> Result<Var> {
        let tensor = scalar(dtype, x)?;
        self.tensor(step, &tensor)
    }

    /// A constant, in the program or in the weight file, or compressed as it is stored.
    pub(super) fn weight(&mut self, name: &str, constant: &Constant) -> Result<Var> {
        if let Some(var) = super::compressed::weight(self, name, constant)? {
            return Ok(var);
        }
        let ty = Type::known(constant.dtype(), constant.shape());
        let value = self.stored(constant)?;
        let id = self.names.identifier(name);
        self.constant(&id, name, value);
        Ok(Var { id, ty })
    }

    /// Adds an operation. Operands of an element type that it does not take go in one that it does, and results that would be of that type come back.
    fn operation(
        &mut self,
        kind: &str,
        name: &str,
        results: &[Var],
        params: &Params<'_>,
        blocks: Vec<Block>,
    ) -> Result<()> {
        let row = table::find(kind, self.opset);
        let mut carried: Option<(DType, DType)> = None;
        let mut inputs = BTreeMap::new();
        for (param, arg) in params {
            let takes = row
                .and_then(|r| r.param(param))
                .map_or(&[][..], |p| &p.dtypes);
            let ids = match arg {
                Arg::Var(var) => vec![self.carry(var, takes, &mut carried)?],
                Arg::Vars(vars) => {
                    let mut ids = Vec::with_capacity(vars.len());
                    for var in *vars {
                        ids.push(self.carry(var, takes, &mut carried)?);
                    }
                    ids
                }
                Arg::Int(_)
                | Arg::Ints(_)
                | Arg::Signed(_)
                | Arg::Bool(_)
                | Arg::Bools(_)
                | Arg::Text(_)
                | Arg::Float(..) => {
                    // A parameter is a constant with a name of its own.
                    let result = results.first().map_or(name, |r| r.id.as_str());
                    let id = self.names.identifier(&format!("{result}_{param}"));
                    let value = literal(arg)?;
                    self.constant(&id, &id, value);
                    vec![id]
                }
            };
            inputs.insert((*param).to_owned(), arguments(ids));
        }
        let mut outputs = Vec::with_capacity(results.len());
        let mut back = Vec::new();
        for result in results {
            match carried {
                Some((from, to)) if result.ty.dtype == from => {
                    let wide = Type::new(to, result.ty.shape.clone());
                    let id = self
                        .names
                        .identifier(&format!("{}_{}", result.id, to.name()));
                    outputs.push(value::named(&id, value::value_type(&wide)));
                    back.push((id, result));
                }
                Some(_) | None => {
                    outputs.push(value::named(&result.id, value::value_type(&result.ty)));
                }
            }
        }
        let attributes = BTreeMap::from([("name".to_owned(), value::text(name))]);
        self.operations.push(Operation {
            r#type: kind.to_owned(),
            inputs,
            outputs,
            blocks,
            attributes,
        });
        for (id, result) in back {
            self.cast_to(&id, result);
        }
        Ok(())
    }

    /// The identifier of a value in an element type that an operation takes.
    fn carry(
        &mut self,
        var: &Var,
        takes: &[&str],
        carried: &mut Option<(DType, DType)>,
    ) -> Result<String> {
        let dtype = var.ty.dtype;
        let taken = |d: DType| takes.contains(&mil_name(to_mil(d)));
        if takes.is_empty() || taken(dtype) {
            return Ok(var.id.clone());
        }
        let small = dtype == DType::Bool || (!dtype.is_float() && dtype.bits() <= 16);
        let to = if small && taken(DType::I32) {
            DType::I32
        } else if (small || dtype == DType::F16) && taken(DType::F32) {
            DType::F32
        } else {
            // Left to the check of the program, which names what is wrong.
            return Ok(var.id.clone());
        };
        if *takes != ["bool"] {
            *carried = Some((dtype, to));
        }
        let id = self.names.identifier(&format!("{}_{}", var.id, to.name()));
        let cast = Var {
            id: id.clone(),
            ty: Type::new(to, var.ty.shape.clone()),
        };
        self.cast_to(&var.id, &cast);
        Ok(id)
    }

    /// The value in single precision.
    pub(super) fn in_single(&mut self, var: &Var) -> Var {
        let id = self.names.identifier(&format!("{}_fp32", var.id));
        let ty = Type::new(DType::F32, var.ty.shape.clone());
        let single = Var { id, ty };
        self.cast_to(&var.id, &single);
        single
    }

    /// A cast, without a look at what it takes.
    fn cast_to(&mut self, from: &str, result: &Var) {
        let id = self.names.identifier(&format!("{}_dtype", result.id));
        let dtype = mil_name(to_mil(result.ty.dtype));
        self.constant(&id, &id, value::text(dtype));
        let inputs = BTreeMap::from([
            ("x".to_owned(), arguments(vec![from.to_owned()])),
            ("dtype".to_owned(), arguments(vec![id])),
        ]);
        self.operations.push(Operation {
            r#type: "cast".to_owned(),
            inputs,
            outputs: vec![value::named(&result.id, value::value_type(&result.ty))],
            blocks: Vec::new(),
            attributes: BTreeMap::from([("name".to_owned(), value::text(&result.id))]),
        });
    }

    /// An operation on constants. The first generation has its parameters as attributes.
    pub(super) fn constexpr(
        &mut self,
        kind: &str,
        results: &[Var],
        params: Vec<(&'static str, Part)>,
    ) -> Result<()> {
        let name = results.last().map_or(kind, |var| var.id.as_str());
        let mut attributes = BTreeMap::from([("name".to_owned(), value::text(name))]);
        let mut inputs = BTreeMap::new();
        for (param, part) in params {
            let binding = match part {
                Part::Value(value) if self.opset < Opset::CoreML8 => {
                    attributes.insert(param.to_owned(), value);
                    continue;
                }
                Part::Value(value) => binding::Binding::Value(value),
                Part::Name(name) => binding::Binding::Name(name),
            };
            let binding = Some(binding);
            let arguments = vec![Binding { binding }];
            inputs.insert(param.to_owned(), Argument { arguments });
        }
        let output = |var: &Var| value::named(&var.id, value::value_type(&var.ty));
        self.operations.push(Operation {
            r#type: kind.to_owned(),
            inputs,
            outputs: results.iter().map(output).collect(),
            blocks: Vec::new(),
            attributes,
        });
        Ok(())
    }

    /// A constant as a parameter of an operation on constants; the second generation takes compressed ones there too.
    pub(super) fn part(&mut self, constant: &Constant) -> Result<Part> {
        if self.opset >= Opset::CoreML8
            && let Some(var) = super::compressed::weight(self, constant.name(), constant)?
        {
            return Ok(Part::Name(var.id));
        }
        self.stored(constant).map(Part::Value)
    }

    /// The value of a constant, in the program or in the weight file.
    pub(super) fn stored(&mut self, constant: &Constant) -> Result<Value> {
        let ty = Type::known(constant.dtype(), constant.shape());
        if value::goes_to_blob(constant, self.opset) {
            Ok(value::blob(&ty, self.blobs.add(constant)?))
        } else {
            Ok(value::inline(&constant.read()?))
        }
    }

    fn constant(&mut self, id: &str, name: &str, value: Value) {
        let ty = value.r#type.clone().unwrap_or_default();
        self.operations.push(Operation {
            r#type: "const".to_owned(),
            inputs: BTreeMap::new(),
            outputs: vec![value::named(id, ty)],
            blocks: Vec::new(),
            attributes: BTreeMap::from([
                ("name".to_owned(), value::text(name)),
                ("val".to_owned(), value),
            ]),
        });
    }
}

/// Whether an output is an input under its own name: programs have that as it is.
fn is_input(function: &Function, value: ValueId, output: &str) -> bool {
    let value = function.value(value);
    matches!(value.def, Def::Param(_)) && value.name == output
}

fn arguments(ids: Vec<String>) -> Argument {
    let named = |id| Binding {
        binding: Some(binding::Binding::Name(id)),
    };
    Argument {
        arguments: ids.into_iter().map(named).collect(),
    }
}

/// A scalar of a number type, rounded once.
fn scalar(dtype: DType, x: f64) -> Result<Tensor> {
    let tensor = if dtype.is_float() {
        Tensor::f32(vec![], vec![num::f32_of_f64(x)])?.cast(dtype)
    } else if dtype == DType::I32 {
        value::int32(vec![], vec![num::i64_of_f64(x)])?
    } else {
        Tensor::int(dtype, vec![], vec![num::i64_of_f64(x)])?
    };
    Ok(tensor)
}

/// The value of a parameter that is not a variable.
fn literal(arg: &Arg<'_>) -> Result<Value> {
    let ints = |shape: Vec<usize>, values: Vec<i64>| -> Result<Value> {
        Ok(value::inline(&value::int32(shape, values)?))
    };
    match arg {
        Arg::Var(_) | Arg::Vars(_) => Err(CoremlError::NoPart { part: "literal" }.into()),
        Arg::Int(n) => ints(vec![], vec![num::i64_of(*n)]),
        Arg::Ints(list) => ints(
            vec![list.len()],
            list.iter().copied().map(num::i64_of).collect(),
        ),
        Arg::Signed(list) => ints(vec![list.len()], list.clone()),
        Arg::Bool(b) => Ok(value::inline(&Tensor::bool(vec![], vec![*b])?)),
        Arg::Bools(list) => Ok(value::inline(&Tensor::bool(
            vec![list.len()],
            list.clone(),
        )?)),
        Arg::Text(text) => Ok(value::text(text)),
        Arg::Float(dtype, x) => Ok(value::inline(&scalar(*dtype, *x)?)),
    }
}
