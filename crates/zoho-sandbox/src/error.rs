//! What can go wrong when a sandbox is set up or driven from a program.

use std::error::Error as _;
use std::fmt;
use std::io;

/// Why a sandbox could not be started, or a call on it could not be answered.
///
/// Errors that the emulated service sends to its clients are not here: those are HTTP answers.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration contradicts itself; the text names the entry and the remedy.
    #[error("the sandbox's configuration is not usable: {0}")]
    Config(String),
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address that was asked for.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is no such data center in this sandbox.
    #[error("no data center `{0}` in this sandbox")]
    UnknownCenter(String),
    /// Nobody with this address is in this sandbox.
    #[error("nobody with the address `{0}` is in this sandbox; `people()` lists who is")]
    UnknownPerson(String),
    /// There is no such client in this sandbox.
    #[error("no client `{0}` is registered in this sandbox")]
    UnknownClient(String),
    /// A scope does not have the form `Service.group.OPERATION`, or names nothing that exists.
    #[error("`{0}` is not a scope")]
    InvalidScope(String),
    /// The service would refuse to issue the code or token.
    #[error("the accounts server refused: {0}")]
    Refused(String),
    /// The authorization page would show an error instead of redirecting.
    #[error("the authorization page shows an error: {0}")]
    AuthorizePage(String),
}

/// What `main` prints of an error that it returns: the text, and its causes on lines of their own.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = self.source();
        while let Some(next) = cause {
            write!(f, "\n  caused by: {next}")?;
            cause = next.source();
        }
        Ok(())
    }
}
