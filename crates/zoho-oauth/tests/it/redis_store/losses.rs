//! Writes that a server acknowledged and lost: in a crash, or since a replica took its place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::Value;
use redis::aio::ConnectionManager;
use zoho_oauth::store::copy;
use zoho_oauth::{ErrorCode, ListStore, RedisStore, Result, TokenId, TokenQuery, TokenStore};

use super::server::Server;
use super::{builder, login, run, shared, unique, users};
use crate::support::user;

/// The file that every write is added to.
fn appended(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder.join("appendonlydir")).unwrap();
    let mut paths = files.map(|entry| entry.unwrap().path());
    let is_appended = |path: &PathBuf| path.to_string_lossy().contains(".incr.");
    paths.find(is_appended).unwrap()
}

/// A crash of the machine: what was written to the file after `length` never came to the disk.
async fn crash(server: &mut Server, length: u64) -> RedisStore {
    server.kill();
    let path = appended(server.folder.path());
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
    server.start_again();
    server.builder().connect().await.unwrap()
}

async fn saved(store: &RedisStore, user: &str) -> TokenId {
    store.save_token(&login(user, "1")).await.unwrap()
}

/// The number that every insert and delete moves.
async fn writes(server: &Server) -> u64 {
    let mut connection = server.raw().await;
    let words = ["HGET", "{zoho_oauth}:store", "writes"];
    match run(&mut connection, &words).await {
        Value::BulkString(text) => String::from_utf8(text).unwrap().parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_id_that_a_crash_took_is_not_given_again() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = server.builder().connect().await.unwrap();
    assert_eq!(saved(&store, "ann").await.get(), 1);
    let length = appended(server.folder.path()).metadata().unwrap().len();

    // A crash loses what was saved last. Then another, which loses what came after the first.
    let mut given = vec![saved(&store, "eve").await];
    let mut moved = vec![writes(&server).await];
    for name in ["bob", "cid"] {
        let store = crash(&mut server, length).await;
        assert_eq!(users(&store).await.unwrap(), ["ann"]);
        let id = saved(&store, name).await;
        assert!(!given.contains(&id), "{name} has an id of {given:?}");
        given.push(id);
        // Nobody takes the mark for one that was read before the crash.
        let now = writes(&server).await;
        assert!(!moved.contains(&now), "{moved:?}");
        moved.push(now);
        // What follows follows.
        assert_eq!(saved(&store, "dan").await.get(), id.get() + 1);
    }
}

/// Makes a server a replica, and waits until it has all that the other has.
async fn follow(replica: &mut ConnectionManager, primary: &Server) {
    run(
        replica,
        &["REPLICAOF", "127.0.0.1", &primary.port.to_string()],
    )
    .await;
    loop {
        let mut command = redis::cmd("INFO");
        let command = command.arg("replication");
        let info: String = command.query_async(replica).await.unwrap();
        if info.contains("master_link_status:up") {
            return;
        }
    }
}

#[tokio::test]
async fn an_id_that_a_fail_over_took_is_not_given_again() {
    let servers = [0, 1].map(|_| Server::start(&["--repl-diskless-sync-delay", "0"]));
    let [first, second] = &servers;
    let mut links = [first.raw().await, second.raw().await];
    let store = first.builder().connect().await.unwrap();
    saved(&store, "ann").await;
    follow(&mut links[1], first).await;

    // The replica takes over without the last login.
    run(&mut links[1], &["REPLICAOF", "NO", "ONE"]).await;
    let eve = saved(&store, "eve").await;
    // The old primary comes back as a replica, and takes over again before anything was saved.
    follow(&mut links[0], second).await;
    run(&mut links[0], &["REPLICAOF", "NO", "ONE"]).await;
    for server in &servers {
        let store = server.builder().connect().await.unwrap();
        assert_eq!(users(&store).await.unwrap(), ["ann"]);
        assert_ne!(saved(&store, "bob").await, eve);
    }
}

#[tokio::test]
async fn the_last_id_is_not_passed() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = server.builder().connect().await.unwrap();
    let mut last = login("ann", "1");
    last.id = TokenId::new(TokenId::MAX.get() - 1).ok();
    store.save_token(&last).await.unwrap();
    let length = appended(server.folder.path()).metadata().unwrap().len();
    let store = crash(&mut server, length).await;
    // There is no telling whether the one id that is left was given.
    let error = store.save_token(&login("bob", "1")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::IdsExhausted);
    assert_eq!(users(&store).await.unwrap(), ["ann"]);
}

/// Says that a write was done and no replica has it.
fn is_alone<T: std::fmt::Debug>(outcome: Result<T>) {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert!(error.message().contains("0 of 1 replicas"), "{error}");
}

