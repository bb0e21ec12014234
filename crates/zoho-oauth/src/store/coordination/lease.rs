//! The protocol of a lease, as pure transitions: no I/O, no clock of its own.
//!
//! A cell in the store holds the text of one [`Lease`] per key. A worker reads the cell together
//! with the store's clock, works out a transition here, and writes the outcome if the cell is still
//! what was read: compare and swap. Every backend carries out exactly these transitions, and a
//! model check explores them with pauses and crashes.
//!
//! # Facts and opinions
//! What a holder *thinks* (that a token is dead, that nobody should ask, that it still holds the
//! lease) counts only while it holds the lease by the store's clock. What Zoho *did* counts
//! always: [`Lease::with_issue`] needs no hold, and neither does saving what Zoho issued (see
//! [`Fact`](super::Fact)).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Memo;
use crate::clock::Timestamp;
use crate::secret::Fingerprint;

/// The most issues that are told of one credential. Zoho grants ten in ten minutes.
const MOST_TOLD: usize = 100;
/// How long before the last one an issue was told, if it cannot count any more.
const OVER: Duration = Duration::from_hours(1);

/// What the cell of a key holds. All times are of the store's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Lease {
    /// Rises with each holder; together with the holder's name it tells them apart.
    fence: u64,
    holder: Option<Holder>,
    /// What the last holder wrote down.
    memo: Memo,
    /// Issues that were told, of one credential. Apart from the memo, since a holder who has not
    /// heard of them writes that anew.
    told: Memo,
    /// Rises with each write, so that a cell never holds the same text twice.
    writes: u64,
}

/// Each field is needed: a holder of whom something is missing must not be taken for nobody.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Holder {
    /// Chosen at random for each try, so that a worker whose answer was lost knows itself again.
    name: u64,
    /// From then on anybody may take the lease.
    until: Timestamp,
    /// In milliseconds, for how long it was taken or last renewed.
    life: u64,
}

/// The right to write opinions, as long as the store agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hold {
    name: u64,
    fence: u64,
}

/// What to put into the cell in the place of what was read there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Write {
    /// `None`: the cell can go.
    pub(super) lease: Option<Lease>,
    /// Only if the store's clock shows no more than this.
    pub(super) not_after: Option<Timestamp>,
}

/// Somebody else took the lease, or it ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

impl Lease {
    /// Takes the lease for `life`, if it is free at `now`; otherwise says until when it is not.
    pub(super) fn take(
        &self,
        name: u64,
        now: Timestamp,
        life: Duration,
    ) -> Result<(Write, Hold), Timestamp> {
        if let Some(holder) = self.holder.as_ref().filter(|holder| holder.holds(now)) {
            return Err(holder.until);
        }
        let mut next = self.next();
        next.fence += 1;
        next.holder = Some(Holder::new(name, now, life));
        let fence = next.fence;
        Ok((always(next), Hold { name, fence }))
    }

    /// Whether `hold` is the present one at `now`.
    pub(super) fn is_held_by(&self, hold: Hold, now: Timestamp) -> bool {
        self.held_until(hold).is_ok_and(|until| now < until)
    }

    /// Makes the hold last for `life` from `now`.
    pub(super) fn renew(&self, hold: Hold, now: Timestamp, life: Duration) -> Result<Write, Lost> {
        let until = self.held_until(hold)?;
        if now >= until {
            return Err(Lost);
        }
        let mut next = self.next();
        next.holder = Some(Holder::new(hold.name, now, life));
        Ok(before(until, next))
    }

    /// Writes down what the holder thinks. An opinion.
    pub(super) fn remember(&self, hold: Hold, memo: Memo) -> Result<Write, Lost> {
        let until = self.held_until(hold)?;
        Ok(before(until, self.next().with_memo(memo)))
    }

    /// Gives the lease back, with a last word if there is one. An opinion. The cell goes if nothing
    /// is remembered, unless it `stays`.
    pub(super) fn release(
        &self,
        hold: Hold,
        memo: Option<Memo>,
        stays: bool,
    ) -> Result<Write, Lost> {
        let until = self.held_until(hold)?;
        let mut next = self.next();
        next.holder = None;
        if let Some(memo) = memo {
            next = next.with_memo(memo);
        }
        let is_needed = stays || !next.memo().is_empty();
        let lease = is_needed.then_some(next);
        Ok(Write {
            lease,
            not_after: Some(until),
        })
    }

