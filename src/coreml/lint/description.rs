//! The description against the program: names, kinds, element types, shapes and how they may vary.

use super::program::{Scope, is_state, shape_of};
use super::{Sink, Spot};
use crate::coreml::dtype::{mil_name, to_mil};
use crate::coreml::error::CoremlError;
use crate::coreml::interface::{self, FeatureKind, Flexibility};
use crate::coreml::proto::mil_spec::{Block, Function, TensorType, dimension};
use crate::coreml::proto::{FeatureDescription, Model};
use crate::error::{Class, Diagnostic};

/// The interface of one function.
pub(super) struct Described<'a> {
    pub(super) name: String,
    input: &'a [FeatureDescription],
    output: &'a [FeatureDescription],
    state: &'a [FeatureDescription],
}

/// The interfaces of all functions that the description has, if there is one.
pub(super) fn of_functions<'a>(model: &'a Model, sink: &mut Sink) -> Option<Vec<Described<'a>>> {
    let Some(description) = &model.description else {
        let error = CoremlError::NoDescription;
        sink.program(&Spot::field("description"), error);
        return None;
    };
    if description.functions.is_empty() {
        return Some(vec![Described {
            name: "main".to_owned(),
            input: &description.input,
            output: &description.output,
            state: &description.state,
        }]);
    }
    let default = description.default_function_name.as_str();
    let default = if default.is_empty() { "main" } else { default };
    if description.functions.iter().all(|f| f.name != default) {
        let error = CoremlError::NoFunction {
            name: default.to_owned(),
            missing_in: "the description, whose default it is",
        };
        sink.program(&Spot::field("defaultFunctionName"), error);
    }
    let functions = description.functions.iter();
    let described = functions.map(|f| Described {
        name: f.name.clone(),
        input: &f.input,
        output: &f.output,
        state: &f.state,
    });
    Some(described.collect())
}

