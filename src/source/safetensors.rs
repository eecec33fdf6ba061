//! The safetensors header, read strictly: nothing is used before all of it was checked against the file.
//!
//! Owns the format's rules, in both directions. Does not own folders, shards or digests.
//!
//! # Source
//! The format's description (`huggingface/safetensors`, README, "Format"). Stricter than its reader in that names stand once,
//! entries have no other fields, and names have no control characters; laxer in nothing. Data need not be aligned.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::SourceTensor;
use super::error::SourceError;
use crate::error::{Context, Result};
use crate::limits;
use crate::tensor::{DType, FileRegion, SourceFile, Tensor, num};

/// The key that holds text about the file instead of a tensor.
const METADATA: &str = "__metadata__";

/// The kind of file, for messages.
const FORMAT: &str = "safetensors";

/// A checked header.
#[derive(Debug)]
pub(super) struct Header {
    /// Every tensor, by name.
    pub(super) tensors: BTreeMap<String, SourceTensor>,
    /// Text about the file.
    pub(super) metadata: BTreeMap<String, String>,
}

/// The names of the element types in the format.
const DTYPES: [(&str, DType); 15] = [
    ("BOOL", DType::Bool),
    ("U8", DType::U8),
    ("I8", DType::I8),
    ("F8_E4M3", DType::F8E4M3),
    ("F8_E5M2", DType::F8E5M2),
    ("U16", DType::U16),
    ("I16", DType::I16),
    ("F16", DType::F16),
    ("BF16", DType::BF16),
    ("U32", DType::U32),
    ("I32", DType::I32),
    ("F32", DType::F32),
    ("U64", DType::U64),
    ("I64", DType::I64),
    ("F64", DType::F64),
];

/// Reads and checks the header of `file`.
///
/// # Errors
/// When the file is not a safetensors file, is one that could be read in two ways, or has an element type that is not supported.
pub(super) fn read_header(file: &Arc<SourceFile>) -> Result<Header> {
    checked_header(file).at_file(file.path())
}

fn checked_header(file: &Arc<SourceFile>) -> Result<Header> {
    super::sniff::refuse_unsafe(file)?;
    let found = file.len();
    if found < 8 {
        return Err(SourceError::HeaderTruncated { found }.into());
    }
    let mut length = [0; 8];
    file.read_at(0, &mut length)?;
    let header = u64::from_le_bytes(length);
    let available = found - 8;
    if header > available {
        return Err(SourceError::HeaderLength { header, available }.into());
    }
    if header > limits::HEADER_BYTES.get() {
        return Err(SourceError::HeaderCap { header }.into());
    }
    let mut bytes = vec![0; num::usize_of(header)];
    file.read_at(8, &mut bytes)?;
    if bytes.first() != Some(&b'{') {
        return Err(SourceError::HeaderSyntax {
            detail: "expected `{` as its first byte".to_owned(),
        }
        .into());
    }
    let raw: RawHeader = serde_json::from_slice(&bytes).map_err(|e| SourceError::HeaderSyntax {
        detail: e.to_string(),
    })?;
    drop(bytes);

    let data = Data {
        file,
        offset: 8 + header,
        len: available - header,
    };
    let mut tensors = BTreeMap::new();
    for (name, entry) in raw.tensors {
        check_name(&name)?;
        let tensor = data.tensor(&entry).at_tensor(&name)?;
        if tensors.contains_key(&name) {
            return Err(SourceError::DuplicateTensor).at_tensor(&name);
        }
        tensors.insert(name, tensor);
    }
    data.check_cover(&tensors)?;

    let mut metadata = BTreeMap::new();
    for (key, value) in raw.metadata.into_iter().flat_map(|m| m.0) {
        if metadata.contains_key(&key) {
            return Err(SourceError::DuplicateKey { key }.into());
        }
        metadata.insert(key, value);
    }
    Ok(Header { tensors, metadata })
}

