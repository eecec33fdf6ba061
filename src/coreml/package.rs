//! The `.mlpackage` folder: its manifest, and where its items are. Nothing outside the folder is ever opened.
//!
//! # Source
//! `modelpackage/src/ModelPackage.cpp` of coremltools 9.0.

use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::proto::{Model, ModelDescription};
use crate::error::{Class, Context, Diagnostic, Error, Result, io_error};
use crate::files;
use crate::json::{self, JsonError};
use crate::limits;
use crate::tensor::{SourceFile, num};

/// The file of a package that names its items.
pub const MANIFEST: &str = "Manifest.json";
pub(super) const DATA: &str = "Data";
const AUTHOR: &str = "com.apple.CoreML";
const MODEL: &str = "model.mlmodel";
const WEIGHTS: &str = "weights";
/// The only name of a weight file that is written or read.
pub(crate) const WEIGHT_FILE: &str = "weight.bin";
/// How programs refer to the weight file.
pub(crate) const WEIGHT_REFERENCE: &str = "@model_path/weights/weight.bin";
/// What the folder of the model is called there.
const MODEL_PATH: &str = "@model_path/";

/// What can be wrong with a package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The manifest is not JSON.
    #[error("not a manifest: {source}")]
    Json {
        /// What the parser said.
        #[source]
        source: JsonError,
    },
    /// A file above its limit.
    #[error("{found} bytes are more than the limit of {limit}")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// Bytes found.
        found: u64,
    },
    /// A missing or mistyped key.
    #[error("the manifest has no {expected} at `{key}`")]
    Key {
        /// Path of the key.
        key: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A newer or malformed version.
    #[error("manifest version `1.0.0` expected, found `{found}`")]
    Version {
        /// The version found.
        found: String,
    },
    /// A path that leaves the package.
    #[error("the item path `{path}` leaves the package")]
    Escape {
        /// The path.
        path: String,
    },
    /// A root that is no item.
    #[error("the manifest has no item `{id}`, which is its root model")]
    NoRoot {
        /// The identifier.
        id: String,
    },
    /// A folder that Core ML's compiler made.
    #[error("a compiled Core ML model, which only Apple's systems can read")]
    Compiled,
    /// An item that is not there.
    #[error("the item `{path}` is not in the package")]
    Missing {
        /// The path.
        path: String,
    },
    /// Two items for one thing.
    #[error("the manifest lists two items named `{name}`")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// The model is not a protobuf.
    #[error("not a Core ML model: {source}")]
    Proto {
        /// What the parser said.
        #[source]
        source: prost::DecodeError,
    },
    /// The model holds fields that would be lost.
    #[error("the model has {found} bytes, {kept} of them in fields that this version knows")]
    UnknownFields {
        /// Size of the file.
        found: usize,
        /// Size after a read and write.
        kept: usize,
    },
}

impl Diagnostic for PackageError {
    fn class(&self) -> Class {
        match self {
            PackageError::Escape { .. } => Class::Unsafe,
            PackageError::UnknownFields { .. }
            | PackageError::Version { .. }
            | PackageError::Compiled => Class::Unsupported,
            PackageError::Json { .. }
            | PackageError::TooLarge { .. }
            | PackageError::Key { .. }
            | PackageError::NoRoot { .. }
            | PackageError::Missing { .. }
            | PackageError::Duplicate { .. }
            | PackageError::Proto { .. } => Class::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            PackageError::Escape { .. } => "path_escape",
            PackageError::Compiled => "compiled_model",
            PackageError::Json { .. }
            | PackageError::TooLarge { .. }
            | PackageError::Key { .. }
            | PackageError::NoRoot { .. }
            | PackageError::Missing { .. }
            | PackageError::Version { .. }
            | PackageError::Duplicate { .. }
            | PackageError::Proto { .. }
            | PackageError::UnknownFields { .. } => "bad_package",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            PackageError::UnknownFields { .. } => {
                Some("metadata can be changed only in packages that this program wrote".to_owned())
            }
            PackageError::Compiled => {
                Some("give the `.mlpackage` or `.mlmodel` that it was compiled from".to_owned())
            }
            PackageError::Missing { path } if path.ends_with(WEIGHTS) => Some(format!(
                "Apple's library refuses such a package too; if the folder was empty (git keeps no empty folders), make it again: `mkdir {DATA}/{path}` in the package"
            )),
            PackageError::TooLarge { limit, .. } if *limit < limits::PROTO_BYTES => {
                Some(limits::SIDE_FILE_BYTES.hint())
            }
            PackageError::Json { .. }
            | PackageError::TooLarge { .. }
            | PackageError::Key { .. }
            | PackageError::NoRoot { .. }
            | PackageError::Missing { .. }
            | PackageError::Version { .. }
            | PackageError::Escape { .. }
            | PackageError::Duplicate { .. }
            | PackageError::Proto { .. } => None,
        }
    }
}

