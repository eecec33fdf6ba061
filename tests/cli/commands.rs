//! Every subcommand on the shipped models.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::common::{TinyModel, entries, root, run, run_json};

fn ball() -> String {
    root().join("models/8ball").display().to_string()
}

#[test]
fn the_main_job_of_the_readme() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["--target", "coreml", &ball()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains("wrote 8ball.mlpackage") && text.contains("passed"),
        "{text}"
    );
    assert_eq!(entries(folder.path(), &[]), ["8ball.mlpackage"]);
}

#[test]
fn two_conversions_are_byte_identical_and_ours_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut digests = Vec::new();
    for _ in 0..2 {
        let (code, document) = run_json(
            folder.path(),
            &["--target", "coreml,onnx", &ball(), "-o", "out"],
        );
        assert_eq!(code, 0, "{document:#}");
        let package = folder
            .path()
            .join("out/8ball.mlpackage/Data/com.apple.CoreML");
        digests.push([
            fs::read(package.join("model.mlmodel")).unwrap(),
            fs::read(package.join("weights/weight.bin")).unwrap(),
            fs::read(folder.path().join("out/8ball.mlpackage/Manifest.json")).unwrap(),
            fs::read(folder.path().join("out/8ball.onnx")).unwrap(),
        ]);
    }
    assert!(digests[0] == digests[1]);
}

#[test]
fn a_core_ml_package_is_a_source_too() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::new().write(folder.path());
    let convert = |target: &str, model: &str, out: &str| {
        let (code, document) = run_json(
            folder.path(),
            &["--target", target, model, "-o", out, "--precision", "fp32"],
        );
        assert_eq!(code, 0, "{document:#}");
    };
    convert("coreml", "model", "a.mlpackage");
    convert("onnx", "a.mlpackage", "b.onnx");
    convert("coreml", "a.mlpackage", "c.mlpackage");
    let verify = |artifact: &str| run_json(folder.path(), &["verify", "a.mlpackage", artifact]).0;
    assert_eq!((verify("b.onnx"), verify("c.mlpackage")), (0, 0));
    // The sign of a weight in the middle of the file.
    let weights = folder
        .path()
        .join("c.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 8 * 4 + 3;
    bytes[middle] ^= 0x80;
    bytes[middle - 1] ^= 0x40;
    fs::write(&weights, bytes).unwrap();
    assert_eq!(verify("c.mlpackage"), 3);
}

#[test]
fn every_toy_keeps_its_answers() {
    for name in ["8ball", "binary", "ternary"] {
        let folder = tempfile::tempdir().unwrap();
        let model = root().join("models").join(name);
        let task = model.join("task.toml").display().to_string();
        let arguments = [
            "--target",
            "coreml,onnx",
            model.to_str().unwrap(),
            "-o",
            "out",
            "--task",
            &task,
            "--predictions",
            "p",
        ];
        let (code, document) = run_json(folder.path(), &arguments);
        assert_eq!(code, 0, "{document:#}");
        let artifacts = document["result"]["artifacts"].as_array().unwrap();
        assert_eq!(artifacts.len(), 2);
        for artifact in artifacts {
            // The size is known before the verdict is added to the metadata.
            let path = folder.path().join(artifact["path"].as_str().unwrap());
            let files = distill_convert::files::files_below(&path).unwrap();
            let bytes: u64 = files.iter().map(|f| fs::metadata(f).unwrap().len()).sum();
            let stated = artifact["bytes"].as_u64().unwrap();
            assert!(stated <= bytes && bytes < stated + 4096, "{stated} {bytes}");
        }
        assert_eq!(
            entries(&folder.path().join("p"), &[]),
            [
                "comparison_metrics.json",
                "coreml_predictions.json",
                "onnx_predictions.json",
                "source_predictions.json"
            ]
        );
        let read = |name: &str| -> serde_json::Value {
            let text = fs::read_to_string(folder.path().join("p").join(name)).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        let metrics = read("comparison_metrics.json");
        let pairs: Vec<&String> = metrics.as_object().unwrap().keys().collect();
        assert_eq!(pairs, ["source_vs_coreml", "source_vs_onnx"]);
        for (pair, figures) in metrics.as_object().unwrap() {
            assert_eq!(
                figures["exact_match_rate"],
                json!(1.0),
                "{pair}: {metrics:#}"
            );
            assert!(figures["mean_kl_divergence"].as_f64().unwrap() <= 1e-3);
            assert!(figures["mean_l2_drift"].is_f64());
        }
        // As the predecessor has them, one entry for every case.
        let task = distill_convert::verify::Task::load(&model.join("task.toml")).unwrap();
        for stage in ["source", "coreml", "onnx"] {
            let file = read(&format!("{stage}_predictions.json"));
            assert_eq!(file["backend"], stage);
            let name = Path::new(file["model"].as_str().unwrap())
                .file_name()
                .unwrap()
                .to_owned();
            assert!(
                name.to_str().unwrap().starts_with(name_of(&model)),
                "{name:?}"
            );
            let list = file["predictions"].as_array().unwrap();
            assert_eq!(list.len(), task.cases.len());
            for entry in list {
                assert!(entry.get("question").is_some(), "{entry}");
                for key in [
                    "predicted_class_id",
                    "predicted_class_name",
                    "predicted_answer",
                ] {
                    assert!(!entry[key].is_null(), "{key}: {entry}");
                }
                assert_eq!(
                    entry["class_probabilities"].as_array().unwrap().len(),
                    task.classes.len()
                );
            }
        }
    }
}

fn name_of(model: &Path) -> &str {
    model.file_name().unwrap().to_str().unwrap()
}

#[test]
fn verify_notices_a_flipped_weight_bit_and_swapped_weights() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        run_json(
            folder.path(),
            &["--target", "coreml", &ball(), "-o", "good.mlpackage"]
        )
        .0,
        0
    );
    assert_eq!(
        run_json(folder.path(), &["verify", &ball(), "good.mlpackage"]).0,
        0
    );
    let weights = folder
        .path()
        .join("good.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
    let mut bytes = fs::read(&weights).unwrap();
    // The exponent of one weight in the middle of the file.
    let at = (bytes.len() / 2) | 1;
    bytes[at] ^= 0x40;
    fs::write(&weights, bytes).unwrap();
    let (code, document) = run_json(folder.path(), &["verify", &ball(), "good.mlpackage"]);
    assert_eq!(code, 3, "{document:#}");
    assert_eq!(document["status"], "verification_failed");
}

