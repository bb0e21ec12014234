//! What several modules of these tests need: a sandbox, a client for it, and stores that fail.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use zoho_oauth::store::Coordination;
use zoho_oauth::{
    AccessToken, Authenticator, AuthenticatorBuilder, ClientId, ClientSecret, DataCenter, Error,
    ErrorCode, OAuthClient, OAuthToken, RefreshPolicy, RefreshToken, Result, Timestamp, TokenId,
    TokenQuery, TokenStore, UserName,
};
use zoho_sandbox::Sandbox;

pub(crate) const SCOPES: &str = "ZohoCRM.modules.ALL,ZohoCRM.users.READ,ZohoCRM.org.READ";

/// A sandbox without limits, so that a test counts what the library asks and nothing else.
pub(crate) async fn sandbox() -> Sandbox {
    Sandbox::builder().no_limits().start().await.unwrap()
}

pub(crate) fn client(sandbox: &Sandbox) -> OAuthClient {
    OAuthClient::new(sandbox.client_id(), sandbox.client_secret()).unwrap()
}

pub(crate) fn center(sandbox: &Sandbox) -> DataCenter {
    DataCenter::builder("us", sandbox.accounts_url())
        .api_domain(sandbox.api_url())
        .build()
        .unwrap()
}

pub(crate) fn builder(sandbox: &Sandbox, store: impl TokenStore) -> AuthenticatorBuilder {
    Authenticator::builder(store)
        .client(client(sandbox))
        .data_center(center(sandbox))
}

pub(crate) fn authenticator(sandbox: &Sandbox, store: impl TokenStore) -> Authenticator {
    builder(sandbox, store).build().unwrap()
}

/// A policy that asks the store each time, for tests in which another process changes it.
pub(crate) fn no_memory() -> RefreshPolicy {
    RefreshPolicy::new().with_recheck(Duration::ZERO)
}

/// `token` with a field as a store may hold it: also with characters that no application can give.
pub(crate) fn with_field(token: &OAuthToken, name: &str, value: &str) -> OAuthToken {
    let mut fields = token
        .expose_fields()
        .map(|field| field.map(Cow::into_owned));
    let index = OAuthToken::FIELDS.iter().position(|field| *field == name);
    fields[index.unwrap()] = Some(value.to_owned());
    OAuthToken::from_fields(&fields).unwrap()
}

pub(crate) fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

pub(crate) fn in_seconds(seconds: i64) -> Timestamp {
    let now = Timestamp::from(now());
    Timestamp::from_millis(now.as_millis() + seconds * 1000)
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests tell the time by themselves"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// A login that is finished at the sandbox and not stored anywhere yet, as `name`.
pub(crate) fn logged_in(sandbox: &Sandbox, name: &str, expires_in_seconds: i64) -> OAuthToken {
    let email = &sandbox.people()[0];
    let (refresh, access) = sandbox.login(email, SCOPES);
    let mut token = OAuthToken::new();
    token.user_name = Some(user(name));
    token.client_id = ClientId::new(sandbox.client_id()).ok();
    token.client_secret = ClientSecret::new(sandbox.client_secret()).ok();
    token.refresh_token = RefreshToken::new(refresh).ok();
    token.access_token = AccessToken::new(access).ok();
    token.expiry_time = Some(in_seconds(expires_in_seconds));
    token.api_domain = Some(sandbox.api_url().to_owned());
    token
}

/// A login that is good for an hour and was never at the sandbox.
pub(crate) fn good(name: &str, client: &str) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.user_name = Some(user(name));
    token.client_id = ClientId::new(client).ok();
    token.access_token = AccessToken::new(format!("1000.{name}.{client}")).ok();
    token.refresh_token = RefreshToken::new(format!("1000.refresh.{name}.{client}")).ok();
    token.expiry_time = Some(in_seconds(3600));
    token
}

