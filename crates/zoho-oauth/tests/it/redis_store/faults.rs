//! Lost answers, dropped futures, forgotten scripts, servers that restart and servers that are full.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use redis::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zoho_oauth::{ErrorCode, RedisStore, TokenQuery, TokenStore};

use super::proxy::Proxy;
use super::server::Server;
use super::{builder, keys, login, run, shared, shared_server, unique, users};
use crate::support::user;

/// A store behind a proxy, and the same store without it.
async fn behind_a_proxy() -> (Proxy, RedisStore, RedisStore) {
    let (host, port) = shared_server();
    let proxy = Proxy::start(host, port).await;
    let prefix = unique();
    let direct = builder(&prefix).connect().await.unwrap();
    let unlucky = RedisStore::builder().port(proxy.port).prefix(prefix);
    let unlucky = unlucky.connect().await.unwrap();
    (proxy, unlucky, direct)
}

/// All that writes, with the loss of any answer on the way.
async fn life(
    proxy: &Proxy,
    unlucky: &RedisStore,
    direct: &RedisStore,
    lost: (usize, usize),
) -> usize {
    proxy.lose(lost.0, lost.1);
    let ann = unlucky.save_token(&login("ann", "1")).await.unwrap();
    let bob = unlucky.save_token(&login("bob", "1")).await.unwrap();
    // No id is lost, and none is given twice.
    assert_eq!(bob.get(), ann.get() + 1, "{lost:?}");
    assert_eq!(users(direct).await.unwrap(), ["ann", "bob"], "{lost:?}");

    let again = unlucky.save_token(&login("ann", "2")).await.unwrap();
    assert_eq!(again, ann);
    let stored = direct.find_token_by_id(ann).await.unwrap().unwrap();
    assert_eq!(stored.access_token, login("ann", "2").access_token);

    // Who deleted it is told so, and who did not is not.
    assert!(unlucky.delete_token(ann).await.unwrap(), "{lost:?}");
    assert!(!unlucky.delete_token(ann).await.unwrap(), "{lost:?}");
    assert_eq!(users(direct).await.unwrap(), ["bob"], "{lost:?}");
    assert_eq!(unlucky.delete_tokens().await.unwrap(), 1, "{lost:?}");
    assert!(users(direct).await.unwrap().is_empty());
    proxy.lost()
}

#[tokio::test]
async fn whichever_answers_are_lost_writes_come_out_right() {
    let (proxy, unlucky, direct) = behind_a_proxy().await;
    for count in 1..=3 {
        let mut first = 0;
        while life(&proxy, &unlucky, &direct, (first, count)).await > 0 {
            first += 1;
        }
        // Each step of the life had its answer lost once.
        assert!(first > 15, "{first}");
    }
}

#[tokio::test]
async fn a_record_that_was_deleted_meanwhile_is_not_inserted_again() {
    let (proxy, unlucky, direct) = behind_a_proxy().await;
    // One of the calls of a save is the insert: when its answer is lost, the record is there.
    let mut met = 0;
    for first in 0..8 {
        proxy.lose(first, 1);
        proxy.close_after_loss();
        let saving = {
            let unlucky = unlucky.clone();
            tokio::spawn(async move { unlucky.save_token(&login("ann", "1")).await })
        };
        proxy.closed().await;
        let stored = direct.get_tokens().await.unwrap().pop();
        if let Some(id) = stored.and_then(|record| record.id) {
            assert!(direct.delete_token(id).await.unwrap());
            proxy.open();
            assert_eq!(saving.await.unwrap().unwrap(), id);
            assert!(direct.get_tokens().await.unwrap().is_empty());
            met += 1;
            break;
        }
        proxy.open();
        let id = saving.await.unwrap().unwrap();
        assert!(direct.delete_token(id).await.unwrap());
    }
    assert_eq!(met, 1);
}

