//! Shapes, positions and counts that only the run tells: the operators that take them, with as much of the result's shape as is known.

use super::call::Call;
use super::entry::{Dims, Entry};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, CompareKind, ExpandTo, PadBy, PadMode, RangeBy, ReshapeTo, SliceBy, TileBy,
};
use crate::ir::{Dim, Op, Shape, ValueId, broadcast};
use crate::limits;
use crate::tensor::{DType, num};

/// How many values back the elements of a vector are looked for.
const STEPS: usize = 64;

/// Numbers that an operator takes.
pub(super) enum Numbers {
    /// Constants, or what follows from shapes.
    Known(Dims),
    /// A vector that is computed.
    Computed(Computed),
}

/// A vector that is computed, and what is known of its elements all the same.
pub(super) struct Computed {
    pub(super) value: ValueId,
    pub(super) elements: Vec<Option<Dim>>,
}

impl Numbers {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        match self {
            Numbers::Known(dims) => dims.values.len(),
            Numbers::Computed(computed) => computed.elements.len(),
        }
    }
}

impl Importer<'_> {
    /// The numbers of an input, if it is there. Their count has to be known.
    pub(super) fn numbers(&mut self, call: &mut Call<'_>, index: usize) -> Result<Option<Numbers>> {
        let Some(entry) = call.entry(index) else {
            return Ok(None);
        };
        if let Some(dims) = self.dims(&entry)? {
            return Ok(Some(Numbers::Known(dims)));
        }
        let Entry::Value(value) = entry else {
            return Err(self.not_constant(call, index, &entry).into());
        };
        let ty = self.b.ty(value).clone();
        let count = match ty.shape.as_slice() {
            [n] if ty.dtype.is_int() => n.known(),
            _ => None,
        };
        if count.is_none_or(|n| n > 2 * limits::RANK.count()) {
            return Err(self.not_constant(call, index, &entry).into());
        }
        let elements = self.elements(value, STEPS);
        Ok(Some(Numbers::Computed(Computed { value, elements })))
    }

    /// What is known of each element of a vector: those that it was joined from may be constants or sizes.
    fn elements(&self, value: ValueId, steps: usize) -> Vec<Option<Dim>> {
        let count = self.b.shape(value).iter().try_fold(1usize, |n, d| {
            n.checked_mul(d.known()?)
                .filter(|&n| n <= 2 * limits::RANK.count())
        });
        let unknown = vec![None; count.unwrap_or(0)];
        if let Ok(Some(dims)) = self.dims(&Entry::Value(value)) {
            return dims.values.into_iter().map(Some).collect();
        }
        let (Some(node), Some(steps)) = (self.b.producer(value), steps.checked_sub(1)) else {
            return unknown;
        };
        let found = match (&node.op, node.operands.as_slice()) {
            (Op::Size(size), _) => vec![Some(size.dim.clone())],
            (Op::Concat(_), parts) if self.b.rank(value) == 1 => parts
                .iter()
                .flat_map(|&p| self.elements(p, steps))
                .collect(),
            (Op::Cast(_), &[x]) if self.b.dtype(x).is_int() => self.elements(x, steps),
            (Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_), &[x]) => self.elements(x, steps),
            _ => unknown.clone(),
        };
        if found.len() == unknown.len() {
            found
        } else {
            unknown
        }
    }

    /// Numbers as a vector of the function.
    pub(super) fn vector(&mut self, numbers: &Numbers) -> Result<ValueId> {
        match numbers {
            Numbers::Known(dims) => {
                let dims = Dims::vector(DType::I64, dims.values.clone());
                self.dims_value(&dims, "")
            }
            Numbers::Computed(computed) => self.b.to(computed.value, DType::I64),
        }
    }

    /// One number of a vector, as a vector.
    fn element(&mut self, vector: ValueId, i: usize) -> Result<ValueId> {
        self.b.part(vector, 0, i, i + 1)
    }
}

