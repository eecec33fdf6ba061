//! The forms in which frameworks write normalisation, and forms that only look like it.

#![allow(clippy::as_conversions)]

use super::graph::{Counts, replace};
use super::norm::find;
use super::testing::{assert_equivalent, distance, graph, inputs, ops, run, weights};
use super::{Islands, precision};
use crate::eval::Mode;
use crate::ir::ops::{BinaryKind, ReduceKind, UnaryKind};
use crate::ir::{Builder, Dim, Module, ValueId};
use crate::tensor::{DType, Tensor};

const EPSILON: f64 = 1e-5;

fn fused(module: &Module) -> (Module, Counts) {
    let mut counts = Counts::new();
    let module = replace(module, &mut counts, find).unwrap();
    (module, counts)
}

fn mean(b: &mut Builder, x: ValueId, axes: &[usize]) -> ValueId {
    b.reduce(ReduceKind::Mean, x, axes, true).unwrap()
}

fn square(b: &mut Builder, x: ValueId) -> ValueId {
    let two = b.number(x, 2.0).unwrap();
    b.bin(BinaryKind::Pow, x, two).unwrap()
}

/// x − mean(x), and √(mean((x − mean(x))²) + ε).
fn parts(b: &mut Builder, x: ValueId, axes: &[usize]) -> (ValueId, ValueId) {
    let m = mean(b, x, axes);
    let c = b.sub(x, m).unwrap();
    let s = square(b, c);
    let v = mean(b, s, axes);
    let v = b.add_n(v, EPSILON).unwrap();
    (c, b.un(UnaryKind::Sqrt, v).unwrap())
}

/// As PyTorch writes it: pow, div, mul, add.
fn torch(b: &mut Builder, x: ValueId, axes: &[usize], shape: &[usize]) -> ValueId {
    let (c, d) = parts(b, x, axes);
    let n = b.div(c, d).unwrap();
    let (gamma, beta) = (weights(b, 1, shape, 1.0), weights(b, 2, shape, 0.0));
    let n = b.mul(n, gamma).unwrap();
    b.add(n, beta).unwrap()
}

/// As JAX writes it through TensorFlow: sums without kept axes, E[x²] − E[x]² cut off at 0, γ on the factor.
fn jax(b: &mut Builder, x: ValueId, axis: usize, n: f64, shape: &[usize]) -> ValueId {
    let mut kept = b.shape(x);
    kept[axis] = Dim::from(1);
    let sum = b.reduce(ReduceKind::Sum, x, &[axis], false).unwrap();
    let squares = b.mul(x, x).unwrap();
    let squares = b.reduce(ReduceKind::Sum, squares, &[axis], false).unwrap();
    let m = b.mul_n(sum, 1.0 / n).unwrap();
    let of_squares = b.mul_n(squares, 1.0 / n).unwrap();
    let mm = b.mul(m, m).unwrap();
    let v = b.sub(of_squares, mm).unwrap();
    let zero = b.number(v, 0.0).unwrap();
    let v = b.bin(BinaryKind::Max, zero, v).unwrap();
    let v = b.reshape(v, kept.clone()).unwrap();
    let v = b.add_n(v, EPSILON).unwrap();
    let d = b.un(UnaryKind::Sqrt, v).unwrap();
    let r = b.un(UnaryKind::Reciprocal, d).unwrap();
    let gamma = weights(b, 1, shape, 1.0);
    let r = b.mul(r, gamma).unwrap();
    let m = b.reshape(m, kept).unwrap();
    let c = b.sub(x, m).unwrap();
    let n = b.mul(c, r).unwrap();
    let beta = weights(b, 2, shape, 0.0);
    b.add(beta, n).unwrap()
}

/// As Keras writes it: x·s + (β − mean(x)·s).
fn keras(b: &mut Builder, x: ValueId, axes: &[usize], shape: &[usize]) -> ValueId {
    let m = mean(b, x, axes);
    let c = b.sub(x, m).unwrap();
    let s = b.mul(c, c).unwrap();
    let v = mean(b, s, axes);
    let v = b.add_n(v, EPSILON).unwrap();
    let r = b.un(UnaryKind::Rsqrt, v).unwrap();
    let (gamma, beta) = (weights(b, 1, shape, 1.0), weights(b, 2, shape, 0.0));
    let s = b.mul(r, gamma).unwrap();
    let xs = b.mul(x, s).unwrap();
    let ms = b.mul(m, s).unwrap();
    let rest = b.sub(beta, ms).unwrap();
    b.add(xs, rest).unwrap()
}

