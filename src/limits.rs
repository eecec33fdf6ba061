//! Every cap on untrusted input, each with its reason: first those that a flag can change, then those that formats, arithmetic and the code fix.
//!
//! The values are process-wide: the command line sets them before any work begins, a library may do so with [`set`]. They decide only
//! whether something is refused, with one exception that is named there (`folded-elements`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Class, Diagnostic};

/// A cap that can be changed: `--limit NAME=VALUE`.
#[derive(Debug)]
pub struct Limit {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it counts.
    pub unit: &'static str,
    /// The value unless somebody changes it, or the machine has less.
    pub default: u64,
    /// The highest value that can be asked for: what the code was made for.
    pub most: u64,
    /// Why there is a cap, and why there.
    pub reason: &'static str,
    /// What this machine allows when nobody changes it.
    machine: fn() -> u64,
    /// The value in force; 0 stands for the default.
    value: AtomicU64,
}

impl Limit {
    /// The value in force.
    #[must_use]
    pub fn get(&self) -> u64 {
        match self.value.load(Ordering::Relaxed) {
            0 => self.default.min((self.machine)()),
            value => value,
        }
    }

    /// The value in force, for what is counted in memory.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::try_from(self.get()).unwrap_or(usize::MAX)
    }

    /// Whether somebody changed the value.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        ![0, self.default].contains(&self.value.load(Ordering::Relaxed))
    }

    /// The way out for an error about this cap.
    #[must_use]
    pub fn hint(&self) -> String {
        format!(
            "if you trust the file, raise the cap with `--limit {}=N` (at most {})",
            self.name, self.most
        )
    }

    fn change(&self, value: u64) -> Result<(), LimitError> {
        if value == 0 || value > self.most {
            return Err(LimitError::Range {
                name: self.name,
                value,
                most: self.most,
            });
        }
        self.value.store(value, Ordering::Relaxed);
        Ok(())
    }
}

/// The value in force and the flag that changes it, as a message about the cap says it.
impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (`--limit {}=N` changes that)", self.get(), self.name)
    }
}

macro_rules! limits {
    ($($id:ident = $name:literal, $default:expr, $most:expr, $unit:literal, $reason:literal $(, $machine:expr)?;)*) => {
        $(
            #[doc = $reason]
            pub static $id: Limit = Limit {
                name: $name,
                unit: $unit,
                default: $default,
                most: $most,
                reason: $reason,
                machine: limits!(@machine $($machine)?),
                value: AtomicU64::new(0),
            };
        )*
        /// Every cap that can be changed, in the order of this page.
        pub static ALL: &[&Limit] = &[$(&$id),*];
    };
    (@machine) => { || u64::MAX };
    (@machine $machine:expr) => { $machine };
}

const KI: u64 = 1 << 10;
const MI: u64 = 1 << 20;
const GI: u64 = 1 << 30;
const TI: u64 = 1 << 40;

