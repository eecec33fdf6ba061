//! Outputs appear whole or not at all: written into a private folder beside the destination, synced, then renamed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use super::ConvertError;
use crate::error::{Context, Result, io_error};

/// Private folders that exist now, so that an interrupted process can remove them.
static OPEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Removes what a conversion under way has written so far. For a signal handler, right before the process ends.
pub fn remove_unfinished() {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    for path in open.iter() {
        // Nothing can be done about a folder that cannot be removed while the process ends.
        let _ = fs::remove_dir_all(path);
    }
}

/// A private folder (mode 0700) beside a destination; removed unless its files were committed.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: TempDir,
    destination: PathBuf,
}

impl Stage {
    /// Makes the folder. `is_ours` tells whether something that stands at the destination was made by this program and may be replaced.
    ///
    /// # Errors
    /// When something foreign stands at the destination, or the folder cannot be made.
    pub(crate) fn beside(destination: &Path, is_ours: impl Fn(&Path) -> bool) -> Result<Self> {
        refuse_foreign(destination, is_ours)?;
        let parent = match destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(io_error("create the output folder", parent))?;
        let folder = tempfile::Builder::new()
            .prefix(".distill-convert-")
            .tempdir_in(parent)
            .map_err(io_error("write into the output folder", parent))?;
        OPEN.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(folder.path().to_path_buf());
        Ok(Stage {
            folder,
            destination: destination.to_path_buf(),
        })
    }

    /// Where to write: the destination's file name inside the private folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder
            .path()
            .join(self.destination.file_name().unwrap_or_default())
    }

    /// The private folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    /// Syncs everything in the private folder and moves it to where the destination is, the destination itself last.
    ///
    /// # Errors
    /// When syncing or renaming fails, or something foreign has appeared at the destination meanwhile.
    pub(crate) fn commit(self, is_ours: impl Fn(&Path) -> bool) -> Result<()> {
        sync_tree(self.folder.path())?;
        let parent = self
            .destination
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default();
        let main = self.path();
        let mut entries: Vec<PathBuf> = fs::read_dir(self.folder.path())
            .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect())
            .map_err(io_error("list", self.folder.path()))?;
        // Side files first: whoever sees the main file must find what it refers to.
        entries.sort_by_key(|path| (*path == main, path.clone()));
        for from in entries {
            let to = parent.join(from.file_name().unwrap_or_default());
            refuse_foreign(&to, &is_ours)?;
            if to.is_dir() {
                // A folder cannot be replaced by a rename; the old one leaves through the private folder.
                let old = self.folder.path().join(".replaced");
                fs::rename(&to, &old).map_err(io_error("replace", &to))?;
            }
            fs::rename(&from, &to).map_err(io_error("move the finished output to", &to))?;
        }
        if let Ok(folder) = File::open(if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &parent
        }) {
            // Makes the rename itself durable where the system supports it.
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        OPEN.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(self.folder.path());
    }
}

/// Refuses a destination where something stands that this program did not make.
fn refuse_foreign(path: &Path, is_ours: impl Fn(&Path) -> bool) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(metadata) if !metadata.is_symlink() && is_ours(path) => Ok(()),
        Ok(_) => Err(ConvertError::Exists).at_file(path),
    }
}

/// Brings every file below `path` to the disk.
pub(crate) fn sync_tree(path: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(path).map_err(io_error("read", path))?;
    if metadata.is_dir() {
        let entries = fs::read_dir(path).map_err(io_error("list", path))?;
        for entry in entries {
            sync_tree(&entry.map_err(io_error("list", path))?.path())?;
        }
        return Ok(());
    }
    File::open(path)
        .and_then(|file| file.sync_data())
        .map_err(io_error("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_destination_is_refused_and_ours_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("model.onnx");
        fs::write(&out, "foreign").unwrap();
        let error = Stage::beside(&out, |_| false).unwrap_err();
        assert_eq!(error.code(), "output_exists");
        let stage = Stage::beside(&out, |_| true).unwrap();
        fs::write(stage.path(), "new").unwrap();
        fs::write(stage.path().with_extension("onnx.data"), "data").unwrap();
        stage.commit(|_| true).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_abandoned_stage_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::beside(&folder.path().join("a/b.mlpackage"), |_| false).unwrap();
        fs::create_dir(stage.path()).unwrap();
        drop(stage);
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_symlink_at_the_destination_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(Stage::beside(&link, |_| true).is_err());
    }
}
