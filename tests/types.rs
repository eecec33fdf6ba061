//! Element types and ranks that Core ML does not have: ONNX files through `convert` and `verify`, and what the report says about each change.

use std::path::Path;

use distill_convert::coreml;
use distill_convert::tensor::DType;
use serde_json::{Value, json};

use crate::common::onnx_file::{
    FLOAT, INT64, Message, attribute_int, graph, longs, model, named, tensor, value_info,
};
use crate::common::run_json;
use crate::hostile::raw;

const UINT8: i64 = 2;
const BOOL: i64 = 9;
const FLOAT16: i64 = 10;
const DOUBLE: i64 = 11;

/// A node that is called after what it computes.
fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Message]) -> Message {
    named(
        &format!("make_{}", outputs[0]),
        op,
        inputs,
        outputs,
        attributes,
    )
}

/// A port: name, element type, shape.
type Port<'a> = (&'a str, i64, &'a [i64]);

fn write(
    folder: &Path,
    nodes: &[Message],
    constants: &[Message],
    inputs: &[Port<'_>],
    outputs: &[Port<'_>],
) {
    let ports = |list: &[Port<'_>]| -> Vec<Message> {
        list.iter().map(|(n, t, s)| value_info(n, *t, s)).collect()
    };
    let graph = graph(nodes, constants, &ports(inputs), &ports(outputs));
    std::fs::write(folder.join("m.onnx"), model(&graph).0).unwrap();
}

/// Converts `m.onnx` in single precision: exit code and answer.
fn convert(folder: &Path, more: &[&str]) -> (i32, Value) {
    let arguments = [
        "convert",
        "--target",
        "coreml",
        "m.onnx",
        "--precision",
        "fp32",
    ];
    run_json(folder, &[&arguments, more].concat())
}

/// The list of changed types of a conversion, as `[place, value, from, to, basis]`; each says why.
fn changes(answer: &Value) -> Vec<[String; 5]> {
    let list = &answer["result"]["artifacts"][0]["type_changes"];
    let rows: Vec<[String; 5]> = list
        .as_array()
        .unwrap_or_else(|| panic!("{answer:#}"))
        .iter()
        .map(|row| {
            assert!(!row["why"].as_str().unwrap().is_empty(), "{row}");
            ["place", "value", "from", "to", "basis"].map(|k| row[k].as_str().unwrap().to_owned())
        })
        .collect();
    rows
}

#[track_caller]
fn changed(answer: &Value, expected: &[[&str; 5]]) {
    assert_eq!(changes(answer), expected, "{answer:#}");
}

/// Converts, expects success and these changes; verifies the package again on its own and expects the changes of the interface there.
#[track_caller]
fn holds(folder: &Path, expected: &[[&str; 5]]) {
    let (code, answer) = convert(folder, &["-o", "m.mlpackage"]);
    assert_eq!(code, 0, "{answer:#}");
    changed(&answer, expected);
    let (code, answer) = run_json(folder, &["verify", "m.onnx", "m.mlpackage"]);
    assert_eq!(code, 0, "{answer:#}");
    let read_back = answer["result"]["type_changes"].as_array().unwrap().clone();
    let interface: Vec<Value> = expected
        .iter()
        .filter(|[place, ..]| ["input", "output"].contains(place))
        .map(|[place, value, from, to, _]| {
            json!({ "place": place, "value": value, "from": from, "to": to })
        })
        .collect();
    assert_eq!(read_back, interface);
}

#[test]
fn integers_become_int32_with_a_proof_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let table: Vec<u8> = (0..20).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let nodes = [
        node("Gather", &["table", "ids"], &["rows"], &[]),
        node("Add", &["ids", "one"], &["next"], &[]),
        node("Mul", &["next", "many"], &["far"], &[]),
    ];
    let constants = [
        tensor("table", FLOAT, &[10, 2], &table),
        longs("one", &[], &[1]),
        longs("many", &[], &[1000]),
    ];
    write(
        folder.path(),
        &nodes,
        &constants,
        &[("ids", INT64, &[1, 4])],
        &[("rows", FLOAT, &[1, 4, 2]), ("far", INT64, &[1, 4])],
    );
    holds(
        folder.path(),
        &[
            ["input", "ids", "i64[1, 4]", "i32[1, 4]", "proof"],
            ["output", "far", "i64[1, 4]", "i32[1, 4]", "proof"],
            ["constant", "many", "i64[]", "i32[]", "proof"],
            ["constant", "one", "i64[]", "i32[]", "proof"],
            ["value", "far", "i64[1, 4]", "i32[1, 4]", "proof"],
            ["value", "next", "i64[1, 4]", "i32[1, 4]", "proof"],
        ],
    );
    let (_, answer) = convert(folder.path(), &["-o", "again.mlpackage"]);
    let list = answer["result"]["artifacts"][0]["type_changes"].clone();
    assert_eq!(list[4]["why"], "within 1000..=10000");
}

/// `y = x · 100,000 · 100,000 / 100,000`, of integers.
fn overflowing(folder: &Path, input: Port<'_>) {
    let mut nodes = vec![
        node("Mul", &["i", "many"], &["a"], &[]),
        node("Mul", &["a", "many"], &["b"], &[]),
        node("Div", &["b", "many"], &["y"], &[]),
    ];
    if input.0 == "x" {
        nodes.insert(
            0,
            node("Cast", &["x"], &["i"], &[attribute_int("to", INT64)]),
        );
    }
    let many = longs("many", &[], &[100_000]);
    write(folder, &nodes, &[many], &[input], &[("y", INT64, &[2, 3])]);
}

#[test]
fn integers_that_leave_int32_in_a_run_fail_the_verification() {
    let folder = tempfile::tempdir().unwrap();
    overflowing(folder.path(), ("x", FLOAT, &[2, 3]));
    let (code, answer) = convert(folder.path(), &[]);
    assert_eq!(code, 3, "{answer:#}");
    let basis = |value: &str| {
        let rows = changes(&answer);
        let row = rows.iter().find(|r| r[0] == "value" && r[1] == value);
        row.unwrap()[4].clone()
    };
    assert_eq!(
        [basis("a"), basis("b"), basis("y")],
        ["run_time_check", "run_time_check", "proof"]
    );
    let text = answer.to_string();
    assert!(text.contains("`b` reaches "), "{text}");
    assert!(text.contains("which int32 does not hold; the source computes it in a wider type"));
    let warnings = answer["warnings"].to_string();
    assert!(
        warnings.contains("without a proof that they fit, the first `a`"),
        "{warnings}"
    );
}

#[test]
fn integers_without_a_proof_are_said_and_looked_at_in_runs_on_the_users_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let many = longs("many", &[], &[100_000]);
    let nodes = [node("Mul", &["i", "many"], &["y"], &[])];
    write(
        folder.path(),
        &nodes,
        &[many],
        &[("i", INT64, &[2])],
        &[("y", INT64, &[2])],
    );
    holds(
        folder.path(),
        &[
            ["input", "i", "i64[2]", "i32[2]", "run_time_check"],
            ["output", "y", "i64[2]", "i32[2]", "run_time_check"],
            ["constant", "many", "i64[]", "i32[]", "proof"],
            ["value", "y", "i64[2]", "i32[2]", "run_time_check"],
        ],
    );
    let verify = |values: [i64; 2]| {
        let header = r#"{"i":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}"#;
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let file = folder.path().join("in.safetensors");
        std::fs::write(file, raw(header, &data)).unwrap();
        let arguments = [
            "verify",
            "m.onnx",
            "m.mlpackage",
            "--inputs",
            "in.safetensors",
        ];
        run_json(folder.path(), &arguments)
    };
    let (code, answer) = verify([20_000, 3]);
    assert_eq!(code, 0, "{answer:#}");
    let (code, answer) = verify([30_000, 3]);
    assert_eq!(code, 3, "{answer:#}");
    let failures = answer["result"]["failures"].to_string();
    assert!(failures.contains("`y` reaches 3000000000"), "{failures}");
    // What the interface cannot take at all is refused, not wrapped.
    let (code, answer) = verify([3_000_000_000, 3]);
    assert_eq!(code, 3, "{answer:#}");
    let failures = answer["result"]["failures"].to_string();
    assert!(failures.contains("3000000000"), "{failures}");
}