/// A stored login whose access token ended a minute ago.
pub(crate) async fn expired(
    sandbox: &Sandbox,
    store: &dyn TokenStore,
    name: &str,
) -> (TokenId, OAuthToken) {
    let token = logged_in(sandbox, name, -60);
    let id = store.save_token(&token).await.unwrap();
    (id, token)
}

/// Lets the stored access token of a record end, as an hour would.
pub(crate) async fn expire(store: &dyn TokenStore, id: TokenId) {
    let mut token = store.find_token_by_id(id).await.unwrap().unwrap();
    token.expiry_time = Some(in_seconds(-60));
    store.save_token(&token).await.unwrap();
}

/// How many new access tokens the sandbox was asked for by refresh token.
pub(crate) fn refreshes(sandbox: &Sandbox) -> u64 {
    let counts = sandbox.counts();
    counts.refreshes_ok + counts.refreshes_failed
}

/// A store that fails when it is told to. Counts down: `fail_saves(2)` fails the next two saves.
#[derive(Debug)]
pub(crate) struct FlakyStore<S> {
    pub(crate) inner: S,
    saves: AtomicUsize,
    reads: AtomicUsize,
}

impl<S> FlakyStore<S> {
    pub(crate) fn new(inner: S) -> Arc<Self> {
        Arc::new(Self {
            inner,
            saves: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
        })
    }

    pub(crate) fn fail_saves(&self, times: usize) {
        self.saves.store(times, Ordering::SeqCst);
    }

    pub(crate) fn fail_reads(&self, times: usize) {
        self.reads.store(times, Ordering::SeqCst);
    }

    pub(crate) fn failures_left(&self) -> usize {
        self.saves.load(Ordering::SeqCst) + self.reads.load(Ordering::SeqCst)
    }
}

fn strike(left: &AtomicUsize) -> Result<()> {
    let down = |left: usize| left.checked_sub(1);
    match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, down) {
        Ok(_) => Err(Error::new(ErrorCode::StoreUnavailable, "out of order")),
        Err(_) => Ok(()),
    }
}

#[async_trait]
impl<S: TokenStore> TokenStore for FlakyStore<S> {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        strike(&self.reads)?;
        self.inner.find_token(query).await
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        strike(&self.saves)?;
        self.inner.save_token(token).await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.inner.delete_token(id).await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        strike(&self.reads)?;
        self.inner.get_tokens().await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.inner.delete_tokens().await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        strike(&self.reads)?;
        self.inner.find_token_by_id(id).await
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        self.inner.coordination()
    }
}

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Reads a store in pages of this size.
pub(crate) async fn all_pages(store: &dyn TokenStore, limit: usize) -> Vec<OAuthToken> {
    let mut all: Vec<OAuthToken> = Vec::new();
    loop {
        let after = all.last().and_then(|token| token.id);
        let page = store.get_tokens_page(after, limit).await.unwrap();
        let is_last = page.len() < limit;
        all.extend(page);
        if is_last {
            return all;
        }
    }
}

/// Looks a record up from eight tasks for two seconds. Each look-up fails with this code and text.
pub(crate) async fn every_look_up_fails<S: TokenStore + Clone>(
    store: &S,
    id: TokenId,
    code: ErrorCode,
    says: &'static str,
) {
    let end = std::time::Instant::now() + Duration::from_secs(2);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            while std::time::Instant::now() < end {
                let error = store.find_token_by_id(id).await.unwrap_err();
                assert_eq!(error.code(), code, "{says}: {error:?}");
                assert!(error.message().contains(says), "{error}");
                tokio::task::yield_now().await;
            }
        });
    }
    tasks.join_all().await;
}

/// Waits until a store answers again.
pub(crate) async fn comes_back(store: &dyn TokenStore, id: TokenId) {
    let began = std::time::Instant::now();
    while store.find_token_by_id(id).await.is_err() {
        assert!(began.elapsed() < Duration::from_mins(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
