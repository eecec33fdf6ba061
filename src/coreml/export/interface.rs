//! The model's description: its inputs and outputs, and the shapes that they may have. What a Core ML source said about them is said again as
//! far as their types still allow it.

use std::collections::BTreeSet;

use crate::coreml::error::CoremlError;
use crate::coreml::interface::{
    Classifier, Color, DefaultValue, Description, Feature, FeatureKind, Flexibility,
    SizeRange as Range,
};
use crate::coreml::proto::array_feature_type::{
    ArrayDataType, DefaultOptionalValue, EnumeratedShapes, Shape, ShapeFlexibility, ShapeRange,
};
use crate::coreml::proto::image_feature_type::{
    ColorSpace, EnumeratedImageSizes, ImageSize, ImageSizeRange, SizeFlexibility,
};
use crate::coreml::proto::{
    ArrayFeatureType, DictionaryFeatureType, FeatureDescription, FeatureType, ImageFeatureType,
    Int64FeatureType, SizeRange, StateFeatureType, StringFeatureType, dictionary_feature_type,
    feature_type, state_feature_type,
};
use crate::coreml::target::{DeploymentTarget, Opset};
use crate::error::{Context, Result};
use crate::ir::{Bindings, Dim, Function, Module, Symbol, SymbolRange, Type, concrete};
use crate::limits;
use crate::tensor::{DType, num};

/// What the inputs, outputs and states of a function are described by.
pub(super) struct Interface<'a> {
    module: &'a Module,
    opset: Opset,
    told: Option<&'a Description>,
    /// The shapes that inputs may have, together.
    shapes: Shapes,
    /// Which of the enumerated shapes that a source told are left: those that every input still takes.
    rows: BTreeSet<usize>,
    /// What could not be said again.
    pub(super) warnings: Vec<String>,
}

/// The shapes that the model's inputs may have, together.
struct Shapes {
    /// One set of sizes per enumerated shape, the default first; empty when nothing is enumerated.
    enumerated: Result<Vec<Bindings>, CoremlError>,
    /// Sizes of the default shapes.
    default: Bindings,
}

impl Shapes {
    /// The shapes of a module's symbols.
    fn of(module: &Module) -> Self {
        let smallest = |s: &Symbol| (s.name.clone(), smallest(&s.range));
        Shapes {
            enumerated: enumerated(module),
            default: module.symbols.iter().map(smallest).collect(),
        }
    }
}

