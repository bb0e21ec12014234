//! Asking the server: one statement at a time, on a connection of the pool, again when that helps.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object, Pool};
use futures_util::future::join4;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::connect::Connector;
use super::fault::{Failure, Place};
use super::sql::{MARK_TABLE, Statements};
use super::value::Value;
use crate::error::{Error, ErrorCode, Result};
use crate::store::backoff::Backoff;

/// Fails if a transaction was open before. Only a simple query can tell: it takes both times at the
/// same moment, while a statement with values begins its transaction a little earlier. What fails in
/// a transaction keeps all that follows from being done in it.
const NOT_INSIDE: &str = "SELECT 1 OPERATOR(pg_catalog./) \
    (pg_catalog.transaction_timestamp() OPERATOR(pg_catalog.=) pg_catalog.statement_timestamp())::int";

/// What a statement needs to be told about the session that it is carried out in: records that
/// row-level security would hide are an error, and words mean what we wrote. The system's own
/// functions and operators come before those of others.
macro_rules! settings {
    ($set:literal, $is_local:literal) => {
        concat!(
            $set,
            " row_security = off; ",
            $set,
            " standard_conforming_strings = on; ",
            $set,
            " transform_null_equals = off; ",
            $set,
            " client_encoding = 'UTF8'; ",
            "SELECT pg_catalog.set_config('search_path', pg_catalog.rtrim(pg_catalog.concat(\
            'pg_catalog, ', pg_catalog.current_setting('search_path')), ', '), ",
            $is_local,
            ")"
        )
    };
}

/// For a connection of our own, once. Where nothing says otherwise, its transactions may write.
pub(super) const TELL_SESSION: &str = concat!(
    "SET default_transaction_isolation = 'read committed'; \
    SET default_transaction_read_only = off; SET default_transaction_deferrable = off; ",
    settings!("SET", "false")
);

/// For a transaction, where other sessions share the connection.
pub(super) const TELL_TRANSACTION: &str = settings!("SET LOCAL", "true");

const BEGIN: &str = concat!(
    "BEGIN ISOLATION LEVEL READ COMMITTED; ",
    settings!("SET LOCAL", "true")
);

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How many times longer the operations on all records may take than those on a few.
const ALL_RECORDS: u32 = 10;

/// What the clones of a store, and the operations that are under way, share.
pub(super) struct Server {
    pub(super) line: Line,
    pub(super) statements: Statements,
    /// Where changes are told.
    pub(super) channel: String,
    /// One lock for all saves of this process that insert or join records.
    pub(super) alone: Mutex<()>,
    /// Whether the table had triggers when it was opened: then what is written is read back.
    pub(super) is_watched: bool,
}

/// The way to the server.
pub(super) struct Line {
    pub(super) pool: Pool,
    /// How the connections of the pool are made; not known of an application's own pool.
    pub(super) connector: Option<Connector>,
    pub(super) place: Place,
    pub(super) limits: Limits,
    /// Why the server takes no connections of ours.
    pub(super) backoff: Backoff,
    /// One permit for each connection of an application's pool that may wait outside of it for an
    /// answer that comes too late.
    pub(super) outside: Arc<Semaphore>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long one try may take, the wait for a connection included.
    pub(super) timeout: Duration,
    /// How long it is tried again, counted from the beginning of the first try.
    pub(super) patience: Duration,
    pub(super) prepare: bool,
}

impl Limits {
    /// How long one try about so many records may take.
    pub(super) const fn of(self, extent: Extent) -> Duration {
        match extent {
            Extent::Few => self.timeout,
            Extent::All => self.timeout.saturating_mul(ALL_RECORDS),
        }
    }
}

/// What the server answered.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) rows: Vec<Row>,
    /// Whether an earlier try may have done it already: its answer was lost.
    pub(super) may_be_done: bool,
}

/// What tells whether a write left behind what it was to leave, where triggers may do something else.
pub(super) struct Watch<'a> {
    pub(super) sql: String,
    pub(super) values: Vec<Value<'a>>,
    /// Given what the write answered, and what `sql` found after it.
    pub(super) is_fine: Box<IsFine<'a>>,
    /// What else may have changed.
    pub(super) others: Option<Others<'a>>,
}

