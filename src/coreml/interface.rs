//! A model's description: its inputs, outputs and states as Core ML shows them, and how their shapes may vary.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Serialize, Serializer};

use super::import::ImportError;
use super::proto::array_feature_type::{ArrayDataType, DefaultOptionalValue, ShapeFlexibility};
use super::proto::feature_type::Type as Kind;
use super::proto::image_feature_type::{ColorSpace, SizeFlexibility};
use super::proto::state_feature_type::Type as StateKind;
use super::proto::{ArrayFeatureType, FeatureDescription, ImageFeatureType, SizeRange as RawRange};
use crate::ir::Module;
use crate::limits;
use crate::tensor::{DType, num};

/// An input, output or state of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Feature {
    /// Name.
    pub name: String,
    /// What the author wrote about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it holds.
    #[serde(flatten)]
    pub kind: FeatureKind,
    /// Whether it may be left out.
    pub optional: bool,
    /// What every element of it is when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_value: Option<DefaultValue>,
}

/// What every element of an optional array is when the array is left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum DefaultValue {
    /// A whole number.
    Int(i32),
    /// A number in single precision; Apple's converter has whole numbers so, too.
    Float(f32),
    /// A number in double precision.
    Double(f64),
}

impl DefaultValue {
    /// The number.
    #[must_use]
    pub fn number(self) -> f64 {
        match self {
            DefaultValue::Int(n) => f64::from(n),
            DefaultValue::Float(x) => f64::from(x),
            DefaultValue::Double(x) => x,
        }
    }
}

/// What a model says about itself beyond its program: what a package made of it says again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// Inputs of the function.
    pub inputs: Vec<Feature>,
    /// Outputs of the function.
    pub outputs: Vec<Feature>,
    /// States of the function.
    pub states: Vec<Feature>,
    /// What the labels are, of a classifier.
    pub classifier: Option<Classifier>,
    /// The author's short description.
    pub short_description: String,
    /// The author.
    pub author: String,
    /// The licence.
    pub license: String,
    /// The author's version of the model.
    pub version: String,
    /// Metadata that the author named.
    pub metadata: BTreeMap<String, String>,
}

impl Description {
    /// The inputs and outputs that are images in half precision, the only pixels whose element type the format fixes.
    #[must_use]
    pub fn half_images(&self) -> BTreeSet<String> {
        let features = self.inputs.iter().chain(&self.outputs);
        let half = features.filter(|f| {
            let color = match f.kind {
                FeatureKind::Image { color, .. } => Some(color),
                FeatureKind::MultiArray { .. }
                | FeatureKind::State { .. }
                | FeatureKind::Int64
                | FeatureKind::Double
                | FeatureKind::String
                | FeatureKind::Dictionary
                | FeatureKind::Sequence => None,
            };
            color == Some(Color::GrayF16)
        });
        half.map(|f| f.name.clone()).collect()
    }
}

/// The labels of a classifier. In the module, the label is its index as an integer, unless the labels are integers themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classifier {
    /// The output that is the label.
    pub label: String,
    /// The output that is the probabilities, in the order of the labels.
    pub probabilities: String,
    /// The labels.
    pub labels: Vec<String>,
    /// Whether the labels are integers.
    pub integers: bool,
}

impl Classifier {
    /// The module without the label: a package says it by the labels themselves. What only the label needs is left in place.
    #[must_use]
    pub fn without_label(&self, module: &Module) -> Module {
        let mut module = module.clone();
        if let Some(function) = module.functions.first_mut() {
            function.outputs.retain(|o| o.name != self.label);
        }
        module
    }

    /// The labels as one line of JSON: what formats without labels keep of them in their metadata.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::json!({
            "label": self.label,
            "labels": self.labels,
            "probabilities": self.probabilities,
        })
        .to_string()
    }
}

/// What an input, output or state holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FeatureKind {
    /// A tensor.
    MultiArray {
        /// Element type.
        #[serde(serialize_with = "dtype_name")]
        dtype: DType,
        /// Default shape; empty when only the program knows it.
        shape: Vec<u64>,
        /// How the shape may vary.
        flexibility: Flexibility,
    },
    /// An image.
    Image {
        /// Pixels across.
        width: u64,
        /// Pixels down.
        height: u64,
        /// What a pixel is.
        color: Color,
        /// How the sizes may vary: shapes `[1, channels, height, width]`.
        flexibility: Flexibility,
    },
    /// Memory that a model keeps between runs.
    State {
        /// Element type.
        #[serde(serialize_with = "dtype_name")]
        dtype: DType,
        /// Shape.
        shape: Vec<u64>,
    },
    /// An integer.
    Int64,
    /// A number.
    Double,
    /// A string.
    String,
    /// A map from labels to probabilities.
    Dictionary,
    /// A list.
    Sequence,
}

impl FeatureKind {
    /// How the shape may vary, if it has one that may.
    #[must_use]
    pub fn flexibility(&self) -> Option<&Flexibility> {
        match self {
            FeatureKind::MultiArray { flexibility, .. }
            | FeatureKind::Image { flexibility, .. } => Some(flexibility),
            FeatureKind::State { .. }
            | FeatureKind::Int64
            | FeatureKind::Double
            | FeatureKind::String
            | FeatureKind::Dictionary
            | FeatureKind::Sequence => None,
        }
    }
}

