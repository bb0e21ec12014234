//! What cannot be seen from outside: what statements read, and the cells of the leases.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};

use super::core::Core;
use super::schema::Fields;
use super::session::Session;
use super::sql::{LEASES, text};
use super::{MySqlStore, MySqlStoreBuilder};
use crate::clock::Timestamp;
use crate::secret::{AccessToken, Fingerprint, RefreshToken};
use crate::store::rows::{Plan, RowServer, Wanted};
use crate::store::{CoordinationKey, LeaseCells, TokenStore};
use crate::token::{OAuthToken, TokenId, UserName};
use crate::{Criterion, TokenQuery};

fn address() -> Opts {
    Opts::from_url(&zoho_test_servers::shared::mysql_url()).unwrap()
}

/// A database of one test.
struct Database(String);

impl Database {
    async fn new() -> Self {
        let database = Self(format!("unit_mysql_{:016x}", fastrand::u64(..)));
        let sql = format!("CREATE DATABASE {} CHARACTER SET latin1", database.0);
        let mut conn = Conn::new(address()).await.unwrap();
        conn.query_drop(sql).await.unwrap();
        database
    }

    async fn run(&self, sql: &str) {
        let opts = OptsBuilder::from_opts(address()).db_name(Some(&self.0));
        let mut conn = Conn::new(opts).await.unwrap();
        conn.query_drop(sql).await.unwrap();
    }

    fn builder(&self) -> MySqlStoreBuilder {
        MySqlStore::builder()
            .host(address().ip_or_hostname())
            .port(address().tcp_port())
            .database(&self.0)
            // The counters that are looked at are those of one connection.
            .pool_size(1)
    }

    async fn drop(self) {
        self.run(&format!("DROP DATABASE {}", self.0)).await;
    }
}

const ROWS: u64 = 3000;

/// Fills the table with records that were numbered one after the other, and opens it.
async fn filled(database: &Database) -> MySqlStore {
    drop(database.builder().connect().await.unwrap());
    database
        .run(&format!(
            "INSERT INTO oauthtoken (id, user_name, client_id, refresh_token, access_token, \
            grant_token, expiry_time) SELECT seq, CONCAT('user-', seq), 'client', \
            CONCAT('1000.r.', seq), CONCAT('1000.a.', seq), CONCAT('1000.g.', seq), '7' \
            FROM seq_1_to_{ROWS}; ANALYZE TABLE oauthtoken; DELETE FROM zoho_oauth_mark"
        ))
        .await;
    database.builder().connect().await.unwrap()
}

fn record(number: u64) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.id = TokenId::new(number).ok();
    token.user_name = UserName::new(format!("user-{number}")).ok();
    token.client_id = crate::ClientId::new("client").ok();
    token.refresh_token = RefreshToken::new(format!("1000.r.{number}")).ok();
    token.access_token = AccessToken::new(format!("1000.a.{number}")).ok();
    token.grant_token = crate::GrantToken::new(format!("1000.g.{number}")).ok();
    token.expiry_time = Some(Timestamp::from_millis(7));
    token
}

/// How many rows and index entries the storage engine has handed out to this connection.
async fn reads(session: &mut Session) -> u64 {
    let sql = "SHOW SESSION STATUS LIKE 'Handler_read%'";
    let rows = session.rows(sql, Vec::new()).await.unwrap();
    let count = |row| Fields::of(row).number(1).unwrap();
    rows.into_iter().map(count).sum()
}

/// What the next things read, beside what looking at the counters reads.
struct Meter<'a> {
    core: &'a Core,
    before: u64,
    looking: u64,
}

impl<'a> Meter<'a> {
    async fn start(core: &'a Core) -> Self {
        let mut meter = Self {
            core,
            before: 0,
            looking: 0,
        };
        let first = meter.counter().await;
        meter.before = meter.counter().await;
        meter.looking = meter.before - first;
        meter
    }

    async fn counter(&self) -> u64 {
        let mut session = self.core.tries().session().await.unwrap();
        let reads = reads(&mut session).await;
        session.end().await;
        reads
    }

