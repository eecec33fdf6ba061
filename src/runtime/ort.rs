//! ONNX Runtime, loaded at run time.
//!
//! One library and one environment per process: the first that loads stays. Sessions use optimisation level 1, since higher ones fuse into kernels
//! that are less exact than the model.
//!
//! Builds of the library for Linux (1.31) record what they do and send it to their makers, whatever [`ort`] is told, unless the variable
//! `ORT_DISABLE_TELEMETRY=1` stands in the environment before the first of them is loaded. The command line sets it; a program that uses this
//! crate has to do so itself, since a library cannot change the environment of a process with threads.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{OutputSelector, RunOptions};
use ort::value::{DynValue, Tensor as OrtTensor, TensorElementType, ValueType};

use super::elements::{Elements, adapt, by_element_type};
use super::error::RuntimeError;
use super::{Session, check_names};
use crate::error::{Context, Result};
use crate::tensor::{DType, NamedTensors, Tensor};

const ENGINE: &str = "ONNX Runtime";

/// The library of this process.
struct Loaded {
    path: PathBuf,
    version: String,
    environment: Environment,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Loads the library, unless one is loaded already, and gives the version of the one that is.
///
/// # Errors
/// When the file is not a usable ONNX Runtime.
pub fn load(library: &Path) -> Result<String, RuntimeError> {
    with_environment(library, |loaded| Ok(loaded.version.clone()))
}

fn with_environment<T>(
    library: &Path,
    then: impl FnOnce(&Loaded) -> Result<T, RuntimeError>,
) -> Result<T, RuntimeError> {
    let mut slot = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = match &mut *slot {
        Some(loaded) => loaded,
        empty => {
            let unusable = |reason: String| RuntimeError::Library {
                path: library.to_path_buf(),
                reason,
            };
            // Relative paths would be looked for beside the executable.
            let path = std::path::absolute(library).map_err(|e| unusable(e.to_string()))?;
            let environment = ort::init_from(&path)
                .map_err(|e| unusable(e.to_string()))?
                .with_name(env!("CARGO_PKG_NAME"))
                .with_telemetry(false)
                .build()
                .map_err(|e| unusable(e.to_string()))?;
            // What goes wrong comes back as an error; the log would only be in the way.
            environment.set_log_level(LogLevel::Fatal);
            empty.insert(Loaded {
                version: version(&path),
                path,
                environment,
            })
        }
    };
    then(loaded)
}

/// The library's version, from its build information or else its file name.
fn version(path: &Path) -> String {
    let info = ort::info();
    let branch = info
        .split("git-branch=")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .map(str::trim)
        .and_then(|branch| branch.rsplit(['/', '-']).next());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbers = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_digit())
            && text.contains('.')
            && text.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    let from_name = name
        .trim_end_matches(".dylib")
        .split_once(".so.")
        .map(|(_, version)| version.to_owned())
        .or_else(|| {
            name.strip_prefix("libonnxruntime.")
                .map(|v| v.trim_end_matches(".dylib").to_owned())
        })
        .filter(|v| numbers(v));
    from_name
        .or_else(|| branch.filter(|b| numbers(b)).map(str::to_owned))
        .unwrap_or_else(|| "of unknown version".into())
}

/// A model in ONNX Runtime.
pub struct OrtSession {
    version: String,
    library: PathBuf,
    inputs: Vec<(String, DType)>,
    // Outputs that are inputs. ONNX Runtime hands such a value through without a tensor of its own, which the binding does not survive: it is
    // not asked for them.
    passed: Vec<String>,
    computed: Vec<String>,
    session: Mutex<ort::session::Session>,
}

impl std::fmt::Debug for OrtSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OrtSession")
            .field("version", &self.version)
            .field("library", &self.library)
            .field("inputs", &self.inputs)
            .finish_non_exhaustive()
    }
}

/// Whether a model has so many weights that memory counts for more than a tenth of the time: the arena keeps what loading took, which is three times
/// the weights where they are in half precision.
fn is_large(model: &Path) -> bool {
    const LARGE: u64 = 256 << 20;
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    bytes(model).max(bytes(&model.with_added_extension("data"))) >= LARGE
}

impl OrtSession {
    /// Loads a model. `library` is only used if no library is loaded yet.
    ///
    /// # Errors
    /// When the library or the model cannot be loaded, or an input is not a tensor of a type this crate has.
    pub fn open(library: &Path, model: &Path) -> Result<Self> {
        Self::try_open(library, model).at_file(model)
    }

    fn try_open(library: &Path, model: &Path) -> Result<Self> {
        let failed = |reason: String| RuntimeError::Engine {
            engine: ENGINE,
            action: "load the model",
            reason,
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let arena = ort::ep::CPU::default().with_arena_allocator(!is_large(model));
        let (session, version, library) = with_environment(library, |loaded| {
            let session = ort::session::Session::builder(&loaded.environment)
                .map_err(|e| failed(e.to_string()))?
                .with_execution_providers([arena.build()])
                .map_err(|e| failed(e.to_string()))?
                .with_optimization_level(GraphOptimizationLevel::Level1)
                .map_err(|e| failed(e.to_string()))?
                .with_intra_threads(threads)
                .map_err(|e| failed(e.to_string()))?
                .with_log_level(LogLevel::Fatal)
                .map_err(|e| failed(e.to_string()))?
                .commit_from_file(model)
                .map_err(|e| failed(e.to_string()))?;
            Ok((session, loaded.version.clone(), loaded.path.clone()))
        })?;
        let inputs = session
            .inputs()
            .iter()
            .map(|input| {
                let name = input.name().to_owned();
                let dtype = dtype(input.dtype()).ok_or_else(|| RuntimeError::ValueType {
                    name: name.clone(),
                    found: input.dtype().to_string(),
                })?;
                Ok((name, dtype))
            })
            .collect::<Result<Vec<_>, RuntimeError>>()?;
        let is_input = |name: &str| inputs.iter().any(|(input, _)| input == name);
        let names = session.outputs().iter().map(|o| o.name().to_owned());
        let (passed, computed) = names.partition(|name| is_input(name));
        Ok(OrtSession {
            version,
            library,
            inputs,
            passed,
            computed,
            session: Mutex::new(session),
        })
    }

    /// The library that runs it.
    #[must_use]
    pub fn library(&self) -> &Path {
        &self.library
    }
}

impl Session for OrtSession {
    fn engine(&self) -> String {
        format!("{ENGINE} {}", self.version)
    }

