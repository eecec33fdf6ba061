//! The one place where matrices are multiplied: `rten-gemm`'s kernels behind a bounds-checked view.
//!
//! The inner axis is cut at places that depend only on its length, and every other axis into independent results, so that no
//! result depends on the number of threads.

use rayon::prelude::*;
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::EvalError;
use crate::error::Result;
use crate::tensor::TensorError;

thread_local! {
    // Choosing the kernels for this CPU takes longer than a small product.
    static KERNELS: GemmExecutor = GemmExecutor::new();
}

/// Columns of a row times a matrix that are computed together. Kernels for vectors treat the last few columns of a call differently:
/// with calls of a fixed size, which columns these are does not depend on the number of threads.
const VECTOR_COLUMNS: usize = 128;

/// Multiply-adds from which on products are worth handing to other threads.
const PARALLEL: usize = 1 << 15;

/// The elements of a right-hand matrix in the order in which the kernels read them: for one that is used again and again.
pub(super) struct Packed(PackedBMatrix<f32>);

impl Packed {
    /// Packs a matrix.
    ///
    /// # Errors
    /// When it has no elements.
    pub(super) fn new(b: Matrix) -> Result<Self> {
        if b.rows == 0 || b.columns == 0 {
            return Err(EvalError::Product {
                reason: "a matrix without elements cannot be packed",
            }
            .into());
        }
        let view = b.view()?;
        Ok(Packed(KERNELS.with(|kernels| kernels.prepack_b(view))))
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({} × {})", self.0.rows(), self.0.cols())
    }
}

/// A matrix within a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    strides: [usize; 2],
    packed: Option<&'a Packed>,
}

impl<'a> Matrix<'a> {
    /// The row-major matrix at the beginning of `values`.
    ///
    /// # Errors
    /// When there are fewer than `rows · columns` values.
    pub(super) fn new(values: &'a [f32], rows: usize, columns: usize) -> Result<Self> {
        let wrong = || TensorError::ElementCount {
            shape: vec![rows, columns],
            expected: rows.saturating_mul(columns),
            found: values.len(),
        };
        let len = rows.checked_mul(columns).ok_or_else(wrong)?;
        Ok(Matrix {
            values: values.get(..len).ok_or_else(wrong)?,
            rows,
            columns,
            strides: [columns, 1],
            packed: None,
        })
    }

    /// The same elements with rows and columns exchanged.
    pub(super) fn transposed(self) -> Self {
        Matrix {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            strides: [self.strides[1], self.strides[0]],
            packed: None,
        }
    }

    /// The same elements, which also were packed as they are.
    pub(super) fn with_packed(self, packed: Option<&'a Packed>) -> Self {
        let fits = |p: &&Packed| p.0.rows() == self.rows && p.0.cols() == self.columns;
        Matrix {
            packed: packed.filter(fits),
            ..self
        }
    }

    /// Rows and columns exchanged if `yes`.
    pub(super) fn transposed_if(self, yes: bool) -> Self {
        if yes { self.transposed() } else { self }
    }

    /// Columns `first..first + count`.
    fn columns(self, first: usize, count: usize) -> Self {
        Matrix {
            values: &self.values[first * self.strides[1]..],
            columns: count,
            packed: None,
            ..self
        }
    }

    fn view(&self) -> Result<NdTensorView<'a, f32, 2>, EvalError> {
        NdTensorView::from_slice_with_strides([self.rows, self.columns], self.values, self.strides)
            .map_err(|_| EvalError::Product {
                reason: "a matrix does not lie within its elements",
            })
    }
}

