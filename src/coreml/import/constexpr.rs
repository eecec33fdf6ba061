//! Compressed weights, both generations: each becomes one constant in the form that it is stored in. Operations that are joined become one form.

use super::call::Call;
use super::entry::Entry;
use super::{Handler, Importer};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::{Affine, Compression, Constant, Palette};
use crate::limits;
use crate::tensor::{DType, Storage, Tensor, num};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "constexpr_cast" => cast,
        "constexpr_affine_dequantize" => affine,
        "constexpr_blockwise_shift_scale" => blockwise,
        "constexpr_lut_to_dense" => palette,
        "constexpr_sparse_to_dense" => sparse,
        "constexpr_lut_to_sparse" => sparse_palette,
        "constexpr_sparse_blockwise_shift_scale" => sparse_blockwise,
        _ => return None,
    };
    Some(handler)
}

fn constant(call: &mut Call, parameter: &str) -> Result<Constant> {
    let entry = call.required(parameter)?;
    if let Entry::Constant { constant } = entry {
        return Ok(constant);
    }
    Err(call
        .wrong(parameter, "a constant", &entry.describe())
        .into())
}

fn optional(call: &mut Call, parameter: &str) -> Result<Option<Constant>> {
    if call.peek(parameter).is_none() {
        return Ok(None);
    }
    constant(call, parameter).map(Some)
}

fn entry(name: &str, tensor: &Tensor) -> Result<Entry> {
    Ok(Entry::constant(Constant::from_tensor(name, tensor)?))
}

/// A constant kept in half precision and used in single.
fn cast(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let source = constant(call, "source_val")?;
    let to = call.string("output_dtype")?;
    match to.as_deref() {
        Some("fp32") if source.dtype() == DType::F16 => {
            Ok(vec![Entry::constant(source.cast(DType::F32))])
        }
        to => Err(call
            .unsupported("output_dtype", to.unwrap_or("nothing"))
            .into()),
    }
}

/// Whether every size is a multiple of the size of the grid.
fn divides(shape: &[usize], grid: &[usize]) -> bool {
    shape.len() == grid.len() && shape.iter().zip(grid).all(|(s, &g)| g > 0 && s % g == 0)
}

/// A weight in a compressed form.
fn compressed(call: &Call, form: Compression) -> Result<Entry> {
    Ok(Entry::constant(Constant::compressed(&call.name, form)?))
}

/// Data in the form that they have themselves, if more can be done to that: tables give the numbers of an affine map.
fn inner(data: Constant) -> Result<Compression> {
    let form = data.compression()?;
    let fits = |form: &Compression| form.affine.is_none() && form.mask.is_none();
    Ok(form.filter(fits).unwrap_or_else(|| Compression::of(data)))
}

/// First generation: a scale and a zero point per tensor, or per index of one axis.
fn affine(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let data = constant(call, "quantized_data")?;
    let scale = constant(call, "scale")?;
    let zero = constant(call, "zero_point")?;
    let axis = call.axis("axis", data.shape().len(), 0)?;
    let size = data.shape()[axis];
    for (parameter, vector) in [("scale", &scale), ("zero_point", &zero)] {
        let fits = match vector.shape() {
            [] => true,
            [n] => *n == size,
            _ => false,
        };
        if !fits {
            let expected = format!("a scalar or {size} values");
            let found = format!("{:?}", vector.shape());
            return Err(call.wrong(parameter, &expected, &found).into());
        }
    }
    // A scale for all and a zero point for each, or the reverse: as many of both.
    let each = scale.len().max(zero.len());
    let grid = |parameter: &Constant| -> Result<Constant> {
        let mut shape = vec![1; data.shape().len()];
        shape[axis] = each;
        if parameter.len() == each {
            return Ok(parameter.reshape(shape)?);
        }
        let tensor = parameter.read()?;
        let repeated = picked(&tensor, shape, (0..each).map(|_| Some(0)))?;
        Constant::from_tensor(parameter.name(), &repeated)
    };
    let affine = Affine {
        scale: grid(&scale)?,
        offset: Some(grid(&zero)?),
    };
    let mut form = inner(data)?;
    form.affine = Some(affine);
    Ok(vec![compressed(call, form)?])
}

/// Second generation: a scale, and perhaps an offset, per block of any shape.
fn blockwise(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let data = constant(call, "data")?;
    let affine = shifted(call, data.shape(), data.dtype())?;
    let mut form = inner(data)?;
    form.affine = Some(affine);
    Ok(vec![compressed(call, form)?])
}

fn shifted(call: &mut Call, shape: &[usize], dtype: DType) -> Result<Affine> {
    let scale = constant(call, "scale")?;
    let offset = optional(call, "offset")?;
    if !divides(shape, scale.shape()) {
        let expected = format!("divisors of {shape:?}");
        let found = format!("{:?}", scale.shape());
        return Err(call.wrong("scale", &expected, &found).into());
    }
    if let Some(offset) = &offset {
        if offset.shape() != scale.shape() {
            let (expected, found) = (
                format!("{:?}", scale.shape()),
                format!("{:?}", offset.shape()),
            );
            return Err(call.wrong("offset", &expected, &found).into());
        }
        if !offset.dtype().is_float() && offset.dtype() != dtype {
            let (expected, found) = (dtype.name(), offset.dtype().name());
            return Err(call.wrong("offset", expected, found).into());
        }
    }
    Ok(Affine { scale, offset })
}

