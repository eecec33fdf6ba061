//! The ONNX writer, operation by operation and opset by opset: what is written passes ONNX's checker, and ONNX Runtime computes what the
//! interpreter does. Integers, truth values and moved data must be equal.

use std::path::{Path, PathBuf};

use distill_convert::error::Result;
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::ir::ops::*;
use distill_convert::ir::{Builder, Dim, Domain, Module, Op, Type, ValueId};
use distill_convert::onnx::{self, WriteOptions};
use distill_convert::runtime::{Session, library, ort::OrtSession, tract::TractSession};
use distill_convert::tensor::{DType, NamedTensors, Tensor, num};

use crate::common::judge;

/// A module with concrete inputs.
struct Case {
    name: String,
    module: Module,
    inputs: NamedTensors,
    /// The first opset that can say it.
    since: i64,
    tolerance: f64,
}

/// Floats between −2 and 2 that look random and are the same everywhere.
fn floats(shape: &[usize], seed: u64) -> Tensor {
    let values = words(shape, seed)
        .map(|x| num::f32_of_u64(x % 4001) / 1000.0 - 2.0)
        .collect();
    Tensor::f32(shape.to_vec(), values).unwrap()
}

/// Integers from `low` to `high`.
fn ints(dtype: DType, shape: &[usize], low: i64, high: i64) -> Tensor {
    let span = u64::try_from(high - low + 1).unwrap();
    let values = words(shape, 7)
        .map(|x| low + i64::try_from(x % span).unwrap())
        .collect();
    Tensor::int(dtype, shape.to_vec(), values).unwrap()
}

fn words(shape: &[usize], seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    (0..shape.iter().product::<usize>()).map(move |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    })
}

fn i64s(values: &[i64]) -> Tensor {
    Tensor::i64(vec![values.len()], values.to_vec()).unwrap()
}

/// A case whose results become the outputs `y0`, `y1`…
fn case(
    name: impl Into<String>,
    inputs: Vec<Tensor>,
    build: impl FnOnce(&mut Builder, &[ValueId]) -> Result<Vec<ValueId>>,
) -> Case {
    let name = name.into();
    let mut b = Builder::new("ops");
    let mut named = NamedTensors::new();
    let mut params = Vec::new();
    for (i, tensor) in inputs.into_iter().enumerate() {
        let ty = Type::known(tensor.dtype(), tensor.shape());
        params.push(b.param(&format!("x{i}"), ty, Domain::Any).unwrap());
        named.insert(format!("x{i}"), tensor);
    }
    let results = build(&mut b, &params).unwrap_or_else(|e| panic!("{name}: {e}"));
    for (i, result) in results.into_iter().enumerate() {
        b.output(&format!("y{i}"), result).unwrap();
    }
    Case {
        module: b.finish().unwrap_or_else(|e| panic!("{name}: {e}")),
        name,
        inputs: named,
        since: onnx::MIN_OPSET,
        tolerance: 1e-5,
    }
}

/// A case of one operation over all inputs.
fn op(name: impl Into<String>, op: Op, inputs: Vec<Tensor>) -> Case {
    case(name, inputs, |b, x| b.push_all("f", op, x))
}

impl Case {
    fn since(mut self, opset: i64) -> Self {
        self.since = opset;
        self
    }

    fn within(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }
}

const NUMBERS: [DType; 11] = [
    DType::I8,
    DType::U8,
    DType::I16,
    DType::U16,
    DType::I32,
    DType::U32,
    DType::I64,
    DType::U64,
    DType::F16,
    DType::F32,
    DType::F64,
];

fn of(dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    if dtype.is_float() {
        floats(shape, seed).cast(dtype)
    } else if dtype == DType::Bool {
        let values = words(shape, seed).map(|x| x % 2 == 0).collect();
        Tensor::bool(shape.to_vec(), values).unwrap()
    } else {
        let low = if dtype.is_signed_int() { -100 } else { 0 };
        let values = words(shape, seed)
            .map(|x| low + i64::try_from(x % 201).unwrap())
            .collect();
        Tensor::int(dtype, shape.to_vec(), values).unwrap()
    }
}

/// Half precision is rounded at other places in engines.
fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F16 { 4e-3 } else { 1e-5 }
}

fn elementwise() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in NUMBERS {
        use BinaryKind as B;
        let nonzero = |t: Tensor| {
            if dtype.is_float() {
                let v = t.floats().unwrap().iter().map(|x| x.abs() + 0.25).collect();
                Tensor::f32(t.shape().to_vec(), v).unwrap().cast(dtype)
            } else {
                let v = t.ints().unwrap().iter().map(|x| x % 9);
                let v = v.map(|x| if x == 0 { 5 } else { x }).collect();
                Tensor::int(dtype, t.shape().to_vec(), v).unwrap()
            }
        };
        let (x, y) = (of(dtype, &[3, 7], 1), of(dtype, &[7], 2));
        for kind in [
            B::Add,
            B::Sub,
            B::Mul,
            B::Min,
            B::Max,
            B::FloorDiv,
            B::Mod,
            B::Rem,
        ] {
            let f = Op::Binary(Binary { kind });
            let inputs = vec![x.clone(), nonzero(y.clone())];
            cases.push(op(format!("{kind:?} {dtype}"), f, inputs).within(tolerance(dtype)));
        }
        for kind in [
            CompareKind::Less,
            CompareKind::NotEqual,
            CompareKind::GreaterEqual,
        ] {
            let f = Op::Compare(Compare { kind });
            cases.push(op(
                format!("{kind:?} {dtype}"),
                f,
                vec![x.clone(), y.clone()],
            ));
        }
        let condition = of(DType::Bool, &[3, 7], 3);
        let inputs = vec![condition, x.clone(), y.clone()];
        cases.push(op(format!("select {dtype}"), Op::Select(Select), inputs));
        for kind in [UnaryKind::Abs, UnaryKind::Neg, UnaryKind::Sign] {
            let f = Op::Unary(Unary { kind });
            cases.push(op(format!("{kind:?} {dtype}"), f, vec![x.clone()]));
        }
        if dtype.is_int() {
            let f = Op::Unary(Unary {
                kind: UnaryKind::BitNot,
            });
            cases.push(op(format!("bit_not {dtype}"), f, vec![x.clone()]));
            let f = Op::Binary(Binary { kind: B::TruncDiv });
            let inputs = vec![x.clone(), nonzero(y.clone())];
            cases.push(op(format!("trunc_div {dtype}"), f, inputs));
            for kind in [B::BitAnd, B::BitOr, B::BitXor] {
                let f = Op::Binary(Binary { kind });
                let inputs = vec![x.clone(), y.clone()];
                cases.push(op(format!("{kind:?} {dtype}"), f, inputs).since(18));
            }
            if !dtype.is_signed_int() {
                for kind in [B::ShiftLeft, B::ShiftRight] {
                    let f = Op::Binary(Binary { kind });
                    let by = ints(dtype, &[7], 0, 7);
                    cases.push(op(format!("{kind:?} {dtype}"), f, vec![x.clone(), by]));
                }
            }
        }
    }
    let bools = [of(DType::Bool, &[3, 7], 1), of(DType::Bool, &[7], 2)];
    let inputs = vec![of(DType::Bool, &[7], 5), bools[0].clone(), bools[1].clone()];
    cases.push(op("select bool", Op::Select(Select), inputs));
    let equal = Op::Compare(Compare {
        kind: CompareKind::Equal,
    });
    cases.push(op("equal bool", equal, bools.to_vec()));
    use UnaryKind as U;
    for dtype in [DType::F16, DType::F32, DType::F64] {
        for kind in [
            U::Floor,
            U::Ceil,
            U::Round,
            U::Relu,
            U::Exp,
            U::Sin,
            U::Cos,
            U::Tan,
            U::Atan,
            U::Sinh,
            U::Cosh,
            U::Asinh,
            U::Softplus,
            U::Softsign,
            U::Tanh,
            U::Sigmoid,
            U::Erf,
            U::Silu,
            U::GeluErf,
            U::GeluTanh,
        ] {
            let x = if kind == U::Tan {
                Tensor::f32(vec![5], vec![-1.25, -0.5, 0.0, 0.75, 1.125])
                    .unwrap()
                    .cast(dtype)
            } else {
                of(dtype, &[4, 5], 1)
            };
            let f = Op::Unary(Unary { kind });
            cases.push(op(format!("{kind:?} {dtype}"), f, vec![x]).within(tolerance(dtype)));
        }
        let small = Tensor::f32(vec![4], vec![-0.75, -0.125, 0.25, 0.875])
            .unwrap()
            .cast(dtype);
        for kind in [U::Asin, U::Acos, U::Atanh] {
            let f = Op::Unary(Unary { kind });
            cases.push(
                op(format!("{kind:?} {dtype}"), f, vec![small.clone()]).within(tolerance(dtype)),
            );
        }
        let large = Tensor::f32(vec![4], vec![1.0, 1.25, 2.5, 10.0])
            .unwrap()
            .cast(dtype);
        for kind in [U::Acosh, U::Sqrt, U::Rsqrt, U::Reciprocal, U::Log] {
            let f = Op::Unary(Unary { kind });
            cases.push(
                op(format!("{kind:?} {dtype}"), f, vec![large.clone()]).within(tolerance(dtype)),
            );
        }
        use ClassifyKind as C;
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -3.0];
        let odd = Tensor::f32(vec![5], odd.to_vec()).unwrap().cast(dtype);
        for kind in [
            C::Nan,
            C::Infinite,
            C::PositiveInfinite,
            C::NegativeInfinite,
        ] {
            let f = Op::Classify(Classify { kind });
            cases.push(op(format!("{kind:?} {dtype}"), f, vec![odd.clone()]));
        }
        for kind in [
            ActivationKind::LeakyRelu { alpha: 0.125 },
            ActivationKind::Elu { alpha: 1.5 },
            ActivationKind::HardSigmoid {
                alpha: 0.25,
                beta: 0.375,
            },
        ] {
            let f = Op::Activation(Activation { kind });
            cases.push(
                op(format!("{kind:?} {dtype}"), f, vec![of(dtype, &[3, 4], 9)])
                    .within(tolerance(dtype)),
            );
        }
    }
    cases
}

