//! Every operation against expectations computed by hand or by NumPy, and against naive loops on random shapes.
// Expected values keep the digits that NumPy printed.
#![allow(clippy::approx_constant, clippy::excessive_precision)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::ir::Dim;
use crate::ir::ops::*;

fn f(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::f32(shape.to_vec(), values.to_vec()).unwrap()
}

fn i(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::i64(shape.to_vec(), values.to_vec()).unwrap()
}

fn b(shape: &[usize], values: &[bool]) -> Tensor {
    Tensor::bool(shape.to_vec(), values.to_vec()).unwrap()
}

/// The operation on its own, its result's type inferred.
fn run(op: &Op, operands: &[&Tensor]) -> Result<Tensor> {
    let types: Vec<Type> = operands
        .iter()
        .map(|t| Type::known(t.dtype(), t.shape()))
        .collect();
    let ty = op.infer(&types.iter().collect::<Vec<_>>())?;
    eval_op(op, operands, &ty, &Bindings::new())
}

/// `found` equals `expected`: integers and truth values exactly, floats within 3e-6 of the expected magnitude, or 6e-8.
fn check(name: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dtype(), expected.dtype(), "{name}");
    assert_eq!(found.shape(), expected.shape(), "{name}");
    let (found, expected) = (found.to_f64(), expected.to_f64());
    for (k, (x, y)) in found.iter().zip(&expected).enumerate() {
        let equal = x == y || (x.is_nan() && y.is_nan());
        let close = (x - y).abs() <= 3e-6 * y.abs().max(0.02);
        assert!(
            equal || close,
            "{name}: element {k}: expected {y}, found {x}"
        );
    }
}

fn unary(kind: UnaryKind) -> Op {
    Op::Unary(Unary { kind })
}

fn binary(kind: BinaryKind) -> Op {
    Op::Binary(Binary { kind })
}

fn compare(kind: CompareKind) -> Op {
    Op::Compare(Compare { kind })
}

fn reduce(kind: ReduceKind, axes: &[usize], keep_dims: bool) -> Op {
    Op::Reduce(Reduce {
        kind,
        axes: axes.to_vec(),
        keep_dims,
    })
}

type Case = (Op, Vec<Tensor>, Tensor);

fn unary_cases() -> Vec<Case> {
    use UnaryKind as U;
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    let x = f(&[8], &[-3.0, -1.25, -0.5, 0.0, 0.3, 1.0, 2.5, 7.0]);
    let on_x = |kind, y: [f32; 8]| (unary(kind), vec![x.clone()], f(&[8], &y));
    let on = |kind, x: &[f32], y: &[f32]| (unary(kind), vec![f(&[x.len()], x)], f(&[y.len()], y));
    vec![
        on(U::Abs, &[-2.5, 0.0, NAN], &[2.5, 0.0, NAN]),
        (unary(U::Abs), vec![i(&[2], &[-7, 7])], i(&[2], &[7, 7])),
        on(U::Neg, &[-2.5, INF], &[2.5, -INF]),
        (
            unary(U::Neg),
            vec![Tensor::int(DType::I8, vec![2], vec![-128, 5]).unwrap()],
            Tensor::int(DType::I8, vec![2], vec![-128, -5]).unwrap(),
        ),
        on(U::Sign, &[-2.5, 0.0, 9.0, NAN], &[-1.0, 0.0, 1.0, NAN]),
        (
            unary(U::Sign),
            vec![i(&[3], &[-7, 0, 7])],
            i(&[3], &[-1, 0, 1]),
        ),
        on(U::Floor, &[-0.5, 1.9, -2.0], &[-1.0, 1.0, -2.0]),
        on(U::Ceil, &[-0.5, 1.1, -2.0], &[0.0, 2.0, -2.0]),
        on(
            U::Round,
            &[0.5, 1.5, 2.5, -0.5, -1.5, 2.6],
            &[0.0, 2.0, 2.0, 0.0, -2.0, 3.0],
        ),
        (
            unary(U::Not),
            vec![b(&[2], &[true, false])],
            b(&[2], &[false, true]),
        ),
        on(U::Relu, &[-1.0, 2.0, NAN, -INF], &[0.0, 2.0, NAN, 0.0]),
        on(U::Sqrt, &[4.0, 0.25, -1.0], &[2.0, 0.5, NAN]),
        on(
            U::Rsqrt,
            &[0.25, 2.0, 9.0, 0.0],
            &[2.0, 0.707_106_77, 0.333_333_34, INF],
        ),
        on(U::Reciprocal, &[4.0, -0.5, 0.0], &[0.25, -2.0, INF]),
        on_x(
            U::Exp,
            [
                0.049_787_07,
                0.286_504_8,
                0.606_530_66,
                1.0,
                1.349_858_8,
                2.718_281_8,
                12.182_494,
                1_096.633_2,
            ],
        ),
        on(
            U::Log,
            &[0.1, 1.0, 2.5, 1000.0, 0.0],
            &[-2.302_585, 0.0, 0.916_290_73, 6.907_755_4, -INF],
        ),
        on_x(
            U::Sin,
            [
                -0.141_120_01,
                -0.948_984_6,
                -0.479_425_54,
                0.0,
                0.295_520_2,
                0.841_471,
                0.598_472_14,
                0.656_986_6,
            ],
        ),
        on_x(
            U::Cos,
            [
                -0.989_992_5,
                0.315_322_37,
                0.877_582_56,
                1.0,
                0.955_336_5,
                0.540_302_3,
                -0.801_143_6,
                0.753_902_25,
            ],
        ),
        on_x(
            U::Tanh,
            [
                -0.995_054_75,
                -0.848_283_6,
                -0.462_117_16,
                0.0,
                0.291_312_6,
                0.761_594_2,
                0.986_614_3,
                0.999_998_3,
            ],
        ),
        on_x(
            U::Sigmoid,
            [
                0.047_425_874,
                0.222_700_14,
                0.377_540_67,
                0.5,
                0.574_442_5,
                0.731_058_6,
                0.924_141_8,
                0.999_088_95,
            ],
        ),
        on_x(
            U::Erf,
            [
                -0.999_977_9,
                -0.922_900_14,
                -0.520_499_9,
                0.0,
                0.328_626_75,
                0.842_700_8,
                0.999_593_05,
                1.0,
            ],
        ),
        on_x(
            U::Silu,
            [
                -0.142_277_62,
                -0.278_375_18,
                -0.188_770_33,
                0.0,
                0.172_332_76,
                0.731_058_6,
                2.310_354_5,
                6.993_622_6,
            ],
        ),
        on_x(
            U::GeluErf,
            [
                -0.004_049_694,
                -0.132_062_22,
                -0.154_268_77,
                0.0,
                0.185_373_43,
                0.841_344_75,
                2.484_475_9,
                7.0,
            ],
        ),
        on_x(
            U::GeluTanh,
            [
                -0.003_637_392,
                -0.132_285_8,
                -0.154_285_99,
                0.0,
                0.185_370_92,
                0.841_192,
                2.484_915_7,
                7.0,
            ],
        ),
    ]
}

