//! One operation on constants, computed once. Views of weights stay handles and are never loaded.

use super::{eval_op, sizes};
use crate::error::Result;
use crate::ir::{Bindings, Constant, Dim, Family, FoldBudget, Op, Type, concrete};
use crate::limits::FOLDED_ELEMENTS;
use crate::tensor::{Tensor, num};

/// Up to this size a compressed constant is a parameter, which is computed with like any other. Compressors leave such small ones alone.
const COMPRESSED_ELEMENTS: usize = 1024;

/// The constants that an operation on constants gives, as long as operands and results stay below [`FOLDED_ELEMENTS`] and `budget` allows it;
/// `None` where they do not, where a size depends on the interface or on another node's run, and for control flow.
///
/// # Errors
/// When a constant cannot be read, or evaluation fails.
pub fn fold_op(
    op: &Op,
    constants: &[&Constant],
    results: &[Type],
    name: &str,
    budget: &mut FoldBudget,
) -> Result<Option<Vec<Constant>>> {
    let open = |d: &Dim| d.known().is_none() && !d.is_run_time();
    if !op.bodies().is_empty() || results.iter().any(|t| t.shape.iter().any(open)) {
        return Ok(None);
    }
    if let ([constant], [result]) = (constants, results)
        && let Some(shape) = result.known_shape()
        && let Some(view) = view(op, constant, &shape)?
    {
        return Ok(Some(vec![view]));
    }
    // Integers that stand for floats are what a weight is stored as; the writers keep them.
    if let Op::Dequantize(o) = op
        && let Some(constant) = o.constant(name, constants)?
    {
        return Ok(Some(vec![constant]));
    }
    // Weights that are stored compressed stay so: what is computed of them is computed when they are used.
    let large = |c: &&Constant| c.is_compressed() && c.len() > COMPRESSED_ELEMENTS;
    if constants.iter().any(large) {
        return Ok(None);
    }
    let total = |shapes: &mut dyn Iterator<Item = u64>| shapes.fold(0u64, u64::saturating_add);
    let read = total(&mut constants.iter().map(|c| elements(c.shape())));
    if read > FOLDED_ELEMENTS.get() {
        return Ok(None);
    }
    let known = results.iter().filter_map(Type::known_shape);
    if total(&mut known.map(|s| elements(&s))) > FOLDED_ELEMENTS.get() {
        return Ok(None);
    }
    let tensors: Vec<Tensor> = constants.iter().map(|c| c.read()).collect::<Result<_>>()?;
    // Sizes that follow from the operands' values are checked as well, before anything is computed.
    let mut bindings = Bindings::new();
    sizes::bind(op, &tensors, &mut bindings)?;
    // Sizes that other nodes find out, when they run.
    let unbound = |d: &Dim| d.eval(&bindings).is_none();
    if attributes(op).into_iter().any(unbound)
        || results.iter().any(|t| t.shape.iter().any(unbound))
    {
        return Ok(None);
    }
    let mut types = Vec::with_capacity(results.len());
    for result in results {
        let shape = concrete(&result.shape, &bindings)?;
        types.push(Type::known(result.dtype, &shape));
    }
    let shapes: Vec<Vec<usize>> = types.iter().filter_map(Type::known_shape).collect();
    let written = total(&mut shapes.iter().map(|s| elements(s)));
    let bytes = total(&mut types.iter().zip(&shapes).map(|(t, s)| {
        let bytes = t.dtype.bytes_for(elements(s));
        bytes.unwrap_or(u64::MAX)
    }));
    let work = work(op, &tensors, written).saturating_add(read);
    let Some(left) = budget.work.checked_sub(work) else {
        return Ok(None);
    };
    if written > FOLDED_ELEMENTS.get() || bytes > budget.bytes {
        return Ok(None);
    }
    budget.work = left;
    let refs: Vec<&Tensor> = tensors.iter().collect();
    let values = eval_op(op, &refs, &types.iter().collect::<Vec<_>>(), &bindings)?;
    let mut folded = Vec::with_capacity(values.len());
    for value in &values {
        folded.push(Constant::from_tensor(name, value)?);
    }
    Ok(Some(folded))
}

