//! Packages that coremltools wrote, read and run: outputs against NumPy's (`tests/fixtures/coreml`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use distill_convert::coreml::{self, Package};
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::ir::{Domain, SymbolRange};
use distill_convert::source::read_tensors;

pub(crate) const FIXTURES: [&str; 3] = ["encoder", "decoder", "shapes"];

pub(crate) fn folder(fixture: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/coreml")
        .join(fixture)
}

fn package(fixture: &str) -> Package {
    coreml::read(&folder(fixture).join("model.mlpackage")).unwrap()
}

/// Runs every case of a fixture and gives the largest difference, relative to the largest element of its output.
fn worst(fixture: &str, mode: Mode) -> f64 {
    let package = package(fixture);
    let interpreter = Interpreter::new(&package.module, mode).unwrap();
    let (mut worst, mut compared) = (0f64, 0);
    for case in 0.. {
        let inputs = folder(fixture).join(format!("inputs.{case}.npz"));
        if !inputs.exists() {
            break;
        }
        let got = interpreter
            .run(&read_tensors(&inputs).unwrap(), None)
            .unwrap();
        let want = read_tensors(&folder(fixture).join(format!("expected.{case}.npz"))).unwrap();
        assert_eq!(
            got.keys().collect::<Vec<_>>(),
            want.keys().collect::<Vec<_>>()
        );
        for (name, want) in &want {
            let got = &got[name];
            // Scalars are described as vectors of one.
            assert!(
                got.shape() == want.shape() || (got.len() == 1 && want.len() == 1),
                "{fixture} {name}"
            );
            let largest = want.to_f64().into_iter().fold(0f64, |m, x| m.max(x.abs()));
            assert!(largest > 0.0, "{fixture} {name} expects only zeros");
            for (a, b) in got.to_f64().into_iter().zip(want.to_f64()) {
                let difference = (a - b).abs() / largest;
                assert!(!difference.is_nan(), "{fixture} {name}");
                worst = worst.max(difference);
                compared += 1;
            }
        }
    }
    assert!(compared > 0);
    worst
}

#[test]
fn packages_of_coremltools_compute_what_numpy_computes() {
    for (fixture, mode, tolerance) in [
        ("encoder", Mode::F32, 2e-6),
        ("decoder", Mode::F32, 2e-5),
        ("decoder", Mode::F16, 5e-3),
        ("shapes", Mode::F32, 2e-6),
    ] {
        let worst = worst(fixture, mode);
        assert!(worst <= tolerance, "{fixture} {mode:?}: {worst:e}");
        // Single precision differs from double somewhere: a figure of exactly 0 would mean that nothing was compared.
        assert!(worst > 0.0, "{fixture} {mode:?}");
    }
}

#[test]
fn sizes_that_vary_become_named_symbols_and_ids_get_their_domain() {
    let decoder = package("decoder").module;
    let function = decoder.main().unwrap();
    assert_eq!(
        function.value(function.params[0].value).ty.to_string(),
        "i32[1, seq]"
    );
    assert_eq!(
        decoder.symbol("seq").unwrap().range,
        SymbolRange::OneOf(vec![4, 8, 16])
    );
    assert_eq!(function.params[0].domain, Domain::Index { below: 50 });
    assert_eq!(
        function.ty(function.outputs[0].value).to_string(),
        "f16[1, seq, 50]"
    );

    let shapes = package("shapes").module;
    let function = shapes.main().unwrap();
    let types: BTreeMap<&str, String> = function
        .params
        .iter()
        .map(|p| function.value(p.value))
        .map(|v| (v.name.as_str(), v.ty.to_string()))
        .collect();
    // The program does not need its inputs to have equal sizes.
    assert_eq!(types["x"], "f32[x.0, x.1, 6]");
    assert_eq!(types["mask"], "i32[mask.0, mask.1]");
    assert_eq!(
        shapes.symbol("x.1").unwrap().range,
        SymbolRange::Between { min: 2, max: 32 }
    );
    let flat = function.outputs.iter().find(|o| o.name == "flat").unwrap();
    assert_eq!(function.ty(flat.value).to_string(), "f32[x.0*x.1, 6]");
}

#[test]
fn weights_stay_on_disk_and_names_survive() {
    let encoder = package("encoder");
    let function = encoder.module.main().unwrap();
    for name in [
        "embedded",
        "first_norm_cast",
        "probabilities",
        "pooled",
        "normalised",
    ] {
        let name = name.trim_end_matches("_cast");
        assert!(function.values.iter().any(|v| v.name == name), "{name}");
    }
    let on_disk = |c: &&distill_convert::ir::Constant| {
        matches!(c.region(), distill_convert::tensor::Region::File(_))
    };
    assert!(encoder.module.constants.iter().filter(on_disk).count() >= 8);
    assert_eq!(
        (encoder.spec_version, encoder.opset.as_str()),
        (6, "CoreML5")
    );
    assert_eq!(encoder.short_description, "fixture encoder");
    assert!(
        encoder
            .metadata
            .contains_key("com.github.apple.coremltools.version")
    );
}

#[test]
fn a_model_file_finds_its_weights_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder("decoder").join("model.mlpackage/Data/com.apple.CoreML");
    let model = dir.path().join("m.mlmodel");
    std::fs::copy(data.join("model.mlmodel"), &model).unwrap();
    let error = coreml::read(&model).unwrap_err();
    assert!(
        error.to_string().contains("there is no weight file"),
        "{error}"
    );
    assert!(
        error
            .hint()
            .is_some_and(|h| h.contains("weights/weight.bin"))
    );
    std::fs::copy(
        data.join("weights/weight.bin"),
        dir.path().join("weight.bin"),
    )
    .unwrap();
    assert!(coreml::read(&model).is_ok());
}

#[test]
fn a_package_without_weights_may_have_an_empty_folder_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let data = "Data/com.apple.CoreML";
    let from = folder("decoder").join("model.mlpackage");
    std::fs::create_dir_all(dir.path().join(data).join("weights")).unwrap();
    for file in ["Manifest.json", &format!("{data}/model.mlmodel")] {
        std::fs::copy(from.join(file), dir.path().join(file)).unwrap();
    }
    assert_eq!(coreml::inspect(dir.path()).unwrap().blobs, 0);
    let error = coreml::read(dir.path()).unwrap_err();
    assert_eq!(error.code(), "missing_weights");
}

#[test]
fn inspection_counts_what_is_there() {
    let summary = coreml::inspect(&folder("decoder").join("model.mlpackage")).unwrap();
    assert_eq!(
        (summary.spec_version, summary.opset.as_str()),
        (8, "CoreML7")
    );
    assert_eq!(summary.ops["linear"], 8);
    assert_eq!(summary.ops["softmax"], 1);
    assert!(!summary.ops.contains_key("const"));
    // emb 50×16, q k v o 4×16×16, gate up down 3×32×16, one gain, the frequencies, and the zero biases that coremltools adds.
    assert_eq!(
        summary.parameters,
        800 + 1024 + 1536 + 16 + 2 + (50 + 2 * 32 + 5 * 16)
    );
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["inputs"][0]["kind"], "multi_array");
    assert_eq!(json["inputs"][0]["dtype"], "i32");
    assert_eq!(json["inputs"][0]["flexibility"]["shapes"][2][1], 16);
    for fixture in FIXTURES {
        let summary = coreml::inspect(&folder(fixture).join("model.mlpackage")).unwrap();
        assert_eq!(summary.functions["main"], summary.ops);
    }
}
