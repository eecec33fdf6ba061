//! ONNX files that lie: cycles, names, nesting, sizes, axes, attributes, external data, truncation. Each is refused with an error that says what
//! is wrong; nothing panics, hangs or takes memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use distill_convert::error::{Class, Error};
use distill_convert::onnx::{self, Read, ReadOptions};
use distill_convert::runtime::Session;
use distill_convert::runtime::ort::OrtSession;
use distill_convert::tensor::Tensor;

use crate::common::onnx_file::{
    FLOAT, INT64, Message, attribute_graph, attribute_int, graph, longs, model, node, value_info,
};

fn read(bytes: &[u8]) -> Result<Read, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    fs::write(&path, bytes).unwrap();
    onnx::read(&path, &ReadOptions::default())
}

/// The error of a model with one input `x: f32[2, 3]`, these nodes and initialisers, and the output `y`.
fn refused(nodes: &[Message], initializers: &[Message]) -> Error {
    let graph = graph(
        nodes,
        initializers,
        &[value_info("x", FLOAT, &[2, 3])],
        &[Message::default().text(1, "y")],
    );
    read(&model(&graph).0).expect_err("the model is malformed")
}

#[track_caller]
fn says(error: &Error, code: &str, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.code(), code, "{text}");
    assert_eq!(error.class().exit_code(), 1, "{text}");
    for part in parts {
        assert!(text.contains(part), "`{text}` does not say `{part}`");
    }
}

#[test]
fn a_sound_model_is_read() {
    let good = graph(
        &[node("Relu", &["x"], &["y"], &[])],
        &[],
        &[value_info("x", FLOAT, &[2, 3])],
        &[value_info("y", FLOAT, &[2, 3])],
    );
    let read = read(&model(&good).0).unwrap();
    assert_eq!(read.module.main().unwrap().nodes.len(), 1);
}

#[test]
fn names_must_be_defined_once_and_before_their_use() {
    let cycle = [
        node("Add", &["x", "b"], &["a"], &[]),
        node("Relu", &["a"], &["b"], &[]),
        node("Relu", &["b"], &["y"], &[]),
    ];
    says(&refused(&cycle, &[]), "onnx_undefined", &["`b`", "the_Add"]);
    let unknown = [node("Relu", &["nowhere"], &["y"], &[])];
    says(&refused(&unknown, &[]), "onnx_undefined", &["`nowhere`"]);
    let twice = [
        node("Relu", &["x"], &["y"], &[]),
        node("Abs", &["x"], &["y"], &[]),
    ];
    says(&refused(&twice, &[]), "onnx_duplicate", &["`y`"]);
    let no_output = [node("Relu", &["x"], &["z"], &[])];
    says(&refused(&no_output, &[]), "onnx_undefined", &["`y`"]);
}

#[test]
fn every_unknown_operator_is_listed_with_its_count() {
    let nodes = [
        node("Frobnicate", &["x"], &["a"], &[]),
        node("Frobnicate", &["a"], &["b"], &[]),
        node("SequenceConstruct", &["b"], &["y"], &[]),
    ];
    says(
        &refused(&nodes, &[]),
        "onnx_operators",
        &[
            "`Frobnicate` (2, first `the_Frobnicate`)",
            "`SequenceConstruct` (1",
            "sequences",
        ],
    );
}

#[test]
fn attributes_and_inputs_that_nobody_reads_are_refused() {
    let extra = [node("Relu", &["x"], &["y"], &[attribute_int("slope", 1)])];
    says(
        &refused(&extra, &[]),
        "onnx_unread_attribute",
        &["`slope`", "the_Relu"],
    );
    let wrong_kind = [node(
        "LeakyRelu",
        &["x"],
        &["y"],
        &[attribute_int("alpha", 1)],
    )];
    says(
        &refused(&wrong_kind, &[]),
        "onnx_wrong_value",
        &["`alpha`", "float", "int"],
    );
    let more_inputs = [node("Relu", &["x", "x"], &["y"], &[])];
    says(
        &refused(&more_inputs, &[]),
        "onnx_unread_input",
        &["input 1"],
    );
    let more_outputs = [node("Relu", &["x"], &["y", "z"], &[])];
    says(&refused(&more_outputs, &[]), "onnx_results", &["1", "2"]);
}

#[test]
fn axes_outside_the_rank_are_refused() {
    for axis in [2, -3, i64::MAX, i64::MIN] {
        let nodes = [node(
            "Softmax",
            &["x"],
            &["y"],
            &[attribute_int("axis", axis)],
        )];
        says(&refused(&nodes, &[]), "bad_graph", &["axis", "rank 2"]);
    }
    let nodes = [node("Unsqueeze", &["x", "axes"], &["y"], &[])];
    let error = refused(&nodes, &[longs("axes", &[2], &[0, 0])]);
    says(&error, "onnx_wrong_value", &["axes"]);
}

