//! What a child tells its parent, line by line.

use std::fmt;
use std::io::{self, Write};

use crate::token::TokenId;

/// Begins every line, since a test harness writes lines of its own.
const MARK: &str = "zoho-conformance ";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The store is open.
    Ready,
    /// A save begins: whose record, and the stamp of its values.
    Save { user: String, stamp: String },
    /// A delete begins.
    Delete { user: String, id: TokenId },
    /// The save answered this id.
    Saved(TokenId),
    /// The delete answered.
    Deleted(bool),
    /// Something else, as JSON.
    Told(String),
    /// The store failed.
    Failed(String),
    /// Everything was done.
    Finished,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Save { user, stamp } => write!(f, "save {user} {stamp}"),
            Self::Delete { user, id } => write!(f, "delete {user} {id}"),
            Self::Saved(id) => write!(f, "saved {id}"),
            Self::Deleted(was_there) => write!(f, "deleted {was_there}"),
            Self::Told(text) => write!(f, "told {text}"),
            Self::Failed(why) => write!(f, "failed {}", why.escape_debug()),
            Self::Finished => f.write_str("finished"),
        }
    }
}

impl Line {
    /// Writes the line to the pipe. It is with the parent when this returns, whatever comes next.
    pub(super) fn tell(&self) -> io::Result<()> {
        // In one write, so that a kill leaves the whole line or nothing. The line break in front
        // ends what the test harness may have begun.
        let mut out = io::stdout().lock();
        out.write_all(format!("\n{MARK}{self}\n").as_bytes())?;
        out.flush()
    }

    /// Reads a line; `None` for one of the test harness.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix(MARK)?;
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(match word {
            "ready" => Self::Ready,
            "save" => Self::Save {
                user: first.into(),
                stamp: second.into(),
            },
            "delete" => Self::Delete {
                user: first.into(),
                id: second.parse().ok()?,
            },
            "saved" => Self::Saved(first.parse().ok()?),
            "deleted" => Self::Deleted(first.parse().ok()?),
            "told" => Self::Told(rest.into()),
            "failed" => Self::Failed(rest.into()),
            "finished" => Self::Finished,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let id = TokenId::new(7).unwrap();
        for line in [
            Line::Ready,
            Line::Save {
                user: "u".into(),
                stamp: "1-2".into(),
            },
            Line::Delete {
                user: "u".into(),
                id,
            },
            Line::Saved(id),
            Line::Deleted(true),
            Line::Told("[1, 2]".into()),
            Line::Failed("it broke: twice".into()),
            Line::Finished,
        ] {
            assert_eq!(Line::read(&format!("{MARK}{line}")), Some(line));
        }
        assert_eq!(Line::read("test conformance_child ... ok"), None);
    }
}
