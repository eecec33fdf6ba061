//! Reading a model without its weights: fields are walked in the file, and raw bytes of initialisers are skipped and remembered by place.
//!
//! Owns what is checked before anything is allocated. The pieces in between are parsed by prost, whose recursion limit stays on.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::budget::{Budget, Kind};
use super::error::OnnxError;
use super::proto::{
    FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    StringStringEntryProto, TensorProto, TrainingInfoProto, ValueInfoProto,
};
use crate::error::{Context, Result};
use crate::limits;
use crate::tensor::{FileRegion, SourceFile, num};

/// A model, but for the raw bytes of its initialisers.
#[derive(Debug)]
pub(crate) struct Model {
    /// The messages; `raw_data` of the graph's initialisers is empty.
    pub(crate) proto: ModelProto,
    /// Where the raw bytes of the initialisers lie, in the order of `proto.graph.initializer`.
    pub(crate) raw: Vec<Option<FileRegion>>,
}

/// A field of a message in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    number: u64,
    value: Value,
}

/// The value of a [`Field`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Varint(u64),
    Fixed,
    /// Place and length in the file.
    Bytes {
        at: u64,
        len: u64,
    },
}

const MODEL_IR_VERSION: u64 = 1;
const MODEL_PRODUCER_NAME: u64 = 2;
const MODEL_PRODUCER_VERSION: u64 = 3;
const MODEL_DOMAIN: u64 = 4;
const MODEL_VERSION: u64 = 5;
const MODEL_GRAPH: u64 = 7;
const MODEL_OPSET_IMPORT: u64 = 8;
const MODEL_METADATA: u64 = 14;
const MODEL_TRAINING: u64 = 20;
const MODEL_FUNCTIONS: u64 = 25;
const GRAPH_NODE: u64 = 1;
const GRAPH_NAME: u64 = 2;
const GRAPH_INITIALIZER: u64 = 5;
const GRAPH_INPUT: u64 = 11;
const GRAPH_OUTPUT: u64 = 12;
const GRAPH_VALUE_INFO: u64 = 13;
const GRAPH_SPARSE: u64 = 15;
const TENSOR_RAW_DATA: u64 = 9;

/// Reads the model at `path`.
///
/// # Errors
/// When the file is not a whole and valid protobuf, or too large.
pub(crate) fn read(path: &Path) -> Result<Model> {
    let file = SourceFile::open(path)?;
    read_file(&file).at_file(path)
}

/// The metadata of the model at `path`; the rest of it is walked over.
///
/// # Errors
/// When the file is not a whole protobuf, or an entry is not valid.
pub(crate) fn read_metadata(path: &Path) -> Result<Vec<StringStringEntryProto>> {
    let file = SourceFile::open(path)?;
    let mut entries = Vec::new();
    let mut budget = Budget::new();
    let found = walk(&file, 0, file.len(), &mut |field| {
        if let (MODEL_METADATA, Value::Bytes { at, len }) = (field.number, field.value) {
            entries.push(part(&file, at, len, Kind::Entry, &mut budget)?);
        }
        Ok(())
    });
    found.at_file(path)?;
    Ok(entries)
}

/// As [`read`], of a file that is open.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_file(file: &Arc<SourceFile>) -> Result<Model> {
    if file.len() > limits::PROTO_BYTES {
        return Err(OnnxError::TooLarge {
            bytes: file.len(),
            limit: limits::PROTO_BYTES,
        }
        .into());
    }
    let mut proto = ModelProto::default();
    let mut raw = Vec::new();
    let mut budget = Budget::new();
    walk(file, 0, file.len(), &mut |field| {
        match (field.number, field.value) {
            (MODEL_IR_VERSION, Value::Varint(n)) => proto.ir_version = Some(signed(n)),
            (MODEL_VERSION, Value::Varint(n)) => proto.model_version = Some(signed(n)),
            (MODEL_PRODUCER_NAME, Value::Bytes { at, len }) => {
                proto.producer_name = Some(text(file, at, len)?);
            }
            (MODEL_PRODUCER_VERSION, Value::Bytes { at, len }) => {
                proto.producer_version = Some(text(file, at, len)?);
            }
            (MODEL_DOMAIN, Value::Bytes { at, len }) => proto.domain = Some(text(file, at, len)?),
            (MODEL_GRAPH, Value::Bytes { at, len }) => {
                let graph = proto.graph.get_or_insert_default();
                read_graph(file, at, len, graph, &mut raw, &mut budget)?;
            }
            (MODEL_OPSET_IMPORT, Value::Bytes { at, len }) => {
                proto.opset_import.push(part::<OperatorSetIdProto>(
                    file,
                    at,
                    len,
                    Kind::Entry,
                    &mut budget,
                )?)
            }
            (MODEL_METADATA, Value::Bytes { at, len }) => {
                proto.metadata_props.push(part::<StringStringEntryProto>(
                    file,
                    at,
                    len,
                    Kind::Entry,
                    &mut budget,
                )?)
            }
            (MODEL_TRAINING, Value::Bytes { at, len }) => {
                proto.training_info.push(part::<TrainingInfoProto>(
                    file,
                    at,
                    len,
                    Kind::Training,
                    &mut budget,
                )?)
            }
            (MODEL_FUNCTIONS, Value::Bytes { at, len }) => {
                proto.functions.push(part::<FunctionProto>(
                    file,
                    at,
                    len,
                    Kind::Function,
                    &mut budget,
                )?);
            }
            (number, Value::Varint(_) | Value::Fixed | Value::Bytes { .. }) => {
                known_wire_type("ModelProto", number, &MODEL_FIELDS)?
            }
        }
        Ok(())
    })?;
    if proto.graph.is_none() {
        return Err(malformed("it has no graph"));
    }
    if proto.ir_version.is_none() {
        return Err(malformed("it has no IR version"));
    }
    Ok(Model { proto, raw })
}

