//! Weights that stay compressed: operations on constants, in the form of the opset.

use super::emit::{Emitter, Part, Var};
use super::value;
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::{Affine, Compression, Constant, Palette, Type};
use crate::tensor::{DType, Tensor, num};

/// Whether programs of the opset hold a weight in this form.
pub(in crate::coreml) fn holds(form: &Compression, opset: Opset) -> bool {
    let kind = form.form();
    let indices = |c: &Constant| {
        use DType::{U1, U2, U3, U4, U6, U8};
        matches!(c.dtype(), U1 | U2 | U3 | U4 | U6 | U8)
    };
    let float = |c: &Constant| matches!(c.dtype(), DType::F16 | DType::F32);
    let bytes = |c: &Constant| matches!(c.dtype(), DType::I8 | DType::U8);
    let small = |c: &Constant| bytes(c) || matches!(c.dtype(), DType::I4 | DType::U4);
    if !form.dense || opset < Opset::CoreML6 {
        return false;
    }
    // What the affine map is applied to.
    let numbers = form.palette.as_ref().map_or(&form.data, |p| &p.lut);
    let table = form
        .palette
        .as_ref()
        .is_none_or(|p| indices(&form.data) && (float(&p.lut) || (bytes(&p.lut) && kind.affine)));
    let offset = |o: &Constant| float(o) || small(o);
    let affine = form.affine.as_ref();
    let affine = affine.is_none_or(|a| float(&a.scale) && a.offset.as_ref().is_none_or(offset));
    if !table || !affine {
        return false;
    }
    if opset >= Opset::CoreML8 {
        let plain = !kind.affine && !kind.palette;
        return if plain {
            float(&form.data)
        } else {
            !kind.affine || small(numbers) || float(numbers)
        };
    }
    // The first generation joins nothing and knows one table, of numbers, and scales along one axis.
    match (&form.palette, &form.affine, &form.mask) {
        (Some(p), None, None) => {
            form.data.dtype() != DType::U3 && p.lut.len() == 1 << form.data.dtype().bits()
        }
        (None, Some(a), None) => {
            let zero = |o: &Constant| bytes(o) || float(o);
            bytes(&form.data) && a.offset.as_ref().is_none_or(zero) && scale_axis(form, a).is_some()
        }
        (None, None, Some(_)) => float(&form.data),
        (_, _, _) => false,
    }
}

/// The axis along which there is a scale for every index; any if there is one for all.
fn scale_axis(form: &Compression, affine: &Affine) -> Option<usize> {
    let scale = affine.scale.shape();
    let several: Vec<usize> = (0..scale.len()).filter(|&a| scale[a] > 1).collect();
    match several.as_slice() {
        [] => Some(0),
        [axis] if scale[*axis] == form.data.shape()[*axis] => Some(*axis),
        _ => None,
    }
}

/// The weight in a compressed form, if it has one that the opset holds.
pub(super) fn weight(e: &mut Emitter<'_>, name: &str, constant: &Constant) -> Result<Option<Var>> {
    if e.expand {
        return Ok(None);
    }
    let Some(form) = constant.compression()? else {
        return Ok(None);
    };
    if !holds(&form, e.opset) {
        return Ok(None);
    }
    let ty = Type::known(constant.dtype(), constant.shape());
    let var = e.fresh(name, ty);
    if e.opset >= Opset::CoreML8 {
        second(e, &form, &var)?;
    } else {
        first(e, &form, &var)?;
    }
    e.kept
        .insert(constant.name().to_owned(), form.stored_bytes());
    Ok(Some(var))
}

fn ints(dtype: DType, shape: Vec<usize>, values: Vec<usize>) -> Result<Tensor> {
    let values = values.into_iter().map(num::i64_of).collect();
    Ok(Tensor::int(dtype, shape, values)?)
}

/// One operation of the first generation: packed bytes, and the shape beside them.
fn first(e: &mut Emitter<'_>, form: &Compression, var: &Var) -> Result<()> {
    let result = std::slice::from_ref(var);
    let shape = |c: &Constant| -> Result<Part> {
        let rank = c.shape().len();
        let sizes = ints(DType::U32, vec![rank], c.shape().to_vec())?;
        Ok(Part::Value(value::inline(&sizes)))
    };
    if let Some(palette) = &form.palette {
        let lut = palette.lut.reshape(vec![palette.lut.len()])?;
        let params = vec![
            ("indices", e.part(&form.data.packed_bytes()?)?),
            ("lut", e.part(&lut)?),
            ("shape", shape(&form.data)?),
        ];
        return e.constexpr("constexpr_lut_to_dense", result, params);
    }
    if let Some(mask) = &form.mask {
        let params = vec![
            ("nonzero_data", e.part(&form.data)?),
            ("mask", e.part(&mask.packed_bytes()?)?),
            ("shape", shape(mask)?),
        ];
        return e.constexpr("constexpr_sparse_to_dense", result, params);
    }
    let Some(affine) = &form.affine else {
        return Ok(());
    };
    let vector = |c: &Constant| c.reshape(if c.len() == 1 { vec![] } else { vec![c.len()] });
    let zero = match &affine.offset {
        // Of the floats, zero points may be single precision.
        Some(offset) if offset.dtype().is_float() => vector(&offset.cast(DType::F32))?,
        Some(offset) => vector(offset)?,
        None => {
            let zero = Tensor::int(form.data.dtype(), vec![], vec![0])?;
            Constant::from_tensor(form.data.name(), &zero)?
        }
    };
    let axis = ints(
        DType::I32,
        vec![],
        vec![scale_axis(form, affine).unwrap_or(0)],
    )?;
    let params = vec![
        ("quantized_data", e.part(&form.data)?),
        ("zero_point", e.part(&zero)?),
        ("scale", e.part(&vector(&affine.scale)?)?),
        ("axis", Part::Value(value::inline(&axis))),
    ];
    e.constexpr("constexpr_affine_dequantize", result, params)
}

