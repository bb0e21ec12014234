//! [`MySqlStore`]: tokens in MySQL, MariaDB and clusters of them, in the official table.
//!
//! # Layout
//! One row per login in the official table, `oauthtoken` unless named otherwise, with the ten
//! official columns and nothing else. Where it is missing it is made: `id varchar(10)` as the
//! primary key, `expiry_time varchar(20)` (milliseconds since 1970, as text), the others
//! `mediumtext` in `utf8mb4_bin`, so that any token fits, and an index on the first 191 characters
//! of each of the four columns that records are looked up by. A missing value is NULL.
//!
//! What else is needed lies in two tables beside it, which all token tables of a database share:
//! `zoho_oauth_mark` (the highest id that was ever given, so that none is given twice, and a
//! counter of writes) and `zoho_oauth_lease` (what the machines tell each other about refreshes).
//! The account needs to read and write the three, by the GRANT lines in `SECURITY.md`; CREATE only
//! while one is missing, ALTER for [`widen`](MySqlStore::widen) only.
//!
//! # Atomicity
//! A save that changes one record and not its login, as each refresh does, is one `UPDATE` that
//! counts only if all ten columns are still what they were when it was decided, and is read back. All
//! other saves are one short transaction, and only if no other such save came between; a new record is
//! looked at once more after that (see Compatibility). No lock is held while something is decided, nor
//! while anything else than the database is waited for. `Ok` means that the server has committed; what
//! that is worth in a power cut is the server's setting (`innodb_flush_log_at_trx_commit` and
//! `sync_binlog`, both best 1).
//!
//! Each operation runs in a task of its own. Dropping its future neither stops nor halves it, and a
//! connection on which an answer is late is never used again.
//!
//! # Locking
//! None that lasts. What clusters do not have is not used: no named locks, no gap-free numbers, and
//! locking reads only where a trigger is suspected. Deadlocks, conflicts between nodes, nodes that are not ready, lost connections
//! and servers that restart are met by beginning anew, for 15 seconds unless
//! [set otherwise](MySqlStoreBuilder::patience); a Galera cluster that loses a node stands still for
//! about six. When the answer to a write is lost, the store looks whether it was done.
//!
//! [`coordination`](TokenStore::coordination) reaches the whole fleet: leases in the side table, by
//! the database's clock. In a cluster, the clocks of the nodes must agree to within a second or so.
//!
//! # Compatibility
//! A table that was made after the official SDKs' documentation is used as it is: `varchar(255)`,
//! any character set and collation, NULL or '' for none. Comparisons are to the byte whatever the
//! collation, and go by its indexes all the same. A value that is longer than its column is refused
//! with `column_too_narrow` before anything is cut off. A table without indexes is read from end to
//! end for each look-up; opening it warns, and [`widen`](MySqlStore::widen) gives it room and
//! indexes. A table of an older official SDK may call `user_name` `user_mail`, and is used under that
//! name. If it lacks `api_domain`, opening it is `store_foreign`, and
//! [`MySqlStoreBuilder::widen`] adds the column behind the others; an older SDK that names its columns
//! goes on with the table. Ids of older SDKs, such as `python_u1_EU_9f3c`, become numbers when the table
//! is widened, all in one transaction, and not before. Rows whose id is no number, or whose expiry is none or has zeros or a plus before it, are
//! `store_damaged` when they are looked up, and are left out of lists with a warning; the others stay
//! usable. The text `null`, which some official SDKs write for nothing, is none, in `user_name` only if
//! another field of the row is `null` too. A record that a unique index or another
//! rule of the application's refuses is `store_foreign`. So is one that a trigger, or a column of type
//! CHAR, changes: each write is read back. Where such a column, or a trigger that the account may see
//! (the right TRIGGER), is there when the store is opened, that happens before the commit, else the
//! first such write of a save has been done.
//!
//! Variables of the server's sessions that would change a statement of ours (`sql_select_limit`,
//! `sql_mode` and the like) are set on each connection; those of an application's pool get back what
//! they had.
//!
//! Official SDKs may use the same table at the same time. What to know about them:
//! - They number new records after the highest id *as text*. Once there are ids 9 and 10, that is
//!   10 for ever: the Python SDK then fails to add an eleventh record, and those for Java and PHP
//!   write it over record 10, whoever that belongs to. So this store leaves out what an official
//!   SDK could give at the same moment: the eight numbers after the highest text, whether that is
//!   still there or was deleted, and 10, 100, 1000 and so on, each with the nine numbers before it,
//!   so that they can always add ten records, as they can without this store. If theirs caught up
//!   with it all the same by the time it has committed, the new record moves on to another id before
//!   the save is acknowledged; who found it in that moment has an id that is gone. What cannot be seen from
//!   here: an SDK that has worked out its number from a record that another SDK added and deleted
//!   since. Our ids rise and leave gaps; the first one in an empty table is 11.
//! - With [`ids_from`](MySqlStoreBuilder::ids_from)[`(MySqlStore::SHARED_IDS)`](MySqlStore::SHARED_IDS)
//!   new ids have nine digits and begin with a 9. Text and number then agree, and the official SDKs
//!   can add records past the tenth, as many as they like, unless the table has a row with an id
//!   from 91 to 99, or 901 to 999, and so on, which comes after all of them as text. Eleven million
//!   records of ours have room. The ids are below 2³¹, since the SDK for Java (6.0, read and not run)
//!   computes the next number as an `int`.
//! - They look records up by user name alone, whatever the client, and change a record by its
//!   user name, not by its id. An `UPDATE` of theirs that changes nothing makes them insert a
//!   second row for the login. So does an insert of theirs at the same moment as one of ours: nothing
//!   in the table keeps two rows from having one user. Look-ups then find the one with the lower id.
//! - They delete without a word to us: the id of a record that they added *and* deleted may be
//!   given again.
//!
//! # Limits
//! InnoDB only, since other engines have no transactions. The primary key must be `id`. Reads must
//! see what was written: no replica that lags behind, and in a Galera cluster each read waits for
//! the node to catch up (`wsrep_sync_wait`). Pages ([`get_tokens_page`](TokenStore::get_tokens_page))
//! cost what they hold, except for the last one, and for one behind a long gap in the ids, which
//! look at all ids once and may take as long as that takes. `get_tokens` reads row by row and keeps
//! only the records. The driver's own logging is left out, since it prints bound values; switching
//! on `mysql_async`'s feature `tracing` elsewhere in a program brings it back. The driver encrypts
//! with the process-wide cryptography of `rustls`; if the program chose none, `ring` is made the
//! default when a store first needs TLS.
//!
//! Tested on MariaDB 10.11, and on a Galera cluster of three nodes of it. Not tested on MySQL 8 and
//! what descends from it (Percona's cluster, Aurora and other services), nor on servers that only
//! speak its protocol: statements keep to what both MySQL 8 and MariaDB document.

