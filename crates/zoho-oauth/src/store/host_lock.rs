//! Locks between the processes of one machine, which the kernel frees when their holder dies.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
#[cfg(feature = "file")]
use std::time::{Duration, Instant};

use super::CoordinationKey;
use crate::error::{Error, ErrorCode};

/// How many lock files a store spreads its keys over. Two keys on one file wait for each other,
/// which costs time and nothing else. The same in all versions, or two of them would not meet.
const STRIPES: u64 = 64;

/// Between two tries for a lock that another process holds: a write takes about a millisecond.
#[cfg(feature = "file")]
const FIRST_PAUSE: Duration = Duration::from_micros(200);
#[cfg(feature = "file")]
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// "No locks available", which network file systems answer whose lock service does not run.
const ENOLCK: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
    37
} else {
    77
};

/// The folder of side files next to a store's file: `<file>.state`. Nothing is made before
/// [`prepare`](Self::prepare) or the first lock. Lock files are never renamed or deleted.
///
/// The folder and all files in it have the owner, the group and the rights of the group that the
/// store's file has, so that everyone who may write the store can also lock it.
#[derive(Clone, Debug)]
pub(crate) struct LockFolder {
    path: PathBuf,
    /// The store's file.
    of: PathBuf,
}

impl LockFolder {
    /// Names the folder of the store in `file`.
    pub(crate) fn beside(file: &Path) -> Self {
        let mut path = OsString::from(file);
        path.push(".state");
        Self {
            path: path.into(),
            of: file.to_owned(),
        }
    }

