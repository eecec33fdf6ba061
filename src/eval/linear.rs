//! Matrix products over tensors: which matrices of a batch belong together.

use super::gemm::{Matrix, Packed, product, products};
use super::layout::{broadcast_strides, position};
use super::{EvalError, Target};
use crate::error::Result;
use crate::ir::Op;
use crate::ir::ops::{Linear, MatMul};
use crate::tensor::{Storage, Tensor, num};

/// `out = a · b` of row-major matrices, plus `bias` on every row: `a [m, k]`, `b [k, n]`, `bias [n]`, `out [m, n]`.
pub(super) fn multiply(
    a: &[f32],
    b: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
    (m, k, n): (usize, usize, usize),
) -> Result<()> {
    product(Matrix::new(a, m, k)?, Matrix::new(b, k, n)?, bias, out)
}

/// The inverses of square matrices, by Gauss–Jordan elimination with partial pivoting in `f64`.
pub(super) fn inverse(x: &Tensor, target: Target) -> Result<Tensor> {
    let &[.., n, columns] = x.shape() else {
        return Err(target.mismatch(&[x]));
    };
    if n != columns {
        return Err(target.mismatch(&[x]));
    }
    let mut out = Vec::with_capacity(x.len());
    for (index, matrix) in x.floats()?.chunks_exact((n * n).max(1)).enumerate() {
        // [A | I], row by row.
        let mut rows: Vec<Vec<f64>> = matrix
            .chunks_exact(n)
            .enumerate()
            .map(|(i, row)| {
                let own = row.iter().map(|&x| f64::from(x));
                own.chain((0..n).map(|j| f64::from(u8::from(i == j))))
                    .collect()
            })
            .collect();
        for column in 0..n {
            let pivot = (column..n)
                .max_by(|&i, &j| rows[i][column].abs().total_cmp(&rows[j][column].abs()));
            let pivot = pivot.filter(|&i| rows[i][column] != 0.0);
            let pivot = pivot.ok_or(EvalError::Singular { index })?;
            rows.swap(column, pivot);
            let scale = rows[column][column];
            rows[column].iter_mut().for_each(|x| *x /= scale);
            let base = rows[column].clone();
            for (_, row) in rows.iter_mut().enumerate().filter(|(i, _)| *i != column) {
                let factor = row[column];
                row.iter_mut()
                    .zip(&base)
                    .for_each(|(x, b)| *x -= factor * b);
            }
        }
        for row in rows {
            out.extend(row[n..].iter().map(|&x| num::f32_of_f64(x)));
        }
    }
    target.float(out)
}

/// Integer matrix products, exactly, wrapping to the declared width.
fn matmul_ints(
    op: MatMul,
    a: &Tensor,
    b: &Tensor,
    (m, k, n): (usize, usize, usize),
    target: Target,
) -> Result<Tensor> {
    let (x, y) = (a.ints()?, b.ints()?);
    let batch = target.shape()[..target.shape().len() - 2].to_vec();
    let steps = |t: &Tensor| broadcast_strides(&t.shape()[..t.shape().len() - 2], &batch);
    let (sa, sb) = (steps(a), steps(b));
    let mut out = vec![0i64; target.len()];
    for (i, out) in out.chunks_exact_mut((m * n).max(1)).enumerate() {
        let at = position(i, &batch);
        let place = |s: &[usize]| -> usize { at.iter().zip(s).map(|(i, s)| i * s).sum() };
        let (pa, pb) = (place(&sa) * m * k, place(&sb) * k * n);
        for (r, row) in out.chunks_exact_mut(n).enumerate() {
            for j in 0..k {
                let left = x[pa + if op.transpose_a { j * m + r } else { r * k + j }];
                for (c, o) in row.iter_mut().enumerate() {
                    let right = y[pb + if op.transpose_b { c * k + j } else { j * n + c }];
                    *o = o.wrapping_add(left.wrapping_mul(right));
                }
            }
        }
    }
    target.int(out)
}

/// The right-hand side of the product as it is multiplied, if it is one matrix: what can be packed ahead.
pub(super) fn right_hand<'a>(op: &Op, b: &'a Tensor) -> Option<Matrix<'a>> {
    let &[rows, columns] = b.shape() else {
        return None;
    };
    let turned = if let Op::MatMul(o) = op {
        o.transpose_b
    } else {
        matches!(op, Op::Linear(_))
    };
    let matrix = Matrix::new(b.floats().ok()?, rows, columns).ok()?;
    Some(matrix.transposed_if(turned))
}

pub(super) fn matmul(
    op: MatMul,
    a: &Tensor,
    b: &Tensor,
    packed: Option<&Packed>,
    target: Target,
) -> Result<Tensor> {
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
    if let Storage::Int(_) = a.storage() {
        return matmul_ints(op, a, b, (m, k, n), target);
    }
    let (x, y) = (a.floats()?, b.floats()?);
    let mut out = vec![0.0f32; target.len()];
    if out.is_empty() || k == 0 {
        return target.float(out);
    }
    if !op.transpose_a && a_batch == batch && b_batch.iter().all(|&d| d == 1) {
        // One matrix for the whole batch: a single product of many rows.
        let rows = out.len() / n;
        let a = Matrix::new(x, rows, k)?;
        let b = Matrix::new(y, b0, b1)?
            .transposed_if(op.transpose_b)
            .with_packed(packed);
        product(a, b, None, &mut out)?;
        return target.float(out);
    }
    let (sa, sb) = (
        broadcast_strides(a_batch, batch),
        broadcast_strides(b_batch, batch),
    );
    let batch = batch.to_vec();
    let operands = |i: usize| {
        let at = position(i, &batch);
        let place = |s: &[usize]| -> usize { at.iter().zip(s).map(|(i, s)| i * s).sum() };
        let (pa, pb) = (place(&sa) * m * k, place(&sb) * k * n);
        let a = Matrix::new(&x[pa..], a0, a1)?.transposed_if(op.transpose_a);
        let b = Matrix::new(&y[pb..], b0, b1)?.transposed_if(op.transpose_b);
        Ok((a, b))
    };
    products((m, k, n), operands, &mut out)?;
    target.float(out)
}

pub(super) fn linear(
    _: Linear,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    packed: Option<&Packed>,
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
    let mut out = vec![0.0; target.len()];
    if out.is_empty() {
        return target.float(out);
    }
    let bias = bias.map(Tensor::floats).transpose()?;
    let a = Matrix::new(x.floats()?, out.len() / n, k)?;
    let b = Matrix::new(w.floats()?, n, k)?
        .transposed()
        .with_packed(packed);
    product(a, b, bias.map(|b| b.as_slice()), &mut out)?;
    target.float(out)
}
