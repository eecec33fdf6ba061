//! Sources of every kind are stated, locked and audited alike: model folders, ONNX files with their data, Core ML packages, cache folders.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::{TinyModel, run_json, words};

fn ok(folder: &Path, arguments: &[&str]) -> Value {
    let (code, document) = run_json(folder, arguments);
    assert_eq!(code, 0, "{arguments:?}: {document:#}");
    document
}

/// Writes inputs: what a run that is refused does not come to.
fn ids(folder: &Path) {
    let ids = distill_convert::tensor::Tensor::i64(vec![1, 2], vec![1, 2]).unwrap();
    let inputs = [("input_ids".to_owned(), ids)].into_iter().collect();
    distill_convert::source::write_tensors(&folder.join("ids.npz"), &inputs).unwrap();
}

/// Converts `source` to `artifact` and gives the files of the source as the statement has them.
fn stated(folder: &Path, source: &str, target: &str, artifact: &str, more: &[&str]) -> Vec<String> {
    let mut arguments = vec![
        "--target",
        target,
        source,
        "-o",
        artifact,
        "--provenance",
        "auto",
    ];
    arguments.extend(more);
    ok(folder, &arguments);
    let text = fs::read(folder.join(format!("{artifact}.intoto.json"))).unwrap();
    let statement: Value = serde_json::from_slice(&text).unwrap();
    let files = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        .as_array()
        .unwrap();
    let names = files.iter().filter_map(|d| d["name"].as_str());
    names.map(str::to_owned).collect()
}

/// Subjects of findings of this check, and how they came out.
fn audited(
    folder: &Path,
    artifact: &str,
    source: &str,
    check: &str,
) -> (i32, Vec<(String, String)>) {
    let (code, document) = run_json(folder, &["audit", artifact, "--source", source]);
    let findings = document["result"]["findings"]
        .as_array()
        .unwrap_or_else(|| panic!("{document:#}"));
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let of = findings.iter().filter(|f| f["check"] == check);
    (
        code,
        of.map(|f| (text(&f["subject"]), text(&f["held"])))
            .collect(),
    )
}

/// Every file that is stated holds, and no longer does once it is changed.
fn all_are_checked(folder: &Path, artifact: &str, source: &str, below: &Path, names: &[&str]) {
    let held = |how: &str| {
        names
            .iter()
            .map(|n| ((*n).to_owned(), how.to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        audited(folder, artifact, source, "source"),
        (0, held("holds"))
    );
    for name in names {
        let path = below.join(name);
        let sound = fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (code, found) = audited(folder, artifact, source, "source");
        let broken: Vec<&str> = found
            .iter()
            .filter(|f| f.1 == "broken")
            .map(|f| f.0.as_str())
            .collect();
        assert_eq!((code, broken), (4, vec![*name]));
        fs::write(&path, sound).unwrap();
    }
}

#[test]
fn a_core_ml_source_is_audited_by_the_paths_in_its_package() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    TinyModel::new().write(at);
    ok(
        at,
        &[
            "--target",
            "coreml",
            "model",
            "-o",
            "s.mlpackage",
            "--seq",
            "8",
            "--no-verify",
        ],
    );
    let names = stated(at, "s.mlpackage", "onnx", "m.onnx", &[]);
    let expected = [
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
        "Manifest.json",
    ];
    assert_eq!(names, expected);
    all_are_checked(
        at,
        "m.onnx",
        "s.mlpackage",
        &at.join("s.mlpackage"),
        &expected,
    );
}

#[test]
fn an_onnx_source_is_audited_with_its_data_in_subfolders() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    TinyModel::new().write(at);
    ok(
        at,
        &[
            "--target",
            "onnx",
            "model",
            "-o",
            "s.onnx",
            "--no-verify",
            "--external-data",
        ],
    );
    // The same data from a subfolder.
    let bytes = fs::read(at.join("s.onnx")).unwrap();
    let (old, new) = (b"s.onnx.data", b"w/onnx.data");
    let mut moved = bytes;
    let mut places = 0;
    for i in 0..=moved.len() - old.len() {
        if &moved[i..i + old.len()] == old {
            moved[i..i + old.len()].copy_from_slice(new);
            places += 1;
        }
    }
    assert!(places > 0);
    fs::write(at.join("s.onnx"), moved).unwrap();
    fs::create_dir(at.join("w")).unwrap();
    fs::rename(at.join("s.onnx.data"), at.join("w/onnx.data")).unwrap();
    let options = ["--dim", "batch=1", "--dim", "seq=8"];
    let names = stated(at, "s.onnx", "coreml", "m.mlpackage", &options);
    assert_eq!(names, ["s.onnx", "w/onnx.data"]);
    all_are_checked(at, "m.mlpackage", "s.onnx", at, &["s.onnx", "w/onnx.data"]);
}

