//! Receivers of what others change, and the task that listens for them.

use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio::task::JoinHandle;

use super::Change;

/// So many changes can wait for a receiver that is slow. Then it is told that it missed some, and
/// knows that anything may have changed.
const WAITING: usize = 1024;

/// Listens from when it is first asked until it is dropped.
#[derive(Debug)]
pub(crate) struct Hearing {
    sender: Sender<Change>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Hearing {
    pub(crate) fn new() -> Self {
        Self {
            sender: broadcast::channel(WAITING).0,
            task: Mutex::new(None),
        }
    }

    /// Returns a receiver, and sees to it that `listen` runs, which tells what it hears: on
    /// `runtime`, unless it runs already.
    pub(crate) fn receiver<F>(
        &self,
        runtime: &Handle,
        listen: impl FnOnce(Sender<Change>) -> F,
    ) -> Receiver<Change>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let receiver = self.sender.subscribe();
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        // It ends by itself only with the runtime that it ran on.
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(runtime.spawn(listen(self.sender.clone())));
        }
        receiver
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

/// Tells a change to whoever listens at the moment; where nobody does, nobody minds.
pub(crate) fn tell(sender: &Sender<Change>, change: Change) {
    drop(sender.send(change));
}
