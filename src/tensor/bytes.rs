//! Byte regions: where constant data lives. A region is a part of an open file, or a small buffer; it is read by position.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::buffer::Buffer;
use super::num;
use super::relay::{BLOCK_BYTES, Block, Relay, Turn};
use super::strided::{Strided, Tiles};
use crate::error::{Result, io_error};
use crate::limits;

/// An open file that constants point into. It is never mapped and never reopened: what was verified is what is read.
#[derive(Debug)]
pub struct SourceFile {
    path: PathBuf,
    backing: Backing,
    len: u64,
    relay: OnceLock<Relay>,
}

/// What the system knows of a file that is another when the file was written to or replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    len: u64,
    modified: Option<std::time::SystemTime>,
    #[cfg(unix)]
    changed: (i64, i64),
    #[cfg(unix)]
    place: (u64, u64),
}

/// Where a [`SourceFile`] reads from.
#[derive(Debug)]
enum Backing {
    File(File),
    Memory(Vec<u8>),
    View(Strided),
}

impl SourceFile {
    /// Opens `path` for reading by position.
    ///
    /// # Errors
    /// When it is no regular file, cannot be opened, or its length cannot be read.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        let file = super::inside::open_regular(path).map_err(io_error("open", path))?;
        SourceFile::from_file(path, file)
    }

    /// Opens the regular file `relative` below `base`, wherever links lead meanwhile: not out of `base`, or, where `base` is part of a snapshot in
    /// a hub's cache, to the files of its repository.
    ///
    /// # Errors
    /// When the path leads out of `base` (see [`SourceFile::leads_out`]), is no regular file, or cannot be opened.
    pub fn open_inside(base: &Path, relative: &Path) -> std::io::Result<Arc<Self>> {
        let file = super::inside::open(base, relative)?;
        let len = file.metadata()?.len();
        Ok(Arc::new(SourceFile {
            path: base.join(relative),
            backing: Backing::File(file),
            len,
            relay: OnceLock::new(),
        }))
    }

    /// Whether an error of [`SourceFile::open_inside`] says that the path leads out of the folder.
    #[must_use]
    pub fn leads_out(error: &std::io::Error) -> bool {
        error.kind() == std::io::ErrorKind::CrossesDevices
    }

    /// A file that is open already, under a name for messages.
    ///
    /// # Errors
    /// When its length cannot be read.
    pub fn from_file(path: &Path, file: File) -> Result<Arc<Self>> {
        let len = file
            .metadata()
            .map_err(io_error("read the length of", path))?
            .len();
        Ok(Arc::new(SourceFile {
            path: path.to_path_buf(),
            backing: Backing::File(file),
            len,
            relay: OnceLock::new(),
        }))
    }

    /// Bytes in memory that are read as if they were the file `path`: what a reader does with them does not depend on a disk.
    #[must_use]
    pub fn in_memory(path: &Path, bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(SourceFile {
            path: path.to_path_buf(),
            len: num::u64_of(bytes.len()),
            backing: Backing::Memory(bytes),
            relay: OnceLock::new(),
        })
    }

    /// A view with strides into `region`, read as if its elements, of `width` bytes each, lay in row-major order; `shape` and `strides` count
    /// elements, and the first one is the first of the region. Views of one source share `tiles`, which bound what they hold in memory.
    ///
    /// Returns `None` when the view leaves the region, or has no elements.
    #[must_use]
    pub fn strided(
        region: FileRegion,
        width: u64,
        shape: &[u64],
        strides: &[u64],
        tiles: &Arc<Tiles>,
    ) -> Option<Arc<Self>> {
        let path = region.file.path().to_path_buf();
        let view = Strided::new(region, width, shape, strides, tiles)?;
        Some(Arc::new(SourceFile {
            path,
            len: view.len(),
            backing: Backing::View(view),
            relay: OnceLock::new(),
        }))
    }

    /// How many names the file has in the file system, where that is known.
    #[must_use]
    pub fn names(&self) -> u64 {
        match &self.backing {
            #[cfg(unix)]
            Backing::File(file) => file
                .metadata()
                .map_or(1, |m| std::os::unix::fs::MetadataExt::nlink(&m)),
            #[cfg(not(unix))]
            Backing::File(_) => 1,
            Backing::Memory(_) | Backing::View(_) => 1,
        }
    }

    /// What tells later whether the file has changed.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn stamp(&self) -> Result<Stamp> {
        let metadata = match &self.backing {
            Backing::File(file) => file.metadata().map_err(io_error("look at", &self.path))?,
            Backing::Memory(_) => return Ok(Stamp::default()),
            Backing::View(view) => return view.file().stamp(),
        };
        Ok(Stamp {
            len: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            changed: {
                use std::os::unix::fs::MetadataExt;
                (metadata.ctime(), metadata.ctime_nsec())
            },
            #[cfg(unix)]
            place: {
                use std::os::unix::fs::MetadataExt;
                (metadata.dev(), metadata.ino())
            },
        })
    }

    /// The path it was opened under.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length in bytes when it was opened.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// When the file ends early or cannot be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        if self.relay.get().is_none() {
            return self.fill(offset, buffer);
        }
        let mut left = &mut *buffer;
        self.parts(offset, num::u64_of(left.len()), 1, &mut |part| {
            let (now, rest) = std::mem::take(&mut left).split_at_mut(part.len());
            now.copy_from_slice(part);
            left = rest;
            Ok(())
        })
    }

    /// Hands the `len` bytes from `offset` on to `sink`, in order, as they are read and in pieces of whole elements of `width` bytes: without a
    /// copy where another thread goes through the file, too.
    ///
    /// # Errors
    /// When the file ends early or cannot be read, or `sink` fails.
    pub fn parts(
        &self,
        offset: u64,
        len: u64,
        width: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let block = num::u64_of(BLOCK_BYTES);
        // Blocks begin with an element.
        if offset.is_multiple_of(width) && block.is_multiple_of(width) && self.relay.get().is_some()
        {
            return self.pieces(offset, len, &mut |piece| {
                sink(piece.bytes())?;
                self.reuse(piece);
                Ok(())
            });
        }
        let (mut at, end) = (offset, self.end(offset, len)?);
        let mut buffer = Buffer::default();
        while at < end {
            let left = num::usize_of(end - at);
            let part = buffer.resize(left.min(limits::STREAM_CHUNK_BYTES));
            self.fill(at, part)?;
            sink(part)?;
            at += num::u64_of(part.len());
        }
        Ok(())
    }

    /// Hands on what lies in every block from `offset` on.
    fn pieces(
        &self,
        offset: u64,
        len: u64,
        sink: &mut dyn FnMut(Piece) -> Result<()>,
    ) -> Result<()> {
        let block = num::u64_of(BLOCK_BYTES);
        let (mut at, end) = (offset, self.end(offset, len)?);
        while at < end {
            let (index, inside) = (at / block, num::usize_of(at % block));
            let n = (BLOCK_BYTES - inside).min(num::usize_of(end - at));
            let next = at + num::u64_of(n);
            let last = next == self.len.min((index + 1) * block);
            let shared = match self.relay.get() {
                Some(relay) => relay.block(index, last, &|i, buffer| self.fill_block(i, buffer))?,
                None => None,
            };
            let (block, first) = match shared {
                Some(block) => (block, inside),
                None => {
                    let mut buffer = self.relay.get().map(Relay::buffer).unwrap_or_default();
                    self.fill(at, buffer.resize(n))?;
                    (Arc::new(buffer), 0)
                }
            };
            sink(Piece {
                block,
                range: first..first + n,
            })?;
            at = next;
        }
        Ok(())
    }

    /// The end of a range that lies within the file.
    fn end(&self, offset: u64, len: u64) -> Result<u64> {
        let end = offset.checked_add(len).filter(|&end| end <= self.len);
        let end = end.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into());
        end.map_err(io_error("read", &self.path))
    }

    fn reuse(&self, piece: Piece) {
        if let Some(relay) = self.relay.get() {
            relay.reuse(piece.block);
        }
    }

    fn fill_block(&self, index: u64, buffer: &mut Buffer) -> Result<()> {
        let start = index * num::u64_of(BLOCK_BYTES);
        let n = num::usize_of(self.len - start).min(BLOCK_BYTES);
        self.fill(start, buffer.resize(n))
    }

    /// Hands every byte of the file to `sink`, in order: whoever reads the file meanwhile reads it for both. `sink` does not read it.
    ///
    /// # Errors
    /// When the file ends early or cannot be read.
    pub fn follow(&self, sink: &mut dyn FnMut(&[u8])) -> Result<()> {
        let count = self.len.div_ceil(num::u64_of(BLOCK_BYTES));
        let relay = self.relay.get_or_init(|| Relay::new(count));
        let follower = relay.follower();
        for index in 0..count {
            follower.take(index, &|i, buffer| self.fill_block(i, buffer), sink)?;
        }
        Ok(())
    }

    /// Whether what lies at `offset` is best read now, by a reader that may read something else first.
    #[must_use]
    pub fn turn(&self, offset: u64) -> Turn {
        let block = offset / num::u64_of(BLOCK_BYTES);
        self.relay
            .get()
            .map_or(Turn::Now, |relay| relay.turn(block))
    }

    /// Whether a thread is on its way through the whole file.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.relay.get().is_some_and(Relay::is_followed)
    }

    fn fill(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let read = match &self.backing {
            Backing::File(file) => read_exact_at(file, buffer, offset),
            Backing::View(view) => {
                let end = offset.checked_add(num::u64_of(buffer.len()));
                match end.is_some_and(|end| end <= self.len) {
                    true => return view.fill(offset, buffer),
                    false => Err(std::io::ErrorKind::UnexpectedEof.into()),
                }
            }
            Backing::Memory(bytes) => {
                let start = num::usize_of(offset);
                match bytes.get(start..start.saturating_add(buffer.len())) {
                    Some(part) => {
                        buffer.copy_from_slice(part);
                        Ok(())
                    }
                    None => Err(std::io::ErrorKind::UnexpectedEof.into()),
                }
            }
        };
        read.map_err(io_error("read", &self.path))
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !buffer.is_empty() {
        let n = file.seek_read(buffer, offset)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[n..];
        offset += num::u64_of(n);
    }
    Ok(())
}

