//! Every reader of untrusted bytes, as one table: for fuzzing and for the mutation run of the tests. A reader that is not here is not tested so.

use std::path::Path;

use crate::error::{Result, io_error};
use crate::source::{OpenOptions, bytes};
use crate::verify::Task;
use crate::{arch, coreml, onnx, source};

/// A reader.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// Its name; also that of its fuzz target and of the folder of inputs that were found.
    pub name: &'static str,
    /// Reads the bytes. The folder is a private one, with what belongs beside the file: external data, weights, a tokenizer.
    pub read: fn(&Path, &[u8]) -> Result<()>,
}

/// All readers.
pub const ALL: &[Reader] = &[
    Reader {
        name: "safetensors",
        read: |_, b| bytes::safetensors(b),
    },
    Reader {
        name: "shard_index",
        read: |_, b| bytes::shard_index(b),
    },
    Reader {
        name: "lock",
        read: |_, b| bytes::lock(b),
    },
    Reader {
        name: "json",
        read: |_, b| bytes::json(b),
    },
    Reader {
        name: "pickle",
        read: |_, b| bytes::pickle(b),
    },
    Reader {
        name: "checkpoint",
        read: |_, b| bytes::checkpoint(b),
    },
    Reader {
        name: "npz",
        read: |_, b| bytes::npz(b),
    },
    Reader {
        name: "image",
        read: |_, b| bytes::image(b),
    },
    Reader {
        name: "onnx",
        read: onnx_model,
    },
    Reader {
        name: "external_data",
        read: |folder, b| onnx::external_data(b, folder),
    },
    Reader {
        name: "mlpackage_manifest",
        read: |folder, b| coreml::bytes::manifest(folder, b),
    },
    Reader {
        name: "weight_blob",
        read: |_, b| coreml::bytes::weights(b),
    },
    Reader {
        name: "mil_program",
        read: mil_program,
    },
    Reader {
        name: "task",
        read: task,
    },
    Reader {
        name: "config",
        read: config,
    },
];

/// The reader of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Reader> {
    ALL.iter().find(|reader| reader.name == name)
}

/// An ONNX model; its external data lies in the folder.
fn onnx_model(folder: &Path, bytes: &[u8]) -> Result<()> {
    onnx::read_bytes(bytes, folder, &onnx::ReadOptions::default()).map(|_| ())
}

/// A Core ML model; its `weight.bin`, if there is one, lies in the folder.
fn mil_program(folder: &Path, bytes: &[u8]) -> Result<()> {
    let weights = folder.join("weight.bin");
    let weights = if weights.is_file() {
        Some(std::fs::read(&weights).map_err(io_error("read", &weights))?)
    } else {
        None
    };
    coreml::bytes::program(bytes, weights.as_deref())
}

fn task(folder: &Path, bytes: &[u8]) -> Result<()> {
    Task::parse(&String::from_utf8_lossy(bytes), folder).map(|_| ())
}

/// A config; the weights that it is for lie in the folder.
fn config(folder: &Path, bytes: &[u8]) -> Result<()> {
    let path = folder.join("mutant.json");
    std::fs::write(&path, bytes).map_err(io_error("write", &path))?;
    let options = OpenOptions {
        config: Some(&path),
        ..OpenOptions::default()
    };
    let checkpoint = source::open(folder, &options)?;
    let options = arch::Options {
        batch: arch::Extent::Fixed(1),
        seq: arch::Extent::AtMost(4),
        attention: None,
        rotary: arch::RotaryFrequencies::default(),
    };
    arch::build(&checkpoint, &options).map(|_| ())
}
