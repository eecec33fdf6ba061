//! Sound files to start from, what lies beside them, and how the outer checks of a format are made good again, so that a mutant gets further.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::{copy, file, tiny};

/// What the mutants of a reader are made from.
pub(super) struct Seeds {
    pub(super) files: Vec<Vec<u8>>,
    pub(super) folder: TempDir,
    pub(super) repair: fn(&mut [u8]),
}

const TORCH: [&str; 7] = [
    "dtypes",
    "views",
    "module",
    "parameters",
    "training",
    "nested",
    "views",
];

pub(super) fn seeds(reader: &str) -> Seeds {
    let folder = tempfile::tempdir().unwrap();
    let mut repair: fn(&mut [u8]) = |_| {};
    let files = match reader {
        "safetensors" => {
            repair = header_length;
            vec![
                file("tests/fixtures/torch/dtypes.safetensors"),
                file("tests/fixtures/torch/views.safetensors"),
                tiny().weights(),
            ]
        }
        "shard_index" => vec![
            json!({"metadata": {"total_size": 16}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}})
                .to_string()
                .into_bytes(),
            br#"{"weight_map": {"model.embed": "x.safetensors"}}"#.to_vec(),
        ],
        "lock" => {
            let entry = "size = 12\nsha256 = \"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"\n";
            vec![
                format!("schema_version = 1\n[files.\"config.json\"]\n{entry}").into_bytes(),
                format!("schema_version = 1\nrepo = \"a/b\"\nrevision = \"0123456789abcdef0123456789abcdef01234567\"\n[files.\"1_Dense/model.safetensors\"]\n{entry}[files.\"a.txt\"]\n{entry}").into_bytes(),
            ]
        }
        "json" => vec![
            file("tests/fixtures/reference-models/gemma2/config.json"),
            br#" {"a": [1, -2, 3.5, 1e-05, 18446744073709551615, true, null, "x\u0041"], "b": {"c": {}}} "#.to_vec(),
        ],
        "pickle" => TORCH
            .iter()
            .map(|name| data_pkl(&format!("{name}.zip.pt")))
            .chain([data_pkl("protocol4.zip.pt"), data_pkl("protocol5.zip.pt")])
            .collect(),
        "checkpoint" => {
            repair = checksums;
            let layouts = ["zip", "legacy"];
            let names = TORCH.iter().flat_map(|n| layouts.map(|l| format!("{n}.{l}.pt")));
            names.map(|n| file(&format!("tests/fixtures/torch/{n}"))).collect()
        }
        "npz" => {
            repair = checksums;
            vec![
                file("tests/data/numpy.npz"),
                file("tests/fixtures/coreml/decoder/inputs.0.npz"),
                file("tests/fixtures/coreml/shapes/expected.1.npz"),
            ]
        }
        "image" => vec![
            file("tests/fixtures/images/color.png"),
            file("tests/fixtures/images/opaque.png"),
            file("tests/fixtures/images/gray.jpg"),
        ],
        "onnx" => onnx(&folder),
        "external_data" => external_data(&folder),
        "mlpackage_manifest" => {
            let data = folder.path().join("Data/com.apple.CoreML/weights");
            fs::create_dir_all(&data).unwrap();
            fs::write(data.join("weight.bin"), b"").unwrap();
            fs::write(data.join("../model.mlmodel"), b"").unwrap();
            vec![
                file("tests/fixtures/coreml/decoder/model.mlpackage/Manifest.json"),
                file("tests/fixtures/coreml/encoder/model.mlpackage/Manifest.json"),
            ]
        }
        "weight_blob" => ["decoder", "encoder"].map(weights).into(),
        "mil_program" => {
            fs::write(folder.path().join("weight.bin"), weights("decoder")).unwrap();
            vec![file(
                "tests/fixtures/coreml/decoder/model.mlpackage/Data/com.apple.CoreML/model.mlmodel",
            )]
        }
        "task" => {
            copy("models/binary/tokenizer.json", folder.path());
            let text = String::from_utf8(file("models/binary/task.toml")).unwrap();
            vec![text.into_bytes()]
        }
        "config" => {
            let model = tiny();
            fs::write(folder.path().join("model.safetensors"), model.weights()).unwrap();
            fs::write(folder.path().join("config.json"), model.config.to_string()).unwrap();
            vec![model.config.to_string().into_bytes()]
        }
        other => panic!("no seeds for reader `{other}`"),
    };
    Seeds {
        files,
        folder,
        repair,
    }
}

fn weights(name: &str) -> Vec<u8> {
    file(&format!(
        "tests/fixtures/coreml/{name}/model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    ))
}

/// The pickle in an archive of the fixtures.
fn data_pkl(name: &str) -> Vec<u8> {
    use std::io::Read;
    let bytes = file(&format!("tests/fixtures/torch/{name}"));
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut out = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).unwrap();
        if member.name().unwrap().ends_with("/data.pkl") {
            member.read_to_end(&mut out).unwrap();
        }
    }
    assert!(!out.is_empty());
    out
}

