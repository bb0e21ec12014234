//! The official table as it is on the server, and the tables beside it.

use std::sync::Arc;

use mysql_async::{Row, Value};

use super::column::{COLUMNS, Column, KEYS, USER_MAIL};
use super::fault::Fault;
use super::session::Session;
use super::sql::{LEASES, MARKS, Statements, text};
use crate::error::{Error, ErrorCode, Result};
use crate::token::TokenId;

/// Columns for fewer characters than this are narrow: the official ones have 255.
const NARROW: u64 = 768;

/// A token table as it is at present.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) columns: [Column; 10],
    pub(super) indexes: Vec<Index>,
    pub(super) statements: Statements,
    /// Whether something of the table may change what is written, as triggers do. An account that
    /// may not see triggers sees none.
    pub(super) is_watched: bool,
}

/// An index of a token table.
#[derive(Debug)]
pub(super) struct Index {
    /// Its columns in their order, and whether the whole value is in it.
    pub(super) columns: Vec<(String, bool)>,
    is_unique: bool,
    /// Whether rows can be looked up by it.
    is_sorted: bool,
}

impl Schema {
    /// The columns that are too short for any token, or cannot hold any text, and can be made to.
    pub(super) fn narrow(&self) -> Vec<usize> {
        let mut narrow = self.too_short();
        narrow.retain(|&index| !self.is_in_shared_key(index));
        narrow
    }

    /// Those that cannot: an index would have no room for them beside its other columns.
    pub(super) fn stuck(&self) -> Vec<usize> {
        let mut stuck = self.too_short();
        stuck.retain(|&index| self.is_in_shared_key(index));
        stuck
    }

    /// Whether an index holds the whole value of this column.
    pub(super) fn is_in_key(&self, column: usize) -> bool {
        let name = self.columns[column].name;
        self.indexes.iter().any(|index| index.holds(name))
    }

    fn is_in_shared_key(&self, column: usize) -> bool {
        let name = self.columns[column].name;
        let is_shared = |index: &Index| index.columns.len() > 1 && index.holds(name);
        self.indexes.iter().any(is_shared)
    }

    fn too_short(&self) -> Vec<usize> {
        let is_narrow = |column: &Column| {
            let holds_all = column
                .collation
                .as_ref()
                .is_none_or(|(set, _)| set == "utf8mb4");
            column.most_chars < NARROW || !holds_all
        };
        let texts = (1..COLUMNS.len()).filter(|&index| COLUMNS[index] != "expiry_time");
        texts
            .filter(|&index| is_narrow(&self.columns[index]))
            .collect()
    }

    /// The columns that are looked up by and have no index.
    pub(super) fn unindexed(&self) -> Vec<&'static str> {
        let serves = |key: &str, index: &Index| {
            index.is_sorted && index.columns.first().is_some_and(|(first, _)| first == key)
        };
        KEYS.into_iter()
            .map(|key| self.columns[key].name)
            .filter(|key| !self.indexes.iter().any(|index| serves(key, index)))
            .collect()
    }

    pub(super) fn table(&self) -> &str {
        self.statements.table()
    }
}

impl Index {
    /// Whether the whole value of a column is in it, and must fit.
    fn holds(&self, column: &str) -> bool {
        let is_it = |part: &(String, bool)| part.0 == column && part.1;
        self.is_sorted && self.columns.iter().any(is_it)
    }
}

/// What there is under the name of a token table.
enum Found {
    Nothing,
    /// The table of an older official SDK, under its name as it was created: it lacks the column
    /// `api_domain` and nothing else.
    Older(String),
    Table(Arc<Schema>),
}

/// Looks at the table; `None` if there is none.
///
/// # Errors
/// `store_foreign` when there is something else under this name, or a table that has to be widened
/// first; `unsupported` when its engine has no transactions.
pub(super) async fn inspect(
    session: &mut Session,
    table: &str,
) -> Result<Option<Arc<Schema>>, Fault> {
    match find(session, table).await? {
        Found::Nothing => Ok(None),
        Found::Table(schema) => Ok(Some(schema)),
        Found::Older(table) => {
            let message = format!(
                "table `{table}` lacks the column api_domain, as tables of older SDKs do: add it \
                with `MySqlStoreBuilder::widen`"
            );
            Err(Fault::No(Error::new(ErrorCode::StoreForeign, message)))
        }
    }
}