const MODEL_FIELDS: [u64; 10] = [
    MODEL_IR_VERSION,
    MODEL_PRODUCER_NAME,
    MODEL_PRODUCER_VERSION,
    MODEL_DOMAIN,
    MODEL_VERSION,
    MODEL_GRAPH,
    MODEL_OPSET_IMPORT,
    MODEL_METADATA,
    MODEL_TRAINING,
    MODEL_FUNCTIONS,
];
const GRAPH_FIELDS: [u64; 7] = [
    GRAPH_NODE,
    GRAPH_NAME,
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_OUTPUT,
    GRAPH_VALUE_INFO,
    GRAPH_SPARSE,
];

/// A field that got here has the wrong wire type if we know its number; fields we do not know are left out on purpose, see `proto/README.md`.
fn known_wire_type(message: &str, number: u64, known: &[u64]) -> Result<()> {
    if known.contains(&number) {
        return Err(malformed(format!(
            "field {number} of `{message}` has the wrong wire type"
        )));
    }
    Ok(())
}

fn read_graph(
    file: &Arc<SourceFile>,
    at: u64,
    len: u64,
    graph: &mut GraphProto,
    raw: &mut Vec<Option<FileRegion>>,
    budget: &mut Budget,
) -> Result<()> {
    walk(file, at, len, &mut |field| {
        match (field.number, field.value) {
            (GRAPH_NODE, Value::Bytes { at, len }) => {
                if graph.node.len() >= limits::NODES.count() {
                    return Err(malformed(format!("more nodes than {}", limits::NODES)));
                }
                graph
                    .node
                    .push(part::<NodeProto>(file, at, len, Kind::Node, budget)?);
            }
            (GRAPH_NAME, Value::Bytes { at, len }) => graph.name = Some(text(file, at, len)?),
            (GRAPH_INITIALIZER, Value::Bytes { at, len }) => {
                if graph.initializer.len() >= limits::TENSORS.count() {
                    return Err(malformed(format!(
                        "more initialisers than {}",
                        limits::TENSORS
                    )));
                }
                let (tensor, region) = read_tensor(file, at, len, budget)?;
                graph.initializer.push(tensor);
                raw.push(region);
            }
            (GRAPH_INPUT, Value::Bytes { at, len }) => {
                graph.input.push(part::<ValueInfoProto>(
                    file,
                    at,
                    len,
                    Kind::ValueInfo,
                    budget,
                )?);
            }
            (GRAPH_OUTPUT, Value::Bytes { at, len }) => {
                graph.output.push(part::<ValueInfoProto>(
                    file,
                    at,
                    len,
                    Kind::ValueInfo,
                    budget,
                )?);
            }
            (GRAPH_VALUE_INFO, Value::Bytes { at, len }) => {
                graph.value_info.push(part::<ValueInfoProto>(
                    file,
                    at,
                    len,
                    Kind::ValueInfo,
                    budget,
                )?);
            }
            (GRAPH_SPARSE, Value::Bytes { at, len }) => {
                graph.sparse_initializer.push(part::<SparseTensorProto>(
                    file,
                    at,
                    len,
                    Kind::Sparse,
                    budget,
                )?)
            }
            (number, Value::Varint(_) | Value::Fixed | Value::Bytes { .. }) => {
                known_wire_type("GraphProto", number, &GRAPH_FIELDS)?
            }
        }
        Ok(())
    })
}

