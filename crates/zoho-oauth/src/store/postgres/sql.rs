//! The statements. Values are always bound; the names in the texts are checked or quoted.
//!
//! Each operation is one statement, and so one transaction: nothing is left open when a connection
//! breaks, and a proxy may hand every statement to another connection of its own.

use super::value::{Value, compared_fields, stored_fields};
use crate::error::{Error, Result};
use crate::query::{Criterion, TokenQuery};
use crate::store::rows::Wanted;
use crate::token::{OAuthToken, TokenId};

/// The official columns, in the official order. All statements name them in this order.
pub(super) const COLUMNS: [&str; 10] = OAuthToken::FIELDS;

/// The columns that records are looked up by.
pub(super) const KEYS: [&str; 4] = ["user_name", "refresh_token", "grant_token", "access_token"];

pub(super) const MARK_TABLE: &str = "zoho_oauth_mark";
pub(super) const LEASE_TABLE: &str = "zoho_oauth_lease";

/// Ids in the order of numbers: the official column is text, in which 10 comes before 9. An index
/// serves exactly these expressions.
pub(super) const ID_ORDER: &str = "length(id), id COLLATE \"C\"";

/// The store's clock, in milliseconds since 1970, and not the moment the transaction began.
const CLOCK: &str = "(extract(epoch from clock_timestamp()) * 1000)::bigint";

/// Makes the commit wait for the disk where the server's settings would not. It needs no more than
/// to be worked out somewhere in the transaction.
pub(super) const DURABLY: &str = "(SELECT set_config('synchronous_commit', 'on', true) \
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

/// Counts what this connection inserted, updated and deleted in the table and its parts. Zeros where
/// the server counts nothing.
fn counts(table: &str) -> String {
    let sum = |what| format!("coalesce(sum(pg_stat_get_xact_tuples_{what}(oid)), 0)::bigint");
    let sums = ["inserted", "updated", "deleted"].map(sum).join(", ");
    let root = table.replace('\'', "''");
    format!(
        "WITH RECURSIVE parts AS (SELECT '{root}'::regclass::oid AS oid \
        UNION SELECT i.inhrelid FROM pg_inherits i JOIN parts p ON p.oid = i.inhparent) \
        SELECT {sums} FROM parts"
    )
}

