//! `mysql://USER@HOST:PORT/DATABASE`

use zohocrm::oauth::MySqlStore;
use zohocrm::oauth::store::mysql::{MySqlStoreBuilder, MySqlTls};

use super::address::Address;
use super::{Found, Opened, Purpose, wrong};
use crate::error::Result;

const FORM: (&str, &str) = ("mysql", "mysql://USER@HOST:PORT/DATABASE");
const PARAMETERS: [&str; 4] = ["table", "tls", "tls_ca", "password_env"];

pub(super) async fn open(rest: &str, purpose: Purpose) -> Result<Found> {
    let address = Address::read(FORM, rest, &PARAMETERS)?;
    let builder = builder(&address)?;
    if purpose == Purpose::Write {
        return Ok(Found::Store(Opened::mysql(builder.connect().await?)));
    }
    if let Some(store) = builder.connect_existing().await? {
        return Ok(Found::Store(Opened::mysql(store)));
    }
    let table = address.parameters.get("table");
    let table = table.unwrap_or(MySqlStore::DEFAULT_TABLE);
    Ok(Found::Nothing(format!(
        "there is no table `{table}` in the database, or its user may not see it"
    )))
}

fn builder(address: &Address) -> Result<MySqlStoreBuilder> {
    let mut builder = MySqlStore::builder();
    if let Some(host) = &address.host {
        builder = builder.host(host);
    }
    if let Some(port) = address.port {
        builder = builder.port(port);
    }
    if let Some(user) = &address.user {
        builder = builder.user(user);
    }
    if let Some(database) = &address.database {
        builder = builder.database(database);
    }
    let parameters = &address.parameters;
    if let Some(table) = parameters.get("table") {
        builder = builder.table(table);
    }
    if let Some(password) = parameters.password()? {
        builder = builder.password(password);
    }
    let tls = parameters.choice("tls", ["always", "never"])?;
    Ok(match (tls, parameters.authorities()?) {
        (Some(false), Some(_)) => return Err(wrong("`tls_ca` is of no use with `tls=never`")),
        (Some(false), None) => builder.without_tls(),
        (_, Some(pem)) => builder.tls(MySqlTls::authorities(pem)),
        (Some(true), None) => builder.tls(MySqlTls::system()),
        (None, None) => builder,
    })
}
