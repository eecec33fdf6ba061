//! `inspect`: what operations need, how weights are compressed, and which are the largest.

use distill_convert::coreml;
use serde_json::json;

use crate::common::onnx_file::{
    FLOAT, Message, attribute_graph, attribute_int, graph, model, node, tensor, value_info,
};
use crate::common::{TinyModel, root, run, run_json};

#[test]
fn operations_have_the_opset_and_the_systems_that_they_need() {
    let folder = root().join("tests/fixtures/listing");
    let summary = coreml::inspect(&folder.join("counter.mlmodel")).unwrap();
    let needs = serde_json::to_value(&summary.needs).unwrap();
    assert_eq!(
        needs["mul"],
        json!({"count": 1, "opset": "CoreML5", "systems": ["iOS15", "macOS12"]})
    );
    assert_eq!(
        needs["read_state"],
        json!({"count": 2, "opset": "CoreML8", "systems": ["iOS18", "macOS15"]})
    );
    assert_eq!(summary.states[0].name, "total");
    let summary = coreml::inspect(&folder.join("several.mlmodel")).unwrap();
    assert_eq!(
        summary.functions.keys().collect::<Vec<_>>(),
        ["double", "triple"]
    );
    assert_eq!(summary.needs["mul"].count, 2);
    let interfaces = serde_json::to_value(&summary.interfaces).unwrap();
    for function in ["double", "triple"] {
        assert_eq!(interfaces[function]["inputs"][0]["name"], "x");
        assert_eq!(interfaces[function]["outputs"][0]["name"], "y");
    }
    let least = serde_json::to_value(&summary.least).unwrap();
    assert_eq!(
        least,
        json!({"opset": "CoreML8", "systems": ["iOS18", "macOS15"], "because": ["functions"]})
    );
}

#[test]
fn compressed_weights_are_counted_by_form() {
    // Every operation of Apple's tests, so every form that there is.
    let mut forms = std::collections::BTreeSet::new();
    let mut types = std::collections::BTreeSet::new();
    let folder = root().join("tests/fixtures/mil");
    for suite in std::fs::read_dir(folder).unwrap() {
        let suite = suite.unwrap().path();
        if !suite.is_dir() {
            continue;
        }
        for case in std::fs::read_dir(suite).unwrap() {
            let summary = coreml::inspect(&case.unwrap().path().join("model.mlmodel")).unwrap();
            for (form, found) in summary.compressed.clone() {
                assert!(found.count > 0 && found.stored_bytes > 0, "{form}");
                assert!(found.expanded_bytes > 0, "{form}");
                forms.insert(form);
            }
            // What fewer than eight bits hold came with iOS 18, but for the tables of iOS 16, whose indices are packed bytes.
            for dtype in ["int4", "uint4", "uint1", "uint3"] {
                let Some(need) = summary.type_needs.get(dtype) else {
                    continue;
                };
                assert_eq!(need.systems, ["iOS18", "macOS15"], "{dtype}");
                assert!(summary.least.because.contains(&dtype.to_owned()));
                types.insert(dtype);
            }
            for weight in &summary.largest_compressed {
                assert!(weight.stored_bytes > 0 && weight.expanded_bytes > 0);
                let own = &summary.compressed[&weight.form];
                assert!(own.expanded_bytes >= weight.expanded_bytes, "{weight:?}");
            }
            let forms = summary.compressed.values();
            let stored: u64 = forms.map(|c| c.stored_bytes).sum();
            let listed = summary.largest_compressed.iter();
            let listed: u64 = listed.map(|w| w.stored_bytes).sum();
            assert!(listed <= stored && (listed > 0) == (stored > 0));
            assert!(summary.largest.len() <= 10);
            assert!(summary.largest.windows(2).all(|w| w[0].bytes >= w[1].bytes));
        }
    }
    for form in [
        "constexpr_affine_dequantize",
        "constexpr_lut_to_dense",
        "constexpr_sparse_to_dense",
        "constexpr_blockwise_shift_scale",
    ] {
        assert!(forms.contains(form), "{form}: {forms:?}");
    }
    assert!(
        types.contains("int4") && types.contains("uint1"),
        "{types:?}"
    );
}

#[test]
fn names_that_no_identifier_can_have_are_shown_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::new().write(folder.path());
    let convert = [
        "--target",
        "coreml",
        "model",
        "-o",
        "m.mlpackage",
        "--no-verify",
    ];
    assert_eq!(run_json(folder.path(), &convert).0, 0);
    let summary = coreml::inspect(&folder.path().join("m.mlpackage")).unwrap();
    let named = summary
        .largest
        .iter()
        .filter_map(|c| c.source_name.as_deref());
    let named: Vec<&str> = named.collect();
    assert!(named.contains(&"lm_head.weight"), "{named:?}");
    let carried = root().join("tests/fixtures/shaped/classifier-rgb/model.mlpackage");
    let classifier = coreml::inspect(&carried).unwrap().classifier.unwrap();
    assert_eq!(
        (classifier.count, classifier.label.as_str()),
        (4, "classLabel")
    );
    assert_eq!(classifier.first, ["cat", "dog", "a longer name", "fish"]);
}

