//! Core ML packages of the operations that take constants, several results, bodies or computed shapes: for every generation, in both precisions,
//! what is written is read back and computes the same, and coremltools loads it with all types inferred anew.

use std::collections::BTreeSet;
use std::path::Path;

use distill_convert::coreml::{self, DeploymentTarget, WriteOptions};
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::ir::ops::{
    Activation, ActivationKind, ArgReduce, BatchNorm, Binary, BinaryKind, BlockOrder, Cast, Cell,
    CellActivation, Classify, ClassifyKind, Compare, CompareKind, Conv, ConvTranspose, Coordinates,
    DepthToSpace, Dequantize, Direction, Expand, ExpandTo, Gather, GatherNd, Granularity,
    GridSample, If, InstanceNorm, Loop, Lrn, NonMaxSuppression, NonZero, Outside, Pad, PadBy,
    PadMode, Pool, PoolKind, Quantize, RangeBy, Recurrent, Reduce, ReduceKind, Reshape, ReshapeTo,
    Resize, ResizeAxis, Reverse, Rounding, Sampling, ScatterElements, ScatterMode, ScatterNd, Size,
    Slice, SliceBy, SliceRange, Softmax, SpaceToDepth, Squeeze, Tile, TileBy, TopK, Transpose,
    Unary, UnaryKind, Unsqueeze, Window,
};
use distill_convert::ir::{Builder, Dim, Domain, Module, Op, Type, ValueId};
use distill_convert::tensor::{DType, NamedTensors, Tensor};

/// A module of one case: its operations appear under their names.
struct Case {
    b: Builder,
    float: DType,
    results: usize,
    inputs: NamedTensors,
    seed: u32,
}

impl Case {
    fn new(float: DType) -> Self {
        Case {
            b: Builder::new("case"),
            float,
            results: 0,
            inputs: NamedTensors::new(),
            seed: 7,
        }
    }

    /// Seeded numbers in `-1..1`.
    fn numbers(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| {
                self.seed = self
                    .seed
                    .wrapping_mul(1_664_525)
                    .wrapping_add(1_013_904_223);
                f32::from(u8::try_from(self.seed >> 24).unwrap()) / 128.0 - 0.996
            })
            .collect()
    }

    /// A float input.
    fn x(&mut self, shape: &[usize]) -> ValueId {
        let name = format!("x{}", self.inputs.len());
        let values = self.numbers(shape.iter().product());
        let tensor = Tensor::f32(shape.to_vec(), values).unwrap();
        let x = self.input(&name, tensor);
        self.b.cast(&format!("{name}/in"), x, self.float).unwrap()
    }

    fn input(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let ty = Type::known(tensor.dtype(), tensor.shape());
        self.inputs.insert(name.to_owned(), tensor);
        self.b.param(name, ty, Domain::Any).unwrap()
    }

    /// An integer input.
    fn ints(&mut self, dtype: DType, shape: &[usize], values: &[i64]) -> ValueId {
        let name = format!("x{}", self.inputs.len());
        let tensor = Tensor::int(dtype, shape.to_vec(), values.to_vec()).unwrap();
        self.input(&name, tensor)
    }

    /// A float constant.
    fn w(&mut self, name: &str, shape: &[usize]) -> ValueId {
        let values = self.numbers(shape.iter().product());
        let tensor = Tensor::f32(shape.to_vec(), values)
            .unwrap()
            .cast(self.float);
        self.b.tensor(name, &tensor).unwrap()
    }

    fn positive(&mut self, name: &str, shape: &[usize]) -> ValueId {
        let values = self.numbers(shape.iter().product());
        let values = values.iter().map(|v| v.abs() + 0.5).collect();
        let tensor = Tensor::f32(shape.to_vec(), values)
            .unwrap()
            .cast(self.float);
        self.b.tensor(name, &tensor).unwrap()
    }

    fn list(&mut self, values: &[i64]) -> ValueId {
        let tensor = Tensor::i64(vec![values.len()], values.to_vec()).unwrap();
        self.b.tensor("list", &tensor).unwrap()
    }

    fn op(&mut self, op: Op, operands: &[ValueId]) -> Vec<ValueId> {
        let name = format!("model/{}", op.name());
        self.b.push_all(&name, op, operands).unwrap()
    }

    fn out(&mut self, op: Op, operands: &[ValueId]) {
        let values = self.op(op, operands);
        self.outputs(&values);
    }

    fn outputs(&mut self, values: &[ValueId]) {
        for &value in values {
            self.b.output(&format!("y{}", self.results), value).unwrap();
            self.results += 1;
        }
    }

    fn unary(&mut self, kind: UnaryKind, x: ValueId) -> ValueId {
        self.op(Op::Unary(Unary { kind }), &[x])[0]
    }

    fn binary(&mut self, kind: BinaryKind, x: ValueId, y: ValueId) -> ValueId {
        self.op(Op::Binary(Binary { kind }), &[x, y])[0]
    }
}

type Make = Box<dyn Fn(&mut Case)>;

fn dims(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|&n| Dim::from(n)).collect()
}

fn window(strides: &[usize], dilations: &[usize], pads: &[(usize, usize)]) -> Window {
    Window {
        strides: strides.to_vec(),
        dilations: dilations.to_vec(),
        pads: pads.to_vec(),
    }
}

