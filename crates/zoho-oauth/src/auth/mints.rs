//! How many access tokens are made from one refresh token, by whichever record or login.
//!
//! Zoho counts per refresh token. What is remembered of a record goes when that is deleted, and one
//! token can lie in two records. So each mint is also counted under a key of the token itself: in
//! the store among machines, else in this process.
//!
//! The key of the token is taken for as long as it takes to count, and not while Zoho is asked.
//! Whoever counts may hold the key of a record or of a login; nobody takes another one meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::decide::Purpose;
use super::shared::Shared;
use super::turn::acquire;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::secret::{Fingerprint, RefreshToken};
use crate::store::{CoordinationKey, Guarantee, Memo};

/// A request that took no longer counts from when it was noted. The five seconds for which a mint
/// counts beyond Zoho's window have room for that.
const AT_ONCE: Duration = Duration::from_secs(1);
/// By how much a moment may be off by the store's clock and back.
const CLOCKS: Duration = Duration::from_secs(5);
/// How long to wait for the key of a token. Nobody holds it for longer than a few requests to the
/// store take, unless he died; then it is free after the life of a lease.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for whoever has a good access token in hand.
const LITTLE_PATIENCE: Duration = Duration::from_secs(1);
/// For how long others wait until a correction is made. It is made all the same.
const BRIEFLY: Duration = Duration::from_millis(500);
/// The longest pause before a correction is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What came of asking for one more access token.
pub(super) enum Reserved {
    /// It is counted: ask Zoho.
    Mint(Mint),
    /// From then on the budget allows another one.
    Spent(Timestamp),
}

/// An access token that is counted and may not have been issued yet.
pub(super) struct Mint {
    shared: Arc<Shared>,
    token: Fingerprint,
    at: Timestamp,
}

impl Mint {
    /// Counts one more access token for `token`, if there are fewer than `most` in the window.
    ///
    /// If the store does not say whether it did, the mint may count although nobody asks for it.
    ///
    /// # Errors
    /// Among machines what keeps the store from counting, `store_locked` included.
    pub(super) async fn reserve(
        shared: &Arc<Shared>,
        token: &RefreshToken,
        most: Option<usize>,
        purpose: &Purpose,
    ) -> Result<Reserved> {
        let token = token.fingerprint();
        let window = shared.policy.counted_for();
        let patience = match purpose {
            Purpose::Ahead => LITTLE_PATIENCE,
            Purpose::Need | Purpose::Refused(_) | Purpose::Ended(_) => PATIENCE,
        };
        let counted = count(shared, &token, patience, |memo, now| {
            let free_at = most.and_then(|most| memo.budget_wait(most, now, window));
            if free_at.is_none() {
                memo.minted_at.push(now);
            }
            free_at.map_or(Ok(now), Err)
        });
        let shared = Arc::clone(shared);
        Ok(match counted.await? {
            Ok(at) => Reserved::Mint(Self { shared, token, at }),
            Err(free_at) => Reserved::Spent(free_at),
        })
    }

    /// Zoho issued the token, at some moment until `answered`.
    pub(super) async fn settle(self, answered: Timestamp) {
        if answered.since(self.at) > AT_ONCE {
            self.correct(Some(answered)).await;
        }
    }

    /// Zoho issued nothing.
    pub(super) async fn take_back(self) {
        self.correct(None).await;
    }

    async fn correct(self, issued: Option<Timestamp>) {
        let Self { shared, token, at } = self;
        correct(shared, token, move |memo| {
            let minted = &mut memo.minted_at;
            let off = |other: Timestamp| other.since(at).max(at.since(other));
            let nearest = (0..minted.len()).min_by_key(|&index| off(minted[index]));
            // Which one of two that are as near is taken away makes no difference.
            if let Some(index) = nearest.filter(|&index| off(minted[index]) <= CLOCKS) {
                minted.remove(index);
            }
            minted.extend(issued);
        })
        .await;
    }
}

/// Counts an access token that came with `token` itself, no later than `at`.
pub(super) async fn tell(shared: &Arc<Shared>, token: &RefreshToken, at: Timestamp) {
    let (shared, token) = (Arc::clone(shared), token.fingerprint());
    correct(shared, token, move |memo| memo.minted_at.push(at)).await;
}

/// Changes what is counted of `token`, if need be later: a store that is slow or away for a moment
/// must not make a user wait for ten minutes. The order of such changes does not matter.
async fn correct(
    shared: Arc<Shared>,
    token: Fingerprint,
    change: impl Fn(&mut Memo) + Send + Sync + 'static,
) {
    let until = Timestamp::now().after(shared.policy.counted_for());
    let corrected = tokio::spawn(async move {
        let mut pause = Duration::from_millis(250);
        while let Err(error) = count(&shared, &token, PATIENCE, |memo, _| change(memo)).await {
            if Timestamp::now() > until {
                break;
            }
            tracing::warn!(%error, "what is counted of a refresh token cannot be corrected yet");
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    });
    // It goes on by itself.
    drop(tokio::time::timeout(BRIEFLY, corrected).await);
}

/// Changes what is counted of `token` at a moment at which nobody else does.
async fn count<T>(
    shared: &Shared,
    token: &Fingerprint,
    patience: Duration,
    change: impl FnOnce(&mut Memo, Timestamp) -> T + Send,
) -> Result<T> {
    let window = shared.policy.counted_for();
    let change = |memo: Memo, now| {
        let mut memo = memo.about(token, now, window);
        let changed = change(&mut memo, now);
        memo.minted_at.sort_unstable();
        (memo, changed)
    };
    // On one machine two keys may share a lock, and who holds one must not wait for another.
    let permit = if shared.guarantee() == Guarantee::Fleet {
        let key = CoordinationKey::start(&Fingerprint::of(&["mints", token.as_str()]));
        acquire(shared, &key, patience).await?
    } else {
        None
    };
    let Some(permit) = permit else {
        return Ok(shared.mints.change(token, window, change));
    };
    let (memo, changed) = change(permit.memo().await?, Timestamp::now());
    permit.release(Some(&memo)).await?;
    Ok(changed)
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
    fn change<T>(
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
}
