//! ONNX files that lie, given to the program: item by item an exit code and a message, in a process that may have one gigabyte of addresses and
//! some seconds, with nothing left behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::entries;
use crate::common::onnx_file::{
    FLOAT, INT64, Message, attribute_graph, attribute_int, graph, longs, model, named, node,
    tensor, value_info,
};

/// What a process may have, in KiB.
const ADDRESS_SPACE: u32 = 1_000_000;
/// What it may take. It needs some hundredths of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the program on `m.onnx`: its exit code and its one document.
fn program(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let output = folder.join(".stdout");
    let errors = folder.join(".stderr");
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -v {ADDRESS_SPACE}; exec \"$0\" \"$@\""))
        .arg(env!("CARGO_BIN_EXE_distill-convert"))
        .args(arguments)
        .arg("--json")
        .current_dir(folder)
        .env("MALLOC_ARENA_MAX", "1")
        .env("RAYON_NUM_THREADS", "1")
        .stdout(fs::File::create(&output).unwrap())
        .stderr(fs::File::create(&errors).unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{arguments:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let said = fs::read_to_string(&errors).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    let text = fs::read_to_string(&output).unwrap();
    let code = status
        .code()
        .unwrap_or_else(|| panic!("{arguments:?}: {status}: {said}"));
    let document = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("exit code {code}, no document ({e}): {text}\n{said}"));
    (code, document)
}

