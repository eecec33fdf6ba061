//! Packages that coremltools builds on this machine: read, run, linted, and written again as ONNX and as Core ML for other targets and
//! precisions, all with the numbers that NumPy computes. With states, functions, images, labels, control flow and shapes that vary.

use std::fs;
use std::path::{Path, PathBuf};

use distill_convert::source::read_tensors;
use distill_convert::tensor::{NamedTensors, Tensor};
use serde_json::Value;

use crate::common::{judge, root, run_json};

/// Largest |Δ| / max|expected| in single precision.
const F32: f64 = 1e-5;

/// A package with what it is to compute.
struct Case {
    name: String,
    folder: PathBuf,
    model: PathBuf,
    /// Numbers of the inputs of every run, step by step.
    runs: Vec<Vec<usize>>,
    function: Option<String>,
    /// The label that every run gives, for a classifier.
    labels: Option<Vec<String>>,
    /// The input that is an image.
    image: Option<String>,
    f16: f64,
}

impl Case {
    fn read(folder: &Path) -> Case {
        let text = fs::read_to_string(folder.join("case.json")).unwrap();
        let case: Value = serde_json::from_str(&text).unwrap();
        let mut next = 0;
        let runs = case["runs"].as_array().unwrap().iter().map(|steps| {
            let first = next;
            next += steps.as_u64().unwrap() as usize;
            (first..next).collect()
        });
        let model = ["model.mlpackage", "model.mlmodel"].map(|m| folder.join(m));
        Case {
            name: folder.file_name().unwrap().to_str().unwrap().to_owned(),
            folder: folder.to_path_buf(),
            runs: runs.collect(),
            model: model.into_iter().find(|m| m.exists()).unwrap(),
            function: case["function"].as_str().map(str::to_owned),
            labels: serde_json::from_value(case["labels"].clone()).unwrap(),
            image: case["image"].as_str().map(str::to_owned),
            f16: case["f16_relative"].as_f64().unwrap(),
        }
    }

    fn all(folder: &Path) -> Vec<Case> {
        let mut folders: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.join("case.json").is_file())
            .collect();
        folders.sort();
        folders.iter().map(|f| Case::read(f)).collect()
    }

    /// Whether the package itself computes in half precision.
    fn is_half(&self) -> bool {
        self.name.contains("half") || self.name.contains("state")
    }

    fn expected(&self, number: usize) -> NamedTensors {
        read_tensors(&self.folder.join(format!("expected.{number}.npz"))).unwrap()
    }

    fn file(&self, kind: &str, number: usize, ending: &str) -> String {
        let file = self.folder.join(format!("{kind}.{number}.{ending}"));
        file.to_str().unwrap().to_owned()
    }

    /// Runs a model that should be this one. `image` is how its images are given: as files, or as the tensors that they become.
    fn check(&self, scratch: &Path, model: &Path, tolerance: f64, more: &[&str]) {
        for (number, steps) in self.runs.iter().enumerate() {
            let mut arguments = vec!["run".to_owned(), model.to_str().unwrap().to_owned()];
            match &self.image {
                Some(image) => {
                    let file = self.file("image", steps[0], "png");
                    arguments.extend(["--input".to_owned(), format!("{image}={file}")]);
                }
                None => {
                    for (i, step) in steps.iter().enumerate() {
                        let flag = if i == 0 { "--inputs" } else { "--steps" };
                        arguments.extend([flag.to_owned(), self.file("inputs", *step, "npz")]);
                    }
                }
            }
            arguments.extend(["-o".to_owned(), "out.npz".to_owned()]);
            arguments.extend(more.iter().map(|a| (*a).to_owned()));
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let (code, document) = run_json(scratch, &arguments);
            assert_eq!(code, 0, "{}: {document:#}", self.name);
            if let Some(labels) = &self.labels {
                let label = &document["result"]["label"];
                assert_eq!(label, labels[number].as_str(), "{}", self.name);
            }
            for (i, step) in steps.iter().enumerate() {
                let file = match i {
                    0 => "out.npz".to_owned(),
                    _ => format!("out.{i}.npz"),
                };
                let found = read_tensors(&scratch.join(file)).unwrap();
                self.compare(&found, *step, tolerance);
            }
        }
    }

    fn compare(&self, found: &NamedTensors, step: usize, tolerance: f64) {
        let expected = self.expected(step);
        assert!(!expected.is_empty());
        for (name, want) in &expected {
            let got = found
                .get(name)
                .unwrap_or_else(|| panic!("{}: no `{name}` in {:?}", self.name, found.keys()));
            assert_eq!(got.shape(), want.shape(), "{} `{name}`", self.name);
            let apart = distance(got, want);
            assert!(
                apart <= tolerance,
                "{} step {step} `{name}`: {apart:e}",
                self.name
            );
        }
    }

    fn path(&self) -> &str {
        self.model.to_str().unwrap()
    }
}

/// max|Δ| / max|want|; infinite when something is no number.
fn distance(got: &Tensor, want: &Tensor) -> f64 {
    let (got, want) = (got.to_f64(), want.to_f64());
    let most = want.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
    let apart = got.iter().zip(&want).map(|(a, b)| (a - b).abs());
    if got.iter().all(|x| x.is_finite()) {
        apart.fold(0.0, f64::max) / most
    } else {
        f64::INFINITY
    }
}

/// The packages that coremltools makes here.
fn made_now() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    judge("shaped_packages.py", &[&folder.path().join("cases")]);
    folder
}

/// The few that the project carries.
fn carried() -> PathBuf {
    root().join("tests/fixtures/shaped")
}

/// Every package gives NumPy's numbers, is inspected, and has no findings but hints.
fn read_and_run(folder: &Path, runtimes: &[&[&str]]) -> usize {
    let scratch = tempfile::tempdir().unwrap();
    let cases = Case::all(folder);
    for case in &cases {
        let (code, document) = run_json(scratch.path(), &["inspect", case.path()]);
        assert_eq!(code, 0, "{document:#}");
        let spec = document["result"]["spec_version"].as_i64().unwrap();
        assert!((6..=10).contains(&spec), "{spec}");
        let (code, document) = run_json(scratch.path(), &["lint", case.path()]);
        assert_eq!(code, 0, "{document:#}");
        for finding in document["result"]["findings"].as_array().unwrap() {
            assert_eq!(finding["severity"], "hint", "{}: {finding:#}", case.name);
        }
        let tolerance = if case.is_half() { case.f16 } else { F32 };
        for runtime in runtimes {
            let mut more = runtime.to_vec();
            more.extend(case.function.iter().flat_map(|f| ["--function", f]));
            case.check(scratch.path(), &case.model, tolerance, &more);
        }
    }
    cases.len()
}

#[test]
fn carried_packages_give_what_numpy_computes() {
    assert_eq!(read_and_run(&carried(), &[&[]]), 24);
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn packages_made_now_give_what_numpy_computes() {
    let folder = made_now();
    let ways: [&[&str]; 2] = [&[], &["--runtime", "ort"]];
    assert_eq!(read_and_run(&folder.path().join("cases"), &ways), 24);
}
