//! Modules, functions, nodes and values.

use std::collections::BTreeMap;

use super::constant::Constant;
use super::dim::{Bindings, RUN_TIME};
use super::op::Op;
use super::types::{IrError, Type};
use crate::tensor::DType;

/// A constant of a [`Module`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConstId(pub(crate) usize);

/// A value of a [`Function`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub(crate) usize);

/// A node of a [`Function`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

/// A body of a [`Module`]: a function that control flow runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyId(pub(crate) usize);

impl BodyId {
    /// Index into [`Module::bodies`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

impl ConstId {
    /// Index into [`Module::constants`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

impl ValueId {
    /// Index into [`Function::values`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

impl NodeId {
    /// Index into [`Function::nodes`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

/// What a symbol may stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SymbolRange {
    /// Any size from `min` to `max`, both included.
    Between {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// One of these sizes, ascending.
    OneOf(Vec<u64>),
}

/// A named dimension: of the interface, or known only once a node has run (how many elements were found, how long a range became).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Name.
    pub name: String,
    /// Sizes.
    pub range: SymbolRange,
}

impl Symbol {
    /// Whether its value is known only once a node has run.
    #[must_use]
    pub fn is_run_time(&self) -> bool {
        self.name.starts_with(RUN_TIME)
    }
}

/// Which values a parameter may take; probes are drawn from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Any value of its type.
    Any,
    /// Indices below a bound, such as token ids.
    Index {
        /// The bound.
        below: u64,
    },
    /// 1 for what counts, 0 for padding; at least one 1 in every row.
    Mask,
    /// A channel of an image's pixel: a whole number from 0 to 255.
    Pixel,
}

/// A parameter of a function. Its name and type are those of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// The value.
    pub value: ValueId,
    /// Which values it may take.
    pub domain: Domain,
}

/// A result of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Name of the interface.
    pub name: String,
    /// The value.
    pub value: ValueId,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Def {
    /// The function's parameter of this index.
    Param(usize),
    /// A constant of the module.
    Const(ConstId),
    /// A result of a node.
    Node(NodeId),
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Path-like name, unique in the function: `model/layers.0/self_attn/q_proj`. It survives passes, so that an artifact can be compared with its source.
    pub name: String,
    /// Type.
    pub ty: Type,
    /// Definition.
    pub def: Def,
}

/// An operation applied to operands. Its name is that of its first result.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The operation.
    pub op: Op,
    /// Operands, defined before this node.
    pub operands: Vec<ValueId>,
    /// The results: one, but for the few operations that give several.
    pub results: Vec<ValueId>,
}

impl Node {
    /// The first result: the one the node is named after, and of most operations the only one.
    #[must_use]
    pub fn result(&self) -> ValueId {
        self.results[0]
    }
}

/// What a model keeps from one run to the next: a parameter that is given what an output was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Name of the state.
    pub name: String,
    /// The parameter that reads it.
    pub param: ValueId,
    /// Name of the output that becomes its next value.
    pub output: String,
}

/// A function: parameters, nodes in topological order, outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Name; `main` unless there are several.
    pub name: String,
    /// Parameters, in order.
    pub params: Vec<Param>,
    /// Outputs, in order.
    pub outputs: Vec<Output>,
    /// Nodes, in topological order.
    pub nodes: Vec<Node>,
    /// Values.
    pub values: Vec<Value>,
    /// Parameters and outputs that carry state between runs.
    pub states: Vec<State>,
}

impl Function {
    /// A function of this name with nothing in it.
    #[must_use]
    pub fn empty(name: &str) -> Self {
        Function {
            name: name.to_owned(),
            params: Vec::new(),
            outputs: Vec::new(),
            nodes: Vec::new(),
            values: Vec::new(),
            states: Vec::new(),
        }
    }

    /// The value behind an id.
    #[must_use]
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// The type of a value.
    #[must_use]
    pub fn ty(&self, id: ValueId) -> &Type {
        &self.values[id.0].ty
    }

    /// The node that computes a value, if one does.
    #[must_use]
    pub fn producer(&self, id: ValueId) -> Option<&Node> {
        match self.values[id.0].def {
            Def::Node(node) => Some(&self.nodes[node.0]),
            Def::Param(_) | Def::Const(_) => None,
        }
    }

