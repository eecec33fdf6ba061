//! The host tensor: row-major, cheap to clone, with three storage classes behind nineteen element types.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::DType;
use super::{decode_floats, encode_floats, f8, num};
use crate::error::{Class, Diagnostic};

/// Why a tensor could not be built from its parts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// Element count and shape disagree.
    #[error("shape {shape:?} needs {expected} elements, found {found}")]
    ElementCount {
        /// The shape.
        shape: Vec<usize>,
        /// Product of the shape.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// Byte count and shape disagree.
    #[error("{dtype} tensor of shape {shape:?} needs {expected} bytes, found {found}")]
    ByteCount {
        /// The element type.
        dtype: DType,
        /// The shape.
        shape: Vec<usize>,
        /// Bytes needed.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// The shape's product overflows.
    #[error("shape {shape:?} is too large")]
    TooLarge {
        /// The shape.
        shape: Vec<usize>,
    },
    /// The storage class does not fit the element type.
    #[error("expected {expected} elements, found {found}")]
    Storage {
        /// Class expected.
        expected: &'static str,
        /// Element type found.
        found: DType,
    },
}

impl Diagnostic for TensorError {
    fn class(&self) -> Class {
        Class::Invalid
    }

    fn code(&self) -> &'static str {
        "bad_tensor"
    }
}

/// The elements: all floats are held as `f32`, all integers as `i64` (`u64` wraps), so that an operation has three cases, not nineteen.
#[derive(Clone, Debug, PartialEq)]
pub enum Storage {
    /// Elements of a floating-point type (`f64` rounded to `f32`).
    Float(Arc<Vec<f32>>),
    /// Elements of an integer type.
    Int(Arc<Vec<i64>>),
    /// Truth values.
    Bool(Arc<Vec<bool>>),
}

/// A row-major tensor in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    storage: Storage,
}

/// Tensors by name: inputs or outputs of a model, members of a tensor file.
pub type NamedTensors = BTreeMap<String, Tensor>;

/// Product of a shape, or an error when it overflows.
fn element_count(shape: &[usize]) -> Result<usize, TensorError> {
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .ok_or_else(|| TensorError::TooLarge {
            shape: shape.to_vec(),
        })
}

fn check_count(shape: &[usize], found: usize) -> Result<(), TensorError> {
    let expected = element_count(shape)?;
    if expected == found {
        Ok(())
    } else {
        Err(TensorError::ElementCount {
            shape: shape.to_vec(),
            expected,
            found,
        })
    }
}

impl Tensor {
    /// A tensor of a floating-point type. The values are taken as they are: rounding to `dtype` is the caller's.
    ///
    /// # Errors
    /// When the element count does not fit the shape, or `dtype` is not a floating-point type.
    pub fn float(dtype: DType, shape: Vec<usize>, values: Vec<f32>) -> Result<Self, TensorError> {
        check_count(&shape, values.len())?;
        if !dtype.is_float() {
            return Err(TensorError::Storage {
                expected: "floating-point",
                found: dtype,
            });
        }
        Ok(Tensor {
            dtype,
            shape,
            storage: Storage::Float(Arc::new(values)),
        })
    }

    /// An `f32` tensor.
    ///
    /// # Errors
    /// When the element count does not fit the shape.
    pub fn f32(shape: Vec<usize>, values: Vec<f32>) -> Result<Self, TensorError> {
        Tensor::float(DType::F32, shape, values)
    }

    /// A tensor of an integer type; values are wrapped to its width.
    ///
    /// # Errors
    /// When the element count does not fit the shape, or `dtype` is not an integer type.
    pub fn int(dtype: DType, shape: Vec<usize>, mut values: Vec<i64>) -> Result<Self, TensorError> {
        check_count(&shape, values.len())?;
        if !dtype.is_int() {
            return Err(TensorError::Storage {
                expected: "integer",
                found: dtype,
            });
        }
        if dtype.bits() < 64 {
            for v in &mut values {
                *v = num::wrap(*v, dtype.bits(), dtype.is_signed_int());
            }
        }
        Ok(Tensor {
            dtype,
            shape,
            storage: Storage::Int(Arc::new(values)),
        })
    }

