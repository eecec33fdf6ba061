//! PyTorch checkpoints by PyTorch itself: both layouts give the bytes that the same run saved as safetensors; what is no model is refused.
//!
//! The fixtures are made by `scripts/fixtures/torch_checkpoints.py`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use distill_convert::source::{self, Checkpoint, OpenOptions};
use distill_convert::tensor::{DType, Region};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::common::{entries, root, run, run_json};

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/torch").join(name)
}

/// Opens a checkpoint, under a config that says nothing.
fn open(path: &Path) -> distill_convert::error::Result<Checkpoint> {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.json");
    fs::write(&config, "{}").unwrap();
    let options = OpenOptions {
        config: Some(&config),
        ..OpenOptions::default()
    };
    source::open(path, &options)
}

fn dtype(theirs: Dtype) -> DType {
    match theirs {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::U16 => DType::U16,
        Dtype::I16 => DType::I16,
        Dtype::U32 => DType::U32,
        Dtype::I32 => DType::I32,
        Dtype::U64 => DType::U64,
        Dtype::I64 => DType::I64,
        Dtype::F8_E4M3 => DType::F8E4M3,
        Dtype::F8_E5M2 => DType::F8E5M2,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        other => panic!("no such fixture: {other:?}"),
    }
}

/// Everything about each tensor, bytes included.
type Tensors = BTreeMap<String, (DType, Vec<usize>, Vec<u8>)>;

fn found(checkpoint: &Checkpoint) -> Tensors {
    let tensors = checkpoint.tensors.iter();
    tensors
        .map(|(name, t)| {
            let bytes = Region::File(t.region.clone()).read().unwrap();
            (name.clone(), (t.dtype, t.shape.clone(), bytes))
        })
        .collect()
}

fn expected(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .iter()
        .map(|(name, view)| {
            let parts = (
                dtype(view.dtype()),
                view.shape().to_vec(),
                view.data().to_vec(),
            );
            (name.to_owned(), parts)
        })
        .collect()
}

#[test]
fn both_layouts_give_the_bytes_of_torchs_own_tensors() {
    let mut compared = 0;
    for name in [
        "dtypes",
        "views",
        "module",
        "parameters",
        "training",
        "nested",
        "kept",
    ] {
        let expected = expected(&fixture(&format!("{name}.safetensors")));
        for layout in ["zip", "legacy"] {
            let path = fixture(&format!("{name}.{layout}.pt"));
            assert_eq!(found(&open(&path).unwrap()), expected, "{}", path.display());
            compared += expected.len();
        }
    }
    for protocol in [3, 4, 5] {
        let path = fixture(&format!("protocol{protocol}.zip.pt"));
        assert_eq!(
            found(&open(&path).unwrap()),
            expected(&fixture("views.safetensors"))
        );
    }
    let path = fixture("kept4.zip.pt");
    assert_eq!(
        found(&open(&path).unwrap()),
        expected(&fixture("kept.safetensors"))
    );
    // 17 element types and forms, 11 views, the module twice and in training, one layer twice; each in two layouts.
    assert_eq!(compared, 2 * (17 + 11 + 11 + 8 + 11 + 2 + 2));
}

#[test]
fn what_was_left_out_and_taken_off_is_said() {
    let checkpoint = source::open(&fixture("training.zip.pt"), &OpenOptions::default()).unwrap();
    let notes = checkpoint.notes.join("\n");
    for part in [
        "`training.zip.pt` was read as data; nothing in it was executed",
        "`optimizer_state_dict`",
        "`scheduler_state_dict`",
        "`step`",
        "`loss`",
        "`meta`",
        "prefixes taken off the names of tensors: `_orig_mod.`, `module.`",
        "taken for a `student`",
        "`head.weight` = `embed.weight`",
    ] {
        assert!(notes.contains(part), "no {part:?} in:\n{notes}");
    }
    // The config is that of the checkpoint, and says which model it is as the predecessor does not.
    let text = fs::read(fixture("training.config.json")).unwrap();
    let mut config: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
    for (key, value) in [
        ("model_type", json!("student")),
        ("use_halt_head", json!(false)),
        ("use_self_evaluation", json!(false)),
    ] {
        config.insert(key.to_owned(), value);
    }
    assert_eq!(checkpoint.config, config);
}

