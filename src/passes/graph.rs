//! How patterns look at a function: who makes a value, who uses it, which constants are plain numbers; and how a found pattern is replaced.
//!
//! Owns the rule that makes a replacement safe: what lies between a pattern's inputs and its last node is used by nothing else.

use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, BTreeSet};

use super::rewrite::{Bodies, Rewrite};
use crate::error::{Context, Result};
use crate::ir::ops::{Binary, BinaryKind, ReduceKind, Unary, UnaryKind};
use crate::ir::{Bindings, Constant, Def, Dim, Function, Module, Node, Op, Type, ValueId};
use crate::tensor::{DType, num};

/// Largest constant that is looked at for being one number repeated.
const NUMBER_ELEMENTS: usize = 4096;
/// Most nodes that a pattern may span. The longest, a layer norm as TensorFlow writes it, has 20.
const PATTERN_NODES: usize = 48;

/// A function with its uses.
pub(super) struct Graph<'m> {
    pub(super) module: &'m Module,
    pub(super) function: &'m Function,
    // How often each value is an operand of a live node.
    uses: Vec<usize>,
    outputs: Vec<bool>,
    numbers: Vec<OnceCell<Option<f64>>>,
}

impl<'m> Graph<'m> {
    pub(super) fn new(module: &'m Module, function: &'m Function, live: &[bool]) -> Self {
        let mut uses = vec![0; function.values.len()];
        for (node, _) in function.nodes.iter().zip(live).filter(|(_, live)| **live) {
            for operand in &node.operands {
                uses[operand.index()] += 1;
            }
        }
        let mut outputs = vec![false; function.values.len()];
        for output in &function.outputs {
            outputs[output.value.index()] = true;
        }
        let numbers = module.constants.iter().map(|_| OnceCell::new()).collect();
        Graph {
            module,
            function,
            uses,
            outputs,
            numbers,
        }
    }

    pub(super) fn ty(&self, v: ValueId) -> &'m Type {
        self.function.ty(v)
    }

    /// How often live nodes use a value.
    pub(super) fn uses(&self, v: ValueId) -> usize {
        self.uses[v.index()]
    }

    pub(super) fn is_output(&self, v: ValueId) -> bool {
        self.outputs[v.index()]
    }

    /// The node with one result that makes a value.
    pub(super) fn node(&self, v: ValueId) -> Option<&'m Node> {
        self.function.producer(v).filter(|n| n.results.len() == 1)
    }

    /// The operands of the binary operation that makes a value.
    pub(super) fn binary(&self, v: ValueId, kind: BinaryKind) -> Option<[ValueId; 2]> {
        let node = self.node(v)?;
        match (&node.op, node.operands.as_slice()) {
            (Op::Binary(Binary { kind: found }), &[a, b]) if *found == kind => Some([a, b]),
            (_, _) => None,
        }
    }

    /// The operands in both orders, for an operation that does not mind.
    pub(super) fn either(&self, v: ValueId, kind: BinaryKind) -> Vec<(ValueId, ValueId)> {
        match self.binary(v, kind) {
            Some([a, b]) => vec![(a, b), (b, a)],
            None => Vec::new(),
        }
    }

    /// The operand of the unary operation that makes a value.
    pub(super) fn unary(&self, v: ValueId, kind: UnaryKind) -> Option<ValueId> {
        let node = self.node(v)?;
        (node.op == Op::Unary(Unary { kind })).then(|| node.operands[0])
    }

    /// The operand and the axes of the reduction that makes a value.
    pub(super) fn reduction(&self, v: ValueId, kind: ReduceKind) -> Option<(ValueId, &'m [usize])> {
        let node = self.node(v)?;
        if let Op::Reduce(o) = &node.op
            && o.kind == kind
        {
            return Some((node.operands[0], &o.axes));
        }
        None
    }

    /// What is behind operations that only write the same elements in another shape.
    pub(super) fn reshaped(&self, mut v: ValueId) -> ValueId {
        while let Some(node) = self.node(v)
            && matches!(node.op, Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_))
        {
            v = node.operands[0];
        }
        v
    }

    /// The constant behind a value.
    pub(super) fn constant(&self, v: ValueId) -> Option<&'m Constant> {
        match self.function.value(v).def {
            Def::Const(id) => Some(self.module.constant(id)),
            Def::Param(_) | Def::Node(_) => None,
        }
    }

    /// The number that every element of a constant is, for floats.
    pub(super) fn number(&self, v: ValueId) -> Option<f64> {
        let Def::Const(id) = self.function.value(v).def else {
            return None;
        };
        *self.numbers[id.index()].get_or_init(|| splat(self.module.constant(id)))
    }

    /// Whether a value is a constant and every element of it is `x`, as near as its type can tell.
    pub(super) fn is_number(&self, v: ValueId, x: f64) -> bool {
        let found = self.number(v);
        found.is_some_and(|found| near(found, x, self.ty(v).dtype))
    }

    /// The nodes between `leaves` and `root`, without `root` itself; `None` when another node or an output needs one of them.
    fn interior(&self, root: ValueId, leaves: &[ValueId]) -> Option<Vec<usize>> {
        let mut inside = BTreeSet::new();
        let mut needed: BTreeMap<ValueId, usize> = BTreeMap::new();
        let mut open = vec![self.node(root)?];
        while let Some(node) = open.pop() {
            for &operand in &node.operands {
                if leaves.contains(&operand) || self.constant(operand).is_some() {
                    continue;
                }
                let Def::Node(id) = self.function.value(operand).def else {
                    return None;
                };
                *needed.entry(operand).or_insert(0) += 1;
                if inside.insert(id.index()) {
                    open.push(self.node(operand)?);
                }
            }
            if inside.len() > PATTERN_NODES {
                return None;
            }
        }
        let own = |(&v, &n): (&ValueId, &usize)| self.uses(v) == n && !self.is_output(v);
        needed.iter().all(own).then(|| inside.into_iter().collect())
    }
}

