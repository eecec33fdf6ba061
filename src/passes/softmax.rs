//! Softmax, put back together from exponentials over their sum.

use super::graph::{Graph, Match, is_statistic, unspread};
use crate::ir::ops::{BinaryKind, ReduceKind, Softmax, UnaryKind};
use crate::ir::{Dim, Op, ValueId};

/// A softmax whose last node is `root`: `e / Σ e` with `e = exp(x − max(x))`, maximum and sum over one and the same axis. Without the maximum it
/// is no softmax: it overflows where a softmax does not.
pub(super) fn find(g: &Graph<'_>, root: ValueId) -> Option<Match> {
    let quotient = g
        .binary(root, BinaryKind::Div)
        .map(|[e, sum]| (e, sum, sum));
    let inverse = |(e, r): (ValueId, ValueId)| {
        let sum = g.unary(g.reshaped(unspread(g, r)), UnaryKind::Reciprocal)?;
        Some((e, r, sum))
    };
    let products = g
        .either(root, BinaryKind::Mul)
        .into_iter()
        .filter_map(inverse);
    for (e, factor, sum) in quotient.into_iter().chain(products) {
        if let Some((x, axis)) = parts(g, e, factor, sum)
            && g.ty(root) == g.ty(x)
            && !g.ty(x).shape.iter().any(Dim::is_run_time)
        {
            return Some(Match {
                labels: vec!["softmax"],
                leaves: vec![x],
                emit: Box::new(move |rewrite, name| {
                    let x = rewrite.get(x);
                    let op = Op::Softmax(Softmax { axis });
                    rewrite.builder.push(name, op, &[x])
                }),
            });
        }
    }
    None
}

/// The input and the axis.
fn parts(g: &Graph<'_>, e: ValueId, factor: ValueId, sum: ValueId) -> Option<(ValueId, usize)> {
    let [x, most] = g.binary(g.unary(e, UnaryKind::Exp)?, BinaryKind::Sub)?;
    let over = |v: ValueId, kind: ReduceKind| {
        let (of, axes) = g.reduction(g.reshaped(unspread(g, v)), kind)?;
        match axes {
            [axis] => Some((of, *axis)),
            _ => None,
        }
    };
    let (summed, axis) = over(sum, ReduceKind::Sum)?;
    let (of, along) = over(most, ReduceKind::Max)?;
    let fits = summed == e
        && of == x
        && along == axis
        && is_statistic(g, factor, x, &[axis])
        && is_statistic(g, most, x, &[axis]);
    fits.then_some((x, axis))
}
