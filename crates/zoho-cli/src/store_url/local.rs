//! Stores in files of this machine.

use std::path::Path;

use zohocrm::oauth::{FileStore, SqliteStore};

use super::{Found, Opened, Purpose, wrong};
use crate::error::Result;

pub(super) async fn open(kind: &str, path: &str, purpose: Purpose) -> Result<Found> {
    if path.is_empty() {
        return Err(wrong(format!("there is no path behind `{kind}:`")));
    }
    if purpose != Purpose::Write && !Path::new(path).exists() {
        return Ok(Found::Nothing(format!("there is no file `{path}`")));
    }
    let store = match (kind, purpose) {
        ("file", _) => return Ok(Found::Store(Opened::new(FileStore::open(path).await?))),
        (_, Purpose::Write) => Some(SqliteStore::open(path)?),
        // Neither a source nor a rehearsal changes anything, least of all somebody else's database.
        _ => SqliteStore::builder().open_read_only(path)?,
    };
    Ok(Found::of(store, || {
        format!(
            "there is no table `{}` in `{path}`",
            SqliteStore::DEFAULT_TABLE
        )
    }))
}
