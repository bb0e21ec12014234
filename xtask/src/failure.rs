//! Why a task could not go on.

use std::fmt;
use std::io;

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// A sentence for the person at the terminal, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    interrupted: bool,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            interrupted: false,
        }
    }

    /// The person, or the machine's keeper, asked us to stop.
    pub(crate) fn interrupted() -> Self {
        Self {
            interrupted: true,
            ..Self::new("interrupted")
        }
    }

    /// An operating system's error, with what was being done: "cannot `doing`".
    pub(crate) fn io(doing: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(format!("cannot {doing}: {error}"))
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a hint where there is none yet and there is something to be done.
    pub(crate) fn with_hint_if_none(mut self, hint: impl FnOnce() -> String) -> Self {
        if self.hint.is_none() && !self.interrupted {
            self.hint = Some(hint());
        }
        self
    }

    /// 130 is what shells report for a command ended by Ctrl-C; anything else is 1.
    pub(crate) fn exit_status(&self) -> u8 {
        if self.interrupted { 130 } else { 1 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}