limits! {
    HEADER_BYTES = "header-bytes", 100_000_000, 4 * GI, "bytes",
        "Largest safetensors header. The format's own readers use the same figure; real headers stay below 10 MB.";
    TENSORS = "tensors", 1_000_000, 100_000_000, "tensors",
        "Most tensors in one checkpoint or program. The largest published models have some 100,000.";
    SIDE_FILE_BYTES = "side-file-bytes", 64 * MI, 4 * GI, "bytes",
        "Largest JSON or TOML side file (config, shard index, lock, task, tokenizer).";
    JSON_VALUES = "json-values", 2_000_000, GI, "values",
        "Most values in one JSON side file: a shard index of a million names fits, and memory stays below 500 MB.";
    RANK = "rank", 32, 64, "dimensions",
        "Highest rank of any tensor. NumPy stops at 64, ONNX models in the wild at 8.";
    NODES = "nodes", 1_000_000, 100_000_000, "operations",
        "Most operations in one program. A 100-layer transformer has some 10,000.";
    SIZE_TERMS = "size-terms", 1_000, 4_000, "terms",
        "Longest expression of one size that varies, in terms and factors: products of sums double with every operator. Sizes of stacked convolutions with open width have some tens.";
    MODEL_SIZE_TERMS = "model-size-terms", 4_000_000, GI, "terms",
        "Most terms and factors of all sizes that vary together, each time an operator gives or takes them. A transformer of 10,000 operations has some 100,000.";
    MESSAGE_BYTES = "message-bytes", 256 * MI, 64 * GI, "bytes",
        "Most memory of an ONNX model's graph, without the raw bytes of weights, once it is parsed. An empty message takes two bytes of a file and hundreds of memory; a transformer of 10,000 operations takes 20 MB.";
    NESTING = "nesting", 32, 64, "levels",
        "Deepest nesting of blocks in a program. Readers recurse: the cap is what the stack of any thread holds.";
    FOLDER_FILES = "folder-files", 100_000, 10_000_000, "files",
        "Most files in a model folder or package that is locked or hashed. The largest published repositories have some 2,000.";
    FOLDER_DEPTH = "folder-depth", 16, 64, "levels",
        "Deepest folder inside a model folder or package that is locked or hashed. Readers recurse; real ones are 4 deep.";
    FOLDED_ELEMENTS = "folded-elements", 4 * MI, 1 << 31, "elements",
        "Largest result of constant folding. Masks and index tables of 2,048 positions fit. Changes what is folded, and so the bytes of an artifact; provenance records it.";
    FOLDED_BYTES = "folded-bytes", 256 * MI, 1 << 40, "bytes",
        "Most bytes of constants that are held in memory while a program is read: what constant folding gave, and small tensors of the file. What folding would add beyond is left for the run; twice as much is refused. Recorded like `folded-elements`.";
    FOLDED_WORK = "folded-work", GI, 1 << 50, "elements",
        "Most elements that constant folding reads, writes or multiplies in one program: some seconds. What would be beyond is left for the run. Recorded like `folded-elements`.";
    EXPANDED_ELEMENTS = "expanded-elements", 1 << 29, 1 << 40, "elements",
        "Most elements of a compressed weight once it is decoded: 2 GiB of floats. A lookup table of long vectors would ask for any amount.";
    LAYERS = "layers", 4096, MI, "layers",
        "Most layers a config may ask for. The deepest published transformers have some 200.";
    TABLE_ELEMENTS = "table-elements", 1 << 27, 1 << 33, "elements",
        "Largest table that is computed for positions: a million positions of 128 numbers.";
    READ_BYTES = "read-bytes", 4 * TI, 1 << 60, "bytes",
        "Most bytes of files that one model folder or download may have together. The largest published checkpoints have 1.4 TB; sparse files cost an attacker nothing.";
    NPY_HEADER_BYTES = "npy-header-bytes", 64 * KI, 16 * MI, "bytes",
        "Largest text header of an array in an `.npz` archive. NumPy's own reader stops at 10,000.";
    ARCHIVE_MEMBER_BYTES = "archive-bytes", 8 * GI, 16 * TI, "bytes",
        "Most bytes that the entries of an archive have together, decompressed.";
    ARCHIVE_MEMBERS = "archive-entries", 100_000, 10_000_000, "entries",
        "Most entries of an archive.";
    ARCHIVE_RATIO = "archive-ratio", 300, 2_000, "times",
        "Most decompressed bytes per compressed byte of an archive, looked at above 64 MiB. Weights and activations compress by less than 10; a bomb reaches 1,032, where Deflate ends.";
    VALUE_ELEMENTS = "value-elements", 1 << 31, 1 << 40, "elements",
        "Most elements of one value that the interpreter computes: 8 GiB of floats. Sizes from a file must not ask for any amount of memory.";
    LOOP_ROUNDS = "loop-rounds", MI, 1 << 40, "rounds",
        "Most rounds of a loop that the interpreter runs: a loop that goes on is a model that never answers.";
    MEMORY_BYTES = "memory-bytes", 64 * GI, 1 << 60, "bytes",
        "Most bytes of tensors that the interpreter holds at once (`--max-memory`): inputs, decoded constants, results and the working space of operations, counted before each result is allocated. Three quarters of the memory that is free when the program starts, if that is less (16 GiB where the system does not say). Not counted: a few megabytes per thread that matrix kernels pack.",
        free_memory;
    DECODED_BYTES = "decoded-bytes", 512 * MI, 1 << 60, "bytes",
        "Decoded constants that one interpreter keeps between runs: those of a model of 130 million parameters. A verification has up to three interpreters; larger models read the rest anew in every run, which takes some tenths of its time. A quarter of `memory-bytes` at most.",
        || free_memory() / 4;
    TRACE_BYTES = "trace-bytes", GI, 1 << 60, "bytes",
        "Intermediate values of the source that are kept for comparison. Those beyond are counted in the report. A quarter of `memory-bytes` at most.",
        || free_memory() / 4;
    PICKLE_BYTES = "pickle-bytes", 256 * MI, 4 * GI, "bytes",
        "Longest pickle in a PyTorch checkpoint, without the weights. That of a model of 100,000 tensors has some 20 MB.";
    PICKLE_MEMORY = "pickle-memory", 512 * MI, 64 * GI, "bytes",
        "Most memory that one pickle may take, with what is copied or compared while it is read. A checkpoint of 100,000 tensors, optimizer included, takes some 400 MB; the whole program stays below 1 GB.";
    REPEATED_BYTES = "repeated-bytes", 256 * MI, TI, "bytes",
        "Most bytes that views of a PyTorch checkpoint which repeat elements of their storage (broadcast masks, tables) may have together, written out.";
    IMAGE_PIXELS = "image-pixels", 64 * MI, 4 * GI, "pixels",
        "Most pixels of an image that is an input. Cameras give up to 100 million, networks take less than two; a header costs an attacker nothing.";
    TASK_CASES = "task-cases", 1_000_000, 100_000_000, "cases",
        "Most cases of one task.";
}

