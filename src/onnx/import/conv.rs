//! Convolution and pooling.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, microsoft, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::{
    BinaryKind, BlockOrder, Conv, ConvTranspose, DepthToSpace, Pad, PadMode, Pool, PoolKind,
    ReduceKind, SpaceToDepth, UnaryKind, Window,
};
use crate::ir::{Dim, Op, ValueId};
use crate::limits;
use crate::tensor::{DType, num};

pub(super) const ROWS: &[Row] = &[
    row("Conv", 1, conv),
    row("ConvTranspose", 1, conv_transpose),
    row("MaxPool", 1, max_pool),
    row("AveragePool", 7, average_pool),
    row("LpPool", 2, lp_pool),
    row("GlobalAveragePool", 1, |m, c| {
        global(m, c, ReduceKind::Mean)
    }),
    row("GlobalMaxPool", 1, |m, c| global(m, c, ReduceKind::Max)),
    row("GlobalLpPool", 2, global_lp),
    row("DepthToSpace", 1, depth_to_space),
    row("SpaceToDepth", 1, space_to_depth),
    row("Col2Im", 18, col2im),
    microsoft("FusedConv", fused_conv),
    microsoft("NhwcMaxPool", nhwc_max_pool),
];

/// A list of sizes from an attribute, one per spatial axis.
pub(super) fn sizes(
    call: &mut Call<'_>,
    name: &str,
    n: usize,
    default: usize,
) -> Result<Vec<usize>> {
    let Some(list) = call.ints(name)? else {
        return Ok(vec![default; n]);
    };
    let sizes: Option<Vec<usize>> = list
        .iter()
        .map(|&v| {
            usize::try_from(v)
                .ok()
                .filter(|&v| num::u64_of(v) < limits::DIMENSION)
        })
        .collect();
    match sizes {
        Some(sizes) if sizes.len() == n => Ok(sizes),
        Some(_) | None => Err(call
            .wrong(name, &format!("{n} sizes"), format!("{list:?}"))
            .into()),
    }
}

/// Padding of an axis that depends on its size.
#[derive(Clone, Default)]
struct Open {
    before: Dim,
    after: Dim,
    /// The largest that the two can be.
    most: (usize, usize),
}

/// How a window slides, and the padding that it needs first on axes whose size varies: how much depends on the size.
pub(super) struct Slide {
    pub(super) window: Window,
    /// Per spatial axis; empty if all padding is the window's own.
    open: Vec<Open>,
}

impl Slide {
    /// `x [N, C, s…]` with the padding of axes whose size varies: the largest, and what is too much of it cut off again, since runtimes are better at
    /// computed cuts than at computed padding.
    pub(super) fn padded(&self, m: &mut Importer<'_>, x: ValueId, value: f64) -> Result<ValueId> {
        if self.open.is_empty() {
            return Ok(x);
        }
        let shape = m.b.shape(x);
        let all = |most: fn(&Open) -> usize| {
            let spatial = self.open.iter().map(|o| Dim::from(most(o)));
            [Dim::from(0), Dim::from(0)]
                .into_iter()
                .chain(spatial)
                .collect()
        };
        let op = Pad {
            mode: PadMode::Constant,
            begin: all(|o| o.most.0),
            end: all(|o| o.most.1),
        };
        let value = m.b.number(x, value)?;
        let mut x = m.b.node(Op::Pad(op), &[x, value])?;
        for (i, open) in self.open.iter().enumerate() {
            let start = Dim::from(open.most.0).sub(&open.before);
            let end = start.add(&shape[i + 2]).add(&open.before).add(&open.after);
            if (&start, &end) != (&Dim::from(0), &m.b.shape(x)[i + 2]) {
                x = m.b.part(x, i + 2, start, end)?;
            }
        }
        Ok(x)
    }
}

