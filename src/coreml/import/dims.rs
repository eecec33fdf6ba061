//! Arithmetic on shapes: integer operations on what `shape` gives are followed as dimension expressions, so that no such operation is left in the module.

use std::collections::BTreeMap;

use super::call::Call;
use super::entry::{Dims, Entry};
use crate::coreml::dtype::from_name;
use crate::error::{Error, Result};
use crate::ir::{Dim, DimOp, DimTree, Symbol, SymbolRange, normalize_axis};
use crate::tensor::{DType, num};

/// The sizes that symbols may have: what comparisons of expressions are decided by.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    symbols: BTreeMap<String, (i64, i64)>,
}

impl Bounds {
    /// Adds a symbol.
    pub(super) fn insert(&mut self, symbol: &Symbol) {
        let size = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let range = match &symbol.range {
            SymbolRange::Between { min, max } => (size(*min), size(*max)),
            SymbolRange::OneOf(sizes) => (
                sizes.first().copied().map_or(0, size),
                sizes.last().copied().map_or(i64::MAX, size),
            ),
        };
        self.symbols.insert(symbol.name.clone(), range);
    }

    /// Least and greatest value, as far as interval arithmetic can tell.
    fn of(&self, dim: &Dim) -> Option<(i64, i64)> {
        self.of_tree(&dim.tree())
    }

    fn of_tree(&self, tree: &DimTree) -> Option<(i64, i64)> {
        Some(match tree {
            DimTree::Integer(n) => (*n, *n),
            // What only a run tells is a number of elements.
            DimTree::Symbol(name) => match self.symbols.get(name) {
                Some(range) => *range,
                None if Dim::symbol(name).is_run_time() => (0, i64::from(i32::MAX)),
                None => return None,
            },
            DimTree::Binary(op, a, b) => {
                let ((a0, a1), (b0, b1)) = (self.of_tree(a)?, self.of_tree(b)?);
                match op {
                    DimOp::Add => (a0.saturating_add(b0), a1.saturating_add(b1)),
                    DimOp::Min => (a0.min(b0), a1.min(b1)),
                    DimOp::Max => (a0.max(b0), a1.max(b1)),
                    DimOp::Mul => {
                        let ends = [
                            a0.saturating_mul(b0),
                            a0.saturating_mul(b1),
                            a1.saturating_mul(b0),
                            a1.saturating_mul(b1),
                        ];
                        let least = ends.iter().copied().min()?;
                        let greatest = ends.iter().copied().max()?;
                        (least, greatest)
                    }
                    DimOp::FloorDiv if b0 > 0 => {
                        let ends = [
                            a0.div_euclid(b0),
                            a0.div_euclid(b1),
                            a1.div_euclid(b0),
                            a1.div_euclid(b1),
                        ];
                        (ends.iter().copied().min()?, ends.iter().copied().max()?)
                    }
                    DimOp::FloorDiv => return None,
                }
            }
        })
    }

    /// Whether `a ≤ b` for all sizes of the symbols.
    pub(super) fn at_most(&self, a: &Dim, b: &Dim) -> bool {
        self.of(&b.sub(a)).is_some_and(|(least, _)| least >= 0)
    }

    /// Whether the expression is never negative.
    pub(super) fn is_natural(&self, dim: &Dim) -> bool {
        self.of(dim).is_some_and(|(least, _)| least >= 0)
    }

    /// Whether every value of the expression is a value of `dtype`, an integer or `f32`.
    fn fits(&self, dim: &Dim, dtype: DType) -> bool {
        let (least, greatest) = match (dtype, dtype.is_signed_int()) {
            // Beyond 2^24 not every whole number has an f32; sizes there are not refused, as they round as floats do.
            (DType::F32, _) => (i64::MIN, i64::MAX),
            (_, true) => (
                -1 << (dtype.bits() - 1).min(62),
                (1 << (dtype.bits() - 1).min(62)) - 1,
            ),
            (_, false) => (0, (1 << dtype.bits().min(62)) - 1),
        };
        // Sizes of any kind fit 32 bits: no tensor of Core ML is longer.
        if dtype == DType::I32 {
            return dim
                .integer()
                .is_none_or(|n| (least..=greatest).contains(&n));
        }
        self.of(dim)
            .is_some_and(|(a, b)| least <= a && b <= greatest)
    }

