//! Quantisation: the operators where the opset has the form, else their arithmetic.

use super::emitter::{Emitter, Last, int, last};
use crate::error::Result;
use crate::ir::ops::{Dequantize, Granularity, Quantize};
use crate::ir::{Dim, Node, Type, ValueId};
use crate::onnx::error::OnnxError;
use crate::tensor::{DType, Tensor, num};

/// Whether `QuantizeLinear` (or its reverse) of the opset has this integer type.
fn has_type(opset: i64, dtype: DType, reverse: bool) -> bool {
    match dtype {
        DType::I8 | DType::U8 => true,
        DType::I16 | DType::U16 | DType::I4 | DType::U4 => opset >= 21,
        DType::I32 => reverse,
        DType::Bool
        | DType::U1
        | DType::U2
        | DType::U3
        | DType::U6
        | DType::U32
        | DType::I64
        | DType::U64
        | DType::F16
        | DType::BF16
        | DType::F32
        | DType::F8E4M3
        | DType::F8E5M2
        | DType::F64 => false,
    }
}

/// The attributes that say which elements share a scale, if the opset has that form.
fn form(
    opset: i64,
    granularity: &Granularity,
    x: &Type,
    scale: &Type,
) -> Option<Vec<(&'static str, i64)>> {
    match granularity {
        Granularity::Tensor => Some(vec![]),
        Granularity::Axis(axis) => Some(vec![("axis", num::i64_of(*axis))]),
        Granularity::Block if opset < 21 => None,
        Granularity::Block => {
            let mut blocked = None;
            for (axis, (n, s)) in x.shape.iter().zip(&scale.shape).enumerate() {
                if n == s {
                    continue;
                }
                let size = n.known()?.checked_div(s.known()?)?;
                if blocked.replace((axis, size)).is_some() {
                    return None;
                }
            }
            let (axis, size) = blocked?;
            Some(vec![
                ("axis", num::i64_of(axis)),
                ("block_size", num::i64_of(size)),
            ])
        }
    }
}

/// A scale or zero point as the operator takes it: of one element as a scalar.
fn parameter(e: &mut Emitter<'_>, g: &Granularity, value: ValueId, to: DType) -> Result<String> {
    if *g == Granularity::Tensor {
        super::shape::scalar_operand(e, value, to)
    } else {
        e.operand_as(value, to)
    }
}

/// A scale or zero point of type `to` as something that broadcasts with `x`.
fn spread(
    e: &mut Emitter<'_>,
    node: &Node,
    g: &Granularity,
    which: usize,
    to: DType,
) -> Result<String> {
    let (x, own) = (e.ty(node.operands[0]), e.ty(node.operands[which]));
    let value = parameter(e, g, node.operands[which], to)?;
    match g {
        Granularity::Tensor => Ok(value),
        Granularity::Axis(axis) => {
            let mut shape = vec![1; x.rank()];
            shape[*axis] = -1;
            let shape = e.vector(&shape)?;
            Ok(e.emit("Reshape", [value, shape], vec![]))
        }
        Granularity::Block => {
            // Every axis in two, blocks and elements of a block, and back.
            let (mut split, mut whole, mut joined) = (Vec::new(), Vec::new(), Vec::new());
            for (n, s) in x.shape.iter().zip(&own.shape) {
                let size = n.floor_div(s).ok_or(OnnxError::NotSaid {
                    op: node.op.name(),
                    reason: "a block is empty",
                })?;
                split.extend([s.clone(), Dim::from(1)]);
                whole.extend([s.clone(), size]);
                joined.push(n.clone());
            }
            let split = e.shape(&split)?;
            let whole = e.shape(&whole)?;
            let joined = e.shape(&joined)?;
            let value = e.emit("Reshape", [value, split], vec![]);
            let value = e.emit("Expand", [value, whole], vec![]);
            Ok(e.emit("Reshape", [value, joined], vec![]))
        }
    }
}

