//! `MySqlStore` beside the bare driver behind its pool: the same statements, prepared, on the same
//! table, equally durable.
//!
//! Groups are named `mysql/<what>/<rows>`; each has two functions, `ours` and `baseline`. Needs the
//! server that `ZOHO_TEST_MYSQL` names.
#![expect(clippy::unwrap_used, reason = "a bench may fail loudly")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use mysql_async::prelude::Queryable;
use mysql_async::{Opts, OptsBuilder, Params, Pool, PoolConstraints, PoolOpts, Row};
use tokio::runtime::Runtime;
use zoho_oauth::{
    AccessToken, Authenticator, ClientId, MySqlStore, OAuthClient, OAuthToken, RefreshPolicy,
    RefreshToken, Session, Timestamp, TokenId, TokenQuery, TokenStore, UserName,
};

const CLIENT: &str = "1000.R2D2C3PO0123456789ABCDEFGHIJKL";
const SELECT: &str = "SELECT id, user_name, client_id, client_secret, refresh_token, access_token, \
    grant_token, expiry_time, redirect_url, api_domain FROM oauthtoken";
const COLUMNS: [&str; 9] = [
    "user_name",
    "client_id",
    "client_secret",
    "refresh_token",
    "access_token",
    "grant_token",
    "expiry_time",
    "redirect_url",
    "api_domain",
];
/// In the year 2100.
const LATE: &str = "4102444800000";

fn user(number: u64) -> String {
    format!("user{number:07}@example.com:{}", 60_000_000 + number)
}

/// As long as Zoho's tokens, 70 characters.
fn secret(kind: &str, number: u64) -> String {
    format!("1000.{kind}{number:032x}.{number:032x}")
}

/// The condition that finds a value by the index of its column and compares it to the byte.
fn probe(column: &str) -> String {
    format!(
        "{column} = CONVERT(? USING utf8mb4) COLLATE utf8mb4_bin \
        AND CAST(CONVERT({column} USING utf8mb4) AS BINARY) = CAST(? AS BINARY)"
    )
}

/// A table with this many rows.
struct Place {
    database: String,
    rows: u64,
    store: MySqlStore,
    pool: Pool,
    /// The saves have their own access tokens, each new.
    turn: AtomicU64,
}

impl Place {
    async fn new(rows: u64) -> Self {
        let address = Opts::from_url(&zoho_test_servers::shared::mysql_url()).unwrap();
        let database = format!("bench_{:016x}", fastrand::u64(..));
        let limits = PoolOpts::default()
            .with_constraints(PoolConstraints::new(1, 8).unwrap())
            .with_reset_connection(false);
        let options = OptsBuilder::from_opts(address.clone())
            .prefer_socket(false)
            .pool_opts(limits);
        let maker = Pool::new(options.clone());
        let mut conn = maker.get_conn().await.unwrap();
        let sql = format!("CREATE DATABASE {database}");
        conn.query_drop(sql).await.unwrap();
        drop(conn);
        maker.disconnect().await.unwrap();
        let store = MySqlStore::builder()
            .host(address.ip_or_hostname())
            .port(address.tcp_port())
            .user(address.user().unwrap_or("root"))
            .password(address.pass().unwrap_or_default())
            .database(&database);
        // The mark is made from what is there.
        store.clone().connect().await.unwrap().disconnect().await;
        let pool = Pool::new(options.db_name(Some(&database)));
        fill(&pool, rows).await;
        Self {
            rows,
            store: store.connect().await.unwrap(),
            pool,
            database,
            turn: AtomicU64::new(0),
        }
    }

    async fn drop(self) {
        let mut conn = self.pool.get_conn().await.unwrap();
        let sql = format!("DROP DATABASE {}", self.database);
        conn.query_drop(sql).await.unwrap();
        drop(conn);
        self.store.disconnect().await;
        self.pool.disconnect().await.unwrap();
    }

    fn turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed) + 1
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
        token.expiry_time = LATE.parse().ok().map(Timestamp::from_millis);
        token
    }

    fn name(&self, what: &str) -> String {
        format!("mysql/{what}/{}", self.rows)
    }

    async fn ask(&self, sql: &str, values: Vec<&str>) -> Vec<Row> {
        let mut conn = self.pool.get_conn().await.unwrap();
        let values = values.into_iter().map(Into::into).collect();
        conn.exec(sql, Params::Positional(values)).await.unwrap()
    }
}

/// All rows in one statement, written by the server itself.
async fn fill(pool: &Pool, rows: u64) {
    let fill = format!(
        "INSERT INTO oauthtoken SELECT seq, \
        CONCAT('user', LPAD(seq, 7, '0'), '@example.com:', 60000000 + seq), '{CLIENT}', \
        '0123456789abcdef0123456789abcdef0123456789', \
        CONCAT('1000.r', LPAD(HEX(seq), 32, '0'), '.', LPAD(HEX(seq), 32, '0')), \
        CONCAT('1000.a', LPAD(HEX(seq), 32, '0'), '.', LPAD(HEX(seq), 32, '0')), \
        NULL, '{LATE}', NULL, 'https://www.zohoapis.eu' FROM seq_1_to_{rows}; \
        ANALYZE TABLE oauthtoken; DELETE FROM zoho_oauth_mark"
    );
    // The server writes hexadecimal digits in capitals.
    let fill = fill.replace("LPAD(HEX(seq), 32, '0')", "LOWER(LPAD(HEX(seq), 32, '0'))");
    let mut conn = pool.get_conn().await.unwrap();
    conn.query_drop(fill).await.unwrap();
}