fn along_axes() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in NUMBERS {
        use ReduceKind as R;
        let x = of(dtype, &[3, 4, 5], 1);
        let kinds: &[R] = if dtype.is_float() {
            &[
                R::Sum,
                R::Mean,
                R::Max,
                R::Min,
                R::L2,
                R::Prod,
                R::LogSumExp,
            ]
        } else {
            &[R::Sum, R::Max, R::Min, R::Prod]
        };
        for &kind in kinds {
            // Engines hold products of integers in double precision: what is within it is exact, and wraps in narrow types.
            let x = if kind == R::Prod && dtype.is_int() {
                ints(
                    dtype,
                    &[3, 4, 5],
                    if dtype.is_signed_int() { -3 } else { 1 },
                    4,
                )
            } else {
                x.clone()
            };
            for keep_dims in [false, true] {
                let f = Op::Reduce(Reduce {
                    kind,
                    axes: vec![0, 2],
                    keep_dims,
                });
                cases.push(
                    op(format!("{kind:?} {dtype} {keep_dims}"), f, vec![x.clone()])
                        .within(tolerance(dtype) * 4.0),
                );
            }
        }
        let f = Op::CumSum(CumSum { axis: 1 });
        cases.push(op(format!("cumsum {dtype}"), f, vec![x.clone()]).within(tolerance(dtype)));
        let ties = if dtype.is_float() {
            ints(DType::I64, &[3, 6], 0, 3).cast(DType::F32).cast(dtype)
        } else {
            ints(dtype, &[3, 6], 0, 3)
        };
        for (largest, last, to) in [
            (true, false, DType::I64),
            (false, true, DType::I32),
            (true, true, DType::U16),
        ] {
            let f = Op::ArgReduce(ArgReduce {
                axis: 1,
                largest,
                last,
                dtype: to,
            });
            cases.push(op(
                format!("arg {largest} {last} {dtype}"),
                f,
                vec![ties.clone()],
            ));
        }
        for (largest, to) in [(true, DType::I64), (false, DType::I32)] {
            let f = Op::TopK(TopK {
                axis: 1,
                k: Dim::from(4),
                largest,
                dtype: to,
            });
            cases.push(op(
                format!("top_k {largest} {dtype}"),
                f,
                vec![ties.clone()],
            ));
        }
    }
    // What counts as large without a sign.
    let high = Tensor::int(DType::U64, vec![1, 4], vec![-1, 5, i64::MIN, 7]).unwrap();
    let f = Op::Reduce(Reduce {
        kind: ReduceKind::Max,
        axes: vec![1],
        keep_dims: false,
    });
    cases.push(op("max of large u64", f, vec![high.clone()]));
    let f = Op::TopK(TopK {
        axis: 1,
        k: Dim::from(3),
        largest: true,
        dtype: DType::I64,
    });
    cases.push(op("top_k of large u64", f, vec![high.clone()]));
    let f = Op::ArgReduce(ArgReduce {
        axis: 1,
        largest: false,
        last: false,
        dtype: DType::I64,
    });
    cases.push(op("arg of large u64", f, vec![high]));
    cases.push(case(
        "top_k by value",
        vec![floats(&[3, 6], 4), i64s(&[2])],
        |b, x| {
            let k = b.run_time_size();
            let f = Op::TopK(TopK {
                axis: 1,
                k,
                largest: true,
                dtype: DType::I64,
            });
            b.push_all("f", f, x)
        },
    ));
    cases
}

fn matrices() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in NUMBERS {
        for (a, b) in [(false, false), (true, true)] {
            let f = Op::MatMul(MatMul {
                transpose_a: a,
                transpose_b: b,
            });
            let left = of(dtype, if a { &[2, 4, 3] } else { &[2, 3, 4] }, 1);
            let right = of(dtype, if b { &[5, 4] } else { &[4, 5] }, 2);
            cases.push(
                op(format!("matmul {a} {b} {dtype}"), f, vec![left, right])
                    .within(tolerance(dtype)),
            );
        }
    }
    for n in [1, 2, 3, 7] {
        let mut v = floats(&[2, n, n], 3).floats().unwrap().to_vec();
        // Far from singular, but with a zero where the first pivot would be.
        for m in 0..2 {
            for i in 0..n {
                v[m * n * n + i * n + (i + 1) % n] += 6.0;
            }
            if n > 1 {
                v[m * n * n] = 0.0;
            }
        }
        let x = Tensor::f32(vec![2, n, n], v).unwrap();
        cases.push(op(format!("inverse {n}"), Op::Inverse(Inverse), vec![x]).within(1e-5));
    }
    cases
}

fn window(strides: &[usize], dilations: &[usize], pads: &[(usize, usize)]) -> Window {
    Window {
        strides: strides.to_vec(),
        dilations: dilations.to_vec(),
        pads: pads.to_vec(),
    }
}

