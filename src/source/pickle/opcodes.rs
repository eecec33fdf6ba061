//! All opcodes: their names, and what stands after them. For messages only: it finds the name that a refused pickle asks for, and runs nothing.
//!
//! # Source
//! `pickletools` of CPython 3.12.

use std::collections::BTreeMap;

use super::error::Asked;
use super::globals;
use super::input::Input;
use crate::error::{Result, shown};
use crate::limits;
use crate::tensor::num;

/// What stands after an opcode.
#[derive(Clone, Copy)]
enum Argument {
    /// That many bytes.
    Bytes(u64),
    /// A line of text.
    Line,
    /// Two lines, a module and a name in it.
    Name,
    /// A number of that many bytes, and as many bytes as it says.
    Counted(u8),
}

use Argument::{Bytes, Counted, Line, Name};

const OPCODES: [(u8, &str, Argument); 68] = [
    (b'I', "INT", Line),
    (b'J', "BININT", Bytes(4)),
    (b'K', "BININT1", Bytes(1)),
    (b'M', "BININT2", Bytes(2)),
    (b'L', "LONG", Line),
    (0x8a, "LONG1", Counted(1)),
    (0x8b, "LONG4", Counted(4)),
    (b'S', "STRING", Line),
    (b'T', "BINSTRING", Counted(4)),
    (b'U', "SHORT_BINSTRING", Counted(1)),
    (b'B', "BINBYTES", Counted(4)),
    (b'C', "SHORT_BINBYTES", Counted(1)),
    (0x8e, "BINBYTES8", Counted(8)),
    (0x96, "BYTEARRAY8", Counted(8)),
    (0x97, "NEXT_BUFFER", Bytes(0)),
    (0x98, "READONLY_BUFFER", Bytes(0)),
    (b'N', "NONE", Bytes(0)),
    (0x88, "NEWTRUE", Bytes(0)),
    (0x89, "NEWFALSE", Bytes(0)),
    (b'V', "UNICODE", Line),
    (0x8c, "SHORT_BINUNICODE", Counted(1)),
    (b'X', "BINUNICODE", Counted(4)),
    (0x8d, "BINUNICODE8", Counted(8)),
    (b'F', "FLOAT", Line),
    (b'G', "BINFLOAT", Bytes(8)),
    (b']', "EMPTY_LIST", Bytes(0)),
    (b'a', "APPEND", Bytes(0)),
    (b'e', "APPENDS", Bytes(0)),
    (b'l', "LIST", Bytes(0)),
    (b')', "EMPTY_TUPLE", Bytes(0)),
    (b't', "TUPLE", Bytes(0)),
    (0x85, "TUPLE1", Bytes(0)),
    (0x86, "TUPLE2", Bytes(0)),
    (0x87, "TUPLE3", Bytes(0)),
    (b'}', "EMPTY_DICT", Bytes(0)),
    (b'd', "DICT", Bytes(0)),
    (b's', "SETITEM", Bytes(0)),
    (b'u', "SETITEMS", Bytes(0)),
    (0x8f, "EMPTY_SET", Bytes(0)),
    (0x90, "ADDITEMS", Bytes(0)),
    (0x91, "FROZENSET", Bytes(0)),
    (b'0', "POP", Bytes(0)),
    (b'2', "DUP", Bytes(0)),
    (b'(', "MARK", Bytes(0)),
    (b'1', "POP_MARK", Bytes(0)),
    (b'g', "GET", Line),
    (b'h', "BINGET", Bytes(1)),
    (b'j', "LONG_BINGET", Bytes(4)),
    (b'p', "PUT", Line),
    (b'q', "BINPUT", Bytes(1)),
    (b'r', "LONG_BINPUT", Bytes(4)),
    (0x94, "MEMOIZE", Bytes(0)),
    (0x82, "EXT1", Bytes(1)),
    (0x83, "EXT2", Bytes(2)),
    (0x84, "EXT4", Bytes(4)),
    (b'c', "GLOBAL", Name),
    (0x93, "STACK_GLOBAL", Bytes(0)),
    (b'R', "REDUCE", Bytes(0)),
    (b'b', "BUILD", Bytes(0)),
    (b'i', "INST", Name),
    (b'o', "OBJ", Bytes(0)),
    (0x81, "NEWOBJ", Bytes(0)),
    (0x92, "NEWOBJ_EX", Bytes(0)),
    (0x80, "PROTO", Bytes(1)),
    (b'.', "STOP", Bytes(0)),
    (0x95, "FRAME", Bytes(8)),
    (b'P', "PERSID", Line),
    (b'Q', "BINPERSID", Bytes(0)),
];

