//! Whether the store answers, and who may ask it while it does not.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::Event;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::store::{Change, Coordination, Fact, Inventory, Kept, TokenStore};
use crate::token::{OAuthToken, TokenId};

/// After so many failures in a row the store counts as down, and is not asked by everybody.
const DOWN: u32 = 3;
/// Between two questions to a store that is down; doubled with each that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How an [`Authenticator`](crate::Authenticator) gets on with its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreState {
    /// The store answered when it was last asked, or was not asked yet.
    Working,
    /// The store could not be reached when it was last asked, or took more than a second to answer.
    /// Access tokens that are good are served from memory; whoever needs a new one waits for a
    /// store that is slow, and gets `store_unavailable` from one that is down. The store is asked
    /// again by one caller every few seconds at the latest.
    Degraded {
        /// Since when, by the wall clock of this machine.
        since: Timestamp,
    },
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Health {
    trouble: Mutex<Option<Trouble>>,
    events: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Trouble {
    since: Timestamp,
    /// In a row, with answers that came too late for a look.
    failures: u32,
    /// Those among them that were errors.
    outages: u32,
    /// Until then nobody asks; then one does.
    next: Instant,
}

impl Health {
    pub(super) const fn new(events: broadcast::Sender<Event>) -> Self {
        Self {
            trouble: Mutex::new(None),
            events,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Trouble>> {
        // What it guards is replaced as a whole.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> StoreState {
        match &*self.lock() {
            Some(trouble) => StoreState::Degraded {
                since: trouble.since,
            },
            None => StoreState::Working,
        }
    }

    /// Whether this caller may ask the store. While it is down, one may every now and then; who
    /// may not is told for how long.
    pub(super) fn admit(&self) -> std::result::Result<(), Duration> {
        self.admit_unless(|trouble| trouble.failures >= DOWN)
    }

    fn admit_unless(
        &self,
        is_down: impl Fn(&Trouble) -> bool,
    ) -> std::result::Result<(), Duration> {
        let mut trouble = self.lock();
        let Some(trouble) = trouble.as_mut().filter(|trouble| is_down(trouble)) else {
            return Ok(());
        };
        let now = Instant::now();
        if now < trouble.next {
            return Err(trouble.next - now);
        }
        // Others wait for what this one finds out.
        trouble.next = now + pause(trouble.failures);
        Ok(())
    }

    /// The same for those who cannot go on without the store: they may also ask one that is merely
    /// slow.
    pub(super) fn check(&self) -> Result<()> {
        let asked = self.admit_unless(|trouble| trouble.outages >= DOWN);
        asked.map_err(|wait| {
            let message = "the store is down, and was asked a moment ago";
            let error = Error::new(ErrorCode::StoreUnavailable, message);
            error.retry_at(Timestamp::now().after(wait))
        })
    }

    pub(super) fn failed(&self, error: &Error) {
        self.count(error, 1);
    }

    /// Takes notice of an answer that did not come soon enough for a look.
    pub(super) fn slow(&self, error: &Error) {
        self.count(error, 0);
    }

    fn count(&self, error: &Error, outage: u32) {
        let mut trouble = self.lock();
        let failures = trouble.as_ref().map_or(0, |trouble| trouble.failures) + 1;
        let outages = trouble.as_ref().map_or(0, |trouble| trouble.outages) + outage;
        let since = trouble
            .as_ref()
            .map_or_else(Timestamp::now, |old| old.since);
        *trouble = Some(Trouble {
            since,
            failures,
            outages,
            next: Instant::now() + pause(failures),
        });
        drop(trouble);
        if failures == 1 {
            tracing::warn!(%error, "the store cannot be reached");
            let error = error.clone().without_unsaved_token();
            let _ = self.events.send(Event::StoreDegraded { error });
        }
    }

    pub(super) fn worked(&self) {
        // Every call to the store comes by here: most find nothing to do.
        let trouble = self.lock().take();
        if let Some(trouble) = trouble {
            tracing::info!(since = %trouble.since, "the store can be reached again");
            let _ = self.events.send(Event::StoreRecovered);
        }
    }

    /// Takes notice of an error that did not come by here.
    pub(super) fn note(&self, error: &Error) {
        if is_outage(error) {
            self.failed(error);
        }
    }

    fn observe<T>(&self, outcome: Result<T>) -> Result<T> {
        match &outcome {
            Err(error) if is_outage(error) => self.failed(error),
            _ => self.worked(),
        }
        outcome
    }
}

/// Locks, permissions and a full disk are answers of a store that is there.
fn is_outage(error: &Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::StoreUnavailable | ErrorCode::CertificateRefused
    )
}

fn pause(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE * 2_u32.saturating_pow(failures.saturating_sub(DOWN).min(16));
    // Machines that lost the same store should not all come back at the same moment.
    doubled
        .min(LONGEST_PAUSE)
        .mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// A store that is watched while it is used.
pub(crate) struct Observed {
    pub(super) inner: Arc<dyn TokenStore>,
    pub(super) health: Arc<Health>,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl TokenStore for Observed {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.health.observe(self.inner.find_token(query).await)
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        self.health.observe(self.inner.save_token(token).await)
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.health.observe(self.inner.delete_token(id).await)
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.health.observe(self.inner.get_tokens().await)
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.health.observe(self.inner.delete_tokens().await)
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.health.observe(self.inner.find_token_by_id(id).await)
    }

    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        let page = self.inner.get_tokens_page(after, limit).await;
        self.health.observe(page)
    }

    async fn inventory(&self) -> Result<Option<Inventory>> {
        self.health.observe(self.inner.inventory().await)
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        self.health.observe(self.inner.save_fact(fact).await)
    }

    fn changes(&self) -> Option<broadcast::Receiver<Change>> {
        self.inner.changes()
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        self.inner.coordination()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Error {
        Error::new(ErrorCode::StoreUnavailable, "out of order")
    }

    #[test]
    fn one_failure_is_trouble_and_several_in_a_row_keep_callers_away() {
        let (events, mut heard) = broadcast::channel(8);
        let health = Health::new(events);
        assert_eq!(health.state(), StoreState::Working);
        for _ in 1..DOWN {
            health.failed(&down());
            assert!(health.admit().is_ok());
        }
        health.failed(&down());
        assert!(matches!(health.state(), StoreState::Degraded { .. }));
        assert!(health.admit().unwrap_err() <= FIRST_PAUSE);
        assert_eq!(
            health.check().unwrap_err().code(),
            ErrorCode::StoreUnavailable
        );
        health.worked();
        assert_eq!(health.state(), StoreState::Working);
        assert!(health.admit().is_ok());
        assert!(matches!(heard.try_recv(), Ok(Event::StoreDegraded { .. })));
        assert!(matches!(heard.try_recv(), Ok(Event::StoreRecovered)));
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn one_at_a_time_asks_a_store_that_is_down() {
        let health = Health::new(broadcast::channel(8).0);
        for _ in 0..DOWN {
            health.failed(&down());
        }
        health.lock().as_mut().unwrap().next = Instant::now();
        assert!(health.admit().is_ok());
        assert!(health.admit().is_err());
    }

    #[test]
    fn a_slow_store_is_left_alone_by_those_who_can_wait() {
        let health = Health::new(broadcast::channel(8).0);
        for _ in 0..DOWN {
            health.slow(&down());
        }
        assert!(matches!(health.state(), StoreState::Degraded { .. }));
        assert!(health.admit().is_err());
        assert!(health.check().is_ok());
        for _ in 0..DOWN {
            health.failed(&down());
        }
        assert!(health.check().is_err());
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        assert!(pause(DOWN) <= FIRST_PAUSE);
        assert!(pause(DOWN + 3) > FIRST_PAUSE);
        assert!(pause(u32::MAX) <= LONGEST_PAUSE);
    }
}