#[tokio::test]
async fn a_clear_whose_answer_was_lost_spares_what_was_saved_since() {
    let (proxy, unlucky, direct) = behind_a_proxy().await;
    direct.save_token(&login("ann", "1")).await.unwrap();
    // The first question is how things stand; the second is the clear.
    proxy.lose(1, 1);
    proxy.close_after_loss();
    let clearing = {
        let unlucky = unlucky.clone();
        tokio::spawn(async move { unlucky.delete_tokens().await })
    };
    proxy.closed().await;
    assert!(direct.get_tokens().await.unwrap().is_empty());
    direct.save_token(&login("bob", "1")).await.unwrap();
    // However long it took to get through again.
    forget(&direct).await;
    proxy.open();
    assert_eq!(clearing.await.unwrap().unwrap(), 1);
    assert_eq!(users(&direct).await.unwrap(), ["bob"]);
}

/// Removes the notes that end by themselves.
async fn forget(store: &RedisStore) {
    let mut connection = shared().await;
    for key in keys(&mut connection, store.prefix()).await {
        if key.contains(":done:") {
            run(&mut connection, &["DEL", &key]).await;
        }
    }
}

#[tokio::test]
async fn a_clear_that_is_sent_again_after_anothers_spares_what_was_saved_since() {
    let (proxy, unlucky, direct) = behind_a_proxy().await;
    direct.save_token(&login("ann", "1")).await.unwrap();
    // The first question is how things stand; the second is the clear.
    proxy.lose(1, 1);
    proxy.close_after_loss();
    let clearing = {
        let unlucky = unlucky.clone();
        tokio::spawn(async move { unlucky.delete_tokens().await })
    };
    proxy.closed().await;
    assert!(direct.get_tokens().await.unwrap().is_empty());
    direct.save_token(&login("bob", "1")).await.unwrap();
    assert_eq!(direct.delete_tokens().await.unwrap(), 1);
    direct.save_token(&login("cid", "1")).await.unwrap();
    forget(&direct).await;
    proxy.open();
    // How many it deleted nobody knows any more.
    assert_eq!(clearing.await.unwrap().unwrap(), 0);
    assert_eq!(users(&direct).await.unwrap(), ["cid"]);
}

#[tokio::test]
async fn a_write_whose_answer_is_never_known_may_have_been_done() {
    let (host, port) = shared_server();
    let proxy = Proxy::start(host, port).await;
    let impatient = RedisStore::builder()
        .port(proxy.port)
        .prefix(unique())
        .connect_timeout(Duration::from_secs(1))
        .retry_for(Duration::from_millis(200));
    let store = impatient.connect().await.unwrap();
    // What is looked after in the background when a store is opened has its answer before this one.
    store.save_token(&login("ann", "1")).await.unwrap();
    proxy.lose(1, 1);
    proxy.close_after_loss();
    let error = store.delete_tokens().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert!(error.message().contains("may have"), "{error}");
}

#[tokio::test]
async fn what_was_done_is_remembered_for_as_long_as_it_may_be_sent_again() {
    let prefix = unique();
    let patient = builder(&prefix).retry_for(Duration::from_mins(10));
    let store = patient.connect().await.unwrap();
    let id = store.save_token(&login("ann", "1")).await.unwrap();
    assert!(store.delete_token(id).await.unwrap());
    let mut connection = shared().await;
    let all = keys(&mut connection, &prefix).await;
    let notes: Vec<_> = all.iter().filter(|key| key.contains(":done:")).collect();
    assert_eq!(notes.len(), 2, "{all:?}");
    for note in notes {
        let Value::Int(left) = run(&mut connection, &["PTTL", note]).await else {
            panic!("no end");
        };
        assert!(left > 600_000, "{left}");
    }
    // For ever is long.
    let patient = builder(&unique()).retry_for(Duration::MAX);
    let store = patient.connect().await.unwrap();
    store.save_token(&login("ann", "1")).await.unwrap();
}

