//! Matrix products, on `ndarray`'s kernels. Products are cut into blocks of a fixed size, never along the inner axis, so that
//! no result depends on the number of threads.

use super::Target;
use super::layout::{broadcast_strides, position};
use crate::error::Result;
use crate::ir::ops::{Linear, MatMul};
use crate::tensor::{Tensor, TensorError};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, ShapeBuilder};
use rayon::prelude::*;

/// Multiply-adds per block of parallel work.
const BLOCK: usize = 1 << 21;
/// Blocks end on multiples of this many rows or columns: the widest tile of the kernels.
const TILE: usize = 16;

/// A matrix within a slice.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    strides: (usize, usize),
}

impl<'a> Matrix<'a> {
    /// A row-major matrix, transposed if asked.
    fn new(values: &'a [f32], rows: usize, columns: usize, transposed: bool) -> Self {
        let strides = if transposed { (1, rows) } else { (columns, 1) };
        Matrix {
            values,
            rows,
            columns,
            strides,
        }
    }

    fn view(&self) -> Result<ArrayView2<'a, f32>> {
        let shape = (self.rows, self.columns).strides(self.strides);
        ArrayView2::from_shape(shape, self.values).map_err(|_| self.too_short())
    }

    fn too_short(&self) -> crate::error::Error {
        TensorError::ElementCount {
            shape: vec![self.rows, self.columns],
            expected: self.rows * self.columns,
            found: self.values.len(),
        }
        .into()
    }
}

/// A row-major matrix to write into.
fn matrix(out: &mut [f32], rows: usize, columns: usize) -> Result<ArrayViewMut2<'_, f32>> {
    let found = out.len();
    ArrayViewMut2::from_shape((rows, columns), out).map_err(|_| {
        TensorError::ElementCount {
            shape: vec![rows, columns],
            expected: rows * columns,
            found,
        }
        .into()
    })
}

/// `out += a · b`, in parallel when it is worth it.
fn product(a: ArrayView2<f32>, b: ArrayView2<f32>, mut out: ArrayViewMut2<f32>) {
    let (rows, columns, inner) = (a.nrows(), b.ncols(), a.ncols());
    let work = rows * columns * inner.max(1);
    let axis = if columns >= rows { 1 } else { 0 };
    let size = if axis == 1 { columns } else { rows };
    if work < 2 * BLOCK || size <= TILE {
        general_mat_mul(1.0, &a, &b, 1.0, &mut out);
        return;
    }
    let middle = (size / 2).next_multiple_of(TILE);
    let (low, high) = out.split_at(Axis(axis), middle);
    if axis == 1 {
        let (left, right) = b.split_at(Axis(1), middle);
        rayon::join(|| product(a, left, low), || product(a, right, high));
    } else {
        let (upper, lower) = a.split_at(Axis(0), middle);
        rayon::join(|| product(upper, b, low), || product(lower, b, high));
    }
}

pub(super) fn matmul(op: MatMul, a: &Tensor, b: &Tensor, target: Target) -> Result<Tensor> {
    let (&[ref a_batch @ .., a0, a1], &[ref b_batch @ .., b0, b1]) = (a.shape(), b.shape()) else {
        return Err(target.mismatch(&[a, b]));
    };
    let (m, k) = if op.transpose_a { (a1, a0) } else { (a0, a1) };
    let (kb, n) = if op.transpose_b { (b1, b0) } else { (b0, b1) };
    let &[ref batch @ .., om, on] = target.shape() else {
        return Err(target.mismatch(&[a, b]));
    };
    if k != kb || m != om || n != on {
        return Err(target.mismatch(&[a, b]));
    }
    let (x, y) = (a.floats()?, b.floats()?);
    let mut out = vec![0.0f32; target.len()];
    if out.is_empty() || k == 0 {
        return target.float(out);
    }
    if !op.transpose_a && a_batch == batch && b_batch.iter().all(|&d| d == 1) {
        // One matrix for the whole batch: a single product of many rows.
        let rows = out.len() / n;
        let a = Matrix::new(x, rows, k, false).view()?;
        let b = Matrix::new(y, k, n, op.transpose_b).view()?;
        product(a, b, matrix(&mut out, rows, n)?);
        return target.float(out);
    }
    let (sa, sb) = (
        broadcast_strides(a_batch, batch),
        broadcast_strides(b_batch, batch),
    );
    let batch = batch.to_vec();
    let one = |(i, out): (usize, &mut [f32])| -> Result<()> {
        let at = position(i, &batch);
        let place = |s: &[usize]| -> usize { at.iter().zip(s).map(|(i, s)| i * s).sum() };
        let (pa, pb) = (place(&sa) * m * k, place(&sb) * k * n);
        let a = Matrix::new(&x[pa..pa + m * k], m, k, op.transpose_a).view()?;
        let b = Matrix::new(&y[pb..pb + k * n], k, n, op.transpose_b).view()?;
        product(a, b, matrix(out, m, n)?);
        Ok(())
    };
    if m * n * k >= BLOCK / 64 {
        out.par_chunks_mut(m * n).enumerate().try_for_each(one)?;
    } else {
        out.chunks_mut(m * n).enumerate().try_for_each(one)?;
    }
    target.float(out)
}

pub(super) fn linear(
    _: Linear,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    target: Target,
) -> Result<Tensor> {
    let &[n, k] = w.shape() else {
        return Err(target.mismatch(&[x, w]));
    };
    if x.shape().last() != Some(&k)
        || target.shape().last() != Some(&n)
        || bias.is_some_and(|b| b.len() != n)
    {
        return Err(target.mismatch(&[x, w]));
    }
    let mut out = match bias {
        None => vec![0.0; target.len()],
        Some(bias) => bias
            .floats()?
            .repeat(target.len().checked_div(n).unwrap_or(0)),
    };
    if out.is_empty() || k == 0 {
        return target.float(out);
    }
    let m = out.len() / n;
    let a = Matrix::new(x.floats()?, m, k, false).view()?;
    let b = Matrix::new(w.floats()?, k, n, true).view()?;
    product(a, b, matrix(&mut out, m, n)?);
    target.float(out)
}
