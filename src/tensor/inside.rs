//! Opening a file inside a folder, so that what was looked at is what is opened: neither a link nor a race leads out of the folder.
//!
//! One layout has links that lead out by design: a snapshot in a hub's cache, `models--…/snapshots/COMMIT`, whose files are links to files of the
//! same repository in `models--…/blobs`. These are followed, to there and nowhere else.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Opens the regular file `relative` below `base`, for reading.
///
/// # Errors
/// [`ErrorKind::CrossesDevices`] when the path leads out of `base` and of the repository that it is a snapshot of, [`ErrorKind::InvalidInput`]
/// when it is no regular file, and whatever the system says.
pub(super) fn open(base: &Path, relative: &Path) -> io::Result<File> {
    let file = match strictly(base, relative) {
        Err(e) if e.kind() == ErrorKind::CrossesDevices => among_blobs(base, relative),
        opened => opened,
    }?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(ErrorKind::InvalidInput.into())
    }
}

fn strictly(base: &Path, relative: &Path) -> io::Result<File> {
    match beneath(base, relative) {
        Err(e) if is_unsupported(&e) => compared(base, relative),
        opened => opened,
    }
}

/// A folder of a snapshot in a hub's cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// The folder of the repository, which has the files in `blobs`.
    pub repo: PathBuf,
    /// The commit: the name of the snapshot.
    pub commit: String,
    /// The way from the snapshot to the folder.
    pub way: PathBuf,
}

impl Cached {
    /// Recognises `…/models--…/snapshots/COMMIT` and what is below, given as a canonical path.
    #[must_use]
    pub fn of(canonical: &Path) -> Option<Self> {
        canonical.ancestors().find_map(|snapshot| {
            let name = |path: &Path| path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
            let commit = name(snapshot).filter(|commit| Cached::is_commit(commit))?;
            let snapshots = snapshot.parent()?;
            let repo = snapshots.parent()?;
            let is_one = name(snapshots)? == "snapshots" && name(repo)?.starts_with("models--");
            is_one.then(|| Cached {
                repo: repo.to_path_buf(),
                commit,
                way: canonical
                    .strip_prefix(snapshot)
                    .unwrap_or(canonical)
                    .to_path_buf(),
            })
        })
    }

    /// Whether a text is a full commit: 40 lower-case hex digits.
    #[must_use]
    pub fn is_commit(text: &str) -> bool {
        text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// Where its links lead: files named after their digests.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.repo.join("blobs")
    }
}

/// Opens a file of a snapshot: the system sees that it is one of the repository, and what was opened must stand in `blobs`.
fn among_blobs(base: &Path, relative: &Path) -> io::Result<File> {
    let leads_out = || io::Error::from(ErrorKind::CrossesDevices);
    let cached = Cached::of(&base.canonicalize()?).ok_or_else(leads_out)?;
    let way = Path::new("snapshots")
        .join(&cached.commit)
        .join(&cached.way)
        .join(relative);
    let real = cached.repo.join(&way).canonicalize()?;
    if real.parent() != Some(&cached.blobs()) {
        return Err(leads_out());
    }
    let file = strictly(&cached.repo, &way)?;
    match is_same(&file, &real)? {
        true => Ok(file),
        false => Err(leads_out()),
    }
}

/// Opens a regular file, wherever it is, for reading. Whatever stands there, this does not wait.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] when it is a pipe, a device or a folder, and whatever the system says.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let file = at_once(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is no regular file",
        ))
    }
}

#[cfg(unix)]
fn at_once(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    // Opening a pipe would wait for somebody to write to it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

#[cfg(not(unix))]
fn at_once(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// The system itself sees that no step on the way leads out.
#[cfg(target_os = "linux")]
fn beneath(base: &Path, relative: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let folder = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let base = rustix::fs::open(base, folder, Mode::empty())?;
    // A pipe in the place of a file must not make us wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(base, relative, flags, Mode::empty(), resolve)?;
    Ok(file.into())
}

#[cfg(not(target_os = "linux"))]
fn beneath(_: &Path, _: &Path) -> io::Result<File> {
    Err(ErrorKind::Unsupported.into())
}

/// Old kernels do not have the call; containers may forbid it.
fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::io::Errno;
        let codes = [Errno::NOSYS, Errno::PERM];
        if codes
            .iter()
            .any(|c| error.raw_os_error() == Some(c.raw_os_error()))
        {
            return true;
        }
    }
    error.kind() == ErrorKind::Unsupported
}

/// Opens first and looks then: what was opened must be what stands inside the folder.
fn compared(base: &Path, relative: &Path) -> io::Result<File> {
    let path = base.join(relative);
    // Opening a pipe would wait for somebody to write to it.
    if !path.metadata()?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let file = File::open(&path)?;
    let real = path.canonicalize()?;
    if !real.starts_with(base.canonicalize()?) || !is_same(&file, &real)? {
        return Err(ErrorKind::CrossesDevices.into());
    }
    Ok(file)
}

