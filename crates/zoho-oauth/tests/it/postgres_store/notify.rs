//! What one process hears of another's changes.

use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;
use zoho_oauth::store::Change;
use zoho_oauth::{AccessToken, PostgresStore, RefreshToken, TokenStore};

use super::support::{Own, PATIENCE, Schema, id, refreshed, server, token};

async fn next(changes: &mut Receiver<Change>) -> Change {
    timeout(PATIENCE, changes.recv()).await.unwrap().unwrap()
}

/// A store that listens already.
async fn listening(schema: &Schema) -> (PostgresStore, Receiver<Change>) {
    let store = schema.open().await;
    let mut changes = store.changes().unwrap();
    assert_eq!(
        next(&mut changes).await,
        Change::Missed,
        "it begins to listen"
    );
    (store, changes)
}

/// The connections that listen for the changes of a schema.
fn listeners(schema: &Schema, from: &str) -> String {
    // The channel is the fingerprint of both names; the connection says nothing but `LISTEN`.
    let channel = AccessToken::new(format!("{}.oauthtoken", schema.name)).unwrap();
    format!(
        "SELECT {from} FROM pg_stat_activity WHERE application_name = 'zoho-oauth' \
        AND query = 'LISTEN \"zoho_oauth_{}\"'",
        channel.fingerprint().as_str()
    )
}

#[tokio::test]
async fn deletes_and_new_refresh_tokens_are_told_and_access_tokens_are_not() {
    let schema = Schema::new().await;
    let (store, mut changes) = listening(&schema).await;
    let other = schema
        .builder()
        .without_notifications()
        .connect()
        .await
        .unwrap();
    assert!(other.changes().is_none());

    let ann = other.save_token(&token("ann")).await.unwrap();
    other.save_token(&refreshed("ann", 1)).await.unwrap();
    let mut login = refreshed("ann", 2);
    login.refresh_token = RefreshToken::new("1000.r.new").ok();
    other.save_token(&login).await.unwrap();
    assert_eq!(
        next(&mut changes).await,
        Change::Record(ann),
        "the login, and nothing before it"
    );

    let bob = other.save_token(&token("bob")).await.unwrap();
    assert!(!other.delete_token(id(77)).await.unwrap());
    assert!(other.delete_token(bob).await.unwrap());
    assert_eq!(next(&mut changes).await, Change::Record(bob));
    other.delete_tokens().await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Everything);

    // One's own changes come too, and every receiver hears them.
    let mut second = store.changes().unwrap();
    let cid = store.save_token(&token("cid")).await.unwrap();
    store.delete_token(cid).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Record(cid));
    assert_eq!(next(&mut second).await, Change::Record(cid));

    // Another table of the schema is another store.
    let neighbour = schema.builder().table("neighbour").connect().await.unwrap();
    neighbour.delete_tokens().await.unwrap();
    store.delete_tokens().await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Everything);
    assert!(changes.try_recv().is_err(), "the neighbour was heard");
    schema.drop().await;
}

#[tokio::test]
async fn records_that_become_one_are_told() {
    let schema = Schema::new().await;
    let (store, mut changes) = listening(&schema).await;
    let mut nameless = token("ann");
    nameless.user_name = None;
    let first = store.save_token(&token("ann")).await.unwrap();
    nameless.refresh_token = RefreshToken::new("1000.r.other").ok();
    nameless.access_token = None;
    nameless.expiry_time = None;
    let second = store.save_token(&nameless).await.unwrap();
    assert_ne!(first, second);
    let mut both = nameless.clone();
    both.user_name = token("ann").user_name;
    assert_eq!(store.save_token(&both).await.unwrap(), first);
    let told = [next(&mut changes).await, next(&mut changes).await];
    assert!(
        told.contains(&Change::Record(first)) && told.contains(&Change::Record(second)),
        "{told:?}"
    );
    assert!(store.find_token_by_id(second).await.unwrap().is_none());
    schema.drop().await;
}

#[tokio::test]
async fn a_connection_that_is_lost_is_made_again() {
    let schema = Schema::new().await;
    let (store, mut changes) = listening(&schema).await;
    for _ in 0..3 {
        let ended = schema
            .ask(&listeners(&schema, "pg_terminate_backend(pid)::text"))
            .await;
        assert_eq!(ended, ["true"]);
        assert_eq!(
            next(&mut changes).await,
            Change::Missed,
            "something may have been missed"
        );
        let ann = store.save_token(&token("ann")).await.unwrap();
        store.delete_token(ann).await.unwrap();
        assert_eq!(next(&mut changes).await, Change::Record(ann));
    }
    schema.drop().await;
}

#[tokio::test]
async fn listening_begins_with_the_first_receiver_and_ends_with_the_store() {
    let schema = Schema::new().await;
    let count = listeners(&schema, "count(*)::text");
    let idle = schema.open().await;
    assert_eq!(schema.ask(&count).await, ["0"]);
    let (store, mut changes) = listening(&schema).await;
    assert_eq!(schema.ask(&count).await, ["1"]);
    let clone = store.clone();
    drop(store);
    assert_eq!(schema.ask(&count).await, ["1"]);
    drop(clone);
    let ended = async {
        while schema.ask(&count).await != ["0"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
    timeout(PATIENCE, changes.recv())
        .await
        .unwrap()
        .unwrap_err();
    drop(idle);
    schema.drop().await;
}

#[tokio::test]
async fn behind_a_proxy_the_server_itself_is_listened_to() {
    let schema = Schema::new().await;
    let proxy = Own::proxy(&server());
    let direct = server().get_ports()[0];
    let store = schema
        .builder()
        .host("127.0.0.1")
        .port(proxy.port)
        .prepared_statements(false)
        .listen_on("127.0.0.1", direct)
        .connect()
        .await
        .unwrap();
    let mut changes = store.changes().unwrap();
    assert_eq!(next(&mut changes).await, Change::Missed);
    let ann = store.save_token(&token("ann")).await.unwrap();
    store.delete_token(ann).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Record(ann));
    drop(store);
    schema.drop().await;
}