/// Where the items of a package are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Items {
    /// The model.
    pub(crate) model: PathBuf,
    /// The weight file, if the package has weights.
    pub(crate) weights: Option<PathBuf>,
}

/// Creates the folder structure and the manifest of a package that is yet to be filled.
///
/// # Errors
/// When the folder exists or cannot be written.
pub(crate) fn create(package: &Path, with_weights: bool) -> Result<Items> {
    std::fs::create_dir(package).map_err(io_error("create the package", package))?;
    let inside = Path::new(DATA).join(AUTHOR);
    let author = package.join(&inside);
    let weights = author.join(WEIGHTS);
    let innermost = if with_weights {
        inside.join(WEIGHTS)
    } else {
        inside
    };
    files::make_folders(package, &innermost)?;
    let mut entries = Map::new();
    let mut add = |name: &str, description: &str| {
        let path = format!("{AUTHOR}/{name}");
        let id = uuid(&path);
        let entry =
            json!({ "author": AUTHOR, "description": description, "name": name, "path": path });
        entries.insert(id.clone(), entry);
        id
    };
    let root = add(MODEL, "CoreML Model Specification");
    if with_weights {
        add(WEIGHTS, "CoreML Model Weights");
    }
    let manifest = json!({
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": root,
    });
    let path = package.join(MANIFEST);
    std::fs::write(&path, format!("{manifest:#}\n")).map_err(io_error("write", &path))?;
    Ok(Items {
        model: author.join(MODEL),
        weights: with_weights.then(|| weights.join(WEIGHT_FILE)),
    })
}

/// A stable identifier made from a name (RFC 9562, version 8): the same package has the same bytes.
fn uuid(name: &str) -> String {
    let digest = Sha256::digest(format!("distill-convert/{name}"));
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|b| format!("{b:02x}")).collect()
    };
    format!(
        "{}-{}-{}-{}-{}",
        hex(0..4),
        hex(4..6),
        hex(6..8),
        hex(8..10),
        hex(10..16)
    )
}

/// Finds the items of a package, or of a single `.mlmodel` file.
///
/// # Errors
/// When the manifest is malformed or points out of the package.
pub(crate) fn open(path: &Path) -> Result<Items> {
    let meta = std::fs::metadata(path).map_err(io_error("open", path))?;
    if meta.is_file() {
        return Ok(Items {
            model: path.to_path_buf(),
            weights: None,
        });
    }
    refuse_compiled(path)?;
    let manifest = path.join(MANIFEST);
    read_manifest(path, &manifest).at_file(&manifest)
}

/// Whether a package holds no file besides those that [`create`] makes room for.
#[must_use]
pub fn holds_nothing_else(package: &Path) -> bool {
    let author = package.join(DATA).join(AUTHOR);
    let known = [
        package.join(MANIFEST),
        author.join(MODEL),
        author.join(WEIGHTS).join(WEIGHT_FILE),
    ];
    let found = files::files_below(package);
    found.is_ok_and(|files| files.iter().all(|file| known.contains(file)))
}

