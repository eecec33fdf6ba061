//! Attention: scores, softmax and result a few rows of queries at a time, so that the scores of a long sequence are never all there at once.

use rayon::prelude::*;

use super::Target;
use super::gemm::{Matrix, product};
use super::layout::{broadcast_strides, position};
use super::reduce::softmax_row;
use crate::error::Result;
use crate::ir::ops::Attention;
use crate::tensor::{Tensor, num};

/// Rows of queries that are attended for together; fixed, so that no result depends on the number of threads.
pub(super) const ROWS: usize = 64;

pub(super) fn attention(op: Attention, operands: &[Tensor], target: Target) -> Result<Tensor> {
    let refuse = |target: Target| Err(target.mismatch(&operands.iter().collect::<Vec<_>>()));
    let [q, k, v, rest @ ..] = operands else {
        return refuse(target);
    };
    let (
        &[ref q_batch @ .., l, e],
        &[ref k_batch @ .., s, width],
        &[ref v_batch @ .., keys, f],
        &[ref batch @ .., rows, columns],
    ) = (q.shape(), k.shape(), v.shape(), target.shape())
    else {
        return refuse(target);
    };
    if e != width || s != keys || rows != l || columns != f {
        return refuse(target);
    }
    let whole = [batch, &[l, s]].concat();
    let fits = |mask: &Tensor| {
        let mut axes = mask.shape().iter().rev().zip(whole.iter().rev());
        mask.shape().len() <= whole.len() && axes.all(|(&m, &n)| m == 1 || m == n)
    };
    let mask = match rest.first() {
        Some(mask) if !fits(mask) => return refuse(target),
        Some(mask) => Some((mask.floats()?, broadcast_strides(mask.shape(), &whole))),
        None => None,
    };
    let mut out = vec![0.0f32; target.len()];
    if out.is_empty() || s == 0 {
        return target.float(out);
    }
    let (queries, all_keys, values) = (q.floats()?, k.floats()?, v.floats()?);
    let steps = [q_batch, k_batch, v_batch].map(|own| broadcast_strides(own, batch));
    let scale = num::f32_of_f64(op.scale);
    let one = |(i, out): (usize, &mut [f32])| -> Result<()> {
        let at = position(i, batch);
        let [q_at, k_at, v_at] = [0, 1, 2]
            .map(|n: usize| -> usize { at.iter().zip(&steps[n]).map(|(i, step)| i * step).sum() });
        let keys = Matrix::new(&all_keys[k_at * s * e..], s, e)?.transposed();
        let values = Matrix::new(&values[v_at * s * f..], s, f)?;
        let block = |(b, out): (usize, &mut [f32])| -> Result<()> {
            let (first, n) = (b * ROWS, out.len() / f);
            let queries = Matrix::new(&queries[(q_at * l + first) * e..], n, e)?;
            let mut scores = vec![0.0f32; n * s];
            product(queries, keys, None, &mut scores)?;
            for (r, row) in scores.chunks_exact_mut(s).enumerate() {
                match &mask {
                    None => row.iter_mut().for_each(|x| *x *= scale),
                    Some((mask, steps)) => {
                        let [outer @ .., by_row, by_key] = steps.as_slice() else {
                            continue;
                        };
                        let start: usize = at.iter().zip(outer).map(|(i, step)| i * step).sum();
                        let mask = &mask[start + (first + r) * by_row..];
                        for (j, x) in row.iter_mut().enumerate() {
                            *x = *x * scale + mask[j * by_key];
                        }
                    }
                }
                softmax_row(row);
            }
            product(Matrix::new(&scores, n, s)?, values, None, out)
        };
        out.par_chunks_mut(ROWS * f).enumerate().try_for_each(block)
    };
    out.par_chunks_mut(l * f).enumerate().try_for_each(one)?;
    target.float(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::eval_op;
    use crate::ir::ops::{Binary, BinaryKind, MatMul, Softmax};
    use crate::ir::{Bindings, Op, Type};
    use crate::tensor::DType;

    fn noise(seed: u32, shape: &[usize]) -> Tensor {
        let mut x = seed.wrapping_mul(2_654_435_761) | 1;
        let values = (0..shape.iter().product())
            .map(|_| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f32::from(u16::try_from(x >> 16).unwrap()) / 16_384.0 - 2.0
            })
            .collect();
        Tensor::f32(shape.to_vec(), values).unwrap()
    }

    fn run(op: Op, operands: &[&Tensor]) -> Tensor {
        let types: Vec<Type> = operands
            .iter()
            .map(|t| Type::known(t.dtype(), t.shape()))
            .collect();
        let ty = op.infer(&types.iter().collect::<Vec<_>>()).unwrap();
        let results = eval_op(&op, operands, &[&ty], &Bindings::new());
        results.unwrap().swap_remove(0)
    }

    /// The decomposition that defines it.
    fn by_parts(scale: f64, operands: &[&Tensor]) -> Tensor {
        let binary = |kind| Op::Binary(Binary { kind });
        let by_key = MatMul {
            transpose_a: false,
            transpose_b: true,
        };
        let scale = Tensor::f32(vec![], vec![num::f32_of_f64(scale)]).unwrap();
        let q = run(binary(BinaryKind::Mul), &[operands[0], &scale]);
        let mut scores = run(Op::MatMul(by_key), &[&q, operands[1]]);
        if let Some(mask) = operands.get(3) {
            scores = run(binary(BinaryKind::Add), &[&scores, mask]);
        }
        let axis = scores.shape().len() - 1;
        let weights = run(Op::Softmax(Softmax { axis }), &[&scores]);
        run(Op::MatMul(MatMul::default()), &[&weights, operands[2]])
    }

    #[test]
    fn is_its_decomposition_whatever_broadcasts() {
        let cases: [[&[usize]; 4]; 8] = [
            [&[5, 8], &[7, 8], &[7, 3], &[]],
            [&[2, 3, 130, 8], &[2, 3, 9, 8], &[2, 3, 9, 8], &[2, 1, 1, 9]],
            [&[2, 3, 5, 8], &[2, 3, 9, 8], &[2, 3, 9, 2], &[5, 9]],
            [&[2, 3, 65, 8], &[3, 9, 8], &[2, 1, 9, 2], &[65, 1]],
            [&[1, 3, 5, 8], &[2, 1, 9, 8], &[9, 2], &[2, 3, 5, 9]],
            [&[3, 1, 64], &[1, 300, 64], &[3, 300, 1], &[1, 1, 300]],
            [&[2, 5, 8], &[2, 1, 8], &[2, 1, 4], &[2, 5, 1]],
            [&[1, 2, 4], &[1, 0, 4], &[1, 0, 3], &[]],
        ];
        for (i, shapes) in cases.into_iter().enumerate() {
            let all: Vec<Tensor> = (1..)
                .zip(shapes)
                .map(|(s, shape)| noise(s, shape))
                .collect();
            let count = if shapes[3].is_empty() { 3 } else { 4 };
            let operands: Vec<&Tensor> = all.iter().take(count).collect();
            let found = run(Op::Attention(Attention { scale: 0.35 }), &operands);
            let expected = by_parts(0.35, &operands);
            assert_eq!(found.shape(), expected.shape());
            for (a, b) in found.to_f64().iter().zip(expected.to_f64()) {
                assert!((a - b).abs() <= 2e-6 * b.abs().max(1.0), "{i}: {a} {b}");
            }
        }
    }

    #[test]
    fn no_result_depends_on_the_number_of_threads() {
        let operands = [
            noise(1, &[3, 200, 16]),
            noise(2, &[3, 90, 16]),
            noise(3, &[3, 90, 24]),
        ];
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let operands: Vec<&Tensor> = operands.iter().collect();
            let op = Op::Attention(Attention { scale: 0.25 });
            let found = pool.build().unwrap().install(|| run(op, &operands));
            found.to_le_bytes()
        };
        let one = with(1);
        assert!([2, 3, 8].into_iter().all(|threads| with(threads) == one));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let ty = |shape: &[usize]| Type::known(DType::F32, shape);
        let op = Op::Attention(Attention { scale: 1.0 });
        for (shapes, reason) in [
            ([&[5, 8][..], &[7, 4], &[7, 3], &[]], "differ in width"),
            ([&[5, 8], &[7, 8], &[6, 3], &[]], "as many values as keys"),
            ([&[8], &[7, 8], &[7, 3], &[]], "rank 2"),
            (
                [&[5, 8], &[7, 8], &[7, 3], &[2, 5, 7]],
                "does not broadcast",
            ),
            ([&[5, 8], &[7, 8], &[7, 3], &[4, 7]], "does not broadcast"),
            ([&[2, 5, 8], &[3, 7, 8], &[7, 3], &[]], "broadcast"),
        ] {
            let types: Vec<Type> = shapes.iter().map(|s| ty(s)).collect();
            let count = if shapes[3].is_empty() { 3 } else { 4 };
            let operands: Vec<&Type> = types.iter().take(count).collect();
            let error = op.infer(&operands).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let (f, h) = (ty(&[2, 2]), Type::known(DType::F16, &[2, 2]));
        assert!(op.infer(&[&f, &f, &h]).is_err());
    }
}