/// As [`inspect`], but a table without `api_domain` is no error.
async fn find(session: &mut Session, table: &str) -> Result<Found, Fault> {
    let found = session
        .rows(
            "SELECT table_name, table_type, engine, @@lower_case_table_names, DATABASE() \
            FROM information_schema.tables \
            WHERE table_schema = DATABASE() AND table_name = ?",
            vec![text(table)],
        )
        .await?;
    let mut same = None;
    for row in found {
        let mut fields = Fields::of(row);
        let name = fields.text(0).unwrap_or_default();
        let ignores_case = fields.number(3).is_some_and(|mode| mode != 0);
        if name == table || (ignores_case && name.eq_ignore_ascii_case(table)) {
            same = Some((name, fields.text(1), fields.text(2)));
        }
    }
    let Some((table, kind, engine)) = same else {
        return Ok(Found::Nothing);
    };
    let foreign = |what: &str| {
        let message = format!("table `{table}` {what}");
        Err(Fault::No(Error::new(ErrorCode::StoreForeign, message)))
    };
    if kind.as_deref() != Some("BASE TABLE") {
        return foreign("is no table that can be written");
    }
    if engine.as_deref() != Some("InnoDB") {
        let engine = engine.unwrap_or_default();
        let message = format!(
            "table `{table}` uses the engine {engine}, which has no transactions: convert it with \
            ALTER TABLE … ENGINE=InnoDB"
        );
        return Err(Fault::No(Error::new(ErrorCode::Unsupported, message)));
    }
    let columns = match columns(session, &table).await? {
        Ok(columns) => columns,
        Err(what) => return foreign(&what),
    };
    let indexes = indexes(session, &table).await?;
    let is_key = |index: &Index| {
        index.is_unique && index.is_sorted && index.columns == [("id".to_owned(), true)]
    };
    if !indexes.iter().any(is_key) {
        return foreign("has no primary key on the column `id`");
    }
    let [.., Some(_)] = &columns else {
        return Ok(Found::Older(table));
    };
    let columns = columns.map(|column| column.expect("no column is missing"));
    let is_lossy = columns.iter().any(|column| column.is_lossy);
    Ok(Found::Table(Arc::new(Schema {
        is_watched: is_lossy || has_triggers(session, &table).await?,
        statements: Statements::new(&table, &columns),
        columns,
        indexes,
    })))
}

/// The ten columns, or why they are not what they should be. The last, `api_domain`, may be missing.
async fn columns(
    session: &mut Session,
    table: &str,
) -> Result<Result<[Option<Column>; 10], String>, Fault> {
    let rows = session
        .rows(
            "SELECT column_name, data_type, character_maximum_length, character_octet_length, \
            character_set_name, collation_name, is_nullable FROM information_schema.columns \
            WHERE table_schema = DATABASE() AND table_name = ?",
            vec![text(table)],
        )
        .await?;
    let rows: Vec<_> = rows.into_iter().map(Fields::of).map(named).collect();
    let mut names = COLUMNS;
    if !rows.iter().any(|(name, _)| name == names[1]) {
        names[1] = USER_MAIL;
    }
    let mut found: [Option<Column>; 10] = Default::default();
    for (name, mut fields) in rows {
        let Some(index) = names.iter().position(|column| *column == name) else {
            continue;
        };
        let name = names[index];
        let kind = fields.text(1).unwrap_or_default().to_ascii_lowercase();
        let (Some(most_chars), Some(most_bytes)) = (fields.number(2), fields.number(3)) else {
            return Ok(Err(format!(
                "has a column `{name}` of type {kind}, not text"
            )));
        };
        let collation = fields.text(4).zip(fields.text(5));
        // They become part of statements.
        let is_word = |word: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            !word.is_empty() && word.bytes().all(plain)
        };
        if let Some((charset, collation)) = &collation
            && !(is_word(charset) && is_word(collation))
        {
            return Ok(Err(format!(
                "has a column `{name}` of a strange character set"
            )));
        }
        found[index] = Some(Column {
            name,
            collation: collation.filter(|(charset, _)| charset != "binary"),
            most_chars,
            most_bytes,
            is_blob: kind.ends_with("text") || kind.ends_with("blob"),
            is_nullable: fields.text(6).is_some_and(|word| word == "YES"),
            is_lossy: !["varchar", "varbinary"].contains(&kind.as_str())
                && !kind.ends_with("text")
                && !kind.ends_with("blob"),
        });
    }
    let missing: Vec<_> = COLUMNS
        .iter()
        .zip(&found)
        .filter_map(|(name, column)| column.is_none().then_some(*name))
        .collect();
    if !missing.is_empty() && missing != ["api_domain"] {
        return Ok(Err(format!("lacks the columns {}", missing.join(", "))));
    }
    Ok(Ok(found))
}