/// Deepest nesting of divisions, minima and maxima in the expression of one size. Each stage of a network that halves its input adds one.
pub const SIZE_NESTING: usize = 100;
/// Most terms of an exact quotient of sizes that is looked for. A division that has more stays a division.
pub const QUOTIENT_TERMS: usize = 64;
/// Deepest nesting of containers, and most open marks, in one pickle. Checkpoints have some 5, configs some 10.
pub const PICKLE_NESTING: usize = 64;
/// Longest integer in a pickle, in bytes: PyTorch's own magic number has 10.
pub const PICKLE_INTEGER_BYTES: u64 = 64;
/// Most elements in one tensor: keeps every byte count within 2^53, exact in JSON and in `f64`.
pub const ELEMENTS: u64 = 1 << 49;
/// Largest protobuf that is parsed as a whole, in bytes: the format itself ends at 2 GiB.
pub const PROTO_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Longest sequence a config or flag may ask for: products with a width stay far from overflow.
pub const SEQUENCE: u64 = 1 << 24;
/// Largest size that a config may state (vocabulary, width, positions), so that products of two stay far from overflow.
pub const DIMENSION: u64 = 1 << 31;
/// Most enumerated shapes of one Core ML input (Apple's documented limit).
pub const ENUMERATED_SHAPES: usize = 128;
/// Longest name of a storage in a pickle, in bytes. They are numbers.
pub const PICKLE_KEY_BYTES: usize = 256;
/// Most texts of a refused pickle that are remembered while the name it asks for is looked for.
pub const PICKLE_REMEMBERED: usize = 4096;
/// Longest line that names a module or an attribute; Python's own longest are below 100.
pub const PICKLE_LINE: usize = 256;
/// Longest of the small members of a PyTorch archive (version, byte order).
pub const ARCHIVE_SMALL_BYTES: u64 = 4096;
/// Most wrappers (`model_state_dict` and the like) around each other in a checkpoint.
pub const CHECKPOINT_WRAPPERS: usize = 4;
/// Most attempts at a download of which none brought a byte.
#[cfg(feature = "fetch")]
pub const FETCH_BARREN_ATTEMPTS: usize = 4;
/// Most attempts at a download in all: a server that gives a byte at a time is given up as well.
#[cfg(feature = "fetch")]
pub const FETCH_ATTEMPTS: usize = 50;
/// Most redirects of one request to a hub.
#[cfg(feature = "fetch")]
pub const FETCH_REDIRECTS: usize = 5;
/// Largest header of an answer from a hub, in bytes.
#[cfg(feature = "fetch")]
pub const FETCH_HEADER_BYTES: usize = 64 * 1024;
/// Most pages of a hub's listing.
#[cfg(feature = "fetch")]
pub const FETCH_PAGES: usize = 100;
/// Largest page of a hub's listing, in bytes: some 100,000 files.
#[cfg(feature = "fetch")]
pub const FETCH_PAGE_BYTES: u64 = 32 * 1024 * 1024;
/// Longest part of an ONNX file that is parsed in one piece, in bytes: everything but raw bytes.
pub const PROTO_PART_BYTES: u64 = 256 * 1024 * 1024;
/// Deepest nesting of protobuf messages that is counted: prost stops before.
pub const PROTO_NESTING: usize = 100;
/// Most rounds of an ONNX loop that are read one after the other.
pub const UNROLLED_ROUNDS: i64 = 1024;
/// Most readings of one ONNX model: what is learnt about sizes in one shows at most a little more in the next.
pub const ONNX_READINGS: usize = 8;
/// Most rows of a matrix whose determinant is expanded: the terms grow as the factorial.
pub const DETERMINANT_ROWS: usize = 4;
/// Most ranged sizes of a Core ML model of which each is tried on its own.
pub const RANGED_SIZES: usize = 16;
/// Most steps of a clipped LSTM that are written out.
pub const CLIPPED_STEPS: usize = 256;
/// Most elements of an integer tensor of an ONNX graph that is followed as a list of dimensions.
pub const ONNX_FOLLOWED_ELEMENTS: usize = 256;
/// Most elements of an integer tensor of a Core ML program that is followed as a list of dimensions. Shapes have at most 5.
pub const COREML_FOLLOWED_ELEMENTS: usize = 64;
/// Deepest folder of a Core ML package that `lint` looks into: packages have two levels.
pub const PACKAGE_NESTING: usize = 8;
/// Most files of a Core ML package that `lint` lists: packages have two.
pub const PACKAGE_FILES: usize = 1000;
/// How many bytes of weights are held at once while a constant is streamed, and where pieces of a file end: at multiples of it, a power of two.
/// Small enough to stay in the second-level cache.
pub const STREAM_CHUNK_BYTES: usize = 256 << 10;
/// Most threads that write one file. More do not make a disk faster, and each may hold a transposed weight.
pub const WRITER_THREADS: usize = 4;
/// Size below which the ratio of an archive is not looked at, in bytes: a file of zeros is no bomb until it is large.
pub const ARCHIVE_RATIO_FROM_BYTES: u64 = 64 * MI;