/// What was asked for of a block.
#[derive(Debug)]
struct Piece {
    block: Block,
    range: Range<usize>,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        &self.block[self.range.clone()]
    }
}

/// A checked part of a [`SourceFile`].
#[derive(Clone, Debug)]
pub struct FileRegion {
    /// The file.
    pub file: Arc<SourceFile>,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// Where bytes live.
#[derive(Clone, Debug)]
pub enum Region {
    /// A buffer in memory, for small constants.
    Inline(Bytes),
    /// A part of a file.
    File(FileRegion),
}

impl Region {
    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Region::Inline(bytes) => num::u64_of(bytes.len()),
            Region::File(region) => region.len,
        }
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` from `offset` within the region.
    ///
    /// # Errors
    /// When the range leaves the region or the file cannot be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let range = self.range(offset, num::u64_of(buffer.len()))?;
        match self {
            Region::Inline(bytes) => {
                buffer.copy_from_slice(&bytes[range]);
                Ok(())
            }
            Region::File(region) => region.file.read_at(region.offset + offset, buffer),
        }
    }

    /// Hands `len` bytes from `offset` within the region to `sink`, as [`SourceFile::parts`] does.
    ///
    /// # Errors
    /// When the range leaves the region, the file cannot be read, or `sink` fails.
    pub fn parts(
        &self,
        offset: u64,
        len: u64,
        width: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let range = self.range(offset, len)?;
        match self {
            Region::Inline(bytes) => sink(&bytes[range]),
            Region::File(region) => region.file.parts(region.offset + offset, len, width, sink),
        }
    }

    /// A part of the region, if it is one.
    fn range(&self, offset: u64, len: u64) -> Result<Range<usize>> {
        let end = offset.checked_add(len).filter(|&end| end <= self.len());
        let path = match self {
            Region::Inline(_) => Path::new("constant in memory"),
            Region::File(region) => region.file.path(),
        };
        let end = end.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into());
        let end = end.map_err(io_error("read past the end of a region of", path))?;
        Ok(num::usize_of(offset)..num::usize_of(end))
    }

    /// The whole region in memory.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; num::usize_of(self.len())];
        self.read_at(0, &mut buffer)?;
        Ok(buffer)
    }

    /// Where the bytes lie: the address of what holds them, and the first byte in it. Regions that are the same have the same place; it says
    /// nothing beyond the life of a region.
    #[must_use]
    pub fn place(&self) -> (usize, u64) {
        match self {
            Region::Inline(bytes) => (bytes.as_ptr().addr(), 0),
            Region::File(region) => (Arc::as_ptr(&region.file).addr(), region.offset),
        }
    }

    /// Whether two regions are the same bytes by construction: the same part of the same open file, or the same buffer.
    #[must_use]
    pub fn same_as(&self, other: &Region) -> bool {
        match (self, other) {
            (Region::Inline(a), Region::Inline(b)) => std::ptr::eq(a.as_ref(), b.as_ref()),
            (Region::File(a), Region::File(b)) => {
                Arc::ptr_eq(&a.file, &b.file) && a.offset == b.offset && a.len == b.len
            }
            (Region::Inline(_), Region::File(_)) | (Region::File(_), Region::Inline(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_followed_in_order_whatever_others_read() {
        let len = 5 * BLOCK_BYTES + 77;
        let bytes: Vec<u8> = (0..=250u8).cycle().take(len).collect();
        let file = SourceFile::in_memory(Path::new("bytes"), bytes.clone());
        assert!(!file.is_followed());
        let mut seen = Vec::new();
        std::thread::scope(|scope| {
            let follower = scope.spawn(|| {
                file.follow(&mut |part| {
                    seen.extend_from_slice(part);
                    assert!(file.is_followed());
                })
                .unwrap();
            });
            // Another reader: ahead, behind, across the place where the first one is.
            for start in [4 * BLOCK_BYTES + 3, 0, len - 9, BLOCK_BYTES / 2].repeat(50) {
                let mut part = vec![0; (BLOCK_BYTES + 100).min(len - start)];
                file.read_at(num::u64_of(start), &mut part).unwrap();
                assert!(part == bytes[start..start + part.len()]);
            }
            follower.join().unwrap();
        });
        assert!(seen == bytes);
        assert!(!file.is_followed());
        assert!(file.read_at(num::u64_of(len), &mut [0]).is_err());
    }

    #[test]
    fn parts_hold_whole_elements() {
        let bytes: Vec<u8> = (0..=255u8).cycle().take(3 * BLOCK_BYTES).collect();
        let file = SourceFile::in_memory(Path::new("bytes"), bytes.clone());
        // After it was followed, too.
        for _ in 0..2 {
            for offset in [2, 8] {
                let mut found = Vec::new();
                let len = num::u64_of(2 * BLOCK_BYTES + 4);
                file.parts(offset, len, 4, &mut |part| {
                    assert_eq!(part.len() % 4, 0);
                    found.extend_from_slice(part);
                    Ok(())
                })
                .unwrap();
                assert!(found == bytes[num::usize_of(offset)..][..2 * BLOCK_BYTES + 4]);
            }
            file.follow(&mut |_| {}).unwrap();
        }
    }
}
