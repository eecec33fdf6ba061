//! Removes what changes nothing: operations without effect, moves that undo one another, casts there and back, and what is computed twice.
// What a pattern does not name is no part of it: a new operation is left alone.
#![allow(clippy::wildcard_enum_match_arm)]

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::graph::Counts;
use super::rewrite::{Bodies, Rewrite};
use super::views;
use crate::error::{Context, Result};
use crate::ir::ops::{Binary, BinaryKind, Clip, Reduce, ReduceKind, Squeeze};
use crate::ir::{Bindings, Builder, Constant, Def, Dim, Module, Node, Op, Type, ValueId};
use crate::tensor::DType;

/// Constants up to this size are compared by their elements.
const SMALL_ELEMENTS: usize = 64;
/// Rounds until nothing changes; more than two are for the rare graph in which a removal brings moves together.
const ROUNDS: usize = 4;

/// What a node becomes.
pub(super) enum Tidied {
    /// A value that is there already.
    Value(ValueId),
    /// Another operation, on these operands, under the node's name.
    Node(Op, Vec<ValueId>),
}

/// The module without what changes nothing, and without what nothing uses.
///
/// # Numerics
/// Results are the same, but for the sign of a zero that 0 was added to.
pub(super) fn tidy(mut module: Module, counts: &mut Counts) -> Result<Module> {
    for _ in 0..ROUNDS {
        let before: usize = counts.values().sum();
        module = round(&module, counts).at_pass("tidy")?;
        if counts.values().sum::<usize>() == before {
            break;
        }
    }
    Ok(module)
}

/// What is known of the function that is being rebuilt.
#[derive(Default)]
struct Seen {
    /// Values by what computes them.
    nodes: BTreeMap<(String, Vec<ValueId>), Vec<ValueId>>,
    /// Small constants by their elements.
    constants: BTreeMap<(DType, Vec<usize>, Vec<u8>), ValueId>,
}

fn round(module: &Module, counts: &mut Counts) -> Result<Module> {
    let state = RefCell::new((counts, Seen::default()));
    let rebuild = |rewrite: &mut Rewrite<'_>, node: &Node| {
        let (counts, seen) = &mut *state.borrow_mut();
        let mut operands = Vec::with_capacity(node.operands.len());
        for &old in &node.operands {
            operands.push(seen.operand(rewrite, old)?);
        }
        let name = rewrite.function.value(node.result()).name.clone();
        let ty = rewrite.function.ty(node.result());
        let (mut op, mut name_count) = (node.op.clone(), None);
        if let [_] = node.results.as_slice()
            && let Some((label, tidied)) = tidied(&rewrite.builder, &op, &operands, ty)
        {
            name_count = Some(label);
            match tidied {
                Tidied::Value(value) => {
                    *counts.entry(label).or_insert(0) += 1;
                    keep_name(rewrite, node, value, &name);
                    rewrite.set(node.result(), value);
                    return Ok(());
                }
                Tidied::Node(new, on) => (op, operands) = (new, on),
            }
        }
        if let Some(label) = name_count {
            *counts.entry(label).or_insert(0) += 1;
        }
        // Control flow is told apart by its bodies; those are not compared.
        if !op.bodies().is_empty() {
            let new = rewrite.builder.push_all(&name, op, &operands)?;
            rewrite.set_all(node, &new);
            return Ok(());
        }
        let key = (format!("{op:?}"), operands);
        if let Some(same) = seen.nodes.get(&key) {
            *counts.entry("repeated").or_insert(0) += 1;
            rewrite.set_all(node, same);
            return Ok(());
        }
        let new = rewrite.builder.push_all(&name, op, &key.1)?;
        rewrite.set_all(node, &new);
        seen.nodes.insert(key, new);
        Ok(())
    };
    let end = |_: &mut Rewrite<'_>| {
        state.borrow_mut().1 = Seen::default();
        Ok(())
    };
    Rewrite::module(module, &Bindings::new(), Bodies::Rebuilt, rebuild, end)
}

