//! Files and folders that appear whole or not at all: written in a private folder beside their destination, then renamed. Small files
//! are synced before; whether large ones are is up to who fills the folder.
//!
//! Owns the private folders (mode 0700), their removal at the end, at an interrupt and after a kill, and the renames. Nothing that this
//! program did not write is replaced, not even when it appears at the last moment; no link is followed at a destination; and all of it
//! happens in the folder that was opened first, even if its path then leads elsewhere.

mod apart;
mod sys;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Class, Context, Diagnostic, PRIVATE as PREFIX, Result, io_error};
pub use apart::{Named, keep_apart};
use sys::Folder;

/// The name under which an output leaves that cannot be exchanged in one step.
const REPLACED: &str = ".replaced";

/// Private folders that exist now, so that an interrupted process can remove them. Held while outputs are renamed, so that an interrupt
/// falls before or after that, never between two files of one output.
static OPEN: Mutex<BTreeMap<OsString, Registered>> = Mutex::new(BTreeMap::new());

/// What is removed together with a private folder.
struct Registered {
    parent: Arc<Folder>,
    /// Folders that were made for it, the innermost first.
    made: Vec<Made>,
}

/// A folder that was made for an output, and goes again if no output comes.
struct Made {
    path: PathBuf,
    identity: Option<Identity>,
}

impl Made {
    /// Makes the folder of `destination` and those around it, as far as they are not there.
    fn parents_of(destination: &Path) -> Result<Vec<Made>> {
        let mut missing = Vec::new();
        let mut at = destination.parent();
        while let Some(folder) = at.filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
            missing.push(folder);
            at = folder.parent();
        }
        let mut made = Vec::new();
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Ok(()) => made.insert(
                    0,
                    Made {
                        path: folder.to_path_buf(),
                        identity: identity(folder),
                    },
                ),
                // Another run was faster: it is that one's.
                Err(e) if e.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
                Err(e) => {
                    Made::remove_empty(&made);
                    return Err(io_error("create the output folder", folder)(e));
                }
            }
        }
        Ok(made)
    }

    /// Removes those that hold nothing. What came in their place is left alone.
    fn remove_empty(made: &[Made]) {
        for folder in made {
            if folder.identity.is_none() || identity(&folder.path) != folder.identity {
                return;
            }
            // One that is not empty is wanted.
            if fs::remove_dir(&folder.path).is_err() {
                return;
            }
        }
    }
}

/// Set once the process is being interrupted.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn open_folders() -> MutexGuard<'static, BTreeMap<OsString, Registered>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what is under way. For a signal handler, right before the process ends: from now on, no output can appear any more.
pub fn remove_unfinished() {
    INTERRUPTED.store(true, Ordering::SeqCst);
    let open = open_folders();
    for (name, registered) in open.iter() {
        // Another thread may just be making a file in it. Nothing more can be done about a folder that cannot be removed.
        for _ in 0..100 {
            if registered.parent.remove_tree(name).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Made::remove_empty(&registered.made);
    }
    // Kept until the process ends.
    std::mem::forget(open);
}

/// Whether [`remove_unfinished`] was called: errors from now on are its consequence.
#[must_use]
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Why an output was not put in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// Something stands at the destination that this program did not make.
    #[error("the output exists, and is or holds what distill-convert did not write")]
    Exists,
    /// The path of the output's folder leads to another folder than at the start.
    #[error("the output's folder was moved or replaced meanwhile; nothing was written")]
    Moved,
    /// A destination without a name.
    #[error("the output has no file name")]
    NoName,
    /// An output in the place of something that is read, or of another output.
    #[error("{one} and {other} name the same place, or one stands inside the other")]
    Meet {
        /// The flag of the output.
        one: String,
        /// The flag or argument of the other.
        other: String,
    },
}

