//! An access token for a user: from memory, from the store, or from Zoho.
//!
//! Each file imports only files before it in this list; a test compares the two:
//!
//! - `policy`, `event`, `decide`, `access`, `cache`, `credential_state`, `single_flight`: data, and
//!   decisions as pure functions. Nothing here does I/O.
//! - `store_health`, `lock`: the store as it is used: observed, and locked for one token.
//! - `inner`: what all clones of the authenticator share.
//! - `change_feed`, `revalidate`: whether a cached token is still the stored one.
//! - `memory`, `mints`, `lock_queue`: the refresh budget, and the wait for a refresh lock.
//! - `naming`, `login_credential`, `save_later`: which records are one login, and what Zoho issued
//!   that the store does not hold yet.
//! - `persist`, `renew`, `serve`: a new access token for a stored record.
//! - `login`, `start`: from a credential to a stored record.
//! - `session`: the handle that applications hold.

mod access;
mod cache;
mod change_feed;
mod credential_state;
mod decide;
mod event;
mod inner;
mod lock;
mod lock_queue;
mod login;
mod login_credential;
mod memory;
mod mints;
mod naming;
mod persist;
mod policy;
mod renew;
mod revalidate;
mod save_later;
mod serve;
mod session;
mod single_flight;
mod start;
mod store_health;

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Semaphore, broadcast};

pub use access::Access;
pub use event::Event;
pub use policy::RefreshPolicy;
pub use session::Session;
pub use store_health::StoreState;

use crate::accounts::AccountsClient;
use crate::clock::Timestamp;
use crate::credential::{Credential, OAuthClient};
use crate::data_center::{DataCenter, DataCenters};
use crate::error::{ErrorCode, Result};
use crate::http::{HttpClient, HttpOptions};
use crate::store::{Guarantee, TokenStore};
use crate::token::{OAuthToken, TokenId, UserName};
use cache::{CacheEntry, Sweep, TokenCache};
use credential_state::{Attempts, Mints};
use inner::{Inner, Listener};
use lock::Locks;
use single_flight::SingleFlight;
use store_health::{Health, Observed};

/// How many events a slow listener may fall behind before it misses some.
const EVENTS: usize = 256;

