//! A store for a fleet within one process: records and leases in memory, a clock that the test can
//! set, and trouble on request.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use zoho_oauth::store::{
    Cell, Change, Coordination, CoordinationKey, Fact, Guarantee, Kept, LeaseCells, Leases, Permit,
};
use zoho_oauth::{
    Error, ErrorCode, ListStore, OAuthToken, RefreshToken, Result, Timestamp, TokenId, TokenQuery,
    TokenStore,
};

use crate::support::in_seconds;

/// The store of a fleet. Clones are the same store.
#[derive(Clone, Debug)]
pub(crate) struct FleetStore {
    pub(super) records: Arc<ListStore>,
    pub(crate) cells: Arc<Cells>,
    agreement: Agreement,
    pub(super) changes: broadcast::Sender<Change>,
}

#[derive(Clone, Debug)]
struct Agreement(Leases);

#[derive(Debug, Default)]
pub(crate) struct Cells {
    pub(super) texts: Mutex<HashMap<CoordinationKey, String>>,
    ahead_millis: AtomicI64,
    is_read_only: AtomicBool,
    is_down: AtomicBool,
    pub(super) questions: AtomicUsize,
}

impl FleetStore {
    pub(crate) fn new() -> Self {
        let cells = Arc::<Cells>::default();
        Self {
            records: Arc::default(),
            agreement: Agreement(Leases::new(Shared(Arc::clone(&cells)))),
            cells,
            changes: broadcast::channel(16).0,
        }
    }

    fn up(&self) -> Result<()> {
        self.cells.up()
    }

    /// How many machines listen to what changes.
    pub(super) fn listeners(&self) -> usize {
        self.changes.receiver_count()
    }

    /// Takes the lease of a record that nobody holds.
    pub(crate) async fn hold(&self, id: TokenId) -> Box<dyn Permit> {
        let key = CoordinationKey::record(id);
        self.agreement.0.try_acquire(&key).await.unwrap().unwrap()
    }

    /// Takes the lease of a refresh token from which something was made, when it is free.
    pub(crate) async fn hold_credential(&self, token: &RefreshToken) -> Box<dyn Permit> {
        loop {
            let key = self.cells.credential(token);
            if let Some(key) = key
                && let Some(permit) = self.agreement.0.try_acquire(&key).await.unwrap()
            {
                return permit;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes the lease of a record whose holder has stood still for longer than it lives.
    pub(crate) async fn take_over(&self, id: TokenId) -> Box<dyn Permit> {
        self.cells.advance(Duration::from_mins(5));
        self.hold(id).await
    }
}

impl Cells {
    pub(crate) fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap();
        self.ahead_millis.fetch_add(millis, Ordering::SeqCst);
    }

    pub(crate) fn break_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    /// The key of a refresh token, if anything is known of it.
    fn credential(&self, token: &RefreshToken) -> Option<CoordinationKey> {
        let name = token.fingerprint();
        let texts = self.texts.lock().unwrap();
        let mut named = texts
            .iter()
            .filter(|(_, text)| text.contains(name.as_str()));
        let key = named.find(|(key, _)| key.record_id().is_none());
        key.map(|(key, _)| key.clone())
    }

    pub(crate) fn refuse_writes(&self, is_read_only: bool) {
        self.is_read_only.store(is_read_only, Ordering::SeqCst);
    }

    /// The records whose lease somebody has.
    pub(super) fn held(&self) -> HashSet<TokenId> {
        let texts = self.texts.lock().unwrap();
        let held = (texts.iter()).filter(|(_, text)| text.contains("holder\":{"));
        held.filter_map(|(key, _)| key.record_id()).collect()
    }

    fn up(&self) -> Result<()> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        if self.is_down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorCode::StoreUnavailable, "out of order"));
        }
        Ok(())
    }

    /// A clock that has nothing to do with that of any machine.
    fn now(&self) -> Timestamp {
        let ahead = self.ahead_millis.load(Ordering::SeqCst);
        Timestamp::from_millis(in_seconds(-86_400).as_millis() + ahead)
    }
}

#[derive(Clone, Debug)]
struct Shared(Arc<Cells>);

#[async_trait]
impl LeaseCells for Shared {
    async fn read_cell(&self, key: &CoordinationKey) -> Result<Cell> {
        self.0.up()?;
        tokio::task::yield_now().await;
        let texts = self.0.texts.lock().unwrap();
        Ok(Cell {
            text: texts.get(key).cloned(),
            now: self.0.now(),
        })
    }

    async fn swap_cell(
        &self,
        key: &CoordinationKey,
        before: Option<&str>,
        after: Option<&str>,
        not_after: Option<Timestamp>,
    ) -> Result<bool> {
        self.0.up()?;
        tokio::task::yield_now().await;
        let mut texts = self.0.texts.lock().unwrap();
        let is_late = not_after.is_some_and(|until| self.0.now() > until);
        if is_late || texts.get(key).map(String::as_str) != before {
            return Ok(false);
        }
        let holds_memo = after.is_some_and(|text| text.contains("minted_at\":["));
        if holds_memo && self.0.is_read_only.load(Ordering::SeqCst) {
            let message = "the disk is full of other things";
            return Err(Error::new(ErrorCode::StoreFull, message));
        }
        match after {
            Some(text) => drop(texts.insert(key.clone(), text.to_owned())),
            None => drop(texts.remove(key)),
        }
        Ok(true)
    }
}

#[async_trait]
impl Coordination for Agreement {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Fleet
    }

    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>> {
        self.0.try_acquire(key).await
    }
}

#[async_trait]
impl TokenStore for FleetStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.up()?;
        self.records.find_token(query).await
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        self.up()?;
        self.records.save_token(token).await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.up()?;
        let deleted = self.records.delete_token(id).await?;
        // Nobody may be listening.
        let _ = self.changes.send(Change::Record(id));
        Ok(deleted)
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.up()?;
        self.records.get_tokens().await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.up()?;
        let deleted = self.records.delete_tokens().await?;
        let _ = self.changes.send(Change::Everything);
        Ok(deleted)
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.up()?;
        self.records.find_token_by_id(id).await
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        self.up()?;
        self.records.save_fact(fact).await
    }

    fn changes(&self) -> Option<broadcast::Receiver<Change>> {
        Some(self.changes.subscribe())
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        Some(&self.agreement)
    }
}