/// Whether the folder holds a model that Core ML's compiler made (`.mlmodelc`).
#[must_use]
pub fn is_compiled(path: &Path) -> bool {
    path.is_dir()
        && (path.join("coremldata.bin").exists()
            || path.extension().is_some_and(|e| e == "mlmodelc"))
}

/// Refuses what [`is_compiled`].
///
/// # Errors
/// When it is.
pub(super) fn refuse_compiled(path: &Path) -> Result<()> {
    if is_compiled(path) {
        return Err(PackageError::Compiled).at_file(path);
    }
    Ok(())
}

fn read_manifest(package: &Path, manifest: &Path) -> Result<Items> {
    parse_manifest(package, &manifest_bytes(package, manifest)?)
}

/// The manifest of a package as it stands there.
///
/// # Errors
/// When it leads out of the package, is too large or cannot be read.
pub(super) fn manifest_bytes(package: &Path, manifest: &Path) -> Result<Vec<u8>> {
    let file = SourceFile::open_inside(package, Path::new(MANIFEST))
        .map_err(|e| not_inside(MANIFEST, manifest, e))?;
    read_limited(&file, limits::SIDE_FILE_BYTES.get())
}

/// Why an item could not be opened in its package.
fn not_inside(item: &str, path: &Path, error: std::io::Error) -> crate::error::Error {
    if SourceFile::leads_out(&error) {
        let path = item.to_owned();
        return PackageError::Escape { path }.into();
    }
    io_error("open", path)(error)
}

/// Finds the items that a manifest names in the package.
///
/// # Errors
/// As [`open`].
pub(super) fn parse_manifest(package: &Path, bytes: &[u8]) -> Result<Items> {
    let survey = survey(package, bytes);
    match survey.problems.into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(Items {
            model: survey
                .model
                .ok_or_else(|| PackageError::NoRoot { id: String::new() })?,
            weights: survey.weights,
        }),
    }
}

/// All that a manifest says, right or wrong.
#[derive(Default)]
pub(super) struct Survey {
    /// The model, if it is there.
    pub(super) model: Option<PathBuf>,
    /// The weight file, if it is there.
    pub(super) weights: Option<PathBuf>,
    /// Identifier and path of every item.
    pub(super) items: Vec<(String, String)>,
    /// What is wrong.
    pub(super) problems: Vec<Error>,
}

/// Looks at a whole manifest.
pub(super) fn survey(package: &Path, bytes: &[u8]) -> Survey {
    let mut out = Survey::default();
    if let Err(problem) = look(package, bytes, &mut out) {
        out.problems.push(problem);
    }
    out
}

/// As [`survey`]; what makes the rest meaningless is an error.
fn look(package: &Path, bytes: &[u8], out: &mut Survey) -> Result<()> {
    let json: Value = json::parse(bytes).map_err(|source| PackageError::Json { source })?;
    let text = |value: &Value, key: &str, at: String| match value.get(key).and_then(Value::as_str) {
        Some(text) => Ok(text.to_owned()),
        None => Err(PackageError::Key {
            key: at,
            expected: "text",
        }),
    };
    let version = text(&json, "fileFormatVersion", "fileFormatVersion".into())?;
    let parts: Option<Vec<u64>> = version.split('.').map(|p| p.parse().ok()).collect();
    if parts.is_none_or(|p| p.len() != 3 || p > vec![1, 0, 0]) {
        out.problems
            .push(PackageError::Version { found: version }.into());
    }
    let root = text(&json, "rootModelIdentifier", "rootModelIdentifier".into())?;
    let Some(entries) = json.get("itemInfoEntries").and_then(Value::as_object) else {
        return Err(PackageError::Key {
            key: "itemInfoEntries".into(),
            expected: "object",
        }
        .into());
    };
    for (id, entry) in entries {
        let field = |key: &str| text(entry, key, format!("itemInfoEntries/{id}/{key}"));
        let fields = ["path", "name", "author", "description"].map(field);
        if let [Ok(item), name, author, _] = &fields {
            out.items.push((id.clone(), item.clone()));
            if let (Ok(name), Ok(author)) = (name, author)
                && let Err(problem) = place(package, item, name, author, *id == root, out)
            {
                out.problems.push(problem);
            }
        }
        let problems = fields.into_iter().filter_map(Result::err);
        out.problems.extend(problems.map(Error::from));
    }
    if !entries.contains_key(&root) {
        out.problems.push(PackageError::NoRoot { id: root }.into());
    }
    Ok(())
}

