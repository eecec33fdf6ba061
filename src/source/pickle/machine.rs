//! The stack machine: one function per group of opcodes, none of which can run anything.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::calls;
use super::error::PickleError;
use super::globals::{self, Global};
use super::input::Input;
use super::value::{Dict, Key, Node, Pickle, Value};
use crate::error::{Context, Error, Result};
use crate::limits;
use crate::tensor::num;

/// Opcodes that are known and refused, with the reason why no checkpoint has them here.
const REFUSED: &[(u8, &str)] = &[
    // Objects and calls of other kinds.
    (b'i', "INST"),
    (b'o', "OBJ"),
    (0x81, "NEWOBJ"),
    (0x92, "NEWOBJ_EX"),
    // Names behind numbers, from a registry that only Python has.
    (0x82, "EXT1"),
    (0x83, "EXT2"),
    (0x84, "EXT4"),
    // Text forms of protocol 0 and containers of protocol 1.
    (b'P', "PERSID"),
    (b'I', "INT"),
    (b'L', "LONG"),
    (b'F', "FLOAT"),
    (b'S', "STRING"),
    (b'V', "UNICODE"),
    (b'g', "GET"),
    (b'p', "PUT"),
    (b'l', "LIST"),
    (b'd', "DICT"),
    // Only pickles of things that contain themselves need these.
    (b'0', "POP"),
    (b'1', "POP_MARK"),
    (b'2', "DUP"),
    // Bytes from outside the pickle.
    (0x96, "BYTEARRAY8"),
    (0x97, "NEXT_BUFFER"),
    (0x98, "READONLY_BUFFER"),
];

pub(super) fn run(input: Input<'_>) -> Result<Pickle> {
    let mut machine = Machine {
        input,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        nodes: Vec::new(),
        depths: Vec::new(),
        values: 0,
    };
    machine.run()
}

