//! Puts operations into a program: names, constants and parameters. Sizes that are known only at run time are in `size.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::{RmsNormForm, value};
use crate::coreml::blob::BlobPlan;
use crate::coreml::error::CoremlError;
use crate::coreml::names::{Names, is_identifier};
use crate::coreml::proto::mil_spec::argument::{Binding, binding};
use crate::coreml::proto::mil_spec::{Argument, Operation, Value};
use crate::coreml::target::Opset;
use crate::error::{Context, Result};
use crate::ir::{Constant, Def, Dim, Function, Module, Node, Type, ValueId};
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

/// Parameters by name.
pub(super) type Params<'p> = [(&'p str, Arg<'p>)];

/// A program under construction.
pub(super) struct Emitter<'a> {
    pub(super) module: &'a Module,
    pub(super) function: &'a Function,
    pub(super) opset: Opset,
    pub(super) rms_norm: RmsNormForm,
    pub(super) operations: Vec<Operation>,
    pub(super) blobs: BlobPlan,
    /// What sizes are called in the program, as vectors of one element.
    pub(super) sizes: BTreeMap<Dim, Var>,
    /// What the shapes of inputs are called.
    pub(super) shapes: BTreeMap<ValueId, Var>,
    names: Names,
    // Identifiers that values must have, because they are outputs.
    fixed: BTreeMap<ValueId, String>,
    vars: BTreeMap<ValueId, Var>,
    current: ValueId,
}

impl<'a> Emitter<'a> {
    /// An empty program with the function's inputs and the identifiers of its outputs.
    ///
    /// # Errors
    /// When an input or output is not called by an identifier, or two share one.
    pub(super) fn new(
        module: &'a Module,
        function: &'a Function,
        opset: Opset,
        rms_norm: RmsNormForm,
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
            let id = reserve(&output.name)?;
            // The first output of a computed value is that value; all others are copies.
            let computed = matches!(function.value(output.value).def, Def::Node(_));
            if computed && seen.insert(output.value) {
                fixed.insert(output.value, id);
            }
        }
        Ok(Emitter {
            module,
            function,
            opset,
            rms_norm,
            operations: Vec::new(),
            blobs: BlobPlan::default(),
            sizes: BTreeMap::new(),
            shapes: BTreeMap::new(),
            names,
            fixed,
            vars,
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

    /// The operation that gives the node's value.
    pub(super) fn finish(&mut self, kind: &str, params: &Params<'_>) -> Result<()> {
        let id = match self.fixed.get(&self.current) {
            Some(id) => id.clone(),
            None => self.names.identifier(self.name()),
        };
        let ty = self.result_type().clone();
        let var = Var { id, ty };
        self.operation(kind, self.name(), &var, params)?;
        self.vars.insert(self.current, var);
        Ok(())
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
        self.operation(kind, name, &var, params)?;
        Ok(var)
    }

    /// Sees to it that the output is called by its name: a copy where the value itself is called otherwise, or is an input or a constant.
    pub(super) fn output(&mut self, value: ValueId, output: &str) -> Result<()> {
        if self.fixed.get(&value).is_some_and(|id| id == output) {
            return Ok(());
        }
        self.current = value;
        let x = self.var(value)?;
        let (id, ty) = (output.to_owned(), x.ty.clone());
        let name = format!("{output}#copy");
        self.operation("identity", &name, &Var { id, ty }, &[("x", Arg::Var(&x))])
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

    /// A constant, in the program or in the weight file.
    pub(super) fn weight(&mut self, name: &str, constant: &Constant) -> Result<Var> {
        let ty = Type::known(constant.dtype(), constant.shape());
        let value = if value::goes_to_blob(constant, self.opset) {
            value::blob(&ty, self.blobs.add(constant)?)
        } else {
            value::inline(&constant.read()?)
        };
        let id = self.names.identifier(name);
        self.constant(&id, name, value);
        Ok(Var { id, ty })
    }

    fn operation(
        &mut self,
        kind: &str,
        name: &str,
        result: &Var,
        params: &Params<'_>,
    ) -> Result<()> {
        let mut inputs = BTreeMap::new();
        for (param, arg) in params {
            let ids = match arg {
                Arg::Var(var) => vec![var.id.clone()],
                Arg::Vars(vars) => vars.iter().map(|v| v.id.clone()).collect(),
                Arg::Int(_)
                | Arg::Ints(_)
                | Arg::Signed(_)
                | Arg::Bool(_)
                | Arg::Bools(_)
                | Arg::Text(_)
                | Arg::Float(..) => {
                    // A parameter is a constant with a name of its own.
                    let id = self.names.identifier(&format!("{}_{param}", result.id));
                    let value = literal(arg)?;
                    self.constant(&id, &id, value);
                    vec![id]
                }
            };
            let named = |id| Binding {
                binding: Some(binding::Binding::Name(id)),
            };
            let arguments = ids.into_iter().map(named).collect();
            inputs.insert((*param).to_owned(), Argument { arguments });
        }
        self.operations.push(Operation {
            r#type: kind.to_owned(),
            inputs,
            outputs: vec![value::named(&result.id, value::value_type(&result.ty))],
            blocks: Vec::new(),
            attributes: BTreeMap::from([("name".to_owned(), value::text(name))]),
        });
        Ok(())
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

/// A scalar of a number type, rounded once.
fn scalar(dtype: DType, x: f64) -> Result<Tensor> {
    let tensor = if dtype.is_float() {
        Tensor::f32(vec![], vec![num::f32_of_f64(x)])?.cast(dtype)
    } else {
        Tensor::int(dtype, vec![], vec![num::i64_of_f64(x)])?
    };
    Ok(tensor)
}

/// The value of a parameter that is not a variable.
fn literal(arg: &Arg<'_>) -> Result<Value> {
    let ints = |shape: Vec<usize>, values: Vec<i64>| -> Result<Value> {
        Ok(value::inline(&Tensor::int(DType::I32, shape, values)?))
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
