//! Constant folding: nodes whose operands are constants are evaluated once, here. Views of weights stay handles and are never loaded.

use super::rewrite::Rewrite;
use crate::error::{Context, Result};
use crate::eval::eval_op;
use crate::ir::ops::SliceRange;
use crate::ir::{Bindings, Constant, Module, Node, Op, ValueId};
use crate::limits::FOLDED_ELEMENTS;
use crate::tensor::{Tensor, num};

/// The module with constant subgraphs replaced by constants, as long as operands and result stay below [`FOLDED_ELEMENTS`].
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
    let Some(constants) = constants else {
        return Ok(None);
    };
    let result = rewrite.function.ty(node.result);
    let Some(shape) = result.known_shape() else {
        return Ok(None);
    };
    if let [constant] = constants.as_slice()
        && let Some(view) = view(&node.op, constant, &shape)?
    {
        return Ok(Some(view));
    }
    let elements = |shape: &[usize]| {
        shape
            .iter()
            .fold(1u64, |n, &d| n.saturating_mul(num::u64_of(d)))
    };
    let total = constants.iter().fold(elements(&shape), |n, c| {
        n.saturating_add(elements(c.shape()))
    });
    if total > FOLDED_ELEMENTS {
        return Ok(None);
    }
    let tensors: Vec<Tensor> = constants.iter().map(|c| c.read()).collect::<Result<_>>()?;
    let refs: Vec<&Tensor> = tensors.iter().collect();
    let value = eval_op(&node.op, &refs, result, &Bindings::new())?;
    Ok(Some(Constant::from_tensor(name, &value)?))
}

/// The operation as a transform of the handle, if it can be one.
fn view(op: &Op, constant: &Constant, shape: &[usize]) -> Result<Option<Constant>> {
    Ok(match op {
        Op::Cast(cast) => Some(constant.cast(cast.to)),
        Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => {
            Some(constant.reshape(shape.to_vec())?)
        }
        Op::Transpose(t) if t.perm == [1, 0] => Some(constant.transpose()?),
        Op::Slice(slice) => match slice.ranges.as_slice() {
            [
                SliceRange {
                    axis: 0,
                    start,
                    end: _,
                    step: 1,
                },
            ] => match start.known() {
                Some(start) => Some(constant.rows(start, shape[0])?),
                None => None,
            },
            _ => None,
        },
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::Select(_)
        | Op::Clip(_)
        | Op::Reduce(_)
        | Op::Softmax(_)
        | Op::CumSum(_)
        | Op::MatMul(_)
        | Op::Linear(_)
        | Op::LayerNorm(_)
        | Op::RmsNorm(_)
        | Op::Transpose(_)
        | Op::Expand(_)
        | Op::Concat(_)
        | Op::Iota(_)
        | Op::Gather(_)
        | Op::GatherElements(_) => None,
    })
}