fn binary_cases() -> Vec<Case> {
    use BinaryKind as B;
    const NAN: f32 = f32::NAN;
    let (row, column) = (f(&[3], &[1.0, 2.0, 4.0]), f(&[2, 1], &[10.0, -2.0]));
    let grid = |kind, y: [f32; 6]| {
        (
            binary(kind),
            vec![row.clone(), column.clone()],
            f(&[2, 3], &y),
        )
    };
    let i8s = |v: &[i64]| Tensor::int(DType::I8, vec![v.len()], v.to_vec()).unwrap();
    let ints = |kind, x: &[i64], y: &[i64], z: &[i64]| (binary(kind), vec![i8s(x), i8s(y)], i8s(z));
    let u64s = |v: &[i64]| Tensor::int(DType::U64, vec![v.len()], v.to_vec()).unwrap();
    let (p, q) = (b(&[2, 1], &[true, false]), b(&[2], &[true, false]));
    let logic = |kind, y: [bool; 4]| (binary(kind), vec![p.clone(), q.clone()], b(&[2, 2], &y));
    vec![
        grid(B::Add, [11.0, 12.0, 14.0, -1.0, 0.0, 2.0]),
        grid(B::Sub, [-9.0, -8.0, -6.0, 3.0, 4.0, 6.0]),
        grid(B::Mul, [10.0, 20.0, 40.0, -2.0, -4.0, -8.0]),
        grid(B::Div, [0.1, 0.2, 0.4, -0.5, -1.0, -2.0]),
        grid(B::Min, [1.0, 2.0, 4.0, -2.0, -2.0, -2.0]),
        grid(B::Max, [10.0, 10.0, 10.0, 1.0, 2.0, 4.0]),
        (
            binary(B::Pow),
            vec![
                f(&[4], &[2.0, 0.5, 10.0, -2.0]),
                f(&[4], &[0.5, 3.0, -2.0, 3.0]),
            ],
            f(&[4], &[1.414_213_5, 0.125, 0.01, -8.0]),
        ),
        (
            binary(B::Min),
            vec![f(&[2], &[NAN, 1.0]), f(&[2], &[1.0, NAN])],
            f(&[2], &[NAN, NAN]),
        ),
        (
            binary(B::Max),
            vec![f(&[2], &[NAN, 1.0]), f(&[2], &[1.0, NAN])],
            f(&[2], &[NAN, NAN]),
        ),
        ints(B::Add, &[127, 1], &[1, 1], &[-128, 2]),
        ints(B::Sub, &[-128, 1], &[1, 1], &[127, 0]),
        ints(B::Mul, &[64, 3], &[4, -3], &[0, -9]),
        ints(B::Min, &[-5, 3], &[4, 2], &[-5, 2]),
        ints(B::Max, &[-5, 3], &[4, 2], &[4, 3]),
        // -1 is the largest u64.
        (binary(B::Max), vec![u64s(&[-1]), u64s(&[1])], u64s(&[-1])),
        (binary(B::Min), vec![u64s(&[-1]), u64s(&[1])], u64s(&[1])),
        logic(B::And, [true, false, false, false]),
        logic(B::Or, [true, true, true, false]),
        logic(B::Xor, [false, true, true, false]),
    ]
}