fn windows() -> Vec<Case> {
    let mut cases = Vec::new();
    let conv = |name: &str, w: Window, groups: usize, x: &[usize], k: &[usize], bias: bool| {
        let mut inputs = vec![floats(x, 1), floats(k, 2)];
        if bias {
            inputs.push(floats(&k[..1], 3));
        }
        op(name, Op::Conv(Conv { window: w, groups }), inputs)
    };
    cases.push(conv(
        "conv 1d",
        window(&[2], &[1], &[(1, 0)]),
        1,
        &[2, 3, 9],
        &[4, 3, 3],
        true,
    ));
    cases.push(conv(
        "conv 2d",
        window(&[1, 2], &[2, 1], &[(1, 2), (0, 1)]),
        1,
        &[2, 3, 8, 9],
        &[4, 3, 3, 2],
        true,
    ));
    cases.push(conv(
        "conv groups",
        Window::unit(2),
        2,
        &[1, 4, 5, 5],
        &[6, 2, 3, 3],
        false,
    ));
    cases.push(conv(
        "conv depthwise",
        window(&[2, 2], &[1, 1], &[(1, 1), (1, 1)]),
        4,
        &[2, 4, 6, 6],
        &[4, 1, 3, 3],
        true,
    ));
    cases.push(conv(
        "conv 3d",
        window(&[1, 2, 1], &[1, 1, 2], &[(1, 1), (0, 0), (2, 1)]),
        1,
        &[1, 2, 4, 5, 6],
        &[3, 2, 2, 3, 2],
        true,
    ));
    for dtype in [DType::F16, DType::F64] {
        let f = Op::Conv(Conv {
            window: Window::unit(1),
            groups: 1,
        });
        cases.push(
            op(
                format!("conv {dtype}"),
                f,
                vec![of(dtype, &[1, 2, 6], 1), of(dtype, &[3, 2, 3], 2)],
            )
            .within(tolerance(dtype)),
        );
    }
    let transpose =
        |name: &str, w: Window, groups: usize, output_pads: &[usize], x: &[usize], k: &[usize]| {
            let f = ConvTranspose {
                window: w,
                groups,
                output_pads: output_pads.to_vec(),
            };
            let bias = floats(&[k[1] * groups], 3);
            op(
                name,
                Op::ConvTranspose(f),
                vec![floats(x, 1), floats(k, 2), bias],
            )
        };
    cases.push(transpose(
        "conv_transpose 1d",
        window(&[2], &[1], &[(1, 0)]),
        1,
        &[1],
        &[2, 3, 5],
        &[3, 4, 3],
    ));
    cases.push(transpose(
        "conv_transpose 2d",
        window(&[2, 3], &[1, 2], &[(0, 1), (2, 1)]),
        2,
        &[0, 2],
        &[1, 4, 4, 5],
        &[4, 3, 3, 2],
    ));
    cases.push(transpose(
        "conv_transpose 3d",
        window(&[1, 2, 1], &[1, 1, 1], &[(0, 0), (1, 1), (0, 0)]),
        1,
        &[0, 0, 0],
        &[1, 2, 3, 3, 3],
        &[2, 2, 2, 3, 2],
    ));
    for kind in [
        PoolKind::Max,
        PoolKind::Average {
            count_padding: false,
        },
        PoolKind::Average {
            count_padding: true,
        },
    ] {
        for (name, kernel, w, x) in [
            ("1d", vec![3], window(&[2], &[1], &[(1, 1)]), vec![2, 3, 8]),
            (
                "2d",
                vec![2, 3],
                window(&[2, 1], &[1, 1], &[(1, 0), (0, 2)]),
                vec![2, 2, 7, 6],
            ),
            (
                "2d dilated",
                vec![2, 3],
                window(&[1, 2], &[2, 2], &[(1, 0), (2, 2)]),
                vec![1, 2, 7, 9],
            ),
            (
                "3d",
                vec![2, 2, 2],
                window(&[2, 2, 2], &[1, 1, 1], &[(0, 1), (1, 0), (1, 1)]),
                vec![1, 2, 5, 5, 5],
            ),
            (
                "2d wide pads",
                vec![2, 2],
                window(&[2, 2], &[1, 1], &[(3, 0), (0, 2)]),
                vec![1, 1, 5, 5],
            ),
        ] {
            for ceil in [false, true] {
                // A window of nothing but padding has no mean of what is inside.
                if name == "2d wide pads"
                    && kind
                        == (PoolKind::Average {
                            count_padding: false,
                        })
                {
                    continue;
                }
                let f = Pool {
                    kind,
                    kernel: kernel.clone(),
                    window: w.clone(),
                    ceil,
                };
                cases.push(op(
                    format!("pool {kind:?} {name} ceil {ceil}"),
                    Op::Pool(f),
                    vec![floats(&x, 1)],
                ));
            }
        }
    }
    for dtype in [
        DType::I8,
        DType::U8,
        DType::I16,
        DType::U16,
        DType::I32,
        DType::U32,
        DType::F16,
        DType::F64,
    ] {
        let f = Pool {
            kind: PoolKind::Max,
            kernel: vec![2, 2],
            window: window(&[2, 2], &[1, 1], &[(1, 1), (0, 1)]),
            ceil: true,
        };
        cases.push(op(
            format!("max pool {dtype}"),
            Op::Pool(f),
            vec![of(dtype, &[1, 2, 5, 6], 1)],
        ));
    }
    for dtype in [DType::F16, DType::F32, DType::F64] {
        let channels = |seed| of(dtype, &[3], seed);
        let variance = Tensor::f32(vec![3], vec![0.5, 1.25, 2.0])
            .unwrap()
            .cast(dtype);
        let x = of(dtype, &[2, 3, 4, 2], 1);
        let inputs = vec![x.clone(), channels(2), variance, channels(4), channels(5)];
        cases.push(
            op(
                format!("batch_norm {dtype}"),
                Op::BatchNorm(BatchNorm { epsilon: 1e-3 }),
                inputs,
            )
            .within(tolerance(dtype)),
        );
        for x in [x.clone(), of(dtype, &[2, 3, 7], 2), of(dtype, &[2, 3], 3)] {
            let f = Op::InstanceNorm(InstanceNorm { epsilon: 1e-3 });
            let rank = x.shape().len();
            cases.push(
                op(
                    format!("instance_norm {dtype} {rank}"),
                    f,
                    vec![x, channels(4), channels(5)],
                )
                .within(tolerance(dtype)),
            );
        }
        for (size, shape) in [
            (3, vec![2, 5, 3, 4]),
            (4, vec![2, 5, 3, 4]),
            (5, vec![2, 7, 3]),
            (2, vec![1, 4, 2, 2, 2]),
        ] {
            let f = Op::Lrn(Lrn {
                size,
                alpha: 0.5,
                beta: 0.75,
                k: 1.5,
            });
            cases.push(
                op(
                    format!("lrn {dtype} {size} {}", shape.len()),
                    f,
                    vec![of(dtype, &shape, 6)],
                )
                .within(tolerance(dtype)),
            );
        }
        for parameters in 1..=3 {
            let f = Op::LayerNorm(LayerNorm {
                axis: 2,
                epsilon: 1e-5,
            });
            let mut inputs = vec![x.clone(), of(dtype, &[4, 2], 7), of(dtype, &[4, 2], 8)];
            inputs.truncate(parameters);
            cases.push(
                op(format!("layer_norm {dtype} {parameters}"), f, inputs).within(tolerance(dtype)),
            );
        }
    }
    cases
}

