//! What a test wants different from the server as it is started by itself.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// Further settings of a server; [`Options::new`] has none.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(crate) arguments: Vec<OsString>,
    pub(crate) tls: Option<Tls>,
    pub(crate) program: Option<PathBuf>,
    pub(crate) hba: Option<String>,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Options {
    /// A server as it is started by itself.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds arguments behind our own, which they override. Files that they name must be readable
    /// by the user that the server runs as.
    ///
    /// MariaDB and Galera: `["--max-connections=5"]`; PostgreSQL: `["-c", "max_connections=5"]`;
    /// Redis: `["--maxmemory", "2mb"]`; PgBouncer: lines of its section `[pgbouncer]`,
    /// `["max_client_conn = 5"]`.
    #[must_use]
    pub fn arguments<I>(mut self, arguments: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Has the server speak TLS with this certificate (its chain, in PEM) and key (in PEM).
    ///
    /// MariaDB and PostgreSQL then offer it on their port, Redis on a second one
    /// ([`Redis::tls_port`](crate::Redis::tls_port)). Without effect on `PgBouncer` and `Moto`.
    #[must_use]
    pub fn tls(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.tls = Some(Tls {
            certificate: certificate.into(),
            key: key.into(),
        });
        self
    }

    /// PostgreSQL alone: who may log in over TCP and how, as lines of `pg_hba.conf`, in the place of
    /// "everybody, without a password".
    #[must_use]
    pub fn hba(mut self, lines: impl Into<String>) -> Self {
        self.hba = Some(lines.into());
        self
    }

    /// Runs this program and not the one that would be found.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }
}
