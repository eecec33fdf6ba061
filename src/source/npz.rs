//! `.npz` archives: a zip of `.npy` arrays.
//!
//! Owns both formats, in both directions. Arrays of Python objects are pickles and are refused.
//!
//! # Source
//! NumPy's format description (`numpy/lib/format.py`, versions 1.0, 2.0 and 3.0).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use super::error::SourceError;
use super::safetensors::{WriteError, byte_count, check_name};
use super::tensors::PRODUCER;
use crate::error::{Context, Result, io_error};
use crate::limits;
use crate::tensor::{DType, NamedTensors, Tensor, num};

const FORMAT: &str = "npz";
const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy pads the header so that the data starts at a multiple of this.
const ALIGNMENT: usize = 64;

/// The type codes that are read, without byte order.
const DTYPES: [(&str, DType); 12] = [
    ("b1", DType::Bool),
    ("u1", DType::U8),
    ("i1", DType::I8),
    ("u2", DType::U16),
    ("i2", DType::I16),
    ("f2", DType::F16),
    ("u4", DType::U32),
    ("i4", DType::I32),
    ("f4", DType::F32),
    ("u8", DType::U64),
    ("i8", DType::I64),
    ("f8", DType::F64),
];

fn archive_error(e: &zip::result::ZipError) -> SourceError {
    SourceError::Archive {
        detail: e.to_string(),
    }
}

fn broken(detail: &str) -> SourceError {
    SourceError::Archive {
        detail: detail.to_owned(),
    }
}

/// Reads every array of the archive.
pub(super) fn read(path: &Path) -> Result<NamedTensors> {
    let file = File::open(path).map_err(io_error("open", path))?;
    read_from(BufReader::new(file))
}

/// As [`read`], from anything that can be read and searched.
pub(super) fn read_from<R: Read + Seek>(input: R) -> Result<NamedTensors> {
    let mut archive = ZipArchive::new(input).map_err(|e| archive_error(&e))?;
    check_archive(&mut archive)?;
    let mut out = BTreeMap::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(|e| archive_error(&e))?;
        let name = member.name().map_err(|e| archive_error(&e))?.into_owned();
        let Some(name) = name.strip_suffix(".npy") else {
            return Err(broken(&format!("member `{name}` is not a `.npy` array")).into());
        };
        check_name(name)?;
        let size = member.size();
        let tensor = read_array(&mut member, size).at_tensor(name)?;
        if out.insert(name.to_owned(), tensor).is_some() {
            return Err(SourceError::DuplicateTensor).at_tensor(name);
        }
    }
    Ok(out)
}

/// Checks what can be known without decompressing anything.
fn check_archive<R: Read + Seek>(archive: &mut ZipArchive<R>) -> Result<(), SourceError> {
    let members = archive.len();
    if members > limits::ARCHIVE_MEMBERS.count() {
        return Err(SourceError::ArchiveSize {
            found: format!("{members} members"),
            cap: limits::ARCHIVE_MEMBERS.to_string(),
        });
    }
    if archive.has_duplicate_names() {
        return Err(SourceError::DuplicateTensor);
    }
    let (mut total, mut packed) = (0u64, 0u64);
    for index in 0..members {
        let member = archive
            .by_index_data(index)
            .map_err(|e| archive_error(&e))?;
        if member.encrypted() {
            return Err(broken("a member is encrypted"));
        }
        let method = member.compression();
        if method != CompressionMethod::Stored && method != CompressionMethod::Deflated {
            return Err(broken(&format!("compression `{method}` is not read")));
        }
        total = total.saturating_add(member.size());
        packed = packed.saturating_add(member.compressed_size());
    }
    if total > limits::ARCHIVE_MEMBER_BYTES.get() {
        return Err(SourceError::ArchiveSize {
            found: format!("{total} bytes"),
            cap: limits::ARCHIVE_MEMBER_BYTES.to_string(),
        });
    }
    let ratio = total / packed.max(1);
    if total > limits::ARCHIVE_RATIO_FROM_BYTES && ratio > limits::ARCHIVE_RATIO.get() {
        return Err(SourceError::ArchiveSize {
            found: format!("{ratio} bytes for each of its compressed bytes"),
            cap: limits::ARCHIVE_RATIO.to_string(),
        });
    }
    if archive
        .has_overlapping_files()
        .map_err(|e| archive_error(&e))?
    {
        return Err(broken("members share bytes"));
    }
    Ok(())
}

/// Whether the archive at `path` was written by [`write`].
pub(super) fn is_ours(path: &Path) -> bool {
    let archive = File::open(path).map(|f| ZipArchive::new(BufReader::new(f)));
    matches!(archive, Ok(Ok(a)) if a.comment() == PRODUCER.as_bytes())
}

