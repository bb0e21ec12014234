//! A cluster: all keys of a store in one slot, on the node that the cluster says.

use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::{RedisError, Value};
use zoho_oauth::store::{Change, CoordinationKey};
use zoho_oauth::{ErrorCode, RedisStore, TokenQuery, TokenStore};

use super::server::Server;
use super::{login, run, users};
use crate::support::user;

fn node() -> Server {
    Server::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"])
}

/// Waits until a node thinks that all slots are served.
async fn is_ready(connection: &mut ConnectionManager, nodes: usize) {
    loop {
        let mut command = redis::cmd("CLUSTER");
        let info: String = command.arg("INFO").query_async(connection).await.unwrap();
        let has = |line: String| info.lines().any(|found| found == line);
        if has("cluster_state:ok".to_owned()) && has(format!("cluster_known_nodes:{nodes}")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn word(connection: &mut ConnectionManager, words: &[&str]) -> String {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command.query_async(connection).await.unwrap()
}

/// Everything that has a script.
async fn everything(store: &RedisStore) {
    let ann = store.save_token(&login("ann", "1")).await.unwrap();
    let bob = store.save_token(&login("bob", "1")).await.unwrap();
    assert_eq!(store.save_token(&login("ann", "2")).await.unwrap(), ann);
    let query = TokenQuery::user_name(user("bob"));
    assert_eq!(
        store.find_token(&query).await.unwrap().unwrap().id,
        Some(bob)
    );
    assert_eq!(store.get_tokens().await.unwrap().len(), 2);
    let key = CoordinationKey::record(ann);
    let coordination = store.coordination().unwrap();
    let permit = coordination.try_acquire(&key).await.unwrap().unwrap();
    assert!(coordination.try_acquire(&key).await.unwrap().is_none());
    permit.release(None).await.unwrap();
    assert!(store.delete_token(ann).await.unwrap());
    assert_eq!(store.delete_tokens().await.unwrap(), 1);
}

#[tokio::test]
async fn a_node_of_a_cluster_takes_every_script() {
    let server = node();
    let mut connection = server.raw().await;
    run(&mut connection, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    is_ready(&mut connection, 1).await;
    for prefix in ["zoho_oauth", "another", "eu:portal"] {
        let store = server.builder().prefix(prefix).connect().await.unwrap();
        everything(&store).await;
    }
}

struct Two {
    servers: [Server; 2],
    connections: [ConnectionManager; 2],
    names: [String; 2],
    slot: String,
}

/// Two nodes; the first has all slots.
async fn two() -> Two {
    let servers = [node(), node()];
    let mut connections = [servers[0].raw().await, servers[1].raw().await];
    let [first, second] = &mut connections;
    run(first, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let port = servers[1].port.to_string();
    run(first, &["CLUSTER", "MEET", "127.0.0.1", &port]).await;
    is_ready(first, 2).await;
    is_ready(second, 2).await;
    let names = [
        word(first, &["CLUSTER", "MYID"]).await,
        word(second, &["CLUSTER", "MYID"]).await,
    ];
    let Value::Int(slot) = run(first, &["CLUSTER", "KEYSLOT", "{zoho_oauth}:store"]).await else {
        panic!("no slot");
    };
    Two {
        servers,
        connections,
        names,
        slot: slot.to_string(),
    }
}

#[tokio::test]
async fn the_store_follows_its_slot_and_never_sees_a_part_of_it() {
    let Two {
        servers,
        mut connections,
        names,
        slot,
    } = two().await;
    // It asks the wrong node, and is sent to the right one.
    let patient = servers[1].builder().retry_for(Duration::from_secs(30));
    let store = patient.connect().await.unwrap();
    everything(&store).await;
    let impatient = servers[0].builder().retry_for(Duration::from_millis(50));
    let impatient_store = impatient.connect().await.unwrap();
    let mut changes = store.changes().unwrap();
    assert_eq!(changes.recv().await.unwrap(), Change::Missed);
    let ann = store.save_token(&login("ann", "1")).await.unwrap();
    let bob = store.save_token(&login("bob", "1")).await.unwrap();
    assert!(store.delete_token(bob).await.unwrap());
    // What is told on one node is heard on the other, somewhat later.
    while changes.recv().await.unwrap() != Change::Record(bob) {}

    // The slot moves, key by key. Whatever is where: a call fails, or sees everything.
    let [first, second] = &mut connections;
    run(
        second,
        &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &names[0]],
    )
    .await;
    run(
        first,
        &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &names[1]],
    )
    .await;
    let mut list = redis::cmd("CLUSTER");
    list.arg("GETKEYSINSLOT").arg(&slot).arg(1000);
    let mut keys: Vec<String> = list.query_async(first).await.unwrap();
    // As long as this one stays, the first node runs the scripts.
    keys.sort_by_key(|key| key.ends_with(":store"));
    assert!(keys.len() > 6, "{keys:?}");
    let port = servers[1].port.to_string();
    let query = TokenQuery::user_name(user("ann"));
    // Whoever has the patience waits for the end of it.
    let saving = {
        let store = store.clone();
        tokio::spawn(async move { store.save_token(&login("dan", "1")).await })
    };
    for (moved, key) in keys.iter().enumerate() {
        for found in [
            impatient_store.find_token(&query).await,
            impatient_store.find_token_by_id(ann).await,
        ] {
            match found {
                Ok(found) => assert_eq!(found.unwrap().id, Some(ann), "{moved} moved"),
                Err(error) => assert_eq!(error.code(), ErrorCode::StoreUnavailable, "{error}"),
            }
        }
        if let Err(error) = impatient_store.save_token(&login("cid", "1")).await {
            assert_eq!(error.code(), ErrorCode::StoreUnavailable, "{error}");
        }
        let mut command = redis::cmd("MIGRATE");
        command
            .arg("127.0.0.1")
            .arg(&port)
            .arg(key)
            .arg(0)
            .arg(5000);
        let moved: Result<Value, RedisError> = command.query_async(first).await;
        moved.unwrap();
    }
    let patient = servers[1].builder().retry_for(Duration::from_secs(30));
    let connecting = tokio::spawn(patient.connect());
    // Notes that ended meanwhile, and what was saved while it moved.
    let rest: Vec<String> = list.query_async(first).await.unwrap();
    for key in rest {
        word(first, &["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]).await;
    }
    for connection in [&mut *second, &mut *first] {
        run(
            connection,
            &["CLUSTER", "SETSLOT", &slot, "NODE", &names[1]],
        )
        .await;
    }
    saving.await.unwrap().unwrap();
    connecting.await.unwrap().unwrap();
    store.save_token(&login("ann", "2")).await.unwrap();
    assert_eq!(
        store.find_token(&query).await.unwrap().unwrap().id,
        Some(ann)
    );
    store.save_token(&login("cid", "1")).await.unwrap();
    let mut found = users(&store).await.unwrap();
    found.sort();
    assert_eq!(found, ["ann", "cid", "dan"]);
    let moved = run(second, &["EXISTS", "{zoho_oauth}:store"]).await;
    assert_eq!(moved, Value::Int(1));
}

#[tokio::test]
async fn another_node_is_asked_when_the_first_is_gone() {
    let Two { mut servers, .. } = two().await;
    let store = RedisStore::builder()
        .port(servers[1].port)
        .node("127.0.0.1", servers[0].port)
        .connect()
        .await
        .unwrap();
    servers[1].kill();
    let id = store.save_token(&login("ann", "1")).await.unwrap();
    assert!(store.find_token_by_id(id).await.unwrap().is_some());
    let store = RedisStore::builder()
        .port(servers[1].port)
        .node("127.0.0.1", servers[0].port)
        .connect()
        .await
        .unwrap();
    assert_eq!(users(&store).await.unwrap(), ["ann"]);
}
