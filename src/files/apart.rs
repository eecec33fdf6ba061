//! Places of one run that must not meet: outputs are kept apart from what is read, and from each other, before anything is written.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::{FilesError, identity};
use crate::error::{Context, Result, io_error};

/// A place that a run reads or writes, and the flag or argument that names it.
#[derive(Clone, Debug)]
pub struct Named {
    flag: String,
    path: PathBuf,
    /// Whether it is one thing as a whole, so that nothing may be written below it.
    whole: bool,
}

impl Named {
    /// A file, or a folder with files of its own beside which others may be written.
    #[must_use]
    pub fn new(flag: &str, path: &Path) -> Self {
        Named {
            flag: flag.to_owned(),
            path: path.to_path_buf(),
            whole: false,
        }
    }

    /// A folder that is one thing, such as a package.
    #[must_use]
    pub fn whole(flag: &str, path: &Path) -> Self {
        Named {
            whole: true,
            ..Named::new(flag, path)
        }
    }
}

/// Refuses an output that is an input, stands inside one that is whole, or would replace the folder that one stands in; and two outputs that are
/// the same, or of which one stands inside the other. Nothing has to exist; what does is known by whatever name.
///
/// # Errors
/// When two places meet; the error names both flags.
pub fn keep_apart(inputs: &[Named], outputs: &[Named]) -> Result<()> {
    let mut seen: Vec<(&Named, PathBuf, bool)> = Vec::new();
    for input in inputs {
        seen.push((input, real(&input.path)?, true));
    }
    for output in outputs {
        let path = real(&output.path)?;
        for (other, there, is_input) in &seen {
            let inside = path.starts_with(there) && (other.whole || !is_input);
            let around = there.starts_with(&path);
            if inside || around || same(&path, there) {
                return Err(FilesError::Meet {
                    one: output.flag.clone(),
                    other: other.flag.clone(),
                })
                .at_file(&output.path);
            }
        }
        seen.push((output, path, false));
    }
    Ok(())
}

/// Whether two paths are one file under two names.
fn same(a: &Path, b: &Path) -> bool {
    a == b || identity(a).is_some_and(|id| identity(b) == Some(id))
}

/// Where a path leads, links resolved as far as it exists.
fn real(path: &Path) -> Result<PathBuf> {
    let here = std::env::current_dir().map_err(io_error("find", Path::new(".")))?;
    let mut there = here.join(path);
    let mut rest: Vec<OsString> = Vec::new();
    loop {
        if let Ok(mut real) = there.canonicalize() {
            for name in rest.iter().rev() {
                if name == ".." {
                    real.pop();
                } else {
                    real.push(name);
                }
            }
            return Ok(real);
        }
        match there.components().next_back() {
            Some(Component::Normal(name)) => rest.push(name.to_owned()),
            Some(Component::ParentDir) => rest.push("..".into()),
            Some(Component::CurDir | Component::RootDir | Component::Prefix(_)) | None => {}
        }
        if !there.pop() {
            return Ok(here.join(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The flags that a meeting names.
    fn met(inputs: &[Named], outputs: &[Named]) -> Option<String> {
        let error = keep_apart(inputs, outputs).err()?;
        assert_eq!(error.code(), "outputs_meet");
        Some(error.to_string())
    }

    #[test]
    fn places_that_meet_are_found_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("p.mlpackage/Data")).unwrap();
        fs::create_dir(at("model")).unwrap();
        fs::write(at("m.onnx"), "m").unwrap();
        fs::hard_link(at("m.onnx"), at("hard.onnx")).unwrap();
        let package = Named::whole("MODEL", &at("p.mlpackage"));
        let model = Named::new("MODEL", &at("model"));
        let file = Named::new("MODEL", &at("m.onnx"));
        let out = |name: &str| Named::new("`-o`", &at(name));
        for (input, output) in [
            (&package, "p.mlpackage"),
            (&package, "p.mlpackage/Data/new"),
            (&package, "model/../p.mlpackage"),
            (&package, "new/../p.mlpackage"),
            (&model, "model"),
            (&model, "model/"),
            (&model, "."),
            (&file, "m.onnx"),
            (&file, "./m.onnx"),
            (&file, "hard.onnx"),
        ] {
            let found = met(std::slice::from_ref(input), &[out(output)]);
            let found = found.unwrap_or_else(|| panic!("{output}"));
            assert!(found.contains("`-o`") && found.contains("MODEL"), "{found}");
        }
        for (input, output) in [
            (&package, "p.mlpackage2"),
            (&package, "q.mlpackage"),
            (&model, "model/new.onnx"),
            (&model, "model2"),
            (&file, "m.onnx.json"),
        ] {
            assert_eq!(
                met(std::slice::from_ref(input), &[out(output)]),
                None,
                "{output}"
            );
        }
        let report = |name: &str| Named::new("`--report`", &at(name));
        assert!(met(&[], &[out("a"), report("a")]).is_some());
        assert!(met(&[], &[out("a"), report("a/b")]).is_some());
        assert!(met(&[], &[out("a/b"), report("a")]).is_some());
        assert!(met(&[], &[out("a"), report("b/../a")]).is_some());
        assert_eq!(met(&[], &[out("a"), report("ab")]), None);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("model"), at("link")).unwrap();
            assert!(met(std::slice::from_ref(&model), &[out("link")]).is_some());
            assert!(met(std::slice::from_ref(&file), &[out("link/../m.onnx")]).is_some());
            assert!(met(&[], &[out("link/a"), report("model/a")]).is_some());
        }
    }
}
