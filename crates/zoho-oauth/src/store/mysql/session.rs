//! A connection that is borrowed for one operation: statements with a limit of time, and what is
//! done with it afterwards.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::consts::StatusFlags;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OkPacket, Row, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::fault::{Fault, classify, timed_out};
use crate::error::{Error, ErrorCode};

/// How long saying goodbye may take.
const FAREWELL: Duration = Duration::from_millis(200);

/// How long that may take which takes as long as the table is.
const LONG: Duration = Duration::from_hours(1);

/// How reading rows came to its end.
enum Ended {
    Well,
    Late,
    Failed(mysql_async::Error),
    Refused(Error),
}

/// A connection in use. It goes back to its pool, unless something went wrong with it.
///
/// Without `Debug`: the driver's prints the password.
pub(super) struct Session {
    conn: Conn,
    /// Which of the nodes it leads to.
    pub(super) node: usize,
    pub(super) server: String,
    limit: Duration,
    is_broken: bool,
    /// Whether a transaction of ours is open.
    is_inside: bool,
    _turn: Option<OwnedSemaphorePermit>,
    /// What the connection is told before the application gets it back.
    give_back: Option<Arc<str>>,
}

impl Session {
    pub(super) fn new(
        conn: Conn,
        (node, server): (usize, String),
        limit: Duration,
        (turn, give_back): (Option<OwnedSemaphorePermit>, Option<Arc<str>>),
    ) -> Self {
        Self {
            conn,
            node,
            server,
            limit,
            is_broken: false,
            is_inside: false,
            _turn: turn,
            give_back,
        }
    }

