//! What layers are made of: linear maps, norms, activations, gated and plain feed-forward blocks; as data that adapters fill in, and as graph.

use super::attention::{Attention, Masks};
use super::error::ArchError;
use super::graph::{Graph, path};
use super::rope::Tables;
use super::weights::Weights;
use super::{Limits, Options};
use crate::error::Result;
use crate::ir::ops::{LayerNorm, Linear as LinearOp, RmsNorm, UnaryKind};
use crate::ir::{Constant, Dim, Domain, Module, Op, Type, ValueId};
use crate::tensor::DType;

/// `x · Wᵀ + b`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// Name of the checkpoint module.
    pub(crate) module: String,
    pub(crate) weight: Constant,
    pub(crate) bias: Option<Constant>,
}

impl Linear {
    /// The module's `weight` `[outputs, inputs]` and, if asked for, its `bias`.
    pub(crate) fn load(
        weights: &mut Weights,
        module: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Self> {
        let weight = weights.take(&format!("{module}.weight"), &[outputs, inputs])?;
        let bias = match bias {
            true => Some(weights.take(&format!("{module}.bias"), &[outputs])?),
            false => None,
        };
        Ok(Linear {
            module: module.to_owned(),
            weight,
            bias,
        })
    }

    pub(crate) fn build(&self, g: &mut Graph, x: ValueId) -> Result<ValueId> {
        self.build_as(g, &path(&self.module), x)
    }

    /// The same map under another node name, for one that is used twice.
    pub(crate) fn build_as(&self, g: &mut Graph, name: &str, x: ValueId) -> Result<ValueId> {
        let mut operands = vec![x, g.b.constant(self.weight.clone())];
        if let Some(bias) = &self.bias {
            operands.push(g.b.constant(bias.clone()));
        }
        g.b.push(name, Op::Linear(LinearOp), &operands)
    }
}

/// Which mean a norm divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// Root mean square.
    Rms,
    /// Mean and variance.
    Layer,
}

/// Normalisation of the last axis.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    /// Name of the checkpoint module.
    pub(crate) module: String,
    pub(crate) kind: NormKind,
    pub(crate) gain: Constant,
    pub(crate) shift: Option<Constant>,
    pub(crate) epsilon: f64,
}

impl Norm {
    /// Root-mean-square norm with gain `weight`.
    pub(crate) fn rms(
        weights: &mut Weights,
        module: &str,
        width: usize,
        epsilon: f64,
    ) -> Result<Self> {
        Ok(Norm {
            module: module.to_owned(),
            kind: NormKind::Rms,
            gain: weights.take(&format!("{module}.weight"), &[width])?,
            shift: None,
            epsilon,
        })
    }

    /// Root-mean-square norm with gain `1 + weight`.
    pub(crate) fn rms_plus_one(
        weights: &mut Weights,
        module: &str,
        width: usize,
        epsilon: f64,
    ) -> Result<Self> {
        Ok(Norm {
            module: module.to_owned(),
            kind: NormKind::Rms,
            gain: weights.take_plus_one(&format!("{module}.weight"), width)?,
            shift: None,
            epsilon,
        })
    }

    /// Layer norm with `weight` and `bias`, in old checkpoints `gamma` and `beta`.
    pub(crate) fn layer(
        weights: &mut Weights,
        module: &str,
        width: usize,
        epsilon: f64,
    ) -> Result<Self> {
        let old = weights.has(&format!("{module}.gamma"));
        let (gain, shift) = if old {
            ("gamma", "beta")
        } else {
            ("weight", "bias")
        };
        Ok(Norm {
            module: module.to_owned(),
            kind: NormKind::Layer,
            gain: weights.take(&format!("{module}.{gain}"), &[width])?,
            shift: Some(weights.take(&format!("{module}.{shift}"), &[width])?),
            epsilon,
        })
    }

    pub(crate) fn build(&self, g: &mut Graph, x: ValueId) -> Result<ValueId> {
        let axis = g.b.ty(x).rank().saturating_sub(1);
        let mut operands = vec![x, g.b.constant(self.gain.clone())];
        if let Some(shift) = &self.shift {
            operands.push(g.b.constant(shift.clone()));
        }
        let epsilon = self.epsilon;
        let op = match self.kind {
            NormKind::Rms => Op::RmsNorm(RmsNorm { axis, epsilon }),
            NormKind::Layer => Op::LayerNorm(LayerNorm { axis, epsilon }),
        };
        g.b.push(&path(&self.module), op, &operands)
    }
}

/// Elementwise functions between linear maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    Silu,
    GeluErf,
    GeluTanh,
    QuickGelu,
    Relu,
    Relu2,
    Tanh,
    Sigmoid,
}

