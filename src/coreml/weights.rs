//! What a program's operations need, and what its weights are like: how they are compressed, and which are the largest. Only types are looked at, no
//! weight is read.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::dtype::mil_name;
use super::import::declared;
use super::lint::program::{Defined, Scope, first_opset, name_of, tensor_type};
use super::needs::{self, Need};
use super::proto::mil_spec::argument::binding::Binding;
use super::proto::mil_spec::{Block, Function, Operation, Program, ValueType};
use super::table;
use super::target::Opset;
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
    /// The name in the source, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_name: Option<String>,
    /// Element type.
    pub dtype: String,
    /// Shape.
    pub shape: Vec<u64>,
    /// Bytes.
    pub bytes: u64,
}

/// A weight that is stored in a compressed form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LargeCompressed {
    /// The function.
    pub function: String,
    /// The identifier.
    pub name: String,
    /// The name in the source, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_name: Option<String>,
    /// The operation that expands it.
    pub form: String,
    /// Element type once it is expanded.
    pub dtype: String,
    /// Shape.
    pub shape: Vec<u64>,
    /// Bytes it takes: data, tables, scales and masks, of all forms that are joined.
    pub stored_bytes: u64,
    /// Bytes it would take expanded.
    pub expanded_bytes: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Weights {
    pub(super) compressed: BTreeMap<String, Compressed>,
    pub(super) largest: Vec<LargeConstant>,
    pub(super) largest_compressed: Vec<LargeCompressed>,
    /// By operation.
    pub(super) needs: BTreeMap<String, Need>,
    /// By element type.
    pub(super) type_needs: BTreeMap<String, Need>,
}

