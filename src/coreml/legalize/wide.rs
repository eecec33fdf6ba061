//! Tensors of more axes than Core ML has. They come from exporters that cut axes apart, move the parts, and join them again: windows of images,
//! shuffled pixels, stacked heads. Here such a tensor is a view of one that Core ML has; where the axes are few again, as many reshapes and
//! transposes of few axes as it takes make it real. Axes that stay neighbours move as one, so mostly that is a single transpose.
// What is not named here is refused.
#![allow(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use super::dtype::{MAX_RANK, legal_constant};
use super::lower::{Lower, Map, dims, product};
use super::node::apply;
use crate::coreml::error::CoremlError;
use crate::error::{Context, Error, Result};
use crate::ir::ops::{Reduce, Slice, SliceRange, Softmax};
use crate::ir::{Def, Dim, Function, Node, Op, ValueId};

/// A view: `base` cut into axes of these sizes, which are put in the order of `perm`.
#[derive(Clone, Debug)]
pub(super) struct View {
    base: ValueId,
    sizes: Vec<Dim>,
    /// Axis `i` of the view is axis `perm[i]` of the sizes.
    perm: Vec<usize>,
}

/// The views among the values of an old function.
pub(super) type Views = BTreeMap<ValueId, View>;

impl View {
    /// The elements of `base` in their order, in this shape.
    fn of(base: ValueId, sizes: Vec<Dim>) -> Self {
        let perm = (0..sizes.len()).collect();
        View { base, sizes, perm }
    }

    fn shape(&self) -> Vec<Dim> {
        self.perm.iter().map(|&a| self.sizes[a].clone()).collect()
    }

    fn in_order(&self) -> bool {
        self.perm.iter().copied().eq(0..self.perm.len())
    }

    /// The view as a value of this shape, which has no more axes than Core ML has.
    fn real(&self, l: &mut Lower<'_>, shape: Vec<Dim>) -> Result<ValueId> {
        let mut x = self.base;
        let mut moves = Moves::new(&self.sizes, &self.perm);
        loop {
            moves.merge();
            if moves.sizes.len() <= MAX_RANK {
                break;
            }
            let Some([a, b, c]) = moves.swap() else {
                let found = moves.sizes.len();
                return Err(CoremlError::Rank { found }.into());
            };
            let sizes = &moves.sizes;
            let parts = [&sizes[..a], &sizes[a..b], &sizes[b..c], &sizes[c..]];
            x = l.reshape(x, parts.map(product).to_vec())?;
            x = l.transpose(x, vec![0, 2, 1, 3])?;
            moves.take([a, b, c]);
        }
        if moves.perm.len() > 1 {
            x = l.reshape(x, moves.sizes)?;
            x = l.transpose(x, moves.perm)?;
        }
        l.reshape(x, shape)
    }

    /// The view with all of its elements in order, for one that only looks at them axis by axis.
    fn ordered(&self, l: &mut Lower<'_>) -> Result<View> {
        if self.in_order() {
            return Ok(self.clone());
        }
        let shape = self.shape();
        let flat = self.real(l, vec![product(&shape)])?;
        Ok(View::of(flat, shape))
    }

    /// Three axes: what is before one, that one, and what is behind it.
    fn around(&self, l: &mut Lower<'_>, axis: usize) -> Result<ValueId> {
        let shape = self.shape();
        let (before, behind) = (product(&shape[..axis]), product(&shape[axis + 1..]));
        self.real(l, vec![before, shape[axis].clone(), behind])
    }
}

/// A permutation on its way to be moves of few axes.
struct Moves {
    sizes: Vec<Dim>,
    perm: Vec<usize>,
}

impl Moves {
    /// Axes of size 1 may lie anywhere.
    fn new(sizes: &[Dim], perm: &[usize]) -> Self {
        let one = Dim::from(1);
        let kept: Vec<usize> = (0..sizes.len()).filter(|&a| sizes[a] != one).collect();
        let place = |a: &usize| kept.iter().position(|k| k == a);
        Moves {
            perm: perm.iter().filter_map(place).collect(),
            sizes: kept.iter().map(|&a| sizes[a].clone()).collect(),
        }
    }