    fn is_negative(&self, dim: &Dim) -> bool {
        self.of(dim).is_some_and(|(_, greatest)| greatest < 0)
    }

    /// The smaller one, as a plain expression where the sizes allow it.
    pub(super) fn smaller(&self, a: &Dim, b: &Dim) -> Dim {
        if self.at_most(a, b) {
            a.clone()
        } else if self.at_most(b, a) {
            b.clone()
        } else {
            a.smaller(b)
        }
    }

    /// The larger one, as a plain expression where the sizes allow it.
    pub(super) fn larger(&self, a: &Dim, b: &Dim) -> Dim {
        if self.at_most(a, b) {
            b.clone()
        } else if self.at_most(b, a) {
            a.clone()
        } else {
            a.larger(b)
        }
    }

    /// A position of a slice on an axis: negative ones count from the end, then it is clamped to the axis. `None` when its sign is not known.
    fn position(&self, at: &Dim, size: &Dim) -> Option<Dim> {
        if self.is_natural(at) {
            Some(self.smaller(at, size))
        } else if self.is_negative(at) {
            Some(self.larger(&at.add(size), &Dim::from(0)))
        } else {
            None
        }
    }

    /// First index and one past the last of a slice with a positive step. An absent end is the end of the axis.
    pub(super) fn range(
        &self,
        begin: Option<&Dim>,
        end: Option<&Dim>,
        size: &Dim,
    ) -> Option<(Dim, Dim)> {
        let start = begin.map_or_else(|| Some(Dim::from(0)), |at| self.position(at, size))?;
        let end = end.map_or_else(|| Some(size.clone()), |at| self.position(at, size))?;
        Some((start.clone(), self.larger(&start, &end)))
    }
}

/// The result of an operation on whole numbers that are all known from shapes; `None` when it is to be read as an ordinary operation.
pub(super) fn evaluate(call: &Call, bounds: &Bounds) -> Result<Option<Dims>> {
    // What may not fit its element type is left to the ordinary operation, which wraps or rounds it.
    Ok(whole(call, bounds)?.filter(|d| d.values.iter().all(|v| bounds.fits(v, d.dtype))))
}

