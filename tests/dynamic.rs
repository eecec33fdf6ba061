//! Models whose sizes vary: what is written for several sizes is read back and computes the same at each of them.

use std::collections::BTreeMap;
use std::path::Path;

use distill_convert::eval::{Interpreter, Mode};
use distill_convert::ir::ops::{Conv, Window};
use distill_convert::ir::{Builder, Constant, Dim, Domain, Module, Op, Symbol, SymbolRange, Type};
use distill_convert::onnx;
use distill_convert::passes;
use distill_convert::source::{self, OpenOptions};
use distill_convert::tensor::{DType, NamedTensors, Tensor};
use distill_convert::{arch, coreml};

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
    for (number, folder) in folders.iter().enumerate() {
        // A model and a variant may have the same name.
        let name = folder.file_name().unwrap().to_string_lossy();
        let name = format!("{number}-{name}");
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

/// A small Llama with both sizes open, as an ONNX file in `folder`.
fn open_llama(folder: &Path) -> Module {
    let model = common::root().join("tests/fixtures/reference-models/llama3-rope");
    let checkpoint = source::open(&model, &OpenOptions::default()).unwrap();
    let built = arch::build(&checkpoint, &arch::Options::default()).unwrap();
    let path = folder.join("model.onnx");
    onnx::write(&built.module, &path, &onnx::WriteOptions::default()).unwrap();
    built.module
}

/// Sizes kept open in a package: what the flag says is what is read back, every size computes what the source does, and no other is taken.
#[test]
fn flexible_sizes_of_an_onnx_file_are_kept_in_a_package() {
    let scratch = tempfile::tempdir().unwrap();
    let source = open_llama(scratch.path());
    let cases = [
        (["--dim", "batch=1", "--dim", "seq=4,8,16"], [4, 8, 16], 5),
        (["--dim", "batch=1", "--dim", "seq=2..32"], [2, 17, 32], 33),
        (
            ["--shape", "input_ids=1,2..32", "--dim", "batch=1"],
            [2, 9, 32],
            1,
        ),
    ];
    for (flags, lengths, outside) in cases {
        let mut arguments = vec![
            "convert",
            "--target",
            "coreml",
            "model.onnx",
            "-o",
            "out.mlpackage",
        ];
        arguments.extend(["--precision", "fp32"]);
        arguments.extend(flags);
        let (code, answer) = common::run_json(scratch.path(), &arguments);
        assert_eq!(code, 0, "{answer:#}");
        let module = coreml::read(&scratch.path().join("out.mlpackage"))
            .unwrap()
            .module;
        let interpreter = Interpreter::new(&module, Mode::F32).unwrap();
        let inputs = |n: usize| {
            let ids: Vec<i64> = (0..n).map(|i| i64::try_from(i * 7 % 50).unwrap()).collect();
            let ids = Tensor::i64(vec![1, n], ids).unwrap();
            at_length(
                &NamedTensors::from([("input_ids".to_owned(), ids)]),
                &source,
                n,
            )
        };
        for n in lengths {
            let found = interpreter.run(&inputs(n), None).unwrap();
            let off = distance(&outputs(&source, &inputs(n)), &found);
            println!("{flags:?} at {n}: {off:.1e}");
            assert!(off < 1e-4, "{flags:?} at {n}: {off:.1e}");
        }
        let error = interpreter.run(&inputs(outside), None).unwrap_err();
        assert!(error.to_string().contains(&outside.to_string()), "{error}");
        std::fs::remove_dir_all(scratch.path().join("out.mlpackage")).unwrap();
    }
    // What is left open is said, with the flags that close it.
    let (code, answer) = common::run_json(
        scratch.path(),
        &["convert", "--target", "coreml", "model.onnx"],
    );
    let error = &answer["error"];
    assert_eq!((code, &error["code"]), (2, &"onnx_open_sizes".into()));
    for flag in ["--dim batch=1", "--dim seq=1", "=1..128"] {
        assert!(error["hint"].as_str().unwrap().contains(flag), "{error}");
    }
}

/// An image of any height, and of a width that is fixed: `--shape` with a range. Then the package's own size is narrowed and fixed.
#[test]
fn the_height_of_an_image_may_vary() {
    let scratch = tempfile::tempdir().unwrap();
    let mut b = Builder::new("image");
    for name in ["batch", "height", "width"] {
        let range = SymbolRange::Between { min: 1, max: 4096 };
        let name = name.to_owned();
        b.symbol(Symbol { name, range }).unwrap();
    }
    let shape = ["batch", "", "height", "width"].map(|s| match s {
        "" => Dim::from(3),
        name => Dim::symbol(name),
    });
    let x = b
        .param("x", Type::new(DType::F32, shape.to_vec()), Domain::Any)
        .unwrap();
    let weights: Vec<f32> = (0..2 * 3 * 9)
        .map(|i| ((i * 37 % 19) as f32 - 9.0) / 9.0)
        .collect();
    let weights = Tensor::f32(vec![2, 3, 3, 3], weights).unwrap();
    let w = b.constant(Constant::from_tensor("w", &weights).unwrap());
    let window = Window {
        strides: vec![2, 2],
        pads: vec![(1, 1); 2],
        dilations: vec![1, 1],
    };
    let y = b
        .push("conv", Op::Conv(Conv { window, groups: 1 }), &[x, w])
        .unwrap();
    b.output("y", y).unwrap();
    let source = b.finish().unwrap();
    onnx::write(
        &source,
        &scratch.path().join("model.onnx"),
        &onnx::WriteOptions::default(),
    )
    .unwrap();
    let convert = |model: &str, out: &str, flags: &[&str]| {
        let mut arguments = vec!["convert", "--target", "coreml", model, "-o", out];
        arguments.extend(["--precision", "fp32"]);
        arguments.extend(flags);
        common::run_json(scratch.path(), &arguments)
    };
    let check = |out: &str, good: &[usize], bad: usize| {
        let module = coreml::read(&scratch.path().join(out)).unwrap().module;
        let interpreter = Interpreter::new(&module, Mode::F32).unwrap();
        let image = |height: usize| {
            let values = (0..3 * height * 16)
                .map(|i| (i * 31 % 23) as f32 / 23.0)
                .collect();
            let x = Tensor::f32(vec![1, 3, height, 16], values).unwrap();
            NamedTensors::from([("x".to_owned(), x)])
        };
        for &height in good {
            let found = interpreter.run(&image(height), None).unwrap();
            assert!(
                distance(&outputs(&source, &image(height)), &found) < 1e-5,
                "{height}"
            );
        }
        assert!(interpreter.run(&image(bad), None).is_err());
    };
    let (code, answer) = convert("model.onnx", "a.mlpackage", &["--shape", "x=1,3,8..40,16"]);
    assert_eq!(code, 0, "{answer:#}");
    check("a.mlpackage", &[8, 23, 40], 41);
    let read = coreml::read(&scratch.path().join("a.mlpackage"))
        .unwrap()
        .module;
    let size = read.interface_symbols().next().unwrap().name.clone();
    let (code, answer) = convert(
        "a.mlpackage",
        "b.mlpackage",
        &["--dim", &format!("{size}=8,24")],
    );
    assert_eq!(code, 0, "{answer:#}");
    check("b.mlpackage", &[8, 24], 16);
    let (code, answer) = convert(
        "a.mlpackage",
        "c.mlpackage",
        &["--dim", &format!("{size}=24")],
    );
    assert_eq!(code, 0, "{answer:#}");
    check("c.mlpackage", &[24], 8);
    for (model, flags, part) in [
        (
            "a.mlpackage",
            ["--dim", "depth=24"],
            "the sizes that vary are",
        ),
        (
            "a.mlpackage",
            ["--constant", "x=1"],
            "only for an ONNX source",
        ),
        (
            "model.onnx",
            ["--shape", "x=1,4,8..40,16"],
            "axis 1 is fixed at 3",
        ),
        ("model.onnx", ["--shape", "x=1,3,40..8,16"], "is not NAME"),
    ] {
        let (code, answer) = convert(model, "d.mlpackage", &flags);
        assert!(code == 1 || code == 2, "{answer:#}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
    }
}

/// The sizes of a model folder by the same flag.
#[test]
fn a_model_folder_takes_its_sizes_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    common::TinyModel::new().write(scratch.path());
    let convert = |flags: &[&str]| {
        let mut arguments = vec![
            "convert",
            "--target",
            "coreml",
            "model",
            "-o",
            "out.mlpackage",
        ];
        arguments.extend(flags);
        common::run_json(scratch.path(), &arguments)
    };
    let (code, answer) = convert(&["--dim", "batch=2", "--dim", "seq=1..32"]);
    assert_eq!(code, 0, "{answer:#}");
    let module = coreml::read(&scratch.path().join("out.mlpackage"))
        .unwrap()
        .module;
    let function = module.main().unwrap();
    let ids = function.param("input_ids").unwrap();
    assert_eq!(function.ty(ids.value).shape[0].known(), Some(2));
    let symbol = module.interface_symbols().next().unwrap();
    assert_eq!(symbol.range, SymbolRange::Between { min: 1, max: 32 });
    let verify = |dim: &str| {
        let arguments = ["verify", "model", "out.mlpackage", "--dim", dim];
        common::run_json(scratch.path(), &arguments)
    };
    let (code, answer) = verify("seq=5");
    assert_eq!(code, 0, "{answer:#}");
    let shown = answer["result"].to_string();
    assert!(
        shown.contains("[2, 5]") && !shown.contains("[2, 32]"),
        "{answer:#}"
    );
    let (code, answer) = verify("seq=33");
    let message = answer["error"]["message"].as_str().unwrap();
    assert_eq!(code, 1, "{answer:#}");
    assert!(message.contains("the artifact takes 1..32"), "{message}");
    let (_, answer) = convert(&["--dim", "height=3"]);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("`batch` and `seq`"), "{message}");
    let (_, answer) = convert(&["--dim", "seq=3", "--seq", "4"]);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("gives it too"), "{message}");
}