    /// Axes that are neighbours before and after become one.
    fn merge(&mut self) {
        let follows = |a: usize| a > 0 && self.perm.windows(2).any(|w| w == [a - 1, a]);
        let mut sizes: Vec<Dim> = Vec::new();
        let mut group = Vec::with_capacity(self.sizes.len());
        for (a, size) in self.sizes.iter().enumerate() {
            match sizes.last_mut() {
                Some(last) if follows(a) => *last = last.mul(size),
                Some(_) | None => sizes.push(size.clone()),
            }
            group.push(sizes.len() - 1);
        }
        let mut perm: Vec<usize> = self.perm.iter().map(|&a| group[a]).collect();
        perm.dedup();
        (self.sizes, self.perm) = (sizes, perm);
    }

    /// The two runs of axes, `a..b` and `b..c`, whose exchange leaves the fewest axes apart that shall be neighbours.
    fn swap(&self) -> Option<[usize; 3]> {
        let n = self.perm.len();
        let all = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)));
        let all = all.flat_map(|(a, b)| (b + 1..=n).map(move |c| [a, b, c]));
        let apart = |&at: &[usize; 3]| apart(&after(&self.perm, at));
        let best = all.min_by_key(apart)?;
        (apart(&best) < self::apart(&self.perm)).then_some(best)
    }

    fn take(&mut self, at: [usize; 3]) {
        self.perm = after(&self.perm, at);
        let [a, b, c] = at;
        self.sizes[a..c].rotate_left(b - a);
    }
}

/// The permutation that is left after the exchange.
fn after(perm: &[usize], [a, b, c]: [usize; 3]) -> Vec<usize> {
    let moved = |&p: &usize| match p {
        p if (a..b).contains(&p) => p + (c - b),
        p if (b..c).contains(&p) => p - (b - a),
        p => p,
    };
    perm.iter().map(moved).collect()
}

/// How often an axis does not follow the one before it.
fn apart(perm: &[usize]) -> usize {
    perm.windows(2).filter(|w| w[1] != w[0] + 1).count()
}

/// What stands for the results of a node with more axes than Core ML has. None if it has no such operand and no such result; no value for a result
/// that is a view.
///
/// # Errors
/// When that cannot be done in fewer axes.
pub(super) fn lower(
    l: &mut Lower<'_>,
    old: &Function,
    map: &Map,
    views: &mut Views,
    node: &Node,
) -> Result<Option<Vec<ValueId>>> {
    let ranks = node.operands.iter().chain(&node.results);
    let rank = ranks.map(|&v| old.ty(v).rank()).max().unwrap_or_default();
    if rank <= MAX_RANK {
        return Ok(None);
    }
    let refuse = || -> Error { CoremlError::Rank { found: rank }.into() };
    let result = node.result();
    let shape = old.ty(result).shape.clone();
    if shape.len() > MAX_RANK && old.outputs.iter().any(|o| o.value == result) {
        return Err(refuse());
    }
    let Some(&first) = node.operands.first() else {
        return Err(refuse());
    };
    let mut x = view(l, old, map, views, first)?;
    let new = match &node.op {
        Op::Reshape(_) => View::of(x.ordered(l)?.base, shape.clone()),
        Op::Squeeze(op) => {
            for &axis in op.axes.iter().rev() {
                let gone = x.perm.remove(axis);
                x.sizes.remove(gone);
                let later = x.perm.iter_mut().filter(|a| **a > gone);
                later.for_each(|a| *a -= 1);
            }
            x
        }
        Op::Unsqueeze(op) => {
            for &axis in &op.axes {
                x.perm.insert(axis, x.sizes.len());
                x.sizes.push(Dim::from(1));
            }
            x
        }
        Op::Transpose(op) => {
            x.perm = op.perm.iter().map(|&a| x.perm[a]).collect();
            x
        }
        Op::Expand(_) => expanded(l, &x, &shape)?,
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Cast(_)
        | Op::Classify(_)
        | Op::Compare(_)
        | Op::Select(_)
        | Op::Clip(_)
        | Op::Activation(_) => {
            let mut all = vec![x];
            for &operand in &node.operands[1..] {
                all.push(view(l, old, map, views, operand)?);
            }
            elementwise(l, old, node, &all, &shape)?.ok_or_else(refuse)?
        }
        Op::Reduce(op) => reduced(l, old, node, op, &x, &shape)?.ok_or_else(refuse)?,
        Op::Softmax(op) => {
            let x = x.around(l, op.axis)?;
            View::of(
                l.push(Op::Softmax(Softmax { axis: 1 }), &[x])?,
                shape.clone(),
            )
        }
        Op::Slice(op) => sliced(l, x, op)?,
        Op::Gather(op) if old.ty(node.operands[1]).rank() + 2 <= MAX_RANK => {
            let x = x.around(l, op.axis)?;
            let places = l.value(old, map, node.operands[1])?;
            View::of(l.gather(x, places, 1)?, shape.clone())
        }
        _ => return Err(refuse()),
    };
    if shape.len() <= MAX_RANK {
        return Ok(Some(vec![new.real(l, shape)?]));
    }
    views.insert(result, new);
    Ok(Some(Vec::new()))
}

