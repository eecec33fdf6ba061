//! The stack machine: one function per group of opcodes, none of which can run anything.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::calls;
use super::error::PickleError;
use super::globals::{self, Global};
use super::input::Input;
use super::opcodes;
use super::value::{Dict, Key, Node, Pickle, Storage, Value};
use crate::error::{Context, Error, Result, shown};
use crate::limits;
use crate::tensor::num;

/// 2^63.
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
/// What a byte array is called in messages.
pub(super) const BYTE_ARRAY: &str = "a byte array";
/// How many parts of something a message lists.
pub(super) const LISTED: usize = 8;
/// Bytes beside the content of an allocation.
pub(super) const ALLOCATION: usize = 16;
/// Bytes of an entry of the memo, as the tree that it lies in spreads them.
const MEMO_ENTRY: usize = 64;
/// The same of a key of a dictionary, and of the first one.
const KEY_ENTRY: usize = 56;
const FIRST_KEY: usize = 320;

pub(super) fn run(input: Input<'_>) -> Result<Pickle> {
    let mut machine = Machine {
        input,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        nodes: Vec::new(),
        depths: Vec::new(),
        highest: 0,
        room: limits::PICKLE_MEMORY.count(),
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
    depths: Vec<u8>,
    /// The most values that the stack has held.
    highest: usize,
    /// Bytes that the pickle may still take.
    room: usize,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Pickle> {
        let start = self.input.offset();
        let text = self.protocol().at_offset(start)?;
        loop {
            let at = self.input.offset();
            self.input.opcode = "STOP";
            let code = self.input.byte().at_offset(at)?;
            if let Some(root) = self.step(code).at_offset(at)? {
                if let Some(first) = text {
                    let found = format!("no protocol, but byte {first:#04x}");
                    return Err(PickleError::Protocol { found }).at_offset(start);
                }
                return Ok(Pickle {
                    root,
                    end: self.input.offset(),
                    nodes: std::mem::take(&mut self.nodes),
                });
            }
        }
    }

    /// Reads the protocol. A pickle of protocol 0 or 1 has none: its first byte is given, and it is followed only to say what it asks for.
    fn protocol(&mut self) -> Result<Option<u8>> {
        if let Some(first) = self.input.peek()?
            && first != 0x80
        {
            return Ok(Some(first));
        }
        match self.input.array()? {
            [_, 2..=5] => Ok(None),
            [_, version] => Err(PickleError::Protocol {
                found: format!("protocol {version}"),
            }
            .into()),
        }
    }

    /// Executes one opcode; gives the result after the last.
    fn step(&mut self, code: u8) -> Result<Option<Value>> {
        match code {
            b'.' => return self.stop().map(Some),
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' | b'K' | b'M' | 0x8a | 0x8b => self.integer(code)?,
            b'G' => {
                self.input.opcode = "BINFLOAT";
                let x = f64::from_be_bytes(self.input.array()?);
                self.push(Value::Float(x))?;
            }
            b'X' | 0x8c | 0x8d | b'T' | b'U' => self.text(code)?,
            b'B' | b'C' | 0x8e | 0x96 => self.bytes(code)?,
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
                self.hashable("FROZENSET", &items)?;
                self.push_node(Node::Set)?;
            }
            b'a' | b'e' | 0x90 | b's' | b'u' => self.fill(code)?,
            b'h' | b'j' | b'q' | b'r' | 0x94 => self.memo(code)?,
            b'c' | 0x93 => self.global(code)?,
            b'Q' => {
                let id = self.pop("BINPERSID")?;
                let storage = calls::storage(self, &id)?;
                self.charge(size_of::<Storage>() + ALLOCATION)?;
                self.push_node(storage)?;
            }
            b'R' => {
                let arguments = self.pop("REDUCE")?;
                let callee = self.pop("REDUCE")?;
                let made = calls::reduce(self, &callee, &arguments)?;
                match made {
                    calls::Made::Value(value) => self.push(value)?,
                    calls::Made::Node(node) => self.push_node(node)?,
                }
            }
            0x81 => self.new_object()?,
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

    /// The error for an opcode that is not executed, with the name that it or the next one that names something asks for.
    fn refuse(&mut self, code: u8) -> Error {
        let at = self.input.offset() - 1;
        let name = match code {
            b'o' => {
                let at = self.marks.last().copied().unwrap_or_default();
                self.stack.get(at).and_then(callee_name)
            }
            0x81 => self.stack.iter().rev().nth(1).and_then(callee_name),
            0x92 => self.stack.iter().rev().nth(2).and_then(callee_name),
            _ => opcodes::asks_for(&mut self.input, code),
        };
        let later = match name {
            Some(_) => None,
            None => opcodes::next_name(&mut self.input, at),
        };
        PickleError::Opcode {
            opcode: opcodes::name(code),
            name,
            later,
        }
        .into()
    }

    fn stop(&mut self) -> Result<Value> {
        let root = self.pop("STOP")?;
        if self.stack.is_empty() && self.marks.is_empty() {
            return Ok(root);
        }
        Err(stack("STOP", "one value", "more"))
    }

    // Values.

    /// Takes `bytes` of the memory that the pickle may have. Whatever is copied or looked through is counted as well, so that it bounds the
    /// time, too.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<()> {
        match self.room.checked_sub(bytes) {
            Some(left) => self.room = left,
            None => return Err(limit("bytes in memory", &limits::PICKLE_MEMORY)),
        }
        Ok(())
    }

    fn charge_values(&mut self, count: usize) -> Result<()> {
        match count {
            0 => Ok(()),
            _ => self.charge(count.saturating_mul(size_of::<Value>()) + ALLOCATION),
        }
    }

    fn push(&mut self, value: Value) -> Result<()> {
        if self.stack.len() >= self.highest {
            self.highest = self.stack.len() + 1;
            self.charge(size_of::<Value>())?;
        }
        self.stack.push(value);
        Ok(())
    }

    fn push_node(&mut self, node: Node) -> Result<()> {
        let mut bytes = size_of::<Node>() + 1;
        let depth = match &node {
            Node::Tuple(items) => {
                self.charge_values(items.len())?;
                self.depth(items)
            }
            Node::List(items) => self.depth(items),
            Node::Dict(dict) => {
                bytes += size_of::<Dict>() + ALLOCATION;
                let values = dict.entries.iter().map(|(_, v)| self.depth_of(v));
                values.max().unwrap_or(0)
            }
            Node::Storage(_)
            | Node::Tensor(_)
            | Node::Set
            | Node::Namespace(_)
            | Node::NumpyType(_)
            | Node::Device(_)
            | Node::Other(_) => 0,
        };
        self.charge(bytes)?;
        let depth = deeper(depth)?;
        self.nodes.push(node);
        self.depths.push(depth);
        self.push(Value::Node(self.nodes.len() - 1))
    }

    fn depth_of(&self, value: &Value) -> u8 {
        if let Value::Node(i) = value {
            return self.depths.get(*i).copied().unwrap_or_default();
        }
        0
    }

    fn depth(&self, items: &[Value]) -> u8 {
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
    pub(super) fn tuple_items(&self, value: &Value) -> Option<&Rc<[Value]>> {
        match self.node(value) {
            Some(Node::Tuple(items)) => Some(items),
            _ => None,
        }
    }

    /// The node, if the value is one.
    pub(super) fn node(&self, value: &Value) -> Option<&Node> {
        if let Value::Node(i) = value {
            return self.nodes.get(*i);
        }
        None
    }

    fn integer(&mut self, code: u8) -> Result<()> {
        self.input.opcode = match code {
            b'J' => "BININT",
            b'K' => "BININT1",
            b'M' => "BININT2",
            0x8a => "LONG1",
            _ => "LONG4",
        };
        let value = match code {
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.input.array()?))),
            b'K' => Value::Int(i64::from(self.input.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.input.array()?))),
            _ => {
                // A negative length is read as one that no file has.
                let len = self.input.number(if code == 0x8a { 1 } else { 4 })?;
                if len > limits::PICKLE_INTEGER_BYTES {
                    return Err(PickleError::Limit {
                        what: "bytes in one integer",
                        cap: limits::PICKLE_INTEGER_BYTES.to_string(),
                    }
                    .into());
                }
                let mut bytes = self.input.take(len)?;
                // Bytes that only repeat the sign: one number has one form.
                while let [.., before, last] = *bytes
                    && last == if before & 0x80 == 0 { 0 } else { 0xff }
                {
                    bytes.pop();
                }
                if bytes.len() > 8 {
                    self.charge(bytes.len() + ALLOCATION)?;
                    Value::Long(bytes.into())
                } else {
                    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
                    let mut wide = [if negative { 0xff } else { 0 }; 8];
                    wide[..bytes.len()].copy_from_slice(&bytes);
                    Value::Int(i64::from_le_bytes(wide))
                }
            }
        };
        self.push(value)
    }

    fn text(&mut self, code: u8) -> Result<()> {
        let (opcode, width) = match code {
            b'X' => ("BINUNICODE", 4),
            0x8c => ("SHORT_BINUNICODE", 1),
            0x8d => ("BINUNICODE8", 8),
            b'T' => ("BINSTRING", 4),
            _ => ("SHORT_BINSTRING", 1),
        };
        let bytes = self.counted(opcode, width)?;
        match String::from_utf8(bytes) {
            Ok(text) => self.push(Value::Text(text.into())),
            // Strings of Python 2 are bytes.
            Err(e) if opcode.ends_with("STRING") => self.push(Value::Bytes(e.into_bytes().into())),
            Err(_) => Err(PickleError::Text {
                opcode,
                problem: "text that is not UTF-8",
            }
            .into()),
        }
    }

    /// Bytes with their number before them.
    fn counted(&mut self, opcode: &'static str, width: u8) -> Result<Vec<u8>> {
        self.input.opcode = opcode;
        let len = self.input.number(width)?;
        if len > self.input.left() {
            return Err(PickleError::Truncated { opcode }.into());
        }
        self.charge(num::usize_of(len) + ALLOCATION)?;
        self.input.take(len)
    }

    fn bytes(&mut self, code: u8) -> Result<()> {
        let (opcode, width) = match code {
            b'B' => ("BINBYTES", 4),
            b'C' => ("SHORT_BINBYTES", 1),
            0x8e => ("BINBYTES8", 8),
            _ => ("BYTEARRAY8", 8),
        };
        let bytes = self.counted(opcode, width)?;
        if code == 0x96 {
            return self.push_node(Node::Other(BYTE_ARRAY));
        }
        self.push(Value::Bytes(bytes.into()))
    }

    // Containers.

    fn empty(&mut self, code: u8) -> Result<()> {
        match code {
            b')' => self.push_node(Node::Tuple(Rc::default())),
            b']' => self.push_node(Node::List(Vec::new())),
            b'}' => self.push_node(Node::Dict(Box::default())),
            _ => self.push_node(Node::Set),
        }
    }

    fn tuple(&mut self, code: u8) -> Result<()> {
        let items = match code {
            b't' => self.above_mark("TUPLE")?,
            _ => {
                let opcode = ["TUPLE1", "TUPLE2", "TUPLE3"][usize::from(code - 0x85)];
                let mut items = Vec::new();
                for _ in 0x84..code {
                    items.push(self.pop(opcode)?);
                }
                items.reverse();
                items
            }
        };
        self.push_node(Node::Tuple(items.into()))
    }

    /// Refuses what cannot be in a set.
    pub(super) fn hashable(&mut self, opcode: &'static str, items: &[Value]) -> Result<()> {
        for item in items {
            self.key(opcode, item)?;
        }
        Ok(())
    }

    /// The value as a key; what it is made of is counted each time, since it is copied or compared.
    fn key(&mut self, opcode: &'static str, value: &Value) -> Result<Key> {
        let refused = |found| Err(PickleError::Key { opcode, found }.into());
        self.charge(size_of::<Key>())?;
        Ok(match value {
            Value::None => Key::None,
            Value::Bool(b) => Key::Int(i64::from(*b)),
            Value::Int(n) => Key::Int(*n),
            Value::Long(bytes) => Key::Long(Rc::clone(bytes)),
            Value::Float(x) if x.is_nan() => return refused("a number that is not itself"),
            Value::Float(x) if x.fract() == 0.0 => {
                if x.abs() >= TWO_TO_63 {
                    return refused("a number beyond 64 bits");
                }
                Key::Int(num::i64_of_f64(*x))
            }
            Value::Float(x) => Key::Float(x.to_bits()),
            Value::Text(text) => {
                self.charge(text.len())?;
                Key::Text(Rc::clone(text))
            }
            Value::Bytes(bytes) => {
                self.charge(bytes.len())?;
                Key::Bytes(Rc::clone(bytes))
            }
            Value::Node(i) => match self.nodes.get(*i) {
                // A tuple nests at most as deep as anything, and holds nothing that came later.
                Some(Node::Tuple(items)) => {
                    let items = Rc::clone(items);
                    self.charge_values(items.len())?;
                    let keys = items.iter().map(|item| self.key(opcode, item));
                    Key::Tuple(keys.collect::<Result<Vec<_>>>()?.into())
                }
                _ => return refused(value.kind(&self.nodes)),
            },
            Value::Global(_) => return refused(value.kind(&self.nodes)),
        })
    }

    /// Puts an entry into a dictionary that has no such key yet.
    pub(super) fn insert(
        &mut self,
        opcode: &'static str,
        dict: &mut Dict,
        key: &Value,
        value: &Value,
    ) -> Result<()> {
        let new = self.key(opcode, key)?;
        self.charge(match dict.keys.is_empty() {
            true => FIRST_KEY,
            false => KEY_ENTRY,
        })?;
        if dict.keys.contains(&new) {
            return Err(PickleError::DuplicateKey {
                opcode,
                key: new.shown(),
            }
            .into());
        }
        dict.keys.insert(new);
        let before = dict.entries.capacity();
        dict.entries.push((key.clone(), value.clone()));
        self.charge_values(2 * (dict.entries.capacity() - before))
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
        let floor = self.marks.last().copied().unwrap_or_default();
        let target = self.stack.get(floor..).and_then(<[Value]>::last);
        let Some(&Value::Node(at)) = target else {
            let found = target.map_or("nothing", |v| v.kind(&self.nodes));
            return Err(stack(opcode, expected, found));
        };
        let depth = deeper(self.depth(&items))?;
        let mut node = match self.nodes.get_mut(at) {
            Some(node) => std::mem::replace(node, Node::Set),
            None => return Err(stack(opcode, expected, "nothing")),
        };
        match (code, &mut node) {
            (b'a' | b'e', Node::List(list)) => {
                let before = list.capacity();
                list.extend(items);
                self.charge_values(list.capacity() - before)?;
            }
            (0x90, Node::Set) => self.hashable(opcode, &items)?,
            (b's' | b'u', Node::Dict(dict)) => {
                for pair in items.chunks(2) {
                    let [key, value] = pair else {
                        return Err(stack(opcode, "a value for each key", "one too few"));
                    };
                    self.insert(opcode, dict, key, value)?;
                }
            }
            _ => {
                self.nodes[at] = node;
                let found = Value::Node(at).kind(&self.nodes);
                return Err(stack(opcode, expected, found));
            }
        }
        self.nodes[at] = node;
        self.depths[at] = self.depths[at].max(depth);
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
                Some(value) => self.push(value),
                None => fail("is read before it is written"),
            };
        }
        let floor = self.marks.last().copied().unwrap_or_default();
        let Some(top) = self.stack.get(floor..).and_then(<[Value]>::last).cloned() else {
            return Err(stack(opcode, "a value", "nothing"));
        };
        self.charge(MEMO_ENTRY)?;
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
            ("STACK_GLOBAL", start(module), start(name))
        };
        match globals::find(&module, &name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(PickleError::Global {
                opcode,
                name: shown(&format!("{module}.{name}")),
            }
            .into()),
        }
    }

    /// `NEWOBJ`: an empty namespace, and nothing else.
    fn new_object(&mut self) -> Result<()> {
        let floor = self.marks.last().copied().unwrap_or_default();
        let values = self.stack.get(floor..).unwrap_or_default();
        let [.., Value::Global(Global::Namespace), arguments] = values else {
            return Err(self.refuse(0x81));
        };
        if !self.tuple_items(arguments).is_some_and(|a| a.is_empty()) {
            return Err(self.refuse(0x81));
        }
        self.pop("NEWOBJ")?;
        self.pop("NEWOBJ")?;
        self.push_node(Node::Namespace(None))
    }

    /// `BUILD`: the values of a namespace, and the byte order of a NumPy type. Attributes of an `OrderedDict` (PyTorch keeps `_metadata`
    /// there) are not data of the checkpoint and are dropped.
    fn build(&mut self) -> Result<()> {
        let state = self.pop("BUILD")?;
        let floor = self.marks.last().copied().unwrap_or_default();
        let target = self.stack.get(floor..).and_then(<[Value]>::last).cloned();
        let node = target.as_ref().and_then(|target| self.node(target));
        let built = match (node, self.node(&state)) {
            (Some(Node::Dict(dict)), Some(Node::Dict(_))) if dict.ordered => return Ok(()),
            // No pickler fills one twice.
            (Some(Node::Namespace(None)), Some(Node::Dict(values))) => {
                let count = values.entries.len();
                self.charge_values(2 * count)?;
                self.namespace(&state)
            }
            (Some(Node::NumpyType(numpy)), Some(Node::Tuple(state))) => {
                numpy.built(state).map(Node::NumpyType)
            }
            _ => None,
        };
        if let (Some(built), Some(Value::Node(at))) = (built, &target) {
            let depth = deeper(self.depth_of(&state))?;
            self.depths[*at] = self.depths[*at].max(depth);
            self.nodes[*at] = built;
            return Ok(());
        }
        let name = match &target {
            Some(Value::Global(global)) => globals::name(*global),
            Some(value) => value.kind(&self.nodes).to_owned(),
            None => "nothing".to_owned(),
        };
        Err(PickleError::Call {
            opcode: "BUILD",
            name: "__setstate__".to_owned(),
            expected: "attributes of an `OrderedDict`, the values of a new namespace, or the byte order of a new NumPy type",
            found: format!("{} of {name}", state.kind(&self.nodes)),
        }
        .into())
    }

    /// A namespace with a copy of these values, as Python makes one.
    fn namespace(&self, values: &Value) -> Option<Node> {
        match self.node(values) {
            Some(Node::Dict(values)) => Some(Node::Namespace(Some(values.entries.clone()))),
            _ => None,
        }
    }
}

impl Key {
    fn shown(&self) -> String {
        match self {
            Key::None => "None".to_owned(),
            Key::Int(n) => n.to_string(),
            Key::Long(_) => "a long integer".to_owned(),
            Key::Float(bits) => f64::from_bits(*bits).to_string(),
            Key::Text(text) => shown(text),
            Key::Bytes(bytes) => shown(&bytes.escape_ascii().to_string()),
            Key::Tuple(keys) => {
                let keys: Vec<String> = keys.iter().take(LISTED).map(Key::shown).collect();
                shown(&format!("({})", keys.join(", ")))
            }
        }
    }
}

/// How deep a container is that holds something of this depth.
fn deeper(inner: u8) -> Result<u8> {
    if usize::from(inner) >= limits::PICKLE_NESTING {
        return Err(limit("levels of containers", limits::PICKLE_NESTING));
    }
    Ok(inner + 1)
}

/// As much of a name as matters: longer ones are on no list.
fn start(name: &str) -> String {
    name.chars().take(limits::PICKLE_LINE).collect()
}

fn callee_name(value: &Value) -> Option<String> {
    if let Value::Text(text) = value {
        return Some(shown(text));
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
