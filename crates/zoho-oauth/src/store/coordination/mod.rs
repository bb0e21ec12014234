//! Agreement between processes and machines: who refreshes a token, what was learned about it, and
//! what came of it.
//!
//! `lease` holds the protocol of the stores on servers as pure transitions, [`Leases`] carries it
//! out over whatever can compare and swap a text, [`Fact`] says which news about a record still
//! counts.

mod fact;
mod lease;
mod leases;
mod memo;
#[cfg(test)]
mod model;

use std::fmt;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::secret::Fingerprint;
use crate::token::TokenId;

pub use fact::{Fact, Kept, Ruling};
pub use leases::{Cell, LeaseCells, Leases};
pub use memo::{Memo, Outage, Verdict};

/// How far "exactly one refresh per token" reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Guarantee {
    /// Among the tasks and threads of one process.
    Process,
    /// Among all processes of one machine that use the same store.
    Host,
    /// Among all machines that use the same store.
    Fleet,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Host => "host",
            Self::Fleet => "fleet",
        })
    }
}

/// What a store can offer beside its six methods: one worker per token, and a memory for verdicts.
///
/// Nothing of it is kept in the official file or table.
#[async_trait]
pub trait Coordination: fmt::Debug + Send + Sync {
    /// Returns how far the agreement reaches.
    fn guarantee(&self) -> Guarantee;

    /// Tries once, without waiting, to become the only holder of `key`; `None` if another one is.
    ///
    /// The permit ends when it is [released](Permit::release) or dropped, and when the process
    /// dies, however it dies.
    ///
    /// Keys exclude only themselves where the agreement reaches a [`Fleet`](Guarantee::Fleet):
    /// whoever holds that of a record takes that of its credential for a moment. On one machine
    /// keys may share a lock; there nobody takes a second one.
    ///
    /// # Errors
    /// What keeps the store from working.
    async fn try_acquire(&self, key: &CoordinationKey) -> Result<Option<Box<dyn Permit>>>;

    /// Returns who holds `key`, in words for an error, if that is known. Waits for no lock.
    async fn holder(&self, key: &CoordinationKey) -> Option<String> {
        let _ = key;
        None
    }
}

/// The right to ask Zoho about one token, held until it is dropped.
#[async_trait]
pub trait Permit: fmt::Debug + Send + Sync {
    /// Returns what earlier holders remembered; an empty memo if there is nothing.
    ///
    /// # Errors
    /// What keeps the store from working.
    async fn memo(&self) -> Result<Memo>;

    /// Remembers `memo` for the holders after this one. An empty memo may be forgotten.
    ///
    /// # Errors
    /// `lease_lost` when the permit ended by itself: nothing was written, and whoever holds the key
    /// now knows better. What keeps the store from working.
    async fn set_memo(&self, memo: &Memo) -> Result<()>;

    /// Counts an access token that Zoho issued for a credential at `at`, also when the permit has
    /// ended by itself. For permits that can: nothing by default.
    ///
    /// # Errors
    /// What keeps the store from working.
    async fn tell_issue(&self, credential: &Fingerprint, at: Timestamp) -> Result<()> {
        let _ = (credential, at);
        Ok(())
    }

    /// Ends the permit, with a last memo if there is one, and waits until others can have it.
    /// Drop it then: some permits end only there.
    ///
    /// # Errors
    /// As [`set_memo`](Self::set_memo). The permit is ended all the same.
    async fn release(&self, memo: Option<&Memo>) -> Result<()> {
        match memo {
            Some(memo) => self.set_memo(memo).await,
            None => Ok(()),
        }
    }
}

/// What processes agree on: a stored record, or the use of one credential, stored or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CoordinationKey(String);

impl CoordinationKey {
    /// Returns the key of a stored record.
    pub fn record(id: TokenId) -> Self {
        Self(format!("id:{id}"))
    }

    /// Returns the key of a credential, named by its digest: of a login from it that is not stored
    /// yet, and of what is made from it by whichever record.
    pub(crate) fn start(credential: &Fingerprint) -> Self {
        Self(format!("start:{}", credential.as_str()))
    }

    /// Returns the record that this is the key of; `None` for a credential. What is kept under such
    /// a key is of no use after an hour.
    pub fn record_id(&self) -> Option<TokenId> {
        self.0.strip_prefix("id:")?.parse().ok()
    }

    /// Returns the key as text: letters, digits and a colon, no secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a number below `count` that is the same in every process and version.
    ///
    /// For stores that spread many keys over a few locks (FNV-1a, 64 bits).
    pub fn stripe(&self, count: u64) -> u64 {
        let hash = self
            .0
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        hash % count.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_are_the_same_everywhere() {
        let key = CoordinationKey::record(TokenId::new(7).unwrap());
        assert_eq!(key.as_str(), "id:7");
        // Written down: a change would let two versions hold the same key at once.
        assert_eq!(key.stripe(64), 27);
    }
}