    /// An `i64` tensor.
    ///
    /// # Errors
    /// When the element count does not fit the shape.
    pub fn i64(shape: Vec<usize>, values: Vec<i64>) -> Result<Self, TensorError> {
        Tensor::int(DType::I64, shape, values)
    }

    /// A tensor of truth values.
    ///
    /// # Errors
    /// When the element count does not fit the shape.
    pub fn bool(shape: Vec<usize>, values: Vec<bool>) -> Result<Self, TensorError> {
        check_count(&shape, values.len())?;
        Ok(Tensor {
            dtype: DType::Bool,
            shape,
            storage: Storage::Bool(Arc::new(values)),
        })
    }

    /// A tensor over existing elements, which are taken as they are: they must be values of `dtype`.
    ///
    /// # Errors
    /// When the element count does not fit the shape, or the storage class does not fit `dtype`.
    pub fn from_storage(
        dtype: DType,
        shape: Vec<usize>,
        storage: Storage,
    ) -> Result<Self, TensorError> {
        let (expected, fits, found) = match &storage {
            Storage::Float(v) => ("floating-point", dtype.is_float(), v.len()),
            Storage::Int(v) => ("integer", dtype.is_int(), v.len()),
            Storage::Bool(v) => ("bool", dtype == DType::Bool, v.len()),
        };
        check_count(&shape, found)?;
        if !fits {
            return Err(TensorError::Storage {
                expected,
                found: dtype,
            });
        }
        Ok(Tensor {
            dtype,
            shape,
            storage,
        })
    }

