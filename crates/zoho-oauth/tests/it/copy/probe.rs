//! Stores that fail, lie, or must not be written.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use tokio::sync::Notify;
use zoho_oauth::store::Inventory;
use zoho_oauth::{
    AccessToken, Error, ErrorCode, OAuthToken, Result, TokenId, TokenQuery, TokenStore,
};

/// Panics when anything is to be written.
#[derive(Debug)]
pub(super) struct ReadOnly<S>(pub(super) S);

#[async_trait]
impl<S: TokenStore> TokenStore for ReadOnly<S> {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.0.find_token(query).await
    }

    async fn save_token(&self, _: &OAuthToken) -> Result<TokenId> {
        panic!("a save where nothing is to be written")
    }

    async fn delete_token(&self, _: TokenId) -> Result<bool> {
        panic!("a delete where nothing is to be written")
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.0.get_tokens().await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        panic!("a clearing where nothing is to be written")
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.0.find_token_by_id(id).await
    }

    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        self.0.get_tokens_page(after, limit).await
    }

    async fn inventory(&self) -> Result<Option<Inventory>> {
        self.0.inventory().await
    }
}

impl<S> ReadOnly<Arc<S>> {
    pub(super) fn of(store: &Arc<S>) -> Self {
        Self(Arc::clone(store))
    }
}

/// How an operation goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails and nothing was done.
    Error,
    /// It was done, and fails all the same: the answer was lost.
    LostAnswer,
    Panic,
    /// It never answers. [`Probe::hangs`] tells when.
    Hang,
    /// The same, but it was begun.
    HangHalfway,
}

/// A store that can be told to fail and to lie.
#[derive(Debug)]
pub(super) struct Probe<S> {
    pub(super) inner: S,
    /// Operations of all kinds so far.
    operations: AtomicUsize,
    saves: AtomicUsize,
    fault: Mutex<Option<(usize, Fault)>>,
    hanging: Notify,
    longest: AtomicUsize,
    cut: AtomicUsize,
    forgotten_save: AtomicUsize,
    gap: AtomicUsize,
    ignores_after: AtomicBool,
}

impl<S: Send + Sync> Probe<S> {
    pub(super) fn new(inner: S) -> Arc<Self> {
        Arc::new(Self {
            inner,
            operations: AtomicUsize::new(0),
            saves: AtomicUsize::new(0),
            fault: Mutex::default(),
            hanging: Notify::new(),
            longest: AtomicUsize::new(usize::MAX),
            cut: AtomicUsize::new(usize::MAX),
            forgotten_save: AtomicUsize::new(0),
            gap: AtomicUsize::new(0),
            ignores_after: AtomicBool::new(false),
        })
    }

    /// Lets the operation with this number, counted from 1, go wrong.
    pub(super) fn fail_at(&self, operation: usize, fault: Fault) {
        *self.fault.lock().unwrap() = Some((operation, fault));
    }

    /// Takes back what [`fail_at`](Self::fail_at) said.
    pub(super) fn heal(&self) {
        *self.fault.lock().unwrap() = None;
    }

    /// How many operations there were.
    pub(super) fn operations(&self) -> usize {
        self.operations.load(Ordering::SeqCst)
    }

    /// Resolves once an operation hangs.
    pub(super) async fn hangs(&self) {
        self.hanging.notified().await;
    }

    /// Refuses records with a longer access token.
    pub(super) fn refuse_longer_than(&self, length: usize) {
        self.longest.store(length, Ordering::SeqCst);
    }

    /// Keeps no more of an access token than this, without a word.
    pub(super) fn cut_to(&self, length: usize) {
        self.cut.store(length, Ordering::SeqCst);
    }

    /// Loses what the save with this number, counted from 1, brought.
    pub(super) fn forget_save(&self, number: usize) {
        self.forgotten_save.store(number, Ordering::SeqCst);
    }

    /// Leaves out so many ids before each that is given.
    pub(super) fn leave_out_ids(&self, count: usize) {
        self.gap.store(count, Ordering::SeqCst);
    }

    /// Answers each page with the first records.
    pub(super) fn ignore_after(&self) {
        self.ignores_after.store(true, Ordering::SeqCst);
    }

    async fn step<T>(&self, operation: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        let fault = *self.fault.lock().unwrap();
        match fault {
            Some((at, fault)) if at == number => match fault {
                Fault::Error => Err(out_of_order()),
                Fault::LostAnswer => operation.await.and_then(|_| Err(out_of_order())),
                Fault::Panic => panic!("operation {number} panics, as it was told to"),
                Fault::HangHalfway => {
                    let mut operation = std::pin::pin!(operation);
                    std::future::poll_fn(|context| {
                        let _ = operation.as_mut().poll(context);
                        Poll::Ready(())
                    })
                    .await;
                    self.hanging.notify_one();
                    std::future::pending().await
                }
                Fault::Hang => {
                    self.hanging.notify_one();
                    std::future::pending().await
                }
            },
            _ => operation.await,
        }
    }
}

fn out_of_order() -> Error {
    Error::new(ErrorCode::StoreUnavailable, "out of order")
}

#[async_trait]
impl<S: TokenStore> TokenStore for Probe<S> {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.step(self.inner.find_token(query)).await
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        let mut token = token.clone();
        if let Some(access) = &token.access_token {
            let access = access.expose_secret();
            if access.len() > self.longest.load(Ordering::SeqCst) {
                let message = "the column `access_token` is too narrow";
                return Err(Error::new(ErrorCode::InvalidInput, message));
            }
            let kept: String = access
                .chars()
                .take(self.cut.load(Ordering::SeqCst))
                .collect();
            token.access_token = AccessToken::new(kept).ok();
        }
        let gap = self.gap.load(Ordering::SeqCst) as u64;
        if gap > 0 && token.id.is_none() {
            let all = self.inner.get_tokens().await?;
            let last = all.last().and_then(|last| last.id).map_or(0, TokenId::get);
            token.id = Some(TokenId::new(last + gap + 1)?);
        }
        let id = self.step(self.inner.save_token(&token)).await?;
        let number = self.saves.fetch_add(1, Ordering::SeqCst) + 1;
        if number == self.forgotten_save.load(Ordering::SeqCst) {
            self.inner.delete_token(id).await?;
        }
        Ok(id)
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.step(self.inner.delete_token(id)).await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.step(self.inner.get_tokens()).await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.step(self.inner.delete_tokens()).await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.step(self.inner.find_token_by_id(id)).await
    }

    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        let after = after.filter(|_| !self.ignores_after.load(Ordering::SeqCst));
        self.step(self.inner.get_tokens_page(after, limit)).await
    }

    async fn inventory(&self) -> Result<Option<Inventory>> {
        self.step(self.inner.inventory()).await
    }
}
