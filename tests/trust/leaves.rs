//! Every leaf of a real statement, of its envelope and of a lock is damaged and removed, one at a time: `audit` has to notice each.

use std::fs;
use std::path::{Path, PathBuf};

use distill_convert::convert::{Audit, AuditOptions, Held, audit};
use distill_convert::source::lock;
use serde_json::{Value, json};

use crate::common::{TinyModel, command, root, run_json};

const ARTIFACT: &str = "m.mlpackage";
const STATEMENT: &str = "m.mlpackage.intoto.json";

const TASK: &str = r#"
name = "letters"
tokenizer = "tokenizer.json"
add_special_tokens = false

[[classes]]
name = "YES"
token_id = 3

[[classes]]
name = "NO"
token_id = 4

[[cases]]
id = "one"
text = "a b"
"#;

/// A conversion of which everything is stated that can be: repository and commit, options, inputs, a task with its tokenizer, reference
/// outputs, caps, a time.
fn converted(signed: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    TinyModel::new().write(at);
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "u": 2}, "unk_token": "u"},
    });
    fs::write(at.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(at.join("task.toml"), TASK).unwrap();
    let commit = "a".repeat(40);
    let locked = ["lock", "model", "--repo", "org/tiny", "--revision", &commit];
    assert_eq!(run_json(at, &locked).0, 0);
    // Reference outputs: those of the source itself, on ids of its own.
    let ids = distill_convert::tensor::Tensor::i64(vec![1, 8], (0..8).collect()).unwrap();
    let inputs = [("input_ids".to_owned(), ids.clone())]
        .into_iter()
        .collect();
    distill_convert::source::write_tensors(&at.join("ids.npz"), &inputs).unwrap();
    let run = ["run", "model", "--inputs", "ids.npz", "-o", "outputs.npz"];
    assert_eq!(run_json(at, &run).0, 0);
    let outputs = distill_convert::source::read_tensors(&at.join("outputs.npz")).unwrap();
    let mut reference: distill_convert::tensor::NamedTensors = outputs
        .into_iter()
        .map(|(name, tensor)| (format!("case0.output.{name}"), tensor))
        .collect();
    reference.insert("case0.input.input_ids".into(), ids);
    distill_convert::source::write_tensors(&at.join("reference.npz"), &reference).unwrap();

    let key = root().join("tests/fixtures/keys/private.pem");
    let mut convert = command(at);
    convert.env("SOURCE_DATE_EPOCH", "1709210096").args([
        "--target",
        "coreml",
        "model",
        "-o",
        ARTIFACT,
        "--seq",
        "8",
        "--precision",
        "fp32",
        "--provenance",
        "auto",
        "--require-lock",
        "--task",
        "task.toml",
        "--inputs",
        "ids.npz",
        "--reference",
        "reference.npz",
        "--reference-tolerance",
        "0.5",
        "--max-memory",
        "4G",
        "--limit",
        "header-bytes=90M",
        "--fp32-ops",
        "softmax",
    ]);
    if signed {
        convert.arg("--sign-key").arg(key);
    }
    let output = convert.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    // The task may or may not be kept by weights that nobody trained; what counts is that it was asked.
    assert!(matches!(output.status.code(), Some(0)), "{text}");
    folder
}

fn options(folder: &Path, key: Option<PathBuf>) -> AuditOptions {
    AuditOptions {
        statement: None,
        source: Some(folder.join("model")),
        task: Some(folder.join("task.toml")),
        inputs: Some(folder.join("ids.npz")),
        reference: Some(folder.join("reference.npz")),
        verify_key: key,
    }
}

fn audited(folder: &Path, key: Option<PathBuf>) -> Audit {
    audit(&folder.join(ARTIFACT), &options(folder, key)).unwrap()
}

/// The pointers of all leaves: what is neither a list nor an object, and what is empty.
fn leaves(value: &Value, at: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                leaves(
                    inner,
                    &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                    into,
                );
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (i, inner) in list.iter().enumerate() {
                leaves(inner, &format!("{at}/{i}"), into);
            }
        }
        _ => into.push(at.to_owned()),
    }
}

/// Another value of the same type. Of a digest or a path the last character: nothing that is noticed by its form alone.
fn damaged(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let mut text = text.clone();
            let last = text.pop();
            text.push(if last == Some('0') { '1' } else { '0' });
            json!(text)
        }
        Value::Bool(b) => json!(!b),
        Value::Number(n) => match n.as_u64() {
            Some(n) => json!(n + 1),
            None => json!(n.as_f64().unwrap() * 2.0),
        },
        Value::Null => json!(0),
        Value::Array(_) => json!([0]),
        Value::Object(_) => json!({"x": 0}),
    }
}

