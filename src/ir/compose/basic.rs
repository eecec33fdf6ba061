//! Short forms for the operations that decompositions are made of.

use crate::error::Result;
use crate::ir::ops::{
    Binary, BinaryKind, Cast, Clip, Compare, CompareKind, Concat, CumSum, Expand, Gather,
    GatherElements, Iota, MatMul, Reduce, ReduceKind, Reshape, Select, Slice, SliceRange, Softmax,
    Squeeze, Transpose, Unary, UnaryKind, Unsqueeze,
};
use crate::ir::{Builder, Dim, Op, Shape, ValueId};
use crate::tensor::{DType, Tensor};

/// All of these fail as [`Builder::push`] does.
#[allow(clippy::missing_errors_doc)]
impl Builder {
    /// A node named after its operation.
    pub fn node(&mut self, op: Op, operands: &[ValueId]) -> Result<ValueId> {
        self.push(op.name(), op, operands)
    }

    /// The shape of a value.
    #[must_use]
    pub fn shape(&self, x: ValueId) -> Shape {
        self.ty(x).shape.clone()
    }

    /// The number of axes of a value.
    #[must_use]
    pub fn rank(&self, x: ValueId) -> usize {
        self.ty(x).rank()
    }

    /// The element type of a value.
    #[must_use]
    pub fn dtype(&self, x: ValueId) -> DType {
        self.ty(x).dtype
    }

    /// An elementwise function of one operand.
    pub fn un(&mut self, kind: UnaryKind, x: ValueId) -> Result<ValueId> {
        self.node(Op::Unary(Unary { kind }), &[x])
    }

    /// An elementwise function of two operands.
    pub fn bin(&mut self, kind: BinaryKind, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.node(Op::Binary(Binary { kind }), &[a, b])
    }

    /// a + b
    pub fn add(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.bin(BinaryKind::Add, a, b)
    }

    /// a − b
    pub fn sub(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.bin(BinaryKind::Sub, a, b)
    }

