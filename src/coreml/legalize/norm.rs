//! Normalisation with computed parameters, which programs do not have, and windows of an even number of channels.

use super::elementwise::real;
use super::lower::{Lower, dims, product};
use crate::error::Result;
use crate::ir::ops::{
    BatchNorm, BinaryKind, InstanceNorm, LayerNorm, Lrn, Pad, PadMode, SliceRange, UnaryKind,
};
use crate::ir::{Dim, Op, ValueId};

fn all_constant(l: &Lower<'_>, values: &[ValueId]) -> bool {
    values.iter().all(|&v| l.as_constant(v).is_some())
}

pub(super) fn batch_norm(
    l: &mut Lower<'_>,
    op: &BatchNorm,
    operands: &[ValueId],
) -> Result<ValueId> {
    let rank = l.ty(operands[0]).rank();
    if (3..=5).contains(&rank) && all_constant(l, &operands[1..]) {
        return l.push(Op::BatchNorm(*op), operands);
    }
    let &[x, mean, variance, gamma, beta] = operands else {
        return Err(l.refuse("batch_norm", "it needs four parameters"));
    };
    let sum = l.with(BinaryKind::Add, variance, op.epsilon)?;
    let root = l.unary(UnaryKind::Sqrt, sum)?;
    let scale = l.binary(BinaryKind::Div, gamma, root)?;
    let (mean, scale) = (l.along(mean, rank, 1)?, l.along(scale, rank, 1)?);
    let beta = l.along(beta, rank, 1)?;
    let centred = l.binary(BinaryKind::Sub, x, mean)?;
    let scaled = l.binary(BinaryKind::Mul, centred, scale)?;
    l.binary(BinaryKind::Add, scaled, beta)
}

pub(super) fn instance_norm(
    l: &mut Lower<'_>,
    op: &InstanceNorm,
    operands: &[ValueId],
) -> Result<ValueId> {
    let (x, parameters) = (operands[0], &operands[1..]);
    let shape = l.shape(x);
    if (3..=4).contains(&shape.len()) && all_constant(l, parameters) {
        return l.push(Op::InstanceNorm(*op), operands);
    }
    // One row per sample and channel.
    let rows = vec![shape[0].clone(), shape[1].clone(), product(&shape[2..])];
    let flat = l.reshape(x, rows)?;
    let layer = LayerNorm {
        axis: 2,
        epsilon: op.epsilon,
    };
    let normal = l.push(Op::LayerNorm(layer), &[flat])?;
    let gamma = l.along(parameters[0], 3, 1)?;
    let beta = l.along(parameters[1], 3, 1)?;
    let scaled = l.binary(BinaryKind::Mul, normal, gamma)?;
    let moved = l.binary(BinaryKind::Add, scaled, beta)?;
    l.reshape(moved, shape)
}

pub(super) fn layer_norm(
    l: &mut Lower<'_>,
    op: &LayerNorm,
    operands: &[ValueId],
) -> Result<ValueId> {
    if all_constant(l, &operands[1..]) {
        return l.push(Op::LayerNorm(*op), operands);
    }
    let mut y = l.push(Op::LayerNorm(*op), &operands[..1])?;
    for (&parameter, kind) in operands[1..].iter().zip([BinaryKind::Mul, BinaryKind::Add]) {
        y = l.binary(kind, y, parameter)?;
    }
    Ok(y)
}

/// With an odd number of channels the window is the same on both sides, as programs have it; of images there is no doubt which axis that is.
pub(super) fn lrn(l: &mut Lower<'_>, op: &Lrn, x: ValueId) -> Result<ValueId> {
    let shape = l.shape(x);
    if op.size % 2 == 1 && shape.len() == 4 {
        return l.push(Op::Lrn(*op), &[x]);
    }
    let square = l.binary(BinaryKind::Mul, x, x)?;
    let before = op.size.saturating_sub(1) / 2;
    let (mut begin, mut end) = (dims(&vec![0; shape.len()]), dims(&vec![0; shape.len()]));
    begin[1] = Dim::from(before);
    end[1] = Dim::from(op.size - before - 1);
    let mode = PadMode::Constant;
    let padded = l.push(Op::Pad(Pad { mode, begin, end }), &[square])?;
    let mut sum = None;
    for k in 0..op.size {
        let from = Dim::from(k);
        let to = from.add(&shape[1]);
        let slice = l.slice(padded, vec![SliceRange::new(1, from, to)])?;
        sum = Some(match sum {
            None => slice,
            Some(sum) => l.binary(BinaryKind::Add, sum, slice)?,
        });
    }
    let Some(sum) = sum else {
        return Err(l.refuse("lrn", "its window has no channels"));
    };
    let mean = l.with(BinaryKind::Mul, sum, f64::from(op.alpha) / real(op.size))?;
    let base = l.with(BinaryKind::Add, mean, f64::from(op.k))?;
    let power = l.with(BinaryKind::Pow, base, f64::from(op.beta))?;
    l.binary(BinaryKind::Div, x, power)
}
