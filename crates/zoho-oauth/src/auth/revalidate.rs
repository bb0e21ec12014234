//! Whether a record whose token is good is still there: asked every few seconds.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::access::Issued;
use super::cache::CacheEntry;
use super::change_feed;
use super::decide::believed_end;
use super::inner::Inner;
use super::store_health::SLOW;
use crate::clock::Timestamp;
use crate::error::Result;

/// Asks the store whether the record is still there, while the token in hand is good by its time.
///
/// `None` when the record's token must be renewed first. One caller asks for all, in a task that
/// goes on when its callers stop waiting. A caller waits for a second, and not at all for a store
/// that is known to be slow. Then it gets the token in hand, and the answer counts when it comes.
pub(super) async fn revalidate(
    entry: &Arc<CacheEntry>,
    inner: &Arc<Inner>,
) -> Result<Option<Arc<Issued>>> {
    change_feed::begin(inner);
    let patience = inner.health.patience();
    let Ok(seen) = tokio::time::timeout(patience, revalidated(entry, inner)).await else {
        inner.health.slow();
        let now = Timestamp::now();
        let in_hand = entry.in_hand().filter(|issued| issued.is_usable(now));
        // Not published: that would take the place of what the answer is about.
        let unconfirmed = |issued: Arc<Issued>| Arc::unwrap_or_clone(issued).with_unconfirmed(true);
        return Ok(in_hand.map(|issued| Arc::new(unconfirmed(issued))));
    };
    seen
}

async fn revalidated(entry: &Arc<CacheEntry>, inner: &Arc<Inner>) -> Result<Option<Arc<Issued>>> {
    let came = Instant::now();
    let only_one = Arc::clone(&entry.look).lock_owned().await;
    let now = Timestamp::now();
    // Taken away while this caller waited: the refresh says why.
    let Some(old) = entry.in_hand() else {
        return Ok(None);
    };
    // Asked and answered while this caller waited, however long the answer took.
    let is_answered = only_one.is_some_and(|asked| asked >= came);
    if is_answered || old.is_confirmed(now) {
        return Ok(Some(old).filter(|issued| issued.is_usable(now)));
    }
    let kept = Arc::clone(&old);
    let (entry, inner) = (Arc::clone(entry), Arc::clone(inner));
    let task = tokio::spawn(async move { ask(&entry, &inner, old, only_one).await });
    // A runtime that ends says nothing about the token.
    task.await.unwrap_or(Ok(Some(kept)))
}

async fn ask(
    entry: &Arc<CacheEntry>,
    inner: &Arc<Inner>,
    old: Arc<Issued>,
    mut only_one: OwnedMutexGuard<Option<Instant>>,
) -> Result<Option<Arc<Issued>>> {
    let recheck = inner.policy.recheck;
    if let Err(wait) = inner.health.admit() {
        // Others find out when it is back. Then not everybody should come at once.
        let now = Timestamp::now();
        let later = now.after(wait.saturating_add(recheck.mul_f64(fastrand::f64())));
        let kept = old.postponed(now, later, old.refresh_at);
        let kept = kept.with_unconfirmed(true);
        return Ok(Some(entry.replace(Some(&old), kept).0));
    }
    let (asked, asked_at) = (Timestamp::now(), Instant::now());
    let answer = inner.store.find_token_by_id(entry.id).await;
    let now = Timestamp::now();
    let record = match answer {
        Ok(Some(record)) if !entry.is_of_another(&record) => record,
        Ok(_) => return Err(inner.gone(entry)),
        Err(error) => {
            // A token that is good is served from memory while the store is away.
            tracing::warn!(id = %entry.id, %error, "cannot ask the store, serving from memory");
            let kept = old.postponed(now, now.after(recheck.min(SLOW)), old.refresh_at);
            let kept = kept.with_unconfirmed(true);
            return Ok(Some(entry.replace(Some(&old), kept).0));
        }
    };
    let unchanged = record.access_token.as_ref() == Some(&old.token)
        && believed_end(&record, asked) == old.expires_at;
    let seen = if entry.is_revoked(&record) {
        None
    } else if unchanged || old.unsaved {
        // The schedule was made when more was known than the record says; and what is not saved
        // yet is on its way to the store.
        let kept = old.postponed(asked, asked.after(recheck), old.refresh_at);
        Some(kept.with_unconfirmed(false))
    } else {
        Issued::of(&record, None, &inner.policy, asked).filter(|issued| issued.is_usable(now))
    };
    if seen.is_some() {
        *only_one = Some(asked_at);
    }
    Ok(seen.map(|issued| entry.replace(Some(&old), issued).0))
}
