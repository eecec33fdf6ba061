//! An `lstm` whose cell is clipped, step by step: the clipped cell is what the next step sees, which no recurrent layer elsewhere does.

use super::Importer;
use super::call::Call;
use super::elementwise::{op1, op2};
use super::entry::Entry;
use crate::error::Result;
use crate::ir::ops::{
    Activation, ActivationKind, BinaryKind, CellActivation, Clip, Concat, Linear, Reshape, Slice,
    SliceRange, UnaryKind,
};
use crate::ir::{Constant, Dim, Op, ValueId};
use crate::limits;
use crate::tensor::{DType, Tensor};

/// The parameters of one direction, gates in the order input, forget, output, cell.
pub(super) struct Direction {
    /// `[4 · H, I]`
    pub(super) w: Tensor,
    /// `[4 · H, H]`
    pub(super) r: Tensor,
    /// `[4 · H]`
    pub(super) b: Tensor,
    /// `[3 · H]`: input, forget, output.
    pub(super) peephole: Option<Tensor>,
    /// Whether time runs backwards.
    pub(super) reverse: bool,
}

/// Activations of the gates, of the cell's input, of the output; and the bound of the cell.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) gates: CellActivation,
    pub(super) cell: CellActivation,
    pub(super) output: CellActivation,
    pub(super) clip: f32,
}

fn constant(importer: &mut Importer<'_>, call: &Call, tensor: &Tensor) -> Result<ValueId> {
    let name = format!("{}/weight", call.name);
    Ok(importer
        .builder
        .constant(Constant::from_tensor(&name, tensor)?))
}

fn activated(
    importer: &mut Importer<'_>,
    call: &Call,
    kind: CellActivation,
    x: ValueId,
) -> Result<ValueId> {
    let unit = |kind| Op::Activation(Activation { kind });
    let op = match kind {
        CellActivation::Sigmoid => op1(UnaryKind::Sigmoid),
        CellActivation::Tanh => op1(UnaryKind::Tanh),
        CellActivation::Relu => op1(UnaryKind::Relu),
        CellActivation::HardSigmoid { alpha, beta } => {
            unit(ActivationKind::HardSigmoid { alpha, beta })
        }
        CellActivation::Softsign => op1(UnaryKind::Softsign),
        CellActivation::Softplus => op1(UnaryKind::Softplus),
        CellActivation::Elu { alpha } => unit(ActivationKind::Elu { alpha }),
        CellActivation::LeakyRelu { alpha } => unit(ActivationKind::LeakyRelu { alpha }),
        CellActivation::ScaledTanh { alpha, beta } => {
            let beta = importer.scalar(call, "beta", DType::F32, f64::from(beta))?;
            let alpha = importer.scalar(call, "alpha", DType::F32, f64::from(alpha))?;
            let x = importer.step(call, "scaled", op2(BinaryKind::Mul), &[x, beta])?;
            let x = importer.step(call, "tanh", op1(UnaryKind::Tanh), &[x])?;
            return importer.step(call, "act", op2(BinaryKind::Mul), &[x, alpha]);
        }
        CellActivation::Affine { alpha, beta } => {
            if alpha == 1.0 && beta == 0.0 {
                return Ok(x);
            }
            let alpha = importer.scalar(call, "alpha", DType::F32, f64::from(alpha))?;
            let beta = importer.scalar(call, "beta", DType::F32, f64::from(beta))?;
            let x = importer.step(call, "scaled", op2(BinaryKind::Mul), &[x, alpha])?;
            return importer.step(call, "act", op2(BinaryKind::Add), &[x, beta]);
        }
        CellActivation::ThresholdedRelu { .. } => {
            return Err(call
                .unsupported("activation", "a thresholded relu beside a clip")
                .into());
        }
    };
    importer.step(call, "act", op, &[x])
}

fn part(
    importer: &mut Importer<'_>,
    call: &Call,
    x: ValueId,
    axis: usize,
    from: usize,
    to: usize,
) -> Result<ValueId> {
    let ranges = vec![SliceRange::new(axis, from, to)];
    importer.step(call, "part", Op::Slice(Slice { ranges }), &[x])
}

