//! The description of inputs and outputs, and the shapes that they may have.

use std::collections::BTreeSet;

use crate::coreml::error::CoremlError;
use crate::coreml::interface::{Color, Feature, FeatureKind, Flexibility};
use crate::coreml::proto::array_feature_type::{
    ArrayDataType, EnumeratedShapes, Shape, ShapeFlexibility, ShapeRange,
};
use crate::coreml::proto::image_feature_type::{
    ColorSpace, EnumeratedImageSizes, ImageSize, ImageSizeRange, SizeFlexibility,
};
use crate::coreml::proto::{
    ArrayFeatureType, FeatureDescription, FeatureType, ImageFeatureType, SizeRange,
    StateFeatureType, feature_type, state_feature_type,
};
use crate::coreml::target::{DeploymentTarget, Opset};
use crate::error::{Context, Result};
use crate::ir::{Bindings, Dim, Function, Module, Symbol, SymbolRange, Type, concrete};
use crate::limits;
use crate::tensor::{DType, num};

/// The shapes that the model's inputs may have, together.
#[derive(Clone, Debug)]
pub(super) struct Shapes {
    /// One set of sizes per enumerated shape, the default first; empty when nothing is enumerated.
    enumerated: Vec<Bindings>,
    /// Sizes of the default shapes.
    default: Bindings,
}

impl Shapes {
    /// The shapes of a module's symbols.
    ///
    /// # Errors
    /// When there are more enumerated shapes than Core ML allows.
    pub(super) fn of(module: &Module) -> Result<Self, CoremlError> {
        let mut enumerated = vec![Bindings::new()];
        let mut default = Bindings::new();
        let mut any = false;
        for symbol in &module.symbols {
            default.insert(symbol.name.clone(), smallest(&symbol.range));
            let SymbolRange::OneOf(sizes) = &symbol.range else {
                continue;
            };
            any = true;
            let found = enumerated.len().saturating_mul(sizes.len());
            if found > limits::ENUMERATED_SHAPES {
                return Err(CoremlError::TooManyShapes {
                    limit: limits::ENUMERATED_SHAPES,
                    found,
                });
            }
            let with = |before: &Bindings, size: u64| {
                let mut after = before.clone();
                after.insert(symbol.name.clone(), size);
                after
            };
            enumerated = enumerated
                .iter()
                .flat_map(|before| sizes.iter().map(|&size| with(before, size)))
                .collect();
        }
        if !any {
            enumerated.clear();
        }
        Ok(Shapes {
            enumerated,
            default,
        })
    }
}

/// How an input's shape may vary.
enum Varies<'a> {
    No,
    Enumerated,
    Between(Vec<&'a Symbol>),
}

fn symbols_of(ty: &Type) -> BTreeSet<String> {
    let mut symbols = BTreeSet::new();
    ty.shape.iter().for_each(|d| d.symbols(&mut symbols));
    symbols
}

fn varies<'a>(module: &'a Module, ty: &Type) -> Varies<'a> {
    let names = symbols_of(ty);
    let symbols: Vec<&Symbol> = names.iter().filter_map(|n| module.symbol(n)).collect();
    let ranged = symbols
        .iter()
        .any(|s| matches!(s.range, SymbolRange::Between { .. }));
    if symbols.is_empty() {
        Varies::No
    } else if ranged {
        Varies::Between(symbols)
    } else {
        Varies::Enumerated
    }
}

/// The target that the module's interface needs: several enumerated inputs need CoreML8. A target the user chose is never raised.
///
/// # Errors
/// When the user chose a target that cannot have the interface.
pub(in crate::coreml) fn required_target(
    module: &Module,
    function: &Function,
    target: DeploymentTarget,
    explicit: bool,
) -> Result<(DeploymentTarget, Option<String>), CoremlError> {
    let inputs: Vec<String> = function
        .params
        .iter()
        .map(|p| function.value(p.value))
        .filter(|v| matches!(varies(module, &v.ty), Varies::Enumerated))
        .map(|v| v.name.clone())
        .collect();
    if inputs.len() < 2 || target.opset() >= Opset::CoreML8 {
        return Ok((target, None));
    }
    if explicit {
        return Err(CoremlError::EnumeratedInputs { inputs, target });
    }
    let raised = target.with_opset(Opset::CoreML8);
    let warning = format!(
        "the deployment target is {raised} instead of {target}, because {} inputs have enumerated shapes",
        inputs.len()
    );
    Ok((raised, Some(warning)))
}