impl Activation {
    /// Names in configs. The several spellings of the tanh form are one function written in several ways.
    const NAMES: &'static [(&'static str, Activation)] = &[
        ("silu", Activation::Silu),
        ("swish", Activation::Silu),
        ("gelu", Activation::GeluErf),
        ("gelu_python", Activation::GeluErf),
        ("gelu_new", Activation::GeluTanh),
        ("gelu_fast", Activation::GeluTanh),
        ("gelu_accurate", Activation::GeluTanh),
        ("gelu_pytorch_tanh", Activation::GeluTanh),
        ("gelu_python_tanh", Activation::GeluTanh),
        ("quick_gelu", Activation::QuickGelu),
        ("relu", Activation::Relu),
        ("relu2", Activation::Relu2),
        ("tanh", Activation::Tanh),
        ("sigmoid", Activation::Sigmoid),
    ];

    /// The function that a config's `key` names as `name`.
    pub(crate) fn named(key: &str, name: &str) -> Result<Self, ArchError> {
        let row = Activation::NAMES.iter().find(|(n, _)| *n == name);
        row.map(|(_, activation)| *activation)
            .ok_or_else(|| ArchError::UnsupportedValue {
                key: key.to_owned(),
                found: format!("`{name}`"),
                supported: Activation::NAMES
                    .iter()
                    .map(|(n, _)| format!("`{n}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    pub(crate) fn build(self, g: &mut Graph, name: &str, x: ValueId) -> Result<ValueId> {
        let kind = match self {
            Activation::Silu => UnaryKind::Silu,
            Activation::GeluErf => UnaryKind::GeluErf,
            Activation::GeluTanh => UnaryKind::GeluTanh,
            Activation::Relu => UnaryKind::Relu,
            Activation::Tanh => UnaryKind::Tanh,
            Activation::Sigmoid => UnaryKind::Sigmoid,
            Activation::QuickGelu => {
                let scaled = g.scale(&format!("{name}/scaled"), x, 1.702)?;
                let gate =
                    g.b.unary(&format!("{name}/sigmoid"), UnaryKind::Sigmoid, scaled)?;
                return g.mul(name, x, gate);
            }
            Activation::Relu2 => {
                let positive = g.b.unary(&format!("{name}/relu"), UnaryKind::Relu, x)?;
                return g.mul(name, positive, positive);
            }
        };
        g.b.unary(name, kind, x)
    }
}

/// Feed-forward block: `down(act(gate(x)) · up(x))`, or `down(act(up(x)))` without a gate.
#[derive(Clone, Debug)]
pub(crate) struct Mlp {
    /// Name of the checkpoint module.
    pub(crate) module: String,
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) activation: Activation,
}

impl Mlp {
    fn build(&self, g: &mut Graph, x: ValueId) -> Result<ValueId> {
        let scope = path(&self.module);
        let up = self.up.build(g, x)?;
        let act = format!("{scope}/act");
        let inner = match &self.gate {
            Some(gate) => {
                let gate = gate.build(g, x)?;
                let gate = self.activation.build(g, &act, gate)?;
                g.mul(&format!("{scope}/gated"), gate, up)?
            }
            None => self.activation.build(g, &act, up)?,
        };
        self.down.build(g, inner)
    }
}

/// Where a layer normalises: before each block, after it, and after the residual sum. Each place may have a norm or none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Norms {
    pub(crate) before_attention: Option<Norm>,
    pub(crate) after_attention: Option<Norm>,
    pub(crate) after_attention_sum: Option<Norm>,
    pub(crate) before_mlp: Option<Norm>,
    pub(crate) after_mlp: Option<Norm>,
    pub(crate) after_mlp_sum: Option<Norm>,
}

/// One layer: attention and a feed-forward block, each with a residual connection.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Name of the checkpoint module.
    pub(crate) module: String,
    pub(crate) norms: Norms,
    pub(crate) attention: Attention,
    pub(crate) mlp: Mlp,
}

impl Layer {
    pub(crate) fn build(
        &self,
        g: &mut Graph,
        masks: &mut Masks,
        tables: &Tables,
        x: ValueId,
    ) -> Result<ValueId> {
        let scope = path(&self.module);
        let joined = |name: &str| match scope.as_str() {
            "" => name.to_owned(),
            scope => format!("{scope}/{name}"),
        };
        let inner = optional(g, &self.norms.before_attention, x)?;
        let inner = self.attention.build(g, masks, tables, inner)?;
        let inner = optional(g, &self.norms.after_attention, inner)?;
        let x = g.add(&joined("attention_residual"), x, inner)?;
        let x = optional(g, &self.norms.after_attention_sum, x)?;
        let inner = optional(g, &self.norms.before_mlp, x)?;
        let inner = self.mlp.build(g, inner)?;
        let inner = optional(g, &self.norms.after_mlp, inner)?;
        let x = g.add(&joined("mlp_residual"), x, inner)?;
        optional(g, &self.norms.after_mlp_sum, x)
    }
}

fn optional(g: &mut Graph, norm: &Option<Norm>, x: ValueId) -> Result<ValueId> {
    match norm {
        Some(norm) => norm.build(g, x),
        None => Ok(x),
    }
}

/// A layer alone, from hidden states to hidden states.
#[derive(Clone, Debug)]
pub(crate) struct BlockSpec {
    pub(crate) width: usize,
    pub(crate) limits: Limits,
    pub(crate) layer: Layer,
}

impl BlockSpec {
    /// The graph, named `name`, from `x` to `y`, both `[batch, seq, width]`.
    pub(crate) fn build(
        self,
        name: &str,
        options: &Options,
        warnings: &mut Vec<String>,
    ) -> Result<Module> {
        let (batch, seq) = (&options.batch, &options.seq);
        let mut g = Graph::new(name, batch, seq, &self.limits, warnings)?;
        let shape = vec![g.batch.clone(), g.seq.clone(), Dim::from(self.width)];
        let x = g.b.param("x", Type::new(DType::F32, shape), Domain::Any)?;
        let tables = Tables::build(&mut g, self.layer.attention.rope)?;
        let y = self
            .layer
            .build(&mut g, &mut Masks::new(None), &tables, x)?;
        g.b.output("y", y)?;
        g.b.finish()
    }
}