/// Reads one array of `size` bytes, header included.
fn read_array(input: &mut dyn Read, size: u64) -> Result<Tensor> {
    let (header, header_bytes) = read_header(input)?;
    let (shape, expected) = byte_count(header.dtype, &header.shape)?;
    if size.checked_sub(header_bytes) != Some(expected) {
        return Err(SourceError::NpyHeader {
            detail: format!(
                "{} of shape {shape:?} needs {expected} bytes, the member has {size} with a header of {header_bytes}",
                header.dtype
            ),
        }
        .into());
    }
    // The size is the archive's claim: memory grows with what really comes out.
    let mut bytes = Vec::new();
    input
        .take(expected.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| broken(&e.to_string()))?;
    if header.fortran_order {
        bytes = row_major(&bytes, &shape, header.dtype.width());
    }
    Ok(Tensor::from_le_bytes(header.dtype, shape, &bytes)?)
}

/// The elements of a column-major array in row-major order.
fn row_major(bytes: &[u8], shape: &[usize], width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0usize; shape.len()];
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = width;
    for &extent in shape {
        strides.push(stride);
        stride = stride.saturating_mul(extent);
    }
    let mut at = 0;
    while let Some(element) = bytes.get(at..at + width) {
        out.extend_from_slice(element);
        // Count up in row-major order: the last axis moves fastest.
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return out;
            }
            axis -= 1;
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    out
}

/// What the header of an array says.
#[derive(Debug, PartialEq, Eq)]
struct NpyHeader {
    dtype: DType,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// Reads the header, and how many bytes it took.
fn read_header(input: &mut dyn Read) -> Result<(NpyHeader, u64), SourceError> {
    let malformed = |detail: &str| SourceError::NpyHeader {
        detail: detail.to_owned(),
    };
    let mut exact = |buffer: &mut [u8]| {
        input
            .read_exact(buffer)
            .map_err(|e| malformed(&e.to_string()))
    };
    let mut start = [0; 8];
    exact(&mut start)?;
    if !start.starts_with(MAGIC) {
        return Err(malformed(
            "the member does not start with NumPy's magic bytes",
        ));
    }
    let (len, prefix) = match start[6..] {
        [1, 0] => {
            let mut len = [0; 2];
            exact(&mut len)?;
            (u64::from(u16::from_le_bytes(len)), 10)
        }
        [2 | 3, 0] => {
            let mut len = [0; 4];
            exact(&mut len)?;
            (u64::from(u32::from_le_bytes(len)), 12)
        }
        _ => {
            return Err(malformed(&format!(
                "expected version 1.0, 2.0 or 3.0, found {}.{}",
                start[6], start[7]
            )));
        }
    };
    if len > limits::NPY_HEADER_BYTES.get() {
        return Err(malformed(&format!(
            "{len} bytes, expected at most {}",
            limits::NPY_HEADER_BYTES
        )));
    }
    let mut text = vec![0; num::usize_of(len)];
    exact(&mut text)?;
    let text = std::str::from_utf8(&text).map_err(|e| malformed(&e.to_string()))?;
    Ok((parse_header(text)?, prefix + len))
}

/// Parses the Python literal of the header: a dictionary with exactly `descr`, `fortran_order` and `shape`.
fn parse_header(text: &str) -> Result<NpyHeader, SourceError> {
    let mut p = Parser { rest: text };
    let (mut dtype, mut fortran_order, mut shape) = (None, None, None);
    p.expect("{")?;
    while !p.accept("}") {
        let key = p.string()?;
        p.expect(":")?;
        let twice = match key {
            "descr" => dtype.replace(parse_descr(&mut p)?).is_some(),
            "fortran_order" => fortran_order.replace(p.truth()?).is_some(),
            "shape" => shape.replace(p.tuple()?).is_some(),
            _ => return Err(p.error(&format!("unknown key `{key}`"))),
        };
        if twice {
            return Err(p.error(&format!("key `{key}` stands twice")));
        }
        if !p.accept(",") {
            p.expect("}")?;
            break;
        }
    }
    if !p.rest.trim().is_empty() {
        return Err(p.error("text after the dictionary"));
    }
    let missing = || p.error("expected the keys `descr`, `fortran_order` and `shape`");
    Ok(NpyHeader {
        dtype: dtype.ok_or_else(missing)?,
        fortran_order: fortran_order.ok_or_else(missing)?,
        shape: shape.ok_or_else(missing)?,
    })
}

fn parse_descr(p: &mut Parser<'_>) -> Result<DType, SourceError> {
    if p.rest.trim_start().starts_with('[') {
        return Err(SourceError::Dtype {
            found: "structured array".to_owned(),
            format: FORMAT,
        });
    }
    let descr = p.string()?;
    let code = descr.strip_prefix(['<', '|', '=', '>']).unwrap_or(descr);
    if code.starts_with('O') {
        return Err(SourceError::UnsafeFormat {
            format: "an array of Python objects (a pickle)",
        });
    }
    let order = descr.strip_suffix(code).unwrap_or_default();
    DTYPES
        .iter()
        .find(|(name, dtype)| *name == code && (order == "<" || order == "|" && dtype.bits() == 8))
        .map(|&(_, dtype)| dtype)
        .ok_or_else(|| SourceError::Dtype {
            found: descr.to_owned(),
            format: FORMAT,
        })
}

/// A reader of the few Python literals that occur.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn error(&self, detail: &str) -> SourceError {
        SourceError::NpyHeader {
            detail: detail.to_owned(),
        }
    }

    fn accept(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), SourceError> {
        if self.accept(token) {
            return Ok(());
        }
        let found: String = self.rest.trim_start().chars().take(16).collect();
        Err(self.error(&format!("expected `{token}`, found `{found}`")))
    }

    /// A string without escapes, in either kind of quotes.
    fn string(&mut self) -> Result<&'a str, SourceError> {
        for quote in ["'", "\""] {
            if self.accept(quote) {
                let rest = self.rest;
                let text = rest
                    .split_once(quote)
                    .filter(|(text, _)| !text.contains('\\'))
                    .ok_or_else(|| self.error("a string without end, or with escapes"))?;
                self.rest = text.1;
                return Ok(text.0);
            }
        }
        Err(self.error("expected a string"))
    }

    fn truth(&mut self) -> Result<bool, SourceError> {
        if self.accept("True") {
            return Ok(true);
        }
        self.expect("False").map(|()| false)
    }

    /// A tuple of non-negative integers.
    fn tuple(&mut self) -> Result<Vec<u64>, SourceError> {
        let mut out = Vec::new();
        self.expect("(")?;
        while !self.accept(")") {
            if out.len() > limits::RANK.count() {
                return Err(self.error("a shape of too many dimensions"));
            }
            self.rest = self.rest.trim_start();
            let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = self.rest.split_at(digits);
            out.push(
                number
                    .parse()
                    .map_err(|_| self.error("expected a dimension of at most 64 bits"))?,
            );
            // Python 2 wrote long integers as `3L`.
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(out)
    }
}

