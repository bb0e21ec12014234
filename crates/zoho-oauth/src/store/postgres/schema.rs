//! The token table, and what lies beside it.

use deadpool_postgres::Transaction;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};

use super::fault::Failure;
use super::server::{Extent, Line, TELL_TRANSACTION};
use super::sql::{COLUMNS, ID_ORDER, KEYS, LEASE_TABLE, MARK_TABLE, quoted};
use super::value::Value;
use crate::error::{Error, Result};
use crate::secret::Fingerprint;

/// Held by whoever makes tables: the letters "zohoauth". Two that make the same at once would get
/// into each other's way, `IF NOT EXISTS` or not.
const MAKING: i64 = i64::from_be_bytes(*b"zohoauth");

/// How often it is tried when another program makes tables of the same names at the same time.
const TRIES: usize = 5;

/// What a statement finds: the relation with this name, one row per column.
const RELATION: &str = "SELECT c.relkind::text, coalesce(a.attname::text, ''), \
    coalesce(t.typname::text, '') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    LEFT JOIN pg_type t ON t.oid = a.atttypid WHERE n.nspname = $1 AND c.relname = $2";

/// All that is ours beside the table, each with the table that it is an index of.
const COMPANIONS: &str = "SELECT c.relname::text, coalesce(o.relname::text, '') FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index i ON i.indexrelid = c.oid \
    LEFT JOIN pg_class o ON o.oid = i.indrelid \
    WHERE n.nspname = $1 AND c.relname LIKE 'zoho\\_oauth\\_%'";

/// Whether there are triggers, and rules other than that of a view.
const MEDDLERS: &str = "WITH RECURSIVE parts AS (SELECT c.oid FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 \
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN parts p ON p.oid = i.inhparent) \
    SELECT EXISTS (SELECT FROM pg_trigger t JOIN parts p ON p.oid = t.tgrelid \
    WHERE NOT t.tgisinternal AND t.tgenabled <> 'D')::text, \
    EXISTS (SELECT FROM pg_rewrite r JOIN parts p ON p.oid = r.ev_class \
    WHERE r.ev_type <> '1' AND r.ev_enabled <> 'D')::text";

/// Reaches the server for the first time, and finds out which schema is meant if none is named.
///
/// # Errors
/// What keeps the server from answering; `invalid_input` when no schema is meant.
pub(super) async fn look_around(line: &mut Line) -> Result<()> {
    // The system's own schema was put in front.
    let sql = "SELECT coalesce((SELECT named::text FROM unnest(current_schemas(false)) \
        WITH ORDINALITY AS path(named, place) WHERE named <> 'pg_catalog' \
        ORDER BY place LIMIT 1), ''), current_setting('fsync')";
    let found = On::Line(line).texts::<2>(line, sql, &[]).await?;
    let [schema, fsync] = found.into_iter().next().unwrap_or_default();
    if fsync == "off" {
        let place = &line.place.server;
        tracing::warn!(
            place,
            "the server runs with `fsync = off`: a crash of its machine loses what was saved"
        );
    }
    if line.place.schema.is_empty() {
        line.place.schema = schema;
    }
    if line.place.schema.is_empty() {
        return Err(Error::invalid_input(format!(
            "no schema is named, and none of the `search_path` is there in {}",
            line.place.server
        )));
    }
    Ok(())
}

/// Says whether there is a table under the name, and makes nothing.
///
/// # Errors
/// `store_foreign` when there is something else; what keeps the server from answering.
pub(super) async fn is_there(line: &Line) -> Result<bool> {
    let place = &line.place;
    let names = [Value::text(&*place.schema), Value::text(&*place.table)];
    let columns = On::Line(line).texts::<3>(line, RELATION, &names).await?;
    if columns.is_empty() {
        return Ok(false);
    }
    check_columns(&columns).map_err(|what| place.foreign(&what))?;
    Ok(true)
}

