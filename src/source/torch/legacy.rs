//! The layout before PyTorch 1.6: five pickles in a row (magic number, version, system, the object, the keys of its storages), then the
//! storages, each a count and its elements.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::TorchError;
use super::{Layout, Stored};
use crate::error::{Context, Error, Result, shown};
use crate::source::pickle::{self, Storage, Value};
use crate::source::sniff;
use crate::tensor::{FileRegion, SourceFile};

/// `0x1950a86a20f9469cfc6c`, little endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;

/// Any pickle: whether it is a checkpoint is seen when it is read.
pub(super) fn is_one(start: &[u8]) -> bool {
    sniff::is_pickle(start)
}

fn not_one(found: &str) -> TorchError {
    TorchError::Format {
        found: found.to_owned(),
    }
}

pub(super) fn read(file: &Arc<SourceFile>) -> Result<Layout> {
    let end = file.len();
    let magic = pickle::read(file, 0, end)?;
    if !matches!(&magic.root, Value::Long(bytes) if **bytes == MAGIC) {
        return Err(not_one("a Python pickle of something else").into());
    }
    let version = pickle::read(file, magic.end, end)?;
    if !matches!(version.root, Value::Int(VERSION)) {
        return Err(not_one("a PyTorch file of another version").into());
    }
    let system = pickle::read(file, version.end, end)?;
    let entries = system
        .dict(&system.root)
        .ok_or_else(|| not_one("a PyTorch file without a description of its system"))?;
    for (key, value) in entries {
        let is = |name: &str| matches!(key, Value::Text(k) if k.as_ref() == name);
        if is("little_endian") && !matches!(value, Value::Bool(true)) {
            let found = "big".to_owned();
            return Err(TorchError::ByteOrder { found }.into());
        }
    }
    let object = pickle::read(file, system.end, end)?;
    let keys = pickle::read(file, object.end, end)?;
    let listed = keys
        .list(&keys.root)
        .ok_or_else(|| not_one("a PyTorch file without the list of its storages"))?;

    let mut named: BTreeMap<&str, &Storage> = BTreeMap::new();
    for storage in object.storages() {
        let before = named.insert(&storage.key, storage);
        if before.is_some_and(|b| b != storage.as_ref()) {
            return Err(wrong(storage, "but it is described in two ways").into());
        }
    }
    let mut at = keys.end;
    let mut storages = BTreeMap::new();
    for key in listed {
        let Value::Text(key) = key else {
            return Err(not_one("a PyTorch file with a storage that has no name").into());
        };
        let Some(storage) = named.get(key.as_ref()) else {
            return Err(TorchError::Archive {
                detail: format!("storage `{}` belongs to no tensor", shown(key)),
            })
            .at_offset(at);
        };
        let (stored, next) = stored(file, storage, at).at_offset(at)?;
        if storages.insert(key.to_string(), stored).is_some() {
            return Err(wrong(storage, "but it is listed twice").into());
        }
        at = next;
    }
    if at != end {
        let count = end - at;
        return Err(pickle::PickleError::Trailing { count }).at_offset(at);
    }
    Ok(Layout {
        pickle: object,
        storages,
    })
}

fn wrong(storage: &Storage, found: &str) -> TorchError {
    TorchError::StorageSize {
        key: storage.key.to_string(),
        expected: storage.len.saturating_mul(storage.element.bytes()),
        found: found.to_owned(),
    }
}

/// The storage at `at`: eight bytes of count, then its elements. Gives where it ends, too.
fn stored(file: &Arc<SourceFile>, storage: &Storage, at: u64) -> Result<(Stored, u64)> {
    let missing = || Error::from(wrong(storage, "but the file ends before"));
    let begin = at
        .checked_add(8)
        .filter(|&begin| begin <= file.len())
        .ok_or_else(missing)?;
    let mut count = [0; 8];
    file.read_at(at, &mut count)?;
    let count = u64::from_le_bytes(count);
    if count != storage.len {
        return Err(wrong(storage, &format!("but {count} elements are announced")).into());
    }
    let len = storage
        .len
        .checked_mul(storage.element.bytes())
        .ok_or_else(missing)?;
    let end = begin
        .checked_add(len)
        .filter(|&end| end <= file.len())
        .ok_or_else(missing)?;
    let region = FileRegion {
        file: Arc::clone(file),
        offset: begin,
        len,
    };
    let checksum = None;
    Ok((Stored { region, checksum }, end))
}
