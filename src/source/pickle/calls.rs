//! What the few calls that are allowed stand for: their arguments are checked and become data.

use std::rc::Rc;

use super::error::PickleError;
use super::globals::{Element, Global};
use super::machine::{ALLOCATION, BYTE_ARRAY, LISTED, Machine, described, global_of};
use super::numpy::{Numpy, Scalar};
use super::value::{Dict, Node, Storage, Tensor, Value};
use crate::error::{Error, Result, shown};
use crate::limits;
use crate::tensor::num;

/// What a complex number is called in messages.
const COMPLEX: &str = "a complex number";

/// What a call gave.
pub(super) enum Made {
    Value(Value),
    Node(Node),
}

/// The storage that a persistent id names.
///
/// # Errors
/// When it names anything else.
pub(super) fn storage(machine: &Machine<'_>, id: &Value) -> Result<Node> {
    let unknown = |found: String| Error::from(PickleError::PersistentId { found });
    let Some(items) = machine.tuple_items(id) else {
        return Err(unknown(id.kind(&machine.nodes).to_owned()));
    };
    let Some((Value::Text(kind), rest)) = items.split_first() else {
        return Err(unknown("a tuple without a kind".to_owned()));
    };
    if kind.as_ref() != "storage" {
        return Err(unknown(format!("`{}`", shown(kind))));
    }
    // Old layouts add what the storage is a view of; nobody has written one since 2017.
    let (element, key, len) = match rest {
        [
            Value::Global(Global::Storage(element)),
            Value::Text(key),
            Value::Text(_),
            Value::Int(len),
        ]
        | [
            Value::Global(Global::Storage(element)),
            Value::Text(key),
            Value::Text(_),
            Value::Int(len),
            Value::None,
        ] => (*element, key, *len),
        _ => {
            let found = format!("a storage made of {}", kinds(machine, rest));
            return Err(unknown(found));
        }
    };
    if key.len() > limits::PICKLE_KEY_BYTES {
        return Err(unknown(format!("a storage named `{}`", shown(key))));
    }
    let len = u64::try_from(len)
        .ok()
        .filter(|&n| n <= limits::ELEMENTS)
        .ok_or_else(|| unknown(format!("a storage of {len} elements")))?;
    Ok(Node::Storage(Rc::new(Storage {
        key: Rc::clone(key),
        element,
        len,
    })))
}

/// What `REDUCE` makes of a name and its arguments.
///
/// # Errors
/// When the name is not of something that makes data, or the arguments do not fit.
pub(super) fn reduce(machine: &mut Machine<'_>, callee: &Value, arguments: &Value) -> Result<Made> {
    let items = machine.tuple_items(arguments).cloned();
    let mut call = Call {
        machine,
        callee,
        arguments,
    };
    let Some(items) = items else {
        return Err(call.error("a tuple of arguments"));
    };
    let Some(global) = global_of(callee) else {
        return Err(call.error("the name of something that makes data"));
    };
    call.make(global, &items)
}

struct Call<'a, 'b> {
    machine: &'a mut Machine<'b>,
    callee: &'a Value,
    arguments: &'a Value,
}

/// What values are, for messages.
fn kinds(machine: &Machine<'_>, items: &[Value]) -> String {
    let shown = items.iter().take(LISTED);
    let mut kinds: Vec<&str> = shown.map(|v| v.kind(&machine.nodes)).collect();
    if items.len() > LISTED {
        kinds.push("…");
    }
    kinds.join(", ")
}

impl Call<'_, '_> {
    fn error(&self, expected: &'static str) -> Error {
        let machine = &*self.machine;
        let found = match machine.tuple_items(self.arguments).map(|items| &**items) {
            Some([]) => "nothing".to_owned(),
            Some(items) => kinds(machine, items),
            None => self.arguments.kind(&machine.nodes).to_owned(),
        };
        PickleError::Call {
            opcode: "REDUCE",
            name: described(self.callee, &machine.nodes),
            expected,
            found,
        }
        .into()
    }

