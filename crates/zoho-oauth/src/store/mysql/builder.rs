//! Settings of a store, and opening it.

use std::net::IpAddr;
use std::time::Duration;

use mysql_async::{OptsBuilder, Pool, PoolConstraints, PoolOpts};

use super::MySqlStore;
use super::core::{Core, Missing, in_task};
use super::nodes::{Limits, Node, Nodes, place, prepared};
use super::sql::checked_table_name;
use super::tls::MySqlTls;
use crate::error::{Error, ErrorCode, Result};
use crate::secret::Secret;
use crate::store::backoff::Backoff;
use crate::store::{Leases, given};
use crate::token::TokenId;

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_mins(1);
/// More than the different statements of a store, so that each is prepared once per connection.
const STATEMENTS: usize = 128;

/// Settings of a [`MySqlStore`]. The defaults are those of the official SDKs.
///
/// `Debug` prints neither the password nor the private key.
#[derive(Clone, Debug)]
pub struct MySqlStoreBuilder {
    hosts: Vec<Given>,
    port: u16,
    database: Given,
    table: String,
    user: String,
    password: Option<Password>,
    tls: Tls,
    pool_size: usize,
    limits: Limits,
    lease: Duration,
    reserved: u64,
}

/// The name of a host or a database, which may be anything.
#[derive(Clone)]
struct Given(String);

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        given::shown(&self.0).fmt(f)
    }
}

#[derive(Clone)]
struct Password(Secret);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

#[derive(Clone, Debug)]
enum Tls {
    /// For hosts other than this machine.
    Remote,
    Always(MySqlTls),
    Never,
}

impl Default for MySqlStoreBuilder {
    fn default() -> Self {
        Self {
            hosts: vec![Given("localhost".to_owned())],
            port: 3306,
            database: Given("zohooauth".to_owned()),
            table: MySqlStore::DEFAULT_TABLE.to_owned(),
            user: "root".to_owned(),
            password: None,
            tls: Tls::Remote,
            pool_size: 10,
            limits: Limits {
                connect: Duration::from_secs(5),
                statement: Duration::from_secs(10),
                patience: Duration::from_secs(15),
            },
            lease: Leases::DEFAULT_LIFE,
            reserved: 0,
        }
    }
}

impl MySqlStoreBuilder {
    /// Names the server: `localhost` if not set.
    #[must_use]
    pub fn host(self, host: impl Into<String>) -> Self {
        self.hosts([host])
    }

