//! The connection: how a call gets to the server and its answer back, whatever happens on the way.
//!
//! Calls of all tasks share one connection, which the driver makes anew when it breaks. The driver
//! does not send again what was lost with it. This module does, since every script of ours may be
//! sent again: it finds out by itself whether it was carried out before.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, RedisError, RedisResult, Value};
use tokio::time::Instant;

use super::fault::{self, Cause, Verdict};
use super::script::{Call, Sending, TOLD};
use super::settings::{self, Address, Nodes};
use crate::error::{Error, ErrorCode, Result};

/// How the script that only writes is sent: it stands in one pipeline with another, and need not be
/// known when that is.
const IN_FULL: Sending = Sending {
    again: false,
    in_full: true,
};
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// As good as for ever, and no clock overflows: neither this machine's nor the server's.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// To connect, with TLS and log-in.
    pub(super) connect: Duration,
    /// For one answer.
    pub(super) response: Duration,
    /// For the whole of a call, as long as it fails in a way that may pass.
    pub(super) retry: Duration,
}

/// How many replicas must have a write before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replicas {
    pub(super) count: u32,
    pub(super) timeout: Duration,
}

/// The way to the server.
pub(super) struct Link {
    /// `None` for a connection that the application made.
    nodes: Option<Nodes>,
    current: Mutex<Current>,
    patience: Patience,
    replicas: Option<Replicas>,
}

struct Current {
    connection: ConnectionManager,
    /// Rises with each connection, so that those who fail together replace it once.
    number: u64,
    /// Where it leads to; `None` if that is the application's business.
    address: Option<Address>,
    /// The same, as a message names it.
    place: Arc<str>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("nodes", &self.nodes)
            .field("patience", &self.patience)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Makes ready to connect to the first of `nodes`. Within a tokio runtime.
    pub(super) fn new(
        nodes: Nodes,
        patience: Patience,
        replicas: Option<Replicas>,
    ) -> Result<Self> {
        let address = nodes.address(0).clone();
        let place = settings::place(&address);
        let connection = manager(nodes.client(&address)?, patience, replicas)
            .map_err(|error| fault::of(&error, &place))?;
        Ok(Self {
            nodes: Some(nodes),
            current: Mutex::new(Current {
                connection,
                number: 0,
                address: Some(address),
                place: place.into(),
            }),
            patience,
            replicas,
        })
    }

    /// Takes a connection of the application.
    pub(super) fn given(
        connection: ConnectionManager,
        patience: Patience,
        replicas: Option<Replicas>,
    ) -> Self {
        Self {
            nodes: None,
            current: Mutex::new(Current {
                connection,
                number: 0,
                address: None,
                place: "Redis".into(),
            }),
            patience,
            replicas,
        }
    }

    /// The server, as a message names it.
    pub(super) fn place(&self) -> Arc<str> {
        Arc::clone(&self.current().place)
    }

    /// The nodes, unless the connection is the application's.
    pub(super) const fn nodes(&self) -> Option<&Nodes> {
        self.nodes.as_ref()
    }

    /// The number of the database, which the driver knows of every connection.
    pub(super) fn database(&self) -> i64 {
        self.current().connection.get_db()
    }

    /// Whether a write is acknowledged only when replicas have it.
    pub(super) const fn waits_for_replicas(&self) -> bool {
        self.replicas.is_some()
    }