    async fn since(&mut self) -> u64 {
        let now = self.counter().await;
        let read = now - self.before - self.looking;
        self.before = now;
        read
    }
}

async fn everything_goes_straight_to_its_rows(database: &Database, store: &MySqlStore) {
    let core = &store.core;
    let mut meter = Meter::start(core).await;
    let last = record(ROWS);
    let criteria = [
        Criterion::UserName(last.user_name.clone().unwrap()),
        Criterion::RefreshToken(last.refresh_token.clone().unwrap()),
        Criterion::GrantToken(last.grant_token.clone().unwrap()),
        Criterion::AccessToken(last.access_token.clone().unwrap()),
    ];
    for criterion in criteria {
        let query = match criterion.clone() {
            Criterion::UserName(name) => TokenQuery::user_name(name),
            Criterion::RefreshToken(token) => TokenQuery::refresh_token(token),
            Criterion::GrantToken(token) => TokenQuery::grant_token(token),
            Criterion::AccessToken(token) => TokenQuery::access_token(token),
        };
        assert_eq!(core.find(&query).await.unwrap().as_ref(), Some(&last));
        let with_client = query.with_client(last.client_id.clone().unwrap());
        assert_eq!(core.find(&with_client).await.unwrap().as_ref(), Some(&last));
        let read = meter.since().await;
        assert!(read <= 8, "{read} reads for two look-ups by {criterion:?}");
    }
    assert_eq!(
        core.by_id(last.id.unwrap()).await.unwrap().as_ref(),
        Some(&last)
    );
    let wanted = [
        Wanted::Id(TokenId::new(5).unwrap()),
        Wanted::UserName(last.user_name.clone().unwrap()),
        Wanted::RefreshToken(last.refresh_token.clone().unwrap()),
        Wanted::GrantToken(last.grant_token.clone().unwrap()),
        Wanted::AccessToken(last.access_token.clone().unwrap()),
    ];
    assert_eq!(core.rows(&wanted).await.unwrap(), [record(5), last.clone()]);
    let read = meter.since().await;
    assert!(read <= 20, "{read} reads for six rows");

    // A refresh, a login, a delete.
    let mut renewed = last.clone();
    renewed.access_token = AccessToken::new("1000.renewed").ok();
    store.save_token(&renewed).await.unwrap();
    let read = meter.since().await;
    assert!(read <= 30, "{read} reads for an update");
    let mut login = record(ROWS + 7);
    login.id = None;
    let id = store.save_token(&login).await.unwrap();
    let read = meter.since().await;
    assert!(read <= 30, "{read} reads for an insert");
    assert!(store.delete_token(id).await.unwrap());
    let read = meter.since().await;
    assert!(read <= 20, "{read} reads for a delete");

    // Somebody else gave out the next numbers.
    let sql = format!(
        "INSERT INTO oauthtoken (id, user_name) SELECT seq, seq FROM seq_{}_to_{}",
        id.get() + 1,
        id.get() + 50
    );
    database.run(&sql).await;
    meter.since().await;
    assert!(store.save_token(&login).await.unwrap().get() > id.get() + 50);
    let read = meter.since().await;
    assert!(read <= 300, "{read} reads to pass fifty taken numbers");
}

#[tokio::test]
async fn look_ups_and_saves_read_no_more_than_they_need() {
    let database = Database::new().await;
    let store = filled(&database).await;
    everything_goes_straight_to_its_rows(&database, &store).await;
    database.drop().await;
}

