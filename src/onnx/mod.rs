//! All of ONNX: proto, file and external data, import, export, op versions, names.

mod budget;
mod error;
mod export;
mod external;
mod file;
mod import;
mod inspect;
mod metadata;
mod types;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use error::OnnxError;
pub use export::with_stored_parameters;
pub use file::Progress;
pub(crate) use import::varies;
pub use import::{
    OnnxImportError, OpenSize, Read, ReadOptions, decided, read, read_bytes, read_tensor,
};
pub use inspect::{Axis, Port, Summary, inspect};
pub use metadata::append_metadata;
pub use types::{MAX_OPSET, MIN_OPSET};

use crate::error::Result;
use crate::ir::{Agreement, CompressedWeights, Compression, Module};

/// The place of a tensor's external data in `folder`, of the tensor's message: for [`crate::readers`].
///
/// # Errors
/// When it leads out of the folder, or the file does not hold it.
pub fn external_data(bytes: &[u8], folder: &Path) -> Result<()> {
    let found = external::find_of_bytes(bytes, folder)?;
    let mut bytes = vec![0; crate::tensor::num::usize_of(found.len)];
    found.file.read_at(found.offset, &mut bytes)
}

/// The generated messages. Their schema, and what it leaves out, is in `proto/`.
#[allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    clippy::all,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm
)]
pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

/// How a model is written.
#[derive(Clone, Copy)]
pub struct WriteOptions<'a> {
    /// Version of the standard operators, [`MIN_OPSET`] to [`MAX_OPSET`].
    pub opset: i64,
    /// Whether weights go to a file of their own; by default from 1.5 GB on.
    pub external_data: Option<bool>,
    /// Whether compressed weights are written as what they stand for.
    pub expand_weights: bool,
    /// Told of every write.
    pub progress: Option<Progress<'a>>,
}

impl Default for WriteOptions<'_> {
    fn default() -> Self {
        WriteOptions {
            opset: 18,
            external_data: None,
            expand_weights: false,
            progress: None,
        }
    }
}

impl std::fmt::Debug for WriteOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteOptions")
            .field("opset", &self.opset)
            .field("external_data", &self.external_data)
            .field("expand_weights", &self.expand_weights)
            .finish_non_exhaustive()
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The model file, then the file with external data if there is one, with their sizes in bytes.
    pub files: Vec<(PathBuf, u64)>,
    /// Nodes of the graph.
    pub nodes: usize,
    /// Initialisers.
    pub initializers: usize,
    /// Bytes of all initialisers.
    pub weight_bytes: u64,
    /// Name of every parameter and operation result of the IR → its name in the file.
    pub names: BTreeMap<String, String>,
    /// What became of compressed weights.
    pub compressed: CompressedWeights,
}

/// Writes `module` to `path`, which must not exist. External data goes beside it, as `{path}.data`.
///
/// # Errors
/// When the module uses something that ONNX cannot say, or a file cannot be written. Nothing is left behind then.
pub fn write(module: &Module, path: &Path, options: &WriteOptions<'_>) -> Result<Written> {
    if !(MIN_OPSET..=MAX_OPSET).contains(&options.opset) {
        return Err(OnnxError::Opset {
            found: options.opset,
            min: MIN_OPSET,
            max: MAX_OPSET,
        }
        .into());
    }
    let graph = export::export(module, options.opset, options.expand_weights)?;
    // Four bits are a type since opset 21; what has fewer goes there too.
    let way_out = |form: &Compression| {
        let nibbles = form.mask.is_none() && form.data.dtype().bits() <= 4;
        (nibbles && options.opset < 21).then(|| "`--opset 21`".to_owned())
    };
    let compressed =
        CompressedWeights::of([(module, &graph.kept)], options.expand_weights, way_out)?;
    let files = file::write(
        &graph,
        path,
        options.opset,
        options.external_data,
        options.progress,
    )?;
    Ok(Written {
        files,
        nodes: graph.nodes.len(),
        initializers: graph.initializers.len(),
        weight_bytes: file::weight_bytes(&graph),
        names: graph.names,
        compressed,
    })
}

/// Compares the model at `path` with the one that [`write`] would write for `module`: graph and every weight, but for metadata that was appended.
/// Nothing is written.
///
/// # Errors
/// When the module uses something that ONNX cannot say, or the model cannot be read.
pub fn compare(module: &Module, path: &Path, options: &WriteOptions<'_>) -> Result<Agreement> {
    let graph = export::export(module, options.opset, options.expand_weights)?;
    file::compare(&graph, path, options.opset, options.external_data)
}