#[test]
fn a_constant_beyond_int32_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = [node("Add", &["i", "far"], &["y"], &[])];
    let far = longs("far", &[1], &[3_000_000_000]);
    write(
        folder.path(),
        &nodes,
        &[far],
        &[("i", INT64, &[2])],
        &[("y", INT64, &[2])],
    );
    let (code, answer) = convert(folder.path(), &[]);
    assert_eq!(code, 1, "{answer:#}");
    let message = answer["error"]["message"].as_str().unwrap();
    for part in ["`y`", "`far`", "3000000000"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!folder.path().join("m.mlpackage").exists());
}

#[test]
fn the_end_of_everything_in_a_slice_is_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = [
        node("Slice", &["x", "from", "to", "axis"], &["s"], &[]),
        node(
            "Slice",
            &["s", "last", "start", "axis", "back"],
            &["y"],
            &[],
        ),
    ];
    let constants = [
        longs("from", &[1], &[2]),
        longs("to", &[1], &[i64::MAX]),
        longs("axis", &[1], &[1]),
        longs("last", &[1], &[-1]),
        longs("start", &[1], &[i64::MIN]),
        longs("back", &[1], &[-2]),
    ];
    write(
        folder.path(),
        &nodes,
        &constants,
        &[("x", FLOAT, &[2, 8])],
        &[("y", FLOAT, &[2, 3])],
    );
    holds(folder.path(), &[]);
}