/// Every combination of the sizes that are enumerated.
///
/// # Errors
/// When there are more than Core ML allows.
fn enumerated(module: &Module) -> Result<Vec<Bindings>, CoremlError> {
    let smallest = |s: &Symbol| (s.name.clone(), smallest(&s.range));
    let mut enumerated: Vec<Bindings> = vec![module.symbols.iter().map(smallest).collect()];
    let mut any = false;
    for symbol in &module.symbols {
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
    Ok(enumerated)
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

/// The default shape of an input, and the others that it may have.
type Sizes = (Vec<u64>, Flexibility);

/// Whether a type takes a shape: known sizes are these, and symbols have one value each, of those that they may have.
fn admits(module: &Module, ty: &Type, shape: &[u64]) -> bool {
    let mut bindings = Bindings::new();
    let fits = |(dim, &n): (&Dim, &u64)| {
        let Some(symbol) = dim.as_symbol() else {
            return true;
        };
        let inside = match module.symbol(symbol).map(|s| &s.range) {
            Some(SymbolRange::Between { min, max }) => (min..=max).contains(&&n),
            Some(SymbolRange::OneOf(sizes)) => sizes.contains(&n),
            None => false,
        };
        inside && *bindings.entry(symbol.to_owned()).or_insert(n) == n
    };
    let known = |(dim, &n): (&Dim, &u64), bindings: &Bindings| {
        let found = dim.eval(bindings);
        found.is_none_or(|found| u64::try_from(found) == Ok(n))
    };
    ty.rank() == shape.len()
        && ty.shape.iter().zip(shape).all(fits)
        && ty.shape.iter().zip(shape).all(|d| known(d, &bindings))
}

/// The default shape that was told of an array or image, and how it may vary.
fn told_sizes(feature: &Feature) -> Option<(Vec<u64>, &Flexibility)> {
    match &feature.kind {
        FeatureKind::MultiArray {
            shape, flexibility, ..
        } => Some((shape.clone(), flexibility)),
        FeatureKind::Image {
            width,
            height,
            color,
            flexibility,
        } => Some((vec![1, color.channels(), *height, *width], flexibility)),
        FeatureKind::State { .. }
        | FeatureKind::Int64
        | FeatureKind::Double
        | FeatureKind::String
        | FeatureKind::Dictionary
        | FeatureKind::Sequence => None,
    }
}

impl<'a> Interface<'a> {
    /// The interface of a module's default function.
    pub(super) fn new(
        module: &'a Module,
        function: &Function,
        opset: Opset,
        told: Option<&'a Description>,
    ) -> Self {
        let mut rows: Option<BTreeSet<usize>> = None;
        for feature in told.iter().flat_map(|t| &t.inputs) {
            let param = function.param(&feature.name);
            if let (Some((_, Flexibility::Enumerated { shapes })), Some(param)) =
                (told_sizes(feature), param)
            {
                let ty = function.ty(param.value);
                let left = |i: &usize| shapes.get(*i).is_some_and(|s| admits(module, ty, s));
                let before = rows.unwrap_or_else(|| (0..shapes.len()).collect());
                rows = Some(before.into_iter().filter(left).collect());
            }
        }
        Interface {
            module,
            opset,
            told,
            shapes: Shapes::of(module),
            rows: rows.unwrap_or_default(),
            warnings: Vec::new(),
        }
    }

    /// What the source said.
    fn told(&self, of: fn(&Description) -> &Vec<Feature>, name: &str) -> Option<&'a Feature> {
        let told = self.told?;
        of(told).iter().find(|f| f.name == name)
    }

    /// The description of an input.
    ///
    /// # Errors
    /// When its shapes cannot be described.
    pub(super) fn input(&mut self, name: &str, ty: &Type) -> Result<FeatureDescription> {
        let told = self.told(|t| &t.inputs, name);
        let (default, flexibility) = self.sizes(name, ty, told)?;
        let mut description = match told.and_then(|t| self.color(t, ty)) {
            Some(color) => image(name, color, &default, &flexibility),
            None => array(
                name,
                &default,
                array_type(ty.dtype).at_node(name)?,
                &flexibility,
            ),
        };
        if let Some(told) = told {
            again(&mut description, told);
        }
        Ok(description)
    }

    /// The description of an output. An array is described without a shape when that varies.
    ///
    /// # Errors
    /// When its element type cannot be an output.
    pub(super) fn output(&mut self, name: &str, ty: &Type) -> Result<FeatureDescription> {
        let told = self.told(|t| &t.outputs, name);
        let shape = ty.known_shape();
        let mut description = match told.and_then(|t| self.color(t, ty)) {
            Some(color) => {
                let any = Range { min: 1, max: None };
                let sizes = vec![any; ty.rank()];
                let (sizes, flexibility) = match shape {
                    Some(shape) => (
                        shape.into_iter().map(num::u64_of).collect(),
                        Flexibility::Fixed,
                    ),
                    None => (Vec::new(), Flexibility::Range { sizes }),
                };
                image(name, color, &sizes, &flexibility)
            }
            None => {
                let sizes = shape.unwrap_or_default().into_iter().map(num::u64_of);
                let sizes: Vec<u64> = sizes.collect();
                let ty = array_type(ty.dtype).at_node(name)?;
                array(name, &sizes, ty, &Flexibility::Fixed)
            }
        };
        if let Some(told) = told {
            again(&mut description, told);
        }
        Ok(description)
    }

    /// The descriptions of a classifier's label and probabilities.
    pub(super) fn classes(&self, classifier: &Classifier) -> [FeatureDescription; 2] {
        let (label, key) = if classifier.integers {
            (
                feature_type::Type::Int64Type(Int64FeatureType {}),
                dictionary_feature_type::KeyType::Int64KeyType(Int64FeatureType {}),
            )
        } else {
            (
                feature_type::Type::StringType(StringFeatureType {}),
                dictionary_feature_type::KeyType::StringKeyType(StringFeatureType {}),
            )
        };
        let probabilities = feature_type::Type::DictionaryType(DictionaryFeatureType {
            key_type: Some(key),
        });
        [
            (&classifier.label, label),
            (&classifier.probabilities, probabilities),
        ]
        .map(|(name, ty)| {
            let mut description = described(name, ty);
            if let Some(told) = self.told(|t| &t.outputs, name) {
                again(&mut description, told);
            }
            description
        })
    }

    /// The description of a state.
    ///
    /// # Errors
    /// When its element type cannot be one.
    pub(super) fn state(&self, name: &str, ty: &Type) -> Result<FeatureDescription> {
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
        let mut description = described(name, feature_type::Type::StateType(state));
        if let Some(told) = self.told(|t| &t.states, name) {
            again(&mut description, told);
        }
        Ok(description)
    }

    /// The shapes of an input: as they were told, where its type takes them, else as its symbols have them.
    fn sizes(&self, name: &str, ty: &Type, told: Option<&Feature>) -> Result<Sizes> {
        let shape = |bindings: &Bindings| -> Result<Vec<u64>> {
            let sizes = concrete(&ty.shape, bindings).at_node(name)?;
            Ok(sizes.into_iter().map(num::u64_of).collect())
        };
        let told = told.and_then(told_sizes);
        let flexibility = match varies(self.module, ty) {
            Varies::No => Flexibility::Fixed,
            Varies::Between(symbols) => {
                let told: &[Range] = match &told {
                    Some((_, Flexibility::Range { sizes })) => sizes,
                    Some((_, Flexibility::Fixed | Flexibility::Enumerated { .. })) | None => &[],
                };
                let range = |(axis, dim): (usize, &Dim)| {
                    let found = size_range(dim, &symbols).at_node(name)?;
                    // A range without an end was read as one up to the limit.
                    let open = told.get(axis).is_some_and(|r| r.max.is_none())
                        && found.max == Some(limits::SEQUENCE);
                    let max = found.max.filter(|_| !open);
                    Ok(Range { max, ..found })
                };
                let dims = ty.shape.iter().enumerate();
                Flexibility::Range {
                    sizes: dims.map(range).collect::<Result<_>>()?,
                }
            }
            Varies::Enumerated => match &told {
                Some((_, Flexibility::Enumerated { shapes })) if !self.rows.is_empty() => {
                    let left = self.rows.iter().filter_map(|&i| shapes.get(i).cloned());
                    Flexibility::Enumerated {
                        shapes: left.collect(),
                    }
                }
                Some(_) | None => {
                    let used = symbols_of(ty);
                    let enumerated = |s: &&Symbol| matches!(s.range, SymbolRange::OneOf(_));
                    let missing = self.module.symbols.iter().filter(enumerated);
                    if let Some(symbol) = missing.into_iter().find(|s| !used.contains(&s.name)) {
                        return Err(CoremlError::Unmatched {
                            input: name.to_owned(),
                            symbol: symbol.name.clone(),
                        }
                        .into());
                    }
                    let shapes = self.shapes.enumerated.clone()?;
                    Flexibility::Enumerated {
                        shapes: shapes.iter().map(shape).collect::<Result<_>>()?,
                    }
                }
            },
        };
        let default = match (told, &flexibility) {
            (Some((default, _)), Flexibility::Enumerated { shapes }) => {
                let told = shapes.iter().find(|s| **s == default);
                told.or(shapes.first()).cloned()
            }
            (Some((default, _)), Flexibility::Fixed | Flexibility::Range { .. }) => {
                Some(default).filter(|d| admits(self.module, ty, d))
            }
            (None, _) => None,
        };
        let default = match default {
            Some(default) => default,
            None => shape(&self.shapes.default)?,
        };
        Ok((default, flexibility))
    }

    /// The colours of what was an image, unless its type makes an array of it.
    fn color(&mut self, told: &Feature, ty: &Type) -> Option<Color> {
        let FeatureKind::Image { color, .. } = told.kind else {
            return None;
        };
        let channels = Some(num::usize_of(color.channels()));
        let planes = match ty.shape.as_slice() {
            [one, c, _, _] => one.known() == Some(1) && c.known() == channels,
            [..] => false,
        };
        // Pixels in half precision came with the second opset.
        let dtype = match color {
            Color::Gray | Color::Rgb | Color::Bgr => ty.dtype.is_float(),
            Color::GrayF16 => ty.dtype == DType::F16 && self.opset >= Opset::CoreML6,
        };
        if planes && dtype {
            return Some(color);
        }
        self.warnings.push(format!(
            "`{}` is an array of {ty} instead of {}, which this deployment target does not have",
            told.name, told.kind
        ));
        None
    }
}

/// Says again what an author said of an input, output or state.
fn again(description: &mut FeatureDescription, told: &Feature) {
    told.description
        .clone_into(&mut description.short_description);
    let Some(ty) = &mut description.r#type else {
        return;
    };
    ty.is_optional = told.optional;
    if let Some(feature_type::Type::MultiArrayType(array)) = &mut ty.r#type {
        array.default_optional_value = told.default_value.map(|value| match value {
            DefaultValue::Int(n) => DefaultOptionalValue::IntDefaultValue(n),
            DefaultValue::Float(x) => DefaultOptionalValue::FloatDefaultValue(x),
            DefaultValue::Double(x) => DefaultOptionalValue::DoubleDefaultValue(x),
        });
    }
}

