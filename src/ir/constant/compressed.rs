//! Constants that are stored in fewer bits than they are used in: integers under an affine map, indices into lookup tables, values with a mask
//! of where they are, and these together. They are decoded row by row, when somebody reads them; who can write the form takes its parts.

use std::sync::Arc;

use super::{Constant, Transform};
use crate::error::Result;
use crate::limits;
use crate::tensor::{DType, Tensor, TensorError, num};

/// Below this a scale loses digits in `f16`: its smallest number of full precision.
const F16_NORMAL: f32 = 6.103_515_6e-5;

/// The stored form of a compressed constant, from the inside to the outside: data, looked up in tables, under an affine map, spread over a mask.
#[derive(Clone, Debug)]
pub struct Compression {
    /// Indices, integers or values: of the constant's shape (but for the vectors of a table), or a vector where there is a mask.
    pub data: Constant,
    /// What the data are indices into.
    pub palette: Option<Palette>,
    /// What is done to the numbers.
    pub affine: Option<Affine>,
    /// Where the data are, if not everywhere: `u1`, of the shape of the indices. Elsewhere the constant is 0.
    pub mask: Option<Constant>,
    /// Whether a form with a mask gives the whole tensor, and not only the vector of what is set.
    pub dense: bool,
}

/// Lookup tables.
#[derive(Clone, Debug)]
pub struct Palette {
    /// The tables: as many along each axis as there are groups, then entries, then the elements of an entry.
    pub lut: Constant,
    /// The axis along which the elements of an entry lie.
    pub vector_axis: usize,
}

/// `(x − offset) · scale`, per block.
#[derive(Clone, Debug)]
pub struct Affine {
    /// As many along each axis as there are blocks.
    pub scale: Constant,
    /// In the shape of the scale.
    pub offset: Option<Constant>,
}

/// What kind of form it is, for reports: the parts that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Form {
    /// It has tables.
    pub palette: bool,
    /// It has scales.
    pub affine: bool,
    /// It has a mask.
    pub sparse: bool,
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            (self.sparse, "sparse"),
            (self.palette, "lookup table"),
            (self.affine, "affine"),
        ];
        let parts = parts.iter().filter(|(there, _)| *there);
        let parts: Vec<&str> = parts.map(|(_, name)| *name).collect();
        f.write_str(&parts.join(" + "))
    }
}

impl Compression {
    /// Data that are values, not yet in any form.
    #[must_use]
    pub fn of(data: Constant) -> Self {
        Compression {
            data,
            palette: None,
            affine: None,
            mask: None,
            dense: true,
        }
    }

    /// What it is.
    #[must_use]
    pub fn form(&self) -> Form {
        Form {
            palette: self.palette.is_some(),
            affine: self.affine.is_some(),
            sparse: self.mask.is_some(),
        }
    }

    /// The parts.
    pub fn parts(&self) -> impl Iterator<Item = &Constant> {
        let affine = self.affine.as_ref();
        [
            Some(&self.data),
            self.palette.as_ref().map(|p| &p.lut),
            affine.map(|a| &a.scale),
            affine.and_then(|a| a.offset.as_ref()),
            self.mask.as_ref(),
        ]
        .into_iter()
        .flatten()
    }