/// The same elements in a shape that is computed. Where all of it but one size is known, that one follows.
pub(super) fn reshape(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    x: ValueId,
    target: &Computed,
    allow_zero: bool,
) -> Result<ValueId> {
    let from = m.b.shape(x);
    rank(call, "shape", target.elements.len())?;
    let mut shape = Vec::with_capacity(target.elements.len());
    for (i, element) in target.elements.iter().enumerate() {
        let known = match element.as_ref().map(|d| (d, d.integer())) {
            Some((_, Some(0))) if !allow_zero => from.get(i).cloned(),
            Some((_, Some(-1))) | None => None,
            Some((dim, _)) if m.bounds.is_natural(dim) => Some(dim.clone()),
            Some((dim, _)) => return Err(call.wrong("shape", "sizes of 0 or more", dim).into()),
        };
        shape.push(known);
    }
    let size = |dims: &mut dyn Iterator<Item = &Dim>| dims.fold(Dim::from(1), |n, d| n.mul(d));
    let total = size(&mut from.iter());
    let rest = size(&mut shape.iter().flatten());
    let open = shape.iter().filter(|d| d.is_none()).count();
    let nonzero = m.bounds.below(&Dim::from(0), &rest);
    if open <= 1
        && nonzero
        && let Some(last) = total.floor_div(&rest).filter(|q| q.mul(&rest) == total)
    {
        let shape: Shape = shape
            .into_iter()
            .map(|d| d.unwrap_or_else(|| last.clone()))
            .collect();
        return m.b.reshape(x, shape);
    }
    let shape = open_sizes(m, shape);
    let mut wanted = m.b.to(target.value, DType::I64)?;
    let mut zero_copies = !allow_zero;
    if zero_copies && shape.len() != from.len() {
        // Not every target knows zeros that copy where the rank changes.
        let own = (0..shape.len()).map(|i| from.get(i).cloned().unwrap_or_default());
        let own = m.dims_value(&Dims::vector(DType::I64, own.collect()), "")?;
        let copies = m.b.cmp_n(CompareKind::Equal, wanted, 0.0)?;
        wanted = m.b.select(copies, own, wanted)?;
        zero_copies = false;
    }
    let op = ReshapeTo { shape, zero_copies };
    m.b.node(Op::ReshapeTo(op), &[x, wanted])
}

/// The same elements in this shape. Where that they are as many depends on sizes, such as the multiples of a window's or those that only the run tells, the
/// run checks it.
pub(super) fn same_elements(m: &mut Importer<'_>, x: ValueId, shape: Shape) -> Result<ValueId> {
    let size = |dims: &[Dim]| dims.iter().fold(Dim::from(1), |n, d| n.mul(d));
    let (from, to) = (size(&m.b.shape(x)), size(&shape));
    if from == to || !from.may_equal(&to) {
        return m.b.reshape(x, shape);
    }
    let wanted = m.dims_value(&Dims::vector(DType::I64, shape.clone()), "")?;
    let op = ReshapeTo {
        shape,
        zero_copies: false,
    };
    m.b.node(Op::ReshapeTo(op), &[x, wanted])
}

fn rank(call: &Call<'_>, what: &str, rank: usize) -> Result<()> {
    if rank > limits::RANK.count() {
        return Err(call.wrong(what, "a sensible rank", rank).into());
    }
    Ok(())
}

/// What is not known becomes a size of the run.
fn open_sizes(m: &mut Importer<'_>, shape: Vec<Option<Dim>>) -> Shape {
    shape
        .into_iter()
        .map(|d| d.unwrap_or_else(|| m.b.run_time_size()))
        .collect()
}

/// A broadcast with a shape that is computed. An axis of more than one element keeps its size.
pub(super) fn expand(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    x: ValueId,
    target: &Computed,
) -> Result<ValueId> {
    let from = m.b.shape(x);
    let wide = from.len().max(target.elements.len());
    rank(call, "shape", wide)?;
    let mut shape = Vec::with_capacity(wide);
    for i in 0..wide {
        let own = (i + from.len()).checked_sub(wide).map(|i| from[i].clone());
        let wanted = match (i + target.elements.len()).checked_sub(wide) {
            Some(i) => target.elements[i].clone(),
            None => Some(Dim::from(1)),
        };
        let own = own.unwrap_or_else(|| Dim::from(1));
        let known = match wanted {
            Some(wanted) if m.bounds.is_natural(&wanted) => {
                broadcast("expand", &[own], &[wanted])?.into_iter().next()
            }
            Some(wanted) => {
                return Err(call.wrong("shape", "sizes of 0 or more", wanted).into());
            }
            None => Some(own).filter(|own| m.bounds.below(&Dim::from(1), own)),
        };
        shape.push(known);
    }
    let shape = open_sizes(m, shape);
    let target = m.b.to(target.value, DType::I64)?;
    m.b.node(Op::ExpandTo(ExpandTo { shape }), &[x, target])
}

/// A part whose places are computed.
pub(super) fn slice(
    m: &mut Importer<'_>,
    x: ValueId,
    (starts, ends): (&Numbers, &Numbers),
    axes: Vec<usize>,
    steps: Vec<i64>,
) -> Result<ValueId> {
    let mut shape = m.b.shape(x);
    for &axis in &axes {
        shape[axis] = m.b.run_time_size();
    }
    let (starts, ends) = (m.vector(starts)?, m.vector(ends)?);
    let op = SliceBy { axes, steps, shape };
    m.b.node(Op::SliceBy(op), &[x, starts, ends])
}

