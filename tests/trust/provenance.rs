//! Statements: what they say, that they are the same every time, and that `audit` sees every change.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::{TinyModel, command, entries, root, run_json};

/// A folder with a locked tiny model and an artifact with its statement.
fn converted(target: &str, extra: &[&str]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::new().write(folder.path());
    let commit = "a".repeat(40);
    let lock = ["lock", "model", "--repo", "org/tiny", "--revision", &commit];
    assert_eq!(run_json(folder.path(), &lock).0, 0);
    let name = match target {
        "onnx" => "m.onnx",
        _ => "m.mlpackage",
    };
    let mut arguments = vec![
        "--target",
        target,
        "model",
        "-o",
        name,
        "--seq",
        "8",
        "--provenance",
        "auto",
    ];
    arguments.extend(extra);
    let (code, document) = run_json(folder.path(), &arguments);
    assert_eq!(code, 0, "{document:#}");
    (folder, name.to_owned())
}

fn statement(folder: &Path, name: &str) -> Value {
    let text = fs::read_to_string(folder.join(format!("{name}.intoto.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn audit(folder: &Path, arguments: &[&str]) -> (i32, Vec<(String, String, String)>) {
    let mut all = vec!["audit"];
    all.extend(arguments);
    let (code, document) = run_json(folder, &all);
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let findings = document["result"]["findings"].as_array().unwrap();
    let findings = findings
        .iter()
        .map(|f| (text(&f["check"]), text(&f["subject"]), text(&f["held"])));
    (code, findings.collect())
}

fn broken(findings: &[(String, String, String)]) -> Vec<(&str, &str)> {
    let broken = findings.iter().filter(|f| f.2 == "broken");
    broken.map(|f| (f.0.as_str(), f.1.as_str())).collect()
}

#[test]
fn a_statement_names_every_input_every_output_and_the_verdict() {
    let (folder, name) = converted("coreml", &["--embed-provenance"]);
    let s = statement(folder.path(), &name);
    assert_eq!(s["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(s["predicateType"], "https://slsa.dev/provenance/v1");
    let outputs: Vec<&str> = s["subject"]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        outputs,
        [
            "m.mlpackage/Data/com.apple.CoreML/model.mlmodel",
            "m.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
            "m.mlpackage/Manifest.json",
        ]
    );
    let build = &s["predicate"]["buildDefinition"];
    let dependencies = build["resolvedDependencies"].as_array().unwrap();
    assert_eq!(
        dependencies[0]["uri"],
        format!("pkg:huggingface/org/tiny@{}", "a".repeat(40))
    );
    assert_eq!(dependencies[1]["name"], "config.json");
    assert_eq!(dependencies[2]["name"], "model.safetensors");
    assert_eq!(
        dependencies[2]["digest"]["sha256"].as_str().unwrap().len(),
        64
    );
    assert_eq!(build["externalParameters"]["precision"], "fp16");
    assert_eq!(build["externalParameters"]["seq"], json!([8]));
    let run = &s["predicate"]["runDetails"];
    assert_eq!(
        run["builder"]["version"]["distill-convert"],
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(run["byproducts"][0]["annotations"]["status"], "passed");
    let compared = &run["byproducts"][0]["annotations"]["compared"];
    let compared = compared.as_array().unwrap();
    for pair in ["f16 with the source", "f32 with the conversion"] {
        let pair = json!(format!("interpreter {pair}"));
        assert!(compared.contains(&pair), "{compared:?}");
    }
    assert!(run.get("metadata").is_none(), "a clock was read");
    // Nothing of this machine.
    let text = s.to_string();
    assert!(!text.contains(folder.path().to_str().unwrap()), "{text}");
    let (code, document) = run_json(folder.path(), &["inspect", &name]);
    assert_eq!(code, 0);
    assert!(
        document
            .to_string()
            .contains("com.distill-convert.provenance")
    );
}

#[test]
fn the_same_conversion_gives_the_same_statement() {
    let texts: Vec<String> = (0..2)
        .map(|_| {
            let (folder, name) = converted("onnx", &["--embed-provenance"]);
            assert_eq!(
                entries(folder.path(), &["model"]),
                ["m.onnx", "m.onnx.intoto.json"]
            );
            statement(folder.path(), &name).to_string()
        })
        .collect();
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn a_time_is_stated_only_if_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::new().write(folder.path());
    let output = command(folder.path())
        .args([
            "--target",
            "onnx",
            "model",
            "-o",
            "m.onnx",
            "--no-verify",
            "--provenance",
            "s.json",
        ])
        .env("SOURCE_DATE_EPOCH", "1709210096")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let s: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("s.json")).unwrap()).unwrap();
    assert_eq!(
        s["predicate"]["runDetails"]["metadata"]["finishedOn"],
        "2024-02-29T12:34:56Z"
    );
    assert_eq!(
        s["predicate"]["runDetails"]["byproducts"][0]["annotations"]["status"],
        "not run"
    );
    let (code, findings) = audit(folder.path(), &["m.onnx", "--statement", "s.json"]);
    assert_eq!(code, 0, "{findings:?}");
    // One file for two artifacts makes no sense.
    let both = [
        "--target",
        "onnx,coreml",
        "model",
        "-o",
        "out",
        "--provenance",
        "both.json",
    ];
    assert_eq!(run_json(folder.path(), &both).0, 2);
}

#[test]
fn audit_holds_for_what_was_not_touched() {
    for target in ["onnx", "coreml"] {
        let (folder, name) = converted(target, &["--embed-provenance"]);
        let (code, findings) = audit(folder.path(), &[&name, "--source", "model"]);
        assert_eq!((code, broken(&findings)), (0, vec![]), "{findings:?}");
        let checks: Vec<&str> = findings
            .iter()
            .filter(|f| f.2 == "holds")
            .map(|f| f.0.as_str())
            .collect();
        for check in [
            "statement",
            "output",
            "verification",
            "metadata",
            "source",
            "lock",
        ] {
            assert!(checks.contains(&check), "{check}: {findings:?}");
        }
        // Renamed as a whole.
        fs::rename(
            folder.path().join(&name),
            folder.path().join(format!("x{name}")),
        )
        .unwrap();
        let statement = format!("{name}.intoto.json");
        let (code, findings) = audit(
            folder.path(),
            &[&format!("x{name}"), "--statement", &statement],
        );
        assert_eq!(code, 0, "{findings:?}");
    }
}

#[test]
fn audit_sees_every_change() {
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let digest = |path: &Path| distill_convert::source::sha256(&fs::read(path).unwrap());
    type Change<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>, Vec<(&'a str, &'a str)>);
    let weights = "m.mlpackage/Data/com.apple.CoreML/weights/weight.bin";
    let extra = "m.mlpackage/Data/com.apple.CoreML/weights/extra.bin";
    let changes: Vec<Change<'_>> = vec![
        (
            "a weight",
            Box::new(|f| flip(&f.join(weights))),
            vec![("output", weights)],
        ),
        (
            "one more file",
            Box::new(|f| fs::write(f.join(extra), "x").unwrap()),
            vec![("output", extra)],
        ),
        (
            "the source",
            Box::new(|f| flip(&f.join("model/model.safetensors"))),
            vec![
                ("source", "model.safetensors"),
                ("lock", "model.safetensors"),
            ],
        ),
        (
            "a missing source",
            Box::new(|f| fs::remove_file(f.join("model/config.json")).unwrap()),
            vec![("source", "config.json"), ("lock", "config.json")],
        ),
        (
            "another lock",
            Box::new(|f| {
                let path = f.join("model/distill-convert.lock");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, text.replace(&"a".repeat(40), &"b".repeat(40))).unwrap();
            }),
            vec![("lock", "revision")],
        ),
        (
            "the verdict",
            Box::new(|f| {
                let path = f.join("m.mlpackage.intoto.json");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, text.replace("\"passed\"", "\"failed\"")).unwrap();
            }),
            vec![
                ("verification", "conversion"),
                ("metadata", "com.distill-convert.provenance"),
                ("metadata", "com.distill-convert.provenance.sha256"),
                ("metadata", "com.distill-convert.verification"),
            ],
        ),
        (
            "the options that the artifact records, and its digest with them",
            Box::new(|f| {
                let path = f.join("m.mlpackage/Data/com.apple.CoreML/model.mlmodel");
                let (before, mut bytes) = (digest(&path), fs::read(&path).unwrap());
                let (old, new) = (b"\"expand_weights\":false", b"\"expand_weights\":true ");
                let mut places = bytes.windows(old.len());
                let place = places.position(|w| w == old).unwrap();
                bytes[place..place + new.len()].copy_from_slice(new);
                fs::write(&path, bytes).unwrap();
                let statement = f.join("m.mlpackage.intoto.json");
                let text = fs::read_to_string(&statement).unwrap();
                assert!(text.contains(&before));
                fs::write(statement, text.replace(&before, &digest(&path))).unwrap();
            }),
            vec![("metadata", "com.distill-convert.options")],
        ),
        (
            "no statement",
            Box::new(|f| fs::remove_file(f.join("m.mlpackage.intoto.json")).unwrap()),
            vec![("statement", "m.mlpackage.intoto.json")],
        ),
    ];
    for (what, change, expected) in changes {
        let (folder, name) = converted("coreml", &["--embed-provenance"]);
        change(folder.path());
        let (code, findings) = audit(folder.path(), &[&name, "--source", "model"]);
        assert_eq!((code, broken(&findings)), (4, expected), "{what}");
    }
}

