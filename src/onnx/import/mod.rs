//! ONNX graphs → IR, by family. Written apart from the writer: a reader must not inherit the writer's mistakes.
//!
//! Owns the walk over a graph: names, scopes, functions, declared types. Every attribute and input of every node is read or named in an error.

mod activation;
mod attention;
mod call;
mod codes;
mod computed;
mod control;
mod conv;
mod dims;
mod einsum;
mod elementwise;
mod entry;
mod error;
mod functions;
mod image;
mod index;
mod interface;
mod layout;
mod learn;
mod linear;
mod loops;
mod loss;
mod microsoft;
mod norm;
mod operands;
mod order;
mod qlinear;
mod quant;
mod random;
mod recurrent;
mod reduce;
mod regions;
mod shape;
mod signal;
mod suggest;
mod table;
mod tensors;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
pub(super) use table::is_read;

pub use error::OnnxImportError;
pub(crate) use interface::varies;
pub use interface::{OpenSize, ReadOptions};
pub use tensors::read_tensor;

use self::call::Call;
use self::entry::{Dims, Entry};
use self::interface::Declared;
use self::learn::{Fact, Facts};
use self::tensors::{Loader, Stored};
use super::proto::{FunctionProto, GraphProto, NodeProto, TypeProto, ValueInfoProto};
use super::wire;
use crate::error::{Context, Result};
use crate::ir::ops::Size;
use crate::ir::{
    Bounds, Builder, Constant, DOMAINS_KEY, Def, Dim, Module, Op, Type, ValueId, settle_domains,
};
use crate::limits;
use crate::tensor::{DType, FileRegion, SourceFile, Storage, Tensor, num};

/// Oldest and newest operator set of the standard domain that is read. Every operator says besides since which set its row reads it.
const OPSETS: (i64, i64) = (1, 26);
/// Newest IR version that is read.
const MAX_IR_VERSION: i64 = 13;
/// What was read.
#[derive(Clone, Debug)]
pub struct Read {
    /// The model.
    pub module: Module,
    /// Sizes that the model leaves open and no option closed.
    pub open: Vec<OpenSize>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Reads the model at `path`, with the sizes and values that `options` gives to its inputs.
///
/// # Errors
/// When the file is malformed, contradicts itself, or uses something that is not read; the error names the node.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Read> {
    wire::read(path)
        .and_then(|model| {
            let folder = path.parent().unwrap_or(Path::new(""));
            let stem = path
                .file_stem()
                .map(|s| s.to_string_lossy().into_owned())
                .unwrap_or_default();
            import(&model, folder, &stem, options)
        })
        .at_file(path)
}

/// As [`read`], from the bytes of a model whose external data lies in `folder`.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], folder: &Path, options: &ReadOptions) -> Result<Read> {
    let path = Path::new("bytes in memory");
    let model = wire::read_file(&SourceFile::in_memory(path, bytes.to_vec()))?;
    import(&model, folder, "model", options)
}

