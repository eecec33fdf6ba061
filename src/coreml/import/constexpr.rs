//! Compressed weights, both generations: decoded here, so that a weight is one constant whatever it was kept as. Integers that an affine map
//! turns into floats are also remembered as they are stored.

use super::call::Call;
use super::entry::Entry;
use super::{Compressed, Handler, Importer};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::Constant;
use crate::ir::ops::{Dequantize, Granularity};
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

/// Numbers of any kind, for arithmetic in single precision: every stored type below 24 bits is exact there.
fn numbers(tensor: &Tensor) -> Vec<f32> {
    match tensor.storage() {
        Storage::Float(v) => v.to_vec(),
        Storage::Int(v) => v.iter().map(|&n| num::f32_of_i64(n)).collect(),
        Storage::Bool(v) => v.iter().map(|&b| f32::from(u8::from(b))).collect(),
    }
}

/// For every element of a tensor of `shape`, the index of its block in a grid of `grid` blocks.
fn blocks(shape: &[usize], grid: &[usize]) -> Vec<usize> {
    let rank = shape.len();
    let mut strides = vec![1; rank];
    for axis in (1..rank).rev() {
        strides[axis - 1] = strides[axis] * grid[axis];
    }
    let sizes: Vec<usize> = shape
        .iter()
        .zip(grid)
        .map(|(s, g)| (s / g).max(1))
        .collect();
    let count = shape.iter().product();
    let mut out = Vec::with_capacity(count);
    let mut at = vec![0; rank];
    for _ in 0..count {
        out.push((0..rank).map(|a| at[a] / sizes[a] * strides[a]).sum());
        for axis in (0..rank).rev() {
            at[axis] += 1;
            if at[axis] < shape[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    out
}

/// Whether every size is a multiple of the size of the grid.
fn divides(shape: &[usize], grid: &[usize]) -> bool {
    shape.len() == grid.len() && shape.iter().zip(grid).all(|(s, &g)| g > 0 && s % g == 0)
}

/// `scale · (data − offset)`, a scale and an offset per block.
fn dequantized(
    data: &Tensor,
    grid: &[usize],
    scale: &Tensor,
    offset: Option<&Tensor>,
) -> Result<Tensor> {
    let (scales, offsets) = (numbers(scale), offset.map(numbers));
    let one = |v: &Vec<f32>| v.len() == 1;
    let blocks = blocks(data.shape(), grid);
    let values = numbers(data)
        .into_iter()
        .zip(blocks)
        .map(|(q, block)| {
            let pick = |v: &Vec<f32>| if one(v) { v[0] } else { v[block] };
            let offset = offsets.as_ref().map_or(0.0, pick);
            pick(&scales) * (q - offset)
        })
        .collect();
    Ok(Tensor::f32(data.shape().to_vec(), values)?.cast(scale.dtype()))
}

/// First generation: a scale and a zero point per tensor, or per index of one axis.
fn affine(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
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
    let mut grid = vec![1; data.shape().len()];
    grid[axis] = size.max(1);
    let tensor = dequantized(&data.read()?, &grid, &scale.read()?, Some(&zero.read()?))?;
    let entry = entry(&call.name, &tensor)?;
    if scale.shape() == zero.shape() {
        let granularity = match scale.shape() {
            [] => Granularity::Tensor,
            _ => Granularity::Axis(axis),
        };
        keep(importer, &entry, granularity, vec![data, scale, zero]);
    }
    Ok(vec![entry])
}

/// Remembers the stored form of a weight, which whoever takes the weight as an operand gets instead, if that form is one of the IR's.
fn keep(
    importer: &mut Importer<'_>,
    entry: &Entry,
    granularity: Granularity,
    parts: Vec<Constant>,
) {
    let Entry::Constant { constant } = entry else {
        return;
    };
    let data = parts[0].dtype();
    let stored = matches!(data, DType::I8 | DType::U8 | DType::I4 | DType::U4);
    if stored && parts.get(2).is_none_or(|zero| zero.dtype() == data) {
        importer.compressed.push(Compressed {
            constant: constant.clone(),
            op: Dequantize { granularity },
            parts,
        });
    }
}

/// Blocks as the simplest form that says the same.
fn blockwise_form(
    data: &Constant,
    scale: &Constant,
    offset: Option<&Constant>,
) -> Result<(Granularity, Vec<Constant>)> {
    let several: Vec<usize> = (0..scale.shape().len())
        .filter(|&a| scale.shape()[a] > 1)
        .collect();
    let (granularity, shape) = match several.as_slice() {
        [] => (Granularity::Tensor, vec![]),
        [axis] if scale.shape()[*axis] == data.shape()[*axis] => {
            (Granularity::Axis(*axis), vec![scale.len()])
        }
        _ => (Granularity::Block, scale.shape().to_vec()),
    };
    let mut parts = vec![data.clone(), scale.reshape(shape.clone())?];
    if let Some(offset) = offset {
        parts.push(offset.reshape(shape)?);
    }
    Ok((granularity, parts))
}

/// Second generation: a scale, and perhaps an offset, per block of any shape.
fn blockwise(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let data = constant(call, "data")?;
    let scale = constant(call, "scale")?;
    let offset = optional(call, "offset")?;
    let tensor = shifted(call, &data.read()?, &scale, offset.as_ref())?;
    let entry = entry(&call.name, &tensor)?;
    let (granularity, parts) = blockwise_form(&data, &scale, offset.as_ref())?;
    keep(importer, &entry, granularity, parts);
    Ok(vec![entry])
}

fn shifted(
    call: &Call,
    data: &Tensor,
    scale: &Constant,
    offset: Option<&Constant>,
) -> Result<Tensor> {
    if !divides(data.shape(), scale.shape()) {
        let expected = format!("divisors of {:?}", data.shape());
        let found = format!("{:?}", scale.shape());
        return Err(call.wrong("scale", &expected, &found).into());
    }
    if let Some(offset) = offset {
        if offset.shape() != scale.shape() {
            let (expected, found) = (
                format!("{:?}", scale.shape()),
                format!("{:?}", offset.shape()),
            );
            return Err(call.wrong("offset", &expected, &found).into());
        }
        if !offset.dtype().is_float() && offset.dtype() != data.dtype() {
            let (expected, found) = (data.dtype().name(), offset.dtype().name());
            return Err(call.wrong("offset", expected, found).into());
        }
    }
    let offset = offset.map(|o| o.read()).transpose()?;
    dequantized(data, scale.shape(), &scale.read()?, offset.as_ref())
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

/// Elements of `bits` bits, packed from the least significant bit on.
fn unpacked(
    call: &Call,
    parameter: &str,
    bytes: &Tensor,
    bits: usize,
    count: usize,
) -> Result<Vec<usize>> {
    let bytes = bytes.ints()?;
    let needed = count
        .checked_mul(bits)
        .map_or(usize::MAX, |n| n.div_ceil(8));
    if bytes.len() != needed {
        let expected = format!("{needed} bytes for {count} elements of {bits} bits");
        let found = bytes.len().to_string();
        return Err(call.wrong(parameter, &expected, &found).into());
    }
    let bit = |at: usize| usize::from(bytes[at / 8] >> (at % 8) & 1 == 1);
    Ok((0..count)
        .map(|i| (0..bits).map(|b| bit(i * bits + b) << b).sum())
        .collect())
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
    let lut = constant(call, "lut")?.read()?;
    let tensor = if call.opset < Opset::CoreML8 {
        let shape = shape(call)?;
        let count = bounded(call, "shape", &shape)?;
        let bits = match lut.shape() {
            [2] => 1,
            [4] => 2,
            [16] => 4,
            [64] => 6,
            [256] => 8,
            other => {
                let expected = "2, 4, 16, 64 or 256 values";
                return Err(call.wrong("lut", expected, &format!("{other:?}")).into());
            }
        };
        let indices = unpacked(call, "indices", &indices.read()?, bits, count)?;
        picked(&lut, shape, indices.into_iter().map(Some))?
    } else {
        let indices = indices.read()?;
        let axis = vector_axis(call, indices.shape().len(), &lut)?;
        check_lut(call, indices.shape(), indices.dtype(), &lut)?;
        looked_up(call, &indices, &lut, axis)?
    };
    Ok(vec![entry(&call.name, &tensor)?])
}

/// The axis along which vectors of the table lie.
fn vector_axis(call: &mut Call, rank: usize, lut: &Tensor) -> Result<usize> {
    let given = call.peek("vector_axis").is_some();
    let axis = call.axis("vector_axis", rank, -1)?;
    match lut.shape().last() {
        Some(&n) if n > 1 && !given => Err(call
            .wrong("vector_axis", "an axis for vectors of the table", "nothing")
            .into()),
        Some(_) | None => Ok(axis),
    }
}

fn check_lut(call: &Call, indices: &[usize], dtype: DType, lut: &Tensor) -> Result<()> {
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

/// The table's entries in place of the indices; an entry that is a vector lies along `axis`.
fn looked_up(call: &Call, indices: &Tensor, lut: &Tensor, axis: usize) -> Result<Tensor> {
    let rank = indices.shape().len();
    let (entries, width) = (lut.shape()[rank], lut.shape()[rank + 1]);
    let blocks = blocks(indices.shape(), &lut.shape()[..rank]);
    let firsts: Vec<usize> = indices
        .ints()?
        .iter()
        .zip(blocks)
        .map(|(&i, block)| {
            // The element type of the indices bounds them by the number of entries.
            let i = usize::try_from(i).unwrap_or(0).min(entries - 1);
            (block * entries + i) * width
        })
        .collect();
    let mut shape = indices.shape().to_vec();
    let inner: usize = shape[axis + 1..].iter().product();
    shape[axis] = shape[axis].saturating_mul(width);
    let count = bounded(call, "lut", &shape)?;
    let at = (0..count).map(|i| {
        let (outer, rest) = (i / inner / width * inner, i % inner);
        Some(firsts[outer + rest] + i / inner % width)
    });
    picked(lut, shape, at)
}

/// Where a mask is set, the next of `count` values; elsewhere nothing.
fn scattered(
    call: &Call,
    parameter: &str,
    mask: &[bool],
    count: usize,
) -> Result<Vec<Option<usize>>> {
    let set = mask.iter().filter(|&&m| m).count();
    if set != count {
        let expected = format!("{set} values, one per element of the mask that is set");
        return Err(call.wrong(parameter, &expected, &count.to_string()).into());
    }
    let mut next = 0;
    Ok(mask
        .iter()
        .map(|&m| {
            m.then(|| {
                next += 1;
                next - 1
            })
        })
        .collect())
}

fn truths(mask: &Tensor) -> Result<Vec<bool>> {
    Ok(mask.ints()?.iter().map(|&m| m != 0).collect())
}

/// The values that are not zero, and where they are.
fn sparse(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let data = constant(call, "nonzero_data")?.read()?;
    let mask = constant(call, "mask")?.read()?;
    let (shape, mask) = if call.opset < Opset::CoreML8 {
        let shape = shape(call)?;
        let count = bounded(call, "shape", &shape)?;
        let bytes = mask.len();
        let bits = unpacked(call, "mask", &mask, 1, bytes.saturating_mul(8))?;
        if bytes != count.div_ceil(8) || bits[count..].contains(&1) {
            let expected = format!(
                "{} bytes with nothing set after bit {count}",
                count.div_ceil(8)
            );
            return Err(call
                .wrong("mask", &expected, &format!("{bytes} bytes"))
                .into());
        }
        (shape, bits[..count].iter().map(|&b| b == 1).collect())
    } else {
        (mask.shape().to_vec(), truths(&mask)?)
    };
    let at = scattered(call, "nonzero_data", &mask, data.len())?;
    let tensor = picked(&data, shape, at.into_iter())?;
    Ok(vec![entry(&call.name, &tensor)?])
}

/// The elements of `dense` where the mask is set, as a vector.
fn kept(dense: &Tensor, mask: &[bool]) -> Result<Tensor> {
    let at: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
    picked(dense, vec![at.len()], at.into_iter().map(Some))
}

/// A lookup table for the values that are not zero: the mask, and the values.
fn sparse_palette(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let mask = constant(call, "indices_mask")?;
    let data = constant(call, "indices_nonzero_data")?.read()?;
    let lut = constant(call, "lut")?.read()?;
    let mask_bits = mask.read()?;
    let axis = vector_axis(call, mask_bits.shape().len(), &lut)?;
    check_lut(call, mask_bits.shape(), data.dtype(), &lut)?;
    let set = truths(&mask_bits)?;
    let at = scattered(call, "indices_nonzero_data", &set, data.len())?;
    let indices = picked(&data, mask_bits.shape().to_vec(), at.into_iter())?;
    let dense = looked_up(call, &indices, &lut, axis)?;
    let width = lut.shape().last().copied().unwrap_or(1);
    if width == 1 {
        let values = kept(&dense, &set)?;
        return Ok(vec![Entry::constant(mask), entry(&call.name, &values)?]);
    }
    // The mask of a vector is that of its index.
    let shape = dense.shape().to_vec();
    let inner: usize = shape[axis + 1..].iter().product();
    let wide = (0..dense.len()).map(|i| Some(i / inner / width * inner + i % inner));
    let mask = picked(&mask_bits, shape, wide)?;
    let values = kept(&dense, &truths(&mask)?)?;
    Ok(vec![
        entry(&format!("{}/mask", call.name), &mask)?,
        entry(&call.name, &values)?,
    ])
}

/// Scales and offsets for the values that are not zero: the mask, and the values.
fn sparse_blockwise(_: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let mask = constant(call, "data_mask")?;
    let data = constant(call, "nonzero_data")?.read()?;
    let mask_bits = mask.read()?;
    let set = truths(&mask_bits)?;
    let at = scattered(call, "nonzero_data", &set, data.len())?;
    let dense = picked(&data, mask_bits.shape().to_vec(), at.into_iter())?;
    let scale = constant(call, "scale")?;
    let offset = optional(call, "offset")?;
    let dense = shifted(call, &dense, &scale, offset.as_ref())?;
    Ok(vec![
        Entry::constant(mask),
        entry(&call.name, &kept(&dense, &set)?)?,
    ])
}
