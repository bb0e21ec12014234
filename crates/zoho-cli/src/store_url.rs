//! From what a person types for a store to the store: the one place that knows all kinds.
//!
//! A kind, a colon, and what that kind needs. The whole text is never printed, since people put
//! passwords into such texts; where a store needs one, the text names an environment variable that
//! has it.

use std::path::Path;
use std::sync::Arc;

use zohocrm::oauth::{self, ErrorCode, FileStore, ListStore, SqliteStore, TokenStore};

use crate::error::{Failure, Result};

/// What the help says of every argument that is a store.
pub(crate) const HELP: &str = "\
Stores:
  file:PATH    the token file of Zoho's SDKs, such as `file:sdk_tokens.txt`
  sqlite:PATH  a SQLite database with the official table, such as `sqlite:zohooauth.db`";

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

/// Opens the store that `text` names.
pub(crate) async fn open(text: &str, purpose: Purpose) -> Result<Arc<dyn TokenStore>> {
    let Some((kind @ ("file" | "sqlite"), path)) = text.split_once(':') else {
        let problem = "a store is `file:` or `sqlite:` and a path; this is neither";
        return Err(wrong(problem).hinted("See `zoho tokens --help` for the stores."));
    };
    if path.is_empty() {
        return Err(wrong(format!("there is no path behind `{kind}:`")));
    }
    if !Path::new(path).exists() {
        match purpose {
            Purpose::Read => {
                let problem = format!("there is no file `{path}`");
                return Err(wrong(problem).hinted("Name a store that is there."));
            }
            Purpose::Rehearse => return Ok(Arc::new(ListStore::new())),
            Purpose::Write => {}
        }
    }
    Ok(match kind {
        "file" => Arc::new(FileStore::open(path).await?),
        _ => Arc::new(SqliteStore::open(path)?),
    })
}

fn wrong(problem: impl Into<String>) -> Failure {
    oauth::Error::new(ErrorCode::InvalidInput, problem).into()
}
