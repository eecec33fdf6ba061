//! Names for the sizes that vary: which axes of the inputs vary together, and how they are called.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ImportError;
use super::{Declared, Input};
use crate::coreml::interface::{Feature, FeatureKind, Flexibility};
use crate::error::{Context, Result};
use crate::ir::{Dim, Symbol, SymbolRange, Type};
use crate::limits;
use crate::tensor::{DType, num};

/// What makes two axes one symbol: the same enumeration (Core ML matches enumerated shapes by their index), or the same range at the same
/// place among an input's axes of that range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    OneOf(Vec<u64>),
    Between(u64, Option<u64>, usize),
    /// As `OneOf`, of this axis alone.
    Any(Vec<u64>, usize),
    /// As `Between`, of this axis alone.
    Alone(u64, Option<u64>, usize),
}

/// An axis of an input that varies.
#[derive(Debug)]
struct Axis {
    input: usize,
    axis: usize,
    key: Key,
}

/// How sizes that vary are named.
#[derive(Clone, Copy, Debug)]
pub(in crate::coreml) enum Sizes<'a> {
    /// Axes that look as if they belonged together vary together, but for these of the ranged ones, which vary on their own.
    Ranged(&'a BTreeSet<usize>),
    /// Every axis varies on its own, and may turn out to be equal to any other.
    Open,
    /// They do not: the inputs have these shapes.
    Given(&'a BTreeMap<String, Vec<usize>>),
}

/// The inputs with symbols for what varies, the symbols, and what had to be assumed.
#[derive(Debug)]
pub(in crate::coreml) struct Assigned {
    pub(in crate::coreml) inputs: Vec<Input>,
    pub(in crate::coreml) symbols: Vec<Symbol>,
    /// Whether the sizes of the symbols combine to more shapes than are enumerated.
    pub(in crate::coreml) more_shapes: bool,
    pub(in crate::coreml) warnings: Vec<String>,
}

/// Compares every input of the program with its description and names what varies.
///
/// # Errors
/// When the two contradict each other.
pub(in crate::coreml) fn assign(
    inputs: &[(Declared, &Feature)],
    sizes: Sizes<'_>,
) -> Result<Assigned> {
    let mut types = Vec::with_capacity(inputs.len());
    let mut axes = Vec::new();
    for (index, (declared, feature)) in inputs.iter().enumerate() {
        let ty = input(index, declared, feature, &mut axes).at_node(&feature.name)?;
        types.push(ty);
    }
    if let Sizes::Given(shapes) = sizes {
        return given(inputs, types, &axes, shapes);
    }
    let likely: Vec<Key> = axes.iter().map(|a| a.key.clone()).collect();
    let mut names = BTreeMap::new();
    for (place, axis) in axes.iter_mut().enumerate() {
        axis.key = match (&axis.key, sizes) {
            (Key::OneOf(sizes), Sizes::Open) => Key::Any(sizes.clone(), place),
            (Key::Between(min, max, _), Sizes::Open) => Key::Alone(*min, *max, place),
            (Key::Between(min, max, _), Sizes::Ranged(alone)) if alone.contains(&place) => {
                Key::Alone(*min, *max, place)
            }
            (key, _) => key.clone(),
        };
        // What looks as if it belonged together has no name of its own.
        let alike = likely.iter().filter(|key| **key == likely[place]);
        if axis.key != likely[place] && alike.count() > 1 {
            let input = &inputs[axis.input].1.name;
            names.insert(axis.key.clone(), format!("{input}.{}", axis.axis));
        }
    }
    name(&axes, &types, &mut names);
    if matches!(sizes, Sizes::Open) {
        for name in names.values_mut() {
            name.insert(0, '?');
        }
    }
    let mut warnings = Vec::new();
    let mut symbols: Vec<Symbol> = Vec::new();
    for (key, name) in &names {
        symbols.push(Symbol {
            name: name.clone(),
            range: range(key, name, &mut warnings),
        });
    }
    symbols.sort_by(|a, b| a.name.cmp(&b.name));
    for Axis { input, axis, key } in &axes {
        if let Some(name) = names.get(key) {
            types[*input].shape[*axis] = Dim::symbol(name);
        }
    }
    let inputs = inputs
        .iter()
        .zip(types)
        .map(|((_, feature), ty)| Input {
            name: feature.name.clone(),
            ty,
        })
        .collect();
    Ok(Assigned {
        inputs,
        symbols,
        more_shapes: !combined(&names),
        warnings,
    })
}

/// Whether the enumerated shapes are all combinations of the sizes that the symbols may have.
fn combined(names: &BTreeMap<Key, String>) -> bool {
    let lists: Vec<&Vec<u64>> = names
        .keys()
        .filter_map(|key| match key {
            Key::OneOf(sizes) => Some(sizes),
            Key::Between(..) | Key::Any(..) | Key::Alone(..) => None,
        })
        .collect();
    let Some(first) = lists.first() else {
        return true;
    };
    let distinct = |list: &[u64]| list.iter().collect::<BTreeSet<_>>().len();
    let all = lists
        .iter()
        .try_fold(1usize, |n, list| n.checked_mul(distinct(list)));
    let shapes: BTreeSet<Vec<Option<&u64>>> = (0..first.len())
        .map(|i| lists.iter().map(|list| list.get(i)).collect())
        .collect();
    all == Some(shapes.len())
}

fn range(key: &Key, name: &str, warnings: &mut Vec<String>) -> SymbolRange {
    match key {
        Key::OneOf(sizes) | Key::Any(sizes, _) => {
            let mut sizes = sizes.clone();
            sizes.sort_unstable();
            sizes.dedup();
            SymbolRange::OneOf(sizes)
        }
        Key::Between(min, Some(max), _) | Key::Alone(min, Some(max), _) => SymbolRange::Between {
            min: *min,
            max: *max,
        },
        Key::Between(min, None, _) | Key::Alone(min, None, _) => {
            warnings.push(format!(
                "`{name}` has no upper bound; {} is taken",
                limits::SEQUENCE
            ));
            SymbolRange::Between {
                min: *min,
                max: limits::SEQUENCE.max(*min),
            }
        }
    }
}

/// One name per key that has none yet: `batch` for first axes, `seq` for the second axis of an integer matrix, else `dim0`, `dim1`…
fn name(axes: &[Axis], types: &[Type], names: &mut BTreeMap<Key, String>) {
    let is_seq = |a: &Axis| {
        let ty = &types[a.input];
        a.axis == 1 && ty.rank() == 2 && ty.dtype.is_int()
    };
    let is_batch = |a: &Axis| a.axis == 0;
    let unnamed = |a: &&Axis| is_seq(a) && !names.contains_key(&a.key);
    if let Some(axis) = axes.iter().find(unnamed) {
        names.insert(axis.key.clone(), "seq".to_owned());
    }
    let free = |a: &&Axis| is_batch(a) && !names.contains_key(&a.key);
    if let Some(axis) = axes.iter().find(free) {
        names.insert(axis.key.clone(), "batch".to_owned());
    }
    let mut next = 0;
    for axis in axes {
        names.entry(axis.key.clone()).or_insert_with(|| {
            next += 1;
            format!("dim{}", next - 1)
        });
    }
}

fn contradiction(declared: &Declared, feature: &Feature) -> ImportError {
    ImportError::Interface {
        feature: feature.name.clone(),
        described: feature.kind.to_string(),
        program: declared.to_string(),
    }
}

/// The type of one input, with 1 where a symbol belongs, which goes to `axes`.
fn input(
    index: usize,
    declared: &Declared,
    feature: &Feature,
    axes: &mut Vec<Axis>,
) -> Result<Type, ImportError> {
    let fail = || contradiction(declared, feature);
    let pixels;
    let (dtype, shape, flexibility) = match &feature.kind {
        FeatureKind::MultiArray {
            dtype,
            shape,
            flexibility,
        } => (*dtype, shape, flexibility),
        // To the program an image is an array of its numbers.
        FeatureKind::Image {
            width,
            height,
            color,
            flexibility,
        } => {
            pixels = vec![1, color.channels(), *height, *width];
            let dtype = declared.element()?;
            if !matches!(dtype, DType::F16 | DType::F32) {
                return Err(fail());
            }
            (dtype, &pixels, flexibility)
        }
        FeatureKind::State { .. }
        | FeatureKind::Int64
        | FeatureKind::Double
        | FeatureKind::String
        | FeatureKind::Dictionary
        | FeatureKind::Sequence => {
            return Err(unsupported("an input that is not an array", feature));
        }
    };
    let sizes = declared.shape.as_ref().ok_or_else(fail)?;
    // Scalars are described as vectors of one.
    let scalar = sizes.is_empty() && shape.as_slice() == [1];
    if Some(dtype) != declared.element().ok() || (shape.len() != sizes.len() && !scalar) {
        return Err(fail());
    }
    let mut ranges: BTreeMap<(u64, Option<u64>), usize> = BTreeMap::new();
    let mut dims = Vec::with_capacity(sizes.len());
    for (axis, &size) in sizes.iter().enumerate() {
        let key = match flexibility {
            Flexibility::Fixed => Key::OneOf(vec![shape[axis]]),
            Flexibility::Enumerated { shapes } => Key::OneOf(
                shapes
                    .iter()
                    .map(|s| s.get(axis).copied().ok_or_else(fail))
                    .collect::<Result<_, _>>()?,
            ),
            Flexibility::Range { sizes } => {
                let range = sizes.get(axis).ok_or_else(fail)?;
                if range.max == Some(range.min) {
                    Key::OneOf(vec![range.min])
                } else {
                    let place = ranges.entry((range.min, range.max)).or_insert(0);
                    *place += 1;
                    Key::Between(range.min, range.max, *place)
                }
            }
        };
        let fixed = match &key {
            Key::OneOf(sizes) => sizes.iter().all(|s| *s == sizes[0]).then(|| sizes[0]),
            Key::Between(..) | Key::Any(..) | Key::Alone(..) => None,
        };
        let default = shape[axis];
        let described = match &key {
            Key::OneOf(sizes) | Key::Any(sizes, _) => sizes.contains(&default),
            Key::Between(min, max, _) | Key::Alone(min, max, _) => {
                default >= *min && max.is_none_or(|max| default <= max)
            }
        };
        match (fixed, size) {
            _ if !described => return Err(fail()),
            (Some(fixed), Some(size)) if fixed == size => dims.push(Dim::from(num::usize_of(size))),
            (None, None) => {
                dims.push(Dim::from(1));
                axes.push(Axis {
                    input: index,
                    axis,
                    key,
                });
            }
            // The program leaves open what the description fixes.
            (Some(fixed), None) if !matches!(flexibility, Flexibility::Fixed) => {
                dims.push(Dim::from(num::usize_of(fixed)));
            }
            (Some(_) | None, _) => return Err(fail()),
        }
    }
    Ok(Type::new(dtype, dims))
}

/// The inputs at given shapes, which must be among those described.
fn given(
    inputs: &[(Declared, &Feature)],
    mut types: Vec<Type>,
    axes: &[Axis],
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Assigned> {
    for Axis { input, axis, key } in axes {
        let feature = inputs[*input].1;
        let size = shapes.get(&feature.name).and_then(|s| s.get(*axis));
        let fits = |n: u64| match key {
            Key::OneOf(sizes) | Key::Any(sizes, _) => sizes.contains(&n),
            Key::Between(min, max, _) | Key::Alone(min, max, _) => {
                n >= *min && max.is_none_or(|max| n <= max)
            }
        };
        match size.filter(|&&n| fits(num::u64_of(n))) {
            Some(&n) => types[*input].shape[*axis] = Dim::from(n),
            None => {
                let found = shapes
                    .get(&feature.name)
                    .map_or("nothing".to_owned(), |s| format!("{s:?}"));
                return Err(ImportError::Malformed {
                    what: "shape of an input",
                    expected: feature.kind.to_string(),
                    found,
                })
                .at_node(&feature.name);
            }
        }
    }
    let inputs = inputs.iter().zip(types).map(|((_, feature), ty)| Input {
        name: feature.name.clone(),
        ty,
    });
    Ok(Assigned {
        inputs: inputs.collect(),
        symbols: Vec::new(),
        more_shapes: false,
        warnings: Vec::new(),
    })
}

fn unsupported(what: &'static str, feature: &Feature) -> ImportError {
    ImportError::Unsupported {
        what,
        detail: format!(": `{}`", feature.name),
    }
}
