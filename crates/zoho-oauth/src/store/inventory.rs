//! What a store holds, counted in another way than by reading the records.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::error::Error;

/// The number of records in a store, and those among them that cannot be read.
///
/// Made by [`TokenStore::inventory`](crate::TokenStore::inventory).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inventory {
    /// All records, including those that cannot be read.
    pub records: usize,
    /// Whether the records were counted in another way than a list of them is made. If not, a list
    /// that lacks some of them has the same count, and a copy does not call itself confirmed.
    pub is_independent: bool,
    /// For each record that cannot be read, where it is and what is wrong with it, for example
    /// ``line 7: the field `expiry_time` cannot be read``. Holds no value of a field.
    pub unreadable: Vec<String>,
}

impl Inventory {
    /// Returns the inventory of a store that holds `records` records, all of which can be read,
    /// counted in another way than a list of them is made.
    pub const fn of(records: usize) -> Self {
        Self {
            records,
            is_independent: true,
            unreadable: Vec::new(),
        }
    }
}

/// Warns that a record is left out of a list, once per process and record.
#[cfg_attr(
    not(any(
        feature = "mysql",
        feature = "postgres",
        feature = "redis",
        feature = "secrets-manager",
        feature = "sqlite"
    )),
    expect(dead_code, reason = "the other stores warn in their own words")
)]
pub(crate) fn warn_once(error: &Error) {
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.insert(error.message().to_owned()) {
        let what = error.message();
        tracing::warn!(what, "a record that cannot be read is left out");
    }
}