#[test]
fn doubles_are_rounded_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let third = tensor("third", DOUBLE, &[], &(1.0f64 / 3.0).to_le_bytes());
    write(
        folder.path(),
        &[node("Mul", &["x", "third"], &["y"], &[])],
        &[third],
        &[("x", DOUBLE, &[2, 3])],
        &[("y", DOUBLE, &[2, 3])],
    );
    holds(
        folder.path(),
        &[
            ["input", "x", "f64[2, 3]", "f32[2, 3]", "rounding"],
            ["output", "y", "f64[2, 3]", "f32[2, 3]", "rounding"],
            ["constant", "third", "f64[]", "f32[]", "rounding"],
            ["value", "y", "f64[2, 3]", "f32[2, 3]", "rounding"],
        ],
    );
    let (_, answer) = convert(folder.path(), &["-o", "again.mlpackage"]);
    let warnings = answer["warnings"].to_string();
    assert!(warnings.contains("double precision is computed in single precision"));
}

#[test]
fn truth_values_and_bytes_are_cast_at_the_interface() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = [
        node("Not", &["b"], &["not"], &[]),
        node("Cast", &["u"], &["f"], &[attribute_int("to", FLOAT)]),
        node("Where", &["b", "f", "half"], &["picked"], &[]),
        node("Cast", &["picked"], &["y"], &[attribute_int("to", UINT8)]),
    ];
    let half = tensor("half", FLOAT, &[], &1.5f32.to_le_bytes());
    write(
        folder.path(),
        &nodes,
        &[half],
        &[("b", BOOL, &[2, 3]), ("u", UINT8, &[2, 3])],
        &[("not", BOOL, &[2, 3]), ("y", UINT8, &[2, 3])],
    );
    holds(
        folder.path(),
        &[
            ["input", "b", "bool[2, 3]", "i32[2, 3]", "exact"],
            ["input", "u", "u8[2, 3]", "i32[2, 3]", "exact"],
            ["output", "not", "bool[2, 3]", "i32[2, 3]", "exact"],
            ["output", "y", "u8[2, 3]", "i32[2, 3]", "exact"],
        ],
    );
}

#[test]
fn inputs_and_outputs_without_axes_are_vectors_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = [
        node("Cast", &["k"], &["f"], &[attribute_int("to", FLOAT)]),
        node("Mul", &["x", "f"], &["scaled"], &[]),
        node(
            "ReduceSum",
            &["scaled"],
            &["y"],
            &[attribute_int("keepdims", 0)],
        ),
    ];
    write(
        folder.path(),
        &nodes,
        &[],
        &[("x", FLOAT, &[2, 3]), ("k", INT64, &[])],
        &[("y", FLOAT, &[])],
    );
    holds(
        folder.path(),
        &[
            ["input", "k", "i64[]", "i32[1]", "run_time_check"],
            ["output", "y", "f32[]", "f32[1]", "exact"],
        ],
    );
}