fn movement() -> Vec<Case> {
    let mut cases = Vec::new();
    let dims = |v: &[usize]| v.iter().map(|&n| Dim::from(n)).collect::<Vec<_>>();
    for dtype in NUMBERS.into_iter().chain([DType::Bool]) {
        let x = of(dtype, &[3, 4, 5], 1);
        for (mode, begin, end) in [
            (PadMode::Constant, [1, 0, 2], [0, 3, 1]),
            (PadMode::Reflect, [1, 0, 2], [2, 3, 1]),
            (PadMode::Reflect, [4, 0, 2], [2, 9, 1]),
            (PadMode::Edge, [1, 5, 2], [4, 3, 1]),
            (PadMode::Wrap, [1, 0, 2], [2, 4, 1]),
            (PadMode::Wrap, [4, 9, 2], [2, 3, 12]),
        ] {
            let f = Op::Pad(Pad {
                mode,
                begin: dims(&begin),
                end: dims(&end),
            });
            cases.push(op(
                format!("pad {mode:?} {begin:?} {dtype}"),
                f,
                vec![x.clone()],
            ));
        }
        let f = Op::Pad(Pad {
            mode: PadMode::Constant,
            begin: dims(&[0, 1, 0]),
            end: dims(&[2, 0, 0]),
        });
        cases.push(op(
            format!("pad value {dtype}"),
            f,
            vec![x.clone(), of(dtype, &[1], 9)],
        ));
        let f = Op::Tile(Tile {
            repeats: dims(&[2, 1, 3]),
        });
        cases.push(op(format!("tile {dtype}"), f, vec![x.clone()]));
        for axes in [vec![], vec![1], vec![0, 2]] {
            let f = Op::Reverse(Reverse { axes: axes.clone() });
            cases.push(op(format!("reverse {axes:?} {dtype}"), f, vec![x.clone()]));
        }
        for order in [BlockOrder::BlockFirst, BlockOrder::BlockLast] {
            let f = Op::DepthToSpace(DepthToSpace { block: 2, order });
            cases.push(op(
                format!("depth_to_space {order:?} {dtype}"),
                f,
                vec![of(dtype, &[2, 8, 3, 2], 2)],
            ));
            let f = Op::SpaceToDepth(SpaceToDepth { block: 2, order });
            cases.push(op(
                format!("space_to_depth {order:?} {dtype}"),
                f,
                vec![of(dtype, &[2, 3, 4, 6], 2)],
            ));
        }
        for to in [DType::I64, DType::I32] {
            cases.push(case(
                format!("non_zero {dtype} {to}"),
                vec![x.clone()],
                |b, x| {
                    let count = b.run_time_size();
                    b.push_all("f", Op::NonZero(NonZero { dtype: to, count }), x)
                },
            ));
        }
        let picks = Tensor::int(
            DType::I32,
            vec![2, 3, 2],
            vec![0, 1, 2, 3, 1, 1, 2, 0, 0, 2, 1, 3],
        )
        .unwrap();
        let f = Op::GatherNd(GatherNd { batch_dims: 0 });
        cases.push(op(format!("gather_nd {dtype}"), f, vec![x.clone(), picks]));
        let picks = Tensor::i64(vec![3, 2, 1], vec![0, 3, 2, 2, 1, 0]).unwrap();
        let f = Op::GatherNd(GatherNd { batch_dims: 1 });
        cases.push(op(
            format!("gather_nd batch {dtype}"),
            f,
            vec![x.clone(), picks],
        ));
        use ScatterMode as M;
        for (mode, since) in [
            (M::Update, 13),
            (M::Add, 16),
            (M::Sub, 16),
            (M::Mul, 16),
            (M::Div, 16),
            (M::Min, 18),
            (M::Max, 18),
        ] {
            if (dtype == DType::Bool && mode != M::Update) || (mode == M::Div && !dtype.is_float())
            {
                continue;
            }
            // Indices that meet, but for the mode in which the order would count.
            let twice = if mode == M::Update { 2 } else { 1 };
            let picks = Tensor::i64(vec![2, 4, 1], vec![0, 1, 3, 4, 1, twice, 0, 3]).unwrap();
            let f = Op::ScatterElements(ScatterElements { axis: 2, mode });
            let update = of(dtype, &[2, 4, 1], 5);
            cases.push(
                op(
                    format!("scatter_elements {mode:?} {dtype}"),
                    f,
                    vec![x.clone(), picks, update],
                )
                .since(since)
                .within(tolerance(dtype)),
            );
            let second = if mode == M::Update { 1 } else { 0 };
            let picks = Tensor::int(DType::I32, vec![2, 2], vec![0, 3, second, 3]).unwrap();
            let f = Op::ScatterNd(ScatterNd { mode });
            cases.push(
                op(
                    format!("scatter_nd {mode:?} {dtype}"),
                    f,
                    vec![x.clone(), picks, of(dtype, &[2, 5], 6)],
                )
                .since(since)
                .within(tolerance(dtype)),
            );
        }
    }
    cases
}

fn computed_sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    let x = floats(&[3, 4, 5], 1);
    let f = Op::Size(Size {
        dtype: DType::I32,
        dim: Dim::from(3).mul(&Dim::from(4)),
    });
    cases.push(case("size", vec![x.clone()], |b, _| {
        b.push_all("f", f, &[])
    }));
    let shaped = |name: &str, inputs: Vec<Tensor>, rank: usize, make: &dyn Fn(Vec<Dim>) -> Op| {
        case(name, inputs, |b, x| {
            let shape = (0..rank).map(|_| b.run_time_size()).collect();
            b.push_all("f", make(shape), x)
        })
    };
    let reshape = |zero_copies| move |shape| Op::ReshapeTo(ReshapeTo { shape, zero_copies });
    cases.push(shaped(
        "reshape_to",
        vec![x.clone(), i64s(&[2, -1])],
        2,
        &reshape(true),
    ));
    cases.push(shaped(
        "reshape_to copies",
        vec![x.clone(), i64s(&[0, 2, -1])],
        3,
        &reshape(true),
    ));
    cases.push(
        shaped(
            "reshape_to empty",
            vec![floats(&[0, 3], 1), i64s(&[4, 0])],
            2,
            &reshape(false),
        )
        .since(14),
    );
    cases.push(shaped(
        "expand_to",
        vec![floats(&[4, 1], 1), i64s(&[2, 1, 5])],
        3,
        &|shape| Op::ExpandTo(ExpandTo { shape }),
    ));
    cases.push(shaped(
        "tile_by",
        vec![x.clone(), i64s(&[1, 2, 3])],
        3,
        &|shape| Op::TileBy(TileBy { shape }),
    ));
    let slice = |axes: &'static [usize], steps: &'static [i64]| {
        move |shape| {
            Op::SliceBy(SliceBy {
                axes: axes.to_vec(),
                steps: steps.to_vec(),
                shape,
            })
        }
    };
    cases.push(shaped(
        "slice_by",
        vec![x.clone(), i64s(&[1, -3]), i64s(&[3, 99])],
        3,
        &slice(&[0, 2], &[1, 2]),
    ));
    cases.push(shaped(
        "slice_by backwards",
        vec![x.clone(), i64s(&[-1, 99]), i64s(&[-99, 0])],
        3,
        &slice(&[2, 1], &[-2, -1]),
    ));
    for (mode, pads) in [
        (PadMode::Constant, [1, 0, 2, 0, 3, 1]),
        (PadMode::Constant, [1, -1, 2, 0, 3, -2]),
        (PadMode::Reflect, [1, 0, 2, 1, 3, 1]),
        (PadMode::Edge, [1, 0, 2, 1, 3, 1]),
        (PadMode::Wrap, [1, 0, 2, 1, 9, 1]),
    ] {
        let f = move |shape| Op::PadBy(PadBy { mode, shape });
        cases.push(shaped(
            &format!("pad_by {mode:?} {pads:?}"),
            vec![x.clone(), i64s(&pads)],
            3,
            &f,
        ));
    }
    for dtype in NUMBERS {
        let one = |v: i64| {
            if dtype.is_float() {
                Tensor::f32(vec![], vec![num::f32_of_i64(v) * 0.5])
                    .unwrap()
                    .cast(dtype)
            } else {
                Tensor::int(dtype, vec![], vec![v]).unwrap()
            }
        };
        cases.push(case(
            format!("range_by {dtype}"),
            vec![one(2), one(13), one(3)],
            |b, x| {
                let len = b.run_time_size();
                b.push_all("f", Op::RangeBy(RangeBy { len }), x)
            },
        ));
    }
    // What is found decides the sizes of what follows.
    cases.push(case(
        "sizes of what was found",
        vec![of(DType::Bool, &[3, 4], 3)],
        |b, x| {
            let count = b.run_time_size();
            let places = b.push(
                "places",
                Op::NonZero(NonZero {
                    dtype: DType::I64,
                    count: count.clone(),
                }),
                x,
            )?;
            let size = b.push(
                "size",
                Op::Size(Size {
                    dtype: DType::I64,
                    dim: count.clone(),
                }),
                &[],
            )?;
            let iota = b.push(
                "iota",
                Op::Iota(Iota {
                    dtype: DType::I64,
                    len: count.mul(&Dim::from(2)),
                }),
                &[],
            )?;
            Ok(vec![places, size, iota])
        },
    ));
    cases
}

