//! Reads the weight file: every record is checked when the file is opened; data stays on disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{ALIGN, BlobError, Record, SENTINEL, VERSION, align, padding_bits, type_name};
use crate::coreml::dtype::BlobType;
use crate::error::{Context, Result};
use crate::limits;
use crate::tensor::{DType, FileRegion, Region, SourceFile, num};

/// An open weight file whose records were checked.
#[derive(Debug)]
pub(crate) struct BlobFile {
    file: Arc<SourceFile>,
    records: BTreeMap<u64, Record>,
}

impl BlobFile {
    /// Checks the header of a file and every record.
    ///
    /// # Errors
    /// When anything about the file contradicts the format.
    pub(crate) fn of(file: Arc<SourceFile>) -> Result<Self> {
        let records = scan(&file).at_file(file.path())?;
        Ok(BlobFile { file, records })
    }

    /// The path it was opened under.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Every record, by its offset.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Every record with its offset, which is how programs refer to it.
    pub(crate) fn at_offsets(&self) -> impl Iterator<Item = (u64, &Record)> {
        self.records
            .iter()
            .map(|(&offset, record)| (offset, record))
    }

    /// The bytes of the blob whose record is at `offset`, which must hold exactly `elements` elements of `dtype`.
    ///
    /// # Errors
    /// When there is no such blob, or it is of another type or size.
    pub(crate) fn region(&self, offset: u64, dtype: DType, elements: u64) -> Result<Region> {
        let fail = |error: BlobError| Err(error).at_offset(offset).at_file(self.path());
        let Some(record) = self.records.get(&offset) else {
            return fail(BlobError::NoBlob { offset });
        };
        if record.ty != BlobType::Known(dtype) {
            return fail(BlobError::TypeMismatch {
                expected: dtype,
                found: type_name(record.ty),
            });
        }
        let expected = dtype.bytes_for(elements).unwrap_or(u64::MAX);
        if record.bytes != expected {
            return fail(BlobError::SizeMismatch {
                expected,
                found: record.bytes,
            });
        }
        let expected = padding_bits(dtype, elements);
        if record.padding_bits != expected {
            return fail(BlobError::Padding {
                expected,
                found: record.padding_bits,
            });
        }
        Ok(Region::File(FileRegion {
            file: Arc::clone(&self.file),
            offset: record.data,
            len: record.bytes,
        }))
    }
}

/// The weight files of a model, by what its program calls them.
#[derive(Debug, Default)]
pub(crate) struct BlobFiles(BTreeMap<String, BlobFile>);

impl BlobFiles {
    /// Adds a file under the name that the program has for it.
    pub(crate) fn insert(&mut self, reference: &str, file: BlobFile) {
        self.0.insert(reference.to_owned(), file);
    }

    /// Every file, with its name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &BlobFile)> {
        self.0.iter().map(|(name, file)| (name.as_str(), file))
    }

    /// The file of this name.
    pub(crate) fn get(&self, reference: &str) -> Option<&BlobFile> {
        self.0.get(reference)
    }
}

fn scan(file: &SourceFile) -> Result<BTreeMap<u64, Record>> {
    let len = file.len();
    if len < ALIGN {
        return Err(BlobError::NoHeader {
            expected: ALIGN,
            found: len,
        }
        .into());
    }
    let header = read64(file, 0)?;
    let found = word(&header, 4);
    if found != VERSION {
        return Err(BlobError::Version {
            expected: VERSION,
            found,
        })
        .at_offset(4);
    }
    let announced = u64::from(word(&header, 0));
    let room = ((len - ALIGN) / ALIGN).min(num::u64_of(limits::TENSORS.count()));
    if announced > room {
        return Err(BlobError::Count { announced, room }).at_offset(0);
    }
    let mut records = BTreeMap::new();
    let mut end = ALIGN;
    for _ in 0..announced {
        let at = align(end).unwrap_or(u64::MAX);
        let record = read_record(file, at).at_offset(at)?;
        end = record.data + record.bytes;
        records.insert(at, record);
    }
    if align(end).is_none_or(|end| end < len) {
        return Err(BlobError::Trailing {
            count: announced,
            end,
            len,
        }
        .into());
    }
    Ok(records)
}

fn read_record(file: &SourceFile, at: u64) -> Result<Record> {
    let len = file.len();
    let outside = |start: u64, bytes: u64| BlobError::Bounds {
        start,
        end: u128::from(start) + u128::from(bytes),
        len,
    };
    let data = at
        .checked_add(ALIGN)
        .filter(|&data| data <= len)
        .ok_or_else(|| outside(at, ALIGN))?;
    let raw = read64(file, at)?;
    let found = word(&raw, 0);
    if found != SENTINEL {
        return Err(BlobError::Sentinel { found }.into());
    }
    let code = word(&raw, 4);
    let ty = BlobType::from_code(code).ok_or(BlobError::Type { code })?;
    let (bytes, found, padding_bits) = (long(&raw, 8), long(&raw, 16), long(&raw, 24));
    if found != data {
        return Err(BlobError::Place {
            expected: data,
            found,
        }
        .into());
    }
    if data.checked_add(bytes).is_none_or(|end| end > len) {
        return Err(outside(data, bytes).into());
    }
    // Whole bytes have no padding; for packed elements the exact figure is checked against the shape.
    let most = if ty.bits() < 8 { 7 } else { 0 };
    if padding_bits > most {
        return Err(BlobError::Padding {
            expected: 0,
            found: padding_bits,
        }
        .into());
    }
    Ok(Record {
        ty,
        bytes,
        data,
        padding_bits,
    })
}

