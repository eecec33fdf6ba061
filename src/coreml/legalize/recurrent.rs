//! Recurrent layers that programs do not have: with computed weights, lengths, peepholes, other activations, a reset after the product. Their steps
//! are unrolled, or are the rounds of a loop where there are many, or as many as an input says.

use super::elementwise::real;
use super::lower::Lower;
use crate::error::Result;
use crate::ir::ops::{
    Activation, ActivationKind, BinaryKind, Cell, CellActivation, Clip, CompareKind, Direction,
    Linear, Loop, Recurrent, Reverse, ScatterMode, ScatterNd, Size, UnaryKind,
};
use crate::ir::{Domain, IrError, Op, Type, ValueId};
use crate::tensor::{DType, Tensor};

/// Most steps that are unrolled; each is a dozen operations.
const MAX_STEPS: usize = 512;

/// What one direction of a layer computes with.
struct Layer<'a> {
    op: &'a Recurrent,
    functions: &'a [CellActivation],
    hidden: usize,
    /// `[G·H, H]` and `[G·H]`
    recurrent: ValueId,
    bias: ValueId,
    /// Gates `i o f`, `[1, H]` each.
    peepholes: Option<[ValueId; 3]>,
}

pub(super) fn recurrent(
    l: &mut Lower<'_>,
    op: &Recurrent,
    operands: &[ValueId],
) -> Result<Vec<ValueId>> {
    if native(l, op, operands, l.ty(operands[0]).dtype) {
        return built_in(l, op, operands);
    }
    if l.ty(operands[0]).dtype == DType::F16 && native(l, op, operands, DType::F32) {
        // The first generations of programs have these layers in single precision only.
        let mut wide = Vec::with_capacity(operands.len());
        for &operand in operands {
            wide.push(single(l, operand)?);
        }
        let results = built_in(l, op, &wide)?;
        return results.into_iter().map(|y| l.cast(y, DType::F16)).collect();
    }
    let lstm = matches!(op.cell, Cell::Lstm { .. });
    let (x, w, r, b) = (operands[0], operands[1], operands[2], operands[3]);
    let Some(hidden) = l.ty(r).shape[2].known() else {
        return Err(l.refuse("recurrent layer", "its width must be known"));
    };
    let mut rest = operands.iter().skip(if lstm { 6 } else { 5 }).copied();
    let lengths = if op.lengths { rest.next() } else { None };
    let lengths = match lengths {
        Some(lengths) => {
            let lengths = l.cast(lengths, DType::I32)?;
            Some(l.unsqueeze(lengths, vec![1])?)
        }
        None => None,
    };
    let peepholes = if op.peepholes { rest.next() } else { None };
    let rows = op.cell.gates() * hidden;
    let directions = op.directions();
    // Per direction: results by time, then the last states.
    let (mut by_time, mut last_h, mut last_c) = (Vec::new(), Vec::new(), Vec::new());
    for d in 0..directions {
        let bias = l.pick(b, 0, d)?;
        let peepholes = match peepholes {
            None => None,
            Some(p) => {
                let p = l.part(p, 0, d, d + 1)?;
                let mut gate = |k: usize| l.part(p, 1, k * hidden, (k + 1) * hidden);
                Some([gate(0)?, gate(1)?, gate(2)?])
            }
        };
        let per = op.cell.activations();
        let layer = Layer {
            op,
            functions: &op.activations[d * per..(d + 1) * per],
            hidden,
            recurrent: l.pick(r, 0, d)?,
            bias: l.part(bias, 0, rows, 2 * rows)?,
            peepholes,
        };
        let weight = l.pick(w, 0, d)?;
        let input_bias = l.part(bias, 0, 0, rows)?;
        let sums = l.push(Op::Linear(Linear), &[x, weight, input_bias])?;
        let h = l.pick(operands[4], 0, d)?;
        let c = if lstm {
            Some(l.pick(operands[5], 0, d)?)
        } else {
            None
        };
        let run = Run {
            sums,
            lengths,
            reverse: op.direction == Direction::Reverse || d == 1,
        };
        let (y, h, c) = match l.ty(x).shape[0].known() {
            Some(steps) if steps <= MAX_STEPS => unrolled(l, &layer, &run, steps, h, c)?,
            Some(_) | None => looped(l, &layer, &run, h, c)?,
        };
        by_time.push(l.unsqueeze(y, vec![1])?);
        last_h.push(l.unsqueeze(h, vec![0])?);
        if let Some(c) = c {
            last_c.push(l.unsqueeze(c, vec![0])?);
        }
    }
    let mut out = vec![l.concat(&by_time, 1)?, l.concat(&last_h, 0)?];
    if lstm {
        out.push(l.concat(&last_c, 0)?);
    }
    Ok(out)
}

