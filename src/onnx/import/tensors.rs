//! Tensors of the file → constants. Raw and external bytes stay where they are; typed fields are packed into small buffers.

use std::path::Path;

use prost::Message;

use super::entry::Code;
use super::error::OnnxImportError;
use crate::error::{Context, Result};
use crate::ir::Constant;
use crate::limits;
use crate::onnx::external::Beside;
use crate::onnx::proto::tensor_proto::{DataLocation, DataType};
use crate::onnx::proto::{SparseTensorProto, TensorProto};
use crate::onnx::types::data_type_name;
use crate::tensor::{DType, FileRegion, Region, Storage, Tensor, num};

/// Opens the files that hold external data, each once.
#[derive(Debug)]
pub(super) struct Loader {
    beside: Beside,
}

/// A constant, with the code that its bytes are in if nothing computes with its element type.
pub(super) type Stored = (Constant, Option<Code>);

/// Our element type for one of the format, with the code if it has to travel as one.
pub(super) fn element_type(number: i32) -> Result<(DType, Option<Code>), OnnxImportError> {
    let plain = |dtype| Ok((dtype, None));
    let coded = |code| Ok((DType::U8, Some(code)));
    match DataType::try_from(number) {
        Ok(DataType::Float) => plain(DType::F32),
        Ok(DataType::Uint8) => plain(DType::U8),
        Ok(DataType::Int8) => plain(DType::I8),
        Ok(DataType::Uint16) => plain(DType::U16),
        Ok(DataType::Int16) => plain(DType::I16),
        Ok(DataType::Int32) => plain(DType::I32),
        Ok(DataType::Int64) => plain(DType::I64),
        Ok(DataType::Bool) => plain(DType::Bool),
        Ok(DataType::Float16) => plain(DType::F16),
        Ok(DataType::Double) => plain(DType::F64),
        Ok(DataType::Uint32) => plain(DType::U32),
        Ok(DataType::Uint64) => plain(DType::U64),
        Ok(DataType::Bfloat16) => plain(DType::BF16),
        Ok(DataType::Uint4) => plain(DType::U4),
        Ok(DataType::Int4) => plain(DType::I4),
        Ok(DataType::Float8e4m3fn) => coded(Code::E4M3Fn),
        Ok(DataType::Float8e4m3fnuz) => coded(Code::E4M3FnUz),
        Ok(DataType::Float8e5m2) => coded(Code::E5M2),
        Ok(DataType::Float8e5m2fnuz) => coded(Code::E5M2FnUz),
        Ok(DataType::Float4e2m1) => coded(Code::E2M1),
        Ok(DataType::Float8e8m0) => coded(Code::E8M0),
        Ok(DataType::Undefined | DataType::String | DataType::Complex64 | DataType::Complex128)
        | Err(_) => Err(OnnxImportError::ElementType {
            found: data_type_name(number),
        }),
    }
}

/// Reads a tensor that was saved on its own, as the cases of ONNX's test suite are; gives its name too. Elements of small floating-point types
/// are given as their codes.
///
/// # Errors
/// When the file is not a tensor.
pub fn read_tensor(path: &Path) -> Result<(String, Tensor)> {
    let malformed = |reason: String| OnnxImportError::Tensor { reason };
    let length = std::fs::metadata(path)
        .map_err(crate::error::io_error("open", path))?
        .len();
    if length > limits::PROTO_BYTES {
        return Err(malformed(format!("{length} bytes"))).at_file(path);
    }
    let bytes = std::fs::read(path).map_err(crate::error::io_error("read", path))?;
    let tensor = TensorProto::decode(bytes.as_slice())
        .map_err(|e| malformed(e.to_string()))
        .at_file(path)?;
    let name = tensor.name.clone().unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let (constant, _) = Loader::new(folder)
        .constant(&tensor, None, &name)
        .at_file(path)?;
    Ok((name, constant.read()?))
}

/// The dimensions of a tensor.
fn shape_of(tensor: &TensorProto) -> Result<Vec<usize>, OnnxImportError> {
    let malformed = || OnnxImportError::Tensor {
        reason: format!("a shape of {:?}", tensor.dims),
    };
    if tensor.dims.len() > limits::RANK.count() {
        return Err(malformed());
    }
    let shape: Option<Vec<usize>> = tensor
        .dims
        .iter()
        .map(|&d| usize::try_from(d).ok())
        .collect();
    let shape = shape.ok_or_else(malformed)?;
    let elements = shape
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(num::u64_of(d)));
    match elements {
        Some(n) if n <= limits::ELEMENTS => Ok(shape),
        Some(_) | None => Err(malformed()),
    }
}

