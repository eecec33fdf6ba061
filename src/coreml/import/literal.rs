//! Types and values as the program writes them. A value in the wrong field is an error here, since Apple's loader does not say so.

use super::entry::Entry;
use super::error::ImportError;
use crate::coreml::blob::BlobFiles;
use crate::coreml::dtype::{from_mil, mil_name};
use crate::coreml::proto::mil_spec::dimension::Dimension as Kind;
use crate::coreml::proto::mil_spec::tensor_value::Value as Field;
use crate::coreml::proto::mil_spec::value::immediate_value::Value as Immediate;
use crate::coreml::proto::mil_spec::value::{BlobFileValue, Value as Source};
use crate::coreml::proto::mil_spec::value_type::Type as Wrapped;
use crate::coreml::proto::mil_spec::{DataType, TensorValue, Value, ValueType};
use crate::error::Result;
use crate::ir::{Constant, Type};
use crate::limits;
use crate::tensor::{DType, Region, Tensor, num};

/// A type as it is written: unknown sizes are `None`; no shape at all means any rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    /// Element type.
    pub(crate) dtype: DataType,
    /// Sizes.
    pub(crate) shape: Option<Vec<Option<u64>>>,
}

impl Declared {
    /// Our element type.
    pub(crate) fn element(&self) -> Result<DType, ImportError> {
        from_mil(self.dtype).ok_or_else(|| ImportError::Malformed {
            what: "element type",
            expected: "a number".into(),
            found: mil_name(self.dtype).into(),
        })
    }

    /// Whether a value of type `ty` may carry this declaration: what is unknown here may be anything.
    pub(crate) fn admits(&self, ty: &Type) -> bool {
        let sizes = |shape: &Vec<Option<u64>>| {
            shape.len() == ty.rank()
                && shape.iter().zip(&ty.shape).all(|(declared, dim)| {
                    declared.is_none_or(|n| {
                        dim.is_run_time() || dim.known().map(num::u64_of) == Some(n)
                    })
                })
        };
        from_mil(self.dtype) == Some(ty.dtype) && self.shape.as_ref().is_none_or(sizes)
    }
}

impl std::fmt::Display for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(from_mil(self.dtype).map_or_else(|| mil_name(self.dtype), DType::name))?;
        let Some(shape) = &self.shape else {
            return f.write_str("[…]");
        };
        let dims: Vec<String> = shape
            .iter()
            .map(|d| d.map_or_else(|| "?".to_owned(), |n| n.to_string()))
            .collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

fn malformed(
    what: &'static str,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> ImportError {
    ImportError::Malformed {
        what,
        expected: expected.into(),
        found: found.into(),
    }
}

/// The tensor type that is written.
pub(crate) fn declared(ty: Option<&ValueType>) -> Result<Declared, ImportError> {
    let tensor = match ty.and_then(|t| t.r#type.as_ref()) {
        Some(Wrapped::TensorType(tensor)) => tensor,
        Some(Wrapped::StateType(_)) => return Err(malformed("type", "a tensor", "a state")),
        Some(Wrapped::ListType(_)) => return Err(malformed("type", "a tensor", "a list")),
        Some(Wrapped::TupleType(_)) => return Err(malformed("type", "a tensor", "a tuple")),
        Some(Wrapped::DictionaryType(_)) => {
            return Err(malformed("type", "a tensor", "a dictionary"));
        }
        None => return Err(malformed("type", "a tensor", "nothing")),
    };
    if let Some(key) = tensor.attributes.keys().next() {
        return Err(malformed("type", "no attributes", format!("`{key}`")));
    }
    let dtype = DataType::try_from(tensor.data_type)
        .map_err(|_| malformed("element type", "a known code", tensor.data_type.to_string()))?;
    if tensor.rank < 0 {
        return Ok(Declared { dtype, shape: None });
    }
    if tensor.rank != num::i64_of(tensor.dimensions.len())
        || tensor.dimensions.len() > limits::RANK.count()
    {
        return Err(malformed(
            "rank",
            tensor
                .dimensions
                .len()
                .min(limits::RANK.count())
                .to_string(),
            tensor.rank.to_string(),
        ));
    }
    let mut shape = Vec::with_capacity(tensor.dimensions.len());
    for dim in &tensor.dimensions {
        shape.push(match &dim.dimension {
            Some(Kind::Constant(c)) => {
                if c.size > limits::ELEMENTS {
                    return Err(malformed("size", "less than 2^49", c.size.to_string()));
                }
                Some(c.size)
            }
            Some(Kind::Unknown(u)) if !u.variadic => None,
            Some(Kind::Unknown(_)) => return Ok(Declared { dtype, shape: None }),
            None => return Err(malformed("size", "a number or unknown", "nothing")),
        });
    }
    Ok(Declared {
        dtype,
        shape: Some(shape),
    })
}

