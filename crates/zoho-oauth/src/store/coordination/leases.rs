//! Carrying out the lease protocol over a store that can compare and swap a text.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::lease::{Hold, Lease, Lost, Write};
use super::{CoordinationKey, Memo, Permit};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::secret::Fingerprint;

/// How often a write is worked out anew because somebody else, who does not hold the lease, wrote
/// in between.
const TRIES: usize = 8;

/// Of the text of a cell. It rises when a version before would misread the text; what such a version
/// can do without is just added.
const VERSION: u32 = 1;

/// How far apart two clocks may be, in milliseconds, before it is minded.
const SAME_TIME: i64 = 1000;

/// Small texts in a store, one per key, that many machines can compare and swap.
///
/// All that a store on a server has to bring for [`Leases`]. The texts hold no secret. That of a
/// record goes with the record. Each refresh token that is used leaves one under a key
/// [without a record](CoordinationKey::record_id): it can go an hour after it was written last, and
/// not before, whatever is deleted, since Zoho goes on counting.
#[async_trait]
pub trait LeaseCells: fmt::Debug + Send + Sync + 'static {
    /// Reads the cell of `key`, and the store's clock at the same moment.
    ///
    /// What was written before by [`swap_cell`](Self::swap_cell), on whichever machine, is seen.
    ///
    /// # Errors
    /// What keeps the store from working.
    async fn read_cell(&self, key: &CoordinationKey) -> Result<Cell>;

    /// Puts `after` in the place of `before`, atomically, if the cell still holds `before` to the
    /// byte and the store's clock shows no more than `not_after`; `false` if not. `None` means no
    /// cell.
    ///
    /// # Errors
    /// What keeps the store from working. If the connection was lost, the write may have happened,
    /// or may happen yet: whoever called finds out.
    async fn swap_cell(
        &self,
        key: &CoordinationKey,
        before: Option<&str>,
        after: Option<&str>,
        not_after: Option<Timestamp>,
    ) -> Result<bool>;
}

/// What a cell holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The text; `None` if there is no cell.
    pub text: Option<String>,
    /// What the store's clock showed.
    pub now: Timestamp,
}

/// One worker per key among all machines, by leases in a store. What a
/// [`Coordination`](super::Coordination) of `Fleet` is made of.
///
/// A lease ends by itself when its holder does not renew it: a machine that dies delays others by
/// its rest. It is renewed while its [`Permit`] lives, on the tokio runtime that took it. All
/// moments are of the store's clock; the clocks of the machines that ask it do not matter. Where
/// the store has several clocks (the nodes of a cluster), they must agree to within a small part
/// of the life of a lease.
///
/// A text that this version cannot read, written by a later one or damaged, counts as held until it
/// has not changed for two lives of a lease: while two versions share a store, neither takes what
/// the other holds.
///
/// `examples/own_fleet_store.rs` is a store with leases of its own. Make one `Leases` per store and
/// keep it.
#[derive(Clone, Debug)]
pub struct Leases {
    cells: Arc<dyn LeaseCells>,
    life: Duration,
    lead: Arc<Lead>,
    strangers: Arc<Strangers>,
}

impl Leases {
    /// How long a lease lives without being renewed, unless it is set: long enough to outlast a
    /// database cluster that stalls because it lost a node.
    pub const DEFAULT_LIFE: Duration = Duration::from_secs(20);

    /// Keeps leases in `cells`.
    pub fn new(cells: impl LeaseCells) -> Self {
        Self {
            cells: Arc::new(cells),
            life: Self::DEFAULT_LIFE,
            lead: Arc::default(),
            strangers: Arc::default(),
        }
    }

    /// Sets how long a lease lives without being renewed: at least a tenth of a second.
    #[must_use]
    pub fn with_life(mut self, life: Duration) -> Self {
        self.life = life.max(Duration::from_millis(100));
        self
    }

    /// Tries once to take the lease of `key`; `None` if another holder has it.
    ///
    /// # Errors
    /// What keeps the store from working.
    ///
    /// # Cancellation
    /// A lease that is taken after its caller went away is given back.
    pub async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>> {
        let name = getrandom::u64().map_err(|error| {
            Error::new(ErrorCode::Internal, "no random numbers").caused_by(error)
        })?;
        let asked = Timestamp::now();
        let cell = self.cells.read_cell(key).await?;
        let ahead = self.lead.measure(asked, cell.now, Timestamp::now());
        let Some(lease) = self.read(key, &cell) else {
            return Ok(None);
        };
        let Ok((write, hold)) = lease.take(name, cell.now, self.life) else {
            return Ok(None);
        };
        let inner = Inner {
            leases: self.clone(),
            key: key.clone(),
            hold,
            ahead,
            may_come_again: false,
            known: Mutex::default(),
        };
        let taken = in_background(inner.take(cell.text, write)).await?;
        Ok(taken.map(|permit| Box::new(permit) as Box<dyn Permit>))
    }

