//! Connections that break, servers that go and come back, callers that go away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, Pool};
use tokio::task::JoinSet;
use tokio_postgres::{Config, NoTls};
use zoho_oauth::store::CoordinationKey;
use zoho_oauth::{AccessToken, ErrorCode, PostgresStore, RefreshToken, TokenStore};

use super::secrecy::own_server;
use super::support::{
    Own, PATIENCE, Schema, by_user, connect, id, leading_to, refreshed, server, token,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_leave_nothing_half_done() {
    let schema = Schema::new().await;
    let store = schema.builder().pool_size(1).connect().await.unwrap();
    let ann = store.save_token(&token("ann")).await.unwrap();
    for turn in 0..300 {
        let store = store.clone();
        let call = async move {
            match turn % 5 {
                0 => drop(store.save_token(&refreshed("ann", turn)).await.unwrap()),
                1 => drop(
                    store
                        .save_token(&token(&format!("guest {turn}")))
                        .await
                        .unwrap(),
                ),
                2 => drop(store.find_token(&by_user("ann")).await.unwrap()),
                3 => drop(store.delete_token(id(turn as u64)).await.unwrap()),
                _ => {
                    let key = CoordinationKey::record(id(9999));
                    drop(
                        store
                            .coordination()
                            .unwrap()
                            .try_acquire(&key)
                            .await
                            .unwrap(),
                    );
                }
            }
        };
        let delay = Duration::from_micros(fastrand::u64(0..2000));
        // Whether it was in time does not matter.
        drop(tokio::time::timeout(delay, call).await);
    }
    let mut last = refreshed("ann", 1000);
    last.id = Some(ann);
    let began = Instant::now();
    loop {
        store.save_token(&last).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let stored = store.find_token(&by_user("ann")).await.unwrap();
        if stored.as_ref() == Some(&last) {
            break;
        }
        // A save whose caller went away goes on, and may come after this one.
        assert!(began.elapsed() < PATIENCE, "{stored:?}");
    }
    for row in store.get_tokens().await.unwrap() {
        let name = row.user_name.clone().unwrap();
        if row.id != Some(ann) {
            let mut expected = token(name.as_str());
            expected.id = row.id;
            assert_eq!(row, expected);
        }
    }
    schema.drop().await;
}

/// Ends the connections of a store at the server, again and again.
async fn end_connections(schema: &Schema, name: &str) -> u64 {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE application_name = $1 AND pid <> pg_backend_pid()";
    schema.base.query(sql, &[&name]).await.unwrap().len() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_break_are_not_noticed() {
    let schema = Schema::new().await;
    let name = format!("app {}", schema.name);
    let mut config = server();
    config.application_name(&name);
    let manager = Manager::new(config, NoTls);
    let pool = Pool::builder(manager).max_size(4).build();
    let patient = schema.builder().patience(Duration::from_mins(1));
    let store = patient.connect_with(pool.unwrap()).await.unwrap();

    let over = Arc::new(AtomicBool::new(false));
    let saves = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for worker in 0..4 {
        let (store, over, saves) = (store.clone(), over.clone(), saves.clone());
        workers.spawn(async move {
            let name = format!("user {worker}");
            let ours = store.save_token(&token(&name)).await.unwrap();
            let mut turn = 0;
            while !over.load(Ordering::Relaxed) {
                turn += 1;
                let mut expected = refreshed(&name, turn);
                if turn % 3 == 0 {
                    expected.refresh_token = RefreshToken::new(format!("{name} {turn}")).ok();
                }
                assert_eq!(store.save_token(&expected).await.unwrap(), ours);
                expected.id = Some(ours);
                assert_eq!(
                    store.find_token(&by_user(&name)).await.unwrap(),
                    Some(expected)
                );
                let guest = format!("guest {worker} {turn}");
                let saved = store.save_token(&token(&guest)).await.unwrap();
                assert!(store.delete_token(saved).await.unwrap(), "it was there");
                let key = CoordinationKey::record(saved);
                let permit = store
                    .coordination()
                    .unwrap()
                    .try_acquire(&key)
                    .await
                    .unwrap();
                permit.unwrap().release(None).await.unwrap();
                saves.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut ended = 0;
    while ended < 60 || saves.load(Ordering::Relaxed) < 40 {
        assert!(workers.try_join_next().is_none(), "a worker ended");
        // At any point of what they do.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..60))).await;
        ended += end_connections(&schema, &name).await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    // One of each, and no guest.
    assert_eq!(store.get_tokens().await.unwrap().len(), 4);
    drop(store);
    schema.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_restarts_is_waited_for() {
    let (mut server, builder) = own_server();
    let store = builder
        .without_notifications()
        .patience(Duration::from_mins(1))
        .connect()
        .await
        .unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let turns = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for worker in 0..3 {
        let (store, over, turns) = (store.clone(), over.clone(), turns.clone());
        workers.spawn(async move {
            let name = format!("user {worker}");
            let mut turn = 0;
            while !over.load(Ordering::Relaxed) {
                turn += 1;
                let mut saved = refreshed(&name, turn);
                saved.id = Some(store.save_token(&saved).await.unwrap());
                assert_eq!(
                    store.find_token(&by_user(&name)).await.unwrap(),
                    Some(saved)
                );
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for restarts in 1..=3 {
        while turns.load(Ordering::Relaxed) < restarts * 30 {
            assert!(workers.try_join_next().is_none(), "a worker ended");
            tokio::task::yield_now().await;
        }
        server = tokio::task::spawn_blocking(move || {
            server.tell("stop");
            server.tell("start");
            server
        })
        .await
        .unwrap();
    }
    over.store(true, Ordering::Relaxed);
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    assert_eq!(store.get_tokens().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_after_a_while() {
    let (mut server, builder) = own_server();
    let store = builder
        .clone()
        .without_notifications()
        .patience(Duration::from_millis(100))
        .connect()
        .await
        .unwrap();
    store.save_token(&token("ann")).await.unwrap();
    server.tell("stop");
    let error = store.find_token(&by_user("ann")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert!(error.is_transient());
    let error = store.save_token(&refreshed("ann", 1)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    let error = builder
        .patience(Duration::ZERO)
        .connect()
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert!(
        error.message().contains(&server.port.to_string()),
        "{error}"
    );

    server.tell("start");
    let found = store.find_token(&by_user("ann")).await.unwrap().unwrap();
    assert_eq!(found.access_token, token("ann").access_token);
}

#[tokio::test]
async fn a_statement_that_waits_too_long_is_ended_at_the_server_too() {
    let schema = Schema::new().await;
    let store = schema
        .builder()
        .pool_size(1)
        .timeout(Duration::from_secs(1))
        .patience(Duration::ZERO)
        .connect()
        .await
        .unwrap();
    let ann = store.save_token(&token("ann")).await.unwrap();
    schema
        .run("BEGIN; SELECT 1 FROM oauthtoken WHERE user_name = 'ann' FOR UPDATE")
        .await;
    let error = store.save_token(&refreshed("ann", 1)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable, "{error}");
    // The only connection was closed; reads, which wait for nobody, get another one.
    let found = store.find_token(&by_user("ann")).await.unwrap().unwrap();
    assert_eq!(found.access_token, token("ann").access_token);
    // Nobody waits for the row any more, so nothing happens when it is free.
    let waiting = format!(
        "SELECT pid::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
        AND query LIKE '%{}%' AND pid <> pg_backend_pid()",
        schema.name
    );
    while !schema.ask(&waiting).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    schema.run("COMMIT").await;
    let found = store.find_token_by_id(ann).await.unwrap().unwrap();
    assert_eq!(found.access_token, token("ann").access_token);
    store.save_token(&refreshed("ann", 2)).await.unwrap();
    schema.drop().await;
}

/// Through a pool of the application, with two connections, nobody can be asked to stop.
async fn lent(schema: &Schema, config: Config) -> PostgresStore {
    let pool = Pool::builder(Manager::new(config, NoTls)).max_size(2);
    schema
        .builder()
        .timeout(Duration::from_secs(1))
        .patience(Duration::ZERO)
        .connect_with(pool.build().unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_connection_on_which_a_statement_waits_is_not_used_again() {
    let schema = Schema::new().await;
    schema.open().await.save_token(&token("ann")).await.unwrap();
    let store = lent(&schema, server()).await;
    schema
        .run("BEGIN; SELECT 1 FROM oauthtoken WHERE user_name = 'ann' FOR UPDATE")
        .await;
    store.save_token(&refreshed("ann", 1)).await.unwrap_err();
    let found = store.find_token(&by_user("ann")).await.unwrap().unwrap();
    assert_eq!(found.access_token, token("ann").access_token);
    // The one that was given up is done now; what is saved after it stays.
    schema.run("COMMIT").await;
    let mut last = refreshed("ann", 2);
    last.id = Some(store.save_token(&last).await.unwrap());
    assert_eq!(store.find_token(&by_user("ann")).await.unwrap(), Some(last));
    schema.drop().await;
}

/// The application said how many connections it wants at most, and a server has room for so many.
#[tokio::test]
async fn a_server_that_does_not_answer_gets_no_more_than_twice_the_connections_of_the_pool() {
    let schema = Schema::new().await;
    schema.open().await.save_token(&token("ann")).await.unwrap();
    let name = format!("app {}", schema.name);
    let mut config = server();
    config.application_name(&name);
    let store = lent(&schema, config).await;
    schema
        .run("BEGIN; LOCK TABLE oauthtoken IN ACCESS EXCLUSIVE MODE")
        .await;
    for _ in 0..7 {
        let error = store.find_token(&by_user("ann")).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreUnavailable, "{error}");
    }
    let sessions = format!(
        "SELECT pid::text FROM pg_stat_activity WHERE application_name = '{name}' \
        AND state = 'active'"
    );
    assert_eq!(schema.ask(&sessions).await.len(), 4);
    schema.run("COMMIT").await;
    // They are answered now, and closed; there is room again.
    let again = async {
        while let Err(error) = store.find_token(&by_user("ann")).await {
            assert_eq!(error.code(), ErrorCode::StoreUnavailable, "{error}");
        }
        while !schema.ask(&sessions).await.is_empty() {}
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    schema.drop().await;
}

#[tokio::test]
async fn a_standby_can_be_read_and_says_what_it_is() {
    let schema = Schema::new().await;
    let writable = schema.open().await;
    writable.save_token(&token("ann")).await.unwrap();
    let mut config = server();
    config.options("-c default_transaction_read_only=on");
    let manager = Manager::new(config, NoTls);
    let pool = Pool::builder(manager).build().unwrap();
    let builder = schema.builder().patience(Duration::from_millis(50));
    let store = builder.connect_with(pool).await.unwrap();
    assert!(store.find_token(&by_user("ann")).await.unwrap().is_some());
    for error in [
        store.save_token(&token("bob")).await.unwrap_err(),
        store.save_token(&refreshed("ann", 1)).await.unwrap_err(),
        store.delete_token(id(1)).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::StoreUnavailable);
        assert!(error.message().contains("read-only"), "{error}");
    }
    schema.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_isolates_strictly_is_asked_again() {
    let schema = Schema::new().await;
    let mut config = server();
    config.options("-c default_transaction_isolation=serializable");
    let manager = Manager::new(config, NoTls);
    let pool = Pool::builder(manager).max_size(8).build();
    let store = schema.builder().connect_with(pool.unwrap()).await.unwrap();
    let mut workers = JoinSet::new();
    for worker in 0..8 {
        let store = store.clone();
        workers.spawn(async move {
            for turn in 0..10 {
                store
                    .save_token(&refreshed("shared", worker * 100 + turn))
                    .await
                    .unwrap();
                let own = token(&format!("own {worker} {turn}"));
                let saved = store.save_token(&own).await.unwrap();
                if turn % 2 == 0 {
                    assert!(store.delete_token(saved).await.unwrap());
                }
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    assert_eq!(store.get_tokens().await.unwrap().len(), 41);
    drop(store);
    schema.drop().await;
}

#[tokio::test]
async fn prepared_statements_behind_a_proxy_are_said() {
    let schema = Schema::new().await;
    let proxy = Own::proxy(&server());
    let builder = || schema.builder().host("127.0.0.1").port(proxy.port);
    schema.open().await;
    let prepared = builder().without_notifications().connect().await.unwrap();
    prepared.find_token(&by_user("ann")).await.unwrap();
    // Somebody else is on the connection on which the statement was prepared.
    let mut through = Config::new();
    through.host("127.0.0.1").port(proxy.port);
    through
        .user(server().get_user().unwrap())
        .dbname(server().get_dbname().unwrap());
    let other = connect(&through).await;
    other.batch_execute("BEGIN").await.unwrap();
    let error = prepared.find_token(&by_user("ann")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unsupported, "{error}");
    assert!(
        error.message().contains("prepared_statements(false)"),
        "{error}"
    );

    let store = builder()
        .prepared_statements(false)
        .connect()
        .await
        .unwrap();
    assert!(store.changes().is_none(), "a proxy tells of no changes");
    let mut long = token("ann");
    long.access_token = AccessToken::new("a".repeat(100_000)).ok();
    let saved = store.save_token(&long).await.unwrap();
    assert!(store.delete_token(saved).await.unwrap());
    drop((store, prepared, other));
    schema.drop().await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_said() {
    let error = leading_to(&server())
        .database("no_such_database")
        .connect()
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput, "{error}");
    assert!(error.message().contains("no_such_database"), "{error}");
}