/// What one direction of a layer runs over.
struct Run {
    /// What the inputs add to the gates: `[T, B, G·H]`
    sums: ValueId,
    /// `[B, 1]`
    lengths: Option<ValueId>,
    /// Whether it begins at the end.
    reverse: bool,
}

/// The hidden state of every step, `[T, B, H]`, and the states after the last one, `[B, H]`.
type Ran = (ValueId, ValueId, Option<ValueId>);

/// The steps one after the other.
fn unrolled(
    l: &mut Lower<'_>,
    layer: &Layer<'_>,
    run: &Run,
    steps: usize,
    mut h: ValueId,
    mut c: Option<ValueId>,
) -> Result<Ran> {
    let mut outputs = vec![h; steps];
    for k in 0..steps {
        let t = if run.reverse { steps - 1 - k } else { k };
        let sum = l.pick(run.sums, 0, t)?;
        let counts = match run.lengths {
            Some(lengths) => Some(l.compare_with(CompareKind::Greater, lengths, real(t))?),
            None => None,
        };
        (outputs[t], h, c) = layer.counted(l, sum, counts, h, c)?;
    }
    let rows = outputs
        .into_iter()
        .map(|y| l.unsqueeze(y, vec![0]))
        .collect::<Result<Vec<_>>>()?;
    Ok((l.concat(&rows, 0)?, h, c))
}

/// The steps as rounds of a loop, which puts each hidden state into its row of a tensor that it carries.
fn looped(
    l: &mut Lower<'_>,
    layer: &Layer<'_>,
    run: &Run,
    h: ValueId,
    c: Option<ValueId>,
) -> Result<Ran> {
    let time = l.shape(run.sums)[0].clone();
    let size = Size {
        dtype: DType::I32,
        dim: time.clone(),
    };
    let steps = l.push(Op::Size(size), &[])?;
    let last = l.with(BinaryKind::Sub, steps, 1.0)?;
    let yes = l.tensor(&Tensor::bool(vec![], vec![true])?)?;
    let zero = l.like(h, 0.0)?;
    let rows = l.expand(zero, [vec![time], l.shape(h)].concat())?;
    let carried: Vec<ValueId> = [Some(h), c, Some(rows)].into_iter().flatten().collect();
    let mut captured = vec![run.sums, last, layer.recurrent, layer.bias];
    captured.extend(layer.peepholes.iter().flatten());
    captured.extend(run.lengths);
    let types = |l: &Lower<'_>, all: &[ValueId]| -> Vec<Type> {
        all.iter().map(|&v| l.ty(v).clone()).collect()
    };
    let (carried_types, captured_types) = (types(l, &carried), types(l, &captured));
    let constants: Vec<_> = captured
        .iter()
        .map(|&v| l.as_constant(v).cloned())
        .collect();
    let name = l.open_body("steps");
    let body = l.build(&name, |l| {
        let scalar = |dtype| Type::known(dtype, &[]);
        let round = l.param(&format!("{name}/round"), scalar(DType::I32), Domain::Any);
        let on = l.param(&format!("{name}/on"), scalar(DType::Bool), Domain::Any);
        let mut carried = Vec::with_capacity(carried_types.len());
        for (i, ty) in carried_types.iter().enumerate() {
            carried.push(l.param(&format!("{name}/carried{i}"), ty.clone(), Domain::Any));
        }
        let mut captured = Vec::with_capacity(captured_types.len());
        for (i, (ty, constant)) in captured_types.iter().zip(constants).enumerate() {
            let param = l.param(&format!("{name}/captured{i}"), ty.clone(), Domain::Any);
            captured.push(match constant {
                Some(constant) => l.constant(constant),
                None => param,
            });
        }
        l.at(&name);
        let mut captured = captured.into_iter();
        let mut next = || captured.next().ok_or(IrError::Undefined { operand: 0 });
        let (sums, last, recurrent, bias) = (next()?, next()?, next()?, next()?);
        let peepholes = match layer.peepholes {
            Some(_) => Some([next()?, next()?, next()?]),
            None => None,
        };
        let lengths = match run.lengths {
            Some(_) => Some(next()?),
            None => None,
        };
        let layer = Layer {
            recurrent,
            bias,
            peepholes,
            ..*layer
        };
        let t = if run.reverse {
            l.binary(BinaryKind::Sub, last, round)?
        } else {
            round
        };
        let place = l.unsqueeze(t, vec![0])?;
        let sum = l.gather(sums, place, 0)?;
        let sum = l.squeeze(sum, vec![0])?;
        let counts = match lengths {
            Some(lengths) => Some(l.compare(CompareKind::Greater, lengths, t)?),
            None => None,
        };
        let (h, c) = (carried[0], c.map(|_| carried[1]));
        let (y, h, c) = layer.counted(l, sum, counts, h, c)?;
        let place = l.unsqueeze(place, vec![1])?;
        let row = l.unsqueeze(y, vec![0])?;
        let put = ScatterNd {
            mode: ScatterMode::Update,
        };
        let rows = l.push(
            Op::ScatterNd(put),
            &[carried[carried.len() - 1], place, row],
        )?;
        let outputs = [Some(on), Some(h), c, Some(rows)];
        for (i, value) in outputs.into_iter().flatten().enumerate() {
            l.output(&format!("{name}#{i}"), value);
        }
        Ok(())
    })?;
    let op = Loop {
        body,
        carried: carried.len(),
        results: carried_types,
    };
    let operands = [vec![steps, yes], carried, captured].concat();
    let out = l.push_all(Op::Loop(op), &operands)?;
    Ok((out[out.len() - 1], out[0], c.map(|_| out[1])))
}