/// What tells whether a write changed rows that are none of its own.
pub(super) struct Others<'a> {
    /// Counts what was inserted, updated and deleted in the table by this connection.
    pub(super) counts: String,
    /// Given what the write answered, what that changes.
    pub(super) expected: Box<Expected<'a>>,
}

type Expected<'a> = dyn Fn(&[Row]) -> [i64; 3] + Send + Sync + 'a;

type IsFine<'a> = dyn Fn(&[Row], &[Row]) -> bool + Send + Sync + 'a;

/// How many records a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Few,
    All,
}

impl Server {
    pub(super) async fn ask(&self, sql: &str, values: &[Value<'_>]) -> Result<Told> {
        self.line.ask(sql, values).await
    }

    /// Says that what the statements count on is not there.
    pub(super) fn no_mark(&self) -> Error {
        let what = format!("its row in `{MARK_TABLE}` is missing");
        self.line.place.damaged(&what)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The pool would print the driver's settings.
        f.debug_struct("Server")
            .field("place", &self.line.place)
            .field("limits", &self.line.limits)
            .finish_non_exhaustive()
    }
}

impl Line {
    /// Carries out one statement, which is a transaction by itself. A failure that may pass is
    /// tried again for a while.
    ///
    /// Only for statements that do no harm the second time: reads, and writes that are conditional
    /// on what is there.
    pub(super) async fn ask(&self, sql: &str, values: &[Value<'_>]) -> Result<Told> {
        self.ask_about(Extent::Few, sql, values)
            .await
            .map_err(|failure| failure.error)
    }

    pub(super) async fn ask_about(
        &self,
        extent: Extent,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Told, Failure> {
        self.ask_watched(extent, sql, values, None).await
    }

    /// As [`ask_about`](Self::ask_about), in a transaction that is taken back unless `watch` finds
    /// what was to be written.
    pub(super) async fn ask_watched(
        &self,
        extent: Extent,
        sql: &str,
        values: &[Value<'_>],
        watch: Option<&Watch<'_>>,
    ) -> Result<Told, Failure> {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut may_be_done = false;
        loop {
            let failure = match self.once(extent, sql, values, watch).await {
                Ok(rows) => return Ok(Told { rows, may_be_done }),
                Err(failure) => failure,
            };
            may_be_done |= failure.may_be_done;
            if !failure.may_pass || began.elapsed() + pause > self.limits.patience {
                return Err(failure);
            }
            tracing::debug!(error = %failure.error, "a statement is tried again");
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(
        &self,
        extent: Extent,
        sql: &str,
        values: &[Value<'_>],
        watch: Option<&Watch<'_>>,
    ) -> Result<Vec<Row>, Failure> {
        let until = Instant::now() + self.limits.of(extent);
        let Ok(client) = timeout_at(until, self.connection()).await else {
            let error = self.place.late("no connection could be had");
            return Err(Failure::passing(error));
        };
        let client = client?;
        let work = async {
            match watch {
                Some(watch) => self.put_watched(&client, sql, values, watch).await,
                None => self.put(&client, sql, values).await,
            }
        };
        match timeout_at(until, work).await {
            Ok(Ok(rows)) => {
                client.give_back();
                Ok(rows)
            }
            Ok(Err(failure)) => {
                if !failure.ends_connection {
                    client.give_back();
                }
                Err(failure)
            }
            Err(_) => Err(self.give_up(client)),
        }
    }

    async fn connection(&self) -> Result<Borrowed, Failure> {
        if self.pool.status().available == 0
            && let Some(error) = self.backoff.refused()
        {
            return Err(Failure::last(error));
        }
        match self.pool.get().await {
            Ok(client) => {
                self.backoff.succeeded();
                Ok(Borrowed(Some(client)))
            }
            Err(error) => {
                let failure = self.place.no_connection(&error);
                if self.is_own() && !failure.may_pass {
                    self.backoff.failed(&failure.error);
                }
                Err(failure)
            }
        }
    }

    /// A connection on which nobody left a transaction open.
    pub(super) async fn connection_at_rest(&self) -> Result<Borrowed, Failure> {
        // One more than somebody can have returned.
        for _ in 0..=self.pool.status().max_size {
            let client = self.connection().await?;
            let is_inside = !self.is_own() && self.is_inside(&client).await?;
            if !is_inside {
                return Ok(client);
            }
        }
        Err(self.place.left_open())
    }

    /// Whether nobody else has the connections of the pool.
    const fn is_own(&self) -> bool {
        self.connector.is_some()
    }

    /// Whether each connection of the pool was told what it needs to know: not those that a proxy
    /// shares among its clients.
    const fn is_told(&self) -> bool {
        self.is_own() && self.limits.prepare
    }

    async fn is_inside(&self, client: &Borrowed) -> Result<bool, Failure> {
        let asked = client.get().batch_execute(NOT_INSIDE).await;
        asked.map_or_else(|error| self.may_be_inside(&error), |()| Ok(false))
    }

    /// Whether it was a transaction of somebody that let [`NOT_INSIDE`] fail.
    fn may_be_inside(&self, error: &tokio_postgres::Error) -> Result<bool, Failure> {
        let inside = [
            &SqlState::DIVISION_BY_ZERO,
            // It had failed already.
            &SqlState::IN_FAILED_SQL_TRANSACTION,
        ];
        match error.code() {
            Some(code) if inside.contains(&code) => Ok(true),
            _ => Err(self.place.failed(error)),
        }
    }

    /// Carries out a statement, and nothing of it in a transaction of somebody else: then the
    /// connection ends.
    async fn put(
        &self,
        client: &Borrowed,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Failure> {
        let failed = |error| self.place.failed(&error);
        if self.is_told() {
            return self.send(client, sql, values).await.map_err(failed);
        }
        if self.limits.prepare {
            // Before the others, which are sent one after the other without a wait in between.
            self.statement(client, sql, values).await.map_err(failed)?;
        }
        let at_rest = async {
            if self.is_own() {
                return Ok(());
            }
            client.get().batch_execute(NOT_INSIDE).await
        };
        let begin = client.get().batch_execute(BEGIN);
        let work = self.send(client, sql, values);
        let commit = client.get().batch_execute("COMMIT");
        let (at_rest, begun, done, ended) = join4(at_rest, begin, work, commit).await;
        if let Err(error) = at_rest {
            let is_lost = error.code().is_none();
            let failure = match self.may_be_inside(&error) {
                Ok(_) => self.place.left_open(),
                Err(failure) => failure,
            };
            return Err(Failure {
                may_be_done: is_lost,
                ends_connection: true,
                ..failure
            });
        }
        begun.map_err(failed)?;
        let rows = done.map_err(failed)?;
        ended.map_err(failed)?;
        Ok(rows)
    }

    async fn put_watched(
        &self,
        client: &Borrowed,
        sql: &str,
        values: &[Value<'_>],
        watch: &Watch<'_>,
    ) -> Result<Vec<Row>, Failure> {
        let failed = |error| self.place.failed(&error);
        if !self.is_own() && self.is_inside(client).await? {
            return Err(self.place.left_open());
        }
        let say = |word: &'static str| client.get().batch_execute(word);
        say(BEGIN).await.map_err(failed)?;
        let work = async {
            let before = self.counts(client, watch).await?;
            let rows = self.send(client, sql, values).await?;
            // What would wait for the commit is done now.
            say("SET CONSTRAINTS ALL IMMEDIATE").await?;
            let found = self.send(client, &watch.sql, &watch.values).await?;
            let is_fine = (watch.is_fine)(&rows, &found)
                && self.are_others_left(client, watch, before, &rows).await?;
            Ok(is_fine.then_some(rows))
        };
        let failure = match work.await {
            Ok(Some(rows)) => {
                say("COMMIT").await.map_err(failed)?;
                return Ok(rows);
            }
            Ok(None) => Failure::last(self.place.meddled()),
            Err(error) => failed(error),
        };
        Err(Failure {
            ends_connection: failure.ends_connection || say("ROLLBACK").await.is_err(),
            may_be_done: false,
            ..failure
        })
    }

    /// What this connection inserted, updated and deleted in the table, before and now.
    async fn counts(
        &self,
        client: &Borrowed,
        watch: &Watch<'_>,
    ) -> Result<[i64; 3], tokio_postgres::Error> {
        let Some(others) = &watch.others else {
            return Ok([0; 3]);
        };
        let rows = self.send(client, &others.counts, &[]).await?;
        let mut counts = [0; 3];
        for (index, count) in counts.iter_mut().enumerate() {
            *count = rows.first().map_or(Ok(0), |row| row.try_get(index))?;
        }
        Ok(counts)
    }

    /// Whether a write left the rows alone that are none of its own: no more was changed in the table
    /// than the write says. A server that counts nothing reports no change.
    async fn are_others_left(
        &self,
        client: &Borrowed,
        watch: &Watch<'_>,
        before: [i64; 3],
        answer: &[Row],
    ) -> Result<bool, tokio_postgres::Error> {
        let Some(others) = &watch.others else {
            return Ok(true);
        };
        let after = self.counts(client, watch).await?;
        let expected = (others.expected)(answer);
        let [inserted, updated, deleted] =
            std::array::from_fn(|index| after[index] - before[index] - expected[index]);
        // A row that moves to another part of its table is deleted and inserted.
        let moved = inserted;
        let is_moved = deleted == moved && updated == -moved && (0..=expected[1]).contains(&moved);
        Ok(after == before || is_moved)
    }

    async fn send(
        &self,
        client: &Borrowed,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if self.limits.prepare {
            let statement = self.statement(client, sql, values).await?;
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
            client.get().query(&statement, &values).await
        } else {
            let values: Vec<_> = values
                .iter()
                .map(|value| (value as &(dyn ToSql + Sync), value.kind()))
                .collect();
            client.get().query_typed(sql, &values).await
        }
    }

    async fn statement(
        &self,
        client: &Borrowed,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Statement, tokio_postgres::Error> {
        let kinds: Vec<_> = values.iter().map(Value::kind).collect();
        client.get().prepare_typed_cached(sql, &kinds).await
    }

    /// The server is silent: asks it to stop, so that it does not go on when nobody waits.
    fn give_up(&self, client: Borrowed) -> Failure {
        match &self.connector {
            Some(connector) => connector.cancel(client.get().cancel_token()),
            None => self.outlast(client),
        }
        let error = self.place.late("a statement was not answered");
        Failure {
            may_be_done: true,
            ends_connection: true,
            ..Failure::passing(error)
        }
    }

    /// Nobody knows how to ask it by a connection of the application's, whose session lives at the
    /// server until it is answered there, whether or not anybody waits. A network that went dead
    /// looks the same, and the pool is to make other connections: so as many as it has room for wait
    /// outside of it, and the others keep their place in it.
    fn outlast(&self, client: Borrowed) {
        let outside = Arc::clone(&self.outside).try_acquire_owned();
        tokio::spawn(async move {
            // What comes to nothing is answered after what is under way.
            match outside {
                Ok(_place) => drop(client.detach().simple_query("").await),
                Err(_) => drop(client.get().simple_query("").await),
            }
        });
    }
}

/// A connection in use. Unless it is given back, it is closed: nobody knows what is still under way
/// on it.
pub(super) struct Borrowed(Option<Object>);

impl Borrowed {
    fn get(&self) -> &Object {
        self.0.as_ref().expect("it is there until it is given back")
    }

    pub(super) fn get_mut(&mut self) -> &mut Object {
        self.0.as_mut().expect("it is there until it is given back")
    }

    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }

    /// Makes room in the pool for another one.
    fn detach(mut self) -> ClientWrapper {
        let client = self.0.take();
        Object::take(client.expect("it is there until it is given back"))
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

/// Runs an operation in a task of its own, so that nobody who goes away stops it half-way.
pub(super) async fn apart<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        let (code, what) = if error.is_panic() {
            (ErrorCode::Internal, "an operation of the store panicked")
        } else {
            (ErrorCode::StoreUnavailable, "the runtime is ending")
        };
        Err(Error::new(code, what))
    })
}
