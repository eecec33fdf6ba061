//! Quantised activations.

use super::call::Call;
use super::entry::Entry;
use super::{Handler, Importer};
use crate::coreml::dtype::from_name;
use crate::error::Result;
use crate::ir::Op;
use crate::ir::ops::{Dequantize, Granularity, Quantize};

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "quantize" => quantize,
        "dequantize" => dequantize,
        _ => return None,
    };
    Some(handler)
}

/// One scale for all, or one per index of an axis.
fn granularity(call: &mut Call, rank: usize) -> Result<Granularity> {
    let vector = call
        .peek("scale")
        .and_then(Entry::ty)
        .is_some_and(|t| t.rank() > 0);
    let given = call.peek("axis").is_some();
    let axis = if given {
        Some(call.axis("axis", rank, 0)?)
    } else {
        None
    };
    match (vector, axis) {
        (false, _) => Ok(Granularity::Tensor),
        (true, Some(axis)) => Ok(Granularity::Axis(axis)),
        (true, None) => Err(call
            .wrong("axis", "an axis for several scales", "nothing")
            .into()),
    }
}

fn quantize(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "input")?;
    let granularity = granularity(call, importer.ty(x).rank())?;
    let name = call.string("output_dtype")?.unwrap_or_default();
    let Some(to) = from_name(&name) else {
        return Err(call
            .wrong("output_dtype", "an element type", &format!("`{name}`"))
            .into());
    };
    let mut operands = vec![x, importer.operand(call, "scale")?];
    operands.extend(importer.optional_operand(call, "zero_point")?);
    importer.result(call, Op::Quantize(Quantize { granularity, to }), &operands)
}

fn dequantize(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let x = importer.operand(call, "input")?;
    let granularity = granularity(call, importer.ty(x).rank())?;
    let mut operands = vec![x, importer.operand(call, "scale")?];
    operands.extend(importer.optional_operand(call, "zero_point")?);
    importer.result(call, Op::Dequantize(Dequantize { granularity }), &operands)
}