/// The document without what stands at `pointer`.
fn without(document: &Value, pointer: &str) -> Value {
    let mut document = document.clone();
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Object(map) => {
            map.remove(&last.replace("~1", "/").replace("~0", "~"));
        }
        Value::Array(list) => {
            list.remove(last.parse().unwrap());
        }
        _ => unreachable!(),
    }
    document
}

/// Every leaf of `document` changed and removed, as documents with the names of the changes.
fn changes(document: &Value) -> Vec<(String, Value)> {
    let mut pointers = Vec::new();
    leaves(document, "", &mut pointers);
    let mut all = Vec::new();
    for pointer in pointers {
        let mut other = document.clone();
        let leaf = other.pointer_mut(&pointer).unwrap();
        *leaf = damaged(leaf);
        all.push((format!("{pointer} changed"), other));
        all.push((format!("{pointer} removed"), without(document, &pointer)));
    }
    all
}

/// Writes each change to `path`; `audit` has to find something broken in all but the excepted.
fn all_are_noticed(
    folder: &Path,
    path: &Path,
    changes: Vec<(String, String)>,
    key: Option<PathBuf>,
    excepted: &[&str],
) {
    let sound = fs::read(path).unwrap();
    let before = audited(folder, key.clone());
    assert!(before.passed(), "{before:#?}");
    let open: Vec<_> = before
        .findings
        .iter()
        .filter(|f| f.held == Held::NotChecked)
        .collect();
    assert!(open.iter().all(|f| f.check == "signature"), "{open:#?}");
    assert!(changes.len() > 5, "{}", changes.len());
    let mut missed = Vec::new();
    for (what, text) in changes {
        fs::write(path, text).unwrap();
        if audited(folder, key.clone()).passed() != excepted.contains(&what.as_str()) {
            missed.push(what);
        }
    }
    fs::write(path, sound).unwrap();
    assert!(
        missed.is_empty(),
        "not noticed, or noticed though excepted: {missed:#?}"
    );
}

fn texts(document: &Value) -> Vec<(String, String)> {
    let changes = changes(document).into_iter();
    changes.map(|(what, v)| (what, v.to_string())).collect()
}

#[test]
fn audit_notices_every_change_of_a_statement() {
    let folder = converted(false);
    let path = folder.path().join(STATEMENT);
    let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    // All kinds of leaves are there.
    let text = document.to_string();
    for part in [
        "gitCommit",
        "task:task.toml",
        "tokenizer:tokenizer.json",
        "inputs:ids.npz",
        "reference:reference.npz",
        "finishedOn",
        "memory",
        "header-bytes",
        "reference_tolerance",
        "fp32_ops",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let changes = texts(&document);
    assert!(changes.len() > 100, "{}", changes.len());
    all_are_noticed(folder.path(), &path, changes, None, &[]);
}

#[test]
fn audit_notices_every_change_of_an_envelope() {
    let folder = converted(true);
    let path = folder.path().join(STATEMENT);
    let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let key = root().join("tests/fixtures/keys/public.pem");
    // The name of the key is a remark of whoever wrote the envelope, as its specification has it: only the signature counts.
    let excepted = ["/signatures/0/keyid changed", "/signatures/0/keyid removed"];
    all_are_noticed(folder.path(), &path, texts(&document), Some(key), &excepted);
}

#[test]
fn audit_notices_every_change_of_a_lock() {
    let folder = converted(false);
    let path = folder.path().join("model").join(lock::FILE_NAME);
    let document: Value = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let changes = changes(&document).into_iter();
    let mut changes: Vec<_> = changes
        .map(|(what, v)| (what, toml::to_string(&v).unwrap()))
        .collect();
    changes.push(("malformed".into(), "{".into()));
    all_are_noticed(folder.path(), &path, changes, None, &[]);
    fs::remove_file(&path).unwrap();
    assert!(!audited(folder.path(), None).passed());
}

#[test]
fn audit_notices_every_file_that_is_not_what_it_was() {
    let folder = converted(false);
    let mut files = distill_convert::files::files_below(folder.path()).unwrap();
    files.retain(|path| !path.ends_with("outputs.npz"));
    assert!(files.len() > 10, "{files:?}");
    for path in files {
        let sound = fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let found = audit(&folder.path().join(ARTIFACT), &options(folder.path(), None));
        // A task file that is none any more is an error of what was given.
        assert!(
            found.is_err() || !found.unwrap().passed(),
            "{}",
            path.display()
        );
        fs::write(&path, sound).unwrap();
    }
    assert!(audited(folder.path(), None).passed());
}