#[test]
fn a_plain_onnx_source_is_audited_as_a_file_and_as_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    TinyModel::new().write(at);
    fs::create_dir(at.join("graph")).unwrap();
    ok(
        at,
        &[
            "--target",
            "onnx",
            "model",
            "-o",
            "graph/s.onnx",
            "--no-verify",
        ],
    );
    let names = stated(
        at,
        "graph/s.onnx",
        "onnx",
        "m.onnx",
        &["--dim", "batch=1", "--dim", "seq=8"],
    );
    assert_eq!(names, ["s.onnx"]);
    for source in ["graph/s.onnx", "graph"] {
        all_are_checked(at, "m.onnx", source, &at.join("graph"), &["s.onnx"]);
        let (_, lock) = audited(at, "m.onnx", source, "lock");
        assert_eq!(
            lock,
            [("distill-convert.lock".to_owned(), "not_checked".to_owned())]
        );
    }
    // From its own folder, and renamed.
    fs::copy(at.join("graph/s.onnx"), at.join("t.onnx")).unwrap();
    let (code, found) = audited(at, "m.onnx", "t.onnx", "source");
    assert_eq!((code, found.len()), (0, 1), "{found:?}");
    let (code, _) = audited(at, "m.onnx", "m.onnx", "source");
    assert_eq!(code, 4);
}

#[test]
fn a_lock_holds_for_onnx_and_core_ml_sources() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    TinyModel::new().write(at);
    ids(at);
    fs::create_dir(at.join("graph")).unwrap();
    ok(
        at,
        &[
            "--target",
            "onnx",
            "model",
            "-o",
            "graph/s.onnx",
            "--no-verify",
            "--external-data",
        ],
    );
    ok(
        at,
        &[
            "--target",
            "coreml",
            "model",
            "-o",
            "s.mlpackage",
            "--seq",
            "8",
            "--no-verify",
        ],
    );
    for (source, file) in [
        ("graph/s.onnx", "graph/s.onnx.data"),
        ("s.mlpackage", "s.mlpackage/Manifest.json"),
    ] {
        let convert = |more: &[&str]| {
            let mut arguments = vec![
                "--target",
                "onnx",
                source,
                "-o",
                "m.onnx",
                "--no-verify",
                "--provenance",
                "auto",
                "--require-lock",
            ];
            arguments.extend(more);
            run_json(at, &arguments)
        };
        let (code, document) = convert(&[]);
        assert_eq!(
            (code, &document["error"]["code"]),
            (4, &json!("lock_missing")),
            "{document:#}"
        );
        let commit = "b".repeat(40);
        ok(
            at,
            &words(&format!(
                "lock {source} --repo org/graph --revision {commit}"
            )),
        );
        ok(at, &words(&format!("lock {source} --check")));
        let (code, document) = convert(&[]);
        assert_eq!(code, 0, "{document:#}");
        assert_eq!(document["result"]["revision"], json!(commit));
        let (code, found) = audited(at, "m.onnx", source, "lock");
        assert!(code == 0 && found.len() > 3, "{found:?}");
        let read: &[&[&str]] = &[
            &["inspect", source, "--require-lock"],
            &["run", source, "--inputs", "ids.npz"],
            &["lint", source],
            &["inspect", "--mil", source],
        ];
        let read = match source.ends_with(".onnx") {
            true => &read[..2],
            false => read,
        };
        ok(at, read[0]);
        let sound = fs::read(at.join(file)).unwrap();
        fs::write(at.join(file), [&sound[..], b" "].concat()).unwrap();
        let results = read.iter().map(|arguments| run_json(at, arguments));
        for (code, document) in std::iter::once(convert(&[])).chain(results) {
            assert_eq!(
                (code, &document["error"]["code"]),
                (4, &json!("lock_mismatch")),
                "{document:#}"
            );
        }
        fs::write(at.join(file), sound).unwrap();
    }
}

#[test]
fn an_imported_folder_says_where_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    TinyModel::new().write(at);
    let commit = "c".repeat(40);
    ok(
        at,
        &words(&format!("lock model --repo org/tiny --revision {commit}")),
    );
    let document = ok(at, &words("import model -o imported"));
    assert_eq!(document["result"]["lock"]["repo"], json!("org/tiny"));
    assert_eq!(document["result"]["lock"]["revision"], json!(commit));
    // With a config of the user's it is not the commit's any more.
    fs::write(
        at.join("config.json"),
        fs::read(at.join("model/config.json")).unwrap(),
    )
    .unwrap();
    let document = ok(at, &words("import model -o mixed --config config.json"));
    assert_eq!(document["result"]["lock"].get("revision"), None);
    assert!(
        document["warnings"].to_string().contains("org/tiny"),
        "{document:#}"
    );
}

#[test]
fn a_lock_names_the_commit_that_the_statement_names() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    TinyModel::new().write(at);
    let commit = "d".repeat(40);
    let lock = |repo: &str, commit: &str| {
        ok(
            at,
            &words(&format!("lock model --repo {repo} --revision {commit}")),
        )
    };
    lock("org/tiny", &commit);
    stated(at, "model", "onnx", "m.onnx", &["--no-verify"]);
    let of_lock = || audited(at, "m.onnx", "model", "lock");
    assert_eq!(of_lock().0, 0);
    for (repo, revision, wrong) in [
        ("org/other", commit.as_str(), "repo"),
        ("org/tiny", &"e".repeat(40), "revision"),
    ] {
        lock(repo, revision);
        let (code, found) = of_lock();
        assert!(
            code == 4 && found.contains(&(wrong.to_owned(), "broken".to_owned())),
            "{found:?}"
        );
    }
    fs::write(at.join("model/distill-convert.lock"), "nonsense").unwrap();
    let (code, found) = of_lock();
    assert_eq!(
        (code, found),
        (
            4,
            vec![("distill-convert.lock".to_owned(), "broken".to_owned())]
        )
    );
}