/// Whether two numbers are the same for a pattern: within 1e-5 of each other, relatively, or within an element type's own rounding.
pub(super) fn near(found: f64, x: f64, dtype: DType) -> bool {
    let tolerance = if dtype == DType::F16 {
        1e-3
    } else if dtype == DType::BF16 {
        8e-3
    } else {
        1e-5
    };
    (found - x).abs() <= tolerance * x.abs()
}

/// A float constant's one number; a constant that cannot be read has none, and says so when it is written.
fn splat(constant: &Constant) -> Option<f64> {
    if !constant.dtype().is_float() || !(1..=NUMBER_ELEMENTS).contains(&constant.len()) {
        return None;
    }
    let tensor = constant.read().ok()?;
    let (first, rest) = tensor.floats().ok()?.split_first()?;
    rest.iter().all(|x| x == first).then(|| f64::from(*first))
}

/// Whether a value has the shape of `x` with 1 for every one of `axes`, or was expanded from that.
pub(super) fn is_statistic(g: &Graph<'_>, v: ValueId, x: ValueId, axes: &[usize]) -> bool {
    let (found, x) = (&g.ty(unspread(g, v)).shape, &g.ty(x).shape);
    let reduced = |i: &usize| axes.contains(i);
    found.len() == x.len()
        && found.iter().zip(x).enumerate().all(|(i, (found, size))| {
            if reduced(&i) {
                found.integer() == Some(1)
            } else {
                found == size
            }
        })
}

/// What is behind a broadcast.
pub(super) fn unspread(g: &Graph<'_>, v: ValueId) -> ValueId {
    match g.node(v) {
        Some(node) if matches!(node.op, Op::Expand(_)) => node.operands[0],
        Some(_) | None => v,
    }
}

/// The number of elements along `axes`, if it is known.
pub(super) fn elements(ty: &Type, axes: &[usize]) -> Option<f64> {
    let mut n = 1usize;
    for &axis in axes {
        n = n.checked_mul(ty.shape.get(axis).and_then(Dim::known)?)?;
    }
    Some(num::f64_of(n))
}

/// Makes the replacement under the name it is given; the last value is the result.
pub(super) type Emit = Box<dyn Fn(&mut Rewrite<'_>, &str) -> Result<ValueId>>;

/// A pattern that was found.
pub(super) struct Match {
    /// What it is, in the report; a row for each thing that was rewritten.
    pub(super) labels: Vec<&'static str>,
    /// The values that it computes from; constants need not be named.
    pub(super) leaves: Vec<ValueId>,
    pub(super) emit: Emit,
}

/// How often each rewrite was made, by what it is.
pub(super) type Counts = BTreeMap<&'static str, usize>;

#[derive(Default)]
struct Plan {
    roots: BTreeMap<usize, Match>,
    gone: BTreeSet<usize>,
}

fn plan<'m>(
    module: &'m Module,
    function: &'m Function,
    find: &impl Fn(&Graph<'m>, ValueId) -> Option<Match>,
) -> Plan {
    let live = super::rewrite::live(function);
    let graph = Graph::new(module, function, &live);
    let mut plan = Plan::default();
    // From the end: the node that a longer pattern ends with comes before the one that a shorter one ends with.
    for (i, node) in function.nodes.iter().enumerate().rev() {
        if !live[i] || plan.gone.contains(&i) || node.results.len() != 1 {
            continue;
        }
        let Some(found) = find(&graph, node.result()) else {
            continue;
        };
        let Some(inside) = graph.interior(node.result(), &found.leaves) else {
            continue;
        };
        if inside
            .iter()
            .any(|n| plan.gone.contains(n) || plan.roots.contains_key(n))
        {
            continue;
        }
        plan.gone.extend(inside);
        plan.roots.insert(i, found);
    }
    plan
}

/// The module with every pattern that `find` sees at its last node replaced under that node's name.
pub(super) fn replace<'m>(
    module: &'m Module,
    counts: &mut Counts,
    find: impl Fn(&Graph<'m>, ValueId) -> Option<Match>,
) -> Result<Module> {
    // In the order in which they are rebuilt.
    let plans: Vec<Plan> = module
        .bodies
        .iter()
        .chain(&module.functions)
        .map(|f| plan(module, f, &find))
        .collect();
    if plans.iter().all(|p| p.roots.is_empty()) {
        return Ok(module.clone());
    }
    for label in plans
        .iter()
        .flat_map(|p| p.roots.values())
        .flat_map(|m| &m.labels)
    {
        *counts.entry(label).or_insert(0) += 1;
    }
    let at = Cell::new(0);
    let rebuild = |rewrite: &mut Rewrite<'_>, node: &Node| {
        let plan = &plans[at.get()];
        let value = rewrite.function.value(node.result());
        let Def::Node(id) = value.def else {
            return rewrite.copy(node);
        };
        if plan.gone.contains(&id.index()) {
            return Ok(());
        }
        let Some(found) = plan.roots.get(&id.index()) else {
            return rewrite.copy(node);
        };
        let name = value.name.clone();
        let new = (found.emit)(rewrite, &name).at_node(&name)?;
        rewrite.set(node.result(), new);
        Ok(())
    };
    let end = |_: &mut Rewrite<'_>| {
        at.set(at.get() + 1);
        Ok(())
    };
    Rewrite::module(module, &Bindings::new(), Bodies::Rebuilt, rebuild, end)
}
