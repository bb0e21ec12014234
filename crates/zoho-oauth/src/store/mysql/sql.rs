//! The statements. Values are always bound; the names in the texts are a checked identifier, our
//! own, or the server's names of its character sets and collations.

use mysql_async::Value;

use super::column::Column;
use crate::error::{Error, Result};
use crate::query::{Criterion, TokenQuery};
use crate::store::rows::Wanted;

/// The highest id and the number of writes, one row per token table.
pub(super) const MARKS: &str = "zoho_oauth_mark";
/// What the machines tell each other, one row per key.
pub(super) const LEASES: &str = "zoho_oauth_lease";

/// The server's clock in milliseconds since 1970, whatever the time zone of the session.
pub(super) const CLOCK: &str =
    "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000";

/// That a row's id is one. A line feed at the end passes for none where patterns are matched, and
/// MySQL matches no patterns in a column of bytes.
const IS_ID: &str = "(CONVERT(id USING utf8mb4) REGEXP '^[1-9][0-9]{0,9}$' \
    AND CHAR_LENGTH(id) = CHAR_LENGTH(CAST(CAST(id AS UNSIGNED) AS CHAR)))";

/// How many ids are asked for at once, for a short page and for a long one: below the thousand at
/// which MariaDB makes a table of them first.
pub(super) const FEW_IDS: usize = 64;
pub(super) const MANY_IDS: usize = 512;

/// Returns `name` if it can be a table's name: as the official SDKs have it, up to 64 letters,
/// digits and `_`.
///
/// # Errors
/// `invalid_input` otherwise, and for names that belong to our side tables.
pub(super) fn checked_table_name(name: &str) -> Result<&str> {
    let is_word = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_word || name.is_empty() || name.len() > 64 {
        return Err(Error::invalid_input(
            "a table name is 1 to 64 ASCII letters, digits and `_`",
        ));
    }
    if name.to_ascii_lowercase().starts_with("zoho_oauth_") {
        let message = format!("the table name `{name}` begins with a reserved word");
        return Err(Error::invalid_input(message));
    }
    Ok(name)
}

/// Text that a statement compares or writes.
pub(super) fn text(value: &str) -> Value {
    Value::Bytes(value.as_bytes().to_vec())
}