#[test]
fn a_signature_is_of_the_statement_and_of_one_key() {
    let keys = root().join("tests/fixtures/keys");
    let key = |name: &str| keys.join(name).display().to_string();
    let (folder, name) = converted("onnx", &["--sign-key", &key("private.pem")]);
    let envelope = statement(folder.path(), &name);
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    let check = |verify: &str| audit(folder.path(), &[&name, "--verify-key", verify]);
    assert_eq!(check(&key("public.pem")).0, 0);
    let (code, findings) = check(&key("other.pem"));
    assert_eq!((code, broken(&findings).len()), (4, 1));
    assert_eq!(broken(&findings)[0].0, "signature");
    // Without a key the signature is not believed, and the answer says so.
    let (code, findings) = audit(folder.path(), &[&name]);
    assert_eq!(code, 0);
    assert!(
        findings
            .iter()
            .any(|f| f.0 == "signature" && f.2 == "not_checked")
    );
    // A statement that its author did not sign.
    let path = folder.path().join("m.onnx.intoto.json");
    let mut forged = envelope.clone();
    let payload = envelope["payload"].as_str().unwrap();
    forged["payload"] = json!(payload.replacen('A', "B", 1));
    fs::write(&path, forged.to_string()).unwrap();
    assert_eq!(check(&key("public.pem")).0, 4);
    // An unsigned statement in its place.
    let (other, _) = converted("onnx", &[]);
    fs::copy(other.path().join("m.onnx.intoto.json"), &path).unwrap();
    let (code, findings) = check(&key("public.pem"));
    assert_eq!(code, 4);
    assert!(
        broken(&findings).iter().any(|b| b.0 == "signature"),
        "{findings:?}"
    );
    // Keys of the wrong kind are usage errors.
    let wrong = run_json(
        folder.path(),
        &["audit", &name, "--verify-key", &key("private.pem")],
    );
    assert_eq!((wrong.0, &wrong.1["error"]["code"]), (2, &json!("bad_key")));
}

