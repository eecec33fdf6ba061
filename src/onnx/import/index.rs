//! Operators that move data as values say. Indices may count from the end.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{
    CompareKind, GatherNd, NonMaxSuppression, NonZero, ScatterElements, ScatterMode, ScatterNd,
};
use crate::ir::{Def, Dim, Op, ValueId, normalize_axis};
use crate::limits;
use crate::tensor::{DType, Storage, Tensor, num};

pub(super) const ROWS: &[Row] = &[
    row("Gather", 1, gather),
    row("GatherElements", 11, gather_elements),
    row("GatherND", 11, gather_nd),
    row("ScatterElements", 11, scatter_elements),
    row("Scatter", 9, scatter_elements),
    row("ScatterND", 11, scatter_nd),
    row("TensorScatter", 24, tensor_scatter),
    row("NonZero", 9, non_zero),
    row("Compress", 9, compress),
    row("Unique", 11, unique),
    row("ReverseSequence", 10, reverse_sequence),
    row("NonMaxSuppression", 10, non_max_suppression),
    Row {
        domain: "ai.onnx.ml",
        op: "ArrayFeatureExtractor",
        since: 1,
        read: array_features,
    },
    Row {
        domain: "ai.onnx.ml",
        op: "Binarizer",
        since: 1,
        read: binarizer,
    },
];

fn gather(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let entry = call.required(0)?;
    let (data, code) = match entry {
        Entry::Coded(x, code) => (x, Some(code)),
        Entry::Value(_) | Entry::Dims(_) => (m.input(call, 0)?, None),
    };
    let indices = m.input(call, 1)?;
    let shape = m.b.shape(data);
    let axis = normalize_axis(call.int_or("axis", 0)?, shape.len())?;
    // A table of weights looked up by an input: token ids. They are held to the table's range instead.
    let lookup = m.b.as_constant(data).is_some() && axis == 0 && from_param(m, indices);
    let indices = if lookup {
        indices
    } else {
        wrapped(m, indices, &shape[axis])?
    };
    let y = m.b.gather(data, indices, axis)?;
    Ok(vec![match code {
        Some(code) => Entry::Coded(y, code),
        None => Entry::Value(y),
    }])
}

/// Whether a value is a parameter, or one that was only cast or reshaped.
fn from_param(m: &Importer<'_>, value: ValueId) -> bool {
    let mut at = value;
    loop {
        match m.b.def(at) {
            Def::Param(_) => return true,
            Def::Const(_) => return false,
            Def::Node(_) => match m.b.producer(at) {
                Some(node)
                    if matches!(
                        node.op,
                        Op::Cast(_) | Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_)
                    ) =>
                {
                    at = node.operands[0];
                }
                Some(_) | None => return false,
            },
        }
    }
}

/// Indices that may count from the end as ones that do not.
pub(super) fn wrapped(m: &mut Importer<'_>, indices: ValueId, size: &Dim) -> Result<ValueId> {
    if let Some(constant) = m.b.as_constant(indices) {
        let tensor = constant.read()?;
        if let Storage::Int(values) = tensor.storage() {
            if values.iter().all(|&i| i >= 0) {
                return Ok(indices);
            }
            if let Some(n) = size.integer() {
                let values = values.iter().map(|&i| if i < 0 { i + n } else { i });
                let fixed = Tensor::int(tensor.dtype(), tensor.shape().to_vec(), values.collect())?;
                return m.b.tensor("indices", &fixed);
            }
        }
    }
    if !m.b.dtype(indices).is_signed_int() || never_negative(m, indices) {
        return Ok(indices);
    }
    let negative = m.b.cmp_n(CompareKind::Less, indices, 0.0)?;
    let size = super::entry::Dims::scalar(m.b.dtype(indices), size.clone());
    let size = m.dims_value(&size, "size")?;
    let from_end = m.b.add(indices, size)?;
    m.b.select(negative, from_end, indices)
}

/// Whether a value counts up from 0 by its making.
fn never_negative(m: &Importer<'_>, value: ValueId) -> bool {
    m.b.producer(value)
        .is_some_and(|node| matches!(node.op, Op::Iota(_)))
}

