//! [`RedisStore`]: tokens in Redis or Valkey, for many machines.
//!
//! # Layout
//! All keys begin with the prefix in braces, `{zoho_oauth}:` unless set otherwise.
//!
//! | key | what it is |
//! | --- | --- |
//! | `{p}:store` | a hash: `format` (1), `generation`, `highest_id`, `writes`, a number that every insert and delete moves; `count`, the number of records; `history`, the server's name for the history of its data; `cleared_by` and `cleared`, the random name of the last `delete_tokens` and how many it deleted |
//! | `{p}:twin` | the generation once more: where it is there without `{p}:store`, that one was lost |
//! | `{p}:<g>:token:<id>` | a record: a hash with the ten official field names; a missing value has no field |
//! | `{p}:<g>:ids` | a sorted set of all ids, for reading in their order |
//! | `{p}:<g>:user:<d>`, `…refresh:<d>`, `…grant:<d>`, `…access:<d>` | indexes: sets of the ids of the records with this value |
//! | `{p}:<g>:cell:id:<id>` | what machines agree on about a record: a lease and a memo |
//! | `{p}:cell:start:<d>` | the same for a credential, from which a login is not stored yet or access tokens were made; gone an hour after it was written last |
//! | `{p}:done:<n>` | that the insert or delete with this random name was done; gone a minute after it was sent for the last time |
//! | `{p}:told` | nothing, but a write that replicas can be waited for to have; gone after a minute |
//! | `{p}:cleared` | a set of generations whose keys are still to be unlinked |
//! | `{p}:changes:<db>` | no key but the channel where changes are told |
//!
//! `<g>` is the generation, a number that `delete_tokens` raises. `<d>` is the first half of a
//! SHA-256 digest, so that no listing of keys shows a token. The records themselves are plain:
//! whoever may read the keys may read the tokens. So may whoever may call `SLOWLOG` or `MONITOR`, which
//! show the arguments of calls, and tokens are among ours: withhold both by ACL (`-slowlog -monitor`)
//! from everybody who may not read tokens.
//!
//! A record with tokens of Zoho's length takes about one and a half kilobytes, and less when the
//! server's `hash-max-listpack-value` (64 bytes) is raised above their length.
//!
//! # Atomicity
//! Each write is one Lua script: it compares what it is to replace, in all ten fields, touches
//! every key that it is going to write, so that nothing can fail half-way, and writes. Saves are
//! optimistic: they hold nothing while they think, and begin again when somebody was faster.
//!
//! An answer may get lost with its connection. Every script may be sent again: it knows by the
//! record, the cell, or the name it left, whether it was carried out before. So calls go on for
//! [`retry_for`](RedisStoreBuilder::retry_for) while the server cannot be reached, is starting
//! (`LOADING`), is busy, or changes its role, and come out right whatever was lost. A write that
//! still has no answer then fails with `store_unavailable`, and its text says that it may have been
//! done; saving the same once more is right either way. (A save whose answer was lost, and whose
//! record somebody else changed before it was sent again, is merged into that as if it had come
//! later.)
//!
//! `delete_tokens` raises the generation, which is one step whatever there is: from then on nobody
//! sees a record. Then it unlinks the old keys, 500 records at a time so that the server serves
//! others in between, and answers when they are gone. If that is interrupted, whoever opens the
//! store next goes on. Sent again, it spares what was saved since, however long it took; if somebody
//! else deleted everything meanwhile, it answers 0.
//!
//! A write goes on when its future is dropped.
//!
//! # Durability
//! Redis acknowledges what it has in memory. Whether that survives is a matter of its settings,
//! which the store reads when it is opened and [tells](RedisStore::persistence): with
//! `appendonly yes` and `appendfsync always` an acknowledged save is on disk, with `everysec` a
//! crash of the machine loses up to two seconds, with snapshots alone minutes, and without either
//! everything. The last two are logged as warnings, and
//! [`require_persistence`](RedisStoreBuilder::require_persistence) refuses what is too little. A
//! server that may evict keys without an end of their own (`maxmemory-policy allkeys-…` with a
//! limit) is refused. Use `noeviction`; with `volatile-…` what has an end of its own can go early:
//! leases of logins that are not stored yet, so that two machines exchange one grant; how many
//! access tokens were made from a refresh token, beside what its record remembers; and the notes
//! that a write was done, so that an insert whose answer was lost is done again although somebody
//! deleted the record meanwhile, or a delete answers that there was nothing. Settings that are
//! changed later are not seen.
//!
//! An acknowledged **login** that a crash or a fail-over takes has to be made again. Its **id** is
//! not given to anybody else, since it may be known elsewhere: the server gives the history of its
//! data another name (`master_replid` of `INFO replication`) after each start and each fail-over,
//! and the first insert into a new history leaves out the next 100,000 ids and somewhat more. So
//! ids jump then; there are enough for tens of thousands of times. They are also left out when a
//! cluster moves the slot, and after a primary had no replica for an hour. Where the server forbids
//! `INFO`, or its answer has no such name, nobody can know: the store says so in a warning when it
//! is opened, and an id that was taken can be given again. So can every id of a server that lost all
//! it had: whoever opens a store there begins at 1.
//!
//! # Locking
//! None over a call. [`coordination`](crate::TokenStore::coordination) gives leases by the server's
//! own clock, for all machines that use the store.
//!
//! # Changes
//! [`changes`](crate::TokenStore::changes) tells deletes and new refresh tokens as they happen, over
//! a second connection that is made when it is first asked for and ends with the last clone of the
//! store. After each connecting it says [`Missed`](crate::store::Change::Missed), since nobody
//! knows what happened until then.
//!
//! # Compatibility
//! Tested on Redis 7.0, alone and as the only node of a cluster. Meant for Redis 5 and later, where
//! scripts may read the clock and write, and for Valkey, which has the same protocol and the same
//! scripting: both untested here. Managed services that forbid `CONFIG` are asked with `INFO`; for one
//! that forbids that too see [Durability](#durability). The user needs `EVAL`, `EVALSHA` and what the scripts call on
//! keys that begin with the prefix, which is tried when the store is opened; and for changes the
//! channel.
//!
//! **Cluster.** All keys of a store have one hash tag, so they lie in one slot, and every script
//! names one key and makes the others with the same tag. One store is therefore on one shard, and
//! grows with that machine; several prefixes spread over the shards. The store follows the cluster
//! to the node with its slot. While the slot is being moved to another node calls wait for that,
//! and fail if it takes longer than they do: in between a script would not see all keys. Servers
//! that insist on every key being named beforehand are not supported. Nor is Sentinel by itself: a name
//! that always leads to the primary is enough.
//!
//! A key of another kind under our names is `store_foreign`. A record that cannot be read is
//! `store_damaged`, and the error names its id; it can be deleted, and the others stay usable:
//! `get_tokens` leaves it out with a warning.
//!
//! # Lost keys
//! A server that evicts keys, or a person, can take single keys away. What each loss comes to:
//!
//! | lost key | what happens |
//! | --- | --- |
//! | `{p}:store` | every call is `store_damaged`, opening too: the generation and the highest id are unknown |
//! | `{p}:twin` | nothing; opening the store makes it again |
//! | `…:token:<id>` | finding the record is `store_damaged`, and lists leave it out with a warning. A new login of the user gets a new record; `delete_token` takes the lost one away |
//! | `…:ids` | opening, lists and `delete_tokens` are `store_damaged`; look-ups and saves of known logins work |
//! | an index | the record is not found by that value, until the next save of the record makes the index again |
//! | `…:cell:…` | a lease is free again, so that a token may be refreshed twice at that moment |
//! | `{p}:done:<n>`, `{p}:told`, `{p}:cleared` | as [Durability](#durability) says; deleted records may stay in memory |
//!
//! `docs/troubleshooting.md` says how to restore `{p}:store` and `…:ids`.
//!
//! # Limits
//! A value may have 512 MiB. Look-ups, saves and deletes cost the same at a thousand records and at
//! a million. All is in the server's memory; when that is full saves fail with `store_full`, and
//! deletes still work.
//!
//! **Replication is asynchronous.** When a primary is lost, the replica that takes its place may
//! lack writes that were acknowledged. Refreshes lose nothing by that: Zoho does not give a new
//! refresh token with a new access token, so an older record is as good, and is refreshed once more.
//! A **login** of the last moment can be lost, and has to be made again; a delete can be undone; and
//! a lease can be held by two, so that a token is refreshed twice.
//! [`wait_replicas`](RedisStoreBuilder::wait_replicas) makes this rarer, not impossible. No id is given
//! to two: see [Durability](#durability).