/// What a target cannot say while a size varies names the flag that fixes it, if that helps.
#[test]
fn what_cannot_be_written_for_several_sizes_names_the_flag() {
    use common::onnx_file::{FLOAT, attribute_int, graph, longs, model, node, value_info};
    let folder = tempfile::tempdir().unwrap();
    let nodes = [
        node("Shape", &["x"], &["s"], &[]),
        node("Gather", &["s", "one"], &["n"], &[]),
        node("Min", &["n", "ten"], &["k"], &[]),
        node(
            "TopK",
            &["x", "k"],
            &["y", "i"],
            &[attribute_int("axis", 1)],
        ),
    ];
    let constants = [longs("one", &[1], &[1]), longs("ten", &[1], &[10])];
    let (x, y) = (
        value_info("x", FLOAT, &[2, -1]),
        value_info("y", FLOAT, &[2, -1]),
    );
    let file = model(&graph(&nodes, &constants, &[x], &[y]));
    std::fs::write(folder.path().join("m.onnx"), file.0).unwrap();
    let convert = |size: &str| {
        let arguments = [
            "convert", "--target", "coreml", "m.onnx", "--dim", size, "-o",
        ];
        let arguments = [&arguments[..], &["out.mlpackage", "--no-verify"]].concat();
        common::run_json(folder.path(), &arguments)
    };
    for size in ["x.1=4,20", "x.1=4..20"] {
        let (code, answer) = convert(size);
        let said = |key: &str| answer["error"][key].as_str().unwrap_or_default().to_owned();
        assert_eq!(code, 1, "{answer:#}");
        assert!(said("message").contains("how many are taken must be known"));
        assert_eq!(
            said("hint"),
            "with fixed sizes it can be converted, for example `--dim x.1=20`"
        );
        assert!(!folder.path().join("out.mlpackage").exists());
    }
    assert_eq!(convert("x.1=20").0, 0);
}

