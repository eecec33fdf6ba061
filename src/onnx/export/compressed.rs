//! Weights that stay compressed: `DequantizeLinear` of integers, `Gather` from lookup tables, and arithmetic where the operators have no such
//! blocks. Sparse weights have no form here: sparse initialisers take 8 bytes for every index, and runtimes expand them when they load.

use super::emitter::{Emitter, int, ints};
use crate::error::Result;
use crate::ir::{Affine, Compression, Constant, Palette};
use crate::onnx::proto::AttributeProto;
use crate::onnx::types::data_type;
use crate::tensor::{DType, Storage, Tensor, num};

/// Whether graphs hold a weight in this form.
pub(super) fn holds(form: &Compression) -> bool {
    let float = |c: &Constant| matches!(c.dtype(), DType::F16 | DType::F32);
    let integers = form.data.dtype().is_int() && form.data.dtype().bits() <= 16;
    let table = form.palette.as_ref().is_none_or(|p| {
        let small = p.lut.dtype().is_int() && p.lut.dtype().bits() <= 8;
        float(&p.lut) || (small && form.affine.is_some())
    });
    let plain = form.palette.is_none() && form.affine.is_none();
    let scale = form.affine.as_ref().is_none_or(|a| float(&a.scale));
    form.mask.is_none() && integers && table && scale && !plain
}

/// The weight in a compressed form, if it has one: nodes that give it.
pub(super) fn weight(
    e: &mut Emitter<'_>,
    base: &str,
    constant: &Constant,
) -> Result<Option<String>> {
    if e.expand {
        return Ok(None);
    }
    let Some(form) = constant.compression()?.filter(holds) else {
        return Ok(None);
    };
    let mut w = Weight {
        e,
        base,
        shape: constant.shape().to_vec(),
        bytes: 0,
    };
    let to = constant.dtype();
    let name = match (&form.palette, &form.affine) {
        (Some(palette), None) => w.looked_up(&form, palette, to)?,
        (Some(palette), Some(affine)) => {
            let x = w.looked_up(&form, palette, DType::F32)?;
            w.mapped(x, affine, to)?
        }
        (None, Some(affine)) => match w.dequantized(&form.data, affine, to)? {
            Some(name) => name,
            None => {
                let q = w.initializer("quantized", held(w.e, &form.data))?;
                let x = w.cast(q, DType::F32)?;
                w.mapped(x, affine, to)?
            }
        },
        (None, None) => return Ok(None),
    };
    let bytes = w.bytes;
    e.kept.insert(constant.name().to_owned(), bytes);
    Ok(Some(name))
}

/// Integers in the smallest type of the opset that has them.
fn held(e: &Emitter<'_>, data: &Constant) -> Constant {
    let nibble = !data.dtype().is_signed_int() && data.dtype().bits() <= 4;
    if nibble && e.carried(DType::U4) == DType::U4 {
        return data.cast(DType::U4);
    }
    data.cast(e.carried(data.dtype()))
}

/// A weight that is being written.
struct Weight<'w, 'a> {
    e: &'w mut Emitter<'a>,
    base: &'w str,
    shape: Vec<usize>,
    // Of the initialisers.
    bytes: u64,
}

impl Weight<'_, '_> {
    fn initializer(&mut self, part: &str, constant: Constant) -> Result<String> {
        self.bytes = self.bytes.saturating_add(constant.byte_len());
        let name = format!("{}/{part}", self.base);
        self.e.initializer(&name, constant)
    }

    fn tensor(&mut self, part: &str, tensor: &Tensor) -> Result<String> {
        let constant = Constant::from_tensor(part, tensor)?;
        self.initializer(part, constant)
    }

    fn node(
        &mut self,
        op_type: &'static str,
        inputs: Vec<String>,
        attributes: Vec<AttributeProto>,
    ) -> String {
        let name = self.e.fresh(&format!("{}/{op_type}", self.base));
        self.e.push(op_type, inputs, name.clone(), attributes);
        name
    }

    fn cast(&mut self, x: String, to: DType) -> Result<String> {
        let to = i64::from(i32::from(data_type(to, self.e.opset)?));
        Ok(self.node("Cast", vec![x], vec![int("to", to)]))
    }

