//! Pickles, read as data: a stack machine that knows the opcodes which build values, and a short list of names that it never calls.
//!
//! A pickle is a program. This reader runs the part of it that puts values together (numbers, text, lists, dictionaries), and turns the few
//! calls of which checkpoints consist into descriptions of tensors. Everything else is refused with the opcode, its offset and the name it
//! asked for, and then nothing of the file is used.
//!
//! Owns opcodes, the allow-list and the values. Does not know what a checkpoint looks like: that is `torch`.
//!
//! # Source
//! `pickletools` of CPython 3.12 for the opcodes; `torch/_weights_only_unpickler.py` and `torch/_utils.py` of PyTorch 2.9 for the names.

mod calls;
mod error;
mod globals;
mod input;
mod machine;
mod numpy;
mod opcodes;
mod value;

pub use error::{Asked, PickleError};

pub(super) use globals::Element;
pub(super) use value::{Pickle, Storage, Tensor, Value};

use crate::error::Result;
use crate::tensor::SourceFile;

/// Reads the pickle that begins at `start` and ends at or before `end`, which lies within the file.
///
/// # Errors
/// When anything in it is not on the list, malformed, or beyond the limits.
pub(super) fn read(file: &SourceFile, start: u64, end: u64) -> Result<Pickle> {
    machine::run(input::Input::new(file, start, end))
}

/// Whether a file that does not begin as a checkpoint does is a pickle of protocol 0 or 1: one that ends, or asks for a name.
pub(super) fn is_text(file: &SourceFile) -> bool {
    opcodes::is_text(&mut input::Input::new(file, 0, file.len()))
}
