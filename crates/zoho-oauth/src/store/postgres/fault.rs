//! What the server's refusals mean for the caller, and whether to try again.
//!
//! The server's texts quote values (`Key (id)=(7) already exists`), and whoever prints an error
//! walks its sources too. So only the SQLSTATE goes on, with the fixed text that belongs to it.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use deadpool_postgres::{HookError, PoolError};
use tokio_postgres::error::{DbError, Severity};

use crate::connection;
use crate::error::{Error, ErrorCode};

/// Where a store keeps its records, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The server and the database, as a message names them.
    pub(super) server: String,
    pub(super) schema: String,
    pub(super) table: String,
    /// Whether connections of our own go there without TLS.
    pub(super) is_plain: bool,
}

/// Why one try failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Whether the same try may succeed in a moment.
    pub(super) may_pass: bool,
    /// Whether the server may have done what it was asked.
    pub(super) may_be_done: bool,
    /// Whether the connection is of no more use.
    pub(super) ends_connection: bool,
    /// The server's code, if it was the server that failed.
    pub(super) state: Option<String>,
}

impl Failure {
    pub(super) fn last(error: Error) -> Self {
        Self {
            error,
            may_pass: false,
            may_be_done: false,
            ends_connection: false,
            state: None,
        }
    }

    /// Whether a row was refused since there is another one like it.
    pub(super) fn is_twin(&self) -> bool {
        self.state.as_deref() == Some("23505")
    }

    /// Nothing was done, and it may go away by itself.
    pub(super) fn passing(error: Error) -> Self {
        Self {
            may_pass: true,
            ..Self::last(error)
        }
    }
}

/// What the server says: the code alone.
#[derive(Debug)]
struct SqlState(String);

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL says SQLSTATE {}", self.0)
    }
}

impl StdError for SqlState {}

