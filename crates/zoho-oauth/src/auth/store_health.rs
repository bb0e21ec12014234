//! Whether the store answers, what it answers, and who may ask it while it does not.
//!
//! [`Observed`] wraps every call of the store: it sets the time limit, turns a panic into an error,
//! compares each record with the question, and tells [`Health`] what came of it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::event::Event;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::query::{Criterion, TokenQuery};
use crate::secret::Fingerprint;
use crate::store::{
    Change, Coordination, CoordinationKey, Fact, Guarantee, Inventory, Kept, Memo, Permit, Ruling,
    TokenStore,
};
use crate::token::{OAuthToken, TokenId};

/// After so many failures in a row the store counts as down, and is not asked by everybody.
const DOWN: u32 = 3;
/// After so many refused writes in a row the store counts as degraded.
const REPEATED: u32 = 2;
/// Between two questions to a store that is down; doubled with each that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A look-up that takes longer makes the store count as slow.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// How an [`Authenticator`](crate::Authenticator) gets on with its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreState {
    /// The store answered when it was last asked, or was not asked yet.
    Working,
    /// The store did not answer when it was last asked, took more than a second for a look-up, or
    /// refused two writes in a row, as one does that another process has locked. Access tokens that
    /// are good are served from memory. A caller that needs a new one waits for a store that is
    /// slow, and gets the store's error from one that is down or cannot be written. Such a store is
    /// asked again by one caller every few seconds.
    Degraded {
        /// Since when, by the wall clock of this machine.
        since: Timestamp,
    },
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Health {
    seen: Mutex<Seen>,
    events: broadcast::Sender<Event>,
}

/// What was seen of the store since it worked.
#[derive(Debug, Default)]
struct Seen {
    /// Calls that it did not answer. Any answer ends that.
    outage: Option<Trouble>,
    /// Writes that it refused for now. A write ends that.
    writes: Option<Trouble>,
    /// Look-ups that took long. One that is answered in time ends that.
    slow_since: Option<Timestamp>,
}

#[derive(Debug)]
struct Trouble {
    since: Timestamp,
    /// In a row.
    failures: u32,
    /// When the last of them was counted.
    counted: Instant,
    /// Until then no caller asks; then one does.
    next: Instant,
    error: Error,
}