    /// Counts an access token that Zoho issued for `credential` at `at`. A fact: from whomever, at
    /// any time, and once however often it is told. `None` when it is counted already, or says
    /// nothing about the credential that counts by now.
    pub(super) fn with_issue(&self, credential: &Fingerprint, at: Timestamp) -> Option<Write> {
        let is_about = |memo: &Memo| memo.credential.as_ref() == Some(credential);
        if self.memo.credential.is_some() && !is_about(&self.memo) {
            return None;
        }
        let mut next = self.next();
        if !is_about(&next.told) {
            next.told = Memo {
                credential: Some(credential.clone()),
                ..Memo::default()
            };
        }
        let told = &mut next.told.minted_at;
        if told.contains(&at) {
            return None;
        }
        told.retain(|earlier| *earlier > at.before(OVER));
        told.push(at);
        told.sort_unstable();
        let excess = told.len().saturating_sub(MOST_TOLD);
        told.drain(..excess);
        Some(always(next))
    }

    /// What is remembered: what the last holder wrote down, and what was told meanwhile.
    pub(super) fn memo(&self) -> Memo {
        let (memo, told) = (self.memo.clone(), &self.told);
        if told.credential.is_none() {
            return memo;
        }
        if memo.credential.is_none() && memo.is_empty() {
            return told.clone();
        }
        if memo.credential != told.credential {
            return memo;
        }
        memo.joined(told.clone())
    }

    fn with_memo(mut self, memo: Memo) -> Self {
        if memo.credential.is_some() && memo.credential != self.told.credential {
            self.told = Memo::default();
        }
        self.memo = memo;
        self
    }

    /// Until when `hold` holds, if it is the last one that took the lease.
    fn held_until(&self, hold: Hold) -> Result<Timestamp, Lost> {
        let holder = self.holder.as_ref().ok_or(Lost)?;
        if holder.name != hold.name || self.fence != hold.fence {
            return Err(Lost);
        }
        Ok(holder.until)
    }

    fn next(&self) -> Self {
        Self {
            writes: self.writes + 1,
            ..self.clone()
        }
    }
}

