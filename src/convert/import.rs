//! `import`: a checkpoint of any layout becomes a folder of safetensors, config and lock, whole or not at all.

use std::fs;
use std::path::Path;

use super::stage::{Stage, Wait};
use crate::error::{Result, io_error};
use crate::files::{self, Named};
use crate::source::{self, Imported, OpenOptions};

/// Imports the model at `model` into the folder `output`, which must not exist unless an earlier import made it.
///
/// # Errors
/// When the model is malformed or unsafe, something foreign stands at `output`, or what was written does not read back alike.
pub fn import(
    model: &Path,
    output: &Path,
    config: Option<&Path>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Imported> {
    let mut inputs = vec![Named::new("CHECKPOINT", model)];
    inputs.extend(config.map(|path| Named::new("`--config`", path)));
    files::keep_apart(&inputs, &[Named::whole("`-o`", output)])?;
    let mut notes = Vec::new();
    let stage = Stage::beside(output, source::is_imported, &mut notes)?;
    let folder = stage.path();
    fs::create_dir(&folder).map_err(io_error("create the folder", &folder))?;
    let options = OpenOptions {
        require_lock: false,
        config,
    };
    let mut imported = source::import(model, &folder, &options, progress)?;
    imported.notes.extend(notes);
    // The lock tells what a power cut has left incomplete, before anything is read.
    stage.commit(Wait::Nothing, source::is_imported)?;
    Ok(imported)
}
