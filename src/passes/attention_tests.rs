//! Attention in the spellings of exporters, and what only looks like it.

use super::graph::{Counts, replace};
use super::testing::{assert_equivalent, distance, inputs, ops, run};
use super::{Islands, clean, parts, precision};
use crate::eval::Mode;
use crate::ir::ops::{BinaryKind, CompareKind, Gather, MatMul, ReduceKind, UnaryKind};
use crate::ir::{Builder, Dim, Domain, Module, Op, Type, ValueId, print};
use crate::tensor::{DType, Tensor};

/// Batch, heads, queries, keys, width of a head, width of a value.
const B: usize = 2;
const H: usize = 3;
const L: usize = 5;
const S: usize = 7;
const E: usize = 16;
const F: usize = 4;

/// What an attention layer begins with: `[B, length, H·width]` each, and the mask `[B, 1, 1, S]`.
struct Inputs {
    q: ValueId,
    k: ValueId,
    v: ValueId,
    mask: ValueId,
}

type Build = fn(&mut Builder, Inputs) -> ValueId;

fn layer(dtype: DType, build: Build) -> Module {
    let mut b = Builder::new("m");
    let mut param = |name: &str, shape: &[usize]| {
        b.param(name, Type::known(dtype, shape), Domain::Any)
            .unwrap()
    };
    let inputs = Inputs {
        q: param("q", &[B, L, H * E]),
        k: param("k", &[B, S, H * E]),
        v: param("v", &[B, S, H * F]),
        mask: param("mask", &[B, 1, 1, S]),
    };
    let y = build(&mut b, inputs);
    b.output("y", y).unwrap();
    b.finish().unwrap()
}

fn shape(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|&n| Dim::from(n)).collect()
}

/// `[B, n, H·width]` → `[B, H, n, width]`, or in another order.
fn heads(b: &mut Builder, x: ValueId, width: usize, perm: [usize; 4]) -> ValueId {
    let n = b.shape(x)[1].clone();
    let split = vec![Dim::from(B), n, Dim::from(H), Dim::from(width)];
    let x = b.reshape(x, split).unwrap();
    b.transpose(x, &perm).unwrap()
}

fn queries(b: &mut Builder, x: ValueId) -> ValueId {
    heads(b, x, E, [0, 2, 1, 3])
}

fn turned_keys(b: &mut Builder, x: ValueId) -> ValueId {
    heads(b, x, E, [0, 2, 3, 1])
}

fn values(b: &mut Builder, x: ValueId) -> ValueId {
    heads(b, x, F, [0, 2, 1, 3])
}

/// `[B, H, L, F]` → `[B, L, H·F]`
fn merged(b: &mut Builder, x: ValueId) -> ValueId {
    let x = b.transpose(x, &[0, 2, 1, 3]).unwrap();
    b.reshape(x, shape(&[B, L, H * F])).unwrap()
}

fn div_n(b: &mut Builder, x: ValueId, n: f64) -> ValueId {
    let n = b.number(x, n).unwrap();
    b.div(x, n).unwrap()
}

/// The end of all: softmax over the last axis, times the values, heads merged.
fn finished(b: &mut Builder, scores: ValueId, v: ValueId) -> ValueId {
    let axis = b.rank(scores) - 1;
    let weights = b.softmax(scores, axis).unwrap();
    let v = values(b, v);
    let y = b.matmul(weights, v).unwrap();
    merged(b, y)
}

/// Queries times keys, as they are.
fn products(b: &mut Builder, i: &Inputs) -> ValueId {
    let (q, k) = (queries(b, i.q), turned_keys(b, i.k));
    b.matmul(q, k).unwrap()
}

/// Where keys may be looked at, `[1, 1, L, S]`.
fn causal(b: &mut Builder) -> ValueId {
    let seen = (0..L).flat_map(|i| (0..S).map(move |j| j <= i + S - L));
    let seen = Tensor::bool(vec![1, 1, L, S], seen.collect()).unwrap();
    b.tensor("causal", &seen).unwrap()
}

/// `[B, H, n, m]` → `[B·H, n, m]`
fn flat(b: &mut Builder, x: ValueId) -> ValueId {
    let s = b.shape(x);
    let flat = vec![Dim::from(B * H), s[2].clone(), s[3].clone()];
    b.reshape(x, flat).unwrap()
}

fn apart(b: &mut Builder, x: ValueId) -> ValueId {
    let s = b.shape(x);
    let apart = vec![Dim::from(B), Dim::from(H), s[1].clone(), s[2].clone()];
    b.reshape(x, apart).unwrap()
}