/// Gives every user a good access token: joins a [store](crate::TokenStore), Zoho's accounts
/// servers and a [`RefreshPolicy`].
///
/// Ask it for a [`Session`], and the session for access tokens. What happens in between:
///
/// 1. A token in memory that is good is returned at once.
/// 2. One that is near its end is returned too, and refreshed in the background.
/// 3. Otherwise all callers wait for one refresh, which runs in a task of its own: agree with
///    other processes, read the store again, decide, ask Zoho, **save**, and only then hand out.
///
/// Cheap to clone; all clones share the tokens in memory. Users, clients and data centers work
/// side by side: there is no global to switch.
///
/// Needs a tokio runtime with its timer on, which is driven for as long as the authenticator is
/// used: a refresh in the background stands still, with its lock held, while a `current_thread`
/// runtime is not inside `block_on`.
///
/// ```
/// use zoho_oauth::{Authenticator, Credential, GrantToken, ListStore, OAuthClient};
/// # use zoho_oauth::DataCenter;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sandbox = zoho_sandbox::Sandbox::builder().start().await?;
/// # let center = DataCenter::builder("us", sandbox.accounts_url()).api_domain(sandbox.api_url());
/// # let center = center.build()?;
/// # let code = sandbox.grant_code(&sandbox.people()[0], "ZohoCRM.modules.ALL");
/// # let (id, secret) = (sandbox.client_id(), sandbox.client_secret());
/// // Against Zoho: `let center = DataCenter::eu();`
/// let auth = Authenticator::builder(ListStore::new()).data_center(center).build()?;
/// let login = Credential::grant(OAuthClient::new(id, secret)?, GrantToken::new(code)?);
/// let session = auth.session(login).await?;
///
/// // Before every call to the API:
/// let access = session.access_token().await?;
/// let header = format!("Zoho-oauthtoken {}", access.token().expose_secret());
/// # assert!(header.len() > 20);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Authenticator {
    inner: Arc<Inner>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("store", &self.inner.store)
            .field("guarantee", &self.guarantee())
            .finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Starts an authenticator over a store.
    pub fn builder(store: impl TokenStore) -> AuthenticatorBuilder {
        AuthenticatorBuilder {
            store: Arc::new(store),
            client: None,
            center: None,
            centers: DataCenters::known(),
            http: HttpOptions::default(),
            policy: RefreshPolicy::default(),
        }
    }

    /// Returns a handle to the stored record that `credential` leads to.
    ///
    /// A grant token is exchanged, once, however many tasks and processes start from it; after
    /// that the record is found by it. A refresh token is found in the store, or used once to get
    /// the first access token. An access token is found or stored as it is. An id and a user must
    /// be stored already.
    ///
    /// A grant token that Zoho refuses, most often since it is spent, leads to the stored login of
    /// the user that the credential names, under its client. So settings may go on naming the grant
    /// token of the first login. A refresh token gives way to such a stored login too: see
    /// [`RefreshCredential`](crate::RefreshCredential).
    ///
    /// # Errors
    /// `login_required` when the id or the user is not stored; `unknown_data_center` when Zoho's
    /// answer names an API domain that is not one of the data center that was asked, and
    /// `id_conflict` when the stored login of the user is one of another environment (nothing is
    /// stored then, and the error carries the token); `invalid_code` when Zoho refuses the token;
    /// `refresh_token_missing` and `token_not_saved`, both carrying the token that Zoho
    /// issued (see [`Error::unsaved_token`](crate::Error::unsaved_token)); the errors of the
    /// client, the network and the store.
    ///
    /// # Cancellation
    /// A login that Zoho was asked for is finished and stored, also if the caller goes away, and
    /// also if the store is away at that moment: as long as this process and its runtime live.
    pub async fn session(&self, credential: impl Into<Credential>) -> Result<Session> {
        change_feed::begin(&self.inner);
        let entry = Box::pin(start::start(&self.inner, credential.into())).await?;
        Ok(self.handle(entry))
    }

    /// Saves a login that an error carried (see [`Error::unsaved_token`]), and returns a handle to it.
    ///
    /// For a login whose save failed, and for one without a refresh token, once the application has
    /// found out who the user is: with the user's name set, it joins the stored login of that user
    /// under the same client, data center and environment.
    ///
    /// [`Error::unsaved_token`]: crate::Error::unsaved_token
    ///
    /// # Errors
    /// `refresh_token_missing` when there is none in `token`, and none is stored for its user;
    /// `unknown_data_center`, `id_conflict` and `token_not_saved`, as [`session`](Self::session). The
    /// error carries `token`.
    ///
    /// # Cancellation
    /// The login may then be saved or not.
    pub async fn save_login(&self, token: OAuthToken) -> Result<Session> {
        let center = self.inner.center_of(&token, None);
        let center = center.map_err(|error| error.with_unsaved_token(token.clone()))?;
        let stored = login::store_login(&self.inner, token, &center, None, None);
        let entry = Box::pin(stored).await?;
        // Its access token is one of those that Zoho counts.
        let issued = vec![Timestamp::now()];
        memory::count(&self.inner, &entry, issued, None).await;
        Ok(self.handle(entry))
    }

    /// Returns an access token of a stored user that is good now.
    ///
    /// With a client set in the builder, the user's record under that client, or one that belongs to
    /// no client where there is none. See [`Session::access_token`]; holding a session saves the
    /// look-up by name.
    ///
    /// # Errors
    /// `login_required` when the user is not stored; else as [`Session::access_token`].
    pub async fn access_token(&self, user: &UserName) -> Result<Access> {
        let quick = self.inner.users.look(user, CacheEntry::quick);
        match quick {
            Some(access) => Ok(access),
            None => Box::pin(self.access_token_slowly(user)).await,
        }
    }

    async fn access_token_slowly(&self, user: &UserName) -> Result<Access> {
        let known = self.inner.users.get(user);
        if let Some(entry) = known {
            match serve::access_token(&self.inner, &entry).await {
                // Perhaps the user logged in again since, under a new id.
                Err(error) if error.code() == ErrorCode::RecordDeleted => {}
                answer => return answer,
            }
        }
        self.session(user.clone()).await?.access_token().await
    }

    /// Ends a login at Zoho and deletes its record; `false` if there is no such record.
    ///
    /// # Errors
    /// As [`Session::revoke`].
    pub async fn revoke(&self, id: TokenId) -> Result<bool> {
        let session = match self.session(id).await {
            Ok(session) => session,
            Err(error) if error.code() == ErrorCode::LoginRequired => return Ok(false),
            Err(error) => return Err(error),
        };
        match session.revoke().await {
            Ok(()) => Ok(true),
            Err(error) if error.code() == ErrorCode::RecordDeleted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes a record from the store and from memory, without a word to Zoho; `false` if there
    /// is no such record. A refresh that is under way does not bring it back.
    ///
    /// # Errors
    /// What keeps the store from working.
    pub async fn delete(&self, id: TokenId) -> Result<bool> {
        let deleted = self.inner.store.delete_token(id).await?;
        let entry = self.inner.entries.get(&id);
        // A refresh that was under way may have noticed, and said so.
        let is_first = entry.is_none_or(|entry| self.inner.forget(&entry));
        if deleted && is_first {
            self.inner.tell(Event::Deleted { id });
        }
        Ok(deleted)
    }

    /// Returns how far "one refresh per token" reaches with this store.
    pub fn guarantee(&self) -> Guarantee {
        self.inner.locks.guarantee()
    }

    /// Returns the store.
    pub fn store(&self) -> &dyn TokenStore {
        &*self.inner.own_store
    }

    /// Returns whether the store answers.
    pub fn store_state(&self) -> StoreState {
        self.inner.health.state()
    }

    /// Returns the data centers that are known.
    pub fn data_centers(&self) -> &DataCenters {
        &self.inner.centers
    }

    /// Returns the HTTP client, for our sister crate: one set of connections and certificates.
    #[doc(hidden)]
    pub fn http_client(&self) -> &HttpClient {
        self.inner.accounts.http()
    }

    /// Returns a receiver of everything that happens from now on. One that falls far behind is
    /// told how many events it missed.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    fn handle(&self, entry: Arc<CacheEntry>) -> Session {
        Session {
            inner: Arc::clone(&self.inner),
            entry,
        }
    }
}

