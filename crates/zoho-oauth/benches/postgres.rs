//! `PostgresStore` beside the bare driver behind its pool: the same statements, prepared, on the
//! same table, equally durable.
//!
//! Groups are named `postgres/<what>/<rows>`; each has two functions, `ours` and `baseline`. Needs
//! the server that `ZOHO_TEST_POSTGRES` names.
#![expect(clippy::unwrap_used, reason = "a bench may fail loudly")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use tokio::runtime::Runtime;
use tokio_postgres::config::Host;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, NoTls, Row};
use zoho_oauth::{
    AccessToken, Authenticator, ClientId, OAuthClient, OAuthToken, PostgresStore, RefreshPolicy,
    RefreshToken, Session, Timestamp, TokenId, TokenQuery, TokenStore, UserName,
};

const CLIENT: &str = "1000.R2D2C3PO0123456789ABCDEFGHIJKL";
const COLUMNS: &str = "id, user_name, client_id, client_secret, refresh_token, access_token, \
    grant_token, expiry_time, redirect_url, api_domain";
/// In the year 2100.
const LATE: &str = "4102444800000";

fn user(number: u64) -> String {
    format!("user{number:07}@example.com:{}", 60_000_000 + number)
}

/// As long as Zoho's tokens, 70 characters.
fn secret(kind: &str, number: u64) -> String {
    format!("1000.{kind}{number:032x}.{number:032x}")
}

fn server() -> Config {
    #[expect(clippy::disallowed_methods, reason = "where a bench finds its server")]
    let url = std::env::var("ZOHO_TEST_POSTGRES");
    url.expect("`ZOHO_TEST_POSTGRES` names a server")
        .parse()
        .unwrap()
}

/// A table with this many rows.
struct Place {
    schema: String,
    rows: u64,
    store: PostgresStore,
    pool: Pool,
    /// The saves have their own access tokens, each new.
    turn: AtomicU64,
}

impl Place {
    async fn new(rows: u64) -> Self {
        let schema = format!("bench_{:016x}", fastrand::u64(..));
        let config = server();
        let [Host::Tcp(host)] = config.get_hosts() else {
            panic!("the server has one host name");
        };
        let store = PostgresStore::builder()
            .host(host)
            .port(config.get_ports()[0])
            .database(config.get_dbname().unwrap())
            .user(config.get_user().unwrap())
            .password(String::from_utf8_lossy(
                config.get_password().unwrap_or_default(),
            ))
            .schema(&schema)
            .connect()
            .await
            .unwrap();
        let manager = Manager::from_config(
            config,
            NoTls,
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let place = Self {
            schema,
            rows,
            store,
            pool: Pool::builder(manager).max_size(8).build().unwrap(),
            turn: AtomicU64::new(0),
        };
        place.fill().await;
        place
    }

    /// All rows in one statement, written by the server itself.
    async fn fill(&self) {
        let (schema, rows) = (&self.schema, self.rows);
        let fill = format!(
            "INSERT INTO {schema}.oauthtoken SELECT i, \
            'user' || lpad(i::text, 7, '0') || '@example.com:' || 60000000 + i, '{CLIENT}', \
            '0123456789abcdef0123456789abcdef0123456789', \
            '1000.r' || lpad(to_hex(i), 32, '0') || '.' || lpad(to_hex(i), 32, '0'), \
            '1000.a' || lpad(to_hex(i), 32, '0') || '.' || lpad(to_hex(i), 32, '0'), \
            NULL, '{LATE}', NULL, 'https://www.zohoapis.eu' FROM generate_series(1, {rows}) i; "
        );
        let client = self.pool.get().await.unwrap();
        client.batch_execute(&fill).await.unwrap();
        let settle = format!("VACUUM ANALYZE {schema}.oauthtoken");
        client.batch_execute(&settle).await.unwrap();
        client.batch_execute("CHECKPOINT").await.unwrap();
    }

    async fn drop(self) {
        let client = self.pool.get().await.unwrap();
        let drop = format!(
            "SET client_min_messages = warning; DROP SCHEMA {} CASCADE",
            self.schema
        );
        client.batch_execute(&drop).await.unwrap();
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

    fn by_id(&self) -> String {
        format!(
            "SELECT {COLUMNS} FROM {}.oauthtoken \
            WHERE length(id) = length($1) AND id COLLATE \"C\" = $1 LIMIT 1",
            self.schema
        )
    }

    fn name(&self, what: &str) -> String {
        format!("postgres/{what}/{}", self.rows)
    }

    async fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        let client = self.pool.get().await.unwrap();
        let statement = client.prepare_cached(sql).await.unwrap();
        client.query(&statement, values).await.unwrap()
    }
}

fn fields(row: &Row) -> [Option<String>; 10] {
    std::array::from_fn(|index| row.get(index))
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
        "SELECT {COLUMNS} FROM {}.oauthtoken WHERE user_name COLLATE \"C\" = $1 \
        AND user_name <> '' ORDER BY length(id) + 0, id COLLATE \"C\" LIMIT 1",
        place.schema
    );
    let mut group = criterion.benchmark_group(place.name("find by user"));
    group.bench_function("ours", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let name = UserName::new(user(place.next())).unwrap();
            let query = TokenQuery::user_name(name);
            black_box(place.store.find_token(&query).await.unwrap().unwrap())
        });
    });
    group.bench_function("baseline:tokio-postgres", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let name = user(place.next());
            black_box(fields(&place.ask(&by_user, &[&name]).await[0]))
        });
    });
    group.finish();

    let by_id = place.by_id();
    let mut group = criterion.benchmark_group(place.name("find by id"));
    group.bench_function("ours", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let id = TokenId::new(place.next()).unwrap();
            black_box(place.store.find_token_by_id(id).await.unwrap().unwrap())
        });
    });
    group.bench_function("baseline:tokio-postgres", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let id = place.next().to_string();
            black_box(fields(&place.ask(&by_id, &[&id]).await[0]))
        });
    });
    group.finish();
}