/// Names appear in messages, in value names and in other files: they are refused when they would garble those.
pub(super) fn check_name(name: &str) -> Result<(), SourceError> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(SourceError::TensorName {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// The part of the file after the header.
struct Data<'a> {
    file: &'a Arc<SourceFile>,
    offset: u64,
    len: u64,
}

impl Data<'_> {
    /// Checks one entry by itself.
    fn tensor(&self, entry: &Entry) -> Result<SourceTensor, SourceError> {
        let dtype = DTYPES
            .iter()
            .find(|(name, _)| *name == entry.dtype)
            .map(|&(_, dtype)| dtype)
            .ok_or_else(|| SourceError::Dtype {
                found: entry.dtype.clone(),
                format: FORMAT,
            })?;
        let (shape, expected) = byte_count(dtype, &entry.shape.0)?;
        let [begin, end] = entry.data_offsets;
        if end > self.len || begin > end {
            return Err(SourceError::RangeOutside {
                begin,
                end,
                available: self.len,
            });
        }
        if end - begin != expected {
            return Err(SourceError::RangeSize {
                dtype,
                shape,
                expected,
                begin,
                end,
            });
        }
        Ok(SourceTensor {
            dtype,
            shape,
            region: FileRegion {
                file: Arc::clone(self.file),
                offset: self.offset + begin,
                len: expected,
            },
        })
    }

    /// Checks that the tensors cover the data section, each byte once.
    fn check_cover(&self, tensors: &BTreeMap<String, SourceTensor>) -> Result<()> {
        let mut order: Vec<(u64, u64, &str)> = tensors
            .iter()
            .map(|(name, t)| {
                let begin = t.region.offset - self.offset;
                (begin, begin + t.region.len, name.as_str())
            })
            .collect();
        order.sort_unstable();
        let (mut covered, mut before) = (0, "");
        for (begin, end, name) in order {
            if begin < covered {
                return Err(SourceError::Overlap {
                    begin,
                    end,
                    other: before.to_owned(),
                    other_end: covered,
                })
                .at_tensor(name);
            }
            if begin > covered {
                return Err(SourceError::Hole {
                    from: covered,
                    begin,
                })
                .at_tensor(name);
            }
            (covered, before) = (end, name);
        }
        if covered < self.len {
            let count = self.len - covered;
            return Err(SourceError::TrailingBytes { count }.into());
        }
        Ok(())
    }
}

/// The shape and its number of bytes, within the limits.
pub(super) fn byte_count(dtype: DType, shape: &[u64]) -> Result<(Vec<usize>, u64), SourceError> {
    let too_large = || SourceError::TooLarge {
        shape: shape.to_vec(),
    };
    if shape.len() > limits::RANK.count() {
        return Err(too_large());
    }
    // A zero must not hide an absurd extent beside it: the product is bounded without the zeros.
    shape
        .iter()
        .filter(|&&d| d != 0)
        .try_fold(1u64, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= limits::ELEMENTS)
        .ok_or_else(too_large)?;
    let elements = shape.iter().product();
    let bytes = dtype.bytes_for(elements).ok_or_else(too_large)?;
    let shape = shape.iter().map(|&d| num::usize_of(d)).collect();
    Ok((shape, bytes))
}

/// The header as it stands in the file: a list, so that a name that stands twice is seen twice.
#[derive(Default)]
struct RawHeader {
    tensors: Vec<(String, Entry)>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Extents,
    data_offsets: [u64; 2],
}

/// A shape, at most one longer than the highest rank.
struct Extents(Vec<u64>);

struct Metadata(Vec<(String, String)>);

