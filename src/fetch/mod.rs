//! Downloads the data files of one commit of a Hugging Face compatible hub, and proves that they are those of the commit.
//!
//! Owns everything that talks to a network; not part of a default build. Sizes and digests come from the hub's own list of the commit's
//! files and are compared with every byte that arrives, whoever sent it.

mod download;
mod error;
mod http;
mod listing;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

pub use error::FetchError;
pub use http::{Authorities, Timeouts, Token};

use crate::error::{Context, Result, io_error};
use crate::files::{self, FilesError, Partial};
use crate::source;
use crate::source::hub::{self, Pinned};
use crate::source::lock::{self, Identity};
use http::Client;
use listing::{Remote, Selection};

/// The public hub.
pub const ENDPOINT: &str = "https://huggingface.co";

/// Is told how many more bytes have arrived.
pub type Progress<'a> = &'a dyn Fn(u64);

/// Where the files go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A new folder with the files and a lock.
    Folder(PathBuf),
    /// The cache at this path, in the layout that the hub's clients share.
    Cache(PathBuf),
}

/// What to fetch.
#[derive(Clone, Debug)]
pub struct Request {
    /// Repository and commit.
    pub pinned: Pinned,
    /// Where to.
    pub destination: Destination,
    /// Address of the hub.
    pub endpoint: String,
    /// Sent to the hub, and to nobody else.
    pub token: Option<Token>,
    /// Whose certificates are believed.
    pub authorities: Authorities,
    /// A cache whose files are used if they are right.
    pub cache: Option<PathBuf>,
    /// Fetch pickles as well.
    pub allow_pickle: bool,
    /// Whether ONNX files are fetched where there are safetensors as well.
    pub onnx: bool,
    /// How long servers may take.
    pub timeouts: Timeouts,
    /// How long to wait before another attempt; longer with each that brings nothing.
    pub patience: Duration,
}

impl Request {
    /// A request to the public hub, without a token.
    #[must_use]
    pub fn new(pinned: Pinned, destination: Destination) -> Self {
        Request {
            pinned,
            destination,
            endpoint: ENDPOINT.to_owned(),
            token: None,
            authorities: Authorities::default(),
            cache: None,
            allow_pickle: false,
            onnx: false,
            timeouts: Timeouts::default(),
            patience: download::PATIENCE,
        }
    }
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// Where the files are.
    pub folder: PathBuf,
    /// Size of every file, by path.
    pub files: BTreeMap<String, u64>,
    /// Files that came from the cache, not over the network.
    pub from_cache: usize,
    /// How many files were left out, by the reason.
    pub left_out: BTreeMap<&'static str, usize>,
    /// Whether everything was here already.
    pub already_here: bool,
}

/// Says what a revision means today, and refuses it: always an error, with the pinned name in it.
///
/// # Errors
/// Always; [`FetchError::Resolved`] unless the hub could not be asked.
pub fn refuse_unpinned(
    repo: &str,
    revision: &str,
    endpoint: &str,
    token: Option<Token>,
    authorities: Authorities,
    timeouts: Timeouts,
) -> Result<std::convert::Infallible> {
    hub::check_repo(repo)?;
    let client = Client::new(endpoint, token, authorities, timeouts)?;
    let commit = listing::resolve(&client, repo, revision)?;
    Err(FetchError::Resolved {
        revision: revision.to_owned(),
        pinned: Pinned::new(repo, &commit)?,
    }
    .into())
}

/// Fetches the data files of a commit.
///
/// # Errors
/// When the hub cannot be reached or contradicts itself, when a file is not what the hub's list says, or when something foreign stands at
/// the destination. What has arrived is kept beside the destination and continued by the next call.
pub fn fetch(request: &Request, progress: Progress<'_>) -> Result<Fetched> {
    if let Destination::Folder(folder) = &request.destination
        && folder.symlink_metadata().is_ok()
    {
        return already_here(request, folder);
    }
    let client = Client::new(
        &request.endpoint,
        request.token.clone(),
        request.authorities.clone(),
        request.timeouts,
    )?;
    let commit = request.pinned.commit();
    let beside = match &request.destination {
        Destination::Folder(folder) => folder.clone(),
        Destination::Cache(cache) => request.pinned.snapshot_folder(cache),
    };
    // Before anybody is asked: should the folder be replaced meanwhile, this is the one that was meant.
    let partial = Partial::beside(&beside, &commit[..12])?
        .ok_or(FetchError::Busy)
        .at_file(&beside)?;
    let selection = match selected(&client, request) {
        Ok(selection) => selection,
        Err(error) => {
            partial.remove_if_empty()?;
            return Err(error);
        }
    };
    let from_cache = bring(&client, request, &selection, &partial.path(), progress)?;
    match &request.destination {
        Destination::Folder(folder) => {
            remove_others(&selection, &partial.path())?;
            write_lock(request, &partial.path())?;
            partial.install()?;
            Ok(fetched(folder, selection, from_cache))
        }
        Destination::Cache(cache) => {
            let folder = into_cache(request, cache, &selection, &partial.path())?;
            partial.remove()?;
            Ok(fetched(&folder, selection, from_cache))
        }
    }
}

