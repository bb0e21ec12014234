//! When to refresh, and how hard to try.

use std::time::Duration;

/// When access tokens are refreshed, and how many Zoho is asked for.
///
/// The defaults suit Zoho as it is: tokens live an hour, and ten new ones per refresh token in ten
/// minutes are the limit. All times are durations; they are measured by the wall clock.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefreshPolicy {
    /// Whether a token is refreshed in the background before it ends. Default: yes.
    ///
    /// The moment lies between 75 % and 92 % of the token's life, derived from the record so that
    /// all processes agree on it.
    pub refresh_ahead: bool,
    /// How long before its end a token is no longer handed out, since a call that starts with it
    /// must also arrive. Default: 30 s, and never more than a tenth of a known life.
    pub guard: Duration,
    /// How long a token is handed out before the store is asked again whether it is still there.
    /// Default: 5 s, counted from the last question, however late its answer came. This bounds how
    /// long a token that another process revoked is still used.
    pub recheck: Duration,
    /// How many new access tokens per refresh token are asked for within [`window`](Self::window)
    /// on our own account, by all processes that share the store. Default: 8; `None`: no limit; 0
    /// counts as 1.
    ///
    /// Requests whose answer was lost count, and those that Zoho certainly did not grant do not.
    /// The count belongs to the refresh token: with a store for many machines it is one for all of
    /// them, whichever records hold the token, and also when these are deleted and saved again.
    /// Without, it is so within each process; what the other processes of the machine made is known
    /// of the stored record, and goes with it.
    pub mint_budget: Option<usize>,
    /// How many more are allowed after the API refused a token that should be good. Default: 2,
    /// which together with the budget is Zoho's limit of 10.
    pub forced_extra: usize,
    /// Zoho's window for counting new access tokens. Default: 10 minutes.
    pub window: Duration,
    /// How often a refresh is tried when the network or Zoho's server fails. Default: 3. No further
    /// try begins after a third of [`patience`](Self::patience).
    pub attempts: u32,
    /// How long to wait for another process that is refreshing the same token, and for a place among
    /// those [at work](Self::at_once). Default: 90 s, as long as the requests of another process can
    /// take with the default time-out of a minute.
    ///
    /// A new login that cannot be saved is tried again for a third of that, at most ten seconds,
    /// before whoever waits for it gets `token_not_saved`.
    pub patience: Duration,
    /// How many tokens this authenticator refreshes at once. Default: 64. Others wait in line, so
    /// that neither Zoho nor the store is overrun when many tokens end together, as after an
    /// outage. Who waits keeps no other process from the token, and gets `store_locked` when
    /// [`patience`](Self::patience) is over. 0 counts as 1.
    pub at_once: usize,
    /// How many users are kept in memory. Default: 100,000. When there are more, those who have not
    /// asked for the longest time are dropped. 0 counts as 1.
    ///
    /// A dropped user costs a look-up in the store when it asks again. A user is not dropped while a
    /// [`Session`](crate::Session) is held, a refresh is under way, or something is known that the
    /// store does not hold, such as a client that a credential named.
    pub max_cached: usize,
    /// After how long a user who has not asked is dropped from memory. Default: 1 h, counted to within
    /// a quarter of that, and no less than [`recheck`](Self::recheck). Drops happen when other users ask.
    pub max_idle: Duration,
    /// The time limit of each call to the store. Default: 15 s.
    ///
    /// A call that takes longer is given up: its caller gets `store_unavailable`, and it counts as
    /// an outage in [`StoreState`](crate::StoreState). A write that is given up may still be done.
    /// The default is longer than the stores of this crate wait for a lock or a server (5 to 10 s),
    /// so that their own errors, which say more, come first. It is shorter than the life of a lease
    /// (20 s).
    pub store_timeout: Duration,
}

impl Default for RefreshPolicy {
    fn default() -> Self {
        Self {
            refresh_ahead: true,
            guard: Duration::from_secs(30),
            recheck: Duration::from_secs(5),
            mint_budget: Some(8),
            forced_extra: 2,
            window: Duration::from_mins(10),
            attempts: 3,
            patience: Duration::from_secs(90),
            at_once: 64,
            max_cached: 100_000,
            max_idle: Duration::from_hours(1),
            store_timeout: Duration::from_secs(15),
        }
    }
}

/// For how much longer than Zoho's window a mint counts. When it happened is known as well as the
/// clocks of the store and of the machines agree: to a second or so each, and some for the way.
const CLOCKS: Duration = Duration::from_secs(5);

impl RefreshPolicy {
    /// Returns for how long a new access token counts towards the budget.
    pub(super) const fn counted_for(&self) -> Duration {
        self.window.saturating_add(CLOCKS)
    }

    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`refresh_ahead`](Self::refresh_ahead).
    #[must_use]
    pub const fn with_refresh_ahead(mut self, on: bool) -> Self {
        self.refresh_ahead = on;
        self
    }

    /// Sets [`guard`](Self::guard).
    #[must_use]
    pub const fn with_guard(mut self, guard: Duration) -> Self {
        self.guard = guard;
        self
    }

    /// Sets [`recheck`](Self::recheck).
    #[must_use]
    pub const fn with_recheck(mut self, recheck: Duration) -> Self {
        self.recheck = recheck;
        self
    }

    /// Sets [`mint_budget`](Self::mint_budget).
    #[must_use]
    pub const fn with_mint_budget(mut self, budget: Option<usize>) -> Self {
        self.mint_budget = budget;
        self
    }

    /// Sets [`attempts`](Self::attempts).
    #[must_use]
    pub const fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets [`at_once`](Self::at_once).
    #[must_use]
    pub const fn with_at_once(mut self, most: usize) -> Self {
        self.at_once = most;
        self
    }

    /// Sets [`max_cached`](Self::max_cached).
    #[must_use]
    pub const fn with_max_cached(mut self, most: usize) -> Self {
        self.max_cached = most;
        self
    }

    /// Sets [`max_idle`](Self::max_idle).
    #[must_use]
    pub const fn with_max_idle(mut self, idle: Duration) -> Self {
        self.max_idle = idle;
        self
    }

    /// Sets [`store_timeout`](Self::store_timeout).
    #[must_use]
    pub const fn with_store_timeout(mut self, limit: Duration) -> Self {
        self.store_timeout = limit;
        self
    }

    /// Sets [`patience`](Self::patience).
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}