/// What runs backwards runs forwards over the reversed sequence: so nothing depends on the order in which a reverse layer gives its results.
fn built_in(l: &mut Lower<'_>, op: &Recurrent, operands: &[ValueId]) -> Result<Vec<ValueId>> {
    if op.direction != Direction::Reverse {
        return l.push_all(Op::Recurrent(op.clone()), operands);
    }
    let turned = |l: &mut Lower<'_>, x| l.push(Op::Reverse(Reverse { axes: vec![0] }), &[x]);
    let mut operands = operands.to_vec();
    operands[0] = turned(l, operands[0])?;
    let forward = Recurrent {
        direction: Direction::Forward,
        ..op.clone()
    };
    let mut out = l.push_all(Op::Recurrent(forward), &operands)?;
    out[0] = turned(l, out[0])?;
    Ok(out)
}

/// The value in single precision; a constant stays one.
fn single(l: &mut Lower<'_>, x: ValueId) -> Result<ValueId> {
    if let Some(constant) = l.as_constant(x).filter(|c| c.dtype() == DType::F16) {
        let wide = constant.cast(DType::F32);
        return Ok(l.constant(wide));
    }
    if l.ty(x).dtype.is_float() {
        return l.cast(x, DType::F32);
    }
    Ok(x)
}

/// Whether programs have this layer in an element type; `export/recurrent.rs` writes it.
fn native(l: &Lower<'_>, op: &Recurrent, operands: &[ValueId], dtype: DType) -> bool {
    crate::coreml::export::has_recurrent(op, dtype, l.opset)
        && operands[1..4].iter().all(|&v| l.as_constant(v).is_some())
}