#[test]
fn half_precision_stays_half_precision() {
    let folder = tempfile::tempdir().unwrap();
    let third = tensor("third", FLOAT16, &[], &0x3555u16.to_le_bytes());
    write(
        folder.path(),
        &[node("Mul", &["x", "third"], &["y"], &[])],
        &[third],
        &[("x", FLOAT16, &[2, 3])],
        &[("y", FLOAT16, &[2, 3])],
    );
    let arguments = [
        "convert",
        "--target",
        "coreml",
        "m.onnx",
        "-o",
        "m.mlpackage",
    ];
    let (code, answer) = run_json(folder.path(), &arguments);
    assert_eq!(code, 0, "{answer:#}");
    changed(&answer, &[]);
    let halves = |module: distill_convert::ir::Module| {
        let function = module.main().unwrap().clone();
        assert!(function.values.iter().all(|v| v.ty.dtype == DType::F16));
        function.values.len()
    };
    let package = coreml::read(&folder.path().join("m.mlpackage")).unwrap();
    assert!(halves(package.module) >= 3);
    let (code, answer) = run_json(
        folder.path(),
        &["convert", "--target", "onnx", "m.onnx", "-o", "out.onnx"],
    );
    assert_eq!(code, 0, "{answer:#}");
    changed(&answer, &[]);
    let options = distill_convert::onnx::ReadOptions::default();
    let written = distill_convert::onnx::read(&folder.path().join("out.onnx"), &options).unwrap();
    assert!(halves(written.module) >= 3);
}

#[test]
fn bf16_is_written_to_onnx_in_single_precision() {
    const BFLOAT16: i64 = 16;
    let folder = tempfile::tempdir().unwrap();
    let halves = |n: i64| u16::try_from(0x3f80 + n).unwrap().to_le_bytes();
    let bytes: Vec<u8> = (0..6).flat_map(halves).collect();
    let nodes = [
        node("MatMul", &["x", "w"], &["m"], &[]),
        node("Cast", &["m"], &["wide"], &[attribute_int("to", FLOAT)]),
        node("Mul", &["wide", "third"], &["z"], &[]),
        node("Cast", &["z"], &["y"], &[attribute_int("to", BFLOAT16)]),
    ];
    let constants = [
        tensor("w", BFLOAT16, &[3, 2], &bytes),
        tensor("third", FLOAT, &[], &0.333f32.to_le_bytes()),
    ];
    write(
        folder.path(),
        &nodes,
        &constants,
        &[("x", BFLOAT16, &[2, 3])],
        &[("y", BFLOAT16, &[2, 2])],
    );
    for precision in ["fp32", "fp16"] {
        let out = format!("{precision}.onnx");
        let (code, answer) = run_json(
            folder.path(),
            &[
                "convert",
                "--target",
                "onnx",
                "m.onnx",
                "--precision",
                precision,
                "-o",
                &out,
            ],
        );
        assert_eq!(code, 0, "{answer:#}");
        assert!(
            answer["warnings"].to_string().contains("bf16"),
            "{answer:#}"
        );
        let report = &answer["result"]["artifacts"][0]["verification"];
        let said = "rounds to bf16 by arithmetic";
        assert!(report["warnings"].to_string().contains(said), "{answer:#}");
        let written = distill_convert::onnx::inspect(&folder.path().join(&out)).unwrap();
        let ports = written.inputs.iter().chain(&written.outputs);
        let types: Vec<&str> = ports.map(|p| p.dtype.as_str()).collect();
        assert_eq!(types, ["f32", "f32"]);
    }
}

#[test]
fn a_source_in_half_precision_is_widened_when_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let ports = |name| [(name, FLOAT16, &[1, 4][..])];
    let nodes = [node("Relu", &["x"], &["y"], &[])];
    write(folder.path(), &nodes, &[], &ports("x"), &ports("y"));
    let wide = ["--precision", "fp32"];
    for (target, file, more, dtype, precision) in [
        ("onnx", "wide.onnx", &wide[..], "f32", "fp32"),
        ("coreml", "wide.mlpackage", &wide, "f32", "fp32"),
        ("onnx", "same.onnx", &[], "f16", "as the source"),
    ] {
        let arguments = ["convert", "m.onnx", "--target", target, "-o", file];
        let (code, answer) = run_json(folder.path(), &[&arguments, more].concat());
        assert_eq!(code, 0, "{answer:#}");
        let (_, seen) = run_json(folder.path(), &["inspect", file]);
        for side in ["inputs", "outputs"] {
            assert_eq!(seen["result"][side][0]["dtype"], dtype, "{seen:#}");
        }
        let stated = &seen["result"]["metadata"]["com.distill-convert.precision"];
        assert_eq!(stated, precision, "{seen:#}");
    }
}
