//! The nodes of a database, their connections, and going on at another one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use mysql_async::consts::StatusFlags;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OkPacket, Pool};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::fault::{Fault, classify, timed_out};
use super::session::{Session, hang_up};
use super::variables::{self, Lent};
use crate::error::{Error, ErrorCode, Result};
use crate::store::backoff::Backoff;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Settings of how long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Opening a connection.
    pub(super) connect: Duration,
    /// One statement.
    pub(super) statement: Duration,
    /// From the first try of an operation to the beginning of its last.
    pub(super) patience: Duration,
}

/// One node, or the one server.
pub(super) struct Node {
    pub(super) pool: Pool,
    /// As a message names it: host and port. Empty for the application's pool.
    pub(super) server: String,
    /// Why it takes no connections of ours.
    pub(super) backoff: Backoff,
}

/// All nodes; one of them is used until it fails.
pub(super) struct Nodes {
    all: Vec<Node>,
    current: AtomicUsize,
    pub(super) limits: Limits,
    /// One permit for each connection of a pool of our own. Nothing for the application's pool.
    turns: Option<Arc<Semaphore>>,
    /// What a connection of the application's pool is told, as soon as it is known.
    lent: OnceLock<Lent>,
}

impl Nodes {
    /// Takes pools of our own, each for `size` connections, whose connections were told what they
    /// must know (see [`prepare`]).
    pub(super) fn own(nodes: Vec<Node>, size: usize, limits: Limits) -> Self {
        Self {
            turns: Some(Arc::new(Semaphore::new(size))),
            ..Self::lent(nodes, limits)
        }
    }

    /// Takes a pool of the application.
    pub(super) fn lent(nodes: Vec<Node>, limits: Limits) -> Self {
        Self {
            all: nodes,
            current: AtomicUsize::new(0),
            limits,
            turns: None,
            lent: OnceLock::new(),
        }
    }

    pub(super) fn servers(&self) -> Vec<&str> {
        match self.turns {
            Some(_) => self.all.iter().map(|node| node.server.as_str()).collect(),
            None => vec!["the application's pool"],
        }
    }

    /// Closes the connections of our own pools.
    pub(super) async fn disconnect(&self) {
        if self.turns.is_none() {
            return;
        }
        for node in &self.all {
            // It fails where there is nothing to close.
            let ending = node.pool.clone().disconnect();
            drop(timeout(self.limits.statement, ending).await);
        }
    }

    /// Borrows a connection to the node that is used, or to the next one that has one.
    async fn session(&self) -> Result<Session, Fault> {
        let turn = match &self.turns {
            Some(turns) => {
                let limit = self.limits.patience.max(self.limits.statement);
                let turn = timeout(limit, turns.clone().acquire_owned()).await;
                Some(turn.ok().and_then(Result::ok).ok_or_else(|| {
                    let message = "all connections to the database are in use";
                    Fault::No(Error::new(ErrorCode::StoreUnavailable, message))
                })?)
            }
            None => None,
        };
        let first = self.current.load(Ordering::Relaxed);
        let mut last = None;
        for step in 0..self.all.len() {
            let index = (first + step) % self.all.len();
            match self.connection(&self.all[index]).await {
                Ok(conn) => {
                    if step > 0 {
                        self.use_instead(first, index);
                    }
                    let place = (index, self.name(index, &conn));
                    let give_back = match self.turns {
                        Some(_) => None,
                        None => self.lent.get().map(|lent| lent.give_back.clone()),
                    };
                    let limit = self.limits.statement;
                    return Ok(Session::new(conn, place, limit, (turn, give_back)));
                }
                Err(fault) => last = Some(fault),
            }
        }
        // Nothing was asked yet, so nothing was done.
        Err(last.map_or_else(
            || Fault::No(Error::new(ErrorCode::Internal, "a database without nodes")),
            Fault::uncommitted,
        ))
    }

    fn name(&self, index: usize, conn: &Conn) -> String {
        let known = &self.all[index].server;
        if known.is_empty() {
            return place(conn.opts().ip_or_hostname(), conn.opts().tcp_port());
        }
        known.clone()
    }

    fn use_instead(&self, node: usize, other: usize) {
        let (from, to) = (node, other % self.all.len());
        let moved = self
            .current
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
        if moved.is_ok() && from != to {
            let server = &self.all[to].server;
            tracing::warn!(%server, "going on at another node of the database");
        }
    }

    async fn connection(&self, node: &Node) -> Result<Conn, Fault> {
        let late = || Fault::Again(timed_out(&node.server));
        let failed = |error| classify(&node.server, error);
        let limit = match self.turns {
            Some(_) => self.limits.connect,
            // The application may use all of them for a while.
            None => self.limits.connect.max(self.limits.patience),
        };
        let is_own = self.turns.is_some();
        let idle = &node.pool.metrics().connections_in_pool;
        if is_own
            && idle.load(Ordering::Relaxed) == 0
            && let Some(error) = node.backoff.refused()
        {
            return Err(Fault::No(error));
        }
        let mut left_open = 0;
        loop {
            let mut conn = match timeout(limit, node.pool.get_conn()).await {
                Ok(conn) => conn.map_err(|error| {
                    let fault = failed(error);
                    if let Fault::No(error) = &fault {
                        node.backoff.failed(error);
                    }
                    fault
                })?,
                Err(_) => return Err(late()),
            };
            node.backoff.succeeded();
            let is_ready = match timeout(limit, self.make_ready(&mut conn)).await {
                Ok(Ok(is_ready)) => is_ready,
                // It may have been told a part.
                Ok(Err(error)) => {
                    hang_up(conn).await;
                    return Err(failed(error));
                }
                Err(_) => {
                    hang_up(conn).await;
                    return Err(late());
                }
            };
            if is_ready {
                return Ok(conn);
            }
            let most = conn.opts().pool_opts().constraints().max();
            // The server takes back what was left open when the connection ends.
            hang_up(conn).await;
            left_open += 1;
            // More than somebody can have returned: they are made so.
            if left_open > most {
                let message = "the connections of the application's pool come with transactions \
                    that somebody left open";
                return Err(Fault::No(Error::new(ErrorCode::StoreUnavailable, message)));
            }
        }
    }

