//! What is remembered about a credential: in the store where it can, and always in this process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::shared::Shared;
use super::slot::Slot;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::secret::{Fingerprint, GrantToken, RefreshToken};
use crate::store::{Guarantee, Memo, Permit, Verdict};
use crate::token::OAuthToken;

/// How long it may take to write down a mint before it is asked for. A process that stood still for
/// longer counts anew: the mint would reach Zoho long after the moment it is counted for.
const STANDSTILL: Duration = Duration::from_secs(10);

/// The memory of one record, while its permit is held.
pub(super) struct Memory<'a> {
    slot: &'a Slot,
    permit: Option<&'a dyn Permit>,
    guarantee: Guarantee,
}

impl<'a> Memory<'a> {
    pub(super) fn new(shared: &Shared, slot: &'a Slot, permit: Option<&'a dyn Permit>) -> Self {
        Self {
            slot,
            permit,
            guarantee: shared.guarantee(),
        }
    }

    /// Returns what is remembered about the credential of `record`.
    ///
    /// What the store says and what this process knows by itself are put together: the store knows
    /// of other processes, and this one of what the store could not be made to remember. What a
    /// fleet's store was told is there, by a clock that differs from this machine's: putting that
    /// together with the same would count each mint twice.
    pub(super) async fn recall(
        &self,
        record: &OAuthToken,
        now: Timestamp,
        window: Duration,
    ) -> Memo {
        let stored = match self.permit {
            Some(permit) => permit.memo().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot read what is remembered, going on without");
                Memo::default()
            }),
            None => Memo::default(),
        };
        let Some(credential) = credential_of(record) else {
            return Memo::default();
        };
        let (own, is_told) = self.slot.memo();
        let stored = stored.about(&credential, now, window);
        let memo = if self.guarantee == Guarantee::Fleet && is_told {
            stored
        } else {
            stored.joined(own.about(&credential, now, window))
        };
        self.slot.set_memo(memo.clone(), is_told);
        memo
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

    /// Remembers a mint that is about to be asked for.
    ///
    /// # Errors
    /// `lease_lost`; and among machines whatever keeps the store from counting: they would not know
    /// of it, and together ask for more than Zoho grants.
    pub(super) async fn reserve(&self, memo: &Memo) -> Result<()> {
        let began = Instant::now();
        if self.guarantee == Guarantee::Fleet {
            self.write(memo).await?;
        } else {
            self.remember(memo).await?;
        }
        if began.elapsed() > STANDSTILL {
            let message = "this process stood still before it could ask Zoho";
            return Err(Error::new(ErrorCode::LeaseLost, message));
        }
        Ok(())
    }

    async fn write(&self, memo: &Memo) -> Result<()> {
        let written = match self.permit {
            Some(permit) => permit.set_memo(memo).await,
            None => Ok(()),
        };
        if !matches!(&written, Err(error) if error.code() == ErrorCode::LeaseLost) {
            self.slot.set_memo(memo.clone(), written.is_ok());
        }
        written
    }
}

/// Names what the record's next access token comes from.
fn credential_of(record: &OAuthToken) -> Option<Fingerprint> {
    let refresh = record.refresh_token.as_ref().map(RefreshToken::fingerprint);
    refresh.or_else(|| record.grant_token.as_ref().map(GrantToken::fingerprint))
}

/// Returns what to remember of a failure: `before` the request, and `noted` as a mint.
pub(super) fn after_failure(before: &Memo, noted: &Memo, error: &Error, window: Duration) -> Memo {
    if error.may_have_issued() {
        // If the answer was lost on its way, Zoho has counted all the same.
        return noted.clone();
    }
    let mut memo = before.clone();
    let now = Timestamp::now();
    match error.code() {
        ErrorCode::InvalidCode => {
            memo.verdict = Some(Verdict {
                code: error.server_code().unwrap_or("invalid_code").to_owned(),
                at: now,
            });
        }
        ErrorCode::Throttled => {
            let wait = error.retry_after().unwrap_or(window);
            memo.wait_until = Some(now.after(wait.min(window)));
        }
        // The client's configuration, or an answer that cannot be understood, says nothing
        // about this token.
        _ => {}
    }
    memo
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
    memo.verdict = (memo.verdict).filter(|verdict| is_recent(verdict.at, now, window));
    memo
}

/// Whether `at` lies within one window of `now`; a clock that was set back leaves nothing for ever.
fn is_recent(at: Timestamp, now: Timestamp, window: Duration) -> bool {
    at > now.before(window) && at <= now.after(window)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(10);

    #[test]
    fn attempts_are_forgotten_when_their_window_is_over() {
        let attempts = Attempts::default();
        let begin = Timestamp::from_millis(1_000_000_000);
        for number in 0..100 {
            let now = begin.after(Duration::from_mins(number));
            let credential = Fingerprint::of(&[&number.to_string()]);
            let mut memo = attempts.recall(&credential, now, WINDOW);
            assert!(memo.is_empty());
            memo.note_mint(now);
            attempts.remember(&memo, now, WINDOW);
            assert_eq!(attempts.recall(&credential, now, WINDOW), memo);
            assert!(attempts.0.lock().unwrap().len() <= 10);
        }
    }
}
