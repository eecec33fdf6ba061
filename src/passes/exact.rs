//! What half precision would falsify and not merely round: numbers from which indices are computed, angles of positions, and fills of masks that it
//! does not hold.
// What a list does not name is no part of it: a new operation is left alone.
#![allow(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::ir::ops::{BinaryKind, MatMul, UnaryKind};
use crate::ir::{Constant, Def, Dim, Domain, Function, Module, Node, Op, Param, ValueId};
use crate::tensor::{DType, Tensor};

/// What stands for a fill of masks beyond it. Its exponential beside any score is 0, half precision rounds scores that are added to it away (its
/// neighbours are 16 apart), and the sum of three masks is a number still.
pub(super) const MASK_FILL: f32 = 2e4;

/// What half precision would falsify in a function.
#[derive(Debug, Default)]
pub(super) struct Exact {
    /// Nodes, by their first result, that stay in `f32`, and why.
    kept: BTreeMap<ValueId, &'static str>,
    /// Values that do nothing but mask.
    masks: BTreeSet<ValueId>,
}

impl Exact {
    pub(super) fn of(module: &Module, function: &Function) -> Self {
        Exact {
            kept: kept(module, function, BTreeSet::new()).0,
            masks: masks(function),
        }
    }

    /// Why a node stays in `f32`, if it does.
    pub(super) fn reason(&self, node: &Node) -> Option<&'static str> {
        self.kept.get(&node.result()).copied()
    }

    /// Whether a value does nothing but mask what goes into a softmax, so that [`filled`] may stand for it.
    pub(super) fn is_mask(&self, value: ValueId) -> bool {
        self.masks.contains(&value)
    }
}

/// A constant that masks, with fills that half precision holds.
///
/// # Errors
/// When it cannot be read.
pub(super) fn filled(constant: &Constant) -> Result<Constant> {
    if constant.scan()?.max_abs <= MASK_FILL {
        return Ok(constant.clone());
    }
    let tensor = constant.read()?;
    let clamped = |x: &f32| {
        if x.is_finite() {
            x.clamp(-MASK_FILL, MASK_FILL)
        } else {
            *x
        }
    };
    let values = tensor.floats()?.iter().map(clamped).collect();
    let tensor = Tensor::float(tensor.dtype(), tensor.shape().to_vec(), values)?;
    Constant::from_tensor(constant.name(), &tensor)
}

/// Whether the numbers of the result are those of the first operand, some of them, in another place or type.
fn passes_on(op: &Op) -> bool {
    matches!(
        op,
        Op::Cast(_)
            | Op::Reshape(_)
            | Op::ReshapeTo(_)
            | Op::Transpose(_)
            | Op::Expand(_)
            | Op::ExpandTo(_)
            | Op::Slice(_)
            | Op::SliceBy(_)
            | Op::Squeeze(_)
            | Op::Unsqueeze(_)
            | Op::Gather(_)
            | Op::Tile(_)
            | Op::TileBy(_)
    )
}

/// The operands of a node that its result is made of number by number, or in sums of a few: what goes into an index through it has to be as exact
/// as the index. Products of matrices and what else sums much are measurements, and no positions.
fn exact_operands<'n>(function: &Function, node: &'n Node) -> &'n [ValueId] {
    let all = node.operands.as_slice();
    let first = &all[..all.len().min(1)];
    match &node.op {
        Op::Unary(_) | Op::Binary(_) | Op::Clip(_) | Op::Concat(_) | Op::RangeBy(_) => all,
        Op::Select(_) => all.get(1..).unwrap_or_default(),
        // An outer product, which is how angles are made.
        Op::MatMul(op) if outer(function, op, node) => all,
        op if passes_on(op) => first,
        Op::GatherNd(_)
        | Op::GatherElements(_)
        | Op::Tile(_)
        | Op::TileBy(_)
        | Op::Reverse(_)
        | Op::CumSum(_)
        | Op::Reduce(_) => first,
        _ => &[],
    }
}

/// Whether a product of matrices sums over one element.
fn outer(function: &Function, op: &MatMul, node: &Node) -> bool {
    let Some(&first) = node.operands.first() else {
        return false;
    };
    let shape = &function.ty(first).shape;
    let back = if op.transpose_a { 2 } else { 1 };
    let inner = shape.len().checked_sub(back).map(|axis| &shape[axis]);
    inner.and_then(Dim::known) == Some(1)
}