#[test]
fn arguments_defaults_and_numbers_of_numpy_are_data() {
    for name in ["kept.zip.pt", "kept.legacy.pt", "kept4.zip.pt"] {
        let checkpoint = source::open(&fixture(name), &OpenOptions::default()).unwrap();
        let notes = checkpoint.notes.join("\n");
        let left = "not read: `args`, `values`, `scores`, `counts`, `by_name`, `factories`";
        assert!(notes.contains(left), "{notes}");
        // A namespace as the config is the object of its values, and a number of NumPy a number.
        assert_eq!(
            Value::Object(checkpoint.config),
            json!({"lr": 1e-3, "layers": [2, 2], "name": "small", "inner": {}, "best": 0.5}),
            "{name}"
        );
    }
}

#[test]
fn what_is_no_model_or_not_plain_data_is_refused_with_the_reason() {
    let table: [(&str, u8, &str, &str); 12] = [
        (
            "complex",
            1,
            "unsupported_dtype",
            "element type `complex64`",
        ),
        (
            "tensor",
            1,
            "bad_state_dict",
            "the checkpoint holds a tensor",
        ),
        (
            "two_models",
            2,
            "ambiguous_weights",
            "several models: `state_dict`, `model`",
        ),
        (
            "not_all_tensors",
            1,
            "bad_state_dict",
            "entry `step` of the model's state is an integer",
        ),
        (
            "sparse",
            4,
            "unsafe_pickle",
            "opcode `GLOBAL` asks for `torch._utils._rebuild_sparse_tensor`",
        ),
        (
            "module",
            4,
            "unsafe_pickle",
            "opcode `GLOBAL` asks for `__main__.Small`",
        ),
        (
            "quantized",
            4,
            "unsafe_pickle",
            "`torch._utils._rebuild_qtensor`",
        ),
        (
            "negated",
            4,
            "unsafe_pickle",
            "expected no metadata that changes the values",
        ),
        ("torchscript", 4, "unsafe_format", "a TorchScript program"),
        (
            "array",
            4,
            "unsafe_pickle",
            "opcode `GLOBAL` asks for `numpy._core.multiarray._reconstruct`",
        ),
        (
            "numpy_text",
            4,
            "unsafe_pickle",
            "opcode `REDUCE` applies `numpy.dtype`",
        ),
        (
            "factory",
            4,
            "unsafe_pickle",
            "opcode `GLOBAL` asks for `__builtin__.sum`",
        ),
    ];
    for (name, exit, code, message) in table {
        let path = fixture(&format!("refused.{name}.pt"));
        let error = source::open(&path, &OpenOptions::default()).unwrap_err();
        assert_eq!(
            (error.class().exit_code(), error.code()),
            (exit, code),
            "{error}"
        );
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
    // The offset is the opcode's in the file.
    let path = fixture("refused.module.pt");
    let error = source::open(&path, &OpenOptions::default()).unwrap_err();
    let offset = usize::try_from(error.place.offset.unwrap()).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert!(bytes[offset..].starts_with(b"c__main__\nSmall\n"));
}

/// What a training script may keep beside a model, as PyTorch and Python pickle it.
const KEPT: &[(&str, &[u8])] = &[
    (
        "a counter",
        b"ccollections\nCounter\n}X\x01\0\0\0aK\x02s\x85R",
    ),
    (
        "a dictionary with a default",
        b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RX\x01\0\0\0aK\x02s",
    ),
    (
        "a namespace that holds itself",
        b"cargparse\nNamespace\n)\x81q\xf0}X\x01\0\0\0ah\xf0sb",
    ),
    (
        "a number of NumPy before version 2",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\0\0\0f4K\0K\x01\x87R(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tbC\x04\0\0\xc0\x3f\x86R",
    ),
    ("an empty counter", b"ccollections\nCounter\n)R"),
    (
        "a byte array of protocol 2",
        b"c__builtin__\nbytearray\nX\x02\0\0\0\xc3\xbfX\x07\0\0\0latin-1\x86R",
    ),
    (
        "a byte array of protocol 4",
        b"cbuiltins\nbytearray\nC\x02ab\x85R",
    ),
    ("a byte array of protocol 5", b"\x96\x02\0\0\0\0\0\0\0ab"),
    (
        "a complex number",
        b"c__builtin__\ncomplex\nG\x3f\xf0\0\0\0\0\0\0G\0\0\0\0\0\0\0\0\x86R",
    ),
    (
        "a layout",
        b"ctorch.serialization\n_get_layout\nX\x0d\0\0\0torch.strided\x85R",
    ),
    ("a memory format", b"ctorch\ntorch.channels_last\n"),
    ("a quantization scheme", b"ctorch\nper_channel_affine\n"),
    ("an element type", b"ctorch\nbfloat16\n"),
    ("a device", b"ctorch\ndevice\nX\x04\0\0\0cudaK\x01\x86R"),
    ("a shape", b"ctorch\nSize\nK\x02K\x03\x86\x85R"),
    (
        "numbers as keys",
        b"}(G\x3f\xe0\0\0\0\0\0\0NG\x7f\xf0\0\0\0\0\0\0NK\x01NNNu",
    ),
    (
        "long integers as keys",
        b"}(\x8a\x09\0\0\0\0\0\0\0\0\x01N\x8a\x09\0\0\0\0\0\0\0\0\x02Nu",
    ),
    (
        "tuples as keys",
        b"}(K\x01K\x02\x86NK\x01K\x02\x86\x85NX\x01\0\0\0aG\x3f\xe0\0\0\0\0\0\0\x86Nu",
    ),
    ("tuples in a set", b"\x8f(K\x01K\x02\x86K\x01\x85\x90"),
];

#[test]
fn what_training_scripts_keep_beside_a_model_is_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("training.ckpt");
    for wrapper in ["state_dict", "module", "model_state", "net", "params"] {
        let mut pickle = Pickle::new();
        // `model` is a description here, and no second model.
        pickle
            .raw(b"}(")
            .text("model")
            .raw(b"}")
            .text("layers")
            .int(2)
            .raw(b"s");
        pickle
            .text(wrapper)
            .raw(b"}")
            .text("w")
            .tensor("0", &[2])
            .raw(b"s");
        for (name, bytes) in KEPT {
            pickle.text(name).raw(bytes);
        }
        pickle.raw(b"u.");
        let archive = zip_of(&[
            ("x/data.pkl".to_owned(), pickle.0),
            ("x/data/0".to_owned(), vec![0; 8]),
        ]);
        fs::write(&path, archive).unwrap();
        let checkpoint = open(&path).unwrap();
        assert_eq!(checkpoint.tensors.keys().collect::<Vec<_>>(), ["w"]);
        let notes = checkpoint.notes.join("\n");
        for part in [
            &format!("`{wrapper}` of the checkpoint is the model; not read: `model`, `a counter`"),
            "and 8 more",
        ] {
            assert!(notes.contains(part), "no {part:?} in {notes}");
        }
    }
    // One key is one, in whatever form it is written.
    let twice: [&[u8]; 6] = [
        b"G\x3f\xf0\0\0\0\0\0\0NK\x01N",
        b"\x88NG\x3f\xf0\0\0\0\0\0\0N",
        b"K\x01\x85NK\x01\x85N",
        b"K\x01\x85N\x88\x85N",
        b"\x8a\x0a\0\0\0\0\0\0\0\0\x01\0N\x8a\x09\0\0\0\0\0\0\0\0\x01N",
        b"\x8a\x02\x01\0NK\x01N",
    ];
    for entries in twice {
        let mut pickle = Pickle::new();
        pickle.raw(b"}(").raw(entries).raw(b"u.");
        let archive = zip_of(&[("x/data.pkl".to_owned(), pickle.0)]);
        fs::write(&path, archive).unwrap();
        let error = open(&path).unwrap_err();
        assert!(error.to_string().contains("stands twice"), "{error}");
    }
}

#[test]
fn a_config_that_is_named_stands_in_the_place_of_a_bad_one() {
    // Element types and devices become the text that Hugging Face's libraries write.
    let checkpoint = source::open(&fixture("dtype_in_config.zip.pt"), &OpenOptions::default());
    let config = Value::Object(checkpoint.unwrap().config);
    assert_eq!(config, json!({"dtype": "float32"}));

    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut pickle = Pickle::new();
    pickle
        .raw(b"}(")
        .text("config")
        .raw(b"}(")
        .text("ok")
        .int(1);
    pickle
        .text("device")
        .raw(b"ctorch\ndevice\nX\x04\0\0\0cudaK\x01\x86R");
    pickle.text("tags").raw(b"]\x8fau");
    pickle
        .text("model")
        .raw(b"}")
        .text("w")
        .tensor("0", &[2])
        .raw(b"su.");
    let archive = zip_of(&[
        ("x/data.pkl".to_owned(), pickle.0),
        ("x/data/0".to_owned(), vec![0; 8]),
    ]);
    fs::write(at("model.pt"), archive).unwrap();
    let error = source::open(&at("model.pt"), &OpenOptions::default()).unwrap_err();
    assert_eq!(error.code(), "bad_config");
    assert!(
        error
            .to_string()
            .contains("`config.tags[0]` of the checkpoint is a set"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("--config"));
    // Nor does one beside the checkpoint matter then.
    fs::write(at("config.json"), "not JSON").unwrap();
    fs::write(at("mine.json"), r#"{"mine": 1}"#).unwrap();
    let arguments = ["import", "model.pt", "-o", "out", "--config", "mine.json"];
    let (code, document) = run_json(dir.path(), &arguments);
    assert_eq!(code, 0, "{document:#}");
    let written = fs::read_to_string(at("out/config.json")).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&written).unwrap(),
        json!({"mine": 1})
    );
}

#[test]
fn import_writes_safetensors_config_and_lock_and_convert_reads_either() {
    let dir = tempfile::tempdir().unwrap();
    let (model, checkpoint) = (dir.path().join("model"), fixture("training.legacy.pt"));
    let (code, document) = run_json(
        dir.path(),
        &["import", checkpoint.to_str().unwrap(), "-o", "model"],
    );
    assert_eq!(code, 0, "{document:#}");
    assert_eq!(document["result"]["tensors"], 11);
    assert_eq!(
        entries(&model, &[]),
        ["config.json", "distill-convert.lock", "model.safetensors"]
    );
    assert_eq!(
        expected(&model.join("model.safetensors")),
        expected(&fixture("training.safetensors"))
    );
    let output = run(dir.path(), &["lock", "model", "--check"]);
    assert!(output.status.success(), "{output:?}");
    // Once more, over the first: the same bytes. Over anything that import did not write: refused.
    let before = fs::read(model.join("distill-convert.lock")).unwrap();
    let again = ["import", checkpoint.to_str().unwrap(), "-o", "model"];
    assert_eq!(run_json(dir.path(), &again).0, 0);
    assert_eq!(
        fs::read(model.join("distill-convert.lock")).unwrap(),
        before
    );
    fs::write(model.join("notes.txt"), "mine").unwrap();
    let (code, document) = run_json(dir.path(), &again);
    assert_ne!(code, 0, "{document:#}");
    assert_eq!(document["error"]["code"], "output_exists");
    assert!(model.join("notes.txt").exists());
    assert_eq!(entries(dir.path(), &[]), ["model"]);
}

/// A checkpoint of the model in `folder`, which is a fixture with safetensors: written by hand in the zip layout, opcode for opcode.
fn checkpoint_of(folder: &Path) -> Vec<u8> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut pickle = Pickle::new();
    pickle.raw(b"}(");
    let mut storages = Vec::new();
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by_key(|(name, _)| name.to_owned());
    for (name, view) in sorted {
        assert_eq!(view.dtype(), Dtype::F32);
        let key = storages.len().to_string();
        pickle.text(name);
        pickle.tensor(&key, view.shape());
        storages.push((format!("x/data/{key}"), view.data().to_vec()));
    }
    pickle.raw(b"u.");
    let mut members = vec![("x/data.pkl".to_owned(), pickle.0)];
    members.extend(storages);
    zip_of(&members)
}