/// How a window slides over axes of these sizes.
fn slide(
    m: &Importer<'_>,
    call: &mut Call<'_>,
    spatial: &[Dim],
    kernel: &[usize],
) -> Result<Slide> {
    let n = spatial.len();
    let strides = sizes(call, "strides", n, 1)?;
    let dilations = sizes(call, "dilations", n, 1)?;
    let given = call.has_attribute("pads");
    let flat = sizes(call, "pads", 2 * n, 0)?;
    let mut pads: Vec<(usize, usize)> = (0..n).map(|i| (flat[i], flat[n + i])).collect();
    let auto = call.string_or("auto_pad", "NOTSET")?;
    if strides.contains(&0) || dilations.contains(&0) || kernel.contains(&0) {
        return Err(call
            .wrong("strides", "sizes, strides and dilations of at least 1", 0)
            .into());
    }
    let mut open = vec![Open::default(); n];
    match auto.as_str() {
        "NOTSET" => {}
        "VALID" => pads = vec![(0, 0); n],
        "SAME_UPPER" | "SAME_LOWER" => {
            if given && flat.iter().any(|&p| p != 0) {
                return Err(call.wrong("auto_pad", "NOTSET beside pads", auto).into());
            }
            for i in 0..n {
                let span = (kernel[i] - 1)
                    .saturating_mul(dilations[i])
                    .saturating_add(1);
                let total = same(m, &spatial[i], span, strides[i]);
                let half = total.floor_div(&Dim::from(2)).unwrap_or_default();
                let rest = total.sub(&half);
                // No more than would move the last element out of the first window.
                let (small, large) = ((span - 1) / 2, span / 2);
                let (before, after, most) = if auto == "SAME_UPPER" {
                    (half, rest, (small, large))
                } else {
                    (rest, half, (large, small))
                };
                match (before.known(), after.known()) {
                    (Some(before), Some(after)) => pads[i] = (before, after),
                    (_, _) => {
                        open[i] = Open {
                            before,
                            after,
                            most,
                        };
                    }
                }
            }
        }
        _ => {
            return Err(call
                .wrong("auto_pad", "NOTSET, VALID, SAME_UPPER or SAME_LOWER", auto)
                .into());
        }
    }
    if open.iter().all(|o| o.most == (0, 0)) {
        open.clear();
    }
    Ok(Slide {
        window: Window {
            strides,
            dilations,
            pads,
        },
        open,
    })
}

/// How much padding makes ⌈size / stride⌉ windows of this span fit.
fn same(m: &Importer<'_>, size: &Dim, span: usize, stride: usize) -> Dim {
    let step = Dim::from(stride);
    let up = size.add(&step).sub(&Dim::from(1));
    let windows = up.floor_div(&step).unwrap_or_default();
    let covered = windows.mul(&step).sub(&step).add(&Dim::from(span));
    let total = covered.sub(size);
    // Windows that touch or overlap reach the end.
    if span >= stride {
        total
    } else {
        m.bounds.larger(&total, &Dim::from(0))
    }
}

/// The spatial part of a weight's shape, which has to be known.
fn kernel_of(m: &Importer<'_>, call: &mut Call<'_>, w: ValueId) -> Result<Vec<usize>> {
    let shape = m.b.shape(w);
    let kernel: Option<Vec<usize>> = shape
        .get(2..)
        .unwrap_or_default()
        .iter()
        .map(Dim::known)
        .collect();
    let kernel = kernel.ok_or_else(|| call.wrong("W", "a known size", m.b.ty(w)))?;
    let declared = sizes(call, "kernel_shape", kernel.len(), 1)?;
    if call.has_attribute("kernel_shape") && declared != kernel {
        return Err(call
            .wrong(
                "kernel_shape",
                &format!("{kernel:?}, as the weight"),
                format!("{declared:?}"),
            )
            .into());
    }
    Ok(kernel)
}

fn groups(call: &mut Call<'_>) -> Result<usize> {
    let n = call.int_or("group", 1)?;
    match usize::try_from(n) {
        Ok(n) if n > 0 => Ok(n),
        Ok(_) | Err(_) => Err(call.wrong("group", "at least 1", n).into()),
    }
}

fn conv(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, w) = (m.input(call, 0)?, m.input(call, 1)?);
    let bias = m.optional(call, 2)?;
    one(convolve(m, call, x, w, bias)?)
}

