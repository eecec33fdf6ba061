//! Sound files to start from, and what lies beside them.

use std::collections::BTreeMap;
use std::fs;

use distill_convert::provenance::{self, Dependency, Predicate, Signer, Statement};
use distill_convert::source::FileDigest;
use distill_convert::{coreml, onnx};
use serde_json::json;
use tempfile::TempDir;

use super::{copy, file, fixture, found, repair, tiny};

/// What the mutants of a reader are made from.
pub(super) struct Seeds {
    pub(super) files: Vec<Vec<u8>>,
    pub(super) folder: TempDir,
    pub(super) repair: fn(&mut [u8]),
}

/// Tokenizers of other kinds than the models here have: each part is one of `tokenizers`.
const TOKENIZERS: [&str; 3] = [
    r###"{"version":"1.0","truncation":{"direction":"Right","max_length":8,"strategy":"LongestFirst","stride":0},"padding":{"strategy":"BatchLongest","direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"[PAD]"},"added_tokens":[{"id":0,"content":"[PAD]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},{"id":1,"content":"[CLS]","single_word":false,"lstrip":true,"rstrip":false,"normalized":true,"special":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"NFKD"},{"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "},{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}]},"pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"[CLS]":{"id":"[CLS]","ids":[1],"tokens":["[CLS]"]}}},"decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[PAD]":0,"[CLS]":1,"[UNK]":2,"is":3,"this":4,"a":5,"ca":6,"##fe":7,",":8,"4":9,"##2":10,"?":11}}}"###,
    r###"{"version":"1.0","truncation":null,"padding":{"strategy":{"Fixed":16},"direction":"Left","pad_to_multiple_of":8,"pad_id":0,"pad_type_id":0,"pad_token":"p"},"added_tokens":[],"normalizer":{"type":"Prepend","prepend":"_"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},{"type":"Digits","individual_digits":true}]},"post_processor":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false,"use_regex":true},"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},"model":{"type":"BPE","dropout":null,"unk_token":"u","continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":true,"byte_fallback":true,"ignore_merges":false,"vocab":{"u":0,"a":1,"c":2,"i":3,"s":4,"is":5,"h":6,"his":7,"t":8,"this":9,"ca":10},"merges":[["i","s"],["h","is"],["t","his"],["c","a"]]}}"###,
    r###"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":{"type":"Sequence","normalizers":[{"type":"Strip","strip_left":true,"strip_right":true},{"type":"Lowercase"},{"type":"StripAccents"}]},"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},"post_processor":{"type":"RobertaProcessing","sep":["s",1],"cls":["c",2],"trim_offsets":true,"add_prefix_space":true},"decoder":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},"model":{"type":"Unigram","unk_id":0,"byte_fallback":false,"vocab":[["<unk>",0.0],["▁",-2.5],["is",-3.0],["this",-4.0],["a",-2.0],["ca",-5.5],["fe",-6.0],["4",-7.0]]}}"###,
];

