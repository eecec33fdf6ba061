//! An output with its side files, from its private folder to its place.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Result, io_error};
use crate::files::{self, Private};

/// What a finished output waits for before it is moved to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For the disk: not even a power cut leaves part of it.
    Disk,
    /// For nothing, as with `cp`: the system writes it within seconds.
    Nothing,
}

/// A private folder beside a destination, for the destination and the files that belong to it.
#[derive(Debug)]
pub(crate) struct Stage {
    private: Private,
    destination: PathBuf,
}

impl Stage {
    /// Makes the folder. `is_ours` tells whether something that stands at the destination was made by this program and may be replaced.
    ///
    /// # Errors
    /// When something foreign stands at the destination, or the folder cannot be made.
    pub(crate) fn beside(
        destination: &Path,
        is_ours: impl Fn(&Path) -> bool,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        files::refuse_foreign(destination, is_ours)?;
        Ok(Stage {
            private: Private::in_new_folder(destination, notes)?,
            destination: destination.to_path_buf(),
        })
    }

    /// Where to write: the destination's file name inside the private folder.
    pub(crate) fn path(&self) -> PathBuf {
        let name = self.destination.file_name();
        self.private.path().join(name.unwrap_or_default())
    }

    /// The private folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.private.path()
    }

    /// Removes what was written, to write it again.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn clear(&self) -> Result<()> {
        let folder = self.private.path();
        let entries = fs::read_dir(&folder).map_err(io_error("list", &folder))?;
        for entry in entries {
            let path = entry.map_err(io_error("list", &folder))?.path();
            // A link is removed, not followed.
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir());
            if is_folder {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            }
            .map_err(io_error("remove", &path))?;
        }
        Ok(())
    }

    /// Moves everything in the private folder, which waits as it should, to where the destination is, the destination itself last: whoever sees it must
    /// find what it refers to.
    ///
    /// # Errors
    /// When syncing or renaming fails, or something foreign has appeared at the destination meanwhile.
    pub(crate) fn commit(self, wait: Wait, is_ours: impl Fn(&Path) -> bool) -> Result<()> {
        let folder = self.private.path();
        match wait {
            Wait::Disk => files::sync_tree(&folder)?,
            Wait::Nothing => {}
        }
        let main = self.destination.file_name().unwrap_or_default().to_owned();
        let mut entries: Vec<OsString> = fs::read_dir(&folder)
            .and_then(|entries| entries.map(|entry| entry.map(|e| e.file_name())).collect())
            .map_err(io_error("list", &folder))?;
        entries.sort_by_key(|name| (*name == main, name.clone()));
        for name in &entries {
            // All of them before the first is moved.
            files::refuse_foreign(&self.destination.with_file_name(name), &is_ours)?;
        }
        self.private.install(&entries, is_ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beside(out: &Path, ours: bool) -> Result<Stage> {
        Stage::beside(out, |_| ours, &mut Vec::new())
    }

    #[test]
    fn a_foreign_destination_is_refused_and_ours_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("model.onnx");
        fs::write(&out, "foreign").unwrap();
        let error = beside(&out, false).unwrap_err();
        assert_eq!(error.code(), "output_exists");
        let stage = beside(&out, true).unwrap();
        fs::write(stage.path(), "new").unwrap();
        fs::write(stage.path().with_extension("onnx.data"), "data").unwrap();
        stage.commit(Wait::Disk, |_| true).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_foreign_side_file_keeps_everything_back() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("model.onnx");
        let foreign = folder.path().join("model.onnx.intoto.json");
        fs::write(&foreign, "foreign").unwrap();
        let stage = beside(&out, false).unwrap();
        fs::write(stage.path(), "new").unwrap();
        fs::write(stage.folder().join("model.onnx.data"), "data").unwrap();
        fs::write(stage.folder().join("model.onnx.intoto.json"), "{}").unwrap();
        assert_eq!(
            stage.commit(Wait::Nothing, |_| false).unwrap_err().code(),
            "output_exists"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&foreign).unwrap(), "foreign");
    }

    #[test]
    fn an_abandoned_stage_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let stage = beside(&folder.path().join("a/b.mlpackage"), false).unwrap();
        fs::create_dir(stage.path()).unwrap();
        drop(stage);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_symlink_at_the_destination_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(beside(&link, true).is_err());
    }
}