/// Parts along an axis whose sizes are computed.
pub(super) fn split(
    m: &mut Importer<'_>,
    x: ValueId,
    axis: usize,
    sizes: &Computed,
) -> Result<Vec<Entry>> {
    let all = m.b.to(sizes.value, DType::I64)?;
    let ends = m.b.cumsum(all, 0)?;
    let starts = m.b.sub(ends, all)?;
    let mut out = Vec::with_capacity(sizes.elements.len());
    for (i, size) in sizes.elements.iter().enumerate() {
        let (start, end) = (m.element(starts, i)?, m.element(ends, i)?);
        let mut shape = m.b.shape(x);
        shape[axis] = size.clone().unwrap_or_else(|| m.b.run_time_size());
        let op = SliceBy {
            axes: vec![axis],
            steps: vec![1],
            shape,
        };
        out.push(Entry::Value(m.b.node(Op::SliceBy(op), &[x, start, end])?));
    }
    Ok(out)
}

/// Padding whose widths are computed, those before the named axes first.
pub(super) fn pad(
    m: &mut Importer<'_>,
    x: ValueId,
    pads: &Computed,
    axes: &[usize],
    mode: PadMode,
    value: Option<ValueId>,
) -> Result<ValueId> {
    let mut shape = m.b.shape(x);
    let widths = m.b.to(pads.value, DType::I64)?;
    let rank = shape.len();
    let none = m.b.longs(&[0])?;
    let mut parts = vec![none; 2 * rank];
    for (i, &axis) in axes.iter().enumerate() {
        let ends = [i, axes.len() + i].map(|at| pads.elements.get(at).cloned().flatten());
        shape[axis] = match ends {
            [Some(before), Some(after)] => shape[axis].add(&before).add(&after),
            [_, _] => m.b.run_time_size(),
        };
        parts[axis] = m.element(widths, i)?;
        parts[rank + axis] = m.element(widths, axes.len() + i)?;
    }
    let widths = if axes.iter().copied().eq(0..rank) {
        widths
    } else {
        m.b.join(&parts, 0)?
    };
    let mut operands = vec![x, widths];
    operands.extend(value.filter(|_| mode == PadMode::Constant));
    m.b.node(Op::PadBy(PadBy { mode, shape }), &operands)
}

/// Copies side by side, as many as are computed.
pub(super) fn tile(m: &mut Importer<'_>, x: ValueId, repeats: &Computed) -> Result<ValueId> {
    let from = m.b.shape(x);
    let mut shape = Vec::with_capacity(from.len());
    for (size, count) in from.iter().zip(&repeats.elements) {
        shape.push(count.as_ref().map(|n| size.mul(n)));
    }
    let shape = open_sizes(m, shape);
    let repeats = m.b.to(repeats.value, DType::I64)?;
    m.b.node(Op::TileBy(TileBy { shape }), &[x, repeats])
}

/// Numbers in equal steps, as many as the run tells; `None` where all three are known.
pub(super) fn range(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Option<Vec<Entry>>> {
    let mut computed = false;
    for i in 0..3 {
        let entry = call.required(i)?;
        let known = match &entry {
            Entry::Dims(_) => true,
            Entry::Value(v) => m.b.as_constant(*v).is_some(),
            Entry::Coded(..) => false,
        };
        computed |= !known;
    }
    if !computed {
        return Ok(None);
    }
    let mut operands = Vec::with_capacity(3);
    for i in 0..3 {
        let x = m.input(call, i)?;
        operands.push(m.b.reshape(x, vec![])?);
    }
    let len = m.b.run_time_size();
    one(m.b.node(Op::RangeBy(RangeBy { len }), &operands)?).map(Some)
}

/// `0, 1, … count − 1`, where the count is computed.
pub(super) fn upto(m: &mut Importer<'_>, count: ValueId) -> Result<ValueId> {
    let count = m.b.reshape(count, vec![])?;
    let (zero, step) = (m.b.number(count, 0.0)?, m.b.number(count, 1.0)?);
    let len = m.b.run_time_size();
    m.b.node(Op::RangeBy(RangeBy { len }), &[zero, count, step])
}

/// The opposite of a diagonal's number that is computed, in 32 bits.
pub(super) fn diagonal(m: &mut Importer<'_>, k: ValueId) -> Result<ValueId> {
    let k = m.b.reshape(k, vec![])?;
    let bound = num::f64_of_i64((1 << 31) - 1);
    let (low, high) = (m.b.number(k, -bound)?, m.b.number(k, bound)?);
    let k = m.b.bin(BinaryKind::Max, k, low)?;
    let k = m.b.bin(BinaryKind::Min, k, high)?;
    let k = m.b.to(k, DType::I32)?;
    let zero = m.b.number(k, 0.0)?;
    m.b.sub(zero, k)
}
