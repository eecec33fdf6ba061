//! Data movement that depends on values.

use super::{axis, int, same_dtype, shapes};
use crate::ir::dim::Dim;
use crate::ir::types::{IrError, Type};
use crate::tensor::DType;

/// Slices picked along one axis; operands `data` and `indices` (integers in `0..size`; anything else is an error at run time).
///
/// # Shapes
/// `data [a…, n, b…]`, `indices [i…]` → `[a…, i…, b…]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// The axis of `data`.
    pub axis: usize,
}

impl Gather {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let (data, indices) = (operands[0], operands[1]);
        int(op, 1, indices)?;
        axis(self.axis, data.rank())?;
        let mut shape = data.shape[..self.axis].to_vec();
        shape.extend_from_slice(&indices.shape);
        shape.extend_from_slice(&data.shape[self.axis + 1..]);
        Ok(Type::new(data.dtype, shape))
    }
}

/// `result[…, i, …] = data[…, indices[…, i, …], …]` along one axis; operands `data` and `indices` of equal rank, equal sizes but for the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatherElements {
    /// The axis.
    pub axis: usize,
}

impl GatherElements {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let (data, indices) = (operands[0], operands[1]);
        int(op, 1, indices)?;
        axis(self.axis, data.rank())?;
        let fits = data.rank() == indices.rank()
            && data
                .shape
                .iter()
                .zip(&indices.shape)
                .enumerate()
                .all(|(i, (d, n))| i == self.axis || d.may_equal(n));
        if !fits {
            return Err(shapes(op, "sizes differ outside the axis", operands));
        }
        Ok(Type::new(data.dtype, indices.shape.clone()))
    }
}

/// Parts of a tensor picked by index vectors; operands `data` and `indices` (integers in `0..size` of the axes they index).
///
/// # Shapes
/// `data [b…, s…]`, `indices [b…, i…, k]` with `batch_dims` axes `b`: → `[b…, i…, s after the first k…]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatherNd {
    /// Leading axes that both have.
    pub batch_dims: usize,
}

impl GatherNd {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let (data, indices) = (operands[0], operands[1]);
        int(op, 1, indices)?;
        let depth = index_depth(op, self.batch_dims, data, indices, operands)?;
        let mut shape = indices.shape[..indices.rank() - 1].to_vec();
        shape.extend_from_slice(&data.shape[self.batch_dims + depth..]);
        Ok(Type::new(data.dtype, shape))
    }
}

/// The number of axes that the index vectors index.
fn index_depth(
    op: &'static str,
    batch_dims: usize,
    data: &Type,
    indices: &Type,
    operands: &[&Type],
) -> Result<usize, IrError> {
    let depth = indices.shape.last().and_then(Dim::known);
    match depth {
        Some(k) if batch_dims < indices.rank() && batch_dims + k <= data.rank() => Ok(k),
        Some(_) | None => Err(shapes(
            op,
            "index vectors are longer than the data's rank",
            operands,
        )),
    }
}

/// How a scattered element meets the one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScatterMode {
    /// It takes its place; of several the last.
    Update,
    /// It is added.
    Add,
    /// It is subtracted.
    Sub,
    /// It is multiplied.
    Mul,
    /// It divides.
    Div,
    /// The smaller stays.
    Min,
    /// The larger stays.
    Max,
}

/// `result = data`, then `result[…, indices[…, i, …], …] ∘= updates[…, i, …]` along one axis; operands `data`, `indices` (integers in
/// `0..size`), `updates` (of the shape of `indices`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScatterElements {
    /// The axis.
    pub axis: usize,
    /// How elements meet.
    pub mode: ScatterMode,
}

impl ScatterElements {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let (data, indices, updates) = (operands[0], operands[1], operands[2]);
        int(op, 1, indices)?;
        same_dtype(op, &[data, updates])?;
        axis(self.axis, data.rank())?;
        let same = indices.rank() == updates.rank()
            && indices
                .shape
                .iter()
                .zip(&updates.shape)
                .all(|(a, b)| a.may_equal(b));
        if !same || indices.rank() != data.rank() {
            return Err(shapes(
                op,
                "indices and updates must have one shape, of the data's rank",
                operands,
            ));
        }
        arithmetic(op, self.mode, data)?;
        Ok(data.clone())
    }
}

/// `result = data`, then parts of it picked by index vectors meet `updates`; operands `data [s…]`, `indices [i…, k]`,
/// `updates [i…, s after the first k…]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScatterNd {
    /// How elements meet.
    pub mode: ScatterMode,
}

impl ScatterNd {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let (data, indices, updates) = (operands[0], operands[1], operands[2]);
        int(op, 1, indices)?;
        same_dtype(op, &[data, updates])?;
        let depth = index_depth(op, 0, data, indices, operands)?;
        let mut wanted = indices.shape[..indices.rank() - 1].to_vec();
        wanted.extend_from_slice(&data.shape[depth..]);
        let fits = wanted.len() == updates.rank()
            && wanted
                .iter()
                .zip(&updates.shape)
                .all(|(a, b)| a.may_equal(b));
        if !fits {
            return Err(shapes(
                op,
                "the updates do not fit data and indices",
                operands,
            ));
        }
        arithmetic(op, self.mode, data)?;
        Ok(data.clone())
    }
}

fn arithmetic(op: &'static str, mode: ScatterMode, data: &Type) -> Result<(), IrError> {
    if mode != ScatterMode::Update && data.dtype == DType::Bool {
        return Err(super::operand_type(op, 0, "a number", data));
    }
    Ok(())
}

/// Greedy choice of boxes that overlap little; operands `boxes [B, N, 4]`, `scores [B, C, N]`, then one element each: the most boxes per class
/// (an integer), the largest allowed overlap (intersection over union) and the least score (floats).
///
/// # Shapes
/// → `[count, 3]`: batch, class, box, in the order they were chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonMaxSuppression {
    /// An integer type.
    pub dtype: DType,
    /// Boxes are centre x, centre y, width, height; else two opposite corners y, x, y, x.
    pub center: bool,
    /// How many are chosen in all.
    pub count: Dim,
}

impl NonMaxSuppression {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let (boxes, scores) = (operands[0], operands[1]);
        super::float(op, 0, boxes)?;
        same_dtype(op, &[boxes, scores])?;
        int(op, 2, operands[2])?;
        let fits = boxes.rank() == 3
            && scores.rank() == 3
            && boxes.shape[2].known() == Some(4)
            && boxes.shape[0].may_equal(&scores.shape[0])
            && boxes.shape[1].may_equal(&scores.shape[2]);
        if !fits {
            return Err(shapes(op, "boxes [B, N, 4] and scores [B, C, N]", operands));
        }
        let ty = Type::new(self.dtype, vec![self.count.clone(), Dim::from(3)]);
        int(op, 0, &ty)?;
        Ok(ty)
    }
}
