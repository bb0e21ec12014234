//! `MySqlStore` on a real MariaDB: the official table, tables of ours, and what servers do.
//!
//! Each test has a database of its own, which is dropped at the end; those of the conformance kit
//! outlive it, since several stores and processes open them. The server is one for tests alone.

mod account;
mod bad_rows;
mod cluster;
mod concurrent;
mod connections;
mod leases;
mod numbers;
mod older;
mod pages;
mod privileges;
pub(crate) mod said;
mod session;
mod table;
mod tls;
mod triggers;
mod widen;

use std::time::Duration;

pub(crate) use account::Account;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts};
use zoho_oauth::store::mysql::MySqlStoreBuilder;
use zoho_oauth::{
    AccessToken, ClientId, ClientSecret, MySqlStore, OAuthToken, RefreshToken, Timestamp, TokenId,
    UserName,
};

use crate::support::with_field;

/// In a table of our own.
mod own {
    use std::time::Duration;

    use zoho_oauth::conformance::Place;
    use zoho_oauth::{MySqlStore, Result, token_store_conformance};

    use super::{TestDatabase, server};

    async fn open(place: Place) -> Result<MySqlStore> {
        TestDatabase::make(place.name()).await;
        let builder = server().database(place.name());
        builder.lease(LEASE).connect().await
    }

    /// Several rules wait for the end of one.
    const LEASE: Duration = Duration::from_secs(3);

    token_store_conformance!(basic, open);
    // A process that connects anew takes its time.
    token_store_conformance!(durable, open, kills = 200);
    token_store_conformance!(coordinated, open, lease = LEASE);
}

/// In the official table, given room, whose collation takes `Ann` for `ann` and `a ` for `a`.
mod official {
    use zoho_oauth::conformance::Place;
    use zoho_oauth::{MySqlStore, Result, token_store_conformance};

    use super::{OFFICIAL_TABLE, TestDatabase, server};

    async fn open(place: Place) -> Result<MySqlStore> {
        let database = TestDatabase::make(place.name()).await;
        database.run(OFFICIAL_TABLE).await;
        let store = server().database(place.name()).connect().await?;
        store.widen().await?;
        Ok(store)
    }

    token_store_conformance!(basic, open);
}

/// Over connections of an application that told them the worst things.
mod lent {
    use zoho_oauth::conformance::Place;
    use zoho_oauth::{MySqlStore, Result, token_store_conformance};

    use super::{TestDatabase, careless_pool};

    async fn open(place: Place) -> Result<MySqlStore> {
        TestDatabase::make(place.name()).await;
        MySqlStore::from_pool(careless_pool(place.name(), 10), "tokens").await
    }

    token_store_conformance!(basic, open);
}

/// What is said of a value that does not fit into an official column. Quoted in the handbook.
const TOO_NARROW: &str = "a value is longer than the 255 characters of the column \
    `access_token` of table `oauthtoken`";

