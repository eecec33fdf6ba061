//! Runs a function of a module, node by node; frees every value after its last use.

use std::sync::OnceLock;

use super::{Mode, Observer, Target, apply, input};
use crate::error::{Context, Result};
use crate::ir::{Bindings, ConstId, Def, Function, IrError, Module, Node, concrete, verify};
use crate::limits;
use crate::tensor::{NamedTensors, Tensor, num};

/// Runs modules by the definition of every operation.
///
/// # Numerics
/// See [`Mode`]. Results do not depend on the number of threads.
#[derive(Debug)]
pub struct Interpreter {
    module: Module,
    function: usize,
    mode: Mode,
    // For every node, which of its operands are used there for the last time.
    last_uses: Vec<Vec<bool>>,
    // Decoded constants, filled at their first use; `None` where keeping all of them would take too much memory.
    constants: Vec<Option<OnceLock<Tensor>>>,
}

impl Interpreter {
    /// An interpreter of the module's default function. Constants are handles: they are read at their first use.
    ///
    /// # Errors
    /// When the module is not valid.
    pub fn new(module: &Module, mode: Mode) -> Result<Self> {
        verify(module)?;
        let mut budget = limits::DECODED_BYTES;
        let constants = module
            .constants
            .iter()
            .map(|c| {
                // Decoded floats take 4 bytes, integers 8.
                let width = if c.dtype().is_float() { 4 } else { 8 };
                let bytes = num::u64_of(c.len()).saturating_mul(width);
                let kept = budget.checked_sub(bytes)?;
                budget = kept;
                Some(OnceLock::new())
            })
            .collect();
        let mut interpreter = Interpreter {
            module: module.clone(),
            function: 0,
            mode,
            last_uses: Vec::new(),
            constants,
        };
        interpreter.last_uses = last_uses(interpreter.function());
        Ok(interpreter)
    }

    /// The same interpreter for another function of the module.
    ///
    /// # Errors
    /// When there is no such function.
    pub fn with_function(mut self, name: &str) -> Result<Self, IrError> {
        let found = self.module.functions.iter().position(|f| f.name == name);
        self.function = found.ok_or_else(|| IrError::NoFunction {
            name: name.to_owned(),
        })?;
        self.last_uses = last_uses(self.function());
        Ok(self)
    }

    /// The module.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The function that is run.
    #[must_use]
    pub fn function(&self) -> &Function {
        &self.module.functions[self.function]
    }

    /// How 16-bit floats are kept.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Runs the function once. Integers are taken for any integer parameter if they fit, floats for any float parameter.
    ///
    /// # Errors
    /// When an input is missing, unknown, or of another type, shape, range or domain than declared; when an index is out of range.
    pub fn run(
        &self,
        inputs: &NamedTensors,
        mut observer: Option<&mut dyn Observer>,
    ) -> Result<NamedTensors> {
        let function = self.function();
        let (tensors, bindings) = input::bind(&self.module, function, inputs, self.mode)?;
        let mut slots: Vec<Option<Tensor>> = vec![None; function.values.len()];
        for (param, tensor) in function.params.iter().zip(tensors) {
            slots[param.value.index()] = Some(tensor);
        }
        for (node, last) in function.nodes.iter().zip(&self.last_uses) {
            let result = self
                .step(node, last, &mut slots, &bindings)
                .at_node(&function.value(node.result).name)?;
            if let Some(observer) = observer.as_deref_mut() {
                observer.observe(function, node.result, &result);
            }
            slots[node.result.index()] = Some(result);
        }
        let mut outputs = NamedTensors::new();
        for output in &function.outputs {
            let tensor = self.fetch(output.value.index(), &slots)?;
            outputs.insert(output.name.clone(), tensor);
        }
        Ok(outputs)
    }

    fn step(
        &self,
        node: &Node,
        last: &[bool],
        slots: &mut [Option<Tensor>],
        bindings: &Bindings,
    ) -> Result<Tensor> {
        let ty = self.function().ty(node.result);
        let target = Target::new(&node.op, ty.dtype, concrete(&ty.shape, bindings)?)?;
        let mut operands = Vec::with_capacity(node.operands.len());
        for (value, &last) in node.operands.iter().zip(last) {
            operands.push(match (last, slots[value.index()].take()) {
                (true, Some(tensor)) => tensor,
                (_, kept) => {
                    slots[value.index()] = kept;
                    self.fetch(value.index(), slots)?
                }
            });
        }
        apply(&node.op, operands, target, bindings, self.mode)
    }

    /// A value that was computed, or a constant.
    fn fetch(&self, value: usize, slots: &[Option<Tensor>]) -> Result<Tensor> {
        if let Some(tensor) = &slots[value] {
            return Ok(tensor.clone());
        }
        match self.function().values[value].def {
            Def::Const(id) => self.constant(id),
            Def::Param(_) | Def::Node(_) => Err(IrError::Undefined { operand: 0 }.into()),
        }
    }

    fn constant(&self, id: ConstId) -> Result<Tensor> {
        let constant = self.module.constant(id);
        let Some(cell) = &self.constants[id.index()] else {
            return constant.read();
        };
        if let Some(tensor) = cell.get() {
            return Ok(tensor.clone());
        }
        let tensor = constant.read()?;
        Ok(cell.get_or_init(|| tensor).clone())
    }
}

/// For every node and operand, whether no later use follows, be it by a node, the same node or an output.
fn last_uses(function: &Function) -> Vec<Vec<bool>> {
    let mut used = vec![false; function.values.len()];
    for output in &function.outputs {
        used[output.value.index()] = true;
    }
    let mut out: Vec<Vec<bool>> = function
        .nodes
        .iter()
        .rev()
        .map(|node| {
            let mut last: Vec<bool> = node
                .operands
                .iter()
                .rev()
                .map(|v| !std::mem::replace(&mut used[v.index()], true))
                .collect();
            last.reverse();
            last
        })
        .collect();
    out.reverse();
    out
}