/// A convolution with the attributes of the node.
pub(super) fn convolve(
    m: &mut Importer<'_>,
    call: &mut Call<'_>,
    x: ValueId,
    w: ValueId,
    bias: Option<ValueId>,
) -> Result<ValueId> {
    let (slide, groups) = convolution(m, call, x, w)?;
    let x = slide.padded(m, x, 0.0)?;
    let window = slide.window;
    let mut operands = vec![x, w];
    operands.extend(bias);
    m.b.node(Op::Conv(Conv { window, groups }), &operands)
}

/// How the windows of a convolution slide, and the number of its groups.
pub(super) fn convolution(
    m: &Importer<'_>,
    call: &mut Call<'_>,
    x: ValueId,
    w: ValueId,
) -> Result<(Slide, usize)> {
    let kernel = kernel_of(m, call, w)?;
    let shape = m.b.shape(x);
    if shape.len() != kernel.len() + 2 {
        return Err(call
            .wrong("X", &format!("rank {}", kernel.len() + 2), m.b.ty(x))
            .into());
    }
    let slide = slide(m, call, &shape[2..], &kernel)?;
    Ok((slide, groups(call)?))
}

fn conv_transpose(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, w) = (m.input(call, 0)?, m.input(call, 1)?);
    let bias = m.optional(call, 2)?;
    let kernel = kernel_of(m, call, w)?;
    let shape = m.b.shape(x);
    let n = kernel.len();
    if shape.len() != n + 2 {
        return Err(call
            .wrong("X", &format!("rank {}", n + 2), m.b.ty(x))
            .into());
    }
    let strides = sizes(call, "strides", n, 1)?;
    let dilations = sizes(call, "dilations", n, 1)?;
    let mut output_pads = sizes(call, "output_padding", n, 0)?;
    let flat = sizes(call, "pads", 2 * n, 0)?;
    let mut pads: Vec<(usize, usize)> = (0..n).map(|i| (flat[i], flat[n + i])).collect();
    let auto = call.string_or("auto_pad", "NOTSET")?;
    let wanted = call.ints("output_shape")?;
    let wanted = wanted.map(|w| w[w.len().saturating_sub(n)..].to_vec());
    if wanted.as_ref().is_some_and(|w| w.len() != n) {
        return Err(call
            .wrong("output_shape", &format!("{n} sizes"), "others")
            .into());
    }
    if auto == "VALID" {
        pads = vec![(0, 0); n];
    }
    if wanted.is_some() || auto.starts_with("SAME") {
        for i in 0..n {
            let (size, stride) = (&shape[i + 2], Dim::from(strides[i]));
            let target = match &wanted {
                Some(wanted) => Dim::constant(wanted[i]),
                None => size.mul(&stride),
            };
            let span = (kernel[i] - 1).saturating_mul(dilations[i]);
            let full = size
                .sub(&Dim::from(1))
                .mul(&stride)
                .add(&Dim::from(output_pads[i].saturating_add(span)))
                .add(&Dim::from(1));
            // As many times the size as the steps are long: the size itself does not matter.
            let total = full.sub(&target).integer().ok_or_else(|| {
                call.unsupported(format!(
                    "`output_shape` on an axis whose size varies (`{size}`; fix it with `--dim`)"
                ))
            })?;
            let extra = usize::try_from(total.saturating_neg()).unwrap_or(0);
            let total = usize::try_from(total).unwrap_or(0);
            output_pads[i] += extra;
            let (small, large) = (total / 2, total - total / 2);
            pads[i] = if auto == "SAME_UPPER" {
                (small, large)
            } else {
                (large, small)
            };
        }
    }
    let window = Window {
        strides,
        dilations,
        pads,
    };
    let groups = groups(call)?;
    let mut operands = vec![x, w];
    operands.extend(bias);
    let op = ConvTranspose {
        window,
        groups,
        output_pads,
    };
    one(m.b.node(Op::ConvTranspose(op), &operands)?)
}

