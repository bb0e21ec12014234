//! One stored record as this process knows it: the access token in hand, and who is renewing it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::RefreshPolicy;
use super::decide::{Purpose, Schedule};
use super::refresh;
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::credential::OAuthClient;
use crate::data_center::DataCenter;
use crate::error::{Error, ErrorCode, Result};
use crate::secret::AccessToken;
use crate::store::Memo;
use crate::token::{OAuthToken, TokenId, UserName};

/// How long after a failed refresh the next one is not started, while a good token is in hand.
const AHEAD_PAUSE: Duration = Duration::from_secs(30);
/// How long after a refresh failed on the network its error answers further callers.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);
/// How long after another process was seen refreshing the store is asked for its outcome.
const SOON: Duration = Duration::from_secs(1);
/// How long the store may take to say whether a good token is still there.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

/// An access token that is good for a call now. Cheap to clone.
#[derive(Clone)]
pub struct Access(pub(crate) Arc<Issued>);

/// In this order in memory: the hot path then reads `quick_until` from the cache line that the
/// reference count of its `Arc` is on.
#[derive(Clone)]
#[repr(C)]
pub(crate) struct Issued {
    /// Until then it is handed out without a further look: the earliest of the moments below.
    quick_until: Timestamp,
    pub(crate) token: AccessToken,
    api_domain: Option<String>,
    expires_at: Option<Timestamp>,
    /// From then on the store is asked whether the record is still there.
    recheck_at: Timestamp,
    /// From then on it is refreshed in the background.
    refresh_at: Timestamp,
    /// From then on it is not handed out.
    usable_until: Timestamp,
    /// It is in use and not saved yet.
    unsaved: bool,
    /// The store could not be asked about it.
    unconfirmed: bool,
}

impl Issued {
    /// Takes the access token of `record`, if it has one.
    pub(crate) fn of(
        record: &OAuthToken,
        life: Option<Duration>,
        policy: &RefreshPolicy,
        now: Timestamp,
    ) -> Option<Self> {
        let schedule = Schedule::of(record, life, policy);
        Some(
            Self {
                token: record.access_token.clone()?,
                api_domain: record.api_domain.clone(),
                expires_at: record.expiry_time,
                quick_until: now,
                recheck_at: now.after(policy.recheck),
                refresh_at: schedule.refresh_at,
                usable_until: schedule.usable_until,
                unsaved: false,
                unconfirmed: false,
            }
            .settled(),
        )
    }

    fn settled(mut self) -> Self {
        self.quick_until = self.recheck_at.min(self.refresh_at).min(self.usable_until);
        self
    }

    pub(crate) fn is_usable(&self, now: Timestamp) -> bool {
        now < self.usable_until
    }

    /// The same token, to be looked at again at the given moments.
    fn postponed(&self, recheck_at: Timestamp, refresh_at: Timestamp) -> Self {
        Self {
            recheck_at,
            refresh_at,
            ..self.clone()
        }
        .settled()
    }

    pub(crate) fn with_unsaved(mut self, unsaved: bool) -> Self {
        self.unsaved = unsaved;
        self
    }

    fn with_unconfirmed(mut self, unconfirmed: bool) -> Self {
        self.unconfirmed = unconfirmed;
        self
    }
}

impl Access {
    /// Returns the access token.
    pub fn token(&self) -> &AccessToken {
        &self.0.token
    }

    /// Returns the address of the API that the token is good for, if the accounts server named one.
    pub fn api_domain(&self) -> Option<&str> {
        self.0.api_domain.as_deref()
    }

    /// Returns when the token ends, by the wall clock; `None` when nobody said.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.0.expires_at
    }

    /// Returns whether the token works while the store does not: it could not be saved yet, or the
    /// store could not be asked whether it is still there.
    pub fn is_degraded(&self) -> bool {
        self.0.unsaved || self.0.unconfirmed
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("token", &self.0.token)
            .field("api_domain", &self.0.api_domain)
            .field("expires_at", &self.0.expires_at)
            .field("degraded", &self.is_degraded())
            .finish()
    }
}

/// What the record does not say and the credential did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    pub(crate) user_name: Option<UserName>,
    pub(crate) client: Option<OAuthClient>,
    pub(crate) center: Option<DataCenter>,
}

type Outcome = Option<Result<Access>>;

