//! Constants: handles to bytes plus the transforms that lead from the stored form to the used one. Nothing is loaded until it is streamed or read.

mod agreement;
mod compressed;
mod expanded;
mod scan;
mod stream;
mod write;

use std::sync::{Arc, OnceLock};

use crate::error::{Context, Result};
use crate::tensor::{DType, Region, Tensor, TensorError, num};
use scan::Seen;

pub use agreement::Agreement;
pub use compressed::{Affine, Compression, Form, Palette};
pub use expanded::{CompressedWeights, Expanded};
pub use scan::ConstantScan;
pub use write::{Placed, write_constants};

/// A step from the stored form of a constant towards the used form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Cast, as [`Tensor::cast`] does it.
    Cast(DType),
    /// Reverses the two axes of a matrix.
    Transpose,
    /// Elements `start..start + len` of the first axis.
    Rows {
        /// First row.
        start: usize,
        /// Number of rows.
        len: usize,
    },
    /// Another shape of equal size.
    Reshape(Vec<usize>),
}

/// First element, count, and the size of the matrix before transposition if there is one.
type Selection = (u64, u64, Option<(usize, usize)>);

/// A constant tensor: a handle, not an array.
///
/// `name` says where it came from (checkpoint tensor, initialiser); it is not unique.
#[derive(Clone, Debug)]
pub struct Constant {
    name: Arc<str>,
    dtype: DType,
    shape: Vec<usize>,
    stored_dtype: DType,
    stored_shape: Vec<usize>,
    region: Region,
    transforms: Vec<Transform>,
    scan: Arc<OnceLock<ConstantScan>>,
    seen: Arc<Seen>,
    compression: Option<Arc<Compression>>,
}

impl Constant {
    /// A handle to `region`, which holds the little-endian elements of a `dtype` tensor of `shape`.
    ///
    /// # Errors
    /// When the region's length is not what the type needs.
    pub fn from_region(
        name: &str,
        dtype: DType,
        shape: Vec<usize>,
        region: Region,
    ) -> Result<Self> {
        let count = shape
            .iter()
            .try_fold(1u64, |n, &d| n.checked_mul(num::u64_of(d)));
        let expected = count.and_then(|n| dtype.bytes_for(n));
        let Some(expected) = expected else {
            return Err(TensorError::TooLarge { shape }.into());
        };
        if expected != region.len() {
            return Err(TensorError::ByteCount {
                dtype,
                shape,
                expected,
                found: region.len(),
            }
            .into());
        }
        Ok(Constant {
            name: name.into(),
            dtype,
            shape: shape.clone(),
            stored_dtype: dtype,
            stored_shape: shape,
            region,
            transforms: Vec::new(),
            scan: Arc::default(),
            seen: Arc::default(),
            compression: None,
        })
    }

    /// A small constant from memory.
    ///
    /// # Errors
    /// Never for a valid tensor.
    pub fn from_tensor(name: &str, tensor: &Tensor) -> Result<Self> {
        Constant::from_region(
            name,
            tensor.dtype(),
            tensor.shape().to_vec(),
            Region::Inline(tensor.to_le_bytes().into()),
        )
    }

    /// Where the constant came from.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The element type after the transforms.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The element type in the file; of a compressed constant the one that it is decoded to.
    #[must_use]
    pub fn stored_dtype(&self) -> DType {
        self.stored_dtype
    }

    /// The shape after the transforms.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes after the transforms.
    #[must_use]
    pub fn byte_len(&self) -> u64 {
        self.dtype
            .bytes_for(num::u64_of(self.len()))
            .unwrap_or(u64::MAX)
    }

