//! [`FileStore`]: tokens in the text file that Zoho's official SDKs use, kept whole.
//!
//! Start with [`FileStore::open`]. The rules are those of [`TokenTable`], the text is taken apart
//! and put together in `csv`, and what makes a change safe is in `disk` and `replace`.
//!
//! # Layout
//! The token file, by custom called [`sdk_tokens.txt`](FileStore::DEFAULT_NAME), holds one header
//! line and a line per record, with the ten official columns and nothing else. Beside it lies a
//! folder of the same name with `.state` at the end, for its owner alone:
//!
//! | file in `sdk_tokens.txt.state/` | what it is |
//! | --- | --- |
//! | `write.lock` | held by whoever writes the token file |
//! | `highest-id` | the highest id ever given, once no record shows it any more |
//! | `refresh-NN.lock`, `refresh-NN.json` | held by whoever refreshes a token; what it learned |
//! | `*.tmp` | a file in the making, or the trace of a killed writer, removed by the next one |
//!
//! Lock files are never removed: two processes that hold locks of the same name on different files
//! would not notice each other. Do not delete the folder while a process uses the store. If it is
//! lost, it is made anew, and only the memory of deleted records' ids is gone.
//!
//! # Atomicity
//! A write reads the file, changes the table in memory, writes the new content into the side
//! folder, flushes it to the disk, renames it over the token file and flushes the folder. Readers,
//! who take no lock, see the old file or the new one. A process that is killed, a machine that
//! loses power, or a full disk leaves one of the two. Should the very last step fail, flushing the
//! folder, the write is reported as failed though the new file may be there.
//!
//! A file that cannot be understood is an error with its path and line, and no write touches it.
//! That includes the empty file: a new store has a header, and zero bytes are what a crash leaves
//! of a file that was being rewritten in place.
//!
//! # Locking
//! A writer takes (1) the store object's own turn, in the order of asking, then (2) the kernel's
//! lock on `write.lock`, both within the [lock time-out](FileStoreBuilder::lock_timeout). The
//! kernel frees the lock when the process dies, however it dies. Two `FileStore`s on one file,
//! in one process or in several, are equals. Whoever refreshes holds its `refresh-NN.lock` first
//! and takes `write.lock` for the time of the save; nobody takes them in the other order.
//!
//! No file stays open between operations. A child process that is forked during a write shares the
//! lock until it executes another program or the writer releases it, which it does explicitly; only
//! if the writer is killed between these two does the lock wait for the child to end.
//!
//! # Compatibility
//! Files of the Python, Java, Node, TypeScript, PHP, C# and Ruby SDKs are read: either line end,
//! quoted or bare values, any of the official column names, nine columns (without `api_domain`) as
//! old versions wrote them, a byte order mark, and the carriage return that Node leaves on the last
//! value of a Python file. Columns are taken by name where the name is known, else by position.
//!
//! The file is written as the Python SDK writes it: ten columns (a file of nine is migrated by the
//! first write), the ninth called `redirect_uri`, quotes only where they are needed, CRLF. One
//! thing is kept from the file that was found: if its lines end in LF, they go on doing so, since
//! Node would take the carriage return for a part of the value. The other SDKs read by position.
//!
//! Those SDKs truncate the file and write it anew, without a lock. A reader that meets such a write
//! looks again for a fifth of a second before it speaks of damage. But their writes can undo ours
//! and ours theirs, and a file cut off exactly behind a record looks complete. Take turns, or let
//! this store do the writing. A record that they delete stays deleted for every store that had seen
//! it, so a refresh under way does not bring it back; to a store that is opened later its id is
//! unknown, if no higher one is there, and may be given again. Node, TypeScript and C# read no
//! quotes: values with commas or quotes are not for them.
//!
//! # Limits
//! - Each write rewrites the file, and each look-up reads it: right up to some thousands of
//!   records. Beyond that, take a database.
//! - Values are in plain text, protected by the file's mode: 0600 for a new one. A file that others
//!   can read is used with a warning, or refused with [`FileStoreBuilder::require_private`]. Mode,
//!   owner and group of a file are kept as far as the system allows; access control lists and hard
//!   links are not. A file marked read-only is not replaced.
//! - A symbolic link is followed when the store is opened, and stays.
//! - The folder must be writable, not just the file. A container mounts the folder: a file that is
//!   itself a mount point cannot be replaced.
//! - Network file systems may lose or merely imitate locks and atomic renames. Nothing is promised
//!   there.
//! - On systems other than Unix, modes and the flushing of folders do not apply.

