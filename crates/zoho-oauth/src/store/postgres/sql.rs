//! The statements. Values are always bound; the names in the texts are checked or quoted.
//!
//! Each operation is one statement, and so one transaction: nothing is left open when a connection
//! breaks, and a proxy may hand every statement to another connection of its own.

use super::value::{Value, compared_fields, stored_fields};
use crate::error::{Error, Result};
use crate::query::{Criterion, TokenQuery};
use crate::store::rows::{Mark, Plan, Wanted};
use crate::token::{OAuthToken, TokenId};

/// The official columns, in the official order. All statements name them in this order.
pub(super) const COLUMNS: [&str; 10] = OAuthToken::FIELDS;

pub(super) const MARK_TABLE: &str = "zoho_oauth_mark";
pub(super) const LEASE_TABLE: &str = "zoho_oauth_lease";

/// Ids in the order of numbers: the official column is text, in which 10 comes before 9. An index
/// serves exactly these expressions.
pub(super) const ID_ORDER: &str = "length(id), id COLLATE \"C\"";

/// The store's clock, in milliseconds since 1970, and not the moment the transaction began.
const CLOCK: &str = "(extract(epoch from clock_timestamp()) * 1000)::bigint";

/// Makes the commit wait for the disk where the server's settings would not. It needs no more than
/// to be worked out somewhere in the transaction.
const DURABLY: &str = "(SELECT set_config('synchronous_commit', 'on', true) \
    WHERE current_setting('synchronous_commit') = 'off')";

/// Returns `name` if it can be a name of ours: a letter or `_`, then letters, digits, `_`.
///
/// # Errors
/// `invalid_input` otherwise, and for names that belong to our side tables.
pub(super) fn checked_name<'a>(what: &str, name: &'a str) -> Result<&'a str> {
    let valid = (1..=63).contains(&name.len())
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !valid {
        return Err(Error::invalid_input(format!(
            "a {what} name is 1 to 63 ASCII letters, digits and `_`, and does not begin with a digit"
        )));
    }
    if name.to_ascii_lowercase().starts_with("zoho_oauth_") {
        return Err(Error::invalid_input(format!(
            "the {what} name `{name}` begins with a reserved word"
        )));
    }
    Ok(name)
}

/// A name as it stands in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// All statements of one store, made once when it is opened.
#[derive(Debug)]
pub(super) struct Statements {
    /// The token table and the side tables, with their schema.
    table: String,
    marks: String,
    leases: String,
    pub(super) all: String,
    pub(super) page: String,
    pub(super) mark: String,
    pub(super) delete: String,
    pub(super) clear: String,
    pub(super) read_cell: String,
    pub(super) insert_cell: String,
    pub(super) update_cell: String,
    pub(super) delete_cell: String,
    pub(super) sweep_cells: String,
}

