//! Keys, damage, pages, and clearing step by step.

use redis::Value;
use zoho_oauth::{
    ClientId, ErrorCode, OAuthToken, RefreshToken, TokenId, TokenQuery, TokenStore, UserName,
};

use super::{builder, keys, login, run, shared, unique, users};
use crate::support::user;

#[tokio::test]
async fn keys_hold_no_token_and_go_with_their_record() {
    let prefix = unique();
    let store = builder(&prefix).connect().await.unwrap();
    let mut connection = shared().await;
    let empty = keys(&mut connection, &prefix).await;
    assert_eq!(empty.len(), 2, "the store and its twin: {empty:?}");
    let id = store.save_token(&login("ann", "1")).await.unwrap();
    let first = keys(&mut connection, &prefix).await;
    // The record, the ids, three indexes, and the note that it was done.
    assert_eq!(first.len(), 2 + 1 + 1 + 3 + 1, "{first:?}");
    assert!(
        !first
            .iter()
            .any(|key| key.contains("ann") || key.contains("1000."))
    );

    // Another access token has another index, in the place of the old one.
    store.save_token(&login("ann", "2")).await.unwrap();
    let second = keys(&mut connection, &prefix).await;
    assert_eq!(second.len(), first.len());
    assert_eq!(first.iter().filter(|key| !second.contains(key)).count(), 1);

    assert!(store.delete_token(id).await.unwrap());
    let after = keys(&mut connection, &prefix).await;
    let mut after = after;
    after.retain(|key| !key.contains(":done:"));
    assert_eq!(after, empty);
}

#[tokio::test]
async fn a_record_is_a_hash_of_the_official_fields() {
    let prefix = unique();
    let store = builder(&prefix).connect().await.unwrap();
    let mut connection = shared().await;
    let id = store.save_token(&login("ann", "1")).await.unwrap();
    let key = format!("{{{prefix}}}:1:token:{id}");
    let mut command = redis::cmd("HKEYS");
    let mut names: Vec<String> = command
        .arg(&key)
        .query_async(&mut connection)
        .await
        .unwrap();
    names.sort();
    let expected = [
        "access_token",
        "client_id",
        "id",
        "refresh_token",
        "user_name",
    ];
    assert_eq!(names, expected);
    assert!(
        names
            .iter()
            .all(|name| OAuthToken::FIELDS.contains(&name.as_str()))
    );

    // Written by hand; an empty field is none.
    run(
        &mut connection,
        &[
            "HSET",
            &key,
            "api_domain",
            "https://api.example",
            "grant_token",
            "",
        ],
    )
    .await;
    let stored = store.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.api_domain.as_deref(), Some("https://api.example"));
    assert_eq!(stored.grant_token, None);
    assert_eq!(store.save_token(&login("ann", "2")).await.unwrap(), id);
}

#[tokio::test]
async fn a_damaged_record_is_named_and_the_others_stay_usable() {
    let prefix = unique();
    let store = builder(&prefix).connect().await.unwrap();
    let mut connection = shared().await;
    let ann = store.save_token(&login("ann", "1")).await.unwrap();
    let bob = store.save_token(&login("bob", "1")).await.unwrap();
    let key = format!("{{{prefix}}}:1:token:{ann}");
    for (field, value) in [
        ("expiry_time", "s3cret"),
        // A time that could be read, and would not be written as it is.
        ("expiry_time", "+7"),
        ("expiry_time", "007"),
        ("id", "s3cret"),
        ("id", "2"),
    ] {
        let mut command = redis::cmd("HGET");
        let command = command.arg(&key).arg(field);
        let before: Option<String> = command.query_async(&mut connection).await.unwrap();
        run(&mut connection, &["HSET", &key, field, value]).await;
        let query = TokenQuery::user_name(user("ann"));
        for outcome in [
            store.find_token_by_id(ann).await.map(drop),
            store.find_token(&query).await.map(drop),
            store.save_token(&login("ann", "2")).await.map(drop),
        ] {
            let error = outcome.unwrap_err();
            assert_eq!(error.code(), ErrorCode::StoreDamaged);
            assert!(
                error.message().contains(&format!("record {ann}")),
                "{error}"
            );
            assert!(!format!("{error} {error:?}").contains("s3cret"));
        }
        assert!(store.find_token_by_id(bob).await.unwrap().is_some());
        store.save_token(&login("bob", "2")).await.unwrap();
        // Lists leave it out, and the inventory names it.
        assert_eq!(users(&store).await.unwrap(), ["bob"]);
        let inventory = store.inventory().await.unwrap().unwrap();
        assert_eq!((inventory.records, inventory.unreadable.len()), (2, 1));
        assert!(inventory.unreadable[0].contains(&format!("record {ann}: the field")));
        assert!(!inventory.unreadable[0].contains("s3cret"));
        match before {
            Some(before) => run(&mut connection, &["HSET", &key, field, &before]).await,
            None => run(&mut connection, &["HDEL", &key, field]).await,
        };
    }
    let binary: Vec<u8> = vec![0xff, 0xfe];
    let mut command = redis::cmd("HSET");
    command.arg(&key).arg("api_domain").arg(binary);
    let _: i64 = command.query_async(&mut connection).await.unwrap();
    let error = store.find_token_by_id(ann).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged);
    // It can be deleted nevertheless, with all that led to it.
    assert!(store.delete_token(ann).await.unwrap());
    let left = keys(&mut connection, &prefix).await;
    let left: Vec<_> = left.iter().filter(|key| !key.contains(":done:")).collect();
    // The store, its twin, its ids, and bob with three indexes.
    assert_eq!(left.len(), 7, "{left:?}");
    assert_eq!(users(&store).await.unwrap(), ["bob"]);
}