/// Reads the layer: `x [T, B, I]`, states `[B, D · H]`, all in single precision. Gives the steps' outputs `[T, B, D · H]` and the last states.
pub(super) fn unrolled(
    importer: &mut Importer<'_>,
    call: &Call,
    x: ValueId,
    (h0, c0): (ValueId, ValueId),
    directions: &[Direction],
    shape: Shape,
) -> Result<[ValueId; 3]> {
    let ty = importer.ty(x);
    let steps = ty.shape[0]
        .known()
        .filter(|&t| (1..=limits::CLIPPED_STEPS).contains(&t));
    let Some(steps) = steps else {
        let found = format!("a clip over {} steps", ty.shape[0]);
        return Err(call.unsupported("clip", found).into());
    };
    let (batch, width) = (ty.shape[1].clone(), ty.shape[2].clone());
    let (mut sequences, mut hs, mut cs) = (Vec::new(), Vec::new(), Vec::new());
    for (d, direction) in directions.iter().enumerate() {
        let hidden = direction.r.shape()[1];
        let w = constant(importer, call, &direction.w)?;
        let r = constant(importer, call, &direction.r)?;
        let b = constant(importer, call, &direction.b)?;
        let peepholes = match &direction.peephole {
            None => None,
            Some(p) => {
                let p = constant(importer, call, p)?;
                let mut each = Vec::with_capacity(3);
                for gate in 0..3 {
                    each.push(part(
                        importer,
                        call,
                        p,
                        0,
                        gate * hidden,
                        (gate + 1) * hidden,
                    )?);
                }
                Some(each)
            }
        };
        let mut h = part(importer, call, h0, 1, d * hidden, (d + 1) * hidden)?;
        let mut c = part(importer, call, c0, 1, d * hidden, (d + 1) * hidden)?;
        let mut outputs = vec![h; steps];
        for step in 0..steps {
            let t = if direction.reverse {
                steps - 1 - step
            } else {
                step
            };
            let xt = part(importer, call, x, 0, t, t + 1)?;
            let flat = Op::Reshape(Reshape {
                shape: vec![batch.clone(), width.clone()],
            });
            let xt = importer.step(call, "input", flat, &[xt])?;
            let from_x = importer.step(call, "from_x", Op::Linear(Linear), &[xt, w, b])?;
            let from_h = importer.step(call, "from_h", Op::Linear(Linear), &[h, r])?;
            let sums = importer.step(call, "sums", op2(BinaryKind::Add), &[from_x, from_h])?;
            let gate = |importer: &mut Importer<'_>, at: usize, c: ValueId| -> Result<ValueId> {
                let mut sum = part(importer, call, sums, 1, at * hidden, (at + 1) * hidden)?;
                if let Some(&p) = peepholes.as_ref().and_then(|p| p.get(at)) {
                    let seen = importer.step(call, "seen", op2(BinaryKind::Mul), &[c, p])?;
                    sum = importer.step(call, "sum", op2(BinaryKind::Add), &[sum, seen])?;
                }
                let kind = if at == 3 { shape.cell } else { shape.gates };
                activated(importer, call, kind, sum)
            };
            let i = gate(importer, 0, c)?;
            let f = gate(importer, 1, c)?;
            let z = gate(importer, 3, c)?;
            let kept = importer.step(call, "kept", op2(BinaryKind::Mul), &[c, f])?;
            let new = importer.step(call, "new", op2(BinaryKind::Mul), &[i, z])?;
            c = importer.step(call, "cell", op2(BinaryKind::Add), &[kept, new])?;
            let clip = Op::Clip(Clip {
                min: -shape.clip,
                max: shape.clip,
            });
            c = importer.step(call, "clipped", clip, &[c])?;
            let o = gate(importer, 2, c)?;
            let out = activated(importer, call, shape.output, c)?;
            h = importer.step(call, "hidden", op2(BinaryKind::Mul), &[o, out])?;
            // Both directions of one layer are kept at their time, a single one in the order of its steps.
            let at = if directions.len() > 1 { t } else { step };
            outputs[at] = h;
        }
        let row = vec![Dim::from(1), batch.clone(), Dim::from(hidden)];
        let mut rows = Vec::with_capacity(steps);
        for output in outputs {
            let shape = row.clone();
            rows.push(importer.step(call, "row", Op::Reshape(Reshape { shape }), &[output])?);
        }
        sequences.push(importer.step(call, "rows", Op::Concat(Concat { axis: 0 }), &rows)?);
        hs.push(h);
        cs.push(c);
    }
    let mut joined = |axis: usize, parts: &[ValueId]| -> Result<ValueId> {
        match parts {
            [one] => Ok(*one),
            many => importer.step(call, "joined", Op::Concat(Concat { axis }), many),
        }
    };
    Ok([joined(2, &sequences)?, joined(1, &hs)?, joined(1, &cs)?])
}

/// The results as entries, rounded to `dtype`; only the last step unless the whole sequence is asked for.
pub(super) fn results(
    importer: &mut Importer<'_>,
    call: &Call,
    [y, h, c]: [ValueId; 3],
    sequence: bool,
    dtype: DType,
) -> Result<Vec<Entry>> {
    let y = if sequence {
        y
    } else {
        let mut shape = importer.ty(h).shape;
        shape.insert(0, Dim::from(1));
        importer.step(call, "only", Op::Reshape(Reshape { shape }), &[h])?
    };
    let mut out = Vec::with_capacity(3);
    for v in [y, h, c] {
        let v = importer.cast(call, "rounded", v, dtype)?;
        out.push(importer.entry(v));
    }
    Ok(out)
}