    /// Names the nodes of a cluster, each as `host` or `host:port`, in the order of preference.
    ///
    /// One of them is used until it fails; then the next one is, around and around. All must show
    /// the same data, what was written at one at once at the others: a Galera cluster, for example,
    /// and not a primary with replicas that lag behind.
    #[must_use]
    pub fn hosts<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.hosts = hosts.into_iter().map(|host| Given(host.into())).collect();
        self
    }

    /// Sets the port of hosts that name none: 3306 if not set.
    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Names the database, which must be there: `zohooauth` if not set.
    #[must_use]
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Given(name.into());
        self
    }

    /// Names the table: up to 64 ASCII letters, digits and `_`; `oauthtoken` if not set.
    ///
    /// One database may hold several token tables.
    #[must_use]
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// Names the account: `root` if not set.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = name.into();
        self
    }

    /// Sets the account's password: none if not set.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Secret::received("password", password.into())
            .ok()
            .map(Password);
        self
    }

    /// Encrypts all connections, and says whom to believe.
    ///
    /// Without this, connections to other machines are encrypted and checked against the
    /// certificate authorities of this one, and those to this machine are not encrypted.
    #[must_use]
    pub fn tls(mut self, tls: MySqlTls) -> Self {
        self.tls = Tls::Always(tls);
        self
    }

    /// Encrypts nothing: tokens and the password's digest can be read on the way. Whoever can also
    /// change what is on the way gets the password itself: to log in by `caching_sha2_password`, as
    /// MySQL 8 does, it is encrypted with the key that the other side sends. For networks that are
    /// encrypted by other means.
    #[must_use]
    pub fn without_tls(mut self) -> Self {
        self.tls = Tls::Never;
        self
    }

    /// Sets how many connections there are at most: 10 if not set. They are opened when they are
    /// needed, and closed after a minute of idleness.
    #[must_use]
    pub const fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// Sets how long opening a connection may take: 5 seconds if not set.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.limits.connect = timeout;
        self
    }

    /// Sets how long a statement may take before its connection is given up: 10 seconds if not
    /// set. A Galera cluster that loses a node stands still for about six.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.limits.statement = timeout;
        self
    }

    /// Sets for how long an operation is begun anew after failures that pass (a deadlock, a lost
    /// connection, a node that is not ready, a server that restarts): 15 seconds if not set.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.limits.patience = patience;
        self
    }

    /// Sets how long the right to refresh a token outlives a machine that died holding it:
    /// [`Leases::DEFAULT_LIFE`] if not set. Keep it above the time for which a cluster stands
    /// still.
    #[must_use]
    pub const fn lease(mut self, life: Duration) -> Self {
        self.lease = life;
        self
    }

    /// Gives new records ids from this one on, or higher ones if higher ones were given already.
    ///
    /// With [`MySqlStore::SHARED_IDS`] the official SDKs can go on adding records to the same table:
    /// see [Compatibility](super#compatibility).
    #[must_use]
    pub const fn ids_from(mut self, first: TokenId) -> Self {
        self.reserved = first.get() - 1;
        self
    }

    /// Connects, and makes the table and those beside it where they are missing.
    ///
    /// # Errors
    /// `invalid_input` for a setting that cannot be used, and a database that is not there;
    /// `store_permission` when the account is refused; `store_foreign` and `unsupported` when there
    /// is something else under the table's name, or a table of an older official SDK, which
    /// [`widen`](Self::widen) makes fit; `store_unavailable`.
    pub async fn connect(self) -> Result<MySqlStore> {
        let nodes = self.nodes().await?;
        self.open(nodes, false).await
    }

    /// Connects if the table is there, and makes nothing; `None` if it is not, or if the account may
    /// not see it. For programs that only read, which then need nothing but SELECT on the table, and
    /// for looking before something is made.
    ///
    /// The tables beside it are not made either, and not needed for reading. The first write that
    /// needs them makes them.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); `invalid_input` together with [`ids_from`](Self::ids_from),
    /// which is something to write.
    pub async fn connect_existing(self) -> Result<Option<MySqlStore>> {
        if self.reserved > 0 {
            let message = "`ids_from` writes to the database, and `connect_existing` does not";
            return Err(Error::invalid_input(message));
        }
        let nodes = self.nodes().await?;
        self.open_with(nodes, Missing::Left).await
    }

    /// Connects, and gives the table of an older official SDK, or of the official SDKs'
    /// documentation, what a store needs. Then [`connect`](Self::connect) opens it.
    ///
    /// The column `api_domain`, if it is the only one that is missing, is added behind the others;
    /// the rest is done as by [`MySqlStore::widen`]. An older SDK that names its columns goes on
    /// with the table. Another kind of table is refused and stays as it is. There is no need to call
    /// it once more, and no harm.
    ///
    /// # Errors
    /// As [`connect`](Self::connect) and [`MySqlStore::widen`].
    pub async fn widen(self) -> Result<MySqlStore> {
        let nodes = self.nodes().await?;
        let store = self.open(nodes, true).await?;
        store.widen().await?;
        Ok(store)
    }

    /// The pools of our own, which connect when they are first asked.
    async fn nodes(&self) -> Result<Nodes> {
        checked_table_name(&self.table)?;
        let places = self.places()?;
        given::check_database(&self.database.0)?;
        let pool = PoolConstraints::new(0, self.pool_size)
            .ok_or_else(|| Error::invalid_input("a pool needs room for a connection"))?;
        self.check_limits()?;
        let pool = PoolOpts::default()
            .with_constraints(pool)
            .with_inactive_connection_ttl(IDLE)
            // Nothing is ever left behind in a session of ours.
            .with_reset_connection(false);
        let options = OptsBuilder::default()
            .user(Some(self.user.as_str()))
            .pass(self.password.as_ref().map(|word| word.0.expose()))
            .db_name(Some(self.database.0.as_str()))
            .stmt_cache_size(STATEMENTS)
            .tcp_keepalive(Some(IDLE))
            // It would ask for the socket at each connection, and then connect a second time.
            .prefer_socket(false)
            .pool_opts(pool);
        let mut nodes = Vec::new();
        for (host, port) in places {
            let tls = match &self.tls {
                Tls::Always(tls) => Some(tls.clone()),
                Tls::Remote if !is_this_machine(&host) => Some(MySqlTls::system()),
                Tls::Remote | Tls::Never => None,
            };
            let tls = match tls {
                Some(tls) => Some(unblocked(move || tls.options()).await?),
                None => None,
            };
            let options = prepared(options.clone())
                .ip_or_hostname(host.as_str())
                .tcp_port(port)
                .ssl_opts(tls);
            nodes.push(Node {
                pool: Pool::new(options),
                server: place(&host, port),
                backoff: Backoff::default(),
            });
        }
        Ok(Nodes::own(nodes, self.pool_size, self.limits))
    }

    fn check_limits(&self) -> Result<()> {
        for (name, limit) in [
            ("connect time-out", self.limits.connect),
            ("time-out", self.limits.statement),
        ] {
            if limit.is_zero() {
                return Err(Error::invalid_input(format!("the {name} is zero")));
            }
        }
        Ok(())
    }

    /// Uses a pool that the application owns, in the database that the pool's connections have
    /// selected. It is never closed by the store.
    ///
    /// Of the settings, `table`, `timeout`, `patience`, `lease` and `ids_from` count, and
    /// `connect_timeout` where it is longer than `patience`: the longer of both is how long a
    /// connection of the pool is waited for. Each operation sets the session variables that it
    /// depends on (isolation, character set, `sql_mode`, `sql_select_limit` and others), and sets
    /// them back before it returns the connection: two more round trips. A connection that somebody
    /// returned with a transaction left open is closed, and nothing of ours gets into that.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn open_pool(self, pool: Pool) -> Result<MySqlStore> {
        self.check_limits()?;
        // Its address is known to its connections only.
        let server = String::new();
        let node = Node {
            pool,
            server,
            backoff: Backoff::default(),
        };
        let nodes = Nodes::lent(vec![node], self.limits);
        self.open(nodes, false).await
    }

    async fn open(self, nodes: Nodes, is_widened: bool) -> Result<MySqlStore> {
        let missing = Missing::Made {
            reserved: self.reserved,
            is_widened,
        };
        let opened = self.open_with(nodes, missing).await?;
        opened.ok_or_else(|| Error::new(ErrorCode::Internal, "a table that was made is missing"))
    }

    async fn open_with(self, nodes: Nodes, missing: Missing) -> Result<Option<MySqlStore>> {
        let table = checked_table_name(&self.table)?.to_owned();
        let opening = async move { Core::open(nodes, &table, missing).await };
        let core = in_task(opening).await?;
        Ok(core.map(|core| MySqlStore::new(core, self.lease)))
    }

    /// Host and port of each node.
    fn places(&self) -> Result<Vec<(String, u16)>> {
        if self.hosts.is_empty() {
            return Err(Error::invalid_input("no host is named"));
        }
        let places = self.hosts.iter();
        places.map(|host| split_place(&host.0, self.port)).collect()
    }
}

