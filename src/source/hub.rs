//! Names of a Hugging Face compatible hub, and the cache folders that its clients share: `models--ORG--NAME/{blobs,refs,snapshots}`.
//!
//! Owns what a pinned name is and where the cache keeps it. Reads only; downloading is not here.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Class, Context, Diagnostic, Result};
use crate::tensor::{Cached, SourceFile};

use super::digest;

/// The code of [`HubError::Unproven`].
pub(super) const UNPROVEN: &str = "unproven_file";

/// What can be wrong with a name of the hub or with its cache.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Not `REPO@COMMIT`.
    #[error("`{found}` is not REPO@COMMIT")]
    Name {
        /// What was given.
        found: String,
    },
    /// Not the name of a repository.
    #[error(
        "`{found}` is not the name of a repository: expected `ORG/NAME` or `NAME` of letters, digits, `-`, `_` and `.`"
    )]
    Repo {
        /// What was given.
        found: String,
    },
    /// A branch or tag where a commit is expected.
    #[error(
        "`{revision}` is a branch, a tag or an abbreviation, which may mean another commit tomorrow: expected 40 lower-case hex digits"
    )]
    Unpinned {
        /// What was given.
        revision: String,
    },
    /// No cache folder is known.
    #[error(
        "no cache folder: none of `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME` and `HOME` is set"
    )]
    NoCache,
    /// The cache has no such snapshot.
    #[error("the cache does not hold `{name}`")]
    NotCached {
        /// The pinned name.
        name: Pinned,
    },
    /// A file of a snapshot that no digest vouches for.
    #[error(
        "the file stands in the snapshot itself and not among the cache's files: nothing tells whether it is the commit's"
    )]
    Unproven,
    /// A file of the cache is not what its name says.
    #[error("the cached file does not match its name: expected {expected}, found {found}")]
    Blob {
        /// The digest in the name.
        expected: String,
        /// The digest of the bytes.
        found: String,
    },
}

impl Diagnostic for HubError {
    fn class(&self) -> Class {
        match self {
            HubError::Name { .. }
            | HubError::Repo { .. }
            | HubError::Unpinned { .. }
            | HubError::NoCache => Class::Usage,
            HubError::NotCached { .. } => Class::Invalid,
            HubError::Blob { .. } | HubError::Unproven => Class::Unsafe,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            HubError::Name { .. } | HubError::Repo { .. } => "bad_repo",
            HubError::Unpinned { .. } => "unpinned_revision",
            HubError::NoCache | HubError::NotCached { .. } => "not_cached",
            HubError::Blob { .. } => "digest_mismatch",
            HubError::Unproven => UNPROVEN,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            HubError::Name { .. } | HubError::Repo { .. } => {
                "for example `openai-community/gpt2@607a30d783dfa663caf39e06633721c8d4cfcd7e`"
                    .into()
            }
            HubError::Unpinned { .. } => {
                "`distill-convert fetch REPO@BRANCH` prints the commit that it means now".into()
            }
            HubError::NoCache => "set `HF_HUB_CACHE` to the cache folder".into(),
            HubError::NotCached { name } => {
                format!("`distill-convert fetch {name} --cache` downloads it")
            }
            HubError::Unproven => {
                "fetch the model again, or, if the file is meant, lock the folder with `distill-convert lock FOLDER`".into()
            }
            HubError::Blob { .. } => "delete the file, and fetch the model again".into(),
        })
    }
}

/// A repository at a commit: a name that means the same bytes for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    repo: String,
    commit: String,
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repo, self.commit)
    }
}

impl Pinned {
    /// Checks both parts.
    ///
    /// # Errors
    /// When `repo` is not the name of a repository, or `commit` is not a full commit.
    pub fn new(repo: &str, commit: &str) -> Result<Self, HubError> {
        check_repo(repo)?;
        if !is_commit(commit) {
            return Err(HubError::Unpinned {
                revision: commit.to_owned(),
            });
        }
        Ok(Pinned {
            repo: repo.to_owned(),
            commit: commit.to_owned(),
        })
    }

