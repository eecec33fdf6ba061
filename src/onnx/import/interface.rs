//! The inputs of a model: their types, the sizes that vary, and what options make of both.

use std::collections::{BTreeMap, BTreeSet};

use super::Importer;
use super::entry::Entry;
use super::error::OnnxImportError;
use super::learn::{Fact, describe};
use super::tensors::element_type;
use crate::error::{At, Context, Diagnostic, Error, Result};
use crate::ir::{Constant, Dim, Domain, Symbol, SymbolRange, Type};
use crate::limits;
use crate::onnx::proto::tensor_shape_proto::dimension::Value as DimValue;
use crate::onnx::proto::{GraphProto, TensorProto, TypeProto, ValueInfoProto, type_proto};
use crate::onnx::types::data_type_name;
use crate::tensor::{DType, FileRegion, Tensor, num};

/// What the user says about a model's inputs.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Input → its shape.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Size → what it may be. A size is called by its name in the model, or `INPUT.AXIS` if it has none.
    pub dims: BTreeMap<String, SymbolRange>,
    /// Input → its value; it is no input of the result then.
    pub constants: BTreeMap<String, Tensor>,
    /// Whether a size that stays open is an error.
    pub closed: bool,
    /// Whether declared shapes of values inside the graph may contradict what its operators give, as runtimes have it.
    pub stale_shapes: bool,
}

/// A size that is left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSize {
    /// Its name.
    pub symbol: String,
    /// The first input that shows it.
    pub input: String,
    /// The axis of that input.
    pub axis: usize,
    /// How many axes that input has.
    pub rank: usize,
    /// The largest that the graph takes, if it says so.
    pub most: Option<u64>,
}

/// A declared tensor type.
#[derive(Debug)]
pub(super) struct Declared {
    number: i32,
    /// `None` where nothing is said; an inner `None` is an open size.
    shape: Option<Vec<Option<i64>>>,
}

impl Declared {
    /// The type, if it is a tensor's. A size of 0 is what some exporters write for one that is open.
    pub(super) fn of(ty: &TypeProto) -> Option<Self> {
        let Some(type_proto::Value::TensorType(tensor)) = &ty.value else {
            return None;
        };
        let shape = tensor.shape.as_ref().map(|shape| {
            let size = |dim: &Option<DimValue>| match dim {
                Some(DimValue::DimValue(n)) if *n > 0 => Some(*n),
                Some(DimValue::DimValue(_) | DimValue::DimParam(_)) | None => None,
            };
            shape.dim.iter().map(|d| size(&d.value)).collect()
        });
        Some(Declared {
            number: tensor.elem_type.unwrap_or_default(),
            shape,
        })
    }

    /// Whether a value of type `ty` may be declared so.
    pub(super) fn admits(&self, ty: &Type, coded: bool) -> bool {
        // Type 0 says nothing.
        let dtype = match element_type(self.number) {
            Ok((dtype, code)) => dtype == ty.dtype && code.is_some() == coded,
            Err(_) => self.number == 0,
        };
        let shape = self.shape.as_ref().is_none_or(|shape| {
            shape.len() == ty.rank()
                && shape.iter().zip(&ty.shape).all(|(declared, dim)| {
                    match (declared, dim.integer()) {
                        (Some(declared), Some(found)) => *declared == found,
                        (Some(_) | None, _) => true,
                    }
                })
        });
        dtype && shape
    }
}

impl std::fmt::Display for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&data_type_name(self.number))?;
        if let Some(shape) = &self.shape {
            let dims: Vec<String> = shape
                .iter()
                .map(|d| d.map_or_else(|| "?".into(), |n| n.to_string()))
                .collect();
            write!(f, "[{}]", dims.join(", "))?;
        }
        Ok(())
    }
}

/// One axis of an input as the file has it.
enum Axis {
    Known(usize),
    Named(String),
}

/// An input as the file has it.
struct Port<'g> {
    name: &'g str,
    dtype: DType,
    coded: Option<super::entry::Code>,
    axes: Vec<Axis>,
}

fn option_error(option: impl Into<String>, reason: impl Into<String>) -> OnnxImportError {
    OnnxImportError::Option {
        option: option.into(),
        reason: reason.into(),
    }
}

