//! The element types that files can hold.

use std::fmt;

use super::num;

/// An element type. Sub-byte types are packed least significant bit first in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DType {
    /// Truth value, one byte in files.
    Bool,
    /// Unsigned, 1 bit.
    U1,
    /// Unsigned, 2 bits.
    U2,
    /// Unsigned, 3 bits.
    U3,
    /// Unsigned, 4 bits.
    U4,
    /// Unsigned, 6 bits.
    U6,
    /// Signed, 4 bits.
    I4,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 32 bits.
    I32,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 64 bits.
    U64,
    /// 8-bit float of 4 exponent and 3 mantissa bits: no infinity, one NaN per sign, largest 448 (`e4m3fn`).
    F8E4M3,
    /// 8-bit float of 5 exponent and 2 mantissa bits: the upper byte of a binary16.
    F8E5M2,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    BF16,
    /// IEEE binary32.
    F32,
    /// IEEE binary64.
    F64,
}

impl DType {
    /// Width of one element, in whole bytes: 0 of those that are packed.
    #[must_use]
    pub fn width(self) -> usize {
        num::usize_of(u64::from(self.bits() / 8))
    }

    /// Width of one element, in bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            DType::U1 => 1,
            DType::U2 => 2,
            DType::U3 => 3,
            DType::U4 | DType::I4 => 4,
            DType::U6 => 6,
            DType::Bool | DType::I8 | DType::U8 | DType::F8E4M3 | DType::F8E5M2 => 8,
            DType::I16 | DType::U16 | DType::F16 | DType::BF16 => 16,
            DType::I32 | DType::U32 | DType::F32 => 32,
            DType::I64 | DType::U64 | DType::F64 => 64,
        }
    }

    /// Bytes of `elements` packed elements, or `None` on overflow.
    #[must_use]
    pub fn bytes_for(self, elements: u64) -> Option<u64> {
        elements
            .checked_mul(u64::from(self.bits()))
            .map(|bits| bits.div_ceil(8))
    }

    /// Whether this is a floating-point type.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(
            self,
            DType::F8E4M3 | DType::F8E5M2 | DType::F16 | DType::BF16 | DType::F32 | DType::F64
        )
    }

    /// Whether this is a signed or unsigned integer type (`Bool` is not).
    #[must_use]
    pub const fn is_int(self) -> bool {
        !self.is_float() && !matches!(self, DType::Bool)
    }

    /// Whether this is a signed integer type.
    #[must_use]
    pub const fn is_signed_int(self) -> bool {
        matches!(
            self,
            DType::I4 | DType::I8 | DType::I16 | DType::I32 | DType::I64
        )
    }

    /// The name used in messages, reports and listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::U1 => "u1",
            DType::U2 => "u2",
            DType::U3 => "u3",
            DType::U4 => "u4",
            DType::U6 => "u6",
            DType::I4 => "i4",
            DType::I8 => "i8",
            DType::U8 => "u8",
            DType::I16 => "i16",
            DType::U16 => "u16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::I64 => "i64",
            DType::U64 => "u64",
            DType::F8E4M3 => "f8e4m3",
            DType::F8E5M2 => "f8e5m2",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
        }
    }

    /// Every element type, in declaration order.
    pub const ALL: [DType; 21] = [
        DType::Bool,
        DType::U1,
        DType::U2,
        DType::U3,
        DType::U4,
        DType::U6,
        DType::I4,
        DType::I8,
        DType::U8,
        DType::I16,
        DType::U16,
        DType::I32,
        DType::U32,
        DType::I64,
        DType::U64,
        DType::F8E4M3,
        DType::F8E5M2,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ];
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
