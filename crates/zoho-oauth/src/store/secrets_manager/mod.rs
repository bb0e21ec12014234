//! [`SecretsManagerStore`]: tokens in AWS Secrets Manager.

mod builder;
mod core;
mod fault;
mod index;
mod names;
mod pace;
mod save;
mod service;
mod value;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;

use self::core::Core;
use super::TokenStore;
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::token::{OAuthToken, TokenId};

pub use builder::SecretsManagerStoreBuilder;

/// What becomes of the secret of a deleted record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deletion {
    /// AWS keeps it for so many days, 7 to 30, from which `restore-secret` brings it back. Nobody
    /// can read it meanwhile.
    AfterDays(i64),
    /// It is gone at once.
    AtOnce,
}

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
}
