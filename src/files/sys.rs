//! A folder that is held open, and what the systems offer for it: everything is done by name inside the open folder, where the system has
//! such calls, so that nothing happens elsewhere when its path is replaced.

#[cfg(not(unix))]
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    reach: PathBuf,
    #[cfg(unix)]
    file: File,
}

impl Folder {
    /// The path it was opened under, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A path that leads to the folder as long as it is open, wherever its own path leads by then. Where the system has none: its own.
    pub(super) fn reach(&self) -> &Path {
        &self.reach
    }
}

/// Whether the system or the file system has no such call.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(unix)]
    let unsupported = {
        use rustix::io::Errno;
        let codes = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP];
        codes
            .iter()
            .any(|c| error.raw_os_error() == Some(c.raw_os_error()))
    };
    #[cfg(not(unix))]
    let unsupported = false;
    unsupported || error.kind() == io::ErrorKind::Unsupported
}

#[cfg(unix)]
mod unix {
    use std::ffi::OsStr;
    use std::fs::{File, Metadata, TryLockError};
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};

    use rustix::fs::{AtFlags, Dir, Mode, OFlags};
    use rustix::io::Errno;

    use super::Folder;

    const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

    impl Folder {
        pub(in super::super) fn open(path: &Path) -> io::Result<Self> {
            let fd = rustix::fs::open(path, FOLDER, Mode::empty())?;
            Ok(Folder::of(path.to_path_buf(), File::from(fd)))
        }

        fn of(path: PathBuf, file: File) -> Self {
            let mut folder = Folder {
                reach: path.clone(),
                path,
                file,
            };
            // Linux only, and only where `/proc` is mounted.
            let open = PathBuf::from(format!("/proc/self/fd/{}", folder.file.as_raw_fd()));
            if same_file(open.metadata(), folder.file.metadata()) {
                folder.reach = open;
            }
            folder
        }

        /// Opens the folder `name` in it; a link is not followed.
        pub(in super::super) fn open_in(&self, name: &OsStr) -> io::Result<Self> {
            let flags = FOLDER | OFlags::NOFOLLOW;
            let fd = rustix::fs::openat(&self.file, name, flags, Mode::empty())?;
            Ok(Folder::of(self.path.join(name), File::from(fd)))
        }

        /// Whether the path still leads to the folder.
        pub(in super::super) fn is_still_there(&self) -> bool {
            same_file(self.path.metadata(), self.file.metadata())
        }

        pub(in super::super) fn make_private(&self, name: &OsStr) -> io::Result<()> {
            Ok(rustix::fs::mkdirat(&self.file, name, Mode::RWXU)?)
        }

        /// Locks the folder `name`, unless it is not there, is not a folder of this user, or another process holds it. The file is kept open
        /// as long as the lock is wanted.
        pub(in super::super) fn lock_if_abandoned(&self, name: &OsStr) -> Option<Option<File>> {
            let fd = rustix::fs::openat(&self.file, name, FOLDER | OFlags::NOFOLLOW, Mode::empty());
            let file = File::from(fd.ok()?);
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return None,
                // A file system without locks: the folder can be used, but never be known as abandoned.
                Err(TryLockError::Error(_)) => return Some(None),
            }
            // It may have been removed between opening and locking.
            let now = rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let locked = rustix::fs::fstat(&file).ok()?;
            let same = (now.st_dev, now.st_ino) == (locked.st_dev, locked.st_ino);
            let ours = now.st_uid == rustix::process::geteuid().as_raw();
            (same && ours).then_some(Some(file))
        }

        /// Keeps other runs out as long as the file is open; `None` where the file system has no locks.
        pub(in super::super) fn lock(&self) -> Option<File> {
            let fd = rustix::fs::openat(&self.file, ".", FOLDER, Mode::empty()).ok()?;
            let file = File::from(fd);
            file.lock().ok().map(|()| file)
        }

        /// Renames inside the folder, unless the new name is taken.
        pub(in super::super) fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
            match self.rename_flags(from, to, Flags::NoReplace) {
                Err(e) if super::is_unsupported(&e) => {
                    // The best that is left: look, then rename.
                    match rustix::fs::statat(&self.file, to, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                        Err(Errno::NOENT) => {
                            Ok(rustix::fs::renameat(&self.file, from, &self.file, to)?)
                        }
                        Err(e) => Err(e.into()),
                    }
                }
                other => other,
            }
        }

        /// Exchanges what two names inside the folder mean, in one step.
        pub(in super::super) fn exchange(&self, from: &Path, to: &OsStr) -> io::Result<()> {
            self.rename_flags(from, Path::new(to), Flags::Exchange)
        }

        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        fn rename_flags(&self, from: &Path, to: &Path, flags: Flags) -> io::Result<()> {
            use rustix::fs::RenameFlags;
            let flags = match flags {
                Flags::NoReplace => RenameFlags::NOREPLACE,
                Flags::Exchange => RenameFlags::EXCHANGE,
            };
            let file = &self.file;
            Ok(rustix::fs::renameat_with(file, from, file, to, flags)?)
        }

        #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
        fn rename_flags(&self, _: &Path, _: &Path, _: Flags) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Makes renames durable, where the system supports it.
        pub(in super::super) fn sync(&self) {
            let _ = self.file.sync_all();
        }

        /// Removes a folder with all that is in it. Links are removed, never followed.
        pub(in super::super) fn remove_tree(&self, name: &OsStr) -> io::Result<()> {
            Ok(remove_tree(&self.file, name)?)
        }
    }

    fn same_file(a: io::Result<Metadata>, b: io::Result<Metadata>) -> bool {
        let ids = |m: Metadata| (m.dev(), m.ino());
        matches!((a.map(ids), b.map(ids)), (Ok(a), Ok(b)) if a == b)
    }

    enum Flags {
        NoReplace,
        Exchange,
    }

    fn remove_tree(parent: impl AsFd, name: &OsStr) -> Result<(), Errno> {
        let flags = FOLDER | OFlags::NOFOLLOW;
        let folder = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e),
        };
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                // A folder: Linux says the first, POSIX the second.
                Err(Errno::ISDIR | Errno::PERM) => remove_tree(&folder, name)?,
                Err(e) => return Err(e),
            }
        }
        rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)
    }
}

#[cfg(not(unix))]
impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        Ok(Folder {
            reach: path.clone(),
            path,
        })
    }

    pub(super) fn open_in(&self, name: &OsStr) -> io::Result<Self> {
        Folder::open(&self.path.join(name))
    }

    pub(super) fn is_still_there(&self) -> bool {
        self.path.is_dir()
    }

    pub(super) fn make_private(&self, name: &OsStr) -> io::Result<()> {
        std::fs::create_dir(self.path.join(name))
    }

    pub(super) fn lock_if_abandoned(&self, _: &OsStr) -> Option<Option<File>> {
        Some(None)
    }

    pub(super) fn lock(&self) -> Option<File> {
        None
    }

    pub(super) fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = self.path.join(to);
        if to.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        std::fs::rename(self.path.join(from), to)
    }

    pub(super) fn exchange(&self, _: &Path, _: &OsStr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn sync(&self) {}

    pub(super) fn remove_tree(&self, name: &OsStr) -> io::Result<()> {
        match std::fs::remove_dir_all(self.path.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}
