//! The meaning of the operations: rounding, refusals, independence of threads; tables and properties in files of their own.

mod properties;
mod tables;
mod wide;

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
    Ok(eval_op(op, operands, &[&ty], &Bindings::new())?.remove(0))
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
                vec![target],
                &Bindings::new(),
                Mode::F32,
                None,
            );
            assert!(owned.unwrap()[0].floats().unwrap() == shared.floats().unwrap());
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
        let sum = apply(&op, operands, vec![target], &Bindings::new(), mode, None).unwrap();
        sum[0].floats().unwrap()[0]
    };
    assert_eq!(sum(Mode::F32), 2049.0);
    assert_eq!(sum(Mode::F16), 2048.0);
    let op = Op::Cast(Cast { to: DType::F16 });
    let cast = |mode| {
        let target = Target::new(&op, DType::F16, vec![1]).unwrap();
        let cast = apply(
            &op,
            vec![f(&[1], &[0.1])],
            vec![target],
            &Bindings::new(),
            mode,
            None,
        )
        .unwrap();
        cast[0].floats().unwrap()[0]
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
    assert!(eval_op(&op, &[&f(&[2], &[0.0; 2])], &[&wrong], &Bindings::new()).is_err());
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
    assert!(eval_op(&op, &[&f(&[2], &[0.0; 2])], &[&result], &bindings).is_err());
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
            .map(|i| properties::element(&x, &[at[0], i]) * properties::element(&w, &[at[1], i]))
            .sum();
        let expected = dot + properties::element(&bias, &[at[1]]);
        assert!((properties::element(&product, &at) - expected).abs() < 1e-4);
    }
}