fn fields(row: &Row) -> [Option<String>; 10] {
    std::array::from_fn(|index| row.get(index).unwrap())
}

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for rows in [1_000, 1_000_000] {
        let place = runtime.block_on(Place::new(rows));
        find(criterion, &runtime, &place);
        save(criterion, &runtime, &place);
        get(criterion, &runtime, &place);
        runtime.block_on(place.drop());
    }
}

fn find(criterion: &mut Criterion, runtime: &Runtime, place: &Place) {
    let by_user = format!(
        "{SELECT} WHERE {} ORDER BY CHAR_LENGTH(id), id LIMIT 1",
        probe("user_name")
    );
    let mut group = criterion.benchmark_group(place.name("find by user"));
    group.bench_function("ours", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let name = UserName::new(user(place.next())).unwrap();
            let query = TokenQuery::user_name(name);
            black_box(place.store.find_token(&query).await.unwrap().unwrap())
        });
    });
    group.bench_function("baseline:mysql_async", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let name = user(place.next());
            black_box(fields(&place.ask(&by_user, vec![&name, &name]).await[0]))
        });
    });
    group.finish();

    let by_id = format!("{SELECT} WHERE {}", probe("id"));
    let mut group = criterion.benchmark_group(place.name("find by id"));
    group.bench_function("ours", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let id = TokenId::new(place.next()).unwrap();
            black_box(place.store.find_token_by_id(id).await.unwrap().unwrap())
        });
    });
    group.bench_function("baseline:mysql_async", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let id = place.next().to_string();
            black_box(fields(&place.ask(&by_id, vec![&id, &id]).await[0]))
        });
    });
    group.finish();
}

/// What a save comes to: a look at what the login is known by, and a conditional write.
fn save(criterion: &mut Criterion, runtime: &Runtime, place: &Place) {
    let look = ["user_name", "refresh_token", "access_token"]
        .map(|column| format!("({SELECT} WHERE {})", probe(column)))
        .join(" UNION ALL ");
    let settings = COLUMNS.map(|column| format!("{column} = ?")).join(", ");
    let same = COLUMNS.map(|column| {
        format!(
            " AND COALESCE(CAST(CONVERT({column} USING utf8mb4) AS BINARY), '') \
            = CAST(? AS BINARY)"
        )
    });
    let write = format!(
        "UPDATE oauthtoken SET {settings} WHERE {}{}",
        probe("id"),
        same.concat()
    );
    let bare = async |token: &OAuthToken| {
        let name = token.user_name.as_ref().unwrap().as_str();
        let refresh = token.refresh_token.as_ref().unwrap().expose_secret();
        let access = token.access_token.as_ref().unwrap().expose_secret();
        let keys = vec![name, name, refresh, refresh, access, access];
        let stored = fields(&place.ask(&look, keys).await[0]);
        let mut new = stored.clone();
        new[5] = Some(access.to_owned());
        let old = stored.map(Option::unwrap_or_default);
        let mut values: Vec<mysql_async::Value> = new[1..].iter().map(Into::into).collect();
        values.push((&old[0]).into());
        values.extend(old.iter().map(mysql_async::Value::from));
        let mut conn = place.pool.get_conn().await.unwrap();
        conn.exec_drop(&write, Params::Positional(values))
            .await
            .unwrap();
        assert_eq!(conn.affected_rows(), 1);
    };

    let mut group = criterion.benchmark_group(place.name("save"));
    group.bench_function("ours", |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| async { place.store.save_token(&place.token()).await.unwrap() });
    });
    group.bench_function("baseline:mysql_async", |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| async { bare(&place.token()).await });
    });
    group.finish();
}

/// A token through a session that asks the store each time whether the record is still there,
/// which it otherwise does every five seconds.
fn get(criterion: &mut Criterion, runtime: &Runtime, place: &Place) {
    let client = OAuthClient::new(CLIENT, "0123456789abcdef").unwrap();
    let sessions = runtime.block_on(async {
        let auth = Authenticator::builder(place.store.clone())
            .client(client)
            .policy(RefreshPolicy::new().with_recheck(Duration::ZERO))
            .build()
            .unwrap();
        let mut sessions: Vec<(String, Session)> = Vec::new();
        for _ in 0..500 {
            let number = place.next();
            let name = UserName::new(user(number)).unwrap();
            sessions.push((number.to_string(), auth.session(name).await.unwrap()));
        }
        sessions
    });
    let turn = || usize::try_from(place.turn()).unwrap() % sessions.len();
    let mut group = criterion.benchmark_group(place.name("get through the authenticator"));
    group.bench_function("ours", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let (_, session) = &sessions[turn()];
            black_box(session.access_token().await.unwrap())
        });
    });
    let by_id = format!("{SELECT} WHERE {}", probe("id"));
    group.bench_function("baseline:mysql_async", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let (id, _) = &sessions[turn()];
            black_box(fields(&place.ask(&by_id, vec![id, id]).await[0]))
        });
    });
    group.finish();
}

criterion_group! {
    name = mysql;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(30)
        .without_plots();
    targets = benches
}
criterion_main!(mysql);
