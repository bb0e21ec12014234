//! What the holders of a key leave to those after them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::secret::Fingerprint;

/// The most refusals that are remembered of one credential: whom it is shown to is a matter of
/// configuration, and there are not many of those.
const MOST_VERDICTS: usize = 8;

/// The first pause after a failure of Zoho's server; doubled with each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
    /// Why it is of no use any more: one for each of those whom it was shown to, oldest first.
    pub verdicts: Vec<Verdict>,
    /// Until when nobody should ask.
    pub wait_until: Option<Timestamp>,
    /// That Zoho's server is in trouble.
    pub outage: Option<Outage>,
}

/// That a refresh token was refused for good.
///
/// It speaks of whom the token was shown to, and of nobody else: a machine that asks the wrong data
/// center, or as the wrong client, learns nothing about the token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Verdict {
    /// Zoho's error code, such as `invalid_code`.
    pub code: String,
    /// When it said so.
    pub at: Timestamp,
    /// Names the accounts server that was asked and the client that asked; `None`: whoever asks.
    pub asked: Option<Fingerprint>,
}

impl Verdict {
    /// Returns the verdict `code` of the moment `at`, for whoever asks.
    pub fn new(code: impl Into<String>, at: Timestamp) -> Self {
        Self {
            code: code.into(),
            at,
            asked: None,
        }
    }
}

impl Default for Verdict {
    fn default() -> Self {
        Self {
            code: String::new(),
            at: Timestamp::from_millis(0),
            asked: None,
        }
    }
}

/// That Zoho's server answered, and could not do its work.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Outage {
    /// Until when it is left alone.
    pub until: Timestamp,
    /// How many times in a row it was asked in vain, each after the pause before.
    pub failures: u32,
}

impl Default for Outage {
    fn default() -> Self {
        Self {
            until: Timestamp::from_millis(0),
            failures: 0,
        }
    }
}

impl Memo {
    /// Returns whether there is nothing to remember, of whichever credential.
    pub fn is_empty(&self) -> bool {
        self.latest().is_none()
    }

    /// Returns the latest moment of which anything is remembered; `None` if nothing is.
    pub fn latest(&self) -> Option<Timestamp> {
        let minted = self.minted_at.iter().copied();
        let judged = self.verdicts.iter().map(|verdict| verdict.at);
        let paused = self.outage.iter().map(|outage| outage.until);
        let moments = minted.chain(judged).chain(paused);
        moments.chain(self.wait_until).max()
    }

