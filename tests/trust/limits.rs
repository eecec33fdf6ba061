//! The caps: each refuses what is above it, names the way out, and can be raised; and no text from a file reaches a terminal as a command.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use distill_convert::limits;
use distill_convert::source::write_tensors;
use distill_convert::tensor::Tensor;
use serde_json::{Value, json};

use crate::common::{TinyModel, root, run, run_json};

fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::new().write(folder.path());
    folder
}

fn error(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let (code, document) = run_json(folder, arguments);
    (code, document["error"].clone())
}

#[test]
fn every_cap_refuses_what_is_above_it() {
    let folder = model();
    let ids = BTreeMap::from([
        (
            "input_ids".to_owned(),
            Tensor::i64(vec![1, 4], vec![1, 2, 3, 4]).unwrap(),
        ),
        (
            "attention_mask".to_owned(),
            Tensor::i64(vec![1, 4], vec![1; 4]).unwrap(),
        ),
    ]);
    write_tensors(&folder.path().join("in.npz"), &ids).unwrap();
    write_tensors(&folder.path().join("in.safetensors"), &ids).unwrap();
    let (code, document) = run_json(
        folder.path(),
        &["--target", "coreml", "model", "--no-verify"],
    );
    assert_eq!(code, 0, "{document:#}");
    let run_npz = ["run", "model", "--inputs", "in.npz", "-o", "out.npz"];
    let inspect = ["inspect", "model"];
    let package = ["inspect", "model.mlpackage"];
    let cases: &[(&str, &[&str], i32)] = &[
        ("header-bytes=100", &inspect, 4),
        ("tensors=5", &inspect, 4),
        ("side-file-bytes=100", &inspect, 4),
        ("json-values=5", &inspect, 4),
        ("rank=1", &inspect, 4),
        ("read-bytes=1000", &inspect, 4),
        ("archive-entries=1", &run_npz, 4),
        ("archive-bytes=40", &run_npz, 4),
        ("npy-header-bytes=10", &run_npz, 1),
        ("value-elements=8", &run_npz, 1),
        ("memory-bytes=700", &run_npz, 1),
        ("nodes=3", &["verify", "model", "model.mlpackage"], 1),
    ];
    for (limit, arguments, expected) in cases {
        let name = limit.split('=').next().unwrap();
        let mut all = arguments.to_vec();
        all.extend(["--limit", limit]);
        let (code, error) = error(folder.path(), &all);
        assert_eq!(code, *expected, "{limit}: {error:#}");
        let known = limits::ALL.iter().find(|l| l.name == name).unwrap();
        // And as it is, the same passes.
        let (code, document) = run_json(folder.path(), arguments);
        assert!(code == 0 || arguments[0] == "verify", "{document:#}");
        assert!(known.default > 0);
    }
    assert_eq!(run_json(folder.path(), &package).0, 0);
}

#[test]
fn memory_of_the_interpreter_is_counted_before_it_is_taken() {
    let folder = model();
    let ids = Tensor::i64(vec![1, 32], (0..32).map(|i| i % 16).collect()).unwrap();
    write_tensors(
        &folder.path().join("in.npz"),
        &BTreeMap::from([("input_ids".to_owned(), ids)]),
    )
    .unwrap();
    let arguments = [
        "run",
        "model",
        "--inputs",
        "in.npz",
        "-o",
        "out.npz",
        "--max-memory",
    ];
    let (code, found) = error(folder.path(), &[&arguments[..], &["2k"]].concat());
    assert_eq!(
        (code, &found["code"]),
        (1, &json!("value_too_large")),
        "{found:#}"
    );
    let message = found["message"].as_str().unwrap();
    assert!(
        found["node"].is_string() && message.contains("at most 2000"),
        "{message}"
    );
    assert!(found["hint"].as_str().unwrap().contains("--max-memory"));
    assert_eq!(
        run_json(folder.path(), &[&arguments[..], &["100M"]].concat()).0,
        0
    );
}