    /// Bytes of all parts, of which some may be compressed themselves.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        let bytes = |part: &Constant| match part.stored_form() {
            Some(form) => form.stored_bytes(),
            None => part.byte_len(),
        };
        self.parts()
            .fold(0, |n, part| n.saturating_add(bytes(part)))
    }

    /// The shape of the indices.
    fn inner_shape(&self) -> &[usize] {
        self.mask.as_ref().unwrap_or(&self.data).shape()
    }

    /// Elements of an entry of the tables.
    #[must_use]
    pub fn vector_width(&self) -> usize {
        let lut = self.palette.as_ref().map(|p| p.lut.shape());
        lut.and_then(<[usize]>::last).copied().unwrap_or(1)
    }

    /// The axis along which entries lie.
    fn vector_axis(&self) -> usize {
        self.palette.as_ref().map_or(0, |p| p.vector_axis)
    }

    /// The shape of the whole tensor.
    fn whole_shape(&self) -> Vec<usize> {
        let mut shape = self.inner_shape().to_vec();
        if let Some(n) = shape.get_mut(self.vector_axis()) {
            *n = n.saturating_mul(self.vector_width());
        }
        shape
    }

    fn shape(&self) -> Vec<usize> {
        if self.mask.is_some() && !self.dense {
            return vec![self.data.len().saturating_mul(self.vector_width())];
        }
        self.whole_shape()
    }

    fn dtype(&self) -> DType {
        match (&self.affine, &self.palette) {
            (Some(affine), _) => affine.scale.dtype(),
            (None, Some(palette)) => palette.lut.dtype(),
            (None, None) => self.data.dtype(),
        }
    }

    fn same_as(&self, other: &Compression) -> bool {
        self.form() == other.form()
            && self.dense == other.dense
            && self.vector_axis() == other.vector_axis()
            && self.parts().count() == other.parts().count()
            && self.parts().zip(other.parts()).all(|(a, b)| a.same_as(b))
    }

    /// Refuses parts that do not fit each other.
    fn check(&self) -> Result<(), TensorError> {
        let whole = self.whole_shape();
        let count = whole
            .iter()
            .try_fold(1u64, |n, &d| n.checked_mul(num::u64_of(d)));
        if count.is_none_or(|n| n > limits::EXPANDED_ELEMENTS.get()) {
            return Err(TensorError::TooLarge { shape: whole });
        }
        let fits = |part: &Constant, shape: &[usize], more: usize| {
            let own = part.shape();
            own.len() == shape.len() + more
                && own
                    .iter()
                    .zip(shape)
                    .all(|(&g, &n)| g > 0 && n.is_multiple_of(g))
        };
        let wrong = |part: &Constant| TensorError::ElementCount {
            shape: part.shape().to_vec(),
            expected: whole.iter().product(),
            found: part.len(),
        };
        if let Some(palette) = &self.palette {
            let rank = self.inner_shape().len();
            let lut = &palette.lut;
            let entries = lut.shape().get(rank).copied();
            if !fits(lut, self.inner_shape(), 2)
                || self.data.dtype().bits() > 8
                || entries != Some(1 << self.data.dtype().bits())
                || self.vector_width() == 0
                || (self.vector_width() > 1 && palette.vector_axis >= rank)
            {
                return Err(wrong(lut));
            }
        }
        if let Some(affine) = &self.affine {
            let offset = affine.offset.as_ref();
            if !fits(&affine.scale, &whole, 0)
                || offset.is_some_and(|o| o.shape() != affine.scale.shape())
            {
                return Err(wrong(&affine.scale));
            }
        }
        Ok(())
    }

    /// The form of the constant after a transform of it, where that is one.
    fn after(&self, transform: &Transform) -> Result<Option<Compression>> {
        match transform {
            Transform::Cast(to) => self.cast(*to),
            Transform::Transpose => self.transposed(),
            Transform::Rows { start, len } => self.rows(*start, *len),
            Transform::Reshape(shape) => self.reshaped(shape),
        }
    }

    fn cast(&self, to: DType) -> Result<Option<Compression>> {
        let mut out = self.clone();
        if !to.is_float() || !self.dtype().is_float() {
            return Ok(None);
        }
        match (&mut out.affine, &mut out.palette) {
            (Some(affine), _) => {
                let small = affine.scale.scan()?;
                if to == DType::F16 && small.min_abs > 0.0 && small.min_abs < F16_NORMAL {
                    return Ok(None);
                }
                affine.scale = affine.scale.cast(to);
                // Offsets that are floats are of the type of the scale.
                let offset = affine.offset.as_ref();
                let cast = offset.map(|o| {
                    if o.dtype().is_float() {
                        o.cast(to)
                    } else {
                        o.clone()
                    }
                });
                affine.offset = cast;
            }
            (None, Some(palette)) => palette.lut = palette.lut.cast(to),
            (None, None) => out.data = out.data.cast(to),
        }
        Ok(Some(out))
    }

    fn transposed(&self) -> Result<Option<Compression>> {
        let mut out = self.clone();
        if self.mask.is_some() || self.data.shape().len() != 2 {
            return Ok(None);
        }
        out.data = out.data.transpose()?;
        if let Some(palette) = &mut out.palette {
            let &[rows, columns, entries, width] = palette.lut.shape() else {
                return Ok(None);
            };
            let shape = vec![columns, rows, entries, width];
            let table = entries * width;
            palette.lut = if rows == 1 || columns == 1 {
                palette.lut.reshape(shape)?
            } else {
                let values = numbers(&palette.lut.read()?);
                let places = (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c));
                let turned = places.flat_map(|i| values[i * table..][..table].iter().copied());
                let turned = tensor(palette.lut.dtype(), shape, turned.collect())?;
                Constant::from_tensor(palette.lut.name(), &turned)?
            };
            palette.vector_axis = 1 - palette.vector_axis.min(1);
        }
        if let Some(affine) = &mut out.affine {
            affine.scale = affine.scale.transpose()?;
            affine.offset = affine
                .offset
                .as_ref()
                .map(Constant::transpose)
                .transpose()?;
        }
        Ok(Some(out))
    }

    fn rows(&self, start: usize, len: usize) -> Result<Option<Compression>> {
        let mut out = self.clone();
        let whole = self.whole_shape();
        let Some(&rows) = whole.first() else {
            return Ok(None);
        };
        let vectors = self.vector_width() > 1 && self.vector_axis() == 0;
        if self.mask.is_some() || vectors {
            return Ok(None);
        }
        // Of one group for all rows all stays; else whole groups are taken.
        let part = |part: &Constant| -> Result<Option<Constant>> {
            let groups = part.shape()[0];
            let size = rows / groups.max(1);
            Ok(match groups {
                1 => Some(part.clone()),
                _ if start.is_multiple_of(size.max(1)) && len.is_multiple_of(size.max(1)) => {
                    Some(part.rows(start / size.max(1), len / size.max(1))?)
                }
                _ => None,
            })
        };
        let mut all = true;
        let mut take = |c: &mut Constant| -> Result<()> {
            match part(c)? {
                Some(new) => *c = new,
                None => all = false,
            }
            Ok(())
        };
        if let Some(palette) = &mut out.palette {
            take(&mut palette.lut)?;
        }
        if let Some(affine) = &mut out.affine {
            take(&mut affine.scale)?;
            if let Some(offset) = &mut affine.offset {
                take(offset)?;
            }
        }
        out.data = out.data.rows(start, len)?;
        Ok(all.then_some(out))
    }

    /// Axes of size 1 come and go, but one stays.
    fn reshaped(&self, shape: &[usize]) -> Result<Option<Compression>> {
        let old = self.whole_shape();
        let wide = |shape: &[usize]| -> Vec<usize> {
            (0..shape.len()).filter(|&a| shape[a] != 1).collect()
        };
        let (from, to) = (wide(&old), wide(shape));
        let sizes = |shape: &[usize], axes: &[usize]| -> Vec<usize> {
            axes.iter().map(|&a| shape[a]).collect()
        };
        if shape.is_empty() || sizes(&old, &from) != sizes(shape, &to) {
            return Ok(None);
        }
        let mut out = self.clone();
        // The sizes of a part along the new axes, and those of its own axes after them.
        let spread = |part: &Constant| -> Result<Constant, TensorError> {
            let mut new = vec![1; shape.len()];
            for (&a, &b) in from.iter().zip(&to) {
                new[b] = part.shape()[a];
            }
            new.extend_from_slice(&part.shape()[old.len()..]);
            part.reshape(new)
        };
        if let Some(palette) = &mut out.palette {
            palette.lut = spread(&palette.lut)?;
            let place = from.iter().position(|&a| a == palette.vector_axis);
            palette.vector_axis = match place {
                Some(i) => to[i],
                None if self.vector_width() > 1 => return Ok(None),
                None => 0,
            };
        }
        if let Some(affine) = &mut out.affine {
            affine.scale = spread(&affine.scale)?;
            affine.offset = affine.offset.as_ref().map(spread).transpose()?;
        }
        match &mut out.mask {
            Some(mask) => *mask = spread(mask)?,
            None => out.data = spread(&out.data)?,
        }
        Ok(Some(out))
    }

    /// Hands the elements to `sink`, some rows at a time.
    fn decode(&self, sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let mut decoder = Decoder::new(self)?;
        let mut buffer = Vec::new();
        let enough = limits::STREAM_CHUNK_BYTES / 4;
        for row in 0..decoder.rows {
            decoder.row(row, &mut buffer);
            if buffer.len() >= enough {
                sink(&buffer)?;
                buffer.clear();
            }
        }
        if buffer.is_empty() {
            Ok(())
        } else {
            sink(&buffer)
        }
    }
}