    fn make(&mut self, global: Global, items: &[Value]) -> Result<Made> {
        match global {
            Global::OrderedDict => self.ordered_dict(items),
            Global::Counter => self.counter(items),
            Global::DefaultDict => match items {
                []
                | [Value::None]
                | [
                    Value::Global(
                        Global::Factory(_)
                        | Global::Set
                        | Global::Counter
                        | Global::OrderedDict
                        | Global::DefaultDict,
                    ),
                ] => Ok(Made::Node(Node::Dict(Box::default()))),
                _ => Err(self.error("nothing, or the name of a plain type")),
            },
            Global::NumpyType => match items {
                [
                    Value::Text(code),
                    Value::Bool(_) | Value::Int(0 | 1),
                    Value::Bool(_) | Value::Int(0 | 1),
                ] => match Numpy::of(code) {
                    Some(numpy) => Ok(Made::Node(Node::NumpyType(numpy))),
                    None => Err(self.error("the code of a number's type")),
                },
                _ => Err(self.error("the code of a number's type and two flags")),
            },
            Global::NumpyScalar => self.numpy_scalar(items),
            Global::Set => match items {
                [list] => {
                    let items = self.list(list).ok_or_else(|| self.error("a list"))?;
                    self.machine.hashable("REDUCE", &items)?;
                    Ok(Made::Node(Node::Set))
                }
                _ => Err(self.error("a list")),
            },
            Global::Encode => match items {
                [Value::Text(text), Value::Text(encoding)] => self.encode(text, encoding),
                _ => Err(self.error("text and `latin1`")),
            },
            Global::ByteArray => {
                match items {
                    [] | [Value::Bytes(_)] => {}
                    [Value::Text(text), Value::Text(encoding)] => {
                        self.encode(text, encoding)?;
                    }
                    _ => return Err(self.error("bytes, or text and `latin-1`")),
                }
                Ok(Made::Node(Node::Other(BYTE_ARRAY)))
            }
            Global::Complex => match items {
                [Value::Float(_), Value::Float(_)] => Ok(Made::Node(Node::Other(COMPLEX))),
                _ => Err(self.error("two numbers")),
            },
            Global::Layout => match items {
                [Value::Text(name)] if name.starts_with("torch.") => {
                    Ok(Made::Node(Node::Other("a layout")))
                }
                _ => Err(self.error("the name of a layout")),
            },
            Global::Size => match items {
                [sizes] if self.machine.tuple_items(sizes).is_some() => {
                    Ok(Made::Value(sizes.clone()))
                }
                _ => Err(self.error("a tuple of sizes")),
            },
            Global::Device => match items {
                [Value::Text(name)] => Ok(Made::Node(Node::Device(Rc::clone(name)))),
                [Value::Text(name), Value::Int(index)] => {
                    self.machine.charge(name.len() + ALLOCATION)?;
                    let name = format!("{name}:{index}");
                    Ok(Made::Node(Node::Device(name.into())))
                }
                _ => Err(self.error("the name of a device")),
            },
            Global::RebuildTensor => match items {
                [storage, offset, shape, strides] => {
                    self.tensor(storage, offset, shape, strides, None)
                }
                _ => Err(self.error("a storage, an offset, a shape and strides")),
            },
            Global::RebuildTensorV2 => match items {
                [
                    storage,
                    offset,
                    shape,
                    strides,
                    Value::Bool(_),
                    hooks,
                    rest @ ..,
                ] => {
                    self.nothing_else(hooks, rest)?;
                    self.tensor(storage, offset, shape, strides, None)
                }
                _ => Err(self.error("a storage, an offset, a shape, strides, a flag and no hooks")),
            },
            Global::RebuildTensorV3 => match items {
                [
                    storage,
                    offset,
                    shape,
                    strides,
                    Value::Bool(_),
                    hooks,
                    Value::Global(Global::Dtype(element)),
                    rest @ ..,
                ] => {
                    self.nothing_else(hooks, rest)?;
                    self.tensor(storage, offset, shape, strides, Some(*element))
                }
                _ => Err(self.error(
                    "a storage, an offset, a shape, strides, a flag, no hooks and an element type",
                )),
            },
            Global::RebuildParameter => match items {
                [tensor, Value::Bool(_), hooks] => {
                    self.nothing_else(hooks, &[])?;
                    self.same(tensor)
                }
                _ => Err(self.error("a tensor, a flag and no hooks")),
            },
            Global::RebuildParameterWithState => match items {
                [tensor, Value::Bool(_), hooks, _] => {
                    self.nothing_else(hooks, &[])?;
                    self.same(tensor)
                }
                _ => Err(self.error("a tensor, a flag, no hooks and attributes")),
            },
            Global::RebuildFromType => match items {
                [
                    Value::Global(rebuild),
                    Value::Global(Global::TensorType),
                    inner,
                    _,
                ] if *rebuild != Global::RebuildFromType => {
                    let items = self.machine.tuple_items(inner).cloned();
                    let items = items.ok_or_else(|| self.error("a tuple of arguments"))?;
                    match self.make(*rebuild, &items)? {
                        made @ Made::Node(Node::Tensor(_)) => Ok(made),
                        Made::Value(_) | Made::Node(_) => {
                            Err(self.error("a function that rebuilds a tensor"))
                        }
                    }
                }
                _ => Err(self
                    .error("a rebuilding function, a tensor type, its arguments and attributes")),
            },
            Global::TensorType
            | Global::Storage(_)
            | Global::Dtype(_)
            | Global::Constant(_)
            | Global::Factory(_)
            | Global::Namespace => Err(self.error("no call: it only names a type or a constant")),
        }
    }

