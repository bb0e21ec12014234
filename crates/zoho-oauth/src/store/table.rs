//! The rule book: the six operations on a table in memory, without I/O.
//!
//! Matching, merging and numbering are written here once. Stores that keep their rows elsewhere
//! use the same functions ([`identities`], [`merge`], [`check_same_login`]) inside a transaction.

pub(super) mod identity;
mod index;

use self::identity::id_of;
use self::index::{Index, Key};
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::token::{OAuthToken, TokenId};

pub(crate) use self::identity::{Identity, identities, is_same_login_unnamed};

/// A token store without the store: what the six methods of [`TokenStore`](super::TokenStore) mean.
///
/// Keep one behind a lock, write its [`rows`](Self::rows) wherever you like after each change, and
/// you have a store of your own that follows every rule.
#[derive(Clone, Debug, Default)]
pub struct TokenTable {
    /// In the order of their ids; every row has one.
    rows: Vec<OAuthToken>,
    /// The highest id ever given, whether its row is still there or not; 0 before the first.
    high_water: u64,
    /// Made by the second save: a table that is made for one save, as `FileStore` does it, is done
    /// before an index would be.
    index: Option<Index>,
    has_saved: bool,
}

impl TokenTable {
    /// Returns an empty table that has never given an id.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes rows that were kept elsewhere, in any order.
    ///
    /// `highest_id` is what [`highest_id`](Self::highest_id) answered when they were put away; it
    /// keeps the ids of deleted rows from being given again.
    ///
    /// # Errors
    /// `store_damaged` when a row has no id, or two rows have the same.
    pub fn from_rows(mut rows: Vec<OAuthToken>, highest_id: Option<TokenId>) -> Result<Self> {
        rows.sort_by_key(|row| row.id);
        if rows.first().is_some_and(|row| row.id.is_none()) {
            return Err(Error::new(
                ErrorCode::StoreDamaged,
                "a stored record has no id",
            ));
        }
        if let Some(pair) = rows.windows(2).find(|pair| pair[0].id == pair[1].id) {
            let id = pair[0].id.map(|id| id.to_string()).unwrap_or_default();
            return Err(Error::new(
                ErrorCode::StoreDamaged,
                format!("two stored records have the id {id}"),
            ));
        }
        let last = rows.last().and_then(|row| row.id);
        Ok(Self {
            high_water: last.max(highest_id).map_or(0, TokenId::get),
            rows,
            ..Self::default()
        })
    }

    /// Returns all rows in the order of their ids.
    pub fn rows(&self) -> &[OAuthToken] {
        &self.rows
    }

    /// Returns the highest id that was ever given, also if its row is gone.
    pub fn highest_id(&self) -> Option<TokenId> {
        TokenId::new(self.high_water).ok()
    }

    /// Returns the first row that matches.
    pub fn find(&self, query: &TokenQuery) -> Option<&OAuthToken> {
        let matches = |row: &OAuthToken| {
            #[cfg(test)]
            identity::count_comparison();
            query.matches(row)
        };
        self.first(|| vec![Key::of_query(query)], matches)
            .map(|index| &self.rows[index])
    }

    /// Returns the row with this id.
    pub fn find_by_id(&self, id: TokenId) -> Option<&OAuthToken> {
        self.position(id).map(|index| &self.rows[index])
    }

    fn position(&self, id: TokenId) -> Option<usize> {
        self.rows.binary_search_by_key(&Some(id), |row| row.id).ok()
    }

