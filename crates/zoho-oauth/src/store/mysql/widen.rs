//! Making room in a table that the official SDKs' documentation made.

use std::sync::Arc;

use super::core::Core;
use super::fault::Fault;
use super::nodes::Tries;
use super::schema::{Fields, Schema, index};
use super::session::Session;
use super::sql::{COLUMNS, text};
use crate::error::Result;

/// What [`MySqlStore::widen`](super::MySqlStore::widen) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Widened {
    /// The columns that hold any token from now on.
    pub columns: Vec<String>,
    /// The columns that are looked up by an index from now on.
    pub indexes: Vec<String>,
}

impl Widened {
    /// Returns whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.indexes.is_empty()
    }
}

impl Core {
    pub(super) async fn widen(&self) -> Result<Widened> {
        let mut tries = self.tries();
        let mut done = Widened::default();
        loop {
            let mut session = tries.session().await?;
            let outcome = self.widen_once(&mut session, &tries, &mut done).await;
            // What the session was told is of no use to others.
            session.spoil();
            if tries.settle(session, outcome).await?.is_some() {
                return Ok(done);
            }
        }
    }

    async fn widen_once(
        &self,
        session: &mut Session,
        _: &Tries<'_>,
        done: &mut Widened,
    ) -> Result<(), Fault> {
        // While it waits for a long transaction of somebody, everybody waits for it.
        session.batch("SET SESSION lock_wait_timeout = 10").await?;
        let table = self.schema().table().to_owned();
        let schema = self.look_again(session, &table).await?;
        let narrow = schema.narrow();
        if !narrow.is_empty() {
            let sql = self.wider(session, &schema, &narrow).await?;
            session.execute_on_all(&sql).await?;
            let names = narrow.iter().map(|&index| COLUMNS[index].to_owned());
            done.columns.extend(names);
        }
        let schema = self.look_again(session, &table).await?;
        let missing = schema.unindexed();
        if !missing.is_empty() {
            add_indexes(session, &table, &missing).await?;
            done.indexes.extend(missing.into_iter().map(str::to_owned));
        }
        self.look_again(session, &table).await.map(drop)
    }

    /// The statement that gives these columns room, and leaves everything else as it is.
    async fn wider(
        &self,
        session: &mut Session,
        schema: &Arc<Schema>,
        narrow: &[usize],
    ) -> Result<String, Fault> {
        let mut changes = Vec::new();
        for &index in narrow {
            let (name, column) = (COLUMNS[index], &schema.columns[index]);
            // An index of the whole value bounds the column: as wide as InnoDB's keys can be.
            let is_in_key = |part: &(String, bool)| part.0 == name && part.1;
            let is_bound = schema
                .indexes
                .iter()
                .any(|index| index.columns.iter().any(is_in_key));
            let kind = if is_bound {
                "varchar(768)"
            } else {
                "mediumtext"
            };
            let collation = match &column.collation {
                Some((charset, collation)) if charset == "utf8mb4" => collation,
                // Another character set could not hold any name.
                _ => "utf8mb4_bin",
            };
            let nullable = if column.is_nullable {
                "NULL"
            } else {
                "NOT NULL"
            };
            let comment = comment(session, schema.table(), name).await?;
            changes.push(format!(
                "MODIFY {name} {kind} CHARACTER SET utf8mb4 COLLATE {collation} {nullable} \
                COMMENT {comment}"
            ));
        }
        Ok(format!(
            "ALTER TABLE `{}` {}",
            schema.table(),
            changes.join(", ")
        ))
    }
}

/// A column's comment, quoted by the server itself.
async fn comment(session: &mut Session, table: &str, column: &str) -> Result<String, Fault> {
    let sql = "SELECT QUOTE(column_comment) FROM information_schema.columns \
        WHERE table_schema = DATABASE() AND table_name = ? AND column_name = ?";
    let rows = session.rows(sql, vec![text(table), text(column)]).await?;
    let row = rows.into_iter().next().map(Fields::of);
    let quoted = row.and_then(|mut fields| fields.text(0));
    Ok(quoted.unwrap_or_else(|| "''".to_owned()))
}

/// While others read and write, where the server can.
async fn add_indexes(session: &mut Session, table: &str, columns: &[&str]) -> Result<(), Fault> {
    let keys: Vec<_> = columns
        .iter()
        .map(|column| format!("ADD {}", index(column)))
        .collect();
    let keys = keys.join(", ");
    let online = format!("ALTER TABLE `{table}` {keys}, ALGORITHM=INPLACE, LOCK=NONE");
    match session.execute_on_all(&online).await {
        Ok(_) => Ok(()),
        Err(Fault::No(_)) => {
            let plain = format!("ALTER TABLE `{table}` {keys}");
            session.execute_on_all(&plain).await.map(drop)
        }
        Err(fault) => Err(fault),
    }
}