    fn reshape(&mut self, x: String, shape: &[usize]) -> Result<String> {
        let shape: Vec<i64> = shape.iter().map(|&n| num::i64_of(n)).collect();
        let shape = self.e.vector(&shape)?;
        Ok(self.node("Reshape", vec![x, shape], vec![]))
    }

    /// `DequantizeLinear`, if the opset has it for these types and blocks.
    fn dequantized(
        &mut self,
        data: &Constant,
        affine: &Affine,
        to: DType,
    ) -> Result<Option<String>> {
        let data = held(self.e, data);
        let opset = self.e.opset;
        let typed = data.dtype().bits() == 8 || opset >= 21;
        if !typed || !zeros_fit(affine.offset.as_ref(), data.dtype())? {
            return Ok(None);
        }
        let Some((shape, attributes)) = blocks(&self.shape, affine.scale.shape(), opset) else {
            return Ok(None);
        };
        // Scales of half precision since opset 19.
        let float = if to == DType::F16 && opset >= 19 {
            DType::F16
        } else {
            DType::F32
        };
        let dtype = data.dtype();
        let scale = affine.scale.cast(float).reshape(shape.clone())?;
        let mut inputs = vec![
            self.initializer("quantized", data)?,
            self.initializer("scale", scale)?,
        ];
        if let Some(offset) = &affine.offset {
            let zero = offset.cast(dtype).reshape(shape)?;
            inputs.push(self.initializer("zero_point", zero)?);
        }
        let name = self.node("DequantizeLinear", inputs, attributes);
        Ok(Some(if float == to {
            name
        } else {
            self.cast(name, to)?
        }))
    }

    /// `(x − offset) · scale` of single-precision numbers: axes with blocks are taken apart, so that both broadcast.
    fn mapped(&mut self, mut x: String, affine: &Affine, to: DType) -> Result<String> {
        let shape = self.shape.clone();
        let (mut split, mut groups) = (Vec::new(), Vec::new());
        for (&n, &g) in shape.iter().zip(affine.scale.shape()) {
            if g == 1 || g == n {
                split.push(n);
                groups.push(g);
            } else {
                split.extend([g, n / g]);
                groups.extend([g, 1]);
            }
        }
        if split != shape {
            x = self.reshape(x, &split)?;
        }
        if let Some(offset) = &affine.offset {
            let offset = offset.cast(DType::F32).reshape(groups.clone())?;
            let offset = self.initializer("offset", offset)?;
            x = self.node("Sub", vec![x, offset], vec![]);
        }
        let scale = affine.scale.cast(DType::F32).reshape(groups)?;
        let scale = self.initializer("scale", scale)?;
        x = self.node("Mul", vec![x, scale], vec![]);
        if split != shape {
            x = self.reshape(x, &shape)?;
        }
        if to == DType::F32 {
            Ok(x)
        } else {
            self.cast(x, to)
        }
    }

