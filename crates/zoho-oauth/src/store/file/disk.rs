//! The blocking half of the store: one token file, its side folder, and how they are changed.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::super::TokenTable;
use super::super::host_lock::{HeldLock, LockFolder};
use super::csv::{self, Document, LineEnd};
use super::replace::{create, failed, read_if_there, replace, sweep, sync_parent, while_trying};
use crate::error::{Error, ErrorCode, Result};
use crate::token::TokenId;

/// The lock that every writer of the token file holds.
const WRITE_LOCK: &str = "write";
/// The highest id that was ever given, kept when no row of the file shows it any more.
const HIGHEST_ID: &str = "highest-id";

/// For how long a reader hopes that damage is an official SDK in the middle of rewriting the file.
const READ_PATIENCE: Duration = Duration::from_millis(200);
const READ_PAUSE: Duration = Duration::from_millis(10);

/// A symbolic link may lead to another one, but not for ever.
const MOST_LINKS: usize = 40;

#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    folder: LockFolder,
    require_private: bool,
    warned: AtomicBool,
    patience: Duration,
    /// The highest id that this process saw in the file, 0 before the first. Other programs delete
    /// records without a trace, perhaps while we refresh one of them: see [`update`](Self::update).
    highest_seen: AtomicU64,
    /// How often the file was found damaged.
    #[cfg(test)]
    disappointments: std::sync::atomic::AtomicUsize,
}

/// What the file holds at one moment.
pub(super) struct Current<'a> {
    pub(super) document: Document<'a>,
    metadata: Metadata,
}

/// What an operation did to the table.
pub(super) enum Change<T> {
    /// Nothing: there is nothing to write.
    None(T),
    /// Something, and the answer counts only once it is on disk.
    Made(T),
}

impl TokenFile {
    /// Finds the file behind `path` and checks that it can be understood, or makes an empty one.
    pub(super) fn open(path: &Path, require_private: bool, deadline: Instant) -> Result<Self> {
        let path = resolve(path)?;
        let mut side = OsString::from(&path);
        side.push(".state");
        let file = Self {
            folder: LockFolder::at(side),
            path,
            require_private,
            warned: AtomicBool::new(false),
            patience: READ_PATIENCE,
            highest_seen: AtomicU64::new(0),
            #[cfg(test)]
            disappointments: std::sync::atomic::AtomicUsize::default(),
        };
        // Before anything is made beside it: a wrong path must leave no trace.
        let owner = file.read(|current| current.map(|current| current.metadata))?;
        file.make_folder(owner.as_ref())?;
        if owner.is_none() {
            file.make_empty(deadline)?;
        }
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn folder(&self) -> &LockFolder {
        &self.folder
    }

    fn make_folder(&self, owner: Option<&Metadata>) -> Result<()> {
        let path = self.folder.path();
        let made = self.folder.create_beside(owner).and_then(|is_new| {
            if is_new {
                sync_parent(path)?;
            }
            Ok(())
        });
        made.map_err(while_trying("make the folder", path))
    }

    fn make_empty(&self, deadline: Instant) -> Result<()> {
        let _lock = self.lock(deadline)?;
        if self.read(|current| current.is_some())? {
            return Ok(());
        }
        let content = csv::write(&[], LineEnd::default());
        create(&self.folder, WRITE_LOCK, &self.path, content.as_bytes())
            .map_err(while_trying("make", &self.path))
    }

    fn lock(&self, deadline: Instant) -> Result<HeldLock> {
        match self.folder.lock(WRITE_LOCK, deadline) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(self.locked()),
            Err(error) => Err(failed("lock", &self.lock_path(), error)),
        }
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.path().join(format!("{WRITE_LOCK}.lock"))
    }

    /// That the file's turn did not come in time.
    pub(super) fn locked(&self) -> Error {
        Error::new(
            ErrorCode::StoreLocked,
            format!(
                "`{}` is being written by others for too long; its lock is `{}`",
                self.path.display(),
                self.lock_path().display()
            ),
        )
    }

