//! Operators that add elements around and between those of a tensor.

use super::call::Call;
use super::computed::{self, Numbers};
use super::entry::{Dims, Entry};
use super::table::{Row, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{Pad, PadMode, Tile};
use crate::ir::{Dim, Op, ValueId, normalize_axis};
use crate::tensor::DType;

pub(super) const ROWS: &[Row] = &[
    row("Pad", 2, pad),
    row("Tile", 6, tile),
    row("CenterCropPad", 18, center_crop_pad),
];

fn pad(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let rank = m.b.rank(x);
    let mode = match call.string_or("mode", "constant")?.as_str() {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => {
            return Err(call
                .wrong("mode", "constant, reflect, edge or wrap", other)
                .into());
        }
    };
    let (pads, value, axes) = if call.version < 11 {
        let pads = call.ints("pads")?;
        let dims = |p: Vec<i64>| p.into_iter().map(Dim::constant).collect();
        let pads = pads.map(|p| Numbers::Known(Dims::vector(DType::I64, dims(p))));
        let value = match call.float("value")? {
            Some(v) if v != 0.0 => Some(m.b.number(x, f64::from(v))?),
            Some(_) | None => None,
        };
        (pads, value, None)
    } else {
        let pads = m.numbers(call, 1)?;
        (pads, m.optional(call, 2)?, m.ints(call, 3)?)
    };
    let pads = pads.ok_or_else(|| call.missing("pads"))?;
    let axes = match axes {
        None => (0..rank).collect(),
        Some(axes) => axes
            .into_iter()
            .map(|a| normalize_axis(a, rank))
            .collect::<std::result::Result<Vec<_>, _>>()?,
    };
    if pads.count() != 2 * axes.len() {
        return Err(call
            .wrong("pads", &format!("{} numbers", 2 * axes.len()), pads.count())
            .into());
    }
    let pads = match pads {
        Numbers::Known(pads) => pads.values,
        Numbers::Computed(pads) => {
            return one(computed::pad(m, x, &pads, &axes, mode, value)?);
        }
    };
    let (mut begin, mut end) = (vec![Dim::from(0); rank], vec![Dim::from(0); rank]);
    for (i, &axis) in axes.iter().enumerate() {
        begin[axis] = pads[i].clone();
        end[axis] = pads[axes.len() + i].clone();
    }
    one(padded(m, call, x, mode, begin, end, value)?)
}

/// Padding; negative numbers take elements away.
fn padded(
    m: &mut Importer<'_>,
    call: &Call<'_>,
    x: ValueId,
    mode: PadMode,
    mut begin: Vec<Dim>,
    mut end: Vec<Dim>,
    value: Option<ValueId>,
) -> Result<ValueId> {
    let mut x = x;
    for axis in 0..begin.len() {
        let less = |d: &Dim| d.integer().is_some_and(|n| n < 0);
        let (cut_begin, cut_end) = (less(&begin[axis]), less(&end[axis]));
        for d in [&begin[axis], &end[axis]] {
            let bad = !less(d) && !m.bounds.is_natural(d);
            let large = d.integer().is_some_and(|n| n > 1 << 31);
            if large {
                return Err(call.wrong("pads", "a tensor that fits memory", d).into());
            }
            if bad {
                return Err(call.wrong("pads", "a size whose sign is known", d).into());
            }
        }
        if !cut_begin && !cut_end {
            continue;
        }
        let size = m.b.shape(x)[axis].clone();
        let zero = Dim::from(0);
        let from = if cut_begin {
            zero.sub(&begin[axis])
        } else {
            zero.clone()
        };
        let to = if cut_end {
            size.add(&end[axis])
        } else {
            size.clone()
        };
        if !m.bounds.at_most(&from, &to) {
            return Err(call
                .wrong(
                    "pads",
                    &format!("at most {size} elements taken away"),
                    &begin[axis],
                )
                .into());
        }
        x = m.b.part(x, axis, from, to)?;
        if cut_begin {
            begin[axis] = zero.clone();
        }
        if cut_end {
            end[axis] = zero;
        }
    }
    if begin.iter().chain(&end).all(|d| d.integer() == Some(0)) {
        return Ok(x);
    }
    let mut operands = vec![x];
    if mode == PadMode::Constant
        && let Some(value) = value
    {
        operands.push(value);
    }
    m.b.node(Op::Pad(Pad { mode, begin, end }), &operands)
}

fn tile(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let shape = m.b.shape(x);
    if let Some(Numbers::Computed(repeats)) = m.numbers(call, 1)?
        && repeats.elements.len() == shape.len()
    {
        return one(computed::tile(m, x, &repeats)?);
    }
    let repeats = super::shape::shape_input(m, call, 1)?;
    if repeats.len() != shape.len() {
        return Err(call
            .wrong(
                "repeats",
                &format!("{} numbers", shape.len()),
                repeats.len(),
            )
            .into());
    }
    let total = shape
        .iter()
        .zip(&repeats)
        .filter_map(|(d, r)| d.integer()?.checked_mul(r.integer()?))
        .fold(1i64, i64::saturating_mul);
    if crate::tensor::num::f64_of_i64(total)
        > crate::tensor::num::f64_of_u64(crate::limits::VALUE_ELEMENTS.get())
    {
        return Err(call
            .wrong("repeats", "a tensor that fits memory", total)
            .into());
    }
    if repeats.iter().all(|r| r.integer() == Some(1)) {
        return one(x);
    }
    one(m.b.node(Op::Tile(Tile { repeats }), &[x])?)
}

fn center_crop_pad(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let wanted = super::shape::shape_input(m, call, 1)?;
    let shape = m.b.shape(x);
    let axes = match call.ints("axes")? {
        None => (0..shape.len()).collect(),
        Some(axes) => axes
            .into_iter()
            .map(|a| normalize_axis(a, shape.len()))
            .collect::<std::result::Result<Vec<_>, _>>()?,
    };
    if axes.len() != wanted.len() {
        return Err(call
            .wrong("shape", &format!("{} sizes", axes.len()), wanted.len())
            .into());
    }
    let (mut begin, mut end) = (
        vec![Dim::from(0); shape.len()],
        vec![Dim::from(0); shape.len()],
    );
    for (&axis, target) in axes.iter().zip(&wanted) {
        let (Some(size), Some(target)) = (shape[axis].integer(), target.integer()) else {
            return Err(call.unsupported("an axis whose size varies").into());
        };
        let more = target - size;
        // Of an odd number the smaller half comes first.
        let first = if more >= 0 { more / 2 } else { -(-more / 2) };
        begin[axis] = Dim::constant(first);
        end[axis] = Dim::constant(more - first);
    }
    one(padded(m, call, x, PadMode::Constant, begin, end, None)?)
}