/// Values for inputs that are one number and decide which part of a model runs, where the model can be read with one only of those that it compares the
/// input with: at these sizes it takes nothing else.
///
/// # Errors
/// When the file is malformed.
pub fn decided(path: &Path, options: &ReadOptions) -> Result<BTreeMap<String, Tensor>> {
    let model = wire::read(path).at_file(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut found = BTreeMap::new();
    let Some(graph) = &model.proto.graph else {
        return Ok(found);
    };
    let compared = interface::compared(graph, &interface::scalars(graph, options));
    let reads = |options: &ReadOptions| {
        let read = import_once(&model, folder, "model", options, &Facts::new());
        matches!(read, Ok(Outcome::Read(_)))
    };
    if compared.is_empty() || reads(options) {
        return Ok(found);
    }
    for (name, values) in compared {
        let mut loader = Loader::new(folder);
        let mut fitting = Vec::new();
        for value in values {
            let (constant, _) = loader.constant(value, None, &name)?;
            let mut options = options.clone();
            options.constants.insert(name.clone(), constant.read()?);
            if reads(&options) {
                fitting.extend(options.constants.remove(&name));
            }
        }
        if let [one] = fitting.as_slice() {
            found.insert(name, one.clone());
        }
    }
    Ok(found)
}

/// Reads a model until nothing more is learnt about the sizes of its inputs: what one reading shows makes the next one plainer.
fn import(model: &wire::Model, folder: &Path, stem: &str, options: &ReadOptions) -> Result<Read> {
    let mut facts = Facts::new();
    let mut readings = 0;
    loop {
        readings += 1;
        let read = match import_once(model, folder, stem, options, &facts)? {
            Outcome::Read(read) => *read,
            // What is left open is what the user can do something about.
            Outcome::Failed(open, _) if options.closed && !open.is_empty() => {
                return Err(still_open(model, folder, stem, options, &open));
            }
            Outcome::Failed(open, error) => {
                // Sizes that the user gave a range are taken at its end.
                let (fixed, ranges) = interface::at_ends(options);
                let sizes = fitting(model, folder, stem, &fixed, &open);
                return Err(match sizes {
                    Some(sizes) if !(open.is_empty() && ranges.is_empty()) => {
                        let open = open.into_iter().map(|o| o.symbol);
                        interface::varies(&error, open.zip(sizes).chain(ranges))
                    }
                    Some(_) | None => error,
                });
            }
        };
        let before = facts.len();
        let mut narrower = false;
        for (symbol, found) in learn::learn(&read.module, options)? {
            // A size that the user gave is checked, not learnt.
            let given = options.dims.contains_key(&symbol);
            if given && !matches!(found.0, Fact::Same(_)) {
                continue;
            }
            narrower |= facts.get(&symbol).is_some_and(|known| known.0 != found.0);
            facts.insert(symbol, found);
        }
        if readings < limits::ONNX_READINGS && (facts.len() > before || narrower) {
            continue;
        }
        if options.closed && !read.open.is_empty() {
            return Err(still_open(model, folder, stem, options, &read.open));
        }
        return Ok(read);
    }
}

/// Sizes for what is open with which the model can be read, if any usual ones are.
fn fitting(
    model: &wire::Model,
    folder: &Path,
    stem: &str,
    options: &ReadOptions,
    open: &[OpenSize],
) -> Option<Vec<u64>> {
    let reads = |options: &ReadOptions| {
        let read = import_once(model, folder, stem, options, &Facts::new());
        let Ok(Outcome::Read(read)) = read else {
            return false;
        };
        // A window that is longer than what it slides over gives nothing.
        let functions = read.module.functions.iter().chain(&read.module.bodies);
        let values = functions.flat_map(|f| &f.values);
        let mut values = values.filter(|v| matches!(v.def, Def::Node(_)));
        read.open.is_empty() && !values.any(|v| v.ty.shape.contains(&Dim::from(0)))
    };
    suggest::sizes(open, options, reads)
}

/// That sizes are open, with sizes that the model can be read with.
fn still_open(
    model: &wire::Model,
    folder: &Path,
    stem: &str,
    options: &ReadOptions,
    open: &[OpenSize],
) -> crate::error::Error {
    let sizes = fitting(model, folder, stem, options, open);
    let scalars = model.proto.graph.as_ref();
    let scalars = scalars.map_or_else(Vec::new, |graph| interface::scalars(graph, options));
    interface::still_open(open, sizes.as_deref(), &scalars).into()
}

/// How one reading ended.
enum Outcome {
    Read(Box<Read>),
    /// With the sizes that were open.
    Failed(Vec<OpenSize>, crate::error::Error),
}

fn import_once(
    model: &wire::Model,
    folder: &Path,
    stem: &str,
    options: &ReadOptions,
    facts: &Facts,
) -> Result<Outcome> {
    let proto = &model.proto;
    let version = proto.ir_version.unwrap_or_default();
    if !(3..=MAX_IR_VERSION).contains(&version) {
        return Err(OnnxImportError::IrVersion {
            found: version,
            max: MAX_IR_VERSION,
        }
        .into());
    }
    if !proto.training_info.is_empty() {
        return Err(OnnxImportError::Training.into());
    }
    let graph = proto
        .graph
        .as_ref()
        .ok_or_else(|| super::OnnxError::Malformed {
            reason: "it has no graph".into(),
        })?;
    let mut functions = BTreeMap::new();
    for function in &proto.functions {
        functions.insert(functions::key_of(function), function);
    }
    let mut importer = Importer {
        b: Builder::new(if stem.is_empty() { "model" } else { stem }),
        scopes: vec![BTreeMap::new()],
        opsets: opsets(&proto.opset_import)?,
        functions,
        loader: Loader::new(folder),
        bounds: Bounds::default(),
        facts,
        notes: BTreeSet::new(),
        stale_shapes: options.stale_shapes,
        nodes: 0,
        depth: 0,
    };
    importer.b.fold_with(crate::eval::fold_op);
    if importer.opsets.is_empty() {
        return Err(OnnxImportError::Missing {
            op: "the model".into(),
            what: "the list of its operator sets".into(),
        }
        .into());
    }
    table::check_operators(graph, &importer.functions, &importer.opsets)?;
    functions::check_size(graph, &importer.functions)?;
    let open = importer.interface(graph, &model.raw, options)?;
    let domains = proto
        .metadata_props
        .iter()
        .find(|entry| entry.key.as_deref() == Some(DOMAINS_KEY))
        .and_then(|entry| entry.value.as_deref());
    match importer.whole(graph, domains) {
        Ok((module, notes)) => Ok(Outcome::Read(Box::new(Read {
            module,
            open,
            notes,
        }))),
        Err(error) => Ok(Outcome::Failed(open, error)),
    }
}

/// Domain → version; the standard domain is the empty name.
fn opsets(
    imports: &[super::proto::OperatorSetIdProto],
) -> Result<BTreeMap<String, i64>, OnnxImportError> {
    let mut out = BTreeMap::new();
    for import in imports {
        let domain = standard(import.domain.as_deref());
        let version = import.version.unwrap_or_default();
        if domain.is_empty() && !(OPSETS.0..=OPSETS.1).contains(&version) {
            return Err(OnnxImportError::OperatorSet {
                domain: "ai.onnx".into(),
                found: version,
                min: OPSETS.0,
                max: OPSETS.1,
            });
        }
        if out.insert(domain.to_owned(), version).is_some() {
            return Err(OnnxImportError::Duplicate {
                name: domain.to_owned(),
            });
        }
    }
    Ok(out)
}

/// The domain's name, the standard one's being empty.
pub(super) fn standard(domain: Option<&str>) -> &str {
    match domain {
        None | Some("ai.onnx") => "",
        Some(domain) => domain,
    }
}

/// The operator's name in messages.
pub(super) fn display_op(domain: &str, op: &str) -> String {
    if domain.is_empty() {
        op.to_owned()
    } else {
        format!("{domain}.{op}")
    }
}

/// The state of one reading.
struct Importer<'a> {
    b: Builder,
    /// Names by graph, the innermost last.
    scopes: Vec<BTreeMap<String, Entry>>,
    opsets: BTreeMap<String, i64>,
    functions: BTreeMap<functions::Key<'a>, &'a FunctionProto>,
    loader: Loader,
    bounds: Bounds,
    /// What earlier readings showed about the sizes of inputs.
    facts: &'a Facts,
    notes: BTreeSet<String>,
    /// Whether declared shapes inside the graph may be stale.
    stale_shapes: bool,
    /// Nodes read so far, those of bodies and functions each time they are.
    nodes: usize,
    depth: usize,
}

