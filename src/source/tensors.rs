//! Tensor files: the inputs, outputs and references of a run, as `.safetensors` or `.npz`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::error::SourceError;
use super::{atomic, npz, safetensors, sniff};
use crate::error::{Context, Result, io_error};
use crate::tensor::{NamedTensors, Region, SourceFile, Tensor};

/// The metadata key, and the comment of an archive, by which this program knows its own files again.
const PRODUCER_KEY: &str = "producer";
/// The value of [`PRODUCER_KEY`].
pub(super) const PRODUCER: &str = "distill-convert";

/// The kinds of tensor files.
#[derive(Clone, Copy)]
enum Kind {
    Safetensors,
    Npz,
}

fn kind(path: &Path) -> Result<Kind> {
    let extension = path.extension().and_then(|e| e.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("safetensors") => Ok(Kind::Safetensors),
        Some("npz") => Ok(Kind::Npz),
        Some(_) | None => {
            if sniff::has_pickle_name(path) {
                return Err(sniff::pickle_name_error()).at_file(path);
            }
            Err(SourceError::TensorFileKind).at_file(path)
        }
    }
}

/// Reads every tensor of a `.safetensors` or `.npz` file.
///
/// # Numerics
/// `f64` elements are rounded to `f32`, as in every [`Tensor`].
///
/// # Errors
/// When the file is malformed, unsafe (an object array is a pickle), too large, or has an element type that is not supported.
pub fn read_tensors(path: &Path) -> Result<NamedTensors> {
    let kind = kind(path)?;
    let metadata = path.metadata().map_err(io_error("open", path))?;
    if !metadata.is_file() {
        return Err(SourceError::NotAFile).at_file(path);
    }
    match kind {
        Kind::Safetensors => {
            let file = SourceFile::open(path)?;
            let mut out = BTreeMap::new();
            for (name, t) in safetensors::read_header(&file)?.tensors {
                let bytes = Region::File(t.region).read()?;
                let tensor = Tensor::from_le_bytes(t.dtype, t.shape, &bytes)
                    .at_tensor(&name)
                    .at_file(path)?;
                out.insert(name, tensor);
            }
            Ok(out)
        }
        Kind::Npz => npz::read(path).at_file(path),
    }
}

/// Writes `tensors` as a `.safetensors` or `.npz` file, whole or not at all. Equal tensors give equal bytes.
///
/// An existing file is replaced only if this program wrote it.
///
/// # Errors
/// When the kind of file cannot hold an element type or name, when another program's file is in the way, or when the system refuses.
pub fn write_tensors(path: &Path, tensors: &NamedTensors) -> Result<()> {
    let kind = kind(path)?;
    refuse_foreign(path, kind)?;
    match kind {
        Kind::Safetensors => {
            let metadata = BTreeMap::from([(PRODUCER_KEY.to_owned(), PRODUCER.to_owned())]);
            atomic::write_whole(path, |out| safetensors::write(tensors, &metadata, out))
        }
        Kind::Npz => atomic::write_whole(path, |out| npz::write(tensors, out)),
    }
}

/// Refuses to replace anything that this program did not write.
fn refuse_foreign(path: &Path, kind: Kind) -> Result<()> {
    let is_ours = match path.symlink_metadata() {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io_error("look at", path)(e)),
        Ok(metadata) if !metadata.is_file() => false,
        Ok(_) => match kind {
            Kind::Safetensors => {
                let file = SourceFile::open(path)?;
                safetensors::read_header(&file)
                    .is_ok_and(|h| h.metadata.get(PRODUCER_KEY).is_some_and(|p| p == PRODUCER))
            }
            Kind::Npz => npz::is_ours(path),
        },
    };
    if is_ours {
        return Ok(());
    }
    Err(SourceError::Foreign).at_file(path)
}
