//! The frame every pass shares: walk the live nodes of every function in order and rebuild them, keeping every name.

use std::collections::BTreeMap;

use crate::error::{Context, Result};
use crate::ir::{
    Bindings, Builder, Def, Function, IrError, Module, Node, Op, Symbol, Type, Value, ValueId,
};
use crate::tensor::DType;

/// What becomes of the bodies of control flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bodies {
    /// They are copied: what control flow hands over keeps its type.
    Copied,
    /// Their nodes are rebuilt as those of functions are.
    Rebuilt,
}

/// A module being rebuilt: maps values of the old function to values of the new one.
pub(super) struct Rewrite<'m> {
    pub(super) module: &'m Module,
    pub(super) function: &'m Function,
    pub(super) builder: Builder,
    map: BTreeMap<ValueId, ValueId>,
    /// The new types of parameters, states apart.
    retype: Retype<'m>,
}

/// The new type of a parameter of a function or body.
type Retype<'m> = &'m dyn Fn(&Function, &Value) -> DType;

impl<'m> Rewrite<'m> {
    /// Rebuilds every body and function of a module, in this order: `bindings` gives types and operations their new form, `node` rebuilds one
    /// live node, and `end` comes after the last one of each.
    pub(super) fn module(
        module: &'m Module,
        bindings: &Bindings,
        bodies: Bodies,
        node: impl FnMut(&mut Self, &'m Node) -> Result<()>,
        end: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<Module> {
        Rewrite::retyped(
            module,
            bindings,
            bodies,
            &|_, value| value.ty.dtype,
            node,
            end,
        )
    }

    /// The same with other types of parameters, where they hold no states.
    pub(super) fn retyped(
        module: &'m Module,
        bindings: &Bindings,
        bodies: Bodies,
        retype: Retype<'m>,
        mut node: impl FnMut(&mut Self, &'m Node) -> Result<()>,
        mut end: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<Module> {
        let mut rewrite = Rewrite {
            module,
            function: module.main()?,
            builder: Builder::new(&module.name),
            map: BTreeMap::new(),
            retype,
        };
        for claim in &module.claims {
            rewrite.builder.claim(claim.clone());
        }
        let open = |s: &&Symbol| !bindings.contains_key(&s.name);
        for symbol in module.symbols.iter().filter(open) {
            rewrite.builder.symbol(symbol.clone())?;
        }
        for body in &module.bodies {
            match bodies {
                Bodies::Copied => rewrite.body(body, |r| r.copied(body, bindings))?,
                Bodies::Rebuilt => {
                    rewrite.body(body, |r| r.rebuilt(body, bindings, &mut node, &mut end))?;
                }
            }
        }
        for (i, function) in module.functions.iter().enumerate() {
            rewrite.function = function;
            rewrite.map.clear();
            if i == 0 {
                rewrite.builder.name_function(&function.name);
            } else {
                rewrite.builder.next_function(&function.name);
            }
            rewrite.rebuilt(function, bindings, &mut node, &mut end)?;
        }
        rewrite.builder.finish()
    }

    /// Rebuilds what a function or body holds.
    fn rebuilt(
        &mut self,
        function: &'m Function,
        bindings: &Bindings,
        node: &mut impl FnMut(&mut Self, &'m Node) -> Result<()>,
        end: &mut impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.params(bindings)?;
        let live = live(function);
        for (old, _) in function.nodes.iter().zip(live).filter(|(_, live)| *live) {
            node(self, old)?;
        }
        end(self)?;
        self.outputs()
    }

    /// Adds a body that `contents` fills.
    fn body(
        &mut self,
        body: &'m Function,
        contents: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.function = body;
        self.map.clear();
        // The builder is moved into the closure's hands for the time being.
        let mut builder = std::mem::replace(&mut self.builder, Builder::new(""));
        let built = builder.body(&body.name, |inner| {
            std::mem::swap(inner, &mut self.builder);
            let done = contents(self);
            std::mem::swap(inner, &mut self.builder);
            done
        });
        self.builder = builder;
        built.map(|_| ())
    }

    /// Copies what a body holds, node by node.
    fn copied(&mut self, body: &'m Function, bindings: &Bindings) -> Result<()> {
        self.params(bindings)?;
        for node in &body.nodes {
            let op = bound(&node.op, bindings).at_node(&body.value(node.result()).name)?;
            self.rebuild(node, op)?;
        }
        self.outputs()
    }

    /// Adds the parameters of the old function.
    fn params(&mut self, bindings: &Bindings) -> Result<()> {
        for param in &self.function.params {
            let value = self.function.value(param.value);
            let shape: Option<Vec<_>> = value
                .ty
                .shape
                .iter()
                .map(|d| d.substitute(bindings))
                .collect();
            let shape = shape.ok_or_else(|| IrError::Unbound {
                dim: value.ty.to_string(),
            })?;
            let mut states = self.function.states.iter();
            let dtype = if states.any(|s| s.param == param.value) {
                value.ty.dtype
            } else {
                (self.retype)(self.function, value)
            };
            let ty = Type::new(dtype, shape);
            let new = self.builder.param(&value.name, ty, param.domain.clone())?;
            self.map.insert(param.value, new);
        }
        Ok(())
    }

    /// The new value of an old one. Constants come over when they are first used.
    pub(super) fn get(&mut self, old: ValueId) -> ValueId {
        if let Some(&new) = self.map.get(&old) {
            return new;
        }
        // Everything but a constant was mapped before its use: nodes are walked in order.
        let new = match self.function.value(old).def {
            Def::Const(id) => self.builder.constant(self.module.constant(id).clone()),
            Def::Param(_) | Def::Node(_) => old,
        };
        self.map.insert(old, new);
        new
    }

    /// What an old value became, if that is said already.
    pub(super) fn mapped(&self, old: ValueId) -> Option<ValueId> {
        self.map.get(&old).copied()
    }

    /// Says what an old value became.
    pub(super) fn set(&mut self, old: ValueId, new: ValueId) {
        self.map.insert(old, new);
    }

    /// Says what the results of an old node became.
    pub(super) fn set_all(&mut self, old: &Node, new: &[ValueId]) {
        for (&old, &new) in old.results.iter().zip(new) {
            self.map.insert(old, new);
        }
    }

    /// Rebuilds a node with another operation on the new values of its operands, under its name, and says what its results became.
    pub(super) fn rebuild(&mut self, node: &Node, op: Op) -> Result<()> {
        let operands: Vec<ValueId> = node.operands.iter().map(|&v| self.get(v)).collect();
        let name = &self.function.value(node.result()).name;
        let new = self.builder.push_all(name, op, &operands)?;
        self.set_all(node, &new);
        Ok(())
    }

    /// Copies a node as it is.
    pub(super) fn copy(&mut self, node: &Node) -> Result<()> {
        self.rebuild(node, node.op.clone())
    }

    /// Declares the outputs and states of the old function.
    fn outputs(&mut self) -> Result<()> {
        for output in &self.function.outputs {
            let value = self.get(output.value);
            self.builder.output(&output.name, value)?;
        }
        for state in &self.function.states {
            let param = self.get(state.param);
            self.builder.state(&state.name, param, &state.output);
        }
        Ok(())
    }
}

/// Whether each node is needed for an output, directly or not.
pub(super) fn live(function: &Function) -> Vec<bool> {
    let mut needed = vec![false; function.values.len()];
    for output in &function.outputs {
        needed[output.value.index()] = true;
    }
    let mut live = vec![false; function.nodes.len()];
    for (i, node) in function.nodes.iter().enumerate().rev() {
        if node.results.iter().any(|r| needed[r.index()]) {
            live[i] = true;
            for operand in &node.operands {
                needed[operand.index()] = true;
            }
        }
    }
    live
}

/// The operation with its symbols replaced.
pub(super) fn bound(op: &Op, bindings: &Bindings) -> Result<Op, IrError> {
    op.substitute(bindings).ok_or_else(|| IrError::Unbound {
        dim: format!("{op:?}"),
    })
}
