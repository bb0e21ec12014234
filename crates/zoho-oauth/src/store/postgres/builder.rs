//! Settings of a store, and opening it.

use std::fmt;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use tokio::sync::{Mutex, Semaphore};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::address::{Address, Host};
use super::connect::Connector;
use super::coordination::FleetCoordination;
use super::fault::Place;
use super::listen::{self, Listening};
use super::schema::{self, Meddlers};
use super::server::{Limits, Line, Server, TELL_SESSION};
use super::sql::{Statements, checked_name};
use super::{Core, PostgresStore};
use crate::error::{Error, ErrorCode, Result};
use crate::secret::Secret;
use crate::store::backoff::Backoff;
use crate::store::{Leases, given};

/// A silent connection is looked after from then on, so that one whose other end vanished is found.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Settings of a [`PostgresStore`].
#[derive(Clone)]
pub struct PostgresStoreBuilder {
    address: Address,
    database: String,
    user: String,
    password: Option<Secret>,
    tls: Tls,
    roots: Option<Vec<u8>>,
    schema: Option<String>,
    table: String,
    pool_size: usize,
    connect_timeout: Duration,
    limits: Limits,
    lease: Duration,
    listen: Listen,
}

/// Which connections are encrypted.
#[derive(Clone, Copy, Debug)]
enum Tls {
    /// Those to other machines.
    Outward,
    All,
    None,
}

/// Where changes are heard.
#[derive(Clone, Debug)]
enum Listen {
    /// Where everything else is asked, unless that is a proxy.
    Same,
    On(Address),
    Nowhere,
}

