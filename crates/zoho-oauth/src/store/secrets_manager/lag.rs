//! How far what the service shows may lie behind what is.
//!
//! AWS calls all operations of the service *eventually consistent*, and names a time for listings
//! alone: they may not show what changed in the last five minutes.

use std::time::Duration;

use aws_sdk_secretsmanager::primitives::DateTime;

use crate::clock::Timestamp;

/// What was made so long ago is in every listing. Twice the five minutes, since this machine's clock
/// may be wrong by as much before AWS refuses its calls, and a few more.
const LISTED_AFTER: Duration = Duration::from_mins(15);

/// Whether every listing shows what was made then. Without a date nobody knows.
pub(super) fn is_listed(made: Option<&DateTime>) -> bool {
    let made = made.and_then(|made| made.to_millis().ok());
    made.is_some_and(|made| Timestamp::now().since(Timestamp::from_millis(made)) > LISTED_AFTER)
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
}
