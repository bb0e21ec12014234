//! `RedisStore`: what the conformance kit cannot see of it.
//!
//! The tests use the server that `ZOHO_TEST_REDIS` names, each with a prefix of its own, and start
//! servers themselves where one must have other settings, or be killed.

mod changes;
mod cluster;
mod faults;
mod leases;
mod losses;
mod privileges;
mod proxy;
mod rules;
pub(crate) mod said;
mod server;
mod settings;

use redis::aio::ConnectionManager;
use redis::{Client, Cmd, Value};
use zoho_oauth::store::redis::RedisStoreBuilder;
use zoho_oauth::{
    AccessToken, ClientId, OAuthToken, RedisStore, RefreshToken, Result, TokenStore, UserName,
};

pub(crate) use proxy::Proxy;

/// The server that all tests share: host and port.
pub(crate) fn shared_server() -> (String, u16) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the address of the test's server"
    )]
    let url = std::env::var("ZOHO_TEST_REDIS");
    let url = url.expect("`ZOHO_TEST_REDIS` is not set: run the tests with `cargo xtask test`");
    let address = url.strip_prefix("redis://").expect("a URL of redis://");
    let (host, port) = address.trim_end_matches('/').rsplit_once(':').unwrap();
    (host.to_owned(), port.parse().unwrap())
}

/// A store on the shared server.
pub(crate) fn builder(prefix: &str) -> RedisStoreBuilder {
    let (host, port) = shared_server();
    RedisStore::builder().host(host).port(port).prefix(prefix)
}

/// A prefix that no other test has.
fn unique() -> String {
    format!("test_{:016x}", fastrand::u64(..))
}

async fn raw(address: (&str, u16)) -> ConnectionManager {
    let client = Client::open(format!("redis://{}:{}/", address.0, address.1)).unwrap();
    client.get_connection_manager().await.unwrap()
}

/// A connection to the shared server, past the store.
async fn shared() -> ConnectionManager {
    let (host, port) = shared_server();
    raw((&host, port)).await
}

/// Runs a command given as words.
async fn run(connection: &mut ConnectionManager, words: &[&str]) -> Value {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command.query_async(connection).await.unwrap()
}

/// Lists all keys with a prefix.
async fn keys(connection: &mut ConnectionManager, prefix: &str) -> Vec<String> {
    let mut command = redis::cmd("KEYS");
    command.arg(format!("{{{prefix}}}:*"));
    let mut keys: Vec<String> = command.query_async(connection).await.unwrap();
    keys.sort();
    keys
}

fn login(user: &str, access: &str) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.user_name = UserName::new(user).ok();
    token.client_id = ClientId::new("1000.client").ok();
    token.refresh_token = RefreshToken::new(format!("1000.refresh.{user}")).ok();
    token.access_token = AccessToken::new(format!("1000.access.{user}.{access}")).ok();
    token
}

async fn users(store: &impl TokenStore) -> Result<Vec<String>> {
    let all = store.get_tokens().await?;
    let names = all.into_iter().filter_map(|token| token.user_name);
    Ok(names.map(|name| name.as_str().to_owned()).collect())
}