/// The details of what is broken, by check.
fn details(folder: &Path, arguments: &[&str]) -> Vec<(String, String)> {
    let all: Vec<&str> = ["audit"].iter().chain(arguments).copied().collect();
    let (code, document) = run_json(folder, &all);
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let findings = document["result"]["findings"].as_array().unwrap();
    let broken = findings.iter().filter(|f| f["held"] == "broken");
    let found: Vec<_> = broken
        .map(|f| (text(&f["check"]), text(&f["detail"])))
        .collect();
    assert_eq!(code, if found.is_empty() { 0 } else { 4 }, "{document:#}");
    found
}

#[test]
fn a_wrong_key_a_cut_signature_and_a_swapped_statement_are_each_named() {
    let keys = root().join("tests/fixtures/keys");
    let key = |name: &str| keys.join(name).display().to_string();
    let (folder, name) = converted("onnx", &["--sign-key", &key("private.pem")]);
    let (public, other) = (key("public.pem"), key("other.pem"));
    let all = |verify: &str| details(folder.path(), &[&name, "--verify-key", verify]);
    assert!(all(&public).is_empty());
    let check = |verify: &str| {
        let mut found = all(verify);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    };
    let (of, why) = check(&other);
    assert_eq!(of, "signature");
    assert!(
        why.starts_with("none of the 1 signatures is by the key `"),
        "{why}"
    );
    // A signature that lost its end.
    let path = folder.path().join("m.onnx.intoto.json");
    let whole = fs::read(&path).unwrap();
    let mut envelope = statement(folder.path(), &name);
    let sig = envelope["signatures"][0]["sig"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(sig.len(), 88, "64 bytes in base64");
    envelope["signatures"][0]["sig"] = json!(sig[..84]);
    fs::write(&path, envelope.to_string()).unwrap();
    let (of, why) = check(&public);
    assert_eq!(of, "signature");
    assert!(
        why.starts_with("a signature has 63 bytes, and one of Ed25519 has 64"),
        "{why}"
    );
    envelope["signatures"][0]["sig"] = json!(sig[..87]);
    fs::write(&path, envelope.to_string()).unwrap();
    let (_, why) = check(&public);
    assert_eq!(why, "the envelope's signature is not base64");
    fs::write(&path, whole).unwrap();
    // The signed statement of another artifact of the same source: the signature is good, and says nothing of this one.
    let arguments = [
        "--target",
        "onnx",
        "model",
        "-o",
        "n.onnx",
        "--seq",
        "4",
        "--provenance",
        "auto",
        "--sign-key",
        &key("private.pem"),
    ];
    assert_eq!(run_json(folder.path(), &arguments).0, 0);
    fs::copy(&path, folder.path().join("n.onnx.intoto.json")).unwrap();
    let found = details(folder.path(), &["n.onnx", "--verify-key", &public]);
    assert!(found.iter().all(|(of, _)| of != "signature"), "{found:?}");
    let (_, why) = found.iter().find(|(of, _)| of == "output").unwrap();
    assert!(
        why.starts_with("the statement is of `m.onnx`: expected `"),
        "{why}"
    );
    let (_, why) = found.iter().find(|(of, _)| of == "metadata").unwrap();
    assert!(why.starts_with("expected `"), "{why}");
}

#[test]
fn a_foreign_statement_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::new().write(folder.path());
    fs::write(folder.path().join("m.onnx.intoto.json"), "somebody else's").unwrap();
    let arguments = [
        "--target",
        "onnx",
        "model",
        "-o",
        "m.onnx",
        "--no-verify",
        "--provenance",
        "auto",
    ];
    let (code, document) = run_json(folder.path(), &arguments);
    assert_eq!(
        (code, &document["error"]["code"]),
        (2, &json!("output_exists"))
    );
    assert_eq!(entries(folder.path(), &["model"]), ["m.onnx.intoto.json"]);
    let text = fs::read_to_string(folder.path().join("m.onnx.intoto.json")).unwrap();
    assert_eq!(text, "somebody else's");
}