/// What a save comes to: a look at what the login is known by, and a conditional write.
fn save(criterion: &mut Criterion, runtime: &Runtime, place: &Place) {
    let table = format!("{}.oauthtoken", place.schema);
    let parts = ["user_name", "refresh_token", "access_token"];
    let parts = parts.iter().zip(1..).map(|(column, number)| {
        format!(
            "SELECT {COLUMNS} FROM {table} WHERE {column} COLLATE \"C\" = ${number} \
            AND {column} <> ''"
        )
    });
    let look = parts.collect::<Vec<_>>().join(" UNION ALL ");
    let columns: Vec<_> = COLUMNS.split(", ").skip(1).collect();
    let settings = columns.iter().zip(11..);
    let settings = settings.map(|(column, number)| format!("{column} = ${number}"));
    let same = columns.iter().zip(2..);
    let same = same
        .map(|(column, number)| format!(" AND coalesce({column}, '') COLLATE \"C\" = ${number}"));
    let write = format!(
        "UPDATE {table} SET {} WHERE length(id) = length($1) AND id COLLATE \"C\" = $1{}",
        settings.collect::<Vec<_>>().join(", "),
        same.collect::<String>()
    );
    let bare = async |token: &OAuthToken| {
        let name = token.user_name.as_ref().unwrap().as_str();
        let refresh = token.refresh_token.as_ref().unwrap().expose_secret();
        let access = token.access_token.as_ref().unwrap().expose_secret();
        let stored = fields(&place.ask(&look, &[&name, &refresh, &access]).await[0]);
        let old = stored.clone().map(Option::unwrap_or_default);
        let mut new = stored;
        new[5] = Some(access.to_owned());
        let mut values: Vec<&(dyn ToSql + Sync)> = Vec::new();
        values.extend(old.iter().map(|value| value as &(dyn ToSql + Sync)));
        values.extend(new[1..].iter().map(|value| value as &(dyn ToSql + Sync)));
        let client = place.pool.get().await.unwrap();
        let statement = client.prepare_cached(&write).await.unwrap();
        assert_eq!(client.execute(&statement, &values).await.unwrap(), 1);
    };

    let mut group = criterion.benchmark_group(place.name("save"));
    group.bench_function("ours", |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| async { place.store.save_token(&place.token()).await.unwrap() });
    });
    group.bench_function("baseline:tokio-postgres", |bencher| {
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
    let by_id = place.by_id();
    group.bench_function("baseline:tokio-postgres", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let (id, _) = &sessions[turn()];
            black_box(fields(&place.ask(&by_id, &[id]).await[0]))
        });
    });
    group.finish();
}

criterion_group! {
    name = postgres;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(30)
        .without_plots();
    targets = benches
}
criterion_main!(postgres);
