//! The only way to make a module: every node's type is inferred as it is added, and a mismatch is refused at once.

use std::collections::{BTreeMap, BTreeSet};

use super::constant::Constant;
use super::dim::{Dim, RUN_TIME};
use super::module::{
    BodyId, Claim, ConstId, Def, Domain, Function, Module, Node, NodeId, Output, Param, State,
    Symbol, SymbolRange, Value, ValueId,
};
use super::op::Op;
use super::ops::{Binary, BinaryKind, Cast, Unary, UnaryKind};
use super::types::{IrError, Type};
use crate::error::{Context, Result};
use crate::limits;
use crate::tensor::{DType, Tensor, num};

/// Builds a module, one function after the other.
#[derive(Debug)]
pub struct Builder {
    module: Module,
    function: Function,
    scope: Vec<String>,
    names: BTreeSet<String>,
    // How often a base name was taken, so that finding a free one stays cheap.
    taken: BTreeMap<String, usize>,
    const_values: BTreeMap<ConstId, ValueId>,
    // Constants by where their bytes lie. Looked up, never walked: addresses differ from run to run.
    places: BTreeMap<(usize, u64), Vec<ConstId>>,
    folder: Option<Folder>,
    budget: FoldBudget,
    // Bytes of the constants that are held in memory.
    held: u64,
    // Terms and factors of the sizes seen so far.
    size_terms: u64,
}

/// Computes an operation on constants when the module is built; `None` leaves the node in the graph.
pub type Folder =
    fn(&Op, &[&Constant], &[Type], &str, &mut FoldBudget) -> Result<Option<Vec<Constant>>>;

/// What may still be spent on constant folding while one module is built. What is beyond stays in the graph.
#[derive(Clone, Copy, Debug)]
pub struct FoldBudget {
    /// Bytes of constants that may still be held in memory.
    pub bytes: u64,
    /// Elements that may still be read, written or multiplied.
    pub work: u64,
}

impl Default for FoldBudget {
    fn default() -> Self {
        FoldBudget {
            bytes: limits::FOLDED_BYTES.get(),
            work: limits::FOLDED_WORK.get(),
        }
    }
}

