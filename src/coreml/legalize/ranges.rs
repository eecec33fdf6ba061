//! Which numbers the integers of a module can be, by interval arithmetic over constants, the domains of inputs and the sizes of tensors: the
//! proof that integers of 64 bits fit `int32`, or that it is missing.

use std::collections::BTreeMap;

use super::dtype::is_int;
use crate::error::Result;
use crate::ir::ops::{BinaryKind, Reduce, ReduceKind, ScatterMode, UnaryKind};
use crate::ir::{Bounds, Def, Dim, Domain, Function, Module, Node, Op, ValueId};
use crate::limits;
use crate::tensor::DType;

/// Least and greatest number, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) least: i128,
    pub(super) greatest: i128,
}

/// What `int32` holds.
pub(super) const INT32: Interval = Interval {
    least: -(1 << 31),
    greatest: (1 << 31) - 1,
};

impl Interval {
    fn new(least: i128, greatest: i128) -> Self {
        Interval { least, greatest }
    }

    /// From 0 to below a size.
    fn below(size: i128) -> Self {
        Interval::new(0, (size - 1).max(0))
    }

    fn symmetric(magnitude: i128) -> Self {
        Interval::new(-magnitude, magnitude)
    }

    /// Everything that a type holds.
    fn of_type(dtype: DType) -> Self {
        let bits = dtype.bits().min(64);
        if dtype == DType::Bool {
            Interval::new(0, 1)
        } else if dtype.is_signed_int() {
            Interval::new(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        } else {
            Interval::new(0, (1 << bits) - 1)
        }
    }

    pub(super) fn inside(self, other: Self) -> bool {
        other.least <= self.least && self.greatest <= other.greatest
    }

    fn union(self, other: Self) -> Self {
        Interval::new(
            self.least.min(other.least),
            self.greatest.max(other.greatest),
        )
    }

    fn magnitude(self) -> i128 {
        self.least
            .saturating_abs()
            .max(self.greatest.saturating_abs())
    }

    /// The least and greatest of a function that is monotonic in each operand.
    fn ends(self, other: Self, f: impl Fn(i128, i128) -> i128) -> Self {
        let ends = [
            f(self.least, other.least),
            f(self.least, other.greatest),
            f(self.greatest, other.least),
            f(self.greatest, other.greatest),
        ];
        let [first, rest @ ..] = ends;
        rest.into_iter().fold(Interval::new(first, first), |i, n| {
            i.union(Interval::new(n, n))
        })
    }

    /// The sum of `count` such numbers, or of fewer.
    fn times(self, count: i128) -> Self {
        Interval::new(
            self.least.saturating_mul(count).min(0),
            self.greatest.saturating_mul(count).max(0),
        )
    }
}

/// An integer that is computed in more than 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is proven to be one of these.
    Proven(Interval),
    /// Interval arithmetic gives these, which `int32` does not hold all of; nothing is known where there is no arithmetic.
    Open(Option<Interval>),
}

impl Found {
    fn new(interval: Option<Interval>) -> Self {
        match interval {
            Some(interval) if interval.inside(INT32) => Found::Proven(interval),
            Some(_) | None => Found::Open(interval),
        }
    }
}

/// What is known of the wide integers of a module's default function and of its bodies, by name: of inputs and of results.
pub(super) fn wide_integers(module: &Module) -> Result<BTreeMap<String, Found>> {
    let mut bounds = Bounds::default();
    module.symbols.iter().for_each(|s| bounds.insert(s));
    let mut analysis = Analysis {
        module,
        bounds,
        constants: BTreeMap::new(),
        found: BTreeMap::new(),
    };
    for function in module.bodies.iter().chain([module.main()?]) {
        analysis.function(function)?;
    }
    Ok(analysis.found)
}

/// Whether `int32` does not hold all numbers of the type.
pub(super) fn is_wide(dtype: DType) -> bool {
    matches!(dtype, DType::I64 | DType::U64 | DType::U32)
}