impl PostgresStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            address: Address {
                host: Host::Name("localhost".to_owned()),
                port: 5432,
            },
            database: PostgresStore::DEFAULT_DATABASE.to_owned(),
            user: "postgres".to_owned(),
            password: None,
            tls: Tls::Outward,
            roots: None,
            schema: None,
            table: PostgresStore::DEFAULT_TABLE.to_owned(),
            pool_size: 8,
            connect_timeout: Duration::from_secs(5),
            limits: Limits {
                timeout: Duration::from_secs(10),
                patience: Duration::from_secs(5),
                prepare: true,
            },
            lease: Leases::DEFAULT_LIFE,
            listen: Listen::Same,
        }
    }

    /// Names the server: a host name or an IP address. Default `localhost`.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.address.host = Host::Name(host.into());
        self
    }

    /// Reaches the server through the Unix socket in this folder, such as `/run/postgresql`,
    /// instead of a host.
    #[cfg(unix)]
    #[must_use]
    pub fn socket_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.address.host = Host::SocketFolder(folder.into());
        self
    }

    /// Sets the port, which is a part of a socket's name too. Default 5432.
    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.address.port = port;
        self
    }

    /// Names the database. Default `zohooauth`; it is not made.
    #[must_use]
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = name.into();
        self
    }

    /// Names the user of the database. Default `postgres`.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = name.into();
        self
    }

    /// Sets the user's password. None by default, and none if it is empty. It is never printed.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Secret::received("password", password.into()).ok();
        self
    }

    /// Uses TLS for every connection, also to this machine, where it is not the default.
    #[must_use]
    pub const fn require_tls(mut self) -> Self {
        self.tls = Tls::All;
        self
    }

    /// Uses no TLS, not even to other machines: for networks that encrypt by themselves. Tokens,
    /// and without SCRAM the password, otherwise travel in the open.
    #[must_use]
    pub const fn without_tls(mut self) -> Self {
        self.tls = Tls::None;
        self
    }

    /// Trusts these certificate authorities instead of the system's, and requires TLS:
    /// certificates in PEM form, any number of them.
    #[must_use]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(pem.into());
        self.require_tls()
    }

    /// Names the schema, and makes it if it is missing. Without it, the first schema of the
    /// connection's `search_path`, which is `public` on most servers.
    #[must_use]
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = Some(name.into());
        self
    }

    /// Names the table: up to 63 ASCII letters, digits and `_`, taken as they are, capitals too.
    /// Default `oauthtoken`. One schema may hold several token tables.
    #[must_use]
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// Sets the most connections that are open at a time: 8 if not set. They are made as they are
    /// needed. Listening takes one more.
    #[must_use]
    pub const fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// Sets how long it may take to reach each address of the server: 5 seconds if not set.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long one try of an operation may take, with all waiting: 10 seconds if not set.
    /// Operations on all records, and pages, may take ten times as long.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.limits.timeout = timeout;
        self
    }

    /// Sets for how long an operation is tried again when the connection is lost, the server
    /// restarts, or transactions get into each other's way: 5 seconds if not set. Zero for never.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.limits.patience = patience;
        self
    }

    /// Sets how long a lease lasts that its holder does not renew: 20 seconds if not set.
    #[must_use]
    pub const fn lease(mut self, life: Duration) -> Self {
        self.lease = life;
        self
    }

    /// Turns prepared statements off, for proxies that pool transactions. Nobody then listens for
    /// changes either, unless [`listen_on`](Self::listen_on) says where.
    #[must_use]
    pub const fn prepared_statements(mut self, prepare: bool) -> Self {
        self.limits.prepare = prepare;
        self
    }

    /// Listens for changes on this server instead: the one behind the proxy, or the one that an
    /// application's pool leads to. Database, user, password and TLS are as set for this store.
    #[must_use]
    pub fn listen_on(mut self, host: impl Into<String>, port: u16) -> Self {
        self.listen = Listen::On(Address {
            host: Host::Name(host.into()),
            port,
        });
        self
    }

    /// Does not listen for changes: [`changes`](crate::TokenStore::changes) is `None`. Others are
    /// told all the same.
    #[must_use]
    pub fn without_notifications(mut self) -> Self {
        self.listen = Listen::Nowhere;
        self
    }

    /// Opens the table, and makes it if it is missing, with all that lies beside it.
    ///
    /// Takes as long as it takes to build the indexes of a large table that has none yet. Somebody
    /// else who holds a lock meanwhile, perhaps to do the same, is waited for for ten times the
    /// [time-out](Self::timeout). Open a store once, at the start, and clone it.
    ///
    /// # Errors
    /// `invalid_input` when a setting cannot be used or there is no such database,
    /// `store_permission` when the server refuses the user, the password or the making of tables,
    /// `store_foreign` when there is something else under a name of ours, `store_locked` when
    /// somebody holds a lock for too long, and `store_unavailable`.
    pub async fn connect(self) -> Result<PostgresStore> {
        let way = self.way()?;
        self.open(way).await
    }

    /// Opens the table if it is there, and makes nothing; `None` if it is not. For programs that
    /// only read, which then need nothing but `SELECT` on the table, and for looking before
    /// something is made.
    ///
    /// What lies beside the table is not made either: where it is missing, look-ups read the table
    /// from end to end, and writes fail.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_existing(self) -> Result<Option<PostgresStore>> {
        let mut way = self.way()?;
        schema::look_around(&mut way.line).await?;
        if !schema::is_there(&way.line).await? {
            return Ok(None);
        }
        let meddlers = schema::meddlers(&way.line).await?;
        Ok(Some(self.opened(way, &meddlers)?))
    }

    /// By connections of our own, the first of which is made when something is asked.
    fn way(&self) -> Result<Way> {
        self.check()?;
        let mut connector = self.connector(&self.address)?;
        if self.limits.prepare {
            connector = connector.telling(TELL_SESSION);
        }
        let manager = Manager::from_connect(
            self.config(&self.address),
            connector.clone(),
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = Pool::builder(manager).max_size(self.pool_size).build();
        let pool = pool.map_err(|_| {
            Error::new(
                ErrorCode::Internal,
                "the pool of connections cannot be made",
            )
        })?;
        let database = given::shown(&self.database);
        let server = format!("database `{database}` at `{}`", self.address);
        let listen = match &self.listen {
            Listen::Same if self.limits.prepare => Some(self.address.clone()),
            Listen::On(address) => Some(address.clone()),
            Listen::Same | Listen::Nowhere => None,
        };
        Ok(self.way_through(pool, Some(connector), server, listen))
    }

    /// Opens the table through a pool of the application.
    ///
    /// Of the settings for the way to the server only those count that
    /// [`listen_on`](Self::listen_on) uses; without it nobody listens for changes.
    ///
    /// A statement that is not answered in time cannot be ended at the server from here: give the
    /// pool's connections a `statement_timeout` or a `lock_timeout`. Until it is answered its
    /// connection waits outside of the pool; when as many wait as the pool has room for, the next ones
    /// keep their place in it. So the server never has more than twice the pool's size to bear.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_with(self, pool: Pool) -> Result<PostgresStore> {
        self.check()?;
        let server = "the database of the application's pool".to_owned();
        let listen = match &self.listen {
            Listen::On(address) => Some(address.clone()),
            Listen::Same | Listen::Nowhere => None,
        };
        let way = self.way_through(pool, None, server, listen);
        self.open(way).await
    }

    fn check(&self) -> Result<()> {
        checked_name("table", &self.table)?;
        if let Some(schema) = &self.schema {
            checked_name("schema", schema)?;
        }
        self.address.check()?;
        if let Listen::On(address) = &self.listen {
            address.check()?;
        }
        given::check_database(&self.database)?;
        let wrong = |what: &str| Err(Error::invalid_input(what));
        if self.pool_size == 0 {
            return wrong("the size of the pool is zero");
        }
        if self.limits.timeout.is_zero() || self.connect_timeout.is_zero() {
            return wrong("a time-out is zero");
        }
        for (name, value) in [("database", &self.database), ("user", &self.user)] {
            if value.is_empty() || value.contains('\0') {
                return wrong(&format!("the name of the {name} is empty or holds a NUL"));
            }
        }
        Ok(())
    }

    fn connector(&self, address: &Address) -> Result<Connector> {
        if self.is_encrypted(address) {
            Connector::with_tls(self.roots.as_deref())
        } else {
            Ok(Connector::without_tls())
        }
    }

    /// TLS has no place on a Unix socket.
    fn is_encrypted(&self, address: &Address) -> bool {
        let is_socket = !matches!(address.host, Host::Name(_));
        match self.tls {
            Tls::Outward => !address.is_here(),
            Tls::All => !is_socket,
            Tls::None => false,
        }
    }

    fn config(&self, address: &Address) -> Config {
        let mut config = Config::new();
        config
            .dbname(&self.database)
            .user(&self.user)
            .port(address.port)
            .application_name("zoho-oauth")
            .connect_timeout(self.connect_timeout)
            .keepalives_idle(KEEPALIVE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .ssl_mode(if self.is_encrypted(address) {
                SslMode::Require
            } else {
                SslMode::Disable
            });
        match &address.host {
            Host::Name(name) => config.host(name),
            #[cfg(unix)]
            Host::SocketFolder(folder) => config.host_path(folder),
        };
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        config
    }

    fn way_through(
        &self,
        pool: Pool,
        connector: Option<Connector>,
        server: String,
        listen: Option<Address>,
    ) -> Way {
        let place = Place {
            server,
            schema: self.schema.clone().unwrap_or_default(),
            table: self.table.clone(),
            is_plain: connector.as_ref().is_some_and(|own| !own.is_encrypting()),
        };
        let line = Line {
            outside: Arc::new(Semaphore::new(pool.status().max_size)),
            pool,
            connector,
            place,
            limits: self.limits,
            backoff: Backoff::default(),
        };
        Way { line, listen }
    }

    async fn open(self, mut way: Way) -> Result<PostgresStore> {
        schema::look_around(&mut way.line).await?;
        schema::prepare(&way.line).await?;
        let meddlers = schema::meddlers(&way.line).await?;
        if meddlers.rules {
            return Err(way.line.place.has_rules());
        }
        self.opened(way, &meddlers)
    }

    /// The store over a table that is there.
    fn opened(self, Way { line, listen }: Way, meddlers: &Meddlers) -> Result<PostgresStore> {
        let Place { schema, table, .. } = &line.place;
        let channel = listen::channel(schema, table);
        let listening = match listen {
            Some(address) => Some(Listening::new(
                self.config(&address),
                self.connector(&address)?,
                channel.clone(),
            )),
            None => None,
        };
        let server = Arc::new(Server {
            statements: Statements::new(schema, table),
            channel,
            alone: Mutex::new(()),
            is_watched: meddlers.triggers,
            line,
        });
        let core = Core {
            coordination: FleetCoordination::new(Arc::clone(&server), self.lease),
            listening,
            server,
        };
        Ok(PostgresStore {
            core: Arc::new(core),
        })
    }
}

