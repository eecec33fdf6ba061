//! ONNX Runtime's own operators (`com.microsoft`), one node each, by the same routes as ONNX's node tests: what ONNX Runtime computes is expected.

use std::path::PathBuf;

use distill_convert::onnx::ReadOptions;

use super::onnx::{Route, Tolerance, run_all};
use crate::common::judge;

/// As many as the judge has to make.
const CASES: usize = 180;

/// As many as it has to make of those that are refused.
const REFUSALS: usize = 26;

/// How much a family's results may differ, as the share of each number and of the largest.
fn tolerance(name: &str) -> Tolerance {
    // ONNX Runtime rounds the activations of this layer to eight bits in every step; here they stay floats.
    let (relative, absolute) = if name.starts_with("lstm_") {
        (0.0, 1e-2)
    } else {
        (1e-4, 1e-6)
    };
    Tolerance { relative, absolute }
}

fn judge_all(routes: &[Route]) {
    let folder = tempfile::tempdir().unwrap();
    judge("contrib_cases.py", &[folder.path()]);
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder.path().join("cases"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    cases.sort();
    assert_eq!(cases.len(), CASES);
    let failures = run_all(&cases, routes, tolerance);
    let lines: Vec<String> = failures
        .iter()
        .map(|((case, route), why)| format!("{case} on {}: {why}", route.name()))
        .collect();
    println!("{} cases, {} failures", cases.len(), failures.len());
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn operators_of_onnx_runtime_in_the_interpreter() {
    judge_all(&[Route::Interpreter]);
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn operators_of_onnx_runtime_through_core_ml() {
    judge_all(&[Route::Coreml]);
}

#[cfg(feature = "ort")]
#[test]
#[ignore = "needs the judges: run scripts/test"]
fn operators_of_onnx_runtime_through_onnx() {
    judge_all(&[Route::Onnx]);
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn what_is_not_read_of_an_operator_of_onnx_runtime_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    judge("contrib_cases.py", &[folder.path()]);
    let (mut wrong, mut count) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder.path().join("refused")).unwrap() {
        let path = entry.unwrap().path();
        let expected = std::fs::read_to_string(path.join("expected.txt")).unwrap();
        count += 1;
        match distill_convert::onnx::read(&path.join("model.onnx"), &ReadOptions::default()) {
            Ok(_) => wrong.push(format!("{}: it was read", path.display())),
            Err(error) if error.to_string().contains(&expected) => {}
            Err(error) => wrong.push(format!("{}: {error}, not {expected}", path.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(count, REFUSALS);
}
