//! The official table, and what lies beside it.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::fault::{fault, name};
use super::sql::{COLUMNS, ID, Key, USER_MAIL};
use crate::error::{Error, ErrorCode, Result};
use crate::token::TokenId;

/// The table of the official stores: ten columns, all text.
fn official_table(table: &str) -> String {
    format!(
        "CREATE TABLE \"{table}\" (id varchar(10) NOT NULL PRIMARY KEY, user_name varchar(255), \
        client_id varchar(255), client_secret varchar(255), refresh_token varchar(255), \
        access_token varchar(255), grant_token varchar(255), expiry_time varchar(20), \
        redirect_url varchar(255), api_domain varchar(255))"
    )
}

/// Side tables, shared by all token tables of one database.
const SIDE_TABLES: [(&str, &str); 2] = [
    (
        "zoho_oauth_highest_id",
        "CREATE TABLE IF NOT EXISTS zoho_oauth_highest_id \
        (token_table TEXT NOT NULL PRIMARY KEY, highest_id INTEGER NOT NULL)",
    ),
    (
        "zoho_oauth_memo",
        "CREATE TABLE IF NOT EXISTS zoho_oauth_memo \
        (token_table TEXT NOT NULL, key TEXT NOT NULL, memo TEXT NOT NULL, \
        PRIMARY KEY (token_table, key)) WITHOUT ROWID",
    ),
];

/// The indexes and the trigger of one token table: name and statement.
///
/// Indexes end with the id, so the first of several matches comes without sorting. They leave out
/// NULL, which nobody looks for: a column that is NULL in a million rows costs nothing, and does
/// not spoil SQLite's statistics. The trigger remembers the highest id on behalf of whoever
/// deletes, be it another program.
fn companions(found: &Table) -> Vec<(String, String)> {
    let (table, max) = (&found.name, TokenId::MAX);
    let index = |name: &str, columns: &str| {
        let name = format!("zoho_oauth_{table}_{name}");
        let sql = format!("CREATE INDEX IF NOT EXISTS \"{name}\" ON \"{table}\" ({columns})");
        (name, sql)
    };
    // Not `_id`: for a table called `highest` that would be the name of a side table.
    let mut all = vec![index("by_id", ID)];
    for key in Key::ALL {
        let column = match key {
            Key::UserName => found.user_column,
            _ => key.column(),
        };
        let (name, sql) = index(key.column(), &format!("{column} COLLATE BINARY, {ID}"));
        all.push((name, format!("{sql} WHERE {column} IS NOT NULL")));
    }
    let name = format!("zoho_oauth_{table}_deleted");
    let sql = format!(
        "CREATE TRIGGER IF NOT EXISTS \"{name}\" AFTER DELETE ON \"{table}\" BEGIN \
        UPDATE zoho_oauth_highest_id SET highest_id = CAST(OLD.id AS INTEGER) \
        WHERE token_table = '{table}' AND highest_id < CAST(OLD.id AS INTEGER) \
        AND CAST(OLD.id AS INTEGER) <= {max}; \
        DELETE FROM zoho_oauth_memo WHERE token_table = '{table}' AND key = 'id:' || OLD.id; \
        END"
    );
    all.push((name, sql));
    all
}

/// What there is under the name of a token table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// A table that can hold our records.
    Table(Table),
}

/// A token table as it is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// As it was created.
    pub(super) name: String,
    /// `user_name`, or `user_mail` as older official SDKs have it.
    pub(super) user_column: &'static str,
    /// Older official SDKs make tables of nine columns, without it.
    has_api_domain: bool,
}

impl Table {
    /// Whether an older official SDK made it, and may still give ids of its kind.
    fn is_older(&self) -> bool {
        !self.has_api_domain || self.user_column == USER_MAIL
    }

    /// The condition that a record is to get a number for its id.
    fn other_ids(&self) -> String {
        if self.is_older() {
            format!("NOT {IS_NUMBER}")
        } else {
            IS_OLDER.to_owned()
        }
    }

