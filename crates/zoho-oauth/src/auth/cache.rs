//! What this process knows of stored records: data that starts nothing by itself.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::access::{AHEAD_PAUSE, Access, Issued};
use super::decide::Purpose;
use super::policy::RefreshPolicy;
use crate::clock::Timestamp;
use crate::credential::OAuthClient;
use crate::data_center::DataCenter;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::secret::{AccessToken, Fingerprint};
use crate::store::Memo;
use crate::token::{ClientId, OAuthToken, TokenId, UserName};

/// How long a failed refresh answers further callers; doubled with each failure in a row.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_FAILURE_PAUSE: Duration = Duration::from_secs(5);
/// How long after another process was seen refreshing the store is asked for its outcome.
const SOON: Duration = Duration::from_secs(1);

/// What the record does not say and the credential did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    pub(crate) user_name: Option<UserName>,
    pub(crate) client: Option<OAuthClient>,
    /// The data center that the secret of `client` was given for; `None`: the authenticator's own.
    pub(crate) client_home: Option<DataCenter>,
    pub(crate) center: Option<DataCenter>,
}

impl Hints {
    /// Whether a process that has only `record` would ask another server, or as another client.
    fn say_more_than(&self, record: &OAuthToken) -> bool {
        let other_client = self.client.as_ref().is_some_and(|client| {
            let at_home = self.center.as_ref().map(|center| client.at(center));
            let client = at_home.as_ref().unwrap_or(client);
            record.client_id.as_ref() != Some(&client.id)
                || record.client_secret.as_ref() != Some(&client.secret)
        });
        other_client || (self.center.is_some() && record.api_domain.is_none())
    }
}

/// One stored record: its access token, and what else this process knows about it.
pub(crate) struct CacheEntry {
    pub(crate) id: TokenId,
    /// Tells entries of this process apart, also two of one id that came one after the other.
    pub(super) serial: u64,
    issued: ArcSwapOption<Issued>,
    /// The record is gone, and this entry for good: a record that comes back gets another one.
    ended: AtomicBool,
    /// When a caller last needed more than the hot path, in milliseconds by the wall clock.
    used_at: AtomicI64,
    /// Whether the refresh under way has asked Zoho.
    pub(super) has_asked: AtomicBool,
    /// Held by whoever works on the record at Zoho, so that a revocation and a refresh take turns.
    pub(crate) work: tokio::sync::Mutex<()>,
    /// Held by the one who asks the store whether the record is still there. When the question that
    /// was answered last was asked.
    pub(super) look: Arc<tokio::sync::Mutex<Option<Instant>>>,
    known: Mutex<Known>,
}

/// What is known beside the token; away from the hot path.
#[derive(Default)]
struct Known {
    hints: Hints,
    /// Whether the hints say something that the record did not.
    needs_hints: bool,
    /// The client that the record belongs to, as far as it said so.
    client: Option<ClientId>,
    /// What was learned about the record's credential, also if the store cannot remember it.
    memo: Memo,
    /// Whether the store was not told of all that the memo says.
    is_untold: bool,
    failure: Option<Failure>,
    /// What answers those who ask while a new refresh token is not stored yet; it holds that.
    unsaved: Option<Error>,
    /// A refresh token that was revoked here, while its record could not be deleted.
    revoked: Option<Fingerprint>,
    /// The credential that a new login was asked for on account of.
    told: Option<Fingerprint>,
}

/// The last failure, and until when it answers those who ask again. By the monotonic clock.
struct Failure {
    until: Instant,
    in_a_row: u32,
    error: Error,
}

