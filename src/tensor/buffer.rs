//! Buffers to read into and to write from.

use std::ops::{Deref, DerefMut};

/// How many bytes a line of a processor's caches has.
const LINE: usize = 64;

/// Bytes that begin with a line of a cache. What an allocator gives begins 16 bytes into a page, if it is large; a read of a file to there took 1.5
/// to 1.8 times as long as one to the beginning of a line (measured on an AMD EPYC).
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    first: usize,
    len: usize,
}

impl Buffer {
    /// Makes it `len` bytes: the first of those that it had, and any others.
    pub fn resize(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() < len + LINE {
            let mut larger = vec![0; len + LINE];
            let first = larger.as_ptr().align_offset(LINE).min(LINE);
            larger[first..first + self.len].copy_from_slice(self);
            (self.bytes, self.first) = (larger, first);
        }
        self.len = len;
        self
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.first..self.first + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.first..self.first + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_with_a_line_and_keeps_what_it_held() {
        let mut buffer = Buffer::default();
        assert!(buffer.is_empty());
        for len in [3, 64, 100_000, 5, 300_000] {
            let kept = buffer.to_vec();
            let bytes = buffer.resize(len);
            assert_eq!((bytes.len(), bytes.as_ptr().addr() % LINE), (len, 0));
            let n = kept.len().min(len);
            assert!(bytes[..n] == kept[..n]);
            bytes.fill(len.to_le_bytes()[0]);
        }
    }
}