#[allow(clippy::too_many_lines)] // A table.
fn cases() -> Vec<(String, Make)> {
    let mut all: Vec<(String, Make)> = Vec::new();
    let mut add = |name: &str, make: Make| all.push((name.to_owned(), make));
    for kind in [
        UnaryKind::Tan,
        UnaryKind::Asin,
        UnaryKind::Acos,
        UnaryKind::Atan,
        UnaryKind::Sinh,
        UnaryKind::Cosh,
        UnaryKind::Asinh,
        UnaryKind::Acosh,
        UnaryKind::Atanh,
        UnaryKind::Softplus,
        UnaryKind::Softsign,
    ] {
        add(
            &format!("{kind:?}"),
            Box::new(move |c| {
                let mut x = c.x(&[2, 3, 5]);
                if kind == UnaryKind::Acosh {
                    let two = c.b.scalar("two", c.float, 2.5).unwrap();
                    x = c.binary(BinaryKind::Add, x, two);
                }
                c.out(Op::Unary(Unary { kind }), &[x]);
            }),
        );
    }
    for dtype in [
        DType::I32,
        DType::I8,
        DType::U8,
        DType::I16,
        DType::U16,
        DType::I64,
    ] {
        let values: Vec<i64> = if dtype.is_signed_int() {
            vec![100, -100, 7, -7, 3, -128, 127, 0]
        } else {
            vec![200, 255, 7, 1, 3, 128, 127, 0]
        };
        let divisors: Vec<i64> = if dtype.is_signed_int() {
            vec![3, 3, -2, -2, 5, 7, -1, 4]
        } else {
            vec![3, 100, 2, 250, 5, 7, 1, 4]
        };
        for kind in [
            BinaryKind::Add,
            BinaryKind::Sub,
            BinaryKind::Mul,
            BinaryKind::FloorDiv,
            BinaryKind::TruncDiv,
            BinaryKind::Mod,
            BinaryKind::Rem,
            BinaryKind::BitAnd,
            BinaryKind::BitOr,
            BinaryKind::BitXor,
            BinaryKind::ShiftLeft,
            BinaryKind::ShiftRight,
            BinaryKind::Min,
            BinaryKind::Max,
        ] {
            let shift = matches!(kind, BinaryKind::ShiftLeft | BinaryKind::ShiftRight);
            if shift && dtype.is_signed_int() {
                continue;
            }
            let (values, divisors) = (values.clone(), divisors.clone());
            add(
                &format!("{kind:?}_{dtype}"),
                Box::new(move |c| {
                    let x = c.ints(dtype, &[2, 4], &values);
                    let y = c.ints(dtype, &[2, 4], &divisors);
                    c.out(Op::Binary(Binary { kind }), &[x, y]);
                }),
            );
        }
        for kind in [
            UnaryKind::Neg,
            UnaryKind::Abs,
            UnaryKind::Sign,
            UnaryKind::BitNot,
        ] {
            let values = values.clone();
            add(
                &format!("{kind:?}_{dtype}"),
                Box::new(move |c| {
                    let x = c.ints(dtype, &[8], &values);
                    c.out(Op::Unary(Unary { kind }), &[x]);
                }),
            );
        }
        let others = values.clone();
        add(
            &format!("moves_{dtype}"),
            Box::new(move |c| {
                let x = c.ints(dtype, &[1, 4, 2], &others);
                let sum = Reduce {
                    kind: ReduceKind::Sum,
                    axes: vec![1],
                    keep_dims: false,
                };
                c.out(Op::Reduce(sum), &[x]);
                let most = Reduce {
                    kind: ReduceKind::Max,
                    axes: vec![1],
                    keep_dims: true,
                };
                c.out(Op::Reduce(most), &[x]);
                let repeats = dims(&[2, 1, 3]);
                c.out(Op::Tile(Tile { repeats }), &[x]);
                let kind = CompareKind::Equal;
                c.out(Op::Compare(Compare { kind }), &[x, x]);
                c.out(Op::Cast(Cast { to: DType::F32 }), &[x]);
                let pad = Pad {
                    mode: PadMode::Constant,
                    begin: dims(&[0, 1, 2]),
                    end: dims(&[1, 0, 0]),
                };
                c.out(Op::Pad(pad), &[x]);
                let pool = Pool {
                    kind: PoolKind::Max,
                    kernel: vec![2],
                    window: window(&[1], &[1], &[(1, 0)]),
                    ceil: false,
                };
                c.out(Op::Pool(pool), &[x]);
            }),
        );
        add(
            &format!("cast_{dtype}"),
            Box::new(move |c| {
                let x = c.x(&[12]);
                let by = c.b.scalar("by", c.float, 100.0).unwrap();
                let x = c.binary(BinaryKind::Mul, x, by);
                let x = c.unary(UnaryKind::Abs, x);
                c.out(Op::Cast(Cast { to: dtype }), &[x]);
            }),
        );
    }
    add(
        "rem_float",
        Box::new(|c| {
            let (x, y) = (c.x(&[2, 6]), c.positive("by", &[6]));
            c.out(
                Op::Binary(Binary {
                    kind: BinaryKind::Rem,
                }),
                &[x, y],
            );
        }),
    );
    for kind in [
        ClassifyKind::Nan,
        ClassifyKind::Infinite,
        ClassifyKind::PositiveInfinite,
        ClassifyKind::NegativeInfinite,
    ] {
        add(
            &format!("{kind:?}"),
            Box::new(move |c| {
                let values = vec![0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0];
                let x = c.input("x", Tensor::f32(vec![5], values).unwrap());
                c.out(Op::Classify(Classify { kind }), &[x]);
            }),
        );
    }
    for kind in [
        ActivationKind::LeakyRelu { alpha: 0.1 },
        ActivationKind::Elu { alpha: 1.5 },
        ActivationKind::HardSigmoid {
            alpha: 0.3,
            beta: 0.4,
        },
    ] {
        add(
            &format!("{kind:?}"),
            Box::new(move |c| {
                let x = c.x(&[3, 4]);
                c.out(Op::Activation(Activation { kind }), &[x]);
            }),
        );
    }
    for kind in [ReduceKind::Prod, ReduceKind::LogSumExp] {
        add(
            &format!("{kind:?}"),
            Box::new(move |c| {
                let x = c.x(&[2, 3, 4]);
                c.out(
                    Op::Reduce(Reduce {
                        kind,
                        axes: vec![0, 2],
                        keep_dims: true,
                    }),
                    &[x],
                );
            }),
        );
    }
    add(
        "order",
        Box::new(|c| {
            let x = c.x(&[2, 5]);
            for (largest, last) in [(true, false), (true, true), (false, false), (false, true)] {
                c.out(
                    Op::ArgReduce(ArgReduce {
                        axis: 1,
                        largest,
                        last,
                        dtype: DType::I64,
                    }),
                    &[x],
                );
                let k = Dim::from(3);
                let dtype = DType::I64;
                c.out(
                    Op::TopK(TopK {
                        axis: 1,
                        k,
                        largest,
                        dtype,
                    }),
                    &[x],
                );
            }
        }),
    );
    add(
        "top_k_computed",
        Box::new(|c| {
            let x = c.x(&[2, 5]);
            let k = c.ints(DType::I64, &[1], &[2]);
            let size = c.b.run_time_size();
            c.out(
                Op::TopK(TopK {
                    axis: 1,
                    k: size,
                    largest: true,
                    dtype: DType::I64,
                }),
                &[x, k],
            );
        }),
    );
    // Convolutions: constant and computed weights.
    for constant in [true, false] {
        for axes in 1..=3usize {
            let tag = if constant { "constant" } else { "computed" };
            add(
                &format!("conv{axes}_{tag}"),
                Box::new(move |c| {
                    let spatial = &[5, 6, 4][..axes];
                    let kernel = &[2, 3, 2][..axes];
                    let shape = [&[1, 4][..], spatial].concat();
                    let wide = [&[6, 2][..], kernel].concat();
                    let narrow = [&[4, 3][..], kernel].concat();
                    let x = c.x(&shape);
                    let get = |c: &mut Case, name: &str, shape: &[usize]| {
                        if constant {
                            c.w(name, shape)
                        } else {
                            c.x(shape)
                        }
                    };
                    let (w, b) = (get(c, "w", &wide), get(c, "b", &[6]));
                    let window_of = |s: usize, d: usize| {
                        window(&vec![s; axes], &vec![d; axes], &vec![(1, 2); axes])
                    };
                    for (s, d) in [(1, 1), (2, 1), (1, 2)] {
                        let op = Conv {
                            window: window_of(s, d),
                            groups: 2,
                        };
                        c.out(Op::Conv(op), &[x, w, b]);
                    }
                    let v = get(c, "v", &narrow);
                    for (s, d, extra) in [(1, 1, 0), (2, 1, 1), (2, 2, 0)] {
                        let op = ConvTranspose {
                            window: Window {
                                pads: vec![(1, 0); axes],
                                ..window_of(s, d)
                            },
                            groups: 2,
                            output_pads: vec![extra; axes],
                        };
                        c.out(Op::ConvTranspose(op.clone()), &[x, v, b]);
                        c.out(Op::ConvTranspose(op), &[x, v]);
                    }
                }),
            );
        }
    }
    for (name, kind) in [
        ("max", PoolKind::Max),
        (
            "mean_counted",
            PoolKind::Average {
                count_padding: true,
            },
        ),
        (
            "mean",
            PoolKind::Average {
                count_padding: false,
            },
        ),
    ] {
        for axes in 1..=3usize {
            add(
                &format!("pool{axes}_{name}"),
                Box::new(move |c| {
                    let shape = [&[1, 2][..], &[6, 5, 4][..axes]].concat();
                    let x = c.x(&shape);
                    for ceil in [false, true] {
                        for (stride, dilation, pad) in [
                            (1, 1, (0, 0)),
                            (2, 1, (1, 0)),
                            (2, 1, (1, 1)),
                            (1, 2, (1, 1)),
                            (3, 1, (0, 1)),
                        ] {
                            let kernel = vec![2; axes];
                            c.out(
                                Op::Pool(Pool {
                                    kind,
                                    kernel,
                                    window: window(
                                        &vec![stride; axes],
                                        &vec![dilation; axes],
                                        &vec![pad; axes],
                                    ),
                                    ceil,
                                }),
                                &[x],
                            );
                        }
                    }
                }),
            );
        }
    }
    for constant in [true, false] {
        for rank in 2..=5usize {
            add(
                &format!("norms_{rank}_{constant}"),
                Box::new(move |c| {
                    let shape = &[2, 3, 4, 3, 2][..rank];
                    let x = c.x(shape);
                    let get = |c: &mut Case, name: &str| {
                        if constant {
                            c.positive(name, &[3])
                        } else {
                            let x = c.x(&[3]);
                            let x = c.unary(UnaryKind::Abs, x);
                            let half = c.b.scalar("half", c.float, 0.5).unwrap();
                            c.binary(BinaryKind::Add, x, half)
                        }
                    };
                    let (m, v, g, b) = (get(c, "m"), get(c, "v"), get(c, "g"), get(c, "b"));
                    let epsilon = 1e-3;
                    c.out(Op::BatchNorm(BatchNorm { epsilon }), &[x, m, v, g, b]);
                    if rank > 2 {
                        c.out(Op::InstanceNorm(InstanceNorm { epsilon }), &[x, g, b]);
                    }
                    for size in [2, 3] {
                        c.out(
                            Op::Lrn(Lrn {
                                size,
                                alpha: 0.5,
                                beta: 0.75,
                                k: 1.5,
                            }),
                            &[x],
                        );
                    }
                }),
            );
        }
    }
    for mode in [
        PadMode::Constant,
        PadMode::Reflect,
        PadMode::Edge,
        PadMode::Wrap,
    ] {
        add(
            &format!("pad_{mode:?}"),
            Box::new(move |c| {
                let x = c.x(&[2, 3, 4]);
                for (begin, end) in [
                    ([0, 0, 1], [0, 1, 3]),
                    ([1, 0, 0], [0, 2, 0]),
                    ([0; 3], [0; 3]),
                ] {
                    let op = Pad {
                        mode,
                        begin: dims(&begin),
                        end: dims(&end),
                    };
                    c.out(Op::Pad(op.clone()), &[x]);
                    if mode == PadMode::Constant {
                        let by = c.w("by", &[1]);
                        c.out(Op::Pad(op.clone()), &[x, by]);
                        let by = c.x(&[1]);
                        c.out(Op::Pad(op), &[x, by]);
                    }
                }
            }),
        );
    }
    add(
        "shapes",
        Box::new(|c| {
            let x = c.x(&[1, 8, 4, 6]);
            let repeats = dims(&[2, 1, 1, 2]);
            c.out(Op::Tile(Tile { repeats }), &[x]);
            let axes = vec![1, 3];
            c.out(Op::Reverse(Reverse { axes }), &[x]);
            let bytes = c.op(Op::Cast(Cast { to: DType::I32 }), &[x])[0];
            for order in [BlockOrder::BlockFirst, BlockOrder::BlockLast] {
                for x in [x, bytes] {
                    c.out(Op::DepthToSpace(DepthToSpace { block: 2, order }), &[x]);
                    c.out(Op::SpaceToDepth(SpaceToDepth { block: 2, order }), &[x]);
                }
            }
            let size = Op::Size(Size {
                dtype: DType::I64,
                dim: Dim::from(7),
            });
            c.out(size, &[]);
        }),
    );
    add(
        "computed_shapes",
        Box::new(|c| {
            let x = c.x(&[2, 6]);
            let free = |c: &mut Case, n: usize| -> Vec<Dim> {
                (0..n).map(|_| c.b.run_time_size()).collect()
            };
            let to = c.ints(DType::I64, &[3], &[3, -1, 2]);
            let shape = free(c, 3);
            c.out(
                Op::ReshapeTo(ReshapeTo {
                    shape,
                    zero_copies: true,
                }),
                &[x, to],
            );
            let wide = c.ints(DType::I64, &[3], &[3, 1, 6]);
            let shape = free(c, 3);
            c.out(Op::ExpandTo(ExpandTo { shape }), &[x, wide]);
            let times = c.ints(DType::I64, &[2], &[2, 3]);
            let shape = free(c, 2);
            c.out(Op::TileBy(TileBy { shape }), &[x, times]);
            let starts = c.ints(DType::I64, &[2], &[-3, 1]);
            let ends = c.ints(DType::I64, &[2], &[100, -1]);
            let shape = free(c, 2);
            c.out(
                Op::SliceBy(SliceBy {
                    axes: vec![0, 1],
                    steps: vec![1, 2],
                    shape,
                }),
                &[x, starts, ends],
            );
            let from = c.ints(DType::I64, &[1], &[-1]);
            let last = c.list(&[i64::MIN]);
            let size = c.b.run_time_size();
            c.out(
                Op::SliceBy(SliceBy {
                    axes: vec![1],
                    steps: vec![-2],
                    shape: vec![Dim::from(2), size],
                }),
                &[x, from, last],
            );
            let amounts = c.ints(DType::I64, &[4], &[1, 0, 2, 1]);
            let shape = free(c, 2);
            let mode = PadMode::Constant;
            c.out(Op::PadBy(PadBy { mode, shape }), &[x, amounts]);
            let limit = c.ints(DType::I64, &[], &[9]);
            let (start, step) = (c.ints(DType::I64, &[], &[1]), c.ints(DType::I64, &[], &[3]));
            let len = c.b.run_time_size();
            c.out(Op::RangeBy(RangeBy { len }), &[start, limit, step]);
            let positive = c.unary(UnaryKind::Relu, x);
            let (dtype, count) = (DType::I64, c.b.run_time_size());
            c.out(Op::NonZero(NonZero { dtype, count }), &[positive]);
        }),
    );
    add(
        "index",
        Box::new(|c| {
            let x = c.x(&[2, 3, 4]);
            let at = c.ints(DType::I64, &[2, 2, 1], &[1, 2, 0, 1]);
            c.out(Op::GatherNd(GatherNd { batch_dims: 1 }), &[x, at]);
            let pairs = c.ints(DType::I64, &[3, 2], &[1, 2, 0, 1, 0, 0]);
            c.out(Op::GatherNd(GatherNd { batch_dims: 0 }), &[x, pairs]);
            let rows = c.x(&[3, 4]);
            let places = c.ints(
                DType::I64,
                &[2, 2, 4],
                &[0, 1, 2, 0, 2, 0, 1, 1, 0, 1, 2, 0, 2, 0, 1, 2],
            );
            let planes = c.x(&[2, 2, 4]);
            let few = c.ints(DType::I64, &[1, 2, 3], &[0, 1, 2, 1, 0, 0]);
            let little = c.x(&[1, 2, 3]);
            for mode in [
                ScatterMode::Update,
                ScatterMode::Add,
                ScatterMode::Mul,
                ScatterMode::Min,
                ScatterMode::Max,
            ] {
                c.out(Op::ScatterNd(ScatterNd { mode }), &[x, pairs, rows]);
                let op = Op::ScatterElements(ScatterElements { axis: 1, mode });
                c.out(op.clone(), &[x, places, planes]);
                c.out(op, &[x, few, little]);
            }
        }),
    );
    for center in [false, true] {
        add(
            &format!("suppression_{center}"),
            Box::new(move |c| {
                let boxes = c.x(&[2, 6, 4]);
                let scores = c.x(&[2, 2, 6]);
                let boxes = c.unary(UnaryKind::Abs, boxes);
                let most = c.list(&[3]);
                let limit = c.w("limit", &[]);
                let limit = c.unary(UnaryKind::Abs, limit);
                let least = c.b.scalar("least", c.float, -0.5).unwrap();
                let count = c.b.run_time_size();
                c.out(
                    Op::NonMaxSuppression(NonMaxSuppression {
                        dtype: DType::I64,
                        center,
                        count,
                    }),
                    &[boxes, scores, most, limit, least],
                );
            }),
        );
    }
    for (batches, classes) in [(1, 1), (1, 3), (2, 1), (2, 3)] {
        add(
            &format!("suppression_of_{batches}_{classes}"),
            Box::new(move |c| {
                let boxes = c.x(&[batches, 200, 4]);
                let scores = c.x(&[batches, classes, 200]);
                let boxes = c.unary(UnaryKind::Abs, boxes);
                for (center, most, least) in [
                    (true, 150, -0.5),
                    (false, i64::MAX, 0.25),
                    (false, 3, f64::NEG_INFINITY),
                ] {
                    let most = c.list(&[most]);
                    let limit = c.b.scalar("limit", c.float, 0.4375).unwrap();
                    let least = c.b.scalar("least", c.float, least).unwrap();
                    let count = c.b.run_time_size();
                    c.out(
                        Op::NonMaxSuppression(NonMaxSuppression {
                            dtype: DType::I64,
                            center,
                            count,
                        }),
                        &[boxes, scores, most, limit, least],
                    );
                }
            }),
        );
    }
    for (name, sampling) in [
        ("floor", Sampling::Nearest(Rounding::Floor)),
        ("prefer_floor", Sampling::Nearest(Rounding::PreferFloor)),
        ("even", Sampling::Nearest(Rounding::Even)),
        ("linear", Sampling::Linear),
        ("cubic", Sampling::Cubic { coefficient: -0.75 }),
    ] {
        add(
            &format!("resize_{name}"),
            Box::new(move |c| {
                let x = c.x(&[1, 2, 4, 5]);
                for coordinates in [
                    Coordinates::HalfPixel,
                    Coordinates::AlignCorners,
                    Coordinates::Asymmetric,
                    Coordinates::CropAndResize {
                        start: 0.1,
                        end: 1.2,
                    },
                ] {
                    let axis = |axis: usize, size: usize| ResizeAxis {
                        axis,
                        size: Dim::from(size),
                        scale: None,
                        coordinates,
                    };
                    let exact = matches!(sampling, Sampling::Nearest(_));
                    let crop = matches!(coordinates, Coordinates::CropAndResize { .. });
                    for antialias in [false, true] {
                        c.out(
                            Op::Resize(Resize {
                                axes: vec![axis(2, 7), axis(3, 3)],
                                sampling,
                                exclude_outside: antialias && !exact,
                                antialias: antialias && !exact,
                                extrapolation: crop.then_some(0.25),
                            }),
                            &[x],
                        );
                    }
                }
            }),
        );
        add(
            &format!("resize_whole_{name}"),
            Box::new(move |c| {
                let x = c.x(&[1, 2, 3, 4]);
                for coordinates in [
                    Coordinates::HalfPixel,
                    Coordinates::AlignCorners,
                    Coordinates::Asymmetric,
                ] {
                    let axis = |axis: usize, size: usize| ResizeAxis {
                        axis,
                        size: Dim::from(size),
                        scale: None,
                        coordinates,
                    };
                    for axes in [vec![axis(2, 6), axis(3, 12)], vec![axis(3, 8)]] {
                        c.out(
                            Op::Resize(Resize {
                                axes,
                                sampling,
                                exclude_outside: false,
                                antialias: false,
                                extrapolation: None,
                            }),
                            &[x],
                        );
                    }
                }
            }),
        );
        add(
            &format!("grid_sample_{name}"),
            Box::new(move |c| {
                for spatial in [&[4, 5][..], &[3, 4, 2][..]] {
                    let x = c.x(&[&[2, 3], spatial].concat());
                    let places = [&[2], spatial, &[spatial.len()]].concat();
                    let grid = c.x(&places);
                    for outside in [Outside::Constant(0.0), Outside::Border, Outside::Reflection] {
                        for align_corners in [false, true] {
                            c.out(
                                Op::GridSample(GridSample {
                                    sampling,
                                    outside,
                                    align_corners,
                                }),
                                &[x, grid],
                            );
                        }
                    }
                }
            }),
        );
    }
    let (sigmoid, tanh) = (CellActivation::Sigmoid, CellActivation::Tanh);
    for (name, cell, activations) in [
        ("rnn", Cell::Rnn, vec![tanh]),
        ("gru", Cell::Gru { reset_after: false }, vec![sigmoid, tanh]),
        (
            "gru_after",
            Cell::Gru { reset_after: true },
            vec![sigmoid, tanh],
        ),
        (
            "lstm",
            Cell::Lstm { coupled: false },
            vec![sigmoid, tanh, tanh],
        ),
        (
            "lstm_coupled",
            Cell::Lstm { coupled: true },
            vec![sigmoid, tanh, tanh],
        ),
    ] {
        for constant in [true, false] {
            for direction in [
                Direction::Forward,
                Direction::Reverse,
                Direction::Bidirectional,
            ] {
                let activations = activations.clone();
                add(
                    &format!("{name}_{constant}_{direction:?}"),
                    Box::new(move |c| {
                        let d = if direction == Direction::Bidirectional {
                            2
                        } else {
                            1
                        };
                        let (steps, batch, inputs, hidden) = (4, 2, 3, 5);
                        let rows = cell.gates() * hidden;
                        let x = c.x(&[steps, batch, inputs]);
                        let get = |c: &mut Case, name: &str, shape: &[usize]| {
                            if constant {
                                c.w(name, shape)
                            } else {
                                c.x(shape)
                            }
                        };
                        let w = get(c, "w", &[d, rows, inputs]);
                        let r = get(c, "r", &[d, rows, hidden]);
                        let b = get(c, "b", &[d, 2 * rows]);
                        let h = c.x(&[d, batch, hidden]);
                        let mut operands = vec![x, w, r, b, h];
                        let lstm = matches!(cell, Cell::Lstm { .. });
                        if lstm {
                            operands.push(c.x(&[d, batch, hidden]));
                        }
                        let mut op = Recurrent {
                            cell,
                            direction,
                            activations: activations.repeat(d),
                            clip: None,
                            lengths: false,
                            peepholes: false,
                        };
                        c.out(Op::Recurrent(op.clone()), &operands);
                        if !constant {
                            operands.push(c.ints(DType::I64, &[2], &[3, 4]));
                            op.lengths = true;
                            op.clip = Some(0.8);
                            if lstm {
                                operands.push(c.x(&[d, 3 * hidden]));
                                op.peepholes = true;
                            }
                            c.out(Op::Recurrent(op), &operands);
                        }
                    }),
                );
            }
        }
    }
    // More steps than are unrolled.
    for (name, cell, direction) in [
        (
            "gru",
            Cell::Gru { reset_after: true },
            Direction::Bidirectional,
        ),
        ("lstm", Cell::Lstm { coupled: true }, Direction::Reverse),
        ("rnn", Cell::Rnn, Direction::Forward),
    ] {
        add(
            &format!("{name}_long"),
            Box::new(move |c| {
                let d = if direction == Direction::Bidirectional {
                    2
                } else {
                    1
                };
                let (rows, lstm) = (cell.gates() * 3, matches!(cell, Cell::Lstm { .. }));
                let (x, w) = (c.x(&[520, 2, 2]), c.w("w", &[d, rows, 2]));
                let (r, b) = (c.w("r", &[d, rows, 3]), c.w("b", &[d, 2 * rows]));
                let mut operands = vec![x, w, r, b, c.x(&[d, 2, 3])];
                if lstm {
                    operands.push(c.x(&[d, 2, 3]));
                }
                operands.push(c.ints(DType::I64, &[2], &[517, 520]));
                if lstm {
                    operands.push(c.x(&[d, 9]));
                }
                let activations = match cell {
                    Cell::Rnn => vec![tanh],
                    Cell::Gru { .. } => vec![sigmoid, tanh],
                    Cell::Lstm { .. } => vec![sigmoid, tanh, tanh],
                };
                let op = Recurrent {
                    cell,
                    direction,
                    activations: activations.repeat(d),
                    clip: None,
                    lengths: true,
                    peepholes: lstm,
                };
                c.out(Op::Recurrent(op), &operands);
            }),
        );
    }
    for to in [DType::I8, DType::U8, DType::I16, DType::I4] {
        for constant in [true, false] {
            add(
                &format!("quantisation_{to}_{constant}"),
                Box::new(move |c| {
                    let x = c.x(&[4, 6]);
                    let get = |c: &mut Case, shape: &[usize]| {
                        if constant {
                            c.positive("scale", shape)
                        } else {
                            let x = c.x(shape);
                            let x = c.unary(UnaryKind::Abs, x);
                            let tenth = c.b.scalar("tenth", c.float, 0.1).unwrap();
                            c.binary(BinaryKind::Add, x, tenth)
                        }
                    };
                    for (granularity, shape) in [
                        (Granularity::Tensor, vec![]),
                        (Granularity::Axis(1), vec![6]),
                        (Granularity::Block, vec![2, 3]),
                    ] {
                        let scale = get(c, &shape);
                        let n: usize = shape.iter().product();
                        let zeros = (0..n).map(|i| i64::try_from(i % 3).unwrap()).collect();
                        let zero = Tensor::int(to, shape, zeros).unwrap();
                        let zero = c.b.tensor("zero", &zero).unwrap();
                        let q = c.op(
                            Op::Quantize(Quantize {
                                granularity: granularity.clone(),
                                to,
                            }),
                            &[x, scale, zero],
                        )[0];
                        let granularity = granularity.clone();
                        let back = Op::Dequantize(Dequantize {
                            granularity: granularity.clone(),
                        });
                        c.out(back.clone(), &[q, scale, zero]);
                        let values = (0..24).map(|i| i % 8).collect();
                        let stored = Tensor::int(to, vec![4, 6], values).unwrap();
                        let stored = c.b.tensor("stored", &stored).unwrap();
                        let weight = c.op(back, &[stored, scale, zero])[0];
                        let sum = c.binary(BinaryKind::Add, x, weight);
                        c.outputs(&[sum]);
                    }
                }),
            );
        }
    }
    add(
        "branch",
        Box::new(|c| {
            let x = c.x(&[2, 3]);
            let float = c.float;
            let body = |c: &mut Case, name: &str, kind: BinaryKind| {
                c.b.body(name, |b| {
                    let x = b.param(
                        &format!("{name}/x"),
                        Type::known(float, &[2, 3]),
                        Domain::Any,
                    )?;
                    let two = b.scalar(&format!("{name}/two"), float, 2.0)?;
                    let y = b.binary(&format!("{name}/y"), kind, x, two)?;
                    b.output(&format!("{name}/out"), y)?;
                    b.output(&format!("{name}/same"), x)?;
                    Ok(())
                })
                .unwrap()
            };
            let then_body = body(c, "then", BinaryKind::Add);
            let else_body = body(c, "else", BinaryKind::Mul);
            for which in [0, 1] {
                let flag = c.ints(DType::I64, &[1], &[which]);
                let flag = c.op(Op::Cast(Cast { to: DType::Bool }), &[flag])[0];
                let results = vec![Type::known(float, &[2, 3]); 2];
                let op = If {
                    then_body,
                    else_body,
                    results,
                };
                c.out(Op::If(op), &[flag, x]);
            }
        }),
    );
    // Rounds that are known; at most so many, but fewer are run; at most as many as an input says, and fewer; as many as it says.
    for (kind, most, ends) in [
        ("known", None, false),
        ("ends", None, true),
        ("computed_ends", Some(7), true),
        ("computed", Some(2), false),
    ] {
        add(
            &format!("loop_{kind}"),
            Box::new(move |c| {
                let known = most.is_none() && !ends;
                let (x, step) = (c.x(&[3]), c.x(&[3]));
                let float = c.float;
                let body =
                    c.b.body("round", |b| {
                        let i = b.param("round/i", Type::known(DType::I64, &[]), Domain::Any)?;
                        let on = b.param("round/on", Type::known(DType::Bool, &[]), Domain::Any)?;
                        let x = b.param("round/x", Type::known(float, &[3]), Domain::Any)?;
                        let step = b.param("round/step", Type::known(float, &[3]), Domain::Any)?;
                        let next = b.binary("round/next", BinaryKind::Add, x, step)?;
                        let goes_on = if !ends {
                            on
                        } else {
                            let two = b.scalar("round/two", DType::I64, 2.0)?;
                            let kind = CompareKind::Less;
                            b.push("round/less", Op::Compare(Compare { kind }), &[i, two])?
                        };
                        b.output("round/goes_on", goes_on)?;
                        b.output("round/carried", next)?;
                        b.output("round/row", next)?;
                        Ok(())
                    })
                    .unwrap();
                let most = match most {
                    None => c.list(&[5]),
                    Some(n) => c.ints(DType::I64, &[1], &[n]),
                };
                let on = Tensor::bool(vec![1], vec![true]).unwrap();
                let on = c.b.tensor("on", &on).unwrap();
                let rounds = if known {
                    Dim::from(5)
                } else {
                    c.b.run_time_size()
                };
                let op = Loop {
                    body,
                    carried: 1,
                    results: vec![
                        Type::known(float, &[3]),
                        Type::new(float, vec![rounds, Dim::from(3)]),
                    ],
                };
                c.out(Op::Loop(op), &[most, on, x, step]);
            }),
        );
    }
    all.extend(wide());
    all
}