impl Statements {
    pub(super) fn new(schema: &str, table: &str) -> Self {
        let name = |table: &str| format!("{}.{}", quoted(schema), quoted(table));
        let (table, marks, leases) = (name(table), name(MARK_TABLE), name(LEASE_TABLE));
        let columns = COLUMNS.join(", ");
        let select = format!("SELECT {columns} FROM {table}");
        let digits = "'^[1-9][0-9]{0,9}$'";
        // The mark is locked first by whatever changes it, so that no two wait for each other.
        let held = format!("held AS (SELECT 1 FROM {marks} WHERE token_table = $1 FOR UPDATE)");
        let cell = "token_table = $1 AND key = $2";
        let same_cell =
            format!("{cell} AND cell = $3 AND ($4::bigint IS NULL OR {CLOCK} <= $4::bigint)");
        Self {
            all: format!("{select} ORDER BY {ID_ORDER}"),
            page: format!(
                "{select} WHERE ROW(length(id), id COLLATE \"C\") > ROW($1::bigint, $2) \
                ORDER BY {ID_ORDER} LIMIT $3::bigint"
            ),
            // Other programs number by the rows alone and know of no mark.
            mark: format!(
                "SELECT greatest(highest_id, (SELECT id::bigint FROM {table} \
                WHERE length(id) <= 10 AND id COLLATE \"C\" ~ {digits} \
                ORDER BY length(id) DESC, id COLLATE \"C\" DESC LIMIT 1)), writes \
                FROM {marks} WHERE token_table = $1"
            ),
            delete: format!(
                "WITH {held}, gone AS (DELETE FROM {table} \
                WHERE EXISTS (SELECT FROM held) AND {id} RETURNING 1), \
                forgotten AS (DELETE FROM {leases} WHERE token_table = $1 AND key = $3), \
                moved AS (UPDATE {marks} SET highest_id = greatest(highest_id, $4), \
                writes = writes + 1 WHERE token_table = $1 AND EXISTS (SELECT FROM gone)) \
                SELECT (SELECT count(*) FROM held), (SELECT count(*) FROM gone), \
                (SELECT count(pg_notify($5, $2)) FROM gone), {DURABLY}",
                id = id_is("$2"),
            ),
            clear: format!(
                "WITH {held}, gone AS (DELETE FROM {table} \
                WHERE EXISTS (SELECT FROM held) RETURNING id), \
                forgotten AS (DELETE FROM {leases} \
                WHERE token_table = $1 AND key LIKE 'id:%' AND EXISTS (SELECT FROM held)), \
                moved AS (UPDATE {marks} SET writes = writes + 1, highest_id = greatest(highest_id, \
                (SELECT max(CASE WHEN id COLLATE \"C\" ~ {digits} THEN id::bigint END) FROM gone)) \
                WHERE token_table = $1) \
                SELECT (SELECT count(*) FROM held), (SELECT count(*) FROM gone), \
                (SELECT count(pg_notify($2, ''))), {DURABLY}"
            ),
            read_cell: format!("SELECT (SELECT cell FROM {leases} WHERE {cell}), {CLOCK}"),
            insert_cell: format!(
                "WITH done AS (INSERT INTO {leases} (token_table, key, cell) \
                SELECT $1, $2, $3 WHERE $4::bigint IS NULL OR {CLOCK} <= $4::bigint \
                ON CONFLICT (token_table, key) DO NOTHING RETURNING 1) \
                SELECT (SELECT count(*) FROM done), {DURABLY}"
            ),
            update_cell: format!(
                "WITH done AS (UPDATE {leases} SET cell = $5 WHERE {same_cell} RETURNING 1) \
                SELECT (SELECT count(*) FROM done), {DURABLY}"
            ),
            delete_cell: format!(
                "WITH done AS (DELETE FROM {leases} WHERE {same_cell} RETURNING 1) \
                SELECT (SELECT count(*) FROM done), {DURABLY}"
            ),
            // Twice the hour after which they are of no use: they are counted from their making.
            sweep_cells: format!(
                "DELETE FROM {leases} WHERE token_table = $1 AND key LIKE 'start:%' \
                AND made_at < now() - interval '2 hours'"
            ),
            table,
            marks,
            leases,
        }
    }

    fn select(&self) -> String {
        format!("SELECT {} FROM {}", COLUMNS.join(", "), self.table)
    }

