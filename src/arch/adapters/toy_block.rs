//! The predecessor's toy block: one layer of norm, attention without mask or positions, norm, gated feed-forward block; hidden states in and out.

use crate::arch::attention::{Attention, Visibility};
use crate::arch::blocks::{Activation, BlockSpec, Layer, Linear, Mlp, Norm, Norms};
use crate::arch::{Limits, Source, Spec, by_root, head_dim};
use crate::error::Result;
use crate::tensor::num;

/// No length means anything to a block without positions; this bounds a dynamic axis.
const POSITIONS: usize = 16_384;

pub(in crate::arch) fn load(source: &mut Source) -> Result<Spec> {
    let c = &mut source.config;
    let width = c.size("d_model")?;
    let heads = c.size("n_heads")?;
    let head_dim = head_dim(c, "n_heads", width, heads)?;
    let inner = c.size_or("mlp_ratio", 4)? * width;
    let epsilon = c.positive_or("norm_eps", 1e-6)?;
    let w = &mut source.weights;
    let mut linear = |name: &str, inputs, outputs| Linear::load(w, name, inputs, outputs, false);
    let (q, k) = (
        linear("attn.wq", width, width)?,
        linear("attn.wk", width, width)?,
    );
    let (v, o) = (
        linear("attn.wv", width, width)?,
        linear("attn.wo", width, width)?,
    );
    let (gate, up) = (
        linear("mlp.w1", width, inner)?,
        linear("mlp.w3", width, inner)?,
    );
    let down = linear("mlp.w2", inner, width)?;
    let norms = Norms {
        before_attention: Some(Norm::rms(w, "norm1", width, epsilon)?),
        before_mlp: Some(Norm::rms(w, "norm2", width, epsilon)?),
        ..Norms::default()
    };
    Ok(Spec::Block(Box::new(BlockSpec {
        width,
        limits: Limits::soft(POSITIONS),
        layer: Layer {
            module: String::new(),
            norms,
            attention: Attention {
                module: "attn".into(),
                heads,
                kv_heads: heads,
                head_dim,
                q,
                k,
                v,
                o,
                head_norms: None,
                scale: by_root(num::f64_of(head_dim)),
                softcap: None,
                rope: None,
                visibility: Visibility::All,
                disentangled: None,
            },
            mlp: Mlp {
                module: "mlp".into(),
                gate: Some(gate),
                up,
                down,
                activation: Activation::Silu,
            },
        },
    })))
}
