//! Transposes on both sides of elementwise operations, softmaxes and concatenations, as converters between layouts leave them.

use std::collections::BTreeMap;

use super::graph::{Graph, Match};
use super::rewrite::Rewrite;
use crate::error::Result;
use crate::ir::ops::{Concat, Softmax, Transpose};
use crate::ir::{Family, Op, ValueId};

/// Most operations between the transposes.
const NODES: usize = 32;

/// What stands for an operand where nothing is transposed.
enum Plain {
    /// Something else.
    Value(ValueId),
    /// A constant in another shape.
    Shaped(ValueId, Vec<usize>),
    /// The result of an operation between the transposes.
    Node,
}

/// The operations between the transposes, operands first.
#[derive(Default)]
struct Between {
    nodes: Vec<(ValueId, Op)>,
    plain: BTreeMap<ValueId, Plain>,
    turned: usize,
}

/// A transpose at `root` of what elementwise operations make of values transposed the other way, and of constants that vary along one axis at most.
pub(super) fn find(g: &Graph<'_>, root: ValueId) -> Option<Match> {
    let node = g.node(root)?;
    let Op::Transpose(Transpose { perm }) = &node.op else {
        return None;
    };
    let last = node.operands[0];
    let mut between = Between::default();
    between.visit(g, last, perm)?;
    if between.nodes.is_empty() || between.turned == 0 {
        return None;
    }
    let values = between.plain.values();
    let leaves = values.filter_map(|plain| match plain {
        Plain::Value(x) | Plain::Shaped(x, _) => Some(*x),
        Plain::Node => None,
    });
    Some(Match {
        labels: vec!["transpose"; between.turned + 1],
        leaves: leaves.collect(),
        emit: Box::new(move |rewrite, name| between.emit(rewrite, last, name)),
    })
}

impl Between {
    /// Takes in what `v` is computed from, if it fits.
    fn visit(&mut self, g: &Graph<'_>, v: ValueId, perm: &[usize]) -> Option<()> {
        if self.plain.contains_key(&v) {
            return Some(());
        }
        if let Some(constant) = g.constant(v) {
            let shape = plain_shape(constant.shape(), perm)?;
            let plain = if shape == constant.shape() || constant.len() == 1 {
                Plain::Value(v)
            } else {
                Plain::Shaped(v, shape)
            };
            self.plain.insert(v, plain);
            return Some(());
        }
        let node = g.node(v)?;
        if let Op::Transpose(o) = &node.op {
            let undone = perm.iter().map(|&axis| o.perm.get(axis).copied());
            if !undone.eq((0..o.perm.len()).map(Some)) {
                return None;
            }
            self.turned += 1;
            self.plain.insert(v, Plain::Value(node.operands[0]));
            return Some(());
        }
        let op = plain_op(&node.op, perm)?;
        if g.ty(v).rank() != perm.len() || self.nodes.len() >= NODES {
            return None;
        }
        let joins = matches!(op, Op::Concat(_));
        if joins && node.operands.iter().any(|&v| g.constant(v).is_some()) {
            return None;
        }
        for &operand in &node.operands {
            self.visit(g, operand, perm)?;
        }
        self.plain.insert(v, Plain::Node);
        self.nodes.push((v, op));
        Some(())
    }

    fn emit(&self, rewrite: &mut Rewrite<'_>, last: ValueId, name: &str) -> Result<ValueId> {
        let mut made: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        for (v, op) in &self.nodes {
            let v = *v;
            let Some(node) = rewrite.function.producer(v) else {
                continue;
            };
            let mut operands = Vec::with_capacity(node.operands.len());
            for operand in &node.operands {
                operands.push(match (self.plain.get(operand), made.get(operand)) {
                    (_, Some(&value)) => value,
                    (Some(Plain::Value(x)), None) => rewrite.get(*x),
                    (Some(Plain::Shaped(x, shape)), None) => {
                        let value = rewrite.get(*x);
                        match rewrite.builder.as_constant(value).cloned() {
                            Some(c) => rewrite.builder.constant(c.reshape(shape.clone())?),
                            None => value,
                        }
                    }
                    (Some(Plain::Node) | None, None) => rewrite.get(*operand),
                });
            }
            // Under another name where it has another shape.
            let own = format!("{}/plain", rewrite.function.value(v).name);
            let name = if v == last { name } else { &own };
            made.insert(v, rewrite.builder.push(name, op.clone(), &operands)?);
        }
        Ok(made.get(&last).copied().unwrap_or(last))
    }
}

/// The operation where nothing is transposed: elementwise ones are the same, others have another axis.
fn plain_op(op: &Op, perm: &[usize]) -> Option<Op> {
    let plain = |axis: usize| perm.iter().position(|&from| from == axis);
    if let Op::Softmax(o) = op {
        let axis = plain(o.axis)?;
        return Some(Op::Softmax(Softmax { axis }));
    }
    if let Op::Concat(o) = op {
        let axis = plain(o.axis)?;
        return Some(Op::Concat(Concat { axis }));
    }
    (op.info().family == Family::Elementwise).then(|| op.clone())
}

/// The shape of a constant once its axes lie as before they were transposed, if it varies along one of them at most.
fn plain_shape(shape: &[usize], perm: &[usize]) -> Option<Vec<usize>> {
    let missing = perm.len().checked_sub(shape.len())?;
    let mut plain = vec![1; perm.len()];
    let mut wide = shape.iter().enumerate().filter(|(_, n)| **n != 1);
    if let Some((axis, &n)) = wide.next() {
        let to = perm.iter().position(|&from| from == axis + missing)?;
        plain[to] = n;
    }
    wide.next().is_none().then_some(plain)
}
