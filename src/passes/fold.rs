//! Constant folding: nodes whose operands are constants are evaluated once, here. Views of weights stay handles and are never loaded.

use super::rewrite::Rewrite;
use crate::error::{Context, Result};
use crate::eval::fold_op;
use crate::ir::{Constant, Module, Node, ValueId};

/// The module with constant subgraphs replaced by constants, as long as operands and result stay below [`crate::limits::FOLDED_ELEMENTS`].
///
/// # Errors
/// When a constant cannot be read, or evaluation fails; the error names the node.
pub fn fold(module: &Module) -> Result<Module> {
    let mut rewrite = Rewrite::new(module)?;
    rewrite.copy_symbols()?;
    rewrite.copy_params()?;
    let live = rewrite.live();
    for (node, _) in rewrite
        .function
        .nodes
        .iter()
        .zip(live)
        .filter(|(_, live)| *live)
    {
        let name = rewrite.function.value(node.result).name.clone();
        let operands: Vec<ValueId> = node.operands.iter().map(|&v| rewrite.get(v)).collect();
        let folded = fold_node(&rewrite, node, &operands, &name)
            .at_node(&name)
            .at_pass("fold")?;
        let new = match folded {
            Some(constant) => rewrite.builder.constant(constant),
            None => rewrite.copy(node)?,
        };
        rewrite.set(node.result, new);
    }
    rewrite.finish()
}

fn fold_node(
    rewrite: &Rewrite<'_>,
    node: &Node,
    operands: &[ValueId],
    name: &str,
) -> Result<Option<Constant>> {
    let constants: Option<Vec<&Constant>> = operands
        .iter()
        .map(|&v| rewrite.builder.as_constant(v))
        .collect();
    match constants {
        Some(constants) => {
            let result = rewrite.function.ty(node.result);
            fold_op(&node.op, &constants, result, name)
        }
        None => Ok(None),
    }
}