    /// Runs a prepared statement and returns its rows.
    pub(super) async fn rows(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, Fault> {
        let run = self.conn.exec(sql, values);
        let outcome = timeout(self.limit, run).await;
        self.outcome(outcome)
    }

    /// As [`rows`](Self::rows), for what looks at the whole table.
    pub(super) async fn rows_of_all(
        &mut self,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Fault> {
        let outcome = timeout(LONG, self.conn.exec(sql, values)).await;
        self.outcome(outcome)
    }

    /// Runs a prepared statement and gives each of its rows to `take` as it comes; no limit of
    /// time but that between two rows.
    pub(super) async fn each_row(
        &mut self,
        sql: &str,
        mut take: impl FnMut(Row) -> Result<(), Error> + Send,
    ) -> Result<(), Fault> {
        let limit = self.limit;
        let conn = &mut self.conn;
        let run = async {
            let Ok(started) = timeout(limit, conn.exec_iter(sql, ())).await else {
                return Ended::Late;
            };
            let mut result = match started {
                Ok(result) => result,
                Err(error) => return Ended::Failed(error),
            };
            loop {
                match timeout(limit, result.next()).await {
                    Ok(Ok(Some(row))) => match take(row) {
                        Ok(()) => {}
                        Err(error) => return Ended::Refused(error),
                    },
                    Ok(Ok(None)) => return Ended::Well,
                    Ok(Err(error)) => return Ended::Failed(error),
                    Err(_) => return Ended::Late,
                }
            }
        };
        match run.await {
            Ended::Well => Ok(()),
            Ended::Late => Err(self.over()),
            Ended::Failed(error) => Err(self.fault(error)),
            Ended::Refused(error) => {
                // The other rows are still on their way.
                self.is_broken = true;
                Err(Fault::No(error))
            }
        }
    }

    /// Runs a prepared statement that changes rows and returns how many.
    ///
    /// Ours never put a value in the place of itself, so that rows that were found and rows that
    /// were changed are the same number, whatever the connection was told to count.
    pub(super) async fn execute(&mut self, sql: &str, values: Vec<Value>) -> Result<u64, Fault> {
        let run = self.conn.exec_drop(sql, values);
        let outcome = timeout(self.limit, run).await;
        self.outcome(outcome)?;
        Ok(self.conn.affected_rows())
    }

    /// As [`execute`](Self::execute), for what changes the whole table.
    pub(super) async fn execute_on_all(&mut self, sql: &str) -> Result<u64, Fault> {
        let outcome = timeout(LONG, self.conn.query_drop(sql)).await;
        self.outcome(outcome)?;
        Ok(self.conn.affected_rows())
    }

    /// From now on everything may take as long as the table is.
    pub(super) const fn take_long(&mut self) {
        self.limit = LONG;
    }

    /// Runs statements without parameters, separated by semicolons.
    pub(super) async fn batch(&mut self, sql: &str) -> Result<(), Fault> {
        let outcome = timeout(self.limit, self.conn.query_drop(sql)).await;
        self.outcome(outcome)
    }

    /// Begins a transaction of these statements, which are prepared before it: a node of a Galera
    /// cluster that aborts a transaction may report that to a PREPARE, which the driver sends when a
    /// text is new, and the next statement would be carried out, and committed, by itself.
    pub(super) async fn begin<S: AsRef<str> + Sync>(
        &mut self,
        statements: &[S],
    ) -> Result<(), Fault> {
        for sql in statements {
            let prepared = timeout(self.limit, self.conn.prep(sql.as_ref())).await;
            self.outcome(prepared.map(|prepared| prepared.map(drop)))
                .map_err(Fault::uncommitted)?;
        }
        self.batch("START TRANSACTION")
            .await
            .map_err(Fault::uncommitted)?;
        self.is_inside = true;
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<(), Fault> {
        self.is_inside = false;
        self.batch("COMMIT").await
    }

    /// Takes back what was begun. The server does so too when the connection ends.
    pub(super) async fn roll_back(&mut self) {
        self.is_inside = false;
        if !self.is_broken && self.batch("ROLLBACK").await.is_err() {
            self.is_broken = true;
        }
    }

    fn outcome<T>(
        &mut self,
        outcome: Result<mysql_async::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, Fault> {
        match outcome {
            Ok(Ok(done)) => {
                if self.is_inside && self.has_left() {
                    let message = "the server ended the transaction, and nothing of it was done";
                    return Err(Fault::Again(Error::new(ErrorCode::StoreLocked, message)));
                }
                Ok(done)
            }
            Ok(Err(error)) => Err(self.fault(error)),
            Err(_) => Err(self.over()),
        }
    }

    /// Whether the last answer says that no transaction is open.
    fn has_left(&self) -> bool {
        let status = self.conn.last_ok_packet().map(OkPacket::status_flags);
        status.is_some_and(|flags| !flags.contains(StatusFlags::SERVER_STATUS_IN_TRANS))
    }

    fn over(&mut self) -> Fault {
        self.is_broken = true;
        Fault::Lost(timed_out(&self.server))
    }

    fn fault(&mut self, error: mysql_async::Error) -> Fault {
        let is_fatal = error.is_fatal();
        let fault = classify(&self.server, error);
        // A node that does not work is looked for anew.
        self.is_broken |= is_fatal || matches!(fault, Fault::Lost(_) | Fault::NotHere(_));
        fault
    }

    /// Never gives the connection back.
    pub(super) fn spoil(&mut self) {
        self.is_broken = true;
    }

    /// Gives the connection back to the pool, or ends it if it cannot be trusted any more: an
    /// answer that is still on its way must not be taken for that of the next question.
    pub(super) async fn end(mut self) {
        if let Some(give_back) = self.give_back.take().filter(|_| !self.is_broken) {
            let told = timeout(self.limit, self.conn.query_drop(&*give_back)).await;
            self.is_broken = !matches!(told, Ok(Ok(())));
        }
        if self.is_broken {
            hang_up(self.conn).await;
        }
    }
}

/// Ends a connection, whatever state it is in. The pool makes another one when it is needed.
pub(super) async fn hang_up(conn: Conn) {
    drop(timeout(FAREWELL, conn.disconnect()).await);
}
