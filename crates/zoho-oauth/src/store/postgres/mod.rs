//! [`PostgresStore`]: tokens in a PostgreSQL database, for any number of machines.
//!
//! # Layout
//! One row per login in a table, `oauthtoken` unless named otherwise, with the ten columns of the
//! official stores in their order, all of type `text`: `id` (a number, and the primary key),
//! `user_name`, `client_id`, `client_secret`, `refresh_token`, `access_token`, `grant_token`,
//! `expiry_time` (milliseconds since 1970), `redirect_url`, `api_domain`. A missing value is NULL.
//! Beside it, in the same schema and for all token tables there: `zoho_oauth_mark`, the highest id
//! that was ever given and a number that moves with each insert, delete and join;
//! `zoho_oauth_lease`, what machines agree on about a login, without secrets. Five indexes, named
//! `zoho_oauth_<table>_…`, lead every look-up straight to its row: hash indexes for the user name
//! and the three tokens, since they take values of any length, and a tree over the ids as numbers.
//!
//! What is missing is made when a store is opened: the schema too, if it was named. Two that open
//! at the same time wait for each other (an advisory lock that ends with the transaction). A user
//! who may not make tables can open a store that has everything, by the GRANT lines in `SECURITY.md`.
//!
//! # Atomicity
//! Every operation is one statement, and so one transaction: nothing is left open when a connection
//! breaks. A save reads the few rows that matter, decides by the rules of
//! [`TokenTable`](crate::TokenTable), and writes on the condition that all ten columns of the rows
//! in question, and for inserts the mark, are still what was read; otherwise it begins again. No
//! lock is held while anything is decided.
//!
//! A write that comes out as something else than was asked for is taken back by the same statement, and
//! is `store_foreign`: a trigger of the application swallowed or changed it, or changed more in the
//! table than the write. A trigger that is to write a row of the table does so before it is written
//! (`BEFORE`, into `NEW`): a second write to the row cannot be told from one to another row. Where the table has
//! triggers when it is opened, a write is also read back before it is committed, since triggers may
//! change a row after it was written. A table with rules (`CREATE RULE`) is refused.
//!
//! When a write answers `Ok`, the server has it on disk: where `synchronous_commit` is `off`, each
//! write turns it on for itself; `local` and all stronger settings are left as they are. A server
//! that runs with `fsync = off` cannot promise that, and opening a store there logs a warning.
//!
//! Each operation runs in a task of its own, with a time-out per try (10 seconds unless
//! [set otherwise](PostgresStoreBuilder::timeout), ten times that for those on all records and for
//! pages) after which the connection is closed and the server is asked to stop, which [an
//! application's pool](PostgresStoreBuilder::connect_with) has to do by itself. Lost connections, a
//! server that restarts, a standby where the primary was, deadlocks and serialization failures are
//! tried again for 5 seconds, unless [set otherwise](PostgresStoreBuilder::patience). A write whose
//! answer was lost is tried again on the same conditions, and if those do not hold any more, the
//! record is read: if it is what was written, the write happened. Two answers are less than exact
//! in that case: [`delete_token`](TokenStore::delete_token) then says `true` for a record that is
//! gone, and [`delete_tokens`](TokenStore::delete_tokens) counts what the last try found. An error
//! after a lost connection or a time-out may stand for a write that was done.
//!
//! # Locking
//! None beyond the rows of the statement that runs; whatever inserts, deletes or joins locks the
//! row of the mark first. [`coordination`](TokenStore::coordination) reaches all machines that use
//! the database: leases by the server's clock, 20 seconds long unless
//! [set otherwise](PostgresStoreBuilder::lease), renewed while they are held.
//!
//! [`changes`](TokenStore::changes) tells of deletes and of new refresh tokens, whoever of us makes
//! them, at once: they are sent with `NOTIFY` by the transaction that makes them. From the first
//! call on, one connection more listens, until the last clone of the store is dropped. When it
//! begins, also after it was lost, it says [`Change::Missed`]. Transactions that notify wait
//! for each other in PostgreSQL; those that save an access token do not notify.
//!
//! # Compatibility
//! A table of that name that is there already is used as it is if it has the ten columns as `text`
//! or `varchar`, in any order and with any other columns; NULL and `''` are both none. The
//! text `null`, which some official SDKs write for none, is a value here: they have no store on
//! PostgreSQL. Values are
//! compared byte by byte, whatever the collation. A row whose id is no number, or whose expiry is
//! none or has zeros or a plus before it, is `store_damaged` when it is looked up, and is left out of
//! lists with a warning. A value that a
//! `varchar` has no room for is refused; `ALTER TABLE … ALTER COLUMN … TYPE text` makes room without
//! rewriting the table. What else has the name is `store_foreign` and left untouched. Other programs
//! may write to the table; what they insert gets its ids from them, and of what they delete the
//! highest id is not remembered.
//!
//! Behind a proxy that pools transactions, like `PgBouncer`, turn prepared statements off:
//! [`prepared_statements(false)`](PostgresStoreBuilder::prepared_statements).
//!
//! Settings that would change a statement of ours (`search_path`, `row_security`, the isolation and
//! others) are set once on connections of our own. Behind such a proxy, and on connections of an
//! application's pool, each statement is a transaction that sets them for itself, and others see
//! nothing of it. A policy of row-level security that would hide records from the database user is
//! `store_permission`, whenever it is switched on: the user needs BYPASSRLS, or to own the table.
//!
//! To listen, a proxy is of no use: name the server itself with
//! [`listen_on`](PostgresStoreBuilder::listen_on).
//!
//! # Limits
//! A value may have up to a gigabyte, less what the others have. A database in another encoding than
//! UTF-8 refuses what it cannot express. Look-ups, saves, deletes and pages cost the same at a
//! thousand rows and at a million; [`get_tokens`](TokenStore::get_tokens) holds all rows in memory
//! twice. Opening a store on a large table without our indexes builds them, during which nobody
//! writes to it. Reads go where writes go: a standby that lags behind would bring old tokens back.
//! With asynchronous replication a failover can lose what was acknowledged last; PostgreSQL's
//! `synchronous_standby_names` prevents that.
//!
//! Connections to other machines use TLS, and the certificate is checked against the host's name,
//! unless that is [turned off](PostgresStoreBuilder::without_tls). `PGHOST`, `PGPASSWORD`,
//! `~/.pgpass` and the like are not read.
//!
//! Tested with PostgreSQL 15 and `PgBouncer` 1.18. It should work from version 11 on. Not tested:
//! other versions, managed services, and servers that only speak PostgreSQL's protocol; those that
//! lack hash indexes or `NOTIFY` cannot be used.