/// Looks at every operation of every function. Nesting was checked before.
pub(super) fn of(program: &Program) -> Weights {
    let mut out = Weights::default();
    for (name, function) in &program.functions {
        let mut operations: Vec<&Operation> = Vec::new();
        let mut open: Vec<&Block> = function.block_specializations.values().collect();
        while let Some(block) = open.pop() {
            operations.extend(&block.operations);
            let inner = block.operations.iter().flat_map(|op| &op.blocks);
            open.extend(inner);
        }
        let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
        let constants = operations.iter().filter(|op| op.r#type == "const");
        for op in constants {
            out.constant(name, op, &mut sizes);
        }
        out.compressed(name, &operations, &sizes);
        out.needs(function, &operations);
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
    out.largest_compressed.sort_by_key(|c| {
        (
            std::cmp::Reverse(c.stored_bytes),
            c.function.clone(),
            c.name.clone(),
        )
    });
    out.largest_compressed.truncate(LARGEST);
    out
}

/// The name that an operation carries, if its result is called otherwise.
fn source_name(op: &Operation) -> Option<String> {
    let called = op.outputs.last().map_or("", |o| o.name.as_str());
    let carried = name_of(op);
    (carried != called).then(|| carried.to_owned())
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
            source_name: source_name(op),
            dtype: dtype.name().to_owned(),
            shape,
            bytes,
        });
        if self.largest.len() > 100 * LARGEST {
            self.largest.sort_by_key(|c| std::cmp::Reverse(c.bytes));
            self.largest.truncate(LARGEST);
        }
    }

    fn compressed(
        &mut self,
        function: &str,
        operations: &[&Operation],
        sizes: &BTreeMap<&str, u64>,
    ) {
        let is_compressed = |op: &&&Operation| op.r#type.starts_with("constexpr_");
        // Which form gives a result that others are joined to.
        let mut joined: BTreeMap<&str, usize> = BTreeMap::new();
        let mut parts: BTreeSet<&str> = BTreeSet::new();
        let mut whole: Vec<(&Operation, u64)> = Vec::new();
        for op in operations.iter().filter(is_compressed) {
            let attributes = op.attributes.iter().filter(|(k, _)| *k != "name");
            let mut own: u64 = attributes
                .filter_map(|(_, v)| sized(v.r#type.as_ref()))
                .fold(0, |n, (_, _, bytes)| n.saturating_add(bytes));
            // Of a form with two results both may be taken.
            let mut others: BTreeSet<usize> = BTreeSet::new();
            for binding in op.inputs.values().flat_map(|a| &a.arguments) {
                own = own.saturating_add(match &binding.binding {
                    Some(Binding::Name(name)) => {
                        if let Some(&other) = joined.get(name.as_str()) {
                            parts.insert(name);
                            others.insert(other);
                        }
                        sizes.get(name.as_str()).copied().unwrap_or(0)
                    }
                    Some(Binding::Value(v)) => {
                        sized(v.r#type.as_ref()).map_or(0, |(_, _, bytes)| bytes)
                    }
                    None => 0,
                });
            }
            let outputs = op.outputs.iter().filter_map(|o| sized(o.r#type.as_ref()));
            let entry = self.compressed.entry(op.r#type.clone()).or_default();
            entry.count += 1;
            entry.stored_bytes = entry.stored_bytes.saturating_add(own);
            let expanded = outputs.fold(0, |n: u64, (_, _, bytes)| n.saturating_add(bytes));
            entry.expanded_bytes = entry.expanded_bytes.saturating_add(expanded);
            let others = others.iter().filter_map(|&i| whole.get(i));
            let stored = others.fold(own, |n, (_, bytes)| n.saturating_add(*bytes));
            let place = whole.len();
            joined.extend(op.outputs.iter().map(|o| (o.name.as_str(), place)));
            whole.push((*op, stored));
        }
        for (op, stored_bytes) in whole {
            let Some(output) = op.outputs.last() else {
                continue;
            };
            let Some((dtype, shape, expanded_bytes)) = sized(output.r#type.as_ref()) else {
                continue;
            };
            if op.outputs.iter().any(|o| parts.contains(o.name.as_str())) {
                continue;
            }
            self.largest_compressed.push(LargeCompressed {
                function: function.to_owned(),
                name: output.name.clone(),
                source_name: source_name(op),
                form: op.r#type.clone(),
                dtype: dtype.name().to_owned(),
                shape,
                stored_bytes,
                expanded_bytes,
            });
        }
    }

    fn needs(&mut self, function: &Function, operations: &[&Operation]) {
        let mut scope = Scope::new();
        for input in &function.inputs {
            let ty = tensor_type(input.r#type.as_ref());
            let constant = false;
            scope.insert(&input.name, Defined { ty, constant });
        }
        let blocks = operations.iter().flat_map(|op| &op.blocks);
        for input in blocks.flat_map(|b| &b.inputs) {
            let ty = tensor_type(input.r#type.as_ref());
            let constant = false;
            scope.insert(&input.name, Defined { ty, constant });
        }
        // The label of a classifier is no value that is computed with.
        for op in operations.iter().filter(|op| op.r#type != "classify") {
            let constant = op.r#type == "const" || op.r#type.starts_with("constexpr_");
            for output in &op.outputs {
                let ty = tensor_type(output.r#type.as_ref());
                scope.insert(&output.name, Defined { ty, constant });
            }
        }
        // Compressed weights hold their parts themselves.
        let parts = operations.iter().flat_map(|op| {
            let bound = op.inputs.values().flat_map(|a| &a.arguments);
            let bound = bound.filter_map(|b| match &b.binding {
                Some(Binding::Value(value)) => Some(value),
                Some(Binding::Name(_)) | None => None,
            });
            let held = op.attributes.values();
            let compressed = op.r#type.starts_with("constexpr_");
            bound.chain(held.filter(move |_| compressed))
        });
        let parts = parts.map(|value| Defined {
            ty: tensor_type(value.r#type.as_ref()),
            constant: true,
        });
        for defined in scope.values().copied().chain(parts) {
            let Some(dtype) = defined.ty.map(|ty| mil_name(ty.data_type())) else {
                continue;
            };
            // Texts are parameters.
            if dtype != "string" {
                let opset = needs::of_type(dtype, defined.constant);
                let entry = self.type_needs.entry(dtype.to_owned()).or_default();
                entry.add(opset);
            }
        }
        for op in operations.iter().filter(|op| op.r#type != "const") {
            let named = |opset: &Opset| {
                table::find(&op.r#type, *opset)
                    .is_some_and(|row| op.inputs.keys().all(|k| row.param(k).is_some()))
            };
            // Of what is wrong in every opset, the parameters tell.
            let opset = first_opset(op, &scope).or_else(|| Opset::ALL.into_iter().find(named));
            self.needs.entry(op.r#type.clone()).or_default().add(opset);
        }
    }
}
