//! What a commit holds, by the hub's own word, and which of it is fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::error::FetchError;
use super::http::{Client, header};
use crate::error::Result;
use crate::limits;
use crate::source::{self, hub};

/// A digest that the hub knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// SHA-256 of a large file.
    Sha256(String),
    /// Git's object name of a small one.
    GitBlob(String),
}

impl Known {
    pub(super) fn text(&self) -> &str {
        match self {
            Known::Sha256(text) | Known::GitBlob(text) => text,
        }
    }
}

/// A file of the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    /// Path in the repository: `file` or `folder/file`.
    pub(super) path: String,
    /// Size in bytes.
    pub(super) size: u64,
    /// Its digest.
    pub(super) digest: Known,
}

/// What is fetched, and how many files are not, by the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) files: Vec<Remote>,
    pub(super) left_out: BTreeMap<&'static str, usize>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    size: Option<u64>,
    oid: Option<String>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    #[serde(alias = "sha256")]
    oid: String,
    size: u64,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

fn malformed(detail: impl ToString) -> FetchError {
    FetchError::Listing {
        detail: detail.to_string(),
    }
}

/// The commit that a branch, a tag or an abbreviation means now.
pub(super) fn resolve(client: &Client, repo: &str, revision: &str) -> Result<String> {
    let path = format!("/api/models/{repo}/revision/{}", encode(revision));
    let body = page(client, &path)?.0;
    let found: Revision = serde_json::from_slice(&body).map_err(malformed)?;
    if !hub::is_commit(&found.sha) {
        return Err(malformed(format!("`{}` is no commit", found.sha)).into());
    }
    Ok(found.sha)
}

/// Every file of a commit.
pub(super) fn list(client: &Client, repo: &str, commit: &str) -> Result<Vec<Remote>> {
    let mut path = format!("/api/models/{repo}/tree/{commit}?recursive=true");
    let mut files = Vec::new();
    for _ in 0..limits::FETCH_PAGES {
        let (body, next) = page(client, &path)?;
        let entries: Vec<Entry> = serde_json::from_slice(&body).map_err(malformed)?;
        for entry in entries {
            files.extend(remote(entry)?);
        }
        if files.len() > limits::TENSORS.count() {
            return Err(malformed("too many files").into());
        }
        match next {
            None => return Ok(files),
            Some(next) => path = next,
        }
    }
    Err(malformed("too many pages").into())
}

/// A page of the hub's interface, and the path of the next one.
fn page(client: &Client, path: &str) -> Result<(Vec<u8>, Option<String>)> {
    let answer = client.get(path, 0, limits::FETCH_PAGE_BYTES / 64, &|_| Ok(()))?;
    let next = match header(&answer.headers, "link").and_then(next_link) {
        Some(address) => {
            let inside = client.path_of(address);
            let outside = || malformed(format!("the next page is elsewhere: `{address}`"));
            Some(inside.ok_or_else(outside)?.to_owned())
        }
        None => None,
    };
    let mut body = Vec::new();
    answer.read(limits::FETCH_PAGE_BYTES, &mut |part| {
        body.extend_from_slice(part);
        Ok(())
    })?;
    Ok((body, next))
}

/// The address marked as `next` in a `Link` header.
fn next_link(text: &str) -> Option<&str> {
    text.split(',').find_map(|link| {
        let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        rest.contains("rel=\"next\"").then_some(address)
    })
}

/// An entry of the listing, if it is a file.
fn remote(entry: Entry) -> Result<Option<Remote>, FetchError> {
    let path = entry.path;
    match entry.kind.as_str() {
        "file" => {}
        "directory" => return Ok(None),
        other => return Err(malformed(format!("`{path}` is a `{other}`"))),
    }
    // What no file of a repository is called is an attack or a mistake; either way nothing here can be trusted.
    let hostile = |part: &str| {
        part.is_empty()
            || part == "."
            || part == ".."
            || part.contains(['\\', ':'])
            || part.chars().any(crate::error::is_unprintable)
    };
    if path.split('/').any(hostile) {
        return Err(malformed(format!("{path:?} is no path in a repository")));
    }
    let hex = |text: &str, len| {
        text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let (size, digest) = match entry.lfs {
        Some(large) => {
            let oid = large.oid.strip_prefix("sha256:").unwrap_or(&large.oid);
            (large.size, Known::Sha256(oid.to_owned()))
        }
        None => {
            let missing = |what| malformed(format!("`{path}` has no {what}"));
            let oid = entry.oid.ok_or_else(|| missing("digest"))?;
            (
                entry.size.ok_or_else(|| missing("size"))?,
                Known::GitBlob(oid),
            )
        }
    };
    let sound = match &digest {
        Known::Sha256(text) => hex(text, 64),
        Known::GitBlob(text) => hex(text, 40),
    };
    if !sound {
        return Err(malformed(format!(
            "`{}` is no digest of `{path}`",
            digest.text()
        )));
    }
    Ok(Some(Remote { path, size, digest }))
}

/// What is fetched beside the files that every model folder has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kinds {
    /// Pickles, which other programs may run.
    pub(super) pickles: bool,
    /// ONNX files of a repository that has safetensors as well: most hold the same weights, several times.
    pub(super) onnx: bool,
}