    /// The same memo by a clock that shows `millis` more.
    #[must_use]
    pub(super) fn shifted(mut self, millis: i64) -> Self {
        for at in &mut self.minted_at {
            *at = at.shifted(millis);
        }
        for verdict in &mut self.verdicts {
            verdict.at = verdict.at.shifted(millis);
        }
        if let Some(outage) = &mut self.outage {
            outage.until = outage.until.shifted(millis);
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
        for verdict in other.verdicts {
            if self.verdict_of(verdict.asked.as_ref()).is_none() {
                self.judge(verdict);
            }
        }
        self.wait_until = self.wait_until.max(other.wait_until);
        let until = |outage: &Option<Outage>| outage.as_ref().map(|outage| outage.until);
        if until(&other.outage) > until(&self.outage) {
            self.outage = other.outage;
        }
        self
    }

    /// Returns what speaks against showing the credential to `asked`.
    pub(crate) fn verdict_of(&self, asked: Option<&Fingerprint>) -> Option<&Verdict> {
        let concerns =
            |verdict: &&Verdict| verdict.asked.is_none() || verdict.asked.as_ref() == asked;
        self.verdicts.iter().rfind(concerns)
    }

    /// Adds a verdict, in the place of an older one of the same server and client.
    pub(crate) fn judge(&mut self, verdict: Verdict) {
        self.verdicts.retain(|older| older.asked != verdict.asked);
        self.verdicts.push(verdict);
        self.verdicts.sort_by_key(|verdict| verdict.at);
        let excess = self.verdicts.len().saturating_sub(MOST_VERDICTS);
        self.verdicts.drain(..excess);
    }

    /// Notes that Zoho's server failed at `now`, and asks to be left alone for `wait`, if it said
    /// so. A failure within the pause after another one is the same trouble.
    pub(crate) fn note_outage(&mut self, now: Timestamp, wait: Option<Duration>) {
        let before = self.outage.as_ref();
        let failures = match before {
            Some(before) if before.until > now => before.failures,
            Some(before) => before.failures.saturating_add(1),
            None => 1,
        };
        let doubled = FIRST_PAUSE * 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
        let pause = wait.unwrap_or(doubled.min(LONGEST_PAUSE));
        self.outage = Some(Outage {
            until: now.after(pause),
            failures,
        });
    }

    /// Returns the memo as far as it speaks of `credential`, without what is over by `now`.
    ///
    /// Mints count for `window`, a wait ends by itself, verdicts stand. An outage that is over is
    /// known for a while, since the next failure may be the same.
    #[must_use]
    pub(crate) fn about(self, credential: &Fingerprint, now: Timestamp, window: Duration) -> Self {
        if self.credential.as_ref() != Some(credential) {
            return Self {
                credential: Some(credential.clone()),
                ..Self::default()
            };
        }
        let mut memo = self;
        let two_windows = window.saturating_mul(2);
        // A clock that was set back must not leave mints or waits in the far future.
        memo.minted_at
            .retain(|&at| at > now.before(window) && at <= now.after(window));
        memo.wait_until = memo
            .wait_until
            .filter(|&until| until > now && until <= now.after(two_windows));
        memo.outage = memo.outage.filter(|outage| {
            outage.until > now.before(window) && outage.until <= now.after(two_windows)
        });
        memo
    }

    /// Notes that Zoho issued an access token. Whom the credential was shown to has no verdict on
    /// it, and what others were told says nothing else by that.
    pub(crate) fn note_mint(&mut self, at: Timestamp) {
        self.minted_at.push(at);
        self.wait_until = None;
        self.outage = None;
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

    fn refused(seconds: i64, by: &str) -> Verdict {
        Verdict {
            code: "invalid_code".into(),
            at: at(seconds),
            asked: Some(Fingerprint::of(&[by])),
        }
    }

    #[test]
    fn a_verdict_speaks_of_whom_the_credential_was_shown_to() {
        let (us, eu) = (Fingerprint::of(&["us"]), Fingerprint::of(&["eu"]));
        let mut memo = memo(&[]);
        memo.judge(refused(1, "us"));
        assert_eq!(memo.verdict_of(Some(&us)), Some(&refused(1, "us")));
        assert_eq!(memo.verdict_of(Some(&eu)), None);
        assert_eq!(memo.verdict_of(None), None);
        memo.judge(refused(3, "eu"));
        memo.judge(refused(2, "us"));
        assert_eq!(memo.verdicts, [refused(2, "us"), refused(3, "eu")]);
        let everybody = Verdict {
            asked: None,
            ..refused(4, "")
        };
        memo.judge(everybody.clone());
        for asked in [None, Some(&us), Some(&Fingerprint::of(&["in"]))] {
            assert_eq!(memo.verdict_of(asked), Some(&everybody));
        }
        for number in 0..20 {
            memo.judge(refused(10 + number, &number.to_string()));
        }
        assert_eq!(memo.verdicts.len(), MOST_VERDICTS);
        assert_eq!(memo.verdicts.last(), Some(&refused(29, "19")));
    }

    #[test]
    fn what_a_later_version_adds_is_left_out_and_what_it_drops_is_made_up() {
        let text = r#"{"minted_at":[5],"verdicts":[{"code":"c","mood":"bad"}],"weather":[1]}"#;
        let read: Memo = serde_json::from_str(text).unwrap();
        let expected = Verdict {
            code: "c".into(),
            ..Verdict::default()
        };
        assert_eq!(read.verdicts, [expected]);
        assert_eq!(read.minted_at, [Timestamp::from_millis(5)]);
    }

    #[test]
    fn pauses_double_while_the_trouble_lasts() {
        let mut memo = memo(&[]);
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            // Several tries of one refresh are one failure.
            memo.note_outage(now, None);
            memo.note_outage(now, None);
            let until = memo.outage.as_ref().unwrap().until;
            pauses.push(until.since(now).as_millis());
            now = until;
        }
        assert_eq!(
            pauses,
            [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
        );
        memo.note_outage(now, Some(Duration::from_mins(5)));
        let until = memo.outage.as_ref().unwrap().until;
        assert_eq!(until.since(now), Duration::from_mins(5));
        let credential = Fingerprint::of(&["r"]);
        let later = memo
            .clone()
            .about(&credential, until.after(WINDOW / 2), WINDOW);
        assert_eq!(
            later.outage, memo.outage,
            "the next failure may be the same"
        );
        let later = memo.clone().about(&credential, until.after(WINDOW), WINDOW);
        assert_eq!(later.outage, None);
        memo.note_mint(until);
        assert_eq!(memo.outage, None);
    }

    #[test]
    fn a_new_credential_voids_everything() {
        let mut old = memo(&[1]);
        old.judge(refused(1, "us"));
        let about = old
            .clone()
            .about(&Fingerprint::of(&["other"]), at(2), WINDOW);
        assert!(about.verdicts.is_empty() && about.minted_at.is_empty());
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
    fn a_window_can_be_without_end() {
        let mut memo = memo(&[0]);
        memo.wait_until = Some(at(650));
        let about = (memo.clone()).about(&Fingerprint::of(&["r"]), at(10), Duration::MAX);
        assert_eq!(about, memo);
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