    /// The name under which a connection that may not write reads the table with the official
    /// columns and ids that are numbers: the table's own, or that of a view that the connection
    /// alone sees. The view shows the ids that [`number_ids`] would give.
    pub(super) fn as_official(&self, connection: &Connection) -> rusqlite::Result<&str> {
        const VIEW: &str = "zoho_oauth_view";
        if !self.is_older() {
            return Ok(&self.name);
        }
        let table = &self.name;
        let expression = |column: &&str| match *column {
            "id" => format!(
                "CASE WHEN {IS_NUMBER} THEN id ELSE CAST(rowid + (\
                SELECT ifnull(max({ID}), 0) FROM main.\"{table}\" WHERE {IS_NUMBER}) AS TEXT) END AS id"
            ),
            "user_name" => format!("{} AS user_name", self.user_column),
            "api_domain" if !self.has_api_domain => "NULL AS api_domain".to_owned(),
            official => official.to_owned(),
        };
        let columns: Vec<_> = COLUMNS.iter().map(expression).collect();
        connection.execute_batch(&format!(
            "PRAGMA temp_store = MEMORY; CREATE TEMP VIEW {VIEW} AS \
            SELECT {}, rowid AS rowid FROM main.\"{table}\"",
            columns.join(", ")
        ))?;
        Ok(VIEW)
    }
}

/// Whether an id is one of ours. Older official SDKs give ids such as `python_u1_EU_9f3c`.
const IS_NUMBER: &str = "(CAST(id AS TEXT) = CAST(CAST(id AS INTEGER) AS TEXT) \
    AND CAST(id AS INTEGER) BETWEEN 1 AND 9999999999) IS TRUE";

/// Whether an id is one that older official SDKs give. In a table of today's form other ids that are
/// no numbers are damage.
const IS_OLDER: &str = "(id GLOB '[a-z]*_*_*_*')";

/// Looks, without changing anything, whether `table` is missing or can hold our records.
///
/// # Errors
/// `store_foreign` when it is something else, or the file is no database.
pub(super) fn inspect(connection: &Connection, table: &str, path: Option<&Path>) -> Result<Found> {
    inspect_table(connection, table, path).map_err(|error| match error {
        Refusal::Ours(error) => error,
        Refusal::Sqlite(error) => {
            let fault = fault(path, &error);
            match error.sqlite_error_code() {
                // Nothing was ever read from it, so it is somebody else's file.
                Some(rusqlite::ErrorCode::NotADatabase) => {
                    let message = format!("{} is no SQLite database", name(path));
                    Error::new(ErrorCode::StoreForeign, message)
                }
                _ => fault,
            }
        }
    })
}