/// Describes an [`Authenticator`]. See [`Authenticator::builder`].
#[derive(Debug)]
pub struct AuthenticatorBuilder {
    store: Arc<dyn TokenStore>,
    client: Option<OAuthClient>,
    center: Option<DataCenter>,
    centers: DataCenters,
    http: HttpOptions,
    policy: RefreshPolicy,
}

impl AuthenticatorBuilder {
    /// Sets the client that users are looked up under, and whose secret is used in place of a
    /// stored one, at the data centers that it was given for: see [`OAuthClient::secret_at`].
    #[must_use]
    pub fn client(mut self, client: OAuthClient) -> Self {
        self.client = Some(client);
        self
    }

    /// Sets the data center of tokens that do not say where they belong. Default: the one of the
    /// known centers that is called `us`.
    ///
    /// It joins the known centers, in place of one with the same name.
    #[must_use]
    pub fn data_center(mut self, center: DataCenter) -> Self {
        self.center = Some(center);
        self
    }

    /// Sets the data centers that are known. Default: those of the official SDKs.
    #[must_use]
    pub fn data_centers(mut self, centers: DataCenters) -> Self {
        self.centers = centers;
        self
    }

    /// Sets time-outs and proxy of the requests to the accounts server.
    #[must_use]
    pub fn http(mut self, options: HttpOptions) -> Self {
        self.http = options;
        self
    }

    /// Sets when tokens are refreshed.
    #[must_use]
    pub fn policy(mut self, policy: RefreshPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Makes the authenticator. Nothing is read or asked yet.
    ///
    /// # Errors
    /// `invalid_input` when the HTTP options or the client's redirect URI cannot be used.
    pub fn build(mut self) -> Result<Authenticator> {
        if let Some(client) = &self.client {
            client.check()?;
        }
        let center = match self.center {
            Some(center) => {
                self.centers.add(center.clone());
                center
            }
            None => self.centers.by_name("us")?.clone(),
        };
        let accounts = AccountsClient::new(&self.http)?;
        if self.store.coordination().is_none() {
            tracing::info!(
                "this store offers no agreement between processes: each process refreshes by itself"
            );
        }
        let events = broadcast::channel(EVENTS).0;
        let health = Arc::new(Health::new(events.clone()));
        let at_once = self.policy.at_once.clamp(1, Semaphore::MAX_PERMITS);
        let store: Arc<dyn TokenStore> = Arc::new(Observed::new(
            Arc::clone(&self.store),
            Arc::clone(&health),
            self.policy.store_timeout,
        ));
        Ok(Authenticator {
            inner: Arc::new(Inner {
                locks: Locks::new(Arc::clone(&store)),
                store,
                own_store: self.store,
                health,
                listener: Listener::default(),
                accounts,
                client: self.client,
                centers: self.centers,
                center,
                policy: self.policy,
                events,
                entries: TokenCache::default(),
                users: TokenCache::default(),
                sweep: Sweep::default(),
                renewals: SingleFlight::default(),
                logins: SingleFlight::default(),
                attempts: Attempts::default(),
                mints: Mints::default(),
                at_work: Semaphore::new(at_once),
            }),
        })
    }
}
