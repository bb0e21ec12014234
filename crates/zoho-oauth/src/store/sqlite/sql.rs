//! The statements. Values are always bound; the one name in the texts is a checked identifier.

use crate::error::{Error, Result};
use crate::query::{Criterion, TokenQuery};
use crate::store::table::identity::{Identity, Naming};
use crate::token::{ClientId, OAuthToken, TokenId};

/// The official columns, in the official order. All statements name them in this order.
pub(super) const COLUMNS: [&str; 10] = OAuthToken::FIELDS;

/// An id as a number. Always written like this, since an index serves exactly this expression;
/// the official column is text, in which 10 comes before 9.
pub(super) const ID: &str = "CAST(id AS INTEGER)";

/// An id as text. Beside [`ID`] where rows are written, since SQLite takes '05' and '5x' for 5 too.
const ID_TEXT: &str = "CAST(id AS TEXT) COLLATE BINARY";

/// The official column of the user name.
const USER_NAME: &str = "user_name";

/// What older official SDKs call that column.
pub(super) const USER_MAIL: &str = "user_mail";

/// Returns `name` if it can be a table's name: a letter or `_`, then letters, digits, `_`.
///
/// # Errors
/// `invalid_input` otherwise, and for names that belong to SQLite or to our side tables.
pub(super) fn checked_table_name(name: &str) -> Result<&str> {
    let lower = name.to_ascii_lowercase();
    let valid = !name.is_empty()
        && name.len() <= 63
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !valid {
        return Err(Error::invalid_input(
            "a table name is 1 to 63 ASCII letters, digits and `_`, and does not begin with a digit",
        ));
    }
    if lower.starts_with("sqlite_") || lower.starts_with("zoho_oauth_") {
        return Err(Error::invalid_input(format!(
            "the table name `{name}` begins with a reserved word"
        )));
    }
    Ok(name)
}

/// A column that records are looked up by. Each has an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    UserName = 0,
    RefreshToken = 1,
    GrantToken = 2,
    AccessToken = 3,
}

impl Key {
    pub(super) const ALL: [Self; 4] = [
        Self::UserName,
        Self::RefreshToken,
        Self::GrantToken,
        Self::AccessToken,
    ];

    /// The official name of the column. That of the user name is another one in older tables.
    pub(super) const fn column(self) -> &'static str {
        match self {
            Self::UserName => USER_NAME,
            Self::RefreshToken => "refresh_token",
            Self::GrantToken => "grant_token",
            Self::AccessToken => "access_token",
        }
    }
}

/// What the client of a row must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientRule {
    /// Anything.
    Any,
    /// The bound one.
    Is,
    /// None at all.
    None,
    /// The bound one or none.
    IsOrNone,
}

impl ClientRule {
    const ALL: [Self; 4] = [Self::Any, Self::Is, Self::None, Self::IsOrNone];

    /// NULL and '' mean none, and so does the text `null` in most rows. A condition finds too many
    /// rows rather than too few: who looks up compares what was found by the rules.
    const fn condition(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Is => " AND client_id COLLATE BINARY = ?2",
            Self::None => " AND (client_id IS NULL OR client_id IN ('', 'null'))",
            Self::IsOrNone => {
                " AND (client_id COLLATE BINARY = ?2 OR client_id IS NULL OR client_id IN ('', 'null'))"
            }
        }
    }
}

/// What the user name of a row must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameRule {
    /// Anything.
    Any,
    /// The bound one or none.
    IsOrNone,
}

impl NameRule {
    const ALL: [Self; 2] = [Self::Any, Self::IsOrNone];

    const fn condition(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::IsOrNone => {
                " AND (user_name COLLATE BINARY = ?3 OR user_name IS NULL OR user_name IN ('', 'null'))"
            }
        }
    }
}

/// A look-up of the rows that can match an [`Identity`] or a [`TokenQuery`]: which statement,
/// and what to bind.
#[derive(Debug)]
pub(super) struct Lookup<'a> {
    key: Key,
    client_rule: ClientRule,
    name_rule: NameRule,
    /// What is bound as `?1`, `?2` (the client) and `?3` (the user), as far as the statement asks.
    pub(super) values: [Option<&'a str>; 3],
}

