//! What is known about the elements of a constant. Found on stored elements while they are read for whatever reason, and remembered.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::Constant;
use crate::error::{Context, Result};
use crate::tensor::{DType, decode_floats, num, vectorised};

/// What a look at every element of a constant found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ConstantScan {
    /// Largest magnitude of a finite element; 0 when there is none.
    pub max_abs: f32,
    /// Smallest magnitude of a finite element that is not 0; 0 when there is none.
    pub min_abs: f32,
    /// Number of NaN elements.
    pub nan: u64,
    /// Number of infinite elements.
    pub inf: u64,
}

impl ConstantScan {
    /// A look at little-endian elements of a floating-point type.
    fn of(dtype: DType, bytes: &[u8]) -> Self {
        // A pass over the bits; only what is not finite is looked at one by one.
        let extremes = if dtype == DType::F16 {
            half_extremes(bytes, 0x7c00)
        } else if dtype == DType::BF16 {
            half_extremes(bytes, 0x7f80)
        } else if dtype == DType::F32 {
            single_extremes(bytes)
        } else {
            None
        };
        let mut values = Vec::new();
        decode_floats(dtype, extremes.as_deref().unwrap_or(bytes), &mut values);
        let mut scan = ConstantScan::default();
        let mut smallest = f32::INFINITY;
        for x in values {
            if x.is_nan() {
                scan.nan += 1;
            } else if x.is_infinite() {
                scan.inf += 1;
            } else {
                scan.max_abs = scan.max_abs.max(x.abs());
                if x != 0.0 {
                    smallest = smallest.min(x.abs());
                }
            }
        }
        scan.min_abs = if smallest.is_finite() { smallest } else { 0.0 };
        scan
    }

    /// What is known of two parts together.
    fn and(self, other: Self) -> Self {
        let min_abs = if self.min_abs == 0.0 || other.min_abs == 0.0 {
            self.min_abs.max(other.min_abs)
        } else {
            self.min_abs.min(other.min_abs)
        };
        ConstantScan {
            max_abs: self.max_abs.max(other.max_abs),
            min_abs,
            nan: self.nan + other.nan,
            inf: self.inf + other.inf,
        }
    }
}

/// The elements of smallest (but not 0) and of largest magnitude, or `None` when one is not finite.
fn half_extremes(bytes: &[u8], infinite: u16) -> Option<Vec<u8>> {
    let (high, low) = vectorised(
        #[inline(always)]
        || {
            let (mut high, mut low) = (0u16, u16::MAX);
            for &element in bytes.as_chunks::<2>().0 {
                let magnitude = u16::from_le_bytes(element) & 0x7fff;
                high = high.max(magnitude);
                // Zero wraps to the largest value, so that it never is the smallest.
                low = low.min(magnitude.wrapping_sub(1));
            }
            (high, low.wrapping_add(1))
        },
    );
    (high < infinite).then(|| [low.to_le_bytes(), high.to_le_bytes()].concat())
}

/// As [`half_extremes`], for `f32`.
fn single_extremes(bytes: &[u8]) -> Option<Vec<u8>> {
    let (high, low) = vectorised(
        #[inline(always)]
        || {
            let (mut high, mut low) = (0u32, u32::MAX);
            for &element in bytes.as_chunks::<4>().0 {
                let magnitude = u32::from_le_bytes(element) & 0x7fff_ffff;
                high = high.max(magnitude);
                low = low.min(magnitude.wrapping_sub(1));
            }
            (high, low.wrapping_add(1))
        },
    );
    (high < 0x7f80_0000).then(|| [low.to_le_bytes(), high.to_le_bytes()].concat())
}

/// What was found on parts of the stored elements: first element → number of elements and finding. All constants made from one handle share it.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<BTreeMap<u64, (u64, ConstantScan)>>);

impl Seen {
    /// Looks at `bytes`, the stored elements from `first` on, unless that was done.
    pub(super) fn look(&self, dtype: DType, first: u64, bytes: &[u8]) {
        let count = num::u64_of(bytes.len()) * 8 / u64::from(dtype.bits());
        let known = self.parts().get(&first).is_some_and(|p| p.0 == count);
        if scannable(dtype) && !known {
            let scan = ConstantScan::of(dtype, bytes);
            self.parts().insert(first, (count, scan));
        }
    }