impl Builder {
    /// A builder for a module of this name, with the function `main`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Builder {
            module: Module {
                name: name.to_owned(),
                symbols: Vec::new(),
                constants: Vec::new(),
                functions: Vec::new(),
                bodies: Vec::new(),
                claims: Vec::new(),
            },
            function: Function::empty("main"),
            scope: Vec::new(),
            names: BTreeSet::new(),
            taken: BTreeMap::new(),
            const_values: BTreeMap::new(),
            places: BTreeMap::new(),
            folder: None,
            budget: FoldBudget::default(),
            held: 0,
            size_terms: 0,
        }
    }

    /// From now on, nodes whose operands are all constants are handed to `folder` first.
    pub fn fold_with(&mut self, folder: Folder) {
        self.folder = Some(folder);
    }

    /// Opens a naming scope; names added until [`Builder::leave`] begin with `name/`.
    pub fn enter(&mut self, name: &str) {
        self.scope.push(name.to_owned());
    }

    /// Closes the innermost naming scope.
    pub fn leave(&mut self) {
        self.scope.pop();
    }

    /// Gives the result of a node another name, if that is free; constants and parameters keep theirs.
    pub fn rename(&mut self, value: ValueId, name: &str) {
        let is_node = matches!(self.def(value), Def::Node(_));
        if !is_node || name.is_empty() || !self.names.insert(name.to_owned()) {
            return;
        }
        let value = &mut self.function.values[value.0];
        self.names.remove(&value.name);
        value.name = name.to_owned();
    }

    /// Declares a symbol.
    ///
    /// # Errors
    /// When the name is taken by another symbol.
    pub fn symbol(&mut self, symbol: Symbol) -> Result<(), IrError> {
        if self.module.symbol(&symbol.name).is_some() {
            return Err(IrError::DuplicateName { name: symbol.name });
        }
        self.module.symbols.push(symbol);
        Ok(())
    }

    /// A size that is known only once a node has run, for that node's payload.
    pub fn run_time_size(&mut self) -> Dim {
        let mut n = self.module.symbols.len();
        let mut name = format!("{RUN_TIME}{n}");
        while self.module.symbol(&name).is_some() {
            n += 1;
            name = format!("{RUN_TIME}{n}");
        }
        let dim = Dim::symbol(&name);
        self.module.symbols.push(Symbol {
            name,
            range: SymbolRange::Between {
                min: 0,
                max: limits::VALUE_ELEMENTS.get(),
            },
        });
        dim
    }

    /// Counts sizes that an operation takes or gives: each takes memory, and time with whatever is done to it.
    ///
    /// # Errors
    /// When one of them is longer than [`limits::SIZE_TERMS`] says, or all so far are than [`limits::MODEL_SIZE_TERMS`].
    pub fn count_sizes(&mut self, sizes: &[Dim]) -> Result<(), IrError> {
        for size in sizes {
            let length = match size.integer() {
                Some(_) => 1,
                None if size.is_too_long() => {
                    return Err(IrError::SizeLength {
                        what: "the expression of a size is",
                        limit: limits::SIZE_TERMS.to_string(),
                    });
                }
                None => num::u64_of(size.length()),
            };
            self.size_terms = self.size_terms.saturating_add(length);
        }
        if self.size_terms > limits::MODEL_SIZE_TERMS.get() {
            return Err(IrError::SizeLength {
                what: "the expressions of all sizes together are",
                limit: limits::MODEL_SIZE_TERMS.to_string(),
            });
        }
        Ok(())
    }

    /// Refuses constants in memory that nothing limits otherwise: tables that single operators of a file ask for.
    ///
    /// # Errors
    /// When they take more than twice what [`limits::FOLDED_BYTES`] leaves to constant folding.
    pub fn check_held(&self) -> Result<(), IrError> {
        if self.held / 2 > limits::FOLDED_BYTES.get() {
            return Err(IrError::Held {
                limit: limits::FOLDED_BYTES.to_string(),
            });
        }
        Ok(())
    }

    /// The declared symbols.
    #[must_use]
    pub fn symbols(&self) -> &[Symbol] {
        &self.module.symbols
    }

    /// Names the function under construction.
    pub fn name_function(&mut self, name: &str) {
        name.clone_into(&mut self.function.name);
    }

    /// Ends the function under construction and begins the next one, over the same constants and symbols.
    pub fn next_function(&mut self, name: &str) {
        let done = std::mem::replace(&mut self.function, Function::empty(name));
        self.module.functions.push(done);
        self.names.clear();
        self.taken.clear();
        self.const_values.clear();
    }

    /// Builds a body for control flow: `build` adds its parameters, nodes and outputs. It sees none of the values around it: what it captures
    /// is a parameter of it and an operand of the node that runs it.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn body(
        &mut self,
        name: &str,
        build: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<BodyId> {
        let outer = std::mem::replace(&mut self.function, Function::empty(name));
        let outer_constants = std::mem::take(&mut self.const_values);
        // Names stay unique across the function and its bodies: they name one thing in reports and in files.
        let built = build(self);
        let body = std::mem::replace(&mut self.function, outer);
        self.const_values = outer_constants;
        built?;
        self.module.bodies.push(body);
        Ok(BodyId(self.module.bodies.len() - 1))
    }

    /// A body that was built.
    #[must_use]
    pub fn body_function(&self, id: BodyId) -> &Function {
        self.module.body(id)
    }

    /// The name of a value.
    #[must_use]
    pub fn value_name(&self, value: ValueId) -> &str {
        &self.function.value(value).name
    }

    /// Declares that a parameter is given, at the next run, what an output was.
    pub fn state(&mut self, name: &str, param: ValueId, output: &str) {
        self.function.states.push(State {
            name: name.to_owned(),
            param,
            output: output.to_owned(),
        });
    }

    /// Adds a parameter.
    ///
    /// # Errors
    /// When the name is taken or a dimension uses an undeclared symbol.
    pub fn param(&mut self, name: &str, ty: Type, domain: Domain) -> Result<ValueId, IrError> {
        let mut symbols = BTreeSet::new();
        ty.shape.iter().for_each(|d| d.symbols(&mut symbols));
        if let Some(missing) = symbols
            .into_iter()
            .find(|s| self.module.symbol(s).is_none())
        {
            return Err(IrError::Unbound { dim: missing });
        }
        if !self.names.insert(name.to_owned()) {
            return Err(IrError::DuplicateName {
                name: name.to_owned(),
            });
        }
        let value = self.value(name.to_owned(), ty, Def::Param(self.function.params.len()));
        self.function.params.push(Param { value, domain });
        Ok(value)
    }

    /// Adds a constant. The same bytes under the same transforms are one constant.
    pub fn constant(&mut self, constant: Constant) -> ValueId {
        let place = constant.region().place();
        let there = self.places.entry(place).or_default();
        if there.is_empty() {
            let held = constant.held_bytes();
            self.held = self.held.saturating_add(held);
            self.budget.bytes = self.budget.bytes.saturating_sub(held);
        }
        let constants = &mut self.module.constants;
        let same = there.iter().find(|id| constants[id.0].same_as(&constant));
        let id = match same {
            Some(&id) => id,
            None => {
                constants.push(constant);
                let id = ConstId(constants.len() - 1);
                there.push(id);
                id
            }
        };
        if let Some(&value) = self.const_values.get(&id) {
            return value;
        }
        let constant = &self.module.constants[id.0];
        let ty = Type::known(constant.dtype(), constant.shape());
        let base = constant.name().to_owned();
        let name = self.free_name(&base);
        let value = self.value(name, ty, Def::Const(id));
        self.const_values.insert(id, value);
        value
    }

    /// Adds a small constant tensor.
    ///
    /// # Errors
    /// Never for a valid tensor.
    pub fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<ValueId> {
        let name = self.path(name);
        Ok(self.constant(Constant::from_tensor(&name, tensor)?))
    }

    /// Adds a scalar constant (rank 0) of a number type.
    ///
    /// # Errors
    /// When `dtype` is `bool`.
    pub fn scalar(&mut self, name: &str, dtype: DType, x: f64) -> Result<ValueId> {
        let tensor = if dtype.is_float() {
            Tensor::float(DType::F32, vec![], vec![num::f32_of_f64(x)])?.cast(dtype)
        } else {
            Tensor::int(dtype, vec![], vec![num::i64_of_f64(x)])?
        };
        self.tensor(name, &tensor)
    }

    /// Runs `body` inside a naming scope: names added there begin with `name/`.
    ///
    /// # Errors
    /// Those of `body`.
    pub fn scoped<T>(
        &mut self,
        name: &str,
        body: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.scope.push(name.to_owned());
        let result = body(self);
        self.scope.pop();
        result
    }

    /// Adds a node named `name` within the current scope, with `_1`, `_2`… appended if the name is taken; gives its first result.
    ///
    /// # Errors
    /// When the operands do not fit the operation; the error names the node.
    pub fn push(&mut self, name: &str, op: Op, operands: &[ValueId]) -> Result<ValueId> {
        Ok(self.push_all(name, op, operands)?[0])
    }

    /// Adds a node and gives all of its results. The first is named after the node, the others `name.1`, `name.2`…
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn push_all(&mut self, name: &str, op: Op, operands: &[ValueId]) -> Result<Vec<ValueId>> {
        let path = self.path(name);
        if let Some(operand) = operands
            .iter()
            .position(|v| v.0 >= self.function.values.len())
        {
            return Err(IrError::Undefined { operand }).at_node(&path);
        }
        let types: Vec<&Type> = operands.iter().map(|&v| self.function.ty(v)).collect();
        let types = op.infer_all(&types).at_node(&path)?;
        for ty in &types {
            self.count_sizes(&ty.shape).at_node(&path)?;
        }
        if let Some(folder) = self.folder {
            let constants: Option<Vec<&Constant>> =
                operands.iter().map(|&v| self.as_constant(v)).collect();
            if let Some(constants) = constants
                && let mut budget = self.budget
                && let Some(folded) =
                    folder(&op, &constants, &types, &path, &mut budget).at_node(&path)?
            {
                self.budget = budget;
                return Ok(folded.into_iter().map(|c| self.constant(c)).collect());
            }
        }
        let name = self.free_name(&path);
        let id = NodeId(self.function.nodes.len());
        let mut results = Vec::with_capacity(types.len());
        for (i, ty) in types.into_iter().enumerate() {
            let name = if i == 0 {
                name.clone()
            } else {
                self.free_name(&format!("{name}.{i}"))
            };
            results.push(self.value(name, ty, Def::Node(id)));
        }
        self.function.nodes.push(Node {
            op,
            operands: operands.to_vec(),
            results: results.clone(),
        });
        Ok(results)
    }

    /// An elementwise function of one operand.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn unary(&mut self, name: &str, kind: UnaryKind, x: ValueId) -> Result<ValueId> {
        self.push(name, Op::Unary(Unary { kind }), &[x])
    }

    /// An elementwise function of two operands.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn binary(
        &mut self,
        name: &str,
        kind: BinaryKind,
        a: ValueId,
        b: ValueId,
    ) -> Result<ValueId> {
        self.push(name, Op::Binary(Binary { kind }), &[a, b])
    }

    /// A cast; the value itself when it already has the type.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn cast(&mut self, name: &str, x: ValueId, to: DType) -> Result<ValueId> {
        if self.ty(x).dtype == to {
            Ok(x)
        } else {
            self.push(name, Op::Cast(Cast { to }), &[x])
        }
    }

    /// The type of a value.
    #[must_use]
    pub fn ty(&self, value: ValueId) -> &Type {
        self.function.ty(value)
    }

    /// The definition of a value.
    #[must_use]
    pub fn def(&self, value: ValueId) -> Def {
        self.function.value(value).def
    }

    /// The node that computes a value, if one does.
    #[must_use]
    pub fn producer(&self, value: ValueId) -> Option<&Node> {
        self.function.producer(value)
    }

    /// The constant behind a value, if it is one.
    #[must_use]
    pub fn as_constant(&self, value: ValueId) -> Option<&Constant> {
        match self.def(value) {
            Def::Const(id) => Some(self.module.constant(id)),
            Def::Param(_) | Def::Node(_) => None,
        }
    }

    /// Adds a claim about the model's behaviour.
    pub fn claim(&mut self, claim: Claim) {
        self.module.claims.push(claim);
    }

    /// Declares an output.
    ///
    /// # Errors
    /// When the name is taken by another output.
    pub fn output(&mut self, name: &str, value: ValueId) -> Result<(), IrError> {
        if self.function.outputs.iter().any(|o| o.name == name) {
            return Err(IrError::DuplicateName {
                name: name.to_owned(),
            });
        }
        self.function.outputs.push(Output {
            name: name.to_owned(),
            value,
        });
        Ok(())
    }

    /// The finished module, checked by [`super::verify`].
    ///
    /// # Errors
    /// When there are no outputs.
    pub fn finish(mut self) -> Result<Module> {
        self.module.functions.push(self.function);
        super::verify(&self.module)?;
        Ok(self.module)
    }

    fn value(&mut self, name: String, ty: Type, def: Def) -> ValueId {
        self.function.values.push(Value { name, ty, def });
        ValueId(self.function.values.len() - 1)
    }

    fn path(&self, name: &str) -> String {
        let mut path = self.scope.join("/");
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(name);
        path
    }

    fn free_name(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut next = self.taken.get(base).copied().unwrap_or(0);
        while !self.names.insert(name.clone()) {
            next += 1;
            name = format!("{base}_{next}");
        }
        self.taken.insert(base.to_owned(), next);
        name
    }
}