/// Stored numbers by index.
enum Packed {
    Bits {
        bytes: Vec<u8>,
        bits: usize,
        signed: bool,
    },
    Floats(Vec<f32>),
}

impl Packed {
    fn new(constant: &Constant) -> Result<Self> {
        let dtype = constant.dtype();
        if !dtype.is_int() || dtype.bits() > 8 {
            return Ok(Packed::Floats(numbers(&constant.read()?)));
        }
        let mut bytes = Vec::with_capacity(num::usize_of(constant.byte_len()) + 1);
        constant.stream(&mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        // What straddles the last byte reads one more.
        bytes.push(0);
        Ok(Packed::Bits {
            bytes,
            bits: num::usize_of(u64::from(dtype.bits())),
            signed: dtype.is_signed_int(),
        })
    }

    /// The bits of an element.
    fn index(&self, i: usize) -> usize {
        match self {
            Packed::Bits { bytes, bits, .. } => {
                let at = i * bits;
                let pair = u16::from_le_bytes([bytes[at / 8], bytes[at / 8 + 1]]);
                usize::from(pair >> (at % 8)) & ((1 << bits) - 1)
            }
            Packed::Floats(_) => 0,
        }
    }

    fn number(&self, i: usize) -> f32 {
        match self {
            Packed::Bits { bits, signed, .. } => {
                let n = self.index(i);
                let half = 1usize << (bits - 1);
                if *signed {
                    num::f32_of(n ^ half) - num::f32_of(half)
                } else {
                    num::f32_of(n)
                }
            }
            Packed::Floats(v) => v[i],
        }
    }
}

/// Numbers of any kind, for arithmetic in single precision: every stored type below 24 bits is exact there.
fn numbers(tensor: &Tensor) -> Vec<f32> {
    match tensor.floats() {
        Ok(floats) => floats.to_vec(),
        Err(_) => tensor.to_f64().into_iter().map(num::f32_of_f64).collect(),
    }
}

/// Groups along the axes: how many elements each has, and how far apart they are.
struct Grid {
    sizes: Vec<usize>,
    strides: Vec<usize>,
}

impl Grid {
    fn new(shape: &[usize], groups: &[usize]) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * groups[axis];
        }
        let sizes = shape.iter().zip(groups).map(|(n, g)| (n / g).max(1));
        Grid {
            sizes: sizes.collect(),
            strides,
        }
    }

    /// The first group of a row: `at` is the place along all axes but the last.
    fn base(&self, at: &[usize]) -> usize {
        at.iter()
            .zip(&self.sizes)
            .zip(&self.strides)
            .map(|((i, size), stride)| i / size * stride)
            .sum()
    }

    /// How many elements of a row a group has.
    fn last(&self) -> usize {
        self.sizes.last().copied().unwrap_or(1)
    }
}

