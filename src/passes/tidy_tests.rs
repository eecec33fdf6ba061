//! What goes because it changes nothing, and what looks as if it did; what folds into products; that the passes do the same every time.

#![allow(clippy::as_conversions)]

use super::graph::{Counts, replace};
use super::testing::{assert_equivalent, distance, graph, inputs, noise, ops, run, weights};
use super::{Islands, affine, clean, precision, tidy};
use crate::eval::Mode;
use crate::ir::ops::{
    BatchNorm, BinaryKind, Cast, CompareKind, Concat, Conv, ConvTranspose, If, Linear, Loop, Pad,
    PadMode, ReduceKind, Reverse, Slice, SliceRange, Tile, UnaryKind, Window,
};
use crate::ir::{
    Affine, Builder, Compression, Constant, Dim, Domain, Module, Op, Palette, Type, ValueId, print,
};
use crate::tensor::{DType, Tensor};

type Build = fn(&mut Builder, ValueId) -> ValueId;

fn tidied(module: &Module) -> (Module, Counts) {
    let mut counts = Counts::new();
    let module = tidy(module.clone(), &mut counts).unwrap();
    (module, counts)
}

fn to(b: &mut Builder, x: ValueId, to: DType) -> ValueId {
    b.push("cast", Op::Cast(Cast { to }), &[x]).unwrap()
}

fn transpose(b: &mut Builder, x: ValueId, perm: [usize; 3]) -> ValueId {
    b.transpose(x, &perm).unwrap()
}

#[test]
fn what_changes_nothing_goes() {
    let cases: [(&str, Build); 17] = [
        ("+ 0", |b, x| b.add_n(x, 0.0).unwrap()),
        ("1 ·", |b, x| {
            let one = b.number(x, 1.0).unwrap();
            b.mul(one, x).unwrap()
        }),
        ("− 0", |b, x| {
            let zero = b.number(x, 0.0).unwrap();
            b.sub(x, zero).unwrap()
        }),
        ("/ ones", |b, x| {
            let ones = Tensor::f32(vec![1, 4], vec![1.0; 4]).unwrap();
            let ones = b.tensor("ones", &ones).unwrap();
            b.div(x, ones).unwrap()
        }),
        ("to the power of 1", |b, x| {
            let one = b.number(x, 1.0).unwrap();
            b.bin(BinaryKind::Pow, x, one).unwrap()
        }),
        ("max with −∞", |b, x| {
            let low = b.number(x, f64::NEG_INFINITY).unwrap();
            b.bin(BinaryKind::Max, low, x).unwrap()
        }),
        ("unbounded clip", |b, x| {
            b.clip(x, f32::NEG_INFINITY, f32::INFINITY).unwrap()
        }),
        ("cast to its own type", |b, x| to(b, x, DType::F32)),
        ("whole slice", |b, x| {
            let ranges = vec![SliceRange::new(0, 0, 2), SliceRange::new(2, 0, 4)];
            b.push("slice", Op::Slice(Slice { ranges }), &[x]).unwrap()
        }),
        ("no padding", |b, x| {
            let (begin, end) = (vec![Dim::from(0); 3], vec![Dim::from(0); 3]);
            let mode = PadMode::Edge;
            let pad = Op::Pad(Pad { mode, begin, end });
            b.push("pad", pad, &[x]).unwrap()
        }),
        ("one copy", |b, x| {
            let repeats = vec![Dim::from(1); 3];
            b.push("tile", Op::Tile(Tile { repeats }), &[x]).unwrap()
        }),
        ("one part", |b, x| {
            b.push("concat", Op::Concat(Concat { axis: 1 }), &[x])
                .unwrap()
        }),
        ("one element reversed", |b, x| {
            let axes = vec![1];
            b.push("reverse", Op::Reverse(Reverse { axes }), &[x])
                .unwrap()
        }),
        ("mean of one", |b, x| {
            b.reduce(ReduceKind::Mean, x, &[1], true).unwrap()
        }),
        ("there and back", |b, x| {
            let y = transpose(b, x, [2, 0, 1]);
            transpose(b, y, [1, 2, 0])
        }),
        ("out and in", |b, x| {
            let y = b.squeeze(x, &[1]).unwrap();
            let y = b.reshape(y, vec![Dim::from(8)]).unwrap();
            b.reshape(y, vec![Dim::from(2), Dim::from(1), Dim::from(4)])
                .unwrap()
        }),
        ("moved around a new axis", |b, x| {
            let y = transpose(b, x, [0, 2, 1]);
            let y = b.unsqueeze(y, &[0]).unwrap();
            let y = b.squeeze(y, &[0]).unwrap();
            transpose(b, y, [0, 2, 1])
        }),
    ];
    for (why, build) in cases {
        // Something before and behind it, so that it stands inside of the graph.
        let before = graph(DType::F32, &[2, 1, 4], |b, x| {
            let x = b.un(UnaryKind::Tanh, x).unwrap();
            let y = build(b, x);
            b.un(UnaryKind::Exp, y).unwrap()
        });
        assert!(ops(&before).len() > 2, "{why}");
        let (after, counts) = tidied(&before);
        assert_eq!(ops(&after), ["tanh", "exp"], "{why}: {counts:?}");
        assert_equivalent(&before, &after, 0.0);
    }
}