/// Writes `tensors` as an archive: members in the order of their names, stored, without times.
pub(super) fn write<W: Write + Seek>(
    tensors: &NamedTensors,
    out: &mut W,
) -> Result<(), WriteError> {
    let mut archive = ZipWriter::new(out);
    archive.set_comment(PRODUCER).map_err(zip_io)?;
    for (name, tensor) in tensors {
        check_name(name)?;
        let header = npy_header(tensor)?;
        let data = tensor.to_le_bytes();
        let size = num::u64_of(header.len()) + num::u64_of(data.len());
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644)
            .large_file(size >= u64::from(u32::MAX));
        archive
            .start_file(format!("{name}.npy"), options)
            .map_err(zip_io)?;
        archive.write_all(&header)?;
        archive.write_all(&data)?;
    }
    archive.finish().map_err(zip_io)?;
    Ok(())
}

fn zip_io(e: zip::result::ZipError) -> WriteError {
    WriteError::Io(e.into())
}

/// The header of an array, as NumPy writes it: version 1.0, or 2.0 where the shape is too long for it.
fn npy_header(tensor: &Tensor) -> Result<Vec<u8>, SourceError> {
    let dtype = tensor.dtype();
    let (code, _) = DTYPES
        .iter()
        .find(|(_, d)| *d == dtype)
        .ok_or_else(|| SourceError::Dtype {
            found: dtype.name().to_owned(),
            format: FORMAT,
        })?;
    let order = if dtype.bits() == 8 { '|' } else { '<' };
    let shape = match tensor.shape() {
        [one] => format!("({one},)"),
        shape => {
            let parts: Vec<String> = shape.iter().map(usize::to_string).collect();
            format!("({})", parts.join(", "))
        }
    };
    let mut text =
        format!("{{'descr': '{order}{code}', 'fortran_order': False, 'shape': {shape}, }}");
    // Magic, version and length take 10 bytes; limits::RANK.count() extents stay far below the 65,535 bytes of version 1.0.
    let total = (10 + text.len() + 1).next_multiple_of(ALIGNMENT);
    let padding = total - 10 - text.len() - 1;
    text.extend(std::iter::repeat_n(' ', padding));
    text.push('\n');
    let len = u16::try_from(text.len()).map_err(|_| SourceError::TooLarge {
        shape: tensor.shape().iter().map(|&d| num::u64_of(d)).collect(),
    })?;
    let mut header = MAGIC.to_vec();
    header.extend([1, 0]);
    header.extend(len.to_le_bytes());
    header.extend(text.as_bytes());
    Ok(header)
}