    /// Bytes that it takes in memory as long as it exists: none for a region of a file.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        match &self.region {
            Region::Inline(bytes) => num::u64_of(bytes.len()),
            Region::File(_) => 0,
        }
    }

    /// The stored bytes, before the transforms; of a compressed constant those of its data.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The shape of the stored bytes.
    #[must_use]
    pub fn stored_shape(&self) -> &[usize] {
        &self.stored_shape
    }

    /// The transforms, in order.
    #[must_use]
    pub fn transforms(&self) -> &[Transform] {
        &self.transforms
    }

    /// The same constant cast to `dtype`. Casts that change nothing are dropped, and casts that only widen are forgotten when narrowed again.
    #[must_use]
    pub fn cast(&self, dtype: DType) -> Self {
        let mut out = self.clone();
        if dtype == self.dtype {
            return out;
        }
        // A widening float cast loses nothing, so what follows it may start from the narrow form.
        let last_cast = out
            .transforms
            .iter()
            .rposition(|t| matches!(t, Transform::Cast(_)));
        if let Some(i) = last_cast {
            let before = out.transforms[..i]
                .iter()
                .rev()
                .find_map(|t| match t {
                    Transform::Cast(d) => Some(*d),
                    Transform::Transpose | Transform::Rows { .. } | Transform::Reshape(_) => None,
                })
                .unwrap_or(out.stored_dtype);
            if widens(before, out.dtype) {
                out.transforms.remove(i);
                out.dtype = before;
            }
        }
        if dtype != out.dtype {
            out.transforms.push(Transform::Cast(dtype));
        }
        out.dtype = dtype;
        out.scan = Arc::default();
        out
    }

    /// The transposed matrix.
    ///
    /// # Errors
    /// When the rank is not 2.
    pub fn transpose(&self) -> Result<Self, TensorError> {
        let &[rows, columns] = self.shape.as_slice() else {
            return Err(TensorError::ElementCount {
                shape: self.shape.clone(),
                expected: 2,
                found: self.shape.len(),
            });
        };
        let mut out = self.clone();
        out.shape = vec![columns, rows];
        if out.transforms.last() == Some(&Transform::Transpose) {
            out.transforms.pop();
        } else {
            out.transforms.push(Transform::Transpose);
        }
        Ok(out)
    }

    /// Elements `start..start + len` of the first axis.
    ///
    /// # Errors
    /// When the range leaves the axis.
    pub fn rows(&self, start: usize, len: usize) -> Result<Self, TensorError> {
        let available = self.shape.first().copied().unwrap_or(0);
        if start.checked_add(len).is_none_or(|end| end > available) {
            return Err(TensorError::ElementCount {
                shape: self.shape.clone(),
                expected: start.saturating_add(len),
                found: available,
            });
        }
        let mut out = self.clone();
        out.shape[0] = len;
        out.transforms.push(Transform::Rows { start, len });
        out.scan = Arc::default();
        Ok(out)
    }

    /// Another shape of equal size.
    ///
    /// # Errors
    /// When the sizes differ.
    pub fn reshape(&self, shape: Vec<usize>) -> Result<Self, TensorError> {
        let expected = shape.iter().product();
        if expected != self.len() {
            return Err(TensorError::ElementCount {
                shape,
                expected,
                found: self.len(),
            });
        }
        let mut out = self.clone();
        out.shape.clone_from(&shape);
        out.transforms.push(Transform::Reshape(shape));
        Ok(out)
    }

    /// Whether two constants are the same by construction: same bytes, same transforms.
    #[must_use]
    pub fn same_as(&self, other: &Constant) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && self.transforms == other.transforms
            && self.region.same_as(&other.region)
            && self.same_compression(other)
    }

    /// The whole constant in memory.
    ///
    /// # Errors
    /// When the bytes cannot be read.
    pub fn read(&self) -> Result<Tensor> {
        let mut tensor = match &self.compression {
            Some(form) => self.decoded(form).at_tensor(&self.name)?,
            None => {
                let bytes = self.region.read().at_tensor(&self.name)?;
                Tensor::from_le_bytes(self.stored_dtype, self.stored_shape.clone(), &bytes)
                    .at_tensor(&self.name)?
            }
        };
        for transform in &self.transforms {
            tensor = apply(&tensor, transform).at_tensor(&self.name)?;
        }
        Ok(tensor)
    }

    fn casts(&self) -> impl Iterator<Item = DType> + '_ {
        self.transforms.iter().filter_map(|t| match t {
            Transform::Cast(dtype) => Some(*dtype),
            Transform::Transpose | Transform::Rows { .. } | Transform::Reshape(_) => None,
        })
    }

    /// If the transforms only select a contiguous range of elements, cast, reshape, or transpose last: first element, count, and the matrix before transposition.
    fn contiguous(&self) -> Option<Selection> {
        if self.compression.is_some() {
            return None;
        }
        let mut shape = self.stored_shape.clone();
        let mut start = 0;
        let mut transposed = None;
        for transform in &self.transforms {
            match transform {
                Transform::Cast(_) => {}
                Transform::Reshape(_) | Transform::Rows { .. } | Transform::Transpose
                    if transposed.is_some() =>
                {
                    return None;
                }
                Transform::Reshape(to) => shape.clone_from(to),
                Transform::Rows { start: row, len } => {
                    let stride: usize = shape[1..].iter().product();
                    start += row * stride;
                    shape[0] = *len;
                }
                Transform::Transpose => transposed = Some((shape[0], shape[1])),
            }
        }
        let len: usize = shape.iter().product();
        Some((num::u64_of(start), num::u64_of(len), transposed))
    }
}