/// `out = a · b`, plus `bias` (one element per column) if there is one.
///
/// # Shapes
/// `a` `[m, k]`, `b` `[k, n]`, `bias` `[n]`, `out` `[m, n]` row-major.
///
/// # Numerics
/// Accumulates in `f32`, with fused multiply-adds where the CPU has them.
///
/// # Errors
/// When the sizes do not fit together.
pub(super) fn product(a: Matrix, b: Matrix, bias: Option<&[f32]>, out: &mut [f32]) -> Result<()> {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let fits = b.rows == k && m.checked_mul(n) == Some(out.len());
    if !fits || bias.is_some_and(|bias| bias.len() != n) {
        return Err(EvalError::Product {
            reason: "the sizes of the matrices do not fit together",
        }
        .into());
    }
    if out.is_empty() {
        return Ok(());
    }
    if k == 0 {
        match bias {
            Some(bias) => out
                .chunks_exact_mut(n)
                .for_each(|row| row.copy_from_slice(bias)),
            None => out.fill(0.0),
        }
        return Ok(());
    }
    if m == 1 {
        let chunk = |(i, out): (usize, &mut [f32])| {
            let first = i * VECTOR_COLUMNS;
            let bias = bias.map(|bias| &bias[first..first + out.len()]);
            run(a, b.columns(first, out.len()), bias, out)
        };
        return if k * n < PARALLEL {
            out.chunks_mut(VECTOR_COLUMNS)
                .enumerate()
                .try_for_each(chunk)
        } else {
            out.par_chunks_mut(VECTOR_COLUMNS)
                .enumerate()
                .try_for_each(chunk)
        };
    }
    if n == 1 {
        // The other way round it is a vector times a matrix, for which there are kernels. The result lies in memory alike.
        product(b.transposed(), a.transposed(), None, out)?;
        if let Some(&[bias]) = bias {
            out.iter_mut().for_each(|x| *x += bias);
        }
        return Ok(());
    }
    run(a, b, bias, out)
}

/// [`product`] for each of a batch of results that follow each other in `out`.
///
/// # Errors
/// Those of `operands` and of [`product`].
pub(super) fn products<'a>(
    (m, k, n): (usize, usize, usize),
    operands: impl Fn(usize) -> Result<(Matrix<'a>, Matrix<'a>)> + Sync,
    out: &mut [f32],
) -> Result<()> {
    let one = |(i, out): (usize, &mut [f32])| {
        let (a, b) = operands(i)?;
        product(a, b, None, out)
    };
    let size = (m * n).max(1);
    if m * k * n < PARALLEL {
        out.chunks_mut(size).enumerate().try_for_each(one)
    } else {
        out.par_chunks_mut(size).enumerate().try_for_each(one)
    }
}

