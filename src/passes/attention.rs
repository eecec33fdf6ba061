//! Attention, put back together from the two products around a softmax.
// What a pattern does not name is no part of it: a new operation is left alone.
#![allow(clippy::wildcard_enum_match_arm)]

use super::graph::{Graph, Match};
use super::rewrite::Rewrite;
use crate::error::Result;
use crate::ir::ops::{Attention, Binary, BinaryKind, Reshape, Select, Softmax, Transpose};
use crate::ir::{Dim, Op, Type, ValueId};
use crate::tensor::DType;

/// Most operations between the first product and the softmax.
const STEPS: usize = 10;
/// A finite fill of at most this swallows every score that it is added to, so that selecting and adding it are one.
const SWALLOWS: f64 = -1e30;

/// What hides keys from queries.
#[derive(Clone, Copy)]
enum Mask {
    Added(ValueId),
    /// The scores stay where the condition is `keeps`, and are `fill` elsewhere.
    Selected {
        condition: ValueId,
        keeps: bool,
        fill: f64,
    },
}

/// The way from the first product to the softmax.
struct Scores {
    product: ValueId,
    factor: f64,
    masks: Vec<Mask>,
    /// The shape of the scores when the masks are added.
    form: Option<Vec<Dim>>,
}

/// A factor of a product: what it is computed from by a transpose and a number.
struct Side {
    leaf: ValueId,
    perm: Vec<usize>,
    factor: f64,
    /// The leading axes that it gets, if others than it has.
    batch: Option<Vec<Dim>>,
}

/// The whole pattern.
struct Found {
    query: Side,
    key: Side,
    value: Side,
    masks: Vec<Mask>,
    dtype: DType,
    /// The result, if its leading axes are others than those of the scores.
    shape: Option<Vec<Dim>>,
}

/// Attention whose last node is `root`.
///
/// Forms: `softmax(q·kᵀ) · v` with numbers multiplied to or divided out of the scores, the queries or the keys, before or after the keys are
/// transposed; masks added, in any number, or selected with a fill of −∞ (or one that swallows what it is added to); the softmax in a wider type than
/// the products; leading axes written as one and apart again in between.
pub(super) fn find(g: &Graph<'_>, root: ValueId) -> Option<Match> {
    let Op::MatMul(last) = &g.node(root)?.op else {
        return None;
    };
    let &[weights, value] = g.node(root)?.operands.as_slice() else {
        return None;
    };
    let dtype = g.ty(root).dtype;
    if last.transpose_a || !dtype.is_float() {
        return None;
    }
    let softmax = before(g, weights);
    let scores = match &g.node(softmax)?.op {
        Op::Softmax(Softmax { axis }) if axis + 1 == g.ty(softmax).rank() => {
            g.node(softmax)?.operands[0]
        }
        _ => return None,
    };
    let scores = scores_at(g, scores, dtype, STEPS)?;
    let Op::MatMul(first) = &g.node(scores.product)?.op else {
        return None;
    };
    let &[query, key] = g.node(scores.product)?.operands.as_slice() else {
        return None;
    };
    let of_product = &g.ty(scores.product).shape;
    let of_weights = &g.ty(weights).shape;
    let form = scores.form.as_ref().unwrap_or(of_weights);
    let mut found = Found {
        query: side(g, query, first.transpose_a),
        // It is a key that is not transposed yet.
        key: side(g, key, !first.transpose_b),
        value: Side::plain(g, value, last.transpose_b),
        masks: scores.masks,
        dtype,
        shape: None,
    };
    // Weights by which everything is multiplied are no keys.
    if g.constant(found.key.leaf).is_some() {
        return None;
    }
    if of_product != form {
        found.query.batch = Some(regrouped(g, query, of_product, form)?);
        found.key.batch = Some(regrouped(g, key, of_product, form)?);
    }
    if of_weights != form {
        found.value.batch = Some(regrouped(g, value, of_weights, form)?);
        found.shape = Some(g.ty(root).shape.clone());
    }
    let scale = scores.factor * found.query.factor * found.key.factor;
    let op = Attention { scale };
    if !scale.is_finite() || !found.fits(g, op, root) {
        return None;
    }
    Some(Match {
        labels: vec!["attention"],
        leaves: found.leaves(),
        emit: Box::new(move |rewrite, name| found.emit(rewrite, op, name)),
    })
}