fn images() -> Vec<Case> {
    let mut cases = Vec::new();
    use Coordinates as C;
    use Rounding as R;
    let coordinates = [
        C::HalfPixel,
        C::HalfPixelSymmetric,
        C::PytorchHalfPixel,
        C::Asymmetric,
        C::AlignCorners,
        C::CropAndResize {
            start: 0.25,
            end: 0.875,
        },
        C::Affine {
            offset: 0.25,
            step: 0.625,
        },
    ];
    let samplings = [
        Sampling::Nearest(R::PreferFloor),
        Sampling::Nearest(R::PreferCeil),
        Sampling::Nearest(R::Floor),
        Sampling::Nearest(R::Ceil),
        Sampling::Nearest(R::Even),
        Sampling::Linear,
        Sampling::Cubic { coefficient: -0.75 },
        Sampling::Cubic { coefficient: -0.5 },
    ];
    let resize = |name: String,
                  x: Tensor,
                  axes: Vec<ResizeAxis>,
                  sampling,
                  exclude_outside,
                  antialias,
                  extrapolation| {
        let f = Resize {
            axes,
            sampling,
            exclude_outside,
            antialias,
            extrapolation,
        };
        op(name, Op::Resize(f), vec![x])
    };
    let axis = |axis, size: usize, scale, coordinates| ResizeAxis {
        axis,
        size: Dim::from(size),
        scale,
        coordinates,
    };
    for c in coordinates {
        for s in samplings {
            let extrapolation = matches!(c, C::CropAndResize { .. }).then_some(0.0);
            for (h, w) in [(7, 9), (3, 4), (10, 1)] {
                let axes = vec![axis(2, h, None, c), axis(3, w, None, c)];
                let x = floats(&[1, 2, 5, 6], 1);
                cases.push(resize(
                    format!("resize {c:?} {s:?} {h} {w}"),
                    x,
                    axes,
                    s,
                    false,
                    false,
                    extrapolation,
                ));
            }
            // Axes and ranks that engines do not take for themselves.
            cases.push(resize(
                format!("resize first axis {c:?} {s:?}"),
                floats(&[4, 2, 3, 2], 1),
                vec![axis(0, 7, None, c)],
                s,
                false,
                false,
                None,
            ));
            cases.push(resize(
                format!("resize line {c:?} {s:?}"),
                floats(&[1, 2, 5], 1),
                vec![axis(2, 8, None, c)],
                s,
                false,
                false,
                None,
            ));
        }
    }
    for s in [
        Sampling::Linear,
        Sampling::Cubic { coefficient: -0.75 },
        Sampling::Cubic { coefficient: -0.5 },
    ] {
        for exclude in [false, true] {
            for antialias in [false, true] {
                for c in [C::HalfPixel, C::AlignCorners, C::Asymmetric] {
                    let axes = vec![axis(2, 4, None, c), axis(3, 13, None, c)];
                    let x = floats(&[1, 2, 9, 8], 1);
                    cases.push(resize(
                        format!("resize {s:?} {c:?} exclude {exclude} antialias {antialias}"),
                        x,
                        axes,
                        s,
                        exclude,
                        antialias,
                        None,
                    ));
                }
            }
        }
    }
    for (scale, size) in [(1.7, 8), (0.6, 3), (1.7, 9)] {
        for s in [Sampling::Nearest(R::PreferFloor), Sampling::Linear] {
            for c in [C::HalfPixel, C::Asymmetric, C::HalfPixelSymmetric] {
                let axes = vec![axis(2, size, Some(scale), c), axis(3, size, Some(scale), c)];
                cases.push(resize(
                    format!("resize scale {scale} {size} {s:?} {c:?}"),
                    floats(&[1, 1, 5, 5], 1),
                    axes,
                    s,
                    false,
                    false,
                    None,
                ));
            }
        }
    }
    for dtype in NUMBERS {
        // Weights that are exact in binary: a tie between two integers is one in every engine.
        let axes = || {
            vec![
                axis(2, 8, None, C::HalfPixel),
                axis(3, 2, None, C::HalfPixel),
            ]
        };
        let x = of(dtype, &[1, 2, 4, 4], 1);
        cases.push(resize(
            format!("resize nearest {dtype}"),
            x.clone(),
            axes(),
            Sampling::Nearest(R::Floor),
            false,
            false,
            None,
        ));
        cases.push(
            resize(
                format!("resize linear {dtype}"),
                x,
                axes(),
                Sampling::Linear,
                false,
                false,
                None,
            )
            .within(tolerance(dtype)),
        );
    }
    let axes = vec![
        axis(
            2,
            6,
            None,
            C::CropAndResize {
                start: -0.25,
                end: 1.25,
            },
        ),
        axis(
            3,
            6,
            None,
            C::CropAndResize {
                start: 0.0,
                end: 1.5,
            },
        ),
    ];
    for s in [Sampling::Nearest(R::PreferFloor), Sampling::Linear] {
        cases.push(resize(
            format!("resize outside {s:?}"),
            floats(&[1, 1, 5, 5], 1),
            axes.clone(),
            s,
            false,
            false,
            Some(7.5),
        ));
        cases.push(resize(
            format!("resize border {s:?}"),
            floats(&[1, 1, 5, 5], 1),
            axes.clone(),
            s,
            false,
            false,
            None,
        ));
    }
    for outside in [
        Outside::Constant(0.0),
        Outside::Constant(2.5),
        Outside::Border,
        Outside::Reflection,
    ] {
        for sampling in [
            Sampling::Nearest(R::Even),
            Sampling::Linear,
            Sampling::Cubic { coefficient: -0.75 },
        ] {
            for align_corners in [false, true] {
                for spatial in [1, 2, 3] {
                    let cubic = matches!(sampling, Sampling::Cubic { .. });
                    if spatial == 3 && cubic {
                        continue;
                    }
                    let mut x = vec![2, 2];
                    x.extend_from_slice(&[5, 4, 3][..spatial]);
                    let mut grid = vec![2];
                    grid.extend_from_slice(&[3, 4, 2][..spatial]);
                    grid.push(spatial);
                    let places = floats(&grid, 8)
                        .floats()
                        .unwrap()
                        .iter()
                        .map(|v| v * 0.7)
                        .collect();
                    let f = GridSample {
                        sampling,
                        outside,
                        align_corners,
                    };
                    let inputs = vec![floats(&x, 1), Tensor::f32(grid, places).unwrap()];
                    let since = if spatial == 3 { 20 } else { 16 };
                    cases.push(
                        op(
                            format!(
                                "grid_sample {outside:?} {sampling:?} {align_corners} {spatial}"
                            ),
                            Op::GridSample(f),
                            inputs,
                        )
                        .since(since),
                    );
                }
            }
        }
    }
    let corners = [
        0.0, 0.0, 1.0, 1.0, 0.0, 0.1, 1.0, 1.1, 0.0, -0.1, 1.0, 0.9, 0.0, 10.0, 1.0, 11.0, 1.0,
        11.1, 0.0, 10.1, 0.0, 100.0, 1.0, 101.0,
    ];
    let scores = Tensor::f32(
        vec![1, 2, 6],
        vec![
            0.9, 0.75, 0.6, 0.95, 0.5, 0.3, 0.1, 0.8, 0.7, 0.2, 0.45, 0.35,
        ],
    )
    .unwrap();
    for (center, most, to) in [
        (false, 3, DType::I64),
        (true, 2, DType::I32),
        (false, 0, DType::I64),
    ] {
        let boxes = Tensor::f32(vec![1, 6, 4], corners.to_vec()).unwrap();
        let boxes = if center {
            // As centre and size.
            let v = boxes
                .floats()
                .unwrap()
                .chunks(4)
                .flat_map(|c| {
                    [
                        (c[1] + c[3]) / 2.0,
                        (c[0] + c[2]) / 2.0,
                        (c[3] - c[1]).abs(),
                        (c[2] - c[0]).abs(),
                    ]
                })
                .collect();
            Tensor::f32(vec![1, 6, 4], v).unwrap()
        } else {
            boxes
        };
        let inputs = vec![
            boxes,
            scores.clone(),
            i64s(&[most]),
            Tensor::f32(vec![1], vec![0.5]).unwrap(),
            Tensor::f32(vec![], vec![0.25]).unwrap(),
        ];
        cases.push(case(
            format!("non_max_suppression {center} {most}"),
            inputs,
            |b, x| {
                let count = b.run_time_size();
                b.push_all(
                    "f",
                    Op::NonMaxSuppression(NonMaxSuppression {
                        dtype: to,
                        center,
                        count,
                    }),
                    x,
                )
            },
        ));
    }
    cases
}

