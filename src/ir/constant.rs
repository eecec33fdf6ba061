//! Constants: handles to bytes plus the transforms that lead from the stored form to the used one. Nothing is loaded until it is streamed or read.

use std::sync::{Arc, OnceLock};

use crate::error::{Context, Result};
use crate::limits;
use crate::tensor::{DType, Region, Tensor, TensorError, decode_floats, encode_floats, num};

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
            Region::Inline(Arc::from(tensor.to_le_bytes())),
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

    /// The element type in the file.
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

    /// The stored bytes, before the transforms.
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
    }

    /// The whole constant in memory.
    ///
    /// # Errors
    /// When the bytes cannot be read.
    pub fn read(&self) -> Result<Tensor> {
        let bytes = self.region.read().at_tensor(&self.name)?;
        let mut tensor =
            Tensor::from_le_bytes(self.stored_dtype, self.stored_shape.clone(), &bytes)
                .at_tensor(&self.name)?;
        drop(bytes);
        for transform in &self.transforms {
            tensor = apply(&tensor, transform).at_tensor(&self.name)?;
        }
        Ok(tensor)
    }

    /// Hands the constant's little-endian bytes to `sink`, piece by piece, holding at most a chunk of them when no matrix has to be transposed.
    ///
    /// # Errors
    /// When the bytes cannot be read, or `sink` fails.
    pub fn stream(&self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Some((start, len, transposed)) = self.contiguous() else {
            return sink(&self.read()?.to_le_bytes());
        };
        if transposed.is_some() || self.stored_dtype.bits() < 8 {
            return self.stream_transposed(sink);
        }
        let width = u64::from(self.stored_dtype.bits() / 8);
        let (mut at, end) = (start * width, (start + len) * width);
        let chunk = num::u64_of(limits::STREAM_CHUNK_BYTES);
        let (mut raw, mut floats, mut out) = (Vec::new(), Vec::new(), Vec::new());
        while at < end {
            let n = chunk.min(end - at);
            raw.resize(num::usize_of(n), 0);
            self.region.read_at(at, &mut raw).at_tensor(&self.name)?;
            if self.stored_dtype == self.dtype {
                sink(&raw)?;
            } else {
                self.convert(&raw, &mut floats, &mut out)
                    .at_tensor(&self.name)?;
                sink(&out)?;
            }
            at += n;
        }
        Ok(())
    }

    /// Converts stored bytes to bytes of the final element type.
    fn convert(&self, raw: &[u8], floats: &mut Vec<f32>, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let casts: Vec<DType> = self.casts().collect();
        if self.stored_dtype.is_float() && casts.len() == 1 && self.dtype.is_float() {
            floats.clear();
            decode_floats(self.stored_dtype, raw, floats);
            encode_floats(self.dtype, floats, out);
        } else {
            let count = raw.len() * 8 / num::usize_of(u64::from(self.stored_dtype.bits()));
            let mut tensor = Tensor::from_le_bytes(self.stored_dtype, vec![count], raw)?;
            for dtype in casts {
                tensor = tensor.cast(dtype);
            }
            out.extend(tensor.to_le_bytes());
        }
        Ok(())
    }

    fn casts(&self) -> impl Iterator<Item = DType> + '_ {
        self.transforms.iter().filter_map(|t| match t {
            Transform::Cast(dtype) => Some(*dtype),
            Transform::Transpose | Transform::Rows { .. } | Transform::Reshape(_) => None,
        })
    }

    /// If the transforms only select a contiguous range of elements, cast, reshape, or transpose last: first element, count, and the matrix before transposition.
    fn contiguous(&self) -> Option<Selection> {
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

    /// Streams a matrix that is transposed at the end: holds its stored bytes and one band of the result.
    fn stream_transposed(&self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Some((start, len, Some((rows, columns)))) = self.contiguous() else {
            return sink(&self.read()?.to_le_bytes());
        };
        let width = num::usize_of(u64::from(self.stored_dtype.bits() / 8));
        if width == 0 {
            return sink(&self.read()?.to_le_bytes());
        }
        let mut raw = vec![0; num::usize_of(len) * width];
        self.region
            .read_at(start * num::u64_of(width), &mut raw)
            .at_tensor(&self.name)?;
        let band_rows =
            (limits::STREAM_CHUNK_BYTES / (rows * width).max(1)).clamp(1, columns.max(1));
        let (mut band, mut floats, mut out) = (Vec::new(), Vec::new(), Vec::new());
        let mut first = 0;
        while first < columns {
            let n = band_rows.min(columns - first);
            band.clear();
            band.resize(n * rows * width, 0);
            transpose_band(&raw, &mut band, (rows, columns), (first, n), width);
            if self.stored_dtype == self.dtype {
                sink(&band)?;
            } else {
                self.convert(&band, &mut floats, &mut out)
                    .at_tensor(&self.name)?;
                sink(&out)?;
            }
            first += n;
        }
        Ok(())
    }

    /// A look at every element (floating-point constants only; anything else gives the default). Done once, then remembered.
    ///
    /// # Errors
    /// When the bytes cannot be read.
    pub fn scan(&self) -> Result<ConstantScan> {
        if let Some(scan) = self.scan.get() {
            return Ok(*scan);
        }
        let mut scan = ConstantScan::default();
        if self.dtype.is_float() {
            let mut smallest = f32::INFINITY;
            // Widening changes no value, so the stored halves tell as much, in a quarter of the time.
            let halves = matches!(self.stored_dtype, DType::F16 | DType::BF16)
                && self.casts().all(|to| matches!(to, DType::F32 | DType::F64));
            if let (true, Some((start, len, _))) = (halves, self.contiguous()) {
                self.scan_halves(start, len, &mut scan, &mut smallest)?;
            } else {
                let mut floats = Vec::new();
                self.stream(&mut |bytes| {
                    floats.clear();
                    decode_floats(self.dtype, bytes, &mut floats);
                    scan_block(&floats, &mut scan, &mut smallest);
                    Ok(())
                })?;
            }
            scan.min_abs = if smallest.is_finite() { smallest } else { 0.0 };
        }
        Ok(*self.scan.get_or_init(|| scan))
    }
}