/// x / √(mean(x²) + ε) · γ
fn rms(b: &mut Builder, x: ValueId, axis: usize, shape: &[usize]) -> ValueId {
    let s = square(b, x);
    let v = mean(b, s, &[axis]);
    let v = b.add_n(v, EPSILON).unwrap();
    let d = b.un(UnaryKind::Sqrt, v).unwrap();
    let one = b.number(d, 1.0).unwrap();
    let r = b.div(one, d).unwrap();
    let n = b.mul(x, r).unwrap();
    let gamma = weights(b, 1, shape, 1.0);
    b.mul(gamma, n).unwrap()
}

fn check(label: &str, expected: &[&str], build: impl FnOnce(&mut Builder, ValueId) -> ValueId) {
    let before = graph(DType::F32, &[2, 6, 8], build);
    let (after, counts) = fused(&before);
    assert_eq!(counts.get(label), Some(&1));
    assert_eq!(ops(&after), expected);
    let name = |m: &Module| {
        let f = m.main().unwrap();
        f.value(f.outputs[0].value).name.clone()
    };
    assert_eq!(name(&after), name(&before));
    assert_equivalent(&before, &after, 1e-5);
}

#[test]
fn every_form_becomes_one_operation() {
    check("layer_norm", &["layer_norm"], |b, x| {
        torch(b, x, &[2], &[8])
    });
    check("layer_norm", &["layer_norm"], |b, x| {
        torch(b, x, &[1, 2], &[6, 8])
    });
    check("layer_norm", &["layer_norm"], |b, x| {
        jax(b, x, 2, 8.0, &[8])
    });
    check("layer_norm", &["layer_norm"], |b, x| {
        keras(b, x, &[2], &[8])
    });
    check("layer_norm", &["layer_norm"], |b, x| {
        let (c, d) = parts(b, x, &[2]);
        b.div(c, d).unwrap()
    });
    check("layer_norm", &["layer_norm"], |b, x| {
        // β without γ; one number for all.
        let (c, d) = parts(b, x, &[2]);
        let n = b.div(c, d).unwrap();
        b.add_n(n, 0.25).unwrap()
    });
    check("rms_norm", &["rms_norm"], |b, x| rms(b, x, 2, &[8]));
}

#[test]
fn other_axes_are_brought_to_the_end_and_back() {
    let around = ["transpose", "layer_norm", "transpose"];
    check("layer_norm", &around, |b, x| torch(b, x, &[1], &[6, 1]));
    check("layer_norm", &around, |b, x| jax(b, x, 1, 6.0, &[1, 6, 1]));
    let around = ["transpose", "rms_norm", "transpose"];
    check("rms_norm", &around, |b, x| rms(b, x, 1, &[6, 1]));
}

#[test]
fn what_only_looks_like_it_stays() {
    type Build = fn(&mut Builder, ValueId) -> ValueId;
    let cases: [(&str, Build); 5] = [
        ("unbiased variance", |b, x| {
            let m = mean(b, x, &[2]);
            let c = b.sub(x, m).unwrap();
            let s = square(b, c);
            let v = b.reduce(ReduceKind::Sum, s, &[2], true).unwrap();
            let v = b.mul_n(v, 1.0 / 7.0).unwrap();
            let v = b.add_n(v, EPSILON).unwrap();
            let d = b.un(UnaryKind::Sqrt, v).unwrap();
            b.div(c, d).unwrap()
        }),
        ("ε outside of the root", |b, x| {
            let m = mean(b, x, &[2]);
            let c = b.sub(x, m).unwrap();
            let s = square(b, c);
            let v = mean(b, s, &[2]);
            let d = b.un(UnaryKind::Sqrt, v).unwrap();
            let d = b.add_n(d, EPSILON).unwrap();
            b.div(c, d).unwrap()
        }),
        ("the variance is an output", |b, x| {
            let (c, d) = parts(b, x, &[2]);
            b.output("d", d).unwrap();
            b.div(c, d).unwrap()
        }),
        ("the difference has another user", |b, x| {
            let (c, d) = parts(b, x, &[2]);
            let n = b.div(c, d).unwrap();
            b.mul(n, c).unwrap()
        }),
        ("a fourth power", |b, x| {
            let m = mean(b, x, &[2]);
            let c = b.sub(x, m).unwrap();
            let four = b.number(c, 4.0).unwrap();
            let s = b.bin(BinaryKind::Pow, c, four).unwrap();
            let v = mean(b, s, &[2]);
            let v = b.add_n(v, EPSILON).unwrap();
            let d = b.un(UnaryKind::Sqrt, v).unwrap();
            b.div(c, d).unwrap()
        }),
    ];
    for (why, build) in cases {
        let before = graph(DType::F32, &[2, 6, 8], build);
        let (after, counts) = fused(&before);
        assert!(counts.is_empty(), "{why}: {counts:?}");
        assert_eq!(ops(&after), ops(&before), "{why}");
    }
}

