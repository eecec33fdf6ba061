//! Lock files, and folders that differ from them.

use std::fs;
use std::path::Path;
#[cfg(unix)]
use std::path::PathBuf;

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
            "notes.md",
            "onnx/deep/model.onnx",
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
    assert!(report.is_ok() && report.files.len() == 10, "{report:?}");
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

/// A snapshot in a hub's cache: the files of `blobs` under their digests, and links to them.
#[cfg(unix)]
fn snapshot(files: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
    let cache = tempfile::tempdir().unwrap();
    let repo = cache.path().join("models--org--tiny");
    let snapshot = repo.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir(repo.join("blobs")).unwrap();
    for (name, bytes) in files {
        let digest = source::sha256(bytes);
        fs::write(repo.join("blobs").join(&digest), bytes).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{digest}"), snapshot.join(name)).unwrap();
    }
    (cache, snapshot)
}

fn identity_of(lock: &lock::Lock) -> (Option<&str>, Option<&str>) {
    (lock.repo.as_deref(), lock.revision.as_deref())
}

#[test]
#[cfg(unix)]
fn a_snapshot_of_a_cache_is_locked_with_its_repository_and_commit() {
    let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("model.safetensors", &sound())];
    let known = (Some("org/tiny"), Some(COMMIT));
    let (_cache, snapshot) = snapshot(&files);
    let none = lock::Identity::default();
    let written = lock::write(&snapshot, &none, &|_| {}).unwrap();
    assert_eq!(
        (identity_of(&written.lock), written.notes.len()),
        (known, 0)
    );
    assert_eq!(written.lock.files.len(), 2);
    // Again, and with a file that the hub never had.
    let written = lock::write(&snapshot, &none, &|_| {}).unwrap();
    assert_eq!(identity_of(&written.lock), known);
    fs::write(snapshot.join("task.toml"), "").unwrap();
    let written = lock::write(&snapshot, &none, &|_| {}).unwrap();
    assert_eq!(identity_of(&written.lock), (None, None));
    let [note] = written.notes.as_slice() else {
        panic!("{:?}", written.notes)
    };
    assert!(
        note.starts_with(&format!(
            "`task.toml` is not known to come from org/tiny@{COMMIT}"
        )),
        "{note}"
    );
    // What such a lock does not say is not read from the place of the folder.
    let opened = source::open(&snapshot, &OpenOptions::default()).unwrap();
    assert_eq!((opened.repo, opened.revision), (None, None));
    let given = lock::Identity {
        repo: Some("a/b".into()),
        revision: None,
    };
    let written = lock::write(&snapshot, &given, &|_| {}).unwrap();
    assert_eq!(identity_of(&written.lock), (Some("a/b"), None));
}

#[test]
#[cfg(unix)]
fn a_file_of_a_snapshot_that_no_digest_vouches_for_is_refused() {
    let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("model.safetensors", &sound())];
    let (_cache, snapshot) = snapshot(&files);
    let config = snapshot.join("config.json");
    // A copy of a file of the cache, as systems without links have it.
    fs::remove_file(&config).unwrap();
    fs::write(&config, "{}").unwrap();
    let opened = source::open(&snapshot, &OpenOptions::default()).unwrap();
    assert_eq!(opened.repo.as_deref(), Some("org/tiny"));
    fs::write(&config, "{ }").unwrap();
    let error = source::open(&snapshot, &OpenOptions::default()).unwrap_err();
    assert_eq!(
        (error.class().exit_code(), error.code()),
        (4, "unproven_file")
    );
    assert!(error.to_string().contains("config.json"), "{error}");
    assert!(error.hint().unwrap().contains("distill-convert lock"));
    // The way out, which makes no claim.
    let written = lock::write(&snapshot, &lock::Identity::default(), &|_| {}).unwrap();
    assert_eq!(identity_of(&written.lock), (None, None));
    source::open(&snapshot, &OpenOptions::default()).unwrap();
}

#[test]
fn a_new_lock_keeps_repository_and_commit_as_long_as_they_are_true() {
    let dir = sentence_folder();
    let known = (Some("org/name"), Some(COMMIT));
    let (given, none) = (
        lock::Identity {
            repo: Some("org/name".into()),
            revision: Some(COMMIT.into()),
        },
        lock::Identity::default(),
    );
    let lock = |identity: &lock::Identity| lock::write(dir.path(), identity, &|_| {}).unwrap();
    lock(&given);
    assert_eq!(identity_of(&lock(&none).lock), known);
    fs::remove_file(dir.path().join("notes.md")).unwrap();
    assert_eq!(identity_of(&lock(&none).lock), known);
    fs::write(dir.path().join("notes.md"), "others").unwrap();
    let written = lock(&none);
    assert_eq!(identity_of(&written.lock), (None, None));
    assert!(
        written.notes[0].starts_with("`notes.md` is not known to come from org/name@"),
        "{:?}",
        written.notes
    );
    lock(&given);
    fs::write(dir.path().join("config.json"), "[]").unwrap();
    assert_eq!(identity_of(&lock(&none).lock), (None, None));
}

#[test]
fn a_folder_that_changes_while_it_is_locked_is_not_locked() {
    type Change = Box<dyn Fn(&Path) + Sync>;
    let changes: [(&str, &str, Change); 4] = [
        (
            "written",
            "model.safetensors",
            Box::new(|at| {
                use std::io::Write;
                let mut file = fs::OpenOptions::new()
                    .write(true)
                    .open(at.join("model.safetensors"))
                    .unwrap();
                file.write_all(b"x").unwrap();
            }),
        ),
        (
            "replaced",
            "tokenizer.json",
            Box::new(|at| {
                fs::remove_file(at.join("tokenizer.json")).unwrap();
                fs::write(at.join("tokenizer.json"), "{}").unwrap();
            }),
        ),
        (
            "removed",
            "tokenizer.json",
            Box::new(|at| fs::remove_file(at.join("tokenizer.json")).unwrap()),
        ),
        (
            "added",
            "new.bin",
            Box::new(|at| fs::write(at.join("new.bin"), "").unwrap()),
        ),
    ];
    for (what, name, change) in changes {
        let dir = sentence_folder();
        // A clock of the file system may stand still for some milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(30));
        let once = std::sync::Once::new();
        let error = lock::write(dir.path(), &lock::Identity::default(), &|_| {
            once.call_once(|| change(dir.path()))
        });
        let error = error.expect_err(what);
        assert_eq!(
            (error.class().exit_code(), error.code()),
            (1, "input_changed"),
            "{what}: {error}"
        );
        assert!(error.to_string().contains(name), "{what}: {error}");
        assert!(!dir.path().join(lock::FILE_NAME).exists());
    }
}

#[test]
fn what_a_lock_cannot_hold_is_an_error_and_no_gap() {
    let dir = sentence_folder();
    let none = lock::Identity::default();
    #[cfg(unix)]
    {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("x"), "x").unwrap();
        for target in [outside.path().join("x"), outside.path().to_path_buf()] {
            let link = dir.path().join("README");
            std::os::unix::fs::symlink(target, &link).unwrap();
            let error = lock::write(dir.path(), &none, &|_| {}).unwrap_err();
            assert_eq!(error.code(), "path_escape", "{error}");
            fs::remove_file(link).unwrap();
        }
    }
    let mut deep = dir.path().to_path_buf();
    for _ in 0..20 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("x"), "").unwrap();
    let error = lock::write(dir.path(), &none, &|_| {}).unwrap_err();
    assert_eq!((error.class().exit_code(), error.code()), (4, "too_large"));
    assert!(error.hint().unwrap().contains("folder-depth"), "{error}");
}
