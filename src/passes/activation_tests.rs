//! Activations in the orders in which frameworks write them, and expressions that only look like them.

use super::graph::{Counts, replace};
use super::testing::{assert_equivalent, distance, graph, inputs, ops, run};
use super::{Islands, activation, precision, softmax};
use crate::eval::Mode;
use crate::ir::ops::{BinaryKind, ReduceKind, UnaryKind};
use crate::ir::{Builder, Dim, Module, ValueId};
use crate::tensor::{DType, Tensor};

type Build = fn(&mut Builder, ValueId) -> ValueId;

fn fused(module: &Module) -> (Module, Counts) {
    let mut counts = Counts::new();
    let module = replace(module, &mut counts, activation::find).unwrap();
    let module = replace(&module, &mut counts, softmax::find).unwrap();
    (module, counts)
}

fn div_n(b: &mut Builder, x: ValueId, n: f64) -> ValueId {
    let n = b.number(x, n).unwrap();
    b.div(x, n).unwrap()
}

/// 1 + erf(x/√2), by division or by product.
fn erf(b: &mut Builder, x: ValueId, divided: bool) -> ValueId {
    let u = if divided {
        div_n(b, x, std::f64::consts::SQRT_2)
    } else {
        b.mul_n(x, 0.707_106_77).unwrap()
    };
    let t = b.un(UnaryKind::Erf, u).unwrap();
    b.add_n(t, 1.0).unwrap()
}

/// √(2/π)·(x + 0.044715·x³)
fn cubic(b: &mut Builder, x: ValueId, c: f64) -> ValueId {
    let three = b.number(x, 3.0).unwrap();
    let cube = b.bin(BinaryKind::Pow, x, three).unwrap();
    let cube = b.mul_n(cube, c).unwrap();
    let u = b.add(x, cube).unwrap();
    b.mul_n(u, 0.797_884_56).unwrap()
}

fn clipped(b: &mut Builder, x: ValueId, n: f64, max: f32) -> ValueId {
    let u = b.add_n(x, n).unwrap();
    b.clip(u, 0.0, max).unwrap()
}

