//! Every cap on untrusted input, each with its reason.

/// Largest safetensors header, in bytes. The format's own readers use the same figure; real headers stay below 10 MB.
pub const HEADER_BYTES: u64 = 100_000_000;
/// Most tensors in one checkpoint. The largest published models have some 100,000.
pub const TENSORS: usize = 1_000_000;
/// Largest JSON or TOML side file (config, shard index, lock, task, tokenizer), in bytes.
pub const SIDE_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Most values in one JSON side file: a shard index of [`TENSORS`] names fits, and memory stays below 500 MB.
pub const JSON_VALUES: usize = 2 * TENSORS;
/// Highest rank of any tensor. NumPy stops at 64, ONNX models in the wild at 8.
pub const RANK: usize = 32;
/// Most elements in one tensor: keeps every byte count within 2^53, exact in JSON and in `f64`.
pub const ELEMENTS: u64 = 1 << 49;
/// Largest protobuf that is parsed as a whole, in bytes: the format itself ends at 2 GiB.
pub const PROTO_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Most operations in one program. A 100-layer transformer has some 10,000.
pub const NODES: usize = 1_000_000;
/// Deepest nesting of blocks in a program.
pub const NESTING: usize = 32;
/// Largest result of constant folding, in elements. Masks and index tables of 2,048 positions fit.
pub const FOLDED_ELEMENTS: u64 = 4 * 1024 * 1024;
/// Most elements of a compressed weight once it is decoded: 2 GiB of floats. A lookup table of long vectors would ask for any amount.
pub const EXPANDED_ELEMENTS: u64 = 1 << 29;
/// Most layers a config may ask for. The deepest published transformers have some 200.
pub const LAYERS: u64 = 4096;
/// Longest sequence a config or flag may ask for.
pub const SEQUENCE: u64 = 1 << 24;
/// Largest size that a config may state (vocabulary, width, positions), so that products of two stay far from overflow.
pub const DIMENSION: u64 = 1 << 31;
/// Largest table that is computed for positions, in elements: a million positions of 128 numbers.
pub const TABLE_ELEMENTS: u64 = 1 << 27;
/// Largest text header of an array in an `.npz` archive, in bytes. NumPy's own reader stops at 10,000.
pub const NPY_HEADER_BYTES: u64 = 64 * 1024;
/// Most bytes that the members of an `.npz` archive have together, decompressed.
pub const ARCHIVE_MEMBER_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// Most members of an `.npz` archive.
pub const ARCHIVE_MEMBERS: usize = 100_000;
/// Most enumerated shapes of one Core ML input (Apple's documented limit).
pub const ENUMERATED_SHAPES: usize = 128;
/// How many bytes of weights are held at once while a constant is streamed. Small enough to stay in the second-level cache.
pub const STREAM_CHUNK_BYTES: usize = 1 << 20;
/// Most threads that write one file. More do not make a disk faster, and each may hold a transposed weight.
pub const WRITER_THREADS: usize = 4;
/// Most elements of a value that the interpreter computes: 8 GiB of floats. Sizes from a file must not ask for any amount of memory.
pub const VALUE_ELEMENTS: u64 = 1 << 31;
/// How many bytes of decoded constants the interpreter keeps between runs; larger models read the rest anew.
pub const DECODED_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Largest total of intermediate values of the source that are kept for comparison, in bytes. Those beyond are counted in the report.
pub const TRACE_BYTES: u64 = 1 << 30;
/// Most cases of one task.
pub const TASK_CASES: usize = 1_000_000;
