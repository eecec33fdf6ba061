//! `run` on packages that coremltools builds: image files, functions, steps, checks of the inputs; and refusals of what is no ML Program.

use std::fs;
use std::path::Path;

use distill_convert::source::{read_tensors, write_tensors};
use distill_convert::tensor::{DType, NamedTensors, Tensor};
use serde_json::Value;

use crate::common::{judge, root, run, run_json};

/// A folder with the packages.
fn packages() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    judge("looked_at.py", &[folder.path()]);
    folder
}

fn text(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs what must be refused; gives exit code, message and hint.
fn refusal(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let (code, document) = run_json(folder, arguments);
    let part = |key: &str| {
        document["error"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (code, part("message"), part("hint"))
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let pairs = a.to_f64().into_iter().zip(b.to_f64());
    pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn image_files_give_what_numpy_computes() {
    let folder = packages();
    let at = |name: &str| folder.path().join(name);
    for layout in ["rgb", "bgr"] {
        for file in ["color.png", "opaque.png"] {
            let arguments = [
                "run",
                &format!("{layout}.mlpackage"),
                "--input",
                &format!("image={file}"),
                "-o",
                "out.npz",
            ];
            let (code, document) = run_json(folder.path(), &arguments);
            assert_eq!(code, 0, "{document:#}");
            let label = fs::read_to_string(at(&format!("{layout}.txt"))).unwrap();
            assert_eq!(document["result"]["label"], Value::from(label));
            let alpha = document["warnings"].as_array().unwrap().len();
            assert_eq!(alpha, usize::from(file == "opaque.png"), "{document:#}");
            let want = &read_tensors(&at(&format!("{layout}.npz"))).unwrap()["probabilities"];
            let got = &read_tensors(&at("out.npz")).unwrap()["classLabel_probs"];
            assert!(largest_difference(got, want) < 1e-6, "{layout} {file}");
        }
    }
    let want = &read_tensors(&at("gray.npz")).unwrap()["more"];
    for model in ["gray", "half"] {
        text(
            folder.path(),
            &[
                "run",
                &format!("{model}.mlpackage"),
                "--input",
                "image=gray.png",
                "-o",
                "out.npz",
            ],
        );
        let got = &read_tensors(&at("out.npz")).unwrap()["more"];
        assert!(largest_difference(got, want) == 0.0, "{model}");
    }
    // One block whose only coefficient is the constant one: 168 everywhere.
    text(
        folder.path(),
        &[
            "run",
            "block.mlpackage",
            "--input",
            "image=gray.jpg",
            "-o",
            "out.npz",
        ],
    );
    let got = &read_tensors(&at("out.npz")).unwrap()["more"];
    assert_eq!(got.to_f64(), vec![85.0; 64]);
    // Grey is grey in three colours, and says so.
    let (code, document) = run_json(
        folder.path(),
        &["run", "rgb.mlpackage", "--input", "image=gray.png"],
    );
    assert_eq!(
        (code, document["warnings"].as_array().unwrap().len()),
        (0, 1)
    );
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn images_that_do_not_fit_are_refused_with_both_sides() {
    let folder = packages();
    let cases = [
        (
            "rgb",
            "image=small.png",
            1,
            "takes an image of 6×4 pixels, found 6×2",
        ),
        ("rgb", "image=transparent.png", 1, "transparent pixels"),
        ("rgb", "image=deep.png", 1, "sixteen bits per channel"),
        (
            "gray",
            "image=color.png",
            1,
            "takes a grey image, found one in colour",
        ),
        (
            "rgb",
            "picture=color.png",
            1,
            "`picture` takes no image file",
        ),
        (
            "times2",
            "x=color.png",
            1,
            "`x` takes no image file: it is f32[2]",
        ),
        (
            "rgb",
            "image=rgb.npz",
            1,
            "a PNG or JPEG file expected, found `50 4b 03 04`",
        ),
        ("rgb", "image", 2, "NAME=FILE"),
    ];
    for (model, image, code, message) in cases {
        let found = refusal(
            folder.path(),
            &["run", &format!("{model}.mlpackage"), "--input", image],
        );
        assert!(
            found.0 == code && found.1.contains(message),
            "{image}: {found:?}"
        );
        assert!(!found.2.is_empty(), "{image}: no way out");
    }
    // A header that asks for 16 gigapixels costs nothing.
    let mut bytes = fs::read(folder.path().join("color.png")).unwrap();
    bytes[16..24].copy_from_slice(&[0, 1, 0xff, 0xff, 0, 1, 0xff, 0xff]);
    let checksum = crc32fast::hash(&bytes[12..29]).to_be_bytes();
    bytes[29..33].copy_from_slice(&checksum);
    fs::write(folder.path().join("giant.png"), &bytes).unwrap();
    let found = refusal(
        folder.path(),
        &["run", "rgb.mlpackage", "--input", "image=giant.png"],
    );
    assert!(
        found
            .1
            .contains("131071×131071 pixels are more than the limit"),
        "{found:?}"
    );
    assert!(found.2.contains("image-pixels"), "{found:?}");
    let jpeg = fs::read(folder.path().join("gray.jpg")).unwrap();
    fs::write(folder.path().join("cut.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    let found = refusal(
        folder.path(),
        &["run", "block.mlpackage", "--input", "image=cut.jpg"],
    );
    assert!(found.1.contains("not a sound JPEG file"), "{found:?}");
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn states_are_kept_over_steps_and_functions_are_chosen() {
    let folder = packages();
    let steps = [
        "--inputs",
        "counter.0.npz",
        "--steps",
        "counter.1.npz",
        "--steps",
        "counter.2.npz",
    ];
    let arguments = [&["run", "counter.mlpackage", "-o", "out.npz"], &steps[..]].concat();
    text(folder.path(), &arguments);
    // Twice the sum so far.
    for (file, want) in [
        ("out.npz", [2.0, 4.0]),
        ("out.1.npz", [22.0, 44.0]),
        ("out.2.npz", [222.0, 444.0]),
    ] {
        let got = read_tensors(&folder.path().join(file)).unwrap();
        assert_eq!(got["twice"].to_f64(), want, "{file}");
    }
    // A new run begins anew, and without an output every step is shown.
    let table = text(
        folder.path(),
        &[&["run", "counter.mlpackage"], &steps[..]].concat(),
    );
    let expected = "ran on interpreter f32
step 1
  output  type  shape  min  max  first values
  twice   f16   [2]    2    4    2 4
step 2
  output  type  shape  min  max  first values
  twice   f16   [2]    22   44   22 44
step 3
  output  type  shape  min  max  first values
  twice   f16   [2]    222  444  222 444
";
    assert_eq!(table, expected);

    for (function, want) in [
        (None, "2 4"),
        (Some("double"), "2 4"),
        (Some("triple"), "3 6"),
    ] {
        let mut arguments = vec!["run", "several.mlpackage", "--inputs", "counter.0.npz"];
        arguments.extend(function.iter().flat_map(|f| ["--function", f]));
        let table = text(folder.path(), &arguments);
        assert!(table.trim_end().ends_with(want), "{function:?}: {table}");
    }
    let found = refusal(
        folder.path(),
        &[
            "run",
            "several.mlpackage",
            "--inputs",
            "counter.0.npz",
            "--function",
            "half",
        ],
    );
    assert!(
        found
            .1
            .contains("no function `half`; the model has `double`, `triple`"),
        "{found:?}"
    );
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn inputs_are_checked_against_the_interface() {
    let folder = packages();
    let write = |name: &str, tensor: &Tensor| {
        let inputs = NamedTensors::from([(name.to_owned(), tensor.clone())]);
        write_tensors(&folder.path().join("in.npz"), &inputs).unwrap();
    };
    let of = |shape: &[usize]| {
        let count = shape.iter().product();
        Tensor::f32(shape.to_vec(), vec![1.5; count]).unwrap()
    };
    let tried = |model: &str| {
        refusal(
            folder.path(),
            &["run", &format!("{model}.mlpackage"), "--inputs", "in.npz"],
        )
    };
    // What is allowed.
    for (model, shapes) in [
        ("enumerated", [[1, 2], [1, 4]]),
        ("ranged", [[1, 2], [1, 5]]),
    ] {
        for shape in shapes {
            write("x", &of(&shape));
            assert_eq!(tried(model).0, 0, "{model} {shape:?}");
        }
    }
    // What is not: between the enumerated, outside of the range, of another rank.
    for (model, shape, message) in [
        ("enumerated", &[1, 3][..], "[1, 3]"),
        ("ranged", &[1, 1], "[1, 1]"),
        ("ranged", &[1, 6], "[1, 6]"),
        ("ranged", &[2], "[2]"),
        ("times2", &[3], "3"),
    ] {
        write("x", &of(shape));
        let found = tried(model);
        assert!(
            found.0 == 1 && found.1.contains(message),
            "{model} {shape:?}: {found:?}"
        );
        assert!(found.1.contains("`x`"), "{model} {shape:?}: {found:?}");
    }
    write("y", &of(&[2]));
    let found = tried("times2");
    assert!(
        found.0 == 1 && found.1.contains("`y`") && found.1.contains("`x`"),
        "{found:?}"
    );
    write("x", &Tensor::int(DType::I32, vec![2], vec![1, 2]).unwrap());
    let found = tried("times2");
    assert!(
        found.0 == 1 && found.1.contains("f32[2]") && found.1.contains("i32[2]"),
        "{found:?}"
    );
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn what_is_no_ml_program_is_named_with_the_way_out() {
    let folder = packages();
    for (name, kind, hint) in [
        (
            "network",
            "a neural network of the older kind",
            "for iOS 15 or later",
        ),
        ("pipeline", "a pipeline", "take the models out"),
        ("trees", "a tree ensemble", "ONNX Runtime"),
        ("scaler", "a scaler", "only ML Programs are read"),
    ] {
        let model = format!("{name}.mlmodel");
        for command in [
            &["inspect", &model][..],
            &["run", &model, "--inputs", "counter.0.npz"],
            &["--target", "onnx", &model],
        ] {
            let found = refusal(folder.path(), command);
            assert_eq!(found.0, 1, "{command:?}");
            assert!(
                found
                    .1
                    .ends_with(&format!("an ML Program expected, found {kind}")),
                "{found:?}"
            );
            assert!(found.2.contains(hint), "{found:?}");
        }
        let (code, document) = run_json(folder.path(), &["lint", &model]);
        assert_eq!(
            (code, &document["result"]["findings"][0]["code"]),
            (1, &"not_an_ml_program".into())
        );
    }
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn packages_of_coremltools_lint_without_errors() {
    let folder = packages();
    let mut seen = 0;
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "mlpackage") {
            let (code, document) = run_json(root(), &["lint", path.to_str().unwrap()]);
            assert_eq!(code, 0, "{document:#}");
            assert_eq!(document["result"]["warnings"], 0, "{document:#}");
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} packages");
}
