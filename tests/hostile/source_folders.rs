//! Model folders with missing, contradictory or escaping files.

use std::fs;

use distill_convert::source::{self, OpenOptions};

use super::{describe, folder, open, refusal, sentence_folder, sound};

#[test]
fn missing_and_ambiguous_files_are_named() {
    let sound = sound();
    let dir = folder(&[]);
    let missing = source::open(&dir.path().join("nowhere"), &OpenOptions::default()).unwrap_err();
    assert_eq!(
        describe(&dir, &missing),
        (
            1,
            "not_found",
            "MODEL/nowhere: no such file or folder".into()
        )
    );
    assert_eq!(
        describe(&dir, &open(&dir).unwrap_err()),
        (
            1,
            "missing_file",
            "MODEL: the folder has no `model.safetensors`".into()
        )
    );
    fs::remove_file(dir.path().join("config.json")).unwrap();
    fs::write(dir.path().join("model.safetensors"), &sound).unwrap();
    assert_eq!(
        describe(&dir, &open(&dir).unwrap_err()),
        (
            1,
            "missing_file",
            "MODEL: the folder has no `config.json`".into()
        )
    );
    let other = source::open(&dir.path().join("README"), &OpenOptions::default());
    assert_eq!(other.unwrap_err().code(), "not_found");
    fs::write(dir.path().join("README"), "text").unwrap();
    let other = source::open(&dir.path().join("README"), &OpenOptions::default());
    assert_eq!(other.unwrap_err().code(), "not_a_model");
    let files: [(&str, &[u8]); 2] = [
        ("model.safetensors", &sound),
        ("model.safetensors.index.json", b"{}"),
    ];
    let dir = folder(&files);
    assert_eq!(open(&dir).unwrap_err().code(), "ambiguous_weights");
    let named = dir.path().join("model.safetensors");
    assert!(source::open(&named, &OpenOptions::default()).is_ok());
}

#[test]
fn configs_mean_one_thing() {
    let weights = sound();
    for (config, exit, code, message) in [
        (
            "{",
            1,
            "bad_json",
            "not valid JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            "[]",
            1,
            "bad_json",
            "expected an object at the top, found an array",
        ),
        (
            r#"{"rope":{"theta":1,"theta":2}}"#,
            4,
            "duplicate_key",
            "key `theta` stands twice in one object",
        ),
    ] {
        let files: [(&str, &[u8]); 2] = [
            ("config.json", config.as_bytes()),
            ("model.safetensors", &weights),
        ];
        let message = format!("MODEL/config.json: {message}");
        assert_eq!(refusal(&files), (exit, code, message));
    }
    let dir = folder(&[("model.safetensors", &weights)]);
    let config = fs::File::create(dir.path().join("config.json")).unwrap();
    config.set_len(64 * 1024 * 1024 + 1).unwrap();
    assert_eq!(
        describe(&dir, &open(&dir).unwrap_err()),
        (
            4,
            "bad_json",
            "MODEL/config.json: the file has 67108865 bytes, expected at most 67108864".into()
        )
    );
}

/// An index that puts `a` and `b` into this shard.
fn index(shard: &str) -> Vec<u8> {
    serde_json::json!({"metadata": {"total_size": 11}, "weight_map": {"a": shard, "b": shard}})
        .to_string()
        .into_bytes()
}

#[test]
fn shards_stay_in_the_folder() {
    let weights = sound();
    let good: [(&str, &[u8]); 2] = [
        ("model-1.safetensors", &weights),
        (
            "model.safetensors.index.json",
            &index("model-1.safetensors"),
        ),
    ];
    assert_eq!(open(&folder(&good)).unwrap().tensors.len(), 2);

    let outside = folder(&[("model-1.safetensors", &weights)]);
    let absolute = outside.path().join("model-1.safetensors");
    for shard in [
        "../model-1.safetensors",
        "sub/model-1.safetensors",
        "sub\\model-1.safetensors",
        "C:model-1.safetensors",
        "..",
        ".",
        "",
        absolute.to_str().unwrap(),
    ] {
        let files: [(&str, &[u8]); 2] = [
            ("sub/model-1.safetensors", &weights),
            ("model.safetensors.index.json", &index(shard)),
        ];
        let (exit, code, message) = refusal(&files);
        assert_eq!((exit, code), (4, "path_escape"), "{message}");
        assert!(message.contains("is not a plain path inside the folder"));
    }
    let (exit, code, _) = refusal(&[("model.safetensors.index.json", &index("m.bin"))]);
    assert_eq!((exit, code), (4, "unsafe_format"));
    let (exit, code, _) = refusal(&[("model.safetensors.index.json", &index("m.safetensors"))]);
    assert_eq!((exit, code), (1, "missing_file"));
}

