//! The blocking half of the store: one token file, its side folder, and how they are changed.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zeroize::{Zeroize, Zeroizing};

use super::super::host_lock::{HeldLock, LockFolder, cannot_lock};
use super::super::single_name::check_single_name;
use super::super::{Inventory, TokenTable};
use super::csv::{self, Damage, Document, Unreadable};
use super::replace::{create, failed, read_if_there, replace, sweep, while_trying};
use crate::error::{Error, ErrorCode, Result};
use crate::token::TokenId;

/// The most bytes that a token file may have.
pub(super) const MAX_SIZE: u64 = 64 * 1024 * 1024;

/// The lock that every writer of the token file holds.
const WRITE_LOCK: &str = "write";
/// The highest id that was ever given, kept when no row of the file shows it any more.
const HIGHEST_ID: &str = "highest-id";

/// For how long a reader hopes that damage is an official SDK in the middle of rewriting the file.
const READ_PATIENCE: Duration = Duration::from_millis(200);
const READ_PAUSE: Duration = Duration::from_millis(10);

/// For how long after the last change of the file a write takes a cut last line for the work of an
/// official SDK that is still writing.
const CUT_PATIENCE: Duration = Duration::from_secs(2);

/// A symbolic link may lead to another one, but not for ever.
const MOST_LINKS: usize = 40;

/// Lines that this process found unreadable and reported, as hashes of their path and content.
static REPORTED: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

/// How a token file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) require_private: bool,
    pub(super) allow_hard_links: bool,
    pub(super) read_only: bool,
}

#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    folder: LockFolder,
    options: Options,
    warned: AtomicBool,
    patience: Duration,
    /// The memory of the last read, wiped. The allocator would keep as much for each thread.
    spare: Mutex<Vec<u8>>,
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

/// What an operation did to the records.
pub(super) enum Change<T> {
    /// Nothing: there is nothing to write.
    None(T),
    /// Something, and the answer counts only once it is on disk.
    Made(T),
}

/// The records of the file while they are changed, and the lines that cannot be read.
pub(super) struct Records<'a> {
    pub(super) table: TokenTable,
    /// Those that stay in the file.
    unreadable: Vec<Unreadable>,
    path: &'a Path,
}

impl Records<'_> {
    /// Refuses to change a record that cannot be read.
    ///
    /// # Errors
    /// `store_damaged` with the line.
    pub(super) fn check(&self, id: TokenId) -> Result<()> {
        let is_meant = |line: &&Unreadable| line.id == Some(id);
        match self.unreadable.iter().find(is_meant) {
            Some(line) if self.table.find_by_id(id).is_none() => {
                Err(line.damage.into_error(self.path))
            }
            _ => Ok(()),
        }
    }

    /// Deletes the record with this id, or the unreadable lines with it if no record has it; `true`
    /// if there was one. Two official processes can give one id to two logins: an unreadable line
    /// with the id of a record is another login.
    pub(super) fn delete(&mut self, id: TokenId) -> bool {
        let before = self.unreadable.len();
        self.table.delete(id) || {
            self.unreadable.retain(|line| line.id != Some(id));
            self.unreadable.len() < before
        }
    }

    /// Deletes all records, readable or not, and returns how many there were.
    pub(super) fn clear(&mut self) -> usize {
        self.table.clear() + std::mem::take(&mut self.unreadable).len()
    }

    fn keeps(&self, damage: Damage) -> bool {
        self.unreadable.iter().any(|line| line.damage == damage)
    }
}