impl<'a> Lookup<'a> {
    pub(super) fn identity(identity: &Identity<'a>) -> Self {
        // "Under the same client": the same one, or both without.
        let same = |client: Option<&ClientId>| match client {
            Some(_) => ClientRule::Is,
            None => ClientRule::None,
        };
        let compatible = |client: Option<&ClientId>| match client {
            Some(_) => ClientRule::IsOrNone,
            None => ClientRule::Any,
        };
        let (key, value, client, client_rule, naming) = match *identity {
            Identity::User(name, client) => {
                let rule = same(client);
                (Key::UserName, name.as_str(), client, rule, Naming::Any)
            }
            Identity::Refresh(token, client, naming) => {
                let (value, rule) = (token.expose_secret(), same(client));
                (Key::RefreshToken, value, client, rule, naming)
            }
            Identity::Grant(token, client, naming) => {
                let (value, rule) = (token.expose_secret(), same(client));
                (Key::GrantToken, value, client, rule, naming)
            }
            Identity::Access(token, client, naming) => {
                let (value, rule) = (token.expose_secret(), compatible(client));
                (Key::AccessToken, value, client, rule, naming)
            }
        };
        let (name_rule, name) = match naming {
            Naming::Any => (NameRule::Any, None),
            Naming::As(name) => (NameRule::IsOrNone, Some(name.as_str())),
        };
        Self {
            key,
            client_rule,
            name_rule,
            values: [Some(value), client.map(ClientId::as_str), name],
        }
    }

    pub(super) fn query(query: &'a TokenQuery) -> Self {
        let (key, value) = match query.criterion() {
            Criterion::UserName(name) => (Key::UserName, name.as_str()),
            Criterion::AccessToken(token) => (Key::AccessToken, token.expose_secret()),
            Criterion::GrantToken(token) => (Key::GrantToken, token.expose_secret()),
            Criterion::RefreshToken(token) => (Key::RefreshToken, token.expose_secret()),
        };
        let client = query.client().map(ClientId::as_str);
        Self {
            key,
            client_rule: client.map_or(ClientRule::Any, |_| ClientRule::Is),
            name_rule: NameRule::Any,
            values: [Some(value), client, None],
        }
    }

    const fn index(key: Key, client: ClientRule, name: NameRule) -> usize {
        (key as usize * ClientRule::ALL.len() + client as usize) * NameRule::ALL.len()
            + name as usize
    }
}

/// All statements of one store, made once when it is opened.
#[derive(Debug)]
pub(super) struct Statements {
    lookups: Vec<String>,
    pub(super) by_id: String,
    pub(super) twins: String,
    pub(super) highest_id: String,
    pub(super) all: String,
    pub(super) page: String,
    pub(super) insert: String,
    pub(super) update: String,
    pub(super) delete: String,
    pub(super) is_there: String,
    pub(super) clear: String,
    pub(super) is_empty: String,
    pub(super) count: String,
    pub(super) memo: &'static str,
    pub(super) set_memo: &'static str,
    pub(super) forget_memo: &'static str,
    pub(super) next_starts: &'static str,
}