/// The parts that every pooling node has: the window's size, how it slides, whether the last one may stick out.
pub(super) fn pooling(
    m: &Importer<'_>,
    call: &mut Call<'_>,
    x: ValueId,
) -> Result<(Vec<usize>, Slide, bool)> {
    let shape = m.b.shape(x);
    let spatial = shape.get(2..).unwrap_or_default();
    if !call.has_attribute("kernel_shape") {
        return Err(call.missing("`kernel_shape`").into());
    }
    let kernel = sizes(call, "kernel_shape", spatial.len(), 1)?;
    let slide = slide(m, call, spatial, &kernel)?;
    let ceil = call.flag("ceil_mode", false)?;
    Ok((kernel, slide, ceil))
}

fn max_pool(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let column_major = call.flag("storage_order", false)?;
    let x = m.input(call, 0)?;
    let (kernel, slide, ceil) = pooling(m, call, x)?;
    let y = largest(m, x, &kernel, &slide, ceil)?;
    if !call.wants(1) {
        return one(y);
    }
    let places = super::windows::argmax(m, call, (x, y), &kernel, &slide.window, column_major)?;
    Ok([y, places].map(Entry::Value).to_vec())
}

/// The largest element of every window.
fn largest(
    m: &mut Importer<'_>,
    x: ValueId,
    kernel: &[usize],
    slide: &Slide,
    ceil: bool,
) -> Result<ValueId> {
    let x = slide.padded(m, x, super::windows::least(m.b.dtype(x)))?;
    let op = Pool {
        kind: PoolKind::Max,
        kernel: kernel.to_vec(),
        window: slide.window.clone(),
        ceil,
    };
    m.b.node(Op::Pool(op), &[x])
}

fn average_pool(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let count_padding = call.flag("count_include_pad", false)?;
    let x = m.input(call, 0)?;
    let (kernel, slide, ceil) = pooling(m, call, x)?;
    one(averaged(m, x, kernel, &slide, ceil, count_padding)?)
}

/// The mean of every window.
pub(super) fn averaged(
    m: &mut Importer<'_>,
    x: ValueId,
    kernel: Vec<usize>,
    slide: &Slide,
    ceil: bool,
    count_padding: bool,
) -> Result<ValueId> {
    let op = Op::Pool(Pool {
        kind: PoolKind::Average { count_padding },
        kernel,
        window: slide.window.clone(),
        ceil,
    });
    let padded = slide.padded(m, x, 0.0)?;
    let y = m.b.node(op.clone(), &[padded])?;
    if padded == x || count_padding {
        return Ok(y);
    }
    // What was padded before counts in this mean: the share of the others, by which it is too small.
    let mut plane = m.b.shape(x);
    plane[..2].fill(Dim::from(1));
    let ones = m.b.number(x, 1.0)?;
    let ones = m.b.expand(ones, plane)?;
    let ones = slide.padded(m, ones, 0.0)?;
    let share = m.b.node(op, &[ones])?;
    m.b.div(y, share)
}

/// (Σ |x|ᵖ)^(1/p): the mean over the whole window, padding as zeros, times its size. Windows that stick out over the padding get more of it first:
/// their mean would leave out what lies beyond.
fn lp_pool(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let p = call.int_or("p", 2)?;
    let x = m.input(call, 0)?;
    let (kernel, slide, ceil) = pooling(m, call, x)?;
    let count: usize = kernel.iter().product();
    let x = slide.padded(m, x, 0.0)?;
    let mut window = slide.window;
    let power = powered(m, x, p)?;
    if ceil {
        widen(m, call, &kernel, &mut window, x)?;
    }
    let op = Pool {
        kind: PoolKind::Average {
            count_padding: true,
        },
        kernel,
        window,
        ceil: false,
    };
    let mean = m.b.node(Op::Pool(op), &[power])?;
    let sum = m.b.mul_n(mean, num::f64_of(count))?;
    one(root(m, sum, p)?)
}

