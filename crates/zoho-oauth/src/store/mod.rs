//! Where tokens live: the contract that every store keeps, and the stores themselves.
//!
//! Start with [`TokenStore`]. Its meaning is written once, in [`TokenTable`], which does no I/O;
//! `ListStore` and `FileStore` are thin shells around it, and the databases are held to it by the
//! conformance kit (module `conformance`, a feature). Stores know nothing of
//! networks, of refreshing, or of the clock.

#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) mod backoff;
mod change;
mod coordination;
pub mod copy;
#[cfg(feature = "file")]
pub mod file;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
pub(crate) mod given;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod hearing;
#[cfg(any(feature = "file", feature = "sqlite"))]
mod host_lock;
pub(crate) mod inventory;
mod list;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(
    test,
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "secrets-manager"
))]
pub(crate) mod rows;
#[cfg(feature = "secrets-manager")]
pub mod secrets_manager;
#[cfg(any(feature = "file", feature = "sqlite"))]
mod single_name;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub(crate) mod table;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::error::Result;
use crate::query::TokenQuery;
use crate::token::{OAuthToken, TokenId};

pub use change::Change;
pub use coordination::{
    Cell, Coordination, CoordinationKey, Fact, Guarantee, Kept, LeaseCells, Leases, Memo, Outage,
    Permit, Ruling, Verdict,
};
pub use copy::{CopyTokens, copy};
#[cfg(feature = "file")]
pub use file::FileStore;
pub use inventory::Inventory;
pub use list::ListStore;
#[cfg(feature = "mysql")]
pub use mysql::MySqlStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use redis::RedisStore;
#[cfg(feature = "secrets-manager")]
pub use secrets_manager::SecretsManagerStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
pub use table::TokenTable;

