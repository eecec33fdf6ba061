//! The frame every pass shares: walk the live nodes in order and rebuild them, keeping every name.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::ir::{Builder, Def, Function, Module, Node, ValueId};

/// A module being rebuilt: maps values of the old function to values of the new one.
pub(super) struct Rewrite<'m> {
    pub(super) module: &'m Module,
    pub(super) function: &'m Function,
    pub(super) builder: Builder,
    map: BTreeMap<ValueId, ValueId>,
}

impl<'m> Rewrite<'m> {
    /// A rebuild of the module's main function: symbols and claims are copied, parameters and nodes are not yet.
    pub(super) fn new(module: &'m Module) -> Result<Self> {
        let mut builder = Builder::new(&module.name);
        for claim in &module.claims {
            builder.claim(claim.clone());
        }
        Ok(Rewrite {
            module,
            function: module.main()?,
            builder,
            map: BTreeMap::new(),
        })
    }

    /// Declares the symbols of the old module.
    pub(super) fn copy_symbols(&mut self) -> Result<()> {
        for symbol in &self.module.symbols {
            self.builder.symbol(symbol.clone())?;
        }
        Ok(())
    }

    /// Adds the parameters of the old function.
    pub(super) fn copy_params(&mut self) -> Result<()> {
        for param in &self.function.params {
            let value = self.function.value(param.value);
            let new = self
                .builder
                .param(&value.name, value.ty.clone(), param.domain.clone())?;
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

    /// Says what an old value became.
    pub(super) fn set(&mut self, old: ValueId, new: ValueId) {
        self.map.insert(old, new);
    }

    /// Copies a node as it is.
    pub(super) fn copy(&mut self, node: &Node) -> Result<ValueId> {
        let operands: Vec<ValueId> = node.operands.iter().map(|&v| self.get(v)).collect();
        let name = &self.function.value(node.result).name;
        self.builder.push(name, node.op.clone(), &operands)
    }

    /// Whether each node is needed for an output, directly or not.
    pub(super) fn live(&self) -> Vec<bool> {
        let mut needed = vec![false; self.function.values.len()];
        for output in &self.function.outputs {
            needed[output.value.index()] = true;
        }
        let mut live = vec![false; self.function.nodes.len()];
        for (i, node) in self.function.nodes.iter().enumerate().rev() {
            if needed[node.result.index()] {
                live[i] = true;
                for operand in &node.operands {
                    needed[operand.index()] = true;
                }
            }
        }
        live
    }

    /// Declares the outputs of the old function and gives the new module.
    pub(super) fn finish(mut self) -> Result<Module> {
        for output in &self.function.outputs {
            let value = self.get(output.value);
            self.builder.output(&output.name, value)?;
        }
        self.builder.finish()
    }
}
