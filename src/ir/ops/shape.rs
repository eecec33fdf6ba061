//! Data movement that is known from shapes. All sizes are attributes (dimension expressions), never operands.

use super::{axis, int, same_dtype, shapes};
use crate::ir::dim::Dim;
use crate::ir::types::{IrError, Shape, Type, broadcast, display_shape};
use crate::tensor::DType;

/// Same elements in row-major order, another shape of provably equal size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// The shape of the result.
    pub shape: Shape,
}

impl Reshape {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let size = |s: &[Dim]| s.iter().fold(Dim::from(1), |n, d| n.mul(d));
        if size(&operands[0].shape) != size(&self.shape) {
            return Err(IrError::Shapes {
                op,
                reason: "sizes differ",
                shapes: format!(
                    "{} to {}",
                    display_shape(&operands[0].shape),
                    display_shape(&self.shape)
                ),
            });
        }
        Ok(Type::new(operands[0].dtype, self.shape.clone()))
    }
}

/// Axis `i` of the result is axis `perm[i]` of the operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transpose {
    /// The permutation.
    pub perm: Vec<usize>,
}

impl Transpose {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let x = operands[0];
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..x.rank()) {
            return Err(shapes(
                op,
                "the permutation does not name every axis once",
                operands,
            ));
        }
        Ok(Type::new(
            x.dtype,
            self.perm.iter().map(|&i| x.shape[i].clone()).collect(),
        ))
    }
}

/// Broadcast to `shape` (NumPy's rule; the operand must not be larger).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expand {
    /// The shape of the result.
    pub shape: Shape,
}

impl Expand {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        if broadcast(op, &operands[0].shape, &self.shape)? != self.shape {
            return Err(shapes(
                op,
                "the operand is larger than the result",
                operands,
            ));
        }
        Ok(Type::new(operands[0].dtype, self.shape.clone()))
    }
}

/// A range of one axis: `start, start + step, …`, below `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceRange {
    /// The axis.
    pub axis: usize,
    /// First index, not negative.
    pub start: Dim,
    /// One past the last index, at most the size of the axis.
    pub end: Dim,
    /// Distance, at least 1.
    pub step: usize,
}

impl SliceRange {
    /// `start..end` with step 1.
    #[must_use]
    pub fn new(axis: usize, start: impl Into<Dim>, end: impl Into<Dim>) -> Self {
        SliceRange {
            axis,
            start: start.into(),
            end: end.into(),
            step: 1,
        }
    }
}

/// Part of a tensor; axes that are not named stay whole. Ranges are already clamped: `0 ≤ start ≤ end ≤ size`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Ranges, one per named axis, axes ascending.
    pub ranges: Vec<SliceRange>,
}

impl Slice {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let mut shape = operands[0].shape.clone();
        let mut last = None;
        for range in &self.ranges {
            axis(range.axis, shape.len())?;
            if last.is_some_and(|l| range.axis <= l) || range.step == 0 {
                return Err(shapes(
                    op,
                    "axes must be ascending and steps at least 1",
                    operands,
                ));
            }
            last = Some(range.axis);
            let size = &operands[0].shape[range.axis];
            let (start, end, size) = (range.start.integer(), range.end.integer(), size.integer());
            let backwards = start.zip(end).is_some_and(|(s, e)| s > e);
            let outside = end.zip(size).is_some_and(|(e, n)| e > n);
            if start.is_some_and(|s| s < 0) || backwards || outside {
                return Err(shapes(op, "a range leaves its axis", operands));
            }
            let length = range.end.sub(&range.start);
            let step = Dim::from(range.step);
            shape[range.axis] = length
                .add(&step)
                .sub(&Dim::from(1))
                .floor_div(&step)
                .ok_or_else(|| shapes_error(op, operands))?;
        }
        Ok(Type::new(operands[0].dtype, shape))
    }
}

fn shapes_error(op: &'static str, operands: &[&Type]) -> IrError {
    shapes(op, "a range has no length", operands)
}

/// Tensors joined along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// The axis.
    pub axis: usize,
}

impl Concat {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        same_dtype(op, operands)?;
        axis(self.axis, operands[0].rank())?;
        let mut shape = operands[0].shape.clone();
        for other in &operands[1..] {
            let fits = other.rank() == shape.len()
                && other
                    .shape
                    .iter()
                    .enumerate()
                    .all(|(i, d)| i == self.axis || d.may_equal(&shape[i]));
            if !fits {
                return Err(shapes(
                    op,
                    "shapes differ outside the joined axis",
                    operands,
                ));
            }
            shape[self.axis] = shape[self.axis].add(&other.shape[self.axis]);
            // What one operand leaves open, another may know.
            for (i, d) in other.shape.iter().enumerate() {
                let known = shape[i].integer().is_none() && d.integer().is_some();
                if i != self.axis && (known || shape[i].is_run_time() && !d.is_run_time()) {
                    shape[i] = d.clone();
                }
            }
        }
        Ok(Type::new(operands[0].dtype, shape))
    }
}

/// Axes of size 1 removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Squeeze {
    /// Axes of the operand, ascending.
    pub axes: Vec<usize>,
}

impl Squeeze {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let x = operands[0];
        for &a in &self.axes {
            axis(a, x.rank())?;
            if x.shape[a].integer() != Some(1) {
                return Err(shapes(op, "a removed axis must have size 1", operands));
            }
        }
        let kept = x
            .shape
            .iter()
            .enumerate()
            .filter(|(i, _)| !self.axes.contains(i));
        Ok(Type::new(x.dtype, kept.map(|(_, d)| d.clone()).collect()))
    }
}