#[tokio::test]
async fn keys_of_another_kind_are_foreign_and_left_alone() {
    let mut connection = shared().await;
    for words in [
        &["SET", "x"][..],
        &["LPUSH", "x"],
        &["HSET", "colour", "x"],
        &["HSET", "format", "2"],
    ] {
        let prefix = unique();
        let key = format!("{{{prefix}}}:store");
        let command = [&words[..1], &[key.as_str()], &words[1..]].concat();
        run(&mut connection, &command).await;
        let error = builder(&prefix).connect().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreForeign, "{words:?}");
        let error = builder(&prefix).connect_existing().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreForeign, "{words:?}");
        assert_eq!(keys(&mut connection, &prefix).await, [key]);
    }

    // One that is met later ends the write before it wrote anything.
    let prefix = unique();
    let store = builder(&prefix).connect().await.unwrap();
    store.save_token(&login("ann", "1")).await.unwrap();
    let all = keys(&mut connection, &prefix).await;
    for kind in [":refresh:", ":user:"] {
        let index = all.iter().find(|key| key.contains(kind)).unwrap();
        run(
            &mut connection,
            &["RENAME", index, &format!("{{{prefix}}}:kept")],
        )
        .await;
        run(&mut connection, &["SET", index, "x"]).await;
        let mut other = login("bob", "1");
        other.user_name = (kind == ":user:").then(|| user("ann"));
        other.refresh_token = RefreshToken::new("1000.refresh.ann").ok();
        other.access_token = None;
        let before = keys(&mut connection, &prefix).await;
        let error = store.save_token(&other).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreForeign, "{kind}");
        assert_eq!(keys(&mut connection, &prefix).await, before);
        run(
            &mut connection,
            &["RENAME", &format!("{{{prefix}}}:kept"), index],
        )
        .await;
    }
    // The index that leads to the old access token is not read before it is written.
    let index = all.iter().find(|key| key.contains(":access:")).unwrap();
    run(&mut connection, &["SET", index, "x"]).await;
    let error = store.save_token(&login("ann", "2")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreForeign);
    let stored = store.find_token_by_id(TokenId::new(1).unwrap()).await;
    let access = stored.unwrap().unwrap().access_token;
    assert_eq!(access, login("ann", "1").access_token);
    run(&mut connection, &["DEL", index]).await;

    let ids = format!("{{{prefix}}}:1:ids");
    run(
        &mut connection,
        &["RENAME", &ids, &format!("{{{prefix}}}:kept")],
    )
    .await;
    run(&mut connection, &["SET", &ids, "x"]).await;
    let before = keys(&mut connection, &prefix).await;
    let error = store.save_token(&login("bob", "1")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreForeign);
    assert_eq!(keys(&mut connection, &prefix).await, before);
}