    /// Calls `work` with what the file holds, `None` if there is no file. Takes no lock.
    ///
    /// Our writers replace the file, so it is always whole. The official SDKs cut it off and write
    /// it anew: what looks damaged is looked at again for a while before it is called so.
    pub(super) fn read<T>(&self, work: impl FnOnce(Option<Current<'_>>) -> T) -> Result<T> {
        let end = Instant::now() + self.patience;
        loop {
            let Some((bytes, metadata)) = self.load()? else {
                return Ok(work(None));
            };
            match csv::parse(&bytes) {
                Ok(document) => {
                    self.note_seen(document.rows.iter().map(|row| row.id).max());
                    return Ok(work(Some(Current { document, metadata })));
                }
                Err(damage) if Instant::now() >= end => {
                    return Err(damage.into_error(&self.path));
                }
                Err(_) => {
                    #[cfg(test)]
                    self.disappointments.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(READ_PAUSE);
                }
            }
        }
    }

    fn note_seen(&self, highest: Option<TokenId>) {
        let highest = highest.map_or(0, TokenId::get);
        self.highest_seen.fetch_max(highest, Ordering::Relaxed);
    }

    fn load(&self) -> Result<Option<(Zeroizing<Vec<u8>>, Metadata)>> {
        // Opening a named pipe would wait for its other end.
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(self.not_a_file()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &self.path, error)),
        }
        let load = || -> io::Result<_> {
            let mut file = File::open(&self.path)?;
            let metadata = file.metadata()?;
            // Large enough from the start: growing would leave copies behind.
            let size = usize::try_from(metadata.len()).unwrap_or(0);
            let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
            file.read_to_end(&mut bytes)?;
            Ok((bytes, metadata))
        };
        match load() {
            Ok((bytes, metadata)) => {
                self.check_privacy(&metadata)?;
                Ok(Some((bytes, metadata)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &self.path, error)),
        }
    }

    fn not_a_file(&self) -> Error {
        let path = self.path.display();
        Error::new(
            ErrorCode::StoreForeign,
            format!("`{path}` is not a regular file"),
        )
    }

    #[cfg(unix)]
    fn check_privacy(&self, metadata: &Metadata) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let mode = metadata.mode() & 0o777;
        let of_others = mode & 0o077;
        if of_others == 0 {
            return Ok(());
        }
        let path = self.path.display();
        if self.require_private {
            return Err(Error::new(
                ErrorCode::StorePermission,
                format!("`{path}` is open to other users of this machine (mode {mode:03o})"),
            ));
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "`{path}` holds keys in plain text and is open to other users of this machine \
                 (mode {mode:03o}); run `chmod 600` on it"
            );
        }
        Ok(())
    }

    #[cfg(not(unix))]
    fn check_privacy(&self, _: &Metadata) -> Result<()> {
        let _ = (self.require_private, &self.warned, Ordering::Relaxed);
        Ok(())
    }

    /// Applies `change` to the table and writes the file, all under the lock.
    ///
    /// Order of what becomes durable: the highest id, when it is about to vanish from the file;
    /// the file's new content; its name.
    ///
    /// An id that this process has seen is never taken for one from elsewhere: who saves what Zoho
    /// issued for a record has read it here before, so a record that another program deleted
    /// meanwhile, even the highest, stays deleted.
    pub(super) fn update<T>(
        &self,
        deadline: Instant,
        change: impl FnOnce(&mut TokenTable) -> Result<Change<T>>,
    ) -> Result<T> {
        let _lock = self.lock(deadline)?;
        sweep(&self.folder, WRITE_LOCK).map_err(while_trying("tidy up", self.folder.path()))?;
        let written = self.highest_id()?;
        let (rows, line_end, metadata) = self.read(|current| match current {
            None => (Vec::new(), LineEnd::default(), None),
            Some(Current { document, metadata }) => {
                let rows = document.rows.iter().map(csv::Row::to_token).collect();
                (rows, document.line_end, Some(metadata))
            }
        })?;
        let seen = TokenId::new(self.highest_seen.load(Ordering::Relaxed)).ok();
        let mut table = TokenTable::from_rows(rows, written.max(seen))?;
        let answer = match change(&mut table)? {
            Change::None(answer) => return Ok(answer),
            Change::Made(answer) => answer,
        };
        if metadata
            .as_ref()
            .is_some_and(|metadata| metadata.permissions().readonly())
        {
            let path = self.path.display();
            let message = format!("`{path}` is marked read-only");
            return Err(Error::new(ErrorCode::StorePermission, message));
        }
        self.keep_highest_id(&table, written)?;
        let content = csv::write(table.rows(), line_end);
        let content = content.as_bytes();
        match metadata {
            None => create(&self.folder, WRITE_LOCK, &self.path, content),
            like => replace(&self.folder, WRITE_LOCK, &self.path, content, like.as_ref()),
        }
        .map_err(while_trying("write", &self.path))?;
        self.note_seen(table.highest_id());
        Ok(answer)
    }

    /// The highest id that was written down, `None` if none had to be yet.
    fn highest_id(&self) -> Result<Option<TokenId>> {
        let path = self.folder.path().join(HIGHEST_ID);
        let Some(bytes) = read_if_there(&path)? else {
            return Ok(None);
        };
        let id = std::str::from_utf8(&bytes).ok();
        match id.and_then(|id| id.trim_end().parse().ok()) {
            Some(id) => Ok(Some(id)),
            None => Err(Error::new(
                ErrorCode::StoreDamaged,
                format!(
                    "line 1 of `{}` is not the highest id that was given (without this file, the \
                     highest id in the token file counts)",
                    path.display()
                ),
            )),
        }
    }

    /// Writes the highest id down if the rows do not show it, before they become the file.
    fn keep_highest_id(&self, table: &TokenTable, written: Option<TokenId>) -> Result<()> {
        let shown = table.rows().last().and_then(|row| row.id);
        let highest = table.highest_id();
        let Some(id) = highest.filter(|_| highest > shown && highest > written) else {
            return Ok(());
        };
        let path = self.folder.path().join(HIGHEST_ID);
        let content = format!("{id}\n");
        replace(&self.folder, WRITE_LOCK, &path, content.as_bytes(), None)
            .map_err(while_trying("write", &path))
    }
}

