//! The zip layout: `NAME/data.pkl`, and one stored member `NAME/data/KEY` per storage.
//!
//! Every member must be one that PyTorch writes, stored without compression, once, and described alike in both of its headers: an archive
//! that two readers could understand differently is refused.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use zip::{CompressionMethod, ZipArchive};

use super::cover::{self, Place};
use super::error::TorchError;
use super::{Layout, Stored};
use crate::error::{Context, Result, shown};
use crate::limits;
use crate::source::pickle::{self, Pickle};
use crate::tensor::{FileRegion, SourceFile, num};

const PICKLE: &str = "data.pkl";
const BYTE_ORDER: &str = "byteorder";
/// Members beside the pickle, the storages and the byte order. None of them changes what the tensors are.
const KNOWN: [&str; 4] = [
    "version",
    ".data/serialization_id",
    ".format_version",
    ".storage_alignment",
];
/// Bytes read at once for a checksum.
const CHUNK: usize = 1 << 20;

pub(super) fn is_one(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04")
}

/// Reads a file by position as zip's reader wants it.
struct Cursor {
    file: Arc<SourceFile>,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = num::usize_of(self.file.len().saturating_sub(self.at)).min(buffer.len());
        self.file
            .read_at(self.at, &mut buffer[..n])
            .map_err(|e| std::io::Error::other(e.to_string()))?;
        self.at += num::u64_of(n);
        Ok(n)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let target = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(n) => self.file.len().checked_add_signed(n),
            SeekFrom::Current(n) => self.at.checked_add_signed(n),
        };
        self.at = target.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

pub(super) fn malformed(detail: impl Into<String>) -> TorchError {
    TorchError::Archive {
        detail: detail.into(),
    }
}

/// A stored member.
struct Member {
    region: FileRegion,
    crc: u32,
    /// Whether the region holds the member as it is.
    stored: bool,
}

pub(super) fn read(file: &Arc<SourceFile>) -> Result<Layout> {
    let members = members(file)?;
    let root = root(&members)?;
    let mut pickle = None;
    let mut storages = BTreeMap::new();
    for (name, member) in &members {
        let unknown = || TorchError::Member { name: shown(name) };
        let inner = name.strip_prefix(&root).ok_or_else(unknown)?;
        if !member.stored {
            return Err(malformed(format!(
                "member `{}` is compressed; PyTorch stores",
                shown(name)
            ))
            .into());
        }
        if inner == PICKLE {
            pickle = Some(read_pickle(file, name, member)?);
        } else if let Some(key) = inner.strip_prefix("data/") {
            if key.is_empty() || key.contains('/') {
                return Err(unknown().into());
            }
            let stored = Stored {
                region: member.region.clone(),
                checksum: Some((name.clone(), member.crc)),
            };
            storages.insert(key.to_owned(), stored);
        } else if inner == BYTE_ORDER {
            let order = read_small(member)?;
            if order != b"little" {
                let found = String::from_utf8_lossy(&order).into_owned();
                return Err(TorchError::ByteOrder { found }.into());
            }
        } else if !KNOWN.contains(&inner) {
            return Err(unknown().into());
        }
    }
    let pickle = pickle.ok_or_else(|| malformed("it has no `data.pkl`"))?;
    for storage in pickle.storages() {
        let Some(stored) = storages.get(storage.key.as_ref()) else {
            // An error only when a tensor of the model needs it.
            continue;
        };
        let expected = storage.len.saturating_mul(storage.element.bytes());
        if stored.region.len != expected {
            return Err(TorchError::StorageSize {
                key: storage.key.to_string(),
                expected,
                found: format!("the archive has {}", stored.region.len),
            }
            .into());
        }
    }
    Ok(Layout { pickle, storages })
}

/// The folder that everything is in: whatever stands before `data.pkl`.
fn root(members: &BTreeMap<String, Member>) -> Result<String, TorchError> {
    let mut roots = members.keys().filter_map(|n| n.strip_suffix(PICKLE));
    let (Some(root), None) = (roots.next(), roots.next()) else {
        return Err(malformed("expected exactly one `NAME/data.pkl`"));
    };
    let folder = root.strip_suffix('/');
    let plain = |f: &str| {
        !matches!(f, "" | "." | "..")
            && !f.contains(['/', '\\'])
            && !f.chars().any(char::is_control)
    };
    if !folder.is_some_and(plain) {
        return Err(malformed("expected `data.pkl` in one folder"));
    }
    let is_program = |n: &str| n == "constants.pkl" || n.starts_with("code/");
    let mut inner = members.keys().filter_map(|n| n.strip_prefix(root));
    if inner.any(is_program) {
        return Err(TorchError::Format {
            found: "a TorchScript program".to_owned(),
        });
    }
    Ok(root.to_owned())
}