mod csv;
mod disk;
mod memo;
mod replace;
mod workers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use self::csv::{Damage, Document};
use self::disk::{Change, Options, Records, TokenFile};
use self::memo::FileCoordination;
use self::workers::Workers;
use super::{Coordination, Fact, Inventory, Kept, Ruling, TokenStore};
use crate::error::Result;
use crate::query::TokenQuery;
use crate::token::{OAuthToken, TokenId};

/// Far more than any write takes; short enough that a person learns what is wrong.
const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// A limit, so that deadlines can be computed.
const LONGEST_LOCK_TIMEOUT: Duration = Duration::from_hours(24);

/// Keeps tokens in the official token file. See the [module documentation](self).
///
/// Operations run on threads of the store, and wait with Tokio's timer: they need a Tokio runtime
/// with its timer enabled.
///
/// # Cancellation
/// A write whose future is dropped is either not begun or completed in the background.
#[derive(Debug)]
pub struct FileStore {
    file: Arc<TokenFile>,
    workers: Arc<Workers>,
    /// The writers of this process, so that they do not all try for the kernel's lock.
    turn: Arc<tokio::sync::Mutex<()>>,
    lock_timeout: Duration,
    /// None for a file that is only read.
    coordination: Option<FileCoordination>,
}

impl FileStore {
    /// The name of the file in the official SDKs, which look for it in the working directory.
    pub const DEFAULT_NAME: &str = "sdk_tokens.txt";

    /// The most bytes that a token file may have, 64 MiB: more than 200,000 usual records. A larger
    /// file is `unsupported`, and a write that would make it larger is `store_full`.
    pub const MAX_SIZE: u64 = 64 * 1024 * 1024;

    /// Opens the token file at `path`, or makes an empty one for its owner alone.
    ///
    /// Makes nothing else: the side folder comes with the first write or the first refresh.
    ///
    /// # Errors
    /// `store_foreign` when something else is there, which is left untouched; `store_damaged` when
    /// the header cannot be read; `store_permission` also when the folder cannot be written;
    /// `store_unavailable` when the folder is missing; `store_aliased` when the file has several
    /// names; `unsupported` when it is larger than [`MAX_SIZE`](Self::MAX_SIZE).
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::builder(path).open().await
    }

    /// Opens the token file at `path` for reading, if it is there; `None` if not.
    ///
    /// Nothing is made or changed, in the file or next to it, so the file may be of another owner or
    /// on a read-only file system. Writes fail with `store_permission`, and there is nothing to
    /// agree on with other processes. A file with several names can be read.
    ///
    /// # Errors
    /// As [`open`](Self::open), except for what concerns writing.
    pub async fn open_read_only(path: impl Into<PathBuf>) -> Result<Option<Self>> {
        Self::builder(path).open_read_only().await
    }

    /// Returns the options of a store at `path`, to be opened with [`FileStoreBuilder::open`].
    pub fn builder(path: impl Into<PathBuf>) -> FileStoreBuilder {
        FileStoreBuilder {
            path: path.into(),
            lock_timeout: DEFAULT_LOCK_TIMEOUT,
            options: Options::default(),
        }
    }

    /// Returns the absolute path of the token file, with symbolic links followed.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads what the file holds; `missing` if there is no file.
    async fn reading<T: Send + 'static>(
        &self,
        missing: T,
        work: impl FnOnce(&Document<'_>) -> Result<T, Damage> + Send + 'static,
    ) -> Result<T> {
        let file = Arc::clone(&self.file);
        let read = move || {
            let done = file.read(|current| match current {
                None => Ok(missing),
                Some(current) => work(&current.document),
            })?;
            done.map_err(|damage| damage.into_error(file.path()))
        };
        self.workers.run(read).await
    }

    async fn writing<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Records<'_>) -> Result<Change<T>> + Send + 'static,
    ) -> Result<T> {
        self.file.check_not_read_only()?;
        let deadline = Instant::now() + self.lock_timeout;
        let turn = Arc::clone(&self.turn).lock_owned();
        let Ok(turn) = tokio::time::timeout(self.lock_timeout, turn).await else {
            let file = Arc::clone(&self.file);
            return self.workers.run(move || Err(file.locked())).await;
        };
        let file = Arc::clone(&self.file);
        let write = move || {
            let _turn = turn;
            file.update(deadline, change)
        };
        self.workers.run(write).await
    }
}

