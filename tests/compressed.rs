//! Packages with compressed weights that coremltools builds: run, through ONNX in ONNX Runtime, and written again.

use std::fs;
use std::path::Path;

use distill_convert::coreml;
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::ir::Module;
use distill_convert::onnx;
use distill_convert::passes;
use distill_convert::runtime::Session;
use distill_convert::source::read_tensors;
use distill_convert::tensor::NamedTensors;

use crate::common;

/// The largest difference, relative to the largest expected value.
fn difference(got: &NamedTensors, folder: &Path) -> f64 {
    let want = read_tensors(&folder.join("expected.npz")).unwrap();
    let (got, want) = (got["y"].to_f64(), want["y"].to_f64());
    assert_eq!(got.len(), want.len());
    assert!(!want.is_empty() && got.iter().all(|x| x.is_finite()));
    let largest = want.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
    assert!(largest > 0.0);
    let pairs = got.iter().zip(&want);
    pairs.fold(0.0_f64, |m, (a, b)| m.max((a - b).abs())) / largest
}

fn interpreted(module: &Module, inputs: &NamedTensors) -> NamedTensors {
    let interpreter = Interpreter::new(module, Mode::F32).unwrap();
    interpreter.run(inputs, None).unwrap()
}

fn contains(path: &Path, text: &str) -> bool {
    let bytes = fs::read(path).unwrap();
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

#[test]
#[ignore = "needs coremltools and ONNX Runtime: DISTILL_JUDGES"]
fn packages_with_compressed_weights_compute_what_numpy_computes() {
    let root = tempfile::tempdir().unwrap();
    common::judge("compressed_packages.py", &[root.path()]);
    let library = distill_convert::runtime::library::find(None).unwrap();
    let mut folders: Vec<_> = fs::read_dir(root.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    folders.sort();
    assert_eq!(folders.len(), 18);
    for folder in &folders {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let package = coreml::read(&folder.join("model.mlpackage")).unwrap();
        let inputs = read_tensors(&folder.join("inputs.npz")).unwrap();
        let found = difference(&interpreted(&package.module, &inputs), folder);
        assert!(found < 2e-6, "{name}: {found:e}");

        // What conversion does before it writes.
        let module = passes::fold(&package.module).unwrap();
        let file = folder.join("model.onnx");
        // Blocks and four bits need opset 21.
        let options = onnx::WriteOptions {
            opset: 21,
            ..onnx::WriteOptions::default()
        };
        onnx::write(&module, &file, &options).unwrap();
        let session = distill_convert::runtime::ort::OrtSession::open(&library.path, &file);
        let found = difference(&session.unwrap().run(&inputs).unwrap(), folder);
        assert!(found < 2e-6, "{name} through ONNX: {found:e}");

        let again = folder.join("again.mlpackage");
        let options = coreml::WriteOptions {
            deployment_target: coreml::DeploymentTarget::IOS18,
            ..coreml::WriteOptions::default()
        };
        coreml::write(&module, &again, &options).unwrap();
        let again_module = coreml::read(&again).unwrap().module;
        let found = difference(&interpreted(&again_module, &inputs), folder);
        assert!(found < 2e-6, "{name} written again: {found:e}");

        let bytes = fs::metadata(&file).unwrap().len();
        let weights = again.join("Data/com.apple.CoreML/weights/weight.bin");
        let again_bytes = fs::metadata(weights).unwrap().len();
        println!("{name}: ONNX {bytes} bytes, Core ML weights {again_bytes} bytes");
        // Integers under an affine map stay what they are; 64 × 96 floats take 24,576 bytes.
        if name.starts_with("affine") || name.starts_with("blockwise") {
            let program = again.join("Data/com.apple.CoreML/model.mlmodel");
            assert!(
                contains(&program, "constexpr_blockwise_shift_scale"),
                "{name}"
            );
            assert!(again_bytes < 9_000, "{name}: {again_bytes}");
            if name != "blockwise-both-axes" {
                assert!(contains(&file, "DequantizeLinear"), "{name}");
            }
            if name.contains("int8") {
                assert!(bytes < 9_000, "{name}: {bytes}");
            }
        }
    }
}
