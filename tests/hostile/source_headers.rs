//! Safetensors headers that lie, and files that are something else.

use std::fs;
use std::io::Write as _;

use distill_convert::source::{self, OpenOptions};

use super::{describe, folder, open, raw, refusal, sound};

/// Asserts how a `model.safetensors` with these bytes is refused.
#[track_caller]
fn weights_refused(bytes: &[u8], exit: u8, code: &str, message: &str) {
    let found = refusal(&[("model.safetensors", bytes)]);
    let message = format!("MODEL/model.safetensors: {message}");
    assert_eq!(found, (exit, leak(code), message));
}

fn leak(code: &str) -> &'static str {
    code.to_owned().leak()
}

#[test]
fn a_sound_file_opens_and_its_bytes_are_found() {
    let dir = folder(&[("model.safetensors", &sound())]);
    for path in [
        dir.path().to_path_buf(),
        dir.path().join("config.json"),
        dir.path().join("model.safetensors"),
    ] {
        let checkpoint = source::open(&path, &OpenOptions::default()).unwrap();
        assert_eq!(checkpoint.tensors["a"].shape, [2]);
        assert_eq!(checkpoint.tensors["b"].region.len, 3);
    }
    let tensors = source::read_tensors(&dir.path().join("model.safetensors")).unwrap();
    assert_eq!(tensors["a"].floats().unwrap().as_slice(), [1.0, 2.0]);
    assert_eq!(tensors["b"].ints().unwrap().as_slice(), [1, 2, 3]);
}

#[test]
fn header_lengths_are_checked_before_anything_is_allocated() {
    weights_refused(
        &[1, 2, 3],
        4,
        "bad_header",
        "expected at least 8 bytes for the header length, found 3",
    );
    weights_refused(
        &[0xff; 16],
        4,
        "bad_header",
        "the header claims 18446744073709551615 bytes, but only 8 follow its length",
    );
    // A sparse file is as long as it claims to be, but costs nothing.
    let dir = folder(&[("model.safetensors", b"")]);
    let path = dir.path().join("model.safetensors");
    let file = fs::File::create(&path).unwrap();
    (&file).write_all(&200_000_000u64.to_le_bytes()).unwrap();
    file.set_len(300_000_000).unwrap();
    assert_eq!(
        describe(&dir, &open(&dir).unwrap_err()),
        (
            4,
            "bad_header",
            "MODEL/model.safetensors: the header claims 200000000 bytes, expected at most 100000000"
                .to_owned()
        )
    );
}

#[test]
fn truncation_anywhere_is_refused() {
    let bytes = sound();
    for len in 0..bytes.len() {
        let (exit, code, message) = refusal(&[("model.safetensors", &bytes[..len])]);
        assert_eq!(exit, 4, "{len}: {message}");
        let expected = if len < bytes.len() - 11 {
            "bad_header"
        } else {
            "bad_tensor_range"
        };
        assert_eq!(code, expected, "{len}: {message}");
    }
}

#[test]
fn no_changed_byte_makes_the_reader_panic() {
    let bytes = sound();
    let mut refused = 0;
    for at in 0..bytes.len() - 11 {
        for value in [0, b'"', b'{', b'9', 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            let dir = folder(&[("model.safetensors", &bytes)]);
            refused += usize::from(open(&dir).is_err());
        }
    }
    // The others changed a name, or nothing.
    assert!(refused > 400, "{refused}");
}

