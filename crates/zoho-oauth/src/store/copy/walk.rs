//! Two stores walked side by side in the order of their ids, a page at a time.

use std::collections::VecDeque;
use std::fmt;

use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::store::TokenStore;
use crate::store::table::{Identity, identities};
use crate::token::{OAuthToken, TokenId};

/// Which of the two stores, for texts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Source,
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// A stored record, which always has an id.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: TokenId,
    pub(super) token: OAuthToken,
}

/// The records of one store in the order of their ids. Holds one page of them.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    store: &'a dyn TokenStore,
    side: Side,
    size: usize,
    after: Option<TokenId>,
    loaded: VecDeque<Row>,
    at_the_end: bool,
}

impl<'a> Pages<'a> {
    /// Starts behind `after`.
    pub(super) fn new(
        store: &'a dyn TokenStore,
        side: Side,
        size: usize,
        after: Option<TokenId>,
    ) -> Self {
        Self {
            store,
            side,
            size,
            after,
            loaded: VecDeque::new(),
            at_the_end: false,
        }
    }

    /// Returns the next page, which is empty at the end.
    pub(super) async fn next_page(&mut self) -> Result<Vec<Row>> {
        self.load().await?;
        Ok(self.loaded.drain(..).collect())
    }

    /// Returns the record with this id, if there is one, and forgets those before it. Ids must
    /// rise from call to call.
    pub(super) async fn seek(&mut self, id: TokenId) -> Result<Option<OAuthToken>> {
        loop {
            while self.loaded.front().is_some_and(|row| row.id < id) {
                self.loaded.pop_front();
            }
            match self.loaded.front() {
                Some(row) if row.id == id => {
                    return Ok(self.loaded.pop_front().map(|row| row.token));
                }
                Some(_) => return Ok(None),
                None if self.at_the_end => return Ok(None),
                None => {
                    // Nobody asks for what lies between.
                    self.after = self.after.max(TokenId::new(id.get() - 1).ok());
                    self.load().await?;
                }
            }
        }
    }

    async fn load(&mut self) -> Result<()> {
        if self.at_the_end || !self.loaded.is_empty() {
            return Ok(());
        }
        let page = self.store.get_tokens_page(self.after, self.size).await;
        let page = page.map_err(|error| error.about(format_args!("reading the {}", self.side)))?;
        self.at_the_end = page.len() < self.size;
        for token in page {
            // Else a store that ignores `after` would be read for ever.
            let Some(id) = token.id.filter(|_| token.id > self.after) else {
                let message = format!("the {} answers pages whose ids do not rise", self.side);
                return Err(Error::new(ErrorCode::StoreDamaged, message));
            };
            self.after = Some(id);
            self.loaded.push_back(Row { id, token });
        }
        Ok(())
    }
}

/// Returns the record that a save of `token` without an id would update.
///
/// A query asks for less than an [`Identity`] does: a user without a client may be found under any.
/// Where the answer is another login, which is rare, the whole store is read.
pub(super) async fn locate(
    store: &dyn TokenStore,
    side: Side,
    token: &OAuthToken,
    page_size: usize,
) -> Result<Option<OAuthToken>> {
    for identity in identities(token) {
        let Some(found) = store.find_token(&query(&identity)).await? else {
            continue;
        };
        if identity.matches(&found) {
            return Ok(Some(found));
        }
        let mut pages = Pages::new(store, side, page_size, None);
        loop {
            let page = pages.next_page().await?;
            if page.is_empty() {
                break;
            }
            let mut rows = page.into_iter();
            if let Some(row) = rows.find(|row| identity.matches(&row.token)) {
                return Ok(Some(row.token));
            }
        }
    }
    Ok(None)
}

/// A query that finds everything that `identity` matches, and perhaps more.
fn query(identity: &Identity<'_>) -> TokenQuery {
    let (query, client) = match *identity {
        Identity::User(name, client) => (TokenQuery::user_name(name.clone()), client),
        Identity::Refresh(token, client, _) => (TokenQuery::refresh_token(token.clone()), client),
        Identity::Grant(token, client, _) => (TokenQuery::grant_token(token.clone()), client),
        // A record without a client is the same login.
        Identity::Access(token, ..) => (TokenQuery::access_token(token.clone()), None),
    };
    match client {
        Some(client) => query.with_client(client.clone()),
        None => query,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ListStore;

    fn token(values: [&str; 4]) -> OAuthToken {
        let [id, user, client, refresh] = values.map(Some);
        let none = None;
        OAuthToken::from_fields(&[
            id, user, client, none, refresh, none, none, none, none, none,
        ])
        .unwrap()
    }

    async fn store(records: &[[&str; 4]]) -> ListStore {
        let store = ListStore::new();
        for record in records {
            store.save_token(&token(*record)).await.unwrap();
        }
        store
    }

    fn id(number: u64) -> TokenId {
        TokenId::new(number).unwrap()
    }

    #[tokio::test]
    async fn pages_are_walked_and_sought_in_the_order_of_ids() {
        let store = store(&[
            ["1", "a", "", "ra"],
            ["9", "b", "", "rb"],
            ["10", "c", "", "rc"],
            ["4711", "d", "", "rd"],
        ])
        .await;
        for size in 1..=5 {
            let mut pages = Pages::new(&store, Side::Source, size, None);
            let mut ids = Vec::new();
            loop {
                let page = pages.next_page().await.unwrap();
                if page.is_empty() {
                    break;
                }
                ids.extend(page.iter().map(|row| row.id.get()));
            }
            assert_eq!(ids, [1, 9, 10, 4711], "pages of {size}");

            let mut pages = Pages::new(&store, Side::Target, size, None);
            for (number, is_there) in [(1, true), (2, false), (10, true), (11, false), (4711, true)]
            {
                let found = pages.seek(id(number)).await.unwrap();
                assert_eq!(found.is_some(), is_there, "{number}, pages of {size}");
            }
            assert!(pages.seek(id(9999)).await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn a_login_is_located_as_a_save_would_find_it() {
        for (values, expected) in [
            (["", "ann", "c", "x"], Some(1)),
            // The query finds record 1 first, which is another login.
            (["", "ann", "", "x"], Some(2)),
            (["", "kim", "c", "r3"], Some(3)),
            (["", "", "c", "r1"], Some(1)),
            (["", "kim", "d", "r4"], None),
            (["", "", "", "r1"], None),
        ] {
            let store = store(&[
                ["1", "ann", "c", "r1"],
                ["2", "ann", "", "r2"],
                ["3", "", "c", "r3"],
                ["4", "bob", "d", "r4"],
            ])
            .await;
            let wanted = token(values);
            let found = locate(&store, Side::Target, &wanted, 2).await.unwrap();
            let found = found.and_then(|found| found.id).map(TokenId::get);
            assert_eq!(found, expected, "{values:?}");
            let saved = store.save_token(&wanted).await.unwrap().get();
            assert_eq!(saved, expected.unwrap_or(5), "{values:?}");
        }
    }
}
