//! The ACL of `SECURITY.md`, on a server.

use std::time::{Duration, Instant};

use zoho_oauth::store::Change;
use zoho_oauth::store::redis::Persistence;
use zoho_oauth::{ErrorCode, RedisStore, Result, TokenStore};
use zoho_test_servers::Redis;

use crate::privileges::{block, everything};

const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(server: &Redis) -> Result<RedisStore> {
    let builder = RedisStore::builder().port(server.port());
    let builder = builder.user("portal").password("PASSWORD");
    builder.retry_for(Duration::ZERO).connect().await
}

fn told(server: &Redis, words: &[&str]) -> String {
    server.command(words).unwrap()
}

/// Waits until the server has refused this to somebody.
async fn refused(server: &Redis, what: &str) {
    let began = Instant::now();
    let line = |line: &str| line.trim_matches('"').eq_ignore_ascii_case(what);
    while !told(server, &["ACL", "LOG"]).lines().any(line) {
        assert!(began.elapsed() < PATIENCE, "{what} is not needed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn with_the_rules_that_the_handbook_names_everything_works_and_with_one_less_not() {
    let server = Redis::start().unwrap();
    let lines = block("text", "# Redis");
    let [line] = &lines[..] else {
        panic!("one line: {lines:?}");
    };
    let words: Vec<_> = line.split(' ').collect();
    told(&server, &words);
    let store = connect(&server).await.unwrap();
    assert_eq!(store.persistence(), Persistence::Always);
    let mut changes = store.changes().unwrap();
    let mut next = async || {
        let change = tokio::time::timeout(PATIENCE, changes.recv()).await;
        change.unwrap().unwrap()
    };
    assert_eq!(next().await, Change::Missed);
    everything(&store).await.unwrap();
    assert!(matches!(
        next().await,
        Change::Record(_) | Change::Everything
    ));
    // Nothing was refused, but what the driver tells of itself when it connects.
    let log = told(&server, &["ACL", "LOG"]);
    let refusals: Vec<_> = log.lines().filter(|line| line.contains("object")).collect();
    let driver = log.lines().filter(|line| line.contains("client|setinfo"));
    assert_eq!(refusals.len(), driver.count(), "{log}");
    drop(store);

    for word in &words {
        let Some(command) = word.strip_prefix('+') else {
            continue;
        };
        told(&server, &["ACL", "LOG", "RESET"]);
        told(&server, &["SCRIPT", "FLUSH"]);
        told(
            &server,
            &["ACL", "SETUSER", "portal", &format!("-{command}")],
        );
        let outcome = async {
            let store = connect(&server).await?;
            everything(&store).await?;
            Ok(store)
        };
        let outcome: Result<RedisStore> = outcome.await;
        match (command, outcome) {
            ("config|get", Ok(store)) => assert!(store.persistence() < Persistence::Always),
            ("publish", Ok(_)) => refused(&server, command).await,
            ("subscribe", Ok(store)) => {
                let _changes = store.changes();
                refused(&server, command).await;
            }
            // Asked on a connection on which nothing is told for ten seconds.
            // Without `INFO` the store warns that it cannot tell one history of the data from another.
            ("ping" | "info", Ok(_)) => {}
            (_, Ok(_)) => panic!("{command} is not needed"),
            (_, Err(error)) => {
                assert_eq!(
                    error.code(),
                    ErrorCode::StorePermission,
                    "{command} {error}"
                );
            }
        }
        told(&server, &["ACL", "SETUSER", "portal", word]);
    }

    told(&server, &["ACL", "LOG", "RESET"]);
    told(&server, &["ACL", "SETUSER", "portal", "resetchannels"]);
    everything(&connect(&server).await.unwrap()).await.unwrap();
    refused(&server, "{zoho_oauth}:changes:0").await;
    told(&server, &["ACL", "SETUSER", "portal", "resetkeys"]);
    let error = connect(&server).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
}
