//! What a graph demands of its inputs' sizes without declaring it: where it runs at all, some are equal, and some do not exceed a bound.

use std::collections::BTreeMap;

use super::error::OnnxImportError;
use super::interface::{ReadOptions, display_range};
use crate::ir::{Dim, Function, Module, Node, Op, SymbolRange};
use crate::tensor::num;

/// What is known about a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// It is no larger.
    AtMost(u64),
    /// It is this number.
    Exactly(u64),
    /// It is another size.
    Same(String),
}

/// Size → what is known about it, and the node that demands it.
pub(super) type Facts = BTreeMap<String, (Fact, String)>;

/// What is known of a size, as a message says it.
pub(super) fn describe(symbol: &str, (fact, node): &(Fact, String)) -> String {
    match fact {
        Fact::AtMost(n) => format!("`{symbol}` is at most {n}: node `{node}` takes no more"),
        Fact::Exactly(n) => format!("`{symbol}` is {n}: node `{node}` takes nothing else"),
        Fact::Same(other) => {
            format!("`{symbol}` is `{other}`: node `{node}` needs them to be equal")
        }
    }
}

/// What the nodes of a module demand of the sizes of its parameters.
///
/// # Errors
/// When a demand contradicts what the user gave.
pub(super) fn learn(module: &Module, options: &ReadOptions) -> Result<Facts, OnnxImportError> {
    let mut facts = Facts::new();
    let Some(function) = module.functions.first() else {
        return Ok(facts);
    };
    for node in &function.nodes {
        let name = &function.value(node.result()).name;
        for (a, b, may_be_one) in meetings(function, node) {
            if let Some((symbol, fact)) = demanded(module, a, b, may_be_one) {
                if let Some(range) = options.dims.get(&symbol) {
                    check(&symbol, range, &fact, name)?;
                }
                let known = facts.entry(symbol);
                let entry = known.or_insert_with(|| (fact.clone(), name.clone()));
                match (&entry.0, &fact) {
                    (Fact::AtMost(before), Fact::AtMost(now)) if now >= before => {}
                    (Fact::AtMost(_), _) => *entry = (fact, name.clone()),
                    (Fact::Exactly(_) | Fact::Same(_), _) => {}
                }
            }
        }
    }
    Ok(facts)
}

/// Refuses sizes that the user gave and a node does not take.
fn check(
    symbol: &str,
    range: &SymbolRange,
    fact: &Fact,
    node: &str,
) -> Result<(), OnnxImportError> {
    let (least, most) = match range {
        SymbolRange::Between { min, max } => (Some(*min), Some(*max)),
        SymbolRange::OneOf(sizes) => (sizes.first().copied(), sizes.last().copied()),
    };
    let fits = match fact {
        Fact::AtMost(n) => most.is_none_or(|most| most <= *n),
        Fact::Exactly(n) => least == Some(*n) && most == Some(*n),
        Fact::Same(_) => true,
    };
    if fits {
        return Ok(());
    }
    Err(OnnxImportError::Option {
        option: format!("--dim {symbol}={}", display_range(range)),
        reason: describe(symbol, &(fact.clone(), node.to_owned())),
    })
}

/// Pairs of sizes that a node brings together, and whether one of the two may also be 1.
#[allow(clippy::wildcard_enum_match_arm)] // What an operation is not known to bring together is not learnt from.
fn meetings<'f>(function: &'f Function, node: &'f Node) -> Vec<(&'f Dim, &'f Dim, bool)> {
    let shape = |i: usize| -> &'f [Dim] {
        let operand = node.operands.get(i);
        operand.map_or(&[], |&v| function.ty(v).shape.as_slice())
    };
    let aligned = |a: &'f [Dim], b: &'f [Dim]| a.iter().rev().zip(b.iter().rev());
    let broadcast = |a, b| aligned(a, b).map(|(x, y)| (x, y, true));
    match &node.op {
        Op::Binary(_) | Op::Compare(_) => broadcast(shape(0), shape(1)).collect(),
        Op::Select(_) => broadcast(shape(0), shape(1))
            .chain(broadcast(shape(0), shape(2)))
            .chain(broadcast(shape(1), shape(2)))
            .collect(),
        Op::Expand(o) => broadcast(shape(0), &o.shape).collect(),
        Op::MatMul(o) => {
            let (a, b) = (shape(0), shape(1));
            let (Some(outer_a), Some(outer_b)) = (a.len().checked_sub(2), b.len().checked_sub(2))
            else {
                return Vec::new();
            };
            let inner_a = &a[outer_a + usize::from(!o.transpose_a)];
            let inner_b = &b[outer_b + usize::from(o.transpose_b)];
            broadcast(&a[..outer_a], &b[..outer_b])
                .chain([(inner_a, inner_b, false)])
                .collect()
        }
        Op::Linear(_) => match (shape(0), shape(1)) {
            ([.., inner], [_, other]) => vec![(inner, other, false)],
            _ => Vec::new(),
        },
        Op::Conv(o) if o.groups == 1 => match (shape(0), shape(1)) {
            ([_, channels, ..], [_, other, ..]) => vec![(channels, other, false)],
            _ => Vec::new(),
        },
        Op::Concat(o) => {
            let others = (1..node.operands.len()).flat_map(|i| {
                let pairs = shape(0).iter().zip(shape(i)).enumerate();
                pairs.filter(|(axis, _)| *axis != o.axis)
            });
            others.map(|(_, (a, b))| (a, b, false)).collect()
        }
        _ => Vec::new(),
    }
}

/// What follows from two sizes having to be equal, or, if `may_be_one`, one of them having to be 1 otherwise.
fn demanded(module: &Module, a: &Dim, b: &Dim, may_be_one: bool) -> Option<(String, Fact)> {
    if a == b {
        return None;
    }
    let bound = |size: &Dim, least: &Dim| {
        let most = least.least_with(size)?.integer().filter(|&n| n > 1)?;
        let (factor, symbol, rest) = size.linear()?;
        let most = u64::try_from(most.checked_sub(rest)?.div_euclid(factor)).ok()?;
        Some((symbol.to_owned(), Fact::AtMost(most.max(1))))
    };
    if let Some(fact) = bound(a, b).or_else(|| bound(b, a)) {
        return Some(fact);
    }
    if may_be_one {
        return None;
    }
    let place = |d: &Dim| {
        let name = d.as_symbol().filter(|_| !d.is_run_time())?;
        module.symbols.iter().position(|s| s.name == name)
    };
    let name = |i: usize| module.symbols.get(i).map(|s| s.name.clone());
    match (place(a), place(b)) {
        // The one that is declared first stands for both.
        (Some(i), Some(j)) => Some((name(i.max(j))?, Fact::Same(name(i.min(j))?))),
        (Some(i), None) => Some((name(i)?, Fact::Exactly(num::u64_of(b.known()?)))),
        (None, Some(j)) => Some((name(j)?, Fact::Exactly(num::u64_of(a.known()?)))),
        (None, None) => None,
    }
}
