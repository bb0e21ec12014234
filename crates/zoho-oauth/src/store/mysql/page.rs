//! Pages in the order of the ids, of a table whose key is text, in which 10 comes before 9.
//!
//! Records were numbered one after the other, most of all: so the next numbers are asked for by
//! name, which costs as much as they are. Where numbers are missing for a long way, all ids are
//! looked at once, and so they are at the end of the table, where something may lie further up. Ids
//! of ten digits sort like numbers, and are read in a row.

use std::sync::Arc;

use mysql_async::{Row, Value};

use super::core::Core;
use super::fault::Fault;
use super::nodes::Tries;
use super::row::decode;
use super::schema::{Fields, Schema};
use super::session::Session;
use super::sql::{FEW_IDS, MANY_IDS, text};
use crate::error::Result;
use crate::token::{OAuthToken, TokenId};

/// The first id of ten digits.
const LONG: u64 = 1_000_000_000;

impl Core {
    /// Up to `limit` rows with ids above `after`, in the order of their ids.
    pub(super) async fn page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        let mut tries = self.tries();
        loop {
            let mut session = tries.session().await?;
            let outcome = self.page_once(&mut session, &tries, (after, limit)).await;
            if let Some(rows) = tries.settle(session, outcome).await? {
                return Ok(rows);
            }
        }
    }

    async fn page_once(
        &self,
        session: &mut Session,
        tries: &Tries<'_>,
        (after, limit): (Option<TokenId>, usize),
    ) -> Result<Vec<OAuthToken>, Fault> {
        let schema = self.current(session, tries).await?;
        let mut page = Page {
            session,
            schema,
            rows: Vec::new(),
            limit,
        };
        let last = after.map_or(0, TokenId::get);
        let last = page.next_numbers(last).await?;
        if !page.is_full() && last < LONG - 1 {
            page.look_further(last).await?;
        } else {
            page.long_ids(last.max(LONG - 1)).await?;
        }
        page.rows.truncate(limit);
        Ok(page.rows)
    }
}

struct Page<'a> {
    session: &'a mut Session,
    schema: Arc<Schema>,
    rows: Vec<OAuthToken>,
    limit: usize,
}

impl Page<'_> {
    fn is_full(&self) -> bool {
        self.rows.len() >= self.limit
    }

    /// Reads the rows with the numbers after `last`, as long as a fair part of them is there.
    /// Answers the last number that was asked for.
    async fn next_numbers(&mut self, mut last: u64) -> Result<u64, Fault> {
        while !self.is_full() && last < LONG - 1 {
            let wanted = self.limit - self.rows.len();
            let count = if wanted <= FEW_IDS { FEW_IDS } else { MANY_IDS };
            let ids: Vec<_> = (last + 1..LONG).take(count).collect();
            let found = self.by_number(&ids, count).await?;
            last += ids.len() as u64;
            if found < count / 32 {
                break;
            }
        }
        Ok(last)
    }

    /// Reads the rows with these numbers and adds them in their order; answers how many.
    async fn by_number(&mut self, ids: &[u64], count: usize) -> Result<usize, Fault> {
        let Some(filler) = ids.last() else {
            return Ok(0);
        };
        let padded = ids.iter().chain(std::iter::repeat(filler)).take(count);
        let values = padded.map(|id| text(&id.to_string())).collect();
        let sql = self.schema.statements.by_ids(count);
        let rows = self.session.rows(&sql, values).await?;
        self.add(rows)
    }

    fn add(&mut self, rows: Vec<Row>) -> Result<usize, Fault> {
        let start = self.rows.len();
        for row in rows {
            self.rows.push(decode(row, self.schema.table())?);
        }
        self.rows[start..].sort_by_key(|row| row.id);
        Ok(self.rows.len() - start)
    }

    /// Looks at all ids for those after `last`.
    async fn look_further(&mut self, last: u64) -> Result<(), Fault> {
        while !self.is_full() {
            let last = self
                .rows
                .last()
                .and_then(|row| row.id)
                .map_or(last, |id| last.max(id.get()));
            let digits = last.to_string();
            let length = Value::UInt(if last == 0 { 0 } else { digits.len() as u64 });
            let wanted = (self.limit - self.rows.len()).min(MANY_IDS);
            let values = vec![
                length.clone(),
                length,
                text(&digits),
                Value::UInt(wanted as u64),
            ];
            let rows = self
                .session
                .rows(&self.schema.statements.next_ids, values)
                .await?;
            let mut ids = Vec::new();
            for row in rows {
                match Fields::of(row)
                    .text(0)
                    .and_then(|id| id.parse::<TokenId>().ok())
                {
                    Some(id) => ids.push(id.get()),
                    // The row says what is wrong with it.
                    None => return self.damaged().await,
                }
            }
            let is_last = ids.len() < wanted;
            let count = if ids.len() <= FEW_IDS {
                FEW_IDS
            } else {
                MANY_IDS
            };
            let found = self.by_number(&ids, count).await?;
            if is_last || found == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads the rows with ids of ten digits.
    async fn long_ids(&mut self, last: u64) -> Result<(), Fault> {
        if self.is_full() {
            return Ok(());
        }
        let wanted = self.limit - self.rows.len();
        // As text, "1" comes before all of ten digits, and 999999999 after them.
        let last = if last < LONG { 1 } else { last };
        let values = vec![text(&last.to_string()), Value::UInt(wanted as u64)];
        let sql = &self.schema.statements.longest_page;
        let rows = self.session.rows(sql, values).await?;
        self.add(rows).map(drop)
    }

    /// An id that is none is reported, as it is for all rows.
    async fn damaged(&mut self) -> Result<(), Fault> {
        let table = self.schema.table();
        let sql = &self.schema.statements.all;
        self.session
            .each_row(sql, |row| decode(row, table).map(drop))
            .await
    }
}
