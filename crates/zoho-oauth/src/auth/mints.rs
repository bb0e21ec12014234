//! How many access tokens are made from one refresh token, by whichever record or login.
//!
//! Zoho counts per refresh token. What is remembered of a record goes when that is deleted, and one
//! token can lie in two records. So each mint is also counted under a key of the token itself: in
//! the store among machines, else in this process.
//!
//! The key of the token is taken for as long as it takes to count, and not while Zoho is asked.
//! Whoever counts may hold the key of a record or of a login; nobody takes another one meanwhile.

use std::sync::Arc;
use std::time::Duration;

use super::decide::Purpose;
use super::inner::Inner;
use super::lock::acquire;
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
    inner: Arc<Inner>,
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
        inner: &Arc<Inner>,
        token: &RefreshToken,
        most: Option<usize>,
        purpose: &Purpose,
    ) -> Result<Reserved> {
        let token = token.fingerprint();
        let window = inner.policy.counted_for();
        let patience = match purpose {
            Purpose::Ahead => LITTLE_PATIENCE,
            Purpose::Need | Purpose::Refused(_) | Purpose::Ended(_) => PATIENCE,
        };
        let counted = count(inner, &token, patience, |memo, now| {
            let free_at = most.and_then(|most| memo.budget_wait(most, now, window));
            if free_at.is_none() {
                memo.minted_at.push(now);
            }
            free_at.map_or(Ok(now), Err)
        });
        let inner = Arc::clone(inner);
        Ok(match counted.await? {
            Ok(at) => Reserved::Mint(Self { inner, token, at }),
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
        let Self { inner, token, at } = self;
        correct(inner, token, move |memo| {
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
pub(super) async fn tell(inner: &Arc<Inner>, token: &RefreshToken, at: Timestamp) {
    let (inner, token) = (Arc::clone(inner), token.fingerprint());
    correct(inner, token, move |memo| memo.minted_at.push(at)).await;
}

/// Changes what is counted of `token`, if need be later: a store that is slow or away for a moment
/// must not make a user wait for ten minutes. The order of such changes does not matter.
async fn correct(
    inner: Arc<Inner>,
    token: Fingerprint,
    change: impl Fn(&mut Memo) + Send + Sync + 'static,
) {
    let until = Timestamp::now().after(inner.policy.counted_for());
    let corrected = tokio::spawn(async move {
        let mut pause = Duration::from_millis(250);
        while let Err(error) = count(&inner, &token, PATIENCE, |memo, _| change(memo)).await {
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
    inner: &Inner,
    token: &Fingerprint,
    patience: Duration,
    change: impl FnOnce(&mut Memo, Timestamp) -> T + Send,
) -> Result<T> {
    let window = inner.policy.counted_for();
    let change = |memo: Memo, now| {
        let mut memo = memo.about(token, now, window);
        let changed = change(&mut memo, now);
        memo.minted_at.sort_unstable();
        (memo, changed)
    };
    // On one machine two keys may share a lock, and who holds one must not wait for another.
    let permit = if inner.locks.guarantee() == Guarantee::Fleet {
        let key = CoordinationKey::start(&Fingerprint::of(&["mints", token.as_str()]));
        acquire(&inner.locks, &key, patience).await?
    } else {
        None
    };
    let Some(permit) = permit else {
        return Ok(inner.mints.change(token, window, change));
    };
    let (memo, changed) = change(permit.memo().await?, Timestamp::now());
    permit.release(Some(&memo)).await?;
    Ok(changed)
}