/// Operations of the second generation, one after the other.
fn second(e: &mut Emitter<'_>, form: &Compression, var: &Var) -> Result<()> {
    let mut data = e.part(&form.data)?;
    let mut mask = match &form.mask {
        Some(mask) => Some(e.part(mask)?),
        None => None,
    };
    if let Some(palette) = &form.palette {
        let more = table(e, palette, form.vector_width())?;
        let last = form.affine.is_none();
        (data, mask) = step(
            e,
            form,
            var,
            (data, mask),
            &Stage::table(palette, last),
            more,
        )?;
    }
    if let Some(affine) = &form.affine {
        let mut more = vec![("scale", e.part(&affine.scale)?)];
        if let Some(offset) = &affine.offset {
            // Offsets are of the type of the numbers, or floats, which hold all that there are of integers here.
            let numbers = form.palette.as_ref().map_or(&form.data, |p| &p.lut);
            let own = offset.dtype().is_float() || offset.dtype() == numbers.dtype();
            let offset = if own {
                offset.clone()
            } else {
                offset.cast(affine.scale.dtype())
            };
            more.push(("offset", e.part(&offset)?));
        }
        (data, mask) = step(e, form, var, (data, mask), &Stage::affine(affine), more)?;
    }
    if let Some(mask) = mask {
        let params = vec![("nonzero_data", data), ("mask", mask)];
        e.constexpr(
            "constexpr_sparse_to_dense",
            std::slice::from_ref(var),
            params,
        )?;
    }
    Ok(())
}

fn table(
    e: &mut Emitter<'_>,
    palette: &Palette,
    width: usize,
) -> Result<Vec<(&'static str, Part)>> {
    let mut params = vec![("lut", e.part(&palette.lut)?)];
    if width > 1 {
        let axis = ints(DType::I32, vec![], vec![palette.vector_axis])?;
        params.push(("vector_axis", Part::Value(value::inline(&axis))));
    }
    Ok(params)
}

/// What is done to the data, as an operation on all of them or on those behind a mask.
struct Stage {
    dense: (&'static str, &'static str),
    sparse: (&'static str, &'static str, &'static str),
    dtype: DType,
    last: bool,
}

impl Stage {
    fn table(palette: &Palette, last: bool) -> Self {
        Stage {
            dense: ("constexpr_lut_to_dense", "indices"),
            sparse: (
                "constexpr_lut_to_sparse",
                "indices_mask",
                "indices_nonzero_data",
            ),
            dtype: palette.lut.dtype(),
            last,
        }
    }

    fn affine(affine: &Affine) -> Self {
        Stage {
            dense: ("constexpr_blockwise_shift_scale", "data"),
            sparse: (
                "constexpr_sparse_blockwise_shift_scale",
                "data_mask",
                "nonzero_data",
            ),
            dtype: affine.scale.dtype(),
            last: true,
        }
    }
}

/// One operation; the mask, if there is one, goes through it.
fn step(
    e: &mut Emitter<'_>,
    form: &Compression,
    var: &Var,
    (data, mask): (Part, Option<Part>),
    stage: &Stage,
    mut more: Vec<(&'static str, Part)>,
) -> Result<(Part, Option<Part>)> {
    let shape: Vec<usize> = var.ty.known_shape().unwrap_or_default();
    let Some(mask) = mask else {
        let (kind, parameter) = stage.dense;
        more.push((parameter, data));
        let result = if stage.last {
            var.clone()
        } else {
            e.fresh(
                &format!("{}_looked_up", var.id),
                Type::known(stage.dtype, &shape),
            )
        };
        e.constexpr(kind, std::slice::from_ref(&result), more)?;
        return Ok((Part::Name(result.id), None));
    };
    let (kind, of_mask, of_data) = stage.sparse;
    more.push((of_mask, mask));
    more.push((of_data, data));
    let count = form.data.len().saturating_mul(form.vector_width());
    let results = [
        e.fresh(&format!("{}_mask", var.id), Type::known(DType::U1, &shape)),
        e.fresh(
            &format!("{}_values", var.id),
            Type::known(stage.dtype, &[count]),
        ),
    ];
    e.constexpr(kind, &results, more)?;
    let [mask, values] = results;
    Ok((Part::Name(values.id), Some(Part::Name(mask.id))))
}