#[tokio::test]
async fn what_no_replica_has_is_not_acknowledged_when_it_is_asked_for_again() {
    let [primary, replica] = [0, 1].map(|_| Server::start(&["--repl-diskless-sync-delay", "0"]));
    let mut link = replica.raw().await;
    follow(&mut link, &primary).await;
    let patient = primary
        .builder()
        .wait_replicas(1, Duration::from_secs(20))
        .connect()
        .await
        .unwrap();
    let hasty = loop {
        let hasty = primary
            .builder()
            .wait_replicas(1, Duration::from_millis(20));
        if let Ok(store) = hasty.connect().await {
            break store;
        }
    };
    saved(&patient, "ann").await;
    let bob = saved(&patient, "bob").await;

    run(&mut link, &["REPLICAOF", "NO", "ONE"]).await;
    // The second time there is nothing left to change.
    for _ in 0..2 {
        is_alone(hasty.save_token(&login("ann", "2")).await);
    }
    for _ in 0..2 {
        is_alone(hasty.save_token(&login("cid", "1")).await);
    }
    for _ in 0..2 {
        is_alone(hasty.delete_token(bob).await);
    }
    follow(&mut link, &primary).await;
    saved(&patient, "ann").await;
    assert!(!patient.delete_token(bob).await.unwrap());
    assert_eq!(users(&patient).await.unwrap(), ["ann", "cid"]);

    run(&mut link, &["REPLICAOF", "NO", "ONE"]).await;
    for _ in 0..2 {
        is_alone(hasty.delete_tokens().await);
    }
    follow(&mut link, &primary).await;
    assert_eq!(patient.delete_tokens().await.unwrap(), 0);
}

#[tokio::test]
async fn what_changes_nothing_is_told_to_replicas_all_the_same() {
    // Later versions count only replicas that have what this connection wrote: nothing written,
    // nothing waited for.
    let [primary, replica] = [0, 1].map(|_| Server::start(&["--repl-diskless-sync-delay", "0"]));
    let mut links = [primary.raw().await, replica.raw().await];
    follow(&mut links[1], &primary).await;
    let store = primary
        .builder()
        .wait_replicas(1, Duration::from_secs(20))
        .connect()
        .await
        .unwrap();
    saved(&store, "ann").await;
    let told = "{zoho_oauth}:told";
    for round in 0..3 {
        run(&mut links[0], &["DEL", told]).await;
        match round {
            0 => drop(saved(&store, "ann").await),
            1 => assert!(!store.delete_token(TokenId::MAX).await.unwrap()),
            _ => {
                // As if a clear were sent once more.
                assert_eq!(store.delete_tokens().await.unwrap(), 1);
                run(&mut links[0], &["DEL", told]).await;
                assert_eq!(store.delete_tokens().await.unwrap(), 0);
            }
        }
        let is_told = run(&mut links[1], &["EXISTS", told]).await;
        assert_eq!(is_told, Value::Int(1), "{round}");
    }
}

/// A store with two logins, and what can take single keys away, as a server that evicts does.
async fn two_logins() -> (String, RedisStore, ConnectionManager) {
    let prefix = unique();
    let store = builder(&prefix).connect().await.unwrap();
    for name in ["ann", "bob"] {
        saved(&store, name).await;
    }
    (prefix, store, shared().await)
}

#[track_caller]
fn is_damaged<T: std::fmt::Debug>(outcome: Result<T>, named: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged, "{error:?}");
    assert!(error.message().contains(named), "{error}");
}

/// It took twenty seconds, and then `store_locked` told of a process that was not there.
#[tokio::test]
async fn without_the_key_that_describes_the_store_nothing_begins_anew() {
    let (prefix, store, mut connection) = two_logins().await;
    let before = store.get_tokens().await.unwrap();
    run(&mut connection, &["DEL", &format!("{{{prefix}}}:store")]).await;
    let named = "lost the key `…:store`";
    is_damaged(store.get_tokens().await, named);
    is_damaged(store.save_token(&login("kim", "1")).await, named);
    is_damaged(store.save_token(&login("ann", "2")).await, named);
    is_damaged(
        store.find_token(&TokenQuery::user_name(user("ann"))).await,
        named,
    );
    is_damaged(store.delete_tokens().await, named);
    is_damaged(store.inventory().await, named);
    is_damaged(copy(&store, &ListStore::new()).await, named);
    is_damaged(builder(&prefix).connect().await, named);
    is_damaged(builder(&prefix).connect_existing().await, named);

    // As the troubleshooting page says.
    let mut words = vec!["HSET".to_owned(), format!("{{{prefix}}}:store")];
    let fields = "format 1 generation 1 highest_id 2 writes 1000000 count 2";
    words.extend(fields.split(' ').map(str::to_owned));
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    run(&mut connection, &words).await;
    let store = builder(&prefix).connect().await.unwrap();
    assert_eq!(store.get_tokens().await.unwrap(), before);
    assert!(saved(&store, "kim").await.get() > 2);
}

