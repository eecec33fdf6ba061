//! What a program's weights are like: how they are compressed, and which are the largest. Only types are looked at, no weight is read.

use std::collections::BTreeMap;

use serde::Serialize;

use super::import::declared;
use super::proto::mil_spec::argument::binding::Binding;
use super::proto::mil_spec::{Block, Operation, Program, ValueType};
use super::table;
use super::target::{DeploymentTarget, Opset};
use crate::tensor::DType;

/// How many of the largest constants are named.
const LARGEST: usize = 10;

/// Weights that are stored in one compressed form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compressed {
    /// How many.
    pub count: usize,
    /// Bytes they take, tables and scales included. Where forms are joined, each has what is its own.
    pub stored_bytes: u64,
    /// Bytes they would take expanded.
    pub expanded_bytes: u64,
}

/// A constant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LargeConstant {
    /// The function.
    pub function: String,
    /// The identifier.
    pub name: String,
    /// Element type.
    pub dtype: String,
    /// Shape.
    pub shape: Vec<u64>,
    /// Bytes.
    pub bytes: u64,
}

/// Since when an operation is there, with the parameters that it is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// How often it occurs, in all functions.
    pub count: usize,
    /// The first opset that has it; none if no opset does.
    pub opset: Option<Opset>,
    /// The first systems that have that opset.
    pub systems: Vec<&'static str>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Weights {
    pub(super) compressed: BTreeMap<String, Compressed>,
    pub(super) largest: Vec<LargeConstant>,
    pub(super) needs: BTreeMap<String, Need>,
}

/// Looks at every operation of every function. Nesting was checked before.
pub(super) fn of(program: &Program) -> Weights {
    let mut out = Weights::default();
    for (name, function) in &program.functions {
        let mut open: Vec<&Block> = function.block_specializations.values().collect();
        let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
        let mut compressed: Vec<&Operation> = Vec::new();
        while let Some(block) = open.pop() {
            for op in &block.operations {
                open.extend(&op.blocks);
                if op.r#type == "const" {
                    out.constant(name, op, &mut sizes);
                    continue;
                }
                out.need(op);
                if op.r#type.starts_with("constexpr_") {
                    compressed.push(op);
                }
            }
        }
        for op in compressed {
            out.compressed(op, &sizes);
        }
    }
    let key = |c: &LargeConstant| {
        (
            std::cmp::Reverse(c.bytes),
            c.function.clone(),
            c.name.clone(),
        )
    };
    out.largest.sort_by_key(key);
    out.largest.truncate(LARGEST);
    out
}

/// Element type, shape and bytes of a type whose sizes are known.
fn sized(ty: Option<&ValueType>) -> Option<(DType, Vec<u64>, u64)> {
    let declared = declared(ty).ok()?;
    let dtype = declared.element().ok()?;
    let shape: Vec<u64> = declared.shape?.into_iter().collect::<Option<_>>()?;
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d))?;
    Some((dtype, shape, dtype.bytes_for(elements)?))
}

impl Weights {
    fn constant<'a>(
        &mut self,
        function: &str,
        op: &'a Operation,
        sizes: &mut BTreeMap<&'a str, u64>,
    ) {
        let Some(output) = op.outputs.first() else {
            return;
        };
        let Some((dtype, shape, bytes)) = sized(output.r#type.as_ref()) else {
            return;
        };
        sizes.insert(&output.name, bytes);
        // Scalars are parameters, hardly weights; and the list must not grow with the program.
        if shape.is_empty() {
            return;
        }
        self.largest.push(LargeConstant {
            function: function.to_owned(),
            name: output.name.clone(),
            dtype: dtype.name().to_owned(),
            shape,
            bytes,
        });
        if self.largest.len() > 100 * LARGEST {
            self.largest.sort_by_key(|c| std::cmp::Reverse(c.bytes));
            self.largest.truncate(LARGEST);
        }
    }

    fn compressed(&mut self, op: &Operation, sizes: &BTreeMap<&str, u64>) {
        let attributes = op.attributes.iter().filter(|(k, _)| *k != "name");
        let mut stored: u64 = attributes
            .filter_map(|(_, v)| sized(v.r#type.as_ref()))
            .fold(0, |n, (_, _, bytes)| n.saturating_add(bytes));
        for binding in op.inputs.values().flat_map(|a| &a.arguments) {
            let bytes = match &binding.binding {
                Some(Binding::Name(name)) => sizes.get(name.as_str()).copied().unwrap_or(0),
                Some(Binding::Value(v)) => {
                    sized(v.r#type.as_ref()).map_or(0, |(_, _, bytes)| bytes)
                }
                None => 0,
            };
            stored = stored.saturating_add(bytes);
        }
        let outputs = op.outputs.iter().filter_map(|o| sized(o.r#type.as_ref()));
        let entry = self.compressed.entry(op.r#type.clone()).or_default();
        entry.count += 1;
        entry.stored_bytes = entry.stored_bytes.saturating_add(stored);
        let expanded = outputs.fold(0, |n: u64, (_, _, bytes)| n.saturating_add(bytes));
        entry.expanded_bytes = entry.expanded_bytes.saturating_add(expanded);
    }

    fn need(&mut self, op: &Operation) {
        let has = |opset: &Opset| {
            table::find(&op.r#type, *opset)
                .is_some_and(|row| op.inputs.keys().all(|k| row.param(k).is_some()))
        };
        let opset = Opset::ALL.into_iter().find(has);
        let entry = self.needs.entry(op.r#type.clone()).or_insert(Need {
            count: 0,
            opset,
            systems: Vec::new(),
        });
        entry.count += 1;
        // The most that any of them needs; nothing is more than that, since no opset has it.
        entry.opset = match (entry.opset, opset) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (_, _) => None,
        };
        let targets = DeploymentTarget::all().filter(|t| Some(t.opset()) == entry.opset);
        entry.systems = targets.map(DeploymentTarget::name).collect();
    }
}