/// Operators on sizes that vary, each at the ends of its ranges and between: ONNX Runtime runs the original file.
#[test]
#[ignore = "needs the judges: run scripts/test"]
fn operators_on_sizes_that_vary_agree_with_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    common::judge("varying_models.py", &[folder.path()]);
    let cases = std::fs::read(folder.path().join("cases.json")).unwrap();
    let cases: BTreeMap<String, Vec<String>> = serde_json::from_slice(&cases).unwrap();
    assert_eq!(cases.len(), 52);
    let mut wrong = Vec::new();
    for (name, dims) in &cases {
        for (target, artifact) in [("onnx", "out.onnx"), ("coreml", "out.mlpackage")] {
            let (model, out) = (format!("{name}.onnx"), format!("{name}.{artifact}"));
            let mut arguments = vec!["convert", "--target", target, &model, "-o", &out];
            arguments.extend(["--precision", "fp32"]);
            arguments.extend(dims.iter().flat_map(|dim| ["--dim", dim]));
            let (code, answer) = common::run_json(folder.path(), &arguments);
            let engines = &answer["result"]["artifacts"][0]["verification"]["engines"];
            let ran = engines.as_array().and_then(|engines| {
                let name = |e: &serde_json::Value| e["name"].as_str().unwrap().to_owned();
                let source = engines.iter().find(|e| e["role"] == "source")?;
                let judged = name(source).contains("ONNX Runtime");
                judged.then(|| source["runs"].as_u64().unwrap())
            });
            if code != 0 || ran.is_none_or(|runs| runs < 2) {
                let (error, hint) = (&answer["error"]["message"], &answer["error"]["hint"]);
                let failures = &answer["result"]["artifacts"][0]["verification"]["failures"];
                wrong.push(format!(
                    "{name} to {target}: {code}, {ran:?} runs: {error} {hint} {failures}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
