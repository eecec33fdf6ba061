//! The readers of this room on bytes in memory. For [`crate::readers`].

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message;

use super::blob::{BlobFile, BlobFiles};
use super::import::symbols::Sizes;
use super::package::{self, PackageError, WEIGHT_REFERENCE};
use super::proto::Model;
use super::read::Opened;
use crate::error::Result;
use crate::tensor::SourceFile;

fn name() -> &'static Path {
    Path::new("bytes in memory")
}

/// The manifest of a package whose folder is `package`.
///
/// # Errors
/// As [`super::read`].
pub fn manifest(package: &Path, bytes: &[u8]) -> Result<()> {
    package::parse_manifest(package, bytes).map(|_| ())
}

/// A weight file.
///
/// # Errors
/// As [`super::read`].
pub fn weights(bytes: &[u8]) -> Result<()> {
    BlobFile::of(SourceFile::in_memory(name(), bytes.to_vec())).map(|_| ())
}

/// A model with its weight file, down to the module.
///
/// # Errors
/// As [`super::read`].
pub fn program(model: &[u8], weights: Option<&[u8]>) -> Result<()> {
    let model = Model::decode(bytes::Bytes::copy_from_slice(model))
        .map_err(|source| PackageError::Proto { source })?;
    let mut blobs = BlobFiles::default();
    if let Some(bytes) = weights {
        let file = BlobFile::of(SourceFile::in_memory(name(), bytes.to_vec()))?;
        blobs.insert(WEIGHT_REFERENCE, file);
    }
    let opened = Opened {
        model_path: name().to_path_buf(),
        model,
        weights: Vec::new(),
        blobs,
    };
    opened
        .import("model", None, Sizes::Ranged(&BTreeSet::new()))
        .map(|_| ())
}
