//! Batch norms, scales and biases by constants, folded into the convolution or matrix product before them.
// What a pattern does not name is no part of it: a new operation is left alone.
#![allow(clippy::wildcard_enum_match_arm)]

use super::graph::{Graph, Match};
use super::rewrite::Rewrite;
use crate::error::Result;
use crate::ir::ops::{BatchNorm, Binary, BinaryKind, Linear, Squeeze};
use crate::ir::{Constant, Node, Op, ValueId};
use crate::limits::FOLDED_ELEMENTS;
use crate::tensor::{DType, Tensor, num};

/// Most operations that are folded into one product.
const STEPS: usize = 16;

/// `scale · y + shift` per channel of a product `y`.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

/// How a product's weight lies.
#[derive(Clone, Copy)]
enum Base {
    /// `[O, …]`
    Conv,
    /// `[C, O/groups, …]`
    Transposed { groups: usize },
    /// `[O, in]`
    Linear,
    /// `[in, O]`, or `[O, in]` when it is transposed.
    MatMul { transposed: bool },
}

/// What is folded, at the last node of it.
struct Folding {
    x: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
    base: Base,
    op: Op,
    squeezed: Option<Vec<usize>>,
    affine: Affine,
}

/// A product by constants with operations behind it that fold into them, the last of which is `root`.
///
/// Scales are folded into weights of `f32` only: rounding a 16-bit weight again would lose what the separate scale keeps. Biases are folded
/// whatever the type. Weights of more than the cap on folded constants and compressed ones, which a scale would expand, keep their scale apart.
pub(super) fn find(g: &Graph<'_>, root: ValueId) -> Option<Match> {
    let mut steps = Vec::new();
    let mut v = root;
    let (node, base) = loop {
        let node = g.node(v)?;
        if let Some(base) = base(g, node) {
            break (node, base);
        }
        steps.push(v);
        v = step_operand(g, node)?;
        if steps.len() > STEPS {
            return None;
        }
    };
    let channels = channels(g, node, base)?;
    let mut affine = Affine {
        scale: vec![1.0; channels],
        shift: vec![0.0; channels],
    };
    let (mut squeezed, mut labels) = (None, Vec::new());
    for &step in steps.iter().rev() {
        let node = g.node(step)?;
        if let Op::Squeeze(Squeeze { axes }) = &node.op {
            // Only the spatial axes of one convolution, once.
            let spatial = matches!(base, Base::Conv | Base::Transposed { .. });
            if !spatial || squeezed.is_some() || axes.iter().any(|a| *a < 2) {
                return None;
            }
            squeezed = Some(axes.clone());
            continue;
        }
        labels.push(affine.then(g, node, base)?);
    }
    let scaled = affine.scale.iter().any(|s| *s != 1.0);
    let finite = affine
        .scale
        .iter()
        .chain(&affine.shift)
        .all(|n| n.is_finite());
    let weight = g.constant(node.operands[1])?;
    if labels.is_empty()
        || !finite
        || scaled && (weight.dtype() != DType::F32 || weight.is_compressed())
        || scaled && num::u64_of(weight.len()) > FOLDED_ELEMENTS.get()
    {
        return None;
    }
    let folding = Folding {
        x: node.operands[0],
        weight: node.operands[1],
        bias: node.operands.get(2).copied(),
        base,
        op: node.op.clone(),
        squeezed,
        affine,
    };
    Some(Match {
        labels,
        leaves: vec![folding.x],
        emit: Box::new(move |rewrite, name| folding.emit(rewrite, name)),
    })
}

/// The product that a node is, if its weight and bias are constants.
fn base(g: &Graph<'_>, node: &Node) -> Option<Base> {
    let base = if let Op::Conv(_) = node.op {
        Base::Conv
    } else if let Op::ConvTranspose(o) = &node.op {
        Base::Transposed { groups: o.groups }
    } else if let Op::Linear(_) = node.op {
        Base::Linear
    } else if let Op::MatMul(o) = node.op
        && !o.transpose_a
        && g.ty(node.operands[1]).rank() == 2
        && g.ty(node.operands[0]).dtype.is_float()
    {
        Base::MatMul {
            transposed: o.transpose_b,
        }
    } else {
        return None;
    };
    let constants = node.operands.iter().skip(1);
    (g.constant(node.operands[0]).is_none()
        && constants.into_iter().all(|&v| g.constant(v).is_some()))
    .then_some(base)
}