/// Makes what is missing of the table `line.place` names. A database that has everything is not
/// written to, so a user without the right to make tables can open it.
///
/// # Errors
/// `store_foreign` when there is something else under the name; what keeps the server from making
/// it.
pub(super) async fn prepare(line: &Line) -> Result<()> {
    let at_once = On::Line(line);
    if missing(&at_once, line).await?.is_empty() && has_mark(&at_once, line).await? {
        return Ok(());
    }
    let mut tries = 1;
    loop {
        match make(line).await {
            Ok(()) => return Ok(()),
            Err(Trouble::Race) if tries < TRIES => tries += 1,
            Err(trouble) => return Err(trouble.into_error(line)),
        }
    }
}

/// Why the tables could not be made.
enum Trouble {
    /// Somebody else made something under the same name at the same time.
    Race,
    Ours(Error),
}

impl Trouble {
    fn into_error(self, line: &Line) -> Error {
        match self {
            Self::Race => line.place.foreign("changes while it is being made"),
            Self::Ours(error) => error,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure.state.as_deref() {
            // A duplicate schema, table or index, or a duplicate in the system's own tables.
            Some("42P06" | "42P07" | "42710" | "23505") => Self::Race,
            _ => Self::Ours(failure.error),
        }
    }
}

/// All in one transaction, alone among our own kind. It takes as long as it takes to index the
/// table that is there; but who holds a lock, and perhaps stands still, is not waited for for ever.
async fn make(line: &Line) -> Result<(), Trouble> {
    let (place, limit) = (&line.place, line.limits.of(Extent::Few));
    let failed = |error: tokio_postgres::Error| Trouble::from(place.failed(&error));
    let late = |_| place.late("a statement was not answered");
    let client = timeout(limit, line.connection_at_rest()).await;
    let mut client = client.map_err(|_| place.late("no connection could be had"))??;
    let transaction = client
        .get_mut()
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .read_only(false)
        .start();
    let transaction = timeout(limit, transaction).await.map_err(late)?;
    let transaction = transaction.map_err(failed)?;
    let patience = line.limits.of(Extent::All);
    let alone = format!(
        "{TELL_TRANSACTION}; SET LOCAL lock_timeout = {}; SELECT pg_advisory_xact_lock({MAKING})",
        // In milliseconds; none would be no limit, and the setting has room for no more.
        patience.as_millis().clamp(1, 0x7fff_ffff)
    );
    // The server knows when it is over; this is for one that says nothing.
    let alone = timeout(patience + limit, transaction.batch_execute(&alone)).await;
    alone.map_err(late)?.map_err(failed)?;
    let inside = On::Transaction(&transaction);
    for statement in missing(&inside, line).await? {
        transaction
            .batch_execute(&statement)
            .await
            .map_err(failed)?;
    }
    let sql = format!(
        "INSERT INTO {}.{MARK_TABLE} (token_table, highest_id, writes) \
        VALUES ($1, 0, (extract(epoch from clock_timestamp()) * 1000000)::bigint) \
        ON CONFLICT (token_table) DO NOTHING",
        quoted(&place.schema)
    );
    inside
        .ask(line, &sql, &[Value::text(&*place.table)])
        .await?;
    transaction.commit().await.map_err(failed)?;
    client.give_back();
    Ok(())
}

/// What an owner of the table can have made to change what is written to it.
pub(super) struct Meddlers {
    pub(super) triggers: bool,
    pub(super) rules: bool,
}

/// Looks for triggers and rules of the table and of its parts.
///
/// # Errors
/// `store_permission` when row-level security hides records; what keeps the server from answering.
pub(super) async fn meddlers(line: &Line) -> Result<Meddlers> {
    let place = &line.place;
    let seen = format!(
        "SELECT 1 FROM {}.{} LIMIT 0",
        quoted(&place.schema),
        quoted(&place.table)
    );
    line.ask(&seen, &[]).await?;
    let names = [Value::text(&*place.schema), Value::text(&*place.table)];
    let found = On::Line(line).texts::<2>(line, MEDDLERS, &names).await?;
    let [triggers, rules] = found.into_iter().next().unwrap_or_default();
    Ok(Meddlers {
        triggers: triggers == "true",
        rules: rules == "true",
    })
}

/// Where a statement is carried out.
enum On<'a> {
    Line(&'a Line),
    Transaction(&'a Transaction<'a>),
}

impl On<'_> {
    async fn ask(&self, line: &Line, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        match self {
            Self::Line(line) => Ok(line.ask(sql, values).await?.rows),
            Self::Transaction(transaction) => {
                let values: Vec<_> = values
                    .iter()
                    .map(|value| (value as &(dyn ToSql + Sync), value.kind()))
                    .collect();
                let rows = transaction.query_typed(sql, &values).await;
                rows.map_err(|error| line.place.failed(&error).error)
            }
        }
    }

