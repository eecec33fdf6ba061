//! What a pickle can hold here: plain data, storages and tensors. Whatever nests lies in one table, so that nothing recurses.

use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::{Map, Value as Json};

use super::globals::{Element, Global};
use crate::limits;

/// A value. Copies are cheap.
#[derive(Clone, Debug)]
pub(in crate::source) enum Value {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A longer integer, little endian, two's complement.
    Long(Rc<[u8]>),
    /// A number.
    Float(f64),
    /// Text.
    Text(Rc<str>),
    /// Bytes.
    Bytes(Rc<[u8]>),
    /// The name of a type or of a rebuilding function.
    Global(Global),
    /// An entry of the table.
    Node(usize),
}

/// A container, a storage or a tensor.
#[derive(Clone, Debug)]
pub(in crate::source) enum Node {
    /// A tuple.
    Tuple(Vec<Value>),
    /// A list.
    List(Vec<Value>),
    /// A set.
    Set(Vec<Value>),
    /// A dictionary.
    Dict(Dict),
    /// A storage.
    Storage(Rc<Storage>),
    /// A tensor.
    Tensor(Rc<Tensor>),
    /// A device; what it says does not matter.
    Device,
}

/// A dictionary in the order of its entries.
#[derive(Clone, Debug, Default)]
pub(in crate::source) struct Dict {
    /// The entries.
    pub(in crate::source) entries: Vec<(Value, Value)>,
    /// Their keys, to find one that stands twice.
    pub(super) keys: BTreeSet<Key>,
    /// Whether it is an `OrderedDict`, which may carry attributes.
    pub(super) ordered: bool,
}

/// A key in a form that can be compared. `True` and `1` are one key, as in Python.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    None,
    Int(i64),
    Text(Rc<str>),
    Bytes(Rc<[u8]>),
}

/// Bytes that tensors look into.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::source) struct Storage {
    /// Its name in the file.
    pub(in crate::source) key: Rc<str>,
    /// Type of the elements; untyped storages count bytes.
    pub(in crate::source) element: Element,
    /// Number of elements.
    pub(in crate::source) len: u64,
}

/// A view into a storage.
#[derive(Debug)]
pub(in crate::source) struct Tensor {
    /// Where the elements are.
    pub(in crate::source) storage: Rc<Storage>,
    /// Type of the elements.
    pub(in crate::source) element: Element,
    /// First element.
    pub(in crate::source) offset: u64,
    /// Shape.
    pub(in crate::source) shape: Vec<u64>,
    /// Distances between neighbours along each axis, in elements.
    pub(in crate::source) strides: Vec<u64>,
}

/// A pickle that was read to its end.
#[derive(Debug)]
pub(in crate::source) struct Pickle {
    /// What it stands for.
    pub(in crate::source) root: Value,
    /// Where it ends in the file.
    pub(in crate::source) end: u64,
    pub(super) nodes: Vec<Node>,
}

impl Value {
    /// What it is, for messages.
    pub(super) fn kind(&self, nodes: &[Node]) -> &'static str {
        match self {
            Value::None => "`None`",
            Value::Bool(_) => "a truth value",
            Value::Int(_) | Value::Long(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::Global(_) => "a name",
            Value::Node(i) => match nodes.get(*i) {
                Some(Node::Tuple(_)) => "a tuple",
                Some(Node::List(_)) => "a list",
                Some(Node::Set(_)) => "a set",
                Some(Node::Dict(_)) => "a dictionary",
                Some(Node::Storage(_)) => "a storage",
                Some(Node::Tensor(_)) => "a tensor",
                Some(Node::Device) => "a device",
                None => "nothing",
            },
        }
    }
}

impl Pickle {
    fn node(&self, value: &Value) -> Option<&Node> {
        match value {
            Value::Node(i) => self.nodes.get(*i),
            Value::None
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Long(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Bytes(_)
            | Value::Global(_) => None,
        }
    }

    /// What a value is, for messages.
    pub(in crate::source) fn kind(&self, value: &Value) -> &'static str {
        value.kind(&self.nodes)
    }