fn whole(call: &Call, bounds: &Bounds) -> Result<Option<Dims>> {
    let dims = |parameter: &str| match call.peek(parameter) {
        Some(entry) => entry.dims(),
        None => Ok(None),
    };
    let two = |f: &dyn Fn(&Dim, &Dim) -> Option<Dim>| -> Result<Option<Dims>> {
        Ok(match (dims("x")?, dims("y")?) {
            (Some(x), Some(y)) => elementwise(&x, &y, f),
            (Some(_) | None, _) => None,
        })
    };
    match call.op.as_str() {
        "add" => two(&|a, b| Some(a.add(b))),
        "sub" => two(&|a, b| Some(a.sub(b))),
        "mul" => two(&|a, b| Some(a.mul(b))),
        "maximum" => two(&|a, b| Some(bounds.larger(a, b))),
        "minimum" => two(&|a, b| Some(bounds.smaller(a, b))),
        "floor_div" => two(&|a, b| a.floor_div(b)),
        "mod" => two(&|a, b| Some(a.sub(&a.floor_div(b)?.mul(b)))),
        // Only where it leaves no fraction.
        "real_div" => two(&|a, b| a.floor_div(b).filter(|q| q.mul(b) == *a)),
        "identity" => dims("x"),
        "cast" => Ok(dims("x")?.and_then(|d| cast(call, d))),
        "gather" => gather(call, dims("x")?, dims("indices")?),
        "slice_by_index" => slice(call, bounds, dims("x")?),
        "slice_by_size" => {
            let known = |p: &str| -> Result<Option<i64>> {
                Ok(dims(p)?
                    .and_then(|d| d.integers())
                    .and_then(|v| v.first().copied()))
            };
            let (begin, count) = (known("begin")?, known("size")?);
            Ok(dims("x")?.and_then(|x| {
                let begin = usize::try_from(begin?).ok()?;
                let count = match count? {
                    -1 => x.values.len().checked_sub(begin)?,
                    n => usize::try_from(n).ok()?,
                };
                let part = x.values.get(begin..begin.checked_add(count)?)?;
                Some(Dims::vector(x.dtype, part.to_vec()))
            }))
        }
        "concat" => {
            let interleaved = call.peek("interleave").is_some_and(|e| !is_false(e));
            Ok(join(call, &[0, 1])?.filter(|_| !interleaved))
        }
        "stack" => join(call, &[0]),
        "expand_dims" => Ok(dims("x")?.filter(|d| d.shape.is_empty()).and_then(|d| {
            let axes = call.peek("axes")?.dims().ok()??.integers()?;
            matches!(axes.as_slice(), [0 | -1]).then(|| Dims::vector(d.dtype, d.values))
        })),
        "squeeze" => Ok(dims("x")?.filter(|d| d.shape == [1]).map(|d| Dims {
            shape: Vec::new(),
            ..d
        })),
        "reshape" => Ok(dims("x")?.and_then(|d| {
            let to = call.peek("shape")?.dims().ok()??.integers()?;
            let n = num::i64_of(d.values.len());
            match to.as_slice() {
                [] if n == 1 => Some(Dims {
                    shape: Vec::new(),
                    ..d
                }),
                [m] if *m == n || *m == -1 => Some(Dims::vector(d.dtype, d.values)),
                _ => None,
            }
        })),
        "reduce_prod" => Ok(fold(call, dims("x")?, Dim::from(1), |a, b| a.mul(b))),
        "reduce_sum" => Ok(fold(call, dims("x")?, Dim::from(0), |a, b| a.add(b))),
        _ => Ok(None),
    }
}

fn is_false(entry: &Entry) -> bool {
    match entry {
        Entry::Constant { constant } => constant
            .read()
            .is_ok_and(|t| t.bools().is_ok_and(|b| b.iter().all(|b| !b))),
        Entry::Value { .. }
        | Entry::Dims(_)
        | Entry::Text { .. }
        | Entry::List(_)
        | Entry::State { .. } => false,
    }
}

fn elementwise(x: &Dims, y: &Dims, f: &dyn Fn(&Dim, &Dim) -> Option<Dim>) -> Option<Dims> {
    let n = match (x.values.len(), y.values.len()) {
        (a, b) if a == b => a,
        (a, 1) => a,
        (1, b) => b,
        _ => return None,
    };
    let at = |d: &Dims, i: usize| d.values[if d.values.len() == 1 { 0 } else { i }].clone();
    let values: Option<Vec<Dim>> = (0..n).map(|i| f(&at(x, i), &at(y, i))).collect();
    let scalar = x.shape.is_empty() && y.shape.is_empty();
    Some(Dims {
        dtype: x.dtype,
        shape: if scalar { Vec::new() } else { vec![n] },
        values: values?,
    })
}

fn cast(call: &Call, dims: Dims) -> Option<Dims> {
    let Some(Entry::Text { values, .. }) = call.peek("dtype") else {
        return None;
    };
    let to = from_name(values.first()?)?;
    // Between numbers that hold sizes exactly.
    let number = to.is_int() || to == DType::F32;
    number.then_some(Dims { dtype: to, ..dims })
}

fn gather(call: &Call, x: Option<Dims>, indices: Option<Dims>) -> Result<Option<Dims>> {
    let zero = |parameter: &str| -> Result<bool> {
        match call.peek(parameter) {
            None => Ok(true),
            Some(entry) => Ok(entry.dims()?.and_then(|d| d.integers()) == Some(vec![0])),
        }
    };
    let (Some(x), Some(indices)) = (x, indices) else {
        return Ok(None);
    };
    if x.shape.len() != 1 || !zero("axis")? || !zero("batch_dims")? {
        return Ok(None);
    }
    let picked: Option<Vec<Dim>> = indices.integers().and_then(|list| {
        list.into_iter()
            .map(|i| {
                let at = normalize_axis(i, x.values.len()).ok()?;
                Some(x.values[at].clone())
            })
            .collect()
    });
    Ok(picked.map(|values| Dims {
        dtype: x.dtype,
        shape: indices.shape,
        values,
    }))
}

