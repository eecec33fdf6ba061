//! Graph → bytes: the framing is computed first, then constants are streamed to their places, in parallel.
//!
//! A model never exists in memory as one message: only its nodes do. Lengths are known before anything is written, so every constant has its offset.

use std::path::{Path, PathBuf};

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::error::OnnxError;
use super::export::{Graph, Initializer};
use super::proto::{
    ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, ValueInfoProto,
    tensor_proto::DataLocation,
};
use super::types::{data_type, ir_version};
use crate::error::{Context, Result, io_error};
use crate::ir::{Agreement, Constant, Placed, write_constants};
use crate::limits;
use crate::tensor::{SourceFile, TargetFile, num};

/// Offsets in external data are multiples of this, so that runtimes can map it.
const ALIGNMENT: u64 = 4096;
/// Constants below this stay in the model file even when the others do not: shape inference needs them there.
const INLINE_BYTES: u64 = 1024;
/// From this much weight on, it goes to its own file by default.
const EXTERNAL_FROM_BYTES: u64 = 1_500_000_000;

// Field numbers of the framing that is written by hand; all else is encoded by prost.
const MODEL_GRAPH: u32 = 7;
const MODEL_OPSET_IMPORT: u32 = 8;
const MODEL_METADATA: u32 = 14;
const GRAPH_NODE: u32 = 1;
const GRAPH_NAME: u32 = 2;
const GRAPH_INITIALIZER: u32 = 5;
const GRAPH_INPUT: u32 = 11;
const GRAPH_OUTPUT: u32 = 12;
const GRAPH_VALUE_INFO: u32 = 13;
const TENSOR_RAW_DATA: u32 = 9;

/// Called with the number of bytes that were just written.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// A part of a file.
enum Part<'a> {
    Bytes(Vec<u8>),
    Constant(&'a Constant),
}

/// A file as a sequence of parts.
#[derive(Default)]
struct Layout<'a> {
    parts: Vec<(u64, Part<'a>)>,
    len: u64,
}

impl<'a> Layout<'a> {
    fn bytes(&mut self, bytes: Vec<u8>) {
        if let Some((_, Part::Bytes(previous))) = self.parts.last_mut() {
            self.len += num::u64_of(bytes.len());
            previous.extend(bytes);
        } else {
            let len = num::u64_of(bytes.len());
            self.parts.push((self.len, Part::Bytes(bytes)));
            self.len += len;
        }
    }

    fn constant(&mut self, constant: &'a Constant) {
        self.parts.push((self.len, Part::Constant(constant)));
        self.len += constant.byte_len();
    }

    fn placed(&self) -> Vec<Placed> {
        let constants = self.parts.iter().filter_map(|(offset, part)| match part {
            Part::Constant(constant) => Some(Placed {
                constant: (*constant).clone(),
                offset: *offset,
            }),
            Part::Bytes(_) => None,
        });
        constants.collect()
    }

    fn align(&mut self) {
        // What is skipped reads as zeros.
        self.len = self.len.next_multiple_of(ALIGNMENT);
    }
}

/// Writes the model, and its external data if it has any. Gives the files with their sizes.
pub(super) fn write(
    graph: &Graph,
    path: &Path,
    opset: i64,
    external: Option<bool>,
    progress: Option<Progress<'_>>,
) -> Result<Vec<(PathBuf, u64)>> {
    let Layouts { model, data } = layouts(graph, path, opset, external)?;
    let data_path = data_path(path);
    let mut files = Vec::new();
    let written = write_layout(&model, path, progress).and_then(|()| {
        files.push((path.to_path_buf(), model.len));
        if let Some(data) = &data {
            write_layout(data, &data_path, progress)?;
            files.push((data_path.clone(), data.len));
        }
        Ok(())
    });
    match written {
        Ok(()) => Ok(files),
        Err(error) => {
            for (file, _) in files {
                // The first error is the one to report.
                let _ = std::fs::remove_file(file);
            }
            Err(error)
        }
    }
}

/// The model file, and the one beside it if there is to be one.
struct Layouts<'a> {
    model: Layout<'a>,
    data: Option<Layout<'a>>,
}

fn layouts<'a>(
    graph: &'a Graph,
    path: &Path,
    opset: i64,
    external: Option<bool>,
) -> Result<Layouts<'a>> {
    let external = external.unwrap_or(weight_bytes(graph) > EXTERNAL_FROM_BYTES);
    let location = data_path(path)
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut data = Layout::default();
    let location = external.then_some(location.as_str());
    let model = layout(graph, opset, location, &mut data)?;
    if model.len >= limits::PROTO_BYTES {
        return Err(OnnxError::TooLarge {
            bytes: model.len,
            limit: limits::PROTO_BYTES,
        })
        .at_file(path);
    }
    Ok(Layouts {
        model,
        data: external.then_some(data),
    })
}

/// Compares a model with the one that would be written, but for metadata that was appended.
///
/// # Errors
/// When a constant or a file cannot be read.
pub(super) fn compare(
    graph: &Graph,
    path: &Path,
    opset: i64,
    external: Option<bool>,
) -> Result<Agreement> {
    let mut agreement = Agreement::default();
    let Layouts { model, data } = layouts(graph, path, opset, external)?;
    let file = SourceFile::open(path)?;
    compare_layout(&model, &file, &mut agreement)?;
    if let Some(data) = data {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let beside = data_path(path);
        let name = Path::new(beside.file_name().unwrap_or_default());
        let file = SourceFile::open_inside(folder, name).map_err(io_error("open", &beside))?;
        compare_layout(&data, &file, &mut agreement)?;
    }
    Ok(agreement)
}

