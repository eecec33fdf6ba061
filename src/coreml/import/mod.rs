//! ML Program → IR, by family. Written apart from the writer, by another author: a reader must not inherit the writer's mistakes.
//!
//! Every parameter of every operation is read or named in an error; every declared type is compared with the inferred one.

mod activation;
mod call;
mod classify;
mod clipped;
mod constexpr;
mod control;
mod conv;
mod crop;
mod dims;
mod elementwise;
mod entry;
mod error;
mod image;
mod index;
mod layout;
mod linear;
mod list;
mod literal;
mod norm;
mod order;
mod quant;
mod random;
#[cfg(test)]
mod rank_tests;
mod recurrent;
mod reduce;
mod resample;
mod runtime;
mod scatter;
mod shape;
mod state;
pub(super) mod symbols;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use error::ImportError;
pub(super) use literal::{Declared, declared};

use self::call::Call;
use self::dims::Bounds;
use self::entry::{Dims, Entry, tensor_of};
use super::blob::BlobFiles;
use super::interface::Classifier;
use super::proto::mil_spec::argument::binding::Binding;
use super::proto::mil_spec::{Block, Operation, Value};
use super::target::Opset;
use crate::error::{Context, Result};
use crate::ir::ops::{Cast, Concat, Size, Unsqueeze};
use crate::ir::{Builder, Constant, Domain, IrError, Module, Op, Symbol, Type, ValueId};
use crate::limits;
use crate::tensor::DType;

/// A parameter of the function to be read.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// Name.
    pub(super) name: String,
    /// Type, with symbols for what varies.
    pub(super) ty: Type,
}

/// What is read: one block, and what it refers to.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// Name of the module.
    pub(super) name: &'a str,
    /// The block.
    pub(super) block: &'a Block,
    /// The opset of the function.
    pub(super) opset: Opset,
    /// The parameters, in order.
    pub(super) inputs: Vec<Input>,
    /// The states, in order.
    pub(super) states: Vec<Input>,
    /// The symbols that their types use.
    pub(super) symbols: Vec<Symbol>,
    /// The weight file.
    pub(super) blobs: &'a BlobFiles,
    /// What the metadata says about the values that inputs may take.
    pub(super) domains: Option<&'a str>,
}