fn compare_cases() -> Vec<Case> {
    use CompareKind as C;
    let x = f(&[4], &[1.0, 2.0, 3.0, f32::NAN]);
    let y = f(&[], &[2.0]);
    let on = |kind, z: [bool; 4]| (compare(kind), vec![x.clone(), y.clone()], b(&[4], &z));
    let u64s = |x: i64| Tensor::int(DType::U64, vec![1], vec![x]).unwrap();
    vec![
        on(C::Equal, [false, true, false, false]),
        on(C::NotEqual, [true, false, true, true]),
        on(C::Less, [true, false, false, false]),
        on(C::LessEqual, [true, true, false, false]),
        on(C::Greater, [false, false, true, false]),
        on(C::GreaterEqual, [false, true, true, false]),
        (
            compare(C::Less),
            vec![i(&[2], &[-1, 3]), i(&[2], &[0, 3])],
            b(&[2], &[true, false]),
        ),
        (compare(C::Less), vec![u64s(-1), u64s(0)], b(&[1], &[false])),
        (
            compare(C::Equal),
            vec![b(&[2], &[true, false]), b(&[1], &[false])],
            b(&[2], &[false, true]),
        ),
    ]
}

fn other_elementwise_cases() -> Vec<Case> {
    const NAN: f32 = f32::NAN;
    let cast = |to| Op::Cast(Cast { to });
    vec![
        (
            Op::Select(Select),
            vec![
                b(&[2, 1], &[true, false]),
                f(&[3], &[1.0, 2.0, 3.0]),
                f(&[], &[-1.0]),
            ],
            f(&[2, 3], &[1.0, 2.0, 3.0, -1.0, -1.0, -1.0]),
        ),
        (
            Op::Select(Select),
            vec![b(&[2], &[true, false]), i(&[2], &[1, 2]), i(&[2], &[3, 4])],
            i(&[2], &[1, 4]),
        ),
        // 2049 lies between two halves: ties go to even.
        (
            cast(DType::F16),
            vec![f(&[3], &[2049.0, 70_000.0, 0.1])],
            Tensor::float(
                DType::F16,
                vec![3],
                vec![2048.0, f32::INFINITY, 0.099_975_586],
            )
            .unwrap(),
        ),
        (
            cast(DType::I64),
            vec![f(&[3], &[1.9, -1.9, NAN])],
            i(&[3], &[1, -1, 0]),
        ),
        (
            cast(DType::F32),
            vec![b(&[2], &[true, false])],
            f(&[2], &[1.0, 0.0]),
        ),
        (
            cast(DType::F32),
            vec![Tensor::int(DType::U64, vec![1], vec![-1]).unwrap()],
            f(&[1], &[18_446_744_073_709_551_615.0]),
        ),
        (
            cast(DType::Bool),
            vec![i(&[2], &[0, -3])],
            b(&[2], &[false, true]),
        ),
        (
            Op::Clip(Clip {
                min: -1.0,
                max: 2.0,
            }),
            vec![f(&[4], &[-5.0, 0.5, 9.0, NAN])],
            f(&[4], &[-1.0, 0.5, 2.0, NAN]),
        ),
    ]
}