fn compare_layout(layout: &Layout<'_>, file: &SourceFile, agreement: &mut Agreement) -> Result<()> {
    for (offset, part) in &layout.parts {
        if let Part::Bytes(bytes) = part {
            agreement.add_bytes(file, *offset, bytes, "the graph differs")?;
        }
    }
    agreement.add(file, &layout.placed())
}

/// Bytes of all initialisers.
pub(super) fn weight_bytes(graph: &Graph) -> u64 {
    graph
        .initializers
        .iter()
        .map(|i| i.constant.byte_len())
        .sum()
}

/// `model.onnx` → `model.onnx.data`
pub(super) fn data_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".data");
    path.with_file_name(name)
}

fn layout<'a>(
    graph: &'a Graph,
    opset: i64,
    location: Option<&str>,
    data: &mut Layout<'a>,
) -> Result<Layout<'a>> {
    // The graph first: its length precedes it.
    let mut body = Layout::default();
    let mut nodes = Vec::new();
    for node in &graph.nodes {
        message(GRAPH_NODE, node, &mut nodes);
    }
    prost::encoding::string::encode(GRAPH_NAME, &graph.name, &mut nodes);
    body.bytes(nodes);
    for initializer in &graph.initializers {
        tensor(initializer, opset, location, &mut body, data)?;
    }
    let mut tail = Vec::new();
    let mut infos = |field, infos: &[ValueInfoProto]| {
        for info in infos {
            message(field, info, &mut tail);
        }
    };
    infos(GRAPH_INPUT, &graph.inputs);
    infos(GRAPH_OUTPUT, &graph.outputs);
    infos(GRAPH_VALUE_INFO, &graph.value_info);
    body.bytes(tail);

    let header = ModelProto {
        ir_version: Some(ir_version(opset)),
        producer_name: Some(env!("CARGO_PKG_NAME").to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        ..ModelProto::default()
    };
    let mut head = header.encode_to_vec();
    encode_key(MODEL_GRAPH, WireType::LengthDelimited, &mut head);
    encode_varint(body.len, &mut head);
    let shift = num::u64_of(head.len());
    let mut model = Layout::default();
    model.bytes(head);
    for (offset, part) in body.parts {
        model.parts.push((offset + shift, part));
    }
    model.len += body.len;
    let mut end = Vec::new();
    let default_opset = OperatorSetIdProto {
        domain: None,
        version: Some(opset),
    };
    message(MODEL_OPSET_IMPORT, &default_opset, &mut end);
    for (key, value) in &graph.metadata {
        message(MODEL_METADATA, &entry(key, value), &mut end);
    }
    model.bytes(end);
    Ok(model)
}

fn tensor<'a>(
    initializer: &'a Initializer,
    opset: i64,
    location: Option<&str>,
    body: &mut Layout<'a>,
    data: &mut Layout<'a>,
) -> Result<()> {
    let constant = &initializer.constant;
    let len = constant.byte_len();
    let mut tensor = TensorProto {
        dims: constant.shape().iter().map(|&d| num::i64_of(d)).collect(),
        data_type: Some(data_type(constant.dtype(), opset)?.into()),
        name: Some(initializer.name.clone()),
        ..TensorProto::default()
    };
    let mut framing = Vec::new();
    if let Some(location) = location.filter(|_| len >= INLINE_BYTES) {
        data.align();
        tensor.data_location = Some(DataLocation::External.into());
        tensor.external_data = vec![
            entry("location", location),
            entry("offset", &data.len.to_string()),
            entry("length", &len.to_string()),
        ];
        data.constant(constant);
        message(GRAPH_INITIALIZER, &tensor, &mut framing);
        body.bytes(framing);
        return Ok(());
    }
    let mut head = tensor.encode_to_vec();
    encode_key(TENSOR_RAW_DATA, WireType::LengthDelimited, &mut head);
    encode_varint(len, &mut head);
    encode_key(GRAPH_INITIALIZER, WireType::LengthDelimited, &mut framing);
    encode_varint(num::u64_of(head.len()) + len, &mut framing);
    framing.extend(head);
    body.bytes(framing);
    body.constant(constant);
    Ok(())
}

pub(super) fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    }
}

/// Appends `message` as field `field`.
pub(super) fn message(field: u32, message: &impl Message, out: &mut Vec<u8>) {
    let len = message.encoded_len();
    out.reserve(len + encoded_len_varint(num::u64_of(len)) + 5);
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(num::u64_of(len), out);
    out.extend(message.encode_to_vec());
}

fn write_layout(layout: &Layout<'_>, path: &Path, progress: Option<Progress<'_>>) -> Result<()> {
    let file = TargetFile::create(path, layout.len)?;
    let result = fill(layout, &file, progress);
    if result.is_err() {
        drop(file);
        // The first error is the one to report.
        let _ = std::fs::remove_file(path);
    }
    result
}

fn fill(layout: &Layout<'_>, file: &TargetFile, progress: Option<Progress<'_>>) -> Result<()> {
    let progress = progress.unwrap_or(&|_| {});
    for (offset, part) in &layout.parts {
        if let Part::Bytes(bytes) = part {
            file.write_at(*offset, bytes)?;
            progress(num::u64_of(bytes.len()));
        }
    }
    write_constants(file, &layout.placed(), progress)
}