fn recurrent() -> Vec<Case> {
    let mut cases = Vec::new();
    use CellActivation as A;
    let usual = |cell: Cell| match cell {
        Cell::Rnn => vec![A::Tanh],
        Cell::Gru { .. } => vec![A::Sigmoid, A::Tanh],
        Cell::Lstm { .. } => vec![A::Sigmoid, A::Tanh, A::Tanh],
    };
    let layer = |name: String,
                 cell: Cell,
                 direction,
                 activations: Vec<A>,
                 clip,
                 lengths: bool,
                 peepholes: bool,
                 dtype: DType| {
        let d = if direction == Direction::Bidirectional {
            2
        } else {
            1
        };
        let (t, b, i, h, g) = (5, 3, 4, 3, cell.gates());
        let lstm = matches!(cell, Cell::Lstm { .. });
        let mut inputs = vec![
            of(dtype, &[t, b, i], 1),
            of(dtype, &[d, g * h, i], 2),
            of(dtype, &[d, g * h, h], 3),
            of(dtype, &[d, 2 * g * h], 4),
            of(dtype, &[d, b, h], 5),
        ];
        if lstm {
            inputs.push(of(dtype, &[d, b, h], 6));
        }
        if lengths {
            inputs.push(i64s(&[5, 2, 3]));
        }
        if peepholes {
            inputs.push(of(dtype, &[d, 3 * h], 7));
        }
        let f = Recurrent {
            cell,
            direction,
            activations: activations.repeat(d),
            clip,
            lengths,
            peepholes,
        };
        op(name, Op::Recurrent(f), inputs).within(tolerance(dtype) * 2.0)
    };
    let cells = [
        Cell::Rnn,
        Cell::Gru { reset_after: false },
        Cell::Gru { reset_after: true },
        Cell::Lstm { coupled: false },
        Cell::Lstm { coupled: true },
    ];
    for cell in cells {
        for direction in [
            Direction::Forward,
            Direction::Reverse,
            Direction::Bidirectional,
        ] {
            for lengths in [false, true] {
                cases.push(layer(
                    format!("recurrent {cell:?} {direction:?} {lengths}"),
                    cell,
                    direction,
                    usual(cell),
                    None,
                    lengths,
                    false,
                    DType::F32,
                ));
            }
        }
        cases.push(layer(
            format!("recurrent {cell:?} clip"),
            cell,
            Direction::Forward,
            usual(cell),
            Some(0.5),
            false,
            false,
            DType::F32,
        ));
        for dtype in [DType::F16, DType::F64] {
            cases.push(layer(
                format!("recurrent {cell:?} {dtype}"),
                cell,
                Direction::Forward,
                usual(cell),
                None,
                false,
                false,
                dtype,
            ));
        }
    }
    cases.push(layer(
        "recurrent peepholes".into(),
        Cell::Lstm { coupled: false },
        Direction::Bidirectional,
        usual(Cell::Lstm { coupled: false }),
        None,
        true,
        true,
        DType::F32,
    ));
    for a in [
        A::Relu,
        A::Affine {
            alpha: 0.5,
            beta: 0.125,
        },
        A::LeakyRelu { alpha: 0.25 },
        A::ThresholdedRelu { alpha: 0.5 },
        A::ScaledTanh {
            alpha: 1.5,
            beta: 0.75,
        },
        A::HardSigmoid {
            alpha: 0.25,
            beta: 0.375,
        },
        A::Elu { alpha: 0.5 },
        A::Softsign,
        A::Softplus,
    ] {
        cases.push(layer(
            format!("recurrent {a:?}"),
            Cell::Gru { reset_after: false },
            Direction::Forward,
            vec![A::Sigmoid, a],
            None,
            false,
            false,
            DType::F32,
        ));
    }
    cases
}

