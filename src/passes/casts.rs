//! Casts around what computes in single precision and rounds once at its end in any case.
// What a pattern does not name is no part of it: a new operation is left alone.
#![allow(clippy::wildcard_enum_match_arm)]

use super::graph::{Graph, Match};
use crate::ir::ops::Cast;
use crate::ir::{Op, ValueId};
use crate::limits::FOLDED_ELEMENTS;
use crate::tensor::{DType, num};

/// A 16-bit value that is cast to single precision for one operation and back after it, with the second cast at `root`: the operation on 16-bit
/// values computes the same. Parameters must be such as the 16-bit type holds.
pub(super) fn find(g: &Graph<'_>, root: ValueId) -> Option<Match> {
    let Op::Cast(Cast { to }) = g.node(root)?.op else {
        return None;
    };
    let wide = g.node(root)?.operands[0];
    let node = g.node(wide)?;
    let one = matches!(
        node.op,
        Op::Unary(_) | Op::Softmax(_) | Op::LayerNorm(_) | Op::RmsNorm(_)
    );
    let [from, parameters @ ..] = node.operands.as_slice() else {
        return None;
    };
    let single = |v: ValueId| matches!(g.ty(v).dtype, DType::F32 | DType::F64);
    let x = match g.node(*from).map(|n| (&n.op, n.operands.as_slice())) {
        Some((Op::Cast(_), &[x])) if g.ty(x).dtype == to => x,
        Some(_) | None => return None,
    };
    let sixteen = matches!(to, DType::F16 | DType::BF16);
    let held = parameters.iter().all(|&v| holds(g, v, to));
    if !one || !sixteen || !single(*from) || !single(wide) || !held {
        return None;
    }
    let (op, parameters) = (node.op.clone(), parameters.to_vec());
    Some(Match {
        labels: vec!["cast", "cast"],
        leaves: vec![x],
        emit: Box::new(move |rewrite, name| {
            let mut operands = vec![rewrite.get(x)];
            for &parameter in &parameters {
                let wide = rewrite.get(parameter);
                let narrow = rewrite.builder.as_constant(wide).map(|c| c.cast(to));
                operands.push(narrow.map_or(wide, |c| rewrite.builder.constant(c)));
            }
            rewrite.builder.push(name, op.clone(), &operands)
        }),
    })
}

/// Whether a value is a constant of numbers that a 16-bit type has.
fn holds(g: &Graph<'_>, v: ValueId, dtype: DType) -> bool {
    let round = |x: f32| match dtype {
        DType::F16 => num::round_f16(x),
        _ => num::round_bf16(x),
    };
    let Some(constant) = g.constant(v) else {
        return false;
    };
    constant.stored_dtype() == dtype
        || num::u64_of(constant.len()) <= FOLDED_ELEMENTS.get()
            && constant.read().is_ok_and(|t| {
                let exact = |x: &f32| round(*x).to_bits() == x.to_bits();
                t.floats().is_ok_and(|values| values.iter().all(exact))
            })
}
