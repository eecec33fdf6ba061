//! What a name of the graph stands for while it is read.

use crate::ir::{Dim, ValueId};
use crate::tensor::DType;

/// Whole numbers or truth values known from shapes: what `Shape`, and arithmetic on it, give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dims {
    /// Element type in the graph: an integer or a float; `bool` holds 0 and 1.
    pub(super) dtype: DType,
    /// Shape.
    pub(super) shape: Vec<usize>,
    /// The elements.
    pub(super) values: Vec<Dim>,
}

impl Dims {
    /// A vector.
    pub(super) fn vector(dtype: DType, values: Vec<Dim>) -> Self {
        Dims {
            dtype,
            shape: vec![values.len()],
            values,
        }
    }

    /// A scalar.
    pub(super) fn scalar(dtype: DType, value: Dim) -> Self {
        Dims {
            dtype,
            shape: Vec::new(),
            values: vec![value],
        }
    }

    /// The numbers, if all are known.
    pub(super) fn integers(&self) -> Option<Vec<i64>> {
        self.values.iter().map(Dim::integer).collect()
    }
}

/// Element types of 8 bits and less that nothing computes with: their values travel as codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// 4 exponent bits, 3 mantissa bits, no infinity.
    E4M3Fn,
    /// The same with one NaN at negative zero's place.
    E4M3FnUz,
    /// 5 exponent bits, 2 mantissa bits.
    E5M2,
    /// The same with one NaN at negative zero's place and no infinity.
    E5M2FnUz,
    /// 2 exponent bits, 1 mantissa bit.
    E2M1,
    /// Powers of two.
    E8M0,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A value of the function; constants are values too.
    Value(ValueId),
    /// Whole numbers known from shapes; they become a value when an operation takes them as an operand.
    Dims(Dims),
    /// Codes of a small floating-point type, as `u8`.
    Coded(ValueId, Code),
}