fn named(mut fields: Fields) -> (String, Fields) {
    let name = fields.text(0).unwrap_or_default().to_ascii_lowercase();
    (name, fields)
}

async fn has_triggers(session: &mut Session, table: &str) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM information_schema.triggers \
        WHERE event_object_schema = DATABASE() AND event_object_table = ? LIMIT 1";
    Ok(!session.rows(sql, vec![text(table)]).await?.is_empty())
}

async fn indexes(session: &mut Session, table: &str) -> Result<Vec<Index>, Fault> {
    let rows = session
        .rows(
            "SELECT index_name, column_name, sub_part, non_unique, index_type \
            FROM information_schema.statistics \
            WHERE table_schema = DATABASE() AND table_name = ? ORDER BY index_name, seq_in_index",
            vec![text(table)],
        )
        .await?;
    let mut indexes: Vec<Index> = Vec::new();
    let mut last = None;
    for row in rows {
        let mut fields = Fields::of(row);
        let name = fields.text(0);
        let column = fields.text(1).unwrap_or_default().to_ascii_lowercase();
        let part = (column, fields.number(2).is_none());
        match indexes.last_mut() {
            Some(index) if last == name => index.columns.push(part),
            _ => indexes.push(Index {
                columns: vec![part],
                is_unique: fields.number(3) == Some(0),
                is_sorted: fields.text(4).is_some_and(|kind| kind == "BTREE"),
            }),
        }
        last = name;
    }
    Ok(indexes)
}

/// Makes the table where it is missing, and returns it.
pub(super) async fn find_or_create(
    session: &mut Session,
    table: &str,
) -> Result<Arc<Schema>, Fault> {
    if let Some(schema) = inspect(session, table).await? {
        return Ok(schema);
    }
    session.batch(&new_table(table)).await?;
    inspect(session, table).await?.ok_or_else(|| {
        let message = format!("table `{table}` was made and is not there");
        Fault::Again(Error::new(ErrorCode::StoreUnavailable, message))
    })
}

/// Adds the column that tables of older official SDKs lack, to such a table.
///
/// # Errors
/// As [`inspect`], and what keeps the server from altering the table.
pub(super) async fn add_api_domain(session: &mut Session, table: &str) -> Result<(), Fault> {
    if let Found::Older(table) = find(session, table).await? {
        let sql = format!(
            "ALTER TABLE `{table}` ADD COLUMN api_domain mediumtext \
            CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL"
        );
        session.execute_on_all(&sql).await?;
    }
    Ok(())
}

/// The official columns in their order, wide enough for any token.
///
/// The collation is exact, so that the official SDKs do not find one user for another either.
fn new_table(table: &str) -> String {
    let columns: Vec<_> = COLUMNS
        .iter()
        .map(|name| match *name {
            "id" => "id varchar(10) NOT NULL".to_owned(),
            "expiry_time" => "expiry_time varchar(20)".to_owned(),
            name => format!("{name} mediumtext"),
        })
        .collect();
    let keys: Vec<_> = KEYS.iter().map(|&key| index(COLUMNS[key])).collect();
    format!(
        "CREATE TABLE IF NOT EXISTS `{table}` ({}, PRIMARY KEY (id), {}) \
        ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        columns.join(", "),
        keys.join(", ")
    )
}