/// Lets a future begin, and drops it.
fn begin<F: Future>(future: F) {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(future.as_mut().poll(&mut context), Poll::Pending));
}

#[tokio::test]
async fn a_dropped_future_leaves_the_store_whole_and_the_write_done() {
    let prefix = unique();
    let store = builder(&prefix).connect().await.unwrap();
    for number in 0..20 {
        let name = format!("user-{number}");
        begin(store.save_token(&login(&name, "1")));
        // A read is asked and never listened to: later answers must not be taken for its own.
        begin(store.get_tokens());
        begin(store.find_token(&TokenQuery::user_name(user("nobody"))));
        let query = TokenQuery::user_name(user(&name));
        let found = loop {
            if let Some(found) = store.find_token(&query).await.unwrap() {
                break found;
            }
        };
        assert_eq!(found.user_name, Some(user(&name)));
    }
    assert_eq!(store.get_tokens().await.unwrap().len(), 20);
    begin(store.delete_tokens());
    while !store.get_tokens().await.unwrap().is_empty() {}
}

#[tokio::test]
async fn a_server_that_forgets_the_scripts_is_told_them_again() {
    let server = Server::start(&[]);
    let store = server.builder().connect().await.unwrap();
    let mut connection = server.raw().await;
    let mut flush = async || {
        assert_eq!(
            run(&mut connection, &["SCRIPT", "FLUSH"]).await,
            Value::Okay
        );
    };
    let id = store.save_token(&login("ann", "1")).await.unwrap();
    flush().await;
    assert_eq!(store.save_token(&login("ann", "2")).await.unwrap(), id);
    flush().await;
    assert!(store.find_token_by_id(id).await.unwrap().is_some());
    flush().await;
    assert!(store.delete_token(id).await.unwrap());
    flush().await;
    assert_eq!(store.delete_tokens().await.unwrap(), 0);
    // That is no failure which it would take patience to wait for the end of.
    let hasty = server.builder().retry_for(Duration::ZERO);
    let store = hasty.connect().await.unwrap();
    flush().await;
    store.save_token(&login("ann", "1")).await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_waited_for_and_has_all_that_was_acknowledged() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let patient = server.builder().retry_for(Duration::from_secs(30));
    let store = patient.connect().await.unwrap();
    let mut stored = Vec::new();
    for round in 0..3 {
        let saving = {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..200 {
                    let name = format!("user-{round}-{number}");
                    store.save_token(&login(&name, "1")).await.unwrap();
                }
            })
        };
        // In the middle of it.
        while store.get_tokens().await.unwrap().len() < stored.len() + 50 {}
        server.kill();
        server.start_again();
        saving.await.unwrap();
        stored.extend((0..200).map(|number| format!("user-{round}-{number}")));
        let mut found = users(&store).await.unwrap();
        found.sort();
        stored.sort();
        assert_eq!(found, stored);
    }
    let ids: Vec<_> = store
        .get_tokens()
        .await
        .unwrap()
        .iter()
        .map(|row| row.id.unwrap().get())
        .collect();
    // Each start leaves some out: the server may have lost what came last.
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    assert!((300_000..600_000).contains(&ids[599]), "{ids:?}");
}