/// A pickle that is put together by hand.
pub(crate) struct Pickle(pub(crate) Vec<u8>);

impl Pickle {
    pub(crate) fn new() -> Self {
        Pickle(b"\x80\x02".to_vec())
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.0.push(b'X');
        self.0
            .extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        self.raw(text.as_bytes())
    }

    pub(crate) fn int(&mut self, n: usize) -> &mut Self {
        self.0.push(b'J');
        self.raw(&i32::try_from(n).unwrap().to_le_bytes())
    }

    pub(crate) fn ints(&mut self, numbers: &[usize]) -> &mut Self {
        self.0.push(b'(');
        for &n in numbers {
            self.int(n);
        }
        self.raw(b"t")
    }

    /// A contiguous tensor of `f32`.
    pub(crate) fn tensor(&mut self, key: &str, shape: &[usize]) -> &mut Self {
        let mut strides = Vec::new();
        let mut count = 1;
        for &extent in shape.iter().rev() {
            strides.insert(0, count);
            count *= extent;
        }
        self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage").raw(b"ctorch\nFloatStorage\n");
        self.text(key).text("cpu").int(count).raw(b"tQ").int(0);
        self.ints(shape).ints(&strides);
        self.raw(b"\x89ccollections\nOrderedDict\n)RtR")
    }
}