mod builder;
mod coordination;

mod fault;
mod link;
mod names;
mod persistence;
mod script;
mod server;
mod settings;
mod watch;

use std::fmt;
use std::sync::Arc;

use ::redis::aio::ConnectionManager;
use async_trait::async_trait;
use tokio::sync::broadcast;

pub use self::builder::RedisStoreBuilder;
use self::coordination::FleetCoordination;
pub use self::persistence::Persistence;
use self::server::Core;
use self::watch::Watch;
use super::{Change, Coordination, Fact, Inventory, Kept, TokenStore, rows};
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::token::{OAuthToken, TokenId};

/// Keeps tokens in Redis or Valkey. See the [module documentation](self).
///
/// ```no_run
/// use zoho_oauth::store::redis::Persistence;
/// use zoho_oauth::RedisStore;
///
/// # async fn example() -> zoho_oauth::Result<()> {
/// let store = RedisStore::builder()
///     .host("redis.example")
///     .tls()
///     .user("portal")
///     .password("…")
///     .require_persistence(Persistence::EverySec)
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// Clones share the connection.
#[derive(Clone)]
pub struct RedisStore {
    core: Arc<Core>,
    coordination: FleetCoordination,
    /// `None` if nobody said how to make the connection for it.
    watch: Option<Arc<Watch>>,
    persistence: Persistence,
}

