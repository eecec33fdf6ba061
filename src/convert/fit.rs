//! Tensors against the interface of a Core ML model: names, element types, shapes alone and together, and what is filled in where an optional input
//! was left out. Every refusal names the input and what it takes.

use std::collections::BTreeSet;

use super::error::ConvertError;
use crate::coreml::{Feature, FeatureKind, Flexibility};
use crate::error::Result;
use crate::ir::Type;
use crate::runtime::NamedTensors;
use crate::tensor::{DType, Storage, Tensor, num};

/// Most of the allowed combinations of shapes that a message lists.
const LISTED: usize = 8;

/// Fills in the default values of optional inputs that were left out, in their default shapes, and says so.
///
/// # Errors
/// When a default shape is too large to be filled.
pub(super) fn fill_defaults(
    described: &[Feature],
    inputs: &mut NamedTensors,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for feature in described.iter().filter(|f| f.optional) {
        let (Some(value), FeatureKind::MultiArray { dtype, shape, .. }) =
            (feature.default_value, &feature.kind)
        else {
            continue;
        };
        if inputs.contains_key(&feature.name) {
            continue;
        }
        let shape: Vec<usize> = shape.iter().map(|&n| num::usize_of(n)).collect();
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let count = count.filter(|&n| num::u64_of(n) <= crate::limits::VALUE_ELEMENTS.get());
        let count = count.ok_or_else(|| misfit(feature, "a shape without an end".to_owned()))?;
        let number = value.number();
        let tensor = if dtype.is_float() {
            Tensor::f32(shape, vec![num::f32_of_f64(number); count])?.cast(*dtype)
        } else {
            Tensor::int(*dtype, shape, vec![num::i64_of_f64(number); count])?
        };
        notes.push(format!(
            "`{}` was left out: every element is its default value {number}",
            feature.name
        ));
        inputs.insert(feature.name.clone(), tensor);
    }
    Ok(notes)
}

/// The inputs in the element types and shapes of the interface.
///
/// # Errors
/// When one is unknown, missing or a state, holds what its element type cannot, or has a shape that is not allowed, alone or with the others.
pub(super) fn fit(described: &[Feature], inputs: NamedTensors) -> Result<NamedTensors> {
    let is_state = |f: &&Feature| matches!(f.kind, FeatureKind::State { .. });
    for name in inputs.keys() {
        match described.iter().find(|f| f.name == *name) {
            Some(state) if is_state(&state) => {
                return Err(ConvertError::StateGiven {
                    name: name.clone(),
                    found: state.kind.to_string(),
                }
                .into());
            }
            Some(_) => {}
            None => {
                let taken = described.iter().filter(|f| !is_state(f));
                let known: Vec<String> = taken.map(|f| format!("`{}`", f.name)).collect();
                return Err(ConvertError::NoInput {
                    name: name.clone(),
                    known: known.join(", "),
                }
                .into());
            }
        }
    }
    let mut fitted = NamedTensors::new();
    let mut rows: Option<BTreeSet<usize>> = None;
    for feature in described.iter().filter(|f| !is_state(f)) {
        let Some(tensor) = inputs.get(&feature.name) else {
            return Err(misfit(feature, "nothing".to_owned()).into());
        };
        let found = || Type::known(tensor.dtype(), tensor.shape()).to_string();
        let (dtype, shape, flexibility) = match &feature.kind {
            FeatureKind::MultiArray {
                dtype,
                shape,
                flexibility,
            } => (*dtype, shape.clone(), flexibility),
            FeatureKind::Image {
                width,
                height,
                color,
                flexibility,
            } => {
                let shape = vec![1, color.channels(), *height, *width];
                (DType::F32, shape, flexibility)
            }
            FeatureKind::State { .. }
            | FeatureKind::Int64
            | FeatureKind::Double
            | FeatureKind::String
            | FeatureKind::Dictionary
            | FeatureKind::Sequence => return Err(misfit(feature, found()).into()),
        };
        // A scalar is described as a vector of one.
        let tensor = if tensor.shape().is_empty() && shape.as_slice() == [1] {
            tensor.reshaped(vec![1])?
        } else {
            tensor.clone()
        };
        let sizes: Vec<u64> = tensor.shape().iter().map(|&n| num::u64_of(n)).collect();
        let fits = match flexibility {
            Flexibility::Fixed => shape.is_empty() || sizes == shape,
            Flexibility::Enumerated { shapes } => {
                let fitting = (0..shapes.len()).filter(|&i| shapes[i] == sizes);
                let fitting: BTreeSet<usize> = fitting.collect();
                let fits = !fitting.is_empty();
                // Enumerated shapes of several inputs go together by their places.
                rows = Some(match rows {
                    Some(before) if fits => before.intersection(&fitting).copied().collect(),
                    Some(before) => before,
                    None => fitting,
                });
                fits
            }
            Flexibility::Range { sizes: ranges } => {
                ranges.len() == sizes.len()
                    && ranges.iter().zip(&sizes).all(|(range, &n)| range.holds(n))
            }
        };
        let is_image = matches!(feature.kind, FeatureKind::Image { .. });
        let tensor = match typed(&tensor, dtype, is_image) {
            Ok(tensor) if fits => tensor,
            Ok(_) | Err(None) => return Err(misfit(feature, found()).into()),
            Err(Some(value)) => {
                return Err(ConvertError::InputValue {
                    name: feature.name.clone(),
                    expected: if is_image {
                        "0 to 255".to_owned()
                    } else {
                        dtype.to_string()
                    },
                    value,
                }
                .into());
            }
        };
        fitted.insert(feature.name.clone(), tensor);
    }
    if rows.is_some_and(|rows| rows.is_empty()) {
        return Err(together(described, &fitted).into());
    }
    Ok(fitted)
}

