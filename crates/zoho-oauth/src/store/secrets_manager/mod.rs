//! [`SecretsManagerStore`]: tokens in AWS Secrets Manager, one secret per login.
//!
//! # Layout
//! The record 42 is the secret `zoho-oauth/token/42`, or whatever the
//! [prefix](SecretsManagerStoreBuilder::prefix) is. Its value is a JSON object with the ten official
//! field names, every value a string or `null`, so that a person or another program can read it. The
//! secret `zoho-oauth/ledger` is made with the first delete, and remembers the highest id of deleted
//! records in its tags. Nothing else is stored.
//!
//! Look-ups go by tags: `zoho-oauth:user`, `:refresh`, `:grant` and `:access` hold the first 16
//! bytes of SHA-256 over the field's name and its value, and the same keys with `-before` behind
//! them the digest of the value that was replaced last. Names and tags hold no token and no name of
//! a user. Tokens are random, and their digests cannot be turned back. Who may list secrets and
//! *guesses* a user name can check the guess by its digest, and sees how many logins there are and
//! when each was changed; the client is in no tag.
//!
//! Each process remembers which digest leads to which id, and no value. A look-up by id, user,
//! refresh, grant or access token is then one `GetSecretValue`, which also verifies it, however many
//! secrets there are. What a process does not know yet costs one filtered `ListSecrets` more; that
//! there is no such record, at most a handful of calls. A save of a refreshed token is three calls
//! (read, tag, write), a new login five or six.
//!
//! # Atomicity
//! One record is one value: readers see the old one or the new one. A write succeeds only if the
//! record is still what the save was decided on, also among processes: the version that follows
//! another has a name that is derived from it, and the service makes a version of one name once
//! (`ClientRequestToken`). The loser reads again and decides anew. For the same reason an answer
//! that was lost makes no second version. When a save answers `Ok`, the service has stored it. So a
//! refreshed token never takes the place of a new login that another process stores meanwhile.
//!
//! New records are numbered without a gap by making the secret with the next name, which fails if it
//! is taken; who makes one has read, by name, all that are too new for listings. So one login that
//! several processes save for the first time at once becomes one record, and ids rise and are not
//! given twice, also after deletes. The [next section](self#what-aws-does-not-promise) says how far.
//!
//! These are **not** one step, since the service has none for several secrets:
//! - When records of one login become one, the kept one is written first and the others are deleted
//!   after it. An interruption leaves both; the next save of the login finishes it.
//! - A record that is given a user name in one process, at the moment in which another process makes
//!   a new record for that user, can leave two records of one login. The lower id answers, and the
//!   next save of the login joins them once the listing shows both.
//! - `delete_tokens` deletes one secret after the other. After a failure some are gone: call again.
//! - When several processes delete one record at once with [`Deletion::AtOnce`], each may answer
//!   `true`.
//!
//! # What AWS does not promise
//! AWS calls all operations of the service *eventually consistent*. For **listings** it says what that
//! means: they may not show the last *five minutes*. The store does without them for that long. Before
//! it says that there is no such record, makes a new one, or returns or deletes all, it reads what was
//! made in the last quarter of an hour by name (five minutes, and the clocks of two machines may
//! differ by as many before AWS refuses calls). For one process this is a call per 20 such records,
//! once; mostly none.
//!
//! For **reads by name** AWS gives no time. The store takes that only for proof which cannot be late:
//! that the service refuses a name or a version which is taken, and that it lists versions which were
//! made. Where a read contradicts it, the store reads again for some six seconds, and a save for
//! twenty. What remains:
//! - Look-ups, lists and deletes answer as the service reads. Should that lag, they see the old record,
//!   and a record that another process has just made may be missing.
//! - If reads do not show a new record for more than six seconds, its login may be stored twice. The
//!   lower id answers, and the next save of the login joins them.
//! - With [`Deletion::AtOnce`] the name of a deleted secret is free again, and the ledger alone keeps its
//!   id from being given again. It is written before the delete and read before and after each new
//!   record is made; if it lags all that time in another process, the id gets a second owner. With
//!   [`Deletion::AfterDays`], the default, the service itself refuses the name, and that cannot be.
//! - Below more than a thousand ids in a row without a record (deleted, or passed over by a record
//!   that brought its id along) the store does not look for new records: they are found when listings
//!   show them.
//!
//! # Locking
//! Nothing is locked at the service. Inside a process, saves of one login wait for each other, as do
//! inserts, joins and deletes.
//!
//! [`coordination`](TokenStore::coordination) is `None`, and the guarantee of the authenticator
//! [`Process`](super::Guarantee::Process): the service has no lease that several processes could
//! agree by, and writing one into a secret would use up its versions. So each *process* refreshes a
//! token once; several processes whose token ends at the same moment may each ask Zoho, which counts
//! ten per ten minutes. Mostly they do not: before a refresh the store is read again, and whoever
//! comes later finds the new token. If many machines share logins that are always in use, keep the
//! tokens in PostgreSQL, MySQL or Redis, or let one process refresh and the others read.
//!
//! # Compatibility
//! The value may be written by another program: missing fields, `null`, `""` and numbers are read;
//! fields beyond the ten are ignored, and dropped by the next save. A value that is no such object is
//! `store_damaged`, with the name of the secret; other records stay usable: `get_tokens`
//! leaves it out with a warning, and `delete_tokens` deletes it with them.
//! A record that another program made or changed is found by its id, and by its other fields once
//! something read it or its tags are set. Records should be deleted through the store: the id of
//! a highest record that somebody else deleted may be given again.
//!
//! A deleted secret stays recoverable for seven days unless [set](SecretsManagerStoreBuilder::deletion)
//! otherwise, and `restore-secret` makes it a record again, under its old id. Moving the label
//! `AWSCURRENT` back to an older version by hand is understood.
//!
//! The process needs `secretsmanager:` `GetSecretValue`, `DescribeSecret`, `ListSecretVersionIds`,
//! `CreateSecret`, `PutSecretValue`, `TagResource`, `UntagResource` and `DeleteSecret` on the secrets
//! below the prefix, and `ListSecrets` and `BatchGetSecretValue` on `*`, which IAM cannot narrow; with a KMS
//! key of your own `kms:GenerateDataKey` and `kms:Decrypt`. A process that only reads can do without
//! those that write.
//!
//! TLS is rustls with ring, and the SDK is built without its default client. The SDK logs what it
//! does, and redacts values, unless its variable `LOG_SENSITIVE_BODIES` tells it otherwise.
//!
//! # Limits
//! - A record has at most 65,536 bytes as JSON; more is `invalid_input`, before anything is sent.
//! - The service keeps each version of a secret for a day and about a hundred of them. So a record
//!   has a [budget](SecretsManagerStoreBuilder::versions) of 24 changes at once and then one in 20
//!   minutes, per process; beyond it saves fail with `store_throttled`. A token per hour never
//!   gets near. A save that changes nothing writes nothing.
//! - A new *record* is found by other processes at once, although listings lag behind by up to five
//!   minutes. A new *access*, *refresh* or *grant token* of a record, or its first user name, is found
//!   by other processes as soon as the listing shows its digest; by id, or by a user name that it
//!   had, the record is found at all times.
//! - A process that ends between setting the tags and writing the value leaves a digest of a token
//!   that was never stored; the record is still found by its old token.
//! - The service allows some 10,000 reads, 100 listings and 50 writes per second to a whole account,
//!   and takes money for each secret and each 10,000 calls. Calls that are throttled are repeated
//!   with growing pauses, and then fail with `store_throttled`. The authenticator asks for each token
//!   in use every five seconds: raise [`with_recheck`](crate::RefreshPolicy::with_recheck) if that is
//!   too dear.
//! - `get_tokens` takes a call per 100 records and one per 20. A hundred or ten thousand logins
//!   are what the service is for; a million are not.
//! - Every call has a [time-out](SecretsManagerStoreBuilder::timeout). A write whose answer does not
//!   come is looked up before it is said to have failed.
//!
//! Tested with moto 5.2, which is laxer than AWS, and with a stub that limits, throttles, lists late
//! and loses answers as AWS documents it. **Not** tested against AWS itself, nor with replicas in
//! other regions.