/// How the program refuses the `m.onnx` of a folder, whatever it is to make of it.
#[track_caller]
fn refused(folder: &Path, code: i32, parts: &[&str]) {
    let before = entries(folder, &[".stdout", ".stderr"]);
    for target in ["coreml", "onnx"] {
        let arguments = [
            "convert",
            "m.onnx",
            "--target",
            target,
            "-o",
            "out",
            "--no-verify",
        ];
        let (found, document) = program(folder, &arguments);
        let message = document["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(found, code, "to {target}: {document:#}");
        for part in parts {
            assert!(message.contains(part), "`{message}` does not say `{part}`");
        }
    }
    // To look at a file is not to believe it: it may show it or refuse it.
    let (found, document) = program(folder, &["inspect", "m.onnx"]);
    assert!([0, 1, 4].contains(&found), "{document:#}");
    assert_eq!(entries(folder, &[".stdout", ".stderr"]), before);
}

/// A folder with these bytes as `m.onnx`.
fn folder(bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.onnx"), bytes).unwrap();
    folder
}

/// That a file is refused as invalid or not supported.
#[track_caller]
fn is_refused(bytes: &[u8], parts: &[&str]) {
    refused(folder(bytes).path(), 1, parts);
}

/// A model with the input `x: f32[2, 3]`, these nodes and constants, and the output `y`.
fn of(nodes: &[Message], constants: &[Message]) -> Vec<u8> {
    let x = value_info("x", FLOAT, &[2, 3]);
    let y = Message::default().text(1, "y");
    model(&graph(nodes, constants, &[x], &[y])).0
}

fn ints(name: &str, list: &[i64]) -> Message {
    let mut attribute = Message::default().text(1, name);
    for &n in list {
        attribute = attribute.int(8, n);
    }
    attribute.int(20, 7)
}

/// The constant `n`, a vector.
fn n(values: &[i64]) -> Message {
    longs("n", &[values.len() as i64], values)
}

/// Makes sure that the harness does not refuse everything.
#[test]
fn a_sound_model_is_converted() {
    let folder = folder(&of(&[node("Relu", &["x"], &["y"], &[])], &[]));
    for target in ["coreml", "onnx"] {
        let arguments = [
            "convert",
            "m.onnx",
            "--target",
            target,
            "-o",
            "out",
            "--no-verify",
        ];
        let (code, document) = program(folder.path(), &arguments);
        assert_eq!(code, 0, "{document:#}");
        let made = folder.path().join("out");
        if made.is_dir() {
            fs::remove_dir_all(made).unwrap();
        } else {
            fs::remove_file(made).unwrap();
        }
    }
}

// Cyclic graphs.

#[test]
fn a_cycle_of_two_nodes() {
    let nodes = [
        node("Add", &["x", "b"], &["a"], &[]),
        node("Relu", &["a"], &["b"], &[]),
        node("Neg", &["b"], &["y"], &[]),
    ];
    is_refused(&of(&nodes, &[]), &["`b` is not defined", "the_Add"]);
}

#[test]
fn a_node_that_reads_its_own_output() {
    is_refused(
        &of(&[node("Relu", &["y"], &["y"], &[])], &[]),
        &["`y` is not defined", "the_Relu"],
    );
}

#[test]
fn a_branch_that_captures_the_output_of_its_own_node() {
    let branch = graph(
        &[node("Relu", &["y"], &["z"], &[])],
        &[],
        &[],
        &[Message::default().text(1, "z")],
    );
    let go = tensor("go", 9, &[], &[1]);
    let branches = [
        attribute_graph("then_branch", &branch),
        attribute_graph("else_branch", &branch),
    ];
    is_refused(
        &of(&[node("If", &["go"], &["y"], &branches)], &[go]),
        &["`y` is not defined"],
    );
}

/// A function of the model: `y = f(x)`.
fn function(name: &str, nodes: &[Message]) -> Message {
    let mut function = Message::default().text(1, name).text(4, "x").text(5, "y");
    for node in nodes {
        function = function.message(7, node);
    }
    function
        .message(9, &Message::default().text(1, "").int(2, 18))
        .message(9, &Message::default().text(1, "own").int(2, 1))
        .text(10, "own")
}

fn call(name: &str, input: &str, output: &str) -> Message {
    named(&format!("call_{output}"), name, &[input], &[output], &[]).text(7, "own")
}

fn with_functions(nodes: &[Message], functions: &[Message]) -> Vec<u8> {
    let x = value_info("x", FLOAT, &[2, 3]);
    let y = Message::default().text(1, "y");
    let mut model = model(&graph(nodes, &[], &[x], &[y]))
        .message(8, &Message::default().text(1, "own").int(2, 1));
    for function in functions {
        model = model.message(25, function);
    }
    model.0
}

#[test]
fn a_function_that_calls_itself() {
    let functions = [function("f", &[call("f", "x", "y")])];
    is_refused(
        &with_functions(&[call("f", "x", "y")], &functions),
        &["nested"],
    );
}

#[test]
fn two_functions_that_call_each_other() {
    let functions = [
        function("f", &[call("g", "x", "y")]),
        function("g", &[call("f", "x", "y")]),
    ];
    is_refused(&with_functions(&[call("f", "x", "y")], &functions), &[]);
}

// Undefined and duplicate names.

#[test]
fn an_undefined_input_of_a_node() {
    is_refused(
        &of(&[node("Relu", &["nowhere"], &["y"], &[])], &[]),
        &["`nowhere` is not defined", "the_Relu"],
    );
}

#[test]
fn an_undefined_output_of_the_graph() {
    is_refused(
        &of(&[node("Relu", &["x"], &["z"], &[])], &[]),
        &["`y` is not defined"],
    );
}

#[test]
fn an_undefined_name_in_a_branch() {
    let branch = graph(
        &[node("Relu", &["nowhere"], &["z"], &[])],
        &[],
        &[],
        &[Message::default().text(1, "z")],
    );
    let go = tensor("go", 9, &[], &[1]);
    let branches = [
        attribute_graph("then_branch", &branch),
        attribute_graph("else_branch", &branch),
    ];
    is_refused(
        &of(&[node("If", &["go"], &["y"], &branches)], &[go]),
        &["`nowhere` is not defined"],
    );
}

#[test]
fn a_name_that_two_nodes_compute() {
    let nodes = [
        node("Relu", &["x"], &["y"], &[]),
        node("Abs", &["x"], &["y"], &[]),
    ];
    is_refused(&of(&nodes, &[]), &["`y` is defined twice"]);
}

#[test]
fn a_name_that_one_node_computes_twice() {
    let nodes = [node(
        "Split",
        &["x"],
        &["y", "y"],
        &[attribute_int("num_outputs", 2)],
    )];
    is_refused(&of(&nodes, &[]), &["`y` is defined twice"]);
}

#[test]
fn two_constants_of_one_name() {
    let nodes = [node("Reshape", &["x", "n"], &["y"], &[])];
    is_refused(
        &of(&nodes, &[n(&[3, 2]), n(&[6, 1])]),
        &["`n` is defined twice"],
    );
}

#[test]
fn a_constant_and_a_node_of_one_name() {
    let nodes = [
        node("Shape", &["x"], &["n"], &[]),
        node("Reshape", &["x", "n"], &["y"], &[]),
    ];
    is_refused(&of(&nodes, &[n(&[3, 2])]), &["`n` is defined twice"]);
}

#[test]
fn two_inputs_of_one_name() {
    let x = value_info("x", FLOAT, &[2, 3]);
    let relu = node("Relu", &["x"], &["y"], &[]);
    let outputs = [Message::default().text(1, "y")];
    let bytes = model(&graph(&[relu], &[], &[x.clone(), x], &outputs)).0;
    is_refused(&bytes, &["`x` is used twice"]);
}

#[test]
fn two_outputs_of_one_name() {
    let x = value_info("x", FLOAT, &[2, 3]);
    let relu = node("Relu", &["x"], &["y"], &[]);
    let y = Message::default().text(1, "y");
    let bytes = model(&graph(&[relu], &[], &[x], &[y.clone(), y])).0;
    is_refused(&bytes, &["`y`"]);
}

// Nesting bombs.

/// `If` in `If`, each level holding the one below once or twice.
fn nested(levels: usize, both: bool) -> Vec<u8> {
    let named_output = |name: &str| [Message::default().text(1, name)];
    let mut inner = graph(
        &[node("Relu", &["x"], &["y0"], &[])],
        &[],
        &[],
        &named_output("y0"),
    );
    for level in 1..levels {
        let name = format!("y{level}");
        let other = if both {
            inner.clone()
        } else {
            graph(
                &[node("Relu", &["x"], &["z"], &[])],
                &[],
                &[],
                &named_output("z"),
            )
        };
        let branches = [
            attribute_graph("then_branch", &inner),
            attribute_graph("else_branch", &other),
        ];
        let go = format!("go{level}");
        inner = graph(
            &[
                node(
                    "ReduceMax",
                    &["x"],
                    &[&format!("m{level}")],
                    &[attribute_int("keepdims", 0)],
                ),
                node(
                    "Cast",
                    &[&format!("m{level}")],
                    &[&go],
                    &[attribute_int("to", 9)],
                ),
                node("If", &[&go], &[&name], &branches),
            ],
            &[],
            &[],
            &named_output(&name),
        );
    }
    model(&inner.message(11, &value_info("x", FLOAT, &[2, 3]))).0
}

#[test]
fn subgraphs_that_nest_deeply() {
    for levels in [40, 400, 4000] {
        is_refused(&nested(levels, false), &[]);
    }
}

#[test]
fn subgraphs_that_double_at_each_level() {
    is_refused(&nested(18, true), &["the graph takes more than"]);
}

#[test]
fn a_small_file_of_a_million_empty_messages() {
    let mut body = Message::default();
    for _ in 0..2_000_000 {
        body = body.bytes(1, b"");
    }
    let nodes = [node(
        "If",
        &["x"],
        &["y"],
        &[attribute_graph("then_branch", &body)],
    )];
    let bytes = of(&nodes, &[]);
    assert!(bytes.len() < 5_000_000);
    is_refused(&bytes, &["the graph takes more than"]);
}

#[test]
fn functions_that_double_at_each_level() {
    let mut functions = vec![function("f0", &[node("Relu", &["x"], &["y"], &[])])];
    for level in 1..40 {
        let below = format!("f{}", level - 1);
        let nodes = [call(&below, "x", "a"), call(&below, "a", "y")];
        functions.push(function(&format!("f{level}"), &nodes));
    }
    let begun = Instant::now();
    is_refused(
        &with_functions(&[call("f39", "x", "y")], &functions),
        &["nodes, those of functions each time they are called"],
    );
    // Counted, not tried out: three runs of the program.
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn loops_in_loops_of_many_rounds() {
    let out = |name: &str| Message::default().text(1, name);
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
        &[out("on0"), out("w0")],
    );
    for level in 1..4 {
        let at = |name: &str| format!("{name}{level}");
        let inner = [attribute_graph("body", &body)];
        body = graph(
            &[
                node("Identity", &[&at("go")], &[&at("on")], &[]),
                node("Loop", &["n", "", &at("v")], &[&at("w")], &inner),
            ],
            &[],
            &[
                value_info(&at("i"), INT64, &[]),
                value_info(&at("go"), 9, &[]),
                value_info(&at("v"), FLOAT, &[2, 3]),
            ],
            &[out(&at("on")), out(&at("w"))],
        );
    }
    let nodes = [node(
        "Loop",
        &["n", "", "x"],
        &["y"],
        &[attribute_graph("body", &body)],
    )];
    let folder = folder(&of(&nodes, &[longs("n", &[], &[1000])]));
    // The default, a million, is reached as well, but not in a moment.
    let arguments = [
        "convert",
        "m.onnx",
        "--target",
        "coreml",
        "-o",
        "out",
        "--no-verify",
    ];
    let (code, document) = program(
        folder.path(),
        &[&arguments[..], &["--limit", "nodes=20000"]].concat(),
    );
    assert_eq!(code, 1);
    assert!(
        document.to_string().contains("--limit nodes=N"),
        "{document:#}"
    );
}

/// A scan whose body is a scan whose body has no nodes: every round counts all the same. In operator set 8, a scan of very many samples.
#[test]
fn scans_of_many_empty_rounds() {
    let out = |name: &str| [Message::default().text(1, name)];
    let scan = |inputs: &[&str], result: &str, body: &Message| {
        let how = [
            attribute_graph("body", body),
            attribute_int("num_scan_inputs", 1),
        ];
        node("Scan", inputs, &[result], &how)
    };
    let empty = graph(&[], &[], &[value_info("e", FLOAT, &[2])], &out("e"));
    let rows = graph(
        &[scan(&["row"], "z", &empty)],
        &[],
        &[value_info("row", FLOAT, &[1000, 2])],
        &out("z"),
    );
    for (opset, dims, nodes, expected) in [
        (
            18,
            [1000, 1000, 2],
            scan(&["x"], "y", &rows),
            "--limit nodes=N",
        ),
        (
            8,
            [1_000_000, 2, 2],
            scan(&["", "x"], "y", &empty),
            "at most 1024 samples",
        ),
    ] {
        let inputs = [value_info("x", FLOAT, &dims)];
        let opset = Message::default().text(1, "").int(2, opset);
        let model = Message::default()
            .int(1, 8)
            .message(7, &graph(&[nodes], &[], &inputs, &out("y")))
            .message(8, &opset);
        let folder = folder(&model.0);
        let arguments = ["m.onnx", "--target", "coreml", "-o", "out", "--no-verify"];
        let limit = ["--limit", "nodes=20000"];
        let (code, document) = program(
            folder.path(),
            &[&["convert"], &arguments[..], &limit].concat(),
        );
        assert_eq!(code, 1);
        assert!(document.to_string().contains(expected), "{document:#}");
    }
}

#[test]
fn types_that_nest_deeply() {
    let mut ty = Message::default().message(1, &Message::default().int(1, FLOAT));
    for _ in 0..5000 {
        ty = Message::default().message(4, &Message::default().message(1, &ty));
    }
    let x = Message::default().text(1, "x").message(2, &ty);
    let relu = node("Relu", &["x"], &["y"], &[]);
    let outputs = [Message::default().text(1, "y")];
    is_refused(&model(&graph(&[relu], &[], &[x], &outputs)).0, &[]);
}

// Sizes and constants that grow with every node.

/// The input `x: f32[n, m]`, whose sizes are open.
fn open_input() -> Message {
    let mut shape = Message::default();
    for name in ["n", "m"] {
        shape = shape.message(1, &Message::default().text(2, name));
    }
    let tensor = Message::default().int(1, FLOAT).message(2, &shape);
    Message::default()
        .text(1, "x")
        .message(2, &Message::default().message(1, &tensor))
}

/// That a model with the open input is refused, in a moment, whose output is a constant expanded to `shape`.
#[track_caller]
fn open_is_refused(mut nodes: Vec<Message>, shape: &str, parts: &[&str]) {
    let start = [
        node("Shape", &["x"], &["s"], &[]),
        node("Gather", &["s", "turn"], &["t"], &[]),
        node("Add", &["s", "t"], &["v0"], &[]),
    ];
    nodes.splice(0..0, start);
    nodes.push(node("Expand", &["one", shape], &["y"], &[]));
    let constants = [
        longs("turn", &[2], &[1, 0]),
        longs("many", &[250], &[2; 250]),
        tensor("one", FLOAT, &[1, 1], &1f32.to_le_bytes()),
    ];
    let outputs = [Message::default().text(1, "y")];
    let bytes = model(&graph(&nodes, &constants, &[open_input()], &outputs)).0;
    let folder = folder(&bytes);
    let begun = Instant::now();
    let arguments = [
        "convert",
        "m.onnx",
        "--target",
        "onnx",
        "-o",
        "out",
        "--no-verify",
    ];
    let (code, document) = program(folder.path(), &arguments);
    assert_eq!(code, 1, "{document:#}");
    let message = document["error"]["message"].as_str().unwrap();
    for part in parts {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
    assert!(begun.elapsed() < Duration::from_secs(40));
}

#[test]
fn sizes_that_double_with_every_node() {
    let step =
        |op: &str, a: &str, b: &str, to: &str| named(&format!("n_{to}"), op, &[a, b], &[to], &[]);
    let parts = ["node `n_", "too long to follow", "--limit size-terms=N"];
    // Products, of which each has twice the degree of the one before.
    let mut squares = Vec::new();
    // Quotients, of which each holds the one before three times.
    let mut quotients = Vec::new();
    for i in 0..40 {
        let at = |name: &str, i: i32| format!("{name}{i}");
        let (from, to) = (at("v", i), at("v", i + 1));
        squares.push(step("Mul", &from, &from, &to));
        quotients.push(step("Mul", &from, &from, &at("a", i)));
        quotients.push(step("Add", &from, "t", &at("b", i)));
        quotients.push(step("Div", &at("a", i), &at("b", i), &to));
    }
    open_is_refused(squares, "v40", &parts);
    open_is_refused(quotients, "v40", &parts);
}

#[test]
fn vectors_of_sizes_that_are_passed_on_without_end() {
    // 252 sizes in a vector, handed on by node after node.
    let concat = [attribute_int("axis", 0)];
    let mut nodes = vec![node("Concat", &["v0", "many"], &["w0"], &concat)];
    for step in 0..12_000 {
        let (from, to) = (format!("w{step}"), format!("w{}", step + 1));
        nodes.push(node("Identity", &[&from], &[&to], &[]));
    }
    let together = ["all sizes together", "--limit model-size-terms=N"];
    open_is_refused(nodes, "v0", &together);
}

#[test]
fn constants_that_small_operators_ask_for() {
    // A hundred constants of 16 MB each, none of which is in the file, and each needed by the next.
    let shape = longs("shape", &[1], &[4 << 20]);
    let one = tensor("one", FLOAT, &[1], &1f32.to_le_bytes());
    let value = Message::default()
        .text(1, "value")
        .message(5, &one)
        .int(20, 4);
    let mut nodes = vec![node("ConstantOfShape", &["shape"], &["c0"], &[value])];
    for step in 0..100 {
        let (from, to) = (format!("c{step}"), format!("c{}", step + 1));
        nodes.push(node("Neg", &[&from], &[&to], &[]));
    }
    nodes.push(node(
        "ReduceMax",
        &["c100"],
        &["top"],
        &[attribute_int("keepdims", 0)],
    ));
    nodes.push(node("Add", &["x", "top"], &["y"], &[]));
    let folder = folder(&of(&nodes, &[shape]));
    let arguments = [
        "convert",
        "m.onnx",
        "--target",
        "onnx",
        "-o",
        "out.onnx",
        "--no-verify",
        "--limit",
        "folded-bytes=64Mi",
    ];
    // What does not fit is left for the run; in a gigabyte of addresses, either is said in order.
    let (code, document) = program(folder.path(), &arguments);
    assert_eq!(code, 0, "{document:#}");
    let written = fs::metadata(folder.path().join("out.onnx")).unwrap().len();
    assert!(written < 40 << 20, "{written}");
}

// Gigantic dimensions.

#[test]
fn inputs_of_gigantic_dimensions() {
    for dims in [
        &[i64::MAX][..],
        &[1 << 40],
        &[1 << 31, 1 << 31],
        &[1 << 32, 1 << 32],
        &[1 << 62, 1 << 62, 16],
    ] {
        let x = value_info("x", FLOAT, dims);
        let relu = node("Relu", &["x"], &["y"], &[]);
        let outputs = [Message::default().text(1, "y")];
        is_refused(&model(&graph(&[relu], &[], &[x], &outputs)).0, &[]);
    }
}

#[test]
fn inputs_of_a_thousand_axes() {
    let x = value_info("x", FLOAT, &[1; 1000]);
    let relu = node("Relu", &["x"], &["y"], &[]);
    let outputs = [Message::default().text(1, "y")];
    is_refused(&model(&graph(&[relu], &[], &[x], &outputs)).0, &[]);
}

#[test]
fn constants_of_gigantic_or_negative_dimensions() {
    for dims in [
        &[1 << 40][..],
        &[1 << 32, 1 << 32],
        &[1 << 62, 4],
        &[i64::MAX, i64::MAX],
        &[-1],
        &[i64::MIN],
    ] {
        let w = tensor("w", FLOAT, dims, &[0; 16]);
        let nodes = [node("Add", &["x", "w"], &["y"], &[])];
        is_refused(&of(&nodes, &[w]), &["`w`"]);
    }
}

// Sizes that overflow.

/// Every list of numbers as the constant input `n` of an operator.
#[track_caller]
fn sizes(op: &str, attributes: &[Message], lists: &[&[i64]]) {
    for list in lists {
        let inputs: &[&str] = if op == "ConstantOfShape" {
            &["n"]
        } else {
            &["x", "n"]
        };
        is_refused(
            &of(&[node(op, inputs, &["y"], attributes)], &[n(list)]),
            &[&format!("`{op}`")],
        );
    }
}

#[test]
fn reshape_to_sizes_that_overflow() {
    let lists: [&[i64]; 7] = [
        &[1 << 40, 1 << 40, 1 << 40],
        &[i64::MAX, i64::MAX],
        &[-1, 1 << 62, 1 << 62],
        &[-1, -1, 3],
        &[-2, 3],
        &[0, 0, 0, 6],
        &[-1, 4],
    ];
    for list in lists {
        is_refused(
            &of(&[node("Reshape", &["x", "n"], &["y"], &[])], &[n(list)]),
            &["node `the_"],
        );
    }
}

#[test]
fn expand_to_sizes_that_overflow() {
    for list in [
        &[1 << 40, 1 << 40, 3][..],
        &[i64::MAX, 2, 3],
        &[-5, 2, 3],
        &[i64::MIN, 2, 3],
    ] {
        is_refused(
            &of(&[node("Expand", &["x", "n"], &["y"], &[])], &[n(list)]),
            &["node `the_"],
        );
    }
}

#[test]
fn tile_to_sizes_that_overflow() {
    for list in [
        &[1 << 40, 1 << 40][..],
        &[i64::MAX, 1],
        &[-1, 1],
        &[i64::MIN, 2],
    ] {
        is_refused(
            &of(&[node("Tile", &["x", "n"], &["y"], &[])], &[n(list)]),
            &["node `the_"],
        );
    }
}

#[test]
fn pad_to_sizes_that_overflow() {
    for list in [
        &[1 << 60, 0, 1 << 60, 0][..],
        &[i64::MAX, 0, i64::MAX, 0],
        &[i64::MIN, 0, i64::MIN, 0],
        &[-9, 0, 0, 0],
    ] {
        is_refused(
            &of(&[node("Pad", &["x", "n"], &["y"], &[])], &[n(list)]),
            &["node `the_"],
        );
    }
}

#[test]
fn constant_of_shape_of_sizes_that_overflow() {
    sizes(
        "ConstantOfShape",
        &[],
        &[
            &[1 << 33, 1 << 33],
            &[i64::MAX],
            &[1 << 40],
            &[-1],
            &[i64::MIN, 2],
        ],
    );
}

#[test]
fn range_of_sizes_that_overflow() {
    for [from, to, by] in [
        [0, i64::MAX, 1],
        [i64::MIN, i64::MAX, 1],
        [i64::MAX, i64::MIN, -1],
        [0, 1 << 40, 1],
        [0, 9, 0],
    ] {
        let constants = [
            longs("a", &[], &[from]),
            longs("b", &[], &[to]),
            longs("c", &[], &[by]),
        ];
        let nodes = [node("Range", &["a", "b", "c"], &["y"], &[])];
        is_refused(&of(&nodes, &constants), &["node `the_"]);
    }
    for [from, to, by] in [
        [0.0, f32::INFINITY, 1.0],
        [0.0, f32::NAN, 1.0],
        [0.0, 1.0, f32::MIN_POSITIVE],
    ] {
        let number = |name: &str, x: f32| tensor(name, FLOAT, &[], &x.to_le_bytes());
        let constants = [number("a", from), number("b", to), number("c", by)];
        let nodes = [node("Range", &["a", "b", "c"], &["y"], &[])];
        is_refused(&of(&nodes, &constants), &["node `the_"]);
    }
}

/// `OneHot`, `Resize`, `EyeLike` and others that make sizes of numbers.
#[test]
fn other_operators_asked_for_sizes_that_overflow() {
    let floats = |name: &str, list: &[f32]| {
        let raw: Vec<u8> = list.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensor(name, FLOAT, &[list.len() as i64], &raw)
    };
    let ids = longs("ids", &[2], &[0, 1]);
    let values = floats("values", &[0.0, 1.0]);
    let depth = longs("depth", &[], &[1 << 50]);
    is_refused(
        &of(
            &[node("OneHot", &["ids", "depth", "values"], &["y"], &[])],
            &[ids, values, depth],
        ),
        &["node `the_"],
    );
    for list in [&[1 << 40, 1 << 40][..], &[-1, 3], &[i64::MAX, i64::MAX]] {
        let nodes = [node("Resize", &["x", "", "", "n"], &["y"], &[])];
        is_refused(&of(&nodes, &[n(list)]), &["node `the_"]);
    }
    for scale in [f32::INFINITY, f32::NAN, -1.0, 1e30] {
        let nodes = [node("Resize", &["x", "", "s"], &["y"], &[])];
        is_refused(&of(&nodes, &[floats("s", &[1.0, scale])]), &["node `the_"]);
    }
    for k in [4, -1, i64::MAX, i64::MIN] {
        let nodes = [node("TopK", &["x", "n"], &["y", "at"], &[])];
        is_refused(&of(&nodes, &[n(&[k])]), &["node `the_"]);
    }
    let windows = node("HannWindow", &["size"], &["y"], &[]);
    is_refused(
        &of(&[windows], &[longs("size", &[], &[1 << 45])]),
        &["node `the_"],
    );
    let step = [
        longs("from", &[1], &[0]),
        longs("to", &[1], &[2]),
        longs("axes", &[1], &[0]),
        n(&[0]),
    ];
    let nodes = [node(
        "Slice",
        &["x", "from", "to", "axes", "n"],
        &["y"],
        &[],
    )];
    is_refused(&of(&nodes, &step), &["node `the_"]);
    let split = [node("Split", &["x", "n"], &["y", "z"], &[])];
    for list in [&[i64::MAX, i64::MAX][..], &[5, -3], &[1 << 40, 1]] {
        is_refused(&of(&split, &[n(list)]), &["node `the_"]);
    }
}

/// Windows whose sizes are 0, negative or overflow.
#[test]
fn windows_of_sizes_that_overflow() {
    let x = value_info("x", FLOAT, &[1, 1, 8, 8]);
    let y = Message::default().text(1, "y");
    let w = tensor("w", FLOAT, &[1, 1, 3, 3], &[0; 36]);
    for (name, list) in [
        ("strides", &[0, 0][..]),
        ("strides", &[-1, 1]),
        ("dilations", &[0, 1]),
        ("dilations", &[i64::MAX, i64::MAX]),
        ("pads", &[i64::MAX, i64::MAX, i64::MAX, i64::MAX]),
        ("pads", &[-100, 0, 0, 0]),
        ("kernel_shape", &[i64::MAX, 3]),
        ("pads", &[1 << 40, 1 << 40, 1 << 40, 1 << 40]),
    ] {
        let nodes = [node("Conv", &["x", "w"], &["y"], &[ints(name, list)])];
        let graph = graph(
            &nodes,
            std::slice::from_ref(&w),
            std::slice::from_ref(&x),
            std::slice::from_ref(&y),
        );
        is_refused(&model(&graph).0, &["node `the_"]);
    }
    for (op, name, list) in [
        ("MaxPool", "kernel_shape", &[i64::MAX, i64::MAX][..]),
        ("AveragePool", "kernel_shape", &[0, 0]),
        ("MaxPool", "kernel_shape", &[-1, 2]),
    ] {
        let nodes = [node(op, &["x"], &["y"], &[ints(name, list)])];
        let graph = graph(
            &nodes,
            &[],
            std::slice::from_ref(&x),
            std::slice::from_ref(&y),
        );
        is_refused(&model(&graph).0, &["node `the_"]);
    }
    for (op, name, value) in [
        ("DepthToSpace", "blocksize", 0),
        ("SpaceToDepth", "blocksize", i64::MAX),
        ("SpaceToDepth", "blocksize", -2),
    ] {
        let nodes = [node(op, &["x"], &["y"], &[attribute_int(name, value)])];
        let graph = graph(
            &nodes,
            &[],
            std::slice::from_ref(&x),
            std::slice::from_ref(&y),
        );
        is_refused(&model(&graph).0, &["node `the_"]);
    }
    let groups = [node(
        "Conv",
        &["x", "w"],
        &["y"],
        &[attribute_int("group", 0)],
    )];
    let graph = graph(
        &groups,
        std::slice::from_ref(&w),
        std::slice::from_ref(&x),
        std::slice::from_ref(&y),
    );
    is_refused(&model(&graph).0, &["node `the_"]);
}

// Axes.

#[test]
fn axes_in_attributes_out_of_range() {
    for op in [
        "Softmax",
        "LogSoftmax",
        "Hardmax",
        "ArgMax",
        "LayerNormalization",
        "Flatten",
    ] {
        for axis in [3, -4, i64::MAX, i64::MIN] {
            let inputs: &[&str] = if op == "LayerNormalization" {
                &["x", "w"]
            } else {
                &["x"]
            };
            let w = tensor("w", FLOAT, &[3], &[0; 12]);
            let nodes = [node(op, inputs, &["y"], &[attribute_int("axis", axis)])];
            is_refused(&of(&nodes, &[w]), &["axis"]);
        }
    }
    for op in ["Concat", "Gather", "GatherElements"] {
        for axis in [2, -3, i64::MAX, i64::MIN] {
            let inputs: &[&str] = if op == "Concat" {
                &["x", "x"]
            } else {
                &["x", "at"]
            };
            let nodes = [node(op, inputs, &["y"], &[attribute_int("axis", axis)])];
            is_refused(&of(&nodes, &[longs("at", &[1, 1], &[0])]), &["axis"]);
        }
    }
    for perm in [
        &[0, 2][..],
        &[0, 0],
        &[-1, 0],
        &[0],
        &[0, 1, 2],
        &[i64::MAX, 0],
    ] {
        let nodes = [node("Transpose", &["x"], &["y"], &[ints("perm", perm)])];
        is_refused(&of(&nodes, &[]), &["node `the_"]);
    }
}

#[test]
fn axes_in_constants_out_of_range() {
    for op in ["ReduceSum", "ReduceMean", "Squeeze", "Unsqueeze", "CumSum"] {
        for axis in [3, -4, i64::MAX, i64::MIN] {
            let axes = if op == "CumSum" {
                longs("n", &[], &[axis])
            } else {
                n(&[axis])
            };
            is_refused(
                &of(&[node(op, &["x", "n"], &["y"], &[])], &[axes]),
                &["node `the_"],
            );
        }
    }
    for axes in [&[0, 0][..], &[0, -4]] {
        is_refused(
            &of(&[node("Unsqueeze", &["x", "n"], &["y"], &[])], &[n(axes)]),
            &["node `the_"],
        );
    }
}

#[test]
fn constant_indices_out_of_range() {
    for at in [2, -3, i64::MAX, i64::MIN] {
        let nodes = [
            node(
                "Constant",
                &[],
                &["data"],
                &[Message::default()
                    .text(1, "value_ints")
                    .int(8, 1)
                    .int(8, 2)
                    .int(20, 7)],
            ),
            node("Gather", &["data", "n"], &["picked"], &[]),
            node("Expand", &["x", "picked"], &["y"], &[]),
        ];
        is_refused(&of(&nodes, &[n(&[at])]), &[]);
    }
}

// Attributes.

#[test]
fn attributes_of_another_type() {
    let text = Message::default().text(1, "axis").bytes(4, b"1").int(20, 3);
    is_refused(
        &of(&[node("Softmax", &["x"], &["y"], &[text])], &[]),
        &["`axis`", "int"],
    );
    let list = ints("axis", &[1]);
    is_refused(
        &of(&[node("Softmax", &["x"], &["y"], &[list])], &[]),
        &["`axis`", "int"],
    );
    let whole = attribute_int("alpha", 1);
    is_refused(
        &of(&[node("LeakyRelu", &["x"], &["y"], &[whole])], &[]),
        &["`alpha`", "float"],
    );
    let scalar = attribute_int("perm", 1);
    is_refused(
        &of(&[node("Transpose", &["x"], &["y"], &[scalar])], &[]),
        &["`perm`"],
    );
    let number = attribute_int("then_branch", 1);
    let go = tensor("go", 9, &[], &[1]);
    is_refused(
        &of(&[node("If", &["go"], &["y"], &[number])], &[go]),
        &["branch"],
    );
}

#[test]
fn attributes_whose_type_lies() {
    // An integer that calls itself a float, and one that does not say what it is.
    let lies = Message::default().text(1, "axis").int(3, 1).int(20, 1);
    is_refused(
        &of(&[node("Softmax", &["x"], &["y"], &[lies])], &[]),
        &["`axis`"],
    );
    let unknown = Message::default().text(1, "axis").int(3, 1).int(20, 99);
    is_refused(
        &of(&[node("Softmax", &["x"], &["y"], &[unknown])], &[]),
        &["axis"],
    );
    // Two values at once.
    let both = Message::default()
        .text(1, "axis")
        .int(3, 1)
        .int(8, 1)
        .int(20, 2);
    is_refused(
        &of(&[node("Softmax", &["x"], &["y"], &[both])], &[]),
        &["`axis`", "ints"],
    );
    // A parameter of a function, where there is no function.
    let reference = Message::default()
        .text(1, "axis")
        .int(20, 2)
        .text(21, "outer");
    is_refused(
        &of(&[node("Softmax", &["x"], &["y"], &[reference])], &[]),
        &["a reference to an attribute of a function"],
    );
}

#[test]
fn attributes_that_stand_twice() {
    let twice = [attribute_int("axis", 0), attribute_int("axis", 1)];
    is_refused(
        &of(&[node("Softmax", &["x"], &["y"], &twice)], &[]),
        &["`axis`"],
    );
}

#[test]
fn attributes_that_nobody_reads() {
    let extra = [attribute_int("slope", 1)];
    is_refused(
        &of(&[node("Relu", &["x"], &["y"], &extra)], &[]),
        &["`Relu` has no attribute `slope`", "the_Relu"],
    );
}

#[test]
fn attributes_that_are_missing() {
    is_refused(
        &of(&[node("Concat", &["x", "x"], &["y"], &[])], &[]),
        &["`Concat`", "axis"],
    );
    is_refused(
        &of(&[node("Cast", &["x"], &["y"], &[])], &[]),
        &["`Cast`", "to"],
    );
}

// Domains, operators, versions.

#[test]
fn operators_of_an_unknown_domain() {
    let stranger = node("Relu", &["x"], &["y"], &[]).text(7, "com.example");
    is_refused(&of(&[stranger], &[]), &["com.example", "the_Relu"]);
}

#[test]
fn unsupported_operators_are_listed_together_with_their_counts() {
    let nodes = [
        named("a", "Frobnicate", &["x"], &["a"], &[]),
        named("b", "Frobnicate", &["a"], &["b"], &[]),
        named("c", "StringNormalizer", &["b"], &["c"], &[]),
        named("d", "SequenceConstruct", &["c"], &["y"], &[]),
    ];
    is_refused(
        &of(&nodes, &[]),
        &[
            "`Frobnicate` (2, first `a`)",
            "`StringNormalizer` (1",
            "`SequenceConstruct` (1",
        ],
    );
}

/// A model of an IR version and an operator set.
fn versioned(ir: i64, opset: i64) -> Vec<u8> {
    let x = value_info("x", FLOAT, &[2, 3]);
    let y = Message::default().text(1, "y");
    Message::default()
        .int(1, ir)
        .message(
            7,
            &graph(&[node("Relu", &["x"], &["y"], &[])], &[], &[x], &[y]),
        )
        .message(8, &Message::default().text(1, "").int(2, opset))
        .0
}

#[test]
fn operator_sets_and_ir_versions_have_their_bounds() {
    for opset in [7, 8, 13, 18, 25, 26] {
        let folder = folder(&versioned(8, opset));
        let arguments = [
            "convert",
            "m.onnx",
            "--target",
            "coreml",
            "-o",
            "out",
            "--no-verify",
        ];
        let (code, document) = program(folder.path(), &arguments);
        assert_eq!(code, 0, "opset {opset}: {document:#}");
    }
    // Of older sets, what did not change since is read: nothing that adds took the same shapes before.
    let x = value_info("x", FLOAT, &[2, 3]);
    let y = Message::default().text(1, "y");
    let old = Message::default()
        .int(1, 8)
        .message(
            7,
            &graph(&[node("Add", &["x", "x"], &["y"], &[])], &[], &[x], &[y]),
        )
        .message(8, &Message::default().text(1, "").int(2, 6));
    is_refused(&old.0, &["operator set 6 of `Add`", "expected 7 to 26"]);
    for opset in [27, 0, -1, i64::MAX] {
        is_refused(
            &versioned(8, opset),
            &[&format!("operator set {opset} "), " to 26"],
        );
    }
    for ir in [14, 2, 0, -1, i64::MAX] {
        is_refused(
            &versioned(ir, 18),
            &[&format!("IR version {ir} "), "expected 3 to 13"],
        );
    }
    let folder = folder(&versioned(13, 18));
    let arguments = [
        "convert",
        "m.onnx",
        "--target",
        "coreml",
        "-o",
        "out",
        "--no-verify",
    ];
    assert_eq!(program(folder.path(), &arguments).0, 0);
}

#[test]
fn a_model_that_names_no_operator_set() {
    let x = value_info("x", FLOAT, &[2, 3]);
    let y = Message::default().text(1, "y");
    let graph = graph(&[node("Relu", &["x"], &["y"], &[])], &[], &[x], &[y]);
    is_refused(
        &Message::default().int(1, 8).message(7, &graph).0,
        &["operator set"],
    );
}

#[test]
fn a_declared_shape_that_contradicts_the_inferred_one() {
    let x = value_info("x", FLOAT, &[2, 3]);
    let nodes = [
        node("Relu", &["x"], &["a"], &[]),
        node("Neg", &["a"], &["y"], &[]),
    ];
    let y = Message::default().text(1, "y");
    let inner = graph(&nodes, &[], std::slice::from_ref(&x), &[y])
        .message(13, &value_info("a", FLOAT, &[2, 4]));
    is_refused(&model(&inner).0, &["`the_Relu`", "f32[2, 4]", "f32[2, 3]"]);
    let nodes = [node("Relu", &["x"], &["y"], &[])];
    let outer = graph(&nodes, &[], &[x], &[value_info("y", INT64, &[2, 3])]);
    is_refused(&model(&outer).0, &["`y`", "i64[2, 3]", "f32[2, 3]"]);
}

#[test]
fn a_stale_shape_inside_the_graph_may_be_allowed() {
    let x = value_info("x", FLOAT, &[2, 3]);
    let nodes = [
        node("Relu", &["x"], &["a"], &[]),
        node("Neg", &["a"], &["y"], &[]),
    ];
    let declared = |info: &Message| {
        let y = value_info("y", FLOAT, &[2, 3]);
        let inner = graph(&nodes, &[], std::slice::from_ref(&x), &[y]);
        folder(&model(&inner.message(13, info)).0)
    };
    let arguments = [
        "convert",
        "m.onnx",
        "--target",
        "coreml",
        "-o",
        "out",
        "--no-verify",
    ];
    let allowed = [&arguments[..], &["--allow-stale-shapes"]].concat();
    let stale = declared(&value_info("a", FLOAT, &[7, 3]));
    let (code, document) = program(stale.path(), &arguments);
    assert_eq!(code, 1);
    let hint = document["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("--allow-stale-shapes"), "{hint}");
    let (code, document) = program(stale.path(), &allowed);
    assert_eq!(code, 0, "{document:#}");
    let warnings = document["warnings"].to_string();
    assert!(
        warnings.contains("`the_Relu`") && warnings.contains("f32[7, 3]"),
        "{warnings}"
    );
    // Another element type is refused all the same.
    let other = declared(&value_info("a", INT64, &[2, 3]));
    let (code, document) = program(other.path(), &allowed);
    assert_eq!(code, 1, "{document:#}");
}

// External data.

/// A model with the external tensor `w: f32[2, 3]`.
fn external(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut w = Message::default()
        .int(1, 2)
        .int(1, 3)
        .int(2, FLOAT)
        .text(8, "w");
    for (key, value) in entries {
        w = w.message(13, &Message::default().text(1, key).text(2, value));
    }
    of(&[node("Add", &["x", "w"], &["y"], &[])], &[w.int(14, 1)])
}

/// A folder with a model whose weights lie at these places, and `w.bin` of 24 bytes.
fn beside(entries: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = folder(&external(entries));
    fs::write(folder.path().join("w.bin"), [0u8; 24]).unwrap();
    folder
}

#[test]
fn sound_external_data_are_read() {
    let folder = beside(&[("location", "w.bin"), ("offset", "0"), ("length", "24")]);
    let arguments = [
        "convert",
        "m.onnx",
        "--target",
        "coreml",
        "-o",
        "out",
        "--no-verify",
    ];
    let (code, document) = program(folder.path(), &arguments);
    assert_eq!(code, 0, "{document:#}");
}

#[test]
fn external_data_at_an_absolute_path() {
    for location in [
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/mem",
        "//w.bin",
        "C:\\w.bin",
        "\\\\host\\w.bin",
    ] {
        refused(
            beside(&[("location", location)]).path(),
            4,
            &["leaves the model's folder"],
        );
    }
}

#[test]
fn external_data_above_the_folder() {
    for location in ["../w.bin", "a/../../w.bin", "./../w.bin", "..", "a/..", ""] {
        refused(
            beside(&[("location", location)]).path(),
            4,
            &["leaves the model's folder"],
        );
    }
}

#[cfg(unix)]
#[test]
fn external_data_behind_a_symbolic_link() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("w.bin"), [0u8; 24]).unwrap();
    let folder = folder(&external(&[("location", "link")]));
    std::os::unix::fs::symlink(outside.path().join("w.bin"), folder.path().join("link")).unwrap();
    refused(folder.path(), 4, &["leaves the model's folder"]);
    let folder = self::folder(&external(&[("location", "link/w.bin")]));
    std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
    refused(folder.path(), 4, &["leaves the model's folder"]);
    let folder = self::folder(&external(&[("location", "link")]));
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("link")).unwrap();
    refused(folder.path(), 4, &["leaves the model's folder"]);
}

#[cfg(unix)]
#[test]
fn external_data_with_a_second_name() {
    let folder = folder(&external(&[("location", "hard")]));
    let outside = tempfile::tempdir_in(folder.path().parent().unwrap()).unwrap();
    fs::write(outside.path().join("secret"), [0u8; 24]).unwrap();
    fs::hard_link(outside.path().join("secret"), folder.path().join("hard")).unwrap();
    refused(folder.path(), 4, &["leaves the model's folder"]);
}

#[test]
fn external_data_that_is_shorter_than_it_says() {
    for entries in [
        &[("location", "w.bin"), ("offset", "1")][..],
        &[("location", "w.bin"), ("length", "25")],
        &[("location", "w.bin"), ("length", "23")],
        &[("location", "w.bin"), ("length", "0")],
        &[("location", "w.bin"), ("offset", "24")],
        &[("location", "missing")],
        &[("location", "m.onnx"), ("length", "1000000")],
    ] {
        refused(beside(entries).path(), 1, &["external data"]);
    }
}

#[test]
fn external_data_whose_offset_overflows() {
    for (offset, length) in [
        ("18446744073709551615", "24"),
        ("18446744073709551592", "24"),
        ("9223372036854775807", "9223372036854775807"),
        ("18446744073709551616", "24"),
        ("-1", "24"),
        ("0x10", "24"),
        ("1e3", "24"),
    ] {
        let entries = [
            ("location", "w.bin"),
            ("offset", offset),
            ("length", length),
        ];
        refused(beside(&entries).path(), 1, &["external data"]);
    }
}

#[test]
fn external_data_that_says_things_twice_or_unknown_things() {
    for entries in [
        &[("location", "w.bin"), ("location", "../w.bin")][..],
        &[("location", "w.bin"), ("checksum", "0")],
        &[("offset", "0")],
        &[],
    ] {
        refused(beside(entries).path(), 1, &["external data"]);
    }
}

#[cfg(unix)]
#[test]
fn external_data_in_a_pipe_a_folder_or_a_device() {
    let make = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}");
    };
    let folder = folder(&external(&[("location", "thing")]));
    let thing = folder.path().join("thing");
    let path = thing.to_str().unwrap();
    make("mkfifo", &[path]);
    refused(folder.path(), 1, &["external data `thing`"]);
    fs::remove_file(&thing).unwrap();
    fs::create_dir(&thing).unwrap();
    refused(folder.path(), 1, &["external data `thing`"]);
    fs::remove_dir(&thing).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(&thing).unwrap();
    refused(folder.path(), 1, &["external data `thing`"]);
    drop(socket);
    fs::remove_file(&thing).unwrap();
    // Only the administrator makes devices; elsewhere `/dev` itself is the model's folder.
    let made = Command::new("mknod").args([path, "c", "1", "5"]).output();
    if made.is_ok_and(|o| o.status.success()) {
        refused(folder.path(), 1, &["external data `thing`"]);
    }
}

