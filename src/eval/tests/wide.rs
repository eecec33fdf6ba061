//! Operations beyond those of transformers against expectations computed by hand, by NumPy or by ONNX's reference evaluator.
// Expected values keep the digits that were printed.
#![allow(clippy::approx_constant, clippy::excessive_precision)]

use super::*;

/// An operation, its operands and all of its results.
type Case = (Op, Vec<Tensor>, Vec<Tensor>);

fn u8s(values: &[i64]) -> Tensor {
    Tensor::int(DType::U8, vec![values.len()], values.to_vec()).unwrap()
}

/// The operation on its own, its results' types inferred.
fn run_all(op: &Op, operands: &[&Tensor]) -> Result<Vec<Tensor>> {
    let types: Vec<Type> = operands
        .iter()
        .map(|t| Type::known(t.dtype(), t.shape()))
        .collect();
    let types = op.infer_all(&types.iter().collect::<Vec<_>>())?;
    let types: Vec<&Type> = types.iter().collect();
    eval_op(op, operands, &types, &Bindings::new())
}

/// Checks the cases and gives the names of their operations.
pub(super) fn check_all() -> Vec<&'static str> {
    let cases = [
        functions(),
        integers(),
        reductions(),
        windows(),
        norms(),
        images(),
        layers(),
        quantised(),
        moves(),
        computed_sizes(),
        indexed(),
    ];
    let mut names = Vec::new();
    for (op, operands, expected) in cases.into_iter().flatten() {
        let found = run_all(&op, &operands.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(found.len(), expected.len(), "{}", op.name());
        for (found, expected) in found.iter().zip(&expected) {
            check(op.name(), found, expected);
        }
        names.push(op.name());
    }
    names
}

fn functions() -> Vec<Case> {
    use UnaryKind as U;
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    let x = || f(&[5], &[-0.9, -0.25, 0.0, 0.5, 0.8]);
    let on = |kind, y: [f32; 5]| (unary(kind), vec![x()], vec![f(&[5], &y)]);
    let activation = |kind, y: [f32; 5]| {
        (
            Op::Activation(Activation { kind }),
            vec![x()],
            vec![f(&[5], &y)],
        )
    };
    let odd = || f(&[4], &[1.0, NAN, INF, -INF]);
    let classify = |kind, y: [bool; 4]| {
        (
            Op::Classify(Classify { kind }),
            vec![odd()],
            vec![b(&[4], &y)],
        )
    };
    let elu = [-1.18686066, -0.442398434, 0.0, 0.5, 0.8];
    vec![
        on(
            U::Tan,
            [-1.26015816, -0.255341921, 0.0, 0.54630249, 1.02963858],
        ),
        on(
            U::Asin,
            [-1.11976946, -0.252680255, 0.0, 0.523598776, 0.927295238],
        ),
        on(
            U::Acos,
            [2.69056579, 1.82347658, 1.57079633, 1.04719755, 0.643501089],
        ),
        on(
            U::Atan,
            [-0.732815089, -0.244978663, 0.0, 0.463647609, 0.674740949],
        ),
        on(
            U::Sinh,
            [-1.02651669, -0.252612317, 0.0, 0.521095305, 0.888105998],
        ),
        on(
            U::Cosh,
            [1.43308636, 1.0314131, 1.0, 1.12762597, 1.33743496],
        ),
        on(
            U::Asinh,
            [-0.808866918, -0.247466462, 0.0, 0.481211825, 0.732668265],
        ),
        on(
            U::Atanh,
            [-1.47221936, -0.255412812, 0.0, 0.549306144, 1.09861232],
        ),
        on(
            U::Softplus,
            [
                0.341153882,
                0.57593942,
                0.693147181,
                0.974076984,
                1.17110067,
            ],
        ),
        on(
            U::Softsign,
            [-0.473684204, -0.2, 0.0, 0.333333333, 0.444444448],
        ),
        (
            unary(U::Acosh),
            vec![f(&[3], &[1.0, 1.5, 4.0])],
            vec![f(&[3], &[0.0, 0.96242365, 2.0634371])],
        ),
        (unary(U::BitNot), vec![u8s(&[0, 5])], vec![u8s(&[255, 250])]),
        activation(
            ActivationKind::LeakyRelu { alpha: 0.1 },
            [-0.09, -0.025, 0.0, 0.5, 0.8],
        ),
        activation(ActivationKind::Elu { alpha: 2.0 }, elu),
        activation(
            ActivationKind::HardSigmoid {
                alpha: 1.0,
                beta: 0.5,
            },
            [0.0, 0.25, 0.5, 1.0, 1.0],
        ),
        classify(ClassifyKind::Nan, [false, true, false, false]),
        classify(ClassifyKind::Infinite, [false, false, true, true]),
        classify(ClassifyKind::PositiveInfinite, [false, false, true, false]),
        classify(ClassifyKind::NegativeInfinite, [false, false, false, true]),
    ]
}

