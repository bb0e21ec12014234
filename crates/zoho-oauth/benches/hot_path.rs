//! The question that is asked before every API call, when the answer is in memory.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, RwLock};

use arc_swap::ArcSwapOption;
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use zoho_oauth::{
    AccessToken, Authenticator, OAuthToken, RefreshPolicy, RefreshToken, Session, SqliteStore,
    Timestamp, UserName,
};

const USERS: usize = 100_000;

fn name(number: usize) -> UserName {
    UserName::new(format!("user{number}@example.com:6001230000{number:06}")).expect("not empty")
}

/// An authenticator with `users` users in memory, none of whom has to refresh during the bench.
fn ready(runtime: &Runtime, users: usize) -> (Authenticator, Vec<Session>) {
    let auth = Authenticator::builder(SqliteStore::in_memory().expect("opens"))
        .policy(RefreshPolicy::new().with_recheck(std::time::Duration::from_hours(1)))
        .build()
        .expect("the defaults build");
    let end = Timestamp::now().after(std::time::Duration::from_hours(1));
    let sessions = runtime.block_on(async {
        let mut sessions = Vec::with_capacity(users);
        for number in 0..users {
            let mut token = OAuthToken::new();
            token.user_name = Some(name(number));
            token.access_token = AccessToken::new(format!("1000.access.{number}")).ok();
            token.refresh_token = RefreshToken::new(format!("1000.refresh.{number}")).ok();
            token.expiry_time = Some(end);
            let id = auth.store().save_token(&token).await.expect("saved");
            sessions.push(auth.session(id).await.expect("stored"));
        }
        sessions
    });
    (auth, sessions)
}

fn held_handle(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (_auth, sessions) = ready(&runtime, 1);
    let bare = ArcSwapOption::from_pointee(Timestamp::now().after(std::time::Duration::MAX));
    let mut group = criterion.benchmark_group("access_token/held handle/1");
    group.bench_function("ours", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { black_box(sessions[0].access_token().await) });
    });
    group.bench_function("baseline:ArcSwap and clock", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let value = bare.load_full();
            black_box(value.filter(|end| Timestamp::now() < **end))
        });
    });
    group.finish();
}

fn by_user(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (auth, _sessions) = ready(&runtime, USERS);
    let names: Vec<_> = (0..USERS).map(name).collect();
    let map: HashMap<UserName, Arc<Timestamp>> = names
        .iter()
        .map(|name| (name.clone(), Arc::new(Timestamp::now())))
        .collect();
    let map = RwLock::new(map);
    // A walk that jumps about, so that neither side lives on a warm cache.
    let step = 61_803;
    let mut group = criterion.benchmark_group(format!("access_token/by user/{USERS}"));
    let mut place = 0;
    group.bench_function("ours", |bencher| {
        bencher.iter(|| {
            place = (place + step) % USERS;
            let answer = auth.access_token(&names[place]);
            black_box(futures_util::FutureExt::now_or_never(answer))
        });
    });
    let mut place = 0;
    group.bench_function("baseline:map and lock", |bencher| {
        bencher.iter(|| {
            place = (place + step) % USERS;
            let map = map.read().expect("no panic");
            black_box(map.get(&names[place]).map(Arc::clone))
        });
    });
    group.finish();
}

criterion_group!(benches, held_handle, by_user);
criterion_main!(benches);