    /// Reads `REPO@COMMIT`.
    ///
    /// # Errors
    /// As [`Pinned::new`], and when there is no `@`.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let (repo, commit) = split(text)?;
        Pinned::new(repo, commit)
    }

    /// The repository.
    #[must_use]
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// The commit: 40 lower-case hex digits.
    #[must_use]
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The repository without its owner: what an output is named after.
    #[must_use]
    pub fn model_name(&self) -> &str {
        self.repo.rsplit('/').next().unwrap_or(&self.repo)
    }

    /// Where a cache keeps the repository.
    #[must_use]
    pub fn repo_folder(&self, cache: &Path) -> PathBuf {
        cache.join(format!("models--{}", self.repo.replace('/', "--")))
    }

    /// Where a cache keeps the files of the commit.
    #[must_use]
    pub fn snapshot_folder(&self, cache: &Path) -> PathBuf {
        self.repo_folder(cache).join("snapshots").join(&self.commit)
    }

    /// The folder of the commit in this machine's cache, without any network.
    ///
    /// # Errors
    /// When there is no cache, or it does not hold the commit.
    pub fn cached(&self) -> Result<PathBuf> {
        let folder = self.snapshot_folder(&cache_folder()?);
        if !folder.is_dir() {
            return Err(HubError::NotCached { name: self.clone() }).at_file(&folder);
        }
        Ok(folder)
    }
}

/// The two parts of `REPO@REVISION`.
///
/// # Errors
/// When one is missing.
pub fn split(text: &str) -> Result<(&str, &str), HubError> {
    let parts = text.rsplit_once('@');
    parts
        .filter(|(repo, revision)| !repo.is_empty() && !revision.is_empty())
        .ok_or_else(|| HubError::Name {
            found: text.to_owned(),
        })
}

/// Refuses what cannot be the name of a repository; what is left is safe in a path and in an address.
///
/// # Errors
/// When it is not `ORG/NAME` or `NAME`.
pub fn check_repo(repo: &str) -> Result<(), HubError> {
    let plain = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !part.starts_with(['.', '-'])
            && !part.ends_with(['.', '-'])
            && !part.contains("..")
            // Two dashes separate owner and name in the cache.
            && !part.contains("--")
    };
    let parts: Vec<&str> = repo.split('/').collect();
    if parts.len() <= 2 && parts.iter().all(|part| plain(part)) {
        return Ok(());
    }
    Err(HubError::Repo {
        found: repo.to_owned(),
    })
}

