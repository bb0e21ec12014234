//! [`SqliteStore`]: tokens in a SQLite file, or in a database in memory that all tasks share.
//!
//! # Layout
//! One row per login in the official table, `oauthtoken` unless named otherwise, with the ten
//! official columns: `id varchar(10) NOT NULL PRIMARY KEY`, `user_name`, `client_id`,
//! `client_secret`, `refresh_token`, `access_token`, `grant_token`, `expiry_time varchar(20)`
//! (milliseconds since 1970, as text), `redirect_url` and `api_domain`. SQLite does not enforce
//! the widths, so nothing is ever cut off. A missing value is NULL. What else is needed lies
//! beside the table, under names that begin with `zoho_oauth_`: five indexes, so that every
//! look-up goes straight to its row; `zoho_oauth_highest_id`, and a trigger that keeps it, so that
//! no id is given twice, whoever deletes; and `zoho_oauth_memo`, what processes tell each other.
//!
//! A new file is readable by its owner alone (mode 0600), who is the owner of its folder if root makes
//! it, and SQLite gives its `-wal` and `-shm`
//! files the same mode. An existing file that others can read is reported with a warning, or
//! refused with [`require_private`](SqliteStoreBuilder::require_private). Deleted values are
//! overwritten in the file (`secure_delete`), though not in the write-ahead log before it is
//! reused, nor by the disk.
//!
//! # Atomicity
//! Each write is a transaction. Writes that come together are committed together, each in a
//! savepoint of its own, so that one that fails takes back nothing but itself; all are answered
//! after the commit. In a file the database uses a write-ahead log with `synchronous = FULL`: when
//! a write answers `Ok`, it is on disk. Once a write is queued, dropping its future neither stops
//! nor halves it.
//!
//! # Locking
//! One thread writes. Look-ups run where they are called, on a connection that is free at the
//! moment: they take microseconds, and wait for the disk at most. If all connections are busy, the
//! database is locked, or the disk hangs, the look-up moves to a second thread, as do `get_tokens` and
//! other long reads. Other
//! processes may use the same file. A write waits for their lock, 5 seconds unless
//! [set otherwise](SqliteStoreBuilder::busy_timeout) and counted from the call, and then fails with
//! `store_locked`. While that lasts, what processes tell each other (memos) is tried for a tenth of
//! a second only. If the disk hangs, calls end with `store_unavailable` 10 seconds later.
//!
//! For a file, [`coordination`](TokenStore::coordination) reaches all processes of this machine.
//! Its locks are those of the kernel on small files in the folder `<file>.state`, which the first
//! refresh makes. Do not delete it while a process uses the store. The folder and its files have the
//! owner, the group and the group's rights of the database: mode 0660 in a folder of mode 2770 shares
//! the store with a group. The holder of a lock writes its process id into the lock file, and
//! `store_locked` names it. A child that is forked while a lock is held shares it until it executes
//! another program; a stopped process keeps its locks.
//!
//! # Compatibility
//! A `zohooauth.db` that was made by Zoho's sample for SQLite (number 192 of its Kaizen series) is
//! opened as it is, and stays readable and writable for the sample and for every other program
//! with SQLite 3.9 or later; it is switched to the write-ahead log and gets the side tables. NULL
//! and `''` are both none, as is the text `null` that some official SDKs write (a user may be called
//! `null` if no other column of the row says so). Ids are compared as numbers.
//!
//! A table of nine columns, without `api_domain`, as older official SDKs made it, gets that column
//! when it is opened to be written, and records with ids such as `python_u1_EU_9f3c` get numbers.
//! The column of the user name may be called `user_mail`, and keeps that name. The older SDK can go
//! on; what it adds under ids of its kind is seen from the next opening on.
//!
//! A file that is no SQLite database, and a table under our name that lacks any other column, are
//! `store_foreign` and left untouched. So is a table with triggers, conflict rules or column types
//! that swallow or change what is saved, or that touch other records: each write is read back before
//! it is committed, and fails with `store_foreign` if it had another effect. Triggers that only
//! watch are no trouble.
//!
//! A damaged database is `store_damaged`. So is a row whose id or expiry cannot be read, when it is
//! looked for or saved: the error names table and rowid. All other rows stay usable; `get_tokens`
//! leaves the damaged one out with a warning in the log, and
//! [`inventory`](TokenStore::inventory) names it. An empty file is an empty database.
//!
//! # Limits
//! SQLite's own: a value may have a billion bytes. Look-ups, saves and deletes cost the same at a
//! hundred rows and at a million; for large tables there is
//! [`get_tokens_page`](TokenStore::get_tokens_page). The file must not be moved, replaced or deleted
//! while a store has it open: what is saved then goes to the file that was there. Nor should the
//! token table or a side table be dropped or renamed: what is missing is made anew when a store is
//! opened, and until then deletes fail for everybody, or ids may be given again. A file that can be
//! reached by another name, as a hard link or because it is a mount point, is `store_aliased`: the
//! log and the locks belong to a name, and two names would damage the database. Hard links that are
//! backups can be [allowed](SqliteStoreBuilder::allow_hard_links). Not for network
//! file systems, whose locks cannot be relied on. A store in memory works in one process and coordinates nothing else.