fn port<'g>(info: &'g ValueInfoProto, options: &ReadOptions) -> Result<Port<'g>, OnnxImportError> {
    let name = info.name.as_deref().unwrap_or_default();
    let kind = |found: &str| OnnxImportError::Interface {
        what: "an input",
        found: found.to_owned(),
    };
    let tensor = match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor,
        Some(type_proto::Value::SequenceType(_)) => return Err(kind("sequence")),
        Some(type_proto::Value::MapType(_)) => return Err(kind("map")),
        Some(type_proto::Value::OpaqueType(_)) => return Err(kind("opaque")),
        Some(type_proto::Value::SparseTensorType(_)) => return Err(kind("sparse tensor")),
        Some(type_proto::Value::OptionalType(_)) => return Err(kind("optional")),
        None => return Err(kind("unknown type")),
    };
    let (dtype, coded) = element_type(tensor.elem_type.unwrap_or_default())?;
    let given = options.shapes.get(name);
    let opened = |axis: usize, symbol: &String| {
        options.dims.contains_key(symbol)
            || given.is_some_and(|g| g.get(axis).is_some_and(|&n| n > 0))
    };
    let axes: Vec<Axis> = match (&tensor.shape, given) {
        (Some(shape), _) => shape
            .dim
            .iter()
            .enumerate()
            .map(|(axis, dim)| (format!("{name}.{axis}"), axis, dim))
            .map(|(unnamed, axis, dim)| match &dim.value {
                // Some exporters write 0 for a size that is open: it is when the user says so.
                Some(DimValue::DimValue(0)) if opened(axis, &unnamed) => Axis::Named(unnamed),
                Some(DimValue::DimValue(n)) if *n >= 0 => {
                    Axis::Known(usize::try_from(*n).unwrap_or(usize::MAX))
                }
                // Some exporters call every open size `?`. Elsewhere it marks sizes that are only known at run time.
                Some(DimValue::DimParam(symbol)) if !matches!(symbol.as_str(), "" | "?") => {
                    Axis::Named(symbol.replace('?', "_"))
                }
                Some(DimValue::DimValue(_) | DimValue::DimParam(_)) | None => Axis::Named(unnamed),
            })
            .collect(),
        (None, Some(given)) => given.iter().map(|&n| Axis::Known(n)).collect(),
        (None, None) => {
            return Err(OnnxImportError::Open {
                list: format!("the input `{name}` has no shape"),
                flags: format!("`--shape {name}=1,3,224,224`"),
            });
        }
    };
    if axes.len() > limits::RANK.count() {
        return Err(OnnxImportError::TooMany {
            what: "axes of an input",
            limit: limits::RANK.to_string(),
            found: axes.len(),
        });
    }
    Ok(Port {
        name,
        dtype,
        coded,
        axes,
    })
}

