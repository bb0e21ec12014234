//! Making room in a table that the official SDKs' documentation made.

use super::core::{Core, raise_mark, raising};
use super::fault::Fault;
use super::nodes::Tries;
use super::schema::{self, Fields, Schema, index};
use super::server::{changed_on_the_way, is_official};
use super::session::Session;
use super::sql::{MARKS, text};
use crate::error::{Error, ErrorCode, Result};
use crate::token::TokenId;

/// What [`MySqlStore::widen`](super::MySqlStore::widen) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Widened {
    /// The columns that hold any token from now on.
    pub columns: Vec<String>,
    /// The columns that are looked up by an index from now on.
    pub indexes: Vec<String>,
    /// The columns that stay as short as they are: an index of the application holds them together
    /// with others, and has no room for more.
    pub left: Vec<String>,
    /// How many records have a number as their id from now on. The official SDKs of some time ago
    /// gave ids such as `python_u1_EU_9f3c`, which no look-up by id finds.
    pub numbered: usize,
}

impl Widened {
    /// Returns whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.indexes.is_empty() && self.numbered == 0
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
        // While it waits for a long transaction of somebody, everybody waits for it. Definitions are
        // read and written in one and the same mode, whatever the server's is.
        let told = "SET SESSION lock_wait_timeout = 10, SESSION sql_mode = 'STRICT_ALL_TABLES', \
            SESSION sql_quote_show_create = 1";
        session.batch(told).await?;
        let table = self.schema().table().to_owned();
        let schema = self.look_again(session, &table).await?;
        let (mut narrow, mut left) = (schema.narrow(), schema.stuck());
        if let Err(fault) = widen_columns(session, &schema, &narrow).await {
            // Another table refers to a column, or the pages are too small for a longer key.
            let is_free = |index: &usize| !schema.is_in_key(*index);
            let (free, bound): (Vec<_>, Vec<_>) = narrow.into_iter().partition(is_free);
            if bound.is_empty() || !is_refused(&fault) {
                return Err(fault);
            }
            widen_columns(session, &schema, &free).await?;
            narrow = free;
            left.extend(bound);
        }
        let name = |index: usize| schema.columns[index].name.to_owned();
        let names = |columns: Vec<usize>| columns.into_iter().map(name);
        done.columns.extend(names(narrow));
        done.left = names(left).collect();
        let schema = self.look_again(session, &table).await?;
        let missing = schema.unindexed();
        if !missing.is_empty() {
            add_indexes(session, &table, &missing).await?;
            done.indexes.extend(missing.into_iter().map(str::to_owned));
        }
        let schema = self.look_again(session, &table).await?;
        done.numbered += number_ids(session, &schema).await?;
        Ok(())
    }
}

/// Gives a number to each record whose id is none, above all that were ever given, in one
/// transaction; answers how many there were.
async fn number_ids(session: &mut Session, schema: &Schema) -> Result<usize, Fault> {
    let others = &schema.statements.other_ids;
    if session.rows_of_all(others, Vec::new()).await?.is_empty() {
        return Ok(0);
    }
    schema::prepare_side_tables(session).await?;
    session.begin(&[&raising()]).await?;
    let work = async {
        // Locks the mark: no other process of ours gives an id until the commit.
        raise_mark(session, schema, 0).await?;
        let sql = format!("SELECT highest_id FROM {MARKS} WHERE token_table = ?");
        let rows = session.rows(&sql, vec![text(schema.table())]).await?;
        let given = rows.into_iter().next().map(Fields::of);
        let given = given.and_then(|fields| fields.number(0)).unwrap_or(0);
        let mut last = given.max(schema::highest(session, schema).await?);
        let others = format!("{others} FOR UPDATE");
        let others = session.rows_of_all(&others, Vec::new()).await?;
        let count = others.len();
        for row in others {
            let Some(other) = row.unwrap().into_iter().next() else {
                continue;
            };
            last += 1;
            while is_official(last, 0, 0) {
                last += 1;
            }
            let number = text(&TokenId::new(last)?.to_string());
            let values = vec![number.clone(), other.clone(), other];
            session.execute(&schema.statements.number, values).await?;
            let taken = schema.statements.taken(1);
            if session.rows(&taken, vec![number]).await?.is_empty() {
                return Err(changed_on_the_way(schema));
            }
        }
        raise_mark(session, schema, last).await?;
        session.take_long();
        Ok(count)
    };
    let numbered: Result<usize, Fault> = work.await;
    let outcome = match numbered {
        Ok(count) => session.commit().await.map(|()| count),
        Err(fault) => Err(fault),
    };
    match outcome {
        Ok(count) => Ok(count),
        Err(fault) => {
            session.roll_back().await;
            // After a lost answer the table is looked at again.
            Err(match fault.uncommitted() {
                // Another program was faster with the id.
                Fault::Duplicate(error) => Fault::Again(error),
                fault => fault,
            })
        }
    }
}

/// Whether a rule of the table is what does not let it change.
fn is_refused(fault: &Fault) -> bool {
    matches!(fault, Fault::No(error) if error.code() == ErrorCode::StoreForeign)
}

