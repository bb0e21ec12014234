//! What is remembered about a credential: in the store where it can, and always in this process.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cache::CacheEntry;
use super::credential_state::credential_of;
use super::inner::Inner;
use super::lock::{acquire, release};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::secret::Fingerprint;
use crate::store::{CoordinationKey, Guarantee, Memo, Permit};
use crate::token::OAuthToken;

/// How long it may take to write down a mint before it is asked for. After a longer time it is
/// counted again: the mint would reach Zoho long after the moment it is counted for.
const STANDSTILL: Duration = Duration::from_secs(10);
/// How late a timer may go off in a process that does not stand still.
const A_MOMENT: Duration = Duration::from_secs(1);

/// What an error says in front when a request cannot be written down before it is made.
pub(super) const NOT_ASKED: &str =
    "Zoho is not asked, since a request that cannot be written down would not be counted";

/// The memory of one record, while its permit is held.
pub(super) struct Memory<'a> {
    entry: &'a CacheEntry,
    permit: Option<&'a dyn Permit>,
    guarantee: Guarantee,
    /// How long a mint counts.
    window: Duration,
}

impl<'a> Memory<'a> {
    pub(super) fn new(
        inner: &Inner,
        entry: &'a CacheEntry,
        permit: Option<&'a dyn Permit>,
    ) -> Self {
        Self {
            entry,
            permit,
            guarantee: inner.locks.guarantee(),
            window: inner.policy.counted_for(),
        }
    }

    /// Returns what is remembered about the credential of `record`.
    ///
    /// What the store says and what this process knows by itself are put together: the store knows
    /// of other processes, and this one of what the store could not be made to remember. What a
    /// fleet's store was told is there, by a clock that differs from this machine's: putting that
    /// together with the same would count each mint twice.
    ///
    /// # Errors
    /// What keeps the store from saying it: together with those that it does not know of, this
    /// process would ask for more than Zoho grants.
    pub(super) async fn recall(&self, record: &OAuthToken, now: Timestamp) -> Result<Memo> {
        let window = self.window;
        let stored = match self.permit {
            Some(permit) => permit.memo().await?,
            None => Memo::default(),
        };
        let Some(credential) = credential_of(record) else {
            return Ok(Memo::default());
        };
        let (own, is_told) = self.entry.memo();
        let stored = stored.about(&credential, now, window);
        let memo = if self.guarantee == Guarantee::Fleet && is_told {
            stored
        } else {
            stored.joined(own.about(&credential, now, window))
        };
        self.entry.set_memo(memo.clone(), is_told);
        Ok(memo)
    }

    /// Remembers what was learned.
    ///
    /// # Errors
    /// `lease_lost`: whoever holds the lease by now knows better. A store that cannot remember is no
    /// error; this process remembers all the same.
    pub(super) async fn remember(&self, memo: &Memo) -> Result<()> {
        match self.write(memo).await {
            Err(error) if error.code() != ErrorCode::LeaseLost => {
                tracing::warn!(%error, "cannot write down what is to be remembered, going on");
                Ok(())
            }
            done => done,
        }
    }

    /// Remembers a mint that is about to be asked for: `noted` is `before` and that mint.
    ///
    /// # Errors
    /// What keeps the store from writing it down: the next process would not know of it, and
    /// together they would ask for more than Zoho grants. Nothing counts then.
    pub(super) async fn reserve(&self, before: &Memo, noted: &Memo) -> Result<()> {
        if self.permit.is_none() {
            return self.write(noted).await;
        }
        let (known, is_told) = self.entry.memo();
        let began = Instant::now();
        let mut write = pin!(self.write(noted));
        let in_time = tokio::time::timeout(STANDSTILL, write.as_mut()).await;
        let (written, is_slow) = if let Ok(written) = in_time {
            (written, false)
        } else {
            // The clock of a process that stood still goes off late.
            let is_slow = began.elapsed() < STANDSTILL + A_MOMENT;
            (write.await, is_slow)
        };
        if let Err(error) = written {
            self.entry.set_memo(known, is_told);
            return Err(error.about(NOT_ASKED));
        }
        if began.elapsed() > STANDSTILL {
            // Nothing was asked of Zoho, and a store that stays slow must not use up the budget.
            self.remember(before).await?;
            let took = began.elapsed();
            return Err(if is_slow {
                let message =
                    format!("the store took {took:?} to write down what is asked of Zoho");
                Error::new(ErrorCode::StoreUnavailable, message)
            } else {
                let message = "this process stood still before it could ask Zoho";
                Error::new(ErrorCode::LeaseLost, message)
            });
        }
        Ok(())
    }

    async fn write(&self, memo: &Memo) -> Result<()> {
        let written = match self.permit {
            Some(permit) => permit.set_memo(memo).await,
            None => Ok(()),
        };
        if !matches!(&written, Err(error) if error.code() == ErrorCode::LeaseLost) {
            // Without a permit nobody else was told.
            let is_told = self.permit.is_some() && written.is_ok();
            self.entry.set_memo(memo.clone(), is_told);
        }
        written
    }
}

/// Lets access tokens that were issued before the record of `entry` held its credential count towards
/// the budget of that, as far as it can be done without waiting for anybody.
///
/// `credential` is the refresh token that they were issued for, if it is known; whatever else the
/// record holds by now, they do not matter to it.
pub(super) async fn count(
    inner: &Arc<Inner>,
    entry: &Arc<CacheEntry>,
    minted_at: Vec<Timestamp>,
    credential: Option<&Fingerprint>,
) {
    if let Ok(_turn) = entry.work.try_lock() {
        count_in_turn(inner, entry, minted_at, credential).await;
        return;
    }
    // The old login is being refreshed, which leaves behind what is remembered of that.
    let (inner, entry) = (Arc::clone(inner), Arc::clone(entry));
    let credential = credential.cloned();
    tokio::spawn(async move {
        let _turn = entry.work.lock().await;
        count_in_turn(&inner, &entry, minted_at, credential.as_ref()).await;
    });
}

async fn count_in_turn(
    inner: &Inner,
    entry: &CacheEntry,
    minted_at: Vec<Timestamp>,
    credential: Option<&Fingerprint>,
) {
    let record = match inner.store.find_token_by_id(entry.id).await {
        Ok(Some(record)) => record,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%error, "cannot see the record that something is counted for");
            if let Some(credential) = credential {
                let (own, _) = entry.memo();
                let window = inner.policy.counted_for();
                let own = own.about(credential, Timestamp::now(), window);
                let issued = Memo {
                    minted_at,
                    ..Memo::default()
                };
                entry.set_memo(own.joined(issued), false);
            }
            return;
        }
    };
    if credential.is_some() && credential_of(&record).as_ref() != credential {
        return;
    }
    let key = CoordinationKey::record(entry.id);
    let permit = acquire(&inner.locks, &key, Duration::ZERO)
        .await
        .ok()
        .flatten();
    let memory = Memory::new(inner, entry, permit.as_deref());
    let issued = Memo {
        minted_at,
        ..Memo::default()
    };
    match memory.recall(&record, Timestamp::now()).await {
        // Without a turn it is remembered here alone.
        Ok(memo) => drop(memory.remember(&memo.joined(issued)).await),
        Err(error) => tracing::warn!(%error, "cannot count what was issued for a new login"),
    }
    release(permit, None).await;
}

#[cfg(test)]
mod tests;
