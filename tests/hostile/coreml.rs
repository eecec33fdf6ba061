//! Spoiled Core ML packages: never a panic, whatever bytes are there.

use std::fs;
use std::path::Path;

use distill_convert::coreml;
use tempfile::TempDir;

const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";
const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";
const MANIFEST: &str = "Manifest.json";

fn copy(fixture: &str) -> TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/coreml")
        .join(fixture)
        .join("model.mlpackage");
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join(WEIGHTS).parent().unwrap()).unwrap();
    for file in [MODEL, WEIGHTS, MANIFEST] {
        fs::copy(from.join(file), dir.path().join(file)).unwrap();
    }
    dir
}

/// A small generator, so that a failure can be repeated (Knuth's constants).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }

    /// Changes a few bytes, removes a few, or cuts the end off.
    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        match self.below(8) {
            0 => bytes.truncate(self.below(bytes.len())),
            1 => {
                let at = self.below(bytes.len());
                let end = (at + 1 + self.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            2 => {
                let (at, with) = (self.below(bytes.len()), [0x00, 0x7f, 0xff][self.below(3)]);
                let end = (at + 9).min(bytes.len());
                bytes[at..end].fill(with);
            }
            _ => {
                for _ in 0..1 + self.below(4) {
                    let at = self.below(bytes.len());
                    bytes[at] ^= 1 << self.below(8);
                }
            }
        }
    }
}

#[test]
fn spoiled_bytes_are_refused_or_read_but_never_panic() {
    let mut random = Random(7);
    for (fixture, file, rounds) in [
        ("encoder", MODEL, 300),
        ("decoder", MODEL, 300),
        ("shapes", MODEL, 300),
        ("encoder", WEIGHTS, 100),
        ("encoder", MANIFEST, 100),
    ] {
        let dir = copy(fixture);
        let sound = fs::read(dir.path().join(file)).unwrap();
        assert!(coreml::read(dir.path()).is_ok());
        let (mut refused, mut unnamed) = (0, 0);
        for _ in 0..rounds {
            let mut bytes = sound.clone();
            random.spoil(&mut bytes);
            fs::write(dir.path().join(file), &bytes).unwrap();
            if let Err(e) = coreml::read(dir.path()) {
                refused += 1;
                // Every error says where.
                unnamed += usize::from(e.place.file.is_none());
            }
            // Looking into it must not panic either.
            let _ = coreml::inspect(dir.path());
            let _ = coreml::listing(dir.path());
            // What is refused as malformed has a reason that the lint can tell, too.
            assert!(coreml::lint(dir.path()).is_ok());
        }
        assert!(
            refused > rounds / 4,
            "{fixture} {file}: only {refused} of {rounds} were refused"
        );
        assert_eq!(unnamed, 0, "{fixture} {file}: errors without a file");
    }
}

#[test]
fn packages_do_not_lead_out_of_their_folder() {
    let dir = copy("encoder");
    fs::write(dir.path().parent().unwrap().join("coreml-outside"), b"x").unwrap();
    let sound = fs::read_to_string(dir.path().join(MANIFEST)).unwrap();
    for path in [
        "../../coreml-outside",
        "/etc/passwd",
        "com.apple.CoreML/../../../coreml-outside",
    ] {
        for item in ["com.apple.CoreML/model.mlmodel", "com.apple.CoreML/weights"] {
            fs::write(
                dir.path().join(MANIFEST),
                sound.replace(&format!("\"{item}\""), &format!("\"{path}\"")),
            )
            .unwrap();
            let error = coreml::read(dir.path()).unwrap_err();
            assert_eq!(error.class().exit_code(), 4, "{path}: {error}");
        }
    }
    fs::remove_file(dir.path().parent().unwrap().join("coreml-outside")).unwrap();
}