mod coordination;
mod db;
mod fault;
mod open;
mod pulse;
mod row;
mod save;
mod schema;
mod sql;
#[cfg(test)]
mod tests;
mod worker;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use async_trait::async_trait;

use self::coordination::HostCoordination;
use self::db::Db;
use self::fault::Place;
use self::worker::{Patience, ReadThread, WriteThread};
use super::{Coordination, Fact, Inventory, Kept, Ruling, TokenStore};
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::token::{OAuthToken, TokenId};

/// A limit, since SQLite counts its waiting in 32 bits.
const LONGEST_BUSY_TIMEOUT: Duration = Duration::from_hours(24);

/// How long a thread may wait for the disk before its callers are told.
const LONGEST_DISK_WAIT: Duration = Duration::from_secs(10);

/// Keeps tokens in a SQLite database. See the [module documentation](self).
///
/// ```
/// use zoho_oauth::{OAuthToken, RefreshToken, SqliteStore, TokenQuery, TokenStore, UserName};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> zoho_oauth::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join(SqliteStore::DEFAULT_FILE_NAME);
/// let store = SqliteStore::open(path)?;
/// let ann = UserName::new("ann@example.com:60001")?;
/// let mut token = OAuthToken::new();
/// token.user_name = Some(ann.clone());
/// token.refresh_token = Some(RefreshToken::new("1000.refresh")?);
/// let id = store.save_token(&token).await?;
///
/// let found = store.find_token(&TokenQuery::user_name(ann)).await?;
/// assert_eq!(found.and_then(|token| token.id), Some(id));
/// # Ok(())
/// # }
/// ```
///
/// Clones share the database. When the last one is dropped, the writes that are queued are
/// finished, and the connections are closed, which empties the write-ahead log into the file.
#[derive(Clone)]
pub struct SqliteStore {
    core: Arc<Core>,
    host: Option<HostCoordination>,
}

/// What the clones of a store share. The threads come first, so that they end first.
struct Core {
    /// None for a database that is only read.
    writer: Option<WriteThread>,
    reader: ReadThread,
    /// The connections for reads on the spot, which never wait. In memory, the only one there is.
    here: Vec<Arc<Mutex<Db>>>,
    place: Arc<Place>,
    /// After the connections.
    tidy: Option<open::Tidy>,
}

impl SqliteStore {
    /// The file name that the official sample uses.
    pub const DEFAULT_FILE_NAME: &'static str = "zohooauth.db";

    /// The table name of the official stores.
    pub const DEFAULT_TABLE: &'static str = "oauthtoken";

    /// Opens the database at `path`, and makes it if it is missing.
    ///
    /// Blocks: some milliseconds, or as long as it takes to build the indexes of a large table
    /// that has none yet. Open a store once, at the start.
    ///
    /// # Errors
    /// `store_foreign` when there is something else, `store_damaged`, `store_permission`,
    /// `store_locked` when another process does not let go of it in time, and
    /// `store_unavailable`, also when the folder is missing.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(path)
    }

    /// Opens a new, empty database in memory. It is gone when the last clone is dropped.
    ///
    /// # Errors
    /// `store_unavailable` when there is no memory or no thread for it.
    pub fn in_memory() -> Result<Self> {
        Self::builder().in_memory()
    }

    /// Returns the settings of a store, to be changed before it is opened.
    pub fn builder() -> SqliteStoreBuilder {
        SqliteStoreBuilder {
            table: Self::DEFAULT_TABLE.to_owned(),
            patience: Patience {
                locks: Duration::from_secs(5),
                disk: LONGEST_DISK_WAIT,
            },
            require_private: false,
            allow_hard_links: false,
        }
    }

    /// Returns where the database is; `None` in memory.
    pub fn path(&self) -> Option<&Path> {
        self.core.place.path()
    }
}