/// The elements in another element type of the same kind: floats as floats, integers that fit as integers, whole numbers 0 to 255 as pixels. Else the
/// value that does not fit, or nothing if none of them does.
fn typed(tensor: &Tensor, dtype: DType, is_image: bool) -> Result<Tensor, Option<i64>> {
    match tensor.storage() {
        Storage::Float(_) if dtype.is_float() => Ok(if is_image {
            tensor.clone()
        } else {
            tensor.cast(dtype)
        }),
        Storage::Int(values) if is_image => match values.iter().find(|v| !(0..=255).contains(*v)) {
            Some(&value) => Err(Some(value)),
            None => Ok(tensor.cast(dtype)),
        },
        Storage::Int(values) if dtype.is_int() => {
            let unlike = |v: &&i64| {
                // The sign as the types see it: `u64` is stored wrapped.
                let wrapped = **v < 0 && tensor.dtype() == DType::U64;
                wrapped || num::wrap(**v, dtype.bits(), dtype.is_signed_int()) != **v
            };
            match values.iter().find(unlike) {
                Some(&value) => Err(Some(value)),
                None => Ok(tensor.cast(dtype)),
            }
        }
        Storage::Float(_) | Storage::Int(_) | Storage::Bool(_) => Err(None),
    }
}

fn misfit(feature: &Feature, found: String) -> ConvertError {
    ConvertError::InputMisfit {
        name: feature.name.clone(),
        expected: taken(&feature.kind),
        found,
    }
}

/// What an input takes; of an image also the tensors that stand for it.
fn taken(kind: &FeatureKind) -> String {
    let FeatureKind::Image {
        width,
        height,
        color,
        flexibility,
    } = kind
    else {
        return kind.to_string();
    };
    let channels = color.channels();
    let varies = match flexibility {
        Flexibility::Fixed => String::new(),
        Flexibility::Enumerated { shapes } => format!(" of {shapes:?}"),
        Flexibility::Range { sizes } => {
            let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
            format!(" in [{}]", sizes.join(", "))
        }
    };
    format!("{kind}, as a tensor of pixels [1, {channels}, {height}, {width}]{varies}")
}

/// The refusal of shapes that are each allowed, but not together.
fn together(described: &[Feature], inputs: &NamedTensors) -> ConvertError {
    let mut lists: Vec<(&str, &[Vec<u64>])> = Vec::new();
    for feature in described {
        if let FeatureKind::MultiArray {
            flexibility: Flexibility::Enumerated { shapes },
            ..
        }
        | FeatureKind::Image {
            flexibility: Flexibility::Enumerated { shapes },
            ..
        } = &feature.kind
        {
            lists.push((&feature.name, shapes));
        }
    }
    let row = |i: usize| {
        let row = lists.iter().filter_map(|(name, shapes)| {
            let shape = shapes.get(i)?;
            Some(format!("`{name}` {shape:?}"))
        });
        row.collect::<Vec<_>>().join(" with ")
    };
    let count = lists.iter().map(|(_, s)| s.len()).max().unwrap_or(0);
    let mut allowed: Vec<String> = (0..count.min(LISTED)).map(row).collect();
    if count > LISTED {
        allowed.push(format!("and {} more", count - LISTED));
    }
    let found = lists.iter().filter_map(|(name, _)| {
        let tensor = inputs.get(*name)?;
        Some(format!("`{name}` {:?}", tensor.shape()))
    });
    ConvertError::InputShapes {
        found: found.collect::<Vec<_>>().join(" with "),
        allowed: allowed.join("; "),
    }
}