impl Constant {
    /// [`Constant::scan`] on the stored bits of `len` half floats from `start` on; blocks with something not finite are decoded.
    fn scan_halves(
        &self,
        start: u64,
        len: u64,
        scan: &mut ConstantScan,
        smallest: &mut f32,
    ) -> Result<()> {
        const MAGNITUDE: u16 = 0x7fff;
        let infinite = if self.stored_dtype == DType::F16 {
            0x7c00
        } else {
            0x7f80
        };
        let value = |bits: u16| {
            let mut out = Vec::new();
            decode_floats(self.stored_dtype, &bits.to_le_bytes(), &mut out);
            out.first().copied().unwrap_or_default()
        };
        let (mut raw, mut floats) = (Vec::new(), Vec::new());
        let (mut at, end) = (start * 2, (start + len) * 2);
        while at < end {
            let n = num::u64_of(limits::STREAM_CHUNK_BYTES).min(end - at);
            raw.resize(num::usize_of(n), 0);
            self.region.read_at(at, &mut raw).at_tensor(&self.name)?;
            let (mut high, mut low) = (0u16, u16::MAX);
            for pair in raw.chunks_exact(2) {
                let magnitude = u16::from_le_bytes([pair[0], pair[1]]) & MAGNITUDE;
                high = high.max(magnitude);
                // Zero wraps to the largest value, so that it never is the smallest.
                low = low.min(magnitude.wrapping_sub(1));
            }
            if high < infinite {
                scan.max_abs = scan.max_abs.max(value(high));
                if low != u16::MAX {
                    *smallest = smallest.min(value(low + 1));
                }
            } else {
                floats.clear();
                decode_floats(self.stored_dtype, &raw, &mut floats);
                scan_block(&floats, scan, smallest);
            }
            at += n;
        }
        Ok(())
    }
}

