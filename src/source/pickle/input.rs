//! The bytes of a pickle, read through a small window: a pickle may be followed by gigabytes of weights.

use super::error::PickleError;
use crate::error::{Error, Result};
use crate::limits;
use crate::tensor::{SourceFile, num};

/// Bytes read at once.
const WINDOW: u64 = 1 << 16;

/// A place in a file, up to an end.
pub(super) struct Input<'a> {
    file: &'a SourceFile,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    /// The opcode whose arguments are being read, for messages.
    pub(super) opcode: &'static str,
}

impl<'a> Input<'a> {
    /// The bytes from `start` to `end`, which lies within the file; at most as many as a pickle may have.
    pub(super) fn new(file: &'a SourceFile, start: u64, end: u64) -> Self {
        Input {
            file,
            at: start,
            end: end.min(start.saturating_add(limits::PICKLE_BYTES.get())),
            window: Vec::new(),
            window_at: start,
            opcode: "PROTO",
        }
    }

    /// Where the next byte lies in the file.
    pub(super) fn offset(&self) -> u64 {
        self.at
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> u64 {
        self.end - self.at
    }

    fn truncated(&self) -> Error {
        PickleError::Truncated {
            opcode: self.opcode,
        }
        .into()
    }

    /// Goes back, or on, to a byte before the end.
    pub(super) fn seek(&mut self, at: u64) {
        self.at = at.min(self.end);
        let window = self.window_at..=self.window_at + num::u64_of(self.window.len());
        if !window.contains(&self.at) {
            self.window.clear();
            self.window_at = self.at;
        }
    }

    /// The next byte, which stays the next.
    pub(super) fn peek(&mut self) -> Result<Option<u8>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let byte = self.byte()?;
        self.at -= 1;
        Ok(Some(byte))
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8> {
        loop {
            let inside = num::usize_of(self.at - self.window_at);
            if let Some(&byte) = self.window.get(inside) {
                self.at += 1;
                return Ok(byte);
            }
            if self.at >= self.end {
                return Err(self.truncated());
            }
            let n = WINDOW.min(self.end - self.at);
            self.window.resize(num::usize_of(n), 0);
            self.window_at = self.at;
            self.file.read_at(self.at, &mut self.window)?;
        }
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        for byte in &mut out {
            *byte = self.byte()?;
        }
        Ok(out)
    }

    /// A number of `width` bytes, 1, 4 or 8, little endian.
    pub(super) fn number(&mut self, width: u8) -> Result<u64> {
        Ok(match width {
            1 => u64::from(self.byte()?),
            4 => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        })
    }

    /// The next `n` bytes; nothing is allocated before they are known to be there.
    pub(super) fn take(&mut self, n: u64) -> Result<Vec<u8>> {
        if n > self.left() {
            return Err(self.truncated());
        }
        let mut out = vec![0; num::usize_of(n)];
        let inside = num::usize_of(self.at - self.window_at);
        match self.window.get(inside..inside.saturating_add(out.len())) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => self.file.read_at(self.at, &mut out)?,
        }
        self.at += n;
        self.seek(self.at);
        Ok(out)
    }

    /// The text up to the end of the line, and no more of it than a name may have.
    pub(super) fn start_of_line(&mut self) -> Result<String> {
        let mut out = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(String::from_utf8_lossy(&out).into_owned()),
                byte if out.len() < limits::PICKLE_LINE => out.push(byte),
                _ => {}
            }
        }
    }

    /// The text up to the end of the line.
    pub(super) fn line(&mut self) -> Result<String> {
        let mut out = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                byte if out.len() < limits::PICKLE_LINE => out.push(byte),
                _ => {
                    return Err(PickleError::Text {
                        opcode: self.opcode,
                        problem: "a name of more than 256 bytes",
                    }
                    .into());
                }
            }
        }
        // What is not UTF-8 is on no list, and is refused under the name that is shown.
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}
