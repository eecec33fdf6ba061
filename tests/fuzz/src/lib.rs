//! What the fuzz targets share: one reader on bytes, in a private folder with what belongs beside the file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use distill_convert::readers;
use tempfile::TempDir;

#[path = "../../mutation/behind.rs"]
mod behind;
#[path = "../../mutation/change.rs"]
mod change;
#[path = "../../mutation/fields.rs"]
#[allow(dead_code)] // Which targets it is for is said by the targets here.
mod fields;
#[path = "../../mutation/repair.rs"]
mod repair;

/// Changes a protobuf message: half of the time so that it stays one, else as libFuzzer does.
pub fn change_message(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut bytes = data[..size].to_vec();
    let mut random = change::Random::new("fuzz", seed.into());
    let stock = bytes.clone();
    if random.below(2) == 0 && fields::once(&mut bytes, &stock, &mut random) {
        let size = bytes.len().min(max_size);
        data[..size].copy_from_slice(&bytes[..size]);
        return size;
    }
    libfuzzer_sys::fuzzer_mutate(data, size, max_size)
}

/// Reads the bytes with the reader of this name, as they are and with the outer checks of the format made good; whatever the reader says is
/// fine, as long as it returns.
pub fn read(name: &str, bytes: &[u8]) {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        // libFuzzer's hook ends the process at any panic, also at those of a library that are contained. One that is not still ends the
        // process, behind the target.
        std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
        folder(name)
    });
    let mut all = readers::ALL.iter().chain(behind::ALL);
    let reader = all.find(|r| r.name == name).expect("a reader of this name");
    let say = |bytes: &[u8]| {
        if let Err(error) = (reader.read)(folder.path(), bytes) {
            // A message must not fail either, nor carry control characters to a terminal.
            let text = error.to_string();
            assert!(
                !text.chars().any(|c| c.is_control() && c != '\n'),
                "{text:?}"
            );
        }
    };
    say(bytes);
    let mut repaired = bytes.to_vec();
    repair::of(name)(&mut repaired);
    if repaired != bytes {
        say(&repaired);
    }
}

/// A copy of what `scripts/fuzz` laid out for the reader.
fn folder(name: &str) -> TempDir {
    let seeds =
        std::env::var_os("DISTILL_FUZZ_SEEDS").expect("DISTILL_FUZZ_SEEDS: run scripts/fuzz");
    let folder = tempfile::tempdir().expect("a folder");
    copy(
        &PathBuf::from(seeds).join(name).join("beside"),
        folder.path(),
    );
    folder
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder of seeds") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&to).expect("a folder");
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a file");
        }
    }
}