    /// Returns the lease that the cell holds; `None` if it cannot be read and may be held.
    fn read(&self, key: &CoordinationKey, cell: &Cell) -> Option<Lease> {
        let lease = lease_of(cell.text.as_deref());
        let text = cell.text.as_deref().filter(|_| lease.is_none());
        let is_silent = self.strangers.is_silent(key, text, cell.now, self.life * 2);
        if lease.is_none() && is_silent {
            tracing::warn!(key = key.as_str(), "a lease cannot be read: forgotten");
        }
        // A memo is advice, and what it advises is found out again. Damage must not end logins.
        lease.or_else(|| is_silent.then(Lease::default))
    }

    /// Swaps a cell, and finds out what happened if the answer was lost.
    async fn swap(
        &self,
        key: &CoordinationKey,
        before: Option<&str>,
        after: Option<&str>,
        not_after: Option<Timestamp>,
    ) -> Result<Swapped> {
        let first = self.cells.swap_cell(key, before, after, not_after).await;
        let Err(error) = first else {
            return first.map(|done| Swapped { done, twice: false });
        };
        let mut twice = false;
        // No two texts are the same, so the cell tells. If it is as it was, the write may still be
        // on its way: then at most one of the two finds it so.
        for is_last in [false, true] {
            let cell = self.cells.read_cell(key).await;
            match cell.map(|cell| cell.text) {
                Ok(text) if text.as_deref() == after => return Ok(Swapped { done: true, twice }),
                Ok(text) if text.as_deref() == before && !is_last => {
                    twice = true;
                    let again = self.cells.swap_cell(key, before, after, not_after).await;
                    if again.is_ok_and(|swapped| swapped) {
                        return Ok(Swapped { done: true, twice });
                    }
                }
                _ => break,
            }
        }
        Err(error)
    }
}

/// What came of a swap.
struct Swapped {
    done: bool,
    /// It was sent twice, and one of the two may still be on its way.
    twice: bool,
}

/// By how many milliseconds the store's clock is ahead of this machine's, as far as that matters.
///
/// Each reading differs by the time that it took. If all were followed, a moment would come back
/// from the store a little off each time, and a mint that this process remembers too would look
/// like two. So one reading stays until another one is off by more than can be chance.
#[derive(Debug, Default)]
struct Lead(AtomicI64);

impl Lead {
    /// Takes in what the store's clock showed between two looks at this machine's.
    fn measure(&self, asked: Timestamp, shown: Timestamp, answered: Timestamp) -> i64 {
        let half = answered.as_millis().saturating_sub(asked.as_millis()).abs() / 2;
        let middle = asked.shifted(half).as_millis();
        let measured = shown.as_millis().saturating_sub(middle);
        let kept = self.0.load(Ordering::Relaxed);
        if measured.saturating_sub(kept).saturating_abs() <= SAME_TIME.saturating_add(half) {
            return kept;
        }
        self.0.store(measured, Ordering::Relaxed);
        measured
    }
}

/// The texts that this version cannot read, and since when each is as it is.
#[derive(Debug, Default)]
struct Strangers(StdMutex<HashMap<CoordinationKey, (Fingerprint, Timestamp)>>);

impl Strangers {
    /// Whether the cell of `key`, which shows such a `text` or none at `now`, was as it is for at
    /// least `quiet`. All by the store's clock.
    fn is_silent(
        &self,
        key: &CoordinationKey,
        text: Option<&str>,
        now: Timestamp,
        quiet: Duration,
    ) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(text) = text else {
            seen.remove(key);
            return false;
        };
        let text = Fingerprint::of(&[text]);
        match seen.get(key) {
            Some((before, since)) if *before == text && *since <= now => {
                return now.since(*since) >= quiet;
            }
            _ => {}
        }
        seen.insert(key.clone(), (text, now));
        // Nobody asks again about a record that was deleted.
        let over = now.before(quiet.saturating_mul(100));
        seen.retain(|_, (_, since)| *since > over && *since <= now);
        false
    }
}

