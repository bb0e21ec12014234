//! Whose turn it is to work on a token, among processes and among the tasks of this one.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::shared::Shared;
use crate::error::{Error, ErrorCode, Result};
use crate::store::{Coordination, CoordinationKey, Guarantee, Permit};

/// The longest pause between two looks at a lock that another process holds.
const LONGEST_POLL: Duration = Duration::from_millis(25);

/// Stores of one machine spread their keys over this many locks.
const LINES: u64 = 64;

/// Where the tasks of this process queue up for the locks that their tokens share.
///
/// A lock between processes has to be tried for again and again. If all tasks did that at once, a
/// thousand users whose tokens ended would spend the machine on trying, and the luckless ones
/// would never get their turn. So one tries for all, and the others wait in line.
#[derive(Debug)]
pub(super) struct Lines(Vec<Mutex<()>>);

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

/// Waits until nobody else works on `key`. `None` where the store offers no agreement.
///
/// Whoever holds a permit must not ask for another one: the two keys may share a lock.
pub(super) async fn acquire(
    shared: &Shared,
    key: &CoordinationKey,
    patience: Duration,
) -> Result<Option<Box<dyn Permit>>> {
    let Some(coordination) = shared.store.coordination() else {
        return Ok(None);
    };
    let began = Instant::now();
    // Machines agree on each key by itself; there nobody waits for anybody else's token.
    let _first = if coordination.guarantee() == Guarantee::Host {
        let line = shared.lines.of(key);
        let turn = match line.try_lock() {
            Ok(turn) => Ok(turn),
            Err(_) if patience.is_zero() => Err(locked()),
            Err(_) => tokio::time::timeout(patience, line.lock())
                .await
                .map_err(|_| locked()),
        };
        Some(turn?)
    } else {
        None
    };
    poll(coordination, key, began, patience).await.map(Some)
}

async fn poll(
    coordination: &dyn Coordination,
    key: &CoordinationKey,
    began: Instant,
    patience: Duration,
) -> Result<Box<dyn Permit>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(permit) = coordination.try_acquire(key).await? {
            return Ok(permit);
        }
        if began.elapsed() >= patience {
            return Err(locked());
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(LONGEST_POLL);
    }
}

fn locked() -> Error {
    Error::new(
        ErrorCode::StoreLocked,
        "somebody else is still refreshing this token",
    )
}