#[test]
fn what_changes_something_stays() {
    let cases: [(&str, Build); 12] = [
        ("0 −", |b, x| {
            let zero = b.number(x, 0.0).unwrap();
            b.sub(zero, x).unwrap()
        }),
        ("1 /", |b, x| {
            let one = b.number(x, 1.0).unwrap();
            b.div(one, x).unwrap()
        }),
        ("a wider zero", |b, x| {
            let zeros = Tensor::f32(vec![3, 1], vec![0.0; 3]).unwrap();
            let zeros = b.tensor("zeros", &zeros).unwrap();
            b.add(x, zeros).unwrap()
        }),
        ("max with a number", |b, x| {
            let low = b.number(x, -3.4e38).unwrap();
            b.bin(BinaryKind::Max, x, low).unwrap()
        }),
        ("clip to what is finite", |b, x| {
            b.clip(x, f32::MIN, f32::MAX).unwrap()
        }),
        ("half of a cast", |b, x| {
            let y = to(b, x, DType::F16);
            to(b, y, DType::F32)
        }),
        ("through integers", |b, x| {
            let y = to(b, x, DType::I32);
            to(b, y, DType::F32)
        }),
        ("every other", |b, x| {
            let range = SliceRange {
                step: 2,
                ..SliceRange::new(2, 0, 4)
            };
            let ranges = vec![range];
            b.push("slice", Op::Slice(Slice { ranges }), &[x]).unwrap()
        }),
        ("sum of one that is not alone", |b, x| {
            b.reduce(ReduceKind::Sum, x, &[0, 1], true).unwrap()
        }),
        ("length of one", |b, x| {
            b.reduce(ReduceKind::L2, x, &[1], true).unwrap()
        }),
        ("turned the same way twice", |b, x| {
            let y = transpose(b, x, [1, 2, 0]);
            let y = b.un(UnaryKind::Neg, y).unwrap();
            transpose(b, y, [2, 0, 1])
        }),
        ("wraps", |b, x| {
            // 300 is another 8-bit integer than the float 300 is.
            let y = b.mul_n(x, 300.0).unwrap();
            let y = to(b, y, DType::I16);
            let y = to(b, y, DType::F32);
            to(b, y, DType::I8)
        }),
    ];
    for (why, build) in cases {
        let before = graph(DType::F32, &[2, 1, 4], build);
        let (after, counts) = tidied(&before);
        assert!(counts.is_empty(), "{why}: {counts:?}");
        assert_eq!(ops(&after), ops(&before), "{why}");
    }
}