    /// a · b
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.bin(BinaryKind::Mul, a, b)
    }

    /// a / b
    pub fn div(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.bin(BinaryKind::Div, a, b)
    }

    /// A number as a scalar of the element type of `like`.
    pub fn number(&mut self, like: ValueId, x: f64) -> Result<ValueId> {
        let dtype = self.dtype(like);
        self.scalar("number", dtype, x)
    }

    /// x + a number
    pub fn add_n(&mut self, x: ValueId, n: f64) -> Result<ValueId> {
        let n = self.number(x, n)?;
        self.add(x, n)
    }

    /// x · a number
    pub fn mul_n(&mut self, x: ValueId, n: f64) -> Result<ValueId> {
        let n = self.number(x, n)?;
        self.mul(x, n)
    }

    /// A comparison.
    pub fn cmp(&mut self, kind: CompareKind, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.node(Op::Compare(Compare { kind }), &[a, b])
    }

    /// A comparison with a number.
    pub fn cmp_n(&mut self, kind: CompareKind, x: ValueId, n: f64) -> Result<ValueId> {
        let n = self.number(x, n)?;
        self.cmp(kind, x, n)
    }

    /// `condition ? a : b`
    pub fn select(&mut self, condition: ValueId, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.node(Op::Select(Select), &[condition, a, b])
    }

    /// The value as another element type; itself when it has it already.
    pub fn to(&mut self, x: ValueId, to: DType) -> Result<ValueId> {
        if self.dtype(x) == to {
            return Ok(x);
        }
        self.node(Op::Cast(Cast { to }), &[x])
    }

    /// A clamp.
    pub fn clip(&mut self, x: ValueId, min: f32, max: f32) -> Result<ValueId> {
        self.node(Op::Clip(Clip { min, max }), &[x])
    }

    /// The same elements under another shape; itself when it has it already.
    pub fn reshape(&mut self, x: ValueId, shape: Shape) -> Result<ValueId> {
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.node(Op::Reshape(Reshape { shape }), &[x])
    }

    /// The axes in another order; itself when that is the order they have.
    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Result<ValueId> {
        if perm.iter().copied().eq(0..self.rank(x)) {
            return Ok(x);
        }
        let perm = perm.to_vec();
        self.node(Op::Transpose(Transpose { perm }), &[x])
    }

    /// The value broadcast to a shape; itself when it has it already.
    pub fn expand(&mut self, x: ValueId, shape: Shape) -> Result<ValueId> {
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.node(Op::Expand(Expand { shape }), &[x])
    }

    /// Part of a value along one axis; the whole when the range is.
    pub fn part(
        &mut self,
        x: ValueId,
        axis: usize,
        start: impl Into<Dim>,
        end: impl Into<Dim>,
    ) -> Result<ValueId> {
        let (start, end) = (start.into(), end.into());
        if start.integer() == Some(0) && self.ty(x).shape.get(axis) == Some(&end) {
            return Ok(x);
        }
        let ranges = vec![SliceRange::new(axis, start, end)];
        self.node(Op::Slice(Slice { ranges }), &[x])
    }

    /// Values joined along an axis; the value itself if it is only one.
    pub fn join(&mut self, values: &[ValueId], axis: usize) -> Result<ValueId> {
        match values {
            [one] => Ok(*one),
            _ => self.node(Op::Concat(Concat { axis }), values),
        }
    }

    /// Axes of size 1 removed.
    pub fn squeeze(&mut self, x: ValueId, axes: &[usize]) -> Result<ValueId> {
        if axes.is_empty() {
            return Ok(x);
        }
        let axes = axes.to_vec();
        self.node(Op::Squeeze(Squeeze { axes }), &[x])
    }

    /// Axes of size 1 inserted.
    pub fn unsqueeze(&mut self, x: ValueId, axes: &[usize]) -> Result<ValueId> {
        if axes.is_empty() {
            return Ok(x);
        }
        let axes = axes.to_vec();
        self.node(Op::Unsqueeze(Unsqueeze { axes }), &[x])
    }

    /// A matrix product.
    pub fn matmul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.node(Op::MatMul(MatMul::default()), &[a, b])
    }

    /// A matrix product with the last two axes of `b` swapped.
    pub fn matmul_t(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        let op = MatMul {
            transpose_a: false,
            transpose_b: true,
        };
        self.node(Op::MatMul(op), &[a, b])
    }

    /// A reduction; no axes leave the value as it is.
    pub fn reduce(
        &mut self,
        kind: ReduceKind,
        x: ValueId,
        axes: &[usize],
        keep_dims: bool,
    ) -> Result<ValueId> {
        let axes = axes.to_vec();
        let op = Reduce {
            kind,
            axes,
            keep_dims,
        };
        self.node(Op::Reduce(op), &[x])
    }

    /// Softmax over an axis.
    pub fn softmax(&mut self, x: ValueId, axis: usize) -> Result<ValueId> {
        self.node(Op::Softmax(Softmax { axis }), &[x])
    }

    /// A running sum along an axis.
    pub fn cumsum(&mut self, x: ValueId, axis: usize) -> Result<ValueId> {
        self.node(Op::CumSum(CumSum { axis }), &[x])
    }

    /// `0, 1, … len − 1`
    pub fn iota(&mut self, dtype: DType, len: impl Into<Dim>) -> Result<ValueId> {
        let len = len.into();
        self.node(Op::Iota(Iota { dtype, len }), &[])
    }

    /// Slices picked by index along an axis.
    pub fn gather(&mut self, x: ValueId, indices: ValueId, axis: usize) -> Result<ValueId> {
        self.node(Op::Gather(Gather { axis }), &[x, indices])
    }

    /// Elements picked by index along an axis.
    pub fn gather_elements(
        &mut self,
        x: ValueId,
        indices: ValueId,
        axis: usize,
    ) -> Result<ValueId> {
        self.node(Op::GatherElements(GatherElements { axis }), &[x, indices])
    }

    /// A vector of `i64`.
    pub fn longs(&mut self, values: &[i64]) -> Result<ValueId> {
        let tensor = Tensor::int(DType::I64, vec![values.len()], values.to_vec())?;
        self.tensor("indices", &tensor)
    }

    /// The value as `[rows, columns]`, the axes before `axis` and those from it on.
    pub fn flatten(&mut self, x: ValueId, axis: usize) -> Result<ValueId> {
        let shape = self.shape(x);
        let size = |dims: &[Dim]| dims.iter().fold(Dim::from(1), |n, d| n.mul(d));
        let flat = vec![size(&shape[..axis]), size(&shape[axis..])];
        self.reshape(x, flat)
    }
}
