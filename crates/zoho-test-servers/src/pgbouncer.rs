//! PgBouncer, in front of a PostgreSQL server.

use std::fmt::Write as _;

use crate::error::Result;
use crate::home::{Account, Home};
use crate::options::Options;
use crate::port::Port;
use crate::postgres::{self, Client, Postgres};
use crate::programs;
use crate::service::{Service, arguments};

const USERS: &[&str] = &["postgres", "nobody"];

/// A PgBouncer that gives a connection to the server for one transaction at a time.
///
/// It takes any user, without a password, and is `postgres` to the server. It does not outlive its
/// server in any useful way: keep the [`Postgres`] value.
#[derive(Debug)]
pub struct PgBouncer {
    _service: Service,
    port: Port,
}

impl PgBouncer {
    /// Starts one in front of `server`.
    ///
    /// # Errors
    /// When the program is missing, or it ends before a query comes through it.
    pub fn start(server: &Postgres) -> Result<Self> {
        Self::start_with(server, &Options::new())
    }

    /// Starts one with further lines in the section `[pgbouncer]` of its settings.
    ///
    /// # Errors
    /// See [`PgBouncer::start`].
    pub fn start_with(server: &Postgres, options: &Options) -> Result<Self> {
        let found = || programs::needed("pgbouncer");
        let program = options.program.clone().map_or_else(found, Ok)?;
        let home = Home::new(Account::other_than_root(USERS)?)?;
        let port = Port::reserve()?;
        let settings = settings(server.port(), port.number(), options);
        let file = home.write("pgbouncer.ini", &settings)?;
        let mut service = Service::new("PgBouncer", program, arguments([file]), home);
        let client = Client::over_tcp(server, port.number());
        service.start(&[], || client.answers())?;
        Ok(Self {
            _service: service,
            port,
        })
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`
    pub fn url(&self) -> String {
        postgres::url(&self.port)
    }

    /// The port of 127.0.0.1 that it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}

fn settings(server: u16, port: u16, options: &Options) -> String {
    let mut settings = format!(
        "[databases]\n\
         * = host=127.0.0.1 port={server} user=postgres\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = any\n\
         pool_mode = transaction\n"
    );
    for line in &options.arguments {
        let _ = writeln!(settings, "{}", line.to_string_lossy());
    }
    settings
}