fn integers() -> Vec<Case> {
    use BinaryKind as B;
    let on = |kind, x: &[i64], y: &[i64], z: &[i64]| {
        let n = x.len();
        (binary(kind), vec![i(&[n], x), i(&[n], y)], vec![i(&[n], z)])
    };
    let bytes =
        |kind, x: &[i64], y: &[i64], z: &[i64]| (binary(kind), vec![u8s(x), u8s(y)], vec![u8s(z)]);
    let (x, y) = ([7, -7, 7, -7], [3, 3, -3, -3]);
    vec![
        on(B::FloorDiv, &x, &y, &[2, -3, -3, 2]),
        on(B::TruncDiv, &x, &y, &[2, -2, -2, 2]),
        on(B::Mod, &x, &y, &[1, 2, -2, -1]),
        on(B::Rem, &x, &y, &[1, -1, 1, -1]),
        (
            binary(B::Mod),
            vec![f(&[2], &[-7.5, 7.5]), f(&[1], &[2.0])],
            vec![f(&[2], &[0.5, 1.5])],
        ),
        (
            binary(B::Rem),
            vec![f(&[2], &[-7.5, 7.5]), f(&[1], &[2.0])],
            vec![f(&[2], &[-1.5, 1.5])],
        ),
        (
            binary(B::FloorDiv),
            vec![f(&[2], &[-7.5, 7.5]), f(&[1], &[2.0])],
            vec![f(&[2], &[-4.0, 3.0])],
        ),
        on(
            B::Pow,
            &[2, -3, 2, -1],
            &[10, 3, -1, -3],
            &[1024, -27, 0, -1],
        ),
        bytes(B::BitAnd, &[12, 255], &[10, 15], &[8, 15]),
        bytes(B::BitOr, &[12, 240], &[10, 15], &[14, 255]),
        bytes(B::BitXor, &[12, 255], &[10, 15], &[6, 240]),
        bytes(B::ShiftLeft, &[3, 200], &[2, 1], &[12, 144]),
        bytes(B::ShiftRight, &[12, 200], &[2, 3], &[3, 25]),
    ]
}

fn reductions() -> Vec<Case> {
    let x = || f(&[2, 3], &[1.0, 2.0, 3.0, -1.0, 0.5, 2.0]);
    let arg = |largest, last, x: Tensor, y: &[i64]| {
        let op = ArgReduce {
            axis: 1,
            largest,
            last,
            dtype: DType::I64,
        };
        (Op::ArgReduce(op), vec![x], vec![i(&[1], y)])
    };
    let tie = || f(&[1, 4], &[2.0, 5.0, 5.0, 2.0]);
    let top = |largest, values: &[f32], places: &[i64]| {
        let op = TopK {
            axis: 1,
            k: Dim::from(2),
            largest,
            dtype: DType::I64,
        };
        (
            Op::TopK(op),
            vec![tie()],
            vec![f(&[1, 2], values), i(&[1, 2], places)],
        )
    };
    vec![
        (
            reduce(ReduceKind::Prod, &[1], false),
            vec![x()],
            vec![f(&[2], &[6.0, -1.0])],
        ),
        (
            reduce(ReduceKind::LogSumExp, &[1], true),
            vec![x()],
            vec![f(&[2, 1], &[3.40760596, 2.24131130])],
        ),
        arg(true, false, tie(), &[1]),
        arg(true, true, tie(), &[2]),
        arg(false, false, tie(), &[0]),
        arg(false, true, tie(), &[3]),
        top(true, &[5.0, 5.0], &[1, 2]),
        top(false, &[2.0, 2.0], &[0, 3]),
        (
            Op::Inverse(Inverse),
            vec![f(&[2, 2], &[0.0, 2.0, 4.0, 1.0])],
            vec![f(&[2, 2], &[-0.125, 0.25, 0.5, 0.0])],
        ),
        (
            Op::MatMul(MatMul::default()),
            vec![i(&[1, 2], &[2, -3]), i(&[2, 1], &[5, 7])],
            vec![i(&[1, 1], &[-11])],
        ),
    ]
}