impl Seen {
    fn degraded_since(&self) -> Option<Timestamp> {
        let outage = self.outage.as_ref().map(|trouble| trouble.since);
        let writes = (self.writes.as_ref()).filter(|trouble| trouble.failures >= REPEATED);
        let writes = writes.map(|trouble| trouble.since);
        [outage, writes, self.slow_since]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Counts one more failure in a row.
fn count(trouble: &mut Option<Trouble>, error: &Error) {
    let before = trouble.take();
    let failures = before.as_ref().map_or(1, |before| before.failures + 1);
    let now = Instant::now();
    *trouble = Some(Trouble {
        since: before.map_or_else(Timestamp::now, |before| before.since),
        failures,
        counted: now,
        next: now + pause(failures),
        error: error.clone().without_unsaved_token(),
    });
}

/// Whether a caller may try while there is `trouble`: one may, each time the pause is over. The
/// others are told for how long not.
fn admit(trouble: Option<&mut Trouble>) -> std::result::Result<(), (Duration, Error)> {
    let Some(trouble) = trouble else {
        return Ok(());
    };
    let now = Instant::now();
    if now < trouble.next {
        return Err((trouble.next - now, trouble.error.clone()));
    }
    // Others wait for what this one finds out.
    trouble.next = now + pause(trouble.failures);
    Ok(())
}

impl Health {
    pub(super) const fn new(events: broadcast::Sender<Event>) -> Self {
        let seen = Seen {
            outage: None,
            writes: None,
            slow_since: None,
        };
        Self {
            seen: Mutex::new(seen),
            events,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // What it guards is replaced as a whole.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> StoreState {
        match self.lock().degraded_since() {
            Some(since) => StoreState::Degraded { since },
            None => StoreState::Working,
        }
    }

    /// Whether this caller may ask the store. While it is down, one may every now and then; the
    /// others are told for how long not.
    pub(super) fn admit(&self) -> std::result::Result<(), Duration> {
        let mut seen = self.lock();
        let down = (seen.outage.as_mut()).filter(|outage| outage.failures >= DOWN);
        admit(down).map_err(|(wait, _)| wait)
    }

    /// The same for a caller that cannot go on without the store.
    pub(super) fn check(&self) -> Result<()> {
        self.admit().map_err(|wait| {
            let message = "the store is down, and was asked a moment ago";
            let error = Error::new(ErrorCode::StoreUnavailable, message);
            error.retry_at(Timestamp::now().after(wait))
        })
    }

    /// Whether this caller may write something down. While the store refuses writes, one may every
    /// now and then: the others would only wait for the same lock again.
    fn admit_write(&self) -> Result<()> {
        let mut seen = self.lock();
        let refused = (seen.writes.as_mut()).filter(|writes| writes.failures >= REPEATED);
        admit(refused).map_err(|(wait, error)| error.retry_at(Timestamp::now().after(wait)))
    }

    /// How long a caller with a good token in hand waits for a look-up.
    pub(super) fn patience(&self) -> Duration {
        if self.lock().slow_since.is_some() {
            Duration::ZERO
        } else {
            SLOW
        }
    }

    /// Changes what was seen, and tells when that makes the store degraded or working.
    fn change(&self, error: Option<&Error>, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.lock();
        let before = seen.degraded_since();
        change(&mut seen);
        let after = seen.degraded_since();
        drop(seen);
        match (before, after, error) {
            (None, Some(_), Some(error)) => {
                tracing::warn!(%error, "the store is degraded");
                let error = error.clone().without_unsaved_token();
                let _ = self.events.send(Event::StoreDegraded { error });
            }
            (Some(since), None, _) => {
                tracing::info!(%since, "the store works again");
                let _ = self.events.send(Event::StoreRecovered);
            }
            _ => {}
        }
    }

    /// Counts a call that began at `began` and was not answered.
    ///
    /// Calls that hang at the same time are one failure: records that hang must not make a store
    /// count as down that answers about all others.
    fn failed(&self, began: Instant, error: &Error) {
        self.change(Some(error), |seen| {
            let is_counted = (seen.outage.as_ref()).is_some_and(|outage| began < outage.counted);
            if !is_counted {
                count(&mut seen.outage, error);
            }
        });
    }

    /// Counts a write that began at `began` and was refused.
    ///
    /// Writes that waited for one lock at the same time make the store degraded together. More than
    /// that they do not say, and the pause must not grow with their number.
    fn write_refused(&self, began: Instant, error: &Error) {
        self.change(Some(error), |seen| {
            let is_counted = seen
                .writes
                .as_ref()
                .is_some_and(|writes| writes.failures >= REPEATED && began < writes.counted);
            if !is_counted {
                count(&mut seen.writes, error);
            }
        });
    }

    /// Takes notice of a look-up that takes longer than a caller waits for it.
    pub(super) fn slow(&self) {
        if self.lock().slow_since.is_some() {
            return;
        }
        tracing::warn!("the store is slow, serving from memory");
        let message = format!("the store did not answer a look-up within {SLOW:?}");
        let error = Error::new(ErrorCode::StoreUnavailable, message);
        self.change(Some(&error), |seen| {
            seen.slow_since.get_or_insert_with(Timestamp::now);
        });
    }

    fn answered(&self, call: Call, took: Duration) {
        if call == Call::LookUp && took > SLOW {
            self.slow();
        }
        // Every call to the store comes by here: most find nothing to do.
        self.change(None, |seen| {
            if matches!(call, Call::LookUp | Call::Write) {
                seen.outage = None;
            }
            if matches!(call, Call::Write | Call::Note) {
                seen.writes = None;
            }
            if call == Call::LookUp && took <= SLOW {
                seen.slow_since = None;
            }
        });
    }
}

/// A call that the store did not answer.
fn is_outage(error: &Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::StoreUnavailable | ErrorCode::CertificateRefused
    )
}

/// A write that a store refused that is there: it is locked, full, or not ours to write.
fn is_refused(error: &Error) -> bool {
    let is_of_one = [ErrorCode::LeaseLost, ErrorCode::TokenNotSaved].contains(&error.code());
    error.kind() == ErrorKind::StoreUnavailable && !is_outage(error) && !is_of_one
}

fn pause(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE * 2_u32.saturating_pow(failures.saturating_sub(DOWN).min(16));
    // Machines that lost the same store should not all come back at the same moment.
    doubled
        .min(LONGEST_PAUSE)
        .mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// What kind of call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// Looks a record up.
    LookUp,
    /// Writes or deletes records.
    Write,
    /// Writes down what processes agree on.
    Note,
    /// Anything else. An answer says nothing about the records: it may come from a lock file.
    Other,
}

/// Carries out calls to the store.
#[derive(Clone, Debug)]
struct Caller {
    health: Arc<Health>,
    limit: Duration,
}

impl Caller {
    async fn call<T: Send>(
        &self,
        name: &'static str,
        call: Call,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let began = Instant::now();
        let outcome = self.in_time(name, work).await;
        match &outcome {
            Err(error) if is_outage(error) => self.health.failed(began, error),
            Err(error) if is_refused(error) && matches!(call, Call::Write | Call::Note) => {
                self.health.write_refused(began, error);
            }
            Ok(_) => self.health.answered(call, began.elapsed()),
            // Another error is an answer too.
            Err(_) if matches!(call, Call::LookUp | Call::Write) => {
                self.health.change(None, |seen| seen.outage = None);
            }
            Err(_) => {}
        }
        outcome
    }

    /// A panic of the store must neither end the task that works on a token, nor go further.
    async fn in_time<T: Send>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
        // A store that answers at once needs no timer, and no runtime.
        let first = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        let outcome = match first {
            Poll::Ready(outcome) => Ok(outcome),
            // A runtime without a timer panics here, and says so. It goes on without a limit.
            Poll::Pending => match catch_unwind(|| tokio::time::sleep(self.limit)) {
                Ok(limit) => tokio::select! {
                    biased;
                    outcome = work => Ok(outcome),
                    () = limit => Err(()),
                },
                Err(_) => Ok(work.await),
            },
        };
        let message = match outcome {
            Ok(Ok(answer)) => return answer,
            Ok(Err(_)) => format!("the store panicked in `{name}`"),
            Err(()) => format!("the store did not answer `{name}` within {:?}", self.limit),
        };
        Err(Error::new(ErrorCode::StoreUnavailable, message))
    }

    /// Looks a record up. One that does not fit the question is an error, and never handed out.
    ///
    /// It is asked once more first, and so is a store that panics: an index may be behind its rows
    /// for a moment, and a look-up changes nothing.
    async fn look_up<F>(
        &self,
        name: &'static str,
        what: &str,
        is_right: impl Fn(&OAuthToken) -> bool + Sync,
        question: impl Fn() -> F + Sync,
    ) -> Result<Option<OAuthToken>>
    where
        F: Future<Output = Result<Option<OAuthToken>>> + Send,
    {
        let fits = |answer: &Result<Option<OAuthToken>>| match answer {
            Ok(Some(record)) => is_right(record),
            _ => true,
        };
        let ask = async {
            let first = AssertUnwindSafe(async { question().await }).catch_unwind();
            if let Ok(answer) = first.await
                && fits(&answer)
            {
                return answer;
            }
            let answer = question().await;
            if fits(&answer) {
                return answer;
            }
            Err(other_record(what))
        };
        self.call(name, Call::LookUp, ask).await
    }
}

fn other_record(what: &str) -> Error {
    let message = format!(
        "the store answered {what} with a record that does not fit it, upper and lower case included"
    );
    Error::new(ErrorCode::StoreDamaged, message)
}

/// A store that is watched while it is used.
pub(crate) struct Observed {
    inner: Arc<dyn TokenStore>,
    caller: Caller,
    agreement: Agreement,
}

impl Observed {
    pub(super) fn new(inner: Arc<dyn TokenStore>, health: Arc<Health>, limit: Duration) -> Self {
        let caller = Caller { health, limit };
        Self {
            agreement: Agreement {
                store: Arc::clone(&inner),
                caller: caller.clone(),
            },
            inner,
            caller,
        }
    }
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
        let what = match query.criterion() {
            Criterion::UserName(_) => "a look-up by user name",
            Criterion::AccessToken(_) => "a look-up by access token",
            Criterion::GrantToken(_) => "a look-up by grant token",
            Criterion::RefreshToken(_) => "a look-up by refresh token",
        };
        let is_right = |record: &OAuthToken| query.matches(record);
        let question = || self.inner.find_token(query);
        (self.caller)
            .look_up("find_token", what, is_right, question)
            .await
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        let save = async { self.inner.save_token(token).await };
        self.caller.call("save_token", Call::Write, save).await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        let delete = async { self.inner.delete_token(id).await };
        self.caller.call("delete_token", Call::Write, delete).await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        let list = async { self.inner.get_tokens().await };
        self.caller.call("get_tokens", Call::Other, list).await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        let delete = async { self.inner.delete_tokens().await };
        self.caller.call("delete_tokens", Call::Write, delete).await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        let is_right = |record: &OAuthToken| record.id == Some(id);
        let question = || self.inner.find_token_by_id(id);
        (self.caller)
            .look_up("find_token_by_id", "a look-up by id", is_right, question)
            .await
    }

    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        let list = async { self.inner.get_tokens_page(after, limit).await };
        self.caller.call("get_tokens_page", Call::Other, list).await
    }

    async fn inventory(&self) -> Result<Option<Inventory>> {
        let count = async { self.inner.inventory().await };
        self.caller.call("inventory", Call::Other, count).await
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        let save = async {
            let kept = self.inner.save_fact(fact).await?;
            if let Kept::Superseded(stored) = &kept
                && (stored.id != Some(fact.id()) || fact.ruling(Some(stored)) == Ruling::Gone)
            {
                return Err(other_record("a save"));
            }
            Ok(kept)
        };
        self.caller.call("save_fact", Call::Write, save).await
    }

    fn changes(&self) -> Option<broadcast::Receiver<Change>> {
        self.inner.changes()
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        self.inner
            .coordination()
            .map(|_| &self.agreement as &dyn Coordination)
    }
}