#[test]
fn shapes_that_overflow_are_refused_before_anything_is_allocated() {
    let huge: &[i64] = &[1 << 40, 1 << 40, 1 << 40];
    let cases = [
        ("Reshape", huge),
        ("Reshape", &[-1, -1, 3]),
        ("Reshape", &[0, 0, 0, 6]),
        ("Expand", huge),
        ("Expand", &[i64::MAX, 2, 3]),
        ("Expand", &[-5, 2, 3]),
        ("Tile", &[1 << 40, 1 << 40]),
        ("Tile", &[-1, 1]),
        ("Pad", &[1 << 60, 0, 1 << 60, 0]),
        ("Pad", &[-9, 0, 0, 0]),
    ];
    for (op, numbers) in cases {
        let nodes = [node(op, &["x", "n"], &["y"], &[])];
        let n = numbers.len() as i64;
        let error = refused(&nodes, &[longs("n", &[n], numbers)]);
        assert!(
            matches!(error.class(), Class::Invalid | Class::Unsupported),
            "{op} {numbers:?}: {error}"
        );
    }
    let shape = [node("ConstantOfShape", &["n"], &["y"], &[])];
    let error = refused(&shape, &[longs("n", &[2], &[1 << 33, 1 << 33])]);
    says(&error, "onnx_wrong_value", &["memory"]);
    let range = [node("Range", &["a", "b", "c"], &["y"], &[])];
    let number = |name: &str, n: i64| longs(name, &[], &[n]);
    let error = refused(
        &range,
        &[number("a", 0), number("b", i64::MAX), number("c", 1)],
    );
    says(&error, "onnx_wrong_value", &["memory"]);
    let error = refused(&range, &[number("a", 0), number("b", 9), number("c", 0)]);
    says(&error, "onnx_wrong_value", &["delta"]);
}

#[test]
fn tensors_must_hold_what_they_promise() {
    let nodes = [node("Reshape", &["x", "n"], &["y"], &[])];
    let error = refused(&nodes, &[longs("n", &[3], &[6, 1])]);
    says(&error, "onnx_tensor", &["2 elements", "3"]);
    let error = refused(&nodes, &[longs("n", &[-1], &[])]);
    says(&error, "onnx_tensor", &["shape"]);
    let error = refused(&nodes, &[longs("n", &[1 << 62, 1 << 62], &[])]);
    says(&error, "onnx_tensor", &["shape"]);
}

#[test]
fn a_declared_shape_that_contradicts_the_inferred_one_names_the_node() {
    let lying = graph(
        &[node("Relu", &["x"], &["y"], &[])],
        &[],
        &[value_info("x", FLOAT, &[2, 3])],
        &[value_info("y", FLOAT, &[2, 4])],
    );
    let error = read(&model(&lying).0).unwrap_err();
    says(
        &error,
        "onnx_declared_type",
        &["f32[2, 4]", "f32[2, 3]", "`y`"],
    );
}

#[test]
fn nesting_ends_somewhere() {
    let mut inner = graph(
        &[node("Relu", &["x"], &["y0"], &[])],
        &[],
        &[],
        &[Message::default().text(1, "y0")],
    );
    for level in 1..60 {
        let name = format!("y{level}");
        let condition = Message::default()
            .text(1, "value")
            .message(5, &Message::default().int(2, 9).bytes(9, &[1]))
            .int(20, 4);
        let branches = [
            attribute_graph("then_branch", &inner),
            attribute_graph("else_branch", &inner),
        ];
        // Both branches hold the level below: the bomb doubles, but for the file's own limit.
        let branches = if level > 8 {
            [
                attribute_graph("then_branch", &inner),
                attribute_graph("else_branch", &Message::default()),
            ]
        } else {
            branches
        };
        inner = graph(
            &[
                node("Constant", &[], &[&format!("c{level}")], &[condition]),
                node("If", &[&format!("c{level}")], &[&name], &branches),
            ],
            &[],
            &[],
            &[Message::default().text(1, &name)],
        );
    }
    let whole = inner.message(11, &value_info("x", FLOAT, &[2, 3]));
    let error = read(&model(&whole).0).unwrap_err();
    assert!(
        ["onnx_malformed", "onnx_too_many"].contains(&error.code()),
        "{error}"
    );
    // Prost's own limit comes before ours when the file is that deep.
    assert!(
        error.code() == "onnx_malformed" || error.to_string().contains("--limit nesting=N"),
        "{error}"
    );
}