fn reduce_cases() -> Vec<Case> {
    use ReduceKind as R;
    const NAN: f32 = f32::NAN;
    let x = f(&[2, 4], &[1.0, 2.0, 3.0, 4.0, -1.0, 0.5, 7.0, -100.0]);
    // 0..24, so that every sum is easy to follow.
    let counting: Vec<f32> = (0u8..24).map(f32::from).collect();
    let cube = f(&[2, 3, 4], &counting);
    vec![
        (
            reduce(R::Sum, &[1], false),
            vec![x.clone()],
            f(&[2], &[10.0, -93.5]),
        ),
        (
            reduce(R::Sum, &[0], true),
            vec![x.clone()],
            f(&[1, 4], &[0.0, 2.5, 10.0, -96.0]),
        ),
        (
            reduce(R::Sum, &[0, 2], false),
            vec![cube.clone()],
            f(&[3], &[60.0, 92.0, 124.0]),
        ),
        (
            reduce(R::Mean, &[0, 1, 2], false),
            vec![cube.clone()],
            f(&[], &[11.5]),
        ),
        (
            reduce(R::Mean, &[1], true),
            vec![cube.clone()],
            f(&[2, 1, 4], &[4.0, 5.0, 6.0, 7.0, 16.0, 17.0, 18.0, 19.0]),
        ),
        (
            reduce(R::Max, &[1], false),
            vec![x.clone()],
            f(&[2], &[4.0, 7.0]),
        ),
        (
            reduce(R::Max, &[0], false),
            vec![f(&[2, 2], &[1.0, NAN, 2.0, 3.0])],
            f(&[2], &[2.0, NAN]),
        ),
        (
            reduce(R::Min, &[1], false),
            vec![x.clone()],
            f(&[2], &[1.0, -100.0]),
        ),
        (
            reduce(R::L2, &[1], false),
            vec![x.clone()],
            f(&[2], &[5.477_225_8, 100.250_935]),
        ),
        (
            reduce(R::L2, &[0], false),
            vec![f(&[2, 2], &[3.0, 1.0, 4.0, 1.0])],
            f(&[2], &[5.0, 1.414_213_5]),
        ),
        (
            reduce(R::Sum, &[0], false),
            vec![f(&[0, 2], &[])],
            f(&[2], &[0.0, 0.0]),
        ),
        (
            reduce(R::Sum, &[0], false),
            vec![i(&[2, 2], &[1, 2, 3, 4])],
            i(&[2], &[4, 6]),
        ),
        (
            reduce(R::Max, &[1], false),
            vec![i(&[2, 2], &[1, 2, 4, 3])],
            i(&[2], &[2, 4]),
        ),
        (
            reduce(R::Min, &[0, 1], false),
            vec![i(&[2, 2], &[5, 2, 4, 3])],
            i(&[], &[2]),
        ),
        (
            Op::Softmax(Softmax { axis: 1 }),
            vec![x.clone()],
            f(
                &[2, 4],
                &[
                    0.032_058_604,
                    0.087_144_32,
                    0.236_882_82,
                    0.643_914_26,
                    0.000_334_846_88,
                    0.001_500_679_6,
                    0.998_164_5,
                    0.0,
                ],
            ),
        ),
        (
            Op::Softmax(Softmax { axis: 0 }),
            vec![x.clone()],
            f(
                &[2, 4],
                &[
                    0.880_797_1,
                    0.817_574_5,
                    0.017_986_21,
                    1.0,
                    0.119_202_92,
                    0.182_425_52,
                    0.982_013_8,
                    0.0,
                ],
            ),
        ),
        // Large scores do not overflow, and a finite mask leaves a finite row.
        (
            Op::Softmax(Softmax { axis: 0 }),
            vec![f(&[3], &[-1e4, -1e4, -1e4])],
            f(&[3], &[0.333_333_34, 0.333_333_34, 0.333_333_34]),
        ),
        (
            Op::Softmax(Softmax { axis: 0 }),
            vec![f(&[2], &[1e30, 0.0])],
            f(&[2], &[1.0, 0.0]),
        ),
        (
            Op::Softmax(Softmax { axis: 0 }),
            vec![f(&[2], &[f32::NEG_INFINITY; 2])],
            f(&[2], &[NAN, NAN]),
        ),
        (
            Op::CumSum(CumSum { axis: 0 }),
            vec![f(&[2, 2], &[1.0, 2.0, 3.0, 4.0])],
            f(&[2, 2], &[1.0, 2.0, 4.0, 6.0]),
        ),
        (
            Op::CumSum(CumSum { axis: 1 }),
            vec![i(&[2, 3], &[1, 2, 3, 4, 5, 6])],
            i(&[2, 3], &[1, 3, 6, 4, 9, 15]),
        ),
    ]
}

