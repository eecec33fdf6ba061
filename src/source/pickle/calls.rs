//! What the few calls that are allowed stand for: their arguments are checked and become data.

use std::rc::Rc;

use super::error::PickleError;
use super::globals::{Element, Global};
use super::machine::{Machine, described, global_of, key};
use super::value::{Dict, Node, Storage, Tensor, Value};
use crate::error::{Error, Result};
use crate::limits;
use crate::tensor::num;

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
        return Err(unknown(format!("`{kind}`")));
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
            let kinds: Vec<&str> = rest.iter().map(|v| v.kind(&machine.nodes)).collect();
            return Err(unknown(format!("a storage made of {}", kinds.join(", "))));
        }
    };
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
    let call = Call {
        machine,
        callee,
        arguments,
    };
    let Some(items) = machine.tuple_items(arguments) else {
        return Err(call.error("a tuple of arguments"));
    };
    let Some(global) = global_of(callee) else {
        return Err(call.error("the name of something that makes data"));
    };
    call.make(global, items)
}

struct Call<'a, 'b> {
    machine: &'a Machine<'b>,
    callee: &'a Value,
    arguments: &'a Value,
}

impl Call<'_, '_> {
    fn error(&self, expected: &'static str) -> Error {
        let nodes = &self.machine.nodes;
        let found = match self.machine.tuple_items(self.arguments) {
            Some([]) => "nothing".to_owned(),
            Some(items) => {
                let kinds: Vec<&str> = items.iter().map(|v| v.kind(nodes)).collect();
                kinds.join(", ")
            }
            None => self.arguments.kind(nodes).to_owned(),
        };
        PickleError::Call {
            opcode: "REDUCE",
            name: described(self.callee, nodes),
            expected,
            found,
        }
        .into()
    }

    fn make(&self, global: Global, items: &[Value]) -> Result<Made> {
        match global {
            Global::OrderedDict => self.ordered_dict(items),
            Global::Set => match items {
                [list] => {
                    let items = self.list(list).ok_or_else(|| self.error("a list"))?;
                    for item in items {
                        key("REDUCE", item, &self.machine.nodes)?;
                    }
                    Ok(Made::Node(Node::Set(items.to_vec())))
                }
                _ => Err(self.error("a list")),
            },
            Global::Encode => match items {
                [Value::Text(text), Value::Text(encoding)] if encoding.as_ref() == "latin1" => {
                    let bytes: Option<Vec<u8>> =
                        text.chars().map(|c| u8::try_from(c).ok()).collect();
                    let bytes = bytes.ok_or_else(|| self.error("text of Latin-1"))?;
                    Ok(Made::Value(Value::Bytes(bytes.into())))
                }
                _ => Err(self.error("text and `latin1`")),
            },
            Global::Size => match items {
                [sizes] if self.machine.tuple_items(sizes).is_some() => {
                    Ok(Made::Value(sizes.clone()))
                }
                _ => Err(self.error("a tuple of sizes")),
            },
            Global::Device => match items {
                [Value::Text(_)] | [Value::Text(_), Value::Int(_)] => Ok(Made::Node(Node::Device)),
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
                    let items = self
                        .machine
                        .tuple_items(inner)
                        .ok_or_else(|| self.error("a tuple of arguments"))?;
                    match self.make(*rebuild, items)? {
                        made @ Made::Node(Node::Tensor(_)) => Ok(made),
                        Made::Value(_) | Made::Node(_) => {
                            Err(self.error("a function that rebuilds a tensor"))
                        }
                    }
                }
                _ => Err(self
                    .error("a rebuilding function, a tensor type, its arguments and attributes")),
            },
            Global::TensorType | Global::Storage(_) | Global::Dtype(_) => {
                Err(self.error("no call: it only names a type"))
            }
        }
    }

    fn list(&self, value: &Value) -> Option<&[Value]> {
        if let Value::Node(i) = value
            && let Some(Node::List(items)) = self.machine.nodes.get(*i)
        {
            return Some(items);
        }
        None
    }

    /// `OrderedDict()`, or `OrderedDict([[key, value], …])` as Python 2 wrote it.
    fn ordered_dict(&self, items: &[Value]) -> Result<Made> {
        let mut dict = Dict {
            ordered: true,
            ..Dict::default()
        };
        let pairs = match items {
            [] => &[][..],
            [pairs] => self
                .list(pairs)
                .ok_or_else(|| self.error("nothing, or a list of pairs"))?,
            _ => return Err(self.error("nothing, or a list of pairs")),
        };
        for pair in pairs {
            let pair = self.list(pair).or_else(|| self.machine.tuple_items(pair));
            let Some([k, v]) = pair else {
                return Err(self.error("nothing, or a list of pairs"));
            };
            if !dict.keys.insert(key("REDUCE", k, &self.machine.nodes)?) {
                return Err(self.error("each key once"));
            }
            dict.entries.push((k.clone(), v.clone()));
        }
        Ok(Made::Node(Node::Dict(dict)))
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
        if let Value::Node(i) = tensor
            && let Some(Node::Tensor(_)) = self.machine.nodes.get(*i)
        {
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
        &self,
        storage: &Value,
        offset: &Value,
        shape: &Value,
        strides: &Value,
        element: Option<Element>,
    ) -> Result<Made> {
        let Value::Node(at) = storage else {
            return Err(self.error("a storage"));
        };
        let Some(Node::Storage(storage)) = self.machine.nodes.get(*at) else {
            return Err(self.error("a storage"));
        };
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
        Ok(Made::Node(Node::Tensor(Rc::new(Tensor {
            storage: Rc::clone(storage),
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
