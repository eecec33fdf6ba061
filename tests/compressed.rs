//! Models with compressed weights that coremltools and onnx build: run, through ONNX in ONNX Runtime, and written again for every generation,
//! as they are stored and expanded. What is written is compared with NumPy, and in coremltools.

use std::fs;
use std::path::{Path, PathBuf};

use distill_convert::coreml::{self, DeploymentTarget};
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::ir::{CompressedWeights, Module};
use distill_convert::onnx;
use distill_convert::passes;
use distill_convert::runtime::ort::OrtSession;
use distill_convert::runtime::{Session, library};
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

fn cases(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap().map(|e| e.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.collect();
    folders.sort();
    folders
}

fn name(folder: &Path) -> &str {
    folder.file_name().unwrap().to_str().unwrap()
}

/// Bytes of 64 × 96 floats.
const EXPANDED: u64 = 24_576;
/// What the operations and their metadata take in a file.
const OVERHEAD: u64 = 4_096;

/// That as many bytes are on disk as the account says, and that it agrees with what was to be kept.
fn check(label: &str, found: &CompressedWeights, keeps: bool, expand: bool, on_disk: u64) {
    let kept = keeps && !expand;
    assert_eq!(
        (found.kept == 1, found.asked),
        (kept, expand),
        "{label}: {found:?}"
    );
    if kept {
        assert!(
            on_disk < found.kept_bytes + OVERHEAD,
            "{label}: {on_disk} {found:?}"
        );
        assert!(found.kept_bytes < EXPANDED / 2, "{label}: {found:?}");
        assert_eq!(found.kept_expanded_bytes, EXPANDED, "{label}");
    } else {
        assert_eq!(found.expanded.len(), 1, "{label}: {found:?}");
        assert_eq!(found.expanded[0].expanded_bytes, EXPANDED, "{label}");
        assert!(on_disk >= EXPANDED, "{label}: {on_disk}");
        // Whoever asked for it is told nothing.
        assert_eq!(found.notes().len(), usize::from(!expand), "{label}");
    }
}

/// Writes the module as ONNX and looks at it in ONNX Runtime.
fn through_onnx(folder: &Path, module: &Module, opset: i64, keeps: bool, expand: bool) {
    let label = format!("{} opset {opset} expand {expand}", name(folder));
    let file = folder.join(format!("opset{opset}-{expand}.onnx"));
    let options = onnx::WriteOptions {
        opset,
        expand_weights: expand,
        ..onnx::WriteOptions::default()
    };
    let written = onnx::write(module, &file, &options).unwrap();
    let inputs = read_tensors(&folder.join("inputs.npz")).unwrap();
    let library = library::find(None).unwrap();
    let session = OrtSession::open(&library.path, &file).unwrap();
    let found = difference(&session.run(&inputs).unwrap(), folder);
    assert!(found < 2e-6, "{label}: {found:e}");
    let bytes = fs::metadata(&file).unwrap().len();
    println!("{label}: {bytes} bytes");
    check(&label, &written.compressed, keeps, expand, bytes);
}

/// Writes the module as a package for a system, and reads and runs it again.
fn again(folder: &Path, module: &Module, target: DeploymentTarget, keeps: bool, expand: bool) {
    let label = format!("{} {target} expand {expand}", name(folder));
    let package = folder.join(format!("{target}-{expand}.mlpackage"));
    let options = coreml::WriteOptions {
        deployment_target: target,
        explicit_target: true,
        expand_weights: expand,
        ..coreml::WriteOptions::default()
    };
    let written = coreml::write(module, &package, &options).unwrap();
    let inputs = read_tensors(&folder.join("inputs.npz")).unwrap();
    let read = coreml::read(&package).unwrap().module;
    let found = difference(&interpreted(&read, &inputs), folder);
    assert!(found < 2e-6, "{label}: {found:e}");
    let weights = package.join("Data/com.apple.CoreML/weights/weight.bin");
    let program = package.join("Data/com.apple.CoreML/model.mlmodel");
    let bytes = fs::metadata(weights).unwrap().len() + fs::metadata(program).unwrap().len();
    println!("{label}: {bytes} bytes");
    check(&label, &written.compressed, keeps, expand, bytes);
    // What is read again is as compressed as what was written, and inspection says so.
    let summary = coreml::inspect(&package).unwrap();
    assert_eq!(
        read.constants.iter().any(|c| c.is_compressed()),
        keeps && !expand
    );
    assert_eq!(summary.compressed.is_empty(), !keeps || expand, "{label}");
}

/// Whether the first generation has the form.
fn in_first_generation(name: &str) -> bool {
    let one_table = [
        "palette-1",
        "palette-2",
        "palette-4",
        "palette-6",
        "palette-8",
    ];
    name.starts_with("affine")
        || name.starts_with("palette16")
        || one_table.contains(&name)
        || matches!(name, "sparse" | "sparse16" | "blockwise-int8-offset")
}

#[test]
#[ignore = "needs coremltools and ONNX Runtime: DISTILL_JUDGES"]
fn packages_with_compressed_weights_compute_what_numpy_computes() {
    let root = tempfile::tempdir().unwrap();
    common::judge("compressed_packages.py", &[root.path()]);
    let folders = cases(root.path());
    assert_eq!(folders.len(), 30);
    for folder in &folders {
        let name = name(folder);
        let package = coreml::read(&folder.join("model.mlpackage")).unwrap();
        let inputs = read_tensors(&folder.join("inputs.npz")).unwrap();
        let found = difference(&interpreted(&package.module, &inputs), folder);
        assert!(found < 2e-6, "{name}: {found:e}");
        // What conversion does before it writes.
        let (module, _) = passes::clean(&package.module).unwrap();
        let sparse = name.starts_with("sparse");
        for (opset, expand) in [(21, false), (18, false), (18, true)] {
            through_onnx(folder, &module, opset, !sparse, expand);
        }
        let first = in_first_generation(name);
        again(folder, &module, DeploymentTarget::IOS18, true, false);
        again(folder, &module, DeploymentTarget::IOS18, true, true);
        again(folder, &module, DeploymentTarget::IOS17, first, false);
        again(folder, &module, DeploymentTarget::IOS16, first, false);
        again(folder, &module, DeploymentTarget::IOS15, false, false);
        let file = folder.join("opset21-false.onnx");
        if name.starts_with("palette") {
            assert!(contains(&file, "Gather"), "{name}");
        } else if !sparse && name != "blockwise-both-axes" && name != "blockwise-kernel" {
            assert!(contains(&file, "DequantizeLinear"), "{name}");
        }
    }
    common::judge("compressed_values.py", &[root.path()]);
}

#[test]
#[ignore = "needs onnx, coremltools and ONNX Runtime: DISTILL_JUDGES"]
fn quantised_onnx_weights_stay_quantised() {
    let root = tempfile::tempdir().unwrap();
    common::judge("quantized_onnx.py", &[root.path()]);
    let folders = cases(root.path());
    assert_eq!(folders.len(), 12);
    for folder in &folders {
        let name = name(folder);
        let file = folder.join("model.onnx");
        let read = onnx::read(&file, &onnx::ReadOptions::default()).unwrap();
        let inputs = read_tensors(&folder.join("inputs.npz")).unwrap();
        let found = difference(&interpreted(&read.module, &inputs), folder);
        assert!(found < 2e-6, "{name}: {found:e}");
        let (module, _) = passes::clean(&read.module).unwrap();
        let bytes = name.contains("int8");
        let first = bytes && !name.ends_with("block");
        through_onnx(folder, &module, 21, true, false);
        through_onnx(folder, &module, 18, true, false);
        through_onnx(folder, &module, 18, true, true);
        again(folder, &module, DeploymentTarget::IOS18, true, false);
        again(folder, &module, DeploymentTarget::IOS18, true, true);
        again(folder, &module, DeploymentTarget::IOS16, first, false);
    }
}