/// A small model of our own, with its weights inside and beside.
fn onnx(folder: &TempDir) -> Vec<Vec<u8>> {
    use std::process::Command;
    let model = tiny().write(folder.path());
    let mut out = Vec::new();
    for external in [false, true] {
        let name = if external {
            "external.onnx"
        } else {
            "inside.onnx"
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_distill-convert"));
        command.current_dir(folder.path()).args([
            "--target",
            "onnx",
            "--no-verify",
            "--shape",
            "input_ids=1,4",
            "-o",
            name,
        ]);
        command.arg(&model);
        if external {
            command.arg("--external-data");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        out.push(fs::read(folder.path().join(name)).unwrap());
    }
    out
}

/// Messages of tensors whose data lie in files of the folder, which also has links and folders that must not be followed.
fn external_data(folder: &TempDir) -> Vec<Vec<u8>> {
    let base = folder.path().join("base");
    fs::create_dir_all(base.join("sub")).unwrap();
    fs::write(base.join("w"), [7; 64]).unwrap();
    fs::write(base.join("sub/w.data"), [7; 4096]).unwrap();
    let text = |number: u8, text: &str| -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap();
        [&[number << 3 | 2, length][..], text.as_bytes()].concat()
    };
    let message = |number: u8, bytes: &[u8]| -> Vec<u8> {
        [
            &[number << 3 | 2, u8::try_from(bytes.len()).unwrap()][..],
            bytes,
        ]
        .concat()
    };
    // Fields: dims 1, data_type 2, name 8, external_data 13 of (key 1, value 2), data_location 14.
    let tensor = |elements: u8, said: &[(&str, &str)]| -> Vec<u8> {
        let mut out = vec![1 << 3, elements, 2 << 3, 2];
        out.extend(text(8, "t"));
        for (key, value) in said {
            out.extend(message(13, &[text(1, key), text(2, value)].concat()));
        }
        out.extend([14 << 3, 1]);
        out
    };
    vec![
        tensor(64, &[("location", "base/w")]),
        tensor(
            16,
            &[
                ("location", "./base/sub/w.data"),
                ("offset", "4080"),
                ("length", "16"),
            ],
        ),
        tensor(0, &[("location", "base/w"), ("offset", "64")]),
    ]
}

/// Makes the length of a safetensors header that of the JSON that is there.
fn header_length(bytes: &mut [u8]) {
    if bytes.len() < 10 {
        return;
    }
    let (mut depth, mut in_text, mut escaped) = (0i64, false, false);
    for at in 8..bytes.len() {
        match bytes[at] {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' if !in_text => depth += 1,
            b'}' if !in_text => {
                depth -= 1;
                if depth == 0 {
                    let spaces = bytes[at + 1..].iter().take_while(|&&b| b == b' ').count();
                    let len = (at + 1 - 8 + spaces) as u64;
                    bytes[..8].copy_from_slice(&len.to_le_bytes());
                    return;
                }
            }
            _ => {}
        }
    }
}

/// Makes the checksums and sizes of stored members of an archive those of the bytes that are there.
fn checksums(bytes: &mut [u8]) {
    let word = |bytes: &[u8], at: usize| -> Option<usize> {
        let word = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(word) as usize)
    };
    let half = |bytes: &[u8], at: usize| -> Option<usize> {
        let half = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(usize::from(u16::from_le_bytes(half)))
    };
    let starts: Vec<usize> = (0..bytes.len().saturating_sub(46))
        .filter(|&at| bytes[at..].starts_with(b"PK\x01\x02"))
        .collect();
    for at in starts {
        let parts = || -> Option<(usize, usize, usize)> {
            let (method, size, local) = (
                half(bytes, at + 10)?,
                word(bytes, at + 20)?,
                word(bytes, at + 42)?,
            );
            let data = local
                .checked_add(30)?
                .checked_add(half(bytes, local.checked_add(26)?)?)?
                .checked_add(half(bytes, local.checked_add(28)?)?)?;
            (method == 0 && data.checked_add(size)? <= bytes.len()).then_some((local, data, size))
        };
        let Some((local, data, size)) = parts() else {
            continue;
        };
        let crc = crc32fast::hash(&bytes[data..data + size]).to_le_bytes();
        // PyTorch and zip write descriptors or not: both headers hold the checksum unless a flag says otherwise.
        let described = bytes[local + 6] & 8 != 0;
        bytes[at + 16..at + 20].copy_from_slice(&crc);
        if !described {
            bytes[local + 14..local + 18].copy_from_slice(&crc);
        }
    }
}
