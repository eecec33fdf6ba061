//! Convolutions and pooling that programs do not have: computed weights with dilation, computed weights of transposed convolutions, pooling with
//! dilation, and last windows that are partly outside.

use super::dtype::is_small_int;
use super::lower::{Lower, dims, product};
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, Conv, ConvTranspose, Pad, PadMode, Pool, PoolKind, Reverse, SliceRange, Window,
};
use crate::ir::{Dim, Op, ValueId};
use crate::tensor::{DType, num};

/// Most elements of a window that is taken apart into slices.
const MAX_SLICES: u64 = 256;

pub(super) fn conv(l: &mut Lower<'_>, op: &Conv, operands: &[ValueId]) -> Result<ValueId> {
    let (x, mut w) = (operands[0], operands[1]);
    let mut op = op.clone();
    if l.as_constant(w).is_none() {
        for axis in 0..op.window.dilations.len() {
            let dilation = std::mem::replace(&mut op.window.dilations[axis], 1);
            w = spread(l, w, axis + 2, dilation)?;
        }
    }
    let bias = operands.get(2).copied();
    let fits = bias.is_none_or(|b| l.as_constant(b).is_some()) && l.as_constant(w).is_some();
    match bias {
        Some(bias) if fits => l.push(Op::Conv(op), &[x, w, bias]),
        bias => {
            let y = l.push(Op::Conv(op), &[x, w])?;
            biased(l, y, bias)
        }
    }
}

/// The bias added per channel.
fn biased(l: &mut Lower<'_>, y: ValueId, bias: Option<ValueId>) -> Result<ValueId> {
    let Some(bias) = bias else { return Ok(y) };
    let rank = l.ty(y).rank();
    let bias = l.along(bias, rank, 1)?;
    l.binary(BinaryKind::Add, y, bias)
}

/// `step − 1` zeros between the elements along an axis of known size.
fn spread(l: &mut Lower<'_>, x: ValueId, axis: usize, step: usize) -> Result<ValueId> {
    let shape = l.shape(x);
    let Some(n) = shape[axis].known() else {
        return Err(l.refuse(
            "conv_transpose",
            "with computed weights its sizes must be known",
        ));
    };
    if step == 1 || n == 1 {
        return Ok(x);
    }
    let before = product(&shape[..axis]);
    let after = product(&shape[axis + 1..]);
    let apart = l.reshape(
        x,
        vec![before.clone(), Dim::from(n), Dim::from(1), after.clone()],
    )?;
    let mut end = dims(&[0; 4]);
    end[2] = Dim::from(step - 1);
    let padded = l.push(
        Op::Pad(Pad {
            mode: PadMode::Constant,
            begin: dims(&[0; 4]),
            end,
        }),
        &[apart],
    )?;
    let joined = l.reshape(padded, vec![before, Dim::from(n * step), after])?;
    let size = (n - 1) * step + 1;
    let cut = l.slice(joined, vec![SliceRange::new(1, 0usize, size)])?;
    let mut out = shape;
    out[axis] = Dim::from(size);
    l.reshape(cut, out)
}

/// Padding with zeros per spatial axis; negative padding takes elements away.
fn pad_spatial(l: &mut Lower<'_>, x: ValueId, pads: &[(i64, i64)]) -> Result<ValueId> {
    let rank = l.ty(x).rank();
    let (mut begin, mut end) = (dims(&vec![0; rank]), dims(&vec![0; rank]));
    let mut ranges = Vec::new();
    for (i, &(before, after)) in pads.iter().enumerate() {
        begin[i + 2] = Dim::constant(before.max(0));
        end[i + 2] = Dim::constant(after.max(0));
        if before < 0 || after < 0 {
            let size = l.ty(x).shape[i + 2].clone();
            let padded = size.add(&begin[i + 2]).add(&end[i + 2]);
            let start = Dim::constant((-before).max(0));
            let stop = padded.sub(&Dim::constant((-after).max(0)));
            ranges.push(SliceRange::new(i + 2, start, stop));
        }
    }
    let zero = Dim::from(0);
    let mut x = x;
    if begin.iter().chain(&end).any(|d| *d != zero) {
        let mode = PadMode::Constant;
        x = l.push(Op::Pad(Pad { mode, begin, end }), &[x])?;
    }
    if ranges.is_empty() {
        Ok(x)
    } else {
        l.slice(x, ranges)
    }
}

