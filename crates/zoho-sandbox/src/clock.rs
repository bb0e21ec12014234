//! The sandbox's clock: the wall clock plus whatever a test has added to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// A clock that tests can push forward; it never runs backwards by our doing.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    advanced_ms: AtomicU64,
}

impl Clock {
    /// Milliseconds since the Unix epoch, as this sandbox sees them.
    #[expect(
        clippy::disallowed_methods,
        reason = "this module is the crate's one reader of the wall clock"
    )]
    pub(crate) fn now_ms(&self) -> u64 {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        millis(since_epoch).saturating_add(self.advanced_ms.load(Ordering::Relaxed))
    }

    /// Lets `by` go past at once.
    pub(crate) fn advance(&self, by: Duration) {
        let by = millis(by);
        let add = |advanced: u64| Some(advanced.saturating_add(by));
        // It always succeeds, since `add` always has an answer.
        let _ = self
            .advanced_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// Whole milliseconds of a duration, at most what fits.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The moment `seconds` after `now_ms`; the end of time where they reach beyond it, since the
/// numbers come from configurations and requests.
pub(crate) const fn after(now_ms: u64, seconds: u64) -> u64 {
    now_ms.saturating_add(seconds.saturating_mul(1000))
}

/// An instant as the CRM writes it: ISO 8601 with seconds and an offset.
pub(crate) fn iso(epoch_ms: u64) -> String {
    let seconds = i64::try_from(epoch_ms / 1000).unwrap_or(0);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}+00:00",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_written_with_offset_and_without_fraction() {
        assert_eq!(iso(1_768_209_301_999), "2026-01-12T09:15:01+00:00");
    }

    #[test]
    fn advancing_moves_the_clock() {
        let clock = Clock::default();
        let before = clock.now_ms();
        clock.advance(Duration::from_hours(1));
        assert!(clock.now_ms() >= before + 3_600_000);
    }
}