impl Diagnostic for FilesError {
    fn class(&self) -> Class {
        match self {
            FilesError::Exists | FilesError::NoName | FilesError::Meet { .. } => Class::Usage,
            FilesError::Moved => Class::Unsafe,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            FilesError::Exists => "output_exists",
            FilesError::Moved => "output_moved",
            FilesError::NoName => "bad_output",
            FilesError::Meet { .. } => "outputs_meet",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(
            match self {
                FilesError::Exists => "name another output with `-o`, or move what is there",
                FilesError::Moved => "use a folder that nobody else writes to",
                FilesError::NoName => "name a file with `-o`",
                FilesError::Meet { .. } => "name a place of its own for each; nothing was written",
            }
            .into(),
        )
    }
}

/// A private folder beside a destination, removed in the end together with all that was not installed from it.
#[derive(Debug)]
pub struct Private {
    parent: Arc<Folder>,
    name: OsString,
    folder: Folder,
    /// Locked as long as the process lives: tells an abandoned folder from one that is in use.
    _lock: Option<File>,
}

impl Private {
    /// Makes the folder beside `destination`. Also removes what killed runs have left there; what it has to say
    /// about that is added to `notes`.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn beside(destination: &Path, notes: &mut Vec<String>) -> Result<Self> {
        Private::make(destination, Vec::new(), notes)
    }