/// Whatever the character set and collation: the table is the official one, made long ago.
#[tokio::test]
async fn look_ups_go_by_the_indexes_of_any_collation() {
    for (charset, collation) in [
        ("latin1", "latin1_german1_ci"),
        ("utf8mb3", "utf8mb3_unicode_ci"),
        ("utf8mb4", "utf8mb4_general_ci"),
        ("ucs2", "ucs2_general_ci"),
        ("binary", "binary"),
    ] {
        let database = Database::new().await;
        let columns: Vec<_> = super::column::COLUMNS[1..]
            .iter()
            .map(|column| format!("{column} varchar(255)"))
            .collect();
        let keys: Vec<_> = super::column::KEYS
            .iter()
            .map(|&key| format!("KEY ({}(100))", super::column::COLUMNS[key]))
            .collect();
        let sql = format!(
            "CREATE TABLE oauthtoken (id varchar(10) PRIMARY KEY, {}, {}) \
            DEFAULT CHARACTER SET {charset} COLLATE {collation}",
            columns.join(", "),
            keys.join(", ")
        );
        database.run(&sql).await;
        let store = filled(&database).await;
        everything_goes_straight_to_its_rows(&database, &store).await;
        database.drop().await;
    }
}

#[tokio::test]
async fn a_page_reads_what_it_answers() {
    let database = Database::new().await;
    let store = filled(&database).await;
    let mut meter = Meter::start(&store.core).await;
    for after in [None, Some(7), Some(1234), Some(ROWS - 100)] {
        let after = after.map(|number| TokenId::new(number).unwrap());
        let page = store.get_tokens_page(after, 50).await.unwrap();
        assert_eq!(page.len(), 50);
        let read = meter.since().await;
        assert!(read <= 64, "{read} reads for a page of 50 after {after:?}");
    }
    // All ids are looked at once, at the end and for ids of ten digits. A table as small as this one
    // is read from end to end also to find many numbers by name.
    let after = TokenId::new(ROWS - 10).ok();
    let page = store.get_tokens_page(after, 50).await.unwrap();
    assert_eq!(page.len(), 10);
    let read = meter.since().await;
    assert!(read <= ROWS + 200, "{read} reads for the last page");
    database
        .run("UPDATE oauthtoken SET id = id + 9000000000")
        .await;
    meter.since().await;
    let page = store.get_tokens_page(None, 2000).await.unwrap();
    assert_eq!(page.len(), 2000);
    let read = meter.since().await;
    assert!(read <= 2 * ROWS + 3000, "{read} reads for a page of 2000");
    let after = page.last().and_then(|record| record.id);
    assert_eq!(store.get_tokens_page(after, 500).await.unwrap().len(), 500);
    let read = meter.since().await;
    assert!(read <= 510, "{read} reads for the next page of 500");
    database.drop().await;
}

/// What the plan says is not done when something else is there, and then nothing of it is.
#[tokio::test]
async fn a_plan_is_carried_out_as_a_whole_or_not_at_all() {
    let database = Database::new().await;
    let store = database.builder().connect().await.unwrap();
    for number in 1..=3 {
        store.save_token(&record(number)).await.unwrap();
    }
    let server = super::Rows::new(store.core.clone());
    let mark = server.mark().await.unwrap();
    assert_eq!(mark.highest_id, 3);
    let mut changed = record(2);
    changed.access_token = AccessToken::new("1000.changed").ok();
    let plan = |insert: OAuthToken| Plan {
        id: insert.id.unwrap(),
        highest_id: 4,
        insert: Some(insert),
        update: Some((record(2), changed.clone())),
        delete: vec![record(1)],
    };
    let all = [record(1), record(2), record(3)];
    // The number is taken; the row to delete is another one; the mark has moved.
    assert!(!server.apply(&mark, &plan(record(3))).await.unwrap());
    assert_eq!(store.get_tokens().await.unwrap(), all);
    let mark = server.mark().await.unwrap();
    let mut other = plan(record(4));
    other.delete[0].api_domain = Some("https://elsewhere.example".into());
    assert!(!server.apply(&mark, &other).await.unwrap());
    let mut stale = mark;
    stale.writes -= 1;
    assert!(!server.apply(&stale, &plan(record(4))).await.unwrap());
    assert_eq!(store.get_tokens().await.unwrap(), all);
    assert_eq!(server.mark().await.unwrap(), mark);

    assert!(server.apply(&mark, &plan(record(4))).await.unwrap());
    let expected = [changed, record(3), record(4)];
    assert_eq!(store.get_tokens().await.unwrap(), expected);
    let after = server.mark().await.unwrap();
    assert_eq!((after.highest_id, after.writes), (4, mark.writes + 1));
    database.drop().await;
}

