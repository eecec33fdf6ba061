//! Data movement that depends on values: gathering along an axis.

use super::call::Call;
use super::elementwise::op2;
use super::entry::{Dims, Entry};
use super::{Handler, Importer};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, Compare, CompareKind, Gather, GatherElements, GatherNd, Select, Transpose,
    Unsqueeze,
};
use crate::ir::{Constant, Dim, Op, ValueId};
use crate::limits;
use crate::tensor::{DType, Storage, Tensor, num};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "gather" => gather,
        "gather_along_axis" => gather_elements,
        _ => return None,
    };
    Some(handler)
}

fn gather(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let axis = call.axis("axis", shape.len(), 0)?;
    let indices = turned(importer, call, &shape[axis])?;
    let batch = call.int("batch_dims")?.unwrap_or(0);
    checked(call)?;
    if batch == 0 {
        return importer.result(call, Op::Gather(Gather { axis }), &[x, indices]);
    }
    let batch = usize::try_from(batch).ok().filter(|&b| b <= axis);
    let Some(batch) = batch.filter(|&b| b <= importer.ty(indices).rank()) else {
        return Err(call
            .wrong("batch_dims", "leading axes of both", "another number")
            .into());
    };
    batched(importer, call, x, indices, axis, batch)
}

/// Leading axes go together: the gathered axis is moved behind them, and what lay between comes before the indices' axes again.
fn batched(
    importer: &mut Importer<'_>,
    call: &Call,
    x: ValueId,
    indices: ValueId,
    axis: usize,
    batch: usize,
) -> Result<Vec<Entry>> {
    let (rank, picked) = (importer.ty(x).rank(), importer.ty(indices).rank());
    let axes = vec![picked];
    let vectors = importer.step(
        call,
        "vectors",
        Op::Unsqueeze(Unsqueeze { axes }),
        &[indices],
    )?;
    let op = Op::GatherNd(GatherNd { batch_dims: batch });
    if axis == batch {
        return importer.result(call, op, &[x, vectors]);
    }
    let mut perm: Vec<usize> = (0..batch).collect();
    perm.push(axis);
    perm.extend((batch..rank).filter(|&a| a != axis));
    let moved = importer.step(call, "moved", Op::Transpose(Transpose { perm }), &[x])?;
    let found = importer.step(call, "found", op, &[moved, vectors])?;
    // [batch, indices, between, after] to [batch, between, indices, after].
    let (between, inner) = (axis - batch, picked - batch);
    let total = importer.ty(found).rank();
    let mut perm: Vec<usize> = (0..batch).collect();
    perm.extend(batch + inner..batch + inner + between);
    perm.extend(batch..batch + inner);
    perm.extend(batch + inner + between..total);
    importer.result(call, Op::Transpose(Transpose { perm }), &[found])
}

fn gather_elements(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let shape = importer.ty(x).shape;
    let axis = call.axis("axis", shape.len(), 0)?;
    let indices = turned(importer, call, &shape[axis])?;
    checked(call)?;
    importer.result(
        call,
        Op::GatherElements(GatherElements { axis }),
        &[x, indices],
    )
}

/// Reads `validate_indices`. Indices outside the axis are an error here with it and without.
pub(super) fn checked(call: &mut Call) -> Result<()> {
    call.bool("validate_indices", false).map(|_| ())
}

/// Whether negative indices count from the end. From CoreML7 on they are outside, which unchecked is left open: constant ones are then read as
/// coremltools evaluates them.
fn turns(call: &Call) -> Result<bool> {
    if call.opset < Opset::CoreML7 {
        return Ok(true);
    }
    let constant = call.peek("indices").is_some_and(Entry::is_constant);
    let validated = call.clone().bool("validate_indices", false)?;
    Ok(constant && !validated)
}

/// The parameter `indices`, along an axis of `size`. Before CoreML7 negative ones count from the end.
pub(super) fn turned(importer: &mut Importer<'_>, call: &mut Call, size: &Dim) -> Result<ValueId> {
    let entry = call.peek("indices").cloned();
    if let Some(Entry::Constant { constant }) = &entry
        && num::u64_of(constant.len()) <= limits::FOLDED_ELEMENTS.get()
        && let Some(wrapped) = wrapped(call, constant, size)?
    {
        call.optional("indices");
        let entry = Entry::constant(wrapped);
        return importer.value(&entry, &format!("{}/indices", call.name));
    }
    turned_by(importer, call, |importer, call| {
        let dims = Dims::scalar(DType::I32, size.clone());
        importer.value(&Entry::Dims(dims), &format!("{}/size", call.name))
    })
}

/// The parameter `indices`; what is added to negative ones is made only where they may be there.
pub(super) fn turned_by(
    importer: &mut Importer<'_>,
    call: &mut Call,
    sizes: impl Fn(&mut Importer<'_>, &Call) -> Result<ValueId>,
) -> Result<ValueId> {
    let natural = match call.peek("indices") {
        Some(Entry::Constant { constant })
            if num::u64_of(constant.len()) <= limits::FOLDED_ELEMENTS.get() =>
        {
            matches!(constant.read()?.storage(), Storage::Int(v) if v.iter().all(|&i| i >= 0))
        }
        Some(_) | None => false,
    };
    let turns = turns(call)?;
    let indices = importer.operand(call, "indices")?;
    let dtype = importer.ty(indices).dtype;
    if natural || !turns || !dtype.is_signed_int() {
        return Ok(indices);
    }
    let sizes = sizes(importer, call)?;
    let sizes = importer.cast(call, "sizes", sizes, dtype)?;
    let zero = importer.scalar(call, "zero", dtype, 0.0)?;
    let kind = CompareKind::Less;
    let negative = Op::Compare(Compare { kind });
    let negative = importer.step(call, "negative", negative, &[indices, zero])?;
    let more = importer.step(call, "turned", op2(BinaryKind::Add), &[indices, sizes])?;
    let select = Op::Select(Select);
    importer.step(call, "indices", select, &[negative, more, indices])
}

/// Constant indices with the negative ones turned round; `None` when there are none.
fn wrapped(call: &Call, constant: &Constant, size: &Dim) -> Result<Option<Constant>> {
    let tensor = constant.read()?;
    let Storage::Int(v) = tensor.storage() else {
        return Ok(None);
    };
    if v.iter().all(|&i| i >= 0) {
        return Ok(None);
    }
    if !turns(call)? {
        return Err(call
            .wrong("indices", "no negative number", "at least one")
            .into());
    }
    let Some(size) = size.known() else {
        return Ok(None);
    };
    let positive = v
        .iter()
        .map(|&i| if i < 0 { i + num::i64_of(size) } else { i })
        .collect();
    let tensor = Tensor::int(tensor.dtype(), tensor.shape().to_vec(), positive)?;
    Ok(Some(Constant::from_tensor(constant.name(), &tensor)?))
}