    /// As [`Private::beside`]; the folder of the destination is made if it is not there, and removed again if nothing comes into it.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn in_new_folder(destination: &Path, notes: &mut Vec<String>) -> Result<Self> {
        if destination.file_name().is_none() {
            return Err(FilesError::NoName).at_file(destination);
        }
        Private::make(destination, Made::parents_of(destination)?, notes)
    }

    /// A folder among the temporary files of the system, for what is gone when the process ends.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn temporary() -> Result<Self> {
        Private::beside(&std::env::temp_dir().join("temporary"), &mut Vec::new())
    }

    fn make(destination: &Path, made: Vec<Made>, notes: &mut Vec<String>) -> Result<Self> {
        // What was made for it goes with it when it cannot be made.
        let mut made = Some(made);
        let private = Private::make_in(destination, &mut made, notes);
        if let Some(made) = made {
            Made::remove_empty(&made);
        }
        private
    }

    fn make_in(
        destination: &Path,
        made: &mut Option<Vec<Made>>,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        if destination.file_name().is_none() {
            return Err(FilesError::NoName).at_file(destination);
        }
        let parent = match destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let failed = || io_error("write into the output folder", parent);
        let folder = Arc::new(Folder::open(parent).map_err(failed())?);
        sweep(&folder, notes);
        for _ in 0..100 {
            let random = std::hash::RandomState::new().build_hasher().finish();
            let name = OsString::from(format!("{PREFIX}{random:016x}"));
            // The registry first: an interrupt in between finds nothing to remove, and that is fine.
            let mut open = open_folders();
            match folder.make_private(&name) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(failed()(e)),
            }
            // Somebody else's sweep may have come in between making and locking; then this name is given up.
            let Some(lock) = folder.lock_if_abandoned(&name) else {
                continue;
            };
            let registered = Registered {
                parent: Arc::clone(&folder),
                made: made.take().unwrap_or_default(),
            };
            open.insert(name.clone(), registered);
            drop(open);
            let inside = folder.open_in(&name).map_err(failed());
            let inside = inside.inspect_err(|_| forget(&folder, &name))?;
            return Ok(Private {
                parent: folder,
                name,
                folder: inside,
                _lock: lock,
            });
        }
        Err(failed()(ErrorKind::AlreadyExists.into()))
    }

    /// Where to write into it. On Linux this is the folder that is held open, under its number: what is written by this path lands in it even
    /// when the output's folder was moved away and a link put in its place.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.reach().to_path_buf()
    }

    /// Moves these entries of the private folder into the folder around it, in this order. Each replaces only what `is_ours` recognises.
    /// The last is the one that the others belong to: it is taken away before they are replaced, so that at no moment an old one stands
    /// beside something new.
    ///
    /// # Errors
    /// When something foreign stands there, the folder was replaced by another, or the system refuses; then all is put back.
    pub fn install(&self, entries: &[OsString], is_ours: impl Fn(&Path) -> bool) -> Result<()> {
        let _open = open_folders();
        if !self.parent.is_still_there() {
            return Err(FilesError::Moved).at_file(self.parent.path());
        }
        // Other runs for the same place wait, so that the files of two are not mixed. One file alone cannot be.
        let _turn = (entries.len() > 1).then(|| self.parent.lock());
        let mut approved = Vec::new();
        for entry in entries {
            approved.push(self.approve(entry, &is_ours)?);
        }
        let old_main = match (entries, approved.as_slice()) {
            ([_, .., main], [.., Some(id)]) => {
                self.take_away(main, *id)?;
                Some(main)
            }
            _ => None,
        };
        for (i, entry) in entries.iter().enumerate() {
            let here = approved[i].filter(|_| old_main != Some(entry));
            if let Err(error) = self.install_one(entry, here) {
                for entry in entries[..i].iter().rev() {
                    self.put_back(entry);
                }
                if let Some(main) = old_main {
                    let old = Path::new(&self.name).join(REPLACED).join(main);
                    // There is nobody left to tell if this fails as well.
                    let _ = self.parent.rename_new(&old, Path::new(main));
                }
                return Err(error);
            }
        }
        self.parent.sync();
        Ok(())
    }

    /// Removes what stands in the place of an entry that will not be made. Tells whether anything did.
    fn clear(&self, entry: &OsStr, is_ours: impl Fn(&Path) -> bool) -> Result<bool> {
        let _open = open_folders();
        if !self.parent.is_still_there() {
            return Err(FilesError::Moved).at_file(self.parent.path());
        }
        let Some(approved) = self.approve(entry, &is_ours)? else {
            return Ok(false);
        };
        self.take_away(entry, approved)?;
        self.parent.sync();
        Ok(true)
    }

    /// Looks at what stands in an entry's place: `None` when nothing does, its identity when it is ours.
    fn approve(&self, entry: &OsStr, is_ours: &impl Fn(&Path) -> bool) -> Result<Option<Identity>> {
        let to = self.parent.reach().join(entry);
        let Some(id) = identity(&to) else {
            return Ok(None);
        };
        refuse_foreign(&to, is_ours)?;
        Ok(Some(id))
    }

    /// Moves an old output of ours out of the way.
    fn take_away(&self, entry: &OsStr, approved: Identity) -> Result<()> {
        let from = self.parent.path().join(entry);
        let failed = || io_error("replace", &from);
        fs::create_dir(self.path().join(REPLACED)).map_err(failed())?;
        let old = Path::new(&self.name).join(REPLACED).join(entry);
        self.parent
            .rename_new(Path::new(entry), &old)
            .map_err(failed())?;
        // What came may not be what stood there when it was looked at.
        if identity(&self.parent.reach().join(&old)) != Some(approved) {
            self.parent
                .rename_new(&old, Path::new(entry))
                .map_err(failed())?;
            return Err(FilesError::Exists).at_file(&from);
        }
        Ok(())
    }

    /// Undoes [`Private::install_one`].
    fn put_back(&self, entry: &OsStr) {
        let inside = Path::new(&self.name).join(entry);
        // There is nobody left to tell if one of these fails as well.
        let _ = match self.path().join(entry).symlink_metadata() {
            Ok(_) => self.parent.exchange(&inside, entry),
            Err(_) => self.parent.rename_new(Path::new(entry), &inside),
        };
    }

    fn install_one(&self, entry: &OsStr, approved: Option<Identity>) -> Result<()> {
        let to = self.parent.path().join(entry);
        let failed = || io_error("move the finished output to", &to);
        let from = Path::new(&self.name).join(entry);
        match self.parent.rename_new(&from, Path::new(entry)) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed()(e)),
        }
        let Some(approved) = approved else {
            return Err(FilesError::Exists).at_file(&to);
        };
        match self.parent.exchange(&from, entry) {
            Ok(()) => {}
            Err(e) if sys::is_unsupported(&e) => return self.replace(entry).map_err(failed()),
            Err(e) => return Err(failed()(e)),
        }
        // What came out in exchange may not be what stood there when it was looked at.
        if identity(&self.path().join(entry)) != Some(approved) {
            self.parent.exchange(&from, entry).map_err(failed())?;
            return Err(FilesError::Exists).at_file(&to);
        }
        Ok(())
    }

    /// Replaces an output of ours where the system cannot exchange two names in one step.
    fn replace(&self, entry: &OsStr) -> std::io::Result<()> {
        let to = self.parent.reach().join(entry);
        if to.is_dir() {
            // A folder cannot be replaced by a rename; the old one leaves through the private folder.
            fs::create_dir(self.path().join(REPLACED))?;
            fs::rename(&to, self.path().join(REPLACED).join(entry))?;
        }
        fs::rename(self.path().join(entry), &to)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        forget(&self.parent, &self.name);
    }
}

/// Removes a private folder.
fn forget(parent: &Folder, name: &OsStr) {
    let mut open = open_folders();
    // A folder that cannot be removed is removed by the next run.
    let _ = parent.remove_tree(name);
    if let Some(registered) = open.remove(name) {
        Made::remove_empty(&registered.made);
    }
}

