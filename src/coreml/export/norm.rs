//! Normalisation. Core ML has no root-mean-square normalisation; what it is made of is a choice, see [`RmsNormForm`].

use super::RmsNormForm;
use super::elementwise::{cast_step, tiny};
use super::emit::{Arg, Emitter, Var};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::ops::{LayerNorm, RmsNorm};
use crate::ir::{Dim, Node, Type};
use crate::tensor::{DType, Storage, Tensor, num};

/// Smallest positive half-precision number: what an epsilon becomes that would round to 0.
const F16_TINY: f32 = 5.960_464_5e-8;
/// What the largest magnitude of a row is at least taken to be in the scaled form: 2⁻¹⁴, the smallest normal half-precision number.
const SCALE_FLOOR: f64 = 6.103_515_625e-5;

pub(super) fn layer_norm(e: &mut Emitter<'_>, op: &LayerNorm, operands: &[Var]) -> Result<()> {
    let [x, parameters @ ..] = operands else {
        return Ok(());
    };
    // The parameters of one normalisation share an element type.
    let dtype = match parameters.first() {
        Some(gamma) => gamma.ty.dtype,
        None if e.opset >= Opset::CoreML7 => DType::F32,
        None => x.ty.dtype,
    };
    let axes = Arg::Ints((op.axis..x.ty.rank()).collect());
    let mut params = vec![
        ("x", Arg::Var(x)),
        ("axes", axes),
        ("epsilon", epsilon(dtype, op.epsilon)),
    ];
    for (name, var) in ["gamma", "beta"].into_iter().zip(parameters) {
        params.push((name, Arg::Var(var)));
    }
    e.finish("layer_norm", &params)
}

pub(super) fn epsilon(dtype: DType, x: f64) -> Arg<'static> {
    let vanishes = x > 0.0 && num::round_f16(num::f32_of_f64(x)) == 0.0;
    if dtype == DType::F16 && vanishes {
        Arg::Float(dtype, f64::from(F16_TINY))
    } else {
        Arg::Float(dtype, x)
    }
}

pub(super) fn rms_norm(
    e: &mut Emitter<'_>,
    op: &RmsNorm,
    node: &Node,
    operands: &[Var],
) -> Result<()> {
    let [x, gamma @ ..] = operands else {
        return Ok(());
    };
    let gamma = gamma.first();
    let last = op.axis + 1 == x.ty.rank();
    // A gain that is computed cannot be doubled, and a doubled row is one axis.
    let constant = node.operands[1..]
        .iter()
        .all(|&v| e.as_constant(v).is_some());
    let form = if x.ty.dtype == DType::F16 {
        e.rms_norm
    } else {
        RmsNormForm::Fp32
    };
    match form {
        RmsNormForm::Concat if last && constant => concat(e, op, node, x),
        RmsNormForm::Scaled => scaled(e, op, x, gamma),
        RmsNormForm::Concat | RmsNormForm::Fp32 => plain(e, op, x, gamma),
    }
}

/// Layer normalisation of `[x, −x]`: its mean is exactly 0 and its variance the mean of squares.
fn concat(e: &mut Emitter<'_>, op: &RmsNorm, node: &Node, x: &Var) -> Result<()> {
    let axis = op.axis;
    let dtype = x.ty.dtype;
    let mut wide = x.ty.clone();
    wide.shape[axis] = wide.shape[axis].add(&x.ty.shape[axis]);
    let minus = e.scalar("minus", dtype, -1.0)?;
    let params = [("x", Arg::Var(x)), ("y", Arg::Var(&minus))];
    let negated = e.step("negated", "mul", x.ty.clone(), &params)?;
    let halves = [x.clone(), negated];
    let params = [
        ("values", Arg::Vars(&halves)),
        ("axis", Arg::Int(axis)),
        ("interleave", Arg::Bool(false)),
    ];
    let doubled = e.step("doubled", "concat", wide.clone(), &params)?;
    let gain = match node.operands.get(1).and_then(|&v| e.as_constant(v)) {
        None => None,
        Some(constant) => {
            let tensor = twice(&constant.read()?)?;
            Some(e.tensor("gain", &tensor)?)
        }
    };
    let eps_dtype = match gain {
        Some(_) => dtype,
        None if e.opset >= Opset::CoreML7 => DType::F32,
        None => dtype,
    };
    let mut params = vec![
        ("x", Arg::Var(&doubled)),
        ("axes", Arg::Ints(vec![axis])),
        ("epsilon", epsilon(eps_dtype, op.epsilon)),
    ];
    params.extend(gain.iter().map(|g| ("gamma", Arg::Var(g))));
    let normed = e.step("normed", "layer_norm", wide, &params)?;
    let rank = x.ty.rank();
    let mut end = vec![Dim::from(0); rank];
    end[axis] = x.ty.shape[axis].clone();
    let mut end_mask = vec![true; rank];
    end_mask[axis] = false;
    let begin = e.sizes("begin", &vec![Dim::from(0); rank])?;
    let end = e.sizes("end", &end)?;
    let params = [
        ("x", Arg::Var(&normed)),
        ("begin", Arg::Var(&begin)),
        ("end", Arg::Var(&end)),
        ("stride", Arg::Ints(vec![1; rank])),
        ("begin_mask", Arg::Bools(vec![true; rank])),
        ("end_mask", Arg::Bools(end_mask)),
    ];
    e.finish("slice_by_index", &params)
}