/// One block of [`Constant::scan`]: a fast pass that vectorises, and a slow one only when something is not finite.
fn scan_block(values: &[f32], scan: &mut ConstantScan, smallest: &mut f32) {
    const MAGNITUDE: u32 = 0x7fff_ffff;
    const INFINITE: u32 = 0x7f80_0000;
    let (mut high, mut low) = (0u32, u32::MAX);
    for x in values {
        let magnitude = x.to_bits() & MAGNITUDE;
        high = high.max(magnitude);
        // Zero wraps to the largest value, so that it never is the smallest.
        low = low.min(magnitude.wrapping_sub(1));
    }
    if high < INFINITE {
        scan.max_abs = scan.max_abs.max(f32::from_bits(high));
        if low != u32::MAX {
            *smallest = smallest.min(f32::from_bits(low + 1));
        }
        return;
    }
    for &x in values {
        if x.is_nan() {
            scan.nan += 1;
        } else if x.is_infinite() {
            scan.inf += 1;
        } else {
            scan.max_abs = scan.max_abs.max(x.abs());
            if x != 0.0 {
                *smallest = smallest.min(x.abs());
            }
        }
    }
}

/// Writes rows `first..first + n` of the transposed matrix into `band`.
fn transpose_band(
    raw: &[u8],
    band: &mut [u8],
    matrix: (usize, usize),
    range: (usize, usize),
    width: usize,
) {
    // The width as a constant makes the copy of an element one instruction instead of a call.
    match width {
        1 => transpose_tiles::<1>(raw, band, matrix, range),
        2 => transpose_tiles::<2>(raw, band, matrix, range),
        4 => transpose_tiles::<4>(raw, band, matrix, range),
        _ => transpose_tiles::<8>(raw, band, matrix, range),
    }
}

/// Tiles are gathered in a buffer that stays in the first-level cache, so that both sides are touched a run at a time.
fn transpose_tiles<const WIDTH: usize>(
    raw: &[u8],
    band: &mut [u8],
    (rows, columns): (usize, usize),
    (first, n): (usize, usize),
) {
    const TILE: usize = 32;
    let mut tile = [[[0; WIDTH]; TILE]; TILE];
    for r0 in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - r0);
        for c0 in (0..n).step_by(TILE) {
            let across = TILE.min(n - c0);
            for r in 0..height {
                let from = &raw[((r0 + r) * columns + first + c0) * WIDTH..][..across * WIDTH];
                for (column, element) in tile.iter_mut().zip(from.chunks_exact(WIDTH)) {
                    column[r].copy_from_slice(element);
                }
            }
            for (c, column) in tile[..across].iter().enumerate() {
                let to = ((c0 + c) * rows + r0) * WIDTH;
                band[to..to + height * WIDTH].copy_from_slice(column[..height].as_flattened());
            }
        }
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
    fn scan_finds_what_is_not_finite() {
        let values = vec![0.0, -3.0, f32::NAN, f32::INFINITY, 1e-9];
        let c = Constant::from_tensor("w", &Tensor::f32(vec![5], values).unwrap()).unwrap();
        assert_eq!(
            c.scan().unwrap(),
            ConstantScan {
                max_abs: 3.0,
                min_abs: 1e-9,
                nan: 1,
                inf: 1
            }
        );
    }

    #[test]
    fn the_scan_of_stored_halves_is_that_of_their_values() {
        for dtype in [DType::F16, DType::BF16] {
            for last in [0.5, f32::NAN, f32::NEG_INFINITY] {
                let values = vec![0.0, -0.0, 0.25, -3.0, last];
                let halves = Constant::from_tensor(
                    "w",
                    &Tensor::float(dtype, vec![5], values.clone()).unwrap(),
                )
                .unwrap();
                let floats =
                    Constant::from_tensor("w", &Tensor::f32(vec![5], values).unwrap()).unwrap();
                assert_eq!(
                    halves.cast(DType::F32).scan().unwrap(),
                    floats.scan().unwrap(),
                    "{dtype} {last}"
                );
            }
        }
    }

    #[test]
    fn a_region_of_the_wrong_length_is_refused() {
        let region = Region::Inline(Arc::from(vec![0u8; 7]));
        assert!(Constant::from_region("w", DType::F16, vec![4], region).is_err());
    }
}