/// Finds one item.
fn place(
    package: &Path,
    item: &str,
    name: &str,
    author: &str,
    is_root: bool,
    out: &mut Survey,
) -> Result<()> {
    let inside = confined(package, item)?;
    if is_root {
        out.model = Some(inside);
    } else if author == AUTHOR && name == WEIGHTS {
        // coremltools makes the folder even when there is nothing to put into it.
        if let Err(e) = inside.join(WEIGHT_FILE).symlink_metadata()
            && e.kind() == std::io::ErrorKind::NotFound
        {
            return Ok(());
        }
        // Through the same check again: the file itself could be a link.
        let file = confined(package, &format!("{item}/{WEIGHT_FILE}"))?;
        if out.weights.replace(file).is_some() {
            let name = name.to_owned();
            return Err(PackageError::Duplicate { name }.into());
        }
    }
    Ok(())
}

/// The path of an item, if it stays in the package under every link on the way.
fn confined(package: &Path, item: &str) -> Result<PathBuf> {
    let found = below(package, &package.join(DATA), item, item)?;
    let missing = || PackageError::Missing {
        path: item.to_owned(),
    };
    Ok(found.ok_or_else(missing)?)
}

/// Where the weight file is that a program calls `reference`, if it is there: below the folder of the model, inside the package; a model file on
/// its own has its weights beside it.
///
/// # Errors
/// When the path leads elsewhere.
pub(super) fn referred(package: &Path, model: &Path, reference: &str) -> Result<Option<PathBuf>> {
    let folder = match model.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let root = if model == package { folder } else { package };
    let item = reference.strip_prefix(MODEL_PATH).unwrap_or_default();
    below(root, folder, item, reference)
}

/// The path of `item` in `folder`, if it is there; it has to stay below `root` under every link on the way. Errors call it `shown`.
fn below(root: &Path, folder: &Path, item: &str, shown: &str) -> Result<Option<PathBuf>> {
    let escape = || PackageError::Escape {
        path: shown.to_owned(),
    };
    let relative = Path::new(item);
    let plain = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    if !plain || item.is_empty() || item.contains('\\') {
        return Err(escape().into());
    }
    let path = folder.join(relative);
    let real = match path.canonicalize() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        real => real.map_err(io_error("open", &path))?,
    };
    let root = root.canonicalize().map_err(io_error("open", root))?;
    if real.starts_with(&root) {
        Ok(Some(path))
    } else {
        Err(escape().into())
    }
}

/// Opens an item that [`open`] has found: in its package, should a link have come meanwhile, or a model file on its own.
///
/// # Errors
/// When it leads out of the package or cannot be opened.
pub(super) fn open_item(package: &Path, item: &Path) -> Result<Arc<SourceFile>> {
    match item.strip_prefix(package) {
        Ok(relative) if !relative.as_os_str().is_empty() => {
            SourceFile::open_inside(package, relative)
                .map_err(|e| not_inside(&relative.display().to_string(), item, e))
        }
        Ok(_) | Err(_) => SourceFile::open(item),
    }
}

