//! Apple's own operation tests (coremltools) as a folder of cases: model, inputs, expected outputs. Each is run three ways: by the interpreter,
//! through a written ONNX file in ONNX Runtime, and by the interpreter again from a package that was written and read back.
//!
//! `DISTILL_MIL_CORPUS` names the folder. Which cases do not agree, and why, is in `mil-expectations.tsv`; one that agrees after all fails too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use distill_convert::coreml::{self, Package};
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::ir::Module;
use distill_convert::onnx;
use distill_convert::runtime::Session;
use distill_convert::source::read_tensors;
use distill_convert::tensor::{DType, NamedTensors, Tensor};
use rayon::prelude::*;
use serde_json::Value;

/// How a case is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Route {
    Interpreter,
    Onnx,
    Rewritten,
}

impl Route {
    fn name(self) -> &'static str {
        match self {
            Route::Interpreter => "interpreter",
            Route::Onnx => "onnx",
            Route::Rewritten => "rewritten",
        }
    }
}

/// A case that does not agree.
#[derive(Clone, Debug, PartialEq)]
struct Miss {
    why: String,
    /// The largest difference all the same, if there were values to compare.
    difference: Option<f64>,
}

impl From<String> for Miss {
    fn from(why: String) -> Miss {
        Miss {
            why,
            difference: None,
        }
    }
}

/// The largest difference, relative to the largest expected value, of a case that agrees.
type Outcome = Result<f64, Miss>;

/// The largest difference, whether the case agrees or not.
fn difference(outcome: &Outcome) -> Option<f64> {
    match outcome {
        Ok(found) => Some(*found),
        Err(miss) => miss.difference,
    }
}

struct Case {
    /// Random numbers, loose tolerances and what Apple's own runtime fails are not counted.
    counted: bool,
    folder: PathBuf,
    id: String,
    meta: Value,
}

impl Case {
    fn load(folder: PathBuf) -> Case {
        let meta = fs::read(folder.join("meta.json")).unwrap();
        let suite = folder.parent().unwrap().file_name().unwrap();
        let name = folder.file_name().unwrap();
        Case {
            counted: true,
            id: format!("{}/{}", suite.to_str().unwrap(), name.to_str().unwrap()),
            meta: serde_json::from_slice(&meta).unwrap(),
            folder,
        }
    }

    fn halves(&self) -> bool {
        self.meta["uses_fp16"] == true
    }

    fn run(&self, route: Route) -> Outcome {
        let text = |e: distill_convert::error::Error| {
            e.to_string()
                .replace(&format!("{}/model.mlmodel: ", self.folder.display()), "")
        };
        let model = self.folder.join("model.mlmodel");
        let package = match (coreml::read(&model), self.shapes()) {
            (Ok(package), _) => package,
            // Some programs can only be read for the shapes at hand.
            (Err(_), Some(shapes)) => {
                coreml::read_for_shapes(&model, None, &shapes).map_err(text)?
            }
            (Err(e), None) => return Err(text(e).into()),
        };
        match route {
            Route::Interpreter => self.interpret(&package.module),
            Route::Onnx => {
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("model.onnx");
                onnx::write(&package.module, &file, &onnx::WriteOptions::default())
                    .map_err(|e| format!("write: {}", text(e)))?;
                let library =
                    distill_convert::runtime::library::find(None).map_err(|e| e.to_string())?;
                let session = distill_convert::runtime::ort::OrtSession::open(&library.path, &file)
                    .map_err(|e| format!("open: {}", text(e)))?;
                self.compare(&package.module, &|inputs| session.run(inputs).map_err(text))
            }
            Route::Rewritten => {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("model.mlpackage");
                let again = rewrite(&package, &path).map_err(|e| format!("write: {}", text(e)))?;
                self.interpret(&again)
            }
        }
    }

    /// The shapes of the inputs.
    fn shapes(&self) -> Option<BTreeMap<String, Vec<usize>>> {
        let given = read_tensors(&self.folder.join("inputs.npz")).ok()?;
        let shapes = given.iter().map(|(n, t)| (n.clone(), t.shape().to_vec()));
        Some(shapes.collect())
    }