    /// Makes the folder if it is missing, and gives it the rights that it is to have.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let is_new = match builder.create(&self.path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        #[cfg(unix)]
        self.share(is_new)?;
        #[cfg(not(unix))]
        let _ = is_new;
        Ok(())
    }

    /// Gives the folder the rights that the group has on the store's file, now: a person may have
    /// changed them. What this process may not change stays as it is.
    #[cfg(unix)]
    fn share(&self, is_new: bool) -> io::Result<()> {
        use std::fs::Permissions;
        use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

        let (like, bits) = match std::fs::metadata(&self.of) {
            Ok(file) => {
                let bits = file.mode() & 0o060;
                (file, bits)
            }
            // The file is about to be created, for its owner alone.
            Err(_) => (std::fs::metadata(parent(&self.path))?, 0),
        };
        // A folder is entered by execution. New files in it get its group.
        let wanted = match bits {
            0 => 0o700,
            bits => 0o2710 | bits,
        };
        let found = std::fs::symlink_metadata(&self.path)?;
        let has_rights = (found.mode() ^ wanted) & (0o777 | (wanted & 0o2000)) == 0;
        if !found.is_dir() || (has_rights && found.gid() == like.gid() && !is_new) {
            return Ok(());
        }
        // Of this very folder, not of what a link leads to that was laid in the meantime: root may
        // work here, in a folder of another user.
        let folder = File::open(&self.path)?;
        let opened = folder.metadata()?;
        if (opened.dev(), opened.ino()) != (found.dev(), found.ino()) {
            return Ok(());
        }
        if is_new {
            give_to_owner(&folder, &like);
        } else {
            let _ = fchown(&folder, None, Some(like.gid()));
        }
        let has_group = folder.metadata()?.gid() == like.gid();
        let wanted = if has_group { wanted } else { 0o700 };
        if folder
            .set_permissions(Permissions::from_mode(wanted))
            .is_err()
            || is_new
        {
            return Ok(());
        }
        let folder = folder.metadata()?;
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            // No link, no other name of another file, and nothing whose opening waits. Temporary files
            // of other processes may go meanwhile.
            let is_ours = |it: &Metadata| it.is_file() && it.nlink() == 1;
            if let Ok(found) = std::fs::symlink_metadata(&path)
                && is_ours(&found)
                && let Ok(file) = File::open(&path)
                && file.metadata()?.ino() == found.ino()
            {
                let _ = fchown(&file, None, Some(folder.gid()));
                let mode = side_mode(&folder);
                let _ = file.set_permissions(Permissions::from_mode(mode));
            }
        }
        Ok(())
    }

    #[cfg(any(test, feature = "file"))]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns where the lock file `name` is.
    pub(crate) fn lock_path(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.lock"))
    }

    /// Says in words who holds the lock `name`, as its holder wrote it down. Takes no lock.
    ///
    /// The kernel gives a lock to a process and to each child that it forks, until the child
    /// executes another program.
    pub(crate) fn holder(&self, name: &str) -> Option<String> {
        let mut text = String::new();
        let file = File::open(self.lock_path(name)).ok()?;
        file.take(64).read_to_string(&mut text).ok()?;
        let process: u32 = text.trim().parse().ok()?;
        Some(format!("process {process} or a child that it forked"))
    }

    /// Says the same of the lock of a refresh, with the file: other tokens may share it.
    pub(crate) fn holder_of(&self, name: &str) -> Option<String> {
        let holder = self.holder(name)?;
        let path = self.lock_path(name);
        Some(format!("{holder}, which holds `{}`", path.display()))
    }

    /// Returns the name, without ending, of the files that serve `key`.
    pub(crate) fn stripe_name(key: &CoordinationKey) -> String {
        format!("refresh-{:02}", key.stripe(STRIPES))
    }

    /// Opens the lock file `name`, which is not locked yet. Makes it, and the folder, if missing.
    fn file(&self, name: &str) -> io::Result<File> {
        self.prepare()?;
        let path = self.lock_path(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let opened = options.open(&path);
        if !matches!(&opened, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            return opened;
        }
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.clone().create_new(true).open(&path) {
            Ok(file) => {
                // Only for a file that is certainly new: an old one could be a link that its owner
                // laid to make root give a file away.
                take_side_rights(&file, &std::fs::metadata(&self.path)?)?;
                Ok(file)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(&path),
            Err(error) => Err(error),
        }
    }

    /// Locks `name` if it is free, without waiting.
    pub(crate) fn try_lock(&self, name: &str) -> io::Result<Option<HeldLock>> {
        let file = self.file(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(HeldLock::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Locks `name`, waiting for its holder until `deadline`; `None` when that has passed.
    ///
    /// Blocks the thread. It tries again and again, since the system's own waiting has no limit.
    #[cfg(feature = "file")]
    pub(crate) fn lock(&self, name: &str, deadline: Instant) -> io::Result<Option<HeldLock>> {
        let file = self.file(name)?;
        let mut pause = FIRST_PAUSE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(HeldLock::new(file))),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // Processes that wait for the same holder should not all wake at the same moment.
            std::thread::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0).min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Says that `path` could not be locked, and if so, that its file system has no locks.
pub(crate) fn cannot_lock(path: &Path, error: io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ErrorCode::StorePermission
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::StoreFull,
        _ => ErrorCode::StoreUnavailable,
    };
    let has_none =
        error.raw_os_error() == Some(ENOLCK) || error.kind() == io::ErrorKind::Unsupported;
    let why = if has_none {
        ": the file system offers no locks (ENOLCK)"
    } else {
        ""
    };
    let message = format!("cannot lock `{}`{why}", path.display());
    Error::new(code, message).caused_by(error)
}

#[cfg(unix)]
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What a file has of the owner and the group that it was to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// Both.
    All,
    /// The group, which each of its members may give.
    Group,
    /// Neither, or the owner without the group.
    Nothing,
}

/// Gives `file` the owner and the group of `like`, where this process has the right: root always has.
pub(crate) fn give_to_owner(file: &File, like: &Metadata) -> Given {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let Ok(own) = file.metadata() else {
            return Given::Nothing;
        };
        let (uid, gid) = (like.uid(), like.gid());
        if (own.uid(), own.gid()) == (uid, gid) || fchown(file, Some(uid), Some(gid)).is_ok() {
            return Given::All;
        }
        if own.gid() == gid || fchown(file, None, Some(gid)).is_ok() {
            return Given::Group;
        }
        Given::Nothing
    }
    #[cfg(not(unix))]
    {
        let _ = (file, like);
        Given::All
    }
}

/// Gives a new file in the side folder `folder` the owner, the group and the group's rights of it.
pub(crate) fn take_side_rights(file: &File, folder: &Metadata) -> io::Result<()> {
    let given = give_to_owner(file, folder);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = match given {
            Given::Nothing => 0o600,
            Given::All | Given::Group => side_mode(folder),
        };
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    #[cfg(not(unix))]
    let _ = given;
    Ok(())
}

#[cfg(unix)]
fn side_mode(folder: &Metadata) -> u32 {
    0o600 | (std::os::unix::fs::MetadataExt::mode(folder) & 0o060)
}

/// A lock that is held until this is dropped, or the process dies.
#[derive(Debug)]
pub(crate) struct HeldLock(File);

impl HeldLock {
    /// Writes down who holds the lock, for [`LockFolder::holder`]. On a full disk it is not known.
    fn new(file: File) -> Self {
        let mut out = &file;
        // Always as long, so that there is no moment in which the file is empty.
        let _ = out
            .rewind()
            .and_then(|()| writeln!(out, "{:<10}", std::process::id()));
        Self(file)
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        // Closing is not enough: a child that was forked meanwhile shares the open file, and the
        // lock with it, until it executes another program.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[test]
    fn a_held_lock_is_not_given_twice_and_comes_back_when_dropped() {
        let place = tempfile::tempdir().unwrap();
        let folder = LockFolder::beside(&place.path().join("tokens"));
        let held = folder.lock("write", soon()).unwrap().unwrap();
        assert!(folder.try_lock("write").unwrap().is_none());
        assert!(folder.lock("write", soon()).unwrap().is_none());
        assert!(folder.try_lock("other").unwrap().is_some());
        drop(held);
        assert!(folder.try_lock("write").unwrap().is_some());
    }

    #[test]
    fn a_waiter_gets_the_lock_when_its_holder_lets_go() {
        let place = tempfile::tempdir().unwrap();
        let folder = LockFolder::beside(&place.path().join("tokens"));
        let held = folder.try_lock("write").unwrap().unwrap();
        std::thread::scope(|scope| {
            let waiter =
                scope.spawn(|| folder.lock("write", Instant::now() + Duration::from_mins(1)));
            drop(held);
            assert!(waiter.join().unwrap().unwrap().is_some());
        });
    }

    #[test]
    fn a_deadline_that_has_passed_still_means_one_try() {
        let place = tempfile::tempdir().unwrap();
        let folder = LockFolder::beside(&place.path().join("tokens"));
        assert!(folder.lock("write", Instant::now()).unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn folder_and_files_have_the_group_rights_of_the_store_and_are_made_again() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("tokens");
        std::fs::write(&file, "").unwrap();
        let folder = LockFolder::beside(&file);
        assert!(!folder.path().exists());
        for again in [false, true] {
            if again {
                std::fs::remove_dir_all(folder.path()).unwrap();
            }
            // The rights of an existing folder follow those of the file.
            for (of_file, of_folder, of_lock) in [
                (0o600, 0o700, 0o600),
                (0o660, 0o770, 0o660),
                (0o640, 0o750, 0o640),
                (0o604, 0o700, 0o600),
            ] {
                std::fs::set_permissions(&file, PermissionsExt::from_mode(of_file)).unwrap();
                drop(folder.try_lock("write").unwrap());
                drop(folder.try_lock(&format!("{of_file}")).unwrap());
                assert_eq!(mode(folder.path()), of_folder, "{of_file:o}");
                for name in ["write", &format!("{of_file}")] {
                    assert_eq!(mode(&folder.lock_path(name)), of_lock, "{of_file:o} {name}");
                }
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_the_folder_changes_no_rights_elsewhere() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let (file, other) = (place.path().join("tokens"), place.path().join("other"));
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o660)).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::set_permissions(&other, PermissionsExt::from_mode(0o711)).unwrap();
        let folder = LockFolder::beside(&file);
        std::os::unix::fs::symlink(&other, folder.path()).unwrap();
        folder.prepare().unwrap();
        let mode = std::fs::metadata(&other).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o711);
    }

    #[test]
    fn the_holder_is_known_to_those_who_wait() {
        let place = tempfile::tempdir().unwrap();
        let folder = LockFolder::beside(&place.path().join("tokens"));
        assert_eq!(folder.holder("write"), None);
        let _held = folder.try_lock("write").unwrap().unwrap();
        let expected = format!("process {} or a child that it forked", std::process::id());
        assert_eq!(folder.holder("write"), Some(expected));
        std::fs::write(folder.lock_path("write"), "no number").unwrap();
        assert_eq!(folder.holder("write"), None);
    }

    #[test]
    fn a_file_system_without_locks_is_called_so() {
        let path = Path::new("/data/tokens.state/write.lock");
        let said = |error: io::Error| {
            let error = cannot_lock(path, error);
            (error.code(), error.message().to_owned())
        };
        let none = "cannot lock `/data/tokens.state/write.lock`: the file system offers no locks \
                    (ENOLCK)";
        for error in [
            io::Error::from_raw_os_error(ENOLCK),
            io::ErrorKind::Unsupported.into(),
        ] {
            assert_eq!(said(error), (ErrorCode::StoreUnavailable, none.to_owned()));
        }
        let denied = said(io::ErrorKind::PermissionDenied.into());
        let plain = "cannot lock `/data/tokens.state/write.lock`".to_owned();
        assert_eq!(denied, (ErrorCode::StorePermission, plain));
    }
}
