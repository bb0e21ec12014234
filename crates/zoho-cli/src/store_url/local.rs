//! Stores in files of this machine.

use std::path::Path;

use zohocrm::oauth::{FileStore, SqliteStore};

use super::{Found, Purpose, wrong};
use crate::error::Result;

pub(super) async fn open(kind: &str, path: &str, purpose: Purpose) -> Result<Found> {
    if path.is_empty() {
        return Err(wrong(format!("there is no path behind `{kind}:`")));
    }
    if purpose != Purpose::Write && !Path::new(path).exists() {
        return Ok(Found::Nothing(format!("there is no file `{path}`")));
    }
    // Neither a source nor a rehearsal changes anything, least of all a database of another program.
    let is_written = purpose == Purpose::Write;
    if kind == "file" {
        let store = if is_written {
            Some(FileStore::open(path).await?)
        } else {
            FileStore::open_read_only(path).await?
        };
        return Ok(Found::of(store, || format!("there is no file `{path}`")));
    }
    let store = if is_written {
        Some(SqliteStore::open(path)?)
    } else {
        SqliteStore::builder().open_read_only(path)?
    };
    Ok(Found::of(store, || {
        format!(
            "there is no table `{}` in `{path}`",
            SqliteStore::DEFAULT_TABLE
        )
    }))
}