#[test]
fn ranges_cover_the_data_exactly_once() {
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{a}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{b}}}}}"#
        )
    };
    let code = "bad_tensor_range";
    weights_refused(
        &raw(&two("[0,4]", "[2,6]"), &[0; 6]),
        4,
        code,
        "tensor `b`: range 2..6 overlaps tensor `a`, which ends at 4",
    );
    weights_refused(
        &raw(&two("[0,4]", "[0,4]"), &[0; 4]),
        4,
        code,
        "tensor `b`: range 0..4 overlaps tensor `a`, which ends at 4",
    );
    weights_refused(
        &raw(&two("[0,4]", "[6,10]"), &[0; 10]),
        4,
        code,
        "tensor `b`: bytes 4..6 before this tensor belong to no tensor",
    );
    weights_refused(
        &raw(&two("[0,4]", "[4,8]"), &[0; 9]),
        4,
        code,
        "1 bytes after the last tensor belong to no tensor",
    );
    weights_refused(
        &raw(&two("[0,4]", "[4,8]"), &[0; 7]),
        4,
        code,
        "tensor `b`: range 4..8 leaves the data section of 7 bytes",
    );
    weights_refused(
        &raw(&two("[4,0]", "[4,8]"), &[0; 8]),
        4,
        code,
        "tensor `a`: range 4..0 leaves the data section of 8 bytes",
    );
    weights_refused(
        &raw(&two("[0,3]", "[4,8]"), &[0; 8]),
        4,
        code,
        "tensor `a`: u8 of shape [4] needs 4 bytes, but its range 0..3 does not hold that",
    );
}

#[test]
fn shapes_are_multiplied_with_care() {
    let one = |shape: &str| {
        raw(
            &format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}"#),
            b"",
        )
    };
    for shape in [
        "[4294967296, 4294967296]",
        "[0, 18446744073709551615, 2]",
        "[562949953421313]",
    ] {
        let found = refusal(&[("model.safetensors", &one(shape))]);
        assert_eq!((found.0, found.1), (4, "bad_tensor_range"), "{}", found.2);
        assert!(found.2.contains("is too large: expected rank at most 32"));
    }
    let deep = format!("[{}1]", "1,".repeat(40));
    let found = refusal(&[("model.safetensors", &one(&deep))]);
    assert_eq!((found.0, found.1), (4, "bad_header"), "{}", found.2);
    for shape in ["[-1]", "[1.5]", "[18446744073709551616]", "3", "null"] {
        let found = refusal(&[("model.safetensors", &one(shape))]);
        assert_eq!((found.0, found.1), (4, "bad_header"), "{}", found.2);
    }
    // An empty tensor is a tensor.
    assert!(open(&folder(&[("model.safetensors", &one("[0, 3]"))])).is_ok());
}

#[test]
fn names_and_fields_stand_once_and_none_is_unknown() {
    let entry = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    weights_refused(
        &raw(&format!(r#"{{"w":{entry},"w":{entry}}}"#), &[0]),
        4,
        "duplicate_key",
        "tensor `w`: the tensor is named twice",
    );
    weights_refused(
        &raw(&format!(r#"{{"w":{entry},"\u0077":{entry}}}"#), &[0]),
        4,
        "duplicate_key",
        "tensor `w`: the tensor is named twice",
    );
    weights_refused(
        &raw(r#"{"__metadata__":{"k":"1","k":"2"}}"#, b""),
        4,
        "duplicate_key",
        "key `k` stands twice in one object",
    );
    weights_refused(
        &raw(
            r#"{"w":{"dtype":"U8","dtype":"F32","shape":[1],"data_offsets":[0,1]}}"#,
            &[0],
        ),
        4,
        "bad_header",
        "the header is malformed: duplicate field `dtype` at line 1 column 26",
    );
    for header in [
        r#"{"__metadata__":{},"__metadata__":{}}"#,
        r#"{"__metadata__":{"k":1}}"#,
        r#"{"__metadata__":[]}"#,
        r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0}}"#,
        r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}"#,
        r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0]}}"#,
        r#"{"w":{"dtype":"U8","shape":[1]}}"#,
        r#"{"w":[]}"#,
        r#"[]"#,
        r#" {}"#,
        r#"{}{}"#,
        "",
    ] {
        let found = refusal(&[("model.safetensors", &raw(header, &[0]))]);
        assert_eq!((found.0, found.1), (4, "bad_header"), "{}", found.2);
    }
    for name in [r"", r"a\u001b[31m", r"a\u0000", r"a\n"] {
        let header = format!(r#"{{"{name}":{entry}}}"#);
        let found = refusal(&[("model.safetensors", &raw(&header, &[0]))]);
        assert_eq!((found.0, found.1), (4, "bad_header"), "{}", found.2);
        assert!(!found.2.contains(|c: char| c.is_control()));
    }
}

