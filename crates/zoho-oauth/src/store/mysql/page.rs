//! Pages in the order of the ids, of a table whose key is text, in which 10 comes before 9.
//!
//! Records were numbered one after the other, most of all: so the next numbers are asked for by
//! name, which costs as much as they are. Where numbers are missing for a long way, all ids are
//! looked at, once for the page and for as long as that takes, and so they are at the end of the
//! table, where something may lie further up. Ids of ten digits sort like numbers, and after one of
//! them they are read in a row.

use std::sync::Arc;

use mysql_async::{Row, Value};

use super::core::Core;
use super::fault::Fault;
use super::nodes::Tries;
use super::row::{damaged, decode};
use super::schema::{Fields, Schema};
use super::session::Session;
use super::sql::{FEW_IDS, MANY_IDS, text};
use crate::error::Result;
use crate::store::inventory::warn_once;
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
        Ok(self.add(rows))
    }

    /// Adds rows in their order, without those that cannot be read; answers how many were given.
    fn add(&mut self, rows: Vec<Row>) -> usize {
        let (start, count) = (self.rows.len(), rows.len());
        for row in rows {
            match decode(row, self.schema.table()) {
                Ok(row) => self.rows.push(row),
                Err(error) => warn_once(&error),
            }
        }
        self.rows[start..].sort_by_key(|row| row.id);
        count
    }

    /// Looks at all ids for those after `last`, once, and reads their rows.
    async fn look_further(&mut self, mut last: u64) -> Result<(), Fault> {
        loop {
            let wanted = self.limit - self.rows.len();
            let ids = self.ids_after(last, wanted).await?;
            let short = ids.partition_point(|&id| id < LONG);
            for some in ids[..short].chunks(MANY_IDS) {
                let count = if some.len() <= FEW_IDS {
                    FEW_IDS
                } else {
                    MANY_IDS
                };
                self.by_number(some, count).await?;
            }
            if let Some(first) = ids.get(short) {
                return self.long_ids(first - 1).await;
            }
            // Rows may be deleted in between; a page that is not full says that there are no more.
            match ids.last() {
                Some(&id) if ids.len() == wanted && !self.is_full() => last = id,
                _ => return Ok(()),
            }
        }
    }

    /// The first `wanted` ids after `last`.
    async fn ids_after(&mut self, last: u64, wanted: usize) -> Result<Vec<u64>, Fault> {
        let digits = last.to_string();
        let length = Value::UInt(if last == 0 { 0 } else { digits.len() as u64 });
        let values = vec![
            length.clone(),
            length,
            text(&digits),
            Value::UInt(wanted as u64),
        ];
        let sql = &self.schema.statements.next_ids;
        let rows = self.session.rows_of_all(sql, values).await?;
        let id = |row| Fields::of(row).text(0)?.parse::<TokenId>().ok();
        let count = rows.len();
        let ids: Vec<_> = rows.into_iter().filter_map(id).map(TokenId::get).collect();
        if ids.len() < count {
            warn_once(&damaged(self.schema.table(), None, 0, "is no id"));
        }
        Ok(ids)
    }

    /// Reads the rows with ids of ten digits.
    async fn long_ids(&mut self, last: u64) -> Result<(), Fault> {
        // As text, "1" comes before all of ten digits, and 999999999 after them.
        let mut last = if last < LONG { 1 } else { last };
        while !self.is_full() {
            let wanted = self.limit - self.rows.len();
            let values = vec![text(&last.to_string()), Value::UInt(wanted as u64)];
            let sql = &self.schema.statements.longest_page;
            // Shorter ids lie between them.
            let rows = self.session.rows_of_all(sql, values).await?;
            let id = |row: &Row| match row.as_ref(0) {
                Some(Value::Bytes(id)) => std::str::from_utf8(id).ok()?.parse().ok(),
                _ => None,
            };
            let highest = rows.iter().filter_map(id).map(TokenId::get).max();
            match highest {
                Some(highest) if self.add(rows) == wanted => last = highest,
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}