fn gather_elements(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (data, indices) = (m.input(call, 0)?, m.input(call, 1)?);
    let shape = m.b.shape(data);
    let axis = normalize_axis(call.int_or("axis", 0)?, shape.len())?;
    let indices = wrapped(m, indices, &shape[axis])?;
    // Other axes may be shorter in the indices.
    let wanted = m.b.shape(indices);
    if wanted.len() != shape.len() {
        return Err(call
            .wrong("indices", &format!("rank {}", shape.len()), wanted.len())
            .into());
    }
    let mut data = data;
    for (i, (d, n)) in shape.iter().zip(&wanted).enumerate() {
        if i != axis && d != n {
            data = m.b.part(data, i, 0, n.clone())?;
        }
    }
    one(m.b.gather_elements(data, indices, axis)?)
}

/// Index vectors whose components may count from the end as ones that do not.
fn wrapped_vectors(m: &mut Importer<'_>, indices: ValueId, sizes: &[Dim]) -> Result<ValueId> {
    let columns = sizes.len();
    let constant = match m.b.as_constant(indices) {
        Some(constant) => Some(constant.read()?),
        None => None,
    };
    if let Some(tensor) = constant
        && let Storage::Int(values) = tensor.storage()
    {
        if values.iter().all(|&i| i >= 0) {
            return Ok(indices);
        }
        let known: Option<Vec<i64>> = sizes.iter().map(Dim::integer).collect();
        if let Some(known) = known {
            let values = values.iter().zip(known.iter().cycle());
            let values = values.map(|(&i, &n)| if i < 0 { i + n } else { i });
            let fixed = Tensor::int(tensor.dtype(), tensor.shape().to_vec(), values.collect())?;
            return m.b.tensor("indices", &fixed);
        }
    }
    if columns == 0 {
        return Ok(indices);
    }
    let dtype = m.b.dtype(indices);
    let sizes = super::entry::Dims::vector(dtype, sizes.to_vec());
    let sizes = m.dims_value(&sizes, "sizes")?;
    let negative = m.b.cmp_n(CompareKind::Less, indices, 0.0)?;
    let from_end = m.b.add(indices, sizes)?;
    m.b.select(negative, from_end, indices)
}

/// The number of components of index vectors.
fn depth(m: &Importer<'_>, call: &Call<'_>, indices: ValueId) -> Result<usize> {
    let shape = m.b.shape(indices);
    match shape.last().and_then(Dim::known) {
        Some(n) if n <= limits::RANK.count() => Ok(n),
        Some(_) | None => Err(call.wrong("indices", "vectors", m.b.ty(indices)).into()),
    }
}

fn gather_nd(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (data, indices) = (m.input(call, 0)?, m.input(call, 1)?);
    let batch = call.int_or("batch_dims", 0)?;
    let shape = m.b.shape(data);
    let depth = depth(m, call, indices)?;
    let batch_dims = usize::try_from(batch)
        .ok()
        .filter(|&b| b + depth <= shape.len())
        .ok_or_else(|| call.wrong("batch_dims", "axes of the data", batch))?;
    let sizes = &shape[batch_dims..batch_dims + depth];
    let indices = wrapped_vectors(m, indices, sizes)?;
    one(m
        .b
        .node(Op::GatherNd(GatherNd { batch_dims }), &[data, indices])?)
}

fn mode(call: &mut Call<'_>) -> Result<ScatterMode> {
    Ok(match call.string_or("reduction", "none")?.as_str() {
        "none" => ScatterMode::Update,
        "add" => ScatterMode::Add,
        "mul" => ScatterMode::Mul,
        "min" => ScatterMode::Min,
        "max" => ScatterMode::Max,
        other => {
            return Err(call
                .wrong("reduction", "none, add, mul, min or max", other)
                .into());
        }
    })
}

fn scatter_elements(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (data, indices) = (m.input(call, 0)?, m.input(call, 1)?);
    let updates = m.input(call, 2)?;
    let shape = m.b.shape(data);
    let axis = normalize_axis(call.int_or("axis", 0)?, shape.len())?;
    let mode = mode(call)?;
    let indices = wrapped(m, indices, &shape[axis])?;
    let op = Op::ScatterElements(ScatterElements { axis, mode });
    one(m.b.node(op, &[data, indices, updates])?)
}

fn scatter_nd(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (data, indices) = (m.input(call, 0)?, m.input(call, 1)?);
    let updates = m.input(call, 2)?;
    let mode = mode(call)?;
    let shape = m.b.shape(data);
    let depth = depth(m, call, indices)?;
    let sizes = shape
        .get(..depth)
        .ok_or_else(|| call.wrong("indices", "vectors of at most the rank", depth))?;
    let indices = wrapped_vectors(m, indices, sizes)?;
    let op = Op::ScatterNd(ScatterNd { mode });
    one(m.b.node(op, &[data, indices, updates])?)
}

