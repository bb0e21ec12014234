//! Waiting for one's turn at a refresh: for a place among the few at work, and for the permit.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep};

use super::access::{Access, Issued};
use super::cache::CacheEntry;
use super::decide::{Decision, Purpose, decide};
use super::inner::Inner;
use super::lock::Queue;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::store::{CoordinationKey, Guarantee, Memo, Permit};

/// Whoever waits in line looks about as often as a good token is looked up whether another machine
/// has done the work, and no more often than this.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);
/// Nor is it waited for longer than this, however long a token is good without a look.
const LONGEST_LOOK: Duration = Duration::from_hours(1);

/// What came of waiting.
pub(super) enum Turn<'a> {
    /// With the permit, where the store offers one, and a place among those at work.
    Ours(Option<Box<dyn Permit>>, SemaphorePermit<'a>),
    /// Somebody else did the work meanwhile.
    Done(Access),
}

/// Waits for the turn of this refresh.
///
/// # Errors
/// `store_locked` when it did not come in time; `record_deleted`; what keeps the store from working.
pub(super) async fn turn<'a>(
    inner: &'a Arc<Inner>,
    entry: &Arc<CacheEntry>,
    purpose: &Purpose,
) -> Result<Turn<'a>> {
    let patience = match purpose {
        // A good token is in hand, and whoever holds the lock is about to bring a new one.
        Purpose::Ahead => Duration::ZERO,
        Purpose::Need | Purpose::Refused(_) | Purpose::Ended(_) => inner.policy.patience,
    };
    match line_up(inner, entry, purpose, patience).await {
        Err(error) if error.code() == ErrorCode::StoreLocked && *purpose == Purpose::Ahead => {
            entry.postpone().map(Turn::Done).ok_or(error)
        }
        turn => turn,
    }
}

/// Waits for a place among the few at work, and then for the permit: who holds a permit keeps
/// everybody else from the token, and must not stand in line with it.
async fn line_up<'a>(
    inner: &'a Arc<Inner>,
    entry: &Arc<CacheEntry>,
    purpose: &Purpose,
    patience: Duration,
) -> Result<Turn<'a>> {
    let began = Instant::now();
    let key = CoordinationKey::record(entry.id);
    let mut queue = Queue::enter(&inner.locks, &key, patience).await?;
    let mut has_waited = false;
    loop {
        let place = if let Ok(place) = inner.at_work.try_acquire() {
            place
        } else {
            has_waited = true;
            let rest = patience.saturating_sub(began.elapsed());
            match wait_for_place(inner, entry, purpose, rest).await? {
                ControlFlow::Continue(place) => place,
                ControlFlow::Break(access) => return Ok(Turn::Done(access)),
            }
        };
        let Some(queue) = &mut queue else {
            return Ok(Turn::Ours(None, place));
        };
        // A fleet that waits for one refresh must not take the lease one after the other, only to
        // find that there is nothing left to do.
        if has_waited
            && queue.is_fleet()
            && let Some(access) = done_by_another(inner, entry, purpose).await?
        {
            return Ok(Turn::Done(access));
        }
        if let Some(permit) = queue.try_once().await? {
            return Ok(Turn::Ours(Some(permit), place));
        }
        // Others have better use for the place meanwhile.
        drop(place);
        queue.pause().await?;
        has_waited = true;
    }
}

/// Waits in line for a place, unless another machine does the work meanwhile.
async fn wait_for_place<'a>(
    inner: &'a Arc<Inner>,
    entry: &Arc<CacheEntry>,
    purpose: &Purpose,
    patience: Duration,
) -> Result<ControlFlow<Access, SemaphorePermit<'a>>> {
    let is_fleet = inner.locks.guarantee() == Guarantee::Fleet;
    let look = inner.policy.recheck.clamp(SHORTEST_LOOK, LONGEST_LOOK);
    let mut over = pin!(sleep(patience));
    let mut place = pin!(inner.at_work.acquire());
    loop {
        let news = async {
            sleep(look.mul_f64(0.5 + fastrand::f64())).await;
            // A store that is down is asked by one for all.
            match inner.health.admit() {
                Ok(()) => done_by_another(inner, entry, purpose).await,
                Err(_) => Ok(None),
            }
        };
        tokio::select! {
            biased;
            // Never closed, so there is a place.
            place = &mut place => return place.map(ControlFlow::Continue).map_err(|_| crowded()),
            () = &mut over => return Err(crowded()),
            news = news, if is_fleet => if let Some(access) = news? {
                return Ok(ControlFlow::Break(access));
            },
        }
    }
}

fn crowded() -> Error {
    let message = "too many tokens are being refreshed, and the turn of this one did not come";
    Error::new(ErrorCode::StoreLocked, message)
}

async fn done_by_another(
    inner: &Arc<Inner>,
    entry: &Arc<CacheEntry>,
    purpose: &Purpose,
) -> Result<Option<Access>> {
    let asked = Timestamp::now();
    let record = match inner.record_of(entry).await {
        Ok(record) if !entry.is_revoked(&record) => record,
        Err(error) if error.code() == ErrorCode::RecordDeleted => return Err(error),
        _ => return Ok(None),
    };
    let now = Timestamp::now();
    // What is remembered stands against asking Zoho, and can be seen with the lease alone.
    match decide(&record, &Memo::default(), None, now, &inner.policy, purpose) {
        Decision::Use => Ok(Issued::of(&record, None, &inner.policy, asked)
            .map(|issued| entry.publish(issued.kept(now)))),
        _ => Ok(None),
    }
}
