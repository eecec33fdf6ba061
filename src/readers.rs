//! Every reader of untrusted bytes, as one table: for fuzzing and for the mutation run of the tests. A reader that is not here is not tested so.

use std::path::{Path, PathBuf};

use crate::error::{Result, io_error};
use crate::source::{OpenOptions, bytes};
use crate::verify::Task;
use crate::{arch, coreml, onnx, provenance, source};

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
        name: "onnx_file",
        read: onnx_file,
    },
    Reader {
        name: "mlmodel_file",
        read: mlmodel_file,
    },
    Reader {
        name: "task",
        read: task,
    },
    Reader {
        name: "tokenizer",
        read: tokenizer,
    },
    Reader {
        name: "statement",
        read: |_, b| provenance::parse(b).map(|_| ()),
    },
    Reader {
        name: "key",
        read: key,
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

/// What `inspect` and `audit` read of an ONNX file.
fn onnx_file(folder: &Path, bytes: &[u8]) -> Result<()> {
    onnx::inspect(&written(folder, "mutant.onnx", bytes)?).map(|_| ())
}

/// What `lint`, `inspect` and `inspect --mil` read of a Core ML model; `weight.bin` lies in the folder.
fn mlmodel_file(folder: &Path, bytes: &[u8]) -> Result<()> {
    let path = written(folder, "mutant.mlmodel", bytes)?;
    coreml::lint(&path)?;
    let listed = coreml::listing(&path);
    coreml::inspect(&path)?;
    listed.map(|_| ())
}

/// A tokenizer, and a text through it.
fn tokenizer(folder: &Path, bytes: &[u8]) -> Result<()> {
    const TASK: &str = "name = \"t\"\ntokenizer = \"mutant.json\"\n[[classes]]\nname = \"YES\"\ntoken_id = 1\n[[classes]]\nname = \"NO\"\ntoken_id = 2\n[[cases]]\nid = \"a\"\ntext = \"Is this a caf\u{e9}, 42?\\n\"\nexpected = \"NO\"\n";
    written(folder, "mutant.json", bytes)?;
    Task::parse(TASK, folder).map(|_| ())
}

/// A private or a public key.
fn key(folder: &Path, bytes: &[u8]) -> Result<()> {
    let path = written(folder, "mutant.pem", bytes)?;
    match provenance::Signer::read(&path) {
        Ok(signer) => drop(signer.keyid()),
        Err(_) => drop(provenance::Verifier::read(&path)?.keyid()),
    }
    Ok(())
}

/// The bytes as a file, for what is read by its path.
fn written(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = folder.join(name);
    // A new file: some file systems write out at once what replaces the content of an old one.
    if path.exists() {
        std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
    }
    std::fs::write(&path, bytes).map_err(io_error("write", &path))?;
    Ok(path)
}

fn task(folder: &Path, bytes: &[u8]) -> Result<()> {
    Task::parse(&String::from_utf8_lossy(bytes), folder).map(|_| ())
}

/// A config; the weights that it is for lie in the folder.
fn config(folder: &Path, bytes: &[u8]) -> Result<()> {
    let path = written(folder, "mutant.json", bytes)?;
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