#[test]
fn wrong_limits_are_usage_errors_and_doctor_lists_the_right_ones() {
    let folder = model();
    for bad in [
        "nonsense=1",
        "tensors",
        "tensors=x",
        "nesting=1000000",
        "tensors=0",
    ] {
        let (code, error) = error(folder.path(), &["inspect", "model", "--limit", bad]);
        assert_eq!((code, &error["code"]), (2, &json!("bad_limit")), "{bad}");
        assert!(error["hint"].is_string());
    }
    let (code, document) = run_json(folder.path(), &["doctor", "--limit", "tensors=7"]);
    assert_eq!(code, 0);
    let listed = document["result"]["limits"].as_array().unwrap();
    assert_eq!(listed.len(), limits::ALL.len());
    let tensors = listed.iter().find(|l| l["name"] == "tensors").unwrap();
    assert_eq!(
        (&tensors["value"], &tensors["default"]),
        (&json!(7), &json!(1_000_000))
    );
    assert!(
        listed
            .iter()
            .all(|l| l["reason"].as_str().unwrap().len() > 20)
    );
}

/// A name that would change the window's title, clear the screen, print a line of ours, turn text around, and use one-byte controls.
const EVIL: &str =
    "x\u{1b}]0;pwned\u{7}\u{1b}[2J\r\nverification passed: evil\u{202e}\u{9b}31m\u{2028}y";

fn is_clean(text: &str) -> bool {
    !text
        .chars()
        .any(|c| c != '\n' && distill_convert::error::is_unprintable(c))
}

#[test]
fn text_from_files_is_escaped_wherever_it_is_shown() {
    let folder = model();
    let config = folder.path().join("model/config.json");
    let sound = fs::read_to_string(&config).unwrap();
    let mut shown = Vec::new();
    let mut see = |arguments: &[&str]| {
        for json in [false, true] {
            let mut all = arguments.to_vec();
            all.extend(json.then_some("--json"));
            let output = run(folder.path(), &all);
            let out = String::from_utf8(output.stdout).unwrap();
            let err = String::from_utf8(output.stderr).unwrap();
            assert!(
                is_clean(&out) && is_clean(&err),
                "{arguments:?}: {out:?} {err:?}"
            );
            for line in out.lines().chain(err.lines()) {
                assert!(
                    !line.starts_with("verification passed"),
                    "{arguments:?}: {line}"
                );
            }
            shown.push(out + &err);
        }
    };
    // An error about a config.
    let mut evil: Value = serde_json::from_str(&sound).unwrap();
    evil["model_type"] = json!(EVIL);
    evil["architectures"] = json!([EVIL]);
    fs::write(&config, evil.to_string()).unwrap();
    see(&["inspect", "model"]);
    let mut evil: Value = serde_json::from_str(&sound).unwrap();
    evil[EVIL] = json!(1.5);
    fs::write(&config, evil.to_string()).unwrap();
    see(&["inspect", "model"]);
    fs::write(&config, &sound).unwrap();
    // A lock that names such a file.
    let lock = folder.path().join("model/distill-convert.lock");
    fs::write(
        &lock,
        format!("schema_version = 1\n[files.{EVIL:?}]\nsize = 1\nsha256 = \"\"\n"),
    )
    .unwrap();
    see(&["lock", "model", "--check"]);
    fs::remove_file(&lock).unwrap();
    // Metadata of an artifact, shown by `inspect`.
    assert_eq!(
        run_json(folder.path(), &["--target", "onnx", "model", "--no-verify"]).0,
        0
    );
    let metadata = BTreeMap::from([(EVIL.to_owned(), EVIL.to_owned())]);
    distill_convert::onnx::append_metadata(&folder.path().join("model.onnx"), &metadata).unwrap();
    see(&["inspect", "model.onnx"]);
    // A path.
    let path = "m\u{1b}[31m\nverification passed: x\u{202e}.safetensors";
    see(&["run", "model", "--inputs", path, "-o", "o.npz"]);
    see(&["audit", path]);
    // They were shown, not dropped.
    let all = shown.concat();
    assert!(
        all.contains("\\u{1b}") && all.contains("\\u001b") && all.contains("\\u{202e}"),
        "{all}"
    );
}

#[test]
fn no_other_program_is_ever_started() {
    let mut open = vec![root().join("src")];
    let mut files = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            continue;
        }
        files += 1;
        let text = fs::read_to_string(&path).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap();
        for word in ["process::Command", "Command::new(", "libc::", "exec("] {
            assert!(!product.contains(word), "{} has `{word}`", path.display());
        }
        let network = path.to_string_lossy().contains("src/fetch");
        for word in ["std::net", "TcpStream", "ureq"] {
            assert!(
                network || !product.contains(word),
                "{} has `{word}`",
                path.display()
            );
        }
    }
    assert!(files > 100);
}