    /// The place of the first row that `matches`. Each row that does has one of the `keys`.
    fn first<'a>(
        &self,
        keys: impl FnOnce() -> Vec<Key<'a>>,
        matches: impl Fn(&OAuthToken) -> bool,
    ) -> Option<usize> {
        let Some(index) = &self.index else {
            return self.rows.iter().position(matches);
        };
        let first = |key: &Key<'_>| {
            let mut places = index.ids(key).filter_map(|id| self.position(id));
            places.find(|&place| matches(&self.rows[place]))
        };
        keys().iter().filter_map(first).min()
    }

    fn first_of(&self, identity: &Identity<'_>) -> Option<usize> {
        self.first(|| Key::of_identity(identity), |row| identity.matches(row))
    }

    /// The places of all nameless records of the very login that `merged` is.
    fn unnamed_twins(&self, merged: &OAuthToken) -> Vec<usize> {
        let is_twin = |place: &usize| is_same_login_unnamed(&self.rows[*place], merged);
        let Some(index) = &self.index else {
            return (0..self.rows.len()).filter(is_twin).collect();
        };
        let keys = Key::of_unnamed_twins(merged);
        let ids = keys.iter().flat_map(|key| index.ids(key));
        let mut twins: Vec<_> = ids.filter_map(|id| self.position(id)).collect();
        twins.sort_unstable();
        twins.dedup();
        twins.retain(is_twin);
        twins
    }

    /// Inserts or updates as [`save_token`](super::TokenStore::save_token) says.
    ///
    /// # Errors
    /// As there; the table is then what it was.
    pub fn save(&mut self, token: &OAuthToken) -> Result<TokenId> {
        let token = token.checked()?;
        if self.has_saved && self.index.is_none() {
            self.index = Some(Index::of(&self.rows));
        }
        self.has_saved = true;
        let by_id = token.id.and_then(|id| self.position(id));
        if let (Some(id), None) = (token.id, by_id)
            && id.get() <= self.high_water
        {
            return Err(deleted(id));
        }
        let Some(index) = by_id.map_or_else(|| self.same_login(&token), |i| Ok(Some(i)))? else {
            return self.insert(token);
        };
        let stored = &self.rows[index];
        check_same_login(stored, &token)?;
        let mut merged = merge(stored, &token);

        // Taking on the identity of another row can fill in a client or a name, and so lead on to
        // a third.
        let mut path = vec![index];
        let mut kept = index;
        while let Some(other) = self.other_identity(kept, &merged) {
            merged = merge(&self.rows[other], &merged);
            kept = other;
            path.push(other);
        }
        Ok(self.replace(kept, &path, &merged))
    }

    /// Puts `merged` into row `kept`, and takes in every other record of the same login: the rows
    /// of `path`, which `merged` was made from, and the nameless ones.
    fn replace(&mut self, kept: usize, path: &[usize], merged: &OAuthToken) -> TokenId {
        let absorbed: Vec<_> = self.unnamed_twins(merged);
        let absorbed = absorbed.into_iter().filter(|place| !path.contains(place));
        let mut gone: Vec<_> = path
            .iter()
            .copied()
            .filter(|place| *place != kept)
            .collect();
        let mut filled = merged.clone();
        for place in absorbed {
            filled = OAuthToken {
                id: filled.id,
                ..merge(&self.rows[place], &filled)
            };
            gone.push(place);
        }
        if let Some(index) = &mut self.index {
            index.remove(&self.rows[kept]);
            index.insert(&filled);
        }
        self.rows[kept] = filled;
        // From the last on, so that the places of the others stay what they are.
        gone.sort_unstable();
        for place in gone.into_iter().rev() {
            self.remove(place);
        }
        id_of(merged)
    }

    fn remove(&mut self, place: usize) {
        let row = self.rows.remove(place);
        if let Some(index) = &mut self.index {
            index.remove(&row);
        }
    }

    /// The row that a save without a (stored) id updates.
    fn same_login(&self, token: &OAuthToken) -> Result<Option<usize>> {
        let identities = identities(token);
        if identities.is_empty() {
            return Err(match token.id {
                Some(_) => nothing_to_store(),
                None => nothing_to_identify(),
            });
        }
        Ok(identities
            .iter()
            .find_map(|identity| self.first_of(identity)))
    }

    /// Another row that has the identity which `merged` takes on by being saved over row `index`.
    fn other_identity(&self, index: usize, merged: &OAuthToken) -> Option<usize> {
        let identity = *identities(merged).first()?;
        // A row that had this identity all along keeps its id, whatever else has it too.
        if identity.matches(&self.rows[index]) {
            return None;
        }
        self.first_of(&identity)
    }

    fn insert(&mut self, mut token: OAuthToken) -> Result<TokenId> {
        if !token.holds_a_token() {
            return Err(nothing_to_store());
        }
        let id = match token.id {
            Some(id) => id,
            None => next_id(self.high_water)?,
        };
        token.id = Some(id);
        self.high_water = self.high_water.max(id.get());
        if let Some(index) = &mut self.index {
            index.insert(&token);
        }
        let place = self.rows.partition_point(|row| row.id < Some(id));
        self.rows.insert(place, token);
        Ok(id)
    }

    /// Deletes the row with this id; `true` if it was there.
    pub fn delete(&mut self, id: TokenId) -> bool {
        match self.position(id) {
            Some(place) => {
                self.remove(place);
                true
            }
            None => false,
        }
    }

    /// Deletes all rows and returns how many there were.
    pub fn clear(&mut self) -> usize {
        self.index = self.index.take().map(|_| Index::default());
        std::mem::take(&mut self.rows).len()
    }
}