/// Whether a text is a full commit: 40 lower-case hex digits.
#[must_use]
pub fn is_commit(text: &str) -> bool {
    Cached::is_commit(text)
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The cache folder of this machine: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `huggingface/hub` in the user's cache folder.
///
/// # Errors
/// When none of them is known.
pub fn cache_folder() -> Result<PathBuf, HubError> {
    cache_folder_in(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
}

fn cache_folder_in(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, HubError> {
    let folder = |name: &str| variable(name).map(PathBuf::from);
    folder("HF_HUB_CACHE")
        .or_else(|| folder("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/huggingface/hub")))
        .ok_or(HubError::NoCache)
}

/// Repository and commit, if a folder is a snapshot in a cache.
#[must_use]
pub fn of_snapshot(folder: &Path) -> Option<Pinned> {
    let snapshot = Snapshot::of(&folder.canonicalize().ok()?)?;
    Pinned::new(&snapshot.repo, &snapshot.commit).ok()
}

/// What is known about a folder because it stands in a cache.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Where the snapshot's links lead: files named after their digests.
    blobs: PathBuf,
    pub(super) repo: String,
    pub(super) commit: String,
}

impl Snapshot {
    /// Recognises `…/models--ORG--NAME/snapshots/COMMIT`, given as a canonical path.
    pub(super) fn of(canonical: &Path) -> Option<Self> {
        let cached = Cached::of(canonical).filter(|cached| cached.way.as_os_str().is_empty())?;
        let name = cached.repo.file_name()?.to_str()?;
        Some(Snapshot {
            blobs: cached.blobs(),
            repo: name.strip_prefix("models--")?.replace("--", "/"),
            commit: cached.commit,
        })
    }

    /// Whether a link of the snapshot may lead to `target` (canonical): a file directly in `blobs`.
    pub(super) fn holds(&self, target: &Path) -> bool {
        target.parent() == Some(&self.blobs)
    }

    /// Looks for a file of the snapshot that is no link among the files of the cache, by its digests: systems without links keep copies. Gives
    /// its SHA-256.
    pub(super) fn check_copy(&self, file: &SourceFile) -> Result<String> {
        let sha256 = digest::sha256(file, &|_| {})?;
        let known = self.blobs.join(&sha256).is_file()
            || self.blobs.join(digest::git_blob(file)?).is_file();
        if known {
            return Ok(sha256);
        }
        Err(HubError::Unproven).at_file(file.path())
    }

    /// Compares a file of `blobs` with the digest that is its name: SHA-256 of large files, Git's object name of small ones. Gives the
    /// SHA-256 if it was computed.
    pub(super) fn check(&self, target: &Path, file: &SourceFile) -> Result<Option<String>> {
        let name = target
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        let (found, sha256) = if is_hex(name, 64) {
            let found = digest::sha256(file, &|_| {})?;
            (found.clone(), Some(found))
        } else {
            (digest::git_blob(file)?, None)
        };
        if found != name {
            let expected = name.to_owned();
            return Err(HubError::Blob { expected, found }).at_file(file.path());
        }
        Ok(sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "607a30d783dfa663caf39e06633721c8d4cfcd7e";

    #[test]
    fn only_a_repository_at_a_full_commit_is_pinned() {
        let good = Pinned::parse(&format!("openai-community/gpt2@{COMMIT}")).unwrap();
        assert_eq!(
            (good.repo(), good.commit()),
            ("openai-community/gpt2", COMMIT)
        );
        assert_eq!(good.model_name(), "gpt2");
        assert_eq!(
            good.snapshot_folder(Path::new("c")),
            Path::new("c/models--openai-community--gpt2/snapshots").join(COMMIT)
        );
        for revision in [
            "main",
            "607a30d",
            "v1.0",
            &COMMIT.to_uppercase(),
            "refs/pr/1",
        ] {
            let expected = HubError::Unpinned {
                revision: revision.into(),
            };
            assert_eq!(Pinned::parse(&format!("gpt2@{revision}")), Err(expected));
        }
        for name in ["gpt2", "gpt2@", "@main", ""] {
            assert_eq!(
                Pinned::parse(name),
                Err(HubError::Name { found: name.into() })
            );
        }
        for repo in [
            "../x", "a/b/c", "a//b", "/a", "a b", "a--b", ".a", "a/..", "a?b", "a#b", "a%2fb", "é",
            "-a",
        ] {
            let expected = HubError::Repo { found: repo.into() };
            assert_eq!(
                Pinned::parse(&format!("{repo}@{COMMIT}")),
                Err(expected),
                "{repo}"
            );
        }
    }

    #[test]
    fn the_cache_is_where_the_hub_s_clients_keep_it() {
        let with = |set: &[(&str, &str)]| {
            let set: Vec<(String, OsString)> = set
                .iter()
                .map(|(k, v)| ((*k).to_owned(), v.into()))
                .collect();
            cache_folder_in(|name| set.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
        };
        let all = [
            ("HF_HUB_CACHE", "a"),
            ("HF_HOME", "b"),
            ("XDG_CACHE_HOME", "c"),
            ("HOME", "d"),
        ];
        let expected = [
            "a",
            "b/hub",
            "c/huggingface/hub",
            "d/.cache/huggingface/hub",
        ];
        for (i, path) in expected.iter().enumerate() {
            assert_eq!(with(&all[i..]), Ok(PathBuf::from(path)));
        }
        assert_eq!(with(&[]), Err(HubError::NoCache));
    }

    #[test]
    fn a_snapshot_is_known_by_its_place() {
        let snapshot = Snapshot::of(&Path::new("/c/models--a--b/snapshots").join(COMMIT)).unwrap();
        let found = (snapshot.repo.as_str(), snapshot.commit.as_str());
        assert_eq!(found, ("a/b", COMMIT));
        assert!(snapshot.holds(Path::new("/c/models--a--b/blobs/x")));
        for outside in [
            "/c/models--a--c/blobs/x",
            "/c/models--a--b/x",
            "/c/models--a--b/blobs/x/y",
            "/etc/passwd",
        ] {
            assert!(!snapshot.holds(Path::new(outside)));
        }
        for other in [
            "/c/models--a--b/snapshots/main",
            "/c/a/snapshots/",
            "/c/models--a--b/x/",
        ] {
            assert!(
                Snapshot::of(&Path::new(other).join(if other.ends_with("main") {
                    ""
                } else {
                    COMMIT
                }))
                .is_none()
            );
        }
    }
}