/// The absolute path of the file that `path` leads to, whether it is there yet or not.
///
/// Found once, so that a later change of the working directory does not matter, and so that every
/// way to the file leads to the same lock.
fn resolve(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Some(name) = path.file_name().map(ToOwned::to_owned) else {
            return Err(Error::invalid_input(format!(
                "`{}` does not name a file",
                path.display()
            )));
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent =
            std::fs::canonicalize(parent).map_err(while_trying("find the folder", parent))?;
        path = parent.join(name);
        match std::fs::read_link(&path) {
            Ok(target) => path = parent.join(target),
            // Not a link, or nothing at all. What is wrong with it beyond that, reading will tell.
            // Where `Tokens` and `tokens` are one file, its own spelling counts.
            Err(_) => return Ok(std::fs::canonicalize(&path).unwrap_or(path)),
        }
    }
    Err(Error::invalid_input(format!(
        "the symbolic links at `{}` go in a circle",
        path.display()
    )))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::{Arc, Mutex};

    use super::*;

    fn open(path: &Path) -> TokenFile {
        TokenFile::open(path, false, Instant::now()).unwrap()
    }

    #[test]
    fn a_reader_waits_for_an_official_sdk_that_is_rewriting_the_file() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("tokens");
        let mut file = open(&path);
        file.patience = Duration::from_mins(5);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| file.read(|current| current.is_some()));
            while file.disappointments.load(Ordering::Relaxed) == 0 && !reader.is_finished() {
                std::thread::yield_now();
            }
            let mut in_place = File::options().write(true).open(&path).unwrap();
            for byte in &whole {
                in_place.write_all(&[*byte]).unwrap();
            }
            assert!(reader.join().unwrap().unwrap());
        });
    }

    #[test]
    fn an_open_file_is_warned_about_once() {
        #[derive(Clone, Default)]
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl Write for Log {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .finish();

        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("tokens");
        open(&path);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let file = open(&path);
            file.read(|_| ()).unwrap();
        });
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.matches("WARN").count(), 1, "{log}");
        assert!(
            log.contains("mode 644") && log.contains("chmod 600"),
            "{log}"
        );
    }

    #[test]
    fn every_way_to_a_file_is_the_same_path() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().canonicalize().unwrap();
        std::fs::create_dir(folder.join("sub")).unwrap();
        symlink("sub/../tokens", folder.join("one")).unwrap();
        symlink(folder.join("one"), folder.join("sub/two")).unwrap();
        let tokens = folder.join("tokens");
        for way in ["tokens", "sub/../tokens", "one", "sub/two"] {
            assert_eq!(resolve(&folder.join(way)).unwrap(), tokens, "{way}");
        }
        symlink("b", folder.join("a")).unwrap();
        symlink("a", folder.join("b")).unwrap();
        for (way, code) in [
            ("a", ErrorCode::InvalidInput),
            ("sub/..", ErrorCode::InvalidInput),
            ("none/tokens", ErrorCode::StoreUnavailable),
        ] {
            let error = resolve(&folder.join(way)).unwrap_err();
            assert_eq!(error.code(), code, "{way}");
        }
    }
}