    /// Entries of the tables by `Gather`. A byte of several indices picks them all at once, from a table of all bytes, if that is smaller than
    /// an element for each index.
    fn looked_up(&mut self, form: &Compression, palette: &Palette, to: DType) -> Result<String> {
        let inner = form.data.shape().to_vec();
        let rank = inner.len();
        let groups = &palette.lut.shape()[..rank];
        let (entries, width) = (palette.lut.shape()[rank], form.vector_width());
        let count: usize = groups.iter().product();
        let bits = num::usize_of(u64::from(form.data.dtype().bits()));
        let per = 8 / bits;
        let row = inner.last().copied().unwrap_or(1);
        let group_row = row / groups.last().copied().unwrap_or(1).max(1);
        let table_bytes = |entries: usize, each: usize| {
            let elements = num::u64_of(count.saturating_mul(entries).saturating_mul(each));
            to.bytes_for(elements).unwrap_or(u64::MAX)
        };
        let single = held(self.e, &form.data);
        let packed = form.data.packed_bytes()?;
        let as_bytes = packed
            .byte_len()
            .saturating_add(table_bytes(256, per.saturating_mul(width)));
        let as_elements = single
            .byte_len()
            .saturating_add(table_bytes(entries, width));
        let whole_bytes = 8 % bits == 0 && group_row.is_multiple_of(per);
        let together = whole_bytes && per > 1 && as_bytes < as_elements;
        let lut = palette.lut.read()?.cast(to);
        let (indices, lut, stride, sizes) = if together {
            let mut sizes = inner.clone();
            if let Some(last) = sizes.last_mut() {
                *last /= per;
            }
            let lut = of_bytes(&lut, (count, entries, width), bits)?;
            (packed.reshape(sizes.clone())?, lut, 256, sizes)
        } else {
            (single, lut, entries, inner.clone())
        };
        let each = if together { per * width } else { width };
        let flat = if each == 1 {
            vec![count * stride]
        } else {
            vec![count * stride, each]
        };
        let table = self.tensor("table", &lut.reshaped(flat)?)?;
        let indices = self.initializer("indices", indices)?;
        let mut at = self.cast(indices, DType::I32)?;
        // Groups are further down in the table.
        let mut step = stride;
        for axis in (0..rank).rev().filter(|&a| groups[a] > 1) {
            let size = sizes[axis] / groups[axis];
            let first = (0..sizes[axis]).map(|i| num::i64_of(i / size * step));
            let mut shape = vec![1; rank];
            shape[axis] = sizes[axis];
            let first = Tensor::int(DType::I32, shape, first.collect())?;
            let first = self.tensor("groups", &first)?;
            at = self.node("Add", vec![at, first], vec![]);
            step *= groups[axis];
        }
        let mut x = self.node("Gather", vec![table, at], vec![int("axis", 0)]);
        if width > 1 {
            let mut shape = inner;
            shape.push(width);
            if together {
                x = self.reshape(x, &shape)?;
            }
            let mut perm: Vec<i64> = (0..rank).map(num::i64_of).collect();
            perm.insert(palette.vector_axis + 1, num::i64_of(rank));
            x = self.node("Transpose", vec![x], vec![ints("perm", perm)]);
        }
        if width > 1 || together {
            let shape = self.shape.clone();
            x = self.reshape(x, &shape)?;
        }
        Ok(x)
    }
}

/// For every byte the entries that its indices pick, the lowest bits first.
fn of_bytes(
    lut: &Tensor,
    (count, entries, width): (usize, usize, usize),
    bits: usize,
) -> Result<Tensor> {
    let Storage::Float(values) = lut.storage() else {
        return Ok(lut.clone());
    };
    let per = 8 / bits;
    let mut out = Vec::with_capacity(count * 256 * per * width);
    for group in 0..count {
        for byte in 0..256 {
            for place in 0..per {
                let index = byte >> (place * bits) & (entries - 1);
                let first = (group * entries + index) * width;
                out.extend_from_slice(&values[first..first + width]);
            }
        }
    }
    let shape = vec![count, 256, per * width];
    Ok(Tensor::float(lut.dtype(), shape, out)?)
}

/// Whether the data's type holds these zero points: that of the operator is the data's, while Core ML's first generation takes any.
fn zeros_fit(offset: Option<&Constant>, data: DType) -> Result<bool> {
    let Some(offset) = offset.filter(|o| o.dtype() != data) else {
        return Ok(true);
    };
    if offset.dtype().is_float() {
        return Ok(false);
    }
    let zeros = offset.read()?;
    Ok(zeros.cast(data).to_f64() == zeros.to_f64())
}

type Blocks = (Vec<usize>, Vec<AttributeProto>);

/// The shape of the scale and the attributes that say which elements share one, if the opset has that form.
fn blocks(shape: &[usize], scale: &[usize], opset: i64) -> Option<Blocks> {
    let several: Vec<usize> = (0..scale.len()).filter(|&a| scale[a] > 1).collect();
    let axis_of = |a: usize| int("axis", num::i64_of(a));
    match several.as_slice() {
        [] => return Some((vec![], vec![])),
        [axis] if scale[*axis] == shape[*axis] => {
            return Some((vec![scale[*axis]], vec![axis_of(*axis)]));
        }
        _ => {}
    }
    let mut blocked = (0..scale.len()).filter(|&a| scale[a] != shape[a]);
    match (blocked.next(), blocked.next()) {
        (Some(axis), None) if opset >= 21 => {
            let size = num::i64_of(shape[axis] / scale[axis].max(1));
            let attributes = vec![axis_of(axis), int("block_size", size)];
            Some((scale.to_vec(), attributes))
        }
        (_, _) => None,
    }
}