/// What is behind a cast to another float type or a change of the leading axes.
fn before(g: &Graph<'_>, mut v: ValueId) -> ValueId {
    while let Some(node) = g.node(v) {
        let x = node.operands.first().copied();
        match (&node.op, x) {
            (Op::Cast(_), Some(x)) if is_wide(g, x) => v = x,
            (Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_), Some(x)) if regroups(g, x, v) => {
                v = x;
            }
            (_, _) => break,
        }
    }
    v
}

/// Whether a value is of a type in which a softmax loses nothing.
fn is_wide(g: &Graph<'_>, v: ValueId) -> bool {
    matches!(g.ty(v).dtype, DType::F32 | DType::F64)
}

/// Whether a change of shape leaves the last two axes alone.
fn regroups(g: &Graph<'_>, from: ValueId, to: ValueId) -> bool {
    match (g.ty(from).shape.as_slice(), g.ty(to).shape.as_slice()) {
        ([.., a, b], [.., c, d]) => (a, b) == (c, d),
        (_, _) => false,
    }
}

/// The way from a product to the scores `v`, which a softmax is taken of.
fn scores_at(g: &Graph<'_>, v: ValueId, dtype: DType, steps: usize) -> Option<Scores> {
    let steps = steps.checked_sub(1)?;
    let node = g.node(v)?;
    let up = |x: ValueId| scores_at(g, x, dtype, steps);
    match (&node.op, node.operands.as_slice()) {
        (Op::MatMul(_), _) if g.ty(v).dtype == dtype => Some(Scores {
            product: v,
            factor: 1.0,
            masks: Vec::new(),
            form: None,
        }),
        (Op::Cast(_), &[x]) if is_wide(g, v) => up(x),
        (Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_), &[x]) if regroups(g, x, v) => up(x),
        (Op::Binary(Binary { kind }), &[a, b]) => match kind {
            BinaryKind::Add => masked(g, v, a, up(a), Mask::Added(b), dtype)
                .or_else(|| masked(g, v, b, up(b), Mask::Added(a), dtype)),
            BinaryKind::Mul | BinaryKind::Div => {
                let (x, factor) = number(g, v)?;
                let mut scores = up(x)?;
                // What was added before is multiplied as well.
                scores.masks.is_empty().then_some(())?;
                scores.factor *= factor;
                Some(scores)
            }
            _ => None,
        },
        (Op::Select(_), &[condition, a, b]) => {
            let (x, fill, keeps) = match (g.number(a), g.number(b)) {
                (None, Some(fill)) => (a, fill, true),
                (Some(fill), None) => (b, fill, false),
                (_, _) => return None,
            };
            let swallows = dtype == DType::F32 && fill <= SWALLOWS;
            if fill != f64::NEG_INFINITY && !swallows {
                return None;
            }
            let mask = Mask::Selected {
                condition,
                keeps,
                fill,
            };
            masked(g, v, x, up(x), mask, dtype)
        }
        (_, _) => None,
    }
}

/// The scores `v` with one more mask than those of `x`.
fn masked(
    g: &Graph<'_>,
    v: ValueId,
    x: ValueId,
    scores: Option<Scores>,
    mask: Mask,
    dtype: DType,
) -> Option<Scores> {
    let mut scores = scores?;
    let shape = &g.ty(x).shape;
    let other = scores.form.as_ref().is_some_and(|form| form != shape);
    if other || g.ty(v).shape != *shape || g.ty(v).dtype != dtype {
        return None;
    }
    scores.form = Some(shape.clone());
    scores.masks.push(mask);
    Some(scores)
}

/// What a value is a multiple of, and the factor.
fn number(g: &Graph<'_>, v: ValueId) -> Option<(ValueId, f64)> {
    let by = |x: ValueId, n: ValueId| Some((x, g.number(n)?));
    let (x, factor) = if let Some([x, n]) = g.binary(v, BinaryKind::Div) {
        let (x, n) = by(x, n)?;
        (x, 1.0 / n)
    } else {
        let [a, b] = g.binary(v, BinaryKind::Mul)?;
        by(a, b).or_else(|| by(b, a))?
    };
    (factor.is_finite() && g.ty(x) == g.ty(v)).then_some((x, factor))
}

