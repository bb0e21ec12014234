//! What can be wrong with a token file, and the words for it.

use std::fmt;
use std::path::Path;

use crate::error::{Error, ErrorCode};

/// Why a file, or a line of it, cannot be understood. Says where, and never quotes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(super) line: usize,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Empty,
    Foreign,
    Nul,
    NotUtf8,
    HeaderColumns { found: u32 },
    HeaderNames,
    Columns { found: u32, due: u32 },
    OpenQuote,
    AfterQuote,
    Id,
    ExpiryTime,
}

impl Damage {
    pub(crate) fn into_error(self, path: &Path) -> Error {
        let code = match self.what {
            What::Foreign => ErrorCode::StoreForeign,
            _ => ErrorCode::StoreDamaged,
        };
        let Self { line, what } = self;
        Error::new(code, format!("line {line} of `{}` {what}", path.display()))
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str(
                "is missing: the file is empty, which is what a crash leaves of a file that was \
                 being rewritten in place (delete it if it never held a token)",
            ),
            Self::Foreign => f.write_str("is not the header of a token file"),
            Self::Nul => f.write_str("holds a NUL character"),
            Self::NotUtf8 => f.write_str("is not UTF-8"),
            Self::HeaderColumns { found } => {
                write!(f, "names {found} columns; a token file has ten, or nine")
            }
            Self::HeaderNames => f.write_str("names a column twice"),
            Self::Columns { found, due } => write!(f, "has {found} columns instead of {due}"),
            Self::OpenQuote => f.write_str("opens a quote that never ends"),
            Self::AfterQuote => f.write_str("has text behind a closing quote"),
            Self::Id => f.write_str("has an id that is not a number from 1 to 9999999999"),
            Self::ExpiryTime => f.write_str("has an expiry time that is not a number"),
        }
    }
}