/// Seeded places in `0..len`.
fn places(len: usize) -> impl Iterator<Item = (usize, u8)> {
    let mut state = 7u64;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(state >> 33).unwrap();
        (at % len, 1 << (state >> 24 & 7))
    })
}

/// Whatever a bit means: also the last one of a weight, which moves no output by as much as rounding does.
#[test]
fn every_flipped_bit_of_the_weights_is_reported() {
    const FLIPS: usize = 24;
    let folder = tempfile::tempdir().unwrap();
    let model = TinyModel::new();
    model.write(folder.path());
    let convert = |target: &str, precision: &str, out: &str| {
        let arguments = [
            "--target",
            target,
            "model",
            "--precision",
            precision,
            "-o",
            out,
        ];
        let (code, document) = run_json(folder.path(), &arguments);
        assert_eq!(code, 0, "{document:#}");
        let weights = &document["result"]["artifacts"][0]["verification"]["weights"]["compared"];
        assert_eq!(weights["differences"], json!([]), "{document:#}");
        assert!(weights["constants"].as_u64().unwrap() >= 12, "{document:#}");
    };
    convert("coreml", "fp16", "a.mlpackage");
    convert("onnx", "fp32", "a.onnx");
    let package = folder
        .path()
        .join("a.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
    let onnx = folder.path().join("a.onnx");
    let embeddings: Vec<u8> = model.tensors["model.embed_tokens.weight"]
        .1
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let bytes = fs::read(&onnx).unwrap();
    let found = bytes
        .windows(embeddings.len())
        .position(|w| w == embeddings);
    let blob = fs::read(&package).unwrap();
    for (artifact, file, start, len, part) in [
        // All of the weight file, its header and padding included.
        ("a.mlpackage", &package, 0, blob.len(), ""),
        (
            "a.onnx",
            &onnx,
            found.unwrap(),
            embeddings.len(),
            "`model.embed_tokens.weight`",
        ),
    ] {
        let good = fs::read(file).unwrap();
        for (at, bit) in places(len).take(FLIPS) {
            let mut bad = good.clone();
            bad[start + at] ^= bit;
            fs::write(file, bad).unwrap();
            let (code, document) = run_json(folder.path(), &["verify", "model", artifact]);
            let text = document.to_string();
            let is_named =
                text.contains("not what converting the source gives: ") && text.contains(part);
            assert!(
                code == 3 && is_named || code == 1 && part.is_empty(),
                "bit {bit:#x} at {at}: {code} {document:#}"
            );
        }
        fs::write(file, &good).unwrap();
        assert_eq!(run_json(folder.path(), &["verify", "model", artifact]).0, 0);
    }
}

#[test]
fn the_program_is_compared_with_a_fresh_conversion_too() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::new().write(folder.path());
    let convert = |out: &str, more: &[&str]| {
        let arguments = [
            &["--target", "coreml", "model", "--no-verify", "-o", out],
            more,
        ]
        .concat();
        assert_eq!(run_json(folder.path(), &arguments).0, 0);
    };
    let kept = [
        "--fp32-ops",
        "softmax,rms_norm",
        "--seq",
        "8",
        "--deployment-target",
        "iOS16",
        "--precision",
        "fp16",
    ];
    convert("a.mlpackage", &[]);
    convert("b.mlpackage", &kept);
    // The artifact says what it was made with.
    for artifact in ["a.mlpackage", "b.mlpackage"] {
        let (code, document) = run_json(folder.path(), &["verify", "model", artifact]);
        assert_eq!(code, 0, "{document:#}");
        let weights = &document["result"]["weights"]["compared"];
        assert_eq!(weights["differences"], json!([]), "{document:#}");
    }
    // The last bit of a number in the program.
    let path = folder
        .path()
        .join("a.mlpackage/Data/com.apple.CoreML/model.mlmodel");
    let mut bytes = fs::read(&path).unwrap();
    let epsilon = 1e-6f32.to_le_bytes();
    if let Some(at) = bytes.windows(4).position(|w| w == epsilon) {
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (code, document) = run_json(folder.path(), &["verify", "model", "a.mlpackage"]);
        assert_eq!(code, 3, "{document:#}");
        let text = document.to_string();
        assert!(
            text.contains("not what converting the source gives"),
            "{text}"
        );
    }
    let (code, document) = run_json(folder.path(), &["inspect", "b.mlpackage"]);
    assert_eq!(code, 0, "{document:#}");
    let options = &document["result"]["metadata"]["com.distill-convert.options"];
    assert!(
        options.as_str().unwrap().contains("\"precision\":\"fp16\""),
        "{document:#}"
    );
}