/// The texts of the statements for one table, as its columns are at present.
#[derive(Debug)]
pub(super) struct Statements {
    table: String,
    columns: [&'static str; 10],
    select: String,
    /// One condition per column that finds its rows by an index: two parameters.
    probes: [String; 10],
    /// An id as a parameter that the primary key serves.
    id: String,
    pub(super) all: String,
    pub(super) update: String,
    pub(super) delete: String,
    pub(super) delete_exactly: String,
    pub(super) lock_exactly: String,
    pub(super) insert: String,
    pub(super) clear: String,
    pub(super) mark: String,
    pub(super) highest: String,
    pub(super) count: String,
    pub(super) last_texts: String,
    pub(super) shorter_above: String,
    pub(super) longest_page: String,
    pub(super) next_ids: String,
    pub(super) other_ids: String,
    pub(super) number: String,
}

impl Statements {
    pub(super) fn new(table: &str, columns: &[Column; 10]) -> Self {
        let all = columns.each_ref().map(|column| column.name);
        let names = all.join(", ");
        let select = format!("SELECT {names} FROM `{table}`");
        let probes = columns.each_ref().map(probe);
        let by_id: &String = &probes[0];
        let id = converted(&columns[0]);
        let exactly: Vec<_> = (1..all.len()).map(|index| exactly(&all, index)).collect();
        let exactly = exactly.join(" AND ");
        let set: Vec<_> = all[1..].iter().map(|name| format!("{name} = ?")).collect();
        Self {
            all: select.clone(),
            update: format!(
                "UPDATE `{table}` SET {} WHERE {by_id} AND {exactly}",
                set.join(", ")
            ),
            delete: format!("DELETE FROM `{table}` WHERE {by_id}"),
            delete_exactly: format!("DELETE FROM `{table}` WHERE {by_id} AND {exactly}"),
            lock_exactly: format!("SELECT 1 FROM `{table}` WHERE {by_id} AND {exactly} FOR UPDATE"),
            insert: format!(
                "INSERT INTO `{table}` ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            ),
            clear: format!("DELETE FROM `{table}`"),
            mark: format!(
                "SELECT highest_id, writes, (SELECT MAX(id) FROM `{table}`) FROM {MARKS} \
                WHERE token_table = ?"
            ),
            // Not just `MAX(id)`: the column is text, in which 10 comes before 9.
            highest: format!(
                "SELECT COALESCE(MAX(CAST(id AS UNSIGNED)), 0) FROM `{table}` WHERE {IS_ID}"
            ),
            count: format!("SELECT COUNT(*) FROM `{table}`"),
            last_texts: format!("SELECT id FROM `{table}` ORDER BY id DESC LIMIT 2"),
            // From the top, where most often the first one is short.
            shorter_above: format!(
                "SELECT id FROM `{table}` WHERE id > {id} AND CHAR_LENGTH(id) < ? \
                ORDER BY id DESC LIMIT 1"
            ),
            // Ids of ten digits sort as text like the numbers they are, and none is longer.
            longest_page: format!(
                "{select} WHERE id > {id} AND CHAR_LENGTH(id) = 10 AND {IS_ID} ORDER BY id LIMIT ?"
            ),
            // Behind them what is no id, which is seen at the end of the table.
            next_ids: format!(
                "SELECT id FROM `{table}` WHERE NOT {IS_ID} OR CHAR_LENGTH(id) > ? \
                OR (CHAR_LENGTH(id) = ? AND id > {id}) \
                ORDER BY NOT {IS_ID}, CHAR_LENGTH(id), id LIMIT ?"
            ),
            other_ids: format!("SELECT id FROM `{table}` WHERE NOT {IS_ID} ORDER BY id"),
            number: format!("UPDATE `{table}` SET id = ? WHERE {by_id}"),
            table: table.to_owned(),
            columns: all,
            select,
            probes,
            id,
        }
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// The first row with a value in a column and perhaps a client, with what to bind.
    pub(super) fn find(&self, query: &TokenQuery) -> (String, Vec<Value>) {
        let (column, value) = match query.criterion() {
            Criterion::UserName(name) => (1, name.as_str()),
            Criterion::RefreshToken(token) => (4, token.expose_secret()),
            Criterion::AccessToken(token) => (5, token.expose_secret()),
            Criterion::GrantToken(token) => (6, token.expose_secret()),
        };
        let (mut condition, mut values) = self.holds(column, value);
        if let Some(client) = query.client() {
            condition = format!("{condition} AND {}", exactly(&self.columns, 2));
            values.push(text(client.as_str()));
        }
        let sql = format!(
            "{} WHERE {condition} ORDER BY CHAR_LENGTH(id), id LIMIT 1",
            self.select
        );
        (sql, values)
    }

    /// The condition that a column holds a value, with what to bind. The text `null` may be there
    /// and mean something else.
    fn holds(&self, column: usize, value: &str) -> (String, Vec<Value>) {
        let (mut condition, mut values) = (self.probes[column].clone(), vec![text(value); 2]);
        if value == "null" {
            condition = format!("{condition} AND {}", exactly(&self.columns, column));
            values.push(text(value));
        }
        (condition, values)
    }

    /// All rows that are wanted, some of them more than once, with what to bind.
    pub(super) fn rows(&self, wanted: &[Wanted]) -> (String, Vec<Value>) {
        let mut parts = Vec::new();
        let mut values = Vec::new();
        for wanted in wanted {
            let (column, value) = match wanted {
                Wanted::Id(id) => (0, &*id.to_string()),
                Wanted::UserName(name) => (1, name.as_str()),
                Wanted::RefreshToken(token) => (4, token.expose_secret()),
                Wanted::AccessToken(token) => (5, token.expose_secret()),
                Wanted::GrantToken(token) => (6, token.expose_secret()),
            };
            let (condition, bound) = self.holds(column, value);
            parts.push(format!("({} WHERE {condition})", self.select));
            values.extend(bound);
        }
        (parts.join(" UNION ALL "), values)
    }

    /// The rows with these ids, `count` of them.
    pub(super) fn by_ids(&self, count: usize) -> String {
        format!("{} WHERE {}", self.select, self.in_list(count))
    }

    /// Which of `count` ids are taken.
    pub(super) fn taken(&self, count: usize) -> String {
        format!(
            "SELECT id FROM `{}` WHERE {}",
            self.table,
            self.in_list(count)
        )
    }

    fn in_list(&self, count: usize) -> String {
        format!("id IN ({})", vec![self.id.as_str(); count].join(", "))
    }
}

/// The condition that a column holds a value, to the byte, by way of the column's index.
///
/// The index sorts by the column's collation, which may take 'a' for 'A', or leave out a space at
/// the end: so first the comparison that the index serves, in the column's own character set, then
/// the one that counts. The same value is bound twice.
fn probe(column: &Column) -> String {
    let name = column.name;
    format!(
        "{name} = {} AND {} = CAST(? AS BINARY)",
        converted(column),
        bytes(name)
    )
}

/// A parameter in the character set and collation of a column, so that its index serves.
fn converted(column: &Column) -> String {
    match &column.collation {
        Some((charset, collation)) => format!("CONVERT(? USING {charset}) COLLATE {collation}"),
        None => "CAST(? AS BINARY)".to_owned(),
    }
}

/// The condition that a column means a value to the byte, and nothing where that is ''.
///
/// What its text means is said by [`official_texts`](crate::token::OAuthToken::official_texts): an
/// official SDK may have written `null` for nothing.
fn exactly(columns: &[&str; 10], index: usize) -> String {
    let column = bytes(columns[index]);
    let meant = if index == 1 {
        let others = columns[2..]
            .iter()
            .map(|name| format!("COALESCE({}, '')", bytes(name)));
        let others: Vec<_> = others.collect();
        format!(
            "IF({column} = 'null' AND 'null' IN ({}), NULL, {column})",
            others.join(", ")
        )
    } else {
        format!("NULLIF({column}, 'null')")
    };
    format!("COALESCE({meant}, '') = CAST(? AS BINARY)")
}

fn bytes(name: &str) -> String {
    format!("CAST(CONVERT({name} USING utf8mb4) AS BINARY)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{ClientId, TokenId, UserName};

    fn statements() -> Statements {
        Statements::new("t", &Column::samples("latin1", "latin1_german1_ci"))
    }

    #[test]
    fn table_names_are_checked() {
        for good in ["oauthtoken", "order", "1st", "OAuthToken", &"x".repeat(64)] {
            assert_eq!(checked_table_name(good).unwrap(), good);
        }
        for bad in [
            "",
            "a b",
            "a`b",
            "a;b",
            "ä",
            "a\0",
            "ZOHO_OAUTH_mark",
            &"x".repeat(65),
        ] {
            let error = checked_table_name(bad).unwrap_err();
            assert_eq!(error.code().as_str(), "invalid_input", "{bad}");
        }
    }

    #[test]
    fn look_ups_compare_by_the_column_first_and_to_the_byte_then() {
        let query = TokenQuery::user_name(UserName::new("u").unwrap());
        let query = query.with_client(ClientId::new("c").unwrap());
        let (sql, values) = statements().find(&query);
        assert!(sql.contains(
            "WHERE user_name = CONVERT(? USING latin1) COLLATE latin1_german1_ci \
            AND CAST(CONVERT(user_name USING utf8mb4) AS BINARY) = CAST(? AS BINARY) \
            AND COALESCE(NULLIF(CAST(CONVERT(client_id USING utf8mb4) AS BINARY), 'null'), '')"
        ));
        assert_eq!(sql.matches('?').count(), values.len());
    }

    #[test]
    fn as_many_values_are_bound_as_a_statement_asks_for() {
        let wanted = [
            Wanted::Id(TokenId::new(7).unwrap()),
            Wanted::UserName(UserName::new("u").unwrap()),
            Wanted::UserName(UserName::new("null").unwrap()),
        ];
        let (sql, values) = statements().rows(&wanted);
        assert_eq!(sql.matches('?').count(), values.len());
        assert_eq!(sql.matches(" UNION ALL ").count(), 2);
        assert_eq!(statements().update.matches('?').count(), 20);
        assert_eq!(statements().delete_exactly.matches('?').count(), 11);
        let sql = statements().by_ids(FEW_IDS);
        assert_eq!(sql.matches("CONVERT(? USING latin1)").count(), FEW_IDS);
        assert_eq!(sql.matches('?').count(), FEW_IDS);
    }
}
