//! Runs of small modules.

use super::*;
use crate::ir::ops::{BinaryKind, Gather, Reshape, UnaryKind};
use crate::ir::{Builder, Dim, Domain, Op, Symbol, SymbolRange, Type, ValueId};
use crate::tensor::DType;

/// `table[ids] + bias`, flattened: two symbols, an index domain and a 16-bit table.
fn module() -> Module {
    let mut b = Builder::new("test");
    let symbol = |name: &str, range| Symbol {
        name: name.to_owned(),
        range,
    };
    b.symbol(symbol("batch", SymbolRange::Between { min: 1, max: 2 }))
        .unwrap();
    b.symbol(symbol("seq", SymbolRange::OneOf(vec![2, 4])))
        .unwrap();
    let (batch, seq) = (Dim::symbol("batch"), Dim::symbol("seq"));
    let ids = Type::new(DType::I64, vec![batch.clone(), seq.clone()]);
    let ids = b.param("ids", ids, Domain::Index { below: 3 }).unwrap();
    let bias = Type::new(DType::F16, vec![seq.clone(), Dim::from(1)]);
    let bias = b.param("bias", bias, Domain::Any).unwrap();
    let table = Tensor::float(
        DType::F16,
        vec![3, 2],
        vec![2048.0, 1.0, 2.0, 3.0, 4.0, 5.0],
    );
    let table = b.tensor("table", &table.unwrap()).unwrap();
    let x = b
        .push("rows", Op::Gather(Gather { axis: 0 }), &[table, ids])
        .unwrap();
    let x = b.binary("sum", BinaryKind::Add, x, bias).unwrap();
    let size = batch.mul(&seq).mul(&Dim::from(2));
    let flat = Op::Reshape(Reshape { shape: vec![size] });
    let flat = b.push("flat", flat, &[x]).unwrap();
    let twice = b.binary("twice", BinaryKind::Add, flat, flat).unwrap();
    b.output("flat", flat).unwrap();
    b.output("twice", twice).unwrap();
    b.output("ids", ids).unwrap();
    b.finish().unwrap()
}

fn inputs(ids: Tensor, bias: Tensor) -> NamedTensors {
    NamedTensors::from([("ids".to_owned(), ids), ("bias".to_owned(), bias)])
}

fn ids(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::int(DType::I32, shape.to_vec(), values.to_vec()).unwrap()
}

fn bias(values: &[f32]) -> Tensor {
    Tensor::f32(vec![values.len(), 1], values.to_vec()).unwrap()
}

#[derive(Default)]
struct Names(Vec<(String, Tensor)>);

impl Observer for Names {
    fn observe(&mut self, function: &Function, value: ValueId, tensor: &Tensor) {
        let name = function.value(value).name.clone();
        self.0.push((name, tensor.clone()));
    }
}

#[test]
fn runs_and_shows_every_result() {
    let given = inputs(ids(&[1, 2], &[0, 2]), bias(&[1.0, 0.1]));
    for (mode, sum, third) in [(Mode::F32, 2049.0, 4.1), (Mode::F16, 2048.0, 4.101_562_5)] {
        let interpreter = Interpreter::new(&module(), mode).unwrap();
        let mut seen = Names::default();
        let outputs = interpreter.run(&given, Some(&mut seen)).unwrap();
        let flat = &outputs["flat"];
        assert_eq!((flat.dtype(), flat.shape()), (DType::F16, &[4][..]));
        let values = flat.floats().unwrap();
        assert_eq!(values[..3], [sum, 2.0, third], "{mode:?}");
        assert_eq!(outputs["twice"].floats().unwrap()[0], 2.0 * sum);
        assert_eq!(outputs["ids"].ints().unwrap()[..], [0, 2]);
        assert_eq!(outputs["ids"].dtype(), DType::I64);
        let names: Vec<&str> = seen.0.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["rows", "sum", "flat", "twice"]);
        // What an observer keeps is not overwritten by later operations.
        assert_eq!(seen.0[0].1.floats().unwrap()[0], 2048.0);
        assert_eq!(interpreter.run(&given, None).unwrap(), outputs);
    }
}