/// The name of an opcode; of a byte that is none, the byte.
pub(super) fn name(code: u8) -> String {
    let known = OPCODES.iter().find(|(c, _, _)| *c == code);
    known.map_or_else(|| format!("{code:#04x}"), |(_, name, _)| (*name).to_owned())
}

/// The name that an opcode asks for by what stands after it.
pub(super) fn asks_for(input: &mut Input<'_>, code: u8) -> Option<String> {
    let extension = |n: i64| Some(format!("extension {n}"));
    match code {
        b'i' => {
            let (module, name) = (input.line().ok()?, input.line().ok()?);
            Some(shown(&format!("{module}.{name}")))
        }
        b'P' => input.line().ok().map(|id| shown(&id)),
        0x82 => extension(input.byte().ok()?.into()),
        0x83 => extension(u16::from_le_bytes(input.array().ok()?).into()),
        0x84 => extension(i32::from_le_bytes(input.array().ok()?).into()),
        _ => None,
    }
}

/// The first name that is asked for from `at` on and is not on the list, if the pickle can be followed so far.
pub(super) fn next_name(input: &mut Input<'_>, at: u64) -> Option<Asked> {
    input.seek(at);
    find(input).ok().and_then(|(asked, _)| asked)
}

/// Whether what begins here is a pickle without a protocol: one that ends, or asks for a name.
pub(super) fn is_text(input: &mut Input<'_>) -> bool {
    find(input).is_ok_and(|(asked, ended)| asked.is_some() || ended)
}

/// The texts that `STACK_GLOBAL` may take for a name.
#[derive(Default)]
struct Texts {
    /// The last two values, where they are texts.
    last: [Option<String>; 2],
    memo: BTreeMap<u64, String>,
    memoized: u64,
}

impl Texts {
    fn push(&mut self, text: Option<String>) {
        self.last.swap(0, 1);
        self.last[1] = text;
    }

    fn put(&mut self, index: u64) {
        self.memoized += 1;
        if let Some(text) = &self.last[1]
            && self.memo.len() < limits::PICKLE_REMEMBERED
        {
            self.memo.insert(index, text.clone());
        }
    }
}

/// The first name that is not on the list, and whether the end was found.
fn find(input: &mut Input<'_>) -> Result<(Option<Asked>, bool)> {
    let mut texts = Texts::default();
    loop {
        let offset = input.offset();
        let code = input.byte()?;
        let Some(&(_, opcode, argument)) = OPCODES.iter().find(|(c, _, _)| *c == code) else {
            return Ok((None, false));
        };
        let (mut text, mut number, mut asked) = (None, 0, None);
        match argument {
            Bytes(n @ (1 | 4)) => number = input.number(if n == 1 { 1 } else { 4 })?,
            Bytes(n) => input.seek(input.offset().saturating_add(n)),
            Line => {
                let line = input.start_of_line()?;
                number = line.trim().parse().unwrap_or_default();
                text = Some(line);
            }
            Name => asked = Some((input.line()?, input.line()?)),
            Counted(width) => {
                let len = input.number(width)?;
                let end = input.offset().saturating_add(len);
                if len <= num::u64_of(limits::PICKLE_LINE) {
                    text = Some(String::from_utf8_lossy(&input.take(len)?).into_owned());
                }
                input.seek(end);
            }
        }
        match code {
            b'.' => return Ok((None, true)),
            0x93 => {
                if let [Some(module), Some(name)] = &texts.last {
                    asked = Some((module.clone(), name.clone()));
                }
            }
            b'p' | b'q' | b'r' => texts.put(number),
            0x94 => texts.put(texts.memoized),
            b'g' | b'h' | b'j' => texts.push(texts.memo.get(&number).cloned()),
            // How the pickle is laid out.
            0x80 | 0x95 => {}
            _ if opcode.contains("UNICODE") || opcode.contains("STRING") => {
                texts.push(text.map(|t| t.trim_matches(['\'', '"']).to_owned()));
            }
            _ => texts.push(None),
        }
        if let Some((module, name)) = asked
            && globals::find(&module, &name).is_none()
        {
            let name = shown(&format!("{module}.{name}"));
            let asked = Asked {
                opcode,
                offset,
                name,
            };
            return Ok((Some(asked), false));
        }
    }
}
