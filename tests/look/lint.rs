//! `lint` on packages of ours and of coremltools: no errors, and the exit codes of those that have some. The findings themselves are tested in the library.

use std::fs;
use std::path::{Path, PathBuf};

use distill_convert::coreml::{self, Severity};

use crate::common::{TinyModel, root, run, run_json};

/// Every model below a folder of Apple's operation tests.
fn models(corpus: &Path) -> Vec<PathBuf> {
    let children = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|e| e.unwrap().path())
            .filter(|p| p.is_dir())
            .collect()
    };
    let cases = children(corpus)
        .iter()
        .flat_map(|suite| children(suite))
        .collect::<Vec<_>>();
    let models = cases.iter().map(|case| case.join("model.mlmodel"));
    models.filter(|m| m.is_file()).collect()
}

fn no_errors(corpus: &Path, at_least: usize) {
    let models = models(corpus);
    assert!(models.len() >= at_least, "only {} models", models.len());
    for model in models {
        let found = coreml::lint(&model).unwrap();
        assert_eq!(
            found.count(Severity::Error),
            0,
            "{}: {:#?}",
            model.display(),
            found.list
        );
    }
}

#[test]
fn programs_of_coremltools_have_no_errors() {
    no_errors(&root().join("tests/fixtures/mil"), 100);
}

#[test]
#[ignore = "needs the corpus of coremltools' operation tests: DISTILL_MIL_CORPUS"]
fn all_programs_of_coremltools_have_no_errors() {
    no_errors(
        Path::new(&std::env::var("DISTILL_MIL_CORPUS").expect("DISTILL_MIL_CORPUS")),
        1000,
    );
}

#[test]
fn what_we_write_has_no_errors_and_damage_gives_the_exit_code() {
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
    let (code, document) = run_json(folder.path(), &["lint", "m.mlpackage"]);
    assert_eq!(
        (code, &document["result"]["errors"]),
        (0, &0.into()),
        "{document:#}"
    );
    assert_eq!(document["result"]["warnings"], 0, "{document:#}");

    let weights = folder
        .path()
        .join("m.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
    let mut bytes = fs::read(&weights).unwrap();
    bytes[64] = 0;
    fs::write(&weights, bytes).unwrap();
    let (code, document) = run_json(folder.path(), &["lint", "m.mlpackage"]);
    assert_eq!((code, document["status"].as_str()), (1, Some("invalid")));
    let finding = &document["result"]["findings"][0];
    assert_eq!(finding["code"], "blob_record");
    assert_eq!(finding["place"]["field"], "weight.bin");
    let text = String::from_utf8(run(folder.path(), &["lint", "m.mlpackage"]).stdout).unwrap();
    assert!(text.contains("error[blob_record] weight.bin: "), "{text}");
    assert!(
        text.contains("  help: a record begins with") && text.contains("1 errors"),
        "{text}"
    );

    let manifest = folder.path().join("m.mlpackage/Manifest.json");
    let outside = fs::read_to_string(&manifest)
        .unwrap()
        .replace("com.apple.CoreML/weights", "../../model");
    fs::write(&manifest, outside).unwrap();
    let (code, document) = run_json(folder.path(), &["lint", "m.mlpackage"]);
    assert_eq!(
        (code, document["status"].as_str()),
        (4, Some("refused")),
        "{document:#}"
    );
}