/// Does `work` in a task of its own, so that it is finished also when its caller goes away.
async fn in_background<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| {
        Err(Error::new(ErrorCode::Internal, "the work on a lease broke off").caused_by(error))
    })
}

/// A lease that is held. Dropping it gives the lease back in the background, as long as the runtime
/// lives; [`release`](Permit::release) waits for that.
struct LeasePermit {
    inner: Arc<Inner>,
    renewal: JoinHandle<()>,
    is_released: AtomicBool,
}

struct Inner {
    leases: Leases,
    key: CoordinationKey,
    hold: Hold,
    /// By how many milliseconds the store's clock is ahead of this machine's.
    ahead: i64,
    /// The write that made the cell may arrive once more. There was no cell before it, so without
    /// one it would make a lease that nobody holds.
    may_come_again: bool,
    known: Mutex<Known>,
}

/// The cell as it was last seen. Held while it is written, so that a renewal and a memo of one
/// permit do not get into each other's way.
#[derive(Default)]
struct Known {
    lease: Lease,
    text: String,
    is_lost: bool,
}

impl fmt::Debug for LeasePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeasePermit")
            .field("key", &self.inner.key.as_str())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Takes the lease, which was found free. A failure whose outcome stays unknown may leave a
    /// lease behind, which ends by itself.
    async fn take(mut self, before: Option<String>, write: Write) -> Result<Option<LeasePermit>> {
        let after = text_of(&write)?;
        let swapped = self
            .leases
            .swap(
                &self.key,
                before.as_deref(),
                after.as_deref(),
                write.not_after,
            )
            .await?;
        if !swapped.done {
            return Ok(None);
        }
        self.may_come_again = before.is_none() && swapped.twice;
        *self.known.lock().await = Known {
            lease: write.lease.unwrap_or_default(),
            text: after.unwrap_or_default(),
            is_lost: false,
        };
        let inner = Arc::new(self);
        let renewal = tokio::spawn(renew(Arc::clone(&inner)));
        Ok(Some(LeasePermit {
            inner,
            renewal,
            is_released: AtomicBool::new(false),
        }))
    }

    /// Writes what `next` makes of the lease as it is known, as long as it is held.
    async fn write(&self, next: impl Fn(&Lease) -> Result<Write, Lost> + Send) -> Result<()> {
        let mut known = self.known.lock().await;
        for _ in 0..TRIES {
            let write = match next(&known.lease) {
                Ok(write) if !known.is_lost => write,
                _ => {
                    known.is_lost = true;
                    return Err(self.lost());
                }
            };
            let after = text_of(&write)?;
            let before = Some(known.text.as_str());
            let swapped = self
                .leases
                .swap(&self.key, before, after.as_deref(), write.not_after);
            if swapped.await?.done {
                known.text = after.unwrap_or_default();
                known.is_lost = write.lease.is_none();
                known.lease = write.lease.unwrap_or_default();
                return Ok(());
            }
            // Time ran out, somebody took over; or somebody told a fact, or an earlier write
            // happened whose answer was lost, and the lease is still ours.
            self.look(&mut known).await?;
        }
        Err(self.busy())
    }

    /// Reads the cell again. Returns the store's clock.
    async fn look(&self, known: &mut Known) -> Result<Timestamp> {
        let cell = self.leases.cells.read_cell(&self.key).await?;
        // Whoever wrote what cannot be read has taken the lease.
        let lease = lease_of(cell.text.as_deref()).unwrap_or_default();
        known.is_lost = !lease.is_held_by(self.hold, cell.now);
        known.lease = lease;
        known.text = cell.text.unwrap_or_default();
        Ok(cell.now)
    }

    async fn give_back(&self, memo: Option<Memo>) -> Result<()> {
        let stays = self.may_come_again;
        self.write(|lease| lease.release(self.hold, memo.clone(), stays))
            .await
    }

    fn lost(&self) -> Error {
        let message = format!("the lease of `{}` ended too early", self.key.as_str());
        Error::new(ErrorCode::LeaseLost, message)
    }

    fn busy(&self) -> Error {
        let message = format!("the lease of `{}` changes all the time", self.key.as_str());
        Error::new(ErrorCode::StoreLocked, message)
    }

    fn unread(&self) -> Error {
        let key = self.key.as_str();
        let message = format!("the lease of `{key}` is written in a form of another version");
        Error::new(ErrorCode::StoreLocked, message)
    }

    async fn renew_once(&self) -> Result<()> {
        let mut known = self.known.lock().await;
        let now = self.look(&mut known).await?;
        drop(known);
        let life = self.leases.life;
        self.write(|lease| lease.renew(self.hold, now, life)).await
    }

    /// Counts an issue although the lease is another holder's by now. Without a cell the record is
    /// gone, or nothing that is remembered of it counts any more.
    async fn tell_issue(&self, credential: &Fingerprint, at: Timestamp) -> Result<()> {
        let cells = &self.leases.cells;
        for _ in 0..TRIES {
            let Some(text) = cells.read_cell(&self.key).await?.text else {
                return Ok(());
            };
            let lease = lease_of(Some(&text)).ok_or_else(|| self.unread())?;
            let Some(write) = lease.with_issue(credential, at) else {
                return Ok(());
            };
            let after = text_of(&write)?;
            let before = Some(text.as_str());
            let swapped = self.leases.swap(&self.key, before, after.as_deref(), None);
            if swapped.await?.done {
                return Ok(());
            }
        }
        Err(self.busy())
    }
}