/// More axes than Core ML has, on the way.
fn wide() -> Vec<(String, Make)> {
    let orders: [(&[usize], &[usize]); 5] = [
        (&[1, 2, 4, 2, 4, 3], &[0, 1, 3, 2, 4, 5]),
        (&[2, 3, 2, 2, 5, 1], &[0, 1, 4, 2, 5, 3]),
        (&[2, 3, 4, 3, 3, 2], &[5, 4, 3, 2, 1, 0]),
        (&[2, 3, 2, 2, 3, 2], &[3, 5, 1, 4, 0, 2]),
        (&[2, 3, 2, 1, 3, 2, 2], &[0, 5, 1, 3, 2, 6, 4]),
    ];
    let mut all: Vec<(String, Make)> = Vec::new();
    for (i, (sizes, perm)) in orders.into_iter().enumerate() {
        all.push((
            format!("wide_{i}"),
            Box::new(move |c| {
                let total: usize = sizes.iter().product();
                let x = c.x(&[total / 2, 2]);
                let shape = dims(sizes);
                let apart = c.op(Op::Reshape(Reshape { shape }), &[x])[0];
                let half = c.unary(UnaryKind::Tanh, apart);
                let perm = perm.to_vec();
                let moved = c.op(Op::Transpose(Transpose { perm }), &[half])[0];
                let flat = |shape: &[usize]| Op::Reshape(Reshape { shape: dims(shape) });
                c.out(flat(&[total / 2, 2]), &[moved]);
                let own = c.b.ty(moved).known_shape().unwrap();
                // Broadcast along every second axis, then along all but the last.
                let mut alternate = own.clone();
                alternate[1] = 1;
                alternate[2] = 1;
                let by = c.w("by", &alternate);
                let sum = c.binary(BinaryKind::Add, moved, by);
                c.out(flat(&[total]), &[sum]);
                let mean = Reduce {
                    kind: ReduceKind::Mean,
                    axes: vec![0, 3],
                    keep_dims: i % 2 == 0,
                };
                let mean = c.op(Op::Reduce(mean), &[sum])[0];
                c.out(flat(&[total / own[0] / own[3]]), &[mean]);
                let at = own.len() - 2;
                let ranges = vec![
                    SliceRange::new(1, 0usize, 1usize),
                    SliceRange::new(at, 1usize, own[at]),
                ];
                if own[at] > 1 {
                    let part = c.op(Op::Slice(Slice { ranges }), &[sum])[0];
                    let n = total / own[1] / own[at] * (own[at] - 1);
                    c.out(flat(&[n]), &[part]);
                }
                let last = own.len() - 1;
                let row = c.op(Op::Softmax(Softmax { axis: last }), &[sum])[0];
                c.out(flat(&[total]), &[row]);
                let place = Tensor::i64(vec![], vec![0]).unwrap();
                let place = c.b.tensor("place", &place).unwrap();
                let one = c.op(Op::Gather(Gather { axis: 2 }), &[row, place])[0];
                c.out(flat(&[total / own[2]]), &[one]);
            }),
        ));
    }
    all.push((
        "wide_repeats".to_owned(),
        Box::new(|c| {
            let x = c.x(&[2, 3, 4]);
            let axes = vec![1, 3, 5];
            let apart = c.op(Op::Unsqueeze(Unsqueeze { axes }), &[x])[0];
            let shape = dims(&[2, 1, 3, 2, 4, 3]);
            let wide = c.op(Op::Expand(Expand { shape }), &[apart])[0];
            let axes = vec![1];
            c.out(Op::Squeeze(Squeeze { axes }), &[wide]);
            let shape = dims(&[2, 6, 12]);
            c.out(Op::Reshape(Reshape { shape }), &[wide]);
        }),
    ));
    all
}

