//! Matrix products over tensors: which matrices of a batch belong together.

use super::Target;
use super::gemm::{Matrix, product, products};
use super::layout::{broadcast_strides, position};
use crate::error::Result;
use crate::ir::ops::{Linear, MatMul};
use crate::tensor::Tensor;

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
        let a = Matrix::new(x, rows, k)?;
        let b = Matrix::new(y, b0, b1)?.transposed_if(op.transpose_b);
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
    let b = Matrix::new(w.floats()?, n, k)?.transposed();
    product(a, b, bias.map(|b| b.as_slice()), &mut out)?;
    target.float(out)
}