#[test]
fn rows_of_moves_and_casts_become_one() {
    let cases: [(&[&str], Build); 6] = [
        (&["transpose"], |b, x| {
            let y = transpose(b, x, [1, 2, 0]);
            transpose(b, y, [1, 2, 0])
        }),
        (&["reshape"], |b, x| {
            let y = b.reshape(x, vec![Dim::from(24)]).unwrap();
            b.reshape(y, vec![Dim::from(6), Dim::from(4)]).unwrap()
        }),
        (&["unsqueeze"], |b, x| {
            let y = transpose(b, x, [0, 2, 1]);
            let y = b.unsqueeze(y, &[3]).unwrap();
            b.transpose(y, &[0, 2, 1, 3]).unwrap()
        }),
        (&["cast"], |b, x| {
            let y = to(b, x, DType::F64);
            to(b, y, DType::F16)
        }),
        (&["tanh", "add"], |b, x| {
            // Computed twice, by equal constants of different names.
            let (p, q) = (
                b.un(UnaryKind::Tanh, x).unwrap(),
                b.un(UnaryKind::Tanh, x).unwrap(),
            );
            b.add(p, q).unwrap()
        }),
        (&["reduce_max", "sub"], |b, x| {
            let m = b.reduce(ReduceKind::Max, x, &[2], true).unwrap();
            let shape = b.shape(x);
            let wide = b.expand(m, shape).unwrap();
            b.sub(x, wide).unwrap()
        }),
    ];
    for (expected, build) in cases {
        let before = graph(DType::F32, &[2, 3, 4], build);
        let (after, _) = tidied(&before);
        assert_eq!(ops(&after), expected);
        assert!(ops(&before).len() > expected.len());
        assert_equivalent(&before, &after, 0.0);
    }
}

#[test]
fn every_permutation_around_new_and_removed_axes() {
    let perms = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for first in perms {
        for at in 0..4usize {
            for second in perms {
                let before = graph(DType::F32, &[2, 3, 4], |b, x| {
                    let y = transpose(b, x, first);
                    let y = b.unsqueeze(y, &[at]).unwrap();
                    // The new axis goes where the second permutation has its last.
                    let mut perm: Vec<usize> = second.to_vec();
                    perm.insert(at.min(2), 3);
                    let y = b.transpose(y, &perm).unwrap();
                    let gone = perm.iter().position(|&p| p == at).unwrap();
                    let y = b.squeeze(y, &[gone]).unwrap();
                    let y = b.transpose(y, &second).unwrap();
                    b.un(UnaryKind::Exp, y).unwrap()
                });
                let (after, _) = tidied(&before);
                assert!(ops(&after).len() <= ops(&before).len());
                assert_equivalent(&before, &after, 1e-6);
            }
        }
    }
}

#[test]
fn an_output_keeps_its_name() {
    let before = graph(DType::F32, &[2, 3], |b, x| {
        let t = b.push(
            "inner",
            Op::Unary(crate::ir::ops::Unary {
                kind: UnaryKind::Tanh,
            }),
            &[x],
        );
        let zero = b.number(x, 0.0).unwrap();
        b.binary("result", BinaryKind::Add, t.unwrap(), zero)
            .unwrap()
    });
    let (after, _) = tidied(&before);
    let f = after.main().unwrap();
    assert_eq!(f.value(f.outputs[0].value).name, "result");
    assert_eq!(ops(&after), ["tanh"]);
}

fn window(stride: usize) -> Window {
    Window {
        strides: vec![stride; 2],
        pads: vec![(1, 1); 2],
        ..Window::unit(2)
    }
}

fn batch_norm(b: &mut Builder, x: ValueId, channels: usize) -> ValueId {
    let mean = weights(b, 21, &[channels], 0.2);
    let variance = weights(b, 22, &[channels], 0.8);
    let gamma = weights(b, 23, &[channels], 1.0);
    let beta = weights(b, 24, &[channels], 0.1);
    let op = Op::BatchNorm(BatchNorm { epsilon: 1e-3 });
    b.push("bn", op, &[x, mean, variance, gamma, beta]).unwrap()
}

fn conv(b: &mut Builder, x: ValueId, groups: usize, bias: bool) -> ValueId {
    let mut operands = vec![x, weights(b, 11, &[6, 4 / groups, 3, 3], 0.0)];
    if bias {
        operands.push(weights(b, 12, &[6], 0.0));
    }
    let window = window(1);
    b.push("conv", Op::Conv(Conv { window, groups }), &operands)
        .unwrap()
}

