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
    Ok(Found::Store(match kind {
        "file" => Opened::new(FileStore::open(path).await?),
        _ => Opened::new(SqliteStore::open(path)?),
    }))
}