#[test]
fn element_types_without_support_are_named() {
    for dtype in ["F8_E8M0", "F4", "C64", "f32", "U128"] {
        weights_refused(
            &raw(
                &format!(r#"{{"w":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,1]}}}}"#),
                &[0],
            ),
            1,
            "unsupported_dtype",
            &format!("tensor `w`: element type `{dtype}` is not supported in safetensors files"),
        );
    }
}

#[test]
fn pickles_are_refused_under_the_names_of_other_formats() {
    let pickle = b"\x80\x02}q\x00X\x01\x00\x00\x00wq\x01K\x01s.";
    let protocol_5 = b"\x80\x05\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94.";
    let zip = b"PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00\x00\x00archive/data.pkl";
    let runs = "under the name of another format, which can run code when it is loaded";
    for (bytes, what) in [
        (pickle.as_slice(), "a Python pickle"),
        (protocol_5, "a Python pickle"),
        (b"\x80\x04".as_slice(), "a Python pickle"),
        (
            zip,
            "a zip archive, as PyTorch writes around a Python pickle,",
        ),
    ] {
        weights_refused(
            bytes,
            4,
            "unsafe_format",
            &format!("the file is {what} {runs}"),
        );
        // As MODEL, under a name that says nothing: read as data, and found to be no checkpoint.
        let dir = folder(&[("weights.data", bytes)]);
        let path = dir.path().join("weights.data");
        let error = source::open(&path, &OpenOptions::default()).unwrap_err();
        assert_eq!(error.class().exit_code(), 4, "{error}");
        // As a tensor file.
        let dir = folder(&[("inputs.safetensors", bytes)]);
        let error = source::read_tensors(&dir.path().join("inputs.safetensors")).unwrap_err();
        assert_eq!(
            (error.class().exit_code(), error.code()),
            (4, "unsafe_format")
        );
    }
    for name in ["model.pt", "pytorch_model.bin", "x.PTH", "x.ckpt", "x.pkl"] {
        // As MODEL and as the only weights of a folder: read as data, and found to be no checkpoint.
        let dir = folder(&[(name, b"anything")]);
        let path = dir.path().join(name);
        let found = format!(
            "MODEL/{name}: the file is of no known kind; expected a PyTorch checkpoint: a zip archive with `data.pkl`, or the layout before PyTorch 1.6"
        );
        let errors = [
            source::open(&path, &OpenOptions::default()).unwrap_err(),
            open(&dir).unwrap_err(),
        ];
        for error in errors {
            let expected = (4, "unsafe_format", found.clone());
            assert_eq!(describe(&dir, &error), expected);
            assert!(error.hint().unwrap().contains("save_file"));
        }
        // As a tensor file it is not even opened.
        let error = source::read_tensors(&path).unwrap_err();
        let by_name = format!(
            "MODEL/{name}: the file is a PyTorch checkpoint (a Python pickle) by its name, which can run code when it is loaded"
        );
        assert_eq!(describe(&dir, &error), (4, "unsafe_format", by_name));
        assert!(error.hint().unwrap().contains("import"));
    }
    // A pickle beside sound weights is not read and does not matter.
    let files: [(&str, &[u8]); 2] = [("model.safetensors", &sound()), ("x.bin", pickle)];
    assert!(open(&folder(&files)).is_ok());
}

#[test]
fn a_header_length_that_looks_like_a_pickle_is_not_one() {
    // 640 is `80 02` in little-endian order.
    let header = format!("{:<640}", "{}");
    let bytes = raw(&header, b"");
    assert_eq!(bytes[..2], [0x80, 0x02]);
    assert!(open(&folder(&[("model.safetensors", &bytes)])).is_ok());
}

#[test]
fn a_placeholder_is_not_taken_for_weights() {
    weights_refused(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        1,
        "lfs_pointer",
        "the file is a Git LFS pointer, not the weights themselves",
    );
}