impl Holder {
    fn new(name: u64, now: Timestamp, life: Duration) -> Self {
        Self {
            name,
            until: now.after(life),
            life: u64::try_from(life.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Whether the lease is held at `now`. One that lies too far ahead was taken before the store's
    /// clock was set back: nobody can wait for that. Within one life it may be another machine's
    /// clock that is a little slow.
    fn holds(&self, now: Timestamp) -> bool {
        let life = Duration::from_millis(self.life);
        now < self.until && self.until <= now.after(life.saturating_mul(2))
    }
}

fn always(lease: Lease) -> Write {
    Write {
        lease: Some(lease),
        not_after: None,
    }
}

/// A write that needs the hold, which ends at `until`.
fn before(until: Timestamp, lease: Lease) -> Write {
    Write {
        lease: Some(lease),
        not_after: Some(until),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Verdict;

    const LIFE: Duration = Duration::from_secs(20);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn taken(name: u64, now: i64) -> (Lease, Hold) {
        let (write, hold) = Lease::default().take(name, at(now), LIFE).unwrap();
        (write.lease.unwrap(), hold)
    }

    fn dead() -> Memo {
        let code = "invalid_code".to_owned();
        Memo {
            credential: Some(Fingerprint::of(&["r"])),
            verdicts: vec![Verdict {
                code,
                at: at(1),
                asked: None,
            }],
            ..Memo::default()
        }
    }

    #[test]
    fn one_holder_at_a_time_until_the_lease_ends() {
        let (lease, hold) = taken(1, 100);
        assert_eq!(lease.take(2, at(119), LIFE), Err(at(120)));
        assert!(lease.is_held_by(hold, at(119)) && !lease.is_held_by(hold, at(120)));
        let (write, second) = lease.take(2, at(120), LIFE).unwrap();
        let lease = write.lease.unwrap();
        assert!(!lease.is_held_by(hold, at(120)) && lease.is_held_by(second, at(120)));
        assert_eq!(lease.renew(hold, at(121), LIFE), Err(Lost));
        assert_eq!(lease.remember(hold, dead()), Err(Lost));
        assert_eq!(lease.release(hold, None, false), Err(Lost));
    }

    #[test]
    fn opinions_are_bound_to_the_end_of_the_lease() {
        let (lease, hold) = taken(1, 100);
        let until = Some(at(120));
        assert_eq!(lease.remember(hold, dead()).unwrap().not_after, until);
        assert_eq!(lease.release(hold, None, false).unwrap().not_after, until);
        assert_eq!(lease.renew(hold, at(120), LIFE), Err(Lost));
        let renewed = lease.renew(hold, at(110), LIFE).unwrap();
        assert_eq!(renewed.not_after, until);
        assert!(renewed.lease.unwrap().is_held_by(hold, at(129)));
    }

    #[test]
    fn what_zoho_did_counts_without_a_hold() {
        let (lease, _) = taken(1, 100);
        let r = Fingerprint::of(&["r"]);
        let lease = lease.with_issue(&r, at(7)).unwrap().lease.unwrap();
        let write = lease.with_issue(&r, at(5)).unwrap();
        assert_eq!(write.not_after, None);
        let lease = write.lease.unwrap();
        assert_eq!(lease.memo().minted_at, [at(5), at(7)]);
        assert_eq!(lease.with_issue(&r, at(5)), None, "it is told again");
    }

    #[test]
    fn no_opinion_takes_back_what_was_told() {
        let (lease, hold) = taken(1, 100);
        let lease = lease.remember(hold, dead()).unwrap().lease.unwrap();
        let r = Fingerprint::of(&["r"]);
        let lease = lease.with_issue(&r, at(7)).unwrap().lease.unwrap();
        // The holder has not heard of it.
        let lease = lease
            .release(hold, Some(dead()), false)
            .unwrap()
            .lease
            .unwrap();
        assert_eq!(lease.memo().minted_at, [at(7)]);
        // Nor does it keep one of another credential.
        let new = Fingerprint::of(&["new"]);
        assert_eq!(lease.with_issue(&new, at(8)), None);
        let (write, hold) = lease.take(2, at(101), LIFE).unwrap();
        let mut about_new = dead();
        about_new.credential = Some(new.clone());
        let remembered = write.lease.unwrap().remember(hold, about_new.clone());
        let lease = remembered.unwrap().lease.unwrap();
        assert_eq!(lease.memo(), about_new);
        let lease = lease.with_issue(&new, at(8)).unwrap().lease.unwrap();
        assert_eq!(lease.memo().minted_at, [at(8)]);
    }

    #[test]
    fn what_was_told_long_ago_goes() {
        let r = Fingerprint::of(&["r"]);
        let mut lease = Lease::default();
        for seconds in [0, 3000, 4000] {
            lease = lease.with_issue(&r, at(seconds)).unwrap().lease.unwrap();
        }
        assert_eq!(lease.memo().minted_at, [at(3000), at(4000)]);
    }

    #[test]
    fn a_lease_from_before_the_clock_was_set_back_is_nobodys() {
        let (lease, _) = taken(1, 100_000);
        assert!(lease.take(2, at(99_999), LIFE).is_err(), "a slow clock");
        assert!(lease.take(2, at(90_000), LIFE).is_ok());
    }

    #[test]
    fn a_cell_with_nothing_to_remember_goes_with_its_holder() {
        let (lease, hold) = taken(1, 100);
        assert_eq!(lease.release(hold, None, false).unwrap().lease, None);
        let kept = lease
            .release(hold, Some(dead()), false)
            .unwrap()
            .lease
            .unwrap();
        assert_eq!(kept.memo(), dead());
        let (write, _) = kept.take(2, at(101), LIFE).unwrap();
        assert_eq!(write.lease.unwrap().memo(), dead());
    }

    #[test]
    fn no_two_texts_of_a_cell_are_the_same() {
        let (lease, hold) = taken(1, 100);
        let same = lease.remember(hold, lease.memo()).unwrap();
        assert_ne!(same.lease.unwrap(), lease);
    }
}