fn window(strides: &[usize], pads: &[(usize, usize)]) -> Window {
    Window {
        strides: strides.to_vec(),
        dilations: vec![1; strides.len()],
        pads: pads.to_vec(),
    }
}

fn windows() -> Vec<Case> {
    let image = || {
        f(
            &[1, 1, 3, 3],
            &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        )
    };
    let line = || f(&[1, 1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let conv = |window, groups| Op::Conv(Conv { window, groups });
    let pool = |kind, window, ceil| {
        Op::Pool(Pool {
            kind,
            kernel: vec![2],
            window,
            ceil,
        })
    };
    let mut dilated = Window::unit(1);
    dilated.dilations = vec![2];
    vec![
        (
            conv(Window::unit(2), 1),
            vec![
                image(),
                f(&[1, 1, 2, 2], &[1.0, 0.0, 0.0, -1.0]),
                f(&[1], &[0.5]),
            ],
            vec![f(&[1, 1, 2, 2], &[-3.5, -3.5, -3.5, -3.5])],
        ),
        (
            conv(window(&[2, 2], &[(1, 1), (1, 1)]), 1),
            vec![image(), f(&[1, 1, 3, 3], &[1.0; 9])],
            vec![f(&[1, 1, 2, 2], &[12.0, 16.0, 24.0, 28.0])],
        ),
        (
            conv(dilated, 1),
            vec![line(), f(&[1, 1, 2], &[1.0, 10.0])],
            vec![f(&[1, 1, 2], &[31.0, 42.0])],
        ),
        // Two groups of two channels each, one output channel per group.
        (
            conv(Window::unit(1), 2),
            vec![
                f(&[1, 4, 1], &[1.0, 2.0, 3.0, 4.0]),
                f(&[2, 2, 1], &[1.0, 10.0, 1.0, 10.0]),
            ],
            vec![f(&[1, 2, 1], &[21.0, 43.0])],
        ),
        (
            Op::ConvTranspose(ConvTranspose {
                window: window(&[2], &[(0, 0)]),
                groups: 1,
                output_pads: vec![1],
            }),
            vec![
                f(&[1, 1, 2], &[1.0, 2.0]),
                f(&[1, 1, 3], &[1.0, 10.0, 100.0]),
                f(&[1], &[0.5]),
            ],
            vec![f(&[1, 1, 6], &[1.5, 10.5, 102.5, 20.5, 200.5, 0.5])],
        ),
        (
            pool(PoolKind::Max, window(&[2], &[(1, 0)]), true),
            vec![line()],
            vec![f(&[1, 1, 3], &[1.0, 3.0, 4.0])],
        ),
        (
            pool(PoolKind::Max, window(&[2], &[(0, 0)]), false),
            vec![i(&[1, 1, 4], &[-5, -9, 3, 2])],
            vec![i(&[1, 1, 2], &[-5, 3])],
        ),
        (
            pool(
                PoolKind::Average {
                    count_padding: true,
                },
                window(&[2], &[(1, 1)]),
                false,
            ),
            vec![line()],
            vec![f(&[1, 1, 3], &[0.5, 2.5, 2.0])],
        ),
        (
            pool(
                PoolKind::Average {
                    count_padding: false,
                },
                window(&[2], &[(1, 1)]),
                false,
            ),
            vec![line()],
            vec![f(&[1, 1, 3], &[1.0, 2.5, 4.0])],
        ),
    ]
}

fn norms() -> Vec<Case> {
    let x = || f(&[1, 2, 2], &[1.0, 3.0, 2.0, 6.0]);
    vec![
        (
            Op::BatchNorm(BatchNorm { epsilon: 0.0 }),
            vec![
                x(),
                f(&[2], &[1.0, 2.0]),
                f(&[2], &[4.0, 0.25]),
                f(&[2], &[2.0, 1.0]),
                f(&[2], &[0.5, -1.0]),
            ],
            vec![f(&[1, 2, 2], &[0.5, 2.5, -1.0, 7.0])],
        ),
        (
            Op::InstanceNorm(InstanceNorm { epsilon: 0.0 }),
            vec![x(), f(&[2], &[2.0, 1.0]), f(&[2], &[0.5, -1.0])],
            vec![f(&[1, 2, 2], &[-1.5, 2.5, -2.0, 0.0])],
        ),
        (
            Op::Lrn(Lrn {
                size: 3,
                alpha: 0.3,
                beta: 0.5,
                k: 2.0,
            }),
            vec![f(&[1, 4, 1], &[1.0, 2.0, 3.0, 4.0])],
            vec![f(
                &[1, 4, 1],
                &[0.632455532, 1.08465229, 1.35526185, 1.88561808],
            )],
        ),
    ]
}

fn images() -> Vec<Case> {
    let line = || f(&[1, 1, 1, 4], &[1.0, 2.0, 4.0, 8.0]);
    let resize = |size: usize, coordinates, sampling| {
        Op::Resize(Resize {
            axes: vec![ResizeAxis {
                axis: 3,
                size: Dim::from(size),
                scale: None,
                coordinates,
            }],
            sampling,
            exclude_outside: false,
            antialias: false,
            extrapolation: None,
        })
    };
    let image = || {
        f(
            &[1, 1, 3, 3],
            &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        )
    };
    let sample = GridSample {
        sampling: Sampling::Linear,
        outside: Outside::Constant(0.0),
        align_corners: false,
    };
    vec![
        (
            resize(
                8,
                Coordinates::HalfPixel,
                Sampling::Cubic { coefficient: -0.75 },
            ),
            vec![line()],
            vec![f(
                &[1, 1, 1, 8],
                &[
                    0.89453125, 1.15625, 1.5625, 2.41796875, 3.16015625, 5.1171875, 7.1640625,
                    8.421875,
                ],
            )],
        ),
        (
            resize(7, Coordinates::AlignCorners, Sampling::Linear),
            vec![line()],
            vec![f(&[1, 1, 1, 7], &[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0])],
        ),
        (
            resize(
                2,
                Coordinates::Asymmetric,
                Sampling::Nearest(Rounding::Floor),
            ),
            vec![line()],
            vec![f(&[1, 1, 1, 2], &[1.0, 4.0])],
        ),
        (
            Op::GridSample(sample),
            vec![
                image(),
                f(&[1, 1, 3, 2], &[0.0, 0.0, -0.5, 0.25, 1.2, -1.0]),
            ],
            vec![f(&[1, 1, 1, 3], &[5.0, 5.375, 0.3])],
        ),
    ]
}

fn layers() -> Vec<Case> {
    let ramp = |shape: &[usize], step: f32, from: f32| {
        let n: usize = shape.iter().product();
        f(
            shape,
            &(0..n)
                .map(|k| num::f32_of(k) * step + from)
                .collect::<Vec<_>>(),
        )
    };
    let layer = |cell: Cell, functions: &[CellActivation], y: [f32; 2], c: Option<f32>| {
        let g = cell.gates();
        let op = Op::Recurrent(Recurrent {
            cell,
            direction: Direction::Forward,
            activations: functions.to_vec(),
            clip: None,
            lengths: false,
            peepholes: false,
        });
        let mut operands = vec![
            f(&[2, 1, 2], &[0.5, -1.0, 1.0, 0.25]),
            ramp(&[1, g, 2], 0.1, -0.3),
            ramp(&[1, g, 1], 0.2, -0.4),
            ramp(&[1, 2 * g], 0.05, -0.1),
            f(&[1, 1, 1], &[0.3]),
        ];
        let mut results = vec![f(&[2, 1, 1, 1], &y), f(&[1, 1, 1], &[y[1]])];
        if let Some(c) = c {
            operands.push(f(&[1, 1, 1], &[-0.2]));
            results.push(f(&[1, 1, 1], &[c]));
        }
        (op, operands, results)
    };
    use CellActivation::{Sigmoid, Tanh};
    vec![
        layer(Cell::Rnn, &[Tanh], [-0.21651807, -0.39134967], None),
        layer(
            Cell::Gru { reset_after: false },
            &[Sigmoid, Tanh],
            [0.14101079, 0.23301969],
            None,
        ),
        layer(
            Cell::Gru { reset_after: true },
            &[Sigmoid, Tanh],
            [0.10015266, 0.17231084],
            None,
        ),
        layer(
            Cell::Lstm { coupled: false },
            &[Sigmoid, Tanh, Tanh],
            [-0.02467401, 0.10893630],
            Some(LSTM_CELL),
        ),
    ]
}

/// The cell state after the second step of the LSTM above.
const LSTM_CELL: f32 = 0.220858693;

fn quantised() -> Vec<Case> {
    let q = |granularity| Op::Dequantize(Dequantize { granularity });
    vec![
        (
            Op::Quantize(Quantize {
                granularity: Granularity::Tensor,
                to: DType::U8,
            }),
            vec![
                f(&[4], &[-1.0, 0.25, 0.75, 1000.0]),
                f(&[], &[0.5]),
                Tensor::int(DType::U8, vec![], vec![1]).unwrap(),
            ],
            vec![u8s(&[0, 1, 3, 255])],
        ),
        (
            q(Granularity::Axis(0)),
            vec![
                i(&[2, 2], &[1, 2, 3, 4]),
                f(&[2], &[0.5, 2.0]),
                i(&[2], &[0, 3]),
            ],
            vec![f(&[2, 2], &[0.5, 1.0, 0.0, 2.0])],
        ),
        (
            q(Granularity::Block),
            vec![i(&[1, 4], &[1, 2, 3, 4]), f(&[1, 2], &[1.0, 10.0])],
            vec![f(&[1, 4], &[1.0, 2.0, 30.0, 40.0])],
        ),
    ]
}

fn moves() -> Vec<Case> {
    let line = || i(&[3], &[1, 2, 3]);
    let pad = |mode, extra: Option<Tensor>, y: &[i64]| {
        let op = Op::Pad(Pad {
            mode,
            begin: vec![Dim::from(2)],
            end: vec![Dim::from(1)],
        });
        (
            op,
            std::iter::once(line()).chain(extra).collect(),
            vec![i(&[6], y)],
        )
    };
    let depth = || i(&[1, 4, 1, 2], &[0, 1, 2, 3, 4, 5, 6, 7]);
    let (first, last) = (BlockOrder::BlockFirst, BlockOrder::BlockLast);
    let turn = |op: Op, x: Tensor, y: Tensor| (op, vec![x], vec![y]);
    let space = || i(&[1, 1, 2, 4], &[0, 2, 1, 3, 4, 6, 5, 7]);
    vec![
        pad(PadMode::Constant, Some(i(&[], &[9])), &[9, 9, 1, 2, 3, 9]),
        pad(PadMode::Reflect, None, &[3, 2, 1, 2, 3, 2]),
        pad(PadMode::Edge, None, &[1, 1, 1, 2, 3, 3]),
        pad(PadMode::Wrap, None, &[2, 3, 1, 2, 3, 1]),
        (
            Op::Tile(Tile {
                repeats: vec![Dim::from(2), Dim::from(1)],
            }),
            vec![i(&[1, 2], &[1, 2])],
            vec![i(&[2, 2], &[1, 2, 1, 2])],
        ),
        turn(
            Op::Reverse(Reverse { axes: vec![0] }),
            line(),
            i(&[3], &[3, 2, 1]),
        ),
        turn(
            Op::DepthToSpace(DepthToSpace {
                block: 2,
                order: first,
            }),
            depth(),
            space(),
        ),
        turn(
            Op::DepthToSpace(DepthToSpace {
                block: 2,
                order: last,
            }),
            depth(),
            space(),
        ),
        turn(
            Op::SpaceToDepth(SpaceToDepth {
                block: 2,
                order: first,
            }),
            space(),
            depth(),
        ),
        turn(
            Op::SpaceToDepth(SpaceToDepth {
                block: 2,
                order: last,
            }),
            space(),
            depth(),
        ),
    ]
}

fn computed_sizes() -> Vec<Case> {
    let open = |name: &str| Dim::symbol(name);
    let x = || i(&[2, 3], &[0, 1, 2, 3, 0, 5]);
    vec![
        (
            Op::Size(Size {
                dtype: DType::I64,
                dim: Dim::from(7),
            }),
            vec![],
            vec![i(&[], &[7])],
        ),
        (
            Op::ReshapeTo(ReshapeTo {
                shape: vec![open("?a"), open("?b")],
                zero_copies: true,
            }),
            vec![x(), i(&[2], &[-1, 2])],
            vec![i(&[3, 2], &[0, 1, 2, 3, 0, 5])],
        ),
        (
            Op::ExpandTo(ExpandTo {
                shape: vec![open("?a"), Dim::from(2)],
            }),
            vec![i(&[2], &[1, 2]), i(&[2], &[2, 1])],
            vec![i(&[2, 2], &[1, 2, 1, 2])],
        ),
        (
            Op::TileBy(TileBy {
                shape: vec![open("?a")],
            }),
            vec![i(&[2], &[1, 2]), i(&[1], &[2])],
            vec![i(&[4], &[1, 2, 1, 2])],
        ),
        (
            Op::SliceBy(SliceBy {
                axes: vec![1],
                steps: vec![-2],
                shape: vec![Dim::from(2), open("?a")],
            }),
            vec![x(), i(&[1], &[-1]), i(&[1], &[i64::MIN])],
            vec![i(&[2, 2], &[2, 0, 5, 3])],
        ),
        (
            Op::PadBy(PadBy {
                mode: PadMode::Constant,
                shape: vec![open("?a")],
            }),
            vec![i(&[3], &[1, 2, 3]), i(&[2], &[1, -1]), i(&[], &[9])],
            vec![i(&[3], &[9, 1, 2])],
        ),
        (
            Op::RangeBy(RangeBy { len: open("?a") }),
            vec![i(&[], &[5]), i(&[], &[-2]), i(&[], &[-3])],
            vec![i(&[3], &[5, 2, -1])],
        ),
        (
            Op::NonZero(NonZero {
                dtype: DType::I64,
                count: open("?a"),
            }),
            vec![x()],
            vec![i(&[2, 4], &[0, 0, 1, 1, 1, 2, 0, 2])],
        ),
        (
            Op::TopK(TopK {
                axis: 0,
                k: open("?a"),
                largest: true,
                dtype: DType::I64,
            }),
            vec![i(&[3], &[4, 9, 6]), i(&[1], &[2])],
            vec![i(&[2], &[9, 6]), i(&[2], &[1, 2])],
        ),
    ]
}

fn indexed() -> Vec<Case> {
    let x = || f(&[2, 2], &[0.0, 1.0, 2.0, 3.0]);
    let elements = |mode, y: &[f32]| {
        let op = Op::ScatterElements(ScatterElements { axis: 1, mode });
        (
            op,
            vec![x(), i(&[2, 1], &[1, 0]), f(&[2, 1], &[4.0, 5.0])],
            vec![f(&[2, 2], y)],
        )
    };
    vec![
        (
            Op::GatherNd(GatherNd { batch_dims: 0 }),
            vec![x(), i(&[2, 2], &[1, 0, 0, 1])],
            vec![f(&[2], &[2.0, 1.0])],
        ),
        (
            Op::GatherNd(GatherNd { batch_dims: 1 }),
            vec![x(), i(&[2, 1], &[1, 0])],
            vec![f(&[2], &[1.0, 2.0])],
        ),
        elements(ScatterMode::Update, &[0.0, 4.0, 5.0, 3.0]),
        elements(ScatterMode::Add, &[0.0, 5.0, 7.0, 3.0]),
        elements(ScatterMode::Sub, &[0.0, -3.0, -3.0, 3.0]),
        elements(ScatterMode::Mul, &[0.0, 4.0, 10.0, 3.0]),
        elements(ScatterMode::Div, &[0.0, 0.25, 0.4, 3.0]),
        elements(ScatterMode::Min, &[0.0, 1.0, 2.0, 3.0]),
        elements(ScatterMode::Max, &[0.0, 4.0, 5.0, 3.0]),
        (
            Op::ScatterNd(ScatterNd {
                mode: ScatterMode::Add,
            }),
            vec![
                x(),
                i(&[2, 1], &[1, 1]),
                f(&[2, 2], &[1.0, 2.0, 10.0, 20.0]),
            ],
            vec![f(&[2, 2], &[0.0, 1.0, 13.0, 25.0])],
        ),
        (
            Op::NonMaxSuppression(NonMaxSuppression {
                dtype: DType::I64,
                center: false,
                count: Dim::symbol("?n"),
            }),
            // The second box covers 0.81 of the first; the third lies elsewhere.
            vec![
                f(
                    &[1, 3, 4],
                    &[0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.9, 0.9, 2.0, 2.0, 3.0, 3.0],
                ),
                f(&[1, 1, 3], &[0.6, 0.9, 0.8]),
                i(&[1], &[5]),
                f(&[1], &[0.5]),
                f(&[1], &[0.1]),
            ],
            vec![i(&[2, 3], &[0, 0, 1, 0, 0, 2])],
        ),
    ]
}
