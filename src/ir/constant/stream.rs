//! The bytes of a constant, piece by piece, in the form in which they are used.

use super::Constant;
use crate::error::{Context, Result};
use crate::limits;
use crate::tensor::{Buffer, DType, Matrix, Pieces, Tensor, Transposer, convert_floats, num};

impl Constant {
    /// Hands the constant's little-endian bytes to `sink`, in pieces of whole elements, holding at most one of them when no matrix has to be
    /// transposed.
    ///
    /// # Errors
    /// When the bytes cannot be read, or `sink` fails.
    pub fn stream(&self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.stream_to(0, &mut Scratch::default(), sink)
    }

    /// [`Constant::stream`] for bytes whose place in a file begins at `offset`, in [`Pieces`] of that file, which need not be whole elements; with
    /// buffers of the caller, for one constant after another.
    ///
    /// # Errors
    /// As [`Constant::stream`].
    pub(super) fn stream_to(
        &self,
        offset: u64,
        scratch: &mut Scratch,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let Scratch { buffer, transposer } = scratch;
        let mut pieces = Pieces::new(offset, buffer, sink);
        self.stream_in(&mut pieces, transposer)?;
        pieces.end()
    }

    fn stream_in(&self, pieces: &mut Pieces<'_>, transposer: &mut Transposer) -> Result<()> {
        if let Some(form) = &self.compression {
            let decoded = self.stream_decoded(form, &mut |bytes| pieces.push(bytes));
            return decoded.at_tensor(&self.name);
        }
        let Some((first, count, transposed)) = self.contiguous() else {
            return pieces.push(&self.read()?.to_le_bytes());
        };
        let bits = u64::from(self.stored_dtype.bits());
        // Packed elements that stay as they are are bytes; a part of them need not begin with one.
        let packed = bits < 8 && self.stored_dtype == self.dtype;
        let all = first == 0 && self.stored_dtype.bytes_for(count) == Some(self.region.len());
        if packed && all && transposed.is_none() && self.casts().next().is_none() {
            return self.stream_packed(pieces);
        }
        if bits < 8 || self.dtype.bits() < 8 {
            return pieces.push(&self.read()?.to_le_bytes());
        }
        let casts: Vec<DType> = self.casts().collect();
        let steps = Steps::new(self.stored_dtype, &casts);
        let Some((rows, columns)) = transposed else {
            return self.read_stored(first, count, &mut |at, raw| {
                self.seen.look(self.stored_dtype, at, raw);
                steps.push(raw, pieces).at_tensor(&self.name)
            });
        };
        let width = num::usize_of(bits / 8);
        transposer.begin(Matrix {
            rows,
            columns,
            width,
        });
        self.read_stored(first, count, &mut |at, raw| {
            self.seen.look(self.stored_dtype, at, raw);
            transposer.push(raw);
            Ok(())
        })?;
        match steps {
            Steps::None => transposer.finish(pieces),
            Steps::Floats(from, to) => transposer.finish_as(from, to, pieces),
            Steps::Casts(..) => {
                let mut buffer = Buffer::default();
                let mut cast = |raw: &[u8]| steps.push(raw, pieces).at_tensor(&self.name);
                let mut bands = Pieces::new(0, &mut buffer, &mut cast);
                transposer.finish(&mut bands)?;
                bands.end()
            }
        }
    }

    /// Streams all stored bytes. Bits that no element has are zero, whatever the source has there.
    fn stream_packed(&self, pieces: &mut Pieces<'_>) -> Result<()> {
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
            pieces.push(&raw)?;
        }
        Ok(())
    }
}

/// Buffers to stream with.
#[derive(Default)]
pub(super) struct Scratch {
    buffer: Buffer,
    transposer: Transposer,
}

/// From the stored elements to the final ones.
enum Steps<'a> {
    /// They are those.
    None,
    /// One floating-point type → another.
    Floats(DType, DType),
    /// A type, and casts. What comes back to its type by way of a narrower one was rounded there.
    Casts(DType, &'a [DType]),
}

impl<'a> Steps<'a> {
    fn new(from: DType, casts: &'a [DType]) -> Self {
        match *casts {
            [] => Steps::None,
            [to] if from.is_float() && to.is_float() => Steps::Floats(from, to),
            _ => Steps::Casts(from, casts),
        }
    }

    /// Hands stored elements on in their final form.
    fn push(&self, raw: &[u8], pieces: &mut Pieces<'_>) -> Result<()> {
        match *self {
            Steps::None => pieces.push(raw),
            Steps::Floats(from, to) => {
                let mut rest = raw;
                while !rest.is_empty() {
                    let n = pieces.missing().div_ceil(to.width());
                    let (part, later) = rest.split_at(rest.len().min(n * from.width()));
                    let bytes = part.len() / from.width() * to.width();
                    pieces.fill(bytes, |room| convert_floats(from, to, part, room))?;
                    rest = later;
                }
                Ok(())
            }
            Steps::Casts(from, casts) => {
                // What is in memory comes at once.
                for part in raw.chunks(limits::STREAM_CHUNK_BYTES) {
                    let count = part.len() / from.width();
                    let mut tensor = Tensor::from_le_bytes(from, vec![count], part)?;
                    for &dtype in casts {
                        tensor = tensor.cast(dtype);
                    }
                    pieces.push(&tensor.to_le_bytes())?;
                }
                Ok(())
            }
        }
    }
}
