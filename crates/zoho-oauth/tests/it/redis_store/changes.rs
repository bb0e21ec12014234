//! What a store tells of the writes of others.

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use zoho_oauth::store::Change;
use zoho_oauth::{RefreshToken, TokenStore};

use super::server::Server;
use super::{builder, login, run, unique};

async fn next(changes: &mut Receiver<Change>) -> Change {
    let waiting = tokio::time::timeout(std::time::Duration::from_secs(20), changes.recv());
    waiting.await.expect("a change is told").unwrap()
}

#[tokio::test]
async fn deletes_and_new_refresh_tokens_are_told_to_others() {
    let prefix = unique();
    let one = builder(&prefix).connect().await.unwrap();
    let other = builder(&prefix).connect().await.unwrap();
    let mut changes = other.changes().unwrap();
    let mut more = other.clone().changes().unwrap();
    // It listens from now on, and does not know what was before.
    assert_eq!(next(&mut changes).await, Change::Missed);
    assert_eq!(next(&mut more).await, Change::Missed);

    let ann = one.save_token(&login("ann", "1")).await.unwrap();
    let bob = one.save_token(&login("bob", "1")).await.unwrap();
    // A new access token is no news: whoever holds the old one may use it to its end.
    one.save_token(&login("ann", "2")).await.unwrap();
    let mut again = login("ann", "3");
    again.refresh_token = RefreshToken::new("1000.refresh.new").ok();
    one.save_token(&again).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Record(ann));
    assert!(one.delete_token(bob).await.unwrap());
    assert_eq!(next(&mut changes).await, Change::Record(bob));
    assert_eq!(one.delete_tokens().await.unwrap(), 1);
    assert_eq!(next(&mut changes).await, Change::Everything);
    for change in [Change::Record(ann), Change::Record(bob), Change::Everything] {
        assert_eq!(next(&mut more).await, change);
    }
}

#[tokio::test]
async fn a_row_that_becomes_one_with_another_is_told() {
    let prefix = unique();
    let store = builder(&prefix).connect().await.unwrap();
    let mut changes = store.changes().unwrap();
    assert_eq!(next(&mut changes).await, Change::Missed);
    let mut nameless = login("ann", "1");
    nameless.user_name = None;
    let first = store.save_token(&login("ann", "1")).await.unwrap();
    nameless.refresh_token = RefreshToken::new("1000.refresh.other").ok();
    nameless.access_token = None;
    let second = store.save_token(&nameless).await.unwrap();
    nameless.user_name = login("ann", "1").user_name;
    assert_eq!(store.save_token(&nameless).await.unwrap(), first);
    let mut told = [next(&mut changes).await, next(&mut changes).await];
    told.sort_by_key(|change| *change != Change::Record(first));
    assert_eq!(told, [Change::Record(first), Change::Record(second)]);
}

#[tokio::test]
async fn after_a_lost_connection_anything_may_have_changed() {
    let mut server = Server::start(&[]);
    let store = server.builder().connect().await.unwrap();
    let mut changes = store.changes().unwrap();
    assert_eq!(next(&mut changes).await, Change::Missed);
    let mut connection = server.raw().await;
    run(&mut connection, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(next(&mut changes).await, Change::Missed);
    let id = store.save_token(&login("ann", "1")).await.unwrap();
    assert!(store.delete_token(id).await.unwrap());
    assert_eq!(next(&mut changes).await, Change::Record(id));
    server.kill();
    server.start_again();
    assert_eq!(next(&mut changes).await, Change::Missed);
}

#[tokio::test]
async fn it_ends_with_the_last_clone_of_the_store() {
    let server = Server::start(&[]);
    let store = server.builder().connect().await.unwrap();
    let clone = store.clone();
    let mut changes = store.changes().unwrap();
    assert_eq!(next(&mut changes).await, Change::Missed);
    drop(store);
    let id = clone.save_token(&login("ann", "1")).await.unwrap();
    assert!(clone.delete_token(id).await.unwrap());
    assert_eq!(next(&mut changes).await, Change::Record(id));
    drop(clone);
    assert_eq!(changes.recv().await, Err(RecvError::Closed));
    // And so do its connections.
    let mut connection = server.raw().await;
    let mut list = redis::cmd("CLIENT");
    list.arg("LIST");
    loop {
        let clients: String = list.query_async(&mut connection).await.unwrap();
        if clients.lines().count() == 1 {
            break;
        }
    }
}

#[test]
fn who_asks_after_the_runtime_ended_is_told_again() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let prefix = unique();
    let store = runtime().block_on(async {
        let store = builder(&prefix).connect().await.unwrap();
        assert_eq!(next(&mut store.changes().unwrap()).await, Change::Missed);
        store
    });
    runtime().block_on(async {
        let other = builder(&prefix).connect().await.unwrap();
        let mut changes = store.changes().unwrap();
        assert_eq!(next(&mut changes).await, Change::Missed);
        let id = other.save_token(&login("ann", "1")).await.unwrap();
        assert!(other.delete_token(id).await.unwrap());
        assert_eq!(next(&mut changes).await, Change::Record(id));
    });
}