#[test]
fn inputs_are_checked() {
    let interpreter = Interpreter::new(&module(), Mode::F32).unwrap();
    let good = || inputs(ids(&[1, 2], &[0, 2]), bias(&[0.0, 0.0]));
    assert!(interpreter.run(&good(), None).is_ok());
    let with = |name: &str, tensor: Tensor| {
        let mut all = good();
        all.insert(name.to_owned(), tensor);
        all
    };
    let mut missing = good();
    missing.remove("bias");
    let cases = [
        (missing, "input `bias` is missing: expected f16[seq, 1]"),
        (
            with("mask", bias(&[0.0])),
            "unknown input `mask`: expected one of `ids`, `bias`",
        ),
        (
            with("ids", bias(&[0.0])),
            "input `ids`: expected i64[batch, seq], found f32[1, 1]",
        ),
        (
            with("ids", ids(&[2], &[0, 1])),
            "input `ids`: expected i64[batch, seq], found i32[2]",
        ),
        (
            with("ids", ids(&[3, 2], &[0; 6])),
            "input `ids`: dimension `batch` must be in 1..=2, found 3",
        ),
        (
            with("ids", ids(&[1, 3], &[0; 3])),
            "input `ids`: dimension `seq` must be one of 2, 4, found 3",
        ),
        (
            with("bias", bias(&[0.0; 4])),
            "input `bias`: dimension `seq` is 4 here, but another dimension says 2",
        ),
        (
            with("bias", Tensor::f32(vec![2, 2], vec![0.0; 4]).unwrap()),
            "input `bias`: expected f16[seq, 1], found f32[2, 2]",
        ),
        (
            with("ids", ids(&[1, 2], &[0, 3])),
            "input `ids`: expected indices in 0..3, found 3 at [0, 1]",
        ),
        (
            with("ids", ids(&[1, 2], &[-1, 0])),
            "input `ids`: expected indices in 0..3, found -1 at [0, 0]",
        ),
        (
            with(
                "ids",
                Tensor::int(DType::U64, vec![1, 2], vec![0, -1]).unwrap(),
            ),
            "input `ids`: -1 at [0, 1] does not fit i64",
        ),
    ];
    for (given, text) in cases {
        let found = interpreter.run(&given, None).unwrap_err();
        assert_eq!(found.to_string(), text);
    }
}

/// `x` doubled until it has reached 100, and every value on the way; then −`x` if that took more than three rounds.
fn control() -> Module {
    use crate::ir::ops::{Compare, CompareKind, If, Loop, Size};
    let mut b = Builder::new("test");
    let scalar = |dtype| Type::known(dtype, &[]);
    let x = b.param("x", scalar(DType::F32), Domain::Any).unwrap();
    let limit = b.scalar("limit", DType::F32, 100.0).unwrap();
    let most = b.scalar("most", DType::I64, 50.0).unwrap();
    let go = Tensor::bool(vec![], vec![true]).unwrap();
    let go = b.tensor("go", &go).unwrap();
    let body = b.body("double", |b| {
        b.param("round", scalar(DType::I64), Domain::Any)?;
        b.param("goes_on", scalar(DType::Bool), Domain::Any)?;
        let value = b.param("value", scalar(DType::F32), Domain::Any)?;
        let limit = b.param("captured", scalar(DType::F32), Domain::Any)?;
        let next = b.binary("next", BinaryKind::Add, value, value)?;
        let kind = CompareKind::Less;
        let less = b.push("less", Op::Compare(Compare { kind }), &[next, limit])?;
        b.output("goes_on", less)?;
        b.output("next", next)?;
        b.output("row", next)?;
        Ok(())
    });
    let rounds = b.run_time_size();
    let op = Op::Loop(Loop {
        body: body.unwrap(),
        carried: 1,
        results: vec![
            scalar(DType::F32),
            Type::new(DType::F32, vec![rounds.clone()]),
        ],
    });
    let found = b.push_all("doubled", op, &[most, go, x, limit]).unwrap();
    let size = Op::Size(Size {
        dtype: DType::I64,
        dim: rounds,
    });
    let size = b.push("rounds", size, &[]).unwrap();
    let three = b.scalar("three", DType::I64, 3.0).unwrap();
    let more = Op::Compare(Compare {
        kind: CompareKind::Greater,
    });
    let many = b.push("many", more, &[size, three]).unwrap();
    let then_body = b.body("negated", |b| {
        let v = b.param("negated_in", scalar(DType::F32), Domain::Any)?;
        let v = b.unary("negated_out", UnaryKind::Neg, v)?;
        Ok(b.output("out", v)?)
    });
    let else_body = b.body("kept", |b| {
        let v = b.param("kept_in", scalar(DType::F32), Domain::Any)?;
        Ok(b.output("out", v)?)
    });
    let op = Op::If(If {
        then_body: then_body.unwrap(),
        else_body: else_body.unwrap(),
        results: vec![scalar(DType::F32)],
    });
    let signed = b.push("signed", op, &[many, found[0]]).unwrap();
    b.output("signed", signed).unwrap();
    b.output("way", found[1]).unwrap();
    b.finish().unwrap()
}

