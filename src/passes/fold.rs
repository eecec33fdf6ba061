//! Constant folding: nodes whose operands are constants are evaluated once, here. Views of weights stay handles and are never loaded.

use super::rewrite::{Bodies, Rewrite};
use crate::error::{Context, Result};
use crate::eval::fold_op;
use crate::ir::{Bindings, Module, Node};

/// The module with constant subgraphs replaced by constants, as long as operands and result stay below [`crate::limits::FOLDED_ELEMENTS`] and
/// all of them within [`crate::ir::FoldBudget`].
///
/// # Errors
/// When a constant cannot be read, or evaluation fails; the error names the node.
pub fn fold(module: &Module) -> Result<Module> {
    let rebuild = |rewrite: &mut Rewrite<'_>, node: &Node| {
        rewrite.builder.fold_with(fold_op);
        rewrite.copy(node)
    };
    Rewrite::module(module, &Bindings::new(), Bodies::Rebuilt, rebuild, |_| {
        Ok(())
    })
    .at_pass("fold")
}
