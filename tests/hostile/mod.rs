//! Bad inputs: each is refused with its exit code, its message and the way out.
//!
//! Owns the model folders that the tests spoil.

use std::fs;

use distill_convert::error::{Error, Result};
use distill_convert::source::{self, Checkpoint, OpenOptions};
use tempfile::TempDir;

mod coreml;
mod duplicate_keys;
mod onnx;
mod onnx_program;
mod pickles;
mod source_folders;
mod source_headers;
mod source_locks;
mod source_tensor_files;

/// The bytes of a safetensors file with this header, as it stands.
pub(crate) fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

/// A sound file: `a` is F32 `[2]`, `b` is U8 `[3]`.
pub(crate) fn sound() -> Vec<u8> {
    raw(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}"#,
        &[0, 0, 128, 63, 0, 0, 0, 64, 1, 2, 3],
    )
}

/// A model folder with these files; `config.json` is `{}` unless it is among them.
pub(crate) fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

pub(crate) fn open(dir: &TempDir) -> Result<Checkpoint> {
    source::open(dir.path(), &OpenOptions::default())
}

/// Exit code, machine code and message of an error, with the folder shown as `MODEL`.
pub(crate) fn describe(dir: &TempDir, error: &Error) -> (u8, &'static str, String) {
    let prefix = dir.path().display().to_string();
    let message = error.to_string().replace(&prefix, "MODEL");
    (error.class().exit_code(), error.code(), message)
}

/// How a folder with these files is refused.
pub(crate) fn refusal(files: &[(&str, &[u8])]) -> (u8, &'static str, String) {
    let dir = folder(files);
    describe(&dir, &open(&dir).unwrap_err())
}

/// A sentence-transformers folder.
pub(crate) fn sentence_folder() -> TempDir {
    folder(&[
        ("model.safetensors", &sound()),
        ("modules.json", br#"[{"idx":0}]"#),
        ("1_Pooling/config.json", br#"{"k":1}"#),
        ("2_Dense/config.json", br#"{"k":1,"k":2}"#),
        ("2_Dense/model.safetensors", &sound()),
        ("3_Dense/pytorch_model.bin", b"\x80\x02"),
        ("tokenizer.json", b"{}"),
        (".hidden/secret.json", b"{}"),
        ("notes.md", b"notes"),
        ("onnx/deep/model.onnx", b"a graph"),
    ])
}
