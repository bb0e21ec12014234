//! Settings of a store, and how it is opened.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::{Client, Value};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::RedisStore;
use super::coordination::FleetCoordination;
use super::link::{Link, Patience, Replicas};
use super::names::Names;
use super::persistence::{self, Found, Persistence};
use super::script::{Call, LOOK, OPEN};
use super::server::Core;
use super::settings::{Address, Nodes, Tls, checked_prefix};
use super::watch::Watch;
use crate::error::Result;
use crate::store::rows::RowServer;
use crate::store::{Leases, given};

/// Settings of a [`RedisStore`].
///
/// `Debug` prints no password.
#[derive(Clone, Debug)]
#[must_use = "a store is opened with `connect`"]
pub struct RedisStoreBuilder {
    nodes: Nodes,
    prefix: String,
    patience: Patience,
    lease: Duration,
    replicas: Option<Replicas>,
    required: Option<Persistence>,
    listener: Option<Client>,
}

impl RedisStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            nodes: Nodes {
                addresses: vec![Address {
                    host: "127.0.0.1".to_owned(),
                    port: RedisStore::DEFAULT_PORT,
                }],
                user: None,
                password: None,
                database: 0,
                tls: Tls::Off,
            },
            prefix: RedisStore::DEFAULT_PREFIX.to_owned(),
            patience: Patience {
                connect: Duration::from_secs(2),
                response: Duration::from_secs(3),
                retry: Duration::from_secs(5),
            },
            lease: Leases::DEFAULT_LIFE,
            replicas: None,
            required: None,
            listener: None,
        }
    }

    /// Names the server: a name or an address. Default `127.0.0.1`.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.nodes.addresses[0].host = host.into();
        self
    }

    /// Sets the server's port. Default 6379.
    pub fn port(mut self, port: u16) -> Self {
        self.nodes.addresses[0].port = port;
        self
    }

    /// Names another server that is asked when the first cannot be reached, or says twice in a row
    /// that it cannot serve at the moment: a further node of a cluster. Which node of a cluster holds
    /// the keys, they tell by themselves.
    pub fn node(mut self, host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        self.nodes.addresses.push(Address { host, port });
        self
    }

    /// Sets the user to log in as. Without one, a password is that of the user `default`.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.nodes.user = Some(user.into());
        self
    }

    /// Sets the password. It is printed nowhere.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.nodes.password = Some(Zeroizing::new(password.into()));
        self
    }

    /// Sets the number of the database. Default 0, the only one in a cluster.
    pub const fn database(mut self, number: u32) -> Self {
        self.nodes.database = number;
        self
    }

    /// Sets what the names of all keys begin with, within braces: 1 to 100 ASCII letters, digits,
    /// `_`, `-`, `.`, `:` and `/`. Default `zoho_oauth`.
    ///
    /// One server may hold several stores with different prefixes.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Talks to the server over TLS, and checks its certificate against the roots that this
    /// platform trusts.
    ///
    /// The driver uses the cryptography provider of the process (rustls's
    /// `CryptoProvider::install_default`); where none is installed by then, ring is.
    pub fn tls(mut self) -> Self {
        self.nodes.tls = Tls::Platform;
        self
    }

    /// Talks to the server over TLS, and checks its certificate against these roots alone, one or
    /// more certificates in PEM. Otherwise as [`tls`](Self::tls).
    pub fn tls_roots(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.nodes.tls = Tls::Roots(pem.into());
        self
    }

    /// Sets how long connecting may take, with TLS and log-in. Default 2 seconds.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.patience.connect = timeout;
        self
    }

    /// Sets how long one answer may take. Default 3 seconds.
    pub const fn response_timeout(mut self, timeout: Duration) -> Self {
        self.patience.response = timeout;
        self
    }

    /// Sets for how long a call goes on trying while the server cannot be reached, is starting, or
    /// changes its role. Default 5 seconds. The last try may take its time-outs longer. For as long,
    /// and a minute, the server keeps a note of each insert and delete, of about 100 bytes.
    pub const fn retry_for(mut self, duration: Duration) -> Self {
        self.patience.retry = duration;
        self
    }

    /// Sets how long the right to refresh a token lives without being renewed: how long others wait
    /// when a machine dies in the middle of a refresh. Default 20 seconds.
    pub const fn lease(mut self, life: Duration) -> Self {
        self.lease = life;
        self
    }

    /// Acknowledges a write only when `count` replicas have it too, and fails it when they do not
    /// within `timeout`, at least a millisecond. It is then written all the same, to be saved or
    /// deleted once more: that is acknowledged only when the replicas have it, although there is
    /// nothing left to write.
    ///
    /// The server's command is WAIT, and all calls of this store stand behind it meanwhile. It makes
    /// the loss of a write in a fail-over unlikely, and **not impossible**: a replica may be promoted
    /// that was not among the `count`. Redis has no setting under which an acknowledged write
    /// survives every fail-over. See [Limits](super#limits).
    pub const fn wait_replicas(mut self, count: u32, timeout: Duration) -> Self {
        self.replicas = Some(Replicas { count, timeout });
        self
    }

    /// Refuses to open a store on a server that keeps less than `level`, instead of warning.
    pub const fn require_persistence(mut self, level: Persistence) -> Self {
        self.required = Some(level);
        self
    }

    /// Sets what the connection for [`changes`](crate::TokenStore::changes) is made with, for a
    /// store [from an application's connection](Self::from_connection): without it there are none.
    pub fn changes_from(mut self, client: Client) -> Self {
        self.listener = Some(client);
        self
    }

    /// Connects, checks what the server keeps when it crashes, and makes the store if it is missing.
    ///
    /// Within a tokio runtime, whose tasks will carry the connection.
    ///
    /// # Errors
    /// `invalid_input` for a setting that cannot be; `store_unavailable` when the server cannot be
    /// reached; `store_permission` when it does not take the password, or the user may not do what
    /// a store needs; `unsupported` when it may throw tokens away, or keeps less than
    /// [required](Self::require_persistence); `store_foreign` when something else has our keys.
    pub async fn connect(self) -> Result<RedisStore> {
        let link = self.link()?;
        self.open(link).await
    }

    /// Connects if the store is there, and makes nothing; `None` if there is none with this prefix.
    /// For programs that only read, and for looking before something is made.
    ///
    /// That the user may write is not tried, nor is it cleaned up after a deletion that was cut off.
    /// A server that may throw tokens away is warned of, so that they can be copied away from it.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_existing(self) -> Result<Option<RedisStore>> {
        let link = self.link()?;
        let (core, found) = self.reached(link, false).await?;
        match core.call(&Call::read(&LOOK)).await? {
            Value::Nil => return Ok(None),
            Value::BulkString(format) => core.check_format(&format)?,
            _ => return Err(core.nonsense()),
        }
        Ok(Some(self.opened(core, &found)?))
    }

    fn link(&self) -> Result<Link> {
        let mut hosts = self.nodes.addresses.iter().map(|node| &node.host);
        if !hosts.all(|host| given::is_host(host)) {
            return Err(given::no_host());
        }
        Link::new(self.nodes.clone(), self.patience, self.replicas)
    }

    /// Works on a connection that the application made and may use for other things too. Its
    /// server, log-in and time-outs are its own; so of these settings only the prefix, the lease, the
    /// replicas, the required persistence, [`retry_for`](Self::retry_for) and
    /// [`changes_from`](Self::changes_from) count.
    ///
    /// In a cluster it must lead to the node that holds the keys.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_connection(self, connection: ConnectionManager) -> Result<RedisStore> {
        let link = Link::given(connection, self.patience, self.replicas);
        self.open(link).await
    }

    async fn open(self, link: Link) -> Result<RedisStore> {
        let (core, found) = self.reached(link, true).await?;
        let opened = core.texts(core.call(&Call::write(&OPEN)).await?)?;
        let [Some(format), Some(history)] = &opened[..] else {
            return Err(core.nonsense());
        };
        core.check_format(format.as_bytes())?;
        if history.is_empty() {
            let place = core.link.place();
            tracing::warn!(
                %place,
                "the server does not say by `INFO` which history of its data this is: an id that a \
                crash or a fail-over takes can be given once more"
            );
        }
        let rest = Arc::clone(&core);
        tokio::spawn(async move {
            if let Err(error) = rest.sweep().await {
                tracing::debug!(%error, "deleted records are not all unlinked yet");
            }
        });
        self.opened(core, &found)
    }

    /// What speaks to the server, which was found to answer and to keep enough.
    async fn reached(&self, link: Link, is_to_stay: bool) -> Result<(Arc<Core>, Found)> {
        let prefix = checked_prefix(self.prefix.clone())?;
        let core = Arc::new(Core {
            names: Names::new(prefix, link.database()),
            link,
            alone: Mutex::default(),
        });
        // The first call tells whether the server can be reached at all.
        core.mark().await?;
        let found = persistence::ask(&core.link).await;
        found.check(&core.link.place(), self.required, is_to_stay)?;
        Ok((core, found))
    }

    fn opened(self, core: Arc<Core>, found: &Found) -> Result<RedisStore> {
        let clients = match (self.listener, core.link.nodes()) {
            (Some(client), _) => vec![client],
            (None, Some(nodes)) => {
                let all = nodes.addresses.iter().map(|address| nodes.client(address));
                all.collect::<Result<_>>()?
            }
            (None, None) => Vec::new(),
        };
        let channel = core.names.channel().to_owned();
        let watch = (!clients.is_empty())
            .then(|| Watch::new(clients, channel, self.patience.connect))
            .map(Arc::new);
        Ok(RedisStore {
            coordination: FleetCoordination::new(Arc::clone(&core), self.lease),
            core,
            watch,
            persistence: found.persistence,
        })
    }
}
