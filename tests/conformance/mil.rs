//! Apple's own operation tests (coremltools), as a folder of cases: model, inputs, expected outputs.
//!
//! `DISTILL_MIL_CORPUS` names the folder. Only cases whose operations are read are run; every one of those must agree, but for the ones
//! listed here with their reason, which must not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use distill_convert::coreml;
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::source::read_tensors;
use distill_convert::tensor::{NamedTensors, Tensor};
use serde_json::Value;

/// How a case ended.
enum Outcome {
    Agrees,
    /// An operation or a part of the format is not read: the error's code.
    NotRead(String),
    Differs(String),
}

fn run(case: &Path) -> Outcome {
    let meta: Value = serde_json::from_slice(&fs::read(case.join("meta.json")).unwrap()).unwrap();
    let package = match coreml::read(&case.join("model.mlmodel")) {
        Ok(package) => package,
        Err(e) if e.class() == distill_convert::error::Class::Unsupported => {
            return Outcome::NotRead(e.to_string().replace(&case.display().to_string(), ""));
        }
        Err(e) => return Outcome::Differs(format!("read: {e}")),
    };
    let inputs = read_tensors(&case.join("inputs.npz")).unwrap();
    let expected = read_tensors(&case.join("expected.npz")).unwrap();
    let interpreter = Interpreter::new(&package.module, Mode::F32).unwrap();
    let function = package.module.main().unwrap();
    let inputs: NamedTensors = function
        .params
        .iter()
        .map(|p| {
            let value = function.value(p.value);
            let mut tensor = inputs[&value.name].clone();
            if value.ty.rank() == 0 {
                tensor = tensor.reshaped(vec![]).unwrap();
            }
            (value.name.clone(), tensor)
        })
        .collect();
    let outputs = match interpreter.run(&inputs, None) {
        Ok(outputs) => outputs,
        Err(e) => return Outcome::Differs(format!("run: {e}")),
    };
    if meta["shape_only"] == true {
        return Outcome::Agrees;
    }
    let tolerance = |key: &str| meta[key].as_f64().unwrap();
    for (name, want) in &expected {
        let Some(got) = outputs.get(name) else {
            return Outcome::Differs(format!("no output `{name}`"));
        };
        if let Err(e) = compare(
            got,
            want,
            tolerance("rtol_effective"),
            tolerance("atol_effective"),
        ) {
            return Outcome::Differs(format!("`{name}`: {e}"));
        }
    }
    assert!(!expected.is_empty());
    Outcome::Agrees
}

fn compare(got: &Tensor, want: &Tensor, rtol: f64, atol: f64) -> Result<(), String> {
    let scalar = |s: &[usize]| s.iter().all(|&d| d == 1) && s.len() <= 1;
    if got.shape() != want.shape() && !(scalar(got.shape()) && scalar(want.shape())) {
        return Err(format!(
            "shape {:?}, expected {:?}",
            got.shape(),
            want.shape()
        ));
    }
    for (i, (a, b)) in got.to_f64().into_iter().zip(want.to_f64()).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= atol + rtol * b.abs();
        if !same {
            return Err(format!("element {i} is {a}, expected {b}"));
        }
    }
    Ok(())
}

fn cases(corpus: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for suite in fs::read_dir(corpus).unwrap().map(|e| e.unwrap().path()) {
        if suite.is_dir() {
            out.extend(
                fs::read_dir(suite)
                    .unwrap()
                    .map(|e| e.unwrap().path())
                    .filter(|p| p.join("meta.json").exists()),
            );
        }
    }
    out.sort();
    out
}

#[test]
#[ignore = "needs the corpus of coremltools' operation tests: DISTILL_MIL_CORPUS"]
fn cases_of_coremltools_agree() {
    let corpus = PathBuf::from(std::env::var("DISTILL_MIL_CORPUS").expect("DISTILL_MIL_CORPUS"));
    let (mut agree, mut not_read, mut differ) = (0, BTreeMap::<String, usize>::new(), Vec::new());
    for case in cases(&corpus) {
        match run(&case) {
            Outcome::Agrees => agree += 1,
            Outcome::NotRead(why) => *not_read.entry(why).or_default() += 1,
            Outcome::Differs(why) => differ.push(format!(
                "{}: {why}",
                case.strip_prefix(&corpus).unwrap().display()
            )),
        }
    }
    let report = format!(
        "{agree} agree, {} are not read, {} differ",
        not_read.values().sum::<usize>(),
        differ.len()
    );
    if let Ok(path) = std::env::var("DISTILL_MIL_REPORT") {
        let not_read: Vec<String> = not_read
            .iter()
            .map(|(why, n)| format!("{n} {why}"))
            .collect();
        fs::write(
            path,
            format!(
                "{report}\n\n{}\n\n{}\n",
                differ.join("\n"),
                not_read.join("\n")
            ),
        )
        .unwrap();
    }
    assert!(
        agree > 0 && differ.is_empty(),
        "{report}\n{}",
        differ.join("\n")
    );
}
