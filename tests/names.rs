//! Interfaces across formats: names that Core ML cannot have, and which values inputs may take, survive from a source to its artifact and onward.

use std::fs;
use std::path::{Path, PathBuf};

use distill_convert::convert::{self, Check, SourceOptions};
use distill_convert::coreml;
use distill_convert::ir::ops::{BinaryKind, Gather};
use distill_convert::ir::{Builder, Domain, Module, Op, Type};
use distill_convert::onnx;
use distill_convert::tensor::{DType, Tensor};
use distill_convert::verify::Report;

use crate::common::{root, run_json};

/// Names that are no identifiers, ones that become the same, and one that must stay as it is.
const INPUTS: [&str; 5] = ["463", "x/y.tmp_1", "x_y.tmp_1", "x_y_tmp_1", "state"];

fn module() -> Module {
    let mut b = Builder::new("odd");
    let ty = Type::known(DType::F32, &[2, 3]);
    let mut sum = None;
    for name in INPUTS {
        let x = b.param(name, ty.clone(), Domain::Any).unwrap();
        sum = Some(match sum {
            None => x,
            Some(sum) => {
                // Not symmetric: an exchange of two inputs shows.
                let twice = b.binary(&format!("{name}*2"), BinaryKind::Add, sum, sum);
                b.binary(&format!("{name}+"), BinaryKind::Add, twice.unwrap(), x)
                    .unwrap()
            }
        });
    }
    let ids = Type::known(DType::I32, &[1, 4]);
    let ids = b.param("0:ids", ids, Domain::Any).unwrap();
    let table = Tensor::f32(vec![5, 2], (0..10u8).map(f32::from).collect()).unwrap();
    let table = b.tensor("table", &table).unwrap();
    let rows = b.push("rows", Op::Gather(Gather { axis: 0 }), &[table, ids]);
    b.output("rows/0", rows.unwrap()).unwrap();
    b.output("465", sum.unwrap()).unwrap();
    b.finish().unwrap()
}

fn names(package: &Path) -> Vec<String> {
    let summary = coreml::inspect(package).unwrap();
    let all = summary.inputs.iter().chain(&summary.outputs);
    all.map(|f| f.name.clone()).collect()
}

#[test]
fn names_that_core_ml_cannot_have_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    onnx::write(&module(), &at("odd.onnx"), &onnx::WriteOptions::default()).unwrap();
    let (code, document) = run_json(
        dir.path(),
        &[
            "convert",
            "odd.onnx",
            "--target",
            "coreml",
            "-o",
            "odd.mlpackage",
        ],
    );
    assert_eq!(code, 0, "{document}");
    let text = document.to_string();
    assert!(text.contains("`463` is called `_463`"), "{text}");
    assert!(!text.contains("`x_y_tmp_1` is called"), "{text}");
    assert_eq!(
        names(&at("odd.mlpackage")),
        [
            "_463",
            "x_y_tmp_1_0",
            "x_y_tmp_1_1",
            "x_y_tmp_1",
            "_state",
            "_0_ids",
            "rows_0",
            "_465"
        ]
    );
    let summary = coreml::inspect(&at("odd.mlpackage")).unwrap();
    assert_eq!(summary.source_names["x_y_tmp_1_1"], "x_y.tmp_1");
    assert_eq!(summary.source_names.len(), 7);
    let (code, document) = run_json(dir.path(), &["verify", "odd.onnx", "odd.mlpackage"]);
    assert_eq!(code, 0, "{document}");
    // Onward, and back to what the names were.
    let onward = [
        "convert",
        "odd.mlpackage",
        "--target",
        "onnx",
        "-o",
        "back.onnx",
    ];
    let (code, document) = run_json(dir.path(), &onward);
    assert_eq!(code, 0, "{document}");
    let ports = onnx::inspect(&at("back.onnx")).unwrap();
    let found: Vec<&str> = ports.inputs.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(found[..5], INPUTS);
    assert_eq!(ports.outputs[1].name, "465");
    let (code, document) = run_json(dir.path(), &["verify", "odd.mlpackage", "back.onnx"]);
    assert_eq!(code, 0, "{document}");
    let (code, document) = run_json(dir.path(), &["verify", "odd.onnx", "back.onnx"]);
    assert_eq!(code, 0, "{document}");
    // By itself the package has the names that Core ML sees.
    let own = coreml::read(&at("odd.mlpackage")).unwrap().module;
    assert!(own.main().unwrap().param("_463").is_some());
}