/// The operations around the heads, and attention.
const LAYER: [&str; 9] = [
    "reshape",
    "transpose",
    "reshape",
    "transpose",
    "reshape",
    "transpose",
    "attention",
    "transpose",
    "reshape",
];

#[test]
fn every_spelling_becomes_the_operation() {
    let cases: [(&str, Build); 21] = [
        (
            "bert: keys transposed at once, scores divided, mask added",
            |b, i| {
                let s = products(b, &i);
                let s = div_n(b, s, 4.0);
                let s = b.add(s, i.mask).unwrap();
                finished(b, s, i.v)
            },
        ),
        ("keys transposed apart, mask first", |b, i| {
            let (q, k) = (queries(b, i.q), queries(b, i.k));
            let k = b.transpose(k, &[0, 1, 3, 2]).unwrap();
            let s = b.matmul(q, k).unwrap();
            let s = b.mul_n(s, 0.25).unwrap();
            let s = b.add(i.mask, s).unwrap();
            finished(b, s, i.v)
        }),
        ("distilbert: queries divided", |b, i| {
            let (q, k) = (queries(b, i.q), turned_keys(b, i.k));
            let q = div_n(b, q, 4.0);
            let s = b.matmul(q, k).unwrap();
            let s = b.add(s, i.mask).unwrap();
            finished(b, s, i.v)
        }),
        (
            "deberta: keys divided after they were transposed",
            |b, i| {
                let (q, k) = (queries(b, i.q), queries(b, i.k));
                let k = b.transpose(k, &[0, 1, 3, 2]).unwrap();
                let k = div_n(b, k, 4.0);
                let s = b.matmul(q, k).unwrap();
                let s = b.add(s, i.mask).unwrap();
                finished(b, s, i.v)
            },
        ),
        ("torch.onnx: the root of the scale on both sides", |b, i| {
            let (q, k) = (queries(b, i.q), turned_keys(b, i.k));
            let (q, k) = (b.mul_n(q, 0.5).unwrap(), b.mul_n(k, 0.5).unwrap());
            let s = b.matmul(q, k).unwrap();
            let s = b.add(s, i.mask).unwrap();
            finished(b, s, i.v)
        }),
        (
            "torch.onnx with dynamo: keys transposed in three axes",
            |b, i| {
                let (q, k) = (queries(b, i.q), queries(b, i.k));
                let k = flat(b, k);
                let k = b.transpose(k, &[0, 2, 1]).unwrap();
                let k = apart(b, k);
                let (q, k) = (b.mul_n(q, 0.5).unwrap(), b.mul_n(k, 0.5).unwrap());
                let s = b.matmul(q, k).unwrap();
                let s = b.add(s, i.mask).unwrap();
                finished(b, s, i.v)
            },
        ),
        ("scaled keys, then transposed", |b, i| {
            let (q, k) = (queries(b, i.q), queries(b, i.k));
            let k = b.mul_n(k, 0.25).unwrap();
            let k = b.transpose(k, &[0, 1, 3, 2]).unwrap();
            let s = b.matmul(q, k).unwrap();
            let s = b.add(s, i.mask).unwrap();
            finished(b, s, i.v)
        }),
        ("gpt2: causal by selection, then a mask", |b, i| {
            let s = products(b, &i);
            let s = div_n(b, s, 4.0);
            let seen = causal(b);
            let low = b.number(s, f64::from(f32::MIN)).unwrap();
            let s = b.select(seen, s, low).unwrap();
            let s = b.add(s, i.mask).unwrap();
            finished(b, s, i.v)
        }),
        ("masked_fill with −∞: the scores come last", |b, i| {
            let s = products(b, &i);
            let seen = causal(b);
            let hidden = b.un(UnaryKind::Not, seen).unwrap();
            let low = b.number(s, f64::NEG_INFINITY).unwrap();
            let s = b.select(hidden, low, s).unwrap();
            finished(b, s, i.v)
        }),
        ("t5: no scale, bias and mask", |b, i| {
            let s = products(b, &i);
            let bias = super::testing::weights(b, 3, &[1, H, L, S], 0.0);
            let s = b.add(s, bias).unwrap();
            let s = b.add(s, i.mask).unwrap();
            finished(b, s, i.v)
        }),
        (
            "bart: heads and batch as one, apart for the mask",
            |b, i| {
                let (q, k, v) = (queries(b, i.q), queries(b, i.k), values(b, i.v));
                let (q, k, v) = (flat(b, q), flat(b, k), flat(b, v));
                let q = b.mul_n(q, 0.25).unwrap();
                let k = b.transpose(k, &[0, 2, 1]).unwrap();
                let s = b.matmul(q, k).unwrap();
                let s = apart(b, s);
                let s = b.add(s, i.mask).unwrap();
                let s = flat(b, s);
                let w = b.softmax(s, 2).unwrap();
                let y = b.matmul(w, v).unwrap();
                let y = apart(b, y);
                merged(b, y)
            },
        ),
        ("bloom: baddbmm with its two factors", |b, i| {
            let s = products(b, &i);
            let s = b.mul_n(s, 0.25).unwrap();
            let bias = b.mul_n(i.mask, 1.0).unwrap();
            let s = b.add(bias, s).unwrap();
            finished(b, s, i.v)
        }),
        ("clip: no mask", |b, i| {
            let s = products(b, &i);
            let s = b.mul_n(s, 0.25).unwrap();
            finished(b, s, i.v)
        }),
        (
            "the additive mask of tf: (1 − mask) · −10000",
            |b, i| {
                let s = products(b, &i);
                let s = b.mul_n(s, 0.25).unwrap();
                let one = b.number(i.mask, 1.0).unwrap();
                let m = b.sub(one, i.mask).unwrap();
                let m = b.mul_n(m, -10_000.0).unwrap();
                let s = b.add(s, m).unwrap();
                finished(b, s, i.v)
            },
        ),
        ("factors before and after", |b, i| {
            let (q, k) = (queries(b, i.q), turned_keys(b, i.k));
            let q = b.mul_n(q, 2.0).unwrap();
            let s = b.matmul(q, k).unwrap();
            let s = div_n(b, s, 16.0);
            let s = b.mul_n(s, -1.5).unwrap();
            finished(b, s, i.v)
        }),
        ("keys as they lie", |b, i| {
            let (q, k) = (queries(b, i.q), queries(b, i.k));
            let s = b.matmul_t(q, k).unwrap();
            let s = b.mul_n(s, 0.25).unwrap();
            let s = b.add(s, i.mask).unwrap();
            finished(b, s, i.v)
        }),
        ("values transposed", |b, i| {
            let s = products(b, &i);
            let w = b.softmax(s, 3).unwrap();
            let v = heads(b, i.v, F, [0, 2, 3, 1]);
            let op = MatMul {
                transpose_a: false,
                transpose_b: true,
            };
            let y = b.node(Op::MatMul(op), &[w, v]).unwrap();
            merged(b, y)
        }),
        ("softmax in double precision", |b, i| {
            let s = products(b, &i);
            let s = b.add(s, i.mask).unwrap();
            let s = b.to(s, DType::F64).unwrap();
            let w = b.softmax(s, 3).unwrap();
            let w = b.to(w, DType::F32).unwrap();
            let v = values(b, i.v);
            let y = b.matmul(w, v).unwrap();
            merged(b, y)
        }),
        ("softmax by hand", |b, i| {
            let s = products(b, &i);
            let s = b.add(s, i.mask).unwrap();
            let m = b.reduce(ReduceKind::Max, s, &[3], true).unwrap();
            let c = b.sub(s, m).unwrap();
            let e = b.un(UnaryKind::Exp, c).unwrap();
            let t = b.reduce(ReduceKind::Sum, e, &[3], true).unwrap();
            let w = b.div(e, t).unwrap();
            let v = values(b, i.v);
            let y = b.matmul(w, v).unwrap();
            merged(b, y)
        }),
        ("queries transposed by the product", |b, i| {
            let (q, k) = (heads(b, i.q, E, [0, 2, 3, 1]), turned_keys(b, i.k));
            let op = MatMul {
                transpose_a: true,
                transpose_b: false,
            };
            let s = b.node(Op::MatMul(op), &[q, k]).unwrap();
            finished(b, s, i.v)
        }),
        ("the mask in more axes than the scores need", |b, i| {
            let s = products(b, &i);
            let wide = b.expand(i.mask, shape(&[B, H, L, S])).unwrap();
            let s = b.add(s, wide).unwrap();
            finished(b, s, i.v)
        }),
    ];
    for (why, build) in cases {
        let before = layer(DType::F32, build);
        let (after, report) = clean(&before).unwrap();
        assert_eq!(
            report.rewrites.get("attention"),
            Some(&1),
            "{why}:\n{}",
            print(&after)
        );
        // Around the operation there are masks at most.
        let masks = ["select", "add", "mul", "sub", "not", "expand"];
        let mut found = ops(&after);
        found.retain(|op| !masks.contains(op));
        // In which order the heads come does not matter.
        let mut expected = LAYER.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{why}:\n{}", print(&after));
        let name = |m: &Module| {
            let f = m.main().unwrap();
            f.value(f.outputs[0].value).name.clone()
        };
        assert_eq!(name(&after), name(&before), "{why}");
        assert_equivalent(&before, &after, 2e-5);
        let (still, nothing) = clean(&after).unwrap();
        assert!(nothing.rewrites.is_empty(), "{why}: {nothing:?}");
        assert_eq!(print(&still), print(&after), "{why}");
    }
}

