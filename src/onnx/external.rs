//! External data: files beside the model, opened once each, confined to the model's folder, and checked for their length.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::error::OnnxError;
use super::proto::TensorProto;
use crate::limits;
use crate::tensor::{FileRegion, SourceFile, num};

/// The files beside a model.
#[derive(Debug)]
pub(crate) struct Beside {
    folder: PathBuf,
    files: BTreeMap<PathBuf, Arc<SourceFile>>,
}

/// What the format knows about a place. Its `checksum`, which no known writer writes, is not among them: it would have to be compared.
const KEYS: [&str; 3] = ["location", "offset", "length"];

impl Beside {
    /// The files in the model's folder.
    pub(crate) fn new(folder: &Path) -> Self {
        // An empty parent means the current folder.
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        Beside {
            folder: folder.to_path_buf(),
            files: BTreeMap::new(),
        }
    }

    /// The names of the files that were found so far, as the model says them.
    pub(crate) fn locations(&self) -> impl Iterator<Item = String> {
        self.files.keys().map(|path| path.display().to_string())
    }

    /// Finds the external data of a tensor that needs `bytes` bytes.
    ///
    /// # Errors
    /// When the location leaves the folder (absolute, `..`, a link), the file does not hold the bytes, or something else than a place is said.
    pub(crate) fn find(
        &mut self,
        tensor: &TensorProto,
        bytes: u64,
    ) -> Result<FileRegion, OnnxError> {
        let malformed = |reason: String| OnnxError::Malformed { reason };
        let mut said = BTreeMap::new();
        for entry in &tensor.external_data {
            let key = entry.key.as_deref().unwrap_or_default();
            if !KEYS.contains(&key) {
                return Err(malformed(format!("external data with the key `{key}`")));
            }
            if said.insert(key, entry.value.as_deref()).is_some() {
                return Err(malformed(format!("external data with two keys `{key}`")));
            }
        }
        let value = |key: &str| said.get(key).copied().flatten();
        let number = |key: &str, default: u64| match value(key) {
            None => Ok(default),
            Some(text) => text
                .parse::<u64>()
                .map_err(|_| malformed(format!("external data with the {key} `{text}`"))),
        };
        let location = value("location")
            .ok_or_else(|| malformed("external data without a location".into()))?;
        let (offset, length) = (number("offset", 0)?, number("length", bytes)?);
        let missing = |found: u64| OnnxError::ExternalData {
            location: location.to_owned(),
            tensor: tensor.name.clone().unwrap_or_default(),
            expected: offset.saturating_add(length),
            found,
        };
        let file = self.open(location, missing(0))?;
        let end = offset
            .checked_add(length)
            .ok_or_else(|| missing(file.len()))?;
        if end > file.len() || length != bytes {
            return Err(missing(file.len()));
        }
        Ok(FileRegion {
            file,
            offset,
            len: length,
        })
    }

    fn open(&mut self, location: &str, missing: OnnxError) -> Result<Arc<SourceFile>, OnnxError> {
        let escapes = || OnnxError::ExternalPath {
            location: location.to_owned(),
        };
        let mut path = PathBuf::new();
        for component in Path::new(location).components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::CurDir => {}
                Component::Prefix(_) | Component::RootDir | Component::ParentDir => {
                    return Err(escapes());
                }
            }
        }
        if path.as_os_str().is_empty() || location.contains(['\\', ':', '\0']) {
            return Err(escapes());
        }
        if let Some(file) = self.files.get(&path) {
            return Ok(Arc::clone(file));
        }
        let file = SourceFile::open_inside(&self.folder, &path).map_err(|e| {
            if SourceFile::leads_out(&e) {
                escapes()
            } else {
                missing
            }
        })?;
        // A second name may stand for a file outside the folder; nothing tells.
        if file.names() > 1 {
            return Err(escapes());
        }
        let sizes = self.files.values().map(|f| f.len());
        let total = sizes.fold(file.len(), u64::saturating_add);
        if total > limits::READ_BYTES.get() {
            return Err(OnnxError::ExternalSize { found: total });
        }
        self.files.insert(path, Arc::clone(&file));
        Ok(file)
    }
}

/// Reads a tensor message and finds its external data: for [`crate::readers`].
///
/// # Errors
/// As [`Beside::find`], and when the bytes are no message of a tensor of bytes.
pub(super) fn find_of_bytes(bytes: &[u8], folder: &Path) -> Result<FileRegion, OnnxError> {
    use prost::Message;
    let malformed = |reason: String| OnnxError::Malformed { reason };
    let tensor = TensorProto::decode(bytes).map_err(|e| malformed(e.to_string()))?;
    let dims = || format!("a tensor of shape {:?}", tensor.dims);
    let bytes = tensor
        .dims
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?))
        .filter(|&n| num::usize_of(n) < usize::MAX)
        .ok_or_else(|| malformed(dims()))?;
    Beside::new(folder).find(&tensor, bytes)
}