    /// In single precision and, for programs in half precision, with every result rounded: expectations come from either side.
    fn interpret(&self, module: &Module) -> Outcome {
        let run = |mode| {
            let interpreter = Interpreter::new(module, mode).map_err(|e| e.to_string())?;
            self.compare(module, &|inputs| {
                interpreter
                    .run(inputs, None)
                    .map_err(|e| format!("run: {e}"))
            })
        };
        match (run(Mode::F32), self.halves()) {
            (Ok(found), true) => Ok(run(Mode::F16).map_or(found, |other| found.min(other))),
            (Err(miss), true) => run(Mode::F16).map_err(|other| Miss {
                difference: match (miss.difference, other.difference) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                },
                why: miss.why,
            }),
            (other, false) => other,
        }
    }

    fn compare(
        &self,
        module: &Module,
        run: &dyn Fn(&NamedTensors) -> Result<NamedTensors, String>,
    ) -> Outcome {
        let function = module.main().unwrap();
        let mut states: NamedTensors = function
            .states
            .iter()
            .map(|s| {
                let ty = function.ty(s.param);
                let shape = ty.known_shape().unwrap();
                let zeros = vec![0.0; shape.iter().product()];
                let zeros = Tensor::f32(shape, zeros).unwrap().cast(ty.dtype);
                (function.value(s.param).name.clone(), zeros)
            })
            .collect();
        let mut worst = 0.0_f64;
        for step in 0..self.meta["steps"].as_u64().unwrap_or(1) {
            let file = |kind: &str| match step {
                0 => self.folder.join(format!("{kind}.npz")),
                n => self.folder.join(format!("{kind}.{n}.npz")),
            };
            let given = read_tensors(&file("inputs")).map_err(|e| Miss::from(e.to_string()))?;
            let expected = file("expected");
            let shape_only = self.meta["shape_only"] == true || !expected.exists();
            let mut inputs = states.clone();
            for p in &function.params {
                let value = function.value(p.value);
                if states.contains_key(&value.name) {
                    continue;
                }
                let Some(mut tensor) = given.get(&value.name).cloned() else {
                    return Err(format!("the case has no input `{}`", value.name).into());
                };
                if value.ty.rank() == 0 {
                    tensor = tensor.reshaped(vec![]).unwrap();
                }
                inputs.insert(value.name.clone(), tensor);
            }
            let outputs = run(&inputs)?;
            for s in &function.states {
                let name = function.value(s.param).name.clone();
                states.insert(name, outputs[&s.output].clone());
            }
            if shape_only {
                continue;
            }
            let expected = read_tensors(&expected).map_err(|e| Miss::from(e.to_string()))?;
            worst = worst.max(self.judge(&outputs, &expected)?);
        }
        Ok(worst)
    }

    fn judge(&self, outputs: &NamedTensors, expected: &NamedTensors) -> Outcome {
        let tolerance = |key: &str| self.meta[key].as_f64().unwrap();
        let mut worst = 0.0_f64;
        let mut missed: Option<String> = None;
        for (name, want) in expected {
            let Some(got) = outputs.get(name) else {
                return Err(format!("no output `{name}`").into());
            };
            // Kept unrounded inside; an output is what its type can hold.
            let got = &if got.dtype() == DType::F16 {
                got.cast(DType::F32).cast(DType::F16)
            } else {
                got.clone()
            };
            let found = compare(
                got,
                want,
                tolerance("rtol_effective"),
                tolerance("atol_effective"),
            );
            if let Err(miss) = &found {
                missed.get_or_insert_with(|| format!("`{name}`: {}", miss.why));
            }
            match difference(&found) {
                Some(difference) => worst = worst.max(difference),
                None => worst = f64::INFINITY,
            }
        }
        assert!(!expected.is_empty());
        match missed {
            None => Ok(worst),
            Some(why) => Err(Miss {
                why,
                difference: Some(worst).filter(|d| d.is_finite()),
            }),
        }
    }
}

fn rewrite(package: &Package, path: &Path) -> Result<Module, distill_convert::error::Error> {
    let options = coreml::WriteOptions {
        deployment_target: coreml::DeploymentTarget::IOS18,
        ..coreml::WriteOptions::default()
    };
    coreml::write(&package.module, path, &options)?;
    Ok(coreml::read(path)?.module)
}

fn compare(got: &Tensor, want: &Tensor, rtol: f64, atol: f64) -> Outcome {
    let scalar = |s: &[usize]| s.iter().all(|&d| d == 1) && s.len() <= 1;
    if got.shape() != want.shape() && !(scalar(got.shape()) && scalar(want.shape())) {
        let (got, want) = (got.shape(), want.shape());
        return Err(format!("shape {got:?}, expected {want:?}").into());
    }
    let (mut largest, mut why) = (0.0_f64, None);
    for (i, (a, b)) in got.to_f64().into_iter().zip(want.to_f64()).enumerate() {
        if a == b || (a.is_nan() && b.is_nan()) {
            continue;
        }
        let apart = (a - b).abs();
        if apart.is_nan() || apart > atol + rtol * b.abs() {
            why.get_or_insert_with(|| format!("element {i} is {a}, expected {b}"));
        }
        largest = if apart.is_nan() {
            f64::INFINITY
        } else {
            largest.max(apart)
        };
    }
    let finite = want.to_f64().into_iter().filter(|x| x.is_finite());
    let scale = finite.fold(0.0_f64, |m, x| m.max(x.abs()));
    let difference = if largest == 0.0 { 0.0 } else { largest / scale };
    match why {
        None => Ok(difference),
        Some(why) => Err(Miss {
            why,
            difference: Some(difference).filter(|d| d.is_finite()),
        }),
    }
}

