//! `SqliteStore` beside bare rusqlite: the same statements, on the same file, equally durable.
//!
//! Groups are named `sqlite/<what>/<rows>`; each has two functions, `ours` and `baseline`.
#![expect(clippy::unwrap_used, reason = "a bench may fail loudly")]

use std::cell::Cell;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Params, Row};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use zoho_oauth::{
    AccessToken, ClientId, OAuthToken, RefreshToken, SqliteStore, TokenId, TokenQuery, TokenStore,
    UserName,
};

const TABLE: &str = "CREATE TABLE oauthtoken (id varchar(10) NOT NULL PRIMARY KEY, \
    user_name varchar(255), client_id varchar(255), client_secret varchar(255), \
    refresh_token varchar(255), access_token varchar(255), grant_token varchar(255), \
    expiry_time varchar(20), redirect_url varchar(255), api_domain varchar(255))";

const SELECT: &str = "SELECT id, user_name, client_id, client_secret, refresh_token, access_token, \
    grant_token, expiry_time, redirect_url, api_domain, rowid FROM oauthtoken";

const CLIENT: &str = "1000.R2D2C3PO0123456789ABCDEFGHIJKL";

fn user(number: u64) -> String {
    format!("user{number:07}@example.com:{}", 60_000_000 + number)
}

/// As long as Zoho's tokens, 70 characters.
fn secret(kind: &str, number: u64) -> String {
    format!("1000.{kind}{number:032x}.{number:032x}")
}

/// A database as the official sample would leave it, with this many rows, then opened by us.
struct Place {
    path: PathBuf,
    rows: u64,
    store: SqliteStore,
    /// The saves have their own access tokens, each new.
    turn: Cell<u64>,
    _folder: TempDir,
}

impl Place {
    fn new(rows: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zohooauth.db");
        fill(&path, rows);
        Self {
            store: SqliteStore::open(&path).unwrap(),
            path,
            rows,
            turn: Cell::new(0),
            _folder: folder,
        }
    }

    /// The settings that `SqliteStore` uses too.
    fn baseline(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        connection
            .execute_batch("PRAGMA synchronous = FULL; PRAGMA secure_delete = ON")
            .unwrap();
        // Without it SQLite prepares the look-up by user anew each time, at five times the cost.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .unwrap();
        connection
    }

    fn turn(&self) -> u64 {
        self.turn.set(self.turn.get() + 1);
        self.turn.get()
    }

    /// One row after the other, all over the table.
    fn next(&self) -> u64 {
        self.turn().wrapping_mul(2_654_435_761) % self.rows + 1
    }

    fn token(&self) -> OAuthToken {
        let number = self.next();
        let mut token = OAuthToken::new();
        token.user_name = UserName::new(user(number)).ok();
        token.client_id = ClientId::new(CLIENT).ok();
        token.refresh_token = RefreshToken::new(secret("r", number)).ok();
        token.access_token = AccessToken::new(secret("n", self.turn())).ok();
        token
    }
}

fn fill(path: &Path, rows: u64) {
    let mut connection = Connection::open(path).unwrap();
    connection.execute_batch(TABLE).unwrap();
    connection
        .execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY")
        .unwrap();
    let transaction = connection.transaction().unwrap();
    let insert = "INSERT INTO oauthtoken VALUES (?, ?, ?, ?, ?, ?, NULL, ?, NULL, ?)";
    let mut statement = transaction.prepare(insert).unwrap();
    for number in 1..=rows {
        let row = rusqlite::params![
            number.to_string(),
            user(number),
            CLIENT,
            "0123456789abcdef0123456789abcdef0123456789",
            secret("r", number),
            secret("a", number),
            "1795372876984",
            "https://www.zohoapis.eu",
        ];
        statement.execute(row).unwrap();
    }
    drop(statement);
    transaction.commit().unwrap();
}

fn fields(row: &Row<'_>) -> rusqlite::Result<[Option<String>; 10]> {
    let mut fields = [const { None }; 10];
    for (index, field) in fields.iter_mut().enumerate() {
        *field = row.get(index)?;
    }
    Ok(fields)
}

fn first(connection: &Connection, sql: &str, params: impl Params) -> Option<[Option<String>; 10]> {
    let mut statement = connection.prepare_cached(sql).unwrap();
    statement.query_row(params, fields).optional().unwrap()
}

fn run(connection: &Connection, sql: &str, params: impl Params) {
    let mut statement = connection.prepare_cached(sql).unwrap();
    statement.execute(params).unwrap();
}

