//! How much memory messages take once they are parsed: counted on their bytes, before anything is parsed. An empty message costs two bytes of a
//! file and hundreds of memory.

use super::error::OnnxError;
use super::proto::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, SparseTensorProto,
    StringStringEntryProto, TensorProto, TrainingInfoProto, TypeProto, ValueInfoProto,
};
use crate::limits;
use crate::tensor::num;

/// A message, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    Function,
    Training,
    /// Small and without messages of the other kinds.
    Entry,
}

/// What remains to be taken.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Budget {
            left: limits::MESSAGE_BYTES.get(),
        }
    }

    /// Takes what a message of this kind and these bytes needs.
    ///
    /// # Errors
    /// When it is more than what is left.
    pub(super) fn take(&mut self, kind: Kind, message: &[u8]) -> Result<(), OnnxError> {
        self.spend(kind.size())?;
        self.fields(kind, message, 0)
    }

    fn spend(&mut self, bytes: u64) -> Result<(), OnnxError> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(OnnxError::Messages {
                limit: limits::MESSAGE_BYTES.get(),
            }),
        }
    }

    /// The fields of a message. What is malformed ends it: the parser says so.
    fn fields(&mut self, kind: Kind, mut rest: &[u8], depth: usize) -> Result<(), OnnxError> {
        while let Some(key) = varint(&mut rest) {
            match key & 7 {
                0 => {
                    if varint(&mut rest).is_none() {
                        return Ok(());
                    }
                    self.spend(8)?;
                }
                wire @ (1 | 5) => {
                    let len = if wire == 1 { 8 } else { 4 };
                    let Some(after) = rest.get(len..) else {
                        return Ok(());
                    };
                    rest = after;
                    self.spend(8)?;
                }
                2 => {
                    let Some(len) = varint(&mut rest) else {
                        return Ok(());
                    };
                    let Some((inner, after)) = rest.split_at_checked(num::usize_of(len)) else {
                        return Ok(());
                    };
                    rest = after;
                    if let Some(child) = kind.child(key >> 3) {
                        self.spend(child.size())?;
                        if depth < limits::PROTO_NESTING {
                            self.fields(child, inner, depth + 1)?;
                        }
                    } else {
                        self.spend(kind.decoded(key >> 3, len))?;
                    }
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}

impl Kind {
    /// Bytes of the message in memory, without what it points to.
    fn size(self) -> u64 {
        num::u64_of(match self {
            Kind::Graph => size_of::<GraphProto>(),
            Kind::Node => size_of::<NodeProto>(),
            Kind::Attribute => size_of::<AttributeProto>(),
            Kind::Tensor => size_of::<TensorProto>(),
            Kind::Sparse => size_of::<SparseTensorProto>(),
            Kind::ValueInfo => size_of::<ValueInfoProto>(),
            Kind::Type => size_of::<TypeProto>(),
            Kind::Function => size_of::<FunctionProto>(),
            Kind::Training => size_of::<TrainingInfoProto>(),
            Kind::Entry => size_of::<StringStringEntryProto>(),
        })
    }

    /// The message in a field, if it is one.
    fn child(self, field: u64) -> Option<Kind> {
        Some(match (self, field) {
            (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
            (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) | (Kind::Sparse, 1 | 2) => Kind::Tensor,
            (Kind::Graph, 11..=13) | (Kind::Function, 12) => Kind::ValueInfo,
            (Kind::Graph, 15) | (Kind::Attribute, 22 | 23) => Kind::Sparse,
            (Kind::Node, 5) | (Kind::Function, 11) => Kind::Attribute,
            (Kind::Attribute, 6 | 11) | (Kind::Training, 1 | 2) => Kind::Graph,
            // Types nest in types; their parts are no larger than they are.
            (Kind::Attribute, 14 | 15) | (Kind::ValueInfo, 2) | (Kind::Type, _) => Kind::Type,
            (Kind::Tensor, 3 | 13) | (Kind::Function, 9) => Kind::Entry,
            (
                Kind::Graph
                | Kind::Node
                | Kind::Attribute
                | Kind::Tensor
                | Kind::Sparse
                | Kind::ValueInfo
                | Kind::Function
                | Kind::Training
                | Kind::Entry,
                _,
            ) => return None,
        })
    }

    /// Bytes in memory of a field that is no message: text, bytes that stay where they are, numbers that are unpacked.
    fn decoded(self, field: u64, len: u64) -> u64 {
        match (self, field) {
            (Kind::Tensor, 5) => len.saturating_mul(4),
            (Kind::Tensor, 1 | 7 | 11) | (Kind::Attribute, 8) | (Kind::Sparse, 3) => {
                len.saturating_mul(8)
            }
            (Kind::Tensor, 9) => 0,
            (
                Kind::Graph
                | Kind::Node
                | Kind::Attribute
                | Kind::Tensor
                | Kind::Sparse
                | Kind::ValueInfo
                | Kind::Type
                | Kind::Function
                | Kind::Training
                | Kind::Entry,
                _,
            ) => len.saturating_add(num::u64_of(size_of::<String>()) + 16),
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
