//! [`ListStore`]: tokens in the memory of this process, gone with it.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Fact, Inventory, Kept, Ruling, TokenStore, TokenTable};
use crate::error::Result;
use crate::query::TokenQuery;
use crate::token::{OAuthToken, TokenId};

/// Keeps tokens in memory. For tests, for tools that log in each time, and as an example.
///
/// *Layout*: a [`TokenTable`] behind a lock. *Atomicity*: every operation holds the lock.
/// *Durability*: none; the tokens are wiped when the store is dropped. *Limits*: memory. Look-ups
/// and saves cost the same at ten tokens and at 100,000; a delete moves the tokens behind it up,
/// below a millisecond at 100,000.
#[derive(Debug, Default)]
pub struct ListStore {
    table: Mutex<TokenTable>,
}

impl ListStore {
    /// Returns an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, work: impl FnOnce(&mut TokenTable) -> T) -> T {
        // A panic cannot leave the table half changed: `TokenTable` decides before it writes.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut table)
    }
}

#[async_trait]
impl TokenStore for ListStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        Ok(self.with(|table| table.find(query).cloned()))
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        self.with(|table| table.save(token))
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        Ok(self.with(|table| table.delete(id)))
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        Ok(self.with(|table| table.rows().to_vec()))
    }

    async fn delete_tokens(&self) -> Result<usize> {
        Ok(self.with(TokenTable::clear))
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        Ok(self.with(|table| table.find_by_id(id).cloned()))
    }

    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        Ok(self.with(|table| {
            let rows = table.rows();
            let first = rows.partition_point(|row| row.id <= after);
            rows[first..].iter().take(limit).cloned().collect()
        }))
    }

    async fn inventory(&self) -> Result<Option<Inventory>> {
        Ok(Some(Inventory::of(self.with(|table| table.rows().len()))))
    }

    async fn save_fact(&self, fact: &Fact) -> Result<Kept> {
        self.with(|table| {
            let stored = table.find_by_id(fact.id());
            match fact.ruling(stored) {
                Ruling::Save(record) => table.save(&record).map(|_| Kept::Saved),
                ruling => Ok(ruling.kept(stored)),
            }
        })
    }
}