/// All members, after every check that needs no content.
fn members(file: &Arc<SourceFile>) -> Result<BTreeMap<String, Member>> {
    let fail = |e: zip::result::ZipError| malformed(e.to_string());
    let cursor = Cursor {
        file: Arc::clone(file),
        at: 0,
    };
    let mut archive = ZipArchive::new(BufReader::new(cursor)).map_err(fail)?;
    if archive.len() > limits::ARCHIVE_MEMBERS.count() {
        return Err(malformed(format!(
            "{} members, expected at most {}",
            archive.len(),
            limits::ARCHIVE_MEMBERS
        ))
        .into());
    }
    if archive.offset() != 0 {
        return Err(malformed("bytes stand before the archive").into());
    }
    let mut out = BTreeMap::new();
    let mut places = Vec::new();
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(fail)?;
        let name = member.name().map_err(fail)?.into_owned();
        if member.encrypted() {
            return Err(malformed(format!("member `{}` is encrypted", shown(&name))).into());
        }
        let size = member.size();
        let stored =
            member.compression() == CompressionMethod::Stored && member.compressed_size() == size;
        let offset = member
            .data_start()
            .ok_or_else(|| malformed(format!("member `{}` has no data", shown(&name))))?;
        if stored && offset.checked_add(size).is_none_or(|end| end > file.len()) {
            return Err(malformed(format!("member `{}` leaves the file", shown(&name))).into());
        }
        places.push(Place {
            name: name.clone(),
            header: member.header_start(),
            listed: member.central_header_start(),
            data: offset,
            len: member.compressed_size(),
            size,
            crc: member.crc32(),
        });
        let entry = Member {
            region: FileRegion {
                file: Arc::clone(file),
                offset,
                len: size,
            },
            crc: member.crc32(),
            stored,
        };
        if out.insert(name.clone(), entry).is_some() {
            return Err(malformed(format!("two members are named `{}`", shown(&name))).into());
        }
    }
    // Both headers of a member must agree, none may hide from the directory, and none may share bytes.
    archive.validate_header_consistency().map_err(fail)?;
    cover::check(file, places, archive.central_directory_start())?;
    Ok(out)
}

fn read_small(member: &Member) -> Result<Vec<u8>> {
    let region = &member.region;
    if region.len > limits::ARCHIVE_SMALL_BYTES {
        return Err(malformed("a small member is large").into());
    }
    let mut bytes = vec![0; num::usize_of(region.len)];
    region.file.read_at(region.offset, &mut bytes)?;
    Ok(bytes)
}

fn read_pickle(file: &SourceFile, name: &str, member: &Member) -> Result<Pickle> {
    let region = &member.region;
    if region.len > limits::PICKLE_BYTES.get() {
        return Err(malformed(format!(
            "`{}` has {} bytes, expected at most {}",
            shown(name),
            region.len,
            limits::PICKLE_BYTES
        ))
        .into());
    }
    let end = region.offset + region.len;
    let pickle = pickle::read(file, region.offset, end)?;
    if pickle.end != end {
        let count = end - pickle.end;
        return Err(pickle::PickleError::Trailing { count }).at_offset(pickle.end);
    }
    check(name, region, member.crc)?;
    Ok(pickle)
}

/// Compares a region with its checksum.
pub(super) fn check(name: &str, region: &FileRegion, expected: u32) -> Result<()> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; CHUNK.min(num::usize_of(region.len))];
    let mut at = 0;
    while at < region.len {
        let n = num::usize_of(region.len - at).min(buffer.len());
        region.file.read_at(region.offset + at, &mut buffer[..n])?;
        hasher.update(&buffer[..n]);
        at += num::u64_of(n);
    }
    let found = hasher.finalize();
    if found == expected {
        return Ok(());
    }
    Err(TorchError::Checksum {
        name: name.to_owned(),
        expected,
        found,
    })
    .at_file(region.file.path())
}