    /// The first record that matches.
    pub(super) fn find<'a>(&self, query: &'a TokenQuery) -> (String, Vec<Value<'a>>) {
        let (column, value) = match query.criterion() {
            Criterion::UserName(name) => ("user_name", name.as_str()),
            Criterion::AccessToken(token) => ("access_token", token.expose_secret()),
            Criterion::GrantToken(token) => ("grant_token", token.expose_secret()),
            Criterion::RefreshToken(token) => ("refresh_token", token.expose_secret()),
        };
        let mut values = vec![Value::text(value)];
        let mut condition = key_is(column, "$1");
        if let Some(client) = query.client() {
            values.push(Value::text(client.as_str()));
            condition.push_str(" AND client_id COLLATE \"C\" = $2");
        }
        // The sum is there so that no plan walks the index of ids until it comes upon a match.
        let sql = format!(
            "{} WHERE {condition} ORDER BY length(id) + 0, id COLLATE \"C\" LIMIT 1",
            self.select()
        );
        (sql, values)
    }

    pub(super) fn by_id(&self, id: TokenId) -> (String, Vec<Value<'static>>) {
        let sql = format!("{} WHERE {} LIMIT 1", self.select(), id_is("$1"));
        (sql, vec![Value::id(id)])
    }

    /// The rows that are wanted; one that is wanted for two reasons comes twice.
    pub(super) fn rows<'a>(&self, wanted: &'a [Wanted]) -> (String, Vec<Value<'a>>) {
        let mut values = Vec::new();
        let mut parts = Vec::new();
        for wanted in wanted {
            let (column, value) = match wanted {
                Wanted::Id(id) => ("id", Value::id(*id)),
                Wanted::UserName(name) => ("user_name", Value::text(name.as_str())),
                Wanted::RefreshToken(token) => {
                    ("refresh_token", Value::text(token.expose_secret()))
                }
                Wanted::GrantToken(token) => ("grant_token", Value::text(token.expose_secret())),
                Wanted::AccessToken(token) => ("access_token", Value::text(token.expose_secret())),
            };
            values.push(value);
            let bound = format!("${}", values.len());
            let condition = match column {
                "id" => id_is(&bound),
                _ => key_is(column, &bound),
            };
            parts.push(format!("{} WHERE {condition}", self.select()));
        }
        (parts.join(" UNION ALL "), values)
    }

    /// Puts `new` in the place of `old`, and tells others if `channel` is given.
    pub(super) fn replace<'a>(
        &self,
        old: &'a OAuthToken,
        new: &'a OAuthToken,
        channel: Option<&'a str>,
    ) -> (String, Vec<Value<'a>>) {
        let mut text = Text::default();
        let same = text.row_is(old);
        let settings = text.settings(new);
        let changed = format!(
            "changed AS (UPDATE {} SET {settings} WHERE {same} RETURNING 1)",
            self.table
        );
        let told = channel.map(|channel| {
            let (channel, id) = (text.bind(Value::text(channel)), text.bind_id(old));
            format!("(SELECT count(pg_notify({channel}, {id})) FROM changed), ")
        });
        let told = told.unwrap_or_default();
        let sql = format!("WITH {changed} SELECT (SELECT count(*) FROM changed), {told}{DURABLY}");
        (sql, text.values)
    }

    /// Carries out a plan, all of it or nothing, if the mark and its rows are what it says.
    ///
    /// The mark is moved, and so locked, before anything else is looked at, and the rows are locked
    /// one after the other before any is changed. If one of them is not what it was, the mark was
    /// moved for nothing, which makes others look again and does no harm.
    pub(super) fn apply<'a>(
        &self,
        token_table: &'a str,
        mark: &Mark,
        plan: &'a Plan,
        channel: &'a str,
    ) -> (String, Vec<Value<'a>>) {
        let mut text = Text::default();
        let table = text.bind(Value::text(token_table));
        let highest = text.bind(Value::Number(signed(plan.highest_id)));
        let writes = text.bind(Value::Number(signed(mark.writes)));
        let mut parts = vec![format!(
            "moved AS (UPDATE {} SET highest_id = greatest(highest_id, {highest}), \
            writes = writes + 1 WHERE token_table = {table} AND writes = {writes} RETURNING 1)",
            self.marks
        )];
        let mut ready = String::from("EXISTS (SELECT FROM moved)");
        let rows = plan
            .delete
            .iter()
            .chain(plan.update.iter().map(|(old, _)| old));
        for (index, row) in rows.enumerate() {
            let same = text.row_is(row);
            parts.push(format!(
                "same{index} AS (SELECT 1 FROM {} WHERE EXISTS (SELECT FROM moved) AND {same} \
                FOR UPDATE)",
                self.table
            ));
            ready.push_str(&format!(" AND EXISTS (SELECT FROM same{index})"));
        }
        if let Some(new) = &plan.insert {
            let id = text.bind_id(new);
            ready.push_str(&format!(
                " AND NOT EXISTS (SELECT FROM {} WHERE {})",
                self.table,
                id_is(&id)
            ));
        }
        parts.push(format!("ready AS (SELECT 1 WHERE {ready})"));
        let mut told = Vec::new();
        for (index, row) in plan.delete.iter().enumerate() {
            let id = text.bind_id(row);
            parts.push(format!(
                "gone{index} AS (DELETE FROM {} WHERE EXISTS (SELECT FROM ready) AND {})",
                self.table,
                id_is(&id)
            ));
            parts.push(format!(
                "forgotten{index} AS (DELETE FROM {} WHERE EXISTS (SELECT FROM ready) \
                AND token_table = {table} AND key = 'id:' || {id})",
                self.leases
            ));
            told.push(id);
        }
        if let Some((old, new)) = &plan.update {
            let (id, settings) = (text.bind_id(old), text.settings(new));
            parts.push(format!(
                "changed AS (UPDATE {} SET {settings} WHERE EXISTS (SELECT FROM ready) AND {})",
                self.table,
                id_is(&id)
            ));
            if old.refresh_token != new.refresh_token {
                told.push(id);
            }
        }
        if let Some(new) = &plan.insert {
            let id = text.bind_id(new);
            let fields = stored_fields(new).map(|value| text.bind(value));
            let fields = fields.collect::<Vec<_>>().join(", ");
            parts.push(format!(
                "added AS (INSERT INTO {} ({}) SELECT {id}, {fields} FROM ready)",
                self.table,
                COLUMNS.join(", ")
            ));
        }
        let mut outcome = String::from("(SELECT count(*) FROM ready)");
        if !told.is_empty() {
            let channel = text.bind(Value::text(channel));
            for id in told {
                outcome.push_str(&format!(
                    ", (SELECT count(pg_notify({channel}, {id})) FROM ready)"
                ));
            }
        }
        let sql = format!("WITH {} SELECT {outcome}, {DURABLY}", parts.join(", "));
        (sql, text.values)
    }
}

