//! An access token as it is handed out, and the moments at which something is due about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::decide::{Schedule, believed_end};
use super::policy::RefreshPolicy;
use crate::clock::Timestamp;
use crate::secret::AccessToken;
use crate::token::OAuthToken;

/// How long after a refresh that failed, or could not be, the next one is not started, while a
/// good token is in hand.
pub(crate) const AHEAD_PAUSE: Duration = Duration::from_secs(30);

/// For how long at most a token is handed out by the wall clock alone. Then its age is looked at by
/// the monotonic clock, which the hot path does not read.
const LONGEST_QUICK: Duration = Duration::from_mins(1);

/// An access token that is good for a call now. Cheap to clone.
#[derive(Clone)]
pub struct Access(pub(crate) Arc<Issued>);

/// In this order in memory: the hot path then reads its two moments from the cache line that the
/// reference count of its `Arc` is on.
#[derive(Clone)]
#[repr(C)]
pub(crate) struct Issued {
    /// When the moments below were worked out. A clock that shows less was set back, and they
    /// mean nothing.
    seen_at: Timestamp,
    /// Until then it is handed out without a further look: the earliest of the moments below.
    quick_until: Timestamp,
    pub(crate) token: AccessToken,
    api_domain: Option<String>,
    pub(crate) expires_at: Option<Timestamp>,
    /// From then on the store is asked whether the record is still there.
    pub(crate) recheck_at: Timestamp,
    /// From then on it is refreshed in the background.
    pub(crate) refresh_at: Timestamp,
    /// From then on it is not handed out.
    usable_until: Timestamp,
    /// The same by the monotonic clock, if the end is known. The wall clock may have been wrong when
    /// the end was worked out, and be set back since. It alone counts the time for which the machine
    /// was suspended, so the token has ended when either clock says so.
    aged_at: Option<Instant>,
    /// It is in use and not saved yet.
    pub(crate) unsaved: bool,
    /// The store could not be asked about it.
    unconfirmed: bool,
}

impl Issued {
    /// Takes the access token of `record`, if it has one. `asked` is when the store was asked for
    /// the record: a late answer says what was true then.
    pub(crate) fn of(
        record: &OAuthToken,
        life: Option<Duration>,
        policy: &RefreshPolicy,
        asked: Timestamp,
    ) -> Option<Self> {
        let schedule = Schedule::of(record, life, policy, asked);
        let expires_at = believed_end(record, asked);
        Some(
            Self {
                token: record.access_token.clone()?,
                api_domain: record.api_domain.clone(),
                expires_at,
                seen_at: asked,
                quick_until: asked,
                recheck_at: asked.after(policy.recheck),
                refresh_at: schedule.refresh_at,
                usable_until: schedule.usable_until,
                aged_at: expires_at
                    .and_then(|_| Instant::now().checked_add(schedule.usable_until.since(asked))),
                unsaved: false,
                unconfirmed: false,
            }
            .settled(),
        )
    }

    fn settled(mut self) -> Self {
        let by_age = self.seen_at.after(LONGEST_QUICK);
        let due = self.recheck_at.min(self.refresh_at).min(self.usable_until);
        self.quick_until = due.min(by_age);
        self
    }

    pub(crate) fn is_usable(&self, now: Timestamp) -> bool {
        now < self.usable_until && !self.has_aged()
    }

    /// Whether the token has ended by its age in this process.
    pub(crate) fn has_aged(&self) -> bool {
        self.aged_at.is_some_and(|at| Instant::now() >= at)
    }

    /// The same, with no longer a life than the same token was known to have before: a stored end
    /// that is read again by a clock that was set back is no later end.
    pub(crate) fn no_younger_than(mut self, before: Option<&Self>) -> Self {
        let before = before.filter(|before| before.token == self.token);
        if let Some(at) = before.and_then(|before| before.aged_at) {
            self.aged_at = Some(self.aged_at.map_or(at, |own| own.min(at)));
        }
        self
    }

