//! How often the secret of a record may get a new version.
//!
//! The service keeps every version for a day and about a hundred of them, and asks for at most one
//! in ten minutes on average. Whoever writes more often cannot write at all in the end, until a day
//! has passed. So each record has a budget here: some versions at once, and then one per interval.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorCode, Result};
use crate::token::TokenId;

/// Beyond so many records those whose budget is whole again are forgotten.
const MANY: usize = 1024;

/// The budgets of all records that this process wrote lately.
#[derive(Debug)]
pub(super) struct Pace {
    burst: u32,
    every: Duration,
    /// The moment at which the budget of a record will be whole again.
    whole_at: Mutex<HashMap<TokenId, Instant>>,
}

impl Pace {
    /// `burst` versions at once, and another one `every` interval; an interval of zero is no limit.
    pub(super) fn new(burst: u32, every: Duration) -> Self {
        Self {
            burst: burst.max(1),
            every,
            whole_at: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenId, Instant>> {
        self.whole_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a version from the budget of a record.
    ///
    /// # Errors
    /// `store_throttled` when it is spent.
    pub(super) fn take(&self, id: TokenId) -> Result<()> {
        if self.every.is_zero() {
            return Ok(());
        }
        let now = Instant::now();
        let mut whole_at = self.lock();
        if whole_at.len() > MANY {
            whole_at.retain(|_, at| *at > now);
        }
        let at = whole_at.get(&id).map_or(now, |at| now.max(*at)) + self.every;
        let spent = at - now;
        let most = self.every * self.burst;
        if spent > most {
            let minutes = spent.saturating_sub(most).as_secs().div_ceil(60);
            return Err(Error::new(
                ErrorCode::StoreThrottled,
                format!(
                    "the secret of record {id} got too many new versions; the next one may be made \
                     in {minutes} min"
                ),
            ));
        }
        whole_at.insert(id, at);
        Ok(())
    }

    /// Gives a version back that was not made.
    pub(super) fn give_back(&self, id: TokenId) {
        if let Some(at) = self.lock().get_mut(&id) {
            *at = at.checked_sub(self.every).unwrap_or(*at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn id(number: u64) -> TokenId {
        TokenId::new(number).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_hourly_token_is_never_refused() {
        let pace = Pace::new(24, Duration::from_mins(20));
        for _ in 0..200 {
            pace.take(id(1)).unwrap();
            tokio::time::advance(HOUR).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_day_has_less_than_a_hundred_versions_whatever_is_asked_for() {
        let pace = Pace::new(24, Duration::from_mins(20));
        let mut made = Vec::new();
        let began = Instant::now();
        while began.elapsed() < 100 * HOUR {
            if pace.take(id(1)).is_ok() {
                made.push(began.elapsed());
            }
            tokio::time::advance(Duration::from_secs(47)).await;
        }
        for (index, at) in made.iter().enumerate() {
            let day = made[index..]
                .iter()
                .take_while(|end| **end < *at + 24 * HOUR);
            assert!(day.count() < 100);
        }
        assert!(made.len() > 300, "{}", made.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_each_record_has_its_own() {
        let pace = Pace::new(3, HOUR);
        for _ in 0..3 {
            pace.take(id(1)).unwrap();
        }
        let error = pace.take(id(1)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreThrottled);
        assert!(error.is_transient());
        assert!(error.to_string().contains("in 60 min"), "{error}");
        pace.take(id(2)).unwrap();
        pace.give_back(id(1));
        pace.take(id(1)).unwrap();
        tokio::time::advance(HOUR).await;
        pace.take(id(1)).unwrap();
        pace.take(id(1)).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_whole_again_is_forgotten() {
        let pace = Pace::new(2, HOUR);
        for number in 1..=2000 {
            pace.take(id(number)).unwrap();
        }
        tokio::time::advance(2 * HOUR).await;
        pace.take(id(1)).unwrap();
        assert_eq!(pace.lock().len(), 1);
        let unlimited = Pace::new(1, Duration::ZERO);
        for _ in 0..1000 {
            unlimited.take(id(1)).unwrap();
        }
    }
}