fn conv_transpose(b: &mut Builder, x: ValueId, groups: usize) -> ValueId {
    let w = weights(b, 13, &[4, 6 / groups, 3, 3], 0.0);
    let op = ConvTranspose {
        window: window(2),
        groups,
        output_pads: vec![0, 0],
    };
    b.push("up", Op::ConvTranspose(op), &[x, w]).unwrap()
}

fn folded(module: &Module) -> (Module, Counts) {
    let mut counts = Counts::new();
    let module = replace(module, &mut counts, affine::find).unwrap();
    (module, counts)
}

#[test]
fn batch_norms_scales_and_biases_fold_into_the_product() {
    let cases: [(&[&str], Build); 9] = [
        (&["conv"], |b, x| {
            let y = conv(b, x, 1, false);
            batch_norm(b, y, 6)
        }),
        (&["conv"], |b, x| {
            let y = conv(b, x, 2, true);
            let y = batch_norm(b, y, 6);
            let y = b.mul_n(y, 1.5).unwrap();
            b.add_n(y, -0.25).unwrap()
        }),
        (&["conv"], |b, x| {
            let y = conv(b, x, 1, true);
            let c = weights(b, 31, &[1, 6, 1, 1], 1.0);
            let y = b.div(y, c).unwrap();
            let c = weights(b, 32, &[6, 1, 1], 0.0);
            let y = b.sub(c, y).unwrap();
            b.sub(y, c).unwrap()
        }),
        (&["conv_transpose"], |b, x| {
            let y = conv_transpose(b, x, 1);
            batch_norm(b, y, 6)
        }),
        (&["conv_transpose"], |b, x| {
            let y = conv_transpose(b, x, 2);
            batch_norm(b, y, 6)
        }),
        (&["linear"], |b, x| {
            let w = weights(b, 14, &[5, 7], 0.0);
            let y = b.matmul(x, w).unwrap();
            let c = weights(b, 33, &[7], 0.0);
            b.add(c, y).unwrap()
        }),
        (&["linear"], |b, x| {
            let w = weights(b, 15, &[7, 5], 0.0);
            let y = b.matmul_t(x, w).unwrap();
            let c = weights(b, 34, &[1, 7], 1.0);
            b.mul(y, c).unwrap()
        }),
        (&["linear"], |b, x| {
            let (w, c) = (weights(b, 16, &[7, 5], 0.0), weights(b, 35, &[7], 0.0));
            let y = b.push("linear", Op::Linear(Linear), &[x, w, c]).unwrap();
            let y = b.mul_n(y, 0.125).unwrap();
            b.add(y, c).unwrap()
        }),
        (&["conv", "squeeze"], |b, x| {
            let w = weights(b, 17, &[3, 4, 1, 5], 0.0);
            let op = Conv {
                window: Window::unit(2),
                groups: 1,
            };
            let y = b.push("conv", Op::Conv(op), &[x, w]).unwrap();
            let y = b.squeeze(y, &[3]).unwrap();
            let c = weights(b, 36, &[1, 3, 1], 0.0);
            b.add(y, c).unwrap()
        }),
    ];
    for (i, (expected, build)) in cases.into_iter().enumerate() {
        let before = graph(DType::F32, &[2, 4, 5, 5], build);
        let (after, counts) = folded(&before);
        assert_eq!(ops(&after), expected, "case {i}: {counts:?}");
        let name = |m: &Module| {
            let f = m.main().unwrap();
            f.value(f.outputs[0].value).name.clone()
        };
        assert_eq!(name(&after), name(&before), "case {i}");
        assert_equivalent(&before, &after, 1e-5);
        // In 16 bits both are as near to the reference as rounding lets them be.
        let given = inputs(&before, 3, 1.0);
        let reference = run(&before, Mode::F32, &given);
        let (half, _) = precision(&after, &Islands::default()).unwrap();
        assert!(
            distance(&run(&half, Mode::F16, &given), &reference) < 5e-3,
            "case {i}"
        );
    }
}

