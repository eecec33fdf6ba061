//! What half precision would falsify, computed in it.

use super::super::testing::{distance, noise, run};
use super::super::{Islands, precision};
use super::*;
use crate::eval::Mode;
use crate::ir::ops::{CumSum, Gather, MatMul, Select, Softmax, Unsqueeze};
use crate::ir::{Builder, Module, Type};
use crate::tensor::NamedTensors;

const LONG: usize = 1000;

fn ints(name: &str, shape: &[usize], values: Vec<i64>) -> NamedTensors {
    let tensor = Tensor::i64(shape.to_vec(), values).unwrap();
    NamedTensors::from([(name.to_owned(), tensor)])
}

/// The module in half precision, and how far that is off on these inputs.
fn halves(module: &Module, inputs: &NamedTensors) -> (Module, f64) {
    let (half, _) = precision(module, &Islands::default()).unwrap();
    let (found, expected) = (
        run(&half, Mode::F16, inputs),
        run(module, Mode::F32, inputs),
    );
    let off = distance(&found, &expected);
    (half, off)
}

/// A table picked from at three times the running sum of a mask.
fn picked() -> Module {
    let mut b = Builder::new("m");
    let mask = b
        .param("mask", Type::known(DType::I64, &[LONG]), Domain::Mask)
        .unwrap();
    let rows = 3 * LONG + 1;
    let table = Tensor::f32(vec![rows, 2], noise(1, 2 * rows)).unwrap();
    let table = b.tensor("table", &table).unwrap();
    let three = b.scalar("three", DType::F32, 3.0).unwrap();
    let float = b.cast("float", mask, DType::F32).unwrap();
    let sum = b
        .push("sum", Op::CumSum(CumSum { axis: 0 }), &[float])
        .unwrap();
    let place = b.binary("place", BinaryKind::Mul, sum, three).unwrap();
    let index = b.cast("index", place, DType::I64).unwrap();
    let y = b
        .push("y", Op::Gather(Gather { axis: 0 }), &[table, index])
        .unwrap();
    let y = b.binary("scaled", BinaryKind::Mul, y, three).unwrap();
    b.output("y", y).unwrap();
    b.finish().unwrap()
}

#[test]
fn numbers_that_become_indices_stay_in_f32() {
    let module = picked();
    let (half, off) = halves(&module, &ints("mask", &[LONG], vec![1; LONG]));
    assert!(off < 1e-3, "{off:e}");
    let (_, report) = precision(&module, &Islands::default()).unwrap();
    let kept: Vec<&str> = report.kept_in_f32.iter().map(|k| k.node.as_str()).collect();
    assert_eq!(kept, ["float", "sum", "place"]);
    assert_eq!(report.f16_nodes, 2);
    drop(half);
}

#[test]
fn angles_of_positions_stay_in_f32() {
    let mut b = Builder::new("m");
    let ids = b
        .param("ids", Type::known(DType::I64, &[LONG]), Domain::Any)
        .unwrap();
    let frequencies = Tensor::f32(vec![1, 4], vec![1.0, 0.3, 0.1, 0.03]).unwrap();
    let frequencies = b.tensor("frequencies", &frequencies).unwrap();
    let float = b.cast("float", ids, DType::F32).unwrap();
    let axes = vec![1];
    let column = b
        .push("column", Op::Unsqueeze(Unsqueeze { axes }), &[float])
        .unwrap();
    let product = Op::MatMul(MatMul {
        transpose_a: false,
        transpose_b: false,
    });
    let angle = b.push("angle", product, &[column, frequencies]).unwrap();
    let y = b.unary("sin", UnaryKind::Sin, angle).unwrap();
    b.output("y", y).unwrap();
    let module = b.finish().unwrap();
    let positions = (5000..).take(LONG).collect();
    let (_, off) = halves(&module, &ints("ids", &[LONG], positions));
    assert!(off < 1e-3, "{off:e}");
}

/// Scores with a mask of the keys and a causal one added, both filled with the smallest number; `shown` is an output beside.
fn masked(shown: bool) -> Module {
    let mut b = Builder::new("m");
    let x = b
        .param("x", Type::known(DType::F32, &[4, 4]), Domain::Any)
        .unwrap();
    let mask = b
        .param("mask", Type::known(DType::I64, &[4]), Domain::Any)
        .unwrap();
    let fill = b.scalar("fill", DType::F32, f64::from(f32::MIN)).unwrap();
    let zero = b.scalar("zero", DType::F32, 0.0).unwrap();
    let keys = b.cast("keys", mask, DType::Bool).unwrap();
    let added = b
        .push("added", Op::Select(Select), &[keys, zero, fill])
        .unwrap();
    let causal = (0..16).map(|i| if i % 4 > i / 4 { f32::MIN } else { 0.0 });
    let causal = Tensor::f32(vec![4, 4], causal.collect()).unwrap();
    let causal = b.tensor("causal", &causal).unwrap();
    let masked = b.binary("masked", BinaryKind::Add, x, added).unwrap();
    let both = b.binary("both", BinaryKind::Add, masked, causal).unwrap();
    let y = b
        .push("p", Op::Softmax(Softmax { axis: 1 }), &[both])
        .unwrap();
    b.output("y", y).unwrap();
    if shown {
        b.output("added", added).unwrap();
    }
    b.finish().unwrap()
}

#[test]
fn a_row_that_is_masked_twice_is_a_number() {
    let (half, _) = precision(&masked(false), &Islands::default()).unwrap();
    for mask in [vec![1, 1, 1, 1], vec![0, 1, 1, 0], vec![0, 0, 0, 0]] {
        let mut inputs = ints("mask", &[4], mask.clone());
        let x = Tensor::f32(vec![4, 4], noise(3, 16)).unwrap();
        inputs.insert("x".into(), x);
        let y = run(&half, Mode::F16, &inputs)["y"].to_f64();
        assert!(y.iter().all(|p| p.is_finite()), "{mask:?}: {y:?}");
        let rows = y.chunks(4).map(|row| row.iter().sum::<f64>());
        assert!(
            rows.into_iter().all(|sum| (sum - 1.0).abs() < 2e-3),
            "{y:?}"
        );
        for (i, &p) in y.iter().enumerate() {
            let hidden = i % 4 > i / 4 || mask[i % 4] == 0;
            let any = (0..=i / 4).any(|k| mask[k] == 1);
            assert!(!(hidden && any) || p == 0.0, "{mask:?}: {y:?}");
        }
    }
}

#[test]
fn a_fill_that_is_seen_stays_as_it_is() {
    let (half, report) = precision(&masked(true), &Islands::default()).unwrap();
    let mut inputs = ints("mask", &[4], vec![1, 0, 1, 1]);
    inputs.insert("x".into(), Tensor::f32(vec![4, 4], noise(3, 16)).unwrap());
    let added = run(&half, Mode::F16, &inputs)["added"].to_f64();
    assert_eq!(added[1], f64::from(f32::MIN));
    assert!(report.kept_in_f32.iter().any(|k| k.node == "added"));
}
