//! Agreement between processes: who refreshes a token, and what was learned about it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::Result;
use crate::secret::Fingerprint;
use crate::token::TokenId;

/// How far "exactly one refresh per token" reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Guarantee {
    /// Among the tasks and threads of one process.
    Process,
    /// Among all processes of one machine that use the same store.
    Host,
    /// Among all machines that use the same store.
    Fleet,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Host => "host",
            Self::Fleet => "fleet",
        })
    }
}

/// What a store can offer beside its six methods: one worker per token, and a memory for verdicts.
///
/// Nothing of it is kept in the official file or table.
#[async_trait]
pub trait Coordination: fmt::Debug + Send + Sync {
    /// Returns how far the agreement reaches.
    fn guarantee(&self) -> Guarantee;

    /// Tries once, without waiting, to become the only holder of `key`; `None` if another one is.
    ///
    /// The permit ends when it is dropped and when the process dies, however it dies.
    ///
    /// # Errors
    /// What keeps the store from working.
    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>>;
}

/// The right to ask Zoho about one token, held until it is dropped.
#[async_trait]
pub trait Permit: fmt::Debug + Send + Sync {
    /// Returns what earlier holders remembered; an empty memo if there is nothing.
    ///
    /// # Errors
    /// What keeps the store from working.
    async fn memo(&self) -> Result<Memo>;

    /// Remembers `memo` for the holders after this one. An empty memo may be forgotten.
    ///
    /// # Errors
    /// What keeps the store from working.
    async fn set_memo(&self, memo: &Memo) -> Result<()>;
}

/// What processes agree on: a stored record, or a login that is about to become one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CoordinationKey(String);

impl CoordinationKey {
    /// Returns the key of a stored record.
    pub fn record(id: TokenId) -> Self {
        Self(format!("id:{id}"))
    }

    /// Returns the key of a login that is not stored yet, named by the digest of its credential.
    pub(crate) fn start(credential: &Fingerprint) -> Self {
        Self(format!("start:{}", credential.as_str()))
    }

    /// Returns the key as text: letters, digits and a colon, no secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a number below `count` that is the same in every process and version.
    ///
    /// For stores that spread many keys over a few locks (FNV-1a, 64 bits).
    pub fn stripe(&self, count: u64) -> u64 {
        let hash = self
            .0
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        hash % count.max(1)
    }
}

/// What the holders of a key know about its credential.
///
/// It speaks of one refresh token, named by its fingerprint: when a new one is saved, by whomever,
/// all of it is void.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

    #[test]
    fn stripes_are_the_same_everywhere() {
        let key = CoordinationKey::record(TokenId::new(7).unwrap());
        assert_eq!(key.as_str(), "id:7");
        // Written down: a change would let two versions hold the same key at once.
        assert_eq!(key.stripe(64), 27);
    }
}