#[test]
fn every_order_becomes_the_operation() {
    let cases: [(&str, &[&str], Build); 15] = [
        ("gelu", &["gelu_erf"], |b, x| {
            let g = erf(b, x, true);
            let p = b.mul(x, g).unwrap();
            b.mul_n(p, 0.5).unwrap()
        }),
        ("gelu", &["gelu_erf"], |b, x| {
            let g = erf(b, x, false);
            let h = b.mul_n(g, 0.5).unwrap();
            b.mul(h, x).unwrap()
        }),
        ("gelu", &["gelu_erf"], |b, x| {
            let h = div_n(b, x, 2.0);
            let g = erf(b, x, true);
            b.mul(h, g).unwrap()
        }),
        ("gelu", &["gelu_erf"], |b, x| {
            // x/2 + x/2 · erf
            let u = b.mul_n(x, std::f64::consts::FRAC_1_SQRT_2).unwrap();
            let t = b.un(UnaryKind::Erf, u).unwrap();
            let h = b.mul_n(x, 0.5).unwrap();
            let p = b.mul(h, t).unwrap();
            b.add(h, p).unwrap()
        }),
        ("gelu", &["gelu_tanh"], |b, x| {
            let u = cubic(b, x, 0.044_715);
            let t = b.un(UnaryKind::Tanh, u).unwrap();
            let g = b.add_n(t, 1.0).unwrap();
            let h = b.mul_n(x, 0.5).unwrap();
            b.mul(h, g).unwrap()
        }),
        ("gelu", &["gelu_tanh"], |b, x| {
            // k·x·(1 + c·x²), as products only.
            let k = b.mul_n(x, 0.797_884_56).unwrap();
            let s = b.mul(x, x).unwrap();
            let s = b.mul_n(s, 0.044_715).unwrap();
            let s = b.add_n(s, 1.0).unwrap();
            let u = b.mul(k, s).unwrap();
            let t = b.un(UnaryKind::Tanh, u).unwrap();
            let g = b.add_n(t, 1.0).unwrap();
            let g = b.mul_n(g, 0.5).unwrap();
            b.mul(x, g).unwrap()
        }),
        ("gelu", &["gelu_tanh"], |b, x| {
            let u = cubic(b, x, 0.044_715);
            let u = b.mul_n(u, 2.0).unwrap();
            let t = b.un(UnaryKind::Sigmoid, u).unwrap();
            b.mul(x, t).unwrap()
        }),
        ("silu", &["silu"], |b, x| {
            let t = b.un(UnaryKind::Sigmoid, x).unwrap();
            b.mul(t, x).unwrap()
        }),
        ("silu", &["silu"], |b, x| {
            // Paddle's swish with its β of 1.
            let u = b.mul_n(x, 1.0).unwrap();
            let t = b.un(UnaryKind::Sigmoid, u).unwrap();
            b.mul(x, t).unwrap()
        }),
        ("hard_swish", &["hard_sigmoid", "mul"], |b, x| {
            let t = clipped(b, x, 3.0, 6.0);
            let p = b.mul(x, t).unwrap();
            div_n(b, p, 6.0)
        }),
        ("hard_swish", &["hard_sigmoid", "mul"], |b, x| {
            let t = clipped(b, x, 3.0, 6.0);
            let t = b.mul_n(t, 1.0 / 6.0).unwrap();
            b.mul(t, x).unwrap()
        }),
        ("hard_sigmoid", &["hard_sigmoid"], |b, x| {
            let t = clipped(b, x, 3.0, 6.0);
            div_n(b, t, 6.0)
        }),
        ("hard_sigmoid", &["hard_sigmoid"], |b, x| {
            let u = b.mul_n(x, 0.2).unwrap();
            clipped(b, u, 0.5, 1.0)
        }),
        ("silu", &["mul", "silu"], |b, x| {
            // The input is a product itself.
            let x = b.mul(x, x).unwrap();
            let t = b.un(UnaryKind::Sigmoid, x).unwrap();
            b.mul(x, t).unwrap()
        }),
        ("gelu", &["mul", "gelu_erf"], |b, x| {
            let x = b.mul_n(x, 3.0).unwrap();
            let g = erf(b, x, true);
            let h = b.mul_n(x, 0.5).unwrap();
            b.mul(g, h).unwrap()
        }),
    ];
    for (i, (label, expected, build)) in cases.into_iter().enumerate() {
        let before = graph(DType::F32, &[2, 3, 8], build);
        let (after, counts) = fused(&before);
        assert_eq!(counts.get(label), Some(&1), "case {i}: {counts:?}");
        assert_eq!(ops(&after), expected, "case {i}");
        let name = |m: &Module| {
            let f = m.main().unwrap();
            f.value(f.outputs[0].value).name.clone()
        };
        assert_eq!(name(&after), name(&before), "case {i}");
        assert_equivalent(&before, &after, 1e-5);
    }
}

