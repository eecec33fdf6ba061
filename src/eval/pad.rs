//! Padding, by a map from every index of an axis of the result to one of the operand.

use super::layout::{OUTSIDE, pick_axes_or};
use super::{EvalError, Target};
use crate::error::Result;
use crate::ir::ops::{Pad, PadBy, PadMode};
use crate::ir::{Bindings, Dim, IrError};
use crate::tensor::{Tensor, num};

pub(super) fn pad(
    op: &Pad,
    x: &Tensor,
    value: Option<&Tensor>,
    bindings: &Bindings,
    target: Target,
) -> Result<Tensor> {
    let amount = |d: &Dim| {
        d.eval(bindings)
            .ok_or_else(|| IrError::Unbound { dim: d.to_string() })
    };
    let begin: Vec<i64> = op.begin.iter().map(amount).collect::<Result<_, _>>()?;
    padded(op.mode, x, &begin, value, target)
}

pub(super) fn pad_by(
    op: &PadBy,
    x: &Tensor,
    amounts: &Tensor,
    value: Option<&Tensor>,
    target: Target,
) -> Result<Tensor> {
    let rank = x.shape().len();
    let begin: Vec<i64> = amounts.ints()?.iter().take(rank).copied().collect();
    padded(op.mode, x, &begin, value, target)
}

fn padded(
    mode: PadMode,
    x: &Tensor,
    begin: &[i64],
    value: Option<&Tensor>,
    target: Target,
) -> Result<Tensor> {
    if begin.len() != x.shape().len() || target.shape().len() != begin.len() {
        return Err(target.mismatch(&[x]));
    }
    let mut maps = Vec::with_capacity(begin.len());
    for (axis, (&n, &size)) in x.shape().iter().zip(target.shape()).enumerate() {
        if n == 0 && size != 0 && mode != PadMode::Constant {
            return Err(EvalError::EmptyPadding { axis }.into());
        }
        let place = |i: usize| source(mode, num::i64_of(i) - begin[axis], num::i64_of(n));
        maps.push((0..size).map(place).collect());
    }
    pick_axes_or(x, &maps, value, target)
}

/// The index of the operand's axis of `n` elements that stands at `i`, which may lie outside.
fn source(mode: PadMode, i: i64, n: i64) -> usize {
    if (0..n).contains(&i) {
        return num::usize_of(i.unsigned_abs());
    }
    let inside = match mode {
        PadMode::Constant => return OUTSIDE,
        PadMode::Edge => i.clamp(0, n - 1),
        PadMode::Wrap => i.rem_euclid(n),
        PadMode::Reflect if n == 1 => 0,
        PadMode::Reflect => {
            let period = 2 * (n - 1);
            let at = i.rem_euclid(period);
            at.min(period - at)
        }
    };
    num::usize_of(inside.unsigned_abs())
}
