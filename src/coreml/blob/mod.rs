//! The weight file (`weight.bin`, "blob storage" version 2): records of 64 bytes, each followed by its data, everything on 64-byte boundaries.
//!
//! # Source
//! `mlmodel/src/MILBlob/Blob/StorageFormat.hpp` of coremltools 9.0.

mod reader;
mod writer;

pub(crate) use reader::{BlobFile, BlobFiles};
pub(crate) use writer::BlobPlan;

use super::dtype::{self, BlobType};
use crate::error::{Class, Diagnostic};
use crate::tensor::DType;

/// Boundary of every record and of all data, and the size of a record.
const ALIGN: u64 = 64;
/// First word of a record.
const SENTINEL: u32 = 0xDEAD_BEEF;
/// Version of the format; version 1 belongs to neural-network models.
const VERSION: u32 = 2;

/// The next 64-byte boundary.
fn align(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(ALIGN)
}

/// A record: what lies where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Element type.
    pub(crate) ty: BlobType,
    /// Bytes of data.
    pub(crate) bytes: u64,
    /// Where the data begins.
    pub(crate) data: u64,
    /// Unused bits of the last byte.
    pub(crate) padding_bits: u64,
}

impl Record {
    fn encode(code: u32, bytes: u64, data: u64, padding_bits: u64) -> [u8; 64] {
        let mut out = [0; 64];
        out[0..4].copy_from_slice(&SENTINEL.to_le_bytes());
        out[4..8].copy_from_slice(&code.to_le_bytes());
        out[8..16].copy_from_slice(&bytes.to_le_bytes());
        out[16..24].copy_from_slice(&data.to_le_bytes());
        out[24..32].copy_from_slice(&padding_bits.to_le_bytes());
        out
    }
}

/// Bits left unused in the last byte of `elements` packed elements.
fn padding_bits(dtype: DType, elements: u64) -> u64 {
    let bits = (elements % 8) * u64::from(dtype.bits());
    (8 - bits % 8) % 8
}

/// What can be wrong with a weight file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The file is too short for a header.
    #[error("a weight file has at least {expected} bytes, found {found}")]
    NoHeader {
        /// Bytes of a header.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// A version other than 2.
    #[error("weight file version {expected} expected, found {found}")]
    Version {
        /// The version that is read.
        expected: u32,
        /// The version found.
        found: u32,
    },
    /// More records than the file can hold.
    #[error("the header announces {announced} blobs, the file has room for at most {room}")]
    Count {
        /// In the header.
        announced: u64,
        /// Possible.
        room: u64,
    },
    /// A record that does not begin with the sentinel.
    #[error("a blob record begins with 0xdeadbeef, found {found:#010x}")]
    Sentinel {
        /// What is there.
        found: u32,
    },
    /// An unknown element type.
    #[error("unknown blob element type {code}")]
    Type {
        /// The code.
        code: u32,
    },
    /// Data that leaves the file or overlaps its record.
    #[error("the blob claims bytes {start}..{end} of a file of {len} bytes")]
    Bounds {
        /// First byte.
        start: u64,
        /// One past the last.
        end: u128,
        /// Length of the file.
        len: u64,
    },
    /// Data that does not follow its record.
    #[error("blob data expected at byte {expected}, found at {found}")]
    Place {
        /// Right after the record.
        expected: u64,
        /// In the record.
        found: u64,
    },
    /// Padding that contradicts the element type.
    #[error("{found} unused bits in the last byte expected to be {expected}")]
    Padding {
        /// From type and size.
        expected: u64,
        /// In the record.
        found: u64,
    },
    /// Bytes after the last blob.
    #[error("the {count} announced blobs end at byte {end}, the file has {len} bytes")]
    Trailing {
        /// In the header.
        count: u64,
        /// End of the last blob.
        end: u64,
        /// Length of the file.
        len: u64,
    },
    /// A reference to no blob.
    #[error("no blob begins at byte {offset}")]
    NoBlob {
        /// The reference.
        offset: u64,
    },
    /// A blob of another element type than the program says.
    #[error("the program expects a blob of {expected}, found {found}")]
    TypeMismatch {
        /// In the program.
        expected: DType,
        /// In the file.
        found: String,
    },
    /// A blob of another size than the program says.
    #[error("the program expects a blob of {expected} bytes, found {found}")]
    SizeMismatch {
        /// In the program.
        expected: u64,
        /// In the file.
        found: u64,
    },
    /// An element type that weight files do not have.
    #[error("weight files cannot hold {dtype}")]
    NoBlobType {
        /// The element type.
        dtype: DType,
    },
}

impl Diagnostic for BlobError {
    fn class(&self) -> Class {
        match self {
            BlobError::NoBlobType { .. } => Class::Unsupported,
            BlobError::NoHeader { .. }
            | BlobError::Version { .. }
            | BlobError::Count { .. }
            | BlobError::Sentinel { .. }
            | BlobError::Type { .. }
            | BlobError::Bounds { .. }
            | BlobError::Place { .. }
            | BlobError::Padding { .. }
            | BlobError::Trailing { .. }
            | BlobError::NoBlob { .. }
            | BlobError::TypeMismatch { .. }
            | BlobError::SizeMismatch { .. } => Class::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        "bad_weight_file"
    }

    fn hint(&self) -> Option<String> {
        match self {
            BlobError::Bounds { .. } | BlobError::NoHeader { .. } => {
                Some("the file looks truncated; copy the package again".to_owned())
            }
            BlobError::Version { found: 1, .. } => {
                Some("version 1 belongs to neural-network models, which are not read".to_owned())
            }
            BlobError::Version { .. }
            | BlobError::Count { .. }
            | BlobError::Sentinel { .. }
            | BlobError::Type { .. }
            | BlobError::Place { .. }
            | BlobError::Padding { .. }
            | BlobError::Trailing { .. }
            | BlobError::NoBlob { .. }
            | BlobError::TypeMismatch { .. }
            | BlobError::SizeMismatch { .. }
            | BlobError::NoBlobType { .. } => None,
        }
    }
}

/// The name of a blob's element type.
fn type_name(ty: BlobType) -> String {
    match ty {
        BlobType::Known(dtype) => dtype.name().to_owned(),
        BlobType::Float8 => "an 8-bit float".to_owned(),
    }
}

/// The code of an element type.
fn code(dtype: DType) -> Result<u32, BlobError> {
    dtype::blob_code(dtype).ok_or(BlobError::NoBlobType { dtype })
}
