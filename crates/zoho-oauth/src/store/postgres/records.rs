//! The operations, each one statement, and what became of it when the answer was lost.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::FromSqlOwned;

use super::server::{Extent, Others, Server, Told, Watch};
use super::sql::signed;
use super::value::{Value, decode, rest};
use crate::error::Result;
use crate::query::TokenQuery;
use crate::store::inventory::warn_once;
use crate::store::rows::{Bad, Found, Mark, Plan, RowServer, Wanted, is_done};
use crate::store::{CoordinationKey, Inventory};
use crate::token::{OAuthToken, TokenId};

impl Server {
    /// The first row that can be read, of a statement that answers with one row. Where that cannot be
    /// read, one of the others may be.
    async fn first(&self, sql: &str, values: &[Value<'_>]) -> Result<Option<OAuthToken>> {
        let place = &self.line.place;
        let told = self.ask(sql, values).await?;
        let Some(first) = told.rows.first() else {
            return Ok(None);
        };
        let damage = match decode(first, place) {
            Ok(found) => return Ok(Some(found)),
            Err(error) => error,
        };
        let told = self.ask(sql.trim_end_matches(" LIMIT 1"), values).await?;
        let mut rows = told.rows.iter().filter_map(|row| decode(row, place).ok());
        rows.next().map_or(Err(damage), |row| Ok(Some(row)))
    }

    /// The rows that can be read.
    fn readable(&self, rows: &[Row]) -> Vec<OAuthToken> {
        let records = rows.iter().map(|row| decode(row, &self.line.place));
        records
            .filter_map(|record| record.map_err(|error| warn_once(&error)).ok())
            .collect()
    }

    /// How many rows there are, and which of them cannot be read.
    pub(super) async fn inventory(&self) -> Result<Inventory> {
        let all = &self.statements.all;
        let told = self
            .line
            .ask_about(Extent::All, &self.statements.count, &[]);
        let told = told.await.map_err(|failure| failure.error)?;
        let count = usize::try_from(self.count(&told, 0)?).unwrap_or(usize::MAX);
        let told = self.line.ask_about(Extent::All, all, &[]);
        let told = told.await.map_err(|failure| failure.error)?;
        let mut inventory = Inventory::of(count);
        let records = told.rows.iter().map(|row| decode(row, &self.line.place));
        let unreadable = records.filter_map(Result::err);
        inventory.unreadable = unreadable.map(|error| error.message().to_owned()).collect();
        Ok(inventory)
    }

    /// The value of a column of an answer that is one row.
    fn one<T: FromSqlOwned>(&self, told: &Told, column: usize) -> Result<Option<T>> {
        let Some(row) = told.rows.first() else {
            return Ok(None);
        };
        let value = row.try_get(column);
        value.map_err(|error| self.line.place.unreadable(&error))
    }

    pub(super) fn count(&self, told: &Told, column: usize) -> Result<u64> {
        let count = self.one::<i64>(told, column)?;
        Ok(count
            .and_then(|count| u64::try_from(count).ok())
            .unwrap_or(0))
    }

    pub(super) fn optional<T: FromSqlOwned>(
        &self,
        told: &Told,
        column: usize,
    ) -> Result<Option<T>> {
        Ok(self.one::<Option<T>>(told, column)?.flatten())
    }

    pub(super) async fn find(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        let (sql, values) = self.statements.find(query);
        self.first(sql, &values).await
    }

    pub(super) async fn by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        let (sql, values) = self.statements.by_id(id);
        self.first(sql, &values).await
    }

    pub(super) async fn all(&self) -> Result<Vec<OAuthToken>> {
        let told = self.line.ask_about(Extent::All, &self.statements.all, &[]);
        let told = told.await.map_err(|failure| failure.error)?;
        Ok(self.readable(&told.rows))
    }