/// A private folder that outlives its process, so that what took long to bring can be continued. It has a fixed name, and one user at a time.
#[derive(Debug)]
pub struct Partial {
    parent: Folder,
    name: OsString,
    folder: Folder,
    to: OsString,
    _lock: Option<File>,
}

impl Partial {
    /// Makes or finds the folder beside `destination`; `None` when another process has it. `id` tells apart what must not be mixed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn beside(destination: &Path, id: &str) -> Result<Option<Self>> {
        let to = destination.file_name().ok_or(FilesError::NoName);
        let to = to.at_file(destination)?.to_owned();
        let parent = match destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(io_error("create the output folder", parent))?;
        let failed = || io_error("write into the output folder", parent);
        let folder = Folder::open(parent).map_err(failed())?;
        let mut name = OsString::from(".");
        name.push(&to);
        name.push(format!(".{id}.partial"));
        match folder.make_private(&name) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed()(e)),
            Ok(()) | Err(_) => {}
        }
        let Some(lock) = folder.lock_if_abandoned(&name) else {
            return Ok(None);
        };
        Ok(Some(Partial {
            folder: folder.open_in(&name).map_err(failed())?,
            parent: folder,
            name,
            to,
            _lock: lock,
        }))
    }

    /// Where to write into it; see [`Private::path`].
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.reach().to_path_buf()
    }

    /// The folder becomes the destination, which must not exist.
    ///
    /// # Errors
    /// When something stands there, or the system refuses.
    pub fn install(self) -> Result<()> {
        sync_tree(&self.path())?;
        let _open = open_folders();
        let to = self.parent.path().join(&self.to);
        if !self.parent.is_still_there() {
            return Err(FilesError::Moved).at_file(self.parent.path());
        }
        match self
            .parent
            .rename_new(Path::new(&self.name), Path::new(&self.to))
        {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                return Err(FilesError::Exists).at_file(&to);
            }
            Err(e) => return Err(io_error("move the finished output to", &to)(e)),
        }
        self.parent.sync();
        Ok(())
    }

    /// Removes the folder if nothing was put into it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove_if_empty(self) -> Result<()> {
        let path = self.path();
        let mut entries = fs::read_dir(&path).map_err(io_error("read", &path))?;
        match entries.next() {
            None => self.remove(),
            Some(_) => Ok(()),
        }
    }

    /// Removes the folder.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(self) -> Result<()> {
        let path = self.folder.path();
        self.parent
            .remove_tree(&self.name)
            .map_err(io_error("remove", path))
    }
}

/// What tells one file or folder from another, whatever its name.
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    let metadata = path.symlink_metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<Identity> {
    let metadata = path.symlink_metadata().ok()?;
    let made = metadata.created().ok()?;
    let since = made.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((metadata.len(), u64::try_from(since.as_nanos()).ok()?))
}

/// Refuses a destination where something stands that this program did not make. Links are never followed, and never ours.
///
/// # Errors
/// When something foreign stands there.
pub fn refuse_foreign(path: &Path, is_ours: impl Fn(&Path) -> bool) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(metadata) if !metadata.is_symlink() && is_ours(path) => Ok(()),
        // Another run has taken it away meanwhile.
        Ok(_) if path.symlink_metadata().is_err() => Ok(()),
        Ok(_) => Err(FilesError::Exists).at_file(path),
    }
}

/// Makes the folders of `relative` below `base`, one by one. `base` itself must be there: should its path lead elsewhere by now, nothing
/// is made of it there.
///
/// # Errors
/// When a folder cannot be made.
pub fn make_folders(base: &Path, relative: &Path) -> Result<()> {
    let mut path = base.to_path_buf();
    for component in relative.components() {
        path.push(component);
        match fs::create_dir(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made.map_err(io_error("create the folder", &path))?,
        }
    }
    Ok(())
}

/// The place of one file that is yet to be made. It is taken before the work begins whose result it will hold, so that the file appears in
/// the folder that was there then, or nowhere.
#[derive(Debug)]
pub struct Place {
    private: Private,
    path: PathBuf,
    name: OsString,
}

impl Place {
    /// Takes the place at `path`, in a folder that exists.
    ///
    /// # Errors
    /// When something stands there that `is_ours` does not recognise, or the folder cannot be written to.
    pub fn at(path: &Path, is_ours: impl Fn(&Path) -> bool) -> Result<Self> {
        Place::made(path, is_ours, Private::beside)
    }

