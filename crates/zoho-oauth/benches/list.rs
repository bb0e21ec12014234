//! `ListStore`: one save and one look-up, which cost the same however many users there are.

use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use zoho_oauth::{
    AccessToken, ClientId, ListStore, OAuthToken, RefreshToken, TokenQuery, TokenStore, UserName,
};

const SIZES: [usize; 3] = [5_000, 20_000, 100_000];

fn token(number: usize, version: u64) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.user_name = UserName::new(format!("user{number}@example.com:600123{number:06}")).ok();
    token.client_id = ClientId::new("1000.0123456789ABCDEFGHIJKLMNOPQRST").ok();
    token.refresh_token = RefreshToken::new(format!("1000.{number:032x}.{number:032x}")).ok();
    token.access_token = AccessToken::new(format!("1000.{number:032x}.{version:032x}")).ok();
    token
}

fn list(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    for size in SIZES {
        let store = ListStore::new();
        let mut version = 0;
        let save = |number, version| {
            let saved = runtime.block_on(store.save_token(&token(number, version)));
            saved.expect("saved")
        };
        for number in 0..size {
            save(number, version);
        }
        criterion
            .benchmark_group(format!("list/save/{size}"))
            .sample_size(10)
            .bench_function("ours", |bencher| {
                bencher.iter(|| {
                    version += 1;
                    save(size / 2, version)
                });
            });
        let query = TokenQuery::user_name(token(size / 2, 0).user_name.expect("named"));
        criterion
            .benchmark_group(format!("list/find by user/{size}"))
            .sample_size(10)
            .bench_function("ours", |bencher| {
                bencher.iter(|| runtime.block_on(store.find_token(&query)).expect("found"));
            });
    }
}

criterion_group!(benches, list);
criterion_main!(benches);