    /// Asks for rows of texts.
    async fn texts<const N: usize>(
        &self,
        line: &Line,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<[String; N]>> {
        let rows = self.ask(line, sql, values).await?;
        let text = |row: &Row, index| row.try_get::<_, String>(index);
        let mut texts = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut fields = [const { String::new() }; N];
            for (index, field) in fields.iter_mut().enumerate() {
                *field = text(row, index).map_err(|error| line.place.unreadable(&error))?;
            }
            texts.push(fields);
        }
        Ok(texts)
    }
}

/// Returns the statements that make what is missing.
async fn missing(on: &On<'_>, line: &Line) -> Result<Vec<String>> {
    let (schema, table) = (&*line.place.schema, &*line.place.table);
    let sql = "SELECT nspname::text FROM pg_namespace WHERE nspname = $1";
    let schemas = on.texts::<1>(line, sql, &[Value::text(schema)]).await?;
    let mut statements = Vec::new();
    if schemas.is_empty() {
        statements.push(format!("CREATE SCHEMA {}", quoted(schema)));
    }
    let names = [Value::text(schema), Value::text(table)];
    let columns = on.texts::<3>(line, RELATION, &names).await?;
    if columns.is_empty() {
        statements.push(official_table(schema, table));
    } else {
        check_columns(&columns).map_err(|what| line.place.foreign(&what))?;
    }
    let there = on.texts::<2>(line, COMPANIONS, &names[..1]).await?;
    for (name, of_table, sql) in companions(schema, table) {
        match there.iter().find(|[there, _]| *there == name) {
            Some([_, of]) if *of == of_table => continue,
            // When somebody puts a table aside under another name, its indexes keep theirs.
            Some([_, of]) if !of.is_empty() => {
                statements.push(format!("DROP INDEX {}.{}", quoted(schema), quoted(&name)));
            }
            Some(_) => {
                let what = format!("has something else beside it under the name `{name}`");
                return Err(line.place.foreign(&what));
            }
            None => {}
        }
        statements.push(sql);
    }
    Ok(statements)
}

async fn has_mark(on: &On<'_>, line: &Line) -> Result<bool> {
    let place = &line.place;
    let sql = format!(
        "SELECT token_table FROM {}.{MARK_TABLE} WHERE token_table = $1",
        quoted(&place.schema)
    );
    let table = [Value::text(&*place.table)];
    Ok(!on.texts::<1>(line, &sql, &table).await?.is_empty())
}

/// Says what keeps the relation from holding our records: given its kind, and name and type of
/// each column.
fn check_columns(columns: &[[String; 3]]) -> Result<(), String> {
    let is_table = matches!(columns.first(), Some([kind, ..]) if kind == "r" || kind == "p");
    if !is_table {
        return Err("is no table".into());
    }
    let kind_of = |wanted: &str| {
        let found = columns.iter().find(|[_, name, _]| name == wanted);
        found.map(|[.., kind]| kind.as_str())
    };
    let lacking: Vec<_> = COLUMNS
        .into_iter()
        .filter(|column| kind_of(column).is_none())
        .collect();
    if !lacking.is_empty() {
        return Err(format!("lacks the columns {}", lacking.join(", ")));
    }
    let wrong: Vec<_> = COLUMNS
        .into_iter()
        .filter(|column| !matches!(kind_of(column), Some("text" | "varchar")))
        .collect();
    if !wrong.is_empty() {
        return Err(format!(
            "has columns that are not text: {}",
            wrong.join(", ")
        ));
    }
    Ok(())
}