/// A factor of a product, with its last axes swapped or not: numbers before it are taken out, past one transpose.
fn side(g: &Graph<'_>, v: ValueId, swapped: bool) -> Side {
    let mut side = Side::plain(g, v, swapped);
    let (mut at, mut turned, mut factor) = (v, None, 1.0);
    for _ in 0..STEPS {
        let own = g.uses(at) == 1 && !g.is_output(at);
        let node = g.node(at).filter(|_| own);
        if let Some(x) = node
            .and_then(|_| swapped_apart(g, at))
            .filter(|_| turned.is_none())
        {
            side.leaf = x;
            at = x;
            side.turn_before(&last_swapped(g.ty(x).rank()));
        } else if let Some((x, n)) = node.and_then(|_| number(g, at)) {
            factor *= n;
            at = x;
            side.leaf = at;
            side.factor = factor;
            if let Some(turned) = turned.take() {
                side.turn_before(turned);
            }
        } else if let Some(Op::Transpose(o)) = node.map(|n| &n.op)
            && let (None, Some(node)) = (&turned, node)
            && !side.is_turned(g, v, swapped)
        {
            turned = Some(o.perm.as_slice());
            at = node.operands[0];
        } else {
            break;
        }
    }
    side
}

/// The permutation that swaps the last two of so many axes.
fn last_swapped(rank: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    if let [.., a, b] = perm.as_mut_slice() {
        std::mem::swap(a, b);
    }
    perm
}

/// What a value is with the last two axes swapped, where leading axes were written as one for that and apart again.
fn swapped_apart(g: &Graph<'_>, v: ValueId) -> Option<ValueId> {
    let reshaped = |v: ValueId| {
        let node = g.node(v).filter(|n| matches!(n.op, Op::Reshape(_)))?;
        Some(node.operands[0]).filter(|&x| regroups(g, x, v))
    };
    let swapped = reshaped(v)?;
    let node = g.node(swapped)?;
    let Op::Transpose(o) = &node.op else {
        return None;
    };
    let x = reshaped(node.operands[0])?;
    let swaps = o.perm == last_swapped(o.perm.len());
    let same = match (g.ty(x).shape.as_slice(), g.ty(v).shape.as_slice()) {
        ([from @ .., _, _], [to @ .., _, _]) => from == to,
        (_, _) => false,
    };
    (swaps && same).then_some(x)
}

/// The leading axes that an operand of a product gets when those of the product, which are its own, become those of `form`.
fn regrouped(g: &Graph<'_>, v: ValueId, product: &[Dim], form: &[Dim]) -> Option<Vec<Dim>> {
    let known = |dims: &[Dim]| dims.iter().all(|d| d.known().is_some());
    let ([own @ .., _, _], [batch @ .., _, _], [new @ .., _, _]) =
        (g.ty(v).shape.as_slice(), product, form)
    else {
        return None;
    };
    (own == batch && known(own) && known(new)).then(|| new.to_vec())
}

impl Side {
    fn plain(g: &Graph<'_>, v: ValueId, swapped: bool) -> Self {
        let rank = g.ty(v).rank();
        Side {
            leaf: v,
            perm: if swapped {
                last_swapped(rank)
            } else {
                (0..rank).collect()
            },
            factor: 1.0,
            batch: None,
        }
    }

    /// Whether more than the swap is to be done already.
    fn is_turned(&self, g: &Graph<'_>, v: ValueId, swapped: bool) -> bool {
        self.perm != Side::plain(g, v, swapped).perm
    }

    /// The leaf is transposed first.
    fn turn_before(&mut self, perm: &[usize]) {
        for axis in &mut self.perm {
            *axis = perm[*axis];
        }
    }

    fn is_in_order(&self) -> bool {
        self.perm.iter().copied().eq(0..self.perm.len())
    }

    /// The type that it will have.
    fn ty(&self, g: &Graph<'_>) -> Type {
        let leaf = g.ty(self.leaf);
        let shape = self.perm.iter().map(|&a| leaf.shape[a].clone()).collect();
        Type::new(leaf.dtype, self.reshaped(shape))
    }