/// Everything that a row needs.
struct Decoder {
    whole: Vec<usize>,
    inner: Vec<usize>,
    rows: usize,
    dense: bool,
    data: Packed,
    mask: Option<(Packed, Vec<usize>)>,
    lut: Option<(Vec<f32>, Grid, usize)>,
    width: usize,
    axis: usize,
    affine: Option<(Vec<f32>, Vec<f32>, Grid)>,
}

impl Decoder {
    fn new(form: &Compression) -> Result<Self> {
        // A scalar is a row of one.
        let axes = |mut shape: Vec<usize>| {
            if shape.is_empty() {
                shape.push(1);
            }
            shape
        };
        let (whole, inner) = (axes(form.whole_shape()), axes(form.inner_shape().to_vec()));
        let groups = |part: &Constant| axes(part.shape()[..form.inner_shape().len()].to_vec());
        let row = *inner.last().unwrap_or(&1);
        let mask = match &form.mask {
            None => None,
            Some(mask) => {
                let bits = Packed::new(mask)?;
                // How many are set before each row.
                let (mut before, mut set) = (vec![], 0);
                for i in 0..mask.len() {
                    if i.is_multiple_of(row) {
                        before.push(set);
                    }
                    set += bits.index(i);
                }
                if set != form.data.len() {
                    return Err(TensorError::ElementCount {
                        shape: mask.shape().to_vec(),
                        expected: set,
                        found: form.data.len(),
                    }
                    .into());
                }
                Some((bits, before))
            }
        };
        let lut = match &form.palette {
            None => None,
            Some(palette) => {
                let grid = Grid::new(&inner, &groups(&palette.lut));
                let entries = 1usize << form.data.dtype().bits().min(8);
                Some((numbers(&palette.lut.read()?), grid, entries))
            }
        };
        let affine = match &form.affine {
            None => None,
            Some(affine) => {
                let offset = affine.offset.as_ref().map(Constant::read).transpose()?;
                let offset = offset.as_ref().map(numbers).unwrap_or_default();
                let grid = Grid::new(&whole, &groups(&affine.scale));
                Some((numbers(&affine.scale.read()?), offset, grid))
            }
        };
        let empty = whole.contains(&0);
        let rows = whole.iter().rev().skip(1).product();
        Ok(Decoder {
            rows: if empty { 0 } else { rows },
            whole,
            inner,
            dense: form.dense,
            data: Packed::new(&form.data)?,
            mask,
            lut,
            width: form.vector_width(),
            axis: form.vector_axis(),
            affine,
        })
    }