fn linear_and_norm_cases() -> Vec<Case> {
    let a = f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let at = f(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let c = f(&[3, 2], &[1.0, -1.0, 0.5, 2.0, 0.0, 3.0]);
    let ct = f(&[2, 3], &[1.0, 0.5, 0.0, -1.0, 2.0, 3.0]);
    let product = f(&[2, 2], &[2.0, 12.0, 6.5, 24.0]);
    let matmul = |transpose_a, transpose_b| {
        Op::MatMul(MatMul {
            transpose_a,
            transpose_b,
        })
    };
    let x = f(&[2, 4], &[1.0, 2.0, 3.0, 4.0, -1.0, 0.5, 7.0, -100.0]);
    let gamma = f(&[4], &[1.0, 2.0, 0.5, -1.0]);
    let beta = f(&[4], &[0.0, 1.0, -1.0, 0.25]);
    let layer_norm = |axis| {
        Op::LayerNorm(LayerNorm {
            axis,
            epsilon: 1e-5,
        })
    };
    vec![
        (
            matmul(false, false),
            vec![a.clone(), c.clone()],
            product.clone(),
        ),
        (
            matmul(true, false),
            vec![at.clone(), c.clone()],
            product.clone(),
        ),
        (
            matmul(false, true),
            vec![a.clone(), ct.clone()],
            product.clone(),
        ),
        (matmul(true, true), vec![at, ct.clone()], product),
        (
            matmul(false, false),
            vec![
                f(&[2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0]),
                f(&[3, 2, 1], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
            ],
            f(&[2, 3, 1, 1], &[1.0, 2.0, 3.0, 3.0, 4.0, 7.0]),
        ),
        (
            matmul(false, false),
            vec![f(&[2, 0], &[]), f(&[0, 1], &[])],
            f(&[2, 1], &[0.0, 0.0]),
        ),
        (
            Op::Linear(Linear),
            vec![a.clone(), ct.clone()],
            f(&[2, 2], &[2.0, 12.0, 6.5, 24.0]),
        ),
        (
            Op::Linear(Linear),
            vec![f(&[3], &[1.0, 2.0, 3.0]), ct, f(&[2], &[10.0, -10.0])],
            f(&[2], &[12.0, 2.0]),
        ),
        (
            layer_norm(1),
            vec![x.clone(), gamma.clone(), beta],
            f(
                &[2, 4],
                &[
                    -1.341_635_4,
                    0.105_576_39,
                    -0.776_394_1,
                    -1.091_635_4,
                    0.504_605_9,
                    2.076_868_4,
                    -0.657_488_2,
                    1.978_063_7,
                ],
            ),
        ),
        (
            layer_norm(0),
            vec![x.clone()],
            f(
                &[2, 4],
                &[
                    0.337_113_77,
                    0.366_588_2,
                    0.396_062_63,
                    0.425_537_06,
                    0.278_164_92,
                    0.322_376_56,
                    0.513_960_34,
                    -2.639_803_5,
                ],
            ),
        ),
        (
            Op::RmsNorm(RmsNorm {
                axis: 1,
                epsilon: 1e-6,
            }),
            vec![x, gamma],
            f(
                &[2, 4],
                &[
                    0.365_148_35,
                    1.460_593_4,
                    0.547_722_5,
                    -1.460_593_4,
                    -0.019_949_939,
                    0.019_949_939,
                    0.069_824_785,
                    1.994_993_9,
                ],
            ),
        ),
    ]
}

fn movement_cases() -> Vec<Case> {
    let counting: Vec<f32> = (0u8..6).map(f32::from).collect();
    let x = f(&[2, 3], &counting);
    let dims = |d: &[usize]| d.iter().map(|&n| Dim::from(n)).collect::<Vec<_>>();
    vec![
        (
            Op::Reshape(Reshape {
                shape: dims(&[3, 2]),
            }),
            vec![x.clone()],
            f(&[3, 2], &counting),
        ),
        (
            Op::Transpose(Transpose { perm: vec![1, 0] }),
            vec![x.clone()],
            f(&[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
        ),
        (
            Op::Expand(Expand {
                shape: dims(&[2, 2, 3]),
            }),
            vec![f(&[2, 1], &[7.0, 8.0])],
            f(
                &[2, 2, 3],
                &[7.0, 7.0, 7.0, 8.0, 8.0, 8.0, 7.0, 7.0, 7.0, 8.0, 8.0, 8.0],
            ),
        ),
        (
            Op::Slice(Slice {
                ranges: vec![
                    SliceRange::new(0, 1, 2),
                    SliceRange {
                        step: 2,
                        ..SliceRange::new(1, 0, 3)
                    },
                ],
            }),
            vec![x.clone()],
            f(&[1, 2], &[3.0, 5.0]),
        ),
        (
            Op::Concat(Concat { axis: 1 }),
            vec![x.clone(), f(&[2, 1], &[9.0, 8.0]), x.clone()],
            f(
                &[2, 7],
                &[
                    0.0, 1.0, 2.0, 9.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 3.0, 4.0, 5.0,
                ],
            ),
        ),
        (
            Op::Concat(Concat { axis: 0 }),
            vec![i(&[1], &[4]), i(&[0], &[]), i(&[2], &[5, 6])],
            i(&[3], &[4, 5, 6]),
        ),
        (
            Op::Squeeze(Squeeze { axes: vec![0, 2] }),
            vec![f(&[1, 2, 1], &[1.0, 2.0])],
            f(&[2], &[1.0, 2.0]),
        ),
        (
            Op::Unsqueeze(Unsqueeze { axes: vec![0, 2] }),
            vec![b(&[2], &[true, false])],
            b(&[1, 2, 1], &[true, false]),
        ),
        (
            Op::Iota(Iota {
                dtype: DType::I32,
                len: Dim::from(4),
            }),
            vec![],
            Tensor::int(DType::I32, vec![4], vec![0, 1, 2, 3]).unwrap(),
        ),
        (
            Op::Gather(Gather { axis: 0 }),
            vec![x.clone(), i(&[2, 1], &[1, 0])],
            f(&[2, 1, 3], &[3.0, 4.0, 5.0, 0.0, 1.0, 2.0]),
        ),
        (
            Op::Gather(Gather { axis: 1 }),
            vec![x.clone(), i(&[], &[2])],
            f(&[2], &[2.0, 5.0]),
        ),
        (
            Op::GatherElements(GatherElements { axis: 1 }),
            vec![x.clone(), i(&[2, 2], &[2, 0, 1, 1])],
            f(&[2, 2], &[2.0, 0.0, 4.0, 4.0]),
        ),
        (
            Op::GatherElements(GatherElements { axis: 0 }),
            vec![x, i(&[1, 3], &[1, 0, 1])],
            f(&[1, 3], &[3.0, 1.0, 5.0]),
        ),
    ]
}

#[test]
fn every_operation_computes_what_it_should() {
    let cases = [
        unary_cases(),
        binary_cases(),
        compare_cases(),
        other_elementwise_cases(),
        reduce_cases(),
        linear_and_norm_cases(),
        movement_cases(),
    ];
    let mut covered = BTreeSet::new();
    for (op, operands, expected) in cases.into_iter().flatten() {
        let found = run(&op, &operands.iter().collect::<Vec<_>>());
        check(op.name(), &found.unwrap(), &expected);
        covered.insert(op.name());
    }
    let all: BTreeSet<_> = Op::TABLE.iter().map(|row| row.name).collect();
    assert_eq!(covered, all, "every operation needs a case here");
}

#[test]
fn operands_in_place_give_the_same_as_shared_ones() {
    let big: Vec<f32> = (0u16..20_000).map(|k| f32::from(k % 97) - 40.5).collect();
    let column: Vec<f32> = (1u8..=200).map(f32::from).collect();
    let (x, y) = (f(&[200, 100], &big), f(&[200, 1], &column));
    for kind in [BinaryKind::Sub, BinaryKind::Div, BinaryKind::Max] {
        let op = binary(kind);
        for (a, b) in [(&x, &y), (&y, &x)] {
            let shared = run(&op, &[a, b]).unwrap();
            let target = Target::new(&op, DType::F32, vec![200, 100]).unwrap();
            let copy = |t: &Tensor| f(t.shape(), t.floats().unwrap());
            let owned = apply(
                &op,
                vec![copy(a), copy(b)],
                target,
                &Bindings::new(),
                Mode::F32,
            );
            assert!(owned.unwrap().floats().unwrap() == shared.floats().unwrap());
        }
    }
}

#[test]
fn only_the_f16_mode_rounds_to_sixteen_bits() {
    let halves = |v: f32| Tensor::float(DType::F16, vec![1], vec![v]).unwrap();
    let op = binary(BinaryKind::Add);
    let sum = |mode| {
        let target = Target::new(&op, DType::F16, vec![1]).unwrap();
        let operands = vec![halves(2048.0), halves(1.0)];
        let sum = apply(&op, operands, target, &Bindings::new(), mode).unwrap();
        sum.floats().unwrap()[0]
    };
    assert_eq!(sum(Mode::F32), 2049.0);
    assert_eq!(sum(Mode::F16), 2048.0);
    let op = Op::Cast(Cast { to: DType::F16 });
    let cast = |mode| {
        let target = Target::new(&op, DType::F16, vec![1]).unwrap();
        let cast = apply(&op, vec![f(&[1], &[0.1])], target, &Bindings::new(), mode).unwrap();
        cast.floats().unwrap()[0]
    };
    assert_eq!(cast(Mode::F32), 0.1);
    assert_eq!(cast(Mode::F16), num::round_f16(0.1));
    let mut values: Vec<f32> = (0u16..5000).map(|k| f32::from(k).sin() * 1e5).collect();
    let expected: Vec<f32> = values.iter().map(|&x| num::round_f16(x)).collect();
    round_floats(DType::F16, &mut values);
    assert_eq!(values, expected);
    let mut values = [1.0f32, 1.003_906_2, 1e-40];
    round_floats(DType::BF16, &mut values);
    assert_eq!(values, [1.0, 1.0, num::round_bf16(1e-40)]);
}

#[test]
fn indices_outside_their_axis_are_named() {
    let data = f(&[2, 3], &[0.0; 6]);
    for (bad, text) in [
        (
            i(&[2, 2], &[0, 1, 2, 0]),
            "expected indices in 0..2, found 2 at [1, 0] of the indices",
        ),
        (
            i(&[1], &[-1]),
            "expected indices in 0..2, found -1 at [0] of the indices",
        ),
    ] {
        let error = run(&Op::Gather(Gather { axis: 0 }), &[&data, &bad]).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(error.code(), "index_out_of_range");
    }
    let op = Op::GatherElements(GatherElements { axis: 1 });
    assert!(run(&op, &[&data, &i(&[2, 1], &[0, 3])]).is_err());
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let max = reduce(ReduceKind::Max, &[0], false);
    assert!(run(&max, &[&i(&[0], &[])]).is_err());
    assert_eq!(
        run(&max, &[&f(&[0], &[])]).unwrap().floats().unwrap()[0],
        f32::NEG_INFINITY
    );
    // A declared result that is not what follows from the operands.
    let op = unary(UnaryKind::Abs);
    let wrong = Type::known(DType::F32, &[3]);
    assert!(eval_op(&op, &[&f(&[2], &[0.0; 2])], &wrong, &Bindings::new()).is_err());
    // A size that no machine has.
    let huge = Op::Expand(Expand {
        shape: vec![Dim::from(1 << 20), Dim::from(1 << 20)],
    });
    let error = run(&huge, &[&f(&[1], &[0.0])]).unwrap_err();
    assert_eq!(error.code(), "value_too_large");
    // A slice that only its symbols' sizes show to be outside.
    let op = Op::Slice(Slice {
        ranges: vec![SliceRange::new(0, 0, Dim::symbol("n"))],
    });
    let result = Type::new(DType::F32, vec![Dim::symbol("n")]);
    let bindings = Bindings::from([("n".to_owned(), 3)]);
    assert!(eval_op(&op, &[&f(&[2], &[0.0; 2])], &result, &bindings).is_err());
}

/// All coordinates of a shape, in row-major order.
fn coordinates(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![vec![]], |all, &n| {
        all.iter()
            .flat_map(|c| (0..n).map(move |k| [c.as_slice(), &[k]].concat()))
            .collect()
    })
}

/// The element of `t` at `at`, broadcast from the right.
fn element(t: &Tensor, at: &[usize]) -> f64 {
    let at = &at[at.len() - t.shape().len()..];
    let index = at
        .iter()
        .zip(t.shape())
        .fold(0, |n, (&k, &d)| n * d + if d == 1 { 0 } else { k });
    t.to_f64()[index]
}

/// A float tensor of small integers, in which every sum and product below is exact.
fn tensor(shape: Vec<usize>) -> impl Strategy<Value = Tensor> {
    let n = shape.iter().product::<usize>();
    prop::collection::vec(-8i8..8, n)
        .prop_map(move |v| f(&shape, &v.into_iter().map(f32::from).collect::<Vec<_>>()))
}

/// A shape, and the same with some axes made 1 and some leading ones dropped.
fn broadcastable() -> impl Strategy<Value = (Tensor, Tensor)> {
    (
        prop::collection::vec((1usize..5, any::<[bool; 2]>()), 1..5),
        0usize..3,
        0usize..3,
    )
        .prop_flat_map(|(axes, drop_a, drop_b)| {
            let side = |which: usize, dropped: usize| -> Vec<usize> {
                let shape = axes
                    .iter()
                    .map(|(n, ones)| if ones[which] { 1 } else { *n });
                shape.skip(dropped.min(axes.len())).collect()
            };
            (tensor(side(0, drop_a)), tensor(side(1, drop_b)))
        })
}

proptest! {
    #[test]
    fn broadcasting_follows_numpy((a, b) in broadcastable()) {
        let found = run(&binary(BinaryKind::Sub), &[&a, &b]).unwrap();
        for (at, x) in coordinates(found.shape()).iter().zip(found.to_f64()) {
            prop_assert_eq!(x, element(&a, at) - element(&b, at));
        }
        let less = run(&compare(CompareKind::Less), &[&a, &b]).unwrap();
        let chosen = run(&Op::Select(Select), &[&less, &a, &b]).unwrap();
        let smaller = run(&binary(BinaryKind::Min), &[&a, &b]).unwrap();
        prop_assert_eq!(chosen.to_f64(), smaller.to_f64());
    }

    #[test]
    fn transposing_slicing_and_reducing_follow_their_indices(
        (x, seed, mask) in prop::collection::vec(1usize..5, 1..5)
            .prop_flat_map(|s| (tensor(s), any::<u16>(), any::<u8>()))
    ) {
        let rank = x.shape().len();
        let turn = usize::from(seed) % rank;
        let perm: Vec<usize> = (0..rank).map(|k| (k + turn) % rank).rev().collect();
        let moved = run(&Op::Transpose(Transpose { perm: perm.clone() }), &[&x]).unwrap();
        for (at, y) in coordinates(moved.shape()).iter().zip(moved.to_f64()) {
            let mut from = vec![0; rank];
            perm.iter().zip(at).for_each(|(&axis, &k)| from[axis] = k);
            prop_assert_eq!(y, element(&x, &from));
        }
        let mut axes: Vec<usize> = (0..rank).filter(|k| mask >> k & 1 == 1).collect();
        if axes.is_empty() {
            axes.push(turn);
        }
        let sums = run(&reduce(ReduceKind::Sum, &axes, true), &[&x]).unwrap();
        let mut expected = vec![0.0; sums.len()];
        for at in coordinates(x.shape()) {
            let kept = at.iter().enumerate().map(|(k, &i)| if axes.contains(&k) { 0 } else { i });
            let index = kept.zip(sums.shape()).fold(0, |n, (i, &d)| n * d + i);
            expected[index] += element(&x, &at);
        }
        prop_assert_eq!(sums.to_f64(), expected);
        let (n, step) = (x.shape()[turn], 1 + usize::from(seed >> 8) % 3);
        let start = usize::from(seed >> 4) % (n + 1);
        let range = SliceRange { step, ..SliceRange::new(turn, start, n) };
        let part = run(&Op::Slice(Slice { ranges: vec![range] }), &[&x]).unwrap();
        for (at, y) in coordinates(part.shape()).iter().zip(part.to_f64()) {
            let mut from = at.clone();
            from[turn] = start + at[turn] * step;
            prop_assert_eq!(y, element(&x, &from));
        }
    }

    #[test]
    fn matrix_products_follow_their_sum(
        (a, b, transpose_a, transpose_b) in
            (1usize..4, 1usize..40, 1usize..20, 1usize..40, any::<[bool; 4]>()).prop_flat_map(
                |(batch, m, k, n, [ta, tb, ba, bb])| {
                    let a = if ta { [k, m] } else { [m, k] };
                    let b = if tb { [n, k] } else { [k, n] };
                    let side = |one: bool, s: [usize; 2]| vec![if one { 1 } else { batch }, s[0], s[1]];
                    (tensor(side(ba, a)), tensor(side(bb, b)), Just(ta), Just(tb))
                })
    ) {
        let op = Op::MatMul(MatMul { transpose_a, transpose_b });
        let found = run(&op, &[&a, &b]).unwrap();
        let inner = if transpose_a { a.shape()[1] } else { a.shape()[2] };
        for (at, x) in coordinates(found.shape()).iter().zip(found.to_f64()) {
            let sum: f64 = (0..inner).map(|k| {
                let left = if transpose_a { [at[0], k, at[1]] } else { [at[0], at[1], k] };
                let right = if transpose_b { [at[0], at[2], k] } else { [at[0], k, at[2]] };
                element(&a, &left) * element(&b, &right)
            }).sum();
            prop_assert_eq!(x, sum);
        }
    }
}

#[test]
fn large_products_do_not_depend_on_the_number_of_threads() {
    let wave = |n: usize| -> Vec<f32> { (0..n).map(|k| (num::f32_of(k) * 0.37).sin()).collect() };
    let (m, k, n) = (65, 300, 531);
    let x = f(&[m, k], &wave(m * k));
    let (w, bias) = (f(&[n, k], &wave(n * k)), f(&[n], &wave(n)));
    let layers = || {
        let y = run(&Op::Linear(Linear), &[&x, &w, &bias]).unwrap();
        let y = run(&unary(UnaryKind::GeluErf), &[&y]).unwrap();
        let y = run(&Op::Softmax(Softmax { axis: 1 }), &[&y]).unwrap();
        run(&reduce(ReduceKind::Mean, &[0], false), &[&y]).unwrap()
    };
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(layers)
    };
    let one = with(1);
    let bits = |t: &Tensor| {
        t.floats()
            .unwrap()
            .iter()
            .map(|x| x.to_bits())
            .collect::<Vec<_>>()
    };
    for threads in [1, 2, 3, 8] {
        assert_eq!(bits(&with(threads)), bits(&one), "{threads} threads");
    }
    let product = run(&Op::Linear(Linear), &[&x, &w, &bias]).unwrap();
    for at in [[0, 0], [64, 530], [31, 272]] {
        let dot: f64 = (0..k)
            .map(|i| element(&x, &[at[0], i]) * element(&w, &[at[1], i]))
            .sum();
        let expected = dot + element(&bias, &[at[1]]);
        assert!((element(&product, &at) - expected).abs() < 1e-4);
    }
}
