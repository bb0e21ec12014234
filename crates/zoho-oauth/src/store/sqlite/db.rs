//! One connection and what is asked of it. Everything here blocks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::Action;
use rusqlite::{CachedStatement, Connection, Params, Rows, params, params_from_iter};

use super::fault::Place;
use super::row;
use super::sql::{Lookup, Statements};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::secret::{AccessToken, GrantToken, RefreshToken};
use crate::store::table::Identity;
use crate::store::{Inventory, Memo};
use crate::token::{OAuthToken, TokenId};

/// How long what is remembered of a login that is not stored is of use.
const LIFE_OF_A_START: Duration = Duration::from_hours(1);

/// A connection with the store's statements.
#[derive(Debug)]
pub(super) struct Db {
    pub(super) connection: Connection,
    pub(super) statements: Arc<Statements>,
    pub(super) place: Arc<Place>,
    touched: Arc<Mutex<Touched>>,
}

/// Which rows of the token table a statement inserted, changed or deleted, its triggers included.
///
/// Not those that a conflict rule of the table deletes, which our statements put out of force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touched {
    None,
    One(i64),
    Several,
}

impl Db {
    pub(super) fn new(
        mut connection: Connection,
        statements: Arc<Statements>,
        place: Arc<Place>,
    ) -> Result<Self> {
        connection.set_prepared_statement_cache_capacity(statements.count());
        // Plans must not depend on the values that are bound, or SQLite prepares a statement anew
        // for each of them, which takes five times as long as the look-up itself.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(|error| place.fault(&error))?;
        let touched = Arc::new(Mutex::new(Touched::None));
        let (record, table) = (Arc::clone(&touched), Arc::clone(&place));
        let hook = move |_: Action, _: &str, of_table: &str, rowid: i64| {
            if of_table == table.table() {
                let mut touched = record.lock().unwrap_or_else(PoisonError::into_inner);
                *touched = match *touched {
                    Touched::None => Touched::One(rowid),
                    Touched::One(same) if same == rowid => *touched,
                    _ => Touched::Several,
                };
            }
        };
        connection
            .update_hook(Some(hook))
            .map_err(|error| place.fault(&error))?;
        Ok(Self {
            connection,
            statements,
            place,
            touched,
        })
    }

    /// Sets how long a statement waits for the locks of others from now on.
    pub(super) fn wait_for_locks(&self, timeout: Duration) -> Result<()> {
        let set = self.connection.busy_timeout(timeout);
        set.map_err(|error| self.place.fault(&error))
    }

    /// Has `told` called every so many steps of a statement.
    pub(super) fn on_progress(
        &mut self,
        steps: i32,
        told: impl Fn() + Send + 'static,
    ) -> Result<()> {
        let go_on = move || {
            told();
            false
        };
        let set = self.connection.progress_handler(steps, Some(go_on));
        set.map_err(|error| self.place.fault(&error))
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

    /// The first row of an answer that matches. One that cannot be read is damage, and told of if
    /// there is no other.
    fn first_match(
        &self,
        mut rows: Rows<'_>,
        matches: impl Fn(&OAuthToken) -> bool,
    ) -> Result<Option<OAuthToken>> {
        let mut damage = None;
        while let Some(row) = rows.next().map_err(|error| self.place.fault(&error))? {
            match row::decode(row, &self.place) {
                Ok(record) if matches(&record) => return Ok(Some(record)),
                Ok(_) => {}
                Err(error) => damage = damage.or(Some(error)),
            }
        }
        damage.map_or(Ok(None), Err)
    }

    /// The row with this id. A row whose id only looks like it, '05' for 5, is damage.
    pub(super) fn by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        let mut statement = self.statement(&self.statements.by_id)?;
        let rows = statement
            .query([number(id)])
            .map_err(|error| self.place.fault(&error))?;
        self.first_match(rows, |_| true)
    }

    pub(super) fn find(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.look_up(&Lookup::query(query), |row| query.matches(row))
    }

