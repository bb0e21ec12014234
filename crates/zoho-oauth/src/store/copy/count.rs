//! Whether everything of a store was read: what was read, compared with the store's own count.

use super::walk::{Pages, Side};
use crate::error::{ErrorCode, Result};
use crate::store::{Inventory, TokenStore};

/// How many times a store that changes is read again until its count says something.
const ATTEMPTS: usize = 3;

/// What was read of a store, and what the store counts in another way
/// ([`TokenStore::inventory`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreCount {
    /// Records that were read.
    pub read: usize,
    /// Records that the store counts, those included that cannot be read. `None` where the store
    /// has no other way to count: what it does not list is then not noticed.
    pub records: Option<usize>,
    /// Records that are in the store, and were neither read nor named in
    /// [`unreadable`](Self::unreadable).
    pub unread: usize,
    /// For each record that cannot be read, where it is and what is wrong with it.
    pub unreadable: Vec<String>,
    /// Whether more was read than the store counts, so that one of the two is wrong.
    pub(super) contradicts: bool,
}

impl StoreCount {
    /// Returns whether nothing shows that records of the store were not read. Only where
    /// [`records`](Self::records) is known this means that all of them were.
    pub fn is_whole(&self) -> bool {
        self.unread == 0 && !self.contradicts && self.unreadable.is_empty()
    }

    /// Compares what was read between two counts with both.
    fn of(read: usize, before: &Inventory, after: Inventory) -> Self {
        let low = before.records.min(after.records);
        let high = before.records.max(after.records);
        let known = read + after.unreadable.len();
        Self {
            read,
            records: after.is_independent.then_some(after.records),
            unread: low.saturating_sub(known),
            unreadable: after.unreadable,
            contradicts: known > high,
        }
    }
}

/// The count of a store before it is read.
#[derive(Debug)]
pub(super) struct Count<'a> {
    store: &'a dyn TokenStore,
    side: Side,
    page_size: usize,
    before: Option<Inventory>,
}

impl<'a> Count<'a> {
    pub(super) async fn begin(
        store: &'a dyn TokenStore,
        side: Side,
        page_size: usize,
    ) -> Result<Self> {
        Ok(Self {
            store,
            side,
            page_size,
            before: inventory(store, side).await?,
        })
    }

    /// Counts again, and compares both counts with the number of records that were `read` since.
    /// `None` if only a part was to be read.
    ///
    /// A store that changes meanwhile is read again, so that a record that came is not taken for
    /// one that was not read, nor hides one.
    pub(super) async fn end(self, read: Option<usize>) -> Result<StoreCount> {
        let Self {
            store,
            side,
            page_size,
            before,
        } = self;
        let Some(mut before) = before else {
            return Ok(StoreCount {
                read: read.unwrap_or_default(),
                ..StoreCount::default()
            });
        };
        let mut read = match read {
            Some(read) => read,
            None => records(store, side, page_size).await?,
        };
        for attempt in 1.. {
            let Some(after) = inventory(store, side).await? else {
                break;
            };
            let is_quiet = before.records == after.records;
            let count = StoreCount::of(read, &before, after.clone());
            if attempt == ATTEMPTS || (is_quiet && count.unread == 0 && !count.contradicts) {
                return Ok(count);
            }
            before = after;
            read = records(store, side, page_size).await?;
        }
        Ok(StoreCount::default())
    }
}

/// Reads a whole store, and returns how many records it lists.
async fn records(store: &dyn TokenStore, side: Side, page_size: usize) -> Result<usize> {
    let mut pages = Pages::new(store, side, page_size, None);
    let mut count = 0;
    loop {
        let page = pages.next_page().await?;
        if page.is_empty() {
            return Ok(count);
        }
        count += page.len();
    }
}

pub(super) async fn inventory(store: &dyn TokenStore, side: Side) -> Result<Option<Inventory>> {
    let counted = store.inventory().await;
    counted.map_err(|error| error.about(format_args!("counting the records of the {side}")))
}

/// Whether an error concerns one record of a store, which cannot be read. The others can.
pub(super) fn is_of_one_record(error: &crate::Error) -> bool {
    error.code() == ErrorCode::StoreDamaged
}