fn cases(corpus: &Path) -> Vec<Case> {
    let mut out = Vec::new();
    for suite in fs::read_dir(corpus).unwrap().map(|e| e.unwrap().path()) {
        if suite.is_dir() {
            out.extend(
                fs::read_dir(suite)
                    .unwrap()
                    .map(|e| e.unwrap().path())
                    .filter(|p| p.join("meta.json").exists())
                    .map(Case::load),
            );
        }
    }
    out.sort_by(|a, b| a.id.cmp(&b.id));
    let index = fs::read_to_string(corpus.join("index.tsv")).unwrap();
    let mut lines = index.lines().map(|l| l.split('\t').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
    let flags = ["random_op", "loose_tol", "apple_xfail"].map(column);
    let left_out: Vec<String> = lines
        .filter(|l| flags.iter().any(|&f| l[f] == "1"))
        .map(|l| l[0].to_owned())
        .collect();
    for case in &mut out {
        case.counted = !left_out.contains(&case.id);
    }
    out
}

/// The cases of a route that are known not to agree, with their reasons.
fn known(route: Route) -> BTreeMap<&'static str, &'static str> {
    let mut out = BTreeMap::new();
    for line in include_str!("mil-expectations.tsv").lines().skip(1) {
        let [of, id, reason] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        assert!(!reason.is_empty(), "{line}");
        if of == route.name() {
            out.insert(id, reason);
        }
    }
    out
}

/// What came of a folder of cases.
struct Tally {
    report: String,
    /// Cases that end otherwise than is known.
    surprises: Vec<String>,
    /// Share of the counted cases that agree.
    share: f64,
    /// Share of those in half precision that are within 5e-3 of the largest value.
    close: f64,
    /// Share of those in half precision that are, and agree.
    both: f64,
}

fn tally(route: Route, corpus: &Path) -> Tally {
    let filter = std::env::var("DISTILL_MIL_FILTER").unwrap_or_default();
    let cases = cases(corpus);
    let cases: Vec<&Case> = cases.iter().filter(|c| c.id.contains(&filter)).collect();
    assert!(!cases.is_empty(), "no case in {}", corpus.display());
    let results: Vec<Outcome> = cases
        .par_iter()
        .map(|case| {
            let run = std::panic::AssertUnwindSafe(|| case.run(route));
            std::panic::catch_unwind(run).unwrap_or_else(|_| Err("panic".to_owned().into()))
        })
        .collect();
    let known = known(route);
    let (mut right, mut counted) = (0_u32, 0_u32);
    let (mut halves, mut close, mut both) = (0_u32, 0_u32, 0_u32);
    let mut surprises = Vec::new();
    let mut lines = Vec::new();
    for (case, result) in cases.iter().zip(&results) {
        if case.counted {
            counted += 1;
            right += u32::from(result.is_ok());
            if case.halves() {
                halves += 1;
                let is_close = difference(result).is_some_and(|d| d <= 5e-3);
                close += u32::from(is_close);
                both += u32::from(is_close && result.is_ok());
            }
        }
        lines.push(match result {
            Ok(worst) => format!("{}\tagrees\t{worst:.3e}", case.id),
            Err(miss) => {
                let apart = miss.difference.map(|d| format!("\t{d:.3e}"));
                let why = miss.why.replace('\n', " ");
                format!("{}\tdiffers\t{why}{}", case.id, apart.unwrap_or_default())
            }
        });
        match (result, known.get(case.id.as_str())) {
            (Err(_), Some(_)) | (Ok(_), None) => {}
            (Ok(_), Some(_)) => surprises.push(format!("{}: was expected to differ", case.id)),
            (Err(miss), None) => surprises.push(format!("{}: {}", case.id, miss.why)),
        }
    }
    let report = format!(
        "{}: {right} of {counted} counted cases agree; of {halves} in half precision {close} to 5e-3, {both} to their own tolerance too",
        route.name()
    );
    if let Ok(folder) = std::env::var("DISTILL_MIL_REPORT") {
        let text = format!("{report}\n{}\n", lines.join("\n"));
        fs::write(Path::new(&folder).join(route.name()), text).unwrap();
    }
    let share = |n: u32, of: u32| f64::from(n) / f64::from(of.max(1));
    Tally {
        report,
        surprises,
        share: share(right, counted),
        close: share(close, halves),
        both: share(both, halves),
    }
}

fn corpus() -> PathBuf {
    PathBuf::from(std::env::var("DISTILL_MIL_CORPUS").expect("DISTILL_MIL_CORPUS"))
}

fn small() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mil")
}