impl Seen {
    /// The new value of an operand; small constants with the same elements are one.
    fn operand(&mut self, rewrite: &mut Rewrite<'_>, old: ValueId) -> Result<ValueId> {
        let Def::Const(id) = rewrite.function.value(old).def else {
            return Ok(rewrite.get(old));
        };
        let constant = rewrite.module.constant(id);
        if constant.len() > SMALL_ELEMENTS {
            return Ok(rewrite.get(old));
        }
        let bytes = constant.read()?.to_le_bytes();
        let key = (constant.dtype(), constant.shape().to_vec(), bytes);
        let value = match self.constants.get(&key) {
            Some(&value) => value,
            None => rewrite.get(old),
        };
        rewrite.set(old, value);
        self.constants.insert(key, value);
        Ok(value)
    }
}

/// A node that goes leaves an output's name to the one that stands in for it.
fn keep_name(rewrite: &mut Rewrite<'_>, node: &Node, value: ValueId, name: &str) {
    let outputs = &rewrite.function.outputs;
    let is_output = outputs.iter().any(|o| o.value == node.result());
    if is_output
        && !outputs
            .iter()
            .any(|o| rewrite.mapped(o.value) == Some(value))
    {
        rewrite.builder.rename(value, name);
    }
}

/// What a node with one result becomes, and what to call that.
fn tidied(b: &Builder, op: &Op, operands: &[ValueId], ty: &Type) -> Option<(&'static str, Tidied)> {
    if let Some(x) = without_effect(b, op, operands, ty) {
        return Some(("no_op", Tidied::Value(x)));
    }
    if let Some(x) = views::cast(b, op, operands) {
        return Some(("cast", x));
    }
    if let Some(x) = views::transposed(b, op, operands) {
        return Some(("transpose", x));
    }
    if let Some(x) = views::reshaped(b, op, operands, ty) {
        return Some(("reshape", x));
    }
    if let Some(op) = over_ones(b, op, operands) {
        return Some(("no_op", Tidied::Node(op, operands.to_vec())));
    }
    let narrow = unexpanded(b, op, operands, ty)?;
    Some(("broadcast", Tidied::Node(op.clone(), narrow)))
}

/// The operand that an operation only repeats.
fn without_effect(b: &Builder, op: &Op, operands: &[ValueId], ty: &Type) -> Option<ValueId> {
    let x = *operands.first()?;
    let shape = &b.ty(x).shape;
    let none = |dims: &[Dim]| dims.iter().all(|d| d.integer() == Some(0));
    let ones = |axes: &[usize]| axes.iter().all(|&a| shape[a].integer() == Some(1));
    if let Op::Binary(Binary { kind }) = op {
        return neutral(b, *kind, operands, ty);
    }
    let idle = match op {
        Op::Reshape(_) | Op::Expand(_) | Op::Cast(_) => true,
        Op::Squeeze(o) => o.axes.is_empty(),
        Op::Unsqueeze(o) => o.axes.is_empty(),
        Op::Transpose(o) => o.perm.iter().copied().eq(0..o.perm.len()),
        Op::Slice(o) => o.ranges.iter().all(|r| {
            let whole = r.start.integer() == Some(0) && r.end == shape[r.axis];
            whole && r.step == 1
        }),
        Op::Pad(o) => none(&o.begin) && none(&o.end),
        Op::Tile(o) => o.repeats.iter().all(|d| d.integer() == Some(1)),
        Op::Concat(_) => operands.len() == 1,
        Op::Reverse(o) => ones(&o.axes),
        Op::Clip(Clip { min, max }) => *min == f32::NEG_INFINITY && *max == f32::INFINITY,
        Op::Reduce(o) => o.keep_dims && repeats(o.kind) && ones(&o.axes),
        _ => false,
    };
    (idle && b.ty(x) == ty).then_some(x)
}

