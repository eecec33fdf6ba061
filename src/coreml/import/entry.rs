//! What a name of the program stands for while it is read.

use crate::error::Result;
use crate::ir::{Constant, Dim, Type, ValueId};
use crate::limits;
use crate::tensor::{DType, Storage, Tensor, TensorError, num};

/// Whole numbers known from shapes: what `shape`, and arithmetic on it, give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dims {
    /// Element type in the program (an integer or `f32`).
    pub(super) dtype: DType,
    /// Shape: rank 0 or 1.
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

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A value of the function.
    Value {
        /// The value.
        id: ValueId,
        /// Its type.
        ty: Type,
    },
    /// A constant; becomes a value when an operation takes it as an operand.
    Constant {
        /// The handle.
        constant: Constant,
    },
    /// Whole numbers known from shapes; becomes a value when an operation takes it as an operand.
    Dims(Dims),
    /// A string constant.
    Text {
        /// The elements.
        values: Vec<String>,
        /// Shape.
        shape: Vec<usize>,
    },
    /// A list of tensors.
    List(List),
    /// A state of the model.
    State {
        /// Its name.
        name: String,
    },
}

/// A list of tensors of one shape, kept as one tensor.
#[derive(Clone, Debug)]
pub(super) struct List {
    /// The elements along a first axis; nothing as long as their shape is not known.
    pub(super) data: Option<(ValueId, Type)>,
    /// How many there are in the beginning.
    pub(super) length: Dim,
    /// Their element type.
    pub(super) dtype: DType,
    /// Whether writing behind the end makes it longer.
    pub(super) dynamic: bool,
}

impl Entry {
    /// A constant.
    pub(super) fn constant(constant: Constant) -> Self {
        Entry::Constant { constant }
    }

    /// Strings.
    pub(super) fn text(values: Vec<String>, shape: Vec<usize>) -> Self {
        Entry::Text { values, shape }
    }

    /// The type; `None` for strings.
    pub(super) fn ty(&self) -> Option<Type> {
        match self {
            Entry::Value { ty, .. } => Some(ty.clone()),
            Entry::Constant { constant } => Some(Type::known(constant.dtype(), constant.shape())),
            Entry::Dims(d) => Some(Type::known(d.dtype, &d.shape)),
            Entry::Text { .. } | Entry::List(_) | Entry::State { .. } => None,
        }
    }

    /// Whether this is a constant of the program.
    pub(super) fn is_constant(&self) -> bool {
        match self {
            Entry::Constant { .. } | Entry::Text { .. } => true,
            Entry::Value { .. } | Entry::Dims(_) | Entry::List(_) | Entry::State { .. } => false,
        }
    }

    /// What this is, for messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Entry::Value { ty, .. } => format!("{ty} computed at run time"),
            Entry::Constant { constant } => {
                format!(
                    "constant {}",
                    Type::known(constant.dtype(), constant.shape())
                )
            }
            Entry::Dims(d) => format!("{} known from shapes", Type::known(d.dtype, &d.shape)),
            Entry::Text { values, shape } if shape.is_empty() => {
                format!("string `{}`", values.first().map_or("", String::as_str))
            }
            Entry::Text { shape, .. } => format!("strings {shape:?}"),
            Entry::List(_) => "a list".to_owned(),
            Entry::State { name } => format!("the state `{name}`"),
        }
    }

    /// The whole numbers, if they are known: small integer constants, whole `f32` constants, and what follows from shapes.
    pub(super) fn dims(&self) -> Result<Option<Dims>> {
        match self {
            Entry::Dims(d) => Ok(Some(d.clone())),
            Entry::Constant { constant } => {
                let small = constant.shape().len() <= 1
                    && constant.len() <= limits::COREML_FOLLOWED_ELEMENTS;
                if !small || constant.dtype() == DType::Bool {
                    return Ok(None);
                }
                Ok(whole_numbers(&constant.read()?).map(|values| Dims {
                    dtype: constant.dtype(),
                    shape: constant.shape().to_vec(),
                    values,
                }))
            }
            Entry::Value { .. } | Entry::Text { .. } | Entry::List(_) | Entry::State { .. } => {
                Ok(None)
            }
        }
    }
}

fn whole_numbers(tensor: &Tensor) -> Option<Vec<Dim>> {
    match tensor.storage() {
        Storage::Int(v) => Some(v.iter().map(|&n| Dim::constant(n)).collect()),
        Storage::Float(v) if tensor.dtype() == DType::F32 => v
            .iter()
            .map(|&x| {
                let n = num::i64_of_f32(x);
                // Above 2^24 not every whole number has an f32, so sums would not be exact.
                let exact = num::f32_of_i64(n).to_bits() == x.to_bits() && n.abs() <= 1 << 24;
                exact.then(|| Dim::constant(n))
            })
            .collect(),
        Storage::Float(_) | Storage::Bool(_) => None,
    }
}

/// A tensor of known whole numbers.
pub(super) fn tensor_of(dims: &Dims, integers: Vec<i64>) -> Result<Tensor, TensorError> {
    if dims.dtype.is_float() {
        let values = integers.into_iter().map(num::f32_of_i64).collect();
        Tensor::float(dims.dtype, dims.shape.clone(), values)
    } else {
        Tensor::int(dims.dtype, dims.shape.clone(), integers)
    }
}