impl Importer<'_> {
    /// Reads the nodes and outputs: the module, and what the user should know.
    fn whole(mut self, graph: &GraphProto, domains: Option<&str>) -> Result<(Module, Vec<String>)> {
        self.graph_nodes(graph)?;
        for output in &graph.output {
            self.output(output)?;
        }
        let mut module = self.b.finish()?;
        let inputs = graph.input.iter().filter_map(|i| i.name.as_deref());
        settle_domains(&mut module, domains, &inputs.collect())?;
        Ok((module, self.notes.into_iter().collect()))
    }

    fn define(&mut self, name: &str, entry: Entry) -> Result<(), OnnxImportError> {
        let Some(scope) = self.scopes.last_mut() else {
            return Ok(());
        };
        match scope.insert(name.to_owned(), entry) {
            None => Ok(()),
            Some(_) => Err(OnnxImportError::Duplicate {
                name: name.to_owned(),
            }),
        }
    }

    fn lookup(&self, name: &str) -> Result<Entry, OnnxImportError> {
        self.scopes
            .iter()
            .rev()
            .find_map(|scope| scope.get(name))
            .cloned()
            .ok_or_else(|| OnnxImportError::Undefined {
                name: name.to_owned(),
            })
    }

    /// Makes the initialisers of a graph known. `raw` tells where those bytes lie that were left in the file.
    fn initializers(&mut self, graph: &GraphProto, raw: &[Option<FileRegion>]) -> Result<()> {
        for (i, tensor) in graph.initializer.iter().enumerate() {
            let name = tensor.name.as_deref().unwrap_or_default();
            let region = raw.get(i).and_then(Option::as_ref);
            let stored = self.loader.constant(tensor, region, name)?;
            let entry = self.stored(stored);
            self.define(name, entry).at_tensor(name)?;
        }
        for sparse in &graph.sparse_initializer {
            let name = sparse.values.as_ref().and_then(|v| v.name.as_deref());
            let name = name.unwrap_or_default();
            let constant = self.loader.sparse(sparse, name).at_tensor(name)?;
            let entry = self.stored((constant, None));
            self.define(name, entry).at_tensor(name)?;
        }
        Ok(())
    }

    /// The entry of a tensor of the file.
    fn stored(&mut self, (constant, code): Stored) -> Entry {
        let value = self.b.constant(constant);
        match code {
            Some(code) => Entry::Coded(value, code),
            None => Entry::Value(value),
        }
    }

    fn graph_nodes(&mut self, graph: &GraphProto) -> Result<()> {
        let mut declared = BTreeMap::new();
        for info in &graph.value_info {
            if let (Some(name), Some(ty)) = (info.name.as_deref(), info.r#type.as_ref()) {
                declared.insert(name, ty);
            }
        }
        for node in order::sorted(&graph.node) {
            self.node(node, &declared)?;
        }
        Ok(())
    }

    /// Reads a graph inside a node: its names are its own, and it sees those around it. Gives its outputs.
    fn subgraph(&mut self, graph: &GraphProto, inputs: Vec<Entry>) -> Result<Vec<Entry>> {
        self.deeper()?;
        self.scopes.push(BTreeMap::new());
        let result = self.subgraph_inside(graph, inputs);
        self.scopes.pop();
        self.depth -= 1;
        result
    }

    fn subgraph_inside(&mut self, graph: &GraphProto, inputs: Vec<Entry>) -> Result<Vec<Entry>> {
        let names = graph.input.iter().map(|i| i.name.as_deref());
        for (name, entry) in names.zip(inputs) {
            self.define(name.unwrap_or_default(), entry)?;
        }
        self.initializers(graph, &[])?;
        self.graph_nodes(graph)?;
        let names = graph
            .output
            .iter()
            .map(|o| o.name.as_deref().unwrap_or_default());
        names.map(|name| self.lookup(name).at_node(name)).collect()
    }

    /// Counts one more level of nesting.
    fn deeper(&mut self) -> Result<(), OnnxImportError> {
        self.depth += 1;
        if self.depth > limits::NESTING.count() {
            return Err(OnnxImportError::TooMany {
                what: "nested graphs",
                limit: limits::NESTING.to_string(),
                found: self.depth,
            });
        }
        Ok(())
    }

    /// Counts a node, or a round of nodes.
    fn count_node(&mut self) -> Result<(), OnnxImportError> {
        self.nodes += 1;
        if self.nodes > limits::NODES.count() {
            return Err(OnnxImportError::TooMany {
                what: "nodes, those of unrolled bodies included",
                limit: limits::NODES.to_string(),
                found: self.nodes,
            });
        }
        Ok(())
    }

    fn node(&mut self, node: &NodeProto, declared: &BTreeMap<&str, &TypeProto>) -> Result<()> {
        let first = node.output.iter().find(|o| !o.is_empty());
        let place = match node.name.as_deref() {
            Some(name) if !name.is_empty() => name,
            Some(_) | None => first.map_or("", String::as_str),
        };
        self.count_node()?;
        self.b.enter(place);
        let entries = self.entries(node).at_node(place);
        self.b.leave();
        self.b.check_held().at_node(place)?;
        for (name, entry) in node.output.iter().zip(entries?) {
            if name.is_empty() {
                continue;
            }
            if let Some(ty) = declared.get(name.as_str())
                && let Err(error) = self.check_declared(ty, &entry)
            {
                self.stale(error, place)?;
            }
            if let Entry::Value(value) | Entry::Coded(value, _) = entry {
                self.b.rename(value, name);
            }
            self.define(name, entry).at_node(place)?;
        }
        Ok(())
    }

    fn entries(&mut self, node: &NodeProto) -> Result<Vec<Entry>> {
        let domain = standard(node.domain.as_deref());
        let op_type = node.op_type.as_deref().unwrap_or_default();
        let op = display_op(domain, op_type);
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(if name.is_empty() {
                None
            } else {
                Some(self.lookup(name)?)
            });
        }
        self.count_sizes(inputs.iter().flatten())?;
        // A model's own function comes before a built-in operator of that name.
        if let Some(&function) = self.functions.get(&functions::called(node)) {
            return self.function(function, node, inputs);
        }
        let version = self.opsets.get(domain).copied().unwrap_or(1);
        let mut call = Call::new(node, op, version, inputs)?;
        let entries = match dims::evaluate(self, &mut call)? {
            Some(entries) => entries,
            None => {
                let row =
                    table::find(domain, op_type).ok_or_else(|| OnnxImportError::Operators {
                        list: format!("`{}` (1)", call.op),
                    })?;
                if version < row.since {
                    return Err(OnnxImportError::OperatorSet {
                        domain: call.op,
                        found: version,
                        min: row.since,
                        max: OPSETS.1,
                    }
                    .into());
                }
                let entries = (row.read)(self, &mut call)?;
                call.finish()?;
                entries
            }
        };
        self.count_sizes(&entries)?;
        if node.output.len() > entries.len() {
            return Err(OnnxImportError::Results {
                op: call.op,
                expected: entries.len(),
                found: node.output.len(),
            }
            .into());
        }
        Ok(entries)
    }

    /// Counts the sizes among what an operator takes or gives.
    fn count_sizes<'e>(&mut self, entries: impl IntoIterator<Item = &'e Entry>) -> Result<()> {
        for entry in entries {
            if let Entry::Dims(dims) = entry {
                self.b.count_sizes(&dims.values)?;
            }
        }
        Ok(())
    }

    /// Refuses an entry that a declared type contradicts.
    fn check_declared(&self, declared: &TypeProto, entry: &Entry) -> Result<(), OnnxImportError> {
        let Some(declared) = Declared::of(declared) else {
            return Ok(());
        };
        let Some((ty, coded)) = self.entry_type(entry) else {
            return Ok(());
        };
        if declared.admits(&ty, coded) {
            return Ok(());
        }
        Err(OnnxImportError::Declared {
            declared: declared.to_string(),
            inferred: ty.to_string(),
            stale: false,
        })
    }

    /// What becomes of a declaration inside the graph that contradicts what the node gives: an error, or a note if that was allowed. Runtimes refuse another
    /// element type.
    fn stale(&mut self, error: OnnxImportError, node: &str) -> Result<()> {
        let OnnxImportError::Declared {
            declared, inferred, ..
        } = error
        else {
            return Err(error).at_node(node);
        };
        let same_dtype = declared.split('[').next() == inferred.split('[').next();
        if same_dtype && self.stale_shapes {
            self.notes.insert(format!(
                "node `{node}`: the declared type {declared} is stale: it gives {inferred}"
            ));
            return Ok(());
        }
        Err(OnnxImportError::Declared {
            declared,
            inferred,
            stale: same_dtype,
        })
        .at_node(node)
    }

    fn output(&mut self, output: &ValueInfoProto) -> Result<()> {
        let name = output.name.as_deref().unwrap_or_default();
        let entry = self.lookup(name).at_node(name)?;
        if let Some(ty) = &output.r#type {
            self.check_declared(ty, &entry).at_node(name)?;
        }
        let value = self.value(&entry, name).at_node(name)?;
        if let Entry::Coded(..) = entry {
            self.notes.insert(format!(
                "the output `{name}` is of a small floating-point type: it is given as the bytes of its elements"
            ));
        }
        self.b.output(name, value).at_node(name)?;
        Ok(())
    }

    /// The type of an entry, and whether it travels as codes; `None` for a sequence.
    fn entry_type(&self, entry: &Entry) -> Option<(Type, bool)> {
        match entry {
            Entry::Value(v) => Some((self.b.ty(*v).clone(), false)),
            Entry::Coded(v, _) => Some((self.b.ty(*v).clone(), true)),
            Entry::Dims(d) => Some((Type::known(d.dtype, &d.shape), false)),
        }
    }

    /// What an entry is, for messages.
    fn describe(&self, entry: &Entry) -> String {
        match entry {
            Entry::Value(v) => format!("{} computed at run time", self.b.ty(*v)),
            Entry::Coded(v, _) => format!("codes {}", self.b.ty(*v)),
            Entry::Dims(d) => {
                let values: Vec<String> = d.values.iter().map(ToString::to_string).collect();
                format!("[{}]", values.join(", "))
            }
        }
    }

    /// The constant behind an entry.
    fn constant(&self, entry: &Entry) -> Option<Constant> {
        match entry {
            Entry::Value(v) => self.b.as_constant(*v).cloned(),
            Entry::Dims(_) | Entry::Coded(..) => None,
        }
    }

    /// The whole numbers of an entry, if they are known: small integer constants, and what follows from shapes.
    fn dims(&self, entry: &Entry) -> Result<Option<Dims>> {
        if let Entry::Dims(dims) = entry {
            return Ok(Some(dims.clone()));
        }
        let Some(constant) = self.constant(entry) else {
            return Ok(None);
        };
        if constant.len() > limits::ONNX_FOLLOWED_ELEMENTS || constant.dtype().is_float() {
            return Ok(None);
        }
        let tensor = constant.read()?;
        let values = match tensor.storage() {
            Storage::Int(v) => v.iter().map(|&n| Dim::constant(n)).collect(),
            Storage::Bool(v) => v.iter().map(|&b| Dim::constant(i64::from(b))).collect(),
            Storage::Float(_) => return Ok(None),
        };
        Ok(Some(Dims {
            dtype: constant.dtype(),
            shape: constant.shape().to_vec(),
            values,
        }))
    }

    /// An entry as a value of the function.
    fn value(&mut self, entry: &Entry, name: &str) -> Result<ValueId> {
        match entry {
            Entry::Value(v) | Entry::Coded(v, _) => Ok(*v),
            Entry::Dims(d) => self.dims_value(d, name),
        }
    }

    fn dims_value(&mut self, dims: &Dims, name: &str) -> Result<ValueId> {
        let Some(integers) = dims.integers() else {
            return self.open_dims_value(dims, name);
        };
        let tensor = if dims.dtype == DType::Bool {
            Tensor::bool(
                dims.shape.clone(),
                integers.iter().map(|&n| n != 0).collect(),
            )?
        } else if dims.dtype.is_float() {
            let values = integers.into_iter().map(num::f32_of_i64).collect();
            Tensor::float(dims.dtype, dims.shape.clone(), values)?
        } else {
            Tensor::int(dims.dtype, dims.shape.clone(), integers)?
        };
        let name = if name.is_empty() { "sizes" } else { name };
        self.b.tensor(name, &tensor)
    }
}

/// One value as the only result.
fn one(value: ValueId) -> Result<Vec<Entry>> {
    Ok(vec![Entry::Value(value)])
}

impl Importer<'_> {
    /// Sizes that vary as a value: each computed from the inputs' sizes, then joined.
    fn open_dims_value(&mut self, dims: &Dims, _: &str) -> Result<ValueId> {
        let mut parts = Vec::with_capacity(dims.values.len());
        for dim in &dims.values {
            let size = self.b.node(
                Op::Size(Size {
                    dtype: DType::I64,
                    dim: dim.clone(),
                }),
                &[],
            )?;
            parts.push(if dims.shape.is_empty() {
                size
            } else {
                self.b.unsqueeze(size, &[0])?
            });
        }
        let all = self.b.join(&parts, 0)?;
        let shape = dims.shape.iter().map(|&d| Dim::from(d)).collect();
        let all = self.b.reshape(all, shape)?;
        self.b.to(all, dims.dtype)
    }
}
