//! Element types: ours, the program's, and the names of both in the operation table and in `cast`.

use super::proto::mil_spec::DataType;
use crate::tensor::DType;

/// One row per element type that programs have: ours, the program's, the name in the table of operations, the code in weight files (0: never there).
const TABLE: [(DType, DataType, &str, u32); 19] = [
    (DType::Bool, DataType::Bool, "bool", 0),
    (DType::U1, DataType::Uint1, "uint1", 9),
    (DType::U2, DataType::Uint2, "uint2", 10),
    (DType::U3, DataType::Uint3, "uint3", 12),
    (DType::U4, DataType::Uint4, "uint4", 11),
    (DType::U6, DataType::Uint6, "uint6", 13),
    (DType::I4, DataType::Int4, "int4", 8),
    (DType::I8, DataType::Int8, "int8", 4),
    (DType::U8, DataType::Uint8, "uint8", 3),
    (DType::I16, DataType::Int16, "int16", 6),
    (DType::U16, DataType::Uint16, "uint16", 7),
    (DType::I32, DataType::Int32, "int32", 14),
    (DType::U32, DataType::Uint32, "uint32", 15),
    (DType::I64, DataType::Int64, "int64", 0),
    (DType::U64, DataType::Uint64, "uint64", 0),
    (DType::F16, DataType::Float16, "fp16", 1),
    (DType::BF16, DataType::Bfloat16, "bf16", 5),
    (DType::F32, DataType::Float32, "fp32", 2),
    (DType::F64, DataType::Float64, "fp64", 0),
];

/// The program's element type.
pub(crate) fn to_mil(dtype: DType) -> DataType {
    TABLE
        .iter()
        .find(|row| row.0 == dtype)
        .map_or(DataType::UnusedType, |row| row.1)
}

/// Our element type; `None` for strings and the 8-bit floats.
pub(crate) fn from_mil(dtype: DataType) -> Option<DType> {
    TABLE.iter().find(|row| row.1 == dtype).map(|row| row.0)
}

/// The name in the table of operations and in the `dtype` parameter of `cast`.
pub(crate) fn mil_name(dtype: DataType) -> &'static str {
    match dtype {
        DataType::String => "string",
        DataType::UnusedType => "none",
        DataType::Float8e4m3fn => "fp8e4m3fn",
        DataType::Float8e5m2 => "fp8e5m2",
        DataType::Bool
        | DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Bfloat16
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Int4
        | DataType::Uint8
        | DataType::Uint16
        | DataType::Uint32
        | DataType::Uint64
        | DataType::Uint4
        | DataType::Uint2
        | DataType::Uint1
        | DataType::Uint6
        | DataType::Uint3 => TABLE
            .iter()
            .find(|row| row.1 == dtype)
            .map_or("none", |row| row.2),
    }
}

/// Our element type of this name.
pub(crate) fn from_name(name: &str) -> Option<DType> {
    TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
}

/// The code of the element type in weight files, if it can be there.
pub(crate) fn blob_code(dtype: DType) -> Option<u32> {
    TABLE
        .iter()
        .find(|row| row.0 == dtype && row.3 != 0)
        .map(|row| row.3)
}

/// What a code in a weight file stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlobType {
    /// One of our element types.
    Known(DType),
    /// An 8-bit float: the format has it, no program can use it.
    Float8,
}

impl BlobType {
    /// The meaning of a code, if it has one.
    pub(crate) fn from_code(code: u32) -> Option<BlobType> {
        match code {
            0 => None,
            16 | 17 => Some(BlobType::Float8),
            code => TABLE
                .iter()
                .find(|row| row.3 == code)
                .map(|row| BlobType::Known(row.0)),
        }
    }

    /// Width of one element, in bits.
    pub(crate) fn bits(self) -> u32 {
        match self {
            BlobType::Known(dtype) => dtype.bits(),
            BlobType::Float8 => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_has_one_row() {
        for dtype in DType::ALL {
            // 8-bit floats have a code that no program can use.
            let usable = !matches!(dtype, DType::F8E4M3 | DType::F8E5M2);
            let expected = usable.then_some(dtype);
            assert_eq!(from_mil(to_mil(dtype)), expected);
            assert_eq!(from_name(mil_name(to_mil(dtype))), expected);
        }
        assert_eq!((1..=17).filter_map(BlobType::from_code).count(), 17);
    }
}