impl fmt::Debug for CacheEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheEntry")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What these guard is replaced as a whole, so a panic cannot leave it half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CacheEntry {
    pub(crate) fn new(id: TokenId) -> Self {
        static ENTRIES: AtomicU64 = AtomicU64::new(0);
        Self {
            id,
            serial: ENTRIES.fetch_add(1, Ordering::Relaxed),
            issued: ArcSwapOption::empty(),
            ended: AtomicBool::new(false),
            used_at: AtomicI64::new(Timestamp::now().as_millis()),
            has_asked: AtomicBool::new(false),
            work: tokio::sync::Mutex::default(),
            look: Arc::default(),
            known: Mutex::default(),
        }
    }

    pub(crate) fn hints(&self) -> Hints {
        lock(&self.known).hints.clone()
    }

    /// Takes over what `hints` say about `record`; what they do not say stays.
    pub(crate) fn learn(&self, hints: Hints, record: &OAuthToken) {
        let mut known = lock(&self.known);
        known.needs_hints |= hints.say_more_than(record);
        let known = &mut known.hints;
        known.user_name = hints.user_name.or_else(|| known.user_name.take());
        if hints.client.is_some() {
            (known.client, known.client_home) = (hints.client, hints.client_home);
        }
        known.center = hints.center.or_else(|| known.center.take());
    }

    /// Remembers whose record this is, as far as `record` says so.
    pub(crate) fn learn_owner(&self, record: &OAuthToken) {
        let mut known = lock(&self.known);
        let known = &mut *known;
        let user = &mut known.hints.user_name;
        *user = record.user_name.clone().or_else(|| user.take());
        let client = &mut known.client;
        *client = record.client_id.clone().or_else(|| client.take());
    }

    /// The client that the record belongs to, as far as it said so.
    pub(super) fn client(&self) -> Option<ClientId> {
        lock(&self.known).client.clone()
    }

    /// Whether `record` has this entry's id and belongs to another user, or to another client.
    ///
    /// Our stores never give an id twice, but the official SDKs do, once the highest is deleted.
    /// Who holds the old record must not get the new user's token.
    pub(crate) fn is_of_another(&self, record: &OAuthToken) -> bool {
        let known = lock(&self.known);
        let user = &known.hints.user_name;
        let is_other_user = user.is_some() && *user != record.user_name;
        // A client that was not known can be filled in; a stored one never becomes another.
        let is_other_client = known.client.is_some()
            && record.client_id.is_some()
            && known.client != record.client_id;
        is_other_user || is_other_client
    }

    /// What this process remembers, and whether the store was told.
    pub(crate) fn memo(&self) -> (Memo, bool) {
        let known = lock(&self.known);
        (known.memo.clone(), !known.is_untold)
    }

    pub(crate) fn set_memo(&self, memo: Memo, is_told: bool) {
        let mut known = lock(&self.known);
        known.memo = memo;
        known.is_untold = !is_told;
    }

    pub(super) fn set_unsaved(&self, error: Option<Error>) {
        lock(&self.known).unsaved = error;
    }

    /// The error that holds what the grant token of `record` was exchanged for, if that could not be
    /// stored yet. Zoho would refuse the grant token, as one that was used.
    pub(super) fn unsaved(&self, record: &OAuthToken) -> Option<Error> {
        let unsaved = lock(&self.known).unsaved.clone()?;
        let token = unsaved.unsaved_token()?;
        (token.grant_token == record.grant_token).then_some(unsaved)
    }

    /// Returns whether nobody was told yet that the present credential needs a new login.
    pub(crate) fn tell_login(&self) -> bool {
        let mut known = lock(&self.known);
        let credential = known.memo.credential.clone();
        let credential = credential.unwrap_or_else(|| Fingerprint::of(&[]));
        let is_news = known.told.as_ref() != Some(&credential);
        known.told = Some(credential);
        is_news
    }

    /// The token in hand, whatever its state.
    pub(crate) fn in_hand(&self) -> Option<Arc<Issued>> {
        self.issued.load_full()
    }

    /// Hands out `issued` from now on.
    pub(crate) fn publish(&self, issued: Issued) -> Access {
        let issued = Arc::new(issued.no_younger_than(self.in_hand().as_deref()));
        self.issued.store(Some(Arc::clone(&issued)));
        self.withdraw_if_ended();
        let mut known = lock(&self.known);
        known.failure = None;
        known.told = None;
        Access(issued)
    }

    /// Puts `new` in the place of `old`, unless something newer is there already.
    pub(crate) fn replace(&self, old: Option<&Arc<Issued>>, new: Issued) -> Access {
        let new = Arc::new(new.no_younger_than(old.map(Arc::as_ref)));
        let old = old.cloned();
        let seen = self.issued.compare_and_swap(&old, Some(Arc::clone(&new)));
        let unchanged = match (&*seen, &old) {
            (Some(seen), Some(old)) => Arc::ptr_eq(seen, old),
            (None, None) => true,
            _ => false,
        };
        if unchanged {
            self.withdraw_if_ended();
            return Access(new);
        }
        Access(arc_swap::Guard::into_inner(seen).unwrap_or(new))
    }

    /// Takes the access token of a record that the store was asked for at `asked`, if there is no
    /// good one in hand.
    pub(crate) fn adopt(&self, record: &OAuthToken, policy: &RefreshPolicy, asked: Timestamp) {
        let now = Timestamp::now();
        let in_hand = self.in_hand();
        if in_hand.as_ref().is_some_and(|issued| issued.is_usable(now)) || self.is_revoked(record) {
            return;
        }
        if let Some(issued) = Issued::of(record, None, policy, asked) {
            self.replace(in_hand.as_ref(), issued);
        }
        if self.is_revoked(record) {
            self.issued.store(None);
        }
    }

    /// The token in hand was saved after all, or need not be: the store is asked about it next.
    pub(crate) fn settle(&self, token: &AccessToken) {
        let now = Timestamp::now();
        self.issued.rcu(|in_hand| match in_hand {
            Some(issued) if issued.token == *token => {
                let settled = issued.postponed(now, now, issued.refresh_at);
                // Whoever is looking at this moment must not take it for confirmed.
                Some(Arc::new(settled.with_unsaved(false).with_unconfirmed(true)))
            }
            other => other.clone(),
        });
    }

    /// Asks the store about the token in hand before it is handed out again. One that is not saved
    /// yet is better known here.
    pub(super) fn doubt(&self) {
        self.doubt_from(Timestamp::now());
    }

    /// The same from `moment` on, unless the store is asked before.
    pub(super) fn doubt_from(&self, moment: Timestamp) {
        let now = Timestamp::now();
        self.issued.rcu(|in_hand| match in_hand {
            Some(issued) if !issued.unsaved => {
                let recheck_at = issued.recheck_at.min(moment);
                Some(Arc::new(issued.postponed(
                    now,
                    recheck_at,
                    issued.refresh_at,
                )))
            }
            other => other.clone(),
        });
    }

    /// Hands out nothing any more, ever; `true` the first time.
    ///
    /// Also a token that is being published at this moment does not stay: whoever publishes looks
    /// at the mark afterwards, and the mark is set before the token is taken away.
    pub(crate) fn end(&self) -> bool {
        let was_ended = self.ended.swap(true, Ordering::SeqCst);
        self.issued.store(None);
        !was_ended
    }

    fn withdraw_if_ended(&self) {
        if self.is_ended() {
            self.issued.store(None);
        }
    }

    /// Hands out nothing more that came from this refresh token.
    pub(crate) fn revoked(&self, token: Fingerprint) {
        lock(&self.known).revoked = Some(token);
        self.issued.store(None);
    }

    /// Whether the refresh token of `record` was revoked by this process.
    pub(crate) fn is_revoked(&self, record: &OAuthToken) -> bool {
        let known = lock(&self.known);
        known.revoked.as_ref().is_some_and(|revoked| {
            let token = record.refresh_token.as_ref();
            token.is_some_and(|token| token.fingerprint() == *revoked)
        })
    }

    pub(crate) fn deleted(&self) -> Error {
        let message = format!("the stored record {} was deleted", self.id);
        Error::new(ErrorCode::RecordDeleted, message)
    }

    /// Notes that a caller asked.
    pub(super) fn used(&self, now: Timestamp) {
        self.used_at.store(now.as_millis(), Ordering::Relaxed);
    }

    /// Whether nothing is known of the record that the store does not hold. What was counted for its
    /// credential matters for one `window`; that it was refused, and what a caller said of its client
    /// and data center, matter for good.
    fn can_be_dropped(&self, now: Timestamp, window: Duration) -> bool {
        let known = lock(&self.known);
        let has_failed = (known.failure.as_ref()).is_some_and(|it| Instant::now() < it.until);
        let untold = Some(&known.memo).filter(|_| known.is_untold);
        let counts = untold.is_some_and(|memo| {
            !memo.verdicts.is_empty() || memo.latest().is_some_and(|at| at > now.before(window))
        });
        let is_pinned = known.unsaved.is_some() || known.revoked.is_some();
        !(is_pinned || known.needs_hints || has_failed || counts)
    }

    /// Whether the record is gone.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// The hot path: the token in hand, if nothing is to be done about it.
    #[inline]
    pub(crate) fn quick(&self) -> Option<Access> {
        let issued = arc_swap::Guard::into_inner(self.issued.load())?;
        issued.is_quick(Timestamp::now()).then_some(Access(issued))
    }

    pub(super) fn recent_failure(&self, purpose: &Purpose) -> Option<Error> {
        let known = lock(&self.known);
        let failure = known.failure.as_ref()?;
        if matches!(purpose, Purpose::Refused(_)) && failure.error.code() == ErrorCode::MintBudget {
            // A refused token may draw on what the budget keeps back.
            return None;
        }
        (Instant::now() < failure.until).then(|| failure.error.clone())
    }

    /// Leaves the refresh to the process that is at it: a moment later the store has its outcome.
    pub(crate) fn postpone(&self) -> Option<Access> {
        let issued = self.in_hand()?;
        let now = Timestamp::now();
        let soon = now.after(SOON);
        let later = issued.postponed(now, issued.recheck_at.min(soon), soon);
        Some(self.replace(Some(&issued), later))
    }

    /// Remembers for a moment that a renewal failed. After one ahead of time the next one waits.
    pub(super) fn renewal_ended(&self, purpose: &Purpose, outcome: &Result<Access>) {
        if let Err(error) = outcome {
            self.failed(error);
            if let (Purpose::Ahead, Some(issued)) = (purpose, self.in_hand()) {
                let now = Timestamp::now();
                let later = issued.postponed(now, issued.recheck_at, now.after(AHEAD_PAUSE));
                self.replace(Some(&issued), later);
            }
        }
    }

    /// Lets `error` answer the next callers: a burst of them must not become a burst of requests.
    fn failed(&self, error: &Error) {
        // Where a person must act, what is remembered about the credential keeps Zoho from being
        // asked, and the answer to an act should be immediate.
        if matches!(
            error.kind(),
            ErrorKind::LoginRequired | ErrorKind::InvalidInput | ErrorKind::Unsupported
        ) {
            return;
        }
        let mut known = lock(&self.known);
        let before = known.failure.as_ref().map_or(0, |failure| failure.in_a_row);
        let doubled = FAILURE_PAUSE * 2_u32.saturating_pow(before.min(8));
        let pause = doubled.min(LONGEST_FAILURE_PAUSE);
        let pause = error.retry_after().map_or(pause, |wait| wait.min(pause));
        known.failure = Some(Failure {
            until: Instant::now() + pause,
            in_a_row: before + 1,
            error: error.clone(),
        });
    }
}