/// Gives these columns room, and leaves everything else as it is.
async fn widen_columns(
    session: &mut Session,
    schema: &Schema,
    columns: &[usize],
) -> Result<(), Fault> {
    if columns.is_empty() {
        return Ok(());
    }
    let table = schema.table();
    let made = format!("SHOW CREATE TABLE `{table}`");
    let made = session.rows(&made, Vec::new()).await?;
    let made = made.into_iter().next().map(Fields::of);
    let made = made.and_then(|mut fields| fields.text(1));
    let made = made.unwrap_or_default();
    let mut changes = Vec::new();
    for &index in columns {
        let column = &schema.columns[index];
        let name = column.name;
        let Some(rest) = beside_the_type(&made, name) else {
            let message = format!("table `{table}` does not say what its column `{name}` is");
            return Err(Fault::No(Error::new(ErrorCode::StoreForeign, message)));
        };
        // An index of the whole value bounds the column: as wide as InnoDB's keys can be.
        let kind = if schema.is_in_key(index) {
            "varchar(768)"
        } else {
            "mediumtext"
        };
        let collation = match &column.collation {
            Some((charset, collation)) if charset == "utf8mb4" => collation,
            // Another character set could not hold any name.
            _ => "utf8mb4_bin",
        };
        changes.push(format!(
            "MODIFY {name} {kind} CHARACTER SET utf8mb4 COLLATE {collation} {rest}"
        ));
    }
    // The older formats have no room for such keys.
    let is_key_wider = columns.iter().any(|&index| schema.is_in_key(index));
    if is_key_wider && is_of_old_format(session, table).await? {
        changes.push("ROW_FORMAT=DYNAMIC".to_owned());
    }
    let sql = format!("ALTER TABLE `{table}` {}", changes.join(", "));
    session.execute_on_all(&sql).await.map(drop)
}

async fn is_of_old_format(session: &mut Session, table: &str) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() \
        AND table_name = ? AND row_format IN ('Compact', 'Redundant')";
    Ok(!session.rows(sql, vec![text(table)]).await?.is_empty())
}

/// What the statement that makes a table says of a column behind its type, character set and
/// collation: whether it may be NULL, its default, its comment, its rules. The server's own words,
/// in which each column has a line.
fn beside_the_type(made: &str, column: &str) -> Option<String> {
    let definition = made.lines().find_map(|line| {
        let (name, definition) = line.trim_start().strip_prefix('`')?.split_once("` ")?;
        name.eq_ignore_ascii_case(column).then_some(definition)
    })?;
    let definition = definition.strip_suffix(',').unwrap_or(definition);
    let behind_word = |text: &str| text.find(' ').map_or(text.len(), |space| space + 1);
    let mut rest = &definition[behind_word(definition)..];
    for word in ["CHARACTER SET ", "COLLATE "] {
        if let Some(named) = rest.strip_prefix(word) {
            rest = &named[behind_word(named)..];
        }
    }
    Some(with_default_in_parentheses(rest))
}

/// MySQL takes a default of a long text in parentheses alone; MariaDB takes it either way.
fn with_default_in_parentheses(rest: &str) -> String {
    // Nothing that could quote the word comes before it.
    let begin = rest
        .strip_prefix("DEFAULT '")
        .map(|literal| ("", literal))
        .or_else(|| rest.split_once(" DEFAULT '"));
    let is_default = |before: &str| !before.contains('\'');
    let Some((before, literal)) = begin.filter(|(before, _)| is_default(before)) else {
        return rest.to_owned();
    };
    let mut end = literal.len();
    let mut chars = literal.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => {
                chars.next();
            }
            '\'' if chars.next_if(|(_, next)| *next == '\'').is_none() => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let (literal, behind) = literal.split_at(end);
    let behind = behind.strip_prefix('\'').unwrap_or(behind);
    format!("{before} DEFAULT ('{literal}'){behind}")
        .trim_start()
        .to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_type_is_taken_from_the_definition() {
        let made = r"CREATE TABLE `t` (
  `id` varchar(10) NOT NULL,
  `User_Name` varchar(255) CHARACTER SET latin1 COLLATE latin1_bin NOT NULL DEFAULT 'it''s \\ \' me' COMMENT 'a, `b` DEFAULT ''x''' CHECK (`user_name` <> ''),
  `client_id` varchar(255) COLLATE utf8mb4_bin DEFAULT NULL COMMENT 'DEFAULT',
  `access_token` text,
  `api_domain` varchar(255) DEFAULT ''
) ENGINE=InnoDB";
        for (column, expected) in [
            (
                "user_name",
                r"NOT NULL DEFAULT ('it''s \\ \' me') COMMENT 'a, `b` DEFAULT ''x''' CHECK (`user_name` <> '')",
            ),
            ("client_id", "DEFAULT NULL COMMENT 'DEFAULT'"),
            ("access_token", ""),
            ("api_domain", "DEFAULT ('')"),
        ] {
            assert_eq!(beside_the_type(made, column).as_deref(), Some(expected));
        }
        assert_eq!(beside_the_type(made, "t"), None);
        assert_eq!(beside_the_type(made, "grant_token"), None);
    }
}