/// See the [module documentation](self).
pub(crate) struct Slot {
    pub(crate) id: TokenId,
    issued: ArcSwapOption<Issued>,
    /// The refresh under way. Everybody who needs a new token waits for its outcome.
    flight: Mutex<Option<watch::Receiver<Outcome>>>,
    /// The last failure, and until when it answers those who ask again.
    failure: Mutex<Option<(Timestamp, Error)>>,
    /// Held by whoever works on the record at Zoho, so that a revocation and a refresh take turns.
    pub(crate) work: tokio::sync::Mutex<()>,
    /// Held by the one who asks the store whether the record is still there.
    look: tokio::sync::Mutex<()>,
    /// What is remembered where the store cannot.
    memo: Mutex<Memo>,
    hints: Mutex<Hints>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What these guard is replaced as a whole, so a panic cannot leave it half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    pub(crate) fn new(id: TokenId) -> Self {
        Self {
            id,
            issued: ArcSwapOption::empty(),
            flight: Mutex::default(),
            failure: Mutex::default(),
            work: tokio::sync::Mutex::default(),
            look: tokio::sync::Mutex::default(),
            memo: Mutex::default(),
            hints: Mutex::default(),
        }
    }

    pub(crate) fn hints(&self) -> Hints {
        lock(&self.hints).clone()
    }

    /// Takes over what `hints` says; what it does not say stays.
    pub(crate) fn learn(&self, hints: Hints) {
        let mut known = lock(&self.hints);
        known.user_name = hints.user_name.or_else(|| known.user_name.take());
        known.client = hints.client.or_else(|| known.client.take());
        known.center = hints.center.or_else(|| known.center.take());
    }

    /// Whether `record` has this slot's id and belongs to another user.
    ///
    /// Our stores never give an id twice, but the official SDKs do, once the highest is deleted.
    /// Who holds the old record must not get the new user's token.
    pub(crate) fn is_of_another(&self, record: &OAuthToken) -> bool {
        let known = lock(&self.hints);
        known.user_name.is_some() && known.user_name != record.user_name
    }

    pub(crate) fn memo(&self) -> Memo {
        lock(&self.memo).clone()
    }

    pub(crate) fn set_memo(&self, memo: Memo) {
        *lock(&self.memo) = memo;
    }

    /// The token in hand, whatever its state.
    pub(crate) fn in_hand(&self) -> Option<Arc<Issued>> {
        self.issued.load_full()
    }

    /// Hands out `issued` from now on.
    pub(crate) fn publish(&self, issued: Issued) -> Access {
        let issued = Arc::new(issued);
        self.issued.store(Some(Arc::clone(&issued)));
        *lock(&self.failure) = None;
        Access(issued)
    }

    /// Puts `new` in the place of `old`, unless something newer is there already.
    pub(crate) fn replace(&self, old: Option<&Arc<Issued>>, new: Issued) -> Access {
        let new = Arc::new(new);
        let old = old.cloned();
        let seen = self.issued.compare_and_swap(&old, Some(Arc::clone(&new)));
        let unchanged = match (&*seen, &old) {
            (Some(seen), Some(old)) => Arc::ptr_eq(seen, old),
            (None, None) => true,
            _ => false,
        };
        if unchanged {
            return Access(new);
        }
        Access(arc_swap::Guard::into_inner(seen).unwrap_or(new))
    }

    /// Hands out nothing any more.
    pub(crate) fn clear(&self) {
        self.issued.store(None);
    }

    /// The hot path: the token in hand, if nothing is to be done about it.
    #[inline]
    pub(crate) fn quick(&self) -> Option<Access> {
        let issued = arc_swap::Guard::into_inner(self.issued.load())?;
        (Timestamp::now() < issued.quick_until).then_some(Access(issued))
    }