/// A map that is read before every call and written when a record is first seen or goes.
///
/// Plain, since with many users a look-up costs what its cache misses cost, and a lock-free map has
/// one more of them. The lock is held for the look-up alone, never across an await; a held session
/// needs neither map nor lock.
#[derive(Debug)]
pub(super) struct TokenCache<K>(RwLock<HashMap<K, Arc<CacheEntry>>>);

impl<K> Default for TokenCache<K> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Eq + Hash> TokenCache<K> {
    // A panic cannot leave the map half changed: nothing of ours runs while it changes.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<K, Arc<CacheEntry>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<K, Arc<CacheEntry>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &K) -> Option<Arc<CacheEntry>> {
        self.read().get(key).map(Arc::clone)
    }

    /// Looks at an entry where it is, which saves counting a reference.
    #[inline]
    pub(super) fn look<T>(
        &self,
        key: &K,
        look: impl FnOnce(&CacheEntry) -> Option<T>,
    ) -> Option<T> {
        self.read().get(key).and_then(|entry| look(entry))
    }

    pub(super) fn each(&self, work: impl Fn(&CacheEntry)) {
        for entry in self.read().values() {
            work(entry);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    pub(super) fn get_or_insert(
        &self,
        key: K,
        make: impl FnOnce() -> CacheEntry,
    ) -> Arc<CacheEntry> {
        if let Some(entry) = self.get(&key) {
            return entry;
        }
        let mut entries = self.write();
        Arc::clone(entries.entry(key).or_insert_with(|| Arc::new(make())))
    }

    pub(super) fn insert(&self, key: K, entry: Arc<CacheEntry>) {
        self.write().insert(key, entry);
    }

    pub(super) fn remove_if(&self, key: &K, is_it: impl FnOnce(&CacheEntry) -> bool) {
        let mut entries = self.write();
        if entries.get(key).is_some_and(|entry| is_it(entry)) {
            entries.remove(key);
        }
    }
}

/// An entry that only the two maps hold, by its id and by its user, is in no use.
const PLACES: usize = 2;

impl TokenCache<TokenId> {
    /// Returns the entries that were not used since `before`, and if there are more than `most`, the
    /// ones that were not used for the longest time. A part is left free then, so that the next entry
    /// does not need another look at all of them.
    pub(super) fn unused(&self, before: Timestamp, most: usize) -> Vec<TokenId> {
        let used = |entry: &CacheEntry| entry.used_at.load(Ordering::Relaxed);
        let entries = self.read();
        let is_held = |entry: &Arc<CacheEntry>| Arc::strong_count(entry) > PLACES;
        let mut all: Vec<_> = (entries.iter())
            .filter(|(_, entry)| !is_held(entry))
            .map(|(id, entry)| (used(entry), *id))
            .collect();
        let excess = if entries.len() > most {
            (entries.len() - (most - most / 8)).min(all.len())
        } else {
            0
        };
        drop(entries);
        if let Some(last) = excess.checked_sub(1) {
            all.select_nth_unstable(last);
        }
        let rest = all.iter().skip(excess);
        let idle = rest.filter(|(used_at, _)| *used_at < before.as_millis());
        let unused = all.iter().take(excess).chain(idle);
        unused.map(|(_, id)| *id).collect()
    }

    /// Drops an entry, and its place under the user's name in `users`, unless a task or a session
    /// holds it.
    pub(super) fn drop_unused(
        &self,
        id: TokenId,
        users: &TokenCache<UserName>,
        now: Timestamp,
        window: Duration,
    ) {
        // Other users of the entry hold a clone, and cloning it takes the lock of one of the maps.
        let is_free = |entry: &Arc<CacheEntry>, places| {
            Arc::strong_count(entry) <= places && entry.can_be_dropped(now, window)
        };
        let entries = self.read();
        let Some(entry) = entries.get(&id).filter(|entry| is_free(entry, PLACES)) else {
            return;
        };
        let name = entry.hints().user_name;
        drop(entries);
        if let Some(name) = name {
            users.remove_if(&name, |entry| entry.id == id);
        }
        let mut entries = self.write();
        if entries.get(&id).is_some_and(|entry| is_free(entry, 1)) {
            entries.remove(&id);
        }
    }
}

/// When unused entries were looked for, which takes a look at each.
#[derive(Debug, Default)]
pub(super) struct Sweep(Mutex<LastSweep>);

#[derive(Debug, Default)]
struct LastSweep {
    next_at: Option<Timestamp>,
    /// How many entries were left.
    left: usize,
}

impl Sweep {
    /// Looks with `look`, which returns how many entries are left, if it is time for that: every
    /// quarter of `max_idle`, and when there are more than `most` entries, but not for each new one,
    /// since all of them may be in use. One caller looks at a time.
    pub(super) fn if_due(
        &self,
        now: Timestamp,
        max_idle: Duration,
        (entries, most): (usize, usize),
        look: impl FnOnce() -> usize,
    ) {
        let Ok(mut last) = self.0.try_lock() else {
            return;
        };
        let next = now.after(max_idle / 4);
        // The clock may have been set back.
        let is_time = last.next_at.is_none_or(|at| now >= at || at > next);
        let is_full = entries > most && entries > last.left.saturating_add(last.left / 8);
        if is_time || is_full {
            last.next_at = Some(next);
            last.left = look();
        }
    }
}