#[test]
fn axes_that_cannot_be_merged_are_refused_by_name() {
    let mut c = Case::new(DType::F32);
    let x = c.x(&[64]);
    let shape = dims(&[2; 6]);
    let apart = c.op(Op::Reshape(Reshape { shape }), &[x])[0];
    // One after the other is whole and repeated.
    let by = c.w("by", &[1, 2, 1, 2, 1, 2]);
    let sum =
        c.b.binary("alternating", BinaryKind::Add, apart, by)
            .unwrap();
    let shape = dims(&[64]);
    c.out(Op::Reshape(Reshape { shape }), &[sum]);
    let folder = tempfile::tempdir().unwrap();
    let module = c.b.finish().unwrap();
    let why = write(&module, &folder.path().join("m"), DeploymentTarget::IOS17).unwrap_err();
    assert_eq!(
        why,
        "write: node `alternating`: Core ML tensors have at most 5 axes, found 6"
    );
}

const TARGETS: [DeploymentTarget; 4] = [
    DeploymentTarget::IOS15,
    DeploymentTarget::MacOS13,
    DeploymentTarget::IOS17,
    DeploymentTarget::IOS18,
];

fn build(make: &Make, float: DType) -> (Module, NamedTensors) {
    let mut case = Case::new(float);
    make(&mut case);
    (case.b.finish().unwrap(), case.inputs)
}