#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (opened, found) = (file.metadata()?, path.symlink_metadata()?);
    Ok((opened.dev(), opened.ino()) == (found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let (opened, found) = (file.metadata()?, path.symlink_metadata()?);
    Ok(opened.len() == found.len() && opened.modified()? == found.modified()?)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    type Open = fn(&Path, &Path) -> io::Result<File>;
    const WAYS: [Open; 2] = [open, compared];

    #[test]
    fn only_regular_files_inside_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        fs::create_dir_all(base.join("sub")).unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        fs::write(base.join("sub/file"), "ours").unwrap();
        symlink("sub/file", base.join("within")).unwrap();
        symlink("../secret", base.join("out")).unwrap();
        symlink(folder.path(), base.join("folder")).unwrap();
        for open in WAYS {
            for good in ["sub/file", "within", "sub/../within"] {
                let mut text = String::new();
                let mut file = open(&base, Path::new(good)).unwrap();
                file.read_to_string(&mut text).unwrap();
                assert_eq!(text, "ours", "{good}");
            }
            for bad in ["out", "folder/secret", "../secret"] {
                let kind = open(&base, Path::new(bad)).unwrap_err().kind();
                assert_eq!(kind, ErrorKind::CrossesDevices, "{bad}");
            }
            let kind = open(&base, Path::new("none")).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::NotFound);
        }
        let kind = open(&base, Path::new("sub")).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::InvalidInput);
    }

    #[test]
    fn links_of_a_snapshot_lead_to_the_files_of_its_repository_only() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().canonicalize().unwrap();
        let repo = cache.join("models--a--b");
        let snapshot = repo.join("snapshots").join("0123456789".repeat(4));
        fs::create_dir_all(snapshot.join("onnx")).unwrap();
        for blobs in [repo.join("blobs"), cache.join("models--c--d/blobs")] {
            fs::create_dir_all(blobs.join("sub")).unwrap();
            fs::write(blobs.join("x"), "ours").unwrap();
            fs::write(blobs.join("sub/x"), "below").unwrap();
        }
        fs::write(cache.join("secret"), "secret").unwrap();
        fs::create_dir(repo.join("refs")).unwrap();
        fs::write(repo.join("refs/main"), "a ref").unwrap();
        symlink("../../blobs/x", snapshot.join("good")).unwrap();
        symlink("../../../blobs/x", snapshot.join("onnx/good")).unwrap();
        let text = |base: &Path| {
            let mut text = String::new();
            open(base, Path::new("good"))
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            text
        };
        assert_eq!(
            [text(&snapshot), text(&snapshot.join("onnx"))],
            ["ours", "ours"]
        );
        symlink("../../blobs/gone", snapshot.join("gone")).unwrap();
        assert_eq!(
            open(&snapshot, Path::new("gone")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        symlink(cache.join("secret"), repo.join("blobs/link")).unwrap();
        for (name, target) in [
            ("another repository", "../../../models--c--d/blobs/x"),
            ("outside", "../../../secret"),
            ("by a second link", "../../blobs/link"),
            ("below blobs", "../../blobs/sub/x"),
            ("beside blobs", "../../refs/main"),
        ] {
            symlink(target, snapshot.join(name)).unwrap();
            let kind = open(&snapshot, Path::new(name)).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::CrossesDevices, "{name}");
        }
        // `blobs` itself leads elsewhere.
        fs::rename(repo.join("blobs"), cache.join("moved")).unwrap();
        symlink("../moved", repo.join("blobs")).unwrap();
        assert!(open(&snapshot, Path::new("good")).is_err());
        // Not a commit, not a cache: no link leads out.
        for (place, target) in [
            ("models--a--b/snapshots/main", "../../blobs/x"),
            ("a/snapshots/0123", "../../../moved/x"),
        ] {
            let base = cache.join(place);
            fs::create_dir_all(&base).unwrap();
            symlink(target, base.join("good")).unwrap();
            let kind = open(&base, Path::new("good")).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::CrossesDevices, "{place}");
        }
    }

    #[test]
    fn a_pipe_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for open in WAYS {
            let kind = open(folder.path(), Path::new("pipe")).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_link_that_changes_all_the_time_never_leads_out() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        fs::create_dir_all(&base).unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        fs::write(base.join("file"), "ours").unwrap();
        let link = base.join("link");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let next = folder.path().join("next");
                for target in ["file", "../secret"].iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    symlink(target, &next).unwrap();
                    fs::rename(&next, &link).unwrap();
                }
            });
            for i in 0..2000 {
                if let Ok(mut file) = WAYS[i % 2](&base, Path::new("link")) {
                    let mut text = String::new();
                    file.read_to_string(&mut text).unwrap();
                    assert_eq!(text, "ours");
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