pub(super) fn conv_transpose(
    l: &mut Lower<'_>,
    op: &ConvTranspose,
    operands: &[ValueId],
) -> Result<ValueId> {
    let (x, w, bias) = (operands[0], operands[1], operands.get(2).copied());
    if l.as_constant(w).is_some() {
        return with_weight(l, op, x, w, bias);
    }
    let weight = l.known("conv_transpose", w)?;
    let kernel = &weight[2..];
    let mut spaced = x;
    for (axis, &stride) in op.window.strides.iter().enumerate() {
        spaced = spread(l, spaced, axis + 2, stride)?;
    }
    let pads: Vec<(i64, i64)> = kernel
        .iter()
        .enumerate()
        .map(|(axis, &k)| {
            let reach = num::i64_of(op.window.dilations[axis] * (k - 1));
            let (before, after) = op.window.pads[axis];
            let more = num::i64_of(op.output_pads[axis]);
            (
                reach - num::i64_of(before),
                reach - num::i64_of(after) + more,
            )
        })
        .collect();
    let padded = pad_spatial(l, spaced, &pads)?;
    // The kernel turned round, and its channels exchanged within every group.
    let axes = (2..weight.len()).collect();
    let turned = l.push(Op::Reverse(Reverse { axes }), &[w])?;
    let (inputs, outputs) = (weight[0] / op.groups, weight[1]);
    let elements: usize = kernel.iter().product();
    let grouped = l.reshape(turned, dims(&[op.groups, inputs, outputs, elements]))?;
    let exchanged = l.transpose(grouped, vec![0, 2, 1, 3])?;
    let mut shape = vec![op.groups * outputs, inputs];
    shape.extend_from_slice(kernel);
    let weight = l.reshape(exchanged, dims(&shape))?;
    let conv_op = Conv {
        window: Window {
            dilations: op.window.dilations.clone(),
            ..Window::unit(kernel.len())
        },
        groups: op.groups,
    };
    let y = conv(l, &conv_op, &[padded, weight])?;
    biased(l, y, bias)
}

/// With a constant weight there is an operation; extra size at the end is less padding there, and zeros where there is none to take.
fn with_weight(
    l: &mut Lower<'_>,
    op: &ConvTranspose,
    x: ValueId,
    w: ValueId,
    bias: Option<ValueId>,
) -> Result<ValueId> {
    let mut window = op.window.clone();
    let mut more = Vec::with_capacity(window.pads.len());
    for (pads, &extra) in window.pads.iter_mut().zip(&op.output_pads) {
        let taken = extra.min(pads.1);
        pads.1 -= taken;
        more.push((0, num::i64_of(extra - taken)));
    }
    let plain = Op::ConvTranspose(ConvTranspose {
        window,
        groups: op.groups,
        output_pads: vec![0; op.output_pads.len()],
    });
    let zeros = more.iter().any(|m| m.1 != 0);
    match bias {
        Some(bias) if !zeros && l.as_constant(bias).is_some() => l.push(plain, &[x, w, bias]),
        bias => {
            let y = l.push(plain, &[x, w])?;
            let y = pad_spatial(l, y, &more)?;
            biased(l, y, bias)
        }
    }
}

pub(super) fn pool(l: &mut Lower<'_>, op: &Pool, x: ValueId, was: DType) -> Result<ValueId> {
    if is_small_int(was) {
        let dtype = l.ty(x).dtype;
        let float = l.cast(x, DType::F32)?;
        let y = pool(l, op, float, DType::F32)?;
        return l.cast(y, dtype);
    }
    let integer = l.ty(x).dtype == DType::I32;
    let spread = op.window.dilations.iter().any(|&d| d != 1);
    let rank = l.ty(x).rank();
    if integer || spread || !(3..=5).contains(&rank) {
        return slide(l, op, x);
    }
    if !op.ceil {
        return l.push(Op::Pool(op.clone()), &[x]);
    }
    let Some(extra) = extra(l, op, x) else {
        let symmetric = op.window.pads.iter().all(|p| p.0 == p.1);
        if symmetric && rank <= 4 {
            return l.push(Op::Pool(op.clone()), &[x]);
        }
        return Err(l.refuse(
            "pool",
            "a size that is not known cannot be rounded up with this padding",
        ));
    };
    let mut op = Pool {
        ceil: false,
        ..op.clone()
    };
    let mut x = x;
    let beyond = extra.iter().any(|&n| n != 0);
    if beyond
        && let PoolKind::Average {
            count_padding: true,
        } = op.kind
    {
        // Padding counts, what is beyond it does not: the padding becomes part of the tensor.
        let pads: Vec<(i64, i64)> = op
            .window
            .pads
            .iter()
            .map(|p| (num::i64_of(p.0), num::i64_of(p.1)))
            .collect();
        x = pad_spatial(l, x, &pads)?;
        op.window.pads = vec![(0, 0); pads.len()];
        op.kind = PoolKind::Average {
            count_padding: false,
        };
    }
    for (pads, more) in op.window.pads.iter_mut().zip(extra) {
        pads.1 += more;
    }
    l.push(Op::Pool(op), &[x])
}