#[tokio::test]
async fn prefixes_and_databases_are_stores_of_their_own() {
    let prefix = unique();
    let one = builder(&prefix).connect().await.unwrap();
    let longer = builder(&format!("{prefix}:1")).connect().await.unwrap();
    let other = builder(&prefix).database(1).connect().await.unwrap();
    assert_eq!(one.prefix(), prefix);
    one.save_token(&login("ann", "1")).await.unwrap();
    assert!(longer.get_tokens().await.unwrap().is_empty());
    assert!(other.get_tokens().await.unwrap().is_empty());
    other.save_token(&login("bob", "1")).await.unwrap();
    assert_eq!(other.delete_tokens().await.unwrap(), 1);
    assert_eq!(users(&one).await.unwrap(), ["ann"]);
}

/// More than two steps of reading.
const MANY: u64 = 1_203;

async fn many(prefix: &str) -> zoho_oauth::RedisStore {
    let store = builder(prefix).connect().await.unwrap();
    // In parallel, since the server flushes its file after every write.
    let mut saving = tokio::task::JoinSet::new();
    for part in 0..24 {
        let store = store.clone();
        saving.spawn(async move {
            for number in (1..=MANY).filter(|number| number % 24 == part) {
                let mut token = login(&format!("user-{number}"), "1");
                token.id = None;
                store.save_token(&token).await.unwrap();
            }
        });
    }
    saving.join_all().await;
    store
}

#[tokio::test]
async fn pages_come_in_the_order_of_their_ids() {
    let prefix = unique();
    let store = many(&prefix).await;
    let ids = |records: &[OAuthToken]| -> Vec<u64> {
        records.iter().map(|row| row.id.unwrap().get()).collect()
    };
    let all = store.get_tokens().await.unwrap();
    assert_eq!(ids(&all), (1..=MANY).collect::<Vec<_>>());
    for limit in [1, 7, 499, 500, 501, 1_202, 1_203, 1_204, usize::MAX] {
        let after = TokenId::new(MANY - 1_000).ok();
        let page = store.get_tokens_page(after, limit).await.unwrap();
        let last = (MANY - 1_000).saturating_add(limit as u64).min(MANY);
        assert_eq!(
            ids(&page),
            (MANY - 999..=last).collect::<Vec<_>>(),
            "{limit}"
        );
    }
    assert!(store.get_tokens_page(None, 0).await.unwrap().is_empty());
    let end = store.get_tokens_page(Some(TokenId::MAX), 5).await.unwrap();
    assert!(end.is_empty());

    // Ids compare as numbers, up to the last.
    let mut last = login("last", "1");
    last.id = Some(TokenId::MAX);
    store.save_token(&last).await.unwrap();
    let page = store
        .get_tokens_page(TokenId::new(MANY).ok(), 5)
        .await
        .unwrap();
    assert_eq!(ids(&page), [TokenId::MAX.get()]);

    // All or none, whenever one looks, and then no key is left but what tells the ids.
    let looking = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.last() != Some(&0) {
                seen.push(store.get_tokens().await.unwrap().len());
            }
            seen
        })
    };
    assert_eq!(store.delete_tokens().await.unwrap(), 1_204);
    let seen = looking.await.unwrap();
    assert!(
        seen.iter().all(|&count| count == 0 || count == 1_204),
        "{seen:?}"
    );
    let left = keys(&mut shared().await, &prefix).await;
    let left: Vec<_> = left.iter().filter(|key| !key.contains(":done:")).collect();
    let names = ["store", "twin"].map(|name| format!("{{{prefix}}}:{name}"));
    assert_eq!(left, names.each_ref());
    let error = store.save_token(&login("ann", "1")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::IdsExhausted);
}

#[tokio::test]
async fn a_clear_that_comes_late_deletes_nothing() {
    let prefix = unique();
    let store = builder(&prefix).connect().await.unwrap();
    store.save_token(&login("ann", "1")).await.unwrap();
    assert_eq!(store.delete_tokens().await.unwrap(), 1);
    store.save_token(&login("bob", "1")).await.unwrap();
    // As it was sent, with a name that the server has forgotten by now.
    let script = concat!(
        include_str!("../../../src/store/redis/lua/common.lua"),
        include_str!("../../../src/store/redis/lua/clear.lua")
    );
    let (meta, base) = (format!("{{{prefix}}}:store"), format!("{{{prefix}}}:"));
    let words = [
        "EVAL", script, "1", &meta, &base, "0", "late", "1", "channel",
    ];
    let answer = run(&mut shared().await, &words).await;
    assert_eq!(answer, Value::BulkString(b"0".to_vec()));
    assert_eq!(users(&store).await.unwrap(), ["bob"]);
}