    fn reshaped(&self, shape: Vec<Dim>) -> Vec<Dim> {
        match (&self.batch, shape.as_slice()) {
            (Some(batch), [.., a, b]) => [batch.as_slice(), &[a.clone(), b.clone()]].concat(),
            (_, _) => shape,
        }
    }

    fn emit(&self, rewrite: &mut Rewrite<'_>, name: &str) -> Result<ValueId> {
        let mut x = rewrite.get(self.leaf);
        if !self.is_in_order() {
            let perm = self.perm.clone();
            let op = Op::Transpose(Transpose { perm });
            x = rewrite.builder.push(name, op, &[x])?;
        }
        if self.batch.is_some() {
            let shape = self.reshaped(rewrite.builder.ty(x).shape.clone());
            let op = Op::Reshape(Reshape { shape });
            x = rewrite.builder.push(name, op, &[x])?;
        }
        Ok(x)
    }
}

impl Found {
    fn leaves(&self) -> Vec<ValueId> {
        let mut leaves = vec![self.query.leaf, self.key.leaf, self.value.leaf];
        leaves.extend(self.masks.iter().map(|mask| match *mask {
            Mask::Added(v) => v,
            Mask::Selected { condition, .. } => condition,
        }));
        leaves
    }

    /// Whether the operation takes its operands, and gives what the pattern gives.
    fn fits(&self, g: &Graph<'_>, op: Attention, root: ValueId) -> bool {
        let mut types = vec![self.query.ty(g), self.key.ty(g), self.value.ty(g)];
        let add = Op::Binary(Binary {
            kind: BinaryKind::Add,
        });
        for mask in &self.masks {
            let ty = match *mask {
                Mask::Added(v) => g.ty(v).clone(),
                Mask::Selected { condition, .. } => {
                    Type::new(self.dtype, g.ty(condition).shape.clone())
                }
            };
            let all = match types.get(3) {
                Some(before) => add.infer(&[before, &ty]),
                None => Ok(ty),
            };
            let Ok(all) = all else {
                return false;
            };
            types.truncate(3);
            types.push(all);
        }
        let result = Op::Attention(op).infer(&types.iter().collect::<Vec<_>>());
        result.is_ok_and(|ty| self.shape.is_some() || ty == *g.ty(root))
    }

    fn emit(&self, rewrite: &mut Rewrite<'_>, op: Attention, name: &str) -> Result<ValueId> {
        let mut operands = vec![
            self.query.emit(rewrite, &format!("{name}/query"))?,
            self.key.emit(rewrite, &format!("{name}/key"))?,
            self.value.emit(rewrite, &format!("{name}/value"))?,
        ];
        let mut sum = None;
        for mask in &self.masks {
            let mask = self.mask(rewrite, *mask, name)?;
            sum = Some(match sum {
                None => mask,
                Some(before) => {
                    let kind = BinaryKind::Add;
                    rewrite
                        .builder
                        .binary(&format!("{name}/masks"), kind, before, mask)?
                }
            });
        }
        operands.extend(sum);
        let op = Op::Attention(op);
        let Some(shape) = self.shape.clone() else {
            return rewrite.builder.push(name, op, &operands);
        };
        let heads = format!("{name}/heads");
        let y = rewrite.builder.push(&heads, op, &operands)?;
        let op = Op::Reshape(Reshape { shape });
        rewrite.builder.push(name, op, &[y])
    }

    fn mask(&self, rewrite: &mut Rewrite<'_>, mask: Mask, name: &str) -> Result<ValueId> {
        let (condition, keeps, fill) = match mask {
            Mask::Added(v) => return Ok(rewrite.get(v)),
            Mask::Selected {
                condition,
                keeps,
                fill,
            } => (rewrite.get(condition), keeps, fill),
        };
        let b = &mut rewrite.builder;
        let seen = b.scalar(&format!("{name}/seen"), self.dtype, 0.0)?;
        let hidden = b.scalar(&format!("{name}/hidden"), self.dtype, fill)?;
        let operands = if keeps {
            [condition, seen, hidden]
        } else {
            [condition, hidden, seen]
        };
        b.push(&format!("{name}/mask"), Op::Select(Select), &operands)
    }
}
