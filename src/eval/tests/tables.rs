//! Every operation against expectations computed by hand or by NumPy.
// Expected values keep the digits that NumPy printed.
#![allow(clippy::approx_constant, clippy::excessive_precision)]

use std::collections::BTreeSet;

use super::*;

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
    let queries = f(&[1, 3, 2], &[0.5, -1.0, 2.0, 0.0, 1.0, 1.5]);
    let keys = f(&[2, 2, 2], &[1.0, 2.0, -1.0, 0.5, 0.0, 1.0, 2.0, -1.0]);
    let values = [1.0, -1.0, 2.0, 0.5, 0.0, -2.0, 3.0, 1.0, 0.0, 1.0, 2.0, 1.0];
    let values = f(&[2, 2, 3], &values);
    let mask = f(&[3, 2], &[0.0, -1.0, 0.5, f32::NEG_INFINITY, 1.0, 0.0]);
    vec![
        (
            Op::Attention(Attention { scale: 0.7 }),
            vec![queries.clone(), keys.clone(), values.clone(), mask],
            // By NumPy in double precision, as the next.
            f(
                &[2, 3, 3],
                &[
                    0.828_505_2,
                    -0.657_010_44,
                    0.628_041_86,
                    1.0,
                    -1.0,
                    2.0,
                    0.990_783_45,
                    -0.981_566_85,
                    1.926_267_4,
                    1.499_479_8,
                    1.750_260_1,
                    0.750_260_1,
                    3.0,
                    1.0,
                    0.0,
                    2.691_069_4,
                    1.154_465_3,
                    0.154_465_26,
                ],
            ),
        ),
        (
            Op::Attention(Attention { scale: 0.7 }),
            vec![queries, keys, values],
            f(
                &[2, 3, 3],
                &[
                    0.706_691_2,
                    -0.413_382_4,
                    -0.346_470_33,
                    0.971_337_9,
                    -0.942_675_83,
                    1.770_703_3,
                    0.975_715_94,
                    -0.951_431_87,
                    1.805_727_4,
                    1.218_193_7,
                    1.890_903_2,
                    0.890_903_2,
                    1.114_648_3,
                    1.942_675_8,
                    0.942_675_83,
                    2.336_375_5,
                    1.331_812_3,
                    0.331_812_23,
                ],
            ),
        ),
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
    covered.extend(super::wide::check_all());
    // Control flow needs a module: see the tests of the interpreter.
    covered.extend(["if", "loop"]);
    let all: BTreeSet<_> = Op::TABLE.iter().map(|row| row.name).collect();
    assert_eq!(covered, all, "every operation needs a case here");
}
