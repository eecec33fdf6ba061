//! What half precision would falsify, computed in it.

use super::super::testing::{distance, noise, run};
use super::super::{Islands, precision};
use super::*;
use crate::eval::Mode;
use crate::ir::ops::{CumSum, Gather, If, Loop, MatMul, Select, Softmax, Unsqueeze};
use crate::ir::{BodyId, Builder, Type};
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

/// A body that gives the row of a table at `place`, a parameter; before it come parameters of these types.
fn picks(b: &mut Builder, name: &str, before: &[DType], ahead: bool) -> BodyId {
    let body = b.body(name, |b| {
        let mut params = Vec::new();
        for (i, &dtype) in before.iter().chain([&DType::F32; 2]).enumerate() {
            let ty = Type::known(dtype, &[]);
            params.push(b.param(&format!("{name}/{i}"), ty, Domain::Any)?);
        }
        let at = params.len() - 2;
        let table = Tensor::f32(vec![5 * LONG], noise(2, 5 * LONG))?;
        let table = b.tensor("rows", &table)?;
        let index = b.cast("index", params[at], DType::I64)?;
        let row = b.push("row", Op::Gather(Gather { axis: 0 }), &[table, index])?;
        let next = b.binary("next", BinaryKind::Add, params[at], params[at + 1])?;
        if ahead {
            b.output("on", params[1])?;
            b.output("next", next)?;
        }
        Ok(b.output("row", row)?)
    });
    body.unwrap()
}

/// What becomes an index inside of a branch or a loop, at once or after some rounds, is computed outside of it.
#[test]
fn numbers_that_become_indices_in_a_body_stay_in_f32() {
    for looped in [false, true] {
        let mut b = Builder::new("m");
        let scalar = |dtype| Type::known(dtype, &[]);
        let x = b.param("x", scalar(DType::I64), Domain::Any).unwrap();
        let float = b.cast("float", x, DType::F32).unwrap();
        let three = b.scalar("three", DType::F32, 3.0).unwrap();
        let place = b.binary("place", BinaryKind::Mul, float, three).unwrap();
        let step = b.binary("step", BinaryKind::Add, float, three).unwrap();
        let yes = Tensor::bool(vec![], vec![true]).unwrap();
        let yes = b.tensor("yes", &yes).unwrap();
        let y = if looped {
            let two = b.scalar("two", DType::I64, 2.0).unwrap();
            let op = Op::Loop(Loop {
                body: picks(&mut b, "round", &[DType::I64, DType::Bool], true),
                carried: 1,
                results: vec![scalar(DType::F32), Type::known(DType::F32, &[2])],
            });
            b.push_all("loop", op, &[two, yes, place, step]).unwrap()[1]
        } else {
            let op = Op::If(If {
                then_body: picks(&mut b, "then", &[], false),
                else_body: picks(&mut b, "else", &[], false),
                results: vec![scalar(DType::F32)],
            });
            b.push("if", op, &[yes, place, step]).unwrap()
        };
        b.output("y", y).unwrap();
        let module = b.finish().unwrap();
        // Beyond 2048, half precision has even numbers only.
        let (_, off) = halves(&module, &ints("x", &[], vec![777]));
        assert!(off < 1e-3, "{looped}: {off:e}");
        let (_, report) = precision(&module, &Islands::default()).unwrap();
        let kept = |node: &str| report.kept_in_f32.iter().any(|k| k.node == node);
        // Of a branch, the step goes nowhere; of a loop, into the index of the next round.
        assert!(kept("float") && kept("place"), "{looped}");
        assert_eq!(kept("step"), looped);
    }
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
