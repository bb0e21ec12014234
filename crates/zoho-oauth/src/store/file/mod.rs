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

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use self::disk::{Change, TokenFile};
use self::memo::FileCoordination;
use super::{Coordination, Fact, Kept, Ruling, TokenStore, TokenTable};
use crate::error::{Error, ErrorCode, Result};
use crate::query::{Criterion, TokenQuery};
use crate::token::{OAuthToken, TokenId};

/// Far more than any write takes; short enough that a person learns what is wrong.
const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// A limit, so that deadlines can be computed.
const LONGEST_LOCK_TIMEOUT: Duration = Duration::from_hours(24);

/// Keeps tokens in the official token file. See the [module documentation](self).
///
/// Operations run on Tokio's threads for blocking work, so they need a Tokio runtime, with its
/// timer enabled.
///
/// # Cancellation
/// A write whose future is dropped is either not begun or completed in the background.
#[derive(Debug)]
pub struct FileStore {
    file: Arc<TokenFile>,
    /// The writers of this process, so that they do not all try for the kernel's lock.
    turn: Arc<tokio::sync::Mutex<()>>,
    lock_timeout: Duration,
    coordination: FileCoordination,
}

impl FileStore {
    /// The name of the file in the official SDKs, which look for it in the working directory.
    pub const DEFAULT_NAME: &str = "sdk_tokens.txt";

    /// Opens the token file at `path`, or makes an empty one for its owner alone.
    ///
    /// # Errors
    /// `store_foreign` when something else is there, which is left untouched; `store_damaged` with
    /// the line; `store_permission` also when the folder cannot be written; `store_unavailable`
    /// when the folder is missing; `store_full`, `store_locked`.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::builder(path).open().await
    }

    /// Returns the options of a store at `path`, to be opened with [`FileStoreBuilder::open`].
    pub fn builder(path: impl Into<PathBuf>) -> FileStoreBuilder {
        FileStoreBuilder {
            path: path.into(),
            lock_timeout: DEFAULT_LOCK_TIMEOUT,
            require_private: false,
        }
    }

    /// Returns the absolute path of the token file, with symbolic links followed.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&TokenFile) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let file = Arc::clone(&self.file);
        blocking(move || work(&file)).await
    }

    async fn writing<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut TokenTable) -> Result<Change<T>> + Send + 'static,
    ) -> Result<T> {
        let deadline = Instant::now() + self.lock_timeout;
        let turn = Arc::clone(&self.turn).lock_owned();
        let turn = tokio::time::timeout(self.lock_timeout, turn)
            .await
            .map_err(|_| self.file.locked())?;
        let file = Arc::clone(&self.file);
        blocking(move || {
            let _turn = turn;
            file.update(deadline, change)
        })
        .await
    }
}

/// The options of a [`FileStore`].
#[derive(Clone, Debug)]
pub struct FileStoreBuilder {
    path: PathBuf,
    lock_timeout: Duration,
    require_private: bool,
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
        self.require_private = true;
        self
    }

    /// Opens the store. See [`FileStore::open`].
    ///
    /// # Errors
    /// As there.
    pub async fn open(self) -> Result<FileStore> {
        let Self {
            path,
            lock_timeout,
            require_private,
        } = self;
        let deadline = Instant::now() + lock_timeout;
        let file = blocking(move || TokenFile::open(&path, require_private, deadline)).await?;
        Ok(FileStore {
            coordination: FileCoordination::new(file.folder().clone()),
            file: Arc::new(file),
            turn: Arc::default(),
            lock_timeout,
        })
    }
}

#[async_trait]
impl TokenStore for FileStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        let query = query.clone();
        self.reading(move |file| {
            file.read(|current| {
                let value = searched(&query);
                let rows = current.map_or_else(Vec::new, |current| current.document.rows);
                rows.iter()
                    .filter(|row| row.holds(value))
                    .map(csv::Row::to_token)
                    .filter(|token| query.matches(token))
                    .min_by_key(|token| token.id)
            })
        })
        .await
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        let token = token.clone();
        self.writing(move |table| table.save(&token).map(Change::Made))
            .await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.writing(move |table| {
            let was_there = table.delete(id);
            let change = if was_there {
                Change::Made
            } else {
                Change::None
            };
            Ok(change(was_there))
        })
        .await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.reading(|file| {
            file.read(|current| {
                let mut rows = current.map_or_else(Vec::new, |current| current.document.rows);
                rows.sort_by_key(|row| row.id);
                rows.iter().map(csv::Row::to_token).collect()
            })
        })
        .await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.writing(|table| {
            Ok(match table.clear() {
                0 => Change::None(0),
                count => Change::Made(count),
            })
        })
        .await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.reading(move |file| {
            file.read(|current| {
                let rows = current.map_or_else(Vec::new, |current| current.document.rows);
                rows.iter().find(|row| row.id == id).map(csv::Row::to_token)
            })
        })
        .await
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        let fact = fact.clone();
        self.writing(move |table| {
            let stored = table.find_by_id(fact.id());
            Ok(match fact.ruling(stored) {
                Ruling::Save(record) => {
                    table.save(&record)?;
                    Change::Made(Kept::Saved)
                }
                ruling => Change::None(ruling.kept(stored)),
            })
        })
        .await
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        Some(&self.coordination)
    }
}

/// The value that a matching row must have in some column.
fn searched(query: &TokenQuery) -> &str {
    match query.criterion() {
        Criterion::UserName(name) => name.as_str(),
        Criterion::AccessToken(token) => token.expose_secret(),
        Criterion::GrantToken(token) => token.expose_secret(),
        Criterion::RefreshToken(token) => token.expose_secret(),
    }
}

/// Runs `work`, which blocks on the disk or on a lock, on a thread that is there for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::new(
                ErrorCode::StoreUnavailable,
                "the token file was not touched: the runtime is shutting down",
            )),
        },
    }
}