#[test]
fn what_only_looks_like_it_stays() {
    let cases: [(&str, Build); 17] = [
        ("the weights are an output", |b, i| {
            let s = products(b, &i);
            let w = b.softmax(s, 3).unwrap();
            b.output("weights", w).unwrap();
            let v = values(b, i.v);
            b.matmul(w, v).unwrap()
        }),
        ("the scores are used again", |b, i| {
            let s = products(b, &i);
            let y = finished(b, s, i.v);
            let m = b.reduce(ReduceKind::Max, s, &[1, 3], false).unwrap();
            let m = b.unsqueeze(m, &[2]).unwrap();
            b.add(y, m).unwrap()
        }),
        ("softmax over the queries", |b, i| {
            let s = products(b, &i);
            let w = b.softmax(s, 2).unwrap();
            let v = values(b, i.v);
            b.matmul(w, v).unwrap()
        }),
        (
            "a selection whose fill a fully masked row would see",
            |b, i| {
                let s = products(b, &i);
                let seen = causal(b);
                let low = b.number(s, -10_000.0).unwrap();
                let s = b.select(seen, s, low).unwrap();
                finished(b, s, i.v)
            },
        ),
        ("two fills", |b, i| {
            let s = products(b, &i);
            let seen = causal(b);
            let low = [f32::NEG_INFINITY, f32::MIN].repeat(S)[..S].to_vec();
            let low = b
                .tensor("low", &Tensor::f32(vec![S], low).unwrap())
                .unwrap();
            let s = b.select(seen, s, low).unwrap();
            finished(b, s, i.v)
        }),
        ("multiplied after the mask", |b, i| {
            let s = products(b, &i);
            let s = b.add(s, i.mask).unwrap();
            let s = b.mul_n(s, 0.25).unwrap();
            finished(b, s, i.v)
        }),
        ("a factor per head", |b, i| {
            let s = products(b, &i);
            let each = super::testing::weights(b, 5, &[H, 1, 1], 1.0);
            let s = b.mul(s, each).unwrap();
            finished(b, s, i.v)
        }),
        ("a factor that is computed", |b, i| {
            let s = products(b, &i);
            let m = b.reduce(ReduceKind::Max, i.mask, &[0, 3], true).unwrap();
            let s = b.mul(s, m).unwrap();
            finished(b, s, i.v)
        }),
        ("scores divide a number", |b, i| {
            let s = products(b, &i);
            let n = b.number(s, 4.0).unwrap();
            let s = b.div(n, s).unwrap();
            finished(b, s, i.v)
        }),
        ("the mask widens the scores", |b, i| {
            let s = products(b, &i);
            let s = b.reduce(ReduceKind::Max, s, &[1], true).unwrap();
            let one = b.part(s, 3, 0, 1).unwrap();
            let s = b.add(one, i.mask).unwrap();
            finished(b, s, i.v)
        }),
        ("keys are weights", |b, i| {
            let q = queries(b, i.q);
            let k = super::testing::weights(b, 6, &[E, S], 0.0);
            let s = b.matmul(q, k).unwrap();
            finished(b, s, i.v)
        }),
        ("capped scores", |b, i| {
            let s = products(b, &i);
            let s = b.un(UnaryKind::Tanh, s).unwrap();
            finished(b, s, i.v)
        }),
        ("rounded before the softmax", |b, i| {
            let s = products(b, &i);
            let s = b.to(s, DType::F16).unwrap();
            let w = b.softmax(s, 3).unwrap();
            let w = b.to(w, DType::F32).unwrap();
            let v = values(b, i.v);
            b.matmul(w, v).unwrap()
        }),
        ("weights corrected after the softmax", |b, i| {
            let s = products(b, &i);
            let w = b.softmax(s, 3).unwrap();
            let zero = b.number(w, 0.0).unwrap();
            let nan = b.cmp(CompareKind::NotEqual, w, w).unwrap();
            let w = b.select(nan, zero, w).unwrap();
            let v = values(b, i.v);
            b.matmul(w, v).unwrap()
        }),
        ("weights on the other side", |b, i| {
            let s = products(b, &i);
            let w = b.softmax(s, 3).unwrap();
            let v = heads(b, i.v, F, [0, 2, 3, 1]);
            let w = b.transpose(w, &[0, 1, 3, 2]).unwrap();
            b.matmul(v, w).unwrap()
        }),
        ("no product before the softmax", |b, i| {
            let (q, k) = (queries(b, i.q), queries(b, i.k));
            let q = b.reduce(ReduceKind::Sum, q, &[3], true).unwrap();
            let k = b.reduce(ReduceKind::Sum, k, &[3], true).unwrap();
            let k = b.transpose(k, &[0, 1, 3, 2]).unwrap();
            let s = b.add(q, k).unwrap();
            finished(b, s, i.v)
        }),
        ("masks in two forms", |b, i| {
            let s = products(b, &i);
            let s = b.add(s, i.mask).unwrap();
            let s = flat(b, s);
            let each = super::testing::weights(b, 7, &[B * H, 1, S], 0.0);
            let s = b.add(s, each).unwrap();
            let w = b.softmax(s, 2).unwrap();
            let w = apart(b, w);
            let v = values(b, i.v);
            b.matmul(w, v).unwrap()
        }),
    ];
    for (why, build) in cases {
        let before = layer(DType::F32, build);
        let mut counts = Counts::new();
        let after = replace(&before, &mut counts, super::attention::find).unwrap();
        assert!(counts.is_empty(), "{why}: {counts:?}");
        assert_eq!(ops(&after), ops(&before), "{why}");
    }
}

