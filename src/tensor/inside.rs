//! Opening a file inside a folder, so that what was looked at is what is opened: neither a link nor a race leads out of the folder.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Opens the regular file `relative` below `base`, for reading.
///
/// # Errors
/// [`ErrorKind::CrossesDevices`] when the path leads out of `base`, [`ErrorKind::InvalidInput`] when it is no regular file, and whatever
/// the system says.
pub(super) fn open(base: &Path, relative: &Path) -> io::Result<File> {
    let file = match beneath(base, relative) {
        Err(e) if is_unsupported(&e) => compared(base, relative),
        opened => opened,
    }?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(ErrorKind::InvalidInput.into())
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