/// Whether every value of `from` is a value of `to`.
fn widens(from: DType, to: DType) -> bool {
    matches!(
        (from, to),
        (DType::F16 | DType::BF16, DType::F32 | DType::F64) | (DType::F32, DType::F64)
    )
}

fn apply(tensor: &Tensor, transform: &Transform) -> Result<Tensor, TensorError> {
    match transform {
        Transform::Cast(dtype) => Ok(tensor.cast(*dtype)),
        Transform::Reshape(shape) => tensor.reshaped(shape.clone()),
        Transform::Rows { start, len } => {
            let stride: usize = tensor.shape()[1..].iter().product();
            let range = start * stride..(start + len) * stride;
            let mut shape = tensor.shape().to_vec();
            shape[0] = *len;
            select(tensor, shape, range)
        }
        Transform::Transpose => {
            let (rows, columns) = (tensor.shape()[0], tensor.shape()[1]);
            select(
                tensor,
                vec![columns, rows],
                (0..rows * columns).map(|i| (i % rows) * columns + i / rows),
            )
        }
    }
}

fn select(
    tensor: &Tensor,
    shape: Vec<usize>,
    indices: impl Iterator<Item = usize>,
) -> Result<Tensor, TensorError> {
    use crate::tensor::Storage;
    match tensor.storage() {
        Storage::Float(v) => Tensor::float(tensor.dtype(), shape, indices.map(|i| v[i]).collect()),
        Storage::Int(v) => Tensor::int(tensor.dtype(), shape, indices.map(|i| v[i]).collect()),
        Storage::Bool(v) => Tensor::bool(shape, indices.map(|i| v[i]).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(dtype: DType, shape: Vec<usize>) -> Constant {
        let n = shape.iter().product::<usize>();
        let values = (0..n).map(num::f32_of).collect();
        Constant::from_tensor("w", &Tensor::float(dtype, shape, values).unwrap()).unwrap()
    }

    fn streamed(c: &Constant) -> Tensor {
        let mut bytes = Vec::new();
        c.stream(&mut |b| {
            bytes.extend_from_slice(b);
            Ok(())
        })
        .unwrap();
        Tensor::from_le_bytes(c.dtype(), c.shape().to_vec(), &bytes).unwrap()
    }

    #[test]
    fn streaming_equals_reading_under_every_transform() {
        let base = counting(DType::BF16, vec![6, 40]);
        // Numbers that a narrower type does not have are rounded on the way, though the type in the end is that of the stored ones.
        let thirds = (0..240u16).map(|i| f32::from(i) / 3.0).collect();
        let thirds = Tensor::f32(vec![6, 40], thirds).unwrap();
        let thirds = Constant::from_tensor("w", &thirds).unwrap();
        let cases = [
            base.clone(),
            base.cast(DType::F32),
            base.cast(DType::F32).cast(DType::F16),
            base.transpose().unwrap(),
            base.cast(DType::F32).transpose().unwrap(),
            base.rows(2, 3).unwrap().cast(DType::F16),
            base.rows(2, 3)
                .unwrap()
                .transpose()
                .unwrap()
                .cast(DType::F32),
            base.transpose().unwrap().rows(1, 4).unwrap(),
            thirds.cast(DType::F16).cast(DType::F32),
            thirds
                .cast(DType::F16)
                .cast(DType::F32)
                .transpose()
                .unwrap(),
            base.reshape(vec![3, 80]).unwrap().rows(1, 2).unwrap(),
        ];
        for c in cases {
            assert_eq!(streamed(&c), c.read().unwrap(), "{:?}", c.transforms());
        }
    }

    #[test]
    fn widening_is_forgotten_when_narrowed_and_narrowing_is_not() {
        let c = counting(DType::F16, vec![4]);
        assert!(c.cast(DType::F32).cast(DType::F16).transforms().is_empty());
        let narrowed = counting(DType::F32, vec![4])
            .cast(DType::F16)
            .cast(DType::F32);
        assert_eq!(narrowed.transforms().len(), 2);
    }

    #[test]
    fn a_region_of_the_wrong_length_is_refused() {
        let region = Region::Inline(vec![0u8; 7].into());
        assert!(Constant::from_region("w", DType::F16, vec![4], region).is_err());
    }
}
