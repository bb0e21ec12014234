//! `RedisStore` beside the bare driver: the same scripts, on the same server and the same keys.
//!
//! Groups are named `redis/<what>/<records>`; each has two functions, `ours` and `baseline:redis`.
//! The server is the one that `ZOHO_TEST_REDIS` names, started by `cargo xtask bench`. What is
//! measured is mostly the way there and back, and the server's flushing of its file with saves.
#![expect(clippy::unwrap_used, reason = "a bench may fail loudly")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use redis::aio::ConnectionManager;
use redis::{Client, Script};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use zoho_oauth::{
    AccessToken, Authenticator, ClientId, OAuthToken, RedisStore, RefreshPolicy, Timestamp,
    TokenQuery, TokenStore, UserName,
};

const CLIENT: &str = "1000.R2D2C3PO0123456789ABCDEFGHIJKL";
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789";
const DOMAIN: &str = "https://www.zohoapis.eu";
/// So far away that nothing is refreshed.
const EXPIRY: &str = "4102444800000";

const ROWS: &str = concat!(
    include_str!("../src/store/redis/lua/common.lua"),
    include_str!("../src/store/redis/lua/rows.lua")
);
const WRITE: &str = concat!(
    include_str!("../src/store/redis/lua/common.lua"),
    include_str!("../src/store/redis/lua/write.lua")
);

type Rows = Vec<(String, Vec<Option<String>>)>;

fn user(number: u64) -> String {
    format!("user{number:07}@example.com:{}", 60_000_000 + number)
}

/// As long as Zoho's tokens, 70 characters.
fn secret(kind: &str, number: u64) -> String {
    format!("1000.{kind}{number:032x}.{number:032x}")
}

fn index(name: &str, value: &str) -> String {
    let digest = Sha256::digest(value.as_bytes());
    let digits = digest[..16].iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.filter_map(|digit| char::from_digit(u32::from(digit), 16));
    format!("{name}:{}", digits.collect::<String>())
}

struct Place {
    store: RedisStore,
    bare: ConnectionManager,
    base: String,
    records: u64,
    /// The saves have their own access tokens, each new.
    turn: AtomicU64,
    rows: Script,
    write: Script,
}

impl Place {
    async fn new(records: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the address of the server")]
        let url = std::env::var("ZOHO_TEST_REDIS");
        let url = url.expect("`ZOHO_TEST_REDIS` is not set: run this with `cargo xtask bench`");
        let bare = Client::open(url.as_str()).unwrap();
        let bare = bare.get_connection_manager().await.unwrap();
        let prefix = format!("bench_{:016x}", fastrand::u64(..));
        let address = url.trim_start_matches("redis://").trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').unwrap();
        let store = RedisStore::builder().host(host).port(port.parse().unwrap());
        let store = store.prefix(prefix.as_str()).connect().await.unwrap();
        let place = Self {
            store,
            bare,
            base: format!("{{{prefix}}}:"),
            records,
            turn: AtomicU64::new(0),
            rows: Script::new(ROWS),
            write: Script::new(WRITE),
        };
        place.fill().await;
        place
    }

    /// The keys as the store would write them, without scripts and many at a time.
    async fn fill(&self) {
        let mut bare = self.bare.clone();
        let at = format!("{}1:", self.base);
        let numbers: Vec<_> = (1..=self.records).collect();
        for part in numbers.chunks(1000) {
            let mut pipe = redis::pipe();
            for &number in part {
                let (name, refresh, access) =
                    (user(number), secret("r", number), secret("a", number));
                let fields = [
                    ("id", number.to_string().as_str()),
                    ("user_name", &name),
                    ("client_id", CLIENT),
                    ("client_secret", SECRET),
                    ("refresh_token", &refresh),
                    ("access_token", &access),
                    ("expiry_time", EXPIRY),
                    ("api_domain", DOMAIN),
                ]
                .map(|(field, value)| (field.to_owned(), value.to_owned()));
                pipe.hset_multiple(format!("{at}token:{number}"), &fields)
                    .zadd(format!("{at}ids"), number, number)
                    .sadd(format!("{at}{}", index("user", &name)), number)
                    .sadd(format!("{at}{}", index("refresh", &refresh)), number)
                    .sadd(format!("{at}{}", index("access", &access)), number);
            }
            pipe.exec_async(&mut bare).await.unwrap();
        }
        let mut set = redis::cmd("HSET");
        set.arg(format!("{}store", self.base));
        set.arg("highest_id").arg(self.records);
        set.arg("count").arg(self.records);
        set.exec_async(&mut bare).await.unwrap();
    }

