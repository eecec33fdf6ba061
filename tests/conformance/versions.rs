//! Operators of the default domain at every version of the operator set that is read, one node each, by the same routes as ONNX's node tests: what
//! ONNX Runtime computes is expected, or ONNX's own reference where ONNX Runtime has no kernel.

use std::path::PathBuf;

use super::onnx::{Route, Tolerance, run_all};
use crate::common::judge;

/// As many as the judge makes.
const CASES: usize = 11_823;

/// Cases that cannot agree on a route, by the parts of their names, and why.
const REFUSED: &[(Route, &str, &str, &str)] = &[
    (
        Route::Coreml,
        "reshape_",
        "_zero",
        "tensors without elements",
    ),
    (
        Route::Coreml,
        "split_",
        "_sizes06",
        "tensors without elements",
    ),
    (
        Route::Coreml,
        "nonmaxsuppression_",
        "_none",
        "tensors without elements",
    ),
    (Route::Coreml, "bitwisenot_", "_u32", "results beyond int32"),
    (Route::Coreml, "bitwisenot_", "_u64", "results beyond int32"),
    (Route::Coreml, "sub_", "_u32", "results beyond int32"),
    (Route::Coreml, "slice_", "_e_given", "an input beyond int32"),
];

/// How much a result may differ: halves are summed in another order.
fn tolerance(name: &str) -> Tolerance {
    let half = name.contains("f16") || name.ends_with("_half") || name.contains("precision");
    let (relative, absolute) = if half { (2e-3, 2e-3) } else { (1e-3, 1e-5) };
    Tolerance { relative, absolute }
}

fn judge_all(route: Route) {
    let folder = tempfile::tempdir().unwrap();
    judge("version_cases.py", &[folder.path()]);
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    cases.sort();
    assert_eq!(cases.len(), CASES);
    let failures = run_all(&cases, &[route], tolerance);
    let refused = |name: &str| {
        REFUSED.iter().any(|(on, start, end, _)| {
            *on == route && name.starts_with(start) && name.ends_with(end)
        })
    };
    let mut wrong: Vec<String> = failures
        .iter()
        .filter(|((case, _), _)| !refused(case))
        .map(|((case, _), why)| format!("{case}: {why}"))
        .collect();
    for case in &cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        if refused(&name) && !failures.contains_key(&(name.clone(), route)) {
            wrong.push(format!("{name} agrees after all: strike it"));
        }
    }
    println!("{} cases, {} failures", cases.len(), failures.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn operators_of_every_version_in_the_interpreter() {
    judge_all(Route::Interpreter);
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn operators_of_every_version_through_core_ml() {
    judge_all(Route::Coreml);
}

#[cfg(feature = "ort")]
#[test]
#[ignore = "needs the judges: run scripts/test"]
fn operators_of_every_version_through_onnx() {
    judge_all(Route::Onnx);
}