#[test]
fn statistics_that_broadcast_along_another_axis_stay() {
    // The mean of each row, without the reduced axis, is taken from each column.
    let before = graph(DType::F32, &[8, 8], |b, x| {
        let m = b.reduce(ReduceKind::Mean, x, &[1], false).unwrap();
        let c = b.sub(x, m).unwrap();
        let s = square(b, c);
        let v = b.reduce(ReduceKind::Mean, s, &[1], false).unwrap();
        let v = b.add_n(v, EPSILON).unwrap();
        let d = b.un(UnaryKind::Sqrt, v).unwrap();
        b.div(c, d).unwrap()
    });
    let (after, counts) = fused(&before);
    assert!(counts.is_empty());
    assert_eq!(ops(&after), ops(&before));
}

#[test]
fn parameters_of_other_axes_stay_outside() {
    // γ along the axis that is not normalised.
    let before = graph(DType::F32, &[2, 6, 8], |b, x| torch(b, x, &[2], &[6, 1]));
    let (after, counts) = fused(&before);
    assert_eq!(counts, Counts::from([("layer_norm", 1)]));
    assert_eq!(ops(&after), ["layer_norm", "mul", "add"]);
    assert_equivalent(&before, &after, 1e-5);
}

#[test]
fn a_parameter_that_is_no_constant_stays_outside() {
    let before = graph(DType::F32, &[2, 6, 8], |b, x| {
        let (c, d) = parts(b, x, &[2]);
        let n = b.div(c, d).unwrap();
        b.mul(n, x).unwrap()
    });
    let (after, counts) = fused(&before);
    assert_eq!(counts, Counts::from([("layer_norm", 1)]));
    assert_eq!(ops(&after), ["layer_norm", "mul"]);
    assert_equivalent(&before, &after, 1e-5);
}

#[test]
fn in_16_bits_the_parts_overflow_and_the_operation_does_not() {
    for build in [
        (|b: &mut Builder, x| torch(b, x, &[2], &[8])) as fn(&mut Builder, ValueId) -> ValueId,
        |b, x| jax(b, x, 2, 8.0, &[8]),
        |b, x| rms(b, x, 2, &[8]),
    ] {
        let before = graph(DType::F32, &[2, 6, 8], build);
        let (after, _) = fused(&before);
        let given = inputs(&before, 5, 900.0);
        let expected = run(&before, Mode::F32, &given);
        let half = |m: &Module| {
            let (half, _) = precision(m, &Islands::default()).unwrap();
            run(&half, Mode::F16, &given)
        };
        assert!(distance(&half(&after), &expected) < 2e-3);
        // Infinite variances make zeros, or NaN.
        let broken = half(&before)["y"].to_f64();
        let reference: Vec<f64> = expected["y"].to_f64();
        let off = broken.iter().zip(&reference);
        assert!(
            off.into_iter()
                .any(|(a, b)| (a - b).abs() > 0.5 || a.is_nan())
        );
    }
}

#[test]
fn graphs_of_16_bits_are_fused_as_well() {
    // A graph that is in 16 bits already: ε = 1e-5 is not exact there.
    let before = graph(DType::F16, &[2, 8], |b, x| {
        let (c, d) = parts(b, x, &[1]);
        let n = b.div(c, d).unwrap();
        let gamma = Tensor::f32(vec![8], vec![1.5; 8]).unwrap().cast(DType::F16);
        let gamma = b.tensor("gamma", &gamma).unwrap();
        b.mul(n, gamma).unwrap()
    });
    let (after, _) = fused(&before);
    assert_eq!(ops(&after), ["layer_norm"]);
    assert_equivalent(&before, &after, 1e-5);
}

#[test]
fn a_difference_over_its_own_root_mean_square_is_no_layer_norm() {
    // The mean of something else than what it is taken from, and a variance over other axes than the mean.
    for (scale, axes) in [(2.0, vec![2]), (1.0, vec![1, 2])] {
        let before = graph(DType::F32, &[2, 6, 8], |b, x| {
            let scaled = b.mul_n(x, scale).unwrap();
            let m = mean(b, scaled, &[2]);
            let c = b.sub(x, m).unwrap();
            let s = square(b, c);
            let v = mean(b, s, &axes);
            let v = b.add_n(v, EPSILON).unwrap();
            let d = b.un(UnaryKind::Sqrt, v).unwrap();
            b.div(c, d).unwrap()
        });
        let (after, counts) = fused(&before);
        assert_eq!(counts, Counts::from([("rms_norm", 1)]));
        assert_equivalent(&before, &after, 1e-5);
    }
}
