//! Operators that move data as values say. Indices may count from the end.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::CompareKind;
use crate::ir::{Def, Dim, Op, ValueId, normalize_axis};
use crate::tensor::{Storage, Tensor};

pub(super) const ROWS: &[Row] = &[
    row("Gather", 1, gather),
    row("GatherElements", 11, gather_elements),
];

fn gather(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let entry = call.required(0)?;
    let (data, code) = match entry {
        Entry::Coded(x, code) => (x, Some(code)),
        Entry::Value(_) | Entry::Dims(_) | Entry::Sequence(_) => (m.input(call, 0)?, None),
    };
    let indices = m.input(call, 1)?;
    let shape = m.b.shape(data);
    let axis = normalize_axis(call.int_or("axis", 0)?, shape.len())?;
    // A table of weights looked up by an input: token ids. They are held to the table's range instead.
    let lookup = m.b.as_constant(data).is_some() && axis == 0 && from_param(m, indices);
    let indices = if lookup {
        indices
    } else {
        wrapped(m, indices, &shape[axis])?
    };
    let y = m.b.gather(data, indices, axis)?;
    Ok(vec![match code {
        Some(code) => Entry::Coded(y, code),
        None => Entry::Value(y),
    }])
}

/// Whether a value is a parameter, or one that was only cast or reshaped.
fn from_param(m: &Importer<'_>, value: ValueId) -> bool {
    let mut at = value;
    loop {
        match m.b.def(at) {
            Def::Param(_) => return true,
            Def::Const(_) => return false,
            Def::Node(_) => match m.b.producer(at) {
                Some(node)
                    if matches!(
                        node.op,
                        Op::Cast(_) | Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_)
                    ) =>
                {
                    at = node.operands[0];
                }
                Some(_) | None => return false,
            },
        }
    }
}

/// Indices that may count from the end as ones that do not.
pub(super) fn wrapped(m: &mut Importer<'_>, indices: ValueId, size: &Dim) -> Result<ValueId> {
    if let Some(constant) = m.b.as_constant(indices) {
        let tensor = constant.read()?;
        if let Storage::Int(values) = tensor.storage() {
            if values.iter().all(|&i| i >= 0) {
                return Ok(indices);
            }
            if let Some(n) = size.integer() {
                let values = values.iter().map(|&i| if i < 0 { i + n } else { i });
                let fixed = Tensor::int(tensor.dtype(), tensor.shape().to_vec(), values.collect())?;
                return m.b.tensor("indices", &fixed);
            }
        }
    }
    if !m.b.dtype(indices).is_signed_int() || never_negative(m, indices) {
        return Ok(indices);
    }
    let negative = m.b.cmp_n(CompareKind::Less, indices, 0.0)?;
    let size = super::entry::Dims::scalar(m.b.dtype(indices), size.clone());
    let size = m.dims_value(&size, "size")?;
    let from_end = m.b.add(indices, size)?;
    m.b.select(negative, from_end, indices)
}

/// Whether a value counts up from 0 by its making.
fn never_negative(m: &Importer<'_>, value: ValueId) -> bool {
    m.b.producer(value)
        .is_some_and(|node| matches!(node.op, Op::Iota(_)))
}

fn gather_elements(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (data, indices) = (m.input(call, 0)?, m.input(call, 1)?);
    let shape = m.b.shape(data);
    let axis = normalize_axis(call.int_or("axis", 0)?, shape.len())?;
    let indices = wrapped(m, indices, &shape[axis])?;
    // Other axes may be shorter in the indices.
    let wanted = m.b.shape(indices);
    if wanted.len() != shape.len() {
        return Err(call
            .wrong("indices", &format!("rank {}", shape.len()), wanted.len())
            .into());
    }
    let mut data = data;
    for (i, (d, n)) in shape.iter().zip(&wanted).enumerate() {
        if i != axis && d != n {
            data = m.b.part(data, i, 0, n.clone())?;
        }
    }
    one(m.b.gather_elements(data, indices, axis)?)
}
