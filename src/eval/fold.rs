//! One operation on constants, computed once. Views of weights stay handles and are never loaded.

use super::eval_op;
use crate::error::Result;
use crate::ir::ops::SliceRange;
use crate::ir::{Bindings, Constant, Op, Type};
use crate::limits::FOLDED_ELEMENTS;
use crate::tensor::{Tensor, num};

/// The constant that an operation on constants gives, as long as operands and result stay below [`FOLDED_ELEMENTS`]; `None` where they do not,
/// or where the size of the result is not known.
///
/// # Errors
/// When a constant cannot be read, or evaluation fails.
pub fn fold_op(
    op: &Op,
    constants: &[&Constant],
    result: &Type,
    name: &str,
) -> Result<Option<Constant>> {
    let Some(shape) = result.known_shape() else {
        return Ok(None);
    };
    if let [constant] = constants
        && let Some(view) = view(op, constant, &shape)?
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
    if total > FOLDED_ELEMENTS.get() {
        return Ok(None);
    }
    let tensors: Vec<Tensor> = constants.iter().map(|c| c.read()).collect::<Result<_>>()?;
    let refs: Vec<&Tensor> = tensors.iter().collect();
    let value = eval_op(op, &refs, result, &Bindings::new())?;
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
