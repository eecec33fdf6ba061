//! Tensor files and locks appear whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::safetensors::WriteError;
use crate::error::{Context, Result, io_error};
use crate::files::Place;

/// Fills `place` with what `write` puts out. What stands there is replaced if `is_ours` recognises it; a link never is.
pub(super) fn fill(
    place: Place,
    is_ours: impl Fn(&Path) -> bool,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> Result<(), WriteError>,
) -> Result<()> {
    let path = place.path().to_path_buf();
    place.fill(is_ours, |file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        match write(&mut out) {
            Ok(()) => out.flush().map_err(io_error("write", &path)),
            Err(WriteError::Format(e)) => Err(e).at_file(&path),
            Err(WriteError::Io(e)) => Err(io_error("write", &path)(e)),
        }
    })
}