/// Three quarters of the memory that this process could take when it was first asked for, in bytes.
fn free_memory() -> u64 {
    static FREE: OnceLock<u64> = OnceLock::new();
    *FREE.get_or_init(|| {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let machine = read("/proc/meminfo").and_then(|text| available(&text));
        // What a container may have: version 2 of control groups, then version 1. Other processes in it are not looked for.
        let container = read("/sys/fs/cgroup/memory.max")
            .or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
        let container = container.and_then(|text| text.trim().parse().ok());
        let free = machine.unwrap_or(UNKNOWN_MEMORY);
        (free.min(container.unwrap_or(u64::MAX)) / 4 * 3).max(1)
    })
}

/// What is taken for free where the system does not say, in bytes: three quarters of it are 16 GiB.
const UNKNOWN_MEMORY: u64 = 16 * GI / 3 * 4;

/// The memory that is available, from the text of `/proc/meminfo`.
fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(KI)
}

/// Why a cap could not be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No such cap.
    #[error("there is no limit `{name}`")]
    Unknown {
        /// What was given.
        name: String,
    },
    /// A value outside of what the code was made for.
    #[error("limit `{name}` must be in 1..={most}, found {value}")]
    Range {
        /// The cap.
        name: &'static str,
        /// What was given.
        value: u64,
        /// The highest value.
        most: u64,
    },
    /// Not `NAME=VALUE`.
    #[error("`{text}` is not NAME=VALUE")]
    Form {
        /// What was given.
        text: String,
    },
    /// Not a number with an optional unit.
    #[error("`{text}` is not a size")]
    Size {
        /// What was given.
        text: String,
    },
}

impl Diagnostic for LimitError {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn code(&self) -> &'static str {
        "bad_limit"
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            LimitError::Unknown { .. } | LimitError::Range { .. } => {
                "`distill-convert doctor` lists the limits with their reasons".into()
            }
            LimitError::Form { .. } => "for example `--limit header-bytes=200M`".into(),
            LimitError::Size { .. } => "for example `4000000`, `4G` or `4Gi`".into(),
        })
    }
}

/// Changes the cap called `name`, for the whole process.
///
/// # Errors
/// When there is no such cap, or the value is zero or beyond [`Limit::most`].
pub fn set(name: &str, value: u64) -> Result<(), LimitError> {
    let limit = ALL.iter().find(|limit| limit.name == name);
    let unknown = || LimitError::Unknown {
        name: name.to_owned(),
    };
    limit.ok_or_else(unknown)?.change(value)
}

/// Changes the cap that `NAME=VALUE` names.
///
/// # Errors
/// As [`set`], and when the text is not of that form.
pub fn set_text(text: &str) -> Result<(), LimitError> {
    let (name, value) = text.split_once('=').ok_or_else(|| LimitError::Form {
        text: text.to_owned(),
    })?;
    set(name.trim(), parse_size(value)?)
}

