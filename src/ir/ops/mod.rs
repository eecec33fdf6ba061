//! Payloads and type inference of the operations, by family.

mod attention;
mod control;
mod conv;
mod dynamic;
mod elementwise;
mod image;
mod index;
mod linear;
mod norm;
mod quant;
mod recurrent;
mod reduce;
mod shape;

pub use attention::Attention;
pub use control::{If, Loop};
pub use conv::{Conv, ConvTranspose, Pool, PoolKind, Window};
pub use dynamic::{ExpandTo, NonZero, PadBy, RangeBy, ReshapeTo, Size, SliceBy, TileBy};
pub use elementwise::{
    Activation, ActivationKind, Binary, BinaryKind, Cast, Classify, ClassifyKind, Clip, Compare,
    CompareKind, Select, Unary, UnaryKind,
};
pub(crate) use image::scaled;
pub use image::{Coordinates, GridSample, Outside, Resize, ResizeAxis, Rounding, Sampling};
pub use index::{
    Gather, GatherElements, GatherNd, NonMaxSuppression, ScatterElements, ScatterMode, ScatterNd,
};
pub use linear::{Inverse, Linear, MatMul};
pub use norm::{BatchNorm, InstanceNorm, LayerNorm, Lrn, RmsNorm};
pub use quant::{Dequantize, Granularity, Quantize};
pub use recurrent::{Cell, CellActivation, Direction, Recurrent};
pub use reduce::{ArgReduce, CumSum, Reduce, ReduceKind, Softmax, TopK};
pub use shape::{
    BlockOrder, Concat, DepthToSpace, Expand, Iota, Pad, PadMode, Reshape, Reverse, Slice,
    SliceRange, SpaceToDepth, Squeeze, Tile, Transpose, Unsqueeze,
};

use super::types::{IrError, Type, display_shape};

/// An operand of the wrong type.
fn operand_type(op: &'static str, operand: usize, expected: &str, found: &Type) -> IrError {
    IrError::OperandType {
        op,
        operand,
        expected: expected.to_owned(),
        found: found.to_string(),
    }
}

/// Refuses operands whose element types differ.
fn same_dtype(op: &'static str, operands: &[&Type]) -> Result<(), IrError> {
    for (i, ty) in operands.iter().enumerate().skip(1) {
        if ty.dtype != operands[0].dtype {
            return Err(operand_type(op, i, operands[0].dtype.name(), ty));
        }
    }
    Ok(())
}

/// Refuses an operand that is not floating point.
fn float(op: &'static str, operand: usize, ty: &Type) -> Result<(), IrError> {
    if ty.dtype.is_float() {
        Ok(())
    } else {
        Err(operand_type(op, operand, "floating point", ty))
    }
}

/// Refuses an operand that is not an integer.
fn int(op: &'static str, operand: usize, ty: &Type) -> Result<(), IrError> {
    if ty.dtype.is_int() {
        Ok(())
    } else {
        Err(operand_type(op, operand, "an integer", ty))
    }
}

/// An error about shapes.
fn shapes(op: &'static str, reason: &'static str, operands: &[&Type]) -> IrError {
    let list: Vec<String> = operands.iter().map(|t| display_shape(&t.shape)).collect();
    IrError::Shapes {
        op,
        reason,
        shapes: list.join(", "),
    }
}

/// Refuses an axis outside the rank.
fn axis(axis: usize, rank: usize) -> Result<(), IrError> {
    if axis < rank {
        Ok(())
    } else {
        Err(IrError::Axis {
            axis: i64::try_from(axis).unwrap_or(i64::MAX),
            rank,
        })
    }
}