/// The data files among `files`: ONNX files with their external data where there are no safetensors or they are asked for,
/// and pickles only if they are asked for.
pub(super) fn select(files: Vec<Remote>, kinds: Kinds) -> Result<Selection, FetchError> {
    let mut selection = Selection::default();
    let safetensors = files.iter().any(|f| f.path.ends_with(".safetensors"));
    let models: BTreeSet<String> = files
        .iter()
        .filter(|f| has_extension(Path::new(&f.path), "onnx"))
        .map(|f| f.path.clone())
        .collect();
    let (mut names, mut pickles, mut total) = (BTreeSet::new(), 0, 0u64);
    for file in files {
        let path = Path::new(&file.path);
        let hidden = file.path.split('/').any(|part| part.starts_with('.'));
        let deep = file.path.matches('/').count() > 1;
        let pickle = crate::source::has_pickle_name(path);
        let reason = if hidden {
            Some("hidden")
        } else if deep {
            Some("in nested folders")
        } else if pickle {
            pickles += 1;
            (!kinds.pickles).then_some("pickles")
        } else if models.contains(&file.path) || is_external_data(path, &models) {
            (safetensors && !kinds.onnx).then_some("ONNX beside safetensors")
        } else if source::is_data(path) {
            None
        } else if is_code(path) {
            Some("code")
        } else {
            Some("of other kinds")
        };
        if let Some(reason) = reason {
            *selection.left_out.entry(reason).or_default() += 1;
            continue;
        }
        if !names.insert(file.path.to_lowercase()) {
            return Err(malformed(format!(
                "`{}` is there twice but for upper and lower case",
                file.path
            )));
        }
        total = total.saturating_add(file.size);
        selection.files.push(file);
    }
    let limit = limits::READ_BYTES.get();
    if total > limit {
        return Err(FetchError::Total {
            found: total,
            limit,
        });
    }
    let weights = |file: &Remote| safetensors || models.contains(&file.path);
    if pickles > 0 && !kinds.pickles && !selection.files.iter().any(weights) {
        return Err(FetchError::OnlyPickles { count: pickles });
    }
    if selection.files.is_empty() {
        return Err(FetchError::Nothing);
    }
    selection.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(selection)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e == extension)
}

/// Whether the file lies beside an ONNX file and is called as external data are: after it, or `….data`.
fn is_external_data(path: &Path, models: &BTreeSet<String>) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut beside = models.iter().map(Path::new);
    beside.any(|model| {
        let stem = model.file_name().unwrap_or_default().to_string_lossy();
        let after = name
            .strip_prefix(&*stem)
            .is_some_and(|rest| rest.starts_with("_data") || rest.starts_with(".data"));
        model.parent() == path.parent() && (after || has_extension(path, "data"))
    })
}

fn is_code(path: &Path) -> bool {
    const CODE: [&str; 10] = [
        "bat", "dll", "dylib", "exe", "ipynb", "js", "ps1", "py", "sh", "so",
    ];
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| CODE.contains(&e.to_ascii_lowercase().as_str()))
}

