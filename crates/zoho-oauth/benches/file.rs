//! The token file: one save, beside writing a file of the same size the same careful way.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use tempfile::{NamedTempFile, TempDir};
use tokio::runtime::Runtime;
use zoho_oauth::{
    AccessToken, ClientId, ClientSecret, FileStore, OAuthToken, RefreshToken, Timestamp,
    TokenQuery, TokenStore, UserName,
};

const SIZES: [usize; 3] = [10, 1_000, 10_000];

fn token(number: usize, version: u64) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.user_name = UserName::new(format!("user{number}@example.com:600123{number:06}")).ok();
    token.client_id = ClientId::new("1000.0123456789ABCDEFGHIJKLMNOPQRST").ok();
    token.client_secret = ClientSecret::new("0123456789abcdef0123456789abcdef01234567").ok();
    let secret = |kind: u8| format!("1000.{kind:032x}.{version:016x}{number:016x}");
    token.refresh_token = RefreshToken::new(secret(1)).ok();
    token.access_token = AccessToken::new(secret(2)).ok();
    token.expiry_time = Some(Timestamp::from_millis(1_795_372_876_984));
    token.api_domain = Some("https://www.zohoapis.eu".into());
    token
}

/// A token file with `size` records, made in one write.
fn filled(runtime: &Runtime, size: usize) -> (TempDir, FileStore) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(FileStore::DEFAULT_NAME);
    let mut text = format!("{}\r\n", OAuthToken::FIELDS.join(","));
    for number in 0..size {
        let mut row = token(number, 0);
        row.id = zoho_oauth::TokenId::new(number as u64 + 1).ok();
        let fields = row.expose_fields().map(Option::unwrap_or_default);
        text.push_str(&fields.join(","));
        text.push_str("\r\n");
    }
    std::fs::write(&path, text).expect("written");
    let store = runtime.block_on(FileStore::open(path)).expect("opened");
    (folder, store)
}

/// What any careful program does to replace a file, and nothing else.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().expect("a file is in a folder");
    let mut new = NamedTempFile::new_in(folder)?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    File::open(folder)?.sync_all()
}

fn save(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    for size in SIZES {
        let (folder, store) = filled(&runtime, size);
        let bytes = std::fs::read(store.path()).expect("readable");
        let mut group = criterion.benchmark_group(format!("file/save/{size}"));
        group.sample_size(10);
        let mut version = 0;
        group.bench_function("ours", |bencher| {
            bencher.iter(|| {
                version += 1;
                let token = token(size / 2, version);
                runtime.block_on(store.save_token(&token)).expect("saved")
            });
        });
        let beside = folder.path().join("beside");
        group.bench_function("baseline:read and replace", |bencher| {
            bencher.iter(|| {
                let read = std::fs::read(store.path()).expect("readable");
                assert_eq!(read.len(), bytes.len());
                replace(&beside, &read).expect("replaced");
            });
        });
        group.finish();
    }
}

fn find(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    for size in SIZES {
        let (_folder, store) = filled(&runtime, size);
        let query = TokenQuery::user_name(token(size / 2, 0).user_name.expect("named"));
        let mut group = criterion.benchmark_group(format!("file/find by user/{size}"));
        group.sample_size(10);
        group.bench_function("ours", |bencher| {
            bencher.iter(|| {
                let found = runtime.block_on(store.find_token(&query));
                found.expect("read").expect("found")
            });
        });
        group.bench_function("baseline:read the file", |bencher| {
            bencher.iter(|| std::fs::read(store.path()).expect("readable"));
        });
        group.finish();
    }
}

criterion_group!(benches, save, find);
criterion_main!(benches);