mod builder;
mod column;
mod core;
mod fault;
mod leases;
mod nodes;
mod page;
mod row;
mod schema;
mod server;
mod session;
mod sql;
#[cfg(test)]
mod tests;
mod tls;
mod variables;
mod widen;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::core::{Core, in_task};
use self::leases::FleetCoordination;
use self::server::Rows;
use super::{Coordination, Fact, Inventory, Kept, TokenStore, rows};
use crate::error::Result;
use crate::query::TokenQuery;
use crate::token::{OAuthToken, TokenId};

pub use self::builder::MySqlStoreBuilder;
pub use self::tls::MySqlTls;
pub use self::widen::Widened;
/// The driver's pool, for [`MySqlStore::from_pool`].
pub use mysql_async::Pool;

/// Keeps tokens in MySQL or MariaDB. See the [module documentation](self).
///
/// ```no_run
/// use zoho_oauth::store::mysql::MySqlStore;
///
/// # async fn example() -> zoho_oauth::Result<()> {
/// let store = MySqlStore::builder()
///     .host("db.example.com")
///     .database("portal")
///     .user("portal")
///     .password("…")
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// Clones share their connections, which live on the tokio runtime that first used them. When the
/// last clone is dropped they are closed in the background; [`disconnect`](Self::disconnect) waits
/// for that.
#[derive(Clone)]
pub struct MySqlStore {
    core: Arc<Core>,
    coordination: FleetCoordination,
}

impl MySqlStore {
    /// The table name of the official stores.
    pub const DEFAULT_TABLE: &'static str = "oauthtoken";