/// Settings of a [`SqliteStore`].
#[derive(Clone, Debug)]
pub struct SqliteStoreBuilder {
    table: String,
    patience: Patience,
    require_private: bool,
    allow_hard_links: bool,
}

impl SqliteStoreBuilder {
    /// Names the table: up to 63 ASCII letters, digits and `_`. Default `oauthtoken`.
    ///
    /// One database may hold several token tables.
    #[must_use]
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// Sets how long a call waits for other processes in all: 5 seconds if not set, at most a day.
    #[must_use]
    pub const fn busy_timeout(mut self, timeout: Duration) -> Self {
        let fits = timeout.as_secs() < LONGEST_BUSY_TIMEOUT.as_secs();
        self.patience.locks = if fits { timeout } else { LONGEST_BUSY_TIMEOUT };
        self
    }

    /// Refuses to open a file that anybody but its owner can read, instead of warning.
    #[must_use]
    pub const fn require_private(mut self, require: bool) -> Self {
        self.require_private = require;
        self
    }

    /// Accepts a file with hard links: other names of it that are backups.
    ///
    /// No process may open the database by another name while a store has it open: what SQLite
    /// keeps next to the file belongs to one name, and the database would be damaged. A hard link
    /// shows each change of the database, but not what is still in the write-ahead log.
    #[must_use]
    pub const fn allow_hard_links(mut self) -> Self {
        self.allow_hard_links = true;
        self
    }

    /// Opens the database at `path`, and makes it if it is missing.
    ///
    /// # Errors
    /// `invalid_input` when the table's name cannot be one, and as [`SqliteStore::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore> {
        let table = sql::checked_table_name(&self.table)?;
        let path = open::private_file(path.as_ref(), self.file_rules())?;
        let writer = open::writer(&path, table, self.patience.locks)?;
        let patient = open::reader(&writer, self.patience.locks)?;
        // As many as can run at once.
        let count = std::thread::available_parallelism().map_or(4, |count| count.get().min(16));
        let here = (0..count)
            .map(|_| open::reader(&writer, Duration::ZERO).map(shared))
            .collect::<Result<_>>()?;
        let core = Arc::new(Core::start(
            Some(shared(writer)),
            shared(patient),
            here,
            self.patience,
        )?);
        Ok(SqliteStore {
            host: Some(HostCoordination::new(core.clone(), &path)),
            core,
        })
    }

    /// Opens the database at `path` for reading, if it and its table are there; `None` if not.
    ///
    /// Nothing is made or changed in it: it keeps its journal mode and gets no index, so that
    /// look-ups in an official table read it from end to end. Writes fail with `store_permission`,
    /// and there is nothing to agree on with other processes. SQLite itself keeps two files next to
    /// a database with a write-ahead log while that is open, also to read; they are removed when the
    /// store is dropped. Where SQLite cannot make them, such as on a read-only mount, a database
    /// whose log is empty is read without them: no other process may then write it meanwhile.
    ///
    /// # Errors
    /// `invalid_input` when the table's name cannot be one, and as [`SqliteStore::open`].
    pub fn open_read_only(self, path: impl AsRef<Path>) -> Result<Option<SqliteStore>> {
        let table = sql::checked_table_name(&self.table)?;
        let Some(path) = open::existing_file(path.as_ref(), self.file_rules())? else {
            return Ok(None);
        };
        let tidy = open::Tidy::after_reading(&path);
        let Some(patient) = open::read_only(&path, table, self.patience.locks)? else {
            return Ok(None);
        };
        let mut core = Core::start(None, shared(patient), Vec::new(), self.patience)?;
        core.tidy = Some(tidy);
        Ok(Some(SqliteStore {
            core: Arc::new(core),
            host: None,
        }))
    }

    const fn file_rules(&self) -> open::FileRules {
        open::FileRules {
            require_private: self.require_private,
            allow_hard_links: self.allow_hard_links,
        }
    }

    /// Opens a new, empty database in memory.
    ///
    /// # Errors
    /// `invalid_input` when the table's name cannot be one, and as [`SqliteStore::in_memory`].
    pub fn in_memory(self) -> Result<SqliteStore> {
        let db = shared(open::in_memory(sql::checked_table_name(&self.table)?)?);
        // Without a disk nothing hangs.
        let patience = Patience {
            disk: Duration::MAX,
            ..self.patience
        };
        let core = Core::start(Some(db.clone()), db.clone(), vec![db], patience)?;
        Ok(SqliteStore {
            core: Arc::new(core),
            host: None,
        })
    }
}