/// The constant that is written, under `name`.
pub(super) fn literal(value: &Value, name: &str, blobs: &BlobFiles) -> Result<Entry> {
    let declared = declared(value.r#type.as_ref())?;
    let unknown = || malformed("shape of a constant", "known sizes", declared.to_string());
    let shape: Vec<usize> = declared
        .shape
        .as_ref()
        .and_then(|s| s.iter().map(|d| d.map(num::usize_of)).collect())
        .ok_or_else(unknown)?;
    let elements = shape
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(num::u64_of(d)))
        .filter(|&n| n <= limits::ELEMENTS)
        .ok_or_else(|| {
            malformed(
                "shape of a constant",
                "less than 2^49 elements",
                declared.to_string(),
            )
        })?;
    match &value.value {
        None => Err(malformed("constant", "a value", "nothing").into()),
        Some(Source::BlobFileValue(blob)) => {
            let dtype = declared.element()?;
            let region = region(blob, dtype, elements, blobs)?;
            Ok(Entry::constant(Constant::from_region(
                name, dtype, shape, region,
            )?))
        }
        Some(Source::ImmediateValue(immediate)) => match &immediate.value {
            Some(Immediate::Tensor(tensor)) => {
                immediate_tensor(tensor, &declared, shape, elements, name)
            }
            Some(Immediate::Tuple(_)) => Err(malformed("constant", "a tensor", "a tuple").into()),
            Some(Immediate::List(_)) => Err(malformed("constant", "a tensor", "a list").into()),
            Some(Immediate::Dictionary(_)) => {
                Err(malformed("constant", "a tensor", "a dictionary").into())
            }
            None => Err(malformed("constant", "a value", "nothing").into()),
        },
    }
}

/// A list of scalars: strings or whole numbers.
pub(super) fn list(value: &Value, name: &str) -> Result<Entry> {
    let Some(Source::ImmediateValue(immediate)) = &value.value else {
        return Err(malformed("list", "values", "a place in a file").into());
    };
    let Some(Immediate::List(list)) = &immediate.value else {
        return literal(value, name, &BlobFiles::default());
    };
    let mut texts = Vec::new();
    let mut numbers = Vec::new();
    for element in &list.values {
        match literal(element, name, &BlobFiles::default())? {
            Entry::Text { values, .. } => texts.extend(values),
            Entry::Constant { constant } => numbers.extend(constant.read()?.ints()?.iter()),
            other @ (Entry::Value { .. }
            | Entry::Dims(_)
            | Entry::List(_)
            | Entry::State { .. }) => {
                return Err(malformed("list", "strings or integers", other.describe()).into());
            }
        }
    }
    match (texts.is_empty(), numbers.is_empty()) {
        (false, true) => {
            let n = texts.len();
            Ok(Entry::text(texts, vec![n]))
        }
        (true, false) => {
            let tensor = Tensor::i64(vec![numbers.len()], numbers)?;
            Ok(Entry::constant(Constant::from_tensor(name, &tensor)?))
        }
        (_, _) => Err(malformed("list", "strings or integers", "neither, or both").into()),
    }
}

fn region(blob: &BlobFileValue, dtype: DType, elements: u64, blobs: &BlobFiles) -> Result<Region> {
    let Some(file) = blobs.get(&blob.file_name) else {
        return Err(ImportError::NoWeights {
            reference: blob.file_name.clone(),
        }
        .into());
    };
    file.region(blob.offset, dtype, elements)
}

fn field_name(field: Option<&Field>) -> &'static str {
    match field {
        None => "nothing",
        Some(Field::Floats(_)) => "floats",
        Some(Field::Ints(_)) => "ints",
        Some(Field::Bools(_)) => "bools",
        Some(Field::Strings(_)) => "strings",
        Some(Field::LongInts(_)) => "longInts",
        Some(Field::Doubles(_)) => "doubles",
        Some(Field::Bytes(_)) => "bytes",
    }
}