/// Bounds what the interpreter holds at once, and with it what is kept beside: decoded constants and traces get a quarter each at most.
///
/// # Errors
/// As [`set`].
pub fn set_memory(bytes: u64) -> Result<(), LimitError> {
    MEMORY_BYTES.change(bytes)?;
    for kept in [&DECODED_BYTES, &TRACE_BYTES] {
        kept.change(kept.get().min(bytes / 4).max(1))?;
    }
    Ok(())
}

/// The caps that are not at their default, by name.
#[must_use]
pub fn changed() -> std::collections::BTreeMap<&'static str, u64> {
    let changed = ALL.iter().filter(|limit| limit.is_changed());
    changed.map(|limit| (limit.name, limit.get())).collect()
}

/// Reads `4000000`, `4M` (decimal) or `4Mi` (binary); units up to `T`.
///
/// # Errors
/// When the text is not of that form, or too large.
pub fn parse_size(text: &str) -> Result<u64, LimitError> {
    let error = || LimitError::Size {
        text: text.to_owned(),
    };
    let trimmed = text.trim();
    let digits = trimmed.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match trimmed[digits.len()..].trim_end_matches('B') {
        "" => 1,
        "k" | "K" => 1000,
        "M" => 1000u64.pow(2),
        "G" => 1000u64.pow(3),
        "T" => 1000u64.pow(4),
        "Ki" => KI,
        "Mi" => MI,
        "Gi" => GI,
        "Ti" => TI,
        _ => return Err(error()),
    };
    let number: u64 = digits.replace('_', "").parse().map_err(|_| error())?;
    number.checked_mul(factor).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_cap_has_a_reason() {
        let names: std::collections::BTreeSet<&str> = ALL.iter().map(|l| l.name).collect();
        assert_eq!(names.len(), ALL.len());
        for limit in ALL {
            assert!(limit.default > 0 && limit.default <= limit.most);
            assert!(limit.reason.len() > 20 && limit.reason.ends_with('.'));
        }
    }

    #[test]
    fn a_cap_can_be_raised_to_its_end_and_no_further() {
        // One of its own: the others hold for every test of this process.
        let mut limit = Limit {
            name: "n",
            unit: "things",
            default: 5,
            most: 10,
            reason: "",
            machine: || 7,
            value: AtomicU64::new(0),
        };
        assert_eq!((limit.get(), limit.is_changed()), (5, false));
        limit.change(10).unwrap();
        assert_eq!((limit.count(), limit.is_changed()), (10, true));
        limit.change(5).unwrap();
        assert!(!limit.is_changed());
        limit.machine = || 3;
        limit.value = AtomicU64::new(0);
        // A small machine is no change of a cap: nothing is recorded.
        assert_eq!((limit.get(), limit.is_changed()), (3, false));
        for bad in [0, 11] {
            let error = limit.change(bad).unwrap_err().to_string();
            assert_eq!(error, format!("limit `n` must be in 1..=10, found {bad}"));
        }
    }

    #[test]
    fn free_memory_is_read_from_what_the_system_says() {
        let text = "MemTotal:  100 kB\nMemAvailable:   75 kB\nBuffers: 1 kB\n";
        assert_eq!(available(text), Some(75 * KI));
        assert_eq!(available("MemTotal: 1 kB\nMemAvailable: x kB"), None);
        assert_eq!(UNKNOWN_MEMORY / 4 * 3, 16 * GI - 1);
        assert!(free_memory() > MI);
        assert!(MEMORY_BYTES.get() >= 4 * DECODED_BYTES.get().min(TRACE_BYTES.get()));
    }

    #[test]
    fn sizes_have_units() {
        let good = [
            ("7", 7),
            ("64_000", 64_000),
            ("4k", 4000),
            ("4Ki", 4096),
            ("2MB", 2_000_000),
            (" 2GiB ", 2 * GI),
            ("1T", 1_000_000_000_000),
        ];
        for (text, expected) in good {
            assert_eq!(parse_size(text), Ok(expected));
        }
        for bad in ["", "x", "4Q", "-1", "1.5G", "99999999999T", "4 k"] {
            let expected = LimitError::Size { text: bad.into() };
            assert_eq!(parse_size(bad), Err(expected));
        }
        let unknown = set_text("no-such=1").unwrap_err().to_string();
        assert_eq!(unknown, "there is no limit `no-such`");
        assert_eq!(
            set_text("tensors").unwrap_err().to_string(),
            "`tensors` is not NAME=VALUE"
        );
    }
}