/// Checks the interface of a function.
pub(super) fn check(
    described: &Described<'_>,
    function: &Function,
    block: &Block,
    scope: &Scope<'_>,
    spot: &Spot,
    sink: &mut Sink,
) {
    let of_kind = |state: bool| {
        let inputs = function.inputs.iter();
        let of_kind = inputs.filter(move |i| is_state(i.r#type.as_ref()) == state);
        of_kind.map(|i| i.name.as_str()).collect::<Vec<&str>>()
    };
    let outputs: Vec<&str> = block.outputs.iter().map(String::as_str).collect();
    let mut lists = [
        ("input", described.input, of_kind(false)),
        ("output", described.output, outputs),
        ("state", described.state, of_kind(true)),
    ];
    for (role, features, names) in &mut lists {
        let spot = spot.at(*role);
        for feature in features.iter() {
            if !names.contains(&feature.name.as_str()) {
                let error = CoremlError::DescribedNames {
                    feature: feature.name.clone(),
                    expected: names.join(", "),
                    found: feature.name.clone(),
                };
                sink.program(&named(&spot, &feature.name), error);
            }
        }
        names.retain(|n| features.iter().all(|f| f.name != *n));
        for name in names.iter() {
            let error = CoremlError::DescribedNames {
                feature: (*name).to_owned(),
                expected: format!("an {role}"),
                found: "nothing".to_owned(),
            };
            sink.program(&named(&spot, name), error);
        }
        for feature in features.iter() {
            let Some(defined) = scope.get(feature.name.as_str()) else {
                continue;
            };
            if let Some(error) = self::feature(feature, role, defined.ty) {
                sink.program(&named(&spot, &feature.name), error);
            }
        }
    }
}

fn named(spot: &Spot, name: &str) -> Spot {
    Spot {
        value: Some(name.to_owned()),
        ..spot.clone()
    }
}

/// What is wrong with one description.
fn feature(
    description: &FeatureDescription,
    role: &str,
    program: Option<&TensorType>,
) -> Option<CoremlError> {
    let name = || description.name.clone();
    let wrong_kind = |expected: &str, found: String| CoremlError::DescribedKind {
        feature: name(),
        expected: expected.to_owned(),
        found,
    };
    let feature = match interface::feature(description) {
        Ok(feature) => feature,
        // What we do not read may be right.
        Err(error) if error.class() == Class::Unsupported => return None,
        Err(error) => return Some(wrong_kind("a description that is whole", error.to_string())),
    };
    let Some(ty) = program else {
        // The probabilities of a classifier, the only result that is no tensor.
        let fits = matches!(
            feature.kind,
            FeatureKind::Dictionary | FeatureKind::Sequence
        );
        return (!fits).then(|| wrong_kind("a dictionary or a sequence", feature.kind.to_string()));
    };
    let dtype = mil_name(ty.data_type());
    let is_state = role == "state";
    let (described, shape, flexibility) = match &feature.kind {
        FeatureKind::State { dtype, shape } if is_state => {
            (*dtype, shape.clone(), &Flexibility::Fixed)
        }
        FeatureKind::MultiArray {
            dtype,
            shape,
            flexibility,
        } if !is_state => (*dtype, shape.clone(), flexibility),
        FeatureKind::Image {
            width,
            height,
            color,
            flexibility,
        } if !is_state => {
            // An output whose size varies has none.
            let shape = match (role, width, height) {
                ("output", 0, 0) => Vec::new(),
                (_, _, _) => vec![1, color.channels(), *height, *width],
            };
            return shapes(&feature.name, &shape, flexibility, ty, role);
        }
        FeatureKind::String if dtype == "string" => return None,
        FeatureKind::Int64 if ["int64", "int32"].contains(&dtype) => return None,
        FeatureKind::Double if dtype.starts_with("fp") => return None,
        other @ (FeatureKind::State { .. }
        | FeatureKind::MultiArray { .. }
        | FeatureKind::Image { .. }
        | FeatureKind::String
        | FeatureKind::Int64
        | FeatureKind::Double
        | FeatureKind::Dictionary
        | FeatureKind::Sequence) => {
            let expected = if is_state { "a state" } else { "an array" };
            return Some(wrong_kind(expected, other.to_string()));
        }
    };
    let described = mil_name(to_mil(described));
    if described != dtype {
        return Some(CoremlError::DescribedType {
            feature: name(),
            expected: dtype.to_owned(),
            found: described.to_owned(),
        });
    }
    shapes(&feature.name, &shape, flexibility, ty, role)
}

/// What is wrong with the default shape, or with the others that are allowed.
fn shapes(
    name: &str,
    default: &[u64],
    flexibility: &Flexibility,
    ty: &TensorType,
    role: &str,
) -> Option<CoremlError> {
    if ty.rank < 0 {
        return None;
    }
    let program: Vec<Option<u64>> = ty
        .dimensions
        .iter()
        .map(|d| match &d.dimension {
            Some(dimension::Dimension::Constant(c)) => Some(c.size),
            Some(dimension::Dimension::Unknown(_)) | None => None,
        })
        .collect();
    let fits = |shape: &[u64]| {
        // Scalars are described as vectors of one.
        (program.is_empty() && shape == [1])
            || (shape.len() == program.len()
                && shape
                    .iter()
                    .zip(&program)
                    .all(|(a, b)| b.is_none_or(|b| *a == b)))
    };
    let written = || {
        let sizes: Vec<String> = program
            .iter()
            .map(|d| d.map_or_else(|| "?".to_owned(), |n| n.to_string()))
            .collect();
        format!("[{}]", sizes.join(", "))
    };
    // Outputs may leave their shape to the program.
    let left_out = default.is_empty() && role == "output";
    if !left_out && !fits(default) {
        return Some(CoremlError::DescribedShape {
            feature: name.to_owned(),
            expected: written(),
            found: format!("{default:?}"),
        });
    }
    let varies = |expected: String, found: String| {
        Some(CoremlError::DescribedFlexibility {
            feature: name.to_owned(),
            expected,
            found,
        })
    };
    let fixed = shape_of(ty).is_some();
    match flexibility {
        Flexibility::Fixed => None,
        Flexibility::Enumerated { shapes } => {
            if let Some(bad) = shapes.iter().find(|s| !fits(s)) {
                return varies(written(), format!("{bad:?}"));
            }
            if !default.is_empty() && !shapes.iter().any(|s| s == default) {
                return varies(
                    format!("one of {shapes:?}"),
                    format!("the default {default:?}"),
                );
            }
            let several = shapes.iter().any(|s| s != default);
            if fixed && several {
                return varies("unknown sizes in the program".to_owned(), written());
            }
            None
        }
        Flexibility::Range { sizes } => {
            if sizes.len() != program.len() {
                return varies(format!("{} ranges", program.len()), sizes.len().to_string());
            }
            for (axis, (range, size)) in sizes.iter().zip(&program).enumerate() {
                // The range of an output says nothing but that it varies.
                let fits = size.is_none_or(|n| match role {
                    "output" => range.holds(n),
                    _ => range.min == n && range.max == Some(n),
                });
                if !fits {
                    return varies(written(), range.to_string());
                }
                if let Some(default) = default.get(axis).filter(|d| !range.holds(**d)) {
                    return varies(range.to_string(), format!("the default {default}"));
                }
            }
            None
        }
    }
}
