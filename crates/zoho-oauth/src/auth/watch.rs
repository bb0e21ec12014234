//! Listening to a store that tells of changes.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::JoinHandle;

use super::shared::Shared;
use super::slot::Slot;
use crate::clock::Timestamp;
use crate::store::{Change, TokenStore};

/// Over how long the look-ups are spread, at most, that changes which went unheard make necessary.
const SPREAD: Duration = Duration::from_secs(5);

/// The task that listens. It ends with the authenticator, or with the runtime that it runs on.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Option<JoinHandle<()>>>);

impl Watch {
    /// Sees to it that somebody listens, if the store tells anything: from now on, on the runtime
    /// of whoever asks, unless the one who began still does.
    pub(super) fn begin(shared: &Arc<Shared>) {
        let mut task = shared
            .watch
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let Some(changes) = shared.store.changes() else {
            return;
        };
        let began = tokio::spawn(listen(Arc::downgrade(shared), changes));
        let is_again = task.replace(began).is_some();
        drop(task);
        if is_again {
            // Nobody heard what happened since.
            shared.slots.each(Slot::doubt);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let task = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task {
            task.abort();
        }
    }
}

async fn listen(shared: Weak<Shared>, mut changes: Receiver<Change>) {
    loop {
        let change = match changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => Change::Missed,
            // The store has nothing more to tell. To end would mean to be begun again.
            Err(RecvError::Closed) => std::future::pending().await,
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        // The next caller asks the store before it is given a token.
        match change {
            Change::Record(id) => {
                if let Some(slot) = shared.slots.get(&id) {
                    slot.doubt();
                }
            }
            Change::Everything => shared.slots.each(Slot::doubt),
            Change::Missed => {
                let (now, spread) = (Timestamp::now(), shared.policy.recheck.min(SPREAD));
                let moment = || now.after(spread.mul_f64(fastrand::f64()));
                shared.slots.each(|slot| slot.doubt_from(moment()));
            }
        }
    }
}
