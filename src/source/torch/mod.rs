//! PyTorch checkpoints → named tensors, without running anything in them.
//!
//! Owns the two layouts (the zip archive since PyTorch 1.6 and the stacked pickles before), which part of a checkpoint is the model, the
//! names without the prefixes of wrappers, and views into storages. The pickle itself is read by `pickle`.
//!
//! # Source
//! `torch/serialization.py` and `caffe2/serialize/inline_container.cc` of PyTorch 2.9.

mod archive;
mod cover;
mod error;
mod legacy;
mod state;
mod view;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

pub use error::TorchError;

use super::SourceTensor;
use super::pickle::{self, Pickle};
use crate::error::{Context, Result, shown};
use crate::limits;
use crate::tensor::{FileRegion, SourceFile, num};

/// File, by its address, first byte and number of bytes.
pub(super) type Place = (usize, u64, u64);

/// Where a region is: regions of one place are the same bytes.
pub(super) fn place(region: &FileRegion) -> Place {
    (Arc::as_ptr(&region.file).addr(), region.offset, region.len)
}

/// The bytes of a storage.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Where they lie.
    region: FileRegion,
    /// Name and CRC-32, where the layout has one.
    checksum: Option<(String, u32)>,
}

impl Stored {
    /// Where its bytes are.
    pub(super) fn place(&self) -> Place {
        place(&self.region)
    }

    /// Compares a CRC-32 of its bytes with its checksum, if there is one.
    ///
    /// # Errors
    /// When they differ.
    pub(super) fn compare(&self, found: u32) -> Result<()> {
        match &self.checksum {
            Some((name, expected)) if *expected != found => Err(TorchError::Checksum {
                name: name.clone(),
                expected: *expected,
                found,
            })
            .at_file(self.region.file.path()),
            Some(_) | None => Ok(()),
        }
    }

    /// Compares the bytes with their checksum, if there is one.
    ///
    /// # Errors
    /// When they differ, or cannot be read.
    pub(super) fn check(&self) -> Result<()> {
        match &self.checksum {
            Some((name, crc)) => archive::check(name, &self.region, *crc),
            None => Ok(()),
        }
    }
}

/// A checkpoint that was read.
#[derive(Debug, Default)]
pub(super) struct TorchFile {
    /// The tensors of the model.
    pub(super) tensors: BTreeMap<String, SourceTensor>,
    /// Its `config`, if there is one, or why it cannot be used: an error only when it is needed.
    pub(super) config: Option<Result<Map<String, Json>, TorchError>>,
    /// What the user should know: what was left out, which prefixes were taken off.
    pub(super) notes: Vec<String>,
    /// The storages of the model.
    pub(super) storages: Vec<Stored>,
}

/// A layout that was taken apart.
struct Layout {
    pickle: Pickle,
    storages: BTreeMap<String, Stored>,
}

/// Whether the file starts like one of the layouts. Names mean nothing.
pub(super) fn looks_like_one(file: &SourceFile) -> Result<bool> {
    let start = start(file)?;
    Ok(archive::is_one(&start) || legacy::is_one(&start))
}

fn start(file: &SourceFile) -> Result<Vec<u8>> {
    let mut start = vec![0; num::usize_of(file.len().min(16))];
    file.read_at(0, &mut start)?;
    Ok(start)
}

/// Reads the checkpoint. Nothing of it is used unless all of its pickle is plain data.
///
/// # Errors
/// When it is of another kind, asks for anything that is not on the list, is malformed, or holds no model.
pub(super) fn read(file: &Arc<SourceFile>) -> Result<TorchFile> {
    read_parts(file).at_file(file.path())
}

