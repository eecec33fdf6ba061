//! Metadata of a finished model: appended, since concatenated protobufs merge.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use super::error::OnnxError;
use super::file::{entry, message};
use super::wire;
use crate::error::{Context, Result, io_error};

/// Field `metadata_props` of `ModelProto`.
const METADATA_PROPS: u32 = 14;

/// Adds metadata to the model at `path`, in the order of its keys. The rest of the file stays as it is.
///
/// # Errors
/// When the file is not a whole protobuf, already has one of the keys, or cannot be written.
pub fn append_metadata(path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
    let entries = wire::read_metadata(path)?;
    let present: BTreeSet<&str> = entries.iter().filter_map(|p| p.key.as_deref()).collect();
    let mut bytes = Vec::new();
    for (key, value) in metadata {
        if present.contains(key.as_str()) {
            return Err(OnnxError::MetadataKey { key: key.clone() }).at_file(path);
        }
        message(METADATA_PROPS, &entry(key, value), &mut bytes);
    }
    let mut file = std::fs::File::options()
        .append(true)
        .open(path)
        .map_err(io_error("open", path))?;
    file.write_all(&bytes).map_err(io_error("append to", path))
}