/// A statement that is being put together.
#[derive(Default)]
struct Text<'a> {
    values: Vec<Value<'a>>,
}

impl<'a> Text<'a> {
    /// Binds a value and returns how the statement names it.
    fn bind(&mut self, value: Value<'a>) -> String {
        // Where the text does not give the type away, the name does.
        let kind = match value {
            Value::Text(_) => "text",
            Value::Number(_) | Value::Moment(_) => "bigint",
        };
        self.values.push(value);
        format!("${}::{kind}", self.values.len())
    }

    fn bind_id(&mut self, row: &OAuthToken) -> String {
        let id = row.id.map(|id| id.to_string());
        self.bind(Value::text(id.unwrap_or_default()))
    }

    /// That a row is `row` in all ten columns.
    fn row_is(&mut self, row: &'a OAuthToken) -> String {
        let id = self.bind_id(row);
        let mut condition = id_is(&id);
        for (column, value) in COLUMNS.iter().skip(1).zip(compared_fields(row)) {
            let bound = self.bind(value);
            condition.push_str(&format!(
                " AND coalesce({column}, '') COLLATE \"C\" = {bound}"
            ));
        }
        condition
    }

    fn settings(&mut self, row: &'a OAuthToken) -> String {
        let columns = COLUMNS.iter().skip(1).zip(stored_fields(row));
        let settings = columns.map(|(column, value)| format!("{column} = {}", self.bind(value)));
        settings.collect::<Vec<_>>().join(", ")
    }
}

/// That a row has this id. The text is compared byte by byte, and the index of ids serves it.
fn id_is(bound: &str) -> String {
    format!("length(id) = length({bound}) AND id COLLATE \"C\" = {bound}")
}

/// That a column has this value, byte by byte. The index leaves out what is empty, and the planner
/// wants to hear it.
fn key_is(column: &str, bound: &str) -> String {
    format!("{column} COLLATE \"C\" = {bound} AND {column} <> ''")
}

/// What the database counts, in its type. Ids have ten digits, and the other numbers came from it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["oauthtoken", "order", "_x1", "OAuthToken"] {
            assert_eq!(checked_name("table", good).unwrap(), good);
        }
        let long = "x".repeat(64);
        for bad in [
            "",
            "1a",
            "a b",
            "a\"b",
            "a;b",
            "a-b",
            "ä",
            "a\0",
            "ZOHO_OAUTH_mark",
            &long,
        ] {
            let error = checked_name("table", bad).unwrap_err();
            assert_eq!(error.code().as_str(), "invalid_input", "{bad}");
        }
    }

    #[test]
    fn names_from_the_server_are_quoted() {
        let statements = Statements::new("od\"d", "t");
        assert!(statements.all.contains("FROM \"od\"\"d\".\"t\" ORDER"));
    }
}