type Handler = fn(&mut Importer<'_>, &mut Call) -> Result<Vec<Entry>>;

/// The reader of an operation, if there is one.
fn handler(op: &str) -> Option<Handler> {
    elementwise::handler(op)
        .or_else(|| reduce::handler(op))
        .or_else(|| linear::handler(op))
        .or_else(|| norm::handler(op))
        .or_else(|| shape::handler(op))
        .or_else(|| index::handler(op))
        .or_else(|| constexpr::handler(op))
        .or_else(|| activation::handler(op))
        .or_else(|| layout::handler(op))
        .or_else(|| conv::handler(op))
        .or_else(|| image::handler(op))
        .or_else(|| scatter::handler(op))
        .or_else(|| order::handler(op))
        .or_else(|| recurrent::handler(op))
        .or_else(|| quant::handler(op))
        .or_else(|| list::handler(op))
        .or_else(|| state::handler(op))
        .or_else(|| random::handler(op))
}

/// Whether operations of this type are read.
pub(super) fn supports(op: &str) -> bool {
    matches!(op, "const" | "classify") || control::is_control(op) || handler(op).is_some()
}

/// Reads one function: with the labels of a classifier, and what the user should know.
///
/// # Errors
/// When an operation is unknown, malformed or contradicts its declared type; the error names the operation.
pub(super) fn import(source: &Source<'_>) -> Result<(Module, Option<Classifier>, Vec<String>)> {
    check_operations(source.block)?;
    let mut importer = Importer {
        builder: Builder::new(source.name),
        env: vec![BTreeMap::new()],
        states: BTreeMap::new(),
        classes: None,
        bounds: Bounds::default(),
        opset: source.opset,
        blobs: source.blobs,
        expanded: BTreeSet::new(),
    };
    for symbol in &source.symbols {
        importer.bounds.insert(symbol);
        importer.builder.symbol(symbol.clone())?;
    }
    for input in &source.inputs {
        let id = importer
            .builder
            .param(&input.name, input.ty.clone(), Domain::Any)
            .at_node(&input.name)?;
        let ty = input.ty.clone();
        importer.define(&input.name, Entry::Value { id, ty })?;
    }
    for state in &source.states {
        importer.state(state).at_node(&state.name)?;
    }
    for operation in &source.block.operations {
        importer.operation(operation)?;
    }
    let mut named = BTreeSet::new();
    for name in &source.block.outputs {
        // Named twice it is still one output.
        if !named.insert(name) {
            continue;
        }
        let entry = importer.lookup(name).at_node(name)?;
        let id = importer.value(&entry, name).at_node(name)?;
        importer.builder.output(name, id).at_node(name)?;
    }
    importer.keep_states()?;
    let mut module = std::mem::replace(&mut importer.builder, Builder::new("")).finish()?;
    crate::ir::settle_domains(&mut module, source.domains, &BTreeSet::new())?;
    let notes = importer.expanded.iter().map(|layer| {
        format!("the weights of `{layer}` are stored compressed and read expanded: layers with gates keep no compressed weights")
    });
    Ok((module, importer.classes, notes.collect()))
}

/// Refuses what is not read, all of it at once.
fn check_operations(block: &Block) -> Result<(), ImportError> {
    let mut unknown: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    let mut total = 0;
    let mut open = vec![(block, 0)];
    while let Some((block, depth)) = open.pop() {
        if depth > limits::NESTING.count() {
            return Err(ImportError::TooMany {
                what: "nested blocks",
                limit: limits::NESTING.to_string(),
                found: depth,
            });
        }
        total += block.operations.len();
        if total > limits::NODES.count() {
            return Err(ImportError::TooMany {
                what: "operations",
                limit: limits::NODES.to_string(),
                found: total,
            });
        }
        for operation in &block.operations {
            if !supports(&operation.r#type) {
                let first = operation.outputs.first().map_or("", |o| o.name.as_str());
                unknown.entry(&operation.r#type).or_insert((0, first)).0 += 1;
            }
            open.extend(operation.blocks.iter().map(|b| (b, depth + 1)));
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = unknown
        .into_iter()
        .map(|(op, (count, first))| format!("`{op}` ({count}, first `{first}`)"))
        .collect();
    Err(ImportError::Operations {
        list: list.join(", "),
    })
}

/// The state of one reading.
struct Importer<'a> {
    builder: Builder,
    // Innermost block last.
    env: Vec<BTreeMap<String, Entry>>,
    states: BTreeMap<String, state::Current>,
    classes: Option<Classifier>,
    bounds: Bounds,
    opset: Opset,
    blobs: &'a BlobFiles,
    // Layers whose compressed weights were expanded.
    expanded: BTreeSet<String>,
}

impl Importer<'_> {
    fn define(&mut self, name: &str, entry: Entry) -> Result<(), ImportError> {
        let scope = self.env.last_mut();
        match scope.and_then(|scope| scope.insert(name.to_owned(), entry)) {
            None => Ok(()),
            Some(_) => Err(ImportError::Duplicate {
                name: name.to_owned(),
            }),
        }
    }

    fn lookup(&self, name: &str) -> Result<Entry, ImportError> {
        self.env
            .iter()
            .rev()
            .find_map(|scope| scope.get(name))
            .cloned()
            .ok_or_else(|| ImportError::Undefined {
                name: name.to_owned(),
            })
    }

    fn operation(&mut self, operation: &Operation) -> Result<()> {
        let first = operation.outputs.first().map_or("", |o| o.name.as_str());
        let place = if first.is_empty() {
            &operation.r#type
        } else {
            first
        };
        let entries = self.entries(operation, first).at_node(place)?;
        self.count_sizes(&entries).at_node(place)?;
        self.builder.check_held().at_node(place)?;
        if entries.len() != operation.outputs.len() {
            return Err(ImportError::Malformed {
                what: "number of results",
                expected: entries.len().to_string(),
                found: operation.outputs.len().to_string(),
            })
            .at_node(place);
        }
        for (output, entry) in operation.outputs.iter().zip(entries) {
            // A classifier's results are no tensors in the program.
            if matches!(entry, Entry::List(_)) || operation.r#type == "classify" {
                self.define(&output.name, entry).at_node(&output.name)?;
                continue;
            }
            let declared = declared(output.r#type.as_ref()).at_node(&output.name)?;
            if let Some(ty) = entry.ty().filter(|ty| !declared.admits(ty)) {
                return Err(IrError::Declared {
                    declared: declared.to_string(),
                    inferred: ty.to_string(),
                })
                .at_node(&output.name);
            }
            self.define(&output.name, entry).at_node(&output.name)?;
        }
        Ok(())
    }

    /// Counts the sizes among what an operation takes or gives.
    fn count_sizes<'e>(&mut self, entries: impl IntoIterator<Item = &'e Entry>) -> Result<()> {
        for entry in entries {
            if let Entry::Dims(dims) = entry {
                self.builder.count_sizes(&dims.values)?;
            }
        }
        Ok(())
    }

    fn entries(&mut self, operation: &Operation, first: &str) -> Result<Vec<Entry>> {
        let op = operation.r#type.as_str();
        if !operation.blocks.is_empty() && !control::is_control(op) {
            return Err(ImportError::Malformed {
                what: "blocks of the operation",
                expected: "none".into(),
                found: operation.blocks.len().to_string(),
            }
            .into());
        }
        let mut attributes = operation.attributes.iter();
        let mut name = first.to_owned();
        let mut given: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        // The first generation of compressed weights has its parameters there, in later opsets too.
        let in_attributes = op == "const" || op.starts_with("constexpr_");
        for (key, value) in attributes.by_ref() {
            if key == "name" {
                let text = literal::text(value)?;
                // The operation carries the value's own name; with several results the name belongs to none of them.
                if !text.is_empty() && operation.outputs.len() == 1 {
                    name = text;
                }
            } else if in_attributes {
                given.insert(key.clone(), Vec::new());
            } else {
                return Err(ImportError::Malformed {
                    what: "attributes of the operation",
                    expected: "`name`".into(),
                    found: format!("`{key}`"),
                }
                .into());
            }
        }
        if op == "const" {
            return self.constant(operation, &name).map(|e| vec![e]);
        }
        for (key, entries) in &mut given {
            if let Some(value) = operation.attributes.get(key) {
                entries.push(literal::literal(value, &name, self.blobs)?);
            }
        }
        for (key, argument) in &operation.inputs {
            let mut entries = Vec::with_capacity(argument.arguments.len());
            for binding in &argument.arguments {
                entries.push(match &binding.binding {
                    Some(Binding::Name(name)) => self.lookup(name)?,
                    Some(Binding::Value(value)) if op == "classify" => literal::list(value, &name)?,
                    Some(Binding::Value(value)) => literal::literal(value, &name, self.blobs)?,
                    None => {
                        return Err(ImportError::Malformed {
                            what: "parameter",
                            expected: "a name or a value".into(),
                            found: format!("nothing for `{key}`"),
                        }
                        .into());
                    }
                });
            }
            if given.insert(key.clone(), entries).is_some() {
                return Err(ImportError::Duplicate { name: key.clone() }.into());
            }
        }
        self.count_sizes(given.values().flatten())?;
        let mut call = Call::new(op, &name, operation.outputs.len(), self.opset, given)?;
        call.declared = operation
            .outputs
            .iter()
            .map(|o| declared(o.r#type.as_ref()).ok().and_then(|d| d.shape))
            .collect();
        if op == "classify" {
            return classify::read(self, operation, &mut call);
        }
        if control::is_control(op) {
            return control::read(self, operation, &mut call);
        }
        if let Some(dims) = dims::evaluate(&call, &self.bounds)? {
            return Ok(vec![Entry::Dims(dims)]);
        }
        let Some(handler) = handler(op) else {
            return Err(ImportError::Operations {
                list: format!("`{op}`"),
            }
            .into());
        };
        let entries = handler(self, &mut call)?;
        call.finish()?;
        Ok(entries)
    }

    fn constant(&self, operation: &Operation, name: &str) -> Result<Entry> {
        if let Some(key) = operation.inputs.keys().next() {
            return Err(ImportError::UnknownParameter {
                op: "const".into(),
                opset: self.opset.name(),
                parameter: key.clone(),
            }
            .into());
        }
        let unknown = operation
            .attributes
            .keys()
            .find(|k| *k != "name" && *k != "val");
        if let Some(key) = unknown {
            return Err(ImportError::UnknownParameter {
                op: "const".into(),
                opset: self.opset.name(),
                parameter: key.clone(),
            }
            .into());
        }
        let value: Option<&Value> = operation.attributes.get("val");
        let value = value.ok_or_else(|| ImportError::MissingParameter {
            op: "const".into(),
            parameter: "val".into(),
        })?;
        let entry = literal::literal(value, name, self.blobs)?;
        let (of_value, of_output) = (
            declared(value.r#type.as_ref())?,
            declared(operation.outputs.first().and_then(|o| o.r#type.as_ref()))?,
        );
        if of_value == of_output {
            Ok(entry)
        } else {
            Err(IrError::Declared {
                declared: of_output.to_string(),
                inferred: of_value.to_string(),
            }
            .into())
        }
    }

    /// The operand that an entry is; constants and what follows from shapes become values here.
    fn value(&mut self, entry: &Entry, name: &str) -> Result<ValueId> {
        match entry {
            Entry::Value { id, .. } => Ok(*id),
            Entry::Constant { constant } => Ok(self.builder.constant(constant.clone())),
            Entry::Dims(dims) => self.materialise(dims, name),
            Entry::Text { .. } | Entry::List(_) | Entry::State { .. } => {
                Err(ImportError::Malformed {
                    what: "operand",
                    expected: "a tensor".into(),
                    found: entry.describe(),
                }
                .into())
            }
        }
    }

    /// Sizes as data.
    fn materialise(&mut self, dims: &Dims, name: &str) -> Result<ValueId> {
        if let Some(integers) = dims.integers() {
            let tensor = tensor_of(dims, integers)?;
            return Ok(self.builder.constant(Constant::from_tensor(name, &tensor)?));
        }
        let mut parts = Vec::with_capacity(dims.values.len());
        let int = if dims.dtype.is_int() {
            dims.dtype
        } else {
            DType::I32
        };
        for dim in &dims.values {
            let op = Op::Size(Size {
                dtype: int,
                dim: dim.clone(),
            });
            parts.push(self.builder.push(&format!("{name}/size"), op, &[])?);
        }
        let id = if dims.shape.is_empty() {
            parts[0]
        } else {
            for part in &mut parts {
                let axes = vec![0];
                let one = Op::Unsqueeze(Unsqueeze { axes });
                *part = self.builder.push(&format!("{name}/size"), one, &[*part])?;
            }
            match parts.as_slice() {
                [one] => *one,
                many => self
                    .builder
                    .push(name, Op::Concat(Concat { axis: 0 }), many)?,
            }
        };
        self.builder.cast(name, id, dims.dtype)
    }

    /// Takes a parameter as an operand.
    fn operand(&mut self, call: &mut Call, parameter: &str) -> Result<ValueId> {
        let entry = call.required(parameter)?;
        self.value(&entry, &format!("{}/{parameter}", call.name))
    }

    /// Takes a parameter as an operand, if it is there.
    fn optional_operand(&mut self, call: &mut Call, parameter: &str) -> Result<Option<ValueId>> {
        match call.optional(parameter) {
            None => Ok(None),
            Some(entry) => self
                .value(&entry, &format!("{}/{parameter}", call.name))
                .map(Some),
        }
    }

    /// The type of a value.
    fn ty(&self, id: ValueId) -> Type {
        self.builder.ty(id).clone()
    }

    /// The result of the call.
    fn result(&mut self, call: &Call, op: Op, operands: &[ValueId]) -> Result<Vec<Entry>> {
        let id = self.builder.push(&call.name, op, operands)?;
        Ok(vec![self.entry(id)])
    }

    /// A step before the result of the call, named below it.
    fn step(&mut self, call: &Call, suffix: &str, op: Op, operands: &[ValueId]) -> Result<ValueId> {
        self.builder
            .push(&format!("{}/{suffix}", call.name), op, operands)
    }

    /// A scalar constant of a step.
    fn scalar(&mut self, call: &Call, suffix: &str, dtype: DType, x: f64) -> Result<ValueId> {
        self.builder
            .scalar(&format!("{}/{suffix}", call.name), dtype, x)
    }

    /// The entry of a value.
    fn entry(&self, id: ValueId) -> Entry {
        Entry::Value {
            id,
            ty: self.ty(id),
        }
    }

    /// The value cast to `dtype`; constants are cast as constants.
    fn cast(&mut self, call: &Call, suffix: &str, id: ValueId, dtype: DType) -> Result<ValueId> {
        if self.builder.ty(id).dtype == dtype {
            return Ok(id);
        }
        if let Some(constant) = self.builder.as_constant(id) {
            let constant = constant.cast(dtype);
            return Ok(self.builder.constant(constant));
        }
        self.step(call, suffix, Op::Cast(Cast { to: dtype }), &[id])
    }

    /// The result of an operation, rounded to `narrow` when it is computed in another type.
    fn rounded(
        &mut self,
        call: &Call,
        op: Op,
        operands: &[ValueId],
        narrow: DType,
    ) -> Result<Vec<Entry>> {
        let types: Vec<Type> = operands.iter().map(|&v| self.ty(v)).collect();
        let types: Vec<&Type> = types.iter().collect();
        if op.infer(&types).is_ok_and(|ty| ty.dtype != narrow) {
            let id = self.step(call, "wide", op, operands)?;
            return self.result(call, Op::Cast(Cast { to: narrow }), &[id]);
        }
        self.result(call, op, operands)
    }

    /// The result of an operation whose operands mix half and single precision: computed in the wider type, then rounded once to `narrow`.
    fn mixed(
        &mut self,
        call: &Call,
        op: Op,
        operands: &[ValueId],
        narrow: DType,
    ) -> Result<Vec<Entry>> {
        if operands.iter().all(|&v| self.builder.ty(v).dtype == narrow) {
            return self.result(call, op, operands);
        }
        let mut wide = Vec::with_capacity(operands.len());
        for (i, &v) in operands.iter().enumerate() {
            wide.push(self.cast(call, &format!("operand{i}"), v, DType::F32)?);
        }
        if narrow == DType::F32 {
            return self.result(call, op, &wide);
        }
        let id = self.step(call, "wide", op, &wide)?;
        self.result(call, Op::Cast(Cast { to: narrow }), &[id])
    }
}
