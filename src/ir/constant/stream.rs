//! The bytes of a constant, piece by piece, in the form in which they are used.

use super::Constant;
use crate::error::{Context, Result};
use crate::limits;
use crate::tensor::{DType, Matrix, Tensor, Transposer, convert_floats, num};

impl Constant {
    /// Hands the constant's little-endian bytes to `sink`, piece by piece, holding at most a chunk of them when no matrix has to be transposed.
    ///
    /// # Errors
    /// When the bytes cannot be read, or `sink` fails.
    pub fn stream(&self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.stream_with(&mut Scratch::default(), sink)
    }

    /// [`Constant::stream`] with buffers of the caller, for one constant after another.
    ///
    /// # Errors
    /// As [`Constant::stream`].
    pub(super) fn stream_with(
        &self,
        scratch: &mut Scratch,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
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
            return self.stream_transposed(scratch, sink);
        }
        self.read_stored(first, count, &mut |at, raw| {
            self.seen.look(self.stored_dtype, at, raw);
            for part in raw.chunks(limits::STREAM_CHUNK_BYTES) {
                sink(scratch.converter.convert(self, part)?)?;
            }
            Ok(())
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

    /// Streams a matrix that is transposed at the end, of which the transpose is held.
    fn stream_transposed(
        &self,
        scratch: &mut Scratch,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let Some((first, count, Some((rows, columns)))) = self.contiguous() else {
            return sink(&self.read()?.to_le_bytes());
        };
        let width = num::usize_of(u64::from(self.stored_dtype.bits() / 8));
        if width == 0 {
            return sink(&self.read()?.to_le_bytes());
        }
        let Scratch {
            converter,
            transposer,
        } = scratch;
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
        transposer.finish(limits::STREAM_CHUNK_BYTES, &mut |band| {
            sink(converter.convert(self, band)?)
        })
    }
}

/// Buffers to stream with.
#[derive(Default)]
pub(super) struct Scratch {
    converter: Converter,
    transposer: Transposer,
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
