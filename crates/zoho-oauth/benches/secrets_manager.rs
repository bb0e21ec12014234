//! `SecretsManagerStore` beside the bare SDK that makes the same calls, on the same secrets.
//!
//! Groups are named `secrets manager/<what>/<secrets>`; each has two functions, `ours` and
//! `baseline`. Needs the emulator that `ZOHO_TEST_AWS` names, so the times are the emulator's, and
//! only the ratios say something. A thousand secrets: a million is not what the service is for.
#![expect(clippy::unwrap_used, reason = "a bench may fail loudly")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_secretsmanager::types::Tag;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::stream::{self, StreamExt};
use tokio::runtime::Runtime;
use zoho_oauth::store::secrets_manager::Deletion;
use zoho_oauth::{
    AccessToken, Authenticator, ClientId, OAuthClient, OAuthToken, RefreshPolicy,
    SecretsManagerStore, Session, Timestamp, TokenQuery, TokenStore, UserName,
};

const SECRETS: u64 = 1000;
const CLIENT: &str = "1000.R2D2C3PO0123456789ABCDEFGHIJKL";
/// In the year 2100.
const LATE: i64 = 4_102_444_800_000;

fn user(number: u64) -> UserName {
    UserName::new(format!(
        "user{number:07}@example.com:{}",
        60_000_000 + number
    ))
    .unwrap()
}

/// As long as Zoho's tokens, 70 characters.
fn secret(kind: &str, number: u64) -> String {
    format!("1000.{kind}{number:032x}.{number:032x}")
}

fn token(number: u64, access: u64) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.user_name = Some(user(number));
    token.client_id = ClientId::new(CLIENT).ok();
    token.access_token = AccessToken::new(secret("a", access)).ok();
    token.expiry_time = Some(Timestamp::from_millis(LATE));
    token
}

fn client() -> Client {
    #[expect(clippy::disallowed_methods, reason = "where a bench finds its server")]
    let url = std::env::var("ZOHO_TEST_AWS");
    let url = url.expect("`ZOHO_TEST_AWS` names an emulator of AWS");
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(url)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("bench", "bench", None, None, "bench"));
    Client::from_conf(config.build())
}

struct Place {
    prefix: String,
    store: SecretsManagerStore,
    client: Client,
    /// The saves have their own access tokens, each new.
    turn: AtomicU64,
}

impl Place {
    async fn new() -> Self {
        let prefix = format!("bench_{:016x}", fastrand::u64(..));
        let client = client();
        let store = SecretsManagerStore::builder()
            .prefix(&prefix)
            .versions(1, Duration::ZERO)
            .deletion(Deletion::AtOnce)
            .with_client(client.clone())
            .unwrap();
        fill(&client, &prefix).await;
        // Reads all of them, and knows from then on who is where.
        let all = store.get_tokens().await.unwrap();
        assert_eq!(all.len() as u64, SECRETS);
        Self {
            prefix,
            store,
            client,
            turn: AtomicU64::new(SECRETS),
        }
    }

    fn turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// One secret after the other, all over them.
    fn next(&self) -> u64 {
        self.turn().wrapping_mul(2_654_435_761) % SECRETS + 1
    }

    fn secret(&self, number: u64) -> String {
        format!("{}/token/{number}", self.prefix)
    }

    /// The bare look-up: the value of the secret that is known to be the right one.
    async fn get(&self, number: u64) -> serde_json::Value {
        let name = self.secret(number);
        let request = self.client.get_secret_value().secret_id(name);
        let answer = request.send().await.unwrap();
        serde_json::from_str(answer.secret_string().unwrap()).unwrap()
    }