/// An operand as a view.
fn view(
    l: &mut Lower<'_>,
    old: &Function,
    map: &Map,
    views: &Views,
    value: ValueId,
) -> Result<View> {
    if let Some(view) = views.get(&value) {
        return Ok(view.clone());
    }
    let ty = old.ty(value);
    if ty.rank() <= MAX_RANK {
        let base = l.value(old, map, value)?;
        return Ok(View::of(base, ty.shape.clone()));
    }
    let Def::Const(id) = old.value(value).def else {
        let found = ty.rank();
        return Err(CoremlError::Rank { found }).at_node(&old.value(value).name);
    };
    let constant = l.module.constant(id);
    let flat = constant.reshape(vec![constant.len()])?;
    let flat = legal_constant(&flat, l.opset)?;
    Ok(View::of(l.constant(flat), ty.shape.clone()))
}

/// Axis by axis.
fn expanded(l: &mut Lower<'_>, x: &View, shape: &[Dim]) -> Result<View> {
    let mut x = x.ordered(l)?;
    let more = shape.len() - x.sizes.len();
    x = View::of(x.base, [dims(&vec![1; more]), x.sizes].concat());
    for (axis, size) in shape.iter().enumerate() {
        if x.sizes[axis] == *size {
            continue;
        }
        let apart = x.around(l, axis)?;
        let mut wide = l.shape(apart);
        wide[1] = size.clone();
        let mut sizes = x.sizes;
        sizes[axis] = size.clone();
        x = View::of(l.expand(apart, wide)?, sizes);
    }
    Ok(x)
}

/// Element by element. None if more axes than Core ML has are broadcast differently.
fn elementwise(
    l: &mut Lower<'_>,
    old: &Function,
    node: &Node,
    operands: &[View],
    shape: &[Dim],
) -> Result<Option<View>> {
    let one = Dim::from(1);
    let is_one = |x: &View| x.sizes.iter().all(|d| *d == one);
    let mut large: Vec<&View> = operands.iter().filter(|x| !is_one(x)).collect();
    // What is as large as the result and in the same order need not be moved.
    let alone = large
        .pop()
        .filter(|x| large.is_empty() && x.shape() == shape);
    if let Some(x) = alone {
        let mut real = Vec::with_capacity(operands.len());
        for operand in operands {
            real.push(if is_one(operand) {
                operand.real(l, Vec::new())?
            } else {
                x.base
            });
        }
        let base = apply(l, old, node, &real)?;
        let view = View {
            base: base[0],
            ..x.clone()
        };
        return Ok(Some(view));
    }
    let shapes: Vec<Vec<Dim>> = operands
        .iter()
        .map(|x| [dims(&vec![1; shape.len() - x.sizes.len()]), x.shape()].concat())
        .collect();
    // Runs of axes along which every operand is whole, or is repeated.
    let whole =
        |axis: usize| -> Vec<bool> { shapes.iter().map(|s| s[axis] == shape[axis]).collect() };
    let runs = runs((0..shape.len()).filter(|&a| shape[a] != one), whole);
    if runs.len() > MAX_RANK {
        return Ok(None);
    }
    let mut real = Vec::with_capacity(operands.len());
    for (operand, own) in operands.iter().zip(&shapes) {
        let sizes = runs.iter().map(|run| joined(own, run)).collect();
        real.push(operand.real(l, sizes)?);
    }
    let base = apply(l, old, node, &real)?;
    Ok(Some(View::of(base[0], shape.to_vec())))
}

