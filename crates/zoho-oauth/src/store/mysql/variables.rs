//! Session variables that change what a statement of ours does, reads or writes.
//!
//! A connection of our own is told once. One of the application's pool is told for each operation,
//! and told again afterwards what it was told before, so that nothing reaches the application's own
//! statements.

use std::fmt::Write as _;
use std::sync::Arc;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// Each with the value that it needs. Limits of time are not among them: what they end is an error,
/// never a part of a result.
const VARIABLES: [(&str, &str); 13] = [
    ("autocommit", "1"),
    // `COMMIT` would begin another transaction, or end the connection.
    ("completion_type", "0"),
    ("character_set_client", "utf8mb4"),
    ("character_set_results", "utf8mb4"),
    ("collation_connection", "utf8mb4_general_ci"),
    // Nothing is cut off; literals and operators mean what we wrote.
    ("sql_mode", "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"),
    // As many rows as there are, of any number of rows that are looked at, in the right order.
    ("sql_select_limit", "18446744073709551615"),
    ("sql_big_selects", "1"),
    ("max_sort_length", "1024"),
    // All rows may be deleted at once.
    ("sql_safe_updates", "0"),
    // The rules of the application's tables hold.
    ("foreign_key_checks", "1"),
    ("unique_checks", "1"),
    ("innodb_lock_wait_timeout", "5"),
];

/// `DEFAULT` is the clock. A server may refuse to hear of it (`secure_timestamp` of MariaDB), and
/// then no session can have stopped the clock.
const RUNNING: (&str, &str) = ("timestamp", "DEFAULT");
const REFUSED: u16 = 1290;

/// Nothing but committed rows is read, and rows may be written.
const TRANSACTIONS: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE";

/// The names that the two families of servers have for that. Each executes its own comments alone.
const SAVE_TRANSACTIONS: &str = "SET /*M! @zoho_oauth_isolation = @@SESSION.tx_isolation, \
    @zoho_oauth_read_only = @@SESSION.tx_read_only */ \
    /*!50720 @zoho_oauth_isolation = @@SESSION.transaction_isolation, \
    @zoho_oauth_read_only = @@SESSION.transaction_read_only */";
const RESTORE_TRANSACTIONS: &str = "SET /*M! SESSION tx_isolation = @zoho_oauth_isolation, \
    SESSION tx_read_only = @zoho_oauth_read_only */ \
    /*!50720 SESSION transaction_isolation = @zoho_oauth_isolation, \
    SESSION transaction_read_only = @zoho_oauth_read_only */";

/// A clock that was stopped is told from one that runs by the time that it is late, in seconds. Far
/// more than a statement takes: a clock that runs is never stopped.
const STOPPED: &str = "IF(ABS(TIMESTAMPDIFF(SECOND, NOW(), SYSDATE())) > 3600, \
    @@SESSION.timestamp, 0)";

/// On a node of a Galera cluster: a read waits for what was written before at other nodes, also if
/// the server allows reads that do not.
const CAUSAL: &str = "wsrep_sync_wait";
const CLUSTER: [(&str, &str); 2] = [(CAUSAL, "1"), ("wsrep_dirty_reads", "0")];

const UNKNOWN_VARIABLE: u16 = 1193;

/// What a connection of the application's pool is told before and after an operation of ours.
pub(super) struct Lent {
    pub(super) borrow: String,
    pub(super) give_back: Arc<str>,
}

impl Lent {
    pub(super) fn new(is_causal: bool, has_clock: bool) -> Self {
        let causal = is_causal.then_some(CLUSTER).into_iter().flatten();
        let clock = has_clock.then_some(RUNNING);
        let all: Vec<_> = VARIABLES.into_iter().chain(clock).chain(causal).collect();
        let list = |each: &dyn Fn(&str) -> String| {
            let each: Vec<_> = all.iter().map(|(name, _)| each(name)).collect();
            each.join(", ")
        };
        let saved = list(&|name| match name {
            "timestamp" => format!("@zoho_oauth_timestamp = {STOPPED}"),
            name => format!("@zoho_oauth_{name} = @@SESSION.{name}"),
        });
        let restored = list(&|name| format!("SESSION {name} = @zoho_oauth_{name}"));
        let forgotten = list(&|name| format!("@zoho_oauth_{name} = NULL"));
        Self {
            borrow: format!(
                "SET {saved}; {SAVE_TRANSACTIONS}; {TRANSACTIONS}; {}",
                settings(&all)
            ),
            give_back: format!(
                "SET {restored}; {RESTORE_TRANSACTIONS}; SET {forgotten}, \
                @zoho_oauth_isolation = NULL, @zoho_oauth_read_only = NULL"
            )
            .into(),
        }
    }
}

fn settings(variables: &[(&str, &str)]) -> String {
    let mut sql = String::from("SET ");
    for (index, (name, value)) in variables.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(sql, "{comma}SESSION {name} = {value}");
    }
    sql
}

/// Tells a connection of our own what it must know.
pub(super) async fn set(conn: &mut Conn) -> mysql_async::Result<()> {
    conn.query_drop(format!("{TRANSACTIONS}; {}", settings(&VARIABLES)))
        .await?;
    not_refused(conn.query_drop(settings(&[RUNNING])).await)?;
    if is_causal(conn).await? {
        conn.query_drop(settings(&CLUSTER)).await?;
    }
    Ok(())
}

/// Whether every connection may set its clock. Where only some accounts may, it is left alone.
pub(super) async fn has_clock(conn: &mut Conn) -> mysql_async::Result<bool> {
    let asked = "SELECT @@GLOBAL.secure_timestamp = 'NO'";
    match conn.query_first::<i64, _>(asked).await {
        Ok(is_free) => Ok(is_free == Some(1)),
        Err(mysql_async::Error::Server(error)) if error.code == UNKNOWN_VARIABLE => Ok(true),
        Err(error) => Err(error),
    }
}

fn not_refused(outcome: mysql_async::Result<()>) -> mysql_async::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(mysql_async::Error::Server(refusal)) if refusal.code == REFUSED => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the server knows of nodes whose reads can be made causal.
pub(super) async fn is_causal(conn: &mut Conn) -> mysql_async::Result<bool> {
    let asked = conn.query_drop(format!("SELECT @@SESSION.{CAUSAL}")).await;
    match asked {
        Ok(()) => Ok(true),
        Err(mysql_async::Error::Server(refusal)) if refusal.code == UNKNOWN_VARIABLE => Ok(false),
        Err(error) => Err(error),
    }
}