/// The field that an element type belongs in.
fn expected_field(dtype: DataType) -> &'static str {
    match dtype {
        DataType::Bool => "bools",
        DataType::String => "strings",
        DataType::Float32 => "floats",
        DataType::Float64 => "doubles",
        DataType::Int32 | DataType::Int16 | DataType::Uint16 => "ints",
        DataType::Int64 | DataType::Uint64 => "longInts",
        DataType::Float16
        | DataType::Bfloat16
        | DataType::Int8
        | DataType::Uint8
        | DataType::Uint32
        | DataType::Int4
        | DataType::Uint4
        | DataType::Uint3
        | DataType::Uint2
        | DataType::Uint1
        | DataType::Uint6 => "bytes",
        DataType::UnusedType | DataType::Float8e4m3fn | DataType::Float8e5m2 => "no field",
    }
}

fn immediate_tensor(
    tensor: &TensorValue,
    declared: &Declared,
    shape: Vec<usize>,
    elements: u64,
    name: &str,
) -> Result<Entry> {
    let (expected, found) = (
        expected_field(declared.dtype),
        field_name(tensor.value.as_ref()),
    );
    let Some(field) = tensor.value.as_ref().filter(|_| expected == found) else {
        let expected = format!("{declared} in `{expected}`");
        return Err(malformed("constant", expected, format!("`{found}`")).into());
    };
    // The count is checked before anything is built, so that a shape never asks for memory that the file did not fill.
    let count = |len: usize, unit: &'static str, expected: u64| {
        if num::u64_of(len) == expected {
            Ok(())
        } else {
            let expected = format!("{expected} {unit} for {declared}");
            Err(malformed("constant", expected, len.to_string()))
        }
    };
    let tensor = match field {
        Field::Strings(v) => {
            count(v.values.len(), "elements", elements)?;
            return Ok(Entry::text(v.values.clone(), shape));
        }
        Field::Bytes(v) => {
            let dtype = declared.element()?;
            let bytes = dtype.bytes_for(elements).unwrap_or(u64::MAX);
            count(v.values.len(), "bytes", bytes)?;
            let region = Region::Inline(bytes::Bytes::copy_from_slice(&v.values));
            return Ok(Entry::constant(Constant::from_region(
                name, dtype, shape, region,
            )?));
        }
        Field::Floats(v) => {
            count(v.values.len(), "elements", elements)?;
            Tensor::f32(shape, v.values.clone())?
        }
        Field::Doubles(v) => {
            count(v.values.len(), "elements", elements)?;
            let values = v.values.iter().map(|&x| num::f32_of_f64(x)).collect();
            Tensor::float(DType::F64, shape, values)?
        }
        Field::Ints(v) => {
            count(v.values.len(), "elements", elements)?;
            let values = v.values.iter().map(|&n| i64::from(n)).collect();
            exact_ints(declared, shape, values)?
        }
        Field::LongInts(v) => {
            count(v.values.len(), "elements", elements)?;
            exact_ints(declared, shape, v.values.clone())?
        }
        Field::Bools(v) => {
            count(v.values.len(), "elements", elements)?;
            Tensor::bool(shape, v.values.clone())?
        }
    };
    Ok(Entry::constant(Constant::from_tensor(name, &tensor)?))
}

/// Integers that must be values of the declared type: nothing is wrapped.
fn exact_ints(declared: &Declared, shape: Vec<usize>, values: Vec<i64>) -> Result<Tensor> {
    let dtype = declared.element()?;
    let outside = values
        .iter()
        .find(|&&n| num::wrap(n, dtype.bits(), dtype.is_signed_int()) != n);
    if let Some(n) = outside {
        return Err(malformed(
            "constant",
            format!("values of {}", dtype.name()),
            n.to_string(),
        )
        .into());
    }
    Ok(Tensor::int(dtype, shape, values)?)
}

/// The text of a rank-0 string value.
pub(super) fn text(value: &Value) -> Result<String> {
    match literal(value, "", &BlobFiles::default())? {
        Entry::Text { values, shape } if shape.is_empty() => {
            Ok(values.into_iter().next().unwrap_or_default())
        }
        other @ (Entry::Value { .. }
        | Entry::Constant { .. }
        | Entry::Dims(_)
        | Entry::Text { .. }
        | Entry::List(_)
        | Entry::State { .. }) => Err(malformed("value", "one string", other.describe()).into()),
    }
}