    /// A copy of the elements, if the value is a list.
    fn list(&self, value: &Value) -> Option<Vec<Value>> {
        match self.machine.node(value) {
            Some(Node::List(items)) => Some(items.clone()),
            _ => None,
        }
    }

    /// Bytes, written as the text that has them as its characters.
    fn encode(&mut self, text: &Rc<str>, encoding: &Rc<str>) -> Result<Made> {
        if !matches!(encoding.as_ref(), "latin1" | "latin-1") {
            return Err(self.error("text and `latin1`"));
        }
        // Counted as what decoding takes beside copying.
        self.machine.charge(4 * text.len() + ALLOCATION)?;
        if text.is_ascii() {
            return Ok(Made::Value(Value::Bytes(text.as_bytes().into())));
        }
        let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
        let bytes = bytes.ok_or_else(|| self.error("text of Latin-1"))?;
        Ok(Made::Value(Value::Bytes(bytes.into())))
    }

    /// `OrderedDict()`, or `OrderedDict([[key, value], …])` as Python 2 wrote it.
    fn ordered_dict(&mut self, items: &[Value]) -> Result<Made> {
        const EXPECTED: &str = "nothing, or a list of pairs";
        let mut dict = Dict {
            ordered: true,
            ..Dict::default()
        };
        let pairs = match items {
            [] => Vec::new(),
            [pairs] => self.list(pairs).ok_or_else(|| self.error(EXPECTED))?,
            _ => return Err(self.error(EXPECTED)),
        };
        for pair in pairs {
            let (key, value) = match self.machine.node(&pair) {
                Some(Node::List(pair)) => match pair.as_slice() {
                    [key, value] => (key.clone(), value.clone()),
                    _ => return Err(self.error(EXPECTED)),
                },
                Some(Node::Tuple(pair)) => match &**pair {
                    [key, value] => (key.clone(), value.clone()),
                    _ => return Err(self.error(EXPECTED)),
                },
                _ => return Err(self.error(EXPECTED)),
            };
            self.machine.insert("REDUCE", &mut dict, &key, &value)?;
        }
        Ok(Made::Node(Node::Dict(Box::new(dict))))
    }

    /// A NumPy scalar becomes the number that it is.
    fn numpy_scalar(&mut self, items: &[Value]) -> Result<Made> {
        const EXPECTED: &str =
            "a NumPy type whose byte order is known, and the bytes of one number";
        let [numpy, Value::Bytes(bytes)] = items else {
            return Err(self.error(EXPECTED));
        };
        let scalar = match self.machine.node(numpy) {
            Some(Node::NumpyType(numpy)) => numpy.scalar(bytes),
            _ => None,
        };
        match scalar.ok_or_else(|| self.error(EXPECTED))? {
            Scalar::Value(value) => Ok(Made::Value(value)),
            Scalar::Long(bytes) => {
                self.machine.charge(bytes.len() + ALLOCATION)?;
                Ok(Made::Value(Value::Long(bytes.into())))
            }
            Scalar::Complex => Ok(Made::Node(Node::Other(COMPLEX))),
        }
    }