    /// Whether it can be handed out without a further look.
    #[inline]
    pub(crate) fn is_quick(&self, now: Timestamp) -> bool {
        now < self.quick_until && now >= self.seen_at
    }

    /// Whether the store need not be asked about it yet.
    pub(crate) fn is_confirmed(&self, now: Timestamp) -> bool {
        now < self.recheck_at && now >= self.seen_at
    }

    /// The same token, to be looked at again at the given moments.
    pub(crate) fn postponed(
        &self,
        now: Timestamp,
        recheck_at: Timestamp,
        refresh_at: Timestamp,
    ) -> Self {
        Self {
            seen_at: now,
            recheck_at,
            refresh_at,
            ..self.clone()
        }
        .settled()
    }

    /// The same token, which stays in use although it is due: whatever stands against a refresh
    /// will do so for a while, and looking again with every call would change nothing.
    pub(crate) fn kept(self, now: Timestamp) -> Self {
        if self.refresh_at > now {
            return self;
        }
        let later = now.after(AHEAD_PAUSE).min(self.usable_until);
        self.postponed(now, self.recheck_at, later)
    }

    pub(crate) fn with_unsaved(mut self, unsaved: bool) -> Self {
        self.unsaved = unsaved;
        self
    }

    pub(crate) fn with_unconfirmed(mut self, unconfirmed: bool) -> Self {
        self.unconfirmed = unconfirmed;
        self
    }
}

impl Access {
    /// Returns the access token.
    pub fn token(&self) -> &AccessToken {
        &self.0.token
    }

    /// Returns the address of the API that the token is good for, if the accounts server named one.
    pub fn api_domain(&self) -> Option<&str> {
        self.0.api_domain.as_deref()
    }

    /// Returns when the token ends, by the wall clock; `None` when it is not known, or what is
    /// stored cannot be true.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.0.expires_at
    }

    /// Returns whether the token works while the store does not: it could not be saved yet, or the
    /// store could not be asked whether it is still there.
    pub fn is_degraded(&self) -> bool {
        self.0.unsaved || self.0.unconfirmed
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("token", &self.0.token)
            .field("api_domain", &self.0.api_domain)
            .field("expires_at", &self.0.expires_at)
            .field("degraded", &self.is_degraded())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::RefreshToken;

    #[test]
    fn a_clock_that_was_set_back_makes_the_store_be_asked_again() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let mut record = OAuthToken::new();
        record.access_token = AccessToken::new("a").ok();
        record.refresh_token = RefreshToken::new("r").ok();
        record.expiry_time = Some(now.after(Duration::from_hours(1)));
        let policy = RefreshPolicy::default();
        let issued = Issued::of(&record, None, &policy, now).unwrap();
        let soon = now.after(policy.recheck / 2);
        assert!(issued.is_quick(now) && issued.is_quick(soon));
        assert!(!issued.is_quick(now.after(policy.recheck)));
        let back = now.before(Duration::from_hours(2));
        assert!(issued.is_usable(back));
        assert!(!issued.is_quick(back) && !issued.is_confirmed(back));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_has_ended_when_either_clock_says_so() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let mut record = OAuthToken::new();
        record.access_token = AccessToken::new("a").ok();
        record.expiry_time = Some(now.after(Duration::from_hours(1)));
        let policy = RefreshPolicy::default().with_recheck(Duration::MAX);
        let issued = Issued::of(&record, None, &policy, now).unwrap();
        // The machine was suspended: the monotonic clock did not count that.
        assert!(!issued.is_usable(now.after(Duration::from_hours(1))));
        // However rarely the store is asked, the age is looked at.
        assert!(!issued.is_quick(now.after(LONGEST_QUICK)));
        // The wall clock was set back.
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(!issued.is_usable(now));
        let again = Issued::of(&record, None, &policy, now).unwrap();
        assert!(again.is_usable(now));
        assert!(!again.no_younger_than(Some(&issued)).is_usable(now));
    }
}
