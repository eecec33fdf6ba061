//! Squares of ReLU, as activations of configs (`relu2`) and as graphs spell them: beyond 255, half precision does not hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use distill_convert::arch::{self, Extent, Options};
use distill_convert::convert::{self, Check, Outcome, Precision, Request, Target};
use distill_convert::eval::{Interpreter, Mode, Observer};
use distill_convert::ir::ops::{BinaryKind, Linear, UnaryKind};
use distill_convert::ir::{Builder, Domain, Function, Module, Op, Type, ValueId};
use distill_convert::onnx;
use distill_convert::source::{self, OpenOptions, read_tensors};
use distill_convert::tensor::{DType, NamedTensors, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::Value;

use super::{assert_linked, request};
use crate::common::root;

/// Converts to both targets, one after the other, in half precision; every verification has to pass.
fn in_half_precision(model: &Path, seq: &[usize]) -> Vec<Outcome> {
    let folder = tempfile::tempdir().unwrap();
    let convert = |target: Target| {
        let out = folder.path().join(format!("m.{}", target.extension()));
        let request = Request {
            targets: vec![target],
            check: Some(Check::default()),
            ..request(model, &out, seq.to_vec(), Precision::Fp16)
        };
        let outcome = convert::convert(&request, &()).unwrap();
        let report = outcome.artifacts[0].verification.as_ref().unwrap();
        assert!(report.passed(), "{}", report.human());
        assert_linked(model, &outcome);
        outcome
    };
    [Target::Coreml, Target::Onnx].map(convert).into()
}

/// The nodes that stayed in single precision.
fn kept(outcome: &Outcome) -> BTreeSet<String> {
    let precision = outcome.artifacts[0].precision.as_ref().unwrap();
    let kept = precision.kept_in_f32.iter();
    kept.map(|k| k.node.clone()).collect()
}

/// The model in `fixture` with squares of ReLU between its linear maps, the first of which is `factor` times as large and the last as much smaller: the
/// model computes the same, by way of larger squares.
fn squaring(fixture: &str, folder: &Path, factor: f32) {
    let from = root().join("tests/fixtures/reference-models").join(fixture);
    let config = fs::read_to_string(from.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["hidden_act"] = "relu2".into();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let is_first = |name: &str| name.contains("intermediate.dense") || name.contains("gate_proj");
    let is_last = |name: &str| {
        let dense = name.ends_with("output.dense.weight") && !name.contains("attention");
        dense || name.contains("down_proj")
    };
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, tensor) in read_tensors(&from.join("model.safetensors")).unwrap() {
        let by = match (is_first(&name), is_last(&name)) {
            (true, false) => factor,
            (false, true) => 1.0 / (factor * factor),
            (false, false) => 1.0,
            (true, true) => panic!("{name}"),
        };
        let values = tensor.to_f64().into_iter();
        let bytes = values.flat_map(|x| (x as f32 * by).to_le_bytes()).collect();
        tensors.insert(name, (tensor.shape().to_vec(), bytes));
    }
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

/// Every value of a run.
#[derive(Default)]
struct All(BTreeMap<ValueId, Tensor>);

impl Observer for All {
    fn observe(&mut self, _: &Function, value: ValueId, tensor: &Tensor) {
        self.0.insert(value, tensor.clone());
    }
}

/// Runs the source: its activations, which have to be the squares that they are called, and the first output.
fn activations(folder: &Path) -> (Vec<String>, Vec<f64>) {
    let checkpoint = source::open(folder, &OpenOptions::default()).unwrap();
    let options = Options {
        batch: Extent::Fixed(1),
        seq: Extent::Fixed(8),
        ..Options::default()
    };
    let module = arch::build(&checkpoint, &options).unwrap().module;
    let function = module.main().unwrap();
    let mut inputs = NamedTensors::new();
    for param in &function.params {
        let name = function.value(param.value).name.clone();
        let values = match name.as_str() {
            "input_ids" => (0..8).map(|i| i * 5 + 3).collect(),
            "attention_mask" => vec![1; 8],
            _ => vec![0; 8],
        };
        inputs.insert(name, Tensor::i64(vec![1, 8], values).unwrap());
    }
    let mut all = All::default();
    let interpreter = Interpreter::new(&module, Mode::F32).unwrap();
    let outputs = interpreter.run(&inputs, Some(&mut all)).unwrap();
    let mut names = Vec::new();
    for node in &function.nodes {
        let name = function.value(node.result()).name.as_str();
        let Some(act) = name.strip_suffix("/act/relu") else {
            continue;
        };
        let act = format!("{act}/act");
        let is_act = |n: &&distill_convert::ir::Node| function.value(n.result()).name == act;
        let squares = function.nodes.iter().find(is_act).unwrap();
        let (taken, given) = (&all.0[&node.operands[0]], &all.0[&squares.result()]);
        assert!(taken.to_f64().iter().any(|&x| x > 0.0));
        for (x, y) in taken.to_f64().into_iter().zip(given.to_f64()) {
            let square = x.max(0.0) * x.max(0.0);
            assert!((square - y).abs() <= 1e-6 * square, "{x} gave {y}");
        }
        names.push(act);
    }
    let first = outputs.values().next().unwrap().to_f64();
    (names, first)
}

#[test]
fn squares_of_relu_in_a_config_are_computed_in_the_precision_that_holds_them() {
    for fixture in ["bert-classifier", "llama3-rope"] {
        let mut before: Option<Vec<f64>> = None;
        for factor in [1.0, 256.0] {
            let folder = tempfile::tempdir().unwrap();
            squaring(fixture, folder.path(), factor);
            let (names, found) = activations(folder.path());
            assert!(names.len() >= 2, "{fixture}: {names:?}");
            // A power of two changes nothing but exponents.
            let before = before.get_or_insert_with(|| found.clone());
            let largest = found.iter().fold(0.0f64, |most, x| most.max(x.abs()));
            let apart = found.iter().zip(before.iter()).map(|(a, b)| (a - b).abs());
            assert!(apart.fold(0.0, f64::max) <= 1e-5 * largest, "{fixture}");
            for outcome in in_half_precision(folder.path(), &[8]) {
                let kept = kept(&outcome);
                let is_kept = |name: &&String| kept.contains(*name);
                let expected = if factor > 1.0 { names.len() } else { 0 };
                let found = names.iter().filter(is_kept).count();
                assert_eq!(found, expected, "{fixture} × {factor}: {kept:?}");
                let said = |w: &String| w.contains("reach beyond what 16 bits hold");
                assert_eq!(outcome.warnings.iter().any(said), factor > 1.0);
            }
        }
    }
}

/// Squares of ReLU between two linear maps, as graphs have them.
fn graph(spelling: &str, factor: f32) -> Module {
    let mut b = Builder::new("squared");
    let ty = Type::known(DType::F32, &[4, 16]);
    let x = b.param("x", ty, Domain::Any).unwrap();
    let mut weight = |name: &str, rows: usize, columns: usize, scale: f32| {
        let values = (0..rows * columns).map(|i| ((i * 29 + 7) % 31) as f32 - 15.0);
        let values = values.map(|v| v / 16.0 * scale).collect();
        let tensor = Tensor::f32(vec![rows, columns], values).unwrap();
        b.tensor(name, &tensor).unwrap()
    };
    let up = weight("w1", 32, 16, factor);
    let down = weight("w2", 8, 32, 1.0 / (factor * factor));
    let up = b.push("up", Op::Linear(Linear), &[x, up]).unwrap();
    let zero = b.scalar("zero", DType::F32, 0.0).unwrap();
    let two = b.scalar("two", DType::F32, 2.0).unwrap();
    let positive = match spelling {
        "max" => b.binary("positive", BinaryKind::Max, up, zero),
        _ => b.unary("positive", UnaryKind::Relu, up),
    };
    let positive = positive.unwrap();
    let square = match spelling {
        "pow" => b.binary("square", BinaryKind::Pow, positive, two),
        _ => b.binary("square", BinaryKind::Mul, positive, positive),
    };
    let down = [square.unwrap(), down];
    let y = b.push("y", Op::Linear(Linear), &down).unwrap();
    b.output("y", y).unwrap();
    b.finish().unwrap()
}

#[test]
fn squares_of_relu_in_a_graph_are_computed_in_the_precision_that_holds_them() {
    for spelling in ["mul", "pow", "max"] {
        for (factor, expected) in [(1.0, &[][..]), (128.0, &["square", "y"])] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("m.onnx");
            let options = onnx::WriteOptions::default();
            onnx::write(&graph(spelling, factor), &file, &options).unwrap();
            for outcome in in_half_precision(&file, &[]) {
                let expected: BTreeSet<String> = expected.iter().map(|&n| n.into()).collect();
                assert_eq!(kept(&outcome), expected, "{spelling} × {factor}");
            }
        }
    }
}
