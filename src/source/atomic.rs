//! Tensor files and locks appear whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::safetensors::WriteError;
use crate::error::{Context, Result, io_error};
use crate::files::Private;

/// Writes `path` with what `write` puts out. What stands there is replaced if `is_ours` recognises it; a link never is.
pub(super) fn write_whole(
    path: &Path,
    is_ours: impl Fn(&Path) -> bool,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> Result<(), WriteError>,
) -> Result<()> {
    let private = Private::beside(path, &mut Vec::new())?;
    let name = path.file_name().unwrap_or_default().to_owned();
    let mut file = File::create_new(private.path().join(&name))
        .map_err(io_error("create a file beside", path))?;
    let mut out = BufWriter::with_capacity(1 << 20, &mut file);
    match write(&mut out) {
        Ok(()) => {}
        Err(WriteError::Format(e)) => return Err(e).at_file(path),
        Err(WriteError::Io(e)) => return Err(io_error("write", path)(e)),
    }
    out.flush().map_err(io_error("write", path))?;
    drop(out);
    file.sync_all().map_err(io_error("write", path))?;
    private.install(&[name], is_ours)
}