fn write(module: &Module, path: &Path, target: DeploymentTarget) -> Result<(), String> {
    let options = WriteOptions {
        deployment_target: target,
        explicit_target: true,
        ..WriteOptions::default()
    };
    let written = coreml::write(module, path, &options);
    written.map(|_| ()).map_err(|e| format!("write: {e}"))
}

/// Writes, reads and runs; gives how the results differ.
fn difference(
    module: &Module,
    inputs: &NamedTensors,
    path: &Path,
    float: DType,
) -> Result<(), String> {
    let read = coreml::read(path).map_err(|e| format!("read: {e}"))?;
    let function = read.module.main().unwrap();
    let taken: NamedTensors = function
        .params
        .iter()
        .map(|p| {
            let value = function.value(p.value);
            let tensor = inputs[&value.name].cast(value.ty.dtype);
            let shape = value.ty.known_shape().unwrap();
            (value.name.clone(), tensor.reshaped(shape).unwrap())
        })
        .collect();
    let run = |module: &Module, inputs: &NamedTensors| {
        let interpreter = Interpreter::new(module, Mode::F32).map_err(|e| e.to_string())?;
        interpreter
            .run(inputs, None)
            .map_err(|e| format!("run: {e}"))
    };
    let (want, got) = (run(module, inputs)?, run(&read.module, &taken)?);
    // Weights and parameters of the program are halves; so are some steps that the source computes as one.
    let tolerance = if float == DType::F16 { 1e-2 } else { 1e-5 };
    for (name, want) in &want {
        let got = got.get(name).ok_or(format!("`{name}` is missing"))?;
        let scalar = want.shape().is_empty() && got.shape() == [1];
        if got.shape() != want.shape() && !scalar {
            return Err(format!(
                "`{name}` is {:?}, was {:?}",
                got.shape(),
                want.shape()
            ));
        }
        for (i, (a, b)) in got.to_f64().into_iter().zip(want.to_f64()).enumerate() {
            let same = a == b || (a - b).abs() <= tolerance * b.abs().max(1.0);
            if !same {
                return Err(format!("`{name}`: element {i} is {a} instead of {b}"));
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_written_computes_the_same_when_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let filter = std::env::var("DISTILL_COREML_FILTER").unwrap_or_default();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (name, make) in cases().iter().filter(|c| c.0.contains(&filter)) {
        for float in [DType::F32, DType::F16] {
            let (module, inputs) = build(make, float);
            for target in TARGETS {
                let at = format!("{name}-{float}-{target}");
                let path = folder.path().join(&at);
                let outcome = write(&module, &path, target)
                    .and_then(|()| difference(&module, &inputs, &path, float));
                compared += 1;
                wrong.extend(outcome.err().map(|why| format!("{at}: {why}")));
            }
        }
    }
    let report = format!("{} of {compared} differ\n{}", wrong.len(), wrong.join("\n"));
    assert!(wrong.is_empty(), "{report}");
    assert!(compared > 500 || !filter.is_empty());
}

/// A running sum that is kept from run to run.
fn stateful() -> Module {
    let mut b = Builder::new("sum");
    let ty = Type::known(DType::F16, &[2, 3]);
    let x = b.param("x", ty.clone(), Domain::Any).unwrap();
    let held = b.param("held", ty, Domain::Any).unwrap();
    let sum = b.binary("sum", BinaryKind::Add, x, held).unwrap();
    let twice = b.binary("twice", BinaryKind::Add, sum, sum).unwrap();
    b.output("y", twice).unwrap();
    b.output("held.next", sum).unwrap();
    b.state("held", held, "held.next");
    b.finish().unwrap()
}

#[test]
fn a_state_is_kept_by_programs_that_can_and_handed_on_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let module = stateful();
    let values = |k: f32| {
        let values = (0..6u8).map(|i| f32::from(i) * k).collect();
        Tensor::f32(vec![2, 3], values).unwrap().cast(DType::F16)
    };
    let inputs: NamedTensors = [("x", values(0.5)), ("held", values(2.0))]
        .map(|(n, t)| (n.to_owned(), t))
        .into();
    let interpret = |module: &Module| {
        let interpreter = Interpreter::new(module, Mode::F16).unwrap();
        interpreter.run(&inputs, None).unwrap()
    };
    let want = interpret(&module);
    for (target, states, next) in [
        (DeploymentTarget::IOS17, 0, "held_next"),
        (DeploymentTarget::IOS18, 1, "held.next"),
    ] {
        let path = folder.path().join(target.name());
        write(&module, &path, target).unwrap();
        let read = coreml::read(&path).unwrap().module;
        assert_eq!(read.main().unwrap().states.len(), states, "{target}");
        let got = interpret(&read);
        assert_eq!(got["y"], want["y"], "{target}");
        assert_eq!(got[next], want["held.next"], "{target}");
    }
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn what_is_written_loads_in_coremltools() {
    let folder = tempfile::tempdir().unwrap();
    let mut written = 0;
    for (name, make) in cases() {
        for float in [DType::F32, DType::F16] {
            let (module, _) = build(&make, float);
            for target in TARGETS {
                let file =
                    format!("{target}-{float}-{name}.mlpackage").replace([' ', ':', '{', '}'], "_");
                write(&module, &folder.path().join(file), target).unwrap();
                written += 1;
            }
        }
    }
    assert!(written > 500);
    let path = folder.path().join("state.mlpackage");
    write(&stateful(), &path, DeploymentTarget::IOS18).unwrap();
    crate::common::judge("check_mlpackage.py", &[folder.path()]);
}

/// Names of the operations that the cases have.
pub(crate) fn covered() -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    for (_, make) in cases() {
        let (module, _) = build(&make, DType::F32);
        let bodies = module.bodies.iter();
        for function in module.functions.iter().chain(bodies) {
            names.extend(function.nodes.iter().map(|n| n.op.name()));
        }
    }
    names
}