    /// As [`Place::at`]; the folder is made if it is not there.
    ///
    /// # Errors
    /// As [`Place::at`], and when the folder cannot be made.
    pub fn in_new_folder(path: &Path, is_ours: impl Fn(&Path) -> bool) -> Result<Self> {
        Place::made(path, is_ours, Private::in_new_folder)
    }

    fn made(
        path: &Path,
        is_ours: impl Fn(&Path) -> bool,
        make: fn(&Path, &mut Vec<String>) -> Result<Private>,
    ) -> Result<Self> {
        let name = path.file_name().ok_or(FilesError::NoName).at_file(path)?;
        refuse_foreign(path, is_ours)?;
        Ok(Place {
            private: make(path, &mut Vec::new())?,
            path: path.to_path_buf(),
            name: name.to_owned(),
        })
    }

    /// Where the file will stand.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file and moves it to its place; what stands there is replaced if `is_ours` recognises it.
    ///
    /// # Errors
    /// When something foreign stands there, or the file cannot be written.
    pub fn fill(
        self,
        is_ours: impl Fn(&Path) -> bool,
        write: impl FnOnce(&mut File) -> Result<()>,
    ) -> Result<()> {
        let mut file = File::create_new(self.private.path().join(&self.name))
            .map_err(io_error("create a file beside", &self.path))?;
        write(&mut file)?;
        file.sync_all().map_err(io_error("write", &self.path))?;
        drop(file);
        self.private.install(&[self.name], is_ours)
    }

    /// Leaves the place empty, since there is nothing to put there: what stands there, which would pass for the result, is removed if
    /// `is_ours` recognises it. Tells whether anything did.
    ///
    /// # Errors
    /// When something foreign stands there, or the system refuses.
    pub fn clear(self, is_ours: impl Fn(&Path) -> bool) -> Result<bool> {
        self.private.clear(&self.name, is_ours)
    }

    /// As [`Place::fill`], with these bytes.
    ///
    /// # Errors
    /// As [`Place::fill`].
    pub fn write(self, bytes: &[u8], is_ours: impl Fn(&Path) -> bool) -> Result<()> {
        let path = self.path.clone();
        self.fill(is_ours, |file| {
            file.write_all(bytes).map_err(io_error("write", &path))
        })
    }
}

/// Writes one file whole or not at all; what stands there is replaced if `is_ours` recognises it.
///
/// # Errors
/// When something foreign stands there, or the file cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8], is_ours: impl Fn(&Path) -> bool) -> Result<()> {
    Place::at(path, &is_ours)?.write(bytes, is_ours)
}

/// Every file below `path`, which may itself be a link to a folder; links in it are not followed. A file stands for itself.
///
/// # Errors
/// When a folder cannot be listed.
pub fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![path.to_path_buf()];
    if !path.metadata().map_err(io_error("read", path))?.is_dir() {
        return Ok(open);
    }
    while let Some(folder) = open.pop() {
        let failed = || io_error("list", &folder);
        for entry in fs::read_dir(&folder).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if entry.file_type().map_err(failed())?.is_dir() {
                open.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

/// Brings every file below `path` to the disk.
///
/// # Errors
/// When one cannot be opened or synced.
pub fn sync_tree(path: &Path) -> Result<()> {
    for path in files_below(path)? {
        File::open(&path)
            .and_then(|file| file.sync_data())
            .map_err(io_error("sync", &path))?;
    }
    Ok(())
}

/// Removes private folders that a killed run has left: those of this user which no process holds locked.
fn sweep(parent: &Folder, notes: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(parent.reach()) else {
        return;
    };
    let names = entries.filter_map(|e| e.ok()).map(|e| e.file_name());
    let mut left: Vec<OsString> = names
        .filter(|name| {
            let text = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            text.is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
        })
        .collect();
    left.sort();
    for name in left {
        let _open = open_folders();
        let Some(Some(_lock)) = parent.lock_if_abandoned(&name) else {
            continue;
        };
        let path = parent.path().join(&name);
        let shown = crate::error::escape_name(&path.display().to_string());
        let replaced = parent.reach().join(&name).join(REPLACED).read_dir();
        if replaced.is_ok_and(|mut entries| entries.next().is_some()) {
            notes.push(format!(
                "`{shown}` holds an output that was being replaced when a run was killed; it was left as it is"
            ));
        } else if parent.remove_tree(&name).is_ok() {
            notes.push(format!("removed `{shown}`, which a killed run had left"));
        }
    }
}

#[cfg(test)]
mod tests;
