//! The caps: each refuses what is above it, names the way out, and can be raised; and no text from a file reaches a terminal as a command.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use distill_convert::limits;
use distill_convert::source::write_tensors;
use distill_convert::tensor::Tensor;
use serde_json::{Value, json};

use crate::common::onnx_file::{
    FLOAT, INT64, Message, attribute_graph, graph, longs, model as onnx_model, node, tensor,
    value_info,
};
use crate::common::{TinyModel, root, run, run_json};

fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::new().write(folder.path());
    folder
}

fn error(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let (code, document) = run_json(folder, arguments);
    (code, document["error"].clone())
}

/// A file of zeros, which no weights are: some thousand bytes for each compressed one.
fn bomb(path: &Path) {
    use std::io::Write;
    let mut out = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    out.start_file("x.npy", options).unwrap();
    let count = 65 << 20;
    let text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({count},), }}");
    let padded = format!("{text:117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(padded.as_bytes());
    out.write_all(&bytes).unwrap();
    out.write_all(&vec![0; count]).unwrap();
    out.finish().unwrap();
}

/// Caps that refuse nothing: they decide what is computed beforehand, kept, or shown.
const REFUSE_NOTHING: [&str; 5] = [
    "folded-elements",
    "folded-bytes",
    "folded-work",
    "decoded-bytes",
    "trace-bytes",
];

/// Tried where there is something to try them on: `onnx::nesting_ends_somewhere`, `look::run` for images, `onnx_program` for sizes.
const ELSEWHERE: [&str; 4] = ["nesting", "image-pixels", "size-terms", "model-size-terms"];