impl Loader {
    /// A loader for a model in `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        Loader {
            beside: Beside::new(folder),
        }
    }

    /// The constant of a tensor; `raw` is where its raw bytes lie if they were left in the file.
    ///
    /// # Errors
    /// When the tensor has no or too many data, or its external data leave the folder.
    pub(super) fn constant(
        &mut self,
        tensor: &TensorProto,
        raw: Option<&FileRegion>,
        name: &str,
    ) -> Result<Stored> {
        self.load(tensor, raw, name).at_tensor(name)
    }

    fn load(
        &mut self,
        tensor: &TensorProto,
        raw: Option<&FileRegion>,
        name: &str,
    ) -> Result<Stored> {
        let (dtype, code) = element_type(tensor.data_type.unwrap_or_default())?;
        let shape = shape_of(tensor)?;
        // Four-bit floats are packed like four-bit integers and unpacked at once.
        let stored = if code == Some(Code::E2M1) {
            DType::U4
        } else {
            dtype
        };
        let elements: u64 = shape.iter().map(|&d| num::u64_of(d)).product();
        let bytes = stored
            .bytes_for(elements)
            .ok_or_else(|| OnnxImportError::Tensor {
                reason: format!("a shape of {shape:?}"),
            })?;
        let region = if tensor.data_location() == DataLocation::External {
            Region::File(self.beside.find(tensor, bytes)?)
        } else if let Some(raw) = raw {
            expect_length(raw.len, bytes, &shape, tensor)?;
            Region::File(raw.clone())
        } else if let Some(raw) = &tensor.raw_data {
            expect_length(num::u64_of(raw.len()), bytes, &shape, tensor)?;
            Region::Inline(bytes::Bytes::copy_from_slice(raw))
        } else {
            Region::Inline(typed(tensor, stored, num::usize_of(elements))?.into())
        };
        let constant = Constant::from_region(name, stored, shape, region)?;
        if stored == dtype {
            return Ok((constant, code));
        }
        let unpacked = constant.read()?.cast(DType::U8);
        Ok((Constant::from_tensor(name, &unpacked)?, code))
    }

    /// The dense form of a sparse tensor.
    ///
    /// # Errors
    /// When values and indices do not fit, or the dense form is too large.
    pub(super) fn sparse(&mut self, sparse: &SparseTensorProto, name: &str) -> Result<Constant> {
        let malformed = |reason: String| OnnxImportError::Tensor { reason };
        let (Some(values), Some(indices)) = (&sparse.values, &sparse.indices) else {
            return Err(malformed("a sparse tensor without values or indices".into()).into());
        };
        let (values, code) = self.constant(values, None, name)?;
        let (indices, _) = self.constant(indices, None, name)?;
        if code.is_some() {
            return Err(malformed("a sparse tensor of a small float type".into()).into());
        }
        let shape = shape_of(&TensorProto {
            dims: sparse.dims.clone(),
            ..TensorProto::default()
        })?;
        let elements: u64 = shape.iter().map(|&d| num::u64_of(d)).product();
        if elements > limits::FOLDED_ELEMENTS.get() {
            return Err(OnnxImportError::TooMany {
                what: "elements of a sparse tensor",
                limit: limits::FOLDED_ELEMENTS.to_string(),
                found: num::usize_of(elements),
            }
            .into());
        }
        let count = values.len();
        let flat = positions(&indices.read()?, &shape, count)
            .ok_or_else(|| malformed("indices that do not fit".into()))?;
        let values = values.read()?;
        let dense = match values.storage() {
            Storage::Float(v) => {
                let mut out = vec![0.0; num::usize_of(elements)];
                flat.iter().zip(v.iter()).for_each(|(&i, &x)| out[i] = x);
                Tensor::float(values.dtype(), shape, out)?
            }
            Storage::Int(v) => {
                let mut out = vec![0; num::usize_of(elements)];
                flat.iter().zip(v.iter()).for_each(|(&i, &x)| out[i] = x);
                Tensor::int(values.dtype(), shape, out)?
            }
            Storage::Bool(v) => {
                let mut out = vec![false; num::usize_of(elements)];
                flat.iter().zip(v.iter()).for_each(|(&i, &x)| out[i] = x);
                Tensor::bool(shape, out)?
            }
        };
        Constant::from_tensor(name, &dense)
    }
}