    fn turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// One record after the other, all over the store.
    fn next(&self) -> u64 {
        self.turn().wrapping_mul(2_654_435_761) % self.records + 1
    }

    fn name(&self) -> UserName {
        UserName::new(user(self.next())).unwrap()
    }

    /// What is saved after a refresh.
    fn token(&self) -> OAuthToken {
        let number = self.next();
        let mut token = OAuthToken::new();
        token.user_name = UserName::new(user(number)).ok();
        token.client_id = ClientId::new(CLIENT).ok();
        token.access_token = AccessToken::new(secret("n", self.turn())).ok();
        token.expiry_time = Some(Timestamp::from_millis(EXPIRY.parse().unwrap()));
        token
    }

    /// Reads records by the bare driver.
    async fn bare_rows(&self, wanted: &[String]) -> Rows {
        let mut call = self.rows.key(format!("{}store", self.base));
        call.arg(&self.base).arg(0).arg(wanted);
        call.invoke_async(&mut self.bare.clone()).await.unwrap()
    }

    /// Does by the bare driver what a save does.
    async fn bare_save(&self, token: &OAuthToken) {
        let name = token.user_name.as_ref().unwrap().as_str();
        let access = token.access_token.as_ref().unwrap().expose_secret();
        let (by_name, by_access) = (index("user", name), index("access", access));
        let rows = self.bare_rows(&[by_name.clone(), by_access.clone()]).await;
        let (id, old) = rows.into_iter().next().unwrap();
        let old: Vec<_> = old.into_iter().map(Option::unwrap_or_default).collect();
        let mut new = old.clone();
        access.clone_into(&mut new[5]);
        let mut old_indexes = [
            by_name,
            index("refresh", &old[4]),
            index("access", &old[5]),
            String::new(),
        ];
        let mut call = self.write.key(format!("{}store", self.base));
        call.arg(&self.base)
            .arg(0)
            .arg(&["", "", "", "", "none", ""]);
        call.arg(id).arg(&old).arg(&new).arg(&old_indexes);
        old_indexes[2] = by_access;
        call.arg(&old_indexes);
        let done: i64 = call.invoke_async(&mut self.bare.clone()).await.unwrap();
        assert_eq!(done, 1);
    }
}

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for records in [1_000, 1_000_000] {
        let place = runtime.block_on(Place::new(records));
        find(criterion, &runtime, &place);
        saves(criterion, &runtime, &place);
        get(criterion, &runtime, &place);
        // What was filled in is not left to the server.
        runtime.block_on(place.store.delete_tokens()).unwrap();
    }
}

fn find(criterion: &mut Criterion, runtime: &Runtime, place: &Place) {
    let mut group = criterion.benchmark_group(format!("redis/find by user/{}", place.records));
    group.bench_function("ours", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let query = TokenQuery::user_name(place.name());
            black_box(place.store.find_token(&query).await.unwrap().unwrap())
        });
    });
    group.bench_function("baseline:redis", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let wanted = [index("user", place.name().as_str())];
            black_box(place.bare_rows(&wanted).await.pop().unwrap())
        });
    });
    group.finish();
}

fn saves(criterion: &mut Criterion, runtime: &Runtime, place: &Place) {
    let mut group = criterion.benchmark_group(format!("redis/save/{}", place.records));
    group.bench_function("ours", |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| async { place.store.save_token(&place.token()).await.unwrap() });
    });
    group.bench_function("baseline:redis", |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| async { place.bare_save(&place.token()).await });
    });
    group.finish();
}

/// A token through a session that asks the store each time whether the record is still there,
/// which it otherwise does every five seconds.
fn get(criterion: &mut Criterion, runtime: &Runtime, place: &Place) {
    let sessions = runtime.block_on(async {
        let auth = Authenticator::builder(place.store.clone())
            .policy(RefreshPolicy::new().with_recheck(Duration::ZERO))
            .build()
            .unwrap();
        let mut sessions = Vec::new();
        for _ in 0..500 {
            sessions.push(auth.session(place.name()).await.unwrap());
        }
        sessions
    });
    let turn = || &sessions[usize::try_from(place.turn()).unwrap() % sessions.len()];
    let name = format!("redis/get through the authenticator/{}", place.records);
    let mut group = criterion.benchmark_group(name);
    group.bench_function("ours", |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| async { black_box(turn().access_token().await.unwrap()) });
    });
    group.bench_function("baseline:redis", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let wanted = [format!("token:{}", turn().id())];
            black_box(place.bare_rows(&wanted).await.pop().unwrap())
        });
    });
    group.finish();
}

criterion_group! {
    name = redis_store;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .without_plots();
    targets = benches
}
criterion_main!(redis_store);
