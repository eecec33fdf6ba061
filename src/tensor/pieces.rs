//! Bytes on their way to a file, cut where its blocks end: a system keeps a block that is written at once in one stretch of memory, and one that
//! is written in parts in many.

use super::buffer::Buffer;
use super::num;
use crate::error::Result;
use crate::limits::STREAM_CHUNK_BYTES;

/// Consecutive bytes that are handed on in pieces, each of which, but for the last, ends at a multiple of [`STREAM_CHUNK_BYTES`] in the file.
pub struct Pieces<'a> {
    sink: &'a mut dyn FnMut(&[u8]) -> Result<()>,
    /// The beginning of a piece, and room after it.
    buffer: &'a mut Buffer,
    held: usize,
    /// How many bytes the piece has when it is whole.
    whole: usize,
}

impl<'a> Pieces<'a> {
    /// Pieces of what begins at `offset` in a file. What was in `buffer` is gone.
    pub fn new(
        offset: u64,
        buffer: &'a mut Buffer,
        sink: &'a mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Self {
        Pieces {
            sink,
            buffer,
            held: 0,
            whole: piece_at(offset),
        }
    }

    /// How many bytes the piece lacks that comes next; at least one.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.whole - self.held
    }

    /// Takes the next `n` bytes, which `put` writes.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn fill(&mut self, n: usize, put: impl FnOnce(&mut [u8])) -> Result<()> {
        let end = self.held + n;
        put(&mut self.buffer.resize(end)[self.held..]);
        let mut start = 0;
        while end - start >= self.whole {
            (self.sink)(&self.buffer[start..start + self.whole])?;
            start += self.whole;
            self.whole = STREAM_CHUNK_BYTES;
        }
        self.buffer.copy_within(start..end, 0);
        self.held = end - start;
        Ok(())
    }

    /// Takes the next bytes as they are: without a copy where they are a whole piece.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(self.missing().min(bytes.len()));
            if now.len() == self.whole {
                (self.sink)(now)?;
                self.whole = STREAM_CHUNK_BYTES;
            } else {
                self.fill(now.len(), |room| room.copy_from_slice(now))?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Hands on what is left.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn end(self) -> Result<()> {
        match self.held {
            0 => Ok(()),
            n => (self.sink)(&self.buffer[..n]),
        }
    }
}

/// How many bytes from `offset` on lie before the end of a piece.
#[must_use]
pub fn piece_at(offset: u64) -> usize {
    STREAM_CHUNK_BYTES - num::usize_of(offset % num::u64_of(STREAM_CHUNK_BYTES))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_the_bytes_cut_at_the_ends_of_blocks(
            offset in 0u64..1 << 20,
            parts in prop::collection::vec((any::<bool>(), 0usize..700_000), 0..6),
        ) {
            let bytes: Vec<u8> = (0..parts.iter().map(|p| p.1).sum::<usize>())
                .map(|i| (i * 31 % 251).to_le_bytes()[0])
                .collect();
            let mut found = Vec::new();
            let mut buffer = Buffer::default();
            let mut sink = |piece: &[u8]| {
                found.push(piece.to_vec());
                Ok(())
            };
            let mut pieces = Pieces::new(offset, &mut buffer, &mut sink);
            let mut rest = &bytes[..];
            for (copied, n) in parts {
                let (part, later) = rest.split_at(n);
                match copied {
                    true => pieces.push(part).unwrap(),
                    false => pieces.fill(n, |room| room.copy_from_slice(part)).unwrap(),
                }
                rest = later;
            }
            pieces.end().unwrap();
            prop_assert!(found.concat() == bytes);
            let mut at = offset;
            for (i, piece) in found.iter().enumerate() {
                at += num::u64_of(piece.len());
                let ends = at.is_multiple_of(num::u64_of(STREAM_CHUNK_BYTES));
                prop_assert!(!piece.is_empty() && piece.len() <= STREAM_CHUNK_BYTES);
                prop_assert!(ends || i + 1 == found.len(), "{at}");
            }
        }
    }
}