/// The sizes that `--shape` gives to named dimensions, checked against those that are fixed.
fn sizes_from_shapes(
    ports: &[Port<'_>],
    options: &ReadOptions,
) -> Result<BTreeMap<String, SymbolRange>, OnnxImportError> {
    let mut sizes = options.dims.clone();
    for (name, shape) in &options.shapes {
        let text = || {
            let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
            format!("--shape {name}={}", dims.join(","))
        };
        let Some(port) = ports.iter().find(|p| p.name == name) else {
            let names: Vec<String> = ports.iter().map(|p| format!("`{}`", p.name)).collect();
            return Err(option_error(
                text(),
                format!("the inputs are {}", names.join(", ")),
            ));
        };
        if port.axes.len() != shape.len() {
            return Err(option_error(
                text(),
                format!("the input has {} axes", port.axes.len()),
            ));
        }
        for (i, (axis, &n)) in port.axes.iter().zip(shape).enumerate() {
            match axis {
                Axis::Known(known) if *known != n => {
                    return Err(option_error(
                        text(),
                        format!("axis {i} is fixed at {known}"),
                    ));
                }
                Axis::Known(_) => {}
                Axis::Named(symbol) => {
                    let range = SymbolRange::OneOf(vec![num::u64_of(n)]);
                    let before = sizes.insert(symbol.clone(), range.clone());
                    if before.is_some_and(|b| b != range) {
                        return Err(option_error(
                            text(),
                            format!("`{symbol}` is given another size too"),
                        ));
                    }
                }
            }
        }
    }
    for (symbol, range) in &options.dims {
        let is_there = ports
            .iter()
            .flat_map(|p| &p.axes)
            .any(|axis| matches!(axis, Axis::Named(name) if name == symbol));
        if !is_there {
            let names: BTreeSet<String> = ports
                .iter()
                .flat_map(|p| &p.axes)
                .filter_map(|axis| match axis {
                    Axis::Named(name) => Some(format!("`{name}`")),
                    Axis::Known(_) => None,
                })
                .collect();
            let names: Vec<String> = names.into_iter().collect();
            let reason = if names.is_empty() {
                "all sizes of the model are fixed".into()
            } else {
                format!("the sizes that vary are {}", names.join(", "))
            };
            return Err(option_error(
                format!("--dim {symbol}={}", display_range(range)),
                reason,
            ));
        }
    }
    Ok(sizes)
}

pub(super) fn display_range(range: &SymbolRange) -> String {
    match range {
        SymbolRange::Between { min, max } => format!("{min}..={max}"),
        SymbolRange::OneOf(sizes) => sizes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(","),
    }
}

/// The integer inputs that are single numbers and have no value: they may decide which part of the model runs.
pub(super) fn scalars(graph: &GraphProto, options: &ReadOptions) -> Vec<String> {
    let constants = graph.initializer.iter();
    let constants: BTreeSet<&str> = constants.filter_map(|t| t.name.as_deref()).collect();
    let inputs = graph.input.iter().filter_map(|info| {
        let name = info.name.as_deref()?;
        let declared = Declared::of(info.r#type.as_ref()?)?;
        let is_int = element_type(declared.number).is_ok_and(|(dtype, _)| dtype.is_int());
        let is_given = constants.contains(name) || options.constants.contains_key(name);
        let is_one = declared.shape.is_some_and(|s| s.is_empty());
        (is_int && is_one && !is_given).then(|| name.to_owned())
    });
    inputs.collect()
}

/// The constants that each of these inputs is compared with for equality.
pub(super) fn compared<'g>(
    graph: &'g GraphProto,
    inputs: &[String],
) -> BTreeMap<String, Vec<&'g TensorProto>> {
    let stored = graph.initializer.iter();
    let mut constants: BTreeMap<&str, &TensorProto> = stored
        .filter_map(|t| Some((t.name.as_deref()?, t)))
        .collect();
    for node in &graph.node {
        let value = node.attribute.iter().find_map(|a| a.t.as_ref());
        if let (Some("Constant"), [name], Some(value)) =
            (node.op_type.as_deref(), node.output.as_slice(), value)
        {
            constants.insert(name, value);
        }
    }
    let mut found: BTreeMap<String, Vec<&TensorProto>> = BTreeMap::new();
    for node in &graph.node {
        let (Some("Equal"), [a, b]) = (node.op_type.as_deref(), node.input.as_slice()) else {
            continue;
        };
        for (input, other) in [(a, b), (b, a)] {
            if let Some(value) = constants.get(other.as_str())
                && inputs.contains(input)
            {
                found.entry(input.clone()).or_default().push(value);
            }
        }
    }
    found
}

/// Sizes that a target with fixed shapes needs, and the flags that give them `sizes`, if there are any with which the model can be read.
pub(super) fn still_open(
    open: &[OpenSize],
    sizes: Option<&[u64]>,
    scalars: &[String],
) -> OnnxImportError {
    let list = open.iter().map(|o| {
        let most = o.most.map(|n| format!(", at most {n}")).unwrap_or_default();
        format!("`{}` (axis {} of `{}`{most})", o.symbol, o.axis, o.input)
    });
    let flags = open.iter().enumerate().map(|(i, o)| {
        let size = sizes.and_then(|s| s.get(i));
        let size = size.map_or_else(|| "N".to_owned(), ToString::to_string);
        format!("--dim {}={size}", quoted(&o.symbol))
    });
    // Two branches seldom take the same sizes.
    let decide = match (sizes, scalars) {
        (Some(_), _) | (None, []) => String::new(),
        (None, scalars) => {
            let flags = scalars
                .iter()
                .map(|s| format!("--constant {}=VALUE", quoted(s)));
            let flags = flags.collect::<Vec<_>>().join(" ");
            format!(
                ". No usual sizes fit all of the model; if a number decides which part of it runs, fix that with `{flags}`"
            )
        }
    };
    let most = open.iter().filter_map(|o| o.most).min().unwrap_or(512);
    OnnxImportError::Open {
        list: list.collect::<Vec<_>>().join(", "),
        flags: format!(
            "`{}`; several sizes (`=8,16`) and a range (`=1..{most}`) are possible too{decide}",
            flags.collect::<Vec<_>>().join(" ")
        ),
    }
}