    /// The parameter of this name.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&Param> {
        self.params
            .iter()
            .find(|p| self.value(p.value).name == name)
    }

    /// The values of the symbols that concrete parameter shapes imply.
    ///
    /// # Errors
    /// When a shape contradicts the declared type or another shape.
    pub fn bind<'a>(
        &self,
        shapes: impl IntoIterator<Item = (&'a str, &'a [usize])>,
    ) -> Result<Bindings, IrError> {
        let shapes: BTreeMap<&str, &[usize]> = shapes.into_iter().collect();
        let mut bindings = Bindings::new();
        let mismatch = |declared: &Type, found: &[usize]| IrError::Declared {
            declared: declared.to_string(),
            inferred: format!("{found:?}"),
        };
        for param in &self.params {
            let value = self.value(param.value);
            let Some(found) = shapes.get(value.name.as_str()) else {
                continue;
            };
            if found.len() != value.ty.rank() {
                return Err(mismatch(&value.ty, found));
            }
            for (dim, &n) in value.ty.shape.iter().zip(*found) {
                let n = crate::tensor::num::u64_of(n);
                if let Some(symbol) = dim.as_symbol()
                    && *bindings.entry(symbol.to_owned()).or_insert(n) != n
                {
                    return Err(mismatch(&value.ty, found));
                }
            }
        }
        for param in &self.params {
            let value = self.value(param.value);
            let Some(found) = shapes.get(value.name.as_str()) else {
                continue;
            };
            for (dim, &n) in value.ty.shape.iter().zip(*found) {
                if dim
                    .eval(&bindings)
                    .is_some_and(|d| usize::try_from(d) != Ok(n))
                {
                    return Err(mismatch(&value.ty, found));
                }
            }
        }
        Ok(bindings)
    }
}

/// What a front end knows about a model's behaviour beyond its graph. Verification tests every claim on the source and on the artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Along axis 1, `output` at a position does not depend on any of `inputs` at later positions.
    Causal {
        /// Parameters of shape `[batch, seq, …]`.
        inputs: Vec<String>,
        /// An output of shape `[batch, seq, …]`.
        output: String,
    },
    /// Where `mask` is 0, the values of `input` do not matter: not for `pooled` outputs, and not for `per_position` outputs where `mask` is 1.
    IgnoresPadding {
        /// A parameter of shape `[batch, seq]`.
        input: String,
        /// A parameter of shape `[batch, seq]`, 1 for what counts.
        mask: String,
        /// Outputs of shape `[batch, seq, …]`.
        per_position: Vec<String>,
        /// Outputs without a sequence axis.
        pooled: Vec<String>,
    },
}

/// A model: functions over shared constants and symbols.
#[derive(Clone, Debug)]
pub struct Module {
    /// Name of the model.
    pub name: String,
    /// Declared symbols.
    pub symbols: Vec<Symbol>,
    /// Constants; [`ConstId`] is an index.
    pub constants: Vec<Constant>,
    /// Functions; the first is the default one.
    pub functions: Vec<Function>,
    /// What control flow runs; [`BodyId`] is an index. A body uses earlier bodies only, so nothing is recursive.
    pub bodies: Vec<Function>,
    /// What verification should hold the model to.
    pub claims: Vec<Claim>,
}

impl Module {
    /// The default function.
    ///
    /// # Errors
    /// When the module has no function.
    pub fn main(&self) -> Result<&Function, IrError> {
        self.functions.first().ok_or_else(|| IrError::NoFunction {
            name: "main".into(),
        })
    }

    /// The function of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn function(&self, name: &str) -> Result<&Function, IrError> {
        self.functions
            .iter()
            .find(|f| f.name == name)
            .ok_or_else(|| IrError::NoFunction {
                name: name.to_owned(),
            })
    }

    /// A body of control flow.
    #[must_use]
    pub fn body(&self, id: BodyId) -> &Function {
        &self.bodies[id.0]
    }

    /// Whether any value, of functions or of bodies, has this element type.
    #[must_use]
    pub fn has(&self, dtype: DType) -> bool {
        let functions = self.functions.iter().chain(&self.bodies);
        functions
            .flat_map(|f| &f.values)
            .any(|v| v.ty.dtype == dtype)
    }

    /// The symbols whose values the interface gives.
    pub fn interface_symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|s| !s.is_run_time())
    }

    /// A constant.
    #[must_use]
    pub fn constant(&self, id: ConstId) -> &Constant {
        &self.constants[id.0]
    }

    /// The declared symbol of this name.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<&Symbol> {
        self.symbols.iter().find(|s| s.name == name)
    }
}