/// Writes an update into a cache, from each row's own position on: an update of elements by position.
fn tensor_scatter(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (past, update) = (m.input(call, 0)?, m.input(call, 1)?);
    let start = m.optional(call, 2)?;
    let shape = m.b.shape(past);
    let axis = normalize_axis(call.int_or("axis", -2)?, shape.len())?;
    let circular = match call.string_or("mode", "linear")?.as_str() {
        "linear" => false,
        "circular" => true,
        other => return Err(call.wrong("mode", "linear or circular", other).into()),
    };
    if axis == 0 {
        return Err(call.wrong("axis", "not the batch", 0).into());
    }
    m.expect_rank(call, "update", update, shape.len()..=shape.len())?;
    let wanted = m.b.shape(update);
    let count = m.b.iota(DType::I64, wanted[axis].clone())?;
    let after: Vec<usize> = (1..shape.len() - axis).collect();
    let mut places = m.b.unsqueeze(count, &after)?;
    if let Some(start) = start {
        let start = m.b.to(start, DType::I64)?;
        let rest: Vec<usize> = (1..shape.len()).collect();
        let start = m.b.unsqueeze(start, &rest)?;
        places = m.b.add(places, start)?;
    }
    if circular {
        let size = super::entry::Dims::scalar(DType::I64, shape[axis].clone());
        let size = m.dims_value(&size, "size")?;
        places = m.b.bin(crate::ir::ops::BinaryKind::Mod, places, size)?;
    }
    let places = m.b.expand(places, wanted)?;
    let op = Op::ScatterElements(ScatterElements {
        axis,
        mode: ScatterMode::Update,
    });
    one(m.b.node(op, &[past, places, update])?)
}

fn non_zero(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let count = m.b.run_time_size();
    let op = NonZero {
        dtype: DType::I64,
        count,
    };
    one(m.b.node(Op::NonZero(op), &[x])?)
}

/// The different elements of a constant, or its different slices along an axis; where each is first; which each element is; how often it is there.
fn unique(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let axis = call.int("axis")?;
    let sorted = call.flag("sorted", true)?;
    let constant = m.b.as_constant(x).map(|c| c.read()).transpose()?;
    let Some(tensor) = constant else {
        return Err(m.not_constant(call, 0, &Entry::Value(x)).into());
    };
    let shape = tensor.shape().to_vec();
    let axis = axis.map(|a| normalize_axis(a, shape.len())).transpose()?;
    let (outer, size, inner) = match axis {
        Some(axis) => (
            shape[..axis].iter().product::<usize>(),
            shape[axis],
            shape[axis + 1..].iter().product::<usize>(),
        ),
        None => (1, tensor.len(), 1),
    };
    let values = tensor.to_f64();
    let slices: Vec<Vec<f64>> = (0..size)
        .map(|i| {
            (0..outer)
                .flat_map(|o| (0..inner).map(move |k| (o * size + i) * inner + k))
                .map(|at| values[at])
                .collect()
        })
        .collect();
    let order = |a: &Vec<f64>, b: &Vec<f64>| {
        let pairs = a.iter().zip(b);
        let different = pairs.map(|(a, b)| a.total_cmp(b)).find(|o| o.is_ne());
        different.unwrap_or(std::cmp::Ordering::Equal)
    };
    // A stable order: of equals, the first comes first.
    let mut ranked: Vec<usize> = (0..size).collect();
    ranked.sort_by(|&a, &b| order(&slices[a], &slices[b]));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for at in ranked {
        match groups.last_mut() {
            Some(group) if order(&slices[group[0]], &slices[at]).is_eq() => group.push(at),
            Some(_) | None => groups.push(vec![at]),
        }
    }
    if !sorted {
        groups.sort_by_key(|group| group[0]);
    }
    let mut inverse = vec![0; size];
    for (number, group) in groups.iter().enumerate() {
        for &at in group {
            inverse[at] = num::i64_of(number);
        }
    }
    let firsts: Vec<i64> = groups.iter().map(|g| num::i64_of(g[0])).collect();
    let counts: Vec<i64> = groups.iter().map(|g| num::i64_of(g.len())).collect();
    let (x, axis) = match axis {
        Some(axis) => (x, axis),
        None => (m.b.reshape(x, vec![size.into()])?, 0),
    };
    let indices = m.b.longs(&firsts)?;
    let y = m.b.gather(x, indices, axis)?;
    let (inverse, counts) = (m.b.longs(&inverse)?, m.b.longs(&counts)?);
    Ok([y, indices, inverse, counts].map(Entry::Value).to_vec())
}

