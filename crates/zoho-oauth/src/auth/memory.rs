//! What is remembered about a credential: in the store where it can, and always in this process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::slot::Slot;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode};
use crate::secret::{Fingerprint, GrantToken, RefreshToken};
use crate::store::{Memo, Permit, Verdict};
use crate::token::OAuthToken;

/// The memory of one record, while its permit is held.
pub(super) struct Memory<'a> {
    pub(super) slot: &'a Slot,
    pub(super) permit: Option<&'a dyn Permit>,
}

impl Memory<'_> {
    /// Returns what is remembered about the credential of `record`.
    ///
    /// What the store says and what this process knows by itself are put together: the store knows
    /// of other processes, and this one of what the store could not be made to remember.
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
        let own = self.slot.memo().about(&credential, now, window);
        let memo = stored.about(&credential, now, window).joined(own);
        self.slot.set_memo(memo.clone());
        memo
    }

    pub(super) async fn remember(&self, memo: &Memo) {
        self.slot.set_memo(memo.clone());
        if let Some(permit) = self.permit
            && let Err(error) = permit.set_memo(memo).await
        {
            tracing::warn!(%error, "cannot write down what is to be remembered, going on");
        }
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
        let mut memo = memo.about(credential, now, window);
        memo.verdict = memo
            .verdict
            .filter(|verdict| is_recent(verdict.at, now, window));
        memo
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