pub(super) struct Machine<'a> {
    input: Input<'a>,
    stack: Vec<Value>,
    /// Height of the stack at each open mark.
    marks: Vec<usize>,
    memo: BTreeMap<u64, Value>,
    pub(super) nodes: Vec<Node>,
    /// How deep each node nests, as far as is known when it is filled.
    depths: Vec<usize>,
    values: usize,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Pickle> {
        let start = self.input.offset();
        self.protocol().at_offset(start)?;
        loop {
            let at = self.input.offset();
            self.input.opcode = "STOP";
            let code = self.input.byte().at_offset(at)?;
            if let Some(root) = self.step(code).at_offset(at)? {
                return Ok(Pickle {
                    root,
                    end: self.input.offset(),
                    nodes: std::mem::take(&mut self.nodes),
                });
            }
        }
    }

    fn protocol(&mut self) -> Result<()> {
        match self.input.array()? {
            [0x80, 2..=5] => Ok(()),
            [0x80, version] => Err(PickleError::Protocol {
                found: format!("protocol {version}"),
            }
            .into()),
            [first, _] => Err(PickleError::Protocol {
                found: format!("no protocol, but byte {first:#04x}"),
            }
            .into()),
        }
    }

    /// Executes one opcode; gives the result after the last.
    fn step(&mut self, code: u8) -> Result<Option<Value>> {
        match code {
            b'.' => return self.stop().map(Some),
            b'N' => self.push("NONE", Value::None)?,
            0x88 => self.push("NEWTRUE", Value::Bool(true))?,
            0x89 => self.push("NEWFALSE", Value::Bool(false))?,
            b'J' | b'K' | b'M' | 0x8a | 0x8b => self.integer(code)?,
            b'G' => {
                self.input.opcode = "BINFLOAT";
                let x = f64::from_be_bytes(self.input.array()?);
                self.push("BINFLOAT", Value::Float(x))?;
            }
            b'X' | 0x8c | 0x8d | b'T' | b'U' => self.text(code)?,
            b'B' | b'C' | 0x8e => self.bytes(code)?,
            b'(' => {
                if self.marks.len() >= limits::PICKLE_NESTING {
                    return Err(limit("open marks", limits::PICKLE_NESTING));
                }
                self.marks.push(self.stack.len());
            }
            b')' | b']' | b'}' | 0x8f => self.empty(code)?,
            b't' | 0x85..=0x87 => self.tuple(code)?,
            0x91 => {
                let items = self.above_mark("FROZENSET")?;
                self.set("FROZENSET", None, items)?;
            }
            b'a' | b'e' | 0x90 | b's' | b'u' => self.fill(code)?,
            b'h' | b'j' | b'q' | b'r' | 0x94 => self.memo(code)?,
            b'c' | 0x93 => self.global(code)?,
            b'Q' => {
                let id = self.pop("BINPERSID")?;
                let storage = calls::storage(self, &id)?;
                self.push_node("BINPERSID", storage)?;
            }
            b'R' => {
                let arguments = self.pop("REDUCE")?;
                let callee = self.pop("REDUCE")?;
                let made = calls::reduce(self, &callee, &arguments)?;
                match made {
                    calls::Made::Value(value) => self.push("REDUCE", value)?,
                    calls::Made::Node(node) => self.push_node("REDUCE", node)?,
                }
            }
            b'b' => self.build()?,
            0x95 => {
                self.input.opcode = "FRAME";
                let len = u64::from_le_bytes(self.input.array()?);
                if len > self.input.left() {
                    return Err(PickleError::Truncated { opcode: "FRAME" }.into());
                }
            }
            other => return Err(self.refuse(other)),
        }
        Ok(None)
    }

    /// The error for an opcode that is not executed, with the name it asks for.
    fn refuse(&mut self, code: u8) -> Error {
        let known = REFUSED.iter().find(|(c, _)| *c == code);
        let opcode = match (code, known) {
            (0x80, _) => "PROTO".to_owned(),
            (_, Some((_, name))) => (*name).to_owned(),
            (_, None) => format!("{code:#04x}"),
        };
        let name = match code {
            b'i' => {
                let lines = [self.input.line(), self.input.line()];
                lines.into_iter().collect::<Result<Vec<_>>>().ok()
            }
            .map(|lines| lines.join(".")),
            b'P' => self.input.line().ok(),
            0x82 => self.input.byte().ok().map(|n| format!("extension {n}")),
            0x83 => {
                let n = self.input.array().ok().map(u16::from_le_bytes);
                n.map(|n| format!("extension {n}"))
            }
            0x84 => {
                let n = self.input.array().ok().map(i32::from_le_bytes);
                n.map(|n| format!("extension {n}"))
            }
            b'o' => {
                let at = self.marks.last().copied().unwrap_or_default();
                self.stack.get(at).and_then(callee_name)
            }
            0x81 => self.stack.iter().rev().nth(1).and_then(callee_name),
            0x92 => self.stack.iter().rev().nth(2).and_then(callee_name),
            _ => None,
        };
        PickleError::Opcode { opcode, name }.into()
    }

    fn stop(&mut self) -> Result<Value> {
        let root = self.pop("STOP")?;
        if self.stack.is_empty() && self.marks.is_empty() {
            return Ok(root);
        }
        Err(stack("STOP", "one value", "more"))
    }

    // Values.

    fn count(&mut self, n: usize) -> Result<()> {
        self.values = self.values.saturating_add(n);
        if self.values > limits::PICKLE_VALUES.count() {
            return Err(limit("values", &limits::PICKLE_VALUES));
        }
        Ok(())
    }

    fn push(&mut self, _opcode: &'static str, value: Value) -> Result<()> {
        self.count(1)?;
        self.stack.push(value);
        Ok(())
    }

    fn push_node(&mut self, opcode: &'static str, node: Node) -> Result<()> {
        let depth = match &node {
            Node::Tuple(items) | Node::List(items) | Node::Set(items) => self.depth(items),
            Node::Dict(dict) => {
                let values = dict.entries.iter().map(|(_, v)| self.depth_of(v));
                values.max().unwrap_or(0)
            }
            Node::Storage(_) | Node::Tensor(_) | Node::Device => 0,
        };
        if depth >= limits::PICKLE_NESTING {
            return Err(limit("levels of containers", limits::PICKLE_NESTING));
        }
        self.nodes.push(node);
        self.depths.push(depth + 1);
        self.push(opcode, Value::Node(self.nodes.len() - 1))
    }

    fn depth_of(&self, value: &Value) -> usize {
        if let Value::Node(i) = value {
            return self.depths.get(*i).copied().unwrap_or_default();
        }
        0
    }

    fn depth(&self, items: &[Value]) -> usize {
        items.iter().map(|v| self.depth_of(v)).max().unwrap_or(0)
    }

    fn pop(&mut self, opcode: &'static str) -> Result<Value> {
        let floor = self.marks.last().copied().unwrap_or_default();
        if self.stack.len() > floor
            && let Some(value) = self.stack.pop()
        {
            return Ok(value);
        }
        Err(stack(opcode, "a value", "nothing"))
    }

    /// The values above the last mark, which is closed.
    fn above_mark(&mut self, opcode: &'static str) -> Result<Vec<Value>> {
        match self.marks.pop() {
            Some(at) => Ok(self.stack.split_off(at)),
            None => Err(stack(opcode, "a mark", "none")),
        }
    }

    /// The elements, if the value is a tuple.
    pub(super) fn tuple_items(&self, value: &Value) -> Option<&[Value]> {
        match value {
            Value::Node(i) => match self.nodes.get(*i) {
                Some(Node::Tuple(items)) => Some(items),
                Some(_) | None => None,
            },
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

    fn integer(&mut self, code: u8) -> Result<()> {
        self.input.opcode = match code {
            b'J' => "BININT",
            b'K' => "BININT1",
            b'M' => "BININT2",
            0x8a => "LONG1",
            _ => "LONG4",
        };
        let opcode = self.input.opcode;
        let value = match code {
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.input.array()?))),
            b'K' => Value::Int(i64::from(self.input.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.input.array()?))),
            _ => {
                let len = match code {
                    0x8a => u64::from(self.input.byte()?),
                    // A negative length is read as one that no file has.
                    _ => u64::from(u32::from_le_bytes(self.input.array()?)),
                };
                if len > limits::PICKLE_INTEGER_BYTES {
                    return Err(PickleError::Limit {
                        what: "bytes in one integer",
                        cap: limits::PICKLE_INTEGER_BYTES.to_string(),
                    }
                    .into());
                }
                let bytes = self.input.take(len)?;
                if bytes.len() > 8 {
                    Value::Long(bytes.into())
                } else {
                    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
                    let mut wide = [if negative { 0xff } else { 0 }; 8];
                    wide[..bytes.len()].copy_from_slice(&bytes);
                    Value::Int(i64::from_le_bytes(wide))
                }
            }
        };
        self.push(opcode, value)
    }

    fn length(&mut self, width: u8) -> Result<u64> {
        Ok(match width {
            1 => u64::from(self.input.byte()?),
            4 => u64::from(u32::from_le_bytes(self.input.array()?)),
            _ => u64::from_le_bytes(self.input.array()?),
        })
    }

    fn text(&mut self, code: u8) -> Result<()> {
        let (opcode, width) = match code {
            b'X' => ("BINUNICODE", 4),
            0x8c => ("SHORT_BINUNICODE", 1),
            0x8d => ("BINUNICODE8", 8),
            b'T' => ("BINSTRING", 4),
            _ => ("SHORT_BINSTRING", 1),
        };
        self.input.opcode = opcode;
        let len = self.length(width)?;
        let bytes = self.input.take(len)?;
        match String::from_utf8(bytes) {
            Ok(text) => self.push(opcode, Value::Text(text.into())),
            // Strings of Python 2 are bytes.
            Err(e) if opcode.ends_with("STRING") => {
                self.push(opcode, Value::Bytes(e.into_bytes().into()))
            }
            Err(_) => Err(PickleError::Text {
                opcode,
                problem: "text that is not UTF-8",
            }
            .into()),
        }
    }

    fn bytes(&mut self, code: u8) -> Result<()> {
        let (opcode, width) = match code {
            b'B' => ("BINBYTES", 4),
            b'C' => ("SHORT_BINBYTES", 1),
            _ => ("BINBYTES8", 8),
        };
        self.input.opcode = opcode;
        let len = self.length(width)?;
        let bytes = self.input.take(len)?;
        self.push(opcode, Value::Bytes(bytes.into()))
    }

    // Containers.

    fn empty(&mut self, code: u8) -> Result<()> {
        match code {
            b')' => self.push_node("EMPTY_TUPLE", Node::Tuple(Vec::new())),
            b']' => self.push_node("EMPTY_LIST", Node::List(Vec::new())),
            b'}' => self.push_node("EMPTY_DICT", Node::Dict(Dict::default())),
            _ => self.push_node("EMPTY_SET", Node::Set(Vec::new())),
        }
    }

    fn tuple(&mut self, code: u8) -> Result<()> {
        let (opcode, items) = match code {
            b't' => ("TUPLE", self.above_mark("TUPLE")?),
            _ => {
                let opcode = ["TUPLE1", "TUPLE2", "TUPLE3"][usize::from(code - 0x85)];
                let mut items = Vec::new();
                for _ in 0x84..code {
                    items.push(self.pop(opcode)?);
                }
                items.reverse();
                (opcode, items)
            }
        };
        self.push_node(opcode, Node::Tuple(items))
    }

    /// A set of `items`, or the `filled` one that is on the stack with them in it.
    fn set(
        &mut self,
        opcode: &'static str,
        filled: Option<usize>,
        items: Vec<Value>,
    ) -> Result<()> {
        for item in &items {
            key(opcode, item, &self.nodes)?;
        }
        self.count(items.len())?;
        match filled.and_then(|i| self.nodes.get_mut(i)) {
            Some(Node::Set(set)) => {
                set.extend(items);
                Ok(())
            }
            Some(_) | None => self.push_node(opcode, Node::Set(items)),
        }
    }

    /// `APPEND`, `APPENDS`, `ADDITEMS`, `SETITEM`, `SETITEMS`: puts values into the container below them.
    fn fill(&mut self, code: u8) -> Result<()> {
        let (opcode, expected) = match code {
            b'a' => ("APPEND", "a list"),
            b'e' => ("APPENDS", "a list"),
            0x90 => ("ADDITEMS", "a set"),
            b's' => ("SETITEM", "a dictionary"),
            _ => ("SETITEMS", "a dictionary"),
        };
        let items = match code {
            b'a' => vec![self.pop(opcode)?],
            b's' => {
                let value = self.pop(opcode)?;
                vec![self.pop(opcode)?, value]
            }
            _ => self.above_mark(opcode)?,
        };
        self.count(items.len())?;
        let inner = self.depth(&items);
        let floor = self.marks.last().copied().unwrap_or_default();
        let target = self.stack.get(floor..).and_then(<[Value]>::last);
        let Some(&Value::Node(at)) = target else {
            let found = target.map_or("nothing", |v| v.kind(&self.nodes));
            return Err(stack(opcode, expected, found));
        };
        if inner >= limits::PICKLE_NESTING {
            return Err(limit("levels of containers", limits::PICKLE_NESTING));
        }
        let keys = match (code, self.nodes.get(at)) {
            (b's' | b'u', Some(Node::Dict(_))) => {
                let pairs = items.chunks(2).map(|pair| match pair {
                    [k, _] => key(opcode, k, &self.nodes),
                    _ => Err(stack(opcode, "a value for each key", "one too few")),
                });
                pairs.collect::<Result<Vec<_>>>()?
            }
            (0x90, Some(Node::Set(_))) => return self.set(opcode, Some(at), items),
            _ => Vec::new(),
        };
        match (code, self.nodes.get_mut(at)) {
            (b'a' | b'e', Some(Node::List(list))) => list.extend(items),
            (b's' | b'u', Some(Node::Dict(dict))) => {
                let mut items = items.into_iter();
                for new in keys {
                    if !dict.keys.insert(new.clone()) {
                        return Err(PickleError::DuplicateKey {
                            opcode,
                            key: new.shown(),
                        }
                        .into());
                    }
                    if let (Some(k), Some(v)) = (items.next(), items.next()) {
                        dict.entries.push((k, v));
                    }
                }
            }
            _ => {
                let found = Value::Node(at).kind(&self.nodes);
                return Err(stack(opcode, expected, found));
            }
        }
        if let Some(depth) = self.depths.get_mut(at) {
            *depth = (*depth).max(inner + 1);
        }
        Ok(())
    }

    // Names.

    fn memo(&mut self, code: u8) -> Result<()> {
        let (opcode, index) = match code {
            b'h' => ("BINGET", u64::from(self.input.byte()?)),
            b'j' => (
                "LONG_BINGET",
                u64::from(u32::from_le_bytes(self.input.array()?)),
            ),
            b'q' => ("BINPUT", u64::from(self.input.byte()?)),
            b'r' => (
                "LONG_BINPUT",
                u64::from(u32::from_le_bytes(self.input.array()?)),
            ),
            _ => ("MEMOIZE", num::u64_of(self.memo.len())),
        };
        let fail = |problem| {
            Err(PickleError::Memo {
                opcode,
                index,
                problem,
            }
            .into())
        };
        if matches!(code, b'h' | b'j') {
            return match self.memo.get(&index).cloned() {
                Some(value) => self.push(opcode, value),
                None => fail("is read before it is written"),
            };
        }
        let floor = self.marks.last().copied().unwrap_or_default();
        let Some(top) = self.stack.get(floor..).and_then(<[Value]>::last).cloned() else {
            return Err(stack(opcode, "a value", "nothing"));
        };
        self.count(1)?;
        // No pickler writes an entry twice; a scanner that follows only one of them could be misled.
        match self.memo.insert(index, top) {
            None => Ok(()),
            Some(_) => fail("is written twice"),
        }
    }

    fn global(&mut self, code: u8) -> Result<()> {
        let (opcode, module, name) = if code == b'c' {
            self.input.opcode = "GLOBAL";
            ("GLOBAL", self.input.line()?, self.input.line()?)
        } else {
            let name = self.pop("STACK_GLOBAL")?;
            let module = self.pop("STACK_GLOBAL")?;
            let (Value::Text(module), Value::Text(name)) = (&module, &name) else {
                return Err(stack("STACK_GLOBAL", "two texts", "something else"));
            };
            ("STACK_GLOBAL", module.to_string(), name.to_string())
        };
        match globals::find(&module, &name) {
            Some(global) => self.push(opcode, Value::Global(global)),
            None => Err(PickleError::Global {
                opcode,
                name: format!("{module}.{name}"),
            }
            .into()),
        }
    }

    /// `BUILD`: attributes of an `OrderedDict` (PyTorch keeps `_metadata` there) are not data of the checkpoint and are dropped.
    fn build(&mut self) -> Result<()> {
        let state = self.pop("BUILD")?;
        let floor = self.marks.last().copied().unwrap_or_default();
        let target = self.stack.get(floor..).and_then(<[Value]>::last);
        let ordered = |value: &Value| matches!(value, Value::Node(i) if matches!(self.nodes.get(*i), Some(Node::Dict(d)) if d.ordered));
        let is_dict =
            matches!(&state, Value::Node(i) if matches!(self.nodes.get(*i), Some(Node::Dict(_))));
        if target.is_some_and(ordered) && is_dict {
            return Ok(());
        }
        let name = match target {
            Some(Value::Global(global)) => globals::name(*global),
            Some(value) => value.kind(&self.nodes).to_owned(),
            None => "nothing".to_owned(),
        };
        Err(PickleError::Call {
            opcode: "BUILD",
            name: "__setstate__".to_owned(),
            expected: "attributes of an `OrderedDict`",
            found: format!("{} of {name}", state.kind(&self.nodes)),
        }
        .into())
    }
}