enum Refusal {
    Ours(Error),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn inspect_table(
    connection: &Connection,
    table: &str,
    path: Option<&Path>,
) -> Result<Found, Refusal> {
    let foreign = |what: String| {
        let message = format!("table `{table}` of {} {what}", name(path));
        Err(Refusal::Ours(Error::new(ErrorCode::StoreForeign, message)))
    };
    let found = connection
        .query_row(
            "SELECT name, type, wr FROM pragma_table_list \
            WHERE schema = 'main' AND name = ?1 COLLATE NOCASE",
            [table],
            |row| {
                let kind: String = row.get(1)?;
                Ok((row.get(0)?, kind, row.get(2)?))
            },
        )
        .optional()?;
    let Some((real_name, kind, without_rowid)) = found else {
        return Ok(Found::Nothing);
    };
    let real_name: String = real_name;
    if kind != "table" || without_rowid {
        return foreign(format!("is no ordinary table ({kind})"));
    }
    let mut statement = connection.prepare("SELECT lower(name) FROM pragma_table_info(?1)")?;
    let columns = statement
        .query_map([&real_name], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    let has = |column: &str| columns.iter().any(|there| there == column);
    let is_missing = |column: &&str| match *column {
        "user_name" => !has("user_name") && !has(USER_MAIL),
        "api_domain" => false,
        column => !has(column),
    };
    let missing: Vec<&str> = COLUMNS.into_iter().filter(is_missing).collect();
    if !missing.is_empty() {
        return foreign(format!("lacks the columns {}", missing.join(", ")));
    }
    Ok(Found::Table(Table {
        name: real_name,
        user_column: if has("user_name") {
            "user_name"
        } else {
            USER_MAIL
        },
        has_api_domain: has("api_domain"),
    }))
}

/// Makes what is missing, in one transaction, and returns the table.
///
/// A table of an older official SDK gets the column `api_domain`, and ids that are numbers: an SDK
/// that names its columns goes on with it. A database that has everything is not written to, so a
/// store can be opened while others write.
///
/// # Errors
/// As [`inspect`], and what keeps SQLite from writing.
pub(super) fn prepare(
    connection: &mut Connection,
    table: &str,
    path: Option<&Path>,
) -> Result<Table> {
    if let Found::Table(table) = inspect(connection, table, path)?
        && is_complete(connection, &table).map_err(|error| fault(path, &error))?
    {
        return Ok(table);
    }
    let failed = |error: rusqlite::Error| fault(path, &error);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    // Another process may have been faster, and with something else.
    let table = match inspect(&transaction, table, path)? {
        Found::Table(table) => table,
        Found::Nothing => {
            transaction
                .execute_batch(&official_table(table))
                .map_err(failed)?;
            Table {
                name: table.to_owned(),
                user_column: "user_name",
                has_api_domain: true,
            }
        }
    };
    if !table.has_api_domain {
        let sql = format!(
            "ALTER TABLE \"{}\" ADD COLUMN api_domain varchar(255)",
            table.name
        );
        transaction.execute_batch(&sql).map_err(failed)?;
    }
    for (_, sql) in SIDE_TABLES {
        transaction.execute_batch(sql).map_err(failed)?;
    }
    for (name, sql) in companions(&table) {
        take_back(&transaction, &name, &table.name).map_err(failed)?;
        transaction.execute_batch(&sql).map_err(failed)?;
    }
    transaction
        .execute(
            "INSERT OR IGNORE INTO zoho_oauth_highest_id (token_table, highest_id) VALUES (?1, 0)",
            [&table.name],
        )
        .map_err(failed)?;
    number_ids(&transaction, &table).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(table)
}

/// Gives a number to each record whose id is one of an older SDK, above all that were ever given.
fn number_ids(connection: &Connection, found: &Table) -> rusqlite::Result<()> {
    let (table, others) = (found.name.as_str(), found.other_ids());
    let highest = format!(
        "SELECT max((SELECT highest_id FROM zoho_oauth_highest_id WHERE token_table = ?1), \
        (SELECT ifnull(max({ID}), 0) FROM \"{table}\" WHERE {IS_NUMBER}))"
    );
    let highest: i64 = connection.query_row(&highest, [table], |row| row.get(0))?;
    let number = format!("UPDATE \"{table}\" SET id = CAST(?1 + rowid AS TEXT) WHERE {others}");
    let count = connection.execute(&number, [highest])?;
    if count > 0 {
        tracing::info!(
            table,
            count,
            "records of an older SDK got ids that are numbers"
        );
    }
    Ok(())
}

/// Removes a companion of `table` from another table. When somebody puts a token table aside under
/// another name, SQLite moves its indexes and its trigger along, and they keep their names.
fn take_back(connection: &Connection, name: &str, table: &str) -> rusqlite::Result<()> {
    let kind: Option<String> = connection
        .query_row(
            "SELECT type FROM sqlite_schema WHERE name = ?1 AND tbl_name <> ?2",
            [name, table],
            |row| row.get(0),
        )
        .optional()?;
    match kind.as_deref() {
        Some("index") => connection.execute_batch(&format!("DROP INDEX \"{name}\"")),
        Some("trigger") => connection.execute_batch(&format!("DROP TRIGGER \"{name}\"")),
        _ => Ok(()),
    }
}

fn is_complete(connection: &Connection, found: &Table) -> rusqlite::Result<bool> {
    let table = found.name.as_str();
    let other_ids = format!("SELECT 1 FROM \"{table}\" WHERE {}", found.other_ids());
    if !found.has_api_domain || connection.prepare(&other_ids)?.exists([])? {
        return Ok(false);
    }
    let companions = companions(found);
    let sides = SIDE_TABLES.iter().map(|(name, _)| (*name, *name));
    let all = companions
        .iter()
        .map(|(name, _)| (name.as_str(), table))
        .chain(sides);
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = ?1 AND tbl_name = ?2";
    let mut there = connection.prepare(sql)?;
    for (name, of_table) in all {
        if !there.exists([name, of_table])? {
            return Ok(false);
        }
    }
    connection
        .prepare("SELECT 1 FROM zoho_oauth_highest_id WHERE token_table = ?1")?
        .exists(params![table])
}