#[test]
fn a_loop_of_many_rounds_is_not_unrolled_without_end() {
    // Each round is a loop itself: 1,000³ rounds in all.
    let mut body = graph(
        &[
            node("Identity", &["go0"], &["on0"], &[]),
            node("Relu", &["v0"], &["w0"], &[]),
        ],
        &[],
        &[
            value_info("i0", INT64, &[]),
            value_info("go0", 9, &[]),
            value_info("v0", FLOAT, &[2, 3]),
        ],
        &[
            Message::default().text(1, "on0"),
            Message::default().text(1, "w0"),
        ],
    );
    for level in 1..4 {
        let named = |n: &str| format!("{n}{level}");
        body = graph(
            &[
                node("Identity", &[&named("go")], &[&named("on")], &[]),
                node(
                    "Loop",
                    &["most", "", &named("v")],
                    &[&named("w")],
                    &[attribute_graph("body", &body)],
                ),
            ],
            &[],
            &[
                value_info(&named("i"), INT64, &[]),
                value_info(&named("go"), 9, &[]),
                value_info(&named("v"), FLOAT, &[2, 3]),
            ],
            &[
                Message::default().text(1, &named("on")),
                Message::default().text(1, &named("w")),
            ],
        );
    }
    let nodes = [node(
        "Loop",
        &["most", "", "x"],
        &["y"],
        &[attribute_graph("body", &body)],
    )];
    let error = refused(&nodes, &[longs("most", &[], &[1000])]);
    says(&error, "onnx_too_many", &["nodes"]);
}

#[cfg(unix)]
#[test]
fn external_data_stay_in_the_folder_and_are_long_enough() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, [0u8; 64]).unwrap();
    std::os::unix::fs::symlink(&secret, folder.path().join("link")).unwrap();
    fs::hard_link(&secret, folder.path().join("hard")).unwrap();
    fs::write(folder.path().join("short"), [0u8; 8]).unwrap();
    fs::create_dir(folder.path().join("a_folder")).unwrap();
    let tensor = |location: &str, offset: &str| {
        let entry = |k: &str, v: &str| Message::default().text(1, k).text(2, v);
        Message::default()
            .int(1, 2)
            .int(1, 3)
            .int(2, FLOAT)
            .text(8, "w")
            .message(13, &entry("location", location))
            .message(13, &entry("offset", offset))
            .int(14, 1)
    };
    let absolute = secret.to_string_lossy().into_owned();
    let cases = [
        (absolute.as_str(), "0", "onnx_external_path", Class::Unsafe),
        ("../secret", "0", "onnx_external_path", Class::Unsafe),
        ("a/../../secret", "0", "onnx_external_path", Class::Unsafe),
        ("link", "0", "onnx_external_path", Class::Unsafe),
        ("hard", "0", "onnx_external_path", Class::Unsafe),
        ("", "0", "onnx_external_path", Class::Unsafe),
        ("short", "0", "onnx_external_data", Class::Invalid),
        ("missing", "0", "onnx_external_data", Class::Invalid),
        ("a_folder", "0", "onnx_external_data", Class::Invalid),
        (
            "short",
            "18446744073709551615",
            "onnx_external_data",
            Class::Invalid,
        ),
        ("short", "-1", "onnx_malformed", Class::Invalid),
    ];
    for (location, offset, code, class) in cases {
        let graph = graph(
            &[node("Add", &["x", "w"], &["y"], &[])],
            &[tensor(location, offset)],
            &[value_info("x", FLOAT, &[2, 3])],
            &[Message::default().text(1, "y")],
        );
        let path: PathBuf = folder.path().join("model.onnx");
        fs::write(&path, model(&graph).0).unwrap();
        let error = onnx::read(&path, &ReadOptions::default()).unwrap_err();
        assert_eq!(
            (error.code(), error.class()),
            (code, class),
            "{location}: {error}"
        );
    }
}

#[test]
fn a_file_that_ends_anywhere_is_an_error() {
    let good = graph(
        &[
            node("Reshape", &["x", "n"], &["a"], &[]),
            node("Softmax", &["a"], &["y"], &[attribute_int("axis", 0)]),
        ],
        &[longs("n", &[2], &[3, 2])],
        &[value_info("x", FLOAT, &[2, 3])],
        &[value_info("y", FLOAT, &[3, 2])],
    );
    let bytes = model(&good).0;
    assert!(read(&bytes).is_ok());
    let points = (0..200)
        .map(|i| i * bytes.len() / 200)
        .collect::<std::collections::BTreeSet<_>>();
    let mut whole = Vec::new();
    for cut in points {
        if read(&bytes[..cut]).is_ok() {
            whole.push(cut);
        }
    }
    // A cut between two fields leaves a valid file; without the list of operator sets it has to be refused all the same.
    assert!(
        whole.is_empty(),
        "cut at {whole:?} of {} it is read",
        bytes.len()
    );
}

