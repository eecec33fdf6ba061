//! What exporters write for one and the same thing: PyTorch (by TorchScript and by dynamo), TensorFlow, Keras and JAX (by tf2onnx), Paddle. Each
//! spelling goes through the whole clean-up, computes the same afterwards, and leaves no more operations than it should.

use super::clean;
use super::testing::{assert_equivalent, graph, noise, ops, weights};
use crate::ir::ops::{BinaryKind, Conv, MatMul, ReduceKind, Softmax, UnaryKind, Window};
use crate::ir::{Builder, Op, ValueId, print};
use crate::tensor::{DType, Tensor};

type Build = fn(&mut Builder, ValueId) -> ValueId;

/// A spelling and the operations that are left.
type Row = (&'static str, &'static [&'static str], Build);

fn check(dtype: DType, shape: &[usize], tolerance: f64, rows: &[Row]) {
    for (why, expected, build) in rows {
        let before = graph(dtype, shape, build);
        let (after, _) = clean(&before).unwrap();
        assert_eq!(ops(&after), *expected, "{why}:\n{}", print(&after));
        assert_equivalent(&before, &after, tolerance);
        let (still, nothing) = clean(&after).unwrap();
        assert!(nothing.rewrites.is_empty(), "{why}: {nothing:?}");
        assert_eq!(print(&still), print(&after), "{why}");
    }
}

fn div_n(b: &mut Builder, x: ValueId, n: f64) -> ValueId {
    let n = b.number(x, n).unwrap();
    b.div(x, n).unwrap()
}

fn n_div(b: &mut Builder, n: f64, x: ValueId) -> ValueId {
    let n = b.number(x, n).unwrap();
    b.div(n, x).unwrap()
}

fn pow_n(b: &mut Builder, x: ValueId, n: f64) -> ValueId {
    let n = b.number(x, n).unwrap();
    b.bin(BinaryKind::Pow, x, n).unwrap()
}

fn at_most(b: &mut Builder, x: ValueId, n: f64) -> ValueId {
    let n = b.number(x, n).unwrap();
    b.bin(BinaryKind::Min, x, n).unwrap()
}

fn at_least(b: &mut Builder, x: ValueId, n: f64) -> ValueId {
    let n = b.number(x, n).unwrap();
    b.bin(BinaryKind::Max, x, n).unwrap()
}

fn mean(b: &mut Builder, x: ValueId) -> ValueId {
    let last = b.rank(x) - 1;
    b.reduce(ReduceKind::Mean, x, &[last], true).unwrap()
}

/// A constant of numbers that 16 bits have, of the type of `like`.
fn halves(b: &mut Builder, like: ValueId, seed: u64, n: usize) -> ValueId {
    let values = noise(seed, n).iter().map(|x| 1.0 + x * 0.5).collect();
    let dtype = b.dtype(like);
    let tensor = Tensor::f32(vec![n], values).unwrap().cast(DType::F16);
    b.tensor(&format!("w{seed}"), &tensor.cast(dtype)).unwrap()
}

#[test]
fn gelu() {
    let rows: [Row; 8] = [
        (
            "torch: x·0.5 · (1 + erf(x / √2))",
            &["gelu_erf"],
            |b, x| {
                let h = b.mul_n(x, 0.5).unwrap();
                let u = div_n(b, x, std::f64::consts::SQRT_2);
                let t = b.un(UnaryKind::Erf, u).unwrap();
                let g = b.add_n(t, 1.0).unwrap();
                b.mul(h, g).unwrap()
            },
        ),
        ("torch: √2 computed", &["gelu_erf"], |b, x| {
            let two = b.number(x, 2.0).unwrap();
            let root = b.un(UnaryKind::Sqrt, two).unwrap();
            let u = b.div(x, root).unwrap();
            let t = b.un(UnaryKind::Erf, u).unwrap();
            let g = b.add_n(t, 1.0).unwrap();
            let p = b.mul(x, g).unwrap();
            b.mul_n(p, 0.5).unwrap()
        }),
        (
            "tf: 0.5 · (1 + erf(x · 0.70710677)) · x",
            &["gelu_erf"],
            |b, x| {
                let u = b.mul_n(x, 0.707_106_77).unwrap();
                let t = b.un(UnaryKind::Erf, u).unwrap();
                let one = b.number(t, 1.0).unwrap();
                let g = b.add(one, t).unwrap();
                let g = b.mul_n(g, 0.5).unwrap();
                b.mul(g, x).unwrap()
            },
        ),
        ("jax: erfc by its definition", &["gelu_erf"], |b, x| {
            let n = b.un(UnaryKind::Neg, x).unwrap();
            let u = b.mul_n(n, std::f64::consts::FRAC_1_SQRT_2).unwrap();
            let t = b.un(UnaryKind::Erf, u).unwrap();
            let one = b.number(t, 1.0).unwrap();
            let c = b.sub(one, t).unwrap();
            let h = b.mul_n(x, 0.5).unwrap();
            b.mul(h, c).unwrap()
        }),
        ("gpt2: with a power of 3", &["gelu_tanh"], |b, x| {
            let cube = pow_n(b, x, 3.0);
            let cube = b.mul_n(cube, 0.044_715).unwrap();
            let u = b.add(x, cube).unwrap();
            let u = b.mul_n(u, 0.797_884_583_473_205_6).unwrap();
            let t = b.un(UnaryKind::Tanh, u).unwrap();
            let g = b.add_n(t, 1.0).unwrap();
            let g = b.mul_n(g, 0.5).unwrap();
            b.mul(x, g).unwrap()
        }),
        (
            "torch with dynamo: products only",
            &["gelu_tanh"],
            |b, x| {
                let s = b.mul(x, x).unwrap();
                let cube = b.mul(s, x).unwrap();
                let cube = b.mul_n(cube, 0.044_715).unwrap();
                let u = b.add(x, cube).unwrap();
                let u = b.mul_n(u, 0.797_884_56).unwrap();
                let t = b.un(UnaryKind::Tanh, u).unwrap();
                let g = b.add_n(t, 1.0).unwrap();
                let h = b.mul_n(x, 0.5).unwrap();
                b.mul(h, g).unwrap()
            },
        ),
        ("megatron: x·k·(1 + c·x·x)", &["gelu_tanh"], |b, x| {
            let k = b.mul_n(x, 0.797_884_56).unwrap();
            let c = b.mul_n(x, 0.044_715).unwrap();
            let c = b.mul(c, x).unwrap();
            let c = b.add_n(c, 1.0).unwrap();
            let u = b.mul(k, c).unwrap();
            let t = b.un(UnaryKind::Tanh, u).unwrap();
            let g = b.add_n(t, 1.0).unwrap();
            let h = b.mul_n(x, 0.5).unwrap();
            b.mul(h, g).unwrap()
        }),
        (
            "behind a layer with a bias",
            &["linear", "gelu_erf"],
            |b, x| {
                let w = weights(b, 3, &[8, 8], 0.0);
                let y = b.matmul(x, w).unwrap();
                let c = weights(b, 4, &[8], 0.0);
                let x = b.add(c, y).unwrap();
                let u = div_n(b, x, std::f64::consts::SQRT_2);
                let t = b.un(UnaryKind::Erf, u).unwrap();
                let g = b.add_n(t, 1.0).unwrap();
                let p = b.mul(x, g).unwrap();
                b.mul_n(p, 0.5).unwrap()
            },
        ),
    ];
    check(DType::F32, &[2, 3, 8], 1e-5, &rows);
}

#[test]
fn sigmoid_and_silu() {
    let rows: [Row; 6] = [
        ("1 / (1 + exp(−x))", &["sigmoid"], |b, x| {
            let n = b.un(UnaryKind::Neg, x).unwrap();
            let e = b.un(UnaryKind::Exp, n).unwrap();
            let d = b.add_n(e, 1.0).unwrap();
            n_div(b, 1.0, d)
        }),
        (
            "the reciprocal of 1 + exp(−1·x)",
            &["sigmoid"],
            |b, x| {
                let n = b.mul_n(x, -1.0).unwrap();
                let e = b.un(UnaryKind::Exp, n).unwrap();
                let one = b.number(e, 1.0).unwrap();
                let d = b.add(one, e).unwrap();
                b.un(UnaryKind::Reciprocal, d).unwrap()
            },
        ),
        ("x / (1 + exp(−x))", &["silu"], |b, x| {
            let n = b.un(UnaryKind::Neg, x).unwrap();
            let e = b.un(UnaryKind::Exp, n).unwrap();
            let d = b.add_n(e, 1.0).unwrap();
            b.div(x, d).unwrap()
        }),
        ("x · 1 / (1 + exp(−x))", &["silu"], |b, x| {
            let n = b.un(UnaryKind::Neg, x).unwrap();
            let e = b.un(UnaryKind::Exp, n).unwrap();
            let d = b.add_n(e, 1.0).unwrap();
            let t = n_div(b, 1.0, d);
            b.mul(x, t).unwrap()
        }),
        ("x · sigmoid(x)", &["silu"], |b, x| {
            let t = b.un(UnaryKind::Sigmoid, x).unwrap();
            b.mul(x, t).unwrap()
        }),
        // A logistic function of something else.
        (
            "1 / (2 + exp(−x))",
            &["neg", "exp", "add", "div"],
            |b, x| {
                let n = b.un(UnaryKind::Neg, x).unwrap();
                let e = b.un(UnaryKind::Exp, n).unwrap();
                let d = b.add_n(e, 2.0).unwrap();
                n_div(b, 1.0, d)
            },
        ),
    ];
    check(DType::F32, &[2, 3, 8], 1e-5, &rows);
}

#[test]
fn hard_sigmoid_and_hard_swish() {
    const SWISH: &[&str] = &["hard_sigmoid", "mul"];
    let rows: [Row; 8] = [
        ("torch: x · clip(x + 3, 0, 6) / 6", SWISH, |b, x| {
            let u = b.add_n(x, 3.0).unwrap();
            let t = b.clip(u, 0.0, 6.0).unwrap();
            let p = b.mul(x, t).unwrap();
            div_n(b, p, 6.0)
        }),
        ("keras: x · (relu6(x + 3) · 1/6)", SWISH, |b, x| {
            let u = b.add_n(x, 3.0).unwrap();
            let t = b.clip(u, 0.0, 6.0).unwrap();
            let t = b.mul_n(t, 0.166_666_67).unwrap();
            b.mul(x, t).unwrap()
        }),
        ("relu6 by relu and minimum", SWISH, |b, x| {
            let u = b.add_n(x, 3.0).unwrap();
            let t = b.un(UnaryKind::Relu, u).unwrap();
            let t = at_most(b, t, 6.0);
            let t = div_n(b, t, 6.0);
            b.mul(x, t).unwrap()
        }),
        ("relu6 by maximum and minimum", SWISH, |b, x| {
            let u = b.add_n(x, 3.0).unwrap();
            let t = at_least(b, u, 0.0);
            let t = at_most(b, t, 6.0);
            let p = b.mul(t, x).unwrap();
            b.mul_n(p, 1.0 / 6.0).unwrap()
        }),
        ("minimum first, then relu", SWISH, |b, x| {
            let u = b.add_n(x, 3.0).unwrap();
            let t = at_most(b, u, 6.0);
            let t = b.un(UnaryKind::Relu, t).unwrap();
            let p = b.mul(t, x).unwrap();
            div_n(b, p, 6.0)
        }),
        (
            "hard sigmoid of keras: clip(0.2·x + 0.5, 0, 1)",
            &["hard_sigmoid"],
            |b, x| {
                let u = b.mul_n(x, 0.2).unwrap();
                let u = b.add_n(u, 0.5).unwrap();
                let t = at_least(b, u, 0.0);
                at_most(b, t, 1.0)
            },
        ),
        (
            "hard sigmoid that ends in a relu",
            &["hard_sigmoid"],
            |b, x| {
                let u = b.mul_n(x, 0.2).unwrap();
                let u = b.add_n(u, 0.5).unwrap();
                let t = at_most(b, u, 1.0);
                b.un(UnaryKind::Relu, t).unwrap()
            },
        ),
        ("relu6 alone", &["relu", "min"], |b, x| {
            let t = b.un(UnaryKind::Relu, x).unwrap();
            at_most(b, t, 6.0)
        }),
    ];
    check(DType::F32, &[2, 3, 8], 1e-5, &rows);
}

const EPSILON: f64 = 1e-5;

/// x − mean(x), and √(mean((x − mean(x))²) + ε).
fn parts(b: &mut Builder, x: ValueId) -> (ValueId, ValueId) {
    let m = mean(b, x);
    let c = b.sub(x, m).unwrap();
    let s = pow_n(b, c, 2.0);
    let v = mean(b, s);
    let v = b.add_n(v, EPSILON).unwrap();
    (c, b.un(UnaryKind::Sqrt, v).unwrap())
}

/// 1/√(mean(x²) + ε), as `Reciprocal` of `Sqrt`.
fn reciprocal(b: &mut Builder, x: ValueId) -> ValueId {
    let s = pow_n(b, x, 2.0);
    let v = mean(b, s);
    let v = b.add_n(v, EPSILON).unwrap();
    let d = b.un(UnaryKind::Sqrt, v).unwrap();
    b.un(UnaryKind::Reciprocal, d).unwrap()
}

#[test]
fn layer_norm() {
    let rows: [Row; 8] = [
        (
            "torch: the difference computed twice",
            &["layer_norm"],
            |b, x| {
                let m = mean(b, x);
                let (c, other) = (b.sub(x, m).unwrap(), b.sub(x, m).unwrap());
                let s = pow_n(b, other, 2.0);
                let v = mean(b, s);
                let v = b.add_n(v, EPSILON).unwrap();
                let d = b.un(UnaryKind::Sqrt, v).unwrap();
                let n = b.div(c, d).unwrap();
                let (gamma, beta) = (weights(b, 1, &[8], 1.0), weights(b, 2, &[8], 0.0));
                let n = b.mul(n, gamma).unwrap();
                b.add(n, beta).unwrap()
            },
        ),
        (
            "by hand: γ on the difference, divided last",
            &["layer_norm"],
            |b, x| {
                let (c, d) = parts(b, x);
                let gamma = weights(b, 1, &[8], 1.0);
                let c = b.mul(gamma, c).unwrap();
                let n = b.div(c, d).unwrap();
                let beta = weights(b, 2, &[8], 0.0);
                b.add(n, beta).unwrap()
            },
        ),
        (
            "γ on the difference, times the reciprocal",
            &["layer_norm"],
            |b, x| {
                let (c, d) = parts(b, x);
                let gamma = weights(b, 1, &[8], 1.0);
                let c = b.mul(c, gamma).unwrap();
                let r = b.un(UnaryKind::Reciprocal, d).unwrap();
                b.mul(c, r).unwrap()
            },
        ),
        ("the root of the reciprocal", &["layer_norm"], |b, x| {
            let m = mean(b, x);
            let c = b.sub(x, m).unwrap();
            let s = b.mul(c, c).unwrap();
            let v = mean(b, s);
            let v = b.add_n(v, EPSILON).unwrap();
            let r = b.un(UnaryKind::Reciprocal, v).unwrap();
            let r = b.un(UnaryKind::Sqrt, r).unwrap();
            b.mul(c, r).unwrap()
        }),
        ("to the power of −1/2", &["layer_norm"], |b, x| {
            let m = mean(b, x);
            let c = b.sub(x, m).unwrap();
            let s = b.mul(c, c).unwrap();
            let v = mean(b, s);
            let v = b.add_n(v, EPSILON).unwrap();
            let r = pow_n(b, v, -0.5);
            b.mul(r, c).unwrap()
        }),
        (
            "tf: squared difference, batch normalisation's arithmetic",
            &["layer_norm"],
            |b, x| {
                let m = mean(b, x);
                let c = b.sub(x, m).unwrap();
                let s = b.mul(c, c).unwrap();
                let v = mean(b, s);
                let v = b.add_n(v, EPSILON).unwrap();
                let d = b.un(UnaryKind::Sqrt, v).unwrap();
                let r = b.un(UnaryKind::Reciprocal, d).unwrap();
                let (gamma, beta) = (weights(b, 1, &[8], 1.0), weights(b, 2, &[8], 0.0));
                let s = b.mul(r, gamma).unwrap();
                let ms = b.mul(m, s).unwrap();
                let rest = b.sub(beta, ms).unwrap();
                let xs = b.mul(x, s).unwrap();
                b.add(xs, rest).unwrap()
            },
        ),
        (
            "modulated afterwards by what is no constant",
            &["layer_norm", "mul"],
            |b, x| {
                let (c, d) = parts(b, x);
                let n = b.div(c, d).unwrap();
                b.mul(n, x).unwrap()
            },
        ),
        (
            "convnext: over the channels of an image",
            &["transpose", "layer_norm", "transpose"],
            |b, x| {
                let m = b.reduce(ReduceKind::Mean, x, &[1], true).unwrap();
                let c = b.sub(x, m).unwrap();
                let s = pow_n(b, c, 2.0);
                let v = b.reduce(ReduceKind::Mean, s, &[1], true).unwrap();
                let v = b.add_n(v, 1e-6).unwrap();
                let d = b.un(UnaryKind::Sqrt, v).unwrap();
                let n = b.div(c, d).unwrap();
                let (gamma, beta) = (weights(b, 1, &[6, 1], 1.0), weights(b, 2, &[6, 1], 0.0));
                let n = b.mul(gamma, n).unwrap();
                b.add(n, beta).unwrap()
            },
        ),
    ];
    check(DType::F32, &[2, 6, 8], 1e-5, &rows);
}

#[test]
fn rms_norm() {
    let rows: [Row; 5] = [
        ("t5, llama: γ · (x · 1/√)", &["rms_norm"], |b, x| {
            let s = pow_n(b, x, 2.0);
            let v = mean(b, s);
            let v = b.add_n(v, EPSILON).unwrap();
            let d = b.un(UnaryKind::Sqrt, v).unwrap();
            let r = n_div(b, 1.0, d);
            let n = b.mul(x, r).unwrap();
            let gamma = weights(b, 1, &[8], 1.0);
            b.mul(gamma, n).unwrap()
        }),
        ("torch with dynamo: reciprocal", &["rms_norm"], |b, x| {
            let r = reciprocal(b, x);
            let n = b.mul(x, r).unwrap();
            let gamma = weights(b, 1, &[8], 1.0);
            b.mul(n, gamma).unwrap()
        }),
        ("γ on x", &["rms_norm"], |b, x| {
            let r = reciprocal(b, x);
            let gamma = weights(b, 1, &[8], 1.0);
            let c = b.mul(x, gamma).unwrap();
            b.mul(c, r).unwrap()
        }),
        ("γ on the factor", &["rms_norm"], |b, x| {
            let r = reciprocal(b, x);
            let gamma = weights(b, 1, &[8], 1.0);
            let r = b.mul(r, gamma).unwrap();
            b.mul(x, r).unwrap()
        }),
        ("gemma: 1 + γ", &["rms_norm"], |b, x| {
            let r = reciprocal(b, x);
            let n = b.mul(x, r).unwrap();
            let gamma = weights(b, 1, &[8], 0.0);
            let gamma = b.add_n(gamma, 1.0).unwrap();
            b.mul(n, gamma).unwrap()
        }),
    ];
    check(DType::F32, &[2, 6, 8], 1e-5, &rows);
}

#[test]
fn in_16_bits_what_was_cast_for_precision_needs_no_casts() {
    let rows: [Row; 7] = [
        (
            "llama: single precision inside, γ outside",
            &["rms_norm"],
            |b, x| {
                let wide = b.to(x, DType::F32).unwrap();
                let r = reciprocal(b, wide);
                let n = b.mul(wide, r).unwrap();
                let n = b.to(n, DType::F16).unwrap();
                let gamma = halves(b, n, 1, 8);
                b.mul(gamma, n).unwrap()
            },
        ),
        ("γ inside, of 16 bits", &["rms_norm"], |b, x| {
            let wide = b.to(x, DType::F32).unwrap();
            let r = reciprocal(b, wide);
            let n = b.mul(wide, r).unwrap();
            let gamma = halves(b, n, 1, 8);
            let n = b.mul(gamma, n).unwrap();
            b.to(n, DType::F16).unwrap()
        }),
        (
            "layer norm with its parameters outside",
            &["layer_norm"],
            |b, x| {
                let wide = b.to(x, DType::F32).unwrap();
                let (c, d) = parts(b, wide);
                let n = b.div(c, d).unwrap();
                let n = b.to(n, DType::F16).unwrap();
                let (gamma, beta) = (halves(b, n, 1, 8), halves(b, n, 2, 8));
                let n = b.mul(n, gamma).unwrap();
                b.add(n, beta).unwrap()
            },
        ),
        ("softmax", &["softmax"], |b, x| {
            let wide = b.to(x, DType::F32).unwrap();
            let y = b.softmax(wide, 2).unwrap();
            b.to(y, DType::F16).unwrap()
        }),
        ("gelu by parts", &["gelu_erf"], |b, x| {
            let x = b.to(x, DType::F32).unwrap();
            let u = div_n(b, x, std::f64::consts::SQRT_2);
            let t = b.un(UnaryKind::Erf, u).unwrap();
            let g = b.add_n(t, 1.0).unwrap();
            let p = b.mul(x, g).unwrap();
            let y = b.mul_n(p, 0.5).unwrap();
            b.to(y, DType::F16).unwrap()
        }),
        // Numbers that 16 bits do not have.
        (
            "γ of single precision",
            &["cast", "rms_norm", "cast"],
            |b, x| {
                let wide = b.to(x, DType::F32).unwrap();
                let r = reciprocal(b, wide);
                let n = b.mul(wide, r).unwrap();
                let gamma = weights(b, 1, &[8], 1.0);
                let n = b.mul(gamma, n).unwrap();
                b.to(n, DType::F16).unwrap()
            },
        ),
        // The wide value is needed.
        (
            "a sum in single precision",
            &["cast", "softmax", "add", "cast"],
            |b, x| {
                let wide = b.to(x, DType::F32).unwrap();
                let y = b.softmax(wide, 2).unwrap();
                let y = b.add(y, wide).unwrap();
                b.to(y, DType::F16).unwrap()
            },
        ),
    ];
    check(DType::F16, &[2, 6, 8], 1e-6, &rows);
}

#[test]
fn softmax() {
    let rows: [Row; 4] = [
        ("exp(x − max) / Σ", &["softmax"], |b, x| {
            let m = b.reduce(ReduceKind::Max, x, &[2], true).unwrap();
            let c = b.sub(x, m).unwrap();
            let e = b.un(UnaryKind::Exp, c).unwrap();
            let s = b.reduce(ReduceKind::Sum, e, &[2], true).unwrap();
            b.div(e, s).unwrap()
        }),
        (
            "caffe: over the first axis, transposed there and back",
            &["softmax"],
            |b, x| {
                let y = b.transpose(x, &[2, 1, 0]).unwrap();
                let y = b.softmax(y, 0).unwrap();
                b.transpose(y, &[2, 1, 0]).unwrap()
            },
        ),
        ("torch: moved to the last axis", &["softmax"], |b, x| {
            let y = b.transpose(x, &[0, 2, 1]).unwrap();
            let op = Op::Softmax(Softmax { axis: 2 });
            let y = b.node(op, &[y]).unwrap();
            b.transpose(y, &[0, 2, 1]).unwrap()
        }),
        // It overflows where a softmax does not.
        (
            "without the maximum",
            &["exp", "reduce_sum", "div"],
            |b, x| {
                let e = b.un(UnaryKind::Exp, x).unwrap();
                let s = b.reduce(ReduceKind::Sum, e, &[2], true).unwrap();
                b.div(e, s).unwrap()
            },
        ),
    ];
    check(DType::F32, &[2, 6, 8], 1e-5, &rows);
}

fn conv(b: &mut Builder, x: ValueId, seed: u64) -> ValueId {
    let channels = b.shape(x)[1].known().unwrap();
    let w = weights(b, seed, &[channels, channels, 3, 3], 0.0);
    let window = Window {
        pads: vec![(1, 1); 2],
        ..Window::unit(2)
    };
    let op = Op::Conv(Conv { window, groups: 1 });
    b.node(op, &[x, w]).unwrap()
}

#[test]
fn what_follows_a_product_folds_into_it() {
    let rows: [Row; 6] = [
        (
            "tf2onnx: a bias in the other layout",
            &["conv", "relu", "conv"],
            |b, x| {
                let y = conv(b, x, 1);
                let y = b.transpose(y, &[0, 2, 3, 1]).unwrap();
                let c = weights(b, 2, &[4], 0.0);
                let y = b.add(y, c).unwrap();
                let y = b.un(UnaryKind::Relu, y).unwrap();
                let y = b.transpose(y, &[0, 3, 1, 2]).unwrap();
                conv(b, y, 3)
            },
        ),
        ("batch norm by its arithmetic", &["conv", "relu"], |b, x| {
            let y = conv(b, x, 1);
            let (m, v) = (
                weights(b, 2, &[4, 1, 1], 0.1),
                weights(b, 3, &[4, 1, 1], 0.8),
            );
            let y = b.sub(y, m).unwrap();
            let v = b.add_n(v, 1e-3).unwrap();
            let d = b.un(UnaryKind::Sqrt, v).unwrap();
            let y = b.div(y, d).unwrap();
            let (g, c) = (
                weights(b, 4, &[4, 1, 1], 1.0),
                weights(b, 5, &[4, 1, 1], 0.0),
            );
            let y = b.mul(y, g).unwrap();
            let y = b.add(y, c).unwrap();
            b.un(UnaryKind::Relu, y).unwrap()
        }),
        ("scale and shift of one number each", &["conv"], |b, x| {
            let y = conv(b, x, 1);
            let y = b.mul_n(y, 0.5).unwrap();
            b.add_n(y, 0.25).unwrap()
        }),
        ("a product with its bias before it", &["linear"], |b, x| {
            let w = weights(b, 1, &[6, 5], 0.0);
            let y = b.matmul(x, w).unwrap();
            let c = weights(b, 2, &[1, 1, 1, 5], 0.0);
            b.add(c, y).unwrap()
        }),
        ("a product with a stored transpose", &["linear"], |b, x| {
            let w = weights(b, 1, &[5, 6], 0.0);
            let w = b.transpose(w, &[1, 0]).unwrap();
            let y = b.matmul(x, w).unwrap();
            let c = weights(b, 2, &[5], 0.0);
            b.add(y, c).unwrap()
        }),
        ("two additions", &["linear"], |b, x| {
            let w = weights(b, 1, &[5, 6], 0.0);
            let op = MatMul {
                transpose_a: false,
                transpose_b: true,
            };
            let y = b.node(Op::MatMul(op), &[x, w]).unwrap();
            let c = weights(b, 2, &[5], 0.0);
            let y = b.add(y, c).unwrap();
            b.add(y, c).unwrap()
        }),
    ];
    check(DType::F32, &[2, 4, 5, 6], 1e-5, &rows);
}

#[test]
fn transposes_around_elementwise_operations() {
    const IN: [usize; 4] = [0, 2, 3, 1];
    const OUT: [usize; 4] = [0, 3, 1, 2];
    let rows: [Row; 11] = [
        ("one function", &["exp"], |b, x| {
            let y = b.transpose(x, &IN).unwrap();
            let y = b.un(UnaryKind::Exp, y).unwrap();
            b.transpose(y, &OUT).unwrap()
        }),
        ("a chain with numbers", &["mul", "clip", "tanh"], |b, x| {
            let y = b.transpose(x, &IN).unwrap();
            let y = b.mul_n(y, 2.0).unwrap();
            let y = b.clip(y, -1.0, 2.0).unwrap();
            let y = b.un(UnaryKind::Tanh, y).unwrap();
            b.transpose(y, &OUT).unwrap()
        }),
        ("a sum of two", &["tanh", "add"], |b, x| {
            let other = b.un(UnaryKind::Tanh, x).unwrap();
            let y = b.transpose(x, &IN).unwrap();
            let z = b.transpose(other, &IN).unwrap();
            let y = b.add(y, z).unwrap();
            b.transpose(y, &OUT).unwrap()
        }),
        ("constants per channel", &["mul", "add"], |b, x| {
            let y = b.transpose(x, &IN).unwrap();
            let (s, c) = (weights(b, 1, &[4], 1.0), weights(b, 2, &[1, 1, 4], 0.0));
            let y = b.mul(y, s).unwrap();
            let y = b.add(c, y).unwrap();
            b.transpose(y, &OUT).unwrap()
        }),
        ("constants per row", &["sub"], |b, x| {
            let y = b.transpose(x, &IN).unwrap();
            let c = weights(b, 1, &[5, 1, 1], 1.0);
            let y = b.sub(c, y).unwrap();
            b.transpose(y, &OUT).unwrap()
        }),
        ("one value twice", &["mul"], |b, x| {
            let y = b.transpose(x, &IN).unwrap();
            let y = b.mul(y, y).unwrap();
            b.transpose(y, &OUT).unwrap()
        }),
        ("joined along the channels", &["tanh", "concat"], |b, x| {
            let other = b.un(UnaryKind::Tanh, x).unwrap();
            let y = b.transpose(x, &IN).unwrap();
            let z = b.transpose(other, &IN).unwrap();
            let y = b.join(&[y, z], 3).unwrap();
            b.transpose(y, &OUT).unwrap()
        }),
        // These stay.
        (
            "joined with a constant",
            &["transpose", "concat", "transpose"],
            |b, x| {
                let y = b.transpose(x, &IN).unwrap();
                let c = weights(b, 1, &[2, 5, 6, 1], 0.0);
                let y = b.join(&[y, c], 3).unwrap();
                b.transpose(y, &OUT).unwrap()
            },
        ),
        ("turned on", &["transpose", "exp", "transpose"], |b, x| {
            let y = b.transpose(x, &IN).unwrap();
            let y = b.un(UnaryKind::Exp, y).unwrap();
            b.transpose(y, &IN).unwrap()
        }),
        (
            "a constant along two axes",
            &["transpose", "add", "transpose"],
            |b, x| {
                let y = b.transpose(x, &IN).unwrap();
                let c = weights(b, 1, &[6, 4], 0.0);
                let y = b.add(y, c).unwrap();
                b.transpose(y, &OUT).unwrap()
            },
        ),
        (
            "needed in between",
            &["transpose", "exp", "transpose", "reduce_max", "add"],
            |b, x| {
                let y = b.transpose(x, &IN).unwrap();
                let y = b.un(UnaryKind::Exp, y).unwrap();
                let z = b.transpose(y, &OUT).unwrap();
                let m = b.reduce(ReduceKind::Max, y, &[1, 2, 3], true).unwrap();
                b.add(z, m).unwrap()
            },
        ),
    ];
    check(DType::F32, &[2, 4, 5, 6], 1e-5, &rows);
}