    /// The bare save: read, set two tags, write.
    async fn put(&self, number: u64) {
        let mut value = self.get(number).await;
        value["access_token"] = secret("n", self.turn()).into();
        let tag = |key: &str| {
            let digest = format!("{:032x}", self.turn());
            Tag::builder().key(key).value(digest).build()
        };
        let name = self.secret(number);
        let request = self.client.tag_resource().secret_id(&name);
        let request = request.tags(tag("zoho-oauth:access"));
        let request = request.tags(tag("zoho-oauth:access-before"));
        request.send().await.unwrap();
        let request = self.client.put_secret_value().secret_id(name);
        let request = request.secret_string(value.to_string());
        request.send().await.unwrap();
    }
}

/// As another program would make them: without the tags, since the store reads all of them anyway.
async fn fill(client: &Client, prefix: &str) {
    let creates = stream::iter(1..=SECRETS).map(|number| {
        let fields = [
            ("user_name", user(number).as_str().to_owned()),
            ("client_id", CLIENT.to_owned()),
            ("refresh_token", secret("r", number)),
            ("access_token", secret("a", number)),
            ("expiry_time", LATE.to_string()),
            ("api_domain", "https://www.zohoapis.eu".to_owned()),
        ];
        let value: BTreeMap<_, _> = fields.into_iter().collect();
        let request = client.create_secret();
        let request = request.name(format!("{prefix}/token/{number}"));
        let request = request.secret_string(serde_json::to_string(&value).unwrap());
        async { request.send().await.unwrap() }
    });
    creates.buffer_unordered(8).for_each(async |_| ()).await;
}

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let place = runtime.block_on(Place::new());
    find(criterion, &runtime, &place);
    save(criterion, &runtime, &place);
    through_the_authenticator(criterion, &runtime, &place);
    runtime.block_on(async {
        place.store.delete_tokens().await.unwrap();
    });
}

fn find(criterion: &mut Criterion, runtime: &Runtime, place: &Place) {
    let name = format!("secrets manager/find by user/{SECRETS}");
    let mut group = criterion.benchmark_group(name);
    group.bench_function("ours", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let query = TokenQuery::user_name(user(place.next()));
            black_box(place.store.find_token(&query).await.unwrap().unwrap())
        });
    });
    group.bench_function("baseline:aws-sdk", |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| async { black_box(place.get(place.next()).await) });
    });
    group.finish();
}

fn save(criterion: &mut Criterion, runtime: &Runtime, place: &Place) {
    let mut group = criterion.benchmark_group(format!("secrets manager/save/{SECRETS}"));
    group.bench_function("ours", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let token = token(place.next(), place.turn());
            place.store.save_token(&token).await.unwrap()
        });
    });
    group.bench_function("baseline:aws-sdk", |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| async { place.put(place.next()).await });
    });
    group.finish();
}

/// With a look at the store each time, as it is once in five seconds; in between nothing is asked.
fn through_the_authenticator(criterion: &mut Criterion, runtime: &Runtime, place: &Place) {
    let sessions = runtime.block_on(async {
        let auth = Authenticator::builder(place.store.clone())
            .client(OAuthClient::new(CLIENT, "secret").unwrap())
            .policy(RefreshPolicy::new().with_recheck(Duration::ZERO))
            .build()
            .unwrap();
        let mut sessions: Vec<(u64, Session)> = Vec::new();
        for _ in 0..200 {
            let number = place.next();
            sessions.push((number, auth.session(user(number)).await.unwrap()));
        }
        sessions
    });
    let turn = || usize::try_from(place.turn()).unwrap() % sessions.len();
    let name = format!("secrets manager/get through the authenticator/{SECRETS}");
    let mut group = criterion.benchmark_group(name);
    group.bench_function("ours", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let (_, session) = &sessions[turn()];
            black_box(session.access_token().await.unwrap())
        });
    });
    group.bench_function("baseline:aws-sdk", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let (number, _) = &sessions[turn()];
            black_box(place.get(*number).await)
        });
    });
    group.finish();
}

criterion_group! {
    name = secrets_manager;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(20)
        .without_plots();
    targets = benches
}
criterion_main!(secrets_manager);
