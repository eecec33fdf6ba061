//! Loops over elements, compiled for each width of vector registers and run with the widest that the processor has.

use rten_simd::ops::{BitOps, Interleave};
use rten_simd::{Isa, SimdOp};

/// Runs `work`, a loop that the compiler can turn into vector instructions, with the widest there are. A closure has to be
/// `#[inline(always)]`: what is called, and not part of it, is compiled for the oldest processor.
#[inline]
pub fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> SimdOp for Work<F> {
        type Output = R;

        #[inline(always)]
        fn eval<I: Isa>(self, _: I) -> R {
            (self.0)()
        }
    }
    Work(work).dispatch()
}

/// Rows and columns of a matrix, and the bytes of an element.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// Bytes of an element.
    pub width: usize,
}

/// Writes the transpose of the matrix in `bytes` to `out`.
///
/// # Panics
/// When `bytes` or `out` are not as many as the matrix has.
pub fn transpose(bytes: &[u8], out: &mut [u8], matrix: Matrix) {
    let turn = Turn { bytes, out, matrix };
    match matrix.width {
        1 => vectorised(
            #[inline(always)]
            || turn.transpose::<1, 32>(by_element),
        ),
        2 => turn.dispatch(),
        4 => vectorised(
            #[inline(always)]
            || turn.transpose::<4, 32>(by_element),
        ),
        _ => turn.transpose::<8, 16>(by_element),
    }
}

/// A square of elements.
type Tile<const WIDTH: usize, const SIDE: usize> = [[[u8; WIDTH]; SIDE]; SIDE];

/// A matrix and the place of its transpose.
struct Turn<'a> {
    bytes: &'a [u8],
    out: &'a mut [u8],
    matrix: Matrix,
}

impl Turn<'_> {
    /// Takes tile after tile through `transpose`; what those at the edges have beyond it is not used.
    #[inline(always)]
    fn transpose<const WIDTH: usize, const SIDE: usize>(
        self,
        transpose: impl Fn(&Tile<WIDTH, SIDE>, &mut Tile<WIDTH, SIDE>),
    ) {
        let Matrix { rows, columns, .. } = self.matrix;
        let mut tile = [[[0; WIDTH]; SIDE]; SIDE];
        let mut turned = tile;
        for r in (0..rows).step_by(SIDE) {
            let height = SIDE.min(rows - r);
            for c in (0..columns).step_by(SIDE) {
                let across = SIDE.min(columns - c);
                for (i, row) in tile[..height].iter_mut().enumerate() {
                    let from = &self.bytes[((r + i) * columns + c) * WIDTH..];
                    copy(from, row, across);
                }
                transpose(&tile, &mut turned);
                for (i, column) in turned[..across].iter().enumerate() {
                    let to = &mut self.out[((c + i) * rows + r) * WIDTH..];
                    let column = column.as_flattened();
                    // A known length is a few instructions, any other a call.
                    if height == SIDE {
                        to[..SIDE * WIDTH].copy_from_slice(column);
                    } else {
                        to[..height * WIDTH].copy_from_slice(&column[..height * WIDTH]);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn copy<const WIDTH: usize, const SIDE: usize>(
    from: &[u8],
    row: &mut [[u8; WIDTH]; SIDE],
    across: usize,
) {
    let row = row.as_flattened_mut();
    if across == SIDE {
        row.copy_from_slice(&from[..SIDE * WIDTH]);
    } else {
        row[..across * WIDTH].copy_from_slice(&from[..across * WIDTH]);
    }
}

#[inline(always)]
fn by_element<const WIDTH: usize, const SIDE: usize>(
    tile: &Tile<WIDTH, SIDE>,
    turned: &mut Tile<WIDTH, SIDE>,
) {
    for (r, row) in tile.iter().enumerate() {
        for (column, element) in turned.iter_mut().zip(row) {
            column[r] = *element;
        }
    }
}

/// Elements of two bytes are transposed in registers, as many at once as one holds.
impl SimdOp for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match isa.i16().len() {
            32 => self.transpose::<2, 32>(
                #[inline(always)]
                |tile, turned| in_registers(isa, tile, turned),
            ),
            16 => self.transpose::<2, 16>(
                #[inline(always)]
                |tile, turned| in_registers(isa, tile, turned),
            ),
            8 => self.transpose::<2, 8>(
                #[inline(always)]
                |tile, turned| in_registers(isa, tile, turned),
            ),
            _ => self.transpose::<2, 32>(by_element),
        }
    }
}

/// Interleaves each row with the one that is half of them further on, again and again: after log₂(SIDE) times, rows are columns.
#[inline(always)]
fn in_registers<I: Isa, const SIDE: usize>(
    isa: I,
    tile: &Tile<2, SIDE>,
    turned: &mut Tile<2, SIDE>,
) {
    let ops = isa.i16();
    let mut rows = [ops.zero(); SIDE];
    for (row, bytes) in rows.iter_mut().zip(tile) {
        let mut elements = [0; SIDE];
        for (element, bytes) in elements.iter_mut().zip(bytes) {
            *element = i16::from_ne_bytes(*bytes);
        }
        *row = ops.load(&elements);
    }
    for _ in 0..SIDE.ilog2() {
        let (first, second) = rows.split_at(SIDE / 2);
        let mut next = rows;
        for ((pair, &a), &b) in next
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .zip(first)
            .zip(second)
        {
            *pair = [ops.interleave_low(a, b), ops.interleave_high(a, b)];
        }
        rows = next;
    }
    for (bytes, row) in turned.iter_mut().zip(rows) {
        let mut elements = [0; SIDE];
        ops.store(row, &mut elements);
        for (bytes, element) in bytes.iter_mut().zip(elements) {
            *bytes = element.to_ne_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns_whatever_the_size() {
        for width in [1, 2, 4, 8] {
            for (rows, columns) in [(1, 1), (1, 70), (70, 1), (33, 65), (64, 96), (100, 7)] {
                let matrix = Matrix {
                    rows,
                    columns,
                    width,
                };
                let bytes: Vec<u8> = (0..rows * columns * width)
                    .map(|i| (i * 31 % 251).to_le_bytes()[0])
                    .collect();
                let mut expected: Vec<u8> = Vec::new();
                for c in 0..columns {
                    for r in 0..rows {
                        expected.extend(&bytes[(r * columns + c) * width..][..width]);
                    }
                }
                let mut found = vec![0; bytes.len()];
                transpose(&bytes, &mut found, matrix);
                assert!(found == expected, "{matrix:?}");
            }
        }
    }
}
