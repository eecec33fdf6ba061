//! SHA-256 of open files, read by position: what is hashed is what is read later, even if the path then names another file.

use std::fmt::Write as _;
use std::sync::Arc;

use rayon::prelude::*;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::Progress;
use crate::error::Result;
use crate::tensor::{SourceFile, num};

/// SHA-256 of the file in lower-case hex.
pub(super) fn sha256(file: &SourceFile, progress: Progress<'_>) -> Result<String> {
    hashed(file, Sha256::new(), progress)
}

/// Git's name of a file's contents: SHA-1 of its length and bytes. Proof of nothing against somebody who makes collisions on purpose; what
/// a hub knows about small files.
pub(super) fn git_blob(file: &SourceFile) -> Result<String> {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", file.len()));
    hashed(file, hasher, &|_| {})
}

fn hashed(file: &SourceFile, mut hasher: impl Digest, progress: Progress<'_>) -> Result<String> {
    file.follow(&mut |bytes| {
        hasher.update(bytes);
        progress(num::u64_of(bytes.len()));
    })?;
    Ok(hex(&hasher.finalize()))
}

/// Bytes in lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// SHA-256 of bytes in lower-case hex.
#[must_use]
pub fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of several files at once, in their order; of several errors, the first file's is returned.
pub(super) fn sha256_all(files: &[Arc<SourceFile>], progress: Progress<'_>) -> Result<Vec<String>> {
    let digests: Vec<Result<String>> = files.par_iter().map(|f| sha256(f, progress)).collect();
    digests.into_iter().collect()
}
