//! Models whose sizes vary: what is written for several sizes is read back and computes the same at each of them.

use std::collections::BTreeMap;
use std::path::Path;

use distill_convert::arch;
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::ir::{Module, SymbolRange};
use distill_convert::onnx;
use distill_convert::passes;
use distill_convert::source::{self, OpenOptions};
use distill_convert::tensor::{NamedTensors, Tensor};

use crate::common;

/// The inputs of the cases that a reference model comes with.
fn cases(folder: &Path) -> Vec<NamedTensors> {
    let mut cases: BTreeMap<String, NamedTensors> = BTreeMap::new();
    for (key, tensor) in source::read_tensors(&folder.join("reference.safetensors")).unwrap() {
        if let Some((case, name)) = key.split_once(".input.") {
            let inputs = cases.entry(case.to_owned()).or_default();
            inputs.insert(name.to_owned(), tensor);
        }
    }
    cases.into_values().collect()
}

/// The first `length` positions of every input, repeated where there are fewer; masks are all ones.
fn at_length(inputs: &NamedTensors, module: &Module, length: usize) -> NamedTensors {
    let function = module.main().unwrap();
    let any = inputs.values().next().unwrap();
    let rows = any.shape()[0];
    let names = function
        .params
        .iter()
        .map(|p| function.value(p.value).name.clone());
    names
        .map(|name| {
            let values: Vec<i64> = match inputs.get(&name) {
                Some(given) => {
                    let (width, ids) = (given.shape()[1], given.ints().unwrap());
                    (0..rows * length)
                        .map(|i| ids[i / length * width + i % length % width])
                        .collect()
                }
                None => vec![i64::from(name == "attention_mask"); rows * length],
            };
            (name, Tensor::i64(vec![rows, length], values).unwrap())
        })
        .collect()
}

/// The largest size that a symbol may have.
fn largest(module: &Module, symbol: &str) -> usize {
    match &module.symbol(symbol).unwrap().range {
        SymbolRange::Between { max, .. } => usize::try_from(*max).unwrap(),
        SymbolRange::OneOf(sizes) => usize::try_from(*sizes.last().unwrap()).unwrap(),
    }
}

fn outputs(module: &Module, inputs: &NamedTensors) -> NamedTensors {
    let interpreter = Interpreter::new(module, Mode::F32).unwrap();
    interpreter.run(inputs, None).unwrap()
}

/// Largest difference of any output, relative to that output's largest element.
fn distance(a: &NamedTensors, b: &NamedTensors) -> f64 {
    assert!(!a.is_empty() && a.keys().eq(b.keys()));
    let mut worst: f64 = 0.0;
    for (name, a) in a {
        let b = &b[name];
        assert_eq!(a.shape(), b.shape(), "{name}");
        let (a, b) = (a.to_f64(), b.to_f64());
        let largest = a.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        assert!(largest > 0.0, "{name}");
        let difference = a
            .iter()
            .zip(b)
            .fold(0.0, |m: f64, (x, y)| m.max((x - y).abs()));
        worst = worst.max(difference / largest);
    }
    worst
}

/// What we write with open sizes we read without being told any: the same sizes stay open, and it computes the same at each.
#[test]
fn every_reference_model_written_with_open_sizes_is_read_again() {
    let scratch = tempfile::tempdir().unwrap();
    let mut folders = common::reference_models();
    // One model for every switch of a config, of every architecture.
    let variants = std::fs::read_dir(common::root().join("tests/fixtures/variants")).unwrap();
    folders.extend(variants.map(|e| e.unwrap().path()).filter(|p| p.is_dir()));
    assert!(folders.len() >= 36, "{}", folders.len());
    let mut wrong = Vec::new();
    for folder in &folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let checkpoint = source::open(folder, &OpenOptions::default()).unwrap();
        let built = arch::build(&checkpoint, &arch::Options::default()).unwrap();
        let module = passes::fold(&built.module).unwrap();
        let path = scratch.path().join(format!("{name}.onnx"));
        onnx::write(&module, &path, &onnx::WriteOptions::default()).unwrap();
        let read = match onnx::read(&path, &onnx::ReadOptions::default()) {
            Ok(read) => read,
            Err(e) => {
                wrong.push(format!("{name}: {e}"));
                continue;
            }
        };
        assert_eq!(read.open.len(), 2, "{name}: {:?}", read.open);
        let inputs = &cases(folder)[0];
        let most = largest(&module, "seq");
        for length in [1, 5, most.min(12)] {
            let inputs = at_length(inputs, &module, length);
            let off = distance(&outputs(&module, &inputs), &outputs(&read.module, &inputs));
            println!("{name} at {length}: {off:.1e}");
            if off > 1e-5 {
                wrong.push(format!("{name} at {length}: {off:.1e}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A table of positions is cut at the sequence's length: the file does not say how long a sequence may be, but its arithmetic does.
#[test]
fn a_bound_that_the_arithmetic_implies_is_learnt() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = common::root().join("tests/fixtures/reference-models/llama3-rope");
    let checkpoint = source::open(&folder, &OpenOptions::default()).unwrap();
    let built = arch::build(&checkpoint, &arch::Options::default()).unwrap();
    let path = scratch.path().join("model.onnx");
    onnx::write(&built.module, &path, &onnx::WriteOptions::default()).unwrap();
    let read = onnx::read(&path, &onnx::ReadOptions::default()).unwrap();
    let most = largest(&built.module, "seq");
    assert_eq!((most, largest(&read.module, "seq")), (128, 128));
    assert!(
        read.notes
            .iter()
            .any(|n| n.contains("`seq` is at most 128")),
        "{:?}",
        read.notes
    );
    let seq = read.open.iter().find(|o| o.symbol == "seq").unwrap();
    assert_eq!(seq.most, Some(128));
    let interpreter = Interpreter::new(&read.module, Mode::F32).unwrap();
    let ids = |n: usize| {
        let ids = Tensor::i64(vec![1, n], vec![1; n]).unwrap();
        at_length(
            &NamedTensors::from([("input_ids".to_owned(), ids)]),
            &read.module,
            n,
        )
    };
    assert!(interpreter.run(&ids(128), None).is_ok());
    let error = interpreter.run(&ids(129), None).unwrap_err();
    assert!(error.to_string().contains("128"), "{error}");
    // More than it takes is refused when it is asked for, and so is leaving it open where that cannot be.
    let asked = |range| onnx::ReadOptions {
        dims: BTreeMap::from([("seq".to_owned(), range)]),
        ..onnx::ReadOptions::default()
    };
    let error = onnx::read(&path, &asked(SymbolRange::Between { min: 1, max: 512 })).unwrap_err();
    assert_eq!(error.code(), "onnx_size_option");
    assert!(
        error.to_string().contains("`seq` is at most 128"),
        "{error}"
    );
    assert!(onnx::read(&path, &asked(SymbolRange::OneOf(vec![8, 128]))).is_ok());
    let closed = onnx::ReadOptions {
        closed: true,
        ..onnx::ReadOptions::default()
    };
    let error = onnx::read(&path, &closed).unwrap_err();
    assert_eq!(error.code(), "onnx_open_sizes");
    assert!(error.to_string().contains("at most 128"), "{error}");
    assert!(error.hint().unwrap().contains("--dim seq"), "{error}");
}