mod builder;
mod core;
mod fault;
mod index;
mod lag;
mod names;
mod pace;
mod save;
mod service;
mod transport;
mod value;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;

use self::core::Core;
use super::{Fact, Inventory, Kept, TokenStore};
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::token::{OAuthToken, TokenId};

pub use builder::SecretsManagerStoreBuilder;
pub use service::Deletion;

/// Keeps tokens in AWS Secrets Manager. See the [module documentation](self).
///
/// ```no_run
/// use zoho_oauth::{Authenticator, SecretsManagerStore};
///
/// # async fn example() -> zoho_oauth::Result<()> {
/// let store = SecretsManagerStore::builder()
///     .prefix("production/zoho-oauth")
///     .region("eu-central-1")
///     .connect()
///     .await?;
/// let auth = Authenticator::builder(store).build()?;
/// # drop(auth);
/// # Ok(())
/// # }
/// ```
///
/// Clones share the client and what is known of the records.
#[derive(Clone)]
pub struct SecretsManagerStore {
    core: Arc<Core>,
}

impl SecretsManagerStore {
    /// What the names of all secrets begin with, unless set otherwise.
    pub const DEFAULT_PREFIX: &'static str = "zoho-oauth";

    /// Returns the settings of a store, to be changed before it is connected.
    pub fn builder() -> SecretsManagerStoreBuilder {
        SecretsManagerStoreBuilder::new()
    }