#[test]
fn references_in_batches_are_compared_and_none_is_left_unused() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::new().write(folder.path());
    let tensor = |shape: Vec<usize>, values: Vec<i64>| {
        distill_convert::tensor::Tensor::i64(shape, values).unwrap()
    };
    let ids = tensor(vec![2, 4], vec![3, 9, 1, 12, 5, 5, 2, 0]);
    let inputs = std::collections::BTreeMap::from([("input_ids".to_owned(), ids.clone())]);
    distill_convert::source::write_tensors(&folder.path().join("in.safetensors"), &inputs).unwrap();
    let made = run_json(
        folder.path(),
        &[
            "run",
            "model",
            "--inputs",
            "in.safetensors",
            "-o",
            "out.safetensors",
        ],
    );
    assert_eq!(made.0, 0, "{:#}", made.1);
    let outputs = distill_convert::source::read_tensors(&folder.path().join("out.safetensors"));
    let logits = outputs.unwrap()["logits"].clone();
    let reference = |logits, name: &str| {
        let file = std::collections::BTreeMap::from([
            ("case0.input.input_ids".to_owned(), ids.clone()),
            (format!("case0.output.{name}"), logits),
        ]);
        distill_convert::source::write_tensors(&folder.path().join("ref.safetensors"), &file)
            .unwrap();
    };
    let convert = |code: i32| {
        let _ = fs::remove_dir_all(folder.path().join("a.mlpackage"));
        let arguments = [
            "--target",
            "coreml",
            "model",
            "-o",
            "a.mlpackage",
            "--reference",
            "ref.safetensors",
        ];
        let found = run_json(folder.path(), &arguments);
        assert_eq!(found.0, code, "{:#}", found.1);
        found.1.to_string()
    };
    // The package takes one row; each row of the batch is a case.
    reference(logits.clone(), "logits");
    let text = convert(0);
    assert!(
        text.contains("case0[0..1]") && text.contains("case0[1..2]"),
        "{text}"
    );
    let mut values = logits.floats().unwrap().to_vec();
    let last = values.len() - 1;
    values[last] += 1.0;
    let wrong = distill_convert::tensor::Tensor::f32(logits.shape().to_vec(), values).unwrap();
    reference(wrong, "logits");
    convert(3);
    reference(logits, "scores");
    let text = convert(1);
    assert!(
        text.contains("has references for `scores`; the model gives `logits`"),
        "{text}"
    );
}

