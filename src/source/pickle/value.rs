//! What a pickle can hold here: plain data, storages and tensors. Whatever nests lies in one table, so that nothing recurses.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::{Map, Value as Json};

use super::globals::{self, Element, Global};
use super::numpy::Numpy;
use crate::error::shown;
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
    Tuple(Rc<[Value]>),
    /// A list.
    List(Vec<Value>),
    /// A set. Nobody asks what is in it.
    Set,
    /// A dictionary.
    Dict(Box<Dict>),
    /// A storage.
    Storage(Rc<Storage>),
    /// A tensor.
    Tensor(Rc<Tensor>),
    /// Named values, once the pickle has given them.
    Namespace(Option<Vec<(Value, Value)>>),
    /// The type of a NumPy scalar.
    NumpyType(Numpy),
    /// A device, by its name.
    Device(Rc<str>),
    /// Plain data of another kind, which is called so in messages. Nobody asks what it says.
    Other(&'static str),
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

/// A key in a form that can be compared. `True`, `1` and `1.0` are one key, as in Python.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    None,
    Int(i64),
    /// An integer of more than 64 bits.
    Long(Rc<[u8]>),
    /// The bits of a number that is no integer.
    Float(u64),
    Text(Rc<str>),
    Bytes(Rc<[u8]>),
    Tuple(Rc<[Key]>),
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
                Some(Node::Set) => "a set",
                Some(Node::Dict(_)) => "a dictionary",
                Some(Node::Storage(_)) => "a storage",
                Some(Node::Tensor(_)) => "a tensor",
                Some(Node::Namespace(_)) => "a namespace",
                Some(Node::NumpyType(_)) => "a NumPy type",
                Some(Node::Device(_)) => "a device",
                Some(Node::Other(kind)) => kind,
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
            | Node::Set
            | Node::Dict(_)
            | Node::Tensor(_)
            | Node::Namespace(_)
            | Node::NumpyType(_)
            | Node::Device(_)
            | Node::Other(_) => None,
        })
    }

    /// The value as JSON, if it is plain data; else where in it something stands that is not, and what. Element types become their names
    /// without `torch.`, as Hugging Face's libraries write them, and devices theirs; namespaces are objects.
    pub(in crate::source) fn json(&self, value: &Value) -> Result<Json, (String, &'static str)> {
        let mut writer = Writer {
            pickle: self,
            values: limits::JSON_VALUES.count(),
            bytes: limits::SIDE_FILE_BYTES.count(),
            path: Vec::new(),
        };
        let json = writer.json(value, 0);
        json.map_err(|what| (writer.path(), what))
    }
}

/// Where in a value something stands.
enum Step<'a> {
    Key(Cow<'a, str>),
    Index(usize),
}

/// Writes values out as JSON. Shared parts are written each time they are named: values and bytes are bounded, and so is the depth.
struct Writer<'a> {
    pickle: &'a Pickle,
    /// How many values are left.
    values: usize,
    /// How many bytes of text, indented, are left.
    bytes: usize,
    /// The way to what failed, innermost step first.
    path: Vec<Step<'a>>,
}

impl<'a> Writer<'a> {
    fn json(&mut self, value: &'a Value, depth: usize) -> Result<Json, &'static str> {
        if depth > limits::PICKLE_NESTING {
            return Err("a value that is nested too deeply");
        }
        self.values = self.values.checked_sub(1).ok_or("too many values")?;
        // Indentation, a comma and a line break.
        self.spend(2 * depth + 2)?;
        match value {
            Value::None => Ok(Json::Null),
            Value::Bool(b) => Ok(Json::Bool(*b)),
            Value::Int(n) => Ok(Json::from(*n)),
            Value::Text(text) => self.text(text),
            Value::Float(x) => match serde_json::Number::from_f64(*x) {
                Some(x) => Ok(Json::Number(x)),
                None => Err("a number that is not finite"),
            },
            Value::Global(global @ Global::Dtype(_)) => {
                let name = globals::name(*global);
                self.text(name.strip_prefix("torch.").unwrap_or(&name))
            }
            Value::Long(_) | Value::Bytes(_) | Value::Global(_) => Err(self.pickle.kind(value)),
            Value::Node(_) => match self.pickle.node(value) {
                Some(Node::Tuple(items)) => self.array(items, depth),
                Some(Node::List(items)) => self.array(items, depth),
                Some(Node::Device(name)) => self.text(name),
                Some(Node::Dict(dict)) => self.object(&dict.entries, depth),
                Some(Node::Namespace(entries)) => {
                    self.object(entries.as_deref().unwrap_or_default(), depth)
                }
                _ => Err(self.pickle.kind(value)),
            },
        }
    }

    fn object(
        &mut self,
        entries: &'a [(Value, Value)],
        depth: usize,
    ) -> Result<Json, &'static str> {
        let mut map = Map::new();
        for (key, value) in entries {
            let key = match key {
                Value::Text(key) => Cow::Borrowed(key.as_ref()),
                // JSON has no other keys; `json.dumps` of Python does the same with integers.
                Value::Int(n) => Cow::Owned(n.to_string()),
                Value::None
                | Value::Bool(_)
                | Value::Long(_)
                | Value::Float(_)
                | Value::Bytes(_)
                | Value::Global(_)
                | Value::Node(_) => return Err("a key that is not text"),
            };
            self.spend(key.len())?;
            let json = match self.json(value, depth + 1) {
                Ok(json) => json,
                Err(what) => return Err(self.inside(Step::Key(key), what)),
            };
            if map.insert(key.to_string(), json).is_some() {
                let what = "a key that stands twice";
                return Err(self.inside(Step::Key(key), what));
            }
        }
        Ok(Json::Object(map))
    }

    fn array(&mut self, items: &'a [Value], depth: usize) -> Result<Json, &'static str> {
        let mut out = Vec::new();
        for (i, item) in items.iter().enumerate() {
            match self.json(item, depth + 1) {
                Ok(json) => out.push(json),
                Err(what) => return Err(self.inside(Step::Index(i), what)),
            }
        }
        Ok(Json::Array(out))
    }

    fn text(&mut self, text: &str) -> Result<Json, &'static str> {
        self.spend(text.len())?;
        Ok(Json::from(text))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or("too much text")?;
        Ok(())
    }

    fn inside(&mut self, step: Step<'a>, what: &'static str) -> &'static str {
        self.path.push(step);
        what
    }

    /// The way to what failed, as Python and JavaScript write it.
    fn path(&self) -> String {
        let mut out = String::new();
        for step in self.path.iter().rev() {
            match step {
                Step::Index(i) => out.push_str(&format!("[{i}]")),
                Step::Key(key) => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(&shown(key));
                }
            }
        }
        out
    }
}