    pub(super) async fn page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        let mut after = after.map(|id| id.to_string());
        let mut records = Vec::new();
        loop {
            // What no id can be comes before all of them.
            let length = after.as_ref().map_or(-1, |id| {
                i64::try_from(id.chars().count()).unwrap_or(i64::MAX)
            });
            let wanted = limit - records.len();
            let values = [
                Value::Number(length),
                Value::text(after.unwrap_or_default()),
                Value::Number(i64::try_from(wanted).unwrap_or(i64::MAX)),
            ];
            let told = self
                .line
                .ask_about(Extent::All, &self.statements.page, &values);
            let told = told.await.map_err(|failure| failure.error)?;
            records.extend(self.readable(&told.rows));
            let last = told.rows.last().filter(|_| told.rows.len() == wanted);
            match last.and_then(|row| row.try_get::<_, Option<String>>(0).ok()?) {
                // A page that is not full would be the last one.
                Some(last) if records.len() < limit => after = Some(last),
                _ => return Ok(records),
            }
        }
    }

    /// Deletes a record. When the answer was lost on the way and the record is gone, it was there.
    pub(super) async fn delete(&self, id: TokenId) -> Result<bool> {
        let key = CoordinationKey::record(id);
        let values = [
            Value::text(&*self.line.place.table),
            Value::id(id),
            Value::text(key.as_str()),
            Value::Number(signed(id.get())),
            Value::text(&*self.channel),
        ];
        let watch = self.watch(Changes::Delete, Vec::new(), vec![id]);
        let told = self
            .line
            .ask_watched(
                Extent::Few,
                &self.statements.delete,
                &values,
                watch.as_ref(),
            )
            .await
            .map_err(|failure| failure.error)?;
        if self.count(&told, 0)? == 0 {
            return Err(self.no_mark());
        }
        Ok(self.count(&told, 1)? > 0 || told.may_be_done)
    }

    /// Deletes all records. When the answer was lost on the way, those are counted that were left.
    pub(super) async fn clear(&self) -> Result<usize> {
        let values = [
            Value::text(&*self.line.place.table),
            Value::text(&*self.channel),
        ];
        let watch = self.is_watched.then(|| Watch {
            sql: format!("SELECT 1 FROM {} LIMIT 1", self.statements.table),
            values: Vec::new(),
            is_fine: Box::new(|_, left| left.is_empty()),
            others: None,
        });
        let told = self
            .line
            .ask_watched(Extent::All, &self.statements.clear, &values, watch.as_ref())
            .await
            .map_err(|failure| failure.error)?;
        if self.count(&told, 0)? == 0 {
            return Err(self.no_mark());
        }
        Ok(usize::try_from(self.count(&told, 1)?).unwrap_or(usize::MAX))
    }
}

/// What a write changes, as it answers.
#[derive(Clone, Copy, Debug)]
enum Changes {
    /// As many rows as its first column says.
    Update,
    /// As many rows as its second column says.
    Delete,
    /// All that was planned, if its first column says so.
    Plan { inserts: i64, updates: i64 },
}

fn count_in(row: &Row, column: usize) -> i64 {
    row.try_get(column).unwrap_or(0)
}

#[async_trait]
impl RowServer for Server {
    async fn rows(&self, wanted: &[Wanted]) -> Result<Vec<OAuthToken>> {
        self.look(wanted).await?.all()
    }

    async fn look(&self, wanted: &[Wanted]) -> Result<Found> {
        let mut found = Found::default();
        if wanted.is_empty() {
            return Ok(found);
        }
        let (sql, values) = self.statements.rows(wanted);
        let told = self.ask(&sql, &values).await?;
        let mut rows = Vec::with_capacity(told.rows.len());
        for row in &told.rows {
            match decode(row, &self.line.place) {
                Ok(row) => rows.push(row),
                Err(error) => found.bad.push(Bad::new(rest(row), error)),
            }
        }
        // One statement sees one moment, so a row that comes twice is the same twice, unless
        // another program gave two rows one id.
        let mut each = BTreeMap::new();
        for row in rows {
            match each.entry(row.id) {
                Entry::Vacant(free) => {
                    free.insert(row);
                }
                Entry::Occupied(same) if *same.get() == row => {}
                Entry::Occupied(_) => {
                    let id = row.id.map_or(0, TokenId::get);
                    let what = format!("two records have the id {id}");
                    return Err(self.line.place.damaged(&what));
                }
            }
        }
        found.rows = each.into_values().collect();
        Ok(found)
    }