impl Key {
    fn shown(&self) -> String {
        match self {
            Key::None => "None".to_owned(),
            Key::Int(n) => n.to_string(),
            Key::Text(text) => text.to_string(),
            Key::Bytes(bytes) => format!("{bytes:?}"),
        }
    }
}

/// The value as a key.
pub(super) fn key(opcode: &'static str, value: &Value, nodes: &[Node]) -> Result<Key> {
    Ok(match value {
        Value::None => Key::None,
        Value::Bool(b) => Key::Int(i64::from(*b)),
        Value::Int(n) => Key::Int(*n),
        Value::Text(text) => Key::Text(Rc::clone(text)),
        Value::Bytes(bytes) => Key::Bytes(Rc::clone(bytes)),
        Value::Long(_) | Value::Float(_) | Value::Global(_) | Value::Node(_) => {
            return Err(PickleError::Key {
                opcode,
                found: value.kind(nodes),
            }
            .into());
        }
    })
}

fn callee_name(value: &Value) -> Option<String> {
    if let Value::Text(text) = value {
        return Some(text.to_string());
    }
    global_of(value).map(globals::name)
}

fn stack(opcode: &'static str, expected: &'static str, found: &'static str) -> Error {
    PickleError::Stack {
        opcode,
        expected,
        found,
    }
    .into()
}

fn limit(what: &'static str, cap: impl std::fmt::Display) -> Error {
    PickleError::Limit {
        what,
        cap: cap.to_string(),
    }
    .into()
}

/// What a value that was called is, for messages.
pub(super) fn described(callee: &Value, nodes: &[Node]) -> String {
    match global_of(callee) {
        Some(global) => globals::name(global),
        None => callee.kind(nodes).to_owned(),
    }
}

/// The global, if the value is one.
pub(super) fn global_of(value: &Value) -> Option<Global> {
    if let Value::Global(global) = value {
        return Some(*global);
    }
    None
}