/// What a pixel of an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// One number, 0 to 255.
    Gray,
    /// One number in half precision.
    GrayF16,
    /// Red, green, blue, each 0 to 255.
    Rgb,
    /// Blue, green, red, each 0 to 255.
    Bgr,
}

impl Color {
    /// Numbers per pixel.
    #[must_use]
    pub fn channels(self) -> u64 {
        match self {
            Color::Gray | Color::GrayF16 => 1,
            Color::Rgb | Color::Bgr => 3,
        }
    }
}

/// How the shape of an array may vary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Flexibility {
    /// It does not.
    Fixed,
    /// One of these.
    Enumerated {
        /// The shapes; several such inputs go together by index.
        shapes: Vec<Vec<u64>>,
    },
    /// A range per axis.
    Range {
        /// The ranges.
        sizes: Vec<SizeRange>,
    },
}

/// The sizes that an axis may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SizeRange {
    /// Smallest.
    pub min: u64,
    /// Largest, unless there is no bound.
    pub max: Option<u64>,
}

impl SizeRange {
    /// Whether a size is inside.
    #[must_use]
    pub fn holds(&self, size: u64) -> bool {
        size >= self.min && self.max.is_none_or(|max| size <= max)
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max {
            Some(max) if max == self.min => write!(f, "{max}"),
            Some(max) => write!(f, "{}..={max}", self.min),
            None => write!(f, "{}..", self.min),
        }
    }
}

fn dtype_name<S: Serializer>(dtype: &DType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(dtype.name())
}

impl fmt::Display for FeatureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FeatureKind::MultiArray {
                dtype,
                shape,
                flexibility,
            } => {
                write!(f, "{dtype}{shape:?}")?;
                match flexibility {
                    Flexibility::Fixed => Ok(()),
                    Flexibility::Enumerated { shapes } => write!(f, " of {shapes:?}"),
                    Flexibility::Range { sizes } => {
                        let ranges: Vec<String> = sizes.iter().map(SizeRange::to_string).collect();
                        write!(f, " in [{}]", ranges.join(", "))
                    }
                }
            }
            FeatureKind::Image {
                width,
                height,
                color,
                ..
            } => {
                let color = match color {
                    Color::Gray => "a gray image",
                    Color::GrayF16 => "a gray image in half precision",
                    Color::Rgb => "an RGB image",
                    Color::Bgr => "a BGR image",
                };
                write!(f, "{color} of {width}×{height}")
            }
            FeatureKind::State { dtype, shape } => write!(f, "a state of {dtype}{shape:?}"),
            FeatureKind::Int64 => f.write_str("an integer"),
            FeatureKind::Double => f.write_str("a number"),
            FeatureKind::String => f.write_str("a string"),
            FeatureKind::Dictionary => f.write_str("a dictionary"),
            FeatureKind::Sequence => f.write_str("a sequence"),
        }
    }
}

fn malformed(what: &'static str, expected: &str, found: impl ToString) -> ImportError {
    ImportError::Malformed {
        what,
        expected: expected.to_owned(),
        found: found.to_string(),
    }
}

/// The features of a list of descriptions.
pub(super) fn features(descriptions: &[FeatureDescription]) -> Result<Vec<Feature>, ImportError> {
    let mut features: Vec<Feature> = Vec::with_capacity(descriptions.len());
    for description in descriptions {
        let feature = feature(description)?;
        // Apple's converter describes an output as often as it is returned.
        if features.contains(&feature) {
            continue;
        }
        if features.iter().any(|f| f.name == feature.name) {
            return Err(ImportError::Duplicate { name: feature.name });
        }
        features.push(feature);
    }
    Ok(features)
}

/// The feature of one description.
pub(super) fn feature(description: &FeatureDescription) -> Result<Feature, ImportError> {
    let nothing = || malformed("type of an input or output", "a type", "nothing");
    let ty = description.r#type.as_ref().ok_or_else(nothing)?;
    let mut default_value = None;
    let kind = match ty.r#type.as_ref().ok_or_else(nothing)? {
        Kind::MultiArrayType(array) => {
            default_value = array.default_optional_value.as_ref().map(|v| match v {
                DefaultOptionalValue::IntDefaultValue(n) => DefaultValue::Int(*n),
                DefaultOptionalValue::FloatDefaultValue(x) => DefaultValue::Float(*x),
                DefaultOptionalValue::DoubleDefaultValue(x) => DefaultValue::Double(*x),
            });
            multi_array(array)?
        }
        Kind::ImageType(image) => self::image(image)?,
        Kind::StateType(state) => match &state.r#type {
            Some(StateKind::ArrayType(array)) => FeatureKind::State {
                dtype: element_type(array)?,
                shape: shape(&array.shape)?,
            },
            None => return Err(nothing()),
        },
        Kind::Int64Type(_) => FeatureKind::Int64,
        Kind::DoubleType(_) => FeatureKind::Double,
        Kind::StringType(_) => FeatureKind::String,
        Kind::DictionaryType(_) => FeatureKind::Dictionary,
        Kind::SequenceType(_) => FeatureKind::Sequence,
    };
    Ok(Feature {
        name: description.name.clone(),
        description: description.short_description.clone(),
        kind,
        optional: ty.is_optional,
        default_value,
    })
}