    /// The row with the lowest id that matches.
    pub(super) fn first(&self, identity: &Identity<'_>) -> Result<Option<OAuthToken>> {
        self.look_up(&Lookup::identity(identity), |row| identity.matches(row))
    }

    fn look_up(
        &self,
        lookup: &Lookup<'_>,
        matches: impl Fn(&OAuthToken) -> bool,
    ) -> Result<Option<OAuthToken>> {
        let mut statement = self.statement(self.statements.lookup(lookup))?;
        // A parameter behind the last one that the statement mentions cannot be bound.
        let count = statement.parameter_count();
        for (index, value) in lookup.values.iter().take(count).enumerate() {
            statement
                .raw_bind_parameter(index + 1, value)
                .map_err(|error| self.place.fault(&error))?;
        }
        self.first_match(statement.raw_query(), matches)
    }

    /// All other rows without a user name that share a token with this record, by id. One that
    /// cannot be read stays where it is.
    pub(super) fn twins(&self, id: TokenId, token: &OAuthToken) -> Result<Vec<OAuthToken>> {
        let fault = |error| self.place.fault(&error);
        let refresh = token.refresh_token.as_ref();
        let grant = token.grant_token.as_ref();
        let access = token.access_token.as_ref();
        let mut statement = self.statement(&self.statements.twins)?;
        let parameters = params![
            refresh.map(RefreshToken::expose_secret),
            grant.map(GrantToken::expose_secret),
            access.map(AccessToken::expose_secret),
            number(id),
        ];
        let mut rows = statement.query(parameters).map_err(fault)?;
        let mut twins = Vec::new();
        while let Some(row) = rows.next().map_err(fault)? {
            twins.extend(row::decode(row, &self.place));
        }
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

    /// Inserts a row with the id of `token`, which no row has.
    pub(super) fn insert(&self, token: &OAuthToken, id: TokenId) -> Result<()> {
        self.write(&self.statements.insert, token, id)
    }

    /// Writes over the row with the id of `token`, which is there.
    pub(super) fn update(&self, token: &OAuthToken, id: TokenId) -> Result<()> {
        self.write(&self.statements.update, token, id)
    }

    /// Writes one row, and makes sure that it is there now and that no other row was touched.
    fn write(&self, sql: &str, token: &OAuthToken, id: TokenId) -> Result<()> {
        let mut statement = self.statement(sql)?;
        let write = || row::bind(&mut statement, token).and_then(|()| statement.raw_execute());
        let (changed, touched) = self.watched(write)?;
        if changed > 1 {
            return Err(self.repeated(id));
        }
        let is_there = match self.by_id(id) {
            Ok(stored) => stored.as_ref() == Some(token),
            Err(error) if error.code() == ErrorCode::StoreDamaged => false,
            Err(error) => return Err(error),
        };
        let is_done = changed == 1 && matches!(touched, Touched::One(_)) && is_there;
        is_done.then_some(()).ok_or_else(|| self.meddling())
    }

    pub(super) fn delete(&self, id: TokenId) -> Result<bool> {
        let mut statement = self.statement(&self.statements.delete)?;
        let (deleted, touched) = self.watched(|| statement.execute([number(id)]))?;
        if deleted > 1 {
            return Err(self.repeated(id));
        }
        let is_there = self
            .statement(&self.statements.is_there)?
            .exists([number(id)]);
        if touched == Touched::Several || is_there.map_err(|error| self.place.fault(&error))? {
            return Err(self.meddling());
        }
        Ok(deleted > 0)
    }

    pub(super) fn clear(&self) -> Result<usize> {
        let deleted = self.execute(&self.statements.clear, [])?;
        if self.number_of(&self.statements.is_empty)? == 0 {
            return Err(self.meddling());
        }
        Ok(deleted)
    }

    /// Runs a statement that writes; answers how many rows it changed itself, and which rows of the
    /// token table were touched by it or by a trigger.
    fn watched(&self, write: impl FnOnce() -> rusqlite::Result<usize>) -> Result<(usize, Touched)> {
        let touched = || self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        *touched() = Touched::None;
        let changed = write().map_err(|error| self.place.fault(&error))?;
        Ok((changed, *touched()))
    }

    /// A write had another effect than it has in a table that merely stores. The caller takes it
    /// back.
    fn meddling(&self) -> Error {
        let message = format!(
            "a trigger, a rule or a column type of table `{}` of {} swallows or changes what is written",
            self.place.table(),
            self.place.name()
        );
        Error::new(ErrorCode::StoreForeign, message)
    }

    /// All rows that can be read in the order of their ids, and what is wrong with the others.
    pub(super) fn all(&self) -> Result<(Vec<OAuthToken>, Vec<Error>)> {
        self.page(None, usize::MAX)
    }

    /// Up to `limit` rows with ids above `after`, as [`all`](Self::all).
    pub(super) fn page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<(Vec<OAuthToken>, Vec<Error>)> {
        let mut records = Vec::new();
        let left_out = self.read(after, limit, |record| records.push(record))?;
        Ok((records, left_out))
    }

    /// Counts all rows, and names those that cannot be read.
    pub(super) fn inventory(&self) -> Result<Inventory> {
        // Both of one moment.
        let transaction = self.connection.unchecked_transaction();
        let transaction = transaction.map_err(|error| self.place.fault(&error))?;
        let records = self.number_of(&self.statements.count)?;
        let left_out = self.read(None, usize::MAX, drop)?;
        transaction
            .commit()
            .map_err(|error| self.place.fault(&error))?;
        let mut inventory = Inventory::of(usize::try_from(records).unwrap_or(0));
        let text = |error: &Error| error.message().to_owned();
        inventory.unreadable = left_out.iter().map(text).collect();
        Ok(inventory)
    }

    /// The answer of a statement that answers one number.
    fn number_of(&self, sql: &str) -> Result<i64> {
        let mut statement = self.statement(sql)?;
        let number = statement.query_row([], |row| row.get(0));
        number.map_err(|error| self.place.fault(&error))
    }

    /// Passes up to `limit` records with ids above `after` on, in the order of their ids, and returns
    /// what is wrong with the rows that it leaves out.
    ///
    /// The official table cannot hold an id twice; one that was made otherwise can. Such rows are
    /// left out too: whose login the id means, nothing can tell.
    fn read(
        &self,
        after: Option<TokenId>,
        limit: usize,
        mut take: impl FnMut(OAuthToken),
    ) -> Result<Vec<Error>> {
        let fault = |error| self.place.fault(&error);
        // The first page has the rows whose id is NULL, which no comparison would find.
        let (sql, after) = match after {
            None => (&self.statements.all, None),
            Some(after) => (&self.statements.page, Some(number(after))),
        };
        let mut statement = self.statement(sql)?;
        let mut rows = statement.query(params_from_iter(after)).map_err(fault)?;
        let (mut last, mut taken): (Option<OAuthToken>, _) = (None, 0);
        let (mut repeated, mut left_out) = (None, Vec::new());
        while let Some(row) = rows.next().map_err(fault)? {
            let record = match row::decode(row, &self.place) {
                Ok(record) => record,
                Err(error) => {
                    left_out.push(error);
                    continue;
                }
            };
            let Some(id) = record.id else { continue };
            if last.take_if(|last| last.id == Some(id)).is_some() {
                repeated = Some(id);
                left_out.push(self.repeated(id));
            }
            if repeated == Some(id) {
                left_out.push(self.repeated(id));
                continue;
            }
            // Another id: the one before is not there twice.
            if let Some(last) = last.take() {
                take(last);
                taken += 1;
            }
            if taken == limit {
                return Ok(left_out);
            }
            last = Some(record);
        }
        last.into_iter().for_each(take);
        Ok(left_out)
    }

    /// A write that meets such rows is taken back with its savepoint.
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