#[test]
fn a_wrong_record_of_names_or_domains_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    onnx::write(&module(), &at("odd.onnx"), &onnx::WriteOptions::default()).unwrap();
    let (code, _) = run_json(
        dir.path(),
        &[
            "convert",
            "odd.onnx",
            "--target",
            "coreml",
            "-o",
            "odd.mlpackage",
        ],
    );
    assert_eq!(code, 0);
    let good = coreml::inspect(&at("odd.mlpackage")).unwrap().metadata;
    let (names, domains) = ("com.distill-convert.names", "com.distill-convert.domains");
    for (key, value, why) in [
        (
            names,
            r#"[["_463","465"],["_465","465"]]"#,
            "two names stand for `465`",
        ),
        (names, r#"[["_464","463"]]"#, "`_464` is no input"),
        (domains, r#"[["463",3]]"#, "`463` is no input"),
        (domains, r#"[["_463",3]]"#, "`_463` holds no indices"),
    ] {
        let mut changed = good.clone();
        changed.insert(key.to_owned(), value.to_owned());
        coreml::set_metadata(&at("odd.mlpackage"), &changed).unwrap();
        for arguments in [
            &["verify", "odd.onnx", "odd.mlpackage"][..],
            &["verify", "odd.mlpackage", "odd.onnx"],
            &[
                "convert",
                "odd.mlpackage",
                "--target",
                "onnx",
                "-o",
                "x.onnx",
            ],
        ] {
            let (code, document) = run_json(dir.path(), arguments);
            assert_eq!(code, 1, "{value}: {document}");
            assert!(document.to_string().contains(why), "{value}: {document}");
        }
        assert!(!at("x.onnx").exists());
    }
    // An exchange of two names that fits the package is a difference, and seen.
    let mut exchanged = good;
    let swapped = exchanged[names]
        .replace(r#""463""#, r#""?""#)
        .replace(r#""state""#, r#""463""#)
        .replace(r#""?""#, r#""state""#);
    exchanged.insert(names.to_owned(), swapped);
    coreml::set_metadata(&at("odd.mlpackage"), &exchanged).unwrap();
    let (code, document) = run_json(dir.path(), &["verify", "odd.onnx", "odd.mlpackage"]);
    assert_eq!(code, 3, "{document}");
}

#[test]
fn half_precision_packages_convert_onward() {
    let dir = tempfile::tempdir().unwrap();
    let model = root().join("models/8ball");
    let model = model.to_str().unwrap();
    let first = ["convert", model, "--target", "coreml", "-o", "8.mlpackage"];
    assert_eq!(run_json(dir.path(), &first).0, 0);
    let onward = ["convert", "8.mlpackage", "--target", "onnx", "-o", "8.onnx"];
    let (code, document) = run_json(dir.path(), &onward);
    assert_eq!(code, 0, "{document}");
    // What is recorded is what the source knows.
    let domains = |module: Module| -> Vec<Domain> {
        let params = &module.main().unwrap().params;
        params.iter().map(|p| p.domain.clone()).collect()
    };
    let expected = [Domain::Index { below: 512 }, Domain::Mask];
    let package = dir.path().join("8.mlpackage");
    assert_eq!(domains(coreml::read(&package).unwrap().module), expected);
    let file = dir.path().join("8.onnx");
    let read = onnx::read(&file, &onnx::ReadOptions::default()).unwrap();
    assert_eq!(domains(read.module), expected);
    // The negative control: one weight of the package changed, and the two no longer agree.
    let weights = package.join("Data/com.apple.CoreML/weights/weight.bin");
    let mut bytes = fs::read(&weights).unwrap();
    let half = bytes.len() / 2;
    for byte in &mut bytes[half..half + 64] {
        *byte ^= 0x40;
    }
    fs::write(&weights, bytes).unwrap();
    let (code, document) = run_json(dir.path(), &["verify", "8.mlpackage", "8.onnx"]);
    assert_eq!(code, 3, "{document}");
}

#[test]
fn the_original_file_in_an_engine_is_the_reference_of_onnx_sources() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    onnx::write(&module(), &at("odd.onnx"), &onnx::WriteOptions::default()).unwrap();
    onnx::write(&module(), &at("same.onnx"), &onnx::WriteOptions::default()).unwrap();
    let verify = |library: Option<PathBuf>| {
        let check = Check {
            onnxruntime: library,
            ..Check::default()
        };
        let (source, same) = (at("odd.onnx"), at("same.onnx"));
        convert::verify(&source, &same, &SourceOptions::default(), &check, &()).unwrap()
    };
    let engines = |report: &Report, role: &str| -> Vec<String> {
        let of = report.engines.iter().filter(|e| e.role == role);
        of.map(|e| e.name.clone()).collect()
    };
    // Without ONNX Runtime: tract, and why.
    let report = verify(Some(at("absent.so")));
    let source = engines(&report, "source");
    assert!(source[0].starts_with("tract"), "{source:?}");
    assert!(source[0].contains("on the original file"), "{source:?}");
    let why = |w: &String| w.starts_with("ONNX Runtime does not run the original file");
    assert!(report.warnings.iter().any(why), "{:?}", report.warnings);
    let reading = ["interpreter f32 on the source as it was read"];
    assert_eq!(engines(&report, "reference"), reading);
    if let Some(library) = std::env::var_os("ORT_DYLIB_PATH") {
        let report = verify(Some(library.into()));
        assert!(report.passed(), "{}", report.human());
        let source = engines(&report, "source");
        assert!(source[0].starts_with("ONNX Runtime"), "{source:?}");
        assert_eq!(engines(&report, "reference"), reading);
        assert!(!report.warnings.iter().any(why));
    }
}
