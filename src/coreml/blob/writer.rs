//! Writes the weight file: every offset is known before the first byte is written, so that constants can be written in any order.

use std::collections::BTreeMap;
use std::path::Path;

use super::{ALIGN, BlobError, Record, VERSION, align, code, padding_bits};
use crate::error::{Context, Result};
use crate::ir::{Agreement, Constant, Placed, write_constants};
use crate::limits;
use crate::tensor::{DType, Region, SourceFile, TargetFile, num};

/// How many bytes of a constant are looked at before it is compared as a whole.
const SAMPLE_BYTES: u64 = 64;

/// What must be equal before two constants are compared byte by byte.
type Key = (DType, DType, Vec<usize>, Vec<u8>);

/// The layout of a weight file that is yet to be written.
#[derive(Debug, Default)]
pub(crate) struct BlobPlan {
    entries: Vec<Entry>,
    by_key: BTreeMap<Key, Vec<usize>>,
    end: u64,
}

#[derive(Debug)]
struct Entry {
    constant: Constant,
    code: u32,
    // Offset of the record; the data follows it.
    record: u64,
    bytes: u64,
    padding_bits: u64,
}

impl BlobPlan {
    /// Gives the constant a place and returns the offset of its record. Equal bytes share one place.
    ///
    /// # Errors
    /// When the element type cannot be in a weight file, or the constant cannot be read.
    pub(crate) fn add(&mut self, constant: &Constant) -> Result<u64> {
        let code = code(constant.dtype())?;
        let key = (
            constant.dtype(),
            constant.stored_dtype(),
            constant.shape().to_vec(),
            sample(constant.region())?,
        );
        let candidates = self.by_key.entry(key).or_default();
        for &index in candidates.iter() {
            let other = &self.entries[index];
            if same_bytes(constant, &other.constant).at_tensor(constant.name())? {
                return Ok(other.record);
            }
        }
        let too_large = || BlobError::Bounds {
            start: self.end,
            end: u128::from(self.end) + u128::from(constant.byte_len()),
            len: u64::MAX,
        };
        let record = align(self.end.max(ALIGN)).ok_or_else(too_large)?;
        let end = record
            .checked_add(ALIGN)
            .and_then(|data| data.checked_add(constant.byte_len()))
            .ok_or_else(too_large)?;
        candidates.push(self.entries.len());
        self.entries.push(Entry {
            constant: constant.clone(),
            code,
            record,
            bytes: constant.byte_len(),
            padding_bits: padding_bits(constant.dtype(), num::u64_of(constant.len())),
        });
        self.end = end;
        Ok(record)
    }

    /// Number of blobs.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        align(self.end.max(ALIGN)).unwrap_or(self.end)
    }

    /// Writes the file and tells how many bytes went to disk. Holds at most a chunk per core, and a matrix where one has to be transposed.
    ///
    /// # Errors
    /// When a constant cannot be read or the file cannot be written.
    pub(crate) fn write(&self, path: &Path, progress: &(dyn Fn(u64) + Sync)) -> Result<()> {
        let file = TargetFile::create(path, self.file_bytes())?;
        for (offset, bytes) in self.framing()? {
            file.write_at(offset, &bytes)?;
        }
        write_constants(&file, &self.placed(), progress)
    }

    /// Compares a file with the one that would be written.
    ///
    /// # Errors
    /// When a constant or the file cannot be read.
    pub(crate) fn compare(&self, file: &SourceFile, agreement: &mut Agreement) -> Result<()> {
        for (offset, bytes) in self.framing()? {
            agreement.add_bytes(file, offset, &bytes, "a record of the weight file differs")?;
        }
        // What lies between the data and the next record.
        let ends = self.entries.iter().map(|e| e.record + ALIGN + e.bytes);
        for end in ends {
            let gap = align(end).map_or(0, |next| num::usize_of(next - end));
            agreement.add_bytes(
                file,
                end,
                &vec![0; gap],
                "padding of the weight file differs",
            )?;
        }
        if file.len() != self.file_bytes() {
            agreement.differences.push(format!(
                "the weight file has {} bytes, expected {}",
                file.len(),
                self.file_bytes()
            ));
        }
        agreement.add(file, &self.placed())
    }

    /// What is not data: the header and the records, with their offsets.
    fn framing(&self) -> Result<Vec<(u64, [u8; 64])>> {
        let mut header = [0; 64];
        let count = u32::try_from(self.entries.len()).map_err(|_| BlobError::Count {
            announced: num::u64_of(self.entries.len()),
            room: u64::from(u32::MAX),
        })?;
        header[0..4].copy_from_slice(&count.to_le_bytes());
        header[4..8].copy_from_slice(&VERSION.to_le_bytes());
        let records = self.entries.iter().map(|e| {
            let record = Record::encode(e.code, e.bytes, e.record + ALIGN, e.padding_bits);
            (e.record, record)
        });
        Ok(std::iter::once((0, header)).chain(records).collect())
    }

    fn placed(&self) -> Vec<Placed> {
        let place = |e: &Entry| Placed {
            constant: e.constant.clone(),
            offset: e.record + ALIGN,
        };
        self.entries.iter().map(place).collect()
    }
}

/// A few bytes from the middle: the beginnings of tensors are alike more often.
fn sample(region: &Region) -> Result<Vec<u8>> {
    let n = SAMPLE_BYTES.min(region.len());
    let mut bytes = vec![0; num::usize_of(n)];
    region.read_at((region.len() - n) / 2, &mut bytes)?;
    Ok(bytes)
}

/// Whether two constants of one type are the same bytes: the same by construction, or the same transforms of equal stored bytes.
fn same_bytes(a: &Constant, b: &Constant) -> Result<bool> {
    if a.same_as(b) {
        return Ok(true);
    }
    let (x, y) = (a.region(), b.region());
    if a.is_compressed() || b.is_compressed() {
        return Ok(false);
    }
    if a.transforms() != b.transforms() || x.len() != y.len() {
        return Ok(false);
    }
    let (mut at, mut chunk) = (0, 4096);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    while at < x.len() {
        let n = num::usize_of(num::u64_of(chunk).min(x.len() - at));
        left.resize(n, 0);
        right.resize(n, 0);
        x.read_at(at, &mut left)?;
        y.read_at(at, &mut right)?;
        if left != right {
            return Ok(false);
        }
        at += num::u64_of(n);
        chunk = limits::STREAM_CHUNK_BYTES;
    }
    Ok(true)
}
