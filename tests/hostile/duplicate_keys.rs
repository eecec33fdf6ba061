//! Every JSON and TOML file that is read means one thing: a key that stands twice in one object is refused, wherever it is.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{TinyModel, root, run_json};

/// Writes `with` in the place of the first `what` of a file, and gives the bytes before.
fn change(path: &Path, what: &str, with: &str) -> Vec<u8> {
    let before = fs::read(path).unwrap();
    let text = String::from_utf8(before.clone()).unwrap();
    assert!(text.contains(what), "{}: {text}", path.display());
    fs::write(path, text.replacen(what, with, 1)).unwrap();
    before
}

fn refused(folder: &Path, arguments: &[&str], expected: i32) {
    let (code, document) = run_json(folder, arguments);
    assert_eq!(code, expected, "{arguments:?}: {document:#}");
    let text = document.to_string();
    assert!(
        text.contains("twice") || text.contains("duplicate"),
        "{arguments:?}: {document:#}"
    );
}

#[test]
fn a_key_that_stands_twice_is_refused_in_every_file_that_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let model = TinyModel::new().write(here);
    assert_eq!(run_json(here, &["lock", "model"]).0, 0);
    let key = root().join("tests/fixtures/keys/private.pem");
    let key = key.display().to_string();
    let convert = |target: &str, output: &str, extra: &[&str]| {
        let fixed = ["--target", target, "model", "-o", output, "--no-verify"];
        let (code, document) = run_json(here, &[&fixed[..], extra].concat());
        assert_eq!(code, 0, "{document:#}");
    };
    convert("coreml", "m.mlpackage", &["--provenance", "auto"]);
    convert(
        "onnx",
        "m.onnx",
        &["--provenance", "auto", "--sign-key", &key],
    );
    let at = |name: &str| here.join(name);

    // The package's manifest: at the top, and within an item.
    let manifest = at("m.mlpackage/Manifest.json");
    let root_key = "\"rootModelIdentifier\"";
    for (what, with) in [
        (root_key, format!("{root_key}: \"other\", {root_key}")),
        ("\"path\":", "\"path\": \"x\", \"path\":".to_owned()),
    ] {
        let before = change(&manifest, what, &with);
        refused(here, &["inspect", "m.mlpackage"], 1);
        refused(here, &["verify", "model", "m.mlpackage"], 1);
        fs::write(&manifest, before).unwrap();
    }
    assert_eq!(run_json(here, &["inspect", "m.mlpackage"]).0, 0);

    // Statements: fields, and maps whose keys are free.
    let statement = at("m.mlpackage.intoto.json");
    for (what, with) in [
        ("\"_type\":", "\"_type\": \"x\", \"_type\":"),
        ("\"sha256\":", "\"sha256\": \"x\", \"sha256\":"),
        ("\"precision\":", "\"precision\": \"fp32\", \"precision\":"),
    ] {
        let before = change(&statement, what, with);
        refused(here, &["audit", "m.mlpackage"], 4);
        fs::write(&statement, before).unwrap();
    }
    assert_eq!(run_json(here, &["audit", "m.mlpackage"]).0, 0);
    let envelope = at("m.onnx.intoto.json");
    let before = change(&envelope, "\"payload\":", "\"payload\": \"\", \"payload\":");
    refused(here, &["audit", "m.onnx"], 4);
    fs::write(&envelope, before).unwrap();

    // The lock, the config, and the header of the weights.
    let lock = model.join("distill-convert.lock");
    let before = change(
        &lock,
        "schema_version = 1",
        "schema_version = 1\nschema_version = 1",
    );
    refused(here, &["lock", "model", "--check"], 1);
    fs::write(&lock, before).unwrap();
    fs::remove_file(&lock).unwrap();
    let config = model.join("config.json");
    let before = change(
        &config,
        "\"hidden_size\":",
        "\"hidden_size\": 4, \"hidden_size\":",
    );
    refused(here, &["inspect", "model"], 4);
    fs::write(&config, before).unwrap();

    // An index of shards.
    let index = at("model/model.safetensors.index.json");
    let header: Value = {
        let bytes = fs::read(model.join("model.safetensors")).unwrap();
        let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        serde_json::from_slice(&bytes[8..8 + n]).unwrap()
    };
    let names = header.as_object().unwrap().keys();
    let map: Vec<String> = names
        .map(|n| format!("\"{n}\": \"model-1.safetensors\""))
        .collect();
    let map = format!("{}, {}", map.join(", "), map[0]);
    fs::write(&index, format!("{{\"weight_map\": {{{map}}}}}")).unwrap();
    fs::rename(
        model.join("model.safetensors"),
        model.join("model-1.safetensors"),
    )
    .unwrap();
    refused(here, &["inspect", "model"], 4);
}