#[test]
fn what_only_looks_like_it_stays() {
    let cases: [(&str, Build); 12] = [
        ("0.5 left out", |b, x| {
            let g = erf(b, x, true);
            b.mul(x, g).unwrap()
        }),
        ("erf of another multiple", |b, x| {
            let u = b.mul_n(x, 0.71).unwrap();
            let t = b.un(UnaryKind::Erf, u).unwrap();
            let g = b.add_n(t, 1.0).unwrap();
            let p = b.mul(x, g).unwrap();
            b.mul_n(p, 0.5).unwrap()
        }),
        ("1 − erf", |b, x| {
            let u = div_n(b, x, std::f64::consts::SQRT_2);
            let t = b.un(UnaryKind::Erf, u).unwrap();
            let one = b.number(t, 1.0).unwrap();
            let g = b.sub(one, t).unwrap();
            let p = b.mul(x, g).unwrap();
            b.mul_n(p, 0.5).unwrap()
        }),
        ("another cubic term", |b, x| {
            let u = cubic(b, x, 0.0447);
            let t = b.un(UnaryKind::Tanh, u).unwrap();
            let g = b.add_n(t, 1.0).unwrap();
            let h = b.mul_n(x, 0.5).unwrap();
            b.mul(h, g).unwrap()
        }),
        ("x·sigmoid(1.702·x)", |b, x| {
            let u = b.mul_n(x, 1.702).unwrap();
            let t = b.un(UnaryKind::Sigmoid, u).unwrap();
            b.mul(x, t).unwrap()
        }),
        ("the gate is used again", |b, x| {
            let t = b.un(UnaryKind::Sigmoid, x).unwrap();
            let y = b.mul(x, t).unwrap();
            b.sub(y, t).unwrap()
        }),
        ("the gate is an output", |b, x| {
            let t = b.un(UnaryKind::Sigmoid, x).unwrap();
            b.output("gate", t).unwrap();
            b.mul(x, t).unwrap()
        }),
        ("clip not divided by its bound", |b, x| {
            let t = clipped(b, x, 3.0, 6.0);
            let p = b.mul(x, t).unwrap();
            div_n(b, p, 5.0)
        }),
        ("a clip is no gate", |b, x| {
            let y = b.clip(x, 0.0, 1.0).unwrap();
            b.un(UnaryKind::Exp, y).unwrap()
        }),
        ("x to one power more", |b, x| {
            let t = b.un(UnaryKind::Sigmoid, x).unwrap();
            let s = b.mul(x, x).unwrap();
            b.mul(s, t).unwrap()
        }),
        ("the number widens the result", |b, x| {
            let one = b.part(x, 2, 0, 1).unwrap();
            let t = b.un(UnaryKind::Sigmoid, one).unwrap();
            let ones = Tensor::f32(vec![8], vec![1.0; 8]).unwrap();
            let ones = b.tensor("ones", &ones).unwrap();
            let t = b.mul(t, ones).unwrap();
            b.mul(one, t).unwrap()
        }),
        ("of something else", |b, x| {
            let other = b.un(UnaryKind::Tanh, x).unwrap();
            let t = b.un(UnaryKind::Sigmoid, other).unwrap();
            b.mul(x, t).unwrap()
        }),
    ];
    for (why, build) in cases {
        let before = graph(DType::F32, &[2, 3, 8], build);
        let (after, counts) = fused(&before);
        assert!(counts.is_empty(), "{why}: {counts:?}");
        assert_eq!(ops(&after), ops(&before), "{why}");
    }
}

#[test]
fn constants_of_16_bits_are_as_near_as_they_can_be() {
    let before = graph(DType::F16, &[4, 8], |b, x| {
        let u = cubic(b, x, 0.044_715);
        let t = b.un(UnaryKind::Tanh, u).unwrap();
        let g = b.add_n(t, 1.0).unwrap();
        let h = b.mul_n(x, 0.5).unwrap();
        b.mul(h, g).unwrap()
    });
    let (after, _) = fused(&before);
    assert_eq!(ops(&after), ["gelu_tanh"]);
    assert_equivalent(&before, &after, 1e-3);
}