#[test]
fn flipped_bytes_never_panic() {
    let good = graph(
        &[
            node("Reshape", &["x", "n"], &["a"], &[]),
            node("Softmax", &["a"], &["y"], &[attribute_int("axis", 0)]),
        ],
        &[longs("n", &[2], &[3, 2])],
        &[value_info("x", FLOAT, &[2, 3])],
        &[value_info("y", FLOAT, &[3, 2])],
    );
    let bytes = model(&good).0;
    let mut refused = 0;
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut spoiled = bytes.clone();
            spoiled[at] ^= flip;
            refused += usize::from(read(&spoiled).is_err());
        }
    }
    assert!(
        refused > bytes.len(),
        "only {refused} of {} were refused",
        3 * bytes.len()
    );
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn an_input_that_is_an_output_is_handed_through_around_onnx_runtime() {
    let library = distill_convert::runtime::library::find(None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let x = value_info("x", FLOAT, &[2]);
    let relu = node("Relu", &["x"], &["y"], &[]);
    let given = Tensor::f32(vec![2], vec![-1.0, 2.0]).unwrap();
    let inputs = BTreeMap::from([("x".to_owned(), given.clone())]);
    let outputs = [value_info("y", FLOAT, &[2]), x.clone()];
    fs::write(
        &path,
        model(&graph(&[relu], &[], std::slice::from_ref(&x), &outputs)).0,
    )
    .unwrap();
    let session = OrtSession::open(&library.path, &path).unwrap();
    let found = session.run(&inputs).unwrap();
    assert_eq!(found["x"], given);
    assert_eq!(found["y"].to_f64(), [0.0, 2.0]);
    // Nothing is left for ONNX Runtime to compute.
    fs::write(
        &path,
        model(&graph(
            &[],
            &[],
            std::slice::from_ref(&x),
            std::slice::from_ref(&x),
        ))
        .0,
    )
    .unwrap();
    let session = OrtSession::open(&library.path, &path).unwrap();
    assert_eq!(session.run(&inputs).unwrap(), inputs);
}

/// Engines count no memory, and tell less about what is wrong.
#[test]
fn no_engine_is_given_what_is_not_valid_or_does_not_fit_memory() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = BTreeMap::from([(
        "x".to_owned(),
        Tensor::f32(vec![2], vec![1.0, 2.0]).unwrap(),
    )]);
    distill_convert::source::write_tensors(&folder.path().join("in.npz"), &tensors).unwrap();
    let huge = [
        node("ConstantOfShape", &["s"], &["c"], &[]),
        node("ReduceSum", &["c"], &["r"], &[attribute_int("keepdims", 0)]),
        node("Add", &["x", "r"], &["y"], &[]),
    ];
    let lacking = [node("Add", &["x"], &["y"], &[])];
    let sound = graph(
        &[node("Add", &["x", "x"], &["y"], &[])],
        &[],
        &[value_info("x", FLOAT, &[2])],
        &[value_info("y", FLOAT, &[2])],
    );
    fs::write(folder.path().join("source.onnx"), model(&sound).0).unwrap();
    for (nodes, says) in [
        (&huge[..], "a tensor that fits memory, found 40000000000"),
        (&lacking[..], "`Add` lacks input 1"),
    ] {
        let graph = graph(
            nodes,
            &[longs("s", &[2], &[200_000, 200_000])],
            &[value_info("x", FLOAT, &[2])],
            &[value_info("y", FLOAT, &[2])],
        );
        fs::write(folder.path().join("m.onnx"), model(&graph).0).unwrap();
        let run = ["run", "m.onnx", "--inputs", "in.npz", "--runtime"];
        for arguments in [
            [&run[..], &["tract"]].concat(),
            [&run[..], &["ort"]].concat(),
            vec!["verify", "source.onnx", "m.onnx"],
        ] {
            let (code, document) = crate::common::run_json(folder.path(), &arguments);
            let message = document["error"]["message"].as_str().unwrap_or_default();
            assert_eq!(code, 1, "{document:#}");
            assert!(message.contains(says), "{document:#}");
        }
    }
}