fn shared(db: Db) -> Arc<Mutex<Db>> {
    Arc::new(Mutex::new(db))
}

impl Core {
    fn start(
        writer: Option<Arc<Mutex<Db>>>,
        reader: Arc<Mutex<Db>>,
        here: Vec<Arc<Mutex<Db>>>,
        patience: Patience,
    ) -> Result<Self> {
        let place = worker::lock(&reader).place.clone();
        let writer = writer.map(|db| WriteThread::spawn(db, patience));
        Ok(Self {
            writer: writer.transpose()?,
            reader: ReadThread::spawn(reader, patience)?,
            here,
            place,
            tidy: None,
        })
    }

    fn writer(&self) -> Result<&WriteThread> {
        self.writer.as_ref().ok_or_else(|| {
            let message = format!("{} was opened for reading only", self.place.name());
            Error::new(ErrorCode::StorePermission, message)
        })
    }

    /// Reads on the spot, if that can be done without waiting for anything.
    fn read_here<T>(&self, read: impl FnOnce(&Db) -> Result<T>) -> Option<Result<T>> {
        // Here nothing would end the wait for a disk that hangs.
        let writer_hangs = self.writer.as_ref().is_some_and(WriteThread::is_hung);
        if writer_hangs || self.reader.is_hung() {
            return None;
        }
        let db = self.here.iter().find_map(|db| match db.try_lock() {
            Ok(db) => Some(db),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })?;
        match read(&db) {
            Err(error) if error.code() == ErrorCode::StoreLocked => None,
            done => Some(done),
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.place.path())
            .field("table", &self.place.table())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TokenStore for SqliteStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        if let Some(found) = self.core.read_here(|db| db.find(query)) {
            return found;
        }
        let query = query.clone();
        self.core.reader.run(move |db| db.find(&query)).await
    }

    /// Inserts or updates, atomically and durably, and returns the id the record has from now on.
    ///
    /// # Cancellation
    /// From the first poll on the save is done, whether the future is kept or dropped.
    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        let token = token.checked()?;
        self.core
            .writer()?
            .run(move |db| save::save(db, &token))
            .await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.core.writer()?.run(move |db| db.delete(id)).await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        let (records, left_out) = self.core.reader.run(Db::all).await?;
        Place::left_out(&left_out);
        Ok(records)
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.core.writer()?.run(Db::clear).await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        if let Some(found) = self.core.read_here(|db| db.by_id(id)) {
            return found;
        }
        self.core.reader.run(move |db| db.by_id(id)).await
    }

    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        let read = move |db: &Db| db.page(after, limit);
        let (records, left_out) = self.core.reader.run(read).await?;
        Place::left_out(&left_out);
        Ok(records)
    }

    async fn inventory(&self) -> Result<Option<Inventory>> {
        self.core.reader.run(Db::inventory).await.map(Some)
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        let fact = fact.clone();
        let keep = move |db: &Db| {
            let stored = db.by_id(fact.id())?;
            match fact.ruling(stored.as_ref()) {
                Ruling::Save(record) => save::save(db, &record).map(|_| Kept::Saved),
                ruling => Ok(ruling.kept(stored.as_ref())),
            }
        };
        self.core.writer()?.run(keep).await
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        self.host.as_ref().map(|host| host as &dyn Coordination)
    }
}
