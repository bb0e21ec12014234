//! What the holders of a key leave to those after them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::secret::Fingerprint;

/// What the holders of a key know about its credential.
///
/// It speaks of one refresh token, named by its fingerprint: when a new one is saved, by whomever,
/// all of it is void.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Memo {
    /// The refresh token that the rest speaks of.
    pub credential: Option<Fingerprint>,
    /// When Zoho issued access tokens for it, oldest first, as far as that still counts.
    pub minted_at: Vec<Timestamp>,
    /// Why it is of no use any more.
    pub verdict: Option<Verdict>,
    /// Until when nobody should ask.
    pub wait_until: Option<Timestamp>,
}

/// That Zoho refused a refresh token for good.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verdict {
    /// Zoho's error code, such as `invalid_code`.
    pub code: String,
    /// When it said so.
    pub at: Timestamp,
}

impl Memo {
    /// Returns whether there is nothing to remember, of whichever credential.
    pub fn is_empty(&self) -> bool {
        self.latest().is_none()
    }

    /// Returns the latest moment of which anything is remembered; `None` if nothing is.
    pub fn latest(&self) -> Option<Timestamp> {
        let minted = self.minted_at.iter().copied();
        let judged = self.verdict.iter().map(|verdict| verdict.at);
        minted.chain(judged).chain(self.wait_until).max()
    }

    /// The same memo by a clock that shows `millis` more.
    #[must_use]
    pub(super) fn shifted(mut self, millis: i64) -> Self {
        for at in &mut self.minted_at {
            *at = at.shifted(millis);
        }
        if let Some(verdict) = &mut self.verdict {
            verdict.at = verdict.at.shifted(millis);
        }
        self.wait_until = self.wait_until.map(|until| until.shifted(millis));
        self
    }

    /// Puts two memos of one credential together. A mint that both know of counts once, and two in
    /// one millisecond are two.
    #[must_use]
    pub(crate) fn joined(mut self, other: Self) -> Self {
        let mut known = self.minted_at.clone();
        for at in other.minted_at {
            match known.iter().position(|&there| there == at) {
                Some(index) => drop(known.swap_remove(index)),
                None => self.minted_at.push(at),
            }
        }
        self.minted_at.sort_unstable();
        self.verdict = self.verdict.or(other.verdict);
        self.wait_until = self.wait_until.max(other.wait_until);
        self
    }

    /// Returns the memo as far as it speaks of `credential`, without what is over by `now`.
    ///
    /// Mints count for `window`, a wait ends by itself, a verdict stands.
    #[must_use]
    pub(crate) fn about(self, credential: &Fingerprint, now: Timestamp, window: Duration) -> Self {
        if self.credential.as_ref() != Some(credential) {
            return Self {
                credential: Some(credential.clone()),
                ..Self::default()
            };
        }
        let mut memo = self;
        // A clock that was set back must not leave mints or waits in the far future.
        memo.minted_at
            .retain(|&at| at > now.before(window) && at <= now.after(window));
        memo.wait_until = memo
            .wait_until
            .filter(|&until| until > now && until <= now.after(window * 2));
        memo
    }

    /// Notes that Zoho issued an access token.
    pub(crate) fn note_mint(&mut self, at: Timestamp) {
        self.minted_at.push(at);
        self.verdict = None;
        self.wait_until = None;
    }

    /// Notes that the mint that was noted last happened no later than `at`.
    pub(crate) fn settle_mint(&mut self, at: Timestamp) {
        if let Some(last) = self.minted_at.last_mut() {
            *last = at.max(*last);
        }
    }

    /// Returns from when on one more access token stays within `budget` per `window`, if not now.
    pub(crate) fn budget_wait(
        &self,
        budget: usize,
        now: Timestamp,
        window: Duration,
    ) -> Option<Timestamp> {
        let recent = self.minted_at.len();
        // A budget of none would mean to wait for ever.
        let over = recent.checked_sub(budget.max(1))?;
        let free_at = self.minted_at.get(over)?.after(window);
        (free_at > now).then_some(free_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(10);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn memo(minted: &[i64]) -> Memo {
        Memo {
            credential: Some(Fingerprint::of(&["r"])),
            minted_at: minted.iter().map(|&seconds| at(seconds)).collect(),
            ..Memo::default()
        }
    }

    #[test]
    fn a_new_credential_voids_everything() {
        let mut old = memo(&[1]);
        old.verdict = Some(Verdict {
            code: "invalid_code".into(),
            at: at(1),
        });
        let about = old
            .clone()
            .about(&Fingerprint::of(&["other"]), at(2), WINDOW);
        assert!(about.verdict.is_none() && about.minted_at.is_empty());
        let about = old.clone().about(&Fingerprint::of(&["r"]), at(2), WINDOW);
        assert_eq!(about, old);
    }

    #[test]
    fn mints_and_waits_end_with_their_window() {
        let mut memo = memo(&[0, 100]);
        memo.wait_until = Some(at(650));
        let memo = memo.about(&Fingerprint::of(&["r"]), at(601), WINDOW);
        assert_eq!(memo.minted_at, [at(100)]);
        assert_eq!(memo.wait_until, Some(at(650)));
        let memo = memo.about(&Fingerprint::of(&["r"]), at(650), WINDOW);
        assert_eq!(memo.wait_until, None);
    }

    #[test]
    fn the_budget_frees_up_when_the_oldest_mint_leaves_the_window() {
        let memo = memo(&[10, 20, 30]);
        assert_eq!(memo.budget_wait(4, at(40), WINDOW), None);
        assert_eq!(memo.budget_wait(3, at(40), WINDOW), Some(at(610)));
        assert_eq!(memo.budget_wait(2, at(40), WINDOW), Some(at(620)));
        assert_eq!(memo.budget_wait(3, at(611), WINDOW), None);
    }

    #[test]
    fn memos_are_joined_without_counting_twice() {
        let one = memo(&[10, 10, 20]);
        let mut other = memo(&[10, 30]);
        other.wait_until = Some(at(40));
        let joined = one.clone().joined(other.clone());
        assert_eq!(joined.minted_at, memo(&[10, 10, 20, 30]).minted_at);
        assert_eq!(joined.wait_until, Some(at(40)));
        assert_eq!(other.joined(one), joined);
    }

    #[test]
    fn a_memo_with_nothing_but_a_credential_is_empty() {
        assert!(memo(&[]).is_empty());
        assert!(!memo(&[1]).is_empty());
        assert_eq!(memo(&[1, 7]).latest(), Some(at(7)));
    }

    #[test]
    fn a_budget_of_none_is_one() {
        assert_eq!(memo(&[]).budget_wait(0, at(40), WINDOW), None);
        assert_eq!(memo(&[10]).budget_wait(0, at(40), WINDOW), Some(at(610)));
    }
}
