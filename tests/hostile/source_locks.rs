//! Lock files, and folders that differ from them.

use std::fs;

use distill_convert::source::{self, OpenOptions, lock};

use super::{describe, folder, open, refusal, sentence_folder, sound};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[test]
fn a_lock_covers_the_folder_and_is_written_the_same_every_time() {
    let dir = sentence_folder();
    let identity = lock::Identity {
        repo: Some("org/name".into()),
        revision: Some(COMMIT.into()),
    };
    let path = dir.path().join(lock::FILE_NAME);
    lock::write(dir.path(), &identity, &|_| {}).unwrap();
    let first = fs::read(&path).unwrap();
    lock::write(&dir.path().join("config.json"), &identity, &|_| {}).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    let text = String::from_utf8(first).unwrap();
    assert!(text.starts_with("# Sizes"), "{text}");
    let lock: lock::Lock = toml::from_str(&text).unwrap();
    let files: Vec<&String> = lock.files.keys().collect();
    assert_eq!(
        files,
        [
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "3_Dense/pytorch_model.bin",
            "config.json",
            "model.safetensors",
            "modules.json",
            "tokenizer.json"
        ]
    );
    // SHA-256 of `{}`.
    assert_eq!(
        lock.files["config.json"].sha256,
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    );
    assert_eq!(lock.files["config.json"].size, 2);
    let report = lock::check(dir.path(), &|_| {}).unwrap();
    assert!(report.is_ok() && report.files.len() == 8, "{report:?}");
    assert!(report.ok(dir.path()).is_ok());
    let options = OpenOptions {
        require_lock: true,
        ..OpenOptions::default()
    };
    let checkpoint = source::open(dir.path(), &options).unwrap();
    assert_eq!(checkpoint.revision.as_deref(), Some(COMMIT));
    // What the lock check hashed is not hashed again.
    assert_eq!(checkpoint.unhashed_bytes(), 0);
    for digest in checkpoint.digests().unwrap() {
        assert_eq!(digest.sha256, lock.files[&digest.path].sha256);
    }
}

#[test]
fn a_required_lock_must_be_there() {
    let dir = sentence_folder();
    let options = OpenOptions {
        require_lock: true,
        ..OpenOptions::default()
    };
    let error = source::open(dir.path(), &options).unwrap_err();
    assert_eq!(
        describe(&dir, &error),
        (
            4,
            "lock_missing",
            "MODEL: no `distill-convert.lock` in the folder, but a lock is required".into()
        )
    );
    let error = lock::check(dir.path(), &|_| {}).unwrap_err();
    assert_eq!(error.code(), "lock_missing");
}

#[test]
fn a_changed_file_is_refused_before_it_is_parsed() {
    // Each change also makes the file unparsable, or the folder ambiguous: the lock has to speak first.
    for (name, bytes, detail) in [
        (
            "config.json",
            Some(b"[]".as_slice()),
            "expected SHA-256 `44136fa3",
        ),
        (
            "config.json",
            Some(b"[[[".as_slice()),
            "expected 2 bytes, found 3",
        ),
        (
            "model.safetensors",
            Some([0xff; 126].as_slice()),
            "expected SHA-256 ",
        ),
        (
            "model.safetensors",
            Some(b"".as_slice()),
            "expected 126 bytes, found 0",
        ),
        ("modules.json", None, "it is listed, but missing"),
        (
            "tokenizer.json",
            Some(b"{} ".as_slice()),
            "expected 2 bytes, found 3",
        ),
    ] {
        let dir = sentence_folder();
        lock::write(dir.path(), &lock::Identity::default(), &|_| {}).unwrap();
        let path = dir.path().join(name);
        match bytes {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let (exit, code, message) = describe(&dir, &open(&dir).unwrap_err());
        assert_eq!((exit, code), (4, "lock_mismatch"), "{message}");
        let start = format!("MODEL/{name}: the file does not match the lock: {detail}");
        assert!(message.starts_with(&start), "{message}");
        let report = lock::check(dir.path(), &|_| {}).unwrap();
        assert!(!report.is_ok());
        assert_eq!(report.ok(dir.path()).unwrap_err().code(), "lock_mismatch");
    }
}

#[test]
fn side_files_are_checked_against_the_lock_as_well() {
    let dir = sentence_folder();
    lock::write(dir.path(), &lock::Identity::default(), &|_| {}).unwrap();
    fs::write(dir.path().join("1_Pooling/config.json"), r#"{"k":2}"#).unwrap();
    fs::write(dir.path().join("extra.json"), "{}").unwrap();
    let checkpoint = open(&dir).unwrap();
    for (path, detail) in [
        ("1_Pooling/config.json", "expected SHA-256"),
        ("extra.json", "not in the lock"),
    ] {
        let error = checkpoint.side_json(path).unwrap_err();
        assert_eq!(
            (error.class().exit_code(), error.code()),
            (4, "lock_mismatch")
        );
        assert!(error.to_string().contains(detail), "{error}");
    }
    let report = lock::check(dir.path(), &|_| {}).unwrap();
    assert_eq!(report.files["extra.json"], lock::Status::Extra);
    assert_eq!(report.files["config.json"], lock::Status::Ok);
}

#[test]
fn lock_files_are_read_strictly() {
    let sha = "0".repeat(64);
    let file = format!("[files.\"config.json\"]\nsize = 2\nsha256 = \"{sha}\"\n");
    let upper = file.replace(&sha, &"A".repeat(64));
    let revision = |r: &str| format!("schema_version = 1\nrevision = \"{r}\"\n{file}");
    for (text, exit, code) in [
        (String::new(), 1, "bad_lock"),
        ("schema_version = 1\n[files]\n".into(), 1, "bad_lock"),
        (format!("schema_version = 2\n{file}"), 1, "bad_lock"),
        (format!("schema_version = 1\nx = 1\n{file}"), 1, "bad_lock"),
        (format!("schema_version = 1\n{file}x = 1\n"), 1, "bad_lock"),
        (format!("schema_version = 1\n{file}{file}"), 1, "bad_lock"),
        (format!("schema_version = 1\n{upper}"), 1, "bad_lock"),
        (revision("main"), 2, "unpinned_revision"),
        (revision(&COMMIT[..39]), 2, "unpinned_revision"),
        (revision(&COMMIT.to_uppercase()), 2, "unpinned_revision"),
        (
            format!(
                "schema_version = 1\n{}",
                file.replace("config.json", "../config.json")
            ),
            4,
            "path_escape",
        ),
        (
            format!(
                "schema_version = 1\n{}",
                file.replace("config.json", "/etc/hostname")
            ),
            4,
            "path_escape",
        ),
        (revision(COMMIT), 4, "lock_mismatch"),
    ] {
        let files: [(&str, &[u8]); 2] = [
            ("model.safetensors", &sound()),
            (lock::FILE_NAME, text.as_bytes()),
        ];
        let found = refusal(&files);
        assert_eq!((found.0, found.1), (exit, code), "{}\n{text}", found.2);
    }
    let dir = folder(&[("model.safetensors", &sound())]);
    let identity = lock::Identity {
        repo: None,
        revision: Some("main".into()),
    };
    let error = lock::write(dir.path(), &identity, &|_| {}).unwrap_err();
    assert_eq!(
        describe(&dir, &error),
        (
            2,
            "unpinned_revision",
            "revision `main` is not pinned: expected the 40 lower-case hex digits of a commit"
                .into()
        )
    );
    assert!(!dir.path().join(lock::FILE_NAME).exists());
}