fn slice(call: &Call, bounds: &Bounds, x: Option<Dims>) -> Result<Option<Dims>> {
    let Some(x) = x.filter(|x| x.shape.len() == 1) else {
        return Ok(None);
    };
    let mut call = call.clone();
    let bound = |p: &str| Ok::<_, Error>(call.peek(p).map(Entry::dims).transpose()?.flatten());
    let (Some(begin), Some(end)) = (bound("begin")?, bound("end")?) else {
        return Ok(None);
    };
    let mask = |call: &mut Call, p: &str| -> Result<bool> {
        Ok(call
            .bools(p)?
            .and_then(|b| b.first().copied())
            .unwrap_or(false))
    };
    let skip_begin = mask(&mut call, "begin_mask")?;
    let skip_end = mask(&mut call, "end_mask")?;
    let squeeze = mask(&mut call, "squeeze_mask")?;
    let stride = call.int("stride")?.unwrap_or(1);
    let size = Dim::from(x.values.len());
    let begin = begin.values.first().filter(|_| !skip_begin);
    if squeeze {
        let zero = Dim::from(0);
        let at = begin.unwrap_or(&zero).integer();
        let value = at
            .and_then(|at| normalize_axis(at, x.values.len()).ok())
            .and_then(|at| x.values.get(at));
        return Ok(value.map(|v| Dims::scalar(x.dtype, v.clone())));
    }
    let end = end.values.first().filter(|_| !skip_end);
    let (Some((start, end)), Ok(step)) = (bounds.range(begin, end, &size), usize::try_from(stride))
    else {
        return Ok(None);
    };
    let (Some(start), Some(end), true) = (start.known(), end.known(), step > 0) else {
        return Ok(None);
    };
    let part = x.values.get(start..end).unwrap_or_default();
    let values = part.iter().step_by(step).cloned().collect();
    Ok(Some(Dims::vector(x.dtype, values)))
}

/// The joined values of parameters that are all of one of these ranks, along axis 0. `concat` takes scalars for vectors of one.
fn join(call: &Call, ranks: &[usize]) -> Result<Option<Dims>> {
    let axis = match call.peek("axis") {
        Some(entry) => entry.dims()?.and_then(|d| d.integers()),
        None => None,
    };
    if !matches!(axis.as_deref(), Some([0 | -1])) {
        return Ok(None);
    }
    let mut joined: Option<Dims> = None;
    for entry in call.peek_list("values") {
        let Some(dims) = entry.dims()?.filter(|d| ranks.contains(&d.shape.len())) else {
            return Ok(None);
        };
        match &mut joined {
            None => joined = Some(Dims::vector(dims.dtype, dims.values)),
            Some(all) if all.dtype == dims.dtype => {
                all.values.extend(dims.values);
                all.shape = vec![all.values.len()];
            }
            Some(_) => return Ok(None),
        }
    }
    Ok(joined)
}

fn fold(call: &Call, x: Option<Dims>, first: Dim, f: impl Fn(&Dim, &Dim) -> Dim) -> Option<Dims> {
    let x = x.filter(|x| x.shape.len() == 1)?;
    let keep = call.peek("keep_dims").is_some_and(|e| !is_false(e));
    if let Some(axes) = call.peek("axes") {
        let axes = axes.dims().ok()??.integers()?;
        if !matches!(axes.as_slice(), [0 | -1]) {
            return None;
        }
    }
    let value = x.values.iter().fold(first, |a, b| f(&a, b));
    Some(if keep {
        Dims::vector(x.dtype, vec![value])
    } else {
        Dims::scalar(x.dtype, value)
    })
}
