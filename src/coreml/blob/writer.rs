//! Writes the weight file: every offset is known before the first byte is written, so that constants can be written in any order.

use std::collections::BTreeMap;
use std::path::Path;

use super::{ALIGN, BlobError, Record, VERSION, align, code, padding_bits};
use crate::error::{Context, Result};
use crate::ir::{Constant, Placed, write_constants};
use crate::limits;
use crate::tensor::{DType, Region, TargetFile, num};

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
        let put = |offset: u64, bytes: &[u8]| file.write_at(offset, bytes);
        let mut header = [0; 64];
        let count = u32::try_from(self.entries.len()).map_err(|_| BlobError::Count {
            announced: num::u64_of(self.entries.len()),
            room: u64::from(u32::MAX),
        })?;
        header[0..4].copy_from_slice(&count.to_le_bytes());
        header[4..8].copy_from_slice(&VERSION.to_le_bytes());
        put(0, &header)?;
        for e in &self.entries {
            let data = e.record + ALIGN;
            put(
                e.record,
                &Record::encode(e.code, e.bytes, data, e.padding_bits),
            )?;
        }
        let place = |e: &Entry| Placed {
            constant: e.constant.clone(),
            offset: e.record + ALIGN,
        };
        let constants: Vec<Placed> = self.entries.iter().map(place).collect();
        write_constants(&file, &constants, progress)
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