/// The least and largest size of a dimension.
fn size_range(dim: &Dim, symbols: &[&Symbol]) -> Result<Range, CoremlError> {
    let ends = |pick: fn(&SymbolRange) -> u64| -> Bindings {
        symbols
            .iter()
            .map(|s| (s.name.clone(), pick(&s.range)))
            .collect()
    };
    let unknown = || CoremlError::Size {
        dim: dim.to_string(),
    };
    let end = |pick: fn(&SymbolRange) -> u64| {
        let found = dim.eval(&ends(pick)).ok_or_else(unknown)?;
        u64::try_from(found).map_err(|_| unknown())
    };
    Ok(Range {
        min: end(smallest)?,
        max: Some(end(largest)?),
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

fn array(
    name: &str,
    default: &[u64],
    ty: ArrayDataType,
    flexibility: &Flexibility,
) -> FeatureDescription {
    let sizes = |shape: &[u64]| shape.iter().map(|&n| size(n)).collect();
    let shape_flexibility = match flexibility {
        Flexibility::Fixed => None,
        Flexibility::Enumerated { shapes } => {
            let shapes = shapes.iter().map(|s| Shape { shape: sizes(s) });
            Some(ShapeFlexibility::EnumeratedShapes(EnumeratedShapes {
                shapes: shapes.collect(),
            }))
        }
        Flexibility::Range { sizes } => Some(ShapeFlexibility::ShapeRange(ShapeRange {
            size_ranges: sizes.iter().map(raw).collect(),
        })),
    };
    let array = ArrayFeatureType {
        shape: sizes(default),
        data_type: ty.into(),
        shape_flexibility,
        default_optional_value: None,
    };
    described(name, feature_type::Type::MultiArrayType(array))
}

/// An image of these shapes: `[1, channels, height, width]`.
fn image(
    name: &str,
    color: Color,
    default: &[u64],
    flexibility: &Flexibility,
) -> FeatureDescription {
    let at = |shape: &[u64], axis: usize| shape.get(axis).copied().unwrap_or_default();
    let size_flexibility = match flexibility {
        Flexibility::Fixed => None,
        Flexibility::Enumerated { shapes } => {
            let sizes = shapes.iter().map(|s| ImageSize {
                width: at(s, 3),
                height: at(s, 2),
            });
            Some(SizeFlexibility::EnumeratedSizes(EnumeratedImageSizes {
                sizes: sizes.collect(),
            }))
        }
        Flexibility::Range { sizes } => Some(SizeFlexibility::ImageSizeRange(ImageSizeRange {
            height_range: sizes.get(2).map(raw),
            width_range: sizes.get(3).map(raw),
        })),
    };
    let space = match color {
        Color::Gray => ColorSpace::Grayscale,
        Color::GrayF16 => ColorSpace::GrayscaleFloat16,
        Color::Rgb => ColorSpace::Rgb,
        Color::Bgr => ColorSpace::Bgr,
    };
    let image = ImageFeatureType {
        width: size(at(default, 3)),
        height: size(at(default, 2)),
        color_space: space.into(),
        size_flexibility,
    };
    described(name, feature_type::Type::ImageType(image))
}

fn size(n: u64) -> i64 {
    num::i64_of(num::usize_of(n))
}

fn raw(range: &Range) -> SizeRange {
    SizeRange {
        lower_bound: range.min,
        upper_bound: range.max.map_or(-1, size),
    }
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