fn image(image: &ImageFeatureType) -> Result<FeatureKind, ImportError> {
    let color = match image.color_space() {
        ColorSpace::Grayscale => Color::Gray,
        ColorSpace::GrayscaleFloat16 => Color::GrayF16,
        ColorSpace::Rgb => Color::Rgb,
        ColorSpace::Bgr => Color::Bgr,
        ColorSpace::InvalidColorSpace => {
            let found = image.color_space;
            return Err(malformed("colour space of an image", "a known code", found));
        }
    };
    let channels = color.channels();
    let range = |r: &Option<RawRange>| -> Result<SizeRange, ImportError> {
        match r {
            Some(r) => size_range(r),
            None => Err(malformed("range of an image's sizes", "two ranges", "one")),
        }
    };
    let fixed = |n| SizeRange {
        min: n,
        max: Some(n),
    };
    let flexibility = match &image.size_flexibility {
        None => Flexibility::Fixed,
        Some(SizeFlexibility::EnumeratedSizes(enumerated)) => {
            let count = enumerated.sizes.len();
            if !(1..=limits::ENUMERATED_SHAPES).contains(&count) {
                return Err(malformed("number of enumerated sizes", "1 to 128", count));
            }
            let sizes = enumerated.sizes.iter();
            Flexibility::Enumerated {
                shapes: sizes
                    .map(|s| vec![1, channels, s.height, s.width])
                    .collect(),
            }
        }
        Some(SizeFlexibility::ImageSizeRange(r)) => Flexibility::Range {
            sizes: vec![
                fixed(1),
                fixed(channels),
                range(&r.height_range)?,
                range(&r.width_range)?,
            ],
        },
    };
    Ok(FeatureKind::Image {
        width: natural(image.width)?,
        height: natural(image.height)?,
        color,
        flexibility,
    })
}

fn size_range(r: &RawRange) -> Result<SizeRange, ImportError> {
    let max = if r.upper_bound < 0 {
        None
    } else {
        Some(natural(r.upper_bound)?)
    };
    if max.is_some_and(|max| max < r.lower_bound) {
        let found = format!("{} to {}", r.lower_bound, r.upper_bound);
        return Err(malformed("range of sizes", "smallest first", found));
    }
    Ok(SizeRange {
        min: r.lower_bound.min(num::u64_of(usize::MAX)),
        max,
    })
}

fn natural(n: i64) -> Result<u64, ImportError> {
    u64::try_from(n).map_err(|_| malformed("size", "a natural number", n))
}

fn shape(shape: &[i64]) -> Result<Vec<u64>, ImportError> {
    if shape.len() > limits::RANK.count() {
        return Err(malformed("rank", "at most 32", shape.len()));
    }
    shape.iter().map(|&n| natural(n)).collect()
}

fn element_type(array: &ArrayFeatureType) -> Result<DType, ImportError> {
    Ok(match ArrayDataType::try_from(array.data_type) {
        Ok(ArrayDataType::Float16) => DType::F16,
        Ok(ArrayDataType::Float32) => DType::F32,
        Ok(ArrayDataType::Double) => DType::F64,
        Ok(ArrayDataType::Int8) => DType::I8,
        Ok(ArrayDataType::Int32) => DType::I32,
        Ok(ArrayDataType::InvalidArrayDataType) | Err(_) => {
            return Err(malformed(
                "element type of an array",
                "a known code",
                array.data_type,
            ));
        }
    })
}

fn multi_array(array: &ArrayFeatureType) -> Result<FeatureKind, ImportError> {
    let dtype = element_type(array)?;
    let flexibility = match &array.shape_flexibility {
        None => Flexibility::Fixed,
        Some(ShapeFlexibility::EnumeratedShapes(enumerated)) => {
            let count = enumerated.shapes.len();
            if !(1..=limits::ENUMERATED_SHAPES).contains(&count) {
                return Err(malformed("number of enumerated shapes", "1 to 128", count));
            }
            let shapes = enumerated.shapes.iter().map(|s| shape(&s.shape));
            Flexibility::Enumerated {
                shapes: shapes.collect::<Result<_, _>>()?,
            }
        }
        Some(ShapeFlexibility::ShapeRange(range)) => {
            if range.size_ranges.len() > limits::RANK.count() {
                return Err(malformed("rank", "at most 32", range.size_ranges.len()));
            }
            let mut sizes = Vec::with_capacity(range.size_ranges.len());
            for r in &range.size_ranges {
                sizes.push(size_range(r)?);
            }
            Flexibility::Range { sizes }
        }
    };
    Ok(FeatureKind::MultiArray {
        dtype,
        shape: shape(&array.shape)?,
        flexibility,
    })
}
