//! Listening to a store that tells of changes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::cache::CacheEntry;
use super::inner::Inner;
use crate::clock::Timestamp;
use crate::store::{Change, TokenStore};

/// Over how long the look-ups are spread, at most, that changes which went unheard make necessary.
const SPREAD: Duration = Duration::from_secs(5);

/// Starts the task that listens, if the store tells anything and no such task runs. It runs on the
/// runtime of the caller, and ends with that or with the authenticator.
pub(super) fn begin(inner: &Arc<Inner>) {
    let mut task = inner.listener.lock();
    if task.as_ref().is_some_and(|task| !task.is_finished()) {
        return;
    }
    let Some(changes) = inner.store.changes() else {
        return;
    };
    let began = tokio::spawn(listen(Arc::downgrade(inner), changes));
    let is_again = task.replace(began).is_some();
    drop(task);
    if is_again {
        // Changes since the last task ended went unheard.
        inner.entries.each(CacheEntry::doubt);
    }
}

async fn listen(inner: Weak<Inner>, mut changes: Receiver<Change>) {
    loop {
        let change = match changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => Change::Missed,
            // The store has nothing more to tell. To end would mean to be begun again.
            Err(RecvError::Closed) => std::future::pending().await,
        };
        let Some(inner) = inner.upgrade() else {
            return;
        };
        // The next caller asks the store before it is given a token.
        match change {
            Change::Record(id) => {
                if let Some(entry) = inner.entries.get(&id) {
                    entry.doubt();
                }
            }
            Change::Everything => inner.entries.each(CacheEntry::doubt),
            Change::Missed => {
                let (now, spread) = (Timestamp::now(), inner.policy.recheck.min(SPREAD));
                let moment = || now.after(spread.mul_f64(fastrand::f64()));
                inner.entries.each(|entry| entry.doubt_from(moment()));
            }
        }
    }
}
