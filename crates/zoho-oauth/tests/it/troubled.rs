//! A store of one machine in memory whose calls panic, hang or fail when a test says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use zoho_oauth::store::{Coordination, CoordinationKey, Fact, Kept, Memo, Permit};
use zoho_oauth::{
    Access, Credential, Error, ErrorCode, GrantToken, Guarantee, ListStore, OAuthToken, Result,
    Session, TokenId, TokenQuery, TokenStore,
};
use zoho_sandbox::Sandbox;

use crate::hooks::OneLock;
use crate::support::{SCOPES, client};

/// A call of the store, of its agreement, or of a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Find,
    FindById,
    Save,
    Delete,
    TryAcquire,
    Memo,
    SetMemo,
    Release,
}

/// What a call does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Panic,
    Hang,
    Fail(ErrorCode),
}

#[derive(Debug, Default)]
struct Troubles {
    now: Mutex<HashMap<Call, Trouble>>,
    counts: Mutex<HashMap<Call, usize>>,
    /// The records to which `FindById` is limited; all if empty.
    only: Mutex<Vec<TokenId>>,
}

impl Troubles {
    async fn at(&self, call: Call) -> Result<()> {
        *self.counts.lock().unwrap().entry(call).or_default() += 1;
        let trouble = self.now.lock().unwrap().get(&call).copied();
        match trouble {
            None => Ok(()),
            Some(Trouble::Panic) => panic!("on purpose"),
            Some(Trouble::Hang) => std::future::pending().await,
            Some(Trouble::Fail(code)) => Err(Error::new(code, "out of order")),
        }
    }
}

/// See the [module documentation](self). Clones are the same store.
#[derive(Clone, Debug)]
pub(crate) struct TroubledStore {
    pub(crate) inner: Arc<ListStore>,
    troubles: Arc<Troubles>,
    lock: Option<Agreement>,
}

impl TroubledStore {
    /// A store with the agreement of one machine.
    pub(crate) fn new() -> Self {
        let troubles = Arc::<Troubles>::default();
        Self {
            inner: Arc::default(),
            lock: Some(Agreement {
                lock: OneLock::default(),
                troubles: Arc::clone(&troubles),
            }),
            troubles,
        }
    }

    /// One with nothing but the six methods.
    pub(crate) fn alone() -> Self {
        Self {
            lock: None,
            ..Self::new()
        }
    }

    pub(crate) fn trouble(&self, call: Call, trouble: Trouble) {
        self.troubles.now.lock().unwrap().insert(call, trouble);
    }

    /// Look-ups by id are in trouble for these records alone.
    pub(crate) fn only_for(&self, ids: &[TokenId]) {
        *self.troubles.only.lock().unwrap() = ids.to_vec();
    }

    pub(crate) fn recover(&self) {
        self.troubles.now.lock().unwrap().clear();
    }

    /// The number of calls so far.
    pub(crate) fn count(&self, call: Call) -> usize {
        let counts = self.troubles.counts.lock().unwrap();
        counts.get(&call).copied().unwrap_or(0)
    }
}

#[async_trait]
impl TokenStore for TroubledStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.troubles.at(Call::Find).await?;
        self.inner.find_token(query).await
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        self.troubles.at(Call::Save).await?;
        self.inner.save_token(token).await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.troubles.at(Call::Delete).await?;
        self.inner.delete_token(id).await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.inner.get_tokens().await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.inner.delete_tokens().await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        let is_meant = {
            let only = self.troubles.only.lock().unwrap();
            only.is_empty() || only.contains(&id)
        };
        if is_meant {
            self.troubles.at(Call::FindById).await?;
        }
        self.inner.find_token_by_id(id).await
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        self.troubles.at(Call::Save).await?;
        self.inner.save_fact(fact).await
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        self.lock.as_ref().map(|lock| lock as &dyn Coordination)
    }
}

#[derive(Clone, Debug)]
struct Agreement {
    lock: OneLock,
    troubles: Arc<Troubles>,
}

#[async_trait]
impl Coordination for Agreement {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Host
    }

    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>> {
        self.troubles.at(Call::TryAcquire).await?;
        let permit = self.lock.try_acquire(key).await?;
        let troubles = Arc::clone(&self.troubles);
        Ok(permit.map(|inner| Box::new(TroubledPermit { inner, troubles }) as Box<dyn Permit>))
    }
}

#[derive(Debug)]
struct TroubledPermit {
    inner: Box<dyn Permit>,
    troubles: Arc<Troubles>,
}

#[async_trait]
impl Permit for TroubledPermit {
    async fn memo(&self) -> Result<Memo> {
        self.troubles.at(Call::Memo).await?;
        self.inner.memo().await
    }

    async fn set_memo(&self, memo: &Memo) -> Result<()> {
        self.troubles.at(Call::SetMemo).await?;
        self.inner.set_memo(memo).await
    }

    async fn release(&self, memo: Option<&Memo>) -> Result<()> {
        self.troubles.at(Call::Release).await?;
        self.inner.release(memo).await
    }
}

/// A login that begins with a new grant token.
pub(crate) fn grant(sandbox: &Sandbox) -> Credential {
    let code = sandbox.grant_code(&sandbox.people()[0], SCOPES);
    Credential::grant(client(sandbox), GrantToken::new(code).unwrap()).into()
}

/// Asks until the pause after a failure is over, and what is unsaved is saved.
pub(crate) async fn access_again(session: &Session) {
    let asked = async {
        let is_fine = |access: Access| !access.is_degraded();
        while !session.access_token().await.is_ok_and(is_fine) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, asked).await.unwrap();
}
