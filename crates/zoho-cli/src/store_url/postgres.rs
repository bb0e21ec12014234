//! `postgres://USER@HOST:PORT/DATABASE`

use zohocrm::oauth::PostgresStore;
use zohocrm::oauth::store::postgres::PostgresStoreBuilder;

use super::address::Address;
use super::{Found, Opened, Purpose, wrong};
use crate::error::Result;

const FORM: (&str, &str) = ("postgres", "postgres://USER@HOST:PORT/DATABASE");
const PARAMETERS: [&str; 7] = [
    "schema",
    "table",
    "socket",
    "prepared_statements",
    "tls",
    "tls_ca",
    "password_env",
];

pub(super) async fn open(rest: &str, purpose: Purpose) -> Result<Found> {
    let address = Address::read(FORM, rest, &PARAMETERS)?;
    let builder = builder(&address)?;
    if purpose == Purpose::Write {
        return Ok(Found::Store(Opened::new(builder.connect().await?)));
    }
    Ok(Found::of(builder.connect_existing().await?, || {
        let table = address.parameters.get("table");
        let table = table.unwrap_or(PostgresStore::DEFAULT_TABLE);
        match address.parameters.get("schema") {
            Some(schema) => format!("there is no table `{table}` in the schema `{schema}`"),
            None => format!("there is no table `{table}` in the first schema of the database"),
        }
    }))
}

fn builder(address: &Address) -> Result<PostgresStoreBuilder> {
    // Nobody here waits for changes.
    let mut builder = PostgresStore::builder().without_notifications();
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
    if let Some(schema) = parameters.get("schema") {
        builder = builder.schema(schema);
    }
    if let Some(table) = parameters.get("table") {
        builder = builder.table(table);
    }
    if let Some(folder) = parameters.get("socket") {
        if address.host.is_some() {
            return Err(wrong("a URL with `socket` has no host"));
        }
        builder = on_socket(builder, folder)?;
    }
    if let Some(prepare) = parameters.choice("prepared_statements", ["on", "off"])? {
        builder = builder.prepared_statements(prepare);
    }
    if let Some(password) = parameters.password()? {
        builder = builder.password(password);
    }
    let tls = parameters.choice("tls", ["always", "never"])?;
    Ok(match (tls, parameters.authorities()?) {
        (Some(false), Some(_)) => return Err(wrong("`tls_ca` is of no use with `tls=never`")),
        (Some(false), None) => builder.without_tls(),
        (_, Some(pem)) => builder.root_certificates(pem),
        (Some(true), None) => builder.require_tls(),
        (None, None) => builder,
    })
}

#[cfg(unix)]
#[expect(
    clippy::unnecessary_wraps,
    reason = "on other systems there are no such sockets"
)]
fn on_socket(builder: PostgresStoreBuilder, folder: &str) -> Result<PostgresStoreBuilder> {
    Ok(builder.socket_folder(folder))
}

#[cfg(not(unix))]
fn on_socket(_: PostgresStoreBuilder, _: &str) -> Result<PostgresStoreBuilder> {
    Err(wrong("`socket` is for Unix alone"))
}