fn read64(file: &SourceFile, at: u64) -> Result<[u8; 64]> {
    let mut raw = [0; 64];
    file.read_at(at, &mut raw)?;
    Ok(raw)
}

fn word(raw: &[u8; 64], at: usize) -> u32 {
    u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]])
}

fn long(raw: &[u8; 64], at: usize) -> u64 {
    u64::from(word(raw, at)) | (u64::from(word(raw, at + 4)) << 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::coreml::blob::BlobPlan;
    use crate::coreml::dtype::blob_code;
    use crate::ir::Constant;
    use crate::tensor::Tensor;

    fn constant(dtype: DType, n: usize, seed: i64) -> Constant {
        let ints: Vec<i64> = (0..n).map(|i| num::i64_of(i) * 7 + seed).collect();
        let tensor = if dtype.is_float() {
            Tensor::i64(vec![n], ints).unwrap().cast(dtype)
        } else {
            Tensor::int(dtype, vec![n], ints).unwrap()
        };
        Constant::from_tensor("w", &tensor).unwrap()
    }

    fn file_of(constants: &[Constant]) -> (tempfile::TempDir, std::path::PathBuf, Vec<u64>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weight.bin");
        let mut plan = BlobPlan::default();
        let offsets = constants.iter().map(|c| plan.add(c).unwrap()).collect();
        plan.write(&path, &|_| {}).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().len() % 64,
            0,
            "the file ends on a boundary"
        );
        (dir, path, offsets)
    }

    fn blob_types() -> Vec<DType> {
        let types: Vec<DType> = DType::ALL
            .into_iter()
            .filter(|&d| blob_code(d).is_some())
            .collect();
        assert_eq!(types.len(), 15);
        types
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(sizes in proptest::collection::vec(1usize..300, 15), seed in 0i64..1000) {
            let constants: Vec<Constant> = blob_types().into_iter().zip(&sizes).map(|(d, &n)| constant(d, n, seed)).collect();
            let (_dir, path, offsets) = file_of(&constants);
            let blobs = BlobFile::of(SourceFile::open(&path).unwrap()).unwrap();
            prop_assert_eq!(blobs.records().count(), constants.len());
            for (c, &offset) in constants.iter().zip(&offsets) {
                let region = blobs.region(offset, c.dtype(), num::u64_of(c.len())).unwrap();
                let read = Constant::from_region("w", c.dtype(), c.shape().to_vec(), region).unwrap();
                prop_assert_eq!(read.read().unwrap(), c.read().unwrap());
            }
        }
    }

    #[test]
    fn equal_bytes_are_written_once_and_large_ones_in_pieces() {
        let big = constant(DType::F16, 1 << 24, 1);
        let again = Constant::from_tensor("other", &big.read().unwrap()).unwrap();
        let wide = big.reshape(vec![4096, 4096]).unwrap();
        let (_dir, path, offsets) =
            file_of(&[big.clone(), again, constant(DType::F16, 5, 2), wide]);
        assert_eq!(offsets[0], offsets[1]);
        let blobs = BlobFile::of(SourceFile::open(&path).unwrap()).unwrap();
        assert_eq!(blobs.records().count(), 3);
        let region = blobs.region(offsets[3], DType::F16, 1 << 24).unwrap();
        assert_eq!(region.read().unwrap(), big.region().read().unwrap());
    }

    #[test]
    fn every_lie_is_refused() {
        let constants = [constant(DType::F16, 40, 0), constant(DType::I4, 3, 1)];
        let (_dir, path, offsets) = file_of(&constants);
        let good = std::fs::read(&path).unwrap();
        let second = num::usize_of(offsets[1]);
        let open = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            edit(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            BlobFile::of(SourceFile::open(&path).unwrap()).map_err(|e| e.to_string())
        };
        type Edit<'a> = &'a dyn Fn(&mut Vec<u8>);
        let cases: [(&str, Edit<'_>); 11] = [
            ("at least 64 bytes", &|b| b.truncate(10)),
            ("version 2 expected, found 1", &|b| b[4] = 1),
            ("announces 4294967295 blobs", &|b| b[0..4].fill(0xff)),
            ("begins with 0xdeadbeef", &|b| b[64] = 0),
            ("unknown blob element type 99", &|b| b[68] = 99),
            ("unknown blob element type 0", &|b| b[68] = 0),
            ("the blob claims bytes", &|b| b[72..80].fill(0xff)),
            ("data expected at byte 128", &|b| b[80] = 64),
            ("unused bits", &|b| b[88] = 1),
            ("the blob claims bytes", &move |b| b.truncate(second + 64)),
            ("announced blobs end at", &|b| b[0] = 1),
        ];
        for (message, edit) in cases {
            let error = open(edit).err().unwrap_or_default();
            assert!(error.contains(message), "{message}: {error}");
        }
        let blobs = open(&|_| {}).unwrap();
        let message = |r: Result<Region>| r.unwrap_err().to_string();
        assert!(message(blobs.region(0, DType::F16, 40)).contains("no blob begins"));
        assert!(message(blobs.region(64, DType::F32, 40)).contains("blob of f32, found f16"));
        assert!(message(blobs.region(64, DType::F16, 41)).contains("82 bytes, found 80"));
        assert!(message(blobs.region(offsets[1], DType::I4, 4)).contains("unused bits"));
    }
}
