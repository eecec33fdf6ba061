//! Where the shared library of ONNX Runtime is looked for. Finds a file; does not load it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::error::RuntimeError;

/// A library that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Why this one: `--onnxruntime`, `ORT_DYLIB_PATH`, or the folder.
    pub how: String,
}

/// Looks for the library: an explicit path, then `ORT_DYLIB_PATH`, then [`folders`]. A path that was asked for but is not there is an error, not a reason to look further.
///
/// # Errors
/// When there is none; the error says where it was looked for.
pub fn find(explicit: Option<&Path>) -> Result<Found, RuntimeError> {
    let named = [
        (explicit.map(Path::to_path_buf), "--onnxruntime"),
        (variable("ORT_DYLIB_PATH"), "ORT_DYLIB_PATH"),
    ];
    for (path, how) in named {
        let Some(path) = path else { continue };
        // A folder is taken as the place where the library lies.
        let file = if path.is_dir() {
            in_folder(&path)
        } else {
            path.is_file().then(|| path.clone())
        };
        return match file {
            Some(path) => Ok(Found {
                path,
                how: how.to_owned(),
            }),
            None => Err(RuntimeError::NoLibrary {
                searched: format!("`{}` (from `{how}`)", path.display()),
            }),
        };
    }
    let folders = folders();
    for folder in &folders {
        if let Some(path) = in_folder(folder) {
            return Ok(Found {
                path,
                how: format!("`{}`", folder.display()),
            });
        }
    }
    let searched: Vec<String> = folders
        .iter()
        .map(|f| format!("`{}`", f.display()))
        .collect();
    Err(RuntimeError::NoLibrary {
        searched: format!("`--onnxruntime`, `ORT_DYLIB_PATH`, {}", searched.join(", ")),
    })
}

/// The documented folders: beside the executable, and `onnxruntime` in the user's data folder for this program.
#[must_use]
pub fn folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(folder) = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.to_path_buf()))
    {
        folders.push(folder);
    }
    let data = variable("XDG_DATA_HOME")
        .or_else(|| variable("LOCALAPPDATA"))
        .or_else(|| Some(variable("HOME")?.join(".local").join("share")));
    if let Some(data) = data {
        folders.push(data.join(env!("CARGO_PKG_NAME")).join("onnxruntime"));
    }
    folders
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
}

/// The library in a folder; of several versions the last by name.
fn in_folder(folder: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(is_library) && path.is_file())
        .collect();
    found.sort();
    found.pop()
}

/// `libonnxruntime.so`, `libonnxruntime.so.1.31.1`, `libonnxruntime.1.31.1.dylib`, `onnxruntime.dll`; not `libonnxruntime_providers_shared.so`.
fn is_library(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    if cfg!(windows) {
        return name.eq_ignore_ascii_case("onnxruntime.dll");
    }
    name.strip_prefix("libonnxruntime.")
        .is_some_and(|rest| rest.starts_with("so") || rest.ends_with("dylib"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_path_is_not_replaced_by_another() {
        let error = find(Some(Path::new("/nowhere/libonnxruntime.so"))).unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_is_searched_for_the_library_itself() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "libonnxruntime_providers_shared.so",
            "libonnxruntime.so.1.30.0",
            "libonnxruntime.so.1.31.1",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = find(Some(folder.path())).unwrap();
        assert_eq!(found.path, folder.path().join("libonnxruntime.so.1.31.1"));
    }
}