    /// For how long the server must remember that it carried out a call, which may be sent again.
    pub(super) fn remembered(&self) -> Duration {
        let waiting = self.replicas.map_or(Duration::ZERO, |wait| wait.timeout);
        let sent = self.patience.retry.saturating_add(self.limit(waiting));
        sent.saturating_add(Duration::from_mins(1)).min(LONGEST)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing that could panic runs under the lock.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a script for the store whose keys begin with `base`, until its answer is known or the
    /// patience ends.
    pub(super) async fn call(&self, base: &str, call: &Call<'_>) -> Result<Value> {
        let mut sending = Sending {
            again: false,
            in_full: false,
        };
        let mut again = self.again();
        let mut is_waiting = false;
        loop {
            let (connection, number, place) = self.take();
            let command = call.command(base, sending);
            let answer = match self.replicas.filter(|_| call.is_write()) {
                Some(replicas) => {
                    let told = Call::write(&TOLD).command(base, IN_FULL);
                    let commands = [command, told];
                    self.send_and_wait(connection, commands, replicas).await
                }
                None => self.send(connection, &command).await.map(Reply::Done),
            };
            let error = match answer {
                Ok(Reply::Done(value)) => return Ok(value),
                Ok(Reply::TooFew(found)) => return Err(self.too_few(&place, found)),
                Err(error) => error,
            };
            match fault::judge(&error) {
                // In one step, so that nobody can make the server forget it in between. No patience
                // is needed for that.
                Verdict::NoScript if !sending.in_full => sending.in_full = true,
                Verdict::NoScript => {
                    let cause = Cause::Server("NOSCRIPT".into());
                    again.pause(&place, Known::NotDone, cause).await?;
                }
                Verdict::Later(cause) => {
                    let is_useless = match &cause {
                        // There was a fail-over, and the name leads elsewhere now.
                        Cause::Server(code) if code == "READONLY" => true,
                        // It may pass in a moment; and it may not, while another node is well.
                        Cause::Server(code) => is_waiting && fault::is_of_node(code),
                        // Nobody is there.
                        _ => true,
                    };
                    if is_useless {
                        self.renew(number, None);
                    }
                    is_waiting = !is_useless;
                    again.pause(&place, Known::of(call, sending), cause).await?;
                }
                Verdict::Lost(cause) => {
                    sending.again = true;
                    self.renew(number, None);
                    again.pause(&place, Known::of(call, sending), cause).await?;
                }
                Verdict::Elsewhere(node) => {
                    let cause = Cause::Server("MOVED".to_owned());
                    if !self.renew(number, Some(&node)) {
                        let message = "is a node of a cluster, and not the one with these keys";
                        let code = ErrorCode::StoreUnavailable;
                        return Err(fault::error(code, &place, message, cause));
                    }
                    again.pause(&place, Known::of(call, sending), cause).await?;
                }
                Verdict::Refused(code, message, cause) => {
                    // The driver would go on refusing by what it heard once.
                    if matches!(cause, Cause::Driver(_) | Cause::Tls(_)) {
                        self.renew(number, None);
                    }
                    return Err(fault::error(code, &place, message, cause));
                }
            }
        }
    }

    /// Asks the server something about itself. Whatever it answers is an answer.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, RedisError> {
        let mut again = self.again();
        loop {
            let (connection, number, place) = self.take();
            let error = match self.send(connection, command).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let (Verdict::Later(cause) | Verdict::Lost(cause)) = fault::judge(&error) else {
                return Err(error);
            };
            self.renew(number, None);
            if again.pause(&place, Known::NotDone, cause).await.is_err() {
                return Err(error);
            }
        }
    }

    fn again(&self) -> Again {
        Again {
            until: Instant::now() + self.patience.retry.min(LONGEST),
            pause: SHORTEST_PAUSE,
            over_tls: self.nodes.as_ref().is_some_and(Nodes::is_over_tls),
        }
    }

    fn take(&self) -> (ConnectionManager, u64, Arc<str>) {
        let current = self.current();
        let place = Arc::clone(&current.place);
        (current.connection.clone(), current.number, place)
    }

    /// An application's connection may know no time-outs, so they are kept here as well.
    fn limit(&self, waiting: Duration) -> Duration {
        let answered = self.patience.connect.saturating_add(self.patience.response);
        answered.saturating_add(waiting)
    }

    async fn send(&self, mut connection: ConnectionManager, command: &Cmd) -> RedisResult<Value> {
        let sent = connection.send_packed_command(command);
        match tokio::time::timeout(self.limit(Duration::ZERO), sent).await {
            Ok(answer) => answer?.extract_error(),
            Err(_) => Err(timed_out()),
        }
    }