#[cfg(unix)]
#[test]
fn links_that_leave_the_folder_are_refused() {
    use std::os::unix::fs::symlink;
    let outside = folder(&[("model.safetensors", &sound())]);
    let target = outside.path().join("model.safetensors");

    for name in ["model.safetensors", "config.json", "distill-convert.lock"] {
        let dir = folder(&[("model.safetensors", &sound())]);
        let path = dir.path().join(name);
        let _ = fs::remove_file(&path);
        symlink(&target, &path).unwrap();
        let message = format!("MODEL/{name}: `{name}` is a link that leaves the folder");
        let error = open(&dir).unwrap_err();
        assert_eq!(describe(&dir, &error), (4, "path_escape", message));
        assert!(error.hint().unwrap().contains("copy the files"));
    }
    // A subfolder that is a link.
    let dir = folder(&[("model.safetensors", &sound())]);
    symlink(outside.path(), dir.path().join("2_Dense")).unwrap();
    let checkpoint = open(&dir).unwrap();
    let error = checkpoint.side_tensors("2_Dense").unwrap_err();
    assert_eq!(
        (error.class().exit_code(), error.code()),
        (4, "path_escape")
    );
    // A link inside the folder is fine, and so is a link to the folder.
    let dir = folder(&[("weights", &sound())]);
    symlink("weights", dir.path().join("model.safetensors")).unwrap();
    assert!(open(&dir).is_ok());
    symlink(dir.path(), outside.path().join("linked")).unwrap();
    assert!(source::open(&outside.path().join("linked"), &OpenOptions::default()).is_ok());
}

#[test]
fn a_folder_in_the_place_of_a_file_is_refused() {
    let dir = folder(&[("model.safetensors/x", b"")]);
    assert_eq!(
        describe(&dir, &open(&dir).unwrap_err()),
        (
            4,
            "path_escape",
            "MODEL/model.safetensors: not a regular file".into()
        )
    );
}

#[test]
fn the_index_and_the_shards_agree_in_both_directions() {
    let weights = sound();
    let with = |index: &str| {
        refusal(&[
            ("1.safetensors", weights.as_slice()),
            ("model.safetensors.index.json", index.as_bytes()),
        ])
    };
    let text = "MODEL/model.safetensors.index.json: ";
    assert_eq!(
        with(r#"{"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":"1.safetensors"}}"#),
        (
            1,
            "index_mismatch",
            format!(
                "{text}the index and the shards disagree: 1 of its tensors are not in the shard it names \
                 (first: `c` in `1.safetensors`), 0 tensors in shards are not in the index"
            )
        )
    );
    assert_eq!(
        with(r#"{"weight_map":{"a":"1.safetensors"}}"#),
        (
            1,
            "index_mismatch",
            format!(
                "{text}the index and the shards disagree: 0 of its tensors are not in the shard it names, \
                 1 tensors in shards are not in the index (first: `b` in `1.safetensors`)"
            )
        )
    );
    for (index, exit, code) in [
        ("{}", 1, "bad_json"),
        (r#"{"weight_map":{}}"#, 1, "bad_json"),
        (r#"{"weight_map":[]}"#, 1, "bad_json"),
        (r#"{"weight_map":{"a":1}}"#, 1, "bad_json"),
        (
            r#"{"weight_map":{"a":"1.safetensors"},"x":1}"#,
            1,
            "bad_json",
        ),
        (
            r#"{"weight_map":{"a":"1.safetensors","a":"1.safetensors"}}"#,
            4,
            "duplicate_key",
        ),
    ] {
        let found = with(index);
        assert_eq!((found.0, found.1), (exit, code), "{}", found.2);
    }
    // The same tensor in two shards: one of them is not where the index says.
    let (_, code, message) = refusal(&[
        ("1.safetensors", &weights),
        ("2.safetensors", &weights),
        (
            "model.safetensors.index.json",
            br#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#,
        ),
    ]);
    assert_eq!(code, "index_mismatch", "{message}");
}

#[test]
fn side_files_are_confined_checked_and_remembered() {
    let dir = sentence_folder();
    let checkpoint = open(&dir).unwrap();
    let modules = checkpoint.side_json("modules.json").unwrap();
    assert_eq!(modules, Some(serde_json::json!([{"idx": 0}])));
    assert_eq!(checkpoint.side_json("none.json").unwrap(), None);
    assert_eq!(checkpoint.side_json("none/config.json").unwrap(), None);
    let dense = checkpoint.side_tensors("2_Dense").unwrap().unwrap();
    assert_eq!(dense.len(), 2);
    assert!(checkpoint.side_tensors("1_Pooling").unwrap().is_none());
    assert!(checkpoint.side_tensors("9_Absent").unwrap().is_none());
    for (error, code) in [
        (
            checkpoint.side_json("2_Dense/config.json").unwrap_err(),
            "duplicate_key",
        ),
        (
            checkpoint.side_tensors("3_Dense").unwrap_err(),
            "unsafe_pickle",
        ),
        (
            checkpoint.side_json("../modules.json").unwrap_err(),
            "path_escape",
        ),
        (
            checkpoint.side_json("/etc/hostname").unwrap_err(),
            "path_escape",
        ),
        (
            checkpoint.side_json("a/../../b.json").unwrap_err(),
            "path_escape",
        ),
        (checkpoint.side_tensors("..").unwrap_err(), "path_escape"),
        (
            checkpoint.side_tensors("1_Pooling/../..").unwrap_err(),
            "path_escape",
        ),
    ] {
        assert_eq!((error.class().exit_code(), error.code()), (4, code));
    }
    let read: Vec<String> = checkpoint
        .digests()
        .unwrap()
        .into_iter()
        .map(|d| d.path)
        .collect();
    assert_eq!(
        read,
        [
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "3_Dense/pytorch_model.bin",
            "config.json",
            "model.safetensors",
            "modules.json"
        ]
    );
}
