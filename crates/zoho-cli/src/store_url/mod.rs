//! From what a person types for a store to the store: the one place that knows all kinds.
//!
//! A kind, a colon, and what that kind needs. The whole text is never printed, since people put
//! passwords into such texts; where a store needs one, the text names an environment variable that
//! has it.

#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
mod address;
mod local;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(any(
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "secrets-manager"
))]
mod parameters;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "secrets-manager")]
mod secrets_manager;

use std::sync::Arc;

#[cfg(feature = "mysql")]
use zohocrm::oauth::MySqlStore;
use zohocrm::oauth::{self, ErrorCode, ListStore, TokenStore};

use crate::error::{Failure, Result};

/// What the help says of every argument that is a store.
pub(crate) const HELP: &str = "\
Stores:
  file:PATH             the token file of Zoho's SDKs, such as `file:sdk_tokens.txt`
  sqlite:PATH           a SQLite database with the official table, such as `sqlite:zohooauth.db`
  mysql://USER@HOST:PORT/DATABASE
                        the official table in MySQL or MariaDB
                        ?table= &tls= &tls_ca= &password_env=
  postgres://USER@HOST:PORT/DATABASE
                        the same in PostgreSQL
                        ?schema= &table= &socket= &prepared_statements= &tls= &tls_ca= &password_env=
  redis://USER@HOST:PORT/NUMBER, rediss:// with TLS
                        Redis or Valkey
                        ?prefix= &tls_ca= &password_env=
  secretsmanager:PREFIX AWS Secrets Manager, with the credentials that the AWS tools find
                        ?region= &profile= &endpoint= &kms_key=

What is left out of a URL is as the store has it by default: `mysql:///` is the user `root` on
`localhost`, port 3306, database `zohooauth`, table `oauthtoken`. A command line can be seen by
others, so no password is taken from it: `password_env=NAME` names the environment variable that
holds it. Connections to other machines use TLS, except with `redis://`; `tls=always` and
`tls=never` change that, and `tls_ca=FILE` names the certificate authorities to trust, in PEM form.
Special characters are written as in every URL, `@` as %40. Put URLs with `?` in quotes.

Each kind of server is a feature that this program is built with or not: mysql, postgres, redis,
secrets-manager.";

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It must be there: an empty one that was just made would be a typing error.
    Read,
    /// It is made where it is missing.
    Write,
    /// As if to write, but where it is missing nothing is made: an empty one in memory stands in.
    Rehearse,
}

/// A store that was opened. [`close`](Self::close) it when it is not needed any more.
#[derive(Debug)]
pub(crate) struct Opened {
    store: Arc<dyn TokenStore>,
    #[cfg(feature = "mysql")]
    mysql: Option<MySqlStore>,
}

impl Opened {
    fn new(store: impl TokenStore) -> Self {
        Self {
            store: Arc::new(store),
            #[cfg(feature = "mysql")]
            mysql: None,
        }
    }

    #[cfg(feature = "mysql")]
    fn mysql(store: MySqlStore) -> Self {
        Self {
            store: Arc::new(store.clone()),
            mysql: Some(store),
        }
    }

    pub(crate) fn store(&self) -> &dyn TokenStore {
        &*self.store
    }

    /// Says good-bye to servers that complain in their logs about who leaves without.
    #[cfg_attr(
        not(feature = "mysql"),
        expect(clippy::unused_async, reason = "it waits with the feature `mysql`")
    )]
    pub(crate) async fn close(self) {
        #[cfg(feature = "mysql")]
        if let Some(store) = self.mysql {
            drop(self.store);
            store.disconnect().await;
        }
    }
}

/// What was found where a text leads to.
enum Found {
    Store(Opened),
    /// No store, said as a sentence, and none was made.
    Nothing(String),
}

impl Found {
    fn of(store: Option<impl TokenStore>, missing: impl FnOnce() -> String) -> Self {
        store.map_or_else(
            || Self::Nothing(missing()),
            |store| Self::Store(Opened::new(store)),
        )
    }
}

/// Opens the store that `text` names.
pub(crate) async fn open(text: &str, purpose: Purpose) -> Result<Opened> {
    let (kind, rest) = text.split_once(':').unwrap_or_default();
    let found = match kind {
        "file" | "sqlite" => local::open(kind, rest, purpose).await?,
        "mysql" => mysql::open(rest, purpose).await?,
        "postgres" | "postgresql" => postgres::open(rest, purpose).await?,
        "redis" | "rediss" => redis::open(kind, rest, purpose).await?,
        "secretsmanager" => secrets_manager::open(rest, purpose).await?,
        _ => {
            let problem = "a store is `file:`, `sqlite:`, `mysql://`, `postgres://`, `redis://`, \
                `rediss://` or `secretsmanager:` with what belongs to it; this is none of them";
            return Err(wrong(problem).hinted("See `zoho tokens --help` for the stores."));
        }
    };
    match found {
        Found::Store(opened) => Ok(opened),
        Found::Nothing(missing) if purpose == Purpose::Read => {
            Err(wrong(missing).hinted("Name a store that is there."))
        }
        Found::Nothing(_) => Ok(Opened::new(ListStore::new())),
    }
}

fn wrong(problem: impl Into<String>) -> Failure {
    oauth::Error::new(ErrorCode::InvalidInput, problem).into()
}

/// What is said of a kind that is left out.
#[cfg(any(
    test,
    not(all(
        feature = "mysql",
        feature = "postgres",
        feature = "redis",
        feature = "secrets-manager"
    ))
))]
fn not_built(feature: &str) -> Failure {
    oauth::Error::new(
        ErrorCode::Unsupported,
        format!("this `zoho` was built without the feature `{feature}`"),
    )
    .into()
}

/// Stands in for the modules of kinds that this program is built without.
macro_rules! left_out {
    ($($module:ident($($argument:ty),*) = $feature:literal;)*) => {
        $(
            #[cfg(not(feature = $feature))]
            mod $module {
                use std::future::{Ready, ready};

                pub(super) fn open($(_: $argument),*) -> Ready<crate::error::Result<super::Found>> {
                    ready(Err(super::not_built($feature).hinted(concat!(
                        "Build it with the feature: `cargo run -p zoho-cli --features ",
                        $feature,
                        " -- tokens copy …`."
                    ))))
                }
            }
        )*
    };
}

left_out! {
    mysql(&str, super::Purpose) = "mysql";
    postgres(&str, super::Purpose) = "postgres";
    redis(&str, &str, super::Purpose) = "redis";
    secrets_manager(&str, super::Purpose) = "secrets-manager";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_that_is_left_out_is_named() {
        let failure = not_built("postgres");
        let text = "this `zoho` was built without the feature `postgres` [unsupported]";
        assert_eq!(failure.lines().next(), Some(("error", text.to_owned())));
    }
}