    /// `Counter({key: count, …})`: a copy, as Python makes one.
    fn counter(&mut self, items: &[Value]) -> Result<Made> {
        let counts = match items {
            [] => Vec::new(),
            [counts] => match self.machine.node(counts) {
                Some(Node::Dict(counts)) => counts.entries.clone(),
                _ => return Err(self.error("nothing, or a dictionary")),
            },
            _ => return Err(self.error("nothing, or a dictionary")),
        };
        let mut dict = Dict::default();
        for (key, value) in counts {
            self.machine.insert("REDUCE", &mut dict, &key, &value)?;
        }
        Ok(Made::Node(Node::Dict(Box::new(dict))))
    }

    /// Refuses hooks, which are code, and metadata such as a negated or conjugated view, which would change the values.
    fn nothing_else(&self, hooks: &Value, metadata: &[Value]) -> Result<()> {
        let empty = |value: &Value| match value {
            Value::None => true,
            Value::Node(i) => match self.machine.nodes.get(*i) {
                Some(Node::Dict(dict)) => dict.entries.is_empty(),
                Some(_) | None => false,
            },
            Value::Bool(_)
            | Value::Int(_)
            | Value::Long(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Bytes(_)
            | Value::Global(_) => false,
        };
        if !empty(hooks) {
            return Err(self.error("no hooks"));
        }
        match metadata {
            [] => Ok(()),
            [metadata] if empty(metadata) => Ok(()),
            _ => Err(self.error("no metadata that changes the values")),
        }
    }

    fn same(&self, tensor: &Value) -> Result<Made> {
        if let Some(Node::Tensor(_)) = self.machine.node(tensor) {
            return Ok(Made::Value(tensor.clone()));
        }
        Err(self.error("a tensor"))
    }

    fn sizes(&self, value: &Value) -> Result<Vec<u64>> {
        let wrong = || self.error("sizes and strides as tuples of numbers that are not negative");
        let items = self.machine.tuple_items(value).ok_or_else(wrong)?;
        if items.len() > limits::RANK.count() {
            return Err(self.error("fewer dimensions"));
        }
        items.iter().map(|v| count(v).ok_or_else(wrong)).collect()
    }

    fn tensor(
        &mut self,
        storage: &Value,
        offset: &Value,
        shape: &Value,
        strides: &Value,
        element: Option<Element>,
    ) -> Result<Made> {
        let Some(Node::Storage(storage)) = self.machine.node(storage) else {
            return Err(self.error("a storage"));
        };
        let storage = Rc::clone(storage);
        let element = element.unwrap_or(storage.element);
        let offset = count(offset).ok_or_else(|| self.error("an offset that is not negative"))?;
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        if shape.len() != strides.len() {
            return Err(self.error("as many strides as dimensions"));
        }
        let width = element.bytes();
        let bytes = storage.len.checked_mul(storage.element.bytes());
        let last = last_element(offset, &shape, &strides);
        let fits = match (last, bytes) {
            // A tensor without elements looks at nothing.
            (Some(None), Some(_)) => true,
            (Some(Some(last)), Some(bytes)) => last
                .checked_add(1)
                .and_then(|n| n.checked_mul(width))
                .is_some_and(|end| end <= bytes),
            (None, _) | (_, None) => false,
        };
        if !fits {
            return Err(self.error("a view that stays within its storage"));
        }
        let extents = (shape.len() + strides.len()) * size_of::<u64>();
        self.machine
            .charge(size_of::<Tensor>() + extents + 3 * ALLOCATION)?;
        Ok(Made::Node(Node::Tensor(Rc::new(Tensor {
            storage,
            element,
            offset,
            shape,
            strides,
        }))))
    }
}

fn count(value: &Value) -> Option<u64> {
    if let Value::Int(n) = value {
        return u64::try_from(*n).ok();
    }
    None
}

/// The index of the last element that a view looks at; `Some(None)` when it has none, `None` when it is beyond any storage.
fn last_element(offset: u64, shape: &[u64], strides: &[u64]) -> Option<Option<u64>> {
    let total = shape
        .iter()
        .filter(|&&d| d != 0)
        .try_fold(1u64, |n, &d| n.checked_mul(d))?;
    if total > limits::ELEMENTS {
        return None;
    }
    if shape.contains(&0) {
        return Some(None);
    }
    let mut last = offset;
    for (&extent, &stride) in shape.iter().zip(strides) {
        last = last.checked_add((extent - 1).checked_mul(stride)?)?;
    }
    (last <= num::u64_of(usize::MAX)).then_some(Some(last))
}