    /// Appends a row of the tensor.
    fn row(&mut self, row: usize, out: &mut Vec<f32>) {
        let axes = self.whole.len() - 1;
        let mut at = vec![0; axes];
        let mut rest = row;
        for axis in (0..axes).rev() {
            at[axis] = rest % self.whole[axis];
            rest /= self.whole[axis];
        }
        // Within entries of tables, if those lie across rows; within the row, if they lie along it.
        let along = self.axis == axes;
        let mut inside = at.clone();
        let mut part = 0;
        if let Some(i) = inside.get_mut(self.axis).filter(|_| self.width > 1) {
            part = *i % self.width;
            *i /= self.width;
        }
        let inner_row = inside
            .iter()
            .zip(&self.inner)
            .fold(0, |row, (i, n)| row * n + i);
        let per_row = self.inner[axes];
        let first = inner_row * per_row;
        let mut set = self
            .mask
            .as_ref()
            .map_or(first, |(_, before)| before[inner_row]);
        let table = self
            .lut
            .as_ref()
            .map_or(0, |(_, grid, _)| grid.base(&inside));
        let block = self
            .affine
            .as_ref()
            .map_or(0, |(_, _, grid)| grid.base(&at));
        let width = if along { self.width } else { 1 };
        for j in 0..per_row {
            let there = match &self.mask {
                Some((bits, _)) => bits.index(first + j) == 1,
                None => true,
            };
            for v in 0..width {
                if !there {
                    if self.dense {
                        out.push(0.0);
                    }
                    continue;
                }
                let x = match &self.lut {
                    Some((values, grid, entries)) => {
                        let entry = (table + j / grid.last()) * entries + self.data.index(set);
                        values[entry * self.width + if along { v } else { part }]
                    }
                    None => self.data.number(set),
                };
                out.push(match &self.affine {
                    Some((scale, offset, grid)) => {
                        let k = block + (j * width + v) / grid.last();
                        scale[k] * (x - offset.get(k).copied().unwrap_or(0.0))
                    }
                    None => x,
                });
            }
            set += usize::from(there);
        }
    }
}

