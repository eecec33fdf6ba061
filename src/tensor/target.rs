//! A new file of known length that threads fill by position.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{Result, io_error};

/// A new file that threads fill by position.
#[derive(Debug)]
pub struct TargetFile {
    path: PathBuf,
    file: File,
}

impl TargetFile {
    /// Creates `path`, which must not exist, with `len` zero bytes. Where the system can, room for all of them is reserved now: a disk that
    /// is too full says so before anything is written.
    ///
    /// # Errors
    /// When it exists, or cannot be created, or there is no room.
    pub fn create(path: &Path, len: u64) -> Result<Self> {
        let file = File::create_new(path).map_err(io_error("create", path))?;
        reserve(&file, len).map_err(io_error("reserve space for", path))?;
        Ok(TargetFile {
            path: path.to_path_buf(),
            file,
        })
    }

    /// Writes `bytes` from `offset` on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        write_all_at(&self.file, bytes, offset).map_err(io_error("write", &self.path))
    }
}

/// Gives the file its length, with blocks on the disk where that can be had.
fn reserve(file: &File, len: u64) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    if len > 0 {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => return Ok(()),
            // Not every file system can.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(e) => return Err(e.into()),
        }
    }
    file.set_len(len)
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        let n = file.seek_write(bytes, offset)?;
        if n == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[n..];
        offset += super::num::u64_of(n);
    }
    Ok(())
}