#[test]
fn what_does_not_belong_to_the_product_stays_outside() {
    let cases: [(&str, Build); 8] = [
        ("another user", |b, x| {
            let y = conv(b, x, 1, false);
            let z = batch_norm(b, y, 6);
            b.add(y, z).unwrap()
        }),
        ("an output", |b, x| {
            let y = conv(b, x, 1, false);
            b.output("raw", y).unwrap();
            batch_norm(b, y, 6)
        }),
        ("a constant per pixel", |b, x| {
            let y = conv(b, x, 1, false);
            let c = weights(b, 41, &[5, 5], 0.0);
            b.add(y, c).unwrap()
        }),
        ("a constant per sample", |b, x| {
            let y = conv(b, x, 1, false);
            let c = weights(b, 42, &[2, 1, 1, 1], 0.0);
            b.add(y, c).unwrap()
        }),
        ("a constant that widens", |b, x| {
            let y = conv(b, x, 1, false);
            let c = weights(b, 43, &[1, 1, 1, 1, 1], 0.0);
            b.add(y, c).unwrap()
        }),
        ("a constant over the product", |b, x| {
            let y = conv(b, x, 1, false);
            let one = b.number(y, 1.0).unwrap();
            b.div(one, y).unwrap()
        }),
        ("a product of two variables", |b, x| {
            let y = b.matmul_t(x, x).unwrap();
            b.mul_n(y, 0.5).unwrap()
        }),
        ("a batch norm of another axis", |b, x| {
            let w = weights(b, 44, &[5, 7], 0.0);
            let y = b.matmul(x, w).unwrap();
            batch_norm(b, y, 4)
        }),
    ];
    for (why, build) in cases {
        let before = graph(DType::F32, &[2, 4, 5, 5], build);
        let (after, counts) = folded(&before);
        assert!(counts.is_empty(), "{why}: {counts:?}");
        assert_eq!(ops(&after), ops(&before), "{why}");
    }
}

#[test]
fn weights_of_16_bits_keep_their_scale_apart() {
    let build = |scale: bool| {
        graph(DType::F16, &[2, 5], |b, x| {
            let w = Tensor::f32(vec![5, 3], noise(51, 15))
                .unwrap()
                .cast(DType::F16);
            let w = b.tensor("w", &w).unwrap();
            let y = b.matmul(x, w).unwrap();
            let n = b.number(y, 0.3).unwrap();
            if scale {
                b.mul(y, n).unwrap()
            } else {
                b.add(y, n).unwrap()
            }
        })
    };
    assert_eq!(ops(&folded(&build(true)).0), ["matmul", "mul"]);
    assert_eq!(ops(&folded(&build(false)).0), ["linear"]);
}

/// A scale would make a large weight of a small one and a table; a bias is none of its business.
#[test]
fn compressed_weights_keep_their_scale_apart() {
    let codes = Tensor::int(DType::U2, vec![7, 5], (0..35).map(|i| i % 4).collect()).unwrap();
    let codes = Constant::from_tensor("codes", &codes).unwrap();
    let lut = Tensor::f32(vec![1, 1, 4, 1], vec![-1.0, -0.25, 0.5, 2.0]).unwrap();
    let palette = Compression {
        palette: Some(Palette {
            lut: Constant::from_tensor("lut", &lut).unwrap(),
            vector_axis: 0,
        }),
        ..Compression::of(codes.clone())
    };
    let scale = Tensor::f32(vec![1, 1], vec![0.25]).unwrap();
    let affine = Compression {
        affine: Some(Affine {
            scale: Constant::from_tensor("scale", &scale).unwrap(),
            offset: None,
        }),
        ..Compression::of(codes)
    };
    for form in [palette, affine] {
        let build = |then: fn(&mut Builder, ValueId) -> ValueId| {
            let form = form.clone();
            graph(DType::F32, &[2, 5], move |b, x| {
                let w = b.constant(Constant::compressed("w", form).unwrap());
                let y = b.matmul_t(x, w).unwrap();
                then(b, y)
            })
        };
        let scaled = |b: &mut Builder, y| {
            let c = weights(b, 51, &[7], 1.0);
            b.mul(y, c).unwrap()
        };
        let biased = |b: &mut Builder, y| {
            let c = weights(b, 52, &[7], 0.0);
            b.add(y, c).unwrap()
        };
        let cases: [(Build, &[&str]); 2] = [(scaled, &["matmul", "mul"]), (biased, &["linear"])];
        for (then, left) in cases {
            let before = build(then);
            let after = folded(&before).0;
            assert_eq!(ops(&after), left);
            assert!(after.constants.iter().any(Constant::is_compressed));
            assert_equivalent(&before, &after, 1e-6);
        }
    }
}