#[test]
fn half_precision_with_its_softmax_in_single() {
    let before = layer(DType::F16, |b, i| {
        let s = products(b, &i);
        let s = b.mul_n(s, 0.25).unwrap();
        let s = b.add(s, i.mask).unwrap();
        let s = b.to(s, DType::F32).unwrap();
        let w = b.softmax(s, 3).unwrap();
        let w = b.to(w, DType::F16).unwrap();
        let v = values(b, i.v);
        let y = b.matmul(w, v).unwrap();
        merged(b, y)
    });
    let (after, _) = clean(&before).unwrap();
    assert!(ops(&after).contains(&"attention") && !ops(&after).contains(&"cast"));
    assert_equivalent(&before, &after, 1e-5);
    // Lowest finite fills of 16 bits do not swallow what they are added to.
    let selected = layer(DType::F16, |b, i| {
        let s = products(b, &i);
        let seen = causal(b);
        let low = b.number(s, -65_504.0).unwrap();
        let s = b.select(seen, s, low).unwrap();
        finished(b, s, i.v)
    });
    let (after, _) = clean(&selected).unwrap();
    assert!(!ops(&after).contains(&"attention"));
}

#[test]
fn rows_that_see_no_key_stay_what_they_were() {
    // The lowest finite number: the weights are all alike, selected or added.
    let before = layer(DType::F32, |b, i| {
        let s = products(b, &i);
        let none = vec![false; B * S];
        let none = Tensor::bool(vec![B, 1, 1, S], none).unwrap();
        let none = b.tensor("none", &none).unwrap();
        let low = b.number(s, f64::from(f32::MIN)).unwrap();
        let s = b.select(none, s, low).unwrap();
        finished(b, s, i.v)
    });
    let (after, report) = clean(&before).unwrap();
    assert_eq!(report.rewrites.get("attention"), Some(&1));
    assert_equivalent(&before, &after, 1e-6);
}

