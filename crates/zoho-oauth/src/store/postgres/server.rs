//! Asking the server: one statement at a time, on a connection of the pool, again when that helps.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object, Pool};
use futures_util::future::join;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, SimpleQueryMessage};

use super::connect::Connector;
use super::fault::{Failure, Place};
use super::sql::{MARK_TABLE, Statements};
use super::value::Value;
use crate::error::{Error, ErrorCode, Result};

/// Whether a transaction was open before. Only a simple query can tell: it takes both times at the
/// same moment, while a statement with values begins its transaction a little earlier.
const IS_INSIDE: &str = "SELECT transaction_timestamp() <> statement_timestamp()";

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
}

/// The way to the server.
pub(super) struct Line {
    pub(super) pool: Pool,
    /// How the connections of the pool are made; not known of an application's own pool.
    pub(super) connector: Option<Connector>,
    pub(super) place: Place,
    pub(super) limits: Limits,
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
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut may_be_done = false;
        loop {
            let failure = match self.once(extent, sql, values).await {
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
    ) -> Result<Vec<Row>, Failure> {
        let until = Instant::now() + self.limits.of(extent);
        let Ok(client) = timeout_at(until, self.connection()).await else {
            let error = self.place.late("no connection could be had");
            return Err(Failure::passing(error));
        };
        let client = client?;
        match timeout_at(until, self.put(&client, sql, values)).await {
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
        match self.pool.get().await {
            Ok(client) => Ok(Borrowed(Some(client))),
            Err(error) => Err(self.place.no_connection(&error)),
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

    async fn is_inside(&self, client: &Borrowed) -> Result<bool, Failure> {
        match client.get().simple_query(IS_INSIDE).await {
            Ok(answer) => Ok(answer.iter().any(
                |part| matches!(part, SimpleQueryMessage::Row(row) if row.get(0) == Some("t")),
            )),
            // It has failed already.
            Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => Ok(true),
            Err(error) => Err(self.place.failed(&error)),
        }
    }

    /// Carries out a statement, and nothing of it in a transaction of somebody else: then the
    /// connection ends, and with it what was done.
    async fn put(
        &self,
        client: &Borrowed,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Failure> {
        let work = async {
            let rows = self.send(client, sql, values).await;
            rows.map_err(|error| self.place.failed(&error))
        };
        if self.is_own() {
            return work.await;
        }
        // They are sent one after the other, without a wait in between.
        match join(self.is_inside(client), work).await {
            (Ok(false), done) => done,
            (Ok(true), _) => Err(self.place.left_open()),
            (Err(failure), done) => Err(Failure {
                may_be_done: failure.may_be_done || done.is_ok(),
                ends_connection: true,
                ..failure
            }),
        }
    }

    async fn send(
        &self,
        client: &Borrowed,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let client = client.get();
        if self.limits.prepare {
            let kinds: Vec<_> = values.iter().map(Value::kind).collect();
            let statement = client.prepare_typed_cached(sql, &kinds).await?;
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
            client.query(&statement, &values).await
        } else {
            let values: Vec<_> = values
                .iter()
                .map(|value| (value as &(dyn ToSql + Sync), value.kind()))
                .collect();
            client.query_typed(sql, &values).await
        }
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
