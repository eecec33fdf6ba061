//! The readers of this room on bytes in memory: what they make of them does not depend on a disk. For [`crate::readers`].

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use super::{folder, image, json, lock, npz, pickle, safetensors, torch};
use crate::error::Result;
use crate::tensor::{Region, SourceFile, num};

fn file(bytes: &[u8]) -> Arc<SourceFile> {
    SourceFile::in_memory(Path::new("bytes in memory"), bytes.to_vec())
}

/// The header of a safetensors file, and the bytes of its tensors.
///
/// # Errors
/// As [`super::open`].
pub fn safetensors(bytes: &[u8]) -> Result<()> {
    for tensor in safetensors::read_header(&file(bytes))?
        .tensors
        .into_values()
    {
        Region::File(tensor.region).read()?;
    }
    Ok(())
}

/// A PNG or JPEG file.
///
/// # Errors
/// As [`super::read_image`].
pub fn image(bytes: &[u8]) -> Result<()> {
    Ok(image::decode(bytes).map(|_| ())?)
}

/// A shard index.
///
/// # Errors
/// As [`super::open`].
pub fn shard_index(bytes: &[u8]) -> Result<()> {
    for shard in folder::parse_index(bytes)?.values() {
        folder::check_path(shard)?;
    }
    Ok(())
}

/// A lock file.
///
/// # Errors
/// As [`super::lock::check`].
pub fn lock(bytes: &[u8]) -> Result<()> {
    lock::parse(bytes)?;
    Ok(())
}

/// A JSON side file.
///
/// # Errors
/// As [`super::Checkpoint::side_json`].
pub fn json(bytes: &[u8]) -> Result<()> {
    json::parse_object(bytes)?;
    Ok(())
}

/// An `.npz` archive.
///
/// # Errors
/// As [`super::read_tensors`].
pub fn npz(bytes: &[u8]) -> Result<()> {
    npz::read_from(Cursor::new(bytes))?;
    Ok(())
}

/// A PyTorch checkpoint in either layout, with its tensors' bytes and checksums.
///
/// # Errors
/// As [`super::open`].
pub fn checkpoint(bytes: &[u8]) -> Result<()> {
    let read = torch::read(&file(bytes))?;
    for tensor in read.tensors.into_values() {
        Region::File(tensor.region).read()?;
    }
    for storage in &read.storages {
        storage.check()?;
    }
    Ok(())
}

/// A pickle, and the model in it.
///
/// # Errors
/// As [`super::open`].
pub fn pickle(bytes: &[u8]) -> Result<()> {
    let read = pickle::read(&file(bytes), 0, num::u64_of(bytes.len()))?;
    torch::find(&read)
}