/// Blocks of everything that the passes look for, each with its own constants.
fn long(blocks: u64) -> Module {
    graph(DType::F32, &[2, 4], |b, x| {
        let mut x = x;
        for i in 0..blocks {
            let w = weights(b, 7 * i + 1, &[4, 4], 0.0);
            let y = b.matmul(x, w).unwrap();
            let c = weights(b, 7 * i + 2, &[4], 0.0);
            let y = b.add(y, c).unwrap();
            let t = b.un(UnaryKind::Sigmoid, y).unwrap();
            let y = b.mul(y, t).unwrap();
            let y = b.transpose(y, &[1, 0]).unwrap();
            let y = b.transpose(y, &[1, 0]).unwrap();
            let m = b.reduce(ReduceKind::Mean, y, &[1], true).unwrap();
            let c = b.sub(y, m).unwrap();
            let s = b.mul(c, c).unwrap();
            let v = b.reduce(ReduceKind::Mean, s, &[1], true).unwrap();
            let v = b.add_n(v, 1e-5).unwrap();
            let d = b.un(UnaryKind::Sqrt, v).unwrap();
            let n = b.div(c, d).unwrap();
            let zero = b.number(n, 0.0).unwrap();
            let n = b.add(n, zero).unwrap();
            x = b.un(UnaryKind::Tanh, n).unwrap();
        }
        x
    })
}

#[test]
fn all_passes_together_and_the_same_every_time() {
    let before = long(5);
    let (after, report) = clean(&before).unwrap();
    let block = ["linear", "silu", "layer_norm", "tanh"];
    assert_eq!(ops(&after), block.repeat(5));
    assert_eq!((report.nodes_before, report.nodes_after), (75, 20));
    assert_eq!(
        report.text(),
        "fused 5 layer norms, 5 SiLUs; folded 5 biases; removed 5 transposes, 5 operations without effect"
    );
    assert_equivalent(&before, &after, 1e-4);
    let (again, same) = clean(&before).unwrap();
    assert_eq!((print(&again), same), (print(&after), report));
    let bytes = |m: &Module| -> Vec<Vec<u8>> {
        let constants = m.constants.iter();
        constants.map(|c| c.read().unwrap().to_le_bytes()).collect()
    };
    assert_eq!(bytes(&again), bytes(&after));
    // What is clean stays as it is.
    let (still, nothing) = clean(&after).unwrap();
    assert!(nothing.rewrites.is_empty(), "{nothing:?}");
    assert_eq!(print(&still), print(&after));
}

#[test]
fn a_graph_of_thousands_of_nodes_is_cleaned() {
    let blocks = 1000;
    let (after, _) = clean(&long(blocks)).unwrap();
    assert_eq!(after.main().unwrap().nodes.len() as u64, 4 * blocks);
}