/// Refuses a result that the file's own size does not bound.
fn bounded(call: &Call, parameter: &str, shape: &[usize]) -> Result<usize> {
    let count = shape
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(num::u64_of(d)));
    match count {
        Some(n) if n <= limits::EXPANDED_ELEMENTS.get() => Ok(num::usize_of(n)),
        Some(_) | None => {
            let most = format!("at most {} elements", limits::EXPANDED_ELEMENTS);
            Err(call.wrong(parameter, &most, &format!("{shape:?}")).into())
        }
    }
}

/// The result's shape, that the first generation gives as a parameter.
fn shape(call: &mut Call) -> Result<Vec<usize>> {
    let sizes = call.ints("shape")?.unwrap_or_default();
    let shape: Option<Vec<usize>> = sizes.iter().map(|&n| usize::try_from(n).ok()).collect();
    shape.ok_or_else(|| call.wrong("shape", "sizes", &format!("{sizes:?}")).into())
}

/// Bytes as elements of fewer bits each, packed from the least significant bit on.
fn packed(
    call: &Call,
    parameter: &str,
    bytes: &Constant,
    dtype: DType,
    shape: Vec<usize>,
) -> Result<Constant> {
    let count = bounded(call, "shape", &shape)?;
    let needed = dtype.bytes_for(num::u64_of(count));
    let stored = bytes.dtype() == DType::U8 && bytes.transforms().is_empty();
    if !stored || needed != Some(bytes.byte_len()) {
        let expected = format!(
            "{} bytes for {count} elements of {} bits",
            needed.unwrap_or(u64::MAX),
            dtype.bits()
        );
        let found = bytes.byte_len().to_string();
        return Err(call.wrong(parameter, &expected, &found).into());
    }
    Constant::from_region(bytes.name(), dtype, shape, bytes.region().clone())
}

/// A tensor of these elements, of the type of `like`.
fn picked(
    like: &Tensor,
    shape: Vec<usize>,
    indices: impl Iterator<Item = Option<usize>>,
) -> Result<Tensor> {
    Ok(match like.storage() {
        Storage::Float(v) => {
            let values = indices.map(|i| i.map_or(0.0, |i| v[i])).collect();
            Tensor::float(like.dtype(), shape, values)?
        }
        Storage::Int(v) => {
            let values = indices.map(|i| i.map_or(0, |i| v[i])).collect();
            Tensor::int(like.dtype(), shape, values)?
        }
        Storage::Bool(v) => {
            let values = indices.map(|i| i.is_some_and(|i| v[i])).collect();
            Tensor::bool(shape, values)?
        }
    })
}

/// Indices into a lookup table.
fn palette(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let indices = constant(call, "indices")?;
    let lut = constant(call, "lut")?;
    let mut form = if call.opset < Opset::CoreML8 {
        let shape = shape(call)?;
        let dtype = match lut.shape() {
            [2] => DType::U1,
            [4] => DType::U2,
            [16] => DType::U4,
            [64] => DType::U6,
            [256] => DType::U8,
            other => {
                let expected = "2, 4, 16, 64 or 256 values";
                return Err(call.wrong("lut", expected, &format!("{other:?}")).into());
            }
        };
        Compression::of(packed(call, "indices", &indices, dtype, shape)?)
    } else {
        Compression::of(indices)
    };
    let rank = form.data.shape().len();
    form.palette = Some(if call.opset < Opset::CoreML8 {
        let mut groups = vec![1; rank];
        groups.extend([lut.len(), 1]);
        Palette {
            lut: lut.reshape(groups)?,
            vector_axis: 0,
        }
    } else {
        table(call, form.data.shape(), form.data.dtype(), lut)?
    });
    Ok(vec![compressed(call, form)?])
}

/// The tables of the second generation.
fn table(call: &mut Call, indices: &[usize], dtype: DType, lut: Constant) -> Result<Palette> {
    let vector_axis = vector_axis(call, indices.len(), &lut)?;
    check_lut(call, indices, dtype, &lut)?;
    let mut shape = indices.to_vec();
    let width = lut.shape().last().copied().unwrap_or(1);
    if let Some(n) = shape.get_mut(vector_axis) {
        *n = n.saturating_mul(width);
    }
    bounded(call, "lut", &shape)?;
    Ok(Palette { lut, vector_axis })
}

/// The axis along which vectors of the table lie.
fn vector_axis(call: &mut Call, rank: usize, lut: &Constant) -> Result<usize> {
    let given = call.peek("vector_axis").is_some();
    let axis = call.axis("vector_axis", rank, -1)?;
    match lut.shape().last() {
        Some(&n) if n > 1 && !given => Err(call
            .wrong("vector_axis", "an axis for vectors of the table", "nothing")
            .into()),
        Some(_) | None => Ok(axis),
    }
}