impl TokenFile {
    /// Finds the file behind `path` and checks that it can be used. Makes an empty one where there
    /// is none, or answers `None` if the file is only to be read. Makes nothing else.
    pub(super) fn open(path: &Path, options: Options) -> Result<Option<Self>> {
        let path = resolve(path)?;
        let file = Self {
            folder: LockFolder::beside(&path),
            path,
            options,
            warned: AtomicBool::new(false),
            patience: READ_PATIENCE,
            spare: Mutex::default(),
            highest_seen: AtomicU64::new(0),
            #[cfg(test)]
            disappointments: std::sync::atomic::AtomicUsize::default(),
        };
        let found = file.read(|current| current.map(|current| current.metadata))?;
        match &found {
            None if options.read_only => return Ok(None),
            Some(_) if options.read_only => {}
            None => {
                file.make_empty()?;
                file.check_writable()?;
            }
            Some(metadata) => {
                check_single_name(&file.path, metadata, options.allow_hard_links)?;
                file.check_writable()?;
            }
        }
        Ok(Some(file))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn folder(&self) -> &LockFolder {
        &self.folder
    }

    fn parent(&self) -> &Path {
        self.path.parent().expect("an absolute path of a file")
    }

    /// Makes the file if it is missing, without a lock and so without the side folder.
    fn make_empty(&self) -> Result<()> {
        let name = self.path.file_name().unwrap_or_default();
        let prefix = format!(".{}", name.display());
        match create(self.parent(), &prefix, &self.path, &[csv::new_file()]) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.read(|_| ()),
            made => made.map_err(while_trying("make", &self.path)),
        }
    }