#[test]
fn every_cap_refuses_what_is_above_it() {
    let folder = model();
    let (here, at) = (folder.path(), |name: &str| folder.path().join(name));
    let sequence = |count: usize| {
        let ids = (0..count).map(|i| i64::try_from(i % 16).unwrap()).collect();
        let shape = vec![1, count];
        BTreeMap::from([
            (
                "input_ids".to_owned(),
                Tensor::i64(shape.clone(), ids).unwrap(),
            ),
            (
                "attention_mask".to_owned(),
                Tensor::i64(shape, vec![1; count]).unwrap(),
            ),
        ])
    };
    write_tensors(&at("in.npz"), &sequence(4)).unwrap();
    bomb(&at("bomb.npz"));
    fs::write(at("config.json"), "{}").unwrap();
    // Two layers, so that one is too few.
    let mut deep = TinyModel::new();
    deep.config["num_hidden_layers"] = json!(2);
    for (name, tensor) in deep.tensors.clone() {
        deep.tensors
            .insert(name.replace("layers.0", "layers.1"), tensor);
    }
    fs::create_dir(at("deep")).unwrap();
    deep.write(&at("deep"));
    let convert = ["--target", "onnx,coreml", "model", "--no-verify"];
    let (code, document) = run_json(here, &convert);
    assert_eq!(code, 0, "{document:#}");
    let checkpoint = |name: &str| {
        root()
            .join("tests/fixtures/torch")
            .join(name)
            .display()
            .to_string()
    };
    let mil = |name: &str| {
        root()
            .join("tests/fixtures/mil")
            .join(name)
            .display()
            .to_string()
    };
    let (training, views) = (checkpoint("training.zip.pt"), checkpoint("views.zip.pt"));
    let while_loop = mil("ops-iOS14/control_flow.WhileLoop.builder_to_backend_power-ab10788e74");
    let table =
        mil("ops-iOS16/constexpr_ops.ConstexprLutToDense.builder_to_backend_smoke-2107577dc6");
    let (loop_model, loop_inputs) = (
        format!("{while_loop}/model.mlmodel"),
        format!("{while_loop}/inputs.npz"),
    );
    let (table_model, table_inputs) = (
        format!("{table}/model.mlmodel"),
        format!("{table}/inputs.npz"),
    );
    let binary = root().join("models/binary").display().to_string();
    let task = format!("{binary}/task.toml");
    let inspect = ["inspect", "model"];
    let lock = ["lock", "deep"];
    fs::create_dir_all(at("deep/onnx/deep")).unwrap();
    fs::write(at("deep/onnx/deep/notes.txt"), "").unwrap();
    let run_npz = ["run", "model", "--inputs", "in.npz", "-o", "out.npz"];
    let run_bomb = ["run", "model", "--inputs", "bomb.npz", "-o", "out.npz"];
    let import = [
        "import",
        &training,
        "-o",
        "imported",
        "--config",
        "config.json",
    ];
    let import_views = [
        "import",
        &views,
        "-o",
        "imported",
        "--config",
        "config.json",
    ];
    let run_loop = [
        "run",
        &loop_model,
        "--inputs",
        &loop_inputs,
        "-o",
        "loop.npz",
    ];
    let run_table = [
        "run",
        &table_model,
        "--inputs",
        &table_inputs,
        "-o",
        "table.npz",
    ];
    let convert_deep = [
        "--target",
        "onnx",
        "deep/model",
        "--no-verify",
        "-o",
        "deep.onnx",
        "--shape",
        "input_ids=1,4",
    ];
    let check_task = [
        "--target",
        "onnx",
        &binary,
        "-o",
        "binary.onnx",
        "--task",
        &task,
    ];
    // What is tried, with the exit code of the refusal, and a value below which nothing need be looked for.
    let cases: &[(&str, &[&str], i32, u64)] = &[
        ("header-bytes", &inspect, 4, 1),
        ("tensors", &inspect, 4, 1),
        ("side-file-bytes", &inspect, 4, 1),
        ("json-values", &inspect, 4, 1),
        ("rank", &inspect, 4, 1),
        ("read-bytes", &inspect, 4, 1),
        ("folder-files", &lock, 4, 1),
        ("folder-depth", &lock, 4, 1),
        ("nodes", &["inspect", "model.onnx"], 1, 1),
        ("message-bytes", &["inspect", "model.onnx"], 1, 1),
        ("expanded-elements", &run_table, 1, 1),
        ("layers", &convert_deep, 1, 1),
        ("table-elements", &convert_deep, 2, 1),
        ("npy-header-bytes", &run_npz, 1, 1),
        ("archive-bytes", &run_npz, 4, 1),
        ("archive-entries", &run_npz, 4, 1),
        ("archive-ratio", &run_bomb, 4, 900),
        ("value-elements", &run_npz, 1, 1),
        ("loop-rounds", &run_loop, 1, 1),
        ("memory-bytes", &run_npz, 1, 1),
        ("pickle-bytes", &import, 4, 1),
        ("pickle-memory", &import, 4, 1),
        ("repeated-bytes", &import_views, 4, 1),
        ("task-cases", &check_task, 1, 16),
    ];
    let tried: Vec<&str> = cases.iter().map(|c| c.0).collect();
    for limit in limits::ALL {
        let name = limit.name;
        let elsewhere = REFUSE_NOTHING.contains(&name) || ELSEWHERE.contains(&name);
        assert!(tried.contains(&name) != elsewhere, "`{name}`");
    }
    let mut wrong = Vec::new();
    for (name, arguments, expected, from) in cases {
        let flag = format!("--limit {name}=N");
        let most = limits::ALL.iter().find(|l| l.name == *name).unwrap().most;
        let refusal = |value: u64| {
            let limit = format!("{name}={value}");
            let (code, error) = error(here, &[*arguments, &["--limit", &limit]].concat());
            let named = error.to_string().contains(&flag)
                || *name == "memory-bytes" && error.to_string().contains("--max-memory");
            (code != 0).then_some((code, named, error))
        };
        // The bomb holds no inputs: what is refused for that was read.
        let passes = |value: u64| {
            refusal(value).is_none_or(|(_, named, error)| !named && error["code"] == "bad_input")
        };
        // The least value that passes: everything below is refused, and itself is not.
        let mut high = *from;
        while high < most && !passes(high) {
            high = (high * 2).min(most);
        }
        let mut low = if high == *from { *from } else { high / 2 };
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if passes(middle) {
                high = middle
            } else {
                low = middle
            }
        }
        if !passes(high) {
            wrong.push(format!(
                "{name}: not even {high} passes: {:?}",
                refusal(high)
            ));
            continue;
        }
        if low == high {
            wrong.push(format!("{name}: {high} passes already"));
            continue;
        }
        match refusal(high - 1) {
            Some((code, true, _)) if code == *expected => {
                println!("{name}: {high} passes, {low} does not")
            }
            other => wrong.push(format!("{name}: just below {high}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn memory_of_the_interpreter_is_counted_before_it_is_taken() {
    let folder = model();
    let ids = Tensor::i64(vec![1, 32], (0..32).map(|i| i % 16).collect()).unwrap();
    write_tensors(
        &folder.path().join("in.npz"),
        &BTreeMap::from([("input_ids".to_owned(), ids)]),
    )
    .unwrap();
    let arguments = [
        "run",
        "model",
        "--inputs",
        "in.npz",
        "-o",
        "out.npz",
        "--max-memory",
    ];
    let (code, found) = error(folder.path(), &[&arguments[..], &["2k"]].concat());
    assert_eq!(
        (code, &found["code"]),
        (1, &json!("value_too_large")),
        "{found:#}"
    );
    let message = found["message"].as_str().unwrap();
    assert!(
        found["node"].is_string() && message.contains("at most 2000"),
        "{message}"
    );
    assert!(found["hint"].as_str().unwrap().contains("--max-memory"));
    assert_eq!(
        run_json(folder.path(), &[&arguments[..], &["100M"]].concat()).0,
        0
    );
}

#[test]
fn working_space_of_operations_is_counted_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = root().join(
        "tests/fixtures/mil/ops-iOS14/conv.ConvTranspose.builder_to_backend_stress-a6a19d9b78",
    );
    let (model, inputs) = (fixture.join("model.mlmodel"), fixture.join("inputs.npz"));
    let run = |bytes: u64| {
        let arguments = [
            "run".to_owned(),
            model.display().to_string(),
            "--inputs".to_owned(),
            inputs.display().to_string(),
            "-o".to_owned(),
            format!("{bytes}.npz"),
            "--max-memory".to_owned(),
            bytes.to_string(),
        ];
        error(folder.path(), &arguments.each_ref().map(String::as_str))
    };
    let (mut low, mut high) = (1u64, 1 << 30);
    while low + 1 < high {
        let middle = (low + high) / 2;
        if run(middle).0 == 0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    assert_eq!(high, WORKING_SPACE);
    let (code, found) = run(low);
    assert_eq!((code, &found["code"]), (1, &json!("value_too_large")));
    assert!(found["node"].is_string(), "{found:#}");
    assert!(found["hint"].as_str().unwrap().contains("--max-memory"));
}

/// Runs an ONNX model on inputs with so much memory.
fn with_memory(model: &Message, inputs: &BTreeMap<String, Tensor>, bytes: &str) -> (i32, Value) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.onnx"), &model.0).unwrap();
    write_tensors(&folder.path().join("in.npz"), inputs).unwrap();
    let arguments = [
        "run",
        "m.onnx",
        "--inputs",
        "in.npz",
        "-o",
        "out.npz",
        "--runtime",
        "interpreter",
        "--max-memory",
        bytes,
    ];
    error(folder.path(), &arguments)
}

#[test]
fn rows_of_a_loop_and_folded_constants_are_counted() {
    let out = |name: &str| Message::default().text(1, name);
    // 100 rows of 40 kB each.
    let body = graph(
        &[
            node("Identity", &["go"], &["on"], &[]),
            node("Neg", &["x"], &["row"], &[]),
        ],
        &[],
        &[value_info("i", INT64, &[]), value_info("go", 9, &[])],
        &[out("on"), out("row")],
    );
    let loops = [node(
        "Loop",
        &["n", ""],
        &["y"],
        &[attribute_graph("body", &body)],
    )];
    let inputs = [
        value_info("x", FLOAT, &[10_000]),
        value_info("n", INT64, &[]),
    ];
    let rows = onnx_model(&graph(&loops, &[], &inputs, &[out("y")]));
    let x = Tensor::f32(vec![10_000], vec![1.0; 10_000]).unwrap();
    let n = Tensor::i64(vec![], vec![100]).unwrap();
    let given = BTreeMap::from([("x".to_owned(), x.clone()), ("n".to_owned(), n)]);
    // The rows, and the tensor that they become.
    for (bytes, code) in [("3M", 1), ("7M", 1), ("10M", 0)] {
        let (found, error) = with_memory(&rows, &given, bytes);
        assert_eq!(found, code, "{bytes}: {error:#}");
        if code == 1 {
            assert_eq!(error["code"], "value_too_large", "{error:#}");
            assert!(error["node"].is_string(), "{error:#}");
        }
    }
    // Four megabytes that are folded, and the same once more when they are decoded.
    let one = tensor("one", FLOAT, &[1], &1f32.to_le_bytes());
    let value = Message::default()
        .text(1, "value")
        .message(5, &one)
        .int(20, 4);
    let nodes = [
        node("ConstantOfShape", &["shape"], &["ones"], &[value]),
        node("Mul", &["ones", "ones"], &["c"], &[]),
        node("Add", &["x", "c"], &["y"], &[]),
    ];
    let shape = longs("shape", &[2], &[100, 10_000]);
    let input = [value_info("x", FLOAT, &[10_000])];
    let folded = onnx_model(&graph(&nodes, &[shape], &input, &[out("y")]));
    let given = BTreeMap::from([("x".to_owned(), x)]);
    for (bytes, code) in [("11M", 1), ("14M", 0)] {
        let (found, error) = with_memory(&folded, &given, bytes);
        assert_eq!(found, code, "{bytes}: {error:#}");
    }
}

#[test]
fn wrong_limits_are_usage_errors_and_doctor_lists_the_right_ones() {
    let folder = model();
    for bad in [
        "nonsense=1",
        "tensors",
        "tensors=x",
        "nesting=1000000",
        "tensors=0",
    ] {
        let (code, error) = error(folder.path(), &["inspect", "model", "--limit", bad]);
        assert_eq!((code, &error["code"]), (2, &json!("bad_limit")), "{bad}");
        assert!(error["hint"].is_string());
    }
    let (code, document) = run_json(folder.path(), &["doctor", "--limit", "tensors=7"]);
    assert_eq!(code, 0);
    let listed = document["result"]["limits"].as_array().unwrap();
    assert_eq!(listed.len(), limits::ALL.len());
    let tensors = listed.iter().find(|l| l["name"] == "tensors").unwrap();
    assert_eq!(
        (&tensors["value"], &tensors["default"]),
        (&json!(7), &json!(1_000_000))
    );
    assert!(
        listed
            .iter()
            .all(|l| l["reason"].as_str().unwrap().len() > 20)
    );
}

/// What a transposed convolution of `[1, 1, 12, 14]` by `[1, 2, 2, 4]` to `[1, 2, 22, 13]` takes in all, in floats of 4 bytes: operands, result,
/// and beside them the weights turned and a column of 2 · 2 · 4 for each of its 168 places.
const WORKING_SPACE: u64 = 4 * (168 + 16 + 572 + 16 + 16 * 168);

/// A name that would change the window's title, clear the screen, print a line of ours, turn text around, and use one-byte controls.
const EVIL: &str =
    "x\u{1b}]0;pwned\u{7}\u{1b}[2J\r\nverification passed: evil\u{202e}\u{9b}31m\u{2028}y";

fn is_clean(text: &str) -> bool {
    !text
        .chars()
        .any(|c| c != '\n' && distill_convert::error::is_unprintable(c))
}

#[test]
fn text_from_files_is_escaped_wherever_it_is_shown() {
    let folder = model();
    let config = folder.path().join("model/config.json");
    let sound = fs::read_to_string(&config).unwrap();
    let mut shown = Vec::new();
    let mut see = |arguments: &[&str]| {
        for json in [false, true] {
            let mut all = arguments.to_vec();
            all.extend(json.then_some("--json"));
            let output = run(folder.path(), &all);
            let out = String::from_utf8(output.stdout).unwrap();
            let err = String::from_utf8(output.stderr).unwrap();
            assert!(
                is_clean(&out) && is_clean(&err),
                "{arguments:?}: {out:?} {err:?}"
            );
            for line in out.lines().chain(err.lines()) {
                assert!(
                    !line.starts_with("verification passed"),
                    "{arguments:?}: {line}"
                );
            }
            shown.push(out + &err);
        }
    };
    // An error about a config.
    let mut evil: Value = serde_json::from_str(&sound).unwrap();
    evil["model_type"] = json!(EVIL);
    evil["architectures"] = json!([EVIL]);
    fs::write(&config, evil.to_string()).unwrap();
    see(&["inspect", "model"]);
    let mut evil: Value = serde_json::from_str(&sound).unwrap();
    evil[EVIL] = json!(1.5);
    fs::write(&config, evil.to_string()).unwrap();
    see(&["inspect", "model"]);
    fs::write(&config, &sound).unwrap();
    // A lock that names such a file.
    let lock = folder.path().join("model/distill-convert.lock");
    fs::write(
        &lock,
        format!("schema_version = 1\n[files.{EVIL:?}]\nsize = 1\nsha256 = \"\"\n"),
    )
    .unwrap();
    see(&["lock", "model", "--check"]);
    fs::remove_file(&lock).unwrap();
    // Metadata of an artifact, shown by `inspect`.
    assert_eq!(
        run_json(folder.path(), &["--target", "onnx", "model", "--no-verify"]).0,
        0
    );
    let metadata = BTreeMap::from([(EVIL.to_owned(), EVIL.to_owned())]);
    distill_convert::onnx::append_metadata(&folder.path().join("model.onnx"), &metadata).unwrap();
    see(&["inspect", "model.onnx"]);
    // A path.
    let path = "m\u{1b}[31m\nverification passed: x\u{202e}.safetensors";
    see(&["run", "model", "--inputs", path, "-o", "o.npz"]);
    for command in ["audit", "inspect", "lint", "lock", "convert"] {
        see(&[command, path]);
    }
    see(&["convert", "model", "--target", path]);
    see(&[
        "convert", "model", "--target", "onnx", "-o", path, "--limit", EVIL,
    ]);
    see(&["verify", "model", path]);
    see(&["import", path, "-o", "imported"]);
    see(&["import", "model", "-o", path, "--config", path]);
    see(&["fetch", path]);
    see(&["fetch", &format!("org/{EVIL}@main")]);
    see(&["doctor", "--limit", EVIL]);
    see(&[EVIL]);
    // Names of tensors.
    let mut weights = TinyModel::new();
    weights.tensors.insert(EVIL.into(), (vec![1], vec![1.0]));
    weights.write(folder.path());
    see(&["inspect", "model"]);
    see(&["convert", "model", "--target", "onnx"]);
    // They were shown, not dropped.
    let all = shown.concat();
    assert!(
        all.contains("\\u{1b}") && all.contains("\\u001b") && all.contains("\\u{202e}"),
        "{all}"
    );
}

#[test]
fn no_other_program_is_ever_started() {
    let mut open = vec![root().join("src")];
    let mut files = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            continue;
        }
        files += 1;
        let text = fs::read_to_string(&path).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap();
        for word in ["process::Command", "Command::new(", "libc::", "exec("] {
            assert!(!product.contains(word), "{} has `{word}`", path.display());
        }
        let network = path.to_string_lossy().contains("src/fetch");
        for word in ["std::net", "TcpStream", "ureq"] {
            assert!(
                network || !product.contains(word),
                "{} has `{word}`",
                path.display()
            );
        }
    }
    assert!(files > 100);
}
