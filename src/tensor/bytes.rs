//! Byte regions: where constant data lives. A region is a part of an open file, or a small buffer; it is read by position.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::num;
use super::relay::Relay;
use super::strided::{Strided, Tiles};
use crate::error::{Result, io_error};

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
        self.fill(offset, buffer)?;
        if let Some(relay) = self.relay.get() {
            relay.offer(offset, buffer);
        }
        Ok(())
    }

    /// Hands every byte of the file to `sink`, in order, `block` of them at a time or what another thread has just read: whoever reads the
    /// file meanwhile spares it this work.
    ///
    /// # Errors
    /// When the file ends early or cannot be read.
    pub fn follow(&self, block: usize, sink: &mut dyn FnMut(&[u8])) -> Result<()> {
        let relay = self.relay.get_or_init(Relay::default);
        let mut buffer = Vec::new();
        let mut at = 0;
        while at < self.len {
            if let Some((part, inside)) = relay.take(at) {
                sink(&part[inside..]);
                at += num::u64_of(part.len() - inside);
                relay.reuse(part);
                continue;
            }
            let n = num::usize_of(self.len - at).min(block);
            buffer.resize(n, 0);
            self.fill(at, &mut buffer)?;
            sink(&buffer);
            at += num::u64_of(n);
        }
        relay.take(self.len);
        Ok(())
    }

    /// Whether a thread is on its way through the whole file.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.relay.get().is_some_and(|r| r.place() < self.len)
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
    Inline(Arc<[u8]>),
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
        let end = offset.checked_add(num::u64_of(buffer.len()));
        if end.is_none_or(|end| end > self.len()) {
            let path = match self {
                Region::Inline(_) => Path::new("constant in memory"),
                Region::File(region) => region.file.path(),
            };
            return Err(io_error("read past the end of a region of", path)(
                std::io::ErrorKind::UnexpectedEof.into(),
            ));
        }
        match self {
            Region::Inline(bytes) => {
                let start = num::usize_of(offset);
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
                Ok(())
            }
            Region::File(region) => region.file.read_at(region.offset + offset, buffer),
        }
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
            Region::Inline(bytes) => (Arc::as_ptr(bytes).addr(), 0),
            Region::File(region) => (Arc::as_ptr(&region.file).addr(), region.offset),
        }
    }

    /// Whether two regions are the same bytes by construction: the same part of the same open file, or the same buffer.
    #[must_use]
    pub fn same_as(&self, other: &Region) -> bool {
        match (self, other) {
            (Region::Inline(a), Region::Inline(b)) => Arc::ptr_eq(a, b),
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
        let bytes: Vec<u8> = (0..=255u8).cycle().take(100_000).collect();
        let file = SourceFile::in_memory(Path::new("bytes"), bytes.clone());
        assert!(!file.is_followed());
        let mut seen = Vec::new();
        let mut turn = 0;
        file.follow(1000, &mut |part| {
            seen.extend_from_slice(part);
            assert!(file.is_followed());
            // Another reader: ahead, behind, across the place where the first one is.
            turn += 1;
            let offset = [num::u64_of(seen.len()), 0, 99_000, 50_500][turn % 4];
            let n = num::usize_of(file.len() - offset).min(1500);
            file.read_at(offset, &mut vec![0; n]).unwrap();
        })
        .unwrap();
        assert_eq!(seen, bytes);
        assert!(!file.is_followed());
    }
}