async fn unblocked<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorCode::Internal,
            "reading certificates failed",
        ))
    })
}

/// Reads `host`, `host:port`, `[::1]:port`, or an address of IPv6.
fn split_place(text: &str, port: u16) -> Result<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, digits)) if text.parse::<IpAddr>().is_err() => {
            (host, digits.parse().map_err(|_| given::no_host())?)
        }
        _ => (text, port),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    if port == 0 || !given::is_host(host) {
        return Err(given::no_host());
    }
    Ok((host.to_owned(), port))
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_and_without_a_port() {
        for (text, host, port) in [
            ("db", "db", 3306),
            ("db:3307", "db", 3307),
            ("10.0.0.7:1", "10.0.0.7", 1),
            ("::1", "::1", 3306),
            ("[::1]:9", "::1", 9),
        ] {
            assert_eq!(
                split_place(text, 3306).unwrap(),
                (host.to_owned(), port),
                "{text}"
            );
        }
        for text in [
            "",
            ":3306",
            "db:0",
            "mysql://root:geheim@db/x",
            "root:geheim@db",
            "a b",
        ] {
            let error = split_place(text, 3306).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidInput, "{text}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "::1"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["db", "localhost.example.com", "10.0.0.1", "192.168.0.1"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let tls = MySqlTls::authorities("geheim").identity("geheim", "geheim");
        let builder = MySqlStore::builder().password("geheim").tls(tls);
        let text = format!("{builder:?}");
        assert!(
            !text.contains("geheim") && text.contains("redacted"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn settings_that_cannot_be_used_are_refused() {
        let builder = MySqlStore::builder;
        for builder in [
            builder().pool_size(0),
            builder().timeout(Duration::ZERO),
            builder().hosts([""; 0]),
            builder().table("a;b"),
        ] {
            let error = builder.connect().await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidInput, "{error}");
        }
    }
}
