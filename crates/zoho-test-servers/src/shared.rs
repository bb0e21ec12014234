//! Servers that run already, shared by all tests of a run.
//!
//! `cargo xtask test` starts one of each and tells the tests where they are; `cargo xtask servers`
//! does the same for tests run by hand. Each test uses a database, schema or key prefix of its own.
//! What a person leaves out with `--without mysql` is not there, and neither are the tests that
//! need it: they are known by `mysql`, `mariadb` or `galera` in their names, those of the others by
//! `postgres` or `pgbouncer`, by `redis`, and by `aws`, `secrets_manager` or `moto`.

use crate::environment;

/// A shared server, by the name that `--without` takes and the variable with its address.
const MYSQL: (&str, &str) = ("mysql", "ZOHO_TEST_MYSQL");
const POSTGRES: (&str, &str) = ("postgres", "ZOHO_TEST_POSTGRES");
const REDIS: (&str, &str) = ("redis", "ZOHO_TEST_REDIS");
const AWS: (&str, &str) = ("aws", "ZOHO_TEST_AWS");

/// The MariaDB server, as `mysql://root@127.0.0.1:PORT`: no password, no database chosen.
///
/// # Panics
/// When `ZOHO_TEST_MYSQL` is not set; the message says what to do.
#[must_use]
pub fn mysql_url() -> String {
    url(MYSQL)
}

/// The PostgreSQL server, as `postgres://postgres@127.0.0.1:PORT/postgres`: no password.
///
/// # Panics
/// When `ZOHO_TEST_POSTGRES` is not set; the message says what to do.
#[must_use]
pub fn postgres_url() -> String {
    url(POSTGRES)
}

/// The Redis server, as `redis://127.0.0.1:PORT`. It keeps what it acknowledged.
///
/// # Panics
/// When `ZOHO_TEST_REDIS` is not set; the message says what to do.
#[must_use]
pub fn redis_url() -> String {
    url(REDIS)
}

/// The endpoint that answers in AWS's place, as `http://127.0.0.1:PORT`. It takes any credentials.
///
/// # Panics
/// When `ZOHO_TEST_AWS` is not set; the message says what to do.
#[must_use]
pub fn aws_url() -> String {
    url(AWS)
}

/// Whether a person left `name` out of this run: `mysql`, `postgres`, `redis`, `aws`.
///
/// For benchmarks, which have no names to be left out by. Continuous integration leaves nothing
/// out.
#[must_use]
pub fn is_left_out(name: &str) -> bool {
    environment::text("ZOHO_TEST_WITHOUT")
        .is_some_and(|names| names.split(',').any(|left_out| left_out == name))
}

fn url(server: (&str, &str)) -> String {
    let (name, variable) = server;
    environment::text(variable).unwrap_or_else(|| {
        panic!(
            "{variable} is not set, so there is no server to test against: run `cargo xtask test`, \
             or `cargo xtask servers` in another terminal and set what it prints; \
             `cargo xtask test --without {name}` leaves out the tests that have `{name}` in their \
             name"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(
        expected = "ZOHO_TEST_NOTHING is not set, so there is no server to test against: \
                               run `cargo xtask test`"
    )]
    fn a_missing_address_says_what_to_run() {
        url(("nothing", "ZOHO_TEST_NOTHING"));
    }
}