/// Refuses to write the token of one user or client over the record of another.
pub(crate) fn check_same_login(stored: &OAuthToken, token: &OAuthToken) -> Result<()> {
    let differs = |what: &str| {
        let id = id_of(stored);
        let message = format!("the stored record {id} belongs to another {what}");
        Err(Error::new(ErrorCode::IdConflict, message))
    };
    match (&stored.user_name, &token.user_name) {
        (Some(stored), Some(given)) if stored != given => return differs("user"),
        _ => {}
    }
    match (&stored.client_id, &token.client_id) {
        (Some(stored), Some(given)) if stored != given => differs("client"),
        _ => Ok(()),
    }
}

/// Returns `stored` with every field that `token` fills, under the id of `stored`.
pub(crate) fn merge(stored: &OAuthToken, token: &OAuthToken) -> OAuthToken {
    fn pick<T: Clone>(token: Option<&T>, stored: Option<&T>) -> Option<T> {
        token.or(stored).cloned()
    }
    let same_access = token.access_token.is_none() || token.access_token == stored.access_token;
    let expiry_time = if token.access_token.is_none() && stored.access_token.is_some() {
        stored.expiry_time
    } else if same_access {
        token.expiry_time.or(stored.expiry_time)
    } else {
        token.expiry_time
    };
    OAuthToken {
        id: stored.id,
        user_name: pick(token.user_name.as_ref(), stored.user_name.as_ref()),
        client_id: pick(token.client_id.as_ref(), stored.client_id.as_ref()),
        client_secret: pick(token.client_secret.as_ref(), stored.client_secret.as_ref()),
        refresh_token: pick(token.refresh_token.as_ref(), stored.refresh_token.as_ref()),
        access_token: pick(token.access_token.as_ref(), stored.access_token.as_ref()),
        grant_token: pick(token.grant_token.as_ref(), stored.grant_token.as_ref()),
        expiry_time,
        redirect_url: pick(token.redirect_url.as_ref(), stored.redirect_url.as_ref()),
        api_domain: pick(token.api_domain.as_ref(), stored.api_domain.as_ref()),
    }
}

/// Returns the id after the highest that was ever given.
pub(crate) fn next_id(high_water: u64) -> Result<TokenId> {
    TokenId::new(high_water + 1).map_err(|_| {
        Error::new(
            ErrorCode::IdsExhausted,
            format!("the highest id, {}, has been given", TokenId::MAX),
        )
    })
}

pub(crate) fn deleted(id: TokenId) -> Error {
    Error::new(
        ErrorCode::RecordDeleted,
        format!("the stored record {id} was deleted"),
    )
}

pub(crate) fn nothing_to_identify() -> Error {
    Error::invalid_input(
        "the token has no id, user name, refresh, grant or access token to identify it by",
    )
}

pub(crate) fn nothing_to_store() -> Error {
    Error::invalid_input(
        "no such record is stored, and the token has no refresh, grant or access token to make one",
    )
}

#[cfg(test)]
mod tests;
