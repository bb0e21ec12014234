//! What a store holds, counted in another way than by reading the records.

/// The number of records in a store, and those among them that cannot be read.
///
/// Made by [`TokenStore::inventory`](crate::TokenStore::inventory).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inventory {
    /// All records, including those that cannot be read.
    pub records: usize,
    /// For each record that cannot be read, where it is and what is wrong with it, for example
    /// ``line 7: the field `expiry_time` cannot be read``. Holds no value of a field.
    pub unreadable: Vec<String>,
}

impl Inventory {
    /// Returns the inventory of a store that holds `records` records, all of which can be read.
    pub const fn of(records: usize) -> Self {
        Self {
            records,
            unreadable: Vec::new(),
        }
    }
}
