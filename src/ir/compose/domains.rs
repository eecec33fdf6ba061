//! Which values parameters may take, as far as the graph tells: what is looked up in a table of known size stays below that size, and so does what is
//! compared with all of its indices; what is only asked whether it counts is a mask.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::ops::{BinaryKind, CompareKind};
use crate::ir::{Constant, Def, Dim, Domain, Function, Module, Node, Op, ValueId};
use crate::tensor::{DType, num};

/// Most elements of a constant that is looked into.
const LONGEST_LIST: usize = 1 << 22;

/// Gives the parameters that index tables of known size the domain that follows from it. Domains that are already set stay.
pub(in crate::ir) fn derive_domains(module: &mut Module) {
    let constants = &module.constants;
    for function in &mut module.functions {
        let mut below: BTreeMap<usize, u64> = BTreeMap::new();
        for node in &function.nodes {
            let found = match (&node.op, node.operands.as_slice()) {
                (Op::Gather(o), [data, indices]) => Some((
                    function.ty(*data).shape.get(o.axis).and_then(Dim::known),
                    *indices,
                )),
                (Op::GatherElements(o), [data, indices]) => Some((
                    function.ty(*data).shape.get(o.axis).and_then(Dim::known),
                    *indices,
                )),
                (Op::Compare(o), [a, b]) if o.kind == CompareKind::Equal => {
                    match (function.value(*a).def, function.value(*b).def) {
                        (_, Def::Const(id)) => Some((all_indices(&constants[id.index()]), *a)),
                        (Def::Const(id), _) => Some((all_indices(&constants[id.index()]), *b)),
                        (_, _) => None,
                    }
                }
                _ => None,
            };
            let Some((Some(size), indices)) = found else {
                continue;
            };
            if let Some(param) = origin(function, indices) {
                let size = num::u64_of(size);
                let least = below.entry(param).or_insert(size);
                *least = size.min(*least);
            }
        }
        for (param, below) in below {
            let ints = |v: ValueId| function.ty(v).dtype.is_int();
            if function
                .params
                .get(param)
                .is_none_or(|p| !ints(p.value) || p.domain != Domain::Any)
            {
                continue;
            }
            if let Some(param) = function.params.get_mut(param) {
                param.domain = Domain::Index { below };
            }
        }
    }
}

/// Whether elements are looked up at the values of a parameter, so that one that is out of range finds nothing. What is only compared with
/// indices may have any value.
pub fn looks_up(function: &Function, param: usize) -> bool {
    function.nodes.iter().any(|node| {
        let indices = match (&node.op, node.operands.as_slice()) {
            (Op::Gather(_) | Op::GatherElements(_), [_, indices]) => *indices,
            _ => return false,
        };
        origin(function, indices) == Some(param)
    })
}

/// How many indices a constant lists, if it holds all from 0 on and nothing else, several times perhaps: what is compared with them becomes
/// rows that hold one 1.
fn all_indices(constant: &Constant) -> Option<usize> {
    if !constant.dtype().is_int() || constant.len() > LONGEST_LIST {
        return None;
    }
    let tensor = constant.read().ok()?;
    let values: BTreeSet<i64> = tensor.ints().ok()?.iter().copied().collect();
    let count = values.len();
    let last = i64::try_from(count).ok()?.checked_sub(1)?;
    // Two indices are the question whether something is so.
    (count > 2 && values.first() == Some(&0) && values.last() == Some(&last)).then_some(count)
}

/// Makes masks of the parameters of whole numbers or truth values that are called so, and of those of whole numbers that are only asked whether
/// they count: cast to a truth value, compared with 0 or 1, or subtracted from 1. Domains that are already set stay.
pub(in crate::ir) fn derive_masks(module: &mut Module) {
    let Some(function) = module.functions.first() else {
        return;
    };
    let is_mask = |index: usize| {
        let param = &function.params[index];
        let value = function.value(param.value);
        let dtype = value.ty.dtype;
        let called = value.name.to_ascii_lowercase().contains("mask");
        let counted = called || dtype.is_int() && only_asked(module, function, param.value);
        param.domain == Domain::Any
            && value.ty.rank() > 0
            && (dtype.is_int() || dtype == DType::Bool)
            && counted
    };
    let masks: Vec<usize> = (0..function.params.len()).filter(|&i| is_mask(i)).collect();
    if let Some(function) = module.functions.first_mut() {
        for mask in masks {
            if let Some(param) = function.params.get_mut(mask) {
                param.domain = Domain::Mask;
            }
        }
    }
}

/// Whether everything that reads the value asks whether its elements are 0 or 1; data movement and casts may lie between.
fn only_asked(module: &Module, function: &Function, value: ValueId) -> bool {
    let mut same = BTreeSet::from([value]);
    let mut asked = false;
    for node in &function.nodes {
        let Some(place) = node.operands.iter().position(|v| same.contains(v)) else {
            continue;
        };
        let moved = node.op.is_view() || matches!(node.op, Op::Cast(_));
        if asks(module, function, node, place) {
            asked = true;
        } else if moved && place == 0 {
            same.insert(node.result());
        } else {
            return false;
        }
    }
    asked && !function.outputs.iter().any(|o| same.contains(&o.value))
}

/// Whether the node asks of its operand at `place` whether it is 0 or 1.
fn asks(module: &Module, function: &Function, node: &Node, place: usize) -> bool {
    let of = |wanted: &[f64]| {
        let other = node.operands.get(1 - place.min(1)).copied();
        let Some(Def::Const(id)) = other.map(|v| function.value(v).def) else {
            return false;
        };
        let constant = module.constant(id);
        constant.len() == 1
            && constant
                .read()
                .is_ok_and(|t| t.to_f64().iter().all(|x| wanted.contains(x)))
    };
    if let Op::Cast(cast) = &node.op {
        cast.to == DType::Bool
    } else if let Op::Binary(o) = &node.op {
        o.kind == BinaryKind::Sub && place == 1 && of(&[1.0])
    } else {
        matches!(node.op, Op::Compare(_)) && of(&[0.0, 1.0])
    }
}

/// The parameter whose elements these are, if nothing but data movement and casts lie between.
fn origin(function: &Function, mut id: ValueId) -> Option<usize> {
    loop {
        match function.value(id).def {
            Def::Param(index) => return Some(index),
            Def::Const(_) => return None,
            Def::Node(_) => {
                let node = function.producer(id)?;
                if !node.op.is_view() && !matches!(node.op, Op::Cast(_)) {
                    return None;
                }
                id = *node.operands.first()?;
            }
        }
    }
}
