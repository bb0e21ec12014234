//! Why a server is not there.

use std::fmt;
use std::io;

/// The result of starting a server, or of asking it.
pub type Result<T> = std::result::Result<T, Error>;

/// A sentence for the author of a test, with the end of the server's log where there is one.
///
/// `Debug` is the same text, so that an `unwrap` in a test can be read.
pub struct Error {
    message: String,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }

    /// An operating system's error, with what was being done: "cannot `doing`".
    pub(crate) fn io(doing: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(format!("cannot {doing}: {error}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