const TORCH: [&str; 8] = [
    "kept",
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
    let mut files = match reader {
        "safetensors" => {
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
            .chain(["protocol4", "protocol5", "kept4"].map(|n| data_pkl(&format!("{n}.zip.pt"))))
            .collect(),
        "checkpoint" => {
            let layouts = ["zip", "legacy"];
            let names = TORCH.iter().flat_map(|n| layouts.map(|l| format!("{n}.{l}.pt")));
            names.map(|n| file(&format!("tests/fixtures/torch/{n}"))).collect()
        }
        "npz" => {
            vec![
                file("tests/data/numpy.npz"),
                file("tests/fixtures/coreml/decoder/inputs.0.npz"),
                file("tests/fixtures/coreml/shapes/expected.1.npz"),
            ]
        }
        "image" => images(),
        "onnx" | "onnx_file" | "conversion_of_onnx" => onnx_models(&folder),
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
        "mil_program" | "mlmodel_file" | "conversion_of_coreml" => {
            fs::write(folder.path().join("weight.bin"), weights("decoder")).unwrap();
            programs()
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
        "tokenizer" => {
            let own = file("models/binary/tokenizer.json");
            let others = TOKENIZERS.iter().map(|text| text.as_bytes().to_vec());
            std::iter::once(own).chain(others).collect()
        }
        "statement" => statements(),
        "key" => ["private", "public", "other"]
            .map(|name| file(&format!("tests/fixtures/keys/{name}.pem")))
            .into(),
        other => panic!("no seeds for reader `{other}`"),
    };
    // What once went wrong is tried again with every run, changed as well.
    files.extend(found(reader).into_iter().map(|(_, bytes)| bytes));
    Seeds {
        files,
        folder,
        repair: repair::of(reader),
    }
}

/// PNG files of every kind that is read, and what two JPEG encoders write.
fn images() -> Vec<Vec<u8>> {
    let folder = "tests/fixtures/images";
    let own = ["color.png", "opaque.png", "gray.jpg"].map(|n| format!("{folder}/{n}"));
    let pillow = [
        "444",
        "422",
        "420",
        "coarse",
        "gray",
        "inks",
        "progressive",
        "progressive444",
        "restart",
        "rgb",
    ];
    let pillow = pillow.map(|n| format!("{folder}/jpeg/{n}.jpg"));
    own.iter().chain(&pillow).map(|path| file(path)).collect()
}

/// The decoder, whose weights are in a file, then the programs that coremltools built for its own tests.
fn programs() -> Vec<Vec<u8>> {
    let mut out = vec![file(
        "tests/fixtures/coreml/decoder/model.mlpackage/Data/com.apple.CoreML/model.mlmodel",
    )];
    let index = String::from_utf8(file("tests/fixtures/mil/index.tsv")).unwrap();
    // Those whose weights are all in the program, as its eleventh column says.
    let inside = |line: &str| -> Option<String> {
        let mut columns = line.split('\t');
        let name = columns.next()?;
        (columns.nth(9)? == "0").then(|| name.to_owned())
    };
    let names = index.lines().skip(1).filter_map(inside);
    out.extend(names.map(|name| file(&format!("tests/fixtures/mil/{name}/model.mlmodel"))));
    assert!(out.len() > 300, "{}", out.len());
    out
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

/// A statement, and the same in a signed envelope.
fn statements() -> Vec<Vec<u8>> {
    let digest = |path: &str| FileDigest {
        path: path.into(),
        size: 3,
        sha256: "ab".repeat(32),
    };
    let dependencies = vec![
        Dependency::commit("a/b", &"1".repeat(40)),
        Dependency::file("", &digest("config.json")),
    ];
    let options = BTreeMap::from([("target".to_owned(), json!("onnx"))]);
    let checked = BTreeMap::from([("status".to_owned(), json!("passed"))]);
    let time = Some(provenance::utc(1_750_000_000));
    let predicate = Predicate::new(options, dependencies, checked, time);
    let statement = Statement::new(&[digest("m.onnx"), digest("m.onnx.data")], predicate);
    let signer = Signer::read(&fixture("tests/fixtures/keys/private.pem")).unwrap();
    let texts = [None, Some(&signer)].map(|signer| statement.to_file(signer).unwrap());
    texts.map(String::into_bytes).into()
}

/// A small model of our own, with its weights inside and beside; and the programs of [`programs`] that can be written as ONNX.
fn onnx_models(folder: &TempDir) -> Vec<Vec<u8>> {
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
    let (model, path) = (
        folder.path().join("one.mlmodel"),
        folder.path().join("one.onnx"),
    );
    for program in programs().split_off(1) {
        fs::write(&model, program).unwrap();
        let Ok(read) = coreml::read(&model) else {
            continue;
        };
        if onnx::write(&read.module, &path, &onnx::WriteOptions::default()).is_ok() {
            out.push(fs::read(&path).unwrap());
            fs::remove_file(&path).unwrap();
        }
    }
    assert!(out.len() > 200, "{}", out.len());
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
