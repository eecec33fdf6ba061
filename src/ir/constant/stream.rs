//! The bytes of a constant, piece by piece, in the form in which they are used.

use super::Constant;
use crate::error::{Context, Result};
use crate::limits;
use crate::tensor::{DType, Held, Tensor, convert_floats, num};

impl Constant {
    /// Hands the constant's little-endian bytes to `sink`, piece by piece, holding at most a chunk of them when no matrix has to be transposed.
    ///
    /// # Errors
    /// When the bytes cannot be read, or `sink` fails.
    pub fn stream(&self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if let Some(form) = &self.compression {
            return self.stream_decoded(form, sink).at_tensor(&self.name);
        }
        let Some((first, count, transposed)) = self.contiguous() else {
            return sink(&self.read()?.to_le_bytes());
        };
        // Packed elements that stay as they are are bytes; a part of them need not begin with one.
        let packed = self.stored_dtype.bits() < 8 && self.stored_dtype == self.dtype;
        let all = first == 0 && self.stored_dtype.bytes_for(count) == Some(self.region.len());
        if packed && all && transposed.is_none() && self.casts().next().is_none() {
            return self.stream_packed(sink);
        }
        if transposed.is_some() || self.stored_dtype.bits() < 8 {
            return self.stream_transposed(sink);
        }
        let mut converter = Converter::default();
        self.read_stored(first, count, &mut |at, raw| {
            self.seen.look(self.stored_dtype, at, raw);
            sink(converter.convert(self, raw)?)
        })
    }

    /// Streams all stored bytes. Bits that no element has are zero, whatever the source has there.
    fn stream_packed(&self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let len = self.region.len();
        let bits = num::u64_of(self.len()) * u64::from(self.stored_dtype.bits());
        let (mut at, mut raw) = (0, Vec::new());
        while at < len {
            let n = num::u64_of(limits::STREAM_CHUNK_BYTES).min(len - at);
            raw.resize(num::usize_of(n), 0);
            self.region.read_at(at, &mut raw).at_tensor(&self.name)?;
            at += n;
            if let (true, Some(last)) = (at == len && !bits.is_multiple_of(8), raw.last_mut()) {
                *last &= u8::MAX >> (8 - bits % 8);
            }
            sink(&raw)?;
        }
        Ok(())
    }

    /// Streams a matrix that is transposed at the end: holds its stored bytes and one band of the result.
    fn stream_transposed(&self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Some((first, count, Some((rows, columns)))) = self.contiguous() else {
            return sink(&self.read()?.to_le_bytes());
        };
        let width = num::usize_of(u64::from(self.stored_dtype.bits() / 8));
        if width == 0 {
            return sink(&self.read()?.to_le_bytes());
        }
        let stored = self
            .region
            .hold(first * num::u64_of(width), count * num::u64_of(width))
            .at_tensor(&self.name)?;
        let mut look = self.seen.begin(self.stored_dtype, first, count);
        let band_rows = (limits::STREAM_CHUNK_BYTES / (rows * width).max(1))
            .next_multiple_of(TILE)
            .clamp(1, columns.max(1));
        let mut converter = Converter::default();
        let mut band = Vec::new();
        let mut start = 0;
        while start < columns {
            let n = band_rows.min(columns - start);
            band.resize(n * rows * width, 0);
            transpose_band(&stored, &mut band, (rows, columns), (start, n), width);
            look.at(&band);
            sink(converter.convert(self, &band)?)?;
            start += n;
        }
        look.end();
        Ok(())
    }
}

/// The result of a conversion, to use again.
#[derive(Default)]
struct Converter {
    out: Vec<u8>,
}

impl Converter {
    /// Stored bytes as bytes of the final element type.
    fn convert<'a>(&'a mut self, constant: &Constant, raw: &'a [u8]) -> Result<&'a [u8]> {
        let (from, to) = (constant.stored_dtype, constant.dtype);
        let casts: Vec<DType> = constant.casts().collect();
        // What comes back to its type by way of a narrower one was rounded there.
        if casts.is_empty() {
            return Ok(raw);
        }
        if from.is_float() && casts.len() == 1 && to.is_float() {
            convert_floats(from, to, raw, &mut self.out);
        } else {
            let count = raw.len() * 8 / num::usize_of(u64::from(from.bits()));
            let mut tensor =
                Tensor::from_le_bytes(from, vec![count], raw).at_tensor(&constant.name)?;
            for dtype in casts {
                tensor = tensor.cast(dtype);
            }
            self.out = tensor.to_le_bytes();
        }
        Ok(&self.out)
    }
}

/// Writes rows `first..first + n` of the transposed matrix into `band`.
fn transpose_band(
    stored: &Held,
    band: &mut [u8],
    matrix: (usize, usize),
    range: (usize, usize),
    width: usize,
) {
    // The width as a constant makes the copy of an element one instruction instead of a call.
    match width {
        1 => transpose_tiles::<1>(stored, band, matrix, range),
        2 => transpose_tiles::<2>(stored, band, matrix, range),
        4 => transpose_tiles::<4>(stored, band, matrix, range),
        _ => transpose_tiles::<8>(stored, band, matrix, range),
    }
}

/// Rows and columns that are transposed at once, in the first-level cache.
const TILE: usize = 32;

/// A tile is copied before it is transposed: its rows lie far apart, and copies of several are under way at once.
fn transpose_tiles<const WIDTH: usize>(
    stored: &Held,
    band: &mut [u8],
    (rows, columns): (usize, usize),
    (first, n): (usize, usize),
) {
    let mut near = [[[0; WIDTH]; TILE]; TILE];
    let mut tile = [[[0; WIDTH]; TILE]; TILE];
    for r0 in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - r0);
        for c0 in (0..n).step_by(TILE) {
            let across = TILE.min(n - c0);
            for (r, row) in near[..height].iter_mut().enumerate() {
                let from = ((r0 + r) * columns + first + c0) * WIDTH;
                stored.copy(from, row[..across].as_flattened_mut());
            }
            for (r, row) in near.iter().enumerate() {
                for (column, element) in tile.iter_mut().zip(row) {
                    column[r] = *element;
                }
            }
            for (c, column) in tile[..across].iter().enumerate() {
                let to = ((c0 + c) * rows + r0) * WIDTH;
                band[to..to + height * WIDTH].copy_from_slice(column[..height].as_flattened());
            }
        }
    }
}