struct Analysis<'m> {
    module: &'m Module,
    bounds: Bounds,
    constants: BTreeMap<usize, Interval>,
    found: BTreeMap<String, Found>,
}

impl Analysis<'_> {
    fn function(&mut self, function: &Function) -> Result<()> {
        // In the program, what a value was found to be is what it can be: everything else was reported where it arose.
        let mut known: BTreeMap<ValueId, Interval> = BTreeMap::new();
        for param in &function.params {
            let dtype = function.ty(param.value).dtype;
            if dtype.is_float() {
                continue;
            }
            let domain = match param.domain {
                Domain::Any => Interval::of_type(dtype),
                Domain::Index { below } => Interval::below(i128::from(below)),
                Domain::Mask => Interval::new(0, 1),
                Domain::Pixel => Interval::new(0, 255),
            };
            if is_wide(dtype) {
                let name = function.value(param.value).name.clone();
                self.found.insert(name, Found::new(Some(domain)));
            }
            known.insert(param.value, clamp(domain));
        }
        for node in &function.nodes {
            let operands = node
                .operands
                .iter()
                .map(|&v| self.operand(function, &known, v))
                .collect::<Result<Vec<_>>>()?;
            for (i, &result) in node.results.iter().enumerate() {
                let value = function.value(result);
                let dtype = value.ty.dtype;
                if !is_int(dtype) && dtype != DType::Bool {
                    continue;
                }
                let interval = self.result(function, node, i, &operands);
                if is_wide(dtype) {
                    self.found.insert(value.name.clone(), Found::new(interval));
                }
                let all = Interval::of_type(dtype);
                // Narrow types wrap in the source as well.
                let holds = interval.filter(|i| i.inside(all)).unwrap_or(all);
                known.insert(result, clamp(holds));
            }
        }
        Ok(())
    }

    /// What an operand can be; `None` for floats.
    fn operand(
        &mut self,
        function: &Function,
        known: &BTreeMap<ValueId, Interval>,
        value: ValueId,
    ) -> Result<Option<Interval>> {
        if let Some(&interval) = known.get(&value) {
            return Ok(Some(interval));
        }
        let (Def::Const(id), dtype) = (function.value(value).def, function.ty(value).dtype) else {
            return Ok(None);
        };
        if dtype == DType::Bool || is_int(dtype) && dtype.bits() < 32 {
            return Ok(Some(Interval::of_type(dtype)));
        }
        if !is_int(dtype) {
            return Ok(None);
        }
        if let Some(&interval) = self.constants.get(&id.index()) {
            return Ok(Some(interval));
        }
        let mut interval: Option<Interval> = None;
        let width = dtype.width();
        self.module.constant(id).stream(&mut |bytes| {
            for element in bytes.chunks_exact(width) {
                let mut raw = [0u8; 8];
                raw[..width].copy_from_slice(element);
                let n = if dtype == DType::I32 {
                    i128::from(i32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]))
                } else if dtype == DType::I64 {
                    i128::from(i64::from_le_bytes(raw))
                } else {
                    i128::from(u64::from_le_bytes(raw))
                };
                let one = Interval::new(n, n);
                interval = Some(interval.map_or(one, |i| i.union(one)));
            }
            Ok(())
        })?;
        let interval = interval.unwrap_or(Interval::new(0, 0));
        self.constants.insert(id.index(), interval);
        Ok(Some(interval))
    }

    /// The most that a dimension can be: no tensor is larger than what the interpreter holds, and no axis longer than the program can count.
    fn most(&self, dim: &Dim) -> i128 {
        let most = self.bounds.of(dim).map_or(i64::MAX, |(_, most)| most);
        let cap = i128::from(limits::VALUE_ELEMENTS.get());
        i128::from(most.max(0)).min(cap).min(INT32.greatest)
    }

    /// The most elements along these axes.
    fn count(&self, function: &Function, value: ValueId, axes: &[usize]) -> i128 {
        let shape = &function.ty(value).shape;
        let sizes = axes.iter().filter_map(|&a| shape.get(a));
        let all = sizes.fold(1i128, |n, d| n.saturating_mul(self.most(d)));
        all.min(i128::from(limits::VALUE_ELEMENTS.get()))
    }

    /// What a result can be; `None` where nothing is known.
    fn result(
        &self,
        function: &Function,
        node: &Node,
        place: usize,
        operands: &[Option<Interval>],
    ) -> Option<Interval> {
        let at = |i: usize| operands.get(i).copied().flatten();
        let any_axis = |value: ValueId| {
            let shape = &function.ty(value).shape;
            Interval::below(shape.iter().map(|d| self.most(d)).max().unwrap_or(1))
        };
        let first = node.operands.first().copied();
        match &node.op {
            op if op.is_view() => at(0),
            Op::Unary(o) => unary(o.kind, at(0)?),
            Op::Binary(o) => binary(o.kind, at(0)?, at(1)?),
            Op::Compare(_) | Op::Classify(_) => Some(Interval::new(0, 1)),
            Op::Select(_) => Some(at(1)?.union(at(2)?)),
            Op::Clip(_) | Op::Cast(_) | Op::Pool(_) => at(0),
            Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_) => at(0),
            Op::Concat(_) => operands.iter().copied().reduce(|a, b| Some(a?.union(b?)))?,
            Op::Pad(_) => Some(at(0)?.union(at(1).unwrap_or(Interval::new(0, 0)))),
            Op::PadBy(_) => Some(at(0)?.union(at(2).unwrap_or(Interval::new(0, 0)))),
            Op::ScatterElements(o) if o.mode == ScatterMode::Update => Some(at(0)?.union(at(2)?)),
            Op::ScatterNd(o) if o.mode == ScatterMode::Update => Some(at(0)?.union(at(2)?)),
            Op::Iota(o) => Some(Interval::below(self.most(&o.len))),
            Op::Size(o) => Some(Interval::new(0, self.most(&o.dim))),
            Op::RangeBy(_) => Some(at(0)?.union(at(1)?)),
            Op::NonZero(_) | Op::ArgReduce(_) | Op::NonMaxSuppression(_) => Some(
                node.operands
                    .iter()
                    .map(|&v| any_axis(v))
                    .fold(Interval::new(0, 0), Interval::union),
            ),
            Op::TopK(_) if place == 1 => first.map(any_axis),
            Op::TopK(_) => at(0),
            Op::Reduce(o) => self.reduce(function, o, first?, at(0)?),
            Op::CumSum(o) => Some(at(0)?.times(self.count(function, first?, &[o.axis]))),
            Op::MatMul(_) => {
                let product = at(0)?.ends(at(1)?, i128::saturating_mul);
                let rank = function.ty(first?).rank();
                let inner = self.count(function, first?, &[rank.checked_sub(1)?]);
                Some(product.times(inner))
            }
            // What bodies compute was looked at there.
            Op::If(_) | Op::Loop(_) => Some(INT32),
            // Floats, or nothing that interval arithmetic says anything about.
            Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Expand(_)
            | Op::Slice(_)
            | Op::Squeeze(_)
            | Op::Unsqueeze(_)
            | Op::Tile(_)
            | Op::Reverse(_)
            | Op::DepthToSpace(_)
            | Op::SpaceToDepth(_)
            | Op::ReshapeTo(_)
            | Op::ExpandTo(_)
            | Op::TileBy(_)
            | Op::SliceBy(_)
            | Op::ScatterElements(_)
            | Op::ScatterNd(_)
            | Op::Softmax(_)
            | Op::Linear(_)
            | Op::Attention(_)
            | Op::LayerNorm(_)
            | Op::RmsNorm(_)
            | Op::Activation(_)
            | Op::Inverse(_)
            | Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::BatchNorm(_)
            | Op::InstanceNorm(_)
            | Op::Lrn(_)
            | Op::Resize(_)
            | Op::GridSample(_)
            | Op::Recurrent(_)
            | Op::Quantize(_)
            | Op::Dequantize(_) => None,
        }
    }

    fn reduce(
        &self,
        function: &Function,
        op: &Reduce,
        x: ValueId,
        of: Interval,
    ) -> Option<Interval> {
        let count = self.count(function, x, &op.axes);
        match op.kind {
            ReduceKind::Max | ReduceKind::Min => Some(of),
            ReduceKind::Sum => Some(of.times(count)),
            ReduceKind::Prod if of.magnitude() <= 1 => Some(Interval::symmetric(1)),
            ReduceKind::Prod => {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                Some(Interval::symmetric(of.magnitude().saturating_pow(count)))
            }
            ReduceKind::Mean | ReduceKind::L2 | ReduceKind::LogSumExp => None,
        }
    }
}

