//! How far what the service shows may lie behind what is.
//!
//! AWS calls all operations of the service *eventually consistent*, and names a time for listings
//! alone: they may not show what changed in the last five minutes. What is read by name is mostly up
//! to date; where it contradicts an answer that cannot be wrong (the service refuses a name that is
//! taken) it is read again for some seconds.

use std::time::Duration;

use aws_sdk_secretsmanager::primitives::DateTime;

use crate::clock::Timestamp;

/// What was made so long ago is in every listing. Twice the five minutes, since this machine's clock
/// may be wrong by as much before AWS refuses its calls, and a few more.
const LISTED_AFTER: Duration = Duration::from_mins(15);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Six seconds in all.
const PAUSES: u32 = 7;

/// Whether every listing shows what was made then. Without a date nobody knows.
pub(super) fn is_listed(made: Option<&DateTime>) -> bool {
    let made = made.and_then(|made| made.to_millis().ok());
    made.is_some_and(|made| Timestamp::now().since(Timestamp::from_millis(made)) > LISTED_AFTER)
}

/// The pauses after which something is read again that must have changed.
#[derive(Default)]
pub(super) struct Pauses(u32);

impl Pauses {
    /// Waits, each time twice as long; `false` when it was waited long enough.
    pub(super) async fn pause(&mut self) -> bool {
        if self.0 == PAUSES {
            return false;
        }
        tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(self.0)).await;
        self.0 += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_may_be_missing_in_listings() {
        let made = |ago: Duration| DateTime::from_millis(Timestamp::now().before(ago).as_millis());
        assert!(!is_listed(None));
        assert!(!is_listed(Some(&made(Duration::ZERO))));
        assert!(!is_listed(Some(&made(Duration::from_mins(14)))));
        assert!(is_listed(Some(&made(Duration::from_mins(16)))));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_waited_for_some_seconds() {
        let began = tokio::time::Instant::now();
        let mut pauses = Pauses::default();
        while pauses.pause().await {}
        let waited = began.elapsed();
        assert!(waited > Duration::from_secs(6) && waited < Duration::from_secs(7));
    }
}
