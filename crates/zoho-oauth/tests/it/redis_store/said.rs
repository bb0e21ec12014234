//! What people read of this store in `docs/troubleshooting.md`, held to a server.

use std::time::Duration;

use zoho_oauth::{Error, ErrorCode, TokenStore};

use super::login;
use super::run;
use super::server::Server;

/// Each code and what is said, of a server at `redis.example.com:6379`. Quoted in the handbook.
pub(crate) const SAID: [(ErrorCode, &str); 10] = [
    (
        ErrorCode::StoreUnavailable,
        "Redis at `redis.example.com:1` cannot be reached",
    ),
    (
        ErrorCode::StorePermission,
        "Redis at `redis.example.com:6379` did not take the password",
    ),
    (
        ErrorCode::StorePermission,
        "Redis at `redis.example.com:6379` does not let this user in, or not do what a store needs",
    ),
    (
        ErrorCode::StoreFull,
        "Redis at `redis.example.com:6379` has no memory left (`maxmemory`)",
    ),
    (
        ErrorCode::StoreDamaged,
        "Redis at `redis.example.com:6379`, prefix `zoho_oauth`, record 1: the field \
        `expiry_time` cannot be read",
    ),
    (
        ErrorCode::StoreForeign,
        "Redis at `redis.example.com:6379` has a key of another kind under the prefix",
    ),
    (
        ErrorCode::StoreDamaged,
        "Redis at `redis.example.com:6379`, prefix `zoho_oauth`, record 1: its key is gone, evicted \
        or deleted by hand",
    ),
    (
        ErrorCode::StoreDamaged,
        "Redis at `redis.example.com:6379` lost ids of records: the key `…:ids` has not as many as \
        were saved",
    ),
    (
        ErrorCode::StoreDamaged,
        "Redis at `redis.example.com:6379` has records of a store, and lost the key `…:store` that \
        describes it",
    ),
    (
        ErrorCode::StoreForeign,
        "the keys with the prefix `prices` of Redis at `redis.example.com:6379` are not ours",
    ),
];

#[tokio::test]
async fn the_handbook_quotes_what_people_read() {
    let server = Server::start(&[]);
    let mut admin = server.raw().await;
    let builder = server.builder().retry_for(Duration::ZERO);
    let store = builder.clone().connect().await.unwrap();
    let mut said = Vec::new();
    let place = format!("127.0.0.1:{}", server.port);
    let mut note = |error: Error| {
        let text = error.message().replace(&place, "redis.example.com:6379");
        said.push((error.code(), text.replace("127.0.0.1", "redis.example.com")));
    };
    note(builder.clone().port(1).connect().await.unwrap_err());
    let wrong = builder.clone().user("nobody").password("wrong");
    note(wrong.connect().await.unwrap_err());
    run(
        &mut admin,
        &["ACL", "SETUSER", "portal", "on", ">word", "~other", "+@all"],
    )
    .await;
    let forbidden = builder.clone().user("portal").password("word");
    note(forbidden.connect().await.unwrap_err());
    run(&mut admin, &["CONFIG", "SET", "maxmemory", "1"]).await;
    note(store.save_token(&login("ann", "1")).await.unwrap_err());
    run(&mut admin, &["CONFIG", "SET", "maxmemory", "0"]).await;
    store.save_token(&login("ann", "1")).await.unwrap();
    let record = "{zoho_oauth}:1:token:1";
    run(&mut admin, &["HSET", record, "expiry_time", "soon"]).await;
    let id = "1".parse().unwrap();
    note(store.find_token_by_id(id).await.unwrap_err());
    run(&mut admin, &["SET", record, "x"]).await;
    note(store.get_tokens().await.unwrap_err());
    run(&mut admin, &["DEL", record]).await;
    note(store.find_token_by_id(id).await.unwrap_err());
    run(&mut admin, &["DEL", "{zoho_oauth}:1:ids"]).await;
    note(store.get_tokens().await.unwrap_err());
    run(&mut admin, &["DEL", "{zoho_oauth}:store"]).await;
    note(store.get_tokens().await.unwrap_err());
    run(&mut admin, &["HSET", "{prices}:store", "format", "2"]).await;
    note(builder.prefix("prices").connect().await.unwrap_err());
    let expected = SAID.map(|(code, text)| (code, text.to_owned()));
    assert_eq!(said, expected);
}
