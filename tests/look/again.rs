//! Core ML packages written again: what a description says beyond the program — labels, images, defaults, words of the author — is said again. And
//! what `run` does with it.

use std::fs;
use std::path::Path;

use distill_convert::source::{read_tensors, write_tensors};
use distill_convert::tensor::{DType, NamedTensors, Tensor};
use serde_json::Value;

use crate::common::{judge, run_json};

/// A folder with the packages, made by coremltools.
fn packages() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    judge("described.py", &[folder.path()]);
    folder
}

fn done(folder: &Path, arguments: &[&str]) -> Value {
    let (code, document) = run_json(folder, arguments);
    assert_eq!(code, 0, "{arguments:?}: {document:#}");
    document
}

fn again(folder: &Path, name: &str, how: &str, more: &[&str]) -> Value {
    let (from, to) = (
        format!("{name}.mlpackage"),
        format!("{name}-again-{how}.mlpackage"),
    );
    let convert = ["--target", "coreml", &from, "-o", &to];
    done(folder, &[&convert[..], more].concat())
}

/// Without `-o` a package is named as a file would be: after itself, or, where that is the source or says nothing, after the folder it is in.
#[test]
fn what_is_made_of_a_package_is_named_after_it() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("pets");
    let package = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/shaped/classifier-rgb/model.mlpackage");
    let copy = |to: &Path| {
        for item in [
            "Manifest.json",
            "Data/com.apple.CoreML/model.mlmodel",
            "Data/com.apple.CoreML/weights/weight.bin",
        ] {
            fs::create_dir_all(to.join(item).parent().unwrap()).unwrap();
            fs::copy(package.join(item), to.join(item)).unwrap();
        }
    };
    copy(&folder.join("cats.mlpackage"));
    copy(&folder.join("model.mlpackage"));
    for (source, target, made) in [
        ("cats.mlpackage", "onnx", "cats.onnx"),
        ("cats.mlpackage", "coreml", "pets.mlpackage"),
        ("model.mlpackage", "onnx", "pets.onnx"),
    ] {
        let convert = ["--target", target, source, "--no-verify"];
        let document = done(&folder, &convert);
        assert_eq!(document["result"]["artifacts"][0]["path"], made);
    }
}

