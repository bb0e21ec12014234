//! Listening to a store that tells of changes.

use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::JoinHandle;

use super::shared::Shared;
use super::slot::Slot;
use crate::store::{Change, TokenStore};

/// The task that listens. It ends with the authenticator.
#[derive(Debug, Default)]
pub(super) struct Watch(OnceLock<Option<JoinHandle<()>>>);

impl Watch {
    /// Begins to listen, once, if the store tells anything. On the runtime that asks first.
    pub(super) fn begin(shared: &Arc<Shared>) {
        shared.watch.0.get_or_init(|| {
            let changes = shared.store.changes()?;
            Some(tokio::spawn(listen(Arc::downgrade(shared), changes)))
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(Some(task)) = self.0.get() {
            task.abort();
        }
    }
}

async fn listen(shared: Weak<Shared>, mut changes: Receiver<Change>) {
    loop {
        let change = match changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => Change::Everything,
            Err(RecvError::Closed) => return,
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
        }
    }
}