pub(super) fn quantize(e: &mut Emitter<'_>, node: &Node, o: &Quantize) -> Result<Last> {
    let (x, scale) = (e.ty(node.operands[0]), e.ty(node.operands[1]));
    if has_type(e.opset, o.to, false)
        && let Some(attributes) = form(e.opset, &o.granularity, x, scale)
    {
        let value = e.operand_as(node.operands[0], DType::F32)?;
        let scale_name = parameter(e, &o.granularity, node.operands[1], DType::F32)?;
        let zero = match node.operands.get(2) {
            Some(&zero) => parameter(e, &o.granularity, zero, o.to)?,
            None => zeros(e, o.to, scale, &o.granularity)?,
        };
        let mut quantize = last("QuantizeLinear", [value, scale_name, zero]);
        for (name, i) in attributes {
            quantize = quantize.with(int(name, i));
        }
        return Ok(quantize);
    }
    let value = e.operand_as(node.operands[0], DType::F32)?;
    let scale = spread(e, node, &o.granularity, 1, DType::F32)?;
    let scaled = e.emit("Div", [value, scale], vec![]);
    // Sums with large zero points and large bounds are exact in double precision only.
    let mut whole = e.emit("Round", [scaled], vec![]);
    let wide = o.to.bits() > 16;
    let float = if wide { DType::F64 } else { DType::F32 };
    if wide {
        whole = e.cast(whole, float)?;
    }
    if node.operands.len() > 2 {
        let zero = spread(e, node, &o.granularity, 2, float)?;
        whole = e.emit("Add", [whole, zero], vec![]);
    }
    if o.to.bits() > 32 {
        return Err(OnnxError::OperandType {
            op_type: "QuantizeLinear",
            dtype: o.to,
        }
        .into());
    }
    let (low, high) = bounds(o.to);
    let low = bound(e, float, low)?;
    let high = bound(e, float, high)?;
    let clipped = last("Clip", [whole, low, high]);
    e.converted(clipped, float, o.to)
}

/// An exact bound.
fn bound(e: &mut Emitter<'_>, dtype: DType, value: f64) -> Result<String> {
    if dtype == DType::F32 {
        return e.scalar(dtype, value);
    }
    // Single precision, which constants of floats are made of, has not enough digits.
    let exact = Tensor::int(DType::I64, vec![], vec![num::i64_of_f64(value)])?;
    let exact = e.small(&format!("const/i64/{value}"), &exact)?;
    e.cast(exact, dtype)
}

/// Zero points of the result's type, which say what that is.
fn zeros(e: &mut Emitter<'_>, to: DType, scale: &Type, g: &Granularity) -> Result<String> {
    if *g == Granularity::Tensor {
        let zero = Tensor::int(to, vec![], vec![0])?;
        return e.small(&format!("const/{to}/0"), &zero);
    }
    let shape: Option<Vec<usize>> = scale.shape.iter().map(Dim::known).collect();
    match shape {
        Some(shape) => {
            let count = shape.iter().product();
            let zeros = Tensor::int(to, shape.clone(), vec![0; count])?;
            e.small(&format!("const/{to}/zeros{shape:?}"), &zeros)
        }
        None => {
            let shape = e.shape(&scale.shape)?;
            let zero = Tensor::int(to, vec![], vec![0])?;
            let zero = e.small(&format!("const/{to}/0"), &zero)?;
            Ok(e.emit("Expand", [zero, shape], vec![]))
        }
    }
}

/// The least and the largest number of an integer type.
fn bounds(dtype: DType) -> (f64, f64) {
    let bits = dtype.bits().min(32);
    if dtype.is_signed_int() {
        let half = num::f64_of_i64(1 << (bits - 1));
        (-half, half - 1.0)
    } else {
        (0.0, num::f64_of_i64((1i64 << bits) - 1))
    }
}

pub(super) fn dequantize(e: &mut Emitter<'_>, node: &Node, o: &Dequantize) -> Result<Last> {
    let (q, scale) = (e.ty(node.operands[0]), e.ty(node.operands[1]));
    let held = e.carried(q.dtype);
    // Of half-precision scales since opset 19; an `i32` has no zero point.
    let float = if scale.dtype == DType::F16 && e.opset >= 19 {
        DType::F16
    } else {
        DType::F32
    };
    let zero = node.operands.get(2).filter(|_| held != DType::I32);
    if has_type(e.opset, held, true)
        && (held != DType::I32 || node.operands.len() < 3)
        && let Some(attributes) = form(e.opset, &o.granularity, q, scale)
    {
        let value = e.operand(node.operands[0])?;
        let mut inputs = vec![
            value,
            parameter(e, &o.granularity, node.operands[1], float)?,
        ];
        if let Some(&zero) = zero {
            inputs.push(parameter(e, &o.granularity, zero, held)?);
        }
        let mut dequantize = Last::of("DequantizeLinear", inputs);
        for (name, i) in attributes {
            dequantize = dequantize.with(int(name, i));
        }
        return e.converted(dequantize, float, scale.dtype);
    }
    // The difference is exact, and the product of numbers of up to 16 bits is rounded once; wider ones are multiplied in double precision.
    let small = q.dtype.bits() <= 16;
    let (whole, float) = if small {
        (DType::I32, DType::F32)
    } else {
        (DType::I64, DType::F64)
    };
    let mut value = e.operand_as(node.operands[0], whole)?;
    if node.operands.len() > 2 {
        let zero = spread(e, node, &o.granularity, 2, whole)?;
        value = e.emit("Sub", [value, zero], vec![]);
    }
    let value = e.cast(value, float)?;
    let by = spread(e, node, &o.granularity, 1, float)?;
    e.converted(last("Mul", [value, by]), float, scale.dtype)
}