/// What the driver says of a connection. Its texts are fixed ones, and those of the operating
/// system and of TLS.
#[derive(Debug)]
struct Said(String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Said {}

impl Place {
    /// The table, as a message names it.
    pub(super) fn name(&self) -> String {
        format!("table `{}.{}` of {}", self.schema, self.table, self.server)
    }

    /// A value in the table, or what lies beside it, cannot be understood.
    pub(super) fn damaged(&self, what: &str) -> Error {
        let message = format!("{}: {what}", self.name());
        Error::new(ErrorCode::StoreDamaged, message)
    }

    /// A column cannot be read as text.
    pub(super) fn unreadable(&self, error: &tokio_postgres::Error) -> Error {
        self.damaged("a column cannot be read")
            .caused_by(Said(error.to_string()))
    }

    pub(super) fn foreign(&self, what: &str) -> Error {
        let message = format!("{} {what}", self.name());
        Error::new(ErrorCode::StoreForeign, message)
    }

    /// A trigger does something else than what was asked for.
    pub(super) fn meddled(&self) -> Error {
        let message = format!("a trigger of {} changes or swallows a write", self.name());
        Error::new(ErrorCode::StoreForeign, message)
    }

    /// Rules put something else in the place of a write.
    pub(super) fn has_rules(&self) -> Error {
        self.foreign("has a rule (CREATE RULE), which changes what is written")
    }

    /// No connection could be had.
    pub(super) fn no_connection(&self, error: &PoolError) -> Failure {
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                self.not_connected(error)
            }
            PoolError::Timeout(_) => Failure::passing(self.late("no connection became free")),
            _ => Failure::last(Error::new(
                ErrorCode::StoreUnavailable,
                format!("the pool of connections to {} is closed", self.server),
            )),
        }
    }

    /// A connection of the application's came in the middle of a transaction.
    pub(super) fn left_open(&self) -> Failure {
        let message = format!(
            "{}: its connections come with transactions that somebody left open",
            self.server
        );
        Failure {
            ends_connection: true,
            ..Failure::passing(Error::new(ErrorCode::StoreUnavailable, message))
        }
    }

    pub(super) fn late(&self, what: &str) -> Error {
        let message = format!("{}: {what} in time", self.server);
        Error::new(ErrorCode::StoreUnavailable, message)
    }

    /// Connecting failed.
    pub(super) fn not_connected(&self, error: &tokio_postgres::Error) -> Failure {
        let mut failure = match error.as_db_error() {
            Some(says) => self.refused(says),
            None => self.lost(error),
        };
        failure.may_be_done = false;
        failure
    }

    /// A statement failed.
    pub(super) fn failed(&self, error: &tokio_postgres::Error) -> Failure {
        match error.as_db_error() {
            Some(says) => self.refused(says),
            None => self.lost(error),
        }
    }

    /// The connection broke, or could not be made.
    fn lost(&self, error: &tokio_postgres::Error) -> Failure {
        let cause = error.source();
        let from_below = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
        let text = match cause {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        // What the two sides cannot agree on (TLS, a password) is the same in a moment.
        let is_refused = from_below.is_some_and(|error| {
            error.get_ref().is_some_and(|inner| {
                inner.is::<rustls::Error>() || inner.is::<rustls::pki_types::InvalidDnsNameError>()
            })
        });
        let server = &self.server;
        let message = match cause.map(ToString::to_string) {
            Some(cause) if cause == "server does not support TLS" => format!(
                "{server} offers no TLS, which this store asks for: switch TLS on at the server, or, on \
                a network that is safe, open the store `without_tls`"
            ),
            Some(_) if is_refused => format!(
                "{server} cannot be reached over TLS: renew its certificate, or name its authority with \
                `root_certificates`"
            ),
            _ => format!("the connection to {server} failed"),
        };
        let tls = from_below.and_then(|error| error.get_ref()?.downcast_ref());
        let code = tls.map_or(ErrorCode::StoreUnavailable, |tls| {
            connection::of_tls(tls).code(ErrorCode::StoreUnavailable)
        });
        let may_pass = error.is_closed() || (from_below.is_some() && !is_refused);
        Failure {
            may_pass,
            may_be_done: true,
            ends_connection: true,
            ..Failure::last(Error::new(code, message).caused_by(Said(text)))
        }
    }

    /// The server gave an error.
    fn refused(&self, says: &DbError) -> Failure {
        let state = says.code().code();
        let is_fatal = matches!(
            says.parsed_severity(),
            Some(Severity::Fatal | Severity::Panic)
        );
        let verdict = self.verdict(state, says.routine());
        Failure {
            error: Error::new(verdict.code, verdict.message).caused_by(SqlState(state.to_owned())),
            may_pass: verdict.may_pass,
            // A server that shuts down may do so after the commit, before the answer.
            may_be_done: matches!(state, "57P01" | "57P02" | "57P05") || state.starts_with("08"),
            ends_connection: is_fatal || verdict.ends_connection,
            state: Some(state.to_owned()),
        }
    }

    /// What a code means; `routine` is the function of the server that gave it.
    fn verdict(&self, state: &str, routine: Option<&str>) -> Verdict {
        if state == "0A000" && routine == Some("RewriteQuery") {
            let message = self.has_rules().message().to_owned();
            return Verdict::new(ErrorCode::StoreForeign, message);
        }
        self.of_the_moment(state)
            .unwrap_or_else(|| self.lasting(state, routine))
    }

    /// What may pass by itself.
    fn of_the_moment(&self, state: &str) -> Option<Verdict> {
        let (server, table) = (&self.server, self.name());
        let locked = |message| Verdict::new(ErrorCode::StoreLocked, message).passing();
        let unavailable = |message| Verdict::new(ErrorCode::StoreUnavailable, message).passing();
        Some(match state {
            "40001" | "40P01" => locked(format!(
                "other transactions on {table} keep getting in the way"
            )),
            "55P03" => locked(format!("another transaction holds a lock on {table}")),
            // The last two: a connection, or a transaction of somebody, that was idle for too long.
            "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => unavailable(format!(
                "{server} ended the connection, or is stopping or starting"
            ))
            .on_another_connection(),
            // After a switch of roles the same name may lead to the new primary.
            "25006" => unavailable(format!("{server} is read-only, like a standby"))
                .on_another_connection(),
            "25P02" => unavailable(format!(
                "a connection to {server} came with a transaction that had failed"
            ))
            .on_another_connection(),
            "53300" => unavailable(format!("{server} has too many connections")),
            // A prepared statement from before somebody changed the columns.
            "0A000" => unavailable(format!("{table} was changed while it was in use"))
                .on_another_connection(),
            _ if state.starts_with("08") => {
                unavailable(format!("the connection to {server} failed")).on_another_connection()
            }
            _ => return None,
        })
    }

    fn lasting(&self, state: &str, routine: Option<&str>) -> Verdict {
        let (server, table) = (&self.server, self.name());
        match state {
            "57014" => Verdict::new(
                ErrorCode::StoreUnavailable,
                format!("{server} ended a statement that took too long"),
            ),
            "57P04" => Verdict::new(ErrorCode::StoreUnavailable, format!("{server} was dropped")),
            "53100" => Verdict::new(ErrorCode::StoreFull, format!("{server} has no room left")),
            "28000" if self.is_plain && routine == Some("ClientAuthentication") => Verdict::new(
                ErrorCode::StoreUnavailable,
                format!(
                    "{server} takes no connections without TLS, or none of this user from here: open \
                    the store with `require_tls`, or see the server's `pg_hba.conf`"
                ),
            ),
            "28000" | "28P01" => Verdict::new(
                ErrorCode::StorePermission,
                format!("{server} refuses the user, the password, or this way of connecting"),
            ),
            "42501" if routine == Some("check_enable_rls") => Verdict::new(
                ErrorCode::StorePermission,
                format!(
                    "row-level security hides records of {table}, or of a `zoho_oauth_` table beside \
                    it, from the database user: give it the attribute BYPASSRLS"
                ),
            ),
            "42501" => Verdict::new(
                ErrorCode::StorePermission,
                format!("the database user may not work on {table}"),
            ),
            "3D000" => Verdict::new(
                ErrorCode::InvalidInput,
                format!("there is no such database: {server}"),
            ),
            "22001" => Verdict::new(
                ErrorCode::InvalidInput,
                format!(
                    "a value is too long for a column of {table}: its columns should be `text`"
                ),
            ),
            // The limit of a value has the same code. The queue is one for the whole server.
            "54000" if routine.is_some_and(|name| name.contains("Notify")) => Verdict::new(
                ErrorCode::StoreFull,
                format!(
                    "{server} has no room left in its queue of notifications: a session that \
                    listens stays in a transaction"
                ),
            ),
            "54000" | "22021" | "22P05" => Verdict::new(
                ErrorCode::InvalidInput,
                format!("a value is too large for {table}, or not in its database's encoding"),
            ),
            "3F000" | "42P01" => Verdict::new(
                ErrorCode::StoreDamaged,
                format!("{table}, or a `zoho_oauth_` table beside it, is missing"),
            ),
            "42703" | "42804" | "42883" => Verdict::new(
                ErrorCode::StoreForeign,
                format!("{table}, or a `zoho_oauth_` table beside it, has other columns than ours"),
            ),
            "26000" | "42P05" => Verdict::new(
                ErrorCode::Unsupported,
                format!(
                    "prepared statements do not last on {server}: behind a proxy that pools \
                    transactions turn them off with `prepared_statements(false)`"
                ),
            ),
            "XX001" | "XX002" => Verdict::new(
                ErrorCode::StoreDamaged,
                format!("{table} is damaged, says the server"),
            ),
            // Our own statement ends so when it comes to something else than it should.
            "22012" | "27000" => {
                let message = self.meddled().message().to_owned();
                Verdict::new(ErrorCode::StoreForeign, message)
            }
            _ if state.starts_with("P0") => Verdict::new(
                ErrorCode::StoreForeign,
                format!("a trigger of {table} refuses a record of ours"),
            ),
            _ if state.starts_with("23") => Verdict::new(
                ErrorCode::StoreForeign,
                format!("a constraint of {table} refuses a record of ours"),
            ),
            _ => Verdict::new(
                ErrorCode::StoreUnavailable,
                format!("{server} cannot work on {table}"),
            ),
        }
    }
}