/// An index of the first characters of a column, which tell all tokens apart, as few as the oldest
/// row formats take.
pub(super) fn index(column: &str) -> String {
    format!("KEY zoho_oauth_{column} ({column}(191))")
}

/// Makes the side tables, as far as they are missing.
pub(super) async fn prepare_side_tables(session: &mut Session) -> Result<(), Fault> {
    let word = "CHARACTER SET ascii COLLATE ascii_bin NOT NULL";
    let tables = [
        (
            MARKS,
            format!(
                "(token_table varchar(64) {word} PRIMARY KEY, \
                highest_id bigint unsigned NOT NULL, writes bigint unsigned NOT NULL)"
            ),
        ),
        (
            LEASES,
            format!(
                "(token_table varchar(64) {word}, lease_key varchar(64) {word}, \
                lease mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
                changed_at bigint NOT NULL, PRIMARY KEY (token_table, lease_key))"
            ),
        ),
    ];
    for (name, columns) in tables {
        // Looking first: an account that may not create tables can use those that are there.
        let sql = "SELECT 1 FROM information_schema.tables \
            WHERE table_schema = DATABASE() AND table_name = ?";
        if session.rows(sql, vec![text(name)]).await?.is_empty() {
            let sql = format!("CREATE TABLE IF NOT EXISTS {name} {columns} ENGINE=InnoDB");
            session.batch(&sql).await?;
        }
    }
    Ok(())
}

/// Makes the mark of a table if there is none: the only time that the whole table is looked at.
/// No id up to `reserved` is given.
pub(super) async fn prepare_mark(
    session: &mut Session,
    schema: &Schema,
    reserved: u64,
) -> Result<(), Fault> {
    let table = text(schema.table());
    let sql = format!("SELECT 1 FROM {MARKS} WHERE token_table = ?");
    if session.rows(&sql, vec![table.clone()]).await?.is_empty() {
        let highest = highest(session, schema).await?;
        // A number of writes that no earlier mark of this table can have reached.
        let sql = format!(
            "INSERT INTO {MARKS} (token_table, highest_id, writes) \
            SELECT ?, ?, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
        );
        let values = vec![table.clone(), Value::UInt(highest)];
        match session.execute(&sql, values).await {
            // Another process was faster.
            Ok(_) | Err(Fault::Duplicate(_)) => {}
            Err(fault) => return Err(fault),
        }
    }
    if reserved > 0 {
        let sql = format!(
            "UPDATE {MARKS} SET highest_id = ?, writes = writes + 1 \
            WHERE token_table = ? AND highest_id < ?"
        );
        let reserved = Value::UInt(reserved);
        let values = vec![reserved.clone(), table, reserved];
        session.execute(&sql, values).await?;
    }
    Ok(())
}

/// The highest id in the table, by looking at all of them.
pub(super) async fn highest(session: &mut Session, schema: &Schema) -> Result<u64, Fault> {
    let rows = session
        .rows_of_all(&schema.statements.highest, Vec::new())
        .await?;
    let highest = rows.into_iter().next().map(Fields::of);
    let highest = highest.and_then(|fields| fields.number(0)).unwrap_or(0);
    Ok(highest.min(TokenId::MAX.get()))
}

/// The values of a row that is not one of tokens.
pub(super) struct Fields(Vec<Value>);

impl Fields {
    pub(super) fn of(row: Row) -> Self {
        Self(row.unwrap())
    }

    pub(super) fn text(&mut self, index: usize) -> Option<String> {
        match std::mem::replace(self.0.get_mut(index)?, Value::NULL) {
            Value::Bytes(bytes) => String::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub(super) fn number(&self, index: usize) -> Option<u64> {
        match self.0.get(index)? {
            Value::UInt(number) => Some(*number),
            Value::Int(number) => u64::try_from(*number).ok(),
            Value::Bytes(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
            _ => None,
        }
    }

    pub(super) fn signed(&self, index: usize) -> Option<i64> {
        match self.0.get(index)? {
            Value::Int(number) => Some(*number),
            Value::UInt(number) => i64::try_from(*number).ok(),
            Value::Bytes(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
            _ => None,
        }
    }
}