/// The flat positions of a sparse tensor's elements: indices are linear, or one row of coordinates per element.
fn positions(indices: &Tensor, shape: &[usize], count: usize) -> Option<Vec<usize>> {
    let list = indices.ints().ok()?;
    let elements: usize = shape.iter().product();
    let flat: Vec<usize> = match indices.shape() {
        [n] if *n == count => list
            .iter()
            .map(|&i| usize::try_from(i).ok())
            .collect::<Option<_>>()?,
        [n, rank] if *n == count && *rank == shape.len() && *rank > 0 => list
            .chunks_exact(*rank)
            .map(|row| {
                row.iter().zip(shape).try_fold(0usize, |at, (&i, &d)| {
                    let i = usize::try_from(i).ok().filter(|&i| i < d)?;
                    at.checked_mul(d)?.checked_add(i)
                })
            })
            .collect::<Option<_>>()?,
        _ => return None,
    };
    flat.iter().all(|&i| i < elements).then_some(flat)
}

fn expect_length(
    found: u64,
    expected: u64,
    shape: &[usize],
    tensor: &TensorProto,
) -> Result<(), OnnxImportError> {
    if found == expected {
        return Ok(());
    }
    Err(OnnxImportError::Tensor {
        reason: format!(
            "{found} bytes for a `{}` tensor of shape {shape:?}, expected {expected}",
            data_type_name(tensor.data_type.unwrap_or_default())
        ),
    })
}

/// The little-endian bytes of a tensor whose elements lie in one of the typed fields.
fn typed(tensor: &TensorProto, dtype: DType, elements: usize) -> Result<Vec<u8>, OnnxImportError> {
    let count = |found: usize, expected: usize| {
        if found == expected {
            return Ok(());
        }
        Err(OnnxImportError::Tensor {
            reason: format!("{found} elements, its shape asks for {expected}"),
        })
    };
    let mut out = Vec::new();
    match dtype {
        DType::F32 => {
            count(tensor.float_data.len(), elements)?;
            for x in &tensor.float_data {
                out.extend(x.to_le_bytes());
            }
        }
        DType::F64 => {
            count(tensor.double_data.len(), elements)?;
            for x in &tensor.double_data {
                out.extend(x.to_le_bytes());
            }
        }
        DType::I64 => {
            count(tensor.int64_data.len(), elements)?;
            for x in &tensor.int64_data {
                out.extend(x.to_le_bytes());
            }
        }
        DType::U64 => {
            count(tensor.uint64_data.len(), elements)?;
            for x in &tensor.uint64_data {
                out.extend(x.to_le_bytes());
            }
        }
        DType::U32 => {
            count(tensor.uint64_data.len(), elements)?;
            for &x in &tensor.uint64_data {
                out.extend(&x.to_le_bytes()[..4]);
            }
        }
        // Two elements share a number.
        DType::I4 | DType::U4 => {
            count(tensor.int32_data.len(), elements.div_ceil(2))?;
            for &x in &tensor.int32_data {
                out.extend(&x.to_le_bytes()[..1]);
            }
        }
        DType::Bool | DType::I8 | DType::U8 | DType::F8E4M3 | DType::F8E5M2 => {
            count(tensor.int32_data.len(), elements)?;
            for &x in &tensor.int32_data {
                out.extend(&x.to_le_bytes()[..1]);
            }
        }
        DType::I16 | DType::U16 | DType::F16 | DType::BF16 => {
            count(tensor.int32_data.len(), elements)?;
            for &x in &tensor.int32_data {
                out.extend(&x.to_le_bytes()[..2]);
            }
        }
        DType::I32 => {
            count(tensor.int32_data.len(), elements)?;
            for x in &tensor.int32_data {
                out.extend(x.to_le_bytes());
            }
        }
        DType::U1 | DType::U2 | DType::U3 | DType::U6 => {
            return Err(OnnxImportError::ElementType {
                found: dtype.name().into(),
            });
        }
    }
    Ok(out)
}