    /// Takes a client that the application made, and keeps all other settings as they are. For more:
    /// [`SecretsManagerStoreBuilder::with_client`].
    ///
    /// # Errors
    /// `invalid_input` when secrets cannot have such a prefix.
    pub fn from_client(client: Client, prefix: impl Into<String>) -> Result<Self> {
        Self::builder().prefix(prefix).with_client(client)
    }

    /// Returns what the names of all secrets begin with.
    pub fn prefix(&self) -> &str {
        self.core.service.names.prefix()
    }

    /// Does it in a task of its own, so that it is not left half done when nobody waits any more.
    async fn run<T, F>(&self, work: impl FnOnce(Arc<Core>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let done = tokio::spawn(work(Arc::clone(&self.core))).await;
        done.unwrap_or_else(|_| {
            let message = "an operation on AWS Secrets Manager was ended half-way";
            Err(Error::new(ErrorCode::StoreUnavailable, message))
        })
    }
}

impl fmt::Debug for SecretsManagerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsManagerStore")
            .field("prefix", &self.prefix())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TokenStore for SecretsManagerStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.core.find(query).await
    }

    /// Inserts or updates, as the trait says, with the limits of the
    /// [module documentation](self#atomicity).
    ///
    /// # Errors
    /// As there; `store_throttled` when the record changes too often, `invalid_input` when it takes
    /// more than 65,536 bytes as JSON.
    ///
    /// # Cancellation
    /// From the first poll on the save is done, whether the future is kept or dropped.
    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        let token = token.checked()?;
        self.run(|core| async move { save::save(&core, &token).await })
            .await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.run(|core| async move { core.delete(id).await }).await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.core.all().await
    }

    /// Deletes all records, one after the other: the service has no other way. Should it fail
    /// half-way, some are gone and some are not; call it again.
    ///
    /// # Errors
    /// What keeps the store from working.
    async fn delete_tokens(&self) -> Result<usize> {
        self.run(|core| async move { core.clear().await }).await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        let held = self.core.read(id).await?;
        Ok(held.map(|held| held.row))
    }

    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        self.core.page(after, limit).await
    }

    async fn inventory(&self) -> Result<Option<Inventory>> {
        self.core.inventory().await.map(Some)
    }

    /// Saves what Zoho issued for a record, in one step with the decision, also among processes.
    ///
    /// # Errors
    /// As [`save_token`](Self::save_token).
    ///
    /// # Cancellation
    /// From the first poll on the save is done, whether the future is kept or dropped.
    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        let fact = fact.clone();
        self.run(|core| async move { save::save_fact(&core, &fact).await })
            .await
    }
}
