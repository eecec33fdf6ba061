//! Data movement that depends on values.

use super::call::Call;
use super::entry::Entry;
use super::{Handler, Importer};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::ops::{Gather, GatherElements};
use crate::ir::{Constant, Dim, Op, ValueId};
use crate::limits;
use crate::tensor::{Storage, Tensor, num};

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
    let axis = call.axis("axis", importer.ty(x).rank(), 0)?;
    let indices = indices(importer, call, x, axis)?;
    if let Some(n) = call.int("batch_dims")?.filter(|&n| n != 0) {
        return Err(call.unsupported("batch_dims", n.to_string()).into());
    }
    checked(call)?;
    importer.result(call, Op::Gather(Gather { axis }), &[x, indices])
}

fn gather_elements(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let axis = call.axis("axis", importer.ty(x).rank(), 0)?;
    let indices = indices(importer, call, x, axis)?;
    checked(call)?;
    importer.result(
        call,
        Op::GatherElements(GatherElements { axis }),
        &[x, indices],
    )
}

/// Reads `validate_indices`. Indices outside the axis are an error here with it and without.
fn checked(call: &mut Call) -> Result<()> {
    call.bool("validate_indices", false).map(|_| ())
}

/// The indices. Before CoreML7 negative ones count from the end; constant ones are turned round here, others are an error at run time.
fn indices(
    importer: &mut Importer<'_>,
    call: &mut Call,
    x: ValueId,
    axis: usize,
) -> Result<ValueId> {
    let mut entry = call.required("indices")?;
    if let Entry::Constant { constant } = &entry
        && num::u64_of(constant.len()) <= limits::FOLDED_ELEMENTS.get()
        && let Some(wrapped) = wrapped(importer, call, constant, x, axis)?
    {
        entry = Entry::constant(wrapped);
    }
    importer.value(&entry, &format!("{}/indices", call.name))
}

/// Constant indices with the negative ones turned round; `None` when there are none.
fn wrapped(
    importer: &Importer<'_>,
    call: &Call,
    constant: &Constant,
    x: ValueId,
    axis: usize,
) -> Result<Option<Constant>> {
    let tensor = constant.read()?;
    let Storage::Int(v) = tensor.storage() else {
        return Ok(None);
    };
    if v.iter().all(|&i| i >= 0) {
        return Ok(None);
    }
    let size = importer.ty(x).shape.get(axis).and_then(Dim::known);
    let Some(size) = size.filter(|_| call.opset < Opset::CoreML7) else {
        return Err(call.unsupported("indices", "negative numbers").into());
    };
    let positive = v
        .iter()
        .map(|&i| if i < 0 { i + num::i64_of(size) } else { i })
        .collect();
    let tensor = Tensor::int(tensor.dtype(), tensor.shape().to_vec(), positive)?;
    Ok(Some(Constant::from_tensor(constant.name(), &tensor)?))
}