    /// The elements, given away: whoever holds the only handle may write into them.
    #[must_use]
    pub fn into_storage(self) -> Storage {
        self.storage
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.storage {
            Storage::Float(v) => v.len(),
            Storage::Int(v) => v.len(),
            Storage::Bool(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements.
    #[must_use]
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The elements of a floating-point tensor.
    ///
    /// # Errors
    /// When the element type is not a floating-point type.
    pub fn floats(&self) -> Result<&Arc<Vec<f32>>, TensorError> {
        match &self.storage {
            Storage::Float(v) => Ok(v),
            Storage::Int(_) | Storage::Bool(_) => Err(TensorError::Storage {
                expected: "floating-point",
                found: self.dtype,
            }),
        }
    }

    /// The elements of an integer tensor.
    ///
    /// # Errors
    /// When the element type is not an integer type.
    pub fn ints(&self) -> Result<&Arc<Vec<i64>>, TensorError> {
        match &self.storage {
            Storage::Int(v) => Ok(v),
            Storage::Float(_) | Storage::Bool(_) => Err(TensorError::Storage {
                expected: "integer",
                found: self.dtype,
            }),
        }
    }

    /// The elements of a boolean tensor.
    ///
    /// # Errors
    /// When the element type is not `bool`.
    pub fn bools(&self) -> Result<&Arc<Vec<bool>>, TensorError> {
        match &self.storage {
            Storage::Bool(v) => Ok(v),
            Storage::Float(_) | Storage::Int(_) => Err(TensorError::Storage {
                expected: "bool",
                found: self.dtype,
            }),
        }
    }

    /// Every element as `f64` (exact, but for integers beyond 2^53); `true` is 1.
    #[must_use]
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.storage {
            Storage::Float(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Storage::Int(v) => v.iter().map(|&x| num::f64_of_i64(x)).collect(),
            Storage::Bool(v) => v.iter().map(|&x| f64::from(u8::from(x))).collect(),
        }
    }

    /// The same elements under another shape of equal size.
    ///
    /// # Errors
    /// When the element counts differ.
    pub fn reshaped(&self, shape: Vec<usize>) -> Result<Self, TensorError> {
        check_count(&shape, self.len())?;
        Ok(Tensor {
            dtype: self.dtype,
            shape,
            storage: self.storage.clone(),
        })
    }

    /// The tensor cast to `to`.
    ///
    /// # Numerics
    /// float → float: nearest, ties to even, overflow to infinity; float → int: truncated towards zero, saturating at 64 bits, then wrapped, NaN → 0;
    /// int → int: wrapped; anything → bool: `x ≠ 0`; bool → number: 0 or 1.
    #[must_use]
    pub fn cast(&self, to: DType) -> Self {
        if to == self.dtype {
            return self.clone();
        }
        let storage = if to == DType::Bool {
            Storage::Bool(Arc::new(match &self.storage {
                Storage::Float(v) => v.iter().map(|&x| x != 0.0).collect(),
                Storage::Int(v) => v.iter().map(|&x| x != 0).collect(),
                Storage::Bool(v) => v.to_vec(),
            }))
        } else if to.is_float() {
            let mut values: Vec<f32> = match &self.storage {
                Storage::Float(v) => v.to_vec(),
                Storage::Int(v) => v.iter().map(|&x| num::f32_of_i64(x)).collect(),
                Storage::Bool(v) => v.iter().map(|&x| f32::from(u8::from(x))).collect(),
            };
            round_to(to, &mut values);
            Storage::Float(Arc::new(values))
        } else {
            let wrap = |x: i64| num::wrap(x, to.bits(), to.is_signed_int());
            Storage::Int(Arc::new(match &self.storage {
                Storage::Float(v) => v.iter().map(|&x| wrap(num::i64_of_f32(x))).collect(),
                Storage::Int(v) => v.iter().map(|&x| wrap(x)).collect(),
                Storage::Bool(v) => v.iter().map(|&x| i64::from(x)).collect(),
            }))
        };
        Tensor {
            dtype: to,
            shape: self.shape.clone(),
            storage,
        }
    }

    /// The elements as little-endian file bytes of the tensor's own element type (sub-byte types packed).
    #[must_use]
    pub fn to_le_bytes(&self) -> Vec<u8> {
        match &self.storage {
            Storage::Float(v) => {
                let mut out = Vec::new();
                encode_floats(self.dtype, v, &mut out);
                out
            }
            Storage::Int(v) => pack_ints(self.dtype, v),
            Storage::Bool(v) => v.iter().map(|&b| u8::from(b)).collect(),
        }
    }

    /// A tensor from little-endian file bytes.
    ///
    /// # Errors
    /// When the number of bytes is not exactly what `dtype` and `shape` need.
    pub fn from_le_bytes(
        dtype: DType,
        shape: Vec<usize>,
        bytes: &[u8],
    ) -> Result<Self, TensorError> {
        let count = element_count(&shape)?;
        let expected =
            dtype
                .bytes_for(num::u64_of(count))
                .ok_or_else(|| TensorError::TooLarge {
                    shape: shape.clone(),
                })?;
        let found = num::u64_of(bytes.len());
        if expected != found {
            return Err(TensorError::ByteCount {
                dtype,
                shape,
                expected,
                found,
            });
        }
        let storage = if dtype == DType::Bool {
            Storage::Bool(Arc::new(bytes.iter().map(|&b| b != 0).collect()))
        } else if dtype.is_float() {
            let mut values = Vec::new();
            decode_floats(dtype, bytes, &mut values);
            Storage::Float(Arc::new(values))
        } else {
            Storage::Int(Arc::new(unpack_ints(dtype, bytes, count)))
        };
        Ok(Tensor {
            dtype,
            shape,
            storage,
        })
    }
}

/// Rounds `values` to what `dtype` can hold (nearest even).
fn round_to(dtype: DType, values: &mut [f32]) {
    if dtype == DType::F16 {
        values.iter_mut().for_each(|x| *x = num::round_f16(*x));
    } else if dtype == DType::BF16 {
        values.iter_mut().for_each(|x| *x = num::round_bf16(*x));
    } else if let Some(format) = f8::Format::of(dtype) {
        values
            .iter_mut()
            .for_each(|x| *x = format.decode(format.encode(*x)));
    }
}

/// Packs integers into file bytes: little endian, sub-byte types as one bit stream, least significant bit first.
fn pack_ints(dtype: DType, values: &[i64]) -> Vec<u8> {
    let bits = dtype.bits();
    if bits >= 8 {
        let width = num::usize_of(u64::from(bits / 8));
        let mut out = Vec::with_capacity(values.len() * width);
        for &v in values {
            num::push_le(&mut out, v, width);
        }
        return out;
    }
    let mut out = Vec::new();
    let (mut pending, mut filled) = (0i64, 0u32);
    for &v in values {
        pending |= num::wrap(v, bits, false) << filled;
        filled += bits;
        while filled >= 8 {
            num::push_le(&mut out, pending, 1);
            pending >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        num::push_le(&mut out, pending, 1);
    }
    out
}

/// The inverse of [`pack_ints`].
fn unpack_ints(dtype: DType, bytes: &[u8], count: usize) -> Vec<i64> {
    let bits = dtype.bits();
    let signed = dtype.is_signed_int();
    if bits >= 8 {
        let width = num::usize_of(u64::from(bits / 8));
        return bytes
            .chunks_exact(width)
            .map(|b| {
                let mut le = [0u8; 8];
                le[..width].copy_from_slice(b);
                num::wrap(i64::from_le_bytes(le), bits, signed)
            })
            .collect();
    }
    let mut out = Vec::with_capacity(count);
    let (mut pending, mut filled, mut next) = (0i64, 0u32, bytes.iter());
    while out.len() < count {
        while filled < bits {
            pending |= i64::from(next.next().copied().unwrap_or(0)) << filled;
            filled += 8;
        }
        out.push(num::wrap(pending, bits, signed));
        pending >>= bits;
        filled -= bits;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_for_every_dtype() {
        for dtype in DType::ALL {
            let tensor = if dtype == DType::Bool {
                Tensor::bool(vec![5], vec![true, false, true, true, false]).unwrap()
            } else if dtype.is_float() {
                Tensor::float(dtype, vec![5], vec![0.0, 1.5, -2.0, 0.25, 96.0]).unwrap()
            } else {
                Tensor::int(dtype, vec![5], vec![0, 1, -2, 5, 77]).unwrap()
            };
            let bytes = tensor.to_le_bytes();
            assert_eq!(Some(num::u64_of(bytes.len())), dtype.bytes_for(5));
            assert_eq!(
                Tensor::from_le_bytes(dtype, vec![5], &bytes).unwrap(),
                tensor,
                "{dtype}"
            );
        }
    }

    #[test]
    fn casts_follow_their_rule() {
        let x = Tensor::f32(vec![5], vec![1.9, -1.9, f32::NAN, 70000.0, 2049.0]).unwrap();
        assert_eq!(
            x.cast(DType::I32).ints().unwrap().as_slice(),
            [1, -1, 0, 70000, 2049]
        );
        assert_eq!(
            x.cast(DType::F16).floats().unwrap()[3..],
            [f32::INFINITY, 2048.0]
        );
        assert_eq!(
            x.cast(DType::I8).ints().unwrap()[3],
            num::wrap(70000, 8, true)
        );
    }

    #[test]
    fn wrong_counts_are_refused() {
        assert!(Tensor::f32(vec![2, 2], vec![0.0; 3]).is_err());
        assert!(Tensor::from_le_bytes(DType::F32, vec![2], &[0; 7]).is_err());
        assert!(Tensor::i64(vec![usize::MAX, 2], vec![]).is_err());
        assert!(Tensor::int(DType::F32, vec![1], vec![1]).is_err());
    }
}