/// Whether the reduction of one element is that element.
fn repeats(kind: ReduceKind) -> bool {
    match kind {
        ReduceKind::Sum
        | ReduceKind::Mean
        | ReduceKind::Max
        | ReduceKind::Min
        | ReduceKind::Prod => true,
        ReduceKind::L2 | ReduceKind::LogSumExp => false,
    }
}

/// A reduction over axes of size 1 that removes them.
fn over_ones(b: &Builder, op: &Op, operands: &[ValueId]) -> Option<Op> {
    let Op::Reduce(Reduce {
        kind,
        axes,
        keep_dims: false,
    }) = op
    else {
        return None;
    };
    let shape = &b.ty(operands[0]).shape;
    let ones = axes.iter().all(|&a| shape[a].integer() == Some(1));
    (ones && repeats(*kind)).then(|| Op::Squeeze(Squeeze { axes: axes.clone() }))
}

/// The operand that stays as it is beside 0, 1, an infinity or the end of an integer type.
fn neutral(b: &Builder, kind: BinaryKind, operands: &[ValueId], ty: &Type) -> Option<ValueId> {
    let &[x, y] = operands else {
        return None;
    };
    let (n, both) = match kind {
        BinaryKind::Add => (0.0, true),
        BinaryKind::Sub => (0.0, false),
        BinaryKind::Mul => (1.0, true),
        BinaryKind::Div | BinaryKind::TruncDiv | BinaryKind::Pow => (1.0, false),
        BinaryKind::Max => (f64::NEG_INFINITY, true),
        BinaryKind::Min => (f64::INFINITY, true),
        _ => return None,
    };
    let is = |v: ValueId| {
        b.as_constant(v)
            .is_some_and(|c| is_number(c, n) || is_end(c, kind))
    };
    if is(y) && b.ty(x) == ty {
        return Some(x);
    }
    (both && is(x) && b.ty(y) == ty).then_some(y)
}

fn is_number(constant: &Constant, n: f64) -> bool {
    (1..=SMALL_ELEMENTS).contains(&constant.len())
        && constant
            .read()
            .is_ok_and(|t| t.to_f64().iter().all(|x| *x == n))
}

/// Whether no integer of its type is beyond a constant: what exporters write for a bound that is none.
fn is_end(constant: &Constant, kind: BinaryKind) -> bool {
    let end = match (constant.dtype(), kind) {
        (DType::I64, BinaryKind::Max) => i64::MIN,
        (DType::I64, BinaryKind::Min) => i64::MAX,
        (DType::I32, BinaryKind::Max) => i64::from(i32::MIN),
        (DType::I32, BinaryKind::Min) => i64::from(i32::MAX),
        _ => return false,
    };
    (1..=SMALL_ELEMENTS).contains(&constant.len())
        && constant.read().is_ok_and(|t| {
            t.ints()
                .is_ok_and(|values| values.iter().all(|&x| x == end))
        })
}

/// The operands of an operation that broadcasts by itself, without broadcasts before it.
fn unexpanded(b: &Builder, op: &Op, operands: &[ValueId], ty: &Type) -> Option<Vec<ValueId>> {
    if !matches!(op, Op::Binary(_) | Op::Compare(_) | Op::Select(_)) {
        return None;
    }
    let mut narrow = operands.to_vec();
    for i in 0..narrow.len() {
        let Some(node) = b.producer(narrow[i]) else {
            continue;
        };
        if !matches!(node.op, Op::Expand(_)) {
            continue;
        }
        let before = std::mem::replace(&mut narrow[i], node.operands[0]);
        let types: Vec<&Type> = narrow.iter().map(|&v| b.ty(v)).collect();
        let run_time = types.iter().flat_map(|t| &t.shape).any(Dim::is_run_time);
        if run_time || op.infer(&types).ok().as_ref() != Some(ty) {
            narrow[i] = before;
        }
    }
    (narrow != operands).then_some(narrow)
}
