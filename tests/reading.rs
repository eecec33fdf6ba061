//! What ONNX files are made of beside plain nodes: functions, sparse constants, branches that use what is around them. Each through the program.

use distill_convert::coreml;
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::onnx::{ReadOptions, read_bytes};
use distill_convert::tensor::{NamedTensors, Tensor};

use crate::common::onnx_file::{
    FLOAT, INT64, Message, attribute_graph, attribute_int, graph, model, named, node, tensor,
    value_info,
};
use crate::common::run_json;

/// Converts a model, runs the package, and compares the output `y` with what it has to be.
#[track_caller]
fn computes(model: &Message, expected: &[f32]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.onnx"), &model.0).unwrap();
    let arguments = [
        "convert",
        "m.onnx",
        "--target",
        "coreml",
        "--precision",
        "fp32",
        "-o",
        "out.mlpackage",
    ];
    let (code, answer) = run_json(folder.path(), &arguments);
    assert_eq!(code, 0, "{answer:#}");
    let module = coreml::read(&folder.path().join("out.mlpackage"))
        .unwrap()
        .module;
    let x = Tensor::f32(vec![2, 3], vec![1.0, -2.0, 3.0, -4.0, 5.0, -6.0]).unwrap();
    let interpreter = Interpreter::new(&module, Mode::F32).unwrap();
    let found = interpreter.run(&NamedTensors::from([("x".to_owned(), x)]), None);
    assert_eq!(found.unwrap()["y"].floats().unwrap().as_slice(), expected);
}

fn x() -> Message {
    value_info("x", FLOAT, &[2, 3])
}

fn y() -> Message {
    value_info("y", FLOAT, &[2, 3])
}

#[test]
fn functions_are_read_by_their_bodies_and_given_their_attributes() {
    // leaky(x) = LeakyRelu(−x) with the slope that the call gives.
    let slope = Message::default()
        .text(1, "alpha")
        .int(20, 1)
        .text(21, "slope");
    let function = Message::default()
        .text(1, "leaky")
        .text(4, "in")
        .text(5, "out")
        .text(6, "slope")
        .message(7, &node("Neg", &["in"], &["inner"], &[]))
        .message(7, &node("LeakyRelu", &["inner"], &["out"], &[slope]))
        .message(9, &Message::default().text(1, "").int(2, 18))
        .text(10, "own");
    let mut half = Message::default().text(1, "slope");
    half.varint(2 << 3 | 5);
    half.0.extend(0.5f32.to_le_bytes());
    let call = |name: &str, input: &str, output: &str| {
        named(
            name,
            "leaky",
            &[input],
            &[output],
            &[half.clone().int(20, 1)],
        )
        .text(7, "own")
    };
    let nodes = [call("first", "x", "inner"), call("second", "inner", "y")];
    let model = model(&graph(&nodes, &[], &[x()], &[y()]))
        .message(8, &Message::default().text(1, "own").int(2, 1))
        .message(25, &function);
    computes(&model, &[0.5, -1.0, 1.5, -2.0, 2.5, -3.0]);
}

#[test]
fn sparse_constants_are_read() {
    // 10 at place 1 and 20 at place 5.
    let values: Vec<u8> = [10.0f32, 20.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let places: Vec<u8> = [1i64, 5].iter().flat_map(|v| v.to_le_bytes()).collect();
    let sparse = Message::default()
        .message(1, &tensor("w", FLOAT, &[2], &values))
        .message(2, &tensor("w_places", INT64, &[2], &places))
        .int(3, 2)
        .int(3, 3);
    let graph = graph(
        &[node("Add", &["x", "w"], &["y"], &[])],
        &[],
        &[x()],
        &[y()],
    );
    computes(
        &model(&graph.message(15, &sparse)),
        &[1.0, 8.0, 3.0, -4.0, 5.0, 14.0],
    );
}

#[test]
fn branches_use_what_is_around_them() {
    let out = |name: &str| [Message::default().text(1, name)];
    let then_branch = graph(
        &[node("Add", &["x", "twice"], &["a"], &[])],
        &[],
        &[],
        &out("a"),
    );
    let else_branch = graph(
        &[node("Sub", &["x", "twice"], &["b"], &[])],
        &[],
        &[],
        &out("b"),
    );
    let zero = tensor("zero", FLOAT, &[], &0f32.to_le_bytes());
    let nodes = [
        named("double", "Add", &["x", "x"], &["twice"], &[]),
        node(
            "ReduceSum",
            &["x"],
            &["sum"],
            &[attribute_int("keepdims", 0)],
        ),
        node("Greater", &["sum", "zero"], &["go"], &[]),
        node(
            "If",
            &["go"],
            &["y"],
            &[
                attribute_graph("then_branch", &then_branch),
                attribute_graph("else_branch", &else_branch),
            ],
        ),
    ];
    // The sum of the inputs is −3.
    computes(
        &model(&graph(&nodes, &[zero], &[x()], &[y()])),
        &[-1.0, 2.0, -3.0, 4.0, -5.0, 6.0],
    );
}

/// A model of operator set 26.
fn newest(nodes: &[Message], constants: &[Message], outputs: &[Message]) -> Message {
    let opset = Message::default().text(1, "").int(2, 26);
    Message::default()
        .int(1, 13)
        .message(7, &graph(nodes, constants, &[x()], outputs))
        .message(8, &opset)
}

#[test]
fn bits_are_those_of_constants_and_of_integers() {
    let bits: Vec<u8> = [1.5f32, -2.0, 0.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let constant = tensor("bits", 6, &[3], &bits);
    let nodes = [
        node("BitCast", &["bits"], &["w"], &[attribute_int("to", FLOAT)]),
        node("Mul", &["x", "w"], &["y"], &[]),
    ];
    computes(
        &newest(&nodes, &[constant], &[y()]),
        &[1.5, 4.0, 0.0, -6.0, -10.0, 0.0],
    );
    // Of numbers that only the run knows, and between types of different sizes.
    let refused = |to: i64, parts: &[&str]| {
        let nodes = [node("BitCast", &["x"], &["y"], &[attribute_int("to", to)])];
        let model = newest(&nodes, &[], &[Message::default().text(1, "y")]);
        let error = read_bytes(&model.0, std::path::Path::new(""), &ReadOptions::default());
        let error = error.unwrap_err().to_string();
        assert!(parts.iter().all(|p| error.contains(p)), "{error}");
    };
    refused(6, &["`BitCast`: `f32` as `i32`, other than of constants"]);
    refused(7, &["`to` must be a type of 32 bits", "found 64 bits"]);
}