fn read_limited(file: &SourceFile, limit: u64) -> Result<Vec<u8>> {
    let found = file.len();
    if found > limit {
        return Err(PackageError::TooLarge { limit, found }).at_file(file.path());
    }
    let mut bytes = vec![0; num::usize_of(found)];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Parses the model file.
///
/// # Errors
/// When it is too large or not a protobuf.
pub(crate) fn read_model(file: &SourceFile) -> Result<(Model, usize)> {
    let bytes = read_limited(file, limits::PROTO_BYTES)?;
    let len = bytes.len();
    let model = Model::decode(bytes::Bytes::from(bytes))
        .map_err(|source| PackageError::Proto { source })
        .at_file(file.path())?;
    Ok((model, len))
}

/// A [`Model`] whose program is kept as it is: what is around it changes, the program does not.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Frame {
    #[prost(int32, tag = "1")]
    specification_version: i32,
    /// The interface and the metadata.
    #[prost(message, optional, tag = "2")]
    pub(crate) description: Option<ModelDescription>,
    #[prost(bool, tag = "10")]
    is_updatable: bool,
    /// A field of a message has the encoding of bytes.
    #[prost(bytes = "bytes", optional, tag = "502")]
    ml_program: Option<bytes::Bytes>,
}

/// Parses the model file, but for its program.
///
/// # Errors
/// When it is too large, not a protobuf, or holds fields outside our protos around its program, which a rewrite would lose.
pub(crate) fn read_frame(file: &SourceFile) -> Result<Frame> {
    let bytes = read_limited(file, limits::PROTO_BYTES)?;
    let found = bytes.len();
    let frame = Frame::decode(bytes::Bytes::from(bytes))
        .map_err(|source| PackageError::Proto { source })
        .at_file(file.path())?;
    let kept = frame.encoded_len();
    if kept != found {
        return Err(PackageError::UnknownFields { found, kept }).at_file(file.path());
    }
    Ok(frame)
}

/// Writes the model file whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_model(path: &Path, model: &impl Message) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file =
        tempfile::NamedTempFile::new_in(folder).map_err(io_error("create a file in", folder))?;
    file.as_file_mut()
        .write_all(&model.encode_to_vec())
        .map_err(io_error("write", path))?;
    // A private temporary file is readable by its owner only; the artifact is for everyone who may read its folder.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(0o644))
            .map_err(io_error("set the permissions of", path))?;
    }
    file.persist(path)
        .map_err(|e| io_error("write", path)(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package() -> (tempfile::TempDir, PathBuf, Items) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.mlpackage");
        let items = create(&path, true).unwrap();
        std::fs::write(&items.model, b"").unwrap();
        std::fs::write(items.weights.as_ref().unwrap(), b"").unwrap();
        (dir, path, items)
    }

    #[test]
    fn what_was_created_is_found() {
        let (_dir, path, items) = package();
        assert_eq!(open(&path).unwrap(), items);
        let text = std::fs::read_to_string(path.join(MANIFEST)).unwrap();
        assert!(text.contains(&uuid("com.apple.CoreML/model.mlmodel")));
        assert_eq!(uuid("x").len(), 36);
    }

    #[test]
    fn paths_out_of_the_package_are_refused() {
        let (dir, path, _) = package();
        std::fs::write(dir.path().join("secret"), b"x").unwrap();
        let manifest = path.join(MANIFEST);
        let good = std::fs::read_to_string(&manifest).unwrap();
        for bad in [
            "../../secret",
            "/etc/passwd",
            "a/../../../secret",
            "..\\\\secret",
            "",
        ] {
            std::fs::write(
                &manifest,
                good.replace("com.apple.CoreML/model.mlmodel", bad),
            )
            .unwrap();
            let error = open(&path).unwrap_err();
            assert_eq!(error.class(), Class::Unsafe, "{bad}: {error}");
        }
        std::fs::write(&manifest, good.replace("1.0.0", "1.0.1")).unwrap();
        assert!(open(&path).unwrap_err().to_string().contains("`1.0.1`"));
        std::fs::write(&manifest, "[]").unwrap();
        assert!(open(&path).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_out_of_the_package_are_refused() {
        let (dir, path, items) = package();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, b"x").unwrap();
        for item in [&items.model, items.weights.as_ref().unwrap()] {
            std::fs::remove_file(item).unwrap();
            std::os::unix::fs::symlink(&secret, item).unwrap();
            assert_eq!(open(&path).unwrap_err().class(), Class::Unsafe);
            std::fs::remove_file(item).unwrap();
            std::fs::write(item, b"").unwrap();
        }
        assert!(open(&path).is_ok());
    }
}