/// The options with every range of sizes at its end, and those sizes.
pub(super) fn at_ends(options: &ReadOptions) -> (ReadOptions, Vec<(String, u64)>) {
    let (mut fixed, mut ends) = (options.clone(), Vec::new());
    for (name, range) in &mut fixed.dims {
        let end = match &*range {
            SymbolRange::Between { min, max } if min < max => *max,
            SymbolRange::OneOf(sizes) if sizes.len() > 1 => sizes.last().copied().unwrap_or(1),
            SymbolRange::Between { .. } | SymbolRange::OneOf(_) => continue,
        };
        ends.push((name.clone(), end));
        *range = SymbolRange::OneOf(vec![end]);
    }
    (fixed, ends)
}

/// The error of a model that can be read, or written, with these sizes.
pub(crate) fn varies(
    error: &At<Box<dyn Diagnostic>>,
    sizes: impl Iterator<Item = (String, u64)>,
) -> Error {
    let flags: Vec<String> = sizes
        .map(|(name, size)| format!("--dim {}={size}", quoted(&name)))
        .collect();
    let mut with_flags: Error = OnnxImportError::Varies {
        reason: error.error.to_string(),
        class: error.class(),
        code: error.code(),
        flags: flags.join(" "),
    }
    .into();
    with_flags.place = error.place.clone();
    with_flags
}

/// A name as a shell takes it.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/".contains(c);
    if name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', "'\\''"))
    }
}

