//! The threads on which a store works.
//!
//! A disk that hangs, such as a network file system without its server, blocks each thread that
//! touches it, for as long as it hangs. On Tokio's threads for blocking work these would soon be all
//! threads, and then the application could not even look up a host name. So each store has a few
//! threads of its own, and a queue that has an end.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorCode, Result};

/// One of them may wait for the lock of the file, for as long as the lock time-out.
const THREADS: usize = 4;
/// How many calls may wait for a thread.
const LONGEST_QUEUE: usize = 100_000;

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one store. They end when it is dropped, after the calls that are queued.
#[derive(Debug)]
pub(super) struct Workers {
    queue: SyncSender<Job>,
    /// For messages.
    path: Box<Path>,
}

impl Workers {
    pub(super) fn start(path: &Path) -> Result<Self> {
        let (queue, jobs) = sync_channel(LONGEST_QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..THREADS {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new()
                .name("zoho-oauth-file".to_owned())
                .spawn(move || work(&jobs))
                .map_err(|error| {
                    let message = "cannot start a thread for the token file";
                    Error::new(ErrorCode::StoreUnavailable, message).caused_by(error)
                })?;
        }
        Ok(Self {
            queue,
            path: path.into(),
        })
    }

    /// Runs `work`, which may block on the disk or on a lock. Once queued it is done, whether the
    /// future is kept or dropped.
    ///
    /// # Errors
    /// `store_unavailable` when too many calls wait already, and those of `work`.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        // What the work logs belongs to the caller.
        let span = tracing::Span::current();
        let log = tracing::dispatcher::get_default(Clone::clone);
        let (reply, answer) = oneshot::channel();
        let job = move || {
            let logged = || tracing::dispatcher::with_default(&log, || span.in_scope(work));
            let outcome = catch_unwind(AssertUnwindSafe(logged));
            // The caller may have stopped waiting.
            let _ = reply.send(outcome);
        };
        match self.queue.try_send(Box::new(job)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                let path = self.path.display();
                let message =
                    format!("{LONGEST_QUEUE} calls wait for the disk of `{path}` already");
                return Err(Error::new(ErrorCode::StoreUnavailable, message));
            }
            Err(TrySendError::Disconnected(_)) => return Err(ended()),
        }
        match answer.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(ended()),
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        job();
    }
}

fn ended() -> Error {
    let message = "the threads of the token file have ended";
    Error::new(ErrorCode::Internal, message)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use futures_util::FutureExt;

    use super::*;

    fn workers() -> Workers {
        Workers::start(Path::new("/srv/tokens.txt")).unwrap()
    }

    #[tokio::test]
    async fn a_disk_that_hangs_fills_the_queue_and_no_more() {
        let workers = workers();
        let (disk, hangs) = channel::<()>();
        let hangs = Arc::new(Mutex::new(hangs));
        // As if each call touched the disk.
        let mut waiting = Vec::new();
        let error = loop {
            let hangs = Arc::clone(&hangs);
            let call = workers.run(move || {
                let _ = hangs.lock().unwrap().recv();
                Ok(())
            });
            let mut call = Box::pin(call);
            match (&mut call).now_or_never() {
                None => waiting.push(call),
                Some(outcome) => break outcome.unwrap_err(),
            }
        };
        assert!((LONGEST_QUEUE..=LONGEST_QUEUE + THREADS).contains(&waiting.len()));
        assert_eq!(error.code(), ErrorCode::StoreUnavailable);
        assert_eq!(
            error.message(),
            format!("{LONGEST_QUEUE} calls wait for the disk of `/srv/tokens.txt` already")
        );
        // The disk is back.
        drop(disk);
        for call in waiting {
            call.await.unwrap();
        }
        assert_eq!(workers.run(|| Ok(7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_reaches_the_caller_and_spares_the_thread() {
        let workers = workers();
        for _ in 0..=THREADS {
            let call = workers.run::<()>(|| panic!("on purpose"));
            assert!(AssertUnwindSafe(call).catch_unwind().await.is_err());
        }
        assert_eq!(workers.run(|| Ok(7)).await.unwrap(), 7);
    }
}