/// The description of an input.
///
/// # Errors
/// When its shapes cannot be described.
pub(super) fn input(
    module: &Module,
    shapes: &Shapes,
    name: &str,
    ty: &Type,
) -> Result<FeatureDescription> {
    let shape = |bindings: &Bindings| -> Result<Vec<i64>> {
        let sizes = concrete(&ty.shape, bindings).at_node(name)?;
        Ok(sizes.into_iter().map(num::i64_of).collect())
    };
    let flexibility = match varies(module, ty) {
        Varies::No => None,
        Varies::Between(symbols) => {
            let size_ranges = ty
                .shape
                .iter()
                .map(|dim| size_range(dim, &symbols).at_node(name))
                .collect::<Result<Vec<_>>>()?;
            Some(ShapeFlexibility::ShapeRange(ShapeRange { size_ranges }))
        }
        Varies::Enumerated => {
            let used = symbols_of(ty);
            let enumerated = |s: &&Symbol| matches!(s.range, SymbolRange::OneOf(_));
            let missing = module.symbols.iter().filter(enumerated);
            if let Some(symbol) = missing.into_iter().find(|s| !used.contains(&s.name)) {
                return Err(CoremlError::Unmatched {
                    input: name.to_owned(),
                    symbol: symbol.name.clone(),
                }
                .into());
            }
            let shapes = shapes
                .enumerated
                .iter()
                .map(|bindings| {
                    Ok(Shape {
                        shape: shape(bindings)?,
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            Some(ShapeFlexibility::EnumeratedShapes(EnumeratedShapes {
                shapes,
            }))
        }
    };
    let default = shape(&shapes.default)?;
    Ok(feature(
        name,
        default,
        array_type(ty.dtype).at_node(name)?,
        flexibility,
    ))
}

/// The description of an input as it was in the package that the module was read from, where its type alone does not tell it: an image, or
/// enumerated shapes. Nothing if the type does not allow it any more.
pub(in crate::coreml) fn kept(
    feature: &Feature,
    ty: &Type,
    opset: Opset,
) -> Option<FeatureDescription> {
    let fits = |sizes: &[u64]| {
        let known = |(dim, n): (&Dim, &u64)| dim.known().is_none_or(|d| num::u64_of(d) == *n);
        sizes.len() == ty.rank() && ty.shape.iter().zip(sizes).all(known)
    };
    let all_open = |axes: &[bool]| {
        let open = ty.shape.iter().map(|d| d.known().is_none());
        open.eq(axes.iter().copied())
    };
    match &feature.kind {
        FeatureKind::Image {
            width,
            height,
            color,
            flexibility,
        } => {
            let (space, float) = match color {
                Color::Gray => (ColorSpace::Grayscale, true),
                Color::Rgb => (ColorSpace::Rgb, true),
                Color::Bgr => (ColorSpace::Bgr, true),
                // Pixels in half precision came with the second opset.
                Color::GrayF16 => {
                    let half = ty.dtype == DType::F16 && opset >= Opset::CoreML6;
                    (ColorSpace::GrayscaleFloat16, half)
                }
            };
            let sizes = [1, color.channels(), *height, *width];
            let (size_flexibility, varies) = match flexibility {
                Flexibility::Fixed => (None, [false; 4]),
                Flexibility::Enumerated { shapes } => {
                    let image = |s: &Vec<u64>| match s.as_slice() {
                        [_, _, height, width] => Some(ImageSize {
                            width: *width,
                            height: *height,
                        }),
                        [..] => None,
                    };
                    let differs =
                        |axis: usize| shapes.iter().any(|s| s.get(axis) != sizes.get(axis));
                    let varies = [false, false, differs(2), differs(3)];
                    let enumerated = EnumeratedImageSizes {
                        sizes: shapes.iter().map(image).collect::<Option<_>>()?,
                    };
                    (Some(SizeFlexibility::EnumeratedSizes(enumerated)), varies)
                }
                Flexibility::Range { sizes } => {
                    let range = |axis: usize| -> Option<SizeRange> {
                        let size = sizes.get(axis)?;
                        let upper = size.max.map(|max| i64::try_from(max).ok());
                        Some(SizeRange {
                            lower_bound: size.min,
                            upper_bound: upper.unwrap_or(Some(-1))?,
                        })
                    };
                    let is_open =
                        |axis: usize| sizes.get(axis).is_some_and(|s| s.max != Some(s.min));
                    let range = ImageSizeRange {
                        height_range: range(2),
                        width_range: range(3),
                    };
                    let varies = [false, false, is_open(2), is_open(3)];
                    (Some(SizeFlexibility::ImageSizeRange(range)), varies)
                }
            };
            if !(float && ty.dtype.is_float() && fits(&sizes) && all_open(&varies)) {
                return None;
            }
            let image = ImageFeatureType {
                width: i64::try_from(*width).ok()?,
                height: i64::try_from(*height).ok()?,
                color_space: space.into(),
                size_flexibility,
            };
            Some(described(
                &feature.name,
                feature_type::Type::ImageType(image),
            ))
        }
        FeatureKind::MultiArray {
            shape,
            flexibility: Flexibility::Enumerated { shapes },
            ..
        } => {
            let sizes = |s: &Vec<u64>| -> Option<Vec<i64>> {
                s.iter().map(|&n| i64::try_from(n).ok()).collect()
            };
            let differs = |axis: usize| shapes.iter().any(|s| s.get(axis) != shape.get(axis));
            let varies: Vec<bool> = (0..shape.len()).map(differs).collect();
            if !(shapes.iter().chain([shape]).all(|s| fits(s)) && all_open(&varies)) {
                return None;
            }
            let one = |s: &Vec<u64>| Some(Shape { shape: sizes(s)? });
            let shapes = shapes.iter().map(one).collect::<Option<Vec<_>>>()?;
            Some(self::feature(
                &feature.name,
                sizes(shape)?,
                array_type(ty.dtype).ok()?,
                Some(ShapeFlexibility::EnumeratedShapes(EnumeratedShapes {
                    shapes,
                })),
            ))
        }
        FeatureKind::MultiArray { .. }
        | FeatureKind::State { .. }
        | FeatureKind::Int64
        | FeatureKind::Double
        | FeatureKind::String
        | FeatureKind::Dictionary
        | FeatureKind::Sequence => None,
    }
}

/// The least and largest size of a dimension.
fn size_range(dim: &Dim, symbols: &[&Symbol]) -> Result<SizeRange, CoremlError> {
    let ends = |pick: fn(&SymbolRange) -> u64| -> Bindings {
        symbols
            .iter()
            .map(|s| (s.name.clone(), pick(&s.range)))
            .collect()
    };
    let unknown = || CoremlError::Size {
        dim: dim.to_string(),
    };
    let low = dim.eval(&ends(smallest)).ok_or_else(unknown)?;
    Ok(SizeRange {
        lower_bound: u64::try_from(low).map_err(|_| unknown())?,
        upper_bound: dim.eval(&ends(largest)).ok_or_else(unknown)?,
    })
}

fn smallest(range: &SymbolRange) -> u64 {
    match range {
        SymbolRange::Between { min, .. } => *min,
        SymbolRange::OneOf(sizes) => sizes.first().copied().unwrap_or(1),
    }
}

fn largest(range: &SymbolRange) -> u64 {
    match range {
        SymbolRange::Between { max, .. } => *max,
        SymbolRange::OneOf(sizes) => sizes.last().copied().unwrap_or(1),
    }
}

/// The description of an output; without a shape when that varies.
///
/// # Errors
/// When its element type cannot be an output.
pub(super) fn output(name: &str, ty: &Type) -> Result<FeatureDescription> {
    let shape = ty.known_shape().unwrap_or_default();
    let shape = shape.into_iter().map(num::i64_of).collect();
    Ok(feature(
        name,
        shape,
        array_type(ty.dtype).at_node(name)?,
        None,
    ))
}

/// The description of a state.
///
/// # Errors
/// When its element type cannot be one.
pub(super) fn state(name: &str, ty: &Type) -> Result<FeatureDescription> {
    let shape = ty.known_shape().unwrap_or_default();
    let array = ArrayFeatureType {
        shape: shape.into_iter().map(num::i64_of).collect(),
        data_type: array_type(ty.dtype).at_node(name)?.into(),
        shape_flexibility: None,
        default_optional_value: None,
    };
    let state = StateFeatureType {
        r#type: Some(state_feature_type::Type::ArrayType(array)),
    };
    Ok(FeatureDescription {
        name: name.to_owned(),
        short_description: String::new(),
        r#type: Some(FeatureType {
            is_optional: false,
            r#type: Some(feature_type::Type::StateType(state)),
        }),
    })
}

fn feature(
    name: &str,
    shape: Vec<i64>,
    ty: ArrayDataType,
    shape_flexibility: Option<ShapeFlexibility>,
) -> FeatureDescription {
    let array = ArrayFeatureType {
        shape,
        data_type: ty.into(),
        shape_flexibility,
        default_optional_value: None,
    };
    described(name, feature_type::Type::MultiArrayType(array))
}

fn described(name: &str, ty: feature_type::Type) -> FeatureDescription {
    FeatureDescription {
        name: name.to_owned(),
        short_description: String::new(),
        r#type: Some(FeatureType {
            is_optional: false,
            r#type: Some(ty),
        }),
    }
}

/// The element type of an input or output; legalisation leaves only these three.
fn array_type(dtype: DType) -> Result<ArrayDataType, CoremlError> {
    match dtype {
        DType::F16 => Ok(ArrayDataType::Float16),
        DType::F32 => Ok(ArrayDataType::Float32),
        DType::I32 => Ok(ArrayDataType::Int32),
        DType::Bool
        | DType::U1
        | DType::U2
        | DType::U3
        | DType::U4
        | DType::U6
        | DType::I4
        | DType::I8
        | DType::U8
        | DType::I16
        | DType::U16
        | DType::U32
        | DType::I64
        | DType::U64
        | DType::BF16
        | DType::F8E4M3
        | DType::F8E5M2
        | DType::F64 => Err(CoremlError::Type { dtype }),
    }
}
