//! Constant folding: nodes whose operands are constants are evaluated once, here. Views of weights stay handles and are never loaded.

use super::rewrite::{Bodies, Rewrite};
use crate::error::{Context, Result};
use crate::eval::fold_op;
use crate::ir::{Bindings, Constant, Module, Node, Type, ValueId};

/// The module with constant subgraphs replaced by constants, as long as operands and result stay below [`crate::limits::FOLDED_ELEMENTS`].
///
/// # Errors
/// When a constant cannot be read, or evaluation fails; the error names the node.
pub fn fold(module: &Module) -> Result<Module> {
    let rebuild = |rewrite: &mut Rewrite<'_>, node: &Node| {
        let name = rewrite.function.value(node.result()).name.clone();
        let operands: Vec<ValueId> = node.operands.iter().map(|&v| rewrite.get(v)).collect();
        let folded = fold_node(rewrite, node, &operands, &name).at_node(&name)?;
        let Some(constants) = folded else {
            return rewrite.copy(node);
        };
        let mut new = Vec::with_capacity(constants.len());
        for constant in constants {
            new.push(rewrite.builder.constant(constant));
        }
        rewrite.set_all(node, &new);
        Ok(())
    };
    Rewrite::module(module, &Bindings::new(), Bodies::Rebuilt, rebuild, |_| {
        Ok(())
    })
    .at_pass("fold")
}

fn fold_node(
    rewrite: &Rewrite<'_>,
    node: &Node,
    operands: &[ValueId],
    name: &str,
) -> Result<Option<Vec<Constant>>> {
    let constants: Option<Vec<&Constant>> = operands
        .iter()
        .map(|&v| rewrite.builder.as_constant(v))
        .collect();
    let Some(constants) = constants else {
        return Ok(None);
    };
    let types = node.results.iter().map(|&r| rewrite.function.ty(r).clone());
    fold_op(&node.op, &constants, &types.collect::<Vec<Type>>(), name)
}