    /// A write and the wait for replicas go together: the server counts by connection. Between them
    /// stands a command that is sure to write: the first one may find that all is as it was to be,
    /// since it was sent before, and then there would be nothing that a replica can lack.
    async fn send_and_wait(
        &self,
        mut connection: ConnectionManager,
        [command, told]: [Cmd; 2],
        replicas: Replicas,
    ) -> RedisResult<Reply> {
        let mut pipe = redis::pipe();
        pipe.add_command(command).add_command(told);
        // Zero would wait for ever.
        let millis = replicas.timeout.as_millis().max(1);
        pipe.cmd("WAIT")
            .arg(replicas.count)
            .arg(u64::try_from(millis).unwrap_or(u64::MAX));
        let sent = connection.send_packed_commands(&pipe, 0, 3);
        let answers = match tokio::time::timeout(self.limit(replicas.timeout), sent).await {
            Ok(answers) => answers?,
            Err(_) => return Err(timed_out()),
        };
        let mut answers = answers.into_iter();
        let value = answers.next().unwrap_or_default().extract_error()?;
        let told = answers.next().unwrap_or_default().extract_error();
        let found = match (told, answers.next()) {
            (Ok(_), Some(Value::Int(found))) => found,
            // The wait was refused or broken off, and the write was done.
            _ => 0,
        };
        if value == Value::Int(0) || found >= i64::from(replicas.count) {
            return Ok(Reply::Done(value));
        }
        Ok(Reply::TooFew(found))
    }

    fn too_few(&self, place: &str, found: i64) -> Error {
        let wanted = self.replicas.map_or(0, |replicas| replicas.count);
        let message = format!(
            "{place} did what it was asked for, and {found} of {wanted} replicas had it in time"
        );
        Error::new(ErrorCode::StoreUnavailable, message)
    }

    /// Puts a new connection in the place of number `failed`: to `node` if it is named, else to the
    /// next one that the store was given. `false` if the connection is the application's.
    fn renew(&self, failed: u64, node: Option<&str>) -> bool {
        let Some(nodes) = &self.nodes else {
            return false;
        };
        let mut current = self.current();
        if current.number != failed {
            return true;
        }
        let turn = usize::try_from(failed).unwrap_or(0) + 1;
        let next = nodes.address(turn);
        let moved = node.and_then(|node| Address::read(node, current.address.as_ref()?));
        let address = moved.unwrap_or_else(|| next.clone());
        let made = nodes.client(&address).ok();
        let made = made.and_then(|client| manager(client, self.patience, self.replicas).ok());
        if let Some(connection) = made {
            current.connection = connection;
            current.place = settings::place(&address).into();
            current.address = Some(address);
        }
        current.number += 1;
        true
    }
}

enum Reply {
    Done(Value),
    /// So many replicas had the write in time.
    TooFew(i64),
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// A connection that is made when it is first used. It tries once: the pauses are made here.
fn manager(
    client: Client,
    patience: Patience,
    replicas: Option<Replicas>,
) -> RedisResult<ConnectionManager> {
    let waiting = replicas.map_or(Duration::ZERO, |replicas| replicas.timeout);
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(patience.connect))
        .set_response_timeout(Some(patience.response + waiting))
        .set_number_of_retries(0);
    ConnectionManager::new_lazy_with_config(client, config)
}

/// What is known when the patience ends.
#[derive(Clone, Copy)]
enum Known {
    /// Nothing was changed.
    NotDone,
    /// The answer to a write is lost.
    Nothing,
}

impl Known {
    const fn of(call: &Call<'_>, sending: Sending) -> Self {
        if call.is_write() && sending.again {
            Self::Nothing
        } else {
            Self::NotDone
        }
    }
}

/// When to try again, and when to give up.
struct Again {
    until: Instant,
    pause: Duration,
    over_tls: bool,
}

impl Again {
    fn check(&self, place: &str, known: Known, cause: impl FnOnce() -> Cause) -> Result<()> {
        if Instant::now() < self.until {
            return Ok(());
        }
        let message = match known {
            Known::NotDone => "cannot be reached",
            Known::Nothing => "cannot be reached, and may have done what it was asked for",
        };
        let code = ErrorCode::StoreUnavailable;
        let cause = cause();
        let cause = if self.over_tls {
            cause.over_tls()
        } else {
            cause
        };
        Err(fault::error(code, place, message, cause))
    }

    async fn pause(&mut self, place: &str, known: Known, cause: Cause) -> Result<()> {
        self.check(place, known, || cause)?;
        tokio::time::sleep(self.pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