fn quantised() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::I8, DType::U8, DType::I16, DType::U16, DType::I32] {
        for granularity in [
            Granularity::Tensor,
            Granularity::Axis(1),
            Granularity::Block,
        ] {
            for zero in [false, true] {
                for float in [DType::F32, DType::F16] {
                    let shape: &[usize] = match granularity {
                        Granularity::Tensor => &[],
                        Granularity::Axis(_) => &[4],
                        Granularity::Block => &[3, 2, 2],
                    };
                    let scale = of(float, shape, 3);
                    let scale = Tensor::f32(
                        shape.to_vec(),
                        scale
                            .floats()
                            .unwrap()
                            .iter()
                            .map(|x| x.abs() / 16.0 + 0.03)
                            .collect(),
                    )
                    .unwrap()
                    .cast(float);
                    let point = ints(dtype, shape, 0, 9);
                    let mut back = vec![of(dtype, &[3, 4, 2], 1), scale.clone()];
                    let mut there = vec![of(float, &[3, 4, 2], 2), scale];
                    if zero {
                        back.push(point.clone());
                        there.push(point);
                    }
                    let name = format!("{granularity:?} {dtype} {zero} {float}");
                    let f = Op::Dequantize(Dequantize {
                        granularity: granularity.clone(),
                    });
                    cases.push(
                        op(format!("dequantize {name}"), f, back).within(if float == DType::F16 {
                            1e-3
                        } else {
                            1e-6
                        }),
                    );
                    let f = Op::Quantize(Quantize {
                        granularity: granularity.clone(),
                        to: dtype,
                    });
                    cases.push(op(format!("quantize {name}"), f, there));
                }
            }
        }
    }
    // Types that only some opsets have, or none, as constants and between nodes.
    for dtype in [
        DType::U1,
        DType::U2,
        DType::U3,
        DType::U4,
        DType::U6,
        DType::I4,
    ] {
        let high = (1i64 << (dtype.bits() - u32::from(dtype.is_signed_int()))) - 1;
        let low = if dtype.is_signed_int() { -high - 1 } else { 0 };
        let scale = Tensor::f32(vec![3, 2], vec![0.5, 0.25, 0.125, 1.0, 2.0, 0.75]).unwrap();
        cases.push(case(
            format!("constant {dtype}"),
            vec![floats(&[3, 4], 1)],
            |b, x| {
                let q = b.tensor("q", &ints(dtype, &[3, 4], low, high))?;
                let s = b.tensor("s", &scale)?;
                let z = b.tensor("z", &ints(dtype, &[3, 2], low, high))?;
                let w = b.push(
                    "w",
                    Op::Dequantize(Dequantize {
                        granularity: Granularity::Block,
                    }),
                    &[q, s, z],
                )?;
                Ok(vec![b.binary("y", BinaryKind::Mul, w, x[0])?])
            },
        ));
        cases.push(case(
            format!("there and back {dtype}"),
            vec![floats(&[3, 4], 1)],
            |b, x| {
                let s = b.tensor("s", &Tensor::f32(vec![], vec![0.25])?)?;
                let q = b.push(
                    "q",
                    Op::Quantize(Quantize {
                        granularity: Granularity::Tensor,
                        to: dtype,
                    }),
                    &[x[0], s],
                )?;
                let t = b.push("t", Op::Transpose(Transpose { perm: vec![1, 0] }), &[q])?;
                b.push_all(
                    "y",
                    Op::Dequantize(Dequantize {
                        granularity: Granularity::Tensor,
                    }),
                    &[t, s],
                )
            },
        ));
    }
    cases
}

fn control() -> Vec<Case> {
    let mut cases = Vec::new();
    let matrix = || Type::known(DType::F32, &[2, 3]);
    for condition in [true, false] {
        let inputs = vec![
            Tensor::bool(vec![], vec![condition]).unwrap(),
            floats(&[2, 3], 1),
            floats(&[2, 3], 2),
        ];
        cases.push(case(format!("if {condition}"), inputs, |b, x| {
            let then_body = b.body("then", |b| {
                let p = b.param("then/a", matrix(), Domain::Any)?;
                let q = b.param("then/b", matrix(), Domain::Any)?;
                let sum = b.binary("then/sum", BinaryKind::Add, p, q)?;
                let w = b.tensor("then/w", &floats(&[3, 3], 5))?;
                let product = b.push(
                    "then/product",
                    Op::MatMul(MatMul {
                        transpose_a: false,
                        transpose_b: true,
                    }),
                    &[sum, w],
                )?;
                b.output("then/first", product)?;
                b.output("then/second", q)?;
                Ok(())
            })?;
            let else_body = b.body("else", |b| {
                let p = b.param("else/a", matrix(), Domain::Any)?;
                b.param("else/b", matrix(), Domain::Any)?;
                let w = b.tensor("else/w", &floats(&[2, 3], 6))?;
                b.output("else/first", w)?;
                b.output("else/second", p)?;
                Ok(())
            })?;
            let f = If {
                then_body,
                else_body,
                results: vec![matrix(), matrix()],
            };
            let y = b.push_all("if", Op::If(f), x)?;
            let sum = b.binary("sum", BinaryKind::Add, y[0], y[1])?;
            Ok(vec![y[0], sum])
        }));
    }
    for (name, counter, rounds, begin) in [
        ("loop", DType::I64, 4, true),
        ("loop i32", DType::I32, 9, true),
        ("loop never", DType::I64, 3, false),
        ("loop no rounds", DType::I64, 0, true),
    ] {
        let inputs = vec![
            Tensor::int(counter, vec![], vec![rounds]).unwrap(),
            Tensor::bool(vec![], vec![begin]).unwrap(),
            floats(&[2, 3], 1),
            floats(&[3], 2),
        ];
        cases.push(case(name, inputs, |b, x| {
            let body = b.body("round", |b| {
                let i = b.param("round/i", Type::known(counter, &[]), Domain::Any)?;
                b.param("round/go", Type::known(DType::Bool, &[]), Domain::Any)?;
                let state = b.param("round/state", matrix(), Domain::Any)?;
                let step = b.param("round/step", Type::known(DType::F32, &[3]), Domain::Any)?;
                let next = b.binary("round/next", BinaryKind::Add, state, step)?;
                let last = b.tensor("round/last", &Tensor::int(counter, vec![], vec![5])?)?;
                let go = b.push(
                    "round/less",
                    Op::Compare(Compare {
                        kind: CompareKind::Less,
                    }),
                    &[i, last],
                )?;
                b.output("round/go on", go)?;
                b.output("round/carried", next)?;
                b.output("round/collected", next)?;
                b.output("round/count", i)?;
                Ok(())
            })?;
            let n = b.run_time_size();
            let mut collected = matrix();
            collected.shape.insert(0, n.clone());
            let f = Loop {
                body,
                carried: 1,
                results: vec![matrix(), collected, Type::new(counter, vec![n.clone()])],
            };
            let mut y = b.push_all("loop", Op::Loop(f), x)?;
            y.push(b.push(
                "rounds",
                Op::Size(Size {
                    dtype: DType::I64,
                    dim: n,
                }),
                &[],
            )?);
            Ok(y)
        }));
    }
    // A tensor that grows: its size inside the body is another in every round.
    let inputs = vec![
        Tensor::i64(vec![], vec![3]).unwrap(),
        Tensor::bool(vec![], vec![true]).unwrap(),
        floats(&[2], 1),
    ];
    cases.push(case("loop that grows", inputs, |b, x| {
        let inside = b.run_time_size();
        let after = b.run_time_size();
        let body = b.body("grow", |b| {
            b.param("grow/i", Type::known(DType::I64, &[]), Domain::Any)?;
            let go = b.param("grow/go", Type::known(DType::Bool, &[]), Domain::Any)?;
            let state = b.param(
                "grow/state",
                Type::new(DType::F32, vec![inside.clone()]),
                Domain::Any,
            )?;
            let size = b.push(
                "grow/size",
                Op::Size(Size {
                    dtype: DType::I64,
                    dim: inside.clone(),
                }),
                &[],
            )?;
            let one = b.push(
                "grow/shape",
                Op::Reshape(Reshape {
                    shape: vec![Dim::from(1)],
                }),
                &[size],
            )?;
            let one = b.cast("grow/float", one, DType::F32)?;
            let next = b.push("grow/next", Op::Concat(Concat { axis: 0 }), &[state, one])?;
            b.output("grow/go on", go)?;
            b.output("grow/carried", next)?;
            Ok(())
        })?;
        let f = Loop {
            body,
            carried: 1,
            results: vec![Type::new(DType::F32, vec![after])],
        };
        b.push_all("loop", Op::Loop(f), x)
    }));
    cases
}

fn cases() -> Vec<Case> {
    let mut cases = elementwise();
    cases.extend(along_axes());
    cases.extend(matrices());
    cases.extend(windows());
    cases.extend(movement());
    cases.extend(computed_sizes());
    cases.extend(images());
    cases.extend(recurrent());
    cases.extend(quantised());
    cases.extend(control());
    cases
}

