//! Redis.

use std::sync::Arc;
use std::time::Duration;

use redis::Client;
use zoho_oauth::store::CoordinationKey;
use zoho_oauth::store::redis::RedisStoreBuilder;
use zoho_oauth::{AccessToken, RedisStore, TokenStore};
use zoho_test_servers::Redis;

use super::life::life;
use super::net::Net;
use crate::accounts::{alone_in_a_process, block_on};
use crate::support::good;

const PASSWORD: &str = "pa55-0f-the-portal";

#[test]
fn no_secret_is_printed() {
    const NAME: &str = "redaction::redis::no_secret_is_printed";
    if alone_in_a_process(NAME, &[]) {
        block_on(lives());
    }
}

async fn lives() {
    let net = Net::over_the_process();
    net.secret(PASSWORD);
    let server = Redis::start().unwrap();
    let run = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        server.command(&words).unwrap()
    };
    run(&format!("ACL SETUSER portal on >{PASSWORD} ~* &* +@all"));
    let builder = RedisStore::builder()
        .port(server.port())
        .user("portal")
        .password(PASSWORD)
        .retry_for(Duration::ZERO);
    net.print(&builder);
    let store = builder.clone().connect().await.unwrap();
    life(&net, Arc::new(store.clone())).await;

    // Over a connection of the application, whose address holds the password.
    let url = format!("redis://portal:{PASSWORD}@127.0.0.1:{}/", server.port());
    let client = Client::open(url).unwrap();
    let lent = RedisStore::builder()
        .prefix("lent")
        .changes_from(client.clone());
    net.print(&lent);
    let connection = client.get_connection_manager().await.unwrap();
    let lent = lent.from_connection(connection).await.unwrap();
    life(&net, Arc::new(lent)).await;

    broken(&net, &server, &store).await;
    damaged(&net, &run, &store, &builder).await;
    unreachable(&net, builder).await;
    net.search(&[]);
}

/// A connection that is killed in the middle of a save, a server that is full, and one that forbids.
async fn broken(net: &Net, server: &Redis, store: &RedisStore) {
    let run = |words: &[&str]| server.command(words).unwrap();
    let mut token = good("cid", "client");
    net.record(&token);
    store.save_token(&token).await.unwrap();
    token.access_token = AccessToken::new("1000.cid.in.the.middle").ok();
    net.record(&token);
    run(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let saving = tokio::spawn({
        let (store, token) = (store.clone(), token.clone());
        async move { store.save_token(&token).await }
    });
    let is_waiting = || {
        let clients = run(&["CLIENT", "LIST"]);
        clients
            .lines()
            .any(|client| client.contains(" flags=b ") && client.contains(" user=portal "))
    };
    let began = std::time::Instant::now();
    while !is_waiting() {
        assert!(began.elapsed() < Duration::from_secs(30), "nobody waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    run(&["CLIENT", "KILL", "USER", "portal"]);
    run(&["CLIENT", "UNPAUSE"]);
    net.refusal("store_unavailable", &saving.await.unwrap());

    run(&["CONFIG", "SET", "maxmemory", "1"]);
    net.refusal("store_full", &store.save_token(&token).await);
    run(&["CONFIG", "SET", "maxmemory", "0"]);
    run(&["ACL", "SETUSER", "portal", "-hset"]);
    net.refusal("store_permission", &store.save_token(&token).await);
    run(&["ACL", "SETUSER", "portal", "+hset"]);
    store.delete_tokens().await.unwrap();
}

/// Values where they should not be.
async fn damaged(
    net: &Net,
    run: impl Fn(&str) -> String,
    store: &RedisStore,
    builder: &RedisStoreBuilder,
) {
    const SECRET: &str = "1000.s3cretinthewrongplace";
    net.secret(SECRET);
    let generation = run("HGET {zoho_oauth}:store generation");
    let generation = generation.trim().trim_matches('"');
    let at = |name: &str| format!("{{zoho_oauth}}:{generation}:{name}");
    let key = CoordinationKey::record("7".parse().unwrap());
    let cell = at(&format!("cell:{}", key.as_str()));
    run(&format!("SET {cell} {{\"fence\":\"{SECRET}\"}}"));
    net.outcome(&store.coordination().unwrap().try_acquire(&key).await);

    let token = good("ann", "client");
    net.record(&token);
    let id = store.save_token(&token).await.unwrap();
    let record = at(&format!("token:{id}"));
    run(&format!("HSET {record} expiry_time {SECRET}"));
    net.refusal("store_damaged", &store.find_token_by_id(id).await);
    net.refusal("store_damaged", &store.save_token(&token).await);
    run(&format!("SET {record} {SECRET}"));
    net.refusal("store_foreign", &store.get_tokens().await);
    run(&format!("DEL {record}"));
    run(&format!("ZADD {} 5 {SECRET}", at("ids")));
    run(&format!(
        "HSET {} id {SECRET}",
        at(&format!("token:{SECRET}"))
    ));
    net.refusal("store_damaged", &store.get_tokens().await);
    run(&format!("HSET {{zoho_oauth}}:store highest_id {SECRET}"));
    let other = good("dan", "client");
    net.record(&other);
    net.refusal("store_damaged", &store.save_token(&other).await);
    run(&format!(
        "HSET {{zoho_oauth}}:store highest_id 7 format {SECRET}"
    ));
    net.refusal("store_foreign", &builder.clone().connect().await);
    run("DEL {zoho_oauth}:store");
    run(&format!("SET {{zoho_oauth}}:store {SECRET}"));
    net.refusal("store_foreign", &builder.clone().connect().await);
}

/// A password that is wrong, nobody who listens, and addresses that hold a password.
async fn unreachable(net: &Net, builder: RedisStoreBuilder) {
    for word in ["pa55-that-is-wrong", "pa55-for-nobody", "pa55-in-the-url"] {
        net.secret(word);
    }
    let wrong = builder.clone().password("pa55-that-is-wrong");
    net.refusal("store_permission", &wrong.connect().await);
    let nobody = builder.clone().password("pa55-for-nobody").port(1);
    net.refusal("store_unavailable", &nobody.connect().await);
    let no_certificate = builder.clone().tls_roots("pa55-in-the-url");
    net.print(&no_certificate);
    net.refusal("invalid_input", &no_certificate.connect().await);
    for url in [
        "redis://portal:pa55-in-the-url@127.0.0.1:1/0",
        "portal:pa55-in-the-url@127.0.0.1",
    ] {
        for mistaken in [builder.clone().host(url), builder.clone().node(url, 6379)] {
            net.print(&mistaken);
            net.refusal("invalid_input", &mistaken.connect().await);
        }
    }
}