/// The ten official columns, wide enough for anything.
fn official_table(schema: &str, table: &str) -> String {
    let others = COLUMNS[1..].join(" text, ");
    format!(
        "CREATE TABLE {}.{} (id text NOT NULL PRIMARY KEY, {others} text)",
        quoted(schema),
        quoted(table)
    )
}

/// What lies beside the table: name, the table that it is an index of, and statement.
fn companions(schema: &str, table: &str) -> Vec<(String, String, String)> {
    let schema = quoted(schema);
    let none = String::new();
    let mut all = vec![
        (
            MARK_TABLE.to_owned(),
            none.clone(),
            format!(
                "CREATE TABLE {schema}.{MARK_TABLE} (token_table text NOT NULL PRIMARY KEY, \
                highest_id bigint NOT NULL, writes bigint NOT NULL)"
            ),
        ),
        // Cells are rewritten all the time: with room to spare, within their page.
        (
            LEASE_TABLE.to_owned(),
            none,
            format!(
                "CREATE TABLE {schema}.{LEASE_TABLE} (token_table text NOT NULL, \
                key text NOT NULL, cell text NOT NULL, \
                made_at timestamptz NOT NULL DEFAULT now(), \
                PRIMARY KEY (token_table, key)) WITH (fillfactor = 70)"
            ),
        ),
        (
            format!("{LEASE_TABLE}_starts"),
            LEASE_TABLE.to_owned(),
            format!(
                "CREATE INDEX {LEASE_TABLE}_starts ON {schema}.{LEASE_TABLE} \
                (token_table, made_at) WHERE left(key, 6) = 'start:'"
            ),
        ),
    ];
    let mut index = |what: &str, by: &str| {
        let name = index_name(table, what);
        let sql = format!(
            "CREATE INDEX {} ON {schema}.{} {by}",
            quoted(&name),
            quoted(table)
        );
        all.push((name, table.to_owned(), sql));
    };
    index("by_id", &format!("({ID_ORDER})"));
    for key in KEYS {
        // A hash index takes values of any length; a tree takes 2,700 bytes. Empty values are left
        // out: they would all be in one place.
        let by = format!("USING hash ({key} COLLATE \"C\") WHERE {key} <> ''");
        index(key, &by);
    }
    all
}

/// The name of an index, which has room for 63 bytes.
fn index_name(table: &str, what: &str) -> String {
    let name = format!("zoho_oauth_{table}_{what}");
    if name.len() <= 63 {
        return name;
    }
    let digest = Fingerprint::of(&[table]);
    format!("zoho_oauth_{}_{what}", digest.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: &str) -> [String; 3] {
        ["r".into(), name.into(), kind.into()]
    }

    #[test]
    fn a_table_needs_the_ten_columns_as_text() {
        let columns = COLUMNS.map(|name| column(name, "varchar"));
        assert_eq!(check_columns(&columns), Ok(()));
        let lacking = check_columns(&columns[1..]).unwrap_err();
        assert_eq!(lacking, "lacks the columns id");
        let mut wrong = columns.clone();
        wrong[7] = column("expiry_time", "int8");
        let wrong = check_columns(&wrong).unwrap_err();
        assert_eq!(wrong, "has columns that are not text: expiry_time");
        let mut view = columns;
        view[0][0] = "v".into();
        assert_eq!(check_columns(&view), Err("is no table".into()));
    }

    #[test]
    fn names_fit() {
        let long = "x".repeat(63);
        for (table, what) in [("oauthtoken", "by_id"), (&*long, "refresh_token")] {
            assert!(index_name(table, what).len() <= 63);
        }
        assert_ne!(index_name(&long, "by_id"), index_name(&long[1..], "by_id"));
    }
}