impl Layer<'_> {
    /// Gate `k` of sums of all gates.
    fn gate(&self, l: &mut Lower<'_>, sums: ValueId, k: usize) -> Result<ValueId> {
        l.part(sums, 1, k * self.hidden, (k + 1) * self.hidden)
    }

    /// Activation `k` of a clipped sum.
    fn f(&self, l: &mut Lower<'_>, k: usize, x: ValueId) -> Result<ValueId> {
        let x = match self.op.clip {
            Some(limit) => l.push(
                Op::Clip(Clip {
                    min: -limit,
                    max: limit,
                }),
                &[x],
            )?,
            None => x,
        };
        activate(l, self.functions[k], x)
    }

    /// The hidden state that a step shows, and the next states: behind the end of a sequence 0, and the states as they were.
    fn counted(
        &self,
        l: &mut Lower<'_>,
        sums: ValueId,
        counts: Option<ValueId>,
        h: ValueId,
        c: Option<ValueId>,
    ) -> Result<Ran> {
        let (next_h, next_c) = self.step(l, sums, h, c)?;
        let Some(counts) = counts else {
            return Ok((next_h, next_h, next_c));
        };
        let zero = l.like(h, 0.0)?;
        let shown = l.select(counts, next_h, zero)?;
        let kept_c = match (next_c, c) {
            (Some(new), Some(old)) => Some(l.select(counts, new, old)?),
            (_, _) => next_c,
        };
        Ok((shown, l.select(counts, next_h, h)?, kept_c))
    }

    /// The next hidden and cell state.
    fn step(
        &self,
        l: &mut Lower<'_>,
        sums: ValueId,
        h: ValueId,
        c: Option<ValueId>,
    ) -> Result<(ValueId, Option<ValueId>)> {
        let n = self.hidden;
        let recurrent = l.push(Op::Linear(Linear), &[h, self.recurrent, self.bias])?;
        match (self.op.cell, c) {
            (Cell::Gru { reset_after }, _) => {
                let pair = |l: &mut Lower<'_>, k: usize| -> Result<ValueId> {
                    let x = self.gate(l, sums, k)?;
                    let r = self.gate(l, recurrent, k)?;
                    let sum = l.binary(BinaryKind::Add, x, r)?;
                    self.f(l, 0, sum)
                };
                let update = pair(l, 0)?;
                let reset = pair(l, 1)?;
                let inner = if reset_after {
                    let r = self.gate(l, recurrent, 2)?;
                    l.binary(BinaryKind::Mul, reset, r)?
                } else {
                    let gated = l.binary(BinaryKind::Mul, reset, h)?;
                    let weight = l.part(self.recurrent, 0, 2 * n, 3 * n)?;
                    let bias = l.part(self.bias, 0, 2 * n, 3 * n)?;
                    l.push(Op::Linear(Linear), &[gated, weight, bias])?
                };
                let x = self.gate(l, sums, 2)?;
                let sum = l.binary(BinaryKind::Add, x, inner)?;
                let fresh = self.f(l, 1, sum)?;
                let one = l.like(update, 1.0)?;
                let rest = l.binary(BinaryKind::Sub, one, update)?;
                let new = l.binary(BinaryKind::Mul, rest, fresh)?;
                let kept = l.binary(BinaryKind::Mul, update, h)?;
                Ok((l.binary(BinaryKind::Add, new, kept)?, None))
            }
            (Cell::Lstm { coupled }, Some(c)) => {
                let total = l.binary(BinaryKind::Add, sums, recurrent)?;
                let gate = |l: &mut Lower<'_>, k: usize, f: usize, seen: Option<ValueId>| {
                    let mut sum = self.gate(l, total, k)?;
                    if let (Some(p), Some(cell)) = (self.peepholes, seen) {
                        let peep = l.binary(BinaryKind::Mul, p[k], cell)?;
                        sum = l.binary(BinaryKind::Add, sum, peep)?;
                    }
                    self.f(l, f, sum)
                };
                let input = gate(l, 0, 0, Some(c))?;
                let forget = if coupled {
                    let one = l.like(input, 1.0)?;
                    l.binary(BinaryKind::Sub, one, input)?
                } else {
                    gate(l, 2, 0, Some(c))?
                };
                let fresh = gate(l, 3, 1, None)?;
                let kept = l.binary(BinaryKind::Mul, forget, c)?;
                let new = l.binary(BinaryKind::Mul, input, fresh)?;
                let cell = l.binary(BinaryKind::Add, kept, new)?;
                let output = gate(l, 1, 0, Some(cell))?;
                let seen = activate(l, self.functions[2], cell)?;
                let h = l.binary(BinaryKind::Mul, output, seen)?;
                Ok((h, Some(cell)))
            }
            (Cell::Rnn | Cell::Lstm { .. }, _) => {
                let sum = l.binary(BinaryKind::Add, sums, recurrent)?;
                Ok((self.f(l, 0, sum)?, None))
            }
        }
    }
}

fn activate(l: &mut Lower<'_>, function: CellActivation, x: ValueId) -> Result<ValueId> {
    let unary = |l: &mut Lower<'_>, kind| l.unary(kind, x);
    let activation = |l: &mut Lower<'_>, kind| l.push(Op::Activation(Activation { kind }), &[x]);
    match function {
        CellActivation::Sigmoid => unary(l, UnaryKind::Sigmoid),
        CellActivation::Tanh => unary(l, UnaryKind::Tanh),
        CellActivation::Relu => unary(l, UnaryKind::Relu),
        CellActivation::Softsign => unary(l, UnaryKind::Softsign),
        CellActivation::Softplus => unary(l, UnaryKind::Softplus),
        CellActivation::Affine { alpha, beta } => {
            let scaled = l.with(BinaryKind::Mul, x, f64::from(alpha))?;
            l.with(BinaryKind::Add, scaled, f64::from(beta))
        }
        CellActivation::LeakyRelu { alpha } => activation(l, ActivationKind::LeakyRelu { alpha }),
        CellActivation::Elu { alpha } => activation(l, ActivationKind::Elu { alpha }),
        CellActivation::HardSigmoid { alpha, beta } => {
            activation(l, ActivationKind::HardSigmoid { alpha, beta })
        }
        CellActivation::ThresholdedRelu { alpha } => {
            let above = l.compare_with(CompareKind::Greater, x, f64::from(alpha))?;
            let zero = l.like(x, 0.0)?;
            l.select(above, x, zero)
        }
        CellActivation::ScaledTanh { alpha, beta } => {
            let scaled = l.with(BinaryKind::Mul, x, f64::from(beta))?;
            let tanh = l.unary(UnaryKind::Tanh, scaled)?;
            l.with(BinaryKind::Mul, tanh, f64::from(alpha))
        }
    }
}
