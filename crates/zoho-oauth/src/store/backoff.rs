//! Pauses between attempts to connect to a server that refuses connections of this kind.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Remembers why the last attempt to connect was refused.
///
/// Only for reasons that are the same in a moment: TLS, certificates, accounts. While a pause lasts,
/// operations that need a new connection get the remembered error and do not connect.
#[derive(Debug, Default)]
pub(crate) struct Backoff(Mutex<Option<Refused>>);

#[derive(Debug)]
struct Refused {
    error: Error,
    pause: Duration,
    until: Instant,
}

impl Backoff {
    /// Returns the remembered error while a pause lasts. After the pause one caller gets `None`, and
    /// tries; the others wait for one pause more.
    pub(crate) fn refused(&self) -> Option<Error> {
        let mut last = self.lock();
        let last = last.as_mut()?;
        let now = Instant::now();
        if now >= last.until {
            last.until = now + last.pause;
            return None;
        }
        Some(last.error.clone())
    }

    /// Remembers that an attempt was refused, and begins a pause, each twice as long as the one
    /// before.
    pub(crate) fn failed(&self, error: &Error) {
        let mut last = self.lock();
        let pause = last.as_ref().map_or(FIRST_PAUSE, |last| last.pause * 2);
        let pause = pause.min(LONGEST_PAUSE);
        *last = Some(Refused {
            error: error.clone(),
            pause,
            until: Instant::now() + pause,
        });
    }

    pub(crate) fn succeeded(&self) {
        self.lock().take();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_tries_after_each_pause() {
        let backoff = Backoff::default();
        assert!(backoff.refused().is_none());
        backoff.failed(&Error::invalid_input("refused"));
        assert_eq!(backoff.refused().unwrap().message(), "refused");
        backoff.lock().as_mut().unwrap().until = Instant::now();
        assert!(backoff.refused().is_none(), "one tries");
        assert!(backoff.refused().is_some(), "the others wait for it");
        for _ in 0..9 {
            backoff.failed(&Error::invalid_input("refused"));
        }
        assert_eq!(backoff.lock().as_ref().unwrap().pause, LONGEST_PAUSE);
        backoff.succeeded();
        assert!(backoff.refused().is_none());
    }
}