#[test]
#[cfg(unix)]
fn an_onnx_file_in_a_subfolder_is_compared_with_the_lock_and_the_cache_around_it() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    TinyModel::new().write(at);
    ids(at);
    fs::create_dir(at.join("model/onnx")).unwrap();
    let out = "model/onnx/s.onnx";
    let data = "model/onnx/s.onnx.data";
    let convert = ["--target", "onnx", "model", "-o", out, "--no-verify"];
    ok(at, &[&convert[..], &["--external-data"]].concat());
    let commit = "f".repeat(40);
    // A snapshot, whose links lead to the files of the cache.
    let repo = at.join("models--org--tiny");
    let inside = format!("models--org--tiny/snapshots/{commit}/onnx");
    fs::create_dir_all(at.join(&inside)).unwrap();
    fs::create_dir(repo.join("blobs")).unwrap();
    let [model_blob, data_blob] = [out, data].map(|file| {
        let bytes = fs::read(at.join(file)).unwrap();
        let digest = distill_convert::source::sha256(&bytes);
        let blob = repo.join("blobs").join(&digest);
        fs::write(&blob, &bytes).unwrap();
        let name = Path::new(file).file_name().unwrap();
        let link = at.join(&inside).join(name);
        symlink(format!("../../../blobs/{digest}"), link).unwrap();
        blob
    });
    let inside = format!("{inside}/s.onnx");
    ok(
        at,
        &words(&format!("lock model --repo org/tiny --revision {commit}")),
    );
    for (source, file, code) in [
        (out, at.join(out), "lock_mismatch"),
        (out, at.join(data), "lock_mismatch"),
        (&inside, data_blob, "digest_mismatch"),
        (&inside, model_blob, "digest_mismatch"),
    ] {
        let arguments = [
            "--target",
            "onnx",
            source,
            "-o",
            "m.onnx",
            "--no-verify",
            "--provenance",
            "auto",
        ];
        let document = ok(at, &arguments);
        assert_eq!(document["result"]["revision"], json!(commit));
        let (exit, found) = audited(at, "m.onnx", source, "source");
        assert_eq!(exit, 0, "{found:?}");
        let held = |name: &str| found.contains(&(name.to_owned(), "holds".to_owned()));
        assert!(held("s.onnx") && held("s.onnx.data"), "{found:?}");
        ok(at, &words(&format!("inspect {source}")));
        let sound = fs::read(&file).unwrap();
        let mut bytes = sound.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        let read: [&[&str]; 3] = [
            &arguments,
            &["inspect", source],
            &["run", source, "--inputs", "ids.npz"],
        ];
        for arguments in read {
            let (exit, document) = run_json(at, arguments);
            assert_eq!(
                (exit, &document["error"]["code"]),
                (4, &json!(code)),
                "{document:#}"
            );
        }
        fs::write(&file, sound).unwrap();
    }
    // A link to anything but a file of the cache is no part of the model.
    let link = at.join(&inside).with_extension("onnx.data");
    fs::remove_file(&link).unwrap();
    symlink(at.join(data), &link).unwrap();
    let (exit, document) = run_json(at, &["inspect", &inside]);
    assert_eq!(
        (exit, &document["error"]["code"]),
        (4, &json!("onnx_external_path")),
        "{document:#}"
    );
}

#[test]
fn what_was_compared_with_a_lock_must_be_what_was_read() {
    use distill_convert::convert::Compared;
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    TinyModel::new().write(at);
    fs::create_dir(at.join("graph")).unwrap();
    let convert = "--target onnx model -o graph/s.onnx --no-verify --external-data";
    ok(at, &words(convert));
    ok(at, &words("lock graph/s.onnx"));
    let model = at.join("graph/s.onnx");
    for name in ["graph/s.onnx", "graph/s.onnx.data"] {
        let compared = Compared::of(&model, true).unwrap();
        compared.still_holds().unwrap();
        // The same bytes in another file: they were not the ones that were hashed.
        let (file, other) = (at.join(name), at.join("other"));
        fs::copy(&file, &other).unwrap();
        fs::rename(&other, &file).unwrap();
        let error = compared.still_holds().unwrap_err();
        assert_eq!(error.code(), "input_changed", "{name}");
    }
    // Nothing is promised of what nobody locked.
    fs::remove_file(at.join("graph/distill-convert.lock")).unwrap();
    let compared = Compared::of(&model, false).unwrap();
    fs::remove_file(&model).unwrap();
    compared.still_holds().unwrap();
}
