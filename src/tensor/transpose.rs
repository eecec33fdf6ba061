//! Matrices of elements of any type, transposed while they are read: in registers, and by panels, so that neither side is gone through with wide
//! steps.

use rten_simd::ops::{BitOps, Interleave};
use rten_simd::{Isa, SimdOp};

use super::buffer::Buffer;
use super::floats::convert;
use super::pieces::Pieces;
use super::{DType, vectorised};
use crate::error::Result;

/// Rows that are transposed together, to a panel: enough for what a row of the transpose takes from a panel to be some lines of a cache,
/// few enough for rows and panel to stay in the second-level cache.
const PANEL_ROWS: usize = 64;

/// Rows and columns of a matrix, and the bytes of an element.
#[derive(Clone, Copy, Debug, Default)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// Bytes of an element.
    pub width: usize,
}

/// A matrix that comes in parts, and its transpose, which is held. One can be used for matrix after matrix.
#[derive(Debug, Default)]
pub struct Transposer {
    matrix: Matrix,
    /// Rows of a panel that have come in several parts.
    rows: Vec<u8>,
    /// The transposes of the panels, one after another.
    panels: Buffer,
    /// How many bytes of them there are.
    done: usize,
}

impl Transposer {
    /// Begins with a matrix.
    pub fn begin(&mut self, matrix: Matrix) {
        self.matrix = matrix;
        self.rows.clear();
        self.done = 0;
    }

    /// Takes the next bytes of the matrix, row after row.
    ///
    /// # Panics
    /// When they are more than it has.
    pub fn push(&mut self, mut bytes: &[u8]) {
        let panel_bytes = PANEL_ROWS * self.matrix.columns * self.matrix.width;
        while !bytes.is_empty() {
            let missing = (panel_bytes - self.rows.len()).min(bytes.len());
            let (now, later) = bytes.split_at(missing);
            bytes = later;
            if now.len() == panel_bytes {
                self.turn(now);
                continue;
            }
            self.rows.extend_from_slice(now);
            if self.rows.len() == panel_bytes {
                self.turn_rows();
            }
        }
    }

    /// Hands the transpose on: elements that `convert` makes of those of the matrix, of `width` bytes each. It is called with some elements of a
    /// row at once, in a loop that is [`vectorised`].
    ///
    /// # Errors
    /// When who takes the pieces fails.
    ///
    /// # Panics
    /// When bytes of the matrix are missing.
    #[inline]
    fn finish_with(
        &mut self,
        width: usize,
        convert: impl Fn(&[u8], &mut [u8]),
        pieces: &mut Pieces<'_>,
    ) -> Result<()> {
        self.turn_rows();
        let matrix = self.matrix;
        let (rows, columns) = (matrix.rows, matrix.columns);
        let panels = self.panels.resize(rows * columns * matrix.width);
        assert_eq!(self.done, panels.len(), "bytes of the matrix are missing");
        let (row_bytes, mut start) = (rows * width, 0);
        while row_bytes > 0 && start < columns {
            let n = pieces.missing().div_ceil(row_bytes).min(columns - start);
            pieces.fill(n * row_bytes, |band| {
                vectorised(
                    #[inline(always)]
                    || {
                        let panel_bytes = PANEL_ROWS * columns * matrix.width;
                        for (i, panel) in panels.chunks(panel_bytes).enumerate() {
                            let bytes = panel.len() / columns;
                            let parts =
                                panel[start * bytes..(start + n) * bytes].chunks_exact(bytes);
                            let wide = bytes / matrix.width * width;
                            for (part, row) in parts.zip(band.chunks_exact_mut(row_bytes)) {
                                convert(part, &mut row[i * PANEL_ROWS * width..][..wide]);
                            }
                        }
                    },
                );
            })?;
            start += n;
        }
        Ok(())
    }

    /// Hands the transpose on as it is.
    ///
    /// # Errors
    /// When who takes the pieces fails.
    ///
    /// # Panics
    /// When bytes of the matrix are missing.
    pub fn finish(&mut self, pieces: &mut Pieces<'_>) -> Result<()> {
        self.finish_with(
            self.matrix.width,
            #[inline(always)]
            |part, place| {
                // A known length is a few instructions, any other a call.
                match <&[u8; 2 * PANEL_ROWS]>::try_from(part) {
                    Ok(part) => place.copy_from_slice(part),
                    Err(_) => place.copy_from_slice(part),
                }
            },
            pieces,
        )
    }

    /// Hands the transpose on, its floating-point elements converted.
    ///
    /// # Errors
    /// When who takes the pieces fails.
    ///
    /// # Panics
    /// When bytes of the matrix are missing, or its elements are not as wide as `from`.
    pub fn finish_as(&mut self, from: DType, to: DType, pieces: &mut Pieces<'_>) -> Result<()> {
        assert_eq!(self.matrix.width, from.width(), "another type of elements");
        self.finish_with(
            to.width(),
            #[inline(always)]
            |part, place| convert(from, to, part, place),
            pieces,
        )
    }

    fn turn_rows(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        self.turn(&rows);
        self.rows = rows;
        self.rows.clear();
    }

    /// Puts the transpose of some rows after those of the others.
    fn turn(&mut self, rows: &[u8]) {
        let Matrix { columns, width, .. } = self.matrix;
        let matrix = Matrix {
            rows: rows.len() / (columns * width).max(1),
            ..self.matrix
        };
        let all = self.panels.resize(self.matrix.rows * columns * width);
        transpose(rows, &mut all[self.done..][..rows.len()], matrix);
        self.done += rows.len();
    }
}

/// Writes the transpose of the matrix in `bytes` to `out`.
fn transpose(bytes: &[u8], out: &mut [u8], matrix: Matrix) {
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
    use proptest::prelude::*;

    use super::*;

    fn expected(bytes: &[u8], matrix: Matrix) -> Vec<u8> {
        let mut expected = Vec::with_capacity(bytes.len());
        for c in 0..matrix.columns {
            for r in 0..matrix.rows {
                expected.extend(&bytes[(r * matrix.columns + c) * matrix.width..][..matrix.width]);
            }
        }
        expected
    }

    proptest! {
        #[test]
        fn rows_become_columns_whatever_the_size_and_the_parts(
            matrices in prop::collection::vec(
                (0usize..200, 0usize..140, prop::sample::select(vec![1usize, 2, 4, 8])),
                1..4,
            ),
            step in 1usize..20_000,
            offset in 0u64..1 << 20,
        ) {
            // One after another with the same buffers.
            let mut transposer = Transposer::default();
            let mut buffer = Buffer::default();
            for (rows, columns, width) in matrices {
                let matrix = Matrix { rows, columns, width };
                let bytes: Vec<u8> = (0..rows * columns * width)
                    .map(|i| (i * 31 % 251).to_le_bytes()[0])
                    .collect();
                transposer.begin(matrix);
                bytes.chunks(step).for_each(|part| transposer.push(part));
                let mut found = Vec::new();
                let sink = &mut |part: &[u8]| {
                    found.extend_from_slice(part);
                    Ok(())
                };
                let mut pieces = Pieces::new(offset, &mut buffer, sink);
                transposer.finish(&mut pieces).unwrap();
                pieces.end().unwrap();
                prop_assert!(found == expected(&bytes, matrix), "{:?}", matrix);
            }
        }
    }
}
