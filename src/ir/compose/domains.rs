//! Which values parameters may take, as far as the graph tells: what is looked up in a table of known size stays below that size.

use std::collections::BTreeMap;

use crate::ir::{Def, Dim, Domain, Function, Module, Op, ValueId};
use crate::tensor::num;

/// Gives the parameters that index tables of known size the domain that follows from it. Domains that are already set stay.
pub fn derive_domains(module: &mut Module) {
    for function in &mut module.functions {
        let mut below: BTreeMap<usize, u64> = BTreeMap::new();
        for node in &function.nodes {
            let (axis, data, indices) = match (&node.op, node.operands.as_slice()) {
                (Op::Gather(o), [data, indices]) => (o.axis, *data, *indices),
                (Op::GatherElements(o), [data, indices]) => (o.axis, *data, *indices),
                _ => continue,
            };
            let size = function.ty(data).shape.get(axis).and_then(Dim::known);
            if let (Some(size), Some(param)) = (size, origin(function, indices)) {
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