/// A tensor, its raw bytes left in the file.
fn read_tensor(
    file: &Arc<SourceFile>,
    at: u64,
    len: u64,
    budget: &mut Budget,
) -> Result<(TensorProto, Option<FileRegion>)> {
    // All that is not raw data, as if that were not there.
    let mut rest = Vec::new();
    let mut region = None;
    let mut last = at;
    walk_from(file, at, len, &mut |start, end, field| {
        if let (TENSOR_RAW_DATA, Value::Bytes { at, len }) = (field.number, field.value) {
            region = Some(FileRegion {
                file: file.clone(),
                offset: at,
                len,
            });
            rest.extend(bytes(file, last, start - last)?);
            last = end;
        }
        Ok(())
    })?;
    rest.extend(bytes(file, last, at + len - last)?);
    budget.take(Kind::Tensor, &rest)?;
    let tensor = TensorProto::decode(Bytes::from(rest))
        .map_err(|e| malformed(e.to_string()))
        .at_offset(at)?;
    if tensor.segment.is_some() {
        return Err(malformed("a tensor stored in segments")).at_offset(at);
    }
    Ok((tensor, region))
}

/// Calls `visit` for every field of the message at `at`.
fn walk(
    file: &SourceFile,
    at: u64,
    len: u64,
    visit: &mut dyn FnMut(Field) -> Result<()>,
) -> Result<()> {
    walk_from(file, at, len, &mut |_, _, field| visit(field))
}

/// As [`walk`], with the start and end of the whole field.
fn walk_from(
    file: &SourceFile,
    at: u64,
    len: u64,
    visit: &mut dyn FnMut(u64, u64, Field) -> Result<()>,
) -> Result<()> {
    let end = at
        .checked_add(len)
        .filter(|&end| end <= file.len())
        .ok_or_else(|| malformed("a message leaves the file"))?;
    let mut cursor = Cursor::new(file, at, end);
    while cursor.at < end {
        let start = cursor.at;
        let key = cursor.varint().at_offset(start)?;
        let value = match key & 7 {
            0 => Value::Varint(cursor.varint().at_offset(start)?),
            1 => {
                cursor.skip(8).at_offset(start)?;
                Value::Fixed
            }
            2 => {
                let len = cursor.varint().at_offset(start)?;
                let at = cursor.at;
                cursor.skip(len).at_offset(start)?;
                Value::Bytes { at, len }
            }
            5 => {
                cursor.skip(4).at_offset(start)?;
                Value::Fixed
            }
            other => {
                return Err(malformed(format!("wire type {other}"))).at_offset(start);
            }
        };
        if key >> 3 == 0 {
            return Err(malformed("field number 0")).at_offset(start);
        }
        let field = Field {
            number: key >> 3,
            value,
        };
        visit(start, cursor.at, field)?;
    }
    Ok(())
}

/// A position in a file, with a small window around it.
struct Cursor<'a> {
    file: &'a SourceFile,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Cursor<'a> {
    const WINDOW: u64 = 4096;

    fn new(file: &'a SourceFile, at: u64, end: u64) -> Self {
        Cursor {
            file,
            at,
            end,
            window: Vec::new(),
            window_at: at,
        }
    }

    fn byte(&mut self) -> Result<u8> {
        if self.at >= self.end {
            return Err(malformed("a message ends early"));
        }
        let inside = self
            .at
            .checked_sub(self.window_at)
            .map(num::usize_of)
            .filter(|&i| i < self.window.len());
        let i = match inside {
            Some(i) => i,
            None => {
                let n = Self::WINDOW.min(self.end - self.at);
                self.window.resize(num::usize_of(n), 0);
                self.file.read_at(self.at, &mut self.window)?;
                self.window_at = self.at;
                0
            }
        };
        self.at += 1;
        Ok(self.window[i])
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                if shift == 63 && byte > 1 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(malformed("a number of more than 64 bits"))
    }

    fn skip(&mut self, len: u64) -> Result<()> {
        self.at = self
            .at
            .checked_add(len)
            .filter(|&at| at <= self.end)
            .ok_or_else(|| malformed("a field is longer than its message"))?;
        Ok(())
    }
}

fn bytes(file: &SourceFile, at: u64, len: u64) -> Result<Vec<u8>> {
    if len > limits::PROTO_PART_BYTES {
        return Err(malformed(format!(
            "a part of {len} bytes, at most {} are expected",
            limits::PROTO_PART_BYTES
        )))
        .at_offset(at);
    }
    let mut buffer = vec![0; num::usize_of(len)];
    file.read_at(at, &mut buffer)?;
    Ok(buffer)
}

fn part<M: Message + Default>(
    file: &SourceFile,
    at: u64,
    len: u64,
    kind: Kind,
    budget: &mut Budget,
) -> Result<M> {
    let bytes = bytes(file, at, len)?;
    budget.take(kind, &bytes)?;
    M::decode(Bytes::from(bytes))
        .map_err(|e| malformed(e.to_string()))
        .at_offset(at)
}

fn text(file: &SourceFile, at: u64, len: u64) -> Result<String> {
    String::from_utf8(bytes(file, at, len)?)
        .map_err(|e| malformed(e.to_string()))
        .at_offset(at)
}

fn signed(n: u64) -> i64 {
    i64::from_le_bytes(n.to_le_bytes())
}

fn malformed(reason: impl Into<String>) -> crate::error::Error {
    OnnxError::Malformed {
        reason: reason.into(),
    }
    .into()
}
