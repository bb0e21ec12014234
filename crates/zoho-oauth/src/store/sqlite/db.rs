//! One connection and what is asked of it. Everything here blocks.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, Params, Rows, params};

use super::fault::Place;
use super::row;
use super::sql::{Lookup, Statements};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::secret::{AccessToken, GrantToken, RefreshToken};
use crate::store::Memo;
use crate::store::table::Identity;
use crate::token::{OAuthToken, TokenId};

/// How long what is remembered of a login that is not stored is of use.
const LIFE_OF_A_START: Duration = Duration::from_hours(1);

/// A connection with the store's statements.
#[derive(Debug)]
pub(super) struct Db {
    pub(super) connection: Connection,
    pub(super) statements: Arc<Statements>,
    pub(super) place: Arc<Place>,
}

impl Db {
    pub(super) fn new(
        connection: Connection,
        statements: Arc<Statements>,
        place: Arc<Place>,
    ) -> Result<Self> {
        connection.set_prepared_statement_cache_capacity(statements.count());
        // Plans must not depend on the values that are bound, or SQLite prepares a statement anew
        // for each of them, which takes five times as long as the look-up itself.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(|error| place.fault(&error))?;
        Ok(Self {
            connection,
            statements,
            place,
        })
    }

    fn statement(&self, sql: &str) -> Result<CachedStatement<'_>> {
        self.connection
            .prepare_cached(sql)
            .map_err(|error| self.place.fault(&error))
    }

    /// Runs a statement that returns no rows; answers how many it changed.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.statement(sql)?
            .execute(params)
            .map_err(|error| self.place.fault(&error))
    }

    fn records(&self, sql: &str, params: impl Params) -> Result<Vec<OAuthToken>> {
        let fault = |error| self.place.fault(&error);
        let mut statement = self.statement(sql)?;
        let mut rows = statement.query(params).map_err(fault)?;
        let mut records = Vec::new();
        while let Some(row) = rows.next().map_err(fault)? {
            records.push(row::decode(row, &self.place)?);
        }
        Ok(records)
    }

    /// The first row of an answer.
    fn next(&self, mut rows: Rows<'_>) -> Result<Option<OAuthToken>> {
        let row = rows.next().map_err(|error| self.place.fault(&error))?;
        row.map(|row| row::decode(row, &self.place)).transpose()
    }

    /// The row with this id. One that merely looks like it, '05' beside 5, is damage, and told of
    /// if there is no other.
    pub(super) fn by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        let fault = |error| self.place.fault(&error);
        let mut statement = self.statement(&self.statements.by_id)?;
        let mut rows = statement.query([number(id)]).map_err(fault)?;
        let mut damage = None;
        while let Some(row) = rows.next().map_err(fault)? {
            match row::decode(row, &self.place) {
                Ok(record) => return Ok(Some(record)),
                Err(error) => damage = damage.or(Some(error)),
            }
        }
        damage.map_or(Ok(None), Err)
    }

    pub(super) fn find(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.look_up(&Lookup::query(query))
    }

    /// The row with the lowest id that matches.
    pub(super) fn first(&self, identity: &Identity<'_>) -> Result<Option<OAuthToken>> {
        self.look_up(&Lookup::identity(identity))
    }

    fn look_up(&self, lookup: &Lookup<'_>) -> Result<Option<OAuthToken>> {
        let mut statement = self.statement(self.statements.lookup(lookup))?;
        // A parameter behind the last one that the statement mentions cannot be bound.
        let count = statement.parameter_count();
        for (index, value) in lookup.values.iter().take(count).enumerate() {
            statement
                .raw_bind_parameter(index + 1, value)
                .map_err(|error| self.place.fault(&error))?;
        }
        self.next(statement.raw_query())
    }

    /// All other rows without a user name that share a token with this record, by id.
    pub(super) fn twins(&self, id: TokenId, token: &OAuthToken) -> Result<Vec<OAuthToken>> {
        let refresh = token.refresh_token.as_ref();
        let grant = token.grant_token.as_ref();
        let access = token.access_token.as_ref();
        let mut twins = self.records(
            &self.statements.twins,
            params![
                refresh.map(RefreshToken::expose_secret),
                grant.map(GrantToken::expose_secret),
                access.map(AccessToken::expose_secret),
                number(id),
            ],
        )?;
        // One that shares two tokens came twice.
        twins.sort_by_key(|twin| twin.id);
        twins.dedup_by_key(|twin| twin.id);
        Ok(twins)
    }

    /// The highest id that was ever given, 0 before the first.
    pub(super) fn highest_id(&self) -> Result<u64> {
        let mut statement = self.statement(&self.statements.highest_id)?;
        let highest: i64 = statement
            .query_row([self.place.table()], |row| row.get(0))
            .map_err(|error| self.place.fault(&error))?;
        Ok(u64::try_from(highest).unwrap_or(0))
    }

    pub(super) fn insert(&self, token: &OAuthToken) -> Result<()> {
        self.write(&self.statements.insert, token).map(drop)
    }

    /// Writes over the row with the id of `token`, which is there.
    pub(super) fn update(&self, token: &OAuthToken) -> Result<()> {
        match (self.write(&self.statements.update, token)?, token.id) {
            (2.., Some(id)) => Err(self.repeated(id)),
            _ => Ok(()),
        }
    }

    fn write(&self, sql: &str, token: &OAuthToken) -> Result<usize> {
        let mut statement = self.statement(sql)?;
        row::bind(&mut statement, token)
            .and_then(|()| statement.raw_execute())
            .map_err(|error| self.place.fault(&error))
    }

    pub(super) fn delete(&self, id: TokenId) -> Result<bool> {
        match self.execute(&self.statements.delete, [number(id)])? {
            2.. => Err(self.repeated(id)),
            deleted => Ok(deleted > 0),
        }
    }

    pub(super) fn clear(&self) -> Result<usize> {
        self.execute(&self.statements.clear, [])
    }

    /// All rows in the order of their ids.
    pub(super) fn all(&self) -> Result<Vec<OAuthToken>> {
        let rows = self.records(&self.statements.all, [])?;
        self.without_repeats(rows)
    }

    /// Up to `limit` rows with ids above `after`, in the order of their ids.
    pub(super) fn page(&self, after: Option<TokenId>, limit: usize) -> Result<Vec<OAuthToken>> {
        let most = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
        let Some(after) = after else {
            let rows = self.records(&self.statements.first_page, [most(limit)])?;
            return self.without_repeats(rows);
        };
        // From the last row on, so that one which looks like it is reported and not passed over.
        let bounds = [number(after), most(limit.saturating_add(1))];
        let mut rows = self.without_repeats(self.records(&self.statements.page, bounds)?)?;
        rows.retain(|row| row.id != Some(after));
        rows.truncate(limit);
        Ok(rows)
    }

    fn without_repeats(&self, rows: Vec<OAuthToken>) -> Result<Vec<OAuthToken>> {
        let repeated = rows.windows(2).find(|pair| pair[0].id == pair[1].id);
        match repeated.and_then(|pair| pair[0].id) {
            None => Ok(rows),
            Some(id) => Err(self.repeated(id)),
        }
    }

    /// The official table cannot hold an id twice; one that was made otherwise can. A write that
    /// meets such a pair is taken back with its savepoint: whose login it is, nobody knows.
    fn repeated(&self, id: TokenId) -> Error {
        Error::new(
            ErrorCode::StoreDamaged,
            format!(
                "table `{}` of {} has two records with the id {id}",
                self.place.table(),
                self.place.name()
            ),
        )
    }

    pub(super) fn memo(&self, key: &str) -> Result<Option<String>> {
        let fault = |error| self.place.fault(&error);
        let mut statement = self.statement(self.statements.memo)?;
        let mut rows = statement.query([self.place.table(), key]).map_err(fault)?;
        let row = rows.next().map_err(fault)?;
        row.map(|row| row.get(0)).transpose().map_err(fault)
    }

    pub(super) fn set_memo(&self, key: &str, memo: Option<&str>) -> Result<()> {
        let table = self.place.table();
        match memo {
            Some(memo) => self.execute(self.statements.set_memo, [table, key, memo])?,
            None => self.execute(self.statements.forget_memo, [table, key])?,
        };
        Ok(())
    }

    /// Forgets what was remembered of logins that never became a record, if it is old beside what
    /// was just written of `key`. The next few in the order of the keys, which is chance: each new
    /// one takes some away, and none takes long.
    pub(super) fn forget_old_starts(&self, key: &str, newest: Timestamp) -> Result<()> {
        let fault = |error| self.place.fault(&error);
        let table = self.place.table();
        let mut statement = self.statement(self.statements.next_starts)?;
        let starts = statement
            .query_map([table, key], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect::<rusqlite::Result<Vec<(String, String)>>>)
            .map_err(fault)?;
        for (start, memo) in starts {
            let latest = serde_json::from_str(&memo)
                .ok()
                .as_ref()
                .and_then(Memo::latest);
            if latest.is_none_or(|at| at < newest.before(LIFE_OF_A_START)) {
                self.execute(self.statements.forget_memo, [table, &start])?;
            }
        }
        Ok(())
    }
}

/// An id as SQLite's integer.
fn number(id: TokenId) -> i64 {
    i64::try_from(id.get()).expect("an id has at most ten digits")
}
