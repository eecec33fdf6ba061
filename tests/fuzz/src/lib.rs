//! What the fuzz targets share: one reader on bytes, in a private folder.

use std::sync::OnceLock;

use distill_convert::readers;
use tempfile::TempDir;

/// Reads the bytes with the reader of this name; whatever it says is fine, as long as it returns.
pub fn read(name: &str, bytes: &[u8]) {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder"));
    let reader = readers::find(name).expect("a reader of this name");
    let _ = (reader.read)(folder.path(), bytes);
}