    /// Tells a connection of the application's pool what it must know, in one round trip; `false`
    /// if somebody left a transaction open there, and then nothing is told: it could commit that.
    async fn make_ready(&self, conn: &mut Conn) -> mysql_async::Result<bool> {
        if is_inside(conn).await? {
            return Ok(false);
        }
        if self.turns.is_some() {
            return Ok(true);
        }
        let lent = if let Some(lent) = self.lent.get() {
            lent
        } else {
            let is_causal = variables::is_causal(conn).await?;
            let lent = Lent::new(is_causal, variables::has_clock(conn).await?);
            self.lent.get_or_init(|| lent)
        };
        conn.query_drop(&lent.borrow).await?;
        Ok(true)
    }
}

/// Whether a transaction is open. Each answer of the server says so, but for refusals, which leave
/// it open: after one the server is asked.
async fn is_inside(conn: &mut Conn) -> mysql_async::Result<bool> {
    if conn.last_ok_packet().is_none() {
        conn.ping().await?;
    }
    let status = conn.last_ok_packet().map(OkPacket::status_flags);
    Ok(status.is_some_and(|flags| flags.contains(StatusFlags::SERVER_STATUS_IN_TRANS)))
}

/// Makes a pool's connections know what they must from their first moment on.
pub(super) fn prepared(opts: mysql_async::OptsBuilder) -> mysql_async::OptsBuilder {
    opts.after_connect(|conn| variables::set(conn).boxed())
}

/// A host and a port as a message names them.
pub(super) fn place(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// One operation, tried again as long as that can help.
pub(super) struct Tries<'a> {
    nodes: &'a Nodes,
    end: Instant,
    pause: Duration,
    /// The table is not what it was: it must be looked at again.
    pub(super) is_stale: bool,
}

impl<'a> Tries<'a> {
    pub(super) fn new(nodes: &'a Nodes) -> Self {
        Self {
            nodes,
            end: Instant::now() + nodes.limits.patience,
            pause: FIRST_PAUSE,
            is_stale: false,
        }
    }

    /// Borrows a connection, waiting for one as long as there is patience.
    pub(super) async fn session(&mut self) -> Result<Session> {
        loop {
            match self.nodes.session().await {
                Ok(session) => return Ok(session),
                Err(Fault::No(error)) => return Err(error),
                Err(fault) => self.wait(fault).await?,
            }
        }
    }

    /// Gives the connection back. Answers what was done, or nothing if it is to be done again.
    ///
    /// # Errors
    /// When trying again is of no use, or there is no time left for it.
    pub(super) async fn settle<T>(
        &mut self,
        session: Session,
        outcome: Result<T, Fault>,
    ) -> Result<Option<T>> {
        let node = session.node;
        session.end().await;
        let fault = match outcome {
            Ok(done) => return Ok(Some(done)),
            Err(fault) => fault,
        };
        match fault {
            Fault::No(_) | Fault::Duplicate(_) => return Err(fault.into_error()),
            Fault::Stale(error) if self.is_stale => return Err(error),
            Fault::Stale(_) => {
                self.is_stale = true;
                return Ok(None);
            }
            Fault::NotHere(_) | Fault::Lost(_) => self.nodes.use_instead(node, node + 1),
            Fault::Again(_) => {}
        }
        self.wait(fault).await?;
        Ok(None)
    }

    /// As [`settle`](Self::settle), where nobody knows what became of a statement whose answer was
    /// lost: that is answered with `unknown`, and the caller looks.
    pub(super) async fn settle_or<T>(
        &mut self,
        session: Session,
        outcome: Result<T, Fault>,
        unknown: T,
    ) -> Result<Option<T>> {
        if let Err(Fault::Lost(_)) = outcome {
            let node = session.node;
            session.end().await;
            self.nodes.use_instead(node, node + 1);
            return Ok(Some(unknown));
        }
        self.settle(session, outcome).await
    }

    /// Waits before a statement is sent again whose answer was lost, and which was not carried out.
    ///
    /// # Errors
    /// When there is no time left for it.
    pub(super) async fn wait_unanswered(&mut self) -> Result<()> {
        let message = "the database goes on losing its answers to a statement";
        let error = Error::new(ErrorCode::StoreUnavailable, message);
        self.wait(Fault::Again(error)).await
    }

    async fn wait(&mut self, fault: Fault) -> Result<()> {
        let pause = self.pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        if Instant::now() + pause >= self.end {
            return Err(fault.into_error());
        }
        sleep(pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
