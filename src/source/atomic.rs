//! Files that appear whole or not at all: written beside their destination under another name, synced, then renamed.

use std::io::{BufWriter, Write};
use std::path::Path;

use super::safetensors::WriteError;
use crate::error::{Context, Result, io_error};

/// Writes `path` with what `write` puts out. An existing file is replaced (a link is replaced, not followed); whether it may be is the
/// caller's to decide.
pub(super) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut std::fs::File>) -> Result<(), WriteError>,
) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".distill-convert-");
    #[cfg(unix)]
    {
        // As any program's output, not private as a temporary file: the process's mask still applies.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder
        .tempfile_in(parent)
        .map_err(io_error("create a file beside", path))?;
    let mut out = BufWriter::with_capacity(1 << 20, file.as_file_mut());
    match write(&mut out) {
        Ok(()) => {}
        Err(WriteError::Format(e)) => return Err(e).at_file(path),
        Err(WriteError::Io(e)) => return Err(io_error("write", path)(e)),
    }
    out.flush().map_err(io_error("write", path))?;
    drop(out);
    file.as_file().sync_all().map_err(io_error("write", path))?;
    file.persist(path)
        .map_err(|e| io_error("write", path)(e.error))?;
    Ok(())
}