#[tokio::test]
async fn a_server_that_is_gone_is_given_up_on() {
    let mut server = Server::start(&[]);
    let impatient = server.builder().retry_for(Duration::from_millis(200));
    let store = impatient.connect().await.unwrap();
    server.kill();
    let error = store.save_token(&login("ann", "1")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert!(
        error
            .to_string()
            .contains(&format!("127.0.0.1:{}", server.port))
    );
    let error = store
        .find_token(&TokenQuery::user_name(user("ann")))
        .await
        .unwrap_err();
    assert!(error.is_transient());
    // It is used again when it is back.
    server.start_again();
    let store = &store;
    let saved = async || loop {
        if let Ok(id) = store.save_token(&login("ann", "1")).await {
            break id;
        }
    };
    // It lost everything, but not the promise that an id is not given twice.
    assert!(saved().await.get() > 100_000);
}

#[tokio::test]
async fn a_server_that_stands_still_is_given_up_on_and_used_again() {
    // It takes the connection and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let impatient = RedisStore::builder()
        .port(port)
        .connect_timeout(Duration::from_millis(50))
        .response_timeout(Duration::from_millis(50))
        .retry_for(Duration::from_millis(200));
    let error = impatient.connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);

    let server = Server::start(&[]);
    let impatient = server
        .builder()
        .response_timeout(Duration::from_secs(1))
        .retry_for(Duration::from_millis(200));
    let store = impatient.connect().await.unwrap();
    let mut connection = server.raw().await;
    run(&mut connection, &["CLIENT", "PAUSE", "1000000", "WRITE"]).await;
    // They read first, so they are sure that they changed nothing.
    let save = store.save_token(&login("ann", "1")).await.map(drop);
    let clear = store.delete_tokens().await.map(drop);
    for error in [save.unwrap_err(), clear.unwrap_err()] {
        assert_eq!(error.code(), ErrorCode::StoreUnavailable);
        assert!(!error.message().contains("may have"), "{error}");
    }
    run(&mut connection, &["CLIENT", "UNPAUSE"]).await;
    store.save_token(&login("ann", "1")).await.unwrap();
    assert_eq!(store.get_tokens().await.unwrap().len(), 1);
}

/// A node that answers everything with one error.
async fn unusable(error: &'static str) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    // Every command begins with a star, and nothing within has one.
                    let commands = buffer[..length].iter().filter(|&&byte| byte == b'*');
                    let answers = format!("-{error} as ever\r\n").repeat(commands.count());
                    if stream.write_all(answers.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_node_that_goes_on_being_of_no_use_is_left_for_another() {
    let (host, port) = shared_server();
    for error in ["LOADING", "MASTERDOWN", "CLUSTERDOWN"] {
        let store = RedisStore::builder()
            .port(unusable(error).await)
            .node(host.as_str(), port)
            .prefix(unique());
        let store = store.connect().await.unwrap();
        store.save_token(&login("ann", "1")).await.unwrap();
    }
}

#[tokio::test]
async fn a_full_server_refuses_saves_and_lets_delete() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let store = server.builder().connect().await.unwrap();
    let ann = store.save_token(&login("ann", "1")).await.unwrap();
    store.save_token(&login("bob", "1")).await.unwrap();
    store.save_token(&login("cid", "1")).await.unwrap();
    let mut connection = server.raw().await;
    run(&mut connection, &["CONFIG", "SET", "maxmemory", "1"]).await;
    for token in [login("dan", "1"), login("ann", "2")] {
        let error = store.save_token(&token).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreFull);
    }
    // What was refused left nothing behind.
    assert_eq!(users(&store).await.unwrap(), ["ann", "bob", "cid"]);
    let stored = store.find_token_by_id(ann).await.unwrap();
    assert_eq!(stored.unwrap().access_token, login("ann", "1").access_token);
    assert!(store.delete_token(ann).await.unwrap());
    assert_eq!(store.delete_tokens().await.unwrap(), 2);
    run(&mut connection, &["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(store.save_token(&login("dan", "1")).await.unwrap().get(), 4);
}

#[tokio::test]
async fn a_store_that_was_flushed_while_it_was_open_can_be_used() {
    let server = Server::start(&[]);
    let store = server.builder().connect().await.unwrap();
    store.save_token(&login("ann", "1")).await.unwrap();
    run(&mut server.raw().await, &["FLUSHALL"]).await;
    assert!(store.get_tokens().await.unwrap().is_empty());
    assert_eq!(store.delete_tokens().await.unwrap(), 0);
    store.save_token(&login("bob", "1")).await.unwrap();
    assert_eq!(users(&store).await.unwrap(), ["bob"]);
    server.builder().connect().await.unwrap();
}