/// Nodes that stay in `f32`, and the values from which integers are computed; `indices` are values of which that is known.
fn kept(
    module: &Module,
    function: &Function,
    mut indices: BTreeSet<ValueId>,
) -> (BTreeMap<ValueId, &'static str>, BTreeSet<ValueId>) {
    let float = |v: ValueId| function.ty(v).dtype == DType::F32;
    let int = |v: ValueId| function.ty(v).dtype.is_int();
    // Numbers that are positions or made of them: from the inputs on.
    let mut positions = BTreeSet::new();
    for node in &function.nodes {
        let counts = match &node.op {
            Op::Cast(_) => int(node.operands[0]),
            Op::Iota(_) | Op::Size(_) => true,
            _ => false,
        };
        let made = exact_operands(function, node);
        if counts || made.iter().any(|v| positions.contains(v)) {
            positions.extend(node.results.iter().copied().filter(|&v| float(v)));
        }
    }
    // What becomes an index, or the angle of a position: from the outputs on.
    let mut angles = BTreeSet::new();
    let mut kept = BTreeMap::new();
    for node in function.nodes.iter().rev() {
        let result = node.result();
        if !node.op.bodies().is_empty() {
            let handed = handed(module, node, &indices);
            indices.extend(handed.into_iter().filter(|&v| float(v)));
            continue;
        }
        let turns = |op: &Op| matches!(op, Op::Unary(u) if matches!(u.kind, UnaryKind::Sin | UnaryKind::Cos | UnaryKind::Tan));
        let operands = || node.operands.iter().copied().filter(|&v| float(v));
        if matches!(node.op, Op::Cast(_)) && int(result) {
            indices.extend(operands());
            continue;
        }
        if turns(&node.op) && operands().any(|v| positions.contains(&v)) {
            kept.insert(result, "its angles are those of positions");
            angles.extend(operands());
        }
        let made = || {
            let made = exact_operands(function, node).iter().copied();
            made.filter(|&v| float(v))
        };
        if indices.contains(&result) {
            indices.extend(made());
            kept.insert(result, "an integer is computed from it");
        }
        if angles.contains(&result) && positions.contains(&result) {
            angles.extend(made());
            kept.entry(result)
                .or_insert("the angle of a position is computed from it");
        }
    }
    (kept, indices)
}

/// The operands of control flow from which integers are computed inside, or outside from its results, of which `indices` tells.
fn handed(module: &Module, node: &Node, indices: &BTreeSet<ValueId>) -> Vec<ValueId> {
    // Operands before the first parameter of a body, outputs before its first result, and what is handed from round to round.
    let (before, ahead, carried) = match &node.op {
        Op::Loop(o) => (0, 1, o.carried),
        _ => (1, 0, 0),
    };
    let mut all = Vec::new();
    for id in node.op.bodies() {
        let body = module.body(id);
        let outputs = || body.outputs.iter().skip(ahead).map(|o| o.value);
        let pairs = node.results.iter().zip(outputs());
        let mut seeds: BTreeSet<ValueId> = pairs
            .filter(|(result, _)| indices.contains(result))
            .map(|(_, output)| output)
            .collect();
        let inside = loop {
            let (_, inside) = kept(module, body, seeds.clone());
            let rounds = body.params.iter().skip(2).zip(outputs()).take(carried);
            let again = rounds.filter(|(param, _)| inside.contains(&param.value));
            let known = seeds.len();
            seeds.extend(again.map(|(_, output)| output));
            if seeds.len() == known {
                break inside;
            }
        };
        let taken = body.params.iter().zip(node.operands.iter().skip(before));
        let taken = taken.filter(|(param, _)| inside.contains(&param.value));
        all.extend(taken.map(|(_, &operand)| operand));
    }
    all
}

/// What the uses of a value are, as far as masks go.
#[derive(Clone, Copy, Default)]
struct Uses {
    /// One of them lets another number than the mask's be seen.
    other: bool,
    /// One of them goes into a softmax.
    hides: bool,
}

/// Values that are made number by number of constants and of inputs that say what counts, as masks are and measurements are not.
fn plain(function: &Function) -> BTreeSet<ValueId> {
    let says = |p: &&Param| p.domain == Domain::Mask || !function.ty(p.value).dtype.is_float();
    let params = function.params.iter().filter(says).map(|p| p.value);
    let values = (0..function.values.len()).map(ValueId);
    let constants = values.filter(|&v| matches!(function.value(v).def, Def::Const(_)));
    let mut plain: BTreeSet<ValueId> = params.chain(constants).collect();
    for node in &function.nodes {
        let moves = !exact_operands(function, node).is_empty()
            || matches!(node.op, Op::Compare(_) | Op::Iota(_) | Op::Size(_));
        if moves && node.operands.iter().all(|v| plain.contains(v)) {
            plain.extend(&node.results);
        }
    }
    plain
}

fn masks(function: &Function) -> BTreeSet<ValueId> {
    let plain = plain(function);
    let mut uses: BTreeMap<ValueId, Uses> = BTreeMap::new();
    for output in &function.outputs {
        uses.entry(output.value).or_default().other = true;
    }
    for node in function.nodes.iter().rev() {
        let after = uses.get(&node.result()).copied().unwrap_or_default();
        for (i, &operand) in node.operands.iter().enumerate() {
            let carries = match &node.op {
                Op::Binary(o) => match o.kind {
                    BinaryKind::Add | BinaryKind::Sub | BinaryKind::Min | BinaryKind::Max => true,
                    // A factor of a mask, and not of scores.
                    BinaryKind::Mul => node.operands.get(1 - i).is_some_and(|v| plain.contains(v)),
                    _ => false,
                },
                Op::Select(_) => i > 0,
                Op::Concat(_) => true,
                Op::ScatterNd(_) | Op::ScatterElements(_) => i != 1,
                op if passes_on(op) => i == 0,
                _ => false,
            };
            let seen = match &node.op {
                Op::Softmax(_) => Uses {
                    other: false,
                    hides: true,
                },
                Op::Attention(_) if i == 3 => Uses {
                    other: false,
                    hides: true,
                },
                // Where it is masked is the same.
                Op::Compare(_) => Uses::default(),
                _ if carries && node.results.len() == 1 => after,
                _ => Uses {
                    other: true,
                    hides: false,
                },
            };
            let all = uses.entry(operand).or_default();
            all.other |= seen.other;
            all.hides |= seen.hides;
        }
    }
    let masks = uses.into_iter().filter(|(_, u)| u.hides && !u.other);
    masks.map(|(value, _)| value).collect()
}

#[cfg(test)]
#[path = "exact_tests.rs"]
mod tests;