async fn store_with_cells() -> (Database, MySqlStore, super::leases::Cells) {
    let database = Database::new().await;
    let store = database.builder().connect().await.unwrap();
    let cells = super::leases::Cells::new(store.core.clone());
    (database, store, cells)
}

#[tokio::test]
async fn a_cell_is_swapped_if_it_holds_what_was_read_to_the_byte() {
    let (database, _store, cells) = store_with_cells().await;
    let key = CoordinationKey::record(TokenId::new(7).unwrap());
    let other = CoordinationKey::record(TokenId::new(8).unwrap());
    let text = async |key| cells.read_cell(key).await.unwrap().text;
    let swap = async |before, after| cells.swap_cell(&key, before, after, None).await.unwrap();
    assert_eq!(text(&key).await, None);
    assert!(swap(None, None).await);
    assert!(!swap(Some("a"), Some("b")).await);
    assert!(swap(None, Some("Zoë \u{1f511}")).await);
    assert!(!swap(None, Some("b")).await);
    assert!(!swap(None, None).await);
    for wrong in ["zoë \u{1f511}", "Zoe \u{1f511}", "Zoë \u{1f511} ", ""] {
        assert!(!swap(Some(wrong), Some("b")).await, "{wrong}");
        assert!(!swap(Some(wrong), None).await, "{wrong}");
    }
    assert_eq!(text(&key).await.as_deref(), Some("Zoë \u{1f511}"));
    assert_eq!(text(&other).await, None);
    assert!(swap(Some("Zoë \u{1f511}"), Some("b")).await);
    assert!(swap(Some("b"), None).await);
    assert_eq!(text(&key).await, None);
    database.drop().await;
}

#[tokio::test]
async fn a_cell_is_swapped_no_later_than_allowed_by_the_clock_of_the_server() {
    let (database, _store, cells) = store_with_cells().await;
    let key = CoordinationKey::record(TokenId::new(7).unwrap());
    let now = cells.read_cell(&key).await.unwrap().now;
    // The server is on this machine.
    let here = Timestamp::now();
    let apart = now.since(here).max(here.since(now));
    assert!(apart < Duration::from_mins(1), "{apart:?}");
    let past = Some(now.before(Duration::from_secs(1)));
    let future = Some(now.after(Duration::from_hours(1)));
    let swap =
        async |before, after, limit| cells.swap_cell(&key, before, after, limit).await.unwrap();
    assert!(!swap(None, Some("a"), past).await);
    assert!(!swap(None, None, past).await);
    assert!(swap(None, Some("a"), future).await);
    assert!(!swap(Some("a"), Some("b"), past).await);
    assert!(!swap(Some("a"), None, past).await);
    assert!(swap(Some("a"), Some("b"), future).await);
    assert!(swap(Some("b"), None, future).await);
    database.drop().await;
}

#[tokio::test]
async fn old_leases_of_credentials_are_swept() {
    let (database, store, cells) = store_with_cells().await;
    let start = |name: &str| CoordinationKey::start(&Fingerprint::of(&[name]));
    let (old, new) = (start("old"), start("new"));
    let record = CoordinationKey::record(TokenId::new(7).unwrap());
    for key in [&old, &new, &record] {
        assert!(cells.swap_cell(key, None, Some("a"), None).await.unwrap());
    }
    let age = |key: &CoordinationKey, millis: u64| {
        format!(
            "UPDATE {LEASES} SET changed_at = changed_at - {millis} WHERE lease_key = '{}'",
            key.as_str()
        )
    };
    database.run(&age(&old, 3_600_001)).await;
    database.run(&age(&new, 3_500_000)).await;
    database.run(&age(&record, 86_400_000)).await;
    // More than are deleted at a time.
    let older = (0..2100).map(|number| format!("('oauthtoken', 'start:{number:04}', 'a', 0)"));
    let columns = "token_table, lease_key, lease, changed_at";
    let older = older.collect::<Vec<_>>().join(", ");
    database
        .run(&format!("INSERT INTO {LEASES} ({columns}) VALUES {older}"))
        .await;
    store.core.sweep().await.unwrap();
    let text = async |key| cells.read_cell(key).await.unwrap().text;
    assert_eq!(text(&old).await, None);
    assert_eq!(text(&new).await.as_deref(), Some("a"));
    assert_eq!(text(&record).await.as_deref(), Some("a"));
    let mut session = store.core.tries().session().await.unwrap();
    let sql = format!("SELECT 1 FROM {LEASES}");
    assert_eq!(session.rows(&sql, Vec::new()).await.unwrap().len(), 2);
    session.end().await;
    database.drop().await;
}