#[tokio::test]
async fn without_the_list_of_ids_no_list_is_empty_and_no_copy_complete() {
    let (prefix, store, mut connection) = two_logins().await;
    let ids = format!("{{{prefix}}}:1:ids");
    run(&mut connection, &["DEL", &ids]).await;
    let named = "lost ids of records";
    is_damaged(store.get_tokens().await, named);
    is_damaged(store.get_tokens_page(None, 1).await, named);
    is_damaged(store.inventory().await, named);
    is_damaged(copy(&store, &ListStore::new()).await, named);
    is_damaged(store.delete_tokens().await, named);
    is_damaged(builder(&prefix).connect().await, named);
    is_damaged(builder(&prefix).connect_existing().await, named);
    // What needs no list works.
    let ann = store.find_token(&TokenQuery::user_name(user("ann"))).await;
    assert_eq!(ann.unwrap().unwrap().id, TokenId::new(1).ok());
    assert_eq!(store.save_token(&login("ann", "2")).await.unwrap().get(), 1);
    // One that is missing is as bad as all.
    run(&mut connection, &["ZADD", &ids, "2", "2"]).await;
    is_damaged(store.get_tokens().await, named);
    run(&mut connection, &["ZADD", &ids, "1", "1"]).await;
    assert_eq!(users(&store).await.unwrap(), ["ann", "bob"]);
}

#[tokio::test]
async fn a_number_below_the_ids_that_are_stored_is_damage_and_no_lock() {
    let (prefix, store, mut connection) = two_logins().await;
    let key = format!("{{{prefix}}}:store");
    run(&mut connection, &["HSET", &key, "highest_id", "0"]).await;
    is_damaged(store.save_token(&login("kim", "1")).await, "`highest_id`");
    assert_eq!(users(&store).await.unwrap(), ["ann", "bob"]);
}

#[tokio::test]
async fn a_record_whose_key_is_lost_is_named_and_a_new_login_takes_its_place() {
    let (prefix, store, mut connection) = two_logins().await;
    let ann = TokenId::new(1).unwrap();
    run(
        &mut connection,
        &["DEL", &format!("{{{prefix}}}:1:token:1")],
    )
    .await;
    let query = TokenQuery::user_name(user("ann"));
    let named = "record 1: its key is gone";
    is_damaged(store.find_token_by_id(ann).await, named);
    is_damaged(store.find_token(&query).await, named);
    assert_eq!(users(&store).await.unwrap(), ["bob"]);
    let report = copy(&store, &ListStore::new()).await.unwrap();
    assert!(!report.is_complete());
    assert_eq!((report.read, report.source.records), (1, Some(2)));
    assert!(report.source.unreadable[0].contains(named), "{report}");

    // The person logs in again; what was lost is then taken away.
    let new = saved(&store, "ann").await;
    assert_eq!(new.get(), 3);
    assert_eq!(
        store.find_token(&query).await.unwrap().unwrap().id,
        Some(new)
    );
    assert!(store.delete_token(ann).await.unwrap());
    assert!(!store.delete_token(ann).await.unwrap());
    assert_eq!(store.find_token_by_id(ann).await.unwrap(), None);
    let report = copy(&store, &ListStore::new()).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert!(builder(&prefix).connect().await.is_ok());
}

#[tokio::test]
async fn an_index_that_is_lost_comes_back_with_the_next_save() {
    let (prefix, store, mut connection) = two_logins().await;
    let all = super::keys(&mut connection, &prefix).await;
    let indexes = all.iter().filter(|key| key.contains(":1:user:"));
    for key in indexes {
        run(&mut connection, &["DEL", key]).await;
    }
    let query = TokenQuery::user_name(user("ann"));
    assert_eq!(store.find_token(&query).await.unwrap(), None);
    let mut refreshed = login("ann", "2");
    refreshed.id = TokenId::new(1).ok();
    store.save_token(&refreshed).await.unwrap();
    assert!(store.find_token(&query).await.unwrap().is_some());
}

/// What no script needs to find a record can go without harm.
#[tokio::test]
async fn the_other_keys_are_made_again() {
    let (prefix, store, mut connection) = two_logins().await;
    for key in ["twin", "told", "cleared", "1:cell:id:1"] {
        run(&mut connection, &["DEL", &format!("{{{prefix}}}:{key}")]).await;
    }
    let store = builder(&prefix).connect().await.map(|_| store).unwrap();
    assert_eq!(users(&store).await.unwrap(), ["ann", "bob"]);
    assert_eq!(store.delete_tokens().await.unwrap(), 2);
    assert_eq!(saved(&store, "kim").await.get(), 3);
    run(&mut connection, &["DEL", &format!("{{{prefix}}}:store")]).await;
    is_damaged(store.get_tokens().await, "lost the key `…:store`");
}