/// Stored members in the order given.
pub(crate) fn zip_of(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    use std::io::Write;
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        out.start_file(name.as_str(), options).unwrap();
        out.write_all(bytes).unwrap();
    }
    out.finish().unwrap().into_inner()
}

#[test]
fn a_checkpoint_converts_like_the_safetensors_it_was_made_from() {
    let source = root().join("models/toy-block");
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("model");
    fs::create_dir(&folder).unwrap();
    fs::copy(source.join("config.json"), folder.join("config.json")).unwrap();
    fs::write(folder.join("pytorch_model.bin"), checkpoint_of(&source)).unwrap();
    let convert = |model: &str, out: &str| {
        let arguments = ["--target", "onnx", model, "-o", out, "--no-verify"];
        let (code, document) = run_json(dir.path(), &arguments);
        assert_eq!(code, 0, "{document:#}");
        document
    };
    // The folder, the file in it, and the folder that import makes of it: one function, three sources.
    let document = convert("model", "folder.onnx");
    assert!(document["warnings"].to_string().contains("read as data"));
    convert("model/pytorch_model.bin", "file.onnx");
    assert_eq!(
        run_json(dir.path(), &["import", "model", "-o", "imported"]).0,
        0
    );
    convert("imported", "imported.onnx");
    let (code, shown) = run_json(dir.path(), &["inspect", "model"]);
    assert_eq!(code, 0, "{shown:#}");
    let verified = ["verify", "model", "imported.onnx"];
    let (code, document) = run_json(dir.path(), &verified);
    assert_eq!(code, 0, "{document:#}");
    let weights = |name: &str| {
        let summary = distill_convert::onnx::inspect(&dir.path().join(name)).unwrap();
        (summary.weight_bytes, summary.ops)
    };
    assert_eq!(weights("folder.onnx"), weights("imported.onnx"));
    assert_eq!(weights("file.onnx"), weights("imported.onnx"));
    // The lock of such a folder covers the checkpoint.
    assert!(run(dir.path(), &["lock", "model"]).status.success());
    let lock = fs::read_to_string(folder.join("distill-convert.lock")).unwrap();
    assert!(lock.contains("pytorch_model.bin"), "{lock}");
    convert("model", "folder.onnx");
    let mut bytes = fs::read(folder.join("pytorch_model.bin")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(folder.join("pytorch_model.bin"), bytes).unwrap();
    let (code, document) = run_json(dir.path(), &["inspect", "model"]);
    assert_eq!(
        (code, &document["error"]["code"]),
        (4, &json!("lock_mismatch"))
    );
    // Without the lock, import still sees the flipped bit: the archive has a checksum.
    fs::remove_file(folder.join("distill-convert.lock")).unwrap();
    let (code, document) = run_json(dir.path(), &["import", "model", "-o", "flipped"]);
    assert_eq!(
        (code, &document["error"]["code"]),
        (4, &json!("checksum_mismatch"))
    );
    assert!(!dir.path().join("flipped").exists());
}

#[test]
fn shards_side_files_and_configs_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let tensor = |name: &str, value: f32| {
        let mut pickle = Pickle::new();
        pickle.raw(b"}").text(name).tensor("0", &[2]).raw(b"s.");
        let data = [value.to_le_bytes(), value.to_le_bytes()].concat();
        zip_of(&[
            ("x/data.pkl".to_owned(), pickle.0),
            ("x/data/0".to_owned(), data),
        ])
    };
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join("m").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("a-00001.bin", &tensor("a", 1.0));
    write("a-00002.bin", &tensor("b", 2.0));
    let index = json!({"metadata": {}, "weight_map": {"a": "a-00001.bin", "b": "a-00002.bin"}});
    write("pytorch_model.bin.index.json", index.to_string().as_bytes());
    write("config.json", br#"{"k": 1}"#);
    write("tokenizer.json", b"{}");
    write("1_Dense/pytorch_model.bin", &tensor("linear.weight", 3.0));
    write("1_Dense/config.json", b"{}");
    let (code, document) = run_json(dir.path(), &["import", "m", "-o", "out"]);
    assert_eq!(code, 0, "{document:#}");
    let out = dir.path().join("out");
    assert_eq!(
        entries(&out, &[]),
        [
            "1_Dense",
            "config.json",
            "distill-convert.lock",
            "model.safetensors",
            "tokenizer.json"
        ]
    );
    let read = expected(&out.join("model.safetensors"));
    assert_eq!(read.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(
        read["b"].2,
        [2f32.to_le_bytes(), 2f32.to_le_bytes()].concat()
    );
    assert_eq!(expected(&out.join("1_Dense/model.safetensors")).len(), 1);
    assert!(
        run(dir.path(), &["lock", "out", "--check"])
            .status
            .success()
    );

    // Several checkpoints: which one is a question. Two configs that differ, and none, are others.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("one.pt"), tensor("a", 1.0)).unwrap();
    let fails = |arguments: &[&str]| {
        let (code, document) = run_json(dir.path(), arguments);
        (code, document["error"]["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(
        fails(&["import", "one.pt", "-o", "o"]),
        (1, "missing_file".to_owned())
    );
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    fs::write(dir.path().join("two.pt"), tensor("a", 1.0)).unwrap();
    assert_eq!(
        fails(&["inspect", "."]),
        (2, "ambiguous_weights".to_owned())
    );
    let training = fs::read(fixture("training.zip.pt")).unwrap();
    fs::write(dir.path().join("training.ckpt"), training).unwrap();
    assert_eq!(
        fails(&["import", "training.ckpt", "-o", "o"]),
        (2, "bad_config".to_owned())
    );
    let (code, _) = run_json(
        dir.path(),
        &[
            "import",
            "training.ckpt",
            "-o",
            "o",
            "--config",
            "config.json",
        ],
    );
    assert_eq!(code, 0);
    assert_eq!(
        fs::read_to_string(dir.path().join("o/config.json")).unwrap(),
        "{}\n"
    );
}

#[test]
fn safetensors_come_first_and_the_pickle_beside_them_is_never_opened() {
    let dir = tempfile::tempdir().unwrap();
    let source = root().join("models/toy-block");
    for name in ["config.json", "model.safetensors"] {
        fs::copy(source.join(name), dir.path().join(name)).unwrap();
    }
    // Reading this would be refused.
    fs::write(
        dir.path().join("pytorch_model.bin"),
        b"\x80\x02cos\nsystem\n.",
    )
    .unwrap();
    let checkpoint = source::open(dir.path(), &OpenOptions::default()).unwrap();
    let read: Vec<String> = checkpoint
        .digests()
        .unwrap()
        .into_iter()
        .map(|d| d.path)
        .collect();
    assert_eq!(read, ["config.json", "model.safetensors"]);
    assert!(checkpoint.notes.is_empty());
}

#[test]
fn the_caps_on_checkpoints_hold() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    fs::copy(fixture("views.zip.pt"), dir.path().join("views.pt")).unwrap();
    let import = |limit: &str| {
        let mut arguments = vec!["import", "views.pt", "-o", "out"];
        arguments.extend(
            (!limit.is_empty())
                .then_some(["--limit", limit])
                .iter()
                .flatten(),
        );
        run_json(dir.path(), &arguments)
    };
    for limit in ["pickle-bytes=100", "pickle-memory=100", "repeated-bytes=10"] {
        let (code, document) = import(limit);
        assert_eq!(code, 4, "{limit}: {document:#}");
        assert!(!dir.path().join("out").exists());
    }
    assert_eq!(import("").0, 0);
}