/// What remains of an interval in a program.
fn clamp(interval: Interval) -> Interval {
    Interval::new(
        interval.least.clamp(INT32.least, INT32.greatest),
        interval.greatest.clamp(INT32.least, INT32.greatest),
    )
}

fn unary(kind: UnaryKind, x: Interval) -> Option<Interval> {
    if kind == UnaryKind::Neg {
        Some(Interval::new(-x.greatest, -x.least))
    } else if kind == UnaryKind::Abs {
        Some(Interval::new(0, x.magnitude()))
    } else if kind == UnaryKind::Sign {
        Some(Interval::symmetric(1))
    } else if kind == UnaryKind::BitNot {
        Some(Interval::new(-1 - x.greatest, -1 - x.least))
    } else if kind == UnaryKind::Not {
        Some(Interval::new(0, 1))
    } else {
        None
    }
}

fn binary(kind: BinaryKind, a: Interval, b: Interval) -> Option<Interval> {
    Some(match kind {
        BinaryKind::Add => a.ends(b, i128::saturating_add),
        BinaryKind::Sub => a.ends(b, i128::saturating_sub),
        BinaryKind::Mul => a.ends(b, i128::saturating_mul),
        BinaryKind::Min => Interval::new(a.least.min(b.least), a.greatest.min(b.greatest)),
        BinaryKind::Max => Interval::new(a.least.max(b.least), a.greatest.max(b.greatest)),
        BinaryKind::FloorDiv | BinaryKind::TruncDiv if b.least > 0 => {
            a.ends(b, i128::div_euclid).union(a.ends(b, |x, y| x / y))
        }
        BinaryKind::FloorDiv | BinaryKind::TruncDiv => Interval::symmetric(a.magnitude()),
        BinaryKind::Mod if b.least > 0 => Interval::below(b.greatest),
        BinaryKind::Mod | BinaryKind::Rem => Interval::symmetric(b.magnitude()),
        BinaryKind::BitAnd | BinaryKind::BitOr | BinaryKind::BitXor => bits(a, b),
        BinaryKind::ShiftRight if a.least >= 0 => Interval::new(0, a.greatest),
        BinaryKind::ShiftLeft if a.least >= 0 && b.least >= 0 && b.greatest < 64 => {
            Interval::new(0, a.greatest.saturating_mul(1 << b.greatest))
        }
        BinaryKind::Pow if b.least >= 0 => {
            let power = u32::try_from(b.greatest).unwrap_or(u32::MAX);
            Interval::symmetric(a.magnitude().max(1).saturating_pow(power))
        }
        BinaryKind::And | BinaryKind::Or | BinaryKind::Xor => Interval::new(0, 1),
        BinaryKind::ShiftLeft | BinaryKind::ShiftRight | BinaryKind::Pow | BinaryKind::Div => {
            return None;
        }
    })
}

/// Bits of two numbers stay within as many bits as the wider one has.
fn bits(a: Interval, b: Interval) -> Interval {
    let all = a.union(b);
    let power = |n: i128| n.max(0).cast_unsigned().checked_next_power_of_two();
    let whole = all.magnitude().saturating_add(1);
    let whole = power(whole).map_or(i128::MAX, u128::cast_signed);
    if all.least >= 0 {
        Interval::new(0, whole - 1)
    } else {
        Interval::new(-whole, whole - 1)
    }
}