fn check_lut(call: &Call, indices: &[usize], dtype: DType, lut: &Constant) -> Result<()> {
    let rank = indices.len();
    let fits = lut.shape().len() == rank + 2
        && divides(indices, &lut.shape()[..rank])
        && lut.shape()[rank] == 1 << dtype.bits().min(8)
        && lut.shape()[rank + 1] > 0;
    if fits {
        return Ok(());
    }
    let expected = format!(
        "tables of {} entries whose counts divide {indices:?}",
        1 << dtype.bits().min(8)
    );
    Err(call
        .wrong("lut", &expected, &format!("{:?}", lut.shape()))
        .into())
}

/// Refuses a mask that sets another number of elements than there are values.
fn check_mask(call: &Call, parameter: &str, mask: &Constant, count: usize) -> Result<()> {
    if !mask.dtype().is_int() || mask.dtype().bits() != 1 {
        let found = mask.dtype().name();
        return Err(call.wrong("mask", "bits", found).into());
    }
    let mut set = 0;
    mask.stream(&mut |bytes| {
        let ones = bytes.iter().map(|b| u64::from(b.count_ones()));
        set += ones.sum::<u64>();
        Ok(())
    })?;
    if set != num::u64_of(count) {
        let expected = format!("{set} values, one per element of the mask that is set");
        return Err(call.wrong(parameter, &expected, &count.to_string()).into());
    }
    Ok(())
}

/// The form of values behind this mask; what was done to them under the same mask stays.
fn behind(
    call: &Call,
    parameter: &str,
    mask: &Constant,
    data: Constant,
    dense: bool,
) -> Result<Compression> {
    let same = |form: &&Compression| form.mask.as_ref().is_some_and(|m| m.same_as(mask));
    if let Some(form) = data.stored_form().filter(same) {
        return Ok(Compression {
            dense,
            ..form.clone()
        });
    }
    check_mask(call, parameter, mask, data.len())?;
    Ok(Compression {
        mask: Some(mask.clone()),
        dense,
        ..Compression::of(data)
    })
}

/// The values that are not zero, and where they are.
fn sparse(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let data = constant(call, "nonzero_data")?;
    let mut mask = constant(call, "mask")?;
    if call.opset < Opset::CoreML8 {
        let shape = shape(call)?;
        let count = bounded(call, "shape", &shape)?;
        let bytes = mask.byte_len();
        let mut last = 0;
        mask.stream(&mut |part| {
            last = part.last().copied().unwrap_or(last);
            Ok(())
        })?;
        let used = count % 8;
        if bytes != num::u64_of(count.div_ceil(8)) || (used != 0 && last >> used != 0) {
            let expected = format!(
                "{} bytes with nothing set after bit {count}",
                count.div_ceil(8)
            );
            return Err(call
                .wrong("mask", &expected, &format!("{bytes} bytes"))
                .into());
        }
        mask = packed(call, "mask", &mask, DType::U1, shape)?;
    }
    let form = behind(call, "nonzero_data", &mask, data, true)?;
    Ok(vec![compressed(call, form)?])
}

/// A lookup table for the values that are not zero: the mask, and the values.
fn sparse_palette(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let mask = constant(call, "indices_mask")?;
    let data = constant(call, "indices_nonzero_data")?;
    let lut = constant(call, "lut")?;
    let table = table(call, mask.shape(), data.dtype(), lut)?;
    let mut form = behind(call, "indices_nonzero_data", &mask, data, false)?;
    if form.palette.is_some() || form.affine.is_some() {
        let found = form.form().to_string();
        return Err(call.wrong("indices_nonzero_data", "indices", &found).into());
    }
    let axis = table.vector_axis;
    form.palette = Some(table);
    let width = form.vector_width();
    let values = compressed(call, form)?;
    if width == 1 {
        return Ok(vec![Entry::constant(mask), values]);
    }
    // The mask of a vector is that of its index.
    let bits = mask.read()?;
    let mut shape = mask.shape().to_vec();
    let inner: usize = shape[axis + 1..].iter().product();
    shape[axis] = shape[axis].saturating_mul(width);
    let count = bounded(call, "lut", &shape)?;
    let wide = (0..count).map(|i| Some(i / inner / width * inner + i % inner));
    let wide = picked(&bits, shape, wide)?;
    Ok(vec![entry(&format!("{}/mask", call.name), &wide)?, values])
}

/// Scales and offsets for the values that are not zero: the mask, and the values.
fn sparse_blockwise(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let mask = constant(call, "data_mask")?;
    let data = constant(call, "nonzero_data")?;
    let affine = shifted(call, mask.shape(), data.dtype())?;
    let mut form = behind(call, "nonzero_data", &mask, data.clone(), false)?;
    if form.affine.is_some() {
        // Two maps, one after the other, are no form of ours: the first is carried out.
        form = Compression {
            mask: Some(mask.clone()),
            dense: false,
            ..Compression::of(data)
        };
    }
    form.affine = Some(affine);
    Ok(vec![Entry::constant(mask), compressed(call, form)?])
}