    /// Everything that the hot path does not answer.
    pub(crate) async fn access(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<Access> {
        let now = Timestamp::now();
        if let Some(issued) = self.in_hand().filter(|issued| issued.is_usable(now)) {
            let issued = if now < issued.recheck_at {
                Some(issued)
            } else {
                self.look(shared, issued).await?
            };
            if let Some(issued) = issued {
                if Timestamp::now() >= issued.refresh_at {
                    self.join_or_start(shared, &Purpose::Ahead);
                }
                return Ok(Access(issued));
            }
        }
        self.renewed(shared, &Purpose::Need).await
    }

    /// Asks the store whether the record is still there, while `old` is good by its time.
    ///
    /// `None` when the record's token must be renewed first.
    async fn look(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        old: Arc<Issued>,
    ) -> Result<Option<Arc<Issued>>> {
        let _only_one = self.look.lock().await;
        let now = Timestamp::now();
        let old = self.in_hand().unwrap_or(old);
        if now < old.recheck_at {
            return Ok(Some(old).filter(|issued| issued.is_usable(now)));
        }
        let answer =
            tokio::time::timeout(LOOK_PATIENCE, shared.store.find_token_by_id(self.id)).await;
        let record = match answer {
            Ok(Ok(Some(record))) if !self.is_of_another(&record) => record,
            Ok(Ok(_)) => return Err(shared.gone(self)),
            failed => {
                // A token that is good is served from memory while the store is away.
                if let Ok(Err(error)) = failed {
                    tracing::warn!(id = %self.id, %error, "cannot ask the store, serving from memory");
                } else {
                    tracing::warn!(id = %self.id, "the store is slow, serving from memory");
                }
                let again = now.after(shared.policy.recheck.min(LOOK_PATIENCE));
                let refresh_at = old.refresh_at;
                let kept = old.postponed(again, refresh_at).with_unconfirmed(true);
                return Ok(Some(self.replace(Some(&old), kept).0));
            }
        };
        let unchanged = record.access_token.as_ref() == Some(&old.token)
            && record.expiry_time == old.expires_at;
        let seen = if unchanged || old.unsaved {
            // The schedule was made when more was known than the record says; and what is not
            // saved yet is on its way to the store.
            let again = now.after(shared.policy.recheck);
            Some(old.postponed(again, old.refresh_at).with_unconfirmed(false))
        } else {
            Issued::of(&record, None, &shared.policy, now).filter(|issued| issued.is_usable(now))
        };
        Ok(seen.map(|issued| self.replace(Some(&old), issued).0))
    }

    /// Waits for a new access token, and starts the refresh if nobody else did.
    pub(crate) async fn renewed(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        purpose: &Purpose,
    ) -> Result<Access> {
        let mut last = Error::new(ErrorCode::Internal, "the refresh ended without an answer");
        for _ in 0..3 {
            if let Some(error) = self.recent_failure(purpose) {
                return Err(error);
            }
            let mut outcome = self.join_or_start(shared, purpose);
            // An error here means that the task died (its runtime was shut down): start anew.
            let Ok(answer) = outcome.wait_for(Option::is_some).await else {
                continue;
            };
            match answer.as_ref() {
                Some(Ok(access)) => {
                    let refused =
                        matches!(purpose, Purpose::Refused(token) if token == access.token());
                    if !refused {
                        return Ok(access.clone());
                    }
                    // That refresh began before the refusal was known.
                    last = Error::new(
                        ErrorCode::UnexpectedAnswer,
                        "a new access token is the refused one",
                    );
                }
                Some(Err(error)) => return Err(error.clone()),
                None => {}
            }
        }
        Err(last)
    }

    fn recent_failure(&self, purpose: &Purpose) -> Option<Error> {
        if matches!(purpose, Purpose::Ahead) {
            return None;
        }
        let failure = lock(&self.failure);
        let (until, error) = failure.as_ref()?;
        if matches!(purpose, Purpose::Refused(_)) && error.code() == ErrorCode::MintBudget {
            // A refused token may draw on what the budget keeps back.
            return None;
        }
        (Timestamp::now() < *until).then(|| error.clone())
    }

    /// Returns the outcome-to-be of the refresh under way, or of one that begins now.
    ///
    /// It runs in a task of its own: who waits for it may go away.
    fn join_or_start(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        purpose: &Purpose,
    ) -> watch::Receiver<Outcome> {
        let mut flight = lock(&self.flight);
        if let Some(under_way) = flight
            .as_ref()
            .filter(|flight| flight.has_changed().is_ok())
        {
            return under_way.clone();
        }
        let (sender, receiver) = watch::channel(None);
        *flight = Some(receiver.clone());
        drop(flight);
        let (slot, shared, purpose) = (Arc::clone(self), Arc::clone(shared), purpose.clone());
        tokio::spawn(async move {
            let outcome = refresh::run(&shared, &slot, &purpose).await;
            slot.land(&purpose, &outcome);
            // Nobody may be waiting.
            let _ = sender.send(Some(outcome));
        });
        receiver
    }

    /// Leaves the refresh to the process that is at it: a moment later the store has its outcome.
    pub(crate) fn postpone(&self) -> Option<Access> {
        let issued = self.in_hand()?;
        let soon = Timestamp::now().after(SOON);
        let later = issued.postponed(issued.recheck_at.min(soon), soon);
        Some(self.replace(Some(&issued), later))
    }

    /// Makes room for the next refresh, and remembers a failure for a moment.
    fn land(&self, purpose: &Purpose, outcome: &Result<Access>) {
        let now = Timestamp::now();
        if let Err(error) = outcome {
            if error.is_transient() {
                *lock(&self.failure) = Some((now.after(FAILURE_PAUSE), error.clone()));
            }
            if let (Purpose::Ahead, Some(issued)) = (purpose, self.in_hand()) {
                let later = issued.postponed(issued.recheck_at, now.after(AHEAD_PAUSE));
                self.replace(Some(&issued), later);
            }
        }
        *lock(&self.flight) = None;
    }
}