/// Renews until the permit goes, or the lease is lost. A store that does not answer is asked again
/// sooner.
async fn renew(inner: Arc<Inner>) {
    let life = inner.leases.life;
    let mut pause = life / 4;
    loop {
        tokio::time::sleep(pause).await;
        pause = match inner.renew_once().await {
            Ok(()) => life / 4,
            Err(error) if error.code() == ErrorCode::LeaseLost => {
                tracing::warn!(key = inner.key.as_str(), "a lease was lost");
                return;
            }
            Err(error) => {
                tracing::warn!(key = inner.key.as_str(), %error, "a lease cannot be renewed");
                life / 20
            }
        };
    }
}

#[async_trait]
impl Permit for LeasePermit {
    async fn memo(&self) -> Result<Memo> {
        let memo = self.inner.known.lock().await.lease.memo();
        Ok(memo.shifted(-self.inner.ahead))
    }

    async fn set_memo(&self, memo: &Memo) -> Result<()> {
        let inner = &self.inner;
        let memo = memo.clone().shifted(inner.ahead);
        let remember = |lease: &Lease| lease.remember(inner.hold, memo.clone());
        inner.write(remember).await
    }

    async fn tell_issue(&self, credential: &Fingerprint, at: Timestamp) -> Result<()> {
        let at = at.shifted(self.inner.ahead);
        let (inner, credential) = (Arc::clone(&self.inner), credential.clone());
        in_background(async move { inner.tell_issue(&credential, at).await }).await
    }

    async fn release(&self, memo: Option<&Memo>) -> Result<()> {
        self.renewal.abort();
        self.is_released.store(true, Ordering::SeqCst);
        let memo = memo.map(|memo| memo.clone().shifted(self.inner.ahead));
        let inner = Arc::clone(&self.inner);
        in_background(async move { inner.give_back(memo).await }).await
    }
}

impl Drop for LeasePermit {
    fn drop(&mut self) {
        self.renewal.abort();
        if self.is_released.load(Ordering::SeqCst) {
            return;
        }
        // Without a runtime the lease ends by itself, a little later.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let inner = Arc::clone(&self.inner);
            runtime.spawn(async move {
                if let Err(error) = inner.give_back(None).await {
                    tracing::debug!(key = inner.key.as_str(), %error, "a lease is left to end");
                }
            });
        }
    }
}

/// What a cell holds.
#[derive(Serialize, Deserialize)]
struct Text<L> {
    version: u32,
    lease: L,
}

/// Returns the lease of a cell; `None` if this version cannot read it.
fn lease_of(text: Option<&str>) -> Option<Lease> {
    let Some(text) = text else {
        return Some(Lease::default());
    };
    let text: Text<Lease> = serde_json::from_str(text).ok()?;
    (text.version == VERSION).then_some(text.lease)
}

fn text_of(write: &Write) -> Result<Option<String>> {
    let text = write.lease.as_ref().map(|lease| {
        let version = VERSION;
        serde_json::to_string(&Text { version, lease })
    });
    text.transpose().map_err(|error| {
        Error::new(ErrorCode::Internal, "a lease cannot be written").caused_by(error)
    })
}

#[cfg(test)]
mod tests;