/// The table of the official SDKs' documentation, in the character set of a server of the time.
const OFFICIAL_TABLE: &str = "CREATE TABLE IF NOT EXISTS oauthtoken (
    id varchar(10) NOT NULL,
    user_name varchar(255),
    client_id varchar(255),
    client_secret varchar(255),
    refresh_token varchar(255),
    access_token varchar(255),
    grant_token varchar(255),
    expiry_time varchar(20),
    redirect_url varchar(255),
    api_domain varchar(255),
    primary key (id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci";

/// The address of the server.
fn address() -> Opts {
    Opts::from_url(&zoho_test_servers::shared::mysql_url()).unwrap()
}

/// Host, port, user and password of the server.
pub(crate) fn server_parts() -> (String, u16, String, String) {
    let address = address();
    (
        address.ip_or_hostname().to_owned(),
        address.tcp_port(),
        address.user().unwrap_or("root").to_owned(),
        address.pass().unwrap_or_default().to_owned(),
    )
}

/// Settings of a store on the test server, without the database.
fn server() -> MySqlStoreBuilder {
    let (host, port, user, password) = server_parts();
    let builder = MySqlStore::builder().host(host).port(port);
    builder.user(user).password(password)
}

/// A database of one test.
pub(crate) struct TestDatabase {
    name: String,
    is_kept: bool,
}

impl TestDatabase {
    /// One with this name, which outlives this value.
    async fn make(name: &str) -> Self {
        let mut conn = Conn::new(address()).await.unwrap();
        let sql = format!("CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET latin1");
        conn.query_drop(sql).await.unwrap();
        conn.disconnect().await.unwrap();
        Self {
            name: name.to_owned(),
            is_kept: true,
        }
    }

    /// One with a name of its own, dropped with this value.
    pub(crate) async fn new() -> Self {
        let name = format!("it_mysql_{:016x}", fastrand::u64(..));
        let mut database = Self::make(&name).await;
        database.is_kept = false;
        database
    }

    /// One with the official table.
    pub(crate) async fn official() -> Self {
        let database = Self::new().await;
        database.run(OFFICIAL_TABLE).await;
        database
    }

    fn options(&self) -> OptsBuilder {
        OptsBuilder::from_opts(address())
            .db_name(Some(&self.name))
            .prefer_socket(false)
    }

    async fn connection(&self) -> Conn {
        Conn::new(self.options()).await.unwrap()
    }

    /// Runs statements as somebody else.
    pub(crate) async fn run(&self, sql: &str) {
        let mut conn = self.connection().await;
        conn.query_drop(sql).await.unwrap();
        conn.disconnect().await.unwrap();
    }

    /// The first column of what a query answers, as text.
    pub(crate) async fn ask(&self, sql: &str) -> Vec<String> {
        let mut conn = self.connection().await;
        let rows: Vec<mysql_async::Row> = conn.query(sql).await.unwrap();
        conn.disconnect().await.unwrap();
        let first = |row: mysql_async::Row| row.get::<Option<String>, _>(0).unwrap();
        rows.into_iter()
            .map(|row| first(row).unwrap_or_else(|| "NULL".into()))
            .collect()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn builder(&self) -> MySqlStoreBuilder {
        server().database(&self.name)
    }

    pub(crate) async fn open(&self) -> MySqlStore {
        self.builder().connect().await.unwrap()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let sql = format!("DROP DATABASE IF EXISTS {}", self.name);
        // In a runtime of its own, since this one may be ending.
        let done = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let mut conn = Conn::new(address()).await.unwrap();
                // A test that failed may have left a transaction open, in the runtime that waits here.
                let patience = "SET SESSION lock_wait_timeout = 5";
                conn.query_drop(patience).await.unwrap();
                drop(conn.query_drop(sql).await);
                drop(conn.disconnect().await);
            });
        });
        drop(done.join());
    }
}

/// A pool of an application that cares for nothing, and resets nothing.
fn careless_pool(database: &str, size: usize) -> Pool {
    let pool = PoolOpts::default()
        .with_constraints(PoolConstraints::new(0, size).unwrap())
        // Without it the driver keeps none that is given back.
        .with_inactive_connection_ttl(PATIENCE)
        .with_reset_connection(false);
    let options = OptsBuilder::from_opts(address())
        .db_name(Some(database))
        .prefer_socket(false)
        .pool_opts(pool)
        .setup(vec![
            "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
            "SET SESSION sql_mode = '', SESSION autocommit = 0, NAMES latin1, \
            SESSION time_zone = '+05:30'",
        ]);
    Pool::new(options)
}

fn id(number: u64) -> TokenId {
    TokenId::new(number).unwrap()
}

fn user(name: &str) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.client_id = ClientId::new("1000.CLIENT").ok();
    token.client_secret = ClientSecret::new("geheim-client").ok();
    token.expiry_time = Some(Timestamp::from_millis(1_795_372_876_984));
    token.redirect_url = Some("https://app.example.com/callback".into());
    token.api_domain = Some("https://www.zohoapis.eu".into());
    // Also with characters that no application can give.
    let token = with_field(&token, "user_name", name);
    let token = with_field(&token, "refresh_token", &format!("1000.r.{name}"));
    let token = with_field(&token, "access_token", &format!("1000.a.{name}"));
    with_field(&token, "grant_token", &format!("1000.g.{name}"))
}

fn with_id(id: TokenId, mut token: OAuthToken) -> OAuthToken {
    token.id = Some(id);
    token
}

fn access(token: &str) -> Option<AccessToken> {
    AccessToken::new(token).ok()
}

/// A limit for what hangs, far above what anything takes.
const PATIENCE: Duration = Duration::from_mins(1);
