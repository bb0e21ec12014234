//! Locks between the processes of one machine, which the kernel frees when their holder dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::CoordinationKey;

/// How many lock files a store spreads its keys over. Two keys on one file wait for each other,
/// which costs time and nothing else. The same in all versions, or two of them would not meet.
const STRIPES: u64 = 64;

/// A folder of lock files beside a store. The files are never renamed or deleted.
#[derive(Clone, Debug)]
pub(crate) struct LockFolder {
    path: PathBuf,
}

impl LockFolder {
    /// Uses, and makes if it is missing, the folder at `path`, readable by its owner alone.
    pub(crate) fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name, without ending, of the files that serve `key`.
    pub(crate) fn stripe_name(key: &CoordinationKey) -> String {
        format!("refresh-{:02}", key.stripe(STRIPES))
    }

    /// Opens the lock file `name`, which is not locked yet.
    pub(crate) fn file(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(self.path.join(format!("{name}.lock")))
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