    /// Learns now, and not when a token must be saved, whether this process may write here.
    ///
    /// Nothing shows of it: where the system can, the probe is a file without a name.
    fn check_writable(&self) -> Result<()> {
        let folders = [self.parent(), self.folder.path()];
        for folder in folders {
            match tempfile::tempfile_in(folder) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                    ) =>
                {
                    let what = format!("make files in `{}` for", folder.display());
                    return Err(failed(&what, &self.path, error));
                }
                // The side folder need not be there yet, and a full disk can be read.
                _ => {}
            }
        }
        Ok(())
    }

    fn lock(&self, deadline: Instant) -> Result<HeldLock> {
        match self.folder.lock(WRITE_LOCK, deadline) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(self.locked()),
            Err(error) => Err(cannot_lock(&self.folder.lock_path(WRITE_LOCK), error)),
        }
    }

    /// That the file's turn did not come in time.
    pub(super) fn locked(&self) -> Error {
        let holder = self.folder.holder(WRITE_LOCK);
        let holder = holder.map_or_else(String::new, |holder| format!(", held by {holder}"));
        Error::new(
            ErrorCode::StoreLocked,
            format!(
                "`{}` is being written by others for too long; its lock is `{}`{holder}",
                self.path.display(),
                self.folder.lock_path(WRITE_LOCK).display()
            ),
        )
    }

    /// Calls `work` with what the file holds, `None` if there is no file. Takes no lock.
    ///
    /// Our writers replace the file, so it is always whole. The official SDKs cut it off and write
    /// it anew: what looks damaged is looked at again for a while before it is called so. A line
    /// that was reported stays damaged, and is not waited for again.
    pub(super) fn read<T>(&self, work: impl FnOnce(Option<Current<'_>>) -> T) -> Result<T> {
        self.read_before(None, work)
    }

    /// Reads for a write that may wait until `deadline`, if there is one.
    ///
    /// A write replaces the file. An official SDK that is still writing would finish the old file,
    /// and the records behind the cut would be lost. So a write waits while the last line is cut
    /// and the file has just changed.
    fn read_before<T>(
        &self,
        deadline: Option<Instant>,
        work: impl FnOnce(Option<Current<'_>>) -> T,
    ) -> Result<T> {
        let end = Instant::now() + self.patience;
        loop {
            let Some((mut bytes, metadata)) = self.load()? else {
                return Ok(work(None));
            };
            let is_last_try = Instant::now() >= end;
            let parsed = csv::parse(&bytes);
            if let Some(deadline) = deadline
                && let Ok(document) = &parsed
                && let Some(damage) = document.cut()
                && is_fresh(&metadata)
            {
                if Instant::now() >= deadline {
                    let message = "the file is being written by another program";
                    let damage = damage.into_error(&self.path);
                    return Err(Error::new(ErrorCode::StoreLocked, message).caused_by(damage));
                }
                std::thread::sleep(READ_PAUSE);
                continue;
            }
            match parsed {
                Ok(mut document) if is_last_try || !self.has_new_damage(&document) => {
                    if document.has_unnumbered() {
                        // Who may not read the side folder numbers above the ids in the file.
                        document.number_after(self.highest_id().unwrap_or_default());
                    }
                    self.note_seen(document.highest_id());
                    self.report(&document);
                    let done = work(Some(Current { document, metadata }));
                    bytes.zeroize();
                    *self.spare() = std::mem::take(&mut *bytes);
                    return Ok(done);
                }
                Err(damage) if is_last_try => return Err(damage.into_error(&self.path)),
                Ok(_) | Err(_) => {
                    #[cfg(test)]
                    self.disappointments.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(READ_PAUSE);
                }
            }
        }
    }

    /// Counts the records, and names those that cannot be read.
    pub(super) fn inventory(&self) -> Result<Inventory> {
        self.read(|current| {
            let Some(Current { document, .. }) = current else {
                return Inventory::of(0);
            };
            let damages = document.unreadable().map(|line| line.damage);
            let errors = damages.map(|damage| damage.into_error(&self.path));
            let mut inventory = Inventory::of(document.len());
            inventory.unreadable = errors.map(|error| error.message().to_owned()).collect();
            inventory
        })
    }

    fn spare(&self) -> MutexGuard<'_, Vec<u8>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, line: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.path, line).hash(&mut hasher);
        hasher.finish()
    }

    fn has_new_damage(&self, document: &Document<'_>) -> bool {
        let mut lines = document.unreadable_bytes().peekable();
        lines.peek().is_some() && {
            let reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
            lines.any(|line| !reported.contains(&self.mark(line)))
        }
    }

    /// Names the lines that cannot be read in the log, once.
    fn report(&self, document: &Document<'_>) {
        for (line, bytes) in document.unreadable().zip(document.unreadable_bytes()) {
            let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
            if reported.insert(self.mark(bytes)) {
                let error = line.damage.into_error(&self.path);
                tracing::warn!(
                    "{}; the line is left out, and kept as it is",
                    error.message()
                );
            }
        }
    }

    fn note_seen(&self, highest: Option<TokenId>) {
        let highest = highest.map_or(0, TokenId::get);
        self.highest_seen.fetch_max(highest, Ordering::Relaxed);
    }

    /// Reads the file, or only its beginning where that is not the beginning of a token file.
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
            let mut start = Zeroizing::new(Vec::with_capacity(csv::START));
            let limit = csv::START as u64;
            (&mut file).take(limit).read_to_end(&mut start)?;
            if csv::check_start(&start).is_err() || metadata.len() > MAX_SIZE {
                return Ok((start, metadata));
            }
            // Large enough from the start: growing would leave copies behind.
            let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
            let mut bytes = Zeroizing::new(std::mem::take(&mut *self.spare()));
            bytes.try_reserve_exact(size.saturating_add(csv::START))?;
            bytes.extend_from_slice(&start);
            let limit = MAX_SIZE + 1 - bytes.len() as u64;
            file.take(limit).read_to_end(&mut bytes)?;
            Ok((bytes, metadata))
        };
        match load() {
            Ok((bytes, metadata)) => {
                self.check_privacy(&metadata)?;
                let size = metadata.len().max(bytes.len() as u64);
                if csv::check_start(&bytes).is_ok() && size > MAX_SIZE {
                    return Err(self.too_large(ErrorCode::Unsupported, "has", size));
                }
                Ok(Some((bytes, metadata)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &self.path, error)),
        }
    }

    fn too_large(&self, code: ErrorCode, has: &str, size: u64) -> Error {
        let (path, limit) = (self.path.display(), MAX_SIZE);
        let message = format!("`{path}` {has} {size} bytes, and a token file has at most {limit}");
        Error::new(code, message)
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
        if self.options.require_private {
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
        let _ = (
            self.options.require_private,
            &self.warned,
            Ordering::Relaxed,
        );
        Ok(())
    }

    /// Applies `change` to the records and writes the file, all under the lock.
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
        change: impl FnOnce(&mut Records<'_>) -> Result<Change<T>>,
    ) -> Result<T> {
        self.check_not_read_only()?;
        let _lock = self.lock(deadline)?;
        sweep(&self.folder, WRITE_LOCK).map_err(while_trying("tidy up", self.folder.path()))?;
        let written = self.highest_id()?;
        self.read_before(Some(deadline), |current| {
            let (document, metadata) = match current {
                None => (Document::empty(), None),
                Some(Current { document, metadata }) => (document, Some(metadata)),
            };
            let seen = TokenId::new(self.highest_seen.load(Ordering::Relaxed)).ok();
            let highest = written.max(seen).max(document.highest_id());
            let mut records = Records {
                table: TokenTable::from_rows(document.page(None, usize::MAX), highest)?,
                unreadable: document.unreadable().collect(),
                path: &self.path,
            };
            match change(&mut records)? {
                Change::None(answer) => Ok(answer),
                Change::Made(answer) => {
                    self.write(&document, &records, written, metadata.as_ref())?;
                    Ok(answer)
                }
            }
        })?
    }

    fn write(
        &self,
        document: &Document<'_>,
        records: &Records<'_>,
        written: Option<TokenId>,
        metadata: Option<&Metadata>,
    ) -> Result<()> {
        if metadata.is_some_and(|metadata| metadata.permissions().readonly()) {
            let path = self.path.display();
            let message = format!("`{path}` is marked read-only");
            return Err(Error::new(ErrorCode::StorePermission, message));
        }
        let content = document.rewritten(&records.table, |damage| records.keeps(damage));
        let size = content
            .iter()
            .map(|piece| piece.as_ref().len() as u64)
            .sum();
        if size > MAX_SIZE {
            return Err(self.too_large(ErrorCode::StoreFull, "would have", size));
        }
        self.keep_highest_id(&records.table, written)?;
        match metadata {
            None => create(self.folder.path(), WRITE_LOCK, &self.path, &content),
            like => replace(&self.folder, WRITE_LOCK, &self.path, &content, like),
        }
        .map_err(while_trying("write", &self.path))?;
        self.note_seen(records.table.highest_id());
        Ok(())
    }

    pub(super) fn check_not_read_only(&self) -> Result<()> {
        if !self.options.read_only {
            return Ok(());
        }
        let message = format!("`{}` was opened for reading only", self.path.display());
        Err(Error::new(ErrorCode::StorePermission, message))
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
        replace(&self.folder, WRITE_LOCK, &path, &[content], None)
            .map_err(while_trying("write", &path))
    }
}