/// A place where tokens live. Six methods; anyone can implement it. The others are for stores that
/// can do more.
///
/// # What a store promises
/// - **Identity.** One record per login: the user name and the client id together. A record
///   without a user name is known by its refresh token and client id, then by its grant token and
///   client id, then by its access token. Two applications of one user never share a record.
/// - **Ids** are allocated by the store in rising order and never used twice, not even after
///   [`delete_tokens`](Self::delete_tokens).
/// - **Atomicity.** Readers see the old record or the new one, never a mixture; the same save from
///   many tasks or processes at once leaves one record. When a write fails, the stored record is
///   what it was.
/// - **Durability.** When a write answers `Ok`, it survives a crash, as far as the store outlives
///   the process at all.
/// - **Absence is an answer**, `None` or `false`, not an error.
/// - **Values** come back exactly as they were saved, or the save is refused with a clear error.
///
/// [`TokenTable`] carries all the rules and can be the heart of a store of your own: see
/// `examples/own_store.rs`. The kit in the module
/// `conformance` (a feature) tells you whether it is right. Write `#[zoho_oauth::async_trait]` above
/// the `impl`.
///
/// # Cancellation
/// A future that is dropped before it resolves leaves the record as it was or as it was to be,
/// never in between. The [`Authenticator`](crate::Authenticator) drops the future of a call that
/// takes longer than [`RefreshPolicy::store_timeout`](crate::RefreshPolicy::store_timeout).
#[async_trait]
pub trait TokenStore: Debug + Send + Sync + 'static {
    /// Returns the complete record for partial information, or `None`.
    ///
    /// Where several match, the one with the lowest id.
    ///
    /// # Errors
    /// [`StoreUnavailable`](crate::ErrorKind::StoreUnavailable) or
    /// [`StoreDamaged`](crate::ErrorKind::StoreDamaged); never for absence.
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>>;

    /// Inserts or updates, atomically and durably, and returns the id the record has from now on.
    ///
    /// - **With an id**: the record with that id is updated. If there is none, and the id is
    ///   higher than any the store ever gave, it is inserted under it (that is how records move
    ///   between stores), unless its login is stored already; otherwise it was deleted, and stays
    ///   so: `record_deleted`. If the update gives the record the identity of another one, the two
    ///   become one, under the other's id.
    /// - **Without an id**: the record with the same identity is updated, or a new one inserted.
    ///   A record that was saved before its user name was known is recognised by its tokens. If
    ///   there are several of one login, they become one, and what is blank is filled from them.
    /// - **Blank fields keep the stored value.** The access token and its expiry go together: a
    ///   different access token never keeps the old one's expiry, and an expiry without an access
    ///   token is ignored where one is stored.
    ///
    /// # Errors
    /// `invalid_input` when there is nothing to identify the record by, when a new record holds
    /// no token, or when a value cannot be stored; `id_conflict` when the record with that id
    /// belongs to another user or client; `record_deleted`, `ids_exhausted` as said; and what
    /// keeps the store from working. After an error the stored record is what it was.
    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId>;

    /// Deletes a record; `true` if it was there.
    ///
    /// # Errors
    /// What keeps the store from working; never for absence.
    async fn delete_token(&self, id: TokenId) -> Result<bool>;

    /// Returns all records in the order of their ids.
    ///
    /// # Errors
    /// What keeps the store from working.
    async fn get_tokens(&self) -> Result<Vec<OAuthToken>>;

    /// Deletes all records in one operation and returns how many there were.
    ///
    /// # Errors
    /// What keeps the store from working; then all records are still there.
    async fn delete_tokens(&self) -> Result<usize>;

    /// Returns the record with this id, or `None`.
    ///
    /// # Errors
    /// What keeps the store from working; never for absence.
    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>>;

    /// Returns up to `limit` records with ids above `after`, in the order of their ids.
    ///
    /// Start with `None`, go on with the id of the last record of a page, and stop at a page that
    /// is not full. Each page is read for itself: records that are saved meanwhile may show up.
    ///
    /// A store with many records reads no more than it answers; unless it says how, everything is
    /// read for each page.
    ///
    /// # Errors
    /// What keeps the store from working.
    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        let all = self.get_tokens().await?.into_iter();
        let rest = all.filter(|token| token.id > after);
        Ok(rest.take(limit).collect())
    }

    /// Counts the records in another way than by reading them, and names those that cannot be read.
    ///
    /// [`get_tokens`](Self::get_tokens) and [`get_tokens_page`](Self::get_tokens_page) leave out a
    /// record that cannot be read, with a warning in the log. [`copy`](copy()) compares what it read
    /// with this count, so that it never reports a complete copy of a part. `None` where the store
    /// has no other way to count. A decorator forwards this to the store inside it.
    ///
    /// # Errors
    /// What keeps the store from working.
    async fn inventory(&self) -> Result<Option<Inventory>> {
        Ok(None)
    }

    /// Saves what Zoho issued for a record, as [`Fact::ruling`] says.
    ///
    /// A store that can decides and writes in one step, so that nobody else's write to the record
    /// comes in between. Unless it says how, the record is read and then saved, and what another
    /// process saves at that very moment is not seen.
    ///
    /// # Errors
    /// As [`save_token`](Self::save_token).
    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        let stored = self.find_token_by_id(fact.id()).await?;
        match fact.ruling(stored.as_ref()) {
            // Not the whole record: a blank field stays, whatever it holds by then.
            Ruling::Save(_) => self.save_token(fact.news()).await.map(|_| Kept::Saved),
            ruling => Ok(ruling.kept(stored.as_ref())),
        }
    }

    /// Returns a receiver of what changes in the store from now on, whoever changes it, if the
    /// store can tell. A decorator forwards this to the store inside it.
    ///
    /// The [`Authenticator`](crate::Authenticator) listens, and so stops handing out a token at once
    /// that another process deleted or revoked.
    fn changes(&self) -> Option<broadcast::Receiver<Change>> {
        None
    }

    /// Returns the means to agree with other processes on who refreshes, if the store has them.
    ///
    /// Without them a token is refreshed once per process; the authenticator says so in
    /// [`guarantee`](crate::Authenticator::guarantee). A decorator forwards this to the store
    /// inside it.
    fn coordination(&self) -> Option<&dyn Coordination> {
        None
    }
}

macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<S: TokenStore + ?Sized> TokenStore for $pointer<S> {
            async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
                (**self).find_token(query).await
            }
            async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
                (**self).save_token(token).await
            }
            async fn delete_token(&self, id: TokenId) -> Result<bool> {
                (**self).delete_token(id).await
            }
            async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
                (**self).get_tokens().await
            }
            async fn delete_tokens(&self) -> Result<usize> {
                (**self).delete_tokens().await
            }
            async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
                (**self).find_token_by_id(id).await
            }
            async fn get_tokens_page(
                &self,
                after: Option<TokenId>,
                limit: usize,
            ) -> Result<Vec<OAuthToken>> {
                (**self).get_tokens_page(after, limit).await
            }
            async fn inventory(&self) -> Result<Option<Inventory>> {
                (**self).inventory().await
            }
            async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
                (**self).save_fact(fact).await
            }
            fn changes(&self) -> Option<broadcast::Receiver<Change>> {
                (**self).changes()
            }
            fn coordination(&self) -> Option<&dyn Coordination> {
                (**self).coordination()
            }
        }
    };
}

forward!(Arc);
forward!(Box);
