//! A store and the rule book side by side.

use super::factory::StoreFactory;
use super::sample::{describe, difference, token};
use super::subject::{Subject, ensure};
use super::{Verdict, Violation};
use crate::query::TokenQuery;
use crate::store::TokenTable;
use crate::token::{OAuthToken, TokenId};

/// A store under test and a [`TokenTable`], which get the same calls and must give the same answers.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) subject: Subject,
    pub(super) table: TokenTable,
    /// The ids of all records that were inserted, in that order.
    pub(super) given: Vec<TokenId>,
}

impl Pair {
    pub(super) async fn open(factory: &StoreFactory) -> Result<Self, Violation> {
        Ok(Self {
            subject: Subject::open(factory).await?,
            table: TokenTable::new(),
            given: Vec::new(),
        })
    }

    /// Saves records, each of which the rule book takes or refuses. `#2` in front stands for the
    /// id of the record that was inserted second.
    pub(super) async fn save_each(&mut self, saves: &[&str]) -> Verdict {
        for save in saves {
            let (number, fields) = match save.strip_prefix('#') {
                Some(rest) => rest.split_once(' ').unwrap_or((rest, "")),
                None => ("", *save),
            };
            let mut record = token(fields);
            if let Ok(number) = number.parse::<usize>() {
                record.id = Some(self.given[number - 1]);
            }
            self.save(&record).await?;
        }
        Ok(())
    }

    /// Starts over with an empty store, then saves records as [`save_each`](Self::save_each) does.
    pub(super) async fn scenario(
        factory: &StoreFactory,
        saves: &[&str],
    ) -> Result<Self, Violation> {
        let mut pair = Self::open(factory).await?;
        let done = pair.save_each(saves).await;
        done.map_err(|violation| violation.at(format!("in the sequence {saves:?}")))?;
        Ok(pair)
    }

    /// Saves a record and compares the answer and everything that is stored.
    pub(super) async fn save(&mut self, token: &OAuthToken) -> Verdict {
        let mut next = self.table.clone();
        let what = describe(token);
        match (next.save(token), self.subject.store.save_token(token).await) {
            (Ok(expected), Ok(id)) => {
                let is_new = self.table.find_by_id(expected).is_none();
                if is_new && token.id.is_none() && id != expected {
                    // A store may skip numbers, but never go back.
                    next = self.insert_as(token, id)?;
                } else {
                    ensure!(
                        id == expected,
                        "saving `{what}` should answer the id {expected} and answered {id}"
                    );
                }
                if is_new {
                    self.given.push(id);
                }
                self.table = next;
            }
            (Err(expected), Err(error)) => ensure!(
                error.code() == expected.code(),
                "saving `{what}` should fail with `{}` and failed with `{}`: {}",
                expected.code().as_str(),
                error.code().as_str(),
                error.message()
            ),
            (Err(expected), Ok(id)) => {
                return Err(Violation::new(format!(
                    "saving `{what}` should fail with `{}` and answered the id {id}",
                    expected.code().as_str()
                )));
            }
            (Ok(_), Err(error)) => {
                let failed = Violation::error("`save_token` failed", &error);
                return Err(failed.at(format!("`{what}`")));
            }
        }
        self.same_rows()
            .await
            .map_err(|violation| violation.at(format!("after saving `{what}`")))
    }

    /// The table after `token` was inserted under the id that the store gave.
    fn insert_as(&self, token: &OAuthToken, id: TokenId) -> Result<TokenTable, Violation> {
        ensure!(
            Some(id) > self.table.highest_id(),
            "a new record got the id {id}, but the ids up to {} were given before",
            self.table.highest_id().map_or(0, TokenId::get)
        );
        let (mut next, mut moved) = (self.table.clone(), token.clone());
        moved.id = Some(id);
        let saved = next.save(&moved);
        let error = |error| Violation::error("the rule book failed", &error);
        saved.map_err(error).map(|_| next)
    }

    pub(super) async fn delete(&mut self, id: TokenId) -> Verdict {
        let (expected, deleted) = (self.table.delete(id), self.subject.delete(id).await?);
        ensure!(
            deleted == expected,
            "`delete_token({id})` should answer {expected} and answered {deleted}"
        );
        self.same_rows()
            .await
            .map_err(|violation| violation.at(format!("after `delete_token({id})`")))
    }

    pub(super) async fn clear(&mut self) -> Verdict {
        let (expected, deleted) = (self.table.clear(), self.subject.clear().await?);
        ensure!(
            deleted == expected,
            "`delete_tokens` should answer {expected} and answered {deleted}"
        );
        self.same_rows()
            .await
            .map_err(|violation| violation.at("after `delete_tokens`"))
    }

    pub(super) async fn find(&self, query: &TokenQuery) -> Verdict {
        self.subject.finds(query, self.table.find(query)).await
    }

    pub(super) async fn find_by_id(&self, id: TokenId) -> Verdict {
        let (expected, found) = (self.table.find_by_id(id), self.subject.by_id(id).await?);
        ensure!(
            found.as_ref() == expected,
            "`find_token_by_id({id})` should find {} and found {}",
            expected.map_or_else(|| "nothing".into(), describe),
            found.as_ref().map_or_else(|| "nothing".into(), describe)
        );
        Ok(())
    }

    async fn same_rows(&self) -> Verdict {
        let rows = self.subject.all().await?;
        let expected = self.table.rows();
        ensure!(rows == expected, "{}", difference(expected, &rows));
        Ok(())
    }
}