fn run(a: Matrix, b: Matrix, bias: Option<&[f32]>, out: &mut [f32]) -> Result<()> {
    let b = match b.packed {
        Some(packed) => GemmInputB::Packed(&packed.0),
        None => GemmInputB::Unpacked(b.view()?),
    };
    let a = GemmInputA::Unpacked(a.view()?);
    let options = GemmOptions {
        bias: bias.map(BiasVector::Row),
        ..GemmOptions::default()
    };
    KERNELS
        .with(|kernels| kernels.gemm(out, a, b, options))
        .map_err(|_| EvalError::Product {
            reason: "the kernels refuse the sizes of the matrices",
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        let mut x = seed;
        (0..n)
            .map(|_| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f32::from(u16::try_from(x >> 16).unwrap()) / 65_536.0 - 0.5
            })
            .collect()
    }

    const SHAPES: [(usize, usize, usize); 9] = [
        (1, 300, 515),
        (515, 300, 1),
        (1, 1, 1),
        (2, 0, 3),
        (3, 7, 5),
        (130, 520, 150),
        (64, 33, 700),
        (7, 1030, 2),
        (1, 4, 129),
    ];

    type Turned = (bool, bool);
    const TURNED: [Turned; 4] = [(false, false), (true, false), (false, true), (true, true)];

    fn operands((m, k, n): (usize, usize, usize)) -> [Vec<f32>; 3] {
        [values(m * k, 1), values(k * n, 2), values(n, 3)]
    }

    fn found((m, k, n): (usize, usize, usize), (ta, tb): Turned) -> Vec<f32> {
        let [a, b, bias] = operands((m, k, n));
        let view = |v, rows, columns, turned| {
            if turned {
                Matrix::new(v, columns, rows).unwrap().transposed()
            } else {
                Matrix::new(v, rows, columns).unwrap()
            }
        };
        let mut out = vec![f32::NAN; m * n];
        let (a, b) = (view(&a, m, k, ta), view(&b, k, n, tb));
        product(a, b, Some(&bias), &mut out).unwrap();
        out
    }

    /// The result in `f64`, and for every element the sum of the magnitudes of its terms.
    fn exact((m, k, n): (usize, usize, usize), (ta, tb): Turned) -> Vec<(f64, f64)> {
        let [a, b, bias] = operands((m, k, n));
        let mut out = Vec::with_capacity(m * n);
        for i in 0..m {
            for (j, &bias) in bias.iter().enumerate() {
                let (mut sum, mut size) = (f64::from(bias), f64::from(bias).abs());
                for l in 0..k {
                    let x = a[if ta { l * m + i } else { i * k + l }];
                    let y = b[if tb { j * k + l } else { l * n + j }];
                    let term = f64::from(x) * f64::from(y);
                    sum += term;
                    size += term.abs();
                }
                out.push((sum, size));
            }
        }
        out
    }

    #[test]
    fn products_are_what_they_should_be() {
        for shape in SHAPES {
            for turned in TURNED {
                let (found, exact) = (found(shape, turned), exact(shape, turned));
                assert_eq!(found.len(), exact.len());
                for (&x, (y, size)) in found.iter().zip(exact) {
                    let x = f64::from(x);
                    assert!(
                        (x - y).abs() <= 1e-6 * size,
                        "{shape:?} {turned:?}: {x} {y}"
                    );
                }
            }
        }
    }

    #[test]
    fn no_result_depends_on_the_number_of_threads() {
        let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let all = SHAPES
                    .iter()
                    .flat_map(|&s| TURNED.map(|t| bits(found(s, t))));
                all.collect::<Vec<_>>()
            })
        };
        let one = with(1);
        for threads in [2, 3, 8] {
            assert_eq!(with(threads), one, "{threads} threads");
        }
    }

    #[test]
    fn packing_changes_no_bit() {
        for (m, k, n) in SHAPES.into_iter().filter(|s| s.1 > 0) {
            for turned in [false, true] {
                let [a, b, bias] = operands((m, k, n));
                let a = Matrix::new(&a, m, k).unwrap();
                let b = if turned {
                    Matrix::new(&b, n, k).unwrap().transposed()
                } else {
                    Matrix::new(&b, k, n).unwrap()
                };
                let packed = Packed::new(b).unwrap();
                let [mut plain, mut found] = [vec![f32::NAN; m * n], vec![0.0; m * n]];
                product(a, b, Some(&bias), &mut plain).unwrap();
                product(a, b.with_packed(Some(&packed)), Some(&bias), &mut found).unwrap();
                assert_eq!(plain, found, "{m} {k} {n} {turned}");
                // Of another size, it is not taken.
                let other = Matrix::new(&bias, 1, n).unwrap();
                assert!(other.with_packed(Some(&packed)).packed.is_none() || k == 1);
            }
        }
    }

    #[test]
    fn sizes_are_checked() {
        let v = [0.0; 6];
        assert!(Matrix::new(&v, 2, 4).is_err());
        assert!(Matrix::new(&v, usize::MAX, 2).is_err());
        let a = Matrix::new(&v, 2, 3).unwrap();
        let mut out = [0.0; 4];
        assert!(product(a, a, None, &mut out).is_err());
        assert!(product(a, a.transposed(), None, &mut out[..3]).is_err());
        assert!(product(a, a.transposed(), Some(&v), &mut out).is_err());
        product(a, a.transposed(), None, &mut out).unwrap();
    }
}