/// The options of a [`FileStore`].
#[derive(Clone, Debug)]
pub struct FileStoreBuilder {
    path: PathBuf,
    lock_timeout: Duration,
    options: Options,
}

impl FileStoreBuilder {
    /// Sets how long a write may wait for other writers before it fails with `store_locked`:
    /// 10 seconds if not set, at most a day.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout.min(LONGEST_LOCK_TIMEOUT);
        self
    }

    /// Refuses a file that its group or others may read or write, with `store_permission`, instead
    /// of warning about it once. Has no effect on systems other than Unix.
    #[must_use]
    pub fn require_private(mut self) -> Self {
        self.options.require_private = true;
        self
    }

    /// Accepts a file with hard links: other names of it that are backups, which no process writes.
    ///
    /// A write puts a new file in the place of `path`. The other names keep the old one, so what is
    /// saved never reaches them.
    #[must_use]
    pub fn allow_hard_links(mut self) -> Self {
        self.options.allow_hard_links = true;
        self
    }

    /// Opens the store. See [`FileStore::open`].
    ///
    /// # Errors
    /// As there.
    pub async fn open(self) -> Result<FileStore> {
        let store = self.open_as(false).await?;
        Ok(store.expect("a file that is missing is made"))
    }

    /// Opens the store for reading. See [`FileStore::open_read_only`].
    ///
    /// # Errors
    /// As there.
    pub async fn open_read_only(self) -> Result<Option<FileStore>> {
        self.open_as(true).await
    }

    async fn open_as(self, read_only: bool) -> Result<Option<FileStore>> {
        let Self {
            path, lock_timeout, ..
        } = self;
        let options = Options {
            read_only,
            ..self.options
        };
        let workers = Arc::new(Workers::start(&path)?);
        let opened = workers.run(move || TokenFile::open(&path, options)).await?;
        Ok(opened.map(|file| {
            let coordination = FileCoordination::new(file.folder().clone(), workers.clone());
            FileStore {
                coordination: (!read_only).then_some(coordination),
                file: Arc::new(file),
                workers,
                turn: Arc::default(),
                lock_timeout,
            }
        }))
    }
}

#[async_trait]
impl TokenStore for FileStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        let query = query.clone();
        self.reading(None, move |document| document.find(&query))
            .await
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        let token = token.clone();
        self.writing(move |records| {
            token.id.map_or(Ok(()), |id| records.check(id))?;
            records.table.save(&token).map(Change::Made)
        })
        .await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.writing(move |records| {
            Ok(match records.delete(id) {
                false => Change::None(false),
                true => Change::Made(true),
            })
        })
        .await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.get_tokens_page(None, usize::MAX).await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.writing(|records| {
            Ok(match records.clear() {
                0 => Change::None(0),
                count => Change::Made(count),
            })
        })
        .await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.reading(None, move |document| document.by_id(id)).await
    }

    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        let read = move |document: &Document<'_>| Ok(document.page(after, limit));
        self.reading(Vec::new(), read).await
    }

    /// Counts the lines of the file.
    async fn inventory(&self) -> Result<Option<Inventory>> {
        let file = Arc::clone(&self.file);
        self.workers.run(move || file.inventory().map(Some)).await
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        let fact = fact.clone();
        self.writing(move |records| {
            records.check(fact.id())?;
            let stored = records.table.find_by_id(fact.id());
            Ok(match fact.ruling(stored) {
                Ruling::Save(record) => {
                    records.table.save(&record)?;
                    Change::Made(Kept::Saved)
                }
                ruling => Change::None(ruling.kept(stored)),
            })
        })
        .await
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        let coordination = self.coordination.as_ref()?;
        Some(coordination)
    }
}
