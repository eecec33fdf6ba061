//! Bad input: each gives its exit code, a message that names the place and the way out, and leaves no output behind.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::{TinyModel, command, entries, root, run_json};

/// Converts `folder/model`, which must fail, and gives the error. Nothing may be left beside the model.
fn refused(folder: &Path, extra: &[&str], exit_code: i32) -> Value {
    let mut arguments = vec!["--target", "coreml,onnx", "model", "-o", "out"];
    arguments.extend(extra);
    let (code, document) = run_json(folder, &arguments);
    assert_eq!(code, exit_code, "{document:#}");
    assert_eq!(document["status"], "error", "{document:#}");
    let error = document["error"].clone();
    assert!(error["hint"].is_string(), "no way out: {error:#}");
    let left = if folder.join("out").exists() {
        entries(&folder.join("out"), &[])
    } else {
        Vec::new()
    };
    assert!(left.is_empty(), "left behind: {left:?}");
    error
}

fn message(error: &Value) -> &str {
    error["message"].as_str().unwrap()
}

fn model(change: impl FnOnce(&mut TinyModel)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut model = TinyModel::new();
    change(&mut model);
    model.write(folder.path());
    folder
}

#[test]
fn a_header_longer_than_the_file_is_refused_as_unsafe() {
    let folder = model(|_| {});
    let path = folder.path().join("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = refused(folder.path(), &[], 4);
    assert!(message(&error).contains("model.safetensors"), "{error:#}");
}

#[test]
fn a_truncated_file_is_refused() {
    let folder = model(|_| {});
    let path = folder.path().join("model/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let error = refused(folder.path(), &[], 4);
    assert!(message(&error).contains("model.safetensors"), "{error:#}");
}

#[test]
fn overlapping_ranges_are_refused_as_unsafe() {
    let folder = model(|_| {});
    let path = folder.path().join("model/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes[8..]).into_owned();
    // model.norm.weight is last; make it begin where its neighbour does.
    let end = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_str(&text[..end]).unwrap();
    let other = header["model.layers.0.self_attn.v_proj.weight"]["data_offsets"][0]
        .as_u64()
        .unwrap();
    header["model.norm.weight"]["data_offsets"] = json!([other, other + 32]);
    let header = header.to_string();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(&bytes[8 + end..]);
    fs::write(&path, out).unwrap();
    refused(folder.path(), &[], 4);
}

#[test]
fn missing_unexpected_and_misshapen_tensors_are_named() {
    let folder = model(|m| {
        m.tensors.remove("model.norm.weight");
    });
    assert!(message(&refused(folder.path(), &[], 1)).contains("`model.norm.weight`"));

    let folder = model(|m| {
        m.tensors.insert(
            "model.layers.0.self_attn.extra.weight".into(),
            (vec![1], vec![0.0]),
        );
    });
    assert!(
        message(&refused(folder.path(), &[], 1))
            .contains("`model.layers.0.self_attn.extra.weight`")
    );

    let folder = model(|m| {
        m.tensors
            .insert("lm_head.weight".into(), (vec![8, 16], vec![0.0; 128]));
    });
    let error = refused(folder.path(), &[], 1);
    let text = message(&error);
    assert!(
        text.contains("`lm_head.weight`") && text.contains("[16, 8]") && text.contains("[8, 16]"),
        "{text}"
    );
}

#[test]
fn a_config_that_contradicts_the_weights_is_refused() {
    let folder = model(|m| m.config["num_hidden_layers"] = json!(2));
    assert!(message(&refused(folder.path(), &[], 1)).contains("model.layers.1."));
    let folder = model(|m| m.config["num_key_value_heads"] = json!(2));
    assert!(message(&refused(folder.path(), &[], 1)).contains("k_proj"));
    let folder = model(|m| m.config["some_new_scale"] = json!(0.5));
    assert!(message(&refused(folder.path(), &[], 1)).contains("`some_new_scale`"));
}

#[test]
fn an_unknown_architecture_lists_the_known_ones() {
    let folder = model(|m| {
        m.config["model_type"] = json!("mamba");
        m.config["architectures"] = json!(["MambaForCausalLM"]);
    });
    let error = refused(folder.path(), &[], 1);
    let text = format!("{} {}", message(&error), error["hint"]);
    assert!(
        text.contains("mamba") && text.contains("llama") && text.contains("qwen3"),
        "{text}"
    );
}

#[test]
fn an_unsupported_rope_type_is_named() {
    let folder =
        model(|m| m.config["rope_scaling"] = json!({"rope_type": "longrope", "factor": 2.0}));
    assert!(message(&refused(folder.path(), &[], 1)).contains("longrope"));
}

#[test]
fn a_pickle_under_any_name_is_refused_as_unsafe() {
    for bytes in [&b"\x80\x02}q\x00."[..], b"PK\x03\x04archive/data.pkl"] {
        let folder = model(|_| {});
        fs::write(folder.path().join("model/model.safetensors"), bytes).unwrap();
        assert_eq!(refused(folder.path(), &[], 4)["code"], "unsafe_format");
    }
    let folder = model(|_| {});
    let weights = folder.path().join("model/model.safetensors");
    fs::rename(weights, folder.path().join("model/pytorch_model.bin")).unwrap();
    fs::write(
        folder.path().join("model/pytorch_model.bin"),
        b"\x80\x02}q\x00.",
    )
    .unwrap();
    assert_eq!(refused(folder.path(), &[], 4)["code"], "unsafe_format");
}

#[test]
fn a_shard_outside_the_folder_is_refused_as_unsafe() {
    let folder = model(|_| {});
    let weights = folder.path().join("model/model.safetensors");
    fs::rename(&weights, folder.path().join("outside.safetensors")).unwrap();
    let names: serde_json::Map<String, Value> = TinyModel::new()
        .tensors
        .keys()
        .map(|n| (n.clone(), json!("../outside.safetensors")))
        .collect();
    let index = json!({"metadata": {}, "weight_map": names});
    fs::write(
        folder.path().join("model/model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    assert!(message(&refused(folder.path(), &[], 4)).contains("../outside.safetensors"));
}

#[test]
fn a_lock_that_does_not_hold_is_refused_as_unsafe() {
    let folder = model(|_| {});
    assert_eq!(
        refused(folder.path(), &["--require-lock"], 4)["code"],
        "lock_missing"
    );
    let (code, _) = run_json(folder.path(), &["lock", "model"]);
    assert_eq!(code, 0);
    let path = folder.path().join("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(refused(folder.path(), &[], 4)["code"], "lock_mismatch");
    assert_eq!(run_json(folder.path(), &["lock", "model", "--check"]).0, 4);
}

#[test]
fn an_unknown_deployment_target_lists_the_known_ones() {
    let folder = model(|_| {});
    let error = refused(folder.path(), &["--deployment-target", "iOS99"], 2);
    let text = format!("{} {}", message(&error), error["hint"]);
    assert!(
        text.contains("iOS99") && text.contains("iOS17") && text.contains("macOS14"),
        "{text}"
    );
}

#[test]
fn usage_errors_exit_with_2_and_are_one_json_document() {
    let folder = model(|_| {});
    for arguments in [
        &["--target", "tflite", "model"][..],
        &["model"],
        &["--target", "coreml", "model", "--shape", "input_ids"],
        &["--target", "coreml", "model", "--seq", "0"],
        &["--target", "coreml", "model", "--fp32-ops", "sofmax"],
        &[
            "--target",
            "coreml",
            "model",
            "--no-verify",
            "--task",
            "t.toml",
        ],
    ] {
        let (code, document) = run_json(folder.path(), arguments);
        assert_eq!(code, 2, "{arguments:?} {document:#}");
        assert_eq!(entries(folder.path(), &["model"]), [""; 0]);
    }
}

#[test]
fn flags_that_would_change_nothing_are_refused() {
    let folder = model(|_| {});
    let made = run_json(
        folder.path(),
        &["--target", "onnx", "model", "-o", "a.onnx", "--no-verify"],
    );
    assert_eq!(made.0, 0, "{:#}", made.1);
    for (arguments, part) in [
        (
            &["--target", "coreml", "model", "--opset", "17"][..],
            "`--opset` has no effect",
        ),
        (
            &["--target", "coreml", "model", "--external-data"],
            "`--external-data`",
        ),
        (
            &["--target", "onnx", "model", "--deployment-target", "iOS16"],
            "`--deployment-target`",
        ),
        (
            &["--target", "onnx", "model", "--rms-norm", "fp32"],
            "`--rms-norm`",
        ),
        (&["--target", "coreml", "a.onnx", "--seq", "8"], "`--seq`"),
        (
            &["--target", "coreml", "a.onnx", "--attention", "causal"],
            "`--attention`",
        ),
        (
            &["--target", "onnx", "model", "--opset", "99"],
            "99 is not in 13..=23",
        ),
        (
            &["--target", "coreml", "model", "-o", "x.onnx"],
            "ends in `.mlpackage`",
        ),
        (
            &["--target", "onnx", "model", "-o", "x.mlpackage"],
            "ends in `.onnx`",
        ),
    ] {
        let (code, document) = run_json(folder.path(), arguments);
        assert_eq!(code, 2, "{arguments:?} {document:#}");
        assert!(
            document["error"]["message"]
                .as_str()
                .unwrap()
                .contains(part),
            "{document:#}"
        );
        assert_eq!(entries(folder.path(), &["model", "a.onnx"]), [""; 0]);
    }
}

#[test]
fn a_package_with_a_file_of_the_users_is_not_replaced() {
    let folder = model(|_| {});
    let convert = || {
        run_json(
            folder.path(),
            &[
                "--target",
                "coreml",
                "model",
                "-o",
                "a.mlpackage",
                "--no-verify",
            ],
        )
    };
    assert_eq!(convert().0, 0);
    assert_eq!(convert().0, 0);
    let notes = folder
        .path()
        .join("a.mlpackage/Data/com.apple.CoreML/notes.txt");
    fs::write(&notes, "mine").unwrap();
    let (code, document) = convert();
    assert_eq!(code, 2, "{document:#}");
    assert_eq!(document["error"]["code"], "output_exists");
    assert_eq!(fs::read_to_string(&notes).unwrap(), "mine");
}

#[test]
fn a_shape_for_another_input_names_the_inputs_there_are() {
    let folder = model(|_| {});
    let error = refused(folder.path(), &["--shape", "pixel_values=1,128"], 1);
    assert!(message(&error).contains("`input_ids`"), "{error:#}");
    let error = refused(folder.path(), &["--shape", "input_ids=1,8,8"], 1);
    assert!(message(&error).contains("i64[1, 8]"), "{error:#}");
}

#[test]
fn nan_in_the_weights_is_refused_unless_allowed() {
    let folder = model(|m| m.tensors.get_mut("model.norm.weight").unwrap().1[3] = f32::NAN);
    let error = refused(folder.path(), &[], 1);
    assert_eq!(error["code"], "nonfinite_weights");
    assert_eq!(error["tensor"], "model.norm.weight");
    let arguments = [
        "--target",
        "onnx",
        "model",
        "--allow-nonfinite",
        "--no-verify",
    ];
    let (code, document) = run_json(folder.path(), &arguments);
    assert_eq!(code, 0, "{document:#}");
    assert!(
        document["warnings"][0]
            .as_str()
            .unwrap()
            .contains("model.norm.weight")
    );
}

#[test]
fn a_foreign_output_is_not_overwritten() {
    let folder = model(|_| {});
    fs::write(folder.path().join("model.onnx"), "somebody's thesis").unwrap();
    let (code, document) = run_json(folder.path(), &["--target", "onnx", "model"]);
    assert_eq!(
        (code, &document["error"]["code"]),
        (2, &json!("output_exists"))
    );
    assert_eq!(
        fs::read_to_string(folder.path().join("model.onnx")).unwrap(),
        "somebody's thesis"
    );
    assert_eq!(entries(folder.path(), &["model"]), ["model.onnx"]);
}

#[test]
fn an_unwritable_output_is_an_error() {
    let folder = model(|_| {});
    fs::write(folder.path().join("file"), "").unwrap();
    let (code, document) = run_json(
        folder.path(),
        &["--target", "onnx", "model", "-o", "file/model.onnx"],
    );
    assert_eq!((code, &document["error"]["code"]), (1, &json!("io")));
    assert!(message(&document["error"]).contains("file"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    // Long enough to be interrupted: many runs of a long sequence.
    let folder = tempfile::tempdir().unwrap();
    let model = root().join("models/8ball");
    for delay_ms in [5, 40, 120, 300] {
        let mut child = command(folder.path())
            .args([
                "--target",
                "coreml,onnx",
                model.to_str().unwrap(),
                "-o",
                "out",
                "--seq",
                "1024",
            ])
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        let status = std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap();
        let ended = child.wait().unwrap();
        if !status.success() || ended.success() {
            // Too late: it was done, and then it is whole.
            assert_eq!(
                entries(&folder.path().join("out"), &[]),
                ["8ball.mlpackage", "8ball.onnx"]
            );
        } else if folder.path().join("out").exists() {
            assert!(
                entries(
                    &folder.path().join("out"),
                    &["8ball.mlpackage", "8ball.onnx"]
                )
                .is_empty()
            );
        }
    }
}

#[test]
fn an_id_beyond_the_vocabulary_is_named() {
    let folder = model(|_| {});
    let ids = distill_convert::tensor::Tensor::i64(vec![1, 3], vec![1, 16, 2]).unwrap();
    let inputs = std::collections::BTreeMap::from([("input_ids".to_owned(), ids)]);
    distill_convert::source::write_tensors(&folder.path().join("in.npz"), &inputs).unwrap();
    let (code, document) = run_json(
        folder.path(),
        &["run", "model", "--inputs", "in.npz", "-o", "out.npz"],
    );
    assert_eq!(code, 1, "{document:#}");
    let text = message(&document["error"]);
    assert!(text.contains("16") && text.contains("input_ids"), "{text}");
    assert!(!folder.path().join("out.npz").exists());
}
