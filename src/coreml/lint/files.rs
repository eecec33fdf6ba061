//! The package as files: manifest, model file, weight file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Code, Findings, Sink, Spot, constant};
use crate::coreml::blob::{BlobFile, BlobFiles};
use crate::coreml::package::{self, DATA, MANIFEST, PackageError, WEIGHT_FILE, WEIGHT_REFERENCE};
use crate::coreml::proto::Model;
use crate::coreml::read::references;
use crate::error::{Error, Result, io_error};
use crate::limits;

/// What a package has, as far as it could be found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) model: Option<PathBuf>,
    pub(super) weights: Option<PathBuf>,
}

/// Looks at the manifest, or for the weight file of a bare model file.
pub(super) fn manifest(path: &Path, sink: &mut Sink) -> Result<Found> {
    let meta = std::fs::metadata(path).map_err(io_error("open", path))?;
    if meta.is_file() {
        return Ok(Found {
            model: Some(path.to_path_buf()),
            weights: crate::coreml::read::beside(path)?,
        });
    }
    package::refuse_compiled(path)?;
    let findings = &mut sink.findings;
    let bytes = match package::manifest_bytes(path, &path.join(MANIFEST)) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = error.to_string();
            findings.add(package_code(&error), Spot::field(MANIFEST), message);
            return Ok(Found::default());
        }
    };
    let survey = package::survey(path, &bytes);
    for problem in &survey.problems {
        let code = package_code(problem);
        findings.add(code, Spot::field(MANIFEST), problem.to_string());
    }
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (id, item) in &survey.items {
        if !is_uuid(id) {
            let message = format!("the item `{item}` has the identifier `{id}`");
            findings.add(Code::ManifestId, Spot::field(MANIFEST), message);
        }
        if let Some(other) = seen.insert(item, id) {
            let message = format!("the items `{other}` and `{id}` are both `{item}`");
            findings.add(Code::ManifestDuplicate, Spot::field(MANIFEST), message);
        }
    }
    let data = path.join(DATA);
    let mut files = Vec::new();
    if !survey.items.is_empty() {
        walk(&data, "", 0, &mut files);
    }
    for file in files {
        let listed = seen.keys().any(|item| {
            file == **item
                || file
                    .strip_prefix(item)
                    .is_some_and(|rest| rest.starts_with('/'))
        });
        if !listed {
            let message = format!("the file `{file}` belongs to no item");
            findings.add(Code::ManifestUnlisted, Spot::field(MANIFEST), message);
        }
    }
    Ok(Found {
        model: survey.model,
        weights: survey.weights,
    })
}

/// The files below a folder, by their path in it; links are not followed.
fn walk(folder: &Path, inside: &str, depth: usize, out: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut names: Vec<_> = entries.filter_map(std::result::Result::ok).collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    for entry in names {
        let name = format!("{inside}{}", entry.file_name().to_string_lossy());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < limits::PACKAGE_NESTING => {
                walk(&entry.path(), &format!("{name}/"), depth + 1, out);
            }
            Ok(_) if out.len() < limits::PACKAGE_FILES => out.push(name),
            Ok(_) | Err(_) => {}
        }
    }
}

/// 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12.
fn is_uuid(id: &str) -> bool {
    let groups: Vec<&str> = id.split('-').collect();
    let lengths = groups.iter().map(|g| g.len());
    lengths.eq([8, 4, 4, 4, 12])
        && groups
            .iter()
            .all(|g| g.chars().all(|c| c.is_ascii_hexdigit()))
}

fn package_code(error: &Error) -> Code {
    let cause: &(dyn std::error::Error + 'static) = &*error.error;
    cause
        .downcast_ref::<PackageError>()
        .map_or(Code::ManifestUnreadable, Code::of_package)
}

/// Parses the model file.
pub(super) fn model(package: &Path, item: &Path, findings: &mut Findings) -> Option<Model> {
    match package::open_item(package, item).and_then(|file| package::read_model(&file)) {
        Ok((model, _)) => Some(model),
        Err(error) => {
            let message = error.to_string();
            findings.add(Code::ModelUnreadable, Spot::default(), message);
            None
        }
    }
}

/// Opens the weight files, whose records are checked on the way: the usual one, and those that the program calls otherwise.
pub(super) fn weights(
    package: &Path,
    found: &Found,
    model: Option<&Model>,
    findings: &mut Findings,
) -> (BlobFiles, Vec<PathBuf>) {
    let (mut blobs, mut paths) = (BlobFiles::default(), Vec::new());
    if let Some(item) = &found.weights {
        if let Some(file) = blob(package, item, WEIGHT_FILE, findings) {
            blobs.insert(WEIGHT_REFERENCE, file);
        }
        paths.push(item.clone());
    }
    let (Some(model), Some(model_path)) = (model, &found.model) else {
        return (blobs, paths);
    };
    for reference in references(model) {
        match package::referred(package, model_path, &reference) {
            Ok(Some(item)) => {
                if let Some(file) = blob(package, &item, &reference, findings) {
                    blobs.insert(&reference, file);
                }
                paths.push(item);
            }
            // The constants say so.
            Ok(None) => {}
            Err(error) => {
                let code = package_code(&error);
                findings.add(code, Spot::field(&reference), error.to_string());
            }
        }
    }
    (blobs, paths)
}

fn blob(package: &Path, item: &Path, field: &str, findings: &mut Findings) -> Option<BlobFile> {
    match package::open_item(package, item).and_then(BlobFile::of) {
        Ok(blobs) => Some(blobs),
        Err(error) => {
            let cause: &(dyn std::error::Error + 'static) = &*error.error;
            let code = match cause.downcast_ref::<PackageError>() {
                Some(error) => Code::of_package(error),
                None => constant::blob_code(&error),
            };
            findings.add(code, Spot::field(field), error.to_string());
            None
        }
    }
}