/// One small case per operation and opset is part of the project.
#[test]
fn every_operation_of_every_opset_agrees() {
    all_agree(Route::Interpreter, &small());
}

/// Inputs whose sizes look alike and are not: what is written for all sizes computes the same where they differ.
#[test]
#[ignore = "needs ONNX Runtime: run scripts/test"]
fn sizes_that_only_look_alike_stay_apart() {
    for name in ["Meshgrid.meshgrid", "is_causal_flag"] {
        let cases = cases(&small());
        let case = cases.iter().find(|c| c.id.contains(name)).unwrap();
        for route in [Route::Onnx, Route::Rewritten] {
            let outcome = case.run(route);
            assert!(outcome.is_ok(), "{} {outcome:?}", route.name());
        }
    }
}

/// Parameters that coremltools' own tests leave out: all of them agree, on this route.
fn options_agree(route: Route) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mil-options");
    all_agree(route, &corpus);
}

/// All cases but those that are known not to agree on this route.
fn all_agree(route: Route, corpus: &Path) {
    let tally = tally(route, corpus);
    assert!(
        tally.surprises.is_empty(),
        "{}\n{}",
        tally.report,
        tally.surprises.join("\n")
    );
}

#[test]
fn options_of_operations_agree() {
    options_agree(Route::Interpreter);
}

#[test]
fn options_of_operations_agree_when_written_again() {
    options_agree(Route::Rewritten);
}

#[test]
#[ignore = "needs ONNX Runtime: run scripts/test"]
fn options_of_operations_agree_through_onnx() {
    options_agree(Route::Onnx);
}

#[test]
#[ignore = "needs the corpus of coremltools' operation tests: DISTILL_MIL_CORPUS"]
fn cases_of_coremltools_agree() {
    let tally = tally(Route::Interpreter, &corpus());
    let Tally { report, .. } = &tally;
    assert!(
        tally.surprises.is_empty(),
        "{report}\n{}",
        tally.surprises.join("\n")
    );
    assert!(tally.share >= 0.98 && tally.close >= 0.98, "{report}");
    assert!(tally.both >= 0.97, "{report}");
}

/// The share grows with the operations that are written; fewer means that one was lost.
#[test]
#[ignore = "needs the corpus of coremltools' operation tests: DISTILL_MIL_CORPUS, and ONNX Runtime"]
fn cases_of_coremltools_agree_through_onnx() {
    let tally = tally(Route::Onnx, &corpus());
    assert!(tally.share >= ONNX_SHARE, "{}", tally.report);
}

/// As above.
#[test]
#[ignore = "needs the corpus of coremltools' operation tests: DISTILL_MIL_CORPUS"]
fn cases_of_coremltools_agree_when_written_again() {
    let tally = tally(Route::Rewritten, &corpus());
    assert!(tally.share >= REWRITTEN_SHARE, "{}", tally.report);
}

const ONNX_SHARE: f64 = 0.98;
const REWRITTEN_SHARE: f64 = 0.98;

/// Spoiled models: every change of a weight shows, and no change makes the reader or the interpreter panic.
#[test]
fn spoiled_models_are_refused_or_differ() {
    let folder = small();
    let cases = cases(&folder);
    let case = cases
        .iter()
        .filter(|c| c.folder.join("weight.bin").exists() && !c.halves())
        .find(|c| c.run(Route::Interpreter) == Ok(0.0) || c.run(Route::Interpreter).is_ok())
        .unwrap();
    let model = fs::read(case.folder.join("model.mlmodel")).unwrap();
    let inputs = read_tensors(&case.folder.join("inputs.npz")).unwrap();
    let mut seed = 1_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let (mut refused, mut ran) = (0, 0);
    for round in 0..200 {
        let mut spoiled = model.clone();
        match round % 4 {
            0 => spoiled.truncate(random(model.len())),
            1 => {
                let at = random(model.len());
                spoiled.remove(at);
            }
            _ => {
                let at = random(model.len());
                spoiled[at] ^= 1 << random(8);
            }
        }
        let to = tempfile::tempdir().unwrap();
        fs::write(to.path().join("model.mlmodel"), spoiled).unwrap();
        fs::copy(case.folder.join("weight.bin"), to.path().join("weight.bin")).unwrap();
        let read = coreml::read(&to.path().join("model.mlmodel"));
        let outcome = read.and_then(|p| {
            let interpreter = Interpreter::new(&p.module, Mode::F32)?;
            interpreter.run(&inputs, None)
        });
        match outcome {
            Ok(_) => ran += 1,
            Err(e) => {
                assert!(!e.to_string().is_empty());
                refused += 1;
            }
        }
    }
    assert_eq!(refused + ran, 200);
    assert!(refused > 100, "only {refused} of 200 were refused");
}
