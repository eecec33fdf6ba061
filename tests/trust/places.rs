//! Outputs in the place of what is read, or of each other, are refused before any work; the message names both flags.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::common::{TinyModel, run_json};

/// Every file with its bytes, and every folder.
fn all(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = distill_convert::files::files_below(folder).unwrap();
    let bytes = files
        .into_iter()
        .map(|path| (path.clone(), fs::read(&path).unwrap()));
    bytes.collect()
}

#[test]
fn outputs_that_meet_anything_are_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    TinyModel::new().write(at);
    fs::create_dir(at.join("w")).unwrap();
    // Sources and outputs that this program wrote, and would replace without asking.
    for (target, out) in [("onnx", "a.onnx"), ("coreml", "a.mlpackage")] {
        let made = [
            "--target",
            target,
            "model",
            "-o",
            out,
            "--seq",
            "4",
            "--no-verify",
        ];
        assert_eq!(run_json(at, &made).0, 0);
    }
    let ids = distill_convert::tensor::Tensor::i64(vec![1, 4], vec![1, 2, 3, 4]).unwrap();
    let ids = [("input_ids".to_owned(), ids)].into_iter().collect();
    for name in ["ids.npz", "a.mlpackage/ids.npz", "ids.2.npz"] {
        distill_convert::source::write_tensors(&at.join(name), &ids).unwrap();
    }
    fs::write(
        at.join("task.toml"),
        "name = \"t\"\ntokenizer = \"tok.json\"\n",
    )
    .unwrap();
    fs::write(
        at.join("w/x.json"),
        r#"{"engines": 0, "failures": 0, "gates": 0}"#,
    )
    .unwrap();
    let before = all(at);
    let convert = |rest: &[&'static str]| [&["--target", "onnx"][..], rest].concat();
    let cases: Vec<(Vec<&str>, &str, &str)> = vec![
        (convert(&["a.onnx", "-o", "a.onnx"]), "`-o`", "MODEL"),
        (convert(&["a.onnx", "-o", "w/../a.onnx"]), "`-o`", "MODEL"),
        (
            vec!["--target", "coreml", "a.mlpackage", "-o", "a.mlpackage"],
            "`-o`",
            "MODEL",
        ),
        (
            convert(&["a.mlpackage", "-o", "a.mlpackage/m.onnx"]),
            "`-o`",
            "MODEL",
        ),
        (
            vec!["--target", "coreml", "model", "-o", "model"],
            "`-o`",
            "MODEL",
        ),
        (
            convert(&["model", "-o", "m.onnx", "--report", "m.onnx"]),
            "`--report`",
            "`-o`",
        ),
        (
            convert(&["model", "-o", "m.onnx", "--report", "m.onnx.data"]),
            "`--report`",
            "the `.data` file of `-o`",
        ),
        (
            vec![
                "--target",
                "coreml",
                "model",
                "-o",
                "m.mlpackage",
                "--report",
                "m.mlpackage/r.json",
            ],
            "`--report`",
            "`-o`",
        ),
        (
            convert(&["model", "-o", "m.onnx", "--provenance", "m.onnx"]),
            "`--provenance`",
            "`-o`",
        ),
        (
            convert(&[
                "model",
                "-o",
                "m.onnx",
                "--provenance",
                "r.json",
                "--report",
                "r.json",
            ]),
            "`--report`",
            "`--provenance`",
        ),
        (
            convert(&[
                "model",
                "-o",
                "m.onnx",
                "--provenance",
                "auto",
                "--report",
                "m.onnx.intoto.json",
            ]),
            "`--report`",
            "`--provenance auto`",
        ),
        (
            convert(&[
                "model",
                "-o",
                "m.onnx",
                "--task",
                "task.toml",
                "--predictions",
                "p",
                "--report",
                "p/source_predictions.json",
            ]),
            "`source_predictions.json` of `--predictions`",
            "`--report`",
        ),
        (
            convert(&[
                "model",
                "-o",
                "m.onnx",
                "--task",
                "task.toml",
                "--predictions",
                "p",
                "--provenance",
                "p/comparison_metrics.json",
            ]),
            "`comparison_metrics.json` of `--predictions`",
            "`--provenance`",
        ),
        (
            convert(&[
                "model",
                "-o",
                "m.onnx",
                "--task",
                "task.toml",
                "--predictions",
                "m.onnx",
            ]),
            "`source_predictions.json` of `--predictions`",
            "`-o`",
        ),
        (
            convert(&[
                "model",
                "-o",
                "m.onnx",
                "--task",
                "task.toml",
                "--report",
                "tok.json",
            ]),
            "`--report`",
            "the tokenizer of `--task`",
        ),
        (
            convert(&[
                "model", "-o", "m.onnx", "--inputs", "ids.npz", "--report", "ids.npz",
            ]),
            "`--report`",
            "`--inputs`",
        ),
        (
            convert(&[
                "model",
                "-o",
                "m.onnx",
                "--reference",
                "ids.npz",
                "--report",
                "ids.npz",
            ]),
            "`--report`",
            "`--reference`",
        ),
        (
            vec![
                "--target",
                "coreml",
                "model",
                "-o",
                "a.mlpackage",
                "--inputs",
                "a.mlpackage/ids.npz",
            ],
            "`-o`",
            "`--inputs`",
        ),
        (
            vec![
                "--target",
                "coreml,onnx",
                "model",
                "-o",
                "out",
                "--report",
                "out/model.onnx",
            ],
            "`--report`",
            "`-o` (of `--target onnx`)",
        ),
        (
            vec!["verify", "model", "a.onnx", "--report", "a.onnx"],
            "`--report`",
            "ARTIFACT",
        ),
        (
            vec![
                "verify",
                "model",
                "a.mlpackage",
                "--report",
                "a.mlpackage/r.json",
            ],
            "`--report`",
            "ARTIFACT",
        ),
        (
            vec!["verify", "a.onnx", "a.mlpackage", "--report", "a.onnx"],
            "`--report`",
            "SOURCE",
        ),
        (
            vec!["run", "model", "--inputs", "ids.npz", "-o", "ids.npz"],
            "`-o`",
            "`--inputs`",
        ),
        (
            vec![
                "run",
                "a.mlpackage",
                "--inputs",
                "ids.npz",
                "--steps",
                "ids.2.npz",
                "-o",
                "ids.2.npz",
            ],
            "`-o`",
            "`--steps`",
        ),
        (
            vec!["run", "a.onnx", "--inputs", "ids.npz", "-o", "a.onnx"],
            "`-o`",
            "MODEL",
        ),
        (vec!["import", "model", "-o", "model"], "`-o`", "CHECKPOINT"),
        (
            vec!["import", "model/model.safetensors", "-o", "model"],
            "`-o`",
            "CHECKPOINT",
        ),
        (
            vec!["import", "model", "-o", "i", "--config", "i/c.json"],
            "`-o`",
            "`--config`",
        ),
    ];
    for (arguments, one, other) in cases {
        let (code, document) = run_json(at, &arguments);
        let error = &document["error"];
        assert_eq!(
            (code, &error["code"]),
            (2, &json!("outputs_meet")),
            "{arguments:?}: {document:#}"
        );
        let message = error["message"].as_str().unwrap();
        let expected =
            format!("{one} and {other} name the same place, or one stands inside the other");
        assert!(message.ends_with(&expected), "{arguments:?}: {message}");
        assert_eq!(all(at), before, "{arguments:?}");
    }
    // Beside the files of a model folder others may be written.
    let inside = [
        "--target",
        "onnx",
        "model",
        "-o",
        "model/m.onnx",
        "--no-verify",
        "--report",
        "model/r.json",
    ];
    assert_eq!(run_json(at, &inside).0, 0);
}