/// Refuses another of `what` when there are as many as any real file has.
fn check_count<E: serde::de::Error>(count: usize, what: &str) -> Result<(), E> {
    if count < limits::TENSORS.count() {
        return Ok(());
    }
    Err(E::custom(format_args!(
        "more {what} than {}",
        limits::TENSORS
    )))
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                while let Some(key) = entries.next_key::<String>()? {
                    if key == METADATA {
                        if header.metadata.is_some() {
                            return Err(A::Error::custom("`__metadata__` stands twice"));
                        }
                        header.metadata = Some(entries.next_value()?);
                    } else {
                        check_count::<A::Error>(header.tensors.len(), "tensors")?;
                        header.tensors.push((key, entries.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

impl<'de> Deserialize<'de> for Extents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ExtentsVisitor;
        impl<'de> Visitor<'de> for ExtentsVisitor {
            type Value = Extents;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a shape: an array of non-negative integers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Extents, A::Error> {
                let mut shape = Vec::new();
                while let Some(extent) = items.next_element()? {
                    if shape.len() > limits::RANK.count() {
                        return Err(A::Error::custom(format_args!(
                            "a shape of rank beyond {}",
                            limits::RANK
                        )));
                    }
                    shape.push(extent);
                }
                Ok(Extents(shape))
            }
        }
        deserializer.deserialize_seq(ExtentsVisitor)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MetadataVisitor;
        impl<'de> Visitor<'de> for MetadataVisitor {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`__metadata__` as an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Metadata, A::Error> {
                let mut out = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    check_count::<A::Error>(out.len(), "metadata entries")?;
                    out.push(entry);
                }
                Ok(Metadata(out))
            }
        }
        deserializer.deserialize_map(MetadataVisitor)
    }
}

/// The header of a file that is yet to be written.
pub(super) struct HeaderBytes<'a, T> {
    /// Length and header, padded.
    pub(super) bytes: Vec<u8>,
    /// The tensors in the order of their data.
    pub(super) order: Vec<&'a T>,
    /// Bytes of data.
    pub(super) len: u64,
}

/// What the header says about a tensor.
pub(super) trait Described {
    /// Element type.
    fn dtype(&self) -> DType;
    /// Shape.
    fn shape(&self) -> &[usize];
}

impl Described for Tensor {
    fn dtype(&self) -> DType {
        Tensor::dtype(self)
    }

    fn shape(&self) -> &[usize] {
        Tensor::shape(self)
    }
}

impl Described for SourceTensor {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }
}

/// The header for `tensors`, wide elements first so that all data is aligned.
///
/// # Errors
/// When a tensor's element type or name does not exist in the format.
pub(super) fn header_bytes<'a, T: Described>(
    tensors: &'a BTreeMap<String, T>,
    metadata: &BTreeMap<String, String>,
) -> Result<HeaderBytes<'a, T>, SourceError> {
    let mut order: Vec<(&String, &T)> = tensors.iter().collect();
    order.sort_by_key(|(_, t)| std::cmp::Reverse(t.dtype().bits()));
    let mut entries = BTreeMap::new();
    if !metadata.is_empty() {
        entries.insert(METADATA, HeaderValue::Metadata(metadata));
    }
    let mut offset = 0;
    for (name, tensor) in &order {
        let dtype = tensor.dtype();
        let (dtype_name, _) =
            DTYPES
                .iter()
                .find(|(_, d)| *d == dtype)
                .ok_or_else(|| SourceError::Dtype {
                    found: dtype.name().to_owned(),
                    format: FORMAT,
                })?;
        if name.as_str() == METADATA {
            return Err(SourceError::TensorName {
                name: (*name).clone(),
            });
        }
        check_name(name)?;
        let shape: Vec<u64> = tensor.shape().iter().map(|&d| num::u64_of(d)).collect();
        let (_, len) = byte_count(dtype, &shape)?;
        entries.insert(
            name,
            HeaderValue::Tensor {
                dtype: dtype_name,
                shape,
                data_offsets: [offset, offset + len],
            },
        );
        offset += len;
    }
    let mut header = serde_json::to_vec(&entries).map_err(|e| SourceError::HeaderSyntax {
        detail: e.to_string(),
    })?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = num::u64_of(header.len()).to_le_bytes().to_vec();
    bytes.extend(header);
    Ok(HeaderBytes {
        bytes,
        order: order.into_iter().map(|(_, tensor)| tensor).collect(),
        len: offset,
    })
}

/// Writes `tensors` in the format; one tensor's bytes are held at a time.
///
/// # Errors
/// When a tensor's element type or name does not exist in the format, or `out` refuses.
pub(super) fn write(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<(), WriteError> {
    let header = header_bytes(tensors, metadata)?;
    out.write_all(&header.bytes)?;
    for tensor in header.order {
        out.write_all(&tensor.to_le_bytes())?;
    }
    Ok(())
}

/// What a key of the header stands for, when written.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum HeaderValue<'a> {
    Metadata(&'a BTreeMap<String, String>),
    Tensor {
        dtype: &'static str,
        shape: Vec<u64>,
        data_offsets: [u64; 2],
    },
}

/// Why tensors could not be written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The format has no place for them.
    Format(SourceError),
    /// The file system refused.
    Io(std::io::Error),
}

impl From<SourceError> for WriteError {
    fn from(e: SourceError) -> Self {
        WriteError::Format(e)
    }
}

impl From<std::io::Error> for WriteError {
    fn from(e: std::io::Error) -> Self {
        WriteError::Io(e)
    }
}
