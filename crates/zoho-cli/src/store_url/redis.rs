//! `redis://USER@HOST:PORT/NUMBER`, and `rediss://` with TLS.

use zohocrm::oauth::RedisStore;
use zohocrm::oauth::store::redis::RedisStoreBuilder;

use super::address::Address;
use super::{Found, Purpose, wrong};
use crate::error::Result;

const PARAMETERS: [&str; 3] = ["prefix", "tls_ca", "password_env"];

pub(super) async fn open(kind: &str, rest: &str, purpose: Purpose) -> Result<Found> {
    let form = format!("{kind}://USER@HOST:PORT/NUMBER");
    let address = Address::read((kind, &form), rest, &PARAMETERS)?;
    let builder = builder(kind == "rediss", &address)?;
    let store = match purpose {
        Purpose::Write => Some(builder.connect().await?),
        Purpose::Read | Purpose::Rehearse => builder.connect_existing().await?,
    };
    Ok(Found::of(store, || {
        let prefix = address.parameters.get("prefix");
        let prefix = prefix.unwrap_or(RedisStore::DEFAULT_PREFIX);
        format!("there is no store with the prefix `{prefix}`")
    }))
}

fn builder(with_tls: bool, address: &Address) -> Result<RedisStoreBuilder> {
    let mut builder = RedisStore::builder();
    if let Some(host) = &address.host {
        builder = builder.host(host);
    }
    if let Some(port) = address.port {
        builder = builder.port(port);
    }
    if let Some(user) = &address.user {
        builder = builder.user(user);
    }
    if let Some(number) = &address.database {
        let number = number.parse();
        let number = number.map_err(|_| wrong("a database of Redis is a number"))?;
        builder = builder.database(number);
    }
    let parameters = &address.parameters;
    if let Some(prefix) = parameters.get("prefix") {
        builder = builder.prefix(prefix);
    }
    if let Some(password) = parameters.password()? {
        builder = builder.password(password);
    }
    match (with_tls, parameters.authorities()?) {
        (false, Some(_)) => Err(wrong("`tls_ca` is for `rediss://`, with two `s`")),
        (false, None) => Ok(builder),
        (true, Some(pem)) => Ok(builder.tls_roots(pem)),
        (true, None) => Ok(builder.tls()),
    }
}