impl Statements {
    /// `table` is a checked name; quoted, since `order` is one too. `user_column` is where it has
    /// the user name.
    pub(super) fn new(table: &str, user_column: &str) -> Self {
        let official = COLUMNS.join(", ");
        let columns = official.replace(USER_NAME, user_column);
        let select = format!("SELECT {columns}, rowid FROM \"{table}\"");
        let mut lookups = Vec::new();
        for key in Key::ALL {
            for client in ClientRule::ALL {
                for name in NameRule::ALL {
                    let column = key.column();
                    let (client, name) = (client.condition(), name.condition());
                    let condition = format!("{column} COLLATE BINARY = ?1{client}{name}");
                    let condition = condition.replace(USER_NAME, user_column);
                    lookups.push(format!("{select} WHERE {condition} ORDER BY {ID}"));
                }
            }
        }
        let twins = [Key::RefreshToken, Key::GrantToken, Key::AccessToken].map(|key| {
            let (column, parameter) = (key.column(), key as usize);
            format!(
                "{select} WHERE {column} COLLATE BINARY = ?{parameter} \
                AND ({user_column} IS NULL OR {user_column} IN ('', 'null')) AND {ID} <> ?4"
            )
        });
        let settings: Vec<String> = (columns.split(", ").enumerate().skip(1))
            .map(|(index, column)| format!("{column} = ?{}", index + 1))
            .collect();
        let by_exact_id = format!("WHERE {ID} = ?1 AND {ID_TEXT} = CAST(?1 AS TEXT)");
        let max = TokenId::MAX;
        Self {
            lookups,
            by_id: format!("{select} WHERE {ID} = ?1"),
            // Not one statement with OR, which would not use the indexes.
            twins: twins.join(" UNION ALL "),
            // A row with an id that is none of ours, too long, must not use up the numbers.
            highest_id: format!(
                "SELECT max(0, \
                    ifnull((SELECT {ID} FROM \"{table}\" WHERE {ID} <= {max} ORDER BY {ID} DESC LIMIT 1), 0), \
                    ifnull((SELECT highest_id FROM zoho_oauth_highest_id WHERE token_table = ?1), 0))"
            ),
            all: format!("{select} ORDER BY {ID}"),
            page: format!("{select} WHERE {ID} > ?1 ORDER BY {ID}"),
            // OR ABORT: a constraint of the table may say what else to do with a record that it
            // does not admit, such as deleting another one in favour of it.
            insert: format!(
                "INSERT OR ABORT INTO \"{table}\" ({columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
            ),
            update: format!(
                "UPDATE OR ABORT \"{table}\" SET {} WHERE {ID} = CAST(?1 AS INTEGER) AND {ID_TEXT} = ?1",
                settings.join(", ")
            ),
            delete: format!("DELETE FROM \"{table}\" {by_exact_id}"),
            is_there: format!("SELECT 1 FROM \"{table}\" {by_exact_id}"),
            clear: format!("DELETE FROM \"{table}\""),
            is_empty: format!("SELECT NOT EXISTS (SELECT 1 FROM \"{table}\")"),
            // Without the indexes, by which the records are read.
            count: format!("SELECT count(*) FROM \"{table}\" NOT INDEXED"),
            memo: "SELECT memo FROM zoho_oauth_memo WHERE token_table = ?1 AND key = ?2",
            set_memo: "INSERT INTO zoho_oauth_memo (token_table, key, memo) VALUES (?1, ?2, ?3) \
                ON CONFLICT (token_table, key) DO UPDATE SET memo = excluded.memo",
            forget_memo: "DELETE FROM zoho_oauth_memo WHERE token_table = ?1 AND key = ?2",
            next_starts: "SELECT key, memo FROM zoho_oauth_memo \
                WHERE token_table = ?1 AND key > ?2 AND key < 'start;' ORDER BY key LIMIT 20",
        }
    }

    pub(super) fn lookup(&self, lookup: &Lookup<'_>) -> &str {
        &self.lookups[Lookup::index(lookup.key, lookup.client_rule, lookup.name_rule)]
    }

    /// Every statement that must go straight to its rows, however many others there are.
    #[cfg(test)]
    pub(super) fn pointed(&self) -> Vec<&str> {
        let others = [
            &*self.by_id,
            &self.twins,
            &self.highest_id,
            &self.page,
            &self.insert,
            &self.update,
            &self.delete,
            &self.is_there,
            self.memo,
            self.set_memo,
            self.forget_memo,
            self.next_starts,
        ];
        let lookups = self.lookups.iter().map(String::as_str);
        lookups.chain(others).collect()
    }

    /// How many statements a connection keeps prepared.
    pub(super) fn count(&self) -> usize {
        // Beside those of the struct: transactions and savepoints.
        self.lookups.len() + 24
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_are_checked() {
        for good in ["oauthtoken", "order", "_x1", "OAuthToken"] {
            assert_eq!(checked_table_name(good).unwrap(), good);
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
            "sqlite_x",
            "ZOHO_OAUTH_memo",
            &long,
        ] {
            let error = checked_table_name(bad).unwrap_err();
            assert_eq!(error.code().as_str(), "invalid_input", "{bad}");
        }
    }

    #[test]
    fn each_look_up_has_its_own_statement() {
        let statements = Statements::new("t", "user_name");
        let mut texts = statements.lookups.clone();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 32);
        let name = crate::UserName::new("u").unwrap();
        let client = ClientId::new("c").unwrap();
        let with = Lookup::identity(&Identity::User(&name, Some(&client)));
        let sql = statements.lookup(&with);
        assert!(sql.contains("user_name COLLATE BINARY = ?1 AND client_id COLLATE BINARY = ?2"));
        let without = Lookup::identity(&Identity::User(&name, None));
        assert!(statements.lookup(&without).contains("client_id IS NULL"));
    }
}
