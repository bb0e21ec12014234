//! What is remembered about a credential, as data and pure functions.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::policy::RefreshPolicy;
use crate::clock::Timestamp;
use crate::data_center::DataCenter;
use crate::error::{Error, ErrorCode};
use crate::secret::{Fingerprint, GrantToken, RefreshToken};
use crate::store::{Memo, Verdict};
use crate::token::{ClientId, OAuthToken};

/// For how long at most all are kept from a server that is in trouble. The answer may be a page of a
/// proxy of this machine alone, and Zoho itself was not seen to say how long.
const LONGEST_OUTAGE: Duration = Duration::from_secs(30);

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
/// refused may have been a slip, and a later attempt gets Zoho's own answer.
pub(super) fn recent(mut memo: Memo, now: Timestamp, window: Duration) -> Memo {
    (memo.verdicts).retain(|verdict| is_recent(verdict.at, now, window));
    memo
}

/// Whether `at` lies within one window of `now`; a clock that was set back leaves nothing for ever.
fn is_recent(at: Timestamp, now: Timestamp, window: Duration) -> bool {
    at > now.before(window) && at <= now.after(window)
}

/// What this process counted, where no fleet shares the store.
#[derive(Debug, Default)]
pub(super) struct Mints(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    memos: HashMap<Fingerprint, Memo>,
    /// How many were left when those that are over were taken out.
    kept: usize,
}

impl Mints {
    pub(super) fn change<T>(
        &self,
        token: &Fingerprint,
        window: Duration,
        change: impl FnOnce(Memo, Timestamp) -> (Memo, T),
    ) -> T {
        self.change_at(Timestamp::now(), token, window, change)
    }

    fn change_at<T>(
        &self,
        now: Timestamp,
        token: &Fingerprint,
        window: Duration,
        change: impl FnOnce(Memo, Timestamp) -> (Memo, T),
    ) -> T {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let memo = counted.memos.remove(token).unwrap_or_default();
        let (memo, changed) = change(memo, now);
        if !memo.minted_at.is_empty() {
            counted.memos.insert(token.clone(), memo);
        }
        // At twice the size, so that looking through all is a small part of the work on each.
        if counted.memos.len() > 2 * counted.kept + 16 {
            let since = now.before(window);
            (counted.memos).retain(|_, memo| memo.latest().is_some_and(|at| at > since));
            counted.kept = counted.memos.len();
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Outage;

    #[test]
    fn what_is_counted_is_forgotten_when_its_window_is_over() {
        let window = Duration::from_mins(10);
        let begin = Timestamp::from_millis(1_000_000_000);
        let mints = Mints::default();
        let count = |number: u64, now: Timestamp| {
            let token = Fingerprint::of(&[&number.to_string()]);
            mints.change_at(now, &token, window, |mut memo, now| {
                memo.minted_at.push(now);
                let count = memo.minted_at.len();
                (memo, count)
            })
        };
        for number in 0..1000 {
            let now = begin.after(Duration::from_secs(number));
            assert_eq!((count(number, now), count(number, now)), (1, 2));
        }
        let kept = || mints.0.lock().unwrap().memos.len();
        assert!((600..=1000).contains(&kept()), "{}", kept());
        for number in 2000..4000 {
            count(number, begin.after(window * 3));
        }
        assert_eq!(kept(), 2000);
    }

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

    fn failed(code: ErrorCode) -> Error {
        Error::new(code, "on purpose")
    }

    fn remembered(before: &Memo, error: &Error) -> Memo {
        let mut noted = before.clone();
        noted.note_mint(Timestamp::now().before(Duration::from_mins(1)));
        let asked = Fingerprint::of(&["us"]);
        after_failure(before, &noted, error, &asked, &RefreshPolicy::default())
    }

    #[test]
    fn a_lost_answer_counts_from_the_moment_at_which_it_was_given_up() {
        let began = Timestamp::now();
        let memo = remembered(
            &Memo::default(),
            &failed(ErrorCode::Timeout).of_lost_answer(),
        );
        assert_eq!(memo.minted_at.len(), 1);
        assert!(memo.minted_at[0] >= began);
        // An exchange notes nothing, and moves nothing that was noted before.
        let before = memo.clone();
        let error = failed(ErrorCode::Timeout).of_lost_answer();
        let asked = Fingerprint::of(&["us"]);
        let policy = RefreshPolicy::default();
        assert_eq!(
            after_failure(&before, &before, &error, &asked, &policy),
            before
        );
    }

    #[test]
    fn trouble_of_zohos_server_spends_nothing_and_is_remembered() {
        let mut memo = Memo::default();
        for _ in 0..20 {
            memo = remembered(&memo, &failed(ErrorCode::ServerError));
            assert_eq!(memo.minted_at, []);
            assert!(memo.outage.is_some());
        }
        let lost = remembered(&memo, &failed(ErrorCode::ServerError).of_lost_answer());
        assert_eq!(lost.minted_at.len(), 1);
        assert!(matches!(lost.outage, Some(Outage { failures: 1.., .. })));
        // A long wait in one answer does not stop the whole fleet for that long.
        let now = Timestamp::now();
        let wait = failed(ErrorCode::ServerError).retry_at(now.after(Duration::from_mins(9)));
        let until = remembered(&Memo::default(), &wait).outage.unwrap().until;
        assert!(until.since(now) > Duration::from_secs(20) && until.since(now) < WINDOW / 2);
        // What never arrived is nothing to anybody else.
        for code in [
            ErrorCode::Network,
            ErrorCode::Timeout,
            ErrorCode::InvalidClient,
        ] {
            assert_eq!(remembered(&Memo::default(), &failed(code)), Memo::default());
        }
    }
}