#[tokio::test]
async fn a_record_that_goes_takes_what_is_remembered_of_it_along() {
    let (database, store, cells) = store_with_cells().await;
    for number in 1..=3 {
        store.save_token(&record(number)).await.unwrap();
        let key = CoordinationKey::record(TokenId::new(number).unwrap());
        assert!(cells.swap_cell(&key, None, Some("a"), None).await.unwrap());
    }
    let start = CoordinationKey::start(&Fingerprint::of(&["r"]));
    assert!(
        cells
            .swap_cell(&start, None, Some("a"), None)
            .await
            .unwrap()
    );
    let left = async || {
        let mut session = store.core.tries().session().await.unwrap();
        let sql = format!("SELECT lease_key FROM {LEASES} WHERE token_table = ? ORDER BY 1");
        let rows = session.rows(&sql, vec![text("oauthtoken")]).await.unwrap();
        session.end().await;
        let key = |row| Fields::of(row).text(0).unwrap();
        rows.into_iter().map(key).collect::<Vec<_>>()
    };
    store.delete_token(TokenId::new(1).unwrap()).await.unwrap();
    assert_eq!(left().await, ["id:2", "id:3", start.as_str()]);
    // A record that becomes another one.
    let mut joined = record(2);
    joined.id = TokenId::new(3).ok();
    joined.user_name = None;
    assert!(store.save_token(&joined).await.is_ok());
    store.delete_tokens().await.unwrap();
    assert_eq!(left().await, [start.as_str()]);
    database.drop().await;
}

#[tokio::test]
async fn one_machine_at_a_time_has_the_lease() {
    let database = Database::new().await;
    let one = database.builder().connect().await.unwrap();
    let other = database.builder().connect().await.unwrap();
    let key = CoordinationKey::record(TokenId::new(7).unwrap());
    let (one, other) = (one.coordination().unwrap(), other.coordination().unwrap());
    assert_eq!(one.guarantee(), crate::Guarantee::Fleet);
    let permit = one.try_acquire(&key).await.unwrap().unwrap();
    assert!(other.try_acquire(&key).await.unwrap().is_none());
    permit.release(None).await.unwrap();
    let permit = other.try_acquire(&key).await.unwrap().unwrap();
    assert!(one.try_acquire(&key).await.unwrap().is_none());
    drop(permit);
    database.drop().await;
}

/// The tries of an operation end: `patience` bounds them.
#[tokio::test]
async fn nobody_waits_for_ever_for_a_server_that_is_not_there() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let began = tokio::time::Instant::now();
    let store = MySqlStore::builder()
        .hosts(["127.0.0.1:1".to_owned(), format!("127.0.0.1:{port}")])
        .patience(Duration::from_millis(50))
        .connect();
    let error = store.await.unwrap_err();
    assert_eq!(error.code(), crate::ErrorCode::StoreUnavailable);
    assert!(error.to_string().contains("127.0.0.1:"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn the_cells_are_compared_and_swapped() {
    let (database, _store, cells) = store_with_cells().await;
    let kept = crate::conformance::coordinated::cells_are_compared_and_swapped(&cells).await;
    kept.unwrap();
    database.drop().await;
}
