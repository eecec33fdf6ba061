//! Moves and casts in a row that are fewer moves and casts, or none.
// What a pattern does not name is no part of it: a new operation is left alone.
#![allow(clippy::wildcard_enum_match_arm)]

use super::tidy::Tidied;
use crate::ir::ops::{Cast, Reshape, Squeeze, Transpose, Unsqueeze};
use crate::ir::{Builder, Op, Type, ValueId};
use crate::tensor::DType;

/// Longest row of moves that is looked at.
const MOVES: usize = 8;

/// A transpose together with the moves before it, where that is one move or none.
pub(super) fn transposed(b: &Builder, op: &Op, operands: &[ValueId]) -> Option<Tidied> {
    let Op::Transpose(Transpose { perm }) = op else {
        return None;
    };
    // For every axis of the result, from the last move back: the axis of `x` that it is, or a new one of size 1.
    let mut axes: Vec<Option<usize>> = perm.iter().map(|&a| Some(a)).collect();
    let mut x = operands[0];
    let mut best = None;
    for _ in 0..MOVES {
        let Some(node) = b.producer(x) else {
            break;
        };
        match &node.op {
            Op::Transpose(o) => {
                for axis in axes.iter_mut().flatten() {
                    *axis = o.perm[*axis];
                }
            }
            Op::Unsqueeze(o) => {
                for axis in &mut axes {
                    *axis = axis
                        .filter(|a| !o.axes.contains(a))
                        .map(|a| a - o.axes.iter().filter(|new| **new < a).count());
                }
            }
            Op::Squeeze(o) => {
                for axis in axes.iter_mut().flatten() {
                    // The axes that went, ascending, come back in.
                    for gone in &o.axes {
                        *axis += usize::from(*gone <= *axis);
                    }
                }
            }
            _ => break,
        }
        x = node.operands[0];
        if let Some(one) = one_move(&axes, b.ty(x), x) {
            best = Some(one);
        }
    }
    best
}

/// The move that gives these axes, if one does or none is needed.
fn one_move(axes: &[Option<usize>], from: &Type, x: ValueId) -> Option<Tidied> {
    let kept: Vec<usize> = axes.iter().copied().flatten().collect();
    let new: Vec<usize> = (0..axes.len()).filter(|&i| axes[i].is_none()).collect();
    let gone: Vec<usize> = (0..from.rank()).filter(|a| !kept.contains(a)).collect();
    let in_order = kept.windows(2).all(|w| w[0] < w[1]);
    match (new.is_empty(), gone.is_empty(), in_order) {
        (true, true, true) => Some(Tidied::Value(x)),
        (true, true, false) => Some(Tidied::Node(
            Op::Transpose(Transpose { perm: kept }),
            vec![x],
        )),
        (false, true, true) => Some(Tidied::Node(
            Op::Unsqueeze(Unsqueeze { axes: new }),
            vec![x],
        )),
        (true, false, true) => Some(Tidied::Node(Op::Squeeze(Squeeze { axes: gone }), vec![x])),
        (_, _, _) => None,
    }
}

fn is_reshape(op: &Op) -> bool {
    matches!(op, Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_))
}

/// Two changes of shape in a row: one, or none where the second takes the first back.
pub(super) fn reshaped(b: &Builder, op: &Op, operands: &[ValueId], ty: &Type) -> Option<Tidied> {
    if !is_reshape(op) {
        return None;
    }
    let before = b.producer(operands[0]).filter(|n| is_reshape(&n.op))?;
    let x = before.operands[0];
    if b.ty(x) == ty {
        return Some(Tidied::Value(x));
    }
    // Open sizes are kept by the single steps, which say more about them.
    ty.known_shape()?;
    let shape = ty.shape.clone();
    Some(Tidied::Node(Op::Reshape(Reshape { shape }), vec![x]))
}

/// Two casts in a row: one, or none, where the first loses nothing.
pub(super) fn cast(b: &Builder, op: &Op, operands: &[ValueId]) -> Option<Tidied> {
    let Op::Cast(Cast { to }) = *op else {
        return None;
    };
    let before = b
        .producer(operands[0])
        .filter(|n| matches!(n.op, Op::Cast(_)))?;
    let x = before.operands[0];
    let (from, through) = (b.ty(x).dtype, b.ty(operands[0]).dtype);
    if !lossless(from, through) {
        return None;
    }
    if from == to {
        return Some(Tidied::Value(x));
    }
    // Past its own range a float becomes another integer than an integer does, and a bool knows no range.
    let alike = from.is_float() && through.is_float() || from.is_int() && through.is_int();
    (alike || lossless(from, to)).then(|| Tidied::Node(Op::Cast(Cast { to }), vec![x]))
}

/// Whether every value of one type is one of the other.
fn lossless(from: DType, to: DType) -> bool {
    /// Digits and largest exponent of a float.
    fn float(dtype: DType) -> Option<(u32, u32)> {
        match dtype {
            DType::F16 => Some((11, 15)),
            DType::BF16 => Some((8, 127)),
            // Double precision is computed in single.
            DType::F32 | DType::F64 => Some((24, 127)),
            _ => None,
        }
    }
    if from == to || from == DType::Bool {
        return true;
    }
    let digits = if from.is_signed_int() {
        from.bits() - 1
    } else {
        from.bits()
    };
    if from.is_int() {
        return if to.is_int() {
            let room = if to.is_signed_int() {
                to.bits() - 1
            } else {
                to.bits()
            };
            digits <= room && (to.is_signed_int() || !from.is_signed_int())
        } else {
            float(to)
                .is_some_and(|(significant, exponent)| digits <= significant && digits <= exponent)
        };
    }
    match (float(from), float(to)) {
        (Some((d, e)), Some((more_digits, more))) => d <= more_digits && e <= more,
        (_, _) => false,
    }
}