/// All statements of one store, made once when it is opened.
#[derive(Debug)]
pub(super) struct Statements {
    /// The token table and the side tables, with their schema.
    pub(super) table: String,
    pub(super) marks: String,
    pub(super) leases: String,
    select: String,
    /// By key, each without and with a client.
    finds: [[String; 2]; 4],
    by_id: String,
    /// Without and with a word to others.
    replace: [String; 2],
    pub(super) count: String,
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
    pub(super) counts: String,
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
        let all_gone = or_nothing("(SELECT count(*) FROM there) = (SELECT count(*) FROM gone)");
        let cell = "token_table = $1 AND key = $2";
        let same_cell =
            format!("{cell} AND cell = $3 AND ($4::bigint IS NULL OR {CLOCK} <= $4::bigint)");
        let first = |key: &str, client: &str| {
            // The sum is there so that no plan walks the index of ids until it comes upon a match.
            format!(
                "{select} WHERE {}{client} ORDER BY length(id) + 0, id COLLATE \"C\" LIMIT 1",
                key_is(key, "$1")
            )
        };
        Self {
            finds: KEYS.map(|key| {
                [
                    first(key, ""),
                    first(key, " AND client_id COLLATE \"C\" = $2"),
                ]
            }),
            by_id: format!("{select} WHERE {} LIMIT 1", id_is("$1")),
            replace: [
                replace(&table, ""),
                replace(&table, "(SELECT count(pg_notify($20, $1)) FROM changed), "),
            ],
            count: format!("SELECT count(*) FROM {table}"),
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
                "WITH {held}, there AS (SELECT 1 FROM {table} \
                WHERE EXISTS (SELECT FROM held) AND {id} FOR UPDATE), \
                gone AS (DELETE FROM {table} \
                WHERE (SELECT count(*) FROM there) > 0 AND {id} RETURNING 1), \
                forgotten AS (DELETE FROM {leases} WHERE token_table = $1 AND key = $3), \
                moved AS (UPDATE {marks} SET highest_id = greatest(highest_id, $4), \
                writes = writes + 1 WHERE token_table = $1 AND EXISTS (SELECT FROM gone)) \
                SELECT (SELECT count(*) FROM held), (SELECT count(*) FROM gone), \
                (SELECT count(pg_notify($5, $2)) FROM gone), {DURABLY}, {all_gone}",
                id = id_is("$2"),
            ),
            clear: format!(
                "WITH {held}, there AS (SELECT 1 FROM {table} \
                WHERE EXISTS (SELECT FROM held) FOR UPDATE), \
                gone AS (DELETE FROM {table} \
                WHERE (SELECT count(*) FROM there) > 0 RETURNING id), \
                forgotten AS (DELETE FROM {leases} \
                WHERE token_table = $1 AND key LIKE 'id:%' AND EXISTS (SELECT FROM held)), \
                moved AS (UPDATE {marks} SET writes = writes + 1, highest_id = greatest(highest_id, \
                (SELECT max(CASE WHEN id COLLATE \"C\" ~ {digits} THEN id::bigint END) FROM gone)) \
                WHERE token_table = $1) \
                SELECT (SELECT count(*) FROM held), (SELECT count(*) FROM gone), \
                (SELECT count(pg_notify($2, ''))), {DURABLY}, {all_gone}"
            ),
            read_cell: format!("SELECT (SELECT cell FROM {leases} WHERE {cell}), {CLOCK}"),
            insert_cell: format!(
                "WITH done AS (INSERT INTO {leases} (token_table, key, cell) \
                SELECT $1, $2, $3 WHERE $4::bigint IS NULL OR {CLOCK} <= $4::bigint \
                ON CONFLICT (token_table, key) DO NOTHING RETURNING 1) \
                SELECT (SELECT count(*) FROM done), {DURABLY}"
            ),
            // An index has the time. As long as that stays as it was, the row stays in its page.
            update_cell: format!(
                "WITH done AS (UPDATE {leases} SET cell = $5, made_at = CASE \
                WHEN key LIKE 'start:%' AND made_at < now() - interval '10 minutes' THEN now() \
                ELSE made_at END \
                WHERE {same_cell} RETURNING 1) SELECT (SELECT count(*) FROM done), {DURABLY}"
            ),
            delete_cell: format!(
                "WITH done AS (DELETE FROM {leases} WHERE {same_cell} RETURNING 1) \
                SELECT (SELECT count(*) FROM done), {DURABLY}"
            ),
            // Twice the hour after which they are of no use, counted from when they were written
            // last, or ten minutes before. A part at a time, so that nobody waits long for a row.
            // Not LIKE: where the locale is C, that is a range of the primary key, which has the
            // young ones too, and the server might prefer it to the index of what is old.
            sweep_cells: format!(
                "DELETE FROM {leases} WHERE token_table = $1 AND key IN (SELECT key FROM {leases} \
                WHERE token_table = $1 AND left(key, 6) = 'start:' \
                AND made_at < now() - interval '2 hours' \
                ORDER BY made_at LIMIT 1000 FOR UPDATE SKIP LOCKED)"
            ),
            counts: counts(&table),
            select,
            table,
            marks,
            leases,
        }
    }

    /// The first record that matches.
    pub(super) fn find<'a>(&self, query: &'a TokenQuery) -> (&str, Vec<Value<'a>>) {
        let (key, value) = match query.criterion() {
            Criterion::UserName(name) => (0, name.as_str()),
            Criterion::RefreshToken(token) => (1, token.expose_secret()),
            Criterion::GrantToken(token) => (2, token.expose_secret()),
            Criterion::AccessToken(token) => (3, token.expose_secret()),
        };
        let client = query.client().map(|client| Value::text(client.as_str()));
        let sql = &self.finds[key][usize::from(client.is_some())];
        (
            sql,
            [Value::text(value)].into_iter().chain(client).collect(),
        )
    }

    pub(super) fn by_id(&self, id: TokenId) -> (&str, [Value<'static>; 1]) {
        (&self.by_id, [Value::id(id)])
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
            parts.push(format!("{} WHERE {condition}", self.select));
        }
        (parts.join(" UNION ALL "), values)
    }

    /// Puts `new` in the place of `old`, and tells others if `channel` is given.
    pub(super) fn replace<'a>(
        &self,
        old: &'a OAuthToken,
        new: &'a OAuthToken,
        channel: Option<&'a str>,
    ) -> (&str, Vec<Value<'a>>) {
        let id = old.id.map(|id| id.to_string()).unwrap_or_default();
        let mut values = vec![Value::text(id)];
        values.extend(compared_fields(old));
        values.extend(stored_fields(new));
        let sql = &self.replace[usize::from(channel.is_some())];
        values.extend(channel.map(Value::text));
        (sql, values)
    }
}

/// Puts another row in the place of one, all of it or nothing, and tells others.
fn replace(table: &str, told: &str) -> String {
    format!(
        "WITH same AS (SELECT 1 FROM {table} WHERE {} FOR UPDATE), \
        changed AS (UPDATE {table} SET {} WHERE (SELECT count(*) FROM same) > 0 AND {} \
        RETURNING {} AS is_kept) SELECT (SELECT count(*) FROM changed), {told}{DURABLY}, {}",
        row_is("$1", 2),
        settings(11),
        id_is("$1"),
        row_is("$1", 11),
        or_nothing("(SELECT count(*) FROM same) = (SELECT count(*) FROM changed WHERE is_kept)"),
    )
}

/// That a row has this id. The text is compared byte by byte, and the index of ids serves it.
pub(super) fn id_is(bound: &str) -> String {
    format!("length(id) = length({bound}) AND id COLLATE \"C\" = {bound}")
}

/// Ends the statement, and so takes all of it back, unless this holds: a trigger that swallows or
/// changes a write is not noticed otherwise.
pub(super) fn or_nothing(condition: &str) -> String {
    format!("(SELECT 1 / ({condition})::int)")
}

/// That a row is this one in all ten columns: its id, and the other fields, of which the first is
/// bound as number `first`. What is missing, bound or not, and what is empty are the same.
pub(super) fn row_is(id: &str, first: usize) -> String {
    let fields = COLUMNS[1..].iter().zip(first..);
    let fields = fields.map(|(column, number)| {
        format!(" AND coalesce({column}, '') COLLATE \"C\" = coalesce(${number}::text, '')")
    });
    format!("{}{}", id_is(id), fields.collect::<String>())
}

/// What gives a row the fields of which the first is bound as number `first`.
pub(super) fn settings(first: usize) -> String {
    let fields = COLUMNS[1..].iter().zip(first..);
    let settings: Vec<_> = fields
        .map(|(column, number)| format!("{column} = ${number}::text"))
        .collect();
    settings.join(", ")
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