fn elements(shape: &[usize]) -> u64 {
    let sizes = shape.iter().map(|&d| num::u64_of(d));
    sizes.fold(1, u64::saturating_mul)
}

/// Elements that are written or multiplied, at most, to compute so many elements.
fn work(op: &Op, operands: &[Tensor], written: u64) -> u64 {
    let shape = |i: usize| operands.get(i).map_or(&[][..], Tensor::shape);
    let each = match op.info().family {
        Family::Elementwise
        | Family::Shape
        | Family::Index
        | Family::Norm
        | Family::Quant
        | Family::Reduce
        | Family::Control => 1,
        Family::Linear if matches!(op, Op::MatMul(_) | Op::Linear(_)) => {
            num::u64_of(shape(0).iter().rev().take(2).copied().max().unwrap_or(1))
        }
        // Of a convolution, what one output channel multiplies; of the others, that everything meets everything.
        Family::Conv if matches!(op, Op::Conv(_)) => {
            elements(shape(1).get(1..).unwrap_or_default())
        }
        Family::Linear | Family::Conv | Family::Attention | Family::Recurrent | Family::Image => {
            let read = operands.iter().map(|t| elements(t.shape()));
            read.fold(1, u64::saturating_add)
        }
    };
    written.saturating_mul(each)
}

/// The dimensions that an operation needs and that its result's shape does not show.
fn attributes(op: &Op) -> Vec<&Dim> {
    if let Op::Size(o) = op {
        return vec![&o.dim];
    }
    if let Op::Slice(o) = op {
        return o.ranges.iter().flat_map(|r| [&r.start, &r.end]).collect();
    }
    if let Op::Pad(o) = op {
        return o.begin.iter().chain(&o.end).collect();
    }
    Vec::new()
}

/// The operation as a transform of the handle, if it can be one.
fn view(op: &Op, constant: &Constant, shape: &[usize]) -> Result<Option<Constant>> {
    if let Op::Cast(cast) = op {
        return Ok(Some(constant.cast(cast.to)));
    }
    if matches!(op, Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_)) {
        return Ok(Some(constant.reshape(shape.to_vec())?));
    }
    if let Op::Transpose(t) = op
        && t.perm == [1, 0]
    {
        return Ok(Some(constant.transpose()?));
    }
    if let Op::Slice(slice) = op
        && let [range] = slice.ranges.as_slice()
        && (range.axis, range.step) == (0, 1)
        && let Some(start) = range.start.known()
    {
        return Ok(Some(constant.rows(start, shape[0])?));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::ops::{MatMul, Unary, UnaryKind};
    use crate::tensor::DType;

    #[test]
    fn what_is_beyond_the_budget_is_left_in_the_graph() {
        let x = Tensor::f32(vec![4, 4], vec![1.0; 16]).unwrap();
        let x = Constant::from_tensor("x", &x).unwrap();
        let ty = Type::known(DType::F32, &[4, 4]);
        let negated = Op::Unary(Unary {
            kind: UnaryKind::Neg,
        });
        let product = Op::MatMul(MatMul::default());
        // Elements read and written; for the product, four factors for each that is written.
        for (op, operands, work) in [(&negated, 1, 32), (&product, 2, 96)] {
            let operands = vec![&x; operands];
            let folded = |bytes, work| {
                let mut budget = FoldBudget { bytes, work };
                let folded = fold_op(op, &operands, std::slice::from_ref(&ty), "y", &mut budget);
                (folded.unwrap().is_some(), budget.work)
            };
            assert_eq!(folded(64, work), (true, 0));
            assert_eq!(folded(63, work), (false, work));
            assert_eq!(folded(64, work - 1), (false, work - 1));
        }
    }
}