#[test]
fn both_formats_name_their_largest_weights() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::new().write(folder.path());
    let convert = [
        "--target",
        "coreml,onnx",
        "model",
        "-o",
        "out",
        "--no-verify",
        "--precision",
        "fp32",
    ];
    assert_eq!(run_json(folder.path(), &convert).0, 0);
    for artifact in ["out/model.mlpackage", "out/model.onnx"] {
        let (code, document) = run_json(folder.path(), &["inspect", artifact]);
        let largest = document["result"]["largest"].as_array().unwrap();
        assert_eq!((code, largest.len()), (0, 10), "{document:#}");
        // The two tables of 16 by 8 single-precision numbers, and in Core ML the mask of 64 by 64.
        let tables = largest
            .iter()
            .filter(|c| c["bytes"] == 16 * 8 * 4 && c["dtype"] == "f32");
        assert_eq!(tables.count(), 2, "{document:#}");
        let text = run(folder.path(), &["inspect", artifact]);
        let text = String::from_utf8(text.stdout).unwrap();
        for heading in [
            "\ninputs\n",
            "\noutputs\n",
            "\noperations\n",
            "\nlargest constants\n",
        ] {
            assert!(text.contains(heading), "{heading:?}: {text}");
        }
        // What is not there is not spoken of.
        for absent in [
            "classifier",
            "license",
            "states",
            "unsupported",
            "[]",
            "none",
        ] {
            let mut labels = text.lines().filter(|l| !l.starts_with(' '));
            assert!(!labels.any(|l| l.starts_with(absent)), "{absent}: {text}");
        }
        let columns = text.lines().find(|l| l.starts_with("  name "));
        let header: Vec<&str> = columns.unwrap().split_whitespace().collect();
        assert_eq!(header[..3], ["name", "dtype", "shape"], "{text}");
        if artifact.ends_with("onnx") {
            assert_eq!(document["result"]["unsupported_ops"], json!({}));
        }
    }
}

#[test]
fn weights_inside_nodes_and_subgraphs_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    // Field 5 of an attribute is a tensor, of type 4.
    let constant = |name: &str| {
        let weights = tensor("", FLOAT, &[3], &[0; 12]);
        let value = Message::default().text(1, "value");
        let value = value.message(5, &weights).int(20, 4);
        node("Constant", &[], &[name], &[value])
    };
    let branch = |name: &str| {
        let inner = graph(
            &[constant(name)],
            &[],
            &[],
            &[value_info(name, FLOAT, &[3])],
        );
        attribute_graph(&format!("{name}_branch"), &inner)
    };
    let choice = node("If", &["c"], &["y"], &[branch("then"), branch("else")]);
    let graph = graph(
        &[constant("w"), choice],
        &[],
        &[value_info("c", 9, &[])],
        &[value_info("y", FLOAT, &[3])],
    );
    std::fs::write(folder.path().join("m.onnx"), model(&graph).0).unwrap();
    let (code, document) = run_json(folder.path(), &["inspect", "m.onnx"]);
    let result = &document["result"];
    assert_eq!(
        (code, &result["parameters"]),
        (0, &json!(9)),
        "{document:#}"
    );
    assert_eq!(result["weight_bytes"], json!({"f32": 36}));
}

#[test]
fn kernels_that_round_or_saturate_eight_bits_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let product = |level| {
        let level = attribute_int("accuracy_level", level);
        node("MatMulNBits", &["x", "q", "s"], &["y"], &[level]).text(7, "com.microsoft")
    };
    let layer = node("DynamicQuantizeLSTM", &["x"], &["z"], &[]).text(7, "com.microsoft");
    let sums = node("MatMulInteger", &["q", "r"], &["s"], &[]);
    let graph = graph(
        &[product(4), product(1), layer, sums],
        &[],
        &[value_info("x", FLOAT, &[2, 64])],
        &[value_info("y", FLOAT, &[2, 32])],
    );
    std::fs::write(folder.path().join("m.onnx"), model(&graph).0).unwrap();
    let (_, document) = run_json(folder.path(), &["inspect", "m.onnx"]);
    assert_eq!(
        document["result"]["approximate_ops"],
        json!({"com.microsoft.DynamicQuantizeLSTM": 1, "com.microsoft.MatMulNBits": 1}),
        "{document:#}"
    );
    // Exact, but on processors where they saturate.
    assert_eq!(
        document["result"]["eight_bit_ops"],
        json!({"MatMulInteger": 1}),
        "{document:#}"
    );
}