#[test]
fn in_16_bits_the_cube_overflows_and_the_operation_does_not() {
    let before = graph(DType::F32, &[4, 8], |b, x| {
        let s = b.mul(x, x).unwrap();
        let cube = b.mul(s, x).unwrap();
        let cube = b.mul_n(cube, 0.044_715).unwrap();
        let u = b.sub(x, cube).unwrap();
        let u = b.add(u, cube).unwrap();
        let u = b.add(u, cube).unwrap();
        let u = b.mul_n(u, 0.797_884_56).unwrap();
        let t = b.un(UnaryKind::Tanh, u).unwrap();
        let g = b.add_n(t, 1.0).unwrap();
        let h = b.mul_n(x, 0.5).unwrap();
        b.mul(h, g).unwrap()
    });
    let (after, _) = fused(&before);
    assert_eq!(ops(&after), ["gelu_tanh"]);
    let given = inputs(&before, 9, 400.0);
    let expected = run(&before, Mode::F32, &given);
    let (half, _) = precision(&after, &Islands::default()).unwrap();
    assert!(distance(&run(&half, Mode::F16, &given), &expected) < 1e-3);
    let (half, _) = precision(&before, &Islands::default()).unwrap();
    let broken = run(&half, Mode::F16, &given)["y"].to_f64();
    assert!(broken.iter().any(|v| v.is_nan()), "∞ − ∞ was expected");
}

fn softmax_of(b: &mut Builder, x: ValueId, max_axis: usize, sum_axis: usize) -> ValueId {
    let m = b.reduce(ReduceKind::Max, x, &[max_axis], true).unwrap();
    let c = b.sub(x, m).unwrap();
    let e = b.un(UnaryKind::Exp, c).unwrap();
    let s = b.reduce(ReduceKind::Sum, e, &[sum_axis], true).unwrap();
    b.div(e, s).unwrap()
}

#[test]
fn softmax_with_its_maximum() {
    let cases: [Build; 3] = [
        |b, x| softmax_of(b, x, 1, 1),
        |b, x| softmax_of(b, x, 2, 2),
        |b, x| {
            // Without kept axes, and by the reciprocal.
            let kept = vec![Dim::from(2), Dim::from(3), Dim::from(1)];
            let m = b.reduce(ReduceKind::Max, x, &[2], false).unwrap();
            let m = b.reshape(m, kept.clone()).unwrap();
            let c = b.sub(x, m).unwrap();
            let e = b.un(UnaryKind::Exp, c).unwrap();
            let s = b.reduce(ReduceKind::Sum, e, &[2], false).unwrap();
            let s = b.reshape(s, kept).unwrap();
            let r = b.un(UnaryKind::Reciprocal, s).unwrap();
            b.mul(r, e).unwrap()
        },
    ];
    for build in cases {
        let before = graph(DType::F32, &[2, 3, 8], build);
        let (after, counts) = fused(&before);
        assert_eq!(counts, Counts::from([("softmax", 1)]));
        assert_eq!(ops(&after), ["softmax"]);
        assert_equivalent(&before, &after, 1e-6);
    }
}

#[test]
fn what_is_no_softmax_stays() {
    let cases: [Build; 4] = [
        |b, x| softmax_of(b, x, 1, 2),
        |b, x| {
            // Without the maximum.
            let e = b.un(UnaryKind::Exp, x).unwrap();
            let s = b.reduce(ReduceKind::Sum, e, &[2], true).unwrap();
            b.div(e, s).unwrap()
        },
        |b, x| {
            let m = b.reduce(ReduceKind::Max, x, &[1, 2], true).unwrap();
            let c = b.sub(x, m).unwrap();
            let e = b.un(UnaryKind::Exp, c).unwrap();
            let s = b.reduce(ReduceKind::Sum, e, &[1, 2], true).unwrap();
            b.div(e, s).unwrap()
        },
        |b, x| {
            let m = b.reduce(ReduceKind::Max, x, &[2], true).unwrap();
            let c = b.sub(x, m).unwrap();
            let e = b.un(UnaryKind::Exp, c).unwrap();
            let s = b.reduce(ReduceKind::Sum, e, &[2], true).unwrap();
            b.output("sum", s).unwrap();
            b.div(e, s).unwrap()
        },
    ];
    for build in cases {
        let before = graph(DType::F32, &[2, 3, 8], build);
        let (after, counts) = fused(&before);
        assert!(counts.is_empty(), "{counts:?}");
        assert_eq!(ops(&after), ops(&before));
    }
}