/// The names of the operations that have a case here.
pub fn operations() -> Vec<&'static str> {
    let names = |c: &Case| {
        c.module
            .main()
            .unwrap()
            .nodes
            .iter()
            .map(|n| n.op.name())
            .collect::<Vec<_>>()
    };
    cases().iter().flat_map(names).collect()
}

/// How two results differ, if they do more than they may.
fn difference(expected: &Tensor, found: &Tensor, tolerance: f64) -> Option<String> {
    if expected.dtype() != found.dtype() || expected.shape() != found.shape() {
        let text = |t: &Tensor| format!("{}{:?}", t.dtype(), t.shape());
        return Some(format!("{} instead of {}", text(found), text(expected)));
    }
    if !expected.dtype().is_float() {
        return (expected != found)
            .then(|| format!("{:?} instead of {:?}", found.to_f64(), expected.to_f64()));
    }
    let (e, f) = (expected.to_f64(), found.to_f64());
    let scale = e
        .iter()
        .filter(|x| x.is_finite())
        .fold(1.0f64, |m, x| m.max(x.abs()));
    for (i, (e, f)) in e.iter().zip(&f).enumerate() {
        let same = e == f || (e.is_nan() && f.is_nan()) || (e - f).abs() <= tolerance * scale;
        if !same {
            return Some(format!("element {i}: {f} instead of {e}"));
        }
    }
    None
}

fn path(folder: &Path, i: usize, opset: i64) -> PathBuf {
    folder.join(format!("{i}-{opset}.onnx"))
}

/// Writes a case, or sees to it that it is refused where it has to be.
fn write(case: &Case, path: &Path, opset: i64) -> std::result::Result<bool, String> {
    let options = WriteOptions {
        opset,
        ..WriteOptions::default()
    };
    match onnx::write(&case.module, path, &options) {
        Ok(_) if opset < case.since => Err("was written before its opset".into()),
        Ok(_) => Ok(true),
        Err(error) if opset < case.since && error.code() == "onnx_needs_opset" => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

fn compare(case: &Case, session: &dyn Session) -> std::result::Result<(), String> {
    let half = case
        .module
        .main()
        .unwrap()
        .values
        .iter()
        .any(|v| v.ty.dtype == DType::F16);
    let mode = if half { Mode::F16 } else { Mode::F32 };
    let interpreter = Interpreter::new(&case.module, mode).map_err(|e| e.to_string())?;
    let expected = Interpreter::run(&interpreter, &case.inputs, None)
        .map_err(|e| format!("interpreter: {e}"))?;
    let found = session.run(&case.inputs).map_err(|e| e.to_string())?;
    if expected.is_empty() || expected.len() != found.len() {
        return Err(format!(
            "{} results instead of {}",
            found.len(),
            expected.len()
        ));
    }
    for (name, expected) in &expected {
        if let Some(difference) = difference(expected, &found[name], case.tolerance) {
            return Err(format!("{name}: {difference}"));
        }
    }
    Ok(())
}

fn report(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn onnx_runtime_agrees_in_every_opset() {
    let library = library::find(None).unwrap().path;
    let folder = tempfile::tempdir().unwrap();
    let (mut failures, mut runs) = (Vec::new(), 0);
    for (i, case) in cases().iter().enumerate() {
        for opset in onnx::MIN_OPSET..=onnx::MAX_OPSET {
            let path = path(folder.path(), i, opset);
            let result = write(case, &path, opset).and_then(|written| {
                if !written {
                    return Ok(());
                }
                runs += 1;
                let session = OrtSession::open(&library, &path).map_err(|e| e.to_string())?;
                compare(case, &session)
            });
            if let Err(error) = result {
                failures.push(format!("opset {opset}, {}: {error}", case.name));
            }
        }
    }
    println!(
        "{} cases, {runs} runs, {} failures",
        cases().len(),
        failures.len()
    );
    report(&failures);
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn onnx_checker_accepts_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for (i, case) in cases().iter().enumerate() {
        for opset in onnx::MIN_OPSET..=onnx::MAX_OPSET {
            if let Err(error) = write(case, &path(folder.path(), i, opset), opset) {
                failures.push(format!("opset {opset}, {}: {error}", case.name));
            }
        }
    }
    report(&failures);
    judge("check_onnx.py", &[folder.path()]);
}

#[test]
fn what_has_no_words_in_onnx_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |case: Case, code: &str| {
        let path = folder.path().join("m.onnx");
        let error = onnx::write(&case.module, &path, &WriteOptions::default()).unwrap_err();
        assert_eq!(error.code(), code, "{}: {error}", case.name);
        assert!(!path.exists());
    };
    let big = op("inverse", Op::Inverse(Inverse), vec![floats(&[65, 65], 1)]);
    refused(big, "onnx_operation");
    let integers = |n: &[usize]| ints(DType::I32, n, 1, 5);
    let f = Op::ScatterNd(ScatterNd {
        mode: ScatterMode::Div,
    });
    let index = Tensor::i64(vec![1, 1], vec![2]).unwrap();
    refused(
        op("scatter", f, vec![integers(&[4]), index, integers(&[1])]),
        "onnx_operation",
    );
    let f = Op::Pool(Pool {
        kind: PoolKind::Max,
        kernel: vec![2],
        window: Window::unit(1),
        ceil: false,
    });
    refused(
        op("pool i64", f, vec![ints(DType::I64, &[1, 1, 4], 0, 9)]),
        "onnx_dtype",
    );
    for (sampling, spatial) in [
        (Sampling::Nearest(Rounding::Floor), 2),
        (Sampling::Cubic { coefficient: -0.5 }, 2),
    ] {
        let f = GridSample {
            sampling,
            outside: Outside::Border,
            align_corners: true,
        };
        let grid = floats(&[1, 2, 2, spatial], 2);
        refused(
            op(
                "grid",
                Op::GridSample(f),
                vec![floats(&[1, 1, 3, 3], 1), grid],
            ),
            "onnx_operation",
        );
    }
}

#[test]
fn states_are_named_in_the_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let mut b = Builder::new("state");
    let ty = Type::known(DType::F32, &[2]);
    let x = b.param("x", ty.clone(), Domain::Any).unwrap();
    let cache = b.param("cache_in", ty, Domain::Any).unwrap();
    let sum = b.binary("sum", BinaryKind::Add, x, cache).unwrap();
    b.output("cache_out", sum).unwrap();
    b.state("cache", cache, "cache_out");
    let path = folder.path().join("m.onnx");
    onnx::write(&b.finish().unwrap(), &path, &WriteOptions::default()).unwrap();
    let summary = onnx::inspect(&path).unwrap();
    assert_eq!(summary.metadata["state.cache"], "cache_in <- cache_out");
    assert_eq!(summary.inputs.len(), 2);
}

#[test]
fn tract_agrees_on_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    let (mut cases, everything) = (Vec::new(), windows());
    cases.extend(
        everything
            .into_iter()
            .filter(|c| c.name.starts_with("conv")),
    );
    assert!(cases.len() > 8);
    for (i, case) in cases.iter().enumerate() {
        if case.name.contains("f16") {
            continue;
        }
        let path = path(folder.path(), i, 18);
        let result = write(case, &path, 18).and_then(|_| {
            let session = TractSession::open(&path).map_err(|e| e.to_string())?;
            compare(case, &session)
        });
        if let Err(error) = result {
            failures.push(format!("{}: {error}", case.name));
        }
    }
    report(&failures);
}