mod address;
mod builder;
mod connect;
mod coordination;
mod fault;
mod listen;
mod plan;
mod records;
mod schema;
mod server;
mod sql;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

use self::coordination::FleetCoordination;
use self::listen::Listening;
use self::server::{Server, apart};
use super::{Change, Coordination, Fact, Inventory, Kept, TokenStore, rows};
use crate::error::Result;
use crate::query::TokenQuery;
use crate::token::{OAuthToken, TokenId};

pub use builder::PostgresStoreBuilder;
/// The pool that [`PostgresStore::from_pool`] takes, in the version that it takes.
pub use deadpool_postgres;

/// Keeps tokens in a PostgreSQL database. See the [module documentation](self).
///
/// ```no_run
/// use zoho_oauth::{PostgresStore, TokenQuery, TokenStore, UserName};
///
/// # async fn example(password: String) -> zoho_oauth::Result<()> {
/// let store = PostgresStore::builder()
///     .host("db.example.com")
///     .database("portal")
///     .user("portal")
///     .password(password)
///     .connect()
///     .await?;
/// let ann = UserName::new("ann@example.com:60001")?;
/// let token = store.find_token(&TokenQuery::user_name(ann)).await?;
/// # Ok(())
/// # }
/// ```
///
/// Clones share the connections. They are closed when the last clone is dropped and what is under
/// way is done.
#[derive(Clone)]
pub struct PostgresStore {
    core: Arc<Core>,
}

struct Core {
    server: Arc<Server>,
    coordination: FleetCoordination,
    listening: Option<Listening>,
}

impl PostgresStore {
    /// The table name of the official stores.
    pub const DEFAULT_TABLE: &'static str = "oauthtoken";

    /// The database name of the official stores.
    pub const DEFAULT_DATABASE: &'static str = "zohooauth";

    /// Returns the settings of a store, to be changed before it is opened.
    pub fn builder() -> PostgresStoreBuilder {
        PostgresStoreBuilder::new()
    }

    /// Opens the table of this name through a pool of the application, and makes it if it is
    /// missing.
    ///
    /// The schema is the first of the connection's `search_path`, and nobody listens for changes:
    /// [`PostgresStoreBuilder::connect_with`] has a choice. The pool should recycle its connections
    /// by `RecyclingMethod::Fast`; its time-outs, if it has any, count as well. A connection that
    /// somebody returned with a transaction left open is closed, and nothing of ours gets into
    /// that transaction: each statement is a transaction of its own, in the same round trip.
    ///
    /// # Errors
    /// As [`PostgresStoreBuilder::connect`].
    pub async fn from_pool(
        pool: deadpool_postgres::Pool,
        table: impl Into<String> + Send,
    ) -> Result<Self> {
        Self::builder().table(table).connect_with(pool).await
    }

    fn start<T, F>(&self, work: impl FnOnce(Arc<Server>) -> F) -> impl Future<Output = Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        apart(work(Arc::clone(&self.core.server)))
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.core.server.line.place;
        f.debug_struct("PostgresStore")
            .field("server", &place.server)
            .field("schema", &place.schema)
            .field("table", &place.table)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TokenStore for PostgresStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        let query = query.clone();
        self.start(|server| async move { server.find(&query).await })
            .await
    }

    /// Inserts or updates, atomically and durably, and returns the id the record has from now on.
    ///
    /// # Cancellation
    /// From the first poll on the save is done, whether the future is kept or dropped.
    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        let token = token.clone();
        self.start(|server| async move { rows::save(&*server, &server.alone, &token).await })
            .await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.start(|server| async move { server.delete(id).await })
            .await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.start(|server| async move { server.all().await }).await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.start(|server| async move { server.clear().await })
            .await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.start(|server| async move { server.by_id(id).await })
            .await
    }

    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        self.start(|server| async move { server.page(after, limit).await })
            .await
    }

    async fn inventory(&self) -> Result<Option<Inventory>> {
        self.start(|server| async move { server.inventory().await.map(Some) })
            .await
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        let fact = fact.clone();
        self.start(|server| async move { rows::save_fact(&*server, &fact).await })
            .await
    }

    /// Returns a receiver of what changes from now on; `None` if nothing was set to listen on, or
    /// outside of a tokio runtime.
    fn changes(&self) -> Option<broadcast::Receiver<Change>> {
        self.core.listening.as_ref()?.receiver()
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        Some(&self.core.coordination)
    }
}
