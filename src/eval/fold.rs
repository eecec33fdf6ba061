//! One operation on constants, computed once. Views of weights stay handles and are never loaded.

use super::{eval_op, sizes};
use crate::error::Result;
use crate::ir::{Bindings, Constant, Dim, Op, Type, concrete};
use crate::limits::FOLDED_ELEMENTS;
use crate::tensor::{Tensor, num};

/// Up to this size a compressed constant is a parameter, which is computed with like any other. Compressors leave such small ones alone.
const COMPRESSED_ELEMENTS: usize = 1024;

/// The constants that an operation on constants gives, as long as operands and results stay below [`FOLDED_ELEMENTS`]; `None` where they do
/// not, where a size depends on the interface or on another node's run, and for control flow.
///
/// # Errors
/// When a constant cannot be read, or evaluation fails.
pub fn fold_op(
    op: &Op,
    constants: &[&Constant],
    results: &[Type],
    name: &str,
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
    let elements = |shape: &[usize]| {
        shape
            .iter()
            .fold(1u64, |n, &d| n.saturating_mul(num::u64_of(d)))
    };
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
    let written = types.iter().filter_map(Type::known_shape);
    if total(&mut written.map(|s| elements(&s))) > FOLDED_ELEMENTS.get() {
        return Ok(None);
    }
    let refs: Vec<&Tensor> = tensors.iter().collect();
    let values = eval_op(op, &refs, &types.iter().collect::<Vec<_>>(), &bindings)?;
    let mut folded = Vec::with_capacity(values.len());
    for value in &values {
        folded.push(Constant::from_tensor(name, value)?);
    }
    Ok(Some(folded))
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