#[test]
fn timm_takes_queries_keys_and_values_from_one_product() {
    let mut b = Builder::new("m");
    let ty = Type::known(DType::F32, &[B, L, 3 * H * E]);
    let x = b.param("x", ty, Domain::Any).unwrap();
    let x = b.reshape(x, shape(&[B, L, 3, H, E])).unwrap();
    let x = b.transpose(x, &[2, 0, 3, 1, 4]).unwrap();
    let mut one = |n: i64| {
        let at = b
            .tensor("at", &Tensor::i64(vec![], vec![n]).unwrap())
            .unwrap();
        b.push("one", Op::Gather(Gather { axis: 0 }), &[x, at])
            .unwrap()
    };
    let (q, k, v) = (one(0), one(1), one(2));
    let q = b.mul_n(q, 0.25).unwrap();
    let k = b.transpose(k, &[0, 1, 3, 2]).unwrap();
    let s = b.matmul(q, k).unwrap();
    let w = b.softmax(s, 3).unwrap();
    let y = b.matmul(w, v).unwrap();
    b.output("y", y).unwrap();
    let before = b.finish().unwrap();
    let (after, _) = clean(&before).unwrap();
    let expected = [
        "reshape",
        "transpose",
        "gather",
        "gather",
        "gather",
        "attention",
    ];
    assert_eq!(ops(&after), expected);
    assert_equivalent(&before, &after, 1e-5);
}

