//! The lock of a token: one holder among the processes that share a store.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::error::{Error, ErrorCode, Result};
use crate::store::{Coordination, CoordinationKey, Guarantee, Memo, Permit, TokenStore};

/// The longest pause between two looks at a kernel lock that another process holds.
const LONGEST_POLL: Duration = Duration::from_millis(25);
/// The same for a lease, each look at which is a request to a server.
const LONGEST_FLEET_POLL: Duration = Duration::from_millis(100);

/// How long the store may take to give a permit back. After that it ends by itself.
const RELEASE: Duration = Duration::from_secs(5);

/// Stores of one machine spread their keys over this many locks.
const LINES: u64 = 64;

/// Where the tasks of this process queue up for the locks that their tokens share.
///
/// A lock between processes has to be tried for again and again. If all tasks did that at once, a
/// thousand users whose tokens ended would spend the machine on trying, and some would never get the
/// lock. So one tries for all, and the others wait in line.
#[derive(Debug)]
struct Lines(Vec<Mutex<()>>);

impl Default for Lines {
    fn default() -> Self {
        Self((0..LINES).map(|_| Mutex::default()).collect())
    }
}

impl Lines {
    fn of(&self, key: &CoordinationKey) -> &Mutex<()> {
        let index = usize::try_from(key.stripe(LINES)).unwrap_or(0);
        &self.0[index]
    }
}

/// The locks that a store offers.
#[derive(Debug)]
pub(super) struct Locks {
    store: Arc<dyn TokenStore>,
    lines: Lines,
}

impl Locks {
    pub(super) fn new(store: Arc<dyn TokenStore>) -> Self {
        Self {
            store,
            lines: Lines::default(),
        }
    }

    /// How far "one refresh per token" reaches.
    pub(super) fn guarantee(&self) -> Guarantee {
        let coordination = self.store.coordination();
        coordination.map_or(Guarantee::Process, Coordination::guarantee)
    }
}

/// A task that waits for the lock of a key.
pub(super) struct Queue<'a> {
    coordination: &'a dyn Coordination,
    key: &'a CoordinationKey,
    began: Instant,
    patience: Duration,
    pause: Duration,
    _line: Option<MutexGuard<'a, ()>>,
}

impl<'a> Queue<'a> {
    /// Lines up. `None` where the store offers no agreement.
    ///
    /// On one machine a task that holds a permit must not wait for another one: the two keys may share
    /// a lock.
    pub(super) async fn enter(
        locks: &'a Locks,
        key: &'a CoordinationKey,
        patience: Duration,
    ) -> Result<Option<Self>> {
        let Some(coordination) = locks.store.coordination() else {
            return Ok(None);
        };
        let began = Instant::now();
        // Machines agree on each key by itself; there nobody waits for anybody else's token.
        let line = if coordination.guarantee() == Guarantee::Host {
            let line = locks.lines.of(key);
            let turn = match line.try_lock() {
                Ok(turn) => Ok(turn),
                Err(_) if patience.is_zero() => Err(()),
                Err(_) => tokio::time::timeout(patience, line.lock())
                    .await
                    .map_err(drop),
            };
            let Ok(turn) = turn else {
                return Err(locked(coordination, key).await);
            };
            Some(turn)
        } else {
            None
        };
        Ok(Some(Self {
            coordination,
            key,
            began,
            patience,
            pause: Duration::from_millis(1),
            _line: line,
        }))
    }

    /// Tries once; `None` if somebody else is at it.
    pub(super) async fn try_once(&self) -> Result<Option<Box<dyn Permit>>> {
        self.coordination.try_acquire(self.key).await
    }

    /// Waits a moment before the next try.
    ///
    /// # Errors
    /// `store_locked` when it was tried for long enough.
    pub(super) async fn pause(&mut self) -> Result<()> {
        if self.began.elapsed() >= self.patience {
            return Err(locked(self.coordination, self.key).await);
        }
        tokio::time::sleep(self.pause.mul_f64(0.5 + fastrand::f64())).await;
        let longest = if self.is_fleet() {
            LONGEST_FLEET_POLL
        } else {
            LONGEST_POLL
        };
        self.pause = (self.pause * 2).min(longest);
        Ok(())
    }

    /// Whether others wait on other machines.
    pub(super) fn is_fleet(&self) -> bool {
        self.coordination.guarantee() == Guarantee::Fleet
    }
}

/// Waits until nobody else works on `key`. `None` where the store offers no agreement.
pub(super) async fn acquire(
    locks: &Locks,
    key: &CoordinationKey,
    patience: Duration,
) -> Result<Option<Box<dyn Permit>>> {
    let Some(mut queue) = Queue::enter(locks, key, patience).await? else {
        return Ok(None);
    };
    loop {
        if let Some(permit) = queue.try_once().await? {
            return Ok(Some(permit));
        }
        queue.pause().await?;
    }
}

/// Ends a permit, with a last memo if there is one.
pub(super) async fn release(permit: Option<Box<dyn Permit>>, memo: Option<&Memo>) {
    let Some(permit) = permit else {
        return;
    };
    let released = tokio::time::timeout(RELEASE, release_in_time(permit.as_ref(), memo)).await;
    if released.is_err() {
        tracing::warn!("the store is slow: a permit is left to end by itself");
    }
}

async fn release_in_time(permit: &dyn Permit, memo: Option<&Memo>) {
    match permit.release(memo).await {
        Ok(()) => {}
        Err(error) if error.code() == ErrorCode::LeaseLost => {
            let minted = memo.and_then(|memo| memo.credential.as_ref().zip(memo.minted_at.last()));
            // That Zoho issued it is true whoever holds the lease by now.
            if let Some((credential, &at)) = minted
                && let Err(error) = permit.tell_issue(credential, at).await
            {
                tracing::warn!(%error, "cannot write down that Zoho issued a token");
            }
        }
        Err(error) => {
            tracing::warn!(%error, "a last memo is not written, or its permit is left to end by itself");
        }
    }
}

async fn locked(coordination: &dyn Coordination, key: &CoordinationKey) -> Error {
    let mut message = "another task or process is still refreshing this token".to_owned();
    if let Some(holder) = coordination.holder(key).await {
        message = format!("{message}: {holder}");
    }
    Error::new(ErrorCode::StoreLocked, message)
}