impl Importer<'_> {
    /// Declares the parameters, and makes initialisers and given values known. Gives the sizes that stay open.
    pub(super) fn interface(
        &mut self,
        graph: &GraphProto,
        raw: &[Option<FileRegion>],
        options: &ReadOptions,
    ) -> Result<Vec<OpenSize>> {
        let initialised: BTreeSet<&str> = graph
            .initializer
            .iter()
            .filter_map(|t| t.name.as_deref())
            .collect();
        self.initializers(graph, raw)?;
        let mut ports = Vec::new();
        let mut given: BTreeSet<&str> = BTreeSet::new();
        for info in &graph.input {
            let name = info.name.as_deref().unwrap_or_default();
            if initialised.contains(name) {
                continue;
            }
            match options.constants.get(name) {
                Some(tensor) => {
                    given.insert(name);
                    self.given(info, tensor).at_node(name)?;
                }
                None => ports.push(port(info, options).at_node(name)?),
            }
        }
        if let Some(unknown) = options
            .constants
            .keys()
            .find(|k| !given.contains(k.as_str()))
        {
            return Err(
                option_error(format!("--constant {unknown}"), "there is no such input").into(),
            );
        }
        let sizes = sizes_from_shapes(&ports, options)?;
        let mut open = Vec::new();
        let mut declared: BTreeMap<String, Dim> = BTreeMap::new();
        for port in &ports {
            let mut shape = Vec::with_capacity(port.axes.len());
            for (axis, size) in port.axes.iter().enumerate() {
                shape.push(match size {
                    Axis::Known(n) => Dim::from(*n),
                    Axis::Named(name) => match declared.get(name) {
                        Some(dim) => dim.clone(),
                        None => {
                            let dim = self.size(name, &sizes, &declared)?;
                            declared.insert(name.clone(), dim.clone());
                            if !sizes.contains_key(name) && dim.as_symbol() == Some(name) {
                                open.push(OpenSize {
                                    symbol: name.clone(),
                                    input: port.name.to_owned(),
                                    axis,
                                    rank: port.axes.len(),
                                    most: match self.facts.get(name) {
                                        Some((Fact::AtMost(n), _)) => Some(*n),
                                        Some((Fact::Exactly(_) | Fact::Same(_), _)) | None => None,
                                    },
                                });
                            }
                            dim
                        }
                    },
                });
            }
            let known = shape.iter().filter_map(Dim::known);
            let elements = known.fold(1usize, usize::saturating_mul);
            if num::u64_of(elements) > limits::VALUE_ELEMENTS.get() {
                return Err(OnnxImportError::TooMany {
                    what: "elements of an input",
                    limit: limits::VALUE_ELEMENTS.to_string(),
                    found: elements,
                })
                .at_node(port.name);
            }
            let ty = Type::new(port.dtype, shape);
            if let Some(shape) = ty.known_shape().filter(|s| s.contains(&0)) {
                self.nothing(port, shape)?;
                continue;
            }
            let value = self.b.param(port.name, ty, Domain::Any);
            let value = value.at_node(port.name)?;
            let entry = match port.coded {
                Some(code) => Entry::Coded(value, code),
                None => Entry::Value(value),
            };
            self.define(port.name, entry).at_node(port.name)?;
        }
        Ok(open)
    }

    /// An input without elements says nothing but its type: it is a constant, and no input of the result.
    fn nothing(&mut self, port: &Port<'_>, shape: Vec<usize>) -> Result<()> {
        let zero = shape.iter().position(|&n| n == 0).unwrap_or_default();
        let empty = Tensor::from_le_bytes(port.dtype, shape, &[])?;
        let constant = Constant::from_tensor(port.name, &empty)?;
        let entry = self.stored((constant, port.coded));
        self.define(port.name, entry).at_node(port.name)?;
        self.notes.insert(format!(
            "`{}` has no elements: it is no input of the result. If its size of 0 stands for an open one, give it with `--dim {}=N`",
            port.name,
            quoted(&format!("{}.{zero}", port.name))
        ));
        Ok(())
    }

    /// The dimension of a size that varies: what the user says, else what the graph demands, else any.
    fn size(
        &mut self,
        name: &str,
        sizes: &BTreeMap<String, SymbolRange>,
        declared: &BTreeMap<String, Dim>,
    ) -> Result<Dim> {
        let facts = self.facts;
        let fact = facts.get(name);
        if let Some(fact) = fact {
            self.notes.insert(describe(name, fact));
        }
        let most = match fact.map(|(fact, _)| fact) {
            Some(Fact::Same(other)) => {
                if sizes
                    .get(name)
                    .is_some_and(|own| sizes.get(other) != Some(own))
                {
                    let range = sizes.get(name).map(display_range).unwrap_or_default();
                    let reason = fact.map(|f| describe(name, f)).unwrap_or_default();
                    return Err(option_error(format!("--dim {name}={range}"), reason).into());
                }
                return Ok(declared
                    .get(other)
                    .cloned()
                    .unwrap_or_else(|| Dim::symbol(other)));
            }
            Some(Fact::Exactly(n)) => return Ok(Dim::from(num::usize_of(*n))),
            Some(Fact::AtMost(n)) => *n,
            None => limits::DIMENSION,
        };
        let range = sizes.get(name);
        let bad = |range: &SymbolRange, reason: &str| {
            option_error(format!("--dim {name}={}", display_range(range)), reason)
        };
        let range = match range {
            Some(SymbolRange::OneOf(sizes)) => match sizes.as_slice() {
                [one] => return Ok(Dim::from(num::usize_of(*one))),
                [] => return Err(bad(&SymbolRange::OneOf(vec![]), "no size is given").into()),
                [..] => SymbolRange::OneOf(sizes.clone()),
            },
            Some(range @ SymbolRange::Between { min, max }) => {
                if min > max || *min == 0 {
                    return Err(bad(range, "the range is empty or begins at 0").into());
                }
                if min == max {
                    return Ok(Dim::from(num::usize_of(*min)));
                }
                range.clone()
            }
            None => SymbolRange::Between { min: 1, max: most },
        };
        let symbol = Symbol {
            name: name.to_owned(),
            range,
        };
        self.bounds.insert(&symbol);
        self.b.symbol(symbol)?;
        Ok(Dim::symbol(name))
    }

    /// An input whose value the user gives.
    fn given(&mut self, info: &ValueInfoProto, tensor: &Tensor) -> Result<()> {
        let name = info.name.as_deref().unwrap_or_default();
        let declared = info.r#type.as_ref().and_then(Declared::of);
        let tensor = match &declared {
            Some(declared) => {
                let (dtype, code) = element_type(declared.number)?;
                let cast = tensor.cast(dtype);
                // One number also stands for a vector of one.
                let rank = declared.shape.as_ref().map(Vec::len);
                let cast = match rank {
                    Some(rank) if cast.len() == 1 && cast.shape().len() != rank => {
                        cast.reshaped(vec![1; rank])?
                    }
                    Some(_) | None => cast,
                };
                let ty = Type::known(dtype, cast.shape());
                if !declared.admits(&ty, code.is_some()) {
                    return Err(option_error(
                        format!("--constant {name}"),
                        format!("the input takes {declared}, the value is {ty}"),
                    )
                    .into());
                }
                cast
            }
            None => tensor.clone(),
        };
        let constant = Constant::from_tensor(name, &tensor)?;
        let code = match &declared {
            Some(declared) => element_type(declared.number)?.1,
            None => None,
        };
        let entry = self.stored((constant, code));
        self.define(name, entry)?;
        Ok(())
    }
}