/// Everything that a package of coremltools says of its inputs and outputs is in the one that is made of it, as coremltools reads the two.
#[test]
#[ignore = "needs the judges: run scripts/test"]
fn descriptions_are_said_again() {
    let folder = packages();
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .filter_map(|n| n.strip_suffix(".mlpackage").map(str::to_owned))
        .collect();
    names.sort();
    assert_eq!(names.len(), 14);
    for name in &names {
        for precision in ["fp32", "fp16"] {
            let how = ["--precision", precision, "--deployment-target", "iOS18"];
            again(folder.path(), name, precision, &how);
        }
    }
    // What is chosen of several sizes stays an image, and stays matched with the others.
    let narrow = [
        "--precision",
        "fp32",
        "--deployment-target",
        "iOS18",
        "--dim",
    ];
    let image = [&narrow[..], &["dim0=4", "--dim", "dim1=5..6"]].concat();
    let range = [
        "--target",
        "coreml",
        "picture-range.mlpackage",
        "-o",
        "narrow.mlpackage",
    ];
    done(folder.path(), &[&range[..], &image].concat());
    let input = &done(folder.path(), &["inspect", "narrow.mlpackage"])["result"]["inputs"][0];
    assert_eq!(input["kind"], "image", "{input:#}");
    assert_eq!((&input["height"], &input["width"]), (&4.into(), &6.into()));
    let pair = [
        "--target",
        "coreml",
        "pair.mlpackage",
        "-o",
        "two.mlpackage",
    ];
    done(folder.path(), &[&pair[..], &narrow, &["dim0=2,7"]].concat());
    let inputs = &done(folder.path(), &["inspect", "two.mlpackage"])["result"]["inputs"];
    let shapes = |i: usize| inputs[i]["flexibility"]["shapes"].to_string();
    assert_eq!(shapes(0), "[[1,2],[1,7]]");
    assert_eq!(shapes(1), "[[4,3],[5,3]]");
    fs::remove_dir_all(folder.path().join("two.mlpackage")).unwrap();
    judge("described.py", &[folder.path(), Path::new("again")]);
    judge("check_mlpackage.py", &[folder.path()]);
    for name in &names {
        let package = format!("{name}-again-fp16.mlpackage");
        let document = done(folder.path(), &["lint", &package]);
        assert_eq!(document["result"]["warnings"], 0, "{document:#}");
    }
    // A target without half-precision images says what becomes of them.
    let old = ["--deployment-target", "iOS15"];
    let warnings = again(folder.path(), "picture-half", "old", &old)["warnings"].to_string();
    for name in ["image", "negative"] {
        let text = format!("`{name}` is an array of f32[1, 1, 4, 6] instead of a gray image");
        assert!(warnings.contains(&text), "{warnings}");
    }
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn classifiers_stay_classifiers_and_onnx_keeps_their_labels() {
    let folder = packages();
    for (name, labels) in [
        ("words", r#"["cat","a dog","f\"ish\""]"#),
        ("numbers", r#"["7","1099511627776","-3"]"#),
    ] {
        let label = fs::read_to_string(folder.path().join(format!("{name}.txt"))).unwrap();
        again(folder.path(), name, "half", &[]);
        for package in [name.to_owned(), format!("{name}-again-half")] {
            let inputs = format!("{name}.npz");
            let run = ["run", &format!("{package}.mlpackage"), "--inputs", &inputs];
            let document = done(folder.path(), &run);
            assert_eq!(document["result"]["label"], label.as_str());
        }
        let package = format!("{name}.mlpackage");
        let document = done(
            folder.path(),
            &["--target", "onnx", &package, "-o", "m.onnx"],
        );
        let warnings = document["warnings"].to_string();
        assert!(
            warnings.contains("The 3 labels are in the metadata"),
            "{warnings}"
        );
        let document = done(folder.path(), &["inspect", "m.onnx"]);
        let metadata = &document["result"]["metadata"];
        let kept = metadata["com.distill-convert.classifier"].as_str().unwrap();
        let expected =
            format!(r#"{{"label":"kind","labels":{labels},"probabilities":"kind_probs"}}"#);
        assert_eq!(kept, expected);
        assert_eq!(metadata["model_author"], "A. Author");
        assert_eq!(metadata["com.example.note"], "kept, ü too");
        fs::remove_file(folder.path().join("m.onnx")).unwrap();
    }
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn inputs_that_are_left_out_have_their_default_values() {
    let folder = packages();
    again(
        folder.path(),
        "optional",
        "single",
        &["--precision", "fp32"],
    );
    for package in ["optional", "optional-again-single"] {
        let package = format!("{package}.mlpackage");
        // Twice and a half, less three; or what is given.
        for (inputs, want, left_out) in [
            ("optional.npz", [-0.5, 2.0], 2),
            ("given.npz", [3.5, 7.0], 1),
        ] {
            let run = ["run", &package, "--inputs", inputs, "-o", "out.npz"];
            let document = done(folder.path(), &run);
            let out = read_tensors(&folder.path().join("out.npz")).unwrap();
            assert_eq!(out["y"].to_f64(), want, "{package} {inputs}");
            let notes = document["warnings"].as_array().unwrap();
            assert_eq!(notes.len(), left_out, "{document:#}");
            assert!(
                notes
                    .iter()
                    .all(|n| n.to_string().contains("default value"))
            );
        }
        let (code, document) = run_json(folder.path(), &["run", &package, "--inputs", "words.npz"]);
        assert_eq!(code, 1, "{document:#}");
    }
    let onnx = ["--target", "onnx", "optional.mlpackage", "-o", "m.onnx"];
    let warnings = done(folder.path(), &onnx)["warnings"].to_string();
    assert!(
        warnings.contains("give 2.5 where it was left out"),
        "{warnings}"
    );
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn refused_inputs_are_named_with_what_they_take() {
    let folder = packages();
    let tried = |package: &str, inputs: &[(&str, Tensor)]| {
        let inputs = inputs.iter().map(|(n, t)| ((*n).to_owned(), t.clone()));
        let inputs: NamedTensors = inputs.collect();
        write_tensors(&folder.path().join("in.npz"), &inputs).unwrap();
        let package = format!("{package}.mlpackage");
        let (code, document) = run_json(folder.path(), &["run", &package, "--inputs", "in.npz"]);
        let message = document["error"]["message"].as_str().unwrap_or_default();
        (code, message.to_owned())
    };
    let int = |dtype, shape: &[usize], n: i64| {
        Tensor::int(dtype, shape.to_vec(), vec![n; shape.iter().product()]).unwrap()
    };
    let float =
        |shape: &[usize]| Tensor::f32(shape.to_vec(), vec![1.0; shape.iter().product()]).unwrap();
    // What is taken: wide integers that fit, a scalar for a vector of one, bytes for pixels, half of a number for a number.
    for (package, name, tensor) in [
        ("scalar", "n", int(DType::I64, &[1], 5)),
        ("scalar", "n", int(DType::I32, &[], 5)),
        ("picture-rgb", "image", int(DType::U8, &[1, 3, 4, 6], 200)),
        ("picture-half", "image", int(DType::U8, &[1, 1, 4, 6], 200)),
        ("ranged", "x", float(&[1, 5]).cast(DType::F16)),
    ] {
        let found = tried(package, &[(name, tensor)]);
        assert_eq!(found, (0, String::new()), "{package}");
    }
    let total = [("x", float(&[2])), ("total", float(&[2]))];
    let apart = [("a", float(&[1, 2])), ("b", float(&[5, 3]))];
    let cases: [(&str, &[(&str, Tensor)], &str); 9] = [
        (
            "counter",
            &total,
            "`total` is no input but a state of f16[2]",
        ),
        (
            "pair",
            &apart,
            "not allowed together: `a` [1, 2] with `b` [5, 3]; allowed are `a` [1, 3] with `b` [6, 3]; `a` [1, 2] with `b` [4, 3]",
        ),
        (
            "enumerated",
            &[("x", float(&[1, 3]))],
            "the input `x` takes f32[1, 4] of [[1, 4], [1, 2], [1, 7]], found f32[1, 3]",
        ),
        (
            "ranged",
            &[("x", float(&[1, 10]))],
            "the input `x` takes f32[1, 5] in [1, 2..=9], found f32[1, 10]",
        ),
        (
            "scalar",
            &[("n", int(DType::I64, &[1], 3_000_000_000))],
            "the input `n` holds 3000000000, which is not i32",
        ),
        (
            "scalar",
            &[("n", float(&[1]))],
            "the input `n` takes i32[1], found f32[1]",
        ),
        (
            "picture-rgb",
            &[("image", int(DType::I32, &[1, 3, 4, 6], 256))],
            "the input `image` holds 256, which is not 0 to 255",
        ),
        (
            "picture-rgb",
            &[("image", int(DType::U8, &[4, 6, 3], 1))],
            "the input `image` takes an RGB image of 6×4, as a tensor of pixels [1, 3, 4, 6], found u8[4, 6, 3]",
        ),
        (
            "ranged",
            &[("y", float(&[1, 5]))],
            "`y` is no input; the model takes `x`",
        ),
    ];
    for (package, inputs, message) in cases {
        let found = tried(package, inputs);
        assert!(
            found.0 == 1 && found.1.contains(message),
            "{package}: {found:?}"
        );
    }
    let missing = tried("ranged", &[]);
    assert!(
        missing
            .1
            .contains("the input `x` takes f32[1, 5] in [1, 2..=9], found nothing"),
        "{missing:?}"
    );
}