/// Axes in a row of the same kind.
fn runs<K: PartialEq>(
    axes: impl Iterator<Item = usize>,
    kind: impl Fn(usize) -> K,
) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for axis in axes {
        match runs.last_mut() {
            Some(run) if kind(run[0]) == kind(axis) => run.push(axis),
            Some(_) | None => runs.push(vec![axis]),
        }
    }
    runs
}

fn joined(shape: &[Dim], run: &[usize]) -> Dim {
    run.iter().fold(Dim::from(1), |n, &a| n.mul(&shape[a]))
}

/// Axes that are reduced in a row are one, and so are axes that are not.
fn reduced(
    l: &mut Lower<'_>,
    old: &Function,
    node: &Node,
    op: &Reduce,
    x: &View,
    shape: &[Dim],
) -> Result<Option<View>> {
    let own = x.shape();
    let runs = runs(0..own.len(), |a| op.axes.contains(&a));
    if runs.len() > MAX_RANK {
        return Ok(None);
    }
    let sizes = runs.iter().map(|run| joined(&own, run)).collect();
    let real = x.real(l, sizes)?;
    let axes = (0..runs.len()).filter(|&i| op.axes.contains(&runs[i][0]));
    let few = Node {
        op: Op::Reduce(Reduce {
            kind: op.kind,
            axes: axes.collect(),
            keep_dims: false,
        }),
        ..node.clone()
    };
    let base = apply(l, old, &few, &[real])?;
    Ok(Some(View::of(base[0], shape.to_vec())))
}

/// Axis by axis.
fn sliced(l: &mut Lower<'_>, mut x: View, op: &Slice) -> Result<View> {
    for range in &op.ranges {
        let mut shape = x.shape();
        let apart = x.around(l, range.axis)?;
        let part = l.slice(
            apart,
            vec![SliceRange {
                axis: 1,
                ..range.clone()
            }],
        )?;
        shape[range.axis] = l.ty(part).shape[1].clone();
        x = View::of(part, shape);
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every order of these axes.
    fn orders(n: usize) -> Vec<Vec<usize>> {
        let Some(last) = n.checked_sub(1) else {
            return vec![Vec::new()];
        };
        let shorter = orders(last);
        let insert = |at: usize| {
            shorter.iter().map(move |order| {
                let mut longer = order.clone();
                longer.insert(at, last);
                longer
            })
        };
        (0..n).flat_map(insert).collect()
    }

    /// The sizes after the moves, and how many transposes they are.
    fn moved(sizes: &[usize], perm: &[usize]) -> (Vec<usize>, usize) {
        let mut moves = Moves::new(&dims(sizes), perm);
        let mut transposes = 0;
        loop {
            moves.merge();
            if moves.sizes.len() <= MAX_RANK {
                break;
            }
            let at = moves.swap().unwrap();
            moves.take(at);
            transposes += 1;
        }
        let order = moves.perm.iter().map(|&a| moves.sizes[a].known().unwrap());
        let transposes = transposes + usize::from(moves.perm.len() > 1);
        (order.collect(), transposes)
    }

    #[test]
    fn every_order_of_six_and_seven_axes_is_a_few_transposes() {
        for n in [6, 7] {
            // Primes: a product tells which axes became one.
            let sizes = [2, 3, 5, 7, 11, 13, 17];
            for perm in orders(n) {
                let (order, transposes) = moved(&sizes[..n], &perm);
                assert!(transposes <= n - 4, "{perm:?}: {transposes}");
                let mut wanted = perm.iter().map(|&a| sizes[a]);
                for mut size in order {
                    while size > 1 {
                        let next = wanted.next().unwrap();
                        assert_eq!(size % next, 0, "{perm:?}");
                        size /= next;
                    }
                }
                assert_eq!(wanted.next(), None, "{perm:?}");
            }
        }
    }

    #[test]
    fn windows_and_shuffled_pixels_are_one_transpose_and_windows_in_time_are_two() {
        let windows = moved(&[3, 2, 4, 5, 4, 6], &[0, 1, 3, 2, 4, 5]);
        let shuffle = moved(&[2, 3, 2, 2, 5, 7], &[0, 1, 4, 2, 5, 3]);
        let deep = moved(&[1, 2, 2, 3, 4, 2, 4, 6], &[0, 1, 3, 5, 2, 4, 6, 7]);
        assert_eq!((windows.1, shuffle.1, deep.1), (1, 1, 2));
    }
}
