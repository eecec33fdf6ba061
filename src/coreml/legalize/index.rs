//! What is picked and put by index.

use super::lower::{Lower, dims};
use crate::coreml::export::int32;
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, GatherElements, GatherNd, ScatterElements, ScatterMode, ScatterNd,
};
use crate::ir::{Op, ValueId};
use crate::tensor::{DType, num};

pub(super) fn gather_elements(
    l: &mut Lower<'_>,
    op: &GatherElements,
    data: ValueId,
    indices: ValueId,
) -> Result<ValueId> {
    l.push(Op::GatherElements(*op), &[data, indices])
}

/// The first generation has no batch axes: there the index vectors become places in a flat list.
pub(super) fn gather_nd(
    l: &mut Lower<'_>,
    op: &GatherNd,
    data: ValueId,
    indices: ValueId,
) -> Result<ValueId> {
    if op.batch_dims == 0 || l.opset >= Opset::CoreML6 {
        return l.push(Op::GatherNd(*op), &[data, indices]);
    }
    let indices = l.cast(indices, DType::I32)?;
    let shape = l.known("gather_nd", data)?;
    let wanted = l.known("gather_nd", indices)?;
    let (batch, last) = (op.batch_dims, wanted.len() - 1);
    let depth = wanted[last];
    let indexed = batch + depth;
    let strides: Vec<usize> = (0..indexed)
        .map(|a| shape[a + 1..indexed].iter().product())
        .collect();
    let rest = &shape[indexed..];
    let mut flat_shape = vec![shape[..indexed].iter().product()];
    flat_shape.extend_from_slice(rest);
    let flat = l.reshape(data, dims(&flat_shape))?;
    // Where every batch begins.
    let batches: usize = shape[..batch].iter().product();
    let per_batch: usize = shape[batch..indexed].iter().product();
    let mut begin_shape = shape[..batch].to_vec();
    begin_shape.resize(last, 1);
    let begins = (0..batches).map(|b| num::i64_of(b * per_batch)).collect();
    let mut place = l.tensor(&int32(begin_shape, begins)?)?;
    for k in 0..depth {
        let index = l.pick(indices, last, k)?;
        let offset = l.with(BinaryKind::Mul, index, num::f64_of(strides[batch + k]))?;
        place = l.binary(BinaryKind::Add, place, offset)?;
    }
    l.gather(flat, place, 0)
}

/// The type that scattering works in: floats and `int32`.
fn carrier(l: &mut Lower<'_>, data: ValueId, updates: ValueId) -> Result<(ValueId, ValueId)> {
    if l.ty(data).dtype.is_float() {
        return Ok((data, updates));
    }
    let data = l.cast(data, DType::I32)?;
    let updates = l.cast(updates, DType::I32)?;
    Ok((data, updates))
}

/// The result in the type that the data had; narrow sums are wrapped.
fn back(l: &mut Lower<'_>, x: ValueId, to: DType, mode: ScatterMode) -> Result<ValueId> {
    let arithmetic = !matches!(
        mode,
        ScatterMode::Update | ScatterMode::Min | ScatterMode::Max
    );
    let x = if arithmetic {
        super::elementwise::wrap(l, x, to)?
    } else {
        x
    };
    l.cast(x, to)
}

/// Programs put whole planes: with indices that are smaller than the data, every element has its place as an index vector.
pub(super) fn scatter_elements(
    l: &mut Lower<'_>,
    op: &ScatterElements,
    data: ValueId,
    indices: ValueId,
    updates: ValueId,
) -> Result<ValueId> {
    let was = l.ty(data).dtype;
    let (data, updates) = carrier(l, data, updates)?;
    let indices = l.cast(indices, DType::I32)?;
    let (whole, part) = (l.shape(data), l.shape(indices));
    let same = whole
        .iter()
        .zip(&part)
        .enumerate()
        .all(|(i, (a, b))| i == op.axis || a == b);
    if same {
        let out = l.push(Op::ScatterElements(*op), &[data, indices, updates])?;
        return back(l, out, was, op.mode);
    }
    let shape = l.known("scatter_elements", indices)?;
    let count: usize = shape.iter().product();
    let mut columns = Vec::with_capacity(shape.len());
    for axis in 0..shape.len() {
        let column = if axis == op.axis {
            l.reshape(indices, dims(&[count, 1]))?
        } else {
            let inner: usize = shape[axis + 1..].iter().product();
            let places = (0..count)
                .map(|i| num::i64_of(i / inner % shape[axis]))
                .collect();
            l.tensor(&int32(vec![count, 1], places)?)?
        };
        columns.push(column);
    }
    let vectors = l.concat(&columns, 1)?;
    let values = l.reshape(updates, dims(&[count]))?;
    let nd = Op::ScatterNd(ScatterNd { mode: op.mode });
    let out = l.push(nd, &[data, vectors, values])?;
    back(l, out, was, op.mode)
}

pub(super) fn scatter_nd(
    l: &mut Lower<'_>,
    op: &ScatterNd,
    data: ValueId,
    indices: ValueId,
    updates: ValueId,
) -> Result<ValueId> {
    let was = l.ty(data).dtype;
    let (data, updates) = carrier(l, data, updates)?;
    let indices = l.cast(indices, DType::I32)?;
    let out = l.push(Op::ScatterNd(*op), &[data, indices, updates])?;
    back(l, out, was, op.mode)
}
