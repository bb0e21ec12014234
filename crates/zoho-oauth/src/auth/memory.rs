//! What is remembered about a credential: in the store where it can, and always in this process.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::RefreshPolicy;
use super::shared::Shared;
use super::slot::Slot;
use super::turn::{acquire, release};
use crate::clock::Timestamp;
use crate::data_center::DataCenter;
use crate::error::{Error, ErrorCode, Result};
use crate::secret::{Fingerprint, GrantToken, RefreshToken};
use crate::store::{CoordinationKey, Guarantee, Memo, Permit, Verdict};
use crate::token::{ClientId, OAuthToken};

/// How long it may take to write down a mint before it is asked for. After a longer time it is
/// counted again: the mint would reach Zoho long after the moment it is counted for.
const STANDSTILL: Duration = Duration::from_secs(10);
/// How late a timer may go off in a process that does not stand still.
const A_MOMENT: Duration = Duration::from_secs(1);

/// What an error says in front when a request cannot be written down before it is made.
pub(super) const NOT_ASKED: &str =
    "Zoho is not asked, since a request that cannot be written down would not be counted";

/// For how long at most all are kept from a server that is in trouble. The answer may be a page of a
/// proxy of this machine alone, and Zoho itself was not seen to say how long.
const LONGEST_OUTAGE: Duration = Duration::from_secs(30);

/// The memory of one record, while its permit is held.
pub(super) struct Memory<'a> {
    slot: &'a Slot,
    permit: Option<&'a dyn Permit>,
    guarantee: Guarantee,
    /// How long a mint counts.
    window: Duration,
}

impl<'a> Memory<'a> {
    pub(super) fn new(shared: &Shared, slot: &'a Slot, permit: Option<&'a dyn Permit>) -> Self {
        Self {
            slot,
            permit,
            guarantee: shared.guarantee(),
            window: shared.policy.counted_for(),
        }
    }

    /// Returns what is remembered about the credential of `record`.
    ///
    /// What the store says and what this process knows by itself are put together: the store knows
    /// of other processes, and this one of what the store could not be made to remember. What a
    /// fleet's store was told is there, by a clock that differs from this machine's: putting that
    /// together with the same would count each mint twice.
    ///
    /// # Errors
    /// What keeps the store from saying it: together with those that it does not know of, this
    /// process would ask for more than Zoho grants.
    pub(super) async fn recall(&self, record: &OAuthToken, now: Timestamp) -> Result<Memo> {
        let window = self.window;
        let stored = match self.permit {
            Some(permit) => permit.memo().await?,
            None => Memo::default(),
        };
        let Some(credential) = credential_of(record) else {
            return Ok(Memo::default());
        };
        let (own, is_told) = self.slot.memo();
        let stored = stored.about(&credential, now, window);
        let memo = if self.guarantee == Guarantee::Fleet && is_told {
            stored
        } else {
            stored.joined(own.about(&credential, now, window))
        };
        self.slot.set_memo(memo.clone(), is_told);
        Ok(memo)
    }

    /// Remembers what was learned.
    ///
    /// # Errors
    /// `lease_lost`: whoever holds the lease by now knows better. A store that cannot remember is no
    /// error; this process remembers all the same.
    pub(super) async fn remember(&self, memo: &Memo) -> Result<()> {
        match self.write(memo).await {
            Err(error) if error.code() != ErrorCode::LeaseLost => {
                tracing::warn!(%error, "cannot write down what is to be remembered, going on");
                Ok(())
            }
            done => done,
        }
    }

    /// Remembers a mint that is about to be asked for: `noted` is `before` and that mint.
    ///
    /// # Errors
    /// What keeps the store from writing it down: the next process would not know of it, and
    /// together they would ask for more than Zoho grants. Nothing counts then.
    pub(super) async fn reserve(&self, before: &Memo, noted: &Memo) -> Result<()> {
        if self.permit.is_none() {
            return self.write(noted).await;
        }
        let (known, is_told) = self.slot.memo();
        let began = Instant::now();
        let mut write = pin!(self.write(noted));
        let in_time = tokio::time::timeout(STANDSTILL, write.as_mut()).await;
        let (written, is_slow) = if let Ok(written) = in_time {
            (written, false)
        } else {
            // The clock of a process that stood still goes off late.
            let is_slow = began.elapsed() < STANDSTILL + A_MOMENT;
            (write.await, is_slow)
        };
        if let Err(error) = written {
            self.slot.set_memo(known, is_told);
            return Err(error.about(NOT_ASKED));
        }
        if began.elapsed() > STANDSTILL {
            // Nothing was asked of Zoho, and a store that stays slow must not use up the budget.
            self.remember(before).await?;
            let took = began.elapsed();
            return Err(if is_slow {
                let message =
                    format!("the store took {took:?} to write down what is asked of Zoho");
                Error::new(ErrorCode::StoreUnavailable, message)
            } else {
                let message = "this process stood still before it could ask Zoho";
                Error::new(ErrorCode::LeaseLost, message)
            });
        }
        Ok(())
    }

    async fn write(&self, memo: &Memo) -> Result<()> {
        let written = match self.permit {
            Some(permit) => permit.set_memo(memo).await,
            None => Ok(()),
        };
        if !matches!(&written, Err(error) if error.code() == ErrorCode::LeaseLost) {
            // Without a permit nobody else was told.
            let is_told = self.permit.is_some() && written.is_ok();
            self.slot.set_memo(memo.clone(), is_told);
        }
        written
    }
}

/// Names what the record's next access token comes from.
pub(super) fn credential_of(record: &OAuthToken) -> Option<Fingerprint> {
    let refresh = record.refresh_token.as_ref().map(RefreshToken::fingerprint);
    refresh.or_else(|| record.grant_token.as_ref().map(GrantToken::fingerprint))
}