/// A vector, followed by itself.
fn twice(tensor: &Tensor) -> Result<Tensor> {
    let n = tensor.len();
    let twice = match tensor.storage() {
        Storage::Float(v) => Tensor::float(tensor.dtype(), vec![2 * n], v.repeat(2))?,
        Storage::Int(v) => Tensor::int(tensor.dtype(), vec![2 * n], v.repeat(2))?,
        Storage::Bool(v) => Tensor::bool(vec![2 * n], v.repeat(2))?,
    };
    Ok(twice)
}

/// `[B, T, D]` → `[B, T, 1]`: the type of a reduction over the normalised axes.
fn reduced(x: &Type, axis: usize) -> Type {
    let mut ty = x.clone();
    ty.shape[axis..].fill(Dim::from(1));
    ty
}

fn over(x: &Var, axis: usize) -> [(&'static str, Arg<'_>); 3] {
    [
        ("x", Arg::Var(x)),
        ("axes", Arg::Ints((axis..x.ty.rank()).collect())),
        ("keep_dims", Arg::Bool(true)),
    ]
}

fn two<'p>(x: &'p Var, y: &'p Var) -> [(&'p str, Arg<'p>); 2] {
    [("x", Arg::Var(x)), ("y", Arg::Var(y))]
}

/// `x · rsqrt(mean(x²) + ε) · gain` in single precision; half-precision values are cast there and back.
fn plain(e: &mut Emitter<'_>, op: &RmsNorm, x: &Var, gamma: Option<&Var>) -> Result<()> {
    let narrow = x.ty.dtype != DType::F32;
    let x = if narrow {
        cast_step(e, "wide", x, DType::F32)?
    } else {
        x.clone()
    };
    let gamma = match gamma {
        Some(g) if narrow => Some(cast_step(e, "wide_gain", g, DType::F32)?),
        Some(g) => Some(g.clone()),
        None => None,
    };
    let (wide, one) = (x.ty.clone(), reduced(&x.ty, op.axis));
    let squares = e.step("squares", "mul", wide.clone(), &two(&x, &x))?;
    let mean = e.step("mean", "reduce_mean", one.clone(), &over(&squares, op.axis))?;
    let eps = e.scalar("epsilon", DType::F32, op.epsilon)?;
    let sum = e.step("shifted", "add", one.clone(), &two(&mean, &eps))?;
    let params = [("x", Arg::Var(&sum)), ("epsilon", tiny(e, DType::F32))];
    let scale = e.step("scale", "rsqrt", one, &params)?;
    last_steps(e, &x, &scale, gamma.as_ref(), narrow)
}

/// The row is divided by its largest magnitude first, and so is the epsilon, twice: no square overflows half precision.
fn scaled(e: &mut Emitter<'_>, op: &RmsNorm, x: &Var, gamma: Option<&Var>) -> Result<()> {
    let dtype = x.ty.dtype;
    let (wide, one) = (x.ty.clone(), reduced(&x.ty, op.axis));
    let abs = e.step("abs", "abs", wide.clone(), &[("x", Arg::Var(x))])?;
    let largest = e.step("largest", "reduce_max", one.clone(), &over(&abs, op.axis))?;
    let floor = e.scalar("floor", dtype, SCALE_FLOOR)?;
    let m = e.step("m", "maximum", one.clone(), &two(&largest, &floor))?;
    let unit = e.step("unit", "real_div", wide.clone(), &two(x, &m))?;
    let squares = e.step("squares", "mul", wide, &two(&unit, &unit))?;
    let mean = e.step("mean", "reduce_mean", one.clone(), &over(&squares, op.axis))?;
    let rounded = f64::from(num::round_f16(num::f32_of_f64(op.epsilon)).max(F16_TINY));
    let eps = e.scalar("epsilon", dtype, rounded)?;
    let eps = e.step("epsilon_m", "real_div", one.clone(), &two(&eps, &m))?;
    let eps = e.step("epsilon_mm", "real_div", one.clone(), &two(&eps, &m))?;
    let sum = e.step("shifted", "add", one.clone(), &two(&mean, &eps))?;
    let params = [("x", Arg::Var(&sum)), ("epsilon", tiny(e, dtype))];
    let scale = e.step("scale", "rsqrt", one, &params)?;
    last_steps(e, &unit, &scale, gamma, false)
}

/// `x · scale · gain`, cast back to half precision if need be; the last of these has the node's name.
fn last_steps(
    e: &mut Emitter<'_>,
    x: &Var,
    scale: &Var,
    gamma: Option<&Var>,
    narrow: bool,
) -> Result<()> {
    let ty = x.ty.clone();
    let (a, b) = match gamma {
        None => (x.clone(), scale.clone()),
        Some(gamma) => (
            e.step("normed", "mul", ty.clone(), &two(x, scale))?,
            gamma.clone(),
        ),
    };
    if !narrow {
        return e.finish("mul", &two(&a, &b));
    }
    let product = e.step("product", "mul", ty, &two(&a, &b))?;
    let to = Arg::Text("fp16");
    e.finish("cast", &[("x", Arg::Var(&product)), ("dtype", to)])
}