/// The agreement of a store that is watched.
#[derive(Debug)]
struct Agreement {
    store: Arc<dyn TokenStore>,
    caller: Caller,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Coordination for Agreement {
    fn guarantee(&self) -> Guarantee {
        let coordination = self.store.coordination();
        coordination.map_or(Guarantee::Process, Coordination::guarantee)
    }

    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>> {
        let acquire = async {
            match self.store.coordination() {
                Some(coordination) => coordination.try_acquire(key).await,
                None => Err(Error::new(
                    ErrorCode::Internal,
                    "the store offers no agreement any more",
                )),
            }
        };
        let permit = self
            .caller
            .call("try_acquire", Call::Other, acquire)
            .await?;
        let caller = self.caller.clone();
        Ok(permit.map(|inner| Box::new(ObservedPermit { inner, caller }) as Box<dyn Permit>))
    }

    async fn holder(&self, key: &CoordinationKey) -> Option<String> {
        let holder = async {
            let coordination = self.store.coordination();
            Ok(match coordination {
                Some(coordination) => coordination.holder(key).await,
                None => None,
            })
        };
        // Its words go into the text of another error, which is told without them.
        let known = self.caller.call("holder", Call::Other, holder).await;
        known.unwrap_or_default()
    }
}

#[derive(Debug)]
struct ObservedPermit {
    inner: Box<dyn Permit>,
    caller: Caller,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Permit for ObservedPermit {
    async fn memo(&self) -> Result<Memo> {
        let memo = async { self.inner.memo().await };
        self.caller.call("memo", Call::Other, memo).await
    }

    async fn set_memo(&self, memo: &Memo) -> Result<()> {
        self.caller.health.admit_write()?;
        let write = async { self.inner.set_memo(memo).await };
        self.caller.call("set_memo", Call::Note, write).await
    }

    async fn tell_issue(&self, credential: &Fingerprint, at: Timestamp) -> Result<()> {
        let write = async { self.inner.tell_issue(credential, at).await };
        (self.caller).call("tell_issue", Call::Note, write).await
    }

    async fn release(&self, memo: Option<&Memo>) -> Result<()> {
        let may_write = memo.map_or(Ok(()), |_| self.caller.health.admit_write());
        let memo = memo.filter(|_| may_write.is_ok());
        let call = memo.map_or(Call::Other, |_| Call::Note);
        let release = async { self.inner.release(memo).await };
        self.caller.call("release", call, release).await?;
        may_write
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Error {
        Error::new(ErrorCode::StoreUnavailable, "out of order")
    }

    fn fail(health: &Health) {
        health.failed(Instant::now(), &down());
    }

    #[test]
    fn one_failure_is_trouble_and_several_in_a_row_keep_callers_away() {
        let (events, mut heard) = broadcast::channel(8);
        let health = Health::new(events);
        assert_eq!(health.state(), StoreState::Working);
        for _ in 1..DOWN {
            fail(&health);
            assert!(health.admit().is_ok());
        }
        fail(&health);
        assert!(matches!(health.state(), StoreState::Degraded { .. }));
        assert!(health.admit().unwrap_err() <= FIRST_PAUSE);
        assert_eq!(
            health.check().unwrap_err().code(),
            ErrorCode::StoreUnavailable
        );
        health.answered(Call::LookUp, Duration::ZERO);
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
            fail(&health);
        }
        health.lock().outage.as_mut().unwrap().next = Instant::now();
        assert!(health.admit().is_ok());
        assert!(health.admit().is_err());
    }

    #[test]
    fn calls_that_hang_at_the_same_time_are_one_failure() {
        let health = Health::new(broadcast::channel(8).0);
        let began = Instant::now();
        for _ in 0..DOWN * 10 {
            health.failed(began, &down());
        }
        assert!(health.admit().is_ok());
        assert!(matches!(health.state(), StoreState::Degraded { .. }));
    }

    #[test]
    fn a_slow_store_is_waited_for_once_and_asked_all_the_same() {
        let health = Health::new(broadcast::channel(8).0);
        assert_eq!(health.patience(), SLOW);
        for _ in 0..DOWN {
            health.slow();
        }
        assert!(matches!(health.state(), StoreState::Degraded { .. }));
        assert!(health.admit().is_ok() && health.check().is_ok());
        health.answered(Call::LookUp, SLOW * 2);
        health.answered(Call::Write, Duration::ZERO);
        assert_eq!(health.patience(), Duration::ZERO);
        assert!(matches!(health.state(), StoreState::Degraded { .. }));
        health.answered(Call::LookUp, SLOW);
        assert_eq!(health.patience(), SLOW);
        assert_eq!(health.state(), StoreState::Working);
    }

    #[test]
    fn writes_that_are_refused_do_not_keep_look_ups_away() {
        let health = Health::new(broadcast::channel(8).0);
        let locked = Error::new(ErrorCode::StoreLocked, "locked by another connection");
        assert!(health.admit_write().is_ok());
        health.write_refused(Instant::now(), &locked);
        assert_eq!(health.state(), StoreState::Working);
        assert!(health.admit_write().is_ok());
        health.write_refused(Instant::now(), &locked);
        let error = health.admit_write().unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreLocked);
        assert_eq!(error.message(), locked.message());
        assert!(error.retry_after().is_some());
        health.answered(Call::LookUp, Duration::ZERO);
        assert!(matches!(health.state(), StoreState::Degraded { .. }));
        assert!(health.admit().is_ok());
        health.answered(Call::Write, Duration::ZERO);
        assert_eq!(health.state(), StoreState::Working);
        assert!(health.admit_write().is_ok());
    }

    #[test]
    fn writes_that_wait_for_one_lock_at_the_same_time_count_together() {
        let health = Health::new(broadcast::channel(8).0);
        let locked = Error::new(ErrorCode::StoreLocked, "locked by another connection");
        let began = Instant::now();
        for _ in 0..64 {
            health.write_refused(began, &locked);
        }
        assert!(matches!(health.state(), StoreState::Degraded { .. }));
        let failures = |health: &Health| health.lock().writes.as_ref().unwrap().failures;
        assert_eq!(failures(&health), REPEATED);
        health.write_refused(Instant::now(), &locked);
        assert_eq!(failures(&health), REPEATED + 1);
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        assert!(pause(DOWN) <= FIRST_PAUSE);
        assert!(pause(DOWN + 3) > FIRST_PAUSE);
        assert!(pause(u32::MAX) <= LONGEST_PAUSE);
    }
}