/// A choice and a loop whose bodies hold what a clean-up finds: a SiLU by its parts, a constant that is computed, moves that cancel out.
fn controlled() -> Module {
    let mut b = Builder::new("m");
    let ty = Type::known(DType::F32, &[2, 3]);
    let x = b.param("x", ty.clone(), Domain::Any).unwrap();
    let parts = |b: &mut Builder, x: ValueId| {
        let t = b.un(UnaryKind::Sigmoid, x).unwrap();
        let y = b.mul(x, t).unwrap();
        let y = b.transpose(y, &[1, 0]).unwrap();
        let y = b.transpose(y, &[1, 0]).unwrap();
        let two = b.number(y, 2.0).unwrap();
        let four = b.mul(two, two).unwrap();
        b.mul(y, four).unwrap()
    };
    let then_body = b.body("then", |b| {
        let x = b.param("then/x", ty.clone(), Domain::Any)?;
        let y = parts(b, x);
        Ok(b.output("then/y", y)?)
    });
    let else_body = b.body("else", |b| {
        let x = b.param("else/x", ty.clone(), Domain::Any)?;
        let one = b.number(x, 1.0)?;
        let y = b.mul(x, one)?;
        // Nothing is left of it.
        let unused = b.un(UnaryKind::Exp, y)?;
        b.un(UnaryKind::Neg, unused)?;
        Ok(b.output("else/y", y)?)
    });
    let sum = b.reduce(ReduceKind::Sum, x, &[0, 1], false).unwrap();
    let positive = b.cmp_n(CompareKind::Greater, sum, 0.0).unwrap();
    let op = If {
        then_body: then_body.unwrap(),
        else_body: else_body.unwrap(),
        results: vec![ty.clone()],
    };
    let y = b.push("if", Op::If(op), &[positive, x]).unwrap();
    let body = b.body("body", |b| {
        let round = b.param("body/round", Type::known(DType::I64, &[]), Domain::Any)?;
        let on = b.param("body/on", Type::known(DType::Bool, &[]), Domain::Any)?;
        let y = b.param("body/y", ty.clone(), Domain::Any)?;
        let _ = round;
        let y = parts(b, y);
        b.output("body/goes_on", on)?;
        Ok(b.output("body/next", y)?)
    });
    let op = Loop {
        body: body.unwrap(),
        carried: 1,
        results: vec![ty],
    };
    let rounds = b.scalar("rounds", DType::I64, 3.0).unwrap();
    let on = Tensor::bool(vec![], vec![true]).unwrap();
    let on = b.tensor("on", &on).unwrap();
    let y = b.push("loop", Op::Loop(op), &[rounds, on, y]).unwrap();
    b.output("y", y).unwrap();
    b.finish().unwrap()
}

#[test]
fn bodies_of_control_flow_are_cleaned_too() {
    let before = controlled();
    let (after, report) = clean(&before).unwrap();
    let of = |name: &str| -> Vec<&str> {
        let body = after.bodies.iter().find(|f| f.name == name).unwrap();
        body.nodes.iter().map(|n| n.op.name()).collect()
    };
    assert_eq!(of("then"), ["silu", "mul"]);
    assert_eq!(of("else"), Vec::<&str>::new());
    assert_eq!(of("body"), ["silu", "mul"]);
    assert_eq!(report.rewrites.get("silu"), Some(&2));
    assert_eq!((report.nodes_before, report.nodes_after), (19, 8));
    assert_equivalent(&before, &after, 1e-6);
    let (still, nothing) = clean(&after).unwrap();
    assert!(nothing.rewrites.is_empty(), "{nothing:?}");
    assert_eq!(print(&still), print(&after));
}

#[test]
fn bounds_that_are_none_go() {
    for (dtype, least, most) in [
        (DType::I64, i64::MIN, i64::MAX),
        (DType::I32, i64::from(i32::MIN), i64::from(i32::MAX)),
    ] {
        for (kind, bound, goes) in [
            (BinaryKind::Max, least, true),
            (BinaryKind::Min, most, true),
            (BinaryKind::Max, least + 1, false),
            (BinaryKind::Min, most - 1, false),
            (BinaryKind::Min, least, false),
            (BinaryKind::Add, most, false),
        ] {
            let module = graph(dtype, &[2, 1, 4], |b, x| {
                let x = b.un(UnaryKind::Abs, x).unwrap();
                let bound = Tensor::int(dtype, vec![1], vec![bound]).unwrap();
                let bound = b.tensor("bound", &bound).unwrap();
                b.bin(kind, bound, x).unwrap()
            });
            let (after, _) = tidied(&module);
            let left = after.main().unwrap().nodes.len();
            assert_eq!(left == 1, goes, "{kind:?} {bound} of {dtype}");
        }
    }
}

#[test]
fn in_16_bits_bodies_keep_their_types() {
    let (after, _) = clean(&controlled()).unwrap();
    let (half, report) = precision(&after, &Islands::default()).unwrap();
    assert_eq!(report.kept_in_f32.len(), 2, "{report:?}");
    assert_eq!(half.bodies, after.bodies);
}