/// Axes of size 1 inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsqueeze {
    /// Axes of the result, ascending, without repetition.
    pub axes: Vec<usize>,
}

impl Unsqueeze {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let rank = operands[0].rank() + self.axes.len();
        if self.axes.windows(2).any(|w| w[0] >= w[1]) {
            return Err(shapes(op, "axes must be ascending", operands));
        }
        let mut shape = operands[0].shape.clone();
        // The last one first: those that are within the rank, and ascend, find their places one after another.
        for &a in self.axes.iter().rev() {
            axis(a, rank)?;
        }
        for &a in &self.axes {
            shape.insert(a, Dim::from(1));
        }
        Ok(Type::new(operands[0].dtype, shape))
    }
}

/// `0, 1, … len − 1` as a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iota {
    /// An integer type.
    pub dtype: DType,
    /// Number of elements.
    pub len: Dim,
}

impl Iota {
    pub(crate) fn infer(&self, op: &'static str, _: &[&Type]) -> Result<Type, IrError> {
        let ty = Type::new(self.dtype, vec![self.len.clone()]);
        int(op, 0, &ty)?;
        Ok(ty)
    }
}

/// What padding consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadMode {
    /// One value: the second operand, or 0.
    Constant,
    /// The tensor mirrored at its border element.
    Reflect,
    /// The border element.
    Edge,
    /// The tensor again.
    Wrap,
}

/// More elements before and after the elements of each axis; operands `x` and, for [`PadMode::Constant`], optionally the value (one element).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pad {
    /// What the new elements are.
    pub mode: PadMode,
    /// How many come before, per axis; not negative.
    pub begin: Shape,
    /// How many come after, per axis; not negative.
    pub end: Shape,
}

impl Pad {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let x = operands[0];
        let negative = |d: &Dim| d.integer().is_some_and(|n| n < 0);
        if self.begin.len() != x.rank() || self.end.len() != x.rank() {
            return Err(shapes(
                op,
                "one number before and after every axis",
                operands,
            ));
        }
        if self.begin.iter().chain(&self.end).any(negative) {
            return Err(shapes(op, "padding must not be negative", operands));
        }
        if let Some(value) = operands.get(1) {
            same_dtype(op, operands)?;
            if self.mode != PadMode::Constant || value.shape.iter().any(|d| d.integer() != Some(1))
            {
                return Err(shapes(
                    op,
                    "only constant padding has a value, of one element",
                    operands,
                ));
            }
        }
        let shape = x.shape.iter().zip(self.begin.iter().zip(&self.end));
        Ok(Type::new(
            x.dtype,
            shape.map(|(n, (b, e))| n.add(b).add(e)).collect(),
        ))
    }
}

/// Copies side by side along each axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// How many, per axis.
    pub repeats: Shape,
}

impl Tile {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let x = operands[0];
        if self.repeats.len() != x.rank() {
            return Err(shapes(op, "one number of copies per axis", operands));
        }
        let shape = x.shape.iter().zip(&self.repeats);
        Ok(Type::new(x.dtype, shape.map(|(n, r)| n.mul(r)).collect()))
    }
}

/// The elements in reverse order along some axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reverse {
    /// Axes, ascending.
    pub axes: Vec<usize>,
}

impl Reverse {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        for &a in &self.axes {
            axis(a, operands[0].rank())?;
        }
        if self.axes.windows(2).any(|w| w[0] >= w[1]) {
            return Err(shapes(op, "axes must be ascending", operands));
        }
        Ok(operands[0].clone())
    }
}

/// Which of the channels' two parts is the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOrder {
    /// Block first: channel `(y · block + x) · C + c`.
    BlockFirst,
    /// Block last: channel `(c · block + y) · block + x`.
    BlockLast,
}

/// Channels become blocks of pixels: `[N, block²·C, H, W]` → `[N, C, H·block, W·block]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthToSpace {
    /// Side of a block.
    pub block: usize,
    /// Where the block is among the channels.
    pub order: BlockOrder,
}

impl DepthToSpace {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let (x, side) = (operands[0], Dim::from(self.block));
        let [n, c, h, w] = x.shape.as_slice() else {
            return Err(shapes(op, "the operand must have rank 4", operands));
        };
        let channels = c.floor_div(&side.mul(&side));
        match channels {
            Some(channels) if channels.mul(&side).mul(&side) == *c => Ok(Type::new(
                x.dtype,
                vec![n.clone(), channels, h.mul(&side), w.mul(&side)],
            )),
            Some(_) | None => Err(shapes(
                op,
                "the block does not divide the channels",
                operands,
            )),
        }
    }
}

/// Blocks of pixels become channels: `[N, C, H·block, W·block]` → `[N, block²·C, H, W]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceToDepth {
    /// Side of a block.
    pub block: usize,
    /// Where the block is among the channels.
    pub order: BlockOrder,
}

impl SpaceToDepth {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let (x, side) = (operands[0], Dim::from(self.block));
        let [n, c, h, w] = x.shape.as_slice() else {
            return Err(shapes(op, "the operand must have rank 4", operands));
        };
        match (h.floor_div(&side), w.floor_div(&side)) {
            (Some(a), Some(b)) if a.mul(&side) == *h && b.mul(&side) == *w => Ok(Type::new(
                x.dtype,
                vec![n.clone(), c.mul(&side).mul(&side), a, b],
            )),
            (_, _) => Err(shapes(op, "the block does not divide the image", operands)),
        }
    }
}
