//! ONNX's own node tests, by three routes: IR → interpreter; IR → written Core ML package → read back → interpreter; IR → written ONNX →
//! ONNX Runtime. Every case not listed in the expectations file must agree; every listed one must not.
//!
//! `DISTILL_ONNX_NODE_TESTS` names the folder (`onnx/backend/test/data/node` of the `onnx` 1.19.1 wheel).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use distill_convert::coreml;
use distill_convert::error::Result;
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::ir::Module;
use distill_convert::onnx::{self, ReadOptions};
use distill_convert::runtime::Session;
use distill_convert::tensor::{DType, NamedTensors, Tensor};

/// How much a number may differ: a share of itself, and a number.
#[derive(Clone, Copy)]
pub(super) struct Tolerance {
    pub(super) relative: f64,
    pub(super) absolute: f64,
}

/// The tolerances of ONNX's own runner.
const ONNX: Tolerance = Tolerance {
    relative: 1e-3,
    absolute: 1e-7,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Route {
    Interpreter,
    Coreml,
    Onnx,
}

impl Route {
    pub(super) fn name(self) -> &'static str {
        match self {
            Route::Interpreter => "interpreter",
            Route::Coreml => "coreml",
            Route::Onnx => "onnx",
        }
    }
}

/// One case: a model, its inputs and its expected outputs, by name.
struct Case {
    model: PathBuf,
    inputs: NamedTensors,
    outputs: Vec<(String, Tensor)>,
}

fn tensors(
    folder: &Path,
    kind: &str,
    names: &[String],
) -> std::result::Result<Vec<(String, Tensor)>, String> {
    let mut out = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let path = folder.join(format!("{kind}_{i}.pb"));
        let (_, tensor) =
            onnx::read_tensor(&path).map_err(|e| format!("test data: {}", e.error))?;
        out.push((name.clone(), tensor));
    }
    Ok(out)
}

fn load(folder: &Path) -> std::result::Result<Case, String> {
    let model = folder.join("model.onnx");
    let summary = onnx::inspect(&model).map_err(|e| e.error.to_string())?;
    let names = |ports: &[onnx::Port]| ports.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    let data = folder.join("test_data_set_0");
    Ok(Case {
        inputs: tensors(&data, "input", &names(&summary.inputs))?
            .into_iter()
            .collect(),
        outputs: tensors(&data, "output", &names(&summary.outputs))?,
        model,
    })
}

