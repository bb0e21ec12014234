//! What this process knows of the records: which digests lead to which. No value is kept.
//!
//! It is a hint and never an answer. Whatever it says is verified by reading the secret, and what it
//! does not know is looked for at the service.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::names;
use super::service::{Found, Taken};
use crate::secret::Fingerprint;
use crate::token::{OAuthToken, TokenId};

#[derive(Debug, Default)]
pub(super) struct Index {
    records: BTreeMap<TokenId, Vec<Fingerprint>>,
    by_digest: HashMap<Fingerprint, BTreeSet<TokenId>>,
    /// Digests that the service was asked about.
    listed: HashSet<Fingerprint>,
    /// Whether all records were listed once.
    is_complete: bool,
    /// The highest id that is known to have been given.
    top: u64,
    /// The highest id of deleted records that the ledger is known to hold.
    ledger: u64,
    /// Up to this id every record was read that listings might not have shown.
    read_to: u64,
    /// Up to this id every record is so old that listings show it: ids rise with time.
    listed_to: u64,
}

impl Index {
    /// Takes in a record that was read or written: what was known of it before is over.
    pub(super) fn read(&mut self, id: TokenId, row: &OAuthToken) {
        self.forget(id);
        self.add(id, names::digests(row));
    }

    /// Takes in what was found under an id.
    pub(super) fn taken(&mut self, taken: &Taken) {
        if taken.is_old {
            self.set_listed_to(taken.id);
        }
        match &taken.found {
            Found::Record(row) => self.read(taken.id, row),
            // It can be found by what its tags say.
            Found::Damaged(_) => self.listed(taken.id, Vec::new()),
            Found::Doomed => self.forget(taken.id),
        }
    }

    /// Takes in a record that was listed. Listings lag behind, so they take nothing back.
    pub(super) fn listed(&mut self, id: TokenId, mut digests: Vec<Fingerprint>) {
        if let Some(known) = self.records.get(&id) {
            digests.retain(|digest| !known.contains(digest));
        }
        self.add(id, digests);
    }

    fn add(&mut self, id: TokenId, digests: Vec<Fingerprint>) {
        for digest in &digests {
            self.by_digest.entry(digest.clone()).or_default().insert(id);
        }
        self.records.entry(id).or_default().extend(digests);
        self.given(id.get());
    }

    /// Takes in that there is no such record any more.
    pub(super) fn forget(&mut self, id: TokenId) {
        for digest in self.records.remove(&id).unwrap_or_default() {
            if let Some(ids) = self.by_digest.get_mut(&digest) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_digest.remove(&digest);
                }
            }
        }
    }

    /// The records that may have this digest, the lowest id first.
    pub(super) fn candidates(&self, digest: &Fingerprint) -> Vec<TokenId> {
        let ids = self.by_digest.get(digest);
        ids.map_or_else(Vec::new, |ids| ids.iter().copied().collect())
    }

    pub(super) fn knows(&self, id: TokenId) -> bool {
        self.records.contains_key(&id)
    }

    /// The next ids below this one under which listings may not show a record, the highest first,
    /// without those whose record is known.
    pub(super) fn unknown_below(&self, id: u64, most: usize) -> Vec<TokenId> {
        let lowest = self.read_to.max(self.listed_to) + 1;
        let ids = (lowest..id).rev().filter_map(|id| TokenId::new(id).ok());
        ids.filter(|id| !self.knows(*id)).take(most).collect()
    }

    /// All records in the order of their ids.
    pub(super) fn ids_after(&self, after: Option<TokenId>) -> Vec<TokenId> {
        let ids = self.records.keys().copied();
        ids.filter(|id| Some(*id) > after).collect()
    }

    pub(super) fn set_asked(&mut self, digests: &[Fingerprint]) {
        self.listed.extend(digests.iter().cloned());
    }

    /// Whether the service was asked for all records with this digest.
    pub(super) fn was_asked(&self, digest: &Fingerprint) -> bool {
        self.is_complete || self.listed.contains(digest)
    }

    pub(super) fn set_complete(&mut self) {
        self.is_complete = true;
        self.listed = HashSet::new();
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Takes in that `id` is or was somebody's.
    pub(super) fn given(&mut self, id: u64) {
        self.top = self.top.max(id);
    }

    pub(super) const fn top(&self) -> u64 {
        self.top
    }

    pub(super) fn set_ledger(&mut self, id: u64) {
        self.ledger = self.ledger.max(id);
        self.given(id);
    }

    pub(super) const fn ledger(&self) -> u64 {
        self.ledger
    }

    pub(super) fn set_read_to(&mut self, id: u64) {
        self.read_to = self.read_to.max(id);
    }

    pub(super) const fn read_to(&self) -> u64 {
        self.read_to
    }

    /// Takes in that listings show whatever is there up to this id.
    pub(super) fn set_listed_to(&mut self, id: TokenId) {
        self.listed_to = self.listed_to.max(id.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::AccessToken;
    use crate::token::UserName;

    fn row(user: &str, access: &str) -> OAuthToken {
        let mut row = OAuthToken::new();
        row.user_name = UserName::received(user).ok();
        row.access_token = AccessToken::received(access).ok();
        row
    }

    fn id(number: u64) -> TokenId {
        TokenId::new(number).unwrap()
    }

    #[test]
    fn what_is_read_replaces_and_what_is_listed_adds() {
        let mut index = Index::default();
        let of = |row: &OAuthToken| names::digests(row);
        let (old, new) = (row("ann", "old"), row("ann", "new"));
        index.read(id(3), &new);
        // A listing that lags behind.
        index.listed(id(3), of(&old));
        index.listed(id(3), of(&old));
        for digest in of(&old).iter().chain(&of(&new)) {
            assert_eq!(index.candidates(digest), [id(3)]);
        }
        index.read(id(3), &new);
        assert_eq!(index.candidates(&of(&old)[1]), []);
        index.read(id(1), &row("ann", "other"));
        assert_eq!(index.candidates(&of(&old)[0]), [id(1), id(3)]);
        index.forget(id(3));
        assert_eq!(index.candidates(&of(&new)[1]), []);
        assert_eq!(index.ids_after(None), [id(1)]);
        assert_eq!(index.ids_after(Some(id(1))), []);
        assert_eq!(index.top(), 3, "an id that was given stays given");
        assert_eq!(index.by_digest.len(), 2);
    }

    #[test]
    fn nothing_that_is_printed_is_a_value() {
        let mut index = Index::default();
        index.read(id(1), &row("ann@example.com", "1000.s3cret"));
        let text = format!("{index:?}");
        assert!(!text.contains("s3cret") && !text.contains("ann"), "{text}");
    }
}