#[test]
fn control_flow_runs_its_bodies() {
    let module = control();
    let interpreter = Interpreter::new(&module, Mode::F32).unwrap();
    let run = |x: f32| {
        let x = Tensor::f32(vec![], vec![x]).unwrap();
        let outputs = interpreter.run(&NamedTensors::from([("x".to_owned(), x)]), None);
        let outputs = outputs.unwrap();
        let floats = |name: &str| outputs[name].floats().unwrap().to_vec();
        (floats("signed"), floats("way"))
    };
    assert_eq!(run(20.0), (vec![160.0], vec![40.0, 80.0, 160.0]));
    assert_eq!(run(10.0), (vec![-160.0], vec![20.0, 40.0, 80.0, 160.0]));
    let text = crate::ir::print(&module);
    assert!(text.contains("body double"), "{text}");
    assert!(text.contains("= result 1 of %doubled"), "{text}");
}

#[test]
fn errors_name_the_node() {
    let mut b = Builder::new("test");
    let ty = Type::known(DType::I64, &[2]);
    let ids = b.param("ids", ty, Domain::Any).unwrap();
    let table = Tensor::f32(vec![3, 1], vec![0.0; 3]).unwrap();
    let table = b.tensor("table", &table).unwrap();
    let op = Op::Gather(Gather { axis: 0 });
    let rows = b
        .scoped("model", |b| b.push("rows", op, &[table, ids]))
        .unwrap();
    b.output("rows", rows).unwrap();
    let interpreter = Interpreter::new(&b.finish().unwrap(), Mode::F32).unwrap();
    let given = NamedTensors::from([("ids".to_owned(), Tensor::i64(vec![2], vec![0, 7]).unwrap())]);
    assert_eq!(
        interpreter.run(&given, None).unwrap_err().to_string(),
        "node `model/rows`: expected indices in 0..3, found 7 at [1] of the indices"
    );
}

#[test]
fn values_are_given_up_at_their_last_use() {
    let mut b = Builder::new("test");
    let ty = Type::known(DType::F32, &[2]);
    let x = b.param("x", ty, Domain::Any).unwrap();
    let y = b.unary("y", UnaryKind::Neg, x).unwrap();
    let z = b.binary("z", BinaryKind::Mul, y, y).unwrap();
    let w = b.binary("w", BinaryKind::Add, z, y).unwrap();
    b.output("z", z).unwrap();
    b.output("w", w).unwrap();
    let module = b.finish().unwrap();
    assert_eq!(
        last_uses(module.main().unwrap()),
        [vec![true], vec![false, false], vec![false, true]]
    );
    let interpreter = Interpreter::new(&module, Mode::F32).unwrap();
    assert!(interpreter.with_function("other").is_err());
    let interpreter = Interpreter::new(&module, Mode::F32).unwrap();
    let x = Tensor::f32(vec![2], vec![1.0, 3.0]).unwrap();
    let given = NamedTensors::from([("x".to_owned(), x.clone())]);
    let outputs = interpreter.run(&given, None).unwrap();
    assert_eq!(outputs["z"].floats().unwrap()[..], [1.0, 9.0]);
    assert_eq!(outputs["w"].floats().unwrap()[..], [0.0, 6.0]);
    // The caller's tensor is never written to.
    assert_eq!(x.floats().unwrap()[..], [1.0, 3.0]);
}