    /// The entries, if the value is a dictionary.
    pub(in crate::source) fn dict(&self, value: &Value) -> Option<&[(Value, Value)]> {
        match self.node(value) {
            Some(Node::Dict(dict)) => Some(&dict.entries),
            _ => None,
        }
    }

    /// The elements, if the value is a list.
    pub(in crate::source) fn list(&self, value: &Value) -> Option<&[Value]> {
        match self.node(value) {
            Some(Node::List(items)) => Some(items),
            _ => None,
        }
    }

    /// The tensor, if the value is one.
    pub(in crate::source) fn tensor(&self, value: &Value) -> Option<&Rc<Tensor>> {
        match self.node(value) {
            Some(Node::Tensor(tensor)) => Some(tensor),
            _ => None,
        }
    }

    /// Every storage that is named, in the order of their appearance.
    pub(in crate::source) fn storages(&self) -> impl Iterator<Item = &Rc<Storage>> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Storage(storage) => Some(storage),
            Node::Tuple(_)
            | Node::List(_)
            | Node::Set(_)
            | Node::Dict(_)
            | Node::Tensor(_)
            | Node::Device => None,
        })
    }

    /// The value as JSON, if it is plain data; else where in it something stands that is not, and what.
    pub(in crate::source) fn json(&self, value: &Value) -> Result<Json, (String, &'static str)> {
        let mut budget = limits::JSON_VALUES.count();
        self.json_at(value, "", 0, &mut budget)
    }

    /// Shared parts are written out each time they are named: their number is bounded, and so is the depth.
    fn json_at(
        &self,
        value: &Value,
        path: &str,
        depth: usize,
        budget: &mut usize,
    ) -> Result<Json, (String, &'static str)> {
        let fail = |what| Err((path.to_owned(), what));
        if depth > limits::PICKLE_NESTING {
            return fail("a value that is nested too deeply");
        }
        match budget.checked_sub(1) {
            Some(left) => *budget = left,
            None => return fail("too many values"),
        }
        match value {
            Value::None => Ok(Json::Null),
            Value::Bool(b) => Ok(Json::Bool(*b)),
            Value::Int(n) => Ok(Json::from(*n)),
            Value::Text(text) => Ok(Json::from(text.as_ref())),
            Value::Float(x) => match serde_json::Number::from_f64(*x) {
                Some(x) => Ok(Json::Number(x)),
                None => fail("a number that is not finite"),
            },
            Value::Long(_) | Value::Bytes(_) | Value::Global(_) => fail(self.kind(value)),
            Value::Node(_) => match self.node(value) {
                Some(Node::List(items) | Node::Tuple(items)) => {
                    let items = items.iter().enumerate().map(|(i, item)| {
                        self.json_at(item, &format!("{path}[{i}]"), depth + 1, budget)
                    });
                    items.collect::<Result<Vec<_>, _>>().map(Json::Array)
                }
                Some(Node::Dict(dict)) => {
                    let mut map = Map::new();
                    for (key, value) in &dict.entries {
                        let key = match key {
                            Value::Text(key) => key.to_string(),
                            // JSON has no other keys; `json.dumps` of Python does the same with integers.
                            Value::Int(n) => n.to_string(),
                            Value::None
                            | Value::Bool(_)
                            | Value::Long(_)
                            | Value::Float(_)
                            | Value::Bytes(_)
                            | Value::Global(_)
                            | Value::Node(_) => return fail("a key that is not text"),
                        };
                        let inner = match path {
                            "" => key.clone(),
                            _ => format!("{path}.{key}"),
                        };
                        let json = self.json_at(value, &inner, depth + 1, budget)?;
                        if map.insert(key, json).is_some() {
                            return Err((inner, "a key that stands twice"));
                        }
                    }
                    Ok(Json::Object(map))
                }
                _ => fail(self.kind(value)),
            },
        }
    }
}