#[cfg(unix)]
#[test]
fn a_model_that_is_a_pipe_a_folder_or_a_device() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let status = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(status.success());
    refused(folder.path(), 1, &["m.onnx"]);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    refused(folder.path(), 1, &["m.onnx"]);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("m.onnx", &path).unwrap();
    refused(folder.path(), 1, &["m.onnx"]);
}

// Files that end anywhere.

#[test]
fn a_file_that_ends_at_each_of_200_points() {
    let nodes = [
        node("Reshape", &["x", "n"], &["a"], &[]),
        node("Softmax", &["a"], &["b"], &[attribute_int("axis", 0)]),
        node("MatMul", &["b", "w"], &["y"], &[]),
    ];
    let w = tensor("w", FLOAT, &[2, 64], &[0; 512]);
    let x = value_info("x", FLOAT, &[2, 3]);
    let y = value_info("y", FLOAT, &[3, 64]);
    let bytes = model(&graph(&nodes, &[n(&[3, 2]), w], &[x], &[y])).0;
    let points: std::collections::BTreeSet<usize> =
        (0..200).map(|i| i * bytes.len() / 200).collect();
    assert_eq!(points.len(), 200);
    let folder = folder(&bytes);
    let convert = || {
        let arguments = [
            "convert",
            "m.onnx",
            "--target",
            "coreml",
            "-o",
            "out",
            "--no-verify",
        ];
        program(folder.path(), &arguments)
    };
    for cut in points {
        fs::write(folder.path().join("m.onnx"), &bytes[..cut]).unwrap();
        let (code, document) = convert();
        assert_eq!(code, 1, "cut at {cut} of {}: {document:#}", bytes.len());
    }
    fs::write(folder.path().join("m.onnx"), &bytes).unwrap();
    assert_eq!(convert().0, 0);
}

#[test]
fn external_data_that_end_anywhere() {
    let folder = beside(&[("location", "w.bin")]);
    for cut in 0..24 {
        fs::write(folder.path().join("w.bin"), vec![0u8; cut]).unwrap();
        let arguments = [
            "convert",
            "m.onnx",
            "--target",
            "coreml",
            "-o",
            "out",
            "--no-verify",
        ];
        let (code, document) = program(folder.path(), &arguments);
        assert_eq!(code, 1, "cut at {cut}: {document:#}");
    }
}