/// What is to be fetched, by the hub's own word.
fn selected(client: &Client, request: &Request) -> Result<Selection> {
    let commit = request.pinned.commit();
    // Also tells that the commit is one of this repository.
    let found = listing::resolve(client, request.pinned.repo(), commit)?;
    if found != commit {
        return Err(FetchError::Commit {
            expected: commit.to_owned(),
            found,
        }
        .into());
    }
    let files = listing::list(client, request.pinned.repo(), commit)?;
    Ok(listing::select(
        files,
        listing::Kinds {
            pickles: request.allow_pickle,
            onnx: request.onnx,
        },
    )?)
}

fn fetched(folder: &Path, selection: Selection, from_cache: usize) -> Fetched {
    Fetched {
        folder: folder.to_path_buf(),
        files: selection
            .files
            .into_iter()
            .map(|f| (f.path, f.size))
            .collect(),
        from_cache,
        left_out: selection.left_out,
        already_here: false,
    }
}

/// A folder that stands at the destination is fine if its lock says that it is this commit, and holds.
fn already_here(request: &Request, folder: &Path) -> Result<Fetched> {
    let foreign = || FilesError::Exists;
    let locked = lock::of(folder)
        .ok()
        .flatten()
        .ok_or_else(foreign)
        .at_file(folder)?;
    let same = locked.repo.as_deref() == Some(request.pinned.repo())
        && locked.revision.as_deref() == Some(request.pinned.commit());
    // An imported folder comes from the commit, but does not hold its files.
    if !same || source::is_imported(folder) {
        return Err(foreign()).at_file(folder);
    }
    lock::check(folder, &|_| {})?.ok(folder)?;
    Ok(Fetched {
        folder: folder.to_path_buf(),
        files: locked
            .files
            .into_iter()
            .map(|(path, e)| (path, e.size))
            .collect(),
        from_cache: 0,
        left_out: BTreeMap::new(),
        already_here: true,
    })
}

/// Brings every file of the selection into `folder`; gives how many came from the cache.
fn bring(
    client: &Client,
    request: &Request,
    selection: &Selection,
    folder: &Path,
    progress: Progress<'_>,
) -> Result<usize> {
    let mut from_cache = 0;
    for remote in &selection.files {
        let target = folder.join(&remote.path);
        if let Some(parent) = Path::new(&remote.path).parent() {
            files::make_folders(folder, parent)?;
        }
        let mut part = target.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        if target.is_file() {
            if download::is_whole(&target, remote) {
                progress(remote.size);
                continue;
            }
            fs::remove_file(&target).map_err(io_error("remove", &target))?;
        }
        let blob = request.cache.as_ref().map(|cache| {
            let blobs = request.pinned.repo_folder(cache).join("blobs");
            blobs.join(remote.digest.text())
        });
        if let Some(blob) = blob
            && download::from_cache(&blob, remote, &part, &target)?
        {
            from_cache += 1;
            progress(remote.size);
            continue;
        }
        download::file(client, request, remote, &part, &target, progress)?;
    }
    Ok(from_cache)
}

/// Removes what an earlier call has left that asked for more, such as pickles.
fn remove_others(selection: &Selection, folder: &Path) -> Result<()> {
    for path in files::files_below(folder)? {
        let wanted = |f: &Remote| path == folder.join(&f.path);
        if !selection.files.iter().any(wanted) {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

fn write_lock(request: &Request, folder: &Path) -> Result<()> {
    let identity = Identity {
        repo: Some(request.pinned.repo().to_owned()),
        revision: Some(request.pinned.commit().to_owned()),
    };
    lock::write(folder, &identity, &|_| {})?;
    Ok(())
}

/// Moves the files into the cache: bytes under their digests, names as links to them.
fn into_cache(
    request: &Request,
    cache: &Path,
    selection: &Selection,
    from: &Path,
) -> Result<PathBuf> {
    let blobs = request.pinned.repo_folder(cache).join("blobs");
    let snapshot = request.pinned.snapshot_folder(cache);
    fs::create_dir_all(&blobs).map_err(io_error("create the folder", &blobs))?;
    for remote in &selection.files {
        let blob = blobs.join(remote.digest.text());
        if !download::is_whole(&blob, remote) {
            let source = from.join(&remote.path);
            fs::rename(&source, &blob).map_err(io_error("move into the cache", &blob))?;
        }
        let name = snapshot.join(&remote.path);
        if let Some(parent) = name.parent() {
            fs::create_dir_all(parent).map_err(io_error("create the folder", parent))?;
        }
        place(remote, &blob, &name)?;
    }
    Ok(snapshot)
}

/// Makes `name` mean `blob`, unless it does already.
fn place(remote: &Remote, blob: &Path, name: &Path) -> Result<()> {
    if name.symlink_metadata().is_ok() {
        let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
        if same(name, blob) || download::is_whole(name, remote) {
            return Ok(());
        }
        return Err(FilesError::Exists).at_file(name);
    }
    let failed = io_error("write into the cache", name);
    #[cfg(unix)]
    {
        // From snapshots/COMMIT/[FOLDER/]NAME to blobs.
        let up = "../".repeat(2 + remote.path.matches('/').count());
        let link = format!("{up}blobs/{}", remote.digest.text());
        std::os::unix::fs::symlink(link, name).map_err(failed)
    }
    #[cfg(not(unix))]
    {
        fs::copy(blob, name).map(|_| ()).map_err(failed)
    }
}

/// How many bytes a selection has, for a progress bar; 0 when the hub was not asked.
#[must_use]
pub fn total_bytes(fetched: &Fetched) -> u64 {
    fetched.files.values().sum()
}