    /// Where to begin with ids so that official SDKs can go on adding records to the same table: see
    /// [`ids_from`](MySqlStoreBuilder::ids_from).
    pub const SHARED_IDS: TokenId = TokenId::from_checked(900_000_000);

    fn new(core: Core, lease: Duration) -> Self {
        let core = Arc::new(core);
        Self {
            coordination: FleetCoordination::new(core.clone(), lease),
            core,
        }
    }

    /// Returns the settings of a store, to be changed before it is opened.
    pub fn builder() -> MySqlStoreBuilder {
        MySqlStoreBuilder::default()
    }

    /// Connects with the official defaults: `localhost`, port 3306, user `root` without a password,
    /// database `zohooauth`, table `oauthtoken`.
    ///
    /// # Errors
    /// As [`MySqlStoreBuilder::connect`].
    pub async fn connect() -> Result<Self> {
        Self::builder().connect().await
    }

    /// Uses a pool that the application owns, and never closes it: see
    /// [`MySqlStoreBuilder::open_pool`].
    ///
    /// # Errors
    /// As [`MySqlStoreBuilder::connect`].
    pub async fn from_pool(pool: Pool, table: impl Into<String>) -> Result<Self> {
        Self::builder().table(table).open_pool(pool).await
    }

    /// Gives a table that was made for the official SDKs room for any token, and an index for each
    /// column that is looked up by. What is wide enough and indexed already is left alone, so it can
    /// be called at any time, from several processes.
    ///
    /// Columns become `mediumtext` in `utf8mb4` (`varchar(768)` where an index of the application
    /// holds the whole column); rows, other columns, indexes, defaults, comments, rules and
    /// collations in `utf8mb4` stay. Records whose id is no number, as older official SDKs gave them,
    /// get one ([`Widened::numbered`]), all or none of them. Columns that an index of the application holds together with
    /// others stay as they are ([`Widened::left`]). The server copies the table for that: other
    /// writers wait meanwhile, and in a Galera cluster everybody does. The indexes are built while
    /// others read and write.
    ///
    /// # Errors
    /// `store_permission` when the account may not alter the table, `store_foreign` when a rule, a
    /// trigger or a reference of another table keeps an id from changing, `store_locked` when somebody
    /// uses it for too long, and what keeps the database from working.
    ///
    /// # Cancellation
    /// Goes on to its end, whether the future is kept or dropped.
    pub async fn widen(&self) -> Result<Widened> {
        let core = self.core.clone();
        in_task(async move { core.widen().await }).await
    }

    /// Closes the connections, of all clones; a pool of the application stays open. What is asked
    /// afterwards fails.
    pub async fn disconnect(self) {
        self.core.nodes.disconnect().await;
    }
}

impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

#[async_trait]
impl TokenStore for MySqlStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        let (core, query) = (self.core.clone(), query.clone());
        in_task(async move { core.find(&query).await }).await
    }

    /// Inserts or updates, atomically and durably, and returns the id the record has from now on.
    ///
    /// # Errors
    /// As [`TokenStore::save_token`], and `column_too_narrow` in a table that was made for shorter
    /// values.
    ///
    /// # Cancellation
    /// From the first poll on the save is done, whether the future is kept or dropped.
    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        let (core, token) = (self.core.clone(), token.clone());
        let save = async move {
            let server = Rows::new(core.clone());
            rows::save(&server, &core.alone, &token).await
        };
        in_task(save).await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        let core = self.core.clone();
        in_task(async move { core.delete(id).await }).await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        let core = self.core.clone();
        in_task(async move { core.all().await }).await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        let core = self.core.clone();
        in_task(async move { core.clear().await }).await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        let core = self.core.clone();
        in_task(async move { core.by_id(id).await }).await
    }

    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        let core = self.core.clone();
        in_task(async move { core.page(after, limit).await }).await
    }

    async fn inventory(&self) -> Result<Option<Inventory>> {
        let core = self.core.clone();
        in_task(async move { core.inventory().await.map(Some) }).await
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        let (core, fact) = (self.core.clone(), fact.clone());
        in_task(async move { rows::save_fact(&Rows::new(core), &fact).await }).await
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        Some(&self.coordination)
    }
}