/// How much more padding at the end makes the last, rounded-up window whole; `None` when sizes are not known.
fn extra(l: &Lower<'_>, op: &Pool, x: ValueId) -> Option<Vec<usize>> {
    let windows = windows(l, op, x)?;
    let shape = &l.ty(x).shape;
    windows
        .iter()
        .enumerate()
        .map(|(i, &m)| {
            let (before, after) = op.window.pads[i];
            let span = op.window.dilations[i] * (op.kernel[i] - 1) + 1;
            let needed = (m - 1) * op.window.strides[i] + span;
            Some(needed.saturating_sub(shape[i + 2].known()? + before + after))
        })
        .collect()
}

/// The number of windows along every spatial axis.
fn windows(l: &Lower<'_>, op: &Pool, x: ValueId) -> Option<Vec<usize>> {
    let ty = Op::Pool(op.clone()).infer(&[l.ty(x)]).ok()?;
    ty.shape[2..].iter().map(Dim::known).collect()
}

/// Every element of the window is a slice of the padded tensor; the slices are joined by the larger or by the sum.
fn slide(l: &mut Lower<'_>, op: &Pool, x: ValueId) -> Result<ValueId> {
    let (Some(windows), Some(extra)) = (windows(l, op, x), extra(l, op, x)) else {
        return Err(l.refuse("pool", "with dilation or integers its sizes must be known"));
    };
    if op.elements() > MAX_SLICES {
        return Err(l.refuse(
            "pool",
            "with dilation or integers its window has at most 256 elements",
        ));
    }
    let padded = |l: &mut Lower<'_>, x: ValueId, value: f64, more: bool| -> Result<ValueId> {
        let rank = l.ty(x).rank();
        let (mut begin, mut end) = (dims(&vec![0; rank]), dims(&vec![0; rank]));
        for (i, pads) in op.window.pads.iter().enumerate() {
            begin[i + 2] = Dim::from(pads.0);
            end[i + 2] = Dim::from(pads.1 + if more { extra[i] } else { 0 });
        }
        let value = l.like(x, value)?;
        let mode = PadMode::Constant;
        super::shape::pad(l, &Pad { mode, begin, end }, &[x, value])
    };
    let integer = l.ty(x).dtype == DType::I32;
    let (outside, join) = match op.kind {
        PoolKind::Max if integer => (f64::from(i32::MIN), BinaryKind::Max),
        PoolKind::Max => (f64::NEG_INFINITY, BinaryKind::Max),
        PoolKind::Average { .. } => (0.0, BinaryKind::Add),
    };
    let whole = padded(l, x, outside, true)?;
    let total = joined(l, op, whole, &windows, join)?;
    let PoolKind::Average { count_padding } = op.kind else {
        return Ok(total);
    };
    // How many elements count: the same sums over ones.
    let mut ones = l.shape(x);
    ones[0] = Dim::from(1);
    ones[1] = Dim::from(1);
    let one = l.like(x, 1.0)?;
    let mut count = l.expand(one, ones)?;
    if count_padding {
        count = padded(l, count, 1.0, false)?;
        let more: Vec<(i64, i64)> = extra.iter().map(|&n| (0, num::i64_of(n))).collect();
        count = pad_spatial(l, count, &more)?;
    } else {
        count = padded(l, count, 0.0, true)?;
    }
    let count = joined(l, op, count, &windows, join)?;
    l.binary(BinaryKind::Div, total, count)
}

fn joined(
    l: &mut Lower<'_>,
    op: &Pool,
    x: ValueId,
    windows: &[usize],
    join: BinaryKind,
) -> Result<ValueId> {
    let mut total = None;
    let elements: usize = op.kernel.iter().product();
    for element in 0..elements {
        let mut rest = element;
        let mut ranges = Vec::with_capacity(windows.len());
        for axis in (0..windows.len()).rev() {
            let k = rest % op.kernel[axis];
            rest /= op.kernel[axis];
            let start = k * op.window.dilations[axis];
            let step = op.window.strides[axis];
            ranges.push(SliceRange {
                axis: axis + 2,
                start: Dim::from(start),
                end: Dim::from(start + (windows[axis] - 1) * step + 1),
                step,
            });
        }
        ranges.reverse();
        let slice = l.slice(x, ranges)?;
        total = Some(match total {
            None => slice,
            Some(total) => l.binary(join, total, slice)?,
        });
    }
    total.ok_or_else(|| l.refuse("pool", "its window has no elements"))
}
