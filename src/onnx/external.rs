//! Where a tensor's external data lies: confined to the model's folder, and checked for its length.

use std::path::{Component, Path, PathBuf};

use super::error::OnnxError;
use super::proto::TensorProto;

/// A place in a file beside the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    /// The file's name, as the model says it.
    pub(crate) location: String,
    /// The file.
    pub(crate) path: PathBuf,
    /// First byte.
    pub(crate) offset: u64,
}

/// Finds the external data of a tensor that needs `bytes` bytes.
///
/// # Errors
/// When the location leaves `folder` (absolute, `..`, a link), or the file does not hold the bytes.
pub(crate) fn locate(
    tensor: &TensorProto,
    bytes: u64,
    folder: &Path,
) -> Result<Located, OnnxError> {
    let value = |key: &str| {
        tensor
            .external_data
            .iter()
            .find(|e| e.key.as_deref() == Some(key))
            .and_then(|e| e.value.as_deref())
    };
    let number = |key: &str, default: u64| match value(key) {
        None => Ok(default),
        Some(text) => text.parse::<u64>().map_err(|_| OnnxError::Malformed {
            reason: format!("external data with the {key} `{text}`"),
        }),
    };
    let location = value("location").ok_or_else(|| OnnxError::Malformed {
        reason: "external data without a location".into(),
    })?;
    let escapes = || OnnxError::ExternalPath {
        location: location.to_owned(),
    };
    let relative = Path::new(location);
    let inside = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !inside || location.is_empty() || location.contains(['\\', ':', '\0']) {
        return Err(escapes());
    }
    let offset = number("offset", 0)?;
    let length = number("length", bytes)?;
    let missing = |found: u64| OnnxError::ExternalData {
        location: location.to_owned(),
        tensor: tensor.name.clone().unwrap_or_default(),
        expected: offset.saturating_add(length),
        found,
    };
    let path = folder.join(relative);
    let (Ok(real), Ok(base)) = (
        path.canonicalize(),
        // An empty parent means the current folder.
        Path::new(".").join(folder).canonicalize(),
    ) else {
        return Err(missing(0));
    };
    if !real.starts_with(base) {
        return Err(escapes());
    }
    let metadata = std::fs::metadata(&real).map_err(|_| missing(0))?;
    if !metadata.is_file() {
        return Err(missing(0));
    }
    // A second name may stand for a file outside the folder; nothing tells.
    if links(&metadata) > 1 {
        return Err(escapes());
    }
    let found = metadata.len();
    let end = offset.checked_add(length).ok_or_else(|| missing(found))?;
    if end > found || length != bytes {
        return Err(missing(found));
    }
    Ok(Located {
        location: location.to_owned(),
        path: real,
        offset,
    })
}

#[cfg(unix)]
fn links(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn links(_: &std::fs::Metadata) -> u64 {
    1
}