/// Pads the ends of the axes by as much as the last windows stick out.
fn widen(
    m: &Importer<'_>,
    call: &Call<'_>,
    kernel: &[usize],
    window: &mut Window,
    x: ValueId,
) -> Result<()> {
    let shape = m.b.shape(x);
    for (i, size) in shape[2..].iter().enumerate() {
        let size = size.known().ok_or_else(|| {
            call.unsupported(format!(
                "`ceil_mode` on an axis whose size varies (`{size}`; fix it with `--dim`)"
            ))
        })?;
        let (before, after) = window.pads[i];
        let stride = window.strides[i];
        let span = (kernel[i] - 1)
            .saturating_mul(window.dilations[i])
            .saturating_add(1);
        let begun = size.saturating_add(before);
        let steps = begun
            .saturating_add(after)
            .saturating_sub(span)
            .div_ceil(stride);
        // A window that would begin in the padding at the end is left out.
        let steps = steps.min(begun.saturating_sub(1) / stride);
        let covered = steps.saturating_mul(stride).saturating_add(span);
        window.pads[i].1 = covered.saturating_sub(begun);
    }
    Ok(())
}

fn powered(m: &mut Importer<'_>, x: ValueId, p: i64) -> Result<ValueId> {
    match p {
        1 => m.b.un(UnaryKind::Abs, x),
        2 => m.b.mul(x, x),
        _ => {
            let magnitude = m.b.un(UnaryKind::Abs, x)?;
            let p = m.b.number(x, num::f64_of_i64(p))?;
            m.b.bin(BinaryKind::Pow, magnitude, p)
        }
    }
}

fn root(m: &mut Importer<'_>, x: ValueId, p: i64) -> Result<ValueId> {
    match p {
        1 => Ok(x),
        2 => m.b.un(UnaryKind::Sqrt, x),
        _ => {
            let p = m.b.number(x, 1.0 / num::f64_of_i64(p))?;
            m.b.bin(BinaryKind::Pow, x, p)
        }
    }
}

fn spatial_axes(m: &Importer<'_>, x: ValueId) -> Vec<usize> {
    (2..m.b.rank(x)).collect()
}

fn global(m: &mut Importer<'_>, call: &mut Call<'_>, kind: ReduceKind) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let axes = spatial_axes(m, x);
    one(super::reduce::over(m, kind, x, &axes, true)?)
}

fn global_lp(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let p = call.int_or("p", 2)?;
    let axes = spatial_axes(m, x);
    let power = powered(m, x, p)?;
    let sum = super::reduce::over(m, ReduceKind::Sum, power, &axes, true)?;
    one(root(m, sum, p)?)
}

fn block(call: &mut Call<'_>) -> Result<usize> {
    let n = call.int("blocksize")?.unwrap_or_default();
    usize::try_from(n)
        .ok()
        .filter(|&n| n > 0 && num::u64_of(n) < limits::DIMENSION)
        .ok_or_else(|| call.wrong("blocksize", "at least 1", n).into())
}

fn depth_to_space(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let block = block(call)?;
    let order = match call.string_or("mode", "DCR")?.as_str() {
        "DCR" => BlockOrder::BlockFirst,
        "CRD" => BlockOrder::BlockLast,
        other => return Err(call.wrong("mode", "DCR or CRD", other).into()),
    };
    one(m
        .b
        .node(Op::DepthToSpace(DepthToSpace { block, order }), &[x])?)
}

fn space_to_depth(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let block = block(call)?;
    let order = BlockOrder::BlockFirst;
    one(m
        .b
        .node(Op::SpaceToDepth(SpaceToDepth { block, order }), &[x])?)
}

