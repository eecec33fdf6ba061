//! What a file is, by its first bytes and by its name. A pickle under the name of another format is refused; one that is named as what it
//! is goes to `torch`, which reads it as data.

use std::path::Path;

use super::error::SourceError;
use crate::error::Result;
use crate::tensor::{SourceFile, num};

/// Extensions under which PyTorch and its libraries store pickles.
const PICKLE_EXTENSIONS: [&str; 6] = ["bin", "ckpt", "pickle", "pkl", "pt", "pth"];

/// Refuses a file whose first bytes are those of a pickle or of a zip archive, or of a placeholder.
pub(super) fn refuse_unsafe(file: &SourceFile) -> Result<()> {
    let mut start = [0; 24];
    let len = start.len().min(num::usize_of(file.len()));
    let start = &mut start[..len];
    file.read_at(0, start)?;
    if is_pickle(start) {
        return Err(SourceError::UnsafeFormat {
            format: "a Python pickle under the name of another format",
        }
        .into());
    }
    if is_zip(start) {
        return Err(SourceError::UnsafeFormat {
            format: "a zip archive, as PyTorch writes around a Python pickle, under the name of another format",
        }
        .into());
    }
    refuse_pointer(file)
}

/// Refuses a placeholder instead of the weights.
pub(super) fn refuse_pointer(file: &SourceFile) -> Result<()> {
    const POINTER: &[u8] = b"version https://git-lfs.";
    let mut start = [0; POINTER.len()];
    let len = start.len().min(num::usize_of(file.len()));
    file.read_at(0, &mut start[..len])?;
    if start == POINTER {
        return Err(SourceError::LfsPointer.into());
    }
    Ok(())
}

/// A pickle of protocol 2 to 5. The same two bytes can start a safetensors header length (640 is `80 02`), but then six zeros follow,
/// and no pickle has those: zero is not one of its operations.
pub(super) fn is_pickle(start: &[u8]) -> bool {
    matches!(start, [0x80, 2..=5, ..]) && !(start.len() >= 8 && start[2..8] == [0; 6])
}

/// A zip archive. As the length of a safetensors header, the magic is a valid number only if `{` follows the length.
fn is_zip(start: &[u8]) -> bool {
    [b"PK\x03\x04", b"PK\x05\x06"]
        .iter()
        .any(|m| start.starts_with(*m))
        && start.get(8) != Some(&b'{')
}

/// Whether a name is one of those that PyTorch and its libraries give to pickles.
#[must_use]
pub fn has_pickle_name(path: &Path) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| PICKLE_EXTENSIONS.contains(&e.to_ascii_lowercase().as_str()))
}

/// The error for a name of [`has_pickle_name`].
pub(super) fn pickle_name_error() -> SourceError {
    SourceError::UnsafeFormat {
        format: "a PyTorch checkpoint (a Python pickle) by its name",
    }
}