/// Reads the model at the shapes of the inputs; inputs that have to be known when it is read are given their values.
fn import(
    case: &Case,
    mut options: ReadOptions,
) -> std::result::Result<(Module, NamedTensors), String> {
    for _ in 0..16 {
        let mut inputs = case.inputs.clone();
        inputs.retain(|name, _| !options.constants.contains_key(name));
        options.shapes = inputs
            .iter()
            .map(|(name, t)| (name.clone(), t.shape().to_vec()))
            .collect();
        match onnx::read(&case.model, &options) {
            Ok(read) => {
                // As a conversion does it.
                let (module, _) =
                    distill_convert::passes::clean(&read.module).map_err(|e| e.to_string())?;
                let function = module.main().map_err(|e| e.to_string())?;
                inputs.retain(|name, _| function.param(name).is_some());
                return Ok((module, inputs));
            }
            Err(error) if error.code() == "onnx_not_constant" => {
                let text = error.to_string();
                let name = text.split("(`").nth(1).and_then(|t| t.split("`)").next());
                let name = name.unwrap_or_default().to_owned();
                let before = options.constants.len();
                if let Some(tensor) = inputs.get(&name) {
                    options.constants.insert(name, tensor.clone());
                } else {
                    options.constants.extend(small(&inputs));
                }
                if options.constants.len() == before {
                    return Err(error.to_string());
                }
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("too many inputs to be known".into())
}

/// The inputs that may say shapes, places and counts.
fn small(inputs: &NamedTensors) -> impl Iterator<Item = (String, Tensor)> {
    let small =
        |t: &Tensor| t.shape().len() <= 1 && (t.dtype().is_int() || t.dtype() == DType::Bool);
    inputs
        .iter()
        .filter(move |(_, t)| small(t))
        .map(|(n, t)| (n.clone(), t.clone()))
}

/// Writes the module as a Core ML package. What Core ML cannot take as an operand is given when the model is read, as the option `--constant`
/// does it.
fn write_package(
    case: &Case,
    module: &Module,
    inputs: &NamedTensors,
    path: &Path,
) -> std::result::Result<(Module, NamedTensors), String> {
    let options = coreml::WriteOptions {
        deployment_target: coreml::DeploymentTarget::IOS18,
        ..coreml::WriteOptions::default()
    };
    let strip = |e: String| format!("write: {}", e.replace(&path.display().to_string(), ""));
    let error = match coreml::write(module, path, &options) {
        Ok(_) => return Ok((module.clone(), inputs.clone())),
        Err(error) => error,
    };
    if error.code() != "coreml_unsupported" {
        return Err(strip(error.to_string()));
    }
    let mut given = ReadOptions::default();
    given.constants.extend(small(&case.inputs));
    let (module, inputs) = import(case, given)?;
    text(coreml::write(&module, path, &options)).map_err(strip)?;
    Ok((module, inputs))
}

fn compare(
    expected: &[(String, Tensor)],
    found: &NamedTensors,
    exact_types: bool,
    tolerance: Tolerance,
) -> std::result::Result<(), String> {
    for (name, expected) in expected {
        let found = found
            .get(name)
            .ok_or_else(|| format!("no output `{name}`"))?;
        if exact_types && found.dtype() != expected.dtype() {
            return Err(format!(
                "`{name}`: {} instead of {}",
                found.dtype(),
                expected.dtype()
            ));
        }
        let scalar = !exact_types && expected.shape().is_empty() && found.len() == 1;
        if found.shape() != expected.shape() && !scalar {
            return Err(format!(
                "`{name}`: shape {:?} instead of {:?}",
                found.shape(),
                expected.shape()
            ));
        }
        for (i, (a, b)) in found
            .to_f64()
            .into_iter()
            .zip(expected.to_f64())
            .enumerate()
        {
            let bound = tolerance.absolute + tolerance.relative * b.abs();
            let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= bound;
            if !same {
                return Err(format!("`{name}`: element {i} is {a} instead of {b}"));
            }
        }
    }
    Ok(())
}

fn guarded(
    work: impl FnOnce() -> std::result::Result<(), String>,
) -> std::result::Result<(), String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

fn text<T>(result: Result<T>) -> std::result::Result<T, String> {
    result.map_err(|e| e.to_string())
}

fn run_case(
    folder: &Path,
    routes: &[Route],
    tolerance: Tolerance,
) -> Vec<(Route, std::result::Result<(), String>)> {
    let prepared = catch_unwind(AssertUnwindSafe(|| {
        let case = load(folder)?;
        let (module, inputs) = import(&case, ReadOptions::default())
            .map_err(|e| e.replace(&case.model.display().to_string(), ""))?;
        Ok((case, module, inputs))
    }))
    .unwrap_or_else(|_| Err("panic while reading".into()));
    let (case, module, inputs) = match prepared {
        Ok(prepared) => prepared,
        Err(why) => {
            let why: String = why;
            return routes.iter().map(|&r| (r, Err(why.clone()))).collect();
        }
    };
    routes
        .iter()
        .map(|&route| {
            let outcome = guarded(|| match route {
                Route::Interpreter => {
                    let found = text(
                        Interpreter::new(&module, Mode::F16).and_then(|i| i.run(&inputs, None)),
                    )?;
                    compare(&case.outputs, &found, true, tolerance)
                }
                Route::Coreml => {
                    let folder = tempfile::tempdir().unwrap();
                    let path = folder.path().join("model.mlpackage");
                    let (module, inputs) = write_package(&case, &module, &inputs, &path)?;
                    let strip = |e: String| e.replace(&path.display().to_string(), "");
                    let read = text(coreml::read(&path))
                        .map_err(|e| format!("read back: {}", strip(e)))?;
                    let interpreter = text(Interpreter::new(&read.module, Mode::F16))?;
                    let (inputs, outputs) =
                        through_interface(&read.module, &module, &inputs, &case.outputs)?;
                    let found = text(interpreter.run(&inputs, None))?;
                    compare(&outputs, &found, false, tolerance)
                }
                Route::Onnx => {
                    let folder = tempfile::tempdir().unwrap();
                    let path = folder.path().join("model.onnx");
                    let options = onnx::WriteOptions {
                        opset: 21,
                        ..onnx::WriteOptions::default()
                    };
                    let strip = |e: String| e.replace(&path.display().to_string(), "");
                    text(onnx::write(&module, &path, &options))
                        .map_err(|e| format!("write: {}", strip(e)))?;
                    let library =
                        PathBuf::from(std::env::var_os("ORT_DYLIB_PATH").expect("ORT_DYLIB_PATH"));
                    let session = text(distill_convert::runtime::ort::OrtSession::open(
                        &library, &path,
                    ))
                    .map_err(|e| format!("open: {}", strip(e)))?;
                    let found = text(session.run(&inputs))?;
                    compare(&case.outputs, &found, true, tolerance)
                }
            });
            (route, outcome)
        })
        .collect()
}

/// The inputs and expected outputs by the names and types of the package: its names are sanitised, its numbers narrower, its scalars `[1]`.
fn through_interface(
    package: &Module,
    module: &Module,
    inputs: &NamedTensors,
    outputs: &[(String, Tensor)],
) -> std::result::Result<(NamedTensors, Vec<(String, Tensor)>), String> {
    let (written, original) = (text_ir(package.main())?, text_ir(module.main())?);
    let mut out = NamedTensors::new();
    for (new, old) in written.params.iter().zip(&original.params) {
        let (new, old) = (written.value(new.value), original.value(old.value));
        let tensor = inputs.get(&old.name).ok_or("an input is missing")?;
        let shape: Option<Vec<usize>> = new.ty.known_shape();
        let tensor = tensor.cast(new.ty.dtype);
        let tensor = match shape {
            Some(shape) if shape.len() != tensor.shape().len() => {
                tensor.reshaped(shape).map_err(|e| e.to_string())?
            }
            Some(_) | None => tensor,
        };
        out.insert(new.name.clone(), tensor);
    }
    let mut expected = Vec::new();
    for (new, old) in written.outputs.iter().zip(&original.outputs) {
        let tensor = outputs
            .iter()
            .find(|(n, _)| *n == old.name)
            .ok_or("an output is missing")?;
        expected.push((new.name.clone(), tensor.1.clone()));
    }
    Ok((out, expected))
}

fn text_ir<T>(
    result: std::result::Result<T, distill_convert::ir::IrError>,
) -> std::result::Result<T, String> {
    result.map_err(|e| e.to_string())
}

fn cases() -> Vec<PathBuf> {
    let root = std::env::var_os("DISTILL_ONNX_NODE_TESTS")
        .expect("DISTILL_ONNX_NODE_TESTS names ONNX's node tests: run scripts/test");
    let filter = std::env::var("DISTILL_ONNX_FILTER").unwrap_or_default();
    let mut cases: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    cases.retain(|p| p.join("model.onnx").is_file() && p.to_string_lossy().contains(&filter));
    cases.sort();
    cases
}

/// Every case by the routes, on all cores: case and route → why it failed.
pub(super) fn run_all(
    cases: &[PathBuf],
    routes: &[Route],
    tolerance: fn(&str) -> Tolerance,
) -> BTreeMap<(String, Route), String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = case.file_name().unwrap().to_string_lossy().into_owned();
                    for (route, outcome) in run_case(case, routes, tolerance(&name)) {
                        if let Err(why) = outcome {
                            failures.lock().unwrap().insert((name.clone(), route), why);
                        }
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

/// Cases that are expected to fail: case, route, reason.
fn expectations() -> BTreeSet<(String, String)> {
    let path = crate::common::root().join("tests/conformance/onnx-expectations.tsv");
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|line| {
            let mut fields = line.split('\t');
            let (case, route, reason) = (
                fields.next().unwrap(),
                fields.next().unwrap(),
                fields.next().unwrap_or(""),
            );
            assert!(!reason.is_empty(), "`{line}` has no reason");
            (case.to_owned(), route.to_owned())
        })
        .collect()
}

fn judge(routes: &[Route]) {
    let cases = cases();
    // All that the pinned wheel carries, unless a filter was asked for: fewer would pass by absence.
    let filtered = std::env::var_os("DISTILL_ONNX_FILTER").is_some();
    assert!(cases.len() == 1615 || filtered, "{}", cases.len());
    let failures = run_all(&cases, routes, |_| ONNX);
    for &route in routes {
        let failed = failures.keys().filter(|(_, r)| *r == route).count();
        println!(
            "{}: {} of {} agree",
            route.name(),
            cases.len() - failed,
            cases.len()
        );
    }
    if let Some(path) = std::env::var_os("DISTILL_ONNX_REPORT") {
        let lines: Vec<String> = failures
            .iter()
            .map(|((case, route), why)| {
                format!(
                    "{case}\t{}\t{}\n",
                    route.name(),
                    why.replace(['\n', '\t'], " ")
                )
            })
            .collect();
        fs::write(path, lines.concat()).unwrap();
    }
    let expected = expectations();
    let names: BTreeSet<String> = cases
        .iter()
        .map(|c| c.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut wrong = Vec::new();
    for ((case, route), why) in &failures {
        if !expected.contains(&(case.clone(), route.name().to_owned())) {
            wrong.push(format!("{case} fails on {}: {why}", route.name()));
        }
    }
    for (case, route) in &expected {
        let runs = routes.iter().any(|r| r.name() == route) && names.contains(case);
        let failed = failures.keys().any(|(c, r)| c == case && r.name() == route);
        if runs && !failed {
            wrong.push(format!(
                "{case} agrees on {route} after all: strike it from the expectations"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} surprises:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
#[ignore = "needs ONNX's node tests: run scripts/test"]
fn node_tests_in_the_interpreter() {
    judge(&[Route::Interpreter]);
}

#[test]
#[ignore = "needs ONNX's node tests: run scripts/test"]
fn node_tests_through_core_ml() {
    judge(&[Route::Coreml]);
}

#[cfg(feature = "ort")]
#[test]
#[ignore = "needs ONNX's node tests and ONNX Runtime: run scripts/test"]
fn node_tests_through_onnx() {
    judge(&[Route::Onnx]);
}

/// coremltools' own loader infers every type again. Every fourth case, or all of them where `DISTILL_ONNX_PACKAGES=all` asks for it.
#[test]
#[ignore = "needs ONNX's node tests and the judges: run scripts/test"]
fn written_packages_load_in_coremltools() {
    let all = std::env::var("DISTILL_ONNX_PACKAGES").is_ok_and(|v| v == "all");
    let cases: Vec<PathBuf> = cases()
        .into_iter()
        .step_by(if all { 1 } else { 4 })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let (next, written) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let write = |case: &Path| -> std::result::Result<(), String> {
        let (module, _) = import(&load(case)?, ReadOptions::default())?;
        let name = case.file_name().unwrap().to_string_lossy();
        let path = folder.path().join(format!("{name}.mlpackage"));
        let options = coreml::WriteOptions {
            deployment_target: coreml::DeploymentTarget::IOS18,
            ..coreml::WriteOptions::default()
        };
        text(coreml::write(&module, &path, &options)).map(|_| ())
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // What cannot be written is the business of the test that counts it.
                    if catch_unwind(AssertUnwindSafe(|| write(case))).is_ok_and(|w| w.is_ok()) {
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let written = written.into_inner();
    println!("{written} packages of {} cases", cases.len());
    let filtered = std::env::var_os("DISTILL_ONNX_FILTER").is_some();
    assert!(filtered || written * 10 >= cases.len() * 9, "{written}");
    crate::common::judge("check_mlpackage.py", &[folder.path()]);
}
