//! Matrix products.

use super::call::Call;
use super::elementwise::op2;
use super::entry::Entry;
use super::{Handler, Importer};
use crate::error::Result;
use crate::ir::ops::{Attention, BinaryKind, Linear, MatMul, Select, Squeeze, Unsqueeze};
use crate::ir::{Dim, Op};
use crate::tensor::{DType, num};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "linear" => linear,
        "matmul" => matmul,
        "scaled_dot_product_attention" => attention,
        _ => return None,
    };
    Some(handler)
}

fn linear(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "x")?;
    let mut operands = vec![x, importer.operand(call, "weight")?];
    operands.extend(importer.optional_operand(call, "bias")?);
    let dtype = importer.ty(x).dtype;
    // Weights of integers may be floats; the result is of the type of `x` all the same.
    if dtype.is_int() && operands.iter().all(|&v| importer.ty(v).dtype == dtype) {
        let product = Op::MatMul(MatMul {
            transpose_a: false,
            transpose_b: true,
        });
        let Some(&bias) = operands.get(2) else {
            return importer.result(call, product, &operands);
        };
        let product = importer.step(call, "product", product, &operands[..2])?;
        return importer.result(call, op2(BinaryKind::Add), &[product, bias]);
    }
    importer.mixed(call, Op::Linear(Linear), &operands, dtype)
}

/// A vector operand becomes a matrix, and its axis is dropped from the result. A constant of another type does not change the type of the result.
fn matmul(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let constant = |parameter: &str| call.peek(parameter).is_some_and(Entry::is_constant);
    let of_y = constant("x") && !constant("y");
    let one_constant = of_y || (constant("y") && !constant("x"));
    let mut x = importer.operand(call, "x")?;
    let mut y = importer.operand(call, "y")?;
    let (of_x, narrow) = (
        importer.ty(x).dtype,
        importer.ty(if of_y { y } else { x }).dtype,
    );
    let other = importer.ty(y).dtype;
    if !one_constant && of_x != other {
        return Err(call.wrong("y", of_x.name(), other.name()).into());
    }
    let mut op = MatMul {
        transpose_a: call.bool("transpose_x", false)?,
        transpose_b: call.bool("transpose_y", false)?,
    };
    let (row, column) = (importer.ty(x).rank() == 1, importer.ty(y).rank() == 1);
    if !row && !column {
        return importer.mixed(call, Op::MatMul(op), &[x, y], narrow);
    }
    if row {
        op.transpose_a = false;
        let axes = vec![0];
        x = importer.step(call, "row", Op::Unsqueeze(Unsqueeze { axes }), &[x])?;
    }
    if column {
        op.transpose_b = false;
        let axes = vec![1];
        y = importer.step(call, "column", Op::Unsqueeze(Unsqueeze { axes }), &[y])?;
    }
    let wide = if of_x == other { narrow } else { DType::F32 };
    let x = importer.cast(call, "x", x, wide)?;
    let y = importer.cast(call, "y", y, wide)?;
    let product = importer.step(call, "product", Op::MatMul(op), &[x, y])?;
    let product = importer.cast(call, "rounded", product, narrow)?;
    let rank = importer.ty(product).rank();
    let mut axes = Vec::new();
    if row {
        axes.push(rank - 2);
    }
    if column {
        axes.push(rank - 1);
    }
    importer.result(call, Op::Squeeze(Squeeze { axes }), &[product])
}

/// `softmax(Q·Kᵀ / √E + mask) · V`; a mask of truth values is true where to look.
fn attention(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let query = importer.operand(call, "query")?;
    let key = importer.operand(call, "key")?;
    let value = importer.operand(call, "value")?;
    let mask = importer.optional_operand(call, "attn_mask")?;
    let ty = importer.ty(query).clone();
    let Some(width) = ty.shape.last().and_then(Dim::known).filter(|&n| n > 0) else {
        return Err(call.unsupported("query", ty.to_string()).into());
    };
    let mut operands = vec![query, key, value];
    if let Some(mask) = mask {
        operands.push(if importer.ty(mask).dtype == DType::Bool {
            let seen = importer.scalar(call, "seen", ty.dtype, 0.0)?;
            let never = importer.scalar(call, "never", ty.dtype, f64::NEG_INFINITY)?;
            importer.step(call, "masked", Op::Select(Select), &[mask, seen, never])?
        } else {
            importer.cast(call, "mask", mask, ty.dtype)?
        });
    }
    let scale = 1.0 / num::f64_of(width).sqrt();
    importer.result(call, Op::Attention(Attention { scale }), &operands)
}