impl RedisStore {
    /// What the names of all keys begin with unless set otherwise.
    pub const DEFAULT_PREFIX: &'static str = "zoho_oauth";

    /// The port of Redis.
    pub const DEFAULT_PORT: u16 = 6379;

    /// Returns the settings of a store, to be changed before it connects.
    pub fn builder() -> RedisStoreBuilder {
        RedisStoreBuilder::new()
    }

    /// Works on a connection that the application made, with all else as it is by default: see
    /// [`RedisStoreBuilder::from_connection`].
    ///
    /// # Errors
    /// As [`RedisStoreBuilder::connect`].
    pub async fn from_connection(
        connection: ConnectionManager,
        prefix: impl Into<String>,
    ) -> Result<Self> {
        let builder = Self::builder().prefix(prefix);
        builder.from_connection(connection).await
    }

    /// Returns what the server keeps when it crashes, by its settings when the store was opened.
    pub const fn persistence(&self) -> Persistence {
        self.persistence
    }

    /// Returns what the names of all keys begin with.
    pub fn prefix(&self) -> &str {
        self.core.names.prefix()
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

/// Runs a write in a task of its own: it goes on when whoever waits for it goes away.
async fn in_task<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| {
        let code = if error.is_panic() {
            ErrorCode::Internal
        } else {
            ErrorCode::StoreUnavailable
        };
        Err(Error::new(code, "a write to Redis was not finished"))
    })
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl TokenStore for RedisStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        // Reads need no task: the driver keeps answers and questions apart when one is dropped.
        self.core.find(query).await
    }

    /// Inserts or updates, atomically, and returns the id the record has from now on. How durable it
    /// is then, [`persistence`](RedisStore::persistence) says.
    ///
    /// # Cancellation
    /// From the first poll on the save goes on, whether the future is kept or dropped.
    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        let (core, token) = (Arc::clone(&self.core), token.clone());
        in_task(async move { rows::save(&*core, &core.alone, &token).await }).await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        let core = Arc::clone(&self.core);
        in_task(async move { core.delete(id).await }).await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.core.records(None, usize::MAX).await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        let core = Arc::clone(&self.core);
        in_task(async move { core.clear().await }).await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.core.by_id(id).await
    }

    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        self.core.records(after, limit).await
    }

    async fn inventory(&self) -> Result<Option<Inventory>> {
        self.core.inventory().await.map(Some)
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        let (core, fact) = (Arc::clone(&self.core), fact.clone());
        in_task(async move { rows::save_fact(&*core, &fact).await }).await
    }

    fn changes(&self) -> Option<broadcast::Receiver<Change>> {
        self.watch.as_ref().map(|watch| watch.receiver())
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        Some(&self.coordination)
    }
}
