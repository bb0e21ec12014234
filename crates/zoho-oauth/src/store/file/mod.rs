//! [`FileStore`]: tokens in the text file that Zoho's official SDKs use, kept whole.
//!
//! Start with [`FileStore::open`]. The rules are those of [`TokenTable`](super::TokenTable), the text
//! is taken apart and put together in `csv`, what makes a change safe is in `disk` and `replace`, and
//! the threads are in `workers`.
#![doc = include_str!("docs.md")]

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
use crate::error::{Error, ErrorCode, Result};
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
    pub const MAX_SIZE: u64 = disk::MAX_SIZE;

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
        let opened = self.open_as(false).await?;
        opened.ok_or_else(|| Error::new(ErrorCode::Internal, "a missing token file was not made"))
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
            let was_there = records.delete(id);
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