/// What a SQLSTATE means.
struct Verdict {
    code: ErrorCode,
    message: String,
    may_pass: bool,
    ends_connection: bool,
}

impl Verdict {
    const fn new(code: ErrorCode, message: String) -> Self {
        Self {
            code,
            message,
            may_pass: false,
            ends_connection: false,
        }
    }

    fn passing(mut self) -> Self {
        self.may_pass = true;
        self
    }

    fn on_another_connection(mut self) -> Self {
        self.ends_connection = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            server: "database `d` at `h:5432`".into(),
            schema: "public".into(),
            table: "oauthtoken".into(),
            is_plain: false,
        }
    }

    #[test]
    fn every_state_has_its_meaning() {
        for (state, code, may_pass) in [
            ("40001", ErrorCode::StoreLocked, true),
            ("40P01", ErrorCode::StoreLocked, true),
            ("55P03", ErrorCode::StoreLocked, true),
            ("57014", ErrorCode::StoreUnavailable, false),
            ("57P01", ErrorCode::StoreUnavailable, true),
            ("57P03", ErrorCode::StoreUnavailable, true),
            ("57P05", ErrorCode::StoreUnavailable, true),
            ("08006", ErrorCode::StoreUnavailable, true),
            ("08P01", ErrorCode::StoreUnavailable, true),
            ("25006", ErrorCode::StoreUnavailable, true),
            ("25P02", ErrorCode::StoreUnavailable, true),
            ("25P03", ErrorCode::StoreUnavailable, true),
            ("53100", ErrorCode::StoreFull, false),
            ("53300", ErrorCode::StoreUnavailable, true),
            ("28P01", ErrorCode::StorePermission, false),
            ("42501", ErrorCode::StorePermission, false),
            ("3D000", ErrorCode::InvalidInput, false),
            ("22001", ErrorCode::InvalidInput, false),
            ("22P05", ErrorCode::InvalidInput, false),
            ("54000", ErrorCode::InvalidInput, false),
            ("42P01", ErrorCode::StoreDamaged, false),
            ("42703", ErrorCode::StoreForeign, false),
            ("23505", ErrorCode::StoreForeign, false),
            ("22012", ErrorCode::StoreForeign, false),
            ("P0001", ErrorCode::StoreForeign, false),
            ("26000", ErrorCode::Unsupported, false),
            ("0A000", ErrorCode::StoreUnavailable, true),
            ("XX001", ErrorCode::StoreDamaged, false),
            ("99999", ErrorCode::StoreUnavailable, false),
            ("", ErrorCode::StoreUnavailable, false),
        ] {
            let verdict = place().verdict(state, Some("index_form_tuple"));
            assert_eq!(
                (verdict.code, verdict.may_pass),
                (code, may_pass),
                "{state}"
            );
        }
        let queue = place().verdict("54000", Some("PreCommit_Notify"));
        assert_eq!(queue.code, ErrorCode::StoreFull);
    }
}