/// How the server is reached, and where it is listened to.
struct Way {
    line: Line,
    listen: Option<Address>,
}

impl fmt::Debug for PostgresStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStoreBuilder")
            .field("address", &self.address)
            .field("database", &given::shown(&self.database))
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "[redacted]"))
            .field("tls", &self.tls)
            .field("own_roots", &self.roots.is_some())
            .field("schema", &self.schema)
            .field("table", &self.table)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("limits", &self.limits)
            .field("lease", &self.lease)
            .field("listen", &self.listen)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_printed() {
        let builder = PostgresStoreBuilder::new().password("s3cret-word");
        let printed = format!("{builder:?} {builder:#?}");
        assert!(printed.contains("[redacted]") && !printed.contains("s3cret"));
        let config = builder.config(&builder.address);
        assert_eq!(config.get_password(), Some(&b"s3cret-word"[..]));
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn other_machines_are_reached_with_tls() {
        let mode = |builder: PostgresStoreBuilder| builder.config(&builder.address).get_ssl_mode();
        let new = PostgresStoreBuilder::new;
        for here in ["localhost", "127.0.0.1", "::1"] {
            assert_eq!(mode(new().host(here)), SslMode::Disable, "{here}");
            assert_eq!(mode(new().host(here).require_tls()), SslMode::Require);
        }
        for there in ["db.example", "10.0.0.1", "localhost.example"] {
            assert_eq!(mode(new().host(there)), SslMode::Require, "{there}");
            assert_eq!(mode(new().host(there).without_tls()), SslMode::Disable);
        }
        #[cfg(unix)]
        assert_eq!(
            mode(new().socket_folder("/run/postgresql").require_tls()),
            SslMode::Disable
        );
    }

    #[tokio::test]
    async fn settings_that_cannot_be_used_are_refused() {
        let new = PostgresStoreBuilder::new;
        for builder in [
            new().table("a b"),
            new().table("zoho_oauth_mark"),
            new().schema("x;"),
            new().pool_size(0),
            new().timeout(Duration::ZERO),
            new().database(""),
            new().user("a\0"),
            new().root_certificates("no certificate"),
        ] {
            let printed = format!("{builder:?}");
            let error = builder.connect().await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidInput, "{printed}");
        }
    }
}
