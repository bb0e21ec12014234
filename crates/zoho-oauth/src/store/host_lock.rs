//! Locks between the processes of one machine, which the kernel frees when their holder dies.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
#[cfg(feature = "file")]
use std::path::Path;
use std::path::PathBuf;
#[cfg(feature = "file")]
use std::time::{Duration, Instant};

use super::CoordinationKey;

/// How many lock files a store spreads its keys over. Two keys on one file wait for each other,
/// which costs time and nothing else. The same in all versions, or two of them would not meet.
const STRIPES: u64 = 64;

/// Between two tries for a lock that somebody else holds: a write takes about a millisecond.
#[cfg(feature = "file")]
const FIRST_PAUSE: Duration = Duration::from_micros(200);
#[cfg(feature = "file")]
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// A folder of lock files beside a store. The files are never renamed or deleted.
#[derive(Clone, Debug)]
pub(crate) struct LockFolder {
    path: PathBuf,
}

impl LockFolder {
    /// Uses, and makes if it is missing, the folder at `path`, readable by its owner alone.
    #[cfg(test)]
    pub(crate) fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = Self::at(path);
        folder.create()?;
        Ok(folder)
    }

    /// Names the folder at `path`; nothing is made before [`create`](Self::create) or a lock.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Makes the folder if it is missing.
    pub(crate) fn create(&self) -> io::Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.path)
    }

    /// [`create`](Self::create) for the store whose file `of` describes. Answers whether the folder
    /// is new; it then belongs to the owner of that file, if this process may give it away.
    pub(crate) fn create_beside(&self, of: Option<&Metadata>) -> io::Result<bool> {
        let is_new = !self.path.exists();
        self.create()?;
        #[cfg(unix)]
        if let Some(of) = of.filter(|_| is_new) {
            use std::os::unix::fs::{MetadataExt, lchown};
            // Of use to root alone, whose folder would lock the file's owner out. Not through a
            // link that somebody laid in the meantime.
            let _ = lchown(&self.path, Some(of.uid()), Some(of.gid()));
        }
        #[cfg(not(unix))]
        let _ = of;
        Ok(is_new)
    }

    #[cfg(feature = "file")]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name, without ending, of the files that serve `key`.
    pub(crate) fn stripe_name(key: &CoordinationKey) -> String {
        format!("refresh-{:02}", key.stripe(STRIPES))
    }

    /// Opens the lock file `name`, which is not locked yet. Makes it, and the folder, if missing.
    pub(crate) fn file(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(format!("{name}.lock"));
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let opened = options.open(&path);
        if !matches!(&opened, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            return opened;
        }
        self.create()?;
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.clone().create_new(true).open(&path) {
            Ok(file) => {
                // When root runs a tool beside a service, its lock files must not lock the service
                // out. Only for a file that is certainly new: an old one could be a link that its
                // owner laid to make root give a file away.
                give_to_owner(&file, &std::fs::metadata(&self.path)?);
                Ok(file)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(&path),
            Err(error) => Err(error),
        }
    }

    /// Locks `name` if nobody else does, without waiting.
    pub(crate) fn try_lock(&self, name: &str) -> io::Result<Option<HeldLock>> {
        let file = self.file(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(HeldLock(file))),
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
                Ok(()) => return Ok(Some(HeldLock(file))),
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

/// Gives `file` the owner and group of `like`, which only root may do in general. Returns whether
/// it has them now.
pub(crate) fn give_to_owner(file: &File, like: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let Ok(own) = file.metadata() else {
            return false;
        };
        let differs = own.uid() != like.uid() || own.gid() != like.gid();
        if differs {
            return fchown(file, Some(like.uid()), Some(like.gid())).is_ok();
        }
    }
    #[cfg(not(unix))]
    let _ = (file, like);
    true
}

/// A lock that is held until this is dropped, or the process dies.
#[derive(Debug)]
pub(crate) struct HeldLock(File);

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
        let folder = LockFolder::open(place.path().join("locks")).unwrap();
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
        let folder = LockFolder::open(place.path()).unwrap();
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
        let folder = LockFolder::open(place.path()).unwrap();
        assert!(folder.lock("write", Instant::now()).unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn folder_and_files_belong_to_their_owner_alone_and_are_made_anew() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let place = tempfile::tempdir().unwrap();
        let folder = LockFolder::open(place.path().join("locks")).unwrap();
        std::fs::remove_dir(folder.path()).unwrap();
        drop(folder.try_lock("write").unwrap());
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.path().join("write.lock")), 0o600);
    }
}
