//! Outputs in the place of what is read, or of each other, are refused before any work; the message names both flags.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::common::{TinyModel, run_json, words};

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
        let made = format!("--target {target} model -o {out} --seq 4 --no-verify");
        assert_eq!(run_json(at, &words(&made)).0, 0);
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
    let cases = [
        ("--target onnx a.onnx -o a.onnx", "`-o`", "MODEL"),
        ("--target onnx a.onnx -o w/../a.onnx", "`-o`", "MODEL"),
        (
            "--target coreml a.mlpackage -o a.mlpackage",
            "`-o`",
            "MODEL",
        ),
        (
            "--target onnx a.mlpackage -o a.mlpackage/m.onnx",
            "`-o`",
            "MODEL",
        ),
        ("--target coreml model -o model", "`-o`", "MODEL"),
        (
            "--target onnx model -o m.onnx --report m.onnx",
            "`--report`",
            "`-o`",
        ),
        (
            "--target onnx model -o m.onnx --report m.onnx.data",
            "`--report`",
            "the `.data` file of `-o`",
        ),
        (
            "--target coreml model -o m.mlpackage --report m.mlpackage/r.json",
            "`--report`",
            "`-o`",
        ),
        (
            "--target onnx model -o m.onnx --provenance m.onnx",
            "`--provenance`",
            "`-o`",
        ),
        (
            "--target onnx model -o m.onnx --provenance r.json --report r.json",
            "`--report`",
            "`--provenance`",
        ),
        (
            "--target onnx model -o m.onnx --provenance auto --report m.onnx.intoto.json",
            "`--report`",
            "`--provenance auto`",
        ),
        (
            "--target onnx model -o m.onnx --task task.toml --predictions p --report p/source_predictions.json",
            "`source_predictions.json` of `--predictions`",
            "`--report`",
        ),
        (
            "--target onnx model -o m.onnx --task task.toml --predictions p --provenance p/comparison_metrics.json",
            "`comparison_metrics.json` of `--predictions`",
            "`--provenance`",
        ),
        (
            "--target onnx model -o m.onnx --task task.toml --predictions m.onnx",
            "`source_predictions.json` of `--predictions`",
            "`-o`",
        ),
        (
            "--target onnx model -o m.onnx --task task.toml --report tok.json",
            "`--report`",
            "the tokenizer of `--task`",
        ),
        (
            "--target onnx model -o m.onnx --inputs ids.npz --report ids.npz",
            "`--report`",
            "`--inputs`",
        ),
        (
            "--target onnx model -o m.onnx --reference ids.npz --report ids.npz",
            "`--report`",
            "`--reference`",
        ),
        (
            "--target coreml model -o a.mlpackage --inputs a.mlpackage/ids.npz",
            "`-o`",
            "`--inputs`",
        ),
        (
            "--target coreml,onnx model -o out --report out/model.onnx",
            "`--report`",
            "`-o` (of `--target onnx`)",
        ),
        (
            "verify model a.onnx --report a.onnx",
            "`--report`",
            "ARTIFACT",
        ),
        (
            "verify model a.mlpackage --report a.mlpackage/r.json",
            "`--report`",
            "ARTIFACT",
        ),
        (
            "verify a.onnx a.mlpackage --report a.onnx",
            "`--report`",
            "SOURCE",
        ),
        (
            "run model --inputs ids.npz -o ids.npz",
            "`-o`",
            "`--inputs`",
        ),
        (
            "run a.mlpackage --inputs ids.npz --steps ids.2.npz -o ids.2.npz",
            "`-o`",
            "`--steps`",
        ),
        ("run a.onnx --inputs ids.npz -o a.onnx", "`-o`", "MODEL"),
        ("import model -o model", "`-o`", "CHECKPOINT"),
        (
            "import model/model.safetensors -o model",
            "`-o`",
            "CHECKPOINT",
        ),
        ("import model -o i --config i/c.json", "`-o`", "`--config`"),
    ];
    for (arguments, one, other) in cases {
        let (code, document) = run_json(at, &words(arguments));
        let error = &document["error"];
        assert_eq!(
            (code, &error["code"]),
            (2, &json!("outputs_meet")),
            "{arguments}: {document:#}"
        );
        let message = error["message"].as_str().unwrap();
        let expected =
            format!("{one} and {other} name the same place, or one stands inside the other");
        assert!(message.ends_with(&expected), "{arguments}: {message}");
        assert_eq!(all(at), before, "{arguments}");
    }
    // Beside the files of a model folder others may be written.
    let inside = "--target onnx model -o model/m.onnx --no-verify --report model/r.json";
    assert_eq!(run_json(at, &words(inside)).0, 0);
}
