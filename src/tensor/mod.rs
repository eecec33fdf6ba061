//! Element types, host tensors, byte regions and casts with stated rounding. Knows no format and no graph.

mod buffer;
mod bytes;
mod dtype;
mod f8;
mod floats;
mod inside;
pub mod num;
mod pieces;
mod relay;
mod strided;
mod target;
mod transpose;
mod value;
mod vectors;

pub use buffer::Buffer;
pub use bytes::{FileRegion, Region, SourceFile, Stamp};
pub use dtype::DType;
pub use floats::{convert_floats, decode_floats, encode_floats};
pub use inside::Cached;
pub use pieces::{Pieces, piece_at};
pub use relay::Turn;
pub use strided::Tiles;
pub use target::TargetFile;
pub use transpose::{Matrix, Transposer};
pub use value::{NamedTensors, Storage, Tensor, TensorError};
pub use vectors::vectorised;