    async fn mark(&self) -> Result<Mark> {
        let table = Value::text(&*self.line.place.table);
        let told = self.ask(&self.statements.mark, &[table]).await?;
        if told.rows.is_empty() {
            return Err(self.no_mark());
        }
        Ok(Mark {
            highest_id: self.count(&told, 0)?,
            writes: self.count(&told, 1)?,
        })
    }

    async fn replace(&self, old: &OAuthToken, new: &OAuthToken) -> Result<bool> {
        let is_told = old.refresh_token != new.refresh_token;
        let channel = is_told.then_some(&*self.channel);
        let (sql, values) = self.statements.replace(old, new, channel);
        let watch = self.watch(Changes::Update, vec![new], Vec::new());
        let told = self
            .line
            .ask_watched(Extent::Few, sql, &values, watch.as_ref())
            .await
            .map_err(|failure| failure.error)?;
        if self.count(&told, 0)? > 0 {
            return Ok(true);
        }
        let Some(id) = new.id.filter(|_| told.may_be_done) else {
            return Ok(false);
        };
        Ok(self.by_id(id).await?.as_ref() == Some(new))
    }

    async fn apply(&self, mark: &Mark, plan: &Plan) -> Result<bool> {
        let table = &self.line.place.table;
        let (sql, values) = self.statements.apply(table, mark, plan, &self.channel);
        let written = plan.update.iter().map(|(_, new)| new).chain(&plan.insert);
        let gone = plan.delete.iter().filter_map(|row| row.id);
        let changes = Changes::Plan {
            inserts: i64::from(plan.insert.is_some()),
            updates: i64::from(plan.update.is_some()),
        };
        let watch = self.watch(changes, written.collect(), gone.collect());
        let work = self
            .line
            .ask_watched(Extent::Few, &sql, &values, watch.as_ref());
        let told = match work.await {
            Ok(told) => told,
            // Another program, which knows of no mark, was faster with the id.
            Err(failure) if failure.is_twin() && self.is_taken(plan).await? => return Ok(false),
            Err(failure) => return Err(failure.error),
        };
        Ok(self.count(&told, 0)? > 0 || (told.may_be_done && is_done(self, plan).await?))
    }
}

impl Server {
    /// Where the table has triggers: after a write that was done, finds these rows as they were
    /// written, none with the ids that are gone, and no change of another row.
    fn watch<'a>(
        &'a self,
        changes: Changes,
        written: Vec<&'a OAuthToken>,
        gone: Vec<TokenId>,
    ) -> Option<Watch<'a>> {
        if !self.is_watched {
            return None;
        }
        let deletes = i64::try_from(gone.len()).unwrap_or(i64::MAX);
        let ids = written.iter().filter_map(|row| row.id).chain(gone);
        let ids: Vec<_> = ids.map(Wanted::Id).collect();
        let others = Others {
            counts: self.statements.counts.clone(),
            expected: Box::new(move |answer| {
                let done = |column| answer.first().map_or(0, |row| count_in(row, column));
                match changes {
                    Changes::Update => [0, done(0), 0],
                    Changes::Delete => [0, 0, done(1)],
                    Changes::Plan { inserts, updates } => {
                        [inserts, updates, deletes].map(|count| count * done(0))
                    }
                }
            }),
        };
        let (sql, values) = self.statements.rows(&ids);
        let values = values.into_iter().map(Value::owned).collect();
        let is_fine = move |answer: &[Row], found: &[Row]| {
            let is_done = |row: &Row| count_in(row, 0) > 0;
            let found: Vec<_> = found
                .iter()
                .map(|row| decode(row, &self.line.place).ok())
                .collect();
            let is_there =
                |row: &&OAuthToken| found.iter().any(|found| found.as_ref() == Some(*row));
            !answer.iter().any(is_done)
                || (found.len() == written.len() && written.iter().all(is_there))
        };
        Some(Watch {
            sql,
            values,
            is_fine: Box::new(is_fine),
            others: Some(others),
        })
    }

    async fn is_taken(&self, plan: &Plan) -> Result<bool> {
        match plan.insert.as_ref().and_then(|row| row.id) {
            Some(id) => Ok(self.by_id(id).await?.is_some()),
            None => Ok(false),
        }
    }
}