    /// What is known of `count` elements from `first` on, if parts were looked at that make up exactly these.
    fn known(&self, first: u64, count: u64) -> Option<ConstantScan> {
        let parts = self.parts();
        let (mut at, end) = (first, first + count);
        let mut scan = ConstantScan::default();
        while at < end {
            let &(n, part) = parts.get(&at)?;
            scan = scan.and(part);
            at += n;
        }
        (at == end).then_some(scan)
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, (u64, ConstantScan)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether stored elements can be looked at as they are.
fn scannable(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32)
}

impl Constant {
    /// A look at every element (floating-point constants only; anything else gives the default). Done once, then remembered; what was
    /// streamed needs no second look.
    ///
    /// # Errors
    /// When the bytes cannot be read.
    pub fn scan(&self) -> Result<ConstantScan> {
        if let Some(scan) = self.known_scan() {
            return Ok(scan);
        }
        if let Some((first, count)) = self.stored_values() {
            self.read_stored(first, count, &mut |at, bytes| {
                self.seen.look(self.stored_dtype, at, bytes);
                Ok(())
            })?;
            if let Some(scan) = self.seen.known(first, count) {
                return Ok(scan);
            }
        }
        let mut scan = ConstantScan::default();
        self.stream(&mut |bytes| {
            scan = scan.and(ConstantScan::of(self.dtype, bytes));
            Ok(())
        })?;
        Ok(*self.scan.get_or_init(|| scan))
    }

    /// The result of [`Constant::scan`], if it is known without reading.
    #[must_use]
    pub fn known_scan(&self) -> Option<ConstantScan> {
        if !self.dtype.is_float() {
            return Some(ConstantScan::default());
        }
        let seen = || {
            let (first, count) = self.stored_values()?;
            self.seen.known(first, count)
        };
        self.scan.get().copied().or_else(seen)
    }

    /// The stored elements whose values are those of the constant, in whatever order, if there are such: widening changes no value.
    fn stored_values(&self) -> Option<(u64, u64)> {
        let (first, count, _) = self.contiguous()?;
        let same = scannable(self.stored_dtype)
            && self.casts().all(|to| matches!(to, DType::F32 | DType::F64));
        same.then_some((first, count))
    }

    /// Hands stored elements, `count` from `first` on, to `sink`: first element of each chunk, and its bytes.
    pub(super) fn read_stored(
        &self,
        first: u64,
        count: u64,
        sink: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let width = num::u64_of(self.stored_dtype.width());
        let mut at = first;
        let parts = &mut |raw: &[u8]| {
            sink(at, raw)?;
            at += num::u64_of(raw.len()) / width;
            Ok(())
        };
        self.region
            .parts(first * width, count * width, width, parts)
            .at_tensor(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    fn constant(dtype: DType, values: Vec<f32>) -> Constant {
        let tensor = Tensor::float(dtype, vec![values.len()], values).unwrap();
        Constant::from_tensor("w", &tensor).unwrap()
    }

    #[test]
    fn scan_finds_what_is_not_finite() {
        let values = vec![0.0, -3.0, f32::NAN, f32::INFINITY, 1e-9];
        let expected = ConstantScan {
            max_abs: 3.0,
            min_abs: 1e-9,
            nan: 1,
            inf: 1,
        };
        assert_eq!(constant(DType::F32, values).scan().unwrap(), expected);
    }

    #[test]
    fn the_scan_of_stored_halves_is_that_of_their_values() {
        for dtype in [DType::F16, DType::BF16] {
            for last in [0.5, f32::NAN, f32::NEG_INFINITY] {
                let values = vec![0.0, -0.0, 0.25, -3.0, last];
                let halves = constant(dtype, values.clone()).cast(DType::F32);
                let floats = constant(DType::F32, values);
                assert_eq!(halves.scan().unwrap(), floats.scan().unwrap());
            }
        }
    }

    #[test]
    fn what_was_streamed_is_known_of_everything_made_from_the_same_handle() {
        let values = [1.0, -8.0, 0.0, 0.5, 3.0, f32::INFINITY];
        let base = constant(DType::BF16, values.to_vec())
            .reshape(vec![3, 2])
            .unwrap();
        assert_eq!(base.known_scan(), None);
        for row in [2, 0, 1] {
            let part = base.rows(row, 1).unwrap().cast(DType::F16);
            part.stream(&mut |_| Ok(())).unwrap();
        }
        let scan = base.cast(DType::F32).known_scan().unwrap();
        let expected = ConstantScan {
            max_abs: 8.0,
            min_abs: 0.5,
            nan: 0,
            inf: 1,
        };
        assert_eq!(scan, expected);
        assert_eq!(base.rows(1, 1).unwrap().known_scan().unwrap().max_abs, 0.5);
        // Narrowing may change values: nothing is known of that.
        assert_eq!(base.cast(DType::F16).known_scan(), None);
    }
}