/// A path or name for an address: everything but letters, digits and `-._~/` in hex.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// How a number of bytes is written where it may be absent.
pub(super) fn length(text: Option<&str>) -> Option<Result<u64, String>> {
    text.map(|text| text.parse().map_err(|_| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA1: &str = "8ab686eafeb1f44702738c8b0f24f2567c36da6d";

    fn parse(text: &str) -> Result<Vec<Remote>, FetchError> {
        let entries: Vec<Entry> = serde_json::from_str(text).map_err(malformed)?;
        let files: Result<Vec<_>, _> = entries.into_iter().map(remote).collect();
        Ok(files?.into_iter().flatten().collect())
    }

    fn file(path: &str, size: u64) -> Remote {
        Remote {
            path: path.into(),
            size,
            digest: Known::GitBlob(SHA1.into()),
        }
    }

    #[test]
    fn a_listing_is_read_strictly() {
        let sha = "a".repeat(64);
        let text = format!(
            r#"[{{"type":"directory","oid":"x","size":0,"path":"onnx"}},
                {{"type":"file","oid":"{SHA1}","size":5,"path":"config.json"}},
                {{"type":"file","oid":"{SHA1}","size":9,"path":"m.safetensors","lfs":{{"oid":"{sha}","size":9,"pointerSize":134}}}}]"#
        );
        let mut large = file("m.safetensors", 9);
        large.digest = Known::Sha256(sha);
        assert_eq!(parse(&text).unwrap(), [file("config.json", 5), large]);
        for (path, oid) in [
            ("../x", SHA1),
            ("/etc/passwd", SHA1),
            ("a//b", SHA1),
            ("a\\\\b", SHA1),
            ("c:x", SHA1),
            ("a\\u001bb", SHA1),
            ("a\\u202eb", SHA1),
            ("ok.json", "abc"),
            ("ok.json", &SHA1.to_uppercase()),
        ] {
            let text = format!(r#"[{{"type":"file","oid":"{oid}","size":5,"path":"{path}"}}]"#);
            assert!(
                matches!(parse(&text), Err(FetchError::Listing { .. })),
                "{text}"
            );
        }
        let no_size = format!(r#"[{{"type":"file","oid":"{SHA1}","path":"a"}}]"#);
        assert!(parse(&no_size).is_err());
        let link = format!(r#"[{{"type":"symlink","oid":"{SHA1}","size":1,"path":"a"}}]"#);
        assert!(parse(&link).is_err());
    }

    #[test]
    fn only_data_is_selected() {
        let all = [
            "config.json",
            "model.safetensors",
            "1_Pooling/config.json",
            "modeling.py",
            "pytorch_model.bin",
            "onnx/a/b.json",
            ".gitattributes",
            "README.md",
            "run.sh",
        ];
        let all = || all.iter().map(|p| file(p, 1)).collect::<Vec<_>>();
        let paths = |s: &Selection| s.files.iter().map(|f| f.path.clone()).collect::<Vec<_>>();
        let selection = select(all(), Kinds::default()).unwrap();
        assert_eq!(
            paths(&selection),
            ["1_Pooling/config.json", "config.json", "model.safetensors"]
        );
        let expected = [
            ("code", 2),
            ("hidden", 1),
            ("in nested folders", 1),
            ("of other kinds", 1),
            ("pickles", 1),
        ];
        assert_eq!(selection.left_out, expected.into());
        let pickles = Kinds {
            pickles: true,
            onnx: false,
        };
        assert!(paths(&select(all(), pickles).unwrap()).contains(&"pytorch_model.bin".to_owned()));
        let only = || vec![file("config.json", 1), file("pytorch_model.bin", 1)];
        assert_eq!(
            select(only(), Kinds::default()),
            Err(FetchError::OnlyPickles { count: 1 })
        );
        assert_eq!(select(only(), pickles).unwrap().files.len(), 2);
        assert_eq!(
            select(vec![file("a.py", 1)], Kinds::default()),
            Err(FetchError::Nothing)
        );
        let twice = vec![file("A.json", 1), file("a.json", 1)];
        assert!(matches!(
            select(twice, Kinds::default()),
            Err(FetchError::Listing { .. })
        ));
        let huge = vec![file("a.safetensors", u64::MAX), file("b.json", 1)];
        assert!(matches!(
            select(huge, Kinds::default()),
            Err(FetchError::Total { .. })
        ));
    }

    #[test]
    fn onnx_files_are_selected_with_their_external_data() {
        let models = [
            "onnx/model.onnx",
            "onnx/model.onnx_data",
            "onnx/model.onnx_data_1",
            "onnx/weights.data",
        ];
        let mut all: Vec<Remote> = models.iter().map(|p| file(p, 1)).collect();
        all.extend(["pytorch_model.bin", "other.data", "a/b/deep.onnx"].map(|p| file(p, 1)));
        let paths = |s: &Selection| s.files.iter().map(|f| f.path.clone()).collect::<Vec<_>>();
        let selection = select(all.clone(), Kinds::default()).unwrap();
        assert_eq!(paths(&selection), models);
        // Where there are safetensors, ONNX files are copies.
        all.push(file("model.safetensors", 1));
        let selection = select(all.clone(), Kinds::default()).unwrap();
        assert_eq!(paths(&selection), ["model.safetensors"]);
        assert_eq!(selection.left_out["ONNX beside safetensors"], 4);
        let asked = Kinds {
            pickles: false,
            onnx: true,
        };
        assert_eq!(select(all, asked).unwrap().files.len(), 5);
    }

    #[test]
    fn addresses_and_links() {
        assert_eq!(encode("a b/ü?#%.json"), "a%20b/%C3%BC%3F%23%25.json");
        let link = r#"<https://h/api?cursor=1>; rel="prev", <https://h/api?cursor=2>; rel="next""#;
        assert_eq!(next_link(link), Some("https://h/api?cursor=2"));
        assert_eq!(next_link("nonsense"), None);
    }
}