/// Names whom a credential is shown to: which accounts server is asked, and by which client.
pub(super) fn asked_by(center: &DataCenter, client: &ClientId) -> Fingerprint {
    Fingerprint::of(&[center.accounts_url(), client.as_str()])
}

/// Returns what to remember of a failure: `before` the request, and `noted` as a mint. `asked` is
/// [who was asked](asked_by).
pub(super) fn after_failure(
    before: &Memo,
    noted: &Memo,
    error: &Error,
    asked: &Fingerprint,
    policy: &RefreshPolicy,
) -> Memo {
    let (now, window) = (Timestamp::now(), policy.window);
    let mut memo = before.clone();
    if error.may_have_issued() {
        // If the answer was lost on its way, Zoho has counted all the same, at some moment until
        // now.
        memo.minted_at.clone_from(&noted.minted_at);
        if noted.minted_at.len() > before.minted_at.len() {
            memo.settle_mint(now);
        }
    }
    match error.code() {
        ErrorCode::InvalidCode => memo.judge(Verdict {
            asked: Some(asked.clone()),
            ..Verdict::new(error.server_code().unwrap_or("invalid_code"), now)
        }),
        ErrorCode::Throttled => {
            let wait = error.retry_after().unwrap_or(window);
            memo.wait_until = Some(now.after(wait.min(window)));
        }
        // It answered, so it is there for all and in trouble for all. Where the connection fails,
        // it may be this machine's own; and what does not arrive is no burden.
        ErrorCode::ServerError => {
            let wait = error.retry_after().map(|wait| wait.min(LONGEST_OUTAGE));
            memo.note_outage(now, wait);
        }
        // The client's configuration, or an answer that cannot be understood, says nothing
        // about this token.
        _ => {}
    }
    memo
}

/// Lets access tokens that were issued before the record of `slot` held its credential count towards
/// the budget of that, as far as it can be done without waiting for anybody.
///
/// `credential` is the refresh token that they were issued for, if it is known; whatever else the
/// record holds by now, they do not matter to it.
pub(super) async fn count(
    shared: &Arc<Shared>,
    slot: &Arc<Slot>,
    minted_at: Vec<Timestamp>,
    credential: Option<&Fingerprint>,
) {
    if let Ok(_turn) = slot.work.try_lock() {
        count_in_turn(shared, slot, minted_at, credential).await;
        return;
    }
    // The old login is being refreshed, which leaves behind what is remembered of that.
    let (shared, slot) = (Arc::clone(shared), Arc::clone(slot));
    let credential = credential.cloned();
    tokio::spawn(async move {
        let _turn = slot.work.lock().await;
        count_in_turn(&shared, &slot, minted_at, credential.as_ref()).await;
    });
}

async fn count_in_turn(
    shared: &Shared,
    slot: &Slot,
    minted_at: Vec<Timestamp>,
    credential: Option<&Fingerprint>,
) {
    let record = match shared.store.find_token_by_id(slot.id).await {
        Ok(Some(record)) => record,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%error, "cannot see the record that something is counted for");
            if let Some(credential) = credential {
                let (own, _) = slot.memo();
                let window = shared.policy.counted_for();
                let own = own.about(credential, Timestamp::now(), window);
                let issued = Memo {
                    minted_at,
                    ..Memo::default()
                };
                slot.set_memo(own.joined(issued), false);
            }
            return;
        }
    };
    if credential.is_some() && credential_of(&record).as_ref() != credential {
        return;
    }
    let key = CoordinationKey::record(slot.id);
    let permit = acquire(shared, &key, Duration::ZERO).await.ok().flatten();
    let memory = Memory::new(shared, slot, permit.as_deref());
    let issued = Memo {
        minted_at,
        ..Memo::default()
    };
    match memory.recall(&record, Timestamp::now()).await {
        // Without a turn it is remembered here alone.
        Ok(memo) => drop(memory.remember(&memo.joined(issued)).await),
        Err(error) => tracing::warn!(%error, "cannot count what was issued for a new login"),
    }
    release(permit, None).await;
}

/// What is remembered about logins that no record exists for. Each entry was paid for with a
/// request to Zoho and is dropped when its window is over, so there are never many.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<Fingerprint, Memo>>);

impl Attempts {
    pub(super) fn recall(
        &self,
        credential: &Fingerprint,
        now: Timestamp,
        window: Duration,
    ) -> Memo {
        let attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let memo = attempts.get(credential).cloned().unwrap_or_default();
        drop(attempts);
        recent(memo.about(credential, now, window), now, window)
    }

    pub(super) fn remember(&self, memo: &Memo, now: Timestamp, window: Duration) {
        let Some(credential) = &memo.credential else {
            return;
        };
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.insert(credential.clone(), memo.clone());
        attempts.retain(|_, memo| {
            memo.latest()
                .is_some_and(|latest| is_recent(latest, now, window))
        });
    }
}

/// The memo of a login that no record exists for. A verdict on it stands for one window: what was
/// refused may have been a slip, and whoever tries again later gets Zoho's own answer.
pub(super) fn recent(mut memo: Memo, now: Timestamp, window: Duration) -> Memo {
    (memo.verdicts).retain(|verdict| is_recent(verdict.at, now, window));
    memo
}

/// Whether `at` lies within one window of `now`; a clock that was set back leaves nothing for ever.
fn is_recent(at: Timestamp, now: Timestamp, window: Duration) -> bool {
    at > now.before(window) && at <= now.after(window)
}

#[cfg(test)]
mod tests;