fn read_parts(file: &Arc<SourceFile>) -> Result<TorchFile> {
    let start = start(file)?;
    let layout = if archive::is_one(&start) {
        archive::read(file)?
    } else if legacy::is_one(&start) {
        legacy::read(file)?
    } else {
        let found = foreign(&start);
        if found.is_none() && pickle::is_text(file) {
            // Always refused, and then its message says what it asks for.
            pickle::read(file, 0, file.len())?;
        }
        return Err(TorchError::Format {
            found: found.unwrap_or("of no known kind").to_owned(),
        }
        .into());
    };
    let state = state::find(&layout.pickle)?;
    let mut views = view::Views::default();
    let mut tensors = BTreeMap::new();
    let mut used: BTreeMap<Rc<str>, Stored> = BTreeMap::new();
    for (name, tensor) in state.tensors {
        let storage = &tensor.storage;
        let stored = layout.storages.get(storage.key.as_ref());
        let stored = stored
            .ok_or_else(|| TorchError::StorageSize {
                key: shown(&storage.key),
                expected: storage.len.saturating_mul(storage.element.bytes()),
                found: "but it is not in the file".to_owned(),
            })
            .at_tensor(&name)?;
        if !used.contains_key(&storage.key) {
            used.insert(Rc::clone(&storage.key), stored.clone());
        }
        let resolved = view::resolve(&tensor, stored, &mut views).at_tensor(&name)?;
        tensors.insert(name, resolved);
    }
    let storages: Vec<Stored> = used.into_values().collect();
    check_repeated(&tensors, &storages)?;
    let mut notes = state.notes;
    notes.extend(shared(&tensors));
    Ok(TorchFile {
        tensors,
        config: state.config,
        notes,
        storages,
    })
}

/// Refuses tensors that repeat the bytes of the file beyond all measure. Tied weights double them at most.
fn check_repeated(tensors: &BTreeMap<String, SourceTensor>, storages: &[Stored]) -> Result<()> {
    let sum = |lens: &mut dyn Iterator<Item = u64>| lens.fold(0u64, u64::saturating_add);
    let stored = sum(&mut storages.iter().map(|s| s.region.len));
    let all = sum(&mut tensors.values().map(|t| t.region.len));
    let bytes = all.saturating_sub(stored);
    if bytes > stored.max(limits::REPEATED_BYTES.get()) {
        return Err(TorchError::Expanded { bytes, stored }.into());
    }
    Ok(())
}

/// Finds the model in a pickle, for the readers on bytes.
///
/// # Errors
/// As [`read`].
pub(super) fn find(pickle: &Pickle) -> Result<()> {
    state::find(pickle).map(|_| ())
}

/// What another kind of file is, if its first bytes say so.
fn foreign(start: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 8] = [
        (b"PK", "a zip archive without a first member"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"\x1f\x8b", "compressed with gzip"),
        (b"BZh", "compressed with bzip2"),
        (b"\xfd7zXZ", "compressed with xz"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"\x80", "a Python pickle of a protocol that is not read"),
    ];
    let kind = KINDS.iter().find(|(magic, _)| start.starts_with(magic));
    kind.map(|(_, kind)| *kind)
}

/// A note on tensors that are the same bytes, as tied weights are.
fn shared(tensors: &BTreeMap<String, SourceTensor>) -> Option<String> {
    let mut seen: BTreeMap<_, &String> = BTreeMap::new();
    let mut pairs = Vec::new();
    for (name, t) in tensors {
        if t.region.len == 0 {
            continue;
        }
        let place = place(&t.region);
        if let Some(first) = seen.get(&place) {
            pairs.push(format!("`{}` = `{}`", shown(name), shown(first)));
        } else {
            seen.insert(place, name);
        }
    }
    (!pairs.is_empty()).then(|| format!("tensors that share their bytes: {}", listed(&pairs)))
}

/// The first few of a list, and how many more there are.
fn listed(items: &[String]) -> String {
    const LISTED: usize = 12;
    match items.len().checked_sub(LISTED) {
        None | Some(0) => items.join(", "),
        Some(more) => format!("{} and {more} more", items[..LISTED].join(", ")),
    }
}
