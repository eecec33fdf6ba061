//! Apple's own operation tests (coremltools), as a folder of cases: model, inputs, expected outputs.
//!
//! `DISTILL_MIL_CORPUS` names the folder. Only cases whose operations are read are run; every one of those must agree, but for the ones
//! listed here with their reason, which must not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use distill_convert::coreml::{self, Package};
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::source::read_tensors;
use distill_convert::tensor::{DType, NamedTensors, Tensor};
use serde_json::Value;

/// Cases that disagree, and why that is right. One that agrees after all fails too.
const DISAGREE: [(&str, &str); 11] = [
    (
        "scatter_gather.GatherAlongAxis.builder_to_backend_programmatic-c79158dba1",
        "negative indices given at run time are refused",
    ),
    (
        "tensor_transformation.Squeeze.non_single_element_dim-82c861a40e",
        "an axis that may be longer than 1 is squeezed",
    ),
    (
        "transformers.ScaledDotProductAttention.builder_to_backend_dynamic_stress-9c63169c26",
        "a size that varies has to equal a fixed one",
    ),
    (
        "transformers.ScaledDotProductAttention.builder_to_backend_dynamic_stress-d0befa91bd",
        "a size that varies has to equal a fixed one",
    ),
    (
        "compression.ConstexprLutToSparse.builder_to_backend_stress-b7e7278164",
        "the program adds in single precision, the expectation in half",
    ),
    (
        "compression.ConstexprSparseToDense.builder_to_backend_stress-70528de711",
        "the program adds in single precision, the expectation in half",
    ),
    (
        "torch_ops.DuplicateOutputTensors.duplicate_output_not_raise_errors-b147ad4c72",
        "two outputs have one name",
    ),
    (
        "torch_ops.IndexPut.index_put_dynamic_int_index_case_1-e560395d86",
        "the converter lost the assignment: the program returns its input",
    ),
    (
        "torch_ops.IndexPut.index_put_dynamic_int_index_case_2-8041f13196",
        "the converter lost the assignment: the program returns its input",
    ),
    (
        "torch_ops.Linear.linear_fp16-abe0438269",
        "the program computes in single precision, the expectation in half",
    ),
    (
        "torch_ops.Stack.stack_dynamic_range_dim-9951e5fca4",
        "a size that varies has to equal a fixed one",
    ),
];

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
    // The expectations of a program in half precision come from either side of its roundings.
    match (
        run_in(Mode::F32, &package, &inputs, &expected, &meta),
        meta["uses_fp16"] == true,
    ) {
        (Outcome::Differs(why), true) => {
            match run_in(Mode::F16, &package, &inputs, &expected, &meta) {
                Outcome::Differs(_) => Outcome::Differs(why),
                other @ (Outcome::Agrees | Outcome::NotRead(_)) => other,
            }
        }
        (other, _) => other,
    }
}

fn run_in(
    mode: Mode,
    package: &Package,
    inputs: &NamedTensors,
    expected: &NamedTensors,
    meta: &Value,
) -> Outcome {
    let interpreter = Interpreter::new(&package.module, mode).unwrap();
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
    for (name, want) in expected {
        let Some(got) = outputs.get(name) else {
            return Outcome::Differs(format!("no output `{name}`"));
        };
        // Kept unrounded inside; an output is what its type can hold.
        let got = &if got.dtype() == DType::F16 {
            got.cast(DType::F32).cast(DType::F16)
        } else {
            got.clone()
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

/// How many cases agree; fewer means that some are no longer read. Raise it when more are.
const AGREE: usize = 715;

#[test]
#[ignore = "needs the corpus of coremltools' operation tests: DISTILL_MIL_CORPUS"]
fn cases_of_coremltools_agree() {
    let corpus = PathBuf::from(std::env::var("DISTILL_MIL_CORPUS").expect("DISTILL_MIL_CORPUS"));
    let (mut agree, mut not_read, mut differ) = (0, BTreeMap::<String, usize>::new(), Vec::new());
    let mut expected_to_differ = 0;
    for case in cases(&corpus) {
        let name = case.file_name().unwrap().to_str().unwrap();
        let known = DISAGREE.iter().any(|(id, _)| *id == name);
        match run(&case) {
            Outcome::Differs(_) if known => expected_to_differ += 1,
            _ if known => differ.push(format!("{name}: was expected to differ")),
            Outcome::Agrees => agree += 1,
            Outcome::NotRead(why) => *not_read.entry(why).or_default() += 1,
            Outcome::Differs(why) => differ.push(format!(
                "{}: {why}",
                case.strip_prefix(&corpus).unwrap().display()
            )),
        }
    }
    let unread = not_read.values().sum::<usize>();
    let report = format!(
        "{agree} agree, {expected_to_differ} differ as expected, {} differ otherwise, {unread} are not read",
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
        agree >= AGREE && differ.is_empty(),
        "{report}\n{}",
        differ.join("\n")
    );
}
