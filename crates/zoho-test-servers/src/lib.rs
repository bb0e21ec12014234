//! Real servers for tests: MariaDB, Galera, PostgreSQL, PgBouncer, Redis, and moto in AWS's place.
//!
//! A value is a server. It listens on 127.0.0.1, on a port that nobody else has, with its data in a
//! folder that goes away with the value; it can be killed as by a power cut, frozen as by a dead
//! network, and started again on its port and its data.
//!
//! ```no_run
//! use zoho_test_servers::{Options, Redis};
//!
//! # fn main() -> zoho_test_servers::Result<()> {
//! let mut redis = Redis::start()?;
//! println!("{}", redis.url()); // redis://127.0.0.1:23917
//! redis.kill();
//! redis.restart()?; // what was acknowledged is there
//!
//! let small = Redis::start_with(&Options::new().arguments(["--maxmemory", "2mb"]))?;
//! # Ok(())
//! # }
//! ```
//!
//! Tests that only want *a* server share the four that `cargo xtask test` has started, and learn
//! their addresses from [`shared`]. A test that kills, starves or configures its server starts its
//! own.
//!
//! # What holds for all
//!
//! - **Ready is asked for.** `start` and `restart` return when the server has answered a question in
//!   its own protocol. When it ends instead, the error shows the last lines of its log.
//! - **Ok means on disk.** Nothing is turned off that makes a server durable: `fsync` is on, Redis
//!   appends and flushes with each command. Arguments given in [`Options`] come last and win.
//! - **Nothing is left.** Dropping the value ends the server and its children, by their pids, also
//!   when its owner panics. On Linux, where `setpriv` (util-linux) is there, the kernel ends the
//!   server when the owner's process ends in any other way; its folder then stays in the system's
//!   folder for temporary files.
//! - **Not as root.** As root, servers that refuse that are run as the user that their package made
//!   (`mysql`, `postgres`) or as `nobody`, and their folder is given to that user.
//! - **Programs** are those that a variable names, else those on `PATH`, else Debian's: see
//!   [`find_program`].
//!
//! Unix only. Elsewhere the crate is [`shared`] alone.

mod environment;
#[cfg(unix)]
mod error;
#[cfg(unix)]
mod galera;
#[cfg(unix)]
mod home;
#[cfg(unix)]
mod mariadb;
#[cfg(unix)]
mod moto;
#[cfg(unix)]
mod options;
#[cfg(unix)]
mod pgbouncer;
#[cfg(unix)]
mod port;
#[cfg(unix)]
mod postgres;
#[cfg(unix)]
mod process;
#[cfg(unix)]
mod programs;
#[cfg(unix)]
mod redis;
#[cfg(unix)]
mod relatives;
#[cfg(unix)]
mod service;
pub mod shared;

#[cfg(unix)]
pub use self::{
    error::{Error, Result},
    galera::Galera,
    mariadb::MariaDb,
    moto::Moto,
    options::Options,
    pgbouncer::PgBouncer,
    port::free_port,
    postgres::Postgres,
    programs::find_program,
    redis::Redis,
};
