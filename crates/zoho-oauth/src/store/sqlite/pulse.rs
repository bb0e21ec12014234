//! Detects a database thread that hangs, so that callers do not wait for a disk that hangs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::fault::no_thread;
use crate::error::{Error, ErrorCode, Result};

/// How often the watching thread looks at all threads.
const LOOK: Duration = Duration::from_millis(500);

/// The threads that are watched, while there is a thread that watches them.
static WATCHED: Mutex<Option<Vec<Weak<Pulse>>>> = Mutex::new(None);

/// What a thread that works on a database shows of itself.
#[derive(Debug)]
pub(super) struct Pulse {
    /// How long it may be busy without a beat before it counts as hung.
    limit: Duration,
    /// The last beat of a thread that is busy.
    beat: Mutex<Option<Instant>>,
    is_hung: watch::Sender<bool>,
}

impl Pulse {
    /// Begins to watch a thread.
    pub(super) fn watched(limit: Duration) -> Result<Arc<Self>> {
        let pulse = Arc::new(Self {
            limit,
            beat: Mutex::new(None),
            is_hung: watch::Sender::new(false),
        });
        let mut watched = lock(&WATCHED);
        if watched.is_none() {
            let builder = thread::Builder::new().name("zoho-oauth-sqlite-watch".to_owned());
            builder.spawn(watch_all).map_err(no_thread)?;
        }
        watched.get_or_insert_default().push(Arc::downgrade(&pulse));
        Ok(pulse)
    }

    /// The thread begins a piece of work, or gets on with it.
    pub(super) fn beat(&self) {
        self.set(Some(Instant::now()));
    }

    /// The same, from a connection that does not know whether the thread is busy with it.
    pub(super) fn beat_if_busy(&self) {
        if let Some(beat) = &mut *lock(&self.beat) {
            *beat = Instant::now();
        }
    }

    /// The thread has nothing to do.
    pub(super) fn rest(&self) {
        self.set(None);
    }

    fn set(&self, now: Option<Instant>) {
        let mut beat = lock(&self.beat);
        *beat = now;
        self.tell(false);
    }

    pub(super) fn is_hung(&self) -> bool {
        self.is_over(*lock(&self.beat))
    }

    fn is_over(&self, beat: Option<Instant>) -> bool {
        beat.is_some_and(|beat| beat.elapsed() > self.limit)
    }

    /// A receiver that tells when the thread hangs, for one who waits for its answer.
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.is_hung.subscribe()
    }

    pub(super) fn hung(&self, database: &str) -> Error {
        let message = format!(
            "{database} has not answered for {} seconds: its disk may hang; a write that was begun may \
            still be done",
            self.limit.as_secs()
        );
        Error::new(ErrorCode::StoreUnavailable, message)
    }

    fn look(&self) {
        let beat = lock(&self.beat);
        self.tell(self.is_over(*beat));
    }

    /// Called with the beat locked, so that what is told last is true.
    fn tell(&self, is_hung: bool) {
        self.is_hung
            .send_if_modified(|told| std::mem::replace(told, is_hung) != is_hung);
    }
}

/// Looks at all threads until there is none left.
fn watch_all() {
    loop {
        thread::sleep(LOOK);
        let mut guard = lock(&WATCHED);
        let Some(watched) = &mut *guard else { return };
        watched.retain(|pulse| {
            pulse.upgrade().is_some_and(|pulse| {
                pulse.look();
                true
            })
        });
        if watched.is_empty() {
            *guard = None;
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