/// The transposed convolution with the identity: every column is put where its window was.
fn col2im(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let image = m
        .ints(call, 1)?
        .ok_or_else(|| call.missing("the image's shape"))?;
    let kernel = m
        .ints(call, 2)?
        .ok_or_else(|| call.missing("the block's shape"))?;
    let natural = |list: &[i64]| -> Option<Vec<usize>> {
        list.iter()
            .map(|&v| usize::try_from(v).ok().filter(|&v| v > 0 && v < 1 << 20))
            .collect()
    };
    let (Some(image), Some(kernel)) = (natural(&image), natural(&kernel)) else {
        return Err(call
            .wrong("image_shape", "sizes of at least 1", "others")
            .into());
    };
    let n = image.len();
    let strides = sizes(call, "strides", n, 1)?;
    let dilations = sizes(call, "dilations", n, 1)?;
    let flat = sizes(call, "pads", 2 * n, 0)?;
    let shape = m.b.shape(x);
    let block: usize = kernel.iter().product();
    let (3, Some(rows)) = (shape.len(), shape.get(1).and_then(Dim::known)) else {
        return Err(call.wrong("input", "[N, C · block, L]", m.b.ty(x)).into());
    };
    if kernel.len() != n || rows % block != 0 || strides.contains(&0) || dilations.contains(&0) {
        return Err(call
            .wrong("block_shape", "a divisor of the rows", block)
            .into());
    }
    let channels = rows / block;
    // Places of a window along each axis; what the image's size leaves over is added at the end.
    let (mut places, mut output_pads, mut pads) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..n {
        let span = (kernel[i] - 1) * dilations[i] + 1;
        let room = (image[i] + flat[i] + flat[n + i])
            .checked_sub(span)
            .ok_or_else(|| call.wrong("block_shape", "a block inside the image", kernel[i]))?;
        places.push(Dim::from(room / strides[i] + 1));
        output_pads.push(room % strides[i]);
        pads.push((flat[i], flat[n + i]));
    }
    // [N, C·block, L] → [N·C, block, places…]; each of the block's rows is an input channel whose kernel is 1 at its own place.
    let mut grid = vec![shape[0].mul(&Dim::from(channels)), Dim::from(block)];
    grid.extend(places);
    let x = m.b.reshape(x, grid)?;
    let index = m.b.iota(DType::I32, block)?;
    let rows = m.b.unsqueeze(index, &[1])?;
    let eye = m.b.cmp(crate::ir::ops::CompareKind::Equal, rows, index)?;
    let eye = m.b.to(eye, m.b.dtype(x))?;
    let mut weight = vec![Dim::from(block), Dim::from(1)];
    weight.extend(kernel.iter().map(|&k| Dim::from(k)));
    let eye = m.b.reshape(eye, weight)?;
    let op = ConvTranspose {
        window: Window {
            strides,
            dilations,
            pads,
        },
        groups: 1,
        output_pads,
    };
    let y = m.b.node(Op::ConvTranspose(op), &[x, eye])?;
    let mut result = vec![shape[0].clone(), Dim::from(channels)];
    result.extend(image.iter().map(|&d| Dim::from(d)));
    one(m.b.reshape(y, result)?)
}

/// `[N, s…, C]` → `[N, C, s…]`
pub(super) fn channels_first(m: &mut Importer<'_>, x: ValueId) -> Result<ValueId> {
    let rank = m.b.rank(x);
    let last = rank.saturating_sub(1);
    let perm: Vec<usize> = [0, last].into_iter().chain(1..last).take(rank).collect();
    m.b.transpose(x, &perm)
}

/// `[N, C, s…]` → `[N, s…, C]`
pub(super) fn channels_last(m: &mut Importer<'_>, x: ValueId) -> Result<ValueId> {
    let rank = m.b.rank(x);
    let perm: Vec<usize> = [0]
        .into_iter()
        .chain(2..rank)
        .chain([1])
        .take(rank)
        .collect();
    m.b.transpose(x, &perm)
}

/// A convolution, the sum with another tensor, an activation.
fn fused_conv(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (x, w) = (m.input(call, 0)?, m.input(call, 1)?);
    let bias = m.optional(call, 2)?;
    let sum = m.optional(call, 3)?;
    let mut y = convolve(m, call, x, w, bias)?;
    if let Some(sum) = sum {
        y = m.b.add(y, sum)?;
    }
    let parameters = call.floats("activation_params")?.unwrap_or_default();
    let Some(activation) = call.string("activation")? else {
        return one(y);
    };
    one(super::activation::named(
        m,
        call,
        y,
        &activation,
        &parameters,
    )?)
}

fn nhwc_max_pool(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let x = m.input(call, 0)?;
    let x = channels_first(m, x)?;
    let (kernel, slide, ceil) = pooling(m, call, x)?;
    let y = largest(m, x, &kernel, &slide, ceil)?;
    one(channels_last(m, y)?)
}
