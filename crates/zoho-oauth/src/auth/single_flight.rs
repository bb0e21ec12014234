//! One piece of work for all who ask for it at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

type Flights<K, T> = HashMap<K, watch::Receiver<Option<T>>>;

/// The pieces of work under way, by key. A caller joins the one under its key, or starts it.
///
/// The work runs in a task of its own, so it does not stop when its callers go away.
#[derive(Debug)]
pub(super) struct SingleFlight<K, T>(Arc<Mutex<Flights<K, T>>>);

impl<K, T> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// A caller of a piece of work.
#[derive(Debug)]
pub(super) struct Flight<T> {
    outcome: watch::Receiver<Option<T>>,
    /// The work was under way before this caller came.
    pub(super) is_joined: bool,
}

/// The callers of a piece of work that has its outcome.
#[derive(Debug)]
pub(super) struct Callers<T>(watch::Sender<Option<T>>);

impl<K, T> SingleFlight<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins the work under `key`, or starts `work`. Its task goes on with `then` after the callers
    /// were given the outcome.
    pub(super) fn join_or_start<W, A>(
        &self,
        key: K,
        work: impl FnOnce() -> W,
        then: impl FnOnce(T, Callers<T>) -> A + Send + 'static,
    ) -> Flight<T>
    where
        W: Future<Output = T> + Send + 'static,
        A: Future<Output = ()> + Send,
    {
        let mut flights = lock(&self.0);
        // A task that died, with its runtime or by a panic, has dropped its sender.
        let under_way = flights.get(&key).filter(|it| it.has_changed().is_ok());
        if let Some(outcome) = under_way {
            return Flight {
                outcome: outcome.clone(),
                is_joined: true,
            };
        }
        let (sender, outcome) = watch::channel(None);
        flights.insert(key.clone(), outcome.clone());
        drop(flights);
        let flights = Arc::clone(&self.0);
        let work = work();
        tokio::spawn(async move {
            let done = work.await;
            lock(&flights).remove(&key);
            // Callers that come from now on start again.
            let _ = sender.send(Some(done.clone()));
            then(done, Callers(sender)).await;
        });
        Flight {
            outcome,
            is_joined: false,
        }
    }
}

impl<T: Clone + Send + Sync> Flight<T> {
    /// Waits for the outcome. `None` when the task died: its runtime was shut down, or it panicked.
    pub(super) async fn outcome(&mut self) -> Option<T> {
        let outcome = self.outcome.wait_for(Option::is_some).await;
        outcome.ok()?.clone()
    }
}

impl<T: Send + Sync> Callers<T> {
    /// Waits until the last caller has gone.
    pub(super) async fn gone(self) {
        self.0.closed().await;
    }
}

fn lock<K, T>(flights: &Mutex<Flights<K, T>>) -> MutexGuard<'_, Flights<K, T>> {
    // Each change of the map is one call.
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn callers_at_the_same_time_share_one_outcome() {
        let flights = SingleFlight::<&str, u32>::default();
        let (open, gate) = oneshot::channel::<()>();
        let work = || async move {
            let _ = gate.await;
            7
        };
        let mut first = flights.join_or_start("a", work, |_, _| async {});
        let mut second = flights.join_or_start("a", || async { 8 }, |_, _| async {});
        let mut other = flights.join_or_start("b", || async { 9 }, |_, _| async {});
        assert!(!first.is_joined && second.is_joined && !other.is_joined);
        assert_eq!(other.outcome().await, Some(9));
        open.send(()).unwrap();
        assert_eq!(
            (first.outcome().await, second.outcome().await),
            (Some(7), Some(7))
        );
        let mut later = flights.join_or_start("a", || async { 8 }, |_, _| async {});
        assert_eq!(later.outcome().await, Some(8));
    }

    #[tokio::test]
    async fn work_goes_on_without_its_callers_and_knows_that_they_are_gone() {
        let flights = SingleFlight::<&str, u32>::default();
        let (tell, told) = oneshot::channel();
        let then = |outcome, callers: Callers<u32>| async move {
            callers.gone().await;
            tell.send(outcome).unwrap();
        };
        let caller = flights.join_or_start("a", || async { 7 }, then);
        drop(caller);
        assert_eq!(told.await, Ok(7));
    }

    #[tokio::test]
    async fn a_task_that_died_is_started_again() {
        let flights = SingleFlight::<&str, u32>::default();
        let mut first =
            flights.join_or_start("a", || async { panic!("on purpose") }, |_, _| async {});
        assert_eq!(first.outcome().await, None);
        let mut second = flights.join_or_start("a", || async { 8 }, |_, _| async {});
        assert!(!second.is_joined);
        assert_eq!(second.outcome().await, Some(8));
    }
}