/// What a save does, statement for statement.
fn save(connection: &Connection, by_login: &str, twins: &str, update: &str, token: &OAuthToken) {
    let name = token.user_name.as_ref().unwrap().as_str();
    let refresh = token.refresh_token.as_ref().unwrap().expose_secret();
    let access = token.access_token.as_ref().unwrap().expose_secret();
    run(connection, "BEGIN IMMEDIATE", []);
    let stored = first(connection, by_login, [name, CLIENT]).unwrap();
    let id = stored[0].as_ref().unwrap();
    let number: i64 = id.parse().unwrap();
    let found = first(
        connection,
        twins,
        rusqlite::params![refresh, stored[6], access, number],
    );
    assert!(found.is_none());
    let row = rusqlite::params![
        id, stored[1], stored[2], stored[3], refresh, access, stored[6], stored[7], stored[8],
        stored[9],
    ];
    run(connection, update, row);
    run(connection, "COMMIT", []);
}

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for rows in [100, 1_000_000] {
        let place = Place::new(rows);
        find(criterion, &runtime, &place);
        saves(criterion, &runtime, &place);
    }
}

fn find(criterion: &mut Criterion, runtime: &Runtime, place: &Place) {
    let (rows, store) = (place.rows, &place.store);
    let connection = place.baseline();

    let by_user = format!("{SELECT} WHERE user_name = ?1 ORDER BY CAST(id AS INTEGER) LIMIT 1");
    let mut group = criterion.benchmark_group(format!("sqlite/find by user/{rows}"));
    group.bench_function("ours", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let name = UserName::new(user(place.next())).unwrap();
            let query = TokenQuery::user_name(name);
            black_box(store.find_token(&query).await.unwrap().unwrap())
        });
    });
    group.bench_function("baseline:rusqlite", |bencher| {
        bencher.iter(|| {
            let name = user(place.next());
            black_box(first(&connection, &by_user, [name]).unwrap())
        });
    });
    group.finish();

    let by_id = format!("{SELECT} WHERE CAST(id AS INTEGER) = ?1 LIMIT 1");
    let mut group = criterion.benchmark_group(format!("sqlite/find by id/{rows}"));
    group.bench_function("ours", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let id = TokenId::new(place.next()).unwrap();
            black_box(store.find_token_by_id(id).await.unwrap().unwrap())
        });
    });
    group.bench_function("baseline:rusqlite", |bencher| {
        bencher.iter(|| {
            let id = place.next().cast_signed();
            black_box(first(&connection, &by_id, [id]).unwrap())
        });
    });
    group.finish();
}

fn saves(criterion: &mut Criterion, runtime: &Runtime, place: &Place) {
    let (rows, store) = (place.rows, &place.store);
    let connection = place.baseline();
    let by_login = format!(
        "{SELECT} WHERE user_name = ?1 AND client_id = ?2 ORDER BY CAST(id AS INTEGER) LIMIT 1"
    );
    let twins = [
        "refresh_token = ?1",
        "grant_token = ?2",
        "access_token = ?3",
    ]
    .map(|token| {
        format!(
            "{SELECT} WHERE {token} AND (user_name IS NULL OR user_name = '') \
            AND CAST(id AS INTEGER) <> ?4"
        )
    });
    let twins = twins.join(" UNION ALL ");
    let update = "UPDATE oauthtoken SET user_name = ?2, client_id = ?3, client_secret = ?4, \
        refresh_token = ?5, access_token = ?6, grant_token = ?7, expiry_time = ?8, \
        redirect_url = ?9, api_domain = ?10 WHERE CAST(id AS INTEGER) = CAST(?1 AS INTEGER)";
    let bare = |token: &OAuthToken| save(&connection, &by_login, &twins, update, token);

    let mut group = criterion.benchmark_group(format!("sqlite/save/{rows}"));
    group.bench_function("ours", |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| async { store.save_token(&place.token()).await.unwrap() });
    });
    group.bench_function("baseline:rusqlite", |bencher| {
        bencher.iter(|| bare(&place.token()));
    });
    group.finish();

    // Eight tasks that save at once share commits; whoever uses rusqlite by itself waits in turn.
    let mut group = criterion.benchmark_group(format!("sqlite/eight saves at once/{rows}"));
    group.bench_function("ours", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let saves = [(); 8].map(|()| {
                let (store, token) = (store.clone(), place.token());
                tokio::spawn(async move { store.save_token(&token).await.unwrap() })
            });
            for save in saves {
                save.await.unwrap();
            }
        });
    });
    group.bench_function("baseline:rusqlite", |bencher| {
        bencher.iter(|| (0..8).for_each(|_| bare(&place.token())));
    });
    group.finish();
}

criterion_group! {
    name = sqlite;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .without_plots();
    targets = benches
}
criterion_main!(sqlite);
