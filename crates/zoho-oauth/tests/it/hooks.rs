//! A store into which a test reaches at any step, and an agreement that gives out one permit.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use zoho_oauth::store::{Coordination, CoordinationKey, Memo, Permit};
use zoho_oauth::{
    Error, ErrorCode, Guarantee, OAuthToken, Result, TokenId, TokenQuery, TokenStore,
};

/// Where a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Find,
    FindById,
    /// After a look-up by id that succeeded.
    FoundById,
    /// Before a save.
    Save,
    /// After one that succeeded.
    Saved,
    Delete,
}

type Doing = Pin<Box<dyn Future<Output = Result<()>> + Send>>;
type Hook = Arc<dyn Fn(Step) -> Doing + Send + Sync>;

/// Calls a hook at each step, which may wait, fail, or change what is stored.
pub(crate) struct HookStore<S> {
    pub(crate) inner: S,
    hook: Mutex<Option<Hook>>,
    agreement: Option<OneLock>,
}

impl<S> fmt::Debug for HookStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookStore").finish_non_exhaustive()
    }
}

impl<S: Send + Sync> HookStore<S> {
    pub(crate) fn new(inner: S) -> Arc<Self> {
        Arc::new(Self {
            inner,
            hook: Mutex::default(),
            agreement: None,
        })
    }

    /// With one permit for all keys.
    pub(crate) fn with_one_lock(inner: S, lock: OneLock) -> Arc<Self> {
        Arc::new(Self {
            inner,
            hook: Mutex::default(),
            agreement: Some(lock),
        })
    }

    pub(crate) fn at_each_step<F>(&self, hook: impl Fn(Step) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let hook: Hook = Arc::new(move |step| Box::pin(hook(step)));
        *self.hook.lock().unwrap() = Some(hook);
    }

    /// Calls `hook` at the first `wanted` step from now on, and never again.
    pub(crate) fn once_at<F>(&self, wanted: Step, hook: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let hook = Mutex::new(Some(hook));
        self.at_each_step(move |step| {
            let hook = (step == wanted)
                .then(|| hook.lock().unwrap().take())
                .flatten();
            async move {
                match hook {
                    Some(hook) => hook().await,
                    None => Ok(()),
                }
            }
        });
    }

    async fn step(&self, step: Step) -> Result<()> {
        let hook = self.hook.lock().unwrap().clone();
        match hook {
            Some(hook) => hook(step).await,
            None => Ok(()),
        }
    }
}

pub(crate) fn out_of_order() -> Error {
    Error::new(ErrorCode::StoreUnavailable, "out of order")
}

#[async_trait]
impl<S: TokenStore> TokenStore for HookStore<S> {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.step(Step::Find).await?;
        self.inner.find_token(query).await
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        self.step(Step::Save).await?;
        let id = self.inner.save_token(token).await?;
        self.step(Step::Saved).await?;
        Ok(id)
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.step(Step::Delete).await?;
        self.inner.delete_token(id).await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.inner.get_tokens().await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.inner.delete_tokens().await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.step(Step::FindById).await?;
        let found = self.inner.find_token_by_id(id).await?;
        self.step(Step::FoundById).await?;
        Ok(found)
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        match &self.agreement {
            Some(lock) => Some(lock),
            None => self.inner.coordination(),
        }
    }
}

/// The narrowest agreement there can be: all keys share one lock. Its memory can be broken.
#[derive(Clone, Debug, Default)]
pub(crate) struct OneLock(Arc<State>);

#[derive(Debug, Default)]
struct State {
    held: AtomicBool,
    tries: AtomicUsize,
    /// The keys that were refused since the last permit, and the most there ever were of them.
    refused: Mutex<(HashSet<CoordinationKey>, usize)>,
    forgetful: AtomicBool,
    unreadable: AtomicBool,
    memos: Mutex<Vec<(CoordinationKey, Memo)>>,
}

impl OneLock {
    /// How often somebody tried to get it.
    pub(crate) fn tries(&self) -> usize {
        self.0.tries.load(Ordering::SeqCst)
    }

    /// For how many keys at most it was tried in vain between two permits.
    pub(crate) fn most_refused(&self) -> usize {
        self.0.refused.lock().unwrap().1
    }

    /// From now on nothing new is remembered.
    pub(crate) fn forget(&self) {
        self.0.forgetful.store(true, Ordering::SeqCst);
    }

    /// Whether what is remembered cannot be read from now on.
    pub(crate) fn hide(&self, is_hidden: bool) {
        self.0.unreadable.store(is_hidden, Ordering::SeqCst);
    }

    /// What is remembered of a record.
    pub(crate) fn remembered(&self, id: TokenId) -> Memo {
        let key = CoordinationKey::record(id);
        let memos = self.0.memos.lock().unwrap();
        let found = memos.iter().find(|(other, _)| *other == key);
        found.map(|(_, memo)| memo.clone()).unwrap_or_default()
    }
}

#[async_trait]
impl Coordination for OneLock {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Host
    }

    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>> {
        self.0.tries.fetch_add(1, Ordering::SeqCst);
        let taken = self.0.held.swap(true, Ordering::SeqCst);
        let (keys, most) = &mut *self.0.refused.lock().unwrap();
        if taken {
            keys.insert(key.clone());
            *most = keys.len().max(*most);
        } else {
            keys.clear();
        }
        Ok((!taken).then(|| {
            Box::new(OnePermit {
                state: Arc::clone(&self.0),
                key: key.clone(),
            }) as Box<dyn Permit>
        }))
    }
}

#[derive(Debug)]
struct OnePermit {
    state: Arc<State>,
    key: CoordinationKey,
}

impl Drop for OnePermit {
    fn drop(&mut self) {
        self.state.held.store(false, Ordering::SeqCst);
    }
}

#[async_trait]
impl Permit for OnePermit {
    async fn memo(&self) -> Result<Memo> {
        if self.state.unreadable.load(Ordering::SeqCst) {
            return Err(out_of_order());
        }
        let memos = self.state.memos.lock().unwrap();
        let found = memos.iter().find(|(key, _)| *key == self.key);
        Ok(found.map(|(_, memo)| memo.clone()).unwrap_or_default())
    }

    async fn set_memo(&self, memo: &Memo) -> Result<()> {
        if self.state.forgetful.load(Ordering::SeqCst) {
            return Err(out_of_order());
        }
        let mut memos = self.state.memos.lock().unwrap();
        memos.retain(|(key, _)| *key != self.key);
        memos.push((self.key.clone(), memo.clone()));
        Ok(())
    }
}