fn compress(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let axis = call.int("axis")?;
    let (x, axis) = match axis {
        Some(axis) => (x, normalize_axis(axis, m.b.rank(x))?),
        None => {
            let size = m.b.shape(x).iter().fold(Dim::from(1), |n, d| n.mul(d));
            (m.b.reshape(x, vec![size])?, 0)
        }
    };
    let condition = m.input(call, 1)?;
    let indices = match m.b.as_constant(condition) {
        Some(constant) => {
            let tensor = constant.read()?;
            let picked: Vec<i64> = tensor
                .to_f64()
                .iter()
                .enumerate()
                .filter(|(_, c)| **c != 0.0)
                .map(|(i, _)| num::i64_of(i))
                .collect();
            m.b.longs(&picked)?
        }
        None => {
            let count = m.b.run_time_size();
            let op = NonZero {
                dtype: DType::I64,
                count: count.clone(),
            };
            let places = m.b.node(Op::NonZero(op), &[condition])?;
            m.b.reshape(places, vec![count])?
        }
    };
    one(m.b.gather(x, indices, axis)?)
}

/// Along time, the first `length` elements of each row backwards: `t → length − 1 − t` below the length, `t` from there on.
fn reverse_sequence(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, lengths) = (m.input(call, 0)?, m.input(call, 1)?);
    let shape = m.b.shape(x);
    let time = normalize_axis(call.int_or("time_axis", 0)?, shape.len())?;
    let batch = normalize_axis(call.int_or("batch_axis", 1)?, shape.len())?;
    if time == batch {
        return Err(call
            .wrong("time_axis", "another axis than the batch", time)
            .into());
    }
    let along = |m: &mut Importer<'_>, v: ValueId, axis: usize| {
        let axes: Vec<usize> = (0..shape.len()).filter(|&a| a != axis).collect();
        m.b.unsqueeze(v, &axes)
    };
    let lengths = m.b.to(lengths, DType::I64)?;
    let lengths = along(m, lengths, batch)?;
    let t = m.b.iota(DType::I64, shape[time].clone())?;
    let t = along(m, t, time)?;
    let inside = m.b.cmp(CompareKind::Less, t, lengths)?;
    let mirrored = m.b.sub(lengths, t)?;
    let mirrored = m.b.add_n(mirrored, -1.0)?;
    let places = m.b.select(inside, mirrored, t)?;
    let places = m.b.expand(places, shape.clone())?;
    one(m.b.gather_elements(x, places, time)?)
}

fn non_max_suppression(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (boxes, scores) = (m.input(call, 0)?, m.input(call, 1)?);
    let center = call.flag("center_point_box", false)?;
    let most = match m.optional(call, 2)? {
        Some(most) => most,
        None => m.b.scalar("most", DType::I64, 0.0)?,
    };
    let overlap = match m.optional(call, 3)? {
        Some(overlap) => overlap,
        None => m.b.scalar("overlap", DType::F32, 0.0)?,
    };
    let least = match m.optional(call, 4)? {
        Some(least) => least,
        None => m.b.scalar("least", DType::F32, f64::from(f32::MIN))?,
    };
    let count = m.b.run_time_size();
    let op = NonMaxSuppression {
        dtype: DType::I64,
        center,
        count,
    };
    one(m.b.node(
        Op::NonMaxSuppression(op),
        &[boxes, scores, most, overlap, least],
    )?)
}

/// Elements of the last axis; a vector counts as one row.
fn array_features(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, indices) = (m.input(call, 0)?, m.input(call, 1)?);
    m.expect_rank(call, "X", x, 1..=usize::MAX)?;
    let x = if m.b.rank(x) == 1 {
        m.b.unsqueeze(x, &[0])?
    } else {
        x
    };
    let count =
        m.b.shape(indices)
            .iter()
            .fold(Dim::from(1), |n, d| n.mul(d));
    let indices = m.b.reshape(indices, vec![count])?;
    let axis = m.b.rank(x) - 1;
    one(m.b.gather(x, indices, axis)?)
}

fn binarizer(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let threshold = f64::from(call.float_or("threshold", 0.0)?);
    let above = m.b.cmp_n(CompareKind::Greater, x, threshold)?;
    one(m.b.to(above, m.b.dtype(x))?)
}