/// The operand of an operation that may fold.
fn step_operand(g: &Graph<'_>, node: &Node) -> Option<ValueId> {
    match &node.op {
        Op::BatchNorm(_) | Op::Squeeze(_) => Some(node.operands[0]),
        Op::Binary(Binary { kind }) => {
            let &[a, b] = node.operands.as_slice() else {
                return None;
            };
            match kind {
                BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul => {
                    if g.constant(b).is_some() {
                        Some(a)
                    } else {
                        g.constant(a).map(|_| b)
                    }
                }
                BinaryKind::Div => g.constant(b).map(|_| a),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The number of output channels.
fn channels(g: &Graph<'_>, node: &Node, base: Base) -> Option<usize> {
    let shape = &g.ty(node.result()).shape;
    let axis = match base {
        Base::Conv | Base::Transposed { .. } => 1,
        Base::Linear | Base::MatMul { .. } => shape.len().checked_sub(1)?,
    };
    shape.get(axis)?.known()
}

impl Affine {
    /// Takes one more operation in; says what it is.
    fn then(&mut self, g: &Graph<'_>, node: &Node, base: Base) -> Option<&'static str> {
        let ty = g.ty(node.result());
        let axis = match base {
            Base::Conv | Base::Transposed { .. } => 1,
            Base::Linear | Base::MatMul { .. } => ty.rank().checked_sub(1)?,
        };
        let channels = self.scale.len();
        let constant = |v: ValueId| per_channel(g, v, ty.rank(), axis, channels);
        if let Op::BatchNorm(BatchNorm { epsilon }) = node.op {
            // Its channels are axis 1, the product's too.
            if axis != 1 {
                return None;
            }
            let vector = |i: usize| -> Option<Vec<f64>> {
                let values = g.constant(node.operands[i])?.read().ok()?.to_f64();
                (values.len() == channels).then_some(values)
            };
            let (mean, variance) = (vector(1)?, vector(2)?);
            let (gamma, beta) = (vector(3)?, vector(4)?);
            for c in 0..channels {
                let k = gamma[c] / (variance[c] + epsilon).sqrt();
                self.scale[c] *= k;
                self.shift[c] = (self.shift[c] - mean[c]) * k + beta[c];
            }
            return Some("batch_norm");
        }
        let Op::Binary(Binary { kind }) = node.op else {
            return None;
        };
        let (first, other) = if g.constant(node.operands[1]).is_some() {
            (true, node.operands[1])
        } else {
            (false, node.operands[0])
        };
        let product = node.operands[usize::from(!first)];
        if g.ty(product) != ty {
            return None;
        }
        let constant = constant(other)?;
        for ((scale, shift), n) in self.scale.iter_mut().zip(&mut self.shift).zip(constant) {
            match kind {
                BinaryKind::Add => *shift += n,
                BinaryKind::Sub if first => *shift -= n,
                BinaryKind::Sub => (*scale, *shift) = (-*scale, n - *shift),
                BinaryKind::Mul => (*scale, *shift) = (*scale * n, *shift * n),
                BinaryKind::Div => (*scale, *shift) = (*scale / n, *shift / n),
                _ => return None,
            }
        }
        Some(match kind {
            BinaryKind::Add | BinaryKind::Sub => "bias",
            _ => "scale",
        })
    }
}

/// A constant that varies along one axis only, as one number per channel.
fn per_channel(
    g: &Graph<'_>,
    v: ValueId,
    rank: usize,
    axis: usize,
    channels: usize,
) -> Option<Vec<f64>> {
    let shape = &g.ty(v).shape;
    let missing = rank.checked_sub(shape.len())?;
    let mut other = shape.iter().enumerate();
    if !other.all(|(i, d)| i + missing == axis || d.integer() == Some(1)) {
        return None;
    }
    let values = g.constant(v)?.read().ok()?.to_f64();
    match values.as_slice() {
        [n] => Some(vec![*n; channels]),
        _ => (values.len() == channels).then_some(values),
    }
}

impl Folding {
    fn emit(&self, rewrite: &mut Rewrite<'_>, name: &str) -> Result<ValueId> {
        let mut operands = vec![rewrite.get(self.x), self.weight(rewrite)?];
        if let Some(bias) = self.bias(rewrite, name)? {
            operands.push(bias);
        }
        let op = match self.base {
            Base::MatMul { .. } => Op::Linear(Linear),
            Base::Conv | Base::Transposed { .. } | Base::Linear => self.op.clone(),
        };
        let Some(axes) = &self.squeezed else {
            return rewrite.builder.push(name, op, &operands);
        };
        let y = rewrite
            .builder
            .push(&format!("{name}/conv"), op, &operands)?;
        let op = Op::Squeeze(Squeeze { axes: axes.clone() });
        rewrite.builder.push(name, op, &[y])
    }

    /// The weight with the scale in it, for the operation that it becomes part of.
    fn weight(&self, rewrite: &mut Rewrite<'_>) -> Result<ValueId> {
        let value = rewrite.get(self.weight);
        let Some(mut weight) = rewrite.builder.as_constant(value).cloned() else {
            return Ok(value);
        };
        if let Base::MatMul { transposed: false } = self.base {
            weight = weight.transpose()?;
        }
        if self.affine.scale.iter().any(|s| *s != 1.0) {
            weight = self.scaled(&weight)?;
        }
        Ok(rewrite.builder.constant(weight))
    }

    fn scaled(&self, weight: &Constant) -> Result<Constant> {
        let tensor = weight.read()?;
        let shape = tensor.shape().to_vec();
        // Elements that share an output channel lie together; in a transposed convolution one after the other within each input channel.
        let skip = usize::from(matches!(self.base, Base::Transposed { .. }));
        let (outer, rows) = if skip == 1 {
            (shape[0], shape[1])
        } else {
            (1, shape[0])
        };
        let inner: usize = shape.iter().skip(1 + skip).product();
        let mut values = tensor.floats()?.to_vec();
        for (i, row) in values.chunks_exact_mut(inner.max(1)).enumerate() {
            let (input, output) = (i / rows.max(1), i % rows.max(1));
            let group = match self.base {
                Base::Transposed { groups } => input * groups / outer.max(1),
                Base::Conv | Base::Linear | Base::MatMul { .. } => 0,
            };
            let scale = self.affine.scale[group * rows + output];
            for x in row {
                *x = num::f32_of_f64(f64::from(*x) * scale);
            }
        }
        let tensor = Tensor::float(tensor.dtype(), shape, values)?;
        Constant::from_tensor(weight.name(), &tensor)
    }

    /// The bias with scale and shift in it; none when it would be all zeros.
    fn bias(&self, rewrite: &mut Rewrite<'_>, name: &str) -> Result<Option<ValueId>> {
        let old = self.bias.map(|b| rewrite.get(b));
        let constant = old.and_then(|b| rewrite.builder.as_constant(b)).cloned();
        let x = rewrite.get(self.x);
        let dtype = rewrite.builder.ty(x).dtype;
        let before = match &constant {
            Some(bias) => bias.read()?.to_f64(),
            None => vec![0.0; self.affine.scale.len()],
        };
        let parts = before
            .iter()
            .zip(&self.affine.scale)
            .zip(&self.affine.shift);
        let values: Vec<f32> = parts
            .map(|((b, scale), shift)| num::f32_of_f64(b * scale + shift))
            .collect();
        if constant.is_none() && values.iter().all(|b| *b == 0.0) {
            return Ok(None);
        }
        let name = constant.map_or_else(|| format!("{name}/bias"), |b| b.name().to_owned());
        let tensor = Tensor::f32(vec![values.len()], values)?.cast(dtype);
        let bias = Constant::from_tensor(&name, &tensor)?;
        Ok(Some(rewrite.builder.constant(bias)))
    }
}