    fn run(&self, inputs: &NamedTensors) -> Result<NamedTensors> {
        check_names(self.inputs.iter().map(|(name, _)| name.as_str()), inputs)?;
        let mut values: Vec<(String, DynValue)> = Vec::new();
        let mut results = NamedTensors::new();
        for (name, dtype) in &self.inputs {
            let tensor = inputs
                .get(name)
                .ok_or_else(|| RuntimeError::MissingInput { name: name.clone() })?;
            let tensor = adapt(name, tensor, *dtype)?;
            let value = to_value(name, &tensor)?;
            values.push((name.clone(), value));
            if self.passed.contains(name) {
                results.insert(name.clone(), tensor);
            }
        }
        let failed = |action: &'static str, reason: String| RuntimeError::Engine {
            engine: ENGINE,
            action,
            reason,
        };
        if self.computed.is_empty() {
            return Ok(results);
        }
        let selected = self
            .computed
            .iter()
            .fold(OutputSelector::no_default(), |s, name| s.with(name));
        let options = RunOptions::new()
            .map_err(|e| failed("run the model", e.to_string()))?
            .with_outputs(selected);
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = session
            .run_with_options(values, &options)
            .map_err(|e| failed("run the model", e.to_string()))?;
        for (name, value) in outputs.iter() {
            let tensor = from_value(&value)
                .map_err(|e| failed("give an output", e.to_string()))?
                .ok_or_else(|| RuntimeError::ValueType {
                    name: name.to_owned(),
                    found: value.dtype().to_string(),
                })?;
            let (shape, elements) = tensor;
            results.insert(name.to_owned(), elements.into_tensor(shape)?);
        }
        Ok(results)
    }
}

// The engine's list of types may grow; those we do not have are refused by the caller.
#[allow(clippy::wildcard_enum_match_arm)]
fn dtype(ty: &ValueType) -> Option<DType> {
    let ValueType::Tensor { ty, .. } = ty else {
        return None;
    };
    Some(match ty {
        TensorElementType::Bool => DType::Bool,
        TensorElementType::Int8 => DType::I8,
        TensorElementType::Uint8 => DType::U8,
        TensorElementType::Int16 => DType::I16,
        TensorElementType::Uint16 => DType::U16,
        TensorElementType::Int32 => DType::I32,
        TensorElementType::Uint32 => DType::U32,
        TensorElementType::Int64 => DType::I64,
        TensorElementType::Uint64 => DType::U64,
        TensorElementType::Float16 => DType::F16,
        TensorElementType::Float32 => DType::F32,
        TensorElementType::Float64 => DType::F64,
        _ => return None,
    })
}

fn to_value(name: &str, tensor: &Tensor) -> Result<DynValue> {
    let shape = tensor.shape().to_vec();
    let value = match Elements::of(name, tensor)? {
        Elements::Bool(v) => OrtTensor::from_array((shape, v)).map(|t| t.into_dyn()),
        Elements::I8(v) => OrtTensor::from_array((shape, v)).map(|t| t.into_dyn()),
        Elements::U8(v) => OrtTensor::from_array((shape, v)).map(|t| t.into_dyn()),
        Elements::I16(v) => OrtTensor::from_array((shape, v)).map(|t| t.into_dyn()),
        Elements::U16(v) => OrtTensor::from_array((shape, v)).map(|t| t.into_dyn()),
        Elements::I32(v) => OrtTensor::from_array((shape, v)).map(|t| t.into_dyn()),
        Elements::U32(v) => OrtTensor::from_array((shape, v)).map(|t| t.into_dyn()),
        Elements::I64(v) => OrtTensor::from_array((shape, v)).map(|t| t.into_dyn()),
        Elements::U64(v) => OrtTensor::from_array((shape, v)).map(|t| t.into_dyn()),
        Elements::F16(v) => OrtTensor::from_array((shape, v)).map(|t| t.into_dyn()),
        Elements::F32(v) => OrtTensor::from_array((shape, v)).map(|t| t.into_dyn()),
        Elements::F64(v) => OrtTensor::from_array((shape, v)).map(|t| t.into_dyn()),
    };
    value.map_err(|e| {
        RuntimeError::Engine {
            engine: ENGINE,
            action: "take an input",
            reason: e.to_string(),
        }
        .into()
    })
}

fn from_value(value: &DynValue) -> std::result::Result<Option<(Vec<usize>, Elements)>, ort::Error> {
    macro_rules! extract {
        ($variant:ident, $t:ty) => {{
            let (shape, data) = value.try_extract_tensor::<$t>()?;
            let shape = shape
                .iter()
                .map(|&d| usize::try_from(d).unwrap_or(0))
                .collect();
            (shape, Elements::$variant(data.to_vec()))
        }};
    }
    let Some(dtype) = dtype(value.dtype()) else {
        return Ok(None);
    };
    Ok(Some(by_element_type!(dtype, extract, return Ok(None))))
}