#[test]
fn keys_that_are_kept_for_the_next_run_are_not_scaled_away() {
    // The scaled and transposed keys are an output as well.
    let mut b = Builder::new("m");
    let mut param = |name: &str, n: usize| {
        let ty = Type::known(DType::F32, &[1, 2, n, 4]);
        b.param(name, ty, Domain::Any).unwrap()
    };
    let (q, k, v) = (param("q", 3), param("k", 5), param("v", 5));
    let k = b.transpose(k, &[0, 1, 3, 2]).unwrap();
    let k = b.bin(BinaryKind::Mul, k, k).unwrap();
    let half = b.number(k, 0.5).unwrap();
    let k = b.binary("present", BinaryKind::Mul, k, half).unwrap();
    b.output("present", k).unwrap();
    let s = b.matmul(q, k).unwrap();
    let w = b.softmax(s, 3).unwrap();
    let y = b.matmul(w, v).unwrap();
    b.output("y", y).unwrap();
    let before = b.finish().unwrap();
    let (after, report) = clean(&before).unwrap();
    assert_eq!(report.rewrites.get("attention"), Some(&1));
    assert_equivalent(&before, &after, 1e-5);
}

#[test]
fn the_parts_compute_the_same_and_one_of_them_can_stay_in_single_precision() {
    let before = layer(DType::F32, |b, i| {
        let s = products(b, &i);
        let s = b.mul_n(s, 0.25).unwrap();
        let s = b.add(s, i.mask).unwrap();
        finished(b, s, i.v)
    });
    let (whole, _) = clean(&before).unwrap();
    let apart = parts(&whole).unwrap();
    let found = ops(&apart);
    assert!(
        found
            .windows(4)
            .any(|w| w == ["mul", "matmul", "add", "softmax"]),
        "{found:?}"
    );
    assert_equivalent(&before, &apart, 2e-5);
    assert_eq!(print(&parts(&before).unwrap()), print(&before));
    let softmax = Islands::new(vec!["softmax".into()]);
    assert!(softmax.name_parts() && !Islands::new(vec!["attention".into()]).name_parts());
    let (_, report) = precision(&apart, &softmax).unwrap();
    let kept: Vec<&str> = report.kept_in_f32.iter().map(|k| k.node.as_str()).collect();
    assert_eq!(kept, ["matmul_1/weights"]);
    // Attention itself is one node with one rounding.
    let (half, report) = precision(&whole, &Islands::default()).unwrap();
    assert_eq!(
        (report.f16_nodes, report.kept_in_f32.len()),
        (ops(&whole).len(), 0)
    );
    let given = inputs(&before, 5, 1.0);
    let expected = run(&before, Mode::F32, &given);
    let of = |m: &Module| distance(&run(m, Mode::F16, &given), &expected);
    let (half_parts, _) = precision(&apart, &Islands::default()).unwrap();
    assert!(
        of(&half) < 2e-3 && of(&half) <= of(&half_parts),
        "{} {}",
        of(&half),
        of(&half_parts)
    );
}

#[test]
fn scaled_queries_keep_scores_within_half_precision() {
    // Products beyond 65504, scores within it: as written by hand they overflow, as attention they do not.
    let before = layer(DType::F32, |b, i| {
        let s = products(b, &i);
        let s = div_n(b, s, 64.0);
        finished(b, s, i.v)
    });
    let (after, _) = clean(&before).unwrap();
    let given = inputs(&before, 5, 180.0);
    let half = |m: &Module| {
        let (half, _) = precision(m, &Islands::default()).unwrap();
        run(&half, Mode::F16, &given)
    };
    let broken = half(&before)["y"].to_f64();
    assert!(broken.iter().any(|v| v.is_nan()), "∞ − ∞ was expected");
    let fine = half(&parts(&after).unwrap());
    assert!(fine["y"].to_f64().iter().all(|v| v.is_finite()));
}