/// Decoded numbers as a tensor of an element type.
fn tensor(dtype: DType, shape: Vec<usize>, values: Vec<f32>) -> Result<Tensor> {
    if dtype.is_float() {
        return Ok(Tensor::f32(shape, values)?.cast(dtype));
    }
    if dtype == DType::Bool {
        let truths = values.iter().map(|&x| x != 0.0).collect();
        return Ok(Tensor::bool(shape, truths)?);
    }
    let integers = values.iter().map(|&x| num::i64_of_f32(x)).collect();
    Ok(Tensor::int(dtype, shape, integers)?)
}

impl Constant {
    /// A constant in a compressed form. Nothing is read but where there is a mask. A scalar is decoded at once: it takes no fewer bytes
    /// compressed, and targets hold tensors with axes in these forms only.
    ///
    /// # Errors
    /// When the parts do not fit each other, or it would have more than [`limits::EXPANDED_ELEMENTS`] elements.
    pub fn compressed(name: &str, form: Compression) -> Result<Self> {
        form.check()?;
        let (dtype, shape) = (form.dtype(), form.shape());
        let scalar = shape.is_empty();
        let constant = Constant {
            name: name.into(),
            dtype,
            shape: shape.clone(),
            stored_dtype: dtype,
            stored_shape: shape,
            region: form.data.region.clone(),
            transforms: Vec::new(),
            scan: Arc::default(),
            seen: Arc::default(),
            compression: Some(Arc::new(form)),
        };
        if scalar {
            return Constant::from_tensor(name, &constant.read()?);
        }
        Ok(constant)
    }

    /// Whether it is stored in a compressed form.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.compression.is_some()
    }

    /// The compressed form of the constant as it is used; none if it is not compressed, or not any more after what was done to it.
    ///
    /// # Errors
    /// When a part cannot be read.
    pub fn compression(&self) -> Result<Option<Compression>> {
        let Some(form) = &self.compression else {
            return Ok(None);
        };
        let mut form = Compression::clone(form);
        for transform in &self.transforms {
            match form.after(transform)? {
                Some(next) => form = next,
                None => return Ok(None),
            }
        }
        Ok(Some(form))
    }

    /// The form before anything was done to it.
    #[must_use]
    pub fn stored_form(&self) -> Option<&Compression> {
        self.compression.as_deref()
    }

    pub(super) fn same_compression(&self, other: &Constant) -> bool {
        match (&self.compression, &other.compression) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.same_as(b),
            (_, _) => false,
        }
    }

    /// The decoded tensor before its transforms.
    pub(super) fn decoded(&self, form: &Compression) -> Result<Tensor> {
        let mut values = Vec::with_capacity(self.stored_shape.iter().product());
        form.decode(&mut |part| {
            values.extend_from_slice(part);
            Ok(())
        })?;
        tensor(self.stored_dtype, self.stored_shape.clone(), values)
    }

    /// Streams a compressed constant: holds its stored bytes and some rows, or all of it where elements change places.
    pub(super) fn stream_decoded(
        &self,
        form: &Compression,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let moves = |t: &Transform| matches!(t, Transform::Transpose | Transform::Rows { .. });
        if self.transforms.iter().any(moves) || self.dtype.bits() < 8 {
            return sink(&self.read()?.to_le_bytes());
        }
        form.decode(&mut |part| {
            let mut chunk = tensor(self.stored_dtype, vec![part.len()], part.to_vec())?;
            for to in self.casts() {
                chunk = chunk.cast(to);
            }
            sink(&chunk.to_le_bytes())
        })
    }
}

#[cfg(test)]
#[path = "compressed_tests.rs"]
mod tests;