#[tokio::test]
async fn unlinking_that_was_interrupted_is_finished_by_the_next_one() {
    let prefix = unique();
    let store = builder(&prefix).connect().await.unwrap();
    for name in ["ann", "bob"] {
        store.save_token(&login(name, "1")).await.unwrap();
    }
    // What a clear does first, by hand: as if the process had died then.
    let mut connection = shared().await;
    let meta = format!("{{{prefix}}}:store");
    run(
        &mut connection,
        &["SADD", &format!("{{{prefix}}}:cleared"), "1"],
    )
    .await;
    let next = ["HSET", &meta, "generation", "2", "count", "0"];
    run(&mut connection, &next).await;
    assert!(store.get_tokens().await.unwrap().is_empty());
    assert_eq!(store.save_token(&login("cid", "1")).await.unwrap().get(), 3);

    let reopened = builder(&prefix).connect().await.unwrap();
    let left = loop {
        let left = keys(&mut connection, &prefix).await;
        if !left
            .iter()
            .any(|key| key.contains(":1:") || key.ends_with(":cleared"))
        {
            break left;
        }
    };
    assert!(
        left.contains(&format!("{{{prefix}}}:2:token:3")),
        "{left:?}"
    );
    assert_eq!(users(&reopened).await.unwrap(), ["cid"]);
}

#[tokio::test]
async fn two_values_that_meet_in_an_index_are_kept_apart() {
    let prefix = unique();
    let store = builder(&prefix).connect().await.unwrap();
    let ann = store.save_token(&login("ann", "1")).await.unwrap();
    let bob = store.save_token(&login("bob", "1")).await.unwrap();
    let mut connection = shared().await;
    // As if their digests were the same.
    for key in keys(&mut connection, &prefix).await {
        if [":user:", ":refresh:", ":access:"]
            .iter()
            .any(|kind| key.contains(kind))
        {
            run(
                &mut connection,
                &["SADD", &key, &ann.to_string(), &bob.to_string()],
            )
            .await;
        }
    }
    for (name, id) in [("ann", ann), ("bob", bob)] {
        let query = TokenQuery::user_name(UserName::new(name).unwrap());
        assert_eq!(
            store.find_token(&query).await.unwrap().unwrap().id,
            Some(id)
        );
        assert_eq!(store.save_token(&login(name, "2")).await.unwrap(), id);
    }
    assert_eq!(users(&store).await.unwrap(), ["ann", "bob"]);
    assert!(matches!(
        run(&mut connection, &["PING"]).await,
        Value::SimpleString(_)
    ));
}

#[tokio::test]
async fn a_damaged_record_is_in_the_way_of_its_own_login_alone() {
    let prefix = unique();
    let store = builder(&prefix).connect().await.unwrap();
    let mut connection = shared().await;
    let mut other = login("ann", "0");
    other.client_id = ClientId::new("1000.other").ok();
    let bad = store.save_token(&other).await.unwrap();
    let key = format!("{{{prefix}}}:1:token:{bad}");
    run(&mut connection, &["HSET", &key, "expiry_time", "soon"]).await;
    // The same user under another client, who logs in and is renewed.
    let ann = store.save_token(&login("ann", "1")).await.unwrap();
    assert_eq!(store.save_token(&login("ann", "2")).await.unwrap(), ann);
    let query = TokenQuery::user_name(user("ann"));
    let client = |name| query.clone().with_client(ClientId::new(name).unwrap());
    for query in [&query, &client("1000.client")] {
        let found = store.find_token(query).await.unwrap();
        assert_eq!(found.unwrap().id, Some(ann));
    }
    assert_eq!(store.find_token(&client("1000.third")).await.unwrap(), None);
    for outcome in [
        store.find_token(&client("1000.other")).await.map(drop),
        store.save_token(&other).await.map(drop),
        store.find_token_by_id(bad).await.map(drop),
    ] {
        assert_eq!(outcome.unwrap_err().code(), ErrorCode::StoreDamaged);
    }
}