#[test]
fn ids_beyond_the_vocabulary_are_refused_for_every_engine() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::new().write(folder.path());
    let made = run_json(
        folder.path(),
        &["--target", "onnx", "model", "-o", "a.onnx"],
    );
    assert_eq!(made.0, 0, "{:#}", made.1);
    for id in [16, -1, 1 << 40] {
        let ids = distill_convert::tensor::Tensor::i64(vec![1, 3], vec![1, 2, id]).unwrap();
        let inputs = std::collections::BTreeMap::from([("input_ids".to_owned(), ids)]);
        distill_convert::source::write_tensors(&folder.path().join("in.safetensors"), &inputs)
            .unwrap();
        for model in ["model", "a.onnx"] {
            for engine in ["interpreter", "tract"] {
                let arguments = [
                    "run",
                    model,
                    "--inputs",
                    "in.safetensors",
                    "--runtime",
                    engine,
                ];
                let output = run(folder.path(), &arguments);
                let text = String::from_utf8_lossy(&output.stderr);
                assert_eq!(
                    output.status.code(),
                    Some(1),
                    "{model} {engine} {id}: {text}"
                );
                let line = format!("expected indices in 0..16, found {id} at [0, 2]");
                assert!(text.contains(&line) && !text.contains("panicked"), "{text}");
            }
        }
    }
}

#[test]
fn another_model_does_not_verify() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = TinyModel::new();
    model.write(folder.path());
    assert_eq!(
        run_json(
            folder.path(),
            &["--target", "onnx", "model", "-o", "a.onnx"]
        )
        .0,
        0
    );
    let swapped = model.tensors["model.layers.0.self_attn.k_proj.weight"].clone();
    let other = model
        .tensors
        .insert("model.layers.0.self_attn.v_proj.weight".into(), swapped)
        .unwrap();
    model
        .tensors
        .insert("model.layers.0.self_attn.k_proj.weight".into(), other);
    model.write(folder.path());
    assert_eq!(run_json(folder.path(), &["verify", "model", "a.onnx"]).0, 3);
}

#[test]
fn run_gives_the_reference_outputs_on_every_kind_of_model() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = std::collections::BTreeMap::from([(
        "input_ids".to_owned(),
        distill_convert::tensor::Tensor::i64(vec![1, 4], vec![3, 9, 1, 12]).unwrap(),
    )]);
    TinyModel::new().write(folder.path());
    distill_convert::source::write_tensors(&folder.path().join("in.safetensors"), &inputs).unwrap();
    let convert = [
        "--target",
        "coreml,onnx",
        "model",
        "-o",
        "out",
        "--seq",
        "4",
        "--precision",
        "fp32",
    ];
    assert_eq!(run_json(folder.path(), &convert).0, 0);
    let mut logits = Vec::new();
    for (model, out) in [
        ("model", "a.npz"),
        ("out/model.mlpackage", "b.safetensors"),
        ("out/model.onnx", "c.npz"),
    ] {
        let (code, document) = run_json(
            folder.path(),
            &["run", model, "--inputs", "in.safetensors", "-o", out],
        );
        assert_eq!(code, 0, "{document:#}");
        let outputs = distill_convert::source::read_tensors(&folder.path().join(out)).unwrap();
        logits.push(outputs["logits"].to_f64());
    }
    for other in &logits[1..] {
        assert_eq!(other.len(), 4 * 16);
        let worst = other
            .iter()
            .zip(&logits[0])
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(worst < 1e-5, "{worst}");
    }
}

#[test]
fn inspect_lock_and_doctor_answer_in_json() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::new().write(folder.path());
    assert_eq!(
        run_json(
            folder.path(),
            &["--target", "coreml,onnx", "model", "-o", "out"]
        )
        .0,
        0
    );
    let (code, source) = run_json(folder.path(), &["inspect", "model"]);
    assert_eq!(code, 0, "{source:#}");
    assert_eq!(source["result"]["parameters"], json!(760), "{source:#}");
    for artifact in ["out/model.mlpackage", "out/model.onnx"] {
        let (code, document) = run_json(folder.path(), &["inspect", artifact]);
        assert_eq!(code, 0, "{document:#}");
        assert!(document.to_string().contains("input_ids"), "{document:#}");
    }
    let (code, lock) = run_json(folder.path(), &["lock", "model"]);
    assert_eq!(
        (code, lock["result"]["files"].as_object().unwrap().len()),
        (0, 2)
    );
    assert_eq!(run_json(folder.path(), &["lock", "model", "--check"]).0, 0);
    let (code, doctor) = run_json(folder.path(), &["doctor"]);
    assert_eq!(code, 0);
    assert!(
        doctor["result"]["engines"].as_array().unwrap().len() >= 3,
        "{doctor:#}"
    );
}

#[test]
fn help_has_examples_and_version_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["convert", "verify", "run", "inspect", "lock"] {
        let output = run(folder.path(), &[command, "--help"]);
        assert!(output.status.success());
        assert!(
            String::from_utf8(output.stdout)
                .unwrap()
                .contains("Examples:"),
            "{command}"
        );
    }
    assert!(run(folder.path(), &["--version"]).status.success());
}