/// Whether the file has just changed. A time in the future says nothing.
fn is_fresh(metadata: &Metadata) -> bool {
    let age = metadata.modified().ok().and_then(|at| at.elapsed().ok());
    age.is_some_and(|age| age < CUT_PATIENCE)
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

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::{Arc, Mutex};

    use super::*;

    fn open(path: &Path) -> TokenFile {
        let options = Options::default();
        TokenFile::open(path, options).unwrap().unwrap()
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
    fn a_write_waits_for_an_official_sdk_that_is_still_writing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("tokens");
        let file = open(&path);
        let header = std::fs::read_to_string(&path).unwrap();
        let cut = format!("{header}1,ann,c,s,r,a,g,5,,d\n2,bob,c");
        std::fs::write(&path, &cut).unwrap();
        let save = |deadline| {
            file.update(deadline, |records| {
                let mut token = crate::OAuthToken::new();
                token.refresh_token = crate::RefreshToken::new("r-cy").ok();
                records.table.save(&token)?;
                Ok(Change::Made(()))
            })
        };
        // Out of time: the file stays for the SDK.
        let error = save(Instant::now()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreLocked);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), cut);
        // The SDK died: its line is an unreadable one, and does not stop writers.
        let long_ago = std::time::UNIX_EPOCH;
        let in_place = File::options().write(true).open(&path).unwrap();
        in_place.set_modified(long_ago).unwrap();
        save(Instant::now()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&format!("{cut}\n")), "{text}");
        // A line that this store wrote is ended, also where it is the last one.
        std::fs::write(&path, &cut).unwrap();
        let in_place = File::options().write(true).open(&path).unwrap();
        in_place.set_modified(long_ago).unwrap();
        for access in ["b", "c"] {
            let change = |records: &mut Records<'_>| {
                let mut token = crate::OAuthToken::new();
                token.id = crate::TokenId::new(1).ok();
                token.access_token = crate::AccessToken::new(access).ok();
                Ok(Change::Made(records.table.save(&token)?))
            };
            file.update(Instant::now(), change).unwrap();
        }
        // The SDK goes on.
        std::fs::write(&path, &cut).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| save(Instant::now() + Duration::from_mins(5)));
            let mut in_place = File::options().append(true).open(&path).unwrap();
            in_place.write_all(b",s,r,a,g,5,,d\n").unwrap();
            writer.join().unwrap().unwrap();
        });
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("2,bob,c,s,r,a,g,5,,d\n"), "{text}");
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
